#include "target/gpu.h"

#include <stdio.h>
#include <string.h>

/* What a data sheet's peak comes down to. Measured on an H200 (4.8e12 B/s, 989e12, 495e12 and
 * 67e12 flops on its data sheet): a large copy, large matrix products of the library, and a loop of
 * fused multiply-adds, of doubles on the tensor cores one of `mma`. The other cards are taken to
 * fall short of theirs by the same parts. */
#define COPY(peak) ((peak) * 0.895)
#define HALF(peak) ((peak) * 0.80)
#define TF32(peak) ((peak) * 0.83)
#define FP32(peak) ((peak) * 0.76)
#define FP64(peak) ((peak) * 0.98)

/* Seconds from the end of one small kernel to the start of the next on the same stream. */
static const double LAUNCH = 2e-6;

/* Shared memory, registers: table of technical specifications in NVIDIA's CUDA C++ Programming
 * Guide, by compute capability. Rates: the data sheet of one card of each architecture, at the
 * clock given: A100 SXM 80 GB, RTX A6000, L40S, H100 SXM (sm_90), H200 (sm_90a). Peaks of half
 * products are those with float sums and without sparsity. */
typedef struct sg_gpu_row {
    sg_gpu gpu;
    double clock; /* kHz that the rates stand for */
} sg_gpu_row;

static const sg_gpu_row table[] = {
    {{"", "sm_80", 8, 0, false, 108, 163 << 10, 164 << 10, 65536, 40 << 20, COPY(2.04e12),
      HALF(312e12), TF32(156e12), FP32(19.5e12), FP32(9.7e12), FP64(19.5e12), LAUNCH},
     1410e3},
    {{"", "sm_86", 8, 6, false, 84, 99 << 10, 100 << 10, 65536, 6 << 20, COPY(0.768e12),
      HALF(154.8e12), TF32(77.4e12), FP32(38.7e12), FP32(0.605e12), FP32(0.605e12), LAUNCH},
     1800e3},
    {{"", "sm_89", 8, 9, false, 142, 99 << 10, 100 << 10, 65536, 96 << 20, COPY(0.864e12),
      HALF(362e12), TF32(183e12), FP32(91.6e12), FP32(1.43e12), FP32(1.43e12), LAUNCH},
     2520e3},
    {{"", "sm_90", 9, 0, false, 132, 227 << 10, 228 << 10, 65536, 50 << 20, COPY(3.35e12),
      HALF(989e12), TF32(495e12), FP32(67e12), FP32(34e12), FP64(67e12), LAUNCH},
     1980e3},
    {{"", "sm_90a", 9, 0, true, 132, 227 << 10, 228 << 10, 65536, 60 << 20, COPY(4.8e12),
      HALF(989e12), TF32(495e12), FP32(67e12), FP32(34e12), FP64(67e12), LAUNCH},
     1980e3},
};
enum { ROWS = sizeof table / sizeof table[0] };

bool sg_gpu_find(const char *architecture, sg_gpu *gpu) {
    for (int i = 0; i < ROWS; i++) {
        if (strcmp(table[i].gpu.architecture, architecture) == 0) {
            *gpu = table[i].gpu;
            snprintf(gpu->name, sizeof gpu->name, "%s", architecture);
            return true;
        }
    }
    return false;
}

const char *sg_gpu_architectures(void) {
    return "sm_80, sm_86, sm_89, sm_90, sm_90a";
}

/* The row that stands for a compute capability: its own, with the instructions of its own
 * architecture where there are some ("sm_90a"), or else the newest before it. */
static const sg_gpu_row *row_of(int major, int minor) {
    const sg_gpu_row *found = NULL;
    for (int i = 0; i < ROWS; i++) {
        const sg_gpu *gpu = &table[i].gpu;
        bool before = gpu->major < major || (gpu->major == major && gpu->minor <= minor);
        /* sm_90a runs on 9.0 and nothing else. */
        bool fits = !gpu->wgmma || (gpu->major == major && gpu->minor == minor);
        found = before && fits ? &table[i] : found;
    }
    return found;
}

bool sg_gpu_describe(const sg_gpu_facts *facts, sg_gpu *gpu) {
    const sg_gpu_row *row = row_of(facts->major, facts->minor);
    if (!row)
        return false;
    *gpu = row->gpu;
    snprintf(gpu->name, sizeof gpu->name, "%s", facts->name);
    if (gpu->major != facts->major || gpu->minor != facts->minor)
        snprintf(gpu->architecture, sizeof gpu->architecture, "sm_%d%d", facts->major,
                 facts->minor);
    gpu->major = facts->major;
    gpu->minor = facts->minor;
    double scale = facts->multiprocessors / (double)gpu->multiprocessors;
    if (facts->clock > 0)
        scale *= facts->clock / row->clock;
    gpu->half *= scale;
    gpu->tf32 *= scale;
    gpu->fp32 *= scale;
    gpu->fp64 *= scale;
    gpu->fp64_matrix *= scale;
    /* Two transfers a clock. */
    if (facts->memory_clock > 0 && facts->memory_bits > 0)
        gpu->copy = COPY(2e3 * facts->memory_clock * (facts->memory_bits / 8));
    gpu->multiprocessors = facts->multiprocessors;
    gpu->shared_block = facts->shared_block;
    gpu->shared_processor = facts->shared_processor;
    gpu->registers = facts->registers;
    gpu->l2 = facts->l2;
    return true;
}
