#include "plan/strategy.h"

#include <stdlib.h>
#include <string.h>

#include "plan/cost.h"
#include "plan/wisdom.h"

static const sg_strategy *const registry[] = {&sg_strategy_direct, &sg_strategy_stream};
enum { STRATEGY_COUNT = sizeof registry / sizeof registry[0] };

static int by_cost(const void *left, const void *right) {
    double a = ((const sg_choice *)left)->cost, b = ((const sg_choice *)right)->cost;
    return (a > b) - (a < b);
}

int sg_list_plans(const sg_problem *problem, const sg_target *target, sg_choice *choices) {
    int count = 0;
    for (int i = 0; i < STRATEGY_COUNT; i++) {
        char reason[SG_REASON_MAX];
        sg_cpu_plan plans[SG_CANDIDATES_MAX];
        if (!registry[i]->applicable(problem, target, reason))
            continue;
        int plan_count = registry[i]->candidates(problem, target, plans);
        for (int k = 0; k < plan_count && count < SG_CANDIDATES_MAX; k++) {
            choices[count++] = (sg_choice){.strategy = registry[i],
                                           .plan = plans[k],
                                           .cost = registry[i]->cost(problem, target, &plans[k]),
                                           .host_cost = sg_cost_host(problem, target)};
        }
    }
    qsort(choices, (size_t)count, sizeof *choices, by_cost);
    return count;
}

/* Bytes of scratch memory a thread takes, at the most, for a plan that no planner here made. */
static const double SCRATCH_LIMIT = 64 << 20;

/* Brings a plan from wisdom, which is anybody's text, within the limits that kernels rely on: boxes
 * no larger than the space, and of one place along kept axes outside the run. False when it would
 * still take too much memory. */
static bool make_usable(const sg_problem *problem, const sg_target *target, sg_cpu_plan *plan) {
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        int role = SG_ROLE_D + axis;
        bool together = (problem->walk | sg_problem_run_roles(problem)) >> role & 1U;
        int64_t most = together && problem->size[role] > 1 ? problem->size[role] : 1;
        plan->box[axis] = plan->box[axis] < most ? plan->box[axis] : most;
    }
    const sg_convolution *convolution = &problem->convolution;
    int64_t reach =
        !problem->has_convolution
            ? 0
            : (convolution->kernel[2] - 1) * convolution->dilation[2] / convolution->stride[2];
    int64_t pixels = problem->flat ? plan->box[1] * (plan->box[2] + reach) : plan->box[2];
    int64_t longest = (pixels + SG_RUN_STEP - 1) / SG_RUN_STEP * SG_RUN_STEP;
    plan->run = plan->run < longest ? plan->run : longest;
    double slab = problem->has_convolution ? sg_slab_elements(problem, target, plan) : 0;
    double tile = (double)problem->size[SG_ROLE_C] * (double)plan->run;
    return (slab + tile) * sg_dtype_size(problem->compute) <= SCRATCH_LIMIT;
}

void sg_choose_plan(const sg_problem *problem, const sg_target *target, sg_choice *choice) {
    *choice = (sg_choice){.host_cost = sg_cost_host(problem, target)};
    char name[32];
    if (sg_wisdom_find(problem, target, name, sizeof name, &choice->plan)) {
        for (int i = 0; i < STRATEGY_COUNT; i++) {
            bool named = strcmp(registry[i]->name, name) == 0;
            if (named && registry[i]->applicable(problem, target, choice->reason) &&
                make_usable(problem, target, &choice->plan)) {
                choice->strategy = registry[i];
                choice->cost = registry[i]->cost(problem, target, &choice->plan);
                choice->from_wisdom = true;
                return;
            }
        }
    }
    for (int i = 0; i < STRATEGY_COUNT; i++) {
        sg_cpu_plan plans[SG_CANDIDATES_MAX];
        if (!registry[i]->applicable(problem, target, choice->reason))
            continue;
        int count = registry[i]->candidates(problem, target, plans);
        for (int k = 0; k < count; k++) {
            double cost = registry[i]->cost(problem, target, &plans[k]);
            if (!choice->strategy || cost < choice->cost) {
                choice->strategy = registry[i];
                choice->plan = plans[k];
                choice->cost = cost;
            }
        }
    }
}
