/* The only parameter of a kernel, `struct Arguments`: its members, the words that fill them, and
 * what the source takes for granted of them.
 *
 * Every word stands here twice, as the number for the sizes at hand and as a formula for any
 * (formula.h): the first is for launching now, the second for writing the kernel down. */
#ifndef SEGUE_GEN_CUDA_ARGUMENTS_H
#define SEGUE_GEN_CUDA_ARGUMENTS_H

#include "base/text.h"
#include "gen/cuda/formula.h"
#include "gen/cuda/kernel.h"

/* Members of `struct Arguments`, in order. Every member is 64 bits wide: a pointer or a long long;
 * a stride is a `Stride` (kernels/cuda/common.cuh), five numbers by role. */
typedef struct sg_cuda_arguments {
    const sg_problem *problem;
    sg_arena *arena;
    sg_text declaration; /* the members' declarations */
    sg_word *words;
    int count, capacity;
    sg_cuda_assumption *assumptions;
    int assumption_count, assumption_capacity;
} sg_cuda_arguments;

void sg_cuda_arguments_open(sg_cuda_arguments *arguments, const sg_problem *problem,
                            sg_arena *arena);
void sg_cuda_arguments_close(sg_cuda_arguments *arguments); /* releases the text, not the words */
/* A tensor: `[const] TYPE *__restrict__ NAME; Stride NAME_stride;`. output: it is written. */
void sg_cuda_add_tensor(sg_cuda_arguments *arguments, const char *name, const sg_operand *operand,
                        bool output);
/* `long long NAME;`. formula, and what follows it as for printf: the value at any sizes. */
SG_FORMAT(4, 5)
void sg_cuda_add_number(sg_cuda_arguments *arguments, const char *name, int64_t value,
                        const char *formula, ...);
/* `TYPE *NAME`, byte offset into the workspace, whose value at any sizes is the formula. */
SG_FORMAT(5, 6)
void sg_cuda_add_workspace(sg_cuda_arguments *arguments, const char *type, const char *name,
                           int64_t offset, const char *formula, ...);
/* What the source that takes these arguments assumes; said again, it is kept once. */
SG_FORMAT(3, 4)
void sg_cuda_assume(sg_cuda_arguments *arguments, const char *sentence, const char *holds, ...);
/* Assumes that elements of a tensor come in vectors of `count` neighbours along a role: they lie
 * side by side, `length` (a formula; NULL: that is known) is whole vectors of them, and every
 * vector begins at a multiple of its bytes, of 16 at most. output: it is written. */
void sg_cuda_assume_vectors(sg_cuda_arguments *arguments, const sg_operand *operand, bool output,
                            int role, int64_t count, const char *length);
/* Assumes that a tensor's elements lie side by side along the roles given, the first the innermost,
 * in the sizes given. Roles of one element are left out. */
void sg_cuda_assume_dense(sg_cuda_arguments *arguments, const sg_operand *operand, const int *roles,
                          const int64_t *sizes, int count);
/* Moves words and assumptions to a launch. */
void sg_cuda_give_arguments(const sg_cuda_arguments *arguments, sg_cuda_launch *launch);

/* The CUDA type of an element: "float", "double", "half_t", "bfloat_t", "bool_t". */
const char *sg_cuda_type(sg_dtype dtype);

#endif
