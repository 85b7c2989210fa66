/* Convolution of few input channels by wgmma, whose pixels (A) come from registers.
 *
 * Patches are never written down. Producers bring the rows under a box of pixels to shared memory
 * as words of two halves, of row r and of row r + 4, and such words, as they lie, are what a lane
 * of A holds. The kernel's rows, kh * IN_CHANNELS + c, go by eights: lane q of a quad has rows q
 * and q + 4 of one tap, kw, in one word, and the quad eight places of k. Rows that are left go tap
 * by tap: lane q has the q-th of four taps in the low half of a word, and zero above it. A thread's
 * two pixels are neighbours, so that one load of eight bytes serves a tap of both, and the tap
 * between two others costs no load.
 *
 * With SIDE_BY_SIDE, the kernel's slices stand side by side in B: a product adds a slice of the
 * input to TURN output depths at once. Block 0 has the kernel's first slice, block b > 0 slice
 * TURN - b. Every product starts from zero, and the parts of a depth are added in other registers:
 * two sets of sums take turns, so that the newest depth needs no copy.
 *
 * With PARTS 2, both operands are two halves of one scale, and lo * hi, hi * lo and hi * hi go to
 * one sum, the small ones first, since every addition there rounds toward zero.
 *
 * A job is a box of BOX_H x BOX_W pixels of one image, at box_d places along depth. A block's jobs
 * follow each other.
 *
 * With SCALES_AT_END, a running minimum or maximum is of sums as they are: scale and bias come
 * once, behind the walk.
 *
 * Constants: IN_CHANNELS, OUT_CHANNELS, KERNEL_*, PADDING_* (D, H, W), HAS_BIAS, ROUND_EVEN,
 * WEIGHTS_IN_ORDER (weights lie dense), TILE_N, TILE_REAL, TILE_WALKS, PARTS, TURN, BOX_H, BOX_W,
 * PIXELS_W (BOX_W rounded up to 16), COLUMNS (staged of a row, a multiple of 32), LEAD, VECTOR (4:
 * columns are read by fours, else one by one), SCALES_AT_END, EDGES_APART (a first and a last slice
 * are multiplied by one slice of the kernel each), STAGES, CONSUMERS (warpgroups of 64 pixels),
 * PRODUCERS (warps, 4), AHEAD, CONSUMER_REGISTERS, PRODUCER_REGISTERS. */
//@ include common.cuh
//@ include wgmma.cuh
//@ constants
struct Arguments {
//@ arguments
};
//@ instructions

/* Not kept in a register: it is wanted where jobs begin and end. */
__device__ __forceinline__ unsigned thread_index() {
    unsigned index;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
    return index;
}

constexpr int CONSUMER_WARPS = CONSUMERS * 4, CONSUMER_THREADS = CONSUMER_WARPS * 32;
constexpr int THREADS = CONSUMER_THREADS + PRODUCERS * 32;
constexpr int ROUND = 256; /* jobs; no more than threads */
/* Numbers of barriers: of consumers, when weights are packed; of all, when the block has begun. */
constexpr int PACKED = 1, BEGUN = 2;

/* A warp's 16 pixels of a job, in one row; rows l / 4 and l / 4 + 8 of A are neighbours. */
struct Pixels {
    Place job;
    int h, w; /* of the warp's first pixel in the box */
    int lane;
    unsigned inside; /* bit p: whether the thread's pixel p lies in the output */

    __device__ __forceinline__ int column(int row) const { return w + row % 8 * 2 + row / 8; }
    __device__ __forceinline__ void open(const Arguments &a) {
        inside = 0;
#pragma unroll
        for (int p = 0; p < 2; p++) {
            const int x = column(p * 8 + lane / 4);
            if (job.h + h < static_cast<int>(a.out_h) && x < BOX_W &&
                job.w + x < static_cast<int>(a.out_w))
                inside |= 1U << p;
        }
    }
    __device__ __forceinline__ bool valid(int row) const { return inside >> row / 8 & 1; }
    __device__ __forceinline__ Place place(int row) const {
        return Place{job.n, job.d, job.h + h, job.w + column(row)};
    }
};

constexpr int ROW_BLOCKS = 1;
constexpr bool PUT_ALONE = false;
//@ include row_tile.cuh

struct Tile : RowTile {
    __device__ __forceinline__ real acc(int p, int j) const {
        const real sum = d[0][j / 2 * 4 + p * 2 + j % 2];
        if (SCALES_AT_END)
            return sum;
        const float2 by = scale_bias[column(j)];
        return fmaf(sum, by.x, by.y);
    }
    /* Behind a walk whose running values are of sums as they are. */
    __device__ __forceinline__ void scale_walk() {
#pragma unroll
        for (int j = 0; SCALES_AT_END && j < CHANNELS; j++) {
            const float2 by = scale_bias[column(j)];
#pragma unroll
            for (int p = 0; p < PIXELS; p++)
                walk(0, p, j) = fmaf(walk(0, p, j), by.x, by.y);
        }
    }
    /* A thread's pixels are neighbours: both at once, where pairs begin at even columns. The
     * address of the first channel is worked out once, not anew from its parts for every channel:
     * the others are in step with it. */
    template <int V, class T>
    __device__ __forceinline__ void put(T *to, Stride s, int p, int j, real value) {
        if (V < 2 || BOX_W % 2 != 0) {
            put_alone(to, s, p, j, value);
            return;
        }
        leaving[p][0] = value;
        T *first = to + offset(place(0), s) + channel(0) * s.c;
        asm("" : "+l"(first));
        if (p == 1)
            store_pair(first + (column(j) - column(0)) * s.c, leaving[0][0], value,
                       valid(1) && has(j));
    }
    /* In one instruction, without a branch: in C there would be two, and one around each. */
    static __device__ __forceinline__ void store_pair(float *to, real first, real second,
                                                      int wanted) {
        asm volatile("{\n\t.reg .pred wanted;\n\tsetp.ne.s32 wanted, %3, 0;\n\t"
                     "@wanted st.global.v2.f32 [%0], {%1, %2};\n\t}" ::"l"(to), "f"(first),
                     "f"(second), "r"(wanted)
                     : "memory");
    }
    template <class T>
    static __device__ __forceinline__ void store_pair(T *to, real first, real second, int wanted) {
        if (wanted) {
            store(to, first);
            store(to + 1, second);
        }
    }
    bool walking; /* whether running values take in all pixels: those outside are never stored */
    __device__ __forceinline__ bool valid(int p) const { return walking || pixels.inside >> p & 1; }
};

//@ tail

/* ---- what lies in shared memory ------------------------------------------------------------ */

/* A stage holds the rows under a box of pixels at one place along depth: row r is channel
 * r % IN_CHANNELS of the input's row r / IN_CHANNELS of the box, [PARTS][STAGE_ROWS][PITCH] words.
 * Word x of row r holds column x of row r in its low half and that of row r + 4 in its high half.
 *
 * With LEAD, columns begin LEAD before the first tap of the box's first pixel. */
constexpr int ROWS = (BOX_H + KERNEL_H - 1) * IN_CHANNELS, STAGE_ROWS = (ROWS + 3) / 4 * 4;
constexpr int PITCH = COLUMNS + 8; /* 8 modulo 32: four rows of eight columns meet no bank twice */
constexpr int ZEROS = COLUMNS + 4; /* of row 0: two words that are zero */
constexpr int PART_WORDS = STAGE_ROWS * PITCH, STAGE_BYTES = PARTS * PART_WORDS * 4;
constexpr int ROW_STEPS = STAGE_ROWS / 4, COLUMN_STEPS = COLUMNS / 32; /* of a lane */
constexpr int RAW_BYTES = ROW_STEPS * COLUMN_STEPS * 512; /* of a stage as it comes */
constexpr float STAGE_SCALE = PARTS == 2 ? SPLIT_SCALE : CARRIER_SCALE;
constexpr float STAGE_MIN = PARTS == 2 ? SPLIT_MIN : CARRIER_MIN;
constexpr bool ROUND_AWAY = PARTS == 1 && !ROUND_EVEN;
/* STAGE_SCALE as it is added to an exponent.
 *
 * With ROUND_AWAY, 1 << 12 carries into the eleven bits that truncation keeps. */
constexpr int RAISE = PARTS == 2 ? 8 << 23 : (6 << 23) + (ROUND_AWAY ? 1 << 12 : 0);

constexpr int KERNEL_ROWS = KERNEL_H * IN_CHANNELS, EIGHTS = KERNEL_ROWS / 8;
/* Along k stand eights of the kernel's rows, tap by tap, then fours of single taps. */
constexpr int SINGLE_TAPS = (KERNEL_ROWS - EIGHTS * 8) * KERNEL_W, SINGLES = (SINGLE_TAPS + 3) / 4;
constexpr int OCTETS = EIGHTS * KERNEL_W + SINGLES, STEPS = (OCTETS + 1) / 2, K = STEPS * 16;
/* Words are loaded in pairs from an even column on, so that every other tap is a pair. */
constexpr int ODD = LEAD % 2;
constexpr int WINDOW = (ODD + KERNEL_W + 2) / 2 * 2; /* words under a thread's pixels */
constexpr int DIRECT = (KERNEL_W + 1 - ODD) / 2;     /* taps that are pairs: they come first */
constexpr int ENDS = WINDOW / 2 - DIRECT;            /* pairs that are no tap: the first or last */
constexpr int WEIGHT_ROWS = TURN * TILE_N;             /* of B: kernel slices by channels */
constexpr int WEIGHT_BYTES = K / 8 * WEIGHT_ROWS * 16; /* of one part */

/* Jobs first .. end - 1 of the block, at one scale. */
struct Round {
    int first, end;
    int before;   /* jobs of other blocks */
    int count;    /* of all the block's jobs */
    int staged;   /* stages before it */
    float scale;  /* of activations; 0: STAGE_SCALE, else that of one job, made anew */
    int meetings; /* before it, modulo 2 */
};
struct Shared {
    unsigned stages[STAGES][STAGE_BYTES / 4];
    unsigned char weights[PARTS * WEIGHT_BYTES], raw[PRODUCERS][(AHEAD + 1) * RAW_BYTES];
    float2 scale_bias[TILE_N]; /* what brings sums back, in the present round */
    unsigned long long full[STAGES], empty[STAGES]; /* barriers; `empty`: the even ones, of two */
    unsigned long long met;    /* the barrier at which all warps meet between rounds */
    float scale[TILE_N];       /* of the weights */
    unsigned magnitude[ROUND]; /* bits of a job's largest */
    unsigned largest;          /* bits of the largest finite magnitude of one job */
    Round round;               /* the present one: here, since registers are few */
    /* Last, since it may be none. */
    float channel_operands[(CHANNEL_OPERANDS ? CHANNEL_OPERANDS : 1) * TILE_N];
};

/* ---- jobs and rounds ----------------------------------------------------------------------- */

/* A job's image and first output pixel. */
__device__ __forceinline__ Place job_at(unsigned job, const Arguments &a) {
    const unsigned jobs_w = a.jobs_w, jobs_h = a.jobs_h, jobs_d = a.jobs_d;
    const unsigned row = ONE_BOX_W ? job : job / jobs_w;
    const unsigned plane = row / jobs_h;
    const unsigned image = ONE_BOX_D ? plane : plane / jobs_d;
    const int d = static_cast<int>(plane - image * jobs_d) * static_cast<int>(a.box_d);
    const int h = static_cast<int>(row - plane * jobs_h) * BOX_H;
    const int w = static_cast<int>(job - row * jobs_w) * BOX_W;
    return Place{static_cast<int>(image), ONE_BOX_D ? 0 : d, h, ONE_BOX_W ? 0 : w};
}
/* The job behind that one, without dividing. */
__device__ __forceinline__ void next_job(Place &at, const Arguments &a) {
    if (!ONE_BOX_W) {
        at.w += BOX_W;
        if (at.w < static_cast<int>(a.out_w))
            return;
        at.w = 0;
    }
    at.h += BOX_H;
    if (at.h < static_cast<int>(a.out_h))
        return;
    at.h = 0;
    if (!ONE_BOX_D) {
        at.d += static_cast<int>(a.box_d);
        if (at.d < static_cast<int>(a.out_d))
            return;
        at.d = 0;
    }
    at.n++;
}
__device__ __forceinline__ Round first_round(const Arguments &a) {
    const unsigned jobs = static_cast<unsigned>(a.job_count), each = jobs / gridDim.x;
    const unsigned left = jobs - each * gridDim.x;
    const int before = blockIdx.x * each + min(blockIdx.x, left);
    const int count = each + (blockIdx.x < left);
    return Round{0, min(count, ROUND), before, count, 0, 0.0f, 0};
}
/* A job's slices, and where they are odd one of nothing: consumers take slices by twos. */
__device__ __forceinline__ int job_slices(const Arguments &a) {
    return (static_cast<int>(a.box_d) + TURN) / 2 * 2;
}
/* And two of nothing behind a round's last, since consumers are one ahead and do not ask whether
 * there is another. */
__device__ __forceinline__ int round_stages(const Round &round, const Arguments &a) {
    return (round.end - round.first) * job_slices(a) + 2;
}

//@ include stage_gathered.cuh

//@ include pack_gathered.cuh

/* ---- consumers ----------------------------------------------------------------------------- */

constexpr bool SIDE_BY_SIDE = TURN > 1; /* the kernel's slices */
constexpr int BLOCK_SUMS = TILE_N / 2;  /* of a thread: one kernel slice's */

/* What products make of one slice: BLOCK_SUMS for each of the kernel's slices. */
using Sums = float[TURN * BLOCK_SUMS];

/* Keeps the compiler from moving what it does to sums past the products' fences. */
template <int N> __device__ __forceinline__ void pin(float (&sums)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++)
        asm volatile("" : "+f"(sums[i])::"memory");
}

//@ include gathered_operands.cuh

/* The same for all lanes, in a uniform register: a reduction's result lies in one, and is not
 * worked out again at every use. */
__device__ __forceinline__ unsigned uniform(unsigned value) {
    return __reduce_max_sync(~0U, value);
}
__device__ __forceinline__ Place uniform(const Place &at) {
    return Place{static_cast<int>(uniform(at.n)), static_cast<int>(uniform(at.d)),
                 static_cast<int>(uniform(at.h)), static_cast<int>(uniform(at.w))};
}

using Weights = unsigned long long[PARTS][STEPS]; /* B's descriptors, of 16 k each */

/* Starts a slice's products with all of the kernel's slices, or with those from B's block FIRST on
 * that N sums are for. ADDS: to what the sums are. */
template <int FIRST, bool ADDS = false, int N>
__device__ __forceinline__ void multiply(float (&sums)[N], Operands &operands,
                                         const Weights &weights) {
    operands.pin();
    pin(sums);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < (PARTS == 2 ? 3 : 1) * STEPS; i++) { /* hi * lo, lo * hi, hi * hi */
        const int k = i % STEPS, lower = PARTS == 2 ? i / STEPS : 2;
        wgmma(sums, operands.of[lower == 1][k],
              descriptor_at(weights[lower == 0][k], FIRST * TILE_N), ADDS || i > 0);
    }
    wgmma_commit();
}

/* Of operands: with two, the next slice's come behind this one's products. */
constexpr int SETS = PARTS == 1 ? 2 : 1;

/* Whether running values take in a depth before the next slice's products start, and not behind
 * them: where products are few, and do not wait for it. */
constexpr bool STEPS_EARLY = SCALES_AT_END && PARTS == 1;

/* Depths that are not complete and have sums in `pending`; the newest one's lie elsewhere. */
constexpr int INCOMPLETE = TURN > 2 ? TURN - 2 : 0;

struct Consumer {
    Tile tile;
    Tail tail;
    Gather gather;
    float pending[INCOMPLETE ? INCOMPLETE : 1][BLOCK_SUMS] = {}; /* the next depth's first */
    Weights weights;

    /* Brings the depth that a slice completes to the tile. sums: the slice's, in the order that
     * row_in says. */
    __device__ __forceinline__ void complete(const Sums &sums, const Sums &other) {
#pragma unroll
        for (int i = 0; i < BLOCK_SUMS; i++)
            tile.d[0][i] = SIDE_BY_SIDE ? sums[(SIDE_BY_SIDE ? BLOCK_SUMS : 0) + (i ^ 1)] +
                                              (INCOMPLETE ? pending[0][i] : other[i])
                                        : sums[i];
    }
    /* Then: the depths behind it move up. other: the sums of the slice before. */
    __device__ __forceinline__ void advance(const Sums &sums, const Sums &other) {
#pragma unroll
        for (int next = 0; next < INCOMPLETE; next++)
#pragma unroll
            for (int i = 0; i < BLOCK_SUMS; i++) {
                pending[next][i] = sums[(next + 2) * BLOCK_SUMS + (i ^ 1)] +
                                   (next + 1 == INCOMPLETE ? other[i] : pending[next + 1][i]);
                asm volatile("" : "+f"(pending[next][i]));
            }
    }
    /* Whether that depth is one of the job's. */
    __device__ __forceinline__ bool in_job(int depth, const Arguments &a, bool in_round) const {
        return inside_of(depth, a.box_d) && (WALKS || (tile.pixels.job.d < a.out_d && in_round));
    }
    __device__ __forceinline__ void step(const Arguments &a, bool counts) {
        tile.walking = SCALES_AT_END;
        if (counts)
            tail.step(tile, a);
        tile.walking = false;
        if (!SCALES_AT_END)
            tile.pixels.job.d++;
    }
    __device__ __forceinline__ void begin_job(const Arguments &a) {
        if (!SCALES_AT_END) { /* else only its end asks where it lies */
            tile.pixels.open(a);
            tile.pixels.job.d -= TURN - 1; /* the depth that a slice completes */
        }
        if (WALKS)
            tail.begin(tile);
    }
    __device__ __forceinline__ void end_job(const Arguments &a) {
        if (SCALES_AT_END)
            tile.pixels.open(a);
        tile.pixels.job.d = 0;
        tile.scale_walk();
        tail.end(tile, a);
    }
    /* Behind the products of a slice, which are in `sums`: starts those of the next in `other`, and
     * takes in the depth that the slice completes, if it `counts`. */
    template <int WHICH>
    __device__ __forceinline__ void turn(const Arguments &a, Sums &sums, Sums &other,
                                         Operands &next, bool counts) {
        if (PARTS == 1)
            gather.fetch<WHICH>(next);
        wgmma_wait<0>();
        pin(sums);
        if (PARTS == 2)
            gather.fetch<WHICH>(next);
        complete(sums, other);
        if (STEPS_EARLY)
            step(a, counts);
        advance(sums, other);
        gather.take<WHICH>(next);
        multiply<0>(other, next, weights);
        if (!STEPS_EARLY)
            step(a, counts);
    }
    /* Jobs one after the other. A job begins with the second of two slices, so that it ends behind
     * the first. What comes of the job beyond the round is nothing. */
    __device__ __forceinline__ void walk_jobs(const Arguments &a, const Round &round) {
        Sums sums[2] = {};
        Operands operands[SETS] = {};
        int number = round.first, slice = 0; /* the job's, and the second of two of its slices */
        begin_job(a);
        tile.pixels.job.d--; /* the turn before the first: of zeros, and forgotten */
#pragma unroll 1
        do {
            gather.turn_to_next();
            turn<0>(a, sums[0], sums[1], operands[0],
                    in_job(slice - TURN, a, number < round.end));
            if (slice == job_slices(a)) {
                if (WALKS)
                    end_job(a);
                else
                    tile.pixels.job.d += TURN - 1 - slice; /* the job's first */
                next_job(tile.pixels.job, a);
                begin_job(a);
                number++;
                slice = 0;
            }
            turn<1>(a, sums[1], sums[0], operands[SETS - 1],
                    in_job(slice - (TURN - 1), a, number < round.end));
            slice += 2;
        } while (number < round.end);
    }
    /* Jobs one after the other. Of a job's first slice and of its last one only what one slice of
     * the kernel makes of it is kept: no more is multiplied, in registers of a depth that waits. A
     * job ends behind the first products of the next. */
    template <int EDGE>
    __device__ __forceinline__ void walk_with_edges(const Arguments &a, const Round &round) {
        Sums sums[2] = {};
        Operands operands = {};
        float(&edge)[EDGE] = pending[0];
#pragma unroll 1
        for (int number = round.first;; number++) {
            gather.turn_to_next();
            gather.fetch<0>(operands);
            gather.take<0>(operands);
            multiply<0>(edge, operands, weights);
            if (number != round.first) {
                end_job(a);
                next_job(tile.pixels.job, a);
            }
            if (number == round.end)
                break;
            tail.begin(tile);
            wgmma_wait<0>();
            pin(edge);
#pragma unroll
            for (int i = 0; i < EDGE; i++)
                sums[0][i] = moved(edge[i]);
            int slice = 1; /* the second of two */
#pragma unroll 1
            for (; slice + 1 < job_slices(a); slice += 2) {
                turn<1>(a, sums[0], sums[1], operands, slice > 1);
                gather.turn_to_next();
                turn<0>(a, sums[1], sums[0], operands, slice > 1);
            }
            wgmma_wait<0>();
            pin(sums[0]);
            gather.fetch<1>(operands);
            complete(sums[0], sums[1]);
            float rest[EDGE]; /* what the last depth has so far */
#pragma unroll
            for (int i = 0; i < EDGE; i++) {
                rest[i] = moved(sums[0][2 * EDGE + (i ^ 1)] + sums[1][i]);
                edge[i] = 0.0f;
            }
            gather.take<1>(operands);
            multiply<1, true>(edge, operands, weights);
            step(a, true);
            wgmma_wait<0>();
            pin(edge);
#pragma unroll
            for (int i = 0; i < EDGE; i++)
                tile.d[0][i] = rest[i] + edge[i ^ 1];
            step(a, inside_of(slice + 1 - TURN, a.box_d));
        }
        mbarrier_wait(gather.full + 8, gather.parity); /* of two stages the second was not read */
        mbarrier_arrive(gather.full + 8 * STAGES);
    }
};

__device__ __forceinline__ void consume(const Arguments &a, const Shared &shared) {
    constexpr int ROW_WARPS = PIXELS_W / 16;
    const int warp = thread_index() / 32;
    Consumer consumer;
    Tile &tile = consumer.tile;
    tile.scale_bias = shared.scale_bias;
    tile.operands = shared.channel_operands;
    tile.channel_first = 0;
    tile.channel_end = OUT_CHANNELS;
    tile.lane = tile.pixels.lane = thread_index() % 32;
    tile.pixels.h = warp / ROW_WARPS;
    tile.pixels.w = warp % ROW_WARPS * 16;
    const Round round = shared.round;
    consumer.gather.open(shared, tile.pixels, round.staged + 2 * STAGES - 2);
#pragma unroll
    for (int i = 0; i < PARTS * STEPS; i++) {
        const unsigned first = shared_address(shared.weights) + i / STEPS * WEIGHT_BYTES +
                               i % STEPS * 2 * WEIGHT_ROWS * 16;
        const unsigned long long whole = matrix_descriptor(first, WEIGHT_ROWS * 16, 128);
        const unsigned long long high = uniform(static_cast<unsigned>(whole >> 32));
        consumer.weights[i / STEPS][i % STEPS] =
            high << 32 | uniform(static_cast<unsigned>(whole));
    }
    tile.pixels.job = uniform(job_at(round.before + round.first, a));
    if constexpr (EDGES_APART)
        consumer.walk_with_edges<BLOCK_SUMS>(a, round);
    else
        consumer.walk_jobs(a, round);
    wgmma_wait<0>();
}

//@ include gathered_rounds.cuh

/* ---- the kernel ---------------------------------------------------------------------------- */

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    segue_conv_wgmma_gathered(const __grid_constant__ Arguments a) {
    extern __shared__ __align__(128) unsigned char memory[];
    Shared &shared = *reinterpret_cast<Shared *>(memory);
    if (thread_index() >= CONSUMER_THREADS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(PRODUCER_REGISTERS));
        Round round = first_round(a);
        for (bool more = true; more; round = shared.round) {
            produce(a, shared, round);
            more = next_round(a, shared);
        }
    } else {
        pack_weights(a, shared);
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(CONSUMER_REGISTERS));
        do {
            consume(a, shared);
        } while (next_round(a, shared));
    }
}
