/* Joining: which operators one region takes, which it refuses and why; and how graphs are cut. */
#include "graphs.h"
#include "plan/partition.h"
#include "plan/region.h"
#include "unit.h"

#define CONV2                                                                                      \
    "%x = input : f32[N, 4, H, W]\n%w = input : f32[6, 4, 3, 3]\n%c = convolution %x, %w\n"
#define CONV3                                                                                      \
    "%x = input : f32[N, 4, D, H, W]\n%w = input : f32[6, 4, 3, 3, 3]\n%c = convolution %x, %w\n"

typedef struct joining {
    const char *lines;
    const char *reason; /* "": all operators join */
} joining;

static void check_joining(const joining *cases, int count) {
    sg_context *context;
    REQUIRE(sg_context_create(&context) == SG_OK);
    for (int i = 0; i < count; i++) {
        CASE("%s", cases[i].lines);
        sg_graph *graph = graph_of_lines(context, cases[i].lines);
        EXPECT_STR(context->message, "");
        if (!graph)
            continue;
        sg_region region;
        if (EXPECT(sg_region_open(graph, &region) == SG_OK)) {
            bool covers = sg_region_cover(&region);
            EXPECT_EQ_INT(covers, cases[i].reason[0] == 0);
            EXPECT_CONTAINS(region.reason, cases[i].reason);
        }
        sg_region_close(&region);
        sg_graph_destroy(graph);
    }
    sg_context_destroy(context);
}

#define CHECK(...)                                                                                 \
    do {                                                                                           \
        static const joining cases[] = {__VA_ARGS__};                                              \
        check_joining(cases, (int)(sizeof cases / sizeof *cases));                                 \
    } while (0)

TEST(pointwise_operands_of_every_shape_join) {
    CHECK({CONV2 "%y = tanh %c\noutput %y", ""}, {CONV2 "%y = mul %c, 2.0\noutput %y", ""},
          {CONV2 "%b = input : f32[6, 1, 1]\n%y = add %c, %b\noutput %y", ""},
          {CONV2 "%b = input : f32[H - 2, W - 2]\n%y = add %c, %b\noutput %y", ""},
          {CONV2 "%b = input : f32[N, 1, 1, 1]\n%y = add %b, %c\noutput %y", ""},
          {CONV2 "%b = input : f32[N, 6, H - 2, W - 2]\n%y = add %c, %b\noutput %y", ""},
          {CONV2 "%b = input : f32[]\n%y = add %c, %b\noutput %y", ""},
          {CONV2 "%b = input : f32[1, 1, 6, 1, 1]\n%y = add %c, %b\noutput %y", ""},
          {CONV2 "%y = add %c, %c\n%z = mul %y, %c\noutput %z", ""},
          {CONV2 "%b = input : f32[5, N, 6, H - 2, W - 2]\n%y = add %c, %b\noutput %y",
           "broadcasts dimension 0 to a size"});
}

TEST(a_turned_value_beside_itself_ends_a_region) {
    CHECK({"%x = input : f32[5, 5]\n%t = tanh %x\n%r = transpose %t\n%y = add %t, %r\noutput %y",
           "runs along different axes"},
          {"%x = input : f32[5]\n%t = tanh %x\n%r = unsqueeze %t {dim=1}\n%y = add %t, %r\noutput "
           "%y",
           "along one axis in two dimensions"});
}

TEST(sizes_of_one_broadcast_along_the_other_operand) {
    CHECK({"%x = input : f32[1, 10, 9]\n%w = input : f32[2, 10, 2]\n%c = convolution %x, %w\n"
           "%m = amax %c {dim=[1]}\n%b = input : f32[1, 2, 1]\n%y = add %m, %b\noutput %y",
           "broadcasts dimension 1"});
}

TEST(channel_reductions_keep_the_walk_free) {
    CHECK({CONV2 "%m = amin %c {dim=[1], keepdim=true}\n%y = tanh %m\noutput %y", ""},
          {CONV2 "%m = amin %c {dim=[1]}\n%y = tanh %m\noutput %y", ""},
          {CONV2 "%m = logsumexp %c {dim=[1]}\noutput %m", ""},
          {CONV2 "%m = mean %c {dim=[1], keepdim=true}\n%y = sub %c, %m\noutput %y", ""},
          {CONV2 "%s = softmax %c {dim=1}\n%m = amax %s {dim=[1]}\noutput %m", ""},
          {CONV2 "%s = softmax %c {dim=-1}\noutput %s", "works over axis W"},
          {CONV2 "%m = sum %c {dim=[0]}\noutput %m", "reduces over the batch"});
}

TEST(one_walk_over_pixels) {
    CHECK({CONV3 "%m = amin %c {dim=[2]}\n%s = softmax %m {dim=1}\noutput %s", ""},
          {CONV2 "%m = mean %c {dim=[2, 3]}\n%s = log_softmax %m {dim=1}\noutput %s", ""},
          {CONV2 "%m = amax %c {dim=[1, 2, 3]}\noutput %m", ""},
          {CONV2 "%m = sum %c {dim=[2, 3]}\n%n = sum %m {dim=[1]}\noutput %n", ""},
          {CONV2 "%m = sum %c {dim=[2, 3]}\n%n = amax %c {dim=[3, 2]}\n%y = add %m, %n\noutput %y",
           ""},
          {CONV3 "%m = amin %c {dim=[2]}\n%n = amin %m {dim=[3]}\noutput %n", "other axes"},
          {CONV3 "%m = amin %c {dim=[2]}\n%n = amin %c {dim=[4]}\noutput %m, %n", "other axes"},
          {CONV2 "%m = logsumexp %c {dim=[2, 3]}\noutput %m", "two walks"},
          {CONV2 "%m = mean %c {dim=[2, 3], keepdim=true}\n%y = sub %c, %m\noutput %y",
           "from before a walked reduction"},
          {CONV2 "%m = mean %c {dim=[2, 3], keepdim=true}\n%b = input : f32[6, H - 2, W - 2]\n"
                 "%y = sub %m, %b\noutput %y",
           "spreads over axis H again"});
}

TEST(views_rename_axes) {
    CHECK({CONV2 "%v = unsqueeze %c {dim=1}\n%y = tanh %v\noutput %y", ""},
          {CONV2 "%v = permute %c {dims=[0, 2, 3, 1]}\n%s = softmax %v {dim=3}\noutput %s", ""},
          {CONV3 "%v = flatten %c {start_dim=2}\n%m = sum %v {dim=[2]}\noutput %m", ""},
          {CONV2 "%v = flatten %c {start_dim=2}\n%m = amax %v {dim=[1]}\noutput %m", ""},
          {CONV2 "%v = flatten %c {start_dim=1}\noutput %v", ""},
          {CONV2 "%m = amin %c {dim=[1], keepdim=true}\n%v = squeeze %m {dim=[1]}\noutput %v", ""},
          {CONV2 "%v = reshape %c {shape=[N, 2, 3, H - 2, W - 2]}\noutput %v",
           "cuts dimension 1 across the axes"},
          {CONV2 "%v = transpose %c {dim0=2, dim1=3}\n%f = flatten %v {start_dim=2}\noutput %f",
           "cuts dimension 2"});
}

TEST(one_compute_type_per_region) {
    CHECK({"%x = input : f16[2, 3, 9]\n%w = input : f16[4, 3, 3]\n%c = convolution %x, %w\n"
           "%b = input : f32[4, 1]\n%y = add %c, %b\n%z = cast %y {dtype=bf16}\noutput %z",
           ""},
          {CONV2 "%g = gt %c, 0.5\n%n = logical_not %g\n%y = where %n, %c, 0.0\noutput %y, %g", ""},
          {CONV2 "%b = input : f64[]\n%y = add %c, %b\noutput %y", ""},
          {CONV2 "%d = cast %c {dtype=f64}\noutput %d", "is f64, and the region computes in f32"},
          {CONV2 "%b = input : f64[6, 1, 1]\n%g = lt %c, %b\noutput %g", "reads f64"},
          {"%a = input : bool[4]\n%b = input : bool[4]\n%y = logical_and %a, %b\noutput %y",
           "no floating-point operand"});
}

TEST(regions_without_an_anchor) {
    CHECK({"%x = input : f32[]\n%y = tanh %x\noutput %y", ""},
          {"%x = input : f32[2, 3, 4, 5, 6]\n%y = tanh %x\noutput %y", ""},
          {"%x = input : f32[9, 7]\n%s = softmax %x {dim=0}\noutput %s", ""},
          {"%x = input : f32[9, 7]\n%s = sum %x\noutput %s", ""},
          {"%x = input : f32[2, 2, 2, 2, 2, 2]\n%y = tanh %x\noutput %y", "has rank 6"},
          {"%x = input : f32[4]\n%y = tanh %x\n%b = input : f32[3, 4]\n%z = add %y, %b\noutput %z",
           "broadcasts dimension 0"},
          {"%x = input : f32[4, 3]\n%v = flatten %x\noutput %v", "moves no data"},
          {"%x = input : f32[2, 3, 9]\n%w = input : f32[4, 3, 3]\n%t = tanh %x\n"
           "%c = convolution %t, %w\noutput %c",
           "anchor of its own"});
}

/* ---- partition ----------------------------------------------------------------------------- */

/* The steps as "r(tanh mul) f(7)", by operators and by tags. */
static void describe(const sg_partition *partition, char *text, size_t size) {
    size_t at = 0;
    text[0] = 0;
    for (int i = 0; i < sg_partition_step_count(partition); i++) {
        const sg_step *step = sg_partition_step(partition, i);
        at += (size_t)snprintf(text + at, size - at, i ? " %s(" : "%s(", step->foreign ? "f" : "r");
        if (step->foreign)
            at += (size_t)snprintf(text + at, size - at, "%d", (int)step->tag);
        bool first = true;
        for (int k = 0; !step->foreign && k < step->graph->node_count; k++) {
            const sg_op_info *info = sg_op_get(step->graph->nodes[k].op);
            if (info->kind != SG_KIND_LEAF) {
                at += (size_t)snprintf(text + at, size - at, first ? "%s" : " %s", info->name);
                first = false;
            }
        }
        at += (size_t)snprintf(text + at, size - at, ")");
    }
}

static void check_steps(const char *lines, const char *expected) {
    char text[400];
    sg_context *context;
    sg_partition *partition = NULL;
    CASE("%s", lines);
    REQUIRE(sg_context_create(&context) == SG_OK);
    sg_graph *graph = graph_of_lines(context, lines);
    EXPECT_STR(context->message, "");
    if (graph && EXPECT(sg_partition_create(graph, &partition) == SG_OK)) {
        describe(partition, text, sizeof text);
        EXPECT_STR(text, expected);
    }
    sg_partition_destroy(partition);
    sg_graph_destroy(graph);
    sg_context_destroy(context);
}

TEST(steps_stand_in_execution_order) {
    check_steps(CONV2 "%y = tanh %c\noutput %y", "r(convolution tanh)");
    check_steps(CONV2 "%f = foreign %c {tag=7} : f32[N, 6, H - 2, W - 2]\n%y = tanh %f\noutput %y",
                "r(convolution) f(7) r(tanh)");
    /* A foreign operator without a user stays: the host may want its effect. */
    check_steps("%x = input : f32[4]\n%f = foreign %x {tag=3} : opaque\n%y = tanh %x\noutput %y",
                "f(3) r(tanh)");
    /* An operator joins the region of either operand, which then waits for the other. */
    check_steps("%x = input : f32[2, 3, 9]\n%w = input : f32[4, 3, 3]\n%a = convolution %x, %w\n"
                "%t = tanh %a\n%b = convolution %x, %w {padding=[1]}\n"
                "%m = amin %b {dim=[2], keepdim=true}\n%y = add %t, %m\noutput %y",
                "r(convolution amin) r(convolution tanh add)");
}

TEST(no_step_waits_for_itself) {
    /* The sum could join the convolution but for the foreign operator between them. */
    check_steps(CONV2 "%f = foreign %c {tag=1} : f32[N, 6, H - 2, W - 2]\n%y = add %c, %f\n"
                      "output %y",
                "r(convolution) f(1) r(add)");
    check_steps(CONV2 "%t = tanh %c\n%f = foreign %t {tag=1} : f32[N, 6, H - 2, W - 2]\n"
                      "%g = foreign %f {tag=2} : f32[N, 6, H - 2, W - 2]\n"
                      "%u = exp %c\n%y = add %u, %g\noutput %y",
                "r(convolution tanh exp) f(1) f(2) r(add)");
}

TEST(steps_name_what_they_read_and_write) {
    sg_context *context;
    sg_partition *partition = NULL;
    REQUIRE(sg_context_create(&context) == SG_OK);
    sg_graph *graph =
        graph_of_lines(context, CONV2 "%f = foreign %x, %c {tag=9} : f32[6]\n"
                                      "%v = unsqueeze %f {dim=1}\n%y = add %c, 1.0\noutput %y, %f");
    REQUIRE(graph && sg_partition_create(graph, &partition) == SG_OK);
    const sg_step *first = sg_partition_step(partition, 0);
    EXPECT_EQ_INT(sg_partition_step_count(partition), 2);
    EXPECT_EQ_INT(first->input_count, 2);
    EXPECT_EQ_INT(first->output_count, 2);
    const sg_step *second = sg_partition_step(partition, 1);
    EXPECT(second->foreign && second->tag == 9);
    EXPECT_EQ_INT(second->input_count, 2);
    EXPECT_EQ_INT(second->inputs[1], first->outputs[0]);
    EXPECT(sg_partition_step(partition, 2) == NULL && sg_partition_step(partition, -1) == NULL);
    const sg_graph *whole = sg_partition_graph(partition);
    EXPECT_EQ_INT(sg_graph_output(whole, 1), second->outputs[0]);
    sg_partition_destroy(partition);
    sg_graph_destroy(graph);
    sg_context_destroy(context);
}
