/* A stage is [STAGE_GROUPS][PLANE pixels][8 halves], channels in groups of 8, zeros outside the
 * image. It is dealt out in items: 8 channels of CHUNK pixels, one warp, every load before the
 * first store; VECTOR neighbours along x are read at once.
 *
 * With PHASES, pixels lie in one array for each phase of the strides, so that neighbours along an
 * output row are neighbours there and a filter tap is an offset.
 *
 * With VECTOR 8, these are the 8 channels of a pixel, which lie side by side.
 *
 * Constants: element (the input's type), IN_CHANNELS (of a group), STAGE_GROUPS, STAGE_ROWS and
 * STAGE_WIDTH (of the input box), STRIDE_Z/Y/X, PADDING_Z/Y, STAGE_LEFT (columns of the stage left
 * of the box's first pixel without padding), PITCH and PHASE_PIXELS (a row and an array of one
 * phase), PLANE, VECTOR. */

constexpr bool PHASES = STRIDE_Y * STRIDE_X > 1;
constexpr int CHUNK = 128;
constexpr int PART_CELLS = STAGE_GROUPS * PLANE; /* of a stage: 8 channels of a pixel each */
constexpr int ALONG_X = VECTOR == 8 ? 1 : VECTOR;
constexpr int BOX_PIXELS = STAGE_ROWS * STAGE_WIDTH;
/* A few columns beyond full chunks are read one by one, where a chunk of their own would idle. */
constexpr int EDGE = STAGE_WIDTH % CHUNK;
constexpr bool HAS_EDGE = STAGE_ROWS == 1 && STAGE_WIDTH > CHUNK && EDGE > 0 && EDGE <= 16;
constexpr int EDGE_LOADS = HAS_EDGE ? (EDGE * 8 + 31) / 32 : 0;
constexpr int CHUNKS = HAS_EDGE ? STAGE_WIDTH / CHUNK : (BOX_PIXELS + CHUNK - 1) / CHUNK;
/* In one order for all, lanes' stores would be ALONG_X * 16 bytes apart and meet in the banks: some
 * lanes start with another of their pixels. */
constexpr bool TURNED = STRIDE_X == 1 && ALONG_X > 1;

/* Where a pixel of the input box lies, by its number. */
__device__ __forceinline__ int staged_pixel(int pixel) {
    const int row = STAGE_ROWS == 1 ? 0 : pixel / STAGE_WIDTH, x = pixel - row * STAGE_WIDTH;
    return (row % STRIDE_Y * STRIDE_X + x % STRIDE_X) * PHASE_PIXELS + row / STRIDE_Y * PITCH +
           x / STRIDE_X;
}

/* The pixel of a chunk that this lane takes as number p of its four. */
__device__ __forceinline__ int chunk_pixel(int chunk, int p) {
    return chunk * CHUNK + p / ALONG_X * (32 * ALONG_X) + threadIdx.x % 32 * ALONG_X;
}

constexpr bool FULL_CHUNKS = CHUNKS * CHUNK <= BOX_PIXELS;

__device__ __forceinline__ bool has_channel(int channel) {
    return IN_CHANNELS % 16 == 0 || channel < IN_CHANNELS;
}

/* Where a slice of the input under a segment has a channel of the box's pixel; false outside the
 * image. */
__device__ __forceinline__ bool locate(const Arguments &a, const Box &box, int slice, int channel,
                                       int pixel, const element *&at) {
    const int row = STAGE_ROWS == 1 ? 0 : pixel / STAGE_WIDTH;
    const int z = box.z * STRIDE_Z - PADDING_Z + slice;
    const int y = RING_DEPTH ? box.top * STRIDE_Y - PADDING_Y + row : 0;
    const int x = box.left * STRIDE_X - STAGE_LEFT + pixel - row * STAGE_WIDTH;
    at = a.input + box.n * a.input_stride.n +
         (channel_group() * IN_CHANNELS + channel) * a.input_stride.c +
         z * (RING_DEPTH ? a.input_stride.d : a.input_stride.h) +
         (RING_DEPTH ? y * a.input_stride.h : 0) + x * (ALONG_X > 1 ? 1 : a.input_stride.w);
    return static_cast<unsigned>(z) < static_cast<unsigned>(a.in_z) &&
           (!RING_DEPTH || static_cast<unsigned>(y) < static_cast<unsigned>(a.in_y)) &&
           static_cast<unsigned>(x) < static_cast<unsigned>(a.in_x);
}

__device__ __forceinline__ float read_only(const float *from) {
    return __ldg(from);
}
template <class T> __device__ __forceinline__ float read_only(const T *from) {
    const T narrow = {__ldg(&from->bits)};
    return widen(narrow);
}
