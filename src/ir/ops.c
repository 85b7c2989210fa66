/* The operators' rows, made from ops.def: a function per reference formula, an array per attribute
 * list, one descriptor for both. */
#include "ir/ops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "ir/constants.h"
#include "ir/reference_math.h"

/* The variadic part of a row may be empty, which C17 does not allow; so every row is passed on with
 * one more element at its end, which also closes its attribute list. */
#define END {0}

#define F(name, initial)  {#name, SG_ATTRIBUTE_FLOAT, initial}
#define I(name, initial)  {#name, SG_ATTRIBUTE_INT, initial}
#define B(name, initial)  {#name, SG_ATTRIBUTE_BOOL, initial}
#define L(name)           {#name, SG_ATTRIBUTE_LIST, 0}
#define L1(name, initial) {#name, SG_ATTRIBUTE_SPATIAL, initial}
#define D(name)           {#name, SG_ATTRIBUTE_DTYPE, -1}

/* Attribute lists. */
#define LIST(name, ...)                                                                            \
    static const sg_attribute_spec attributes_##name[] = {__VA_ARGS__};                            \
    _Static_assert(sizeof attributes_##name / sizeof *attributes_##name <= SG_ATTRIBUTES_MAX + 1,  \
                   "a row has more attributes than a node has room for");
#define SG_LEAF(...)                            LIST(__VA_ARGS__, END)
#define SG_CONTRACTION(name, arity, torch, ...) LIST(name, __VA_ARGS__, END)
#define SG_POINTWISE(...)                       POINTWISE_LIST(__VA_ARGS__, END)
#define POINTWISE_LIST(name, arity, result, algebra, domain, torch, ulp, reference, vector, ...)   \
    LIST(name, __VA_ARGS__)
#define SG_CAST(name, torch, ...) LIST(name, __VA_ARGS__, END)
#define SG_REDUCTION(name, torch) LIST(name, L(dim), B(keepdim, 0), END)
#define SG_SOFTMAX(name, torch)   LIST(name, I(dim, -1), END)
#define SG_VIEW(name, torch, ...) LIST(name, __VA_ARGS__, END)
#include "ir/ops.def"
#undef SG_LEAF
#undef SG_CONTRACTION
#undef SG_POINTWISE
#undef SG_CAST
#undef SG_REDUCTION
#undef SG_SOFTMAX
#undef SG_VIEW

/* Reference functions. */
#define SG_LEAF(...)
#define SG_CONTRACTION(...)
#define SG_POINTWISE(...) FUNCTION(__VA_ARGS__, END)
#define FUNCTION(name, arity, result, algebra, domain, torch, ulp, reference, vector, ...)         \
    static double reference_##name(double a, double b, double c, const double *p) {                \
        (void)a, (void)b, (void)c, (void)p;                                                        \
        return reference;                                                                          \
    }
#define SG_CAST(...)
#define SG_REDUCTION(...)
#define SG_SOFTMAX(...)
#define SG_VIEW(...)
#include "ir/ops.def"
#undef SG_LEAF
#undef SG_CONTRACTION
#undef SG_POINTWISE
#undef SG_CAST
#undef SG_REDUCTION
#undef SG_SOFTMAX
#undef SG_VIEW

/* A cast's rounding is the interpreter's business: it depends on the dtype. */
static double reference_cast(double a, double b, double c, const double *p) {
    (void)b, (void)c, (void)p;
    return a;
}

/* Rows. The property names of ops.def are short for these. */
enum { COMMUTES = SG_COMMUTES, MONOTONE = SG_MONOTONE, IDEMPOTENT = SG_IDEMPOTENT };

#define ATTRIBUTES(name)                                                                           \
    (int)(sizeof attributes_##name / sizeof *attributes_##name) - 1, attributes_##name
#define PLAIN(name, kind, arity, torch)                                                            \
    {#name, kind, arity, SG_RESULT_SAME, 0, SG_DOMAIN_REAL, torch, 0, ATTRIBUTES(name), NULL, NULL},

#define LEAF_ARITY(name)                        (SG_OP_##name == SG_OP_foreign ? -1 : 0)
#define SG_LEAF(name, ...)                      PLAIN(name, SG_KIND_LEAF, LEAF_ARITY(name), "")
#define SG_CONTRACTION(name, arity, torch, ...) PLAIN(name, SG_KIND_CONTRACTION, arity, torch)
#define SG_POINTWISE(...)                       POINTWISE_ROW(__VA_ARGS__, END)
#define POINTWISE_ROW(name, arity, result, algebra, domain, torch, ulp, reference, vector, ...)    \
    {#name,                                                                                        \
     SG_KIND_POINTWISE,                                                                            \
     arity,                                                                                        \
     SG_RESULT_##result,                                                                           \
     algebra,                                                                                      \
     SG_DOMAIN_##domain,                                                                           \
     torch,                                                                                        \
     ulp,                                                                                          \
     ATTRIBUTES(name),                                                                             \
     reference_##name,                                                                             \
     #vector},
#define SG_CAST(name, torch, ...)                                                                  \
    {#name,                                                                                        \
     SG_KIND_POINTWISE,                                                                            \
     1,                                                                                            \
     SG_RESULT_SAME,                                                                               \
     0,                                                                                            \
     SG_DOMAIN_REAL,                                                                               \
     torch,                                                                                        \
     0,                                                                                            \
     ATTRIBUTES(name),                                                                             \
     reference_##name,                                                                             \
     NULL},
#define SG_REDUCTION(name, torch) PLAIN(name, SG_KIND_REDUCTION, 1, torch)
#define SG_SOFTMAX(name, torch)   PLAIN(name, SG_KIND_SOFTMAX, 1, torch)
#define SG_VIEW(name, torch, ...) PLAIN(name, SG_KIND_VIEW, 1, torch)

static const sg_op_info rows[SG_OP_COUNT] = {
#include "ir/ops.def"
};

const sg_op_info *sg_op_get(sg_op op) {
    assert(op < SG_OP_COUNT);
    return &rows[op];
}

sg_op sg_op_find(const char *name, int64_t length) {
    for (int op = 0; op < SG_OP_COUNT; op++)
        if (strlen(rows[op].name) == (size_t)length &&
            memcmp(rows[op].name, name, (size_t)length) == 0)
            return (sg_op)op;
    return SG_OP_COUNT;
}
