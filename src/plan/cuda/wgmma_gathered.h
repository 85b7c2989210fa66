/* Geometry of kernels/cuda/conv_wgmma_gathered.cuh under a plan: everything that the planner prices
 * and the lowering writes down. Names are the skeleton's constants. */
#ifndef SEGUE_PLAN_CUDA_WGMMA_GATHERED_H
#define SEGUE_PLAN_CUDA_WGMMA_GATHERED_H

#include "plan/cuda/facts.h"
#include "plan/cuda/strategy.h"

typedef struct sg_wgmma_gathered {
    /* the plan's parameters, in order */
    int64_t box_w;     /* columns of a job's box of pixels */
    int64_t box_d;     /* places along depth of a job; walked, all of them */
    int64_t consumers; /* warpgroups */
    int64_t stages;

    sg_cuda_tail_facts tail;
    bool scales_at_end; /* whether running values are of sums without scale and bias */
    int64_t parts;      /* halves that an operand is split into */
    int64_t turn;       /* kernel slices side by side in B: the kernel's depth */
    int64_t vector;     /* columns that a producer copies at once: 4 or 1 */
    int64_t lead;       /* columns staged before the first tap's */
    int64_t columns;    /* staged of a row, a multiple of 32 */
    int64_t pixels_w;   /* box_w, rounded up to 16 */
    int64_t box_h;
    int64_t stage_rows; /* of all channels, rounded up to 4 */
    int64_t k;          /* products of a pixel and slice, places without one among them */
    int64_t tile_n;     /* channels, rounded up to 8 */
    int64_t threads, consumer_registers, producer_registers;
    int64_t shared; /* bytes */
    int64_t jobs_d, jobs_h, jobs_w, jobs;
} sg_wgmma_gathered;

enum { SG_GATHERED_PRODUCERS = 4, SG_GATHERED_AHEAD = 2 }; /* warps; stages copied ahead */

/* False where the plan does not suit problem or target; the geometry is then incomplete. */
bool sg_wgmma_gathered_measure(const sg_problem *problem, const sg_cuda_target *target,
                               const sg_cuda_plan *plan, sg_wgmma_gathered *gathered);

#endif
