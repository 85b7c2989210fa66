/* Lines of a narrow output, for ring_rows.cuh: what a warp puts, eight channels at a time, is
 * turned around in shared memory by `stmatrix`, whose transposed rows are a channel's eight
 * neighbours; lanes then store OUT_VECTOR neighbours each, a channel's pixels side by side, a group
 * later.
 *
 * Defined before: ROW_BLOCKS, WARP_PIXELS, LINE_VECTOR, LINE_LANES, LINE_VECTORS. */

/* Bytes of a channel: rows of a matrix, and of two channels read at once, meet no bank twice. */
constexpr int NARROW_ROW = WARP_PIXELS * 2 + 16;
constexpr int NARROW_PIXELS = 2 * ROW_BLOCKS;                        /* of a lane */
constexpr int NARROW_WORDS = LINE_VECTOR == 1 ? 1 : LINE_VECTOR / 2; /* that a lane stores at once */

/* 8 x 8 elements of each register, transposed. row: address of row lane % 8 of matrix lane / 8. */
__device__ __forceinline__ void store_four_matrices(unsigned row, unsigned a, unsigned b,
                                                    unsigned c, unsigned d) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
                 ::"r"(row), "r"(a), "r"(b), "r"(c), "r"(d)
                 : "memory");
}
__device__ __forceinline__ void store_two_matrices(unsigned row, unsigned a, unsigned b) {
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
    unsigned char *lines;                         /* [8][NARROW_ROW], of this warp */
    real even[NARROW_PIXELS];                     /* put last, of an even channel */
    unsigned pair[NARROW_PIXELS];                 /* channels of a quad's lane */
    unsigned pending[LINE_VECTORS][NARROW_WORDS]; /* read back, to be stored */
    int pending_first;                            /* its first channel; -1: none */
    unsigned short *line; /* where this lane stores the first of what it stores, of channel 0 */
    bool inside;

    template <class T>
    __device__ __forceinline__ void put(const T *type, int p, int j, real value, int lane) {
        if (j % 2 == 0) {
            even[p] = value;
            return;
        }
        pair[p] = narrow_pair(type, even[p], value);
        if (p == NARROW_PIXELS - 1)
            turn_around(lane);
    }
    /* Matrix p is of the warp's pixels 8 (p % 2 ROW_BLOCKS + p / 2) and on. */
    __device__ __forceinline__ void turn_around(int lane) {
        const int matrix = lane / 8 % NARROW_PIXELS;
        const unsigned row = shared_address(lines) + lane % 8 * NARROW_ROW +
                             (matrix % 2 * ROW_BLOCKS + matrix / 2) * 16;
        __syncwarp();
        if (NARROW_PIXELS == 2)
            store_two_matrices(row, pair[0], pair[1]);
        SG_UNROLL
        for (int p = 0; p + 3 < NARROW_PIXELS; p += 4)
            store_four_matrices(row + p / 2 * 16, pair[p], pair[p + 1], pair[p + 2], pair[p + 3]);
        __syncwarp();
    }
    __device__ __forceinline__ void read_back(int first, int lane) {
        const unsigned char *from = lines + lane / LINE_LANES * LINE_VECTORS * NARROW_ROW +
                                    lane % LINE_LANES * LINE_VECTOR * 2;
        SG_UNROLL
        for (int i = 0; i < LINE_VECTORS; i++) {
            const unsigned char *at = from + i * NARROW_ROW;
            if (LINE_VECTOR == 8) {
                const uint4 eight = *reinterpret_cast<const uint4 *>(at);
                pending[i][0] = eight.x, pending[i][1 % NARROW_WORDS] = eight.y;
                pending[i][2 % NARROW_WORDS] = eight.z, pending[i][3 % NARROW_WORDS] = eight.w;
            } else if (LINE_VECTOR == 4) {
                const uint2 four = *reinterpret_cast<const uint2 *>(at);
                pending[i][0] = four.x, pending[i][1 % NARROW_WORDS] = four.y;
            } else if (LINE_VECTOR == 2) {
                pending[i][0] = *reinterpret_cast<const unsigned *>(at);
            } else {
                pending[i][0] = *reinterpret_cast<const unsigned short *>(at);
            }
        }
        pending_first = first;
    }
    __device__ __forceinline__ void store_pending(Stride s) const {
        if (pending_first < 0 || !inside)
            return;
        unsigned short *at = line + pending_first * s.c;
        SG_UNROLL
        for (int i = 0; i < LINE_VECTORS; i++, at += s.c) {
            const unsigned *from = pending[i];
            if (LINE_VECTOR == 8)
                *reinterpret_cast<uint4 *>(at) =
                    make_uint4(from[0], from[1 % NARROW_WORDS], from[2 % NARROW_WORDS],
                               from[3 % NARROW_WORDS]);
            else if (LINE_VECTOR == 4)
                *reinterpret_cast<uint2 *>(at) = make_uint2(from[0], from[1 % NARROW_WORDS]);
            else if (LINE_VECTOR == 2)
                *reinterpret_cast<unsigned *>(at) = from[0];
            else
                *at = static_cast<unsigned short>(from[0]);
        }
    }
};
