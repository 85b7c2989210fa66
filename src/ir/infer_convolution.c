/* Inference: convolution in 1 to 3 spatial dimensions, batched or not
 * (aten/src/ATen/native/Convolution.cpp). */
#include "ir/infer.h"

enum { STRIDE, PADDING, DILATION, GROUPS };

/* One entry per spatial dimension, of at least `least`. */
static sg_status complete(const sg_call *call, int index, int spatial, int64_t least) {
    sg_attribute *attribute = &call->attributes[index];
    const char *name = call->info->attributes[index].name;
    sg_context *context = call->graph->context;
    if (attribute->count != 1 && attribute->count != spatial)
        return sg_fail(context, SG_INVALID,
                       "%s: %s has %d entries; 1 or %d would be accepted for weight %s",
                       call->info->name, name, attribute->count, spatial,
                       sg_type_words(call->graph, call->operands[1]).text);
    for (int i = 0; i < attribute->count; i++)
        if (!sg_dim_is_constant(attribute->items[i]) || attribute->items[i] < least)
            return sg_fail(context, SG_INVALID, "%s: %s must be integers of at least %lld, not %s",
                           call->info->name, name, (long long)least,
                           sg_dim_words(call->graph, attribute->items[i]).text);
    if (attribute->count == spatial)
        return SG_OK;
    sg_dim *items = SG_ARENA_NEW(&call->graph->arena, sg_dim, spatial);
    if (!items)
        return sg_fail_memory(context);
    for (int i = 0; i < spatial; i++)
        items[i] = attribute->items[0];
    attribute->count = spatial;
    attribute->items = items;
    return SG_OK;
}

static sg_status check_ranks(const sg_call *call) {
    const sg_type *input = call->operands[0], *weight = call->operands[1];
    int spatial = weight->rank - 2;
    if (spatial < 1 || spatial > 3)
        return sg_fail(call->graph->context, SG_INVALID,
                       "%s: weight %s has %d dimensions; [O, C / groups, kernel...] with 1 to 3 "
                       "kernel sizes would be accepted",
                       call->info->name, sg_type_words(call->graph, weight).text, weight->rank);
    if (input->rank != spatial + 1 && input->rank != spatial + 2)
        return sg_fail(call->graph->context, SG_INVALID,
                       "%s: weight %s wants an input of %d dimensions, or %d without a batch, but "
                       "the input is %s",
                       call->info->name, sg_type_words(call->graph, weight).text, spatial + 2,
                       spatial + 1, sg_type_words(call->graph, input).text);
    return SG_OK;
}

static sg_status check_dtypes(const sg_call *call) {
    for (int i = 0; i < 3; i++) {
        if (!call->operands[i])
            continue;
        sg_status status = sg_infer_floating(call, call->operands[i]);
        if (status)
            return status;
        if (call->operands[i]->dtype != call->operands[0]->dtype)
            return sg_fail(call->graph->context, SG_INVALID,
                           "%s: input %s and %s %s differ in dtype; the same would be accepted",
                           call->info->name, sg_type_words(call->graph, call->operands[0]).text,
                           i == 1 ? "weight" : "bias",
                           sg_type_words(call->graph, call->operands[i]).text);
    }
    return SG_OK;
}

static sg_status check_channels(const sg_call *call, sg_dim channels) {
    sg_graph *graph = call->graph;
    const sg_type *weight = call->operands[1], *bias = call->operands[2];
    double number = call->attributes[GROUPS].number;
    int64_t groups = (int64_t)number;
    if (!(number >= 1 && number < (double)INT32_MAX) || (double)groups != number)
        return sg_fail(graph->context, SG_INVALID, "%s: groups must be an integer of at least 1",
                       call->info->name);
    sg_dim wanted = sg_dim_multiply(graph->dims, weight->size[1], groups);
    if (channels != wanted) {
        bool known = sg_dim_is_constant(channels) && sg_dim_is_constant(wanted);
        return sg_fail(
            graph->context, SG_INVALID,
            "%s: weight %s wants %s input channels per group, but the input %s has %s%s%s",
            call->info->name, sg_type_words(graph, weight).text,
            sg_dim_words(graph, weight->size[1]).text, sg_type_words(graph, call->operands[0]).text,
            sg_dim_words(graph, channels).text, groups == 1 ? "" : " over all groups",
            known ? "" : ", which cannot be shown to be equal");
    }
    if (sg_dim_multiply(graph->dims, sg_dim_floor_divide(graph->dims, weight->size[0], groups),
                        groups) != weight->size[0])
        return sg_fail(graph->context, SG_INVALID,
                       "%s: %s output channels of weight %s are not a multiple of %lld groups",
                       call->info->name, sg_dim_words(graph, weight->size[0]).text,
                       sg_type_words(graph, weight).text, (long long)groups);
    if (bias && (bias->rank != 1 || bias->size[0] != weight->size[0]))
        return sg_fail(graph->context, SG_INVALID, "%s: bias %s does not fit weight %s; [%s] would",
                       call->info->name, sg_type_words(graph, bias).text,
                       sg_type_words(graph, weight).text,
                       sg_dim_words(graph, weight->size[0]).text);
    return SG_OK;
}

/* (size + 2 padding - dilation (kernel - 1) - 1) // stride + 1 */
static sg_status output_size(const sg_call *call, int i, sg_dim size, sg_dim *result) {
    sg_dim_table *dims = call->graph->dims;
    sg_dim kernel = call->operands[1]->size[i + 2];
    sg_dim padding = sg_dim_multiply(dims, 2, call->attributes[PADDING].items[i]);
    sg_dim reach = sg_dim_multiply(dims, call->attributes[DILATION].items[i],
                                   sg_dim_subtract(dims, kernel, 1));
    sg_dim last =
        sg_dim_subtract(dims, sg_dim_add(dims, size, padding), sg_dim_add(dims, reach, 1));
    bool empty = sg_dim_is_constant(kernel) && kernel < 1;
    if (empty || (sg_dim_is_constant(last) && last != SG_DIM_INVALID && last < 0))
        return sg_fail(call->graph->context, SG_INVALID,
                       "%s: the kernel of weight %s does not fit into input %s with padding %s",
                       call->info->name, sg_type_words(call->graph, call->operands[1]).text,
                       sg_type_words(call->graph, call->operands[0]).text,
                       sg_dim_words(call->graph, call->attributes[PADDING].items[i]).text);
    *result =
        sg_dim_add(dims, sg_dim_floor_divide(dims, last, call->attributes[STRIDE].items[i]), 1);
    return SG_OK;
}

sg_status sg_infer_convolution(sg_call *call, sg_type *type) {
    sg_status status = check_ranks(call);
    if (!status)
        status = check_dtypes(call);
    const sg_type *input = call->operands[0], *weight = call->operands[1];
    int spatial = weight->rank - 2, batched = input->rank == weight->rank;
    if (!status)
        status = complete(call, STRIDE, spatial, 1);
    if (!status)
        status = complete(call, PADDING, spatial, 0);
    if (!status)
        status = complete(call, DILATION, spatial, 1);
    if (!status)
        status = check_channels(call, input->size[batched]);
    if (status)
        return status;
    type->dtype = input->dtype;
    type->rank = input->rank;
    if (batched)
        type->size[0] = input->size[0];
    type->size[batched] = weight->size[0];
    for (int i = 0; i < spatial && !status; i++)
        status = output_size(call, i, input->size[batched + 1 + i], &type->size[batched + 1 + i]);
    return status;
}
