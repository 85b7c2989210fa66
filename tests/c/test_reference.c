/* The float64 interpreter against numbers worked out by hand, or by PyTorch. */
#include <math.h>
#include <stdlib.h>

#include "graphs.h"
#include "ir/reference.h"
#include "unit.h"

/* Runs statements over inputs x and y, one row of four each, and compares with expected. */
static void expect_values(const char *lines, const double *x, const double *y,
                          const double *expected, int count) {
    sg_context context = {0};
    char text[1024];
    double result[16];
    snprintf(text, sizeof text, "%%x = input : f64[4]\n%%y = input : f64[4]\n%s\noutput %%r",
             lines);
    sg_graph *graph = graph_of_lines(&context, text);
    const sg_layout layout = layout_of(SG_F64, 1, (int64_t[]){4});
    CASE("%s", lines);
    EXPECT_STR(context.message, "");
    REQUIRE(graph != NULL);
    EXPECT_EQ_INT(sg_reference_run(graph, (sg_layout[]){layout, layout}, 2,
                                   (const double *[]){x, y}, (double *[]){result}),
                  SG_OK);
    for (int i = 0; i < count; i++)
        EXPECT_NEAR(result[i], expected[i], 1e-14);
    sg_graph_destroy(graph);
}

#define ROW(...) ((const double[]){__VA_ARGS__})

TEST(pointwise_broadcasts_and_reads_attributes) {
    const double *x = ROW(1, -2, 3, 0.5), *y = ROW(10, 20, 30, 40);
    expect_values("%r = sub %x, %y {alpha=0.5}", x, y, ROW(-4, -12, -12, -19.5), 4);
    expect_values("%r = rsub %x, 1.0", x, y, ROW(0, 3, -2, 0.5), 4);
    expect_values("%a = reshape %x {shape=[4, 1]}\n%s = add %a, %y\n%r = flatten %s", x, y,
                  ROW(11, 21, 31, 41, 8, 18, 28, 38), 8);
    expect_values("%c = lt %x, 1.0\n%r = where %c, %y, 0.0", x, y, ROW(0, 20, 0, 40), 4);
    expect_values("%r = clamp %x {min=0, max=2}", x, y, ROW(1, 0, 2, 0.5), 4);
}

TEST(nan_passes_through_order_operators) {
    const double *x = ROW(NAN, 1, -INFINITY, 2), *y = ROW(0, NAN, 5, -1);
    expect_values("%r = minimum %x, %y", x, y, ROW(NAN, NAN, -INFINITY, -1), 4);
    expect_values("%r = maximum %x, %y", x, y, ROW(NAN, NAN, 5, 2), 4);
    expect_values("%r = relu %x", x, y, ROW(NAN, 1, 0, 2), 4);
    expect_values("%r = clamp %x {min=-1, max=1}", x, y, ROW(NAN, 1, -1, 1), 4);
    expect_values("%r = amin %x", x, y, ROW(NAN), 1);
    expect_values("%r = amax %y", x, y, ROW(NAN), 1);
}

TEST(python_exponents_are_roots) {
    const double *x = ROW(-INFINITY, 4, -0.0, 9);
    expect_values("%r = pow %x, 0.5", x, x, ROW(NAN, 2, 0, 3), 4);
    expect_values("%k = constant {value=0.5, weak=false} : f64[]\n%r = pow %x, %k", x, x,
                  ROW(INFINITY, 2, 0, 3), 4);
}

TEST(reductions_of_infinities) {
    const double *y = ROW(0, 0, 0, 0);
    expect_values("%r = logsumexp %x", ROW(1000, 1000, -INFINITY, -INFINITY), y,
                  ROW(1000 + 0.69314718055994530942), 1);
    expect_values("%r = logsumexp %x", ROW(-INFINITY, -INFINITY, -INFINITY, -INFINITY), y,
                  ROW(-INFINITY), 1);
    expect_values("%r = logsumexp %x", ROW(INFINITY, 1, -INFINITY, 2), y, ROW(INFINITY), 1);
    expect_values("%r = logsumexp %x", ROW(NAN, 1, 0, 2), y, ROW(NAN), 1);
    expect_values("%r = softmax %x", ROW(1000, 1000, -INFINITY, -INFINITY), y, ROW(0.5, 0.5, 0, 0),
                  4);
    expect_values("%r = softmax %x", ROW(INFINITY, 1, 0, 2), y, ROW(NAN, 0, 0, 0), 1);
    expect_values("%r = log_softmax %x", ROW(0, 0, 0, 0), y, ROW(-2 * 0.69314718055994530942), 1);
}

TEST(reductions_over_axes) {
    const double *x = ROW(1, 2, 3, 4);
    const char *square = "%s = reshape %x {shape=[2, 2]}\n";
    char lines[256];
    static const struct {
        const char *line;
        double expected[4];
        int count;
    } cases[] = {
        {"%r = sum %s {dim=[0]}", {4, 6}, 2},
        {"%r = sum %s {dim=[1]}", {3, 7}, 2},
        {"%r = mean %s {dim=[0, 1]}", {2.5}, 1},
        {"%r = prod %s {dim=[-1]}", {2, 12}, 2},
        {"%r = amax %s {dim=[0]}", {3, 4}, 2},
        {"%r = transpose %s", {1, 3, 2, 4}, 4},
        {"%r = permute %s {dims=[1, 0]}", {1, 3, 2, 4}, 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(lines, sizeof lines, "%s%s", square, cases[i].line);
        expect_values(lines, x, x, cases[i].expected, cases[i].count);
    }
}

TEST(convolution_takes_every_tap) {
    const double *x = ROW(1, 2, 3, 4), *y = ROW(1, 10, 100, 1000);
    expect_values("%i = reshape %x {shape=[1, 1, 4]}\n%w = reshape %y {shape=[2, 1, 2]}\n"
                  "%c = convolution %i, %w {padding=1}\n%r = flatten %c",
                  x, y, ROW(10, 21, 32, 43, 4, 1000, 2100, 3200, 4300, 400), 10);
    expect_values("%i = reshape %x {shape=[2, 2]}\n%w = reshape %y {shape=[4, 1, 1]}\n"
                  "%c = convolution %i, %w {groups=2}\n%r = flatten %c",
                  x, y, ROW(1, 2, 10, 20, 300, 400, 3000, 4000), 8);
    expect_values("%i = reshape %x {shape=[1, 1, 2, 2]}\n%w = reshape %y {shape=[1, 1, 2, 2]}\n"
                  "%b = constant {value=0.5, weak=false} : f64[]\n"
                  "%v = reshape %b {shape=[1]}\n%r = convolution %i, %w, %v {dilation=1}",
                  x, y, ROW(4321.5), 1);
}

TEST(casts_round_as_their_dtype_does) {
    EXPECT_NEAR(sg_round_to(SG_F16, 65519), 65504, 0);
    EXPECT_NEAR(sg_round_to(SG_F16, 65520), INFINITY, 0);
    EXPECT_NEAR(sg_round_to(SG_F16, 1 + 0x1p-11), 1, 0);
    EXPECT_NEAR(sg_round_to(SG_F16, 1 + 3 * 0x1p-11), 1 + 0x1p-9, 0);
    EXPECT_NEAR(sg_round_to(SG_F16, 0x1p-25), 0, 0);
    EXPECT_NEAR(sg_round_to(SG_F16, 0x1.8p-25), 0x1p-24, 0);
    EXPECT_NEAR(sg_round_to(SG_BF16, 1 + 0x1p-8), 1, 0);
    EXPECT_NEAR(sg_round_to(SG_BF16, 3.4e38), INFINITY, 0);
    EXPECT_NEAR(sg_round_to(SG_F32, 0.1), 0.1f, 0);
    EXPECT_NEAR(sg_round_to(SG_F32, 1e300), INFINITY, 0);
    EXPECT_NEAR(sg_round_to(SG_BOOL, NAN), 1, 0);
    EXPECT_NEAR(sg_round_to(SG_BOOL, 0), 0, 0);
    EXPECT(signbit(sg_round_to(SG_F16, -1e-30)));
}

TEST(empty_tensors_and_symbols) {
    sg_context context = {0};
    sg_graph *graph = graph_of_lines(&context, "%x = input : f32[N, 3]\n%s = sum %x {dim=[0]}\n"
                                               "%t = tanh %x\noutput %s, %t");
    const sg_layout layout = layout_of(SG_F32, 2, (int64_t[]){0, 3});
    double sums[3] = {7, 7, 7};
    REQUIRE(graph != NULL);
    EXPECT_EQ_INT(
        sg_reference_run(graph, &layout, 1, (const double *[]){NULL}, (double *[]){sums, NULL}),
        SG_OK);
    for (int i = 0; i < 3; i++)
        EXPECT_NEAR(sums[i], 0, 0);
    sg_graph_destroy(graph);
}

TEST(foreign_operators_are_refused) {
    sg_context context = {0};
    sg_graph *graph =
        graph_of_lines(&context, "%x = input : f32[1]\n%f = foreign %x : f32[1]\noutput %f");
    const sg_layout layout = layout_of(SG_F32, 1, (int64_t[]){1});
    double x = 1, result;
    REQUIRE(graph != NULL);
    EXPECT_EQ_INT(
        sg_reference_run(graph, &layout, 1, (const double *[]){&x}, (double *[]){&result}),
        SG_INVALID);
    EXPECT_CONTAINS(context.message, "%f: only the host can run a foreign operator");
    sg_graph_destroy(graph);
}
