/* Pieces (basic.h): elementary functions of double, from the C library and built of its own. Where
 * an argument's rounding would tell in the result, it is put back. */
#ifndef SEGUE_KERNELS_C_MATH_F64_H
#define SEGUE_KERNELS_C_MATH_F64_H

#define SEGUE_REAL double
#include "basic.h"

static inline double v_exp(double x) {
    return exp(x);
}

static inline double v_exp2(double x) {
    return exp2(x);
}

static inline double v_expm1(double x) {
    return expm1(x);
}

static inline double v_log(double x) {
    return log(x);
}

static inline double v_log1p(double x) {
    return log1p(x);
}

static inline double v_log2(double x) {
    return log2(x);
}

static inline double v_log10(double x) {
    return log10(x);
}

static inline double v_pow(double x, double y) {
    return pow(x, y);
}

static inline double v_erf(double x) {
    return erf(x);
}

static inline double v_tanh(double x) {
    return tanh(x);
}

/* 1 / (1 + e) or e / (1 + e), e = exp(-|x|): small results keep all their digits. */
static inline double v_sigmoid(double x) {
    const double e = exp(-fabs(x));
    return (x < 0 ? e : 1) / (1 + e);
}

static inline double v_silu(double x) {
    const double e = exp(-fabs(x));
    return (x < 0 ? x * e : x) / (1 + e);
}

/* x erfc(-x / sqrt(2)) / 2. Far left erfc multiplies a relative error of its argument by 2 t^2, so
 * what the scaled argument rounded away is put back, through the logarithmic derivative of erfc. */
static inline double v_gelu(double x) {
    const double sqrt_half = 0x1.6a09e667f3bcdp-1, t = -x * sqrt_half;
    if (!(t > 1 && t < 40))
        return 0.5 * x * erfc(t);
    const double rest = fma(-x, sqrt_half, -t) + -x * -0x1.bdd3413b26456p-55;
    const double slope = -2 * t * (1 + 1 / (2 * t * t + 1));
    return 0.5 * x * (erfc(t) * (1 + slope * rest));
}

/* x / (1 + exp(y)), y = x (linear + cubic x^2), linear = -2 sqrt(2 / pi), cubic = 0.044715 linear.
 * y is a pair, since far left the exponential turns its absolute error into a relative one. */
static inline double v_gelu_tanh(double x) {
    const double linear = -0x1.9884533d43651p+0, cubic = -0x1.2444f2a4d8b4bp-4;
    const double z = x > 40 ? 40 : x < -40 ? -40 : x, square = z * z, bent = cubic * square;
    const double bent_rest =
        fma(cubic, square, -bent) + cubic * fma(z, z, -square) + 0x1.6c843a29d1c70p-61 * square;
    const double sum = linear + bent, part = sum - linear;
    const double rest = (linear - (sum - part)) + (bent - part) + bent_rest + 0x1.cbc0d30ebfd15p-54;
    const double y = z * sum, y_rest = fma(z, sum, -y) + z * rest;
    const double raised = exp(-fabs(y)), e = raised * (1 + (y > 0 ? -y_rest : y_rest));
    return vanishing(x, (y > 0 ? z * e : x) / (1 + e));
}

/* tanh(log(1 + e)) = n / (n + 2), n = e^2 + 2 e, e = exp(x); past 40 it is 1. */
static inline double v_mish(double x) {
    const double e = exp(x > 40 ? 40 : x), n = e * (e + 2);
    return x * (n / (n + 2));
}

/* log(1 + exp(x)) without overflow. */
static inline double softplus_one(double x) {
    return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
}

static inline double v_softplus(double x, double beta, double threshold) {
    const double y = x * beta;
    return y > threshold ? x : (y != y ? y : softplus_one(y) / beta);
}

static inline double v_log_sigmoid(double x) {
    return x != x ? x : 0 - softplus_one(-x);
}

#endif
