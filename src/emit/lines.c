/* What belongs together in emitted code: titles, and items without empty lines between them. */
#include "emit/lines.h"

#include "gen/cuda/formula.h"

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

/* A comment parts what it is about from what stands before it; members of a struct stand together,
 * and what a namespace begins with behind its name. */
static void drop_between(lines *all) {
    for (int i = all->count - 2; i > 0; i--) {
        const line *l = &all->line[i];
        int behind = i + 1;
        while (behind < all->count && all->line[behind].kind == LINE_COMMENT)
            behind++;
        bool about = behind > i + 1 && behind < all->count && all->line[behind].kind == LINE_CODE &&
                     !is_title(&l[1]);
        bool within = l[1].kind == LINE_CODE && l[1].indent > 0; /* a struct */
        bool opens = begins(l[-1].text, "namespace ") || begins(l[-1].text, "#if ");
        if (l->kind == LINE_EMPTY && (opens || ((about || within) && l[-1].kind == LINE_CODE)))
            take_out(all, i, i + 1);
    }
}

/* ---- comments ------------------------------------------------------------------------------- */

/* Behind the comment that begins at line i. */
static int behind_comment(const lines *all, int i) {
    while (i < all->count && all->line[i].kind == LINE_COMMENT && !ends(all->line[i].text, "*/"))
        i++;
    return i + 1;
}

/* Heads that say no more than what a file of the skeletons is for another: here they are one. */
static void drop_heads(lines *all) {
    enum { FEW = 2 };
    for (int i = all->count - 2; i > 0; i--) {
        int behind = all->line[i].kind == LINE_COMMENT ? behind_comment(all, i) : i;
        bool alone = begins(all->line[i].text, "/* ") && behind < all->count &&
                     all->line[i - 1].kind == LINE_EMPTY && all->line[behind].kind == LINE_EMPTY;
        bool names_file = false;
        for (int k = i; k < behind; k++)
            names_file |= strstr(all->line[k].text, ".cuh") != NULL;
        if (alone && names_file && behind - i <= FEW)
            take_out(all, i, behind + 1);
    }
}

/* A line's comment stands behind what it is about, where both fit a line. */
static void join_comments(lines *all) {
    enum { COLUMNS = 100 };
    for (int i = all->count - 2; i >= 0; i--) {
        const line *l = &all->line[i], *next = l + 1;
        bool whole = next->kind == LINE_CODE && !begins(next->text, "template") &&
                     !strstr(next->text, "/*") && !strstr(next->text, "//") &&
                     (ends(next->text, "{") || ends(next->text, ";") || ends(next->text, "}"));
        bool alone = l->kind == LINE_COMMENT && begins(l->text, "/* ") && ends(l->text, "*/") &&
                     !is_title(l) && (i == 0 || l[-1].kind != LINE_COMMENT);
        if (!whole || !alone || next->indent + strlen(next->text) + 1 + strlen(l->text) > COLUMNS)
            continue;
        const char *text = sg_cuda_formula(all->arena, "%s %s", next->text, l->text);
        if (!text)
            return;
        all->line[i + 1].text = text;
        take_out(all, i, i + 1);
    }
}

void sg_lines_group(lines *all) {
    drop_titles(all);
    drop_heads(all);
    join_groups(all);
    drop_between(all);
    join_comments(all);
}
