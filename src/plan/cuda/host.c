#include "plan/cuda/host.h"

#include <math.h>

/* Fractions of the card's rates in sg_gpu. */
static const double LAYOUT_RATE = 0.7;     /* of copy: a pass between NCHW and NHWC */
static const double TURN_HALVES = 0.5;     /* the same for halves */
static const double POINTWISE_RATE = 0.97; /* of copy: one pointwise operator or reduction */
static const double SOFTMAX_RATE = 0.15;   /* of copy: softmax over a dimension that is not last */
static const double STREAM_RATE = 0.85;    /* of copy: our streaming kernel */
static const double TENSOR_RATE = 0.75;    /* of the tensor cores, by large convolutions */
static const double DEEP_RATE = 0.3;       /* the same for halves with depth */
static const double FEW_RATE = 0.9;        /* of plain float: halves, few channels in */
static const double ODD_RATE = 0.5;        /* the same where four do not divide them */
static const double LAST_RATE = 0.015;     /* of the tensor cores, a channel: few that lie last */
static const double PLAIN_RATE = 0.55;     /* of plain double arithmetic */
static const double MATRIX_RATE = 0.65;    /* of double products: a convolution of one tap */
static const double FLOAT_RATE = 1.3;      /* of plain float arithmetic: Winograd's form, at best */
static const double DEPTHWISE_RATE = 0.08; /* of plain float: one channel in, one out */
static const double OPERATOR_SECONDS = 3.8e-6;    /* the shortest kernel, its launch included */
static const double LAUNCH_SECONDS = 2.3e-6;      /* of that, what longer ones do not hide */
static const double CONVOLUTION_SECONDS = 7.5e-6; /* the same for a convolution */

static double value_bytes(const sg_graph *graph, sg_value value) {
    const sg_type *type = &sg_graph_node(graph, value)->type;
    double bytes = (double)sg_dtype_size(type->dtype);
    for (int dim = 0; dim < type->rank; dim++)
        bytes *= (double)type->size[dim];
    return bytes;
}

/* Whether it is a matrix product in all but name. */
static bool is_product(const sg_convolution *convolution) {
    bool product = convolution->groups == 1;
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++)
        product &= convolution->kernel[axis] == 1 && convolution->stride[axis] == 1;
    return product;
}

static bool channels_lie_last(const sg_convolution *convolution) {
    return convolution->input.stride[SG_ROLE_C] == 1;
}

/* Products a second of halves. The library's tensor kernels begin with as many channels as a
 * product of theirs takes; for fewer it has slow ones, unless they lie last. */
static double half_rate(const sg_convolution *convolution, const sg_gpu *gpu) {
    enum { FEW = 16 };
    int64_t channels = convolution->in_channels / convolution->groups;
    double rate = gpu->half * (convolution->kernel[0] > 1 ? DEEP_RATE : TENSOR_RATE);
    if (channels >= FEW || is_product(convolution))
        return rate;
    return channels_lie_last(convolution)
               ? fmin(rate, gpu->half * LAST_RATE * (double)channels)
               : fmin(rate, gpu->fp32 * (channels % 4 == 0 ? FEW_RATE : ODD_RATE));
}

/* Products a second of an anchor, by its dtype and class. */
static double product_rate(const sg_problem *problem, const sg_cuda_target *target) {
    const sg_gpu *gpu = &target->gpu;
    const sg_convolution *convolution = &problem->convolution;
    int64_t groups = convolution->groups;
    if (convolution->in_channels == groups && problem->size[SG_ROLE_C] == groups)
        return gpu->fp32 * DEPTHWISE_RATE;
    switch (convolution->input.dtype) {
    case SG_F64:
        return is_product(convolution) ? gpu->fp64_matrix * MATRIX_RATE : gpu->fp64 * PLAIN_RATE;
    case SG_F32:
        return target->precision == SG_PRECISION_FP32 ? gpu->fp32 * FLOAT_RATE
                                                      : gpu->tf32 * TENSOR_RATE;
    default:
        return half_rate(convolution, gpu);
    }
}

/* Bytes of the anchor's input and of its result. */
static double input_bytes(const sg_problem *problem) {
    sg_value input = sg_graph_node(problem->region->graph, problem->region->anchor)->operands[0];
    return value_bytes(problem->region->graph, input);
}
static double result_bytes(const sg_problem *problem) {
    return value_bytes(problem->region->graph, problem->region->anchor);
}

/* The library reads and writes its own channel order, so that plain tensors are turned before and
 * after, but not around a convolution of one tap, a matrix product in either order; and PyTorch
 * adds the bias in a pass of its own. */
static double convolution_seconds(const sg_problem *problem, const sg_cuda_target *target) {
    const sg_convolution *convolution = &problem->convolution;
    double in = input_bytes(problem), out = result_bytes(problem);
    double copy = target->gpu.copy;
    double taps = 1;
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++)
        taps *= (double)convolution->kernel[axis];
    sg_dtype dtype = convolution->input.dtype;
    bool plain = !channels_lie_last(convolution);
    bool tensor = dtype != SG_F64 && !(dtype == SG_F32 && target->precision == SG_PRECISION_FP32) &&
                  product_rate(problem, target) > target->gpu.fp32;
    double pass = 2 * (in + out) / (copy * (dtype == SG_F32 ? LAYOUT_RATE : TURN_HALVES));
    double turn = plain && tensor && taps > 1 ? pass : 0;
    double bias = convolution->bias.index >= 0 ? 2 * out / (copy * POINTWISE_RATE) : 0;
    double products = problem->flops / product_rate(problem, target);
    return CONVOLUTION_SECONDS + turn + bias + fmax(products, (in + out) / copy);
}

static double operator_seconds(const sg_problem *problem, const sg_cuda_target *target,
                               sg_value value) {
    const sg_graph *graph = problem->region->graph;
    const sg_node *node = sg_graph_node(graph, value);
    double bytes = value_bytes(graph, value);
    for (int i = 0; i < node->operand_count; i++)
        bytes += node->operands[i] < 0 ? 0 : value_bytes(graph, node->operands[i]);
    bool softmax = sg_op_get(node->op)->kind == SG_KIND_SOFTMAX;
    /* Only along the last axis it is as fast as the others; a single number has no axis. */
    bool slow = softmax && node->type.rank > 0 &&
                !(sg_node_axes(graph, value) >> (node->type.rank - 1) & 1U);
    double rate = slow ? SOFTMAX_RATE : POINTWISE_RATE;
    return fmax(OPERATOR_SECONDS, LAUNCH_SECONDS + bytes / (target->gpu.copy * rate));
}

double sg_cuda_cost_host(const sg_problem *problem, const sg_cuda_target *target) {
    const sg_region *region = problem->region;
    double seconds = 0;
    for (sg_value value = 0; value < region->graph->node_count; value++) {
        const sg_node *node = sg_graph_node(region->graph, value);
        if (!region->members[value].in || sg_op_get(node->op)->kind == SG_KIND_VIEW)
            continue;
        seconds += value == region->anchor ? convolution_seconds(problem, target)
                                           : operator_seconds(problem, target, value);
    }
    return seconds;
}

double sg_cuda_cost_library(const sg_problem *problem, const sg_cuda_target *target) {
    const sg_region *region = problem->region;
    if (!problem->has_convolution || region->count < 2)
        return INFINITY;
    double tail = problem->bytes - input_bytes(problem) + result_bytes(problem);
    return convolution_seconds(problem, target) + target->gpu.launch +
           tail / (target->gpu.copy * STREAM_RATE);
}
