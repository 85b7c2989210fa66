/* Consumers of conv_wgmma_ring.cuh: products of operands that are upper and lower halves each, in
 * class fp32: x = upper + lower, both of one scale.
 *
 * A product is three: upper by lower, lower by upper, upper by upper halves. The tensor cores round
 * every addition toward zero: so what weighs little is added first, and no sum there is long. It is
 * made of SPANS sums of SPAN_TAPS taps each, the first in registers of its own, to which the others
 * are added. */

using Sums = float[TILE_BLOCKS][BLOCK_SUMS]; /* as a tile's */

/* The taps of a span, from `first` on. ring: address of the tile's first pixel in slot 0. */
__device__ __forceinline__ void multiply_span(Sums &sums, const Filter &filter, unsigned ring,
                                              unsigned weights, int slot, int first) {
    const int end = min(first + SPAN_TAPS, TAPS);
#pragma unroll UNROLL_PARTS
    for (int turn = 0; turn < 2; turn++) /* what weighs little first */
#pragma unroll UNROLL_TAPS
        for (int tap = first; tap < end; tap++) {
            const int z = tap / (KERNEL_Y * KERNEL_X), y = tap / KERNEL_X % KERNEL_Y;
            const int x = tap % KERNEL_X * DILATION_X + STAGE_LEFT - PADDING_X;
            int at = slot + z * DILATION_Z;
            at -= at >= STAGES ? STAGES : 0;
            const unsigned slice = ring + at * STAGE_BYTES + staged_pixel(y * DILATION_Y, x) * 16;
            if (turn == 0) {
                multiply_tap(sums, filter, slice, weights, tap, WEIGHT_ROWS, tap > first);
                multiply_tap(sums, filter, slice + PART_BYTES, weights, tap, 0, 1);
            } else {
                multiply_tap(sums, filter, slice, weights, tap, 0, 1);
            }
        }
    wgmma_commit();
}

/* Keeps the compiler from moving what it does to sums to before their products' end. */
__device__ __forceinline__ void pin(Sums &sums) {
#pragma unroll
    for (int i = 0; i < TILE_BLOCKS * BLOCK_SUMS; i++)
        asm volatile("" : "+f"(sums[i / BLOCK_SUMS][i % BLOCK_SUMS])::"memory");
}

/* After their products: to += sums. */
__device__ __forceinline__ void add_sums(Sums &to, Sums &sums) {
    pin(to);
    pin(sums);
#pragma unroll
    for (int i = 0; i < TILE_BLOCKS * BLOCK_SUMS; i++)
        to[i / BLOCK_SUMS][i % BLOCK_SUMS] += sums[i / BLOCK_SUMS][i % BLOCK_SUMS];
}

/* A group of products for each span; of all but the last, sums have come to `others`, or will. */
__device__ __forceinline__ void multiply_parts(Tile &tile, Sums &others, const Filter &filter,
                                               const Shared &shared, int slot, int first_pixel) {
    unsigned weights = shared_address(shared.weights);
    asm volatile("" : "+r"(weights)); /* unknown anew for every tile, as in multiply */
    const unsigned ring = shared_address(shared.ring) + first_pixel * 16;
    wgmma_fence();
    if (SPANS > 1)
        multiply_span(others, filter, ring, weights, slot, 0);
#pragma unroll 1
    for (int span = 1; span < SPANS - 1; span++) {
        multiply_span(tile.d, filter, ring, weights, slot, span * SPAN_TAPS);
        wgmma_wait<0>();
        add_sums(others, tile.d);
        wgmma_fence();
    }
    multiply_span(tile.d, filter, ring, weights, slot, (SPANS - 1) * SPAN_TAPS);
}
