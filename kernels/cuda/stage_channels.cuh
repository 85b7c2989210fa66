/* Producers of `wgmma` kernels: boxes of a float32 tensor become halves in shared memory, scaled
 * and rounded to 11 bits.
 *
 * With PARTS 2, a second such stage follows, of what rounding took away: in halves of the same
 * scale, so that all products may be added up in one sum.
 *
 * Constants beyond those of stage_pixels.cuh: PARTS, PART_BYTES and STAGE_SCALE (of the kernel),
 * ROUND_AWAY, PREFETCH (there are registers for two items). */

//@ include stage_pixels.cuh

constexpr int ITEMS = STAGE_GROUPS * CHUNKS;

struct Fetched {
    float value[8][4]; /* [channel][pixel of this lane's] */
    float edge[EDGE_LOADS ? EDGE_LOADS : 1];
};

__device__ __forceinline__ void fetch_item(const Source &from, int item, int lane,
                                           Fetched &to) {
    const int group = item / CHUNKS, chunk = item % CHUNKS;
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

/* Two values as the halves of a part, scaled and rounded; low first. Upper ones leave the rest in
 * the values' place, for the lower. largest: of the values themselves. */
__device__ __forceinline__ unsigned carried(float &low, float &high, int part, float &largest) {
    if (part == 1)
        return pack_halves(low, high);
    largest = max_magnitude(max_magnitude(largest, low), high);
    if (PARTS == 1 && ROUND_AWAY)
        return pack_halves_away(low, high);
    const unsigned upper = pack_halves(low * STAGE_SCALE, high * STAGE_SCALE);
    if (PARTS == 2) {
        const float2 taken = unpack_halves(upper);
        low = low * STAGE_SCALE - taken.x;
        high = high * STAGE_SCALE - taken.y;
    }
    return upper;
}

/* Halves of pixel p of this lane's four, eight channels. */
__device__ __forceinline__ uint4 staged_halves(Fetched &from, int p, int part, float &largest) {
    unsigned pair[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        pair[i] = carried(from.value[2 * i][p], from.value[2 * i + 1][p], part, largest);
    return make_uint4(pair[0], pair[1], pair[2], pair[3]);
}

__device__ __forceinline__ void exchange(bool yes, uint4 &a, uint4 &b) {
    const uint4 was = a;
    a = yes ? b : a;
    b = yes ? was : b;
}

__device__ __forceinline__ void store_part(unsigned char *stage, int item, int lane, Fetched &from,
                                           int part, float &largest) {
    const int group = item / CHUNKS, chunk = item % CHUNKS;
    uint4 *plane = reinterpret_cast<uint4 *>(stage + part * PART_BYTES) + group * PLANE;
    uint4 halves[4];
#pragma unroll
    for (int p = 0; p < 4; p++)
        halves[p] = staged_halves(from, p, part, largest);
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
            float none = 0.0f;
            const unsigned half = carried(from.edge[i], none, part, largest);
            if (x < STAGE_WIDTH)
                reinterpret_cast<unsigned short *>(plane + staged_pixel(0, x))[channel] =
                    static_cast<unsigned short>(half);
        }
    }
}

/* stage: generic address of the stage. largest: the largest magnitude staged so far. */
__device__ __forceinline__ void store_item(unsigned char *stage, int item, int lane, Fetched &from,
                                           float &largest) {
#pragma unroll
    for (int part = 0; part < PARTS; part++)
        store_part(stage, item, lane, from, part, largest);
}

/* A weight as products take it, as bits; of two halves the upper. */
__device__ __forceinline__ unsigned short staged_weight(float weight, float scale) {
    const float scaled = weight * scale;
    if (PARTS == 1)
        return round_half(ROUND_AWAY ? round_tf32_away(scaled) : scaled);
    return nonzero_half(finite_part(scaled));
}
