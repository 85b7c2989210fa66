/* Expressions of a CUDA source and what constants make of them. */
#ifndef SEGUE_GEN_CUDA_TRIM_EXPRESSION_H
#define SEGUE_GEN_CUDA_TRIM_EXPRESSION_H

#include <stdint.h>

#include "gen/cuda/trim_text.h"

typedef enum sg_trim_type {
    SG_TRIM_UNKNOWN,
    SG_TRIM_TRUTH, /* a known bool */
    SG_TRIM_WHOLE, /* a known int */
    SG_TRIM_SIZE   /* a known number of another integer type */
} sg_trim_type;

typedef struct sg_trim_value {
    sg_trim_type type;
    int64_t number;
} sg_trim_value;

/* What a source says of its words, by spelling. */
typedef struct sg_trim_facts {
    sg_trim_unit *unit;
    sg_trim_value *values;    /* of constants, and of functions that return nothing else */
    bool *constant_functions; /* values[] is what a call returns */
    bool *templates;          /* a < behind it opens a list */
    bool *types;              /* structs, usings, parameters of templates */
    bool *truths;             /* functions and variables of type bool */
    bool *kept; /* static constants of structs: a text says what is theirs by their names */
    int *sizes; /* bytes of a type; 0: not known */
} sg_trim_facts;

typedef enum sg_trim_node_kind {
    SG_TRIM_LEAF,    /* a name, a literal */
    SG_TRIM_PARENS,  /* (a) */
    SG_TRIM_UNARY,   /* operator, a */
    SG_TRIM_BINARY,  /* a operator b */
    SG_TRIM_CHOICE,  /* a ? b : c */
    SG_TRIM_CALL,    /* a(more) */
    SG_TRIM_CONVERT, /* (type)a, type(a), static_cast<type>(a) */
    SG_TRIM_INDEX,   /* a[b] */
    SG_TRIM_MEMBER,  /* a.name, a->name, a++ */
    SG_TRIM_LIST     /* type{more} */
} sg_trim_node_kind;

typedef struct sg_trim_node sg_trim_node;
struct sg_trim_node {
    sg_trim_node_kind kind;
    int first, behind; /* tokens */
    int mark;          /* spelling of the operator, of a call's function; else -1 */
    sg_trim_node *child[3];
    sg_trim_node *next; /* in a list of arguments, which child[1] begins */
    sg_trim_value value;
    bool pure;  /* may be left out, or be made twice */
    bool named; /* all of it is literals and constants */
    bool plain; /* all of it is literals */
    /* After simplification: */
    sg_trim_node *instead; /* the part that stands for the whole */
    bool literal;          /* the value stands for the whole */
    bool changed;          /* something within */
};

/* False where memory ran out. */
bool sg_trim_learn(sg_trim_facts *facts, sg_trim_unit *unit);
/* The expression at `token`, without commas outside brackets; NULL where it is none that we know.
 */
sg_trim_node *sg_trim_parse(const sg_trim_facts *facts, int token);
/* How tightly a binary operator binds, 1 (assignments) to 12; 0: it is none. */
int sg_trim_precedence(int mark);
/* Simplifies; truth: what reads the result asks for true or false only. True where something
 * changed. */
bool sg_trim_simplify(const sg_trim_facts *facts, sg_trim_node *node, bool truth);
/* The text of a simplified expression, in the unit's arena. */
const char *sg_trim_print(const sg_trim_facts *facts, sg_trim_node *node);

/* Whether tokens first .. behind - 1 name a static constant of a struct. */
bool sg_trim_names_kept(const sg_trim_facts *facts, int first, int behind);
/* Whether a word is in capitals: a constant, or a parameter of a template. */
bool sg_trim_is_constant_name(const sg_trim_unit *unit, int token);
/* Whether a token is the name of a function that is defined there. */
bool sg_trim_is_function(const sg_trim_facts *facts, int name);
/* Bytes of the type of tokens first .. behind - 1; 0: not known. */
int sg_trim_type_size(const sg_trim_facts *facts, int first, int behind);
/* Whether a token may stand in the name of a type: a type, const, *, &. */
bool sg_trim_is_type_token(const sg_trim_facts *facts, int token);
/* Whether a token is a word that names a type. */
bool sg_trim_is_type(const sg_trim_facts *facts, int token);

#endif
