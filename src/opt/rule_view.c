/* Rules: views. They move no data, so composing them is exact. Everything that keeps the order of
 * elements becomes one reshape to the sizes it results in, everything that does not one permute. */
#include "ir/infer.h"
#include "opt/rewrite.h"

static sg_outcome set_list(sg_rewrite *rewrite, sg_draft *draft, sg_op op, sg_value operand,
                           const sg_dim *items, int count) {
    sg_dim *copy = SG_ARENA_NEW(&rewrite->to->arena, sg_dim, count);
    if (!copy) {
        rewrite->status = sg_fail_memory(rewrite->to->context);
        return SG_RULE_NONE;
    }
    for (int i = 0; i < count; i++)
        copy[i] = items[i];
    sg_draft_set(rewrite, draft, op, &operand, 1);
    draft->attributes[0] = (sg_attribute){.count = count, .items = copy};
    return SG_RULE_CHANGED;
}

static bool is_shape(const sg_attribute *list, const sg_type *type) {
    if (list->count != type->rank)
        return false;
    for (int i = 0; i < type->rank; i++)
        if (list->items[i] != type->size[i])
            return false;
    return true;
}

static bool keeps_order(sg_op op) {
    return sg_op_get(op)->kind == SG_KIND_VIEW && op != SG_OP_permute && op != SG_OP_transpose;
}

static sg_outcome to_reshape(sg_rewrite *rewrite, sg_draft *draft) {
    const sg_node *inner = sg_draft_operand(rewrite, draft, 0);
    bool twice = keeps_order(inner->op);
    sg_value source = twice ? inner->operands[0] : draft->operands[0];
    if (sg_type_equal(&rewrite->to->nodes[source].type, draft->type)) {
        draft->replacement = source;
        return SG_RULE_REPLACED;
    }
    if (!twice && draft->op == SG_OP_reshape && is_shape(&draft->attributes[0], draft->type))
        return SG_RULE_NONE;
    return set_list(rewrite, draft, SG_OP_reshape, source, draft->type->size, draft->type->rank);
}

/* Which axis of the operand each axis of the result is. */
static void order_of(sg_op op, const sg_attribute *attributes, int rank, int *order) {
    int a = 0, b = 0;
    for (int i = 0; i < rank; i++) {
        order[i] = i;
        if (op == SG_OP_permute)
            sg_axis(attributes[0].items[i], rank, &order[i]);
    }
    if (op == SG_OP_transpose && rank > 0) {
        sg_axis((int64_t)attributes[0].number, rank, &a);
        sg_axis((int64_t)attributes[1].number, rank, &b);
        order[a] = b;
        order[b] = a;
    }
}

/* A permutation that only moves axes of size 1 keeps the order of elements. */
static bool moves_nothing(const int *order, const sg_type *operand) {
    int last = -1;
    for (int i = 0; i < operand->rank; i++) {
        if (operand->size[order[i]] == 1)
            continue;
        if (order[i] < last)
            return false;
        last = order[i];
    }
    return true;
}

static sg_outcome to_permute(sg_rewrite *rewrite, sg_draft *draft) {
    const sg_node *inner = sg_draft_operand(rewrite, draft, 0);
    int rank = draft->type->rank, order[SG_RANK_MAX] = {0}, before[SG_RANK_MAX];
    bool twice = inner->op == SG_OP_permute || inner->op == SG_OP_transpose;
    sg_value source = twice ? inner->operands[0] : draft->operands[0];
    sg_dim items[SG_RANK_MAX];
    order_of(draft->op, draft->attributes, rank, order);
    order_of(twice ? inner->op : SG_OP_COUNT, inner->attributes, rank, before);
    bool normal = !twice && draft->op == SG_OP_permute;
    for (int i = 0; i < rank; i++) {
        order[i] = before[order[i]];
        items[i] = order[i];
        normal = normal && draft->attributes[0].items[i] == items[i];
    }
    if (moves_nothing(order, &rewrite->to->nodes[source].type))
        return set_list(rewrite, draft, SG_OP_reshape, source, draft->type->size, rank);
    return normal ? SG_RULE_NONE : set_list(rewrite, draft, SG_OP_permute, source, items, rank);
}

sg_outcome sg_rule_view(sg_rewrite *rewrite, sg_draft *draft) {
    if (sg_op_get(draft->op)->kind != SG_KIND_VIEW)
        return SG_RULE_NONE;
    return keeps_order(draft->op) ? to_reshape(rewrite, draft) : to_permute(rewrite, draft);
}
