/* Elementary functions, with the meaning of PyTorch's at NaN, infinities, signed zero and subnormal
 * numbers.
 *
 * For skeletons: of one `real`, float or double, by the names that the op table's `vector` column
 * is written in (src/ir/ops.def), so that the column which serves the CPU's vectors serves the
 * GPU's scalars too. v_min, v_max and v_round_to_* stand in common.cuh. CUDA's own functions, which
 * the tail calls by their names (src/gen/cuda/tail_ops.c), are taken where they are as good as the
 * table asks (their bounds stand in the CUDA C++ Programming Guide, "Mathematical Functions"): none
 * of the fast ones is, and exp is not where more is built on it. */
namespace ops {

__device__ __forceinline__ constexpr real K(double x) {
    return real(x);
}

constexpr double SQRT_HALF = 0.70710678118654752440084436210485;

__device__ __forceinline__ real v_mask(bool x) {
    return x ? real(1) : real(0);
}
__device__ __forceinline__ real v_to_bool(real x) {
    return v_mask(x != real(0));
}
__device__ __forceinline__ real v_select(bool condition, real a, real b) {
    return condition ? a : b;
}

/* ---- exponentials -------------------------------------------------------------------------- */

/* (value + rest) * scale: rest is what value rounded away; value is normal, and a power of two is
 * set apart so that a result that is subnormal is rounded once, when all is multiplied. */
struct scaled_exp {
    float value, rest, scale;
};

/* 2^n exp(r + rest) for |r| <= 0.35, |rest| below a rounding of r, -240 <= n <= 250. The polynomial
 * is (exp(r) - 1 - r) / r^2; with r^2 its error is below 2^-27. */
__device__ __forceinline__ scaled_exp exp_reduced(int n, float r, float rest) {
    float q = 0x1.6a1a8ep-10f;
    q = fmaf(q, r, 0x1.123fb4p-7f);
    q = fmaf(q, r, 0x1.555916p-5f);
    q = fmaf(q, r, 0x1.55548ap-3f);
    q = fmaf(q, r, 0x1.fffffcp-2f);
    const float bent = fmaf(r * r, q, rest), t = r + bent, e = 1.0f + t;
    const int half = n >> 1;
    const float power = __int_as_float((half + 127) << 23);
    scaled_exp result;
    result.value = e * power;
    result.rest = ((t - (e - 1.0f)) + (bent - (t - r))) * power;
    result.scale = __int_as_float((n - half + 127) << 23);
    return result;
}

/* exp(x + rest), |rest| below a few roundings of x, for x up to 89 and down to -160, further out as
 * there; log(2) in two parts, the first short enough that its product with n is exact (Cody and
 * Waite 1980). */
__device__ __forceinline__ scaled_exp exp_scaled(float x, float rest) {
    const float y = v_min(v_max(x, -160.0f), 89.0f);
    const float shifted = fmaf(y, 0x1.715476p+0f, 0x1.8p23f), n = shifted - 0x1.8p23f;
    const float part = fmaf(n, -0x1.62e4p-1f, y);
    const float near = fmaf(n, -0x1.7f7d1cp-20f, part), r = near + rest;
    const float lost = fmaf(n, -0x1.7f7d1cp-20f, part - near) + (rest - (r - near));
    return exp_reduced(__float_as_int(shifted) - 0x4b400000, r, lost);
}
__device__ __forceinline__ float exp_sum(float x, float rest) {
    const scaled_exp e = exp_scaled(x, rest);
    return e.value * e.scale;
}
__device__ __forceinline__ double exp_sum(double x, double rest) {
    const double e = exp(x);
    return fma(e, rest, e);
}
__device__ __forceinline__ float v_exp2(float x) {
    const float y = v_min(v_max(x, -160.0f), 129.0f);
    const float shifted = y + 0x1.8p23f, f = y - (shifted - 0x1.8p23f);
    const float r = f * 0x1.62e43p-1f, rest = fmaf(f, 0x1.62e43p-1f, -r) + f * -0x1.05c61p-29f;
    const scaled_exp e = exp_reduced(__float_as_int(shifted) - 0x4b400000, r, rest);
    return e.value * e.scale;
}
__device__ __forceinline__ double v_exp2(double x) {
    return exp2(x);
}
/* CUDA's powf may be off by more than the table allows. */
__device__ __forceinline__ real v_pow(real x, real y) {
    return real(pow(double(x), double(y)));
}

/* ---- built of these ------------------------------------------------------------------------ */

/* a + b = *sum + the result, exactly (Knuth, TAOCP vol. 2, section 4.2.2, theorem B). */
template <class T> __device__ __forceinline__ T sum_error(T a, T b, T *sum) {
    const T s = sum_rounded(a, b), part = sum_rounded(s, -a);
    *sum = s;
    return sum_rounded(sum_rounded(a, -sum_rounded(s, -part)), sum_rounded(b, -part));
}

/* n / (d + rest), |rest| a rounding of d, d in [1, 2^100]. */
__device__ __forceinline__ float quotient(float n, float d, float rest) {
    const float inverse = __fdividef(1.0f, d), q = n * inverse;
    return fmaf(inverse, fmaf(-q, rest, fmaf(-q, d, n)), q);
}
__device__ __forceinline__ double quotient(double n, double d, double rest) {
    return (n - n / d * rest) / d;
}
/* n / (1 + e) for 0 <= e <= 1. */
__device__ __forceinline__ real over_one_plus(real n, real e) {
    const real d = sum_rounded(real(1), e);
    return quotient(n, d, sum_rounded(e, -sum_rounded(d, real(-1))));
}

/* What PyTorch computes as x times something that reaches zero: NaN at minus infinity. */
__device__ __forceinline__ real vanishing(real x, real r) {
    return x == -infinity() ? x - x : r;
}

/* 1 / (1 + e) or e / (1 + e), e = exp(-|x|): small results keep all their digits. */
__device__ __forceinline__ real v_sigmoid(real x) {
    const real e = exp_sum(-fabs(x), real(0));
    return over_one_plus(x < real(0) ? e : real(1), e);
}

/* x e / (1 + e) for e = exp(-|x|), x < 0, or x / (1 + e). */
__device__ __forceinline__ float v_silu(float x) {
    const scaled_exp e = exp_scaled(-fabsf(x), 0.0f);
    const float left = over_one_plus(x < 0.0f ? e.value : 1.0f, e.value * e.scale);
    return x < 0.0f ? vanishing(x, fmaxf(x, -160.0f) * left * e.scale) : x * left;
}
__device__ __forceinline__ double v_silu(double x) {
    const double e = exp(-fabs(x));
    return (x < 0 ? x * e : x) / (1 + e);
}

/* x Phi(x). In float the normal distribution's tail is exp(-u^2 / 2) P(t) / (u + 4), u = |x|,
 * t = (u - 4) / (u + 4) = 1 - 8 / (u + 4), the form of Shepherd and Laframboise (Chebyshev
 * approximation of (1 + 2 x) exp(x^2) erfc x, 1981); P is the CPU's
 * (kernels/cpu/vector_math_f32.h). The quotient, t and the last steps of P, where roundings would
 * tell, are pairs. */
__device__ __forceinline__ float v_gelu(float x) {
    const float u = fminf(fabsf(x), 16.0f), square = u * u;
    float s;
    const float s_rest = sum_error(u, 4.0f, &s);
    const float inverse = 1.0f / s;
    const float inverse_rest = inverse * (fmaf(-s, inverse, 1.0f) - s_rest * inverse);
    const float t = fmaf(-8.0f, inverse, 1.0f);
    const float t_rest = fmaf(-8.0f, inverse, 1.0f - t) - 8.0f * inverse_rest;
    float q = 0x1.0d0b82p-16f;
    q = fmaf(q, t, -0x1.c825e0p-17f);
    q = fmaf(q, t, -0x1.ca3598p-13f);
    q = fmaf(q, t, 0x1.2dd92ep-13f);
    q = fmaf(q, t, 0x1.aaa9eap-10f);
    q = fmaf(q, t, -0x1.c88878p-9f);
    q = fmaf(q, t, -0x1.ee211ep-8f);
    q = fmaf(q, t, 0x1.eec5bcp-5f);
    q = fmaf(q, t, -0x1.7dff2ep-3f);
    q = fmaf(q, t, 0x1.8c6dbep-2f);
    const float q1 = fmaf(q, t, -0x1.373e3ap-1f);
    const float rest1 = fmaf(q, t, -0x1.373e3ap-1f - q1) + fmaf(q, t_rest, -0x1.08f566p-26f);
    const float q0 = fmaf(q1, t, 0x1.82b4bcp-1f), lost = fmaf(q1, t, 0x1.82b4bcp-1f - q0);
    const float rest0 = fmaf(rest1, t, lost) + fmaf(q1, t_rest, -0x1.c85d6cp-27f);
    const scaled_exp e = exp_scaled(-0.5f * square, -0.5f * fmaf(u, u, -square));
    const float top = e.value * q0, lost_top = fmaf(e.value, q0, -top);
    const float top_rest = lost_top + fmaf(e.value, rest0, e.rest * q0);
    const float tail = fmaf(top, inverse, fmaf(top, inverse_rest, top_rest * inverse));
    return x < 0.0f ? vanishing(x, -u * tail * e.scale) : x * (1.0f - tail * e.scale);
}
/* In double it is x erfc(-x / sqrt(2)) / 2. Far left erfc multiplies a relative error of its
 * argument by 2 t^2, so what the scaled argument rounded away is put back, through the logarithmic
 * derivative of erfc. */
__device__ __forceinline__ double v_gelu(double x) {
    const double t = -x * SQRT_HALF;
    if (!(t > 1 && t < 40))
        return 0.5 * x * erfc(t);
    const double rest = fma(-x, SQRT_HALF, -t) + -x * -0x1.bdd3413b26456p-55;
    const double slope = -2 * t * (1 + 1 / (2 * t * t + 1));
    return 0.5 * x * (erfc(t) * (1 + slope * rest));
}

/* x / (1 + exp(y)), y = x (linear + cubic x^2), linear = -2 sqrt(2 / pi), cubic = 0.044715 linear
 * (src/ir/constants.h). y is evaluated as a pair, since far left the exponential turns its absolute
 * error into a relative one. */
__device__ __forceinline__ real v_gelu_tanh(real x) {
    const double linear = -0x1.9884533d43651p+0, cubic = -0x1.2444f2a4d8b4bp-4;
    const real linear_rest = K(REAL_IS_DOUBLE ? 0x1.cbc0d30ebfd15p-54 : linear - double(K(linear)));
    const real cubic_rest = K(REAL_IS_DOUBLE ? 0x1.6c843a29d1c70p-61 : cubic - double(K(cubic)));
    /* Beyond, the result is x or nothing. */
    const real limit = REAL_IS_DOUBLE ? real(40) : real(14);
    const real z = x > limit ? limit : x < -limit ? -limit : x;
    const real square = z * z, square_rest = fma(z, z, -square);
    const real bent = K(cubic) * square;
    const real bent_rest =
        fma(K(cubic), square, -bent) + K(cubic) * square_rest + cubic_rest * square;
    real sum;
    const real sum_rest = sum_error(K(linear), bent, &sum) + bent_rest + linear_rest;
    const real y = z * sum, rest = fma(z, sum, -y) + z * sum_rest;
    const real e = exp_sum(-fabs(y), y > real(0) ? -rest : rest);
    return vanishing(x, (y > real(0) ? z : x) * over_one_plus(y > real(0) ? e : real(1), e));
}

/* tanh(log(1 + e)) = n / (n + 2), n = e^2 + 2 e, e = exp(x); past 40 it is 1. */
__device__ __forceinline__ float v_mish(float x) {
    const scaled_exp s = exp_scaled(v_min(x, 40.0f), 0.0f);
    const float e = s.value * s.scale, n = fmaf(e, e, 2.0f * e);
    float below;
    const float rest = sum_error(n, 2.0f, &below);
    float top;
    const float top_rest = sum_error(2.0f, e, &top);
    const float ratio = quotient(
        fmaf(s.value, top, fmaf(s.value, top_rest, s.rest * top)), below, rest);
    return x < 0.0f ? vanishing(x, fmaxf(x, -160.0f) * ratio * s.scale) : x * (ratio * s.scale);
}
__device__ __forceinline__ double v_mish(double x) {
    const double e = exp(x > 40 ? 40 : x), n = e * (e + 2);
    return x * (n / (n + 2));
}

/* log(1 + exp(x + rest)) without overflow. */
__device__ __forceinline__ real softplus_sum(real x, real rest) {
    const real e = exp_sum(-fabs(x), x > real(0) ? -rest : rest);
    return (x > real(0) ? x + rest : real(0)) + log1p(e);
}
__device__ __forceinline__ real v_softplus(real x, double beta, double threshold) {
    const real b = K(beta), y = x * b;
    const real rest = fma(x, b, -y) + x * K(beta - double(b));
    /* An infinite x has no rest; NaN passes on. */
    const real r = softplus_sum(y, rest == rest ? rest : real(0)) / b;
    return y > K(threshold) ? x : r;
}
__device__ __forceinline__ real v_log_sigmoid(real x) {
    return real(0) - softplus_sum(-x, real(0));
}

} // namespace ops
