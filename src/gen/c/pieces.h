/* The texts of kernels/c, which the library carries, cut into pieces: functions and types that
 * files in C are put together from. */
#ifndef SEGUE_GEN_C_PIECES_H
#define SEGUE_GEN_C_PIECES_H

#include "base/text.h"
#include "ir/graph.h"

/* A file of kernels/c; the build writes the table (cmake/embed.cmake). */
typedef struct sg_c_text {
    const char *name; /* "basic.h" */
    const char *text;
} sg_c_text;

extern const sg_c_text sg_c_texts[];
extern const int sg_c_text_count;

/* Writes the pieces that `used` names, and those that they name, in an order that C takes.
 * compute: what `real` is, SG_F32 or SG_F64. Scratch memory comes from the arena. */
void sg_c_write_pieces(const char *used, sg_dtype compute, sg_arena *arena, sg_text *text);

/* C's type for an element in memory: "float", "double", "uint16_t", "uint8_t". */
const char *sg_c_type(sg_dtype dtype);

#endif
