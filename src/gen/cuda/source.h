/* Source text from skeletons: files of kernels/cuda with holes.
 *
 * A hole is a line "//@ name"; what fills it is text from the lowering. "//@ include FILE" stands
 * for another file of kernels/cuda, taken in at its first mention only. */
#ifndef SEGUE_GEN_CUDA_SOURCE_H
#define SEGUE_GEN_CUDA_SOURCE_H

#include "base/text.h"
#include "gen/cuda/kernel.h"
#include "plan/cuda/facts.h"

/* ---- the parameter ------------------------------------------------------------------------- */
/* Members of `struct Arguments`, in order. Every member is 64 bits wide: a pointer or a long long;
 * a stride is a `Stride` (kernels/cuda/common.cuh), five numbers by role. */
typedef struct sg_cuda_arguments {
    sg_arena *arena;
    sg_text declaration; /* the members' declarations */
    sg_word *words;
    int count, capacity;
} sg_cuda_arguments;

void sg_cuda_arguments_open(sg_cuda_arguments *arguments, sg_arena *arena);
void sg_cuda_arguments_close(sg_cuda_arguments *arguments); /* releases the text, not the words */
/* A tensor: `[const] TYPE *__restrict__ NAME; Stride NAME_stride;`. output: it is written. */
void sg_cuda_add_tensor(sg_cuda_arguments *arguments, const char *name, const sg_operand *operand,
                        bool output);
void sg_cuda_add_number(sg_cuda_arguments *arguments, const char *name, int64_t value);
/* `TYPE *NAME`, byte offset into the workspace. */
void sg_cuda_add_workspace(sg_cuda_arguments *arguments, const char *type, const char *name,
                           int64_t offset);

/* The CUDA type of an element: "float", "double", "half_t", "bfloat_t", "bool_t". */
const char *sg_cuda_type(sg_dtype dtype);

/* ---- the tail ------------------------------------------------------------------------------ */
/* Writes `struct Tail` and its constants (docs/cuda.md) and adds the tensors it reads and writes,
 * load0.. and store0.., to the arguments. The text stands between two lines, for dumps. */
#define SG_CUDA_TAIL_BEGIN "// ---- tail"
#define SG_CUDA_TAIL_END   "// ---- end of tail"
sg_status sg_cuda_write_tail(const sg_problem *problem, const sg_cuda_target *target,
                             sg_arena *arena, sg_cuda_arguments *arguments, sg_text *tail);

/* ---- the whole ----------------------------------------------------------------------------- */
typedef struct sg_cuda_hole {
    const char *name, *text;
} sg_cuda_hole;

/* skeleton: a file's name, "conv_direct.cuh". The text lives in the arena. A hole without a filling
 * and a filling without a hole are bugs of ours, and asserted. Only the hole "real" of common.cuh
 * may be left out: `real` is then float. SG_OUT_OF_MEMORY only. */
sg_status sg_cuda_compose(sg_arena *arena, const char *skeleton, const sg_cuda_hole *holes,
                          int hole_count, const char **source);

#endif
