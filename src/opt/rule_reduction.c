/* Rules: amin(f(x)) is f(amin(x)) for a monotone f, which then runs once per result and not once
 * per element. (Which of several zeros of different sign is the least, ATen leaves to the order in
 * which they are met.)
 *
 * The function that counts is the computed one. It is monotone where it is exact (the table's ulp
 * is 0) or is one correctly rounded operation with a constant, because rounding is monotone: x * c,
 * x + c, x / c and casts. A computed tanh or exp is monotone only up to its error, so it stays
 * where it is. NaN must come out exactly where it went in: the constants are finite, and those of a
 * product are far from zero and overflow in every dtype, so that no infinity turns into NaN. */
#include <math.h>

#include "opt/rewrite.h"

/* Safe in f16, whichever way the host rounds the constant. */
static bool moderate(double c) {
    return fabs(c) >= 0x1p-14 && fabs(c) <= 0x1p15;
}

static double one_of(bool falling) {
    return falling ? -1 : 1;
}

/* Direction of x op c, or c op x where swapped: 1 rising, -1 falling, 0 unknown. */
static double direction_with(const sg_node *f, double c, bool swapped) {
    bool small = fabs(c) <= 0x1p15; /* false for NaN */
    double alpha = f->attributes[0].number;
    switch (f->op) {
    case SG_OP_mul:
        return moderate(c) ? one_of(c < 0) : 0;
    case SG_OP_div: /* c / x jumps at 0 */
        return moderate(c) && !swapped ? one_of(c < 0) : 0;
    case SG_OP_add:
        return small && alpha == 1 ? 1 : 0;
    case SG_OP_sub:
        return small && alpha == 1 ? one_of(swapped) : 0;
    case SG_OP_minimum:
    case SG_OP_maximum:
        return isnan(c) ? 0 : 1;
    default:
        return 0;
    }
}

static bool has_nan(const sg_node *f) {
    for (int i = 0; i < sg_op_get(f->op)->attribute_count; i++)
        if (isnan(f->attributes[i].number))
            return true;
    return false;
}

/* Direction of f as a function of one operand, *x, the others being constants. */
static double direction(const sg_rewrite *rewrite, const sg_node *f, int *x) {
    const sg_op_info *info = sg_op_get(f->op);
    double c;
    *x = 0;
    if (info->kind != SG_KIND_POINTWISE || f->operand_count > 2)
        return 0;
    if (f->operand_count == 1) {
        if (f->op == SG_OP_neg)
            return -1;
        if (f->op == SG_OP_cast)
            return 1;
        return info->algebra & SG_MONOTONE && info->ulp == 0 && !has_nan(f) ? 1 : 0;
    }
    if (sg_constant_value(rewrite, f->operands[1], &c))
        return direction_with(f, c, false);
    *x = 1;
    return sg_constant_value(rewrite, f->operands[0], &c) ? direction_with(f, c, true) : 0;
}

sg_outcome sg_rule_reduction(sg_rewrite *rewrite, sg_draft *draft) {
    int x;
    if (draft->op != SG_OP_amin && draft->op != SG_OP_amax)
        return SG_RULE_NONE;
    /* By value: emitting moves the nodes. */
    const sg_node f = *sg_draft_operand(rewrite, draft, 0);
    double rising = direction(rewrite, &f, &x);
    if (rising == 0 || !sg_used_once(rewrite, draft, 0))
        return SG_RULE_NONE;
    /* The reduction may only move past f, not past f's broadcasting or its change from bool. */
    const sg_type *operand = &rewrite->to->nodes[f.operands[x]].type;
    if (operand->rank != f.type.rank || operand->rank == 0 || !sg_dtype_floating(operand->dtype))
        return SG_RULE_NONE;
    sg_op least = rising > 0 ? draft->op : draft->op == SG_OP_amin ? SG_OP_amax : SG_OP_amin;
    sg_value reduced = sg_emit(rewrite, rewrite->to->nodes[f.operands[x]].name, least,
                               &f.operands[x], 1, draft->attributes);
    if (reduced < 0)
        return SG_RULE_NONE;
    sg_value operands[2] = {reduced, reduced};
    if (f.operand_count == 2)
        operands[1 - x] = f.operands[1 - x];
    sg_draft_set(rewrite, draft, f.op, operands, f.operand_count);
    for (int i = 0; i < SG_ATTRIBUTES_MAX; i++)
        draft->attributes[i] = f.attributes[i];
    return SG_RULE_CHANGED;
}
