/* conv_wgmma_gathered.cuh: weights become B. */

constexpr int PLANE_TAPS = KERNEL_H * KERNEL_W, TAPS = KERNEL_D * PLANE_TAPS;
constexpr int WEIGHTS = IN_CHANNELS * TAPS; /* of a channel */

/* The weight of channel 0 and kernel slice 0 at a place of k; -1: none is there. */
__device__ __forceinline__ int weight_in(int k) {
    const int octet = k / 8, single = (octet - EIGHTS * KERNEL_W) * 4 + k % 8 / 2;
    int row = octet / KERNEL_W * 8 + k % 8 / 2 + k % 2 * 4, kw = octet % KERNEL_W;
    kw = kw < DIRECT ? kw * 2 + ODD : (kw - DIRECT) * 2 + 1 - ODD;
    if (octet >= EIGHTS * KERNEL_W) {
        if (k % 2 != 0 || single >= SINGLE_TAPS)
            return -1;
        row = EIGHTS * 8 + single / KERNEL_W;
        kw = single % KERNEL_W;
    }
    return row % IN_CHANNELS * TAPS + row / IN_CHANNELS * KERNEL_W + kw;
}

/* Of channel o, the weight in the kernel's slice kd that has the place of weight e in its first;
 * zero where there is none. */
__device__ __forceinline__ float fetch_weight(const Arguments &a, int o, int e, int kd) {
    if (o >= OUT_CHANNELS || e < 0)
        return 0.0f;
    if (WEIGHTS_IN_ORDER)
        return a.weight[o * WEIGHTS + e + kd * PLANE_TAPS];
    return a.weight[o * a.weight_stride.n + e / TAPS * a.weight_stride.c +
                    kd * a.weight_stride.d + e / KERNEL_W % KERNEL_H * a.weight_stride.h +
                    e % KERNEL_W * a.weight_stride.w];
}

/* Where B has kernel slice kd of channel o. But for the first slice, neighbours are exchanged: of
 * two sums that are added, one then lies in an even register and one in an odd (docs/cuda.md). */
__device__ __forceinline__ int row_in(int kd, int o) {
    return kd == 0 ? o : (TURN - kd) * TILE_N + (o ^ 1);
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

/* What else all of the block find in shared memory, by the consumers. Barriers are begun one after
 * the other, whoever does it: so a few by each warp. */
__device__ __forceinline__ void begin(const Arguments &a, Shared &shared) {
    const int warp = thread_index() / 32;
    if (thread_index() % 32 == 0) {
#pragma unroll 1
        for (int slot = warp; slot < STAGES; slot += CONSUMER_WARPS) {
            mbarrier_init(shared_address(&shared.full[slot]), 32);
            if (slot % 2 == 0)
                mbarrier_init(shared_address(&shared.empty[slot]), CONSUMER_THREADS);
        }
        if (warp == CONSUMER_WARPS - 1) {
            mbarrier_init(shared_address(&shared.met), THREADS / 32);
            shared.round = first_round(a);
        }
    }
#pragma unroll
    for (int i = 0; i < ROUND; i += CONSUMER_THREADS)
        if (i + thread_index() < ROUND)
            shared.magnitude[i + thread_index()] = 0;
    if (SINGLE_TAPS % 4 != 0 && thread_index() < STAGES * PARTS) {
        unsigned *part = shared.stages[0] + thread_index() * PART_WORDS;
        part[ZEROS] = part[ZEROS + 1] = 0;
    }
    barrier_arrive(BEGUN, THREADS);
}

constexpr int PLACES = (K + 31) / 32; /* of a lane */
constexpr int WARP_CHANNELS = (TILE_N + CONSUMER_WARPS - 1) / CONSUMER_WARPS;
constexpr int AHEAD_MOST = PLACES * TURN < 24 ? 24 / (PLACES * TURN) : 1;
constexpr int CHANNELS_AHEAD = WARP_CHANNELS < AHEAD_MOST ? WARP_CHANNELS : AHEAD_MOST;

/* By the consumers, a warp for a channel and a lane for a place of k, and first of all their loads.
 * The code is short on purpose: a kernel's first pass through it waits for instructions, too. */
__device__ __forceinline__ void pack_weights(const Arguments &a, Shared &shared) {
    const int lane = thread_index() % 32, warp = thread_index() / 32;
    float ahead[CHANNELS_AHEAD][PLACES][TURN]; /* of the warp's next channels */
    int first[PLACES]; /* weights at each place, of the kernel's first slice */
#pragma unroll
    for (int i = 0; i < PLACES; i++)
        first[i] = K % 32 == 0 || lane + 32 * i < K ? weight_in(lane + 32 * i) : -1;
#pragma unroll
    for (int c = 0; c < CHANNELS_AHEAD; c++)
#pragma unroll
        for (int i = 0; i < PLACES; i++)
#pragma unroll
            for (int kd = 0; kd < TURN; kd++)
                ahead[c][i][kd] = fetch_weight(a, warp + c * CONSUMER_WARPS, first[i], kd);
    const int channel = thread_index(); /* the planner sees to it that there are enough */
    float bias = 0.0f;
    if (HAS_BIAS && channel < OUT_CHANNELS)
        bias = a.bias[channel * a.bias_stride.c];
    begin(a, shared);
    if (CHANNEL_OPERANDS > 0)
        for (int i = thread_index(); i < CHANNEL_OPERANDS * TILE_N; i += CONSUMER_THREADS)
            shared.channel_operands[i] =
                i % TILE_N < OUT_CHANNELS ? channel_operand(i / TILE_N, i % TILE_N, a) : 0.0f;
    if (channel < OUT_CHANNELS)
        shared.scale_bias[channel].y = bias;
#pragma unroll 1
    for (int o = warp; o < TILE_N; o += CONSUMER_WARPS) {
        float value[PLACES][TURN], largest = 0.0f;
#pragma unroll
        for (int i = 0; i < PLACES; i++)
#pragma unroll
            for (int kd = 0; kd < TURN; kd++) {
                value[i][kd] = ROUND_AWAY ? round_tf32_away(ahead[0][i][kd]) : ahead[0][i][kd];
                largest = finite_magnitude(largest, value[i][kd]);
#pragma unroll
                for (int c = 0; c + 1 < CHANNELS_AHEAD; c++)
                    ahead[c][i][kd] = ahead[c + 1][i][kd];
                if (CHANNELS_AHEAD < WARP_CHANNELS)
                    ahead[CHANNELS_AHEAD - 1][i][kd] =
                        fetch_weight(a, o + CHANNELS_AHEAD * CONSUMER_WARPS, first[i], kd);
            }
        largest = __uint_as_float(__reduce_max_sync(~0U, __float_as_uint(largest)));
        const float scale = scale_to(7, largest);
        if (lane == 0) {
            shared.scale[o] = scale;
            shared.scale_bias[o].x = unscale(scale, STAGE_SCALE);
        }
        unsigned char *to = shared.weights + lane / 8 * (WEIGHT_ROWS * 16) + lane % 8 * 2;
#pragma unroll
        for (int i = 0; i < PLACES; i++)
#pragma unroll
            for (int kd = 0; kd < TURN; kd++)
                if (K % 32 == 0 || lane + i * 32 < K)
                    store_weight(to + (i * 4 * WEIGHT_ROWS + row_in(kd, o)) * 16,
                                 value[i][kd] * scale);
    }
    fence_proxy_async();
    barrier_sync(PACKED, CONSUMER_THREADS);
}
