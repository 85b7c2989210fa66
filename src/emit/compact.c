#include "emit/compact.h"

#include <ctype.h>
#include <string.h>

#include "emit/lines.h"
#include "gen/cuda/formula.h"

enum { COLUMNS = 100, INDENT = 4, STATEMENTS_MAX = 3, SHORT = 48, BRIEF = 32 };

static const char SPECIFIERS[] = "__device__ __forceinline__", DEVICE[] = "DEVICE";
static const char UNROLLED[] = "UNROLLED", ROLLED[] = "ROLLED";

static bool is_word(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

static bool has_comment(const char *text) {
    return strstr(text, "/*") || strstr(text, "//");
}

/* ---- reading ------------------------------------------------------------------------------- */

/* `from` becomes `to` wherever it stands in a line. */
static const char *exchange(sg_arena *arena, const char *text, const char *from, const char *to) {
    const char *at;
    while (text && (at = strstr(text, from)) != NULL)
        text = sg_cuda_formula(arena, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return text;
}

/* Conversions of numbers, as functions. */
static const struct {
    const char *from, *to;
} casts[] = {{"static_cast<int>(", "int("},
             {"static_cast<unsigned>(", "unsigned("},
             {"static_cast<float>(", "float("}};

static bool read(lines *all, const char *code) {
    static const char unroll[] = "_Pragma(\"unroll\")", define[] = "#define SG_UNROLL ";
    bool comment = false, plain = true;
    int count = 1;
    for (const char *at = code; *at; at++)
        count += *at == '\n';
    for (const char *at = strstr(code, define); at; at = strstr(at + 1, define))
        plain &= begins(at + strlen(define), unroll);
    all->line = SG_ARENA_NEW(all->arena, line, count);
    for (const char *at = code; all->line && *at;) {
        int length = (int)strcspn(at, "\n"), indent = (int)strspn(at, " ");
        const char *text = sg_arena_text(all->arena, at + indent, (size_t)(length - indent));
        if (!text)
            return false;
        line *made = &all->line[all->count++];
        *made = (line){.indent = indent};
        at += length + (at[length] == '\n');
        bool starts = begins(text, "/*");
        if (begins(text, "// ---- ")) {
            all->count--; /* marks for tests */
        } else if (comment || starts || begins(text, "//")) {
            made->kind = LINE_COMMENT;
            comment = (comment || starts) && !strstr(text, "*/");
            /* A comment before code on the same line is code's. */
            made->kind = !comment && starts && !ends(text, "*/") ? LINE_CODE : LINE_COMMENT;
        } else if (strcmp(text, "#pragma unroll") == 0 || strcmp(text, "#pragma unroll 1") == 0) {
            made->kind = LINE_CODE;
            made->indent = (int)strspn(at, " ");
            text = ends(text, "1") ? ROLLED : UNROLLED;
        } else if (*text == '#') {
            made->kind = LINE_DIRECTIVE;
            if (plain && (begins(text, define) || strcmp(text, "#undef SG_UNROLL") == 0))
                all->count--;
        } else if (*text) {
            made->kind = LINE_CODE;
            text = exchange(all->arena, text, SPECIFIERS, DEVICE);
            text = exchange(all->arena, text, unroll, UNROLLED);
            for (size_t i = 0; i < sizeof casts / sizeof *casts; i++)
                text = exchange(all->arena, text, casts[i].from, casts[i].to);
            text = text && plain ? exchange(all->arena, text, "SG_UNROLL", UNROLLED) : text;
        }
        made->text = text;
        if (!text)
            return false;
        /* A comment behind code that goes on in the next lines. */
        const char *open = made->kind == LINE_CODE ? strstr(text, "/*") : NULL;
        comment |= open && !strstr(open, "*/");
    }
    return all->line != NULL;
}

/* ---- heads --------------------------------------------------------------------------------- */

/* A line broken behind commas, each part but the first behind the first open bracket. */
static int break_head(lines *all, int at, int room) {
    line whole = all->line[at];
    const char *open = strchr(whole.text, '('), *rest = whole.text;
    int column = whole.indent + (open ? (int)(open - whole.text) + 1 : INDENT), made = 0;
    while (*rest && made < room) {
        int indent = made ? column : whole.indent, best = 0;
        for (int i = 0; rest[i] && indent + i <= COLUMNS; i++) {
            if (rest[i] == ',' && rest[i + 1] == ' ' && indent + i + 1 <= COLUMNS)
                best = i + 1;
            if (!rest[i + 1])
                best = i + 1;
        }
        if (!best || made + 1 == room)
            best = (int)strlen(rest);
        all->line[at + made++] =
            (line){LINE_CODE, indent, sg_cuda_formula(all->arena, "%.*s", best, rest)};
        rest += best + strspn(rest + best, " ");
    }
    return made;
}

/* Heads of functions over several lines, which the macro made shorter. */
static void fill_heads(lines *all) {
    for (int i = 0; i < all->count; i++) {
        const line *first = &all->line[i];
        if (first->kind != LINE_CODE || !strstr(first->text, DEVICE) ||
            sg_lines_depth(first->text) <= 0 || ends(first->text, "{"))
            continue;
        const char *text = first->text;
        int behind = i + 1, depth = sg_lines_depth(text);
        for (; behind < all->count && text && depth > 0; behind++) {
            const line *next = &all->line[behind];
            if (next->kind != LINE_CODE || has_comment(next->text))
                break;
            depth += sg_lines_depth(next->text);
            text =
                sg_cuda_formula(all->arena, ends(text, "(") ? "%s%s" : "%s %s", text, next->text);
            if (ends(next->text, "{") && depth == 1)
                depth = 0;
        }
        if (!text || depth > 0)
            continue;
        all->line[i].text = text;
        int made = break_head(all, i, behind - i);
        take_out(all, i + made, behind);
    }
}

/* ---- statements ---------------------------------------------------------------------------- */

/* Behind what says how a loop is to be unrolled. */
static const char *after_macro(const char *text) {
    size_t length = strspn(text, "UNROLED");
    bool macro =
        length > 0 && text[length] == ' ' && (begins(text, UNROLLED) || begins(text, ROLLED));
    return macro ? text + length + 1 : text;
}

static bool is_control(const char *text) {
    static const char *const words[] = {"if (",    "if constexpr (", "for (",
                                        "while (", "else if (",      "} else if ("};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (begins(after_macro(text), words[i]))
            return true;
    }
    return false;
}

/* A statement on one line, as an if or a loop may govern. */
static bool is_statement(const line *l) {
    return l->kind == LINE_CODE && ends(l->text, ";") && sg_lines_depth(l->text) == 0 &&
           !has_comment(l->text) && !begins(l->text, "}");
}

/* The last of the statements on a line. */
static const char *last_statement(const char *text) {
    const char *last = text;
    for (const char *at = strstr(text, "; "); at; at = strstr(at + 1, "; "))
        last = at + 2;
    return last;
}

/* Line i and the next become one; false where that is too long. */
static bool join(lines *all, int i, const char *format) {
    const char *text =
        sg_cuda_formula(all->arena, format, all->line[i].text, all->line[i + 1].text);
    if (!text || all->line[i].indent + (int)strlen(text) > COLUMNS)
        return false;
    all->line[i].text = text;
    take_out(all, i + 1, i + 2);
    return true;
}

static bool join_unrolled(lines *all, int i) {
    const line *l = &all->line[i];
    bool macro = strcmp(l->text, UNROLLED) == 0 || strcmp(l->text, ROLLED) == 0;
    if (!macro || i + 1 >= all->count || l[1].kind != LINE_CODE)
        return false;
    all->line[i + 1].indent = l[1].indent;
    all->line[i].indent = l[1].indent;
    return join(all, i, "%s %s");
}

/* Whether a line is more than one statement. */
static bool are_several(const line *l) {
    return strstr(l->text, "; ") != NULL;
}

/* Braces around one statement that a loop or an if without else governs. */
static bool drop_braces(lines *all, int i) {
    const line *l = &all->line[i];
    if (i + 2 >= all->count || !is_control(l->text) || !ends(l->text, ") {") ||
        sg_lines_depth(l->text) != 1 || begins(l->text, "}") || begins(l->text, "else") ||
        !is_statement(&l[1]) || is_control(l[1].text) || strcmp(l[2].text, "}") != 0)
        return false;
    if (are_several(&l[1])) /* on one line they stay */
        return l->indent + strlen(l->text) + strlen(l[1].text) + 3 <= COLUMNS &&
               join(all, i, "%s %s") && join(all, i, "%s %s");
    all->line[i].text = sg_cuda_formula(all->arena, "%.*s", (int)strlen(l->text) - 2, l->text);
    take_out(all, i + 2, i + 3);
    return all->line[i].text != NULL;
}

/* Behind the compound statement at line i, of a control with braces or with one statement; 0: it is
 * none that we know. */
static int behind_control(const lines *all, int i) {
    const line *l = &all->line[i];
    int at = i + 1;
    if (l->kind != LINE_CODE || !is_control(l->text) || begins(l->text, "}") ||
        has_comment(l->text) || at >= all->count)
        return 0;
    if (ends(l->text, ")") && sg_lines_depth(l->text) == 0)
        return is_statement(&l[1]) && l[1].indent > l->indent && !are_several(&l[1]) ? at + 1 : 0;
    if (!ends(l->text, ") {") || sg_lines_depth(l->text) != 1)
        return 0;
    while (at < all->count &&
           (all->line[at].indent > l->indent || strcmp(all->line[at].text, "}") != 0))
        at++;
    return at < all->count && all->line[at].indent == l->indent ? at + 1 : 0;
}

/* Braces around one loop or if that a loop governs. */
static bool drop_outer_braces(lines *all, int i) {
    const line *l = &all->line[i];
    if (i + 2 >= all->count || l->kind != LINE_CODE || !begins(after_macro(l->text), "for (") ||
        !ends(l->text, ") {") || sg_lines_depth(l->text) != 1 || has_comment(l->text))
        return false;
    int close = behind_control(all, i + 1);
    if (close == 0 || close >= all->count || all->line[close].indent != l->indent ||
        strcmp(all->line[close].text, "}") != 0)
        return false;
    all->line[i].text = sg_cuda_formula(all->arena, "%.*s", (int)strlen(l->text) - 2, l->text);
    take_out(all, close, close + 1);
    return all->line[i].text != NULL;
}

/* A statement with a comment behind it. */
static bool is_commented_statement(const line *l) {
    const char *comment = strstr(l->text, "; /* ");
    return l->kind == LINE_CODE && comment && ends(comment, " */") && !begins(l->text, "}") &&
           !begins(l->text, "/*") && !is_control(l->text) && sg_lines_depth(l->text) == 0;
}

/* What is governed, behind what governs it. */
static bool join_governed(lines *all, int i) {
    const line *l = &all->line[i];
    if (i + 1 >= all->count || has_comment(l->text) ||
        (!is_statement(&l[1]) && !is_commented_statement(&l[1])) ||
        (are_several(&l[1]) && !is_control(l[1].text)))
        return false;
    bool control = is_control(l->text) && ends(l->text, ")") && sg_lines_depth(l->text) == 0;
    bool otherwise = strcmp(l->text, "else") == 0;
    bool nested = is_control(l[1].text) && !begins(l[1].text, "if (");
    return (control || otherwise) && !nested && l[1].indent > l->indent && join(all, i, "%s %s");
}

/* The end of a statement, behind its beginning: what made it long may be gone. Not of assembly,
 * whose lines mean something. */
static bool join_continued(lines *all, int i) {
    const line *l = &all->line[i];
    if (i + 1 >= all->count || l->kind != LINE_CODE || l[1].kind != LINE_CODE ||
        l[1].indent <= l->indent || has_comment(l->text) || strchr(l->text, '"') ||
        has_comment(l[1].text) || strchr(l[1].text, '"') || begins(l->text, "template <") ||
        !(ends(l[1].text, ";") || ends(l[1].text, ") {")) || strcmp(l->text, "else") == 0)
        return false;
    size_t length = strlen(l->text);
    int depth = sg_lines_depth(l->text);
    bool goes_on =
        depth > 0 ? !ends(l->text, "{") : length > 0 && strchr("=&|+-*?,", l->text[length - 1]);
    bool whole = depth + sg_lines_depth(l[1].text) == ends(l[1].text, "{");
    return goes_on && whole && join(all, i, ends(l->text, "(") ? "%s%s" : "%s %s");
}

/* The type and specifiers that a declaration begins with, up to its name; 0: it is none of numbers.
 */
static int declared(const char *text) {
    static const char *const specifiers[] = {"static ", "constexpr ", "const "};
    static const char *const types[] = {"int ",  "bool ",     "float ",
                                        "real ", "unsigned ", "long long "};
    int length = 0;
    for (size_t i = 0; i < sizeof specifiers / sizeof *specifiers; i++)
        length += begins(text + length, specifiers[i]) ? (int)strlen(specifiers[i]) : 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (!begins(text + length, types[i]))
            continue;
        length += (int)strlen(types[i]);
        int name = 0;
        while (is_word(text[length + name]))
            name++;
        return name && begins(text + length + name, " = ") ? length : 0;
    }
    return 0;
}

/* Two declarations of one type; constants of all kernels with an empty line between them too. A
 * comment before the first is the first's alone. */
static bool join_declarations(lines *all, int i) {
    const line *l = &all->line[i];
    int type = l->kind == LINE_CODE && is_statement(l) ? declared(l->text) : 0;
    if (!type || i + 1 >= all->count || (i > 0 && l[-1].kind == LINE_COMMENT))
        return false;
    bool global = l->indent == 0 && begins(l->text, "constexpr");
    int next = i + 1 + (global && l[1].kind == LINE_EMPTY);
    if (next >= all->count || !is_statement(&all->line[next]) ||
        all->line[next].indent != l->indent || declared(all->line[next].text) != type ||
        strncmp(l->text, all->line[next].text, (size_t)type) != 0)
        return false;
    const char *text = sg_cuda_formula(all->arena, "%.*s, %s", (int)strlen(l->text) - 1, l->text,
                                       all->line[next].text + type);
    if (!text || l->indent + (int)strlen(text) > COLUMNS)
        return false;
    all->line[i].text = text;
    take_out(all, i + 1, next + 1);
    return true;
}

/* Whether a statement begins with a type and a name. */
static bool is_declaration(const char *text) {
    int word = 0;
    while (is_word(text[word]) || text[word] == ':')
        word++;
    const char *next = text + word;
    next += *next == ' ';
    next += strspn(next, "*&");
    return word > 0 && text[word] == ' ' && is_word(*next);
}

/* The object that a short assignment is to, "of.from" of "of.from.x = s.x;"; 0: it is none. */
static int assigned_object(const line *l) {
    int length = (int)strcspn(l->text, " "), dot = length;
    if (!is_statement(l) || is_control(l->text) || (int)strlen(l->text) > SHORT ||
        strncmp(l->text + length, " = ", 3) != 0)
        return 0;
    for (int i = 0; i < length; i++) {
        if (!is_word(l->text[i]) && l->text[i] != '.')
            return 0;
    }
    while (dot > 0 && l->text[dot] != '.')
        dot--;
    return dot;
}

/* Members of one object that are set one after the other. */
static bool join_assignments(lines *all, int i) {
    const line *l = &all->line[i];
    if (i + 1 >= all->count || l->kind != LINE_CODE || l[1].indent != l->indent)
        return false;
    int object = assigned_object(&l[1]);
    if (!object || strncmp(l->text, l[1].text, (size_t)object + 1) != 0 || !is_statement(l) ||
        assigned_object(&(line){LINE_CODE, 0, last_statement(l->text)}) != object)
        return false;
    return join(all, i, "%s %s");
}

/* Whether a line is of short statements that declare nothing and go no other way. calls: of
 * functions that are given nothing, or without calls. */
static bool is_brief(const line *l, bool calls) {
    static const char *const words[] = {"else ", "return", "break", "continue", "do "};
    const char *text = l->text, *last = last_statement(text), *open = strchr(last, '(');
    if (l->kind != LINE_CODE || !is_statement(l) || is_control(text) || is_declaration(text) ||
        strchr(text, '"') || strlen(last) > BRIEF || strlen(text) > 2 * BRIEF)
        return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (begins(text, words[i]))
            return false;
    return calls ? open && open[1] == ')' : !open;
}

/* Two short statements of a kind. */
static bool join_brief(lines *all, int i) {
    const line *l = &all->line[i];
    return i + 1 < all->count && l[1].indent == l->indent && l->indent > 0 &&
           ((is_brief(l, false) && is_brief(&l[1], false)) ||
            (is_brief(l, true) && is_brief(&l[1], true))) &&
           join(all, i, "%s %s");
}

/* A tensor of a kernel's parameter: its address and its strides. */
static bool join_strides(lines *all, int i) {
    const line *l = &all->line[i];
    return i + 1 < all->count && is_statement(l) && strstr(l->text, "*__restrict__ ") &&
           is_statement(&l[1]) && begins(l[1].text, "Stride ") && l[1].indent == l->indent &&
           join(all, i, "%s %s");
}

/* A struct of a line or two without comments. */
static bool join_struct(lines *all, int i) {
    const line *l = &all->line[i];
    if (i + 1 < all->count && begins(l->text, "struct ") && ends(l->text, " {") &&
        strcmp(l[1].text, "};") == 0)
        return join(all, i, "%s%s");
    if (i + 2 >= all->count || !begins(l->text, "struct ") || !ends(l->text, " {") ||
        !is_statement(&l[1]) || strcmp(l[2].text, "};") != 0 ||
        l->indent + strlen(l->text) + strlen(l[1].text) + 4 > COLUMNS)
        return false;
    return join(all, i, "%s %s") && join(all, i, "%s %s");
}

/* ---- functions ----------------------------------------------------------------------------- */

static bool is_head(const char *text) {
    return (begins(text, DEVICE) || begins(text, "static DEVICE") || begins(text, "template <")) &&
           strstr(text, DEVICE) && ends(text, "{") && sg_lines_depth(text) == 1;
}

static bool is_short_function(const line *l) {
    return l->kind == LINE_CODE && strstr(l->text, DEVICE) && ends(l->text, "}") &&
           sg_lines_depth(l->text) == 0;
}

static bool join_template(lines *all, int i) {
    const line *l = &all->line[i];
    return i + 1 < all->count && begins(l->text, "template <") && ends(l->text, ">") &&
           l[1].kind == LINE_CODE && (begins(l[1].text, DEVICE) || begins(l[1].text, "struct")) &&
           join(all, i, "%s %s");
}

/* A function of a few short statements. */
static bool join_function(lines *all, int i) {
    const line *l = &all->line[i];
    if (l->kind != LINE_CODE || !is_head(l->text))
        return false;
    const char *text = l->text;
    int behind = i + 1;
    for (; behind < all->count && is_statement(&all->line[behind]) && text; behind++)
        text = sg_cuda_formula(all->arena, "%s %s", text, all->line[behind].text);
    if (!text || behind == i + 1 || behind > i + 1 + STATEMENTS_MAX || behind >= all->count ||
        strcmp(all->line[behind].text, "}") != 0 || l->indent + (int)strlen(text) + 2 > COLUMNS)
        return false;
    all->line[i].text = sg_cuda_formula(all->arena, "%s }", text);
    take_out(all, i + 1, behind + 1);
    return all->line[i].text != NULL;
}

/* A namespace that is opened again. */
static bool join_namespaces(lines *all, int i) {
    static const char close[] = "} // ";
    int next = i + 1;
    while (next < all->count && all->line[next].kind == LINE_EMPTY)
        next++;
    const char *text = all->line[i].text;
    if (next >= all->count || all->line[i].kind != LINE_CODE || !begins(text, close) ||
        strcmp(all->line[next].text,
               sg_cuda_formula(all->arena, "%s {", text + sizeof close - 1)) != 0)
        return false;
    take_out(all, i, next + 1);
    return true;
}

static bool drop_empty(lines *all, int i) {
    const line *l = &all->line[i];
    if (l->kind != LINE_EMPTY || i == 0 || i + 1 >= all->count)
        return false;
    bool title = l[-1].kind == LINE_COMMENT && begins(l[-1].text, "/* ---- ");
    bool functions = is_short_function(&l[-1]) && is_short_function(&l[1]);
    if (l[1].kind != LINE_EMPTY && !title && !functions)
        return false;
    take_out(all, i, i + 1);
    return true;
}

/* ---- the whole ----------------------------------------------------------------------------- */

void sg_emit_compact(const char *code, sg_arena *arena, sg_text *text) {
    static bool (*const passes[])(lines *, int) = {
        join_unrolled, drop_braces,   drop_outer_braces, join_continued,   join_governed,
        join_template, join_function, join_declarations, join_assignments, join_brief,
        join_struct,   join_strides,  join_namespaces,   drop_empty};
    lines all = {.arena = arena};
    if (!read(&all, code)) {
        text->failed = true;
        return;
    }
    fill_heads(&all);
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t pass = 0; pass < sizeof passes / sizeof *passes; pass++) {
            for (int i = all.count - 1; i >= 0; i--)
                changed |= passes[pass](&all, i);
        }
    }
    sg_lines_group(&all);
    sg_text_add(text,
                "#define %s %s\n#define %s _Pragma(\"unroll\")\n"
                "#define %s _Pragma(\"unroll 1\")\n",
                DEVICE, SPECIFIERS, UNROLLED, ROLLED);
    for (int i = 0; i < all.count; i++)
        sg_text_add(text, "%*s%s\n", all.line[i].kind == LINE_EMPTY ? 0 : all.line[i].indent, "",
                    all.line[i].text);
    text->failed |= sg_arena_failed(arena);
}
