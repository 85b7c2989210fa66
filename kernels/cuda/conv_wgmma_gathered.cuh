/* Convolution of few input channels by wgmma, whose pixels (A) come from registers.
 *
 * Patches are never written down. Producers bring the rows under a box of pixels to shared memory
 * as words of two halves, of row r and of row r + 4 (stage_gathered.cuh), and such words, as they
 * lie, are what a lane of A holds. The kernel's rows, i = kh * IN_CHANNELS + c, go by eights: lane
 * q of a quad has rows q and q + 4 of one tap, kw, in one word, and the quad eight places of k.
 * Rows that are left, fewer than eight, go tap by tap: lane q has the q-th of four taps in the low
 * half of a word, and zero above it. A thread's two pixels are neighbours, so that one load of eight
 * bytes serves a tap of both, and the tap between two others costs no load.
 *
 * With TURN = KERNEL_D > 1 the kernel's slices stand side by side in B: a product adds a slice of
 * the input to TURN output depths at once. Block 0 has the kernel's first slice, block b > 0 slice
 * TURN - b. Every product starts from zero, and the parts of a depth are added in other registers:
 * two sets of sums take turns, so that the newest depth needs no copy.
 *
 * PARTS = 2 (fp32): both operands are two halves of one scale, and lo * hi, hi * lo and hi * hi go
 * to one sum, the small ones first, since every addition there rounds toward zero.
 *
 * A job is a box of BOX_H x BOX_W pixels of one image, at box_d places along depth. Constants
 * beyond those of stage_gathered.cuh: OUT_CHANNELS, HAS_BIAS, WEIGHTS_IN_ORDER (weights lie dense),
 * TILE_N, TILE_REAL, TILE_WALKS, BOX_W, PIXELS_W (BOX_W rounded up to 16), SCALES_AT_END (a running
 * minimum or maximum is of sums as they are: scale and bias come once, behind the walk),
 * CONSUMERS (warpgroups of 64 pixels), CONSUMER_REGISTERS, PRODUCER_REGISTERS. */
//@ include common.cuh
//@ include wgmma.cuh
//@ constants
struct Arguments {
//@ arguments
};
//@ instructions

/* Not kept in a register: it is wanted where jobs begin and end. */
__device__ __forceinline__ unsigned thread_index() {
    unsigned index;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
    return index;
}

constexpr int CONSUMER_THREADS = CONSUMERS * WARPGROUP;
constexpr int THREADS = CONSUMER_THREADS + PRODUCERS * 32;
constexpr int ROUND = 256; /* jobs; no more than threads */

struct Job {
    int n, d, h, w; /* image; first output pixel */
};

__device__ __forceinline__ Job job_at(int job, const Arguments &a) {
    const int jobs_w = static_cast<int>(a.jobs_w), jobs_h = static_cast<int>(a.jobs_h);
    const int jobs_d = static_cast<int>(a.jobs_d);
    Job at;
    at.w = job % jobs_w * BOX_W;
    job /= jobs_w;
    at.h = job % jobs_h * BOX_H;
    job /= jobs_h;
    at.d = job % jobs_d * static_cast<int>(a.box_d);
    at.n = job / jobs_d;
    return at;
}
/* Of all, by its number among the block's. */
__device__ __forceinline__ int block_job(int number) {
    return blockIdx.x + number * gridDim.x;
}

__device__ __forceinline__ int block_jobs(const Arguments &a) {
    const int others = static_cast<int>(a.job_count) - 1 - static_cast<int>(blockIdx.x);
    return others / static_cast<int>(gridDim.x) + 1;
}

/* Jobs first .. end - 1 of the block, at one scale. */
struct Round {
    int first, end;
    int staged;  /* stages before it */
    float scale;  /* of activations; 0: STAGE_SCALE, else that of one job, made anew */
    int meetings; /* before it, modulo 2 */
};

/* Shared memory, in order. */
struct Shared {
    unsigned char *stages, *weights, *raw; /* raw: [PRODUCERS][AHEAD + 1][RAW_BYTES] */
    float2 *scale_bias;   /* [TILE_N]: what brings sums back, in the present round */
    float *scale;         /* [TILE_N]: of the weights */
    float *operands;      /* [CHANNEL_OPERANDS][TILE_N] */
    unsigned *magnitude;  /* [ROUND]: bits of a job's largest */
    unsigned *failed;     /* [ROUND / 32]: bits of the jobs to be made anew */
    unsigned *largest;    /* bits of the largest finite magnitude of one job */
    Round *round;         /* the present one: here, since registers are few */
    unsigned full, empty; /* addresses of [STAGES] barriers each */
    unsigned met;         /* of the barrier at which all warps meet between rounds */
};

//@ include stage_gathered.cuh

/* A warp's 16 pixels lie in one row; rows l / 4 and l / 4 + 8 of A are neighbours. */
struct Pixels {
    Job job;
    int h, w; /* of the warp's first pixel in the box */
    int lane;
    unsigned inside; /* bit p: whether the thread's pixel p lies in the output */

    __device__ __forceinline__ int column(int row) const { return w + row % 8 * 2 + row / 8; }
    __device__ __forceinline__ void open(const Job &at, const Arguments &a) {
        job = at;
        inside = 0;
#pragma unroll
        for (int p = 0; p < 2; p++) {
            const int x = column(p * 8 + lane / 4);
            if (at.h + h < a.out_h && x < BOX_W && at.w + x < a.out_w)
                inside |= 1U << p;
        }
    }
    __device__ __forceinline__ bool valid(int row) const { return inside >> row / 8 & 1; }
    __device__ __forceinline__ Place place(int row) const {
        return {job.n, job.d, job.h + h, job.w + column(row)};
    }
};

constexpr int ROW_BLOCKS = 1;
//@ include row_tile.cuh

struct Tile : RowTile {
    __device__ __forceinline__ real acc(int p, int j) const {
        const real sum = d[0][j / 2 * 4 + p * 2 + j % 2];
        if (SCALES_AT_END)
            return sum;
        const float2 by = scale_bias[column(j)];
        return fmaf(sum, by.x, by.y);
    }
    /* Behind a walk whose running values are of sums as they are. */
    __device__ __forceinline__ void scale_walk() {
#pragma unroll
        for (int j = 0; SCALES_AT_END && j < CHANNELS; j++) {
            const float2 by = scale_bias[column(j)];
#pragma unroll
            for (int p = 0; p < PIXELS; p++)
                walk(0, p, j) = fmaf(walk(0, p, j), by.x, by.y);
        }
    }
    bool walking; /* whether running values take in all pixels: those outside are never stored */
    __device__ __forceinline__ bool valid(int p) const { return walking || pixels.inside >> p & 1; }
};

//@ tail

/* ---- k ------------------------------------------------------------------------------------- */

constexpr int KERNEL_ROWS = KERNEL_H * IN_CHANNELS;
constexpr int EIGHTS = KERNEL_ROWS / 8;                            /* of the kernel's rows */
constexpr int SINGLE_TAPS = (KERNEL_ROWS - EIGHTS * 8) * KERNEL_W; /* of the rows left */
constexpr int SINGLES = (SINGLE_TAPS + 3) / 4;                     /* fours of them */
constexpr int OCTETS = EIGHTS * KERNEL_W + SINGLES;
constexpr int STEPS = (OCTETS + 1) / 2, K = STEPS * 16;
/* Words are loaded in pairs from an even column on, so that every other tap is a pair. */
constexpr int ODD = LEAD % 2;
constexpr int WINDOW = (ODD + KERNEL_W + 2) / 2 * 2; /* words under a thread's pixels */
constexpr int DIRECT = (KERNEL_W + 1 - ODD) / 2;     /* taps that are pairs: they come first */

__device__ constexpr bool is_direct(int kw) {
    return kw % 2 == ODD;
}
/* The place among the eights of k of an eight of the kernel's rows. */
__device__ constexpr int octet_of(int eight, int kw) {
    return eight * KERNEL_W + (is_direct(kw) ? 0 : DIRECT) + kw / 2;
}
__device__ __forceinline__ int place_in_k(int row, int kw) {
    if (row < EIGHTS * 8) {
        const int first = kw % 2 == ODD ? 0 : DIRECT;
        return (row / 8 * KERNEL_W + first + kw / 2) * 8 + row % 4 * 2 + row / 4 % 2;
    }
    const int tap = (row - EIGHTS * 8) * KERNEL_W + kw;
    return (EIGHTS * KERNEL_W + tap / 4) * 8 + tap % 4 * 2;
}

/* ---- weights ------------------------------------------------------------------------------- */

constexpr int WEIGHT_ROWS = TURN * TILE_N;             /* of B: kernel slices by channels */
constexpr int WEIGHT_BYTES = K / 8 * WEIGHT_ROWS * 16; /* of one part */
constexpr int PLANE_TAPS = KERNEL_H * KERNEL_W, TAPS = KERNEL_D * PLANE_TAPS;
constexpr int WEIGHTS = IN_CHANNELS * TAPS; /* of a channel */

__device__ __forceinline__ float fetch_weight(const Arguments &a, int o, int e) {
    if (WEIGHTS_IN_ORDER)
        return a.weight[o * WEIGHTS + e];
    return a.weight[o * a.weight_stride.n + e / TAPS * a.weight_stride.c +
                    e / PLANE_TAPS % KERNEL_D * a.weight_stride.d +
                    e / KERNEL_W % KERNEL_H * a.weight_stride.h + e % KERNEL_W * a.weight_stride.w];
}

__device__ __forceinline__ void store_weight(unsigned char *weights, int o, int e, float scaled) {
    const int kd = e / PLANE_TAPS % KERNEL_D, kh = e / KERNEL_W % KERNEL_H;
    const int k = place_in_k(kh * IN_CHANNELS + e / TAPS, e % KERNEL_W);
    const int block = kd == 0 ? 0 : TURN - kd;
    unsigned char *to = weights + (k / 8 * WEIGHT_ROWS + block * TILE_N + o) * 16 + k % 8 * 2;
    if (PARTS == 1) {
        *reinterpret_cast<unsigned short *>(to) = round_half(scaled);
        return;
    }
    const half_t upper = {nonzero_half(finite_part(scaled))};
    *reinterpret_cast<unsigned short *>(to) = upper.bits;
    *reinterpret_cast<unsigned short *>(to + WEIGHT_BYTES) = round_half(scaled - widen(upper));
}

/* By the consumers, a warp for a channel. The code is short on purpose: a kernel's first pass
 * through it waits for instructions, too. */
__device__ __forceinline__ void pack_weights(const Arguments &a, const Shared &shared) {
    constexpr int PIECES = (WEIGHTS + 31) / 32, WARPS = CONSUMERS * 4;
    const int lane = thread_index() % 32, warp = thread_index() / 32;
    float next[PIECES];
#pragma unroll
    for (int i = 0; i < PIECES; i++)
        next[i] = warp < OUT_CHANNELS && lane + 32 * i < WEIGHTS
                      ? fetch_weight(a, warp, lane + 32 * i) : 0.0f;
#pragma unroll 1
    for (int i = thread_index(); i < PARTS * WEIGHT_BYTES / 16; i += CONSUMER_THREADS)
        reinterpret_cast<uint4 *>(shared.weights)[i] = make_uint4(0, 0, 0, 0);
    for (int i = thread_index(); i < CHANNEL_OPERANDS * TILE_N; i += CONSUMER_THREADS)
        shared.operands[i] =
            i % TILE_N < OUT_CHANNELS ? channel_operand(i / TILE_N, i % TILE_N, a) : 0.0f;
    barrier_sync(1, CONSUMER_THREADS);
#pragma unroll 1
    for (int o = warp; o < OUT_CHANNELS; o += WARPS) {
        float value[PIECES], largest = 0.0f;
#pragma unroll
        for (int i = 0; i < PIECES; i++) {
            value[i] = ROUND_AWAY ? round_tf32_away(next[i]) : next[i];
            largest = finite_magnitude(largest, value[i]);
            next[i] = o + WARPS < OUT_CHANNELS && lane + 32 * i < WEIGHTS
                          ? fetch_weight(a, o + WARPS, lane + 32 * i) : 0.0f;
        }
        largest = __uint_as_float(__reduce_max_sync(~0U, __float_as_uint(largest)));
        const float scale = weight_scale(largest);
        if (lane == 0) {
            shared.scale[o] = scale;
            shared.scale_bias[o] =
                make_float2(unscale(scale, STAGE_SCALE),
                            HAS_BIAS ? load(a.bias + o * a.bias_stride.c) : 0.0f);
        }
#pragma unroll
        for (int i = 0; i < PIECES; i++)
            if (lane + 32 * i < WEIGHTS)
                store_weight(shared.weights, o, lane + 32 * i, value[i] * scale);
    }
    fence_proxy_async();
    barrier_sync(1, CONSUMER_THREADS);
}

/* ---- consumers ----------------------------------------------------------------------------- */

constexpr int BLOCK_SUMS = TILE_N / 2; /* of a thread: one kernel slice's */

/* What products make of one slice: BLOCK_SUMS for each of the kernel's slices. */
struct Sums {
    float of[TURN * BLOCK_SUMS];

    /* Keeps the compiler from moving what it does to sums past the products' fences. */
    __device__ __forceinline__ void pin() {
#pragma unroll
        for (int i = 0; i < TURN * BLOCK_SUMS; i++)
            asm volatile("" : "+f"(of[i])::"memory");
    }
};

__device__ __forceinline__ void load_pair(unsigned address, unsigned &x, unsigned &y) {
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(x), "=r"(y) : "r"(address) : "memory");
}
/* The low half of a word, above it zeros. */
__device__ __forceinline__ unsigned load_low_half(unsigned address) {
    unsigned short low;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(low) : "r"(address) : "memory");
    return low;
}
/* The same in a register of its own, made here and not where the compiler likes. */
__device__ __forceinline__ unsigned moved(unsigned x) {
    unsigned copy;
    asm volatile("mov.b32 %0, %1;" : "=r"(copy) : "r"(x) : "memory");
    return copy;
}

/* A slice as a lane's operands. */
struct Operands {
    unsigned of[PARTS][STEPS][4];
    unsigned ends[PARTS][EIGHTS ? EIGHTS : 1][2][2]; /* words of pairs that are no tap */

    __device__ __forceinline__ unsigned &at(int part, int octet, int pixel) {
        return of[part][octet / 2][octet % 2 * 2 + pixel];
    }
    /* Word i under the thread's pixels, where it is loaded to. */
    __device__ __forceinline__ unsigned &word(int part, int eight, int i) {
        const int kw = i / 2 * 2 - ODD;
        if (kw >= 0 && kw < KERNEL_W)
            return at(part, octet_of(eight, kw >= 0 ? kw : 0), i % 2);
        return ends[part][eight][i >= 2][i % 2];
    }
    __device__ __forceinline__ void pin() {
#pragma unroll
        for (int i = 0; i < PARTS * STEPS * 4; i++)
            asm volatile("" : "+r"(of[i / (STEPS * 4)][i / 4 % STEPS][i % 4])::"memory");
    }
};

/* Where a consumer's thread reads the stages, one after the other. */
struct Gather {
    unsigned words;                         /* of stage 0: address of its first word */
    int single[SINGLES ? SINGLES : 1];      /* bytes from there to the words of single taps */
    unsigned full, empty;
    int lane, slot, parity;

    __device__ __forceinline__ void open(const Shared &shared, const Pixels &pixels) {
        const int quad = lane % 4, x = pixels.w + lane / 4 * 2;
        const int first = (pixels.h * IN_CHANNELS + quad) * PITCH + x + LEAD - ODD;
        words = shared_address(shared.stages) + first * 4;
#pragma unroll
        for (int i = 0; i < SINGLES; i++) {
            const int tap = i * 4 + quad;
            const int row = pixels.h * IN_CHANNELS + EIGHTS * 8 + tap / KERNEL_W;
            const int word = tap < SINGLE_TAPS ? row * PITCH + x + LEAD + tap % KERNEL_W : ZEROS;
            single[i] = (word - first) * 4;
        }
        full = shared.full;
        empty = shared.empty;
        asm volatile("" : "+r"(words));
    }
    __device__ __forceinline__ void seek(int stage) {
        slot = stage % STAGES;
        parity = stage / STAGES & 1;
    }
    /* Loads the next stage's words, when it is full. */
    __device__ __forceinline__ void fetch(Operands &operands) const {
        mbarrier_wait(full + 8 * slot, parity);
        const unsigned from = words + slot * STAGE_BYTES;
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
#pragma unroll
            for (int eight = 0; eight < EIGHTS; eight++)
#pragma unroll
                for (int i = 0; i < WINDOW / 2; i++)
                    load_pair(from + part * PART_WORDS * 4 + eight * 8 * PITCH * 4 + i * 8,
                              operands.word(part, eight, i * 2),
                              operands.word(part, eight, i * 2 + 1));
#pragma unroll
            for (int i = 0; i < SINGLES; i++)
#pragma unroll
                for (int p = 0; p < 2; p++)
                    operands.at(part, EIGHTS * KERNEL_W + i, p) =
                        load_low_half(from + single[i] + part * PART_WORDS * 4 + p * 4);
        }
    }
    /* Makes operands of the words, and gives the stage back. */
    __device__ __forceinline__ void take(Operands &operands) {
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
#pragma unroll
            for (int eight = 0; eight < EIGHTS; eight++)
#pragma unroll
                for (int kw = 1 - ODD; kw < KERNEL_W; kw += 2)
#pragma unroll
                    for (int p = 0; p < 2; p++)
                        operands.at(part, octet_of(eight, kw), p) =
                            moved(operands.word(part, eight, ODD + kw + p));
#pragma unroll
            for (int p = 0; p < 2; p++)
                if (OCTETS % 2)
                    operands.at(part, OCTETS, p) = 0;
        }
        operands.pin();
        __syncwarp();
        if (lane == 0)
            mbarrier_arrive(empty + 8 * slot);
        slot = slot + 1 == STAGES ? 0 : slot + 1;
        parity ^= slot == 0;
    }
};

/* Starts a slice's products. weights: B's descriptor. */
__device__ __forceinline__ void multiply(Sums &sums, Operands &operands,
                                         unsigned long long weights) {
    constexpr int LOWER = WEIGHT_BYTES / 16;
    operands.pin();
    sums.pin();
    wgmma_fence();
    if (PARTS == 2) {
#pragma unroll
        for (int k = 0; k < STEPS; k++)
            wgmma(sums.of, operands.of[0][k],
                  descriptor_at(weights, LOWER + k * 2 * WEIGHT_ROWS), k > 0);
#pragma unroll
        for (int k = 0; k < STEPS; k++)
            wgmma(sums.of, operands.of[PARTS - 1][k],
                  descriptor_at(weights, k * 2 * WEIGHT_ROWS), 1);
    }
#pragma unroll
    for (int k = 0; k < STEPS; k++)
        wgmma(sums.of, operands.of[0][k], descriptor_at(weights, k * 2 * WEIGHT_ROWS),
              PARTS == 2 || k > 0);
    wgmma_commit();
}

/* Sums of depths that are not complete, the next one's first. */
constexpr int PENDING = TURN > 2 ? TURN - 2 : 0;

struct Consumer {
    Tile tile;
    Tail tail;
    Gather gather;
    Operands operands;
    float pending[PENDING ? PENDING : 1][BLOCK_SUMS];
    unsigned long long weights;
    int number, slice, left; /* the job's, its slice, and the round's slices beyond this one */

    /* Brings the depth that a slice completes to the tile. sums: the slice's; other: those of the
     * slice before. */
    __device__ __forceinline__ void complete(const Sums &sums, const Sums &other) {
#pragma unroll
        for (int i = 0; i < BLOCK_SUMS; i++)
            tile.d[0][i] = TURN == 1 ? sums.of[i]
                                     : sums.of[BLOCK_SUMS % (TURN * BLOCK_SUMS) + i] +
                                           (PENDING ? pending[0][i] : other.of[i]);
    }
    /* Then: the depths behind it move up. */
    __device__ __forceinline__ void advance(const Sums &sums, const Sums &other) {
#pragma unroll
        for (int next = 0; next < PENDING; next++)
#pragma unroll
            for (int i = 0; i < BLOCK_SUMS; i++) {
                const bool last = next + 1 == PENDING;
                pending[next][i] = sums.of[(next + 2) * BLOCK_SUMS + i] +
                                   (last ? other.of[i] : pending[last ? 0 : next + 1][i]);
                asm volatile("" : "+f"(pending[next][i]));
            }
    }
    __device__ __forceinline__ void step(const Arguments &a) {
        if (SCALES_AT_END) { /* without a branch: depths that are not complete are forgotten */
            tile.walking = true;
            tail.step(tile, a);
            tile.walking = false;
            if (__builtin_expect(slice < TURN - 1, 0)) {
                __syncwarp();
                tail.begin(tile);
            }
        } else if (slice >= TURN - 1 && (WALKS || tile.pixels.job.d < a.out_d)) {
            tail.step(tile, a);
        }
        tile.pixels.job.d++;
    }
    __device__ __forceinline__ void open(const Arguments &a) {
        if (!SCALES_AT_END) { /* else only its end asks where it lies */
            tile.pixels.open(job_at(block_job(number), a), a);
            tile.pixels.job.d -= TURN - 1; /* the depth that a slice completes */
        }
        slice = 0;
        if (WALKS)
            tail.begin(tile);
    }
    __device__ __forceinline__ void close(const Arguments &a) {
        if (SCALES_AT_END)
            tile.pixels.open(job_at(block_job(number), a), a);
        tile.pixels.job.d = 0;
        tile.scale_walk();
        tail.end(tile, a);
    }
    /* Behind the products of a slice, which are in `sums`: starts those of the next in `other`, the
     * round's last ones again where there is none. False: there is none. */
    __device__ __forceinline__ bool turn(const Arguments &a, Sums &sums, Sums &other) {
        wgmma_wait<0>();
        sums.pin();
        if (left > 0)
            gather.fetch(operands);
        complete(sums, other);
        if (SCALES_AT_END)
            step(a);
        if (left > 0) {
            advance(sums, other);
            gather.take(operands);
        }
        multiply(other, operands, weights);
        if (!SCALES_AT_END)
            step(a);
        if (++slice == static_cast<int>(a.box_d) + TURN - 1) {
            if (WALKS)
                close(a);
            number++;
            open(a);
        }
        return left-- != 0;
    }
};

__device__ __forceinline__ void consume(const Arguments &a, const Shared &shared) {
    constexpr int ROW_WARPS = PIXELS_W / 16;
    const int warp = thread_index() / 32;
    Consumer consumer;
    Tile &tile = consumer.tile;
    tile.scale_bias = shared.scale_bias;
    tile.operands = shared.operands;
    tile.channel_first = 0;
    tile.channel_end = OUT_CHANNELS;
    tile.lane = tile.pixels.lane = consumer.gather.lane = thread_index() % 32;
    tile.pixels.h = warp / ROW_WARPS;
    tile.pixels.w = warp % ROW_WARPS * 16;
    consumer.gather.open(shared, tile.pixels);
    const Round round = *shared.round;
    consumer.gather.seek(round.staged);
    consumer.weights = matrix_descriptor(shared_address(shared.weights), WEIGHT_ROWS * 16, 128);
    consumer.number = round.first;
    consumer.left = (round.end - round.first) * (static_cast<int>(a.box_d) + TURN - 1) - 1;
    Sums sums[2];
#pragma unroll
    for (int i = 0; i < TURN * BLOCK_SUMS; i++)
        sums[0].of[i] = sums[1].of[i] = 0.0f;
#pragma unroll
    for (int i = 0; i < PENDING * BLOCK_SUMS; i++)
        consumer.pending[i / BLOCK_SUMS][i % BLOCK_SUMS] = 0.0f;
    consumer.gather.fetch(consumer.operands);
    consumer.gather.take(consumer.operands);
    multiply(sums[0], consumer.operands, consumer.weights);
    consumer.open(a);
#pragma unroll 1
    while (consumer.turn(a, sums[0], sums[1]) && consumer.turn(a, sums[1], sums[0])) {
    }
    wgmma_wait<0>();
}

/* ---- rounds -------------------------------------------------------------------------------- */

/* All of the block meet, consumers and producers from places of their own in the program. */
__device__ __forceinline__ void meet(const Shared &shared, Round &round) {
    __syncwarp();
    if (thread_index() % 32 == 0)
        mbarrier_arrive(shared.met);
    mbarrier_wait(shared.met, round.meetings);
    round.meetings ^= 1;
}

/* The largest finite magnitude under a job, by all threads. */
__device__ __forceinline__ float look_at(const Arguments &a, const Shared &shared, Round &round,
                                         const Job &at) {
    const int slices = static_cast<int>(a.box_d) + TURN - 1;
    float largest = 0.0f;
    if (thread_index() == 0)
        *shared.largest = 0;
    meet(shared, round);
#pragma unroll 1
    for (int i = thread_index(); i < slices * ROWS * COLUMNS; i += THREADS) {
        const int x = at.w - PADDING_W - LEAD + i % COLUMNS, row = i / COLUMNS % ROWS;
        const int y = at.h - PADDING_H + row / IN_CHANNELS;
        const int z = at.d - PADDING_D + i / COLUMNS / ROWS;
        if (static_cast<unsigned long long>(x) < a.in_w &&
            static_cast<unsigned long long>(y) < a.in_h &&
            static_cast<unsigned long long>(z) < a.in_d)
            largest = finite_magnitude(
                largest, a.input[at.n * a.input_stride.n + row % IN_CHANNELS * a.input_stride.c +
                                 z * a.input_stride.d + y * a.input_stride.h + x]);
    }
    const unsigned most = __reduce_max_sync(~0U, __float_as_uint(largest));
    if (thread_index() % 32 == 0)
        atomicMax(shared.largest, most);
    meet(shared, round);
    return __uint_as_float(*shared.largest);
}

/* To the next round, by all threads together: the jobs of this one that halves with STAGE_SCALE
 * cannot hold, each by itself, then others. False: there is none. */
__device__ __forceinline__ bool next_round(const Arguments &a, const Shared &shared) {
    const int count = block_jobs(a);
    Round round = *shared.round;
    const bool anew = round.scale != 0.0f;
    round.staged += (round.end - round.first) * (static_cast<int>(a.box_d) + TURN - 1);
    meet(shared, round);
    if (!anew) {
        bool fails = false;
        if (thread_index() < ROUND && thread_index() < round.end - round.first)
            fails = carrier_fails(
                __uint_as_float(shared.magnitude[thread_index()]) * STAGE_SCALE, STAGE_MIN);
        const unsigned failed = __ballot_sync(~0U, fails);
        if (thread_index() < ROUND && thread_index() % 32 == 0)
            shared.failed[thread_index() / 32] = failed;
        meet(shared, round);
    }
    const int end = min(count, (round.first / ROUND + 1) * ROUND);
    int next = anew ? round.end : round.first;
#pragma unroll 1
    while (next < end && !(shared.failed[next % ROUND / 32] >> next % 32 & 1))
        next++;
    if (next == count)
        return false;
    round.first = next;
    round.end = min(count, next + ROUND);
    round.scale = 0.0f;
    if (next < end) {
        float largest = __uint_as_float(shared.magnitude[next % ROUND]);
        if (!(largest <= FLOAT_MAX))
            largest = look_at(a, shared, round, job_at(block_job(next), a));
        round.end = next + 1;
        round.scale = segment_scale(largest);
    } else if (thread_index() < ROUND) {
        shared.magnitude[thread_index()] = 0;
    }
    for (int o = thread_index(); o < OUT_CHANNELS; o += THREADS)
        shared.scale_bias[o].x =
            unscale(shared.scale[o], round.scale != 0.0f ? round.scale : STAGE_SCALE);
    if (thread_index() == 0) {
        *shared.round = round;
        shared.round->meetings ^= 1; /* the one below */
    }
    meet(shared, round);
    return true;
}

/* ---- the kernel ---------------------------------------------------------------------------- */

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    segue_conv_wgmma_gathered(const __grid_constant__ Arguments a) {
    extern __shared__ __align__(128) unsigned char memory[];
    Shared shared;
    shared.stages = memory;
    shared.weights = shared.stages + STAGES * STAGE_BYTES;
    shared.raw = shared.weights + PARTS * WEIGHT_BYTES;
    shared.scale_bias =
        reinterpret_cast<float2 *>(shared.raw + PRODUCERS * (AHEAD + 1) * RAW_BYTES);
    shared.full = shared_address(shared.scale_bias + TILE_N);
    shared.empty = shared.full + STAGES * 8;
    shared.met = shared.empty + STAGES * 8;
    shared.scale = reinterpret_cast<float *>(shared.scale_bias + TILE_N + 2 * STAGES + 1);
    shared.operands = shared.scale + TILE_N;
    shared.magnitude = reinterpret_cast<unsigned *>(shared.operands + CHANNEL_OPERANDS * TILE_N);
    shared.failed = shared.magnitude + ROUND;
    shared.largest = shared.failed + ROUND / 32;
    shared.round = reinterpret_cast<Round *>(shared.largest + 1);
    if (thread_index() < STAGES) {
        mbarrier_init(shared.full + 8 * thread_index(), 1);
        mbarrier_init(shared.empty + 8 * thread_index(), CONSUMERS * 4);
    }
    if (thread_index() == 0) {
        mbarrier_init(shared.met, THREADS / 32);
        *shared.round = Round{0, min(block_jobs(a), ROUND), 0, 0.0f, 0};
    }
    if (thread_index() < ROUND)
        shared.magnitude[thread_index()] = 0;
    if (SINGLE_TAPS % 4 != 0 && thread_index() < STAGES * PARTS) {
        float *part = reinterpret_cast<float *>(shared.stages) + thread_index() * PART_WORDS;
        part[ZEROS] = part[ZEROS + 1] = 0.0f;
    }
    __syncthreads();
    if (thread_index() >= CONSUMER_THREADS) {
        setmaxnreg_dec<PRODUCER_REGISTERS>();
        do {
            produce(a, shared);
        } while (next_round(a, shared));
    } else {
        setmaxnreg_inc<CONSUMER_REGISTERS>();
        pack_weights(a, shared);
        do {
            consume(a, shared);
        } while (next_round(a, shared));
    }
}
