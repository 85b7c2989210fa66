/* A block packs the weights of one tile of channels into shared memory and keeps them there, as
 * [tap][channel group of 8][TILE_N][8 halves], 16 bytes between taps. Producer warpgroups stage
 * slices of the input, each read once, into a ring; consumer warpgroups multiply and run the tail.
 * They take tiles in turn, and turns in issuing products: left to themselves they would share the
 * tensor cores and finish together; so the tail of one runs behind the products of the others. The
 * work is numbered by rows of boxes, z fastest; a block has a range of them, and neighbours along z
 * flow through the ring as one segment.
 *
 * With WALKS, a walk along z is one unit of work, and a row has a tile for each consumer.
 *
 * With GUARDED, floats are carried as halves, weights scaled by a power of two for each output
 * channel. A segment that halves of the common scale did not hold follows once more, at a scale of
 * its own, and what consumers make of it takes the place of what they stored before.
 *
 * Constants beyond those of the files before: CONSUMERS, PRODUCERS (warpgroups), STAGES,
 * KERNEL_Z/Y/X, PADDING_X, DILATION_Z/Y/X, ROW_TILES, TILE_PIXELS, OUT_GROUP (output channels
 * of a group), CHANNEL_TILES, GROUP_TILES (tiles of a group), UNROLL_TAPS, SPANS, SPAN_TAPS,
 * PRODUCER_REGISTERS, CONSUMER_REGISTERS, PREFETCH (producers have registers for two items),
 * HAS_BIAS, WEIGHTS_IN_ORDER ([input channel][tap] of an output channel lie together). */

//@ include common.cuh
//@ include wgmma.cuh
//@ constants
struct Arguments {
    //@ arguments
};
//@ instructions
//@ include ring_pixels.cuh
//@ staging
//@ orientation
//@ tail

constexpr float STAGE_MIN = PARTS == 2 ? SPLIT_MIN : CARRIER_MIN;
/* Taps of the first group of products, after which the filter's first slice can be given back. */
constexpr int FIRST_TAPS = PARTS == 1 ? KERNEL_Y * KERNEL_X : (SPANS - 1) * SPAN_TAPS;
/* Where sums move in the middle of a tile, the products of others had better fill the gap. */
constexpr bool TAKES_TURNS = CONSUMERS > 1 && (PARTS == 1 || SPANS <= 2);

/* Of a warp's positive values; NaN if there is one. */
__device__ __forceinline__ float warp_max(float x) {
    return __uint_as_float(__reduce_max_sync(~0U, __float_as_uint(x)));
}

/* ---- the work ------------------------------------------------------------------------------ */

/* The block's channels. WHOLE: of a tile all slots have one. */
constexpr bool WHOLE = TILE_REAL == TILE_N && OUT_GROUP % TILE_REAL == 0;
__device__ __forceinline__ int first_channel() {
    return channel_group() * OUT_GROUP + blockIdx.x % CHANNEL_TILES % GROUP_TILES * TILE_REAL;
}
__device__ __forceinline__ int end_channel() {
    return min(first_channel() + TILE_REAL, (channel_group() + 1) * OUT_GROUP);
}

/* The block's segments, in the order in which producers and consumers go through them. */
struct Work {
    int unit, end;    /* the segment's first unit of work, and the first behind the block's */
    Box box;          /* its first output pixel */
    int rows, slices; /* along z, of the output and of the input */
    int staged;       /* slices before it */
    int number;       /* segments before it */
    float scale;      /* of its activations */
    bool exact;       /* staged so that infinity and NaN pass, and any scale does */

    __device__ __forceinline__ Work(const Arguments &a) {
        const int units = static_cast<int>(a.units), parts = gridDim.x / CHANNEL_TILES;
        const int part = blockIdx.x / CHANNEL_TILES, more = units % parts;
        unit = part * (units / parts) + min(part, more);
        end = unit + units / parts + (part < more);
        number = staged = 0;
        scale = STAGE_SCALE;
        exact = false;
    }
    __device__ __forceinline__ bool open(const Arguments &a) {
        const int units_z = WALKS ? 1 : static_cast<int>(a.out_z);
        const int boxes_x = static_cast<int>(a.boxes_x);
        const int boxes_y = RING_DEPTH ? static_cast<int>(a.boxes_y) : 1;
        const int number = unit / units_z;
        box.n = number / boxes_x / boxes_y;
        box.z = unit - number * units_z;
        box.left = number % boxes_x * BOX_X;
        if (RING_DEPTH) {
            box.top = number / boxes_x % boxes_y * BOX_Y;
            box.height = static_cast<int>(a.out_y);
        }
        box.width = static_cast<int>(a.out_x);
        rows = WALKS ? static_cast<int>(a.out_z) : min(end - unit, units_z - box.z);
        slices = (rows - 1) * STRIDE_Z + REACH_Z;
        return unit < end;
    }
    /* When all warps have staged what they have of the segment: to the next one, or, where halves
     * did not hold what was staged, to the same once more, at another scale. Infinity and NaN hide
     * what the largest magnitude is beside them: then it is staged at the same scale, and, should
     * that not do, a third time. */
    __device__ __forceinline__ void next(const Shared &shared) {
        staged += slices;
        if (GUARDED) {
            const int warp = threadIdx.x % 32;
            const bool met = warp < PRODUCER_WARPS && warp < slices * ITEMS;
            const float largest =
                warp_max(met ? shared.largest[number % (STAGES + 1)][warp] : 0.0f);
            exact = scale == STAGE_SCALE && carrier_fails(largest * STAGE_SCALE, STAGE_MIN);
            scale = exact && largest <= FLOAT_MAX ? scale_to(8, largest) : STAGE_SCALE;
            number++;
        }
        if (!GUARDED || !exact)
            unit += WALKS ? 1 : rows;
    }
};

/* ---- weights ------------------------------------------------------------------------------- */

/* From an output channel's first weight to that of an input channel at a tap. */
__device__ __forceinline__ long long weight_offset(const Arguments &a, int input, int tap) {
    const int z = tap / (KERNEL_Y * KERNEL_X), y = tap / KERNEL_X % KERNEL_Y, x = tap % KERNEL_X;
    return input * a.weight_stride.c +
           (RING_DEPTH ? z * a.weight_stride.d + y * a.weight_stride.h : z * a.weight_stride.h) +
           x * a.weight_stride.w;
}

/* Cells of an output channel: of 8 input channels at a tap. A lane holds its share, if that fits
 * registers: all blocks read the same weights, and to read them twice takes microseconds. */
constexpr int CELLS = STAGE_GROUPS * TAPS, CHANNEL_LANES = 16;
constexpr int SHARE = (CELLS + CHANNEL_LANES - 1) / CHANNEL_LANES, HELD = SHARE <= 6 ? SHARE : 1;

__device__ __forceinline__ void read_cell(const Arguments &a, int slot, int cell,
                                          float (&weight)[8]) {
    const bool present = (WHOLE || slot < end_channel() - first_channel()) &&
                         (CELLS % CHANNEL_LANES == 0 || cell < CELLS);
#pragma unroll
    for (int c = 0; c < 8; c++) {
        const int input = cell / TAPS * 8 + c, tap = cell % TAPS;
        const element *from =
            a.weight + (first_channel() + slot) * a.weight_stride.n +
            (WEIGHTS_IN_ORDER ? input * TAPS + tap : weight_offset(a, input, tap));
        weight[c] = present && has_channel(input) ? read_only(from) : 0.0f;
    }
}

/* By the consumers, while producers fill the ring: sixteen lanes find a channel's largest finite
 * weight, hence its scale, and pack its weights; and what else acc and the tail want of it. */
__device__ __forceinline__ void pack_weights(const Arguments &a, Shared &shared) {
    const int thread = threadIdx.x - PRODUCERS * WARPGROUP, lane = thread % CHANNEL_LANES;
    const int first = first_channel(), present = end_channel() - first;
#pragma unroll 1
    for (int slot = thread / CHANNEL_LANES; slot < TILE_N;
         slot += CONSUMERS * WARPGROUP / CHANNEL_LANES) {
        float weight[HELD][8], largest = 0.0f;
#pragma unroll HELD
        for (int k = 0; k < SHARE; k++) {
            read_cell(a, slot, k * CHANNEL_LANES + lane, weight[k % HELD]);
#pragma unroll
            for (int c = 0; c < (GUARDED ? 8 : 0); c++)
                largest = finite_magnitude(largest, weight[k % HELD][c]);
        }
#pragma unroll
        for (int lanes = 1; lanes < (GUARDED ? CHANNEL_LANES : 0); lanes *= 2)
            largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, lanes));
        const float scale = GUARDED ? scale_to(7, largest) : 1.0f;
#pragma unroll HELD
        for (int k = 0; k < SHARE; k++) {
            const int cell = k * CHANNEL_LANES + lane;
            if (HELD < SHARE)
                read_cell(a, slot, cell, weight[0]);
            const uint4 upper = carry<true>(weight[k % HELD], scale, largest);
            uint4 *to = shared.weights + cell % TAPS * TAP_ROWS + cell / TAPS * TILE_N + slot;
            if (CELLS % CHANNEL_LANES == 0 || cell < CELLS)
                *to = upper;
            if (PARTS == 2 && (CELLS % CHANNEL_LANES == 0 || cell < CELLS))
                to[TAPS * TAP_ROWS] = carry_rest(weight[k % HELD]);
        }
        if (lane == 0) {
            shared.weight_scale[slot] = scale;
            const bool biased = HAS_BIAS && (WHOLE || slot < present);
            shared.scale_bias[slot] = make_float2(
                1.0f, biased ? load(a.bias + (first + slot) * a.bias_stride.c) : 0.0f);
        }
        if (CHANNEL_OPERANDS > 0) {
            for (int k = lane; k < CHANNEL_OPERANDS; k += CHANNEL_LANES)
                shared.operands[k][slot] =
                    WHOLE || slot < present ? channel_operand(k, first + slot, a) : 0.0f;
        }
    }
    fence_proxy_async();
    barrier_sync(PACKED, CONSUMERS * WARPGROUP);
}

/* ---- producers ----------------------------------------------------------------------------- */

constexpr bool ONCE = ITEMS <= PRODUCER_WARPS; /* no warp has two items of a slice */

/* Warps deal a segment's items out among themselves, one after the other. */
__device__ __forceinline__ void produce(const Arguments &a, Shared &shared) {
    const int warp = threadIdx.x / 32;
    for (Work work(a); work.open(a); work.next(shared)) {
        const int end = work.slices * ITEMS;
        float largest = 0.0f;
        Fetched item, following;
        if (PREFETCH && warp < end)
            fetch_item(a, work.box, warp, item);
#pragma unroll PREFETCH + 1
        for (int i = warp; i < end; i += PRODUCER_WARPS) {
            const int number = work.staged + i / ITEMS, slot = number % STAGES;
            if (!PREFETCH)
                fetch_item(a, work.box, i, item);
            else if (i + PRODUCER_WARPS < end)
                fetch_item(a, work.box, i + PRODUCER_WARPS, following);
            if (ONCE || i % ITEMS < PRODUCER_WARPS /* the warp's first of the slice */)
                mbarrier_wait(shared_address(&shared.empty[slot]), number / STAGES & 1 ^ 1);
            if (GUARDED && work.exact)
                store_item<true>(shared.ring[slot], i % ITEMS, item, work.scale, largest);
            else
                store_item<false>(shared.ring[slot], i % ITEMS, item, STAGE_SCALE, largest);
            if (ONCE || i % ITEMS >= ITEMS - PRODUCER_WARPS /* its last */) {
                fence_proxy_async();
                if (GUARDED)
                    largest = warp_max(largest);
                __syncwarp();
                if (GUARDED && threadIdx.x % 32 == 0)
                    shared.largest[work.number % (STAGES + 1)][warp] = largest;
                if (threadIdx.x % 32 == 0)
                    mbarrier_arrive(shared_address(&shared.full[slot]));
            }
            if (PREFETCH)
                item = following;
        }
        if (GUARDED)
            barrier_sync(STAGED, PRODUCERS * WARPGROUP);
    }
}

/* ---- consumers ----------------------------------------------------------------------------- */

/* A consumer's view of the ring: it waits for every slice and gives every slice back, in order, so
 * that each use of a slot counts each warp once. */
struct Ring {
    int read, freed; /* slices so far */

    __device__ __forceinline__ void wait_for(Shared &shared, int slices) {
#pragma unroll 1
        for (; read < slices; read++)
            mbarrier_wait(shared_address(&shared.full[read % STAGES]), read / STAGES & 1);
    }
    /* Every warp gives back for itself: one may still be in a tail, far behind. */
    __device__ __forceinline__ void give_back(Shared &shared, int slices) {
#pragma unroll 1
        for (; freed < slices; freed++) {
            wait_for(shared, freed + 1);
            if (threadIdx.x % 32 == 0)
                mbarrier_arrive(shared_address(&shared.empty[freed % STAGES]));
        }
    }
};

constexpr int BLOCKS = COLUMNS ? CHANNEL_BLOCKS : ROW_BLOCKS; /* of 64 rows of the products */
constexpr int BLOCK_SUMS = (COLUMNS ? TILE_PIXELS : TILE_N) / 2;
using Sums = float[BLOCKS][BLOCK_SUMS]; /* as a tile's */

/* The products of a tile with `taps` taps from `first` on, as one group; with all, as two. ring:
 * address of its first pixel in slot 0; slot: of its first slice. From its fence to its commit a
 * group has no loop and no loop's end, and `taps` is a constant: across either, ptxas makes every
 * product wait for the one before.
 *
 * With PARTS 2, in class fp32, an operand is an upper and a lower half, x = upper + lower, both of
 * one scale, and a product is three: upper by lower, lower by upper, upper by upper halves. The
 * tensor cores round every addition toward zero: so what weighs little is added first, and no sum
 * there is long. It is made of SPANS sums of SPAN_TAPS taps each, a group of products for each, the
 * last in the tile's sums, those before in others. */
__device__ __forceinline__ void multiply(Sums &sums, unsigned ring, unsigned weights, int slot,
                                         int first, int taps) {
#pragma unroll
    for (int turn = 0; turn < PARTS; turn++)
#pragma unroll
        for (int i = 0; i < taps; i++) {
            const int tap = first + i;
            if (PARTS == 1 && taps == TAPS && i == FIRST_TAPS)
                wgmma_commit();
            const int y = tap / KERNEL_X % KERNEL_Y * DILATION_Y;
            const int x = tap % KERNEL_X * DILATION_X + STAGE_LEFT - PADDING_X;
            int stage = slot + tap / (KERNEL_Y * KERNEL_X) * DILATION_Z;
            stage -= stage >= STAGES ? STAGES : 0;
#pragma unroll
            for (int lower = 0; lower < PARTS - turn; lower++) {
                const int at =
                    (stage * PARTS + lower) * PART_CELLS + staged_pixel(y * STAGE_WIDTH + x);
                const int row = ((PARTS - 1 - turn - lower) * TAPS + tap) * TAP_ROWS;
                const auto pixels = matrix_descriptor(ring + at * 16, PLANE * 16,
                                                      COLUMNS ? 128 : ROW_BLOCKS * 128);
                const auto channels = matrix_descriptor(weights, TILE_N * 16, 128);
#pragma unroll
                for (int k = 0; k < STAGE_GROUPS / 2; k++)
#pragma unroll
                    for (int block = 0; block < BLOCKS; block++) {
                        const bool more = (PARTS == 1 ? tap : i) > 0 || k > 0 || turn + lower > 0;
                        if (COLUMNS)
                            wgmma(sums[block],
                                  descriptor_at(channels, row + 2 * k * TILE_N + block * 64),
                                  descriptor_at(pixels, 2 * k * PLANE), more);
                        else
                            wgmma(sums[block], descriptor_at(pixels, 2 * k * PLANE + block * 8),
                                  descriptor_at(channels, row + 2 * k * TILE_N), more);
                    }
            }
        }
    wgmma_commit();
}

/* Keeps the compiler from moving what it does to sums to before their products' end. */
__device__ __forceinline__ void pin(Sums &sums) {
#pragma unroll
    for (int i = 0; i < BLOCKS * BLOCK_SUMS; i++)
        asm volatile("" : "+f"(sums[i / BLOCK_SUMS][i % BLOCK_SUMS])::"memory");
}

/* After their products: to += sums. */
__device__ __forceinline__ void add_sums(Sums &to, Sums &sums) {
    pin(to);
    pin(sums);
#pragma unroll
    for (int i = 0; i < BLOCKS * BLOCK_SUMS; i++)
        to[i / BLOCK_SUMS][i % BLOCK_SUMS] += sums[i / BLOCK_SUMS][i % BLOCK_SUMS];
}

__device__ __forceinline__ void consume(const Arguments &a, Shared &shared) {
    const int consumer = (threadIdx.x - PRODUCERS * WARPGROUP) / WARPGROUP;
    const int next = consumer + 1 == CONSUMERS ? 0 : consumer + 1;
    Tile tile;
    tile.scale_bias = shared.scale_bias;
    tile.operands = shared.operands[0];
    tile.channel_first = first_channel();
    tile.channel_end = end_channel();
    tile.open(shared, consumer);
    Sums others;
    Ring ring = {0, 0};
    float scale = 0.0f; /* that scale_bias is for */
    int t = consumer; /* its next tile in the segment */
    if (TAKES_TURNS && next == 0)
        barrier_arrive(TURNS, 2 * WARPGROUP); /* the first consumer begins */
    for (Work work(a); work.open(a); work.next(shared)) {
        if (GUARDED && (work.exact || work.scale != scale)) {
            /* All consumers meet: none is in a tail that wants the old scale, and what was stored
             * before comes before what is stored anew. */
            scale = work.scale;
            barrier_sync(PACKED, CONSUMERS * WARPGROUP);
            for (int slot = threadIdx.x - PRODUCERS * WARPGROUP; slot < TILE_N;
                 slot += CONSUMERS * WARPGROUP)
                shared.scale_bias[slot].x = unscale(shared.weight_scale[slot], scale);
            barrier_sync(PACKED, CONSUMERS * WARPGROUP);
        }
        tile.pixels.box = work.box;
        tile.pixels.tile_first = t % ROW_TILES * TILE_PIXELS;
        Tail tail;
        if (WALKS)
            tail.begin(tile);
#pragma unroll 1
        for (; t < work.rows * ROW_TILES; t += CONSUMERS) {
            const int row = t / ROW_TILES, first = work.staged + row * STRIDE_Z;
            const int following = work.staged + (t + CONSUMERS) / ROW_TILES * STRIDE_Z;
            const int first_pixel = t % ROW_TILES * TILE_PIXELS;
            tile.pixels.tile_first = first_pixel;
            ring.give_back(shared, first);
            ring.wait_for(shared, first + REACH_Z);
            if (TAKES_TURNS)
                barrier_sync(TURNS + consumer, 2 * WARPGROUP);
            const unsigned at = shared_address(shared.ring) + first_pixel * 16;
            unsigned weights = shared_address(shared.weights);
            /* Unknown anew for every tile: or else the compiler keeps a descriptor of each product
             * across all tiles, and has no registers left. */
            asm volatile("" : "+r"(weights));
            const int slot = first % STAGES;
            if (PARTS == 1) {
#pragma unroll 1
                for (int tap = 0; tap < TAPS; tap += UNROLL_TAPS) {
                    wgmma_fence();
                    multiply(tile.d, at, weights, slot, tap, UNROLL_TAPS);
                }
            } else {
                wgmma_fence();
                if (SPANS > 1)
                    multiply(others, at, weights, slot, 0, SPAN_TAPS);
#pragma unroll 1
                for (int span = 1; span < SPANS - 1; span++) {
                    wgmma_fence();
                    multiply(tile.d, at, weights, slot, span * SPAN_TAPS, SPAN_TAPS);
                    wgmma_wait<0>();
                    add_sums(others, tile.d);
                }
                if (SPANS > 2)
                    wgmma_fence();
                multiply(tile.d, at, weights, slot, FIRST_TAPS, TAPS - FIRST_TAPS);
            }
            if (TAKES_TURNS)
                barrier_arrive(TURNS + next, 2 * WARPGROUP);
            if (FIRST_TAPS >= KERNEL_Y * KERNEL_X && FIRST_TAPS < TAPS) {
                wgmma_wait<1>(); /* the first group */
                ring.give_back(shared, min(first + DILATION_Z, following));
            }
            wgmma_wait<0>();
            if (SPANS > 1)
                add_sums(tile.d, others);
            ring.give_back(shared, min(first + REACH_Z, following));
            tile.pixels.box.z = work.box.z + row;
            tile.start(row, work.rows);
            tail.step(tile, a);
        }
        t -= work.rows * ROW_TILES;
        ring.give_back(shared, work.staged + work.slices);
        if (WALKS) {
            tile.pixels.box.z = work.box.z;
            tile.start(0, 1);
            tail.end(tile, a);
        }
    }
}

/* ---- the kernel ---------------------------------------------------------------------------- */

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    segue_conv_wgmma_ring(const __grid_constant__ Arguments a) {
    extern __shared__ __align__(128) unsigned char memory[];
    Shared &shared = *reinterpret_cast<Shared *>(memory);
    if (threadIdx.x < STAGES) {
        mbarrier_init(shared_address(&shared.full[threadIdx.x]), min(ITEMS, PRODUCER_WARPS));
        mbarrier_init(shared_address(&shared.empty[threadIdx.x]), CONSUMERS * 4);
    }
    if (CARRY_BARRIERS > 0) {
#pragma unroll 1
        for (int i = threadIdx.x; i < CARRY_BARRIERS; i += THREADS)
            mbarrier_init(shared_address(&shared.passed[i]), 1);
    }
    __syncthreads();
    if (threadIdx.x < PRODUCERS * WARPGROUP) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(PRODUCER_REGISTERS));
        produce(a, shared);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(CONSUMER_REGISTERS));
        pack_weights(a, shared);
        consume(a, shared);
    }
}
