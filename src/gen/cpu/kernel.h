/* What the CPU runs: one fused kernel, as plain data. Lowering fills it, the runtime interprets it,
 * and printing it is what `explain` shows. Immutable once made.
 *
 * The kernel works on five roles: image (N), channel (C) and pixels (D, H, W). A work item is one
 * image and one box of the pixel axes that the result keeps. Inside an item, pixels are taken in
 * *runs* of neighbours: along W, or, where H has the same fate as W (both kept or both reduced),
 * along rows laid end to end. A tile is all channels by one run. Three sections of instructions
 * work on tiles: `item` once per item, `tile` for every run after the contraction, `after` for
 * every kept run when a walk over reduced axes has ended. */
#ifndef SEGUE_GEN_CPU_KERNEL_H
#define SEGUE_GEN_CPU_KERNEL_H

#include "base/arena.h"
#include "kernels/cpu/kernels.h"
#include "plan/cpu_plan.h"
#include "plan/problem.h"

/* Shape of a tile buffer: [channels][run], [run], [channels] or a single number. */
typedef enum sg_shape {
    SG_SHAPE_NUMBER = 0,
    SG_SHAPE_CHANNEL = 1,
    SG_SHAPE_RUN = 2,
    SG_SHAPE_TILE = 3, /* both bits */
    SG_SHAPE_COUNT
} sg_shape;

typedef struct sg_buffer {
    sg_shape shape;
    int slot; /* buffers of one shape whose lives do not overlap share a slot */
} sg_buffer;

typedef enum sg_instruction_kind {
    SG_INSTRUCTION_LOAD,  /* dst = operand */
    SG_INSTRUCTION_STORE, /* operand = source 0 */
    SG_INSTRUCTION_POINTWISE,
    SG_INSTRUCTION_ROWS,    /* dst = reduction of source 0 over channels */
    SG_INSTRUCTION_COLUMNS, /* dst = reduction of source 0 over the run */
    SG_INSTRUCTION_WALK,    /* running value `walk` takes source 0 in */
    SG_INSTRUCTION_FINISH   /* dst = running value `walk` */
} sg_instruction_kind;

typedef struct sg_instruction {
    sg_instruction_kind kind;
    sg_op op;               /* pointwise */
    sg_reduction reduction; /* rows, columns, walk */
    int dst;                /* buffer */
    int source_count;
    int sources[SG_TILE_SOURCES_MAX]; /* buffer, or -1 - i for constant i */
    int operand;                      /* load: into loads; store: into stores */
    int walk;
    double attributes[SG_TILE_ATTRIBUTES_MAX];
} sg_instruction;

typedef struct sg_section {
    sg_instruction *items;
    int count, capacity;
} sg_section;

/* A value that is reduced by walking: kept for all kept pixels of an item at once. */
typedef struct sg_walk {
    sg_reduction reduction;
    sg_shape shape;
} sg_walk;

typedef struct sg_tile_program {
    sg_section item, tile, after;
    sg_buffer *buffers;
    int buffer_count, buffer_capacity;
    int slots[SG_SHAPE_COUNT]; /* how many of each shape the scratch memory must hold */
    sg_operand *loads, *stores;
    int load_count, store_count;
    double *constants;
    int constant_count;
    sg_walk *walks;
    int walk_count;
    int anchor; /* buffer that the contraction fills, or -1 */
} sg_tile_program;

/* The input of one box as the contraction reads it: [channel][phases][depth][row][column], so that
 * for every tap neighbours in the output are neighbours in memory. A phase holds the positions of
 * one residue modulo the stride; padding is written out as zeros. */
typedef struct sg_slab {
    int64_t phase_count[SG_SPATIAL_MAX];
    int64_t *phase[SG_SPATIAL_MAX]; /* [phase_count] residues that some tap reads */
    int64_t extent[SG_SPATIAL_MAX]; /* positions of one phase */
    int64_t pitch[SG_SPATIAL_MAX];  /* elements between neighbours of one phase; W: 1 */
    int64_t phase_size;             /* elements of one combination of phases */
    int64_t channel_size;           /* elements of one input channel */
    int64_t size;                   /* elements, slack for the last run included */
    int64_t taps;
    int32_t *offset; /* [in_channels / groups * taps], channel outermost */
} sg_slab;

/* Output channels in blocks that one micro-kernel call makes. */
typedef struct sg_channel_block {
    int64_t first, count; /* channels of the tile */
    int64_t group;
    int64_t weights; /* element offset of its [k][MR] block in the packed weights */
    const sg_contract_block *contract;
} sg_channel_block;

typedef struct sg_cpu_kernel {
    const sg_cpu_kernels *isa;
    int64_t size[SG_ROLE_COUNT]; /* of the space */
    unsigned walk;               /* walked roles, as bits */
    bool flat;                   /* runs go along H and W, else along W alone */
    bool has_convolution;
    sg_convolution convolution;
    sg_slab slab;
    sg_channel_block *blocks;
    int block_count;
    int64_t packed_size; /* elements of all packed weights, the padded bias included */
    int64_t bias_offset; /* of the bias in the packed weights, in elements */
    sg_tile_program program;
    sg_cpu_plan plan;
    int64_t tile_rows; /* channels, rounded up to whole blocks */
    int64_t span;      /* input channels whose register sums are added up before the next ones' */
    bool partial_tile; /* there is more than one span, so that they need a tile of their own */
} sg_cpu_kernel;

/* Pixels between (y, x) and (y + 1, x) in the coordinates of a run. */
static inline int64_t sg_run_pitch(const sg_cpu_kernel *kernel) {
    return kernel->has_convolution ? kernel->slab.pitch[1] : kernel->plan.box[2];
}

/* The element type that holds a dtype; the dtype must have one. */
sg_element sg_element_of(sg_dtype dtype);

#endif
