/* What a plan of `stream` says, for pricing it and for lowering it. */
#ifndef SEGUE_PLAN_CUDA_STREAM_H
#define SEGUE_PLAN_CUDA_STREAM_H

#include "plan/cuda/block.h"

typedef struct sg_cuda_stream_plan {
    sg_cuda_block block;
    int kept;            /* operands that are read once, into registers: all that are full, or 0 */
    int64_t slot_unroll; /* of loops over a thread's slots */
    int64_t walk_unroll; /* of the loop over the steps of a walk */
} sg_cuda_stream_plan;

/* False where the numbers contradict each other, the problem or the GPU's limits. */
bool sg_cuda_stream_read(const sg_problem *problem, const sg_cuda_target *target,
                         const sg_cuda_plan *plan, sg_cuda_stream_plan *read);

#endif
