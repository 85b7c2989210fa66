/* Geometry of the streamed convolution: how output positions stand in one long row, and which taps
 * share a copy of the input. kernels/cuda/stage_box.cuh describes the row.
 *
 * A position is an output pixel or one of the halo. Pitches, positions from column to column, row
 * to row and depth to depth, leave room for the reach of the taps beyond the end of an axis, less
 * what the end of one and the start of the next both have as padding. Then a tap is a constant
 * number of positions ahead, wherever a tile begins. */
#ifndef SEGUE_PLAN_CUDA_STREAMED_H
#define SEGUE_PLAN_CUDA_STREAMED_H

#include "plan/cuda/strategy.h"

enum { SG_STREAMED_TAPS_MAX = 400 };
/* What a tile has of one strip of one image is a segment; the kernel knows so many of a tile. */
enum { SG_STREAMED_SEGMENTS_MAX = 32 };
/* Channels of a pixel that are stored at once where they lie side by side. */
enum { SG_STREAMED_RUN = 4 };

/* Parameters of a plan. */
enum {
    SG_STREAMED_ROWS,     /* blocks of 64 positions of each of two warpgroups: 1, 2, 4 */
    SG_STREAMED_CHANNELS, /* output channels of a tile */
    SG_STREAMED_CHUNK,    /* input channels staged at a time, a multiple of 16 */
    SG_STREAMED_STRIP,    /* output columns of a strip of the image */
    SG_STREAMED_OUTER,    /* axes (bit 0: D) whose taps have copies of the input of their own */
    SG_STREAMED_BOX,      /* positions of a staged box, at least the tile and the reach */
    SG_STREAMED_BOXES,    /* stages of the ring of boxes */
    SG_STREAMED_BLOCKS,   /* stages of the ring of weights */
    SG_STREAMED_PARAMETERS
};

typedef struct sg_streamed_tap {
    int kernel[SG_SPATIAL_MAX]; /* place in the filter */
    int ahead[SG_SPATIAL_MAX];  /* what it reads: so many depths, rows and columns ahead */
} sg_streamed_tap;

/* Taps that share a copy of the input, in which the output at o finds input o * stride + shift. */
typedef struct sg_streamed_part {
    int shift[SG_SPATIAL_MAX];
    int first_tap, tap_count;
} sg_streamed_part;

typedef struct sg_streamed_layout {
    sg_streamed_tap taps[SG_STREAMED_TAPS_MAX];
    sg_streamed_part parts[SG_STREAMED_TAPS_MAX];
    int tap_count, part_count;
    int64_t pitch[SG_SPATIAL_MAX]; /* columns from row to row, rows from depth to depth, depths from
                                      strip to strip: of W, H, D at their own index */
    int64_t strips, reach;         /* reach: positions from a pixel to the furthest one read */
    int64_t positions;             /* in the whole row */
    int64_t tile_positions;
    int64_t position_tiles, group_tiles, channel_tiles; /* group_tiles: of a group's channels */
    int64_t tile_n;                                     /* channels rounded up to 8 */
    int64_t chunks;
    bool flat; /* images are rows without gaps: a position's input is as many elements on */
} sg_streamed_layout;

/* How a stager reads: what one access moves, and what a lane holds before it stores. */
typedef struct sg_streamed_reading {
    int64_t vector; /* 1: a position of a channel; 4: four positions; 8: eight channels */
    int64_t rows, cells;
} sg_streamed_reading;

/* False where there are more taps than SG_STREAMED_TAPS_MAX. */
bool sg_streamed_measure(const sg_problem *problem, const sg_cuda_plan *plan,
                         sg_streamed_layout *layout);

/* Positions that one strip of an image has at least. */
int64_t sg_streamed_image_least(const sg_streamed_layout *layout);

void sg_streamed_read(const sg_problem *problem, const sg_cuda_target *target,
                      const sg_cuda_plan *plan, const sg_streamed_layout *layout,
                      sg_streamed_reading *reading);
/* Whether operands are floats, which are carried as halves; else they are taken as they are. */
bool sg_streamed_carries(const sg_problem *problem);
/* Whether 4 channels of a pixel may be stored at once, in all outputs that have channels. */
bool sg_streamed_stores_runs(const sg_problem *problem, const sg_cuda_target *target,
                             const sg_cuda_plan *plan);
/* Products for one of operands: 3 of floats in class fp32, which are two halves each. */
int64_t sg_streamed_products(const sg_problem *problem, const sg_cuda_target *target);
/* Blocks of weights of a tap: 2 with 3 products. */
int64_t sg_streamed_tap_blocks(const sg_problem *problem, const sg_cuda_target *target);
/* Parts whose sums add up in the products' own registers before they move to others; 0: all. With 3
 * products, sums move after every tap. */
int64_t sg_streamed_promote(const sg_problem *problem, const sg_cuda_target *target,
                            const sg_cuda_plan *plan, const sg_streamed_layout *layout);
/* Sums of a thread of the products. */
int64_t sg_streamed_sums(const sg_cuda_plan *plan);
/* Whether a thread of the products, or of the tail, needs registers that the stagers then lack. */
bool sg_streamed_wide(const sg_problem *problem, const sg_cuda_target *target,
                      const sg_cuda_plan *plan, const sg_streamed_layout *layout);

/* How far ahead the taps of a part reach along an axis. */
int sg_streamed_furthest(const sg_streamed_layout *layout, const sg_streamed_part *part, int axis);

/* Bytes of one box, of one block of weights, and of the block's dynamic shared memory. */
int64_t sg_streamed_box_bytes(const sg_problem *problem, const sg_cuda_target *target,
                              const sg_cuda_plan *plan);
int64_t sg_streamed_block_bytes(const sg_cuda_plan *plan);
int64_t sg_streamed_shared(const sg_problem *problem, const sg_cuda_target *target,
                           const sg_cuda_plan *plan);

#endif
