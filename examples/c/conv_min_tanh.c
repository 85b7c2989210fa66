/* A convolution, the minimum over its channels, and tanh twice: built, compiled and run through
 * libsegue, then compared with the same graph in float64.
 *
 * Prints what the program does and the largest difference; exits with 1 when anything fails. */
#include <segue.h>

#include <stdio.h>
#include <stdlib.h>

enum { INPUTS = 3, OUTPUTS = 1, TENSORS = INPUTS + OUTPUTS };

/* One statement of the text form per operator. N stays open until the graph is compiled. */
static const char *const statements[] = {
    "%x = input : f32[N, 16, 34, 50]",
    "%weight = input {param=true} : f32[32, 16, 3, 3]",
    "%bias = input {param=true} : f32[32]",
    "%conv = convolution %x, %weight, %bias",
    "%least = amin %conv {dim=[1], keepdim=true}",
    "%once = tanh %least",
    "%twice = tanh %once",
    "output %twice",
};

/* Ends the program with the library's own sentence when a call has failed. */
static void check(sg_status status, const sg_context *context, const char *call) {
    if (status == SG_OK)
        return;
    const char *message = context ? sg_context_message(context) : "";
    fprintf(stderr, "%s: status %d: %s\n", call, (int)status, message);
    exit(EXIT_FAILURE);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (!memory) {
        fprintf(stderr, "out of memory\n");
        exit(EXIT_FAILURE);
    }
    return memory;
}

static size_t count_elements(const sg_layout *layout) {
    size_t count = 1;
    for (int dim = 0; dim < layout->rank; dim++)
        count *= (size_t)layout->size[dim];
    return count;
}

/* The next of a fixed sequence of numbers in [-0.25, 0.25). */
static float draw(void) {
    static uint32_t state = 1;
    state = state * 1664525U + 1013904223U;
    return (float)(state >> 8) * 0x1p-25F - 0.25F;
}

int main(void) {
    sg_context *context;
    check(sg_context_create(&context), NULL, "sg_context_create");

    sg_graph *graph;
    check(sg_graph_create(context, "conv_min_tanh", &graph), context, "sg_graph_create");
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
        check(sg_graph_add(graph, statements[i], NULL), context, statements[i]);

    /* Layouts: contiguous inputs for N = 2, and what comes out for them. */
    sg_layout layouts[TENSORS];
    sg_layout *output = &layouts[INPUTS];
    check(sg_graph_layouts(graph, "N=2", layouts), context, "sg_graph_layouts");
    check(sg_graph_infer(graph, layouts, INPUTS, output), context, "sg_graph_infer");

    /* Without `always`, sg_compile answers SG_NOT_APPLICABLE where it expects no gain over running
     * the operators one by one; there is nothing else to run them here. */
    sg_program *program;
    sg_compile_options options = {.always = 1};
    check(sg_compile(graph, layouts, INPUTS, &options, &program), context, "sg_compile");
    char *explanation;
    check(sg_program_explain(program, &explanation), context, "sg_program_explain");
    printf("%s", explanation);
    sg_string_free(explanation);

    float *data[TENSORS];
    double *exact[TENSORS]; /* the same numbers for the float64 interpreter */
    for (int i = 0; i < TENSORS; i++) {
        size_t count = count_elements(&layouts[i]);
        data[i] = allocate(count, sizeof *data[i]);
        exact[i] = allocate(count, sizeof *exact[i]);
        for (size_t k = 0; i < INPUTS && k < count; k++)
            exact[i][k] = data[i][k] = draw();
    }

    const void *from[INPUTS] = {data[0], data[1], data[2]};
    void *to[OUTPUTS] = {data[INPUTS]};
    check(sg_program_run(program, from, to, 0), NULL, "sg_program_run");
    check(sg_reference_run(graph, layouts, INPUTS, (const double *const *)exact, &exact[INPUTS]),
          context, "sg_reference_run");

    double worst = 0;
    int wrong = 0;
    for (size_t k = 0; k < count_elements(output); k++) {
        double difference = data[INPUTS][k] - exact[INPUTS][k];
        difference = difference < 0 ? -difference : difference;
        worst = difference > worst ? difference : worst;
        wrong += !(difference < 1e-6); /* NaN is wrong too */
    }
    printf("largest difference from float64: %.2g, %d wrong\n", worst, wrong);

    for (int i = 0; i < TENSORS; i++) {
        free(data[i]);
        free(exact[i]);
    }
    sg_program_destroy(program);
    sg_graph_destroy(graph);
    sg_context_destroy(context);
    return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
