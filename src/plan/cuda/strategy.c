#include "plan/cuda/strategy.h"

#include <stdlib.h>
#include <string.h>

#include "plan/cuda/facts.h"
#include "plan/cuda/host.h"
#include "plan/wisdom.h"

/* In the order of preference among equals: faster families first, the net last. */
static const sg_cuda_strategy *const registry[] = {&sg_cuda_wgmma_ring,
                                                   &sg_cuda_wgmma_gathered,
                                                   &sg_cuda_wgmma_packed,
                                                   &sg_cuda_wgmma_streamed,
                                                   &sg_cuda_mma,
                                                   &sg_cuda_implicit_gemm,
                                                   &sg_cuda_direct,
                                                   &sg_cuda_stream,
                                                   NULL};

static bool considered(const sg_cuda_strategy *strategy, const char *only) {
    return !only || strcmp(strategy->name, only) == 0;
}

/* Whether the strategy can run the problem, in the class that is asked for. */
static bool applicable(const sg_cuda_strategy *strategy, const sg_problem *problem,
                       const sg_cuda_target *target, char *reason) {
    bool carries = strategy == &sg_cuda_wgmma_ring || strategy == &sg_cuda_wgmma_packed ||
                   strategy == &sg_cuda_wgmma_gathered || strategy == &sg_cuda_wgmma_streamed;
    if (carries && target->precision == SG_PRECISION_PLAIN_TF32 && problem->has_convolution &&
        problem->convolution.input.dtype == SG_F32) {
        strcpy(reason, "it carries float32 operands in halves, which class plain_tf32 excludes");
        return false;
    }
    return strategy->applicable(problem, target, reason);
}

/* Expected seconds of a plan: the strategy's own, which knows its contraction, and what the costly
 * functions of the tail take, which is the same for all: their instructions are issued for every
 * value, and fetched for as many values as `apply` (common.cuh) writes side by side, once, since a
 * launch's first pass through them is what small problems wait for. */
static double price(const sg_cuda_strategy *strategy, const sg_problem *problem,
                    const sg_cuda_target *target, const sg_cuda_plan *plan) {
    static const double COUNTED = 8; /* instructions of a value that the strategies count */
    static const double AT_ONCE = 8; /* values, by and large */
    static const double FETCH = 12;  /* cycles of an instruction that was not executed before */
    const sg_gpu *gpu = &target->gpu;
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    double seconds = strategy->cost(problem, target, plan);
    if (problem->has_convolution && facts.work > COUNTED) {
        double values = 1;
        for (int role = 0; role < SG_ROLE_COUNT; role++)
            values *= (double)problem->size[role];
        /* gpu->fp32 counts a multiply and an add apart. */
        seconds += values * (facts.work - COUNTED) / (gpu->fp32 / 2);
        seconds += AT_ONCE * facts.work * FETCH / (gpu->fp32 / (gpu->multiprocessors * 256.0));
    }
    return seconds;
}

static int by_cost(const void *left, const void *right) {
    double a = ((const sg_cuda_choice *)left)->cost, b = ((const sg_cuda_choice *)right)->cost;
    return (a > b) - (a < b);
}

/* Candidates of one strategy, cheapest first. */
static int list_one(const sg_cuda_strategy *strategy, const sg_problem *problem,
                    const sg_cuda_target *target, sg_cuda_choice *choices) {
    char reason[SG_REASON_MAX];
    sg_cuda_plan plans[SG_CUDA_CANDIDATES_MAX];
    if (!applicable(strategy, problem, target, reason))
        return 0;
    int count = strategy->candidates(problem, target, plans);
    for (int i = 0; i < count; i++)
        choices[i] = (sg_cuda_choice){.strategy = strategy,
                                      .plan = plans[i],
                                      .cost = price(strategy, problem, target, &plans[i]),
                                      .host_cost = sg_cuda_cost_host(problem, target),
                                      .library_cost = sg_cuda_cost_library(problem, target)};
    qsort(choices, (size_t)count, sizeof *choices, by_cost);
    return count;
}

int sg_cuda_list_plans(const sg_problem *problem, const sg_cuda_target *target, const char *only,
                       sg_cuda_choice *choices) {
    /* So that no strategy crowds out another. */
    enum { STRATEGIES = sizeof registry / sizeof registry[0] - 1 };
    const int most = only ? SG_CUDA_CANDIDATES_MAX : SG_CUDA_CANDIDATES_MAX / STRATEGIES;
    sg_cuda_choice listed[SG_CUDA_CANDIDATES_MAX];
    int count = 0;
    for (int i = 0; registry[i]; i++) {
        int found =
            considered(registry[i], only) ? list_one(registry[i], problem, target, listed) : 0;
        for (int k = 0; k < found && k < most && count < SG_CUDA_CANDIDATES_MAX; k++)
            choices[count++] = listed[k];
    }
    qsort(choices, (size_t)count, sizeof *choices, by_cost);
    return count;
}

/* Takes the plan that wisdom has for the problem, if it is this strategy's. */
static bool remembered(const sg_cuda_strategy *strategy, const sg_problem *problem,
                       const sg_cuda_target *target, sg_cuda_choice *choice) {
    sg_cuda_plan plan;
    double seconds;
    if (!sg_wisdom_find_gpu(problem, target, strategy, &plan, &seconds) ||
        !strategy->usable(problem, target, &plan))
        return false;
    choice->strategy = strategy;
    choice->plan = plan;
    choice->cost = seconds;
    choice->from_wisdom = true;
    return true;
}

void sg_cuda_choose_plan(const sg_problem *problem, const sg_cuda_target *target, const char *only,
                         sg_cuda_choice *choice) {
    *choice = (sg_cuda_choice){.host_cost = sg_cuda_cost_host(problem, target),
                               .library_cost = sg_cuda_cost_library(problem, target)};
    strcpy(choice->reason, "no strategy of this name");
    for (int i = 0; registry[i]; i++) {
        sg_cuda_plan plans[SG_CUDA_CANDIDATES_MAX];
        if (!considered(registry[i], only) ||
            !applicable(registry[i], problem, target, choice->reason))
            continue;
        if (remembered(registry[i], problem, target, choice))
            return;
        int count = registry[i]->candidates(problem, target, plans);
        for (int k = 0; k < count; k++) {
            double cost = price(registry[i], problem, target, &plans[k]);
            if (!choice->strategy || cost < choice->cost) {
                choice->strategy = registry[i];
                choice->plan = plans[k];
                choice->cost = cost;
            }
        }
    }
}
