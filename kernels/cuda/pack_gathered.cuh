/* conv_wgmma_gathered.cuh: which product stands where along k, and weights, which go there. */

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

/* Weight e of channel o; zero where there is none. */
__device__ __forceinline__ float fetch_weight(const Arguments &a, int o, int e) {
    if (o >= OUT_CHANNELS || e >= WEIGHTS)
        return 0.0f;
    if (WEIGHTS_IN_ORDER)
        return a.weight[o * WEIGHTS + e];
    return a.weight[o * a.weight_stride.n + e / TAPS * a.weight_stride.c +
                    e / PLANE_TAPS % KERNEL_D * a.weight_stride.d +
                    e / KERNEL_W % KERNEL_H * a.weight_stride.h + e % KERNEL_W * a.weight_stride.w];
}

/* Bytes from the weights' first to weight e of channel 0. */
__device__ __forceinline__ int weight_at(int e) {
    const int kd = e / PLANE_TAPS % KERNEL_D, kh = e / KERNEL_W % KERNEL_H;
    const int k = place_in_k(kh * IN_CHANNELS + e / TAPS, e % KERNEL_W);
    const int block = kd == 0 ? 0 : TURN - kd;
    return (k / 8 * WEIGHT_ROWS + block * TILE_N) * 16 + k % 8 * 2;
}
__device__ __forceinline__ void store_weight(unsigned char *to, float scaled) {
    if (PARTS == 1) {
        *reinterpret_cast<unsigned short *>(to) = round_half(scaled);
        return;
    }
    const unsigned short upper = nonzero_half(finite_part(scaled));
    *reinterpret_cast<unsigned short *>(to) = upper;
    *reinterpret_cast<unsigned short *>(to + WEIGHT_BYTES) = round_half(scaled - half_value(upper));
}

/* What else all of the block find in shared memory, by the consumers. */
__device__ __forceinline__ void begin(const Arguments &a, const Shared &shared) {
    const Round round = first_round(a); /* by all: what few go through waits for instructions */
    if (thread_index() < STAGES) {
        mbarrier_init(shared.full + 8 * thread_index(), 32);
        mbarrier_init(shared.empty + 8 * thread_index(), CONSUMER_THREADS);
    }
    if (thread_index() == 0) {
        mbarrier_init(shared.met, THREADS / 32);
        *shared.round = round;
    }
    for (int i = thread_index(); i < ROUND; i += CONSUMER_THREADS)
        shared.magnitude[i] = 0;
    if (SINGLE_TAPS % 4 != 0 && thread_index() < STAGES * PARTS) {
        float *part = reinterpret_cast<float *>(shared.stages) + thread_index() * PART_WORDS;
        part[ZEROS] = part[ZEROS + 1] = 0.0f;
    }
    barrier_arrive(BEGUN, THREADS);
}

/* By the consumers, a warp for a channel, and first of all their loads. The code is short on
 * purpose: a kernel's first pass through it waits for instructions, too. */
__device__ __forceinline__ void pack_weights(const Arguments &a, const Shared &shared) {
    constexpr int PIECES = (WEIGHTS + 31) / 32, WARPS = CONSUMERS * 4, HELD = 24;
    constexpr int CHANNELS = (OUT_CHANNELS + WARPS - 1) / WARPS; /* of a warp */
    constexpr int AHEAD_MOST = PIECES < HELD ? HELD / PIECES : 1;
    constexpr int FETCHED = CHANNELS < AHEAD_MOST ? CHANNELS : AHEAD_MOST;
    const int lane = thread_index() % 32, warp = thread_index() / 32;
    float ahead[FETCHED][PIECES]; /* of the warp's next channels */
#pragma unroll
    for (int c = 0; c < FETCHED; c++)
#pragma unroll
        for (int i = 0; i < PIECES; i++)
            ahead[c][i] = fetch_weight(a, warp + c * WARPS, lane + 32 * i);
    const int channel = thread_index(); /* the planner sees to it that there are enough */
    float bias = 0.0f;
    if (HAS_BIAS && channel < OUT_CHANNELS)
        bias = load(a.bias + channel * a.bias_stride.c);
    begin(a, shared);
#pragma unroll 1
    for (int i = thread_index(); i < PARTS * WEIGHT_BYTES / 16; i += CONSUMER_THREADS)
        reinterpret_cast<uint4 *>(shared.weights)[i] = make_uint4(0, 0, 0, 0);
    if (CHANNEL_OPERANDS > 0)
        for (int i = thread_index(); i < CHANNEL_OPERANDS * TILE_N; i += CONSUMER_THREADS)
            shared.operands[i] =
                i % TILE_N < OUT_CHANNELS ? channel_operand(i / TILE_N, i % TILE_N, a) : 0.0f;
    int at[PIECES];
#pragma unroll
    for (int i = 0; i < PIECES; i++)
        at[i] = weight_at(lane + 32 * i);
    if (channel < OUT_CHANNELS)
        shared.scale_bias[channel].y = bias;
    barrier_sync(PACKED, CONSUMER_THREADS);
#pragma unroll 1
    for (int o = warp; o < OUT_CHANNELS; o += WARPS) {
        float value[PIECES], largest = 0.0f;
#pragma unroll
        for (int i = 0; i < PIECES; i++) {
            value[i] = ROUND_AWAY ? round_tf32_away(ahead[0][i]) : ahead[0][i];
            largest = finite_magnitude(largest, value[i]);
#pragma unroll
            for (int c = 1; c < FETCHED; c++)
                ahead[c - 1][i] = ahead[c][i];
            if (FETCHED < CHANNELS)
                ahead[FETCHED - 1][i] = fetch_weight(a, o + FETCHED * WARPS, lane + 32 * i);
        }
        largest = __uint_as_float(__reduce_max_sync(~0U, __float_as_uint(largest)));
        const float scale = scale_to(7, largest);
        if (lane == 0) {
            shared.scale[o] = scale;
            shared.scale_bias[o].x = unscale(scale, STAGE_SCALE);
        }
#pragma unroll
        for (int i = 0; i < PIECES; i++)
            if (lane + 32 * i < WEIGHTS)
                store_weight(shared.weights + at[i] + o * 16, value[i] * scale);
    }
    fence_proxy_async();
    barrier_sync(PACKED, CONSUMER_THREADS);
}
