/* What rules are written with, and the table of equal computations. */
#include "opt/rewrite.h"

#include <stdio.h>
#include <string.h>

#include "ir/reference.h"

const sg_node *sg_draft_operand(const sg_rewrite *rewrite, const sg_draft *draft, int index) {
    return &rewrite->to->nodes[draft->operands[index]];
}

static void default_attributes(const sg_op_info *info, sg_attribute *attributes) {
    for (int i = 0; i < info->attribute_count; i++)
        attributes[i] = (sg_attribute){.number = info->attributes[i].initial};
}

void sg_draft_set(sg_rewrite *rewrite, sg_draft *draft, sg_op op, const sg_value *operands,
                  int count) {
    sg_value *copy = SG_ARENA_NEW(&rewrite->to->arena, sg_value, count);
    if (!copy) {
        rewrite->status = sg_fail_memory(rewrite->to->context);
        return;
    }
    memcpy(copy, operands, sizeof *copy * (size_t)count);
    draft->op = op;
    draft->operands = copy;
    draft->operand_count = count;
    default_attributes(sg_op_get(op), draft->attributes);
}

bool sg_same_number(double a, double b) {
    return memcmp(&a, &b, sizeof a) == 0;
}

bool sg_same_attributes(const sg_op_info *info, const sg_attribute *a, const sg_attribute *b) {
    for (int i = 0; i < info->attribute_count; i++) {
        if (!sg_same_number(a[i].number, b[i].number) || a[i].count != b[i].count)
            return false;
        for (int j = 0; j < a[i].count; j++)
            if (a[i].items[j] != b[i].items[j])
                return false;
    }
    return true;
}

/* ---- equal computations -------------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static unsigned hash_node(const sg_node *node) {
    uint64_t hash = (uint64_t)node->op;
    for (int i = 0; i < node->operand_count; i++)
        hash = mix(hash, (uint64_t)node->operands[i]);
    for (int i = 0; i < sg_op_get(node->op)->attribute_count; i++) {
        uint64_t bits;
        memcpy(&bits, &node->attributes[i].number, sizeof bits);
        hash = mix(hash, bits);
        for (int j = 0; j < node->attributes[i].count; j++)
            hash = mix(hash, (uint64_t)node->attributes[i].items[j]);
    }
    return (unsigned)(hash >> 32);
}

static bool same_node(const sg_node *a, const sg_node *b) {
    return a->op == b->op && a->operand_count == b->operand_count &&
           memcmp(a->operands, b->operands, sizeof *a->operands * (size_t)a->operand_count) == 0 &&
           sg_same_attributes(sg_op_get(a->op), a->attributes, b->attributes) &&
           sg_type_equal(&a->type, &b->type);
}

/* The first value equal to the one just added; that one itself when new. */
static sg_value find_equal(sg_rewrite *rewrite, sg_value added) {
    const sg_node *nodes = rewrite->to->nodes;
    unsigned i = hash_node(&nodes[added]) & rewrite->slot_mask;
    for (; rewrite->slots[i]; i = (i + 1) & rewrite->slot_mask)
        if (same_node(&nodes[rewrite->slots[i] - 1], &nodes[added]))
            return rewrite->slots[i] - 1;
    /* Never more than half full, or new computations are no longer noted. */
    if ((unsigned)added < rewrite->slot_mask / 2)
        rewrite->slots[i] = added + 1;
    return added;
}

/* Adds a node; an equal one before it takes its place, and it is left to be dropped as dead. Names
 * need not be unique before the dead ones are gone. */
static sg_value append(sg_rewrite *rewrite, sg_op op, const char *name, const sg_value *operands,
                       int count, const sg_attribute *attributes, const sg_type *type) {
    sg_graph *to = rewrite->to;
    sg_value value;
    const char *copy = name ? sg_arena_text(&to->arena, name, strlen(name)) : NULL;
    if (rewrite->status)
        return -1;
    rewrite->status = sg_arena_failed(&to->arena) ? sg_fail_memory(to->context)
                                                  : sg_graph_append(to, op, NULL, operands, count,
                                                                    attributes, type, &value);
    if (rewrite->status)
        return -1;
    if (copy)
        to->nodes[value].name = copy;
    return op == SG_OP_input || op == SG_OP_foreign ? value : find_equal(rewrite, value);
}

sg_value sg_emit(sg_rewrite *rewrite, const char *stem, sg_op op, const sg_value *operands,
                 int count, const sg_attribute *attributes) {
    char name[128];
    snprintf(name, sizeof name, "%.80s.%s", stem, sg_op_get(op)->name);
    return append(rewrite, op, name, operands, count, attributes, NULL);
}

sg_value sg_emit_constant(sg_rewrite *rewrite, double value, bool weak, sg_dtype dtype) {
    sg_attribute attributes[SG_ATTRIBUTES_MAX] = {{.number = value}, {.number = weak}};
    sg_type type = {.dtype = dtype};
    return append(rewrite, SG_OP_constant, NULL, NULL, 0, attributes, weak ? NULL : &type);
}

sg_value sg_emit_draft(sg_rewrite *rewrite, const sg_draft *draft) {
    bool leaf = sg_op_get(draft->op)->kind == SG_KIND_LEAF;
    return append(rewrite, draft->op, draft->name, draft->operands, draft->operand_count,
                  draft->attributes, leaf ? draft->type : NULL);
}

/* ---- constants ----------------------------------------------------------------------------- */

bool sg_constant_value(const sg_rewrite *rewrite, sg_value value, double *number) {
    if (value < 0 || rewrite->to->nodes[value].op != SG_OP_constant)
        return false;
    const sg_node *node = &rewrite->to->nodes[value];
    double written = node->attributes[0].number;
    *number = node->type.weak ? written : sg_round_to(node->type.dtype, written);
    return true;
}

bool sg_constant_operand(const sg_rewrite *rewrite, const sg_draft *draft, int index,
                         double *number) {
    if (!sg_constant_value(rewrite, draft->operands[index], number))
        return false;
    if (draft->type->dtype != SG_F64 && !draft->type->weak)
        *number = sg_round_to(SG_F32, *number);
    return true;
}

bool sg_used_once(const sg_rewrite *rewrite, const sg_draft *draft, int index) {
    const sg_node *node = &rewrite->from->nodes[draft->original];
    return index < node->operand_count && node->operands[index] >= 0 &&
           rewrite->uses[node->operands[index]] == 1 &&
           rewrite->map[node->operands[index]] == draft->operands[index];
}
