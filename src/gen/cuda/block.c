#include "gen/cuda/block.h"

#include <stdio.h>

#include "plan/cuda/facts.h"

void sg_cuda_write_constants(const sg_cuda_constant *constants, int count, sg_text *text) {
    for (int i = 0; i < count; i++)
        sg_text_add(text, "constexpr int %s = %lld;\n", constants[i].name,
                    (long long)constants[i].value);
}

const char *sg_cuda_real(const sg_problem *problem) {
    return problem->compute == SG_F64 ? "using real = double;\n" : "using real = float;\n";
}

/* Pixels that 31 bits count, less the excess of the last block and the last step. */
static const int64_t FEW = (INT64_C(1) << 31) - (INT64_C(1) << 20);

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

/* What the constants below take from sizes and strides. */
static void assume_block(const sg_cuda_target *target, const sg_cuda_block *block, bool narrow,
                         sg_cuda_arguments *arguments) {
    const sg_problem *problem = arguments->problem;
    sg_arena *arena = arguments->arena;
    const char *width = sg_cuda_size(problem, SG_ROLE_W, arena);
    if (narrow)
        sg_cuda_assume(arguments, "pixels are counted in 32 bits",
                       "a.kept_count < %lld && a.walk_count < %lld", (long long)FEW,
                       (long long)FEW);
    if (block->pixel_vector > 1)
        sg_cuda_assume(arguments, "rows are whole vectors of pixels", "%s %% %lld == 0", width,
                       (long long)block->pixel_vector);
    for (int i = 0; i < problem->access_count + problem->output_count; i++) {
        bool output = i >= problem->access_count;
        const sg_operand *operand =
            output ? &problem->outputs[i - problem->access_count] : &problem->accesses[i].operand;
        unsigned pixels = operand->domain & ~(1U << SG_ROLE_C);
        if (!output && operand->stride[SG_ROLE_W] == 1 && block->pixel_vector > 1 &&
            rows_aligned(problem, target, block))
            sg_cuda_assume_vectors(arguments, operand, false, SG_ROLE_W, block->pixel_vector, NULL);
        if (operand->domain >> SG_ROLE_C & 1U && pixels)
            sg_cuda_assume_vectors(arguments, operand, output, SG_ROLE_C, block->channel_vector,
                                   NULL);
    }
}

const char *sg_cuda_block_grid_formula(const sg_problem *problem, const sg_cuda_block *block,
                                       sg_arena *arena) {
    int64_t tile = block->lanes * block->pixels;
    if (block->box_columns > 0)
        return sg_cuda_formula(
            arena, "a.size_n%s * pieces(a.size_h, %lld) * pieces(a.size_w, %lld) * %lld",
            walks(problem, SG_ROLE_D) ? "" : " * a.size_d", (long long)(tile / block->box_columns),
            (long long)block->box_columns, (long long)block->channel_tiles);
    int64_t unit = block->vector_walk ? 1 : block->shared_walk ? block->pixels : tile;
    return sg_cuda_formula(arena, "pieces(a.kept_count, %lld) * %lld", (long long)unit,
                           (long long)block->channel_tiles);
}

void sg_cuda_write_block(const sg_cuda_target *target, const sg_cuda_block *block, int kept,
                         sg_cuda_arguments *arguments, sg_text *text) {
    const sg_problem *problem = arguments->problem;
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    int64_t pixels = sg_cuda_kept_pixels(problem), steps = sg_cuda_walk_length(problem);
    bool narrow = pixels < FEW && steps < FEW;
    assume_block(target, block, narrow, arguments);
    sg_text_add(text, "typedef %s index_t; // counts pixels\n",
                narrow ? "unsigned" : "unsigned long long");
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

void sg_cuda_add_sizes(sg_cuda_arguments *arguments) {
    static const int roles[] = {SG_ROLE_N, SG_ROLE_D, SG_ROLE_H, SG_ROLE_W};
    static const char names[] = "ndhw";
    const sg_problem *problem = arguments->problem;
    char name[16];
    const char *kept = NULL, *walked = NULL;
    for (int i = 0; i < 4; i++) {
        const char *size = sg_cuda_size(problem, roles[i], arguments->arena);
        const char **product = walks(problem, roles[i]) ? &walked : &kept;
        snprintf(name, sizeof name, "size_%c", names[i]);
        sg_cuda_add_number(arguments, name, problem->size[roles[i]], "%s", size);
        *product = *product ? sg_cuda_formula(arguments->arena, "%s * a.%s", *product, name)
                            : sg_cuda_formula(arguments->arena, "a.%s", name);
    }
    for (int i = 1; i < 4; i++) {
        snprintf(name, sizeof name, "by_%c", names[i]);
        sg_cuda_add_number(arguments, name, sg_cuda_reciprocal(problem->size[roles[i]]),
                           "reciprocal(a.size_%c)", names[i]);
    }
    sg_cuda_add_number(arguments, "kept_count", sg_cuda_kept_pixels(problem), "%s", kept);
    sg_cuda_add_number(arguments, "walk_count", sg_cuda_walk_length(problem), "%s",
                       walked ? walked : "1");
}
