/* The tile of conv_wgmma_ring.cuh with pixels as rows, whose outputs leave in lines of floats.
 *
 * Outputs' w strides are 1 and a tile is one row of pixels: every warp turns eight channels at a
 * time around in shared memory of its own, and stores OUT_VECTOR neighbours a lane, a channel's
 * pixels side by side. What it reads back is stored a group later: shared memory answers slowly
 * while the other consumer's products keep it busy. */

constexpr int LINE = WARP_PIXELS + 4; /* beyond a multiple of 16: stores meet no bank twice */
constexpr int LINE_VECTORS = 8 / LINE_STEP;
constexpr int CONSUMER_FLOATS = 4 * 8 * LINE; /* of a consumer, in shared memory */
//@ include ring_shared.cuh

/* Neighbours in one store: written in C, they come apart. */
__device__ __forceinline__ void store_vector(float *to, float x, float y) {
    asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(to), "f"(x), "f"(y) : "memory");
}
__device__ __forceinline__ void store_vector(float *to, float x, float y, float z, float w) {
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(x), "f"(y), "f"(z),
                 "f"(w)
                 : "memory");
}

struct Tile : RowTile {
    real *lines;                              /* [8][LINE], of this warp */
    float pending[LINE_VECTORS][LINE_VECTOR]; /* read back, to be stored */
    int pending_first;                        /* its first channel; -1: none */
    float *line; /* where this lane stores the first of what it stores, of channel 0 */
    bool line_inside;
    /* Of the two channels of this group of slots and of the next. */
    float2 by[2], next_by[2];
    real operand[TILE_OPERANDS + 1][2], next_operand[TILE_OPERANDS + 1][2];
    int now, ahead; /* the slots that they are for; -1: none */

    __device__ __forceinline__ void open(Shared &shared, int consumer) {
        lane = threadIdx.x % 32;
        lines = shared.consumer[consumer] + pixels.warp * 8 * LINE;
        pending_first = -1;
    }
    __device__ __forceinline__ void start(int, int) { now = ahead = -1; }

    __device__ __forceinline__ void read_table(int j) {
        SG_UNROLL
        for (int e = 0; e < 2; e++) {
            next_by[e] = scale_bias[column(j + e)];
            SG_UNROLL
            for (int k = 0; k < TILE_OPERANDS; k++)
                next_operand[k][e] = operands[k * TILE_N + column(j + e)];
        }
        ahead = j;
    }
    __device__ __forceinline__ void turn_table(int j) {
        const int first = j / 2 * 2;
        if (now == first)
            return;
        if (ahead != first)
            read_table(first);
        SG_UNROLL
        for (int e = 0; e < 2; e++) {
            by[e] = next_by[e];
            SG_UNROLL
            for (int k = 0; k < TILE_OPERANDS; k++)
                operand[k][e] = next_operand[k][e];
        }
        now = first;
        if (first > 2 &&
            first + 2 < CHANNELS) /* at first all sums are there yet, and no registers */
            read_table(first + 2);
    }
    __device__ __forceinline__ real acc(int p, int j) {
        if (p == 0 && j % 2 == 0) /* tails go through pixels and slots upwards */
            turn_table(j);
        return d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2] * by[j % 2].x + by[j % 2].y;
    }
    __device__ __forceinline__ real per_channel(int k, int j) {
        if (j % 2 == 0)
            turn_table(j);
        return operand[k][j % 2];
    }

    template <int V, class T>
    __device__ __forceinline__ void put(T *to, Stride s, int p, int j, real value) {
        RowTile::put<V>(to, s, p, j, value);
    }
    template <int V>
    __device__ __forceinline__ void put(float *to, Stride s, int p, int j, real value) {
        if (!ALL_WHOLE && !whole_group(j)) {
            RowTile::put<V>(to, s, p, j, value);
            return;
        }
        if (p == 0 && j == 0)
            open_lines(to, s);
        if (p == 0 && j % 2 == 0)
            __syncwarp();
        lines[column(j) % 8 * LINE + pixels.pixel(row(p)) - pixels.warp * WARP_PIXELS] = value;
        if (p == PIXELS - 1 && j % 2 == 1) {
            __syncwarp();
            store_pending(s);
            read_back(j / 2 * 8);
        }
    }
    template <int V, class T> __device__ __forceinline__ void flush(T *, Stride) {}
    template <int V> __device__ __forceinline__ void flush(float *, Stride s) {
        store_pending(s);
        pending_first = -1;
    }

    __device__ __forceinline__ void open_lines(float *to, Stride s) {
        const int pixel = pixels.warp * WARP_PIXELS + lane % LINE_LANES * LINE_VECTOR;
        line_inside = pixels.covers(pixel);
        line = to + offset(pixels.place_at(pixel), s) + lane / LINE_LANES * s.c;
    }
    __device__ __forceinline__ void read_back(int first) {
        const float *from = lines + lane / LINE_LANES * LINE + lane % LINE_LANES * LINE_VECTOR;
        SG_UNROLL
        for (int i = 0; i < LINE_VECTORS; i++) {
            const float *at = from + i * LINE_STEP * LINE;
            if (LINE_VECTOR == 4) {
                const float4 four = *reinterpret_cast<const float4 *>(at);
                pending[i][0] = four.x, pending[i][1 % LINE_VECTOR] = four.y;
                pending[i][2 % LINE_VECTOR] = four.z, pending[i][3 % LINE_VECTOR] = four.w;
            } else if (LINE_VECTOR == 2) {
                const float2 two = *reinterpret_cast<const float2 *>(at);
                pending[i][0] = two.x, pending[i][1 % LINE_VECTOR] = two.y;
            } else {
                pending[i][0] = *at;
            }
        }
        pending_first = channel_first + first;
    }
    __device__ __forceinline__ void store_pending(Stride s) const {
        if (pending_first < 0 || !line_inside)
            return;
        float *at = line + pending_first * s.c;
        SG_UNROLL
        for (int i = 0; i < LINE_VECTORS; i++, at += LINE_STEP * s.c) {
            if (LINE_VECTOR == 4)
                store_vector(at, pending[i][0], pending[i][1 % LINE_VECTOR],
                             pending[i][2 % LINE_VECTOR], pending[i][3 % LINE_VECTOR]);
            else if (LINE_VECTOR == 2)
                store_vector(at, pending[i][0], pending[i][1 % LINE_VECTOR]);
            else
                *at = pending[i][0];
        }
    }
};
