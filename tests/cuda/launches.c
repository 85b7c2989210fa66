/* Writes what a strategy launches for a graph, for emulate.py:
 *
 *     segue_launches STRATEGY PRECISION ALIGNMENT PICK PROCESSORS DIR [GPU]
 *
 * DIR/graph: the text form, without symbols. DIR/layouts: strides, a line a tensor, inputs first.
 * GPU: "sm_90a" where none is given.
 * PICK: the number of a candidate plan, cheapest first; or a plan, its numbers with commas between.
 * To the standard output go the count of
 * launches and the workspace's bytes, then of each launch its entry, grid, threads and words, then
 * the plan; the sources go to DIR/0.cu and so on, and what they assume to DIR/0.assumed. Status 2:
 * the strategy does not take it, for the reason given. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gen/cuda/kernel.h"

enum { TENSORS_MAX = 32, TEXT_MAX = 1 << 16 };

static int refuse(const char *reason) {
    puts(reason);
    return 2;
}

static FILE *open_in(const char *directory, const char *name, const char *mode) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, mode);
    if (!file) {
        perror(path);
        exit(1);
    }
    return file;
}

static void read_strides(FILE *file, sg_layout *layouts, int count) {
    for (int i = 0; i < count; i++)
        for (int dim = 0; dim < layouts[i].rank; dim++) {
            long long stride;
            if (fscanf(file, "%lld", &stride) != 1)
                exit(1);
            layouts[i].stride[dim] = stride;
        }
}

static void print_launch(const sg_cuda_launch *launch) {
    printf("%s %lld %d %d\n", launch->entry, (long long)launch->grid, launch->block,
           launch->word_count);
    for (int i = 0; i < launch->word_count; i++)
        printf("%d %d %lld\n", (int)launch->words[i].kind, launch->words[i].index,
               (long long)launch->words[i].number);
}

static void print_kernel(const sg_cuda_kernel *kernel, const sg_cuda_choice *choice,
                         const char *directory) {
    printf("%d %lld\n", kernel->launch_count, (long long)kernel->workspace);
    for (int i = 0; i < kernel->launch_count; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.cu", i);
        FILE *file = open_in(directory, name, "w");
        fputs(kernel->launches[i].source, file);
        fclose(file);
        snprintf(name, sizeof name, "%d.assumed", i);
        file = open_in(directory, name, "w");
        for (int k = 0; k < kernel->launches[i].assumption_count; k++)
            fprintf(file, "%s\n", kernel->launches[i].assumptions[k].holds);
        fclose(file);
        print_launch(&kernel->launches[i]);
    }
    printf("plan");
    for (int i = 0; choice->strategy->parameters[i]; i++)
        printf(" %s=%lld", choice->strategy->parameters[i], (long long)choice->plan.parameter[i]);
    printf("\n");
}

static const sg_cuda_strategy *const strategies[] = {
    &sg_cuda_wgmma_ring, &sg_cuda_wgmma_gathered, &sg_cuda_wgmma_packed, &sg_cuda_wgmma_streamed,
    &sg_cuda_mma,        &sg_cuda_implicit_gemm,  &sg_cuda_direct,       &sg_cuda_stream};

/* The plan as given; false: the strategy cannot keep it. */
static bool take_plan(const sg_problem *problem, const sg_cuda_target *target, const char *name,
                      char *numbers, sg_cuda_choice *choice) {
    *choice = (sg_cuda_choice){.strategy = NULL};
    for (size_t i = 0; i < sizeof strategies / sizeof *strategies; i++)
        choice->strategy =
            strcmp(strategies[i]->name, name) == 0 ? strategies[i] : choice->strategy;
    for (int i = 0; i < SG_CUDA_PARAMETERS && *numbers; i++) {
        choice->plan.parameter[i] = strtoll(numbers, &numbers, 10);
        numbers += *numbers == ',';
    }
    return choice->strategy && choice->strategy->usable(problem, target, &choice->plan);
}

int main(int argc, char **argv) {
    if (argc != 7 && argc != 8)
        return 1;
    static char text[TEXT_MAX];
    const char *directory = argv[6];
    FILE *file = open_in(directory, "graph", "r");
    size_t length = fread(text, 1, sizeof text, file);
    fclose(file);
    sg_context *context;
    sg_graph *graph, *bound;
    static sg_layout inputs[TENSORS_MAX], outputs[TENSORS_MAX];
    if (sg_context_create(&context) != SG_OK ||
        sg_graph_parse(context, text, length, &graph) != SG_OK ||
        sg_graph_layouts(graph, "", inputs) != SG_OK)
        return 1;
    int input_count = sg_graph_input_count(graph), output_count = sg_graph_output_count(graph);
    file = open_in(directory, "layouts", "r");
    read_strides(file, inputs, input_count);
    if (sg_graph_bind(graph, inputs, input_count, &bound) != SG_OK ||
        sg_graph_infer(bound, inputs, input_count, outputs) != SG_OK)
        return 1;
    read_strides(file, outputs, output_count);
    fclose(file);

    sg_region region;
    sg_arena arena = {0};
    sg_problem problem;
    if (sg_region_open(bound, &region) != SG_OK || !sg_region_cover(&region))
        return refuse(region.reason);
    if (sg_problem_create(&region, inputs, outputs, &arena, &problem) != SG_OK)
        return refuse(sg_context_message(context));
    sg_cuda_target target = {.precision = (sg_precision)atoi(argv[2]), .alignment = atoi(argv[3])};
    if (!sg_gpu_find(argc == 8 ? argv[7] : "sm_90a", &target.gpu))
        return 1;
    target.gpu.multiprocessors = atoi(argv[5]); /* few, so that a block has several jobs */
    static sg_cuda_choice choices[SG_CUDA_CANDIDATES_MAX];
    const sg_cuda_choice *choice = choices;
    if (strchr(argv[4], ',')) {
        if (!take_plan(&problem, &target, argv[1], argv[4], &choices[0]))
            return refuse("the plan is not usable");
    } else {
        int count = sg_cuda_list_plans(&problem, &target, argv[1], choices);
        if (count == 0)
            return refuse("no plan");
        choice = &choices[atoi(argv[4]) % count];
    }
    sg_cuda_kernel kernel = {0};
    if (sg_cuda_lower(&problem, &target, choice, &arena, &kernel) != SG_OK)
        return refuse(sg_context_message(context));
    print_kernel(&kernel, choice, directory);
    sg_region_close(&region);
    sg_arena_release(&arena);
    sg_graph_destroy(bound);
    sg_graph_destroy(graph);
    sg_context_destroy(context);
    return 0;
}
