#include "gen/cuda/block.h"

#include "plan/cuda/facts.h"

void sg_cuda_write_constants(const sg_cuda_constant *constants, int count, sg_text *text) {
    for (int i = 0; i < count; i++)
        sg_text_add(text, "constexpr int %s = %lld;\n", constants[i].name,
                    (long long)constants[i].value);
}

const char *sg_cuda_real(const sg_problem *problem) {
    return problem->compute == SG_F64 ? "using real = double;\n" : "using real = float;\n";
}

static int64_t walks(const sg_problem *problem, int role) {
    return problem->walk >> role & 1U;
}
static int64_t has(const sg_problem *problem, int role) {
    return problem->size[role] != 1;
}

static bool rows_aligned(const sg_problem *problem, const sg_cuda_target *target,
                         const sg_cuda_block *block) {
    for (int i = 0; i < problem->access_count; i++) {
        const sg_operand *operand = &problem->accesses[i].operand;
        if (operand->stride[SG_ROLE_W] == 1 &&
            !sg_cuda_moves_at_once(problem, operand, SG_ROLE_W, block->pixel_vector, target))
            return false;
    }
    return true;
}

void sg_cuda_write_block(const sg_problem *problem, const sg_cuda_target *target,
                         const sg_cuda_block *block, int kept, sg_text *text) {
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    int64_t pixels = sg_cuda_kept_pixels(problem), steps = sg_cuda_walk_length(problem);
    /* Less the excess of the last block and the last step. */
    int64_t few = (INT64_C(1) << 31) - (INT64_C(1) << 20);
    sg_text_add(text, "typedef %s index_t; // counts pixels\n",
                pixels < few && steps < few ? "unsigned" : "unsigned long long");
    const sg_cuda_constant constants[] = {
        {"LANES", block->lanes},
        {"GROUPS", block->groups},
        {"WARP_LANES", block->warp_lanes},
        {"GROUPS_FIRST", block->groups_first},
        {"THREAD_PIXELS", block->pixels},
        {"RUN", block->run},
        {"PIXEL_VECTOR", block->pixel_vector},
        {"ROWS_ALIGNED", rows_aligned(problem, target, block)},
        {"THREAD_CHANNELS", block->channels},
        {"BUNCH", block->bunch},
        {"CHANNEL_VECTOR", block->channel_vector},
        {"ALL_CHANNELS", problem->size[SG_ROLE_C]},
        {"CHANNEL_TILES", block->channel_tiles},
        {"SHARED_WALK", block->shared_walk},
        {"GROUP_WALK", block->group_walk},
        {"VECTOR_WALK", block->vector_walk},
        {"BOX_COLUMNS", block->box_columns},
        {"LEAST_BLOCKS", block->least_blocks},
        {"HAS_N", has(problem, SG_ROLE_N)},
        {"HAS_D", has(problem, SG_ROLE_D)},
        {"HAS_H", has(problem, SG_ROLE_H)},
        {"HAS_W", has(problem, SG_ROLE_W)},
        {"WALK_D", walks(problem, SG_ROLE_D)},
        {"WALK_H", walks(problem, SG_ROLE_H)},
        {"WALK_W", walks(problem, SG_ROLE_W)},
        {"HAS_WALK", problem->walk != 0},
        {"HAS_ANCHOR", problem->has_convolution},
        {"TILE_WALKS", facts.full_walks},
        {"KEPT", kept},
    };
    sg_cuda_write_constants(constants, sizeof constants / sizeof *constants, text);
}

/* As `divide` in tile_block.cuh wants it. */
static int64_t divider(int64_t size) {
    enum { BITS = 31 };
    int shift = 1;
    while (shift < BITS && INT64_C(1) << shift < size)
        shift++;
    if (size < 2 || INT64_C(1) << shift < size)
        return 0; /* not divided by: there is no such axis, or indices are wide */
    uint64_t numerator = UINT64_C(1) << (BITS + shift);
    uint64_t factor = (numerator + (uint64_t)size - 1) / (uint64_t)size;
    return (int64_t)(factor | (uint64_t)(shift - 1) << 32);
}

void sg_cuda_add_sizes(const sg_problem *problem, sg_cuda_arguments *arguments) {
    sg_cuda_add_number(arguments, "size_n", problem->size[SG_ROLE_N]);
    sg_cuda_add_number(arguments, "size_d", problem->size[SG_ROLE_D]);
    sg_cuda_add_number(arguments, "size_h", problem->size[SG_ROLE_H]);
    sg_cuda_add_number(arguments, "size_w", problem->size[SG_ROLE_W]);
    sg_cuda_add_number(arguments, "by_d", divider(problem->size[SG_ROLE_D]));
    sg_cuda_add_number(arguments, "by_h", divider(problem->size[SG_ROLE_H]));
    sg_cuda_add_number(arguments, "by_w", divider(problem->size[SG_ROLE_W]));
    sg_cuda_add_number(arguments, "kept_count", sg_cuda_kept_pixels(problem));
    sg_cuda_add_number(arguments, "walk_count", sg_cuda_walk_length(problem));
}
