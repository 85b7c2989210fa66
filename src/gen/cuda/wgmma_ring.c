/* Lowering of `wgmma_ring`: one launch of conv_wgmma_ring.cuh. */
#include <assert.h>

#include "gen/cuda/block.h"
#include "gen/cuda/source.h"
#include "gen/cuda/wgmma.h"
#include "plan/cuda/wgmma_ring.h"

/* Products written out one after the other, at the most; the rest is left to loops. */
enum { UNROLLED_MAX = 160 };

static void write_stage(const sg_wgmma_ring *ring, sg_text *text) {
    const sg_cuda_constant constants[] = {
        {"IN_CHANNELS", ring->in_group},
        {"STAGE_GROUPS", ring->stage_groups},
        {"STAGE_ROWS", ring->stage_rows},
        {"STAGE_WIDTH", ring->stage_width},
        {"STAGE_LEFT", ring->stage_left},
        {"STRIDE_Z", ring->stride[SG_RING_Z]},
        {"STRIDE_Y", ring->stride[SG_RING_Y]},
        {"STRIDE_X", ring->stride[SG_RING_X]},
        {"PITCH", ring->pitch},
        {"PHASE_PIXELS", ring->phase_pixels},
        {"PLANE", ring->plane},
        {"VECTOR", ring->vector},
    };
    sg_cuda_write_constants(constants, sizeof constants / sizeof *constants, text);
}

static void write_filter(const sg_wgmma_ring *ring, sg_text *text) {
    int64_t block = ring->columns ? ring->tile_slots / 64 : ring->pixels / 64;
    int64_t x = ring->kernel[SG_RING_X] * ring->stage_groups / 2 * block;
    int64_t yx = x * ring->kernel[SG_RING_Y], zyx = yx * ring->kernel[SG_RING_Z];
    const sg_cuda_constant constants[] = {
        {"KERNEL_Z", ring->kernel[SG_RING_Z]},
        {"KERNEL_Y", ring->kernel[SG_RING_Y]},
        {"KERNEL_X", ring->kernel[SG_RING_X]},
        {"PADDING_Z", ring->padding[SG_RING_Z]},
        {"PADDING_Y", ring->padding[SG_RING_Y]},
        {"PADDING_X", ring->padding[SG_RING_X]},
        {"DILATION_Z", ring->dilation[SG_RING_Z]},
        {"DILATION_Y", ring->dilation[SG_RING_Y]},
        {"DILATION_X", ring->dilation[SG_RING_X]},
        {"UNROLL_Z", zyx <= UNROLLED_MAX ? ring->kernel[SG_RING_Z] : 1},
        {"UNROLL_Y", yx <= UNROLLED_MAX ? ring->kernel[SG_RING_Y] : 1},
        {"UNROLL_X", x <= UNROLLED_MAX ? ring->kernel[SG_RING_X] : 1},
        {"FILTER_STEPS", ring->filter ? ring->steps : 0},
    };
    sg_cuda_write_constants(constants, sizeof constants / sizeof *constants, text);
}

/* Whether the weights of one output channel follow each other as [input channel][tap]. */
static bool weights_in_order(const sg_problem *problem) {
    const sg_convolution *convolution = &problem->convolution;
    int64_t step = 1;
    for (int i = SG_SPATIAL_MAX - 1; i >= 0; i--) {
        int64_t stride = convolution->weight.stride[SG_ROLE_D + i];
        if (convolution->kernel[i] > 1 && stride != step)
            return false;
        step *= convolution->kernel[i];
    }
    return convolution->in_channels == convolution->groups ||
           convolution->weight.stride[SG_ROLE_C] == step;
}

static void write_tile(const sg_problem *problem, const sg_cuda_target *target,
                       const sg_wgmma_ring *ring, sg_text *text) {
    const sg_cuda_constant constants[] = {
        {"OUT_GROUP", ring->out_group},
        {"CHANNEL_TILES", ring->tiles},
        {"GROUP_TILES", ring->group_tiles},
        {"TILE_N", ring->tile_slots},
        {"TILE_REAL", ring->channels},
        {"TILE_WALKS", ring->tail.full_walks},
        {"TILE_OPERANDS", ring->tail.channel_loads},
        {ring->columns ? "TILE_PIXELS" : "ROW_BLOCKS",
         ring->columns ? ring->pixels : ring->pixels / 64},
        {"CHANNEL_BLOCKS", ring->tile_slots / 64},
        {"CONSUMER_PIXELS", ring->pixels},
        {"BOX_Y", ring->box_y},
        {"BOX_X", ring->box_x},
        {"RING_DEPTH", ring->depth},
        {"ROW_TILES", ring->row_tiles},
        {"OUT_VECTOR", ring->out_vector},
        {"CONSUMERS", ring->consumers},
        {"PRODUCERS", ring->producers},
        {"STAGES", ring->stages},
        {"PRODUCER_REGISTERS", ring->producer_registers},
        {"CONSUMER_REGISTERS", ring->consumer_registers},
        {"WEIGHTS_IN_ORDER", weights_in_order(problem)},
        {"PREFETCH", ring->prefetch},
        {"HAS_BIAS", problem->convolution.bias.index >= 0},
        {"ROUND_AWAY", target->precision == SG_PRECISION_TF32},
    };
    sg_cuda_write_constants(constants, sizeof constants / sizeof *constants, text);
}

static void add_arguments(const sg_problem *problem, const sg_wgmma_ring *ring,
                          sg_cuda_arguments *arguments) {
    const sg_convolution *convolution = &problem->convolution;
    sg_operand bias = convolution->bias;
    if (bias.index < 0) /* never read */
        bias = (sg_operand){.index = convolution->input.index, .dtype = convolution->input.dtype};
    sg_cuda_add_tensor(arguments, "input", &convolution->input, false);
    sg_cuda_add_tensor(arguments, "weight", &convolution->weight, false);
    sg_cuda_add_tensor(arguments, "bias", &bias, false);
    sg_cuda_add_number(arguments, "in_z", ring->in_size[SG_RING_Z]);
    sg_cuda_add_number(arguments, "in_y", ring->in_size[SG_RING_Y]);
    sg_cuda_add_number(arguments, "in_x", ring->in_size[SG_RING_X]);
    sg_cuda_add_number(arguments, "out_z", ring->out_size[SG_RING_Z]);
    sg_cuda_add_number(arguments, "out_y", ring->out_size[SG_RING_Y]);
    sg_cuda_add_number(arguments, "out_x", ring->out_size[SG_RING_X]);
    sg_cuda_add_number(arguments, "units", ring->units);
    sg_cuda_add_number(arguments, "boxes_y", ring->boxes_y);
    sg_cuda_add_number(arguments, "boxes_x", ring->boxes_x);
}

static sg_status compose(const sg_problem *problem, const sg_cuda_target *target,
                         const sg_wgmma_ring *ring, sg_arena *arena, sg_cuda_arguments *arguments,
                         const char **source) {
    sg_text constants = {0}, tail = {0}, instructions = {0};
    int width = (int)(ring->columns ? ring->pixels : ring->tile_slots);
    write_stage(ring, &constants);
    write_filter(ring, &constants);
    write_tile(problem, target, ring, &constants);
    sg_cuda_write_wgmma(&instructions, width, false);
    if (ring->columns)
        sg_cuda_write_wgmma(&instructions, width, true);
    add_arguments(problem, ring, arguments);
    sg_status status = sg_cuda_write_tail(problem, target, arena, arguments, &tail);
    bool failed =
        constants.failed || tail.failed || instructions.failed || arguments->declaration.failed;
    if (status == SG_OK && failed)
        status = SG_OUT_OF_MEMORY;
    if (status == SG_OK) {
        const sg_cuda_hole holes[] = {
            {"constants", constants.data},
            {"arguments", arguments->declaration.data},
            {"instructions", instructions.data},
            {"orientation",
             ring->columns ? "//@ include ring_columns.cuh\n" : "//@ include ring_rows.cuh\n"},
            {"tail", tail.data},
        };
        status = sg_cuda_compose(arena, "conv_wgmma_ring.cuh", holes, sizeof holes / sizeof *holes,
                                 source);
    }
    sg_text_release(&constants);
    sg_text_release(&tail);
    sg_text_release(&instructions);
    return status;
}

sg_status sg_cuda_lower_wgmma_ring(const sg_problem *problem, const sg_cuda_target *target,
                                   const sg_cuda_plan *plan, sg_arena *arena,
                                   sg_cuda_kernel *kernel) {
    sg_wgmma_ring ring;
    bool sound = sg_wgmma_ring_measure(problem, target, plan, &ring);
    assert(sound && "the plan was found usable");
    (void)sound;
    sg_cuda_arguments arguments;
    sg_cuda_arguments_open(&arguments, arena);
    const char *source = NULL;
    sg_status status = compose(problem, target, &ring, arena, &arguments, &source);
    *kernel = (sg_cuda_kernel){.launches = {{.source = source,
                                             .entry = "segue_conv_wgmma_ring",
                                             .grid = ring.grid,
                                             .block = (int)ring.threads,
                                             .cluster = 1,
                                             .shared = ring.shared,
                                             .words = arguments.words,
                                             .word_count = arguments.count}},
                               .launch_count = 1};
    sg_cuda_arguments_close(&arguments);
    return status == SG_OUT_OF_MEMORY ? sg_fail_memory(problem->region->graph->context) : status;
}
