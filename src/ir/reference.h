/* The float64 interpreter's parts: plain loops over contiguous doubles, in the order of the
 * definition. Sizes are numbers throughout (the graph is bound), bool is 0 or 1. */
#ifndef SEGUE_IR_REFERENCE_H
#define SEGUE_IR_REFERENCE_H

#include "ir/graph.h"

/* One node with its data: operands[i] is NULL where left out. */
typedef struct sg_evaluation {
    const sg_graph *graph;
    sg_value value;
    const sg_node *node;
    const sg_type *types[SG_OPERANDS_MAX];
    const double *operands[SG_OPERANDS_MAX];
    double *result;
} sg_evaluation;

void sg_reference_pointwise(const sg_evaluation *e);
void sg_reference_convolution(const sg_evaluation *e);
void sg_reference_reduction(const sg_evaluation *e);
void sg_reference_softmax(const sg_evaluation *e);
void sg_reference_view(const sg_evaluation *e);

/* value as a number of that dtype holds it: rounded to nearest even, with overflow to infinity. */
double sg_round_to(sg_dtype dtype, double value);
int64_t sg_type_elements(const sg_type *type);

/* A walk over all index tuples of some sizes, the last running fastest, with up to four positions
 * that each follow strides of their own. Not to be started where a size is 0. */
typedef struct sg_index_walk {
    int rank, positions;
    int64_t size[SG_RANK_MAX], index[SG_RANK_MAX];
    int64_t stride[4][SG_RANK_MAX], at[4];
} sg_index_walk;

/* Sizes of type; no position yet. */
sg_index_walk sg_index_walk_over(const sg_type *type);
/* Adds a position in a contiguous tensor that broadcasts to the walk's sizes; returns its number.
 */
int sg_index_walk_follow(sg_index_walk *walk, const sg_type *type);
/* False at the end. */
bool sg_index_walk_next(sg_index_walk *walk);

#endif
