/* Streaming: a region without a convolution. Tiles are loaded from memory, go through the tile
 * program and are stored; intermediates stay in the first-level cache. */
#include <stdio.h>

#include "plan/cost.h"
#include "plan/strategy.h"

static const double TILE_LIMIT = 4 << 20; /* bytes */

static bool applicable(const sg_problem *problem, const sg_target *target, char *reason) {
    if (problem->has_convolution) {
        snprintf(reason, SG_REASON_MAX, "the region has a convolution");
        return false;
    }
    double smallest =
        (double)problem->size[SG_ROLE_C] * target->lanes * (double)sg_dtype_size(problem->compute);
    if (smallest > TILE_LIMIT) {
        snprintf(reason, SG_REASON_MAX,
                 "a tile of %lld elements along the reduced axis does not "
                 "fit the cache",
                 (long long)problem->size[SG_ROLE_C]);
        return false;
    }
    return true;
}

static int64_t clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

static int candidates(const sg_problem *problem, const sg_target *target, sg_cpu_plan *plans) {
    int64_t bytes = sg_dtype_size(problem->compute), line = SG_RUN_STEP;
    int64_t channels = problem->size[SG_ROLE_C] > 0 ? problem->size[SG_ROLE_C] : 1;
    int64_t width = problem->size[SG_ROLE_W] > 0 ? problem->size[SG_ROLE_W] : 1;
    int64_t height = problem->size[SG_ROLE_H] > 0 ? problem->size[SG_ROLE_H] : 1;
    int64_t depth = problem->size[SG_ROLE_D] > 0 ? problem->size[SG_ROLE_D] : 1;
    int count = 0;
    /* A tile and the few others alive with it take a part of the first- or second-level cache. */
    int64_t budgets[] = {target->cpu->l1_bytes / 8, target->cpu->l1_bytes / 4,
                         target->cpu->l2_bytes / 8};
    for (int b = 0; b < 3; b++) {
        int64_t run = sg_round_up(clamp(budgets[b] / bytes / channels, line, 1 << 14), line);
        for (int64_t runs = 1; runs <= 64; runs *= 8) {
            sg_cpu_plan plan = {.box = {1, 1, 1}, .run = run, .chunk = 1, .sum = 1};
            plan.box[2] = width < run * runs ? width : run * runs;
            int64_t rows = clamp(run * runs / plan.box[2], 1, height);
            plan.box[1] = problem->flat || problem->walk >> SG_ROLE_H & 1U ? rows : 1;
            plan.box[0] = problem->walk >> SG_ROLE_D & 1U ? depth : 1;
            int64_t pixels = problem->flat ? plan.box[1] * plan.box[2] : plan.box[2];
            plan.run = sg_round_up(plan.run < pixels ? plan.run : pixels, line);
            plans[count++] = plan;
        }
    }
    return count;
}

const sg_strategy sg_strategy_stream = {
    .name = "stream", .applicable = applicable, .candidates = candidates, .cost = sg_cost_plan};
