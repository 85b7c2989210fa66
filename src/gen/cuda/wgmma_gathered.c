/* Lowering of `wgmma_gathered`: conv_wgmma_gathered.cuh. */
#include "plan/cuda/wgmma_gathered.h"

#include <assert.h>

#include "gen/cuda/block.h"
#include "gen/cuda/wgmma.h"

static const int weight_roles[] = {SG_ROLE_W, SG_ROLE_H, SG_ROLE_D, SG_ROLE_C, SG_ROLE_N};

/* Whether the weights' elements lie side by side in the order of the roles. */
static bool weights_in_order(const sg_convolution *convolution, const int64_t *sizes) {
    int64_t step = 1;
    for (int i = 0; i < SG_ROLE_COUNT; i++) {
        if (sizes[i] > 1 && convolution->weight.stride[weight_roles[i]] != step)
            return false;
        step *= sizes[i];
    }
    return true;
}

static void write_constants(const sg_problem *problem, const sg_cuda_target *target,
                            const sg_wgmma_gathered *gathered, bool in_order, sg_text *text) {
    const sg_convolution *convolution = &problem->convolution;
    const sg_cuda_constant constants[] = {
        {"IN_CHANNELS", convolution->in_channels},
        {"OUT_CHANNELS", problem->size[SG_ROLE_C]},
        {"KERNEL_D", convolution->kernel[0]},
        {"KERNEL_H", convolution->kernel[1]},
        {"KERNEL_W", convolution->kernel[2]},
        {"PADDING_D", convolution->padding[0]},
        {"PADDING_H", convolution->padding[1]},
        {"PADDING_W", convolution->padding[2]},
        {"HAS_BIAS", convolution->bias.index >= 0},
        {"ROUND_EVEN", target->precision == SG_PRECISION_TF32_EVEN},
        {"WEIGHTS_IN_ORDER", in_order},
        {"PARTS", gathered->parts},
        {"TURN", gathered->turn},
        {"BOX_H", gathered->box_h},
        {"BOX_W", gathered->box_w},
        {"PIXELS_W", gathered->pixels_w},
        {"COLUMNS", gathered->columns},
        {"LEAD", gathered->lead},
        {"VECTOR", gathered->vector},
        {"TILE_N", gathered->tile_n},
        {"TILE_REAL", problem->size[SG_ROLE_C]},
        {"TILE_WALKS", gathered->tail.full_walks},
        {"SCALES_AT_END", gathered->scales_at_end},
        {"STAGES", gathered->stages},
        {"CONSUMERS", gathered->consumers},
        {"PRODUCERS", SG_GATHERED_PRODUCERS},
        {"AHEAD", SG_GATHERED_AHEAD},
        {"CONSUMER_REGISTERS", gathered->consumer_registers},
        {"PRODUCER_REGISTERS", gathered->producer_registers},
    };
    sg_cuda_write_constants(constants, sizeof constants / sizeof *constants, text);
}

static void add_arguments(const sg_problem *problem, const sg_wgmma_gathered *gathered,
                          sg_cuda_arguments *arguments) {
    const sg_convolution *convolution = &problem->convolution;
    sg_cuda_add_tensor(arguments, "input", &convolution->input, false);
    sg_cuda_add_tensor(arguments, "weight", &convolution->weight, false);
    sg_operand bias = convolution->bias;
    if (bias.index < 0)
        bias = (sg_operand){.index = convolution->input.index, .dtype = convolution->input.dtype};
    sg_cuda_add_tensor(arguments, "bias", &bias, false);
    static const char *const outs[] = {"out_d", "out_h", "out_w"};
    static const char *const ins[] = {"in_d", "in_h", "in_w"};
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        sg_cuda_add_number(arguments, outs[axis], problem->size[SG_ROLE_D + axis], "%s",
                           sg_cuda_size(problem, SG_ROLE_D + axis, arguments->arena));
        sg_cuda_add_number(arguments, ins[axis], convolution->in_size[axis], "%s",
                           sg_cuda_in_size(problem, axis));
    }
    if (sg_problem_walks(problem, 0))
        sg_cuda_add_number(arguments, "box_d", gathered->box_d, "a.out_d");
    else
        sg_cuda_add_number(arguments, "box_d", gathered->box_d, "%lld", (long long)gathered->box_d);
    sg_cuda_add_number(arguments, "jobs_d", gathered->jobs_d, "pieces(a.out_d, a.box_d)");
    sg_cuda_add_number(arguments, "jobs_h", gathered->jobs_h, "pieces(a.out_h, %lld)",
                       (long long)gathered->box_h);
    sg_cuda_add_number(arguments, "jobs_w", gathered->jobs_w, "pieces(a.out_w, %lld)",
                       (long long)gathered->box_w);
    sg_cuda_add_number(arguments, "job_count", gathered->jobs,
                       "%s * a.jobs_d * a.jobs_h * a.jobs_w",
                       sg_cuda_size(problem, SG_ROLE_N, arguments->arena));
    sg_cuda_assume(arguments, "boxes are counted in 28 bits", "a.job_count < %d", INT32_MAX / 8);
    sg_cuda_assume(
        arguments, "columns of the input lie side by side", "%s == 1",
        sg_cuda_stride(problem, &convolution->input, false, SG_ROLE_W, arguments->arena));
    sg_cuda_assume_vectors(arguments, &convolution->input, false, SG_ROLE_W, gathered->vector,
                           sg_cuda_in_size(problem, 2));
    if (gathered->vector > 1 && gathered->box_w % gathered->vector != 0)
        sg_cuda_assume(arguments, "a row of the output is one box", "a.jobs_w == 1");
}

static sg_status write_launch(const sg_problem *problem, const sg_cuda_target *target,
                              const sg_wgmma_gathered *gathered, sg_arena *arena,
                              sg_cuda_launch *launch) {
    const sg_convolution *convolution = &problem->convolution;
    const int64_t *kernel = convolution->kernel;
    const int64_t sizes[] = {kernel[2], kernel[1], kernel[0], convolution->in_channels,
                             problem->size[SG_ROLE_C]};
    bool in_order = weights_in_order(convolution, sizes);
    sg_cuda_arguments arguments;
    sg_cuda_arguments_open(&arguments, problem, arena);
    sg_text constants = {0}, instructions = {0}, tail = {0};
    write_constants(problem, target, gathered, in_order, &constants);
    sg_cuda_write_wgmma_from_registers(&instructions, (int)(gathered->turn * gathered->tile_n),
                                       SG_F16);
    add_arguments(problem, gathered, &arguments);
    if (in_order)
        sg_cuda_assume_dense(&arguments, &convolution->weight, weight_roles, sizes, SG_ROLE_COUNT);
    sg_status status = sg_cuda_write_tail(problem, target, arena, &arguments, &tail);
    bool failed =
        constants.failed || instructions.failed || tail.failed || arguments.declaration.failed;
    if (status == SG_OK && failed)
        status = SG_OUT_OF_MEMORY;
    const char *source = NULL;
    if (status == SG_OK) {
        const sg_cuda_hole holes[] = {
            {"constants", constants.data},
            {"arguments", arguments.declaration.data},
            {"instructions", instructions.data},
            {"tail", tail.data},
        };
        status = sg_cuda_compose(arena, "conv_wgmma_gathered.cuh", holes,
                                 sizeof holes / sizeof *holes, &source);
    }
    int64_t room = target->gpu.multiprocessors;
    *launch = (sg_cuda_launch){.source = source,
                               .entry = "segue_conv_wgmma_gathered",
                               .grid = gathered->jobs < room ? gathered->jobs : room,
                               .block = (int)gathered->threads,
                               .cluster = 1,
                               .shared = gathered->shared};
    launch->grid_formula = sg_cuda_formula(arena, "least(a.job_count, s.processors)");
    sg_cuda_give_arguments(&arguments, launch);
    sg_text_release(&constants);
    sg_text_release(&instructions);
    sg_text_release(&tail);
    sg_cuda_arguments_close(&arguments);
    return status;
}

sg_status sg_cuda_lower_wgmma_gathered(const sg_problem *problem, const sg_cuda_target *target,
                                       const sg_cuda_plan *plan, sg_arena *arena,
                                       sg_cuda_kernel *kernel) {
    sg_wgmma_gathered gathered;
    bool sound = sg_wgmma_gathered_measure(problem, target, plan, &gathered);
    assert(sound && "the plan was found usable");
    (void)sound;
    *kernel = (sg_cuda_kernel){.launch_count = 1};
    sg_status status = write_launch(problem, target, &gathered, arena, &kernel->launches[0]);
    return status == SG_OUT_OF_MEMORY ? sg_fail_memory(problem->region->graph->context) : status;
}
