/* Programs for GPUs through the public calls, compiled for an architecture, without a device. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/cuda.h"
#include "graphs.h"
#include "unit.h"

static const char *const small_min =
    "graph g {\n%x = input : f32[N, 7, 20, 21]\n%w = input : f32[5, 7, 3, 3]\n"
    "%c = convolution %x, %w\n%m = amin %c {dim=[1], keepdim=true}\noutput %m\n}";

static sg_status compile(sg_context *context, const char *text, const char *sizes,
                         const sg_compile_options *options, sg_program **program) {
    sg_layout inputs[8];
    sg_graph *graph = graph_of(context, text);
    *program = NULL;
    if (!EXPECT(graph && sg_graph_layouts(graph, sizes, inputs) == SG_OK))
        return SG_INVALID;
    sg_status status = sg_compile(graph, inputs, sg_graph_input_count(graph), options, program);
    sg_graph_destroy(graph);
    return status;
}

TEST(options_are_checked) {
    static const struct {
        sg_compile_options options;
        const char *part;
    } cases[] = {
        {{.gpu = "sm_12"}, "gpu \"sm_12\" is unknown; there are sm_80, "},
        {{.gpu = ""}, "gpu \"\" is unknown"},
        {{.gpu = "0x"}, "gpu \"0x\" is unknown"},
        {{.gpu = "-1"}, "gpu \"-1\" is unknown"},
        {{.gpu = "sm_90a", .precision = "fp16"}, "precision \"fp16\" is unknown"},
        {{.gpu = "sm_90a", .alignment = 12}, "alignment 12 is not a power of two"},
        {{.gpu = "sm_90a", .alignment = -4}, "alignment -4 is not a power of two"},
        {{.gpu = "sm_90a", .tune = 1}, "measuring needs a device"},
    };
    sg_context *context;
    sg_program *program;
    REQUIRE(sg_context_create(&context) == SG_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CASE("%s", cases[i].part);
        EXPECT(compile(context, small_min, "N=2", &cases[i].options, &program) == SG_INVALID);
        EXPECT_CONTAINS(sg_context_message(context), cases[i].part);
    }
    sg_compile_options unknown = {.gpu = "sm_90a", .always = 1, .strategy = "nonesuch"};
    EXPECT(compile(context, small_min, "N=2", &unknown, &program) == SG_NOT_APPLICABLE);
    EXPECT_CONTAINS(sg_context_message(context), "no strategy of this name");
    sg_context_destroy(context);
}

/* Compiles, looks at the source and the explanation, and builds where there is an NVRTC. */
static void check_program(sg_context *context, const char *text, const sg_compile_options *options,
                          int launches) {
    sg_program *program;
    char *part = NULL;
    if (!EXPECT(compile(context, text, "N=2", options, &program) == SG_OK))
        return;
    for (int i = 0; i < launches; i++) {
        REQUIRE(sg_program_source(program, i, &part) == SG_OK);
        EXPECT_CONTAINS(part, "extern \"C\" __global__");
        sg_string_free(part);
    }
    EXPECT(sg_program_source(program, launches, &part) == SG_INVALID);
    EXPECT(sg_program_source(program, -1, &part) == SG_INVALID);
    EXPECT(sg_program_explain(program, &part) == SG_OK);
    EXPECT_CONTAINS(part, "strategy ");
    EXPECT_CONTAINS(part, options->gpu);
    EXPECT_CONTAINS(part, "  launch segue_");
    sg_string_free(part);
    sg_status status = sg_program_build(program, context, -1);
    EXPECT(status == SG_OK || strstr(sg_context_message(context), "no NVRTC"));
    sg_program_destroy(program);
}

TEST(programs_are_built_without_a_device) {
    static const char *const architectures[] = {"sm_80", "sm_90a"};
    sg_context *context;
    REQUIRE(sg_context_create(&context) == SG_OK);
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) {
        CASE("%s", architectures[i]);
        sg_compile_options options = {.gpu = architectures[i], .always = 1, .strategy = "direct"};
        check_program(context, small_min, &options, 1);
    }
    sg_context_destroy(context);
}

/* What the walk found is needed where the walk has gone by: two regions, and tensors between them.
 */
TEST(regions_pass_tensors_through_the_workspace) {
    static const char *const two =
        "graph g {\n%x = input : f32[N, 7, 20, 30]\n%t = softmax %x {dim=1}\n"
        "%a = amax %t {dim=[2], keepdim=true}\n%s = sub %t, %a\n%b = exp %s\noutput %b\n}";
    sg_context *context;
    sg_program *program;
    sg_compile_options options = {.gpu = "sm_90a", .always = 1};
    REQUIRE(sg_context_create(&context) == SG_OK);
    check_program(context, two, &options, 2);
    REQUIRE(compile(context, two, "N=2", &options, &program) == SG_OK);
    EXPECT_EQ_INT(sg_program_work(program).kernels, 2);
    EXPECT(sg_program_workspace(program) >= 2 * 7 * 30 * 4);
    sg_program_destroy(program);
    sg_context_destroy(context);
}

TEST(a_device_that_is_not_there_has_a_sentence) {
    sg_context *context;
    sg_program *program;
    sg_compile_options options = {.gpu = "63", .always = 1};
    REQUIRE(sg_context_create(&context) == SG_OK);
    sg_status status = compile(context, small_min, "N=2", &options, &program);
    EXPECT(status == SG_NOT_APPLICABLE || status == SG_INVALID); /* no driver; no such device */
    EXPECT(strstr(sg_context_message(context), "CUDA driver") ||
           strstr(sg_context_message(context), "counted from 0"));
    sg_context_destroy(context);
}

/* Nothing to compute is nothing to launch, and needs neither a driver nor addresses. */
TEST(an_empty_batch_launches_nothing) {
    sg_context *context;
    sg_program *program;
    char *text;
    const void *inputs[2] = {0};
    void *outputs[1] = {0};
    int64_t weights = 64;
    sg_compile_options options = {.gpu = "sm_90a"};
    REQUIRE(sg_context_create(&context) == SG_OK);
    REQUIRE(compile(context, small_min, "N=0", &options, &program) == SG_OK);
    EXPECT_EQ_INT(sg_program_workspace(program), 0);
    EXPECT(sg_program_source(program, 0, &text) == SG_INVALID);
    EXPECT(sg_program_explain(program, &text) == SG_OK);
    EXPECT_CONTAINS(text, "nothing to launch");
    sg_string_free(text);
    inputs[1] = &weights;
    inputs[1] = (const char *)inputs[1] - (uintptr_t)inputs[1] % 16; /* aligned; never read */
    EXPECT(sg_program_launch(program, context, 0, NULL, inputs, outputs, NULL) == SG_OK);
    EXPECT(sg_program_run(program, inputs, outputs, 1) == SG_INVALID);
    sg_program_destroy(program);
    sg_context_destroy(context);
}

TEST(reductions_over_nothing_are_left_to_the_host) {
    sg_context *context;
    sg_program *program;
    sg_compile_options options = {.gpu = "sm_90a", .always = 1};
    REQUIRE(sg_context_create(&context) == SG_OK);
    EXPECT(compile(context,
                   "graph g {\n%x = input : f32[2, 5, 0, 7]\n%s = sum %x {dim=[2]}\noutput %s\n}",
                   "", &options, &program) == SG_NOT_APPLICABLE);
    EXPECT_CONTAINS(sg_context_message(context), "reduces over no elements");
    sg_context_destroy(context);
}

TEST(programs_for_the_cpu_do_not_launch) {
    sg_context *context;
    sg_program *program;
    char *text;
    const void *inputs[2] = {0};
    void *outputs[1] = {0};
    sg_compile_options options = {.always = 1};
    REQUIRE(sg_context_create(&context) == SG_OK);
    REQUIRE(compile(context, small_min, "N=1", &options, &program) == SG_OK);
    EXPECT(sg_program_build(program, context, -1) == SG_INVALID);
    EXPECT_CONTAINS(sg_context_message(context), "compiled for the CPU");
    EXPECT(sg_program_launch(program, context, 0, NULL, inputs, outputs, NULL) == SG_INVALID);
    EXPECT(sg_program_source(program, 0, &text) == SG_INVALID);
    EXPECT_EQ_INT(sg_program_workspace(program), 0);
    sg_program_destroy(program);
    sg_context_destroy(context);
}

TEST(the_fastest_way_wins) {
    sg_context context = {0};
    EXPECT(sg_cuda_judge(&context, 1.0, 2.0, 1.5) == SG_OK);
    EXPECT(sg_cuda_judge(&context, 1.0, 2.0, INFINITY) == SG_OK);
    EXPECT(sg_cuda_judge(&context, 0.0, 0.0, 0.0) == SG_OK);
    EXPECT(sg_cuda_judge(&context, 1.0, 1.05, 1.02) == SG_NOT_APPLICABLE);
    EXPECT_CONTAINS(context.message, "which is no gain");
    EXPECT(sg_cuda_judge(&context, 1.0, 2.0, 0.9) == SG_NOT_APPLICABLE);
    EXPECT(strncmp(context.message, "library: ", 9) == 0);
    EXPECT(sg_cuda_judge(&context, 3.0, 2.0, 1.0) == SG_NOT_APPLICABLE);
    EXPECT(strncmp(context.message, "library: ", 9) == 0);
    EXPECT(sg_cuda_judge(&context, 3.0, 2.0, 1.9) == SG_NOT_APPLICABLE);
    EXPECT_CONTAINS(context.message, "which is no gain");
}
