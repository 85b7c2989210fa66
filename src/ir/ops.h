/* The operators, as data. One enum and one descriptor per row of ops.def; every pass asks the
 * descriptor for a property instead of naming operators, so that a new row needs no new code. */
#ifndef SEGUE_IR_OPS_H
#define SEGUE_IR_OPS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum sg_op {
#define SG_LEAF(name, ...)        SG_OP_##name,
#define SG_CONTRACTION(name, ...) SG_OP_##name,
#define SG_POINTWISE(name, ...)   SG_OP_##name,
#define SG_CAST(name, ...)        SG_OP_##name,
#define SG_REDUCTION(name, ...)   SG_OP_##name,
#define SG_SOFTMAX(name, ...)     SG_OP_##name,
#define SG_VIEW(name, ...)        SG_OP_##name,
#include "ir/ops.def"
#undef SG_LEAF
#undef SG_CONTRACTION
#undef SG_POINTWISE
#undef SG_CAST
#undef SG_REDUCTION
#undef SG_SOFTMAX
#undef SG_VIEW
    SG_OP_COUNT
} sg_op;

typedef enum sg_kind {
    SG_KIND_LEAF,
    SG_KIND_CONTRACTION,
    SG_KIND_POINTWISE, /* casts among them */
    SG_KIND_REDUCTION,
    SG_KIND_SOFTMAX,
    SG_KIND_VIEW
} sg_kind;

/* How a pointwise op's result dtype follows from its operands. */
typedef enum sg_result {
    SG_RESULT_SAME,
    SG_RESULT_BOOL,
    SG_RESULT_SELECT,
    SG_RESULT_MASK
} sg_result;

/* Algebraic properties, a set of bits. */
enum {
    SG_COMMUTES = 1,   /* f(a, b) == f(b, a) */
    SG_MONOTONE = 2,   /* a <= b implies f(a) <= f(b) */
    SG_IDEMPOTENT = 4, /* f(f(a)) == f(a) */
};

/* Where random tests draw operands from. */
typedef enum sg_domain {
    SG_DOMAIN_REAL,
    SG_DOMAIN_WIDE,
    SG_DOMAIN_POSITIVE,
    SG_DOMAIN_MASKED
} sg_domain;

typedef enum sg_attribute_kind {
    SG_ATTRIBUTE_FLOAT,
    SG_ATTRIBUTE_INT,
    SG_ATTRIBUTE_BOOL,
    SG_ATTRIBUTE_LIST,    /* of sizes, which may be symbolic */
    SG_ATTRIBUTE_SPATIAL, /* a list with one entry per spatial dimension, or one for all */
    SG_ATTRIBUTE_DTYPE
} sg_attribute_kind;

enum { SG_ATTRIBUTES_MAX = 4, SG_OPERANDS_MAX = 3 };

typedef struct sg_attribute_spec {
    const char *name;
    sg_attribute_kind kind;
    double initial; /* value when the text leaves it out; lists: empty, or one entry if spatial;
                       dtypes: -1, they must be given */
} sg_attribute_spec;

typedef struct sg_op_info {
    const char *name;
    sg_kind kind;
    int arity; /* operands; -1: any number (foreign) */
    sg_result result;
    unsigned algebra;
    sg_domain domain;
    const char *torch; /* ATen overloads, see ops.def */
    int ulp;
    int attribute_count; /* at most SG_ATTRIBUTES_MAX */
    const sg_attribute_spec *attributes;
    double (*reference)(double a, double b, double c, const double *p); /* pointwise only */
    const char *vector; /* the column of that name, for what generates source; NULL where none */
} sg_op_info;

/* Row of an op; never NULL for op < SG_OP_COUNT. */
const sg_op_info *sg_op_get(sg_op op);

/* Op of that name (length bytes), or SG_OP_COUNT. */
sg_op sg_op_find(const char *name, int64_t length);

#endif
