/* The reference interpreter: node by node, in float64. A value's memory is freed after its last
 * use. */
#include "ir/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct interpreter {
    sg_graph *graph; /* bound */
    double **data;   /* by value */
    int *last_use;   /* by value: the node after which it is not needed */
    const double *const *inputs;
} interpreter;

static sg_status allocate(const sg_graph *graph, const sg_type *type, double **data) {
    int64_t count = sg_type_elements(type);
    *data = (uint64_t)count > SIZE_MAX / sizeof(double)
                ? NULL
                : malloc(sizeof(double) * (size_t)(count ? count : 1));
    return *data ? SG_OK : sg_fail_memory(graph->context);
}

static void copy(double *to, const double *from, const sg_type *type) {
    int64_t count = sg_type_elements(type);
    if (count)
        memcpy(to, from, sizeof *to * (size_t)count);
}

static void evaluate_leaf(const interpreter *in, const sg_evaluation *e) {
    const sg_graph *graph = in->graph;
    if (e->node->op == SG_OP_constant) {
        double value = e->node->attributes[0].number;
        *e->result = e->node->type.weak ? value : sg_round_to(e->node->type.dtype, value);
        return;
    }
    for (int i = 0; i < graph->input_count; i++)
        if (graph->inputs[i] == e->value)
            copy(e->result, in->inputs[i], &e->node->type);
}

static sg_status evaluate_node(interpreter *in, sg_value value) {
    const sg_graph *graph = in->graph;
    const sg_node *node = &graph->nodes[value];
    if (node->op == SG_OP_foreign || node->type.dtype == SG_OPAQUE)
        return sg_fail(graph->context, SG_INVALID,
                       "%%%s: only the host can run a foreign operator or hold an opaque value",
                       node->name);
    sg_status status = allocate(graph, &node->type, &in->data[value]);
    if (status)
        return status;
    sg_evaluation e = {.graph = graph, .value = value, .node = node, .result = in->data[value]};
    for (int i = 0; i < node->operand_count; i++)
        if (node->operands[i] >= 0) {
            e.types[i] = &graph->nodes[node->operands[i]].type;
            e.operands[i] = in->data[node->operands[i]];
        }
    if (sg_type_elements(&node->type) == 0)
        return SG_OK;
    switch (sg_op_get(node->op)->kind) {
    case SG_KIND_LEAF:
        evaluate_leaf(in, &e);
        break;
    case SG_KIND_CONTRACTION:
        sg_reference_convolution(&e);
        break;
    case SG_KIND_POINTWISE:
        sg_reference_pointwise(&e);
        break;
    case SG_KIND_REDUCTION:
        sg_reference_reduction(&e);
        break;
    case SG_KIND_SOFTMAX:
        sg_reference_softmax(&e);
        break;
    case SG_KIND_VIEW:
        sg_reference_view(&e);
        break;
    }
    return SG_OK;
}

static void release_operands(interpreter *in, sg_value value) {
    const sg_node *node = &in->graph->nodes[value];
    for (int i = 0; i < node->operand_count; i++) {
        sg_value operand = node->operands[i];
        if (operand >= 0 && in->last_use[operand] == value) {
            free(in->data[operand]);
            in->data[operand] = NULL;
        }
    }
}

static sg_status interpret(interpreter *in, double *const *outputs) {
    sg_graph *graph = in->graph;
    in->data = SG_ARENA_NEW(&graph->arena, double *, graph->node_count);
    in->last_use = SG_ARENA_NEW(&graph->arena, int, graph->node_count);
    if (!in->data || !in->last_use)
        return sg_fail_memory(graph->context);
    for (int i = 0; i < graph->node_count; i++)
        for (int j = 0; j < graph->nodes[i].operand_count; j++)
            if (graph->nodes[i].operands[j] >= 0)
                in->last_use[graph->nodes[i].operands[j]] = i;
    for (int i = 0; i < graph->output_count; i++)
        in->last_use[graph->outputs[i]] = graph->node_count;
    sg_status status = SG_OK;
    for (int i = 0; i < graph->node_count && !status; i++) {
        status = evaluate_node(in, i);
        release_operands(in, i);
    }
    for (int i = 0; i < graph->output_count && !status; i++)
        copy(outputs[i], in->data[graph->outputs[i]], &graph->nodes[graph->outputs[i]].type);
    for (int i = 0; i < graph->node_count; i++)
        free(in->data[i]);
    return status;
}

sg_status sg_reference_run(const sg_graph *graph, const sg_layout *inputs, int input_count,
                           const double *const *input_data, double *const *output_data) {
    interpreter in = {.inputs = input_data};
    sg_status status = sg_graph_bind(graph, inputs, input_count, &in.graph);
    if (status)
        return status;
    status = interpret(&in, output_data);
    sg_graph_destroy(in.graph);
    return status;
}

/* ---- shared -------------------------------------------------------------------------------- */

int64_t sg_type_elements(const sg_type *type) {
    int64_t count = 1;
    for (int i = 0; i < type->rank; i++) {
        if (type->size[i] == 0)
            return 0;
    }
    for (int i = 0; i < type->rank; i++)
        count *= type->size[i];
    return count;
}

/* To a format of `digits` significant bits, whose smallest step is 2^least. */
static double round_bits(double value, int digits, int least, double largest) {
    int exponent;
    if (!isfinite(value) || value == 0)
        return value;
    frexp(value, &exponent);
    int step = exponent - digits < least ? least : exponent - digits;
    double rounded = ldexp(nearbyint(ldexp(value, -step)), step);
    if (rounded == 0)
        return copysign(0, value);
    return fabs(rounded) > largest ? copysign(INFINITY, value) : rounded;
}

double sg_round_to(sg_dtype dtype, double value) {
    switch (dtype) {
    case SG_BOOL:
        return value != 0;
    case SG_F16: /* by way of float, as ATen does */
        return round_bits((float)value, 11, -24, 65504);
    case SG_BF16:
        return round_bits((float)value, 8, -133, 0x1.fep127);
    case SG_F32:
        return (float)value;
    default:
        return value;
    }
}

sg_index_walk sg_index_walk_over(const sg_type *type) {
    sg_index_walk walk = {.rank = type->rank};
    for (int i = 0; i < type->rank; i++)
        walk.size[i] = type->size[i];
    return walk;
}

int sg_index_walk_follow(sg_index_walk *walk, const sg_type *type) {
    int position = walk->positions++;
    int64_t stride = 1;
    for (int i = 1; i <= type->rank; i++) {
        int64_t size = type->size[type->rank - i];
        walk->stride[position][walk->rank - i] = size == 1 ? 0 : stride;
        stride *= size;
    }
    return position;
}

bool sg_index_walk_next(sg_index_walk *walk) {
    for (int i = walk->rank - 1; i >= 0; i--) {
        for (int j = 0; j < walk->positions; j++)
            walk->at[j] += walk->stride[j][i];
        if (++walk->index[i] < walk->size[i])
            return true;
        for (int j = 0; j < walk->positions; j++)
            walk->at[j] -= walk->stride[j][i] * walk->size[i];
        walk->index[i] = 0;
    }
    return false;
}
