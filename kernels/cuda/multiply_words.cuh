/* How conv_mma.cuh multiplies what is in shared memory: floats as tf32, and narrow elements. */

/* A vector of one channel's weights, rounded; low: what rounding left. */
__device__ __forceinline__ uint4 load_weights(const char *weights, int channel, int offset,
                                              bool inside, uint4 &low) {
    if constexpr (!RAW_WEIGHTS)
        return inside ? *(const uint4 *)(weights + offset + channel * 16) : uint4();
    const char *at = weights + offset + channel * (ROW_PITCH * 4);
    unsigned high[4], rest[4];
    SG_UNROLL
    for (int i = 0; i < 4; i++) {
        const unsigned bits = inside ? *(const unsigned *)(at + i * (SPREAD * INNER_TAPS * 4)) : 0;
        if constexpr (SPLIT)
            tf32_split(bits, high[i], rest[i]);
        else
            high[i] = EVEN ? tf32_even(bits) : tf32_away(bits);
    }
    if constexpr (SPLIT)
        low = make_uint4(rest[0], rest[1], rest[2], rest[3]);
    return make_uint4(high[0], high[1], high[2], high[3]);
}

/* Half of a vector's words of each operand: rows of two tiles of eight, columns. */
__device__ __forceinline__ void mma_input(float sums[4], unsigned a0, unsigned a1, unsigned a2,
                                          unsigned a3, unsigned b0, unsigned b1) {
    if constexpr (ELEMENT == 4)
        mma_tf32(sums, a0, a1, a2, a3, b0, b1);
    else if constexpr (BFLOAT)
        mma_bfloat(sums, a0, a1, a2, a3, b0, b1);
    else
        mma_half(sums, a0, a1, a2, a3, b0, b1);
}

/* All channels of the warp by eight of its pixels; half: which words of the vectors, for the order
 * of k is free as long as both operands agree. */
__device__ __forceinline__ void mma_pixels(real (&sums)[TILES_C][4], int group,
                                           const uint4 (&channels)[TILES_C][2], const uint4 &pixels,
                                           int half) {
    const int warp_c = (threadIdx.x >> 5) / WARPS_P;
    SG_UNROLL
    for (int c = 0; c < TILES_C; c++) {
        if (BLOCK_GROUPS > 1 && (warp_c * TILES_C + c) / GROUP_TILES != group)
            continue;
        const uint4 &upper = channels[c][0], &lower = channels[c][1];
        if (half == 0)
            mma_input(sums[c], upper.x, lower.x, upper.y, lower.y, pixels.x, pixels.y);
        else
            mma_input(sums[c], upper.z, lower.z, upper.w, lower.w, pixels.z, pixels.w);
    }
}

/* One step: 4 vectors of k. */
__device__ __forceinline__ void multiply(Sums &tile, const char *shared, const char *inputs,
                                         const char *weights, int step, int group,
                                         const int (&pixels)[TILES_P]) {
    const int lane = threadIdx.x & 31, vector = step * 4 + (lane & 3);
    const int warp_c = (threadIdx.x >> 5) / WARPS_P;
    const int2 tap = tap_offsets(shared, vector);
    const bool inside = STAGE_VECTORS % 4 == 0 || vector < STAGE_VECTORS;
    uint4 high[TILES_C][2], low[TILES_C][2];
    SG_UNROLL
    for (int c = 0; c < TILES_C; c++) {
        const int tile = warp_c * TILES_C + c;
        const int row = (BLOCK_GROUPS > 1 ? tile % GROUP_TILES : tile) * 16 + (lane >> 2);
        if (BLOCK_GROUPS > 1 && tile / GROUP_TILES != group)
            continue;
        high[c][0] = load_weights(weights, row, tap.y, inside, low[c][0]);
        high[c][1] = load_weights(weights, row + 8, tap.y, inside, low[c][1]);
    }
    /* Products that depend on each other stand apart: two tiles of pixels at a time, unless there
     * are three products anyway, and one half of k after the other. */
    constexpr int PAIR = SPLIT || TILES_P == 1 ? 1 : 2;
    SG_UNROLL
    for (int p = 0; p < TILES_P; p += PAIR) {
        uint4 large[PAIR], small[PAIR];
        SG_UNROLL
        for (int i = 0; i < PAIR; i++) {
            const char *at = inputs + pixels[p + i] + tap.x;
            large[i] = inside ? *(const uint4 *)at : uint4();
            if constexpr (SPLIT)
                small[i] = inside ? *(const uint4 *)(at + INPUT_PLANE) : uint4();
        }
        real sums[PAIR][TILES_C][4] = {};
        SG_UNROLL
        for (int half = 0; half < 2; half++) {
            SG_UNROLL
            for (int i = 0; i < PAIR; i++) {
                if constexpr (SPLIT) {
                    mma_pixels(tile.small[p + i], group, low, large[i], half);
                    mma_pixels(sums[i], group, high, large[i], half);
                    mma_pixels(tile.small[p + i], group, high, small[i], half);
                } else {
                    mma_pixels(tile.total[p + i], group, high, large[i], half);
                }
            }
        }
        if constexpr (SPLIT)
            tile.promote(p, sums);
    }
}
