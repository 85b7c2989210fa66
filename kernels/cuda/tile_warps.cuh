/* The tile of warps that share pixels and channels out: warp (p, c) of WARPS_P x WARPS_C has
 * TILES_P x 8 pixels by TILES_C x 16 channels, as `mma.sync` leaves them with channels as rows: a
 * lane holds channels lane / 4 and + 8 of every 16, and pixels 2 * (lane % 4) and + 1 of every 8.
 * So a pixel is shared by eight lanes of WARPS_C warps. A reduction over channels halves what a
 * lane keeps at each exchange while it can; what is reduced is owned by the same lanes in every
 * warp along the channels. */

/* Sums of the products; small: in class fp32 those of low parts; where BLOCKED those of
 * a few steps. */
struct Sums {
    real total[TILES_P][TILES_C][4];
    real small[TILES_P][TILES_C][4];

    __device__ __forceinline__ void clear() {
        SG_UNROLL
        for (int i = 0; i < TILES_P * TILES_C * 4; i++) {
            total[i / 4 / TILES_C][i / 4 % TILES_C][i % 4] = 0;
            small[i / 4 / TILES_C][i / 4 % TILES_C][i % 4] = 0;
        }
    }
    /* Adds what one step gave pixels p and on. */
    template <int COUNT>
    __device__ __forceinline__ void promote(int p, const real (&sums)[COUNT][TILES_C][4]) {
        SG_UNROLL
        for (int i = 0; i < COUNT * TILES_C * 4; i++)
            total[p + i / 4 / TILES_C][i / 4 % TILES_C][i % 4] +=
                sums[i / 4 / TILES_C][i / 4 % TILES_C][i % 4];
    }
    /* Adds what a few steps gave. */
    __device__ __forceinline__ void promote() {
        SG_UNROLL
        for (int i = 0; i < TILES_P * TILES_C * 4; i++) {
            real &part = small[i / 4 / TILES_C][i / 4 % TILES_C][i % 4];
            total[i / 4 / TILES_C][i / 4 % TILES_C][i % 4] += part;
            part = 0;
        }
    }
    /* Low parts count only where the high ones are finite (mma.cuh). */
    __device__ __forceinline__ void finish() {
        SG_UNROLL
        for (int i = 0; SPLIT && i < TILES_P * TILES_C * 4; i++) {
            real &sum = total[i / 4 / TILES_C][i / 4 % TILES_C][i % 4];
            const real low = small[i / 4 / TILES_C][i / 4 % TILES_C][i % 4];
            sum = -infinity() < sum && sum < infinity() ? sum + low : sum;
        }
    }
};

/* Pixels that one lane of eight owns of `count`, which halve while they are even. */
constexpr int owned_pixels(int count) {
    for (int i = 0; i < 3 && count % 2 == 0; i++)
        count /= 2;
    return count;
}

/* x, of which the compiler knows nothing: it would compute the addresses of all stores ahead, more
 * than there are registers. */
__device__ __forceinline__ int unforeseen(int x) {
    asm volatile("" : "+r"(x));
    return x;
}

__device__ __forceinline__ void store_pair(float *to, float first, float second) {
    *(float2 *)to = make_float2(first, second);
}
__device__ __forceinline__ void store_pair(double *to, double first, double second) {
    *(double2 *)to = make_double2(first, second);
}

struct Tile {
    static constexpr int PIXELS = 2 * TILES_P, CHANNELS = 2 * TILES_C;
    static constexpr int OWN = owned_pixels(PIXELS);

    Sums sums;
    const Unit *unit;           /* in shared memory */
    Place first;                /* of the box */
    real *columns;              /* bias, then the per-channel operands: [operand][slot] */
    real *exchange;             /* [2][WARPS_C][PIXEL_SLOTS] */
    char *scratch;              /* SCRATCH bytes of the block, for stores */
    int turn;                   /* of exchange */
    real outgoing[PIXELS][CHANNELS];
    real walks[TILE_WALKS > 0 ? TILE_WALKS : 1][PIXELS][CHANNELS];

    __device__ __forceinline__ void open(char *shared, int number) {
        unit = &unit_slot(shared, number);
        exchange = (real *)(shared + TILE_AT);
        columns = exchange + (WARPS_C > 1 ? 2 * WARPS_C * PIXEL_SLOTS : 0);
        if (!ONE_PART && number % 2 == 1) /* the tail of the one before may not be through */
            columns += (TILE_OPERANDS + 1) * CHANNEL_SLOTS;
    }

    /* A step of the walk; stores may use this part of shared memory. */
    __device__ __forceinline__ void at(int step, char *free, const Arguments &a) {
        first = walked(unit->first, step, a);
        scratch = free;
    }

    /* ---- channels ---- */
    __device__ __forceinline__ bool slot_has(int s) const {
        if (FULL_CHANNELS)
            return true;
        return s / COLUMNS < BLOCK_GROUPS && s % COLUMNS < unit->channel_count;
    }
    __device__ __forceinline__ int slot_channel(int s) const {
        return unit->channel + s / COLUMNS * GROUP_OUTPUTS + s % COLUMNS;
    }
    __device__ __forceinline__ int slot(int j) const {
        const int warp_c = (threadIdx.x >> 5) / WARPS_P;
        return (warp_c * TILES_C + j / 2) * 16 + (j & 1) * 8 + (threadIdx.x >> 2 & 7);
    }
    __device__ __forceinline__ bool has(int j) const { return slot_has(slot(j)); }
    __device__ __forceinline__ int channel(int j) const { return slot_channel(slot(j)); }
    __device__ __forceinline__ real acc(int p, int j) const {
        const real sum = sums.total[p / 2][j / 2][(j & 1) * 2 + (p & 1)];
        return HAS_BIAS ? sum + columns[slot(j)] : sum;
    }
    __device__ __forceinline__ real &result(int p, int j) {
        return sums.total[p / 2][j / 2][(j & 1) * 2 + (p & 1)];
    }
    using Results = real[PIXELS * CHANNELS];
    __device__ __forceinline__ Results &results() {
        return reinterpret_cast<Results &>(sums.total);
    }
    __device__ __forceinline__ real per_channel(int k, int j) const {
        return columns[(k + 1) * CHANNEL_SLOTS + slot(j)];
    }
    __device__ __forceinline__ real &walk(int k, int p, int j) { return walks[k][p][j]; }

    /* ---- pixels ---- */
    __device__ __forceinline__ int row(int p) const {
        const int warp_p = (threadIdx.x >> 5) % WARPS_P;
        return (warp_p * TILES_P + p / 2) * 8 + 2 * (threadIdx.x & 3) + (p & 1);
    }
    /* Own pixel q is full pixel own(q). */
    __device__ __forceinline__ int own(int q) const {
        int count = PIXELS;
        SG_UNROLL
        for (int bit = 16; bit >= 4; bit /= 2) {
            if (count % 2 == 0) {
                count /= 2;
                q += threadIdx.x & bit ? count : 0;
            }
        }
        return q;
    }
    /* Lanes, as bits, by which a pixel is owned. */
    static __device__ __forceinline__ int owner(int p) {
        int count = PIXELS, lanes = 0;
        SG_UNROLL
        for (int bit = 16; bit >= 4; bit /= 2) {
            if (count % 2 == 0) {
                count /= 2;
                lanes |= p >= count ? bit : 0;
                p -= p >= count ? count : 0;
            }
        }
        return lanes;
    }
    /* Whether this lane is the first of those that own the same pixels. */
    __device__ __forceinline__ bool first_owner() const {
        int count = PIXELS, others = 0;
        SG_UNROLL
        for (int bit = 16; bit >= 4; bit /= 2) {
            others |= count % 2 == 0 ? 0 : bit;
            count /= count % 2 == 0 ? 2 : 1;
        }
        return (threadIdx.x & others) == 0 && (threadIdx.x >> 5) < WARPS_P;
    }
    __device__ __forceinline__ int own_row(int q) const { return row(own(q)); }
    __device__ __forceinline__ Place row_place(int r) const {
        const Slot s = slot_at(r);
        return {first.n + s.n, first.d + s.d, first.h + s.h, first.w + s.w};
    }
    __device__ __forceinline__ bool row_valid(int r, const Place &place) const {
        return r < BOX_N * BOX_D * BOX_H * BOX_W && place.n < unit->end.n &&
               place.d < unit->end.d && place.h < unit->end.h && place.w < unit->end.w;
    }
    __device__ __forceinline__ Place place(int p) const { return row_place(row(p)); }
    __device__ __forceinline__ Place own_place(int q) const { return row_place(own_row(q)); }
    __device__ __forceinline__ bool valid(int p) const { return row_valid(row(p), place(p)); }
    __device__ __forceinline__ bool own_valid(int q) const {
        return row_valid(own_row(q), own_place(q));
    }

    /* ---- over channels ---- */
    __device__ __forceinline__ void reduce(Combine combine, const real (&in)[PIXELS],
                                           real (&out)[OWN]) {
        real kept[PIXELS];
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++)
            kept[p] = in[p];
        exchange_lanes<PIXELS, 16>(combine, kept);
        SG_UNROLL
        for (int q = 0; q < OWN; q++)
            out[q] = kept[q];
        if constexpr (WARPS_C > 1)
            across_warps(combine, out);
    }
    /* Lanes that differ in BIT combine COUNT values: each keeps a half while they are even, or
     * else both keep all; then the next bit. */
    template <int COUNT, int BIT>
    __device__ __forceinline__ void exchange_lanes(Combine combine, real (&kept)[PIXELS]) {
        constexpr bool HALVE = COUNT % 2 == 0;
        constexpr int LEFT = HALVE ? COUNT / 2 : COUNT;
        const bool upper = threadIdx.x & BIT;
        SG_UNROLL
        for (int p = 0; p < LEFT; p++) {
            const real sent = HALVE && !upper ? kept[p + (HALVE ? LEFT : 0)] : kept[p];
            const real mine = HALVE && upper ? kept[p + (HALVE ? LEFT : 0)] : kept[p];
            const real other = __shfl_xor_sync(~0u, sent, BIT);
            /* In one order, so that both lanes come to the same. */
            kept[p] = upper ? combine(other, mine) : combine(mine, other);
        }
        if constexpr (BIT > 4)
            exchange_lanes<LEFT, BIT / 2>(combine, kept);
    }
    /* Buffers take turns: whoever writes one again has passed the barrier after it was read. */
    __device__ __forceinline__ void across_warps(Combine combine, real (&out)[OWN]) {
        real *buffer = exchange + turn * (WARPS_C * PIXEL_SLOTS);
        turn ^= 1;
        const int warp_c = (threadIdx.x >> 5) / WARPS_P;
        SG_UNROLL
        for (int q = 0; q < OWN; q++)
            buffer[warp_c * PIXEL_SLOTS + own_row(q)] = out[q];
        __syncthreads();
        SG_UNROLL
        for (int q = 0; q < OWN; q++) {
            real value = buffer[own_row(q)];
            SG_UNROLL
            for (int n = 1; n < WARPS_C; n++)
                value = combine(value, buffer[n * PIXEL_SLOTS + own_row(q)]);
            out[q] = value;
        }
    }
    __device__ __forceinline__ void spread(const real (&in)[OWN], real (&out)[PIXELS]) {
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++)
            out[p] = __shfl_sync(~0u, in[p % OWN], (threadIdx.x & 3) | owner(p));
    }

    /* ---- memory ---- */
    template <int V, class T>
    __device__ __forceinline__ void load_tile(const T *from, const Stride &stride, int j,
                                              real (&out)[PIXELS]) const {
        const T *at = from + channel(j) * stride.c;
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++)
            out[p] = valid(p) && has(j) ? load(at + offset(place(p), stride)) : real(0);
    }
    template <int V, class T>
    __device__ __forceinline__ void load_pixels(const T *from, const Stride &stride,
                                                real (&out)[PIXELS]) const {
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++)
            out[p] = valid(p) ? load(from + offset(place(p), stride)) : real(0);
    }
    template <class T>
    __device__ __forceinline__ void load_own(const T *from, const Stride &stride,
                                             real (&out)[OWN]) const {
        SG_UNROLL
        for (int q = 0; q < OWN; q++)
            out[q] = own_valid(q) ? load(from + offset(own_place(q), stride)) : real(0);
    }
    template <class T>
    __device__ __forceinline__ void store_own(T *to, const Stride &stride, const real (&in)[OWN]) {
        const bool mine = first_owner();
        SG_UNROLL
        for (int q = 0; q < OWN; q++)
            if (mine && own_valid(q))
                store(to + offset(own_place(q), stride), in[q]);
    }
    template <int V, class T>
    __device__ __forceinline__ void put(T *, const Stride &, int p, int j, real value) {
        outgoing[p][j] = value;
    }
    /* Eight channels of the warp's pixels at a time go through shared memory, so that neighbouring
     * lanes store neighbours. */
    template <int V, class T> __device__ __forceinline__ void flush(T *to, const Stride &stride) {
        constexpr int ROWS = TILES_P * 8, LINE = ROWS < 32 ? ROWS : 32;
        const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
        const int first_row = warp % WARPS_P * ROWS;
        real *stage = (real *)scratch + warp * (8 * SCRATCH_PITCH);
        long long offsets[ROWS / LINE];
        bool inside[ROWS / LINE];
        SG_UNROLL
        for (int k = 0; k < ROWS / LINE; k++) {
            const Place at = row_place(first_row + k * LINE + lane % LINE);
            inside[k] = row_valid(first_row + k * LINE + lane % LINE, at);
            offsets[k] = offset(at, stride);
        }
        SG_UNROLL
        for (int j = 0; j < CHANNELS; j++) {
            SG_UNROLL
            for (int p = 0; p < PIXELS; p += 2)
                store_pair(stage + (lane >> 2) * SCRATCH_PITCH + p * 4 + 2 * (lane & 3),
                           outgoing[p][j], outgoing[p + 1][j]);
            __syncwarp();
            const int first_slot =
                unforeseen((warp / WARPS_P * TILES_C + j / 2) * 16 + (j & 1) * 8);
            if (stride.c == 1) {
                store_channels(to, stride, stage, first_slot, first_row);
            } else {
                _Pragma("unroll 2")
                for (int c = lane / LINE; c < 8; c += 32 / LINE) {
                    T *at = to + slot_channel(first_slot + c) * stride.c;
                    SG_UNROLL
                    for (int k = 0; k < ROWS / LINE; k++)
                        if (inside[k] && slot_has(first_slot + c))
                            store(at + offsets[k],
                                  stage[c * SCRATCH_PITCH + k * LINE + lane % LINE]);
                }
            }
            __syncwarp();
        }
    }
    /* Where channels are neighbours in memory: eight lanes store eight. */
    template <class T>
    __device__ __forceinline__ void store_channels(T *to, const Stride &stride, const real *stage,
                                                   int first_slot, int first_row) {
        const int c = threadIdx.x & 7, s = first_slot + c;
        _Pragma("unroll 1")
        for (int r = threadIdx.x >> 3 & 3; r < TILES_P * 8; r += 4) {
            const Place at = row_place(first_row + r);
            if (row_valid(first_row + r, at) && slot_has(s))
                store(to + slot_channel(s) + offset(at, stride), stage[c * SCRATCH_PITCH + r]);
        }
    }
};
