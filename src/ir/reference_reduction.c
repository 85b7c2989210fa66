/* Reference: reductions and softmax. */
#include <math.h>

#include "ir/reference.h"
#include "ir/reference_math.h"

/* The walk over an operand that also follows the result: position 0 is the element, position 1 what
 * it is reduced into. */
static sg_index_walk reduction_walk(const sg_evaluation *e, unsigned axes) {
    sg_type kept = *e->types[0];
    for (int i = 0; i < kept.rank; i++)
        if (axes & 1u << i)
            kept.size[i] = 1;
    sg_index_walk walk = sg_index_walk_over(e->types[0]);
    sg_index_walk_follow(&walk, e->types[0]);
    sg_index_walk_follow(&walk, &kept);
    return walk;
}

static double initial(sg_op op) {
    switch (op) {
    case SG_OP_amin:
        return INFINITY;
    case SG_OP_amax:
    case SG_OP_logsumexp:
        return -INFINITY;
    case SG_OP_prod:
        return 1;
    default:
        return 0;
    }
}

static double joined(sg_op op, double total, double value) {
    switch (op) {
    case SG_OP_amin:
        return ref_min(total, value);
    case SG_OP_amax:
    case SG_OP_logsumexp: /* its first pass */
        return ref_max(total, value);
    case SG_OP_prod:
        return total * value;
    default:
        return total + value;
    }
}

/* log(sum(exp(x - m))) + m with m the maximum, 0 in place of an infinite one, as ATen has it. The
 * result holds the maxima. Each element of the result walks its part of the operand for itself, so
 * that no second array is needed. */
static void finish_logsumexp(const sg_evaluation *e, unsigned axes, int64_t count) {
    sg_index_walk all = reduction_walk(e, axes);
    sg_type part = *e->types[0];
    sg_index_walk start = all; /* over the kept sizes */
    for (int i = 0; i < part.rank; i++) {
        if (axes & 1u << i)
            start.size[i] = 1;
        else
            part.size[i] = 1;
    }
    int64_t elements = sg_type_elements(&part);
    for (int64_t i = 0; i < count; i++) {
        double sum = 0, shift = isinf(e->result[i]) ? 0 : e->result[i];
        sg_index_walk walk = all;
        for (int j = 0; j < part.rank; j++)
            walk.size[j] = part.size[j];
        for (int64_t k = 0; k < elements; k++) {
            sum += exp(e->operands[0][start.at[0] + walk.at[0]] - shift);
            sg_index_walk_next(&walk);
        }
        e->result[i] = log(sum) + shift;
        sg_index_walk_next(&start);
    }
}

void sg_reference_reduction(const sg_evaluation *e) {
    sg_op op = e->node->op;
    unsigned axes = sg_node_axes(e->graph, e->value);
    int64_t count = sg_type_elements(&e->node->type);
    for (int64_t i = 0; i < count; i++)
        e->result[i] = initial(op);
    sg_index_walk walk = reduction_walk(e, axes);
    if (sg_type_elements(e->types[0]))
        do {
            double *total = &e->result[walk.at[1]];
            *total = joined(op, *total, e->operands[0][walk.at[0]]);
        } while (sg_index_walk_next(&walk));
    double reduced = 1;
    for (int i = 0; i < e->types[0]->rank; i++)
        if (axes & 1u << i)
            reduced *= (double)e->types[0]->size[i];
    for (int64_t i = 0; i < count && op == SG_OP_mean; i++)
        e->result[i] /= reduced;
    if (op == SG_OP_logsumexp)
        finish_logsumexp(e, axes, count);
}

/* One row at a time: the axis with a stride, from every start. */
static void softmax_row(const double *x, double *y, int64_t size, int64_t stride, bool logarithm) {
    double largest = -INFINITY, sum = 0;
    for (int64_t i = 0; i < size; i++)
        largest = ref_max(largest, x[i * stride]);
    for (int64_t i = 0; i < size; i++)
        sum += exp(x[i * stride] - largest);
    for (int64_t i = 0; i < size; i++) {
        double shifted = x[i * stride] - largest;
        y[i * stride] = logarithm ? shifted - log(sum) : exp(shifted) / sum;
    }
}

void sg_reference_softmax(const sg_evaluation *e) {
    const sg_type *type = e->types[0];
    unsigned axes = sg_node_axes(e->graph, e->value);
    int64_t size = 1, stride = 1, count = sg_type_elements(type);
    for (int i = type->rank - 1; i >= 0 && axes; i--) {
        if (axes & 1u << i) {
            size = type->size[i];
            break;
        }
        stride *= type->size[i];
    }
    for (int64_t outer = 0; outer < count; outer += size * stride)
        for (int64_t inner = 0; inner < stride; inner++)
            softmax_row(e->operands[0] + outer + inner, e->result + outer + inner, size, stride,
                        e->node->op == SG_OP_log_softmax);
}
