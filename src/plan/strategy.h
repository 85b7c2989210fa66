/* Strategies: the ways to run a region on the CPU. Each is one file with one `sg_strategy` and one
 * line in the registry (strategy.c). The planner asks every applicable strategy for candidate
 * plans, prices them with the cost model and keeps the cheapest; wisdom, when there is any, decides
 * instead. */
#ifndef SEGUE_PLAN_STRATEGY_H
#define SEGUE_PLAN_STRATEGY_H

#include "plan/cpu_plan.h"
#include "plan/problem.h"
#include "target/cpu.h"

/* What a plan is made for. */
typedef struct sg_target {
    const sg_cpu *cpu;
    sg_isa isa;
    int threads;
    int lanes;          /* elements of the compute type in a vector */
    int block_channels; /* the widest block of the contraction kernel: output channels, */
    int block_vectors;  /* and vectors of pixels */
    bool pairs;         /* it has blocks for pairs of bfloat16 too */
} sg_target;

enum { SG_CANDIDATES_MAX = 64 };

typedef struct sg_strategy {
    const char *name;
    /* False, with a sentence in reason, when the strategy cannot run the problem at all. */
    bool (*applicable)(const sg_problem *problem, const sg_target *target, char *reason);
    /* Plans worth pricing, at most SG_CANDIDATES_MAX; at least one. */
    int (*candidates)(const sg_problem *problem, const sg_target *target, sg_cpu_plan *plans);
    /* Expected seconds. */
    double (*cost)(const sg_problem *problem, const sg_target *target, const sg_cpu_plan *plan);
} sg_strategy;

typedef struct sg_choice {
    const sg_strategy *strategy; /* NULL: none is applicable; reason says why */
    sg_cpu_plan plan;
    double cost; /* expected seconds */
    double
        host_cost; /* expected seconds of the operators one by one, as a good library runs them */
    bool from_wisdom;
    char reason[SG_REASON_MAX];
} sg_choice;

void sg_choose_plan(const sg_problem *problem, const sg_target *target, sg_choice *choice);

/* Every candidate of every applicable strategy, cheapest first, for a planner that measures.
 * Returns how many were written, at most SG_CANDIDATES_MAX. */
int sg_list_plans(const sg_problem *problem, const sg_target *target, sg_choice *choices);

extern const sg_strategy
    sg_strategy_direct; /* convolution by the contraction kernel, tail in the tile */
extern const sg_strategy sg_strategy_stream; /* a tail without a convolution */

#endif
