#include "plan/cost.h"

#include <math.h>

/* Rates of a current server core. Only their ratios decide, and those hold from AVX2 desktops to
 * AVX-512 servers within the margin that PROFIT asks for (see api/compile.c). Measured with
 * bench/fma_peak.c and on the four example models. */
static const double CLOCK = 3e9;              /* cycles a second under vector load */
static const double CONTRACT_RATE = 0.85;     /* of the FMA peak, our contraction */
static const double HOST_CONTRACT_RATE = 0.6; /* oneDNN's, best case */
static const double CORE_BANDWIDTH = 12e9;    /* bytes a second to memory, one core streaming */
static const double LOAD_RATE = 1.0;          /* vectors a cycle through one tile instruction */
static const double PACK_RATE = 0.5;          /* vectors a cycle copied into a slab */
static const double ITEM_SECONDS = 0.4e-6;    /* starting one item */
static const double TILE_SECONDS = 0.05e-6;   /* decoding one instruction */
static const double CALL_SECONDS = 8e-6;      /* entering a program, waking threads */
static const double HOST_CALL_SECONDS = 5e-6; /* one PyTorch operator */

static double fma_vectors_per_second(const sg_target *target) {
    return CLOCK * sg_isa_get(target->isa)->fma_per_cycle;
}

/* ---- counts -------------------------------------------------------------------------------- */

static double ceil_divide(double a, double b) {
    return ceil(a / b);
}

double sg_slab_elements(const sg_problem *problem, const sg_cpu_plan *plan) {
    if (!problem->has_convolution)
        return 0;
    const sg_convolution *convolution = &problem->convolution;
    double elements = (double)convolution->in_channels;
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        int64_t stride = convolution->stride[axis], kernel = convolution->kernel[axis];
        int64_t reach = (kernel - 1) * convolution->dilation[axis];
        int64_t phases = stride < kernel ? stride : kernel;
        elements *= (double)(phases * (plan->box[axis] + reach / stride));
    }
    return elements;
}

double sg_padded_channels(const sg_problem *problem, const sg_target *target) {
    double channels = (double)problem->size[SG_ROLE_C];
    if (!problem->has_convolution)
        return channels;
    double groups = (double)problem->convolution.groups, per_group = channels / groups;
    /* Inside groups, narrower blocks make up the rest without padding, at their lower rate. */
    double block = per_group < target->block_channels ? 1 : target->block_channels;
    return groups * (groups > 1 ? per_group : ceil_divide(per_group, block) * block);
}

static bool walked(const sg_problem *problem, int axis) {
    return problem->walk >> (SG_ROLE_D + axis) & 1U;
}

sg_tiling sg_tile(const sg_problem *problem, const sg_target *target, const sg_cpu_plan *plan) {
    sg_tiling tiling = {.items = (double)problem->size[SG_ROLE_N], .steps = 1, .runs = 1};
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        double boxes =
            ceil_divide((double)problem->size[SG_ROLE_D + axis], (double)plan->box[axis]);
        *(walked(problem, axis) ? &tiling.steps : &tiling.items) *= boxes;
    }
    double pitch = (double)plan->box[2];
    if (problem->has_convolution) {
        const sg_convolution *convolution = &problem->convolution;
        pitch += (double)((convolution->kernel[2] - 1) * convolution->dilation[2] /
                          convolution->stride[2]);
    }
    double row = (double)plan->box[2];
    double pixels = problem->flat ? (double)(plan->box[1] - 1) * pitch + row : row;
    double runs = ceil_divide(pixels, (double)plan->run);
    tiling.run_vectors = ceil_divide(pixels, target->lanes) / runs;
    tiling.runs = runs * (double)plan->box[0] * (problem->flat ? 1 : (double)plan->box[1]);
    tiling.slab_elements = sg_slab_elements(problem, plan);
    return tiling;
}

/* Vectors that the tail's instructions touch per tile, and how many instructions there are. */
static void tail_work(const sg_problem *problem, double *tile_rows, double *instructions) {
    const sg_graph *graph = problem->region->graph;
    double channels = (double)problem->size[SG_ROLE_C];
    for (sg_value value = 0; value < graph->node_count; value++) {
        const sg_node *node = sg_graph_node(graph, value);
        const sg_op_info *info = sg_op_get(node->op);
        if (!problem->region->members[value].in || value == problem->region->anchor ||
            info->kind == SG_KIND_VIEW)
            continue;
        bool whole = sg_problem_domain(problem, value) >> SG_ROLE_C & 1U;
        bool reads_whole = info->kind == SG_KIND_REDUCTION || whole;
        /* The ulp column tells cheap operators from transcendental ones. */
        double weight = info->kind == SG_KIND_SOFTMAX ? 24 : info->ulp > 1 ? 16 : 1;
        *tile_rows += weight * (reads_whole ? channels : 1);
        *instructions += info->kind == SG_KIND_SOFTMAX ? 5 : 1;
    }
    for (int i = 0; i < problem->access_count; i++) {
        bool whole = problem->accesses[i].operand.domain >> SG_ROLE_C & 1U;
        bool run = problem->accesses[i].operand.domain & sg_problem_run_roles(problem);
        *tile_rows += !run ? 0 : whole ? channels : 1;
        *instructions += 1;
    }
    for (int i = 0; i < problem->output_count; i++) {
        *tile_rows += problem->outputs[i].domain >> SG_ROLE_C & 1U ? channels : 1;
        *instructions += 1;
    }
}

/* ---- plans --------------------------------------------------------------------------------- */

/* Products that the contraction makes for one tile, in vectors. */
static double contract_vectors(const sg_problem *problem, const sg_target *target, double vectors) {
    if (!problem->has_convolution)
        return 0;
    const sg_convolution *convolution = &problem->convolution;
    double products = (double)(convolution->in_channels / convolution->groups);
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++)
        products *= (double)convolution->kernel[axis];
    double channels = sg_padded_channels(problem, target);
    double rate = CONTRACT_RATE;
    /* Short rows leave accumulators idle; few channels a group make loads the limit. */
    double per_group = (double)problem->size[SG_ROLE_C] / (double)convolution->groups;
    double filled = fmin(1, vectors / target->block_vectors);
    rate *= 0.4 + 0.6 * filled;
    rate *= fmin(1, 0.35 + 0.65 * per_group / target->block_channels);
    return products * channels * vectors / rate;
}

/* Adding register sums to the tile, in vectors. */
static double sum_vectors(const sg_problem *problem, const sg_target *target,
                          const sg_cpu_plan *plan, double vectors) {
    if (!problem->has_convolution)
        return 0;
    const sg_convolution *convolution = &problem->convolution;
    double taps =
        (double)(convolution->kernel[0] * convolution->kernel[1] * convolution->kernel[2]);
    double channels = (double)(convolution->in_channels / convolution->groups);
    double chunk = fmin((double)plan->chunk, channels);
    double sums = ceil_divide(channels, chunk) * ceil_divide(chunk * taps, (double)plan->sum);
    return sums * sg_padded_channels(problem, target) * vectors;
}

double sg_cost_plan(const sg_problem *problem, const sg_target *target, const sg_cpu_plan *plan) {
    sg_tiling tiling = sg_tile(problem, target, plan);
    double tile_rows = 0, instructions = 0;
    tail_work(problem, &tile_rows, &instructions);
    double contract = contract_vectors(problem, target, tiling.run_vectors);
    double tile =
        contract / fma_vectors_per_second(target) +
        (tile_rows * tiling.run_vectors + sum_vectors(problem, target, plan, tiling.run_vectors)) /
            (LOAD_RATE * CLOCK) +
        instructions * TILE_SECONDS;
    double pack = tiling.slab_elements / target->lanes / (PACK_RATE * CLOCK);
    double item = tiling.steps * (tiling.runs * tile + pack) + ITEM_SECONDS;
    double rounds = ceil_divide(tiling.items, target->threads);
    double weights = 0;
    if (problem->has_convolution) {
        const sg_convolution *convolution = &problem->convolution;
        weights = sg_padded_channels(problem, target);
        for (int axis = 0; axis < SG_SPATIAL_MAX; axis++)
            weights *= (double)convolution->kernel[axis];
        weights *= (double)(convolution->in_channels / convolution->groups);
        weights /= CLOCK * target->threads;
    }
    double compute = rounds * item + weights;
    double memory = problem->bytes / (CORE_BANDWIDTH * target->threads);
    return CALL_SECONDS + fmax(compute, memory) + 0.3 * fmin(compute, memory);
}

/* ---- the host ------------------------------------------------------------------------------ */

static double value_bytes(const sg_graph *graph, sg_value value) {
    const sg_type *type = &sg_graph_node(graph, value)->type;
    double bytes = (double)sg_dtype_size(type->dtype);
    for (int dim = 0; dim < type->rank; dim++)
        bytes *= (double)type->size[dim];
    return bytes;
}

double sg_cost_host(const sg_problem *problem, const sg_target *target) {
    const sg_graph *graph = problem->region->graph;
    double seconds = 0, bandwidth = CORE_BANDWIDTH * target->threads;
    for (sg_value value = 0; value < graph->node_count; value++) {
        const sg_node *node = sg_graph_node(graph, value);
        if (!problem->region->members[value].in || sg_op_get(node->op)->kind == SG_KIND_VIEW)
            continue;
        double bytes = value_bytes(graph, value);
        for (int i = 0; i < node->operand_count; i++)
            bytes += node->operands[i] < 0 ? 0 : value_bytes(graph, node->operands[i]);
        seconds += HOST_CALL_SECONDS + bytes / bandwidth;
        if (value == problem->region->anchor)
            seconds += problem->flops / (2.0 * target->lanes) /
                       (fma_vectors_per_second(target) * HOST_CONTRACT_RATE * target->threads);
    }
    return seconds;
}
