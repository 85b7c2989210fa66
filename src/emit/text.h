/* Tools for the host's text: formulas in the caller's words, long lines, and conditions with the
 * sentence that goes with them. */
#ifndef SEGUE_EMIT_TEXT_H
#define SEGUE_EMIT_TEXT_H

#include "emit/emission.h"
#include "gen/cuda/formula.h"

/* What the host's text is made from. */
typedef struct sg_emit_text {
    const sg_emission *emission;
    const sg_problem *problem; /* of the first path; all have the same region */
    sg_text measure;           /* the body of measure() */
    bool alike;                /* the kernels of both paths take the same tensors: take_tensors() */
} sg_emit_text;

extern const char sg_emit_axes[]; /* a letter each: "ncdhw" */

bool sg_emit_is_letter(char c);

/* As printf, in the arena; "" when memory ran out. */
SG_FORMAT(2, 3) const char *sg_emit_join(const sg_emit_text *host, const char *format, ...);
/* A formula with the caller's names for tensors: "input0.size[1]" -> "t.x.size[1]". */
const char *sg_emit_spell(const sg_emit_text *host, const char *formula);
/* A line, broken where it would go beyond column 100; what follows is indented further. */
void sg_emit_long(const char *indent, const char *line, sg_text *text);
/* Unless the condition holds, the function returns the sentence. */
void sg_emit_check(const sg_emit_text *host, const char *condition, const char *sentence,
                   sg_text *text);

/* Whether the graph fixes an axis of the region: then it is a number in the text. */
bool sg_emit_is_fixed(const sg_problem *problem, int axis);
/* Writes host->measure: sizes of the region's axes from the tensors', and whether all agree. */
void sg_emit_measure(sg_emit_text *host);

#endif
