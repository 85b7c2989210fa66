/* Geometry of kernels/cuda/conv_wgmma_packed.cuh under a plan: everything that the planner prices
 * and the lowering writes down. Names are the skeleton's constants. */
#ifndef SEGUE_PLAN_CUDA_WGMMA_PACKED_H
#define SEGUE_PLAN_CUDA_WGMMA_PACKED_H

#include "plan/cuda/facts.h"
#include "plan/cuda/strategy.h"

typedef struct sg_wgmma_packed {
    /* the plan's parameters, in order */
    int64_t turn;       /* kernel slices side by side in B: the kernel's depth, or 1 */
    int64_t box_w;      /* columns of a job's box of pixels */
    int64_t box_d;      /* places along depth of a job; walked, all of them */
    int64_t row_blocks; /* of 64 pixels of a tile */
    int64_t tiles;      /* of a consumer */
    int64_t consumers;  /* warpgroups */
    int64_t producers;  /* warps */
    int64_t lane_rows;  /* rows of a box that a producer's lane packs at a time: 1 or 2 */
    int64_t stages;
    int64_t blocks; /* of a multiprocessor */

    sg_cuda_tail_facts tail;
    bool guarded;      /* whether elements are float32, which halves carry */
    int64_t parts;     /* halves that an operand is split into */
    bool moves;        /* whether sums leave the products' registers: of slices, of parts of k */
    bool opens_behind; /* whether a job is opened behind its first products */
    int64_t taps_d;    /* kernel slices in k */
    int64_t row_spans, row_words; /* of a row of the kernel: runs of taps, and pairs of taps */
    bool shared_rows;             /* whether a row of the input serves all rows of the kernel */
    int64_t stage_slots;          /* of 16 bytes, of a part of a stage */
    int64_t k;                    /* products of a stage's pixel, a multiple of 16 */
    int64_t weights;              /* of all channels */
    int64_t tile_n;               /* channels, rounded up to 8 */
    int64_t pixels;               /* of a box */
    int64_t box_h;
    int64_t span;      /* columns under four neighbours */
    int64_t load_rows; /* of the input, read at once by a lane */
    int64_t vector;    /* elements that a producer reads at once */
    int64_t units;     /* a warp's pieces of a stage */
    int64_t threads, consumer_registers, producer_registers;
    int64_t shared; /* bytes */
    int64_t jobs_d, jobs_h, jobs_w, jobs;
} sg_wgmma_packed;

/* False where the plan does not suit problem or target; the geometry is then incomplete. */
bool sg_wgmma_packed_measure(const sg_problem *problem, const sg_cuda_target *target,
                             const sg_cuda_plan *plan, sg_wgmma_packed *packed);

#endif
