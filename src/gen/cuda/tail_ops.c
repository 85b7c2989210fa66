/* The operators of a tail as functions: the op table's `vector` column with attributes filled in.
 */
#include <math.h>
#include <string.h>

#include "base/number.h"
#include "gen/cuda/tail.h"

void sg_tail_write_number(double value, sg_text *text) {
    char digits[SG_NUMBER_TEXT];
    if (isnan(value))
        sg_text_add(text, "(infinity() - infinity())");
    else if (isinf(value))
        sg_text_add(text, value < 0 ? "-infinity()" : "infinity()");
    else
        sg_text_add(text, "real(%s)", sg_number_print(value, digits));
}

static const char *cast_function(sg_element element) {
    static const char *const functions[SG_ELEMENT_COUNT] = {
        [SG_ELEMENT_BOOL] = "ops::v_to_bool",
        [SG_ELEMENT_F16] = "v_round_to_f16",
        [SG_ELEMENT_BF16] = "v_round_to_bf16",
        [SG_ELEMENT_F32] = "v_round_to_f32",
        [SG_ELEMENT_F64] = "real",
    };
    return functions[element];
}

static void write_name(const sg_tail_op *op, sg_text *text) {
    sg_text_add(text, "%s", sg_op_get(op->op)->name);
    if (op->number)
        sg_text_add(text, "%d", op->number);
}

/* The instruction that makes a source, if it is one of this op. */
static const sg_instruction *made_by(const sg_tail *tail, int source, sg_op op) {
    const sg_instruction *made = source < 0 ? NULL : tail->made_by[source];
    return made && made->kind == SG_INSTRUCTION_POINTWISE && made->op == op ? made : NULL;
}

/* Whether a source is a reduction over channels of this value. */
static bool reduces(const sg_tail *tail, int source, sg_reduction reduction, int value) {
    const sg_instruction *made = source < 0 ? NULL : tail->made_by[source];
    return made && made->kind == SG_INSTRUCTION_ROWS && made->reduction == reduction &&
           made->sources[0] == value;
}

/* Whether it is a softmax's quotient: of exp(x - max(x)) and the sum of such. */
static bool is_share(const sg_tail *tail, const sg_instruction *made) {
    if (made->op != SG_OP_div ||
        !reduces(tail, made->sources[1], SG_REDUCTION_SUM, made->sources[0]))
        return false;
    const sg_instruction *raised = made_by(tail, made->sources[0], SG_OP_exp);
    const sg_instruction *shifted = raised ? made_by(tail, raised->sources[0], SG_OP_sub) : NULL;
    return shifted && reduces(tail, shifted->sources[1], SG_REDUCTION_MAX, shifted->sources[0]);
}

void sg_tail_write_call(sg_tail *tail, const sg_instruction *instruction, sg_text *text) {
    if (is_share(tail, instruction)) {
        sg_text_add(text, "share");
        return;
    }
    if (instruction->op == SG_OP_cast) {
        sg_text_add(text, "%s", cast_function((sg_element)instruction->attributes[0]));
        return;
    }
    int number = 0, at = 0;
    for (; at < tail->op_count; at++) {
        const sg_tail_op *other = &tail->ops[at];
        number += other->op == instruction->op;
        if (other->op == instruction->op &&
            memcmp(other->attributes, instruction->attributes, sizeof other->attributes) == 0)
            break;
    }
    if (at == tail->op_count) {
        sg_tail_op *op = &tail->ops[tail->op_count++];
        *op = (sg_tail_op){.op = instruction->op, .number = number};
        memcpy(op->attributes, instruction->attributes, sizeof op->attributes);
    }
    sg_text_add(text, "ops::");
    write_name(&tail->ops[at], text);
}

/* An attribute as a double, as in the CPU's kernels, and exact. */
static void write_attribute(double value, sg_text *text) {
    char digits[SG_NUMBER_TEXT];
    if (!isfinite(value)) {
        sg_text_add(text, "double(");
        sg_tail_write_number(value, text);
        sg_text_add(text, ")");
    } else {
        sg_text_add(text, signbit(value) ? "(%s)" : "%s", sg_number_print(value, digits));
    }
}

/* A column of the op table with the attributes in their places, and `real` for what the column
 * calls K. */
static void write_vector(const char *vector, const double *attributes, sg_text *text) {
    while (*vector) {
        bool word = vector[0] == 'K' && vector[1] == '(';
        if (word && strncmp(vector + 2, "p[", 2) == 0 && strncmp(vector + 5, "])", 2) == 0) {
            sg_tail_write_number(attributes[vector[4] - '0'], text);
            vector += strlen("K(p[0])");
        } else if (strncmp(vector, "p[", 2) == 0) {
            write_attribute(attributes[vector[2] - '0'], text);
            vector += strlen("p[0]");
        } else {
            if (word)
                sg_text_add(text, "real");
            else
                sg_text_add(text, "%c", *vector);
            vector++;
        }
    }
}

void sg_tail_write_ops(const sg_tail *tail, sg_text *text) {
    static const char *const parameters[] = {"real a", "real a, real b", "real a, real b, real c"};
    if (tail->op_count == 0)
        return;
    sg_text_add(text, "namespace ops {\n");
    for (int i = 0; i < tail->op_count; i++) {
        const sg_tail_op *op = &tail->ops[i];
        const sg_op_info *info = sg_op_get(op->op);
        sg_text_add(text, "__device__ __forceinline__ real ");
        write_name(op, text);
        sg_text_add(text, "(%s) {\n", parameters[info->arity - 1]);
        sg_text_add(text, "    return ");
        write_vector(info->vector, op->attributes, text);
        sg_text_add(text, ";\n}\n");
    }
    sg_text_add(text, "} // namespace ops\n\n");
}
