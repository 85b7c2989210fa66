/* Random graphs compiled for GPUs, by every strategy, as far as that goes without one: planning and
 * lowering must neither fail in a way of their own nor ask for more than the GPU has. Sizes go from
 * tiny to larger than any test could run, since nothing is computed. */
#include <stdlib.h>
#include <string.h>

#include "random_graph.h"
#include "run/program.h"
#include "unit.h"

#if defined(__SANITIZE_ADDRESS__)
enum { CASES = 120 };
#else
enum { CASES = 600 };
#endif

/* NULL: the planner's choice. */
static const char *const strategies[] = {
    NULL,  "wgmma_ring",    "wgmma_gathered", "wgmma_packed", "wgmma_streamed",
    "mma", "implicit_gemm", "direct",         "stream"};
static const char *const architectures[] = {"sm_80", "sm_89", "sm_90", "sm_90a"};
static const char *const precisions[] = {"fp32", "tf32", "tf32_even"};
static const int alignments[] = {0, 16, 4};
#define ONE_OF(random, array)                                                                      \
    ((array)[random_between((random), 0, (int64_t)(sizeof(array) / sizeof *(array)) - 1)])

static bool check_call(const sg_cuda_call *call, const sg_gpu *gpu) {
    const sg_cuda_launch *launch = call->launch;
    bool ok = EXPECT(launch->grid > 0 && launch->grid <= INT32_MAX) &&
              EXPECT(launch->block > 0 && launch->block <= 1024) &&
              EXPECT(launch->cluster >= 1 && launch->cluster <= 8) &&
              EXPECT(launch->grid % launch->cluster == 0) &&
              EXPECT(launch->shared >= 0 && launch->shared <= gpu->shared_block) &&
              EXPECT(gpu->major >= 9 || !launch->early);
    ok = EXPECT_CONTAINS(launch->source, launch->entry) && ok;
    ok = EXPECT(!strstr(launch->source, "\n//@ ")) && ok; /* a hole that nobody filled */
    return ok && EXPECT_CONTAINS(launch->source, "extern \"C\" __global__");
}

static bool check_program(const sg_program *program) {
    char *text = NULL;
    bool ok = EXPECT(sg_program_explain(program, &text) == SG_OK) && EXPECT(text[0] != '\0');
    sg_string_free(text);
    for (int i = 0; i < program->cuda->call_count && ok; i++)
        ok = check_call(&program->cuda->calls[i], &program->cuda->gpu);
    return ok;
}

/* Whether all was well; counts what compiled. */
static bool compile_case(sg_context *context, random_state *random, const program_check *check,
                         int *compiled) {
    sg_program *program;
    sg_compile_options options = {.always = 1,
                                  .gpu = ONE_OF(random, architectures),
                                  .precision = ONE_OF(random, precisions),
                                  .alignment = ONE_OF(random, alignments),
                                  .strategy = ONE_OF(random, strategies)};
    context->message[0] = '\0';
    sg_status status = sg_compile(check->graph, check->inputs, sg_graph_input_count(check->graph),
                                  &options, &program);
    if (status != SG_OK)
        return EXPECT(status == SG_NOT_APPLICABLE) && EXPECT(context->message[0] != '\0');
    bool ok = check_program(program);
    sg_program_destroy(program);
    (*compiled)++;
    return ok;
}

/* share: of the strategies drawn, one in so many takes a graph, at the least. */
static void run_cases(uint64_t seed, int share, const random_shape *shape) {
    sg_context *context;
    int failed = 0, tried = 0, compiled = 0;
    REQUIRE(sg_context_create(&context) == SG_OK);
    for (int i = 0; i < CASES && failed < 3; i++) {
        random_state random = {(seed << 32) + (uint64_t)i};
        program_check check;
        if (!random_graph_make(context, &random, shape, &check))
            continue;
        CASE("seed %llu, case %d", (unsigned long long)seed, i);
        for (int k = 0; k < 3; k++, tried++)
            failed += !compile_case(context, &random, &check, &compiled);
        sg_graph_destroy(check.graph);
    }
    EXPECT(compiled > tried / share);
    sg_context_destroy(context);
}

TEST(convolutions_of_few_pixels) {
    run_cases(11, 5,
              &(random_shape){.percent_convolution = 100, .nodes_max = 7, .work_max = 200000});
}

TEST(convolutions_of_many_pixels) {
    run_cases(
        12, 5,
        &(random_shape){.percent_convolution = 100, .nodes_max = 7, .work_max = INT64_C(1) << 36});
}

TEST(tails_alone) {
    /* Of the strategies two of eight take them. */
    run_cases(13, 8, &(random_shape){.percent_convolution = 0, .nodes_max = 8});
}
