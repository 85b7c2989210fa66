/* Lowering of `wgmma_streamed`: pack_weights.cuh, then conv_wgmma_streamed.cuh. */
#include <assert.h>
#include <stdio.h>

#include "gen/cuda/block.h"
#include "gen/cuda/wgmma.h"
#include "plan/cpu_plan.h"
#include "plan/cuda/streamed.h"

enum { THREADS = 512, PACK_THREADS = 512, PACK_CHANNELS = 2 };
/* One instruction takes so many channels at most: its sums are in registers of which a thread has
 * 128 when the kernel starts. */
enum { INSTRUCTION_N_MAX = 192 };

/* What both launches are written from. */
typedef struct lowering {
    const sg_problem *problem;
    const sg_cuda_target *target;
    const sg_cuda_plan *plan;
    sg_streamed_layout layout;
    int64_t weights, scales, workspace; /* byte offsets, and the size */
} lowering;

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static void lay_out_workspace(lowering *lowering) {
    const sg_streamed_layout *layout = &lowering->layout;
    lowering->weights = 0;
    lowering->scales = layout->channel_tiles * layout->chunks * layout->tap_count *
                       sg_streamed_tap_blocks(lowering->problem, lowering->target) *
                       sg_streamed_block_bytes(lowering->plan);
    lowering->workspace = lowering->scales + lowering->problem->size[SG_ROLE_C] * 4;
}

/* ---- constants ----------------------------------------------------------------------------- */

static void write_table(sg_text *text, const char *name, const int *first, int step, int count) {
    sg_text_add(text, "__constant__ int %s[%d] = {", name, count);
    for (int i = 0; i < count; i++)
        sg_text_add(text, "%s%d", i % 16 ? ", " : i ? ",\n    " : "", first[i * step]);
    sg_text_add(text, "};\n");
}

/* What both kernels must agree on. */
static void write_common(const lowering *lowering, sg_text *text) {
    const sg_convolution *convolution = &lowering->problem->convolution;
    const sg_streamed_layout *layout = &lowering->layout;
    int64_t outputs = lowering->problem->size[SG_ROLE_C] / convolution->groups;
    int64_t channels = lowering->plan->parameter[SG_STREAMED_CHANNELS];
    sg_text_add(text, "using element = %s;\n", sg_cuda_type(convolution->input.dtype));
    const sg_cuda_constant constants[] = {
        {"ROUND_EVEN", lowering->target->precision == SG_PRECISION_TF32_EVEN},
        {"IN_CHANNELS", convolution->in_channels / convolution->groups},
        {"GROUP_CHANNELS", outputs},
        {"GROUP_TILES", layout->group_tiles},
        {"TILE_STEP", channels},
        {"TILE_REAL", outputs - (layout->group_tiles - 1) * channels},
        {"TILE_N", layout->tile_n},
        {"CHUNK", lowering->plan->parameter[SG_STREAMED_CHUNK]},
        {"TAPS", layout->tap_count},
        {"PRODUCTS", sg_streamed_products(lowering->problem, lowering->target)},
        {"TAP_BLOCKS", sg_streamed_tap_blocks(lowering->problem, lowering->target)},
        {"GUARDED", sg_streamed_carries(lowering->problem)},
    };
    sg_cuda_write_constants(constants, sizeof constants / sizeof *constants, text);
}

static void write_taps(const sg_streamed_layout *layout, sg_text *text) {
    static const char axes[] = "DHW";
    enum {
        TAP_STEP = sizeof(sg_streamed_tap) / sizeof(int),
        PART_STEP = sizeof(sg_streamed_part) / sizeof(int)
    };
    char name[16];
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        snprintf(name, sizeof name, "TAP_%c", axes[axis]);
        write_table(text, name, &layout->taps[0].ahead[axis], TAP_STEP, layout->tap_count);
        snprintf(name, sizeof name, "PART_%c", axes[axis]);
        write_table(text, name, &layout->parts[0].shift[axis], PART_STEP, layout->part_count);
    }
    write_table(text, "PART_FIRST", &layout->parts[0].first_tap, PART_STEP, layout->part_count);
    write_table(text, "PART_TAPS", &layout->parts[0].tap_count, PART_STEP, layout->part_count);
}

static void write_main(const lowering *lowering, sg_text *text) {
    const sg_problem *problem = lowering->problem;
    const sg_convolution *convolution = &problem->convolution;
    const sg_streamed_layout *layout = &lowering->layout;
    const int64_t *plan = lowering->plan->parameter;
    bool deep = convolution->kernel[0] > 1 || convolution->in_size[0] > 1 ||
                problem->size[SG_ROLE_D] > 1 || convolution->padding[0] > 0;
    int64_t inputs = convolution->in_channels / convolution->groups;
    bool wide = sg_streamed_wide(problem, lowering->target, lowering->plan, layout);
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    sg_streamed_reading reading;
    sg_streamed_read(problem, lowering->target, lowering->plan, layout, &reading);
    write_common(lowering, text);
    const sg_cuda_constant constants[] = {
        {"SPATIAL_DIMS", deep ? 3 : 2},
        {"STRIDE_D", convolution->stride[0]},
        {"STRIDE_H", convolution->stride[1]},
        {"STRIDE_W", convolution->stride[2]},
        {"PARTS", layout->part_count},
        {"STRIPS", layout->strips > 1},
        {"FLAT_IMAGES", layout->flat},
        {"ROW_BLOCKS", plan[SG_STREAMED_ROWS]},
        {"CHANNEL_TILES", layout->channel_tiles},
        {"INSTRUCTION_N", layout->tile_n > INSTRUCTION_N_MAX ? layout->tile_n / 2 : layout->tile_n},
        {"PROMOTE", sg_streamed_promote(problem, lowering->target, lowering->plan, layout)},
        {"TILE_WALKS", 0},
        {"TILE_LOADS", facts.tile_loads},
        {"HAS_BIAS", convolution->bias.index >= 0},
        {"STORE_RUNS", sg_streamed_stores_runs(problem, lowering->target, lowering->plan)},
        {"BOX_PIXELS", plan[SG_STREAMED_BOX]},
        {"BOX_STAGES", plan[SG_STREAMED_BOXES]},
        {"BLOCK_STAGES", plan[SG_STREAMED_BLOCKS]},
        {"WHOLE_CHUNKS", inputs % plan[SG_STREAMED_CHUNK] == 0},
        {"READ", reading.vector},
        {"ITEM_ROWS", reading.rows},
        {"ITEM_CELLS", reading.cells},
        {"CONSUMER_REGISTERS", wide ? 176 : 128},
        {"STAGER_REGISTERS", wide ? 80 : 128},
    };
    sg_cuda_write_constants(constants, sizeof constants / sizeof *constants, text);
    write_taps(layout, text);
}

/* Whether the weights of one output channel follow each other as [input channel][tap]. */
static bool weights_are_dense(const sg_convolution *convolution) {
    int64_t step = 1;
    for (int role = SG_ROLE_W; role >= SG_ROLE_D; role--) {
        int64_t size = convolution->kernel[role - SG_ROLE_D];
        if (size > 1 && convolution->weight.stride[role] != step)
            return false;
        step *= size;
    }
    return convolution->in_channels == convolution->groups ||
           convolution->weight.stride[SG_ROLE_C] == step;
}

/* Which tap each block is of, and whether it has the lower halves, which come first. */
static void write_blocks(const lowering *lowering, sg_text *text) {
    const sg_convolution *convolution = &lowering->problem->convolution;
    const sg_streamed_layout *layout = &lowering->layout;
    int blocks = (int)sg_streamed_tap_blocks(lowering->problem, lowering->target);
    int place[2 * SG_STREAMED_TAPS_MAX], lower[2 * SG_STREAMED_TAPS_MAX];
    int count = 0;
    for (int p = 0; p < layout->part_count; p++) {
        const sg_streamed_part *part = &layout->parts[p];
        for (int step = 0; step < part->tap_count * blocks; step++) {
            const int *at = layout->taps[part->first_tap + step / blocks].kernel;
            int row = at[0] * (int)convolution->kernel[1] + at[1];
            place[count] = row * (int)convolution->kernel[2] + at[2];
            lower[count++] = blocks == 2 && step % 2 == 0;
        }
    }
    write_table(text, "BLOCK_TAP", place, 1, count);
    write_table(text, "BLOCK_LOWER", lower, 1, count);
}

static void write_packing(const lowering *lowering, sg_text *text) {
    const sg_convolution *convolution = &lowering->problem->convolution;
    write_common(lowering, text);
    const sg_cuda_constant constants[] = {
        {"KERNEL_H", convolution->kernel[1]},
        {"KERNEL_W", convolution->kernel[2]},
        {"DENSE", weights_are_dense(convolution)},
    };
    sg_cuda_write_constants(constants, sizeof constants / sizeof *constants, text);
    write_blocks(lowering, text);
}

/* ---- arguments ----------------------------------------------------------------------------- */

/* A number and its reciprocal, for divide of stage_box.cuh. */
static void add_divisor(sg_cuda_arguments *arguments, const char *name, int64_t value,
                        const char *formula) {
    char full[40];
    sg_cuda_add_number(arguments, name, value, "%s", formula);
    snprintf(full, sizeof full, "%s_reciprocal", name);
    sg_cuda_add_number(arguments, full, sg_cuda_reciprocal(value), "reciprocal(a.%s)", name);
}

/* That a pitch has `room` beyond the axis, where that is less than the taps reach: padding at the
 * end of one and at the start of the next, as sg_streamed_measure found it (streamed.c). */
static void assume_pitch(const lowering *lowering, int axis, int64_t room,
                         sg_cuda_arguments *arguments) {
    static const char names[] = "dhw";
    const sg_streamed_layout *layout = &lowering->layout;
    int reach = 0, shift = 0;
    bool shares = false;
    for (int i = 0; i < layout->part_count; i++) {
        const sg_streamed_part *part = &layout->parts[i];
        int ahead = sg_streamed_furthest(layout, part, axis);
        if (ahead <= room)
            continue;
        shift = !shares || part->shift[axis] < shift ? part->shift[axis] : shift;
        reach = ahead > reach ? ahead : reach;
        shares = true;
    }
    if (shares)
        sg_cuda_assume(arguments, "the end of one row is the padding of the next",
                       "%lld < a.pitch_%c && a.pitch_%c * %lld + %d >= a.in_%c",
                       (long long)(reach - room - 1), names[axis], names[axis],
                       (long long)lowering->problem->convolution.stride[axis], shift, names[axis]);
}

/* What the source and the plan's box take from the sizes. */
static void assume_sizes(const lowering *lowering, sg_cuda_arguments *arguments) {
    const sg_streamed_layout *layout = &lowering->layout;
    const int *last = layout->taps[0].ahead;
    for (int t = 1; t < layout->tap_count; t++) {
        const int *ahead = layout->taps[t].ahead;
        bool further = ahead[0] != last[0]   ? ahead[0] > last[0]
                       : ahead[1] != last[1] ? ahead[1] > last[1]
                                             : ahead[2] > last[2];
        last = further ? ahead : last;
    }
    sg_cuda_assume(
        arguments, "a staged box holds a tile and what its taps reach",
        "(%d * a.pitch_h + %d) * a.pitch_w + %d <= %lld", last[0], last[1], last[2],
        (long long)(lowering->plan->parameter[SG_STREAMED_BOX] - layout->tile_positions));
    if (layout->strips <= 1)
        sg_cuda_assume(arguments, "a row is one strip", "a.strips <= 1");
    sg_cuda_assume(arguments, "positions are counted in 30 bits",
                   "a.images * a.strips * a.image < %d", 1 << 30);
    const char *last_offset = "0";
    const sg_operand *input = &lowering->problem->convolution.input;
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++)
        if (input->dim[SG_ROLE_D + axis])
            last_offset =
                sg_cuda_formula(arguments->arena, "%s + a.in_%c * %s", last_offset, "dhw"[axis],
                                sg_cuda_stride(lowering->problem, input, false, SG_ROLE_D + axis,
                                               arguments->arena));
    sg_cuda_assume(arguments, "offsets inside an image take 30 bits", "%s < %d", last_offset,
                   1 << 30);
}

/* How the input is read. */
static void assume_reading(const lowering *lowering, sg_cuda_arguments *arguments) {
    static const char names[] = "dhw";
    const sg_problem *problem = lowering->problem;
    const sg_operand *input = &problem->convolution.input;
    sg_arena *arena = arguments->arena;
    long long elements = 16 / sg_dtype_size(input->dtype);
    sg_streamed_reading reading;
    sg_streamed_read(problem, lowering->target, lowering->plan, &lowering->layout, &reading);
    if (reading.vector == 8)
        sg_cuda_assume_vectors(arguments, input, false, SG_ROLE_C, elements, NULL);
    if (!lowering->layout.flat)
        return;
    const char *step = "1";
    for (int axis = SG_SPATIAL_MAX - 1; axis >= 0; axis--) {
        if (!input->dim[SG_ROLE_D + axis])
            continue;
        sg_cuda_assume(arguments, "an image of the input is one row without gaps",
                       "a.pitch_%c == most(a.in_%c, 1) && (a.in_%c <= 1 || %s == %s)", names[axis],
                       names[axis], names[axis],
                       sg_cuda_stride(problem, input, false, SG_ROLE_D + axis, arena), step);
        step = sg_cuda_formula(arena, "%s * a.in_%c", step, names[axis]);
    }
    if (reading.vector == 4) {
        const char *image = sg_cuda_stride(problem, input, false, SG_ROLE_N, arena);
        const char *channel = sg_cuda_stride(problem, input, false, SG_ROLE_C, arena);
        sg_cuda_assume(arguments, "images are read in vectors",
                       "aligned(input%d, %lld) && a.image %% 4 == 0 && %s %% 4 == 0 && "
                       "%s %% 4 == 0",
                       input->index, 4 * (long long)sg_dtype_size(input->dtype), image, channel);
    }
}

/* How results are stored. */
static void assume_storing(const lowering *lowering, sg_cuda_arguments *arguments) {
    const sg_problem *problem = lowering->problem;
    if (!sg_streamed_stores_runs(problem, lowering->target, lowering->plan))
        return;
    for (int i = 0; i < problem->output_count; i++) {
        if (problem->outputs[i].domain >> SG_ROLE_C & 1U)
            sg_cuda_assume_vectors(arguments, &problem->outputs[i], true, SG_ROLE_C,
                                   SG_STREAMED_RUN, NULL);
    }
}

static void add_main(const lowering *lowering, int64_t job_count, sg_cuda_arguments *arguments) {
    const sg_problem *problem = lowering->problem;
    const sg_convolution *convolution = &problem->convolution;
    const sg_streamed_layout *layout = &lowering->layout;
    const int64_t *pitch = layout->pitch;
    sg_operand bias = convolution->bias;
    if (bias.index < 0) /* not read */
        bias = (sg_operand){.index = convolution->input.index, .dtype = convolution->input.dtype};
    sg_cuda_add_tensor(arguments, "input", &convolution->input, false);
    sg_cuda_add_tensor(arguments, "bias", &bias, false);
    sg_cuda_add_workspace(arguments, "const uint4", "weights", lowering->weights, "%lld",
                          (long long)lowering->weights);
    sg_cuda_add_workspace(arguments, "const float", "scales", lowering->scales, "%lld",
                          (long long)lowering->scales);
    static const char *const outs[] = {"out_d", "out_h", "out_w"};
    static const char *const ins[] = {"in_d", "in_h", "in_w"};
    static const char *const pitches[] = {"pitch_d", "pitch_h", "pitch_w"};
    long long strip = lowering->plan->parameter[SG_STREAMED_STRIP];
    sg_cuda_add_number(arguments, "images", problem->size[SG_ROLE_N], "%s",
                       sg_cuda_size(problem, SG_ROLE_N, arguments->arena));
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        sg_cuda_add_number(arguments, outs[axis], problem->size[SG_ROLE_D + axis], "%s",
                           sg_cuda_size(problem, SG_ROLE_D + axis, arguments->arena));
        sg_cuda_add_number(arguments, ins[axis], convolution->in_size[axis], "%s",
                           sg_cuda_in_size(problem, axis));
    }
    /* What room a pitch has beyond its axis depends on the filter alone, as assume says. */
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        bool columns = axis == SG_SPATIAL_MAX - 1;
        const char *size = columns ? sg_cuda_formula(arguments->arena, "%lld", strip)
                                   : sg_cuda_formula(arguments->arena, "most(a.%s, 1)", outs[axis]);
        int64_t taken = columns ? strip : larger(problem->size[SG_ROLE_D + axis], 1);
        assume_pitch(lowering, axis, pitch[axis] - taken, arguments);
        add_divisor(
            arguments, pitches[axis], pitch[axis],
            sg_cuda_formula(arguments->arena, "%s + %lld", size, (long long)(pitch[axis] - taken)));
    }
    add_divisor(arguments, "image", pitch[0] * pitch[1] * pitch[2],
                "a.pitch_d * a.pitch_h * a.pitch_w");
    sg_cuda_assume(arguments, "a tile takes pixels of few images", "a.image >= %lld",
                   (long long)sg_streamed_image_least(layout));
    add_divisor(arguments, "strips", layout->strips,
                sg_cuda_formula(arguments->arena, "pieces(most(a.out_w, 1), %lld)", strip));
    sg_cuda_add_number(arguments, "strip", strip, "%lld", strip);
    sg_cuda_add_number(arguments, "jobs", job_count,
                       "pieces(a.images * a.strips * a.image, %lld) * %lld",
                       (long long)layout->tile_positions, (long long)layout->channel_tiles);
}

/* ---- launches ------------------------------------------------------------------------------ */

static sg_status lower_packing(const lowering *lowering, sg_arena *arena, sg_cuda_launch *launch) {
    const sg_streamed_layout *layout = &lowering->layout;
    sg_cuda_arguments arguments;
    sg_cuda_arguments_open(&arguments, lowering->problem, arena);
    sg_text constants = {0};
    write_packing(lowering, &constants);
    const sg_convolution *convolution = &lowering->problem->convolution;
    static const int roles[] = {SG_ROLE_W, SG_ROLE_H, SG_ROLE_D, SG_ROLE_C};
    const int64_t sizes[] = {convolution->kernel[2], convolution->kernel[1], convolution->kernel[0],
                             convolution->in_channels / convolution->groups};
    if (weights_are_dense(convolution))
        sg_cuda_assume_dense(&arguments, &convolution->weight, roles, sizes, 4);
    sg_cuda_add_tensor(&arguments, "weight", &convolution->weight, false);
    sg_cuda_add_workspace(&arguments, "uint4", "packed", lowering->weights, "%lld",
                          (long long)lowering->weights);
    sg_cuda_add_workspace(&arguments, "float", "scales", lowering->scales, "%lld",
                          (long long)lowering->scales);
    bool failed = constants.failed || arguments.declaration.failed;
    const sg_cuda_hole holes[] = {{"constants", constants.data},
                                  {"arguments", arguments.declaration.data}};
    sg_status status = failed ? SG_OUT_OF_MEMORY
                              : sg_cuda_compose(arena, "pack_weights.cuh", holes,
                                                sizeof holes / sizeof *holes, &launch->source);
    launch->entry = "segue_pack_weights";
    launch->grid = layout->channel_tiles * layout->tile_n / PACK_CHANNELS;
    launch->grid_formula = sg_cuda_formula(arena, "%lld", (long long)launch->grid);
    launch->block = PACK_THREADS;
    launch->cluster = 1;
    sg_cuda_give_arguments(&arguments, launch);
    sg_text_release(&constants);
    sg_cuda_arguments_close(&arguments);
    return status;
}

/* A block meets the same tile of channels again and again where the grid is a multiple of the
 * tiles. */
static int64_t grid_of(const lowering *lowering, int64_t job_count) {
    int64_t processors = lowering->target->gpu.multiprocessors;
    int64_t tiles = lowering->layout.channel_tiles;
    if (job_count <= processors)
        return job_count;
    return tiles <= processors / 8 ? processors / tiles * tiles : processors;
}

static sg_status lower_products(const lowering *lowering, sg_arena *arena, sg_cuda_launch *launch) {
    const sg_streamed_layout *layout = &lowering->layout;
    int64_t job_count = layout->position_tiles * layout->channel_tiles;
    sg_cuda_arguments arguments;
    sg_cuda_arguments_open(&arguments, lowering->problem, arena);
    sg_text constants = {0}, instructions = {0}, tail = {0};
    write_main(lowering, &constants);
    sg_cuda_write_wgmma(
        &instructions,
        (int)(layout->tile_n > INSTRUCTION_N_MAX ? layout->tile_n / 2 : layout->tile_n),
        lowering->problem->convolution.input.dtype == SG_BF16 ? SG_BF16 : SG_F16);
    add_main(lowering, job_count, &arguments);
    assume_sizes(lowering, &arguments);
    assume_reading(lowering, &arguments);
    assume_storing(lowering, &arguments);
    sg_status status =
        sg_cuda_write_tail(lowering->problem, lowering->target, arena, &arguments, &tail);
    if (status == SG_OK &&
        (constants.failed || instructions.failed || tail.failed || arguments.declaration.failed))
        status = SG_OUT_OF_MEMORY;
    if (status == SG_OK) {
        const sg_cuda_hole holes[] = {{"constants", constants.data},
                                      {"arguments", arguments.declaration.data},
                                      {"instructions", instructions.data},
                                      {"tail", tail.data}};
        status = sg_cuda_compose(arena, "conv_wgmma_streamed.cuh", holes,
                                 sizeof holes / sizeof *holes, &launch->source);
    }
    launch->entry = "segue_conv_wgmma_streamed";
    launch->grid = grid_of(lowering, job_count);
    launch->grid_formula = sg_cuda_formula(
        arena,
        "a.jobs <= s.processors ? a.jobs : %lld <= s.processors / 8 ? s.processors / %lld * "
        "%lld : s.processors",
        (long long)layout->channel_tiles, (long long)layout->channel_tiles,
        (long long)layout->channel_tiles);
    launch->block = THREADS;
    launch->cluster = 1;
    launch->shared = sg_streamed_shared(lowering->problem, lowering->target, lowering->plan);
    launch->early = true;
    sg_cuda_give_arguments(&arguments, launch);
    sg_text_release(&constants);
    sg_text_release(&instructions);
    sg_text_release(&tail);
    sg_cuda_arguments_close(&arguments);
    return status;
}

sg_status sg_cuda_lower_wgmma_streamed(const sg_problem *problem, const sg_cuda_target *target,
                                       const sg_cuda_plan *plan, sg_arena *arena,
                                       sg_cuda_kernel *kernel) {
    lowering lowering = {.problem = problem, .target = target, .plan = plan};
    bool measured = sg_streamed_measure(problem, plan, &lowering.layout);
    assert(measured && "the plan was found usable");
    (void)measured;
    lay_out_workspace(&lowering);
    *kernel = (sg_cuda_kernel){.launch_count = 2, .workspace = lowering.workspace};
    sg_status status = lower_packing(&lowering, arena, &kernel->launches[0]);
    if (status == SG_OK)
        status = lower_products(&lowering, arena, &kernel->launches[1]);
    return status == SG_OUT_OF_MEMORY ? sg_fail_memory(problem->region->graph->context) : status;
}
