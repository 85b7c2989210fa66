#include "gen/cuda/formula.h"

#include <stdio.h>
#include <string.h>

const char *sg_cuda_formula_list(sg_arena *arena, const char *format, va_list list) {
    va_list again;
    va_copy(again, list);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    char *text = length < 0 ? NULL : sg_arena_alloc(arena, (size_t)length + 1);
    if (text)
        vsnprintf(text, (size_t)length + 1, format, list);
    return text;
}

const char *sg_cuda_formula(sg_arena *arena, const char *format, ...) {
    va_list list;
    va_start(list, format);
    const char *text = sg_cuda_formula_list(arena, format, list);
    va_end(list);
    return text;
}

/* ---- sizes --------------------------------------------------------------------------------- */

static const char *const axis_names[SG_AXIS_COUNT] = {"s.n", "s.c", "s.d", "s.h", "s.w"};

/* An axis of one element is one that the graph lacks, or broadcasts along. */
static bool is_fixed(const sg_problem *problem, int axis) {
    return problem->region->size[axis] == 1 || problem->role[axis] == SG_ROLE_C;
}

const char *sg_cuda_size(const sg_problem *problem, int role, sg_arena *arena) {
    const char *product = NULL;
    int factors = 0;
    if (role == SG_ROLE_C)
        return sg_cuda_formula(arena, "%lld", (long long)problem->size[role]);
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        if (!(problem->axes[role] >> axis & 1U) || is_fixed(problem, axis))
            continue;
        product = factors++ ? sg_cuda_formula(arena, "%s * %s", product, axis_names[axis])
                            : axis_names[axis];
    }
    return factors == 0 ? "1" : factors == 1 ? product : sg_cuda_formula(arena, "(%s)", product);
}

const char *sg_cuda_count(const sg_problem *problem, unsigned axes, sg_arena *arena) {
    const char *product = NULL;
    long long number = 1;
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        if (!(axes >> axis & 1U))
            continue;
        if (is_fixed(problem, axis))
            number *= problem->region->size[axis];
        else
            product = product ? sg_cuda_formula(arena, "%s * %s", product, axis_names[axis])
                              : axis_names[axis];
    }
    return product && number > 1 ? sg_cuda_formula(arena, "%s * %lld", product, number) : product;
}

const char *sg_cuda_in_size(const sg_problem *problem, int axis) {
    static const char *const names[SG_SPATIAL_MAX] = {"s.in_d", "s.in_h", "s.in_w"};
    return problem->convolution.input.dim[SG_ROLE_D + axis] ? names[axis] : "1";
}

const char *sg_cuda_stride(const sg_problem *problem, const sg_operand *operand, bool output,
                           int role, sg_arena *arena) {
    if (!operand->dim[role])
        return "0";
    const char *stride = sg_cuda_formula(arena, "%s%d.stride[%d]", output ? "output" : "input",
                                         operand->index, operand->dim[role] - 1);
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        if (!(operand->step[role] >> axis & 1U) || problem->region->size[axis] == 1)
            continue;
        stride = problem->role[axis] == SG_ROLE_C
                     ? sg_cuda_formula(arena, "%s * %lld", stride,
                                       (long long)problem->region->size[axis])
                     : sg_cuda_formula(arena, "%s * %s", stride, axis_names[axis]);
    }
    return stride;
}

int64_t sg_cuda_reciprocal(int64_t divisor) {
    enum { BITS = 31 };
    int shift = 0;
    if (divisor < 1 || divisor > INT64_C(1) << BITS)
        return 0;
    while (INT64_C(1) << shift < divisor)
        shift++;
    uint64_t factor = ((UINT64_C(1) << (BITS + shift)) + (uint64_t)divisor - 1) / (uint64_t)divisor;
    return (int64_t)shift << 32 | (int64_t)factor;
}
