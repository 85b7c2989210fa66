/* Weights as the products of conv_wgmma_streamed.cuh take them, in the order they are streamed:
 * [tile of channels][chunk of input channels][block][8 input channels][TILE_N channels][8 halves];
 * a block is of one tap, its upper or its lower halves. One block makes PACK_CHANNELS output slots
 * of a tile. Floats are scaled, by output channel, and rounded to halves; the scales are kept for
 * the products' launch. Narrow elements stay what they are. */
//@ include common.cuh
//@ constants

struct Arguments {
    //@ arguments
};

//@ include wgmma.cuh

constexpr int THREADS = 512, PACK_CHANNELS = 2;
constexpr int CHUNKS = (IN_CHANNELS + CHUNK - 1) / CHUNK;
constexpr int WEIGHTS = IN_CHANNELS * TAPS; /* of one output channel */
constexpr int CELLS = CHUNKS * CHUNK / 8;

/* Element i of an output channel, taps innermost in the order of the weights' own. */
__device__ __forceinline__ element weight_at(const element *channel, int i, const Arguments &a) {
    if (DENSE)
        return channel[i];
    const int tap = i % TAPS;
    return channel[i / TAPS * a.weight_stride.c + tap / (KERNEL_H * KERNEL_W) * a.weight_stride.d +
                   tap / KERNEL_W % KERNEL_H * a.weight_stride.h +
                   tap % KERNEL_W * a.weight_stride.w];
}

/* The largest finite magnitude of every channel of this block's; all threads. */
__device__ __forceinline__ void find_largest(const element *const (&from)[PACK_CHANNELS],
                                             float (&largest)[PACK_CHANNELS], const Arguments &a) {
    __shared__ float warps[PACK_CHANNELS][THREADS / 32];
    for (int k = 0; k < PACK_CHANNELS; k++) {
        largest[k] = 0;
        if (from[k]) {
#pragma unroll 8
            for (int i = threadIdx.x; i < WEIGHTS; i += THREADS) {
                const element weight = weight_at(from[k], i, a);
                largest[k] = finite_magnitude(largest[k], load(&weight));
            }
        }
        const unsigned bits = __reduce_max_sync(~0U, __float_as_uint(largest[k]));
        if (threadIdx.x % 32 == 0)
            warps[k][threadIdx.x / 32] = __uint_as_float(bits);
    }
    __syncthreads();
    for (int k = 0; k < PACK_CHANNELS; k++)
        for (int i = 0; i < THREADS / 32; i++)
            largest[k] = fmaxf(largest[k], warps[k][i]);
}

/* A weight as it is carried, as bits: its half, or what that leaves. With three
 * products, infinity and NaN are lower halves, as in stage_box.cuh. */
__device__ __forceinline__ unsigned short carried(float weight, float scale, bool lower) {
    const float scaled = weight * scale;
    if (PRODUCTS == 1)
        return round_half(ROUND_EVEN ? scaled : round_tf32_away(scaled));
    const unsigned short upper = nonzero_half(finite_part(scaled));
    return lower ? round_half(scaled - half_value(upper)) : upper;
}
template <class T> __device__ __forceinline__ unsigned short carried(T weight, float, bool) {
    return weight.bits;
}
__device__ __forceinline__ unsigned pair(unsigned short low, unsigned short high) {
    return static_cast<unsigned>(high) << 16 | low;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    segue_pack_weights(const __grid_constant__ Arguments a) {
    asm volatile("griddepcontrol.launch_dependents;");
    const int slot = blockIdx.x * PACK_CHANNELS % TILE_N;
    const int tile = blockIdx.x * PACK_CHANNELS / TILE_N, group = tile / GROUP_TILES;
    const int first = group * GROUP_CHANNELS + tile % GROUP_TILES * TILE_STEP;
    const int end = min(first + TILE_STEP, (group + 1) * GROUP_CHANNELS);
    const element *from[PACK_CHANNELS];
    float scale[PACK_CHANNELS] = {1.0f, 1.0f};
    for (int k = 0; k < PACK_CHANNELS; k++) {
        const int channel = first + slot + k;
        from[k] = channel < end ? a.weight + channel * a.weight_stride.n : nullptr;
    }
    if (GUARDED) {
        find_largest(from, scale, a);
        for (int k = 0; k < PACK_CHANNELS; k++) {
            scale[k] = scale_to(7, scale[k]);
            if (threadIdx.x == 0 && from[k])
                a.scales[first + slot + k] = scale[k];
        }
    }
    uint4 *to =
        a.packed + static_cast<long long>(tile) * (CELLS * TAPS * TAP_BLOCKS * TILE_N) + slot;
    const int k = threadIdx.x % PACK_CHANNELS;
    const element *channel = k ? from[PACK_CHANNELS - 1] : from[0];
    const float by = k ? scale[PACK_CHANNELS - 1] : scale[0];
    constexpr int BLOCK_CELLS = CHUNK / 8, CHUNK_CELLS = BLOCK_CELLS * TAPS * TAP_BLOCKS;
#pragma unroll 2
    for (int cell = threadIdx.x / PACK_CHANNELS; cell < CHUNKS * CHUNK_CELLS;
         cell += THREADS / PACK_CHANNELS) {
        const int input = cell % BLOCK_CELLS * 8 + cell / CHUNK_CELLS * CHUNK;
        const int block = cell / BLOCK_CELLS % (TAPS * TAP_BLOCKS);
        const bool lower = PRODUCTS == 3 && BLOCK_LOWER[block];
        unsigned short halves[8];
#pragma unroll
        for (int i = 0; i < 8; i++)
            halves[i] =
                channel && input + i < IN_CHANNELS
                    ? carried(weight_at(channel, (input + i) * TAPS + BLOCK_TAP[block], a), by,
                              lower)
                    : 0;
        to[static_cast<long long>(cell) * TILE_N + k] =
            make_uint4(pair(halves[0], halves[1]), pair(halves[2], halves[3]),
                       pair(halves[4], halves[5]), pair(halves[6], halves[7]));
    }
}
