/* The graph: values in execution order, each made by one operator (SSA). A node's operands have
 * lower indices than the node, so there is no cycle to find and every pass is a loop. Types are
 * inferred when a node is added and never stale. Everything lives in the graph's arena. */
#ifndef SEGUE_IR_GRAPH_H
#define SEGUE_IR_GRAPH_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/context.h"
#include "ir/dim.h"
#include "ir/ops.h"
#include "segue.h"

typedef struct sg_type {
    sg_dtype dtype;
    bool weak; /* a Python scalar: rank 0, gives way to any tensor of its category */
    int rank;
    sg_dim size[SG_RANK_MAX];
} sg_type;

/* An attribute's value; which field holds it follows from the op's row. */
typedef struct sg_attribute {
    double number;       /* FLOAT, INT, BOOL, DTYPE */
    int count;           /* LIST, SPATIAL (always one entry per spatial dimension once in a node) */
    const sg_dim *items; /* in the arena */
} sg_attribute;

typedef struct sg_node {
    sg_op op;
    int operand_count;
    const sg_value *operands; /* in the arena; -1 for an operand left out (a missing bias) */
    sg_attribute attributes[SG_ATTRIBUTES_MAX];
    sg_type type;
    /* Unique in the graph, without the %. A weak constant that was written as a bare number has a
     * name of its own making that begins with #, and is printed as that number where it is used. */
    const char *name;
} sg_node;

typedef struct sg_name_table {
    int *slots; /* value + 1, or 0 where empty; in the arena */
    int capacity, used;
} sg_name_table;

struct sg_graph {
    sg_context *context;
    sg_arena arena;
    const char *name;
    sg_dim_table *dims;
    sg_node *nodes;
    int node_count, node_capacity;
    sg_value *inputs, *outputs;
    int input_count, input_capacity, output_count, output_capacity;
    sg_name_table names;
};

/* An empty graph with the name of another, in which that one's sizes mean the same, so that types
 * and attributes may be taken over as they are. */
sg_status sg_graph_create_like(const sg_graph *graph, sg_graph **made);

static inline const sg_node *sg_graph_node(const sg_graph *graph, sg_value value) {
    return &graph->nodes[value];
}

/* Adds a node and infers its type (ATen's rules). operands: operand_count values, -1 where left
 * out. attributes: in the row's order, or NULL for all defaults; lists are copied. name: copied,
 * made unique by a suffix when taken; NULL: one is made. type: required for input and foreign,
 * whose type cannot be inferred; may give the dtype of a constant that is not weak (f32 without);
 * else NULL. SG_INVALID names op, operand and shape, and leaves the graph as it was. */
sg_status sg_graph_append(sg_graph *graph, sg_op op, const char *name, const sg_value *operands,
                          int operand_count, const sg_attribute *attributes, const sg_type *type,
                          sg_value *value);
sg_status sg_graph_append_output(sg_graph *graph, sg_value value);
/* Value of that name, or -1. */
sg_value sg_graph_find(const sg_graph *graph, const char *name, int64_t length);

/* Type of op applied to operands, without adding it. Where attributes come in short forms (one
 * entry for all spatial dimensions), they are completed in place. */
sg_status sg_infer(sg_graph *graph, sg_op op, const sg_value *operands, int operand_count,
                   sg_attribute *attributes, sg_type *type);

/* Copies graph with every symbol replaced by what the input layouts say and all types inferred
 * anew. SG_INVALID when a layout contradicts its input's declared type or two uses of a symbol
 * differ. */
sg_status sg_graph_bind(const sg_graph *graph, const sg_layout *inputs, int input_count,
                        sg_graph **bound);

/* Checks every rule above; SG_INVALID with the rule and the node that breaks it. */
sg_status sg_graph_verify(const sg_graph *graph);

/* A node's statement in the text form, without a line end. */
void sg_node_print(const sg_graph *graph, sg_value value, sg_text *text);

/* Types and sizes as the text form writes them, cut off where very long, for messages. The result
 * lives to the end of the statement that calls. */
typedef struct sg_words {
    char text[200];
} sg_words;
sg_words sg_type_words(const sg_graph *graph, const sg_type *type);
sg_words sg_dim_words(const sg_graph *graph, sg_dim dim);
void sg_type_print(const sg_graph *graph, const sg_type *type, sg_text *text);
/* Whether types are provably the same; weak ones differ from others. */
bool sg_type_equal(const sg_type *a, const sg_type *b);

/* Promoted dtype by ATen's rules of two types (category, then rank 0 against higher, then width).
 */
sg_dtype sg_promote(const sg_type *a, const sg_type *b);
/* The same over any number of types; SG_OPAQUE when one is opaque. */
sg_dtype sg_promote_all(const sg_type *const *types, int count);
const char *sg_dtype_name(sg_dtype dtype); /* "f32", ... */
/* SG_DTYPE_COUNT when there is none of that name. */
sg_dtype sg_dtype_find(const char *name, int64_t length);
bool sg_dtype_floating(sg_dtype dtype);
int64_t sg_dtype_size(sg_dtype dtype); /* bytes; 0 for opaque */

/* Axes a reduction or softmax works on: dim attribute normalised (negative ones counted from the
 * end, empty list meaning all) to a bit mask over 0..rank-1. */
unsigned sg_node_axes(const sg_graph *graph, sg_value value);
bool sg_node_keepdim(const sg_graph *graph, sg_value value);
/* Attribute of that name; asserts that the row has it. */
const sg_attribute *sg_node_attribute(const sg_graph *graph, sg_value value, const char *name);

#endif
