#include "gen/cpu/lower.h"

sg_status sg_lower_cpu(const sg_problem *problem, const sg_cpu_plan *plan,
                       const sg_cpu_kernels *isa, sg_arena *arena, sg_cpu_kernel **result) {
    sg_cpu_kernel *kernel = SG_ARENA_NEW(arena, sg_cpu_kernel, 1);
    if (!kernel) {
        return sg_fail_memory(problem->region->graph->context);
    }
    kernel->isa = isa;
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        kernel->size[role] = problem->size[role];
    }
    kernel->walk = problem->walk;
    kernel->flat = problem->flat;
    kernel->plan = *plan;
    kernel->tile_rows = problem->size[SG_ROLE_C];
    kernel->has_convolution = problem->has_convolution;
    sg_status status = SG_OK;
    if (problem->has_convolution) {
        kernel->convolution = problem->convolution;
        kernel->pairs = isa->pair_blocks && sg_problem_pairs(problem);
        kernel->sum = kernel->pairs ? (plan->sum + 1) / 2 : plan->sum;
        status = sg_lay_out_slab(problem, arena, kernel);
    }
    if (status == SG_OK) {
        status = sg_encode_tile_program(problem, SG_TILING_RUNS, arena, &kernel->program);
    }
    *result = kernel;
    return status;
}
