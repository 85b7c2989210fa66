/* A tile spread over all threads of a block, as a grid of lanes (pixels) by groups (channels).
 *
 * Thread (lane, group) holds THREAD_PIXELS x THREAD_CHANNELS values. Constants from the lowering:
 *   LANES, GROUPS            threads along pixels and along channels
 *   WARP_LANES               lanes of one warp; its other threads are 32 / WARP_LANES groups
 *   GROUPS_FIRST             in a warp, groups are neighbours (channels are contiguous), else lanes
 *   THREAD_PIXELS, RUN       pixels of a thread, in runs of RUN neighbours
 *   THREAD_CHANNELS, BUNCH   channel slots of a thread, in bunches of BUNCH neighbours
 *   PIXEL_VECTOR             neighbouring pixels that lie in one row and may be moved at once
 *   ROWS_ALIGNED             every tensor whose pixels are neighbours along w can be moved so
 *   CHANNEL_VECTOR           the same for neighbouring channels
 *   ALL_CHANNELS             channels of the region
 *   CHANNEL_TILES            pieces that blocks share the channels out in
 *   SHARED_WALK              lanes take different steps of a walk, else different pixels
 *   VECTOR_WALK              so do the pixels of a thread: neighbours of one row, which is walked
 *   GROUP_WALK               groups take different steps of a walk: there is but one channel
 *   BOX_COLUMNS              0: pixels in their order; else a block has a box of them, lanes along
 *                            w in rows of BOX_COLUMNS, the pixels of a thread below each other
 *   HAS_N .. HAS_W, WALK_D .. WALK_W   axes larger than one; axes that are walked
 *   HAS_WALK, HAS_ANCHOR     whether any is; whether `acc` has values
 *   index_t                  a type that counts the pixels
 *   TILE_WALKS               running values with channels
 *   KEPT                     operands that are read once, into registers: their numbers are what
 *                            kept_number(address of the stride, a) gives for them, else -1
 * Arguments size_n .. size_w are the region's sizes, by_d .. by_w what divides by them. */
constexpr int THREADS = LANES * GROUPS;
constexpr int WARP_GROUPS = 32 / WARP_LANES;
constexpr int LANE_WARPS = LANES / WARP_LANES;
constexpr int GROUP_WARPS = GROUPS / WARP_GROUPS;
constexpr int TILE_PIXELS = LANES * THREAD_PIXELS;
constexpr int TILE_CHANNELS = GROUPS * THREAD_CHANNELS;
/* Pixels of the result that a block makes. */
constexpr int UNIT_PIXELS = VECTOR_WALK ? 1 : SHARED_WALK ? THREAD_PIXELS : TILE_PIXELS;
/* Steps of a walk that the lanes take at once. */
constexpr int WALK_STEP = VECTOR_WALK ? TILE_PIXELS : SHARED_WALK ? LANES : GROUP_WALK ? GROUPS : 1;
constexpr bool JOINED_WALK = SHARED_WALK || GROUP_WALK;
constexpr int COLUMNS = BOX_COLUMNS > 0 ? BOX_COLUMNS : 1;
constexpr bool EVEN_CHANNELS = ALL_CHANNELS == CHANNEL_TILES * TILE_CHANNELS;

constexpr int JOIN_SCRATCH = SHARED_WALK  ? 2 * THREADS / 32 * WARP_GROUPS
                             : GROUP_WALK ? 2 * GROUP_WARPS * LANES
                                          : 0;
constexpr int REDUCE_SCRATCH = GROUP_WARPS > 1 ? (GROUP_WARPS + 1) * TILE_PIXELS : 0;
constexpr int SCRATCH = JOIN_SCRATCH > REDUCE_SCRATCH ? JOIN_SCRATCH : REDUCE_SCRATCH;

__device__ real channel_operand(int k, int c, const Arguments &a);

/* number / size, and what is left. by: a factor of 32 bits, and above it how far to shift the
 * upper half of twice the product (Granlund and Montgomery, Division by Invariant Integers, 1994);
 * exact below 2^31. */
__device__ __forceinline__ index_t divide(index_t &number, long long size, long long by) {
    index_t quotient;
    if constexpr (sizeof(index_t) == 4)
        quotient = __umulhi(2 * unsigned(number), unsigned(by)) >> (by >> 32);
    else
        quotient = number / index_t(size);
    number -= quotient * index_t(size);
    return quotient;
}
//@ kept

/* `count` neighbouring elements, in as few accesses as 16 bytes allow. */
template <int COUNT, class T> __device__ __forceinline__ void load_vector(const T *from, real *to) {
    constexpr int BYTES = COUNT * int(sizeof(T));
    if constexpr (BYTES % 16 == 0) {
#pragma unroll
        for (int i = 0; i < BYTES / 16; i++) {
            const uint4 bits = __ldg((const uint4 *)from + i);
            const T *element = (const T *)&bits;
#pragma unroll
            for (int k = 0; k < 16 / int(sizeof(T)); k++)
                to[i * (16 / int(sizeof(T))) + k] = load(element + k);
        }
    } else if constexpr (BYTES == 8 || BYTES == 4) {
        uint2 bits;
        if constexpr (BYTES == 8)
            bits = __ldg((const uint2 *)from);
        else
            bits.x = __ldg((const unsigned *)from);
        const T *element = (const T *)&bits;
#pragma unroll
        for (int k = 0; k < COUNT; k++)
            to[k] = load(element + k);
    } else {
#pragma unroll
        for (int k = 0; k < COUNT; k++)
            to[k] = load(from + k);
    }
}

template <int COUNT, class T>
__device__ __forceinline__ void store_vector(T *to, const real *from) {
    constexpr int BYTES = COUNT * int(sizeof(T));
    constexpr int PIECE = BYTES % 16 == 0 ? 16 : BYTES == 8 || BYTES == 4 ? BYTES : int(sizeof(T));
    constexpr int EACH = PIECE / int(sizeof(T));
#pragma unroll
    for (int i = 0; i < COUNT / EACH; i++) {
        uint4 bits;
#pragma unroll
        for (int k = 0; k < EACH; k++)
            store((T *)&bits + k, from[i * EACH + k]);
        if constexpr (PIECE == 16)
            *((uint4 *)to + i) = bits;
        else if constexpr (PIECE == 8)
            *((uint2 *)to + i) = make_uint2(bits.x, bits.y);
        else if constexpr (PIECE == 4)
            *((unsigned *)to + i) = bits.x;
        else
            to[i] = *(T *)&bits;
    }
}

struct Tile {
    static constexpr int PIXELS = THREAD_PIXELS, CHANNELS = THREAD_CHANNELS, OWN = THREAD_PIXELS;

    int lane, group;
    int first_channel;
    const Arguments &a;
    real *scratch;
    bool inside[PIXELS]; // the pixel lies in the output, and this thread's step in the walk
    Place at[PIXELS];
    real sum[HAS_ANCHOR ? CHANNELS * PIXELS : 1];
    real pending[BUNCH][PIXELS];
    real running[TILE_WALKS > 0 ? TILE_WALKS * CHANNELS * PIXELS : 1];
    real kept[KEPT > 0 ? KEPT * CHANNELS * PIXELS : 1];

    __device__ __forceinline__ Tile(const Arguments &arguments, real *shared)
        : a(arguments), scratch(shared) {
        const int warp = threadIdx.x / 32, thread = threadIdx.x % 32;
        const int warp_lane = GROUPS_FIRST ? thread / WARP_GROUPS : thread % WARP_LANES;
        const int warp_group = GROUPS_FIRST ? thread % WARP_GROUPS : thread / WARP_LANES;
        lane = warp % LANE_WARPS * WARP_LANES + warp_lane;
        group = warp / LANE_WARPS * WARP_GROUPS + warp_group;
        first_channel = CHANNEL_TILES > 1 ? int(blockIdx.x % CHANNEL_TILES) * TILE_CHANNELS : 0;
    }

    /* ---- which pixels ------------------------------------------------------------------------ */
    __device__ __forceinline__ index_t unit() const { return index_t(blockIdx.x) / CHANNEL_TILES; }

    /* Takes the innermost axis off `rest`; above: whether there are axes above it, else everything
     * that is left belongs to this one. */
    static __device__ __forceinline__ int take(index_t &rest, bool above, long long size,
                                               long long by) {
        index_t at = rest;
        rest = above ? divide(at, size, by) : 0;
        return int(at);
    }
    /* Pixel number `number` of those that are kept, w fastest; false past the last one. */
    __device__ __forceinline__ bool kept_place(index_t number, Place &place) const {
        constexpr bool D = HAS_D && !WALK_D, H = HAS_H && !WALK_H, W = HAS_W && !WALK_W;
        index_t rest = number;
        place.n = place.d = place.h = place.w = 0;
        if (W)
            place.w = take(rest, HAS_N || D || H, a.size_w, a.by_w);
        if (H)
            place.h = take(rest, HAS_N || D, a.size_h, a.by_h);
        if (D)
            place.d = take(rest, HAS_N, a.size_d, a.by_d);
        if (HAS_N)
            place.n = int(rest);
        return number < index_t(a.kept_count);
    }

    /* Position `number` of the walk, w fastest; false past the end. */
    __device__ __forceinline__ bool walk_place(index_t number, Place &place) const {
        constexpr bool D = HAS_D && WALK_D, H = HAS_H && WALK_H, W = HAS_W && WALK_W;
        index_t rest = number;
        if (W)
            place.w = take(rest, D || H, a.size_w, a.by_w);
        if (H)
            place.h = take(rest, D, a.size_h, a.by_h);
        if (D)
            place.d = int(rest);
        return number < index_t(a.walk_count);
    }

    /* Pixel `number` of a block's TILE_PIXELS at a step of the walk. */
    __device__ __forceinline__ bool tile_place(int number, index_t step, Place &place) const {
        if constexpr (VECTOR_WALK) {
            bool kept = kept_place(unit(), place);
            return walk_place(step * TILE_PIXELS + number, place) && kept;
        } else if constexpr (SHARED_WALK) {
            /* [pixel][lane] */
            bool kept = kept_place(unit() * UNIT_PIXELS + number / LANES, place);
            return walk_place(step * LANES + number % LANES, place) && kept;
        } else if constexpr (BOX_COLUMNS > 0) {
            /* Only the position in the box is left to say: boxes are numbered w fastest. */
            constexpr int ROWS = TILE_PIXELS / COLUMNS;
            const index_t across = (index_t(a.size_w) + COLUMNS - 1) / COLUMNS;
            const index_t down = (index_t(a.size_h) + ROWS - 1) / ROWS;
            index_t rest = unit();
            place.w = int(rest % across) * COLUMNS + number % COLUMNS;
            rest /= across;
            place.h = int(rest % down) * ROWS + number / COLUMNS;
            rest /= down;
            place.d = HAS_D && !WALK_D ? int(rest % index_t(a.size_d)) : int(step);
            place.n = int(HAS_D && !WALK_D ? rest / index_t(a.size_d) : rest);
            return place.w < a.size_w && place.h < a.size_h;
        } else {
            bool kept = kept_place(unit() * UNIT_PIXELS + number, place);
            if (GROUP_WALK)
                kept = walk_place(step * GROUPS + group, place) && kept;
            else if (HAS_WALK)
                walk_place(step, place);
            return kept;
        }
    }
    /* Number of pixel p of this thread among the block's. */
    __device__ __forceinline__ int number_of(int p) const {
        if constexpr (VECTOR_WALK)
            return lane * PIXELS + p;
        else if constexpr (SHARED_WALK)
            return p * LANES + lane;
        else if constexpr (BOX_COLUMNS > 0)
            return (lane / COLUMNS * PIXELS + p) * COLUMNS + lane % COLUMNS;
        else
            return p / RUN * (LANES * RUN) + lane * RUN + p % RUN;
    }

    /* Sets the places of this thread's pixels. */
    __device__ __forceinline__ void locate(index_t step) {
#pragma unroll
        for (int p = 0; p < PIXELS; p++) {
            if (PIXEL_VECTOR > 1 && p % PIXEL_VECTOR != 0) {
                inside[p] = inside[p - 1];
                at[p] = at[p - 1];
                at[p].w++;
            } else {
                inside[p] = tile_place(number_of(p), step, at[p]);
            }
        }
    }

    __device__ __forceinline__ bool valid(int p) const { return inside[p]; }
    __device__ __forceinline__ Place place(int p) const { return at[p]; }
    __device__ __forceinline__ bool own_valid(int q) const { return inside[q]; }
    __device__ __forceinline__ Place own_place(int q) const { return at[q]; }

    /* ---- channels ---------------------------------------------------------------------------- */
    __device__ __forceinline__ int channel_of(int in_group, int j) const {
        return GROUP_WALK
                   ? 0
                   : first_channel + j / BUNCH * (GROUPS * BUNCH) + in_group * BUNCH + j % BUNCH;
    }
    __device__ __forceinline__ int channel(int j) const { return channel_of(group, j); }
    __device__ __forceinline__ bool has(int j) const {
        const bool always =
            EVEN_CHANNELS || GROUP_WALK ||
            (CHANNEL_TILES == 1 && (j / BUNCH + 1) * GROUPS * BUNCH <= ALL_CHANNELS);
        return always || channel(j) < ALL_CHANNELS;
    }
    __device__ __forceinline__ real acc(int p, int j) const { return sum[j * PIXELS + p]; }
    __device__ __forceinline__ real &result(int p, int j) { return sum[j * PIXELS + p]; }
    using Results = real[HAS_ANCHOR ? CHANNELS * PIXELS : 1];
    __device__ __forceinline__ Results &results() { return sum; }
    __device__ __forceinline__ real per_channel(int k, int j) const {
        return channel_operand(k, channel(j), a);
    }
    __device__ __forceinline__ real &walk(int k, int p, int j) {
        return running[(k * CHANNELS + j) * PIXELS + p];
    }

    /* ---- together ---------------------------------------------------------------------------- */
    __device__ __forceinline__ void reduce(Combine combine, const real *in, real *out) {
#pragma unroll
        for (int p = 0; p < PIXELS; p++) {
            out[p] = in[p];
#pragma unroll
            for (int i = 1; i < (GROUP_WALK ? 1 : WARP_GROUPS); i *= 2) {
                const int mask = GROUPS_FIRST ? i : i * WARP_LANES;
                out[p] = combine(out[p], __shfl_xor_sync(0xffffffffu, out[p], mask));
            }
        }
        if constexpr (GROUP_WARPS > 1 && !GROUP_WALK) {
            const int row = group / WARP_GROUPS;
            __syncthreads(); // the scratch may still be read from the last time
            if (group % WARP_GROUPS == 0) {
#pragma unroll
                for (int p = 0; p < PIXELS; p++)
                    scratch[row * TILE_PIXELS + p * LANES + lane] = out[p];
            }
            __syncthreads();
            if constexpr (GROUP_WARPS <= 4) {
#pragma unroll
                for (int p = 0; p < PIXELS; p++) {
                    out[p] = scratch[p * LANES + lane];
#pragma unroll
                    for (int i = 1; i < GROUP_WARPS; i++)
                        out[p] = combine(out[p], scratch[i * TILE_PIXELS + p * LANES + lane]);
                }
            } else {
                real *whole = scratch + GROUP_WARPS * TILE_PIXELS;
                for (int x = threadIdx.x; x < TILE_PIXELS; x += THREADS) {
                    real value = scratch[x];
#pragma unroll
                    for (int i = 1; i < GROUP_WARPS; i++)
                        value = combine(value, scratch[i * TILE_PIXELS + x]);
                    whole[x] = value;
                }
                __syncthreads();
#pragma unroll
                for (int p = 0; p < PIXELS; p++)
                    out[p] = whole[p * LANES + lane];
            }
        }
    }
    __device__ __forceinline__ void spread(const real *in, real *out) {
#pragma unroll
        for (int p = 0; p < PIXELS; p++)
            out[p] = in[p];
    }

    /* ---- memory ------------------------------------------------------------------------------ */
    __device__ __forceinline__ long long offset(const Stride &stride, int p) const {
        long long sum = 0;
        if (HAS_N)
            sum += at[p].n * stride.n;
        if (HAS_D)
            sum += at[p].d * stride.d;
        if (HAS_H)
            sum += at[p].h * stride.h;
        if (HAS_W)
            sum += at[p].w * stride.w;
        return sum;
    }

    template <int V, class T>
    __device__ __forceinline__ void load_pixels(const T *from, const Stride &stride, real *out) {
        constexpr int STEP = V >= PIXEL_VECTOR ? PIXEL_VECTOR : 1;
        const bool row = PIXEL_VECTOR > 1 && V < PIXEL_VECTOR && stride.w == 0; // one value a row
#pragma unroll
        for (int p = 0; p < PIXELS; p += STEP) {
            if (p % PIXEL_VECTOR != 0 && row) {
                out[p] = out[p - 1];
                continue;
            }
#pragma unroll
            for (int i = 0; i < STEP; i++)
                out[p + i] = 0;
            if (inside[p])
                load_vector<STEP>(from + offset(stride, p), out + p);
        }
    }
    template <class T>
    __device__ __forceinline__ void load_own(const T *from, const Stride &stride, real *out) {
        if (ROWS_ALIGNED && PIXEL_VECTOR > 1 && stride.w == 1)
            load_pixels<PIXEL_VECTOR>(from, stride, out);
        else
            load_pixels<1>(from, stride, out);
    }
    /* Operand `number` to registers, zero in slots that are padding. */
    template <int V, class T>
    __device__ __forceinline__ void keep(int number, const T *from, const Stride &stride) {
#pragma unroll
        for (int j = 0; j < CHANNELS; j++) {
            real *to = kept + (number * CHANNELS + j) * PIXELS;
#pragma unroll
            for (int p = 0; p < PIXELS; p++)
                to[p] = 0;
            if (has(j))
                read_tile<V>(from, stride, j, to);
        }
    }
    template <int V, class T>
    __device__ __forceinline__ void load_tile(const T *from, const Stride &stride, int j,
                                              real *out) {
        const int number = KEPT > 0 ? kept_number(&stride, a) : -1; // known to the compiler
        if (number < 0) {
            read_tile<V>(from, stride, j, out);
            return;
        }
#pragma unroll
        for (int p = 0; p < PIXELS; p++)
            out[p] = kept[(number * CHANNELS + j) * PIXELS + p];
    }
    template <int V, class T>
    __device__ __forceinline__ void read_tile(const T *from, const Stride &stride, int j,
                                              real *out) {
        if constexpr (CHANNEL_VECTOR > 1) {
            /* The whole vector, of which the compiler makes one load for all its slots. */
#pragma unroll
            for (int p = 0; p < PIXELS; p++) {
                real vector[CHANNEL_VECTOR];
#pragma unroll
                for (int i = 0; i < CHANNEL_VECTOR; i++)
                    vector[i] = 0;
                if (inside[p])
                    load_vector<CHANNEL_VECTOR>(
                        from + offset(stride, p) + channel(j - j % CHANNEL_VECTOR), vector);
                out[p] = vector[j % CHANNEL_VECTOR];
            }
        } else {
            load_pixels<V>(from + channel(j) * stride.c, stride, out);
        }
    }

    /* Stores when the last pixel of a slot, or of a vector of slots, is there. */
    template <int V, class T>
    __device__ __forceinline__ void put(T *to, const Stride &stride, int p, int j, real value) {
        pending[j % BUNCH][p] = value;
        if constexpr (CHANNEL_VECTOR > 1) {
            if (p != PIXELS - 1 || j % CHANNEL_VECTOR != CHANNEL_VECTOR - 1)
                return;
#pragma unroll
            for (int q = 0; q < PIXELS; q++) {
                real vector[CHANNEL_VECTOR];
#pragma unroll
                for (int i = 0; i < CHANNEL_VECTOR; i++)
                    vector[i] = pending[j % BUNCH - (CHANNEL_VECTOR - 1) + i][q];
                if (stores(q))
                    store_vector<CHANNEL_VECTOR>(
                        to + offset(stride, q) + channel(j - (CHANNEL_VECTOR - 1)), vector);
            }
        } else {
            constexpr int STEP = V >= PIXEL_VECTOR && !VECTOR_WALK ? PIXEL_VECTOR : 1;
            if (p % STEP == STEP - 1 && stores(p))
                store_vector<STEP>(to + channel(j) * stride.c + offset(stride, p - (STEP - 1)),
                                   pending[j % BUNCH] + (p - (STEP - 1)));
        }
    }
    template <int V, class T> __device__ __forceinline__ void flush(T *, const Stride &) {}

    /* A walk that lanes shared has its result in all of them; one that pixels shared, in the last
     * pixel. */
    __device__ __forceinline__ bool stores(int p) const {
        return inside[p] && (!SHARED_WALK || lane == 0) && (!GROUP_WALK || group == 0) &&
               (!VECTOR_WALK || p == PIXELS - 1);
    }
    template <class T>
    __device__ __forceinline__ void store_own(T *to, const Stride &stride, const real *in) {
        constexpr int STEP = VECTOR_WALK ? 1 : PIXEL_VECTOR;
#pragma unroll
        for (int p = 0; p < PIXELS; p += STEP) {
            if ((GROUPS > 1 && !GROUP_WALK && p / STEP % GROUPS != group) || !stores(p))
                continue;
            T *first = to + offset(stride, p);
            /* Vectors lie in one row; whether at their own multiple, the address says. */
            if (STEP > 1 && stride.w == 1 && (unsigned long long)first % (STEP * sizeof(T)) == 0) {
                store_vector<STEP>(first, in + p);
            } else {
#pragma unroll
                for (int i = 0; i < STEP; i++)
                    store(to + offset(stride, p + i), in[p + i]);
            }
        }
    }
};

/* Joins what threads found on their steps of a walk: lanes of one group, or groups of one lane. */
struct Join {
    static constexpr int WARP_SHARE = SHARED_WALK ? WARP_LANES : WARP_GROUPS; // of one warp
    static constexpr int WARPS = SHARED_WALK ? LANE_WARPS : GROUP_WARPS;      // that share, too
    static constexpr int DISTANCE =
        SHARED_WALK == GROUPS_FIRST ? (SHARED_WALK ? WARP_GROUPS : WARP_LANES) : 1;

    Tile &tile;
    int calls = 0;
    real gathered = 0, gathered_rest = 0;

    explicit __device__ __forceinline__ Join(Tile &t) : tile(t) {}

    /* Value of a thread at distance i of those of the warp that share. */
    static __device__ __forceinline__ real across(real value, int i) {
        return __shfl_xor_sync(0xffffffffu, value, i * DISTANCE);
    }
    /* Where warp number `warp` of those that share leaves what this thread's share found. */
    __device__ __forceinline__ real *place(int warp) const {
        if (SHARED_WALK)
            return tile.scratch +
                   2 * ((tile.group / WARP_GROUPS * LANE_WARPS + warp) * WARP_GROUPS +
                        tile.group % WARP_GROUPS);
        return tile.scratch + 2 * (warp * LANES + tile.lane);
    }
    __device__ __forceinline__ void publish(real value, real rest) const {
        const int mine = SHARED_WALK ? tile.lane : tile.group;
        __syncthreads(); // the scratch may still be read from the last time
        if (mine % WARP_SHARE == 0) {
            real *to = place(mine / WARP_SHARE);
            to[0] = value;
            to[1] = rest;
        }
        __syncthreads();
    }

    /* Calls come pixel by pixel for each running value: where pixels shared the walk, what they
     * found gathers, and the last call returns the whole. */
    __device__ __forceinline__ bool is_first() const {
        return !VECTOR_WALK || calls % Tile::PIXELS == 0;
    }
    __device__ __forceinline__ bool is_last() const {
        return !VECTOR_WALK || calls % Tile::PIXELS == Tile::PIXELS - 1;
    }

    __device__ __forceinline__ real operator()(Combine combine, real value) {
        if (!is_first())
            value = combine(gathered, value);
        gathered = value;
        if (is_last()) {
#pragma unroll
            for (int i = 1; i < WARP_SHARE; i *= 2)
                value = combine(value, across(value, i));
            if constexpr (WARPS > 1) {
                publish(value, 0);
                value = place(0)[0];
#pragma unroll
                for (int i = 1; i < WARPS; i++)
                    value = combine(value, place(i)[0]);
            }
        }
        calls++;
        return value;
    }

    /* (value, rest) + (other, other_rest), the same from either side. */
    static __device__ __forceinline__ void add(real &value, real &rest, real other,
                                               real other_rest) {
        real lost = 0;
        add_compensated(value, lost, other);
        rest = rest + other_rest + lost;
    }
    __device__ __forceinline__ void sum(real &value, real &rest) {
        if (!is_first())
            add(value, rest, gathered, gathered_rest);
        gathered = value;
        gathered_rest = rest;
        if (is_last()) {
#pragma unroll
            for (int i = 1; i < WARP_SHARE; i *= 2) {
                const real other = across(value, i), other_rest = across(rest, i);
                add(value, rest, other, other_rest);
            }
            if constexpr (WARPS > 1) {
                publish(value, rest);
                value = place(0)[0];
                rest = place(0)[1];
#pragma unroll
                for (int i = 1; i < WARPS; i++)
                    add(value, rest, place(i)[0], place(i)[1]);
            }
        }
        calls++;
    }
};
