/* Convolutions of few input channels on Hopper's tensor cores, pixels from registers: what a slice
 * costs is its products, and the instructions that words and sums take beside them. */
#include "plan/cuda/wgmma_gathered.h"

#include <math.h>
#include <stdio.h>

#include "plan/cuda/block.h"

enum { BOX_W, BOX_D, CONSUMERS, STAGES };
static const char *const parameters[] = {"box_w", "box_d", "consumers", "stages", NULL};

enum { ROUND = 256, SUM_K = 64, COLUMNS_MAX = 256, STAGES_MAX = 16, WEIGHTS_MAX = 512 };
/* Registers: of a consumer beside sums, operands and running values, and of a producer beside the
 * offsets of its rows. */
enum { CONSUMER_OTHERS = 32, CONSUMER_COSTLY = 24, PRODUCER_OTHERS = 72, REGISTERS_MOST = 240 };
static const double COSTLY = 16; /* instructions of a value of the tail: a function is among them */

/* ---- reading a plan ------------------------------------------------------------------------ */

/* Whether all that happens before the walk ends is one minimum or maximum of the anchor along it:
 * rounding is monotone and scales are positive, so that scale and bias may come behind. */
static bool scales_at_end(const sg_problem *problem, const sg_cuda_tail_facts *tail) {
    const sg_region *region = problem->region;
    if (!problem->walk || tail->full_walks != 1 || tail->own_walks != 0)
        return false;
    for (sg_value value = 0; value < region->graph->node_count; value++) {
        if (!region->members[value].in)
            continue;
        const sg_node *node = sg_graph_node(region->graph, value);
        sg_kind kind = sg_op_get(node->op)->kind;
        if (!region->members[value].after_walk) {
            if (kind != SG_KIND_CONTRACTION)
                return false;
            continue;
        }
        bool walked = kind == SG_KIND_REDUCTION && region->members[node->operands[0]].in &&
                      !region->members[node->operands[0]].after_walk;
        if (walked && node->op != SG_OP_amin && node->op != SG_OP_amax)
            return false;
    }
    for (int i = 0; i < problem->output_count; i++) {
        if (problem->outputs[i].domain & problem->walk)
            return false;
    }
    return true;
}

static void measure_k(const sg_convolution *convolution, sg_wgmma_gathered *gathered) {
    int64_t rows = convolution->kernel[1] * convolution->in_channels, taps = convolution->kernel[2];
    int64_t octets = rows / 8 * taps + sg_cuda_pieces(rows % 8 * taps, 4);
    gathered->k = sg_cuda_round_up(octets * 8, 16);
}

static bool measure_registers(const sg_cuda_target *target, sg_wgmma_gathered *gathered) {
    int64_t sums = gathered->tile_n / 2, steps = gathered->k / 16;
    int64_t pending = gathered->turn > 2 ? gathered->turn - 2 : 0;
    int64_t wanted = sums * (2 * gathered->turn + pending + gathered->tail.full_walks +
                             (gathered->scales_at_end ? 0 : 1)) +
                     4 * steps * gathered->parts + CONSUMER_OTHERS +
                     (gathered->tail.work > COSTLY ? CONSUMER_COSTLY : 0);
    int64_t producers = SG_GATHERED_PRODUCERS * 32, consumers = gathered->consumers * 128;
    int64_t entry = target->gpu.registers / gathered->threads / 8 * 8;
    entry = entry > 248 ? 248 : entry;
    gathered->producer_registers = sg_cuda_round_up(gathered->stage_rows / 4 + PRODUCER_OTHERS, 8);
    int64_t left = entry * gathered->threads - gathered->producer_registers * producers;
    gathered->consumer_registers = left / consumers / 8 * 8;
    if (gathered->consumer_registers > REGISTERS_MOST)
        gathered->consumer_registers = REGISTERS_MOST;
    return gathered->producer_registers < entry && gathered->consumer_registers > entry &&
           wanted <= gathered->consumer_registers;
}

static int64_t shared_bytes(const sg_wgmma_gathered *gathered) {
    int64_t stage = gathered->parts * gathered->stage_rows * (gathered->columns + 8) * 4;
    int64_t weights = gathered->parts * gathered->k * gathered->turn * gathered->tile_n * 2;
    int64_t raw = (int64_t)SG_GATHERED_PRODUCERS * (SG_GATHERED_AHEAD + 1) * gathered->stage_rows *
                  gathered->columns * 4;
    return gathered->stages * (stage + 16) + weights + raw + gathered->tile_n * 12 +
           gathered->tail.channel_loads * gathered->tile_n * 4 + 4 * (ROUND + 1 + 7) + 8;
}

bool sg_wgmma_gathered_measure(const sg_problem *problem, const sg_cuda_target *target,
                               const sg_cuda_plan *plan, sg_wgmma_gathered *gathered) {
    const int64_t *given = plan->parameter;
    const sg_convolution *convolution = &problem->convolution;
    *gathered = (sg_wgmma_gathered){
        .box_w = given[BOX_W],
        .box_d = sg_problem_walks(problem, 0) ? problem->size[SG_ROLE_D] : given[BOX_D],
        .consumers = given[CONSUMERS],
        .stages = given[STAGES],
    };
    if (gathered->box_w < 1 || gathered->box_w > 64 || gathered->box_d < 1 ||
        gathered->consumers < 1 || gathered->consumers > 4 || gathered->stages < 1 ||
        gathered->stages > STAGES_MAX || gathered->stages % SG_GATHERED_PRODUCERS != 0)
        return false;
    sg_cuda_get_tail_facts(problem, &gathered->tail);
    gathered->scales_at_end = scales_at_end(problem, &gathered->tail);
    gathered->parts = target->precision == SG_PRECISION_FP32 ? 2 : 1;
    gathered->turn = convolution->kernel[0];
    gathered->tile_n = sg_cuda_round_up(problem->size[SG_ROLE_C], 8);
    gathered->jobs_w = sg_cuda_pieces(problem->size[SG_ROLE_W], gathered->box_w);
    gathered->vector = sg_cuda_reads_columns(problem, target, 4) &&
                               (gathered->jobs_w == 1 || gathered->box_w % 4 == 0)
                           ? 4
                           : 1;
    gathered->lead = gathered->vector == 4 ? (4 - convolution->padding[2] % 4) % 4 : 0;
    gathered->columns =
        sg_cuda_round_up(gathered->lead + gathered->box_w + convolution->kernel[2] - 1, 32);
    gathered->pixels_w = sg_cuda_round_up(gathered->box_w, 16);
    if (gathered->columns > 64 || gathered->consumers * 64 % gathered->pixels_w != 0)
        return false;
    gathered->box_h = gathered->consumers * 64 / gathered->pixels_w;
    gathered->stage_rows = sg_cuda_round_up(
        (gathered->box_h + convolution->kernel[1] - 1) * convolution->in_channels, 4);
    if (gathered->stage_rows > 128)
        return false;
    measure_k(convolution, gathered);
    if (gathered->turn * gathered->tile_n > COLUMNS_MAX ||
        gathered->tile_n > 128 * gathered->consumers ||
        (gathered->parts == 2 && gathered->k > SUM_K))
        return false;
    gathered->threads = 128 * gathered->consumers + 32 * SG_GATHERED_PRODUCERS;
    gathered->shared = shared_bytes(gathered);
    gathered->jobs_d = sg_cuda_pieces(problem->size[SG_ROLE_D], gathered->box_d);
    gathered->jobs_h = sg_cuda_pieces(problem->size[SG_ROLE_H], gathered->box_h);
    gathered->jobs =
        problem->size[SG_ROLE_N] * gathered->jobs_d * gathered->jobs_h * gathered->jobs_w;
    return gathered->jobs < INT32_MAX / 8 && gathered->shared <= target->gpu.shared_block &&
           measure_registers(target, gathered);
}

/* ---- cost ---------------------------------------------------------------------------------- */

/* Cycles until the first product, at a job's end, for each sum at the end of a walk, of a slice
 * beside its instructions and products, and more for split operands; instructions of a consumer's
 * warp for a slice and of a producer's for a stage, and of one for four columns. Fitted, with the
 * factors below, to ten shapes on an H200. */
static const double PROLOGUE = 9000, BETWEEN_JOBS = 900, END_SUM = 60;
static const double SLICE = 60, SLICE_SPLIT = 100;
static const double CONSUMER = 30, PRODUCER = 60, FOUR = 24, FOUR_SPLIT = 48, FOUR_ALONE = 50;
/* Without a walk: of these cycles, which were fitted to walks; of a copy's rate, what is stored
 * reaches; and cycles of a multiprocessor for a value of rows that begin within sectors. */
static const double ALONE = 0.7, STORE_RATE = 0.6, PARTS = 0.38;
/* Other walks than minima and maxima along depth were measured too little. */
static const double UNSURE = 1.25;

static double cost(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    const sg_gpu *gpu = &target->gpu;
    sg_wgmma_gathered gathered;
    if (!sg_wgmma_gathered_measure(problem, target, plan, &gathered))
        return INFINITY;
    bool walk = sg_problem_walks(problem, 0), split = gathered.parts == 2;
    const sg_cuda_tail_facts *tail = &gathered.tail;
    double sums = (double)(gathered.tile_n / 2), consumers = (double)gathered.consumers;
    double value = gathered.scales_at_end ? 1
                   : walk                 ? 2.0 + 2.0 * tail->full_walks
                                          : 8.0 + 3.0 * tail->channel_reductions +
                                                12.0 * (tail->tile_stores + tail->tile_loads);
    double consumer = CONSUMER + 0.3 * (double)(gathered.parts * gathered.k) +
                      sums * ((double)gathered.turn - 1 + value);
    double fours = (double)(gathered.stage_rows * gathered.columns) / 4 / 32; /* of a lane */
    double producer =
        PRODUCER + fours * ((split ? FOUR_SPLIT : FOUR) + (gathered.vector == 1 ? FOUR_ALONE : 0));
    /* Of 64 pixels by 16 k: a cycle for two columns. */
    double products = consumers * (double)(gathered.k / 16) * (split ? 3 : 1) *
                      fmax((double)(gathered.turn * gathered.tile_n) / 2, 16);
    double issue = consumers * consumer + producer / 4; /* of each of four schedulers */
    double slice = SLICE + (split ? SLICE_SPLIT : 0) + 0.34 * products + 1.2 * issue;
    slice = fmax(slice, products);
    double job = slice * (double)(gathered.box_d + gathered.turn - 1) + BETWEEN_JOBS;
    if (walk)
        job += sums * END_SUM;
    double rounds = ceil((double)gathered.jobs / (double)gpu->multiprocessors);
    double clock = 1.1 * gpu->fp32 / (gpu->multiprocessors * 256.0);
    double compute = (PROLOGUE + rounds * job) / clock;
    double memory = problem->bytes / gpu->copy;
    if (walk)
        return gpu->launch + fmax(compute, memory) * (gathered.scales_at_end ? 1 : UNSURE);
    double parts = sg_cuda_splits_sectors(problem) ? sg_cuda_stored_values(problem) * PARTS : 0;
    return gpu->launch + fmax(compute * ALONE, memory / (tail->tile_stores ? STORE_RATE : 1)) +
           parts / (gpu->multiprocessors * clock);
}

/* ---- candidates ---------------------------------------------------------------------------- */

typedef struct search {
    const sg_problem *problem;
    const sg_cuda_target *target;
    sg_cuda_plan *plans;
    double costs[SG_CUDA_CANDIDATES_MAX];
    int count;
} search;

enum { KEPT_CANDIDATES = 16 };

/* As many stages as fit, of every producer as many: what a warp overwrites is then its own. */
static void consider_stages(search *found, sg_cuda_plan *plan) {
    for (int64_t stages = STAGES_MAX; stages > 0; stages -= SG_GATHERED_PRODUCERS) {
        plan->parameter[STAGES] = stages;
        double seconds = cost(found->problem, found->target, plan);
        if (isfinite(seconds)) {
            sg_cuda_keep_plan(plan, seconds, found->plans, found->costs, &found->count,
                              KEPT_CANDIDATES);
            return;
        }
    }
}

static void consider_depths(search *found, sg_cuda_plan *plan) {
    int64_t depth = found->problem->size[SG_ROLE_D];
    int64_t least = sg_problem_walks(found->problem, 0) || depth < 8 ? depth : 8;
    for (int64_t box_d = least > 0 ? least : 1;; box_d *= 2) {
        plan->parameter[BOX_D] = box_d < depth ? box_d : depth > 0 ? depth : 1;
        consider_stages(found, plan);
        if (box_d >= depth)
            break;
    }
}

static int candidates(const sg_problem *problem, const sg_cuda_target *target,
                      sg_cuda_plan *plans) {
    search found = {.problem = problem, .target = target, .plans = plans};
    const sg_convolution *convolution = &problem->convolution;
    int64_t lead = (4 - convolution->padding[2] % 4) % 4, width = problem->size[SG_ROLE_W];
    sg_cuda_plan plan = {0};
    for (int64_t consumers = 1; consumers <= 4; consumers++) {
        plan.parameter[CONSUMERS] = consumers;
        for (int64_t columns = 32; columns <= 64; columns += 32) {
            /* A row as a whole, or boxes that begin at a multiple of four columns. */
            int64_t most = columns - lead - convolution->kernel[2] + 1;
            int64_t box_w = width <= most ? width : most / 4 * 4;
            plan.parameter[BOX_W] = box_w > 0 ? box_w : 1;
            consider_depths(&found, &plan);
        }
    }
    return found.count;
}

static bool usable(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    sg_wgmma_gathered gathered;
    return sg_wgmma_gathered_measure(problem, target, plan, &gathered);
}

static const char *obstacle(const sg_problem *problem, const sg_cuda_target *target) {
    const sg_convolution *convolution = &problem->convolution;
    if (!problem->has_convolution)
        return "the region has no convolution";
    if (!target->gpu.wgmma)
        return "the GPU has no warpgroup products";
    if (problem->compute != SG_F32 || convolution->weight.dtype != SG_F32 ||
        convolution->input.dtype != SG_F32)
        return "the convolution's operands are not float32";
    if (convolution->groups != 1)
        return "the convolution has groups";
    for (int i = 0; i < SG_SPATIAL_MAX; i++) {
        if (convolution->stride[i] != 1 || convolution->dilation[i] != 1)
            return "the convolution has a stride or a dilation";
    }
    if (convolution->input.stride[SG_ROLE_W] != 1)
        return "columns of the input do not lie side by side";
    int64_t weights = convolution->in_channels * convolution->kernel[0] * convolution->kernel[1] *
                      convolution->kernel[2];
    if (target->precision == SG_PRECISION_FP32 && weights < SG_CUDA_FEW_PRODUCTS)
        return "sums of so few products round less on the cores that are not for matrices";
    if (weights > WEIGHTS_MAX)
        return "a channel has more than 512 weights";
    if (problem->walk & ~(1U << SG_ROLE_D))
        return "a reduction goes along another axis than depth";
    if (sg_cuda_image_reach(convolution) >= 1073741824.0) /* bytes are counted in 32 bits */
        return "an image has 2^30 elements or more";
    return NULL;
}

static bool applicable(const sg_problem *problem, const sg_cuda_target *target, char *reason) {
    const char *words = obstacle(problem, target);
    sg_cuda_plan plans[SG_CUDA_CANDIDATES_MAX];
    if (!words && candidates(problem, target, plans) == 0)
        words = "sums and operands do not fit a thread's registers";
    if (words)
        snprintf(reason, SG_REASON_MAX, "%s", words);
    return !words;
}

const sg_cuda_strategy sg_cuda_wgmma_gathered = {.name = "wgmma_gathered",
                                                 .parameters = parameters,
                                                 .applicable = applicable,
                                                 .candidates = candidates,
                                                 .usable = usable,
                                                 .cost = cost};
