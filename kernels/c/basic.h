/* Pieces of C files that Segue writes: what the op table's `vector` column (src/ir/ops.def) is
 * written in, for one `real`, float or double.
 *
 * A piece is what stands between two empty lines: a function, its comment before it. A file gets
 * the pieces that it needs, in this order (src/gen/c/pieces.h); what begins with # is for editors
 * and compilers of these headers alone. C11, no extensions, libm. */
#ifndef SEGUE_KERNELS_C_BASIC_H
#define SEGUE_KERNELS_C_BASIC_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tgmath.h>

#ifndef SEGUE_REAL
#define SEGUE_REAL float
#endif

typedef SEGUE_REAL real;

static inline real K(double x) {
    return (real)x;
}

/* a * b + c, in one rounding where the processor has an instruction for it. */
static inline double d_fma(double a, double b, double c) {
#ifdef FP_FAST_FMA
    return fma(a, b, c);
#else
    return a * b + c;
#endif
}

/* a * b + c, in one rounding where the processor has an instruction for it. */
static inline real v_fma(real a, real b, real c) {
#if defined(FP_FAST_FMA) && defined(FP_FAST_FMAF)
    return fma(a, b, c);
#else
    return a * b + c;
#endif
}

static inline real v_mask(int x) {
    return x ? (real)1 : (real)0;
}

static inline real v_to_bool(real x) {
    return v_mask(x != 0);
}

static inline real v_select(int condition, real a, real b) {
    return condition ? a : b;
}

static inline real v_neg(real x) {
    return -x;
}

static inline real v_abs(real x) {
    return fabs(x);
}

/* NaN if either is NaN; of two zeros, the first. */
static inline real v_min(real a, real b) {
    return (b < a) | (b != b) ? b : a;
}

/* NaN if either is NaN; of two zeros, the first. */
static inline real v_max(real a, real b) {
    return (b > a) | (b != b) ? b : a;
}

static inline real v_floor(real x) {
    return floor(x);
}

static inline real v_ceil(real x) {
    return ceil(x);
}

static inline real v_trunc(real x) {
    return trunc(x);
}

/* To nearest, halves to even. */
static inline real v_round(real x) {
    return nearbyint(x);
}

static inline real v_sqrt(real x) {
    return sqrt(x);
}

static inline real v_rsqrt(real x) {
    return 1 / sqrt(x);
}

/* What PyTorch computes as x times something that reaches zero: NaN at minus infinity. */
static inline real vanishing(real x, real r) {
    return x == -(real)INFINITY ? (real)NAN : r;
}

/* *sum + *rest += x: the sum, and what its additions rounded away (Knuth, TAOCP vol. 2, section
 * 4.2.2, theorem B). Past an overflow there is no rest worth keeping. */
static inline void add_compensated(real *sum, real *rest, real x) {
    const real s = *sum + x, part = s - *sum;
    const real e = (*sum - (s - part)) + (x - part);
    *rest += e == e ? e : 0;
    *sum = s;
}

/* The sum of a row, in double. */
static inline real columns_sum(const real *x, int count) {
    double part[8] = {0};
    int p = 0;
    for (; p + 8 <= count; p += 8)
        for (int i = 0; i < 8; i++)
            part[i] += x[p + i];
    for (; p < count; p++)
        part[0] += x[p];
    return (real)(((part[0] + part[4]) + (part[2] + part[6])) +
                  ((part[1] + part[5]) + (part[3] + part[7])));
}

/* The product of a row, in double. */
static inline real columns_prod(const real *x, int count) {
    double product = 1;
    for (int p = 0; p < count; p++)
        product *= x[p];
    return (real)product;
}

static inline real columns_min(const real *x, int count) {
    real least = x[0];
    for (int p = 1; p < count; p++)
        least = v_min(least, x[p]);
    return least;
}

static inline real columns_max(const real *x, int count) {
    real largest = x[0];
    for (int p = 1; p < count; p++)
        largest = v_max(largest, x[p]);
    return largest;
}

#endif
