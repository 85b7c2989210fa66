/* The peak of fused multiply-adds, measured: loops on registers alone. Shared by the benchmarks
 * here, which take a sample of the peak right beside every sample of what they measure. x86-64
 * only. */
#ifndef SEGUE_BENCH_PEAK_H
#define SEGUE_BENCH_PEAK_H

#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

/* Seconds of this thread on a core: turns that other processes take do not count. */
static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return values[count / 2];
}

/* ---- peak loops: `rounds` times a set of independent multiply-adds; they return the flops ---- */

typedef double (*peak_loop)(int64_t rounds);

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* sums independent chains of step(sum, x, w, i), each worth flops per element. The empty asm makes
 * every sum opaque, so that no step can be folded or dropped. */
#define DEFINE_PEAK(name, isa, vector, splat, step, element, sums, flops)                          \
    __attribute__((target(isa), unused)) static double name(int64_t rounds) {                      \
        vector sum[sums], x = splat((element)1e-3), w = splat((element)1);                         \
        UNROLL for (int i = 0; i < sums; i++) {                                                    \
            sum[i] = splat((element)(i + 1));                                                      \
        }                                                                                          \
        for (int64_t r = 0; r < rounds; r++) {                                                     \
            UNROLL for (int i = 0; i < sums; i++) {                                                \
                sum[i] = step(sum[i], x, w, i);                                                    \
                __asm__ volatile("" : "+v"(sum[i]));                                               \
            }                                                                                      \
        }                                                                                          \
        const int64_t elements = sizeof(vector) / sizeof(element);                                 \
        return (double)(rounds * (sums) * (flops) * elements);                                     \
    }

#define FMA_256_PS(s, x, w, i) _mm256_fmadd_ps(x, w, s)
#define FMA_256_PD(s, x, w, i) _mm256_fmadd_pd(x, w, s)
#define FMA_512_PS(s, x, w, i) _mm512_fmadd_ps(x, w, s)
#define FMA_512_PD(s, x, w, i) _mm512_fmadd_pd(x, w, s)
/* Without a fused instruction the peak is that of multiplications and additions side by side. */
#define ALTERNATE_PS(s, x, w, i) ((i) % 2 ? _mm_mul_ps(s, w) : _mm_add_ps(s, x))
#define ALTERNATE_PD(s, x, w, i) ((i) % 2 ? _mm_mul_pd(s, w) : _mm_add_pd(s, x))

/* NOLINTBEGIN(portability-no-assembler): an empty asm is the only opaque use of a register. */
DEFINE_PEAK(peak_generic_f32, "sse2", __m128, _mm_set1_ps, ALTERNATE_PS, float, 12, 1)
DEFINE_PEAK(peak_generic_f64, "sse2", __m128d, _mm_set1_pd, ALTERNATE_PD, double, 12, 1)
DEFINE_PEAK(peak_avx2_f32, "avx2,fma", __m256, _mm256_set1_ps, FMA_256_PS, float, 12, 2)
DEFINE_PEAK(peak_avx2_f64, "avx2,fma", __m256d, _mm256_set1_pd, FMA_256_PD, double, 12, 2)
DEFINE_PEAK(peak_avx512_f32, "avx512f", __m512, _mm512_set1_ps, FMA_512_PS, float, 16, 2)
DEFINE_PEAK(peak_avx512_f64, "avx512f", __m512d, _mm512_set1_pd, FMA_512_PD, double, 16, 2)
/* NOLINTEND(portability-no-assembler) */

/* Rounds that keep a peak loop busy for about a third of a millisecond. */
static inline int64_t calibrate(peak_loop peak) {
    for (int64_t rounds = 1024;; rounds *= 2) {
        double start = now();
        peak(rounds);
        if (now() - start > 3e-4)
            return rounds;
    }
}

static inline double peak_rate(peak_loop peak, int64_t rounds) {
    double start = now();
    double flops = peak(rounds);
    return flops / (now() - start);
}

#endif
