/* conv_wgmma_ring.cuh, channels as rows of the products, pixels as their columns. A product of 64
 * channels by 256 pixels reads less shared memory a flop than one of pixels by few channels. */
//@ include tile_columns.cuh
//@ include column_lines.cuh

constexpr int TILE_BLOCKS = CHANNEL_BLOCKS, BLOCK_SUMS = TILE_PIXELS / 2; /* of Tile::d */

/* One tap. slice: address of the stage's pixel that the tile's first meets under this tap; row:
 * where its weights begin. */
__device__ __forceinline__ void multiply_tap(float (&sums)[TILE_BLOCKS][BLOCK_SUMS], unsigned slice,
                                             unsigned weights, int row, int accumulate) {
    const unsigned long long a = matrix_descriptor(weights, TILE_N * 16, 128);
    const unsigned long long b = matrix_descriptor(slice, PLANE * 16, 128);
#pragma unroll
    for (int k = 0; k < STAGE_GROUPS / 2; k++)
#pragma unroll
        for (int block = 0; block < CHANNEL_BLOCKS; block++)
            wgmma(sums[block], descriptor_at(a, row + 2 * k * TILE_N + block * 64),
                  descriptor_at(b, 2 * k * PLANE), accumulate || k);
}
