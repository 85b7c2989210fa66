"""3D convolution, the minimum over the depth, and softmax over the channels, in one kernel.

ModelNew takes the place of Model in conv3d_min_softmax.py: the same constructor, parameters,
forward() and results, for any batch and image size.

Fused:      conv3d, min, softmax (conv3d_min_softmax)
By PyTorch: nothing
Floor:      9.85 GFLOP and 48.8 MB a call for float32[128, 3, 24, 32, 32]; 0.037 ms at the 804
            TFLOP/s of half products and 4.2 TB/s that one NVIDIA H200 reached
Measured:   0.103 ms, segue.optimize; 0.94 ms, PyTorch; 0.70 ms, torch.compile at its best (NVIDIA
            H200, PyTorch 2.11.0+cu130, Segue 1905269)
Numbers:    class fp32: as exact as float32 products and sums
Needs:      PyTorch 2.0, a CUDA toolkit from 11.8 on (nvcc), a GPU from sm_80 on; the fast path, for
            sm_90a (H100, H200), needs CUDA 12.0
Otherwise:  the original operators run for CPU tensors, where a gradient is wanted (call it under
            torch.no_grad() or torch.inference_mode()), inside torch.compile, torch.export, autocast
            and transforms, and, with a warning that says why, where something else does not fit the
            kernels
Written by: segue compile examples/conv3d_min_softmax.py -o gallery/conv3d_min_softmax.py --gpu
            sm_90a --figures bench/results/nvidia-h200/results.json (Segue 0.1.0)
"""

import hashlib
import inspect
import threading
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

/* A tensor in device memory; strides in elements, in brackets sizes that this was written for. */
struct conv3d_min_softmax_tensor { void *data; long long size[5], stride[5]; };
struct conv3d_min_softmax_arguments {
    conv3d_min_softmax_tensor x; /* float [128, 3, 24, 32, 32] */
    conv3d_min_softmax_tensor conv_weight; /* float [24, 3, 3, 3, 3] */
    conv3d_min_softmax_tensor conv_bias; /* float [24] */
    conv3d_min_softmax_tensor softmax; /* result, float [128, 24, 30, 30] */
};
/* Enqueues the kernel on a stream of the current device. Null, or what is wrong. */
extern "C" const char *conv3d_min_softmax(const conv3d_min_softmax_arguments *, cudaStream_t);
"""

KERNELS = r"""
/* conv3d_min_softmax: one kernel for
 *
 *     %x = input : f32[128, 3, 24, 32, 32]
 *     %conv.weight = input : f32[24, 3, 3, 3, 3]
 *     %conv.bias = input : f32[24]
 *     %convolution = convolution %x, %conv.weight, %conv.bias : f32[128, 24, 22, 30, 30]
 *     %amin = amin %convolution {dim=[2]} : f32[128, 24, 30, 30]
 *     %softmax = softmax %amin {dim=1} : f32[128, 24, 30, 30]
 *
 * for any batch and image.
 * First path (wgmma_packed): warpgroup products on patches of the input, its few channels and the
 *    taps packed side by side; turn 3, box_w 32, box_d 22, row_blocks 1, tiles 1, consumers 4,
 *    producers 4, lane_rows 2, stages 8, blocks 1.
 * Any sizes, strides and addresses (implicit_gemm): warp products of gathered pixels by channels;
 *    warps 8, row_blocks 2, channels 24.
 */
#include <cuda_runtime.h>

#include <algorithm>
#include <map>
#include <mutex>

namespace conv3d_min_softmax_code {
#define DEVICE __device__ __forceinline__
#define UNROLLED _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")

/* The compute type `real`, elements as they lie in memory, places and strides, reductions. */
using real = float;
/* Element strides by role; 0 along what an operand does not vary with. */
struct Stride { long long n, c, d, h, w; };
struct Place { int n, d, h, w; };

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

/* part / sum, where 0 <= part <= 1 <= sum: by the inverse of the sum, which many parts have in
 * common, and one correction, which leaves the quotient rounded correctly where it is normal
 * (Markstein, Computation of elementary functions on the IBM RISC System/6000, 1990, theorem 7). */
DEVICE float share(float part, float sum) {
    const float inverse = 1.0f / sum, quotient = part * inverse;
    return fmaf(fmaf(-quotient, sum, part), inverse, quotient);
}

constexpr int KERNEL_D = 3, KERNEL_H = 3, KERNEL_W = 3, TILE_N = 24, TILE_WALKS = 1, BLOCKS = 1;

/* Elementary functions, with the meaning of PyTorch's at NaN, infinities, signed zero and subnormal
 * numbers. */

namespace ops {
DEVICE float v_fma(float a, float b, float c) { return fmaf(a, b, c); }

/* Shorter than the above, and as good as the table asks where nothing is built on it. */
DEVICE float v_exp(float x) { return expf(x); }
DEVICE real sub(real a, real b) { return v_fma(real(-1.0), b, a); }
} // namespace ops

/* ---- wgmma_packed ---------------------------------------------------------------------------- */
namespace wgmma_packed {

struct Arguments {
    const float *__restrict__ input; Stride input_stride;
    const float *__restrict__ weight; Stride weight_stride;
    const float *__restrict__ bias; Stride bias_stride;
    long long out_d, in_d, out_h, in_h, out_w, in_w, box_d, jobs_d, jobs_h, jobs_w, job_count;
    float *__restrict__ store0; Stride store0_stride;
};

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* Convolution of few input channels by wgmma, pixels as rows.
 *
 * The patch under an output pixel, channels and taps of a slice, is a row of A: K halves. A stage
 * holds the rows of one box of M pixels at one place along depth (stage_packed.cuh); producer warps
 * fill stages, consumer warpgroups multiply and run the tail.
 *
 * With TURN = KERNEL_D > 1 the kernel's slices are columns of B and not a part of K: one product,
 * [pixels][K] x [K][kernel slices x channels], adds a slice of the input to the sums of TURN output
 * depths at once, so that A is read from shared memory once and not TURN times. The sums take
 * turns: output depth d lies in block d % TURN. B holds the kernel's slices in the order 0,
 * TURN - 1, .., 1, 0, TURN - 1, .., 2, of which TURN neighbours are what any turn of the sums
 * wants.
 *
 * PARTS = 2 (fp32): x = hi + lo. Stages hold hi and lo * 2048, B holds hi, lo and hi / 2048. Every
 * addition rounds toward zero, so one sum takes hi * lo and lo * hi first, while it is small, then
 * hi * hi, of one slice alone with TURN > 1, else of SUM_K k; such sums are added up in other
 * registers (MOVES).
 *
 * A job is one box of one image, at BOX_D places along depth or, walked, at all of them. Constants
 * beyond those of the files taken in: TURN, PARTS, CONSUMERS (warpgroups), PRODUCERS (warps, a
 * multiple of 4), STAGES, BLOCKS (of a multiprocessor), TILES (of a consumer), M = CONSUMERS *
 * TILES * ROW_BLOCKS * 64 = BOX_H * BOX_W, CONSUMER_REGISTERS, PRODUCER_REGISTERS, HAS_BIAS, BFLOAT
 * (elements are bfloat16), WEIGHTS_IN_ORDER (they lie as `raw` holds them), OPENS_BEHIND (jobs are
 * opened behind their first products). */

struct half_t { unsigned short bits; };

/* ---- elements ------------------------------------------------------------------------------ */
DEVICE float narrow(float x) { return x; }

DEVICE float widen(half_t x) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
    return value;
}
/* To nearest even, overflow to infinity, NaN stays NaN. */
DEVICE half_t to_half(real x) {
    half_t result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(narrow(x)));
    return result;
}

DEVICE real load(const float *from) { return real(*from); }
DEVICE real load(const half_t *from) { return real(widen(*from)); }
DEVICE void store(float *to, real x) { *to = float(x); }
DEVICE void store(half_t *to, real x) { *to = to_half(x); }

/* Hopper's own instructions, one function each and named after it, and what rounds to tf32.
 *
 * An operand of a product lies in shared memory without swizzle: cores of 8 rows x 16 bytes, 128
 * bytes in a row. A descriptor names the first core, the bytes from a core to the one 8 halves
 * further along k (`leading`), and to the one 8 rows further (`stride`). So a filter tap is only
 * another first core, at any multiple of 16 bytes.
 * PTX ISA, "Asynchronous warpgroup level matrix instructions": "Strides", K-major, no swizzle. */

constexpr int WARPGROUP = 128;           /* threads */
constexpr float CARRIER_SCALE = 64.0f;   /* activations, before they become halves */
constexpr float CARRIER_MAX = 65504.0f;  /* of scaled values: beyond it, fp16 has infinity */
constexpr float CARRIER_MIN = 0.015625f; /* of a segment's largest, scaled: less is made anew */
constexpr float FLOAT_MAX = 3.40282347e38f;
DEVICE unsigned shared_address(const void *pointer) {
    return unsigned(__cvta_generic_to_shared(pointer));
}

/* ---- barriers ------------------------------------------------------------------------------ */
DEVICE void mbarrier_init(unsigned barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

DEVICE void mbarrier_arrive(unsigned barrier) {
    asm volatile("{ .reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0]; }" ::"r"(barrier)
                 : "memory");
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

/* Makes this thread's writes to shared memory visible to products and bulk copies; then a barrier
 * must follow. */
DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
template <int REGISTERS> DEVICE void setmaxnreg_inc() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS> DEVICE void setmaxnreg_dec() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

/* ---- products ------------------------------------------------------------------------------ */
/* leading, stride: bytes, multiples of 16, below 2^18. Adding bytes / 16 moves the first core. */
DEVICE unsigned long long matrix_descriptor(unsigned address, int leading) {
    const unsigned low = (address & 0x3FFFF) >> 4 | unsigned(leading) >> 4 << 16;
    const unsigned high = unsigned(0) >> 4;
    return static_cast<unsigned long long>(high) << 32 | low;
}

/* Before the first product after registers of it were touched. */
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/* Waits until at most PENDING committed groups are under way. */
template <int PENDING> DEVICE void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

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

/* The larger magnitude; NaN if there is one. */
DEVICE float max_magnitude(float largest, float x) {
    float result;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(largest), "f"(fabsf(x)));
    return result;
}

/* The larger finite magnitude: NaN and infinity do not count. */
DEVICE float finite_magnitude(float largest, float x) {
    const float magnitude = fabsf(x);
    return magnitude <= FLOAT_MAX ? fmaxf(largest, magnitude) : largest;
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
 * of 2^-23, which halves hold. exponent: 0 .. 8. */
DEVICE float scale_to(int exponent, float largest) {
    const int biased = int(__float_as_uint(largest) >> 23);
    if (largest == 0.0f) return 1.0f;
    return __uint_as_float(unsigned(min(254 + exponent - biased, 253)) << 23);
}

/* For an output channel's weights and a failed segment's activations. */
DEVICE float weight_scale(float largest_finite) { return scale_to(7, largest_finite); }
DEVICE float segment_scale(float largest_finite) { return scale_to(8, largest_finite); }
DEVICE float inverse_scale(float scale) {
    return __uint_as_float((254u << 23) - __float_as_uint(scale));
}

/* What sums of products of scaled operands are multiplied by: a power of two; 2^127 for more, where
 * one product of the largest operands has left float's range, since infinity would make NaN of a
 * sum that is zero; and 0 for less than 2^-149, where a result is less than 2^-133 times the length
 * of its sum. */
DEVICE float unscale(float weight_scale, float activation_scale) {
    const float most = 1.7014118e38f; /* 2^127 */
    return fminf(inverse_scale(weight_scale) * inverse_scale(activation_scale), most);
}

using held = float;
constexpr int IN_CHANNELS = 3;
constexpr int OUT_CHANNELS = 24, PARTS = 2, TURN = 3, K = 32, M = 256, BOX_H = 8, BOX_W = 32;
constexpr int ROW_BLOCKS = 1, TILES = 1, LANE_ROWS = 2, LOAD_ROWS = 2, VECTOR = 4, STAGES = 8;
constexpr int CONSUMERS = 4, PRODUCERS = 4, CONSUMER_REGISTERS = 88, PRODUCER_REGISTERS = 128;

#define SUMS(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
DEVICE void wgmma(float (&d)[36], unsigned long long a, unsigned long long b, int accumulate) {
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %38, 0;\n\t"
                 "wgmma.mma_async.sync.aligned.m64n72k16.f32.f16.f16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35}, "
                 "%36, %37, p, 1, 1, 0, 0;\n\t}"
                 : SUMS(0), SUMS(4), SUMS(8), SUMS(12), SUMS(16), SUMS(20), SUMS(24), SUMS(28),
                   SUMS(32)
                 : "l"(a), "l"(b), "r"(accumulate));
}

/* The compiler does not keep it in a register: it is wanted where jobs begin, end and are few. */
DEVICE unsigned thread_index() {
    unsigned index;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
    return index;
}

/* A value that stays in a register, or one from which nothing is worked out ahead of time. */
DEVICE unsigned opaque(unsigned value) { asm volatile("" : "+r"(value)); return value; }
struct Job {
    int n, d, h, w; /* image; first output pixel */
    int depths;     /* output places along depth */

    DEVICE int slices() const { return depths + TURN - 1; }
};

DEVICE Job job_at(int job, const Arguments &a) {
    const int jobs_w = int(a.jobs_w), jobs_h = int(a.jobs_h);
    const int jobs_d = int(a.jobs_d), box_d = int(a.box_d);
    Job at;
    at.w = job % jobs_w * BOX_W; job /= jobs_w;
    at.h = job % jobs_h * BOX_H; job /= jobs_h; at.d = job % jobs_d * box_d;
    at.n = job / jobs_d; at.depths = min(box_d, int(a.out_d) - at.d);
    return at;
}

/* conv_wgmma_packed.cuh: shared memory, and the order in which a block takes its jobs. */

/* Shared memory, in order. */
struct Shared {
    unsigned char *stages, *weights;
    float2 *scale_bias;   /* [TILE_N]: what brings sums back, for the present job */
    float *scale;         /* [TILE_N]: of the weights */
    float *operands;      /* [CHANNEL_OPERANDS][TILE_N] */
    unsigned *magnitude;  /* [ROUND]: bits of the largest packed of a job, or the largest finite */
    unsigned *failed;     /* [ROUND / 32]: bits of the round's jobs to be made anew */
    int *count;           /* of the block's jobs */
    int *round_end;       /* number of the first job of the next round */
    float *raw;           /* [OUT_CHANNELS][WEIGHTS], as they are */
    unsigned full, empty; /* addresses of [STAGES] barriers each */
    unsigned met;         /* of the barrier at which all warps meet between rounds */
};

constexpr int CONSUMER_THREADS = CONSUMERS * WARPGROUP, THREADS = CONSUMER_THREADS + PRODUCERS * 32;
constexpr int ROUND = 256; /* jobs; no more than threads */
/* The block's jobs, the same for all its threads: a round of them as a rule has it, then those
 * anew that halves with CARRIER_SCALE cannot hold, by a scale of their own. */
struct Work {
    int place;    /* the job's number among the block's; its complement where it is made anew */
    int meetings; /* so far, modulo 2 */

    DEVICE int number() const { return place ^ place >> 31; }
    DEVICE int job() const { return blockIdx.x + number() * gridDim.x; }
    DEVICE bool anew() const { return place < 0; }
    /* Whether activations may have another scale than in the job before. */
    DEVICE bool rescaled() const { return anew() || (place > 0 && place % ROUND == 0); }
    /* To the next job; false: there is none. */
    DEVICE bool next(const Shared &shared) {
        const int end = *shared.round_end;
        if (place >= 0 && place + 1 < end) {
            place++;
            return true;
        }
        int n = number() + 1;
        if (!anew()) {
            n = (end - 1) / ROUND * ROUND;
            if (!judge(shared, n + thread_index(), end)) n = end;
        }
        for (; n < end; n++)
            if (shared.failed[n % ROUND / 32] >> n % 32 & 1) {
                place = ~n;
                return true;
            }
        return open_round(shared, end);
    }
    /* All of the block meet, consumers and producers from places of their own in the program. */
    DEVICE void meet(const Shared &shared) {
        __syncwarp();
        if (thread_index() % 32 == 0) mbarrier_arrive(shared.met);
        mbarrier_wait(shared.met, meetings);
        meetings ^= 1;
    }
    /* Whether some job failed; thread i of the block judges job i of the round. */
    DEVICE bool judge(const Shared &shared, int n, int end) {
        meet(shared);
        bool fails = false;
        if (thread_index() < ROUND && n < end) {
            const float largest = __uint_as_float(shared.magnitude[thread_index()]);
            fails = carrier_fails(largest * CARRIER_SCALE);
        }
        const unsigned failed = __ballot_sync(~0U, fails);
        if (thread_index() < ROUND && thread_index() % 32 == 0)
            shared.failed[thread_index() / 32] = failed;
        meet(shared);
        unsigned some = 0;
        UNROLLED for (int i = 0; i < ROUND / 32; i++) some |= shared.failed[i];
        return some != 0;
    }
    DEVICE bool open_round(const Shared &shared, int first) {
        const int count = *shared.count;
        if (first == count) return false;
        place = first;
        meet(shared);
        if (thread_index() < ROUND) shared.magnitude[thread_index()] = 0;
        if (thread_index() == 0) *shared.round_end = min(count, first + ROUND);
        meet(shared);
        return true;
    }
};

/* Producers of packed slices: patches of the input become rows of A.
 *
 * A stage holds the patches of M output pixels at one place along depth, in halves (float16 and
 * bfloat16 as they are), groups of eight of them:
 *     [PARTS][K / 8][M slots][8]
 * k goes by the kernel's rows: the taps of a row, [channel][kd][kw], are pairs of halves, ROW_WORDS
 * of them, the last padded with a zero; zeros from WORDS pairs on. Kernel, stride, dilation and
 * padding end here: a stage has no halo. Pixel m of the box lies at row m / BOX_W, column
 * m % BOX_W.
 *
 * With SHARED_ROWS (stride and dilation 1 along height, BOX_W a multiple of 32) a row of the input
 * is stored once for all rows of the kernel. Of a kernel row's taps the first MAIN * 8 are whole
 * groups, kept for every row of the input under the box; row kh of the kernel is the same group
 * kh * BOX_W slots further on. The REST taps of all kernel rows together fill groups of M slots:
 *     [PARTS]([MAIN][BOX_H + KERNEL_H - 1][BOX_W][8], [K / 8 - KERNEL_H * MAIN][M][8])
 * k goes by the whole groups, [MAIN][KERNEL_H], and then by the rest, [KERNEL_H][REST].
 *
 * A lane packs four neighbours in each of LANE_ROWS rows, one row of the input after the other:
 * what it made of one serves every output row that the kernel reaches from there. STAGES * UNITS is
 * a multiple of PRODUCERS, so that what a thread overwrites is its own. */

constexpr int UNIT = 128 * LANE_ROWS; /* pixels of a warp at a time */
constexpr int UNITS = M / UNIT;       /* of a stage */
constexpr int SPAN = 3 + (KERNEL_W - 1) + 1; /* columns under neighbours */
constexpr int ROW_TAPS = IN_CHANNELS * KERNEL_W;
constexpr int ROW_WORDS = (ROW_TAPS + 1) / 2, WORDS = KERNEL_H * ROW_WORDS;
constexpr int GROUPS = K / 8, IN_ROWS = LANE_ROWS - 1 + (KERNEL_H - 1) + 1;
constexpr int MAINS = KERNEL_H; /* the first groups of k */
constexpr int MAIN_SLOTS = (BOX_H + KERNEL_H - 1) * BOX_W;

/* Slots before a group of k. */
__device__ constexpr int group_at(int group) {
    if (group < MAINS) return group / KERNEL_H * MAIN_SLOTS + group % KERNEL_H * BOX_W;
    return MAIN_SLOTS + (group - MAINS) * M;
}
/* The place in k of tap j of the kernel's row kh. */
__device__ constexpr int place_in_k(int kh, int j) {
    return j < 8 ? (j / 8 * KERNEL_H + kh) * 8 + j % 8 : MAINS * 8 + kh + j - 8;
}

constexpr int PART_BYTES = group_at(GROUPS) * 16, STAGE_BYTES = PARTS * PART_BYTES;
constexpr float REST_SCALE = 2048.0f;
/* Slots and pixels of a stage: eights of slots are eights of pixels, in an order that brings every
 * store of 16 bytes by eight lanes, which are 64 bytes apart, to all 32 banks. Its own inverse. */
DEVICE int packed_pixel(int slot) { return slot ^ (slot >> 3 & 3); }

/* Activations go to halves in two instructions. Added to a float's bits, 6 << 23 multiplies by
 * CARRIER_SCALE, and 1 << 12 carries into the eleven bits that truncation then keeps: rounding half
 * away from zero. Zero becomes a number too small for a half, which is as good; where the exponent
 * overflows, the job is made ANEW: exactly, with the job's own scale. */
template <bool ANEW> DEVICE float scale_operand(float x, float scale) {
    if (!ANEW) return __uint_as_float(__float_as_uint(x) + (6U << 23) + 0U);
    return x * scale;
}
template <bool ANEW> DEVICE unsigned pack_operands(float low, float high) {
    return pack_halves(low, high);
}

/* Splits x: a half's worth, which x becomes, and what that leaves. `finite`: x is known to be. */
DEVICE float split(float &x, bool finite) {
    const float whole = x;
    if (!finite) x = finite_part(x);
    return whole - widen(half_t{round_half(x)});
}

/* Brings a value to what pack_operands takes, and returns what a half leaves of it. largest: of the
 * magnitudes met, unless the job is made ANEW. */
template <bool ANEW> DEVICE float prepare(float &value, float scale, float &largest) {
    if (!ANEW) largest = max_magnitude(largest, value);
    value = scale_operand<ANEW>(value, scale);
    return split(value, !ANEW) * REST_SCALE;
}
template <bool ANEW> DEVICE float prepare(unsigned &, float, float &) { return 0.0f; }
template <bool ANEW> DEVICE unsigned pack_operands(unsigned low, unsigned high) {
    return low | high << 16;
}

/* One, two or four neighbours of a row; zeros where `in` is false. */
DEVICE void read_one(const float *from, bool in, float &out) { out = in ? *from : 0.0f; }
DEVICE void read_two(const float *from, bool in, float *out) {
    float2 v = make_float2(0.0f, 0.0f);
    if (in) v = *reinterpret_cast<const float2 *>(from);
    out[0] = v.x, out[1] = v.y;
}
DEVICE void read_four(const float *from, bool in, float *out) {
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (in) v = *reinterpret_cast<const float4 *>(from);
    out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
}
template <class Narrow> DEVICE void read_one(const Narrow *from, bool in, unsigned &out) {
    out = in ? from->bits : 0;
}
template <class Narrow> DEVICE void read_two(const Narrow *from, bool in, unsigned *out) {
    unsigned v = 0;
    if (in) v = *reinterpret_cast<const unsigned *>(from);
    out[0] = v & 0xffff, out[1] = v >> 16;
}
template <class Narrow> DEVICE void read_four(const Narrow *from, bool in, unsigned *out) {
    uint2 v = make_uint2(0, 0);
    if (in) v = *reinterpret_cast<const uint2 *>(from);
    out[0] = v.x & 0xffff, out[1] = v.x >> 16, out[2] = v.y & 0xffff, out[3] = v.y >> 16;
}

/* Whether one of four neighbours uses column i of their span. */
__device__ constexpr bool span_uses(int i) {
    for (int p = 0; p < 4; p++)
        for (int kw = 0; kw < KERNEL_W; kw++) if (p + kw == i) return true;
    return false;
}

/* Columns to read at once from column i of a span on. The span begins PADDING_W before a multiple
 * of four columns. */
__device__ constexpr int span_width(int i) {
    for (int width = VECTOR; width > 1; width /= 2)
        if (i % width == 0 && i + width <= SPAN) return width;
    return 1;
}

/* Reads a span at `column` of a row; zeros outside the image. */
DEVICE void load_span(const float *from, int column, int width, held (&out)[SPAN]) {
    int next = 0;
    UNROLLED for (int i = 0; i < SPAN; i++) {
        if (i < next) continue;
        const int wide = span_width(i);
        next = i + wide;
        bool used = false;
        for (int e = i; e < next; e++) used = used || span_uses(e);
        if (!used) continue;
        const bool in = i == 0 || unsigned(column + i) < unsigned(width);
        if (wide == 4) read_four(from + i, in, out + i);
        else if (wide == 2) read_two(from + i, in, out + i);
        else read_one(from + i, in, out[i]);
    }
}

/* What a lane reads: the patches of its pixels. */
struct Patch {
    const float *plane; /* element (0, 0) of the first tap's plane; may lie outside */
    int z, y, x;        /* of the first tap; may lie outside */
    bool valid;         /* whether some of the pixels lies in the output */
};

/* The row of the kernel that meets the input's row `in` for the lane's row `out`; -1: none does. */
__device__ constexpr int kernel_row(int in, int out) {
    const int reach = in - out;
    return reach >= 0 && reach < KERNEL_H ? reach : -1;
}
__device__ constexpr bool row_used(int in) {
    for (int out = 0; out < LANE_ROWS; out++) if (kernel_row(in, out) >= 0) return true;
    return false;
}

/* Without padding, rows outside are read from inside, and belong to pixels that are dropped. */
DEVICE void load_row(const Arguments &a, const Patch &patch, int in,
                     held (&value)[IN_CHANNELS][SPAN]) {
    const int y = min(patch.y + in, int(a.in_h) - 1), stride_c = int(a.input_stride.c);
    const float *row = patch.plane + y * int(a.input_stride.h) + patch.x;
    UNROLLED for (int i = 0; i < IN_CHANNELS; i++)
        load_span(row + i * stride_c, patch.x, int(a.in_w), value[i]);
}

/* One row of the input as words of k, for each of four neighbours. */
struct RowWords {
    unsigned high[ROW_WORDS][4], low[ROW_WORDS][4];

    template <bool ANEW>
    DEVICE void pack(held (&value)[IN_CHANNELS][SPAN], float scale, float &largest) {
        float rest[IN_CHANNELS][SPAN];
        UNROLLED for (int i = 0; i < IN_CHANNELS; i++)
            UNROLLED for (int e = 0; e < SPAN; e++)
                if (span_uses(e)) rest[i][e] = prepare<ANEW>(value[i][e], scale, largest);
        UNROLLED for (int word = 0; word < ROW_WORDS; word++)
            UNROLLED for (int p = 0; p < 4; p++) {
                const int j = 2 * word, next = j + 1, i = j / KERNEL_W, e = p + j % KERNEL_W;
                const int in = next / KERNEL_W, en = p + next % KERNEL_W;
                high[word][p] =
                    pack_operands<ANEW>(value[i][e], next < ROW_TAPS ? value[in][en] : held(0));
                low[word][p] = pack_halves(rest[i][e], next < ROW_TAPS ? rest[in][en] : 0.0f);
            }
    }
};

/* Stores the groups of k of the lane's row `out` that the kernel's row kh completes. stage: of the
 * row's first slot; rotation: what packed_pixel does to its four. */
DEVICE void store_groups(unsigned char *stage, int rotation, int out, int kh,
                         const RowWords (&rows)[IN_ROWS]) {
    const int end = kh == KERNEL_H - 1 ? GROUPS : (kh + 1) * ROW_WORDS / 4;
    UNROLLED for (int g = 0; g < GROUPS; g++) {
        if (g < kh * ROW_WORDS / 4 || g >= end) continue;
        UNROLLED for (int p = 0; p < 4; p++) {
            unsigned high[4], low[4];
            UNROLLED for (int i = 0; i < 4; i++) {
                const int word = g * 4 + i, in = out + word / ROW_WORDS;
                high[i] = word < WORDS ? rows[word < WORDS ? in : 0].high[word % ROW_WORDS][p] : 0;
                low[i] = word < WORDS ? rows[word < WORDS ? in : 0].low[word % ROW_WORDS][p] : 0;
            }
            unsigned char *to = stage + (p ^ rotation) * 16 + g * M * 16;
            *reinterpret_cast<uint4 *>(to) = make_uint4(high[0], high[1], high[2], high[3]);
            *reinterpret_cast<uint4 *>(to + PART_BYTES) =
                make_uint4(low[0], low[1], low[2], low[3]);
        }
    }
}

/* With SHARED_ROWS: the whole groups of one row of the input. */
DEVICE void store_main(unsigned char *stage, int rotation, const RowWords &row) {
    UNROLLED for (int p = 0; p < 4; p++) {
        unsigned char *to = stage + (p ^ rotation) * 16;
        *reinterpret_cast<uint4 *>(to) = make_uint4(row.high[0][p], row.high[1][p],
                                                    row.high[2][p],
                                                    row.high[3][p]);
        *reinterpret_cast<uint4 *>(to + PART_BYTES) =
            make_uint4(row.low[0][p], row.low[1][p], row.low[2][p], row.low[3][p]);
    }
}

/* Two halves of k that are not in whole groups, of the lane's row `out`. */
DEVICE unsigned rest_word(const RowWords (&rows)[IN_ROWS], int out, int p, int e, bool low) {
    unsigned halves[2] = {0, 0};
    UNROLLED for (int i = 0; i < 2; i++)
        if (e + i < KERNEL_H) {
            const RowWords &row = rows[out + (e + i)];
            const unsigned word = low ? row.low[4][p] : row.high[4][p];
            halves[i] = word & 0xffff;
        }
    return halves[0] | halves[1] << 16;
}
DEVICE void store_rest(unsigned char *stage, int rotation, int out,
                       const RowWords (&rows)[IN_ROWS]) {
    UNROLLED for (int p = 0; p < 4; p++) {
        unsigned char *to = stage + ((p ^ rotation) + group_at(3)) * 16;
        UNROLLED for (int part = 0; part < PARTS; part++) {
            *reinterpret_cast<uint4 *>(to + part * PART_BYTES) = make_uint4(
                rest_word(rows, out, p, 0, part), rest_word(rows, out, p, 2, part),
                rest_word(rows, out, p, 4, part), rest_word(rows, out, p, 6, part));
        }
    }
}

/* Packs one lane's pixels, and returns the largest magnitude met, or, where the job is made ANEW,
 * with `scale`, zero. m: its first; empty, parity: what says that the stage is free. */
template <bool ANEW>
DEVICE float pack_patch(const Arguments &a, const Patch &patch, unsigned char *stage, int m,
                        unsigned empty, unsigned parity, float scale) {
    constexpr int READ_ROWS = ANEW ? 1 : LOAD_ROWS; /* anew, registers count and not time */
    RowWords rows[IN_ROWS];
    float largest = 0.0f;
    UNROLLED for (int first = 0; first < IN_ROWS; first += READ_ROWS) {
        held value[READ_ROWS][IN_CHANNELS][SPAN];
        UNROLLED for (int i = 0; i < READ_ROWS; i++)
            if (first + i < IN_ROWS && row_used(first + i)) load_row(a, patch, first + i, value[i]);
        if (first == 0) mbarrier_wait(empty, parity);
        UNROLLED for (int i = 0; i < READ_ROWS; i++) {
            const int in = first + i;
            if (in >= IN_ROWS || !row_used(in)) continue;
            rows[in].template pack<ANEW>(value[i], scale, largest);
            {
                const int slot = m + in * BOX_W;
                if (in < LANE_ROWS || m / BOX_W + LANE_ROWS == BOX_H)
                    store_main(stage + slot * 16, slot >> 3 & 3, rows[in]);
                const int out = in - (KERNEL_H - 1);
                if (out >= 0) store_rest(stage + (m + out * BOX_W) * 16, slot >> 3 & 3, out, rows);
                continue;
            }
            UNROLLED for (int out = 0; out < LANE_ROWS; out++)
                if (kernel_row(in, out) >= 0) {
                    const int slot = m + out * BOX_W;
                    store_groups(stage + slot * 16, slot >> 3 & 3, out, kernel_row(in, out), rows);
                }
        }
    }
    return largest;
}

/* The largest finite magnitude of one lane's pixels. */
DEVICE float look_at_patch(const Arguments &a, const Patch &patch) {
    float largest = 0.0f;
    ROLLED for (int in = 0; in < IN_ROWS; in++) {
        bool used = false;
        for (int out = 0; out < LANE_ROWS; out++) used = used || kernel_row(in, out) >= 0;
        if (!used) continue;
        held value[IN_CHANNELS][SPAN];
        load_row(a, patch, in, value);
        UNROLLED for (int i = 0; i < IN_CHANNELS; i++)
            UNROLLED for (int e = 0; e < SPAN; e++)
                if (span_uses(e)) largest = finite_magnitude(largest, value[i][e]);
    }
    return largest;
}

/* A producer's warp: it takes every PRODUCERS-th unit of all stages that the block makes. */
struct Producer {
    int next;   /* unit */
    int staged; /* stages before the job */

    /* m: the lane's first pixel of the box. */
    DEVICE Patch patch(const Arguments &a, const Job &at, int slice, int unit, int &m) const {
        constexpr int QUADS = BOX_W / 4; /* of a row */
        const int quad = unit * 32 + thread_index() % 32; /* in units of LANE_ROWS rows */
        m = quad / QUADS * LANE_ROWS * BOX_W + quad % QUADS * 4;
        int h = at.h + m / BOX_W, w = at.w + m % BOX_W;
        Patch patch;
        w = min(w, (int(a.out_w) - 1) / 4 * 4);
        patch.z = at.d + slice; patch.y = h; patch.x = w;
        patch.plane = a.input + at.n * a.input_stride.n + patch.z * a.input_stride.d;
        return patch;
    }

    template <bool ANEW>
    DEVICE void make(const Arguments &a, const Shared &shared, const Job &at, float scale,
                     unsigned *magnitude) {
        const int end = staged + at.slices();
        ROLLED for (; next < end; next += PRODUCERS) {
            const int stage = next, slot = stage % STAGES;
            int m;
            const Patch from = patch(a, at, stage - staged, 0, m);
            const float largest =
                pack_patch<ANEW>(a, from, shared.stages + slot * STAGE_BYTES, m,
                                 shared.empty + 8 * slot, (stage / STAGES & 1) ^ 1, scale);
            const unsigned most = ANEW ? 0 : __reduce_max_sync(~0U, __float_as_uint(largest));
            fence_proxy_async(); __syncwarp();
            if (threadIdx.x % 32 == 0) {
                if (!ANEW) atomicMax(magnitude, most);
                mbarrier_arrive(shared.full + 8 * slot);
            }
        }
        staged = end;
    }

    /* Puts a job's largest finite magnitude in the place of its largest. */
    DEVICE void look(const Arguments &a, const Job &at, unsigned *magnitude) const {
        float largest = 0.0f;
        const int first = thread_index() / 32 - CONSUMERS * 4;
        ROLLED for (int unit = first; unit < at.slices(); unit += PRODUCERS) {
            int m;
            const Patch from = patch(a, at, unit, 0, m);
            largest = fmaxf(largest, look_at_patch(a, from));
        }
        const unsigned most = __reduce_max_sync(~0U, __float_as_uint(largest));
        barrier_sync(2, PRODUCERS * 32); /* all have seen that they must look */
        if (first == 0 && thread_index() % 32 == 0) *magnitude = 0;
        barrier_sync(2, PRODUCERS * 32);
        if (thread_index() % 32 == 0) atomicMax(magnitude, most);
        barrier_sync(2, PRODUCERS * 32);
    }
};

DEVICE void produce(const Arguments &a, const Shared &shared) {
    Producer producer = {int(thread_index() / 32) - CONSUMERS * 4, 0};
    Work work = {0};
    do {
        const Job at = job_at(work.job(), a);
        unsigned *magnitude = shared.magnitude + work.number() % ROUND;
        if (!work.anew()) {
            producer.make<false>(a, shared, at, CARRIER_SCALE, magnitude);
            continue;
        }
        if (!(__uint_as_float(*magnitude) <= FLOAT_MAX)) producer.look(a, at, magnitude);
        const float scale = segment_scale(__uint_as_float(*magnitude));
        producer.make<true>(a, shared, at, scale, magnitude);
    } while (work.next(shared));
}

/* A consumer's rows: blocks of 64 take turns in the slots by eights, so that a warp's are
 * neighbours. */
struct Pixels {
    Job job;
    int first; /* slot of the consumer's warp */
    int lane;
    unsigned inside; /* bit p: whether the thread's pixel p lies in the output */

    DEVICE int pixel(int row) const {
        return packed_pixel(first + (row % 16 / 8 + row / 16) * 8 + row % 8);
    }
    DEVICE void open(const Job &at, const Arguments &a) {
        job = at; inside = 0;
        first = int(opaque(first));
        UNROLLED for (int p = 0; p < 2; p++) {
            const int m = pixel(p * 8 + lane / 4);
            if (at.h + m / BOX_W < a.out_h && at.w + m % BOX_W < a.out_w) inside |= 1U << p;
        }
    }
    DEVICE bool valid(int row) const { return inside >> row / 8 & 1; }
    DEVICE Place place(int row) const {
        const int m = pixel(row);
        return {job.n, job.d, job.h + m / BOX_W, job.w + m % BOX_W};
    }
};

/* The tile of `wgmma` and of `mma.sync` with pixels as rows (M) and channels as columns (N).
 *
 * A warp holds ROW_BLOCKS blocks of 16 pixels, all TILE_N channels of each. Of a block, lane l
 * holds rows l / 4 and l / 4 + 8, and of every 8 channels the pair 2 (l % 4), + 1: four lanes, a
 * quad, share a pixel. With two blocks or more, a reduction over channels halves what a lane keeps
 * at each exchange, so that in the end every lane owns pixels of its own, none twice. */

struct RowTile {
    static constexpr int PIXELS = 2, CHANNELS = TILE_N / 4;
    static constexpr int OWN = 1;

    real d[ROW_BLOCKS][TILE_N / 2]; /* as the instructions lay it out */
    real running[TILE_WALKS][PIXELS][CHANNELS];
    real group[PIXELS][2];    /* put: 8 channels on their way out */
    const float2 *scale_bias; /* [TILE_N], in shared memory */
    const real *operands;     /* [CHANNEL_OPERANDS][TILE_N], in shared memory */
    int channel_first;        /* of slot 0 of the tile */
    int channel_end;          /* the first beyond the tile */
    int lane;
    Pixels pixels;

    DEVICE int row(int p) const { return p * 8 + lane / 4; }
    DEVICE int column(int j) const { return j / 2 * 8 + lane % 4 * 2 + j % 2; }

    DEVICE bool has(int j) const {
        if (channel_end - channel_first == TILE_N) return true;
        return channel(j) < channel_end;
    }
    DEVICE int channel(int j) const { return channel_first + column(j); }
    DEVICE bool valid(int p) const { return pixels.valid(row(p)); }
    DEVICE Place place(int p) const { return pixels.place(row(p)); }
    DEVICE real &walk(int p, int j) { return running[0][p][j]; }

    /* A quad's values, halved twice; with two pixels, halved once and combined once. */
    template <class Op> DEVICE void reduce(Op, const real (&in)[PIXELS], real (&out)[OWN]) {
        real half[PIXELS / 2];
        const bool upper = lane & 1;
        {
            const real keep = upper ? in[PIXELS / 2] : in[0], give = upper ? in[0] : in[PIXELS / 2];
            half[0] = Op::combine(keep, __shfl_xor_sync(~0U, give, 1));
        }
        UNROLLED for (int q = 0; q < OWN; q++) {
            out[q] = Op::combine(half[q], __shfl_xor_sync(~0U, half[q], 2));
            continue;
        }
    }
    DEVICE void spread(const real (&in)[OWN], real (&out)[PIXELS]) const {
        UNROLLED for (int p = 0; p < PIXELS; p++)
            out[p] = __shfl_sync(~0U, in[0], lane / 4 * 4 + p);
    }

    /* Stores whenever 8 channels of all pixels have come. A lane holds two channels of a quad's
     * pixels; a line of memory wants one channel of many pixels, so lanes of a quad exchange
     * until each has all 8 channels of its own pixels. Not where a lane of them may be absent. */
    template <int V, class T> DEVICE void put(T *to, Stride s, int p, int j, real value) {
        put_alone(to, s, p, j, value);
        return;
    }
    template <class T> DEVICE void put_alone(T *to, Stride s, int p, int j, real value) const {
        if (valid(p) && has(j)) store(to + offset(place(p), s) + channel(j) * s.c, value);
    }

    static DEVICE long long offset(Place at, Stride s) {
        return at.n * s.n + at.d * s.d + at.h * s.h + at.w * s.w;
    }
};

/* Sums come scaled and with the bias: see Sums::finish. */
struct Tile : RowTile {
    DEVICE real acc(int p, int j) const { return d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2]; }
    DEVICE bool valid(int p) const { return pixels.inside >> p & 1; }
};
__device__ real channel_operand() {
    return real(0);
}

struct Tail {
    DEVICE void begin(Tile &tile) {
        UNROLLED for (int j = 0; j < Tile::CHANNELS; j++)
            UNROLLED for (int p = 0; p < Tile::PIXELS; p++) tile.walk(p, j) = Min::identity();
    }
    DEVICE void step(Tile &tile) {
        UNROLLED for (int j = 0; j < Tile::CHANNELS; j++) {
            if (!tile.has(j)) continue;
            UNROLLED for (int p = 0; p < Tile::PIXELS; p++) {
                const real v0 = tile.acc(p, j);
                if (tile.valid(p)) tile.walk(p, j) = Min::combine(tile.walk(p, j), v0);
            }
        }
    }
    DEVICE void end(Tile &tile, const Arguments &a) {
        real r2[Tile::PIXELS];
        UNROLLED for (int p = 0; p < Tile::PIXELS; p++) r2[p] = Max::identity();
        UNROLLED for (int j = 0; j < Tile::CHANNELS; j++) {
            if (!tile.has(j)) continue;
            UNROLLED for (int p = 0; p < Tile::PIXELS; p++)
                r2[p] = Max::combine(r2[p], tile.walk(p, j));
        }
        real w2[Tile::OWN];
        tile.reduce(Max(), r2, w2);
        real v2[Tile::PIXELS];
        tile.spread(w2, v2);
        real r5[Tile::PIXELS];
        UNROLLED for (int p = 0; p < Tile::PIXELS; p++) r5[p] = Sum::identity();
        UNROLLED for (int j = 0; j < Tile::CHANNELS; j++) {
            if (!tile.has(j)) continue;
            UNROLLED for (int p = 0; p < Tile::PIXELS; p++)
                r5[p] = Sum::combine(r5[p], ops::v_exp(ops::sub(tile.walk(p, j), v2[p])));
        }
        real w5[Tile::OWN];
        tile.reduce(Sum(), r5, w5);
        real v5[Tile::PIXELS];
        tile.spread(w5, v5);
        UNROLLED for (int j = 0; j < Tile::CHANNELS; j++) {
            if (!tile.has(j)) continue;
            UNROLLED for (int p = 0; p < Tile::PIXELS; p++) {
                const real v4 = ops::v_exp(ops::sub(tile.walk(p, j), v2[p]));
                tile.put<2>(a.store0, a.store0_stride, p, j, share(v4, v5[p])); // %softmax
            }
        }
    }
};

/* ---- weights ------------------------------------------------------------------------------- */
constexpr int SPANS = 1;
constexpr int TURNS = 1; /* that sums take */
constexpr int WEIGHT_PARTS = 3, WEIGHT_ROWS = (TURN + TURNS - 1) * TILE_N;
constexpr int WEIGHT_BYTES = K / 8 * WEIGHT_ROWS * 16; /* of one part */
constexpr int WEIGHTS = IN_CHANNELS * KERNEL_D * KERNEL_H * KERNEL_W; /* of a channel */

DEVICE float round_weight(float x) { return x; }

/* Bytes before weight e of channel 0 in the row of B that holds its slice. */
DEVICE int weight_place(int e, int &turn) {
    constexpr int PLANE_TAPS = KERNEL_H * KERNEL_W, TAPS = KERNEL_D * PLANE_TAPS;
    const int kd = e / PLANE_TAPS % KERNEL_D, kh = e / KERNEL_W % KERNEL_H;
    const int span = e / TAPS, k = place_in_k(kh, span * KERNEL_W + e % KERNEL_W);
    turn = (TURN - kd) % TURN;
    return (k / 8 * WEIGHT_ROWS + turn * TILE_N) * 16 + k % 8 * 2;
}

/* twice: where the row's slice stands in B once more. */
DEVICE void store_weight(unsigned char *to, float scaled, bool twice) {
    unsigned short halves[WEIGHT_PARTS];
    halves[0] = nonzero_half(scaled);
    halves[1 % WEIGHT_PARTS] = round_half(split(scaled, false));
    halves[2 % WEIGHT_PARTS] = nonzero_half(scaled / REST_SCALE);
    UNROLLED for (int part = 0; part < WEIGHT_PARTS; part++) {
        unsigned char *at = to + part * WEIGHT_BYTES;
        *reinterpret_cast<unsigned short *>(at) = halves[part];
        if (twice) *reinterpret_cast<unsigned short *>(at + TURN * TILE_N * 16) = halves[part];
    }
}

/* First of all, by all threads: weights come to shared memory, as they are; B is zero. The code is
 * short on purpose: a kernel's first pass through it waits for instructions, too. */
DEVICE void fetch_weights(const Arguments &a, const Shared &shared) {
    constexpr int PLANE_TAPS = KERNEL_H * KERNEL_W, TAPS = KERNEL_D * PLANE_TAPS;
    const unsigned raw = shared_address(shared.raw);
    ROLLED for (int i = thread_index(); i < OUT_CHANNELS * WEIGHTS; i += THREADS) {
        const float *from = a.weight + i;
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(raw + i * 4), "l"(from)
                     : "memory");
    }
    ROLLED for (int i = thread_index(); i < WEIGHT_PARTS * WEIGHT_BYTES / 16; i += THREADS)
        reinterpret_cast<uint4 *>(shared.weights)[i] = make_uint4(0, 0, 0, 0);
    for (int o = thread_index(); o < TILE_N; o += THREADS) {
        const bool biased = o < OUT_CHANNELS;
        shared.scale_bias[o] =
            make_float2(1.0f, biased ? load(a.bias + o * a.bias_stride.c) : 0.0f);
    }
    if (thread_index() < ROUND) shared.magnitude[thread_index()] = 0;
    if (thread_index() == 0) {
        const int count = (int(a.job_count) - 1 - int(blockIdx.x)) /
                              int(gridDim.x) +
                          1;
        *shared.count = count;
        *shared.round_end = min(count, ROUND);
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/* Then, by the consumers: a warp packs channels of its own. */
DEVICE void pack_weights(const Shared &shared) {
    const int lane = thread_index() % 32, warp = thread_index() / 32;
    for (int i = thread_index(); i < 0; i += CONSUMER_THREADS)
        shared.operands[i] = i % TILE_N < OUT_CHANNELS ? channel_operand() : 0.0f;
    for (int o = warp; o < OUT_CHANNELS; o += CONSUMERS * 4) {
        float largest = 0.0f;
#pragma unroll 4
        for (int e = lane; e < WEIGHTS; e += 32)
            largest = finite_magnitude(largest, round_weight(shared.raw[o * WEIGHTS + e]));
        largest = __uint_as_float(__reduce_max_sync(~0U, __float_as_uint(largest)));
        const float scale = weight_scale(largest);
        if (lane == 0) {
            shared.scale[o] = scale;
            shared.scale_bias[o].x = unscale(scale, CARRIER_SCALE);
        }
    }
    __syncwarp();
    for (int e = lane; e < WEIGHTS; e += 32) {
        int turn;
        unsigned char *to = shared.weights + weight_place(e, turn);
#pragma unroll 4
        for (int o = warp; o < OUT_CHANNELS; o += CONSUMERS * 4) {
            const float scale = shared.scale[o];
            store_weight(to + o * 16, round_weight(shared.raw[o * WEIGHTS + e]) * scale,
                         turn < TURNS - 1);
        }
    }
    fence_proxy_async();
    barrier_sync(1, CONSUMER_THREADS);
}

/* By the consumers, once all are at a job whose activations have another scale. */
DEVICE void rescale(const Shared &shared, float activation_scale) {
    barrier_sync(1, CONSUMER_THREADS);
    for (int o = thread_index(); o < OUT_CHANNELS; o += CONSUMER_THREADS)
        shared.scale_bias[o].x = unscale(shared.scale[o], activation_scale);
    barrier_sync(1, CONSUMER_THREADS);
}

/* ---- consumers ----------------------------------------------------------------------------- */
struct Scales {
    const float2 *shared;
    float2 held[1];

    DEVICE float2 at(const Tile &tile, int j) const { return shared[tile.column(j)]; }
    DEVICE void open(const Tile &tile, const float2 *scale_bias) { shared = scale_bias; }
};

/* Sums in the order of their instructions: blocks of TILE_N columns, one for each depth. */
struct Sums {
    float of[ROW_BLOCKS][TURN * TILE_N / 2];
    float depth[TURN - 1][ROW_BLOCKS][TILE_N / 2]; /* the next complete first */
    float zero; /* not a constant to the compiler, which spends two instructions on constants */

    /* Keeps the compiler from moving what it does to sums past the products' fences. */
    DEVICE void pin() {
        UNROLLED for (int i = 0; i < TURN * TILE_N / 2; i++)
            asm volatile("" : "+f"(of[0][i])::"memory");
    }
    /* Behind a slice: brings the block of the depth that it completes to the tile. */
    DEVICE void complete(Tile &tile, int turn) {
        UNROLLED for (int i = 0; i < TILE_N / 2; i++) {
            float sum = of[0][turn * TILE_N / 2 + i];
            sum += depth[0][0][i];
            UNROLLED for (int next = 0; next < TURN - 1; next++) {
                const float slice = of[0][(next + 2) % TURN * TILE_N / 2 + i];
                depth[next][0][i] =
                    next + 2 < TURN ? slice + depth[next + 2 < TURN ? next + 1 : 0][0][i]
                                    : slice;
            }
            tile.d[0][i] = sum;
        }
    }
    static DEVICE void scale(Tile &tile, const Scales &scales) {
        UNROLLED for (int i = 0; i < TILE_N / 2; i++) {
            const float2 by = scales.at(tile, i / 4 * 2 + i % 2);
            tile.d[0][i] = fmaf(tile.d[0][i], by.x, by.y);
        }
    }
};

/* Where a consumer stands: its next stage, and how to get at it. */
struct Ring {
    unsigned pixels, weights; /* descriptors' lower halves: of stage 0, of B's first row */
    unsigned full, empty;
    int lane, slot, parity;

    /* Cores of rows follow each other at once in B, and ROW_BLOCKS apart in a tile's pixels. */
    static DEVICE unsigned long long of_pixels(unsigned low) {
        return static_cast<unsigned long long>(8) << 32 | low;
    }
    static DEVICE unsigned long long of_weights(unsigned low) { return 8ULL << 32 | low; }
    DEVICE void wait() const { mbarrier_wait(full + 8 * slot, parity); }
    /* Products of a tile along k, from 16 `first` to 16 `end`: their sum is `fresh`, or added to
     * what stands there. */
    static DEVICE void multiply(Sums &sums, unsigned x, unsigned w, bool fresh, int first = 0,
                                int end = K / 16) {
        UNROLLED for (int k = 0; k < K / 16; k++) {
            if (k < first || k >= end) continue;
            const unsigned leading = group_at(2 * k + 1) - group_at(2 * k);
            wgmma(sums.of[0], of_pixels(x + group_at(2 * k) + (leading << 16)),
                  of_weights(w + k * 2 * WEIGHT_ROWS), !fresh || k > first);
        }
    }
    /* Starts a span's products of the stage with all tiles, when it is full; turn: the slice's
     * number modulo TURNS. */
    DEVICE void start(Sums (&sums)[TILES], int turn) const {
        constexpr int WEIGHT_PART = WEIGHT_BYTES / 16, STEPS = K / 16 + SPANS - 1;
        const unsigned w = weights + (TURN - turn) % TURN * TILE_N;
        wait(); sums[0].pin(); wgmma_fence();
        const unsigned x = pixels + slot * (STAGE_BYTES / 16);
        /* small ones first: each addition rounds toward zero */
        multiply(sums[0], x, w + WEIGHT_PART, TURNS == 1);
        multiply(sums[0], x + PART_BYTES / 16, w + 2 * WEIGHT_PART, false);
        multiply(sums[0], x, w, TURNS == 1 && (PARTS == 1 || false), 0, min(STEPS, K / 16));
        wgmma_commit();
    }
    DEVICE void give_back() {
        if (lane == 0) mbarrier_arrive(empty + 8 * slot);
        slot = slot + 1 == STAGES ? 0 : slot + 1;
        parity ^= slot == 0;
    }
};

/* Slices of one job after another. The tail of a consumer's first tile runs behind the products of
 * its second. */
DEVICE void consume(const Arguments &a, const Shared &shared) {
    const int consumer = __shfl_sync(~0U, thread_index() / WARPGROUP, 0), first = consumer * 64;
    Tile tile[TILES];
    Tail tail[TILES];
    Sums sums[TILES];
    Scales scales;
    Ring ring;
    tile[0].scale_bias = shared.scale_bias;
    tile[0].operands = shared.operands;
    tile[0].channel_first = 0;
    tile[0].channel_end = OUT_CHANNELS;
    tile[0].lane = tile[0].pixels.lane = threadIdx.x % 32;
    tile[0].pixels.first = first + thread_index() % WARPGROUP / 32 * 16;
    sums[0].zero = __int_as_float(int(a.job_count >> 60));
    scales.open(tile[0], shared.scale_bias);
    ring.pixels = unsigned(matrix_descriptor(shared_address(shared.stages) + first * 16, 0));
    ring.weights = unsigned(matrix_descriptor(shared_address(shared.weights), WEIGHT_ROWS * 16));
    ring.full = opaque(shared.full); ring.empty = opaque(shared.empty);
    ring.lane = threadIdx.x % 32; ring.slot = ring.parity = 0;
    Work work = {0};
    do {
        Job at;
        int slices = 1; /* or more */
        auto open = [&]() {
            at = job_at(work.job(), a);
            slices = at.slices();
            tile[0].pixels.open(at, a);
            tail[0].begin(tile[0]);
        };
        if (work.rescaled()) {
            ring.wait(); /* producers have found the scale */
            const float largest = __uint_as_float(shared.magnitude[work.number() % ROUND]);
            rescale(shared, work.anew() ? segment_scale(largest) : CARRIER_SCALE);
            scales.open(tile[0], shared.scale_bias);
        }
        open();
        ROLLED for (int first_slice = 0; first_slice < slices; first_slice += TURNS)
            UNROLLED for (int turn = 0; turn < TURNS; turn++) {
                const int slice = first_slice + turn, done = (turn + 1) % TURN;
                if (slice >= slices) break;
                ring.start(sums, turn);
                wgmma_wait<0>(); ring.give_back(); sums[0].pin();
                sums[0].complete(tile[0], done);
                if (slice >= TURN - 1) {
                    Sums::scale(tile[0], scales);
                    tile[0].pixels.job.d = at.d + slice - (TURN - 1);
                    tail[0].step(tile[0]);
                }
            }
        tile[0].pixels.job.d = at.d;
        tail[0].end(tile[0], a);
    } while (work.next(shared));
}

/* ---- the kernel ---------------------------------------------------------------------------- */
/* Registers of a thread at the kernel's start. */
constexpr int ENTRY_REGISTERS = 65536 / THREADS / 8 * 8;

template <int REGISTERS> DEVICE void take_registers() {
    if constexpr (REGISTERS >= ENTRY_REGISTERS) setmaxnreg_inc<REGISTERS>();
    else if constexpr (REGISTERS > 0)
        setmaxnreg_dec<REGISTERS>();
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    segue_conv_wgmma_packed(const __grid_constant__ Arguments a) {
    extern __shared__ __align__(128) unsigned char memory[];
    Shared shared;
    shared.stages = memory;
    shared.weights = shared.stages + STAGES * STAGE_BYTES;
    shared.scale_bias = reinterpret_cast<float2 *>(shared.weights + WEIGHT_PARTS * WEIGHT_BYTES);
    shared.full = shared_address(shared.scale_bias + TILE_N);
    shared.empty = shared.full + STAGES * 8; shared.met = shared.empty + STAGES * 8;
    shared.operands = reinterpret_cast<float *>(shared.scale_bias + TILE_N + 2 * STAGES + 1);
    shared.scale = shared.operands;
    shared.magnitude = reinterpret_cast<unsigned *>(shared.scale + TILE_N);
    shared.failed = shared.magnitude + ROUND;
    shared.count = reinterpret_cast<int *>(shared.failed + ROUND / 32);
    shared.round_end = shared.count + 1;
    shared.raw = reinterpret_cast<float *>(shared.round_end + 1);
    if (thread_index() < STAGES) {
        mbarrier_init(shared.full + 8 * thread_index(), UNITS);
        mbarrier_init(shared.empty + 8 * thread_index(), CONSUMERS * 4);
    }
    if (thread_index() == 0) mbarrier_init(shared.met, THREADS / 32);
    fetch_weights(a, shared);
    __syncthreads();
    if (thread_index() >= CONSUMER_THREADS) {
        take_registers<PRODUCER_REGISTERS>();
        produce(a, shared);
    } else {
        take_registers<CONSUMER_REGISTERS>();
        pack_weights(shared);
        consume(a, shared);
    }
}

#else /* other GPUs have no such instructions: here for the host to find */
__global__ void __launch_bounds__(32) segue_conv_wgmma_packed(const __grid_constant__ Arguments a) {}
#endif
#undef SUMS
} // namespace wgmma_packed

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
 * one group. k runs over [input channel][tap], SLICE at a time: weights by way of shared memory,
 * inputs straight from where they lie. A lane has four neighbouring k: the first two meet in one
 * product and the last two in the next, for the order of k is free.
 *
 * Operands are high and low parts (class fp32), and three products are summed. The tensor
 * cores round each addition toward zero, so the sums of a slice go to the other cores. */

/* ---- elements ------------------------------------------------------------------------------ */
DEVICE real load(const float *from) { return real(*from); }
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

constexpr int GROUP_INPUTS = 3, WARPS = 8;
constexpr int ROW_BLOCKS = 2, THREADS = WARPS * 32, BLOCK_PIXELS = WARPS * ROW_BLOCKS * 16;
constexpr int TAPS = KERNEL_D * KERNEL_H * KERNEL_W, K = GROUP_INPUTS * TAPS, SLICE = 16;
DEVICE long long offset(Place at, long long channel, Stride s) {
    return at.n * s.n + channel * s.c + at.d * s.d + at.h * s.h + at.w * s.w;
}
/* A warp's sums: ROW_BLOCKS blocks of 16 pixels by TILE_N channels. Of a block, lane l has pixels
 * l / 4 and l / 4 + 8, and of every 8 channels 2 (l % 4) and the next. What is reduced over channels
 * all four lanes of a pixel have. */
struct Tile {
    static constexpr int PIXELS = 2 * ROW_BLOCKS, OWN = PIXELS, CHANNELS = TILE_N / 4;

    real d[ROW_BLOCKS][TILE_N / 2]; /* as the instructions lay it out */
    real running[TILE_WALKS][PIXELS][CHANNELS];
    const Place *places;  /* of the warp's pixels, in shared memory; n < 0: there is none */
    const float *biases;  /* [TILE_N], in shared memory */
    int lane;
    DEVICE int column(int j) const { return j / 2 * 8 + lane % 4 * 2 + j % 2; }
    DEVICE int channel(int j) const { return column(j); }
    DEVICE Place place(int p) const { return places[p * 8 + lane / 4]; }
    DEVICE bool valid(int p) const { return place(p).n >= 0; }
    DEVICE real acc(int p, int j) const {
        return d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2] + biases[column(j)];
    }
    DEVICE real &walk(int p, int j) { return running[0][p][j]; }

    template <class Op> DEVICE void reduce(Op, const real (&in)[PIXELS], real (&out)[OWN]) const {
        UNROLLED for (int p = 0; p < PIXELS; p++) {
            const real pair = Op::combine(in[p], __shfl_xor_sync(~0U, in[p], 1));
            out[p] = Op::combine(pair, __shfl_xor_sync(~0U, pair, 2));
        }
    }
    DEVICE void spread(const real (&in)[OWN], real (&out)[PIXELS]) const {
        UNROLLED for (int p = 0; p < PIXELS; p++) out[p] = in[p];
    }

    /* Lanes of one store have eight neighbouring pixels of four channels: whole sectors. */
    template <int V, class T> DEVICE void put(T *to, Stride s, int p, int j, real value) const {
        if (valid(p)) store(to + offset(place(p), channel(j), s), value);
    }
};

struct Tail {
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
                tile.put<1>(a.store0, a.store0_stride, p, j, share(v4, v5[p])); // %softmax
            }
    }
};

struct Shared {
    unsigned weights[2][TILE_N][SLICE]; /* bits of floats, of this slice and of the next */
    Place places[BLOCK_PIXELS];
    float biases[TILE_N];
};

DEVICE int next_index(long long &number, long long size) {
    const int index = int(number % size);
    number /= size;
    return index;
}

/* Pixel `number` of those that are kept, at step `walked` of those that are not. */
DEVICE Place place_at(long long number, long long walked, const Arguments &a) {
    Place at = {};
    at.w = next_index(number, a.size_w); at.h = next_index(number, a.size_h);
    at.d = next_index(walked, a.size_d); at.n = int(number);
    return at;
}

/* The tap that k stands for; its input channel is k / TAPS. */
DEVICE Place tap_at(int k) {
    return Place{0, k / (KERNEL_W * KERNEL_H) % KERNEL_D, k / KERNEL_W % KERNEL_H, k % KERNEL_W};
}
DEVICE unsigned operand(float x) { return __float_as_uint(x); }

/* ---- a slice: k and the next SLICE - 1; absent channels, padding and k beyond K are zeros ---- */
DEVICE void stage_weights(Shared &shared, int k, const Arguments &a) {
    const int mine = threadIdx.x % SLICE, its = k + mine;
    const float *from = a.weight + offset(tap_at(its), its / TAPS, a.weight_stride);
    UNROLLED for (int row = threadIdx.x / SLICE; row < TILE_N; row += THREADS / SLICE) {
        const bool present = row < 24 && its < K;
        shared.weights[k / SLICE % 2][row][mine] =
            operand(present ? load(from + row * a.weight_stride.n) : real(0));
    }
}

/* This lane's four k of its pixels, whose inputs begin there. */
DEVICE void gather(const float *(&inputs)[Tile::PIXELS], int k, real (&rows)[Tile::PIXELS][4],
                   const Arguments &a) {
    UNROLLED for (int e = 0; e < 4; e++, k++) {
        Place at = tap_at(k);
        const long long distance = offset(at, k / TAPS, a.input_stride);
        UNROLLED for (int p = 0; p < Tile::PIXELS; p++) {
            const bool inside = k < K;
            rows[p][e] = inside ? load(inputs[p] + distance) : real(0);
        }
    }
}

/* Both products of four k: pixels `upper` and `lower` by channels. */
DEVICE void multiply(float *sums, const unsigned *upper, const unsigned *lower, const unsigned *by) {
    mma_tf32(sums, upper[0], lower[0], upper[1], lower[1], by[0], by[1]);
    mma_tf32(sums, upper[2], lower[2], upper[3], lower[3], by[2], by[3]);
}

DEVICE void multiply_split(float *sums, const unsigned *upper, const unsigned *lower,
                           const unsigned *by) {
    const unsigned *whole[3] = {upper, lower, by};
    unsigned high[3][4], low[3][4];
    UNROLLED for (int i = 0; i < 12; i++)
        tf32_split(whole[i / 4][i % 4], high[i / 4][i % 4], low[i / 4][i % 4]);
    float large[4] = {}, small[4] = {};
    multiply(small, low[0], low[1], high[2]);
    multiply(small, high[0], high[1], low[2]);
    multiply(large, high[0], high[1], high[2]);
    UNROLLED for (int i = 0; i < 4; i++) {
        /* Low parts count only where the high ones are finite (mma.cuh). */
        const bool finite = -infinity() < large[i] && large[i] < infinity();
        sums[i] += finite ? large[i] + small[i] : large[i];
    }
}

/* ---- the kernel ---------------------------------------------------------------------------- */
/* All products of the block's pixels at one step of the walk. */
DEVICE void contract(Tile &tile, Shared &shared, int walked, const Arguments &a) {
    const int mine = threadIdx.x % BLOCK_PIXELS;
    const long long number = static_cast<long long>(blockIdx.x) * BLOCK_PIXELS + mine;
    Place place = place_at(min(number, a.pixels - 1), walked, a);
    place.n = number < a.pixels ? place.n : -1;
    __syncthreads(); /* the step before is done with shared memory */
    shared.places[mine] = place;
    __syncthreads();
    const float *inputs[Tile::PIXELS];
    UNROLLED for (int p = 0; p < Tile::PIXELS; p++) {
        const Place at = tile.place(p);
        const Place from = {max(at.n, 0), at.d, at.h, at.w};
        inputs[p] = a.input + offset(from, 0, a.input_stride);
    }
    UNROLLED for (int i = 0; i < ROW_BLOCKS * TILE_N / 2; i++)
        tile.d[i / (TILE_N / 2)][i % (TILE_N / 2)] = 0;
    real next[Tile::PIXELS][4]; /* on their way while products are made of those before */
    gather(inputs, tile.lane % 4 * 4, next, a);
    ROLLED for (int k = 0; k < K; k += SLICE) {
        stage_weights(shared, k, a);
        unsigned rows[Tile::PIXELS][4];
        UNROLLED for (int i = 0; i < Tile::PIXELS * 4; i++)
            rows[i / 4][i % 4] = operand(next[i / 4][i % 4]);
        if (k + SLICE < K) gather(inputs, k + SLICE + tile.lane % 4 * 4, next, a);
        __syncthreads();
        UNROLLED for (int n = 0; n < TILE_N / 8; n++) {
            const unsigned *by =
                &shared.weights[k / SLICE % 2][n * 8 + tile.lane / 4][tile.lane % 4 * 4];
            UNROLLED for (int b = 0; b < ROW_BLOCKS; b++)
                multiply_split(&tile.d[b][n * 4], rows[2 * b], rows[2 * b + 1], by);
        }
    }
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    segue_implicit_gemm(const __grid_constant__ Arguments a) {
    extern __shared__ uint4 memory[];
    Shared &shared = *reinterpret_cast<Shared *>(memory);
    Tile tile;
    tile.lane = threadIdx.x % 32;
    tile.places = shared.places + threadIdx.x / 32 * ROW_BLOCKS * 16;
    tile.biases = shared.biases;
    for (int slot = threadIdx.x; slot < TILE_N; slot += THREADS) {
        const bool present = slot < 24;
        shared.biases[slot] = present ? load(a.bias + slot * a.bias_stride.c) : real(0);
    }
    Tail tail;
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
using Call = conv3d_min_softmax_arguments;
using Tensor = conv3d_min_softmax_tensor;
/* Of the result's axes, and of the input's. */
struct Sizes { long long n, d, h, w, in_d, in_h, in_w, processors; };

static long long least(long long x, long long y) { return x < y ? x : y; }
static long long pieces(long long x, long long y) { return (x + y - 1) / y; }
static bool aligned(const Tensor &tensor, unsigned long long bytes) {
    return reinterpret_cast<unsigned long long>(tensor.data) % bytes == 0;
}
static bool has_sizes(const Tensor &tensor, std::initializer_list<long long> sizes) {
    return std::equal(sizes.begin(), sizes.end(), tensor.size);
}
/* Finds the sizes. Null, or what is wrong with those of the tensors. */
static const char *measure(const Call &t, Sizes &s) {
    s.n = t.x.size[0]; s.in_d = t.x.size[2]; s.d = s.in_d - 2; s.in_h = t.x.size[3];
    s.h = s.in_h - 2; s.in_w = t.x.size[4]; s.w = s.in_w - 2;
    if (!(s.in_d >= 3 && s.in_d < 1 << 30 && s.in_h >= 3 && s.in_h < 1 << 30 && s.in_w >= 3 &&
        s.in_w < 1 << 30))
        return "the image is smaller than the filter, or larger than 2^30";
    if (!(s.n >= 0 && s.n < 1 << 30))
        return "a size is negative, 2^30 or more, or 0 where it is reduced";
    if (!has_sizes(t.x, {s.n, 3, s.in_d, s.in_h, s.in_w}))
        return "x must have sizes [n, 3, in_d, in_h, in_w]";
    if (!has_sizes(t.conv_weight, {24, 3, 3, 3, 3}))
        return "conv_weight must have sizes [24, 3, 3, 3, 3]";
    if (!has_sizes(t.conv_bias, {24})) return "conv_bias must have sizes [24]";
    if (!has_sizes(t.softmax, {s.n, 24, s.h, s.w})) return "softmax must have sizes [n, 24, h, w]";
    return nullptr;
}

template <class A> static void take_tensors(const Call &t, A &a) {
    a.input = static_cast<const float *>(t.x.data);
    a.input_stride = {t.x.stride[0], t.x.stride[1], t.x.stride[2], t.x.stride[3], t.x.stride[4]};
    a.weight = static_cast<const float *>(t.conv_weight.data);
    a.weight_stride = {t.conv_weight.stride[0], t.conv_weight.stride[1], t.conv_weight.stride[2],
        t.conv_weight.stride[3], t.conv_weight.stride[4]};
    a.bias = static_cast<const float *>(t.conv_bias.data);
    a.bias_stride = {0, t.conv_bias.stride[0], 0, 0, 0};
    a.store0 = static_cast<float *>(t.softmax.data);
    a.store0_stride = {t.softmax.stride[0], t.softmax.stride[1], 0, t.softmax.stride[2],
        t.softmax.stride[3]};
}

const char *fill(const Call &t, const Sizes &s, wgmma_packed::Arguments &a, long long &blocks) {
    if (!(aligned(t.x, 16) && t.x.stride[4] == 1 && t.x.stride[0] % 4 == 0 &&
        t.x.stride[1] % 4 == 0 && t.x.stride[2] % 4 == 0 && t.x.stride[3] % 4 == 0 &&
        s.in_w % 4 == 0))
        return "%x is read in vectors of 4";
    if (!(t.conv_weight.stride[4] == 1 && t.conv_weight.stride[3] == 3 &&
        t.conv_weight.stride[2] == 9 && t.conv_weight.stride[1] == 27 &&
        t.conv_weight.stride[0] == 81))
        return "elements of %conv.weight lie side by side";
    if (!(t.x.stride[4] == 1)) return "columns of the input lie side by side";
    if (!(aligned(t.softmax, 8) && t.softmax.stride[3] == 1 && t.softmax.stride[0] % 2 == 0 &&
        t.softmax.stride[1] % 2 == 0 && t.softmax.stride[2] % 2 == 0 && s.w % 2 == 0))
        return "%softmax is written in vectors of 2";
    take_tensors(t, a);
    a.out_d = s.d; a.in_d = s.in_d; a.out_h = s.h; a.in_h = s.in_h; a.out_w = s.w; a.in_w = s.in_w;
    a.box_d = a.out_d; a.jobs_d = pieces(a.out_d, a.box_d); a.jobs_h = pieces(a.out_h, 8);
    a.jobs_w = pieces(a.out_w, 32); a.job_count = s.n * a.jobs_d * a.jobs_h * a.jobs_w;
    if (!(a.job_count < 268435455)) return "boxes are counted in 28 bits";
    blocks = least(a.job_count, s.processors);
    return nullptr;
}

const char *fill(const Call &t, const Sizes &s, implicit_gemm::Arguments &a, long long &blocks) {
    take_tensors(t, a);
    a.size_d = s.d; a.in_d = s.in_d; a.size_h = s.h; a.in_h = s.in_h; a.size_w = s.w;
    a.in_w = s.in_w; a.pixels = s.n * s.h * s.w; a.walk_count = s.d;
    blocks = pieces(a.pixels, 256);
    return nullptr;
}

/* Whether the device has a kernel's code; gives it the shared memory that it wants. */
template <class A> bool prepare(void (*kernel)(A), int threads, int shared) {
    cudaFuncAttributes found;
    const auto memory = cudaFuncAttributeMaxDynamicSharedMemorySize;
    return cudaFuncGetAttributes(&found, kernel) == cudaSuccess &&
        found.maxThreadsPerBlock >= threads &&
        cudaFuncSetAttribute(kernel, memory, shared) == cudaSuccess;
}

struct Device { int processors; bool first; }; // first: has the first path's code
/* The current device, prepared in the first call there. */
static Device current_device() {
    static std::mutex one;
    static std::map<int, Device> known;
    const std::lock_guard<std::mutex> lock(one);
    int number = -1;
    cudaGetDevice(&number);
    if (known.count(number) == 0) {
        Device &device = known[number];
        cudaDeviceGetAttribute(&device.processors, cudaDevAttrMultiProcessorCount, number);
        device.first = prepare(wgmma_packed::segue_conv_wgmma_packed, 640, 170544);
        prepare(implicit_gemm::segue_implicit_gemm, 256, 7360);
        cudaGetLastError(); /* of code that is not there */
    }
    return known[number];
}

template <class A>
const char *launch(void (*kernel)(A), A &a, long long blocks, int threads, size_t shared,
           cudaStream_t stream) {
    if (blocks > 2147483647) return "the result is too large";
    void *words[] = {&a};
    const cudaError_t status =
        cudaLaunchKernel(kernel, dim3(unsigned(blocks)), dim3(threads), words, shared, stream);
    return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

extern "C" const char *conv3d_min_softmax(const Call *call, cudaStream_t stream) {
    const Call &t = *call;
    const Device device = current_device();
    Sizes s;
    s.processors = device.processors;
    if (const char *wrong = measure(t, s)) return wrong;
    if (s.n == 0 || s.d == 0 || s.h == 0 || s.w == 0) return nullptr;
    wgmma_packed::Arguments a0;
    long long blocks0;
    if (device.first && !fill(t, s, a0, blocks0))
        return launch(wgmma_packed::segue_conv_wgmma_packed, a0, blocks0, 640, 170544, stream);
    implicit_gemm::Arguments a1;
    long long blocks1;
    if (const char *wrong = fill(t, s, a1, blocks1)) return wrong;
    return launch(implicit_gemm::segue_implicit_gemm, a1, blocks1, 256, 7360, stream);
}
} // namespace conv3d_min_softmax_code
"""

# ---- the binding: tensors in, tensors out ----

BINDING = r"""
#include <c10/cuda/CUDAGuard.h>
#include <torch/extension.h>

using torch::Tensor;

static void expect(bool holds, const char *name, const char *otherwise) {
    if (!holds) throw py::value_error(std::string(name) + otherwise);
}

/* A contiguous tensor as the kernels take it; what they expect of its sizes they say themselves. */
template <class Description>
static void describe(const char *name, const Tensor &tensor, int64_t rank, torch::Dtype dtype,
                     const torch::Device &device, Description &made) {
    expect(tensor.device() == device, name, " lies on another device");
    expect(tensor.dim() == rank, name, " has too many or too few dimensions");
    expect(tensor.scalar_type() == dtype, name, " is not of the dtype that the kernels take");
    expect(tensor.is_contiguous(), name, " is not contiguous");
    made.data = tensor.data_ptr();
    std::copy(tensor.sizes().begin(), tensor.sizes().end(), made.size);
    std::copy(tensor.strides().begin(), tensor.strides().end(), made.stride);
}

static Tensor call_conv3d_min_softmax(const Tensor &x, const Tensor &weight, const Tensor &bias) {
    const torch::Device device = x.device();
    const c10::cuda::CUDAGuard guard(device);
    conv3d_min_softmax_arguments given;
    describe("x", x, 5, torch::kFloat, device, given.x);
    describe("weight", weight, 5, torch::kFloat, device, given.conv_weight);
    describe("bias", bias, 1, torch::kFloat, device, given.conv_bias);
    Tensor out = torch::empty({x.size(0), 24, x.size(3) - 2, x.size(4) - 2}, x.options());
    describe("out", out, 4, torch::kFloat, device, given.softmax);
    const char *wrong = conv3d_min_softmax(&given, c10::cuda::getCurrentCUDAStream());
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


def plain(module, *tensors):
    """Whether these are ordinary tensors on a GPU, no gradient is wanted, and nothing looks at
    single operators or changes them: autocast, tracing, modes."""
    watched = (
        is_compiling()
        or torch.is_autocast_enabled()
        or torch.jit.is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.autograd.forward_ad._current_level >= 0
    )
    if watched or any(type(t) not in TENSORS or not t.is_cuda for t in tensors):
        return False
    if not torch.is_grad_enabled():
        return True
    return not any(t.requires_grad for t in (*tensors, *module.parameters()))


def expect_setting(name, value, wanted):
    """A value that the kernels have as a constant."""
    if type(value) is not type(wanted) or value != wanted:
        raise ValueError(f"{name} is {value}, the kernels were written for {wanted}")


def expect_module(name, module, kind, **settings):
    """A submodule of which forward() needs no more than tensors and these settings."""
    if type(module) is not kind or module._forward_hooks or module._forward_pre_hooks:
        raise ValueError(f"{name} is no {kind.__name__}, or has hooks")
    for setting, wanted in settings.items():
        value = getattr(module, setting)
        if value != wanted:
            raise ValueError(f"{name}.{setting} is {value}, the kernels were written for {wanted}")


extensions = {}  # device -> the module built for it, or why there is none
building = threading.Lock()


def kernels(*tensors):
    """Those for the tensors' GPU, compiled at the first call; PyTorch keeps them on disk."""
    if any(type(t) not in TENSORS or not t.is_cuda for t in tensors):
        raise ValueError("an operand is no ordinary tensor on a GPU")
    device = tensors[0].get_device()
    if device not in extensions:
        with building:
            if device not in extensions:
                extensions[device] = build(torch.cuda.get_device_capability(device))
    if isinstance(extensions[device], str):
        raise ValueError(extensions[device])
    return extensions[device]


def build(capability):
    """Compiles with nvcc, in half a minute; or why that failed."""
    if torch.cuda.is_current_stream_capturing():
        raise ValueError("a CUDA graph is being captured before the kernels are built")
    architecture = "".join(map(str, capability))
    if capability == (9, 0) and int(torch.version.cuda.split(".")[0]) >= 12:
        architecture = "90a"
    flags = ["-O3", f"-gencode=arch=compute_{architecture},code=sm_{architecture}"]
    made_from = "".join([torch.__version__, DECLARATIONS, KERNELS, BINDING, *flags])
    try:
        from torch.utils.cpp_extension import load_inline

        known = inspect.signature(load_inline).parameters
        return load_inline(
            name=f"conv3d_min_softmax_{hashlib.sha256(made_from.encode()).hexdigest()[:12]}",
            cpp_sources=[DECLARATIONS, BINDING],
            cuda_sources=[DECLARATIONS, KERNELS],
            extra_cuda_cflags=flags,
            **{k: True for k in ["no_implicit_headers"] if k in known},  # builds faster
        )
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"the kernels could not be built: {first}"


# ---- the model with fused operators ----


def conv3d_min_softmax(x, weight, bias):
    """conv3d, min, softmax: one kernel."""
    return kernels(x, weight, bias).conv3d_min_softmax(x, weight, bias)


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
        return conv3d_min_softmax(x, self.conv.weight, self.conv.bias)
