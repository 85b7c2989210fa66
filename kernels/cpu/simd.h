/* Vectors, written once for every instruction set.
 *
 * F is a vector of float, D a vector of double, both SG_VECTOR_BYTES long, with the matching
 * integer vectors FI and DI (what a comparison yields: all bits set where true). V, S and M are the
 * compute type's vector, scalar and mask: F or D by SG_COMPUTE_F64. Functions on F begin with f_,
 * on D with d_, on V with v_.
 *
 * Arithmetic, comparisons and bit operations are the GNU vector operators, which GCC and Clang
 * lower to the best instruction of the set; what those cannot say (a fused multiply-add, a square
 * root, a rounding) is an intrinsic where the set has one, and portable code elsewhere. Nothing
 * here assumes relaxed floating point: compile with -ffp-contract=off and without -ffast-math. */
#ifndef SEGUE_KERNELS_CPU_SIMD_H
#define SEGUE_KERNELS_CPU_SIMD_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define SG_ISA_LEVEL_generic 0
#define SG_ISA_LEVEL_avx2    1
#define SG_ISA_LEVEL_avx512  2
#define SG_ISA_LEVEL_(isa)   SG_ISA_LEVEL_##isa
#define SG_ISA_LEVEL(isa)    SG_ISA_LEVEL_(isa)
#define SG_ISA_AVX512        (SG_ISA_LEVEL(SG_ISA) == 2)
#define SG_ISA_AVX2          (SG_ISA_LEVEL(SG_ISA) == 1)

#if SG_ISA_AVX512
#if !defined(__AVX512F__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__) || !defined(__F16C__)
#error "SG_ISA=avx512 wants -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c"
#endif
#define SG_VECTOR_BYTES 64
#elif SG_ISA_AVX2
#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "SG_ISA=avx2 wants -mavx2 -mfma -mf16c"
#endif
#define SG_VECTOR_BYTES 32
#else
#define SG_VECTOR_BYTES 16
#endif

#if SG_ISA_AVX512 || SG_ISA_AVX2 || defined(__SSE2__)
#include <immintrin.h>
#endif

#define SG_F32_LENGTH (SG_VECTOR_BYTES / 4)
#define SG_F64_LENGTH (SG_VECTOR_BYTES / 8)

typedef float F __attribute__((vector_size(SG_VECTOR_BYTES)));
typedef double D __attribute__((vector_size(SG_VECTOR_BYTES)));
typedef int32_t FI __attribute__((vector_size(SG_VECTOR_BYTES)));
typedef int64_t DI __attribute__((vector_size(SG_VECTOR_BYTES)));
/* Bits to calculate with: unsigned, so that wrapping around is defined. */
typedef uint32_t FU __attribute__((vector_size(SG_VECTOR_BYTES)));
typedef uint64_t DU __attribute__((vector_size(SG_VECTOR_BYTES)));

/* The same at any address and over memory of any declared type. */
typedef float F_anywhere __attribute__((vector_size(SG_VECTOR_BYTES), aligned(4), may_alias));
typedef double D_anywhere __attribute__((vector_size(SG_VECTOR_BYTES), aligned(8), may_alias));

#define SG_INLINE static inline __attribute__((always_inline, unused))

SG_INLINE F f_load(const float *p) {
    return *(const F_anywhere *)p;
}
SG_INLINE D d_load(const double *p) {
    return *(const D_anywhere *)p;
}
SG_INLINE void f_store(float *p, F x) {
    *(F_anywhere *)p = x;
}
SG_INLINE void d_store(double *p, D x) {
    *(D_anywhere *)p = x;
}

/* x in every element. Subtracting zero, not adding it, keeps negative zero; it costs nothing. */
SG_INLINE F f_splat(float x) {
    return x - (F){0};
}
SG_INLINE D d_splat(double x) {
    return x - (D){0};
}

/* m ? a : b by element; m is all ones or all zeros. Spelled in bits, both compilers turn it into a
 * masked move under AVX-512, where an intrinsic would make GCC materialise the mask first. */
SG_INLINE F f_select(FI m, F a, F b) {
#if SG_ISA_AVX2
    return _mm256_blendv_ps(b, a, (F)m);
#else
    return (F)((m & (FI)a) | (~m & (FI)b));
#endif
}
SG_INLINE D d_select(DI m, D a, D b) {
#if SG_ISA_AVX2
    return _mm256_blendv_pd(b, a, (D)m);
#else
    return (D)((m & (DI)a) | (~m & (DI)b));
#endif
}

SG_INLINE FI f_sign_bit(void) {
    return (FI){0} + INT32_MIN;
}
SG_INLINE DI d_sign_bit(void) {
    return (DI){0} + INT64_MIN;
}
SG_INLINE F f_neg(F x) {
    return (F)((FI)x ^ f_sign_bit());
}
SG_INLINE D d_neg(D x) {
    return (D)((DI)x ^ d_sign_bit());
}
SG_INLINE F f_abs(F x) {
    return (F)((FI)x & ~f_sign_bit());
}
SG_INLINE D d_abs(D x) {
    return (D)((DI)x & ~d_sign_bit());
}
/* The magnitude of x with the sign of s. */
SG_INLINE F f_copysign(F x, F s) {
    return (F)(((FI)x & ~f_sign_bit()) | ((FI)s & f_sign_bit()));
}
SG_INLINE D d_copysign(D x, D s) {
    return (D)(((DI)x & ~d_sign_bit()) | ((DI)s & d_sign_bit()));
}

/* a * b + c: one rounding where the set has a fused multiply-add, two in the generic build. */
SG_INLINE F f_fma(F a, F b, F c) {
#if SG_ISA_AVX512
    return _mm512_fmadd_ps(a, b, c);
#elif SG_ISA_AVX2
    return _mm256_fmadd_ps(a, b, c);
#else
    return a * b + c;
#endif
}
#if SG_ISA_AVX512
/* sum + x0 * y0 + x1 * y1 of bfloat16 pairs. Named to the assembler, not called as an intrinsic:
 * the file is not compiled for the few processors that get here (table.c). */
SG_INLINE F f_dot_pairs(FU x, FU y, F sum) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y)); /* NOLINT */
    return sum;
}
#endif
SG_INLINE D d_fma(D a, D b, D c) {
#if SG_ISA_AVX512
    return _mm512_fmadd_pd(a, b, c);
#elif SG_ISA_AVX2
    return _mm256_fmadd_pd(a, b, c);
#else
    return a * b + c;
#endif
}
#define SG_HAS_FMA (SG_ISA_AVX512 || SG_ISA_AVX2)

/* The machine's minimum and maximum: the second operand if either is NaN or both are zero. */
SG_INLINE F f_min_second(F a, F b) {
#if SG_ISA_AVX512
    return _mm512_min_ps(a, b);
#elif SG_ISA_AVX2
    return _mm256_min_ps(a, b);
#elif defined(__SSE2__)
    return _mm_min_ps(a, b);
#else
    return f_select(a < b, a, b);
#endif
}
SG_INLINE F f_max_second(F a, F b) {
#if SG_ISA_AVX512
    return _mm512_max_ps(a, b);
#elif SG_ISA_AVX2
    return _mm256_max_ps(a, b);
#elif defined(__SSE2__)
    return _mm_max_ps(a, b);
#else
    return f_select(a > b, a, b);
#endif
}
SG_INLINE D d_min_second(D a, D b) {
#if SG_ISA_AVX512
    return _mm512_min_pd(a, b);
#elif SG_ISA_AVX2
    return _mm256_min_pd(a, b);
#elif defined(__SSE2__)
    return _mm_min_pd(a, b);
#else
    return d_select(a < b, a, b);
#endif
}
SG_INLINE D d_max_second(D a, D b) {
#if SG_ISA_AVX512
    return _mm512_max_pd(a, b);
#elif SG_ISA_AVX2
    return _mm256_max_pd(a, b);
#elif defined(__SSE2__)
    return _mm_max_pd(a, b);
#else
    return d_select(a > b, a, b);
#endif
}

/* Minimum and maximum that give NaN if either operand is NaN; of two zeros, the first operand. */
SG_INLINE F f_min(F a, F b) {
    return f_select(b != b, b, f_min_second(b, a));
}
SG_INLINE F f_max(F a, F b) {
    return f_select(b != b, b, f_max_second(b, a));
}
SG_INLINE D d_min(D a, D b) {
    return d_select(b != b, b, d_min_second(b, a));
}
SG_INLINE D d_max(D a, D b) {
    return d_select(b != b, b, d_max_second(b, a));
}

SG_INLINE F f_sqrt(F x) {
#if SG_ISA_AVX512
    return _mm512_sqrt_ps(x);
#elif SG_ISA_AVX2
    return _mm256_sqrt_ps(x);
#elif defined(__SSE2__)
    return _mm_sqrt_ps(x);
#else
    for (int i = 0; i < SG_F32_LENGTH; i++)
        x[i] = sqrtf(x[i]);
    return x;
#endif
}
SG_INLINE D d_sqrt(D x) {
#if SG_ISA_AVX512
    return _mm512_sqrt_pd(x);
#elif SG_ISA_AVX2
    return _mm256_sqrt_pd(x);
#elif defined(__SSE2__)
    return _mm_sqrt_pd(x);
#else
    for (int i = 0; i < SG_F64_LENGTH; i++)
        x[i] = sqrt(x[i]);
    return x;
#endif
}

/* Roundings to an integral value; the sign of zero and NaN stay. Without an instruction: adding and
 * taking away 2^23 (2^52) rounds a smaller magnitude to nearest even; larger ones are integral. */
#if SG_ISA_AVX512
#define SG_ROUND_F(x, mode) ((F)_mm512_roundscale_ps(x, (mode) | _MM_FROUND_NO_EXC))
#define SG_ROUND_D(x, mode) ((D)_mm512_roundscale_pd(x, (mode) | _MM_FROUND_NO_EXC))
#elif SG_ISA_AVX2
#define SG_ROUND_F(x, mode) ((F)_mm256_round_ps(x, (mode) | _MM_FROUND_NO_EXC))
#define SG_ROUND_D(x, mode) ((D)_mm256_round_pd(x, (mode) | _MM_FROUND_NO_EXC))
#endif
#ifdef SG_ROUND_F
SG_INLINE F f_round(F x) {
    return SG_ROUND_F(x, _MM_FROUND_TO_NEAREST_INT);
}
SG_INLINE F f_floor(F x) {
    return SG_ROUND_F(x, _MM_FROUND_TO_NEG_INF);
}
SG_INLINE F f_ceil(F x) {
    return SG_ROUND_F(x, _MM_FROUND_TO_POS_INF);
}
SG_INLINE F f_trunc(F x) {
    return SG_ROUND_F(x, _MM_FROUND_TO_ZERO);
}
SG_INLINE D d_round(D x) {
    return SG_ROUND_D(x, _MM_FROUND_TO_NEAREST_INT);
}
SG_INLINE D d_floor(D x) {
    return SG_ROUND_D(x, _MM_FROUND_TO_NEG_INF);
}
SG_INLINE D d_ceil(D x) {
    return SG_ROUND_D(x, _MM_FROUND_TO_POS_INF);
}
SG_INLINE D d_trunc(D x) {
    return SG_ROUND_D(x, _MM_FROUND_TO_ZERO);
}
#else
SG_INLINE F f_round(F x) {
    const F big = f_splat(0x1p23f), m = f_abs(x), r = (m + big) - big;
    return f_select(m < big, f_copysign(r, x), x);
}
SG_INLINE D d_round(D x) {
    const D big = d_splat(0x1p52), m = d_abs(x), r = (m + big) - big;
    return d_select(m < big, d_copysign(r, x), x);
}
SG_INLINE F f_floor(F x) {
    const F r = f_round(x);
    return f_copysign(f_select(r > x, r - f_splat(1), r), x);
}
SG_INLINE D d_floor(D x) {
    const D r = d_round(x);
    return d_copysign(d_select(r > x, r - d_splat(1), r), x);
}
SG_INLINE F f_ceil(F x) {
    const F r = f_round(x);
    return f_copysign(f_select(r < x, r + f_splat(1), r), x);
}
SG_INLINE D d_ceil(D x) {
    const D r = d_round(x);
    return d_copysign(d_select(r < x, r + d_splat(1), r), x);
}
SG_INLINE F f_trunc(F x) {
    return f_copysign(f_floor(f_abs(x)), x);
}
SG_INLINE D d_trunc(D x) {
    return d_copysign(d_floor(d_abs(x)), x);
}
#endif

/* The first and the second half of x as doubles, and back, rounded to nearest even. */
SG_INLINE D f_low(F x) {
#if SG_ISA_AVX512
    return _mm512_cvtps_pd(_mm512_castps512_ps256(x));
#elif SG_ISA_AVX2
    return _mm256_cvtps_pd(_mm256_castps256_ps128(x));
#else
    return (D){x[0], x[1]};
#endif
}
SG_INLINE D f_high(F x) {
#if SG_ISA_AVX512
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
#elif SG_ISA_AVX2
    return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
#else
    return (D){x[2], x[3]};
#endif
}
SG_INLINE F f_join(D low, D high) {
#if SG_ISA_AVX512
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high),
                              1);
#elif SG_ISA_AVX2
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high),
                                1);
#else
    return (F){(float)low[0], (float)low[1], (float)high[0], (float)high[1]};
#endif
}

/* The compute type. */
#ifdef SG_COMPUTE_F64
typedef double S;
typedef D V;
typedef DI M;
#define SG_VECTOR_LENGTH SG_F64_LENGTH
#define SG_V(name)       d_##name
#else
typedef float S;
typedef F V;
typedef FI M;
#define SG_VECTOR_LENGTH SG_F32_LENGTH
#define SG_V(name)       f_##name
#endif

SG_INLINE V v_load(const S *p) {
    return SG_V(load)(p);
}
SG_INLINE void v_store(S *p, V x) {
    SG_V(store)(p, x);
}
SG_INLINE V K(S x) {
    return SG_V(splat)(x);
}
SG_INLINE V v_fma(V a, V b, V c) {
    return SG_V(fma)(a, b, c);
}
SG_INLINE V v_select(M m, V a, V b) {
    return SG_V(select)(m, a, b);
}
SG_INLINE V v_mask(M m) {
    return (V)(m & (M)K(1));
}
SG_INLINE V v_neg(V x) {
    return SG_V(neg)(x);
}
SG_INLINE V v_abs(V x) {
    return SG_V(abs)(x);
}
SG_INLINE V v_copysign(V x, V s) {
    return SG_V(copysign)(x, s);
}
SG_INLINE V v_min(V a, V b) {
    return SG_V(min)(a, b);
}
SG_INLINE V v_max(V a, V b) {
    return SG_V(max)(a, b);
}
SG_INLINE V v_floor(V x) {
    return SG_V(floor)(x);
}
SG_INLINE V v_ceil(V x) {
    return SG_V(ceil)(x);
}
SG_INLINE V v_trunc(V x) {
    return SG_V(trunc)(x);
}
SG_INLINE V v_round(V x) {
    return SG_V(round)(x);
}
SG_INLINE V v_sqrt(V x) {
    return SG_V(sqrt)(x);
}

#endif
