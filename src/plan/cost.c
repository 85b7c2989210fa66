#include "plan/cost.h"

#include <math.h>

/* Rates of a current server core. Only their ratios decide, and those hold from AVX2 desktops to
 * AVX-512 servers within the margin that PROFIT asks for (see api/compile.c). From
 * bench/contraction.c and from bench/survey.py, which prints what was expected beside what was
 * measured. */
static const double CLOCK = 3e9;             /* cycles a second under vector load */
static const double CONTRACT_RATE = 0.9;     /* of the FMA peak, our contraction */
static const double CALL_CYCLES = 60;        /* one call of the contraction */
static const double PLANE_CYCLES = 40;       /* one plane packed into a slab, however small */
static const double PIECE_CYCLES = 10;       /* a stored or loaded piece of a row, however short */
static const double FOLD_CYCLES = 60;        /* a row reduced along the run, */
static const double FOLD_RATE = 4;           /* and each of its vectors */
static const double LOAD_RATE = 1.0;         /* vectors a cycle through one tile instruction */
static const double PACK_RATE = 0.5;         /* vectors a cycle copied into a slab */
static const double ITEM_SECONDS = 0.4e-6;   /* starting one item */
static const double TILE_SECONDS = 0.05e-6;  /* decoding one instruction */
static const double PROGRAM_SECONDS = 5e-6;  /* entering a program, calling threads */
static const double MEMORY_BANDWIDTH = 12e9; /* bytes a second and core, streaming */
static const double CACHE_BANDWIDTH = 40e9;  /* the same while all fits the last cache */
/* The host, PyTorch with oneDNN. */
static const double HOST_F32_RATE = 0.7;  /* of the FMA peak, where channels fill vectors */
static const double HOST_F64_RATE = 0.2;  /* no oneDNN: im2col and a matrix product */
static const double HOST_HALF_RATE = 1.6; /* of the f32 peak, by the processor's own dot products */
static const double HOST_FEW_HALVES = 1.35; /* where there are fewer than fill vectors of halves */
static const double HOST_EMULATED_RATE = 0.05;      /* of the f32 peak, half types without them */
static const double HOST_CALL_SECONDS = 4e-6;       /* one operator */
static const double HOST_PRIMITIVE_SECONDS = 35e-6; /* a convolution that goes to oneDNN */
static const double HOST_FRESH_BYTE = 0.3e-9;       /* a byte of a new large result: page faults */
static const double FRESH_LIMIT = 32 << 20; /* bytes; smaller results come from a warm heap */

/* Vector cycles an element of a pointwise operator takes; the ulp column tells cheap operators from
 * transcendental ones, and those from compositions of several. */
static double weight_of(const sg_op_info *info) {
    return info->kind == SG_KIND_SOFTMAX ? 24 : info->ulp > 2 ? 36 : info->ulp > 1 ? 16 : 1;
}

/* The same for PyTorch, whose gelu takes 13 and whose tanh over 100: nearer to the fast ones, so
 * that a region is not taken for what PyTorch may do better elsewhere. */
static double host_weight_of(const sg_op_info *info) {
    return info->kind == SG_KIND_SOFTMAX ? 24 : info->ulp > 1 ? 16 : 1;
}

/* Seconds to move bytes once. */
static double traffic(const sg_target *target, double bytes) {
    bool cached = bytes <= (double)target->cpu->l3_bytes / 2;
    return bytes / ((cached ? CACHE_BANDWIDTH : MEMORY_BANDWIDTH) * target->threads);
}

static double fma_vectors_per_second(const sg_target *target) {
    return CLOCK * sg_isa_get(target->isa)->fma_per_cycle;
}

/* ---- counts -------------------------------------------------------------------------------- */

static double ceil_divide(double a, double b) {
    return ceil(a / b);
}

static bool in_pairs(const sg_problem *problem, const sg_target *target) {
    return target->pairs && sg_problem_pairs(problem);
}

double sg_slab_depth(const sg_problem *problem, const sg_target *target) {
    return (double)sg_convolution_depth(&problem->convolution, in_pairs(problem, target));
}

double sg_slab_elements(const sg_problem *problem, const sg_target *target,
                        const sg_cpu_plan *plan) {
    if (!problem->has_convolution)
        return 0;
    const sg_convolution *convolution = &problem->convolution;
    double elements = sg_slab_depth(problem, target) * (double)convolution->groups;
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

sg_tiling sg_tile(const sg_problem *problem, const sg_target *target, const sg_cpu_plan *plan) {
    sg_tiling tiling = {.items = (double)problem->size[SG_ROLE_N], .steps = 1, .runs = 1};
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        double boxes =
            ceil_divide((double)problem->size[SG_ROLE_D + axis], (double)plan->box[axis]);
        *(sg_problem_walks(problem, axis) ? &tiling.steps : &tiling.items) *= boxes;
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
    tiling.kept_runs = runs;
    tiling.slab_elements = sg_slab_elements(problem, target, plan);
    return tiling;
}

/* The tail's work on one tile: vectors touched per vector of its run, instructions, and rows that
 * are stored, loaded or reduced along the run one by one. */
typedef struct sg_tail {
    double rows, instructions, moved, folded;
} sg_tail;

/* Whether a node's work is done after the walk. A reduction that walks is known then, but works on
 * every tile. */
static bool works_after_walk(const sg_problem *problem, sg_value value) {
    const sg_node *node = sg_graph_node(problem->region->graph, value);
    const sg_member *members = problem->region->members;
    if (!members[value].after_walk)
        return false;
    return sg_op_get(node->op)->kind != SG_KIND_REDUCTION || members[node->operands[0]].after_walk;
}

static double rows_of(const sg_problem *problem, unsigned domain) {
    return domain >> SG_ROLE_C & 1U ? (double)problem->size[SG_ROLE_C] : 1;
}

/* Adds up what runs for every tile, and what runs after the walk. */
static void tail_work(const sg_problem *problem, sg_tail *tile, sg_tail *after) {
    const sg_graph *graph = problem->region->graph;
    for (sg_value value = 0; value < graph->node_count; value++) {
        const sg_node *node = sg_graph_node(graph, value);
        const sg_op_info *info = sg_op_get(node->op);
        if (!problem->region->members[value].in || value == problem->region->anchor ||
            info->kind == SG_KIND_VIEW)
            continue;
        sg_tail *tail = works_after_walk(problem, value) ? after : tile;
        double rows = info->kind == SG_KIND_REDUCTION
                          ? (double)problem->size[SG_ROLE_C]
                          : rows_of(problem, sg_problem_domain(problem, value));
        tail->rows += weight_of(info) * rows;
        bool folds = problem->walk >> SG_ROLE_W & 1U && info->kind == SG_KIND_REDUCTION;
        tail->folded += folds ? rows_of(problem, sg_problem_domain(problem, node->operands[0])) : 0;
        tail->instructions += info->kind == SG_KIND_SOFTMAX ? 5 : 1;
    }
    for (int i = 0; i < problem->access_count; i++) {
        const sg_access *access = &problem->accesses[i];
        sg_tail *tail = works_after_walk(problem, access->node) ? after : tile;
        bool run = access->operand.domain & sg_problem_run_roles(problem);
        tail->rows += run ? rows_of(problem, access->operand.domain) : 0;
        tail->moved += run ? rows_of(problem, access->operand.domain) : 0;
        tail->instructions += 1;
    }
    for (int i = 0; i < problem->output_count; i++) {
        bool late = problem->region->members[graph->outputs[i]].after_walk;
        sg_tail *tail = late ? after : tile;
        tail->rows += rows_of(problem, problem->outputs[i].domain);
        tail->moved += rows_of(problem, problem->outputs[i].domain);
        tail->instructions += 1;
    }
}

/* pieces: rows of the image in a run. */
static double tail_seconds(const sg_tail *tail, double vectors, double pieces) {
    double cycles = tail->rows * vectors / LOAD_RATE + tail->moved * pieces * PIECE_CYCLES +
                    tail->folded * (FOLD_CYCLES + vectors * FOLD_RATE);
    return cycles / CLOCK + tail->instructions * TILE_SECONDS;
}

/* ---- plans --------------------------------------------------------------------------------- */

/* Products that the contraction makes for one tile, in vectors. */
static double contract_vectors(const sg_problem *problem, const sg_target *target, double vectors) {
    if (!problem->has_convolution)
        return 0;
    const sg_convolution *convolution = &problem->convolution;
    double products = sg_slab_depth(problem, target);
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++)
        products *= (double)convolution->kernel[axis];
    double channels = sg_padded_channels(problem, target);
    double rate = CONTRACT_RATE;
    /* Short rows leave accumulators idle; few channels a group make loads the limit. */
    double per_group = (double)problem->size[SG_ROLE_C] / (double)convolution->groups;
    double filled = fmin(1, vectors / target->block_vectors);
    rate *= 0.4 + 0.6 * filled;
    rate *= fmin(1, 0.35 + 0.65 * per_group / target->block_channels);
    double width = fmin(per_group, target->block_channels);
    double calls = channels / width * ceil_divide(vectors, target->block_vectors);
    return products * channels * vectors / rate +
           calls * CALL_CYCLES * sg_isa_get(target->isa)->fma_per_cycle;
}

/* Adding register sums to the tile, in vectors. */
static double sum_vectors(const sg_problem *problem, const sg_target *target,
                          const sg_cpu_plan *plan, double vectors) {
    if (!problem->has_convolution)
        return 0;
    const sg_convolution *convolution = &problem->convolution;
    double taps =
        (double)(convolution->kernel[0] * convolution->kernel[1] * convolution->kernel[2]);
    double channels = sg_slab_depth(problem, target);
    double chunk = fmin((double)plan->chunk, channels);
    double sum = (double)plan->sum / (in_pairs(problem, target) ? 2 : 1);
    double sums = ceil_divide(channels, chunk) * ceil_divide(chunk * taps, sum);
    return sums * sg_padded_channels(problem, target) * vectors;
}

static double planes_of(const sg_problem *problem, const sg_target *target,
                        const sg_cpu_plan *plan) {
    if (!problem->has_convolution)
        return 0;
    const sg_convolution *convolution = &problem->convolution;
    double planes = sg_slab_depth(problem, target) *
                    (double)(convolution->groups * (plan->box[0] + convolution->kernel[0] - 1));
    for (int axis = 1; axis < SG_SPATIAL_MAX; axis++)
        planes *= (double)(convolution->stride[axis] < convolution->kernel[axis]
                               ? convolution->stride[axis]
                               : convolution->kernel[axis]);
    return planes;
}

double sg_cost_plan(const sg_problem *problem, const sg_target *target, const sg_cpu_plan *plan) {
    sg_tiling tiling = sg_tile(problem, target, plan);
    sg_tail on_tile = {0}, after = {0};
    tail_work(problem, &on_tile, &after);
    double pieces = ceil_divide(tiling.run_vectors * target->lanes, (double)plan->box[2]);
    double tile =
        contract_vectors(problem, target, tiling.run_vectors) / fma_vectors_per_second(target) +
        sum_vectors(problem, target, plan, tiling.run_vectors) / (LOAD_RATE * CLOCK) +
        tail_seconds(&on_tile, tiling.run_vectors, pieces);
    double pack = (tiling.slab_elements / target->lanes / PACK_RATE +
                   planes_of(problem, target, plan) * PLANE_CYCLES) /
                  CLOCK;
    bool kept = !(problem->walk >> SG_ROLE_W & 1U); /* else one tile without a run is left */
    double late = kept ? tiling.kept_runs * tail_seconds(&after, tiling.run_vectors, pieces)
                       : tail_seconds(&after, 1, 1);
    double item = tiling.steps * (tiling.runs * tile + pack) + late + ITEM_SECONDS;
    double rounds = ceil_divide(tiling.items, target->threads);
    double weights = 0;
    if (problem->has_convolution) {
        const sg_convolution *convolution = &problem->convolution;
        weights = sg_padded_channels(problem, target);
        for (int axis = 0; axis < SG_SPATIAL_MAX; axis++)
            weights *= (double)convolution->kernel[axis];
        weights *= sg_slab_depth(problem, target);
        weights /= CLOCK * target->threads;
    }
    double compute = rounds * item + weights;
    double memory = traffic(target, problem->bytes);
    return PROGRAM_SECONDS + fmax(compute, memory) + 0.3 * fmin(compute, memory);
}

/* ---- the host ------------------------------------------------------------------------------ */

static double value_bytes(const sg_graph *graph, sg_value value) {
    const sg_type *type = &sg_graph_node(graph, value)->type;
    double bytes = (double)sg_dtype_size(type->dtype);
    for (int dim = 0; dim < type->rank; dim++)
        bytes *= (double)type->size[dim];
    return bytes;
}

static double elements(const sg_graph *graph, sg_value value) {
    const sg_type *type = &sg_graph_node(graph, value)->type;
    return value_bytes(graph, value) / (double)sg_dtype_size(type->dtype);
}

static double host_rate(sg_dtype dtype, const sg_target *target) {
    bool native = dtype == SG_BF16 ? target->cpu->native_bf16 : target->cpu->native_f16;
    if (dtype == SG_F32 || dtype == SG_F64)
        return dtype == SG_F32 ? HOST_F32_RATE : HOST_F64_RATE;
    return native ? HOST_HALF_RATE : HOST_EMULATED_RATE;
}

/* oneDNN computes whole vectors of channels on both sides and takes its time to begin; PyTorch
 * spares small single images that beginning. With few input channels it does better, in three
 * dimensions worse. */
static double host_convolution(const sg_problem *problem, const sg_target *target) {
    const sg_convolution *convolution = &problem->convolution;
    double lanes = target->lanes, groups = (double)convolution->groups;
    double in = (double)convolution->in_channels / groups;
    double out = (double)problem->size[SG_ROLE_C] / groups;
    double padded = ceil_divide(out, lanes) * lanes / out;
    bool deep = convolution->kernel[0] > 1;
    padded *= in >= lanes ? ceil_divide(in, lanes) * lanes / in : deep ? 2 : 1.2;
    if (sg_dtype_size(convolution->input.dtype) == 2 && in < 2 * lanes && !deep)
        padded *= HOST_FEW_HALVES;
    if (in == 1 && out == 1) /* depthwise has a kernel of its own, limited by loads */
        padded = 4;
    double image = (double)convolution->in_channels;
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++)
        image *= (double)convolution->in_size[axis];
    bool primitive =
        problem->size[SG_ROLE_N] > 1 || groups > 1 || image > 20480 || convolution->kernel[2] > 3;
    double seconds = problem->flops * padded / (2 * lanes) /
                     (fma_vectors_per_second(target) * host_rate(convolution->input.dtype, target) *
                      target->threads);
    return seconds + (primitive ? HOST_PRIMITIVE_SECONDS : 0);
}

double sg_cost_host(const sg_problem *problem, const sg_target *target) {
    const sg_graph *graph = problem->region->graph;
    double seconds = 0;
    for (sg_value value = 0; value < graph->node_count; value++) {
        const sg_node *node = sg_graph_node(graph, value);
        const sg_op_info *info = sg_op_get(node->op);
        if (!problem->region->members[value].in || info->kind == SG_KIND_VIEW)
            continue;
        double result = value_bytes(graph, value), bytes = result, work = 0;
        for (int i = 0; i < node->operand_count; i++)
            bytes += node->operands[i] < 0 ? 0 : value_bytes(graph, node->operands[i]);
        if (value == problem->region->anchor)
            seconds += host_convolution(problem, target);
        else
            work = elements(graph, value) * host_weight_of(info) / target->lanes /
                   (CLOCK * target->threads);
        seconds += HOST_CALL_SECONDS + fmax(work, traffic(target, bytes));
        seconds += result > FRESH_LIMIT ? result * HOST_FRESH_BYTE : 0;
    }
    return seconds;
}
