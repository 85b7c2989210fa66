/* Packing: weights into the micro-kernels' order, and the input of a box into the slab. Here
 * strides, padding, dtypes and memory formats end; what follows sees only contiguous numbers. */
#include <string.h>

#include "run/cpu/frame.h"

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
    if (block->count < width) {
        memset(to, 0, (size_t)(channels * taps * width) * bytes);
    }
    for (int64_t m = 0; m < block->count; m++) {
        const char *row = source + (size_t)((block->first + m) * weight->stride[SG_ROLE_N]) * from;
        char *column = to + (size_t)m * bytes;
        if (all_follow) {
            kernel->isa->convert_in(channels * taps, column, width, row, 1, type);
            continue;
        }
        for (int64_t c = 0; c < channels; c++) {
            for (int64_t tap = 0; tap < taps; tap++) {
                int64_t place = c * weight->stride[SG_ROLE_C] +
                                tap % kernel_size[2] * weight->stride[SG_ROLE_W] +
                                tap / kernel_size[2] % kernel_size[1] * weight->stride[SG_ROLE_H] +
                                tap / kernel_size[2] / kernel_size[1] * weight->stride[SG_ROLE_D];
                kernel->isa->convert_in(1, column + (size_t)((c * taps + tap) * width) * bytes, 1,
                                        row + (size_t)place * from, 1, type);
            }
        }
    }
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

/* One phase of one channel on its way into the slab. */
typedef struct sg_phase_copy {
    const sg_cpu_kernel *kernel;
    const char *source; /* input place of position 0; may lie outside the input */
    sg_element type;
    int64_t step[SG_SPATIAL_MAX];                       /* input elements between positions */
    int64_t from[SG_SPATIAL_MAX], upto[SG_SPATIAL_MAX]; /* positions that exist */
    bool solid; /* rows lie behind each other in the input as they do in the slab */
} sg_phase_copy;

static char *zero(const sg_cpu_kernel *kernel, char *to, int64_t count) {
    size_t size = (size_t)count * sg_element_bytes(kernel->isa->compute);
    memset(to, 0, size);
    return to + size;
}

/* Positions [from, upto) of a row; rows: how many that lie behind each other to take as one. */
static char *copy_row(const sg_phase_copy *copy, int64_t z, int64_t y, int64_t rows, char *to) {
    const sg_cpu_kernel *kernel = copy->kernel;
    int64_t size = (int64_t)sg_element_bytes(copy->type), width = kernel->slab.extent[2];
    int64_t count = (copy->upto[2] - copy->from[2]) * rows;
    int64_t place = z * copy->step[0] + y * copy->step[1] + copy->from[2] * copy->step[2];
    to = zero(kernel, to, copy->from[2]);
    kernel->isa->convert_in(count, to, 1, copy->source + place * size, copy->step[2], copy->type);
    to += (size_t)count * sg_element_bytes(kernel->isa->compute);
    return zero(kernel, to, width - copy->upto[2]);
}

static char *copy_plane(const sg_phase_copy *copy, int64_t z, char *to) {
    const sg_slab *slab = &copy->kernel->slab;
    int64_t rows = slab->extent[1], width = slab->extent[2];
    if (z < copy->from[0] || z >= copy->upto[0] || copy->from[2] == copy->upto[2])
        return zero(copy->kernel, to, rows * width);
    to = zero(copy->kernel, to, copy->from[1] * width);
    int64_t at_once = copy->solid ? copy->upto[1] - copy->from[1] : 1;
    for (int64_t y = copy->from[1]; y < copy->upto[1]; y += at_once)
        to = copy_row(copy, z, y, at_once, to);
    return zero(copy->kernel, to, (rows - copy->upto[1]) * width);
}

/* One phase combination of one channel. */
static void pack_phase(const sg_frame *frame, const char *channel, const int64_t *residue,
                       char *to) {
    const sg_cpu_kernel *kernel = frame->kernel;
    const sg_convolution *convolution = &kernel->convolution;
    const sg_operand *input = &convolution->input;
    sg_phase_copy copy = {.kernel = kernel, .type = sg_element_of(input->dtype)};
    int64_t place = 0;
    for (int a = 0; a < SG_SPATIAL_MAX; a++) {
        valid_range(frame->origin[a], convolution->stride[a], residue[a], convolution->padding[a],
                    convolution->in_size[a], kernel->slab.extent[a], &copy.from[a], &copy.upto[a]);
        copy.step[a] = input->stride[SG_ROLE_D + a] * convolution->stride[a];
        place +=
            (frame->origin[a] * convolution->stride[a] + residue[a] - convolution->padding[a]) *
            input->stride[SG_ROLE_D + a];
    }
    copy.source = channel + place * (int64_t)sg_element_bytes(copy.type);
    copy.solid = copy.from[2] == 0 && copy.upto[2] == kernel->slab.extent[2] &&
                 copy.step[1] == copy.upto[2] * copy.step[2] && copy.from[1] < copy.upto[1];
    for (int64_t z = 0; z < kernel->slab.extent[0]; z++)
        to = copy_plane(&copy, z, to);
}

void sg_pack_slab(sg_frame *frame) {
    const sg_cpu_kernel *kernel = frame->kernel;
    const sg_slab *slab = &kernel->slab;
    const sg_operand *input = &kernel->convolution.input;
    size_t bytes = sg_element_bytes(kernel->isa->compute);
    size_t from = sg_element_bytes(sg_element_of(input->dtype));
    const char *image = (const char *)frame->inputs[input->index] +
                        (size_t)(frame->n * input->stride[SG_ROLE_N]) * from;
    for (int64_t channel = 0; channel < kernel->convolution.in_channels; channel++) {
        char *to = frame->slab + (size_t)(channel * slab->channel_size) * bytes;
        const char *source = image + (size_t)(channel * input->stride[SG_ROLE_C]) * from;
        for (int64_t pz = 0; pz < slab->phase_count[0]; pz++) {
            for (int64_t py = 0; py < slab->phase_count[1]; py++) {
                for (int64_t px = 0; px < slab->phase_count[2]; px++) {
                    int64_t residue[] = {slab->phase[0][pz], slab->phase[1][py],
                                         slab->phase[2][px]};
                    pack_phase(frame, source, residue, to);
                    to += (size_t)slab->phase_size * bytes;
                }
            }
        }
    }
}
