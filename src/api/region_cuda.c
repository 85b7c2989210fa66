/* One region through planning and lowering for a GPU. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/cuda.h"

static const char *const precision_names[SG_PRECISION_COUNT] = {
    [SG_PRECISION_FP32] = "fp32",
    [SG_PRECISION_TF32] = "tf32",
    [SG_PRECISION_TF32_EVEN] = "tf32_even",
    [SG_PRECISION_PLAIN_TF32] = "plain_tf32",
};

/* ---- target -------------------------------------------------------------------------------- */

static sg_status find_gpu(sg_context *context, const char *name, sg_gpu *gpu, int *device) {
    char *end;
    enum { DECIMAL = 10 };
    *device = -1;
    if (sg_gpu_find(name, gpu))
        return SG_OK;
    long index = strtol(name, &end, DECIMAL);
    if (end == name || *end != '\0' || index < 0 || index >= SG_CUDA_DEVICES_MAX)
        return sg_fail(context, SG_INVALID,
                       "gpu \"%s\" is unknown; there are %s, and devices by number", name,
                       sg_gpu_architectures());
    *device = (int)index;
    return sg_cuda_describe(context, *device, gpu);
}

sg_status sg_cuda_target_create(sg_context *context, const sg_compile_options *options,
                                sg_cuda_target *target, int *device) {
    enum { ALIGNMENT = 16 };
    const char *precision = options->precision ? options->precision : "fp32";
    *target = (sg_cuda_target){.precision = SG_PRECISION_COUNT, .alignment = ALIGNMENT};
    for (int i = 0; i < SG_PRECISION_COUNT; i++) {
        if (strcmp(precision, precision_names[i]) == 0)
            target->precision = (sg_precision)i;
    }
    if (target->precision == SG_PRECISION_COUNT)
        return sg_fail(
            context, SG_INVALID,
            "precision \"%s\" is unknown; there are fp32, tf32, tf32_even and plain_tf32",
            precision);
    int alignment = options->alignment;
    if (alignment < 0 || (alignment & (alignment - 1)) != 0)
        return sg_fail(context, SG_INVALID, "alignment %d is not a power of two", alignment);
    if (alignment > 0 && alignment < ALIGNMENT)
        target->alignment = alignment;
    return find_gpu(context, options->gpu, &target->gpu, device);
}

/* ---- the region ---------------------------------------------------------------------------- */

/* Whether the region has no elements at all, and then whether anything is left to write: an axis
 * without elements that is reduced leaves results that no tile has. */
static bool is_empty(const sg_problem *problem, bool *writes) {
    unsigned empty = 0;
    for (int role = 0; role < SG_ROLE_COUNT; role++)
        empty |= problem->size[role] == 0 ? 1U << role : 0U;
    *writes = false;
    for (int i = 0; i < problem->output_count; i++)
        *writes |= (problem->outputs[i].domain & empty) == 0;
    return empty != 0;
}

static sg_status plan_and_lower(sg_cuda_compilation *compilation, bool tune, sg_arena *arena,
                                sg_cuda_kernel *kernel) {
    sg_context *context = compilation->graph->context;
    sg_cuda_choice *choice = &compilation->choice;
    sg_cuda_choose_plan(&compilation->problem, &compilation->target, compilation->strategy, choice);
    if (!choice->strategy)
        return sg_fail(context, SG_NOT_APPLICABLE, "%s", choice->reason);
    sg_status status = tune ? sg_cuda_tune_region(compilation) : SG_OK;
    if (status != SG_OK)
        return status;
    return sg_cuda_lower(&compilation->problem, &compilation->target, choice, arena, kernel);
}

sg_status sg_cuda_compile_region(sg_cuda_compilation *compilation, bool tune, sg_arena *arena,
                                 sg_cuda_kernel **kernel) {
    sg_context *context = compilation->graph->context;
    bool writes;
    sg_status status = sg_region_open(compilation->graph, &compilation->region);
    if (status != SG_OK)
        return status;
    if (!sg_region_cover(&compilation->region))
        return sg_fail(context, SG_NOT_APPLICABLE, "%s", compilation->region.reason);
    status = sg_problem_create(&compilation->region, compilation->inputs, compilation->outputs,
                               arena, &compilation->problem);
    if (status != SG_OK)
        return status;
    *kernel = SG_ARENA_NEW(arena, sg_cuda_kernel, 1);
    if (!*kernel)
        return sg_fail_memory(context);
    bool empty = is_empty(&compilation->problem, &writes);
    if (empty && writes)
        return sg_fail(context, SG_NOT_APPLICABLE, "the region reduces over no elements");
    if (empty) /* no launch, at no cost */
        return SG_OK;
    if (compilation->problem.has_convolution && compilation->problem.convolution.in_channels == 0)
        return sg_fail(context, SG_NOT_APPLICABLE, "the convolution has no input channels");
    return plan_and_lower(compilation, tune, arena, *kernel);
}

sg_status sg_cuda_judge(sg_context *context, double fused, double one_by_one, double library) {
    static const double PROFIT = 0.9;
    /* Of the host's own time: in a row of short calls its work does not hide behind the GPU's, and
     * going back and forth between the library and Segue is more of it. */
    static const double BACK_AND_FORTH = 20e-6;
    bool gain = fused <= PROFIT * one_by_one;
    library += BACK_AND_FORTH;
    if (gain && fused <= library)
        return SG_OK;
    if (library < fused && library <= PROFIT * one_by_one)
        return sg_fail(context, SG_NOT_APPLICABLE,
                       "library: expected %.4f ms with the anchor by the library and the rest "
                       "fused, against %.4f ms all fused and %.4f ms one operator after the other",
                       library * 1e3, fused * 1e3, one_by_one * 1e3);
    return sg_fail(context, SG_NOT_APPLICABLE,
                   "expected %.4f ms fused against %.4f ms one operator after the other, which is "
                   "no gain",
                   fused * 1e3, one_by_one * 1e3);
}

/* ---- for people ---------------------------------------------------------------------------- */

static void explain_times(const sg_cuda_compilation *compilation, sg_text *text) {
    const sg_cuda_choice *choice = &compilation->choice;
    sg_text_add(text,
                "strategy %s%s, expected %.4f ms against %.4f ms for its operators one by one",
                choice->strategy->name, choice->from_wisdom ? " (measured)" : "",
                choice->cost * 1e3, choice->host_cost * 1e3);
    if (isfinite(choice->library_cost))
        sg_text_add(text, " and %.4f ms for the anchor by the library and the rest fused",
                    choice->library_cost * 1e3);
    sg_text_add(text, "\n  plan:");
    for (int i = 0; choice->strategy->parameters[i]; i++)
        sg_text_add(text, " %s %lld", choice->strategy->parameters[i],
                    (long long)choice->plan.parameter[i]);
    sg_text_add(text, "\n");
}

void sg_cuda_explain(const sg_cuda_compilation *compilation, const sg_cuda_kernel *kernel,
                     sg_text *text) {
    const sg_problem *problem = &compilation->problem;
    const sg_gpu *gpu = &compilation->target.gpu;
    if (!compilation->choice.strategy) {
        sg_text_add(text, "no elements, nothing to launch\n");
        return;
    }
    explain_times(compilation, text);
    sg_text_add(text, "  for %s (%s)", gpu->name, gpu->architecture);
    if (problem->has_convolution && problem->convolution.input.dtype == SG_F32)
        sg_text_add(text, ", anchor in %s", precision_names[compilation->target.precision]);
    sg_text_add(text, "; addresses aligned to %d bytes\n", compilation->target.alignment);
    sg_text_add(text, "  %.4g flops; %.4g bytes at least, %.4f ms at the speed of a copy\n",
                problem->flops, problem->bytes, problem->bytes / gpu->copy * 1e3);
    for (int i = 0; i < kernel->launch_count; i++) {
        const sg_cuda_launch *launch = &kernel->launches[i];
        sg_text_add(text, "  launch %s: %lld blocks of %d threads", launch->entry,
                    (long long)launch->grid, launch->block);
        if (launch->cluster > 1)
            sg_text_add(text, ", clusters of %d", launch->cluster);
        sg_text_add(text, ", %lld bytes of shared memory\n", (long long)launch->shared);
    }
    sg_text_add(text, "  workspace %lld bytes\n", (long long)kernel->workspace);
}
