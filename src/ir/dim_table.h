/* The table behind sizes, for dim.c, which keeps it, and dim_value.c, which reads it. */
#ifndef SEGUE_IR_DIM_TABLE_H
#define SEGUE_IR_DIM_TABLE_H

#include "ir/dim.h"

enum { SG_DIM_BUCKETS = 64 };

typedef struct sg_term {
    int64_t coefficient;
    int degree;
    const int *factors; /* atoms, sorted, repeated for powers; degree of them */
} sg_term;

typedef struct sg_expression {
    int count, weight;
    const sg_term *terms;
    uint64_t hash;
    struct sg_expression *next; /* in its bucket */
    int index;
} sg_expression;

typedef struct sg_atom {
    const char *symbol; /* NULL: a quotient */
    int number;         /* of the symbol */
    int weight;
    sg_dim numerator, denominator;
} sg_atom;

struct sg_dim_table {
    sg_arena *arena;
    sg_expression **expressions, *buckets[SG_DIM_BUCKETS];
    int count, capacity;
    sg_atom *atoms;
    int atom_count, atom_capacity;
    int *symbols; /* number -> atom */
    int symbol_count, symbol_capacity;
};

/* ---- checked integers: false, or SG_DIM_INVALID for the caller, outside the range of dim.h -- */

static inline bool sg_dim_in_range(int64_t value) {
    return value >= SG_DIM_SYMBOLIC && value < SG_DIM_LIMIT;
}

/* Operands in range, so the sum cannot leave 64 bits. */
static inline bool sg_add_checked(int64_t a, int64_t b, int64_t *sum) {
    *sum = a + b;
    return sg_dim_in_range(*sum);
}

static inline bool sg_multiply_checked(int64_t a, int64_t b, int64_t *product) {
    if (a == 0 || b == 0) {
        *product = 0;
        return true;
    }
    int64_t x = a < 0 ? -a : a, y = b < 0 ? -b : b;
    if (x > SG_DIM_LIMIT / y)
        return false;
    *product = a * b;
    return sg_dim_in_range(*product);
}

static inline int64_t sg_floor_quotient(int64_t a, int64_t b) {
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

static inline const sg_expression *sg_expression_of(const sg_dim_table *table, sg_dim dim) {
    return table->expressions[dim - SG_DIM_INVALID - 1];
}

#endif
