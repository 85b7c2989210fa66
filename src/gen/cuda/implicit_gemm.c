/* Lowering of `implicit_gemm`: one launch of conv_implicit_gemm.cuh. */
#include "plan/cuda/implicit_gemm.h"

#include <assert.h>
#include <string.h>

#include "gen/cuda/block.h"
#include "plan/cuda/block.h"

/* Whether output places vary along an axis. */
static bool has(const sg_cuda_arguments *arguments, int role) {
    const char *size = sg_cuda_size(arguments->problem, role, arguments->arena);
    return size && strcmp(size, "1") != 0;
}

static void write_constants(const sg_cuda_arguments *arguments, const sg_cuda_target *target,
                            const sg_implicit_gemm *gemm, sg_text *text) {
    const sg_problem *problem = arguments->problem;
    const sg_convolution *convolution = &problem->convolution;
    const sg_cuda_constant constants[] = {
        {"GROUP_INPUTS", gemm->group_inputs},
        {"GROUP_OUTPUTS", gemm->group_outputs},
        {"KERNEL_D", convolution->kernel[0]},
        {"KERNEL_H", convolution->kernel[1]},
        {"KERNEL_W", convolution->kernel[2]},
        {"STRIDE_D", convolution->stride[0]},
        {"STRIDE_H", convolution->stride[1]},
        {"STRIDE_W", convolution->stride[2]},
        {"PADDING_D", convolution->padding[0]},
        {"PADDING_H", convolution->padding[1]},
        {"PADDING_W", convolution->padding[2]},
        {"DILATION_D", convolution->dilation[0]},
        {"DILATION_H", convolution->dilation[1]},
        {"DILATION_W", convolution->dilation[2]},
        {"HAS_D", has(arguments, SG_ROLE_D)},
        {"HAS_H", has(arguments, SG_ROLE_H)},
        {"WALK_D", sg_problem_walks(problem, 0)},
        {"WALK_H", sg_problem_walks(problem, 1)},
        {"WALK_W", sg_problem_walks(problem, 2)},
        {"WARPS", gemm->warps},
        {"ROW_BLOCKS", gemm->row_blocks},
        {"BLOCKS", gemm->blocks},
        {"TILE_N", gemm->slots},
        {"TILE_REAL", gemm->tile_real},
        {"TILE_WALKS", gemm->tail.full_walks},
        {"PARTS", gemm->parts},
        {"GROUP_PARTS", gemm->group_parts},
        {"SPLIT", gemm->split},
        {"EVEN", target->precision == SG_PRECISION_TF32_EVEN},
        {"HAS_BIAS", convolution->bias.index >= 0},
    };
    sg_text_add(text, "using input_t = %s;\n", sg_cuda_type(convolution->input.dtype));
    sg_cuda_write_constants(constants, sizeof constants / sizeof *constants, text);
}

static void add_arguments(sg_cuda_arguments *arguments) {
    static const char *const sizes[] = {"size_d", "size_h", "size_w"};
    static const char *const inputs[] = {"in_d", "in_h", "in_w"};
    const sg_problem *problem = arguments->problem;
    const sg_convolution *convolution = &problem->convolution;
    sg_arena *arena = arguments->arena;
    sg_operand bias = convolution->bias;
    if (bias.index < 0)
        bias = (sg_operand){.index = convolution->input.index, .dtype = convolution->input.dtype};
    sg_cuda_add_tensor(arguments, "input", &convolution->input, false);
    sg_cuda_add_tensor(arguments, "weight", &convolution->weight, false);
    sg_cuda_add_tensor(arguments, "bias", &bias, false);
    const char *kept = sg_cuda_size(problem, SG_ROLE_N, arena), *walked = NULL;
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        int role = SG_ROLE_D + axis;
        const char *size = sg_cuda_size(problem, role, arena);
        sg_cuda_add_number(arguments, sizes[axis], problem->size[role], "%s", size);
        sg_cuda_add_number(arguments, inputs[axis], convolution->in_size[axis], "%s",
                           sg_cuda_in_size(problem, axis));
        if (!has(arguments, role))
            continue;
        const char **product = sg_problem_walks(problem, axis) ? &walked : &kept;
        *product = *product ? sg_cuda_formula(arena, "%s * %s", *product, size) : size;
    }
    sg_cuda_add_number(arguments, "pixels", sg_cuda_kept_pixels(problem), "%s", kept);
    sg_cuda_add_number(arguments, "walk_count", sg_cuda_walk_length(problem), "%s",
                       walked ? walked : "1");
}

sg_status sg_cuda_lower_implicit_gemm(const sg_problem *problem, const sg_cuda_target *target,
                                      const sg_cuda_plan *plan, sg_arena *arena,
                                      sg_cuda_kernel *kernel) {
    sg_implicit_gemm gemm;
    bool sound = sg_implicit_gemm_measure(problem, target, plan, &gemm);
    assert(sound && "the plan was found usable");
    (void)sound;
    sg_cuda_arguments arguments;
    sg_cuda_arguments_open(&arguments, problem, arena);
    sg_text constants = {0}, tail = {0};
    write_constants(&arguments, target, &gemm, &constants);
    add_arguments(&arguments);
    sg_status status = sg_cuda_write_tail(problem, target, arena, &arguments, &tail);
    bool failed = constants.failed || tail.failed || arguments.declaration.failed;
    if (status == SG_OK && failed)
        status = SG_OUT_OF_MEMORY;
    const char *source = NULL;
    if (status == SG_OK) {
        const sg_cuda_hole holes[] = {
            {"constants", constants.data},
            {"arguments", arguments.declaration.data},
            {"tail", tail.data},
        };
        status = sg_cuda_compose(arena, "conv_implicit_gemm.cuh", holes,
                                 sizeof holes / sizeof *holes, &source);
    }
    *kernel = (sg_cuda_kernel){.launch_count = 1};
    sg_cuda_launch *launch = &kernel->launches[0];
    *launch = (sg_cuda_launch){.source = source,
                               .entry = "segue_implicit_gemm",
                               .grid = gemm.units,
                               .grid_formula =
                                   sg_cuda_formula(arena, "pieces(a.pixels, %lld) * %lld",
                                                   (long long)gemm.pixels, (long long)gemm.parts),
                               .block = (int)gemm.threads,
                               .cluster = 1,
                               .shared = gemm.shared};
    sg_cuda_give_arguments(&arguments, launch);
    sg_text_release(&constants);
    sg_text_release(&tail);
    sg_cuda_arguments_close(&arguments);
    return status == SG_OUT_OF_MEMORY ? sg_fail_memory(problem->region->graph->context) : status;
}
