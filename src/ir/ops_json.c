/* The operator table as JSON, for tools and tests that are not in C. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/number.h"
#include "base/text.h"
#include "ir/ops.h"
#include "segue.h"

static const char *const kinds[] = {
    [SG_KIND_LEAF] = "leaf",           [SG_KIND_CONTRACTION] = "contraction",
    [SG_KIND_POINTWISE] = "pointwise", [SG_KIND_REDUCTION] = "reduction",
    [SG_KIND_SOFTMAX] = "softmax",     [SG_KIND_VIEW] = "view",
};
static const char *const results[] = {
    [SG_RESULT_SAME] = "same",
    [SG_RESULT_BOOL] = "bool",
    [SG_RESULT_SELECT] = "select",
    [SG_RESULT_MASK] = "mask",
};
static const char *const domains[] = {
    [SG_DOMAIN_REAL] = "real",
    [SG_DOMAIN_WIDE] = "wide",
    [SG_DOMAIN_POSITIVE] = "positive",
    [SG_DOMAIN_MASKED] = "masked",
};
static const char *const attribute_kinds[] = {
    [SG_ATTRIBUTE_FLOAT] = "float",     [SG_ATTRIBUTE_INT] = "int",
    [SG_ATTRIBUTE_BOOL] = "bool",       [SG_ATTRIBUTE_LIST] = "list",
    [SG_ATTRIBUTE_SPATIAL] = "spatial", [SG_ATTRIBUTE_DTYPE] = "dtype",
};

static void write_attribute(sg_text *text, const sg_attribute_spec *spec) {
    char number[SG_NUMBER_TEXT];
    sg_text_add(text, "{\"name\": \"%s\", \"kind\": \"%s\", \"initial\": ", spec->name,
                attribute_kinds[spec->kind]);
    switch (spec->kind) {
    case SG_ATTRIBUTE_FLOAT:
        /* JSON has no infinity: those are strings that float() in Python reads. */
        sg_text_add(text, isfinite(spec->initial) ? "%s" : "\"%s\"",
                    sg_number_print(spec->initial, number));
        break;
    case SG_ATTRIBUTE_INT:
        sg_text_add(text, "%.0f", spec->initial);
        break;
    case SG_ATTRIBUTE_BOOL:
        sg_text_add(text, spec->initial ? "true" : "false");
        break;
    case SG_ATTRIBUTE_LIST:
        sg_text_add(text, "[]");
        break;
    case SG_ATTRIBUTE_SPATIAL:
        sg_text_add(text, "[%.0f]", spec->initial);
        break;
    case SG_ATTRIBUTE_DTYPE:
        sg_text_add(text, "null");
        break;
    }
    sg_text_add(text, "}");
}

static void write_row(sg_text *text, const sg_op_info *row) {
    sg_text_add(text, " {\"name\": \"%s\", \"kind\": \"%s\", \"arity\": %d, \"result\": \"%s\",\n",
                row->name, kinds[row->kind], row->arity, results[row->result]);
    sg_text_add(text,
                "  \"commutes\": %s, \"monotone\": %s, \"idempotent\": %s, \"domain\": \"%s\",\n",
                row->algebra & SG_COMMUTES ? "true" : "false",
                row->algebra & SG_MONOTONE ? "true" : "false",
                row->algebra & SG_IDEMPOTENT ? "true" : "false", domains[row->domain]);
    sg_text_add(text, "  \"torch\": \"%s\", \"ulp\": %d,\n  \"attributes\": [", row->torch,
                row->ulp);
    for (int i = 0; i < row->attribute_count; i++) {
        sg_text_add(text, i ? ", " : "");
        write_attribute(text, &row->attributes[i]);
    }
    sg_text_add(text, "]}");
}

const char *sg_operators_json(void) {
    /* Made at first use and kept: the table does not change. When two threads come first, one of
     * the equal texts is freed again. */
    static _Atomic(char *) kept;
    char *json = atomic_load(&kept);
    if (json)
        return json;
    sg_text text = {0};
    sg_text_add(&text, "[\n");
    for (int op = 0; op < SG_OP_COUNT; op++) {
        write_row(&text, sg_op_get((sg_op)op));
        sg_text_add(&text, op + 1 < SG_OP_COUNT ? ",\n" : "\n]\n");
    }
    char *made = sg_text_take(&text);
    if (!made)
        return "[]";
    if (atomic_compare_exchange_strong(&kept, &json, made))
        return made;
    free(made);
    return json;
}
