/* ---- between rounds ------------------------------------------------------------------------ */

/* All of the block meet, consumers and producers from places of their own in the program. */
__device__ __forceinline__ void meet(const Shared &shared, Round &round) {
    __syncwarp();
    if (thread_index() % 32 == 0)
        mbarrier_arrive(shared_address(&shared.met));
    mbarrier_wait(shared_address(&shared.met), round.meetings);
    round.meetings ^= 1;
}

/* The largest finite magnitude under a job, by all threads. */
__device__ __forceinline__ float look_at(const Arguments &a, Shared &shared, Round &round,
                                         const Place &at) {
    const int slices = static_cast<int>(a.box_d) + TURN - 1;
    float largest = 0.0f;
    if (thread_index() == 0)
        shared.largest = 0;
    meet(shared, round);
#pragma unroll 1
    for (int i = thread_index(); i < slices * ROWS * COLUMNS; i += THREADS) {
        const int x = at.w - PADDING_W - LEAD + i % COLUMNS, row = i / COLUMNS % ROWS;
        const int y = at.h - PADDING_H + row / IN_CHANNELS;
        const int z = at.d - PADDING_D + i / COLUMNS / ROWS;
        if (inside_of(x, a.in_w) && inside_of(y, a.in_h) && inside_of(z, a.in_d))
            largest = finite_magnitude(
                largest, a.input[at.n * a.input_stride.n + row % IN_CHANNELS * a.input_stride.c +
                                 z * a.input_stride.d + y * a.input_stride.h + x]);
    }
    const unsigned most = __reduce_max_sync(~0U, __float_as_uint(largest));
    if (thread_index() % 32 == 0)
        atomicMax(&shared.largest, most);
    meet(shared, round);
    return __uint_as_float(shared.largest);
}

/* The first of jobs `next` .. `end` - 1 that halves with STAGE_SCALE cannot hold; else `end`. */
__device__ __forceinline__ int first_failed(const Shared &shared, int next, int end) {
#pragma unroll 1
    for (; next < end; next += 32) {
        const int job = next + thread_index() % 32;
        const float largest =
            job < end ? __uint_as_float(shared.magnitude[job % ROUND]) * STAGE_SCALE : 0.0f;
        const unsigned failed = __ballot_sync(~0U, carrier_fails(largest, STAGE_MIN));
        if (failed != 0)
            return next + __ffs(failed) - 1;
    }
    return end;
}

/* To the next round, by all threads together: the jobs of this one that halves with STAGE_SCALE
 * cannot hold, each by itself, then others. False: there is none. */
__device__ __forceinline__ bool next_round(const Arguments &a, Shared &shared) {
    Round round = shared.round;
    const bool anew = round.scale != 0.0f;
    round.staged += round_stages(round, a);
    meet(shared, round);
    const int end = min(round.count, (round.first / ROUND + 1) * ROUND);
    const int next = first_failed(shared, anew ? round.end : round.first, end);
    if (next == round.count)
        return false;
    round.first = next;
    round.end = min(round.count, next + ROUND);
    round.scale = 0.0f;
    if (next < end) {
        float largest = __uint_as_float(shared.magnitude[next % ROUND]);
        if (!(largest <= FLOAT_MAX))
            largest = look_at(a, shared, round, job_at(round.before + next, a));
        round.end = next + 1;
        round.scale = scale_to(8, largest);
    } else {
        meet(shared, round); /* all have read the magnitudes */
        if (thread_index() < ROUND)
            shared.magnitude[thread_index()] = 0;
    }
    for (int o = thread_index(); o < OUT_CHANNELS; o += THREADS)
        shared.scale_bias[o].x =
            unscale(shared.scale[o], round.scale != 0.0f ? round.scale : STAGE_SCALE);
    if (thread_index() == 0) {
        shared.round = round;
        shared.round.meetings ^= 1; /* the one below */
    }
    meet(shared, round);
    return true;
}
