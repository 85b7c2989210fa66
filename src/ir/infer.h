/* Shape and dtype rules, one function per kind of operator. Each reads the operands' types and the
 * attributes, checks them as ATen does and writes the result's type, or fails with a sentence that
 * names the operator, its shapes and what would be accepted. */
#ifndef SEGUE_IR_INFER_H
#define SEGUE_IR_INFER_H

#include "ir/graph.h"

typedef struct sg_call {
    sg_graph *graph;
    sg_op op;
    const sg_op_info *info;
    int count;
    const sg_type *operands[SG_OPERANDS_MAX]; /* NULL where left out */
    sg_attribute *attributes;                 /* SPATIAL ones are completed in place */
} sg_call;

sg_status sg_infer_pointwise(sg_call *call, sg_type *type);
sg_status sg_infer_convolution(sg_call *call, sg_type *type);
sg_status sg_infer_reduction(sg_call *call, sg_type *type);
sg_status sg_infer_softmax(sg_call *call, sg_type *type);
sg_status sg_infer_view(sg_call *call, sg_type *type);

/* Rank, sizes and number of elements within their limits. */
sg_status sg_type_check(sg_graph *graph, const char *op_name, const sg_type *type);

/* dim, counted from the end when negative, as an axis of a tensor of that rank; rank 0 counts as 1,
 * as in ATen. False when out of range. */
bool sg_axis(int64_t dim, int rank, int *axis);
/* The same, failing with a sentence. */
sg_status sg_infer_axis(const sg_call *call, const sg_type *operand, int64_t dim, int *axis);
/* A list attribute of axes as a set; each may stand there once. */
sg_status sg_infer_axes(const sg_call *call, const sg_type *operand, const sg_attribute *list,
                        unsigned *axes);
sg_status sg_infer_floating(const sg_call *call, const sg_type *operand);

/* Takes back nodes and outputs that were appended last. */
void sg_graph_truncate(sg_graph *graph, int node_count, int output_count);

#endif
