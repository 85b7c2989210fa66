/* Convolution by wgmma with all weights of a tile of channels resident in shared memory and slices
 * of the input rolling through a ring (kernels/cuda/conv_wgmma_ring.cuh). */
#include "plan/cuda/wgmma_ring.h"

#include <math.h>
#include <stdio.h>

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static const char *const parameters[] = {"columns",   "depth",     "pixels", "channels",
                                         "consumers", "row_tiles", "box_y",  "box_x",
                                         "stages",    "producers", NULL};

enum {
    WARPGROUP = 128,
    CHUNK = 128,              /* input pixels that a producer warp stages at once */
    EDGE = 16,                /* columns beyond chunks that are read one by one, at the most */
    TILE_SUMS_MAX = 128,      /* registers of sums, running values included */
    REGISTERS_MAX = 240,      /* of a thread, what setmaxnreg gives */
    WIDE_CAP = 154,           /* registers at entry that a product of 256 columns compiles with */
    UNITS_MAX = 1 << 30,      /* the kernel counts in ints */
    SUMS_ROWS_EXTRA = 40,     /* registers of a consumer beyond its sums */
    LINE_WINDOW = 32,         /* pixels of a line on their way through shared memory */
    SECTOR = 8,               /* values of memory that are read or written as one */
    LINES_EXTRA = 16,         /* and more where it turns lines of output around */
    HELD_SLOTS = 64,          /* channels whose biases stay in registers, a quarter a thread */
    NARROW_LINES_EXTRA = 40,  /* the same of narrow elements, and tables read ahead */
    COLUMN_LINES_EXTRA = 32,  /* the same with channels as rows */
    TWICE_EXTRA = 16,         /* and more where a tail goes over its sums twice */
    SUMS_COLUMNS_EXTRA = 32,  /* the same with channels as rows, and half of a tile's pixels */
    SPAN_MAX = 80,            /* k that products of two parts sum up in their own registers; */
    SPAN_TAP_MAX = 128,       /* of one tap */
    PREFETCH_REGISTERS = 136, /* of a producer that fetches an item while it stores another */
    PRODUCER_REGISTERS = 80,  /* that no way of reading does without */
    SPLIT_EXTRA = 32,         /* and more than both where elements are split into two halves */
    SPANS_EXTRA = 8,          /* and more of a consumer of pixels as rows with two sums, */
    MOVES_EXTRA = 40,         /* where sums move in the middle of a tile, and */
    GROUPS_EXTRA = 64,        /* where it stores 8 channels of 256 pixels at a time */
    NARROW_FEWER = 48         /* fewer than the first where two elements share a register */
};

/* ---- geometry ------------------------------------------------------------------------------ */

static void read_plan(const sg_cuda_plan *plan, sg_wgmma_ring *ring) {
    const int64_t *from = plan->parameter;
    *ring = (sg_wgmma_ring){.columns = from[0],
                            .depth = from[1],
                            .pixels = from[2],
                            .channels = from[3],
                            .consumers = from[4],
                            .row_tiles = from[5],
                            .box_y = from[6],
                            .box_x = from[7],
                            .stages = from[8],
                            .producers = from[9]};
}

static void write_plan(const sg_wgmma_ring *ring, sg_cuda_plan *plan) {
    *plan =
        (sg_cuda_plan){{ring->columns, ring->depth, ring->pixels, ring->channels, ring->consumers,
                        ring->row_tiles, ring->box_y, ring->box_x, ring->stages, ring->producers}};
}

/* z, y, x as axes of the convolution (0: D, 1: H, 2: W); -1: none. */
static int axis_of(const sg_wgmma_ring *ring, int axis) {
    if (axis == SG_RING_X)
        return 2;
    if (ring->depth)
        return axis == SG_RING_Z ? 0 : 1;
    return axis == SG_RING_Z ? 1 : -1;
}

static bool is_narrow(sg_dtype dtype) {
    return dtype == SG_F16 || dtype == SG_BF16;
}

static void set_axes(const sg_problem *problem, sg_wgmma_ring *ring) {
    const sg_convolution *convolution = &problem->convolution;
    ring->narrow = is_narrow(convolution->input.dtype);
    ring->taps = 1;
    for (int i = 0; i < SG_RING_AXES; i++) {
        int axis = axis_of(ring, i);
        ring->in_size[i] = axis < 0 ? 1 : convolution->in_size[axis];
        ring->out_size[i] = axis < 0 ? 1 : problem->size[SG_ROLE_D + axis];
        ring->kernel[i] = axis < 0 ? 1 : convolution->kernel[axis];
        ring->stride[i] = axis < 0 ? 1 : convolution->stride[axis];
        ring->padding[i] = axis < 0 ? 0 : convolution->padding[axis];
        ring->dilation[i] = axis < 0 ? 1 : convolution->dilation[axis];
        ring->taps *= ring->kernel[i];
    }
    ring->reach = (ring->kernel[SG_RING_Z] - 1) * ring->dilation[SG_RING_Z] + 1;
    ring->groups = convolution->groups;
    ring->in_group = convolution->in_channels / convolution->groups;
    ring->out_group = problem->size[SG_ROLE_C] / convolution->groups;
}

static bool divides(const sg_operand *input, unsigned roles, int64_t by) {
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        if (roles >> role & 1U && input->stride[role] % by != 0)
            return false;
    }
    return true;
}

/* The widest way of reading that every element's alignment allows. */
static int64_t choose_vector(const sg_problem *problem, const sg_cuda_target *target,
                             const sg_wgmma_ring *ring) {
    const sg_operand *input = &problem->convolution.input;
    const unsigned all = (1U << SG_ROLE_COUNT) - 1;
    if (target->alignment < 16)
        return 1;
    if (input->stride[SG_ROLE_C] == 1 && ring->in_group % 8 == 0 &&
        divides(input, all & ~(1U << SG_ROLE_C), ring->narrow ? 8 : 4))
        return 8;
    if (input->stride[SG_ROLE_W] != 1)
        return 1;
    for (int64_t vector = 4; vector > 1; vector /= 2) {
        if (divides(input, all & ~(1U << SG_ROLE_W), vector) &&
            ring->in_size[SG_RING_X] % vector == 0 &&
            (ring->boxes_x == 1 || ring->box_x * ring->stride[SG_RING_X] % vector == 0))
            return vector;
    }
    return 1;
}

/* A few columns beyond full chunks are read one by one. */
static bool has_edge(const sg_wgmma_ring *ring) {
    return ring->stage_rows == 1 && ring->stage_width > CHUNK && ring->stage_width % CHUNK <= EDGE;
}

int64_t sg_wgmma_ring_chunks(const sg_wgmma_ring *ring) {
    int64_t along = ring->vector == 8 ? 1 : ring->vector;
    int64_t width = sg_cuda_round_up(ring->stage_width, along);
    return has_edge(ring) ? ring->stage_width / CHUNK
                          : sg_cuda_pieces(ring->stage_rows * width, CHUNK);
}

static void measure_stage(sg_wgmma_ring *ring) {
    int64_t along = ring->vector == 8 ? 1 : ring->vector;
    int64_t sy = ring->stride[SG_RING_Y], sx = ring->stride[SG_RING_X];
    int64_t reach_y = (ring->kernel[SG_RING_Y] - 1) * ring->dilation[SG_RING_Y] + 1;
    int64_t reach_x = (ring->kernel[SG_RING_X] - 1) * ring->dilation[SG_RING_X] + 1;
    ring->stage_groups = 2 * sg_cuda_pieces(ring->in_group, 16);
    ring->stage_left = sg_cuda_round_up(ring->padding[SG_RING_X], along);
    ring->stage_rows = (ring->box_y - 1) * sy + reach_y;
    ring->stage_width =
        (ring->box_x - 1) * sx + reach_x + ring->stage_left - ring->padding[SG_RING_X];
    if (!has_edge(ring))
        ring->stage_width = sg_cuda_round_up(ring->stage_width, along);
    ring->pitch = sg_cuda_pieces(ring->stage_width, sx);
    ring->phase_pixels = sg_cuda_pieces(ring->stage_rows, sy) * ring->pitch;
    ring->plane = sx * sy * ring->phase_pixels;
    /* Lanes that store a pixel's groups of channels beside each other meet no bank twice. */
    int64_t apart = ring->narrow && ring->vector == 8 ? most(1, 8 / ring->stage_groups) : 0;
    while (apart > 0 && ring->plane % (2 * apart) != apart)
        ring->plane++;
}

/* Registers: a block's threads get the same number at entry, a cap; then producers give up some of
 * theirs for the consumers. */
static bool share_registers(const sg_cuda_target *target, sg_wgmma_ring *ring) {
    int64_t warpgroups = ring->producers + ring->consumers;
    ring->threads = warpgroups * WARPGROUP;
    if (ring->threads > 1024)
        return false;
    int64_t cap = least(target->gpu.registers / ring->threads / 8 * 8, 248);
    int64_t wide = ring->columns ? ring->pixels : ring->tile_slots;
    if (wide > 192 && cap < WIDE_CAP)
        return false;
    int64_t sums = ring->sums * (1 + ring->tail.full_walks + (ring->spans > 1));
    if (sums > TILE_SUMS_MAX)
        return false;
    int64_t want = sums;
    /* Values that two loops of a tail want are kept from one to the other. */
    if (ring->tail.channel_reductions > 1 || ring->tail.tile_stores > 1)
        want += ring->sums + TWICE_EXTRA;
    if (ring->columns)
        want += SUMS_COLUMNS_EXTRA + (ring->out_lines ? COLUMN_LINES_EXTRA : 0);
    else
        want += SUMS_ROWS_EXTRA + (ring->spans > 1 ? SPANS_EXTRA : 0) +
                (ring->narrow_lines ? NARROW_LINES_EXTRA
                 : ring->out_vector ? LINES_EXTRA
                                    : 0);
    want += ring->bias_held ? ring->tile_slots / 4 : 0;
    want += ring->spans > 2 ? MOVES_EXTRA : 0;
    bool alone = ring->tail.tile_stores > 0 && !ring->out_vector && !ring->channel_lines;
    if (!ring->columns && ring->pixels == 256 && alone)
        want += GROUPS_EXTRA;
    want = most(sg_cuda_round_up(want, 8), cap + 8);
    int64_t left = (warpgroups * cap - ring->consumers * want) / ring->producers / 8 * 8;
    left = least(left, cap - 8);
    ring->consumer_registers =
        least((warpgroups * cap - ring->producers * left) / ring->consumers / 8 * 8, REGISTERS_MAX);
    ring->producer_registers = left;
    bool shares = ring->narrow && ring->vector > 1;
    int64_t split = ring->parts == 2 ? SPLIT_EXTRA : 0;
    ring->prefetch = left >= PREFETCH_REGISTERS + split - (shares ? NARROW_FEWER : 0);
    return want <= REGISTERS_MAX && left >= PRODUCER_REGISTERS + split;
}

static void measure_shared(const sg_problem *problem, sg_wgmma_ring *ring) {
    int64_t tables = ring->tile_slots * (12 + 4 * most(1, ring->tail.channel_loads));
    int64_t crossing = ring->tail.channel_reductions > 0 ? 8 * ring->pixels : 0;
    int64_t lines = ring->out_lines > 0 ? 4 * 8 * (LINE_WINDOW + SECTOR) : 0;
    ring->consumer_floats = ring->columns         ? crossing + lines
                            : ring->channel_lines ? 0
                            : ring->narrow_lines  ? 16 * (ring->pixels / 2 + 16)
                            : ring->out_vector    ? 4 * 8 * (ring->pixels / 4 + 4)
                                                  : 0;
    /* Of a channel a sector; of a consumer, a barrier for eight channels. */
    int64_t carry = ring->tile_slots * SECTOR * 4 + ring->consumers * ring->tile_slots / 8 * 8;
    int64_t carries = problem->walk ? 0 : ring->out_lines;
    int64_t none = 32; /* what stands for arrays of which there is nothing */
    ring->shared = ring->parts * ring->stages * ring->stage_groups * ring->plane * 16 +
                   ring->parts * ring->taps * (ring->stage_groups * ring->tile_slots + 1) * 16 +
                   tables + ring->consumers * ring->consumer_floats * 4 + ring->stages * 2 * 8 +
                   (ring->stages + 1) * ring->producers * 4 * 4 + carries * carry + none;
}

bool sg_wgmma_ring_lines(const sg_operand *output) {
    return (output->domain >> SG_ROLE_C & 1U) &&
           (output->dtype == SG_F32 || is_narrow(output->dtype));
}

/* Lines are of floats or of narrow elements; with outputs of both, of floats. */
static bool has_narrow_lines(const sg_problem *problem) {
    bool narrow = false, wide = false;
    for (int i = 0; i < problem->output_count; i++) {
        if (!sg_wgmma_ring_lines(&problem->outputs[i]))
            continue;
        wide |= problem->outputs[i].dtype == SG_F32;
        narrow |= problem->outputs[i].dtype != SG_F32;
    }
    return narrow && !wide;
}

/* Narrow outputs whose channels lie side by side leave eight channels of a pixel at a time. */
static bool has_channel_lines(const sg_problem *problem, const sg_cuda_target *target,
                              const sg_wgmma_ring *ring) {
    const unsigned others = ((1U << SG_ROLE_COUNT) - 1) & ~(1U << SG_ROLE_C);
    bool whole = ring->tiles == 1 || (ring->channels % 8 == 0 && ring->out_group % 8 == 0);
    if (ring->columns || ring->box_y > 1 || target->alignment < 16 || !whole ||
        !has_narrow_lines(problem))
        return false;
    for (int i = 0; i < problem->output_count; i++) {
        const sg_operand *output = &problem->outputs[i];
        if (sg_wgmma_ring_lines(output) &&
            (output->stride[SG_ROLE_C] != 1 || !divides(output, others, 8)))
            return false;
    }
    return true;
}

/* Outputs with channels whose pixels lie side by side leave in vectors. */
static int64_t choose_out_vector(const sg_problem *problem, const sg_cuda_target *target,
                                 const sg_wgmma_ring *ring) {
    if (ring->columns || ring->box_y > 1 || ring->tail.tile_stores == 0)
        return 0;
    const unsigned others = ((1U << SG_ROLE_COUNT) - 1) & ~(1U << SG_ROLE_W);
    int64_t most_neighbours = has_narrow_lines(problem) ? least(8, ring->pixels / 16) : 4;
    int64_t vector = target->alignment >= 16 ? most_neighbours : 1;
    for (int i = 0; i < problem->output_count; i++) {
        const sg_operand *output = &problem->outputs[i];
        if (!sg_wgmma_ring_lines(output))
            continue;
        if (output->stride[SG_ROLE_W] != 1)
            return 0;
        while (vector > 1 &&
               (!divides(output, others, vector) || ring->out_size[SG_RING_X] % vector != 0 ||
                (ring->boxes_x > 1 && ring->box_x % vector != 0)))
            vector /= 2;
    }
    return ring->pixels > 128 && vector == 1 ? 0 : vector;
}

/* With channels as rows, outputs leave by lines or not at all. */
static void measure_lines(const sg_problem *problem, const sg_cuda_target *target,
                          sg_wgmma_ring *ring) {
    ring->out_lines = ring->out_pairs = 0;
    if (!ring->columns || ring->box_y > 1 || ring->channels % 8 != 0 || ring->out_group % 8 != 0)
        return;
    const unsigned others = ((1U << SG_ROLE_COUNT) - 1) & ~(1U << SG_ROLE_W);
    bool pairs = target->alignment >= 8 && ring->out_size[SG_RING_X] % 2 == 0 &&
                 (ring->boxes_x == 1 || ring->box_x % 2 == 0);
    for (int i = 0; i < problem->output_count; i++) {
        const sg_operand *output = &problem->outputs[i];
        if (!(output->domain >> SG_ROLE_C & 1U))
            continue;
        if (output->dtype != SG_F32 || output->stride[SG_ROLE_W] != 1)
            return;
        pairs = pairs && divides(output, others, 2);
    }
    ring->out_lines = ring->tail.tile_stores;
    ring->out_pairs = pairs;
}

/* Slices under the tiles that consumers may hold at once. */
static int64_t least_stages(const sg_wgmma_ring *ring) {
    int64_t rows = (ring->consumers + ring->row_tiles - 2) / ring->row_tiles;
    return ring->reach + rows * ring->stride[SG_RING_Z];
}

/* Tensor cores round every addition toward zero, so that long sums err more than a library's. */
static void measure_parts(const sg_cuda_target *target, sg_wgmma_ring *ring) {
    ring->parts = !ring->narrow && target->precision == SG_PRECISION_FP32 ? 2 : 1;
    int64_t span = ring->parts == 2 ? most(1, SPAN_MAX / (8 * ring->stage_groups)) : ring->taps;
    ring->span_taps = sg_cuda_pieces(ring->taps, sg_cuda_pieces(ring->taps, span));
    ring->spans = sg_cuda_pieces(ring->taps, ring->span_taps);
}

/* Units of work and blocks. */
static void measure_grid(const sg_problem *problem, const sg_cuda_target *target,
                         sg_wgmma_ring *ring) {
    int64_t z = problem->walk ? 1 : ring->out_size[SG_RING_Z];
    ring->units = problem->size[SG_ROLE_N] * ring->boxes_y * ring->boxes_x * z;
    int64_t parts = most(1, target->gpu.multiprocessors / ring->tiles);
    ring->grid = ring->units == 0 ? 0 : ring->tiles * least(parts, ring->units);
}

bool sg_wgmma_ring_measure(const sg_problem *problem, const sg_cuda_target *target,
                           const sg_cuda_plan *plan, sg_wgmma_ring *ring) {
    read_plan(plan, ring);
    if (ring->pixels < 64 || ring->pixels > 256 || ring->pixels % 64 != 0 || ring->channels < 1 ||
        ring->consumers < 1 || ring->producers < 1 || ring->stages < 1 || ring->box_x < 1 ||
        ring->box_y < 1 || ring->row_tiles < 1 || (!ring->depth && ring->box_y > 1))
        return false;
    set_axes(problem, ring);
    sg_cuda_get_tail_facts(problem, &ring->tail);
    if (ring->channels > ring->out_group)
        return false;
    ring->group_tiles = sg_cuda_pieces(ring->out_group, ring->channels);
    ring->tiles = ring->groups * ring->group_tiles;
    ring->boxes_y = sg_cuda_pieces(ring->out_size[SG_RING_Y], ring->box_y);
    ring->boxes_x = sg_cuda_pieces(ring->out_size[SG_RING_X], ring->box_x);
    ring->vector = choose_vector(problem, target, ring);
    measure_stage(ring);
    ring->tile_slots = sg_cuda_round_up(ring->channels, ring->columns ? 64 : 8);
    ring->steps = ring->taps * ring->stage_groups / 2;
    ring->sums = ring->tile_slots * ring->pixels / 128;
    ring->channel_lines = has_channel_lines(problem, target, ring);
    ring->out_vector = ring->channel_lines ? 0 : choose_out_vector(problem, target, ring);
    ring->narrow_lines = ring->channel_lines || (ring->out_vector > 0 && has_narrow_lines(problem));
    ring->bias_held = ring->narrow && !ring->columns && ring->tail.tile_stores == 0 &&
                      ring->tile_slots <= HELD_SLOTS;
    measure_parts(target, ring);
    measure_lines(problem, target, ring);
    measure_shared(problem, ring);
    measure_grid(problem, target, ring);
    int64_t covered = ring->pixels * ring->row_tiles;
    bool whole = ring->tiles == 1 || ring->tail.splits_channels;
    bool walks = problem->walk != 0;
    bool fits = (ring->box_y - 1) * ring->pitch + ring->box_x <= covered &&
                ring->stages >= least_stages(ring) && ring->shared <= target->gpu.shared_block &&
                ring->units <= UNITS_MAX && (!walks || ring->row_tiles == ring->consumers);
    bool sums = ring->parts == 1 || 8 * ring->stage_groups <= SPAN_TAP_MAX;
    /* With channels as rows a thread has half of a warp's pixels: too many for a tail that keeps
     * more than one value of each. */
    bool stores =
        ring->tail.tile_stores == 0 || (ring->out_lines > 0 && ring->tail.channel_reductions == 0);
    bool simple = ring->tail.channel_reductions <= 1 && stores && ring->tail.full_walks == 0;
    bool shape = ring->columns ? simple && ring->pixels % 128 == 0 : ring->tile_slots <= 256;
    bool blocks = ring->columns || ring->pixels != 192;
    return whole && fits && sums && shape && blocks && share_registers(target, ring);
}

/* ---- applicability ------------------------------------------------------------------------- */

static bool refuse(char *reason, const char *sentence) {
    snprintf(reason, SG_REASON_MAX, "%s", sentence);
    return false;
}

static int list_plans(const sg_problem *problem, const sg_cuda_target *target, sg_cuda_plan *plans,
                      int limit);

static bool walks_only(const sg_problem *problem, int axis) {
    return (problem->walk & ~(1U << (SG_ROLE_D + axis))) == 0;
}

static bool applicable(const sg_problem *problem, const sg_cuda_target *target, char *reason) {
    const sg_convolution *convolution = &problem->convolution;
    if (!target->gpu.wgmma)
        return refuse(reason, "the GPU has no warpgroup products");
    if (!problem->has_convolution)
        return refuse(reason, "the region has no convolution");
    sg_dtype dtype = convolution->input.dtype;
    if (problem->compute != SG_F32 || convolution->weight.dtype != dtype ||
        (dtype != SG_F32 && !is_narrow(dtype)))
        return refuse(reason, "the operands of the convolution are not both float32, float16 or "
                              "bfloat16");
    if (!walks_only(problem, 0) && !walks_only(problem, 1))
        return refuse(reason, "a ring rolls along one axis, and the region walks along another");
    sg_cuda_plan plan;
    if (list_plans(problem, target, &plan, 1) == 0)
        return refuse(reason, "the weights of a tile of channels and a ring of input rows do not "
                              "fit shared memory, or the tail's values the registers");
    return true;
}

static bool usable(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    sg_wgmma_ring ring;
    return sg_wgmma_ring_measure(problem, target, plan, &ring);
}

/* ---- candidates ---------------------------------------------------------------------------- */

/* The fewest boxes along x, all alike, and then as many rows as a tile holds. */
static void choose_box(const sg_problem *problem, const sg_cuda_target *target,
                       sg_wgmma_ring *ring) {
    int64_t covered = ring->pixels * ring->row_tiles;
    int64_t width = most(1, ring->out_size[SG_RING_X]), height = most(1, ring->out_size[SG_RING_Y]);
    int64_t boxes = sg_cuda_pieces(width, covered);
    ring->box_x =
        boxes == 1 ? width : least(covered, sg_cuda_round_up(sg_cuda_pieces(width, boxes), 4));
    ring->box_y = 1;
    if (!ring->depth || boxes > 1 || height == 1)
        return;
    sg_wgmma_ring two = *ring;
    two.box_y = 2;
    two.boxes_x = 1;
    two.vector = choose_vector(problem, target, &two);
    measure_stage(&two);
    int64_t rows = 1 + (covered - ring->box_x) / two.pitch;
    ring->box_y = sg_cuda_pieces(height, sg_cuda_pieces(height, rows));
}

/* As many stages as fit, and no more than hide memory's latency well. */
static bool choose_stages(const sg_problem *problem, const sg_cuda_target *target,
                          sg_wgmma_ring *ring) {
    bool split = !ring->narrow && target->precision == SG_PRECISION_FP32; /* products take longer */
    int64_t needed = least_stages(ring);
    for (ring->stages = most(needed, split ? 7 : 16); ring->stages >= needed; ring->stages--) {
        sg_cuda_plan plan;
        sg_wgmma_ring measured;
        write_plan(ring, &plan);
        if (sg_wgmma_ring_measure(problem, target, &plan, &measured))
            return true;
    }
    return false;
}

/* Everything but the first choices follows. */
static bool complete(const sg_problem *problem, const sg_cuda_target *target, sg_wgmma_ring *ring,
                     sg_cuda_plan *plan) {
    set_axes(problem, ring);
    ring->group_tiles = sg_cuda_pieces(ring->out_group, ring->channels);
    ring->tiles = ring->groups * ring->group_tiles;
    ring->stages = 1;
    choose_box(problem, target, ring);
    if (!choose_stages(problem, target, ring))
        return false;
    write_plan(ring, plan);
    return true;
}

/* Whether z may be depth (then height lies in the slice), or height. */
static bool rolls(const sg_problem *problem, bool depth) {
    const sg_convolution *convolution = &problem->convolution;
    if (depth)
        return walks_only(problem, 0);
    return walks_only(problem, 1) && problem->size[SG_ROLE_D] == 1 && convolution->kernel[0] == 1 &&
           convolution->in_size[0] == 1 && convolution->padding[0] == 0;
}

static int list_shapes(const sg_problem *problem, const sg_cuda_target *target,
                       const sg_wgmma_ring *base, sg_cuda_plan *plans, int limit) {
    /* pixels, consumers, producers, tiles of a row; the last where sums may be kept twice */
    static const int64_t shapes[][4] = {
        {128, 2, 2, 1}, {128, 2, 1, 1}, {256, 2, 2, 1}, {256, 2, 1, 1}, {64, 2, 2, 1},
        {64, 3, 1, 2},  {128, 3, 1, 2}, {64, 3, 2, 1},  {64, 1, 1, 1},  {128, 2, 2, 2},
        {128, 2, 1, 2}, {64, 2, 2, 2},  {64, 2, 1, 2},
    };
    const sg_dtype dtype = problem->convolution.input.dtype;
    const bool twice = !is_narrow(dtype) && target->precision == SG_PRECISION_FP32;
    const size_t shape_count = sizeof shapes / sizeof *shapes - (twice ? 0 : 4);
    int count = 0;
    for (size_t i = 0; i < shape_count && count < limit; i++) {
        sg_wgmma_ring ring = *base;
        ring.pixels = shapes[i][0];
        ring.consumers = shapes[i][1];
        ring.producers = shapes[i][2];
        ring.row_tiles = problem->walk ? ring.consumers : shapes[i][3];
        count += complete(problem, target, &ring, &plans[count]);
    }
    return count;
}

static int list_plans(const sg_problem *problem, const sg_cuda_target *target, sg_cuda_plan *plans,
                      int limit) {
    sg_cuda_tail_facts tail;
    sg_cuda_get_tail_facts(problem, &tail);
    int64_t group = problem->size[SG_ROLE_C] / problem->convolution.groups;
    if (problem->convolution.groups > 1 && !tail.splits_channels)
        return 0;
    int count = 0;
    for (int64_t tiles = 1; tiles <= 8 && count < limit; tiles *= 2) {
        int64_t channels = tiles == 1 ? group : sg_cuda_round_up(sg_cuda_pieces(group, tiles), 8);
        if (tiles > 1 && (!tail.splits_channels || group <= 32 * tiles))
            break;
        for (int form = 0; form < 4 && count < limit; form++) {
            sg_wgmma_ring base = {.columns = form & 1, .depth = form >> 1, .channels = channels};
            if (rolls(problem, base.depth))
                count += list_shapes(problem, target, &base, plans + count, limit - count);
        }
    }
    return count;
}

static int candidates(const sg_problem *problem, const sg_cuda_target *target,
                      sg_cuda_plan *plans) {
    return list_plans(problem, target, plans, SG_CUDA_CANDIDATES_MAX);
}

const sg_cuda_strategy sg_cuda_wgmma_ring = {"wgmma_ring", parameters, applicable,
                                             candidates,   usable,     sg_wgmma_ring_cost};
