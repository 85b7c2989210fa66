/* Tails as text: what the planner is told of them is what the generator writes, and composing fills
 * every hole once. What tails compute, tests/python/test_cuda_tail.py finds out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gen/cuda/source.h"
#include "graphs.h"
#include "plan/partition.h"
#include "random_graph.h"
#include "tensor.h"
#include "unit.h"

enum { INPUTS_MAX = 64 };

typedef struct tail {
    sg_arena arena;
    sg_region region;
    sg_problem problem;
    sg_cuda_arguments arguments;
    sg_text text;
} tail;

/* The tail of a graph that is one region, with contiguous operands. */
static bool open(const sg_graph *graph, tail *made) {
    sg_layout inputs[INPUTS_MAX], outputs[INPUTS_MAX];
    sg_cuda_target target = {.alignment = 16};
    *made = (tail){.text = {0}};
    sg_cuda_arguments_open(&made->arguments, &made->problem, &made->arena);
    if (graph->input_count > INPUTS_MAX || graph->output_count > INPUTS_MAX)
        return false;
    for (int i = 0; i < graph->input_count; i++) {
        const sg_type *type = &sg_graph_node(graph, graph->inputs[i])->type;
        inputs[i] = (sg_layout){.dtype = type->dtype, .rank = type->rank};
        for (int dim = 0; dim < type->rank; dim++)
            inputs[i].size[dim] = type->size[dim];
        tensor_make_contiguous(&inputs[i]);
    }
    return sg_graph_infer(graph, inputs, graph->input_count, outputs) == SG_OK &&
           sg_region_open(graph, &made->region) == SG_OK && sg_region_cover(&made->region) &&
           sg_problem_create(&made->region, inputs, outputs, &made->arena, &made->problem) ==
               SG_OK &&
           sg_cuda_write_tail(&made->problem, &target, &made->arena, &made->arguments,
                              &made->text) == SG_OK;
}

static void close(tail *made) {
    sg_region_close(&made->region);
    sg_cuda_arguments_close(&made->arguments);
    sg_text_release(&made->text);
    sg_arena_release(&made->arena);
}

static int count_of(const char *text, const char *part) {
    int count = 0;
    for (const char *at = strstr(text, part); at; at = strstr(at + 1, part))
        count++;
    return count;
}

static void check_facts(const tail *made) {
    sg_cuda_tail_facts facts;
    const char *text = made->text.data;
    sg_cuda_get_tail_facts(&made->problem, &facts);
    EXPECT_EQ_INT(facts.channel_reductions, count_of(text, "tile.reduce("));
    EXPECT_EQ_INT(facts.splits_channels, facts.channel_reductions == 0);
    EXPECT_EQ_INT(facts.tile_stores, count_of(text, "tile.flush<"));
    EXPECT_EQ_INT(facts.pixel_stores, count_of(text, "tile.store_own("));
    EXPECT_EQ_INT(facts.own_walks, count_of(text, "    real own"));
    char full[40];
    snprintf(full, sizeof full, "FULL_WALKS = %d;", facts.full_walks);
    EXPECT_CONTAINS(text, full);
    const char *operands = strstr(text, "CHANNEL_OPERANDS = ");
    REQUIRE(operands != NULL);
    int channel_operands = atoi(operands + strlen("CHANNEL_OPERANDS = "));
    EXPECT(channel_operands <= facts.channel_loads); /* one that is read twice is one */
    EXPECT_EQ_INT(channel_operands > 0, facts.channel_loads > 0);
    EXPECT_EQ_INT(strstr(text, "tile.load_tile<") != NULL, facts.tile_loads > 0);
}

TEST(facts_are_what_is_written) {
    sg_context *context;
    random_state random = {11};
    const random_shape shape = {.percent_convolution = 50, .nodes_max = 9, .work_max = 2000};
    int checked = 0;
    REQUIRE(sg_context_create(&context) == SG_OK);
    for (int i = 0; i < 400; i++) {
        program_check drawn;
        sg_partition *partition;
        if (!random_graph_make(context, &random, &shape, &drawn))
            continue;
        if (sg_partition_create(drawn.graph, &partition) == SG_OK) {
            for (int k = 0; k < sg_partition_step_count(partition); k++) {
                const sg_step *step = sg_partition_step(partition, k);
                tail made;
                if (step->foreign)
                    continue;
                char *text = text_of(step->graph);
                CASE("%s", text);
                if (open(step->graph, &made)) {
                    check_facts(&made);
                    checked++;
                }
                close(&made);
                free(text);
            }
            sg_partition_destroy(partition);
        }
        sg_graph_destroy(drawn.graph);
    }
    sg_context_destroy(context);
    EXPECT(checked > 300);
}

/* Words and members go together: a pointer and five strides for each tensor. */
TEST(arguments_are_declared_in_the_order_of_their_words) {
    sg_context *context;
    tail made;
    REQUIRE(sg_context_create(&context) == SG_OK);
    sg_graph *graph = graph_of_lines(context, "%x = input : f32[2, 3, 4]\n%k = input : f16[4]\n"
                                              "%y = mul %x, %k\noutput %y");
    REQUIRE(graph != NULL);
    if (EXPECT(open(graph, &made))) {
        static const sg_word_kind kinds[] = {SG_WORD_INPUT, SG_WORD_INPUT, SG_WORD_OUTPUT};
        EXPECT_STR(made.arguments.declaration.data, "    const float *__restrict__ load0;\n"
                                                    "    Stride load0_stride;\n"
                                                    "    const half_t *__restrict__ load1;\n"
                                                    "    Stride load1_stride;\n"
                                                    "    float *__restrict__ store0;\n"
                                                    "    Stride store0_stride;\n");
        REQUIRE(made.arguments.count == 18);
        for (int i = 0; i < 3; i++)
            EXPECT_EQ_INT(made.arguments.words[6 * i].kind, kinds[i]);
        EXPECT_EQ_INT(made.arguments.words[6].index, 1);
        EXPECT_EQ_INT(made.arguments.words[11].number, 1); /* of %k along w */
    }
    close(&made);
    sg_graph_destroy(graph);
    sg_context_destroy(context);
}

TEST(sources_take_a_file_in_once) {
    sg_arena arena = {0};
    const char *source;
    REQUIRE(sg_cuda_compose(&arena, "common.cuh", NULL, 0, &source) == SG_OK);
    EXPECT_EQ_INT(count_of(source, "using real = float;"), 1);
    EXPECT_EQ_INT(count_of(source, "//@"), 0);
    sg_cuda_hole holes[] = {
        {"real", "using real = double;\n  //@ include math.cuh\n//@ include math.cuh\n"}};
    REQUIRE(sg_cuda_compose(&arena, "common.cuh", holes, 1, &source) == SG_OK);
    EXPECT_EQ_INT(count_of(source, "using real = double;"), 1);
    EXPECT_EQ_INT(count_of(source, "real v_sigmoid("), 1);
    sg_arena_release(&arena);
}
