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
 * With PRODUCTS 3, operands are two halves each, upper + lower / 2048, and a part's taps make three
 * products (step_tap); the first two are scaled down before the third comes on top. PROMOTE: after
 * so many parts sums move to registers of their own, 0: never; with three products it is 1.
 *
 * Blocks stay; block b makes jobs b, b + grid, ... A job's neighbours in number share its pixels,
 * so that they meet in the second-level cache. */
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
constexpr int BOX_BYTES = (PRODUCTS == 3 ? 2 : 1) * HALF_BOX;
constexpr int BLOCK_BYTES = CHUNK * TILE_N * 2;
constexpr int LARGEST_SLOTS = BOX_STAGES + STAGERS + 1; /* more than stagers may be apart in jobs */

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
    unsigned largest[LARGEST_SLOTS];
    int arrived[LARGEST_SLOTS];
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

/* Marks every job of the repair's numbering that has an output in this tile. One warp. */
__device__ __forceinline__ void flag_tile(const Job &job, const Arguments &a) {
    for (int i = threadIdx.x % 32; i < TILE_PIXELS; i += 32) {
        const Spot spot = spot_of(job.pixels + i, a);
        if (!spot_valid(spot, a))
            continue;
        long long number = static_cast<long long>(spot.n) * CHANNEL_TILES + job.tile;
        number = number * a.flag_jobs_d + spot.d / static_cast<int>(a.flag_box_d);
        number = number * a.flag_jobs_h + spot.h / static_cast<int>(a.flag_box_h);
        number = number * a.flag_jobs_w + spot.w / static_cast<int>(a.flag_box_w);
        a.flags[number] = 1;
    }
}

/* The last warp to come with its largest magnitude decides. */
__device__ __forceinline__ void guard(Shared &shared, int slot, float largest, const Job &job,
                                      const Arguments &a) {
    const unsigned bits = __reduce_max_sync(~0U, __float_as_uint(largest) & 0x7fffffffU);
    int before = 0;
    if (threadIdx.x % 32 == 0) {
        atomicMax(&shared.largest[slot], bits);
        __threadfence_block();
        before = atomicAdd(&shared.arrived[slot], 1);
    }
    if (__shfl_sync(~0U, before, 0) != STAGERS - 1)
        return;
    __threadfence_block();
    const float all = __uint_as_float(*(volatile unsigned *)&shared.largest[slot]);
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
        shared.largest[slot] = 0;
        shared.arrived[slot] = 0;
    }
    if (carrier_fails(all * CARRIER_SCALE)) {
        griddepcontrol_wait();
        flag_tile(job, a);
    }
}

/* Warps deal all boxes' items out among themselves, one after the other, so that none waits for the
 * end of a box. */
__device__ __forceinline__ void stage_input(Shared &shared, unsigned char *boxes, int warp,
                                            const Arguments &a) {
    Turn<BOX_STAGES> turn;
    int slot = 0, chunk = 0, part = 0, item = warp;
    float largest = 0;
    for (int number = blockIdx.x; number < static_cast<int>(a.jobs);) {
        const Job job(number);
        if (item < ITEMS) {
            const Wanted wanted = {item, job.pixels, part,
                                   job.group() * IN_CHANNELS + chunk * CHUNK,
                                   IN_CHANNELS - chunk * CHUNK};
            Item read;
            load_item(read, wanted, a);
            mbarrier_wait(shared_address(&shared.box_empty[turn.stage]), turn.parity ^ 1);
            store_item(boxes + turn.stage * BOX_BYTES, wanted, read, largest);
            fence_proxy_async();
            __syncwarp();
            if (threadIdx.x % 32 == 0)
                mbarrier_arrive(shared_address(&shared.box_full[turn.stage]));
            item += STAGERS;
            continue;
        }
        item -= ITEMS;
        turn.next();
        if (++part < PARTS)
            continue;
        part = 0;
        if (++chunk < CHUNKS)
            continue;
        chunk = 0;
        guard(shared, slot, largest, job, a);
        slot = slot + 1 == LARGEST_SLOTS ? 0 : slot + 1;
        largest = 0;
        number += gridDim.x;
    }
}

__device__ __forceinline__ void stream_weights(Shared &shared, unsigned char *blocks,
                                               const Arguments &a) {
    griddepcontrol_wait();
    Turn<BLOCK_STAGES> turn;
    for (int number = blockIdx.x; number < static_cast<int>(a.jobs); number += gridDim.x) {
        const unsigned char *from =
            reinterpret_cast<const unsigned char *>(a.weights) +
            static_cast<long long>(Job(number).tile) * (CHUNKS * TAPS * PRODUCTS) * BLOCK_BYTES;
        for (int i = 0; i < CHUNKS * TAPS * PRODUCTS; i++) {
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

/* Whether any of a warpgroup's threads says so; all of them meet here. */
__device__ __forceinline__ bool barrier_or(int number, bool mine) {
    int any;
    asm volatile("{\n\t.reg .pred mine, any;\n\t"
                 "setp.ne.b32 mine, %1, 0;\n\t"
                 "barrier.cta.red.or.pred any, %2, %3, mine;\n\t"
                 "selp.b32 %0, 1, 0, any;\n\t}"
                 : "=r"(any)
                 : "r"(static_cast<int>(mine)), "r"(number), "n"(WARPGROUP)
                 : "memory");
    return any;
}

/* What acc and per_channel read, when the tile of channels changes. Returns whether halves do not
 * hold the tile's weights. */
__device__ __forceinline__ bool load_channels(Shared &shared, int consumer, const Job &job,
                                              const Arguments &a) {
    bool fails = false;
    barrier_sync(1 + consumer, WARPGROUP);
    for (int i = threadIdx.x % WARPGROUP; i < TILE_N; i += WARPGROUP) {
        const int channel = job.channel() + i;
        const bool has = channel < job.channel_end();
        const float scale = has ? a.scales[channel] : 0.0f;
        const float bias = HAS_BIAS && has ? load(a.bias + channel * a.bias_stride.c) : 0.0f;
        fails |= scale != scale;
        shared.scale_bias[consumer][i] = make_float2(scale, bias);
        for (int k = 0; k < CHANNEL_OPERANDS; k++)
            shared.operands[consumer][k][i] = has ? channel_operand(k, channel, a) : real(0);
    }
    return barrier_or(1 + consumer, fails);
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

/* Which tap a part's step is about, and whether with the lower halves of the input. Three products
 * come in this order: of every tap upper by lower and lower by upper halves, then of every tap
 * upper by upper ones. */
__device__ __forceinline__ int step_tap(int step, int taps) {
    if (PRODUCTS == 1)
        return step;
    return step < 2 * taps ? step / 2 : step - 2 * taps;
}
__device__ __forceinline__ bool step_lower(int step, int taps) {
    return PRODUCTS == 3 && step < 2 * taps && step % 2 == 1;
}

__device__ __forceinline__ void contract(Shared &shared, unsigned boxes, unsigned blocks,
                                         int consumer, const Arguments &a) {
    Turn<BOX_STAGES> box_turn;
    Turn<BLOCK_STAGES> block_turn;
    const int warp = threadIdx.x / 32 % 4;
    int tile_loaded = -1;
    bool fails = false;
    griddepcontrol_wait();
    Tile tile;
    Tail tail;
    Totals totals;
    Used used;
    tile.lane = threadIdx.x % 32;
    tile.scale_bias = shared.scale_bias[consumer];
    tile.operands = &shared.operands[consumer][0][0];
    tile.fetched = shared.fetched[consumer * 4 + warp];
    for (int number = blockIdx.x; number < static_cast<int>(a.jobs); number += gridDim.x) {
        const Job job(number);
        if (job.tile != tile_loaded) {
            fails = load_channels(shared, consumer, job, a);
            tile_loaded = job.tile;
        }
        if (fails && consumer == 0 && warp == 0)
            flag_tile(job, a);
        int accumulate = 0, parts = 0;
        totals.clear();
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            for (int part = 0; part < PARTS; part++) {
                mbarrier_wait(shared_address(&shared.box_full[box_turn.stage]), box_turn.parity);
                const unsigned box =
                    boxes + box_turn.stage * BOX_BYTES + consumer * (WARPGROUP_PIXELS * 16);
                const int taps = PART_TAPS[part], steps = taps * PRODUCTS;
                for (int step = 0; step < steps; step++) {
                    if (PRODUCTS == 3 && step == 2 * taps) {
                        wgmma_wait<0>();
                        used.give_back();
                        SG_UNROLL
                        for (int i = 0; i < ROW_BLOCKS * TILE_N / 2; i++)
                            tile.d[i / (TILE_N / 2)][i % (TILE_N / 2)] *= 1.0f / 2048;
                    }
                    const int tap = PART_FIRST[part] + step_tap(step, taps);
                    const int reach = (TAP_D[tap] * static_cast<int>(a.pitch_h) + TAP_H[tap]) *
                                          static_cast<int>(a.pitch_w) +
                                      TAP_W[tap];
                    mbarrier_wait(shared_address(&shared.block_full[block_turn.stage]),
                                  block_turn.parity);
                    unsigned long long left = matrix_descriptor(
                        box + reach * 16 + (step_lower(step, taps) ? HALF_BOX : 0), BOX_PIXELS * 16,
                        ROW_BLOCKS * 128);
                    unsigned long long right = matrix_descriptor(
                        blocks + block_turn.stage * BLOCK_BYTES, TILE_N * 16, 128);
                    wgmma_fence();
                    SG_UNROLL
                    for (int k = 0; k < CHUNK / 16; k++) {
                        SG_UNROLL
                        for (int m = 0; m < ROW_BLOCKS; m++)
                            multiply(tile.d[m], left + k * (2 * BOX_PIXELS) + m * 8,
                                     right + k * (2 * TILE_N), accumulate);
                        accumulate = 1;
                    }
                    wgmma_commit();
                    wgmma_wait<1>();
                    used.give_back();
                    used.block = &shared.block_empty[block_turn.stage];
                    if (step + 1 == steps)
                        used.box = &shared.box_empty[box_turn.stage];
                    block_turn.next();
                }
                box_turn.next();
                if (PROMOTE && ++parts == PROMOTE) {
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
        for (int i = 0; i < LARGEST_SLOTS; i++) {
            shared.largest[i] = 0;
            shared.arrived[i] = 0;
        }
    }
    fence_proxy_async();
    __syncthreads();
    if (warpgroup < CONSUMERS) {
        setmaxnreg_inc<CONSUMER_REGISTERS>();
        contract(shared, shared_address(boxes), shared_address(blocks), warpgroup, a);
    } else {
        setmaxnreg_dec<STAGER_REGISTERS>();
        const int warp = threadIdx.x / 32 - CONSUMERS * 4;
        if (warp < STAGERS)
            stage_input(shared, boxes, warp, a);
        else if (threadIdx.x % 32 == 0)
            stream_weights(shared, blocks, a);
    }
}
