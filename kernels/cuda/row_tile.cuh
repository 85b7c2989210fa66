/* For skeletons: defined before this file is taken in:
 *   constexpr int ROW_BLOCKS   blocks of 16 rows of a warp: a power of two
 *   constexpr int TILE_N       channel slots of the tile, a multiple of 8
 *   constexpr int TILE_REAL    channels of a full tile; the rest up to TILE_N is padding
 *   constexpr int TILE_WALKS   running values with channels
 *   constexpr bool PUT_ALONE   put stores each value by itself
 *   struct Pixels              bool valid(int row) const; Place place(int row) const;
 *                              row: 0 .. 16 ROW_BLOCKS - 1, of this thread's warp
 * and set in every Tile: d (the sums), scale_bias, operands, channel_first, channel_end, lane,
 * pixels. */

#define SG_UNROLL _Pragma("unroll")

/* A warp's tile of `wgmma` or `mma.sync`: ROW_BLOCKS blocks of 16 pixels (rows) by TILE_N channels
 * (columns). Of a block, lane l holds rows l / 4 and l / 4 + 8, and of every 8 channels the pair
 * 2 (l % 4), + 1: four lanes, a quad, share a pixel. */
struct RowTile {
    static constexpr int PIXELS = 2 * ROW_BLOCKS, CHANNELS = TILE_N / 4;
    static constexpr int OWN = PIXELS >= 4 ? PIXELS / 4 : 1;

    real d[ROW_BLOCKS][TILE_N / 2]; /* as the instructions lay it out */
    real running[TILE_WALKS ? TILE_WALKS : 1][TILE_WALKS ? PIXELS : 1][TILE_WALKS ? CHANNELS : 1];
    real leaving[PIXELS][2];    /* put: 8 channels on their way out */
    const float2 *scale_bias; /* [TILE_N], in shared memory */
    const real *operands;     /* [CHANNEL_OPERANDS][TILE_N], in shared memory */
    int channel_first;        /* of slot 0 of the tile */
    int channel_end;          /* the first beyond the tile */
    int lane;
    Pixels pixels;

    __device__ __forceinline__ int row(int p) const { return p * 8 + lane / 4; }
    __device__ __forceinline__ int column(int j) const { return j / 2 * 8 + lane % 4 * 2 + j % 2; }
    __device__ __forceinline__ int own_row(int q) const {
        return row((lane & 1) * (PIXELS / 2) + (lane >> 1 & 1) * (PIXELS / 4) + q);
    }

    __device__ __forceinline__ real acc(int p, int j) const {
        const float2 by = scale_bias[column(j)];
        return d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2] * by.x + by.y;
    }
    __device__ __forceinline__ real &result(int p, int j) {
        return d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2];
    }
    using Results = real[PIXELS * CHANNELS];
    __device__ __forceinline__ Results &results() { return reinterpret_cast<Results &>(d); }
    __device__ __forceinline__ bool has(int j) const {
        if (TILE_REAL % TILE_N == 0 && channel_end - channel_first == TILE_N)
            return true;
        return channel(j) < channel_end;
    }
    __device__ __forceinline__ int channel(int j) const { return channel_first + column(j); }
    __device__ __forceinline__ bool valid(int p) const { return pixels.valid(row(p)); }
    __device__ __forceinline__ Place place(int p) const { return pixels.place(row(p)); }
    __device__ __forceinline__ bool own_valid(int q) const {
        return (PIXELS > 2 || lane % 4 < 2) && pixels.valid(own_row(q));
    }
    __device__ __forceinline__ Place own_place(int q) const { return pixels.place(own_row(q)); }
    __device__ __forceinline__ real per_channel(int k, int j) const {
        return operands[k * TILE_N + column(j)];
    }
    __device__ __forceinline__ real &walk(int k, int p, int j) { return running[k][p][j]; }

    /* Two lanes that hold the same pixels share them out: each combines one half's values with the
     * other lane's. apart: the bit in which the lanes differ. */
    template <int N>
    __device__ __forceinline__ void halve(Combine combine, const real (&in)[2 * N], real (&out)[N],
                                          int apart) const {
        const bool upper = threadIdx.x & apart;
        SG_UNROLL
        for (int i = 0; i < N; i++) {
            const real keep = upper ? in[N + i] : in[i], give = upper ? in[i] : in[N + i];
            out[i] = combine(keep, __shfl_xor_sync(~0U, give, apart));
        }
    }
    /* Over the channels of a quad's pixels; in the end a lane owns pixels of its own. */
    __device__ __forceinline__ void reduce(Combine combine, const real (&in)[PIXELS],
                                           real (&out)[OWN]) const {
        real half[PIXELS / 2];
        halve(combine, in, half, 1);
        if constexpr (PIXELS == 2)
            out[0] = combine(half[0], __shfl_xor_sync(~0U, half[0], 2));
        else
            halve(combine, half, out, 2);
    }
    __device__ __forceinline__ void spread(const real (&in)[OWN], real (&out)[PIXELS]) const {
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++) {
            const int owner = PIXELS == 2 ? p : p / (PIXELS / 2) + p / (PIXELS / 4) % 2 * 2;
            out[p] = __shfl_sync(~0U, in[PIXELS == 2 ? 0 : p % OWN], lane / 4 * 4 + owner);
        }
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
    __device__ __forceinline__ void put(T *to, Stride s, int p, int j, real value) {
        if (!PUT_ALONE && PIXELS >= 4 && whole_group(j)) {
            leaving[p][j % 2] = value;
            if (p == PIXELS - 1 && j % 2 == 1)
                put_group(to, s, j / 2 * 8);
        } else if (valid(p) && has(j)) {
            store(to + offset(place(p), s) + channel(j) * s.c, value);
        }
    }
    /* Whether all 8 channels around slot j are there; the same for all threads. */
    __device__ __forceinline__ bool whole_group(int j) const {
        return j / 2 * 8 + 8 <= TILE_REAL && channel_first + j / 2 * 8 + 8 <= channel_end;
    }
    template <class T>
    __device__ __forceinline__ void put_alone(T *to, Stride s, int p, int j, real value) const {
        if (valid(p) && has(j))
            store(to + offset(place(p), s) + channel(j) * s.c, value);
    }
    /* Stores 8 channels of all pixels. A lane holds two channels of a quad's pixels; a line of
     * memory wants one channel of many pixels, so lanes of a quad exchange until each has all 8
     * channels of its own pixels. */
    template <class T> __device__ __forceinline__ void put_group(T *to, Stride s, int first) {
        constexpr int HALF = PIXELS / 2, QUARTER = PIXELS / 4;
        real once[HALF][4]; /* [pixel][pair of channels, two of them] */
        const bool upper = lane & 1;
        SG_UNROLL
        for (int i = 0; i < HALF; i++) {
            SG_UNROLL
            for (int e = 0; e < 2; e++) {
                const real low = leaving[i][e], high = leaving[HALF + i][e];
                const real other = __shfl_xor_sync(~0U, upper ? low : high, 1);
                once[i][e] = upper ? other : low;
                once[i][2 + e] = upper ? high : other;
            }
        }
        const bool second = lane >> 1 & 1;
        SG_UNROLL
        for (int q = 0; q < QUARTER; q++) {
            T *at = to;
            const bool inside = own_valid(q);
            if (inside)
                at += offset(own_place(q), s) + (channel_first + first) * s.c;
            SG_UNROLL
            for (int e = 0; e < 4; e++) {
                const real low = once[q][e], high = once[QUARTER + q][e];
                const real other = __shfl_xor_sync(~0U, second ? low : high, 2);
                if (inside) {
                    store(at + e * s.c, second ? other : low);
                    store(at + (4 + e) * s.c, second ? high : other);
                }
            }
        }
    }
    template <int V, class T> __device__ __forceinline__ void flush(T *, Stride) {}
};
