/* Packing: weights into the micro-kernels' order, and the input of a box into the slab. Here
 * strides, padding, dtypes and memory formats end; what follows sees only contiguous numbers. */
#include <string.h>

#include "run/cpu/frame.h"

/* Weights of one block, tap by tap, from memory in any order. */
static void pack_scattered(const sg_cpu_kernel *kernel, const sg_channel_block *block,
                           const char *source, char *to) {
    const sg_convolution *convolution = &kernel->convolution;
    const sg_operand *weight = &convolution->weight;
    const int64_t *size = convolution->kernel;
    sg_element type = sg_element_of(weight->dtype);
    int64_t width = block->contract->channels, taps = kernel->slab.taps;
    int64_t channels = convolution->in_channels / convolution->groups;
    size_t bytes = sg_element_bytes(kernel->isa->compute), from = sg_element_bytes(type);
    memset(to, 0, (size_t)(channels * taps * width) * bytes);
    for (int64_t i = 0; i < channels * taps; i++) {
        int64_t tap = i % taps;
        int64_t place = i / taps * weight->stride[SG_ROLE_C] +
                        tap % size[2] * weight->stride[SG_ROLE_W] +
                        tap / size[2] % size[1] * weight->stride[SG_ROLE_H] +
                        tap / size[2] / size[1] * weight->stride[SG_ROLE_D];
        kernel->isa->convert_in(block->count, to + (size_t)(i * width) * bytes, 1,
                                source + (size_t)place * from, weight->stride[SG_ROLE_N], type);
    }
}

static void pack_pairs(const sg_cpu_kernel *kernel, const sg_channel_block *block,
                       const char *source, char *to) {
    const sg_convolution *convolution = &kernel->convolution;
    const int64_t *size = convolution->kernel, *stride = convolution->weight.stride;
    sg_weight_pairs weights = {
        .dst = to,
        .rows = block->count,
        .width = block->contract->channels,
        .channels = convolution->in_channels / convolution->groups,
        .taps = {size[0], size[1], size[2]},
        .src = source,
        .row_stride = stride[SG_ROLE_N],
        .channel_stride = stride[SG_ROLE_C],
        .tap_stride = {stride[SG_ROLE_D], stride[SG_ROLE_H], stride[SG_ROLE_W]}};
    kernel->isa->pack_weight_pairs(&weights);
}

/* Writes weights [k][MR] of one channel block; channels that pad the block are zero. The bias,
 * padded likewise, goes to the end of the packed memory. */
void sg_pack_weights(const sg_cpu_kernel *kernel, const void *const *inputs, int64_t index,
                     void *packed) {
    const sg_channel_block *block = &kernel->blocks[index];
    const sg_convolution *convolution = &kernel->convolution;
    const sg_operand *weight = &convolution->weight;
    sg_element type = sg_element_of(weight->dtype);
    size_t bytes = sg_element_bytes(kernel->isa->compute), from = sg_element_bytes(type);
    const char *source = inputs[weight->index];
    int64_t width = block->contract->channels, taps = kernel->slab.taps;
    int64_t channels = convolution->in_channels / convolution->groups;
    char *to = (char *)packed + (size_t)block->weights * bytes;

    const int64_t *kernel_size = convolution->kernel;
    bool taps_follow = weight->stride[SG_ROLE_W] == 1 &&
                       weight->stride[SG_ROLE_H] == kernel_size[2] &&
                       weight->stride[SG_ROLE_D] == kernel_size[1] * kernel_size[2];
    bool all_follow = (taps == 1 || taps_follow) && weight->stride[SG_ROLE_C] == taps;
    source += block->first * weight->stride[SG_ROLE_N] * (int64_t)from;
    if (kernel->pairs)
        pack_pairs(kernel, block, source, to);
    else if (all_follow)
        kernel->isa->pack_transposed(block->count, channels * taps, width, to, source,
                                     weight->stride[SG_ROLE_N], type);
    else
        pack_scattered(kernel, block, source, to);
    char *bias = (char *)packed + (size_t)(kernel->bias_offset + block->first) * bytes;
    memset(bias, 0, (size_t)width * bytes);
    if (convolution->bias.index >= 0) {
        sg_element bias_type = sg_element_of(convolution->bias.dtype);
        int64_t stride = convolution->bias.stride[SG_ROLE_C];
        const char *values = inputs[convolution->bias.index];
        kernel->isa->convert_in(block->count, bias, 1,
                                values +
                                    (size_t)(block->first * stride) * sg_element_bytes(bias_type),
                                stride, bias_type);
    }
}

/* Positions [from, to) of a phase that read inside the input; the rest is padding. */
static void valid_range(int64_t origin, int64_t stride, int64_t residue, int64_t padding,
                        int64_t size, int64_t extent, int64_t *from, int64_t *to) {
    int64_t first = origin * stride + residue - padding; /* input place of position 0 */
    *from = first >= 0 ? 0 : (-first + stride - 1) / stride;
    *to = first >= size ? 0 : (size - first + stride - 1) / stride;
    *from = *from > extent ? extent : *from;
    *to = *to > extent ? extent : *to;
    *to = *to < *from ? *from : *to;
}

/* The planes of one combination of phases: all but the addresses is the same for every channel. */
typedef struct sg_phase {
    sg_plane plane;     /* without addresses */
    int64_t place;      /* of position 0 in a channel of the input, in elements; may lie outside */
    int64_t depth_step; /* input elements between planes */
    int64_t from, upto; /* planes that exist */
} sg_phase;

static sg_phase describe_phase(const sg_frame *frame, const int64_t *residue) {
    const sg_cpu_kernel *kernel = frame->kernel;
    const sg_convolution *convolution = &kernel->convolution;
    const sg_slab *slab = &kernel->slab;
    int64_t from[SG_SPATIAL_MAX], upto[SG_SPATIAL_MAX], step[SG_SPATIAL_MAX], place = 0;
    for (int a = 0; a < SG_SPATIAL_MAX; a++) {
        int64_t stride = convolution->input.stride[SG_ROLE_D + a];
        valid_range(frame->origin[a], convolution->stride[a], residue[a], convolution->padding[a],
                    convolution->in_size[a], slab->extent[a], &from[a], &upto[a]);
        step[a] = stride * convolution->stride[a];
        place +=
            (frame->origin[a] * convolution->stride[a] + residue[a] - convolution->padding[a]) *
            stride;
    }
    sg_plane plane = {.rows = slab->extent[1],
                      .width = slab->extent[2],
                      .first_row = from[1],
                      .end_row = upto[1],
                      .first_column = from[2],
                      .end_column = upto[2],
                      .row_step = step[1],
                      .column_step = step[2],
                      .type = sg_element_of(convolution->input.dtype)};
    /* Rows that lie behind each other, as they do in the slab, are one long row. */
    if (from[2] == 0 && upto[2] == plane.width && step[1] == plane.width * step[2]) {
        plane.first_column = from[1] * plane.width;
        plane.end_column = upto[1] * plane.width;
        plane.width *= plane.rows;
        plane.rows = 1;
        plane.first_row = 0;
        plane.end_row = 1;
    }
    return (sg_phase){
        .plane = plane, .place = place, .depth_step = step[0], .from = from[0], .upto = upto[0]};
}

/* One combination of phases of every channel; index counts the combinations. */
static void pack_phase(const sg_frame *frame, const int64_t *residue, int64_t index) {
    const sg_cpu_kernel *kernel = frame->kernel;
    const sg_slab *slab = &kernel->slab;
    const sg_operand *input = &kernel->convolution.input;
    sg_phase phase = describe_phase(frame, residue);
    int64_t bytes = (int64_t)sg_element_bytes(kernel->isa->compute);
    int64_t size = (int64_t)sg_element_bytes(phase.plane.type);
    const char *image = (const char *)frame->inputs[input->index] +
                        (frame->n * input->stride[SG_ROLE_N] + phase.place) * size;
    /* Channels of the input in one of the slab's, and in a group of the input. */
    int64_t together = kernel->pairs ? 2 : 1;
    int64_t group = kernel->convolution.in_channels / kernel->convolution.groups;
    sg_pack_plane pack = kernel->pairs ? kernel->isa->pack_pairs : kernel->isa->pack_plane;
    for (int64_t channel = 0; channel < slab->depth * kernel->convolution.groups; channel++) {
        int64_t within = channel % slab->depth * together;
        int64_t first = channel / slab->depth * group + within;
        const char *from = image + first * input->stride[SG_ROLE_C] * size;
        bool alone = within + 1 == group; /* the odd one of a pair is missing */
        char *to = frame->slab + (channel * slab->channel_size + index * slab->phase_size) * bytes;
        for (int64_t z = 0; z < slab->extent[0]; z++) {
            sg_plane plane = phase.plane;
            plane.dst = to + z * slab->pitch[0] * bytes;
            plane.src = from + z * phase.depth_step * size;
            plane.other = alone || !kernel->pairs
                              ? NULL
                              : (const char *)plane.src + input->stride[SG_ROLE_C] * size;
            plane.end_row = z >= phase.from && z < phase.upto ? plane.end_row : plane.first_row;
            pack(&plane);
        }
    }
}

void sg_pack_slab(sg_frame *frame) {
    const sg_slab *slab = &frame->kernel->slab;
    int64_t index = 0;
    for (int64_t pz = 0; pz < slab->phase_count[0]; pz++) {
        for (int64_t py = 0; py < slab->phase_count[1]; py++) {
            for (int64_t px = 0; px < slab->phase_count[2]; px++) {
                int64_t residue[] = {slab->phase[0][pz], slab->phase[1][py], slab->phase[2][px]};
                pack_phase(frame, residue, index++);
            }
        }
    }
}
