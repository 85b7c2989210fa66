/* Lowering of `direct`: one launch of conv_direct.cuh, with one of its two contractions. */
#include "plan/cuda/direct.h"

#include <assert.h>
#include <stdlib.h>

#include "gen/cuda/block.h"

/* Elements between the ends of one image. */
static int64_t reach(const sg_convolution *convolution) {
    int64_t reach = llabs(convolution->in_channels * convolution->input.stride[SG_ROLE_C]);
    for (int i = 0; i < SG_SPATIAL_MAX; i++)
        reach += llabs(convolution->kernel[i] * convolution->dilation[i] *
                       convolution->input.stride[SG_ROLE_D + i]);
    return reach;
}

/* Whether products are counted as [tap][input channel], as the input lies, and not as
 * [input channel][tap]. */
static bool channels_inner(const sg_convolution *convolution) {
    return convolution->input.stride[SG_ROLE_C] == 1 && convolution->input.stride[SG_ROLE_W] != 1;
}

/* Whether the weights of one output channel follow each other in the order of the products. */
static bool weights_in_order(const sg_problem *problem) {
    static const int orders[2][4] = {{SG_ROLE_W, SG_ROLE_H, SG_ROLE_D, SG_ROLE_C},
                                     {SG_ROLE_C, SG_ROLE_W, SG_ROLE_H, SG_ROLE_D}};
    const sg_convolution *convolution = &problem->convolution;
    const int *order = orders[channels_inner(convolution)];
    int64_t step = 1;
    for (int i = 0; i < 4; i++) {
        int64_t size = order[i] == SG_ROLE_C ? convolution->in_channels / convolution->groups
                                             : convolution->kernel[order[i] - SG_ROLE_D];
        if (size > 1 && convolution->weight.stride[order[i]] != step)
            return false;
        step *= size;
    }
    return problem->size[SG_ROLE_C] == 1 || convolution->weight.stride[SG_ROLE_N] == step;
}

static int64_t tf32_rounding(const sg_problem *problem, const sg_cuda_target *target) {
    if (problem->convolution.input.dtype != SG_F32)
        return 0;
    return target->precision == SG_PRECISION_TF32         ? 1
           : target->precision == SG_PRECISION_PLAIN_TF32 ? 1
           : target->precision == SG_PRECISION_TF32_EVEN  ? 2
                                                          : 0;
}

static void assume_convolution(const sg_problem *problem, bool narrow,
                               sg_cuda_arguments *arguments) {
    const sg_convolution *convolution = &problem->convolution;
    const sg_operand *input = &convolution->input;
    sg_arena *arena = arguments->arena;
    if (narrow) {
        const char *reach =
            sg_cuda_formula(arena, "%lld * %s", (long long)convolution->in_channels,
                            sg_cuda_stride(problem, input, false, SG_ROLE_C, arena));
        for (int i = 0; i < SG_SPATIAL_MAX; i++) {
            long long extent = convolution->kernel[i] * convolution->dilation[i];
            reach = sg_cuda_formula(arena, "%s + %lld * %s", reach, extent,
                                    sg_cuda_stride(problem, input, false, SG_ROLE_D + i, arena));
        }
        sg_cuda_assume(arguments, "offsets inside an image take 32 bits", "%s < 2147483648", reach);
    }
    if (weights_in_order(problem)) {
        int64_t inputs = convolution->in_channels / convolution->groups;
        const int64_t *kernel = convolution->kernel;
        bool inner = channels_inner(convolution);
        const int taps_inner[] = {SG_ROLE_W, SG_ROLE_H, SG_ROLE_D, SG_ROLE_C, SG_ROLE_N};
        const int channels_first[] = {SG_ROLE_C, SG_ROLE_W, SG_ROLE_H, SG_ROLE_D, SG_ROLE_N};
        const int64_t taps_sizes[] = {kernel[2], kernel[1], kernel[0], inputs,
                                      problem->size[SG_ROLE_C]};
        const int64_t channels_sizes[] = {inputs, kernel[2], kernel[1], kernel[0],
                                          problem->size[SG_ROLE_C]};
        sg_cuda_assume_dense(arguments, &convolution->weight, inner ? channels_first : taps_inner,
                             inner ? channels_sizes : taps_sizes, 5);
    }
}

static void write_convolution(const sg_problem *problem, const sg_cuda_target *target,
                              const sg_cuda_direct_plan *plan, sg_cuda_arguments *arguments,
                              sg_text *text) {
    const sg_convolution *convolution = &problem->convolution;
    bool narrow = reach(convolution) < INT64_C(1) << 31;
    assume_convolution(problem, narrow, arguments);
    sg_text_add(text, "typedef %s offset_t; // inside one image\n", narrow ? "int" : "long long");
    const sg_cuda_constant constants[] = {
        {"CONV_GROUPS", convolution->groups},
        {"GROUP_INPUTS", convolution->in_channels / convolution->groups},
        {"GROUP_OUTPUTS", problem->size[SG_ROLE_C] / convolution->groups},
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
        {"HAS_BIAS", convolution->bias.index >= 0},
        {"TF32_ROUNDING", tf32_rounding(problem, target)},
        {"STAGE_K", plan->stage},
        {"SUM_K", plan->sum},
        {"WEIGHTS_IN_ORDER", weights_in_order(problem)},
        {"CHANNELS_INNER", channels_inner(convolution)},
    };
    sg_cuda_write_constants(constants, sizeof constants / sizeof *constants, text);
}

static void add_convolution(const sg_problem *problem, sg_cuda_arguments *arguments) {
    const sg_convolution *convolution = &problem->convolution;
    sg_cuda_add_tensor(arguments, "input", &convolution->input, false);
    sg_cuda_add_tensor(arguments, "weight", &convolution->weight, false);
    sg_operand bias = convolution->bias;
    if (bias.index < 0)
        bias = (sg_operand){.index = convolution->input.index, .dtype = convolution->input.dtype};
    sg_cuda_add_tensor(arguments, "bias", &bias, false);
    sg_cuda_add_sizes(arguments);
    static const char *const names[] = {"in_d", "in_h", "in_w"};
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++)
        sg_cuda_add_number(arguments, names[axis], convolution->in_size[axis], "%s",
                           sg_cuda_in_size(problem, axis));
}

static const char *const contractions[] = {
    [SG_DIRECT_PRODUCT] = "//@ include direct_product.cuh\n",
    [SG_DIRECT_WINDOW] = "//@ include direct_window.cuh\n",
    [SG_DIRECT_CHANNELS] = "//@ include direct_channels.cuh\n",
};

sg_status sg_cuda_lower_direct(const sg_problem *problem, const sg_cuda_target *target,
                               const sg_cuda_plan *plan, sg_arena *arena, sg_cuda_kernel *kernel) {
    sg_cuda_direct_plan read;
    bool sound = sg_cuda_direct_read(problem, target, plan, &read);
    assert(sound && "the plan was found usable");
    (void)sound;
    sg_cuda_arguments arguments;
    sg_cuda_arguments_open(&arguments, problem, arena);
    sg_text constants = {0}, tail = {0};
    sg_cuda_write_block(target, &read.block, 0, &arguments, &constants);
    write_convolution(problem, target, &read, &arguments, &constants);
    add_convolution(problem, &arguments);
    sg_status status = sg_cuda_write_tail(problem, target, arena, &arguments, &tail);
    bool failed = constants.failed || tail.failed || arguments.declaration.failed;
    if (status == SG_OK && failed)
        status = SG_OUT_OF_MEMORY;

    const char *source = NULL;
    if (status == SG_OK) {
        const sg_cuda_hole holes[] = {
            {"real", sg_cuda_real(problem)},
            {"constants", constants.data},
            {"arguments", arguments.declaration.data},
            {"kept", "__device__ __forceinline__ int kept_number(const Stride *, "
                     "const Arguments &) {\n    return -1;\n}\n"},
            {"tail", tail.data},
            {"contraction", contractions[read.way]},
        };
        status =
            sg_cuda_compose(arena, "conv_direct.cuh", holes, sizeof holes / sizeof *holes, &source);
    }
    *kernel = (sg_cuda_kernel){
        .launches = {{.source = source,
                      .entry = "segue_direct",
                      .grid = sg_cuda_block_grid(problem, &read.block),
                      .block = (int)sg_cuda_block_threads(&read.block),
                      .cluster = 1,
                      .shared = read.shared,
                      .grid_formula = sg_cuda_block_grid_formula(problem, &read.block, arena)}},
        .launch_count = 1};
    sg_cuda_give_arguments(&arguments, &kernel->launches[0]);
    sg_text_release(&constants);
    sg_text_release(&tail);
    sg_cuda_arguments_close(&arguments);
    return status == SG_OUT_OF_MEMORY ? sg_fail_memory(problem->region->graph->context) : status;
}
