/* Wisdom: plans remembered from measuring, as text, one line a problem:
 *
 *     segue-wisdom 1
 *     <key> = <strategy> box=1,8,254 run=96 chunk=16 sum=120
 *
 * The key names all that would change the best plan: instruction set, threads, dtypes, sizes,
 * strides, the convolution's parameters and the operators of the tail. Wisdom serves the process;
 * importing is all or nothing, and a later line for the same key replaces the earlier one. */
#ifndef SEGUE_PLAN_WISDOM_H
#define SEGUE_PLAN_WISDOM_H

#include "plan/strategy.h"

/* False when nothing is known, or memory ran out. */
bool sg_wisdom_find(const sg_problem *problem, const sg_target *target, char *strategy,
                    size_t strategy_size, sg_cpu_plan *plan);
/* Remembers; on failure to, wisdom stays as it was. */
sg_status sg_wisdom_remember(const sg_problem *problem, const sg_target *target,
                             const char *strategy, const sg_cpu_plan *plan);

#endif
