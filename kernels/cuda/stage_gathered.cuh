/* ---- producers: a box of the input becomes words of two halves ----------------------------- */

/* A warp makes whole stages, every PRODUCERS-th. Its lanes copy a stage to memory of the warp's
 * own, AHEAD of its stages before it is wanted: rows lane / 8 + 4 i, four columns each, so that the
 * lane that has row r has row r + 4, too. */

/* Copies, of which the bytes beyond `bytes` come as zeros. */
__device__ __forceinline__ void cp_async_16(unsigned to, const char *from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void cp_async_4(unsigned to, const char *from, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}
/* Two floats as halves, rounded toward zero; low first. */
__device__ __forceinline__ unsigned pack_truncated(float low, float high) {
    unsigned pair;
    asm("cvt.rz.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

/* Of a scaled value, what is carried by halves when a job is made anew. */
__device__ __forceinline__ float carried(float scaled) {
    return PARTS == 2 ? finite_part(scaled) : ROUND_AWAY ? round_tf32_away(scaled) : scaled;
}

/* A warp's place in the slices of one job after another. */
struct Slice {
    int number, slice; /* the job's among the block's; may lie beyond the job's last */

    /* How many jobs further on it is. */
    __device__ __forceinline__ int settle(int slices) {
        const int was = number;
        for (; slice >= slices; slice -= slices)
            number++;
        return number - was;
    }
};

__device__ __forceinline__ bool inside_of(int place, long long size) {
    return static_cast<unsigned>(place) < static_cast<unsigned>(size);
}

/* Where a lane reads a job's input. */
struct Source {
    unsigned offset[ROW_STEPS]; /* bytes from `corner` to the lane's columns of each of its rows */
    const char *corner; /* of the box's first row and channel in plane 0; may lie outside */
    int first_d;        /* plane of slice 0; may lie outside */
    unsigned rows[COLUMN_STEPS]; /* bits: whether each row lies inside; fours of columns, too */
    unsigned columns;            /* bits: whether each column lies inside, where they come alone */

    __device__ __forceinline__ Source(const Arguments &a, int lane) {
#pragma unroll
        for (int i = 0; i < ROW_STEPS; i++) {
            const int row = lane / 8 + 4 * i;
            offset[i] = (row % IN_CHANNELS * static_cast<unsigned>(a.input_stride.c) +
                         row / IN_CHANNELS * static_cast<unsigned>(a.input_stride.h)) * 4;
        }
    }
    __device__ __forceinline__ void open(const Arguments &a, const Place &at, int lane) {
        const int x = at.w - PADDING_W - LEAD + lane % 8 * 4, y = at.h - PADDING_H;
        corner = reinterpret_cast<const char *>(a.input + at.n * a.input_stride.n +
                                                y * a.input_stride.h + x);
        first_d = at.d - PADDING_D;
        unsigned inside = 0;
#pragma unroll
        for (int i = 0; i < ROW_STEPS; i++) {
            const int row = lane / 8 + 4 * i;
            if (row < ROWS && inside_of(y + row / IN_CHANNELS, a.in_h))
                inside |= 1U << i;
        }
        if (VECTOR == 1)
            columns = 0;
#pragma unroll
        for (int b = 0; b < COLUMN_STEPS; b++) {
            const int first = x + b * 32;
            rows[b] = VECTOR == 4 && !inside_of(first, a.in_w) ? 0 : inside;
#pragma unroll
            for (int e = 0; VECTOR == 1 && e < 4; e++)
                if (inside_of(first + e, a.in_w))
                    columns |= 1U << b * 4 + e;
        }
    }
    /* to: shared memory, of this lane. Zeros come from beyond the last depth, where a box may
     * reach, and from beyond the box, where a slice may. */
    __device__ __forceinline__ void copy(const Arguments &a, int slice, unsigned to) const {
        const int z = first_d + slice;
        const bool inside = inside_of(z, a.in_d) && slice < static_cast<int>(a.box_d) + TURN - 1;
        const char *plane = corner + z * a.input_stride.d * 4;
        asm volatile("" : "+l"(plane)); /* nothing is worked out from it before it is there */
#pragma unroll
        for (int b = 0; b < COLUMN_STEPS; b++) {
            const unsigned present = inside ? rows[b] : 0;
#pragma unroll
            for (int i = 0; i < ROW_STEPS; i++) {
                const char *from = plane + offset[i] + b * 128;
                const unsigned at = to + (b * ROW_STEPS + i) * 512;
                if (VECTOR == 4)
                    cp_async_16(at, from, present & 1U << i ? 16 : 0);
#pragma unroll
                for (int e = 0; VECTOR == 1 && e < 4; e++)
                    cp_async_4(at + e * 4, from + e * 4,
                               present & 1U << i && columns & 1U << b * 4 + e ? 4 : 0);
            }
        }
    }
};

/* Words of a stage, of which the lane has the columns at `raw`: four columns of a row, with those
 * of the row four further on. Scaled by STAGE_SCALE in the exponent, which overflows only where the
 * job is made anew; ANEW by a scale of the job's own, infinity and NaN as finite_part says. Returns
 * the largest magnitude, zero if ANEW.
 *
 * With PARTS 1, rows are read some at a time before any of their words is stored: for all that the
 * compiler knows, they might lie there. */
template <bool ANEW>
__device__ __forceinline__ float make_words(const float4 *raw, unsigned *to, float scale) {
    constexpr int ROWS_READ = ANEW || PARTS == 2 ? 1 : ROW_STEPS <= 6 ? ROW_STEPS : 3;
    float largest[4] = {};
#pragma unroll
    for (int b = 0; b < COLUMN_STEPS; b++) {
        float value[4] = {}, rest[4] = {}; /* of the row four further on */
#pragma unroll(ANEW ? 1 : ROW_STEPS)
        for (int end = ROW_STEPS; end > 0; end -= ROWS_READ) {
            float4 row[ROWS_READ];
#pragma unroll
            for (int i = 0; i < ROWS_READ; i++)
                if (ROW_STEPS % ROWS_READ == 0 || i < end)
                    row[i] = raw[(b * ROW_STEPS + end - 1 - i) * 32];
#pragma unroll
            for (int i = 0; i < ROWS_READ; i++) {
                if (ROW_STEPS % ROWS_READ != 0 && i >= end)
                    break;
                const float column[4] = {row[i].x, row[i].y, row[i].z, row[i].w};
                unsigned high[4], low[4];
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    if (!ANEW)
                        largest[e] = v_max(largest[e], fabsf(column[e]));
                    const unsigned raised = __float_as_uint(column[e]) + RAISE;
                    const float scaled = ANEW ? column[e] * scale : __uint_as_float(raised);
                    const float taken = ANEW ? carried(scaled) : scaled;
                    high[e] = ROUND_AWAY && !ANEW ? pack_truncated(taken, value[e])
                                                  : pack_halves(taken, value[e]);
                    value[e] = taken;
                    if (PARTS == 1)
                        continue;
                    const unsigned short upper = high[e] & 0xffff;
                    const float left = scaled - half_value(upper);
                    low[e] = pack_halves(left, rest[e]);
                    rest[e] = left;
                }
                unsigned *at = to + (end - 1 - i) * 4 * PITCH + b * 32;
                *reinterpret_cast<uint4 *>(at) = make_uint4(high[0], high[1], high[2], high[3]);
                if (PARTS == 2)
                    *reinterpret_cast<uint4 *>(at + PART_WORDS) =
                        make_uint4(low[0], low[1], low[2], low[3]);
            }
        }
    }
    return v_max(v_max(largest[0], largest[1]), v_max(largest[2], largest[3]));
}

/* Asks the cache for rows of a slice, one a lane: what a warp reads first has begun to come before
 * it has worked out where its lanes read. */
__device__ __forceinline__ void ask_for_slice(const Arguments &a, const Place &at, int slice,
                                               int lane) {
    const int x = max(at.w - PADDING_W, 0), z = at.d - PADDING_D + slice;
#pragma unroll
    for (int row = 0; row < ROWS; row += 32) {
        const int y = at.h - PADDING_H + (row + lane) / IN_CHANNELS;
        const float *from = a.input + at.n * a.input_stride.n + z * a.input_stride.d + x +
                            (row + lane) % IN_CHANNELS * a.input_stride.c +
                            y * a.input_stride.h;
        if (row + lane < ROWS && inside_of(y, a.in_h) && inside_of(z, a.in_d))
            asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
    }
}

/* A round's jobs, from its stage warp on. */
__device__ __forceinline__ void produce(const Arguments &a, Shared &shared,
                                        const Round &round) {
    const int lane = thread_index() % 32, warp = thread_index() / 32 - CONSUMER_WARPS;
    const int slices = job_slices(a);
    const int count = (round.end - round.first) * slices, stages = round_stages(round, a);
    unsigned char *raw = shared.raw[warp] + lane * 16;
    const unsigned raw_address = shared_address(raw);
    Place at = job_at(round.before + round.first, a);
    ask_for_slice(a, at, warp, lane);
    Slice read = {round.first, warp}, made = read;
    Source source(a, lane);
    unsigned largest = 0; /* bits of the largest magnitude of the job that is made */
    int place = 0;        /* in the warp's memory, of the stage that is read */
    made.settle(slices);
#pragma unroll 1
    for (int stage = warp; stage < stages + PRODUCERS * AHEAD; stage += PRODUCERS) {
        if (stage < count) {
            const int further = read.settle(slices);
#pragma unroll 1
            for (int i = 0; i < further; i++)
                next_job(at, a);
            if (further > 0 || stage == warp)
                source.open(a, at, lane);
            source.copy(a, read.slice, raw_address + place * RAW_BYTES);
            read.slice += PRODUCERS;
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
        place = place == AHEAD ? 0 : place + 1;
        const int done = stage - PRODUCERS * AHEAD;
        if (done < PRODUCERS) { /* copies may come before the barriers */
            if (done < 0)
                continue;
            if (round.staged == 0)
                barrier_sync(BEGUN, THREADS);
        }
        asm volatile("cp.async.wait_group %0;" ::"n"(AHEAD) : "memory");
        const int number = round.staged + done, slot = number % STAGES;
        mbarrier_wait(shared_address(&shared.empty[slot & ~1]), (number / STAGES & 1) ^ 1);
        if (done < count) {
            const float4 *from = reinterpret_cast<const float4 *>(raw + place * RAW_BYTES);
            unsigned *to = shared.stages[slot] + lane / 8 * PITCH + lane % 8 * 4;
            const float met = round.scale == 0.0f ? make_words<false>(from, to, 0.0f)
                                                  : make_words<true>(from, to, round.scale);
            largest = max(largest, __float_as_uint(met));
        }
        const int job = made.number;
        made.slice += PRODUCERS;
        if (made.settle(slices) > 0 && done < count) { /* the warp's last of the job */
            const unsigned most = __reduce_max_sync(~0U, largest);
            if (lane == 0 && round.scale == 0.0f)
                atomicMax(shared.magnitude + job % ROUND, most);
            largest = 0;
        }
        mbarrier_arrive(shared_address(&shared.full[slot]));
    }
}
