/* Strategies for GPUs: the ways to run a region as CUDA kernels. Each is one file here (when it
 * applies, which plans are worth pricing, what they cost), one file in gen/cuda (how a plan becomes
 * source text) and one skeleton in kernels/cuda. docs/cuda.md is the guide. */
#ifndef SEGUE_PLAN_CUDA_STRATEGY_H
#define SEGUE_PLAN_CUDA_STRATEGY_H

#include "plan/problem.h"
#include "target/gpu.h"

/* How the anchor's float32 operands are taken. Other dtypes are taken as they are, and summed in
 * float32, or float64 for float64. */
typedef enum sg_precision {
    SG_PRECISION_FP32,       /* error against float64 no larger than a library's float32 */
    SG_PRECISION_TF32,       /* operands rounded to 11 bits, halves away from zero; float32 sums */
    SG_PRECISION_TF32_EVEN,  /* the same, halves to even */
    SG_PRECISION_PLAIN_TF32, /* as TF32, but by strategies alone that multiply float32 operands as
                                they are rounded, and do not carry them in halves */
    SG_PRECISION_COUNT
} sg_precision;

typedef struct sg_cuda_target {
    sg_gpu gpu;
    sg_precision precision;
    int alignment; /* bytes that every tensor's first element is aligned to: 16, or its size */
} sg_cuda_target;

enum { SG_CUDA_PARAMETERS = 12, SG_CUDA_CANDIDATES_MAX = 64 };

/* Parameters of a plan, in the order of the strategy's parameter names. */
typedef struct sg_cuda_plan {
    int64_t parameter[SG_CUDA_PARAMETERS];
} sg_cuda_plan;

typedef struct sg_cuda_strategy {
    const char *name;
    const char *const *parameters; /* names, for wisdom and for people; NULL at the end */
    /* False, with a sentence in reason, when the strategy cannot run the problem at all. */
    bool (*applicable)(const sg_problem *problem, const sg_cuda_target *target, char *reason);
    /* Plans worth pricing, at most SG_CUDA_CANDIDATES_MAX, at least one; all of them must fit the
     * target's limits. */
    int (*candidates)(const sg_problem *problem, const sg_cuda_target *target, sg_cuda_plan *plans);
    /* Whether a plan, from wisdom perhaps, is one that the lowering can keep. */
    bool (*usable)(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan);
    /* Expected seconds, launches included. */
    double (*cost)(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan);
} sg_cuda_strategy;

typedef struct sg_cuda_choice {
    const sg_cuda_strategy *strategy; /* NULL: none is applicable; reason says why */
    sg_cuda_plan plan;
    double cost;         /* expected seconds */
    double host_cost;    /* expected seconds of the operators one by one, as PyTorch runs them */
    double library_cost; /* expected seconds of the anchor by the library and the rest as one
                            streaming kernel; infinite without an anchor */
    bool from_wisdom;
    char reason[SG_REASON_MAX];
} sg_cuda_choice;

/* only: a strategy's name, or NULL for any. */
void sg_cuda_choose_plan(const sg_problem *problem, const sg_cuda_target *target, const char *only,
                         sg_cuda_choice *choice);
/* The cheapest candidates of every applicable strategy, each with an equal share of
 * SG_CUDA_CANDIDATES_MAX, cheapest first. */
int sg_cuda_list_plans(const sg_problem *problem, const sg_cuda_target *target, const char *only,
                       sg_cuda_choice *choices);

extern const sg_cuda_strategy sg_cuda_wgmma_ring, sg_cuda_wgmma_gathered, sg_cuda_wgmma_packed,
    sg_cuda_wgmma_streamed, sg_cuda_mma, sg_cuda_implicit_gemm, sg_cuda_direct, sg_cuda_stream;

#endif
