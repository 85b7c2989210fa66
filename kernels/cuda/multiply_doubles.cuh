/* How conv_mma.cuh multiplies doubles. Operands are read as doubles and before a step's products:
 * read as words they are moved into place first, for a product wants its rows in eight registers
 * one after the other. */

/* One tile. rows: of k = l % 4 the upper and the lower one, then of l % 4 + 4. */
__device__ __forceinline__ void mma_doubles(double sums[4], const double rows[4],
                                            const double2 &columns) {
    if constexpr (LARGE_DOUBLES) {
        mma_double(sums, rows[0], rows[1], rows[2], rows[3], columns.x, columns.y);
    } else {
        mma_double_4(sums[0], sums[1], rows[0], columns.x);
        mma_double_4(sums[2], sums[3], rows[1], columns.x);
        mma_double_4(sums[0], sums[1], rows[2], columns.y);
        mma_double_4(sums[2], sums[3], rows[3], columns.y);
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
    double2 columns[TILES_P];
    SG_UNROLL
    for (int p = 0; p < TILES_P; p++)
        columns[p] = inside ? *(const double2 *)(inputs + pixels[p] + tap.x) : double2();
    SG_UNROLL
    for (int c = 0; c < TILES_C; c++) {
        const int number = warp_c * TILES_C + c;
        const int row = (BLOCK_GROUPS > 1 ? number % GROUP_TILES : number) * 16 + (lane >> 2);
        if (BLOCK_GROUPS > 1 && number / GROUP_TILES != group)
            continue;
        double rows[4];
        SG_UNROLL
        for (int i = 0; i < 4; i++) {
            const int element = (row + i % 2 * 8) * ROW_PITCH + i / 2 * (SPREAD * INNER_TAPS);
            rows[i] = inside ? *(const double *)(weights + tap.y + element * 8) : 0.0;
        }
        SG_UNROLL
        for (int p = 0; p < TILES_P; p++)
            mma_doubles(BLOCKED ? tile.small[p][c] : tile.total[p][c], rows, columns[p]);
    }
}
