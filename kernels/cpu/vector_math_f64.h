/* Elementary functions of double. Only to be included by vector_math.h.
 *
 * The frequent ones are vectors, evaluated with the last roundings compensated: a *pair* high + low
 * carries what the high part rounded away. The rest calls the C library for each lane. Polynomials
 * are minimax fits by Remez' exchange, made with 45 digits; the bound stands beside each. */
#ifndef SEGUE_KERNELS_CPU_VECTOR_MATH_F64_H
#define SEGUE_KERNELS_CPU_VECTOR_MATH_F64_H

typedef struct d_pair {
    D high, low;
} d_pair;

/* a + b exactly, for |a| >= |b| or a == 0 (Dekker 1971). */
SG_INLINE d_pair d_fast_two_sum(D a, D b) {
    const D s = a + b;
    return (d_pair){s, b - (s - a)};
}

/* a * b - p exactly, p = a * b rounded: fused, or by Veltkamp's splitting (Dekker 1971). */
SG_INLINE D d_product_error(D a, D b, D p) {
#if SG_HAS_FMA
    return d_fma(a, b, d_neg(p));
#else
    const D splitter = d_splat(0x1p27 + 1);
    const D ca = splitter * a, ah = ca - (ca - a), al = a - ah;
    const D cb = splitter * b, bh = cb - (cb - b), bl = b - bh;
    return al * bl - (((p - ah * bh) - al * bh) - ah * bl);
#endif
}

/* n / d to nearly a rounding. */
SG_INLINE D d_divide_pairs(d_pair n, d_pair d) {
    const D q = n.high / d.high, p = q * d.high;
    const D rest = ((n.high - p) - d_product_error(q, d.high, p)) + (n.low - q * d.low);
    return q + rest / d.high;
}

/* exp(x) = 2^n (1 + r + tail), |r| <= log(2) / 2, n in `shifted` as d_power_of_two takes it; for
 * |x| < 1100. log(2) is split so that n times its high part is exact (Cody and Waite 1980). The
 * polynomial is (expm1(r) - r) / r^2, absolute error times r below 2^-61. */
SG_INLINE D d_exp_parts(D x, D *shifted, D *tail) {
    const D shift = d_splat(SG_ROUNDING_SHIFT);
    *shifted = d_fma(x, d_splat(0x1.71547652b82fep0), shift);
    const D n = *shifted - shift;
    const D high = x - n * d_splat(0x1.62e42feep-1), low = n * d_splat(0x1.a39ef35793c76p-33);
    const D r = high - low;
    D q = d_splat(0x1.1f954540d9852p-29);
    q = d_fma(q, r, d_splat(0x1.af5ebf09b7db5p-26));
    q = d_fma(q, r, d_splat(0x1.27e4c5b7536c4p-22));
    q = d_fma(q, r, d_splat(0x1.71ddf853a363bp-19));
    q = d_fma(q, r, d_splat(0x1.a01a01b0aae33p-16));
    q = d_fma(q, r, d_splat(0x1.a01a01afe520dp-13));
    q = d_fma(q, r, d_splat(0x1.6c16c16c1447ep-10));
    q = d_fma(q, r, d_splat(0x1.111111110f6afp-7));
    q = d_fma(q, r, d_splat(0x1.555555555555ap-5));
    q = d_fma(q, r, d_splat(0x1.5555555555559p-3));
    q = d_fma(q, r, d_splat(0.5));
    *tail = d_fma(r * r, q, (high - r) - low);
    return r;
}

/* x * 2^n for any n in (-2040, 2040), rounding once. */
SG_INLINE D d_scale(D x, D shifted) {
    const D shift = d_splat(SG_ROUNDING_SHIFT), n = shifted - shift;
#if SG_ISA_AVX512
    return _mm512_scalef_pd(x, n);
#else
    const D first = d_fma(n, d_splat(0.5), shift);
    return x * d_power_of_two(first) * d_power_of_two((n - (first - shift)) + shift);
#endif
}

/* exp(x) as a pair, for -700 <= x <= 700. */
SG_INLINE d_pair d_exp_pair(D x) {
    D shifted, tail;
    const D r = d_exp_parts(x, &shifted, &tail), scale = d_power_of_two(shifted);
    d_pair e = d_fast_two_sum(d_splat(1), r);
    e = d_fast_two_sum(e.high, e.low + tail);
    return (d_pair){e.high * scale, e.low * scale};
}
SG_INLINE D d_exp(D x) {
    D shifted, tail;
    const D r = d_exp_parts(d_within(x, -800, 800), &shifted, &tail);
    const d_pair e = d_fast_two_sum(d_splat(1), r);
    return d_scale(e.high + (e.low + tail), shifted);
}

/* expm1(x) / 2 as a pair, for -60 <= x <= 710: halved so that 2^1024 does not occur. */
SG_INLINE d_pair d_half_expm1_pair(D x) {
    D shifted, tail;
    const D r = d_exp_parts(x, &shifted, &tail), scale = d_power_of_two(shifted - d_splat(1));
    const d_pair e = d_fast_two_sum(scale - d_splat(0.5), scale * r);
    return d_fast_two_sum(e.high, e.low + scale * tail);
}
SG_INLINE D d_expm1(D x) {
    const D e = d_half_expm1_pair(d_within(x, -60, 710)).high;
    return d_select(d_abs(x) < d_splat(0x1p-54), x, e + e);
}

/* log(1 + f) + n log(2) + c, f in [sqrt(1/2) - 1, sqrt(2) - 1], in the order of FreeBSD's e_log.c,
 * so that small terms meet first. Relative error of the series 2^-59. */
SG_INLINE D d_log_sum(D f, D n, D c) {
    const D s = f / (f + d_splat(2)), z = s * s, square = d_splat(0.5) * f * f;
    D q = d_splat(0x1.2f0d8f59b147cp-3);
    q = d_fma(q, z, d_splat(0x1.39a0f500b04d2p-3));
    q = d_fma(q, z, d_splat(0x1.7466462bb60e6p-3));
    q = d_fma(q, z, d_splat(0x1.c71c51e80182ap-3));
    q = d_fma(q, z, d_splat(0x1.24924942178a7p-2));
    q = d_fma(q, z, d_splat(0x1.999999997fb34p-2));
    q = d_fma(q, z, d_splat(0x1.5555555555593p-1));
    const D low = d_fma(n, d_splat(0x1.a39ef35793c76p-33), c);
    return n * d_splat(0x1.62e42feep-1) - ((square - (s * d_fma(q, z, square) + low)) - f);
}
SG_INLINE D d_log_ends(D x, D r) {
    const D zero = d_splat(0), infinity = d_splat(INFINITY);
    r = d_select(x < infinity, r, x);
    return d_select(x > zero, r, d_select(x == zero, d_neg(infinity), x - x + d_splat(NAN)));
}
SG_INLINE D d_log(D x) {
    const DI subnormal = x < d_splat(DBL_MIN);
    D f;
    const D n = d_split_exponent(d_select(subnormal, x * d_splat(0x1p54), x), &f);
    return d_log_ends(x,
                      d_log_sum(f, n - d_select(subnormal, d_splat(54), d_splat(0)), d_splat(0)));
}
SG_INLINE D d_log1p(D x) {
    const D u = x + d_splat(1), v = u - d_splat(1);
    const D error = (d_splat(1) - (u - v)) + (x - v); /* 1 + x = u + error */
    D f;
    const D n = d_split_exponent(u, &f), r = d_log_ends(u, d_log_sum(f, n, error / u));
    return d_select(d_abs(x) < d_splat(0x1p-54), x, r);
}

/* exp(-|x|) and 1 share the numerator: sigmoid(x) = 1 / (1 + e) or e / (1 + e). */
SG_INLINE D d_sigmoid(D x) {
    const d_pair e = d_exp_pair(d_max_second(d_splat(-700), d_neg(d_abs(x))));
    d_pair sum = d_fast_two_sum(d_splat(1), e.high);
    sum.low += e.low;
    const DI negative = x < d_splat(0);
    const d_pair top = {d_select(negative, e.high, d_splat(1)),
                        d_select(negative, e.low, d_splat(0))};
    const D r = d_divide_pairs(top, sum);
    /* Far left the sum is 1 and the result may be subnormal. */
    return d_select(x < d_splat(-700), d_exp(x), r);
}

/* tanh(x) = expm1(2 x) / (expm1(2 x) + 2) */
SG_INLINE D d_tanh(D x) {
    const D m = d_within(d_abs(x), 0, 22);
    const d_pair e = d_half_expm1_pair(m + m);
    const D sum = e.high + d_splat(1), part = sum - e.high;
    const D error = (e.high - (sum - part)) + (d_splat(1) - part);
    const D r = d_divide_pairs(e, (d_pair){sum, error + e.low});
    return d_copysign(d_select(m < d_splat(0x1p-28), m, r), x);
}

#define SG_EACH_LANE(expression)                                                                   \
    do {                                                                                           \
        D r;                                                                                       \
        for (int i = 0; i < SG_F64_LENGTH; i++)                                                    \
            r[i] = expression;                                                                     \
        return r;                                                                                  \
    } while (0)

SG_INLINE D d_exp2(D x) {
    SG_EACH_LANE(exp2(x[i]));
}
SG_INLINE D d_log2(D x) {
    SG_EACH_LANE(log2(x[i]));
}
SG_INLINE D d_log10(D x) {
    SG_EACH_LANE(log10(x[i]));
}
SG_INLINE D d_pow(D x, D y) {
    SG_EACH_LANE(pow(x[i], y[i]));
}
SG_INLINE D d_erf(D x) {
    SG_EACH_LANE(erf(x[i]));
}

/* What PyTorch computes as x times something that reaches zero: NaN at minus infinity. */
SG_INLINE D d_vanishing(D x, D r) {
    return d_select(x == d_splat(-INFINITY), d_splat(NAN), r);
}

/* x * Phi(x) = x erfc(-x / sqrt(2)) / 2. Far left erfc multiplies a relative error of its argument
 * by 2 t^2, so what the scaled argument rounded away has to be put back, through the logarithmic
 * derivative of erfc. */
static inline double gelu_lane(double x) {
    const double t = -x * SG_SQRT_HALF;
    if (!(t > 1 && t < 40))
        return 0.5 * x * erfc(t);
    const double rest = d_product_error(d_splat(-x), d_splat(SG_SQRT_HALF), d_splat(t))[0] +
                        -x * -0x1.bdd3413b26456p-55;
    const double slope = -2 * t * (1 + 1 / (2 * t * t + 1));
    return 0.5 * x * (erfc(t) * (1 + slope * rest));
}
SG_INLINE D d_gelu(D x) {
    SG_EACH_LANE(gelu_lane(x[i]));
}

/* x sigmoid(u), u = x (linear + cubic x^2). The argument is evaluated as a pair, since far left the
 * sigmoid is exp(u) and turns u's absolute error into its relative one. */
SG_INLINE D d_gelu_tanh(D x) {
    const D linear = d_splat(2 * SG_SQRT_TWO_OVER_PI), cubic = d_splat(0x1.2444f2a4d8b4bp-4);
    const D y = d_within(x, -40, 40), square = y * y, high = cubic * square;
    const D low = d_product_error(cubic, square, high) + cubic * d_product_error(y, y, square) +
                  square * d_splat(-0x1.6c843a29d1c70p-61);
    const D sum = linear + high, part = sum - linear;
    const D rest =
        ((linear - (sum - part)) + (high - part)) + (low + d_splat(-0x1.cbc0d30ebfd15p-54));
    const D u = y * sum, error = d_product_error(y, sum, u) + y * rest, s = d_sigmoid(u);
    return d_vanishing(x, x * d_fma(s * (d_splat(1) - s), error, s));
}

/* x exp(x) where exp(x) is subnormal: in two halves, so that only the product is. */
SG_INLINE D d_far_left(D x) {
    const d_pair half = d_exp_pair(d_within(x, -1400, 0) * d_splat(0.5));
    return (x * half.high) * (half.high + (half.low + half.low));
}
SG_INLINE D d_silu(D x) {
    return d_vanishing(x, d_select(x < d_splat(-700), d_far_left(x), x * d_sigmoid(x)));
}

/* tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2), e = exp(x) */
SG_INLINE D d_mish(D x) {
    const d_pair e = d_exp_pair(d_within(x, -700, 40));
    const D square = e.high * e.high, twice = e.high + e.high;
    const D square_error = d_product_error(e.high, e.high, square);
    const D sum = twice + square, part = sum - twice;
    const d_pair n = {sum, ((twice - (sum - part)) + (square - part)) + square_error +
                               (e.low + e.low) * (e.high + d_splat(1))};
    const D below = n.high + d_splat(2), rest = below - n.high;
    const D below_error = (n.high - (below - rest)) + (d_splat(2) - rest);
    const D ratio = d_divide_pairs(n, (d_pair){below, below_error + n.low});
    return d_vanishing(x, d_select(x < d_splat(-700), d_far_left(x), x * ratio));
}

SG_INLINE D d_softplus_one(D x) {
    return d_max_second(d_splat(0), x) + d_log1p(d_exp(d_neg(d_abs(x))));
}
SG_INLINE D d_softplus(D x, double beta, double threshold) {
    const D y = x * d_splat(beta);
    return d_select(y > d_splat(threshold), x, d_softplus_one(y) / d_splat(beta));
}
SG_INLINE D d_log_sigmoid(D x) {
    return d_splat(0) - d_softplus_one(d_neg(x));
}

#endif
