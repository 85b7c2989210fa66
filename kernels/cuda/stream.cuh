/* A tail without a convolution before it, at the speed of memory.
 *
 * Every thread holds THREAD_PIXELS x THREAD_CHANNELS values (tile_block.cuh). Operands that
 * several loops over the slots read are read once, into registers; loops over slots are unrolled
 * SLOT_UNROLL times, which is wholly where a tile lies in registers. */
//@ include common.cuh
//@ constants
struct Arguments {
    //@ arguments
};
#define SG_UNROLL _Pragma("unroll SLOT_UNROLL")
//@ include tile_block.cuh
//@ tail

__device__ __forceinline__ void keep_operands(Tile &tile, const Arguments &a) {
    //@ keep
}

extern "C" __global__ void __launch_bounds__(THREADS, LEAST_BLOCKS)
    segue_stream(const __grid_constant__ Arguments a) {
    __shared__ real scratch[SCRATCH + 1];
    Tile tile(a, scratch);
    Tail tail;
    tail.begin(tile);
    const index_t steps = HAS_WALK ? (a.walk_count + WALK_STEP - 1) / WALK_STEP : 1;
    tile.locate(0);
#pragma unroll WALK_UNROLL
    for (index_t step = 0; step < steps; step++) {
        if (HAS_WALK)
            tile.locate(step);
        keep_operands(tile, a);
        tail.step(tile, a);
    }
    if (HAS_WALK) {
        if (JOINED_WALK)
            tail.merge(tile, Join(tile));
        tail.end(tile, a);
    }
}
