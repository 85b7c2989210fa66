/* How near the contraction micro-kernels come to what the machine can do.
 *
 * For every instruction set and compute type this program measures
 *   1. the peak (bench/peak.h), on one core and on all of them at once;
 *   2. every register block of the contraction on the operands of a 3x3 convolution: a slab of
 *      [channels][3 rows][pitch], weights for 128 output channels streaming from the L2 cache.
 * A shared machine's clock and load drift, so every sample of a kernel is taken right beside a
 * sample of the peak loop, and what counts is the median of the ratios.
 *
 * Build: CMake makes segue_bench_fma_peak; by hand, with the static library beside it,
 *   cc -std=c17 -O2 -I. bench/fma_peak.c libsegue.a -lm -lpthread -o fma_peak
 * Use: fma_peak [--json FILE] [--samples N] */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "kernels/cpu/kernels.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/peak.h"

enum { SAMPLES_MAX = 201, CORES_MAX = 256 };
enum { TAPS = 9, CHANNELS_MAX = 64, OUT_CHANNELS = 128, PITCH = 272, PIXELS = 256 };

typedef struct variant {
    const char *name;
    const sg_cpu_kernels *(*kernels)(sg_element compute);
    sg_element compute;
    peak_loop peak;
} variant;

static const variant variants[] = {
    {"avx512 f32", sg_cpu_kernels_avx512, SG_ELEMENT_F32, peak_avx512_f32},
    {"avx512 f64", sg_cpu_kernels_avx512, SG_ELEMENT_F64, peak_avx512_f64},
    {"avx2 f32", sg_cpu_kernels_avx2, SG_ELEMENT_F32, peak_avx2_f32},
    {"avx2 f64", sg_cpu_kernels_avx2, SG_ELEMENT_F64, peak_avx2_f64},
    {"generic f32", sg_cpu_kernels_generic, SG_ELEMENT_F32, peak_generic_f32},
    {"generic f64", sg_cpu_kernels_generic, SG_ELEMENT_F64, peak_generic_f64},
};
enum { VARIANTS = sizeof variants / sizeof variants[0] };

typedef struct peak_job {
    peak_loop peak;
    int64_t rounds;
    pthread_barrier_t *start;
    double rate;
} peak_job;

static void *run_peak_job(void *argument) {
    peak_job *job = argument;
    pthread_barrier_wait(job->start);
    job->rate = peak_rate(job->peak, job->rounds);
    return NULL;
}

/* The sum of the rates of one thread per core, all running at once; 0 when threads fail. */
static double peak_rate_all(peak_loop peak, int64_t rounds, int cores) {
    pthread_t threads[CORES_MAX];
    peak_job jobs[CORES_MAX];
    pthread_barrier_t start;
    double rate = 0;
    if (pthread_barrier_init(&start, NULL, (unsigned)cores))
        return 0;
    for (int i = 0; i < cores; i++) {
        jobs[i] = (peak_job){peak, rounds, &start, 0};
        if (pthread_create(&threads[i], NULL, run_peak_job, &jobs[i])) {
            fprintf(stderr, "fma_peak: cannot start %d threads\n", cores);
            exit(1); /* the threads already started wait at the barrier */
        }
    }
    for (int i = 0; i < cores; i++) {
        pthread_join(threads[i], NULL);
        rate += jobs[i].rate;
    }
    pthread_barrier_destroy(&start);
    return rate;
}

/* ---- the micro-kernels ---- */

/* One operand set, large enough for every shape here; values stay small and normal. */
typedef struct operands {
    void *slab, *weights, *tile;
    int32_t *offset;
} operands;

static void *filled(size_t count, sg_element compute) {
    size_t size = compute == SG_ELEMENT_F64 ? sizeof(double) : sizeof(float);
    void *data = aligned_alloc(64, (count * size + 63) / 64 * 64);
    if (!data) {
        fprintf(stderr, "fma_peak: out of memory\n");
        exit(1);
    }
    for (size_t i = 0; i < count; i++) {
        double value = (double)(i * 2654435761u % 1000) / 1000 - 0.5;
        if (compute == SG_ELEMENT_F64)
            ((double *)data)[i] = value;
        else
            ((float *)data)[i] = (float)value;
    }
    return data;
}

static operands make_operands(sg_element compute) {
    operands o = {
        .slab = filled((size_t)CHANNELS_MAX * 3 * PITCH + PITCH, compute),
        .weights = filled((size_t)(OUT_CHANNELS + 16) * CHANNELS_MAX * TAPS, compute),
        .tile = filled((size_t)(OUT_CHANNELS + 16) * PIXELS, compute),
        .offset = malloc(sizeof(int32_t) * CHANNELS_MAX * TAPS),
    };
    if (!o.offset)
        exit(1);
    for (int k = 0; k < CHANNELS_MAX * TAPS; k++)
        o.offset[k] = k / TAPS * 3 * PITCH + k % TAPS / 3 * PITCH + k % 3;
    return o;
}

/* All output channels of one row of pixels over `channels` input channels; returns the flops. */
static double contract_row(const sg_cpu_kernels *kernels, const sg_contract_block *block,
                           int vectors, int channels, const operands *o) {
    size_t size = kernels->compute == SG_ELEMENT_F64 ? sizeof(double) : sizeof(float);
    int mr = block->channels, run = vectors * kernels->vector_length;
    int64_t k = (int64_t)channels * TAPS;
    double flops = 0;
    for (int m = 0; m < OUT_CHANNELS; m += mr) {
        for (int j = 0; j + run <= PIXELS; j += run) {
            sg_contract_args args = {
                .k = k,
                .sum = k,
                .slab = (char *)o->slab + (size_t)j * size,
                .offset = o->offset,
                .weights = (char *)o->weights + (size_t)(m * k) * size,
                .tile = (char *)o->tile + ((size_t)m * PIXELS + (size_t)j) * size,
                .tile_row_stride = PIXELS,
            };
            block->contract[vectors](&args);
            flops += 2.0 * (double)k * mr * run;
        }
    }
    return flops;
}

/* The median over the samples of (kernel rate / peak rate beside it). */
static double fraction_of_peak(const variant *v, const sg_cpu_kernels *kernels,
                               const sg_contract_block *block, int vectors, int channels,
                               const operands *o, int64_t rounds, int samples) {
    double ratio[SAMPLES_MAX];
    for (int s = 0; s < samples; s++) {
        double before = peak_rate(v->peak, rounds);
        double start = now();
        double flops = contract_row(kernels, block, vectors, channels, o);
        double rate = flops / (now() - start);
        double after = peak_rate(v->peak, rounds);
        ratio[s] = 2 * rate / (before + after);
    }
    return median(ratio, samples);
}

static void measure(const variant *v, const sg_cpu_kernels *kernels, int cores, int samples,
                    FILE *json, bool *first) {
    double one[SAMPLES_MAX], all[SAMPLES_MAX];
    int64_t rounds = calibrate(v->peak);
    for (int s = 0; s < samples; s++) {
        one[s] = peak_rate(v->peak, rounds);
        all[s] = peak_rate_all(v->peak, rounds * 4, cores);
    }
    double peak_one = median(one, samples) / 1e9, peak_all = median(all, samples) / 1e9;
    printf("%s: peak %.1f GFLOP/s on one core, %.1f on %d\n", v->name, peak_one, peak_all, cores);
    printf("  block      k=144   k=288   k=576   (fraction of the peak)\n");
    if (json)
        fprintf(json,
                "%s\n  {\"variant\": \"%s\", \"peak_gflops\": %.2f, \"cores\": %d, "
                "\"peak_gflops_all_cores\": %.2f, \"blocks\": [",
                *first ? "" : ",", v->name, peak_one, cores, peak_all);
    *first = false;

    operands o = make_operands(kernels->compute);
    const char *separator = "";
    for (int b = 0; b < kernels->contract_block_count; b++) {
        const sg_contract_block *block = &kernels->contract_blocks[b];
        for (int vectors = 1; vectors <= block->vectors_max; vectors++) {
            printf("  %2d x %-2d  ", block->channels, vectors);
            for (int channels = 16; channels <= CHANNELS_MAX; channels *= 2) {
                double fraction =
                    fraction_of_peak(v, kernels, block, vectors, channels, &o, rounds, samples);
                printf("   %.3f", fraction);
                if (json)
                    fprintf(json,
                            "%s\n    {\"channels\": %d, \"vectors\": %d, \"k\": %d, "
                            "\"fraction\": %.4f}",
                            separator, block->channels, vectors, channels * TAPS, fraction);
                separator = ",";
            }
            printf("\n");
            fflush(stdout);
        }
    }
    if (json)
        fprintf(json, "]}");
    free(o.slab);
    free(o.weights);
    free(o.tile);
    free(o.offset);
}

int main(int argc, char **argv) {
    int samples = 21;
    const char *path = NULL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json") && i + 1 < argc) {
            path = argv[++i];
        } else if (!strcmp(argv[i], "--samples") && i + 1 < argc) {
            samples = (int)strtol(argv[++i], NULL, 10); /* 0, refused below, if not a number */
        } else {
            fprintf(stderr, "usage: fma_peak [--json FILE] [--samples N]\n");
            return 2;
        }
    }
    if (samples < 1 || samples > SAMPLES_MAX) {
        fprintf(stderr, "fma_peak: --samples takes 1 to %d\n", SAMPLES_MAX);
        return 2;
    }
    FILE *json = path ? fopen(path, "w") : NULL;
    if (path && !json) {
        perror(path);
        return 1;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    int cores = online < 1 ? 1 : online > CORES_MAX ? CORES_MAX : (int)online;
    bool first = true;
    if (json)
        fprintf(json, "[");
    for (int i = 0; i < VARIANTS; i++) {
        const sg_cpu_kernels *kernels = variants[i].kernels(variants[i].compute);
        if (kernels)
            measure(&variants[i], kernels, cores, samples, json, &first);
    }
    if (json) {
        fprintf(json, "\n]\n");
        if (fclose(json)) {
            perror(path);
            return 1;
        }
    }
    return 0;
}
