/* Producers of `wgmma` kernels: boxes of a float32 tensor become halves in shared memory.
 *
 * A stage is [STAGE_GROUPS][PLANE pixels][8 halves], channels in groups of 8. A pixel of the input
 * box, counted from the box's corner, lies at staged_pixel(row, x): one array for each phase of the
 * strides, so that neighbours along an output row are neighbours in the stage and a filter tap is
 * an offset. Values are scaled, rounded to 11 bits and zero outside the image.
 *
 * Work is dealt out in items: 8 channels of CHUNK input pixels, one warp, every load before the
 * first store. VECTOR 4, 2 or 1: neighbours along x read at once; 8: the 8 channels of a pixel,
 * which lie side by side.
 *
 * Constants: IN_CHANNELS (of a group), STAGE_GROUPS, STAGE_ROWS and STAGE_WIDTH (of the input box),
 * STRIDE_Y, STRIDE_X, PITCH and PHASE_PIXELS (a row and an array of one phase), PLANE, VECTOR,
 * ROUND_AWAY, PREFETCH (there are registers for two items). */

constexpr int CHUNK = 128;
constexpr int ALONG_X = VECTOR == 8 ? 1 : VECTOR;
constexpr int ROW_VECTORS = (STAGE_WIDTH + ALONG_X - 1) / ALONG_X;
/* A few columns beyond full chunks are read one by one, where a chunk of their own would idle. */
constexpr bool HAS_EDGE = STAGE_ROWS == 1 && STAGE_WIDTH > CHUNK &&STAGE_WIDTH % CHUNK <= 16;
constexpr int EDGE = HAS_EDGE ? STAGE_WIDTH % CHUNK : 0;
constexpr int EDGE_LOADS = (EDGE * 8 + 31) / 32;
constexpr int CHUNKS =
    HAS_EDGE ? STAGE_WIDTH / CHUNK : (STAGE_ROWS * ROW_VECTORS * ALONG_X + CHUNK - 1) / CHUNK;
constexpr int ITEMS = STAGE_GROUPS * CHUNKS;

/* Where a stage comes from. */
struct Source {
    const float *origin; /* channel 0 of the group, in the slice, at the image's corner */
    int y, x;            /* of the box's corner; may lie outside */
    int height, width;   /* of the image */
    long long channel_stride, row_stride, column_stride;
    bool inside; /* false: all zero */
};

/* Brings a part of a slice to the second-level cache, a line a thread: fetching it later takes less
 * long. part, parts: of the warps that share the slice. Not where channels lie side by side. */
__device__ __forceinline__ void prefetch_slice(const Source &from, int part, int parts, int lane) {
    constexpr int LINES = STAGE_WIDTH / 32 + 1; /* of 128 bytes, of a row */
    if (VECTOR == 8 || !from.inside)
        return;
#pragma unroll 1
    for (int i = part * 32 + lane; i < IN_CHANNELS * STAGE_ROWS * LINES; i += parts * 32) {
        const int row = i / LINES % STAGE_ROWS, channel = i / LINES / STAGE_ROWS;
        const int x = min(max(from.x + i % LINES * 32, 0), from.width - 1);
        if (static_cast<unsigned>(from.y + row) < static_cast<unsigned>(from.height))
            prefetch_line(from.origin + channel * from.channel_stride +
                          (from.y + row) * from.row_stride + x * from.column_stride);
    }
}

struct Fetched {
    float value[8][4]; /* [channel][pixel of this lane's] */
    float edge[EDGE_LOADS ? EDGE_LOADS : 1];
};

__device__ __forceinline__ int staged_pixel(int row, int x) {
    return (row % STRIDE_Y * STRIDE_X + x % STRIDE_X) * PHASE_PIXELS + row / STRIDE_Y * PITCH +
           x / STRIDE_X;
}

/* The box's row and column of vector `v` of this lane, of an item's 4 / ALONG_X. */
__device__ __forceinline__ void chunk_pixel(int chunk, int v, int lane, int &row, int &x) {
    const int vector = (chunk * (4 / ALONG_X) + v) * 32 + lane;
    row = STAGE_ROWS == 1 ? 0 : vector / ROW_VECTORS;
    x = (vector - row * ROW_VECTORS) * ALONG_X;
}

__device__ __forceinline__ bool in_box(int row, int x) {
    return row < STAGE_ROWS && (CHUNKS * CHUNK <= STAGE_WIDTH || x < STAGE_WIDTH);
}

__device__ __forceinline__ bool in_image(const Source &from, int row, int x) {
    return from.inside &&
           static_cast<unsigned>(from.y + row) < static_cast<unsigned>(from.height) &&
           static_cast<unsigned>(from.x + x) < static_cast<unsigned>(from.width);
}

__device__ __forceinline__ bool has_channel(int channel) {
    return IN_CHANNELS % 16 == 0 || channel < IN_CHANNELS;
}

__device__ __forceinline__ void fetch_item(const Source &from, int group, int chunk, int lane,
                                           Fetched &to) {
#pragma unroll
    for (int v = 0; v < 4 / ALONG_X; v++) {
        int row, x;
        chunk_pixel(chunk, v, lane, row, x);
        const bool inside = in_box(row, x) && in_image(from, row, x);
        const float *at = from.origin + group * 8 * from.channel_stride +
                          (from.y + row) * from.row_stride + (from.x + x) * from.column_stride;
        if (VECTOR == 8) {
            const float4 zero = make_float4(0, 0, 0, 0);
            const bool present = inside && has_channel(group * 8);
            const float4 low = present ? __ldg(reinterpret_cast<const float4 *>(at)) : zero;
            const float4 high = present ? __ldg(reinterpret_cast<const float4 *>(at) + 1) : zero;
            to.value[0][v] = low.x, to.value[1][v] = low.y, to.value[2][v] = low.z;
            to.value[3][v] = low.w, to.value[4][v] = high.x, to.value[5][v] = high.y;
            to.value[6][v] = high.z, to.value[7][v] = high.w;
            continue;
        }
#pragma unroll
        for (int c = 0; c < 8; c++) {
            const bool present = inside && has_channel(group * 8 + c);
            const float *here = at + c * from.channel_stride;
            if (VECTOR == 4) {
                const float4 read = present ? __ldg(reinterpret_cast<const float4 *>(here))
                                            : make_float4(0, 0, 0, 0);
                to.value[c][0] = read.x, to.value[c][1] = read.y;
                to.value[c][2] = read.z, to.value[c][3] = read.w;
            } else if (VECTOR == 2) {
                const float2 read =
                    present ? __ldg(reinterpret_cast<const float2 *>(here)) : make_float2(0, 0);
                to.value[c][v * 2 % 4] = read.x, to.value[c][v * 2 % 4 + 1] = read.y;
            } else {
                to.value[c][v] = present ? __ldg(here) : 0.0f;
            }
        }
    }
    if (HAS_EDGE && chunk == CHUNKS - 1) {
#pragma unroll
        for (int i = 0; i < EDGE_LOADS; i++) {
            const int channel = lane % 8, x = CHUNKS * CHUNK + i * 4 + lane / 8;
            const bool present =
                x < STAGE_WIDTH && in_image(from, 0, x) && has_channel(group * 8 + channel);
            to.edge[i] = present
                             ? __ldg(from.origin + (group * 8 + channel) * from.channel_stride +
                                     from.y * from.row_stride + (from.x + x) * from.column_stride)
                             : 0.0f;
        }
    }
}

/* Two values as halves, scaled and rounded; low first. largest: of the values themselves. */
__device__ __forceinline__ unsigned carried(float low, float high, float &largest) {
    largest = max_magnitude(max_magnitude(largest, low), high);
    return ROUND_AWAY ? pack_halves_away(low, high)
                      : pack_halves(low * CARRIER_SCALE, high * CARRIER_SCALE);
}

/* Halves of pixel p of this lane's four, eight channels. */
__device__ __forceinline__ uint4 staged_halves(const Fetched &from, int p, float &largest) {
    unsigned pair[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        pair[i] = carried(from.value[2 * i][p], from.value[2 * i + 1][p], largest);
    return make_uint4(pair[0], pair[1], pair[2], pair[3]);
}

__device__ __forceinline__ void exchange(bool yes, uint4 &a, uint4 &b) {
    const uint4 was = a;
    a = yes ? b : a;
    b = yes ? was : b;
}

/* stage: generic address of the stage. largest: the largest magnitude staged so far. */
__device__ __forceinline__ void store_item(unsigned char *stage, int group, int chunk, int lane,
                                           const Fetched &from, float &largest) {
    uint4 *plane = reinterpret_cast<uint4 *>(stage) + group * PLANE;
    uint4 halves[4];
#pragma unroll
    for (int p = 0; p < 4; p++)
        halves[p] = staged_halves(from, p, largest);
    if (VECTOR == 4 && STRIDE_X == 1) {
        /* In one order for all, lanes would be 64 bytes apart and meet in the banks: in pairs,
         * lanes start with another of their pixels. */
        const bool odd = lane >> 1 & 1, far = lane >> 2 & 1;
        exchange(odd, halves[0], halves[1]);
        exchange(odd, halves[2], halves[3]);
        exchange(far, halves[0], halves[2]);
        exchange(far, halves[1], halves[3]);
        int row, x;
        chunk_pixel(chunk, 0, lane, row, x);
        uint4 *at = plane + staged_pixel(row, x);
        if (in_box(row, x)) {
#pragma unroll
            for (int p = 0; p < 4; p++)
                at[p ^ (lane >> 1 & 3)] = halves[p];
        }
    } else {
#pragma unroll
        for (int p = 0; p < 4; p++) {
            int row, x;
            chunk_pixel(chunk, p / ALONG_X, lane, row, x);
            if (in_box(row, x))
                plane[staged_pixel(row, x + p % ALONG_X)] = halves[p];
        }
    }
    if (HAS_EDGE && chunk == CHUNKS - 1) {
#pragma unroll
        for (int i = 0; i < EDGE_LOADS; i++) {
            const int channel = lane % 8, x = CHUNKS * CHUNK + i * 4 + lane / 8;
            const unsigned half = carried(from.edge[i], 0.0f, largest);
            if (x < STAGE_WIDTH)
                reinterpret_cast<unsigned short *>(plane + staged_pixel(0, x))[channel] =
                    static_cast<unsigned short>(half);
        }
    }
}

/* ---- what the carrier failed to hold ------------------------------------------------------- */

/* Items of the slow way: 8 channels of 32 pixels of the box each, some of them in flight. */
constexpr int BOX_PIXELS = STAGE_ROWS * STAGE_WIDTH;
constexpr int SCALED_ITEMS = (STAGE_GROUPS * BOX_PIXELS + 31) / 32;
constexpr int SCALED_AT_ONCE = PREFETCH ? 4 : 2;

/* Group, row and x of an item's pixel of this lane; false where there is none. */
__device__ __forceinline__ bool scaled_pixel(int item, int lane, int &group, int &row, int &x) {
    const int pixel = (item * 32 + lane) % BOX_PIXELS;
    group = (item * 32 + lane) / BOX_PIXELS;
    row = pixel / STAGE_WIDTH;
    x = pixel % STAGE_WIDTH;
    return group < STAGE_GROUPS;
}

__device__ __forceinline__ void fetch_scaled(const Source &from, int item, int lane,
                                             float (&value)[8]) {
    int group, row, x;
    const bool inside = scaled_pixel(item, lane, group, row, x) && in_image(from, row, x);
    const float *at = from.origin + group * 8 * from.channel_stride +
                      (from.y + row) * from.row_stride + (from.x + x) * from.column_stride;
#pragma unroll
    for (int c = 0; c < 8; c++)
        value[c] =
            inside && has_channel(group * 8 + c) ? __ldg(at + c * from.channel_stride) : 0.0f;
}

__device__ __forceinline__ void store_scaled(unsigned char *stage, int item, int lane,
                                             const float (&value)[8], float scale) {
    int group, row, x;
    const bool present = scaled_pixel(item, lane, group, row, x);
    unsigned pair[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        pair[i] = pack_halves_scaled(value[2 * i], value[2 * i + 1], scale, ROUND_AWAY);
    if (present)
        (reinterpret_cast<uint4 *>(stage) + group * PLANE)[staged_pixel(row, x)] =
            make_uint4(pair[0], pair[1], pair[2], pair[3]);
}
