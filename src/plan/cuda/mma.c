/* Convolution by `mma.sync`, for sm_80 and later: a block makes a box of pixels by all channels, or
 * by a part of them where no op of the tail mixes channels; what it sums stays in registers. */
#include "plan/cuda/mma.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "plan/cuda/block.h"

enum { PIXEL_WARPS, CHANNEL_WARPS, PIXEL_TILES, CHANNEL_TILES, BOX, CHUNK = 8, INNER, BLOCKS };
static const char *const parameters[] = {
    "pixel_warps", "channel_warps", "pixel_tiles", "channel_tiles", "box_n",  "box_d",
    "box_h",       "box_w",         "chunk",       "inner",         "blocks", NULL};

enum { WARPS_MAX = 8, CHANNEL_SLOTS_MAX = 512, BLOCKS_MAX = 8 };
/* Registers of a thread beside sums, fragments and vectors on their way, from what the compiler
 * takes. */
static const double OTHER_REGISTERS = 76;
enum { SPLIT_REGISTERS = 8, PARTIAL_REGISTERS = 6 };
/* Registers of a thread at most; bytes of shared memory that the system takes of every block, and
 * that units are told in (stage_gather.cuh). */
enum { REGISTERS_MAX = 255, BLOCK_SHARED = 1024, UNIT_BYTES = 8 * 48 };
/* Tiles of a warp, at most, that there are two sums of doubles for. */
enum { BLOCKED_TILES = 8 };
/* The same as SG_CUDA_FEW_PRODUCTS, of doubles. */
enum { FEW_DOUBLES = 40 };

static int64_t divisor(int64_t a, int64_t b) {
    return b == 0 ? a : divisor(b, a % b);
}
static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}
static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t product(const int64_t sizes[SG_SPATIAL_MAX]) {
    return sizes[0] * sizes[1] * sizes[2];
}
static bool is_float(const sg_problem *problem) {
    return problem->convolution.input.dtype == SG_F32;
}

/* Channels of a vector, and vectors of a stage at most. */
static int64_t vector_lanes(const sg_problem *problem) {
    return 16 / sg_dtype_size(problem->convolution.input.dtype);
}
static int64_t chunk_most(const sg_problem *problem) {
    return vector_lanes(problem) == 2 ? 16 : 8;
}

/* ---- geometry
 * ------------------------------------------------------------------------------
 */

/* Channel slots of a block that has all channels; each group begins with a tile of 16. */
static int64_t whole_slots(const sg_problem *problem) {
    const sg_convolution *convolution = &problem->convolution;
    return convolution->groups *
           sg_cuda_pieces(problem->size[SG_ROLE_C] / convolution->groups, 16) * 16;
}

/* Input positions of a box along one axis (stage_gather.cuh). */
static int64_t extent(const sg_convolution *convolution, int axis, int64_t box, int64_t taps) {
    int64_t stride = convolution->stride[axis], dilation = convolution->dilation[axis];
    int64_t step = taps == 1 ? stride : divisor(stride, dilation);
    return (box - 1) * (stride / step) + (taps == 1 ? 0 : (taps - 1) * (dilation / step)) + 1;
}

/* Whether the weights of an output channel are one row of [channel][tap], and what may be copied of
 * it at once. */
static int64_t weight_copy(const sg_problem *problem, const sg_cuda_target *target,
                           const sg_mma *mma) {
    const sg_convolution *convolution = &problem->convolution;
    int64_t step = 1;
    for (int axis = SG_SPATIAL_MAX - 1; axis >= 0; axis--) {
        if (mma->inner_taps[axis] != convolution->kernel[axis])
            return 0;
        if (convolution->kernel[axis] > 1 && convolution->weight.stride[SG_ROLE_D + axis] != step)
            return 0;
        step *= convolution->kernel[axis];
    }
    if (mma->group_inputs > 1 && convolution->weight.stride[SG_ROLE_C] != step)
        return 0;
    return target->alignment >= 16 && convolution->weight.stride[SG_ROLE_N] % mma->lanes == 0
               ? 16
               : 16 / mma->lanes;
}

static void measure_stage(const sg_problem *problem, sg_mma *mma) {
    const sg_convolution *convolution = &problem->convolution;
    int64_t outer_taps = 1;
    mma->positions = mma->box[0];
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        bool inside = axis >= SG_SPATIAL_MAX - mma->inner;
        mma->inner_taps[axis] = inside ? convolution->kernel[axis] : 1;
        outer_taps *= convolution->kernel[axis] / mma->inner_taps[axis];
        mma->extent[axis] = extent(convolution, axis, mma->box[1 + axis], mma->inner_taps[axis]);
        mma->positions *= mma->extent[axis];
    }
    int64_t chunks = sg_cuda_pieces(mma->group_inputs, mma->chunk * mma->lanes);
    mma->steps = sg_cuda_pieces(product(mma->inner_taps) * mma->chunk, 4);
    mma->stages = (mma->whole ? convolution->groups : 1) * outer_taps * chunks;
}

static void measure_shared(const sg_problem *problem, sg_mma *mma) {
    const sg_convolution *convolution = &problem->convolution;
    int64_t planes = mma->split ? 2 : 1, warps = mma->pixel_warps * mma->channel_warps;
    bool several = mma->whole && convolution->groups > 1;
    int64_t columns = several ? sg_cuda_pieces(mma->group_outputs, 16) * 16 : mma->channel_slots;
    int64_t pitch = (mma->positions + 5) / 8 * 8 + 2;
    int64_t scratch = warps * 8 * mma->real_bytes * ((mma->pixel_tiles * 8 + 23) / 32 * 32 + 8);
    int64_t input = larger(planes * mma->chunk * pitch * 16, scratch);
    int64_t row = mma->chunk * mma->lanes * product(mma->inner_taps);
    int64_t weight = mma->raw_weights ? columns * (sg_cuda_pieces(row, 4) | 1) * 64 / mma->lanes
                                      : mma->steps * 4 * ((columns + 5) / 8 * 8 + 2) * 16;
    bool resident = mma->stages == 1 && mma->one_part;
    int64_t exchange =
        mma->channel_warps > 1 ? 2 * mma->channel_warps * mma->pixel_slots * mma->real_bytes : 0;
    int64_t operands = (mma->tail.channel_loads + 1) * mma->channel_slots * mma->real_bytes;
    mma->shared = 2 * input + (resident ? 1 : 2) * weight + mma->steps * 64 +
                  2 * mma->positions * 8 + UNIT_BYTES + warps * 4 + mma->threads * 4 + exchange +
                  (mma->one_part ? 1 : 2) * operands;
    int64_t all = sg_cuda_pieces(mma->chunk * mma->positions, mma->threads);
    if (!resident && !mma->raw_weights)
        all += sg_cuda_pieces(mma->steps * 4 * columns, mma->threads);
    mma->pieces = sg_cuda_pieces(all, mma->steps);
}

/* Vectors that a thread asks for before it waits for the first (PIECES_MAX). */
static int64_t vectors_at_once(const sg_mma *mma) {
    return mma->words == 4 ? 4 : 2;
}

/* What a thread holds: sums and fragments, running values, and, where some of its channel slots are
 * empty, a second copy of what it puts. */
static void measure_registers(const sg_problem *problem, sg_mma *mma) {
    int64_t sums = mma->pixel_tiles * mma->channel_tiles * mma->real_bytes;
    int64_t fragments = mma->channel_tiles * 8 + 8;
    double registers = OTHER_REGISTERS + (double)(sums * (1 + mma->tail.full_walks));
    if (mma->split)
        registers += (double)(sums + fragments + mma->channel_tiles * 4 + SPLIT_REGISTERS);
    if (mma->blocked)
        registers += (double)sums;
    /* Vectors on their way, of one step or of two. */
    int64_t vectors = smaller(mma->pieces, vectors_at_once(mma));
    registers += (double)(vectors * (mma->words + 1) * (mma->defer ? 2 : 1));
    if (product(mma->inner_taps) * mma->chunk % 4 != 0) /* the last step is not full */
        registers += PARTIAL_REGISTERS;
    bool full = mma->whole ? problem->size[SG_ROLE_C] == mma->channel_slots
                           : mma->group_outputs % mma->channel_slots == 0;
    if (mma->tail.tile_stores + mma->tail.tile_loads > 0 && !full)
        registers += (double)sums;
    mma->registers = (int64_t)registers + fragments;
}

static bool in_range(const sg_problem *problem, const sg_mma *mma) {
    int64_t warps = mma->pixel_warps * mma->channel_warps;
    bool sound = mma->pixel_warps >= 1 && mma->channel_warps >= 1 && warps <= WARPS_MAX &&
                 mma->channel_tiles >= 1 && mma->channel_tiles <= 4 && mma->chunk >= 1 &&
                 mma->chunk <= chunk_most(problem) && (mma->chunk & (mma->chunk - 1)) == 0 &&
                 mma->inner >= 0 && mma->inner <= SG_SPATIAL_MAX && mma->blocks >= 1 &&
                 mma->blocks <= BLOCKS_MAX;
    sound &= mma->pixel_tiles == 1 || mma->pixel_tiles == 2 || mma->pixel_tiles == 4 ||
             mma->pixel_tiles == 8;
    int64_t box = 1;
    for (int i = 0; i <= SG_SPATIAL_MAX && sound; i++) {
        sound = mma->box[i] >= 1 && mma->box[i] <= 64 * WARPS_MAX;
        sound &= i == 0 || !sg_problem_walks(problem, i - 1) || mma->box[i] == 1;
        box *= mma->box[i];
    }
    return sound && box <= mma->pixel_warps * mma->pixel_tiles * 8;
}

static bool fits(const sg_cuda_target *target, const sg_mma *mma, int64_t blocks) {
    int64_t limit = target->gpu.registers / (mma->threads * blocks);
    return mma->registers <= (limit > 255 ? REGISTERS_MAX : limit) &&
           mma->shared <= target->gpu.shared_block &&
           blocks * (mma->shared + BLOCK_SHARED) <= target->gpu.shared_processor;
}

static bool measure(const sg_problem *problem, const sg_cuda_target *target,
                    const sg_cuda_plan *plan, const sg_cuda_tail_facts *tail, sg_mma *mma) {
    const sg_convolution *convolution = &problem->convolution;
    const int64_t *given = plan->parameter;
    *mma = (sg_mma){.pixel_warps = given[PIXEL_WARPS],
                    .channel_warps = given[CHANNEL_WARPS],
                    .pixel_tiles = given[PIXEL_TILES],
                    .channel_tiles = given[CHANNEL_TILES],
                    .box = {given[BOX], given[BOX + 1], given[BOX + 2], given[BOX + 3]},
                    .chunk = given[CHUNK],
                    .inner = given[INNER],
                    .blocks = given[BLOCKS]};
    if (!in_range(problem, mma))
        return false;
    mma->tail = *tail;
    mma->split = is_float(problem) && target->precision == SG_PRECISION_FP32;
    mma->blocked =
        problem->compute == SG_F64 && mma->pixel_tiles * mma->channel_tiles <= BLOCKED_TILES;
    mma->whole = !mma->tail.splits_channels;
    mma->group_inputs = convolution->in_channels / convolution->groups;
    mma->group_outputs = problem->size[SG_ROLE_C] / convolution->groups;
    mma->lanes = vector_lanes(problem);
    mma->words = mma->lanes == 8 ? 8 : 4;
    mma->raw_weights = mma->lanes < 8;
    mma->real_bytes = problem->compute == SG_F64 ? 8 : 4;
    mma->threads = mma->pixel_warps * mma->channel_warps * 32;
    mma->pixel_slots = mma->pixel_warps * mma->pixel_tiles * 8;
    mma->channel_slots = mma->channel_warps * mma->channel_tiles * 16;
    if (mma->whole && whole_slots(problem) > mma->channel_slots)
        return false;
    mma->parts = mma->whole
                     ? 1
                     : convolution->groups * sg_cuda_pieces(mma->group_outputs, mma->channel_slots);
    mma->one_part = mma->parts == 1;
    measure_stage(problem, mma);
    mma->weight_copy = weight_copy(problem, target, mma);
    measure_shared(problem, mma);
    mma->defer = mma->pieces <= 2 && mma->steps > 1;
    measure_registers(problem, mma);
    mma->units = mma->parts * sg_cuda_pieces(problem->size[SG_ROLE_N], mma->box[0]);
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        if (!sg_problem_walks(problem, axis))
            mma->units *= sg_cuda_pieces(problem->size[SG_ROLE_D + axis], mma->box[1 + axis]);
    }
    return fits(target, mma, mma->blocks);
}

bool sg_mma_measure(const sg_problem *problem, const sg_cuda_target *target,
                    const sg_cuda_plan *plan, sg_mma *mma) {
    sg_cuda_tail_facts tail;
    sg_cuda_get_tail_facts(problem, &tail);
    return measure(problem, target, plan, &tail, mma);
}

/* ---- whether
 * -------------------------------------------------------------------------------
 */

static bool possible(const sg_problem *problem, const sg_cuda_target *target, char *reason) {
    if (!problem->has_convolution) {
        snprintf(reason, SG_REASON_MAX, "the region has no convolution");
        return false;
    }
    const sg_convolution *convolution = &problem->convolution;
    sg_dtype dtype = convolution->input.dtype;
    if (target->gpu.major < 8) {
        snprintf(reason, SG_REASON_MAX, "warps multiply these types from sm_80 on");
        return false;
    }
    bool known = dtype == SG_F64 || dtype == SG_F32 || dtype == SG_F16 || dtype == SG_BF16;
    if (!known || convolution->weight.dtype != dtype ||
        (problem->compute == SG_F64) != (dtype == SG_F64)) {
        snprintf(reason, SG_REASON_MAX,
                 "input and weights are not both f64, both f32, both f16 or both bf16");
        return false;
    }
    if (dtype == SG_F64 && target->gpu.fp64_matrix <= target->gpu.fp64) {
        snprintf(reason, SG_REASON_MAX, "warps multiply doubles no faster than threads do");
        return false;
    }
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    if (!facts.splits_channels && whole_slots(problem) > CHANNEL_SLOTS_MAX) {
        snprintf(reason, SG_REASON_MAX, "the tail mixes channels, and a block holds at most %d",
                 CHANNEL_SLOTS_MAX);
        return false;
    }
    return true;
}

static bool sizes_fit(const sg_problem *problem) {
    static const int64_t LIMIT = INT64_C(1) << 30; /* coordinates are 32-bit */
    bool fit = true;
    for (int role = 0; role < SG_ROLE_COUNT; role++)
        fit &= problem->size[role] < LIMIT;
    const sg_convolution *convolution = &problem->convolution;
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++)
        fit &= convolution->in_size[axis] + 2 * convolution->padding[axis] < LIMIT;
    return fit && sg_cuda_walk_length(problem) < LIMIT;
}

static bool usable(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    sg_mma mma;
    return sg_mma_measure(problem, target, plan, &mma);
}

/* ---- how long ------------------------------------------------------------------------------ */

/* Fitted on an H200, to runs with one part of the kernel left out at a time (docs/performance.md):
 * a multiprocessor's cycles are those of the products or of the instructions, whichever are more,
 * then most of those of shared memory, and those of what is brought in; they add up, for there are
 * few warps. */
static const double CLOCK = 1.75e9, ISSUE = 4; /* cycles a second; instructions a cycle */
/* Of the rate of matrix products, by warps alone on Hopper; not of those of doubles. */
static const double HOPPER_RATE = 0.765;
static const double SHORT_ROW = 96; /* bytes */
/* Instructions of a step: all in all; for a vector of weights, copied or rounded or split. */
static const double STEP = 60, ROUND = 12, SPLIT = 44;
static const double PLACES = 30;         /* cycles to find where 32 input positions lie */
static const double SPLIT_LOSS = 1.22;   /* of all that a block does with split operands */
static const double STORED_PARTS = 1.25; /* of a store, where rows begin within sectors */

/* Cycles of what is done besides products. */
typedef struct mma_rates {
    double shared;         /* of those of shared memory, the part that shows */
    double copy, vector;   /* 32 copies of 16 bytes; 32 vectors */
    double stage, latency; /* of a stage, and what blocks beside each other hide of one */
    double unit, stored;   /* of a unit, for its tail; of 32 results */
    double wait;           /* of a step of one warp that has nothing beside it, */
    double batch;          /* and for vectors of the step past those that are asked for at once */
    double ends;           /* before the first product and after the last */
} mma_rates;

/* Products of doubles take so long that copies hide behind them. */
static const mma_rates DOUBLE_RATES = {0.8, 0, 24, 420, 0, 4500, 22, 680, 900, 0};
static const mma_rates FLOAT_RATES = {0.9, 21, 45, 250, 500, 2500, 12, 900, 0, 6000};
static const mma_rates NARROW_RATES = {0.9, 21, 110, 250, 500, 2500, 12, 900, 0, 6000};

static const mma_rates *rates_of(const sg_mma *mma) {
    return mma->lanes == 2 ? &DOUBLE_RATES : mma->lanes == 4 ? &FLOAT_RATES : &NARROW_RATES;
}

/* Cycles of a step. alone: of one warp that has its quarter of the processor to itself. */
static double step_cycles(const sg_problem *problem, const sg_cuda_target *target,
                          const sg_mma *mma, double *alone) {
    double warps = (double)mma->threads / 32, planes = mma->split ? 2 : 1;
    double pixels = (double)mma->pixel_tiles, channels = (double)mma->channel_tiles;
    bool wide = problem->compute == SG_F64;
    double products = pixels * channels * (wide ? 1 : 2) * (mma->split ? 3 : 1);
    double flops = products * 2 * 16 * 8 * (mma->lanes == 8 ? 16 : 8);
    double rate = wide                ? target->gpu.fp64_matrix
                  : is_float(problem) ? target->gpu.tf32
                                      : target->gpu.half;
    rate *= (!wide && target->gpu.major >= 9 ? HOPPER_RATE : 1) / target->gpu.multiprocessors;
    double weights = channels * 2 * (mma->split ? SPLIT : is_float(problem) ? ROUND : 1);
    double instructions =
        products + weights + pixels * planes + (mma->split ? pixels * channels * 4 : 0) + STEP;
    double shared = (channels * 8 + pixels * planes * 4) * warps;
    int64_t more = larger(sg_cuda_pieces(mma->pieces, vectors_at_once(mma)) - 1, 0);
    *alone = flops / (rate / 4) * CLOCK + rates_of(mma)->wait + (double)more * rates_of(mma)->batch;
    return fmax(flops * warps / rate * CLOCK, instructions * warps / ISSUE) +
           shared * rates_of(mma)->shared;
}

/* Cycles that a stage's input and weights take on their way. */
static double staging_cycles(const sg_problem *problem, const sg_mma *mma) {
    bool resident = mma->stages == 1 && mma->one_part;
    int64_t groups = mma->whole ? problem->convolution.groups : 1;
    double columns = (double)(mma->channel_slots / groups);
    double vectors = (double)(mma->chunk * mma->positions);
    if (!mma->raw_weights && !resident)
        vectors += (double)mma->steps * 4 * columns;
    /* Rows of the input shorter than a sector are read to no use. */
    double row = (double)(mma->extent[2] * sg_dtype_size(problem->convolution.input.dtype));
    if (problem->convolution.input.stride[SG_ROLE_W] == 1 && row < SHORT_ROW)
        vectors *= (SHORT_ROW / row + 1) / 2;
    double copies = 0;
    if (mma->raw_weights && !resident)
        copies = (double)(mma->chunk * mma->lanes * product(mma->inner_taps)) * columns /
                 (mma->weight_copy == 16 ? (double)mma->lanes : 1);
    double chunks = (double)sg_cuda_pieces(mma->group_inputs, mma->chunk * mma->lanes);
    return vectors / 32 * rates_of(mma)->vector + copies / 32 * rates_of(mma)->copy +
           (double)mma->positions / 32 * PLACES / chunks;
}

static double mma_seconds(const sg_problem *problem, const sg_cuda_target *target,
                          const sg_mma *mma) {
    double alone, steps = (double)mma->steps, blocks = (double)mma->blocks;
    double step = step_cycles(problem, target, mma, &alone);
    const mma_rates *rates = rates_of(mma);
    double busy = steps * step + staging_cycles(problem, mma) + rates->stage;
    double stage = fmax(busy, steps * alone / blocks) + rates->latency / blocks;
    double stored = (double)(mma->tail.tile_stores * mma->channel_slots * mma->pixel_slots);
    stored *= sg_cuda_splits_sectors(problem) ? STORED_PARTS : 1;
    double unit = (double)(mma->stages * sg_cuda_walk_length(problem)) * stage +
                  rates->unit / blocks + stored / 32 * rates->stored;
    double rounds = ceil((double)mma->units / (blocks * (double)target->gpu.multiprocessors));
    double loss = mma->split ? SPLIT_LOSS : 1;
    return (rounds * blocks * unit * loss + rates->ends) / CLOCK;
}

static double price(const sg_problem *problem, const sg_cuda_target *target, const sg_mma *mma) {
    double seconds = mma_seconds(problem, target, mma);
    return target->gpu.launch + fmax(seconds, sg_cuda_moved_bytes(problem) / target->gpu.copy);
}

static double cost(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    sg_mma mma;
    return sg_mma_measure(problem, target, plan, &mma) ? price(problem, target, &mma) : INFINITY;
}

/* ---- which
 * ---------------------------------------------------------------------------------
 */

/* What a search is for and the best it found. limit: the box that tiles must lie in. */
typedef struct mma_search {
    const sg_problem *problem;
    const sg_cuda_target *target;
    sg_cuda_tail_facts tail;
    int64_t limit[1 + SG_SPATIAL_MAX];
    sg_cuda_plan *plans;
    double costs[SG_CUDA_CANDIDATES_MAX];
    int count, capacity;
} mma_search;

enum { CANDIDATES = 24, LENGTHS = 12 };

/* Box lengths along an axis worth trying: powers of two, all of it, and equal pieces. */
static int lengths(int64_t size, int64_t most, int64_t *out) {
    int count = 0;
    for (int64_t length = 1; length <= smaller(size, most) && count < LENGTHS - 2; length *= 2)
        out[count++] = length;
    int64_t equal = sg_cuda_pieces(size, sg_cuda_pieces(size, most));
    if (equal > 0 && (equal & (equal - 1)) != 0)
        out[count++] = equal;
    return count;
}

/* As many blocks side by side as fit, and all taps inside a stage if they do. */
static void try_stages(mma_search *search, sg_cuda_plan plan) {
    const sg_convolution *convolution = &search->problem->convolution;
    int64_t lanes = vector_lanes(search->problem);
    int64_t inputs = convolution->in_channels / convolution->groups;
    for (int64_t chunk = chunk_most(search->problem); chunk >= 1; chunk /= 2) {
        if (chunk > 1 && chunk / 2 * lanes >= inputs)
            continue;
        bool found = false;
        for (int64_t inner = SG_SPATIAL_MAX; inner >= 0 && !found; inner--) {
            plan.parameter[CHUNK] = chunk;
            plan.parameter[INNER] = inner;
            plan.parameter[BLOCKS] = 1;
            sg_mma mma;
            found = measure(search->problem, search->target, &plan, &search->tail, &mma);
            if (!found)
                continue;
            while (mma.blocks < BLOCKS_MAX && fits(search->target, &mma, mma.blocks + 1))
                mma.blocks++;
            plan.parameter[BLOCKS] = mma.blocks;
            sg_cuda_keep_plan(&plan, price(search->problem, search->target, &mma), search->plans,
                              search->costs, &search->count, search->capacity);
        }
    }
}

static void try_boxes(mma_search *search, sg_cuda_plan plan) {
    int64_t pixels = plan.parameter[PIXEL_WARPS] * plan.parameter[PIXEL_TILES] * 8;
    int64_t w[LENGTHS], h[LENGTHS], d[LENGTHS];
    int ws = lengths(search->limit[3], pixels, w);
    for (int i = 0; i < ws; i++) {
        int hs = lengths(search->limit[2], pixels / w[i], h);
        for (int j = 0; j < hs; j++) {
            int ds = lengths(search->limit[1], pixels / w[i] / h[j], d);
            for (int k = 0; k < ds; k++) {
                int64_t n = smaller(search->limit[0], pixels / w[i] / h[j] / d[k]);
                /* Tiles that are mostly empty are for images that are as small. */
                bool all = w[i] >= search->limit[3] && h[j] >= search->limit[2] &&
                           d[k] >= search->limit[1] && n >= search->limit[0];
                if (n * d[k] * h[j] * w[i] * 4 < pixels * 3 && !all)
                    continue;
                const int64_t box[] = {n, d[k], h[j], w[i]};
                memcpy(&plan.parameter[BOX], box, sizeof box);
                try_stages(search, plan);
            }
        }
    }
}

static void run_search(mma_search *search) {
    const sg_problem *problem = search->problem;
    int64_t group = problem->size[SG_ROLE_C] / problem->convolution.groups;
    int64_t slots = search->tail.splits_channels ? smaller(group, 128) : whole_slots(problem);
    int64_t tiles = sg_cuda_pieces(larger(slots, 1), 16);
    for (int64_t warps = WARPS_MAX; warps >= 4; warps /= 2) {
        for (int64_t channel_warps = 1; channel_warps <= warps; channel_warps *= 2) {
            int64_t channel_tiles = sg_cuda_pieces(tiles, channel_warps);
            if (channel_tiles > 4 ||
                (channel_warps > 1 && channel_tiles * (channel_warps - 1) >= tiles))
                continue;
            for (int64_t pixel_tiles = 8; pixel_tiles >= 1; pixel_tiles /= 2) {
                sg_cuda_plan plan = {
                    {warps / channel_warps, channel_warps, pixel_tiles, channel_tiles}};
                try_boxes(search, plan);
            }
        }
    }
}

static mma_search search_of(const sg_problem *problem, const sg_cuda_target *target,
                            sg_cuda_plan *plans, int capacity) {
    mma_search search = {
        .problem = problem, .target = target, .plans = plans, .capacity = capacity};
    sg_cuda_get_tail_facts(problem, &search.tail);
    search.limit[0] = larger(problem->size[SG_ROLE_N], 1);
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++)
        search.limit[1 + axis] =
            sg_problem_walks(problem, axis) ? 1 : larger(problem->size[SG_ROLE_D + axis], 1);
    return search;
}

static int candidates(const sg_problem *problem, const sg_cuda_target *target,
                      sg_cuda_plan *plans) {
    mma_search search = search_of(problem, target, plans, CANDIDATES);
    run_search(&search);
    return search.count;
}

static bool plan_any(const sg_problem *problem, const sg_cuda_target *target) {
    sg_cuda_plan plan;
    mma_search search = search_of(problem, target, &plan, 1);
    run_search(&search);
    return search.count > 0;
}

static bool applicable(const sg_problem *problem, const sg_cuda_target *target, char *reason) {
    if (!possible(problem, target, reason))
        return false;
    const sg_convolution *convolution = &problem->convolution;
    int64_t products =
        convolution->in_channels / convolution->groups * product(convolution->kernel);
    bool split = is_float(problem) && target->precision == SG_PRECISION_FP32;
    if (products < (split ? SG_CUDA_FEW_PRODUCTS : problem->compute == SG_F64 ? FEW_DOUBLES : 0)) {
        snprintf(reason, SG_REASON_MAX,
                 "sums of %lld products round less on the cores that are not for "
                 "matrices",
                 (long long)products);
        return false;
    }
    if (!sizes_fit(problem) || !plan_any(problem, target)) {
        snprintf(reason, SG_REASON_MAX, "no tile fits shared memory and registers");
        return false;
    }
    return true;
}

const sg_cuda_strategy sg_cuda_mma = {.name = "mma",
                                      .parameters = parameters,
                                      .applicable = applicable,
                                      .candidates = candidates,
                                      .usable = usable,
                                      .cost = cost};
