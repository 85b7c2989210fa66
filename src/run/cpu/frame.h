/* The state of one thread inside one work item: where it stands and its scratch memory. Shared by
 * the packing, the contraction and the tile program's interpreter. */
#ifndef SEGUE_RUN_CPU_FRAME_H
#define SEGUE_RUN_CPU_FRAME_H

#include "gen/cpu/kernel.h"

/* A piece of a run inside one row of the image. */
typedef struct sg_row_piece {
    int64_t y, x; /* pixel where it begins */
} sg_row_piece;

typedef struct sg_frame {
    const sg_cpu_kernel *kernel;
    const void *const *inputs;
    void *const *outputs;

    int64_t n, d, h;                /* image; depth and, unless runs are flat, row of the tile */
    int64_t origin[SG_SPATIAL_MAX]; /* first pixel of the box */
    int64_t extent[SG_SPATIAL_MAX]; /* its size, less than the plan's at the image's edge */
    int64_t run_start, run_length;  /* the run, in pixels of the box */
    int64_t columns;                /* run_length in whole vectors */
    int segment_count;
    bool dense;           /* rows of the run follow each other without a gap */
    sg_segment *segments; /* valid columns of the tile, by row */
    sg_row_piece *pieces; /* [segment_count], where each lies in the image */
    sg_piece *moves;      /* the same for one operand of a load or store */

    char *slab;
    char *partial;                 /* a tile for sums that are gathered apart */
    char *buffers[SG_SHAPE_COUNT]; /* first slot of each shape */
    char **running;  /* [walk_count] running values, then [walk_count] compensations */
    char *constants; /* in the compute type */
} sg_frame;

static inline size_t sg_element_bytes(sg_element element) {
    return element == SG_ELEMENT_BOOL  ? 1
           : element == SG_ELEMENT_F64 ? 8
           : element == SG_ELEMENT_F32 ? 4
                                       : 2;
}

/* Elements of one buffer of a shape, and of one of its rows. */
int64_t sg_buffer_stride(const sg_cpu_kernel *kernel, sg_shape shape);
int64_t sg_buffer_rows(const sg_cpu_kernel *kernel, sg_shape shape);
/* Elements between rows of a running value. */
int64_t sg_running_stride(const sg_cpu_kernel *kernel, sg_shape shape);

void sg_pack_weights(const sg_cpu_kernel *kernel, const void *const *inputs, int64_t block,
                     void *packed);
void sg_pack_slab(sg_frame *frame);
void sg_contract_run(const sg_frame *frame, const void *packed);
void sg_interpret(sg_frame *frame, const sg_section *section);
/* Sets the run and finds its segments. */
void sg_frame_set_run(sg_frame *frame, int64_t start, int64_t length);
void sg_frame_reset_running(sg_frame *frame);

#endif
