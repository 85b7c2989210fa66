/* Tools for the host's text: formulas in the words of the function that is written, products,
 * conditions that sizes make true, and long lines. */
#ifndef SEGUE_EMIT_TEXT_H
#define SEGUE_EMIT_TEXT_H

#include "emit/emission.h"
#include "gen/cuda/formula.h"

enum { SG_EMIT_SIZES = 8 };

/* What the host's text is made from. */
typedef struct sg_emit_text {
    const sg_emission *emission;
    const sg_problem *problem;             /* of the first path; all have the same region */
    const char *parameters[SG_EMIT_SIZES]; /* sizes that the caller gives */
    int parameter_count;
    const char *derived[SG_EMIT_SIZES][2]; /* sizes that follow: a name, and what it is */
    int derived_count;
    const char *(*sizes)[SG_RANK_MAX]; /* of each member, by its dimensions */
    const char *range;                 /* what sizes must hold; NULL: nothing */
    const char *equal;                 /* and those of a tensor that is read in two ways; NULL */
    bool alike;                        /* the kernels of both paths take the same tensors */
} sg_emit_text;

bool sg_emit_is_letter(char c);

/* As printf, in the arena; "" when memory ran out. */
SG_FORMAT(2, 3) const char *sg_emit_join(const sg_emit_text *host, const char *format, ...);
/* A formula in the function's words: "input0.size[1] * s.h" -> "64 * h". */
const char *sg_emit_spell(const sg_emit_text *host, const char *formula);
/* The product of two sizes or products. */
const char *sg_emit_multiply(const sg_emit_text *host, const char *a, const char *b);
/* Conditions of a spelled formula that are not true at all sizes; NULL where all are. */
const char *sg_emit_open_conditions(const sg_emit_text *host, const char *conditions);
/* A line, broken where it would go beyond column 100; what follows is indented further. */
void sg_emit_long(const char *indent, const char *line, sg_text *text);

/* A prefix and words, broken at spaces before column 100; then the other prefix. */
void sg_emit_wrap(const char *prefix, const char *next, const char *words, sg_text *text);
/* Unless the condition holds, the function returns the sentence. */
void sg_emit_check(const sg_emit_text *host, const char *condition, const char *sentence,
                   sg_text *text);

/* Finds the sizes of the region's axes and of all tensors. False when memory ran out. */
bool sg_emit_measure(sg_emit_text *host);
/* A size of a tensor for the caller, in parameters alone: "h" -> "in_h - 2". */
const char *sg_emit_caller_size(const sg_emit_text *host, const char *size);
/* Of a member along a dimension. */
const char *sg_emit_stride(const sg_emit_text *host, int member, int dim);

#endif
