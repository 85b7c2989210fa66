/* Emitted code in fewer lines, for people: what every function says becomes a macro, statements and
 * functions that fit a line take one, and declarations of one kind share lines. But for the macros
 * and for declarations that are joined, a compiler sees the same tokens. */
#ifndef SEGUE_EMIT_COMPACT_H
#define SEGUE_EMIT_COMPACT_H

#include "base/arena.h"
#include "base/text.h"

/* Adds `code`, formatted as lowering leaves it, to a text, the macros' definitions before it. */
void sg_emit_compact(const char *code, sg_arena *arena, sg_text *text);

#endif
