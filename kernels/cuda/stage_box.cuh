/* Staging for `wgmma` of an input whose pixels stand in one long row.
 *
 * The row: images, strips of columns, depths, rows and columns of the output, padded to pitches, so
 * that the row is images x strips x pitch_d x pitch_h x pitch_w positions long. What a tap reads
 * for the output at a position is the input at a position a constant further on, whichever image,
 * row or column it is. Pitches hold the reach of the taps, less what one row's end and the next
 * one's start both have as zeros. A tile is any TILE_PIXELS positions in a row: of one image or of
 * many.
 *
 * With a stride s along an axis, tap t reads s (o + t / s) + t % s: taps of one remainder, a phase,
 * share a copy of the input that has every s-th element. A `part` of the taps is what shares one
 * copy: a phase, or one tap of an axis whose reach would be too far.
 *
 * Floats are carried as halves (GUARDED), of one scale in each `segment`, which is what a tile has
 * of one strip of one image. Narrow elements are carried as they are. */

//@ include load_if.cuh

constexpr float STAGE_SCALE = PRODUCTS == 3 ? SPLIT_SCALE : CARRIER_SCALE;
constexpr float STAGE_MIN = PRODUCTS == 3 ? SPLIT_MIN : CARRIER_MIN;

/* Two activations, scaled and rounded to 11 bits, as halves. */
__device__ __forceinline__ unsigned carry(float low, float high) {
    if (ROUND_EVEN || PRODUCTS == 3)
        return pack_halves(low * STAGE_SCALE, high * STAGE_SCALE);
    /* Half of the last bit kept, and the scale's exponent, in one addition; where the exponent
     * overflows, the segment is made anew. */
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
    element value[ITEM_ROWS * ITEM_CELLS][8];
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

/* Two narrow elements out of a word, low first. */
template <class T> __device__ __forceinline__ void split_word(T &low, T &high, unsigned word) {
    low.bits = static_cast<unsigned short>(word & 0xffffU);
    high.bits = static_cast<unsigned short>(word >> 16);
}
/* Neighbours, or zeros. */
__device__ __forceinline__ void load_four(float (&each)[4], bool present, const float *from) {
    const float4 four = load_four_if(present, from);
    each[0] = four.x, each[1] = four.y, each[2] = four.z, each[3] = four.w;
}
template <class T>
__device__ __forceinline__ void load_four(T (&each)[4], bool present, const T *from) {
    const uint2 four = load_8_bytes_if(present, from);
    split_word(each[0], each[1], four.x);
    split_word(each[2], each[3], four.y);
}
__device__ __forceinline__ void load_eight(float (&each)[8], bool present, const float *from) {
    const float4 low = load_four_if(present, from), high = load_four_if(present, from + 4);
    each[0] = low.x, each[1] = low.y, each[2] = low.z, each[3] = low.w;
    each[4] = high.x, each[5] = high.y, each[6] = high.z, each[7] = high.w;
}
template <class T>
__device__ __forceinline__ void load_eight(T (&each)[8], bool present, const T *from) {
    const uint4 eight = load_16_bytes_if(present, from);
    split_word(each[0], each[1], eight.x);
    split_word(each[2], each[3], eight.y);
    split_word(each[4], each[5], eight.z);
    split_word(each[6], each[7], eight.w);
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

/* What an item is about: number, of the item in its box; position, of the box's first; part; and of
 * the box's channels the first, and how many are left. */
struct Wanted {
    int number, position, part, channel, channels;

    __device__ __forceinline__ int first_position() const {
        return number / ITEM_SPLITS * ITEM_POSITIONS;
    }
    __device__ __forceinline__ int first_channel() const {
        return number % ITEM_SPLITS * (ITEM_CELLS * 8);
    }
    /* Where the lane's number k starts, channels included; false where nothing is. */
    __device__ __forceinline__ bool locate(int k, const Arguments &a, const element *&from) const {
        const int at = first_position() + item_position(k);
        const bool inside = position_element(position + at, part, a, from) && at < BOX_PIXELS;
        const int ahead = first_channel() + (READ == 8 ? item_cell(k) * 8 : 0);
        from += (channel + ahead) * (READ == 8 ? 1 : a.input_stride.c);
        return inside;
    }
    __device__ __forceinline__ int left(int k) const {
        return channels - first_channel() - item_cell(k) * 8;
    }
    /* Of the tile's segments, the one that the item's position lies in; beyond the tile there may
     * be more than SEGMENTS. */
    __device__ __forceinline__ int segment(int at, const Arguments &a) const {
        return divide(position + first_position() + at, a.image_reciprocal) -
               divide(position, a.image_reciprocal);
    }
};

__device__ __forceinline__ void load_elements(Item &item, const Wanted &wanted,
                                              const Arguments &a) {
    SG_UNROLL
    for (int row = 0; row < ITEM_ROWS; row++) {
        const element *from;
        const bool inside = wanted.locate(row * ITEM_CELLS, a, from);
        SG_UNROLL
        for (int cell = 0; cell < ITEM_CELLS; cell++) {
            const int k = row * ITEM_CELLS + cell;
            SG_UNROLL
            for (int i = 0; i < 8; i++) {
                item.value[k][i] = load_if(inside && (WHOLE_CHUNKS || i < wanted.left(k)), from);
                from += a.input_stride.c;
            }
        }
    }
}

__device__ __forceinline__ void load_positions(Item &item, const Wanted &wanted,
                                               const Arguments &a) {
    const element *from;
    const bool inside = wanted.locate(0, a, from);
    SG_UNROLL
    for (int cell = 0; cell < ITEM_CELLS; cell++) {
        SG_UNROLL
        for (int i = 0; i < 8; i++) {
            const bool present = inside && (WHOLE_CHUNKS || i < wanted.left(cell));
            element each[4];
            load_four(each, present, from);
            SG_UNROLL
            for (int row = 0; row < ITEM_ROWS; row++)
                item.value[row * ITEM_CELLS + cell][i] = each[row % 4];
            from += a.input_stride.c;
        }
    }
}

__device__ __forceinline__ void load_channels_of(Item &item, const Wanted &wanted,
                                                 const Arguments &a) {
    SG_UNROLL
    for (int k = 0; k < ITEM_ROWS * ITEM_CELLS; k++) {
        const element *from;
        const bool inside = wanted.locate(k, a, from);
        load_eight(item.value[k], inside && (WHOLE_CHUNKS || wanted.left(k) > 0), from);
    }
}

__device__ __forceinline__ void load_item(Item &item, const Wanted &wanted, const Arguments &a) {
    if (READ == 8)
        load_channels_of(item, wanted, a);
    else if (READ == 4)
        load_positions(item, wanted, a);
    else
        load_elements(item, wanted, a);
}

/* ---- segments ------------------------------------------------------------------------------ */

constexpr int SEGMENTS = 32; /* of a tile, at most */

/* What was met of a tile's segments, a bit each, on their way to halves of the common scale. */
struct Met {
    unsigned over, enough, some; /* too large; large enough; not zero */

    __device__ __forceinline__ void take(float largest, int segment) {
        const unsigned bit = segment < SEGMENTS ? 1U << segment : 0;
        over |= largest <= CARRIER_MAX / STAGE_SCALE ? 0 : bit;
        enough |= largest >= STAGE_MIN / STAGE_SCALE ? bit : 0;
        some |= largest > 0.0f ? bit : 0;
    }
};

/* The scale of a segment of a tile that is made anew: as it was where that was right. largest: bits
 * of the segments' largest finite magnitudes; read when wanted, since to keep them takes registers.
 * */
__device__ __forceinline__ float scale_anew(const volatile unsigned *largest, int segment) {
    const float magnitude = __uint_as_float(largest[min(segment, SEGMENTS - 1)]);
    return carrier_fails(magnitude * STAGE_SCALE, STAGE_MIN) ? scale_to(8, magnitude)
                                                             : STAGE_SCALE;
}

/* The largest finite magnitudes of an item, by segment, to shared memory. */
__device__ __forceinline__ void measure_item(const Wanted &wanted, const Item &item,
                                             unsigned *largest, const Arguments &a) {
    SG_UNROLL
    for (int k = 0; k < ITEM_ROWS * ITEM_CELLS; k++) {
        float most = 0;
        SG_UNROLL
        for (int i = 0; i < 8; i++)
            most = finite_magnitude(most, load(&item.value[k][i]));
        const int segment = wanted.segment(item_position(k), a);
        if (most > 0.0f && segment < SEGMENTS)
            atomicMax(&largest[segment], __float_as_uint(most));
    }
}

/* Gives an item's values the scales of their segments. */
__device__ __forceinline__ void scale_item(const Wanted &wanted, Item &item,
                                           const unsigned *largest, const Arguments &a) {
    SG_UNROLL
    for (int k = 0; k < ITEM_ROWS * ITEM_CELLS; k++) {
        const float scale = scale_anew(largest, wanted.segment(item_position(k), a));
        SG_UNROLL
        for (int i = 0; i < 8; i++)
            store(&item.value[k][i], load(&item.value[k][i]) * scale);
    }
}

/* ---- as they are carried ------------------------------------------------------------------- */

/* Eight channels: the upper halves, and with three products the lower. */
struct Carried {
    uint4 upper, lower;
};

/* Two values that have their scale, as halves. With three products, infinity and NaN are lower
 * halves (finite_part). */
__device__ __forceinline__ void pack_scaled(float low, float high, unsigned &upper,
                                            unsigned &lower) {
    if (PRODUCTS == 1) {
        upper = pack_halves_scaled(low, high, 1.0f, !ROUND_EVEN);
        return;
    }
    upper = pack_halves(finite_part(low), finite_part(high));
    lower = remainder(upper, low, high);
}

/* Raises the largest magnitude met. ANEW: of values that have their scale, not to be met. */
template <bool ANEW>
__device__ __forceinline__ Carried pack_cell(const float (&value)[8], float &largest) {
    unsigned upper[4], lower[4] = {0, 0, 0, 0};
    SG_UNROLL
    for (int i = 0; i < 4; i++) {
        const float low = value[2 * i], high = value[2 * i + 1];
        if (ANEW) {
            pack_scaled(low, high, upper[i], lower[i]);
            continue;
        }
        largest = max_magnitude(max_magnitude(largest, low), high);
        upper[i] = carry(low, high);
        if (PRODUCTS == 3)
            lower[i] = remainder(upper[i], low * STAGE_SCALE, high * STAGE_SCALE);
    }
    return Carried{make_uint4(upper[0], upper[1], upper[2], upper[3]),
                   make_uint4(lower[0], lower[1], lower[2], lower[3])};
}
template <bool ANEW, class T>
__device__ __forceinline__ Carried pack_cell(const T (&value)[8], float &) {
    unsigned words[4];
    SG_UNROLL
    for (int i = 0; i < 4; i++)
        words[i] = static_cast<unsigned>(value[2 * i + 1].bits) << 16 | value[2 * i].bits;
    return Carried{make_uint4(words[0], words[1], words[2], words[3]), uint4()};
}

__device__ __forceinline__ void store_cell(uint4 *to, const Carried &carried) {
    *to = carried.upper;
    if (PRODUCTS == 3)
        to[CELLS * BOX_PIXELS] = carried.lower;
}

__device__ __forceinline__ void swap_if(bool yes, Carried &a, Carried &b) {
    const Carried was = a;
    a.upper = yes ? b.upper : a.upper;
    b.upper = yes ? was.upper : b.upper;
    a.lower = yes ? b.lower : a.lower;
    b.lower = yes ? was.lower : b.lower;
}

/* In one order for all, lanes would be 64 bytes apart and meet in the banks: so pairs of lanes
 * start with another of their four positions. */
__device__ __forceinline__ void store_positions(uint4 *to, int at, const Item &item,
                                                float &largest) {
    const int lane = threadIdx.x % 32;
    SG_UNROLL
    for (int cell = 0; cell < ITEM_CELLS; cell++) {
        Carried halves[4];
        SG_UNROLL
        for (int p = 0; p < 4; p++)
            halves[p] = pack_cell<false>(item.value[p % ITEM_ROWS * ITEM_CELLS + cell], largest);
        swap_if(lane >> 1 & 1, halves[0], halves[1]);
        swap_if(lane >> 1 & 1, halves[2], halves[3]);
        swap_if(lane >> 2 & 1, halves[0], halves[2]);
        swap_if(lane >> 2 & 1, halves[1], halves[3]);
        SG_UNROLL
        for (int p = 0; p < 4; p++)
            if (at < BOX_PIXELS)
                store_cell(to + cell * BOX_PIXELS + at + (p ^ (lane >> 1 & 3)), halves[p]);
    }
}

/* ANEW: of values that have their scales; else met learns of them. */
template <bool ANEW>
__device__ __forceinline__ void store_item(unsigned char *box, const Wanted &wanted,
                                           const Item &item, Met &met, const Arguments &a) {
    constexpr bool WATCHED = GUARDED && !ANEW;
    uint4 *to = reinterpret_cast<uint4 *>(box) + wanted.first_channel() / 8 * BOX_PIXELS;
    float largest = 0;
    if (READ == 4 && !ANEW) { /* a lane's four positions are of one segment */
        store_positions(to, wanted.first_position() + item_position(0), item, largest);
        if (WATCHED)
            met.take(largest, wanted.segment(item_position(0), a));
        return;
    }
    const bool one = WATCHED && wanted.segment(0, a) == wanted.segment(ITEM_POSITIONS - 1, a);
    SG_UNROLL
    for (int k = 0; k < ITEM_ROWS * ITEM_CELLS; k++) {
        const int at = wanted.first_position() + item_position(k);
        float here = 0;
        const Carried halves = pack_cell<ANEW>(item.value[k], here);
        if (at < BOX_PIXELS)
            store_cell(to + item_cell(k) * BOX_PIXELS + at, halves);
        if (WATCHED && !one)
            met.take(here, wanted.segment(item_position(k), a));
        largest = max_magnitude(largest, here);
    }
    if (one)
        met.take(largest, wanted.segment(0, a));
}
