/* Boxes of the output and the pixels of a tile, for conv_wgmma_ring*.cuh.
 *
 * A box is BOX_Y x BOX_X pixels; slices of the input roll through the ring along z, which is depth
 * (RING_DEPTH, y is then height) or height (no y: BOX_Y 1). A tile's pixels run along the rows of
 * the stage, PITCH a row, so the last few of a row are made and dropped where BOX_Y > 1. */

/* The pixel of a consumer's tile that `place` starts from, and what the place is. */
struct Box {
    int n, z, y, x;    /* of the box's first pixel, in the output */
    int height, width; /* of the output */
    int first;         /* pixel of the box that the tile starts with */

    __device__ __forceinline__ void split(int pixel, int &row, int &column) const {
        row = BOX_Y == 1 ? 0 : (first + pixel) / PITCH;
        column = first + pixel - row * PITCH;
    }
    __device__ __forceinline__ bool valid(int pixel) const {
        int row, column;
        split(pixel, row, column);
        return row < BOX_Y && column < BOX_X && y + row < height && x + column < width;
    }
    __device__ __forceinline__ Place place(int pixel) const {
        int row, column;
        split(pixel, row, column);
        return RING_DEPTH ? Place{n, z, y + row, x + column} : Place{n, 0, z, x + column};
    }
};
