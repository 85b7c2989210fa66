/* A region as CUDA kernels: source text and how to launch it, as plain data. Lowering fills it,
 * building compiles it, running launches it, and emitting writes it down. Immutable once made. */
#ifndef SEGUE_GEN_CUDA_KERNEL_H
#define SEGUE_GEN_CUDA_KERNEL_H

#include "base/arena.h"
#include "plan/cuda/strategy.h"

/* One 64-bit word of the kernel's only parameter, `struct Arguments`. */
typedef enum sg_word_kind {
    SG_WORD_NUMBER,   /* number */
    SG_WORD_INPUT,    /* address of input `index` of the region's graph */
    SG_WORD_OUTPUT,   /* address of output `index` */
    SG_WORD_WORKSPACE /* address of the workspace plus `number` bytes */
} sg_word_kind;

typedef struct sg_word {
    sg_word_kind kind;
    int index;
    int64_t number;
    const char *name; /* the member; NULL: one more number of the member before, a stride */
    /* What number is at any sizes and strides, as C (gen/cuda/formula.h); NULL: an address. */
    const char *formula;
} sg_word;

/* What a source takes for granted of sizes, strides and addresses beyond what is the same for all:
 * where it does not hold, the kernel must not run. */
typedef struct sg_cuda_assumption {
    const char *holds;    /* a formula that is true or false */
    const char *sentence; /* the same for people: "rows of the input are multiples of 4 elements" */
} sg_cuda_assumption;

/* One launch. Launches of a kernel follow each other on one stream and share the workspace. */
typedef struct sg_cuda_launch {
    const char *source; /* one translation unit, complete */
    const char *entry;  /* of the __global__ function, extern "C" */
    int64_t grid;       /* blocks, along x alone; at most 2^31 - 1; 0: nothing to do, no launch */
    int block;          /* threads */
    int cluster;        /* blocks of a cluster; 1: none */
    int64_t shared;     /* bytes of dynamic shared memory */
    /* It may start before the launch before it in this kernel has ended: all its threads begin with
     * `griddepcontrol.wait` (sm_90 and later), and read and write nothing before. */
    bool early;
    const sg_word *words;
    int word_count;
    const char *grid_formula;
    const sg_cuda_assumption *assumptions;
    int assumption_count;
} sg_cuda_launch;

enum { SG_CUDA_LAUNCHES_MAX = 4 };

typedef struct sg_cuda_kernel {
    sg_cuda_launch launches[SG_CUDA_LAUNCHES_MAX];
    int launch_count;
    int64_t workspace; /* bytes; its contents need not survive a call nor be set before one */
} sg_cuda_kernel;

/* One file of gen/cuda each. The kernel's texts and words live in the arena. */
typedef sg_status sg_cuda_lowering(const sg_problem *problem, const sg_cuda_target *target,
                                   const sg_cuda_plan *plan, sg_arena *arena,
                                   sg_cuda_kernel *kernel);
sg_cuda_lowering sg_cuda_lower_wgmma_ring, sg_cuda_lower_wgmma_gathered, sg_cuda_lower_wgmma_packed,
    sg_cuda_lower_wgmma_streamed, sg_cuda_lower_mma, sg_cuda_lower_implicit_gemm,
    sg_cuda_lower_direct, sg_cuda_lower_stream;

/* By the strategy's name. */
sg_status sg_cuda_lower(const sg_problem *problem, const sg_cuda_target *target,
                        const sg_cuda_choice *choice, sg_arena *arena, sg_cuda_kernel *kernel);

#endif
