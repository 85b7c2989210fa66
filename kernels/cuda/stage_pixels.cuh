/* Where producers of `wgmma` kernels find a box of the input, and where its pixels go in shared
 * memory; stage_channels.cuh and stage_halves.cuh say how they get there.
 *
 * A stage is [STAGE_GROUPS][PLANE pixels][8 halves], channels in groups of 8. A pixel of the input
 * box, counted from the box's corner, lies at staged_pixel(row, x): one array for each phase of the
 * strides, so that neighbours along an output row are neighbours in the stage and a filter tap is
 * an offset. It is zero outside the image.
 *
 * Work is dealt out in items: 8 channels of CHUNK input pixels, one warp, every load before the
 * first store. VECTOR 4, 2 or 1: neighbours along x read at once; 8: the 8 channels of a pixel,
 * which lie side by side.
 *
 * Constants: element (the input's type), IN_CHANNELS (of a group), STAGE_GROUPS, STAGE_ROWS and
 * STAGE_WIDTH (of the input box), STRIDE_Y, STRIDE_X, PITCH and PHASE_PIXELS (a row and an array of
 * one phase), PLANE, VECTOR. */

constexpr int CHUNK = 128;
constexpr int BOX_PIXELS = STAGE_ROWS * STAGE_WIDTH;
constexpr int ALONG_X = VECTOR == 8 ? 1 : VECTOR;
constexpr int ROW_VECTORS = (STAGE_WIDTH + ALONG_X - 1) / ALONG_X;
/* A few columns beyond full chunks are read one by one, where a chunk of their own would idle. */
constexpr bool HAS_EDGE = STAGE_ROWS == 1 && STAGE_WIDTH > CHUNK &&STAGE_WIDTH % CHUNK <= 16;
constexpr int EDGE = HAS_EDGE ? STAGE_WIDTH % CHUNK : 0;
constexpr int EDGE_LOADS = (EDGE * 8 + 31) / 32;
constexpr int CHUNKS =
    HAS_EDGE ? STAGE_WIDTH / CHUNK : (STAGE_ROWS * ROW_VECTORS * ALONG_X + CHUNK - 1) / CHUNK;

/* Where a stage comes from. */
struct Source {
    const element *origin; /* channel 0 of the group, in the slice, at the image's corner */
    int y, x;              /* of the box's corner; may lie outside */
    int height, width;     /* of the image */
    long long channel_stride, row_stride, column_stride;
    bool inside; /* false: all zero */
};

/* Brings a part of a slice to the second-level cache, a line a thread: fetching it later takes less
 * long. part, parts: of the warps that share the slice. Not where channels lie side by side. */
__device__ __forceinline__ void prefetch_slice(const Source &from, int part, int parts, int lane) {
    constexpr int LINE_ELEMENTS = 128 / sizeof(element);
    constexpr int LINES = STAGE_WIDTH / LINE_ELEMENTS + 1; /* of a row */
    if (VECTOR == 8 || !from.inside)
        return;
#pragma unroll 1
    for (int i = part * 32 + lane; i < IN_CHANNELS * STAGE_ROWS * LINES; i += parts * 32) {
        const int row = i / LINES % STAGE_ROWS, channel = i / LINES / STAGE_ROWS;
        const int x = min(max(from.x + i % LINES * LINE_ELEMENTS, 0), from.width - 1);
        if (static_cast<unsigned>(from.y + row) < static_cast<unsigned>(from.height))
            prefetch_line(from.origin + channel * from.channel_stride +
                          (from.y + row) * from.row_stride + x * from.column_stride);
    }
}

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

/* An element that nobody writes. */
__device__ __forceinline__ float read_only(const float *from) {
    return __ldg(from);
}
template <class T> __device__ __forceinline__ float read_only(const T *from) {
    const T narrow = {__ldg(&from->bits)};
    return widen(narrow);
}
