/* Inference: views, which move no data. */
#include "ir/infer.h"

static sg_dim element_count(sg_graph *graph, const sg_type *type, int first, int last) {
    sg_dim count = 1;
    for (int i = first; i <= last; i++)
        count = sg_dim_multiply(graph->dims, count, type->size[i]);
    return count;
}

static sg_status rank_error(const sg_call *call, int rank) {
    return sg_fail(call->graph->context, SG_INVALID,
                   "%s: the result would have %d dimensions; at most %d would be accepted",
                   call->info->name, rank, SG_RANK_MAX);
}

/* Fills in the one size that is -1. */
static sg_status complete_shape(const sg_call *call, sg_type *type, int hole, sg_dim total) {
    sg_graph *graph = call->graph;
    const sg_type *operand = call->operands[0];
    sg_dim others = 1;
    for (int i = 0; i < type->rank; i++)
        if (i != hole)
            others = sg_dim_multiply(graph->dims, others, type->size[i]);
    if (others == 0)
        return sg_fail(graph->context, SG_INVALID,
                       "%s: the size -1 can be anything, as the others multiply to 0 for %s",
                       call->info->name, sg_type_words(graph, operand).text);
    type->size[hole] = sg_dim_floor_divide(graph->dims, total, others);
    if (total == SG_DIM_INVALID || sg_dim_multiply(graph->dims, type->size[hole], others) == total)
        return SG_OK;
    return sg_fail(
        graph->context, SG_INVALID, "%s: the number of elements of %s %s a multiple of %s",
        call->info->name, sg_type_words(graph, operand).text,
        sg_dim_is_constant(total) && sg_dim_is_constant(others) ? "is not"
                                                                : "cannot be shown to be",
        sg_dim_words(graph, others).text);
}

static sg_status infer_reshape(const sg_call *call, sg_type *type) {
    sg_graph *graph = call->graph;
    const sg_type *operand = call->operands[0];
    const sg_attribute *shape = &call->attributes[0];
    int hole = -1;
    if (shape->count > SG_RANK_MAX)
        return rank_error(call, shape->count);
    type->rank = shape->count;
    for (int i = 0; i < type->rank; i++) {
        type->size[i] = shape->items[i];
        if (!sg_dim_is_constant(shape->items[i]) || shape->items[i] >= 0)
            continue;
        if (hole >= 0 || shape->items[i] != -1)
            return sg_fail(graph->context, SG_INVALID,
                           "%s: size %s of dimension %d; only one -1 and sizes of at least 0 would "
                           "be accepted",
                           call->info->name, sg_dim_words(graph, shape->items[i]).text, i);
        hole = i;
    }
    sg_dim total = element_count(graph, operand, 0, operand->rank - 1);
    sg_status status = hole >= 0 ? complete_shape(call, type, hole, total) : SG_OK;
    sg_dim count = element_count(graph, type, 0, type->rank - 1);
    if (status || (count == total && total != SG_DIM_INVALID))
        return status;
    bool known = sg_dim_is_constant(count) && sg_dim_is_constant(total);
    return sg_fail(graph->context, SG_INVALID, "%s: the numbers of elements of %s and %s %s",
                   call->info->name, sg_type_words(graph, operand).text,
                   sg_type_words(graph, type).text,
                   known ? "differ" : "cannot be shown to be equal");
}

static sg_status infer_flatten(const sg_call *call, sg_type *type) {
    const sg_type *operand = call->operands[0];
    int first, last;
    sg_status status = sg_infer_axis(call, operand, (int64_t)call->attributes[0].number, &first);
    if (!status)
        status = sg_infer_axis(call, operand, (int64_t)call->attributes[1].number, &last);
    if (status)
        return status;
    if (first > last)
        return sg_fail(call->graph->context, SG_INVALID,
                       "%s: start_dim %d comes after end_dim %d of %s", call->info->name, first,
                       last, sg_type_words(call->graph, operand).text);
    if (operand->rank == 0) {
        type->rank = 1;
        type->size[0] = 1;
        return SG_OK;
    }
    for (int i = 0; i < first; i++)
        type->size[type->rank++] = operand->size[i];
    type->size[type->rank++] = element_count(call->graph, operand, first, last);
    for (int i = last + 1; i < operand->rank; i++)
        type->size[type->rank++] = operand->size[i];
    return SG_OK;
}

/* The rank of the result must not hang on a size that is not known. */
static sg_status infer_squeeze(const sg_call *call, sg_type *type) {
    const sg_type *operand = call->operands[0];
    unsigned axes;
    sg_status status = sg_infer_axes(call, operand, &call->attributes[0], &axes);
    if (status)
        return status;
    if (call->attributes[0].count == 0)
        axes = (1u << operand->rank) - 1;
    for (int i = 0; i < operand->rank; i++) {
        bool asked = axes & 1u << i;
        if (asked && !sg_dim_is_constant(operand->size[i]))
            return sg_fail(call->graph->context, SG_INVALID,
                           "%s: size %s of dimension %d of %s cannot be shown to be 1, nor not to "
                           "be; dimensions of known size would be accepted",
                           call->info->name, sg_dim_words(call->graph, operand->size[i]).text, i,
                           sg_type_words(call->graph, operand).text);
        if (!asked || operand->size[i] != 1)
            type->size[type->rank++] = operand->size[i];
    }
    return SG_OK;
}

static sg_status infer_unsqueeze(const sg_call *call, sg_type *type) {
    const sg_type *operand = call->operands[0];
    int64_t dim = (int64_t)call->attributes[0].number;
    int axis;
    if (operand->rank == SG_RANK_MAX)
        return rank_error(call, operand->rank + 1);
    if (!sg_axis(dim, operand->rank + 1, &axis))
        return sg_fail(call->graph->context, SG_INVALID,
                       "%s: dim %lld is out of range for %s; %d to %d would be accepted",
                       call->info->name, (long long)dim, sg_type_words(call->graph, operand).text,
                       -operand->rank - 1, operand->rank);
    type->rank = operand->rank + 1;
    for (int i = 0; i < type->rank; i++)
        type->size[i] = i == axis ? 1 : operand->size[i - (i > axis)];
    return SG_OK;
}

static sg_status infer_permute(const sg_call *call, sg_type *type) {
    const sg_type *operand = call->operands[0];
    const sg_attribute *order = &call->attributes[0];
    unsigned axes;
    if (order->count != operand->rank)
        return sg_fail(call->graph->context, SG_INVALID,
                       "%s: dims has %d entries, but %s has %d dimensions", call->info->name,
                       order->count, sg_type_words(call->graph, operand).text, operand->rank);
    sg_status status = sg_infer_axes(call, operand, order, &axes);
    if (status)
        return status;
    type->rank = operand->rank;
    for (int i = 0; i < type->rank; i++) {
        int axis;
        sg_axis(order->items[i], type->rank, &axis);
        type->size[i] = operand->size[axis];
    }
    return SG_OK;
}

static sg_status infer_transpose(const sg_call *call, sg_type *type) {
    const sg_type *operand = call->operands[0];
    int a, b;
    sg_status status = sg_infer_axis(call, operand, (int64_t)call->attributes[0].number, &a);
    if (!status)
        status = sg_infer_axis(call, operand, (int64_t)call->attributes[1].number, &b);
    if (status)
        return status;
    *type = *operand;
    type->weak = false;
    if (operand->rank == 0)
        return SG_OK;
    type->size[a] = operand->size[b];
    type->size[b] = operand->size[a];
    return SG_OK;
}

sg_status sg_infer_view(sg_call *call, sg_type *type) {
    type->dtype = call->operands[0]->dtype;
    switch (call->op) {
    case SG_OP_reshape:
        return infer_reshape(call, type);
    case SG_OP_flatten:
        return infer_flatten(call, type);
    case SG_OP_squeeze:
        return infer_squeeze(call, type);
    case SG_OP_unsqueeze:
        return infer_unsqueeze(call, type);
    case SG_OP_permute:
        return infer_permute(call, type);
    case SG_OP_transpose:
        return infer_transpose(call, type);
    default:
        return sg_fail(call->graph->context, SG_INVALID, "%s: no shape rule", call->info->name);
    }
}
