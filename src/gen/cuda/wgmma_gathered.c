/* Lowering of `wgmma_gathered`: conv_wgmma_gathered.cuh. */
#include "plan/cuda/wgmma_gathered.h"

#include <assert.h>

#include "gen/cuda/block.h"
#include "gen/cuda/boxes.h"
#include "gen/cuda/wgmma.h"

/* Whether a job's first and last slices are multiplied apart, by one slice of the kernel: worth it
 * where products are what a slice takes. */
static bool edges_apart(const sg_wgmma_gathered *gathered) {
    return gathered->scales_at_end && gathered->parts == 2 && gathered->turn == 3;
}

static void write_constants(const sg_problem *problem, const sg_cuda_target *target,
                            const sg_wgmma_gathered *gathered, sg_text *text) {
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
        {"WEIGHTS_IN_ORDER", sg_cuda_weights_in_order(problem)},
        {"PARTS", gathered->parts},
        {"TURN", gathered->turn},
        {"BOX_H", gathered->box_h},
        {"BOX_W", gathered->box_w},
        {"PIXELS_W", gathered->pixels_w},
        {"COLUMNS", gathered->columns},
        {"LEAD", gathered->lead},
        {"VECTOR", gathered->vector},
        {"ONE_BOX_W", gathered->vector > 1 && gathered->box_w % gathered->vector != 0},
        {"ONE_BOX_D", sg_problem_walks(problem, 0)},
        {"TILE_N", gathered->tile_n},
        {"TILE_REAL", problem->size[SG_ROLE_C]},
        {"TILE_WALKS", gathered->tail.full_walks},
        {"SCALES_AT_END", gathered->scales_at_end},
        {"EDGES_APART", edges_apart(gathered)},
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
    const int64_t boxes[] = {gathered->box_d, gathered->box_h, gathered->box_w};
    const int64_t jobs[] = {gathered->jobs_d, gathered->jobs_h, gathered->jobs_w};
    sg_cuda_add_boxes(arguments, problem, boxes, jobs, gathered->jobs);
    sg_cuda_assume(
        arguments, "columns of the input lie side by side", "%s == 1",
        sg_cuda_stride(problem, &convolution->input, false, SG_ROLE_W, arguments->arena));
    sg_cuda_assume_vectors(arguments, &convolution->input, false, SG_ROLE_W, gathered->vector,
                           sg_cuda_in_size(problem, 2));
    if (gathered->vector > 1 && gathered->box_w % gathered->vector != 0)
        sg_cuda_assume(arguments, "a row of the output is one box", "a.jobs_w == 1");
    if (sg_cuda_weights_in_order(problem))
        sg_cuda_assume_weights_in_order(arguments, problem);
}

static sg_status write_launch(const sg_problem *problem, const sg_cuda_target *target,
                              const sg_wgmma_gathered *gathered, sg_arena *arena,
                              sg_cuda_launch *launch) {
    sg_cuda_arguments arguments;
    sg_cuda_arguments_open(&arguments, problem, arena);
    sg_text constants = {0}, instructions = {0}, tail = {0};
    write_constants(problem, target, gathered, &constants);
    sg_cuda_write_wgmma_from_registers(&instructions, (int)(gathered->turn * gathered->tile_n),
                                       SG_F16);
    if (edges_apart(gathered))
        sg_cuda_write_wgmma_from_registers(&instructions, (int)gathered->tile_n, SG_F16);
    add_arguments(problem, gathered, &arguments);
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
    /* No more blocks than it takes for none to have more jobs: those that have fewer only draw
     * power. */
    int64_t each = sg_cuda_pieces(gathered->jobs, target->gpu.multiprocessors);
    each = each < 1 ? 1 : each;
    *launch = (sg_cuda_launch){.source = source,
                               .entry = "segue_conv_wgmma_gathered",
                               .grid = sg_cuda_pieces(gathered->jobs, each),
                               .block = (int)gathered->threads,
                               .cluster = 1,
                               .shared = gathered->shared};
    launch->grid_formula =
        sg_cuda_formula(arena, "pieces(a.job_count, most(1, pieces(a.job_count, s.processors)))");
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
