/* Producers of packed slices: patches of the input become rows of A.
 *
 * A stage holds the patches of M output pixels at one place along depth, in halves (float16 and
 * bfloat16 as they are), groups of eight of them:
 *     [PARTS][K / 8][M slots][8]
 * k goes by the kernel's rows: the taps of a row, [channel][kd][kw], are pairs of halves, ROW_WORDS
 * of them, the last padded with a zero; zeros from WORDS pairs on. Kernel, stride, dilation and
 * padding end here: a stage has no halo. Pixel m of the box lies at row m / BOX_W, column
 * m % BOX_W.
 *
 * With SHARED_ROWS (stride and dilation 1 along height, BOX_W a multiple of 32) a row of the input
 * is stored once for all rows of the kernel. Of a kernel row's taps the first MAIN * 8 are whole
 * groups, kept for every row of the input under the box; row kh of the kernel is the same group
 * kh * BOX_W slots further on. The REST taps of all kernel rows together fill groups of M slots:
 *     [PARTS]([MAIN][BOX_H + KERNEL_H - 1][BOX_W][8], [K / 8 - KERNEL_H * MAIN][M][8])
 * k goes by the whole groups, [MAIN][KERNEL_H], and then by the rest, [KERNEL_H][REST].
 *
 * A lane packs four neighbours in each of LANE_ROWS rows, one row of the input after the other:
 * what it made of one serves every output row that the kernel reaches from there. STAGES * UNITS is
 * a multiple of PRODUCERS, so that what a thread overwrites is its own.
 *
 * Constants:
 * IN_CHANNELS, KERNEL_*, STRIDE_*, PADDING_*, DILATION_* (D, H, W), TAPS_D (the kernel's slices in
 * k: KERNEL_D or 1), K, M, BOX_W, BOX_H, LANE_ROWS, LOAD_ROWS (rows of the input read at once),
 * PARTS, STAGES, PRODUCERS, VECTOR (elements that may be read at once: 4, 2 or 1), NEIGHBOURS
 * (columns lie side by side), ROUND_EVEN, GUARDED (elements are float32), and the types `element`,
 * of the input, and `held`: float, or unsigned for the bits of a narrow element. */

constexpr int UNIT = 128 * LANE_ROWS; /* pixels of a warp at a time */
constexpr int UNITS = M / UNIT;       /* of a stage */
constexpr int SPAN = 3 * STRIDE_W + (KERNEL_W - 1) * DILATION_W + 1; /* columns under neighbours */
constexpr int ROW_SPANS = IN_CHANNELS * TAPS_D;
constexpr int ROW_TAPS = ROW_SPANS * KERNEL_W;
constexpr int ROW_WORDS = (ROW_TAPS + 1) / 2;
constexpr int WORDS = KERNEL_H * ROW_WORDS;
constexpr int GROUPS = K / 8;
constexpr int IN_ROWS = (LANE_ROWS - 1) * STRIDE_H + (KERNEL_H - 1) * DILATION_H + 1;
constexpr int MAIN = SHARED_ROWS ? ROW_TAPS / 8 : 0; /* whole groups of a kernel's row */
constexpr int REST = ROW_TAPS - MAIN * 8;
constexpr int MAINS = KERNEL_H * MAIN; /* the first groups of k */
constexpr int MAIN_SLOTS = (BOX_H + KERNEL_H - 1) * BOX_W;

/* Slots before a group of k. */
__device__ constexpr int group_at(int group) {
    if (group < MAINS)
        return group / KERNEL_H * MAIN_SLOTS + group % KERNEL_H * BOX_W;
    return MAIN * MAIN_SLOTS + (group - MAINS) * M;
}
/* The place in k of tap j of the kernel's row kh. */
__device__ constexpr int place_in_k(int kh, int j) {
    if (!SHARED_ROWS)
        return kh * 2 * ROW_WORDS + j;
    return j < MAIN * 8 ? (j / 8 * KERNEL_H + kh) * 8 + j % 8
                        : MAINS * 8 + kh * REST + j - MAIN * 8;
}

constexpr int PART_BYTES = group_at(GROUPS) * 16;
constexpr int STAGE_BYTES = PARTS * PART_BYTES;
constexpr float REST_SCALE = 2048.0f;
constexpr bool PADDED = PADDING_D || PADDING_H || PADDING_W;

/* Slots and pixels of a stage: eights of slots are eights of pixels, in an order that brings every
 * store of 16 bytes by eight lanes, which are 64 bytes apart, to all 32 banks. Its own inverse. */
__device__ __forceinline__ int packed_pixel(int slot) {
    return slot ^ (slot >> 3 & 3);
}

constexpr bool ROUND_AWAY = GUARDED && PARTS == 1 && !ROUND_EVEN;

/* Activations go to halves in two instructions. Added to a float's bits, 6 << 23 multiplies by
 * CARRIER_SCALE, and 1 << 12 carries into the eleven bits that truncation then keeps: rounding half
 * away from zero. Zero becomes a number too small for a half, which is as good; where the exponent
 * overflows, the job is made ANEW: exactly, with the job's own scale. */
template <bool ANEW> __device__ __forceinline__ float scale_operand(float x, float scale) {
    if (!ANEW)
        return __uint_as_float(__float_as_uint(x) + (6U << 23) + (ROUND_AWAY ? 1U << 12 : 0U));
    return ROUND_AWAY ? round_tf32_away(x * scale) : x * scale;
}
template <bool ANEW> __device__ __forceinline__ unsigned pack_operands(float low, float high) {
    if (ANEW || !ROUND_AWAY)
        return pack_halves(low, high);
    unsigned pair;
    asm("cvt.rz.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

/* Splits x: a half's worth, which x becomes, and what that leaves. `finite`: x is known to be. */
__device__ __forceinline__ float split(float &x, bool finite) {
    const float whole = x;
    if (!finite)
        x = finite_part(x);
    return whole - half_value(round_half(x));
}

/* Brings a value to what pack_operands takes, and returns what a half leaves of it. largest: of the
 * magnitudes met, unless the job is made ANEW. */
template <bool ANEW>
__device__ __forceinline__ float prepare(float &value, float scale, float &largest) {
    if (!ANEW)
        largest = max_magnitude(largest, value);
    value = scale_operand<ANEW>(value, scale);
    return PARTS == 2 ? split(value, !ANEW) * REST_SCALE : 0.0f;
}
template <bool ANEW>
__device__ __forceinline__ float prepare(unsigned &, float, float &) {
    return 0.0f;
}
template <bool ANEW>
__device__ __forceinline__ unsigned pack_operands(unsigned low, unsigned high) {
    return low | high << 16;
}

/* One, two or four neighbours of a row; zeros where `in` is false. */
__device__ __forceinline__ void read_one(const float *from, bool in, float &out) {
    out = in ? *from : 0.0f;
}
__device__ __forceinline__ void read_two(const float *from, bool in, float *out) {
    float2 v = make_float2(0.0f, 0.0f);
    if (in)
        v = *reinterpret_cast<const float2 *>(from);
    out[0] = v.x, out[1] = v.y;
}
__device__ __forceinline__ void read_four(const float *from, bool in, float *out) {
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (in)
        v = *reinterpret_cast<const float4 *>(from);
    out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
}
template <class Narrow>
__device__ __forceinline__ void read_one(const Narrow *from, bool in, unsigned &out) {
    out = in ? from->bits : 0;
}
template <class Narrow>
__device__ __forceinline__ void read_two(const Narrow *from, bool in, unsigned *out) {
    unsigned v = 0;
    if (in)
        v = *reinterpret_cast<const unsigned *>(from);
    out[0] = v & 0xffff, out[1] = v >> 16;
}
template <class Narrow>
__device__ __forceinline__ void read_four(const Narrow *from, bool in, unsigned *out) {
    uint2 v = make_uint2(0, 0);
    if (in)
        v = *reinterpret_cast<const uint2 *>(from);
    out[0] = v.x & 0xffff, out[1] = v.x >> 16, out[2] = v.y & 0xffff, out[3] = v.y >> 16;
}

/* Whether one of four neighbours uses column i of their span. */
__device__ constexpr bool span_uses(int i) {
    for (int p = 0; p < 4; p++)
        for (int kw = 0; kw < KERNEL_W; kw++)
            if (p * STRIDE_W + kw * DILATION_W == i)
                return true;
    return false;
}

/* Columns to read at once from column i of a span on. The span begins PADDING_W before a multiple
 * of four columns. */
__device__ constexpr int span_width(int i) {
    for (int width = VECTOR; width > 1; width /= 2)
        if ((i + width * PADDING_W - PADDING_W) % width == 0 && i + width <= SPAN)
            return width;
    return 1;
}

/* Reads a span at `column` of a row; zeros outside the image. */
__device__ __forceinline__ void load_span(const element *from, int stride, bool inside,
                                          int column, int width, held (&out)[SPAN]) {
    int next = 0;
#pragma unroll
    for (int i = 0; i < SPAN; i++) {
        if (i < next)
            continue;
        const int wide = span_width(i);
        next = i + wide;
        bool used = false;
        for (int e = i; e < next; e++)
            used = used || span_uses(e);
        if (!used)
            continue;
        const bool in =
            inside && ((!PADDED && i == 0) ||
                       static_cast<unsigned>(column + i) < static_cast<unsigned>(width));
        if (wide == 4)
            read_four(from + i, in, out + i);
        else if (wide == 2)
            read_two(from + i, in, out + i);
        else
            read_one(from + i * stride, in, out[i]);
    }
}

/* What a lane reads: the patches of its pixels. */
struct Patch {
    const element *plane; /* element (0, 0) of the first tap's plane; may lie outside */
    int z, y, x;        /* of the first tap; may lie outside */
    bool valid;         /* whether some of the pixels lies in the output */
};

/* The row of the kernel that meets the input's row `in` for the lane's row `out`; -1: none does. */
__device__ constexpr int kernel_row(int in, int out) {
    const int reach = in - out * STRIDE_H;
    return reach >= 0 && reach % DILATION_H == 0 && reach / DILATION_H < KERNEL_H
               ? reach / DILATION_H
               : -1;
}
__device__ constexpr bool row_used(int in) {
    for (int out = 0; out < LANE_ROWS; out++)
        if (kernel_row(in, out) >= 0)
            return true;
    return false;
}

/* Without padding, rows outside are read from inside, and belong to pixels that are dropped. */
__device__ __forceinline__ void load_row(const Arguments &a, const Patch &patch, int in,
                                         held (&value)[ROW_SPANS][SPAN]) {
    const int y = PADDED ? patch.y + in : min(patch.y + in, static_cast<int>(a.in_h) - 1);
    const int stride_w = NEIGHBOURS ? 1 : static_cast<int>(a.input_stride.w);
    const int stride_c = static_cast<int>(a.input_stride.c);
    const int stride_d = static_cast<int>(a.input_stride.d);
    const element *row = patch.plane + y * static_cast<int>(a.input_stride.h) + patch.x * stride_w;
#pragma unroll
    for (int i = 0; i < ROW_SPANS; i++) {
        const int c = i / TAPS_D, z = i % TAPS_D * DILATION_D;
        const bool inside =
            !PADDED ||
            (patch.valid &&
             (PADDING_D == 0 || static_cast<unsigned long long>(patch.z + z) < a.in_d) &&
             static_cast<unsigned long long>(y) < a.in_h);
        load_span(row + (c * stride_c + z * stride_d), stride_w, inside, patch.x,
                  static_cast<int>(a.in_w), value[i]);
    }
}

/* One row of the input as words of k, for each of four neighbours. */
struct RowWords {
    unsigned high[ROW_WORDS][4], low[PARTS == 2 ? ROW_WORDS : 1][4];

    template <bool ANEW>
    __device__ __forceinline__ void pack(held (&value)[ROW_SPANS][SPAN], float scale,
                                         float &largest) {
        float rest[ROW_SPANS][SPAN];
#pragma unroll
        for (int i = 0; i < ROW_SPANS; i++)
#pragma unroll
            for (int e = 0; e < SPAN; e++)
                if (span_uses(e))
                    rest[i][e] = prepare<ANEW>(value[i][e], scale, largest);
#pragma unroll
        for (int word = 0; word < ROW_WORDS; word++)
#pragma unroll
            for (int p = 0; p < 4; p++) {
                const int j = 2 * word, next = j + 1;
                const int i = j / KERNEL_W, e = p * STRIDE_W + j % KERNEL_W * DILATION_W;
                const int in = next / KERNEL_W, en = p * STRIDE_W + next % KERNEL_W * DILATION_W;
                high[word][p] =
                    pack_operands<ANEW>(value[i][e], next < ROW_TAPS ? value[in][en] : held(0));
                if (PARTS == 2)
                    low[word][p] = pack_halves(rest[i][e], next < ROW_TAPS ? rest[in][en] : 0.0f);
            }
    }
};

/* Stores the groups of k of the lane's row `out` that the kernel's row kh completes. stage: of the
 * row's first slot; rotation: what packed_pixel does to its four. */
__device__ __forceinline__ void store_groups(unsigned char *stage, int rotation, int out, int kh,
                                             const RowWords (&rows)[IN_ROWS]) {
    const int end = kh == KERNEL_H - 1 ? GROUPS : (kh + 1) * ROW_WORDS / 4;
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        if (g < kh * ROW_WORDS / 4 || g >= end)
            continue;
#pragma unroll
        for (int p = 0; p < 4; p++) {
            unsigned high[4], low[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int word = g * 4 + i;
                const int in = out * STRIDE_H + word / ROW_WORDS * DILATION_H;
                high[i] = word < WORDS ? rows[word < WORDS ? in : 0].high[word % ROW_WORDS][p] : 0;
                low[i] = PARTS == 2 && word < WORDS
                             ? rows[word < WORDS ? in : 0].low[word % ROW_WORDS][p]
                             : 0;
            }
            unsigned char *to = stage + (p ^ rotation) * 16 + g * M * 16;
            *reinterpret_cast<uint4 *>(to) = make_uint4(high[0], high[1], high[2], high[3]);
            if (PARTS == 2)
                *reinterpret_cast<uint4 *>(to + PART_BYTES) =
                    make_uint4(low[0], low[1], low[2], low[3]);
        }
    }
}

/* With SHARED_ROWS: the whole groups of one row of the input. */
__device__ __forceinline__ void store_main(unsigned char *stage, int rotation,
                                           const RowWords &row) {
#pragma unroll
    for (int i = 0; i < MAIN; i++)
#pragma unroll
        for (int p = 0; p < 4; p++) {
            unsigned char *to = stage + ((p ^ rotation) + i * MAIN_SLOTS) * 16;
            *reinterpret_cast<uint4 *>(to) = make_uint4(row.high[i * 4][p], row.high[i * 4 + 1][p],
                                                        row.high[i * 4 + 2][p],
                                                        row.high[i * 4 + 3][p]);
            if (PARTS == 2)
                *reinterpret_cast<uint4 *>(to + PART_BYTES) =
                    make_uint4(row.low[i * 4][p], row.low[i * 4 + 1][p], row.low[i * 4 + 2][p],
                               row.low[i * 4 + 3][p]);
        }
}

/* Two halves of k that are not in whole groups, of the lane's row `out`. */
__device__ __forceinline__ unsigned rest_word(const RowWords (&rows)[IN_ROWS], int out, int p,
                                              int e, bool low) {
    unsigned halves[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 2; i++)
        if (e + i < KERNEL_H * REST) {
            const int j = (e + i) % REST;
            const RowWords &row = rows[out + (e + i) / REST];
            const int at = MAIN * 4 + j / 2;
            const unsigned word = low ? row.low[at][p] : row.high[at][p];
            halves[i] = j % 2 ? word >> 16 : word & 0xffff;
        }
    return halves[0] | halves[1] << 16;
}
__device__ __forceinline__ void store_rest(unsigned char *stage, int rotation, int out,
                                           const RowWords (&rows)[IN_ROWS]) {
#pragma unroll
    for (int g = MAINS; g < GROUPS; g++)
#pragma unroll
        for (int p = 0; p < 4; p++) {
            unsigned char *to = stage + ((p ^ rotation) + group_at(g)) * 16;
#pragma unroll
            for (int part = 0; part < PARTS; part++) {
                const int e = (g - MAINS) * 8;
                *reinterpret_cast<uint4 *>(to + part * PART_BYTES) = make_uint4(
                    rest_word(rows, out, p, e, part), rest_word(rows, out, p, e + 2, part),
                    rest_word(rows, out, p, e + 4, part), rest_word(rows, out, p, e + 6, part));
            }
        }
}

/* Packs one lane's pixels, and returns the largest magnitude met, or, where the job is made ANEW,
 * with `scale`, zero. m: its first; empty, parity: what says that the stage is free. */
template <bool ANEW>
__device__ __forceinline__ float pack_patch(const Arguments &a, const Patch &patch,
                                            unsigned char *stage, int m, unsigned empty,
                                            unsigned parity, float scale) {
    constexpr int READ_ROWS = ANEW ? 1 : LOAD_ROWS; /* anew, registers count and not time */
    RowWords rows[IN_ROWS];
    float largest = 0.0f;
#pragma unroll
    for (int first = 0; first < IN_ROWS; first += READ_ROWS) {
        held value[READ_ROWS][ROW_SPANS][SPAN];
#pragma unroll
        for (int i = 0; i < READ_ROWS; i++)
            if (first + i < IN_ROWS && row_used(first + i))
                load_row(a, patch, first + i, value[i]);
        if (first == 0)
            mbarrier_wait(empty, parity);
#pragma unroll
        for (int i = 0; i < READ_ROWS; i++) {
            const int in = first + i;
            if (in >= IN_ROWS || !row_used(in))
                continue;
            rows[in].template pack<ANEW>(value[i], scale, largest);
            if (SHARED_ROWS) {
                const int slot = m + in * BOX_W;
                if (in < LANE_ROWS || m / BOX_W + LANE_ROWS == BOX_H)
                    store_main(stage + slot * 16, slot >> 3 & 3, rows[in]);
                const int out = in - (KERNEL_H - 1);
                if (out >= 0)
                    store_rest(stage + (m + out * BOX_W) * 16, slot >> 3 & 3, out, rows);
                continue;
            }
#pragma unroll
            for (int out = 0; out < LANE_ROWS; out++)
                if (kernel_row(in, out) >= 0) {
                    const int slot = m + out * BOX_W;
                    store_groups(stage + slot * 16, slot >> 3 & 3, out, kernel_row(in, out), rows);
                }
        }
    }
    return largest;
}

/* The largest finite magnitude of one lane's pixels. */
__device__ __forceinline__ float look_at_patch(const Arguments &a, const Patch &patch) {
    float largest = 0.0f;
#pragma unroll 1
    for (int in = 0; in < IN_ROWS; in++) {
        bool used = false;
        for (int out = 0; out < LANE_ROWS; out++)
            used = used || kernel_row(in, out) >= 0;
        if (!used)
            continue;
        held value[ROW_SPANS][SPAN];
        load_row(a, patch, in, value);
#pragma unroll
        for (int i = 0; i < ROW_SPANS; i++)
#pragma unroll
            for (int e = 0; e < SPAN; e++)
                if (span_uses(e))
                    largest = finite_magnitude(largest, value[i][e]);
    }
    return largest;
}

/* A producer's warp: it takes every PRODUCERS-th unit of all stages that the block makes. */
struct Producer {
    int next;   /* unit */
    int staged; /* stages before the job */

    /* m: the lane's first pixel of the box. */
    __device__ __forceinline__ Patch patch(const Arguments &a, const Job &at, int slice, int unit,
                                           int &m) const {
        constexpr int QUADS = BOX_W / 4; /* of a row */
        const int quad = unit * 32 + thread_index() % 32; /* in units of LANE_ROWS rows */
        m = quad / QUADS * LANE_ROWS * BOX_W + quad % QUADS * 4;
        int h = at.h + m / BOX_W, w = at.w + m % BOX_W;
        Patch patch;
        /* Rows below the output's last serve pixels above, where rows are shared. */
        patch.valid = (SHARED_ROWS || h < a.out_h) && w < a.out_w;
        if (!PADDED) {
            if (!SHARED_ROWS)
                h = min(h, static_cast<int>(a.out_h) - 1);
            w = min(w, (static_cast<int>(a.out_w) - 1) / 4 * 4);
        }
        patch.z = (at.d + slice) * STRIDE_D - PADDING_D;
        patch.y = h * STRIDE_H - PADDING_H;
        patch.x = w * STRIDE_W - PADDING_W;
        patch.plane = a.input + at.n * a.input_stride.n + patch.z * a.input_stride.d;
        return patch;
    }

    template <bool ANEW>
    __device__ __forceinline__ void make(const Arguments &a, const Shared &shared, const Job &at,
                                         float scale, unsigned *magnitude) {
        const int end = staged + at.slices();
#pragma unroll 1
        for (; next < end * UNITS; next += PRODUCERS) {
            const int stage = next / UNITS, slot = stage % STAGES;
            int m;
            const Patch from = patch(a, at, stage - staged, next % UNITS, m);
            const float largest =
                pack_patch<ANEW>(a, from, shared.stages + slot * STAGE_BYTES, m,
                                 shared.empty + 8 * slot, (stage / STAGES & 1) ^ 1, scale);
            const unsigned most =
                ANEW || !GUARDED ? 0 : __reduce_max_sync(~0U, __float_as_uint(largest));
            fence_proxy_async();
            __syncwarp();
            if (threadIdx.x % 32 == 0) {
                if (!ANEW && GUARDED)
                    atomicMax(magnitude, most);
                mbarrier_arrive(shared.full + 8 * slot);
            }
        }
        staged = end;
    }

    /* Puts a job's largest finite magnitude in the place of its largest. */
    __device__ __forceinline__ void look(const Arguments &a, const Job &at,
                                         unsigned *magnitude) const {
        float largest = 0.0f;
        const int first = thread_index() / 32 - CONSUMERS * 4;
#pragma unroll 1
        for (int unit = first; unit < at.slices() * UNITS; unit += PRODUCERS) {
            int m;
            const Patch from = patch(a, at, unit / UNITS, unit % UNITS, m);
            largest = fmaxf(largest, look_at_patch(a, from));
        }
        const unsigned most = __reduce_max_sync(~0U, __float_as_uint(largest));
        barrier_sync(2, PRODUCERS * 32); /* all have seen that they must look */
        if (first == 0 && thread_index() % 32 == 0)
            *magnitude = 0;
        barrier_sync(2, PRODUCERS * 32);
        if (thread_index() % 32 == 0)
            atomicMax(magnitude, most);
        barrier_sync(2, PRODUCERS * 32);
    }
};

__device__ __forceinline__ void produce(const Arguments &a, const Shared &shared) {
    Producer producer = {static_cast<int>(thread_index() / 32) - CONSUMERS * 4, 0};
    Work work = {0};
    do {
        const Job at = job_at(work.job(), a);
        unsigned *magnitude = shared.magnitude + work.number() % ROUND;
        if (!GUARDED || !work.anew()) {
            producer.make<false>(a, shared, at, CARRIER_SCALE, magnitude);
            continue;
        }
        if (!(__uint_as_float(*magnitude) <= FLOAT_MAX))
            producer.look(a, at, magnitude);
        const float scale = scale_to(8, __uint_as_float(*magnitude));
        producer.make<true>(a, shared, at, scale, magnitude);
    } while (work.next(shared));
}
