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

void sg_choose_plan(const sg_problem *problem, const sg_target *target, sg_choice *choice) {
    *choice = (sg_choice){.host_cost = sg_cost_host(problem, target)};
    char name[32];
    if (sg_wisdom_find(problem, target, name, sizeof name, &choice->plan)) {
        for (int i = 0; i < STRATEGY_COUNT; i++) {
            bool named = strcmp(registry[i]->name, name) == 0;
            if (named && registry[i]->applicable(problem, target, choice->reason)) {
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
