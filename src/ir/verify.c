/* The verifier: what sg_graph_append guarantees, checked again on a finished graph. A pass that
 * breaks a rule fails at its own exit. */
#include <string.h>

#include "ir/graph.h"

static sg_status fail_node(const sg_graph *graph, sg_value value, const char *rule) {
    const sg_node *node = &graph->nodes[value];
    return sg_fail(graph->context, SG_INVALID, "value %d (%%%s, %s): %s", value,
                   node->name ? node->name : "?",
                   node->op < SG_OP_COUNT ? sg_op_get(node->op)->name : "?", rule);
}

static sg_status verify_operands(const sg_graph *graph, sg_value value) {
    const sg_node *node = &graph->nodes[value];
    const sg_op_info *info = sg_op_get(node->op);
    if (node->operand_count < 0 || (info->arity >= 0 && node->operand_count != info->arity))
        return fail_node(graph, value, "the number of operands is not the operator's");
    for (int i = 0; i < node->operand_count; i++) {
        bool optional = info->kind == SG_KIND_CONTRACTION && i == 2;
        if (node->operands[i] >= value)
            return fail_node(graph, value, "an operand does not come before its use");
        if (node->operands[i] < (optional ? -1 : 0))
            return fail_node(graph, value, "an operand is missing");
    }
    return SG_OK;
}

static sg_status verify_attributes(const sg_graph *graph, sg_value value) {
    const sg_node *node = &graph->nodes[value];
    const sg_op_info *info = sg_op_get(node->op);
    for (int i = 0; i < info->attribute_count; i++) {
        const sg_attribute *attribute = &node->attributes[i];
        if (attribute->count < 0 || (attribute->count > 0 && !attribute->items))
            return fail_node(graph, value, "a list attribute has no entries where it counts some");
        for (int j = 0; j < attribute->count; j++)
            if (attribute->items[j] == SG_DIM_INVALID)
                return fail_node(graph, value, "a list attribute holds an invalid size");
        if (info->attributes[i].kind == SG_ATTRIBUTE_SPATIAL &&
            attribute->count != graph->nodes[node->operands[1]].type.rank - 2)
            return fail_node(graph, value,
                             "an attribute does not have one entry per spatial dimension");
    }
    return SG_OK;
}

static sg_status verify_type(const sg_graph *graph, sg_value value) {
    const sg_node *node = &graph->nodes[value];
    if (node->type.dtype >= SG_DTYPE_COUNT || node->type.rank < 0 ||
        node->type.rank > SG_RANK_MAX || (node->type.weak && node->type.rank > 0))
        return fail_node(graph, value, "the type is malformed");
    for (int i = 0; i < node->type.rank; i++) {
        sg_dim size = node->type.size[i];
        if (size == SG_DIM_INVALID || (sg_dim_is_constant(size) && size < 0))
            return fail_node(graph, value, "the type has an invalid size");
    }
    if (sg_op_get(node->op)->kind == SG_KIND_LEAF)
        return SG_OK;
    sg_attribute attributes[SG_ATTRIBUTES_MAX];
    sg_type type;
    memcpy(attributes, node->attributes, sizeof attributes);
    /* Inference may note sizes it meets on its way; the graph's meaning does not change. */
    sg_status status = sg_infer((sg_graph *)graph, node->op, node->operands, node->operand_count,
                                attributes, &type);
    if (!status && !sg_type_equal(&type, &node->type))
        return fail_node(graph, value, "the type is not what inference gives");
    return status;
}

static sg_status verify_node(const sg_graph *graph, sg_value value) {
    const sg_node *node = &graph->nodes[value];
    if ((unsigned)node->op >= SG_OP_COUNT)
        return fail_node(graph, value, "there is no such operator");
    if (!node->name || !node->name[0] ||
        sg_graph_find(graph, node->name, (int64_t)strlen(node->name)) != value)
        return fail_node(graph, value, "the name is missing or not unique");
    sg_status status = verify_operands(graph, value);
    if (!status)
        status = verify_attributes(graph, value);
    if (!status)
        status = verify_type(graph, value);
    return status;
}

sg_status sg_graph_verify(const sg_graph *graph) {
    int inputs = 0;
    for (sg_value value = 0; value < graph->node_count; value++) {
        sg_status status = verify_node(graph, value);
        if (status)
            return status;
        if (graph->nodes[value].op != SG_OP_input)
            continue;
        if (inputs == graph->input_count || graph->inputs[inputs] != value)
            return fail_node(graph, value, "the list of inputs does not have it in its place");
        inputs++;
    }
    if (inputs != graph->input_count)
        return sg_fail(graph->context, SG_INVALID, "the list of inputs has %d too many",
                       graph->input_count - inputs);
    for (int i = 0; i < graph->output_count; i++)
        if (graph->outputs[i] < 0 || graph->outputs[i] >= graph->node_count)
            return sg_fail(graph->context, SG_INVALID,
                           "output %d is value %d, which the graph does not have", i,
                           graph->outputs[i]);
    return SG_OK;
}
