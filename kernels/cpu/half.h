/* The narrow formats: IEEE binary16 and bfloat16, rounded to nearest even, NaN kept NaN.
 *
 * Scalars are converted in integers, the same on every machine; vectors of float use F16C or
 * AVX-512 where the set has them. A double is first rounded to float *to odd* (Boldo and Melquiond,
 * Emulation of FMA and correctly rounded sums, 2008), which makes the second rounding come out as
 * if it had been the only one. */
#ifndef SEGUE_KERNELS_CPU_HALF_H
#define SEGUE_KERNELS_CPU_HALF_H

#include "simd.h"

SG_INLINE uint32_t bits_of_f32(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
SG_INLINE float f32_of_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

SG_INLINE float f32_of_f16(uint16_t h) {
    const uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13;
    /* The exponent bias differs by 112; the product is exact, for subnormals too. */
    const uint32_t finite = bits_of_f32(f32_of_bits(magnitude) * 0x1p112f);
    const uint32_t special = magnitude | 0x7f800000;
    return f32_of_bits((magnitude >= 0x7c00u << 13 ? special : finite) | (uint32_t)(h & 0x8000)
                                                                             << 16);
}

SG_INLINE uint16_t f16_of_f32(float x) {
    const uint32_t sign = bits_of_f32(x) >> 31 << 15;
    const uint32_t magnitude = bits_of_f32(x) & 0x7fffffff;
    uint32_t h;
    if (magnitude > 0x7f800000) {
        h = 0x7e00;
    } else if (magnitude >= 0x47800000) { /* 2^16 */
        h = 0x7c00;
    } else if (magnitude < 0x38800000) { /* 2^-14: the result is subnormal */
        /* An ulp of 0.5 is the smallest half, so this addition rounds where it should. */
        h = bits_of_f32(f32_of_bits(magnitude) + 0.5f) - bits_of_f32(0.5f);
    } else {
        h = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    }
    return (uint16_t)(sign | h);
}

SG_INLINE float f32_of_bf16(uint16_t b) {
    return f32_of_bits((uint32_t)b << 16);
}

SG_INLINE uint16_t bf16_of_f32(float x) {
    const uint32_t u = bits_of_f32(x);
    const uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    const uint32_t quiet = u >> 16 | 0x40;
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}

SG_INLINE float f32_of_f64_to_odd(double x) {
    const float nearest = (float)x;
    const double back = nearest;
    uint32_t u = bits_of_f32(nearest);
    if (back < x || back > x) {
        if (fabs(back) > fabs(x))
            u--;
        u |= 1;
    }
    return f32_of_bits(u);
}

SG_INLINE uint16_t f16_of_f64(double x) {
    return f16_of_f32(f32_of_f64_to_odd(x));
}
SG_INLINE uint16_t bf16_of_f64(double x) {
    return bf16_of_f32(f32_of_f64_to_odd(x));
}

/* A vector's worth of binary16 at p. */
SG_INLINE F f_load_f16(const uint16_t *p) {
#if SG_ISA_AVX512
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif SG_ISA_AVX2
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#else
    F x;
    for (int i = 0; i < SG_F32_LENGTH; i++)
        x[i] = f32_of_f16(p[i]);
    return x;
#endif
}
SG_INLINE void f_store_f16(uint16_t *p, F x) {
#if SG_ISA_AVX512
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#elif SG_ISA_AVX2
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#else
    for (int i = 0; i < SG_F32_LENGTH; i++)
        p[i] = f16_of_f32(x[i]);
#endif
}

/* Rounding to a narrow format and back. */
SG_INLINE F f_round_to_f16(F x) {
    uint16_t h[SG_F32_LENGTH];
    f_store_f16(h, x);
    return f_load_f16(h);
}
SG_INLINE F f_round_to_bf16(F x) {
    const FU u = (FU)x;
    const FU rounded = (u + 0x7fff + ((u >> 16) & 1)) & ~0xffffu;
    return f_select(x == x, (F)rounded, (F)(u | 0x400000));
}
SG_INLINE D d_round_to_f16(D x) {
    for (int i = 0; i < SG_F64_LENGTH; i++)
        x[i] = f32_of_f16(f16_of_f64(x[i]));
    return x;
}
SG_INLINE D d_round_to_bf16(D x) {
    for (int i = 0; i < SG_F64_LENGTH; i++)
        x[i] = f32_of_bf16(bf16_of_f64(x[i]));
    return x;
}
SG_INLINE F f_round_to_f32(F x) {
    return x;
}
SG_INLINE D d_round_to_f32(D x) {
    for (int i = 0; i < SG_F64_LENGTH; i++)
        x[i] = (double)(float)x[i];
    return x;
}

SG_INLINE V v_round_to_f16(V x) {
    return SG_V(round_to_f16)(x);
}
SG_INLINE V v_round_to_bf16(V x) {
    return SG_V(round_to_bf16)(x);
}
SG_INLINE V v_round_to_f32(V x) {
    return SG_V(round_to_f32)(x);
}

#endif
