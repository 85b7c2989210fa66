/* For skeletons of sm_80 and later: matrix products by warps, how float32 operands become tf32, and
 * copies that go past the registers. */

/* sums += a * b of one 16 x 8 tile (PTX ISA 9.7.14). Lane l holds a's rows l / 4 (a0, a2) and l / 4
 * + 8 (a1, a3), b's column l / 4, of k the words l % 4 (a0, a1, b0) and l % 4 + 4. */
__device__ __forceinline__ void mma_tf32(float sums[4], unsigned a0, unsigned a1, unsigned a2,
                                         unsigned a3, unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma_half(float sums[4], unsigned a0, unsigned a1, unsigned a2,
                                         unsigned a3, unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma_bfloat(float sums[4], unsigned a0, unsigned a1, unsigned a2,
                                           unsigned a3, unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/* The same of doubles, of k = l % 4 (a0, a1, b0) and l % 4 + 4. Every step along k is a fused
 * multiply-add, rounded to nearest. */
__device__ __forceinline__ void mma_double(double sums[4], double a0, double a1, double a2,
                                           double a3, double b0, double b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+d"(sums[0]), "+d"(sums[1]), "+d"(sums[2]), "+d"(sums[3])
        : "d"(a0), "d"(a1), "d"(a2), "d"(a3), "d"(b0), "d"(b1));
}

/* sums += a * b of one 8 x 8 tile, 4 of k: before sm_90 there is no larger product of doubles. */
__device__ __forceinline__ void mma_double_4(double &sum0, double &sum1, double a, double b) {
    asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
        : "+d"(sum0), "+d"(sum1)
        : "d"(a), "d"(b));
}

/* A float's bits, rounded to the 11 significant ones that tf32 products look at, halves away from
 * zero. */
__device__ __forceinline__ unsigned tf32_away(unsigned bits) {
    const float x = __uint_as_float(bits);
    return x == x ? bits + 0x1000u : bits;
}
/* A float's bits, rounded to the 11 significant ones that tf32 products look at, halves to even. */
__device__ __forceinline__ unsigned tf32_even(unsigned bits) {
    const float x = __uint_as_float(bits);
    return x == x ? bits + 0xfffu + (bits >> 13 & 1u) : bits;
}

/* x = high + low up to 2^-24 of x. The low part of what is not finite is 0: a product with it may
 * still be NaN, which is why products with low parts are summed apart and left out where the sum of
 * the high ones is not finite. Where rounding up would overflow, high is rounded down. */
__device__ __forceinline__ void tf32_split(unsigned bits, unsigned &high, unsigned &low) {
    const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
    const bool largest = (bits & 0x7ffff000u) == 0x7f7ff000u;
    high = (finite && !largest ? bits + 0x1000u : bits) & 0xffffe000u;
    const float rest = __uint_as_float(bits) - __uint_as_float(high);
    low = finite ? tf32_away(__float_as_uint(rest)) : 0;
}

/* ---- copies that need no registers (PTX ISA 9.7.9.25) ---------------------------------------- */

/* 4, 8 or 16 bytes from global to shared memory, of which the first `bytes` are read and the rest
 * is filled with zeros. */
__device__ __forceinline__ void copy_async_4(void *to, const void *from, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(
                     (unsigned)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void copy_async_8(void *to, const void *from, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(
                     (unsigned)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void copy_async_16(void *to, const void *from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     (unsigned)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(bytes)
                 : "memory");
}
/* This thread's copies have arrived. */
__device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_all;" ::: "memory");
}
