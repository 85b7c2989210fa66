/* Regions: which operators one kernel can take together, decided by properties.
 *
 * A region works on a space of five axes. With a convolution as anchor they are its output's batch,
 * channels, depth, height and width; without an anchor they are the last dimensions of the widest
 * value. Every value in the region says, dimension by dimension, which axes it runs along, so that
 * views cost nothing: they only rename. A tile of the space holds all of the channel axis; other
 * axes may be walked once, with running values. From this follow all the rules in region.c; a node
 * that breaks one stays outside, and the sentence it leaves is what `explain` prints. */
#ifndef SEGUE_PLAN_REGION_H
#define SEGUE_PLAN_REGION_H

#include <stdbool.h>

#include "ir/graph.h"

enum { SG_AXIS_N, SG_AXIS_C, SG_AXIS_D, SG_AXIS_H, SG_AXIS_W, SG_AXIS_COUNT };
enum { SG_REASON_MAX = 240 };

/* The axes one dimension of a value runs along: count neighbours from first on, outermost first
 * (more than one where dimensions were merged). count 0: the dimension has size 1; first then names
 * the axis that a reduction took away here, or SG_AXIS_COUNT. */
typedef struct sg_axes {
    unsigned char first, count;
} sg_axes;

typedef struct sg_member {
    int in;          /* number of the region that makes the value; 0: none */
    bool after_walk; /* known only when the walk has ended */
    sg_axes dims[SG_RANK_MAX];
} sg_member;

typedef struct sg_region {
    const sg_graph *graph;
    sg_value anchor;            /* the convolution, or -1 */
    sg_dtype compute;           /* SG_F32 or SG_F64 */
    sg_dim size[SG_AXIS_COUNT]; /* 1 for axes the region lacks */
    int channel;                /* the axis every tile holds whole, -1 while none is needed */
    unsigned walk;              /* axes reduced by walking, as bits */
    sg_member *members;         /* [node_count] */
    int number;                 /* marks its members; others may share the array */
    bool owns_members;
    int count;                  /* nodes inside */
    char reason[SG_REASON_MAX]; /* why the last node that was refused was refused; "" if none */
} sg_region;

/* An empty region over graph, which must outlive it. SG_OUT_OF_MEMORY only. */
sg_status sg_region_open(const sg_graph *graph, sg_region *region);
/* The same on an array of members that several regions of one graph share; number is from 1 up. */
void sg_region_open_shared(const sg_graph *graph, sg_member *members, int number,
                           sg_region *region);
void sg_region_close(sg_region *region);

/* Takes value's node in if the properties allow, else leaves the region as it was and writes
 * reason. Nodes must be offered in graph order. A node none of whose operands is inside is taken
 * only by an empty region, of which it becomes the first. */
bool sg_region_join(sg_region *region, sg_value value);

/* Axes a value runs along, as bits. */
unsigned sg_region_domain(const sg_region *region, sg_value value);

/* Axes that dimension `dim` of external operand `operand` of node `value` runs along, by
 * broadcasting against the node's result. False when the operand has size 1 there. */
bool sg_region_operand_axes(const sg_region *region, sg_value value, sg_value operand, int dim,
                            sg_axes *axes);

/* The whole graph as one region; false, with the reason in the region, when it is not. Constants
 * and inputs stay outside. */
bool sg_region_cover(sg_region *region);

/* "N", "C", ... */
const char *sg_axis_name(int axis);

#endif
