/* What belongs together in emitted code: titles, and items without empty lines between them. */
#include "emit/lines.h"

enum { SMALL = 5 };

int sg_lines_depth(const char *text) {
    int depth = 0;
    for (const char *at = text; *at; at++) {
        if (*at == '"' || *at == '\'') {
            const char quote = *at++;
            while (*at && *at != quote)
                at += *at == '\\' && at[1] ? 2 : 1;
            if (!*at)
                break;
        } else {
            depth += strchr("([{", *at) != NULL;
            depth -= strchr(")]}", *at) != NULL;
        }
    }
    return depth;
}

/* ---- titles ---------------------------------------------------------------------------------- */

static bool is_title(const line *l) {
    return l->kind == LINE_COMMENT && begins(l->text, "/* ---- ");
}

/* Titles of sections of a few lines within a namespace or a file of the skeletons. */
static void drop_titles(lines *all) {
    enum { FEW = 7 };
    for (int i = all->count - 1; i >= 0; i--) {
        int behind = i + 1, held = 0;
        if (!is_title(&all->line[i]) ||
            (i + 1 < all->count && begins(all->line[i + 1].text, "namespace")))
            continue;
        while (behind < all->count && !is_title(&all->line[behind]) &&
               !begins(all->line[behind].text, "} // namespace") &&
               !begins(all->line[behind].text, "namespace "))
            held += all->line[behind++].kind != LINE_EMPTY;
        if (held <= FEW)
            take_out(all, i, i + 1);
    }
}

/* ---- groups --------------------------------------------------------------------------------- */

/* Lines of the small item that ends before `behind`, or begins at `first`; 0: it is none, but a
 * large one, a title, a comment by itself. */
static int small_item(const lines *all, int first, int behind, int indent) {
    bool code = false;
    if (behind - first < 1 || behind - first > SMALL)
        return 0;
    for (int i = first; i < behind; i++) {
        const line *l = &all->line[i];
        if (l->kind == LINE_DIRECTIVE || begins(l->text, "/* ---- ") ||
            (l->indent < indent && l->kind == LINE_CODE) || begins(l->text, "namespace") ||
            begins(l->text, "} // namespace"))
            return 0;
        code |= l->kind == LINE_CODE;
    }
    bool whole = all->line[first].indent == indent;
    return code && whole ? behind - first : 0;
}

/* Small functions, constants and structs stand without empty lines between them. */
static void join_groups(lines *all) {
    int kept = 0, start = 0;
    for (int i = 0; i < all->count; i++) {
        const line *l = &all->line[i];
        if (l->kind != LINE_EMPTY) {
            bool opens = l->kind == LINE_CODE && ends(l->text, "{") && sg_lines_depth(l->text) == 1;
            if (i == start && opens && begins(l->text, "struct "))
                start = i + 1; /* its first member */
            all->line[kept++] = *l;
            continue;
        }
        int behind = i + 1;
        while (behind < all->count && all->line[behind].kind != LINE_EMPTY)
            behind++;
        int indent = i + 1 < all->count ? all->line[i + 1].indent : 0;
        bool drop = small_item(all, start, i, indent) && small_item(all, i + 1, behind, indent);
        start = i + 1;
        if (!drop)
            all->line[kept++] = *l;
    }
    all->count = kept;
}

/* A comment parts what it is about from what stands before it. */
static void drop_before_comments(lines *all) {
    for (int i = all->count - 2; i > 0; i--) {
        const line *l = &all->line[i];
        int behind = i + 1;
        while (behind < all->count && all->line[behind].kind == LINE_COMMENT)
            behind++;
        bool about = behind > i + 1 && behind < all->count && all->line[behind].kind == LINE_CODE &&
                     !is_title(&l[1]);
        if (l->kind == LINE_EMPTY && about && l[-1].kind == LINE_CODE &&
            !begins(l[-1].text, "namespace"))
            take_out(all, i, i + 1);
    }
}

void sg_lines_group(lines *all) {
    drop_titles(all);
    join_groups(all);
    drop_before_comments(all);
}
