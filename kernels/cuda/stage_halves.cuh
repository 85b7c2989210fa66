/* Producers of `wgmma` kernels: boxes of a tensor of halves or bfloats go to shared memory as they
 * are.
 *
 * Where neighbours along x lie side by side, a lane reads words of two neighbours of eight channels
 * and puts a pixel's channels together by permuting bytes. Where channels do (VECTOR 8), a lane
 * moves the eight of a pixel at once; an item is then 128 such cells, those of a pixel's groups on
 * neighbouring lanes, as they lie in memory. */

//@ include stage_pixels.cuh
//@ include load_if.cuh

constexpr int CELLS = STAGE_GROUPS * BOX_PIXELS;
constexpr int ITEMS = VECTOR == 8 ? (CELLS + 127) / 128 : STAGE_GROUPS * CHUNKS;
/* In one order for all, lanes' stores would be VECTOR x 16 bytes apart and meet in the banks: some
 * lanes start with another of their pixels. */
constexpr bool TURNED = STRIDE_X == 1 && (VECTOR == 2 || VECTOR == 4);
constexpr int HELD_WORDS = VECTOR == 1 ? 32 : 16;

/* VECTOR 4, 2: [channel][two pixels]; 1: [channel][pixel], the upper half of a word empty;
 * 8: [pixel][two channels]. */
struct Fetched {
    unsigned word[HELD_WORDS];
    unsigned short edge[EDGE_LOADS ? EDGE_LOADS : 1];
};

/* Row and x of the pixel of cell `v` of this lane, of an item's 4, and its group of channels. */
__device__ __forceinline__ void cell_place(int item, int v, int lane, int &group, int &row,
                                           int &x) {
    const int cell = (item * 4 + v) * 32 + lane, pixel = cell / STAGE_GROUPS;
    group = cell % STAGE_GROUPS;
    row = STAGE_ROWS == 1 ? 0 : pixel / STAGE_WIDTH;
    x = pixel - row * STAGE_WIDTH;
}
__device__ __forceinline__ bool cell_in_box(int row, int x) {
    return row < STAGE_ROWS && (CELLS % 128 == 0 || x < STAGE_WIDTH);
}

__device__ __forceinline__ void fetch_cells(const Source &from, int item, int lane, Fetched &to) {
#pragma unroll
    for (int v = 0; v < 4; v++) {
        int group, row, x;
        cell_place(item, v, lane, group, row, x);
        const bool present =
            cell_in_box(row, x) && in_image(from, row, x) && has_channel(group * 8);
        const uint4 cell = load_16_bytes_if(
            present, from.origin + group * 8 + (from.y + row) * from.row_stride +
                         (from.x + x) * from.column_stride);
        to.word[v * 4] = cell.x, to.word[v * 4 + 1] = cell.y;
        to.word[v * 4 + 2] = cell.z, to.word[v * 4 + 3] = cell.w;
    }
}

__device__ __forceinline__ void store_cells(unsigned char *stage, int item, int lane,
                                            const Fetched &from) {
#pragma unroll
    for (int v = 0; v < 4; v++) {
        int group, row, x;
        cell_place(item, v, lane, group, row, x);
        if (cell_in_box(row, x))
            reinterpret_cast<uint4 *>(stage)[group * PLANE + staged_pixel(row, x)] =
                make_uint4(from.word[v * 4], from.word[v * 4 + 1], from.word[v * 4 + 2],
                           from.word[v * 4 + 3]);
    }
}

__device__ __forceinline__ void fetch_item(const Source &from, int item, int lane, Fetched &to) {
    if (VECTOR == 8) {
        fetch_cells(from, item, lane, to);
        return;
    }
    const int group = item / CHUNKS, chunk = item % CHUNKS;
#pragma unroll
    for (int v = 0; v < 4 / ALONG_X; v++) {
        int row, x;
        chunk_pixel(chunk, v, lane, row, x);
        const bool inside = in_box(row, x) && in_image(from, row, x);
        const element *at = from.origin + group * 8 * from.channel_stride +
                            (from.y + row) * from.row_stride + (from.x + x) * from.column_stride;
#pragma unroll
        for (int c = 0; c < 8; c++) {
            const bool present = inside && has_channel(group * 8 + c);
            if (VECTOR == 4) {
                const uint2 four = load_8_bytes_if(present, at);
                to.word[2 * c] = four.x, to.word[2 * c + 1] = four.y;
            } else if (VECTOR == 2) {
                to.word[(2 * c + v) % HELD_WORDS] = load_4_bytes_if(present, at);
            } else {
                to.word[(4 * c + v) % HELD_WORDS] = load_if(present, at).bits;
            }
            at += from.channel_stride;
        }
    }
    if (HAS_EDGE && chunk == CHUNKS - 1) {
#pragma unroll
        for (int i = 0; i < EDGE_LOADS; i++) {
            const int channel = lane % 8, x = CHUNKS * CHUNK + i * 4 + lane / 8;
            const bool present =
                x < STAGE_WIDTH && in_image(from, 0, x) && has_channel(group * 8 + channel);
            const element *at = from.origin + (group * 8 + channel) * from.channel_stride +
                                from.y * from.row_stride + (from.x + x) * from.column_stride;
            to.edge[i] = load_if(present, at).bits;
        }
    }
}

/* The eight channels of a lane's pixel p, or, where the lane is turned, of another of its four. */
__device__ __forceinline__ uint4 pixel_channels(const Fetched &from, int p, bool odd, bool far) {
    const unsigned upper = p % 2 ^ static_cast<int>(odd) ? 0x7632 : 0x5410;
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

/* stage: generic address of the stage. The last argument is for what halves may fail to hold. */
__device__ __forceinline__ void store_item(unsigned char *stage, int item, int lane,
                                           const Fetched &from, float &) {
    if (VECTOR == 8) {
        store_cells(stage, item, lane, from);
        return;
    }
    const int group = item / CHUNKS, chunk = item % CHUNKS;
    const bool odd = TURNED && lane / (8 / VECTOR) % 2 == 1;
    const bool far = TURNED && VECTOR == 4 && lane / 4 % 2 == 1;
    uint4 *plane = reinterpret_cast<uint4 *>(stage) + group * PLANE;
#pragma unroll
    for (int p = 0; p < 4; p++) {
        int row, x;
        chunk_pixel(chunk, p / ALONG_X, lane, row, x);
        if (in_box(row, x))
            plane[TURNED ? staged_pixel(row, x) + (p % ALONG_X ^ (odd + 2 * far))
                         : staged_pixel(row, x + p % ALONG_X)] = pixel_channels(from, p, odd, far);
    }
    if (HAS_EDGE && chunk == CHUNKS - 1) {
#pragma unroll
        for (int i = 0; i < EDGE_LOADS; i++) {
            const int channel = lane % 8, x = CHUNKS * CHUNK + i * 4 + lane / 8;
            if (x < STAGE_WIDTH)
                reinterpret_cast<unsigned short *>(plane + staged_pixel(0, x))[channel] =
                    from.edge[i];
        }
    }
}

/* A weight as products take it, as bits: what it was. */
__device__ __forceinline__ unsigned short staged_weight(float weight, float) {
    element made;
    store(&made, weight);
    return made.bits;
}
