#include <string.h>

#include "gen/cuda/kernel.h"

typedef struct sg_cuda_family {
    const char *strategy;
    sg_cuda_lowering *lower;
} sg_cuda_family;

static const sg_cuda_family families[] = {{"wgmma_ring", sg_cuda_lower_wgmma_ring},
                                          {"wgmma_gathered", sg_cuda_lower_wgmma_gathered},
                                          {"wgmma_packed", sg_cuda_lower_wgmma_packed},
                                          {"wgmma_streamed", sg_cuda_lower_wgmma_streamed},
                                          {"mma", sg_cuda_lower_mma},
                                          {"implicit_gemm", sg_cuda_lower_implicit_gemm},
                                          {"direct", sg_cuda_lower_direct},
                                          {"stream", sg_cuda_lower_stream},
                                          {NULL, NULL}};

sg_status sg_cuda_lower(const sg_problem *problem, const sg_cuda_target *target,
                        const sg_cuda_choice *choice, sg_arena *arena, sg_cuda_kernel *kernel) {
    for (const sg_cuda_family *family = families; family->strategy; family++) {
        if (strcmp(family->strategy, choice->strategy->name) == 0)
            return family->lower(problem, target, &choice->plan, arena, kernel);
    }
    return sg_fail(problem->region->graph->context, SG_NOT_APPLICABLE,
                   "strategy %s has no lowering in this build", choice->strategy->name);
}
