/* Reference: convolution as defined, every tap in turn. Fewer than three spatial dimensions are
 * three with sizes of 1 in front; no batch is a batch of 1. */
#include "ir/reference.h"

typedef struct shape {
    int64_t batch, channels, outputs, groups;
    int64_t input[3], kernel[3], output[3], stride[3], padding[3], dilation[3];
} shape;

static shape shape_of(const sg_evaluation *e) {
    const sg_type *input = e->types[0], *weight = e->types[1], *result = &e->node->type;
    int spatial = weight->rank - 2, batched = input->rank == weight->rank;
    shape s = {.batch = batched ? input->size[0] : 1,
               .channels = input->size[batched],
               .outputs = weight->size[0],
               .groups = (int64_t)e->node->attributes[3].number,
               .input = {1, 1, 1},
               .kernel = {1, 1, 1},
               .output = {1, 1, 1},
               .stride = {1, 1, 1},
               .padding = {0, 0, 0},
               .dilation = {1, 1, 1}};
    for (int i = 0; i < spatial; i++) {
        int to = 3 - spatial + i;
        s.input[to] = input->size[batched + 1 + i];
        s.kernel[to] = weight->size[2 + i];
        s.output[to] = result->size[batched + 1 + i];
        s.stride[to] = e->node->attributes[0].items[i];
        s.padding[to] = e->node->attributes[1].items[i];
        s.dilation[to] = e->node->attributes[2].items[i];
    }
    return s;
}

/* Where tap k of output position o reads along one dimension, or -1 in the padding. */
static int64_t source(const shape *s, int dimension, int64_t o, int64_t k) {
    int64_t i = o * s->stride[dimension] + k * s->dilation[dimension] - s->padding[dimension];
    return i >= 0 && i < s->input[dimension] ? i : -1;
}

/* One input channel's share of one output element. */
static double channel_sum(const shape *s, const double *plane, const double *taps,
                          const int64_t at[3]) {
    double sum = 0;
    for (int64_t a = 0; a < s->kernel[0]; a++)
        for (int64_t b = 0; b < s->kernel[1]; b++)
            for (int64_t c = 0; c < s->kernel[2]; c++, taps++) {
                int64_t z = source(s, 0, at[0], a), y = source(s, 1, at[1], b),
                        x = source(s, 2, at[2], c);
                if (z >= 0 && y >= 0 && x >= 0)
                    sum += plane[(z * s->input[1] + y) * s->input[2] + x] * *taps;
            }
    return sum;
}

void sg_reference_convolution(const sg_evaluation *e) {
    const shape s = shape_of(e);
    int64_t in_group = s.channels / s.groups, out_group = s.outputs / s.groups;
    int64_t plane = s.input[0] * s.input[1] * s.input[2];
    int64_t taps = s.kernel[0] * s.kernel[1] * s.kernel[2];
    double *result = e->result;
    for (int64_t n = 0; n < s.batch; n++)
        for (int64_t o = 0; o < s.outputs; o++) {
            const double *image =
                e->operands[0] + (n * s.channels + o / out_group * in_group) * plane;
            const double *weight = e->operands[1] + o * in_group * taps;
            int64_t at[3];
            for (at[0] = 0; at[0] < s.output[0]; at[0]++)
                for (at[1] = 0; at[1] < s.output[1]; at[1]++)
                    for (at[2] = 0; at[2] < s.output[2]; at[2]++) {
                        double sum = e->operands[2] ? e->operands[2][o] : 0;
                        for (int64_t c = 0; c < in_group; c++)
                            sum += channel_sum(&s, image + c * plane, weight + c * taps, at);
                        *result++ = sum;
                    }
        }
}
