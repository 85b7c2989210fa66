/* Lowering of `wgmma_packed`: conv_wgmma_packed.cuh. */
#include "plan/cuda/wgmma_packed.h"

#include <assert.h>

#include "gen/cuda/block.h"
#include "gen/cuda/boxes.h"
#include "gen/cuda/wgmma.h"

static void write_constants(const sg_problem *problem, const sg_cuda_target *target,
                            const sg_wgmma_packed *packed, sg_text *text) {
    const sg_convolution *convolution = &problem->convolution;
    sg_text_add(text, "using element = %s;\nusing held = %s;\n",
                sg_cuda_type(convolution->input.dtype), packed->guarded ? "float" : "unsigned");
    const sg_cuda_constant constants[] = {
        {"IN_CHANNELS", convolution->in_channels},
        {"OUT_CHANNELS", problem->size[SG_ROLE_C]},
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
        {"ROUND_EVEN", target->precision == SG_PRECISION_TF32_EVEN},
        {"WEIGHTS_IN_ORDER", sg_cuda_weights_in_order(problem)},
        {"GUARDED", packed->guarded},
        {"BFLOAT", convolution->input.dtype == SG_BF16},
        {"PARTS", packed->parts},
        {"TURN", packed->turn},
        {"OPENS_BEHIND", packed->opens_behind},
        {"TAPS_D", packed->taps_d},
        {"SHARED_ROWS", packed->shared_rows},
        {"K", packed->k},
        {"M", packed->pixels},
        {"BOX_H", packed->box_h},
        {"BOX_W", packed->box_w},
        {"ROW_BLOCKS", packed->row_blocks},
        {"TILES", packed->tiles},
        {"TILE_N", packed->tile_n},
        {"TILE_REAL", problem->size[SG_ROLE_C]},
        {"TILE_WALKS", packed->tail.full_walks},
        {"LANE_ROWS", packed->lane_rows},
        {"LOAD_ROWS", packed->load_rows},
        {"VECTOR", packed->vector},
        {"NEIGHBOURS", convolution->input.stride[SG_ROLE_W] == 1},
        {"STAGES", packed->stages},
        {"CONSUMERS", packed->consumers},
        {"PRODUCERS", packed->producers},
        {"BLOCKS", packed->blocks},
        {"CONSUMER_REGISTERS", packed->consumer_registers},
        {"PRODUCER_REGISTERS", packed->producer_registers},
    };
    sg_cuda_write_constants(constants, sizeof constants / sizeof *constants, text);
}

static void add_arguments(const sg_problem *problem, const sg_wgmma_packed *packed,
                          sg_cuda_arguments *arguments) {
    const sg_convolution *convolution = &problem->convolution;
    const int64_t boxes[] = {packed->box_d, packed->box_h, packed->box_w};
    const int64_t jobs[] = {packed->jobs_d, packed->jobs_h, packed->jobs_w};
    sg_cuda_add_boxes(arguments, problem, boxes, jobs, packed->jobs);
    sg_cuda_assume_vectors(arguments, &convolution->input, false, SG_ROLE_W, packed->vector,
                           sg_cuda_in_size(problem, 2));
    if (sg_cuda_weights_in_order(problem))
        sg_cuda_assume_weights_in_order(arguments, problem);
    if (convolution->input.stride[SG_ROLE_W] == 1)
        sg_cuda_assume(
            arguments, "columns of the input lie side by side", "%s == 1",
            sg_cuda_stride(problem, &convolution->input, false, SG_ROLE_W, arguments->arena));
}

static sg_status write_launch(const sg_problem *problem, const sg_cuda_target *target,
                              const sg_wgmma_packed *packed, sg_arena *arena,
                              sg_cuda_launch *launch) {
    sg_cuda_arguments arguments;
    sg_cuda_arguments_open(&arguments, problem, arena);
    sg_text constants = {0}, instructions = {0}, tail = {0};
    write_constants(problem, target, packed, &constants);
    sg_cuda_write_wgmma(&instructions, (int)(packed->turn * packed->tile_n),
                        packed->guarded ? SG_F16 : problem->convolution.input.dtype);
    add_arguments(problem, packed, &arguments);
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
        status = sg_cuda_compose(arena, "conv_wgmma_packed.cuh", holes,
                                 sizeof holes / sizeof *holes, &source);
    }
    int64_t room = (int64_t)target->gpu.multiprocessors * packed->blocks;
    *launch = (sg_cuda_launch){.source = source,
                               .entry = "segue_conv_wgmma_packed",
                               .grid = packed->jobs < room ? packed->jobs : room,
                               .block = (int)packed->threads,
                               .cluster = 1,
                               .shared = packed->shared};
    launch->grid_formula = sg_cuda_formula(arena, "least(a.job_count, %lld * s.processors)",
                                           (long long)packed->blocks);
    sg_cuda_give_arguments(&arguments, launch);
    sg_text_release(&constants);
    sg_text_release(&instructions);
    sg_text_release(&tail);
    sg_cuda_arguments_close(&arguments);
    return status;
}

sg_status sg_cuda_lower_wgmma_packed(const sg_problem *problem, const sg_cuda_target *target,
                                     const sg_cuda_plan *plan, sg_arena *arena,
                                     sg_cuda_kernel *kernel) {
    sg_wgmma_packed packed;
    bool sound = sg_wgmma_packed_measure(problem, target, plan, &packed);
    assert(sound && "the plan was found usable");
    (void)sound;
    *kernel = (sg_cuda_kernel){.launch_count = 1};
    sg_status status = write_launch(problem, target, &packed, arena, &kernel->launches[0]);
    return status == SG_OUT_OF_MEMORY ? sg_fail_memory(problem->region->graph->context) : status;
}
