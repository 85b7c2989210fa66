/* Staging for `wgmma` of an input whose pixels stand in one long row.
 *
 * The row: images, strips of columns, depths, rows and columns of the output, padded to pitches, so
 * that the row is images x strips x pitch_d x pitch_h x pitch_w positions long. What a tap reads for
 * the output at a position is the input at a position a constant further on, whichever image, row or
 * column it is. Pitches hold the reach of the taps, less what one row's end and the next one's start
 * both have as zeros. A tile is any TILE_PIXELS positions in a row: of one image or of many.
 *
 * With a stride s along an axis, tap t reads s (o + t / s) + t % s: taps of one remainder, a phase,
 * share a copy of the input that has every s-th element. A `part` of the taps is what shares one
 * copy: a phase, or one tap of an axis whose reach would be too far. */

/* Two activations, scaled and rounded to 11 bits, as halves. */
__device__ __forceinline__ unsigned carry(float low, float high) {
    if (ROUND_EVEN)
        return pack_halves(low * CARRIER_SCALE, high * CARRIER_SCALE);
    /* Half of the last bit kept, and the scale's exponent, in one addition; what overflows the
     * exponent is flagged. */
    constexpr unsigned ADD = 0x1000 + (6U << 23), KEEP = 0xffffe000U;
    return pack_halves(__uint_as_float((__float_as_uint(low) + ADD) & KEEP),
                       __uint_as_float((__float_as_uint(high) + ADD) & KEEP));
}

/* Bytes that a barrier's phase waits for besides its arrivals, of which this is one. */
__device__ __forceinline__ void mbarrier_arrive_expect_tx(unsigned barrier, int bytes) {
    asm volatile("{\n\t.reg .b64 state;\n\t"
                 "mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;\n\t}" ::"r"(barrier),
                 "r"(bytes)
                 : "memory");
}

/* Copies bytes, a multiple of 16, to shared memory; the barrier learns of each that has come. */
__device__ __forceinline__ void cp_async_bulk(unsigned to, const void *from, int bytes,
                                              unsigned barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
                 " [%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier)
                 : "memory");
}

/* Waits for the launches before this one, which may have started early. */
__device__ __forceinline__ void griddepcontrol_wait() {
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

struct Spot {
    int n, d, h, w; /* of the output; beyond it in the halo */
    int column;     /* of the strip */
};

/* x / divisor for 0 <= x < 2^31: the divisor's reciprocal, its binary digits above it. */
__device__ __forceinline__ int divide(int x, long long reciprocal) {
    return __umulhi(2U * static_cast<unsigned>(x), static_cast<unsigned>(reciprocal)) >>
           static_cast<int>(reciprocal >> 32);
}

__device__ __forceinline__ Spot spot_of(int position, const Arguments &a) {
    Spot spot;
    int rest = divide(position, a.pitch_w_reciprocal);
    spot.column = position - rest * static_cast<int>(a.pitch_w);
    int above = divide(rest, a.pitch_h_reciprocal);
    spot.h = rest - above * static_cast<int>(a.pitch_h);
    spot.d = 0;
    if (SPATIAL_DIMS == 3) {
        rest = above;
        above = divide(rest, a.pitch_d_reciprocal);
        spot.d = rest - above * static_cast<int>(a.pitch_d);
    }
    spot.n = above;
    spot.w = spot.column;
    if (STRIPS) {
        spot.n = divide(above, a.strips_reciprocal);
        spot.w += (above - spot.n * static_cast<int>(a.strips)) * static_cast<int>(a.strip);
    }
    return spot;
}

/* Whether an output stands there. */
__device__ __forceinline__ bool spot_valid(const Spot &spot, const Arguments &a) {
    return spot.n < static_cast<int>(a.images) && spot.h < static_cast<int>(a.out_h) &&
           spot.w < static_cast<int>(a.out_w) &&
           (!STRIPS || spot.column < static_cast<int>(a.strip)) &&
           (SPATIAL_DIMS < 3 || spot.d < static_cast<int>(a.out_d));
}

/* Where a part's copy has, at this spot, channel 0 of the input; false in the padding. */
__device__ __forceinline__ bool part_element(const Spot &spot, int part, const Arguments &a,
                                             const element *&from) {
    const int h = spot.h * STRIDE_H + PART_H[part], w = spot.w * STRIDE_W + PART_W[part];
    const int d = SPATIAL_DIMS < 3 ? 0 : spot.d * STRIDE_D + PART_D[part];
    const int within = h * static_cast<int>(a.input_stride.h) +
                       w * static_cast<int>(a.input_stride.w) +
                       (SPATIAL_DIMS < 3 ? 0 : d * static_cast<int>(a.input_stride.d));
    from = a.input + spot.n * a.input_stride.n + within;
    return spot.n < static_cast<int>(a.images) &&
           static_cast<unsigned>(h) < static_cast<unsigned>(a.in_h) &&
           static_cast<unsigned>(w) < static_cast<unsigned>(a.in_w) &&
           static_cast<unsigned>(d) < static_cast<unsigned>(a.in_d);
}

/* What a lane reads at once: ITEM_ROWS * ITEM_CELLS times 8 channels of a position. By READ:
 *   1  positions 32 apart, of all of the item's cells of channels, a float at a time;
 *   4  four neighbouring positions at a time, where images are rows without gaps (FLAT_IMAGES);
 *   8  eight channels at a time, where they lie side by side; neighbouring lanes have neighbouring
 *      cells. */
struct Item {
    float value[ITEM_ROWS * ITEM_CELLS][8];
};

constexpr int ITEM_POSITIONS = 32 * ITEM_ROWS, CELLS = CHUNK / 8;
constexpr int ITEM_SPLITS = CELLS / ITEM_CELLS; /* items of the same positions */
constexpr int ITEMS = (BOX_PIXELS + ITEM_POSITIONS - 1) / ITEM_POSITIONS * ITEM_SPLITS;

/* Of a lane's number k: its position in the item, and its cell. */
__device__ __forceinline__ int item_position(int k) {
    const int lane = threadIdx.x % 32;
    if (READ == 8)
        return k * (32 / ITEM_CELLS) + lane / ITEM_CELLS;
    return READ == 4 ? lane * 4 + k / ITEM_CELLS : k / ITEM_CELLS * 32 + lane;
}
__device__ __forceinline__ int item_cell(int k) {
    return READ == 8 ? threadIdx.x % ITEM_CELLS : k % ITEM_CELLS;
}

/* An element, or zero. In one piece: left to itself the compiler makes every address anew, behind
 * the condition. */
__device__ __forceinline__ float load_if(bool present, const float *from) {
    float value;
    asm volatile("{\n\t.reg .pred present;\n\t"
                 "setp.ne.b32 present, %2, 0;\n\t"
                 "mov.f32 %0, 0f00000000;\n\t"
                 "@present ld.global.nc.f32 %0, [%1];\n\t}"
                 : "=f"(value)
                 : "l"(from), "r"(static_cast<int>(present)));
    return value;
}
__device__ __forceinline__ float4 load_four_if(bool present, const float *from) {
    float4 value;
    asm volatile("{\n\t.reg .pred present;\n\t"
                 "setp.ne.b32 present, %5, 0;\n\t"
                 "mov.f32 %0, 0f00000000;\n\tmov.f32 %1, 0f00000000;\n\t"
                 "mov.f32 %2, 0f00000000;\n\tmov.f32 %3, 0f00000000;\n\t"
                 "@present ld.global.nc.v4.f32 {%0, %1, %2, %3}, [%4];\n\t}"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "l"(from), "r"(static_cast<int>(present)));
    return value;
}

/* Where channel 0 of the input is at a position; false in the padding. */
__device__ __forceinline__ bool position_element(int position, int part, const Arguments &a,
                                                 const element *&from) {
    if (!FLAT_IMAGES)
        return part_element(spot_of(position, a), part, a, from);
    const int n = divide(position, a.image_reciprocal);
    from = a.input + n * a.input_stride.n + (position - n * static_cast<int>(a.image));
    return n < static_cast<int>(a.images);
}

/* number: of the item in its box. position: of the box's first pixel. channel: the first of the box,
 * with `channels` left. */
__device__ __forceinline__ void load_item(Item &item, int number, int position, int part,
                                          int channel, int channels, const Arguments &a) {
    const long long stride = READ == 8 ? 1 : a.input_stride.c;
    const int first = number / ITEM_SPLITS * ITEM_POSITIONS;
    const int ahead = number % ITEM_SPLITS * (ITEM_CELLS * 8);
    const element *from;
    bool inside;
    SG_UNROLL
    for (int k = 0; k < ITEM_ROWS * ITEM_CELLS; k++) {
        const int left = channels - ahead - item_cell(k) * 8;
        if (READ == 8 || k % ITEM_CELLS == 0) {
            const int at = first + item_position(k);
            inside = position_element(position + at, part, a, from) && at < BOX_PIXELS;
            from += (channel + ahead + (READ == 8 ? item_cell(k) * 8 : 0)) * stride;
        }
        if (READ == 4 && k / ITEM_CELLS > 0)
            break;
        if (READ == 8) {
            const bool present = inside && (WHOLE_CHUNKS || left > 0);
            const float4 low = load_four_if(present, from);
            const float4 high = load_four_if(present, from + 4);
            item.value[k][0] = low.x, item.value[k][1] = low.y, item.value[k][2] = low.z;
            item.value[k][3] = low.w, item.value[k][4] = high.x, item.value[k][5] = high.y;
            item.value[k][6] = high.z, item.value[k][7] = high.w;
            continue;
        }
        SG_UNROLL
        for (int i = 0; i < 8; i++) {
            const bool present = inside && (WHOLE_CHUNKS || i < left);
            if (READ == 4) {
                const float4 four = load_four_if(present, from);
                item.value[k][i] = four.x;
                item.value[(k + ITEM_CELLS) % (ITEM_ROWS * ITEM_CELLS)][i] = four.y;
                item.value[(k + 2 * ITEM_CELLS) % (ITEM_ROWS * ITEM_CELLS)][i] = four.z;
                item.value[(k + 3 * ITEM_CELLS) % (ITEM_ROWS * ITEM_CELLS)][i] = four.w;
            } else {
                item.value[k][i] = load_if(present, from);
            }
            from += stride;
        }
    }
}

/* Eight channels as they are carried; raises the largest magnitude met. */
__device__ __forceinline__ uint4 pack_cell(const float (&value)[8], float &largest) {
    unsigned pair[4];
    SG_UNROLL
    for (int i = 0; i < 4; i++) {
        const float low = value[2 * i], high = value[2 * i + 1];
        largest = max_magnitude(max_magnitude(largest, low), high);
        pair[i] = carry(low, high);
    }
    return make_uint4(pair[0], pair[1], pair[2], pair[3]);
}

__device__ __forceinline__ void swap_if(bool yes, uint4 &a, uint4 &b) {
    const uint4 was = a;
    a = yes ? b : a;
    b = yes ? was : b;
}

__device__ __forceinline__ void store_item(unsigned char *box, int number, const Item &item,
                                           float &largest) {
    const int first = number / ITEM_SPLITS * ITEM_POSITIONS;
    uint4 *to = reinterpret_cast<uint4 *>(box) + number % ITEM_SPLITS * (ITEM_CELLS * BOX_PIXELS);
    if (READ == 4) {
        /* In one order for all, lanes would be 64 bytes apart and meet in the banks: so pairs of
         * lanes start with another of their positions. */
        const int lane = threadIdx.x % 32, at = first + lane * 4;
        SG_UNROLL
        for (int cell = 0; cell < ITEM_CELLS; cell++) {
            uint4 halves[4];
            SG_UNROLL
            for (int p = 0; p < 4; p++)
                halves[p] = pack_cell(item.value[(p * ITEM_CELLS + cell) % (ITEM_ROWS * ITEM_CELLS)],
                                      largest);
            swap_if(lane >> 1 & 1, halves[0], halves[1]);
            swap_if(lane >> 1 & 1, halves[2], halves[3]);
            swap_if(lane >> 2 & 1, halves[0], halves[2]);
            swap_if(lane >> 2 & 1, halves[1], halves[3]);
            SG_UNROLL
            for (int p = 0; p < 4; p++)
                if (at < BOX_PIXELS)
                    to[cell * BOX_PIXELS + at + (p ^ (lane >> 1 & 3))] = halves[p];
        }
        return;
    }
    SG_UNROLL
    for (int k = 0; k < ITEM_ROWS * ITEM_CELLS; k++) {
        const int at = first + item_position(k);
        const uint4 halves = pack_cell(item.value[k], largest);
        if (at < BOX_PIXELS)
            to[item_cell(k) * BOX_PIXELS + at] = halves;
    }
}
