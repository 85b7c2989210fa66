/* The tile of conv_wgmma_ring.cuh with pixels as rows, where there is no scale beside the biases:
 * they stay in registers. */

constexpr int CONSUMER_FLOATS = 0;
//@ include ring_shared.cuh

struct Tile : RowTile {
    real held_bias[CHANNELS]; /* of every slot */

    __device__ __forceinline__ void open(const Shared &, int) {
        lane = threadIdx.x % 32;
        SG_UNROLL
        for (int j = 0; j < CHANNELS; j++)
            held_bias[j] = scale_bias[column(j)].y;
    }
    __device__ __forceinline__ void start(int, int) {}

    __device__ __forceinline__ real acc(int p, int j) const {
        return d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2] + held_bias[j];
    }
};
