/* Elementary functions over vectors: the names that the op table's `vector` expressions use.
 *
 * Every function keeps the meaning of PyTorch's operator of that name for NaN, infinities, signed
 * zero and subnormal numbers. Float results are within 0.51 units in the last place of the true
 * value (rsqrt: 1.5). Double results are within 2; gelu is as good as the C library's erfc, and
 * where its two forms near the subnormal numbers they lose some digits (20 units).
 * tests/c/test_vector_math.c holds them to it. */
#ifndef SEGUE_KERNELS_CPU_VECTOR_MATH_H
#define SEGUE_KERNELS_CPU_VECTOR_MATH_H

#include "ir/constants.h"
#include "simd.h"

SG_INLINE DU d_bits(uint64_t bits) {
    return (DU){0} + bits;
}

/* x held within [low, high]; NaN stays. */
SG_INLINE F f_within(F x, float low, float high) {
    return f_min_second(f_splat(high), f_max_second(f_splat(low), x));
}
SG_INLINE D d_within(D x, double low, double high) {
    return d_min_second(d_splat(high), d_max_second(d_splat(low), x));
}

/* 1.5 * 2^52: added to a small number, it rounds it to an integer and leaves that integer in the
 * low bits of the sum. */
#define SG_ROUNDING_SHIFT 0x1.8p52

/* 2^n for the integer n that the sum with SG_ROUNDING_SHIFT holds, -1022 <= n <= 1023. */
SG_INLINE D d_power_of_two(D shifted) {
    return (D)(((DU)shifted << 52) + d_bits(0x3ff0000000000000));
}

/* x = 2^n * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), for positive normal x. */
SG_INLINE D d_split_exponent(D x, D *f) {
    const uint64_t sqrt_half = 0x3fe6a09e667f3bcd, one = 0x3ff0000000000000;
    const DU u = (DU)x + d_bits(one - sqrt_half);
    *f = (D)((u & d_bits(0x000fffffffffffff)) + d_bits(sqrt_half)) - d_splat(1);
    /* The biased exponent becomes the last bits of a double near 2^52. */
    return (D)((u >> 52) | d_bits(0x4330000000000000)) - d_splat(0x1p52 + 1023);
}

#include "vector_math_f32.h"
#include "vector_math_f64.h"

/* What differs by the compute type only in its prefix. */
SG_INLINE V v_exp(V x) {
    return SG_V(exp)(x);
}
SG_INLINE V v_exp2(V x) {
    return SG_V(exp2)(x);
}
SG_INLINE V v_expm1(V x) {
    return SG_V(expm1)(x);
}
SG_INLINE V v_log(V x) {
    return SG_V(log)(x);
}
SG_INLINE V v_log1p(V x) {
    return SG_V(log1p)(x);
}
SG_INLINE V v_log2(V x) {
    return SG_V(log2)(x);
}
SG_INLINE V v_log10(V x) {
    return SG_V(log10)(x);
}
SG_INLINE V v_rsqrt(V x) {
    return K(1) / v_sqrt(x);
}
SG_INLINE V v_pow(V x, V y) {
    return SG_V(pow)(x, y);
}
SG_INLINE V v_erf(V x) {
    return SG_V(erf)(x);
}
SG_INLINE V v_tanh(V x) {
    return SG_V(tanh)(x);
}
SG_INLINE V v_sigmoid(V x) {
    return SG_V(sigmoid)(x);
}
SG_INLINE V v_gelu(V x) {
    return SG_V(gelu)(x);
}
SG_INLINE V v_gelu_tanh(V x) {
    return SG_V(gelu_tanh)(x);
}
SG_INLINE V v_silu(V x) {
    return SG_V(silu)(x);
}
SG_INLINE V v_mish(V x) {
    return SG_V(mish)(x);
}
SG_INLINE V v_softplus(V x, double beta, double threshold) {
    return SG_V(softplus)(x, beta, threshold);
}
SG_INLINE V v_log_sigmoid(V x) {
    return SG_V(log_sigmoid)(x);
}

#endif
