/* Rules: operators of constants alone, and copies. */
#include "ir/reference.h"
#include "opt/rewrite.h"

/* The reference interpreter computes in float64 and the result is rounded once to the node's dtype,
 * which is at least as near as rounding after every step. Python scalars (weak) are float64 in
 * PyTorch as well. */
sg_outcome sg_rule_constant(sg_rewrite *rewrite, sg_draft *draft) {
    double numbers[SG_OPERANDS_MAX], result;
    sg_evaluation e = {.graph = rewrite->to, .result = &result};
    if (sg_op_get(draft->op)->kind != SG_KIND_POINTWISE)
        return SG_RULE_NONE;
    for (int i = 0; i < draft->operand_count; i++) {
        if (!sg_constant_value(rewrite, draft->operands[i], &numbers[i]))
            return SG_RULE_NONE;
        e.types[i] = &rewrite->to->nodes[draft->operands[i]].type;
        e.operands[i] = &numbers[i];
    }
    sg_node node = {.op = draft->op,
                    .operand_count = draft->operand_count,
                    .operands = draft->operands,
                    .type = *draft->type};
    for (int i = 0; i < SG_ATTRIBUTES_MAX; i++)
        node.attributes[i] = draft->attributes[i];
    e.node = &node;
    sg_reference_pointwise(&e);
    bool weak = draft->type->weak;
    draft->replacement = sg_emit_constant(
        rewrite, weak ? result : sg_round_to(draft->type->dtype, result), weak, draft->type->dtype);
    return SG_RULE_REPLACED;
}

/* A copy is its operand: values do not change, so nobody can tell. */
sg_outcome sg_rule_identity(sg_rewrite *rewrite, sg_draft *draft) {
    (void)rewrite;
    draft->replacement = draft->op == SG_OP_identity ? draft->operands[0] : -1;
    return draft->op == SG_OP_identity ? SG_RULE_REPLACED : SG_RULE_NONE;
}

/* Whether every value of one dtype is one of the other. */
static bool holds(sg_dtype wide, sg_dtype narrow) {
    if (wide == narrow || wide == SG_F64 || narrow == SG_BOOL)
        return true;
    return wide == SG_F32 && narrow != SG_F64;
}

/* Casts that change nothing: to the dtype it has, and by way of a dtype that holds every value,
 * where the first rounding is exact. (Half from double rounds by way of float in ATen, so f32 ->
 * f64 -> f16 is f32 -> f16 there too.) */
sg_outcome sg_rule_cast(sg_rewrite *rewrite, sg_draft *draft) {
    if (draft->op != SG_OP_cast)
        return SG_RULE_NONE;
    const sg_node *inner = sg_draft_operand(rewrite, draft, 0);
    sg_dtype to = (sg_dtype)draft->attributes[0].number;
    if (inner->type.dtype == to && !inner->type.weak) {
        draft->replacement = draft->operands[0];
        return SG_RULE_REPLACED;
    }
    if (inner->op != SG_OP_cast)
        return SG_RULE_NONE;
    const sg_type *first = &rewrite->to->nodes[inner->operands[0]].type;
    if (first->weak || !holds(inner->type.dtype, first->dtype))
        return SG_RULE_NONE;
    sg_draft_set(rewrite, draft, SG_OP_cast, inner->operands, 1);
    draft->attributes[0].number = to;
    return SG_RULE_CHANGED;
}
