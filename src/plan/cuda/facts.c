#include "plan/cuda/facts.h"

#include <math.h>

/* A single channel is none to a tail. */
static bool roles_have_channels(const sg_problem *problem, unsigned roles) {
    return roles >> SG_ROLE_C & 1U && problem->size[SG_ROLE_C] != 1;
}

static bool has_channels(const sg_problem *problem, sg_value value) {
    return roles_have_channels(problem, sg_problem_domain(problem, value));
}

/* A softmax works over the channels, or else over a dimension of size 1. */
static bool softmax_over_channels(const sg_problem *problem, sg_value value) {
    const sg_region *region = problem->region;
    unsigned over = sg_node_axes(region->graph, value);
    for (int dim = 0; dim < sg_graph_node(region->graph, value)->type.rank; dim++) {
        if (over >> dim & 1U && region->members[value].dims[dim].count > 0)
            return true;
    }
    return false;
}

static bool operand_has_channels(const sg_problem *problem, sg_value value) {
    sg_value operand = sg_graph_node(problem->region->graph, value)->operands[0];
    if (problem->region->members[operand].in)
        return has_channels(problem, operand);
    for (int i = 0; i < problem->access_count; i++) {
        if (problem->accesses[i].node == value)
            return roles_have_channels(problem, problem->accesses[i].operand.domain);
    }
    return false;
}

static void count_reduction(const sg_problem *problem, sg_value value, sg_cuda_tail_facts *facts) {
    const sg_region *region = problem->region;
    const sg_node *node = sg_graph_node(region->graph, value);
    const sg_member *members = region->members;
    sg_value operand = node->operands[0];
    if (operand_has_channels(problem, value) && !has_channels(problem, value))
        facts->channel_reductions += node->op == SG_OP_logsumexp ? 2 : 1;
    bool walked =
        members[value].after_walk && !(members[operand].in && members[operand].after_walk);
    if (walked && node->op != SG_OP_logsumexp) {
        int slots = node->op == SG_OP_sum || node->op == SG_OP_mean ? 2 : 1;
        *(has_channels(problem, value) ? &facts->full_walks : &facts->own_walks) += slots;
    }
}

double sg_cuda_op_work(sg_op op) {
    int ulp = sg_op_get(op)->ulp;
    return ulp > 2 ? 60 : ulp == 2 ? 24 : 2;
}

void sg_cuda_get_tail_facts(const sg_problem *problem, sg_cuda_tail_facts *facts) {
    const sg_region *region = problem->region;
    *facts = (sg_cuda_tail_facts){.channel_reductions = 0};
    for (sg_value value = 0; value < region->graph->node_count; value++) {
        if (!region->members[value].in)
            continue;
        sg_kind kind = sg_op_get(sg_graph_node(region->graph, value)->op)->kind;
        if (kind == SG_KIND_SOFTMAX && softmax_over_channels(problem, value) &&
            problem->size[SG_ROLE_C] != 1)
            facts->channel_reductions += 2;
        /* The tail takes an only channel off the anchor first. */
        if (kind == SG_KIND_CONTRACTION && problem->size[SG_ROLE_C] == 1)
            facts->channel_reductions++;
        if (kind == SG_KIND_REDUCTION)
            count_reduction(problem, value, facts);
        if (kind == SG_KIND_POINTWISE && has_channels(problem, value))
            facts->work += sg_cuda_op_work(sg_graph_node(region->graph, value)->op);
    }
    for (int i = 0; i < problem->output_count; i++)
        (*(roles_have_channels(problem, problem->outputs[i].domain) ? &facts->tile_stores
                                                                    : &facts->pixel_stores))++;
    for (int i = 0; i < problem->access_count; i++) {
        unsigned domain = problem->accesses[i].operand.domain;
        bool alone = domain == 1U << SG_ROLE_C;
        facts->channel_loads += roles_have_channels(problem, domain) && alone;
        facts->tile_loads += roles_have_channels(problem, domain) && !alone;
    }
    facts->splits_channels = facts->channel_reductions == 0;
}

double sg_cuda_moved_bytes(const sg_problem *problem) {
    const sg_convolution *convolution = &problem->convolution;
    double input = (double)sg_dtype_size(convolution->input.dtype) *
                   (double)(problem->size[SG_ROLE_N] * convolution->in_channels);
    double read = input;
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        int64_t taps = convolution->kernel[axis], stride = convolution->stride[axis];
        double size = (double)convolution->in_size[axis];
        double met = (double)(problem->size[SG_ROLE_D + axis] * (taps < stride ? taps : stride));
        input *= size;
        read *= axis == SG_SPATIAL_MAX - 1 || met > size ? size : met;
    }
    return problem->bytes - input + read;
}

double sg_cuda_stored_values(const sg_problem *problem) {
    double stored = 0;
    for (int i = 0; i < problem->output_count; i++) {
        double values = roles_have_channels(problem, problem->outputs[i].domain) ? 1 : 0;
        for (int role = 0; role < SG_ROLE_COUNT; role++) {
            if (problem->outputs[i].domain >> role & 1U)
                values *= (double)problem->size[role];
        }
        stored += values;
    }
    return stored;
}

bool sg_cuda_splits_sectors(const sg_problem *problem) {
    enum { SECTOR = 8 }; /* floats */
    for (int i = 0; i < problem->output_count; i++) {
        const sg_operand *output = &problem->outputs[i];
        if (output->dtype != SG_F32 || !roles_have_channels(problem, output->domain))
            continue;
        for (int role = 0; role < SG_ROLE_W; role++) {
            if (problem->size[role] > 1 && output->stride[role] % SECTOR != 0)
                return true;
        }
    }
    return false;
}

bool sg_cuda_reads_columns(const sg_problem *problem, const sg_cuda_target *target, int64_t count) {
    const sg_convolution *convolution = &problem->convolution;
    const int64_t *stride = convolution->input.stride;
    if (convolution->in_size[2] % count != 0 || stride[SG_ROLE_W] != 1 ||
        count * sg_dtype_size(convolution->input.dtype) > target->alignment)
        return false;
    for (int role = 0; role < SG_ROLE_W; role++) {
        if (stride[role] % count != 0)
            return false;
    }
    return true;
}

double sg_cuda_image_reach(const sg_convolution *convolution) {
    double reach = (double)convolution->in_channels * fabs((double)convolution->input.stride[1]);
    for (int i = 0; i < SG_SPATIAL_MAX; i++)
        reach += (double)(convolution->in_size[i] + 2 * convolution->padding[i] + 256) *
                 fabs((double)convolution->input.stride[SG_ROLE_D + i]);
    return reach;
}
