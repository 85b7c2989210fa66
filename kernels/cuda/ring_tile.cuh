/* The tile of conv_wgmma_ring.cuh with pixels as rows, as row_tile.cuh has it. */

constexpr int CONSUMER_FLOATS = 0;
//@ include ring_shared.cuh

struct Tile : RowTile {
    __device__ __forceinline__ void open(const Shared &, int) { lane = threadIdx.x % 32; }
    __device__ __forceinline__ void start(int, int) {}
};
