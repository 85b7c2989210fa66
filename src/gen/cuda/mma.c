/* Lowering of `mma`: one launch of conv_mma.cuh. */
#include "plan/cuda/mma.h"

#include <assert.h>

#include "gen/cuda/block.h"

static int64_t least_one(int64_t count) {
    return count > 0 ? count : 1;
}

/* unit = ((image tile * parts + part) * tiles along D, H, W). */
static void add_units(const sg_mma *mma, sg_cuda_arguments *arguments) {
    const sg_problem *problem = arguments->problem;
    static const char *const tiles[] = {"tiles_d", "tiles_h", "tiles_w"};
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        const char *size = sg_cuda_size(problem, SG_ROLE_D + axis, arguments->arena);
        int64_t box = mma->box[1 + axis];
        if (sg_problem_walks(problem, axis))
            sg_cuda_add_number(arguments, tiles[axis], 1, "1");
        else
            sg_cuda_add_number(arguments, tiles[axis],
                               least_one(sg_cuda_pieces(problem->size[SG_ROLE_D + axis], box)),
                               "most(1, pieces(%s, %lld))", size, (long long)box);
    }
    sg_cuda_add_number(arguments, "units", mma->units,
                       "pieces(%s, %lld) * a.tiles_d * a.tiles_h * a.tiles_w * %lld",
                       sg_cuda_size(problem, SG_ROLE_N, arguments->arena), (long long)mma->box[0],
                       (long long)mma->parts);
    sg_cuda_assume(arguments, "tiles are counted in 31 bits", "a.units < 2147483648");
}

/* ---- text ---------------------------------------------------------------------------------- */

static void write_constants(const sg_problem *problem, const sg_cuda_target *target,
                            const sg_mma *mma, sg_text *text) {
    const sg_convolution *convolution = &problem->convolution;
    bool full = mma->whole ? problem->size[SG_ROLE_C] == mma->channel_slots
                           : mma->group_outputs % mma->channel_slots == 0;
    const sg_cuda_constant constants[] = {
        {"GROUPS", convolution->groups},
        {"GROUP_CHANNELS", mma->group_inputs},
        {"GROUP_OUTPUTS", mma->group_outputs},
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
        {"INNER_D", mma->inner_taps[0]},
        {"INNER_H", mma->inner_taps[1]},
        {"INNER_W", mma->inner_taps[2]},
        {"BOX_N", mma->box[0]},
        {"BOX_D", mma->box[1]},
        {"BOX_H", mma->box[2]},
        {"BOX_W", mma->box[3]},
        {"WARPS_P", mma->pixel_warps},
        {"WARPS_C", mma->channel_warps},
        {"TILES_P", mma->pixel_tiles},
        {"TILES_C", mma->channel_tiles},
        {"CHUNK", mma->chunk},
        {"BLOCKS", mma->blocks},
        {"PIECES_MAX", mma->words == 4 ? 4 : 2},
        {"WEIGHT_COPY", mma->weight_copy},
        {"WALK_D", sg_problem_walks(problem, 0)},
        {"WALK_H", sg_problem_walks(problem, 1)},
        {"WALK_W", sg_problem_walks(problem, 2)},
        {"TILE_WALKS", mma->tail.full_walks},
        {"TILE_OPERANDS", mma->tail.channel_loads},
        {"STORES", mma->tail.tile_stores > 0},
        {"PARTS", mma->parts},
        {"ONE_PART", mma->one_part},
        {"DEFER", mma->defer},
        {"SPLIT", mma->split},
        {"BLOCKED", mma->blocked},
        {"EVEN", target->precision == SG_PRECISION_TF32_EVEN},
        {"LARGE_DOUBLES", target->gpu.major >= 9},
        {"BFLOAT", convolution->input.dtype == SG_BF16},
        {"WHOLE_CHANNELS", mma->whole},
        {"FULL_CHANNELS", full}, /* every slot of every tile has a channel */
        {"HAS_BIAS", convolution->bias.index >= 0},
    };
    sg_text_add(text, "typedef %s input_t;\n", sg_cuda_type(convolution->input.dtype));
    sg_cuda_write_constants(constants, sizeof constants / sizeof *constants, text);
}

/* The weights' rows, as sg_mma's weight_copy says. */
static void assume_weights(const sg_problem *problem, const sg_mma *mma,
                           sg_cuda_arguments *arguments) {
    static const int roles[] = {SG_ROLE_W, SG_ROLE_H, SG_ROLE_D, SG_ROLE_C};
    const sg_convolution *convolution = &problem->convolution;
    const int64_t *kernel = convolution->kernel;
    const int64_t sizes[] = {kernel[2], kernel[1], kernel[0], mma->group_inputs};
    if (mma->weight_copy == 0)
        return;
    sg_cuda_assume_dense(arguments, &convolution->weight, roles, sizes, 4);
    if (mma->weight_copy == 16)
        sg_cuda_assume(
            arguments, "rows of the weights are copied 16 bytes at a time",
            "aligned(input%d, 16) && %s %% %lld == 0", convolution->weight.index,
            sg_cuda_stride(problem, &convolution->weight, false, SG_ROLE_N, arguments->arena),
            (long long)mma->lanes);
}

static void add_convolution(const sg_problem *problem, sg_cuda_arguments *arguments) {
    const sg_convolution *convolution = &problem->convolution;
    sg_cuda_add_tensor(arguments, "input", &convolution->input, false);
    sg_cuda_add_tensor(arguments, "weight", &convolution->weight, false);
    sg_operand bias = convolution->bias;
    if (bias.index < 0)
        bias = (sg_operand){.index = convolution->input.index, .dtype = convolution->input.dtype};
    sg_cuda_add_tensor(arguments, "bias", &bias, false);
    static const char *const sizes[] = {"size_d", "size_h", "size_w"};
    static const char *const inputs[] = {"in_d", "in_h", "in_w"};
    sg_cuda_add_number(arguments, "size_n", problem->size[SG_ROLE_N], "%s",
                       sg_cuda_size(problem, SG_ROLE_N, arguments->arena));
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        sg_cuda_add_number(arguments, sizes[axis], problem->size[SG_ROLE_D + axis], "%s",
                           sg_cuda_size(problem, SG_ROLE_D + axis, arguments->arena));
        sg_cuda_add_number(arguments, inputs[axis], convolution->in_size[axis], "%s",
                           sg_cuda_in_size(problem, axis));
    }
}

sg_status sg_cuda_lower_mma(const sg_problem *problem, const sg_cuda_target *target,
                            const sg_cuda_plan *plan, sg_arena *arena, sg_cuda_kernel *kernel) {
    sg_mma mma;
    bool sound = sg_mma_measure(problem, target, plan, &mma);
    assert(sound && "the plan was found usable");
    (void)sound;
    sg_cuda_arguments arguments;
    sg_cuda_arguments_open(&arguments, problem, arena);
    sg_text constants = {0}, tail = {0};
    write_constants(problem, target, &mma, &constants);
    add_convolution(problem, &arguments);
    add_units(&mma, &arguments);
    assume_weights(problem, &mma, &arguments);
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
            {"tail", tail.data},
            {"multiplication", problem->compute == SG_F64 ? "//@ include multiply_doubles.cuh\n"
                                                          : "//@ include multiply_words.cuh\n"},
        };
        status =
            sg_cuda_compose(arena, "conv_mma.cuh", holes, sizeof holes / sizeof *holes, &source);
    }
    int64_t most = mma.blocks * target->gpu.multiprocessors;
    *kernel = (sg_cuda_kernel){.launch_count = 1};
    sg_cuda_launch *launch = &kernel->launches[0];
    *launch =
        (sg_cuda_launch){.source = source,
                         .entry = "segue_mma",
                         .grid = mma.units < most ? mma.units : most,
                         .grid_formula = sg_cuda_formula(
                             arena, "least(a.units, %lld * s.processors)", (long long)mma.blocks),
                         .block = (int)mma.threads,
                         .cluster = 1,
                         .shared = mma.shared};
    sg_cuda_give_arguments(&arguments, launch);
    sg_text_release(&constants);
    sg_text_release(&tail);
    sg_cuda_arguments_close(&arguments);
    return status == SG_OUT_OF_MEMORY ? sg_fail_memory(problem->region->graph->context) : status;
}
