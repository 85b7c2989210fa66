/* The graph: growing its arrays, names, and questions about nodes. What a node may be is decided in
 * infer.c. */
#include "ir/graph.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/infer.h"
#include "ir/lexer.h"

/* Names from a host may hold anything; the text form needs them to be words. */
static void clean_name(char *name, bool bare_number) {
    for (name += bare_number && *name == '#'; *name; name++)
        if (!sg_is_name_character(*name))
            *name = '_';
}

sg_status sg_graph_create(sg_context *context, const char *name, sg_graph **graph) {
    sg_graph *made = calloc(1, sizeof *made);
    if (!made)
        return sg_fail_memory(context);
    if (!name || !name[0])
        name = "graph";
    char *copy = sg_arena_text(&made->arena, name, strlen(name));
    if (copy)
        clean_name(copy, false);
    made->context = context;
    made->name = copy;
    made->dims = sg_dim_table_create(&made->arena);
    if (sg_arena_failed(&made->arena)) {
        sg_graph_destroy(made);
        return sg_fail_memory(context);
    }
    *graph = made;
    return SG_OK;
}

sg_status sg_graph_create_like(const sg_graph *graph, sg_graph **made) {
    sg_graph *like;
    sg_status status = sg_graph_create(graph->context, graph->name, &like);
    if (status)
        return status;
    like->dims = sg_dim_table_copy(graph->dims, &like->arena);
    if (!like->dims) {
        sg_graph_destroy(like);
        return sg_fail_memory(graph->context);
    }
    *made = like;
    return SG_OK;
}

void sg_graph_destroy(sg_graph *graph) {
    if (!graph)
        return;
    sg_arena_release(&graph->arena);
    free(graph);
}

/* Room for one more of an array in the arena; the old one stays readable. */
static bool grow(sg_graph *graph, void **items, int count, int *capacity, size_t size) {
    if (count < *capacity)
        return true;
    int larger = *capacity ? *capacity * 2 : 16;
    void *copy = sg_arena_alloc(&graph->arena, size * (size_t)larger);
    if (!copy)
        return false;
    if (count)
        memcpy(copy, *items, size * (size_t)count);
    *items = copy;
    *capacity = larger;
    return true;
}

/* ---- names --------------------------------------------------------------------------------- */

static unsigned hash_name(const char *name, size_t length) {
    unsigned hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    return hash;
}

/* Slots of nodes that were taken back (see sg_graph_truncate) stay, and are told by their names. */
static bool slot_matches(const sg_graph *graph, int slot, const char *name, size_t length) {
    if (slot > graph->node_count)
        return false;
    const char *other = graph->nodes[slot - 1].name;
    return strncmp(other, name, length) == 0 && !other[length];
}

sg_value sg_graph_find(const sg_graph *graph, const char *name, int64_t length) {
    const sg_name_table *names = &graph->names;
    if (!names->capacity || memchr(name, 0, (size_t)length))
        return -1;
    unsigned mask = (unsigned)names->capacity - 1;
    for (unsigned i = hash_name(name, (size_t)length) & mask; names->slots[i]; i = (i + 1) & mask)
        if (slot_matches(graph, names->slots[i], name, (size_t)length))
            return names->slots[i] - 1;
    return -1;
}

static void insert_name(sg_name_table *names, const char *name, int slot) {
    unsigned mask = (unsigned)names->capacity - 1;
    unsigned i = hash_name(name, strlen(name)) & mask;
    while (names->slots[i])
        i = (i + 1) & mask;
    names->slots[i] = slot;
    names->used++;
}

static bool reserve_name(sg_graph *graph) {
    sg_name_table *names = &graph->names;
    if (names->used * 2 < names->capacity)
        return true;
    int capacity = 64;
    while (capacity < graph->node_count * 4)
        capacity *= 2;
    int *slots = SG_ARENA_NEW(&graph->arena, int, capacity);
    if (!slots)
        return false;
    *names = (sg_name_table){.slots = slots, .capacity = capacity};
    for (int i = 0; i < graph->node_count; i++)
        insert_name(names, graph->nodes[i].name, i + 1);
    return true;
}

static const char *unique_name(sg_graph *graph, sg_op op, const char *name, bool weak) {
    char buffer[32];
    if (!name || !name[0]) {
        snprintf(buffer, sizeof buffer, "%s%d", op == SG_OP_constant ? weak ? "#" : "k" : "v",
                 graph->node_count);
        name = buffer;
    }
    size_t length = strlen(name);
    char *copy = sg_arena_alloc(&graph->arena, length + 16);
    if (!copy)
        return NULL;
    memcpy(copy, name, length);
    clean_name(copy, weak && op == SG_OP_constant);
    for (int suffix = 2; sg_graph_find(graph, copy, (int64_t)strlen(copy)) >= 0; suffix++)
        snprintf(copy + length, 16, "_%d", suffix);
    return copy;
}

/* ---- adding -------------------------------------------------------------------------------- */

static sg_status check_operands(const sg_graph *graph, const sg_op_info *info,
                                const sg_value *operands, int count) {
    if (info->arity >= 0 && count != info->arity)
        return sg_fail(graph->context, SG_INVALID, "%s takes %d operand%s, not %d", info->name,
                       info->arity, info->arity == 1 ? "" : "s", count);
    for (int i = 0; i < count; i++) {
        bool optional = info->kind == SG_KIND_CONTRACTION && i == 2;
        if (operands[i] == -1 && !optional)
            return sg_fail(graph->context, SG_INVALID, "%s: operand %d cannot be left out",
                           info->name, i);
        if (operands[i] < -1 || operands[i] >= graph->node_count)
            return sg_fail(graph->context, SG_INVALID,
                           "%s: operand %d is value %d, which the graph does not have", info->name,
                           i, operands[i]);
    }
    return SG_OK;
}

/* The attributes a node starts from; lists are copied once inference has completed them. */
static void fill_attributes(sg_graph *graph, const sg_op_info *info, const sg_attribute *given,
                            sg_attribute *filled) {
    for (int i = 0; i < info->attribute_count; i++) {
        if (given) {
            filled[i] = given[i];
            continue;
        }
        filled[i] = (sg_attribute){.number = info->attributes[i].initial};
        if (info->attributes[i].kind == SG_ATTRIBUTE_SPATIAL) {
            sg_dim *item = SG_ARENA_NEW(&graph->arena, sg_dim, 1);
            if (item)
                *item = (sg_dim)info->attributes[i].initial;
            filled[i] = (sg_attribute){.count = item != NULL, .items = item};
        }
    }
}

static bool copy_lists(sg_graph *graph, const sg_op_info *info, sg_attribute *attributes) {
    for (int i = 0; i < info->attribute_count; i++) {
        sg_attribute_kind kind = info->attributes[i].kind;
        if (kind != SG_ATTRIBUTE_LIST && kind != SG_ATTRIBUTE_SPATIAL)
            continue;
        sg_dim *items = SG_ARENA_NEW(&graph->arena, sg_dim, attributes[i].count);
        if (!items)
            return false;
        if (attributes[i].count)
            memcpy(items, attributes[i].items, sizeof *items * (size_t)attributes[i].count);
        attributes[i].items = items;
    }
    return true;
}

static sg_status find_type(sg_graph *graph, sg_op op, sg_node *node, const sg_type *given) {
    const sg_op_info *info = sg_op_get(op);
    if (op == SG_OP_input || op == SG_OP_foreign) {
        if (!given)
            return sg_fail(graph->context, SG_INVALID, "%s: a type must be given", info->name);
        node->type = *given;
        node->type.weak = false;
        return sg_type_check(graph, info->name, &node->type);
    }
    sg_status status =
        sg_infer(graph, op, node->operands, node->operand_count, node->attributes, &node->type);
    if (status || op != SG_OP_constant || !given || node->type.weak)
        return status;
    if (given->rank != 0 || given->dtype == SG_OPAQUE)
        return sg_fail(graph->context, SG_INVALID,
                       "constant: type %s is not that of a single number, such as f32[]",
                       sg_type_words(graph, given).text);
    node->type.dtype = given->dtype;
    return SG_OK;
}

sg_status sg_graph_append(sg_graph *graph, sg_op op, const char *name, const sg_value *operands,
                          int operand_count, const sg_attribute *attributes, const sg_type *type,
                          sg_value *value) {
    const sg_op_info *info = sg_op_get(op);
    sg_value padded[SG_OPERANDS_MAX] = {-1, -1, -1};
    if (info->kind == SG_KIND_CONTRACTION && operand_count == info->arity - 1) {
        memcpy(padded, operands, sizeof *operands * (size_t)operand_count);
        operands = padded;
        operand_count = info->arity;
    }
    sg_status status = check_operands(graph, info, operands, operand_count);
    if (status)
        return status;
    sg_value *copy = SG_ARENA_NEW(&graph->arena, sg_value, operand_count);
    if (!copy)
        return sg_fail_memory(graph->context);
    if (operand_count)
        memcpy(copy, operands, sizeof *copy * (size_t)operand_count);
    sg_node node = {.op = op, .operand_count = operand_count, .operands = copy};
    fill_attributes(graph, info, attributes, node.attributes);
    status = find_type(graph, op, &node, type);
    if (status)
        return sg_arena_failed(&graph->arena) ? sg_fail_memory(graph->context) : status;
    node.name = unique_name(graph, op, name, node.type.weak);
    if (!copy_lists(graph, info, node.attributes) || !node.name || !reserve_name(graph) ||
        !grow(graph, (void **)&graph->nodes, graph->node_count, &graph->node_capacity,
              sizeof node) ||
        (op == SG_OP_input && !grow(graph, (void **)&graph->inputs, graph->input_count,
                                    &graph->input_capacity, sizeof(sg_value))))
        return sg_fail_memory(graph->context);
    graph->nodes[graph->node_count] = node;
    insert_name(&graph->names, node.name, graph->node_count + 1);
    if (op == SG_OP_input)
        graph->inputs[graph->input_count++] = graph->node_count;
    *value = graph->node_count++;
    return SG_OK;
}

sg_status sg_graph_append_output(sg_graph *graph, sg_value value) {
    if (value < 0 || value >= graph->node_count)
        return sg_fail(graph->context, SG_INVALID,
                       "output: value %d, which the graph does not have", value);
    if (!grow(graph, (void **)&graph->outputs, graph->output_count, &graph->output_capacity,
              sizeof(sg_value)))
        return sg_fail_memory(graph->context);
    graph->outputs[graph->output_count++] = value;
    return SG_OK;
}

void sg_graph_truncate(sg_graph *graph, int node_count, int output_count) {
    graph->node_count = node_count;
    graph->output_count = output_count;
    while (graph->input_count && graph->inputs[graph->input_count - 1] >= node_count)
        graph->input_count--;
}

/* ---- questions ----------------------------------------------------------------------------- */

int sg_graph_input_count(const sg_graph *graph) {
    return graph->input_count;
}

int sg_graph_output_count(const sg_graph *graph) {
    return graph->output_count;
}

sg_value sg_graph_input(const sg_graph *graph, int index) {
    return index >= 0 && index < graph->input_count ? graph->inputs[index] : -1;
}

sg_value sg_graph_output(const sg_graph *graph, int index) {
    return index >= 0 && index < graph->output_count ? graph->outputs[index] : -1;
}

const char *sg_graph_value_name(const sg_graph *graph, sg_value value) {
    return value >= 0 && value < graph->node_count ? graph->nodes[value].name : "";
}

const sg_attribute *sg_node_attribute(const sg_graph *graph, sg_value value, const char *name) {
    const sg_node *node = sg_graph_node(graph, value);
    const sg_op_info *info = sg_op_get(node->op);
    int i = 0;
    while (i < info->attribute_count && strcmp(info->attributes[i].name, name) != 0)
        i++;
    assert(i < info->attribute_count);
    return &node->attributes[i];
}

unsigned sg_node_axes(const sg_graph *graph, sg_value value) {
    const sg_node *node = sg_graph_node(graph, value);
    int rank = graph->nodes[node->operands[0]].type.rank;
    unsigned axes = 0;
    int axis;
    if (sg_op_get(node->op)->kind == SG_KIND_SOFTMAX)
        return sg_axis((int64_t)node->attributes[0].number, rank, &axis) && rank ? 1u << axis : 0;
    const sg_attribute *dim = sg_node_attribute(graph, value, "dim");
    for (int i = 0; i < dim->count; i++)
        if (sg_axis(dim->items[i], rank, &axis))
            axes |= 1u << axis;
    unsigned all = (1u << rank) - 1;
    return dim->count ? axes & all : all;
}

bool sg_node_keepdim(const sg_graph *graph, sg_value value) {
    return sg_node_attribute(graph, value, "keepdim")->number != 0;
}

bool sg_type_equal(const sg_type *a, const sg_type *b) {
    if (a->dtype != b->dtype || a->weak != b->weak || a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->size[i] != b->size[i])
            return false;
    return true;
}
