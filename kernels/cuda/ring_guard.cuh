/* Producers of conv_wgmma_ring.cuh: what becomes of a segment that halves of the common scale do
 * not hold. Nothing of this is wanted where operands are halves themselves (GUARDED false). */

/* Items of the slow way: 8 channels of 32 pixels of the box each, some of them in flight. */
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
    const element *at = from.origin + group * 8 * from.channel_stride +
                      (from.y + row) * from.row_stride + (from.x + x) * from.column_stride;
#pragma unroll
    for (int c = 0; c < 8; c++)
        value[c] =
            inside && has_channel(group * 8 + c) ? read_only(at + c * from.channel_stride) : 0.0f;
}

__device__ __forceinline__ void store_scaled(unsigned char *stage, int item, int lane,
                                             const float (&value)[8], float scale) {
    int group, row, x;
    const bool present = scaled_pixel(item, lane, group, row, x);
    uint4 *at = reinterpret_cast<uint4 *>(stage) + group * PLANE + staged_pixel(row, x);
    unsigned upper[4], lower[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (PARTS == 1) {
            upper[i] = pack_halves_scaled(value[2 * i], value[2 * i + 1], scale, ROUND_AWAY);
        } else {
            const float low = value[2 * i] * scale, high = value[2 * i + 1] * scale;
            upper[i] = pack_halves(finite_part(low), finite_part(high));
            lower[i] = remainder(upper[i], low, high);
        }
    }
    if (present)
        *at = make_uint4(upper[0], upper[1], upper[2], upper[3]);
    if (PARTS == 2 && present)
        at[STAGE_GROUPS * PLANE] = make_uint4(lower[0], lower[1], lower[2], lower[3]);
}

/* The largest magnitude that any producer warp found. turn: alternates from call to call. */
__device__ __forceinline__ float agree(const Shared &shared, float largest, int &turn) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const unsigned bits = __reduce_max_sync(~0U, __float_as_uint(largest));
    unsigned *magnitude = shared.magnitude + turn * PRODUCER_WARPS;
    turn ^= 1;
    if (lane == 0)
        magnitude[warp] = bits;
    barrier_sync(STAGED, PRODUCERS * WARPGROUP);
    return __uint_as_float(__reduce_max_sync(~0U, lane < PRODUCER_WARPS ? magnitude[lane] : 0U));
}

/* Sends a verdict through the ring, as slice `number`. One warp stands for all that stage. */
__device__ __forceinline__ void send_verdict(const Shared &shared, int number, float scale) {
    const int lane = threadIdx.x % 32, slot = number % STAGES;
    if (threadIdx.x >= 32)
        return;
    mbarrier_wait(shared.empty + 8 * slot, number / STAGES & 1 ^ 1);
    if (lane == 0)
        shared.verdict[slot] = scale;
    __syncwarp();
    if (lane < SLICE_WARPS)
        mbarrier_arrive(shared.full + 8 * slot);
}

/* Stages a segment anew, at its own scale, as slices `staged` and on; scale 0: stages nothing, only
 * looks for the largest finite magnitude, which it returns. */
__device__ __forceinline__ float stage_again(const Arguments &a, const Shared &shared, Slices &of,
                                             int slices, int staged, float scale) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float largest = 0.0f;
    if (warp >= SLICES_AT_ONCE * SLICE_WARPS)
        return largest;
#pragma unroll 1
    for (int slice = warp / SLICE_WARPS; slice < slices; slice += SLICES_AT_ONCE) {
        const int number = staged + slice, slot = number % STAGES, first = warp % SLICE_WARPS;
        of.open_slice(a, slice);
        int i = first;
#pragma unroll 1
        do { /* at least once: a warp without items waits as well */
            float value[SCALED_AT_ONCE][8];
#pragma unroll
            for (int k = 0; k < SCALED_AT_ONCE; k++)
                fetch_scaled(of.from, i + k * SLICE_WARPS, lane, value[k]);
            if (scale != 0.0f && i == first)
                mbarrier_wait(shared.empty + 8 * slot, number / STAGES & 1 ^ 1);
#pragma unroll
            for (int k = 0; k < SCALED_AT_ONCE; k++) {
                if (scale != 0.0f)
                    store_scaled(shared.ring + slot * STAGE_BYTES, i + k * SLICE_WARPS, lane,
                                 value[k], scale);
                else
#pragma unroll
                    for (int c = 0; c < 8; c++)
                        largest = finite_magnitude(largest, value[k][c]);
            }
            i += SLICE_WARPS * SCALED_AT_ONCE;
        } while (i < SCALED_ITEMS);
        if (scale != 0.0f) {
            fence_proxy_async();
            __syncwarp();
            if (lane == 0)
                mbarrier_arrive(shared.full + 8 * slot);
        }
    }
    return largest;
}

/* What follows the slices of a segment in the ring, from slice `staged` on: the verdict and, where
 * halves did not hold it, the segment again. Returns the slice after that. */
__device__ __forceinline__ int judge(const Arguments &a, const Shared &shared, Slices &of,
                                     int slices, int staged, float largest, int &turn) {
    largest = agree(shared, largest, turn);
    const bool fails = carrier_fails(largest * STAGE_SCALE, STAGE_MIN);
    bool looks = fails && !(largest <= FLOAT_MAX);
    if (!fails)
        send_verdict(shared, staged++, 0.0f);
    /* Once, or twice where the scale is not known yet. */
#pragma unroll 1
    for (bool again = fails; again; again = looks, looks = false) {
        const float scale = looks ? 0.0f : segment_scale(largest);
        if (!looks)
            send_verdict(shared, staged++, scale);
        largest = stage_again(a, shared, of, slices, staged, scale);
        if (looks)
            largest = agree(shared, largest, turn);
        else
            staged += slices;
    }
    return staged;
}
