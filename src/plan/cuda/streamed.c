#include "plan/cuda/streamed.h"

#include "plan/cpu_plan.h"
#include "plan/cuda/facts.h"

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* The part that has a tap's copy of the input, by the shift it starts from; a new one if need be.
 */
static sg_streamed_part *part_of(sg_streamed_layout *layout, const int *shift) {
    for (int i = 0; i < layout->part_count; i++) {
        sg_streamed_part *part = &layout->parts[i];
        if (part->shift[0] == shift[0] && part->shift[1] == shift[1] && part->shift[2] == shift[2])
            return part;
    }
    sg_streamed_part *part = &layout->parts[layout->part_count++];
    *part = (sg_streamed_part){.shift = {shift[0], shift[1], shift[2]}};
    return part;
}

/* A tap's distance from the output's own place, as whole strides ahead and a rest, which is all
 * where the axis is an outer one. */
static void split_tap(const sg_convolution *convolution, unsigned outer, sg_streamed_tap *tap,
                      int *rest) {
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        int64_t distance = tap->kernel[axis] * convolution->dilation[axis];
        int64_t ahead = outer >> axis & 1U ? 0 : distance / convolution->stride[axis];
        tap->ahead[axis] = (int)ahead;
        rest[axis] = (int)(distance - ahead * convolution->stride[axis]);
    }
}

/* Taps in the order of their parts; two passes over the filter, to count and to place them. */
static void list_taps(const sg_convolution *convolution, unsigned outer,
                      sg_streamed_layout *layout) {
    const int64_t *kernel = convolution->kernel;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < layout->tap_count; i++) {
            int w = (int)kernel[2], h = (int)kernel[1];
            sg_streamed_tap tap = {.kernel = {i / (w * h), i / w % h, i % w}};
            int rest[SG_SPATIAL_MAX];
            split_tap(convolution, outer, &tap, rest);
            sg_streamed_part *part = part_of(layout, rest);
            if (pass)
                layout->taps[part->first_tap + part->tap_count] = tap;
            part->tap_count++;
        }
        int first = 0;
        for (int i = 0; i < layout->part_count && !pass; i++) {
            layout->parts[i].first_tap = first;
            first += layout->parts[i].tap_count;
            layout->parts[i].tap_count = 0;
        }
    }
}

/* Moves each part so that along every axis one of its taps is nothing ahead, and from the rest to
 * the input's own coordinates. */
static void settle_parts(const sg_convolution *convolution, sg_streamed_layout *layout) {
    for (int i = 0; i < layout->part_count; i++) {
        sg_streamed_part *part = &layout->parts[i];
        sg_streamed_tap *taps = layout->taps + part->first_tap;
        for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
            int least = taps[0].ahead[axis];
            for (int t = 1; t < part->tap_count; t++)
                least = taps[t].ahead[axis] < least ? taps[t].ahead[axis] : least;
            for (int t = 0; t < part->tap_count; t++)
                taps[t].ahead[axis] -= least;
            part->shift[axis] +=
                (int)(least * convolution->stride[axis] - convolution->padding[axis]);
        }
    }
}

int sg_streamed_furthest(const sg_streamed_layout *layout, const sg_streamed_part *part, int axis) {
    int ahead = 0;
    for (int t = 0; t < part->tap_count; t++) {
        int this = layout->taps[part->first_tap + t].ahead[axis];
        ahead = this > ahead ? this : ahead;
    }
    return ahead;
}

/* Whether positions from pitch on, as far as taps reach, are padding both as the end of an axis of
 * size outputs and as the start of the next. */
static bool shares_padding(const sg_convolution *convolution, const sg_streamed_layout *layout,
                           int axis, int64_t size, int64_t pitch) {
    int64_t stride = convolution->stride[axis];
    for (int i = 0; i < layout->part_count; i++) {
        const sg_streamed_part *part = &layout->parts[i];
        int64_t last = size - 1 + sg_streamed_furthest(layout, part, axis);
        if (last < pitch)
            continue;
        if (last >= 2 * pitch || pitch * stride + part->shift[axis] < convolution->in_size[axis] ||
            (last - pitch) * stride + part->shift[axis] >= 0)
            return false;
    }
    return true;
}

static int64_t pitch_of(const sg_convolution *convolution, const sg_streamed_layout *layout,
                        int axis, int64_t size, bool whole) {
    int64_t full = size;
    for (int i = 0; i < layout->part_count; i++)
        full = larger(full, size + sg_streamed_furthest(layout, &layout->parts[i], axis));
    for (int64_t pitch = larger(size, 1); whole && pitch < full; pitch++) {
        if (shares_padding(convolution, layout, axis, size, pitch))
            return pitch;
    }
    return larger(full, 1);
}

int64_t sg_streamed_image_least(const sg_streamed_layout *layout) {
    return sg_cuda_pieces(layout->tile_positions, SG_STREAMED_SEGMENTS_MAX - 1);
}

/* Gives tiny images more rows, so that a tile has no more segments than may be. */
static void widen_images(sg_streamed_layout *layout) {
    int64_t *pitch = layout->pitch;
    while (pitch[0] * pitch[1] * pitch[2] < sg_streamed_image_least(layout))
        pitch[1]++;
}

/* Whether outputs, in order, meet the inputs in order, one to one. */
static bool is_flat(const sg_convolution *convolution, const sg_streamed_layout *layout) {
    int64_t step = 1;
    if (layout->tap_count > 1 || layout->strips > 1)
        return false;
    for (int axis = SG_SPATIAL_MAX - 1; axis >= 0; axis--) {
        int64_t size = convolution->in_size[axis];
        if (convolution->padding[axis] != 0 || layout->pitch[axis] != larger(size, 1) ||
            (size > 1 && convolution->input.stride[SG_ROLE_D + axis] != step))
            return false;
        step *= size;
    }
    return true;
}

bool sg_streamed_measure(const sg_problem *problem, const sg_cuda_plan *plan,
                         sg_streamed_layout *layout) {
    const sg_convolution *convolution = &problem->convolution;
    const int64_t *kernel = convolution->kernel;
    double taps = (double)kernel[0] * (double)kernel[1] * (double)kernel[2];
    layout->part_count = 0;
    if (taps > SG_STREAMED_TAPS_MAX)
        return false;
    layout->tap_count = (int)taps;
    list_taps(convolution, (unsigned)plan->parameter[SG_STREAMED_OUTER], layout);
    settle_parts(convolution, layout);

    layout->tile_positions = 128 * plan->parameter[SG_STREAMED_ROWS];
    int64_t strip = plan->parameter[SG_STREAMED_STRIP];
    layout->strips = sg_cuda_pieces(larger(problem->size[SG_ROLE_W], 1), strip);
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        bool columns = axis == SG_SPATIAL_MAX - 1;
        int64_t size = columns ? strip : problem->size[SG_ROLE_D + axis];
        layout->pitch[axis] =
            pitch_of(convolution, layout, axis, size, !columns || layout->strips == 1);
    }
    widen_images(layout);
    layout->reach = 0;
    for (int t = 0; t < layout->tap_count; t++) {
        const int *ahead = layout->taps[t].ahead;
        int64_t rows = ahead[0] * layout->pitch[1] + ahead[1];
        layout->reach = larger(layout->reach, rows * layout->pitch[2] + ahead[2]);
    }
    layout->positions = problem->size[SG_ROLE_N] * layout->strips * layout->pitch[0] *
                        layout->pitch[1] * layout->pitch[2];
    int64_t channels = plan->parameter[SG_STREAMED_CHANNELS];
    layout->position_tiles = sg_cuda_pieces(layout->positions, layout->tile_positions);
    layout->group_tiles = sg_cuda_pieces(problem->size[SG_ROLE_C] / convolution->groups, channels);
    layout->channel_tiles = layout->group_tiles * convolution->groups;
    layout->tile_n = sg_round_up(channels, 8);
    layout->chunks = sg_cuda_pieces(convolution->in_channels / convolution->groups,
                                    plan->parameter[SG_STREAMED_CHUNK]);
    layout->flat = is_flat(convolution, layout);
    return true;
}

/* Whether every stride but those of the axes in but is a multiple of so many elements. */
static bool strides_align(const sg_operand *operand, int64_t elements, unsigned but) {
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        if (!(but >> role & 1U) && operand->stride[role] % elements != 0)
            return false;
    }
    return true;
}

void sg_streamed_read(const sg_problem *problem, const sg_cuda_target *target,
                      const sg_cuda_plan *plan, const sg_streamed_layout *layout,
                      sg_streamed_reading *reading) {
    const sg_convolution *convolution = &problem->convolution;
    const sg_operand *input = &convolution->input;
    unsigned spatial = 1U << SG_ROLE_D | 1U << SG_ROLE_H | 1U << SG_ROLE_W;
    int64_t image = layout->pitch[0] * layout->pitch[1] * layout->pitch[2];
    bool narrow = !sg_streamed_carries(problem);
    bool few = sg_streamed_wide(problem, target, plan, layout) ||
               sg_streamed_products(problem, target) == 3;
    int64_t most = few ? 4 : 8, least_rows = 1; /* of registers */
    reading->vector = 1;
    if (target->alignment >= 16 && input->stride[SG_ROLE_C] == 1 &&
        convolution->in_channels / convolution->groups % 8 == 0 &&
        strides_align(input, narrow ? 8 : 4, 1U << SG_ROLE_C)) {
        reading->vector = 8;
        most *= narrow ? 2 : 1;
    } else if (target->alignment >= 16 && layout->flat && image % 4 == 0 &&
               strides_align(input, 4, spatial)) {
        reading->vector = 4;
        least_rows = 4;
    }
    int64_t cells = plan->parameter[SG_STREAMED_CHUNK] / 8;
    reading->cells = 1;
    for (int64_t i = 2; i * least_rows <= most; i++) {
        bool divides = cells % i == 0 && (reading->vector == 1 || 8 % i == 0);
        reading->cells = divides ? i : reading->cells;
    }
    reading->rows = most / reading->cells;
}

bool sg_streamed_carries(const sg_problem *problem) {
    return problem->convolution.input.dtype == SG_F32;
}

bool sg_streamed_stores_runs(const sg_problem *problem, const sg_cuda_target *target,
                             const sg_cuda_plan *plan) {
    int64_t outputs = problem->size[SG_ROLE_C] / problem->convolution.groups;
    bool runs = target->alignment >= 16 && outputs % SG_STREAMED_RUN == 0 &&
                plan->parameter[SG_STREAMED_CHANNELS] % SG_STREAMED_RUN == 0;
    for (int i = 0; i < problem->output_count; i++) {
        const sg_operand *output = &problem->outputs[i];
        if (output->domain >> SG_ROLE_C & 1U)
            runs &= output->stride[SG_ROLE_C] == 1 && sg_dtype_size(output->dtype) <= 4 &&
                    strides_align(output, SG_STREAMED_RUN, 1U << SG_ROLE_C);
    }
    return runs;
}

int64_t sg_streamed_products(const sg_problem *problem, const sg_cuda_target *target) {
    return sg_streamed_carries(problem) && target->precision == SG_PRECISION_FP32 ? 3 : 1;
}

int64_t sg_streamed_tap_blocks(const sg_problem *problem, const sg_cuda_target *target) {
    return sg_streamed_products(problem, target) == 3 ? 2 : 1;
}

int64_t sg_streamed_promote(const sg_problem *problem, const sg_cuda_target *target,
                            const sg_cuda_plan *plan, const sg_streamed_layout *layout) {
    /* Additions in the products round down, so that errors of many add up. */
    enum { DEEP = 6144, SPAN = 2048 };
    const sg_convolution *convolution = &problem->convolution;
    if (sg_streamed_products(problem, target) == 3)
        return 1;
    if (convolution->in_channels / convolution->groups * layout->tap_count <= DEEP)
        return 0;
    int64_t part = layout->tap_count * plan->parameter[SG_STREAMED_CHUNK] / layout->part_count;
    return larger(SPAN / larger(part, 1), 1);
}

int64_t sg_streamed_sums(const sg_cuda_plan *plan) {
    return plan->parameter[SG_STREAMED_ROWS] *
           sg_round_up(plan->parameter[SG_STREAMED_CHANNELS], 8) / 2;
}

bool sg_streamed_wide(const sg_problem *problem, const sg_cuda_target *target,
                      const sg_cuda_plan *plan, const sg_streamed_layout *layout) {
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    int64_t sums = sg_streamed_sums(plan);
    if (sg_streamed_promote(problem, target, plan, layout) > 0)
        sums *= 2;
    return sums > 64 || facts.channel_reductions > 1;
}

int64_t sg_streamed_box_bytes(const sg_problem *problem, const sg_cuda_target *target,
                              const sg_cuda_plan *plan) {
    return sg_streamed_tap_blocks(problem, target) * plan->parameter[SG_STREAMED_CHUNK] *
           plan->parameter[SG_STREAMED_BOX] * 2;
}

int64_t sg_streamed_block_bytes(const sg_cuda_plan *plan) {
    return plan->parameter[SG_STREAMED_CHUNK] *
           sg_round_up(plan->parameter[SG_STREAMED_CHANNELS], 8) * 2;
}

int64_t sg_streamed_shared(const sg_problem *problem, const sg_cuda_target *target,
                           const sg_cuda_plan *plan) {
    return plan->parameter[SG_STREAMED_BOXES] * sg_streamed_box_bytes(problem, target, plan) +
           plan->parameter[SG_STREAMED_BLOCKS] * sg_streamed_block_bytes(plan);
}
