/* Inference: reductions and softmax. */
#include "ir/infer.h"

/* The least of nothing is not a number; sums and products of nothing are. */
static bool has_identity(sg_op op) {
    return op != SG_OP_amin && op != SG_OP_amax;
}

sg_status sg_infer_reduction(sg_call *call, sg_type *type) {
    const sg_type *operand = call->operands[0];
    unsigned axes;
    sg_status status = sg_infer_floating(call, operand);
    if (!status)
        status = sg_infer_axes(call, operand, &call->attributes[0], &axes);
    if (status)
        return status;
    if (call->attributes[0].count == 0)
        axes = (1u << operand->rank) - 1;
    bool keepdim = call->attributes[1].number != 0;
    type->dtype = operand->dtype;
    for (int i = 0; i < operand->rank; i++) {
        bool reduced = axes & 1u << i;
        if (reduced && operand->size[i] == 0 && !has_identity(call->op))
            return sg_fail(call->graph->context, SG_INVALID,
                           "%s: dimension %d of %s is empty and has no %s; sizes of at least 1 "
                           "would be accepted",
                           call->info->name, i, sg_type_words(call->graph, operand).text,
                           call->op == SG_OP_amin ? "minimum" : "maximum");
        if (!reduced || keepdim)
            type->size[type->rank++] = reduced ? 1 : operand->size[i];
    }
    return SG_OK;
}

sg_status sg_infer_softmax(sg_call *call, sg_type *type) {
    int axis;
    sg_status status = sg_infer_floating(call, call->operands[0]);
    if (!status)
        status = sg_infer_axis(call, call->operands[0], (int64_t)call->attributes[0].number, &axis);
    if (status)
        return status;
    *type = *call->operands[0];
    type->weak = false;
    return SG_OK;
}
