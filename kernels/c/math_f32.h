/* Pieces (basic.h): elementary functions of float, evaluated in double: the algorithms of
 * kernels/cpu/vector_math_f32.h, one number at a time. A double has 29 bits to spare, so one
 * formula over the whole range gives a float that is off by hardly more than its own rounding.
 * There are no calls and no tables in them, so a compiler makes vectors of loops over them. */
#ifndef SEGUE_KERNELS_C_MATH_F32_H
#define SEGUE_KERNELS_C_MATH_F32_H

#include "basic.h"

/* x held within [low, high]; NaN stays. */
static inline float f_within(float x, float low, float high) {
    return x < low ? low : x > high ? high : x;
}

/* x held within [low, high]; NaN stays. */
static inline double d_within(double x, double low, double high) {
    return x < low ? low : x > high ? high : x;
}

/* 2^n for an integer n that stands in the low bits of 1.5 * 2^52 + n, -1022 <= n <= 1023. */
static inline double d_power_of_two(double shifted) {
    uint64_t bits;
    double power;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 52) + 0x3ff0000000000000;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* x = 2^n * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), for positive normal x; returns n. The
 * biased exponent becomes the last bits of a double near 2^52. */
static inline double d_split_exponent(double x, double *f) {
    const uint64_t sqrt_half = 0x3fe6a09e667f3bcd, one = 0x3ff0000000000000;
    uint64_t bits, rest;
    double n;
    memcpy(&bits, &x, sizeof bits);
    bits += one - sqrt_half;
    rest = (bits & 0x000fffffffffffff) + sqrt_half;
    bits = bits >> 52 | 0x4330000000000000;
    memcpy(f, &rest, sizeof rest);
    memcpy(&n, &bits, sizeof n);
    *f -= 1;
    return n - (0x1p52 + 1023);
}

/* expm1(r) for |r| <= log(2) / 2; relative error 2^-31.9. */
static inline double near_expm1_reduced(double r) {
    double q = 0x1.a1aa96bb82d65p-13;
    q = d_fma(q, r, 0x1.6d754c741dbc3p-10);
    q = d_fma(q, r, 0x1.111085f7509fbp-7);
    q = d_fma(q, r, 0x1.5554acc592019p-5);
    q = d_fma(q, r, 0x1.555555959f011p-3);
    q = d_fma(q, r, 0x1.0000002884787p-1);
    q = d_fma(q, r, 0x1.ffffffffec3a3p-1);
    return q * r;
}

/* exp(x) = scale + scale * p, |x| <= 700: reduction by multiples of log(2), which one double serves
 * here (Cody and Waite, Software Manual for the Elementary Functions, chapter 6). */
static inline double near_exp_parts(double x, double *scale) {
    const double shift = 0x1.8p52;
    const double shifted = d_fma(x, 0x1.71547652b82fep0, shift);
    const double r = d_fma(shifted - shift, -0x1.62e42fefa39efp-1, x);
    *scale = d_power_of_two(shifted);
    return near_expm1_reduced(r);
}

static inline double near_exp(double x) {
    double scale;
    const double p = near_exp_parts(x, &scale);
    return d_fma(scale, p, scale);
}

static inline double near_expm1(double x) {
    double scale;
    const double p = near_exp_parts(x, &scale);
    return d_fma(scale, p, scale - 1);
}

static inline double near_exp2(double x) {
    const double shift = 0x1.8p52, shifted = x + shift;
    const double scale = d_power_of_two(shifted);
    const double p = near_expm1_reduced((x - (shifted - shift)) * 0x1.62e42fefa39efp-1);
    return d_fma(scale, p, scale);
}

/* x = 2^n * m, m in [sqrt(1/2), sqrt(2)): returns log(m) and n, for positive normal x. With
 * s = (m - 1) / (m + 1), log(m) = 2 atanh(s) = 2 s + s^3 R(s^2); relative error 2^-37. */
static inline double near_log_parts(double x, double *n) {
    double f;
    *n = d_split_exponent(x, &f);
    const double s = f / (f + 2), z = s * s;
    double q = 0x1.e2fdd52464194p-3;
    q = d_fma(q, z, 0x1.2438a85e8b53ap-2);
    q = d_fma(q, z, 0x1.999a7b3c1089fp-2);
    q = d_fma(q, z, 0x1.555554fd40ccfp-1);
    return d_fma(s * z, q, s + s);
}

static inline double near_log(double x) {
    double n;
    const double l = near_log_parts(x, &n);
    return d_fma(n, 0x1.62e42fefa39efp-1, l);
}

static inline double near_log2(double x) {
    double n;
    const double l = near_log_parts(x, &n);
    return d_fma(l, 0x1.71547652b82fep0, n);
}

static inline double near_log10(double x) {
    double n;
    const double l = near_log_parts(x, &n);
    return d_fma(n, 0x1.34413509f79ffp-2, l * 0x1.bcb7b1526e50ep-2);
}

/* log1p(e) for 0 <= e <= 1, by the same series on a longer interval; relative error 2^-38. */
static inline double near_log1p_unit(double e) {
    const double s = e / (e + 2), z = s * s;
    double q = 0x1.be4ed91531c81p-3;
    q = d_fma(q, z, 0x1.5f3025a5172afp-3);
    q = d_fma(q, z, 0x1.c8bc15f8e77ffp-3);
    q = d_fma(q, z, 0x1.248a561c0d94ep-2);
    q = d_fma(q, z, 0x1.9999bd2abd5f6p-2);
    q = d_fma(q, z, 0x1.5555553aeae1bp-1);
    return d_fma(s * z, q, s + s);
}

static inline double near_sigmoid(double x) {
    return 1 / (1 + near_exp(-x));
}

/* tanh(x) = (exp(2 x) - 1) / (exp(2 x) + 1) */
static inline double near_tanh(double x) {
    const double e = near_expm1(x + x);
    return e / (e + 2);
}

/* erf(x) = 1 - exp(-x R(x)) for 0 <= x <= 4, R(x) = -log(erfc(x)) / x; relative error 2^-31. */
static inline double near_erf(double x) {
    double q = 0x1.40533b27cca4dp-20;
    q = d_fma(q, x, -0x1.66457e9b6d6fap-16);
    q = d_fma(q, x, 0x1.5f3bc13862e54p-13);
    q = d_fma(q, x, -0x1.84553ad090e7ap-11);
    q = d_fma(q, x, 0x1.d7b09f1989d27p-10);
    q = d_fma(q, x, -0x1.095aa08c97cc7p-12);
    q = d_fma(q, x, -0x1.39396c7dc6666p-6);
    q = d_fma(q, x, 0x1.a4f37ea59948ep-4);
    q = d_fma(q, x, 0x1.45f308f2f873ep-1);
    q = d_fma(q, x, 0x1.20dd750227ab8p+0);
    return -near_expm1(-(q * x));
}

/* x * Phi(x). The normal distribution's tail is exp(-u^2 / 2) P(t) / (u + 4), u = |x|,
 * t = (u - 4) / (u + 4), the form of Shepherd and Laframboise (Chebyshev approximation of
 * (1 + 2 x) exp(x^2) erfc x, 1981); relative error 2^-32 for u <= 14.6, past which a float is 0. */
static inline double near_gelu(double x) {
    const double u = d_within(fabs(x), 0, 37);
    const double inverse = 1 / (u + 4);
    const double t = d_fma(inverse, -8, 1);
    double q = 0x1.0d0b81bfa5a9cp-16;
    q = d_fma(q, t, -0x1.c825e0a23c7adp-17);
    q = d_fma(q, t, -0x1.ca35973411bbdp-13);
    q = d_fma(q, t, 0x1.2dd92d741b980p-13);
    q = d_fma(q, t, 0x1.aaa9e98bfd457p-10);
    q = d_fma(q, t, -0x1.c8887797af972p-9);
    q = d_fma(q, t, -0x1.ee211ec566a9bp-8);
    q = d_fma(q, t, 0x1.eec5bcdb7c39dp-5);
    q = d_fma(q, t, -0x1.7dff2ee6502bfp-3);
    q = d_fma(q, t, 0x1.8c6dbdc4370ffp-2);
    q = d_fma(q, t, -0x1.373e3a847ab34p-1);
    q = d_fma(q, t, 0x1.82b4bb8de8a51p-1);
    const double tail = near_exp(u * u * -0.5) * inverse * q;
    return x * (x < 0 ? tail : 1 - tail);
}

/* 0.5 x (1 + tanh(u)) = x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3) */
static inline double near_gelu_tanh(double x) {
    const double cubic = -0x1.2444f2a4d8b4bp-4, linear = -0x1.9884533d43651p+0;
    const double argument = x * d_fma(cubic, x * x, linear);
    return x / (1 + near_exp(d_within(argument, -690, 690)));
}

static inline double near_silu(double x) {
    return x * near_sigmoid(d_within(x, -200, 200));
}

/* tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2), e = exp(x) */
static inline double near_mish(double x) {
    const double e = near_exp(d_within(x, -200, 100)), n = e * (e + 2);
    return x * (n / (n + 2));
}

/* log(1 + exp(x)) without overflow. */
static inline double near_softplus(double x) {
    const double e = near_exp(d_within(-fabs(x), -200, 0));
    return (0 > x ? 0 : x) + near_log1p_unit(e);
}

static inline float v_exp(float x) {
    return (float)near_exp(f_within(x, -160, 160));
}

static inline float v_exp2(float x) {
    return (float)near_exp2(f_within(x, -230, 230));
}

static inline float v_expm1(float x) {
    return copysignf((float)near_expm1(f_within(x, -40, 160)), x);
}

/* A logarithm's result r at the arguments its series does not cover. */
static inline float log_ends(float x, float r) {
    r = x < INFINITY ? r : x;
    return x > 0 ? r : x == 0 ? -INFINITY : x - x + NAN;
}

static inline float v_log(float x) {
    return log_ends(x, (float)near_log(x));
}

static inline float v_log2(float x) {
    return log_ends(x, (float)near_log2(x));
}

static inline float v_log10(float x) {
    return log_ends(x, (float)near_log10(x));
}

static inline double near_log1p(double x) {
    return near_log(1 + x);
}

static inline float v_log1p(float x) {
    /* 1 + x in double loses what matters only below 2^-24, where two terms of the series do. */
    const float r = (float)near_log1p(x);
    const float small = x - 0.5f * x * x;
    const float inside = log_ends(x + 1, r);
    return fabsf(x) < 0x1p-24f ? small : inside;
}

static inline float v_tanh(float x) {
    return copysignf((float)near_tanh(f_within(x, -10, 10)), x);
}

static inline float v_sigmoid(float x) {
    return (float)near_sigmoid(f_within(x, -150, 150));
}

static inline float v_erf(float x) {
    return copysignf((float)near_erf(f_within(fabsf(x), 0, 4)), x);
}

static inline float v_gelu(float x) {
    return vanishing(x, (float)near_gelu(x));
}

static inline float v_gelu_tanh(float x) {
    return vanishing(x, (float)near_gelu_tanh(x));
}

static inline float v_silu(float x) {
    return vanishing(x, (float)near_silu(x));
}

static inline float v_mish(float x) {
    return vanishing(x, (float)near_mish(x));
}

static inline float v_softplus(float x, double beta, double threshold) {
    const float r = (float)(near_softplus(x * beta) * (1 / beta));
    return x * (float)beta > (float)threshold ? x : r;
}

static inline float v_log_sigmoid(float x) {
    /* 0 - r: where nothing is left the result is positive zero. */
    return 0 - (float)near_softplus(-x);
}

static inline float v_pow(float x, float y) {
    return (float)pow((double)x, (double)y);
}

#endif
