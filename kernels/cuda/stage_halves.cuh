/* Producers of conv_wgmma_ring.cuh: boxes of a tensor of halves or bfloats go to shared memory as
 * they are.
 *
 * Where neighbours along x lie side by side, a lane reads words of two neighbours of eight channels
 * and puts a pixel's channels together by permuting bytes. Where channels do (VECTOR 8), a lane
 * moves the eight of a pixel at once; an item is then 128 such cells, those of a pixel's groups on
 * neighbouring lanes, as they lie in memory. */

//@ include stage_pixels.cuh
//@ include load_if.cuh

constexpr int STAGE_CELLS = STAGE_GROUPS * BOX_PIXELS;
/* Of a slice. */
constexpr int ITEMS = VECTOR == 8 ? (STAGE_CELLS + 127) / 128 : STAGE_GROUPS * CHUNKS;
constexpr int HELD_WORDS = VECTOR == 1 ? 32 : 16;
constexpr float STAGE_SCALE = 1.0f;

/* VECTOR 4, 2: [channel][two pixels]; 1: [channel][pixel], the upper half of a word empty;
 * 8: [pixel][two channels]. */
struct Fetched {
    unsigned word[HELD_WORDS];
    unsigned short edge[EDGE_LOADS ? EDGE_LOADS : 1];
};

/* ---- channels side by side ----------------------------------------------------------------- */

/* Cell `v` of this lane, of an item's 4: a pixel's group of channels. */
__device__ __forceinline__ int item_cell(int item, int v) {
    return (item * 4 + v) * 32 + threadIdx.x % 32;
}

__device__ __forceinline__ void fetch_cells(const Arguments &a, const Box &box, int item,
                                            Fetched &to) {
#pragma unroll
    for (int v = 0; v < 4; v++) {
        const int cell = item_cell(item % ITEMS, v), channel = cell % STAGE_GROUPS * 8;
        const element *at;
        const bool inside =
            locate(a, box, item / ITEMS, channel, cell / STAGE_GROUPS, at) &&
            (STAGE_CELLS % 128 == 0 || cell < STAGE_CELLS);
        const uint4 read = load_16_bytes_if(inside && has_channel(channel), at);
        to.word[v * 4] = read.x, to.word[v * 4 + 1] = read.y;
        to.word[v * 4 + 2] = read.z, to.word[v * 4 + 3] = read.w;
    }
}

__device__ __forceinline__ void store_cells(uint4 *stage, int item, const Fetched &from) {
#pragma unroll
    for (int v = 0; v < 4; v++) {
        const int cell = item_cell(item, v);
        if (STAGE_CELLS % 128 == 0 || cell < STAGE_CELLS)
            stage[cell % STAGE_GROUPS * PLANE + staged_pixel(cell / STAGE_GROUPS)] =
                make_uint4(from.word[v * 4], from.word[v * 4 + 1], from.word[v * 4 + 2],
                           from.word[v * 4 + 3]);
    }
}

/* ---- pixels side by side ------------------------------------------------------------------- */

/* The edge of the rows of 8 channels: lanes take a channel of a column each. */
__device__ __forceinline__ int edge_x(int i) {
    return CHUNKS * CHUNK + i * 4 + threadIdx.x % 32 / 8;
}
__device__ __forceinline__ void fetch_edge(const Arguments &a, const Box &box, int item,
                                           Fetched &to) {
    const int channel = item / CHUNKS % STAGE_GROUPS * 8 + threadIdx.x % 8;
#pragma unroll
    for (int i = 0; i < EDGE_LOADS; i++) {
        const element *at;
        const bool inside = locate(a, box, item / ITEMS, channel, edge_x(i), at);
        to.edge[i] = load_if(inside && edge_x(i) < STAGE_WIDTH && has_channel(channel), at).bits;
    }
}
__device__ __forceinline__ void store_edge(uint4 *plane, const Fetched &from) {
#pragma unroll
    for (int i = 0; i < EDGE_LOADS; i++) {
        unsigned short *at = reinterpret_cast<unsigned short *>(plane + staged_pixel(edge_x(i)));
        if (edge_x(i) < STAGE_WIDTH)
            at[threadIdx.x % 8] = from.edge[i];
    }
}

/* Item `item` of a segment: of its first slice they are 0 .. ITEMS - 1. */
__device__ __forceinline__ void fetch_item(const Arguments &a, const Box &box, int item,
                                           Fetched &to) {
    if (VECTOR == 8) {
        fetch_cells(a, box, item, to);
        return;
    }
    const int chunk = item % CHUNKS, group = item / CHUNKS % STAGE_GROUPS, slice = item / ITEMS;
#pragma unroll
    for (int p = 0; p < 4; p += ALONG_X) {
        const int pixel = chunk_pixel(chunk, p);
        const element *at;
        const bool inside = locate(a, box, slice, group * 8, pixel, at) &&
                            (FULL_CHUNKS || pixel < BOX_PIXELS);
#pragma unroll
        for (int c = 0; c < 8; c++) {
            const bool present = inside && has_channel(group * 8 + c);
            if (VECTOR == 4) {
                const uint2 four = load_8_bytes_if(present, at);
                to.word[2 * c] = four.x, to.word[2 * c + 1] = four.y;
            } else if (VECTOR == 2) {
                to.word[(2 * c + p / 2) % HELD_WORDS] = load_4_bytes_if(present, at);
            } else {
                to.word[(4 * c + p) % HELD_WORDS] = load_if(present, at).bits;
            }
            at += a.input_stride.c;
        }
    }
    if (HAS_EDGE) {
        if (chunk == CHUNKS - 1)
            fetch_edge(a, box, item, to);
    }
}

/* The eight channels of a lane's pixel p, or, where the lane is turned, of another of its four. */
__device__ __forceinline__ uint4 pixel_channels(const Fetched &from, int p, int turn) {
    const unsigned upper = (p ^ turn) % 2 ? 0x7632 : 0x5410;
    const bool far = turn & 2;
    unsigned pair[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const unsigned *low = from.word + 2 * i * (HELD_WORDS / 8), *high = low + HELD_WORDS / 8;
        if (VECTOR == 1)
            pair[i] = __byte_perm(low[p % (HELD_WORDS / 8)], high[p % (HELD_WORDS / 8)], 0x5410);
        else
            pair[i] = __byte_perm(far ? low[1 - p / 2] : low[p / 2],
                                  far ? high[1 - p / 2] : high[p / 2], upper);
    }
    return make_uint4(pair[0], pair[1], pair[2], pair[3]);
}

/* item: of the slice. The last arguments are for what halves may fail to hold. */
template <bool EXACT>
__device__ __forceinline__ void store_item(uint4 *stage, int item, const Fetched &from, float,
                                           float &) {
    if (VECTOR == 8) {
        store_cells(stage, item, from);
        return;
    }
    const int chunk = item % CHUNKS;
    const int turn = TURNED ? threadIdx.x % 32 / (8 / ALONG_X) % ALONG_X : 0;
    uint4 *plane = stage + item / CHUNKS * PLANE;
#pragma unroll
    for (int p = 0; p < 4; p++) {
        const int pixel = chunk_pixel(chunk, p);
        if (FULL_CHUNKS || pixel < BOX_PIXELS)
            plane[TURNED ? staged_pixel(pixel) + (p % ALONG_X ^ turn)
                         : staged_pixel(pixel + p % ALONG_X)] = pixel_channels(from, p, turn);
    }
    if (HAS_EDGE) {
        if (chunk == CHUNKS - 1)
            store_edge(plane, from);
    }
}

/* Eight weights as products take them: as they were. */
template <bool EXACT>
__device__ __forceinline__ uint4 carry(const float (&value)[8], float, float &) {
    unsigned pair[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        element low, high;
        store(&low, value[2 * i]);
        store(&high, value[2 * i + 1]);
        pair[i] = static_cast<unsigned>(high.bits) << 16 | low.bits;
    }
    return make_uint4(pair[0], pair[1], pair[2], pair[3]);
}
__device__ __forceinline__ uint4 carry_rest(const float (&)[8]) {
    return make_uint4(0, 0, 0, 0);
}
