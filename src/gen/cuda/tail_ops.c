/* The operators of a tail: the op table's `vector` column with operands and attributes in their
 * places. */
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/number.h"
#include "gen/cuda/tail.h"

void sg_tail_write_number(const sg_tail *tail, double value, sg_text *text) {
    char digits[SG_NUMBER_TEXT];
    if (isnan(value))
        sg_text_add(text, "(infinity() - infinity())");
    else if (isinf(value))
        sg_text_add(text, value < 0 ? "-infinity()" : "infinity()");
    else if (tail->problem->compute == SG_F64 || (double)(float)value != value)
        sg_text_add(text, "real(%s)", sg_number_print(value, digits));
    else
        sg_text_add(text, "%sf", sg_number_print(value, digits));
}

const char *sg_tail_identity(sg_reduction reduction) {
    static const char *const values[SG_REDUCTION_COUNT] = {"real(0)", "real(1)", "infinity()",
                                                           "-infinity()"};
    return values[reduction];
}

const char *sg_tail_combine(sg_reduction reduction) {
    static const char *const functions[SG_REDUCTION_COUNT] = {"v_add", "v_mul", "v_min", "v_max"};
    return functions[reduction];
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

/* An attribute as a double, as in the CPU's kernels, and exact. */
static void write_attribute(double value, sg_text *text) {
    char digits[SG_NUMBER_TEXT];
    if (!isfinite(value)) {
        sg_text_add(text, value < 0 ? "double(-infinity())" : "double(infinity())");
    } else {
        sg_text_add(text, signbit(value) ? "(%s)" : "%s", sg_number_print(value, digits));
    }
}

/* What the column says, in CUDA: functions that exist for floats and doubles by their own names,
 * others as common.cuh and math.cuh have them. */
static void write_function(const char *word, size_t length, sg_text *text) {
    static const char *const names[][2] = {
        {"v_fma", "fma"},     {"v_abs", "fabs"},    {"v_floor", "floor"}, {"v_ceil", "ceil"},
        {"v_trunc", "trunc"}, {"v_round", "rint"},  {"v_sqrt", "sqrt"},   {"v_rsqrt", "rsqrt"},
        {"v_exp", "exp"},     {"v_expm1", "expm1"}, {"v_log", "log"},     {"v_log1p", "log1p"},
        {"v_log2", "log2"},   {"v_log10", "log10"}, {"v_erf", "erf"},     {"v_tanh", "tanh"},
        {"v_neg", "-"},       {"v_min", "v_min"},   {"v_max", "v_max"},   {"K", "real"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i][0]) == length && memcmp(names[i][0], word, length) == 0) {
            sg_text_add(text, "%s", names[i][1]);
            return;
        }
    }
    sg_text_add(text, "ops::%.*s", (int)length, word);
}

/* The bytes of a constant of the compute type that is a number, an attribute or its negative, as
 * "K(-p[0])"; 0 for other texts. */
static size_t constant_length(const char *vector, const double *attributes, double *value) {
    if (strncmp(vector, "K(", 2) != 0)
        return 0;
    size_t length = strcspn(vector, ")");
    if (sg_number_parse(vector + 2, length - 2, value))
        return length + 1;
    bool negative = vector[2] == '-';
    if (strncmp(vector + 2 + negative, "p[", 2) != 0 || length != (size_t)(6 + negative))
        return 0;
    *value = attributes[vector[4 + negative] - '0'];
    *value = negative ? -*value : *value;
    return length + 1;
}

void sg_tail_write_call(const sg_tail *tail, const sg_instruction *instruction,
                        const sg_text *operands, sg_text *text) {
    const double *attributes = instruction->attributes;
    if (is_share(tail, instruction)) {
        sg_text_add(text, "share(%s, %s)", operands[0].data, operands[1].data);
        return;
    }
    if (instruction->op == SG_OP_cast) {
        sg_text_add(text, "%s(%s)", cast_function((sg_element)attributes[0]), operands[0].data);
        return;
    }
    const char *vector = sg_op_get(instruction->op)->vector;
    while (*vector) {
        size_t length = 0;
        double value;
        while (isalnum((unsigned char)vector[length]) || vector[length] == '_')
            length++;
        size_t constant = constant_length(vector, attributes, &value);
        if (constant > 0) {
            sg_tail_write_number(tail, value, text);
            length = constant;
        } else if (length == 0 || isdigit((unsigned char)*vector)) {
            length = length > 0 ? length : 1;
            sg_text_add(text, "%.*s", (int)length, vector);
        } else if (*vector == 'p' && length == 1) {
            write_attribute(attributes[vector[2] - '0'], text);
            length = strlen("p[0]");
        } else if (length == 1 && *vector >= 'a' && *vector <= 'c') {
            sg_text_add(text, "%s", operands[*vector - 'a'].data);
        } else {
            write_function(vector, length, text);
        }
        vector += length;
    }
}
