/* The text form, written. Reading it gives an equal graph, and writing that the same text. */
#include <string.h>

#include "base/number.h"
#include "ir/graph.h"

/* A constant that stands as a number where it is used. */
static bool is_inline(const sg_node *node) {
    return node->op == SG_OP_constant && node->name[0] == '#';
}

static void print_number(sg_text *text, double number) {
    char buffer[SG_NUMBER_TEXT];
    sg_text_add(text, "%s", sg_number_print(number, buffer));
}

static void print_operand(const sg_graph *graph, sg_value value, sg_text *text) {
    if (value < 0)
        sg_text_add(text, "none");
    else if (is_inline(&graph->nodes[value]))
        print_number(text, graph->nodes[value].attributes[0].number);
    else
        sg_text_add(text, "%%%s", graph->nodes[value].name);
}

static void print_operands(const sg_graph *graph, const sg_value *values, int count,
                           sg_text *text) {
    for (int i = 0; i < count; i++) {
        sg_text_add(text, i ? ", " : " ");
        print_operand(graph, values[i], text);
    }
}

static bool is_initial(const sg_attribute_spec *spec, const sg_attribute *attribute) {
    if (spec->kind == SG_ATTRIBUTE_LIST)
        return attribute->count == 0;
    if (spec->kind != SG_ATTRIBUTE_SPATIAL) /* by bits: -0.0 is not 0.0 */
        return memcmp(&attribute->number, &spec->initial, sizeof spec->initial) == 0;
    for (int i = 0; i < attribute->count; i++)
        if (attribute->items[i] != (sg_dim)spec->initial)
            return false;
    return true;
}

static void print_attribute(const sg_graph *graph, const sg_attribute_spec *spec,
                            const sg_attribute *attribute, sg_text *text) {
    sg_text_add(text, "%s=", spec->name);
    switch (spec->kind) {
    case SG_ATTRIBUTE_FLOAT:
        print_number(text, attribute->number);
        break;
    case SG_ATTRIBUTE_INT:
        sg_text_add(text, "%.0f", attribute->number);
        break;
    case SG_ATTRIBUTE_BOOL:
        sg_text_add(text, attribute->number != 0 ? "true" : "false");
        break;
    case SG_ATTRIBUTE_LIST:
    case SG_ATTRIBUTE_SPATIAL:
        sg_text_add(text, "[");
        for (int i = 0; i < attribute->count; i++) {
            sg_text_add(text, i ? ", " : "");
            sg_dim_print(graph->dims, attribute->items[i], text);
        }
        sg_text_add(text, "]");
        break;
    case SG_ATTRIBUTE_DTYPE:
        sg_text_add(text, "%s", sg_dtype_name((sg_dtype)attribute->number));
        break;
    }
}

void sg_node_print(const sg_graph *graph, sg_value value, sg_text *text) {
    const sg_node *node = &graph->nodes[value];
    const sg_op_info *info = sg_op_get(node->op);
    bool any = false;
    sg_text_add(text, "%%%s = %s", node->name, info->name);
    print_operands(graph, node->operands, node->operand_count, text);
    for (int i = 0; i < info->attribute_count; i++) {
        if (is_initial(&info->attributes[i], &node->attributes[i]))
            continue;
        sg_text_add(text, any ? ", " : " {");
        any = true;
        print_attribute(graph, &info->attributes[i], &node->attributes[i], text);
    }
    sg_text_add(text, any ? "} : " : " : ");
    sg_type_print(graph, &node->type, text);
}

sg_status sg_graph_print(const sg_graph *graph, char **text) {
    sg_text out = {0};
    sg_text_add(&out, "graph %s {\n", graph->name);
    for (int i = 0; i < graph->node_count; i++) {
        if (is_inline(&graph->nodes[i]))
            continue;
        sg_text_add(&out, "  ");
        sg_node_print(graph, i, &out);
        sg_text_add(&out, "\n");
    }
    if (graph->output_count) {
        sg_text_add(&out, "  output");
        print_operands(graph, graph->outputs, graph->output_count, &out);
        sg_text_add(&out, "\n");
    }
    sg_text_add(&out, "}\n");
    char *taken = sg_text_take(&out);
    if (!taken)
        return sg_fail_memory(graph->context);
    *text = taken;
    return SG_OK;
}
