/* conv_wgmma_ring.cuh, pixels as rows of the products: a tile of 64 ROW_BLOCKS pixels. */

/* Blocks of 64 rows take turns in the pixels by eights, so that a warp's pixels are neighbours. */
struct Pixels {
    Box box;
    int warp;

    __device__ __forceinline__ int pixel(int row) const {
        return ((warp * 2 + row % 16 / 8) * ROW_BLOCKS + row / 16) * 8 + row % 8;
    }
    __device__ __forceinline__ bool valid(int row) const { return box.valid(pixel(row)); }
    __device__ __forceinline__ Place place(int row) const { return box.place(pixel(row)); }
};

//@ include row_tile.cuh

/* With OUT_VECTOR (outputs' w strides are 1 and a tile is one row of pixels) every warp turns eight
 * channels at a time around in shared memory of its own, and stores OUT_VECTOR neighbours a lane, a
 * channel's pixels side by side. What it reads back is stored a group later: shared memory answers
 * slowly while the other consumer's products keep it busy. */
constexpr int WARP_PIXELS = 16 * ROW_BLOCKS;
constexpr int LINE =
    WARP_PIXELS + 4; /* 4 beyond a multiple of 16: a warp's stores meet no bank twice */
constexpr int LINE_VECTOR = OUT_VECTOR ? OUT_VECTOR : 1;
constexpr int LINE_LANES = WARP_PIXELS / LINE_VECTOR; /* lanes that hold one channel */
constexpr int LINE_STEP = 32 / LINE_LANES;            /* channels that a warp stores at once */
constexpr int LINE_VECTORS = 8 / (LINE_STEP ? LINE_STEP : 1);
constexpr bool FLOAT_LINES = OUT_VECTOR && !NARROW_LINES;

/* Every group of 8 channels of every tile is complete: half of the code that put is would be there
 * for the others. */
constexpr bool ALL_WHOLE = TILE_REAL % 8 == 0 && OUT_GROUP % TILE_REAL == 0;

/* Neighbours in one store: written in C, they come apart. */
__device__ __forceinline__ void store_vector(float *to, float x, float y) {
    asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(to), "f"(x), "f"(y) : "memory");
}
__device__ __forceinline__ void store_vector(float *to, float x, float y, float z, float w) {
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(x), "f"(y), "f"(z),
                 "f"(w)
                 : "memory");
}

//@ include narrow_lines.cuh

struct Tile : RowTile {
    NarrowLines narrow;
    NarrowChannels channels;
    ChannelTable table;
    real held_bias[BIAS_HELD ? CHANNELS : 1]; /* of every slot, where there is no scale */
    real *lines;                              /* [8][LINE], of this warp */
    float pending[LINE_VECTORS][LINE_VECTOR]; /* read back, to be stored */
    int pending_first;                        /* its first channel; -1: none */
    float *line; /* where this lane stores the first of what it stores, of channel 0 */
    bool line_inside;
    /* Of the two channels of this group of slots and of the next: shared memory answers slowly. */
    float2 by[2], next_by[2];
    real operand[TILE_OPERANDS + 1][2], next_operand[TILE_OPERANDS + 1][2];
    int now, ahead; /* the slots that they are for; -1: none */

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
    __device__ __forceinline__ real narrow_acc(int p, int j) {
        if (p == 0 && j % 2 == 0)
            table.turn_pair(*this, j / 2);
        const float2 scale_bias = table.by[j / 2 % (ChannelTable::TABLE_AHEAD + 1)][j % 2];
        const real sum = d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2];
        return GUARDED ? sum * scale_bias.x + scale_bias.y : sum + scale_bias.y;
    }
    __device__ __forceinline__ real acc(int p, int j) {
        if (NARROW_LINES)
            return narrow_acc(p, j);
        if (BIAS_HELD)
            return d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2] + held_bias[j];
        if (!FLOAT_LINES)
            return RowTile::acc(p, j);
        if (p == 0 && j % 2 == 0) /* tails go through pixels and slots upwards */
            turn_table(j);
        return d[p / 2][j / 2 * 4 + p % 2 * 2 + j % 2] * by[j % 2].x + by[j % 2].y;
    }
    __device__ __forceinline__ real per_channel(int k, int j) {
        if (NARROW_LINES) {
            if (j % 2 == 0)
                table.turn_pair(*this, j / 2);
            return table.operand[j / 2 % (ChannelTable::TABLE_AHEAD + 1)][k][j % 2];
        }
        if (!FLOAT_LINES)
            return RowTile::per_channel(k, j);
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
        if (!FLOAT_LINES || (!ALL_WHOLE && !whole_group(j))) {
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
    template <class T>
    __device__ __forceinline__ void put_narrow(T *to, Stride s, int p, int j, real value) {
        if (!NARROW_LINES || (!ALL_WHOLE && !whole_group(j))) {
            RowTile::put<1>(to, s, p, j, value);
            return;
        }
        if (p == 0 && j == 0)
            open_narrow(&to->bits, s);
        if (LINES_OF_CHANNELS)
            channels.put(to, p, j, value, lane);
        else
            narrow.put(to, s, p, j, value, lane);
    }
    __device__ __forceinline__ void open_narrow(unsigned short *to, Stride s) {
        if (LINES_OF_CHANNELS) {
            channels.place =
                to + offset(place(0), s) + channel_first * s.c + lane % 4 * 8;
            channels.step = 8 * s.w;
            channels.inside = 0;
            SG_UNROLL
            for (int p = 0; p < PIXELS; p++)
                channels.inside |= valid(p) ? 1u << p : 0;
            return;
        }
        const int pixel = pixels.warp * WARP_PIXELS + lane % LINE_LANES * LINE_VECTOR;
        narrow.inside = pixels.box.valid(pixel);
        narrow.line = to + offset(pixels.box.place(pixel), s) +
                      (channel_first + lane / LINE_LANES * EIGHT_PIECES) * s.c;
    }
    template <int V>
    __device__ __forceinline__ void put(half_t *to, Stride s, int p, int j, real value) {
        put_narrow(to, s, p, j, value);
    }
    template <int V>
    __device__ __forceinline__ void put(bfloat_t *to, Stride s, int p, int j, real value) {
        put_narrow(to, s, p, j, value);
    }
    __device__ __forceinline__ void flush_narrow(Stride s) {
        if (LINES_OF_CHANNELS)
            channels.flush(lane);
        else if (NARROW_LINES)
            narrow.flush(s, lane);
    }
    template <int V> __device__ __forceinline__ void flush(half_t *, Stride s) { flush_narrow(s); }
    template <int V> __device__ __forceinline__ void flush(bfloat_t *, Stride s) {
        flush_narrow(s);
    }
    template <int V, class T> __device__ __forceinline__ void flush(T *, Stride) {}
    template <int V> __device__ __forceinline__ void flush(float *, Stride s) {
        if (!FLOAT_LINES)
            return;
        store_pending(s);
        pending_first = -1;
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
    __device__ __forceinline__ void open_lines(float *to, Stride s) {
        const int pixel = pixels.warp * WARP_PIXELS + lane % LINE_LANES * LINE_VECTOR;
        line_inside = pixels.box.valid(pixel);
        line = to + offset(pixels.box.place(pixel), s) + lane / LINE_LANES * s.c;
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

/* Shared memory of a consumer beyond what all have. */
constexpr int CONSUMER_FLOATS = LINES_OF_CHANNELS ? 0
                                : NARROW_LINES    ? NARROW_BYTES
                                : OUT_VECTOR      ? 4 * 8 * LINE
                                                  : 0;
constexpr int CARRY_FLOATS = 0, CARRY_BARRIERS = 0;

/* When scales have changed: those read ahead are the old ones. */
__device__ __forceinline__ void forget_scales(Tile &tile) {
    if (FLOAT_LINES)
        tile.ahead = tile.now = -1;
    if (NARROW_LINES)
        tile.table.asked = -1;
}

template <class S>
__device__ __forceinline__ void open_tile(Tile &tile, const S &shared, int consumer) {
    tile.lane = threadIdx.x % 32;
    tile.pixels.warp = threadIdx.x % WARPGROUP / 32;
    if (FLOAT_LINES) {
        tile.lines = shared.consumer + consumer * CONSUMER_FLOATS + tile.pixels.warp * 8 * LINE;
        tile.pending_first = -1;
    }
    if (LINES_OF_CHANNELS) {
        tile.channels.waiting = 0;
    } else if (NARROW_LINES) {
        tile.narrow.lines = reinterpret_cast<unsigned char *>(shared.consumer + consumer * CONSUMER_FLOATS) +
                            tile.pixels.warp * NARROW_BYTES;
        tile.narrow.held = tile.narrow.pending_eights = 0;
    }
    SG_UNROLL
    for (int j = 0; j < (BIAS_HELD ? Tile::CHANNELS : 0); j++)
        tile.held_bias[j] = tile.scale_bias[tile.column(j)].y;
    forget_scales(tile);
}

__device__ __forceinline__ void begin_tile(Tile &, int, int, int) {}

struct Filter {};
__device__ __forceinline__ void load_filter(Filter &, const unsigned char *) {}

constexpr int TILE_BLOCKS = ROW_BLOCKS, BLOCK_SUMS = TILE_N / 2; /* of Tile::d */

/* One tap. slice: address of the stage's pixel that the tile's first meets under this tap. part:
 * where in the weights the part begins, in rows. */
__device__ __forceinline__ void multiply_tap(float (&sums)[TILE_BLOCKS][BLOCK_SUMS],
                                             const Filter &, unsigned slice, unsigned weights,
                                             int tap, int part, int accumulate) {
    const unsigned long long a = matrix_descriptor(slice, PLANE * 16, ROW_BLOCKS * 128);
    const unsigned long long b = matrix_descriptor(weights, TILE_N * 16, 128);
#pragma unroll
    for (int k = 0; k < STAGE_GROUPS / 2; k++)
#pragma unroll
        for (int block = 0; block < ROW_BLOCKS; block++)
            wgmma(sums[block], descriptor_at(a, 2 * k * PLANE + block * 8),
                  descriptor_at(b, part + tap * TAP_ROWS + 2 * k * TILE_N), accumulate || k);
}
