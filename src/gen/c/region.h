/* A region as C functions: what is known of it before text is written, and the writers of its
 * parts.
 *
 * Channels, kernel, stride, padding, dilation and groups are constants of the text; sizes of the
 * batch and of the image, and strides, are arguments. An axis of size 1 stays so where the region's
 * values do not all run along it, since the graph may then have been simplified by that.
 *
 * Texts are written with a @ behind every name that is the region's own. Where a file holds several
 * regions, a number takes its place. */
#ifndef SEGUE_GEN_C_REGION_H
#define SEGUE_GEN_C_REGION_H

#include "base/text.h"
#include "gen/c/pieces.h"
#include "gen/tile/program.h"

enum { SG_C_NAME_MAX = 80, SG_C_EXPRESSION_MAX = 240 };

/* One way in which a tensor's dimensions lie along the region's roles; the anchor and other
 * operators may each read an input in a way of their own. */
typedef struct sg_c_view {
    int tensor; /* into tensors */
    sg_operand operand;
    char name[SG_C_NAME_MAX];                        /* "x_by" */
    char stride[SG_ROLE_COUNT][SG_C_EXPRESSION_MAX]; /* "x_stride[0]"; "" where it does not vary */
    char size[SG_RANK_MAX][SG_C_EXPRESSION_MAX];     /* of each dimension, by the arguments */
} sg_c_view;

typedef struct sg_c_tensor {
    char name[SG_C_NAME_MAX];
    sg_dtype dtype;
    int rank;
    bool output;
    int view; /* the first; its sizes are the tensor's */
} sg_c_tensor;

/* A loop of a section: what is of one shape and waits for as many reductions. */
typedef struct sg_c_loop {
    int section, level;
    sg_shape shape;
} sg_c_loop;

/* One function of the text for each op with each set of attributes. */
typedef struct sg_c_op {
    sg_op op;
    int number; /* among those of one op */
    double attributes[SG_TILE_ATTRIBUTES_MAX];
} sg_c_op;

typedef struct sg_c_region {
    const sg_problem *problem;
    const sg_graph *graph;
    sg_arena *arena;
    sg_tile_program program;
    bool open[SG_ROLE_COUNT]; /* its size is an argument */
    sg_c_tensor *tensors;     /* inputs, then outputs */
    int tensor_count;
    const int *order; /* [tensor_count] of the entry's arguments */
    sg_c_view *views;
    int view_count;
    int input_view, weight_view, bias_view; /* of the convolution; -1 */
    int *load_view, *store_view;            /* [load], [store] */

    const sg_instruction **all; /* item, tile, after */
    int *section;               /* [instruction of all] 0: item, 1: tile, 2: after */
    int count, levels;
    int *level;  /* [buffer] */
    bool *live;  /* [buffer] */
    bool *kept;  /* [buffer] lies in struct tile, because another loop reads it */
    bool *row;   /* [buffer] not kept, but moved from or to memory as a row */
    sg_text ops; /* the operators that were called, as functions */
    sg_c_op *op;
    int op_count;
} sg_c_region;

/* problem: without merged axes and not flat (sg_c_problem_create). SG_NOT_APPLICABLE with a
 * sentence where the region cannot be written. Lives in the arena, but for ops. */
sg_status sg_c_region_open(const sg_problem *problem, sg_arena *arena, sg_c_region *region);
void sg_c_region_close(sg_c_region *region);

/* The problem of a region whose tensors may lie in any way. layouts: sizes, inputs then outputs. */
sg_status sg_c_problem_create(sg_region *region, const sg_layout *inputs, const sg_layout *outputs,
                              sg_arena *arena, sg_problem *problem);

/* Size along an axis of the region as C: "size_h", "64"; prefix: "a->" or "". */
void sg_c_write_axis(const sg_c_region *region, int axis, const char *prefix, sg_text *text);
/* A number of the graph, exactly. */
void sg_c_write_number(double value, sg_text *text);
/* Name of the function of a pointwise instruction; the function goes to ops. */
void sg_c_write_call(sg_c_region *region, const sg_instruction *instruction, sg_text *text);

/* Members of struct tile, and the functions of the tail. */
void sg_c_write_tail_members(const sg_c_region *region, sg_text *text);
void sg_c_write_tail(sg_c_region *region, sg_text *text);
/* Whether the item section has something to load. */
static inline bool sg_c_has_item(const sg_c_region *region) {
    return region->program.item.count > 0;
}

/* Constants, members of struct tile and functions of the convolution. */
void sg_c_write_convolution_constants(const sg_c_region *region, sg_text *text);
void sg_c_write_convolution_members(const sg_c_region *region, sg_text *text);
void sg_c_write_convolution(const sg_c_region *region, sg_text *text);

/* All of the region but its entry. */
void sg_c_write_region(sg_c_region *region, sg_text *text);
/* The entry; name: of the file. declaration: up to the closing bracket, for the header too. */
void sg_c_write_declaration(const sg_c_region *region, const char *name, sg_text *text);
void sg_c_write_entry(const sg_c_region *region, const char *name, sg_text *text);
/* The comment that goes with the declaration: arguments and shapes. */
void sg_c_write_shapes(const sg_c_region *region, sg_text *text);

#endif
