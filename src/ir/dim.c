/* Sizes in normal form.
 *
 * An expression is a polynomial over atoms, an atom being a symbol or a floor quotient of two
 * sizes. Its terms are sorted by a graded lexicographic order over the names of the atoms, so the
 * form (and what is printed) does not depend on the order in which symbols were met. Each distinct
 * polynomial is stored once; a size's word is its index. Quotients are reduced as far as the
 * integers allow (see sg_dim_floor_divide); what cannot be divided becomes an atom. */
#include "ir/dim_table.h"

#include <string.h>

enum {
    TERMS_MAX = 64,
    /* Symbols and quotients in one expression, those within quotients counted. Bounds the depth
     * and the work of everything below. */
    WEIGHT_MAX = 512
};

typedef struct polynomial {
    int count;
    bool failed; /* overflow, out of memory, or too long */
    sg_term terms[TERMS_MAX];
} polynomial;

sg_dim_table *sg_dim_table_create(sg_arena *arena) {
    sg_dim_table *table = SG_ARENA_NEW(arena, sg_dim_table, 1);
    if (table)
        table->arena = arena;
    return table;
}

/* Room for one more in an array of the arena. False when out of memory. */
static bool grow(sg_arena *arena, void **items, int count, int *capacity, size_t size) {
    if (count < *capacity)
        return true;
    int larger = *capacity ? *capacity * 2 : 16;
    void *copy = sg_arena_alloc(arena, size * (size_t)larger);
    if (!copy)
        return false;
    if (count)
        memcpy(copy, *items, size * (size_t)count);
    *items = copy;
    *capacity = larger;
    return true;
}

/* A copy of count items in the arena; NULL when out of memory. */
static void *duplicate(sg_arena *arena, const void *items, int count, size_t size) {
    void *copy = sg_arena_alloc(arena, size * (size_t)count);
    if (copy && count)
        memcpy(copy, items, size * (size_t)count);
    return copy;
}

static sg_expression *copy_expression(sg_arena *arena, const sg_expression *e) {
    sg_expression *copy = duplicate(arena, e, 1, sizeof *e);
    sg_term *terms = duplicate(arena, e->terms, e->count, sizeof *terms);
    for (int i = 0; terms && i < e->count; i++)
        terms[i].factors =
            duplicate(arena, terms[i].factors, terms[i].degree, sizeof *terms[i].factors);
    if (copy)
        copy->terms = terms;
    return copy;
}

sg_dim_table *sg_dim_table_copy(const sg_dim_table *table, sg_arena *arena) {
    sg_dim_table *copy = sg_dim_table_create(arena);
    if (!copy)
        return NULL;
    copy->count = copy->capacity = table->count;
    copy->atom_count = copy->atom_capacity = table->atom_count;
    copy->symbol_count = copy->symbol_capacity = table->symbol_count;
    copy->expressions = SG_ARENA_NEW(arena, sg_expression *, table->count);
    copy->atoms = duplicate(arena, table->atoms, table->atom_count, sizeof(sg_atom));
    copy->symbols = duplicate(arena, table->symbols, table->symbol_count, sizeof(int));
    for (int i = 0; i < table->atom_count && copy->atoms; i++) {
        const char *symbol = table->atoms[i].symbol;
        copy->atoms[i].symbol = symbol ? sg_arena_text(arena, symbol, strlen(symbol)) : NULL;
    }
    for (int i = 0; i < table->count && copy->expressions; i++) {
        sg_expression *e = copy_expression(arena, table->expressions[i]);
        if (!e)
            return NULL;
        e->next = copy->buckets[e->hash % SG_DIM_BUCKETS];
        copy->expressions[i] = copy->buckets[e->hash % SG_DIM_BUCKETS] = e;
    }
    return sg_arena_failed(arena) ? NULL : copy;
}

static int64_t greatest_divisor(int64_t a, int64_t b) {
    while (b != 0) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a < 0 ? -a : a;
}

/* ---- order --------------------------------------------------------------------------------- */

static int compare_dims(const sg_dim_table *table, sg_dim a, sg_dim b);

static int compare_atoms(const sg_dim_table *table, int a, int b) {
    if (a == b)
        return 0;
    const sg_atom *x = &table->atoms[a], *y = &table->atoms[b];
    if (x->symbol && y->symbol)
        return strcmp(x->symbol, y->symbol);
    if (x->symbol || y->symbol)
        return x->symbol ? -1 : 1;
    int order = compare_dims(table, x->numerator, y->numerator);
    return order ? order : compare_dims(table, x->denominator, y->denominator);
}

/* Negative when a comes first: higher degree, then the earlier name at the first difference. Two
 * terms keep their order when both are multiplied by a third, which division relies on. */
static int compare_terms(const sg_dim_table *table, const sg_term *a, const sg_term *b) {
    if (a->degree != b->degree)
        return b->degree - a->degree;
    for (int i = 0; i < a->degree; i++) {
        int order = compare_atoms(table, a->factors[i], b->factors[i]);
        if (order)
            return order;
    }
    return 0;
}

static int compare_dims(const sg_dim_table *table, sg_dim a, sg_dim b) {
    if (a == b)
        return 0;
    if (sg_dim_is_constant(a) || sg_dim_is_constant(b)) {
        if (sg_dim_is_constant(a) && sg_dim_is_constant(b))
            return a < b ? -1 : 1;
        return sg_dim_is_constant(a) ? -1 : 1;
    }
    const sg_expression *x = sg_expression_of(table, a), *y = sg_expression_of(table, b);
    for (int i = 0; i < x->count && i < y->count; i++) {
        int order = compare_terms(table, &x->terms[i], &y->terms[i]);
        if (order)
            return order;
        if (x->terms[i].coefficient != y->terms[i].coefficient)
            return x->terms[i].coefficient < y->terms[i].coefficient ? -1 : 1;
    }
    return x->count - y->count;
}

/* ---- polynomials --------------------------------------------------------------------------- */

static void load(const sg_dim_table *table, sg_dim dim, polynomial *p) {
    p->count = 0;
    p->failed = dim == SG_DIM_INVALID || (sg_dim_is_constant(dim) && !sg_dim_in_range(dim));
    if (p->failed || dim == 0)
        return;
    if (sg_dim_is_constant(dim)) {
        p->terms[p->count++] = (sg_term){.coefficient = dim};
        return;
    }
    const sg_expression *e = sg_expression_of(table, dim);
    memcpy(p->terms, e->terms, sizeof(sg_term) * (size_t)e->count);
    p->count = e->count;
}

static void add_term(const sg_dim_table *table, polynomial *p, sg_term added) {
    if (p->failed || added.coefficient == 0)
        return;
    int i = 0, order = 1;
    while (i < p->count && (order = compare_terms(table, &p->terms[i], &added)) < 0)
        i++;
    if (i < p->count && order == 0) {
        int64_t *coefficient = &p->terms[i].coefficient;
        if (!sg_add_checked(*coefficient, added.coefficient, coefficient))
            p->failed = true;
        else if (*coefficient == 0) {
            p->count--;
            memmove(&p->terms[i], &p->terms[i + 1], sizeof(sg_term) * (size_t)(p->count - i));
        }
    } else if (p->count == TERMS_MAX) {
        p->failed = true;
    } else {
        memmove(&p->terms[i + 1], &p->terms[i], sizeof(sg_term) * (size_t)(p->count - i));
        p->terms[i] = added;
        p->count++;
    }
}

static bool multiply_terms(sg_dim_table *table, const sg_term *a, const sg_term *b,
                           sg_term *product) {
    product->degree = a->degree + b->degree;
    product->factors = a->degree ? a->factors : b->factors;
    if (product->degree > WEIGHT_MAX ||
        !sg_multiply_checked(a->coefficient, b->coefficient, &product->coefficient))
        return false;
    if (!a->degree || !b->degree)
        return true;
    int *factors = SG_ARENA_NEW(table->arena, int, product->degree);
    if (!factors)
        return false;
    for (int i = 0, j = 0, k = 0; k < product->degree; k++) {
        bool first = j == b->degree ||
                     (i < a->degree && compare_atoms(table, a->factors[i], b->factors[j]) <= 0);
        factors[k] = first ? a->factors[i++] : b->factors[j++];
    }
    product->factors = factors;
    return true;
}

/* a / b where every factor of b is one of a's and the coefficients divide. */
static bool divide_terms(sg_dim_table *table, const sg_term *a, const sg_term *b,
                         sg_term *quotient) {
    if (a->degree < b->degree || a->coefficient % b->coefficient != 0)
        return false;
    int *factors = SG_ARENA_NEW(table->arena, int, a->degree - b->degree);
    if (!factors)
        return false;
    int j = 0, count = 0;
    for (int i = 0; i < a->degree; i++) {
        if (j < b->degree && a->factors[i] == b->factors[j])
            j++;
        else if (count < a->degree - b->degree)
            factors[count++] = a->factors[i];
    }
    *quotient = (sg_term){a->coefficient / b->coefficient, a->degree - b->degree, factors};
    return j == b->degree && sg_dim_in_range(quotient->coefficient);
}

static bool same_terms(const sg_term *a, const sg_term *b, int count) {
    for (int i = 0; i < count; i++)
        if (a[i].coefficient != b[i].coefficient || a[i].degree != b[i].degree ||
            (a[i].degree &&
             memcmp(a[i].factors, b[i].factors, sizeof(int) * (size_t)a[i].degree) != 0))
            return false;
    return true;
}

static uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

/* The word of a polynomial: itself when constant, else its entry, made when new. */
static sg_dim intern(sg_dim_table *table, const polynomial *p) {
    if (p->failed)
        return SG_DIM_INVALID;
    if (p->count == 0)
        return 0;
    if (p->count == 1 && p->terms[0].degree == 0)
        return p->terms[0].coefficient;
    uint64_t hash = 0;
    int weight = 0;
    for (int i = 0; i < p->count; i++) {
        hash = mix(hash, (uint64_t)p->terms[i].coefficient);
        for (int j = 0; j < p->terms[i].degree && weight <= WEIGHT_MAX; j++) {
            weight += table->atoms[p->terms[i].factors[j]].weight;
            hash = mix(hash, (uint64_t)p->terms[i].factors[j]);
        }
    }
    if (weight > WEIGHT_MAX)
        return SG_DIM_INVALID;
    sg_expression **bucket = &table->buckets[hash % SG_DIM_BUCKETS];
    for (sg_expression *e = *bucket; e; e = e->next)
        if (e->hash == hash && e->count == p->count && same_terms(e->terms, p->terms, p->count))
            return SG_DIM_INVALID + 1 + e->index;

    sg_expression *e = SG_ARENA_NEW(table->arena, sg_expression, 1);
    sg_term *terms = SG_ARENA_NEW(table->arena, sg_term, p->count);
    if (!e || !terms ||
        !grow(table->arena, (void **)&table->expressions, table->count, &table->capacity,
              sizeof(sg_expression *)))
        return SG_DIM_INVALID;
    memcpy(terms, p->terms, sizeof(sg_term) * (size_t)p->count);
    *e = (sg_expression){p->count, weight, terms, hash, *bucket, table->count};
    *bucket = e;
    table->expressions[table->count++] = e;
    return SG_DIM_INVALID + 1 + e->index;
}

static int new_atom(sg_dim_table *table, sg_atom value) {
    if (!grow(table->arena, (void **)&table->atoms, table->atom_count, &table->atom_capacity,
              sizeof(sg_atom)))
        return -1;
    table->atoms[table->atom_count] = value;
    return table->atom_count++;
}

static sg_dim atom_dim(sg_dim_table *table, int index) {
    int *factor = index < 0 ? NULL : SG_ARENA_NEW(table->arena, int, 1);
    if (!factor)
        return SG_DIM_INVALID;
    *factor = index;
    return intern(table, &(polynomial){.count = 1, .terms = {{1, 1, factor}}});
}

/* ---- the public operations ----------------------------------------------------------------- */

sg_dim sg_dim_symbol(sg_dim_table *table, const char *name, int64_t length) {
    for (int i = 0; i < table->symbol_count; i++) {
        const char *symbol = table->atoms[table->symbols[i]].symbol;
        if (strlen(symbol) == (size_t)length && memcmp(symbol, name, (size_t)length) == 0)
            return atom_dim(table, table->symbols[i]);
    }
    const char *copy = sg_arena_text(table->arena, name, (size_t)length);
    if (!copy || !grow(table->arena, (void **)&table->symbols, table->symbol_count,
                       &table->symbol_capacity, sizeof(int)))
        return SG_DIM_INVALID;
    int index =
        new_atom(table, (sg_atom){.symbol = copy, .number = table->symbol_count, .weight = 1});
    if (index >= 0)
        table->symbols[table->symbol_count++] = index;
    return atom_dim(table, index);
}

/* a + factor * b */
static sg_dim add_multiple(sg_dim_table *table, sg_dim a, sg_dim b, int64_t factor) {
    polynomial sum, other;
    load(table, a, &sum);
    load(table, b, &other);
    sum.failed |= other.failed;
    for (int i = 0; i < other.count && !sum.failed; i++) {
        sg_term added = other.terms[i];
        if (sg_multiply_checked(added.coefficient, factor, &added.coefficient))
            add_term(table, &sum, added);
        else
            sum.failed = true;
    }
    return intern(table, &sum);
}

sg_dim sg_dim_add(sg_dim_table *table, sg_dim a, sg_dim b) {
    return add_multiple(table, a, b, 1);
}

sg_dim sg_dim_subtract(sg_dim_table *table, sg_dim a, sg_dim b) {
    return add_multiple(table, a, b, -1);
}

static void multiply(sg_dim_table *table, const polynomial *a, const polynomial *b,
                     polynomial *product) {
    product->count = 0;
    product->failed = a->failed || b->failed;
    for (int i = 0; i < a->count; i++)
        for (int j = 0; j < b->count && !product->failed; j++) {
            sg_term added;
            if (multiply_terms(table, &a->terms[i], &b->terms[j], &added))
                add_term(table, product, added);
            else
                product->failed = true;
        }
}

sg_dim sg_dim_multiply(sg_dim_table *table, sg_dim a, sg_dim b) {
    polynomial x, y, product;
    load(table, a, &x);
    load(table, b, &y);
    multiply(table, &x, &y, &product);
    return intern(table, &product);
}

/* The atom for numerator // denominator, as it is. */
static sg_dim quotient_atom(sg_dim_table *table, sg_dim numerator, sg_dim denominator) {
    if (numerator == SG_DIM_INVALID || denominator == SG_DIM_INVALID)
        return SG_DIM_INVALID;
    for (int i = 0; i < table->atom_count; i++) {
        const sg_atom *a = &table->atoms[i];
        if (!a->symbol && a->numerator == numerator && a->denominator == denominator)
            return atom_dim(table, i);
    }
    int weight = 1;
    if (!sg_dim_is_constant(numerator))
        weight += sg_expression_of(table, numerator)->weight;
    if (!sg_dim_is_constant(denominator))
        weight += sg_expression_of(table, denominator)->weight;
    return atom_dim(table, new_atom(table, (sg_atom){.weight = weight,
                                                     .numerator = numerator,
                                                     .denominator = denominator}));
}

/* Long division of polynomials: true when b divides a without rest (b's value taken as nonzero). */
static bool divides(sg_dim_table *table, const polynomial *a, const polynomial *b,
                    polynomial *quotient) {
    polynomial rest = *a;
    quotient->count = 0;
    quotient->failed = false;
    for (int step = 0; rest.count > 0 && step < TERMS_MAX; step++) {
        sg_term lead;
        if (!divide_terms(table, &rest.terms[0], &b->terms[0], &lead))
            return false;
        add_term(table, quotient, lead);
        lead.coefficient = -lead.coefficient;
        for (int i = 0; i < b->count; i++) {
            sg_term subtracted;
            if (!multiply_terms(table, &lead, &b->terms[i], &subtracted))
                return false;
            add_term(table, &rest, subtracted);
        }
        if (rest.failed || quotient->failed)
            return false;
    }
    return rest.count == 0;
}

/* What remains of p // divisor once whole multiples are out: coefficients in 0 .. divisor - 1. */
static sg_dim divide_rest(sg_dim_table *table, polynomial *rest, int64_t divisor) {
    if (rest->count == 0 || rest->terms[0].degree == 0)
        return 0;
    sg_term *last = &rest->terms[rest->count - 1];
    bool has_constant = last->degree == 0;
    int64_t common = divisor;
    for (int i = 0; i < rest->count - has_constant; i++)
        common = greatest_divisor(common, rest->terms[i].coefficient);
    /* (g X + c) // (g d) == (X + c // g) // d */
    for (int i = 0; i < rest->count; i++)
        rest->terms[i].coefficient /= common;
    divisor /= common;
    int64_t constant = has_constant ? last->coefficient : 0;
    if (has_constant && constant == 0)
        rest->count--;
    /* (X // m + c) // d == (X + m c) // (m d) */
    const sg_atom *inner = &table->atoms[rest->terms[0].factors[0]];
    if (rest->count == 1 + (constant != 0) && rest->terms[0].degree == 1 &&
        rest->terms[0].coefficient == 1 && !inner->symbol &&
        sg_dim_is_constant(inner->denominator)) {
        int64_t scaled, product;
        if (!sg_multiply_checked(inner->denominator, constant, &scaled) ||
            !sg_multiply_checked(inner->denominator, divisor, &product))
            return SG_DIM_INVALID;
        return sg_dim_floor_divide(table, sg_dim_add(table, inner->numerator, scaled), product);
    }
    return quotient_atom(table, intern(table, rest), divisor);
}

static sg_dim divide_by_constant(sg_dim_table *table, const polynomial *a, int64_t divisor) {
    polynomial whole = {0}, rest = {0};
    for (int i = 0; i < a->count; i++) {
        sg_term part = a->terms[i];
        int64_t quotient = sg_floor_quotient(part.coefficient, divisor);
        int64_t remainder = part.coefficient - quotient * divisor;
        part.coefficient = quotient;
        add_term(table, &whole, part);
        part.coefficient = remainder;
        add_term(table, &rest, part);
    }
    sg_dim left = divisor == 1 ? 0 : divide_rest(table, &rest, divisor);
    return sg_dim_add(table, intern(table, &whole), left);
}

sg_dim sg_dim_floor_divide(sg_dim_table *table, sg_dim a, sg_dim b) {
    if (a == SG_DIM_INVALID || b == SG_DIM_INVALID || (sg_dim_is_constant(b) && b <= 0))
        return SG_DIM_INVALID;
    if (sg_dim_is_constant(a) && sg_dim_is_constant(b))
        return sg_floor_quotient(a, b);
    polynomial x, y, quotient;
    load(table, a, &x);
    if (sg_dim_is_constant(b))
        return divide_by_constant(table, &x, b);
    load(table, b, &y);
    if (x.failed || y.failed)
        return SG_DIM_INVALID;
    if (divides(table, &x, &y, &quotient))
        return intern(table, &quotient);
    return quotient_atom(table, a, b);
}

int sg_dim_symbol_count(const sg_dim_table *table) {
    return table->symbol_count;
}

const char *sg_dim_symbol_name(const sg_dim_table *table, int symbol) {
    return table->atoms[table->symbols[symbol]].symbol;
}

int sg_dim_as_symbol(const sg_dim_table *table, sg_dim dim) {
    if (dim == SG_DIM_INVALID || sg_dim_is_constant(dim))
        return -1;
    const sg_expression *e = sg_expression_of(table, dim);
    if (e->count != 1 || e->terms[0].degree != 1 || e->terms[0].coefficient != 1)
        return -1;
    const sg_atom *only = &table->atoms[e->terms[0].factors[0]];
    return only->symbol ? only->number : -1;
}
