/* Sizes: integers or expressions over symbols such as N, H - 2, (H - 1) // 2 + 1.
 *
 * A size is one 64-bit word. A plain integer stands for itself (SG_DIM_SYMBOLIC is below every
 * value that a size, stride or padding may have); anything else is an index into the graph's table
 * of expressions, which holds each distinct expression once, in a normal form (a sum of integer
 * multiples of products of symbols and quotients), so equal words mean provably equal sizes. */
#ifndef SEGUE_IR_DIM_H
#define SEGUE_IR_DIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/text.h"
#include "segue.h"

typedef int64_t sg_dim;
#define SG_DIM_SYMBOLIC (INT64_MIN / 2) /* words below this are expressions */
#define SG_DIM_INVALID  INT64_MIN       /* overflow, or out of memory */
/* Sizes and their products stay below this, so that no sum of two overflows. */
#define SG_DIM_LIMIT (INT64_C(1) << 62)

typedef struct sg_dim_table sg_dim_table;

static inline bool sg_dim_is_constant(sg_dim dim) {
    return dim >= SG_DIM_SYMBOLIC;
}

/* An empty table, in the arena; NULL when out of memory. */
sg_dim_table *sg_dim_table_create(sg_arena *arena);

/* A copy, in the arena, in which every word means what it means in table; NULL when out of memory.
 */
sg_dim_table *sg_dim_table_copy(const sg_dim_table *table, sg_arena *arena);

/* Each returns SG_DIM_INVALID when the result leaves the range above, is too long an expression
 * (some hundred symbols), or memory ran out; and passes an invalid operand on. */
sg_dim sg_dim_symbol(sg_dim_table *table, const char *name, int64_t length);
sg_dim sg_dim_add(sg_dim_table *table, sg_dim a, sg_dim b);
sg_dim sg_dim_subtract(sg_dim_table *table, sg_dim a, sg_dim b);
sg_dim sg_dim_multiply(sg_dim_table *table, sg_dim a, sg_dim b);
/* Rounds towards minus infinity; b > 0 when constant (else SG_DIM_INVALID), and taken to be nonzero
 * when symbolic: N * H // N is H. */
sg_dim sg_dim_floor_divide(sg_dim_table *table, sg_dim a, sg_dim b);

/* Symbols are numbered from 0 in order of first use. */
int sg_dim_symbol_count(const sg_dim_table *table);
const char *sg_dim_symbol_name(const sg_dim_table *table, int symbol);
/* Symbol number when dim is a bare symbol, else -1. */
int sg_dim_as_symbol(const sg_dim_table *table, sg_dim dim);
/* Value under values[symbol]; SG_DIM_INVALID when a needed one is negative (unbound) or on
 * overflow. */
int64_t sg_dim_evaluate(const sg_dim_table *table, sg_dim dim, const int64_t *values);
void sg_dim_print(const sg_dim_table *table, sg_dim dim, sg_text *text);

#endif
