/* conv_wgmma_ring.cuh, pixels as rows of the products: a tile of 64 ROW_BLOCKS pixels. */

constexpr bool PUT_ALONE = false;
//@ include row_tile.cuh

constexpr int CARRY_FLOATS = 0, CARRY_BARRIERS = 0;
constexpr int WARP_PIXELS = 16 * ROW_BLOCKS;

/* Where a warp turns lines of output around in shared memory, a lane stores LINE_VECTOR neighbours
 * at once. */
constexpr int LINE_VECTOR = OUT_VECTOR ? OUT_VECTOR : 1;
constexpr int LINE_LANES = WARP_PIXELS / LINE_VECTOR; /* lanes that hold one channel */
constexpr int LINE_STEP = 32 / LINE_LANES;            /* channels that a warp stores at once */
/* Every group of 8 channels of every tile is complete: half of the code that put is would be there
 * for the others. */
constexpr bool ALL_WHOLE = TILE_REAL % 8 == 0 && OUT_GROUP % TILE_REAL == 0;
