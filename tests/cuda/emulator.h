/* What a generated CUDA kernel needs of the hardware, on the host: the threads of a block are
 * fibers that run until they would have to wait, blocks follow one another. Warps exchange,
 * barriers and bulk copies count, and matrix instructions multiply as the PTX ISA says, product by
 * product, in float. What needs hardware to show does not: races, the asynchrony of products and
 * copies, and speed. emulate.py puts calls of this in the place of the skeletons' assembly.
 *
 * A wait that never ends, an access off its alignment and an arrival too many end the program. */
#ifndef SEGUE_TESTS_CUDA_EMULATOR_H
#define SEGUE_TESTS_CUDA_EMULATOR_H

#include <ucontext.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>
#define __device__
#define __global__
#define __constant__    static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__
struct emu_dim {
    unsigned x;
};
static emu_dim threadIdx, blockIdx, gridDim, blockDim;

/* Ends the program: nothing after a broken rule means anything. */
[[noreturn]] static void emu_fail(const char *what) {
    fprintf(stderr, "block %u, thread %u: %s\n", blockIdx.x, threadIdx.x, what);
    _exit(9);
}

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct int2 {
    int x, y;
};
struct int4 {
    int x, y, z, w;
};
struct double2 {
    double x, y;
};
static inline double2 make_double2(double a, double b) {
    return {a, b};
}
static inline float2 make_float2(float a, float b) {
    return {a, b};
}
static inline float4 make_float4(float a, float b, float c, float d) {
    return {a, b, c, d};
}
static inline int2 make_int2(int a, int b) {
    return {a, b};
}
static inline int4 make_int4(int a, int b, int c, int d) {
    return {a, b, c, d};
}
static inline uint2 make_uint2(unsigned a, unsigned b) {
    return {a, b};
}
static inline uint4 make_uint4(unsigned a, unsigned b, unsigned c, unsigned d) {
    return {a, b, c, d};
}
static inline unsigned __float_as_uint(float f) {
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float __uint_as_float(unsigned u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline int __float_as_int(float f) {
    int u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float __int_as_float(int u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline long long __double_as_longlong(double f) {
    long long u;
    memcpy(&u, &f, 8);
    return u;
}
static inline double __longlong_as_double(long long u) {
    double f;
    memcpy(&f, &u, 8);
    return f;
}
static inline float rsqrtf(float x) {
    return 1 / sqrtf(x);
}
static inline double rsqrt(double x) {
    return 1 / sqrt(x);
}
static inline float __fdividef(float a, float b) {
    return a / b;
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((uint64_t)a * b >> 32);
}
static inline float __fadd_rn(float a, float b) {
    return a + b;
}
static inline double __dadd_rn(double a, double b) {
    return a + b;
}
static inline float __fmul_rn(float a, float b) {
    return a * b;
}
static inline float __double2float_rz(double x) {
    float f = (float)x;
    if (fabs((double)f) > fabs(x))
        f = nextafterf(f, 0);
    return f;
}
static inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    const uint64_t bytes = (uint64_t)high << 32 | low;
    unsigned made = 0;
    for (int i = 0; i < 4; i++)
        made |= (unsigned)(bytes >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
    return made;
}
static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
static inline int __ffs(int x) {
    return __builtin_ffs(x);
}
static inline int __clz(int x) {
    return x ? __builtin_clz(x) : 32;
}
template<class T> static T __ldg(const T *p) {
    if ((uintptr_t)p % sizeof(T)) {
        emu_fail("a load is off its alignment");
    }
    return *p;
}
template<class T> static T __ldlu(const T *p) {
    return __ldg(p);
}
static inline int min(int a, int b) {
    return a < b ? a : b;
}
static inline int max(int a, int b) {
    return a > b ? a : b;
}
static inline unsigned min(unsigned a, unsigned b) {
    return a < b ? a : b;
}
static inline unsigned max(unsigned a, unsigned b) {
    return a > b ? a : b;
}
static inline long long min(long long a, long long b) {
    return a < b ? a : b;
}
static inline long long max(long long a, long long b) {
    return a > b ? a : b;
}
static inline long long min(long long a, int b) {
    return a < b ? a : b;
}
static inline long long min(int a, long long b) {
    return a < b ? a : b;
}
static inline long long max(long long a, int b) {
    return a > b ? a : b;
}
static inline long long max(int a, long long b) {
    return a > b ? a : b;
}

/* ---- fibers: one a thread ---- */
constexpr int EMU_MOST = 1024;
constexpr size_t EMU_STACK = 192 << 10;
static ucontext_t emu_main, emu_contexts[EMU_MOST];
static bool emu_done[EMU_MOST];
static int emu_threads, emu_left;
static long emu_idle;
static unsigned char *emu_shared;
static std::vector<char *> emu_stacks;
static void __attribute__((noinline)) emu_yield() {
    if (++emu_idle > 4000L * emu_threads) {
        emu_fail("threads wait for one another");
    }
    int from = (int)threadIdx.x, to = from;
    do
        to = to + 1 == emu_threads ? 0 : to + 1;
    while (emu_done[to]);
    if (to == from)
        return;
    threadIdx.x = (unsigned)to;
    swapcontext(&emu_contexts[from], &emu_contexts[to]);
    threadIdx.x = (unsigned)from;
}
/* ---- warps: all 32 lanes meet, then read what each has left ---- */
static uint64_t emu_slots[EMU_MOST][4];
static int emu_warp_count[32];
static long emu_warp_phase[32];
static void emu_warp() {
    int w = threadIdx.x / 32;
    long my = emu_warp_phase[w];
    if (++emu_warp_count[w] == 32) {
        emu_warp_count[w] = 0;
        emu_warp_phase[w]++;
        emu_idle = 0;
    } else
        while (emu_warp_phase[w] == my)
            emu_yield();
}
static inline void __syncwarp(unsigned = ~0u) {
    emu_warp();
}
template<class T> static T emu_from(T v, int lane) {
    int b = threadIdx.x / 32 * 32;
    memcpy(emu_slots[threadIdx.x], &v, sizeof v);
    emu_warp();
    T r;
    memcpy(&r, emu_slots[b + (lane & 31)], sizeof r);
    emu_warp();
    return r;
}
template<class T> static T __shfl_xor_sync(unsigned, T v, int m) {
    return emu_from(v, (threadIdx.x % 32) ^ m);
}
template<class T> static T __shfl_sync(unsigned, T v, int l) {
    return emu_from(v, l);
}
template<class T> static T __shfl_down_sync(unsigned, T v, int d) {
    int l = threadIdx.x % 32;
    return emu_from(v, l + d < 32 ? l + d : l);
}
static unsigned __ballot_sync(unsigned, int p) {
    int b = threadIdx.x / 32 * 32;
    emu_slots[threadIdx.x][0] = p != 0;
    emu_warp();
    unsigned r = 0;
    for (int i = 0; i < 32; i++)
        r |= (unsigned)emu_slots[b + i][0] << i;
    emu_warp();
    return r;
}
static int __any_sync(unsigned m, int p) {
    return __ballot_sync(m, p) != 0;
}
static int __all_sync(unsigned m, int p) {
    return __ballot_sync(m, p) == ~0u;
}
static unsigned __reduce_max_sync(unsigned, unsigned v) {
    int b = threadIdx.x / 32 * 32;
    emu_slots[threadIdx.x][0] = v;
    emu_warp();
    unsigned r = 0;
    for (int i = 0; i < 32; i++)
        r = max(r, (unsigned)emu_slots[b + i][0]);
    emu_warp();
    return r;
}
static unsigned __reduce_or_sync(unsigned, unsigned v) {
    int b = threadIdx.x / 32 * 32;
    emu_slots[threadIdx.x][0] = v;
    emu_warp();
    unsigned r = 0;
    for (int i = 0; i < 32; i++)
        r |= (unsigned)emu_slots[b + i][0];
    emu_warp();
    return r;
}
/* ---- block barriers ---- */
static int emu_bar_count[16];
static long emu_bar_phase[16];
static int emu_or[16][2];
static bool emu_bar_in(int n, int threads) {
    if (++emu_bar_count[n] == threads) {
        emu_bar_count[n] = 0;
        emu_bar_phase[n]++;
        emu_or[n][emu_bar_phase[n] & 1] = 0;
        emu_idle = 0;
        return true;
    }
    return false;
}
static void emu_bar_sync(int n, int threads) {
    long my = emu_bar_phase[n];
    if (!emu_bar_in(n, threads))
        while (emu_bar_phase[n] == my)
            emu_yield();
}
static bool emu_bar_or(int n, int threads, bool mine) {
    long my = emu_bar_phase[n];
    emu_or[n][my & 1] |= mine;
    emu_bar_sync(n, threads);
    return emu_or[n][my & 1];
}
static inline void __syncthreads() {
    emu_bar_sync(0, (int)blockDim.x);
}
static int __syncthreads_or(int p) {
    return emu_bar_or(0, (int)blockDim.x, p != 0);
}
/* ---- shared memory and its barriers ---- */
constexpr unsigned EMU_BASE = 1024;
static unsigned __cvta_generic_to_shared(const void *p) {
    return (unsigned)((const unsigned char *)p - emu_shared) + EMU_BASE;
}
static inline unsigned char *emu_at(unsigned a) {
    return emu_shared + (a - EMU_BASE);
}
struct emu_mbarrier {
    int count, pending;
    unsigned phase;
    long tx;
};
static std::map<unsigned, emu_mbarrier> emu_mbarriers;
static emu_mbarrier &emu_bar(unsigned a) {
    auto i = emu_mbarriers.find(a);
    if (i == emu_mbarriers.end()) {
        emu_fail("a barrier was never set up");
    }
    return i->second;
}
static void emu_check(emu_mbarrier &b) {
    if (b.pending < 0) {
        emu_fail("more arrive than a barrier expects");
    }
    if (b.pending == 0 && b.tx == 0) {
        b.phase ^= 1;
        b.pending = b.count;
    }
    emu_idle = 0;
}
static void emu_mb_init(unsigned a, int n) {
    emu_mbarriers[a] = {n, n, 0, 0};
}
static void emu_mb_arrive(unsigned a) {
    auto &b = emu_bar(a);
    b.pending--;
    emu_check(b);
}
static void emu_mb_expect(unsigned a, int bytes) {
    auto &b = emu_bar(a);
    b.tx += bytes;
    b.pending--;
    emu_check(b);
}
static bool emu_mb_test(unsigned a, unsigned parity) {
    return emu_bar(a).phase != (parity & 1);
}
static void emu_mb_wait(unsigned a, unsigned parity) {
    while (!emu_mb_test(a, parity))
        emu_yield();
}
static void emu_bulk(unsigned to, const void *from, int bytes, unsigned bar) {
    if ((uintptr_t)from % 16 || to % 16 || bytes % 16) {
        emu_fail("a bulk copy is off its alignment");
    }
    memcpy(emu_at(to), from, bytes);
    auto &b = emu_bar(bar);
    b.tx -= bytes;
    emu_check(b);
}
/* ---- atomics: a fiber is not interrupted ---- */
template<class T> static T atomicMax(T *at, T value) {
    T old = *at;
    *at = old > value ? old : value;
    return old;
}
template<class T> static T atomicAdd(T *at, T value) {
    T old = *at;
    *at += value;
    return old;
}
template<class T> static T atomicOr(T *at, T value) {
    T old = *at;
    *at |= value;
    return old;
}
static inline void __threadfence_block() {}
static inline void __threadfence() {}
/* ---- halves ---- */
static inline float emu_half(unsigned short h) {
    _Float16 f;
    memcpy(&f, &h, 2);
    return (float)f;
}
static inline unsigned short emu_to_half(float x) {
    _Float16 f = (_Float16)x;
    unsigned short h;
    memcpy(&h, &f, 2);
    return h;
}
static inline unsigned short emu_to_half_rz(float x) {
    if (x != x)
        return 0x7fff;
    unsigned short h = emu_to_half(x);
    if (fabsf(emu_half(h)) > fabsf(x))
        h--;
    return h;
}
static inline unsigned emu_pair(unsigned short low, unsigned short high) {
    return (unsigned)high << 16 | low;
}
static inline float emu_bfloat(unsigned short b) {
    return __uint_as_float((unsigned)b << 16);
}
static inline unsigned short emu_to_bfloat(float x) {
    unsigned u = __float_as_uint(x);
    return x != x ? 0x7fff : (unsigned short)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static inline float emu_rna(float x) {
    unsigned u = __float_as_uint(x);
    if ((u >> 23 & 255) == 255)
        return x;
    return __uint_as_float((u + 0x1000u) & ~0x1fffu);
}
static inline float emu_min_nan(float a, float b) {
    return a != a || b != b ? NAN : a < b || (a == b && std::signbit(a)) ? a : b;
}
static inline float emu_max_nan(float a, float b) {
    return a != a || b != b ? NAN : a > b || (a == b && std::signbit(b)) ? a : b;
}
/* ---- products: each thread makes the elements that it holds ---- */
struct emu_matrix {
    unsigned at, leading, stride;
    bool bfloat;
    float get(int row, int k) const {
        unsigned a = at + row / 8 * stride + k / 8 * leading + row % 8 * 16 + k % 8 * 2;
        unsigned short h;
        memcpy(&h, emu_at(a), 2);
        return bfloat ? emu_bfloat(h) : emu_half(h);
    }
};
static emu_matrix emu_matrix_of(unsigned long long d, bool bfloat) {
    return {(unsigned)(d & 0x3FFF) << 4, (unsigned)(d >> 16 & 0x3FFF) << 4,
            (unsigned)(d >> 32 & 0x3FFF) << 4, bfloat};
}
template<int N, bool BFLOAT, class D> static void emu_sum(D &d, const float (&rows)[2][16],
                                                          unsigned long long bd, int accumulate) {
    emu_matrix b = emu_matrix_of(bd, BFLOAT);
    int lane = threadIdx.x % 32;
    for (int j = 0; j < N / 8; j++)
        for (int e = 0; e < 2; e++) {
            int col = j * 8 + lane % 4 * 2 + e;
            float bk[16];
            for (int k = 0; k < 16; k++)
                bk[k] = b.get(col, k);
            for (int h = 0; h < 2; h++) {
                float s = accumulate ? d[j * 4 + h * 2 + e] : 0.0f;
                for (int k = 0; k < 16; k++)
                    s += rows[h][k] * bk[k];
                d[j * 4 + h * 2 + e] = s;
            }
        }
}
template<int N, bool BFLOAT, class D> static void emu_wgmma(D &d, unsigned long long ad,
                                                            unsigned long long bd, int accumulate) {
    emu_matrix a = emu_matrix_of(ad, BFLOAT);
    int row = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
    float rows[2][16];
    for (int h = 0; h < 2; h++)
        for (int k = 0; k < 16; k++)
            rows[h][k] = a.get(row + 8 * h, k);
    emu_sum<N, BFLOAT>(d, rows, bd, accumulate);
}
template<int N, bool BFLOAT, class D> static void emu_wgmma(D &d, const unsigned (&a)[4],
                                                            unsigned long long bd, int accumulate) {
    int b = threadIdx.x / 32 * 32, lane = threadIdx.x % 32;
    for (int i = 0; i < 2; i++)
        emu_slots[threadIdx.x][i] = (uint64_t)a[2 * i + 1] << 32 | a[2 * i];
    emu_warp();
    float rows[2][16];
    for (int h = 0; h < 2; h++)
        for (int k = 0; k < 16; k++) {
            uint64_t s = emu_slots[b + lane / 4 * 4 + k % 8 / 2][k / 8];
            unsigned w = (unsigned)(s >> (32 * h));
            unsigned short bits = (unsigned short)(w >> (k % 2 * 16));
            rows[h][k] = BFLOAT ? emu_bfloat(bits) : emu_half(bits);
        }
    emu_warp();
    emu_sum<N, BFLOAT>(d, rows, bd, accumulate);
}
/* stmatrix, transposed: lane l has row l / 4 of columns 2 (l % 4), + 1 of each matrix, whose
 * columns lie where lanes 8 m and on say. */
static void emu_store_matrices(unsigned row, std::initializer_list<unsigned> matrices) {
    int m = 0, lane = threadIdx.x % 32;
    for (unsigned values : matrices) {
        for (int e = 0; e < 2; e++) {
            unsigned to = emu_from(row, m * 8 + lane % 4 * 2 + e);
            unsigned short element = (unsigned short)(values >> 16 * e);
            if (to % 16) {
                emu_fail("a row of a matrix is off its alignment");
            }
            memcpy(emu_at(to) + lane / 4 * 2, &element, 2);
        }
        m++;
    }
}
template<int KIND> static void emu_mma(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                       unsigned b0, unsigned b1) {
    static unsigned r[EMU_MOST][6];
    unsigned *m = r[threadIdx.x];
    m[0] = a0;
    m[1] = a1;
    m[2] = a2;
    m[3] = a3;
    m[4] = b0;
    m[5] = b1;
    emu_warp();
    int base = threadIdx.x / 32 * 32, lane = threadIdx.x % 32;
    constexpr int K = KIND == 0 ? 8 : 16;
    auto val = [&](unsigned w, int k) {
        return KIND == 0   ? __uint_as_float(w & 0xffffe000u)
               : KIND == 1 ? emu_half((unsigned short)(w >> (k % 2 * 16)))
                           : emu_bfloat((unsigned short)(w >> (k % 2 * 16)));
    };
    for (int h = 0; h < 2; h++)
        for (int e = 0; e < 2; e++) {
            int row = lane / 4, col = lane % 4 * 2 + e;
            float s = c[h * 2 + e];
            for (int k = 0; k < K; k++) {
                int part = K == 8 ? k / 4 : k / 8, q = K == 8 ? k % 4 : k % 8 / 2;
                s += val(r[base + row * 4 + q][part * 2 + h], k) *
                     val(r[base + col * 4 + q][4 + part], k);
            }
            c[h * 2 + e] = s;
        }
    emu_warp();
}

/* ROWS x 8 by K of doubles: rows and columns as in emu_mma, k by k, fused. */
template<int ROWS, int K> static void emu_mma_double(double *c, const double *a, const double *b) {
    static double r[EMU_MOST][6];
    constexpr int HALVES = ROWS / 8;
    double *m = r[threadIdx.x];
    for (int i = 0; i < K / 4 * HALVES; i++)
        m[i] = a[i];
    for (int i = 0; i < K / 4; i++)
        m[4 + i] = b[i];
    emu_warp();
    int base = threadIdx.x / 32 * 32, lane = threadIdx.x % 32;
    for (int i = 0; i < 2 * HALVES; i++) {
        int row = lane / 4, col = lane % 4 * 2 + i % 2;
        for (int k = 0; k < K; k++)
            c[i] = fma(r[base + row * 4 + k % 4][k / 4 * HALVES + i / 2],
                       r[base + col * 4 + k % 4][4 + k / 4], c[i]);
    }
    emu_warp();
}

#endif
