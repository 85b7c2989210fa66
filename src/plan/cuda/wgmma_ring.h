/* Geometry of kernels/cuda/conv_wgmma_ring.cuh under a plan: everything that the planner prices and
 * the lowering writes down. Names are the skeleton's constants. */
#ifndef SEGUE_PLAN_CUDA_WGMMA_RING_H
#define SEGUE_PLAN_CUDA_WGMMA_RING_H

#include "plan/cuda/facts.h"
#include "plan/cuda/strategy.h"

/* Slices roll along z; y are rows of a slice; x is the width. */
enum { SG_RING_Z, SG_RING_Y, SG_RING_X, SG_RING_AXES };

typedef struct sg_wgmma_ring {
    /* the plan's parameters, in order */
    int64_t columns;   /* channels are the products' rows, pixels their columns */
    int64_t depth;     /* z is depth and y height; else z is height and there is no y */
    int64_t pixels;    /* of a consumer's tile */
    int64_t channels;  /* of a tile of channels */
    int64_t consumers; /* warpgroups */
    int64_t row_tiles; /* tiles that a row of a box is; with a walk, as many as consumers */
    int64_t box_y, box_x;
    int64_t stages;
    int64_t producers; /* warpgroups */

    bool narrow; /* operands are halves or bfloats, which products take as they are */
    sg_cuda_tail_facts tail;
    int64_t in_group, out_group;        /* channels of a group */
    int64_t groups, group_tiles, tiles; /* tiles of channels: of a group, and in all */
    int64_t in_size[SG_RING_AXES], out_size[SG_RING_AXES], kernel[SG_RING_AXES],
        stride[SG_RING_AXES], padding[SG_RING_AXES], dilation[SG_RING_AXES];
    int64_t taps, reach;             /* reach: slices under one output row */
    int64_t tile_slots;              /* channel slots of a tile */
    int64_t stage_groups;            /* of 8 channels */
    int64_t parts;                   /* halves that an operand is: 2 in class fp32 */
    int64_t spans, span_taps;        /* with 2 parts: sums of the products' own, and taps of each */
    int64_t vector;                  /* how producers read: 4, 2, 1 along x; 8 along channels */
    int64_t stage_rows, stage_width; /* of the input box */
    int64_t stage_left;              /* columns left of the first pixel */
    int64_t pitch, phase_pixels, plane;
    int64_t consumer_floats;
    int64_t sums, steps; /* registers of a thread; products of 16 deep of a tile's block */
    int64_t threads, producer_registers, consumer_registers;
    int64_t prefetch; /* producers have registers for two items */
    int64_t shared;   /* bytes */
    int64_t boxes_y, boxes_x, units, grid;
    int64_t out_vector; /* neighbours along x that outputs' stores write at once; 0: they do not */
    int64_t
        out_lines; /* channels as rows: outputs with channels, stored by lines of whole sectors */
    int64_t out_pairs;  /* whose lines begin at even values of a sector */
    bool channel_lines; /* stores write channels that lie side by side */
    bool narrow_lines;  /* either, of halves or bfloats */
    bool bias_held;     /* the channels' biases lie in registers */
} sg_wgmma_ring;

/* False where the plan does not suit problem or target; the geometry is then incomplete. */
bool sg_wgmma_ring_measure(const sg_problem *problem, const sg_cuda_target *target,
                           const sg_cuda_plan *plan, sg_wgmma_ring *ring);

/* Pieces of a stage of eight channels that a producer warp stages at once. */
int64_t sg_wgmma_ring_chunks(const sg_wgmma_ring *ring);

/* Seconds; INFINITY where the plan is not usable. */
double sg_wgmma_ring_cost(const sg_problem *problem, const sg_cuda_target *target,
                          const sg_cuda_plan *plan);

/* Whether an output has channels and a type that consumers turn around in lines (out_vector). */
bool sg_wgmma_ring_lines(const sg_operand *output);

#endif
