/* Simplification: what each rule makes, what it must leave alone, and that nothing changes values.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graphs.h"
#include "opt/simplify.h"
#include "unit.h"

/* The simplified graph's text; the caller frees it. */
static char *simplified_text(sg_context *context, const char *lines) {
    sg_graph *graph = graph_of_lines(context, lines), *simple = NULL;
    EXPECT_STR(context->message, "");
    if (!graph)
        return NULL;
    EXPECT_EQ_INT(sg_simplify(graph, &simple), SG_OK);
    EXPECT_EQ_INT(sg_graph_verify(simple), SG_OK);
    char *text = text_of(simple);
    sg_graph_destroy(graph);
    sg_graph_destroy(simple);
    return text;
}

static const char *const inputs =
    "  %x = input : f32[N, 3, 4]\n  %y = input : f32[N, 3, 4]\n  %h = input : f16[N, 3, 4]\n";

/* Statements over x, y and h, and what stands in their place. */
static void expect_simple(const char *lines, const char *expected) {
    sg_context context = {0};
    char text[2048];
    snprintf(text, sizeof text, "%s%s", inputs, lines);
    CASE("%s", lines);
    char *simple = simplified_text(&context, text);
    snprintf(text, sizeof text, "graph g {\n%s%s}\n", inputs, expected);
    EXPECT_STR(simple, text);
    free(simple);
}

/* One operator that becomes another, or stays as it is; both without their type. */
static void expect_op(const char *op, const char *expected) {
    char lines[256], text[256];
    snprintf(lines, sizeof lines, "%%r = %s\noutput %%r", op);
    snprintf(text, sizeof text, "  %%r = %s : f32[N, 3, 4]\n  output %%r\n", expected);
    expect_simple(lines, text);
}

TEST(neutral_constants_go) {
    const char *x = "identity %x";
    expect_op("mul %x, 1.0", x);
    expect_op("mul 1.0, %x", x);
    expect_op("div %x, 1.0", x);
    expect_op("add %x, -0.0", x);
    expect_op("sub %x, 0.0", x);
    expect_op("pow %x, 1.0", x);
    expect_op("minimum %x, inf", x);
    expect_op("maximum %x, -inf", x);
    expect_op("clamp %x", x);
    expect_op("clamp %x {max=1.0}", "minimum %x, 1.0");
    expect_op("clamp %x {min=nan}", "maximum %x, nan");
    expect_op("neg %x", "neg %x");
    expect_simple("%a = neg %x\n%r = neg %a\noutput %r",
                  "  %r = identity %x : f32[N, 3, 4]\n  output %r\n");
}

TEST(what_is_not_neutral_stays) {
    expect_op("add %x, 0.0", "add %x, 0.0"); /* -0.0 + 0.0 is 0.0 */
    expect_op("mul %x, 0.0", "mul %x, 0.0"); /* NaN, infinities, signs */
    expect_op("minimum %x, -inf", "minimum %x, -inf");
    expect_op("sub %x, %x", "sub %x, %x");
    expect_op("div %x, %x", "div %x, %x");
    expect_op("pow %x, 0.0", "pow %x, 0.0");
    expect_op("add %x, 0.1 {alpha=0.3}", "add %x, 0.1 {alpha=0.3}"); /* the product rounds */
    expect_op("div %x, 3.0", "div %x, 3.0");
    /* A 1 that widens the dtype does something. */
    expect_simple("%k = constant {value=1, weak=false} : f64[]\n%c = input : bool[2]\n"
                  "%r = mul %c, %k\noutput %r",
                  "  %k = constant {value=1.0, weak=false} : f64[]\n  %c = input : bool[2]\n"
                  "  %r = mul %c, %k : f64[2]\n  output %r\n");
}

TEST(plainer_operators_take_over) {
    expect_op("square %x", "mul %x, %x");
    expect_op("pow %x, 2", "mul %x, %x");
    expect_op("pow %x, 0.5", "sqrt %x");
    expect_op("pow %x, -0.5", "rsqrt %x");
    expect_op("pow %x, -1", "reciprocal %x");
    expect_op("rsub %x, %y {alpha=2}", "sub %y, %x {alpha=2.0}");
    expect_op("rsub %x, 1.0", "sub 1.0, %x");
    expect_op("sub %x, 0.1", "add %x, -0.1");
    expect_op("add %x, 3.0 {alpha=2}", "add %x, 6.0");
    expect_op("div %x, 8", "mul %x, 0.125");
    expect_op("mul %x, -1", "neg %x");
    expect_op("minimum 2.0, %x", "minimum %x, 2.0");
    expect_simple("%k = constant {value=2, weak=false} : f32[]\n%r = pow %x, %k\noutput %r",
                  "  %k = constant {value=2.0, weak=false} : f32[]\n"
                  "  %r = pow %x, %k : f32[N, 3, 4]\n  output %r\n");
}

TEST(constants_fold) {
    expect_simple("%k = mul 3, 4\n%l = add %k, 0.5\n%r = mul %x, %l\noutput %r",
                  "  %r = mul %x, 12.5 : f32[N, 3, 4]\n  output %r\n");
    expect_simple("%k = constant {value=0.1, weak=false} : f16[]\n%l = mul %k, 2.0\n"
                  "%r = mul %x, %l\noutput %r",
                  "  %k5 = constant {value=0.199951171875, weak=false} : f16[]\n"
                  "  %r = mul %x, %k5 : f32[N, 3, 4]\n  output %r\n");
}

TEST(idempotent_operators_run_once) {
    expect_simple("%a = relu %x\n%b = relu %a\n%r = relu %b\noutput %r",
                  "  %a = relu %x : f32[N, 3, 4]\n  output %a\n");
    expect_simple("%a = clamp %x {min=0, max=2}\n%r = clamp %a {min=1, max=2}\noutput %r",
                  "  %a = clamp %x {min=0.0, max=2.0} : f32[N, 3, 4]\n"
                  "  %r = clamp %a {min=1.0, max=2.0} : f32[N, 3, 4]\n  output %r\n");
    expect_simple("%a = minimum %x, 2.0\n%r = minimum %a, 1.0\noutput %r",
                  "  %r = minimum %x, 1.0 : f32[N, 3, 4]\n  output %r\n");
    expect_simple("%a = minimum %x, 0.0\n%r = minimum %a, -0.0\noutput %r",
                  "  %a = minimum %x, 0.0 : f32[N, 3, 4]\n"
                  "  %r = minimum %a, -0.0 : f32[N, 3, 4]\n  output %r\n");
}

TEST(equal_computations_merge_and_dead_ones_go) {
    expect_simple("%a = tanh %x\n%b = tanh %x\n%e = exp %y\n%r = mul %a, %b\noutput %r",
                  "  %a = tanh %x : f32[N, 3, 4]\n  %r = mul %a, %a : f32[N, 3, 4]\n"
                  "  output %r\n");
    expect_simple("%a = mul %x, 0.0\n%b = mul %x, -0.0\n%r = add %a, %b\noutput %r",
                  "  %a = mul %x, 0.0 : f32[N, 3, 4]\n  %b = mul %x, -0.0 : f32[N, 3, 4]\n"
                  "  %r = add %a, %b : f32[N, 3, 4]\n  output %r\n");
}

TEST(casts_that_change_nothing_go) {
    expect_simple("%a = cast %h {dtype=f32}\n%r = cast %a {dtype=f16}\noutput %r",
                  "  %r = identity %h : f16[N, 3, 4]\n  output %r\n");
    expect_simple("%a = cast %h {dtype=f32}\n%r = cast %a {dtype=f64}\noutput %r",
                  "  %r = cast %h {dtype=f64} : f64[N, 3, 4]\n  output %r\n");
    expect_simple("%a = cast %x {dtype=f16}\n%r = cast %a {dtype=f32}\noutput %r",
                  "  %a = cast %x {dtype=f16} : f16[N, 3, 4]\n"
                  "  %r = cast %a {dtype=f32} : f32[N, 3, 4]\n  output %r\n");
    expect_simple("%a = cast %h {dtype=bf16}\n%r = cast %a {dtype=f16}\noutput %r",
                  "  %a = cast %h {dtype=bf16} : bf16[N, 3, 4]\n"
                  "  %r = cast %a {dtype=f16} : f16[N, 3, 4]\n  output %r\n");
}

TEST(views_become_reshape_and_permute) {
    expect_simple("%a = unsqueeze %x {dim=1}\n%b = flatten %a {start_dim=2}\n"
                  "%r = squeeze %b {dim=[1]}\noutput %r",
                  "  %r = reshape %x {shape=[N, 12]} : f32[N, 12]\n  output %r\n");
    expect_simple("%a = unsqueeze %x {dim=0}\n%b = squeeze %a {dim=[0]}\n%r = tanh %b\noutput %r",
                  "  %r = tanh %x : f32[N, 3, 4]\n  output %r\n");
    expect_simple("%a = transpose %x {dim0=0, dim1=-1}\n%r = transpose %a\noutput %r",
                  "  %r = permute %x {dims=[1, 2, 0]} : f32[3, 4, N]\n  output %r\n");
    expect_simple("%a = unsqueeze %x {dim=0}\n%r = transpose %a {dim0=0, dim1=1}\noutput %r",
                  "  %r = reshape %x {shape=[N, 1, 3, 4]} : f32[N, 1, 3, 4]\n  output %r\n");
}

TEST(exact_monotone_functions_wait_for_the_reduction) {
    expect_simple("%a = mul %x, 2.0\n%b = relu %a\n%c = neg %b\n%r = amin %c {dim=[1]}\noutput %r",
                  "  %x.amax = amax %x {dim=[1]} : f32[N, 4]\n"
                  "  %a.amax = mul %x.amax, 2.0 : f32[N, 4]\n"
                  "  %b.amax = relu %a.amax : f32[N, 4]\n"
                  "  %r = neg %b.amax : f32[N, 4]\n  output %r\n");
    expect_simple("%a = sub 1.0, %x\n%r = amax %a {dim=[1, 2], keepdim=true}\noutput %r",
                  "  %x.amin = amin %x {dim=[1, 2], keepdim=true} : f32[N, 1, 1]\n"
                  "  %r = sub 1.0, %x.amin : f32[N, 1, 1]\n  output %r\n");
    expect_simple("%a = cast %x {dtype=f16}\n%r = amin %a\noutput %r",
                  "  %x.amin = amin %x : f32[]\n  %r = cast %x.amin {dtype=f16} : f16[]\n"
                  "  output %r\n");
}

TEST(inexact_functions_stay_before_the_reduction) {
    const char *const stays[] = {"tanh %x",
                                 "mul %x, 0.0",
                                 "mul %x, inf",
                                 "mul %x, 1e-30",
                                 "add %x, -inf",
                                 "add %x, %y",
                                 "clamp %x {min=nan}",
                                 "minimum %x, nan",
                                 "div 1.0, %x",
                                 "abs %x",
                                 "sum %x {dim=[0], keepdim=true}"};
    for (size_t i = 0; i < sizeof stays / sizeof *stays; i++) {
        sg_context context = {0};
        char lines[512], kept[128];
        snprintf(lines, sizeof lines, "%s%%a = %s\n%%r = amin %%a {dim=[1]}\noutput %%r", inputs,
                 stays[i]);
        snprintf(kept, sizeof kept, "  %%r = amin %%a {dim=[1]}");
        CASE("%s", stays[i]);
        char *text = simplified_text(&context, lines);
        EXPECT_CONTAINS(text, kept);
        free(text);
    }
    /* Used elsewhere, it is computed for every element anyway. */
    expect_simple("%a = relu %x\n%r = amin %a {dim=[1]}\noutput %r, %a",
                  "  %a = relu %x : f32[N, 3, 4]\n  %r = amin %a {dim=[1]} : f32[N, 4]\n"
                  "  output %r, %a\n");
}

TEST(foreign_operators_stay_in_order) {
    expect_simple("%a = identity %x\n%f = foreign %a {tag=1} : f32[N]\n"
                  "%g = foreign %a {tag=1} : f32[N]\n%r = tanh %x\noutput %r",
                  "  %f = foreign %x {tag=1} : f32[N]\n  %g = foreign %x {tag=1} : f32[N]\n"
                  "  %r = tanh %x : f32[N, 3, 4]\n  output %r\n");
}

/* A small generator of graphs, for comparing values before and after. */
static uint32_t draw(uint32_t *state, uint32_t count) {
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 10) % count;
}

/* @ stands for the operand. Exact in float64, so that no rule has a rounding to excuse itself with.
 */
static const char *const random_ops[] = {"relu @",
                                         "neg @",
                                         "mul @, 2.0",
                                         "mul @, -0.5",
                                         "add @, -0.0",
                                         "sub @, 0.5",
                                         "minimum @, 1.0",
                                         "maximum @, -1.0",
                                         "div @, 4.0",
                                         "rsub @, 1.0",
                                         "square @",
                                         "pow @, 2",
                                         "identity @",
                                         "cast @ {dtype=f64}",
                                         "abs @",
                                         "clamp @ {min=-1, max=2}",
                                         "amin @ {dim=[1], keepdim=true}",
                                         "amax @ {dim=[0], keepdim=true}",
                                         "transpose @",
                                         "flatten @",
                                         "add @, %x",
                                         "mul @, inf"};

static sg_graph *random_graph(sg_context *context, uint32_t *state) {
    sg_graph *graph;
    sg_value value;
    int operand = -1;
    if (sg_graph_create(context, "random", &graph))
        return NULL;
    sg_graph_add(graph, "%x = input : f64[2, 2]", &value);
    for (int i = 0; i < 10; i++) {
        char line[96], name[16] = "x";
        const char *op = random_ops[draw(state, sizeof random_ops / sizeof *random_ops)];
        const char *hole = strchr(op, '@');
        if (operand >= 0)
            snprintf(name, sizeof name, "v%d", operand);
        snprintf(line, sizeof line, "%%v%d = %.*s%%%s%s", i, (int)(hole - op), op, name, hole + 1);
        if (!sg_graph_add(graph, line, &value))
            operand = i;
    }
    sg_graph_append_output(graph, graph->node_count - 1);
    return graph;
}

TEST(values_do_not_change) {
    const double numbers[] = {0.0, -0.0, 1.5, -2.25, 0.25, -0.5, 3, INFINITY, -INFINITY, NAN};
    const sg_layout layout = layout_of(SG_F64, 2, (int64_t[]){2, 2});
    uint32_t state = 7;
    for (int round = 0; round < 2000; round++) {
        sg_context context = {0};
        double x[4], before[16], after[16];
        sg_graph *graph = random_graph(&context, &state), *simple;
        REQUIRE(graph != NULL);
        for (int i = 0; i < 4; i++)
            x[i] = numbers[draw(&state, round % 2 ? 10 : 7)];
        REQUIRE(!sg_simplify(graph, &simple));
        const double *data = x;
        EXPECT_EQ_INT(sg_reference_run(graph, &layout, 1, &data, (double *[]){before}), SG_OK);
        EXPECT_EQ_INT(sg_reference_run(simple, &layout, 1, &data, (double *[]){after}), SG_OK);
        const sg_type *type = &graph->nodes[graph->outputs[0]].type;
        char *text = text_of(graph);
        CASE("%s", text);
        EXPECT(sg_type_equal(type, &simple->nodes[simple->outputs[0]].type));
        for (int i = 0, count = type->rank == 1 ? (int)type->size[0]
                                                : (int)(type->size[0] * type->size[1]);
             i < count; i++)
            EXPECT_NEAR(after[i], before[i], 0);
        free(text);
        sg_graph_destroy(graph);
        sg_graph_destroy(simple);
    }
}
