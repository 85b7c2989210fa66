/* What the reference column of ops.def needs beyond math.h, in float64. The order operations differ
 * from C's: a NaN operand gives NaN, and of equal operands (-0.0 and 0.0 among them) the first is
 * the result, as std::min and std::max have it. */
#ifndef SEGUE_IR_REFERENCE_MATH_H
#define SEGUE_IR_REFERENCE_MATH_H

#include <math.h>

#include "ir/constants.h"

static inline double ref_min(double a, double b) {
    return isnan(a) || !(isnan(b) || b < a) ? a : b;
}

static inline double ref_max(double a, double b) {
    return isnan(a) || !(isnan(b) || a < b) ? a : b;
}

static inline double ref_sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

static inline double ref_silu(double x) {
    return x / (1 + exp(-x));
}

static inline double ref_softplus(double x, double beta, double threshold) {
    return x * beta > threshold ? x : log1p(exp(x * beta)) / beta;
}

static inline double ref_mish(double x) {
    /* exp overflows far above where log1p(exp(x)) is x. */
    return x * tanh(x > 40 ? x : log1p(exp(x)));
}

static inline double ref_log_sigmoid(double x) {
    return ref_min(x, 0) - log1p(exp(-fabs(x)));
}

static inline double ref_gelu_tanh(double x) {
    /* (1 + tanh(u)) / 2 is sigmoid(2 u), which does not cancel for negative u. */
    return x * ref_sigmoid(2 * SG_SQRT_TWO_OVER_PI * (x + SG_GELU_CUBIC * x * x * x));
}

#endif
