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
//@ include common.cuh
//@ include wgmma.cuh
//@ constants
struct Arguments {
//@ arguments
};
//@ instructions

/* The compiler does not keep it in a register: it is wanted where jobs begin, end and are few. */
__device__ __forceinline__ unsigned thread_index() {
    unsigned index;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
    return index;
}

/* A value that stays in a register, or one from which nothing is worked out ahead of time. */
__device__ __forceinline__ unsigned opaque(unsigned value) {
    asm volatile("" : "+r"(value));
    return value;
}

struct Job {
    int n, d, h, w; /* image; first output pixel */
    int depths;     /* output places along depth */

    __device__ __forceinline__ int slices() const { return depths + TURN - 1; }
};

__device__ __forceinline__ Job job_at(int job, const Arguments &a) {
    const int jobs_w = static_cast<int>(a.jobs_w), jobs_h = static_cast<int>(a.jobs_h);
    const int jobs_d = static_cast<int>(a.jobs_d), box_d = static_cast<int>(a.box_d);
    Job at;
    at.w = job % jobs_w * BOX_W;
    job /= jobs_w;
    at.h = job % jobs_h * BOX_H;
    job /= jobs_h;
    at.d = job % jobs_d * box_d;
    at.n = job / jobs_d;
    at.depths = min(box_d, static_cast<int>(a.out_d) - at.d);
    return at;
}

//@ include packed_work.cuh
//@ include stage_packed.cuh

/* A consumer's rows: blocks of 64 take turns in the slots by eights, so that a warp's are
 * neighbours. */
struct Pixels {
    Job job;
    int first; /* slot of the consumer's warp */
    int lane;
    unsigned inside; /* bit p: whether the thread's pixel p lies in the output */

    __device__ __forceinline__ int pixel(int row) const {
        return packed_pixel(first + (row % 16 / 8 * ROW_BLOCKS + row / 16) * 8 + row % 8);
    }
    __device__ __forceinline__ void open(const Job &at, const Arguments &a) {
        job = at;
        inside = 0;
        first = static_cast<int>(opaque(first));
#pragma unroll
        for (int p = 0; p < 2 * ROW_BLOCKS; p++) {
            const int m = pixel(p * 8 + lane / 4);
            if (at.h + m / BOX_W < a.out_h && at.w + m % BOX_W < a.out_w)
                inside |= 1U << p;
        }
    }
    __device__ __forceinline__ bool valid(int row) const { return inside >> row / 8 & 1; }
    __device__ __forceinline__ Place place(int row) const {
        const int m = pixel(row);
        return {job.n, job.d, job.h + m / BOX_W, job.w + m % BOX_W};
    }
};

constexpr bool PUT_ALONE = false;
//@ include row_tile.cuh

/* Sums come scaled and with the bias: see Sums::finish. */
struct Tile : RowTile {
    __device__ __forceinline__ real acc(int p, int j) const {
        return d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2];
    }
    __device__ __forceinline__ bool valid(int p) const { return pixels.inside >> p & 1; }
};

//@ tail

/* ---- weights ------------------------------------------------------------------------------- */

constexpr int SUM_K = 64; /* of a sum */
constexpr int SPANS = PARTS == 2 && TURN == 1 ? (K + SUM_K - 1) / SUM_K : 1;
constexpr bool MOVES = SPANS > 1 || (PARTS == 2 && TURN > 1);
constexpr int TURNS = MOVES ? 1 : TURN; /* that sums take */
constexpr int WEIGHT_PARTS = PARTS == 2 ? 3 : 1;
constexpr int WEIGHT_ROWS = (TURN + TURNS - 1) * TILE_N;
constexpr int WEIGHT_BYTES = K / 8 * WEIGHT_ROWS * 16; /* of one part */
constexpr int WEIGHTS = IN_CHANNELS * KERNEL_D * KERNEL_H * KERNEL_W; /* of a channel */

__device__ __forceinline__ float round_weight(float x) {
    return ROUND_AWAY ? round_tf32_away(x) : x;
}
__device__ __forceinline__ unsigned short weight_bits(float x) {
    return BFLOAT ? to_bfloat(x).bits : round_half(x);
}

/* Bytes before weight e of channel 0 in the row of B that holds its slice. */
__device__ __forceinline__ int weight_place(int e, int &turn) {
    constexpr int PLANE_TAPS = KERNEL_H * KERNEL_W, TAPS = KERNEL_D * PLANE_TAPS;
    const int kd = e / PLANE_TAPS % KERNEL_D, kh = e / KERNEL_W % KERNEL_H;
    const int span = TURN > 1 ? e / TAPS : e / TAPS * KERNEL_D + kd;
    const int k = place_in_k(kh, span * KERNEL_W + e % KERNEL_W);
    turn = TURN > 1 ? (TURN - kd) % TURN : 0;
    return (k / 8 * WEIGHT_ROWS + turn * TILE_N) * 16 + k % 8 * 2;
}

/* twice: where the row's slice stands in B once more. */
__device__ __forceinline__ void store_weight(unsigned char *to, float scaled, bool twice) {
    unsigned short halves[WEIGHT_PARTS];
    if (PARTS == 2) {
        halves[0] = nonzero_half(scaled);
        halves[1 % WEIGHT_PARTS] = round_half(split(scaled, false));
        halves[2 % WEIGHT_PARTS] = nonzero_half(scaled / REST_SCALE);
    } else {
        halves[0] = weight_bits(scaled);
    }
#pragma unroll
    for (int part = 0; part < WEIGHT_PARTS; part++) {
        unsigned char *at = to + part * WEIGHT_BYTES;
        *reinterpret_cast<unsigned short *>(at) = halves[part];
        if (twice)
            *reinterpret_cast<unsigned short *>(at + TURN * TILE_N * 16) = halves[part];
    }
}

/* First of all, by all threads: weights come to shared memory, as they are; B is zero. The code is
 * short on purpose: a kernel's first pass through it waits for instructions, too. */
__device__ __forceinline__ void fetch_weights(const Arguments &a, const Shared &shared) {
    constexpr int PLANE_TAPS = KERNEL_H * KERNEL_W, TAPS = KERNEL_D * PLANE_TAPS;
    const unsigned raw = shared_address(shared.raw);
#pragma unroll 1
    for (int i = thread_index(); i < OUT_CHANNELS * WEIGHTS; i += THREADS) {
        const int e = i % WEIGHTS;
        const element *from = a.weight + i;
        if (!WEIGHTS_IN_ORDER)
            from = a.weight + i / WEIGHTS * a.weight_stride.n + e / TAPS * a.weight_stride.c +
                   e / PLANE_TAPS % KERNEL_D * a.weight_stride.d +
                   e / KERNEL_W % KERNEL_H * a.weight_stride.h + e % KERNEL_W * a.weight_stride.w;
        if (GUARDED)
            asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(raw + i * 4), "l"(from)
                         : "memory");
        else
            shared.raw[i] = load(from);
    }
#pragma unroll 1
    for (int i = thread_index(); i < WEIGHT_PARTS * WEIGHT_BYTES / 16; i += THREADS)
        reinterpret_cast<uint4 *>(shared.weights)[i] = make_uint4(0, 0, 0, 0);
    for (int o = thread_index(); o < TILE_N; o += THREADS) {
        const bool biased = HAS_BIAS && o < OUT_CHANNELS;
        shared.scale_bias[o] =
            make_float2(1.0f, biased ? load(a.bias + o * a.bias_stride.c) : 0.0f);
    }
    if (thread_index() < ROUND)
        shared.magnitude[thread_index()] = 0;
    if (thread_index() == 0) {
        const int count = (static_cast<int>(a.job_count) - 1 - static_cast<int>(blockIdx.x)) /
                              static_cast<int>(gridDim.x) +
                          1;
        *shared.count = count;
        *shared.round_end = GUARDED ? min(count, ROUND) : count;
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/* Then, by the consumers: a warp packs channels of its own. */
__device__ __forceinline__ void pack_weights(const Arguments &a, const Shared &shared) {
    const int lane = thread_index() % 32, warp = thread_index() / 32;
    for (int i = thread_index(); i < CHANNEL_OPERANDS * TILE_N; i += CONSUMER_THREADS)
        shared.operands[i] =
            i % TILE_N < OUT_CHANNELS ? channel_operand(i / TILE_N, i % TILE_N, a) : 0.0f;
    for (int o = warp; o < OUT_CHANNELS && GUARDED; o += CONSUMERS * 4) {
        float largest = 0.0f;
#pragma unroll 4
        for (int e = lane; e < WEIGHTS; e += 32)
            largest = finite_magnitude(largest, round_weight(shared.raw[o * WEIGHTS + e]));
        largest = __uint_as_float(__reduce_max_sync(~0U, __float_as_uint(largest)));
        const float scale = scale_to(7, largest);
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
            const float scale = GUARDED ? shared.scale[o] : 1.0f;
            store_weight(to + o * 16, round_weight(shared.raw[o * WEIGHTS + e]) * scale,
                         turn < TURNS - 1);
        }
    }
    fence_proxy_async();
    barrier_sync(1, CONSUMER_THREADS);
}

/* By the consumers, once all are at a job whose activations have another scale. */
__device__ __forceinline__ void rescale(const Shared &shared, float activation_scale) {
    barrier_sync(1, CONSUMER_THREADS);
    for (int o = thread_index(); o < OUT_CHANNELS; o += CONSUMER_THREADS)
        shared.scale_bias[o].x = unscale(shared.scale[o], activation_scale);
    barrier_sync(1, CONSUMER_THREADS);
}

/* ---- consumers ----------------------------------------------------------------------------- */

/* Scale and bias of a thread's channels: in registers where they are few. */
constexpr bool HELD = TILE_N <= 32 && !MOVES;

struct Scales {
    const float2 *shared;
    float2 held[HELD ? TILE_N / 4 : 1];

    __device__ __forceinline__ float2 at(const Tile &tile, int j) const {
        return HELD ? held[j] : shared[tile.column(j)];
    }
    __device__ __forceinline__ void open(const Tile &tile, const float2 *scale_bias) {
        shared = scale_bias;
#pragma unroll
        for (int j = 0; HELD && j < TILE_N / 4; j++)
            held[j] = scale_bias[tile.column(j)];
    }
};

/* The same number in a register of its own. */
__device__ __forceinline__ float moved(float x) {
    float copy;
    asm volatile("mov.b32 %0, %1;" : "=f"(copy) : "f"(x));
    return copy;
}

/* Sums in the order of their instructions: blocks of TILE_N columns, one for each depth. */
struct Sums {
    float of[ROW_BLOCKS][TURN * TILE_N / 2];
    float depth[TURN > 1 ? TURN - 1 : 1][ROW_BLOCKS][TILE_N / 2]; /* the next complete first */
    float zero; /* not a constant to the compiler, which spends two instructions on constants */

    /* Keeps the compiler from moving what it does to sums past the products' fences. */
    __device__ __forceinline__ void pin() {
#pragma unroll
        for (int t = 0; t < ROW_BLOCKS; t++)
#pragma unroll
            for (int i = 0; i < TURN * TILE_N / 2; i++)
                asm volatile("" : "+f"(of[t][i])::"memory");
    }
    __device__ __forceinline__ void clear(int turn) {
#pragma unroll
        for (int t = 0; t < ROW_BLOCKS; t++)
#pragma unroll
            for (int i = 0; i < TILE_N / 2; i++)
                of[t][turn * TILE_N / 2 + i] = moved(zero);
    }
    /* Behind all spans but the last. */
    __device__ __forceinline__ void keep(bool first) {
#pragma unroll
        for (int t = 0; t < ROW_BLOCKS; t++)
#pragma unroll
            for (int i = 0; i < TILE_N / 2; i++) {
                depth[0][t][i] = first ? of[t][i] : depth[0][t][i] + of[t][i];
                asm volatile("" : "+f"(depth[0][t][i])::"memory");
            }
    }
    /* Behind a slice: brings the block of the depth that it completes to the tile. */
    __device__ __forceinline__ void complete(Tile &tile, int turn) {
#pragma unroll
        for (int t = 0; t < ROW_BLOCKS; t++)
#pragma unroll
            for (int i = 0; i < TILE_N / 2; i++) {
                float sum = of[t][turn * TILE_N / 2 + i];
                if (MOVES)
                    sum += depth[0][t][i];
                if (MOVES && TURN > 1) {
#pragma unroll
                    for (int next = 0; next < TURN - 1; next++) {
                        const float slice = of[t][(next + 2) % TURN * TILE_N / 2 + i];
                        depth[next][t][i] =
                            next + 2 < TURN ? slice + depth[next + 2 < TURN ? next + 1 : 0][t][i]
                                            : slice;
                    }
                }
                tile.d[t][i] = sum;
            }
    }
    static __device__ __forceinline__ void scale(Tile &tile, const Scales &scales) {
#pragma unroll
        for (int t = 0; t < ROW_BLOCKS; t++)
#pragma unroll
            for (int i = 0; i < TILE_N / 2; i++) {
                const float2 by = scales.at(tile, i / 4 * 2 + i % 2);
                tile.d[t][i] = fmaf(tile.d[t][i], by.x, by.y);
            }
    }
};

/* Where a consumer stands: its next stage, and how to get at it. */
struct Ring {
    unsigned pixels, weights; /* descriptors' lower halves: of stage 0, of B's first row */
    unsigned full, empty;
    int lane, slot, parity;

    /* Cores of rows follow each other at once in B, and ROW_BLOCKS apart in a tile's pixels. */
    static __device__ __forceinline__ unsigned long long of_pixels(unsigned low) {
        return static_cast<unsigned long long>(ROW_BLOCKS * 8) << 32 | low;
    }
    static __device__ __forceinline__ unsigned long long of_weights(unsigned low) {
        return 8ULL << 32 | low;
    }
    __device__ __forceinline__ void wait() const { mbarrier_wait(full + 8 * slot, parity); }
    /* Products of a tile along k, from 16 `first` to 16 `end`: their sum is `fresh`, or added to
     * what stands there. */
    static __device__ __forceinline__ void multiply(Sums &sums, unsigned x, unsigned w, bool fresh,
                                                    int first = 0, int end = K / 16) {
#pragma unroll
        for (int k = 0; k < K / 16; k++) {
            if (k < first || k >= end)
                continue;
            const unsigned leading = group_at(2 * k + 1) - group_at(2 * k);
#pragma unroll
            for (int block = 0; block < ROW_BLOCKS; block++)
                wgmma(sums.of[block], of_pixels(x + group_at(2 * k) + block * 8 + (leading << 16)),
                      of_weights(w + k * 2 * WEIGHT_ROWS), !fresh || k > first);
        }
    }
    /* Starts a span's products of the stage with all tiles, when it is full; turn: the slice's
     * number modulo TURNS. */
    __device__ __forceinline__ void start(Sums (&sums)[TILES], int turn, int span) const {
        constexpr int WEIGHT_PART = WEIGHT_BYTES / 16, STEPS = (K / 16 + SPANS - 1) / SPANS;
        const unsigned w = weights + (TURN - turn) % TURN * TILE_N;
        if (span == 0)
            wait();
#pragma unroll
        for (int t = 0; t < TILES; t++)
            sums[t].pin();
        wgmma_fence();
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            const unsigned x = pixels + slot * (STAGE_BYTES / 16) + t * ROW_BLOCKS * 64;
            if (PARTS == 2 && span == 0) { /* small ones first: each addition rounds toward zero */
                multiply(sums[t], x, w + WEIGHT_PART, TURNS == 1);
                multiply(sums[t], x + PART_BYTES / 16, w + 2 * WEIGHT_PART, false);
            }
            multiply(sums[t], x, w, TURNS == 1 && (PARTS == 1 || span > 0), span * STEPS,
                     min((span + 1) * STEPS, K / 16));
            wgmma_commit();
        }
    }
    __device__ __forceinline__ void give_back() {
        if (lane == 0)
            mbarrier_arrive(empty + 8 * slot);
        slot = slot + 1 == STAGES ? 0 : slot + 1;
        parity ^= slot == 0;
    }
};

/* Slices of one job after another. The tail of a consumer's first tile runs behind the products of
 * its second. */
__device__ __forceinline__ void consume(const Arguments &a, const Shared &shared) {
    const int consumer = __shfl_sync(~0U, thread_index() / WARPGROUP, 0);
    const int first = consumer * TILES * ROW_BLOCKS * 64;
    Tile tile[TILES];
    Tail tail[TILES];
    Sums sums[TILES];
    Scales scales;
    Ring ring;
#pragma unroll
    for (int t = 0; t < TILES; t++) {
        tile[t].scale_bias = shared.scale_bias;
        tile[t].operands = shared.operands;
        tile[t].channel_first = 0;
        tile[t].channel_end = OUT_CHANNELS;
        tile[t].lane = tile[t].pixels.lane = threadIdx.x % 32;
        tile[t].pixels.first =
            first + (t * 4 + thread_index() % WARPGROUP / 32) * ROW_BLOCKS * 16;
        sums[t].zero = __int_as_float(static_cast<int>(a.job_count >> 60));
    }
    scales.open(tile[0], shared.scale_bias);
    ring.pixels = static_cast<unsigned>(
        matrix_descriptor(shared_address(shared.stages) + first * 16, 0, 0));
    ring.weights = static_cast<unsigned>(
        matrix_descriptor(shared_address(shared.weights), WEIGHT_ROWS * 16, 0));
    ring.full = opaque(shared.full);
    ring.empty = opaque(shared.empty);
    ring.lane = threadIdx.x % 32;
    ring.slot = ring.parity = 0;
    Work work = {0};
    do {
        Job at;
        int slices = 1; /* or more */
        auto open = [&]() {
            at = job_at(work.job(), a);
            slices = at.slices();
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                tile[t].pixels.open(at, a);
                if (WALKS)
                    tail[t].begin(tile[t]);
            }
        };
        if (work.rescaled()) {
            ring.wait(); /* producers have found the scale */
            const float largest = __uint_as_float(shared.magnitude[work.number() % ROUND]);
            rescale(shared, work.anew() ? scale_to(8, largest) : CARRIER_SCALE);
            scales.open(tile[0], shared.scale_bias);
        }
        if (!OPENS_BEHIND)
            open();
#pragma unroll
        for (int t = 0; t < TILES; t++)
            for (int turn = 0; TURNS > 1 && turn < TURN; turn++)
                sums[t].clear(turn);
#pragma unroll 1
        for (int first_slice = 0; first_slice < slices; first_slice += TURNS) {
#pragma unroll
            for (int turn = 0; turn < TURNS; turn++) {
                const int slice = first_slice + turn, done = (turn + 1) % TURN;
                if (slice >= slices)
                    break;
                ring.start(sums, turn, 0);
                if (OPENS_BEHIND && slice == 0)
                    open();
#pragma unroll
                for (int span = 1; span < SPANS; span++) {
                    wgmma_wait<0>();
#pragma unroll
                    for (int t = 0; t < TILES; t++) {
                        sums[t].pin();
                        sums[t].keep(span == 1);
                    }
                    ring.start(sums, turn, span);
                }
#pragma unroll
                for (int t = 0; t < TILES; t++) {
                    if (t < TILES - 1) {
                        wgmma_wait<1>();
                    } else {
                        wgmma_wait<0>();
                        ring.give_back();
                    }
                    sums[t].pin();
                    sums[t].complete(tile[t], done);
                    if (slice >= TURN - 1) {
                        Sums::scale(tile[t], scales);
                        tile[t].pixels.job.d = at.d + slice - (TURN - 1);
                        tail[t].step(tile[t], a);
                    }
                    if (TURNS > 1)
                        sums[t].clear(done);
                }
            }
        }
#pragma unroll
        for (int t = 0; WALKS && t < TILES; t++) {
            tile[t].pixels.job.d = at.d;
            tail[t].end(tile[t], a);
        }
    } while (work.next(shared));
}

/* ---- the kernel ---------------------------------------------------------------------------- */

/* Registers of a thread at the kernel's start. */
constexpr int ENTRY_REGISTERS =
    65536 / (BLOCKS * THREADS) / 8 * 8 < 248 ? 65536 / (BLOCKS * THREADS) / 8 * 8 : 248;

template <int REGISTERS> __device__ __forceinline__ void take_registers() {
    if constexpr (REGISTERS >= ENTRY_REGISTERS)
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
    else if constexpr (REGISTERS > 0)
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    segue_conv_wgmma_packed(const __grid_constant__ Arguments a) {
    extern __shared__ __align__(128) unsigned char memory[];
    Shared shared;
    shared.stages = memory;
    shared.weights = shared.stages + STAGES * STAGE_BYTES;
    shared.scale_bias = reinterpret_cast<float2 *>(shared.weights + WEIGHT_PARTS * WEIGHT_BYTES);
    shared.full = shared_address(shared.scale_bias + TILE_N);
    shared.empty = shared.full + STAGES * 8;
    shared.met = shared.empty + STAGES * 8;
    shared.operands = reinterpret_cast<float *>(shared.scale_bias + TILE_N + 2 * STAGES + 1);
    shared.scale = shared.operands + CHANNEL_OPERANDS * TILE_N;
    shared.magnitude = reinterpret_cast<unsigned *>(shared.scale + TILE_N);
    shared.failed = shared.magnitude + ROUND;
    shared.count = reinterpret_cast<int *>(shared.failed + ROUND / 32);
    shared.round_end = shared.count + 1;
    shared.raw = reinterpret_cast<float *>(shared.round_end + 1);
    if (thread_index() < STAGES) {
        mbarrier_init(shared.full + 8 * thread_index(), UNITS);
        mbarrier_init(shared.empty + 8 * thread_index(), CONSUMERS * 4);
    }
    if (thread_index() == 0)
        mbarrier_init(shared.met, THREADS / 32);
    fetch_weights(a, shared);
    __syncthreads();
    if (thread_index() >= CONSUMER_THREADS) {
        take_registers<PRODUCER_REGISTERS>();
        produce(a, shared);
    } else {
        take_registers<CONSUMER_REGISTERS>();
        pack_weights(a, shared);
        consume(a, shared);
    }
}
