/* Tile programs: a region's operators, in order, as instructions over tile buffers, for every
 * backend. A tile is all channels of some pixels. Three sections: `item` loads what does not vary
 * with the tile, `tile` follows the contraction, `after` follows when a walk over reduced axes has
 * ended. Plain data; immutable once made. */
#ifndef SEGUE_GEN_TILE_PROGRAM_H
#define SEGUE_GEN_TILE_PROGRAM_H

#include "base/arena.h"
#include "kernels/cpu/kernels.h"
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
    unsigned *counted; /* [constant] the region's axes whose sizes it is the product of, as bits; 0:
                          it is a number of the graph */
    int constant_count;
    sg_walk *walks;
    int walk_count;
    int anchor; /* buffer that the contraction fills, or -1 */
} sg_tile_program;

/* How pixels are taken, which decides what RUN in a shape means. */
typedef enum sg_tiling {
    /* Runs of neighbours in boxes, as on the CPU: a value has a RUN unless that was reduced, and a
     * run that is reduced is combined (COLUMNS) before the running value takes it in. */
    SG_TILING_RUNS,
    /* Each pixel by itself, as by a thread of a GPU: a value has a RUN if it may differ between
     * pixels, those of different images included; running values take in pixel by pixel. */
    SG_TILING_PIXELS
} sg_tiling;

/* SG_OUT_OF_MEMORY only. */
sg_status sg_encode_tile_program(const sg_problem *problem, sg_tiling tiling, sg_arena *arena,
                                 sg_tile_program *program);

/* The element type that holds a dtype; the dtype must have one. */
sg_element sg_element_of(sg_dtype dtype);

#endif
