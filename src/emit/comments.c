/* Comments of emitted code: filled anew, beside what they are about. */
#include "emit/lines.h"
#include "gen/cuda/formula.h"

enum { COLUMNS = 100, MOST = 64 };

/* Behind the comment that begins at line i. */
int sg_lines_behind_comment(const lines *all, int i) {
    while (i < all->count && all->line[i].kind == LINE_COMMENT && !ends(all->line[i].text, "*/"))
        i++;
    return i + 1;
}

/* Heads that say no more than what a file of the skeletons is for another: here they are one. */
void sg_lines_drop_heads(lines *all) {
    enum { FEW = 2 };
    for (int i = all->count - 2; i > 0; i--) {
        int behind = all->line[i].kind == LINE_COMMENT ? sg_lines_behind_comment(all, i) : i;
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
void sg_lines_join_comments(lines *all) {
    for (int i = all->count - 2; i >= 0; i--) {
        const line *l = &all->line[i], *next = l + 1;
        bool whole = next->kind == LINE_CODE && !begins(next->text, "template") &&
                     !strstr(next->text, "/*") && !strstr(next->text, "//") &&
                     (ends(next->text, "{") || ends(next->text, ";") || ends(next->text, "}"));
        bool alone = l->kind == LINE_COMMENT && begins(l->text, "/* ") && ends(l->text, "*/") &&
                     !sg_lines_is_title(l) && (i == 0 || l[-1].kind != LINE_COMMENT);
        if (!whole || !alone || next->indent + strlen(next->text) + 1 + strlen(l->text) > COLUMNS)
            continue;
        const char *text = sg_cuda_formula(all->arena, "%s %s", next->text, l->text);
        if (!text)
            return;
        all->line[i + 1].text = text;
        take_out(all, i, i + 1);
    }
}

/* ---- filling ------------------------------------------------------------------------------- */

/* What a line of a comment says, without the marks of a comment. */
static const char *words_of(const line *l) {
    const char *text = l->text + (begins(l->text, "/*") ? 2 : *l->text == '*');
    return *text == ' ' ? text + 1 : text;
}

/* Whether a line of a comment may be joined with its neighbours: not one that is set apart, or an
 * item of a list. */
static bool is_of_paragraph(const line *l) {
    const char *words = words_of(l);
    return *words && *words != ' ' && *words != '-' && strcmp(words, "*/") != 0 &&
           !strstr(words, "  ");
}

/* Lines first .. behind - 1 are one paragraph, which takes as few lines as it can. Returns how many
 * it takes. */
static int fill_paragraph(lines *all, int first, int behind) {
    const char *text = words_of(&all->line[first]);
    const char *start = begins(all->line[first].text, "/*") ? "/* " : "* ";
    int indent = all->line[first].indent, inner = indent + (*start == '/'), at = first;
    for (int i = first + 1; i < behind && text; i++)
        text = sg_cuda_formula(all->arena, "%s %s", text, words_of(&all->line[i]));
    line made[MOST];
    int count = 0;
    while (text && *text && count < behind - first) {
        int room = COLUMNS - (count ? inner : indent) - (int)strlen(count ? "* " : start), best = 0;
        for (int i = 1; i <= room && text[i - 1]; i++)
            if ((text[i] == ' ' && strcmp(text + i, " */") != 0) || !text[i])
                best = i;
        if (best == 0)
            return behind - first; /* a word too long */
        made[count] =
            (line){LINE_COMMENT, count ? inner : indent,
                   sg_cuda_formula(all->arena, "%s%.*s", count ? "* " : start, best, text)};
        if (!made[count++].text)
            return behind - first;
        text += best + (text[best] == ' ');
    }
    if (!text || *text)
        return behind - first;
    for (int i = 0; i < count; i++)
        all->line[at++] = made[i];
    take_out(all, at, behind);
    return count;
}

void sg_lines_fill_comments(lines *all) {
    for (int i = 0; i < all->count; i++) {
        if (all->line[i].kind != LINE_COMMENT || !begins(all->line[i].text, "/*") ||
            sg_lines_is_title(&all->line[i]))
            continue;
        int last = sg_lines_behind_comment(all, i) - 1;
        while (i <= last && i < all->count) {
            int behind = i;
            while (behind <= last && behind - i < MOST && is_of_paragraph(&all->line[behind]))
                behind++;
            if (behind - i > 1) {
                int count = fill_paragraph(all, i, behind);
                last -= behind - i - count;
                i += count;
            } else {
                i++;
            }
        }
        i = last;
    }
}
