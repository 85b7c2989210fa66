/* Narrow outputs on their way out of ring_rows.cuh, and tables read ahead: shared memory answers
 * slowly while products keep it busy.
 *
 * Where pixels lie side by side, sixteen channels of a warp at a time are turned around in shared
 * memory by `stmatrix`, whose transposed rows are a channel's eight neighbours; lanes store
 * OUT_VECTOR neighbours each, a turn later. Where channels do (LINES_OF_CHANNELS), quads exchange
 * words until each lane has eight channels of a pixel, its quad 32.
 *
 * Defined before: ROW_BLOCKS, WARP_PIXELS, LINE_VECTOR, LINE_LANES, LINE_STEP, TILE_N,
 * TILE_OPERANDS. */

constexpr int NARROW_PIXELS = 2 * ROW_BLOCKS; /* of a lane */

/* Two results as elements, the first low. */
__device__ __forceinline__ unsigned narrow_pair(const half_t *, float low, float high) {
    return pack_halves(low, high);
}
__device__ __forceinline__ unsigned narrow_pair(const bfloat_t *, float low, float high) {
    return pack_bfloats(low, high);
}

/* ---- pixels side by side ------------------------------------------------------------------- */

/* Bytes of a channel: rows of a matrix meet no bank twice. And of a warp. */
constexpr int NARROW_ROW = WARP_PIXELS * 2 + 16, NARROW_BYTES = 16 * NARROW_ROW;
/* What a lane stores of a turn: so many pieces, of so many words. */
constexpr int EIGHT_PIECES = 8 / (LINE_STEP ? LINE_STEP : 1); /* of eight channels */
constexpr int PIECES = 2 * EIGHT_PIECES;
constexpr int PIECE_WORDS = LINE_VECTOR == 1 ? 1 : LINE_VECTOR / 2;

/* 8 x 8 elements of each register, [pixel][channel], transposed. row: address of row lane % 8 of
 * matrix lane / 8. */
__device__ __forceinline__ void store_four_matrices(unsigned row, unsigned a, unsigned b,
                                                    unsigned c, unsigned d) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                     row),
                 "r"(a), "r"(b), "r"(c), "r"(d)
                 : "memory");
}
__device__ __forceinline__ void store_two_matrices(unsigned row, unsigned a, unsigned b) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(row),
                 "r"(a), "r"(b)
                 : "memory");
}

struct NarrowLines {
    unsigned char *lines;                  /* [NARROW_BYTES], of this warp */
    real even[NARROW_PIXELS];              /* put last, of an even channel */
    unsigned pair[2][NARROW_PIXELS];       /* [eight of channels], two channels a word */
    unsigned pending[PIECES][PIECE_WORDS]; /* read back, to be stored */
    int held;                              /* an eight waits for the one that a turn wants too */
    int pending_eights;                    /* of channels; 0: there are none */
    unsigned short *line;                  /* where this lane stores the first piece of the turn */
    bool inside;

    template <class T>
    __device__ __forceinline__ void put(const T *type, Stride s, int p, int j, real value,
                                        int lane) {
        if (j % 2 == 0) {
            even[p] = value;
            return;
        }
        const int eight = j / 2 % 2;
        pair[eight][p] = narrow_pair(type, even[p], value);
        if (p != NARROW_PIXELS - 1)
            return;
        held = !eight;
        if (eight)
            turn(s, 2, lane);
    }
    /* Stores what is pending, and reads back what was put since. */
    __device__ __forceinline__ void turn(Stride s, int eights, int lane) {
        store_turn(s);
        __syncwarp();
        SG_UNROLL
        for (int e = 0; e < eights; e++)
            store_eight(e, lane);
        __syncwarp();
        SG_UNROLL
        for (int i = 0; i < PIECES; i++)
            read_piece(i, lane);
        pending_eights = eights;
    }
    /* At the end of an output: what waits, and what is pending. */
    __device__ __forceinline__ void flush(Stride s, int lane) {
        if (held)
            turn(s, 1, lane);
        store_turn(s);
        held = pending_eights = 0;
    }
    /* Matrix p is of the warp's pixels 8 (p % 2 ROW_BLOCKS + p / 2) and on. */
    __device__ __forceinline__ void store_eight(int e, int lane) {
        const int matrix = lane / 8 % NARROW_PIXELS;
        const unsigned row = shared_address(lines) + (e * 8 + lane % 8) * NARROW_ROW +
                             (matrix % 2 * ROW_BLOCKS + matrix / 2) * 16;
        if (NARROW_PIXELS == 2)
            store_two_matrices(row, pair[e][0], pair[e][1]);
        SG_UNROLL
        for (int p = 0; p + 3 < NARROW_PIXELS; p += 4)
            store_four_matrices(row + p / 2 * 16, pair[e][p], pair[e][p + 1], pair[e][p + 2],
                                pair[e][p + 3]);
    }
    __device__ __forceinline__ void read_piece(int i, int lane) {
        const int channel =
            i / EIGHT_PIECES * 8 + lane / LINE_LANES * EIGHT_PIECES + i % EIGHT_PIECES;
        const unsigned char *from =
            lines + channel * NARROW_ROW + lane % LINE_LANES * LINE_VECTOR * 2;
        if (LINE_VECTOR == 8) {
            const uint4 eight = *reinterpret_cast<const uint4 *>(from);
            pending[i][0] = eight.x, pending[i][1 % PIECE_WORDS] = eight.y;
            pending[i][2 % PIECE_WORDS] = eight.z, pending[i][3 % PIECE_WORDS] = eight.w;
        } else if (LINE_VECTOR == 4) {
            const uint2 four = *reinterpret_cast<const uint2 *>(from);
            pending[i][0] = four.x, pending[i][1 % PIECE_WORDS] = four.y;
        } else if (LINE_VECTOR == 2) {
            pending[i][0] = *reinterpret_cast<const unsigned *>(from);
        } else {
            pending[i][0] = *reinterpret_cast<const unsigned short *>(from);
        }
    }
    __device__ __forceinline__ void store_turn(Stride s) {
        if (pending_eights == 0)
            return;
        SG_UNROLL
        for (int i = 0; i < PIECES; i++) {
            const unsigned *from = pending[i];
            unsigned short *to = line + (i / EIGHT_PIECES * 8 + i % EIGHT_PIECES) * s.c;
            if (!inside || i / EIGHT_PIECES >= pending_eights)
                continue;
            if (LINE_VECTOR == 8)
                *reinterpret_cast<uint4 *>(to) =
                    make_uint4(from[0], from[1 % PIECE_WORDS], from[2 % PIECE_WORDS],
                               from[3 % PIECE_WORDS]);
            else if (LINE_VECTOR == 4)
                *reinterpret_cast<uint2 *>(to) = make_uint2(from[0], from[1 % PIECE_WORDS]);
            else if (LINE_VECTOR == 2)
                *reinterpret_cast<unsigned *>(to) = from[0];
            else
                *to = static_cast<unsigned short>(from[0]);
        }
        line += 16 * s.c;
    }
};

/* ---- channels side by side ----------------------------------------------------------------- */

struct NarrowChannels {
    real last[NARROW_PIXELS];        /* put last, of an even channel */
    unsigned word[4][NARROW_PIXELS]; /* [eight of channels], two channels a word */
    int waiting;                     /* eights that were put and not stored */
    unsigned short *place;           /* where this lane stores of pixel 0 of these 32 channels */
    long long step;                  /* from a pixel to the one 8 further */
    unsigned inside;                 /* which pixels there are, as bits */

    template <class T>
    __device__ __forceinline__ void put(const T *type, int p, int j, real value, int lane) {
        if (j % 2 == 0) {
            last[p] = value;
            return;
        }
        word[j / 2 % 4][p] = narrow_pair(type, last[p], value);
        if (p != NARROW_PIXELS - 1)
            return;
        waiting = j / 2 % 4 + 1;
        if (waiting == 4)
            store_channels(lane);
    }
    __device__ __forceinline__ void flush(int lane) {
        if (waiting)
            store_channels(lane);
    }
    /* Transposes 4 x 4 words of a quad, for each pixel: lane q of it gets eight q. */
    __device__ __forceinline__ void store_channels(int lane) {
        const bool odd = lane & 1, upper = lane & 2;
        SG_UNROLL
        for (int p = 0; p < NARROW_PIXELS; p++) {
            const unsigned a = word[0][p], b = word[1][p], c = word[2][p], d = word[3][p];
            const unsigned ab = __shfl_xor_sync(~0U, odd ? a : b, 1);
            const unsigned cd = __shfl_xor_sync(~0U, odd ? c : d, 1);
            const unsigned low = odd ? ab : a, high = odd ? b : ab; /* of eight q % 2 */
            const unsigned low2 = odd ? cd : c, high2 = odd ? d : cd;
            const unsigned first = __shfl_xor_sync(~0U, upper ? low : low2, 2);
            const unsigned second = __shfl_xor_sync(~0U, upper ? high : high2, 2);
            if (lane % 4 < waiting && (inside >> p & 1))
                *reinterpret_cast<uint4 *>(place + (p % 2 * ROW_BLOCKS + p / 2) * step) =
                    upper ? make_uint4(first, second, low2, high2)
                          : make_uint4(low, high, first, second);
        }
        place += 32;
        waiting = 0;
    }
};

/* ---- tables -------------------------------------------------------------------------------- */

/* What `acc` and the tail want of channels, of so many pairs of slots ahead. */
struct ChannelTable {
    static constexpr int TABLE_AHEAD = 2, TABLE_PAIRS = TILE_N / 8;

    float2 by[TABLE_AHEAD + 1][2];
    real operand[TABLE_AHEAD + 1][TILE_OPERANDS + 1][2];
    int asked; /* the pair that was asked for last; -1: none */

    __device__ __forceinline__ void read_pair(const RowTile &tile, int pair) {
        SG_UNROLL
        for (int e = 0; e < 2; e++) {
            by[pair % (TABLE_AHEAD + 1)][e] = tile.scale_bias[tile.column(2 * pair + e)];
            SG_UNROLL
            for (int k = 0; k < TILE_OPERANDS; k++)
                operand[pair % (TABLE_AHEAD + 1)][k][e] =
                    tile.operands[k * TILE_N + tile.column(2 * pair + e)];
        }
    }
    /* Asked for in order, and again from the first. */
    __device__ __forceinline__ void turn_pair(const RowTile &tile, int pair) {
        if (asked == pair)
            return;
        if (pair == 0) {
            SG_UNROLL
            for (int i = 0; i < TABLE_AHEAD && i < TABLE_PAIRS; i++)
                read_pair(tile, i);
        }
        if (pair + TABLE_AHEAD < TABLE_PAIRS)
            read_pair(tile, pair + TABLE_AHEAD);
        asked = pair;
    }
};
