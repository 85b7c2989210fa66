/* Geometry of kernels/cuda/conv_implicit_gemm.cuh under a plan: what the planner prices and the
 * lowering writes down. */
#ifndef SEGUE_PLAN_CUDA_IMPLICIT_GEMM_H
#define SEGUE_PLAN_CUDA_IMPLICIT_GEMM_H

#include "plan/cuda/facts.h"
#include "plan/cuda/strategy.h"

typedef struct sg_implicit_gemm {
    /* the plan's parameters, in order */
    int64_t warps, row_blocks; /* row_blocks: of 16 pixels each, that a warp has */
    int64_t slots;             /* channels of a block, absent ones included: a multiple of 8 */

    sg_cuda_tail_facts tail;
    int64_t group_inputs, group_outputs;
    int64_t group_parts; /* blocks that share a group's channels out */
    int64_t parts;       /* of all groups */
    int64_t tile_real;   /* channels of a full block */
    int64_t products;    /* summed for an output */
    bool split;          /* class fp32: three products */
    int64_t threads, pixels;
    int64_t registers; /* of a thread, roughly */
    int64_t shared;    /* bytes */
    int64_t blocks;    /* of a multiprocessor, at least */
    int64_t units;     /* blocks of the grid */
} sg_implicit_gemm;

enum { SG_IMPLICIT_GEMM_SLICE = 16 }; /* k that come to shared memory at once */

/* False where the plan contradicts problem or target. */
bool sg_implicit_gemm_measure(const sg_problem *problem, const sg_cuda_target *target,
                              const sg_cuda_plan *plan, sg_implicit_gemm *gemm);

#endif
