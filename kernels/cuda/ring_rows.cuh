/* conv_wgmma_ring.cuh, pixels as rows of the products: a tile of 64 ROW_BLOCKS pixels. */

/* Blocks of 64 rows take turns in the pixels by eights, so that a warp's pixels are neighbours. */
struct Pixels {
    Box box;
    int warp;

    __device__ __forceinline__ int pixel(int row) const {
        return ((warp * 2 + row % 16 / 8) * ROW_BLOCKS + row / 16) * 8 + row % 8;
    }
    __device__ __forceinline__ bool valid(int row) const { return box.valid(pixel(row)); }
    __device__ __forceinline__ Place place(int row) const { return box.place(pixel(row)); }
};

//@ include tile_rows.cuh

/* Shared memory of a consumer beyond what all have. */
constexpr int CONSUMER_FLOATS = 0;

__device__ __forceinline__ void open_tile(Tile &tile, float *, int) {
    tile.lane = threadIdx.x % 32;
    tile.pixels.warp = threadIdx.x % WARPGROUP / 32;
}

struct Filter {};
__device__ __forceinline__ void load_filter(Filter &, const unsigned char *) {}

/* One tap. slice: address of the stage's pixel that the tile's first meets under this tap. */
__device__ __forceinline__ void multiply_tap(Tile &tile, const Filter &, unsigned slice,
                                             unsigned weights, int tap, int accumulate) {
#pragma unroll
    for (int k = 0; k < STAGE_GROUPS / 2; k++) {
        const unsigned long long b = matrix_descriptor(
            weights + (tap * STAGE_GROUPS + 2 * k) * TILE_N * 16, TILE_N * 16, 128);
#pragma unroll
        for (int block = 0; block < ROW_BLOCKS; block++)
            wgmma(tile.d[block],
                  matrix_descriptor(slice + (2 * k * PLANE + block * 8) * 16, PLANE * 16,
                                    ROW_BLOCKS * 128),
                  b, accumulate || k);
    }
}
