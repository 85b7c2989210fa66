/* The launches of a program on GPUs: kernels in order, with what each is given as far as it is
 * known before a call. Immutable but for what has been loaded on which device. */
#ifndef SEGUE_RUN_CUDA_SEQUENCE_H
#define SEGUE_RUN_CUDA_SEQUENCE_H

#include <pthread.h>
#include <stdatomic.h>

#include "gen/cuda/kernel.h"
#include "run/cuda/driver.h"

/* Words of an argument structure at most: a kernel may take 4 KB. */
enum { SG_CUDA_WORDS_MAX = 512 };
/* What the workspace, and every tensor in it, is aligned to, in bytes. */
enum { SG_CUDA_WORKSPACE_ALIGNMENT = 256 };

/* An address that a call brings: word `word` is `number` bytes after it. */
typedef struct sg_cuda_patch {
    int word;
    sg_word_kind kind; /* not SG_WORD_NUMBER */
    int index;         /* of the program's inputs or outputs */
    int64_t number;
} sg_cuda_patch;

typedef struct sg_cuda_call {
    const sg_cuda_launch *launch;
    uint64_t *words; /* with 0 where a patch goes */
    int word_count;
    sg_cuda_patch *patches;
    int patch_count;
} sg_cuda_call;

typedef struct sg_cuda_sequence {
    sg_gpu gpu; /* that the sources were written for */
    sg_cuda_call *calls;
    int call_count, capacity;
    int64_t workspace; /* bytes */
    /* What the address of an input or an output must be a multiple of, less one; -1 where a tensor
     * is empty and its address is never used. */
    int64_t *input_mask, *output_mask;
    pthread_mutex_t lock;                                   /* held while loading */
    sg_cu_function *_Atomic functions[SG_CUDA_DEVICES_MAX]; /* [device][call]; NULL: not loaded */
} sg_cuda_sequence;

/* Where an input or an output of a region's graph is to be found: a tensor of the program, or part
 * of the workspace. */
typedef struct sg_cuda_place {
    sg_word_kind kind; /* SG_WORD_INPUT, SG_WORD_OUTPUT or SG_WORD_WORKSPACE */
    int index;
    int64_t offset; /* bytes into the workspace */
} sg_cuda_place;

/* An empty sequence with room for `calls` launches. NULL when memory ran out. */
sg_cuda_sequence *sg_cuda_sequence_create(const sg_gpu *gpu, int calls);
void sg_cuda_sequence_destroy(sg_cuda_sequence *sequence);

/* Adds a kernel, which must outlive the sequence, in its arena: its inputs and outputs are at the
 * given places, its workspace begins `workspace` bytes into the program's. */
sg_status sg_cuda_sequence_add(sg_context *context, sg_cuda_sequence *sequence,
                               const sg_cuda_kernel *kernel, const sg_cuda_place *inputs,
                               const sg_cuda_place *outputs, int64_t workspace, sg_arena *arena);

/* Builds for the architecture alone (device -1), or builds and loads. */
sg_status sg_cuda_sequence_build(sg_context *context, sg_cuda_sequence *sequence, int device);

/* As sg_program_launch. */
sg_status sg_cuda_sequence_launch(sg_context *context, sg_cuda_sequence *sequence, int device,
                                  void *stream, const void *const *inputs, int input_count,
                                  void *const *outputs, int output_count, void *workspace);

#endif
