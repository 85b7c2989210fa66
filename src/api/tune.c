/* Measuring: runs the candidate plans of a region on memory of its own and keeps the fastest. */
#include <stdlib.h>
#include <time.h>

#include "api/pipeline.h"
#include "plan/wisdom.h"
#include "run/cpu/execute.h"

enum { TRIED_MAX = 16, REPEATS = 5 };

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Best of a few runs: what disturbs a measurement only ever makes it longer. */
static sg_status time_plan(const sg_compilation *compilation, const sg_cpu_plan *plan,
                           void *const *operands, double *seconds) {
    sg_arena arena = {0};
    sg_cpu_kernel *kernel;
    sg_status status = sg_lower_cpu(&compilation->problem, plan, compilation->isa, &arena, &kernel);
    sg_team *team = status == SG_OK ? sg_team_take(compilation->target.threads) : NULL;
    if (status == SG_OK && !team)
        status = sg_fail_memory(compilation->graph->context);
    *seconds = 1e300;
    for (int i = 0; i < REPEATS && status == SG_OK; i++) {
        double start = now();
        status = sg_execute(kernel, team, (const void *const *)operands,
                            operands + compilation->graph->input_count);
        double taken = now() - start;
        *seconds = taken < *seconds ? taken : *seconds;
    }
    if (team)
        sg_team_give(team);
    sg_arena_release(&arena);
    return status;
}

static sg_status measure(sg_compilation *compilation, void *const *operands) {
    sg_choice choices[SG_CANDIDATES_MAX];
    int count = sg_list_plans(&compilation->problem, &compilation->target, choices);
    double best = 1e300;
    for (int i = 0; i < count && i < TRIED_MAX; i++) {
        double seconds;
        sg_status status = time_plan(compilation, &choices[i].plan, operands, &seconds);
        if (status != SG_OK)
            return status;
        if (seconds < best) {
            best = seconds;
            compilation->choice = choices[i];
            compilation->choice.cost = seconds;
            compilation->choice.from_wisdom = true;
        }
    }
    return sg_wisdom_remember(&compilation->problem, &compilation->target,
                              compilation->choice.strategy->name, &compilation->choice.plan);
}

sg_status sg_tune_region(sg_compilation *compilation) {
    const sg_graph *graph = compilation->graph;
    int total = graph->input_count + graph->output_count;
    void **operands = calloc((size_t)total + 1, sizeof *operands);
    sg_status status = operands ? SG_OK : sg_fail_memory(graph->context);
    for (int i = 0; i < total && status == SG_OK; i++) {
        const sg_layout *layout = i < graph->input_count
                                      ? &compilation->inputs[i]
                                      : &compilation->outputs[i - graph->input_count];
        /* Zeros: time does not depend on values, and pages must be there. */
        operands[i] = calloc(1, (size_t)sg_layout_span(layout) + 1);
        status = operands[i] ? SG_OK : sg_fail_memory(graph->context);
    }
    if (status == SG_OK)
        status = measure(compilation, operands);
    for (int i = 0; i < total && operands; i++)
        free(operands[i]);
    free(operands);
    return status;
}
