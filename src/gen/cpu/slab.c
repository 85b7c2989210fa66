/* Geometry of the slab and of the channel blocks.
 *
 * Output position o reads input position o * stride + tap * dilation - padding. Splitting tap *
 * dilation into a residue and a quotient by the stride, that is position o + quotient of the phase
 * with that residue: so in a slab that stores each phase by itself, moving to the next output is
 * moving to the next element, whatever the stride, and a tap is a constant distance. */
#include <assert.h>
#include <math.h>

#include "gen/cpu/lower.h"

enum { LINE = 16 }; /* elements; one cache line of float, two of double */

/* Index of the phase that holds residue, adding it when it is new. */
static int64_t phase_index(sg_slab *slab, int axis, int64_t residue) {
    for (int64_t i = 0; i < slab->phase_count[axis]; i++) {
        if (slab->phase[axis][i] == residue) {
            return i;
        }
    }
    slab->phase[axis][slab->phase_count[axis]] = residue;
    return slab->phase_count[axis]++;
}

static bool measure(const sg_cpu_kernel *kernel, sg_arena *arena, sg_slab *slab) {
    const sg_convolution *convolution = &kernel->convolution;
    const sg_cpu_plan *plan = &kernel->plan;
    slab->depth = sg_convolution_depth(convolution, kernel->pairs);
    slab->taps = 1;
    slab->channel_size = 1;
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        int64_t reach = (convolution->kernel[axis] - 1) * convolution->dilation[axis];
        slab->phase[axis] = SG_ARENA_NEW(arena, int64_t, convolution->kernel[axis]);
        if (!slab->phase[axis]) {
            return false;
        }
        for (int64_t tap = 0; tap < convolution->kernel[axis]; tap++) {
            phase_index(slab, axis, tap * convolution->dilation[axis] % convolution->stride[axis]);
        }
        slab->extent[axis] = plan->box[axis] + reach / convolution->stride[axis];
        slab->taps *= convolution->kernel[axis];
        slab->channel_size *= slab->phase_count[axis] * slab->extent[axis];
    }
    slab->pitch[2] = 1;
    slab->pitch[1] = slab->extent[2];
    slab->pitch[0] = slab->extent[2] * slab->extent[1];
    slab->phase_size = slab->pitch[0] * slab->extent[0];
    /* An odd number of cache lines from channel to channel: one run's window of every channel then
     * falls on other sets of the first-level cache. */
    slab->channel_size = sg_round_up(slab->channel_size, LINE) | LINE;
    /* The last run of the last channel reads on past the end. */
    slab->size = slab->channel_size * slab->depth * convolution->groups + plan->run;
    return true;
}

/* Distance of each product's input from the output's own place, input channel outermost. */
static bool list_offsets(const sg_convolution *convolution, sg_arena *arena, sg_slab *slab) {
    slab->offset = SG_ARENA_NEW(arena, int32_t, slab->depth * slab->taps + 1);
    if (!slab->offset) {
        return false;
    }
    int32_t *offset = slab->offset;
    for (int64_t channel = 0; channel < slab->depth; channel++) {
        for (int64_t tap = 0; tap < slab->taps; tap++) {
            int64_t left = tap, phase = 0, inside = 0, weight = 1;
            for (int axis = SG_SPATIAL_MAX - 1; axis >= 0; axis--) {
                int64_t reach = left % convolution->kernel[axis] * convolution->dilation[axis];
                left /= convolution->kernel[axis];
                phase += weight * phase_index(slab, axis, reach % convolution->stride[axis]);
                weight *= slab->phase_count[axis];
                inside += reach / convolution->stride[axis] * slab->pitch[axis];
            }
            *offset++ = (int32_t)(channel * slab->channel_size + phase * slab->phase_size + inside);
        }
    }
    return true;
}

/* Cuts each group's channels into the widest blocks that fit, and one narrower block, or for the
 * very last channels a wider one whose surplus rows lie past the tile's end. */
static bool list_blocks(const sg_problem *problem, sg_arena *arena, sg_cpu_kernel *kernel) {
    const sg_convolution *convolution = &kernel->convolution;
    int64_t out_channels = problem->size[SG_ROLE_C];
    int64_t per_group = out_channels / convolution->groups;
    int64_t products = kernel->slab.depth * kernel->slab.taps;
    const sg_contract_block *table =
        kernel->pairs ? kernel->isa->pair_blocks : kernel->isa->contract_blocks;
    kernel->blocks = SG_ARENA_NEW(arena, sg_channel_block, out_channels + 1);
    if (!kernel->blocks) {
        return false;
    }
    int64_t weights = 0, rows = 0;
    for (int64_t first = 0; first < out_channels;) {
        int64_t group = first / per_group;
        int64_t left = (group + 1) * per_group - first;
        const sg_contract_block *block = table;
        bool last_group = group + 1 == convolution->groups;
        for (int i = 1; i < kernel->isa->contract_block_count; i++) {
            /* A padded block must waste less than taking the narrower ones one by one would. */
            bool fits = block->channels <= left || (last_group && 2 * left > block->channels);
            block = fits ? block : &table[i];
        }
        int64_t count = left < block->channels ? left : block->channels;
        kernel->blocks[kernel->block_count++] = (sg_channel_block){
            .first = first, .count = count, .group = group, .weights = weights, .contract = block};
        weights += sg_round_up(products * block->channels, SG_VECTOR_BYTES_MAX);
        rows = first + block->channels;
        first += count;
    }
    kernel->tile_rows = rows > out_channels ? rows : out_channels;
    kernel->bias_offset = weights;
    kernel->packed_size = weights + sg_round_up(kernel->tile_rows, SG_VECTOR_BYTES_MAX);
    return true;
}

/* Where there are many register sums, adding them up one by one loses digits again: then they are
 * added up in spans of about the square root of their number, and the spans' sums after that. */
static void choose_span(sg_cpu_kernel *kernel) {
    static const double MANY = 32;
    double channels = (double)kernel->slab.depth;
    double sums = channels * (double)kernel->slab.taps / (double)kernel->sum;
    double spans = sums > MANY ? ceil(sqrt(sums)) : 1;
    kernel->span = (int64_t)ceil(channels / spans);
    kernel->partial_tile = (double)kernel->span < channels;
}

sg_status sg_lay_out_slab(const sg_problem *problem, sg_arena *arena, sg_cpu_kernel *kernel) {
    sg_context *context = problem->region->graph->context;
    if (!measure(kernel, arena, &kernel->slab)) {
        return sg_fail_memory(context);
    }
    if (kernel->slab.size > INT32_MAX) {
        return sg_fail(context, SG_NOT_APPLICABLE,
                       "convolution: a slab of %lld elements is past the 2^31 that offsets reach",
                       (long long)kernel->slab.size);
    }
    choose_span(kernel);
    bool ok = list_offsets(&kernel->convolution, arena, &kernel->slab) &&
              list_blocks(problem, arena, kernel);
    return ok ? SG_OK : sg_fail_memory(context);
}
