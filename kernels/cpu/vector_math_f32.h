/* Elementary functions of float, evaluated in double. Only to be included by vector_math.h.
 *
 * Each vector of floats becomes two of doubles. A double has 29 bits to spare, so a polynomial good
 * to 2^-30 and a formula without regard for its rounding errors give a float that is off by hardly
 * more than its own rounding; where floats would need a compensated evaluation and a case for every
 * region (gelu and mish far left, softplus, expm1 near zero), one formula serves all. Range checks
 * stay on the float side, where they cost half.
 *
 * Polynomials are minimax fits by Remez' exchange, made with 45 digits; the bound stands beside
 * each.
 */
#ifndef SEGUE_KERNELS_CPU_VECTOR_MATH_F32_H
#define SEGUE_KERNELS_CPU_VECTOR_MATH_F32_H

/* Functions on doubles below: accurate to a float's needs, arguments within what their callers
 * check. */

/* 1 / x to 42 bits or better, for normal |x| < 2^1000. */
SG_INLINE D near_reciprocal(D x) {
#if SG_ISA_AVX512
    const D y = _mm512_rcp14_pd(x), e = d_fma(d_neg(x), y, d_splat(1));
    return d_fma(y, d_fma(e, e, e), y);
#else
    return d_splat(1) / x;
#endif
}

/* expm1(r) for |r| <= log(2) / 2; relative error 2^-31.9. */
SG_INLINE D near_expm1_reduced(D r) {
    D q = d_splat(0x1.a1aa96bb82d65p-13);
    q = d_fma(q, r, d_splat(0x1.6d754c741dbc3p-10));
    q = d_fma(q, r, d_splat(0x1.111085f7509fbp-7));
    q = d_fma(q, r, d_splat(0x1.5554acc592019p-5));
    q = d_fma(q, r, d_splat(0x1.555555959f011p-3));
    q = d_fma(q, r, d_splat(0x1.0000002884787p-1));
    q = d_fma(q, r, d_splat(0x1.ffffffffec3a3p-1));
    return q * r;
}

/* exp(x) = scale + scale * p, |x| <= 700: reduction by multiples of log(2), which one double serves
 * here (Cody and Waite, Software Manual for the Elementary Functions, chapter 6). */
SG_INLINE D near_exp_parts(D x, D *scale) {
    const D shift = d_splat(SG_ROUNDING_SHIFT);
    const D shifted = d_fma(x, d_splat(0x1.71547652b82fep0), shift);
    const D r = d_fma(shifted - shift, d_splat(-0x1.62e42fefa39efp-1), x);
    *scale = d_power_of_two(shifted);
    return near_expm1_reduced(r);
}
SG_INLINE D near_exp(D x) {
    D scale;
    const D p = near_exp_parts(x, &scale);
    return d_fma(scale, p, scale);
}
SG_INLINE D near_expm1(D x) {
    D scale;
    const D p = near_exp_parts(x, &scale);
    return d_fma(scale, p, scale - d_splat(1));
}
SG_INLINE D near_exp2(D x) {
    const D shift = d_splat(SG_ROUNDING_SHIFT), shifted = x + shift;
    const D scale = d_power_of_two(shifted);
    const D p = near_expm1_reduced((x - (shifted - shift)) * d_splat(0x1.62e42fefa39efp-1));
    return d_fma(scale, p, scale);
}

/* x = 2^n * m, m in [sqrt(1/2), sqrt(2)): returns log(m) and n, for positive normal x. With
 * s = (m - 1) / (m + 1), log(m) = 2 atanh(s) = 2 s + s^3 R(s^2); relative error 2^-37. */
SG_INLINE D near_log_parts(D x, D *n) {
    D f;
    *n = d_split_exponent(x, &f);
    const D s = f * near_reciprocal(f + d_splat(2)), z = s * s;
    D q = d_splat(0x1.e2fdd52464194p-3);
    q = d_fma(q, z, d_splat(0x1.2438a85e8b53ap-2));
    q = d_fma(q, z, d_splat(0x1.999a7b3c1089fp-2));
    q = d_fma(q, z, d_splat(0x1.555554fd40ccfp-1));
    return d_fma(s * z, q, s + s);
}
SG_INLINE D near_log(D x) {
    D n;
    const D l = near_log_parts(x, &n);
    return d_fma(n, d_splat(0x1.62e42fefa39efp-1), l);
}
SG_INLINE D near_log2(D x) {
    D n;
    const D l = near_log_parts(x, &n);
    return d_fma(l, d_splat(0x1.71547652b82fep0), n);
}
SG_INLINE D near_log10(D x) {
    D n;
    const D l = near_log_parts(x, &n);
    return d_fma(n, d_splat(0x1.34413509f79ffp-2), l * d_splat(0x1.bcb7b1526e50ep-2));
}

/* log1p(e) for 0 <= e <= 1, by the same series on a longer interval; relative error 2^-38. */
SG_INLINE D near_log1p_unit(D e) {
    const D s = e * near_reciprocal(e + d_splat(2)), z = s * s;
    D q = d_splat(0x1.be4ed91531c81p-3);
    q = d_fma(q, z, d_splat(0x1.5f3025a5172afp-3));
    q = d_fma(q, z, d_splat(0x1.c8bc15f8e77ffp-3));
    q = d_fma(q, z, d_splat(0x1.248a561c0d94ep-2));
    q = d_fma(q, z, d_splat(0x1.9999bd2abd5f6p-2));
    q = d_fma(q, z, d_splat(0x1.5555553aeae1bp-1));
    return d_fma(s * z, q, s + s);
}

SG_INLINE D near_sigmoid(D x) {
    return near_reciprocal(d_splat(1) + near_exp(d_neg(x)));
}

/* tanh(x) = (exp(2 x) - 1) / (exp(2 x) + 1) */
SG_INLINE D near_tanh(D x) {
    const D e = near_expm1(x + x);
    return e * near_reciprocal(e + d_splat(2));
}

/* erf(x) = 1 - exp(-x R(x)) for 0 <= x <= 4, R(x) = -log(erfc(x)) / x; relative error 2^-31. */
SG_INLINE D near_erf(D x) {
    D q = d_splat(0x1.40533b27cca4dp-20);
    q = d_fma(q, x, d_splat(-0x1.66457e9b6d6fap-16));
    q = d_fma(q, x, d_splat(0x1.5f3bc13862e54p-13));
    q = d_fma(q, x, d_splat(-0x1.84553ad090e7ap-11));
    q = d_fma(q, x, d_splat(0x1.d7b09f1989d27p-10));
    q = d_fma(q, x, d_splat(-0x1.095aa08c97cc7p-12));
    q = d_fma(q, x, d_splat(-0x1.39396c7dc6666p-6));
    q = d_fma(q, x, d_splat(0x1.a4f37ea59948ep-4));
    q = d_fma(q, x, d_splat(0x1.45f308f2f873ep-1));
    q = d_fma(q, x, d_splat(0x1.20dd750227ab8p+0));
    return d_neg(near_expm1(d_neg(q * x)));
}

/* x * Phi(x). The normal distribution's tail is exp(-u^2 / 2) P(t) / (u + 4), u = |x|,
 * t = (u - 4) / (u + 4), the form of Shepherd and Laframboise (Chebyshev approximation of
 * (1 + 2 x) exp(x^2) erfc x, 1981); relative error 2^-32 for u <= 14.6, past which a float is 0. */
SG_INLINE D near_gelu(D x) {
    const D u = d_min_second(d_abs(x), d_splat(37));
    const D inverse = near_reciprocal(u + d_splat(4));
    const D t = d_fma(inverse, d_splat(-8), d_splat(1));
    D q = d_splat(0x1.0d0b81bfa5a9cp-16);
    q = d_fma(q, t, d_splat(-0x1.c825e0a23c7adp-17));
    q = d_fma(q, t, d_splat(-0x1.ca35973411bbdp-13));
    q = d_fma(q, t, d_splat(0x1.2dd92d741b980p-13));
    q = d_fma(q, t, d_splat(0x1.aaa9e98bfd457p-10));
    q = d_fma(q, t, d_splat(-0x1.c8887797af972p-9));
    q = d_fma(q, t, d_splat(-0x1.ee211ec566a9bp-8));
    q = d_fma(q, t, d_splat(0x1.eec5bcdb7c39dp-5));
    q = d_fma(q, t, d_splat(-0x1.7dff2ee6502bfp-3));
    q = d_fma(q, t, d_splat(0x1.8c6dbdc4370ffp-2));
    q = d_fma(q, t, d_splat(-0x1.373e3a847ab34p-1));
    q = d_fma(q, t, d_splat(0x1.82b4bb8de8a51p-1));
    const D tail = near_exp(u * u * d_splat(-0.5)) * inverse * q;
    return x * d_select(x < d_splat(0), tail, d_splat(1) - tail);
}

/* 0.5 x (1 + tanh(u)) = x / (1 + exp(-2 u)) */
SG_INLINE D near_gelu_tanh(D x) {
    const D cubic = d_splat(-2 * SG_SQRT_TWO_OVER_PI * SG_GELU_CUBIC);
    const D linear = d_splat(-2 * SG_SQRT_TWO_OVER_PI);
    const D argument = x * d_fma(cubic, x * x, linear);
    return x * near_reciprocal(d_splat(1) + near_exp(d_within(argument, -690, 690)));
}

SG_INLINE D near_silu(D x) {
    return x * near_sigmoid(d_within(x, -200, 200));
}

/* tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2), e = exp(x) */
SG_INLINE D near_mish(D x) {
    const D e = near_exp(d_within(x, -200, 100)), n = e * (e + d_splat(2));
    return x * (n * near_reciprocal(n + d_splat(2)));
}

/* log(1 + exp(x)) without overflow. */
SG_INLINE D near_softplus(D x) {
    const D e = near_exp(d_max_second(d_splat(-200), d_neg(d_abs(x))));
    return d_max_second(d_splat(0), x) + near_log1p_unit(e);
}

/* The same on floats. */

#define SG_BOTH_HALVES(f, x) f_join(f(f_low(x)), f(f_high(x)))

SG_INLINE F f_exp(F x) {
    return SG_BOTH_HALVES(near_exp, f_within(x, -160, 160));
}
SG_INLINE F f_exp2(F x) {
    return SG_BOTH_HALVES(near_exp2, f_within(x, -230, 230));
}
SG_INLINE F f_expm1(F x) {
    return f_copysign(SG_BOTH_HALVES(near_expm1, f_within(x, -40, 160)), x);
}

/* A logarithm's result r at the arguments its series does not cover. */
SG_INLINE F f_log_ends(F x, F r) {
    const F zero = f_splat(0), infinity = f_splat(INFINITY);
    r = f_select(x < infinity, r, x);
    return f_select(x > zero, r, f_select(x == zero, f_neg(infinity), x - x + f_splat(NAN)));
}
SG_INLINE F f_log(F x) {
    return f_log_ends(x, SG_BOTH_HALVES(near_log, x));
}
SG_INLINE F f_log2(F x) {
    return f_log_ends(x, SG_BOTH_HALVES(near_log2, x));
}
SG_INLINE F f_log10(F x) {
    return f_log_ends(x, SG_BOTH_HALVES(near_log10, x));
}
SG_INLINE D near_log1p(D x) {
    return near_log(d_splat(1) + x);
}
SG_INLINE F f_log1p(F x) {
    /* 1 + x in double loses what matters only below 2^-24, where two terms of the series do. */
    const F r = SG_BOTH_HALVES(near_log1p, x);
    const F small = x - f_splat(0.5f) * x * x;
    const F inside = f_log_ends(x + f_splat(1), r);
    return f_select(f_abs(x) < f_splat(0x1p-24f), small, inside);
}

SG_INLINE F f_tanh(F x) {
    return f_copysign(SG_BOTH_HALVES(near_tanh, f_within(x, -10, 10)), x);
}
SG_INLINE F f_sigmoid(F x) {
    return SG_BOTH_HALVES(near_sigmoid, f_within(x, -150, 150));
}
SG_INLINE F f_erf(F x) {
    return f_copysign(SG_BOTH_HALVES(near_erf, f_within(f_abs(x), 0, 4)), x);
}

/* What PyTorch computes as x times something that reaches zero: NaN at minus infinity. */
SG_INLINE F f_vanishing(F x, F r) {
    return f_select(x == f_splat(-INFINITY), f_splat(NAN), r);
}
SG_INLINE F f_gelu(F x) {
    return f_vanishing(x, SG_BOTH_HALVES(near_gelu, x));
}
SG_INLINE F f_gelu_tanh(F x) {
    return f_vanishing(x, SG_BOTH_HALVES(near_gelu_tanh, x));
}
SG_INLINE F f_silu(F x) {
    return f_vanishing(x, SG_BOTH_HALVES(near_silu, x));
}
SG_INLINE F f_mish(F x) {
    return f_vanishing(x, SG_BOTH_HALVES(near_mish, x));
}

SG_INLINE F f_softplus(F x, double beta, double threshold) {
    const D b = d_splat(beta), inverse = d_splat(1 / beta);
    const F r =
        f_join(near_softplus(f_low(x) * b) * inverse, near_softplus(f_high(x) * b) * inverse);
    return f_select(x * f_splat((float)beta) > f_splat((float)threshold), x, r);
}
SG_INLINE F f_log_sigmoid(F x) {
    /* 0 - r: where nothing is left the result is positive zero. */
    return f_splat(0) - SG_BOTH_HALVES(near_softplus, f_neg(x));
}

/* |x|^y = 2^(y log2 |x|), then the rules of C's pow (C17, F.10.4.4). */
SG_INLINE D near_pow(D x, D y) {
    D l = near_log2(x);
    l = d_select(x == d_splat(0), d_splat(-INFINITY), l);
    l = d_select(x < d_splat(INFINITY), l, x);
    return near_exp2(d_within(y * l, -300, 300));
}
SG_INLINE F f_pow(F x, F y) {
    const F one = f_splat(1), m = f_abs(x), half = y * f_splat(0.5f);
    F r = f_join(near_pow(f_low(m), f_low(y)), near_pow(f_high(m), f_high(y)));
    r = f_select((m == one) & (y == y), one, r);
    const FI integral = f_trunc(y) == y;
    const FI odd = integral & (f_trunc(half) != half) & (f_abs(y) < f_splat(0x1p24f));
    r = (F)((FI)r ^ (odd & (FI)x & f_sign_bit()));
    r = f_select((x < f_splat(0)) & (x > f_splat(-INFINITY)) & ~integral, f_splat(NAN), r);
    return f_select((x == one) | (y == f_splat(0)), one, r);
}

#endif
