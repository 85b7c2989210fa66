/* Shape and dtype rules, their messages, and binding. The expected types were read off PyTorch. */
#include <stdlib.h>
#include <string.h>

#include "graphs.h"
#include "unit.h"

typedef struct rule {
    const char *lines; /* the last defines %y */
    const char *type;  /* of %y */
} rule;

static void expect_types(const rule *rules, size_t count) {
    sg_context context = {0};
    for (size_t i = 0; i < count; i++) {
        sg_graph *graph = graph_of_lines(&context, rules[i].lines);
        CASE("%s", rules[i].lines);
        EXPECT_STR(context.message, "");
        REQUIRE(graph != NULL);
        sg_value y = sg_graph_find(graph, "y", 1);
        if (EXPECT(y >= 0)) {
            EXPECT_STR(sg_type_words(graph, &graph->nodes[y].type).text, rules[i].type);
            EXPECT_EQ_INT(sg_graph_verify(graph), SG_OK);
        }
        sg_graph_destroy(graph);
    }
}

static void expect_refusals(const rule *rules, size_t count) {
    sg_context context = {0};
    for (size_t i = 0; i < count; i++) {
        CASE("%s", rules[i].lines);
        EXPECT_CONTAINS(refusal(&context, rules[i].lines), rules[i].type);
    }
}

#define TYPES(...)                                                                                 \
    expect_types((const rule[]){__VA_ARGS__}, sizeof((const rule[]){__VA_ARGS__}) / sizeof(rule))
#define REFUSALS(...)                                                                              \
    expect_refusals((const rule[]){__VA_ARGS__}, sizeof((const rule[]){__VA_ARGS__}) / sizeof(rule))

TEST(operands_broadcast) {
    TYPES({"%a = input : f32[4, 1, N]\n%b = input : f32[3, 1]\n%y = add %a, %b", "f32[4, 3, N]"},
          {"%a = input : f32[]\n%b = input : f32[0, 2]\n%y = mul %a, %b", "f32[0, 2]"},
          {"%a = input : f32[1]\n%b = input : f32[0]\n%y = mul %a, %b", "f32[0]"},
          {"%a = input : f32[2 * H]\n%b = input : f32[H + H]\n%y = mul %a, %b", "f32[2*H]"});
    REFUSALS({"%a = input : f32[4, 3]\n%b = input : f32[2]\n%y = add %a, %b",
              "add: f32[4, 3] and f32[2] do not broadcast, as 3 and 2 differ and neither is 1"},
             {"%a = input : f32[N]\n%b = input : f32[M]\n%y = add %a, %b",
              "add: f32[N] and f32[M] do not broadcast, as N and M cannot be shown to be equal"},
             {"%a = input : f32[N]\n%b = input : f32[4]\n%y = add %a, %b",
              "as N and 4 cannot be shown to be equal"});
}

TEST(dtypes_promote_by_category_then_rank_then_width) {
    TYPES({"%a = input : f16[2]\n%b = input : f32[2]\n%y = add %a, %b", "f32[2]"},
          {"%a = input : f16[2]\n%b = input : bf16[2]\n%y = add %a, %b", "f32[2]"},
          {"%a = input : f16[2]\n%b = input : f64[]\n%y = add %a, %b", "f16[2]"},
          {"%a = input : bool[2]\n%b = input : f64[]\n%y = add %a, %b", "f64[2]"},
          {"%a = input : f16[2]\n%y = mul %a, 2.0", "f16[2]"},
          {"%a = input : f16[]\n%y = mul 2.0, %a", "f16[]"},
          {"%a = input : bool[2]\n%y = mul %a, 2.0", "f32[2]"},
          {"%a = input : f16[]\n%b = input : f32[]\n%y = mul %a, %b", "f32[]"},
          {"%a = input : f16[2]\n%k = constant {value=2, weak=false} : f64[]\n%y = mul %a, %k",
           "f16[2]"});
    REFUSALS({"%a = input : bool[2]\n%y = exp %a",
              "exp: operand bool[2] is not floating; f16, bf16, f32 and f64 would be accepted"},
             {"%a = input : opaque\n%y = exp %a",
              "exp: operand 0 is opaque, which only foreign accepts"});
}

TEST(comparison_choice_and_casts) {
    TYPES({"%a = input : f32[2]\n%y = lt %a, 0.5", "bool[2]"},
          {"%a = input : bool[2]\n%y = logical_not %a", "bool[2]"},
          {"%c = input : bool[3, 1]\n%a = input : f16[2]\n%y = where %c, %a, 1.0", "f16[3, 2]"},
          {"%c = input : bool[3]\n%y = where %c, 0.0, 1.0", "f32[3]"},
          {"%a = input : f16[2]\n%c = input : bool[3, 1]\n%y = masked_fill %a, %c, -inf",
           "f16[3, 2]"},
          {"%a = input : bool[2]\n%y = cast %a {dtype=bf16}", "bf16[2]"},
          {"%a = input : bool[2]\n%y = identity %a", "bool[2]"});
    REFUSALS({"%a = input : f32[2]\n%y = where %a, 0.0, 1.0",
              "where: operand 0, the condition, is f32[2]; bool would be accepted"},
             {"%a = input : f32[2]\n%c = input : bool[2]\n%y = masked_fill %a, %c, %a",
              "masked_fill: value f32[2] is not a single number; rank 0 would be accepted"},
             {"%a = input : f32[2]\n%y = cast %a", "cast: attribute dtype must be one of"},
             {"%a = input : f32[2]\n%y = cast %a {dtype=opaque}",
              "cast: attribute dtype must be one of"});
}

TEST(convolution_shapes) {
    TYPES({"%a = input : f32[N, 16, H, W]\n%w = input : f32[8, 16, 3, 3]\n"
           "%y = convolution %a, %w",
           "f32[N, 8, H - 2, W - 2]"},
          {"%a = input : f32[2, 4, 9]\n%w = input : f32[6, 2, 3]\n%b = input : f32[6]\n"
           "%y = convolution %a, %w, %b {stride=[2], padding=1, dilation=2, groups=2}",
           "f32[2, 6, 4]"},
          {"%a = input : f16[4, 5, 6, 7]\n%w = input : f16[3, 4, 1, 2, 3]\n"
           "%y = convolution %a, %w",
           "f16[3, 5, 5, 5]"},
          {"%a = input : f32[0, 4, 9]\n%w = input : f32[6, 4, 3]\n%y = convolution %a, %w",
           "f32[0, 6, 7]"});
    REFUSALS({"%a = input : f32[N, 4, H, W]\n%w = input : f32[64, 3, 3, 3]\n"
              "%y = convolution %a, %w",
              "convolution: weight f32[64, 3, 3, 3] wants 3 input channels per group, but the "
              "input f32[N, 4, H, W] has 4"},
             {"%a = input : f32[N, C, 9]\n%w = input : f32[6, 3, 3]\n%y = convolution %a, %w",
              "has C, which cannot be shown to be equal"},
             {"%a = input : f32[1, 4, 2]\n%w = input : f32[6, 4, 3]\n%y = convolution %a, %w",
              "the kernel of weight f32[6, 4, 3] does not fit into input f32[1, 4, 2] with "
              "padding 0"},
             {"%a = input : f32[4, 4]\n%w = input : f32[6, 4]\n%y = convolution %a, %w",
              "weight f32[6, 4] has 2 dimensions"},
             {"%a = input : f32[4]\n%w = input : f32[6, 4, 3]\n%y = convolution %a, %w",
              "wants an input of 3 dimensions, or 2 without a batch, but the input is f32[4]"},
             {"%a = input : f16[1, 4, 9]\n%w = input : f32[6, 4, 3]\n%y = convolution %a, %w",
              "input f16[1, 4, 9] and weight f32[6, 4, 3] differ in dtype"},
             {"%a = input : f32[1, 4, 9]\n%w = input : f32[6, 4, 3]\n%b = input : f32[4]\n"
              "%y = convolution %a, %w, %b",
              "bias f32[4] does not fit weight f32[6, 4, 3]; [6] would"},
             {"%a = input : f32[1, 4, 9]\n%w = input : f32[5, 2, 3]\n"
              "%y = convolution %a, %w {groups=2}",
              "5 output channels of weight f32[5, 2, 3] are not a multiple of 2 groups"},
             {"%a = input : f32[1, 4, 9]\n%w = input : f32[5, 4, 3]\n"
              "%y = convolution %a, %w {stride=0}",
              "stride must be integers of at least 1, not 0"},
             {"%a = input : f32[1, 4, 9]\n%w = input : f32[5, 4, 3]\n"
              "%y = convolution %a, %w {stride=[1, 1]}",
              "stride has 2 entries; 1 or 1 would be accepted"},
             {"%a = input : f32[1, 4, 9]\n%w = input : f32[5, 4, 3]\n"
              "%y = convolution %a, %w {groups=0}",
              "groups must be an integer of at least 1"});
}

TEST(reductions_and_softmax) {
    TYPES({"%a = input : f32[N, 3, H]\n%y = amin %a {dim=[1], keepdim=true}", "f32[N, 1, H]"},
          {"%a = input : f32[N, 3, H]\n%y = sum %a {dim=[0, -1]}", "f32[3]"},
          {"%a = input : f32[N, 3, H]\n%y = mean %a", "f32[]"},
          {"%a = input : f32[]\n%y = amax %a {dim=[-1]}", "f32[]"},
          {"%a = input : f32[0, 3]\n%y = amin %a {dim=[1]}", "f32[0]"},
          {"%a = input : f32[0, 3]\n%y = sum %a {dim=[0]}", "f32[3]"},
          {"%a = input : bf16[N, 3]\n%y = softmax %a {dim=-2}", "bf16[N, 3]"});
    REFUSALS({"%a = input : f32[0, 3]\n%y = amin %a {dim=[0]}",
              "amin: dimension 0 of f32[0, 3] is empty and has no minimum"},
             {"%a = input : f32[2, 3]\n%y = amin %a {dim=[2]}",
              "amin: dim 2 is out of range for f32[2, 3]; -2 to 1 would be accepted"},
             {"%a = input : f32[2, 3]\n%y = amin %a {dim=[1, -1]}",
              "amin: dimension 1 of f32[2, 3] is listed twice"},
             {"%a = input : bool[2, 3]\n%y = mean %a", "mean: operand bool[2, 3] is not floating"},
             {"%a = input : f32[2, 3]\n%y = softmax %a {dim=2}", "softmax: dim 2 is out of range"});
}

TEST(views) {
    TYPES({"%a = input : f32[N, 3, H, W]\n%y = reshape %a {shape=[N, -1]}", "f32[N, 3*H*W]"},
          {"%a = input : f32[N, 4]\n%y = reshape %a {shape=[2, -1, 2]}", "f32[2, N, 2]"},
          {"%a = input : f32[1]\n%y = reshape %a", "f32[]"},
          {"%a = input : f32[0, 4]\n%y = reshape %a {shape=[2, -1]}", "f32[2, 0]"},
          {"%a = input : f32[N, 3, H]\n%y = flatten %a {start_dim=1}", "f32[N, 3*H]"},
          {"%a = input : f32[]\n%y = flatten %a", "f32[1]"},
          {"%a = input : f32[1, 3, 1]\n%y = squeeze %a", "f32[3]"},
          {"%a = input : f32[N, 3, 1]\n%y = squeeze %a {dim=[1, -1]}", "f32[N, 3]"},
          {"%a = input : f32[N, 3]\n%y = unsqueeze %a {dim=-1}", "f32[N, 3, 1]"},
          {"%a = input : f32[N, 3, H]\n%y = permute %a {dims=[-1, 0, 1]}", "f32[H, N, 3]"},
          {"%a = input : f32[N, 3, H]\n%y = transpose %a {dim0=-1, dim1=0}", "f32[H, 3, N]"});
    REFUSALS(
        {"%a = input : f32[3, 4]\n%y = reshape %a {shape=[5, -1]}",
         "reshape: the number of elements of f32[3, 4] is not a multiple of 5"},
        {"%a = input : f32[3, 4]\n%y = reshape %a {shape=[-1, -1]}", "only one -1"},
        {"%a = input : f32[3, 0]\n%y = reshape %a {shape=[0, -1]}", "the size -1 can be anything"},
        {"%a = input : f32[N, 4]\n%y = reshape %a {shape=[M, 4]}",
         "the numbers of elements of f32[N, 4] and f32[M, 4] cannot be shown to be equal"},
        {"%a = input : f32[N, 3]\n%y = reshape %a {shape=[2, -1]}",
         "cannot be shown to be a multiple of 2"},
        {"%a = input : f32[N, 3]\n%y = squeeze %a", "cannot be shown to be 1"},
        {"%a = input : f32[2, 3]\n%y = flatten %a {start_dim=1, end_dim=0}",
         "start_dim 1 comes after end_dim 0"},
        {"%a = input : f32[2, 3]\n%y = permute %a {dims=[0, 0]}", "is listed twice"},
        {"%a = input : f32[2, 3]\n%y = permute %a {dims=[0]}", "dims has 1 entries"},
        {"%a = input : f32[1, 1, 1, 1, 1, 1, 1, 1]\n%y = unsqueeze %a {dim=0}",
         "the result would have 9 dimensions; at most 8 would be accepted"});
}

TEST(sizes_have_limits) {
    TYPES({"%y = input : f32[0, 1000000000, 1000000000, 1000000000]",
           "f32[0, 1000000000, 1000000000, 1000000000]"});
    REFUSALS({"%y = input : f32[3000000000, 3000000000]", "leaves the 64-bit range"},
             {"%y = input : f32[2 - 3]", "size -1 of dimension 0 is negative"},
             {"%a = input : f32[2000000000, 1]\n%b = input : f32[2000000000]\n%y = add %a, %b",
              "add: the number of bytes of f32[2000000000, 2000000000] leaves the 64-bit range"});
}

static const char *const bindable = "%x = input : f32[N, 3, H]\n%z = input : f32[N, 3, H - 2]\n"
                                    "%w = input : f32[5, 3, 3]\n%c = convolution %x, %w\n"
                                    "%r = reshape %c {shape=[N, 5*(H - 2)]}\noutput %r, %z";

static const char *bind_message(sg_context *context, const sg_graph *graph, const int64_t *x,
                                const int64_t *z) {
    sg_graph *bound = NULL;
    const sg_layout inputs[] = {layout_of(SG_F32, 3, x), layout_of(SG_F32, 3, z),
                                layout_of(SG_F32, 3, (int64_t[]){5, 3, 3})};
    context->message[0] = 0;
    sg_graph_bind(graph, inputs, 3, &bound);
    sg_graph_destroy(bound);
    return context->message;
}

TEST(binding_makes_every_size_a_number) {
    sg_context context = {0};
    sg_graph *graph = graph_of_lines(&context, bindable), *bound;
    REQUIRE(graph != NULL);
    const sg_layout inputs[] = {layout_of(SG_F32, 3, (int64_t[]){2, 3, 9}),
                                layout_of(SG_F32, 3, (int64_t[]){2, 3, 7}),
                                layout_of(SG_F32, 3, (int64_t[]){5, 3, 3})};
    sg_layout outputs[2];
    REQUIRE(!sg_graph_bind(graph, inputs, 3, &bound));
    EXPECT_EQ_INT(sg_graph_verify(bound), SG_OK);
    char *text = text_of(bound);
    EXPECT_CONTAINS(text, "%r = reshape %c {shape=[2, 35]} : f32[2, 35]");
    free(text);
    sg_graph_destroy(bound);
    REQUIRE(!sg_graph_infer(graph, inputs, 3, outputs));
    EXPECT_EQ_INT(outputs[0].size[1], 35);
    EXPECT_EQ_INT(outputs[0].stride[0], 35);
    EXPECT_EQ_INT(outputs[1].rank, 3);
    sg_graph_destroy(graph);
}

TEST(binding_reports_contradictions) {
    sg_context context = {0};
    sg_graph *graph = graph_of_lines(&context, bindable);
    REQUIRE(graph != NULL);
    const int64_t good[] = {2, 3, 9}, fits[] = {2, 3, 7};
    EXPECT_STR(bind_message(&context, graph, good, fits), "");
    EXPECT_CONTAINS(bind_message(&context, graph, good, (int64_t[]){4, 3, 7}), "input %z");
    EXPECT_CONTAINS(bind_message(&context, graph, good, (int64_t[]){2, 3, 9}), "H - 2 is 7");
    EXPECT_CONTAINS(bind_message(&context, graph, (int64_t[]){2, 4, 9}, fits), "input %x");
    EXPECT_CONTAINS(bind_message(&context, graph, (int64_t[]){2, 3, 2}, (int64_t[]){2, 3, 0}),
                    "does not fit");
    sg_graph *bound;
    const sg_layout half = layout_of(SG_F16, 3, good);
    EXPECT_EQ_INT(sg_graph_bind(graph, &half, 1, &bound), SG_INVALID);
    EXPECT_STR(context.message, "the graph has 3 inputs, but 1 are given");
    sg_graph_destroy(graph);
}

TEST(the_table_names_every_operator) {
    const char *json = sg_operators_json();
    for (int op = 0; op < SG_OP_COUNT; op++) {
        const sg_op_info *info = sg_op_get((sg_op)op);
        char row[64];
        snprintf(row, sizeof row, "{\"name\": \"%s\"", info->name);
        EXPECT_EQ_INT(sg_op_find(info->name, (int64_t)strlen(info->name)), op);
        EXPECT_CONTAINS(json, row);
        EXPECT((info->reference != NULL) == (info->kind == SG_KIND_POINTWISE));
    }
    EXPECT_EQ_INT(sg_op_find("nothing", 7), SG_OP_COUNT);
}
