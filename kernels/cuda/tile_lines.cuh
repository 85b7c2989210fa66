/* The tile with pixels as rows (row_tile.cuh), for outputs with channels: what a lane stores stands
 * in lines, the same pixels of one channel after the other, whose first address is kept.
 *
 * TILE_REAL must be the least that any tile has. STORE_RUNS: channels lie side by side in all
 * outputs with channels, so that what a lane has of a pixel is stored at once. */
constexpr bool PUT_ALONE = false; /* put is the tile's own */
//@ include row_tile.cuh

/* In one piece for floats: left to itself the compiler makes every address anew, behind the
 * condition. */
template <class T> __device__ __forceinline__ void store_if(bool present, T *to, real value) {
    if (present)
        store(to, value);
}
__device__ __forceinline__ void store_if(bool present, float *to, real value) {
    asm volatile("{\n\t.reg .pred present;\n\t"
                 "setp.ne.b32 present, %2, 0;\n\t"
                 "@present st.global.f32 [%0], %1;\n\t}" ::"l"(to),
                 "f"(float(value)), "r"(static_cast<int>(present))
                 : "memory");
}

/* COUNT channels of a pixel: 4 or 8. */
template <int COUNT>
__device__ __forceinline__ void store_run(bool present, float *to, const real (&value)[8]) {
    SG_UNROLL
    for (int e = 0; e < COUNT; e += 4)
        if (present)
            *reinterpret_cast<float4 *>(to + e) =
                make_float4(value[e], value[e + 1], value[e + 2], value[e + 3]);
}
template <int COUNT, class T>
__device__ __forceinline__ void store_run(bool present, T *to, const real (&value)[8]) {
    if (sizeof(T) != 2) {
        SG_UNROLL
        for (int e = 0; e < COUNT; e++)
            store_if(present, to + e, value[e]);
        return;
    }
    T narrow[8];
    SG_UNROLL
    for (int e = 0; e < COUNT; e++)
        store(&narrow[e], value[e]);
    SG_UNROLL
    for (int e = 0; e < COUNT; e += 4)
        if (present)
            *reinterpret_cast<uint2 *>(to + e) =
                make_uint2(narrow[e].bits | static_cast<unsigned>(narrow[e + 1].bits) << 16,
                           narrow[e + 2].bits | static_cast<unsigned>(narrow[e + 3].bits) << 16);
}

/* Four bytes to shared memory, or zero; later. */
__device__ __forceinline__ void cp_async_if(bool present, float *to, const float *from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(present ? 4 : 0)
                 : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int PENDING> __device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/* A float operand with channels, if it is the only one, comes through shared memory, 8 channels of
 * a warp's pixels at a time, FETCHES of them on their way. */
constexpr int WARP_PIXELS = 16 * ROW_BLOCKS, FETCH_LINE = WARP_PIXELS + 4; /* no bank met twice */
constexpr int FETCHES = ROW_BLOCKS == 1 ? 6 : ROW_BLOCKS == 2 ? 4 : 2;
constexpr int WARP_FETCHES = TILE_LOADS == 1 ? FETCHES * 8 * FETCH_LINE : 1; /* floats */

struct Tile : RowTile {
    char *lines[OWN];          /* where this lane's pixels go, at the next channel, */
    bool lines_valid[OWN];     /* and whether they do */
    float *fetched;            /* [FETCHES][8][FETCH_LINE], of this warp */
    const float *fetches[OWN]; /* what this lane fetches next: of pixels lane + 32 q */
    bool fetches_valid[OWN];
    real odd[PIXELS]; /* the second of a pair of slots */

    template <int V, class T>
    __device__ __forceinline__ void load_tile(const T *from, Stride s, int j, real (&out)[PIXELS]) {
        RowTile::load_tile<V>(from, s, j, out);
    }
    template <int V>
    __device__ __forceinline__ void load_tile(const float *from, Stride s, int j,
                                              real (&out)[PIXELS]) {
        const int group = j / 2;
        if (TILE_LOADS != 1 || group * 8 + 8 > TILE_REAL) {
            RowTile::load_tile<V>(from, s, j, out);
            return;
        }
        if (j == 0)
            open_fetches(from, s);
        if (j % 2 == 0) {
            cp_async_wait<FETCHES - 1>();
            __syncwarp();
        }
        const float *at = fetched + group % FETCHES * (8 * FETCH_LINE);
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++) {
            if (j % 2 == 0) {
                out[p] = at[lane % 4 * 2 * FETCH_LINE + pixels.pixel(row(p))];
                odd[p] = at[(lane % 4 * 2 + 1) * FETCH_LINE + pixels.pixel(row(p))];
            } else {
                out[p] = odd[p];
            }
        }
        if (j % 2 == 0) {
            __syncwarp();
            fetch(group + FETCHES, s.c);
        }
    }
    __device__ __forceinline__ void open_fetches(const float *from, Stride s) {
        SG_UNROLL
        for (int q = 0; q < OWN; q++) {
            const Spot spot = pixels.spot_at((lane + 32 * q) % WARP_PIXELS);
            const int first = channel_first + (PIXELS == 2 ? lane / 16 : 0);
            fetches_valid[q] = pixels.spot_valid_at(spot);
            fetches[q] = from + offset(Place{spot.n, spot.d, spot.h, spot.w}, s) + first * s.c;
        }
        __syncwarp();
        SG_UNROLL
        for (int group = 0; group < FETCHES; group++)
            fetch(group, s.c);
    }
    __device__ __forceinline__ void fetch(int group, long long stride) {
        constexpr int AT_ONCE = PIXELS == 2 ? 2 : 1; /* channels of one access of a warp */
        float *to = fetched + group % FETCHES * (8 * FETCH_LINE) +
                    (PIXELS == 2 ? lane / 16 * FETCH_LINE + lane % 16 : lane);
        if (group * 8 + 8 <= TILE_REAL) {
            SG_UNROLL
            for (int q = 0; q < OWN; q++) {
                SG_UNROLL
                for (int c = 0; c < 8; c += AT_ONCE) {
                    cp_async_if(fetches_valid[q], to + c * FETCH_LINE + 32 * q, fetches[q]);
                    fetches[q] += AT_ONCE * stride;
                }
            }
        }
        cp_async_commit();
    }

    /* Stores whenever 8 channels of all pixels have come: a lane holds two channels of a quad's
     * pixels; a line of memory wants one channel of many pixels, so lanes of a quad exchange until
     * each has 8 channels, or with two pixels 4, of pixels of its own. */
    template <int V, class T>
    __device__ __forceinline__ void put(T *to, Stride s, int p, int j, real value) {
        if (j / 2 * 8 + 8 > TILE_REAL) {
            put_alone(to, s, p, j, value);
            return;
        }
        if (p == 0 && j == 0)
            open_lines(to, s);
        leaving[p][j % 2] = value;
        if (p == PIXELS - 1 && j % 2 == 1)
            put_lines<T>(s.c);
    }

    template <class T> __device__ __forceinline__ void open_lines(T *to, Stride s) {
        const int first = PIXELS == 2 ? channel_first + (lane >> 1 & 1) * 4 : channel_first;
        SG_UNROLL
        for (int q = 0; q < OWN; q++) {
            lines_valid[q] = PIXELS == 2 ? pixels.valid(own_row(q)) : own_valid(q);
            lines[q] = reinterpret_cast<char *>(to + offset(own_place(q), s) + first * s.c);
        }
    }

    template <class T> __device__ __forceinline__ void put_lines(long long stride) {
        constexpr int HALF = PIXELS / 2, QUARTER = PIXELS / 4, COUNT = PIXELS == 2 ? 4 : 8;
        real once[HALF][4]; /* [pixel][pair of channels, two of them] */
        const bool upper = lane & 1, second = lane >> 1 & 1;
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
        SG_UNROLL
        for (int q = 0; q < OWN; q++) {
            real twice[8];
            SG_UNROLL
            for (int e = 0; e < 4; e++) {
                const real low = once[q][e], high = once[PIXELS == 2 ? q : QUARTER + q][e];
                const real other = PIXELS == 2 ? low : __shfl_xor_sync(~0U, second ? low : high, 2);
                twice[e] = PIXELS > 2 && second ? other : low;
                twice[4 + e] = second ? high : other;
            }
            T *at = reinterpret_cast<T *>(lines[q]);
            if (STORE_RUNS) {
                store_run<COUNT>(lines_valid[q], at, twice);
                lines[q] = reinterpret_cast<char *>(at + 8);
                continue;
            }
            SG_UNROLL
            for (int e = 0; e < COUNT; e++) {
                store_if(lines_valid[q], at, twice[e]);
                at += stride;
            }
            lines[q] = reinterpret_cast<char *>(at + (8 - COUNT) * stride);
        }
    }
};
