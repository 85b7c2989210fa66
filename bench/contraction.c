/* How near a whole contraction comes to the peak: input packed into slabs, weights packed, all
 * tiles contracted, on one thread, but no tail and no store. The shapes are the example models'.
 *
 * The kernel is lowered as the library lowers it; then its tail is emptied. What is counted is the
 * work that the result needs, so columns past the image's edge and padded channels count as loss.
 *
 * Build: CMake makes segue_bench_contraction. Use: contraction [SAMPLES] */
#include <stdio.h>
#include <string.h>

#include "api/pipeline.h"
#include "bench/peak.h"
#include "run/cpu/execute.h"

enum { SAMPLES_DEFAULT = 31, SAMPLES_MAX = 999, OPERANDS = 4 };

typedef struct shape {
    const char *name, *text;
} shape;

static const shape shapes[] = {
    {"64 -> 128, 3x3, 256 wide", "graph g {\n %x = input : f32[1, 64, 66, 256]\n"
                                 " %w = input : f32[128, 64, 3, 3]\n %b = input : f32[128]\n"
                                 " %c = convolution %x, %w, %b\n output %c\n}\n"},
    {"64 -> 128, 3x3, 128 wide", "graph g {\n %x = input : f32[1, 64, 128, 128]\n"
                                 " %w = input : f32[128, 64, 3, 3]\n %b = input : f32[128]\n"
                                 " %c = convolution %x, %w, %b\n output %c\n}\n"},
    {"16 -> 64, 3x3, 256 wide", "graph g {\n %x = input : f32[1, 16, 256, 256]\n"
                                " %w = input : f32[64, 16, 3, 3]\n %b = input : f32[64]\n"
                                " %c = convolution %x, %w, %b\n output %c\n}\n"},
    {"3 -> 24, 3x3x3, 32 wide", "graph g {\n %x = input : f32[8, 3, 24, 32, 32]\n"
                                " %w = input : f32[24, 3, 3, 3, 3]\n %b = input : f32[24]\n"
                                " %c = convolution %x, %w, %b\n output %c\n}\n"},
};

/* Runs the kernel without its tail beside the peak loop; the median of the ratios. */
static double fraction_of_peak(const sg_cpu_kernel *kernel, double flops, void **operands,
                               peak_loop peak, int samples) {
    double ratios[SAMPLES_MAX];
    int64_t rounds = calibrate(peak);
    sg_team *team = sg_team_take(1);
    void *outputs[] = {NULL};
    if (!team)
        return 0;
    for (int i = 0; i < samples; i++) {
        double before = peak_rate(peak, rounds);
        double start = now();
        if (sg_execute(kernel, team, (const void *const *)operands, outputs) != SG_OK)
            return 0;
        double rate = flops / (now() - start);
        double after = peak_rate(peak, rounds);
        ratios[i] = rate / (before > after ? before : after);
    }
    sg_team_give(team);
    return median(ratios, samples);
}

static void fill(float *data, size_t count) {
    for (size_t i = 0; i < count; i++)
        data[i] = (float)((double)(i * 2654435761U % 1000) / 1000 - 0.5);
}

static int measure(const shape *shape, sg_context *context, sg_isa isa, peak_loop peak,
                   int samples) {
    sg_graph *graph;
    sg_layout inputs[OPERANDS], output;
    sg_arena arena = {0};
    sg_compile_options options = {.threads = 1, .isa = sg_isa_get(isa)->name};
    sg_cpu_kernel *kernel = NULL;
    sg_compilation compilation = {.inputs = inputs, .outputs = &output};
    sg_status status = sg_graph_parse(context, shape->text, strlen(shape->text), &graph);
    if (status == SG_OK)
        status = sg_graph_layouts(graph, "", inputs);
    if (status == SG_OK)
        status = sg_graph_infer(graph, inputs, 3, &output);
    if (status == SG_OK)
        status = sg_target_create(context, &options, &compilation.target);
    compilation.graph = graph;
    if (status == SG_OK)
        status = sg_compile_region(&compilation, false, &arena, &kernel);
    void *operands[OPERANDS] = {NULL};
    for (int i = 0; i < 3 && status == SG_OK; i++) {
        size_t bytes = (size_t)sg_layout_span(&inputs[i]);
        operands[i] = malloc(bytes + 64);
        if (!operands[i])
            return 1;
        fill(operands[i], bytes / sizeof(float));
    }
    if (status == SG_OK) {
        kernel->program.tile.count = 0;
        printf("%-26s %-8s %.3f\n", shape->name, sg_isa_get(isa)->name,
               fraction_of_peak(kernel, compilation.problem.flops, operands, peak, samples));
    } else {
        fprintf(stderr, "contraction: %s\n", sg_context_message(context));
    }
    for (int i = 0; i < 3; i++)
        free(operands[i]);
    sg_region_close(&compilation.region);
    sg_graph_destroy(graph);
    sg_arena_release(&arena);
    return status != SG_OK;
}

int main(int argc, char **argv) {
    int samples = argc > 1 ? (int)strtol(argv[1], NULL, 10) : SAMPLES_DEFAULT;
    sg_context *context;
    if (samples < 1 || samples > SAMPLES_MAX) {
        fprintf(stderr, "usage: contraction [SAMPLES], 1 to %d\n", SAMPLES_MAX);
        return 2;
    }
    if (sg_context_create(&context) != SG_OK)
        return 1;
    static const struct {
        sg_isa isa;
        peak_loop peak;
    } sets[] = {{SG_ISA_AVX512, peak_avx512_f32},
                {SG_ISA_AVX2, peak_avx2_f32},
                {SG_ISA_GENERIC, peak_generic_f32}};
    int bad = 0;
    printf("%-26s %-8s part of the peak\n", "convolution", "isa");
    for (size_t s = 0; s < sizeof sets / sizeof sets[0]; s++) {
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            if (sg_cpu_get()->supported[sets[s].isa])
                bad |= measure(&shapes[i], context, sets[s].isa, sets[s].peak, samples);
        }
    }
    sg_context_destroy(context);
    return bad;
}
