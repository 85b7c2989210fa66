/* Inference: pointwise operators, and what all kinds share. */
#include "ir/infer.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static sg_words words(sg_text *text) {
    sg_words words = {{0}};
    snprintf(words.text, sizeof words.text, "%s", text->data ? text->data : "?");
    sg_text_release(text);
    return words;
}

void sg_type_print(const sg_graph *graph, const sg_type *type, sg_text *text) {
    sg_text_add(text, "%s", sg_dtype_name(type->dtype));
    if (type->dtype == SG_OPAQUE)
        return;
    sg_text_add(text, "[");
    for (int i = 0; i < type->rank; i++) {
        sg_text_add(text, i ? ", " : "");
        sg_dim_print(graph->dims, type->size[i], text);
    }
    sg_text_add(text, "]");
}

sg_words sg_type_words(const sg_graph *graph, const sg_type *type) {
    sg_text text = {0};
    sg_type_print(graph, type, &text);
    return words(&text);
}

sg_words sg_dim_words(const sg_graph *graph, sg_dim dim) {
    sg_text text = {0};
    sg_dim_print(graph->dims, dim, &text);
    return words(&text);
}

sg_status sg_type_check(sg_graph *graph, const char *op_name, const sg_type *type) {
    if (type->rank < 0 || type->rank > SG_RANK_MAX)
        return sg_fail(graph->context, SG_INVALID, "%s: rank %d is not within 0 to %d", op_name,
                       type->rank, SG_RANK_MAX);
    /* Bytes, of the sizes that are known; a zero among them makes all others harmless. */
    sg_dim bytes = sg_dtype_size(type->dtype);
    for (int i = 0; i < type->rank; i++) {
        sg_dim size = type->size[i];
        if (size == SG_DIM_INVALID)
            return sg_fail(graph->context, SG_INVALID,
                           "%s: size of dimension %d of %s is too large a number or expression",
                           op_name, i, sg_type_words(graph, type).text);
        if (sg_dim_is_constant(size) && size < 0)
            return sg_fail(graph->context, SG_INVALID, "%s: size %lld of dimension %d is negative",
                           op_name, (long long)size, i);
        if (size == 0)
            return SG_OK;
    }
    for (int i = 0; i < type->rank; i++)
        if (sg_dim_is_constant(type->size[i]))
            bytes = sg_dim_multiply(graph->dims, bytes, type->size[i]);
    if (bytes == SG_DIM_INVALID)
        return sg_fail(graph->context, SG_INVALID,
                       "%s: the number of bytes of %s leaves the 64-bit range", op_name,
                       sg_type_words(graph, type).text);
    return SG_OK;
}

bool sg_axis(int64_t dim, int rank, int *axis) {
    int range = rank ? rank : 1;
    *axis = 0;
    if (dim < -range || dim >= range)
        return false;
    *axis = (int)(dim < 0 ? dim + range : dim);
    return true;
}

sg_status sg_infer_axis(const sg_call *call, const sg_type *operand, int64_t dim, int *axis) {
    if (sg_axis(dim, operand->rank, axis))
        return SG_OK;
    int range = operand->rank ? operand->rank : 1;
    return sg_fail(call->graph->context, SG_INVALID,
                   "%s: dim %s is out of range for %s; %d to %d would be accepted",
                   call->info->name, sg_dim_words(call->graph, dim).text,
                   sg_type_words(call->graph, operand).text, -range, range - 1);
}

sg_status sg_infer_axes(const sg_call *call, const sg_type *operand, const sg_attribute *list,
                        unsigned *axes) {
    *axes = 0;
    for (int i = 0; i < list->count; i++) {
        int axis;
        sg_status status = sg_infer_axis(call, operand, list->items[i], &axis);
        if (status)
            return status;
        if (*axes & 1u << axis)
            return sg_fail(call->graph->context, SG_INVALID,
                           "%s: dimension %d of %s is listed twice", call->info->name, axis,
                           sg_type_words(call->graph, operand).text);
        *axes |= 1u << axis;
    }
    return SG_OK;
}

sg_status sg_infer_floating(const sg_call *call, const sg_type *operand) {
    if (sg_dtype_floating(operand->dtype))
        return SG_OK;
    return sg_fail(call->graph->context, SG_INVALID,
                   "%s: operand %s is not floating; f16, bf16, f32 and f64 would be accepted",
                   call->info->name, sg_type_words(call->graph, operand).text);
}

/* ---- pointwise ----------------------------------------------------------------------------- */

/* Broadcasts one more operand into type, whose sizes so far came from the operands before it. */
static sg_status broadcast(const sg_call *call, const sg_type *operand, sg_type *type) {
    int rank = operand->rank > type->rank ? operand->rank : type->rank;
    sg_type joined = {.dtype = type->dtype, .rank = rank};
    for (int i = 0; i < rank; i++) {
        int left = i - (rank - type->rank), right = i - (rank - operand->rank);
        sg_dim a = left < 0 ? 1 : type->size[left], b = right < 0 ? 1 : operand->size[right];
        joined.size[i] = a == 1 ? b : a;
        if (a == b || a == 1 || b == 1)
            continue;
        bool known = sg_dim_is_constant(a) && sg_dim_is_constant(b);
        return sg_fail(call->graph->context, SG_INVALID,
                       "%s: %s and %s do not broadcast, as %s and %s %s", call->info->name,
                       sg_type_words(call->graph, type).text,
                       sg_type_words(call->graph, operand).text, sg_dim_words(call->graph, a).text,
                       sg_dim_words(call->graph, b).text,
                       known ? "differ and neither is 1" : "cannot be shown to be equal");
    }
    *type = joined;
    return SG_OK;
}

static sg_status expect_bool(const sg_call *call, int index) {
    if (call->operands[index]->dtype == SG_BOOL)
        return SG_OK;
    return sg_fail(call->graph->context, SG_INVALID,
                   "%s: operand %d, the condition, is %s; bool would be accepted", call->info->name,
                   index, sg_type_words(call->graph, call->operands[index]).text);
}

/* ATen fills in the dtype of self with one number. */
static sg_status masked_dtype(const sg_call *call, sg_type *type) {
    const sg_type *self = call->operands[0], *value = call->operands[2];
    assert(self && value);
    sg_status status = expect_bool(call, 1);
    if (status)
        return status;
    if (value->rank != 0)
        return sg_fail(call->graph->context, SG_INVALID,
                       "%s: value %s is not a single number; rank 0 would be accepted",
                       call->info->name, sg_type_words(call->graph, value).text);
    if (self->dtype == SG_BOOL && value->dtype != SG_BOOL)
        return sg_fail(call->graph->context, SG_INVALID,
                       "%s: value %s cannot be cast to bool, the dtype of %s", call->info->name,
                       sg_type_words(call->graph, value).text,
                       sg_type_words(call->graph, self).text);
    type->dtype = self->dtype;
    return SG_OK;
}

static sg_status cast_dtype(const sg_call *call, sg_type *type) {
    double dtype = call->attributes[0].number;
    if (!(dtype >= SG_BOOL && dtype < SG_OPAQUE))
        return sg_fail(call->graph->context, SG_INVALID,
                       "%s: attribute dtype must be one of bool, f16, bf16, f32, f64",
                       call->info->name);
    type->dtype = (sg_dtype)dtype;
    return SG_OK;
}

static sg_status result_dtype(const sg_call *call, sg_type *type) {
    if (call->op == SG_OP_cast)
        return cast_dtype(call, type);
    switch (call->info->result) {
    case SG_RESULT_BOOL:
        type->dtype = SG_BOOL;
        return SG_OK;
    case SG_RESULT_SELECT:
        type->dtype = sg_promote_all(call->operands + 1, call->count - 1);
        return expect_bool(call, 0);
    case SG_RESULT_MASK:
        return masked_dtype(call, type);
    case SG_RESULT_SAME:
        break;
    }
    type->dtype = sg_promote_all(call->operands, call->count);
    if (call->op == SG_OP_identity || sg_dtype_floating(type->dtype))
        return SG_OK;
    return sg_infer_floating(call, call->operands[0]);
}

sg_status sg_infer_pointwise(sg_call *call, sg_type *type) {
    assert(call->count > 0);
    for (int i = 0; i < call->count; i++)
        assert(call->operands[i]); /* only a bias may be left out */
    sg_status status = result_dtype(call, type);
    if (status)
        return status;
    /* Arithmetic among Python scalars gives a Python scalar. */
    bool weak = call->info->result == SG_RESULT_SAME && call->op != SG_OP_cast;
    assert(call->operands[0]);
    sg_type joined = *call->operands[0];
    for (int i = 0; i < call->count; i++) {
        weak = weak && call->operands[i]->weak;
        status = broadcast(call, call->operands[i], &joined);
        if (status)
            return status;
    }
    joined.dtype = type->dtype;
    joined.weak = weak;
    *type = joined;
    return SG_OK;
}

/* ---- dispatch ------------------------------------------------------------------------------ */

static sg_status infer_constant(const sg_call *call, sg_type *type) {
    type->weak = call->attributes[1].number != 0;
    type->dtype = SG_F32; /* the default dtype; sg_graph_append may say otherwise */
    return SG_OK;
}

static sg_status infer_kind(sg_call *call, sg_type *type) {
    switch (call->info->kind) {
    case SG_KIND_LEAF:
        if (call->op == SG_OP_constant)
            return infer_constant(call, type);
        return sg_fail(call->graph->context, SG_INVALID, "%s: the type cannot be inferred",
                       call->info->name);
    case SG_KIND_CONTRACTION:
        return sg_infer_convolution(call, type);
    case SG_KIND_POINTWISE:
        return sg_infer_pointwise(call, type);
    case SG_KIND_REDUCTION:
        return sg_infer_reduction(call, type);
    case SG_KIND_SOFTMAX:
        return sg_infer_softmax(call, type);
    case SG_KIND_VIEW:
        return sg_infer_view(call, type);
    }
    return SG_INVALID;
}

sg_status sg_infer(sg_graph *graph, sg_op op, const sg_value *operands, int operand_count,
                   sg_attribute *attributes, sg_type *type) {
    sg_call call = {.graph = graph,
                    .op = op,
                    .info = sg_op_get(op),
                    .count = operand_count,
                    .attributes = attributes};
    for (int i = 0; i < operand_count && i < SG_OPERANDS_MAX; i++) {
        call.operands[i] = operands[i] < 0 ? NULL : &graph->nodes[operands[i]].type;
        if (call.operands[i] && call.operands[i]->dtype == SG_OPAQUE)
            return sg_fail(graph->context, SG_INVALID,
                           "%s: operand %d is opaque, which only foreign accepts", call.info->name,
                           i);
    }
    sg_type result = {0};
    sg_status status = infer_kind(&call, &result);
    if (!status)
        status = sg_type_check(graph, call.info->name, &result);
    if (!status)
        *type = result;
    return status;
}
