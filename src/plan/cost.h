/* The cost model: seconds that a plan, or the host's library in its place, is expected to take.
 * Built from counts (products, bytes, instructions) and from rates that stand with their origin in
 * cost.c. It only has to rank plans and to tell a win from a loss; wisdom replaces it where it
 * errs. */
#ifndef SEGUE_PLAN_COST_H
#define SEGUE_PLAN_COST_H

#include "plan/strategy.h"

/* Shape of the work that a plan makes of a problem. */
typedef struct sg_tiling {
    double items;         /* independent pieces of work */
    double steps;         /* boxes of one item */
    double runs;          /* tiles of one box, walked places counted */
    double kept_runs;     /* the same, walked places counted once */
    double run_vectors;   /* vectors of one tile row, edges counted in full, on average */
    double slab_elements; /* of one box; 0 without a convolution */
} sg_tiling;

sg_tiling sg_tile(const sg_problem *problem, const sg_target *target, const sg_cpu_plan *plan);

/* Elements of one box's slab, phases and halo included, the slack of the last run not. */
double sg_slab_elements(const sg_problem *problem, const sg_target *target,
                        const sg_cpu_plan *plan);

/* Input channels of a group in the slab, or pairs of them. */
double sg_slab_depth(const sg_problem *problem, const sg_target *target);

/* Output channels, rounded up to whole blocks. */
double sg_padded_channels(const sg_problem *problem, const sg_target *target);

/* Seconds of the tail on tiles, of packing, of memory traffic, and all in all. */
double sg_cost_plan(const sg_problem *problem, const sg_target *target, const sg_cpu_plan *plan);

/* Seconds of the operators one by one in PyTorch. */
double sg_cost_host(const sg_problem *problem, const sg_target *target);

#endif
