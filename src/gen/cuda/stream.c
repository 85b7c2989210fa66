/* Lowering of `stream`: one launch of stream.cuh. */
#include "plan/cuda/stream.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "gen/cuda/block.h"
#include "gen/tile/program.h"

/* Whether the tail reads operand `load`: dead ones are not among the arguments. */
static bool is_read(const sg_cuda_arguments *arguments, int load) {
    char member[32];
    snprintf(member, sizeof member, " load%d_stride;", load);
    return arguments->declaration.data && strstr(arguments->declaration.data, member);
}

static bool has_channels_and_pixels(const sg_operand *operand) {
    unsigned channel = 1U << SG_ROLE_C;
    return operand->domain & channel && operand->domain & ~channel;
}

/* Neighbours along w that one access moves, as the tile takes them. */
static int64_t vector_of(const sg_cuda_target *target, const sg_operand *operand,
                         const sg_cuda_block *block, sg_cuda_arguments *arguments) {
    if (!sg_cuda_moves_at_once(arguments->problem, operand, SG_ROLE_W, block->pixel_vector, target))
        return 1;
    sg_cuda_assume_vectors(arguments, operand, false, SG_ROLE_W, block->pixel_vector, NULL);
    return block->pixel_vector;
}

/* The holes `kept`, which numbers the kept operands, and `keep`, which reads them; their count. */
static int write_kept(const sg_cuda_target *target, const sg_cuda_stream_plan *plan,
                      const sg_tile_program *program, sg_cuda_arguments *arguments,
                      sg_text *numbers, sg_text *reads) {
    int count = 0;
    sg_text_add(numbers, "__device__ __forceinline__ int kept_number(const Stride *stride, const "
                         "Arguments &a) {\n");
    for (int load = 0; load < program->load_count && plan->kept; load++) {
        const sg_operand *operand = &program->loads[load];
        if (!has_channels_and_pixels(operand) || !is_read(arguments, load))
            continue;
        sg_text_add(numbers, "    if (stride == &a.load%d_stride)\n        return %d;\n", load,
                    count);
        sg_text_add(reads, "    tile.keep<%lld>(%d, a.load%d, a.load%d_stride);\n",
                    (long long)vector_of(target, operand, &plan->block, arguments), count, load,
                    load);
        count++;
    }
    sg_text_add(numbers, "    return -1;\n}\n");
    return count;
}

sg_status sg_cuda_lower_stream(const sg_problem *problem, const sg_cuda_target *target,
                               const sg_cuda_plan *plan, sg_arena *arena, sg_cuda_kernel *kernel) {
    sg_cuda_stream_plan read;
    bool sound = sg_cuda_stream_read(problem, target, plan, &read);
    assert(sound && "the plan was found usable");
    (void)sound;
    sg_tile_program program;
    sg_status status = sg_encode_tile_program(problem, SG_TILING_PIXELS, arena, &program);
    if (status != SG_OK)
        return status;
    sg_cuda_arguments arguments;
    sg_cuda_arguments_open(&arguments, problem, arena);
    sg_text constants = {0}, tail = {0}, numbers = {0}, reads = {0};
    sg_cuda_add_sizes(&arguments);
    status = sg_cuda_write_tail(problem, target, arena, &arguments, &tail);
    int kept = write_kept(target, &read, &program, &arguments, &numbers, &reads);
    sg_cuda_write_block(target, &read.block, kept, &arguments, &constants);
    const sg_cuda_constant own[] = {{"SLOT_UNROLL", read.slot_unroll},
                                    {"WALK_UNROLL", read.walk_unroll}};
    sg_cuda_write_constants(own, 2, &constants);
    if (status == SG_OK && (constants.failed || tail.failed || numbers.failed || reads.failed ||
                            arguments.declaration.failed))
        status = SG_OUT_OF_MEMORY;

    const char *source = NULL;
    if (status == SG_OK) {
        const sg_cuda_hole holes[] = {
            {"real", sg_cuda_real(problem)},
            {"constants", constants.data},
            {"arguments", arguments.declaration.data},
            {"kept", numbers.data},
            {"tail", tail.data},
            {"keep", reads.data ? reads.data : ""},
        };
        status = sg_cuda_compose(arena, "stream.cuh", holes, sizeof holes / sizeof *holes, &source);
    }
    *kernel = (sg_cuda_kernel){
        .launches = {{.source = source,
                      .entry = "segue_stream",
                      .grid = sg_cuda_block_grid(problem, &read.block),
                      .block = (int)sg_cuda_block_threads(&read.block),
                      .cluster = 1,
                      .grid_formula = sg_cuda_block_grid_formula(problem, &read.block, arena)}},
        .launch_count = 1};
    sg_cuda_give_arguments(&arguments, &kernel->launches[0]);
    sg_text_release(&constants);
    sg_text_release(&tail);
    sg_text_release(&numbers);
    sg_text_release(&reads);
    sg_cuda_arguments_close(&arguments);
    return status == SG_OUT_OF_MEMORY ? sg_fail_memory(problem->region->graph->context) : status;
}
