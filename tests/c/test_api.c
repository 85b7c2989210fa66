/* The public calls: what they refuse and in which words, what they leave alone, what they free. */
#include <stdlib.h>
#include <string.h>

#include "graphs.h"
#include "unit.h"

#define CONVOLUTION                                                                                \
    "%x = input : f32[N, 3, 9, 9]\n%w = input : f32[4, 3, 3, 3]\n%c = convolution %x, %w\n"

typedef struct fixture {
    sg_context *context;
    sg_graph *graph;
    sg_layout inputs[4], outputs[4];
    sg_compile_options options;
} fixture;

/* Contiguous layouts for N=2; outputs as inferred. */
static bool open(fixture *f, const char *lines) {
    *f = (fixture){.options = {.always = 1}};
    return EXPECT(sg_context_create(&f->context) == SG_OK) &&
           EXPECT((f->graph = graph_of_lines(f->context, lines)) != NULL) &&
           EXPECT(sg_graph_layouts(f->graph, "N=2", f->inputs) == SG_OK) &&
           EXPECT(sg_graph_infer(f->graph, f->inputs, sg_graph_input_count(f->graph), f->outputs) ==
                  SG_OK);
}

static void close(fixture *f) {
    sg_graph_destroy(f->graph);
    sg_context_destroy(f->context);
}

/* Compiling fails with that sentence and leaves the handle as it was. */
static void check_refused(fixture *f, sg_status wanted, const char *sentence) {
    sg_program *const before = (sg_program *)(void *)f;
    sg_program *program = before;
    sg_status status =
        sg_compile(f->graph, f->inputs, sg_graph_input_count(f->graph), &f->options, &program);
    EXPECT_EQ_INT(status, wanted);
    EXPECT_CONTAINS(sg_context_message(f->context), sentence);
    if (!EXPECT(program == before))
        sg_program_destroy(program);
}

TEST(nothing_may_be_destroyed) {
    sg_context_destroy(NULL);
    sg_graph_destroy(NULL);
    sg_program_destroy(NULL);
    sg_partition_destroy(NULL);
    sg_string_free(NULL);
}

TEST(layouts_that_contradict_the_graph) {
    fixture f;
    if (open(&f, CONVOLUTION "output %c")) {
        f.inputs[0].dtype = SG_F16;
        check_refused(&f, SG_INVALID, "but its dtype is f16");
        f.inputs[0].dtype = SG_F32;
        f.inputs[0].rank = 3;
        check_refused(&f, SG_INVALID, "but its rank is 3");
        f.inputs[0].rank = 4;
        f.inputs[0].size[1] = 5;
        check_refused(&f, SG_INVALID, "its size 1 is 5");
        f.inputs[0].size[1] = 3;
        f.inputs[0].size[0] = -1;
        check_refused(&f, SG_INVALID, "size is -1");
        f.inputs[0].size[0] = 2;
        f.inputs[1].stride[2] = -3;
        check_refused(&f, SG_INVALID, "input 1: stride -3 of dimension 2 is negative");
        f.inputs[1].stride[2] = INT64_MAX / 2;
        check_refused(&f, SG_INVALID, "input 1: its strides leave the 64-bit range");
    }
    close(&f);
}

TEST(a_wrong_number_of_inputs) {
    fixture f;
    sg_program *program = NULL;
    char *text = NULL;
    if (open(&f, CONVOLUTION "output %c")) {
        EXPECT(sg_compile(f.graph, f.inputs, 1, NULL, &program) == SG_INVALID);
        EXPECT_CONTAINS(sg_context_message(f.context), "has 2 inputs, but 1 are given");
        EXPECT(sg_graph_infer(f.graph, f.inputs, 3, f.outputs) == SG_INVALID);
        EXPECT(sg_graph_dump(f.graph, "tile", NULL, 0, &text) == SG_INVALID);
        EXPECT(sg_graph_dump(f.graph, "plan", NULL, 0, &text) == SG_INVALID);
        EXPECT(program == NULL && text == NULL);
    }
    close(&f);
}

TEST(options_that_cannot_be_met) {
    fixture f;
    if (open(&f, CONVOLUTION "%t = tanh %c\noutput %t, %c")) {
        f.options.isa = "sse9";
        check_refused(&f, SG_INVALID, "isa \"sse9\" is unknown; there are generic, avx2");
        f.options.isa = NULL;
        f.options.outputs = f.outputs;
        f.outputs[1].size[3] = 8;
        check_refused(&f, SG_INVALID, "output 1: the layout given has another dtype");
        f.outputs[1].size[3] = 7;
        f.outputs[0].dtype = SG_F64;
        check_refused(&f, SG_INVALID, "output 0: the layout given has another dtype");
        f.outputs[0].dtype = SG_F32;
        f.outputs[0].stride[0] = -1;
        check_refused(&f, SG_INVALID, "output 0: stride -1 of dimension 0 is negative");
    }
    close(&f);
}

TEST(graphs_that_are_no_program) {
    fixture f;
    if (open(&f, "%x = input : f32[N]\n%y = tanh %x\noutput %x, %y"))
        check_refused(&f, SG_INVALID, "output 0 (%x) is an input, a constant or another output");
    close(&f);
    if (open(&f, "%x = input : f32[N]\n%y = tanh %x\noutput %y, %y"))
        check_refused(&f, SG_INVALID, "output 1 (%y) is an input, a constant or another output");
    close(&f);
    if (open(&f, "%x = input : f32[N]\n%f = foreign %x : f32[N]\n%y = tanh %f\noutput %y"))
        check_refused(&f, SG_INVALID, "foreign %f is run by the host");
    close(&f);
}

TEST(what_brings_no_gain_is_left_to_the_host) {
    fixture f;
    if (open(&f, "%x = input : f32[N]\n%y = tanh %x\noutput %y")) {
        f.options.always = 0;
        check_refused(&f, SG_NOT_APPLICABLE, "which is no gain");
        f.options.threads = -3; /* as 0 */
        check_refused(&f, SG_NOT_APPLICABLE, "which is no gain");
    }
    close(&f);
    if (open(&f, "%x = input : f32[N, 1, 1, 1, 1, 2]\n%y = tanh %x\noutput %y")) {
        f.options.always = 0;
        check_refused(&f, SG_NOT_APPLICABLE, "rank 6");
    }
    close(&f);
}

TEST(programs_describe_themselves) {
    fixture f;
    sg_program *program = NULL;
    char *text = NULL;
    if (open(&f, CONVOLUTION "%m = amin %c {dim=[1]}\noutput %m") &&
        EXPECT(sg_compile(f.graph, f.inputs, 2, &f.options, &program) == SG_OK)) {
        EXPECT_EQ_INT(sg_program_input_count(program), 2);
        EXPECT_EQ_INT(sg_program_output_count(program), 1);
        EXPECT_MEM(sg_program_input(program, 1), &f.inputs[1], sizeof f.inputs[1]);
        EXPECT_MEM(sg_program_output(program, 0), &f.outputs[0], sizeof f.outputs[0]);
        EXPECT(!sg_program_input(program, 2) && !sg_program_input(program, -1));
        EXPECT(!sg_program_output(program, 1) && !sg_program_output(program, -1));
        sg_work work = sg_program_work(program);
        EXPECT_EQ_INT(work.kernels, 1);
        EXPECT_NEAR(work.flops, 2.0 * 2 * 4 * 7 * 7 * 27, 0);
        EXPECT_NEAR(work.bytes, 4.0 * (2 * 3 * 81 + 4 * 27 + 2 * 49), 0);
        EXPECT(work.scratch_bytes > 0);
        if (EXPECT(sg_program_explain(program, &text) == SG_OK))
            EXPECT_CONTAINS(text, "amin over channels");
    }
    sg_string_free(text);
    sg_program_destroy(program);
    close(&f);
}

TEST(sizes_from_text) {
    static const char *const bad[] = {
        "N", "N=", "N=x", "N=-1", "N=4;", "=4", "N=99999999999999999999"};
    fixture f;
    if (open(&f, CONVOLUTION "output %c")) {
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            CASE("%s", bad[i]);
            EXPECT(sg_graph_layouts(f.graph, bad[i], f.inputs) == SG_INVALID);
            EXPECT_CONTAINS(sg_context_message(f.context), "are not of the form N=4,H=32");
        }
        EXPECT(sg_graph_layouts(f.graph, NULL, f.inputs) == SG_INVALID);
        EXPECT_CONTAINS(sg_context_message(f.context), "give its sizes a value, such as N=4");
        EXPECT(sg_graph_layouts(f.graph, "M=1,N=7", f.inputs) == SG_OK);
        EXPECT_EQ_INT(f.inputs[0].size[0], 7);
        EXPECT(sg_graph_layouts(f.graph, "N=4611686018427387903", f.inputs) == SG_INVALID);
    }
    close(&f);
}

TEST(stages_by_name) {
    fixture f;
    char *text = NULL;
    if (open(&f, CONVOLUTION "output %c")) {
        EXPECT(sg_graph_dump(f.graph, "soup", NULL, 0, &text) == SG_INVALID);
        EXPECT_CONTAINS(sg_context_message(f.context),
                        "stage \"soup\" is unknown; there are parse");
        static const char *const stages[] = {"parse", "simplify", "regions", "tile", "plan"};
        for (int i = 0; i < 5; i++) {
            CASE("%s", stages[i]);
            text = NULL;
            EXPECT(sg_graph_dump(f.graph, stages[i], f.inputs, 2, &text) == SG_OK);
            EXPECT_CONTAINS(text, i < 3 ? "convolution" : "contract");
            sg_string_free(text);
        }
    }
    close(&f);
}
