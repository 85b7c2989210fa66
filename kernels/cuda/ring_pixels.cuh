/* Boxes of the output and the pixels of a tile, for conv_wgmma_ring.cuh: slices of the input roll
 * through the ring along z, which is height, and then there is no y, or depth.
 *
 * With RING_DEPTH, y is height. A box is BOX_Y x BOX_X pixels, a tile's pixels run along the rows
 * of the stage, PITCH a row, and the last few of a row are made and dropped. */

/* Of channels, the block's. */
__device__ __forceinline__ int channel_group() {
    return blockIdx.x % CHANNEL_TILES / GROUP_TILES;
}

/* A box's first pixel, in the output, and the output's sizes. */
struct Box {
    int n, z, left, width;
    int top, height; /* along y */
};

struct Pixels {
    Box box;
    int tile_first; /* pixel of the box that the tile starts with, if a row is several tiles */
    int warp = threadIdx.x % WARPGROUP / 32;

    /* Blocks of 64 rows take turns in the pixels by eights, so that a warp's are neighbours. */
    __device__ __forceinline__ int pixel(int row) const {
        return ((warp * 2 + row % 16 / 8) * ROW_BLOCKS + row / 16) * 8 + row % 8;
    }
    __device__ __forceinline__ int first() const { return ROW_TILES > 1 ? tile_first : 0; }
    __device__ __forceinline__ bool covers(int pixel) const {
        const int row = BOX_Y == 1 ? 0 : (first() + pixel) / PITCH;
        const int column = first() + pixel - row * PITCH;
        return column < BOX_X && box.left + column < box.width &&
               (!RING_DEPTH || (row < BOX_Y && box.top + row < box.height));
    }
    __device__ __forceinline__ Place place_at(int pixel) const {
        const int row = BOX_Y == 1 ? 0 : (first() + pixel) / PITCH;
        const int column = first() + pixel - row * PITCH;
        return RING_DEPTH ? Place{box.n, box.z, box.top + row, box.left + column}
                          : Place{box.n, 0, box.z, box.left + column};
    }
    /* i: of the products' columns, or rows. */
    __device__ __forceinline__ bool valid(int i) const { return covers(COLUMNS ? i : pixel(i)); }
    __device__ __forceinline__ Place place(int i) const { return place_at(COLUMNS ? i : pixel(i)); }
};
