/* Rules: arithmetic with constants, powers, and one operator after itself. A constant is compared
 * by bits, as -0.0 and 0.0 act differently. A rule that drops a constant operand relies on the
 * driver to see that the constant did not change the dtype or the rank. */
#include <math.h>

#include "opt/rewrite.h"

static sg_outcome replace(sg_draft *draft, sg_value value) {
    draft->replacement = value;
    return SG_RULE_REPLACED;
}

static sg_outcome swap_operands(sg_rewrite *rewrite, sg_draft *draft, sg_op op) {
    double alpha = draft->attributes[0].number;
    bool scaled = sg_op_get(op)->attribute_count > 0;
    sg_value swapped[] = {draft->operands[1], draft->operands[0]};
    sg_draft_set(rewrite, draft, op, swapped, 2);
    if (scaled)
        draft->attributes[0].number = alpha;
    return SG_RULE_CHANGED;
}

static sg_outcome set_unary(sg_rewrite *rewrite, sg_draft *draft, sg_op op, sg_value operand) {
    sg_draft_set(rewrite, draft, op, &operand, 1);
    return SG_RULE_CHANGED;
}

/* x^n for the Python exponents that PyTorch itself computes in other ways
 * (aten/src/ATen/native/cpu/ PowKernel.cpp, cuda/PowKernel.cu), and x * x. */
sg_outcome sg_rule_power(sg_rewrite *rewrite, sg_draft *draft) {
    sg_value x = draft->operand_count ? draft->operands[0] : -1;
    if (draft->op == SG_OP_square) {
        sg_draft_set(rewrite, draft, SG_OP_mul, (sg_value[]){x, x}, 2);
        return SG_RULE_CHANGED;
    }
    double exponent;
    if (draft->op != SG_OP_pow || !sg_constant_value(rewrite, draft->operands[1], &exponent) ||
        !sg_draft_operand(rewrite, draft, 1)->type.weak)
        return SG_RULE_NONE;
    if (exponent == 1)
        return replace(draft, x);
    if (exponent == 2) {
        sg_draft_set(rewrite, draft, SG_OP_mul, (sg_value[]){x, x}, 2);
        return SG_RULE_CHANGED;
    }
    if (exponent == 3) {
        sg_value square = sg_emit(rewrite, draft->name, SG_OP_mul, (sg_value[]){x, x}, 2, NULL);
        sg_draft_set(rewrite, draft, SG_OP_mul, (sg_value[]){square, x}, 2);
        return SG_RULE_CHANGED;
    }
    /* The roots take -inf to NaN and -0.0 to -0.0 where pow does not: so does PyTorch. */
    if (exponent == 0.5 || exponent == -0.5 || exponent == -1)
        return set_unary(rewrite, draft,
                         exponent == -1    ? SG_OP_reciprocal
                         : exponent == 0.5 ? SG_OP_sqrt
                                           : SG_OP_rsqrt,
                         x);
    return SG_RULE_NONE;
}

/* x + alpha c and x - alpha c, with alpha c taken as one number where that is exact. seen is c in
 * the precision of the operation. */
static sg_outcome add_constant(sg_rewrite *rewrite, sg_draft *draft, double seen) {
    double alpha = draft->attributes[0].number, sign = draft->op == SG_OP_sub ? -1 : 1, c = seen;
    /* x + -0.0 is x, for x = -0.0 and 0.0 too; x + 0.0 is not. */
    if (sg_same_number(sign * alpha * seen, -0.0) && (alpha == 0 || seen == 0))
        return replace(draft, draft->operands[0]);
    if (draft->op == SG_OP_add && alpha == 1)
        return SG_RULE_NONE;
    sg_constant_value(rewrite, draft->operands[1], &c);
    /* x - c is x + -c in IEEE arithmetic. A product takes part only when float32 holds it and both
     * factors, so that nothing is rounded that was not. */
    double scaled = sign * alpha * c;
    bool exact = isfinite(scaled) && (float)alpha == alpha && (float)c == c &&
                 (float)scaled == scaled && (scaled != 0 || alpha == 0 || c == 0);
    if (!exact && alpha != 1)
        return SG_RULE_NONE;
    const sg_type *type = &sg_draft_operand(rewrite, draft, 1)->type;
    sg_value constant = sg_emit_constant(rewrite, scaled, type->weak, type->dtype);
    sg_draft_set(rewrite, draft, SG_OP_add, (sg_value[]){draft->operands[0], constant}, 2);
    return SG_RULE_CHANGED;
}

/* Division by a power of two is multiplication by its inverse: both round the same real number. The
 * inverse must be a normal number of every dtype. */
static sg_outcome divide_by_constant(sg_rewrite *rewrite, sg_draft *draft, double c) {
    int exponent;
    if (c == 1)
        return replace(draft, draft->operands[0]);
    if (fabs(frexp(c, &exponent)) != 0.5 || exponent < -12 || exponent > 12)
        return SG_RULE_NONE;
    const sg_type *type = &sg_draft_operand(rewrite, draft, 1)->type;
    sg_value inverse = sg_emit_constant(rewrite, 1 / c, type->weak, type->dtype);
    sg_draft_set(rewrite, draft, SG_OP_mul, (sg_value[]){draft->operands[0], inverse}, 2);
    return SG_RULE_CHANGED;
}

/* An operator of two operands, one a constant. */
sg_outcome sg_rule_scalar(sg_rewrite *rewrite, sg_draft *draft) {
    double c;
    if (draft->op == SG_OP_rsub) /* b - alpha a, by definition */
        return swap_operands(rewrite, draft, SG_OP_sub);
    if (draft->operand_count != 2 || sg_op_get(draft->op)->kind != SG_KIND_POINTWISE)
        return SG_RULE_NONE;
    if (!sg_constant_operand(rewrite, draft, 1, &c)) {
        bool commutes = sg_op_get(draft->op)->algebra & SG_COMMUTES;
        bool plain_add = draft->op == SG_OP_add && draft->attributes[0].number == 1;
        /* The constant to the right. Not a zero: minimum and maximum return the first of 0.0 and
         * -0.0. */
        if ((commutes || plain_add) && sg_constant_operand(rewrite, draft, 0, &c) && c != 0)
            return swap_operands(rewrite, draft, draft->op);
        return SG_RULE_NONE;
    }
    switch (draft->op) {
    case SG_OP_add:
    case SG_OP_sub:
        return add_constant(rewrite, draft, c);
    case SG_OP_mul:
        if (c == 1)
            return replace(draft, draft->operands[0]);
        return c == -1 ? set_unary(rewrite, draft, SG_OP_neg, draft->operands[0]) : SG_RULE_NONE;
    case SG_OP_div:
        return divide_by_constant(rewrite, draft, c);
    case SG_OP_minimum: /* a bound that bounds nothing; NaN passes either way */
        return c == INFINITY ? replace(draft, draft->operands[0]) : SG_RULE_NONE;
    case SG_OP_maximum:
        return c == -INFINITY ? replace(draft, draft->operands[0]) : SG_RULE_NONE;
    default:
        return SG_RULE_NONE;
    }
}

/* A clamp with one bound is a minimum or a maximum; NaN passes either way. */
static sg_outcome clamp_one_side(sg_rewrite *rewrite, sg_draft *draft) {
    double least = draft->attributes[0].number, most = draft->attributes[1].number;
    if (least == -INFINITY && most == INFINITY)
        return replace(draft, draft->operands[0]);
    const sg_dtype dtype = sg_draft_operand(rewrite, draft, 0)->type.dtype;
    if ((least != -INFINITY && most != INFINITY) || dtype == SG_BOOL)
        return SG_RULE_NONE;
    sg_value bound = sg_emit_constant(rewrite, least == -INFINITY ? most : least, true, dtype);
    sg_draft_set(rewrite, draft, least == -INFINITY ? SG_OP_minimum : SG_OP_maximum,
                 (sg_value[]){draft->operands[0], bound}, 2);
    return SG_RULE_CHANGED;
}

/* One operand: f(f(x)), and signs. */
sg_outcome sg_rule_unary(sg_rewrite *rewrite, sg_draft *draft) {
    const sg_op_info *info = sg_op_get(draft->op);
    if (info->kind != SG_KIND_POINTWISE || draft->operand_count != 1)
        return SG_RULE_NONE;
    const sg_node *inner = sg_draft_operand(rewrite, draft, 0);
    /* The table says which f leave their own results alone. */
    if (info->algebra & SG_IDEMPOTENT && inner->op == draft->op &&
        sg_same_attributes(info, draft->attributes, inner->attributes))
        return replace(draft, draft->operands[0]);
    /* neg flips the sign bit, abs clears it: both exact. */
    if (draft->op == SG_OP_neg && inner->op == SG_OP_neg)
        return replace(draft, inner->operands[0]);
    if (draft->op == SG_OP_abs && inner->op == SG_OP_neg)
        return set_unary(rewrite, draft, SG_OP_abs, inner->operands[0]);
    return draft->op == SG_OP_clamp ? clamp_one_side(rewrite, draft) : SG_RULE_NONE;
}

/* min(min(x, c1), c2) is min(x, min(c1, c2)), and so for max: picking the least of three numbers
 * does not depend on the order, nor on rounding the constants before or after. A NaN among the
 * constants makes the result NaN either way. Two zeros of different sign are left alone. */
sg_outcome sg_rule_bound(sg_rewrite *rewrite, sg_draft *draft) {
    double outer, inner;
    if (draft->op != SG_OP_minimum && draft->op != SG_OP_maximum)
        return SG_RULE_NONE;
    const sg_node *node = sg_draft_operand(rewrite, draft, 0);
    if (node->op != draft->op || !sg_constant_value(rewrite, draft->operands[1], &outer) ||
        !sg_constant_value(rewrite, node->operands[1], &inner))
        return SG_RULE_NONE;
    const sg_type *a = &rewrite->to->nodes[draft->operands[1]].type;
    const sg_type *b = &rewrite->to->nodes[node->operands[1]].type;
    if (!sg_type_equal(a, b) || (outer == inner && !sg_same_number(outer, inner)))
        return SG_RULE_NONE;
    bool first = isnan(inner) || (draft->op == SG_OP_minimum ? inner <= outer : inner >= outer);
    sg_value constant = first ? node->operands[1] : draft->operands[1];
    sg_draft_set(rewrite, draft, draft->op, (sg_value[]){node->operands[0], constant}, 2);
    return SG_RULE_CHANGED;
}
