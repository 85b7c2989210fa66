/* The tile of conv_wgmma_ring.cuh with pixels as rows, whose narrow outputs have channels side by
 * side: quads exchange words until each lane has eight channels of a pixel, its quad 32. */
//@ include narrow_tile.cuh

constexpr int CONSUMER_FLOATS = 0;
//@ include ring_shared.cuh

struct Tile : NarrowTile {
    unsigned word[4][PIXELS]; /* [eight of channels], two channels a word */
    int waiting;              /* eights that were put and not stored */
    unsigned short *to_pixel; /* where this lane stores of pixel 0 of these 32 channels */
    long long step;           /* from a pixel to the one 8 further */
    unsigned inside;          /* which pixels there are, as bits */

    __device__ __forceinline__ void open(const Shared &, int) {
        lane = threadIdx.x % 32;
        waiting = 0;
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
        word[j / 2 % 4][p] = narrow_pair(to, even[p], value);
        if (p != PIXELS - 1)
            return;
        waiting = j / 2 % 4 + 1;
        if (waiting == 4)
            store_channels();
    }
    template <int V, class T> __device__ __forceinline__ void flush(T *, Stride) {}
    template <int V> __device__ __forceinline__ void flush(half_t *, Stride) { store_channels(); }
    template <int V> __device__ __forceinline__ void flush(bfloat_t *, Stride) { store_channels(); }

    __device__ __forceinline__ void open_lines(unsigned short *to, Stride s) {
        to_pixel = to + offset(place(0), s) + channel_first * s.c + lane % 4 * 8;
        step = 8 * s.w;
        inside = 0;
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++)
            inside |= valid(p) ? 1u << p : 0;
    }
    /* Transposes 4 x 4 words of a quad, for each pixel: lane q of it gets eight q. */
    __device__ __forceinline__ void store_channels() {
        const bool odd = lane & 1, upper = lane & 2;
        if (waiting == 0)
            return;
        SG_UNROLL
        for (int p = 0; p < PIXELS; p++) {
            const unsigned a = word[0][p], b = word[1][p], c = word[2][p], d = word[3][p];
            const unsigned ab = __shfl_xor_sync(~0U, odd ? a : b, 1);
            const unsigned cd = __shfl_xor_sync(~0U, odd ? c : d, 1);
            const unsigned low = odd ? ab : a, high = odd ? b : ab; /* of eight q % 2 */
            const unsigned low2 = odd ? cd : c, high2 = odd ? d : cd;
            const unsigned first = __shfl_xor_sync(~0U, upper ? low : low2, 2);
            const unsigned second = __shfl_xor_sync(~0U, upper ? high : high2, 2);
            if (lane % 4 < waiting && (inside >> p & 1))
                *reinterpret_cast<uint4 *>(to_pixel + (p % 2 * ROW_BLOCKS + p / 2) * step) =
                    upper ? make_uint4(first, second, low2, high2)
                          : make_uint4(low, high, first, second);
        }
        to_pixel += 32;
        waiting = 0;
    }
};
