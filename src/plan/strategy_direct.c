/* Direct convolution: the slab makes every tap a contiguous read, the contraction kernel fills a
 * tile of all output channels by one run of pixels, and the tail finishes it while it is in the
 * first-level cache. */
#include <math.h>
#include <stdio.h>

#include "plan/cost.h"
#include "plan/strategy.h"

/* Bytes of a slab, at the most: offsets into it are 32-bit, and every thread has one. */
static const double SLAB_LIMIT = 16 << 20;
/* Bytes of one tile. */
static const double TILE_LIMIT = 4 << 20;

static bool applicable(const sg_problem *problem, const sg_target *target, char *reason) {
    if (!problem->has_convolution) {
        snprintf(reason, SG_REASON_MAX, "the region has no convolution");
        return false;
    }
    double bytes = (double)sg_dtype_size(problem->compute);
    double smallest = (double)problem->size[SG_ROLE_C] * target->lanes * bytes;
    if (smallest > TILE_LIMIT) {
        snprintf(reason, SG_REASON_MAX, "a tile of %lld channels does not fit the cache",
                 (long long)problem->size[SG_ROLE_C]);
        return false;
    }
    sg_cpu_plan least = {.box = {1, 1, target->lanes}};
    if (sg_slab_elements(problem, target, &least) * bytes > SLAB_LIMIT) {
        snprintf(reason, SG_REASON_MAX,
                 "the input under one row of %d outputs does not fit the cache", target->lanes);
        return false;
    }
    return true;
}

/* The largest box whose slab stays within bytes: rows go first, since they only cost halo, then
 * depth, then columns. */
static void fit_box(const sg_problem *problem, const sg_target *target, double bytes, int64_t rows,
                    sg_cpu_plan *plan) {
    double element = (double)sg_dtype_size(problem->compute);
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        bool in_run = axis == 2 || (axis == 1 && problem->flat);
        int64_t size = problem->size[SG_ROLE_D + axis];
        plan->box[axis] = in_run || sg_problem_walks(problem, axis) ? (size > 0 ? size : 1) : 1;
    }
    if (plan->box[1] > rows)
        plan->box[1] = rows;
    while (sg_slab_elements(problem, target, plan) * element > bytes) {
        if (plan->box[1] > 1)
            plan->box[1] = (plan->box[1] + 1) / 2;
        else if (plan->box[0] > 1)
            plan->box[0] = (plan->box[0] + 1) / 2;
        else if (plan->box[2] > target->lanes)
            plan->box[2] = (plan->box[2] + 1) / 2;
        else
            return;
    }
}

/* The longest run worth having: the pixels of the box. */
static int64_t box_run(const sg_problem *problem, const sg_target *target,
                       const sg_cpu_plan *plan) {
    const sg_convolution *convolution = &problem->convolution;
    int64_t pitch = plan->box[2] + (convolution->kernel[2] - 1) * convolution->dilation[2] /
                                       convolution->stride[2];
    int64_t pixels = problem->flat ? (plan->box[1] - 1) * pitch + plan->box[2] : plan->box[2];
    return sg_round_up(pixels, target->lanes);
}

/* Input channels whose slab window and weights share most of the first-level cache. */
static int64_t fit_chunk(const sg_problem *problem, const sg_target *target, int64_t run) {
    const sg_convolution *convolution = &problem->convolution;
    int64_t channels = (int64_t)sg_slab_depth(problem, target);
    int64_t taps = convolution->kernel[0] * convolution->kernel[1] * convolution->kernel[2];
    int64_t rows = convolution->kernel[0] * convolution->kernel[1];
    int64_t per_channel = rows * (run + target->lanes) + taps * target->block_channels;
    int64_t budget = target->cpu->l1_bytes * 3 / 4 / sg_dtype_size(problem->compute);
    int64_t chunk = budget / per_channel;
    chunk = chunk < 1 ? 1 : chunk;
    /* Equal chunks. */
    int64_t pieces = (channels + chunk - 1) / chunk;
    return (channels + pieces - 1) / pieces;
}

/* Products to sum in registers. n of them, in sums of s, round with an error of about sqrt(s + n /
 * s) units: each sum grows like a random walk of s steps, and so does the sum of the n / s sums.
 * oneDNN mostly sums one vector of input channels by all taps at a time, as its measured errors
 * show. Stay below that by MARGIN in the square, as near to CHEAP as that allows: shorter sums cost
 * time (32 two per cent, 16 four), longer ones hardly gain any. Of half types the library rounds
 * the result, next to which no sum's error counts. */
static int64_t fit_sum(const sg_problem *problem, const sg_target *target) {
    static const double MARGIN = 0.85, CHEAP = 48;
    static const int64_t FEW = 16; /* products: two sums are enough */
    static const int64_t HALVES = 192;
    const sg_convolution *convolution = &problem->convolution;
    int64_t taps = convolution->kernel[0] * convolution->kernel[1] * convolution->kernel[2];
    int64_t channels = convolution->in_channels / convolution->groups;
    if (channels * taps <= FEW)
        return (channels * taps + 1) / 2;
    if (sg_dtype_size(convolution->input.dtype) == 2)
        return HALVES;
    double products = (double)(channels * taps);
    double library = fmin((double)target->lanes, (double)channels) * (double)taps;
    double limit = MARGIN * (library + products / library);
    /* s + products / s <= limit between the roots; without roots the least is at their middle. */
    double square = fmax(0, limit * limit / 4 - products);
    if (square == 0)
        return (int64_t)ceil(sqrt(products));
    double least = limit / 2 - sqrt(square), most = limit / 2 + sqrt(square);
    return (int64_t)fmax(ceil(least), fmin(most, CHEAP));
}

static int candidates(const sg_problem *problem, const sg_target *target, sg_cpu_plan *plans) {
    static const int64_t row_counts[] = {1, 2, 4, 8, 16, 32, 1 << 20};
    int64_t step = (int64_t)target->block_vectors * target->lanes;
    int count = 0;
    for (int r = 0; r < 7; r++) {
        for (int64_t blocks = 1; blocks <= 4; blocks *= 2) {
            sg_cpu_plan plan = {.chunk = 1};
            fit_box(problem, target, (double)target->cpu->l2_bytes / 2, row_counts[r], &plan);
            int64_t whole = box_run(problem, target, &plan);
            plan.run = sg_round_up(blocks * step < whole ? blocks * step : whole, SG_RUN_STEP);
            plan.chunk = fit_chunk(problem, target, plan.run);
            plan.sum = fit_sum(problem, target);
            plans[count++] = plan;
        }
    }
    return count;
}

const sg_strategy sg_strategy_direct = {
    .name = "direct", .applicable = applicable, .candidates = candidates, .cost = sg_cost_plan};
