/* Partition: a graph cut into steps. Nodes are offered to regions in graph order; a node joins the
 * region of one of its operands when its properties allow it and no other step would then have to
 * run both before and after that region. What no region takes is a region of its own or, if the
 * host must run it, a foreign step. The public type sg_step describes a step. */
#ifndef SEGUE_PLAN_PARTITION_H
#define SEGUE_PLAN_PARTITION_H

#include "base/text.h"
#include "plan/region.h"

struct sg_partition {
    sg_graph *graph; /* owned; simplified */
    sg_arena arena;
    sg_step *steps;
    int step_count;
};

/* Takes ownership of graph, on failure too. */
sg_status sg_partition_cut(sg_graph *graph, sg_partition **partition);

/* The steps as text: foreign operators, and each region's graph with the reason why it ends. */
sg_status sg_partition_print(const sg_partition *partition, sg_text *text);

#endif
