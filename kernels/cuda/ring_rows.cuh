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

//@ include row_tile.cuh

/* With LINES (outputs' w strides are 1, and a tile is one row) eight channels at a time are put side
 * by side in shared memory and leave as whole rows: pieces of rows that do not fill their sectors
 * of 32 bytes cost the memory twice. */
constexpr int LINE_PIXELS = 64 * ROW_BLOCKS;
constexpr int LINE = LINE_PIXELS + 4; /* 4 more than a multiple of 16: a warp's stores meet no bank twice */

struct Tile : RowTile {
    real *lines; /* [8][LINE], of this warpgroup */
    int barrier; /* of this warpgroup */
    float *line; /* where the tile's first pixel goes, of channel 0 */

    /* Floats from the last multiple of 16 bytes to the line of a channel. */
    __device__ __forceinline__ int lead(Stride s, int channel) const {
        const int number = static_cast<int>(reinterpret_cast<unsigned long long>(line) >> 2);
        return (number + channel * static_cast<int>(s.c)) & 3;
    }
    template <int V, class T>
    __device__ __forceinline__ void put(T *to, Stride s, int p, int j, real value) {
        RowTile::put<V>(to, s, p, j, value);
    }
    template <int V>
    __device__ __forceinline__ void put(float *to, Stride s, int p, int j, real value) {
        if (!LINES || !whole_group(j)) {
            RowTile::put<V>(to, s, p, j, value);
            return;
        }
        if (p == 0 && j == 0)
            line = to + offset(pixels.box.place(0), s);
        if (p == 0 && j % 2 == 0)
            barrier_sync(barrier, WARPGROUP);
        lines[column(j) % 8 * LINE + lead(s, channel(j)) + pixels.pixel(row(p))] = value;
        if (p == PIXELS - 1 && j % 2 == 1) {
            barrier_sync(barrier, WARPGROUP);
            store_lines(s, channel_first + j / 2 * 8);
        }
    }
    /* Of eight channels, two a warp; 16 bytes a lane, but at a row's ragged ends. */
    __device__ __forceinline__ void store_lines(Stride s, int first) const {
        const Box &box = pixels.box;
        const int width = min(min(BOX_X, box.width - box.x) - box.first, LINE_PIXELS);
        SG_UNROLL
        for (int i = 0; i < 2; i++) {
            const int c = pixels.warp * 2 + i;
            float *at = line + (first + c) * s.c;
            const int shift = lead(s, first + c);
#pragma unroll 1
            for (int x = lane * 4 - shift; x < width; x += 128) {
                const float4 four =
                    *reinterpret_cast<const float4 *>(lines + c * LINE + shift + x);
                if (x >= 0 && x + 4 <= width) {
                    *reinterpret_cast<float4 *>(at + x) = four;
                    continue;
                }
                const float one[4] = {four.x, four.y, four.z, four.w};
                SG_UNROLL
                for (int e = 0; e < 4; e++)
                    if (x + e >= 0 && x + e < width)
                        at[x + e] = one[e];
            }
        }
    }
};

/* Shared memory of a consumer beyond what all have. */
constexpr int CONSUMER_FLOATS = LINES ? 8 * LINE : 0;

__device__ __forceinline__ void open_tile(Tile &tile, float *lines, int consumer) {
    tile.lane = threadIdx.x % 32;
    tile.pixels.warp = threadIdx.x % WARPGROUP / 32;
    tile.lines = lines + consumer * CONSUMER_FLOATS;
    tile.barrier = 1 + consumer;
}

struct Filter {};
__device__ __forceinline__ void load_filter(Filter &, const unsigned char *) {}

/* One tap. slice: address of the stage's pixel that the tile's first meets under this tap. */
__device__ __forceinline__ void multiply_tap(Tile &tile, const Filter &, unsigned slice,
                                             unsigned weights, int tap, int accumulate) {
    const unsigned long long a = matrix_descriptor(slice, PLANE * 16, ROW_BLOCKS * 128);
    const unsigned long long b = matrix_descriptor(weights, TILE_N * 16, 128);
#pragma unroll
    for (int k = 0; k < STAGE_GROUPS / 2; k++)
#pragma unroll
        for (int block = 0; block < ROW_BLOCKS; block++)
            wgmma(tile.d[block], a + 2 * k * PLANE + block * 8,
                  b + (tap * STAGE_GROUPS + 2 * k) * TILE_N, accumulate || k);
}
