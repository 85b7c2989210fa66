/* Where a program's intermediates lie in the workspace, and what its launches are given. */
#include <stdlib.h>
#include <string.h>

#include "api/cuda.h"
#include "graphs.h"
#include "unit.h"

enum { STEPS = 4, INPUTS = 1, OUTPUTS = 1, BYTES = 1000, ROUNDED = 1024 };

/* x -> a -> b -> c -> y: places 0 (x), 1 (y), 2.. (a, b, c). */
static int places[STEPS][2] = {{0, 2}, {2, 3}, {3, 4}, {4, 1}};

static const sg_word words[] = {{.kind = SG_WORD_INPUT, .index = 0, .number = 0},
                                {.kind = SG_WORD_NUMBER, .index = 0, .number = 77},
                                {.kind = SG_WORD_OUTPUT, .index = 0, .number = 8},
                                {.kind = SG_WORD_WORKSPACE, .index = 0, .number = 64}};

/* Every step reads one tensor and writes another, and wants 100 * (i + 1) bytes besides. */
static void make_steps(sg_context *context, sg_program *program, sg_program_step *steps,
                       sg_cuda_kernel *kernels) {
    for (int i = 0; i < STEPS; i++) {
        kernels[i] = (sg_cuda_kernel){.launches = {{.source = "",
                                                    .entry = "k",
                                                    .grid = 1,
                                                    .block = 1,
                                                    .cluster = 1,
                                                    .words = words,
                                                    .word_count = 4}},
                                      .launch_count = 1,
                                      .workspace = 100 * (i + 1)};
        steps[i] = (sg_program_step){
            .graph = graph_of(context, "graph g {\n%x = input : f32[250]\n%y = tanh %x\n"
                                       "output %y\n}"),
            .cuda = &kernels[i],
            .inputs = &places[i][0],
            .outputs = &places[i][1]};
    }
    program->steps = steps;
    program->step_count = STEPS;
}

TEST(intermediates_share_the_workspace) {
    static sg_layout vector = {.dtype = SG_F32, .rank = 1, .size = {250}, .stride = {1}};
    sg_layout intermediates[] = {vector, vector, vector};
    sg_context context = {0};
    sg_program program = {.input_count = INPUTS,
                          .output_count = OUTPUTS,
                          .intermediate_count = 3,
                          .inputs = &vector,
                          .outputs = &vector,
                          .intermediates = intermediates};
    sg_program_step steps[STEPS];
    sg_cuda_kernel kernels[STEPS];
    sg_gpu gpu;
    REQUIRE(sg_gpu_find("sm_90a", &gpu));
    make_steps(&context, &program, steps, kernels);
    EXPECT(sg_cuda_link(&context, &program, &gpu, 4) == SG_OK);
    const sg_cuda_sequence *sequence = program.cuda;
    REQUIRE(sequence && sequence->call_count == STEPS);
    /* a and c lie in the same place, b behind them; then what kernels want for themselves. */
    EXPECT_EQ_INT(sequence->workspace, 2 * ROUNDED + 400);
    static const sg_word_kind from[] = {SG_WORD_INPUT, SG_WORD_WORKSPACE, SG_WORD_WORKSPACE,
                                        SG_WORD_WORKSPACE};
    static const int64_t read_at[] = {0, 0, ROUNDED, 0}, written_at[] = {0, ROUNDED, 0, 0};
    for (int i = 0; i < STEPS; i++) {
        CASE("step %d", i);
        const sg_cuda_call *call = &sequence->calls[i];
        EXPECT_EQ_INT(call->word_count, 4);
        EXPECT_EQ_INT(call->words[1], 77);
        REQUIRE(call->patch_count == 3);
        EXPECT(call->patches[0].word == 0 && call->patches[0].kind == from[i]);
        EXPECT_EQ_INT(call->patches[0].number, read_at[i]);
        EXPECT(call->patches[1].word == 2);
        EXPECT(call->patches[1].kind == (i == STEPS - 1 ? SG_WORD_OUTPUT : SG_WORD_WORKSPACE));
        EXPECT_EQ_INT(call->patches[1].number, written_at[i] + 8);
        EXPECT(call->patches[2].word == 3 && call->patches[2].kind == SG_WORD_WORKSPACE);
        EXPECT_EQ_INT(call->patches[2].number, 2 * ROUNDED + 64);
    }
    EXPECT_EQ_INT(sequence->input_mask[0], 3);
    sg_cuda_sequence_destroy(program.cuda);
    for (int i = 0; i < STEPS; i++)
        sg_graph_destroy(steps[i].graph);
    sg_arena_release(&program.arena);
}
