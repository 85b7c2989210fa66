/* Memory takes a sector (32 bytes) that is written in two parts at the price of several whole ones,
 * and a line of pixels, as a rule, begins in the middle of one. So where one tile's line goes on in
 * the next tile's, the first leaves its last pixels, less than a sector, for the second, and every
 * sector is written once. On the way a warp turns eight channels around in shared memory of its
 * own, WINDOW values of each line at a time, from whole sectors on: the last values of a lane, if
 * they lie behind the window, wait for the next. What was turned around is stored behind the
 * arithmetic of the next window.
 *
 * Constants: OUT_LINES, the number of outputs with channels: float32, w stride 1, TILE_REAL and
 * OUT_GROUP multiples of 8, and a tile is (part of) one row of pixels. OUT_PAIRS: lines begin at
 * even values of a sector. CARRIED: tiles go along the rows and from one to the next. */

constexpr int SECTOR = 8; /* values */
constexpr int WINDOW = 32, WINDOWS = TILE_PIXELS / WINDOW;
constexpr int LINE = WINDOW + SECTOR; /* from line to line: four lie in banks of their own */
constexpr int LAST_TILE = (ROW_TILES - 1) * TILE_PIXELS; /* of a row */
constexpr int CARRIES = CARRIED ? OUT_LINES : 0; /* outputs that have carries */
constexpr int CARRY_FLOATS = CARRIES * TILE_N * SECTOR;
constexpr int CARRY_BARRIERS = CONSUMERS * CARRIES * 2 * CHANNEL_BLOCKS * 4;
constexpr int CONSUMER_FLOATS = CROSSING + (OUT_LINES ? 4 * 8 * LINE : 0); /* in shared memory */
//@ include ring_shared.cuh

/* Neighbours in one store: written in C, they come apart. */
__device__ __forceinline__ void store_four(float *to, float4 from) {
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(from.x), "f"(from.y),
                 "f"(from.z), "f"(from.w) : "memory");
}

/* At once: written in C, it waits until it is wanted, and what wants it waits for it. */
__device__ __forceinline__ float4 load_four(const float *from) {
    float4 to;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(to.x), "=f"(to.y), "=f"(to.z),
                 "=f"(to.w) : "r"(shared_address(from)) : "memory");
    return to;
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
     * and where in a sector its two pixels of eight lie; whether that is the sector behind the one
     * in which the eight begin; and its pixels of a window, the two before them first. */
    int begin, in[2];
    bool late[2];
    float held[2 + WINDOW / 4] = {};
    /* Of the two channels that this lane stores. */
    int begins[2];
    float *next_at[2];
    float4 part[2];
    float2 by; /* of the channel that is being put */

    __device__ __forceinline__ void open(Shared &shared, int number) {
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
        if (p == 0 && j == 0)
            open_lines(to, s);
        held[2 + p % 8] = value;
        if (p % 8 == 7)
            close_window(to, s, p / 8, j);
    }
    template <int V, class T> __device__ __forceinline__ void flush(T *, const Stride &) {}
    template <int V> __device__ __forceinline__ void flush(float *, const Stride &) {
        if (OUT_LINES > 1)
            output++;
    }

    /* How many pixels the tile has whose first is `from` of its box. */
    __device__ __forceinline__ int pixels_at(int from) const {
        const Box &box = pixels.box;
        return max(0, min(TILE_PIXELS, min(BOX_X, box.width - box.left) - from));
    }
    /* Whether a tile's line goes on where that of the tile `from` of `row` ends. */
    __device__ __forceinline__ bool goes_on(int from, int row, const Stride &s) const {
        if (!CARRIED || row < 0 || pixels_at(from) < SECTOR)
            return false;
        if (ROW_TILES > 1 && from < LAST_TILE)
            return pixels_at(from + TILE_PIXELS) >= SECTOR;
        return row + 1 < rows && pixels.box.width <= BOX_X &&
               (RING_DEPTH ? s.d : s.h) == pixels.box.width &&
               (ROW_TILES == 1 || pixels_at(0) >= SECTOR);
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
            const int at = begin + lane % 4 * 2 + (OUT_PAIRS ? 0 : e);
            late[e] = at >= SECTOR;
            in[e] = at % SECTOR + (OUT_PAIRS ? e : 0);
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
    /* Where memory has the sector in which the line begins that this lane puts. */
    __device__ __forceinline__ float *line_of(float *to, const Stride &s, int j) const {
        return to + offset(pixels.place(0), s) + channel(j) * s.c - begin;
    }
    /* Of a line's sector, the values in this lane's places. */
    __device__ __forceinline__ float2 own_two(const float *sector) const {
        return OUT_PAIRS ? *reinterpret_cast<const float2 *>(sector + in[0])
                         : make_float2(sector[in[0]], sector[in[1]]);
    }
    /* Stores values low .. high - 1 of its line, of the sector that begins with value `at`. */
    __device__ __forceinline__ void store_part(float *sector, int at, int low, int high) const {
        const float *line = lines + thread % 32 / 4 * LINE + at % WINDOW;
        const float2 two = at == TILE_PIXELS ? make_float2(held[0], held[1]) : own_two(line);
        if (at + in[0] >= low && at + in[0] < high) {
            if (OUT_PAIRS)
                *reinterpret_cast<float2 *>(sector + in[0]) = two;
            else
                sector[in[0]] = two.x;
        }
        if (!OUT_PAIRS && at + in[1] >= low && at + in[1] < high)
            sector[in[1]] = two.y;
    }
    /* All of a window's values are there. */
    __device__ __forceinline__ void close_window(float *to, const Stride &s, int window, int j) {
        if (window > 0)
            store_window(s, window - 1, j);
        else if (j > 0)
            store_window(s, WINDOWS - 1, j - 1);
        if (window == 0 && CARRIES)
            bring(j);
        __syncwarp();
        /* What is left of the line stays in the last window that has any of it. */
        const bool wanted = window == 0 || window * WINDOW < begin + here;
        SG_UNROLL
        for (int q = 0; q < 8; q += 2) {
            const float x = late[0] ? held[q] : held[q + 2];
            const float y = late[1] ? held[q + 1] : held[q + 3];
            float *sector = lines + thread % 32 / 4 * LINE + q / 2 * SECTOR;
            if (OUT_PAIRS)
                put_pair(sector + in[0], x, y, wanted);
            else if (wanted)
                sector[in[0]] = x, sector[in[1]] = y;
        }
        held[0] = held[8], held[1] = held[9];
        if (window == 0 && !joins && begin > 0) /* the first sector is not whole */
            store_part(line_of(to, s, j), 0, begin, min(SECTOR, end_of(begin)));
        if (window == WINDOWS - 1) {
            const int end = end_of(begin);
            float *sector = CARRIES && joined ? carry(j) : line_of(to, s, j) + end;
            store_part(sector, end, max(begin, end), begin + here);
        }
        __syncwarp();
        SG_UNROLL
        for (int i = 0; i < 2; i++)
            part[i] = load_four(lines + (i * 4 + thread % 32 / 8) * LINE + thread % 8 * 4);
        if (CARRIES && window == WINDOWS - 1 && thread % 32 == 0)
            mbarrier_arrive(passed_on(consumer, j));
        if (window == WINDOWS - 1 && (j == CHANNELS - 1 || !has(j + 1)))
            store_window(s, window, j);
    }
    /* What was read of it. */
    __device__ __forceinline__ void store_window(const Stride &s, int window, int j) {
        SG_UNROLL
        for (int i = 0; i < 2; i++) {
            const int first = joins ? 0 : (begins[i] + SECTOR - 1) / SECTOR * SECTOR;
            const int at = window * WINDOW + thread % 8 * 4;
            if (at >= first && at < end_of(begins[i]))
                store_four(next_at[i] + window * WINDOW, part[i]);
            next_at[i] += (window < WINDOWS - 1 ? 0 : j % 2 == 0 ? 8 : 56) * s.c;
        }
    }
    /* What the tile before has left: late lanes put it first. */
    __device__ __forceinline__ void bring(int j) {
        mbarrier_wait(passed_on(consumer == 0 ? CONSUMERS - 1 : consumer - 1, j),
                      (tiles + CONSUMERS - 1) / CONSUMERS & 1 ^ 1);
        const float2 left = joins ? own_two(carry(j)) : make_float2(0, 0);
        held[0] = left.x, held[1] = left.y;
    }
    __device__ __forceinline__ float *carry(int j) const {
        return carried + (output * TILE_N + row(j)) * SECTOR;
    }
    __device__ __forceinline__ unsigned passed_on(int by, int j) const {
        return passed + 8 * (((by * CARRIES + output) * CHANNELS + j) * 4 + thread / 32);
    }
};
