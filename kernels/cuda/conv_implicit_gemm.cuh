/* The plain way, from sm_80 on: an implicit product, by `mma.sync`, of gathered pixels (M) by
 * channels (N). A block makes BLOCK_PIXELS output pixels, counted through all images. k runs over
 * [input channel][tap], SLICE at a time: while one slice is multiplied out of shared memory, the
 * next is on its way to registers. Four neighbouring k of a pixel, or of a channel, are one vector
 * there. Lane l multiplies vector l % 4: its first two words in one product and its last two in the
 * next, for the order of k is free.
 *
 * With SPLIT, operands are high and low parts, of which three products are summed. The tensor cores
 * round each addition toward zero, so a slice's sums go to the other cores.
 *
 * For skeletons: serves any shape, stride, padding, dilation, groups and strides. */
//@ include common.cuh
//@ include mma.cuh

//@ constants

struct Arguments {
//@ arguments
};

constexpr int THREADS = WARPS * 32, BLOCK_PIXELS = WARPS * ROW_BLOCKS * 16;
constexpr int TAPS = KERNEL_D * KERNEL_H * KERNEL_W, K = GROUP_INPUTS * TAPS;
constexpr int SLICE = 16, SLICES = (K + SLICE - 1) / SLICE;
constexpr int SHARERS = THREADS / BLOCK_PIXELS; /* threads that have the same pixel */
constexpr int PIXEL_VECTORS = SLICE / 4 / SHARERS;
constexpr int CHANNEL_VECTORS = (SLICE / 4 * TILE_N + THREADS - 1) / THREADS;
constexpr bool PADDED = PADDING_D + PADDING_H + PADDING_W > 0;
/* No channel of a tile is absent, and no thread is left over that fetches channels. */
constexpr bool WHOLE = TILE_REAL == TILE_N && GROUP_OUTPUTS % TILE_N == 0;
constexpr bool ALL_FETCH = WHOLE && TILE_N * 4 % THREADS == 0;

struct Pixels { /* of a warp */
    const Place *places; /* in shared memory; n < 0: there is none */
    __device__ __forceinline__ bool valid(int row) const { return places[row].n >= 0; }
    __device__ __forceinline__ Place place(int row) const { return places[row]; }
};

/* Lanes of one store have eight neighbouring pixels of four channels: whole sectors. */
constexpr bool PUT_ALONE = true;

//@ include row_tile.cuh

struct Tile : RowTile {};

//@ tail

/* One k: elements from a pixel's first input, and from a channel's first weight. */
struct Tap {
    long long input, weight;
    Place from_first; /* of the input */
    bool present;     /* false beyond the last */
};

/* Rows of vectors end two further: vectors that a warp reads at once lie in different banks. */
struct Shared {
    uint4 pixels[2][SLICE / 4][BLOCK_PIXELS + 2], channels[2][SLICE / 4][TILE_N + 2];
    Tap taps[2][SLICE];
    Place places[BLOCK_PIXELS];
    float2 scale_bias[TILE_N];
    real operands[CHANNEL_OPERANDS ? CHANNEL_OPERANDS : 1][TILE_N];
};

/* By a thread, of a slice: vectors of its pixel, and of neighbouring channels. */
struct Fetched {
    real pixel[PIXEL_VECTORS][4], channel[CHANNEL_VECTORS][4];
};

__device__ __forceinline__ int next_index(long long &number, long long size) {
    const long long whole = number;
    number /= size;
    return static_cast<int>(whole - number * size);
}

__device__ __forceinline__ Tap tap_at(int k, const Arguments &a) {
    const int c = k / TAPS, w = k % KERNEL_W;
    const int h = k / KERNEL_W % KERNEL_H, d = k / (KERNEL_W * KERNEL_H) % KERNEL_D;
    Tap tap;
    tap.input = c * a.input_stride.c +
                offset(Place{0, d * DILATION_D, h * DILATION_H, w * DILATION_W}, a.input_stride);
    tap.weight = c * a.weight_stride.c + offset(Place{0, d, h, w}, a.weight_stride);
    if (PADDED)
        tap.from_first = Place{0, d * DILATION_D, h * DILATION_H, w * DILATION_W};
    if (K % SLICE != 0)
        tap.present = k < K;
    return tap;
}

__device__ __forceinline__ bool in_image(const Place &first, const Tap &tap, const Arguments &a) {
    return static_cast<unsigned>(first.d + tap.from_first.d) < static_cast<unsigned>(a.in_d) &&
           static_cast<unsigned>(first.h + tap.from_first.h) < static_cast<unsigned>(a.in_h) &&
           static_cast<unsigned>(first.w + tap.from_first.w) < static_cast<unsigned>(a.in_w);
}

/* What is absent comes as zeros. */
__device__ __forceinline__ void fetch(Fetched &to, const Tap (&taps)[SLICE], const Place &first,
                                      const input_t *input, const Tile &tile, const Arguments &a) {
    SG_UNROLL
    for (int i = 0; i < PIXEL_VECTORS * 4; i++) {
        const int at = SHARERS > 1 ? threadIdx.x / BLOCK_PIXELS * 4 * PIXEL_VECTORS + i : i;
        to.pixel[i / 4][i % 4] =
            (K % SLICE == 0 || taps[at].present) && (!PADDED || in_image(first, taps[at], a))
                ? load(input + taps[at].input)
                : real(0);
    }
    SG_UNROLL
    for (int i = 0; i < CHANNEL_VECTORS * 4; i++) {
        const int channel = (i / 4 * THREADS + threadIdx.x) / 4;
        const Tap &tap = taps[threadIdx.x % 4 * 4 + i % 4];
        to.channel[i / 4][i % 4] =
            (ALL_FETCH || tile.channel_first + channel < tile.channel_end) &&
                    (K % SLICE == 0 || tap.present)
                ? load(a.weight + (tile.channel_first + channel) * a.weight_stride.n + tap.weight)
                : real(0);
    }
}

__device__ __forceinline__ unsigned word_of(real x) {
    return SPLIT  ? __float_as_uint(x)
           : EVEN ? tf32_even(__float_as_uint(x))
                  : tf32_away(__float_as_uint(x));
}
__device__ __forceinline__ uint4 vector_of(const real (&x)[4]) {
    return make_uint4(word_of(x[0]), word_of(x[1]), word_of(x[2]), word_of(x[3]));
}

/* Both products of vectors of k: rows `upper` and `lower` of pixels by a column of channels. */
__device__ __forceinline__ void multiply_vectors(float *sums, const uint4 &upper,
                                                 const uint4 &lower, const uint4 &by) {
    mma_tf32(sums, upper.x, lower.x, upper.y, lower.y, by.x, by.y);
    mma_tf32(sums, upper.z, lower.z, upper.w, lower.w, by.z, by.w);
}

__device__ __forceinline__ void split(const uint4 &x, uint4 &high, uint4 &low) {
    tf32_split(x.x, high.x, low.x);
    tf32_split(x.y, high.y, low.y);
    tf32_split(x.z, high.z, low.z);
    tf32_split(x.w, high.w, low.w);
}

__device__ __forceinline__ void multiply(Tile &tile, const Shared &shared, int buffer) {
    const uint4 *pixels = shared.pixels[buffer][tile.lane % 4] + tile.lane / 4 +
                          threadIdx.x / 32 * ROW_BLOCKS * 16;
    const uint4 *channels = shared.channels[buffer][tile.lane % 4] + tile.lane / 4;
    uint4 rows[2 * ROW_BLOCKS], low_rows[2 * ROW_BLOCKS];
    SG_UNROLL
    for (int i = 0; i < 2 * ROW_BLOCKS; i++) {
        if (SPLIT)
            split(pixels[i * 8], rows[i], low_rows[i]);
        else
            rows[i] = pixels[i * 8];
    }
    SG_UNROLL
    for (int n = 0; n < TILE_N / 8; n++) {
        if (!SPLIT) {
            const uint4 by = channels[n * 8];
            SG_UNROLL
            for (int b = 0; b < ROW_BLOCKS; b++) {
                const uint4 &upper = rows[2 * b], &lower = rows[2 * b + 1];
                mma_tf32(&tile.d[b][n * 4], upper.x, lower.x, upper.y, lower.y, by.x, by.y);
                mma_tf32(&tile.d[b][n * 4], upper.z, lower.z, upper.w, lower.w, by.z, by.w);
            }
        } else {
            uint4 by, low_by;
            split(channels[n * 8], by, low_by);
            SG_UNROLL
            for (int b = 0; b < ROW_BLOCKS; b++) {
                float large[4] = {}, small[4] = {};
                multiply_vectors(small, low_rows[2 * b], low_rows[2 * b + 1], by);
                multiply_vectors(small, rows[2 * b], rows[2 * b + 1], low_by);
                multiply_vectors(large, rows[2 * b], rows[2 * b + 1], by);
                SG_UNROLL
                for (int i = 0; i < 4; i++) {
                    const bool finite = -infinity() < large[i] && large[i] < infinity();
                    tile.d[b][n * 4 + i] += finite ? large[i] + small[i] : large[i];
                }
            }
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
    tile.pixels.places = shared.places + threadIdx.x / 32 * ROW_BLOCKS * 16;
    tile.scale_bias = shared.scale_bias;
    tile.operands = shared.operands[0];
    tile.channel_first = group * GROUP_OUTPUTS + part % GROUP_PARTS * TILE_N;
    tile.channel_end = min(tile.channel_first + TILE_REAL, (group + 1) * GROUP_OUTPUTS);
    for (int slot = threadIdx.x; slot < TILE_N; slot += THREADS) {
        const int channel = tile.channel_first + slot;
        const bool present = WHOLE || channel < tile.channel_end;
        shared.scale_bias[slot] = make_float2(
            1.0f, HAS_BIAS && present ? load(a.bias + channel * a.bias_stride.c) : real(0));
        for (int k = 0; k < CHANNEL_OPERANDS; k++)
            shared.operands[k][slot] = present ? channel_operand(k, channel, a) : real(0);
    }
    const int mine = threadIdx.x % BLOCK_PIXELS;
    const long long number = static_cast<long long>(blockIdx.x / PARTS) * BLOCK_PIXELS + mine;
    Tail tail;
    tail.begin(tile);
    const int steps = WALKS ? static_cast<int>(a.walk_count) : 1;
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        long long kept = min(number, a.pixels - 1), along = step;
        Place place;
        place.w = next_index(WALK_W ? along : kept, a.size_w);
        place.h = HAS_H ? next_index(WALK_H ? along : kept, a.size_h) : 0;
        place.d = HAS_D ? next_index(WALK_D ? along : kept, a.size_d) : 0;
        place.n = static_cast<int>(kept);
        /* Of the pixel's inputs; may lie outside the image. */
        const Place first = {place.n, place.d * STRIDE_D - PADDING_D,
                             place.h * STRIDE_H - PADDING_H, place.w * STRIDE_W - PADDING_W};
        const input_t *input =
            a.input + group * GROUP_INPUTS * a.input_stride.c + offset(first, a.input_stride);
        place.n = number < a.pixels ? place.n : -1;
        __syncthreads(); /* what was in shared memory is read */
        shared.places[mine] = place;
        if (threadIdx.x < SLICE)
            shared.taps[0][threadIdx.x] = tap_at(threadIdx.x, a);
        __syncthreads();
        Fetched fetched;
        fetch(fetched, shared.taps[0], first, input, tile, a);
        SG_UNROLL
        for (int i = 0; i < ROW_BLOCKS * TILE_N / 2; i++)
            tile.d[i / (TILE_N / 2)][i % (TILE_N / 2)] = 0;
#pragma unroll 1
        for (int slice = 0; slice < SLICES; slice++) {
            const int buffer = slice % 2;
            SG_UNROLL
            for (int v = 0; v < PIXEL_VECTORS; v++) {
                const int vector = SHARERS > 1 ? threadIdx.x / BLOCK_PIXELS * PIXEL_VECTORS + v : v;
                shared.pixels[buffer][vector][mine] = vector_of(fetched.pixel[v]);
            }
            SG_UNROLL
            for (int v = 0; v < CHANNEL_VECTORS; v++) {
                const int channel = (v * THREADS + threadIdx.x) / 4;
                if (TILE_N * 4 % THREADS == 0 || channel < TILE_N)
                    shared.channels[buffer][threadIdx.x % 4][channel] =
                        vector_of(fetched.channel[v]);
            }
            if (threadIdx.x < SLICE)
                shared.taps[buffer ^ 1][threadIdx.x] = tap_at((slice + 1) * SLICE + threadIdx.x, a);
            __syncthreads();
            if (slice + 1 < SLICES)
                fetch(fetched, shared.taps[buffer ^ 1], first, input, tile, a);
            multiply(tile, shared, buffer);
        }
        tail.step(tile, a);
    }
    tail.end(tile, a);
}
