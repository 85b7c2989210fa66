/* Measuring on a GPU: runs the candidate plans of a region on device memory of its own and keeps
 * the fastest. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/cuda.h"
#include "plan/wisdom.h"
#include "run/cuda/module.h"

enum { TRIED_MAX = 24, TRIED_EACH = 8, REPEATS = 9, CHUNK = 1 << 20 };

/* Everything that measuring needs besides the compilation itself. */
typedef struct sg_bench {
    sg_cuda_compilation *compilation;
    const sg_cuda_driver *driver;
    sg_context *context;
    sg_cu_address *operands; /* inputs, then outputs */
    sg_cuda_place *places;   /* of the operands, one to one */
    int input_count, total;
    sg_cu_address workspace, flush;
    int64_t workspace_size, flush_size;
    sg_cu_event start, end;
} sg_bench;

/* ---- memory -------------------------------------------------------------------------------- */

/* Elements of either sign between 1/4 and 1, by their bits: speed depends on values, for power
 * does, and these neither vanish nor overflow. Generator: xorshift64 (Marsaglia, 2003). */
static void fill_chunk(sg_dtype dtype, unsigned char *chunk, uint64_t *state) {
    for (size_t at = 0; at < CHUNK; at += 8) {
        uint64_t bits;
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        bits = *state;
        /* Sign and fraction are random; the exponent is one of two by its lowest bit. */
        if (dtype == SG_F16)
            bits = (bits & UINT64_C(0x87ff87ff87ff87ff)) + UINT64_C(0x3400340034003400);
        else if (dtype == SG_BF16)
            bits = (bits & UINT64_C(0x80ff80ff80ff80ff)) + UINT64_C(0x3e803e803e803e80);
        else if (dtype == SG_F32)
            bits = (bits & UINT64_C(0x80ffffff80ffffff)) + UINT64_C(0x3e8000003e800000);
        else if (dtype == SG_F64)
            bits = (bits & UINT64_C(0x801fffffffffffff)) + UINT64_C(0x3fd0000000000000);
        else
            bits &= UINT64_C(0x0101010101010101);
        memcpy(chunk + at, &bits, sizeof bits);
    }
}

static sg_status allocate(const sg_bench *bench, sg_cu_address *address, int64_t size) {
    if (bench->driver->mem_alloc(address, (size_t)size + 16) == SG_CU_SUCCESS)
        return SG_OK;
    *address = 0;
    return sg_fail(bench->context, SG_OUT_OF_MEMORY,
                   "measuring needs %lld bytes of GPU memory, which cannot be had",
                   (long long)size);
}

static sg_status allocate_operand(sg_bench *bench, int index, unsigned char *chunk,
                                  uint64_t *state) {
    const sg_cuda_compilation *compilation = bench->compilation;
    bool input = index < bench->input_count;
    const sg_layout *layout =
        input ? &compilation->inputs[index] : &compilation->outputs[index - bench->input_count];
    int64_t size = sg_layout_span(layout);
    bench->places[index] = (sg_cuda_place){.kind = input ? SG_WORD_INPUT : SG_WORD_OUTPUT,
                                           .index = input ? index : index - bench->input_count};
    sg_status status = allocate(bench, &bench->operands[index], size);
    if (status != SG_OK || !input)
        return status;
    fill_chunk(layout->dtype, chunk, state);
    for (int64_t at = 0; at < size && status == SG_OK; at += CHUNK) {
        int64_t rest = size - at < CHUNK ? size - at : CHUNK;
        status = sg_cuda_check(bench->context, bench->driver,
                               bench->driver->copy_to_device(bench->operands[index] + (uint64_t)at,
                                                             chunk, (size_t)rest),
                               "filling memory");
    }
    return status;
}

static sg_status open_bench(sg_bench *bench) {
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
    const sg_cuda_driver *driver = bench->driver;
    unsigned char *chunk = malloc(CHUNK);
    bench->operands = calloc((size_t)bench->total + 1, sizeof *bench->operands);
    bench->places = calloc((size_t)bench->total + 1, sizeof *bench->places);
    sg_status status =
        chunk && bench->operands && bench->places ? SG_OK : sg_fail_memory(bench->context);
    for (int i = 0; i < bench->total && status == SG_OK; i++)
        status = allocate_operand(bench, i, chunk, &state);
    /* Twice the cache: what a run left there is then gone. */
    bench->flush_size = 2 * bench->compilation->target.gpu.l2;
    if (status == SG_OK)
        status = allocate(bench, &bench->flush, bench->flush_size);
    if (status == SG_OK)
        status = sg_cuda_check(bench->context, driver, driver->event_create(&bench->start, 0),
                               "an event");
    if (status == SG_OK)
        status =
            sg_cuda_check(bench->context, driver, driver->event_create(&bench->end, 0), "an event");
    free(chunk);
    return status;
}

static void close_bench(sg_bench *bench) {
    for (int i = 0; i < bench->total && bench->operands; i++) {
        if (bench->operands[i])
            bench->driver->mem_free(bench->operands[i]);
    }
    if (bench->workspace)
        bench->driver->mem_free(bench->workspace);
    if (bench->flush)
        bench->driver->mem_free(bench->flush);
    if (bench->start)
        bench->driver->event_destroy(bench->start);
    if (bench->end)
        bench->driver->event_destroy(bench->end);
    free(bench->operands);
    free(bench->places);
}

/* ---- time ---------------------------------------------------------------------------------- */

static int by_value(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

static sg_status time_once(const sg_bench *bench, sg_cuda_sequence *sequence, float *milliseconds) {
    const sg_cuda_driver *driver = bench->driver;
    const void *addresses[SG_CUDA_WORDS_MAX];
    for (int i = 0; i < bench->total; i++)
        addresses[i] = (const void *)(uintptr_t)bench->operands[i];
    driver->fill_words(bench->flush, 0, (size_t)bench->flush_size / 4, NULL);
    driver->event_record(bench->start, NULL);
    sg_status status = sg_cuda_sequence_launch(
        bench->context, sequence, bench->compilation->device, NULL, addresses, 0,
        (void *const *)(addresses + bench->input_count), 0, (void *)(uintptr_t)bench->workspace);
    driver->event_record(bench->end, NULL);
    if (status == SG_OK)
        status = sg_cuda_check(bench->context, driver, driver->event_synchronize(bench->end),
                               "a plan on trial");
    if (status == SG_OK)
        status = sg_cuda_check(bench->context, driver,
                               driver->event_elapsed(milliseconds, bench->start, bench->end),
                               "a plan on trial");
    return status;
}

/* Median of several runs after one that warms up; of one, where that is far behind the best. */
static sg_status time_plan(sg_bench *bench, const sg_cuda_kernel *kernel, sg_arena *arena,
                           double best, double *seconds) {
    static const double FAR = 2;
    float times[REPEATS];
    sg_cuda_sequence *sequence =
        sg_cuda_sequence_create(&bench->compilation->target.gpu, SG_CUDA_LAUNCHES_MAX);
    sg_status status = sequence
                           ? sg_cuda_sequence_add(bench->context, sequence, kernel, bench->places,
                                                  bench->places + bench->input_count, 0, arena)
                           : sg_fail_memory(bench->context);
    if (status == SG_OK && kernel->workspace > bench->workspace_size) {
        if (bench->workspace)
            bench->driver->mem_free(bench->workspace);
        status = allocate(bench, &bench->workspace, kernel->workspace);
        bench->workspace_size = kernel->workspace;
    }
    if (status == SG_OK)
        status = time_once(bench, sequence, &times[0]);
    if (status == SG_OK)
        status = time_once(bench, sequence, &times[0]);
    int count = 1;
    while (status == SG_OK && count < REPEATS && times[0] * 1e-3 < FAR * best)
        status = time_once(bench, sequence, &times[count++]);
    if (status == SG_OK) {
        qsort(times, (size_t)count, sizeof *times, by_value);
        *seconds = times[count / 2] * 1e-3;
    }
    sg_cuda_sequence_destroy(sequence);
    return status;
}

/* Compiles the launches of all kernels at once, on threads. What fails to compile fails again,
 * alone, where it is measured. */
static void build_ahead(sg_bench *bench, const sg_cuda_kernel *kernels, int count) {
    const sg_cuda_launch *launches[TRIED_MAX * SG_CUDA_LAUNCHES_MAX];
    sg_cu_function functions[TRIED_MAX * SG_CUDA_LAUNCHES_MAX];
    int launch_count = 0;
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < kernels[i].launch_count; k++) {
            if (kernels[i].launches[k].grid > 0)
                launches[launch_count++] = &kernels[i].launches[k];
        }
    }
    sg_context ignored = {0};
    sg_cuda_load(&ignored, bench->driver, bench->compilation->device,
                 bench->compilation->target.gpu.architecture, launches, launch_count, functions);
}

/* The candidates to try, moved to the front: of each strategy a few, unless only one is asked for,
 * and none that is expected to be far behind the best. Returns how many. */
static int shorten(sg_cuda_choice *choices, int count, const char *only) {
    static const double FAR = 4;
    const int each = only ? TRIED_MAX : TRIED_EACH;
    int kept = 0;
    for (int i = 0; i < count && kept < TRIED_MAX; i++) {
        int same = 0;
        for (int k = 0; k < kept; k++)
            same += choices[k].strategy == choices[i].strategy;
        if (same < each && choices[i].cost <= FAR * choices[0].cost)
            choices[kept++] = choices[i];
    }
    return kept;
}

static sg_status measure(sg_bench *bench, const char *only) {
    sg_cuda_compilation *compilation = bench->compilation;
    const sg_problem *problem = &compilation->problem;
    sg_cuda_choice choices[SG_CUDA_CANDIDATES_MAX];
    sg_cuda_kernel kernels[TRIED_MAX] = {0};
    sg_arena arena = {0};
    int listed = sg_cuda_list_plans(problem, &compilation->target, only, choices), count = 0;
    listed = shorten(choices, listed, only);
    for (int i = 0; i < listed; i++) {
        choices[count] = choices[i];
        if (sg_cuda_lower(problem, &compilation->target, &choices[i], &arena, &kernels[count]) ==
            SG_OK)
            count++;
    }
    build_ahead(bench, kernels, count);
    double best = INFINITY;
    for (int i = 0; i < count; i++) {
        double seconds = INFINITY;
        /* A plan that cannot be built or launched is passed over. */
        if (time_plan(bench, &kernels[i], &arena, best, &seconds) == SG_OK && seconds < best) {
            best = seconds;
            compilation->choice = choices[i];
            compilation->choice.cost = seconds;
            compilation->choice.from_wisdom = true;
        }
    }
    sg_arena_release(&arena);
    return isfinite(best)
               ? sg_wisdom_remember_gpu(problem, &compilation->target, compilation->choice.strategy,
                                        &compilation->choice.plan, best)
               : SG_IO; /* the last one's sentence stands */
}

sg_status sg_cuda_tune_region(sg_cuda_compilation *compilation) {
    const sg_graph *graph = compilation->graph;
    sg_bench bench = {.compilation = compilation,
                      .context = graph->context,
                      .input_count = graph->input_count,
                      .total = graph->input_count + graph->output_count};
    bool pushed;
    if (compilation->device < 0)
        return sg_fail(graph->context, SG_INVALID,
                       "measuring needs a device; options.gpu names an architecture");
    if (bench.total > SG_CUDA_WORDS_MAX)
        return SG_OK; /* no kernel takes so many */
    sg_status status = sg_cuda_open(bench.context, &bench.driver);
    if (status == SG_OK)
        status = sg_cuda_enter(bench.context, bench.driver, compilation->device, &pushed);
    if (status != SG_OK)
        return status;
    status = open_bench(&bench);
    if (status == SG_OK)
        status = measure(&bench, compilation->strategy);
    close_bench(&bench);
    sg_cuda_leave(bench.driver, pushed);
    return status;
}
