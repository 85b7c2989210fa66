/* Lines of a narrow output, for ring_rows.cuh: what a warp puts, sixteen channels at a time, is
 * turned around in shared memory by `stmatrix`, so that lanes store runs of neighbours in memory:
 * OUT_VECTOR pixels of a channel each, or the eight channels of a pixel (LINES_OF_CHANNELS). What a
 * lane reads back is stored a turn later, and tables are read ahead: shared memory answers slowly
 * while products keep it busy.
 *
 * Defined before: ROW_BLOCKS, WARP_PIXELS, LINE_VECTOR, LINE_LANES, LINE_STEP, TILE_N,
 * TILE_OPERANDS. */

/* Of pixels: [channel][pixel], rows of a matrix meet no bank twice. Of channels: [pixel][channel],
 * eights of every other four pixels exchanged, for the same reason. */
constexpr int NARROW_ROW = LINES_OF_CHANNELS ? 32 : WARP_PIXELS * 2 + 16; /* bytes */
constexpr int NARROW_BYTES = (LINES_OF_CHANNELS ? WARP_PIXELS : 16) * NARROW_ROW; /* of a warp */
constexpr int NARROW_PIXELS = 2 * ROW_BLOCKS;                                     /* of a lane */
/* What a lane stores of a turn: so many pieces, of so many words. */
constexpr int EIGHT_PIECES = 8 / (LINE_STEP ? LINE_STEP : 1); /* of pixels, of eight channels */
constexpr int PIECES = LINES_OF_CHANNELS ? WARP_PIXELS / 16 : 2 * EIGHT_PIECES;
constexpr int PIECE_WORDS = LINES_OF_CHANNELS ? 4 : LINE_VECTOR == 1 ? 1 : LINE_VECTOR / 2;

/* 8 x 8 elements of each register, [pixel][channel], transposed where lines are of pixels. row:
 * address of row lane % 8 of matrix lane / 8. */
__device__ __forceinline__ void store_four_matrices(unsigned row, unsigned a, unsigned b,
                                                    unsigned c, unsigned d) {
    if (LINES_OF_CHANNELS)
        asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row),
                     "r"(a), "r"(b), "r"(c), "r"(d)
                     : "memory");
    else
        asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
                     ::"r"(row), "r"(a), "r"(b), "r"(c), "r"(d)
                     : "memory");
}
__device__ __forceinline__ void store_two_matrices(unsigned row, unsigned a, unsigned b) {
    if (LINES_OF_CHANNELS)
        asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(row), "r"(a),
                     "r"(b)
                     : "memory");
    else
        asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(row),
                     "r"(a), "r"(b)
                     : "memory");
}

/* Two results as elements, the first low. */
__device__ __forceinline__ unsigned narrow_pair(const half_t *, float low, float high) {
    return pack_halves(low, high);
}
__device__ __forceinline__ unsigned narrow_pair(const bfloat_t *, float low, float high) {
    return pack_bfloats(low, high);
}

struct NarrowLines {
    unsigned char *lines;                  /* [NARROW_BYTES], of this warp */
    real even[NARROW_PIXELS];              /* put last, of an even channel */
    unsigned pair[2][NARROW_PIXELS];       /* [eight of channels], two channels a word */
    unsigned pending[PIECES][PIECE_WORDS]; /* read back, to be stored */
    int held;                              /* an eight waits for the one that a turn wants too */
    int pending_eights;                    /* of channels; 0: there are none */
    unsigned short *line;                  /* where this lane stores the first piece of the turn */
    unsigned inside;                       /* which pieces' pixels there are, as bits */

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
        store_pending(s, lane);
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
        store_pending(s, lane);
        held = pending_eights = 0;
    }
    /* Matrix p is of the warp's pixels 8 (p % 2 ROW_BLOCKS + p / 2) and on. */
    __device__ __forceinline__ void store_eight(int e, int lane) {
        const int matrix = lane / 8 % NARROW_PIXELS, at = lane % 8;
        const int pixel = (matrix % 2 * ROW_BLOCKS + matrix / 2) * 8;
        const unsigned row =
            shared_address(lines) +
            (LINES_OF_CHANNELS ? (pixel + at) * NARROW_ROW + (e ^ at / 4) * 16
                               : (e * 8 + at) * NARROW_ROW + pixel * 2);
        const int step = LINES_OF_CHANNELS ? 8 * NARROW_ROW : 16; /* of eight pixels */
        if (NARROW_PIXELS == 2)
            store_two_matrices(row, pair[e][0], pair[e][1]);
        SG_UNROLL
        for (int p = 0; p + 3 < NARROW_PIXELS; p += 4)
            store_four_matrices(row + p / 2 * step, pair[e][p], pair[e][p + 1], pair[e][p + 2],
                                pair[e][p + 3]);
    }
    __device__ __forceinline__ void read_piece(int i, int lane) {
        const int pixel = i * 16 + lane / 2;
        const int channel =
            i / EIGHT_PIECES * 8 + lane / LINE_LANES * EIGHT_PIECES + i % EIGHT_PIECES;
        const unsigned char *from =
            lines + (LINES_OF_CHANNELS
                         ? pixel * NARROW_ROW + (lane % 2 ^ pixel / 4 % 2) * 16
                         : channel * NARROW_ROW + lane % LINE_LANES * LINE_VECTOR * 2);
        unsigned(&to)[PIECE_WORDS] = pending[i];
        if (PIECE_WORDS == 4) {
            const uint4 four = *reinterpret_cast<const uint4 *>(from);
            to[0] = four.x, to[1 % PIECE_WORDS] = four.y;
            to[2 % PIECE_WORDS] = four.z, to[3 % PIECE_WORDS] = four.w;
        } else if (PIECE_WORDS == 2) {
            const uint2 two = *reinterpret_cast<const uint2 *>(from);
            to[0] = two.x, to[1 % PIECE_WORDS] = two.y;
        } else if (LINE_VECTOR == 2) {
            to[0] = *reinterpret_cast<const unsigned *>(from);
        } else {
            to[0] = *reinterpret_cast<const unsigned short *>(from);
        }
    }
    __device__ __forceinline__ void store_pending(Stride s, int lane) {
        if (pending_eights == 0)
            return;
        SG_UNROLL
        for (int i = 0; i < PIECES; i++) {
            const bool there = LINES_OF_CHANNELS ? lane % 2 < pending_eights
                                                 : i / EIGHT_PIECES < pending_eights;
            if (there && (inside >> (LINES_OF_CHANNELS ? i : 0) & 1))
                store_piece(LINES_OF_CHANNELS ? line + i * 16 * s.w
                                              : line + (i / EIGHT_PIECES * 8 + i % EIGHT_PIECES) *
                                                           s.c,
                            pending[i]);
        }
        line += LINES_OF_CHANNELS ? 16 : 16 * s.c;
    }
    static __device__ __forceinline__ void store_piece(unsigned short *to,
                                                       const unsigned (&from)[PIECE_WORDS]) {
        if (PIECE_WORDS == 4)
            *reinterpret_cast<uint4 *>(to) =
                make_uint4(from[0], from[1 % PIECE_WORDS], from[2 % PIECE_WORDS],
                           from[3 % PIECE_WORDS]);
        else if (PIECE_WORDS == 2)
            *reinterpret_cast<uint2 *>(to) = make_uint2(from[0], from[1 % PIECE_WORDS]);
        else if (LINE_VECTOR == 2)
            *reinterpret_cast<unsigned *>(to) = from[0];
        else
            *to = static_cast<unsigned short>(from[0]);
    }
};

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
