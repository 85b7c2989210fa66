/* Lowering of `mma`, and of the repair of the half carrier, which is the same skeleton over the
 * jobs of another launch: one launch of conv_mma.cuh each. */
#include "plan/cuda/mma.h"

#include <assert.h>
#include <string.h>

#include "gen/cuda/block.h"
#include "gen/cuda/repair.h"

static int64_t pieces(int64_t whole, int64_t piece) {
    return (whole + piece - 1) / piece;
}
static int64_t least_one(int64_t count) {
    return count > 0 ? count : 1;
}

/* ---- units --------------------------------------------------------------------------------- */

/* How the work is numbered: unit = ((job * channel parts + part) * tiles along D, H, W), job as
 * repair.h says. Without jobs of another launch, one job is all of BOX_N images. */
typedef struct mma_units {
    sg_cuda_jobs jobs;
    int64_t tiles[SG_SPATIAL_MAX]; /* of a job */
    int64_t group_parts;           /* of the job's channels of one group */
    int64_t group_tiles;           /* channel tiles of a group */
    int64_t job_units, units;
    bool full;                       /* every slot of every tile has a channel */
    int64_t box[1 + SG_SPATIAL_MAX]; /* of a tile */
} mma_units;

static void count_units(const sg_problem *problem, const sg_mma *mma, const sg_cuda_jobs *jobs,
                        mma_units *units) {
    const sg_convolution *convolution = &problem->convolution;
    *units = (mma_units){.job_units = 1, .group_parts = 1, .group_tiles = 1};
    memcpy(units->box, mma->box, sizeof units->box);
    units->jobs = jobs ? *jobs : (sg_cuda_jobs){.jobs = {1, 1, 1}, .channel_tiles = 1};
    bool tiled = units->jobs.channel_tiles > 1;
    if (!tiled)
        units->jobs.channels = mma->group_outputs;
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        if (!jobs)
            units->jobs.box[axis] = problem->size[SG_ROLE_D + axis];
        units->tiles[axis] =
            sg_problem_walks(problem, axis) ? 1 : pieces(units->jobs.box[axis], mma->box[1 + axis]);
        units->job_units *= units->tiles[axis];
    }
    if (!mma->whole) {
        units->group_parts = pieces(units->jobs.channels, mma->channel_slots);
        units->group_tiles = tiled ? pieces(mma->group_outputs, units->jobs.channels) : 1;
        units->job_units *= units->group_parts * (tiled ? 1 : convolution->groups);
    }
    int64_t images = pieces(problem->size[SG_ROLE_N], mma->box[0]);
    units->units = images * units->jobs.channel_tiles * units->jobs.jobs[0] * units->jobs.jobs[1] *
                   units->jobs.jobs[2] * units->job_units;
    if (mma->whole)
        units->full = problem->size[SG_ROLE_C] == mma->channel_slots;
    else
        units->full = mma->group_outputs % mma->channel_slots == 0 &&
                      units->jobs.channels % mma->channel_slots == 0;
}

static void add_constant(sg_cuda_arguments *arguments, const char *name, int64_t value) {
    sg_cuda_add_number(arguments, name, value, "%lld", (long long)value);
}

/* Formulas are for launches without jobs of another. */
static void add_units(const mma_units *units, bool whole, sg_cuda_arguments *arguments) {
    const sg_problem *problem = arguments->problem;
    static const char *const tiles[] = {"tiles_d", "tiles_h", "tiles_w"};
    static const char *const jobs[] = {"jobs_d", "jobs_h", "jobs_w"};
    static const char *const boxes[] = {"job_box_d", "job_box_h", "job_box_w"};
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        const char *size = sg_cuda_size(problem, SG_ROLE_D + axis, arguments->arena);
        if (sg_problem_walks(problem, axis))
            sg_cuda_add_number(arguments, tiles[axis], 1, "1");
        else
            sg_cuda_add_number(arguments, tiles[axis], least_one(units->tiles[axis]),
                               "most(1, pieces(%s, %lld))", size, (long long)units->box[1 + axis]);
        sg_cuda_add_number(arguments, jobs[axis], least_one(units->jobs.jobs[axis]), "1");
        sg_cuda_add_number(arguments, boxes[axis], units->jobs.box[axis], "%s", size);
    }
    int64_t channels = units->jobs.channels;
    add_constant(arguments, "jobs_c", least_one(units->jobs.channel_tiles));
    add_constant(arguments, "job_channels", channels);
    add_constant(arguments, "parts_group", least_one(units->group_parts));
    add_constant(arguments, "tiles_group", least_one(units->group_tiles));
    sg_cuda_add_number(arguments, "units_job", least_one(units->job_units),
                       "a.tiles_d * a.tiles_h * a.tiles_w * %lld",
                       (long long)(units->group_parts * (whole ? 1 : problem->convolution.groups)));
    sg_cuda_add_number(arguments, "units", units->units, "pieces(%s, %lld) * a.units_job",
                       sg_cuda_size(problem, SG_ROLE_N, arguments->arena),
                       (long long)units->box[0]);
    sg_cuda_assume(arguments, "tiles are counted in 31 bits", "a.units < 2147483648");
}

/* ---- text ---------------------------------------------------------------------------------- */

static void write_constants(const sg_problem *problem, const sg_cuda_target *target,
                            const sg_mma *mma, const mma_units *units, bool repair, sg_text *text) {
    const sg_convolution *convolution = &problem->convolution;
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
        {"PIECES_MAX", problem->convolution.input.dtype == SG_F32 ? 4 : 2},
        {"WEIGHT_COPY", mma->weight_copy},
        {"WALK_D", sg_problem_walks(problem, 0)},
        {"WALK_H", sg_problem_walks(problem, 1)},
        {"WALK_W", sg_problem_walks(problem, 2)},
        {"TILE_WALKS", mma->tail.full_walks},
        {"TILE_OPERANDS", mma->tail.channel_loads},
        {"STORES", mma->tail.tile_stores > 0},
        {"ONE_PART", mma->one_part},
        {"DEFER", mma->defer},
        {"SPLIT", mma->split},
        {"EVEN", target->precision == SG_PRECISION_TF32_EVEN},
        {"BFLOAT", convolution->input.dtype == SG_BF16},
        {"WHOLE_CHANNELS", mma->whole},
        {"FULL_CHANNELS", units->full},
        {"HAS_BIAS", convolution->bias.index >= 0},
        {"REPAIR", repair},
        {"EARLY", repair && target->gpu.major >= 9},
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
            "aligned(input%d, 16) && %s %% 4 == 0", convolution->weight.index,
            sg_cuda_stride(problem, &convolution->weight, false, SG_ROLE_N, arguments->arena));
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

/* jobs, flags: of the launch that is repaired; jobs NULL: none. */
static sg_status lower(const sg_problem *problem, const sg_cuda_target *target, const sg_mma *mma,
                       const sg_cuda_jobs *jobs, int64_t flags, sg_arena *arena,
                       sg_cuda_launch *launch) {
    mma_units units;
    count_units(problem, mma, jobs, &units);
    sg_cuda_arguments arguments;
    sg_cuda_arguments_open(&arguments, problem, arena);
    sg_text constants = {0}, tail = {0};
    write_constants(problem, target, mma, &units, jobs != NULL, &constants);
    add_convolution(problem, &arguments);
    add_units(&units, mma->whole, &arguments);
    assume_weights(problem, mma, &arguments);
    /* Looked at in a repair alone. */
    sg_cuda_add_workspace(&arguments, "const int", "flags", flags, "%lld", (long long)flags);
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
        status =
            sg_cuda_compose(arena, "conv_mma.cuh", holes, sizeof holes / sizeof *holes, &source);
    }
    int64_t most = mma->blocks * target->gpu.multiprocessors;
    *launch = (sg_cuda_launch){.source = source,
                               .entry = "segue_mma",
                               .grid = units.units < most ? units.units : most,
                               .block = (int)mma->threads,
                               .cluster = 1,
                               .shared = mma->shared,
                               .early = jobs && target->gpu.major >= 9};
    if (!jobs)
        launch->grid_formula =
            sg_cuda_formula(arena, "least(a.units, %lld * s.processors)", (long long)mma->blocks);
    sg_cuda_give_arguments(&arguments, launch);
    sg_text_release(&constants);
    sg_text_release(&tail);
    sg_cuda_arguments_close(&arguments);
    return status == SG_OUT_OF_MEMORY ? sg_fail_memory(problem->region->graph->context) : status;
}

/* ---- launches ------------------------------------------------------------------------------ */

sg_status sg_cuda_lower_mma(const sg_problem *problem, const sg_cuda_target *target,
                            const sg_cuda_plan *plan, sg_arena *arena, sg_cuda_kernel *kernel) {
    sg_mma mma;
    bool sound = sg_mma_measure(problem, target, plan, &mma);
    assert(sound && "the plan was found usable");
    (void)sound;
    *kernel = (sg_cuda_kernel){.launch_count = 1};
    return lower(problem, target, &mma, NULL, 0, arena, &kernel->launches[0]);
}

int64_t sg_cuda_job_count(const sg_problem *problem, const sg_cuda_jobs *jobs) {
    return problem->size[SG_ROLE_N] * jobs->channel_tiles * jobs->jobs[0] * jobs->jobs[1] *
           jobs->jobs[2];
}

bool sg_cuda_repairable(const sg_problem *problem, const sg_cuda_target *target, char *reason) {
    return sg_mma_possible(problem, target, reason);
}

sg_status sg_cuda_lower_repair(const sg_problem *problem, const sg_cuda_target *target,
                               const sg_cuda_jobs *jobs, int64_t flags, sg_arena *arena,
                               sg_cuda_launch *launch) {
    char reason[SG_REASON_MAX] = "no tile fits shared memory and registers";
    sg_mma mma;
    if (!sg_mma_possible(problem, target, reason) ||
        !sg_mma_plan_inside(problem, target, jobs->box, jobs->channel_tiles > 1, &mma))
        return sg_fail(problem->region->graph->context, SG_NOT_APPLICABLE,
                       "the half carrier cannot be repaired: %s", reason);
    return lower(problem, target, &mma, jobs, flags, arena, launch);
}
