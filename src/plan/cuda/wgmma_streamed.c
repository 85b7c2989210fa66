/* Convolution by warpgroup products with nothing resident: boxes of the input and blocks of the
 * weights stream through shared memory. Any filter, stride, dilation and channel count; images may
 * be small, since a tile takes pixels of several. What it asks for is enough products per pixel. */
#include <math.h>
#include <stdio.h>

#include "plan/cpu_plan.h"
#include "plan/cuda/facts.h"
#include "plan/cuda/streamed.h"

static const char *const parameters[] = {"rows", "channels", "chunk",  "strip", "outer",
                                         "box",  "boxes",    "blocks", NULL};

enum { CHANNELS_MAX = 256, CHUNK_MAX = 128 };
/* Sums of a thread, and where they are kept twice or the tail goes over the channels several times.
 */
enum { SUMS_MAX = 128, SUMS_MAX_HALF = 64 };
/* Bytes of shared memory beside the rings, at the most: barriers, scales, channel operands. */
enum { OTHER_SHARED = 2048 };
/* Elements that offsets within an image, and positions of the row, are counted in. */
static const double OFFSETS_MAX = 2147483647.0;

/* Fitted to one H200, over images of 7 to 224 and 64 to 512 channels, 1 and 3 taps, strides 1, 2.
 */
static const double START = 6.7e-6;       /* seconds of the least run */
static const double WEIGHTS_LEAST = 1e-6; /* packing, which the start hides most of, */
static const double WEIGHTS_RATE = 2e12;  /* and bytes of weights a second, read and written */
static const double L2_RATE = 6.9e12;     /* bytes a second out of the second-level cache */
/* Bytes of input a second that stagers bring in: floats one by one, with few registers and with
 * more; narrow elements one by one; and in vectors. */
static const double STAGE_RATE_WIDE = 2.9e12, STAGE_RATE = 3.3e12, STAGE_RATE_NARROW = 2.6e12;
static const double STAGE_RATE_VECTOR = 4.2e12;
static const double STAGE_SPLIT = 0.8;   /* of these rates, where a float becomes two halves */
static const double STRIDED = 1.15;      /* of what is used, comes in where columns are skipped */
static const double PRODUCT_RATE = 0.97; /* of the tensor cores, with everything at hand */
static const double SPLIT_CLOCK = 0.6; /* of that time, three products a tap: the clock is higher */
static const double SPLIT_SHOWS = 0.4; /* of staging there, beside products that it does not stop */
static const double STEP_CLOCKS = 30;  /* between the blocks of one tap and the next */
static const double FEW_BLOCKS = 1.1;  /* of the time for a step, with three products, */
static const double MOVE_CLOCKS = 200; /* of sums to registers of their own */
static const double JOB_SECONDS = 0.5e-6; /* from one tile to the next */
/* Clocks of a tail, per value: any, one that is stored, also in rows that begin within sectors of
 * memory, away from what other lanes store, loaded, reduced over channels. */
static const double VALUE = 0.01, STORED = 0.15, STORED_PARTS = 0.2, STORED_ALONE = 2;
static const double LOADED = 0.3, REDUCED = 0.045;
/* The same of narrow elements: stored in runs of channels, reduced once. */
static const double STORED_RUNS = 0.45, REDUCED_NARROW = 0.02;
static const double COPY_RATE = 0.85; /* of a large copy */

static int64_t group_inputs(const sg_problem *problem) {
    return problem->convolution.in_channels / problem->convolution.groups;
}
static int64_t group_outputs(const sg_problem *problem) {
    return problem->size[SG_ROLE_C] / problem->convolution.groups;
}
static int64_t sums_max(const sg_problem *problem, bool promotes) {
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    return promotes || facts.channel_reductions > 1 ? SUMS_MAX_HALF : SUMS_MAX;
}

/* ---- what it takes ------------------------------------------------------------------------- */

static bool dtypes_fit(const sg_problem *problem, char *reason) {
    const sg_convolution *convolution = &problem->convolution;
    sg_dtype dtype = convolution->input.dtype;
    if (problem->compute != SG_F32 || convolution->weight.dtype != dtype ||
        (dtype != SG_F32 && dtype != SG_F16 && dtype != SG_BF16)) {
        snprintf(reason, SG_REASON_MAX, "streamed products take float32, float16 and bfloat16");
        return false;
    }
    return true;
}

/* Offsets within an image, and positions, must fit 32 bits. */
static bool sizes_fit(const sg_problem *problem, char *reason) {
    const sg_convolution *convolution = &problem->convolution;
    double last = 0, positions = (double)problem->size[SG_ROLE_N];
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        double reach = (double)(convolution->kernel[axis] * convolution->dilation[axis]);
        last += (double)convolution->in_size[axis] *
                fabs((double)convolution->input.stride[SG_ROLE_D + axis]);
        positions *= (double)problem->size[SG_ROLE_D + axis] + reach;
    }
    if (last >= OFFSETS_MAX || 2 * positions >= OFFSETS_MAX) {
        snprintf(reason, SG_REASON_MAX, "an image is too large for 32-bit offsets");
        return false;
    }
    return true;
}

static bool applicable(const sg_problem *problem, const sg_cuda_target *target, char *reason) {
    if (!target->gpu.wgmma) {
        snprintf(reason, SG_REASON_MAX, "%s has no warpgroup products", target->gpu.name);
        return false;
    }
    if (!problem->has_convolution) {
        snprintf(reason, SG_REASON_MAX, "the region has no convolution");
        return false;
    }
    if (!dtypes_fit(problem, reason) || !sizes_fit(problem, reason))
        return false;
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    if (problem->walk) {
        snprintf(reason, SG_REASON_MAX,
                 "streamed tiles hold pixels in any order, so no axis can be walked");
        return false;
    }
    bool mixes = !facts.splits_channels;
    int64_t most = 2 * sums_max(problem, sg_streamed_products(problem, target) == 3);
    if (mixes && (problem->convolution.groups > 1 || group_outputs(problem) > most)) {
        snprintf(reason, SG_REASON_MAX,
                 "the tail mixes %lld channels, and a tile holds at most %lld of one group",
                 (long long)problem->size[SG_ROLE_C], (long long)most);
        return false;
    }
    sg_cuda_plan plans[SG_CUDA_CANDIDATES_MAX];
    if (sg_cuda_wgmma_streamed.candidates(problem, target, plans) == 0) {
        snprintf(reason, SG_REASON_MAX,
                 "the filter reaches too far: a box of the input does not fit shared memory");
        return false;
    }
    return true;
}

/* ---- plans --------------------------------------------------------------------------------- */

/* Bytes for both rings. The rest: struct Shared of the skeleton. */
static int64_t shared_limit(const sg_problem *problem, const sg_cuda_target *target,
                            const sg_cuda_plan *plan) {
    static const int64_t fetches[] = {0, 6, 4, 0, 2};
    int64_t rows = plan->parameter[SG_STREAMED_ROWS];
    int64_t tile_n = sg_round_up(plan->parameter[SG_STREAMED_CHANNELS], 8);
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    int64_t channels = 2 * tile_n * (8 + 4 * (facts.channel_loads > 0 ? facts.channel_loads : 1));
    int64_t fetched = facts.tile_loads == 1 ? 8 * fetches[rows] * 8 * (16 * rows + 4) * 4 : 0;
    return target->gpu.shared_block - OTHER_SHARED - channels - fetched;
}

static bool usable(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    const int64_t *p = plan->parameter;
    int64_t rows = p[SG_STREAMED_ROWS], channels = p[SG_STREAMED_CHANNELS];
    int64_t chunk = p[SG_STREAMED_CHUNK], tile_n = sg_round_up(channels, 8);
    sg_streamed_layout layout;
    if ((rows != 1 && rows != 2 && rows != 4) || channels < 1 || channels > CHANNELS_MAX ||
        chunk < 16 || chunk > CHUNK_MAX || chunk % 16 != 0)
        return false;
    /* Wider tiles than one instruction takes with the registers of the start are two halves. */
    if (tile_n > 192 && tile_n % 16 != 0)
        return false;
    if (p[SG_STREAMED_STRIP] < 1 || p[SG_STREAMED_OUTER] < 0 || p[SG_STREAMED_OUTER] > 7 ||
        p[SG_STREAMED_BOXES] < 2 || p[SG_STREAMED_BOXES] > 16 || p[SG_STREAMED_BLOCKS] < 2 ||
        p[SG_STREAMED_BLOCKS] > 32 || p[SG_STREAMED_BOX] > 4096)
        return false;
    if (!sg_streamed_measure(problem, plan, &layout) ||
        layout.tile_positions + layout.reach > p[SG_STREAMED_BOX])
        return false;
    bool promotes = sg_streamed_promote(problem, target, plan, &layout) > 0;
    if (sg_streamed_sums(plan) > sums_max(problem, promotes))
        return false;
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    if (layout.channel_tiles > 1 && !facts.splits_channels)
        return false;
    /* Pixels' addresses are registers, too. */
    if (rows == 4 && facts.tile_loads > 0)
        return false;
    return (double)layout.position_tiles * (double)layout.channel_tiles < OFFSETS_MAX / 2 &&
           sg_streamed_shared(problem, target, plan) <= shared_limit(problem, target, plan);
}

/* Enough for both rings to run ahead, and no more: what is left of shared memory caches what
 * neighbouring boxes both read. */
static void fit_stages(const sg_problem *problem, const sg_cuda_target *target,
                       sg_cuda_plan *plan) {
    enum { BLOCKS_BYTES = 56 << 10, SPLIT_BYTES = 96 << 10, ALL_BYTES = 136 << 10 };
    int64_t *p = plan->parameter;
    int64_t limit = shared_limit(problem, target, plan);
    bool split = sg_streamed_products(problem, target) == 3;
    int64_t blocks = (split ? SPLIT_BYTES : BLOCKS_BYTES) / sg_streamed_block_bytes(plan);
    p[SG_STREAMED_BOXES] = 2;
    p[SG_STREAMED_BLOCKS] = blocks < 3 ? 3 : blocks > 8 ? 8 : blocks;
    while (p[SG_STREAMED_BLOCKS] > 2 && sg_streamed_shared(problem, target, plan) > limit)
        p[SG_STREAMED_BLOCKS]--;
    int64_t most = limit < ALL_BYTES ? limit : ALL_BYTES;
    while (p[SG_STREAMED_BOXES] < 4 && sg_streamed_shared(problem, target, plan) +
                                               sg_streamed_box_bytes(problem, target, plan) <=
                                           most)
        p[SG_STREAMED_BOXES]++;
}

/* The cheapest plans so far, cheapest first. */
typedef struct shortlist {
    const sg_problem *problem;
    const sg_cuda_target *target;
    sg_cuda_plan *plans;
    double cost[SG_CUDA_CANDIDATES_MAX];
    int count;
} shortlist;

enum { SHORTLIST = 24, STRIP_MIN = 40 };

static void consider(shortlist *list, sg_cuda_plan *plan) {
    sg_streamed_layout layout;
    plan->parameter[SG_STREAMED_BOX] = 1 << 12;
    if (!sg_streamed_measure(list->problem, plan, &layout))
        return;
    sg_streamed_reading reading;
    sg_streamed_read(list->problem, list->target, plan, &layout, &reading);
    /* Where neighbouring lanes store neighbouring cells, these must not meet in the banks. */
    plan->parameter[SG_STREAMED_BOX] = sg_round_up(layout.tile_positions + layout.reach, 32) +
                                       (reading.vector == 8 ? 8 / reading.cells % 8 : 0);
    fit_stages(list->problem, list->target, plan);
    if (!usable(list->problem, list->target, plan))
        return;
    double cost = sg_cuda_wgmma_streamed.cost(list->problem, list->target, plan);
    int at = list->count;
    while (at > 0 && list->cost[at - 1] > cost)
        at--;
    if (at == SHORTLIST)
        return;
    list->count += list->count < SHORTLIST;
    for (int i = list->count - 1; i > at; i--) {
        list->plans[i] = list->plans[i - 1];
        list->cost[i] = list->cost[i - 1];
    }
    list->plans[at] = *plan;
    list->cost[at] = cost;
}

/* Strips of the image, outermost choice of the axes that are staged tap by tap. */
static void consider_shapes(shortlist *list, sg_cuda_plan *plan) {
    static const int outers[] = {0, 1, 3, 7};
    const sg_convolution *convolution = &list->problem->convolution;
    int64_t width = list->problem->size[SG_ROLE_W] > 0 ? list->problem->size[SG_ROLE_W] : 1;
    bool one_row = convolution->kernel[0] == 1 && convolution->kernel[1] == 1;
    for (int64_t strips = 1; strips <= 8; strips++) {
        int64_t strip = sg_cuda_pieces(width, strips);
        if (strips > 1 && (one_row || strip < STRIP_MIN))
            break;
        for (int i = 0; i < 4; i++) {
            int outer = outers[i];
            /* An axis of one tap is neither. */
            if ((outer & 1 && convolution->kernel[0] == 1 && outer == 1) ||
                (outer == 3 && convolution->kernel[1] == 1) ||
                (outer == 7 && convolution->kernel[2] == 1))
                continue;
            plan->parameter[SG_STREAMED_STRIP] = strip;
            plan->parameter[SG_STREAMED_OUTER] = outer;
            consider(list, plan);
        }
    }
}

static int candidates(const sg_problem *problem, const sg_cuda_target *target,
                      sg_cuda_plan *plans) {
    static const int64_t chunks[] = {64, 32, 48, 16};
    shortlist list = {.problem = problem, .target = target, .plans = plans};
    int64_t inputs = sg_round_up(group_inputs(problem), 16), outputs = group_outputs(problem);
    int64_t last_channels = 0;
    for (int64_t tiles = 1; tiles <= outputs; tiles += tiles < 4 ? 1 : tiles / 2) {
        int64_t channels = sg_cuda_pieces(outputs, tiles);
        if (channels > CHANNELS_MAX)
            continue;
        if (channels == last_channels || (channels < 64 && last_channels))
            break;
        last_channels = channels;
        for (int64_t rows = 1; rows <= 4; rows *= 2) {
            for (int i = 0; i < 4; i++) {
                /* A chunk that pads more than another would is none. */
                if (chunks[i] > inputs || (chunks[i] == 16 && inputs % 32 == 0 && inputs > 32) ||
                    sg_round_up(inputs, chunks[i]) > sg_round_up(inputs, 32))
                    continue;
                sg_cuda_plan plan = {{0}};
                plan.parameter[SG_STREAMED_ROWS] = rows;
                plan.parameter[SG_STREAMED_CHANNELS] = channels;
                plan.parameter[SG_STREAMED_CHUNK] = chunks[i];
                consider_shapes(&list, &plan);
            }
        }
    }
    return list.count;
}

/* ---- what they cost ------------------------------------------------------------------------ */

/* Clocks of a tile's products: of the tensor cores, or of shared memory, 128 bytes each, which
 * feeds them both operands, 16 deep, 64 positions by n channels, and takes boxes and blocks in. */
static double product_clocks(const sg_cuda_plan *plan, const sg_streamed_layout *layout,
                             int64_t products, int64_t tap_blocks) {
    double rows = (double)plan->parameter[SG_STREAMED_ROWS];
    double pieces = layout->tile_n > 192 ? 2 : 1, n = (double)layout->tile_n / pieces;
    double count = 2 * rows * pieces;
    double parts = (double)layout->part_count / (double)layout->tap_count;
    double stored = (double)layout->tile_n + parts * (double)plan->parameter[SG_STREAMED_BOX];
    stored *= (double)tap_blocks / (double)products;
    double shared = (count * (64 + n) + stored) * 32 / 128;
    double step = fmax(count * n / 2, shared) / PRODUCT_RATE * (products == 3 ? SPLIT_CLOCK : 1);
    double taps = (double)(layout->chunks * layout->tap_count);
    double moves = products == 3 ? taps : 0;
    /* One warpgroup has a tap's blocks while the other multiplies by the next one's. */
    if (products == 3 && plan->parameter[SG_STREAMED_BLOCKS] < 6)
        step *= FEW_BLOCKS;
    double chunk = (double)plan->parameter[SG_STREAMED_CHUNK] / 16;
    return taps * ((double)products * step * chunk + (double)tap_blocks * STEP_CLOCKS) +
           moves * MOVE_CLOCKS;
}

static double tail_clocks(const sg_problem *problem, const sg_cuda_target *target,
                          const sg_cuda_plan *plan, const sg_streamed_layout *layout) {
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    bool narrow = !sg_streamed_carries(problem);
    bool alone = false; /* a lane stores an element away from those of the others */
    for (int i = 0; i < problem->output_count; i++)
        alone |= problem->outputs[i].stride[SG_ROLE_C] == 1 && problem->size[SG_ROLE_C] > 1;
    bool runs = sg_streamed_stores_runs(problem, target, plan);
    double stored = alone && !runs                    ? STORED_ALONE
                    : runs && narrow                  ? STORED_RUNS
                    : sg_cuda_splits_sectors(problem) ? STORED_PARTS
                                                      : STORED;
    double each = VALUE + stored * facts.tile_stores + LOADED * facts.tile_loads +
                  (narrow && facts.channel_reductions == 1 ? REDUCED_NARROW : REDUCED) *
                      facts.channel_reductions;
    return each * (double)(layout->tile_positions * layout->tile_n);
}

/* Elements a second that all stagers bring in. */
static double stage_rate(const sg_problem *problem, const sg_cuda_target *target,
                         const sg_cuda_plan *plan, const sg_streamed_layout *layout) {
    sg_streamed_reading reading;
    sg_streamed_read(problem, target, plan, layout, &reading);
    if (reading.vector > 1)
        return STAGE_RATE_VECTOR / (double)sg_dtype_size(problem->convolution.input.dtype);
    if (!sg_streamed_carries(problem))
        return STAGE_RATE_NARROW / 2;
    return (sg_streamed_wide(problem, target, plan, layout) ? STAGE_RATE_WIDE : STAGE_RATE) / 4;
}

static double cost(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    sg_streamed_layout layout;
    if (!sg_streamed_measure(problem, plan, &layout))
        return INFINITY;
    const sg_gpu *gpu = &target->gpu;
    double processors = gpu->multiprocessors;
    double clock = gpu->half / (4096 * processors); /* at which the tensor cores reach their rate */

    int64_t count = sg_streamed_products(problem, target);
    int64_t tap_blocks = sg_streamed_tap_blocks(problem, target);
    double depth = (double)(layout.chunks * plan->parameter[SG_STREAMED_CHUNK]);
    double size = (double)sg_dtype_size(problem->convolution.input.dtype);
    double boxes = depth * (double)(layout.part_count * plan->parameter[SG_STREAMED_BOX]);
    boxes *= problem->convolution.stride[2] > 1 ? STRIDED : 1;
    double blocks = depth * (double)(layout.tap_count * layout.tile_n * tap_blocks) * 2;
    double fetched = (boxes * size + blocks) / L2_RATE * processors;
    double staged = boxes / stage_rate(problem, target, plan, &layout) * processors /
                    (tap_blocks == 2 && problem->convolution.stride[2] == 1 ? STAGE_SPLIT : 1);
    double products = product_clocks(plan, &layout, count, tap_blocks) / clock;

    double jobs = (double)(layout.position_tiles * layout.channel_tiles);
    double brought = fmax(fetched, staged);
    double job = fmax(products, brought) +
                 (count == 3 ? SPLIT_SHOWS * fmin(products, brought) : 0) +
                 tail_clocks(problem, target, plan, &layout) / clock;
    double waves = ceil(jobs / processors);
    /* Rows of a strip start and end in the middle of what memory reads at once. */
    double waste = layout.strips > 1 ? 24.0 / (double)plan->parameter[SG_STREAMED_STRIP] : 0;
    double memory = sg_cuda_moved_bytes(problem) * (1 + waste) / (gpu->copy * COPY_RATE);
    double weights = depth * (double)(layout.tap_count * layout.channel_tiles * layout.tile_n) *
                     (size + 2 * (double)tap_blocks);
    return START + WEIGHTS_LEAST + weights / WEIGHTS_RATE +
           fmax(waves * (job + JOB_SECONDS), memory);
}

const sg_cuda_strategy sg_cuda_wgmma_streamed = {.name = "wgmma_streamed",
                                                 .parameters = parameters,
                                                 .applicable = applicable,
                                                 .candidates = candidates,
                                                 .usable = usable,
                                                 .cost = cost};
