/* Random graphs as C++: the tails that gen/cuda makes of their regions, with numbers to run them on
 * and what the float64 interpreter makes of those. tests/python/test_cuda_tail.py compiles and runs
 * the text on the host.
 *
 *     segue_tail_cases SEED COUNT > cases.cpp */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../c/random_graph.h"
#include "../c/tensor.h"
#include "gen/cuda/skeletons.h"
#include "gen/cuda/source.h"
#include "plan/partition.h"

enum { ELEMENTS_MAX = 3000, REGION_VALUES_MAX = 64 };

typedef struct tail_case {
    const sg_graph *graph; /* one region */
    sg_layout inputs[REGION_VALUES_MAX], outputs[REGION_VALUES_MAX];
    double *in[REGION_VALUES_MAX], *out[REGION_VALUES_MAX + 1]; /* contiguous */
    double *anchor;
    random_state *random;
    int number;
} tail_case;

static int64_t extent(const sg_layout *layout) {
    int64_t last = 0;
    for (int dim = 0; dim < layout->rank; dim++)
        last += (layout->size[dim] - 1) * layout->stride[dim];
    return last + 1;
}

/* Multiples of 1/32, which every dtype holds; in some cases NaN and infinities among them. */
static double draw(const tail_case *c, sg_dtype dtype) {
    static const double specials[] = {NAN, INFINITY, -INFINITY, -0.0};
    if (dtype == SG_BOOL)
        return (double)random_between(c->random, 0, 1);
    if (c->number % 4 == 3 && random_chance(c->random, 3))
        return specials[random_between(c->random, 0, 3)];
    return (double)random_between(c->random, -64, 96) / 32;
}

/* Layouts and numbers; false where there is nothing, or too much. */
static bool fill(tail_case *c) {
    int inputs = sg_graph_input_count(c->graph), outputs = sg_graph_output_count(c->graph);
    if (inputs > REGION_VALUES_MAX || outputs > REGION_VALUES_MAX)
        return false;
    for (int i = 0; i < inputs; i++) {
        const sg_type *type = &sg_graph_node(c->graph, c->graph->inputs[i])->type;
        c->inputs[i] = (sg_layout){.dtype = type->dtype, .rank = type->rank};
        for (int dim = 0; dim < type->rank; dim++)
            c->inputs[i].size[dim] = type->size[dim];
        tensor_make_contiguous(&c->inputs[i]);
    }
    if (sg_graph_infer(c->graph, c->inputs, inputs, c->outputs) != SG_OK)
        return false;
    for (int i = 0; i < inputs + outputs; i++) {
        const sg_layout *layout = i < inputs ? &c->inputs[i] : &c->outputs[i - inputs];
        int64_t count = tensor_count(layout);
        if (count == 0 || count > ELEMENTS_MAX)
            return false;
        double *numbers = calloc((size_t)count, sizeof *numbers);
        for (int64_t k = 0; k < count && i < inputs; k++)
            numbers[k] = draw(c, layout->dtype);
        *(i < inputs ? &c->in[i] : &c->out[i - inputs]) = numbers;
    }
    return true;
}

/* What the region's outputs are, and the anchor's result: from a copy of the graph in which that is
 * an output too. */
static bool run_reference(tail_case *c, sg_value anchor, int64_t anchor_count) {
    int inputs = sg_graph_input_count(c->graph), outputs = sg_graph_output_count(c->graph);
    char *text;
    sg_graph *copy;
    if (sg_graph_print(c->graph, &text) != SG_OK)
        return false;
    sg_status status = sg_graph_parse(c->graph->context, text, strlen(text), &copy);
    sg_string_free(text);
    if (status != SG_OK)
        return false;
    c->anchor = anchor >= 0 ? calloc((size_t)anchor_count, sizeof(double)) : NULL;
    c->out[outputs] = c->anchor;
    if (anchor >= 0) {
        const char *name = sg_graph_node(c->graph, anchor)->name;
        sg_value value = sg_graph_find(copy, name, (int64_t)strlen(name));
        status = sg_graph_append_output(copy, value);
    }
    if (status == SG_OK)
        status = sg_reference_run(copy, c->inputs, inputs, (const double *const *)c->in, c->out);
    c->out[outputs] = NULL;
    sg_graph_destroy(copy);
    return status == SG_OK;
}

/* Other layouts than the contiguous ones that the reference took. */
static void scramble(tail_case *c) {
    for (int i = 0; i < sg_graph_input_count(c->graph); i++)
        if (random_chance(c->random, 30))
            random_strides(c->random, false, &c->inputs[i]);
    for (int i = 0; i < sg_graph_output_count(c->graph); i++)
        if (random_chance(c->random, 30))
            random_strides(c->random, false, &c->outputs[i]);
}

static void print_number(double x) {
    if (isnan(x))
        printf("NAN, ");
    else if (isinf(x))
        printf(x < 0 ? "-HUGE_VALF, " : "HUGE_VALF, ");
    else
        printf("%a, ", x);
}

static void print_input(int index, const sg_layout *layout, const double *numbers) {
    int64_t size = extent(layout), count = tensor_count(layout);
    double *memory = calloc((size_t)size, sizeof *memory);
    for (int64_t i = 0; i < count; i++)
        memory[tensor_place(layout, i)] = numbers[i];
    printf("const %s input%d[] = {", sg_cuda_type(layout->dtype), index);
    for (int64_t i = 0; i < size; i++)
        print_number(memory[i]);
    printf("};\n");
    free(memory);
}

static void print_output(int index, const sg_layout *layout, const double *numbers) {
    printf("%s output%d[%lld];\nconst double expected%d[] = {", sg_cuda_type(layout->dtype), index,
           (long long)extent(layout), index);
    for (int64_t i = 0; i < tensor_count(layout); i++)
        print_number(numbers[i]);
    printf("};\nconst long long place%d[] = {", index);
    for (int64_t i = 0; i < tensor_count(layout); i++)
        printf("%lld, ", (long long)tensor_place(layout, i));
    printf("};\n");
}

/* Members of Arguments, in the order of their words. */
static void print_arguments(const sg_cuda_arguments *arguments) {
    printf("const Arguments arguments = {");
    for (int i = 0; i < arguments->count; i++) {
        const sg_word *word = &arguments->words[i];
        if (word->kind == SG_WORD_NUMBER)
            printf("%lld, ", (long long)word->number);
        else
            printf("%s%d, ", word->kind == SG_WORD_INPUT ? "input" : "output", word->index);
    }
    printf("};\n");
}

/* Half types are compared as such; the rest as floats at least. */
static double tolerance_of(sg_dtype dtype) {
    return dtype == SG_F16 ? 2e-3 : dtype == SG_BF16 ? 1e-2 : 2e-6;
}

static void print_case(const tail_case *c, const sg_problem *problem,
                       const sg_cuda_arguments *arguments, const sg_text *tail) {
    sg_cuda_tail_facts facts;
    char *text = NULL;
    sg_cuda_get_tail_facts(problem, &facts);
    printf("\nnamespace case%d {\n/*\n", c->number);
    if (sg_graph_print(c->graph, &text) == SG_OK)
        printf("%s", text);
    sg_string_free(text);
    printf("*/\nnamespace ops {\nusing namespace ::ops;\n}\n");
    for (int i = 0; i < c->graph->input_count; i++)
        print_input(i, &c->inputs[i], c->in[i]);
    for (int i = 0; i < c->graph->output_count; i++)
        print_output(i, &c->outputs[i], c->out[i]);
    int64_t anchor_count = 1;
    printf("const long long size[] = {");
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        printf("%lld, ", (long long)problem->size[role]);
        anchor_count *= problem->size[role];
    }
    printf("};\nconst double anchor[] = {");
    for (int64_t i = 0; i < anchor_count && c->anchor; i++)
        print_number(c->anchor[i]);
    printf("0};\nstruct Arguments {\n%s    int none;\n};\n",
           arguments->declaration.data ? arguments->declaration.data : "");
    printf("real channel_operand(int k, int c, const Arguments &a);\n");
    printf("struct Tile : HostTile<%lld, %d> {\n    real per_channel(int k, int j) const;\n};\n",
           (long long)problem->size[SG_ROLE_C], facts.full_walks);
    printf("%s", tail->data);
    print_arguments(arguments);
    printf("real Tile::per_channel(int k, int j) const {\n"
           "    return channel_operand(k, channel(j), arguments);\n}\n");
    printf("int run() {\n    int failures = 0;\n    run_tail<Tile, Tail>(arguments, anchor, size, "
           "%uU, WALKS);\n",
           problem->walk);
    for (int i = 0; i < c->graph->output_count; i++)
        printf("    failures += compare(\"case %d, output %d\", output%d, expected%d, place%d, "
               "%lld, %g);\n",
               c->number, i, i, i, i, (long long)tensor_count(&c->outputs[i]),
               tolerance_of(c->outputs[i].dtype));
    printf("    return failures;\n}\n} // namespace case%d\n", c->number);
}

static void release(tail_case *c) {
    for (int i = 0; i < REGION_VALUES_MAX; i++) {
        free(c->in[i]);
        free(c->out[i]);
    }
    free(c->anchor);
}

/* Whether a case was printed. */
static bool make_case(tail_case *c) {
    sg_region region;
    sg_problem problem;
    sg_arena arena = {0};
    sg_cuda_target target = {.alignment = 16};
    sg_cuda_arguments arguments;
    sg_text tail = {0};
    bool made = false;
    if (!fill(c)) {
        release(c);
        return false;
    }
    sg_cuda_arguments_open(&arguments, &problem, &arena);
    if (sg_region_open(c->graph, &region) == SG_OK && sg_region_cover(&region)) {
        int64_t count = 1;
        for (int axis = 0; axis < SG_AXIS_COUNT; axis++)
            count *= region.size[axis];
        made = run_reference(c, region.anchor, count);
        scramble(c);
        made = made &&
               sg_problem_create(&region, c->inputs, c->outputs, &arena, &problem) == SG_OK &&
               sg_cuda_write_tail(&problem, &target, &arena, &arguments, &tail) == SG_OK;
        if (made)
            print_case(c, &problem, &arguments, &tail);
    }
    sg_region_close(&region);
    sg_text_release(&tail);
    sg_cuda_arguments_close(&arguments);
    sg_arena_release(&arena);
    release(c);
    return made;
}

static int print_cases(sg_context *context, random_state *random, int wanted) {
    static const random_shape shape = {
        .percent_convolution = 50, .nodes_max = 9, .work_max = 20000};
    int made = 0;
    while (made < wanted) {
        program_check drawn;
        sg_partition *partition;
        if (!random_graph_make(context, random, &shape, &drawn))
            continue;
        if (sg_partition_create(drawn.graph, &partition) == SG_OK) {
            for (int i = 0; i < sg_partition_step_count(partition) && made < wanted; i++) {
                const sg_step *step = sg_partition_step(partition, i);
                tail_case c = {.random = random, .number = made, .graph = step->graph};
                made += !step->foreign && make_case(&c);
            }
            sg_partition_destroy(partition);
        }
        sg_graph_destroy(drawn.graph);
    }
    return made;
}

int main(int argc, char **argv) {
    random_state random = {argc > 1 ? strtoull(argv[1], NULL, 10) : 1};
    sg_context *context;
    if (sg_context_create(&context) != SG_OK)
        return 1;
    printf("#include \"host_tile.h\"\n\n");
    for (int i = 0; i < sg_skeleton_count; i++)
        if (strcmp(sg_skeletons[i].name, "math.cuh") == 0)
            printf("%s", sg_skeletons[i].text);
    int count = print_cases(context, &random, argc > 2 ? atoi(argv[2]) : 50);
    printf("\nint main() {\n    int failures = 0;\n");
    for (int i = 0; i < count; i++)
        printf("    failures += case%d::run();\n", i);
    printf("    return failures > 0;\n}\n");
    sg_context_destroy(context);
    return 0;
}
