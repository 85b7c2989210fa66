/* conv_wgmma_ring.cuh, channels as rows of the products, pixels as their columns. A product of 64
 * channels by 256 pixels reads less shared memory a flop than one of pixels by few channels. */

struct Pixels {
    Box box;

    __device__ __forceinline__ bool valid(int pixel) const { return box.valid(pixel); }
    __device__ __forceinline__ Place place(int pixel) const { return box.place(pixel); }
};

//@ include tile_columns.cuh
//@ include column_lines.cuh

/* Shared memory of a consumer beyond what all have. */
constexpr int CONSUMER_FLOATS = CROSSING + LINE_FLOATS;

template <class S>
__device__ __forceinline__ void open_tile(Tile &tile, const S &shared, int consumer) {
    tile.thread = threadIdx.x % WARPGROUP;
    tile.crossing = shared.consumer + consumer * CONSUMER_FLOATS;
    tile.barrier = 1 + consumer;
    tile.turn = 0;
    tile.consumer = consumer;
    tile.lines = tile.crossing + CROSSING + tile.thread / 32 * 8 * LINE;
    tile.carried = shared.carried;
    tile.passed = shared.passed;
}

/* Tile number `tiles` of the block, in a segment of `rows`. */
__device__ __forceinline__ void begin_tile(Tile &tile, int tiles, int row, int rows) {
    tile.tiles = tiles;
    tile.at_row = row;
    tile.rows = rows;
    tile.output = 0;
}

/* When scales have changed. */
__device__ __forceinline__ void forget_scales(Tile &) {}

/* The weights (upper halves), where they fit registers: FILTER_STEPS products' operands, else none. */
struct Filter {
    unsigned part[FILTER_STEPS ? FILTER_STEPS : 1][4];
};

__device__ __forceinline__ void load_filter(Filter &filter, const unsigned char *weights) {
    if (FILTER_STEPS == 0)
        return;
    const int thread = threadIdx.x % WARPGROUP;
    const int row = thread / 32 * 16 + thread % 32 / 4;
    constexpr int PAIRS = STAGE_GROUPS / 2; /* steps of a tap */
#pragma unroll
    for (int step = 0; step < FILTER_STEPS; step++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            filter.part[step][i] = *reinterpret_cast<const unsigned *>(
                weights +
                (step / PAIRS * TAP_ROWS + (step % PAIRS * 2 + i / 2) * TILE_N + row + i % 2 * 8) *
                    16 +
                thread % 4 * 4);
}

constexpr int TILE_BLOCKS = CHANNEL_BLOCKS, BLOCK_SUMS = TILE_PIXELS / 2; /* of Tile::d */

/* One tap. slice: address of the stage's pixel that the tile's first meets under this tap. part:
 * where in the weights the part begins, in rows. */
__device__ __forceinline__ void multiply_tap(float (&sums)[TILE_BLOCKS][BLOCK_SUMS],
                                             const Filter &filter, unsigned slice, unsigned weights,
                                             int tap, int part, int accumulate) {
    const unsigned long long a = matrix_descriptor(weights, TILE_N * 16, 128);
    const unsigned long long b = matrix_descriptor(slice, PLANE * 16, 128);
#pragma unroll
    for (int k = 0; k < STAGE_GROUPS / 2; k++) {
#pragma unroll
        for (int block = 0; block < CHANNEL_BLOCKS; block++) {
            const int step = tap * (STAGE_GROUPS / 2) + k;
            if (FILTER_STEPS && part == 0)
                wgmma(sums[block], filter.part[FILTER_STEPS ? step : 0],
                      descriptor_at(b, 2 * k * PLANE), accumulate || k);
            else
                wgmma(sums[block],
                      descriptor_at(a, part + tap * TAP_ROWS + 2 * k * TILE_N + block * 64),
                      descriptor_at(b, 2 * k * PLANE), accumulate || k);
        }
    }
}
