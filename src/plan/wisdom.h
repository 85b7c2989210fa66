/* Wisdom: plans remembered from measuring, as text, one line a problem:
 *
 *     segue-wisdom 1
 *     <key> = <strategy> box=1,8,254 run=96 chunk=16 sum=120
 *     gpu <key> = <strategy> rows=4 stages=3 ns=785000
 *
 * The key names all that would change the best plan: instruction set and threads, or GPU, precision
 * and alignment; dtypes, sizes, strides, the convolution's parameters and the operators of the
 * tail. A GPU's plan is the strategy's parameters by name, and the nanoseconds it took. Wisdom
 * serves the process; importing is all or nothing, and a later line for the same key replaces the
 * earlier one. */
#ifndef SEGUE_PLAN_WISDOM_H
#define SEGUE_PLAN_WISDOM_H

#include "plan/cuda/strategy.h"
#include "plan/strategy.h"

/* False when nothing is known, or memory ran out. */
bool sg_wisdom_find(const sg_problem *problem, const sg_target *target, char *strategy,
                    size_t strategy_size, sg_cpu_plan *plan);
/* Remembers; on failure to, wisdom stays as it was. */
sg_status sg_wisdom_remember(const sg_problem *problem, const sg_target *target,
                             const char *strategy, const sg_cpu_plan *plan);

/* The same for GPUs. Finding: false as well when the plan is another strategy's, or has not all of
 * this one's parameters; whether it is usable is the strategy's to say. */
bool sg_wisdom_find_gpu(const sg_problem *problem, const sg_cuda_target *target,
                        const sg_cuda_strategy *strategy, sg_cuda_plan *plan, double *seconds);
sg_status sg_wisdom_remember_gpu(const sg_problem *problem, const sg_cuda_target *target,
                                 const sg_cuda_strategy *strategy, const sg_cuda_plan *plan,
                                 double seconds);

#endif
