/* What skeletons on kernels/cuda/tile_block.cuh are told about the block and the region. */
#ifndef SEGUE_GEN_CUDA_BLOCK_H
#define SEGUE_GEN_CUDA_BLOCK_H

#include "gen/cuda/source.h"
#include "plan/cuda/block.h"

typedef struct sg_cuda_constant {
    const char *name;
    int64_t value;
} sg_cuda_constant;

/* `constexpr int NAME = VALUE;` lines. */
void sg_cuda_write_constants(const sg_cuda_constant *constants, int count, sg_text *text);

/* The constants of the tile. kept: operands that are read once, into registers. */
void sg_cuda_write_block(const sg_cuda_target *target, const sg_cuda_block *block, int kept,
                         sg_cuda_arguments *arguments, sg_text *text);
/* The region's sizes. */
void sg_cuda_add_sizes(sg_cuda_arguments *arguments);
/* Of the grid, once the sizes are added. */
const char *sg_cuda_block_grid_formula(const sg_problem *problem, const sg_cuda_block *block,
                                       sg_arena *arena);

/* The filling of the hole `real`. */
const char *sg_cuda_real(const sg_problem *problem);

#endif
