"""3D convolution, the minimum over the depth, and softmax over the channels, in one kernel.

ModelNew takes the place of Model in conv3d_min_softmax.py: the same constructor, parameters,
forward() and results, for any batch and image size.

Fused:      conv3d, min, softmax (conv3d_min_softmax)
Floor:      9.85 GFLOP and 48.8 MB a call for float32[128, 3, 24, 32, 32]; 0.036 ms at the 824
            TFLOP/s of half products and 4.3 TB/s that one NVIDIA H200 reached
Measured:   0.062 ms, segue.optimize; 0.93 ms, PyTorch; 0.70 ms, torch.compile at its best (NVIDIA
            H200, PyTorch 2.11.0+cu130, Segue a16ddab)
Numbers:    class fp32: as exact as float32 products and sums
Needs:      PyTorch 2.0, nvcc of CUDA 11.8, a GPU from sm_80 on; CUDA 12.0 for the fast path on an
            H100 or H200
Otherwise:  Model's own operators run: for CPU tensors, where a gradient is wanted, inside
            torch.compile, torch.export, autocast and transforms; and where something else does not
            fit, with a warning
Written by: segue compile examples/conv3d_min_softmax.py -o gallery/conv3d_min_softmax.py --gpu
            sm_90a --figures bench/results/nvidia-h200/results.json (Segue 0.1.0)
"""

import functools
import hashlib
import inspect
import warnings

import torch
import torch.nn as nn

# ---- the model, as in conv3d_min_softmax.py ----


class Model(nn.Module):
    """Takes the minimum of a 3D convolution along one axis, then softmax over the channels."""

    def __init__(self, in_channels, out_channels, kernel_size, dim):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size)
        self.dim = dim

    def forward(self, x):
        """(batch, in_channels, depth, height, width) to (batch, out_channels, ...), less `dim`."""
        x = self.conv(x)
        x = torch.min(x, dim=self.dim)[0]
        x = torch.softmax(x, dim=1)
        return x


batch_size = 128
in_channels = 3
out_channels = 24
depth, height, width = 24, 32, 32
kernel_size = 3
dim = 2


def get_inputs():
    """The arguments of one forward call."""
    return [torch.rand(batch_size, in_channels, depth, height, width)]


def get_init_inputs():
    """The arguments of the constructor."""
    return [in_channels, out_channels, kernel_size, dim]


# ---- the kernels, and what a caller sees of them ----

DECLARATIONS = r"""
#include <cuda_runtime_api.h>

/* x: float [n, 3, in_d, in_h, in_w]; conv_weight: float [24, 3, 3, 3, 3]; conv_bias: float [24];
 * result softmax: float [n, 24, in_h - 2, in_w - 2]. All lie in device memory, dense. Enqueues
 * the kernel on a stream of the current device. Null, or what is wrong. */
extern "C" const char *conv3d_min_softmax(const float *x, const float *conv_weight,
    const float *conv_bias, float *softmax, long long n, long long in_d, long long in_h,
    long long in_w, cudaStream_t stream);
"""

KERNELS = r"""
/* conv3d_min_softmax, for any batch and image, of
 *     %convolution = convolution %x, %conv.weight, %conv.bias : f32[128, 24, 22, 30, 30]
 *     %amin = amin %convolution {dim=[2]} : f32[128, 24, 30, 30]
 *     %softmax = softmax %amin {dim=1} : f32[128, 24, 30, 30]
 * First path (wgmma_gathered): warpgroup products on pixels gathered in registers, few channels
 *    and the taps side by side; box_w 30, box_d 22, consumers 3, stages 16.
 * Any sizes and addresses (implicit_gemm): warp products of gathered pixels by channels; warps 8,
 *    row_blocks 2, channels 24.
 */
#include <cuda_runtime.h>

#include <atomic>

namespace conv3d_min_softmax_code {
#define DEVICE __device__ __forceinline__
#define UNROLLED _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")

/* The compute type `real`, elements as they lie in memory, places and strides, reductions. */
using real = float;
/* Element strides by role; 0 along what an operand does not vary with. */
struct Stride { long long n, c, d, h, w; };
struct Place { int n, d, h, w; };
DEVICE real load(const float *from) { return real(*from); }

/* ---- order, NaN first ---------------------------------------------------------------------- */
DEVICE float v_min(float a, float b) {
    float result;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
    return result;
}
DEVICE float v_max(float a, float b) {
    float result;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
    return result;
}

DEVICE real infinity() { return real(__uint_as_float(0x7f800000)); }

/* ---- reductions: NaN in, NaN out ----------------------------------------------------------- */
struct Min {
    static DEVICE real identity() { return infinity(); }
    static DEVICE real combine(real a, real b) { return v_min(a, b); }
};
struct Max {
    static DEVICE real identity() { return -infinity(); }
    static DEVICE real combine(real a, real b) { return v_max(a, b); }
};
struct Sum {
    static DEVICE real identity() { return real(0); }
    static DEVICE real combine(real a, real b) { return a + b; }
};
DEVICE float inverse_near(float x) { /* 1 / x, to within 1 unit of 2^-23 of it. */
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}
/* part / sum, where 0 <= part <= 1 <= sum: by the inverse of the sum in two floats, which many
 * parts have in common; their sum is all that is rounded, so that the quotient is what division
 * makes but where it lies as near the middle between two floats as 2^-22 of their distance, or is
 * hardly larger than subnormal numbers. */
DEVICE float share(float part, float sum) {
    const float inverse = inverse_near(sum), rest = fmaf(-sum, inverse, 1.0f) * inverse;
    return fmaf(part, inverse, part * rest);
}

constexpr int KERNEL_D = 3, KERNEL_H = 3, KERNEL_W = 3, TILE_N = 24, TILE_WALKS = 1;

/* The tile of `wgmma` and of `mma.sync` with pixels as rows (M) and channels as columns (N).
 *
 * A warp holds ROW_BLOCKS blocks of 16 pixels, all TILE_N channels of each. Of a block, lane l
 * holds rows l / 4 and l / 4 + 8, and of every 8 channels the pair 2 (l % 4), + 1: four lanes, a
 * quad, share a pixel. With two blocks or more, a reduction over channels halves what a lane keeps
 * at each exchange, so that in the end every lane owns pixels of its own, none twice. */

/* Elementary functions, with the meaning of PyTorch's at NaN, infinities, signed zero and subnormal
 * numbers. */

namespace ops {
DEVICE float v_fma(float a, float b, float c) { return fmaf(a, b, c); }
/* Shorter than the above, and as good as the table asks where nothing is built on it. */
DEVICE float v_exp(float x) { return expf(x); }
DEVICE real sub(real a, real b) { return v_fma(real(-1.0), b, a); }
} // namespace ops

template <class Tile, class Arguments> struct Tail {
    DEVICE void begin(Tile &tile) {
        UNROLLED for (int j = 0; j < Tile::CHANNELS; j++)
            UNROLLED for (int p = 0; p < Tile::PIXELS; p++) tile.walk(p, j) = Min::identity();
    }
    DEVICE void step(Tile &tile, const Arguments &a) {
        UNROLLED for (int j = 0; j < Tile::CHANNELS; j++)
            UNROLLED for (int p = 0; p < Tile::PIXELS; p++) {
                const real v0 = tile.acc(p, j);
                if (tile.valid(p)) tile.walk(p, j) = Min::combine(tile.walk(p, j), v0);
            }
    }
    DEVICE void end(Tile &tile, const Arguments &a) {
        real r2[Tile::PIXELS];
        UNROLLED for (int p = 0; p < Tile::PIXELS; p++) r2[p] = Max::identity();
        UNROLLED for (int j = 0; j < Tile::CHANNELS; j++)
            UNROLLED for (int p = 0; p < Tile::PIXELS; p++)
                r2[p] = Max::combine(r2[p], tile.walk(p, j));
        real w2[Tile::OWN];
        tile.reduce(Max(), r2, w2);
        real v2[Tile::PIXELS];
        tile.spread(w2, v2);
        real r5[Tile::PIXELS];
        UNROLLED for (int p = 0; p < Tile::PIXELS; p++) r5[p] = Sum::identity();
        UNROLLED for (int j = 0; j < Tile::CHANNELS; j++)
            UNROLLED for (int p = 0; p < Tile::PIXELS; p++)
                r5[p] = Sum::combine(r5[p], ops::v_exp(ops::sub(tile.walk(p, j), v2[p])));
        real w5[Tile::OWN];
        tile.reduce(Sum(), r5, w5);
        real v5[Tile::PIXELS];
        tile.spread(w5, v5);
        UNROLLED for (int j = 0; j < Tile::CHANNELS; j++)
            UNROLLED for (int p = 0; p < Tile::PIXELS; p++) {
                const real v4 = ops::v_exp(ops::sub(tile.walk(p, j), v2[p]));
                tile.put(a.store0, a.store0_stride, p, j, share(v4, v5[p])); // %softmax
            }
    }
};

/* ---- wgmma_gathered -------------------------------------------------------------------------- */
namespace wgmma_gathered {
struct Arguments {
    const float *__restrict__ input; Stride input_stride;
    const float *__restrict__ weight; Stride weight_stride;
    const float *__restrict__ bias; Stride bias_stride;
    long long out_d, in_d, out_h, in_h, out_w, in_w, box_d, jobs_d, jobs_h, jobs_w, job_count;
    float *__restrict__ store0; Stride store0_stride;
};

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
/* Convolution of few input channels by wgmma, whose pixels (A) come from registers.
 *
 * Patches are never written down. Producers bring the rows under a box of pixels to shared memory
 * as words of two halves, of row r and of row r + 4 (stage_gathered.cuh), and such words, as they
 * lie, are what a lane of A holds. The kernel's rows, i = kh * IN_CHANNELS + c, go by eights: lane
 * q of a quad has rows q and q + 4 of one tap, kw, in one word, and the quad eight places of k.
 * Rows that are left, fewer than eight, go tap by tap: lane q has the q-th of four taps in the low
 * half of a word, and zero above it. A thread's two pixels are neighbours, so that one load of
 * eight bytes serves a tap of both, and the tap between two others costs no load.
 *
 * With TURN = KERNEL_D > 1 the kernel's slices stand side by side in B: a product adds a slice of
 * the input to TURN output depths at once. Block 0 has the kernel's first slice, block b > 0 slice
 * TURN - b. Every product starts from zero, and the parts of a depth are added in other registers:
 * two sets of sums take turns, so that the newest depth needs no copy.
 *
 * PARTS = 2 (fp32): both operands are two halves of one scale, and lo * hi, hi * lo and hi * hi go
 * to one sum, the small ones first, since every addition there rounds toward zero.
 *
 * A job is a box of BOX_H x BOX_W pixels of one image, at box_d places along depth. With
 * SCALES_AT_END a running minimum or maximum is of sums as they are: scale and bias come once,
 * behind the walk. */

/* Hopper's own instructions, one function each and named after it, and what rounds to tf32.
 *
 * An operand of a product lies in shared memory without swizzle: cores of 8 rows x 16 bytes. A
 * descriptor names the first core, the bytes from a core to the one 8 halves further along k
 * (`leading`), and to the one 8 rows further (`stride`): a filter tap is another first core, at any
 * multiple of 16 bytes (PTX ISA, "Asynchronous warpgroup level matrix instructions", "Strides"). */

constexpr int WARPGROUP = 128;           /* threads */
constexpr float CARRIER_MAX = 65504.0f;  /* of scaled values: beyond it, fp16 has infinity */
constexpr float CARRIER_MIN = 0.015625f; /* of a segment's largest, scaled: less is made anew */
/* The same of activations that are two halves of one scale, of which the lower, too, is a multiple
 * of 2^-24: so they are off by at most 2^-28 of a segment's largest. */
constexpr float SPLIT_SCALE = 256.0f, SPLIT_MIN = 8.0f;
constexpr float FLOAT_MAX = 3.40282347e38f;

DEVICE unsigned shared_address(const void *at) { return unsigned(__cvta_generic_to_shared(at)); }

/* ---- barriers ------------------------------------------------------------------------------ */
DEVICE void mbarrier_init(unsigned barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

DEVICE void mbarrier_arrive(unsigned barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/* Returns when the phase of this parity has ended. A fresh barrier's phase 1 counts as ended. */
DEVICE void mbarrier_wait(unsigned barrier, unsigned parity) {
    asm volatile("{ .reg .pred done; again: "
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @!done bra again; }"
                 ::"r"(barrier), "r"(parity) : "memory");
}
/* A barrier among `threads` threads of the block; number 0 is __syncthreads'. */
DEVICE void barrier_sync(int number, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
DEVICE void barrier_arrive(int number, int threads) { /* The same for threads that do not wait. */
    asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
/* Makes this thread's writes to shared memory visible to products and bulk copies; then a barrier
 * must follow. */
DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
template <int REGISTERS> DEVICE void setmaxnreg_inc() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS> DEVICE void setmaxnreg_dec() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
/* Asks the second-level cache for the line there. */
DEVICE void ask_cache(const float *line) { asm volatile("prefetch.global.L2 [%0];" ::"l"(line)); }

/* ---- products ------------------------------------------------------------------------------ */
/* leading, stride: bytes, multiples of 16, below 2^18. Adding bytes / 16 moves the first core. */
DEVICE unsigned long long matrix_descriptor(unsigned address, int leading) {
    const unsigned low = (address & 0x3FFFF) >> 4 | unsigned(leading) >> 4 << 16;
    return static_cast<unsigned long long>(unsigned(128) >> 4) << 32 | low;
}
/* The same, `cores` times 16 bytes further on: without a carry, which would take registers. */
DEVICE unsigned long long descriptor_at(unsigned long long descriptor, int cores) {
    return descriptor >> 32 << 32 | (unsigned(descriptor) + cores);
}
/* Before the first product after registers of it were touched. */
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/* Waits until at most PENDING committed groups are under way. */
DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(0) : "memory"); }

/* ---- rounding ------------------------------------------------------------------------------ */
/* Two floats, of at most 11 significant bits or to be rounded to even, as two halves; low first. */
DEVICE unsigned pack_halves(float low, float high) {
    unsigned pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

DEVICE unsigned short round_half(float x) {
    unsigned short half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
}
DEVICE float half_value(unsigned short half) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}
DEVICE float2 unpack_halves(unsigned pair) { /* Two halves as floats, low first. */
    return make_float2(half_value(static_cast<unsigned short>(pair & 0xffff)),
                       half_value(static_cast<unsigned short>(pair >> 16)));
}
/* The larger magnitude; NaN if there is one. */
DEVICE float max_magnitude(float largest, float x) {
    float result;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(largest), "f"(fabsf(x)));
    return result;
}
/* The larger finite magnitude: NaN and infinity do not count. */
DEVICE float finite_magnitude(float largest, float x) {
    return fabsf(x) <= FLOAT_MAX ? fmaxf(largest, fabsf(x)) : largest;
}
/* What is split into two halves: +-1 in the place of infinity and NaN, which are then what the
 * second half holds, and meet the other operand's first half alone, which has its sign. */
DEVICE float finite_part(float x) { return fabsf(x) <= FLOAT_MAX ? x : x > 0.0f ? 1.0f : -1.0f; }
constexpr float HALF_MIN = 5.9604645e-8f; /* 2^-24, the least that halves hold */
/* A weight's half that is zero only where the weight is, for infinity may meet it. */
DEVICE unsigned short nonzero_half(float x) {
    if (x != 0.0f && fabsf(x) < HALF_MIN) x = copysignf(HALF_MIN, x);
    return round_half(x);
}

/* ---- scales: powers of two ----------------------------------------------------------------- */
/* Whether a segment whose scaled operands' largest magnitude is this one must be made anew. */
DEVICE bool carrier_fails(float largest, float least = CARRIER_MIN) {
    return !(largest <= CARRIER_MAX) || (largest < least && largest > 0.0f);
}
/* The power of two that brings a finite magnitude to [2^exponent, 2^(exponent + 1)); 1 for zero.
 * At most 2^126, so that its inverse is normal: what is less than 2^-118 is then a whole multiple
 * of 2^-23, which halves hold. exponent: 7 for an output channel's weights, 8 for a failed
 * segment's activations. */
DEVICE float scale_to(int exponent, float largest) {
    const int biased = int(__float_as_uint(largest) >> 23);
    if (largest == 0.0f) return 1.0f;
    return __uint_as_float(unsigned(min(254 + exponent - biased, 253)) << 23);
}

DEVICE float inverse_scale(float x) { return __uint_as_float((254u << 23) - __float_as_uint(x)); }
/* What sums of products of scaled operands are multiplied by: a power of two; 2^127 for more, where
 * one product of the largest operands has left float's range, as infinity would make NaN of a sum
 * that is zero; 0 for less than 2^-149, where results are below 2^-133 times their sums' length. */
DEVICE float unscale(float weights, float activations) {
    return fminf(inverse_scale(weights) * inverse_scale(activations), 1.7014118e38f /* 2^127 */);
}

constexpr int IN_CHANNELS = 3, OUT_CHANNELS = 24, PARTS = 2, TURN = 3, BOX_H = 6, BOX_W = 30;
constexpr int PIXELS_W = 32, COLUMNS = 32, SCALES_AT_END = 1, STAGES = 16, CONSUMERS = 3;
constexpr int PRODUCERS = 4, AHEAD = 2, CONSUMER_REGISTERS = 144, PRODUCER_REGISTERS = 80;

#define SUMS(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
DEVICE void wgmma(float (&d)[36], const unsigned (&a)[4], unsigned long long b, int accumulate) {
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %41, 0;\n\t"
                 "wgmma.mma_async.sync.aligned.m64n72k16.f32.f16.f16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35}, "
                 "{%36, %37, %38, %39}, %40, p, 1, 1, 0;\n\t}"
                 : SUMS(0), SUMS(4), SUMS(8), SUMS(12), SUMS(16), SUMS(20), SUMS(24), SUMS(28),
                   SUMS(32)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}
#define SUMS(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
DEVICE void wgmma(float (&d)[12], const unsigned (&a)[4], unsigned long long b, int accumulate) {
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %17, 0;\n\t"
                 "wgmma.mma_async.sync.aligned.m64n24k16.f32.f16.f16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11}, "
                 "{%12, %13, %14, %15}, %16, p, 1, 1, 0;\n\t}"
                 : SUMS(0), SUMS(4), SUMS(8)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}
/* Not kept in a register: it is wanted where jobs begin and end. */
DEVICE unsigned thread_index() {
    unsigned index;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
    return index;
}

constexpr int CONSUMER_THREADS = CONSUMERS * WARPGROUP, THREADS = CONSUMER_THREADS + PRODUCERS * 32;
constexpr int ROUND = 256; /* jobs; no more than threads */
/* Numbers of barriers: of consumers, when weights are packed; of all, when the block has begun. */
constexpr int PACKED = 1, BEGUN = 2;
struct Job {
    int n, d, h, w; /* image; first output pixel */
};
/* Without signs, and without dividing by one. */
DEVICE Job job_at(unsigned job, const Arguments &a) {
    const unsigned jobs_w = 1, jobs_h = unsigned(a.jobs_h);
    const unsigned jobs_d = 1, row = job / jobs_w, plane = row / jobs_h, image = plane / jobs_d;
    Job at;
    at.n = image;
    at.d = (plane - image * jobs_d) * unsigned(a.box_d);
    at.h = (row - plane * jobs_h) * BOX_H; at.w = (job - row * jobs_w) * BOX_W;
    return at;
}
DEVICE void next_job(Job &at, const Arguments &a) { /* The job behind that one, without dividing. */
    at.w += BOX_W; at.w = 0; at.h += BOX_H;
    if (at.h < int(a.out_h)) return;
    at.h = 0;
    at.d += int(a.box_d);
    at.d = 0; at.n++;
}
/* A block's jobs follow each other: its first, and how many they are. */
DEVICE int first_job(const Arguments &a) {
    const unsigned jobs = unsigned(a.job_count), each = jobs / gridDim.x;
    return blockIdx.x * each + min(blockIdx.x, jobs - each * gridDim.x);
}
DEVICE int block_jobs(const Arguments &a) {
    const unsigned jobs = unsigned(a.job_count), each = jobs / gridDim.x;
    return each + (blockIdx.x < jobs - each * gridDim.x);
}
struct Round { /* Jobs first .. end - 1 of the block, at one scale. */
    int first, end;
    int count;    /* of all the block's jobs */
    int staged;   /* stages before it */
    float scale;  /* of activations; 0: STAGE_SCALE, else that of one job, made anew */
    int meetings; /* before it, modulo 2 */
};
/* A job's slices, and where they are odd one of nothing: consumers take slices by twos. */
DEVICE int job_slices(const Arguments &a) { return (int(a.box_d) + TURN) / 2 * 2; }
/* And two of nothing behind a round's last, since consumers are one ahead and do not ask whether
 * there is another. */
DEVICE int round_stages(const Round &round, const Arguments &a) {
    return (round.end - round.first) * job_slices(a) + 2;
}

DEVICE Round first_round(const Arguments &a) {
    const int count = block_jobs(a);
    return Round{0, min(count, ROUND), count, 0, 0.0f, 0};
}
struct Shared { /* Shared memory, in order. */
    unsigned char *stages, *weights, *raw; /* raw: [PRODUCERS][AHEAD + 1][RAW_BYTES] */
    float2 *scale_bias;   /* [TILE_N]: what brings sums back, in the present round */
    float *scale;         /* [TILE_N]: of the weights */
    float *operands;      /* [CHANNEL_OPERANDS][TILE_N] */
    unsigned *magnitude;  /* [ROUND]: bits of a job's largest */
    unsigned *largest;    /* bits of the largest finite magnitude of one job */
    Round *round;         /* the present one: here, since registers are few */
    unsigned full, empty; /* addresses of [STAGES] barriers each; `empty`: the even ones, of two */
    unsigned met;         /* of the barrier at which all warps meet between rounds */
};

/* Producers of conv_wgmma_gathered.cuh: a box of the input becomes words of two halves.
 *
 * A stage holds the rows under a box of pixels at one place along depth, one row after the other:
 * row r is channel r % IN_CHANNELS of the input's row r / IN_CHANNELS of the box, so that the rows
 * under an output row are neighbours, row i of the kernel, kh * IN_CHANNELS + c, the i-th of them:
 *     [PARTS][STAGE_ROWS][PITCH] words
 * Word x of row r holds column x of row r in its low half and that of row r + 4 in its high half.
 * Columns begin LEAD before the first tap of the box's first pixel. COLUMNS of them are staged; of
 * what is left of a row's PITCH, row 0 keeps zeros (ZEROS).
 *
 * A warp makes whole stages, every PRODUCERS-th. Its lanes copy a stage to memory of the warp's
 * own, AHEAD of its stages before it is wanted: rows lane / 8 + 4 i, four columns each, so that the
 * lane that has row r has row r + 4, too. */

constexpr int ROWS = (BOX_H + KERNEL_H - 1) * IN_CHANNELS, STAGE_ROWS = (ROWS + 3) / 4 * 4;
constexpr int PITCH = COLUMNS + 8; /* 8 modulo 32: four rows of eight columns meet no bank twice */
constexpr int ZEROS = COLUMNS + 4; /* of row 0: two words that are zero */
constexpr int PART_WORDS = STAGE_ROWS * PITCH, STAGE_BYTES = PARTS * PART_WORDS * 4;
constexpr int ROW_STEPS = STAGE_ROWS / 4, COLUMN_STEPS = COLUMNS / 32; /* of a lane */
constexpr int RAW_BYTES = ROW_STEPS * 512; /* of a stage as it comes */
/* Copies, of which the bytes beyond `bytes` come as zeros. */
DEVICE void cp_async_16(unsigned to, const char *from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> DEVICE void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
/* An address from which nothing is worked out before it is there. */
DEVICE const char *pinned(const char *address) { asm volatile("" : "+l"(address)); return address; }
/* Four columns of a row as words, with those of the row four further on, which it then replaces. */
struct Above {
    float value[4], rest[4];
    /* Scaled by STAGE_SCALE in the exponent, which overflows only where the job is made anew.
     * largest: of the magnitudes met. */
    DEVICE void pack(const float4 &four, unsigned (&high)[4], unsigned (&low)[4],
                     float (&largest)[4]) {
        const float column[4] = {four.x, four.y, four.z, four.w};
        UNROLLED for (int e = 0; e < 4; e++) {
            largest[e] = max_magnitude(largest[e], column[e]);
            /* 1 << 12 carries into the eleven bits that truncation keeps. */
            const unsigned add = 8U << 23;
            const float scaled = __uint_as_float(__float_as_uint(column[e]) + add);
            high[e] = pack_halves(scaled, value[e]);
            value[e] = scaled;
            split(scaled, high[e], low[e], e);
        }
    }
    /* The same with a scale of the job's own; infinity and NaN as finite_part says. */
    DEVICE void pack_anew(const float4 &four, unsigned (&high)[4], unsigned (&low)[4], float scale) {
        const float column[4] = {four.x, four.y, four.z, four.w};
        UNROLLED for (int e = 0; e < 4; e++) {
            const float scaled = column[e] * scale, taken = finite_part(scaled);
            high[e] = pack_halves(taken, value[e]);
            value[e] = taken;
            split(scaled, high[e], low[e], e);
        }
    }
    DEVICE void split(float scaled, unsigned high, unsigned &low, int e) {
        const float left = scaled - unpack_halves(high).x;
        low = pack_halves(left, rest[e]);
        rest[e] = left;
    }
};
struct Slice { /* A warp's place in the slices of one job after another. */
    int number, slice; /* the job's among the block's; may lie beyond the job's last */
    DEVICE int settle(int slices) { /* How many jobs further on it is. */
        const int was = number;
        for (; slice >= slices; slice -= slices) number++;
        return number - was;
    }
};

DEVICE bool inside_of(int place, long long size) { return unsigned(place) < unsigned(size); }
struct Source { /* Where a lane reads a job's input. */
    unsigned offset[ROW_STEPS];  /* bytes from the lane's first column of the box's first row and
    channel to that of each of its rows */
    const char *corner;          /* that column in plane 0; may lie outside */
    int first_d;                 /* plane of slice 0; may lie outside */
    unsigned rows[COLUMN_STEPS]; /* bits: whether each row lies inside; fours of columns, too */
    unsigned columns;            /* bits: whether each column lies inside, where they come alone */
    DEVICE Source(const Arguments &a, int lane) {
        UNROLLED for (int i = 0; i < ROW_STEPS; i++) {
            const int row = lane / 8 + 4 * i;
            offset[i] = (row % IN_CHANNELS * unsigned(a.input_stride.c) +
                         row / IN_CHANNELS * unsigned(a.input_stride.h)) * 4;
        }
    }
    DEVICE void open(const Arguments &a, const Job &at, int lane) {
        const int x = at.w + lane % 8 * 4, y = at.h;
        corner = reinterpret_cast<const char *>(a.input + at.n * a.input_stride.n +
                                                y * a.input_stride.h + x);
        first_d = at.d;
        unsigned inside = 0;
        UNROLLED for (int i = 0; i < ROW_STEPS; i++) {
            const int row = lane / 8 + 4 * i;
            if (row < ROWS && inside_of(y + row / IN_CHANNELS, a.in_h)) inside |= 1U << i;
        }
        columns = 0;
        rows[0] = !inside_of(x, a.in_w) ? 0 : inside;
    }
    /* to: shared memory, of this lane. */
    DEVICE void copy(const Arguments &a, int slice, unsigned to) const {
        const int z = first_d + slice;
        /* A box may reach beyond the last depth, and a slice beyond the box. */
        const bool inside = inside_of(z, a.in_d) && slice < int(a.box_d) + TURN - 1;
        const char *plane = pinned(corner + z * a.input_stride.d * 4);
        const unsigned present = inside ? rows[0] : 0;
        UNROLLED for (int i = 0; i < ROW_STEPS; i++) {
            const char *from = plane + offset[i];
            const unsigned at = to + i * 512;
            cp_async_16(at, from, present & 1U << i ? 16 : 0);
        }
    }
};

DEVICE void store_words(unsigned *to, const unsigned (&high)[4], const unsigned (&low)[4]) {
    *reinterpret_cast<uint4 *>(to) = make_uint4(high[0], high[1], high[2], high[3]);
    *reinterpret_cast<uint4 *>(to + PART_WORDS) = make_uint4(low[0], low[1], low[2], low[3]);
}
/* Words of a stage, of which the lane has the columns at `raw`. Returns the largest magnitude, zero
 * where the job is made anew by `scale`. Rows are read some at a time before any of their words is
 * stored: for all that the compiler knows, they might lie there. */
DEVICE float make_words(const float4 *raw, unsigned *to, float scale) {
    constexpr int AT_ONCE = 1;
    float largest[4] = {};
    UNROLLED for (int b = 0; b < COLUMN_STEPS; b++) {
        const float4 *column = raw + b * ROW_STEPS * 32;
        Above above = {};
        if (scale == 0.0f) {
            UNROLLED for (int end = ROW_STEPS; end > 0; end -= AT_ONCE) {
                float4 row[AT_ONCE];
                if (1 <= end) row[1 - 1] = column[(end - 1) * 32];
                UNROLLED for (int i = 1; i <= AT_ONCE; i++) {
                    unsigned high[4], low[4];
                    if (i > end) break;
                    above.pack(row[i - 1], high, low, largest);
                    store_words(to + (end - i) * 4 * PITCH + b * 32, high, low);
                }
            }
        } else {
            ROLLED for (int i = ROW_STEPS - 1; i >= 0; i--) {
                unsigned high[4], low[4];
                above.pack_anew(column[i * 32], high, low, scale);
                store_words(to + i * 4 * PITCH + b * 32, high, low);
            }
        }
    }
    return max_magnitude(max_magnitude(largest[0], largest[1]),
                         max_magnitude(largest[2], largest[3]));
}
/* Asks the cache for rows of a slice, one a lane: what a warp reads first has begun to
 * come before it has worked out where its lanes read. */
DEVICE void ask_for_slice(const Arguments &a, const Job &at, int slice, int lane) {
    const int x = max(at.w, 0), z = at.d + slice;
    {
        const int y = at.h + lane / IN_CHANNELS;
        const float *from =
            a.input + at.n * a.input_stride.n + z * a.input_stride.d + lane % IN_CHANNELS *
            a.input_stride.c + y * a.input_stride.h + x;
        if (lane < ROWS && inside_of(y, a.in_h) && inside_of(z, a.in_d)) ask_cache(from);
    }
}
/* A round's jobs, from its stage warp on. */
DEVICE void produce(const Arguments &a, const Shared &shared, const Round &round) {
    const int lane = thread_index() % 32, warp = thread_index() / 32 - CONSUMERS * 4;
    const int slices = job_slices(a);
    const int count = (round.end - round.first) * slices, stages = round_stages(round, a);
    unsigned char *raw = shared.raw + warp * (AHEAD + 1) * RAW_BYTES + lane * 16;
    const unsigned raw_address = shared_address(raw);
    Job at = job_at(first_job(a) + round.first, a);
    ask_for_slice(a, at, warp, lane);
    Slice read = {round.first, warp}, made = read;
    Source source(a, lane);
    unsigned largest = 0; /* bits of the largest magnitude of the job that is made */
    int place = 0;        /* in the warp's memory, of the stage that is read */
    made.settle(slices);
    ROLLED for (int stage = warp; stage < stages + PRODUCERS * AHEAD; stage += PRODUCERS) {
        if (stage < count) {
            const int further = read.settle(slices);
            ROLLED for (int i = 0; i < further; i++) next_job(at, a);
            if (further > 0 || stage == warp) source.open(a, at, lane);
            source.copy(a, read.slice, raw_address + place * RAW_BYTES);
            read.slice += PRODUCERS;
        }
        cp_async_commit();
        place = place == AHEAD ? 0 : place + 1;
        const int done = stage - PRODUCERS * AHEAD;
        if (done < PRODUCERS) { /* copies may come before the barriers */
            if (done < 0) continue;
            if (round.staged == 0) barrier_sync(BEGUN, THREADS);
        }
        cp_async_wait<AHEAD>();
        const int number = round.staged + done, slot = number % STAGES;
        mbarrier_wait(shared.empty + 8 * (slot & ~1), (number / STAGES & 1) ^ 1);
        if (done < count) {
            const float met = make_words(
                reinterpret_cast<const float4 *>(raw + place * RAW_BYTES),
                reinterpret_cast<unsigned *>(shared.stages + slot * STAGE_BYTES) +
                    lane / 8 * PITCH + lane % 8 * 4,
                round.scale);
            largest = max(largest, __float_as_uint(met));
        }
        const int job = made.number;
        made.slice += PRODUCERS;
        if (made.settle(slices) > 0 && done < count) { /* the warp's last of the job */
            const unsigned most = __reduce_max_sync(~0U, largest);
            if (lane == 0 && round.scale == 0.0f) atomicMax(shared.magnitude + job % ROUND, most);
            largest = 0;
        }
        mbarrier_arrive(shared.full + 8 * slot);
    }
}
/* A warp's 16 pixels lie in one row; rows l / 4 and l / 4 + 8 of A are neighbours. */
struct Pixels {
    Job job;
    int h, w; /* of the warp's first pixel in the box */
    int lane;
    unsigned inside; /* bit p: whether the thread's pixel p lies in the output */
    DEVICE int column(int row) const { return w + row % 8 * 2 + row / 8; }
    DEVICE void open(const Arguments &a) { /* At `job`. */
        inside = 0;
        UNROLLED for (int p = 0; p < 2; p++) {
            const int x = column(p * 8 + lane / 4);
            if (job.h + h < int(a.out_h) && x < BOX_W &&
                job.w + x < int(a.out_w))
                inside |= 1U << p;
        }
    }
    DEVICE bool valid(int row) const { return inside >> row / 8 & 1; }
    DEVICE Place place(int row) const {
        return Place{job.n, job.d, job.h + h, job.w + column(row)};
    }
};
/* An address that is worked out once, not anew from its parts for every channel. */
template <class T> DEVICE T *settled(T *address) { asm("" : "+l"(address)); return address; }
constexpr int ROW_BLOCKS = 1;
struct RowTile {
    static constexpr int PIXELS = 2, CHANNELS = TILE_N / 4, OWN = 1;
    real d[ROW_BLOCKS][TILE_N / 2]; /* as the instructions lay it out */
    real running[TILE_WALKS][PIXELS][CHANNELS];
    real leaving[PIXELS][2];    /* put: 8 channels on their way out */
    const float2 *scale_bias; /* [TILE_N], in shared memory */
    const real *operands;     /* [CHANNEL_OPERANDS][TILE_N], in shared memory */
    int lane;
    Pixels pixels;
    DEVICE int row(int p) const { return p * 8 + lane / 4; }
    DEVICE int column(int j) const { return j / 2 * 8 + lane % 4 * 2 + j % 2; }
    DEVICE int channel(int j) const { return column(j); }
    DEVICE Place place(int p) const { return pixels.place(row(p)); }
    DEVICE real &walk(int p, int j) { return running[0][p][j]; }
    /* A quad's values, halved twice; with two pixels, halved once and combined once. */
    template <class Op> DEVICE void reduce(Op, const real (&in)[PIXELS], real (&out)[OWN]) {
        real half[PIXELS / 2];
        const bool upper = lane & 1;
        UNROLLED for (int i = 0; i < PIXELS / 2; i++) {
            const real keep = upper ? in[PIXELS / 2 + i] : in[i];
            const real give = upper ? in[i] : in[PIXELS / 2 + i];
            half[i] = Op::combine(keep, __shfl_xor_sync(~0U, give, 1));
        }
        UNROLLED for (int q = 0; q < OWN; q++) {
            const real keep = half[q], give = half[q];
            out[q] = Op::combine(keep, __shfl_xor_sync(~0U, give, 2));
        }
    }
    DEVICE void spread(const real (&in)[OWN], real (&out)[PIXELS]) const {
        UNROLLED for (int p = 0; p < PIXELS; p++)
            out[p] = __shfl_sync(~0U, in[0], lane / 4 * 4 + p);
    }
    static DEVICE long long offset(Place at, Stride s) {
        return at.n * s.n + at.d * s.d + at.h * s.h + at.w * s.w;
    }
};

struct Tile : RowTile {
    DEVICE real acc(int p, int j) const { return d[0][j / 2 * 4 + p * 2 + j % 2]; }
    DEVICE void scale_walk() { /* Behind a walk whose running values are of sums as they are. */
        UNROLLED for (int j = 0; j < CHANNELS; j++) {
            const float2 by = scale_bias[column(j)];
            UNROLLED for (int p = 0; p < PIXELS; p++) walk(p, j) = fmaf(walk(p, j), by.x, by.y);
        }
    }
    /* A thread's pixels are neighbours: both at once, where pairs begin at even columns. From its
     * first channel the others are in step. */
    template <class T> DEVICE void put(T *to, Stride s, int p, int j, real value) {
        leaving[p][0] = value;
        T *first = settled(to + offset(place(0), s) + channel(0) * s.c);
        if (p == 1)
            store_pair(first + (column(j) - column(0)) * s.c, leaving[0][0], value, valid(1));
    }
    /* In one instruction, without a branch: in C there would be two, and one around each. */
    static DEVICE void store_pair(float *to, real first, real second, int wanted) {
        asm volatile("{\n\t.reg .pred wanted;\n\tsetp.ne.s32 wanted, %3, 0;\n\t"
                     "@wanted st.global.v2.f32 [%0], {%1, %2};\n\t}" ::"l"(to), "f"(first),
                     "f"(second), "r"(wanted)
                     : "memory");
    }
    bool walking; /* whether running values take in all pixels: those outside are never stored */
    DEVICE bool valid(int p) const { return walking || pixels.inside >> p & 1; }
};

constexpr int KERNEL_ROWS = KERNEL_H * IN_CHANNELS;
constexpr int EIGHTS = KERNEL_ROWS / 8;                            /* of the kernel's rows */
constexpr int SINGLE_TAPS = KERNEL_W; /* of the rows left */
constexpr int SINGLES = (SINGLE_TAPS + 3) / 4;                     /* fours of them */
constexpr int OCTETS = KERNEL_W + SINGLES, STEPS = (OCTETS + 1) / 2, K = STEPS * 16;
/* Words are loaded in pairs from an even column on, so that every other tap is a pair. */
constexpr int ODD = 0;
constexpr int WINDOW = (KERNEL_W + 2) / 2 * 2; /* words under a thread's pixels */
constexpr int DIRECT = (KERNEL_W + 1) / 2;     /* taps that are pairs: they come first */

__device__ constexpr bool is_direct(int kw) {
    return kw % 2 == ODD;
}
/* The place among the eights of k of an eight of the kernel's rows. */
__device__ constexpr int octet_of(int eight, int kw) {
    return eight * KERNEL_W + (is_direct(kw) ? 0 : DIRECT) + kw / 2;
}
constexpr int PLANE_TAPS = KERNEL_H * KERNEL_W, TAPS = KERNEL_D * PLANE_TAPS;
constexpr int WEIGHTS = IN_CHANNELS * TAPS; /* of a channel */
/* The weight of channel 0 and kernel slice 0 at a place of k; -1: none is there. */
DEVICE int weight_in(int k) {
    const int octet = k / 8, single = (octet - KERNEL_W) * 4 + k % 8 / 2;
    int row = octet / KERNEL_W * 8 + k % 8 / 2 + k % 2 * 4, kw = octet % KERNEL_W;
    kw = kw < DIRECT ? kw * 2 : (kw - DIRECT) * 2 + 1;
    if (octet >= KERNEL_W) {
        if (k % 2 != 0 || single >= SINGLE_TAPS) return -1;
        row = 8 + single / KERNEL_W; kw = single % KERNEL_W;
    }
    return row % IN_CHANNELS * TAPS + row / IN_CHANNELS * KERNEL_W + kw;
}

/* ---- weights ------------------------------------------------------------------------------- */
constexpr int WEIGHT_ROWS = TURN * TILE_N;             /* of B: kernel slices by channels */
constexpr int WEIGHT_BYTES = K / 8 * WEIGHT_ROWS * 16; /* of one part */
/* Of channel o, the weight in the kernel's slice kd that has the place of weight e in its first;
 * zero where there is none. */
DEVICE float fetch_weight(const Arguments &a, int o, int e, int kd) {
    if (o >= OUT_CHANNELS || e < 0) return 0.0f;
    return a.weight[o * WEIGHTS + e + kd * PLANE_TAPS];
}
/* Where B has kernel slice kd of channel o. But for the first slice, neighbours are exchanged: of
 * two sums that are added, one then lies in an even register and one in an odd (docs/cuda.md). */
DEVICE int row_in(int kd, int o) { return kd == 0 ? o : (TURN - kd) * TILE_N + (o ^ 1); }
DEVICE void store_weight(unsigned char *to, float scaled) {
    const unsigned short upper = nonzero_half(finite_part(scaled));
    *reinterpret_cast<unsigned short *>(to) = upper;
    *reinterpret_cast<unsigned short *>(to + WEIGHT_BYTES) = round_half(scaled - half_value(upper));
}
/* What else all of the block find in shared memory, by the consumers. Barriers are begun one after
 * the other, whoever does it: so a few by each warp. */
DEVICE void begin(const Arguments &a, const Shared &shared) {
    constexpr int WARPS = CONSUMERS * 4;
    const int warp = thread_index() / 32;
    if (thread_index() % 32 == 0) {
        ROLLED for (int slot = warp; slot < STAGES; slot += WARPS) {
            mbarrier_init(shared.full + 8 * slot, 32);
            if (slot % 2 == 0) mbarrier_init(shared.empty + 8 * slot, CONSUMER_THREADS);
        }
        if (warp == WARPS - 1) {
            mbarrier_init(shared.met, THREADS / 32);
            *shared.round = first_round(a);
        }
    }
    if (thread_index() < ROUND) shared.magnitude[thread_index()] = 0;
    if (thread_index() < STAGES * PARTS) {
        float *part = reinterpret_cast<float *>(shared.stages) + thread_index() * PART_WORDS;
        part[ZEROS] = part[ZEROS + 1] = 0.0f;
    }
    barrier_arrive(BEGUN, THREADS);
}
/* By the consumers, a warp for a channel and a lane for a place of k, and first of all their loads.
 * The code is short on purpose: a kernel's first pass through it waits for instructions, too. */
DEVICE void pack_weights(const Arguments &a, const Shared &shared) {
    constexpr int PLACES = (K + 31) / 32; /* of a lane */
    constexpr int PIECES = TURN; /* piece i: at place i / TURN, of slice i % TURN */
    constexpr int WARPS = CONSUMERS * 4, HELD = 24;
    constexpr int CHANNELS = (TILE_N + WARPS - 1) / WARPS; /* of a warp */
    constexpr int AHEAD_MOST = HELD / PIECES;
    constexpr int FETCHED = CHANNELS < AHEAD_MOST ? CHANNELS : AHEAD_MOST;
    const int lane = thread_index() % 32, warp = thread_index() / 32;
    float ahead[FETCHED][PIECES]; /* of the warp's next channels */
    int first[PLACES];            /* at each place, of the kernel's first slice */
    first[0] = lane < K ? weight_in(lane) : -1;
    UNROLLED for (int c = 0; c < FETCHED; c++)
        UNROLLED for (int i = 0; i < PIECES; i++)
            ahead[c][i] = fetch_weight(a, warp + c * WARPS, first[i / TURN], i % TURN);
    const int channel = thread_index(); /* the planner sees to it that there are enough */
    float bias = 0.0f;
    if (channel < OUT_CHANNELS) bias = load(a.bias + channel * a.bias_stride.c);
    begin(a, shared);
    if (channel < OUT_CHANNELS) shared.scale_bias[channel].y = bias;
    ROLLED for (int o = warp; o < TILE_N; o += WARPS) {
        float value[PIECES], largest = 0.0f;
        UNROLLED for (int i = 0; i < PIECES; i++) {
            value[i] = ahead[0][i];
            largest = finite_magnitude(largest, value[i]);
            UNROLLED for (int c = 1; c < FETCHED; c++) ahead[c - 1][i] = ahead[c][i];
            if (FETCHED < CHANNELS)
                ahead[FETCHED - 1][i] =
                    fetch_weight(a, o + FETCHED * WARPS, first[i / TURN], i % TURN);
        }
        largest = __uint_as_float(__reduce_max_sync(~0U, __float_as_uint(largest)));
        const float scale = scale_to(7, largest);
        if (lane == 0) {
            shared.scale[o] = scale;
            shared.scale_bias[o].x = unscale(scale, SPLIT_SCALE);
        }
        unsigned char *to = shared.weights + lane / 8 * (WEIGHT_ROWS * 16) + lane % 8 * 2;
        UNROLLED for (int i = 0; i < PIECES; i++)
            store_weight(to + (i / TURN * 4 * WEIGHT_ROWS + row_in(i % TURN, o)) * 16,
                         value[i] * scale);
    }
    fence_proxy_async();
    barrier_sync(PACKED, CONSUMER_THREADS);
}

/* ---- consumers ----------------------------------------------------------------------------- */
constexpr int BLOCK_SUMS = TILE_N / 2; /* of a thread: one kernel slice's */
/* What products make of one slice: BLOCK_SUMS for each of the kernel's slices. */
using Sums = float[TURN * BLOCK_SUMS];
/* Keeps the compiler from moving what it does to sums past the products' fences. */
template <int N> DEVICE void pin(float (&sums)[N]) {
    UNROLLED for (int i = 0; i < N; i++) asm volatile("" : "+f"(sums[i])::"memory");
}

DEVICE void load_pair(unsigned address, unsigned &x, unsigned &y) {
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(x), "=r"(y) : "r"(address) : "memory");
}
DEVICE unsigned load_low_half(unsigned address) { /* The low half of a word, above it zeros. */
    unsigned short low;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(low) : "r"(address) : "memory");
    return low;
}
/* The same in a register of its own, made here and not where the compiler likes; of a `mov`, ptxas
 * makes two, or gives both the same registers and then serialises products (C7511). */
DEVICE unsigned moved(unsigned x) {
    unsigned copy;
    asm volatile("prmt.b32 %0, %1, %1, 0x3210;" : "=r"(copy) : "r"(x) : "memory");
    return copy;
}
DEVICE float moved(float x) {
    float copy;
    asm volatile("prmt.b32 %0, %1, %1, 0x3210;" : "=f"(copy) : "f"(x) : "memory");
    return copy;
}
struct Operands { /* A slice as a lane's operands. */
    unsigned of[PARTS][STEPS][4];
    unsigned ends[PARTS][EIGHTS][2][2]; /* words of pairs that are no tap */
    DEVICE unsigned &at(int part, int octet, int pixel) {
        return of[part][octet / 2][octet % 2 * 2 + pixel];
    }
    /* Word i under the thread's pixels, where it is loaded to. */
    DEVICE unsigned &word(int part, int eight, int i) {
        const int kw = i / 2 * 2;
        if (kw >= 0 && kw < KERNEL_W) return at(part, octet_of(eight, kw >= 0 ? kw : 0), i % 2);
        return ends[part][eight][i >= 2][i % 2];
    }
    DEVICE void pin() {
        UNROLLED for (int i = 0; i < PARTS * STEPS * 4; i++)
            asm volatile("" : "+r"(of[i / (STEPS * 4)][i / 4 % STEPS][i % 4])::"memory");
    }
};
/* Where a consumer's thread reads the stages: by twos, whose place it works out once. */
struct Gather {
    unsigned words;                         /* of two stages' first: address of its first word, */
    unsigned single[SINGLES]; /* of the words of single taps, */
    unsigned full, parity;                  /* and of its barrier */
    unsigned last, to_empty; /* that of the last two; from a first one's to both's empty one */
    /* stage: even, two before the first that is read. */
    DEVICE void open(const Shared &shared, const Pixels &pixels, int stage) {
        const int quad = pixels.lane % 4, x = pixels.w + pixels.lane / 4 * 2;
        const int first = (pixels.h * IN_CHANNELS + quad) * PITCH + x, slot = stage % STAGES;
        words = shared_address(shared.stages) + slot * STAGE_BYTES + first * 4;
        const int row = pixels.h * IN_CHANNELS + 8 + quad / KERNEL_W;
        const int word = quad < SINGLE_TAPS ? row * PITCH + x + quad % KERNEL_W : ZEROS;
        single[0] = words + (word - first) * 4;
        full = shared.full + 8 * slot; parity = stage / STAGES & 1;
        last = shared.full + 8 * (STAGES - 2);
        to_empty = shared.empty - shared.full;
    }
    DEVICE void turn_to_next() {
        const bool wraps = full == last;
        const int slots = wraps ? 2 - STAGES : 2;
        parity ^= wraps; full += 8 * slots; words += slots * STAGE_BYTES;
        asm volatile("" : "+r"(full), "+r"(words), "+r"(parity));
        single[0] += slots * STAGE_BYTES;
        asm volatile("" : "+r"(single[0]));
    }
    /* Loads the words of the first or second of two stages, when it is full. */
    template <int WHICH> DEVICE void fetch(Operands &operands) const {
        mbarrier_wait(full + 8 * WHICH, parity);
        constexpr int STAGE = WHICH * STAGE_BYTES;
        UNROLLED for (int part = 0; part < PARTS; part++) {
            UNROLLED for (int i = 0; i < WINDOW / 2; i++)
                load_pair(words + STAGE + part * PART_WORDS * 4 + i * 8,
                          operands.word(part, 0, i * 2),
                          operands.word(part, 0, i * 2 + 1));
            UNROLLED for (int p = 0; p < 2; p++)
                operands.at(part, KERNEL_W, p) =
                    load_low_half(single[0] + STAGE + part * PART_WORDS * 4 + p * 4);
        }
    }
    /* Makes operands of the words, and behind the second stage gives both back. */
    template <int WHICH> DEVICE void take(Operands &operands) const {
        UNROLLED for (int part = 0; part < PARTS; part++)
            UNROLLED for (int p = 0; p < 2; p++)
                operands.at(part, octet_of(0, 1), p) = moved(operands.word(part, 0, 1 + p));
        operands.pin();
        if (WHICH == 1) mbarrier_arrive(full + to_empty);
    }
    DEVICE void skip_second() const { /* Gives two stages back, of which the second was not read. */
        mbarrier_wait(full + 8, parity);
        mbarrier_arrive(full + to_empty);
    }
};
/* The same for all lanes, in a uniform register: a reduction's result lies in one, and is not
 * worked out again at every use. */
DEVICE unsigned uniform(unsigned value) { return __reduce_max_sync(~0U, value); }
DEVICE Job uniform(const Job &at) {
    return Job{int(uniform(at.n)), int(uniform(at.d)), int(uniform(at.h)), int(uniform(at.w))};
}
struct Weights { /* B's descriptors, of 16 k each. */
    unsigned long long part[PARTS][STEPS];
    DEVICE void open(const Shared &shared) {
        UNROLLED for (int i = 0; i < PARTS * STEPS; i++) {
            const unsigned first = shared_address(shared.weights) + i / STEPS * WEIGHT_BYTES +
                                   i % STEPS * 2 * WEIGHT_ROWS * 16;
            const unsigned long long whole = matrix_descriptor(first, WEIGHT_ROWS * 16);
            const unsigned long long high = uniform(unsigned(whole >> 32));
            part[i / STEPS][i % STEPS] = high << 32 | uniform(unsigned(whole));
        }
    }
};
/* Starts a slice's products with all of the kernel's slices, or with those from B's block FIRST on
 * that N sums are for. ADDS: to what the sums are. */
template <int FIRST, bool ADDS = false, int N>
DEVICE void multiply(float (&sums)[N], Operands &operands, const Weights &weights) {
    operands.pin();
    pin(sums);
    wgmma_fence();
    UNROLLED for (int k = 0; k < STEPS; k++)
        wgmma(sums, operands.of[0][k],
              descriptor_at(weights.part[PARTS - 1][k], FIRST * TILE_N), ADDS || k > 0);
    UNROLLED for (int k = 0; k < STEPS; k++)
        wgmma(sums, operands.of[PARTS - 1][k],
              descriptor_at(weights.part[0][k], FIRST * TILE_N), 1);
    UNROLLED for (int k = 0; k < STEPS; k++)
        wgmma(sums, operands.of[0][k], descriptor_at(weights.part[0][k], FIRST * TILE_N), true);
    wgmma_commit();
}
/* Of operands: with two, the next slice's come behind this one's products. */
constexpr int SETS = 1;
constexpr int PENDING = TURN - 2; /* Sums of depths that are not complete, the next one's first. */

struct Consumer {
    Tile tile;
    Tail<Tile, Arguments> tail;
    Gather gather;
    Operands operands[SETS];
    float pending[PENDING ? PENDING : 1][BLOCK_SUMS];
    Weights weights;
    int number, slice; /* the job's, and the second of two of its slices */
    int end;           /* the first job beyond the round: what comes of it is nothing */
    /* Brings the depth that a slice completes to the tile. sums: the slice's, in the order that
     * row_in says; other: those of the slice before. */
    DEVICE void complete(const Sums &sums, const Sums &other) {
        UNROLLED for (int i = 0; i < BLOCK_SUMS; i++)
            tile.d[0][i] = sums[BLOCK_SUMS % (TURN * BLOCK_SUMS) + (i ^ 1)] +
                                           (PENDING ? pending[0][i] : other[i]);
    }
    /* Then: the depths behind it move up. */
    DEVICE void advance(const Sums &sums, const Sums &other) {
        UNROLLED for (int next = 0; next < PENDING; next++)
            UNROLLED for (int i = 0; i < BLOCK_SUMS; i++) {
                const bool last = next + 1 == PENDING;
                pending[next][i] = sums[(next + 2) * BLOCK_SUMS + (i ^ 1)] +
                                   (last ? other[i] : pending[last ? 0 : next + 1][i]);
                asm volatile("" : "+f"(pending[next][i]));
            }
    }
    /* Whether that depth is one of the job's. */
    DEVICE bool in_job(int depth, const Arguments &a) const {
        return unsigned(depth) < unsigned(a.box_d);
    }
    DEVICE void step(const Arguments &a, bool counts) {
        tile.walking = SCALES_AT_END;
        if (counts) tail.step(tile, a);
        tile.walking = false; tile.pixels.job.d++;
    }
    DEVICE void open(const Arguments &a) { slice = 0; tail.begin(tile); }
    DEVICE void close(const Arguments &a) {
        tile.pixels.open(a);
        tile.pixels.job.d = 0;
        tile.scale_walk();
        tail.end(tile, a);
    }
    /* Behind the products of a slice, which are in `sums`: starts those of the next in `other`, and
     * takes in the depth that the slice completes, if it `counts`. */
    template <int WHICH>
    DEVICE void turn(const Arguments &a, Sums &sums, Sums &other, Operands &next, bool counts) {
        wgmma_wait();
        pin(sums);
        gather.fetch<WHICH>(next);
        complete(sums, other);
        advance(sums, other);
        gather.take<WHICH>(next);
        multiply<0>(other, next, weights);
        step(a, counts);
    }
    /* Jobs one after the other. Of a job's first slice and of its last one only what one slice of
     * the kernel makes of it is kept: no more is multiplied, in registers of a depth that waits. A
     * job ends behind the first products of the next. */
    template <int EDGE> DEVICE void walk_with_edges(const Arguments &a, Sums (&sums)[2]) {
        float(&edge)[EDGE] = pending[0];
        const int first = number;
        ROLLED for (;; number++) {
            gather.turn_to_next();
            gather.fetch<0>(operands[0]);
            gather.take<0>(operands[0]);
            multiply<0>(edge, operands[0], weights);
            if (number != first) {
                close(a);
                next_job(tile.pixels.job, a);
            }
            if (number == end) break;
            open(a);
            wgmma_wait();
            pin(edge);
            UNROLLED for (int i = 0; i < EDGE; i++) sums[0][i] = moved(edge[i]);
            ROLLED for (slice = 1; slice + 1 < job_slices(a); slice += 2) {
                turn<1>(a, sums[0], sums[1], operands[0], slice > 1);
                gather.turn_to_next();
                turn<0>(a, sums[1], sums[0], operands[0], slice > 1);
            }
            wgmma_wait();
            pin(sums[0]);
            gather.fetch<1>(operands[0]);
            complete(sums[0], sums[1]);
            float rest[EDGE]; /* what the last depth has so far */
            UNROLLED for (int i = 0; i < EDGE; i++) {
                rest[i] = moved(sums[0][2 * EDGE + (i ^ 1)] + sums[1][i]);
                edge[i] = 0.0f;
            }
            gather.take<1>(operands[0]);
            multiply<1, true>(edge, operands[0], weights);
            step(a, true);
            wgmma_wait();
            pin(edge);
            UNROLLED for (int i = 0; i < EDGE; i++) tile.d[0][i] = rest[i] + edge[i ^ 1];
            step(a, in_job(slice + 1 - TURN, a));
        }
        gather.skip_second();
    }
};

DEVICE void consume(const Arguments &a, const Shared &shared) {
    constexpr int ROW_WARPS = PIXELS_W / 16;
    const int warp = thread_index() / 32;
    Consumer consumer;
    Tile &tile = consumer.tile;
    tile.scale_bias = shared.scale_bias;
    tile.lane = tile.pixels.lane = thread_index() % 32;
    tile.pixels.h = warp / ROW_WARPS; tile.pixels.w = warp % ROW_WARPS * 16;
    const Round round = *shared.round;
    consumer.gather.open(shared, tile.pixels, round.staged + 2 * STAGES - 2);
    consumer.weights.open(shared);
    consumer.number = round.first;
    tile.pixels.job = uniform(job_at(first_job(a) + round.first, a));
    consumer.end = round.end;
    Sums sums[2];
    UNROLLED for (int i = 0; i < TURN * BLOCK_SUMS; i++) sums[0][i] = sums[1][i] = 0.0f;
    UNROLLED for (int i = 0; i < PENDING * BLOCK_SUMS; i++)
        consumer.pending[i / BLOCK_SUMS][i % BLOCK_SUMS] = 0.0f;
    UNROLLED for (int i = 0; i < PARTS * STEPS * 4; i++)
        consumer.operands[0].of[i / (STEPS * 4)][i / 4 % STEPS][i % 4] =
            consumer.operands[SETS - 1].of[i / (STEPS * 4)][i / 4 % STEPS][i % 4] = 0;
    consumer.walk_with_edges<BLOCK_SUMS>(a, sums);
    wgmma_wait();
}
/* All of the block meet, consumers and producers from places of their own in the program. */
DEVICE void meet(const Shared &shared, Round &round) {
    __syncwarp();
    if (thread_index() % 32 == 0) mbarrier_arrive(shared.met);
    mbarrier_wait(shared.met, round.meetings);
    round.meetings ^= 1;
}
/* The largest finite magnitude under a job, by all threads. */
DEVICE float look_at(const Arguments &a, const Shared &shared, Round &round, const Job &at) {
    const int slices = int(a.box_d) + TURN - 1;
    float largest = 0.0f;
    if (thread_index() == 0) *shared.largest = 0;
    meet(shared, round);
    ROLLED for (int i = thread_index(); i < slices * ROWS * COLUMNS; i += THREADS) {
        const int x = at.w + i % COLUMNS, row = i / COLUMNS % ROWS;
        const int y = at.h + row / IN_CHANNELS, z = at.d + i / COLUMNS / ROWS;
        if (static_cast<unsigned long long>(x) < a.in_w &&
            static_cast<unsigned long long>(y) < a.in_h &&
            static_cast<unsigned long long>(z) < a.in_d)
            largest = finite_magnitude(
                largest, a.input[at.n * a.input_stride.n + row % IN_CHANNELS * a.input_stride.c +
                                 z * a.input_stride.d + y * a.input_stride.h + x]);
    }
    const unsigned most = __reduce_max_sync(~0U, __float_as_uint(largest));
    if (thread_index() % 32 == 0) atomicMax(shared.largest, most);
    meet(shared, round);
    return __uint_as_float(*shared.largest);
}
/* The first of jobs `next` .. `end` - 1 that halves with STAGE_SCALE cannot hold; else `end`. */
DEVICE int first_failed(const Shared &shared, int next, int end) {
    ROLLED for (; next < end; next += 32) {
        const int job = next + thread_index() % 32;
        const float largest =
            job < end ? __uint_as_float(shared.magnitude[job % ROUND]) * SPLIT_SCALE : 0.0f;
        const unsigned failed = __ballot_sync(~0U, carrier_fails(largest, SPLIT_MIN));
        if (failed != 0) return next + __ffs(failed) - 1;
    }
    return end;
}
/* To the next round, by all threads together: the jobs of this one that halves with STAGE_SCALE
 * cannot hold, each by itself, then others. False: there is none. */
DEVICE bool next_round(const Arguments &a, const Shared &shared) {
    Round round = *shared.round;
    const bool anew = round.scale != 0.0f;
    round.staged += round_stages(round, a);
    meet(shared, round);
    const int end = min(round.count, (round.first / ROUND + 1) * ROUND);
    const int next = first_failed(shared, anew ? round.end : round.first, end);
    if (next == round.count) return false;
    round.first = next; round.end = min(round.count, next + ROUND); round.scale = 0.0f;
    if (next < end) {
        float largest = __uint_as_float(shared.magnitude[next % ROUND]);
        if (!(largest <= FLOAT_MAX))
            largest = look_at(a, shared, round, job_at(first_job(a) + next, a));
        round.end = next + 1; round.scale = scale_to(8, largest);
    } else {
        meet(shared, round); /* all have read the magnitudes */
        if (thread_index() < ROUND) shared.magnitude[thread_index()] = 0;
    }
    for (int o = thread_index(); o < OUT_CHANNELS; o += THREADS)
        shared.scale_bias[o].x =
            unscale(shared.scale[o], round.scale != 0.0f ? round.scale : SPLIT_SCALE);
    if (thread_index() == 0) {
        *shared.round = round;
        shared.round->meetings ^= 1; /* the one below */
    }
    meet(shared, round);
    return true;
}

/* ---- the kernel ---------------------------------------------------------------------------- */
__global__ void __launch_bounds__(THREADS, 1)
    segue_conv_wgmma_gathered(const __grid_constant__ Arguments a) {
    extern __shared__ __align__(128) unsigned char memory[];
    Shared shared;
    shared.stages = memory;
    shared.weights = shared.stages + STAGES * STAGE_BYTES;
    shared.raw = shared.weights + PARTS * WEIGHT_BYTES;
    shared.scale_bias =
        reinterpret_cast<float2 *>(shared.raw + PRODUCERS * (AHEAD + 1) * RAW_BYTES);
    shared.full = shared_address(shared.scale_bias + TILE_N);
    shared.empty = shared.full + STAGES * 8; shared.met = shared.empty + STAGES * 8;
    shared.scale = reinterpret_cast<float *>(shared.scale_bias + TILE_N + 2 * STAGES + 1);
    shared.operands = shared.scale + TILE_N;
    shared.magnitude = reinterpret_cast<unsigned *>(shared.operands);
    shared.largest = shared.magnitude + ROUND;
    shared.round = reinterpret_cast<Round *>(shared.largest + 1);
    if (thread_index() >= CONSUMER_THREADS) {
        setmaxnreg_dec<PRODUCER_REGISTERS>();
        Round round = first_round(a);
        for (bool more = true; more; round = *shared.round) {
            produce(a, shared, round);
            more = next_round(a, shared);
        }
    } else {
        pack_weights(a, shared);
        setmaxnreg_inc<CONSUMER_REGISTERS>();
        do {
            consume(a, shared);
        } while (next_round(a, shared));
    }
}

#else /* other GPUs have no such instructions: here for the host to find */
__global__ void __launch_bounds__(32) segue_conv_wgmma_gathered(const __grid_constant__ Arguments a) {}
#endif
#undef SUMS
#undef SUMS
} // namespace wgmma_gathered

/* ---- implicit_gemm --------------------------------------------------------------------------- */
namespace implicit_gemm {
struct Arguments {
    const float *__restrict__ input; Stride input_stride;
    const float *__restrict__ weight; Stride weight_stride;
    const float *__restrict__ bias; Stride bias_stride;
    long long size_d, in_d, size_h, in_h, size_w, in_w, pixels, walk_count;
    float *__restrict__ store0; Stride store0_stride;
};

/* Convolution by `mma.sync` with its tail, the plain way: an implicit product of gathered pixels
 * (M) by channels (N), for any shape, stride, padding, dilation, groups and strides, from sm_80 on.
 *
 * A block makes BLOCK_PIXELS output pixels, counted through all images, by up to TILE_N channels of
 * one group. k runs over [input channel][tap], SLICE at a time: while one slice is multiplied out
 * of shared memory, the next is on its way to registers. Four neighbouring k of a pixel, or of a
 * channel, are one vector there. Lane l multiplies vector l % 4: its first two words in one product
 * and its last two in the next, for the order of k is free.
 *
 * Operands of class fp32 are high and low parts, of which three products are summed.
 * The tensor cores round each addition toward zero, so a slice's sums go to the other cores. */

DEVICE void store(float *to, real x) { *to = float(x); }

/* Matrix products by warps, `mma.sync` (PTX ISA 9.7.14). */

/* sums += a * b of one 16 x 8 tile: rows of a by columns of b. Lane l holds a's rows l / 4 (a0, a2)
 * and l / 4 + 8 (a1, a3), b's column l / 4, of k the words l % 4 (a0, a1, b0) and l % 4 + 4, and
 * sums of row l / 4 by columns 2 (l % 4), + 1, then of row l / 4 + 8. */
DEVICE void mma_tf32(float sums[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                     unsigned b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
/* Bits of a float such that its upper 19, all that tf32 products look at, are the float rounded to
 * 11 significant bits, halves away from zero. NaN and infinities stay what they are. */
DEVICE unsigned tf32_away(unsigned bits) {
    const float x = __uint_as_float(bits);
    return x == x ? bits + 0x1000u : bits;
}
/* x = high + low up to 2^-24 of x. The low part of what is not finite is 0: a product with it may
 * still be NaN, which is why products with low parts are summed apart and left out where the sum of
 * the high ones is not finite. Where rounding up would overflow, high is rounded down. */
DEVICE void tf32_split(unsigned bits, unsigned &high, unsigned &low) {
    const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
    const bool largest = (bits & 0x7ffff000u) == 0x7f7ff000u;
    high = (finite && !largest ? bits + 0x1000u : bits) & 0xffffe000u;
    const float rest = __uint_as_float(bits) - __uint_as_float(high);
    low = finite ? tf32_away(__float_as_uint(rest)) : 0;
}

constexpr int GROUP_INPUTS = 3, WARPS = 8, ROW_BLOCKS = 2;
constexpr int BLOCKS = 1, THREADS = WARPS * 32, BLOCK_PIXELS = WARPS * ROW_BLOCKS * 16;
constexpr int TAPS = KERNEL_D * KERNEL_H * KERNEL_W, K = GROUP_INPUTS * TAPS;
constexpr int SLICE = 16, SLICES = (K + SLICE - 1) / SLICE;
struct Pixels { /* A warp's pixels: where they lie was found when they were gathered. */
    const Place *places; /* in shared memory; n < 0: there is none */
    DEVICE bool valid(int row) const { return places[row].n >= 0; }
    DEVICE Place place(int row) const { return places[row]; }
};

struct RowTile {
    static constexpr int PIXELS = 2 * ROW_BLOCKS, CHANNELS = TILE_N / 4, OWN = PIXELS / 4;
    real d[ROW_BLOCKS][TILE_N / 2]; /* as the instructions lay it out */
    real running[TILE_WALKS][PIXELS][CHANNELS];
    const float2 *scale_bias; /* [TILE_N], in shared memory */
    int lane;
    Pixels pixels;
    DEVICE int row(int p) const { return p * 8 + lane / 4; }
    DEVICE int column(int j) const { return j / 2 * 8 + lane % 4 * 2 + j % 2; }
    DEVICE real acc(int p, int j) const {
        const float2 by = scale_bias[column(j)];
        return d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2] * by.x + by.y;
    }
    DEVICE int channel(int j) const { return column(j); }
    DEVICE bool valid(int p) const { return pixels.valid(row(p)); }
    DEVICE Place place(int p) const { return pixels.place(row(p)); }
    DEVICE real &walk(int p, int j) { return running[0][p][j]; }
    /* A quad's values, halved twice; with two pixels, halved once and combined once. */
    template <class Op> DEVICE void reduce(Op, const real (&in)[PIXELS], real (&out)[OWN]) {
        real half[PIXELS / 2];
        const bool upper = lane & 1;
        UNROLLED for (int i = 0; i < PIXELS / 2; i++) {
            const real keep = upper ? in[PIXELS / 2 + i] : in[i];
            const real give = upper ? in[i] : in[PIXELS / 2 + i];
            half[i] = Op::combine(keep, __shfl_xor_sync(~0U, give, 1));
        }
        const bool second = lane >> 1 & 1;
        UNROLLED for (int q = 0; q < OWN; q++) {
            const int other = OWN + q;
            const real keep = second ? half[other] : half[q], give = second ? half[q] : half[other];
            out[q] = Op::combine(keep, __shfl_xor_sync(~0U, give, 2));
        }
    }
    DEVICE void spread(const real (&in)[OWN], real (&out)[PIXELS]) const {
        UNROLLED for (int p = 0; p < PIXELS; p++) {
            const int owner = p / (PIXELS / 2) + p / (PIXELS / 4) % 2 * 2;
            out[p] = __shfl_sync(~0U, in[0], lane / 4 * 4 + owner);
        }
    }
    template <class T> DEVICE void put_alone(T *to, Stride s, int p, int j, real value) const {
        if (valid(p)) store(to + offset(place(p), s) + channel(j) * s.c, value);
    }
    static DEVICE long long offset(Place at, Stride s) {
        return at.n * s.n + at.d * s.d + at.h * s.h + at.w * s.w;
    }
};

struct Tile : RowTile {
    /* Lanes of one store have eight neighbouring pixels of four channels: whole sectors. */
    template <class T> DEVICE void put(T *to, Stride s, int p, int j, real value) const {
        put_alone(to, s, p, j, value);
    }
};
struct Tap { /* One k: elements from a pixel's first input, and from a channel's first weight. */
    long long input, weight;
    bool present;     /* false beyond the last */
};
/* Rows of vectors end two further: vectors that a warp reads at once lie in different banks. */
struct Shared {
    uint4 pixels[2][SLICE / 4][BLOCK_PIXELS + 2], channels[2][SLICE / 4][TILE_N + 2];
    Tap taps[2][SLICE];
    Place places[BLOCK_PIXELS];
    float2 scale_bias[TILE_N];
};

constexpr int PIXEL_VECTORS = SLICE / 4;
constexpr int CHANNEL_VECTORS = (SLICE / 4 * TILE_N + THREADS - 1) / THREADS;
struct Fetched { real pixel[PIXEL_VECTORS][4], channel[CHANNEL_VECTORS][4]; };

/* ---- places -------------------------------------------------------------------------------- */
DEVICE int next_index(long long &number, long long size) {
    const long long whole = number;
    number /= size;
    return int(whole - number * size);
}
/* Pixel `number` of those that are kept, at step `walked` of those that are not. */
DEVICE Place place_at(long long number, long long walked, const Arguments &a) {
    Place at;
    at.w = next_index(number, a.size_w); at.h = next_index(number, a.size_h);
    at.d = next_index(walked, a.size_d); at.n = int(number);
    return at;
}

DEVICE Tap tap_at(int k, const Arguments &a) {
    const int c = k / TAPS, w = k % KERNEL_W;
    const int h = k / KERNEL_W % KERNEL_H, d = k / (KERNEL_W * KERNEL_H) % KERNEL_D;
    const Place at = {0, d, h, w};
    Tap tap;
    tap.input = c * a.input_stride.c + Tile::offset(at, a.input_stride);
    tap.weight = c * a.weight_stride.c + Tile::offset(Place{0, d, h, w}, a.weight_stride);
    tap.present = k < K;
    return tap;
}

/* ---- a slice ------------------------------------------------------------------------------- */
/* Padding, absent channels, and k beyond the last come as zeros. */
DEVICE void fetch(Fetched &to, const Tap (&taps)[SLICE], const float *input, const float *weight,
                  int channels, const Arguments &a) {
    UNROLLED for (int i = 0; i < PIXEL_VECTORS * 4; i++) {
        const Tap &tap = taps[i];
        to.pixel[i / 4][i % 4] = tap.present ? load(input + tap.input) : real(0);
    }
    UNROLLED for (int i = 0; i < 4; i++) {
        const int channel = (i / 4 * THREADS + threadIdx.x) / 4;
        const Tap &tap = taps[threadIdx.x % 4 * 4 + i % 4];
        to.channel[i / 4][i % 4] =
            channel < channels && tap.present
                ? load(weight + channel * a.weight_stride.n + tap.weight)
                : real(0);
    }
}

DEVICE unsigned word_of(real x) { return __float_as_uint(x); }
DEVICE uint4 vector_of(const real (&x)[4]) {
    return make_uint4(word_of(x[0]), word_of(x[1]), word_of(x[2]), word_of(x[3]));
}
/* Both products of vectors of k: rows `upper` and `lower` of pixels by a column of channels. */
DEVICE void multiply_vectors(float *sums, const uint4 &upper, const uint4 &lower, const uint4 &by) {
    mma_tf32(sums, upper.x, lower.x, upper.y, lower.y, by.x, by.y);
    mma_tf32(sums, upper.z, lower.z, upper.w, lower.w, by.z, by.w);
}

DEVICE void split(const uint4 &x, uint4 &high, uint4 &low) {
    tf32_split(x.x, high.x, low.x);
    tf32_split(x.y, high.y, low.y);
    tf32_split(x.z, high.z, low.z);
    tf32_split(x.w, high.w, low.w);
}

DEVICE void multiply(Tile &tile, const Shared &shared, int buffer) {
    const uint4 *pixels = shared.pixels[buffer][tile.lane % 4] + tile.lane / 4 +
                          threadIdx.x / 32 * ROW_BLOCKS * 16;
    const uint4 *channels = shared.channels[buffer][tile.lane % 4] + tile.lane / 4;
    uint4 rows[2 * ROW_BLOCKS], low_rows[2 * ROW_BLOCKS];
    UNROLLED for (int i = 0; i < 2 * ROW_BLOCKS; i++) {
        rows[i] = pixels[i * 8];
        split(rows[i], rows[i], low_rows[i]);
    }
    UNROLLED for (int n = 0; n < TILE_N / 8; n++) {
        uint4 by = channels[n * 8];
        uint4 low_by;
        split(by, by, low_by);
        UNROLLED for (int b = 0; b < ROW_BLOCKS; b++) {
            float large[4] = {}, small[4] = {};
            multiply_vectors(small, low_rows[2 * b], low_rows[2 * b + 1], by);
            multiply_vectors(small, rows[2 * b], rows[2 * b + 1], low_by);
            multiply_vectors(large, rows[2 * b], rows[2 * b + 1], by);
            UNROLLED for (int i = 0; i < 4; i++) {
                /* Low parts count only where the high ones are finite, as tf32_split says. */
                const bool finite = -infinity() < large[i] && large[i] < infinity();
                tile.d[b][n * 4 + i] += finite ? large[i] + small[i] : large[i];
            }
        }
    }
}

/* ---- the kernel ---------------------------------------------------------------------------- */
/* All products of the block's pixels at one step of the walk. */
DEVICE void contract(Tile &tile, Shared &shared, int walked, const Arguments &a) {
    const int mine = threadIdx.x % BLOCK_PIXELS;
    const long long number = static_cast<long long>(blockIdx.x) * BLOCK_PIXELS + mine;
    Place place = place_at(min(number, a.pixels - 1), walked, a);
    /* Of the pixel's inputs; may lie outside the image. */
    const Place first = {place.n, place.d, place.h, place.w};
    const float *input = a.input + Tile::offset(first, a.input_stride);
    const float *weight = a.weight;
    const int channels = 24;
    place.n = number < a.pixels ? place.n : -1;
    __syncthreads(); /* the step before is done with shared memory */
    shared.places[mine] = place;
    if (threadIdx.x < SLICE) shared.taps[0][threadIdx.x] = tap_at(threadIdx.x, a);
    __syncthreads();
    Fetched fetched;
    fetch(fetched, shared.taps[0], input, weight, channels, a);
    UNROLLED for (int i = 0; i < ROW_BLOCKS * TILE_N / 2; i++)
        tile.d[i / (TILE_N / 2)][i % (TILE_N / 2)] = 0;
    ROLLED for (int slice = 0; slice < SLICES; slice++) {
        const int buffer = slice % 2;
        UNROLLED for (int v = 0; v < PIXEL_VECTORS; v++)
            shared.pixels[buffer][v] [mine] = vector_of(fetched.pixel[v]);
        const int channel = threadIdx.x / 4;
        if (channel < TILE_N)
            shared.channels[buffer][threadIdx.x % 4][channel] = vector_of(fetched.channel[0]);
        if (threadIdx.x < SLICE)
            shared.taps[buffer ^ 1][threadIdx.x] = tap_at((slice + 1) * SLICE + threadIdx.x, a);
        __syncthreads();
        if (slice + 1 < SLICES) fetch(fetched, shared.taps[buffer ^ 1], input, weight, channels, a);
        multiply(tile, shared, buffer);
    }
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    segue_implicit_gemm(const __grid_constant__ Arguments a) {
    extern __shared__ uint4 memory[];
    Shared &shared = *reinterpret_cast<Shared *>(memory);
    Tile tile;
    tile.lane = threadIdx.x % 32;
    tile.pixels.places = shared.places + threadIdx.x / 32 * ROW_BLOCKS * 16;
    tile.scale_bias = shared.scale_bias;
    for (int slot = threadIdx.x; slot < TILE_N; slot += THREADS)
        shared.scale_bias[slot] = make_float2(1.0f, load(a.bias + slot * a.bias_stride.c));
    Tail<Tile, Arguments> tail;
    tail.begin(tile);
    const int steps = int(a.walk_count);
    ROLLED for (int step = 0; step < steps; step++) {
        contract(tile, shared, step, a);
        tail.step(tile, a);
    }
    tail.end(tile, a);
}
} // namespace implicit_gemm

/* ---- the host's side ------------------------------------------------------------------------ */
static long long most(long long x, long long y) { return x > y ? x : y; }
static long long pieces(long long x, long long y) { return (x + y - 1) / y; }
static bool aligned(const void *address, unsigned long long bytes) {
    return reinterpret_cast<unsigned long long>(address) % bytes == 0;
}
/* Whether the current device has a kernel's code; it then gives it shared memory. */
template <class A> static bool prepare(void (*kernel)(A), int threads, int shared) {
    static std::atomic<int> known[256]; /* by device: 0 not asked yet, 1 no, 2 yes */
    int device = 0;
    cudaGetDevice(&device);
    if (known[device] == 0) {
        cudaFuncAttributes found;
        const auto memory = cudaFuncAttributeMaxDynamicSharedMemorySize;
        known[device] = cudaFuncGetAttributes(&found, kernel) == cudaSuccess &&
                found.maxThreadsPerBlock >= threads &&
                cudaFuncSetAttribute(kernel, memory, shared) == cudaSuccess ? 2 : 1;
        cudaGetLastError(); /* of code that is not there */
    }
    return known[device] == 2;
}

template <class A>
static const char *launch(void (*kernel)(A), const A &a, long long blocks, int threads, int shared,
                   cudaStream_t stream) {
    if (blocks > 2147483647) return "the result is too large";
    if (!prepare(kernel, threads, shared)) return "the GPU has not what the kernel needs";
    const cudaLaunchConfig_t how = {dim3(unsigned(blocks)), dim3(threads), size_t(shared), stream,
                                    nullptr, 0};
    const cudaError_t status = cudaLaunchKernelEx(&how, kernel, a);
    return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

extern "C" const char *conv3d_min_softmax(const float *x, const float *conv_weight,
    const float *conv_bias, float *softmax, long long n, long long in_d, long long in_h,
    long long in_w, cudaStream_t stream) {
    const long long d = in_d - 2, h = in_h - 2, w = in_w - 2;
    int device = 0, processors = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (!(n >= 0 && n < 1 << 30 && in_d >= 3 && in_d < 1 << 30 && in_h >= 3 && in_h < 1 << 30 &&
        in_w >= 3 && in_w < 1 << 30))
        return "the image is smaller than the filter, or a size is 2^30 or more";
    if (n == 0) return nullptr;
    const auto take_tensors = [=](auto &a) {
        a.input = x; a.input_stride = {3 * in_d * in_h * in_w, in_d * in_h * in_w, in_h * in_w,
            in_w, 1};
        a.weight = conv_weight; a.weight_stride = {81, 27, 9, 3, 1};
        a.bias = conv_bias; a.bias_stride = {0, 1, 0, 0, 0};
        a.store0 = softmax; a.store0_stride = {24 * h * w, h * w, 0, w, 1};
    };
    /* %x is read in vectors of 4; %softmax is written in vectors of 2 */
    if (aligned(x, 16) && in_w % 4 == 0 && aligned(softmax, 8) && w % 2 == 0 &&
        prepare(wgmma_gathered::segue_conv_wgmma_gathered, 512, 170564)) {
        wgmma_gathered::Arguments a;
        take_tensors(a);
        a.out_d = d; a.in_d = in_d; a.out_h = h; a.in_h = in_h; a.out_w = w; a.in_w = in_w;
        a.box_d = a.out_d; a.jobs_d = pieces(a.out_d, a.box_d); a.jobs_h = pieces(a.out_h, 6);
        a.jobs_w = pieces(a.out_w, 30); a.job_count = n * a.jobs_d * a.jobs_h * a.jobs_w;
        /* boxes are counted in 28 bits; a row of the output is one box */
        if (a.job_count < 268435455 && a.jobs_w == 1)
            return launch(wgmma_gathered::segue_conv_wgmma_gathered, a, pieces(a.job_count, most(1,
                pieces(a.job_count, processors))), 512, 170564, stream);
    }
    implicit_gemm::Arguments a;
    take_tensors(a);
    a.size_d = d; a.in_d = in_d; a.size_h = h; a.in_h = in_h; a.size_w = w; a.in_w = in_w;
    a.pixels = n * h * w; a.walk_count = d;
    return launch(implicit_gemm::segue_implicit_gemm, a, pieces(a.pixels, 256), 256, 42016, stream);
}
} // namespace conv3d_min_softmax_code
"""

# ---- the binding: tensors in, tensors out ----

BINDING = r"""
#include <c10/cuda/CUDAGuard.h>
#include <torch/extension.h>

using torch::Tensor;

/* What the kernels take for granted of a tensor. */
static void check(const char *name, const Tensor &tensor, torch::IntArrayRef sizes,
                  torch::Dtype dtype, const torch::Device &device) {
    const char *wrong = tensor.device() != device        ? " lies on another device"
                        : tensor.scalar_type() != dtype  ? " is of a dtype that kernels do not take"
                        : tensor.sizes() != sizes        ? " has sizes that kernels do not take"
                        : !tensor.is_contiguous()        ? " is not contiguous"
                                                         : nullptr;
    if (wrong) throw py::value_error(std::string(name) + wrong);
}

static Tensor call_conv3d_min_softmax(const Tensor &x, const Tensor &weight, const Tensor &bias) {
    const torch::Device device = x.device();
    const c10::cuda::CUDAGuard guard(device);
    if (x.dim() != 5) throw py::value_error("x has too many or too few dimensions");
    const int64_t n = x.size(0), in_d = x.size(2), in_h = x.size(3), in_w = x.size(4);
    check("x", x, {n, 3, in_d, in_h, in_w}, torch::kFloat, device);
    check("weight", weight, {24, 3, 3, 3, 3}, torch::kFloat, device);
    check("bias", bias, {24}, torch::kFloat, device);
    Tensor out = torch::empty({n, 24, in_h - 2, in_w - 2}, x.options());
    const char *wrong = conv3d_min_softmax(x.data_ptr<float>(), weight.data_ptr<float>(),
        bias.data_ptr<float>(), out.data_ptr<float>(), n, in_d, in_h, in_w,
        c10::cuda::getCurrentCUDAStream());
    if (wrong) throw py::value_error(wrong);
    return out;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
    module.def("conv3d_min_softmax", &call_conv3d_min_softmax);
}
"""

# ---- what forward() assumes; each check raises a ValueError with a sentence ----

TENSORS = (torch.Tensor, torch.nn.Parameter)
is_compiling = getattr(getattr(torch, "compiler", None), "is_compiling", lambda: False)


def on_gpu(*tensors):
    """Whether these are ordinary tensors on a GPU."""
    return all(type(t) in TENSORS and t.is_cuda for t in tensors)


def plain(module, *tensors):
    """Whether these are on a GPU, no gradient is wanted, and nothing looks at single operators or
    changes them: autocast, tracing, modes."""
    if is_compiling() or torch.is_autocast_enabled() or torch.jit.is_tracing():
        return False
    if torch._C._len_torch_dispatch_stack() > 0 or torch.autograd.forward_ad._current_level >= 0:
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None or not on_gpu(*tensors):
        return False
    known = (*tensors, *module.parameters()) if torch.is_grad_enabled() else ()
    return not any(t.requires_grad for t in known)


def expect_setting(name, value, wanted):
    """A value that the kernels have as a constant."""
    if type(value) is not type(wanted) or value != wanted:
        raise ValueError(f"{name} is {value}, the kernels were written for {wanted}")


def expect_module(name, module, kind, **settings):
    """A submodule of which forward() needs no more than tensors and these settings."""
    if type(module) is not kind or module._forward_hooks or module._forward_pre_hooks:
        raise ValueError(f"{name} is no {kind.__name__}, or has hooks")
    for key, wanted in settings.items():
        if getattr(module, key) != wanted:
            raise ValueError(f"{name}.{key} is {getattr(module, key)}, written for {wanted}")


def run_kernel(name, *tensors):
    """Calls that for the tensors' GPU."""
    if not on_gpu(*tensors):
        raise ValueError("an operand is no ordinary tensor on a GPU")
    built = build(tensors[0].get_device())
    if isinstance(built, str):
        raise ValueError(built)
    return getattr(built, name)(*tensors)


@functools.lru_cache(maxsize=None)
def build(device):
    """Compiles with nvcc, in half a minute, what PyTorch then keeps on disk; or why that failed."""
    if torch.cuda.is_current_stream_capturing():
        raise ValueError("a CUDA graph is being captured before the kernels are built")
    architecture = "".join(map(str, torch.cuda.get_device_capability(device)))
    if architecture == "90" and int(torch.version.cuda.split(".")[0]) >= 12:
        architecture = "90a"
    flags = ["-O3", f"-gencode=arch=compute_{architecture},code=sm_{architecture}"]
    text = "".join([torch.__version__, DECLARATIONS, KERNELS, BINDING, *flags])
    try:
        from torch.utils.cpp_extension import load_inline

        known = inspect.signature(load_inline).parameters
        return load_inline(
            name=f"conv3d_min_softmax_{hashlib.sha256(text.encode()).hexdigest()[:12]}",
            cpp_sources=[DECLARATIONS, BINDING],
            cuda_sources=[DECLARATIONS, KERNELS],
            extra_cuda_cflags=flags,
            **{k: True for k in ["no_implicit_headers"] if k in known},  # builds faster
        )
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"the kernels could not be built: {first}"


# ---- the model with fused operators ----


class ModelNew(Model):
    """Model with one kernel for each chain of operators above."""

    def forward(self, x):
        """As Model.forward()."""
        try:
            if plain(self, x):
                return self.fused(x)
        except ValueError as reason:
            said = f"ModelNew runs the original operators: {reason}."
            warnings.warn(said, stacklevel=2)
        return super().forward(x)

    def fused(self, x):
        """Model.forward() with one call for all operators of a kernel."""
        expect_setting("self.dim", self.dim, 2)
        expect_module(
            "self.conv", self.conv, torch.nn.Conv3d, padding_mode="zeros", stride=(1, 1, 1),
            padding=(0, 0, 0), dilation=(1, 1, 1), groups=1,
        )  # fmt: skip
        return run_kernel("conv3d_min_softmax", x, self.conv.weight, self.conv.bias)
