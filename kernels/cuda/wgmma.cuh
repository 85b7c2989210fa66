/* For conv_wgmma_*.cuh: Hopper's own instructions, one function each and named after it, and what
 * rounds to halves and tf32. */

constexpr int WARPGROUP = 128;           /* threads */
constexpr float CARRIER_SCALE = 64.0f;   /* activations, before they become halves */
constexpr float CARRIER_MAX = 65504.0f;  /* of scaled values: beyond it, fp16 has infinity */
constexpr float CARRIER_MIN = 0.015625f; /* of a segment's largest, scaled: less is made anew */
/* The same of activations that are two halves of one scale, of which the lower, too, is a multiple
 * of 2^-24: so they are off by at most 2^-28 of a segment's largest. */
constexpr float SPLIT_SCALE = 256.0f, SPLIT_MIN = 8.0f;
constexpr float FLOAT_MAX = 3.40282347e38f;

__device__ __forceinline__ unsigned shared_address(const void *at) {
    return static_cast<unsigned>(__cvta_generic_to_shared(at));
}

/* ---- barriers ------------------------------------------------------------------------------ */

__device__ __forceinline__ void mbarrier_init(unsigned barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

__device__ __forceinline__ void mbarrier_arrive(unsigned barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/* Returns when the phase of this parity has ended. A fresh barrier's phase 1 counts as ended. */
__device__ __forceinline__ void mbarrier_wait(unsigned barrier, unsigned parity) {
    asm volatile("{ .reg .pred done; again: "
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @!done bra again; }"
                 ::"r"(barrier), "r"(parity) : "memory");
}

/* Among `threads` threads of the block. */
__device__ __forceinline__ void barrier_sync(int number, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

/* The same for threads that do not wait. */
__device__ __forceinline__ void barrier_arrive(int number, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

/* barrier_sync for warps that come to it from different places in the program: bar.sync wants one
 * place for all of a block. A warp comes as a whole: lanes that came by themselves would be let
 * through by themselves. */
__device__ __forceinline__ void barrier_meet(int number, int threads) {
    __syncwarp();
    asm volatile("barrier.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

/* Makes this thread's writes to shared memory visible to products, after a barrier. */
__device__ __forceinline__ void fence_proxy_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* ---- products ------------------------------------------------------------------------------ */

/* An operand in shared memory without swizzle, in cores of 8 rows x 16 bytes: its first core, the
 * bytes from a core to the one 8 halves further along k (`leading`), and to the one 8 rows further
 * (`stride`). A filter tap is another first core, at any multiple of 16 bytes (PTX ISA,
 * "Asynchronous warpgroup level matrix instructions", "Strides"). */
__device__ __forceinline__ unsigned long long matrix_descriptor(unsigned address, int leading,
                                                                int stride) {
    const unsigned low = (address & 0x3FFFF) >> 4 | static_cast<unsigned>(leading) >> 4 << 16;
    return static_cast<unsigned long long>(static_cast<unsigned>(stride) >> 4) << 32 | low;
}

/* The same, `cores` times 16 bytes further on: without a carry, which would take registers. */
__device__ __forceinline__ unsigned long long descriptor_at(unsigned long long descriptor,
                                                            int cores) {
    return descriptor >> 32 << 32 | (static_cast<unsigned>(descriptor) + cores);
}

/* Before the first product after registers of it were touched. */
__device__ __forceinline__ void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Waits until at most PENDING committed groups are under way. */
template <int PENDING> __device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/* ---- rounding ------------------------------------------------------------------------------ */

/* To 11 bits, halves away from zero; NaN and infinity stay. */
__device__ __forceinline__ float round_tf32_away(float x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
}

/* Rounded to even; low first. */
__device__ __forceinline__ unsigned pack_halves(float low, float high) {
    unsigned pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

/* The same as bfloats, rounded to even. */
__device__ __forceinline__ unsigned pack_bfloats(float low, float high) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

/* CARRIER_SCALE times two floats, rounded to 11 bits, halves away from zero, as halves: half a unit
 * of the eleventh bit and six exponents are added to each at once, as integers, and what is then
 * too much is cut off. Below 2^-14 (scaled) what is cut off is less than 2^-24. Infinity and NaN
 * come out as anything: whoever packs them flags them. */
__device__ __forceinline__ unsigned pack_halves_away(float low, float high) {
    const unsigned add = (6u << 23) + 0x1000u;
    const float a = __uint_as_float(__float_as_uint(low) + add);
    const float b = __uint_as_float(__float_as_uint(high) + add);
    unsigned pair;
    asm("cvt.rz.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(b), "f"(a));
    return pair;
}

__device__ __forceinline__ unsigned short round_half(float x) {
    unsigned short half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
}

__device__ __forceinline__ float half_value(unsigned short half) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}

/* Two halves as floats, low first. */
__device__ __forceinline__ float2 unpack_halves(unsigned pair) {
    return make_float2(half_value(static_cast<unsigned short>(pair & 0xffff)),
                       half_value(static_cast<unsigned short>(pair >> 16)));
}

/* What two halves leave of two floats, as halves. */
__device__ __forceinline__ unsigned remainder(unsigned halves, float low, float high) {
    const float2 taken = unpack_halves(halves);
    return pack_halves(low - taken.x, high - taken.y);
}

/* NaN if there is one. */
__device__ __forceinline__ float max_magnitude(float largest, float x) {
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(largest) : "f"(fabsf(x)));
    return largest;
}

/* NaN and infinity do not count. */
__device__ __forceinline__ float finite_magnitude(float largest, float x) {
    return fabsf(x) <= FLOAT_MAX ? fmaxf(largest, fabsf(x)) : largest;
}

/* What is split into two halves: +-1 in the place of infinity and NaN, which are then what the
 * second half holds, and meet the other operand's first half alone, which has its sign. */
__device__ __forceinline__ float finite_part(float x) {
    return fabsf(x) <= FLOAT_MAX ? x : x > 0.0f ? 1.0f : -1.0f;
}

constexpr float HALF_MIN = 5.9604645e-8f; /* 2^-24, the least that halves hold */

/* A weight's half that is zero only where the weight is, for infinity may meet it. */
__device__ __forceinline__ unsigned short nonzero_half(float x) {
    if (x != 0.0f && fabsf(x) < HALF_MIN)
        x = copysignf(HALF_MIN, x);
    return round_half(x);
}

/* ---- scales: powers of two ----------------------------------------------------------------- */

/* Whether a segment whose scaled operands' largest magnitude is this one must be made anew. */
__device__ __forceinline__ bool carrier_fails(float largest, float least = CARRIER_MIN) {
    return !(largest <= CARRIER_MAX) || (largest < least && largest > 0.0f);
}

/* The power of two that brings a finite magnitude to [2^exponent, 2^(exponent + 1)); 1 for zero.
 * At most 2^126, so that its inverse is normal: what is less than 2^-118 is then a whole multiple
 * of 2^-23, which halves hold. */
__device__ __forceinline__ float scale_to(int exponent, float largest) {
    const int biased = static_cast<int>(__float_as_uint(largest) >> 23);
    if (largest == 0.0f)
        return 1.0f;
    return __uint_as_float(static_cast<unsigned>(min(254 + exponent - biased, 253)) << 23);
}

__device__ __forceinline__ float inverse_scale(float x) {
    return __uint_as_float((254u << 23) - __float_as_uint(x));
}

/* What sums of products of scaled operands are multiplied by: a power of two; 2^127 for more, where
 * one product of the largest operands has left float's range, as infinity would make NaN of a sum
 * that is zero; 0 for less than 2^-149, where results are below 2^-133 times their sums' length. */
__device__ __forceinline__ float unscale(float weights, float activations) {
    return fminf(inverse_scale(weights) * inverse_scale(activations), 1.7014118e38f /* 2^127 */);
}

/* Two values of a failed segment as halves, low first: scaled by its own scale and rounded to 11
 * bits, halves away from zero or to even. Infinity and NaN stay. */
__device__ __forceinline__ unsigned pack_halves_scaled(float low, float high, float scale,
                                                       bool away) {
    low *= scale;
    high *= scale;
    return away ? pack_halves(round_tf32_away(low), round_tf32_away(high)) : pack_halves(low, high);
}
