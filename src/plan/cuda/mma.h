/* Geometry of kernels/cuda/conv_mma.cuh under a plan: what the planner prices and the lowering
 * writes down. Names are the skeleton's constants. */
#ifndef SEGUE_PLAN_CUDA_MMA_H
#define SEGUE_PLAN_CUDA_MMA_H

#include "plan/cuda/facts.h"
#include "plan/cuda/strategy.h"

typedef struct sg_mma {
    /* the plan's parameters, in order */
    int64_t pixel_warps, channel_warps;
    int64_t pixel_tiles, channel_tiles; /* of a warp: of 8 pixels, of 16 channels */
    int64_t box[1 + SG_SPATIAL_MAX];    /* output pixels of a tile along N, D, H, W */
    int64_t chunk;                      /* vectors of 16 bytes of channels in a stage */
    int64_t inner;  /* the last `inner` of D, H, W have their taps inside a stage */
    int64_t blocks; /* of a multiprocessor, at least */

    sg_cuda_tail_facts tail;
    bool split;    /* class fp32: three products */
    bool blocked;  /* doubles: a few steps have sums of their own, so that all round less */
    bool whole;    /* a block has all channels, of all groups */
    bool one_part; /* all blocks have the same channels */
    bool defer;    /* vectors on their way wait for a step more */
    int64_t group_inputs, group_outputs;
    int64_t lanes;                      /* channels of a vector */
    int64_t words;                      /* registers of a vector on its way */
    bool raw_weights;                   /* in shared memory as they lie in memory */
    int64_t real_bytes;                 /* of a sum */
    int64_t inner_taps[SG_SPATIAL_MAX]; /* in a stage */
    int64_t extent[SG_SPATIAL_MAX];     /* input positions of a stage along D, H, W */
    int64_t positions, steps, stages;   /* of a stage; in a stage; of a contraction */
    int64_t pieces;                     /* vectors that a thread brings in at every step */
    int64_t threads, pixel_slots, channel_slots;
    int64_t weight_copy; /* bytes of the weights that are copied at once; 0: no rows in memory */
    int64_t registers;   /* of a thread, roughly */
    int64_t shared;      /* bytes */
    int64_t parts;       /* tiles of channels, all groups together */
    int64_t units;       /* tiles in all */
} sg_mma;

/* False where the plan contradicts problem or target. */
bool sg_mma_measure(const sg_problem *problem, const sg_cuda_target *target,
                    const sg_cuda_plan *plan, sg_mma *mma);

#endif
