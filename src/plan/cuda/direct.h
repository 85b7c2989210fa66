/* What a plan of `direct` says, for pricing it and for lowering it. */
#ifndef SEGUE_PLAN_CUDA_DIRECT_H
#define SEGUE_PLAN_CUDA_DIRECT_H

#include "plan/cuda/block.h"

/* Files of kernels/cuda. */
typedef enum sg_cuda_direct_way {
    SG_DIRECT_PRODUCT, /* direct_product.cuh */
    SG_DIRECT_WINDOW,  /* direct_window.cuh */
    SG_DIRECT_CHANNELS /* direct_channels.cuh */
} sg_cuda_direct_way;

typedef struct sg_cuda_direct_plan {
    sg_cuda_block block;
    sg_cuda_direct_way way;
    int64_t stage;  /* products that are staged at once */
    int64_t sum;    /* products of one sum in registers, a multiple of stage */
    int64_t groups; /* of the convolution that a tile's channels lie in */
    int64_t shared; /* bytes of shared memory */
} sg_cuda_direct_plan;

/* False where the numbers contradict each other, the problem or the GPU's limits. */
bool sg_cuda_direct_read(const sg_problem *problem, const sg_cuda_target *target,
                         const sg_cuda_plan *plan, sg_cuda_direct_plan *read);

#endif
