/* The tile of `wgmma` with channels as rows (M) and pixels as columns (N).
 *
 * A warpgroup holds 64 CHANNEL_BLOCKS channels of TILE_PIXELS pixels. Of each block, warp w has
 * channels 16 w .. + 15; lane l of it has l / 4 and l / 4 + 8, and of every 8 pixels the pair
 * 2 (l % 4), + 1.
 *
 * With CROSSES, a reduction over channels goes over the lane's own, then halves what a lane keeps
 * over the eight lanes that share its pixels, then crosses the warps through shared memory, where
 * thread t picks up pixels t, t + 128, .. as its own.
 *
 * Defined before this file is taken in:
 *   constexpr int CHANNEL_BLOCKS, TILE_PIXELS   TILE_PIXELS a multiple of 128
 *   constexpr int TILE_N       channel slots, 64 CHANNEL_BLOCKS
 *   constexpr int TILE_REAL    channels of a full tile; the rest up to TILE_N is padding
 *   constexpr int TILE_WALKS   running values with channels
 *   constexpr int CROSSES      whether the tail reduces over channels, or spreads over them
 *   struct Pixels              bool valid(int column) const; Place place(int column) const;
 * and set in every tile: d (the sums), scale_bias, operands, channel_first, channel_end, thread (of
 * the warpgroup), pixels, crossing, barrier and turn. */

#define SG_UNROLL _Pragma("unroll")

/* Floats of shared memory of a warpgroup; none without a reduction over channels. */
constexpr int CROSSING = CROSSES ? 2 * 4 * TILE_PIXELS : 0;

struct ColumnTile {
    static constexpr int PIXELS = TILE_PIXELS / 4, CHANNELS = 2 * CHANNEL_BLOCKS;
    static constexpr int OWN = TILE_PIXELS / 128;

    real d[CHANNEL_BLOCKS][TILE_PIXELS / 2]; /* as the instructions lay it out */
    real running[TILE_WALKS ? TILE_WALKS : 1][TILE_WALKS ? PIXELS : 1][TILE_WALKS ? CHANNELS : 1];
    const float2 *scale_bias; /* [TILE_N], in shared memory */
    const real *operands;     /* [CHANNEL_OPERANDS][TILE_N], in shared memory */
    int channel_first;        /* of slot 0 of the tile */
    int channel_end;          /* the first beyond the tile */
    int thread;
    Pixels pixels;
    real *crossing; /* [2][4][TILE_PIXELS], of this warpgroup */
    int barrier;    /* of this warpgroup */
    int turn;       /* which half of crossing is next */

    __device__ __forceinline__ int column(int p) const {
        return p / 2 * 8 + thread % 4 * 2 + p % 2;
    }
    __device__ __forceinline__ int row(int j) const {
        return j / 2 * 64 + thread / 32 * 16 + j % 2 * 8 + thread % 32 / 4;
    }

    __device__ __forceinline__ real acc(int p, int j) const {
        const float2 by = scale_bias[row(j)];
        return d[j / 2][p / 2 * 4 + j % 2 * 2 + p % 2] * by.x + by.y;
    }
    __device__ __forceinline__ real &result(int p, int j) {
        return d[j / 2][p / 2 * 4 + j % 2 * 2 + p % 2];
    }
    using Results = real[PIXELS * CHANNELS];
    __device__ __forceinline__ Results &results() { return reinterpret_cast<Results &>(d); }
    __device__ __forceinline__ bool has(int j) const {
        if (TILE_REAL % TILE_N == 0 && channel_end - channel_first == TILE_N)
            return true;
        return channel(j) < channel_end;
    }
    __device__ __forceinline__ int channel(int j) const { return channel_first + row(j); }
    __device__ __forceinline__ bool valid(int p) const { return pixels.valid(column(p)); }
    __device__ __forceinline__ Place place(int p) const { return pixels.place(column(p)); }
    __device__ __forceinline__ bool own_valid(int q) const {
        return pixels.valid(thread + 128 * q);
    }
    __device__ __forceinline__ Place own_place(int q) const {
        return pixels.place(thread + 128 * q);
    }
    __device__ __forceinline__ real per_channel(int k, int j) const {
        return operands[k * TILE_N + row(j)];
    }
    __device__ __forceinline__ real &walk(int k, int p, int j) { return running[k][p][j]; }

    /* Of COUNT columns of 8 pixels, keeps the even ones or the odd ones. */
    template <int COUNT>
    __device__ __forceinline__ void halve(Combine combine, const real (&in)[COUNT],
                                          real (&out)[COUNT / 2], int bit) const {
        const bool odd = thread & bit;
        SG_UNROLL
        for (int i = 0; i < COUNT / 2; i++) {
            const int even_at = i / 2 * 4 + i % 2, odd_at = even_at + 2;
            const real keep = odd ? in[odd_at] : in[even_at];
            const real give = odd ? in[even_at] : in[odd_at];
            out[i] = combine(keep, __shfl_xor_sync(~0U, give, bit));
        }
    }
    __device__ __forceinline__ void reduce(Combine combine, const real (&in)[PIXELS],
                                           real (&out)[OWN]) {
        real half[PIXELS / 2], quarter[PIXELS / 4], eighth[PIXELS / 8];
        halve(combine, in, half, 4);
        halve(combine, half, quarter, 8);
        halve(combine, quarter, eighth, 16);
        real *part = crossing + turn * 4 * TILE_PIXELS;
        turn ^= 1;
        const int lane = thread % 32;
        const int first = (lane >> 2 & 1) + (lane >> 3 & 1) * 2 + (lane >> 4 & 1) * 4;
        SG_UNROLL
        for (int i = 0; i < PIXELS / 16; i++)
            *reinterpret_cast<float2 *>(part + thread / 32 * TILE_PIXELS + (i * 8 + first) * 8 +
                                        lane % 4 * 2) =
                make_float2(eighth[2 * i], eighth[2 * i + 1]);
        barrier_sync(barrier, WARPGROUP);
        SG_UNROLL
        for (int q = 0; q < OWN; q++) {
            const real *at = part + thread + 128 * q;
            out[q] = combine(combine(at[0], at[TILE_PIXELS]),
                                 combine(at[2 * TILE_PIXELS], at[3 * TILE_PIXELS]));
        }
    }
    __device__ __forceinline__ void spread(const real (&in)[OWN], real (&out)[PIXELS]) {
        real *part = crossing + turn * 4 * TILE_PIXELS;
        turn ^= 1;
        SG_UNROLL
        for (int q = 0; q < OWN; q++)
            part[thread + 128 * q] = in[q];
        barrier_sync(barrier, WARPGROUP);
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++)
            out[p] = part[column(p)];
    }

    template <int V, class T>
    __device__ __forceinline__ void load_tile(const T *from, Stride s, int j,
                                              real (&out)[PIXELS]) const {
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++)
            out[p] =
                valid(p) && has(j) ? load(from + offset(place(p), s) + channel(j) * s.c) : real(0);
    }
    template <int V, class T>
    __device__ __forceinline__ void load_pixels(const T *from, Stride s,
                                                real (&out)[PIXELS]) const {
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++)
            out[p] = valid(p) ? load(from + offset(place(p), s)) : real(0);
    }
    template <class T>
    __device__ __forceinline__ void load_own(const T *from, Stride s, real (&out)[OWN]) const {
        SG_UNROLL
        for (int q = 0; q < OWN; q++)
            out[q] = own_valid(q) ? load(from + offset(own_place(q), s)) : real(0);
    }
    template <class T>
    __device__ __forceinline__ void store_own(T *to, Stride s, const real (&in)[OWN]) const {
        SG_UNROLL
        for (int q = 0; q < OWN; q++)
            if (own_valid(q))
                store(to + offset(own_place(q), s), in[q]);
    }
    template <int V, class T>
    __device__ __forceinline__ void put(T *to, Stride s, int p, int j, real value) const {
        if (valid(p) && has(j))
            store(to + offset(place(p), s) + channel(j) * s.c, value);
    }
    template <int V, class T> __device__ __forceinline__ void flush(T *, Stride) {}
};
