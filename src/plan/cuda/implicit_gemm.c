/* Convolution by `mma.sync` as an implicit product of gathered pixels by channels: little source
 * for any shape, from sm_80 on. `mma`, which stages a box's input once for many taps, is faster. */
#include "plan/cuda/implicit_gemm.h"

#include <math.h>
#include <stdio.h>

#include "plan/cuda/block.h"

static const char *const parameters[] = {"warps", "row_blocks", "channels", NULL};

/* Values of a thread: sums, and running values, that leave room for what is on its way. */
enum { SUMS_MAX = 128, WALK_SUMS_MAX = 160 };
/* Registers beside sums and what is on its way, from what the compiler takes; of a thread at most.
 */
enum { OTHER_REGISTERS = 64, REGISTERS_MAX = 255, BLOCKS_MAX = 4 };
enum { SLOTS_MAX = 256, WIDE_SLOTS = 128, TAP_BYTES = 40, PLACE_BYTES = 16, BLOCK_SHARED = 1024 };

/* Channels of a block: all of a group where the tail mixes them, else equal parts of it. */
static int64_t slots_of(const sg_problem *problem, bool splits) {
    int64_t group = problem->size[SG_ROLE_C] / problem->convolution.groups;
    int64_t parts = splits ? sg_cuda_pieces(group, WIDE_SLOTS) : 1;
    return sg_cuda_pieces(sg_cuda_pieces(group, parts), 8) * 8;
}

static void measure_registers(const sg_cuda_target *target, sg_implicit_gemm *gemm) {
    int64_t sums = gemm->row_blocks * gemm->slots / 2;
    int64_t slice = SG_IMPLICIT_GEMM_SLICE;
    int64_t fetched = slice * gemm->pixels / gemm->threads +
                      sg_cuda_pieces(slice * gemm->slots / 4, gemm->threads) * 4;
    int64_t results = gemm->tail.tile_stores > 0 ? gemm->row_blocks * 8 : 0;
    gemm->registers = sums * (1 + gemm->tail.full_walks) + fetched + gemm->row_blocks * 8 +
                      (gemm->split ? gemm->row_blocks * 16 : 0) + results + OTHER_REGISTERS;
    gemm->shared = 2 * slice / 4 * (gemm->pixels + 2 + gemm->slots + 2) * 16 +
                   2 * slice * TAP_BYTES + gemm->pixels * PLACE_BYTES + gemm->slots * 8 +
                   (gemm->tail.channel_loads > 1 ? gemm->tail.channel_loads : 1) * gemm->slots * 4;
    gemm->shared = sg_cuda_pieces(gemm->shared, 16) * 16;
    gemm->blocks = 1;
    while (gemm->blocks < BLOCKS_MAX &&
           (gemm->blocks + 1) * gemm->threads * gemm->registers <= target->gpu.registers &&
           (gemm->blocks + 1) * (gemm->shared + BLOCK_SHARED) <= target->gpu.shared_processor)
        gemm->blocks++;
}

bool sg_implicit_gemm_measure(const sg_problem *problem, const sg_cuda_target *target,
                              const sg_cuda_plan *plan, sg_implicit_gemm *gemm) {
    const sg_convolution *convolution = &problem->convolution;
    const int64_t *given = plan->parameter;
    *gemm = (sg_implicit_gemm){.warps = given[0], .row_blocks = given[1], .slots = given[2]};
    if ((gemm->warps != 4 && gemm->warps != 8) || (gemm->row_blocks != 1 && gemm->row_blocks != 2))
        return false;
    sg_cuda_get_tail_facts(problem, &gemm->tail);
    gemm->group_inputs = convolution->in_channels / convolution->groups;
    gemm->group_outputs = problem->size[SG_ROLE_C] / convolution->groups;
    if (gemm->slots != slots_of(problem, gemm->tail.splits_channels))
        return false;
    gemm->group_parts = sg_cuda_pieces(gemm->group_outputs, gemm->slots);
    gemm->parts = convolution->groups * gemm->group_parts;
    gemm->tile_real = gemm->group_outputs < gemm->slots ? gemm->group_outputs : gemm->slots;
    gemm->products = gemm->group_inputs * convolution->kernel[0] * convolution->kernel[1] *
                     convolution->kernel[2];
    gemm->split = convolution->input.dtype == SG_F32 && target->precision == SG_PRECISION_FP32;
    gemm->threads = gemm->warps * 32;
    gemm->pixels = gemm->warps * gemm->row_blocks * 16;
    gemm->units = sg_cuda_pieces(sg_cuda_kept_pixels(problem), gemm->pixels) * gemm->parts;
    measure_registers(target, gemm);
    int64_t sums = gemm->row_blocks * gemm->slots / 2;
    return sums <= SUMS_MAX && sums * (1 + gemm->tail.full_walks) <= WALK_SUMS_MAX &&
           gemm->registers <= REGISTERS_MAX && gemm->shared <= target->gpu.shared_block &&
           gemm->units < INT32_MAX;
}

/* ---- how long ------------------------------------------------------------------------------ */

/* Fitted to runs of random convolutions on one H200. */
static const double CLOCK = 1.75e9, START = 4e-6;
static const double HOPPER_RATE = 0.765; /* of the tensor cores, by warps alone on Hopper */
static const double SPLIT_LOSS = 2.6;    /* of products of split operands, over what three cost */
/* Cycles of a multiprocessor: for 16 bytes a lane of 32 out of shared memory; for 32 vectors on
 * their way there, and as often that for pixels where every element is asked whether it lies in
 * the image; of a slice and of a tail, what blocks beside each other hide of one. */
static const double SHARED = 6.7, VECTOR = 9.2, PADDED = 6.5, LATENCY = 450;
/* The same of a tail, for 32 values: of each, of each reduction over channels, and of each store,
 * whose lanes write sectors in four planes, at addresses of their own. */
static const double VALUE = 0.1, REDUCED = 1.3, STORED = 18, TAIL = 1000;

static double cost(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    sg_implicit_gemm gemm;
    if (!sg_implicit_gemm_measure(problem, target, plan, &gemm))
        return INFINITY;
    const sg_gpu *gpu = &target->gpu;
    double warps = (double)gemm.warps, pixels = (double)gemm.pixels, slots = (double)gemm.slots;
    double rate = gpu->tf32 / gpu->multiprocessors * (gpu->major >= 9 ? HOPPER_RATE : 1) / CLOCK;
    double products =
        (gemm.split ? 3 * SPLIT_LOSS : 1) * 2 * SG_IMPLICIT_GEMM_SLICE * pixels * slots / rate;
    const int64_t *padding = problem->convolution.padding;
    bool padded = padding[0] || padding[1] || padding[2];
    double vectors = SG_IMPLICIT_GEMM_SLICE / 4.0 / 32 * (pixels * (padded ? PADDED : 1) + slots);
    double moved = warps * ((double)gemm.row_blocks * 2 + slots / 8) * SHARED + vectors * VECTOR;
    double value = VALUE + REDUCED * gemm.tail.channel_reductions + STORED * gemm.tail.tile_stores;
    double slices = (double)sg_cuda_pieces(gemm.products, SG_IMPLICIT_GEMM_SLICE);
    double step = slices * (products + moved + LATENCY / (double)gemm.blocks) +
                  pixels * slots / 32 * value + TAIL / (double)gemm.blocks;
    double rounds = ceil((double)gemm.units / (double)(gpu->multiprocessors * gemm.blocks));
    double seconds =
        rounds * (double)gemm.blocks * step * (double)sg_cuda_walk_length(problem) / CLOCK;
    return gpu->launch + START + fmax(seconds, sg_cuda_moved_bytes(problem) / gpu->copy);
}

/* ---- which --------------------------------------------------------------------------------- */

static int candidates(const sg_problem *problem, const sg_cuda_target *target,
                      sg_cuda_plan *plans) {
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    int count = 0;
    for (int64_t row_blocks = 2; row_blocks >= 1; row_blocks--) {
        for (int64_t warps = 4; warps <= 8; warps *= 2) {
            sg_implicit_gemm gemm;
            const sg_cuda_plan plan = {
                {warps, row_blocks, slots_of(problem, facts.splits_channels)}};
            if (sg_implicit_gemm_measure(problem, target, &plan, &gemm))
                plans[count++] = plan;
        }
    }
    return count;
}

static bool usable(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    sg_implicit_gemm gemm;
    return sg_implicit_gemm_measure(problem, target, plan, &gemm);
}

static bool sizes_fit(const sg_problem *problem) {
    static const int64_t LIMIT = INT64_C(1) << 30; /* coordinates are 32-bit */
    bool fit = true;
    for (int role = 0; role < SG_ROLE_COUNT; role++)
        fit &= problem->size[role] < LIMIT;
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++)
        fit &= problem->convolution.in_size[axis] + 2 * problem->convolution.padding[axis] < LIMIT;
    return fit && sg_cuda_walk_length(problem) < LIMIT;
}

static bool applicable(const sg_problem *problem, const sg_cuda_target *target, char *reason) {
    if (!problem->has_convolution) {
        snprintf(reason, SG_REASON_MAX, "the region has no convolution");
        return false;
    }
    const sg_convolution *convolution = &problem->convolution;
    sg_dtype dtype = convolution->input.dtype;
    if (target->gpu.major < 8 || problem->compute != SG_F32 ||
        (dtype != SG_F32 && dtype != SG_F16 && dtype != SG_BF16) ||
        convolution->weight.dtype != dtype) {
        snprintf(reason, SG_REASON_MAX,
                 "warps multiply pairs of f32, f16 or bf16 in tf32, from sm_80 on");
        return false;
    }
    int64_t products = convolution->in_channels / convolution->groups * convolution->kernel[0] *
                       convolution->kernel[1] * convolution->kernel[2];
    if (dtype == SG_F32 && target->precision == SG_PRECISION_FP32 &&
        products < SG_CUDA_FEW_PRODUCTS) {
        snprintf(reason, SG_REASON_MAX,
                 "sums of %lld products round less on the cores that are not for matrices",
                 (long long)products);
        return false;
    }
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    int64_t slots = slots_of(problem, facts.splits_channels);
    if (!facts.splits_channels && (convolution->groups > 1 || slots > SLOTS_MAX)) {
        snprintf(reason, SG_REASON_MAX,
                 "the tail mixes channels, and a block holds at most %d, of one group", SLOTS_MAX);
        return false;
    }
    sg_cuda_plan plans[SG_CUDA_CANDIDATES_MAX];
    if (!sizes_fit(problem) || candidates(problem, target, plans) == 0) {
        snprintf(reason, SG_REASON_MAX, "no tile fits shared memory and registers");
        return false;
    }
    return true;
}

const sg_cuda_strategy sg_cuda_implicit_gemm = {.name = "implicit_gemm",
                                                .parameters = parameters,
                                                .applicable = applicable,
                                                .candidates = candidates,
                                                .usable = usable,
                                                .cost = cost};
