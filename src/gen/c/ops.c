/* The operators of a region as functions: the op table's `vector` column, with attributes and
 * constants filled in. */
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/number.h"
#include "gen/c/region.h"
#include "ir/constants.h"

static void write_double(double value, sg_text *text) {
    char digits[SG_NUMBER_TEXT];
    const char *said = isnan(value)   ? "NAN"
                       : isinf(value) ? (value < 0 ? "-INFINITY" : "INFINITY")
                                      : sg_number_print(value, digits);
    sg_text_add(text, *said == '-' ? "(%s)" : "%s", said);
}

void sg_c_write_number(double value, sg_text *text) {
    sg_text_add(text, "(real)");
    write_double(value, text);
}

#define DIGITS_(x) #x
#define DIGITS(x)  DIGITS_(x)

static const struct {
    const char *name, *digits;
} constants[] = {
    {"SG_SELU_SCALE", DIGITS(SG_SELU_SCALE)}, {"SG_SELU_ALPHA", DIGITS(SG_SELU_ALPHA)},
    {"SG_SQRT_HALF", DIGITS(SG_SQRT_HALF)},   {"SG_SQRT_TWO_OVER_PI", DIGITS(SG_SQRT_TWO_OVER_PI)},
    {"SG_GELU_CUBIC", DIGITS(SG_GELU_CUBIC)},
};

static const char *digits_of(const char *word, size_t length) {
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (strlen(constants[i].name) == length && strncmp(constants[i].name, word, length) == 0)
            return constants[i].digits;
    }
    return NULL;
}

/* The column with p[i] and constants replaced by their numbers. */
static void write_expression(const char *vector, const double *p, sg_text *text) {
    while (*vector) {
        size_t length = 0;
        while (isalnum((unsigned char)vector[length]) || vector[length] == '_')
            length++;
        const char *digits = length ? digits_of(vector, length) : NULL;
        if (strncmp(vector, "p[", 2) == 0) {
            write_double(p[vector[2] - '0'], text);
            length = strlen("p[0]");
        } else if (digits) {
            sg_text_add(text, "%s", digits);
        } else {
            length += length == 0;
            sg_text_add(text, "%.*s", (int)length, vector);
        }
        vector += length;
    }
}

static const char *cast_function(sg_element element) {
    static const char *const functions[SG_ELEMENT_COUNT] = {
        [SG_ELEMENT_BOOL] = "v_to_bool",       [SG_ELEMENT_F16] = "v_round_to_f16",
        [SG_ELEMENT_BF16] = "v_round_to_bf16", [SG_ELEMENT_F32] = "v_round_to_f32",
        [SG_ELEMENT_F64] = "(real)",
    };
    return functions[element];
}

static void write_name(const sg_c_op *op, sg_text *text) {
    sg_text_add(text, "op_%s", sg_op_get(op->op)->name);
    if (op->number)
        sg_text_add(text, "%d", op->number);
    sg_text_add(text, "@");
}

static void write_function(const sg_c_op *op, sg_text *text) {
    static const char *const parameters[] = {"real a", "real a, real b", "real a, real b, real c"};
    const sg_op_info *info = sg_op_get(op->op);
    sg_text_add(text, "static inline real ");
    write_name(op, text);
    sg_text_add(text, "(%s) {\n    return ", parameters[info->arity - 1]);
    write_expression(info->vector, op->attributes, text);
    sg_text_add(text, ";\n}\n\n");
}

void sg_c_write_call(sg_c_region *region, const sg_instruction *instruction, sg_text *text) {
    if (instruction->op == SG_OP_cast) {
        sg_text_add(text, "%s", cast_function((sg_element)instruction->attributes[0]));
        return;
    }
    int number = 0, at = 0;
    for (; at < region->op_count; at++) {
        const sg_c_op *other = &region->op[at];
        number += other->op == instruction->op;
        if (other->op == instruction->op &&
            memcmp(other->attributes, instruction->attributes, sizeof other->attributes) == 0)
            break;
    }
    if (at == region->op_count) {
        sg_c_op *op = &region->op[region->op_count++];
        *op = (sg_c_op){.op = instruction->op, .number = number};
        memcpy(op->attributes, instruction->attributes, sizeof op->attributes);
        write_function(op, &region->ops);
    }
    write_name(&region->op[at], text);
}
