/* conv_wgmma_packed.cuh: shared memory, and the order in which a block takes its jobs. */

/* Shared memory, in order. */
struct Shared {
    unsigned char *stages, *weights;
    float2 *scale_bias;   /* [TILE_N]: what brings sums back, for the present job */
    float *scale;         /* [TILE_N]: of the weights */
    float *operands;      /* [CHANNEL_OPERANDS][TILE_N] */
    unsigned *magnitude;  /* [ROUND]: bits of the largest packed of a job, or the largest finite */
    unsigned *failed;     /* [ROUND / 32]: bits of the round's jobs to be made anew */
    int *count;           /* of the block's jobs */
    int *round_end;       /* number of the first job of the next round */
    float *raw;           /* [OUT_CHANNELS][WEIGHTS], as they are */
    unsigned full, empty; /* addresses of [STAGES] barriers each */
    unsigned met;         /* of the barrier at which all warps meet between rounds */
};

constexpr int CONSUMER_THREADS = CONSUMERS * WARPGROUP;
constexpr int THREADS = CONSUMER_THREADS + PRODUCERS * 32;
constexpr int ROUND = 256; /* jobs; no more than threads */

/* The block's jobs, the same for all its threads: a round of them as a rule has it, then those
 * anew that halves with CARRIER_SCALE cannot hold, by a scale of their own. */
struct Work {
    int place;    /* the job's number among the block's; its complement where it is made anew */
    int meetings; /* so far, modulo 2 */

    __device__ __forceinline__ int number() const { return place ^ place >> 31; }
    __device__ __forceinline__ int job() const { return blockIdx.x + number() * gridDim.x; }
    __device__ __forceinline__ bool anew() const { return place < 0; }
    /* Whether activations may have another scale than in the job before. */
    __device__ __forceinline__ bool rescaled() const {
        return GUARDED && (anew() || (place > 0 && place % ROUND == 0));
    }
    /* To the next job; false: there is none. */
    __device__ __forceinline__ bool next(const Shared &shared) {
        const int end = *shared.round_end;
        if (place >= 0 && place + 1 < end) {
            place++;
            return true;
        }
        if (!GUARDED)
            return false;
        int n = number() + 1;
        if (!anew()) {
            n = (end - 1) / ROUND * ROUND;
            if (!judge(shared, n + thread_index(), end))
                n = end;
        }
        for (; n < end; n++)
            if (shared.failed[n % ROUND / 32] >> n % 32 & 1) {
                place = ~n;
                return true;
            }
        return open_round(shared, end);
    }
    /* All of the block meet, consumers and producers from places of their own in the program. */
    __device__ __forceinline__ void meet(const Shared &shared) {
        __syncwarp();
        if (thread_index() % 32 == 0)
            mbarrier_arrive(shared.met);
        mbarrier_wait(shared.met, meetings);
        meetings ^= 1;
    }
    /* Whether some job failed; thread i of the block judges job i of the round. */
    __device__ __forceinline__ bool judge(const Shared &shared, int n, int end) {
        meet(shared);
        bool fails = false;
        if (thread_index() < ROUND && n < end) {
            const float largest = __uint_as_float(shared.magnitude[thread_index()]);
            fails = carrier_fails(largest * CARRIER_SCALE);
        }
        const unsigned failed = __ballot_sync(~0U, fails);
        if (thread_index() < ROUND && thread_index() % 32 == 0)
            shared.failed[thread_index() / 32] = failed;
        meet(shared);
        unsigned some = 0;
#pragma unroll
        for (int i = 0; i < ROUND / 32; i++)
            some |= shared.failed[i];
        return some != 0;
    }
    __device__ __forceinline__ bool open_round(const Shared &shared, int first) {
        const int count = *shared.count;
        if (first == count)
            return false;
        place = first;
        meet(shared);
        if (thread_index() < ROUND)
            shared.magnitude[thread_index()] = 0;
        if (thread_index() == 0)
            *shared.round_end = min(count, first + ROUND);
        meet(shared);
        return true;
    }
};
