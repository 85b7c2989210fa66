/* For skeletons, which all begin with this: the compute type `real`, elements as they lie in
 * memory, places and strides, reductions. NVRTC is given no headers, so nothing here comes from
 * one: the narrow formats are bits that PTX converts. */
//@ real

constexpr bool REAL_IS_DOUBLE = sizeof(real) == 8;

struct half_t {
    unsigned short bits;
};
struct bfloat_t {
    unsigned short bits;
};
struct bool_t {
    unsigned char bits; /* 0 or 1 */
};

/* In elements; 0 along what an operand does not vary with. */
struct Stride {
    long long n, c, d, h, w;
};
struct Place {
    int n, d, h, w;
};
__device__ __forceinline__ long long offset(Place at, Stride s) {
    return at.n * s.n + at.d * s.d + at.h * s.h + at.w * s.w;
}

__device__ __forceinline__ float narrow(float x) {
    return x;
}
/* A double as a float rounded *to odd*, which makes a second rounding, to at most 22 bits, come out
 * as if it had been the only one (Boldo and Melquiond, Emulation of FMA and correctly rounded sums,
 * 2008). */
__device__ __forceinline__ float narrow(double x) {
    const float toward_zero = __double2float_rz(x);
    const unsigned bits = __float_as_uint(toward_zero);
    return __uint_as_float(double(toward_zero) == x ? bits : bits | 1);
}

__device__ __forceinline__ float widen(half_t x) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
    return value;
}
__device__ __forceinline__ float widen(bfloat_t x) {
    return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}
/* To nearest even, overflow to infinity, NaN stays NaN. */
__device__ __forceinline__ half_t to_half(real x) {
    half_t result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(narrow(x)));
    return result;
}
__device__ __forceinline__ bfloat_t to_bfloat(real x) {
    bfloat_t result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(narrow(x)));
    return result;
}

__device__ __forceinline__ real load(const float *from) {
    return real(*from);
}
__device__ __forceinline__ real load(const double *from) {
    return real(*from);
}
__device__ __forceinline__ real load(const half_t *from) {
    return real(widen(*from));
}
__device__ __forceinline__ real load(const bfloat_t *from) {
    return real(widen(*from));
}
__device__ __forceinline__ real load(const bool_t *from) {
    return from->bits ? real(1) : real(0);
}

__device__ __forceinline__ void store(float *to, real x) {
    *to = float(x);
}
__device__ __forceinline__ void store(double *to, real x) {
    *to = double(x);
}
__device__ __forceinline__ void store(half_t *to, real x) {
    *to = to_half(x);
}
__device__ __forceinline__ void store(bfloat_t *to, real x) {
    *to = to_bfloat(x);
}
__device__ __forceinline__ void store(bool_t *to, real x) {
    to->bits = x != real(0);
}

/* The value as an element of that type holds it. */
__device__ __forceinline__ real v_round_to_f16(real x) {
    return real(widen(to_half(x)));
}
__device__ __forceinline__ real v_round_to_bf16(real x) {
    return real(widen(to_bfloat(x)));
}
__device__ __forceinline__ real v_round_to_f32(real x) {
    return real(float(x));
}

/* NaN where either is. */
__device__ __forceinline__ float v_min(float a, float b) {
    asm("min.NaN.f32 %0, %0, %1;" : "+f"(a) : "f"(b));
    return a;
}
__device__ __forceinline__ float v_max(float a, float b) {
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(a) : "f"(b));
    return a;
}
__device__ __forceinline__ double v_min(double a, double b) {
    return a < b || a != a ? a : b;
}
__device__ __forceinline__ double v_max(double a, double b) {
    return a > b || a != a ? a : b;
}

__device__ __forceinline__ real infinity() {
    return real(__uint_as_float(0x7f800000));
}

__device__ __forceinline__ real v_add(real a, real b) {
    return a + b;
}
__device__ __forceinline__ real v_mul(real a, real b) {
    return a * b;
}
using Combine = real (*)(real, real); /* v_min, v_max, v_add or v_mul */

/* Sums and differences that no product is fused into. */
__device__ __forceinline__ float sum_rounded(float a, float b) {
    return __fadd_rn(a, b);
}
__device__ __forceinline__ double sum_rounded(double a, double b) {
    return __dadd_rn(a, b);
}

/* 1 / x, to within 1 unit of 2^-23 of it. */
__device__ __forceinline__ float inverse_near(float x) {
    asm("rcp.approx.ftz.f32 %0, %0;" : "+f"(x));
    return x;
}
/* part / sum, where 0 <= part <= 1 <= sum: by the inverse of the sum in two floats, which many
 * parts have in common. Only their sum is rounded, so that the quotient is what division makes but
 * where it lies as near the middle between two floats as 2^-22 of their distance, or is hardly
 * larger than subnormal numbers. */
__device__ __forceinline__ float share(float part, float sum) {
    const float inverse = inverse_near(sum), rest = fmaf(-sum, inverse, 1.0f) * inverse;
    return fmaf(part, inverse, part * rest);
}
__device__ __forceinline__ double share(double part, double sum) {
    return part / sum;
}

/* sum += x, and what that addition rounded away goes to rest: the true sum is sum + rest (Knuth,
 * TAOCP vol. 2, section 4.2.2, theorem B). Past an overflow there is no error worth keeping. */
__device__ __forceinline__ void add_compensated(real &sum, real &rest, real x) {
    const real s = sum_rounded(sum, x), part = sum_rounded(s, -sum);
    const real error = sum_rounded(sum_rounded(sum, -sum_rounded(s, -part)), sum_rounded(x, -part));
    rest += error == error ? error : real(0);
    sum = s;
}

/* ---- functions of many instructions -------------------------------------------------------- */

/* The largest divisor of n that is at most `most`. */
constexpr int divisor_within(int n, int most) {
    while (n % most != 0)
        most--;
    return most;
}

/* value[i] = function(value[i]). Where straight code for all of them, COST instructions each, would
 * run at the pace at which instructions are fetched, not issued, a loop does some at a time; the
 * values go round through the array, so that every index stays a constant and they stay in
 * registers. */
template <int COST, int COUNT, class Function>
__device__ __forceinline__ void apply(real (&value)[COUNT], Function function) {
    constexpr int FETCHED = 256, PART = COUNT > 64 ? COUNT / 8 : COUNT > 8 ? 8 : 2;
    constexpr int AT_ONCE =
        COUNT * COST <= FETCHED || COUNT <= PART ? COUNT : divisor_within(COUNT, PART);
#pragma unroll 1
    for (int turn = 0; turn < COUNT / AT_ONCE; turn++) {
        real done[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            done[i] = function(value[i]);
#pragma unroll
        for (int i = 0; i < COUNT - AT_ONCE; i++)
            value[i] = value[i + AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            value[COUNT - AT_ONCE + i] = done[i];
    }
}
