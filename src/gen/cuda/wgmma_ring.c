/* Lowering of `wgmma_ring`: one launch of conv_wgmma_ring.cuh. */
#include <assert.h>

#include "gen/cuda/block.h"
#include "gen/cuda/source.h"
#include "gen/cuda/wgmma.h"
#include "plan/cuda/wgmma_ring.h"

/* Products written out one after the other, at the most; the rest is left to loops. In two parts a
 * span's are written out, however many. */
enum { UNROLLED_MAX = 160 };

static void write_stage(const sg_problem *problem, const sg_wgmma_ring *ring, sg_text *text) {
    sg_text_add(text, "using element = %s;\n", sg_cuda_type(problem->convolution.input.dtype));
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
        {"PARTS", ring->parts},
        {"VECTOR", ring->vector},
        {"GUARDED", !ring->narrow},
    };
    sg_cuda_write_constants(constants, sizeof constants / sizeof *constants, text);
}

static void write_filter(const sg_wgmma_ring *ring, sg_text *text) {
    int64_t block = ring->columns ? ring->tile_slots / 64 : ring->pixels / 64;
    int64_t x = ring->kernel[SG_RING_X], yx = x * ring->kernel[SG_RING_Y];
    int64_t tap = ring->stage_groups / 2 * block;
    int64_t unrolled = ring->steps * block <= UNROLLED_MAX ? ring->taps
                       : yx * tap <= UNROLLED_MAX          ? yx
                       : x * tap <= UNROLLED_MAX           ? x
                                                           : 1;
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
        {"UNROLL_TAPS", unrolled},
        {"SPANS", ring->spans},
        {"SPAN_TAPS", ring->span_taps},
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
        {"COLUMNS", ring->columns},
        {"TILE_PIXELS", ring->pixels},
        {"ROW_BLOCKS", ring->pixels / 64},
        {"CHANNEL_BLOCKS", ring->tile_slots / 64},
        {"BOX_Y", ring->box_y},
        {"BOX_X", ring->box_x},
        {"RING_DEPTH", ring->depth},
        {"ROW_TILES", ring->row_tiles},
        {"OUT_VECTOR", ring->out_vector},
        {"OUT_LINES", ring->out_lines},
        {"OUT_PAIRS", ring->out_pairs},
        {"CARRIED", ring->out_lines > 0 && !problem->walk},
        {"CROSSES", ring->tail.channel_reductions > 0},
        {"CONSUMERS", ring->consumers},
        {"PRODUCERS", ring->producers},
        {"STAGES", ring->stages},
        {"PRODUCER_REGISTERS", ring->producer_registers},
        {"CONSUMER_REGISTERS", ring->consumer_registers},
        {"WEIGHTS_IN_ORDER", weights_in_order(problem)},
        {"PREFETCH", ring->prefetch},
        {"HAS_BIAS", problem->convolution.bias.index >= 0},
        {"ROUND_AWAY", !ring->narrow && target->precision == SG_PRECISION_TF32},
    };
    sg_cuda_write_constants(constants, sizeof constants / sizeof *constants, text);
}

/* Of z, y or x, as a formula. */
static const char *size_along(const sg_cuda_arguments *arguments, const sg_wgmma_ring *ring,
                              int axis, bool input) {
    int spatial = axis == SG_RING_X ? 2 : ring->depth ? axis : axis == SG_RING_Z ? 1 : -1;
    if (spatial < 0)
        return "1";
    return input ? sg_cuda_in_size(arguments->problem, spatial)
                 : sg_cuda_size(arguments->problem, SG_ROLE_D + spatial, arguments->arena);
}

/* What the source assumes of sizes and strides: how producers read, how lines are stored. */
static void assume(const sg_problem *problem, const sg_wgmma_ring *ring,
                   sg_cuda_arguments *arguments) {
    const sg_convolution *convolution = &problem->convolution;
    static const int roles[] = {SG_ROLE_W, SG_ROLE_H, SG_ROLE_D, SG_ROLE_C};
    const int64_t *kernel = convolution->kernel;
    const int64_t sizes[] = {kernel[2], kernel[1], kernel[0], ring->in_group};
    if (weights_in_order(problem))
        sg_cuda_assume_dense(arguments, &convolution->weight, roles, sizes, 4);
    if (ring->vector == 8) /* loads of 16 bytes */
        sg_cuda_assume_vectors(arguments, &convolution->input, false, SG_ROLE_C,
                               ring->narrow ? 8 : 4, NULL);
    else
        sg_cuda_assume_vectors(arguments, &convolution->input, false, SG_ROLE_W, ring->vector,
                               sg_cuda_in_size(problem, 2));
    if (ring->vector < 8 && ring->box_x * ring->stride[SG_RING_X] % ring->vector != 0)
        sg_cuda_assume(arguments, "a row is one box", "a.boxes_x <= 1");
    for (int i = 0; i < problem->output_count && ring->channel_lines; i++) {
        const sg_operand *output = &problem->outputs[i];
        if (sg_wgmma_ring_lines(output))
            sg_cuda_assume_vectors(arguments, output, true, SG_ROLE_C, 8, NULL);
    }
    int64_t neighbours = ring->out_lines > 0 ? 1 + ring->out_pairs : ring->out_vector;
    for (int i = 0; i < problem->output_count && neighbours > 0; i++) {
        const sg_operand *output = &problem->outputs[i];
        if (!sg_wgmma_ring_lines(output))
            continue;
        sg_cuda_assume(arguments, "pixels of the output lie side by side", "%s == 1",
                       sg_cuda_stride(problem, output, true, SG_ROLE_W, arguments->arena));
        sg_cuda_assume_vectors(arguments, output, true, SG_ROLE_W, neighbours,
                               sg_cuda_size(problem, SG_ROLE_W, arguments->arena));
        if (ring->box_x % neighbours != 0)
            sg_cuda_assume(arguments, "a row is one box", "a.boxes_x <= 1");
    }
    sg_cuda_assume(arguments, "rows are counted in 31 bits", "a.units < 2147483648");
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
    static const char *const in_names[] = {"in_z", "in_y", "in_x"};
    static const char *const out_names[] = {"out_z", "out_y", "out_x"};
    for (int axis = 0; axis < SG_RING_AXES; axis++)
        sg_cuda_add_number(arguments, in_names[axis], ring->in_size[axis], "%s",
                           size_along(arguments, ring, axis, true));
    for (int axis = 0; axis < SG_RING_AXES; axis++)
        sg_cuda_add_number(arguments, out_names[axis], ring->out_size[axis], "%s",
                           size_along(arguments, ring, axis, false));
    sg_cuda_add_number(arguments, "boxes_y", ring->boxes_y, "pieces(a.out_y, %lld)",
                       (long long)ring->box_y);
    sg_cuda_add_number(arguments, "boxes_x", ring->boxes_x, "pieces(a.out_x, %lld)",
                       (long long)ring->box_x);
    sg_cuda_add_number(arguments, "units", ring->units, "%s * a.boxes_y * a.boxes_x%s",
                       sg_cuda_size(problem, SG_ROLE_N, arguments->arena),
                       problem->walk ? "" : " * a.out_z");
}

/* Whether pixels or channels are a product's rows, and how outputs leave. */
static const char *orientation(const sg_wgmma_ring *ring) {
    if (ring->columns)
        return "//@ include ring_columns.cuh\n";
    return ring->channel_lines  ? "//@ include ring_rows.cuh\n//@ include channel_lines.cuh\n"
           : ring->narrow_lines ? "//@ include ring_rows.cuh\n//@ include narrow_lines.cuh\n"
           : ring->out_vector   ? "//@ include ring_rows.cuh\n//@ include float_lines.cuh\n"
           : ring->bias_held    ? "//@ include ring_rows.cuh\n//@ include held_biases.cuh\n"
                                : "//@ include ring_rows.cuh\n//@ include ring_tile.cuh\n";
}

static sg_status compose(const sg_problem *problem, const sg_cuda_target *target,
                         const sg_wgmma_ring *ring, sg_arena *arena, sg_cuda_arguments *arguments,
                         const char **source) {
    sg_text constants = {0}, tail = {0}, instructions = {0};
    int width = (int)(ring->columns ? ring->pixels : ring->tile_slots);
    sg_dtype operands = ring->narrow ? problem->convolution.input.dtype : SG_F16;
    write_stage(problem, ring, &constants);
    write_filter(ring, &constants);
    write_tile(problem, target, ring, &constants);
    sg_cuda_write_wgmma(&instructions, width, operands);
    add_arguments(problem, ring, arguments);
    assume(problem, ring, arguments);
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
            {"staging",
             ring->narrow ? "//@ include stage_halves.cuh\n" : "//@ include stage_channels.cuh\n"},
            {"orientation", orientation(ring)},
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
    sg_cuda_arguments_open(&arguments, problem, arena);
    const char *source = NULL;
    sg_status status = compose(problem, target, &ring, arena, &arguments, &source);
    *kernel = (sg_cuda_kernel){.launches = {{.source = source,
                                             .entry = "segue_conv_wgmma_ring",
                                             .grid = ring.grid,
                                             .block = (int)ring.threads,
                                             .cluster = 1,
                                             .shared = ring.shared}},
                               .launch_count = 1};
    kernel->launches[0].grid_formula =
        sg_cuda_formula(arena, "%lld * least(most(1, s.processors / %lld), a.units)",
                        (long long)ring.tiles, (long long)ring.tiles);
    sg_cuda_give_arguments(&arguments, &kernel->launches[0]);
    sg_cuda_arguments_close(&arguments);
    return status == SG_OUT_OF_MEMORY ? sg_fail_memory(problem->region->graph->context) : status;
}
