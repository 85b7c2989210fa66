/* Producers of conv_wgmma_ring.cuh: boxes of a float32 tensor become halves in shared memory,
 * scaled and rounded to 11 bits.
 *
 * Constants beyond those of stage_pixels.cuh: PARTS, ROUND_AWAY. */

//@ include stage_pixels.cuh

constexpr int ITEMS = STAGE_GROUPS * CHUNKS; /* of a slice */
constexpr float STAGE_SCALE = PARTS == 2 ? SPLIT_SCALE : CARRIER_SCALE;

struct Fetched {
    float value[4][8]; /* [pixel of this lane's][channel] */
    float edge[EDGE_LOADS ? EDGE_LOADS : 1];
};

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
        to.edge[i] =
            inside && edge_x(i) < STAGE_WIDTH && has_channel(channel) ? read_only(at) : 0.0f;
    }
}

/* Where stores keep memory busy (column_lines.cuh), and a slice would come late: the second-level
 * cache has it before it is read. A lane asks for the line in which it will read. */
constexpr bool ASKS_AHEAD = OUT_LINES > 0 && VECTOR == 4;

/* Item `item` of a segment: of its first slice they are 0 .. ITEMS - 1. */
__device__ __forceinline__ void fetch_item(const Arguments &a, const Box &box, int item,
                                           Fetched &to) {
    const int chunk = item % CHUNKS, group = item / CHUNKS % STAGE_GROUPS, slice = item / ITEMS;
#pragma unroll
    for (int p = 0; p < 4; p += ALONG_X) {
        const int pixel = chunk_pixel(chunk, p);
        const float *at;
        const bool inside = locate(a, box, slice, group * 8, pixel, at) &&
                            (FULL_CHUNKS || pixel < BOX_PIXELS);
        if (VECTOR == 8) {
            const float4 zero = make_float4(0, 0, 0, 0);
            const bool present = inside && has_channel(group * 8);
            const float4 low = present ? __ldg(reinterpret_cast<const float4 *>(at)) : zero;
            const float4 high = present ? __ldg(reinterpret_cast<const float4 *>(at) + 1) : zero;
            to.value[p][0] = low.x, to.value[p][1] = low.y, to.value[p][2] = low.z;
            to.value[p][3] = low.w, to.value[p][4] = high.x, to.value[p][5] = high.y;
            to.value[p][6] = high.z, to.value[p][7] = high.w;
            continue;
        }
#pragma unroll
        for (int c = 0; c < 8; c++) {
            const bool present = inside && has_channel(group * 8 + c);
            const float *here = at + c * a.input_stride.c;
            const int next = box.z * STRIDE_Z - PADDING_Z + slice + 1;
            if (ASKS_AHEAD && present && threadIdx.x % 8 == 0 && next < a.in_z)
                asm volatile("prefetch.global.L2 [%0];" ::"l"(
                    here + (RING_DEPTH ? a.input_stride.d : a.input_stride.h)));
            if (VECTOR == 4) {
                const float4 read = present ? __ldlu(reinterpret_cast<const float4 *>(here))
                                            : make_float4(0, 0, 0, 0); /* not read again */
                to.value[0][c] = read.x, to.value[1][c] = read.y;
                to.value[2][c] = read.z, to.value[3][c] = read.w;
            } else if (VECTOR == 2) {
                const float2 read =
                    present ? __ldg(reinterpret_cast<const float2 *>(here)) : make_float2(0, 0);
                to.value[p][c] = read.x, to.value[(p + 1) % 4][c] = read.y;
            } else {
                to.value[p][c] = present ? __ldg(here) : 0.0f;
            }
        }
    }
    if (HAS_EDGE) {
        if (chunk == CHUNKS - 1)
            fetch_edge(a, box, item, to);
    }
}

/* Eight channels as halves of this scale. EXACT: of any, infinity and NaN included, which do not
 * count as magnitudes. */
template <bool EXACT>
__device__ __forceinline__ uint4 carry(float (&value)[8], float scale, float &largest) {
    unsigned pair[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float &low = value[2 * i], &high = value[2 * i + 1];
        largest = EXACT ? finite_magnitude(finite_magnitude(largest, low), high)
                        : max_magnitude(max_magnitude(largest, low), high);
        if (PARTS == 1 && ROUND_AWAY) {
            pair[i] = EXACT ? pack_halves(round_tf32_away(low * scale),
                                          round_tf32_away(high * scale))
                            : pack_halves_away(low, high);
        } else if (PARTS == 1) {
            pair[i] = pack_halves(low * scale, high * scale);
        } else {
            /* Upper halves, which leave the rest in the values' place. If exact, infinity and NaN
             * are lower halves, and upper ones are zero only where the value is. */
            low *= scale, high *= scale;
            pair[i] = EXACT ? nonzero_half(finite_part(low)) |
                                  static_cast<unsigned>(nonzero_half(finite_part(high))) << 16
                            : pack_halves(low, high);
            const float2 taken = unpack_halves(pair[i]);
            low -= taken.x, high -= taken.y;
        }
    }
    return make_uint4(pair[0], pair[1], pair[2], pair[3]);
}

/* The same of the rest. */
__device__ __forceinline__ uint4 carry_rest(const float (&rest)[8]) {
    return make_uint4(pack_halves(rest[0], rest[1]), pack_halves(rest[2], rest[3]),
                      pack_halves(rest[4], rest[5]), pack_halves(rest[6], rest[7]));
}

__device__ __forceinline__ void exchange(bool yes, uint4 &a, uint4 &b) {
    const uint4 was = a;
    a = yes ? b : a;
    b = yes ? was : b;
}

/* plane: of the upper halves of these channels. */
template <bool EXACT>
__device__ __forceinline__ void store_edge(uint4 *plane, Fetched &from, float scale,
                                           float &largest) {
#pragma unroll
    for (int i = 0; i < EDGE_LOADS; i++) {
        float value[8] = {from.edge[i]};
        const unsigned upper = carry<EXACT>(value, scale, largest).x;
        unsigned short *at = reinterpret_cast<unsigned short *>(plane + staged_pixel(edge_x(i))) +
                             threadIdx.x % 8;
        if (edge_x(i) < STAGE_WIDTH)
            *at = static_cast<unsigned short>(upper);
        if (PARTS == 2 && edge_x(i) < STAGE_WIDTH)
            at[PART_CELLS * 8] = static_cast<unsigned short>(carry_rest(value).x);
    }
}

/* item: of the slice. largest: the largest magnitude so far. */
template <bool EXACT>
__device__ __forceinline__ void store_item(uint4 *stage, int item, Fetched &from, float scale,
                                           float &largest) {
    const int chunk = item % CHUNKS, lane = threadIdx.x % 32;
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
        uint4 *plane = stage + part * PART_CELLS + item / CHUNKS * PLANE;
        uint4 halves[4];
#pragma unroll
        for (int p = 0; p < 4; p++)
            halves[p] =
                part ? carry_rest(from.value[p]) : carry<EXACT>(from.value[p], scale, largest);
        const int turn = TURNED ? lane / (8 / ALONG_X) % ALONG_X : 0;
        if (TURNED) {
            exchange(turn & 1, halves[0], halves[1]);
            exchange(turn & 1, halves[2], halves[3]);
        }
        if (TURNED && ALONG_X == 4) {
            exchange(turn & 2, halves[0], halves[2]);
            exchange(turn & 2, halves[1], halves[3]);
        }
#pragma unroll
        for (int p = 0; p < 4; p++) {
            const int pixel = chunk_pixel(chunk, p);
            if (FULL_CHUNKS || pixel < BOX_PIXELS)
                plane[TURNED ? staged_pixel(pixel) + (p % ALONG_X ^ turn)
                             : staged_pixel(pixel + p % ALONG_X)] = halves[p];
        }
    }
    if (HAS_EDGE) {
        if (chunk == CHUNKS - 1)
            store_edge<EXACT>(stage + item / CHUNKS * PLANE, from, scale, largest);
    }
}
