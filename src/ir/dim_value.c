/* What sizes come to: their value under given symbols, and their text. */
#include "ir/dim_table.h"

static int64_t evaluate_atom(const sg_dim_table *table, const sg_atom *a, const int64_t *values) {
    if (a->symbol)
        return values[a->number] < 0 || !sg_dim_in_range(values[a->number]) ? SG_DIM_INVALID
                                                                            : values[a->number];
    int64_t numerator = sg_dim_evaluate(table, a->numerator, values);
    int64_t denominator = sg_dim_evaluate(table, a->denominator, values);
    if (numerator == SG_DIM_INVALID || denominator == SG_DIM_INVALID || denominator <= 0)
        return SG_DIM_INVALID;
    return sg_floor_quotient(numerator, denominator);
}

int64_t sg_dim_evaluate(const sg_dim_table *table, sg_dim dim, const int64_t *values) {
    if (dim == SG_DIM_INVALID || sg_dim_is_constant(dim))
        return dim;
    const sg_expression *e = sg_expression_of(table, dim);
    int64_t sum = 0;
    for (int i = 0; i < e->count; i++) {
        int64_t product = e->terms[i].coefficient;
        for (int j = 0; j < e->terms[i].degree; j++) {
            int64_t factor = evaluate_atom(table, &table->atoms[e->terms[i].factors[j]], values);
            if (factor == SG_DIM_INVALID || !sg_multiply_checked(product, factor, &product))
                return SG_DIM_INVALID;
        }
        if (!sg_add_checked(sum, product, &sum))
            return SG_DIM_INVALID;
    }
    return sum;
}

/* ---- printing ------------------------------------------------------------------------------ */

/* An operand of // : in parentheses unless a symbol or a number by itself. */
static void print_operand(const sg_dim_table *table, sg_dim dim, sg_text *text) {
    bool bare = (sg_dim_is_constant(dim) && dim >= 0) || sg_dim_as_symbol(table, dim) >= 0;
    sg_text_add(text, bare ? "" : "(");
    sg_dim_print(table, dim, text);
    sg_text_add(text, bare ? "" : ")");
}

static void print_atom(const sg_dim_table *table, const sg_atom *a, bool alone, sg_text *text) {
    if (a->symbol) {
        sg_text_add(text, "%s", a->symbol);
        return;
    }
    sg_text_add(text, alone ? "" : "(");
    print_operand(table, a->numerator, text);
    sg_text_add(text, " // ");
    print_operand(table, a->denominator, text);
    sg_text_add(text, alone ? "" : ")");
}

void sg_dim_print(const sg_dim_table *table, sg_dim dim, sg_text *text) {
    if (dim == SG_DIM_INVALID || sg_dim_is_constant(dim)) {
        sg_text_add(text, dim == SG_DIM_INVALID ? "?" : "%lld", (long long)dim);
        return;
    }
    const sg_expression *e = sg_expression_of(table, dim);
    for (int i = 0; i < e->count; i++) {
        const sg_term *t = &e->terms[i];
        int64_t size = t->coefficient < 0 ? -t->coefficient : t->coefficient;
        const char *minus = i ? " - " : "-", *plus = i ? " + " : "";
        sg_text_add(text, "%s", t->coefficient < 0 ? minus : plus);
        /* A quotient needs its parentheses in a product, and after a leading minus, which binds
         * tighter than //. */
        bool alone = t->degree == 1 && size == 1 && (i > 0 || t->coefficient > 0);
        if (size != 1 || t->degree == 0)
            sg_text_add(text, t->degree ? "%lld*" : "%lld", (long long)size);
        for (int j = 0; j < t->degree; j++) {
            sg_text_add(text, j ? "*" : "");
            print_atom(table, &table->atoms[t->factors[j]], alone, text);
        }
    }
}
