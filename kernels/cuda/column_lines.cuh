/* conv_wgmma_ring.cuh, channels as rows of the products: outputs that leave in whole sectors.
 *
 * Memory takes a sector (32 bytes) that is written in two parts at the price of several whole ones,
 * and a line of pixels, as a rule, begins in the middle of one. So where one tile's line goes on in
 * the next tile's, the first leaves its last pixels, less than a sector, for the second, and every
 * sector is written once. On the way a warp turns eight channels around in shared memory of its
 * own, WINDOW pixels at a time: [8][LINE], used as a ring of LINE values, in which what is beyond
 * the last whole sector waits for the next window.
 *
 * Constants: OUT_LINES, the number of outputs with channels: float32, w stride 1, TILE_REAL and
 * OUT_GROUP multiples of 8, and a tile is (part of) one row of pixels. OUT_PAIRS: lines begin at
 * even values of a sector. CARRIED: tiles go along the rows and from one to the next. */

constexpr int SECTOR = 8; /* values */
constexpr int WINDOW = 32, LINE = WINDOW + SECTOR;
constexpr int WINDOWS = TILE_PIXELS / WINDOW;
constexpr int LAST_TILE = (ROW_TILES - 1) * TILE_PIXELS; /* of a row */
constexpr int CARRIES = CARRIED ? OUT_LINES : 0; /* outputs that have carries */
constexpr int CARRY_FLOATS = CARRIES * TILE_N * SECTOR;
constexpr int CARRY_BARRIERS = CONSUMERS * CARRIES * 2 * CHANNEL_BLOCKS * 4;
constexpr int CONSUMER_FLOATS = CROSSING + (OUT_LINES ? 4 * 8 * LINE : 0); /* in shared memory */

/* Neighbours in one store: written in C, they come apart. */
__device__ __forceinline__ void store_vector(float *to, float x, float y, float z, float w) {
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(x), "f"(y), "f"(z),
                 "f"(w)
                 : "memory");
}

/* With a predicate of its own: from C there would be a branch around every store. */
__device__ __forceinline__ void put_pair(float *to, float x, float y, int wanted) {
    asm volatile("{\n\t.reg .pred wanted;\n\tsetp.ne.s32 wanted, %3, 0;\n\t"
                 "@wanted st.shared.v2.f32 [%0], {%1, %2};\n\t}" ::"r"(shared_address(to)),
                 "f"(x), "f"(y), "r"(wanted)
                 : "memory");
}

struct Tile : ColumnTile {
    int consumer;
    float *lines;     /* [8][LINE], of this warp */
    float *carried;   /* [CARRIES][TILE_N][SECTOR] */
    unsigned passed;  /* address of [CONSUMERS][CARRIES][CHANNELS][4] barriers */
    int tiles;        /* of the block so far, of all consumers: they take them in turn */
    int at_row, rows; /* of the segment: this tile's, and how many */
    int output;       /* which is being written */
    bool joins, joined; /* the tile before ends where this one begins; the next, where it ends */
    int here;           /* pixels of the tile that are there */
    /* Of the channel that this lane puts: values of its line's first sector before its first pixel,
     * and where it puts its two pixels of eight, as offsets of `lines`, by whether the ring of the
     * line has come round. */
    int begin, put_at[2][2];
    /* Of the two channels that this lane stores. */
    int begins[2];
    float *next_at[2];
    float pair;
    float2 by; /* of the channel that is being put */

    template <class S> __device__ __forceinline__ void open(S &shared, int number) {
        thread = threadIdx.x % WARPGROUP;
        if (CROSSES) {
            crossing = shared.consumer[number];
            barrier = 1 + number;
            turn = 0;
        }
        if (OUT_LINES) {
            consumer = number;
            tiles = number - CONSUMERS;
            lines = shared.consumer[number] + CROSSING + thread / 32 * 8 * LINE;
            carried = shared.carried;
            passed = shared_address(shared.passed);
        }
    }
    /* The consumer's next tile, in row `row` of a segment of `of_rows`. */
    __device__ __forceinline__ void start(int row, int of_rows) {
        tiles += CONSUMERS;
        at_row = row;
        rows = of_rows;
        output = 0;
    }

    __device__ __forceinline__ real acc(int p, int j) {
        if (!OUT_LINES)
            return ColumnTile::acc(p, j);
        if (p == 0) /* tails go through pixels upwards */
            by = scale_bias[row(j)];
        return d[j / 2][p / 2 * 4 + j % 2 * 2 + p % 2] * by.x + by.y;
    }

    template <int V, class T>
    __device__ __forceinline__ void put(T *to, const Stride &s, int p, int j, real value) {
        ColumnTile::put<V>(to, s, p, j, value);
    }
    template <int V>
    __device__ __forceinline__ void put(float *to, const Stride &s, int p, int j, real value) {
        if (!OUT_LINES) {
            ColumnTile::put<V>(to, s, p, j, value);
            return;
        }
        constexpr int BLOCKS = LINE / SECTOR;
        const int window = p / 8, block = (window * (WINDOW / SECTOR) + p % 8 / 2) % BLOCKS;
        if (p == 0 && j == 0)
            open_lines(to, s);
        const int e = OUT_PAIRS ? 0 : p % 2;
        float *at = lines + (block == BLOCKS - 1 ? put_at[e][1] : put_at[e][0] + block * SECTOR);
        /* Windows beyond the last pixel would come round to what is left of the line. */
        const bool wanted = window == 0 || window * WINDOW < here;
        if (!OUT_PAIRS && wanted)
            *at = value;
        if (OUT_PAIRS && p % 2 == 1)
            put_pair(at, pair, value, wanted);
        pair = value;
        if (p % 8 == 7)
            close_window(to, s, window, j);
    }
    template <int V, class T> __device__ __forceinline__ void flush(T *, const Stride &) {}
    template <int V> __device__ __forceinline__ void flush(float *, const Stride &) {
        if (OUT_LINES > 1)
            output++;
    }

    /* How many pixels the tile has whose first is `from` of its box. */
    __device__ __forceinline__ int pixels_at(int from) const {
        const Box &box = pixels.box;
        return max(0, min(TILE_PIXELS, min(BOX_X, box.width - box.x) - from));
    }
    /* Whether a tile's line goes on where that of the tile `from` of `row` ends. */
    __device__ __forceinline__ bool goes_on(int from, int row, const Stride &s) const {
        if (!CARRIED || row < 0 || pixels_at(from) < SECTOR)
            return false;
        if (ROW_TILES > 1 && from < LAST_TILE)
            return pixels_at(from + TILE_PIXELS) >= SECTOR;
        return row + 1 < rows && pixels.box.width <= BOX_X &&
               (RING_DEPTH ? s.d : s.h) == pixels.box.width && pixels_at(0) >= SECTOR;
    }
    /* Values of the sector that a line begins in, before its first. */
    static __device__ __forceinline__ int before(const float *line) {
        return static_cast<int>(reinterpret_cast<unsigned long long>(line) / 4 % SECTOR);
    }
    __device__ __forceinline__ void open_lines(float *to, const Stride &s) {
        const int lane = thread % 32;
        /* Eight channels further a line begins alike. */
        float *line = to + offset(pixels.place(0), s) + (channel_first + thread / 32 * 16) * s.c;
        begin = before(line + lane / 4 * s.c);
        SG_UNROLL
        for (int e = 0; e < 2; e++) {
            const int at = begin + lane % 4 * 2 + e, from = lane / 4 * LINE + at % SECTOR;
            put_at[e][0] = from + at / SECTOR * SECTOR;
            put_at[e][1] = from + (at < SECTOR ? WINDOW : 0);
            next_at[e] = line + (e * 4 + lane / 8) * s.c;
            begins[e] = before(next_at[e]);
            next_at[e] += lane % 8 * 4 - begins[e];
        }
        here = pixels_at(pixels.first());
        joins = ROW_TILES > 1 && pixels.first() > 0
                    ? goes_on(pixels.first() - TILE_PIXELS, at_row, s)
                    : goes_on(LAST_TILE, at_row - 1, s);
        joined = goes_on(pixels.first(), at_row, s);
    }

    /* Where a line's last sector begins that it does not fill. */
    __device__ __forceinline__ int end_of(int begin) const {
        return (begin + here) / SECTOR * SECTOR;
    }
    /* Value `at` of the line that this lane puts, and where memory has the sector it begins in. */
    __device__ __forceinline__ float *own_line(int at) const {
        return lines + thread % 32 / 4 * LINE + at % LINE;
    }
    __device__ __forceinline__ float *line_of(float *to, const Stride &s, int j) const {
        return to + offset(pixels.place(0), s) + channel(j) * s.c - begin;
    }
    /* Stores values low .. high - 1 of that line, which lie in one sector. */
    __device__ __forceinline__ void store_part(float *sector, int low, int high) const {
        SG_UNROLL
        for (int e = 0; e < 2; e++) {
            const int in = thread % 4 * 2 + e, at = low / SECTOR * SECTOR + in;
            if (at >= low && at < high)
                sector[in] = *own_line(at);
        }
    }
    __device__ __forceinline__ void close_window(float *to, const Stride &s, int window, int j) {
        const int lane = thread % 32;
        if (window == 0 && CARRIES)
            bring(j);
        __syncwarp();
        SG_UNROLL
        for (int i = 0; i < 2; i++) {
            const int first = joins ? 0 : (begins[i] + SECTOR - 1) / SECTOR * SECTOR;
            const int at = window * WINDOW + lane % 8 * 4;
            int ring = window * WINDOW % LINE + lane % 8 * 4;
            ring -= ring >= LINE ? LINE : 0;
            const float4 part =
                *reinterpret_cast<const float4 *>(lines + (i * 4 + lane / 8) * LINE + ring);
            if (at >= first && at < end_of(begins[i]))
                store_vector(next_at[i] + window * WINDOW, part.x, part.y, part.z, part.w);
        }
        if (window == 0 && !joins && begin > 0) /* the first sector is not whole */
            store_part(line_of(to, s, j), begin, min(SECTOR, end_of(begin)));
        if (window == WINDOWS - 1) {
            const int end = end_of(begin);
            if (CARRIES && joined)
                store_part(carry(j), end, begin + here);
            else
                store_part(line_of(to, s, j) + end, max(begin, end), begin + here);
        }
        __syncwarp();
        if (window < WINDOWS - 1)
            return;
        if (CARRIES && lane == 0)
            mbarrier_arrive(passed_on(consumer, j));
        SG_UNROLL
        for (int i = 0; i < 2; i++)
            next_at[i] += (j % 2 == 0 ? 8 : 56) * s.c;
    }
    /* What the tile before has left. */
    __device__ __forceinline__ void bring(int j) {
        mbarrier_wait(passed_on(consumer == 0 ? CONSUMERS - 1 : consumer - 1, j),
                      (tiles + CONSUMERS - 1) / CONSUMERS & 1 ^ 1);
        const int mine = thread % 4 * 2;
        SG_UNROLL
        for (int e = 0; e < 2; e++)
            if (joins && mine + e < begin)
                *own_line(mine + e) = carry(j)[mine + e];
    }
    __device__ __forceinline__ float *carry(int j) const {
        return carried + (output * TILE_N + row(j)) * SECTOR;
    }
    __device__ __forceinline__ unsigned passed_on(int by, int j) const {
        return passed + 8 * (((by * CARRIES + output) * CHANNELS + j) * 4 + thread / 32);
    }
};
