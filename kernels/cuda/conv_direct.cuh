/* Convolution in 1 to 3 dimensions by plain arithmetic, any shape, element type and GPU, with a
 * tail.
 *
 * A block makes TILE_PIXELS pixels of all channels, or of one piece of the channels where the tail
 * allows that. How it sums is the matter of the file that fills the hole `contraction`; the sums
 * come to lie in registers, right where the tail wants them (tile_block.cuh). */
//@ include common.cuh
//@ constants
struct Arguments {
    //@ arguments
};
#define SG_UNROLL _Pragma("unroll")
//@ include tile_block.cuh
//@ tail

/* A float32 operand as the precision takes it: TF32_ROUNDING 0: whole; 1, 2: rounded to 11 bits,
 * halves away from zero, or to even. */
template <class T> __device__ __forceinline__ real load_operand(const T *from) {
    const real x = load(from);
    if constexpr (TF32_ROUNDING != 0) {
        const unsigned bits = __float_as_uint(x);
        const unsigned half = TF32_ROUNDING == 1 ? 0x1000 : 0x0fff + (bits >> 13 & 1);
        const unsigned kept = (bits + half) & ~0x1fffu;
        return (bits & 0x7f800000) == 0x7f800000 ? x : __uint_as_float(kept);
    }
    return x;
}

//@ contraction

extern "C" __global__ void __launch_bounds__(THREADS, LEAST_BLOCKS)
    segue_direct(const __grid_constant__ Arguments a) {
    extern __shared__ __align__(16) unsigned char memory[];
    Shared &shared = *(Shared *)memory;
    Tile tile(a, shared.scratch);
    Contraction contraction(a, tile, shared);
    Tail tail;
    tail.begin(tile);
    const index_t steps = HAS_WALK ? (a.walk_count + WALK_STEP - 1) / WALK_STEP : 1;
    tile.locate(0);
#pragma unroll 1
    for (index_t step = 0; step < steps; step++) {
        contraction.run(step);
        if (HAS_BIAS) {
#pragma unroll
            for (int j = 0; j < THREAD_CHANNELS; j++) {
                const real bias =
                    tile.has(j) ? load(a.bias + tile.channel(j) * a.bias_stride.c) : real(0);
#pragma unroll
                for (int p = 0; p < THREAD_PIXELS; p++)
                    tile.sum[j * THREAD_PIXELS + p] += bias;
            }
        }
        tile.locate(step);
        tail.step(tile, a);
    }
    if (HAS_WALK) {
        if (JOINED_WALK)
            tail.merge(tile, Join(tile));
        tail.end(tile, a);
    }
}
