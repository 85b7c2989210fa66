/* One region through planning and lowering. */
#include <stdio.h>

#include "api/pipeline.h"

const sg_cpu_kernels *sg_kernels_get(sg_isa isa, sg_dtype compute) {
    sg_element element = sg_element_of(compute);
    switch (isa) {
#if SG_HAVE_X86
    case SG_ISA_AVX512:
        return sg_cpu_kernels_avx512(element);
    case SG_ISA_AVX2:
        return sg_cpu_kernels_avx2(element);
#endif
    case SG_ISA_GENERIC:
        return sg_cpu_kernels_generic(element);
    default:
        return NULL;
    }
}

sg_status sg_target_create(sg_context *context, const sg_compile_options *options,
                           sg_target *target) {
    const sg_cpu *cpu = sg_cpu_get();
    *target = (sg_target){.cpu = cpu, .isa = cpu->best, .threads = cpu->processors};
    if (options && options->threads > 0)
        target->threads = options->threads;
    if (options && options->isa) {
        target->isa = sg_isa_find(options->isa);
        if (target->isa == SG_ISA_COUNT)
            return sg_fail(context, SG_INVALID,
                           "isa \"%s\" is unknown; there are generic, avx2 and avx512",
                           options->isa);
    }
    if (!cpu->supported[target->isa] || !sg_kernels_get(target->isa, SG_F32))
        return sg_fail(context, SG_INVALID, "isa %s is not to be had on this processor",
                       sg_isa_get(target->isa)->name);
    return SG_OK;
}

/* An axis without elements has no tile to reduce; the interpreter knows what comes out. */
static bool reduces_nothing(const sg_problem *problem) {
    bool empty = problem->size[SG_ROLE_C] == 0;
    for (int role = SG_ROLE_D; role < SG_ROLE_COUNT; role++)
        empty |= problem->walk >> role & 1U && problem->size[role] == 0;
    return empty;
}

sg_status sg_compile_region(sg_compilation *compilation, bool tune, sg_arena *arena,
                            sg_cpu_kernel **kernel) {
    sg_context *context = compilation->graph->context;
    sg_status status = sg_region_open(compilation->graph, &compilation->region);
    if (status != SG_OK)
        return status;
    if (!sg_region_cover(&compilation->region))
        return sg_fail(context, SG_NOT_APPLICABLE, "%s", compilation->region.reason);
    compilation->isa = sg_kernels_get(compilation->target.isa, compilation->region.compute);
    status = sg_problem_create(&compilation->region, compilation->inputs, compilation->outputs,
                               arena, &compilation->problem);
    if (status != SG_OK)
        return status;
    if (reduces_nothing(&compilation->problem))
        return sg_fail(context, SG_NOT_APPLICABLE, "the region reduces over no elements");
    compilation->target.lanes = compilation->isa->vector_length;
    compilation->target.block_channels = compilation->isa->contract_blocks[0].channels;
    compilation->target.block_vectors = compilation->isa->contract_blocks[0].vectors_max;
    compilation->target.pairs = compilation->isa->pair_blocks != NULL;
    sg_choose_plan(&compilation->problem, &compilation->target, &compilation->choice);
    if (!compilation->choice.strategy)
        return sg_fail(context, SG_NOT_APPLICABLE, "%s", compilation->choice.reason);
    if (tune)
        status = sg_tune_region(compilation);
    if (status == SG_OK)
        status = sg_lower_cpu(&compilation->problem, &compilation->choice.plan, compilation->isa,
                              arena, kernel);
    return status;
}
