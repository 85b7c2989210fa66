/* Binding: a copy of the graph in which every size is a number. */
#include <inttypes.h>
#include <stdio.h>

#include "ir/graph.h"

static sg_status fail_input(const sg_graph *graph, int index, const char *what, const char *got) {
    sg_value value = graph->inputs[index];
    return sg_fail(graph->context, SG_INVALID, "input %%%s is declared %s, but its %s is %s",
                   graph->nodes[value].name, sg_type_words(graph, &graph->nodes[value].type).text,
                   what, got);
}

static sg_words number_words(int64_t number) {
    sg_words words;
    snprintf(words.text, sizeof words.text, "%" PRId64, number);
    return words;
}

/* Dtype and rank; and the values of symbols that are a size by themselves. */
static sg_status match_input(const sg_graph *graph, int index, const sg_layout *layout,
                             int64_t *values) {
    const sg_type *type = &graph->nodes[graph->inputs[index]].type;
    if (layout->dtype != type->dtype)
        return fail_input(graph, index, "dtype", sg_dtype_name(layout->dtype));
    if (type->dtype == SG_OPAQUE)
        return SG_OK;
    if (layout->rank != type->rank)
        return fail_input(graph, index, "rank", number_words(layout->rank).text);
    for (int i = 0; i < type->rank; i++) {
        int symbol = sg_dim_as_symbol(graph->dims, type->size[i]);
        if (layout->size[i] < 0 || layout->size[i] >= SG_DIM_LIMIT)
            return fail_input(graph, index, "size", number_words(layout->size[i]).text);
        if (symbol >= 0 && values[symbol] < 0)
            values[symbol] = layout->size[i];
    }
    return SG_OK;
}

/* Every declared size, once all symbols are known. */
static sg_status check_input(const sg_graph *graph, int index, const sg_layout *layout,
                             const int64_t *values) {
    const sg_type *type = &graph->nodes[graph->inputs[index]].type;
    for (int i = 0; i < type->rank; i++) {
        int64_t size = sg_dim_evaluate(graph->dims, type->size[i], values);
        /* An expression whose symbols no input has by themselves is known from its input alone. */
        if (size == layout->size[i] || size == SG_DIM_INVALID)
            continue;
        sg_words declared = sg_dim_words(graph, type->size[i]);
        return sg_fail(graph->context, SG_INVALID,
                       "input %%%s is declared %s, where %s is %" PRId64
                       ", but its size %d is %" PRId64,
                       graph->nodes[graph->inputs[index]].name, sg_type_words(graph, type).text,
                       declared.text, size, i, layout->size[i]);
    }
    return SG_OK;
}

static sg_status bind_symbols(const sg_graph *graph, const sg_layout *inputs, int input_count,
                              int64_t *values) {
    sg_status status = SG_OK;
    if (input_count != graph->input_count)
        return sg_fail(graph->context, SG_INVALID, "the graph has %d inputs, but %d are given",
                       graph->input_count, input_count);
    for (int i = 0; i < sg_dim_symbol_count(graph->dims); i++)
        values[i] = -1;
    for (int i = 0; i < input_count && !status; i++)
        status = match_input(graph, i, &inputs[i], values);
    for (int i = 0; i < input_count && !status; i++)
        status = check_input(graph, i, &inputs[i], values);
    return status;
}

static sg_status evaluate(const sg_graph *graph, const int64_t *values, const sg_dim *dims,
                          int count, sg_dim *bound) {
    for (int i = 0; i < count; i++) {
        bound[i] = sg_dim_evaluate(graph->dims, dims[i], values);
        if (bound[i] == SG_DIM_INVALID)
            return sg_fail(graph->context, SG_INVALID,
                           "size %s is not determined by the sizes of the inputs",
                           sg_dim_words(graph, dims[i]).text);
    }
    return SG_OK;
}

/* layout: of the node when it is an input, which has just been checked against it. */
static sg_status bind_node(const sg_graph *graph, const sg_node *node, const int64_t *values,
                           const sg_layout *layout, sg_graph *bound) {
    const sg_op_info *info = sg_op_get(node->op);
    sg_attribute attributes[SG_ATTRIBUTES_MAX] = {0};
    sg_type type = node->type;
    sg_status status = SG_OK;
    for (int i = 0; i < info->attribute_count && !status; i++) {
        attributes[i] = node->attributes[i];
        if (attributes[i].count == 0)
            continue;
        sg_dim *items = SG_ARENA_NEW(&bound->arena, sg_dim, attributes[i].count);
        if (!items)
            return sg_fail_memory(graph->context);
        attributes[i].items = items;
        status = evaluate(graph, values, node->attributes[i].items, attributes[i].count, items);
    }
    for (int i = 0; layout && i < type.rank; i++)
        type.size[i] = layout->size[i];
    if (!status && info->kind == SG_KIND_LEAF && !layout)
        status = evaluate(graph, values, node->type.size, node->type.rank, type.size);
    sg_value value;
    if (!status)
        status = sg_graph_append(bound, node->op, node->name, node->operands, node->operand_count,
                                 attributes, info->kind == SG_KIND_LEAF ? &type : NULL, &value);
    return status;
}

sg_status sg_graph_bind(const sg_graph *graph, const sg_layout *inputs, int input_count,
                        sg_graph **bound) {
    sg_graph *made;
    sg_status status = sg_graph_create(graph->context, graph->name, &made);
    if (status)
        return status;
    int64_t *values = SG_ARENA_NEW(&made->arena, int64_t, sg_dim_symbol_count(graph->dims));
    status =
        values ? bind_symbols(graph, inputs, input_count, values) : sg_fail_memory(graph->context);
    /* Values keep their numbers: nodes are copied one for one. */
    for (int i = 0, input = 0; i < graph->node_count && !status; i++) {
        bool is_input = input < graph->input_count && graph->inputs[input] == i;
        status = bind_node(graph, &graph->nodes[i], values, is_input ? &inputs[input] : NULL, made);
        input += is_input;
    }
    for (int i = 0; i < graph->output_count && !status; i++)
        status = sg_graph_append_output(made, graph->outputs[i]);
    if (status)
        sg_graph_destroy(made);
    else
        *bound = made;
    return status;
}

sg_status sg_graph_infer(const sg_graph *graph, const sg_layout *inputs, int input_count,
                         sg_layout *outputs) {
    sg_graph *bound;
    sg_status status = sg_graph_bind(graph, inputs, input_count, &bound);
    if (status)
        return status;
    for (int i = 0; i < bound->output_count; i++) {
        const sg_type *type = &bound->nodes[bound->outputs[i]].type;
        sg_layout layout = {.dtype = type->dtype, .rank = type->rank};
        int64_t stride = 1;
        for (int j = type->rank - 1; j >= 0; j--) {
            layout.size[j] = type->size[j];
            layout.stride[j] = stride;
            stride *= type->size[j] > 1 ? type->size[j] : 1;
        }
        outputs[i] = layout;
    }
    sg_graph_destroy(bound);
    return SG_OK;
}
