/* Plain convolution: any shape, any element type, any GPU. A block makes all channels of some
 * pixels, or a piece of the channels where no op of the tail mixes them; what a block sums stays in
 * registers, which is what limits the tile. */
#include "plan/cuda/direct.h"

#include <math.h>
#include <stdio.h>

#include "plan/cuda/facts.h"

enum {
    LANES,
    GROUPS,
    WARP_LANES,
    PIXELS,
    CHANNELS,
    CHANNEL_TILES,
    SHARED_WALK,
    BOX_COLUMNS,  /* 0: a product */
    GROUPS_FIRST, /* in a box: channels, else a window */
    STAGE,
    LEAST_BLOCKS
};
static const char *const parameters[] = {
    "lanes",       "groups",      "warp_lanes",   "pixels", "channels",     "channel_tiles",
    "shared_walk", "box_columns", "groups_first", "stage",  "least_blocks", NULL};

/* Products in one sum. A sum of n products in pieces of s has an error of about sqrt(s + n / s)
 * units (docs/numerics.md); this stays below a library's, which sums all in one. */
enum { SUM = 128 };
/* Numbers that a thread may copy in a stage: each waits in a register. */
static const double COPIES_MOST = 33;
/* Registers of a thread beside its sums, fragments and what it is copying. */
static const double OTHER_REGISTERS = 52, WALK_REGISTERS = 28, SHARED_WALK_REGISTERS = 24;
/* And where the tail has functions of that many instructions: values on their way through them. */
static const double COSTLY_WORK = 24, COSTLY_REGISTERS = 16;
/* Registers of a number on its way to shared memory, its address and its test included. */
static const double COPY_REGISTERS = 2;
/* Instructions: to copy one number of the weights and of the input to shared memory, to go around
 * the loop over stages, and for a value of the tail. */
static const double WEIGHT_COPY = 6, INPUT_COPY = 12, SHARED_COPY = 26, GROUPED_COPY = 30,
                    STAGE_LOOP = 20, TAIL_VALUE = 24;
/* The same in a window: to copy a number, and to read one; and how much longer it takes than its
 * instructions, for want of other warps. */
static const double WINDOW_COPY = 8, WINDOW_READ = 1.5, WINDOW_WAITS = 2;
/* Where threads take channels: one read of the input, with its address and its test. */
static const double CHANNELS_READ = 9;
static const double COPY_LATENCY = 100;    /* of each number of the input that a thread copies */
static const double STAGE_LATENCY = 1000;  /* cycles that a stage takes however little is in it */
static const double WINDOW_LATENCY = 1500; /* and a slice of a window, which nothing else hides */
static const double BLOCK_LATENCY = 2500;  /* and a block: its start, first loads and last stores */
/* Instructions that a running value takes with each value it takes in, and with each step of being
 * shared out among lanes; and cycles of an instruction that is executed but once: it is fetched. */
static const double WALK_VALUE = 10, MERGE_VALUE = 10, FETCH = 12;
static const double PRODUCT_BANDWIDTH = 0.65; /* of a copy's, with two stages on their way */
static const double DOUBLE_SHORT = 1.14;      /* how much longer doubles take than their products */
static const double BLOCK_ISSUE = 300; /* instructions of a thread before and after its stages */
/* Of products of floats: seconds more until their code has been fetched, and instructions that a
 * value costs where a thread's pixels are stored one by one. */
static const double PRODUCT_START = 3e-6;
static const double LONE_STORE = 50;

static int64_t numbers(const sg_problem *problem) {
    return problem->compute == SG_F64 ? 8 : 4;
}
static int64_t taps(const sg_problem *problem) {
    const int64_t *kernel = problem->convolution.kernel;
    return kernel[0] * kernel[1] * kernel[2];
}
static int64_t products(const sg_problem *problem) {
    return problem->convolution.in_channels / problem->convolution.groups * taps(problem);
}

static bool is_power_of_two(int64_t number) {
    return number > 0 && (number & (number - 1)) == 0;
}

/* The most of 4 (2 for doubles), 2, 1 that divides count: what one access of shared memory moves.
 */
static int64_t neighbours(const sg_problem *problem, int64_t count) {
    int64_t run = 16 / numbers(problem);
    while (count % run != 0)
        run /= 2;
    return run;
}

/* ---- reading a plan ------------------------------------------------------------------------ */

/* As direct_product.cuh counts them. */
static int64_t groups_of_tile(const sg_problem *problem, int64_t tile) {
    int64_t groups = problem->convolution.groups;
    int64_t outputs = problem->size[SG_ROLE_C] / groups;
    if (groups == 1 || outputs % tile == 0)
        return 1;
    return tile % outputs == 0 ? tile / outputs : (tile + outputs - 2) / outputs + 1;
}

/* Rows and columns of the input under a window's box. */
static int64_t window_extent(const sg_problem *problem, const sg_cuda_block *block, int axis) {
    const sg_convolution *convolution = &problem->convolution;
    int64_t size =
        axis == 1 ? block->lanes * block->pixels / block->box_columns : block->box_columns;
    return (size - 1) * convolution->stride[axis] +
           (convolution->kernel[axis] - 1) * convolution->dilation[axis] + 1;
}

/* struct Shared of either contraction, its members rounded up. */
static int64_t shared_bytes(const sg_problem *problem, const sg_cuda_direct_plan *plan) {
    const sg_cuda_block *block = &plan->block;
    int64_t real = numbers(problem), tile = block->lanes * block->pixels;
    int64_t scratch = sg_cuda_block_scratch(block) * real;
    if (plan->way == SG_DIRECT_CHANNELS)
        return products(problem) * sg_cuda_block_channels(block) * real + scratch;
    if (plan->way == SG_DIRECT_WINDOW) {
        const int64_t *kernel = problem->convolution.kernel;
        int64_t each = window_extent(problem, block, 1) * window_extent(problem, block, 2) +
                       kernel[1] * kernel[2];
        return block->groups * each * real + scratch;
    }
    int64_t staged = sg_cuda_block_channels(block) + 4 + plan->groups * tile;
    int64_t totals = products(problem) > plan->sum + plan->sum / 2
                         ? block->channels * block->pixels * sg_cuda_block_threads(block)
                         : 1;
    return 2 * plan->stage * ((staged + 4) * real + 32) + tile * 32 + scratch + totals * real + 64;
}

static double registers_of(const sg_problem *problem, const sg_cuda_direct_plan *plan,
                           const sg_cuda_tail_facts *facts) {
    const sg_cuda_block *block = &plan->block;
    double words = (double)numbers(problem) / 4;
    double tile = (double)(block->channels * block->pixels);
    double threads = (double)sg_cuda_block_threads(block);
    double values = tile * (1 + facts->full_walks) + (double)(block->pixels * 6) / words;
    if (plan->way != SG_DIRECT_PRODUCT) {
        const sg_convolution *convolution = &problem->convolution;
        values += (double)((block->pixels - 1) * convolution->stride[1] +
                           (convolution->kernel[1] - 1) * convolution->dilation[1] + 1);
    } else {
        double staged =
            (double)(sg_cuda_block_channels(block) + plan->groups * block->lanes * block->pixels);
        double copied = (double)plan->stage * staged / threads;
        values += (double)(block->channels + block->pixels) + copied * COPY_REGISTERS;
    }
    if (facts->work >= COSTLY_WORK)
        values += COSTLY_REGISTERS;
    if (problem->walk)
        values += WALK_REGISTERS + (block->shared_walk ? SHARED_WALK_REGISTERS : 0);
    return OTHER_REGISTERS + values * words;
}

/* Registers that a thread may have: each of a multiprocessor's four schedulers has a quarter of
 * them for its share of a block's warps, and the fullest decides. */
static double register_limit(const sg_cuda_target *target, const sg_cuda_block *block) {
    double share = ceil((double)sg_cuda_block_threads(block) / 128) * 128;
    double limit = (double)target->gpu.registers / (share * (double)block->least_blocks);
    return fmin(248, floor(limit / 8) * 8);
}

static bool block_is_sound(const sg_problem *problem, const sg_cuda_target *target,
                           const sg_cuda_direct_plan *plan, const sg_cuda_tail_facts *facts) {
    const sg_cuda_block *block = &plan->block;
    int64_t threads = sg_cuda_block_threads(block), channels = problem->size[SG_ROLE_C];
    int64_t tile = sg_cuda_block_channels(block);
    bool boxed = plan->way != SG_DIRECT_PRODUCT;
    if (!is_power_of_two(block->lanes) || !is_power_of_two(block->warp_lanes) ||
        !is_power_of_two(block->pixels) || block->warp_lanes > 32 || block->groups < 1 ||
        block->channels < 1 || block->channel_tiles < 1 || block->least_blocks < 1)
        return false;
    if (block->lanes % block->warp_lanes != 0 || block->groups % (32 / block->warp_lanes) != 0 ||
        threads > 1024 || tile * block->channel_tiles < channels ||
        tile * (block->channel_tiles - 1) >= channels)
        return false;
    if (block->channel_tiles > 1 && !facts->splits_channels)
        return false;
    if (block->shared_walk && (!sg_cuda_may_share_walk(problem) || boxed))
        return false;
    if (boxed && ((block->lanes * block->pixels) % block->box_columns != 0 ||
                  block->lanes % block->box_columns != 0 || problem->walk & ~(1U << SG_ROLE_D)))
        return false;
    double staged = (double)(tile + plan->groups * block->lanes * block->pixels);
    if (!boxed && plan->stage > 1 && (double)plan->stage * staged > COPIES_MOST * (double)threads)
        return false;
    return plan->stage >= 1 && plan->shared <= target->gpu.shared_block &&
           registers_of(problem, plan, facts) <= register_limit(target, block);
}

bool sg_cuda_direct_read(const sg_problem *problem, const sg_cuda_target *target,
                         const sg_cuda_plan *plan, sg_cuda_direct_plan *read) {
    const int64_t *given = plan->parameter;
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    *read = (sg_cuda_direct_plan){.block = {.lanes = given[LANES],
                                            .groups = given[GROUPS],
                                            .warp_lanes = given[WARP_LANES],
                                            .pixels = given[PIXELS],
                                            .channels = given[CHANNELS],
                                            .channel_tiles = given[CHANNEL_TILES],
                                            .shared_walk = given[SHARED_WALK] != 0,
                                            .box_columns = given[BOX_COLUMNS],
                                            .groups_first = given[GROUPS_FIRST] != 0,
                                            .least_blocks = given[LEAST_BLOCKS],
                                            .channel_vector = 1},
                                  .stage = given[STAGE],
                                  .way = given[BOX_COLUMNS] == 0    ? SG_DIRECT_PRODUCT
                                         : given[GROUPS_FIRST] != 0 ? SG_DIRECT_CHANNELS
                                                                    : SG_DIRECT_WINDOW};
    sg_cuda_block *block = &read->block;
    if (block->pixels < 1 || block->channels < 1 || block->groups < 1 || read->stage < 1 ||
        block->warp_lanes < 1 || block->lanes < 1)
        return false;
    block->bunch = neighbours(problem, block->channels);
    bool scattered = read->way != SG_DIRECT_PRODUCT ||
                     block->shared_walk; /* a thread's pixels are no neighbours */
    block->run = scattered ? 1 : neighbours(problem, block->pixels);
    int64_t vector = sg_cuda_pixel_vector(problem, target);
    block->pixel_vector = vector < block->run ? vector : block->run;
    read->sum = read->stage > SUM ? read->stage : SUM / read->stage * read->stage;
    read->groups = groups_of_tile(problem, sg_cuda_block_channels(block));
    read->shared = shared_bytes(problem, read);
    return block_is_sound(problem, target, read, &facts);
}

/* ---- cost ---------------------------------------------------------------------------------- */

/* Input channels and depths that a window takes one after the other, for each of a thread's slots.
 */
static double window_slices(const sg_problem *problem, const sg_cuda_block *block) {
    const sg_convolution *convolution = &problem->convolution;
    return (double)(block->channels * convolution->kernel[0] * convolution->in_channels) /
           (double)convolution->groups;
}

/* Stages of a step: what is waited for one after the other. */
static double stages_of(const sg_problem *problem, const sg_cuda_direct_plan *plan) {
    switch (plan->way) {
    case SG_DIRECT_PRODUCT:
        return (double)sg_cuda_pieces(products(problem), plan->stage);
    case SG_DIRECT_WINDOW:
        return window_slices(problem, &plan->block);
    default:
        return 1;
    }
}

/* Numbers of the input that a thread copies in a stage of a product. */
static double input_copies(const sg_cuda_direct_plan *plan) {
    const sg_cuda_block *block = &plan->block;
    return ceil((double)(plan->stage * plan->groups * block->lanes * block->pixels) /
                (double)sg_cuda_block_threads(block));
}

/* Cycles that a stage takes however few instructions are in it. */
static double latency_of(const sg_cuda_direct_plan *plan) {
    switch (plan->way) {
    case SG_DIRECT_PRODUCT:
        return STAGE_LATENCY + COPY_LATENCY * input_copies(plan);
    case SG_DIRECT_WINDOW:
        return WINDOW_LATENCY;
    default:
        return STAGE_LATENCY;
    }
}

/* Instructions of a thread in a stage, a product counting as what its type takes. */
static double instructions(const sg_problem *problem, const sg_cuda_target *target,
                           const sg_cuda_direct_plan *plan) {
    const sg_cuda_block *block = &plan->block;
    const sg_convolution *convolution = &problem->convolution;
    double fma =
        problem->compute == SG_F64 ? target->gpu.fp32 / target->gpu.fp64 * DOUBLE_SHORT : 1;
    double channels = (double)block->channels, pixels = (double)block->pixels;
    if (plan->way == SG_DIRECT_CHANNELS) {
        double rows = (double)((block->pixels - 1) * convolution->stride[1] +
                               (convolution->kernel[1] - 1) * convolution->dilation[1] + 1);
        double kernel = (double)convolution->kernel[1];
        double column = rows * CHANNELS_READ + kernel * (1 + pixels * fma);
        double weights = (double)(products(problem)) / (double)block->lanes;
        return channels * (column * (double)products(problem) / kernel + weights * WEIGHT_COPY * 2);
    }
    if (plan->way == SG_DIRECT_WINDOW) {
        double rows = pixels * (double)convolution->stride[1] +
                      (double)((convolution->kernel[1] - 1) * convolution->dilation[1]);
        double kernel = (double)convolution->kernel[1];
        /* A warp copies rows, in pieces of its width. */
        double copied = (double)(window_extent(problem, block, 1) *
                                 sg_cuda_pieces(window_extent(problem, block, 2), 32) * 32) /
                        (double)block->lanes;
        double columns =
            (double)convolution->kernel[2] * (rows * WINDOW_READ + kernel * (1 + pixels * fma));
        return (copied * WINDOW_COPY + columns) * WINDOW_WAITS;
    }
    double threads = (double)sg_cuda_block_threads(block);
    double bunches = channels / (double)block->bunch;
    double reads = bunches + pixels / (double)block->run * (plan->groups > 1 ? bunches : 1);
    double weights = ceil((double)(plan->stage * sg_cuda_block_channels(block)) / threads);
    int64_t tile = block->lanes * block->pixels, all = sg_cuda_block_threads(block);
    bool own = all % tile == 0 || (tile % all == 0 && tile / all <= 4);
    return (double)plan->stage * (channels * pixels * fma + 2 * reads) + weights * WEIGHT_COPY +
           input_copies(plan) * (plan->groups > 1 ? GROUPED_COPY
                                 : own            ? INPUT_COPY
                                                  : SHARED_COPY) +
           STAGE_LOOP;
}

static double cost(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    const sg_gpu *gpu = &target->gpu;
    sg_cuda_direct_plan read;
    if (!sg_cuda_direct_read(problem, target, plan, &read))
        return INFINITY;
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    const sg_cuda_block *block = &read.block;
    double threads = (double)sg_cuda_block_threads(block);
    double registers = ceil(registers_of(problem, &read, &facts) / 8) * 8 * threads;
    double room = fmin((double)gpu->registers / registers, 2048 / threads);
    room = fmin(room, (double)gpu->shared_processor / ((double)read.shared + 1024));
    room = fmax(1, floor(room));

    double stages = stages_of(problem, &read);
    double latency = latency_of(&read);
    double steps = (double)sg_cuda_walk_length(problem);
    steps = block->shared_walk ? ceil(steps / (double)block->lanes) : steps;
    double issue = threads / 32 / 4; /* cycles of an instruction of all its warps */
    double stage = instructions(problem, target, &read) * issue;
    double values = (double)(block->channels * block->pixels);
    bool product = read.way == SG_DIRECT_PRODUCT;
    bool floats = product && problem->compute == SG_F32;
    double stored = floats && block->pixel_vector == 1 ? LONE_STORE * facts.tile_stores : 0;
    double value = TAIL_VALUE + WALK_VALUE * (double)facts.full_walks + stored;
    double tail = (values * value + (product ? BLOCK_ISSUE : 0)) * issue;

    double blocks = (double)sg_cuda_block_grid(problem, block) / gpu->multiprocessors;
    double cycles = 0;
    double rounds = floor(blocks / room);
    double rest = ceil(blocks - rounds * room);
    if (rounds > 0)
        cycles +=
            rounds * (steps * (stages * fmax(room * stage, latency) + room * tail) + BLOCK_LATENCY);
    if (rest > 0)
        cycles += steps * (stages * fmax(rest * stage, latency) + rest * tail) + BLOCK_LATENCY;
    if (block->shared_walk)
        cycles += (double)(block->channels * facts.full_walks + facts.own_walks) *
                  log2((double)block->lanes) * MERGE_VALUE * FETCH;
    double clock = gpu->fp32 / (gpu->multiprocessors * 256.0);
    double rate = product ? gpu->copy * PRODUCT_BANDWIDTH : gpu->copy;
    return gpu->launch + (floats ? PRODUCT_START : 0) +
           fmax(cycles / clock, sg_cuda_moved_bytes(problem) / rate);
}

/* ---- candidates ---------------------------------------------------------------------------- */

typedef struct search {
    const sg_problem *problem;
    const sg_cuda_target *target;
    sg_cuda_plan *plans;
    double costs[SG_CUDA_CANDIDATES_MAX];
    int count;
    bool any; /* one is enough */
} search;

enum { KEPT_CANDIDATES = 12 };

static void consider(search *found, const sg_cuda_plan *plan) {
    if (found->any && found->count > 0)
        return;
    double seconds = cost(found->problem, found->target, plan);
    if (isfinite(seconds))
        sg_cuda_keep_plan(plan, seconds, found->plans, found->costs, &found->count,
                          KEPT_CANDIDATES);
}

/* Every number of pixels, stage and count of blocks for threads that are given. */
static void consider_tiles(search *found, sg_cuda_plan *plan) {
    static const int64_t stages[] = {16, 12, 9, 8, 4, 2, 1};
    enum { STAGES = sizeof stages / sizeof *stages };
    int64_t threads = plan->parameter[LANES] * plan->parameter[GROUPS];
    bool window = plan->parameter[BOX_COLUMNS] > 0;
    bool low = found->problem->convolution.kernel[1] <= 5; /* a column of 16 fits registers */
    for (int64_t pixels = 1; pixels <= (window && low ? 16 : 8); pixels *= 2) {
        plan->parameter[PIXELS] = pixels;
        for (int i = window ? STAGES - 1 : 0; i < STAGES; i++) {
            plan->parameter[STAGE] = stages[i];
            /* A product's compiler is left alone: held to fewer registers it spills. */
            plan->parameter[LEAST_BLOCKS] =
                window && threads <= 256 && pixels <= 8 ? 512 / threads : 1;
            consider(found, plan);
        }
    }
}

/* Every division of threads between pixels and channels. tile: channels of a block. */
static void consider_threads(search *found, sg_cuda_plan *plan, int64_t tile) {
    for (int64_t channels = 1; channels <= 32; channels += channels < 8 ? 1 : channels) {
        if (channels > 1 && channels >= 2 * tile)
            break;
        /* The shape of a warp hardly matters: near a square, or all lanes for few groups. */
        for (int64_t warp_lanes = 4; warp_lanes <= 32; warp_lanes *= warp_lanes == 8 ? 4 : 2) {
            int64_t warp_groups = 32 / warp_lanes;
            int64_t groups =
                sg_cuda_pieces(sg_cuda_pieces(tile, channels), warp_groups) * warp_groups;
            if (groups > 2 * sg_cuda_pieces(tile, channels) || (groups > 8 && warp_lanes == 32))
                continue;
            for (int64_t lanes = warp_lanes; lanes * groups <= 1024 && lanes <= 256; lanes *= 2) {
                if (lanes * groups < 64 || (warp_lanes == 4 && lanes > 4))
                    continue;
                plan->parameter[LANES] = lanes;
                plan->parameter[WARP_LANES] = warp_lanes;
                plan->parameter[GROUPS] = groups;
                plan->parameter[CHANNELS] = channels;
                plan->parameter[CHANNEL_TILES] =
                    sg_cuda_pieces(found->problem->size[SG_ROLE_C], groups * channels);
                consider_tiles(found, plan);
            }
        }
    }
}

static void consider_windows(search *found, bool splits) {
    int64_t width = found->problem->size[SG_ROLE_W], columns = 8;
    while (columns < width && columns < 256)
        columns *= 2;
    sg_cuda_plan plan = {.parameter = {[WARP_LANES] = 32, [GROUPS] = 1, [CHANNELS] = 1}};
    for (int i = 0; i < 3 && columns >= 4; i++, columns /= 2) {
        plan.parameter[BOX_COLUMNS] = columns;
        if (splits) {
            plan.parameter[CHANNEL_TILES] = found->problem->size[SG_ROLE_C];
            for (int64_t lanes = columns > 32 ? columns : 32; lanes <= 256; lanes *= 2) {
                plan.parameter[LANES] = lanes;
                consider_tiles(found, &plan);
            }
        } else {
            consider_threads(found, &plan, found->problem->size[SG_ROLE_C]);
        }
    }
}

static bool channels_are_neighbours(const sg_problem *problem) {
    const sg_operand *input = &problem->convolution.input;
    return input->stride[SG_ROLE_C] == 1 && input->stride[SG_ROLE_W] != 1;
}

/* Neighbouring channels to neighbouring threads. */
static void consider_channels(search *found, bool splits) {
    int64_t channels = found->problem->size[SG_ROLE_C];
    for (int64_t warp_lanes = 1; warp_lanes <= 8; warp_lanes *= 2) {
        int64_t warp_groups = 32 / warp_lanes,
                all = sg_cuda_pieces(channels, warp_groups) * warp_groups;
        for (int64_t groups = splits ? warp_groups : all; groups <= all && groups <= 1024;
             groups += warp_groups) {
            if (groups > 256 && groups < all)
                continue;
            for (int64_t lanes = warp_lanes; lanes <= 16 && lanes * groups <= 512; lanes *= 2) {
                sg_cuda_plan plan = {
                    .parameter = {[LANES] = lanes,
                                  [GROUPS] = groups,
                                  [WARP_LANES] = warp_lanes,
                                  [CHANNELS] = 1,
                                  [CHANNEL_TILES] = sg_cuda_pieces(channels, groups),
                                  [BOX_COLUMNS] = lanes,
                                  [GROUPS_FIRST] = 1}};
                if (lanes * groups >= 64)
                    consider_tiles(found, &plan);
            }
        }
    }
}

static int find_plans(const sg_problem *problem, const sg_cuda_target *target, bool any,
                      sg_cuda_plan *plans) {
    search found = {.problem = problem, .target = target, .plans = plans, .any = any};
    const sg_convolution *convolution = &problem->convolution;
    int64_t channels = problem->size[SG_ROLE_C];
    int64_t outputs = channels / (convolution->groups > 0 ? convolution->groups : 1);
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    for (int shared = 0; shared <= (problem->walk ? 1 : 0); shared++) {
        sg_cuda_plan plan = {.parameter = {[SHARED_WALK] = shared}};
        consider_threads(&found, &plan, channels);
        if (!facts.splits_channels)
            continue;
        for (int64_t tile = 16; tile <= 128 && tile < channels; tile *= 2)
            consider_threads(&found, &plan, tile);
        if (outputs < channels)
            consider_threads(&found, &plan, outputs);
    }
    if (convolution->groups > 1 && outputs <= 4)
        channels_are_neighbours(problem) ? consider_channels(&found, facts.splits_channels)
                                         : consider_windows(&found, facts.splits_channels);
    return found.count;
}

static int candidates(const sg_problem *problem, const sg_cuda_target *target,
                      sg_cuda_plan *plans) {
    return find_plans(problem, target, false, plans);
}

static bool applicable(const sg_problem *problem, const sg_cuda_target *target, char *reason) {
    if (!problem->has_convolution) {
        snprintf(reason, SG_REASON_MAX, "the region has no convolution");
        return false;
    }
    sg_cuda_plan plans[SG_CUDA_CANDIDATES_MAX];
    if (find_plans(problem, target, true, plans) == 0) {
        snprintf(reason, SG_REASON_MAX, "%lld channels of one pixel do not fit a block",
                 (long long)problem->size[SG_ROLE_C]);
        return false;
    }
    return true;
}

static bool usable(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    sg_cuda_direct_plan read;
    return sg_cuda_direct_read(problem, target, plan, &read);
}

const sg_cuda_strategy sg_cuda_direct = {.name = "direct",
                                         .parameters = parameters,
                                         .applicable = applicable,
                                         .candidates = candidates,
                                         .usable = usable,
                                         .cost = cost};
