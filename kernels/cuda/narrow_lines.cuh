/* The tile of conv_wgmma_ring.cuh with pixels as rows, whose narrow outputs have pixels side by
 * side: sixteen channels of a warp at a time are turned around in shared memory by `stmatrix`,
 * whose transposed rows are a channel's eight neighbours; lanes store OUT_VECTOR neighbours each, a
 * turn later. */
//@ include narrow_tile.cuh

/* Bytes of a channel: rows of a matrix meet no bank twice. And of a warp. */
constexpr int NARROW_ROW = WARP_PIXELS * 2 + 16, NARROW_BYTES = 16 * NARROW_ROW;
constexpr int CONSUMER_FLOATS = NARROW_BYTES; /* of four warps */
//@ include ring_shared.cuh
/* What a lane stores of a turn: so many pieces, of so many words. */
constexpr int EIGHT_PIECES = 8 / LINE_STEP; /* of eight channels */
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

struct Tile : NarrowTile {
    unsigned char *lines;                  /* [NARROW_BYTES], of this warp */
    unsigned pair[2][PIXELS];              /* [eight of channels], two channels a word */
    unsigned pending[PIECES][PIECE_WORDS]; /* read back, to be stored */
    int held;                              /* an eight waits for the one that a turn wants too */
    int pending_eights;                    /* of channels; 0: there are none */
    unsigned short *line;                  /* where this lane stores the first piece of the turn */
    bool inside;

    __device__ __forceinline__ void open(Shared &shared, int consumer) {
        lane = threadIdx.x % 32;
        lines = reinterpret_cast<unsigned char *>(shared.consumer[consumer]) +
                pixels.warp * NARROW_BYTES;
        held = pending_eights = 0;
    }

    template <int V, class T>
    __device__ __forceinline__ void put(T *to, Stride s, int p, int j, real value) {
        RowTile::put<V>(to, s, p, j, value);
    }
    template <int V>
    __device__ __forceinline__ void put(half_t *to, Stride s, int p, int j, real value) {
        put_narrow(to, s, p, j, value);
    }
    template <int V>
    __device__ __forceinline__ void put(bfloat_t *to, Stride s, int p, int j, real value) {
        put_narrow(to, s, p, j, value);
    }
    template <class T>
    __device__ __forceinline__ void put_narrow(T *to, Stride s, int p, int j, real value) {
        if (!ALL_WHOLE && !whole_group(j)) {
            RowTile::put<1>(to, s, p, j, value);
            return;
        }
        if (p == 0 && j == 0)
            open_lines(&to->bits, s);
        if (j % 2 == 0) {
            even[p] = value;
            return;
        }
        const int eight = j / 2 % 2;
        pair[eight][p] = narrow_pair(to, even[p], value);
        if (p != PIXELS - 1)
            return;
        held = !eight;
        if (eight)
            turn(s, 2);
    }
    template <int V, class T> __device__ __forceinline__ void flush(T *, Stride) {}
    template <int V> __device__ __forceinline__ void flush(half_t *, Stride s) { finish(s); }
    template <int V> __device__ __forceinline__ void flush(bfloat_t *, Stride s) { finish(s); }

    __device__ __forceinline__ void open_lines(unsigned short *to, Stride s) {
        const int pixel = pixels.warp * WARP_PIXELS + lane % LINE_LANES * LINE_VECTOR;
        inside = pixels.covers(pixel);
        line = to + offset(pixels.place_at(pixel), s) +
               (channel_first + lane / LINE_LANES * EIGHT_PIECES) * s.c;
    }
    /* Stores what is pending, and reads back what was put since. */
    __device__ __forceinline__ void turn(Stride s, int eights) {
        store_turn(s);
        __syncwarp();
        SG_UNROLL
        for (int e = 0; e < eights; e++)
            store_eight(e);
        __syncwarp();
        SG_UNROLL
        for (int i = 0; i < PIECES; i++)
            read_piece(i);
        pending_eights = eights;
    }
    /* At the end of an output: what waits, and what is pending. */
    __device__ __forceinline__ void finish(Stride s) {
        if (held)
            turn(s, 1);
        store_turn(s);
        held = pending_eights = 0;
    }
    /* Matrix p is of the warp's pixels 8 (p % 2 ROW_BLOCKS + p / 2) and on. */
    __device__ __forceinline__ void store_eight(int e) {
        const int matrix = lane / 8 % PIXELS;
        const unsigned row = shared_address(lines) + (e * 8 + lane % 8) * NARROW_ROW +
                             (matrix % 2 * ROW_BLOCKS + matrix / 2) * 16;
        if (PIXELS == 2)
            store_two_matrices(row, pair[e][0], pair[e][1]);
        SG_UNROLL
        for (int p = 0; p + 3 < PIXELS; p += 4)
            store_four_matrices(row + p / 2 * 16, pair[e][p], pair[e][p + 1], pair[e][p + 2],
                                pair[e][p + 3]);
    }
    __device__ __forceinline__ void read_piece(int i) {
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
