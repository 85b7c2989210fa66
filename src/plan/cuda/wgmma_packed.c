/* Convolutions of few input channels on Hopper's tensor cores: the patch under a pixel, channels
 * and taps of a slice, is packed into k. What it costs is instructions: producers pack and
 * consumers run the tail on the same schedulers, while the products themselves run beside them. */
#include "plan/cuda/wgmma_packed.h"

#include <math.h>
#include <stdio.h>

#include "plan/cuda/block.h"

enum { TURN, BOX_W, BOX_D, ROW_BLOCKS, TILES, CONSUMERS, PRODUCERS, LANE_ROWS, STAGES, BLOCKS };
static const char *const parameters[] = {"turn",   "box_w",     "box_d",     "row_blocks",
                                         "tiles",  "consumers", "producers", "lane_rows",
                                         "stages", "blocks",    NULL};

enum { UNIT = 128, ROUND = 256, SUM_K = 64, K_MAX = 256, COLUMNS_MAX = 256 };
/* Registers of a consumer beside its sums and running values, and of a producer beside the values
 * that it has read, at most so many where a row has not more, and the words it makes of them. */
enum {
    CONSUMER_OTHERS = 22,
    CONSUMER_UNHELD = 10,
    CONSUMER_MOVED = -22, /* results stand where products have left */
    CONSUMER_COSTLY = 24,
    PRODUCER_OTHERS = 22,
    PRODUCER_PADDED = 12,
    PRODUCER_STRIDED = 24,
    PRODUCER_ROW = 16, /* for a second row of a lane */
    PRODUCER_ROW_SPLIT = 8,
    PRODUCER_MANY = 96, /* values and words: from so many on an eighth more */
    PRODUCER_NARROW_ROW =
        18,             /* narrow values of a row, read in pairs and taken apart: over these */
    PRODUCER_SPANS = 4, /* runs of taps, from each of which a lane reads: more for others */
    PRODUCER_MOST = 240,
    PRODUCER_VALUES = 54,
    PRODUCER_VALUES_SPLIT = 36
};
static const double COSTLY = 16; /* instructions of a value of the tail: a function is among them */
/* Instructions: of a consumer's warp for a slice, beside those of every sum; of a producer's warp
 * for a unit, and for every value. These and the cycles below were fitted to runs on an H200. */
static const double SLICE = 55, UNIT_ONCE = 80, VALUE = 2.6;
static const double END_SUM = 250;   /* cycles at the end of a walk, for each sum of a thread */
static const double PROLOGUE = 7000; /* cycles until weights are packed */
static const double WEIGHT = 0.9;    /* and more for each of them */

/* ---- reading a plan ------------------------------------------------------------------------ */

/* k and how a stage holds it: with rows of the input shared by the kernel's rows where that takes
 * no more products. */
static void measure_k(const sg_convolution *convolution, sg_wgmma_packed *packed) {
    int64_t rows = convolution->kernel[1], taps = packed->row_spans * convolution->kernel[2];
    int64_t main = taps / 8; /* whole groups of a kernel's row */
    int64_t groups = sg_cuda_round_up(main * rows + sg_cuda_pieces(taps % 8 * rows, 8), 2);
    packed->k = sg_cuda_round_up(2 * packed->row_words * rows, 16);
    packed->stage_slots = packed->k / 8 * packed->pixels;
    packed->shared_rows = main > 0 && convolution->stride[1] == 1 &&
                          convolution->dilation[1] == 1 && packed->box_w % 32 == 0 &&
                          groups * 8 <= packed->k;
    if (!packed->shared_rows)
        return;
    packed->k = groups * 8;
    packed->stage_slots =
        main * (packed->box_h + rows - 1) * packed->box_w + (groups - main * rows) * packed->pixels;
}

static void measure_stage(const sg_problem *problem, const sg_cuda_target *target,
                          sg_wgmma_packed *packed) {
    const sg_convolution *convolution = &problem->convolution;
    const int64_t *kernel = convolution->kernel;
    packed->guarded = convolution->input.dtype == SG_F32;
    packed->parts = packed->guarded && target->precision == SG_PRECISION_FP32 ? 2 : 1;
    /* Measured: with outputs to store it only makes consumers store at once. */
    packed->opens_behind = packed->turn == 1 && packed->tail.tile_stores == 0;
    packed->taps_d = packed->turn > 1 ? 1 : kernel[0];
    packed->row_spans = convolution->in_channels * packed->taps_d;
    packed->row_words = sg_cuda_pieces(packed->row_spans * kernel[2], 2);
    packed->weights =
        problem->size[SG_ROLE_C] * convolution->in_channels * kernel[0] * kernel[1] * kernel[2];
    packed->tile_n = sg_cuda_round_up(problem->size[SG_ROLE_C], 8);
    packed->pixels = 64 * packed->row_blocks * packed->tiles * packed->consumers;
    packed->box_h = packed->pixels / packed->box_w;
    measure_k(convolution, packed);
    packed->moves = packed->parts == 2 && (packed->turn > 1 || packed->k > SUM_K);
    packed->units = packed->pixels / (UNIT * packed->lane_rows);
    packed->span = 3 * convolution->stride[2] + (kernel[2] - 1) * convolution->dilation[2] + 1;
    packed->load_rows = (packed->lane_rows - 1) * convolution->stride[1] +
                        (kernel[1] - 1) * convolution->dilation[1] + 1;
    while (packed->load_rows > 1 &&
           packed->load_rows * packed->row_spans * packed->span >
               (packed->parts == 2 ? PRODUCER_VALUES_SPLIT : PRODUCER_VALUES))
        packed->load_rows--;
    packed->vector = 4;
    while (packed->vector > 1 && !sg_cuda_reads_columns(problem, target, packed->vector))
        packed->vector /= 2;
}

/* A block's registers, shared out between producers and consumers at its start. */
static bool measure_registers(const sg_problem *problem, const sg_cuda_target *target,
                              sg_wgmma_packed *packed) {
    int64_t sums = packed->row_blocks * packed->tiles * packed->tile_n / 2;
    bool moves = packed->moves, held = packed->tile_n <= 32 && !moves;
    int64_t depths = packed->turn + (!moves ? 0 : packed->turn > 1 ? packed->turn - 1 : 1);
    int64_t wanted = sums * (depths + packed->tail.full_walks) +
                     (held ? packed->tile_n / 2 : CONSUMER_UNHELD) +
                     (packed->row_blocks > 1 ? 10 : 6) * packed->row_blocks * packed->tiles +
                     CONSUMER_OTHERS + (moves && packed->turn > 1 ? CONSUMER_MOVED : 0) +
                     (packed->tail.work > COSTLY ? CONSUMER_COSTLY : 0);
    const int64_t *kernel = problem->convolution.kernel;
    int64_t rest = packed->row_spans * kernel[2] % 8; /* of a row, where rows are shared */
    int64_t words = packed->shared_rows
                        ? packed->row_words + sg_cuda_pieces(rest, 2) * (kernel[1] - 1)
                        : packed->row_words * packed->lane_rows;
    int64_t values =
        packed->load_rows * packed->row_spans * packed->span + 4 * words * packed->parts;
    int64_t entry = target->gpu.registers / (packed->blocks * packed->threads) / 8 * 8;
    entry = entry > 248 ? 248 : entry;
    const int64_t *padding = problem->convolution.padding;
    int64_t row = packed->parts == 2 ? PRODUCER_ROW_SPLIT : PRODUCER_ROW;
    int64_t producer = values + PRODUCER_OTHERS + (packed->lane_rows - 1) * row +
                       (padding[0] || padding[1] || padding[2] ? PRODUCER_PADDED : 0) +
                       (packed->vector == 1 ? PRODUCER_STRIDED : 0);
    if (values >= PRODUCER_MANY)
        producer += values / 8;
    if (packed->row_spans > PRODUCER_SPANS)
        producer += 8 * (packed->row_spans - PRODUCER_SPANS);
    if (!packed->guarded && packed->row_spans * packed->span > PRODUCER_NARROW_ROW)
        producer += (packed->row_spans * packed->span - PRODUCER_NARROW_ROW) * 5 / 4;
    producer = sg_cuda_round_up(producer, 8);
    if (producer > PRODUCER_MOST)
        return false;
    int64_t left = entry * packed->threads - producer * packed->producers * 32;
    packed->consumer_registers = left < 0 ? 0 : left / (packed->consumers * 128) / 8 * 8;
    if (packed->consumer_registers > 240)
        packed->consumer_registers = 240;
    left = entry * packed->threads - packed->consumer_registers * packed->consumers * 128;
    packed->producer_registers = left / (packed->producers * 32) / 8 * 8;
    if (packed->producer_registers > 240)
        packed->producer_registers = 240;
    return wanted <= packed->consumer_registers;
}

static void measure_jobs(const sg_problem *problem, sg_wgmma_packed *packed) {
    packed->jobs_d = sg_cuda_pieces(problem->size[SG_ROLE_D], packed->box_d);
    packed->jobs_h = sg_cuda_pieces(problem->size[SG_ROLE_H], packed->box_h);
    packed->jobs_w = sg_cuda_pieces(problem->size[SG_ROLE_W], packed->box_w);
    packed->jobs = problem->size[SG_ROLE_N] * packed->jobs_d * packed->jobs_h * packed->jobs_w;
}

static int64_t shared_bytes(const sg_wgmma_packed *packed) {
    int64_t stage = packed->parts * packed->stage_slots * 16;
    int64_t parts = packed->parts == 2 ? 3 : 1; /* of the weights: hi, lo, hi / 2048 */
    int64_t blocks = packed->turn + (packed->moves ? 0 : packed->turn - 1);
    int64_t weights = parts * packed->k / 8 * blocks * packed->tile_n * 16;
    return packed->stages * (stage + 16) + 8 + weights + packed->tile_n * 12 +
           packed->tail.channel_loads * packed->tile_n * 4 + 4 * (ROUND + ROUND / 32 + 2) +
           packed->weights * 4;
}

bool sg_wgmma_packed_measure(const sg_problem *problem, const sg_cuda_target *target,
                             const sg_cuda_plan *plan, sg_wgmma_packed *packed) {
    const int64_t *given = plan->parameter;
    const sg_convolution *convolution = &problem->convolution;
    *packed = (sg_wgmma_packed){.turn = given[TURN],
                                .box_w = given[BOX_W],
                                .box_d = sg_problem_walks(problem, 0) ? problem->size[SG_ROLE_D]
                                                                      : given[BOX_D],
                                .row_blocks = given[ROW_BLOCKS],
                                .tiles = given[TILES],
                                .consumers = given[CONSUMERS],
                                .producers = given[PRODUCERS],
                                .lane_rows = given[LANE_ROWS],
                                .stages = given[STAGES],
                                .blocks = given[BLOCKS]};
    int64_t kernel = convolution->kernel[0];
    bool turns = kernel > 1 && convolution->stride[0] == 1 && convolution->dilation[0] == 1;
    if (packed->turn != 1 && !(turns && packed->turn == kernel))
        return false;
    if ((packed->row_blocks != 1 && packed->row_blocks != 2 && packed->row_blocks != 4) ||
        packed->tiles < 1 || packed->tiles > 2 || packed->consumers < 1 || packed->consumers > 4 ||
        packed->producers < 4 || (packed->lane_rows != 1 && packed->lane_rows != 2) ||
        packed->producers > 12 || packed->producers % 4 != 0 || packed->stages < 1 ||
        packed->stages > 32 || packed->blocks < 1 || packed->blocks > 4 || packed->box_d < 1 ||
        packed->box_w < 4)
        return false;
    sg_cuda_get_tail_facts(problem, &packed->tail);
    measure_stage(problem, target, packed);
    if (packed->pixels % (UNIT * packed->lane_rows) != 0 || packed->box_w % 4 != 0 ||
        packed->pixels % (packed->box_w * packed->lane_rows) != 0 || UNIT % packed->box_w != 0 ||
        packed->stages * packed->units % packed->producers != 0)
        return false;
    if (packed->k > K_MAX || packed->turn * packed->tile_n > COLUMNS_MAX)
        return false;
    packed->threads = 128 * packed->consumers + 32 * packed->producers;
    packed->shared = shared_bytes(packed);
    measure_jobs(problem, packed);
    return packed->threads * packed->blocks <= 2048 && packed->jobs < INT32_MAX / 8 &&
           packed->shared <= target->gpu.shared_block &&
           packed->blocks * (packed->shared + 1024) <= target->gpu.shared_processor &&
           measure_registers(problem, target, packed);
}

/* ---- cost ---------------------------------------------------------------------------------- */

/* Cycles from a job's last slice to the next one's first, fitted to 2-D shapes. */
static const double BETWEEN_JOBS = 1000;

/* Cycles of a multiprocessor for a value stored, sectors of eight pixels of four channels at a
 * time, which nothing hides behind; as often that where rows begin within sectors; and more, by
 * the channels of a tile over 256, for as many planes are written at once. */
static const double STORED = 0.23, PARTS = 1.35, PLANES = 0.16;

/* Cycles of one product of 64 pixels x 16: its sums, or its operands from shared memory (measured,
 * docs/performance.md). */
static double product_cycles(int64_t columns) {
    return fmax((double)columns / 2, 16 + (double)columns / 4);
}

/* Instructions of a value of the tail, roughly: one for each op, more where memory is met. */
static double tail_value(const sg_wgmma_packed *packed) {
    const sg_cuda_tail_facts *tail = &packed->tail;
    return 1.0 + tail->full_walks + tail->own_walks + 2.0 * tail->channel_reductions +
           6.0 * (tail->tile_stores + tail->tile_loads);
}

static double cost(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    const sg_gpu *gpu = &target->gpu;
    sg_wgmma_packed packed;
    if (!sg_wgmma_packed_measure(problem, target, plan, &packed))
        return INFINITY;
    bool walk = sg_problem_walks(problem, 0);
    double sums = (double)(packed.row_blocks * packed.tiles * packed.tile_n / 2);
    double per_sum = 1 + (packed.moves ? (double)packed.turn : packed.turn > 1 ? 1 : 0);
    double tail = walk ? 1 + packed.tail.full_walks : tail_value(&packed);
    double consumer = SLICE + sums * (per_sum + tail);
    double in_rows = (double)((packed.lane_rows - 1) * problem->convolution.stride[1] +
                              problem->convolution.kernel[1]);
    double values = in_rows * (double)(packed.row_spans * packed.span);
    double words = 4 * in_rows * (double)packed.row_words;
    double producer = UNIT_ONCE + VALUE * values + (packed.parts == 2 ? 8 : 1) * words +
                      1.5 * (double)(packed.lane_rows * packed.parts * packed.k / 2) +
                      (packed.vector == 1 ? 3 * values : 0);
    double product = (double)(packed.tiles * packed.row_blocks * packed.k / 16) *
                     product_cycles(packed.turn * packed.tile_n) * (packed.parts == 2 ? 3 : 1);
    double units = (double)packed.units, blocks = (double)packed.blocks;
    double consumers = (double)packed.consumers;
    double issue = (4 * consumers * consumer + units * producer) / 4 * blocks;
    /* Whatever is longest: all instructions and some of the products; one consumer's way through a
     * slice, and through the others' products; a producer's way through a unit. */
    double slice = issue + 0.5 * consumers * product * blocks + 150;
    slice = fmax(slice, 330 + 14 * sums + 2 * product);
    slice = fmax(slice, (900 + 4 * producer) * units / (double)packed.producers);
    double depths =
        (double)(packed.box_d < problem->size[SG_ROLE_D] ? packed.box_d : problem->size[SG_ROLE_D]);
    double job = slice * (depths + (double)packed.turn - 1) + BETWEEN_JOBS;
    if (walk)
        job += sums * END_SUM;
    double rounds = ceil((double)packed.jobs / ((double)gpu->multiprocessors * blocks));
    double clock = 1.1 * gpu->fp32 / (gpu->multiprocessors * 256.0);
    double memory =
        sg_cuda_moved_bytes(problem) / (gpu->copy * (packed.tail.tile_stores && !walk ? 0.5 : 1));
    double prologue = PROLOGUE + WEIGHT * (double)packed.weights;
    double value = STORED * (sg_cuda_splits_sectors(problem) ? PARTS : 1) +
                   PLANES * (double)packed.tile_n / 256;
    double stores = sg_cuda_stored_values(problem) * value / (gpu->multiprocessors * clock);
    return gpu->launch + fmax((prologue + rounds * job) / clock, memory) + (walk ? 0 : stores);
}

/* ---- candidates ---------------------------------------------------------------------------- */

typedef struct search {
    const sg_problem *problem;
    const sg_cuda_target *target;
    sg_cuda_plan *plans;
    double costs[SG_CUDA_CANDIDATES_MAX];
    int count;
} search;

enum { KEPT_CANDIDATES = 16, STAGES_WANTED = 10 };

/* As many stages as fit, up to what hides the producers' latency. */
static void consider_stages(search *found, sg_cuda_plan *plan) {
    for (int64_t stages = STAGES_WANTED; stages >= 1; stages--) {
        plan->parameter[STAGES] = stages;
        double seconds = cost(found->problem, found->target, plan);
        if (isfinite(seconds)) {
            sg_cuda_keep_plan(plan, seconds, found->plans, found->costs, &found->count,
                              KEPT_CANDIDATES);
            return;
        }
    }
}

static void consider_boxes(search *found, sg_cuda_plan *plan) {
    int64_t pixels =
        64 * plan->parameter[ROW_BLOCKS] * plan->parameter[TILES] * plan->parameter[CONSUMERS];
    int64_t depth = found->problem->size[SG_ROLE_D];
    int64_t wide = 4; /* whole lines of memory, where there are any */
    while (wide < 32 && wide < found->problem->size[SG_ROLE_W])
        wide *= 2;
    for (int64_t width = wide; width <= pixels && width <= UNIT; width *= 2) {
        plan->parameter[BOX_W] = width;
        int64_t least = sg_problem_walks(found->problem, 0) || depth < 8 ? depth : 8;
        for (int64_t box_d = least > 0 ? least : 1;; box_d *= 2) {
            plan->parameter[BOX_D] = box_d;
            consider_stages(found, plan);
            if (box_d >= depth)
                break;
        }
    }
}

static int candidates(const sg_problem *problem, const sg_cuda_target *target,
                      sg_cuda_plan *plans) {
    search found = {.problem = problem, .target = target, .plans = plans};
    int64_t kernel = problem->convolution.kernel[0];
    sg_cuda_plan plan = {0};
    for (int turns = 0; turns <= (kernel > 1 ? 1 : 0); turns++) {
        plan.parameter[TURN] = turns ? kernel : 1;
        for (int64_t form = 0; form < 4; form++) {
            plan.parameter[ROW_BLOCKS] = form == 1 ? 2 : form == 3 ? 4 : 1;
            plan.parameter[TILES] = form == 2 ? 2 : 1;
            for (int64_t consumers = 1; consumers <= 4; consumers *= 2) {
                plan.parameter[CONSUMERS] = consumers;
                for (int64_t producers = 4; producers <= 8; producers += 4) {
                    plan.parameter[PRODUCERS] = producers;
                    for (int64_t blocks = 1; blocks <= 2; blocks++) {
                        plan.parameter[BLOCKS] = blocks;
                        for (int64_t rows = 1; rows <= 2; rows++) {
                            plan.parameter[LANE_ROWS] = rows;
                            consider_boxes(&found, &plan);
                        }
                    }
                }
            }
        }
    }
    return found.count;
}

static bool usable(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    sg_wgmma_packed packed;
    return sg_wgmma_packed_measure(problem, target, plan, &packed);
}

static const char *obstacle(const sg_problem *problem, const sg_cuda_target *target) {
    const sg_convolution *convolution = &problem->convolution;
    if (!problem->has_convolution)
        return "the region has no convolution";
    if (!target->gpu.wgmma)
        return "the GPU has no warpgroup products";
    sg_dtype dtype = convolution->input.dtype;
    if (problem->compute != SG_F32 || convolution->weight.dtype != dtype ||
        (dtype != SG_F32 && dtype != SG_F16 && dtype != SG_BF16))
        return "the convolution's operands are not all float32, all float16 or all bfloat16";
    if (convolution->groups != 1)
        return "the convolution has groups";
    if (dtype == SG_F32 && target->precision == SG_PRECISION_FP32 &&
        convolution->in_channels * convolution->kernel[0] * convolution->kernel[1] *
                convolution->kernel[2] <
            SG_CUDA_FEW_PRODUCTS)
        return "sums of so few products round less on the cores that are not for matrices";
    if (problem->walk & ~(1U << SG_ROLE_D))
        return "a reduction goes along another axis than depth";
    if (sg_cuda_image_reach(convolution) >= 2147483648.0) /* counted in 32 bits */
        return "an image has 2^31 elements or more";
    return NULL;
}

static bool applicable(const sg_problem *problem, const sg_cuda_target *target, char *reason) {
    const char *words = obstacle(problem, target);
    sg_cuda_plan plans[SG_CUDA_CANDIDATES_MAX];
    if (!words && candidates(problem, target, plans) == 0)
        words = "channels and taps do not fit one product";
    if (words)
        snprintf(reason, SG_REASON_MAX, "%s", words);
    return !words;
}

const sg_cuda_strategy sg_cuda_wgmma_packed = {.name = "wgmma_packed",
                                               .parameters = parameters,
                                               .applicable = applicable,
                                               .candidates = candidates,
                                               .usable = usable,
                                               .cost = cost};
