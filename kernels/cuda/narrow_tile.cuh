/* The tile of conv_wgmma_ring.cuh with pixels as rows, where outputs with channels are halves or
 * bfloats: tables are read ahead, since shared memory answers slowly while products keep it
 * busy. */

/* Two results as elements, the first low. */
__device__ __forceinline__ unsigned narrow_pair(const half_t *, float low, float high) {
    return pack_halves(low, high);
}
__device__ __forceinline__ unsigned narrow_pair(const bfloat_t *, float low, float high) {
    return pack_bfloats(low, high);
}

struct NarrowTile : RowTile {
    static constexpr int TABLE_AHEAD = 2, TABLE_PAIRS = CHANNELS / 2; /* pairs of slots */

    /* What acc and the tail want of a pair and of those ahead. */
    float2 by[TABLE_AHEAD + 1][2];
    real operand[TABLE_AHEAD + 1][TILE_OPERANDS + 1][2];
    int asked;         /* the pair that was asked for last; -1: none */
    real even[PIXELS]; /* put last, of an even channel */

    __device__ __forceinline__ void read_pair(int pair) {
        SG_UNROLL
        for (int e = 0; e < 2; e++) {
            by[pair % (TABLE_AHEAD + 1)][e] = scale_bias[column(2 * pair + e)];
            SG_UNROLL
            for (int k = 0; k < TILE_OPERANDS; k++)
                operand[pair % (TABLE_AHEAD + 1)][k][e] =
                    operands[k * TILE_N + column(2 * pair + e)];
        }
    }
    /* Asked for in order, and again from the first. */
    __device__ __forceinline__ void turn_pair(int pair) {
        if (asked == pair)
            return;
        if (pair == 0) {
            SG_UNROLL
            for (int i = 0; i < TABLE_AHEAD && i < TABLE_PAIRS; i++)
                read_pair(i);
        }
        if (pair + TABLE_AHEAD < TABLE_PAIRS)
            read_pair(pair + TABLE_AHEAD);
        asked = pair;
    }
    __device__ __forceinline__ real acc(int p, int j) {
        if (p == 0 && j % 2 == 0)
            turn_pair(j / 2);
        const float2 with = by[j / 2 % (TABLE_AHEAD + 1)][j % 2];
        const real sum = d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2];
        return GUARDED ? sum * with.x + with.y : sum + with.y;
    }
    __device__ __forceinline__ real per_channel(int k, int j) {
        if (j % 2 == 0)
            turn_pair(j / 2);
        return operand[j / 2 % (TABLE_AHEAD + 1)][k][j % 2];
    }
    __device__ __forceinline__ void start(int, int) { asked = -1; }
};
