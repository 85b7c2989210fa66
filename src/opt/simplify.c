/* The driver: rounds of copying through the rules and of dropping what is dead, until nothing
 * changes. */
#include "opt/simplify.h"

#include <string.h>

#include "opt/rewrite.h"

enum {
    ROUNDS_MAX = 64, /* a bound, should two rules ever undo each other */
    STEPS_MAX = 16   /* the same for one node */
};

/* In this order; each is tried again after any has changed the draft. */
static sg_rule *const rules[] = {sg_rule_constant, sg_rule_identity, sg_rule_cast,
                                 sg_rule_power,    sg_rule_scalar,   sg_rule_unary,
                                 sg_rule_bound,    sg_rule_view,     sg_rule_reduction};

/* A rule's result must have the node's own type: an identity such as x * 1 is none where the 1
 * widens x or gives it more dimensions. */
static bool keeps_type(sg_rewrite *rewrite, sg_draft *draft, sg_outcome outcome) {
    sg_type type;
    if (outcome == SG_RULE_REPLACED)
        return draft->replacement >= 0 &&
               sg_type_equal(&rewrite->to->nodes[draft->replacement].type, draft->type);
    return !sg_infer(rewrite->to, draft->op, draft->operands, draft->operand_count,
                     draft->attributes, &type) &&
           sg_type_equal(&type, draft->type);
}

static sg_outcome apply_rules(sg_rewrite *rewrite, sg_draft *draft) {
    for (size_t i = 0; i < sizeof rules / sizeof *rules && !rewrite->status; i++) {
        sg_draft before = *draft;
        sg_outcome outcome = rules[i](rewrite, draft);
        if (outcome != SG_RULE_NONE && !rewrite->status && keeps_type(rewrite, draft, outcome)) {
            rewrite->changes++;
            return outcome;
        }
        *draft = before;
    }
    return SG_RULE_NONE;
}

static sg_value rewrite_node(sg_rewrite *rewrite, sg_value original) {
    sg_graph *to = rewrite->to;
    const sg_node *node = &rewrite->from->nodes[original];
    sg_value *operands = SG_ARENA_NEW(&to->arena, sg_value, node->operand_count);
    if (!operands) {
        rewrite->status = sg_fail_memory(to->context);
        return -1;
    }
    for (int i = 0; i < node->operand_count; i++)
        operands[i] = node->operands[i] < 0 ? -1 : rewrite->map[node->operands[i]];
    sg_draft draft = {.original = original,
                      .op = node->op,
                      .name = node->name,
                      .operand_count = node->operand_count,
                      .operands = operands,
                      .type = &node->type,
                      .replacement = -1};
    memcpy(draft.attributes, node->attributes, sizeof draft.attributes);
    bool leaf = sg_op_get(node->op)->kind == SG_KIND_LEAF;
    for (int step = 0; step < STEPS_MAX && !leaf; step++) {
        sg_outcome outcome = apply_rules(rewrite, &draft);
        if (outcome == SG_RULE_REPLACED)
            return draft.replacement;
        if (outcome == SG_RULE_NONE)
            break;
    }
    return sg_emit_draft(rewrite, &draft);
}

static void count_uses(const sg_graph *graph, int *uses) {
    for (int i = 0; i < graph->node_count; i++)
        for (int j = 0; j < graph->nodes[i].operand_count; j++)
            if (graph->nodes[i].operands[j] >= 0)
                uses[graph->nodes[i].operands[j]]++;
    for (int i = 0; i < graph->output_count; i++)
        uses[graph->outputs[i]]++;
}

static sg_status start(sg_rewrite *rewrite, const sg_graph *from) {
    *rewrite = (sg_rewrite){.from = from, .slot_mask = 63};
    sg_status status = sg_graph_create_like(from, &rewrite->to);
    if (status)
        return status;
    while (rewrite->slot_mask < 4 * (unsigned)from->node_count)
        rewrite->slot_mask = rewrite->slot_mask * 2 + 1;
    sg_arena *arena = &rewrite->to->arena;
    rewrite->map = SG_ARENA_NEW(arena, sg_value, from->node_count);
    rewrite->uses = SG_ARENA_NEW(arena, int, from->node_count);
    rewrite->slots = SG_ARENA_NEW(arena, sg_value, rewrite->slot_mask + 1);
    if (sg_arena_failed(arena)) {
        sg_graph_destroy(rewrite->to);
        return sg_fail_memory(from->context);
    }
    count_uses(from, rewrite->uses);
    return SG_OK;
}

/* One pass of the rules over every node. */
static sg_status rewrite_graph(const sg_graph *from, sg_graph **to, int *changes) {
    sg_rewrite rewrite;
    sg_status status = start(&rewrite, from);
    if (status)
        return status;
    for (int i = 0; i < from->node_count && !rewrite.status; i++)
        rewrite.map[i] = rewrite_node(&rewrite, i);
    for (int i = 0; i < from->output_count && !rewrite.status; i++)
        rewrite.status = sg_graph_append_output(rewrite.to, rewrite.map[from->outputs[i]]);
    if (rewrite.status) {
        sg_graph_destroy(rewrite.to);
        return rewrite.status;
    }
    *to = rewrite.to;
    *changes = rewrite.changes;
    return SG_OK;
}

static bool stays(const sg_graph *graph, sg_value value, const int *uses) {
    sg_op op = graph->nodes[value].op;
    return op == SG_OP_input || op == SG_OP_foreign || uses[value] > 0;
}

/* Marks what is needed, users before operands. uses holds a count of live uses. */
static void mark_live(const sg_graph *graph, int *uses) {
    for (int i = 0; i < graph->output_count; i++)
        uses[graph->outputs[i]]++;
    for (int i = graph->node_count - 1; i >= 0; i--)
        for (int j = 0; j < graph->nodes[i].operand_count && stays(graph, i, uses); j++)
            if (graph->nodes[i].operands[j] >= 0)
                uses[graph->nodes[i].operands[j]]++;
}

static sg_status copy_node(const sg_graph *from, sg_value value, sg_value *map, sg_graph *to) {
    const sg_node *node = &from->nodes[value];
    bool leaf = sg_op_get(node->op)->kind == SG_KIND_LEAF;
    sg_value *operands = SG_ARENA_NEW(&to->arena, sg_value, node->operand_count);
    if (!operands)
        return sg_fail_memory(to->context);
    for (int i = 0; i < node->operand_count; i++)
        operands[i] = node->operands[i] < 0 ? -1 : map[node->operands[i]];
    return sg_graph_append(to, node->op, node->name, operands, node->operand_count,
                           node->attributes, leaf ? &node->type : NULL, &map[value]);
}

/* The graph without its dead nodes. */
static sg_status drop_dead(const sg_graph *from, sg_graph **live) {
    sg_graph *to;
    sg_status status = sg_graph_create_like(from, &to);
    if (status)
        return status;
    int *uses = SG_ARENA_NEW(&to->arena, int, from->node_count);
    sg_value *map = SG_ARENA_NEW(&to->arena, sg_value, from->node_count);
    if (!uses || !map) {
        sg_graph_destroy(to);
        return sg_fail_memory(from->context);
    }
    mark_live(from, uses);
    for (int i = 0; i < from->node_count && !status; i++)
        if (stays(from, i, uses))
            status = copy_node(from, i, map, to);
    for (int i = 0; i < from->output_count && !status; i++)
        status = sg_graph_append_output(to, map[from->outputs[i]]);
    if (status)
        sg_graph_destroy(to);
    else
        *live = to;
    return status;
}

/* Whether an output before the index-th is the same value here, and another in the original. */
static bool merged_with_another(const sg_graph *original, const sg_graph *graph, int index) {
    for (int i = 0; i < index; i++)
        if (graph->outputs[i] == graph->outputs[index] &&
            original->outputs[i] != original->outputs[index])
            return true;
    return false;
}

/* An output that was computed and has become an input, a constant or another output is a copy of
 * it: the caller gets memory of its own. */
static sg_status restore_copies(const sg_graph *original, sg_graph *graph) {
    sg_status status = SG_OK;
    for (int i = 0; i < graph->output_count && !status; i++) {
        const sg_node *before = &original->nodes[original->outputs[i]];
        const sg_node *now = &graph->nodes[graph->outputs[i]];
        bool leaf = now->op == SG_OP_input || now->op == SG_OP_constant;
        if (before->op == SG_OP_input || before->op == SG_OP_constant)
            continue;
        if (leaf || merged_with_another(original, graph, i))
            status = sg_graph_append(graph, SG_OP_identity, before->name, &graph->outputs[i], 1,
                                     NULL, NULL, &graph->outputs[i]);
    }
    return status;
}

sg_status sg_simplify(const sg_graph *graph, sg_graph **simplified) {
    sg_graph *current = NULL;
    sg_status status = drop_dead(graph, &current);
    int changes = 1;
    for (int round = 0; round < ROUNDS_MAX && changes && !status; round++) {
        sg_graph *rewritten = NULL, *live = NULL;
        status = rewrite_graph(current, &rewritten, &changes);
        if (!status)
            status = drop_dead(rewritten, &live);
        sg_graph_destroy(rewritten);
        sg_graph_destroy(current);
        current = live;
    }
    if (!status)
        status = restore_copies(graph, current);
    if (!status && sg_debug('v'))
        status = sg_graph_verify(current);
    if (status)
        sg_graph_destroy(current);
    else
        *simplified = current;
    return status;
}
