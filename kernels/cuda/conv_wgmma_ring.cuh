/* Convolution by wgmma with the weights resident and the input in a ring: the kernel.
 *
 * A block works for one tile of channels. It packs that tile's weights into shared memory, as
 * [tap][channel group of 8][TILE_N][8 halves], 16 bytes between taps, and keeps them. Producer
 * warpgroups stage slices of the input, each read once, into a ring; consumer warpgroups multiply
 * and run the tail. A row along z is ROW_TILES tiles; consumers take tiles in turn, and turns in
 * issuing their products: left to themselves they would share the tensor cores, finish together,
 * and run their tails together while the tensor cores idle. So the tail of one runs behind the
 * products of the others.
 *
 * The work is numbered by rows of boxes, z fastest; a block has a range of them, and neighbours
 * along z flow through the ring as one segment. A walk along z is one unit of work, and a row then
 * has as many tiles as there are consumers.
 *
 * Floats are carried as halves (GUARDED), weights scaled by a power of two for each output channel.
 * Behind the last slice of a segment the ring then carries a verdict: whether halves held what was
 * staged. If they did not, the same segment follows again, staged the slow way at a scale of its
 * own, and what consumers make of it takes the place of what they stored before.
 *
 * In class fp32 (PARTS 2) weights and stages are upper and lower halves (ring_parts.cuh).
 *
 * Constants beyond those of the files before: CONSUMERS, PRODUCERS (warpgroups), STAGES,
 * KERNEL_Z/Y/X, STRIDE_Z, PADDING_Z/Y, STAGE_LEFT (columns of the stage left of the box's first
 * pixel without padding), PADDING_X, DILATION_Z/Y/X, ROW_TILES, CONSUMER_PIXELS,
 * OUT_GROUP (output channels of a group), CHANNEL_TILES, GROUP_TILES (tiles of a group),
 * UNROLL_Z/Y/X, UNROLL_PARTS, UNROLL_TAPS, SPANS, SPAN_TAPS, PRODUCER_REGISTERS, CONSUMER_REGISTERS, PREFETCH (producers have registers for two
 * items), HAS_BIAS, WEIGHTS_IN_ORDER ([input channel][tap] of an output channel lie together). */

//@ include common.cuh
//@ include wgmma.cuh
//@ constants
struct Arguments {
    //@ arguments
};
//@ instructions
/* Of a tap's weights, 8 halves each: one more than there are, so that a warp that packs the taps of
 * a channel does not store them all to the same banks. */
constexpr int TAP_ROWS = STAGE_GROUPS * TILE_N + 1;
constexpr int PART_BYTES = STAGE_GROUPS * PLANE * 16; /* of a stage */
constexpr float STAGE_SCALE = PARTS == 2 ? SPLIT_SCALE : CARRIER_SCALE;
constexpr float STAGE_MIN = PARTS == 2 ? SPLIT_MIN : CARRIER_MIN;
//@ staging
//@ include ring_pixels.cuh
//@ orientation
//@ tail

constexpr int TAPS = KERNEL_Z * KERNEL_Y * KERNEL_X;
constexpr int STAGE_BYTES = PARTS * PART_BYTES;
constexpr int WEIGHT_ROWS = TAPS * TAP_ROWS; /* of 8 halves, of a part */
constexpr int WEIGHT_BYTES = PARTS * WEIGHT_ROWS * 16;
constexpr int REACH_Z = (KERNEL_Z - 1) * DILATION_Z + 1; /* slices that an output row needs */
constexpr int PRODUCER_WARPS = PRODUCERS * 4;
constexpr int THREADS = (PRODUCERS + CONSUMERS) * WARPGROUP;
/* With fewer items than warps, warps take different slices. */
constexpr int SLICE_WARPS = ITEMS < PRODUCER_WARPS ? ITEMS : PRODUCER_WARPS;
constexpr int SLICES_AT_ONCE = PRODUCER_WARPS / SLICE_WARPS;
/* Slices between what the second-level cache is asked for and what is stored; 0: it is not asked.
 * It helps rings of many small slices; beside large outputs it takes their place in the cache. */
constexpr int AHEAD = STAGES >= 8 ? 2 : 0;
/* Slices that a consumer's next tile may need beyond its last one's. */
constexpr int STEP_Z = (CONSUMERS + ROW_TILES - 1) / ROW_TILES;
/* Taps whose products are through when at most one group of products is under way. */
constexpr int FIRST_TAPS = PARTS == 1 ? KERNEL_Y * KERNEL_X : (SPANS - 1) * SPAN_TAPS;
/* Where sums move in the middle of a tile, the products of others had better fill the gap. */
constexpr bool TAKES_TURNS = CONSUMERS > 1 && (PARTS == 1 || SPANS <= 2);
/* Numbers of barriers: 1 .. CONSUMERS are a tile's own. */
constexpr int PACKED = 1 + CONSUMERS, STAGED = PACKED + 1, TURNS = STAGED + 1;

/* Shared memory, in order. Tiles read some pixels beyond a stage, which are dropped: after the last
 * stage there are weights. */
struct Shared {
    unsigned char *ring, *weights;
    float2 *scale_bias;   /* [TILE_N] */
    float *weight_scale;  /* [TILE_N] */
    float *operands;      /* [CHANNEL_OPERANDS][TILE_N] */
    float *consumer;      /* [CONSUMERS][CONSUMER_FLOATS] */
    float *carried;       /* [CARRY_FLOATS], from each tile for the next */
    unsigned *magnitude;  /* [2][PRODUCER_WARPS] */
    unsigned full, empty; /* addresses of [STAGES] barriers each */
    unsigned passed;      /* the same of [CARRY_BARRIERS] */
    float *verdict;       /* [STAGES], of slices that are none: a segment's own scale, 0: it held */
};

__device__ __forceinline__ Shared share(unsigned char *memory) {
    Shared shared;
    shared.ring = memory;
    shared.weights = shared.ring + STAGES * STAGE_BYTES;
    shared.scale_bias = reinterpret_cast<float2 *>(shared.weights + WEIGHT_BYTES);
    shared.weight_scale = reinterpret_cast<float *>(shared.scale_bias + TILE_N);
    shared.operands = shared.weight_scale + TILE_N;
    shared.consumer = shared.operands + CHANNEL_OPERANDS * TILE_N;
    shared.carried = shared.consumer + CONSUMERS * CONSUMER_FLOATS;
    shared.magnitude = reinterpret_cast<unsigned *>(shared.carried + CARRY_FLOATS);
    shared.full = shared_address(shared.magnitude + 2 * PRODUCER_WARPS);
    shared.empty = shared.full + STAGES * 8;
    shared.passed = shared.empty + STAGES * 8;
    shared.verdict = reinterpret_cast<float *>(shared.magnitude + 2 * PRODUCER_WARPS) +
                     2 * (2 * STAGES + CARRY_BARRIERS);
    return shared;
}

/* ---- the work ------------------------------------------------------------------------------ */

/* The block's own part of the output's channels and of the work. Made anew wherever it is wanted:
 * cheaper than registers held across a phase that has none to spare. */
struct Part {
    int channel_tile, group, first, end; /* channels */
    int unit, unit_end;
};

__device__ __forceinline__ Part block_part(const Arguments &a) {
    Part part;
    part.channel_tile = blockIdx.x % CHANNEL_TILES;
    part.group = part.channel_tile / GROUP_TILES;
    part.first = part.group * OUT_GROUP + part.channel_tile % GROUP_TILES * TILE_REAL;
    part.end = min(part.first + TILE_REAL, (part.group + 1) * OUT_GROUP);
    const long long parts = gridDim.x / CHANNEL_TILES, number = blockIdx.x / CHANNEL_TILES;
    part.unit = static_cast<int>(number * a.units / parts);
    part.unit_end = static_cast<int>((number + 1) * a.units / parts);
    return part;
}

struct Segment {
    int n, z, y, x; /* of its first output pixel; y and x are the box's */
    int rows;       /* along z */
};

__device__ __forceinline__ Segment open_segment(const Arguments &a, int unit, int end) {
    const int units_z = WALKS ? 1 : static_cast<int>(a.out_z);
    const int boxes_x = static_cast<int>(a.boxes_x), boxes_y = static_cast<int>(a.boxes_y);
    const int box = unit / units_z;
    Segment s;
    s.n = box / boxes_x / boxes_y;
    s.z = unit - box * units_z;
    s.y = box / boxes_x % boxes_y * BOX_Y;
    s.x = box % boxes_x * BOX_X;
    s.rows = WALKS ? static_cast<int>(a.out_z) : min(end - unit, units_z - s.z);
    return s;
}

/* The first unit of work behind a segment. */
__device__ __forceinline__ int behind(const Segment &s, int unit) {
    return unit + (WALKS ? 1 : s.rows);
}

__device__ __forceinline__ int segment_slices(const Segment &s) {
    return (s.rows - 1) * STRIDE_Z + REACH_Z;
}

/* ---- weights ------------------------------------------------------------------------------- */

constexpr int WEIGHTS = STAGE_GROUPS * 8 * TAPS; /* of an output channel, absent inputs included */
constexpr int HELD = (WEIGHTS + 31) / 32;
constexpr bool HOLDS = HELD <= 20; /* a lane's share of PACK channels stays in registers */
constexpr int PACK = 2; /* channels that a warp packs at once; for four there are no registers */

/* Weight i, in the order [input channel][tap], of an output channel that begins at `from`. */
__device__ __forceinline__ float read_weight(const Arguments &a, const element *from, int i) {
    if (i >= IN_CHANNELS * TAPS)
        return 0.0f;
    if (WEIGHTS_IN_ORDER)
        return read_only(from + i);
    const int c = i / TAPS, tap = i % TAPS;
    const int z = tap / (KERNEL_Y * KERNEL_X), y = tap / KERNEL_X % KERNEL_Y, x = tap % KERNEL_X;
    const long long zy =
        RING_DEPTH ? z * a.weight_stride.d + y * a.weight_stride.h : z * a.weight_stride.h;
    return read_only(from + c * a.weight_stride.c + zy + x * a.weight_stride.w);
}

__device__ __forceinline__ void store_weight(const Shared &shared, int slot, int i, float weight,
                                             float scale) {
    const unsigned short upper = staged_weight(weight, scale);
    const int c = i / TAPS, tap = i % TAPS;
    unsigned short *at = reinterpret_cast<unsigned short *>(shared.weights) +
                         (tap * TAP_ROWS + c / 8 * TILE_N + slot) * 8 + c % 8;
    if (i < WEIGHTS)
        *at = upper;
    if (PARTS == 2 && i < WEIGHTS) /* what that leaves */
        at[WEIGHT_ROWS * 8] = round_half(weight * scale - unpack_halves(upper).x);
}

/* What a channel's sums are multiplied by and its bias, and the tail's operands. */
__device__ __forceinline__ void fill_tables(const Arguments &a, const Shared &shared, int slot,
                                            int channel, bool present, float scale) {
    const int lane = threadIdx.x % 32;
    if (lane == 0) {
        const float bias = HAS_BIAS && present ? load(a.bias + channel * a.bias_stride.c) : 0.0f;
        shared.scale_bias[slot] = make_float2(GUARDED ? unscale(scale, STAGE_SCALE) : 1.0f, bias);
        shared.weight_scale[slot] = scale;
    }
    for (int k = lane; k < CHANNEL_OPERANDS; k += 32)
        shared.operands[k * TILE_N + slot] = present ? channel_operand(k, channel, a) : 0.0f;
}

/* By the consumers, while producers fill the ring: a warp takes PACK channels at a time, finds the
 * largest finite weight of each, and stores. */
__device__ __forceinline__ void pack_weights(const Arguments &a, const Shared &shared) {
    const Part part = block_part(a);
    const int warp = threadIdx.x / 32 - PRODUCER_WARPS, lane = threadIdx.x % 32;
#pragma unroll 1
    for (int slot = PACK * warp; slot < TILE_N; slot += CONSUMERS * 4 * PACK) {
        float held[PACK][HOLDS ? HELD : 1], largest[PACK] = {};
#pragma unroll
        for (int e = 0; e < PACK; e++) {
            const int channel = part.first + slot + e;
            const bool present = channel < part.end;
            const element *from = a.weight + (present ? channel : part.first) * a.weight_stride.n;
            if (HOLDS) {
#pragma unroll
                for (int k = 0; k < HELD; k++)
                    held[e][HOLDS ? k : 0] = present ? read_weight(a, from, k * 32 + lane) : 0.0f;
            } else if (GUARDED) {
#pragma unroll 4
                for (int i = lane; i < WEIGHTS; i += 32)
                    largest[e] =
                        finite_magnitude(largest[e], present ? read_weight(a, from, i) : 0.0f);
            }
        }
#pragma unroll
        for (int e = 0; e < PACK; e++) {
            const int channel = part.first + slot + e;
            const bool present = channel < part.end;
            const element *from = a.weight + (present ? channel : part.first) * a.weight_stride.n;
            if (GUARDED && HOLDS) {
#pragma unroll
                for (int k = 0; k < HELD; k++)
                    largest[e] = finite_magnitude(largest[e], held[e][HOLDS ? k : 0]);
            }
            float scale = 1.0f;
            if (GUARDED) {
                const unsigned bits = __reduce_max_sync(~0U, __float_as_uint(largest[e]));
                scale = weight_scale(__uint_as_float(bits));
            }
            if (HOLDS) {
#pragma unroll
                for (int k = 0; k < HELD; k++)
                    store_weight(shared, slot + e, k * 32 + lane, held[e][HOLDS ? k : 0], scale);
            } else {
#pragma unroll 4
                for (int i = lane; i < WEIGHTS; i += 32)
                    store_weight(shared, slot + e, i,
                                 present ? read_weight(a, from, i) : 0.0f, scale);
            }
            fill_tables(a, shared, slot + e, channel, present, scale);
        }
    }
    fence_proxy_async();
    barrier_sync(PACKED, CONSUMERS * WARPGROUP);
}

/* ---- producers ----------------------------------------------------------------------------- */

/* A warp's items in order, over the slices that it takes part in. */
struct Turn {
    int slice, item;

    __device__ __forceinline__ Turn next() const {
        const bool same = item + SLICE_WARPS < ITEMS;
        return Turn{same ? slice : slice + SLICES_AT_ONCE,
                    same ? item + SLICE_WARPS : item % SLICE_WARPS};
    }
};

/* Where the slices of a segment come from; open_slice completes it. */
struct Slices {
    Source from;
    const element *image; /* channel 0 of the group, slice 0 */
    long long stride;     /* from slice to slice */
    int z;                /* of the segment's first slice; may lie outside */

    __device__ __forceinline__ void open_slice(const Arguments &a, int slice) {
        from.inside = static_cast<unsigned>(z + slice) < static_cast<unsigned>(a.in_z);
        from.origin = image + (z + slice) * stride;
    }
};

__device__ __forceinline__ Slices open_slices(const Arguments &a, const Segment &s, int group) {
    Slices of;
    of.image = a.input + s.n * a.input_stride.n + group * IN_CHANNELS * a.input_stride.c;
    of.stride = RING_DEPTH ? a.input_stride.d : a.input_stride.h;
    of.z = s.z * STRIDE_Z - PADDING_Z;
    of.from.y = s.y * STRIDE_Y - PADDING_Y;
    of.from.x = s.x * STRIDE_X - STAGE_LEFT;
    of.from.height = RING_DEPTH ? static_cast<int>(a.in_y) : 1;
    of.from.width = static_cast<int>(a.in_x);
    of.from.channel_stride = a.input_stride.c;
    of.from.row_stride = RING_DEPTH ? a.input_stride.h : 0;
    of.from.column_stride = ALONG_X > 1 ? 1 : a.input_stride.w;
    return of;
}

//@ include ring_guard.cuh

__device__ __forceinline__ void produce(const Arguments &a, const Shared &shared) {
    const Part part = block_part(a);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int staged = 0, turn = 0, unit = part.unit;
    while (unit < part.unit_end) {
        const Segment s = open_segment(a, unit, part.unit_end);
        const int slices = segment_slices(s);
        float largest = 0.0f;
        Slices of = open_slices(a, s, part.group);
        auto fetch = [&](Turn at, Fetched &to) {
            of.open_slice(a, at.slice);
            fetch_item(of.from, at.item, lane, to);
        };
        /* Stores one item, and fetches the next: before, where there are registers for two. */
        Turn at = {warp / SLICE_WARPS, warp % SLICE_WARPS};
        auto step = [&](Fetched &current, Fetched &following) {
            const Turn next = at.next();
            const bool more = next.slice < slices;
            if (PREFETCH && more)
                fetch(next, following);
            const int number = staged + at.slice, slot = number % STAGES;
            if (at.item < SLICE_WARPS) {
                if (AHEAD > 0 && at.slice + AHEAD < slices) {
                    of.open_slice(a, at.slice + AHEAD);
                    prefetch_slice(of.from, warp % SLICE_WARPS, SLICE_WARPS, lane);
                }
                mbarrier_wait(shared.empty + 8 * slot, number / STAGES & 1 ^ 1);
            }
            store_item(shared.ring + slot * STAGE_BYTES, at.item, lane, current, largest);
            if (next.slice != at.slice) {
                fence_proxy_async();
                __syncwarp();
                if (lane == 0)
                    mbarrier_arrive(shared.full + 8 * slot);
            }
            at = next;
            if (!PREFETCH && more)
                fetch(next, following);
            return more;
        };
        if (warp < SLICES_AT_ONCE * SLICE_WARPS && at.slice < slices) {
            Fetched items[PREFETCH ? 2 : 1];
            fetch(at, items[0]);
#pragma unroll 1
            while (step(items[0], items[PREFETCH]) &&
                   (!PREFETCH || step(items[PREFETCH], items[0])))
                ;
        }
        staged += slices;
        if (GUARDED)
            staged = judge(a, shared, of, slices, staged, largest, turn);
        unit = behind(s, unit);
    }
}

/* ---- consumers ----------------------------------------------------------------------------- */

/* A consumer's view of the ring: it waits for every slice and gives every slice back, in order, so
 * that each use of a slot counts each warp once. */
struct Ring {
    int reading, parity; /* slot of the next slice to wait for, and the parity of its use */
    int freeing;         /* slot of the next slice to give back */
    int read, freed;     /* slices of the segment so far */
    unsigned seen;       /* which of the next slices are known to be full, as bits */

    /* Looks ahead, so that the answers come while a tail runs: barriers answer slowly while
     * products keep shared memory busy. Less than STAGES ahead: a slot's use before has then been
     * seen, and its parity tells. */
    __device__ __forceinline__ void look(const Shared &shared, int slices) {
        seen = 0;
        int slot = reading, its_parity = parity;
#pragma unroll
        for (int i = 0; i < STEP_Z * STRIDE_Z && i < STAGES && i < 8; i++) {
            if (read + i < slices && mbarrier_test(shared.full + 8 * slot, its_parity))
                seen |= 1u << i;
            slot++;
            its_parity ^= slot == STAGES;
            slot = slot == STAGES ? 0 : slot;
        }
    }
    __device__ __forceinline__ void wait_for(const Shared &shared, int slices) {
        for (; read < slices; read++) {
            if (!(seen & 1))
                mbarrier_wait(shared.full + 8 * reading, parity);
            seen >>= 1;
            reading++;
            if (reading == STAGES) {
                reading = 0;
                parity ^= 1;
            }
        }
    }
    /* signals: true in one thread of the warp. Every warp gives back for itself: one may still be
     * in a tail, far behind. */
    __device__ __forceinline__ void give_back(const Shared &shared, int slices, bool signals) {
        for (; freed < slices; freed++) {
            wait_for(shared, freed + 1);
            if (signals)
                mbarrier_arrive(shared.empty + 8 * freeing);
            freeing = freeing + 1 == STAGES ? 0 : freeing + 1;
        }
    }
};

/* Two groups of products: those of the filter's first slice, so that it can be given back, and the
 * rest. */
__device__ __forceinline__ void multiply(Tile &tile, const Filter &filter, const Shared &shared,
                                         int slot, int first_pixel) {
    unsigned weights = shared_address(shared.weights);
    /* Unknown anew for every tile: or else the compiler keeps a descriptor of each product across
     * all tiles, and has no registers left. */
    asm volatile("" : "+r"(weights));
    const unsigned ring = shared_address(shared.ring) + first_pixel * 16;
    wgmma_fence();
#pragma unroll UNROLL_Z
    for (int z = 0; z < KERNEL_Z; z++) {
        if (KERNEL_Z > 1 && z == 1)
            wgmma_commit();
        int at = slot + z * DILATION_Z;
        at -= at >= STAGES ? STAGES : 0;
#pragma unroll UNROLL_Y
        for (int y = 0; y < KERNEL_Y; y++)
#pragma unroll UNROLL_X
            for (int x = 0; x < KERNEL_X; x++)
                multiply_tap(
                    tile.d, filter,
                    ring + at * STAGE_BYTES +
                        staged_pixel(y * DILATION_Y, x * DILATION_X + STAGE_LEFT - PADDING_X) * 16,
                    weights, (z * KERNEL_Y + y) * KERNEL_X + x, 0, z + y + x != 0);
    }
    wgmma_commit();
}

//@ include ring_parts.cuh

/* The verdict behind the `slices` of a segment; 0: what was made of it stands. */
__device__ __forceinline__ float receive_verdict(Ring &ring, const Shared &shared, int slices,
                                                 bool signals) {
    ring.wait_for(shared, slices + 1);
    const float scale = shared.verdict[ring.freeing];
    __syncwarp();
    ring.give_back(shared, slices + 1, signals);
    return scale;
}

/* Scales the sums of what was staged at this scale. All consumers meet: none is in a tail that
 * wants the old ones, and what was stored before comes before what is stored anew. */
__device__ __forceinline__ void rescale(const Shared &shared, float scale) {
    barrier_sync(PACKED, CONSUMERS * WARPGROUP);
    for (int slot = threadIdx.x - PRODUCERS * WARPGROUP; slot < TILE_N;
         slot += CONSUMERS * WARPGROUP)
        shared.scale_bias[slot].x = unscale(shared.weight_scale[slot], scale);
    barrier_sync(PACKED, CONSUMERS * WARPGROUP);
}

__device__ __forceinline__ void consume(const Arguments &a, const Shared &shared) {
    const Part part = block_part(a);
    const int consumer = (threadIdx.x - PRODUCERS * WARPGROUP) / WARPGROUP;
    const bool signals = threadIdx.x % 32 == 0;
    Tile tile;
    tile.scale_bias = shared.scale_bias;
    tile.operands = shared.operands;
    tile.channel_first = part.first;
    tile.channel_end = part.end;
    open_tile(tile, shared, consumer);
    Sums others; /* of the spans before the last */
    Filter filter;
    load_filter(filter, shared.weights);
    Ring ring = {0, 0, 0, 0, 0, 0};
    const int next = consumer + 1 == CONSUMERS ? 0 : consumer + 1;
    int ahead = consumer; /* its first tile of the segment */
    if (TAKES_TURNS && next == 0)
        barrier_arrive(TURNS, 2 * WARPGROUP); /* the first consumer begins */
    int unit = part.unit, tiles = 0; /* of the segments before */
    bool anew = false; /* this segment has been made before */
    while (unit < part.unit_end) {
        const Segment s = open_segment(a, unit, part.unit_end);
        const int slices = segment_slices(s);
        ring.read = ring.freed = 0;
        tile.pixels.box = {s.n,
                           s.z,
                           s.y,
                           s.x,
                           RING_DEPTH ? static_cast<int>(a.out_y) : 1,
                           static_cast<int>(a.out_x),
                           ahead % ROW_TILES * CONSUMER_PIXELS};
        Tail tail;
        if (WALKS)
            tail.begin(tile);
        int t = ahead;
#pragma unroll 1
        for (; t < s.rows * ROW_TILES; t += CONSUMERS) {
            const int row = t / ROW_TILES, following = (t + CONSUMERS) / ROW_TILES;
            const int first_pixel = t % ROW_TILES * CONSUMER_PIXELS;
            ring.give_back(shared, row * STRIDE_Z, signals);
            ring.wait_for(shared, row * STRIDE_Z + REACH_Z);
            if (TAKES_TURNS)
                barrier_sync(TURNS + consumer, 2 * WARPGROUP);
            if (PARTS == 1)
                multiply(tile, filter, shared, ring.freeing, first_pixel);
            else
                multiply_parts(tile, others, filter, shared, ring.freeing, first_pixel);
            if (TAKES_TURNS)
                barrier_arrive(TURNS + next, 2 * WARPGROUP);
            if (KERNEL_Z > 1 && FIRST_TAPS >= KERNEL_Y * KERNEL_X) {
                wgmma_wait<1>();
                ring.give_back(shared, min(row * STRIDE_Z + DILATION_Z, following * STRIDE_Z),
                               signals);
            }
            wgmma_wait<0>();
            if (SPANS > 1)
                add_sums(tile.d, others);
            ring.give_back(shared, min(following * STRIDE_Z, ring.read), signals);
            ring.look(shared, slices);
            tile.pixels.box.z = s.z + row;
            tile.pixels.box.first = first_pixel;
            begin_tile(tile, tiles + t, row, s.rows);
            tail.step(tile, a);
        }
        tiles += s.rows * ROW_TILES;
        ahead = t - s.rows * ROW_TILES;
        ring.give_back(shared, slices, signals);
        if (WALKS) {
            tile.pixels.box.z = s.z;
            begin_tile(tile, tiles, 0, 1);
            tail.end(tile, a);
        }
        if (GUARDED) {
            const float scale = anew ? 0.0f : receive_verdict(ring, shared, slices, signals);
            if (anew || scale != 0.0f) {
                rescale(shared, scale != 0.0f ? scale : STAGE_SCALE);
                forget_scales(tile);
            }
            anew = scale != 0.0f;
        }
        unit = anew ? unit : behind(s, unit);
    }
}

/* ---- the kernel ---------------------------------------------------------------------------- */

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    segue_conv_wgmma_ring(const __grid_constant__ Arguments a) {
    extern __shared__ __align__(128) unsigned char memory[];
    const Shared shared = share(memory);
    if (threadIdx.x < STAGES) {
        mbarrier_init(shared.full + 8 * threadIdx.x, SLICE_WARPS);
        mbarrier_init(shared.empty + 8 * threadIdx.x, CONSUMERS * 4);
    }
    for (int i = threadIdx.x; i < CARRY_BARRIERS; i += THREADS)
        mbarrier_init(shared.passed + 8 * i, 1);
    __syncthreads();
    if (threadIdx.x < PRODUCERS * WARPGROUP) {
        setmaxnreg_dec<PRODUCER_REGISTERS>();
        produce(a, shared);
    } else {
        setmaxnreg_inc<CONSUMER_REGISTERS>();
        pack_weights(a, shared);
        consume(a, shared);
    }
}
