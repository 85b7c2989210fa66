/* Convolution by `mma.sync` with its tail: an implicit product of channels (M) by pixels (N).
 *
 * A block makes tiles: boxes of output pixels by CHANNEL_SLOTS channels, unit after unit. The
 * products run over stages. A stage holds, in shared memory, CHUNK vectors of input channels (16
 * bytes each) of every input pixel that the box needs for the stage's taps, as [vector][position],
 * and the weights of those taps and channels: floats and doubles as they lie in memory,
 * [channel][input channel][tap], narrow ones as [tap][vector][channel]. One copy of the input
 * serves all taps of the stage: a tap is an offset. Taps that are not inside a stage (outer taps)
 * are stages of their own, so with all taps outer this is a gathering implicit product.
 *
 * Two buffers of stages: while one is multiplied the next is brought in, a few vectors a thread at
 * every step of 4 vectors of k, the next unit's first stage included. Where all of k is one stage
 * and all units have the same channels, the weights stay.
 *
 * Floats are rounded to tf32, the input on its way to shared memory, the weights when they are
 * used. Class fp32 keeps high and low parts of the input there and sums three products, the large
 * one of every step by itself: the tensor cores round each addition toward zero, so long sums are
 * left to the other cores. Where there are registers for it (BLOCKED) a few steps of doubles have a
 * sum of their own: a blocked sum (Higham, Accuracy and Stability of Numerical Algorithms, section
 * 4.2). */
//@ include common.cuh
//@ include mma.cuh

//@ constants

struct Arguments {
//@ arguments
};

#define SG_UNROLL _Pragma("unroll")

//@ include stage_gather.cuh
//@ include tile_warps.cuh

//@ tail

/* Bias and per-channel operands of the tile's channels. */
__device__ __forceinline__ void load_columns(const Tile &tile, const Arguments &a) {
    for (int s = threadIdx.x; s < CHANNEL_SLOTS; s += THREADS) {
        const bool inside = tile.slot_has(s);
        const int c = inside ? tile.slot_channel(s) : 0;
        if constexpr (HAS_BIAS)
            tile.columns[s] = inside ? load(a.bias + c * a.bias_stride.c) : real(0);
        for (int k = 0; k < CHANNEL_OPERANDS; k++)
            tile.columns[(k + 1) * CHANNEL_SLOTS + s] =
                inside ? channel_operand(k, c, a) : real(0);
    }
}

/* Unit -> place: tiles of W, H, D, then parts of the channels, then tiles of N. */
__device__ __forceinline__ Unit unit_at(long long unit, const Arguments &a) {
    Unit u;
    int rest = (int)unit;
    u.first.w = rest % (int)a.tiles_w * BOX_W;
    rest /= (int)a.tiles_w;
    u.first.h = rest % (int)a.tiles_h * BOX_H;
    rest /= (int)a.tiles_h;
    u.first.d = rest % (int)a.tiles_d * BOX_D;
    rest /= (int)a.tiles_d;
    const int part = rest % PARTS;
    u.first.n = rest / PARTS * BOX_N;
    u.end = Place{(int)a.size_n, (int)a.size_d, (int)a.size_h, (int)a.size_w};
    constexpr int GROUP_PARTS = WHOLE_CHANNELS ? 1 : PARTS / GROUPS;
    const int first = part % GROUP_PARTS * CHANNEL_SLOTS;
    u.group = part / GROUP_PARTS;
    u.channel = u.group * GROUP_OUTPUTS + first;
    u.channel_count = GROUP_OUTPUTS - first;
    return u;
}

//@ multiplication

/* Multiplies one stage and meanwhile brings the next one in: weights and vectors of the input that
 * are asked for before one step's products are put in their places after the next step's. */
__device__ __forceinline__ void run_stage(Sums &sums, char *shared, int buffer, int group,
                                          const Source &next, const int (&pixels)[TILES_P],
                                          const Arguments &a) {
    char *inputs = shared, *weights = shared + 2 * INPUT_STAGE;
    const int input = buffer * INPUT_STAGE, weight = RESIDENT ? 0 : buffer * WEIGHT_STAGE;
    char *next_inputs = inputs + (INPUT_STAGE - input);
    char *next_weights = weights + (RESIDENT ? 0 : WEIGHT_STAGE - weight);
    Piece waiting[PIECES];
    SG_UNROLL
    for (int i = 0; i < PIECES; i++)
        waiting[i].place = -1;
    _Pragma("unroll 1")
    for (int step = 0; step < STEPS; step++) {
        Piece pieces[PIECES];
        if (next.live) {
            load_pieces(pieces, step * STEP_PIECES, next, shared, a);
            if (RAW_WEIGHTS && !RESIDENT)
                copy_weights(next, next_weights, step * STEP_COPIES, STEP_COPIES, a);
        }
        multiply(sums, shared, inputs + input, weights + weight, step, group, pixels);
        if (BLOCKED && (step % BLOCK_STEPS == BLOCK_STEPS - 1 || step == STEPS - 1))
            sums.promote();
        if (!next.live)
            continue;
        if (DEFER) {
            store_pieces(waiting, (step - 1) * STEP_PIECES, next_inputs, next_weights);
            SG_UNROLL
            for (int i = 0; i < PIECES; i++)
                waiting[i] = pieces[i];
        } else {
            store_pieces(pieces, step * STEP_PIECES, next_inputs, next_weights);
        }
        _Pragma("unroll 1")
        for (int i = PIECES; i < STEP_PIECES; i += PIECES) {
            load_pieces(pieces, step * STEP_PIECES + i, next, shared, a);
            store_pieces(pieces, step * STEP_PIECES + i, next_inputs, next_weights);
        }
    }
    if (DEFER && next.live)
        store_pieces(waiting, (STEPS - 1) * STEP_PIECES, next_inputs, next_weights);
}

/* Makes a block's units, one after the other; while the last stage of one is multiplied, the first
 * of the next comes in. */
__device__ __forceinline__ void make_units(char *shared, const Arguments &a) {
    const int count = (int)((a.units - blockIdx.x + gridDim.x - 1) / gridDim.x);
    const int steps = (WALK_D ? (int)a.size_d : 1) * (WALK_H ? (int)a.size_h : 1) *
                      (WALK_W ? (int)a.size_w : 1);
    const int stages = steps * UNIT_STAGES;
    const auto tell = [&](int unit) {
        if (threadIdx.x == 0 && unit < count)
            unit_slot(shared, unit) = unit_at(blockIdx.x + (long long)unit * gridDim.x, a);
    };
    tell(0);
    tell(1);
    tell(2);
    __syncthreads();
    Cursor next = after({0, 0}, stages);
    const Source first = source_at({0, 0}, stages, shared, a);
    fill_table(first, a);
    if (next.unit < count && next.stage % CHUNKS == 0)
        fill_table(source_at(next, stages, shared, a), a);
    __syncthreads();
    stage_whole(first, shared, shared, shared + 2 * INPUT_STAGE, a);
    copy_async_wait();
    __syncthreads();
    int pixels[TILES_P];
    pixel_offsets(pixels);
    int buffer = 0;
    Tile tile;
    tile.turn = 0;
    tile.sums.clear();
    _Pragma("unroll 1")
    for (int unit = 0; unit < count; unit++) {
        Tail tail;
        tile.open(shared, unit);
        if (!ONE_PART || unit == 0)
            load_columns(tile, a);
        tail.begin(tile);
        tell(unit + 3);
        _Pragma("unroll 1")
        for (int stage = 0; stage < stages; stage++, buffer ^= 1) {
            const int part = stage % UNIT_STAGES;
            Source source = source_at(next, stages, shared, a);
            source.live = next.unit < count;
            next = after(next, stages);
            if (next.unit < count && next.stage % CHUNKS == 0)
                fill_table(source_at(next, stages, shared, a), a);
            run_stage(tile.sums, shared, buffer, part / (CHUNKS * OUTER_TAPS), source, pixels, a);
            copy_async_wait();
            __syncthreads();
            if (part == UNIT_STAGES - 1) {
                tile.sums.finish();
                tile.at(stage / UNIT_STAGES, shared + buffer * INPUT_STAGE, a);
                tail.step(tile, a);
                tile.sums.clear(); /* here, so that nothing is kept of them over the tail */
                if (WALKED && STORES)
                    __syncthreads(); /* they use this stage's memory */
            }
        }
        tail.end(tile, a);
        if (STORES)
            __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    segue_mma(const __grid_constant__ Arguments a) {
    extern __shared__ uint4 shared_memory[];
    char *shared = (char *)shared_memory;
    open_stages(shared, a);
    make_units(shared, a);
}
