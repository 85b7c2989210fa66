/* Emitted code as lines, for the passes of compact.h. */
#ifndef SEGUE_EMIT_LINES_H
#define SEGUE_EMIT_LINES_H

#include <stdbool.h>
#include <string.h>

#include "base/arena.h"

typedef enum line_kind { LINE_EMPTY, LINE_COMMENT, LINE_DIRECTIVE, LINE_CODE } line_kind;

typedef struct line {
    line_kind kind;
    int indent;
    const char *text; /* without indentation */
} line;

typedef struct lines {
    sg_arena *arena;
    line *line;
    int count;
} lines;

static inline bool begins(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

static inline bool ends(const char *text, const char *with) {
    size_t length = strlen(text), of = strlen(with);
    return length >= of && strcmp(text + length - of, with) == 0;
}

/* Takes lines first .. behind - 1 out. */
static inline void take_out(lines *all, int first, int behind) {
    memmove(all->line + first, all->line + behind,
            sizeof *all->line * (size_t)(all->count - behind));
    all->count -= behind - first;
}

/* Brackets that are open behind a line; negative where it closes more than it opens. */
int sg_lines_depth(const char *text);

static inline bool sg_lines_is_title(const line *l) {
    return l->kind == LINE_COMMENT && begins(l->text, "/* ---- ");
}

/* Behind the comment that begins at line i. */
int sg_lines_behind_comment(const lines *all, int i);
/* Paragraphs take as few lines as they can. */
void sg_lines_fill_comments(lines *all);
/* Heads that say no more than what a file of the skeletons is for another go: here they are one. */
void sg_lines_drop_heads(lines *all);
/* A line's comment stands behind what it is about, where both fit a line. */
void sg_lines_join_comments(lines *all);

/* Titles of sections of a few lines go, and empty lines between small items. */
void sg_lines_group(lines *all);

#endif
