/* What belongs together in emitted code: titles, and items without empty lines between them. */
#include "emit/lines.h"

#include "gen/cuda/formula.h"
#include "gen/cuda/trim_text.h"

enum { COLUMNS = 100 };

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

/* A title of a namespace, whose name says the same: it parts large things. */
static bool is_of_namespace(const lines *all, int i) {
    return i + 1 < all->count && begins(all->line[i + 1].text, "namespace");
}

/* Whether a comment by itself begins at line i: the head of what was another file. */
static bool is_head(const lines *all, int i) {
    int behind = sg_lines_behind_comment(all, i);
    return begins(all->line[i].text, "/* ") && i > 0 && all->line[i - 1].kind == LINE_EMPTY &&
           behind < all->count && all->line[behind].kind == LINE_EMPTY;
}

/* Lines that stand under the title at line i, but for empty ones. */
static int count_section(const lines *all, int i) {
    int behind = i + 1, held = 0;
    while (behind < all->count && !sg_lines_is_title(&all->line[behind]) &&
           !begins(all->line[behind].text, "} // namespace") &&
           !begins(all->line[behind].text, "namespace ") && !is_head(all, behind))
        held += all->line[behind++].kind != LINE_EMPTY;
    return held;
}

/* Titles of short sections go, and with them that of the section before, where most of what stands
 * under it would then be of others. */
static void drop_titles(lines *all) {
    enum { FEW = 24 };
    int joined = 0; /* lines under titles that went, down to the next that stays */
    for (int i = all->count - 1; i >= 0; i--) {
        if (begins(all->line[i].text, "} // namespace"))
            joined = 0;
        if (!sg_lines_is_title(&all->line[i]))
            continue;
        int held = count_section(all, i);
        if (!is_of_namespace(all, i) && (held <= FEW || held < joined)) {
            joined += held;
            take_out(all, i, i + 1);
        } else {
            joined = 0;
        }
    }
}

/* ---- groups --------------------------------------------------------------------------------- */

/* Whether a line begins or ends what is larger than an item. */
static bool is_frame(const line *l) {
    return (l->kind == LINE_DIRECTIVE && !begins(l->text, "#define")) || sg_lines_is_title(l) ||
           begins(l->text, "namespace") || begins(l->text, "} // namespace") ||
           begins(l->text, "extern ") || begins(l->text, "#include");
}

/* Lines of the item that ends right before `behind`; 0: it is a comment by itself, or a frame. */
static int lines_before(const lines *all, int behind) {
    const line *last = &all->line[behind - 1];
    if (last->kind == LINE_COMMENT || last->kind == LINE_EMPTY || is_frame(last))
        return 0;
    int first = behind - 1;
    if (*last->text == '}')
        while (first > 0 && (all->line[first - 1].indent > last->indent ||
                             all->line[first - 1].kind == LINE_EMPTY))
            first--;
    return behind - first + (first < behind - 1);
}

/* Lines of the item that begins at `first`, with its comment; 0: likewise. */
static int lines_from(const lines *all, int first) {
    int at = first;
    while (at < all->count && all->line[at].kind == LINE_COMMENT && !is_frame(&all->line[at]))
        at++;
    if (at >= all->count || all->line[at].kind == LINE_EMPTY || is_frame(&all->line[at]))
        return 0;
    int indent = all->line[at++].indent;
    while (at < all->count && all->line[at].indent > indent)
        at++;
    return at - first + (at < all->count && *all->line[at].text == '}');
}

/* Small functions, constants and structs stand without empty lines around them. */
static void join_groups(lines *all) {
    enum { SMALL = 6 };
    for (int i = all->count - 2; i > 0; i--) {
        const line *next = &all->line[i + 1];
        if (all->line[i].kind != LINE_EMPTY || begins(next->text, "__global__"))
            continue;
        int before = lines_before(all, i), after = lines_from(all, i + 1);
        bool opens = begins(all->line[i - 1].text, "struct ") && ends(all->line[i - 1].text, "{");
        if (opens || (before && after && (before <= SMALL || after <= SMALL)))
            take_out(all, i, i + 1);
    }
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
                     !sg_lines_is_title(&l[1]);
        bool within = l[1].kind == LINE_CODE && l[1].indent > 0; /* a struct */
        bool opens = begins(l[-1].text, "namespace ") || begins(l[-1].text, "#if ");
        if (l->kind == LINE_EMPTY && (opens || ((about || within) && l[-1].kind == LINE_CODE)))
            take_out(all, i, i + 1);
    }
}

/* ---- members ------------------------------------------------------------------------------- */

/* Whether a line declares members of a type of one word: "int n, z;". Behind the type; 0: not so.
 */
static int declared_members(const line *l) {
    int type = (int)strcspn(l->text, " ");
    bool plain = l->kind == LINE_CODE && ends(l->text, ";") && !strpbrk(l->text, "=*&(<{/");
    static const char *const others[] = {"using", "return", "const", "static", "else", "struct"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        plain &= !(begins(l->text, others[i]) && (int)strlen(others[i]) == type);
    return plain && l->text[type] ? type + 1 : 0;
}

/* Members of one type in one declaration, where a struct has nothing else but them. */
static void join_members(lines *all) {
    for (int i = all->count - 3; i >= 0; i--) {
        const line *l = &all->line[i];
        if (!begins(l->text, "struct ") || l->kind != LINE_CODE || !ends(l->text, " {"))
            continue;
        int behind = i + 1;
        while (behind < all->count && declared_members(&all->line[behind]))
            behind++;
        if (behind >= all->count || strcmp(all->line[behind].text, "};") != 0)
            continue;
        for (int k = behind - 1; k > i + 1; k--) {
            const line *m = &all->line[k - 1];
            int type = declared_members(&m[1]);
            if (declared_members(m) != type || strncmp(m->text, m[1].text, (size_t)type) != 0)
                continue;
            const char *text = sg_cuda_formula(all->arena, "%.*s, %s", (int)strlen(m->text) - 1,
                                               m->text, m[1].text + type);
            if (!text || m->indent + strlen(text) > COLUMNS)
                continue;
            all->line[k - 1].text = text;
            take_out(all, k, k + 1);
        }
        if (strcmp(all->line[i + 2].text, "};") != 0)
            continue;
        const char *text = sg_cuda_formula(all->arena, "%s %s };", l->text, all->line[i + 1].text);
        if (text && l->indent + strlen(text) <= COLUMNS) {
            all->line[i].text = text;
            take_out(all, i + 1, i + 3);
        }
    }
}

/* ---- statements ---------------------------------------------------------------------------- */

/* Behind the statement over several lines that begins at line i; 0: there is none, or one with
 * comments, strings or blocks. */
static int behind_long(const lines *all, int i) {
    int depth = 0, at = i;
    for (; at < all->count; at++) {
        const line *l = &all->line[at];
        if (l->kind != LINE_CODE || strchr(l->text, '"') || strstr(l->text, "/*") ||
            strstr(l->text, "//") || ends(l->text, "{") || *l->text == '}' ||
            (at > i && l->indent <= all->line[i].indent))
            return 0;
        depth += sg_lines_depth(l->text);
        size_t length = strlen(l->text);
        bool goes_on = depth > 0 || strchr("=&|+-*/?:<>,(", l->text[length - 1]) ||
                       (at + 1 < all->count && strchr("?:&|", *all->line[at + 1].text));
        if (ends(l->text, ";") != !goes_on)
            return 0;
        if (!goes_on)
            return at + 1;
    }
    return 0;
}

/* Statements of three lines or more take fewer where they can: what made them long may be gone. */
static void fill_statements(lines *all) {
    for (int i = 0; i < all->count; i++) {
        int behind = behind_long(all, i);
        if (behind < i + 3)
            continue;
        const char *text = all->line[i].text;
        for (int k = i + 1; k < behind && text; k++)
            text = sg_cuda_formula(all->arena, ends(text, "(") ? "%s%s" : "%s %s", text,
                                   all->line[k].text);
        text = text ? sg_trim_fill(all->arena, text, all->line[i].indent) : NULL;
        int count = 1;
        for (const char *at = text; at && *at; at++)
            count += *at == '\n';
        if (!text || count >= behind - i)
            continue;
        for (int k = 0; k < count; k++) {
            int spaces = k ? (int)strspn(text, " ") : all->line[i].indent;
            text += k ? spaces : 0;
            int length = (int)strcspn(text, "\n");
            all->line[i + k] =
                (line){LINE_CODE, spaces, sg_cuda_formula(all->arena, "%.*s", length, text)};
            text += length + (text[length] == '\n');
        }
        take_out(all, i + count, behind);
    }
}

void sg_lines_group(lines *all) {
    fill_statements(all);
    sg_lines_fill_comments(all);
    drop_titles(all);
    sg_lines_drop_heads(all);
    join_groups(all);
    drop_between(all);
    join_members(all);
    sg_lines_join_comments(all);
}
