/* Convolution by warpgroup products: input and weights stream through shared memory.
 *
 * Output positions, one long row of them (stage_box.cuh), are cut into tiles of TILE_PIXELS, and
 * the output's channels into tiles of TILE_STEP: a job is one of each. Two warpgroups hold the
 * job's sums in registers, pixels as M, channels as N. Seven warps read the input, round it and
 * store it as [8 channels][position][8 halves]: CHUNK channels of a part of the taps at a time. An
 * eighth streams the weights, packed before by another launch: blocks of CHUNK channels of one tap.
 * Both run ahead across jobs, as far as their rings of stages reach.
 *
 * The weights' launch may still run when this one starts: whoever reads what it wrote waits for it.
 *
 * With PRODUCTS 3, operands are two halves each, upper + lower, and a tap has two blocks of
 * weights. The lower come first, and meet the input's upper halves; the upper meet its lower
 * halves, then its upper ones: additions in the tensor cores round toward zero, so what weighs
 * little is added first, and sums move to registers of their own after every tap. Meanwhile the
 * other warpgroup multiplies: they take turns. With one product, sums move after every PROMOTE
 * parts; 0: never.
 *
 * Blocks stay; block b makes jobs b, b + grid, ... A job's neighbours in number share its pixels,
 * so that they meet in the second-level cache. Where floats are carried as halves (GUARDED), a job
 * with a segment (stage_box.cuh) that the common scale does not suit is made anew by and by, with
 * scales that do. */
//@ include common.cuh
//@ constants

struct Arguments {
    //@ arguments
};

//@ include wgmma.cuh
//@ instructions
#define SG_UNROLL _Pragma("unroll")
//@ include stage_box.cuh

constexpr int CONSUMERS = 2, STAGERS = 7; /* warpgroups; warps */
constexpr int THREADS = 4 * WARPGROUP;
constexpr int WARPGROUP_PIXELS = 64 * ROW_BLOCKS;
constexpr int TILE_PIXELS = CONSUMERS * WARPGROUP_PIXELS;
constexpr int CHUNKS = (IN_CHANNELS + CHUNK - 1) / CHUNK; /* IN_CHANNELS: of one group */
constexpr int HALF_BOX = CELLS * BOX_PIXELS * 16; /* bytes of a box's upper or lower halves */
constexpr int BOX_BYTES = TAP_BLOCKS * HALF_BOX;
constexpr int BLOCK_BYTES = CHUNK * TILE_N * 2;
constexpr int SLOTS = BOX_STAGES + STAGERS + 1; /* more than stagers may be apart in jobs */
constexpr int TURNS = 2 + CONSUMERS; /* barriers: a consumer's turn to multiply */
constexpr int ROUND = 1024; /* jobs of a block after which it makes anew what must be */

/* Where a warp's rows stand: blocks of 8 rows are dealt so that a warp's are neighbours. */
struct Pixels {
    const Arguments *a;
    int first;
    __device__ __forceinline__ int pixel(int row) const {
        return (row / 8 % 2 * ROW_BLOCKS + row / 16) * 8 + row % 8;
    }
    __device__ __forceinline__ Spot spot_at(int pixel) const { return spot_of(first + pixel, *a); }
    __device__ __forceinline__ bool spot_valid_at(const Spot &spot) const {
        return spot_valid(spot, *a);
    }
    __device__ __forceinline__ bool valid(int row) const {
        return spot_valid(spot_at(pixel(row)), *a);
    }
    __device__ __forceinline__ Place place(int row) const {
        const Spot at = spot_at(pixel(row));
        return Place{at.n, at.d, at.h, at.w};
    }
};

__device__ real channel_operand(int k, int c, const Arguments &a);
//@ include tile_lines.cuh
//@ tail

struct Shared {
    unsigned long long box_full[BOX_STAGES], box_empty[BOX_STAGES];
    unsigned long long block_full[BLOCK_STAGES], block_empty[BLOCK_STAGES];
    Met met[SLOTS]; /* of a job's segments, and how many stagers have said what they met */
    int arrived[SLOTS];
    unsigned anew[ROUND / 32];   /* a bit for each job of the round that must be made anew */
    unsigned segments[SEGMENTS]; /* of a job made anew: largest finite magnitudes, as bits */
    float2 scale_bias[CONSUMERS][TILE_N];
    real operands[CONSUMERS][CHANNEL_OPERANDS ? CHANNEL_OPERANDS : 1][TILE_N];
    float fetched[CONSUMERS * 4][WARP_FETCHES];
};

/* A ring's stage, and the parity of its use. */
template <int STAGES> struct Turn {
    int stage = 0;
    unsigned parity = 0;
    __device__ __forceinline__ void next() {
        stage++;
        if (stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

struct Job {
    int pixels, tile; /* first position; tile of channels */
    __device__ __forceinline__ Job(int number) {
        pixels = number / CHANNEL_TILES * TILE_PIXELS;
        tile = number % CHANNEL_TILES;
    }
    __device__ __forceinline__ int group() const { return tile / GROUP_TILES; }
    __device__ __forceinline__ int channel() const {
        return group() * GROUP_CHANNELS + tile % GROUP_TILES * TILE_STEP;
    }
    __device__ __forceinline__ int channel_end() const {
        return min(channel() + TILE_STEP, (group() + 1) * GROUP_CHANNELS);
    }
};

__device__ __forceinline__ Wanted wanted_of(const Job &job, int chunk, int part, int item) {
    return Wanted{item, job.pixels, part, job.group() * IN_CHANNELS + chunk * CHUNK,
                  IN_CHANNELS - chunk * CHUNK};
}

/* All threads of the block. */
__device__ __forceinline__ void meet() {
    barrier_meet(0, THREADS);
}

/* A block's jobs, in the order in which all of its warps go through them: those of a round, then
 * those of them that are made anew. */
struct Sequence {
    int number = blockIdx.x, first = blockIdx.x, index = 0; /* of the round: index counts in it */
    bool anew = false;

    __device__ __forceinline__ bool more(const Arguments &a) const {
        return number < static_cast<int>(a.jobs);
    }
    __device__ __forceinline__ void next(Shared &shared, const Arguments &a) {
        index++;
        number += gridDim.x;
        if (GUARDED && (anew || index == ROUND || !more(a)))
            next_anew(shared, a);
    }
    /* The next one to be made anew; after the last the next round's first. */
    __device__ __forceinline__ void next_anew(Shared &shared, const Arguments &a) {
        const int step = gridDim.x;
        meet(); /* the round's verdicts are there; the job before is through */
        index = anew ? index : 0;
        unsigned left = 0;
        for (; index < ROUND && first + index * step < static_cast<int>(a.jobs);
             index = (index | 31) + 1) {
            left = shared.anew[index / 32] >> index % 32;
            if (left)
                break;
        }
        anew = left != 0;
        if (anew) {
            index += __ffs(static_cast<int>(left)) - 1;
        } else {
            first += ROUND * step;
            index = 0;
            meet();
            if (threadIdx.x < ROUND / 32)
                shared.anew[threadIdx.x] = 0;
            meet();
        }
        number = first + index * step;
    }
};

/* The last warp to come with what it met of a job decides. index: of the job in its round. */
__device__ __forceinline__ void judge(Shared &shared, int slot, const Met &met, int index) {
    const unsigned over = __reduce_or_sync(~0U, met.over);
    const unsigned enough = __reduce_or_sync(~0U, met.enough);
    const unsigned some = __reduce_or_sync(~0U, met.some);
    if (threadIdx.x % 32 != 0)
        return;
    Met &all = shared.met[slot];
    atomicOr(&all.over, over);
    atomicOr(&all.enough, enough);
    atomicOr(&all.some, some);
    __threadfence_block();
    if (atomicAdd(&shared.arrived[slot], 1) != STAGERS - 1)
        return;
    __threadfence_block();
    const volatile Met &seen = all;
    if (seen.over | (seen.some & ~seen.enough))
        atomicOr(&shared.anew[index / 32], 1U << index % 32);
    all = {};
    shared.arrived[slot] = 0;
}

/* Of a job that is made anew: the largest finite magnitude of every segment. */
__device__ __forceinline__ void measure_segments(Shared &shared, int warp, const Job &job,
                                                 const Arguments &a) {
    constexpr int BARRIER = 1 + CONSUMERS;
    if (warp == 0 && threadIdx.x % 32 < SEGMENTS)
        shared.segments[threadIdx.x % 32] = 0;
    barrier_sync(BARRIER, STAGERS * 32);
    for (int i = warp; i < CHUNKS * PARTS * ITEMS; i += STAGERS) {
        Item read;
        const int chunk = i / (PARTS * ITEMS), part = i / ITEMS % PARTS;
        const Wanted wanted = wanted_of(job, chunk, part, i % ITEMS);
        load_item(read, wanted, a);
        measure_item(wanted, read, shared.segments, a);
    }
}

/* Warps deal all boxes' items out among themselves, one after the other, so that none waits for the
 * end of a box. */
__device__ __forceinline__ void stage_input(Shared &shared, unsigned char *boxes, int warp,
                                            const Arguments &a) {
    Turn<BOX_STAGES> turn;
    int slot = 0, item = warp;
    for (Sequence jobs; jobs.more(a); jobs.next(shared, a)) {
        const Job job(jobs.number);
        Met met = {};
        if (GUARDED && jobs.anew) {
            measure_segments(shared, warp, job, a);
            meet();
        }
        for (int box = 0; box < CHUNKS * PARTS; box++) {
            for (; item < ITEMS; item += STAGERS) {
                Item read;
                const Wanted wanted = wanted_of(job, box / PARTS, box % PARTS, item);
                unsigned char *to = boxes + turn.stage * BOX_BYTES;
                load_item(read, wanted, a);
                mbarrier_wait(shared_address(&shared.box_empty[turn.stage]), turn.parity ^ 1);
                if (GUARDED && jobs.anew) {
                    scale_item(wanted, read, shared.segments, a);
                    store_item<true>(to, wanted, read, met, a);
                } else {
                    store_item<false>(to, wanted, read, met, a);
                }
                fence_proxy_async();
                __syncwarp();
                if (threadIdx.x % 32 == 0)
                    mbarrier_arrive(shared_address(&shared.box_full[turn.stage]));
            }
            item -= ITEMS;
            turn.next();
        }
        if (GUARDED && !jobs.anew) {
            judge(shared, slot, met, jobs.index);
            slot = slot + 1 == SLOTS ? 0 : slot + 1;
        }
    }
}

__device__ __forceinline__ void stream_weights(Shared &shared, unsigned char *blocks,
                                               const Arguments &a) {
    griddepcontrol_wait();
    Turn<BLOCK_STAGES> turn;
    for (Sequence jobs; jobs.more(a); jobs.next(shared, a)) {
        const unsigned char *from = reinterpret_cast<const unsigned char *>(a.weights) +
                                    static_cast<long long>(Job(jobs.number).tile) *
                                        (CHUNKS * TAPS * TAP_BLOCKS) * BLOCK_BYTES;
        if (GUARDED && jobs.anew)
            meet();
        for (int i = 0; i < CHUNKS * TAPS * TAP_BLOCKS && threadIdx.x % 32 == 0; i++) {
            const unsigned full = shared_address(&shared.block_full[turn.stage]);
            mbarrier_wait(shared_address(&shared.block_empty[turn.stage]), turn.parity ^ 1);
            mbarrier_arrive_expect_tx(full, BLOCK_BYTES);
            cp_async_bulk(shared_address(blocks + turn.stage * BLOCK_BYTES), from, BLOCK_BYTES,
                          full);
            from += BLOCK_BYTES;
            turn.next();
        }
    }
}

/* What acc and per_channel read. anew: the scales themselves, for unscale_tile. */
__device__ __forceinline__ void load_channels(Shared &shared, int consumer, const Job &job,
                                              bool anew, const Arguments &a) {
    barrier_sync(1 + consumer, WARPGROUP);
    for (int i = threadIdx.x % WARPGROUP; i < TILE_N; i += WARPGROUP) {
        const int channel = job.channel() + i;
        const bool has = channel < job.channel_end();
        float scale = GUARDED && has ? a.scales[channel] : 1.0f;
        if (GUARDED && !anew)
            scale = unscale(scale, STAGE_SCALE);
        const float bias = HAS_BIAS && has ? load(a.bias + channel * a.bias_stride.c) : 0.0f;
        shared.scale_bias[consumer][i] = make_float2(scale, bias);
        for (int k = 0; k < CHANNEL_OPERANDS; k++)
            shared.operands[consumer][k][i] = has ? channel_operand(k, channel, a) : real(0);
    }
    barrier_sync(1 + consumer, WARPGROUP);
}

/* Takes the scales of segments and channels out of a tile's sums, and leaves none to acc. */
__device__ __forceinline__ void unscale_tile(Tile &tile, Shared &shared, int consumer,
                                             const Job &job, const Arguments &a) {
    float scale[Tile::PIXELS];
    SG_UNROLL
    for (int p = 0; p < Tile::PIXELS; p++) {
        const int position = tile.pixels.first + tile.pixels.pixel(tile.row(p));
        scale[p] = scale_anew(shared.segments, divide(position, a.image_reciprocal) -
                                                   divide(job.pixels, a.image_reciprocal));
    }
    SG_UNROLL
    for (int j = 0; j < Tile::CHANNELS; j++) {
        const float by = tile.scale_bias[tile.column(j)].x;
        SG_UNROLL
        for (int p = 0; p < Tile::PIXELS; p++)
            tile.d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2] *= unscale(by, scale[p]);
    }
    barrier_sync(1 + consumer, WARPGROUP);
    for (int i = threadIdx.x % WARPGROUP; i < TILE_N; i += WARPGROUP)
        shared.scale_bias[consumer][i].x = 1.0f;
    barrier_sync(1 + consumer, WARPGROUP);
}

__device__ __forceinline__ void arrive_warp(unsigned long long *barrier) {
    if (threadIdx.x % 32 == 0)
        mbarrier_arrive(shared_address(barrier));
}

/* 64 pixels by TILE_N channels by 16 of k. Instructions that want more than the registers a thread
 * has when the kernel starts are halved. */
__device__ __forceinline__ void multiply(float (&d)[TILE_N / 2], unsigned long long left,
                                         unsigned long long right, int accumulate) {
    SG_UNROLL
    for (int n = 0; n < TILE_N; n += INSTRUCTION_N)
        wgmma(reinterpret_cast<float (&)[INSTRUCTION_N / 2]>(d[n / 2]), left, right + n,
              accumulate);
}

/* CHUNK of k: a block of weights. */
__device__ __forceinline__ void multiply_block(Tile &tile, unsigned long long left,
                                               unsigned long long right, int &accumulate) {
    SG_UNROLL
    for (int k = 0; k < CHUNK / 16; k++) {
        SG_UNROLL
        for (int m = 0; m < ROW_BLOCKS; m++)
            multiply(tile.d[m], left + k * (2 * BOX_PIXELS) + m * 8, right + k * (2 * TILE_N),
                     accumulate);
        accumulate = 1;
    }
}

/* Operands of two halves: a tap's two blocks, of lower halves and of upper ones. */
__device__ __forceinline__ void multiply_halves(Tile &tile, Shared &shared, unsigned blocks,
                                                Turn<BLOCK_STAGES> &turn, unsigned long long left,
                                                int consumer) {
    int accumulate = 0;
    mbarrier_wait(shared_address(&shared.block_full[turn.stage]), turn.parity);
    unsigned long long *const lower = &shared.block_empty[turn.stage];
    barrier_sync(TURNS + consumer, 2 * WARPGROUP);
    wgmma_fence();
    multiply_block(tile, left,
                   matrix_descriptor(blocks + turn.stage * BLOCK_BYTES, TILE_N * 16, 128),
                   accumulate);
    wgmma_commit();
    turn.next();
    mbarrier_wait(shared_address(&shared.block_full[turn.stage]), turn.parity);
    const unsigned long long right =
        matrix_descriptor(blocks + turn.stage * BLOCK_BYTES, TILE_N * 16, 128);
    multiply_block(tile, left + HALF_BOX / 16, right, accumulate);
    multiply_block(tile, left, right, accumulate);
    wgmma_commit();
    barrier_arrive(TURNS + 1 - consumer, 2 * WARPGROUP);
    wgmma_wait<1>();
    arrive_warp(lower);
    wgmma_wait<0>();
    arrive_warp(&shared.block_empty[turn.stage]);
    turn.next();
}

/* What a warp has used and must give back, once its products are through. */
struct Used {
    unsigned long long *block = nullptr, *box = nullptr;
    __device__ __forceinline__ void give_back() {
        if (block)
            arrive_warp(block);
        if (box)
            arrive_warp(box);
        block = box = nullptr;
    }
};

/* Sums that are kept out of the products' reach: these round each addition down. */
struct Totals {
    float sum[PROMOTE ? ROW_BLOCKS : 1][PROMOTE ? TILE_N / 2 : 1];

    __device__ __forceinline__ void clear() {
        SG_UNROLL
        for (int i = 0; i < (PROMOTE ? ROW_BLOCKS * TILE_N / 2 : 0); i++)
            sum[i / (TILE_N / 2)][i % (TILE_N / 2)] = 0.0f;
    }
    __device__ __forceinline__ void add(const Tile &tile) {
        SG_UNROLL
        for (int i = 0; i < (PROMOTE ? ROW_BLOCKS * TILE_N / 2 : 0); i++)
            sum[i / (TILE_N / 2)][i % (TILE_N / 2)] += tile.d[i / (TILE_N / 2)][i % (TILE_N / 2)];
    }
    __device__ __forceinline__ void get(Tile &tile) const {
        SG_UNROLL
        for (int i = 0; i < (PROMOTE ? ROW_BLOCKS * TILE_N / 2 : 0); i++)
            tile.d[i / (TILE_N / 2)][i % (TILE_N / 2)] = sum[i / (TILE_N / 2)][i % (TILE_N / 2)];
    }
};

__device__ __forceinline__ void contract(Shared &shared, unsigned boxes, unsigned blocks,
                                         int consumer, const Arguments &a) {
    Turn<BOX_STAGES> box_turn;
    Turn<BLOCK_STAGES> block_turn;
    const int warp = threadIdx.x / 32 % 4;
    int tile_loaded = -1;
    griddepcontrol_wait();
    Tile tile;
    Tail tail;
    Totals totals;
    Used used;
    tile.lane = threadIdx.x % 32;
    tile.scale_bias = shared.scale_bias[consumer];
    tile.operands = &shared.operands[consumer][0][0];
    tile.fetched = shared.fetched[consumer * 4 + warp];
    if (PRODUCTS == 3 && consumer == 1)
        barrier_arrive(TURNS, 2 * WARPGROUP); /* the other begins */
    for (Sequence jobs; jobs.more(a); jobs.next(shared, a)) {
        const Job job(jobs.number);
        const bool anew = GUARDED && jobs.anew;
        if (anew)
            meet();
        if (anew || job.tile != tile_loaded) {
            load_channels(shared, consumer, job, anew, a);
            tile_loaded = anew ? -1 : job.tile;
        }
        int accumulate = 0, parts = 0;
        totals.clear();
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            for (int part = 0; part < PARTS; part++) {
                mbarrier_wait(shared_address(&shared.box_full[box_turn.stage]), box_turn.parity);
                const unsigned box =
                    boxes + box_turn.stage * BOX_BYTES + consumer * (WARPGROUP_PIXELS * 16);
                const int taps = PART_TAPS[part];
                for (int step = 0; step < taps; step++) {
                    const int tap = PART_FIRST[part] + step;
                    const int reach = (TAP_D[tap] * static_cast<int>(a.pitch_h) + TAP_H[tap]) *
                                          static_cast<int>(a.pitch_w) +
                                      TAP_W[tap];
                    const unsigned long long left =
                        matrix_descriptor(box + reach * 16, BOX_PIXELS * 16, ROW_BLOCKS * 128);
                    if (PRODUCTS == 3) {
                        multiply_halves(tile, shared, blocks, block_turn, left, consumer);
                        totals.add(tile);
                        continue;
                    }
                    mbarrier_wait(shared_address(&shared.block_full[block_turn.stage]),
                                  block_turn.parity);
                    const unsigned long long right = matrix_descriptor(
                        blocks + block_turn.stage * BLOCK_BYTES, TILE_N * 16, 128);
                    wgmma_fence();
                    multiply_block(tile, left, right, accumulate);
                    wgmma_commit();
                    wgmma_wait<1>();
                    used.give_back();
                    used.block = &shared.block_empty[block_turn.stage];
                    if (step + 1 == taps)
                        used.box = &shared.box_empty[box_turn.stage];
                    block_turn.next();
                }
                if (PRODUCTS == 3)
                    arrive_warp(&shared.box_empty[box_turn.stage]);
                box_turn.next();
                if (PRODUCTS == 1 && PROMOTE && ++parts == PROMOTE) {
                    wgmma_wait<0>();
                    used.give_back();
                    totals.add(tile);
                    accumulate = parts = 0;
                }
            }
        }
        wgmma_wait<0>();
        used.give_back();
        if (PROMOTE) {
            if (parts)
                totals.add(tile);
            totals.get(tile);
        }
        tile.channel_first = job.channel();
        tile.channel_end = job.channel_end();
        tile.pixels.a = &a;
        tile.pixels.first = job.pixels + consumer * WARPGROUP_PIXELS + warp * (16 * ROW_BLOCKS);
        if (anew)
            unscale_tile(tile, shared, consumer, job, a);
        tail.begin(tile);
        tail.step(tile, a);
        tail.end(tile, a);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    segue_conv_wgmma_streamed(const __grid_constant__ Arguments a) {
    extern __shared__ __align__(128) unsigned char memory[];
    __shared__ Shared shared;
    unsigned char *boxes = memory, *blocks = memory + BOX_STAGES * BOX_BYTES;
    const int warpgroup = threadIdx.x / WARPGROUP;
    if (threadIdx.x == 0) {
        for (int i = 0; i < BOX_STAGES; i++) {
            mbarrier_init(shared_address(&shared.box_full[i]), ITEMS);
            mbarrier_init(shared_address(&shared.box_empty[i]), CONSUMERS * 4);
        }
        for (int i = 0; i < BLOCK_STAGES; i++) {
            mbarrier_init(shared_address(&shared.block_full[i]), 1);
            mbarrier_init(shared_address(&shared.block_empty[i]), CONSUMERS * 4);
        }
        for (int i = 0; i < SLOTS; i++) {
            shared.met[i] = {};
            shared.arrived[i] = 0;
        }
        for (int i = 0; i < ROUND / 32; i++)
            shared.anew[i] = 0;
    }
    fence_proxy_async();
    __syncthreads();
    if (warpgroup < CONSUMERS) {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(CONSUMER_REGISTERS));
        contract(shared, shared_address(boxes), shared_address(blocks), warpgroup, a);
    } else {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(STAGER_REGISTERS));
        const int warp = threadIdx.x / 32 - CONSUMERS * 4;
        if (warp < STAGERS)
            stage_input(shared, boxes, warp, a);
        else
            stream_weights(shared, blocks, a);
    }
}
