/* Random graphs: a convolution or none, then operators at random, as Segue may meet them in
 * anybody's model. A proposal that inference refuses is dropped, so proposals may be sloppy. */
#ifndef SEGUE_TESTS_RANDOM_GRAPH_H
#define SEGUE_TESTS_RANDOM_GRAPH_H

#include "program_check.h"
#include "random.h"

typedef struct random_shape {
    int percent_convolution; /* of graphs that begin with a convolution */
    int nodes_max;           /* operators after the first */
    int64_t work_max;        /* products of the convolution, about */
    bool special;            /* NaN, infinities and extremes among the inputs */
} random_shape;

/* Fills check but for isa, threads and outputs. False when this seed gives no graph. The caller
 * destroys check->graph. */
bool random_graph_make(sg_context *context, random_state *random, const random_shape *shape,
                       program_check *check);

/* Other strides for the same sizes: permuted, sliced and, where allowed, broadcast. */
void random_strides(random_state *random, bool broadcasts, sg_layout *layout);

#endif
