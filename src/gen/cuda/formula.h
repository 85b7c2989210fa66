/* Formulas: what a number of a launch is for any batch, any image and any strides, as an expression
 * in C. Beside each stands the number itself, for the sizes at hand; tests hold the two together.
 *
 *     s.n s.c s.d s.h s.w          sizes of the region's axes
 *     s.in_d s.in_h s.in_w         of a convolution's input
 *     s.processors                 multiprocessors of the device
 *     a.NAME                       a number of the same launch that was added before
 *     input0.size[1], output0.stride[2]   of a tensor of the region's graph, by its own dimensions
 *     least(x, y)  most(x, y)      of two
 *     pieces(x, y)                 x / y, rounded up
 *     reciprocal(x)                sg_cuda_reciprocal
 *     aligned(input0, 16)          whether the first element's address is a multiple of 16 bytes
 *
 * All are long long. What a plan fixes is written as a number. */
#ifndef SEGUE_GEN_CUDA_FORMULA_H
#define SEGUE_GEN_CUDA_FORMULA_H

#include <stdarg.h>

#include "base/arena.h"
#include "plan/problem.h"

#if defined(__GNUC__)
#define SG_FORMAT(text, values) __attribute__((format(printf, text, values)))
#else
#define SG_FORMAT(text, values)
#endif

/* As printf; the text lives in the arena. NULL only when memory ran out. */
SG_FORMAT(2, 3)
const char *sg_cuda_formula(sg_arena *arena, const char *format, ...);
const char *sg_cuda_formula_list(sg_arena *arena, const char *format, va_list list);

/* Of sizes: of a role of the region, which may be a product of axes; of the convolution's input
 * along D, H, W (0, 1, 2). A number where the graph fixes it. */
const char *sg_cuda_size(const sg_problem *problem, int role, sg_arena *arena);
const char *sg_cuda_in_size(const sg_problem *problem, int axis);
/* Of the elements along axes, given as bits; NULL where the graph fixes it. */
const char *sg_cuda_count(const sg_problem *problem, unsigned axes, sg_arena *arena);
/* Of an operand's stride along a role. */
const char *sg_cuda_stride(const sg_problem *problem, const sg_operand *operand, bool output,
                           int role, sg_arena *arena);

/* For division by `divisor`, below 2^31: x / divisor is the upper half of 2 x times the lower 32
 * bits, shifted right by the upper 32 (Granlund and Montgomery, Division by invariant integers
 * using multiplication, 1994). 0 where the divisor is not in range: it is not divided by. */
int64_t sg_cuda_reciprocal(int64_t divisor);

#endif
