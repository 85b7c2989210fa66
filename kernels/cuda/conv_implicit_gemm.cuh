/* Convolution by `mma.sync` with its tail, the plain way: an implicit product of gathered pixels
 * (M) by channels (N), for any shape, stride, padding, dilation, groups and strides, from sm_80 on.
 *
 * A block makes BLOCK_PIXELS output pixels, counted through all images, by up to TILE_N channels of
 * one group. k runs over [input channel][tap], SLICE at a time: weights by way of shared memory,
 * inputs straight from where they lie. A lane has four neighbouring k: the first two meet in one
 * product and the last two in the next, for the order of k is free.
 *
 * With SPLIT, operands are high and low parts (class fp32), and three products are summed. The tensor
 * cores round each addition toward zero, so the sums of a slice go to the other cores. */
//@ include common.cuh
//@ include mma.cuh

//@ constants

struct Arguments {
//@ arguments
};

#define SG_UNROLL _Pragma("unroll")

constexpr int THREADS = WARPS * 32, BLOCK_PIXELS = WARPS * ROW_BLOCKS * 16;
constexpr int TAPS = KERNEL_D * KERNEL_H * KERNEL_W, K = GROUP_INPUTS * TAPS, SLICE = 16;
constexpr bool DEEP = HAS_D || KERNEL_D > 1 || PADDING_D > 0;

__device__ __forceinline__ long long offset(Place at, long long channel, Stride s) {
    return at.n * s.n + channel * s.c + (DEEP ? at.d * s.d : 0) + at.h * s.h + at.w * s.w;
}

/* A warp's sums: ROW_BLOCKS blocks of 16 pixels by TILE_N channels. Of a block, lane l has pixels
 * l / 4 and l / 4 + 8, and of every 8 channels 2 (l % 4) and the next. What is reduced over channels
 * all four lanes of a pixel have. */
struct Tile {
    static constexpr int PIXELS = 2 * ROW_BLOCKS, OWN = PIXELS, CHANNELS = TILE_N / 4;

    real d[ROW_BLOCKS][TILE_N / 2]; /* as the instructions lay it out */
    real running[TILE_WALKS ? TILE_WALKS : 1][TILE_WALKS ? PIXELS : 1][TILE_WALKS ? CHANNELS : 1];
    const Place *places;  /* of the warp's pixels, in shared memory; n < 0: there is none */
    const float *biases;  /* [TILE_N], in shared memory */
    const real *operands; /* [CHANNEL_OPERANDS][TILE_N], in shared memory */
    int channel_first;    /* of slot 0 of the tile */
    int channel_end;      /* the first beyond the tile */
    int lane;

    __device__ __forceinline__ int column(int j) const { return j / 2 * 8 + lane % 4 * 2 + j % 2; }
    __device__ __forceinline__ int channel(int j) const { return channel_first + column(j); }
    __device__ __forceinline__ bool has(int j) const {
        if (TILE_REAL % TILE_N == 0 && channel_end - channel_first == TILE_N)
            return true;
        return channel(j) < channel_end;
    }
    __device__ __forceinline__ Place place(int p) const { return places[p * 8 + lane / 4]; }
    __device__ __forceinline__ bool valid(int p) const { return place(p).n >= 0; }
    __device__ __forceinline__ Place own_place(int q) const { return place(q); }
    __device__ __forceinline__ bool own_valid(int q) const { return valid(q); }

    __device__ __forceinline__ real &result(int p, int j) {
        return d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2];
    }
    using Results = real[PIXELS * CHANNELS];
    __device__ __forceinline__ Results &results() { return reinterpret_cast<Results &>(d); }
    __device__ __forceinline__ real acc(int p, int j) const {
        return d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2] + biases[column(j)];
    }
    __device__ __forceinline__ real per_channel(int k, int j) const {
        return operands[k * TILE_N + column(j)];
    }
    __device__ __forceinline__ real &walk(int k, int p, int j) { return running[k][p][j]; }

    template <class Op>
    __device__ __forceinline__ void reduce(Op, const real (&in)[PIXELS], real (&out)[OWN]) const {
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++) {
            const real pair = Op::combine(in[p], __shfl_xor_sync(~0U, in[p], 1));
            out[p] = Op::combine(pair, __shfl_xor_sync(~0U, pair, 2));
        }
    }
    __device__ __forceinline__ void spread(const real (&in)[OWN], real (&out)[PIXELS]) const {
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++)
            out[p] = in[p];
    }

    template <int V, class T>
    __device__ __forceinline__ void load_tile(const T *from, Stride s, int j,
                                              real (&out)[PIXELS]) const {
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++)
            out[p] = valid(p) && has(j) ? load(from + offset(place(p), channel(j), s)) : real(0);
    }
    template <int V, class T>
    __device__ __forceinline__ void load_pixels(const T *from, Stride s,
                                                real (&out)[PIXELS]) const {
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++)
            out[p] = valid(p) ? load(from + offset(place(p), 0, s)) : real(0);
    }
    template <class T>
    __device__ __forceinline__ void load_own(const T *from, Stride s, real (&out)[OWN]) const {
        load_pixels<1>(from, s, out);
    }
    template <class T>
    __device__ __forceinline__ void store_own(T *to, Stride s, const real (&in)[OWN]) const {
        SG_UNROLL
        for (int q = 0; q < OWN; q++)
            if (lane % 4 == 0 && valid(q))
                store(to + offset(place(q), 0, s), in[q]);
    }
    /* Lanes of one store have eight neighbouring pixels of four channels: whole sectors. */
    template <int V, class T>
    __device__ __forceinline__ void put(T *to, Stride s, int p, int j, real value) const {
        if (valid(p) && has(j))
            store(to + offset(place(p), channel(j), s), value);
    }
    template <int V, class T> __device__ __forceinline__ void flush(T *, Stride) const {}
};

//@ tail

struct Shared {
    unsigned weights[2][TILE_N][SLICE]; /* bits of floats, of this slice and of the next */
    Place places[BLOCK_PIXELS];
    float biases[TILE_N];
    real operands[CHANNEL_OPERANDS ? CHANNEL_OPERANDS : 1][TILE_N];
};

__device__ __forceinline__ int next_index(long long &number, long long size) {
    const int index = static_cast<int>(number % size);
    number /= size;
    return index;
}

/* Pixel `number` of those that are kept, at step `walked` of those that are not. */
__device__ __forceinline__ Place place_at(long long number, long long walked, const Arguments &a) {
    Place at = {};
    at.w = next_index(WALK_W ? walked : number, a.size_w);
    if (HAS_H)
        at.h = next_index(WALK_H ? walked : number, a.size_h);
    if (HAS_D)
        at.d = next_index(WALK_D ? walked : number, a.size_d);
    at.n = static_cast<int>(number);
    return at;
}

/* The tap that k stands for; its input channel is k / TAPS. */
__device__ __forceinline__ Place tap_at(int k) {
    return Place{0, k / (KERNEL_W * KERNEL_H) % KERNEL_D, k / KERNEL_W % KERNEL_H, k % KERNEL_W};
}

__device__ __forceinline__ unsigned operand(float x) {
    return EVEN   ? tf32_even(__float_as_uint(x))
           : AWAY ? tf32_away(__float_as_uint(x))
                  : __float_as_uint(x);
}

__device__ __forceinline__ bool is_within(int x, long long size) {
    return x >= 0 && x < size;
}

/* ---- a slice: k and the next SLICE - 1; absent channels, padding and k beyond K are zeros ---- */

__device__ __forceinline__ void stage_weights(const Tile &tile, Shared &shared, int k,
                                              const Arguments &a) {
    const int mine = threadIdx.x % SLICE, its = k + mine;
    const input_t *from = a.weight + tile.channel_first * a.weight_stride.n +
                          offset(tap_at(its), its / TAPS, a.weight_stride);
    SG_UNROLL
    for (int row = threadIdx.x / SLICE; row < TILE_N; row += THREADS / SLICE) {
        const bool present =
            tile.channel_first + row < tile.channel_end && (K % SLICE == 0 || its < K);
        shared.weights[k / SLICE % 2][row][mine] =
            operand(present ? load(from + row * a.weight_stride.n) : real(0));
    }
}

/* This lane's four k of its pixels, whose inputs begin there. */
__device__ __forceinline__ void gather(const Tile &tile, const input_t *(&inputs)[Tile::PIXELS],
                                       int k, real (&rows)[Tile::PIXELS][4], const Arguments &a) {
    SG_UNROLL
    for (int e = 0; e < 4; e++, k++) {
        Place at = tap_at(k);
        if (DILATION_D != 1 || DILATION_H != 1 || DILATION_W != 1)
            at = {0, at.d * DILATION_D, at.h * DILATION_H, at.w * DILATION_W};
        const long long distance = offset(at, k / TAPS, a.input_stride);
        SG_UNROLL
        for (int p = 0; p < Tile::PIXELS; p++) {
            const bool inside =
                (K % SLICE == 0 || k < K) &&
                (PADDING_D == 0 ||
                 is_within(tile.place(p).d * STRIDE_D - PADDING_D + at.d, a.in_d)) &&
                (PADDING_H == 0 ||
                 is_within(tile.place(p).h * STRIDE_H - PADDING_H + at.h, a.in_h)) &&
                (PADDING_W == 0 ||
                 is_within(tile.place(p).w * STRIDE_W - PADDING_W + at.w, a.in_w));
            rows[p][e] = inside ? load(inputs[p] + distance) : real(0);
        }
    }
}

/* Both products of four k: pixels `upper` and `lower` by channels. */
__device__ __forceinline__ void multiply(float *sums, const unsigned *upper, const unsigned *lower,
                                         const unsigned *by) {
    mma_tf32(sums, upper[0], lower[0], upper[1], lower[1], by[0], by[1]);
    mma_tf32(sums, upper[2], lower[2], upper[3], lower[3], by[2], by[3]);
}

__device__ __forceinline__ void multiply_split(float *sums, const unsigned *upper,
                                               const unsigned *lower, const unsigned *by) {
    const unsigned *whole[3] = {upper, lower, by};
    unsigned high[3][4], low[3][4];
    SG_UNROLL
    for (int i = 0; i < 12; i++)
        tf32_split(whole[i / 4][i % 4], high[i / 4][i % 4], low[i / 4][i % 4]);
    float large[4] = {}, small[4] = {};
    multiply(small, low[0], low[1], high[2]);
    multiply(small, high[0], high[1], low[2]);
    multiply(large, high[0], high[1], high[2]);
    SG_UNROLL
    for (int i = 0; i < 4; i++) {
        /* Low parts count only where the high ones are finite (mma.cuh). */
        const bool finite = -infinity() < large[i] && large[i] < infinity();
        sums[i] += finite ? large[i] + small[i] : large[i];
    }
}

/* ---- the kernel ---------------------------------------------------------------------------- */

/* All products of the block's pixels at one step of the walk. */
__device__ __forceinline__ void contract(Tile &tile, Shared &shared, int group, int walked,
                                         const Arguments &a) {
    const int mine = threadIdx.x % BLOCK_PIXELS;
    const long long number = static_cast<long long>(blockIdx.x / PARTS) * BLOCK_PIXELS + mine;
    Place place = place_at(min(number, a.pixels - 1), walked, a);
    place.n = number < a.pixels ? place.n : -1;
    if (WALKS)
        __syncthreads(); /* the step before is done with shared memory */
    shared.places[mine] = place;
    __syncthreads();
    const input_t *inputs[Tile::PIXELS];
    SG_UNROLL
    for (int p = 0; p < Tile::PIXELS; p++) {
        const Place at = tile.place(p);
        const Place from = {max(at.n, 0), at.d * STRIDE_D - PADDING_D, at.h * STRIDE_H - PADDING_H,
                            at.w * STRIDE_W - PADDING_W};
        inputs[p] = a.input + offset(from, group * GROUP_INPUTS, a.input_stride);
    }
    SG_UNROLL
    for (int i = 0; i < ROW_BLOCKS * TILE_N / 2; i++)
        tile.d[i / (TILE_N / 2)][i % (TILE_N / 2)] = 0;
    real next[Tile::PIXELS][4]; /* on their way while products are made of those before */
    gather(tile, inputs, tile.lane % 4 * 4, next, a);
#pragma unroll 1
    for (int k = 0; k < K; k += SLICE) {
        stage_weights(tile, shared, k, a);
        unsigned rows[Tile::PIXELS][4];
        SG_UNROLL
        for (int i = 0; i < Tile::PIXELS * 4; i++)
            rows[i / 4][i % 4] = operand(next[i / 4][i % 4]);
        if (k + SLICE < K)
            gather(tile, inputs, k + SLICE + tile.lane % 4 * 4, next, a);
        __syncthreads();
        SG_UNROLL
        for (int n = 0; n < TILE_N / 8; n++) {
            const unsigned *by =
                &shared.weights[k / SLICE % 2][n * 8 + tile.lane / 4][tile.lane % 4 * 4];
            SG_UNROLL
            for (int b = 0; b < ROW_BLOCKS; b++)
                if (SPLIT)
                    multiply_split(&tile.d[b][n * 4], rows[2 * b], rows[2 * b + 1], by);
                else
                    multiply(&tile.d[b][n * 4], rows[2 * b], rows[2 * b + 1], by);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    segue_implicit_gemm(const __grid_constant__ Arguments a) {
    extern __shared__ uint4 memory[];
    Shared &shared = *reinterpret_cast<Shared *>(memory);
    const int part = blockIdx.x % PARTS, group = part / GROUP_PARTS;
    Tile tile;
    tile.lane = threadIdx.x % 32;
    tile.places = shared.places + threadIdx.x / 32 * ROW_BLOCKS * 16;
    tile.biases = shared.biases;
    tile.operands = shared.operands[0];
    tile.channel_first = group * GROUP_OUTPUTS + part % GROUP_PARTS * TILE_N;
    tile.channel_end = min(tile.channel_first + TILE_REAL, (group + 1) * GROUP_OUTPUTS);
    for (int slot = threadIdx.x; slot < TILE_N; slot += THREADS) {
        const int channel = tile.channel_first + slot;
        const bool present = channel < tile.channel_end;
        shared.biases[slot] =
            HAS_BIAS && present ? load(a.bias + channel * a.bias_stride.c) : real(0);
        for (int k = 0; k < CHANNEL_OPERANDS; k++)
            shared.operands[k][slot] = present ? channel_operand(k, channel, a) : real(0);
    }
    Tail tail;
    tail.begin(tile);
    const int steps = WALKS ? static_cast<int>(a.walk_count) : 1;
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        contract(tile, shared, group, step, a);
        tail.step(tile, a);
    }
    tail.end(tile, a);
}
