#include "plan/cuda/block.h"

#include "plan/cuda/facts.h"

static bool walks(const sg_problem *problem, int role) {
    return problem->walk >> role & 1U;
}

int64_t sg_cuda_kept_pixels(const sg_problem *problem) {
    int64_t pixels = 1;
    for (int role = 0; role < SG_ROLE_COUNT; role++)
        pixels *= role == SG_ROLE_C || walks(problem, role) ? 1 : problem->size[role];
    return pixels;
}

int64_t sg_cuda_walk_length(const sg_problem *problem) {
    int64_t steps = 1;
    for (int role = 0; role < SG_ROLE_COUNT; role++)
        steps *= walks(problem, role) ? problem->size[role] : 1;
    return steps;
}

bool sg_cuda_may_share_walk(const sg_problem *problem) {
    unsigned stored = 0;
    for (int i = 0; i < problem->output_count; i++)
        stored |= problem->outputs[i].domain;
    return problem->walk && !(stored & problem->walk);
}

int64_t sg_cuda_block_grid(const sg_problem *problem, const sg_cuda_block *block) {
    int64_t tile = block->lanes * block->pixels, units;
    if (block->box_columns > 0) {
        int64_t slices = walks(problem, SG_ROLE_D) ? 1 : problem->size[SG_ROLE_D];
        units = problem->size[SG_ROLE_N] * slices *
                sg_cuda_pieces(problem->size[SG_ROLE_H], tile / block->box_columns) *
                sg_cuda_pieces(problem->size[SG_ROLE_W], block->box_columns);
    } else {
        int64_t unit = block->vector_walk ? 1 : block->shared_walk ? block->pixels : tile;
        units = sg_cuda_pieces(sg_cuda_kept_pixels(problem), unit);
    }
    return units * block->channel_tiles;
}

int64_t sg_cuda_block_scratch(const sg_cuda_block *block) {
    int64_t warp_groups = 32 / block->warp_lanes, group_warps = block->groups / warp_groups;
    int64_t reduce = group_warps > 1 && !block->group_walk
                         ? (group_warps + 1) * block->lanes * block->pixels
                         : 0;
    int64_t join = block->shared_walk  ? block->lanes / block->warp_lanes * block->groups
                   : block->group_walk ? group_warps * block->lanes
                                       : 0;
    join *= 2; /* what additions rounded away, too */
    return (reduce > join ? reduce : join) + 1;
}

/* ---- vectors ------------------------------------------------------------------------------- */

bool sg_cuda_moves_at_once(const sg_problem *problem, const sg_operand *operand, int role,
                           int64_t count, const sg_cuda_target *target) {
    int64_t bytes = count * sg_dtype_size(operand->dtype);
    if (problem->size[role] % count != 0 || operand->stride[role] != 1 ||
        (bytes > 16 ? 16 : bytes) > target->alignment)
        return false;
    for (int other = 0; other < SG_ROLE_COUNT; other++) {
        if (other != role && operand->stride[other] % count != 0)
            return false;
    }
    return true;
}

/* The most neighbours of any tensor along role that fit 16 bytes. */
static int64_t most(int64_t count, const sg_operand *operand, int role) {
    int64_t fits = 16 / sg_dtype_size(operand->dtype);
    fits = fits > 8 ? 8 : fits;
    return operand->domain >> role & 1U && fits < count ? fits : count;
}

static bool decides(const sg_operand *operand, int role) {
    unsigned pixels = operand->domain & ~(1U << SG_ROLE_C);
    return operand->domain >> role & 1U && pixels;
}

static int64_t vector_along(const sg_problem *problem, const sg_cuda_target *target, int role,
                            bool all) {
    int64_t count = 8;
    for (int i = 0; i < problem->access_count; i++)
        count = most(count, &problem->accesses[i].operand, role);
    for (int i = 0; i < problem->output_count; i++)
        count = most(count, &problem->outputs[i], role);
    for (; count > 1; count /= 2) {
        int able = 0, unable = 0;
        for (int i = 0; i < problem->access_count + problem->output_count; i++) {
            const sg_operand *operand = i < problem->access_count
                                            ? &problem->accesses[i].operand
                                            : &problem->outputs[i - problem->access_count];
            if (decides(operand, role))
                (*(sg_cuda_moves_at_once(problem, operand, role, count, target) ? &able
                                                                                : &unable))++;
        }
        if (able && !(all && unable))
            return count;
    }
    return 1;
}

int64_t sg_cuda_pixel_vector(const sg_problem *problem, const sg_cuda_target *target) {
    return walks(problem, SG_ROLE_W) ? 1 : vector_along(problem, target, SG_ROLE_W, false);
}

int64_t sg_cuda_channel_vector(const sg_problem *problem, const sg_cuda_target *target) {
    return vector_along(problem, target, SG_ROLE_C, true);
}

int64_t sg_cuda_walk_vector(const sg_problem *problem, const sg_cuda_target *target) {
    return walks(problem, SG_ROLE_W) ? vector_along(problem, target, SG_ROLE_W, true) : 1;
}

bool sg_cuda_lanes_are_neighbours(const sg_problem *problem, const sg_cuda_block *block) {
    /* Pixels are counted, and walks made, from the innermost axis on. */
    int role = SG_ROLE_W;
    while (role > SG_ROLE_N && (role == SG_ROLE_C || problem->size[role] == 1 ||
                                walks(problem, role) != block->shared_walk))
        role--;
    for (int i = 0; i < problem->access_count; i++) {
        const sg_operand *operand = &problem->accesses[i].operand;
        if (operand->domain >> role & 1U && problem->size[role] > 1 && operand->stride[role] != 1)
            return false;
    }
    return true;
}

bool sg_cuda_strides_far(const sg_problem *problem) {
    for (int i = 0; i < problem->access_count; i++) {
        const sg_operand *operand = &problem->accesses[i].operand;
        if (decides(operand, SG_ROLE_C) && operand->stride[SG_ROLE_C] == 1 &&
            problem->size[SG_ROLE_W] > 1)
            return true;
    }
    return false;
}

/* ---- candidates ---------------------------------------------------------------------------- */

void sg_cuda_keep_plan(const sg_cuda_plan *plan, double cost, sg_cuda_plan *plans, double *costs,
                       int *count, int capacity) {
    int at = *count;
    if (at == capacity && cost >= costs[capacity - 1])
        return;
    at = at == capacity ? capacity - 1 : (*count)++;
    for (; at > 0 && costs[at - 1] > cost; at--) {
        costs[at] = costs[at - 1];
        plans[at] = plans[at - 1];
    }
    costs[at] = cost;
    plans[at] = *plan;
}
