/* Reference: pointwise operators, by the formulas of ops.def, and views. */
#include <assert.h>
#include <string.h>

#include "ir/infer.h"
#include "ir/reference.h"

/* Numbers in the graph's text take part in the precision of the operation: the f32 kernel and
 * PyTorch's see 0.1f, so the truth they are held against does too. */
static double operation_constant(sg_dtype dtype, double value) {
    return dtype == SG_F64 ? value : sg_round_to(SG_F32, value);
}

/* ATen takes roots for the Python exponents 0.5 and -0.5, which differ from pow at -inf and -0.0.
 */
static sg_op operation(const sg_evaluation *e) {
    if (e->node->op != SG_OP_pow || !e->types[1]->weak || e->types[0]->weak)
        return e->node->op;
    double exponent = *e->operands[1];
    return exponent == 0.5 ? SG_OP_sqrt : exponent == -0.5 ? SG_OP_rsqrt : SG_OP_pow;
}

void sg_reference_pointwise(const sg_evaluation *e) {
    const sg_op_info *info = sg_op_get(e->node->op);
    sg_dtype dtype = sg_promote_all(e->types, e->node->operand_count);
    double p[SG_ATTRIBUTES_MAX] = {0}, weak[SG_OPERANDS_MAX];
    const double *data[SG_OPERANDS_MAX] = {0};
    sg_index_walk walk = sg_index_walk_over(&e->node->type);
    for (int i = 0; i < info->attribute_count; i++)
        p[i] = operation_constant(dtype, e->node->attributes[i].number);
    for (int i = 0; i < e->node->operand_count; i++) {
        sg_index_walk_follow(&walk, e->types[i]);
        data[i] = e->operands[i];
        if (e->types[i]->weak && !e->node->type.weak) {
            weak[i] = operation_constant(dtype, *e->operands[i]);
            data[i] = &weak[i];
        }
    }
    int count = e->node->operand_count;
    assert(count > 0 && data[0]);
    /* Values are exact here; a cast to the dtype they have must not round them. */
    bool rounds = e->node->op == SG_OP_cast &&
                  (e->types[0]->dtype != e->node->type.dtype || e->types[0]->weak);
    double (*reference)(double, double, double, const double *) =
        sg_op_get(operation(e))->reference;
    double *result = e->result;
    do {
        double a = data[0][walk.at[0]];
        double b = count > 1 ? data[1][walk.at[1]] : 0, c = count > 2 ? data[2][walk.at[2]] : 0;
        double value = reference(a, b, c, p);
        *result++ = rounds ? sg_round_to(e->node->type.dtype, value) : value;
    } while (sg_index_walk_next(&walk));
}

/* permute and transpose walk the operand in the order of the result; the others keep the order. */
void sg_reference_view(const sg_evaluation *e) {
    int rank = e->node->type.rank, a, b;
    int64_t stride[SG_RANK_MAX];
    if (e->node->op != SG_OP_permute && e->node->op != SG_OP_transpose) {
        memcpy(e->result, e->operands[0],
               sizeof *e->result * (size_t)sg_type_elements(&e->node->type));
        return;
    }
    sg_index_walk operand = sg_index_walk_over(e->types[0]);
    sg_index_walk walk = sg_index_walk_over(&e->node->type);
    sg_index_walk_follow(&operand, e->types[0]);
    memcpy(stride, operand.stride[0], sizeof stride);
    walk.positions = 1;
    for (int i = 0; i < rank; i++) {
        a = i;
        if (e->node->op == SG_OP_permute)
            sg_axis(e->node->attributes[0].items[i], rank, &a);
        walk.stride[0][i] = stride[a];
    }
    if (e->node->op == SG_OP_transpose && rank) {
        sg_axis((int64_t)e->node->attributes[0].number, rank, &a);
        sg_axis((int64_t)e->node->attributes[1].number, rank, &b);
        walk.stride[0][a] = stride[b];
        walk.stride[0][b] = stride[a];
    }
    double *result = e->result;
    do
        *result++ = e->operands[0][walk.at[0]];
    while (sg_index_walk_next(&walk));
}
