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

typedef struct sg_row_copy {
    const sg_cpu_kernel *kernel;
    const char *source; /* input place of column position 0; may lie outside the input */
    sg_element type;
    int64_t step; /* elements between columns */
    int64_t from, to;
} sg_row_copy;

static void copy_row(const sg_row_copy *row, char *to, bool inside) {
    const sg_cpu_kernel *kernel = row->kernel;
    size_t bytes = sg_element_bytes(kernel->isa->compute);
    int64_t width = kernel->slab.extent[2];
    if (!inside || row->from == row->to) {
        memset(to, 0, (size_t)width * bytes);
        return;
    }
    memset(to, 0, (size_t)row->from * bytes);
    kernel->isa->convert_in(row->to - row->from, to + (size_t)row->from * bytes, 1,
                            row->source +
                                row->from * row->step * (int64_t)sg_element_bytes(row->type),
                            row->step, row->type);
    memset(to + (size_t)row->to * bytes, 0, (size_t)(width - row->to) * bytes);
}

/* One phase combination of one channel. */
static void pack_phase(const sg_frame *frame, const char *channel, const int64_t *residue,
                       char *to) {
    const sg_cpu_kernel *kernel = frame->kernel;
    const sg_convolution *convolution = &kernel->convolution;
    const sg_slab *slab = &kernel->slab;
    const sg_operand *input = &convolution->input;
    size_t bytes = sg_element_bytes(kernel->isa->compute);
    int64_t from[SG_SPATIAL_MAX], upto[SG_SPATIAL_MAX], base[SG_SPATIAL_MAX];
    for (int a = 0; a < SG_SPATIAL_MAX; a++) {
        valid_range(frame->origin[a], convolution->stride[a], residue[a], convolution->padding[a],
                    convolution->in_size[a], slab->extent[a], &from[a], &upto[a]);
        base[a] = frame->origin[a] * convolution->stride[a] + residue[a] - convolution->padding[a];
    }
    sg_row_copy row = {.kernel = kernel,
                       .type = sg_element_of(input->dtype),
                       .step = input->stride[SG_ROLE_W] * convolution->stride[2],
                       .from = from[2],
                       .to = upto[2]};
    int64_t size = (int64_t)sg_element_bytes(row.type);
    for (int64_t z = 0; z < slab->extent[0]; z++) {
        for (int64_t y = 0; y < slab->extent[1]; y++) {
            bool inside = z >= from[0] && z < upto[0] && y >= from[1] && y < upto[1];
            int64_t place = (base[0] + z * convolution->stride[0]) * input->stride[SG_ROLE_D] +
                            (base[1] + y * convolution->stride[1]) * input->stride[SG_ROLE_H] +
                            base[2] * input->stride[SG_ROLE_W];
            row.source = channel + place * size;
            copy_row(&row, to + (size_t)(z * slab->pitch[0] + y * slab->pitch[1]) * bytes, inside);
        }
    }
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
