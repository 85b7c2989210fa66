/* Pieces (basic.h): the narrow formats, IEEE binary16 and bfloat16, as uint16_t. */
#ifndef SEGUE_KERNELS_C_HALF_H
#define SEGUE_KERNELS_C_HALF_H

#include "basic.h"

static inline uint32_t bits_of_f32(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float f32_of_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* The exponent bias differs by 112; the product is exact, for subnormal numbers too. */
static inline float f32_of_f16(uint16_t h) {
    const uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13, sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t finite = bits_of_f32(f32_of_bits(magnitude) * 0x1p112f);
    const uint32_t special = magnitude | 0x7f800000;
    return f32_of_bits((magnitude >= (uint32_t)0x7c00 << 13 ? special : finite) | sign);
}

static inline float f32_of_bf16(uint16_t b) {
    return f32_of_bits((uint32_t)b << 16);
}

/* To nearest, halves to even; NaN stays NaN. Below 2^-14 the result is subnormal: an ulp of 0.5 is
 * the smallest half, so that adding 0.5 rounds where it should. */
static inline uint16_t f16_of_f32(float x) {
    const uint32_t sign = bits_of_f32(x) >> 31 << 15, magnitude = bits_of_f32(x) & 0x7fffffff;
    uint32_t h;
    if (magnitude > 0x7f800000)
        h = 0x7e00;
    else if (magnitude >= 0x47800000)
        h = 0x7c00;
    else if (magnitude < 0x38800000)
        h = bits_of_f32(f32_of_bits(magnitude) + 0.5f) - bits_of_f32(0.5f);
    else
        h = (magnitude - ((uint32_t)112 << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    return (uint16_t)(sign | h);
}

/* To nearest, halves to even; NaN stays NaN. */
static inline uint16_t bf16_of_f32(float x) {
    const uint32_t u = bits_of_f32(x), rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 0x40 : rounded);
}

/* Rounded to odd, so that a second rounding comes out as if it had been the only one (Boldo and
 * Melquiond, Emulation of FMA and correctly rounded sums, 2008). */
static inline float f32_of_f64_to_odd(double x) {
    const float nearest = (float)x;
    const double back = nearest;
    uint32_t u = bits_of_f32(nearest);
    if (back < x || back > x)
        u = (u - (fabs(back) > fabs(x))) | 1;
    return f32_of_bits(u);
}

static inline uint16_t f16_of_f64(double x) {
    return f16_of_f32(f32_of_f64_to_odd(x));
}

static inline uint16_t bf16_of_f64(double x) {
    return bf16_of_f32(f32_of_f64_to_odd(x));
}

static inline real v_round_to_f16(real x) {
    return (real)f32_of_f16(f16_of_f64(x));
}

static inline real v_round_to_bf16(real x) {
    return (real)f32_of_bf16(bf16_of_f64(x));
}

static inline real v_round_to_f32(real x) {
    return (real)(float)x;
}

#endif
