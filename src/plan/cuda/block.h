/* How a tile spreads over the threads of a block, for the strategies whose skeletons share
 * kernels/cuda/tile_block.cuh, `direct` and `stream`. Names and meanings are that file's. */
#ifndef SEGUE_PLAN_CUDA_BLOCK_H
#define SEGUE_PLAN_CUDA_BLOCK_H

#include "plan/cuda/strategy.h"

typedef struct sg_cuda_block {
    int64_t lanes, groups, warp_lanes; /* threads along pixels and channels; lanes of one warp */
    int64_t pixels, run, pixel_vector;
    int64_t channels, bunch, channel_vector;
    int64_t channel_tiles;
    int64_t box_columns;
    int64_t least_blocks; /* blocks that a multiprocessor must have registers for */
    bool groups_first, shared_walk, vector_walk, group_walk;
} sg_cuda_block;

/* Pixels of the result, all images together, and the steps that a walk makes for each. */
int64_t sg_cuda_kept_pixels(const sg_problem *problem);
int64_t sg_cuda_walk_length(const sg_problem *problem);

/* Whether lanes may take different steps of a walk: there is one, and nothing is stored on the way,
 * for of lanes that share a walk one alone stores. */
bool sg_cuda_may_share_walk(const sg_problem *problem);

static inline int64_t sg_cuda_block_threads(const sg_cuda_block *block) {
    return block->lanes * block->groups;
}
static inline int64_t sg_cuda_block_channels(const sg_cuda_block *block) {
    return block->groups * block->channels;
}
/* Blocks of the grid. */
int64_t sg_cuda_block_grid(const sg_problem *problem, const sg_cuda_block *block);
/* Numbers of shared memory that threads exchange values in. */
int64_t sg_cuda_block_scratch(const sg_cuda_block *block);

/* Whether `count` neighbours along role, the first at a multiple of count, are one access (or a few
 * of 16 bytes). */
bool sg_cuda_moves_at_once(const sg_problem *problem, const sg_operand *operand, int role,
                           int64_t count, const sg_cuda_target *target);
/* Neighbours along w, or along the channels, that 16-byte accesses may move at once in the tensors
 * that decide how fast the tail is: 8, 4, 2 or 1. For channels it holds for every tensor that has
 * pixels too. */
int64_t sg_cuda_pixel_vector(const sg_problem *problem, const sg_cuda_target *target);
int64_t sg_cuda_channel_vector(const sg_problem *problem, const sg_cuda_target *target);
/* The same along w where w is walked. */
int64_t sg_cuda_walk_vector(const sg_problem *problem, const sg_cuda_target *target);
/* Whether neighbouring lanes read neighbouring elements of the tensors that decide, or all lanes
 * the same ones. */
bool sg_cuda_lanes_are_neighbours(const sg_problem *problem, const sg_cuda_block *block);
/* Whether neighbouring pixels lie further apart than neighbouring channels, in what is read. */
bool sg_cuda_strides_far(const sg_problem *problem);

/* Keeps the cheapest plans, sorted; count so far and capacity of the arrays. */
void sg_cuda_keep_plan(const sg_cuda_plan *plan, double cost, sg_cuda_plan *plans, double *costs,
                       int *count, int capacity);

#endif
