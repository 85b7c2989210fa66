/* How a trimmed text looks: titles and heads of what is gone go too, blocks are indented by their
 * depth, statements that fit a line take one, and no two empty lines follow each other. */
#include <string.h>

#include "base/text.h"
#include "gen/cuda/trim_text.h"

enum { COLUMNS = 100, INDENT = 4, FILES_MAX = 64 };

/* ---- titles and heads ---------------------------------------------------------------------- */

typedef enum note_kind { NOTE_BEGIN, NOTE_END, NOTE_TITLE, NOTE_HEAD } note_kind;

typedef struct note {
    note_kind kind;
    int start, end; /* bytes */
    int token;      /* the one behind it */
    bool dead;
} note;

static bool begins(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

/* Comments of the four kinds, in order. */
static int find_notes(const sg_trim_unit *unit, note *notes, int capacity) {
    int count = 0;
    for (int token = 0; token <= unit->token_count; token++) {
        int at = token ? unit->tokens[token - 1].end : 0, limit = unit->tokens[token].start;
        bool fresh = false; /* nothing has come since a file began */
        while (at < limit && count < capacity) {
            const char *from = unit->text + at;
            if (*from != '/') {
                at++;
                continue;
            }
            const char *close = from[1] == '*' ? strstr(from, "*/") : NULL;
            int end = close ? (int)(close - unit->text) + 2 : at + (int)strcspn(from, "\n");
            note new = {.start = at, .end = end, .token = token};
            bool wanted = true;
            if (begins(from, "//@ begin"))
                new.kind = NOTE_BEGIN;
            else if (begins(from, "//@ end"))
                new.kind = NOTE_END;
            else if (begins(from, "/* ---- "))
                new.kind = NOTE_TITLE;
            else if (fresh)
                new.kind = NOTE_HEAD;
            else
                wanted = false;
            fresh = wanted && new.kind == NOTE_BEGIN;
            if (wanted)
                notes[count++] = new;
            at = end;
        }
    }
    return count;
}

/* A title over nothing: another note, or the end of what it stands in, follows at once. */
static void judge_titles(const sg_trim_unit *unit, note *notes, int count) {
    for (int i = 0; i < count; i++) {
        note *this = &notes[i];
        if (this->kind == NOTE_TITLE)
            this->dead = (i + 1 < count && notes[i + 1].token == this->token) ||
                         this->token == unit->token_count ||
                         sg_trim_is(unit, this->token, SG_TRIM_CLOSE_BLOCK);
    }
}

/* A head stays while a token of its file, not of files that this one takes in, is left. */
static void judge_heads(const sg_trim_unit *unit, note *notes, int count) {
    int head[FILES_MAX], tokens[FILES_MAX], depth = 0;
    for (int i = 0; i < count && depth < FILES_MAX; i++) {
        int next = i + 1 < count ? notes[i + 1].token : unit->token_count;
        if (notes[i].kind == NOTE_BEGIN) {
            head[depth] = -1;
            tokens[depth++] = 0;
        } else if (notes[i].kind == NOTE_HEAD && depth) {
            head[depth - 1] = i;
        } else if (notes[i].kind == NOTE_END && depth) {
            depth--;
            if (head[depth] >= 0)
                notes[head[depth]].dead = tokens[depth] == 0;
        }
        if (depth)
            tokens[depth - 1] += next - notes[i].token;
    }
}

static void drop_notes(sg_trim_unit *unit) {
    int capacity = 256;
    note *notes = SG_ARENA_NEW(unit->arena, note, capacity);
    if (!notes)
        return;
    int count = find_notes(unit, notes, capacity);
    judge_titles(unit, notes, count);
    judge_heads(unit, notes, count);
    for (int i = 0; i < count; i++) {
        bool contract = strncmp(unit->text + notes[i].start, "/* For skeletons", 16) == 0;
        if (notes[i].kind == NOTE_BEGIN || notes[i].kind == NOTE_END)
            sg_trim_replace(unit, notes[i].start, notes[i].end, "\n"); /* an empty line */
        else if (notes[i].dead || contract)
            sg_trim_replace(unit, notes[i].start, notes[i].end, "");
    }
}

/* ---- statements ---------------------------------------------------------------------------- */

/* Goes through all statements, in one of two ways. */
typedef struct walker {
    sg_trim_unit *unit;
    int *line;   /* of every token */
    int *indent; /* of every line, -1: as the line before was shifted; NULL: lengths are wanted */
} walker;

static int line_start(const sg_trim_unit *unit, int at) {
    while (at > 0 && unit->text[at - 1] != '\n')
        at--;
    return at;
}

static int leading_spaces(const char *line) {
    return (int)strspn(line, " " SG_TRIM_CHANGED);
}

/* The token, where it is the first of its line, and the comments over it. */
static void place(const walker *w, int token, int indent) {
    const sg_trim_unit *unit = w->unit;
    if (!w->indent)
        return;
    int start = unit->tokens[token].start, last = token ? unit->tokens[token - 1].end : 0;
    int line = token ? w->line[token - 1] : 0;
    bool comment = false;
    for (int at = last; at <= start; at++) {
        if (at != 0 && unit->text[at - 1] != '\n')
            continue;
        line += at != 0;
        const char *from = unit->text + at + leading_spaces(unit->text + at);
        if (!comment && from <= unit->text + start && *from != '\n')
            w->indent[line] = indent;
        if (begins(from, "/*"))
            comment = true;
        size_t length = strcspn(from, "\n");
        for (size_t i = 0; comment && i + 1 < length; i++)
            if (from[i] == '*' && from[i + 1] == '/')
                comment = false;
    }
}

static bool has_comment(const sg_trim_unit *unit, int first, int behind) {
    for (int i = first; i + 1 < behind; i++)
        for (int at = unit->tokens[i].end; at < unit->tokens[i + 1].start; at++)
            if (unit->text[at] == '/')
                return true;
    return false;
}

/* A span's text on one line. */
static bool join(const sg_trim_unit *unit, int first, int behind, char *to, int capacity) {
    int length = 0;
    for (int i = first; i < behind; i++) {
        const sg_trim_token *t = &unit->tokens[i];
        if (i > first) {
            int gap = t->start - unit->tokens[i - 1].end;
            const char *between = unit->text + unit->tokens[i - 1].end;
            bool broken = memchr(between, '\n', (size_t)gap) != NULL;
            bool marks = gap > 0 && strspn(between, SG_TRIM_CHANGED) >= (size_t)gap;
            bool tight =
                sg_trim_is(unit, i - 1, SG_TRIM_OPEN) ||
                sg_trim_is(unit, i - 1, SG_TRIM_OPEN_INDEX) || sg_trim_is(unit, i, SG_TRIM_CLOSE) ||
                sg_trim_is(unit, i, SG_TRIM_CLOSE_INDEX) || sg_trim_is(unit, i, SG_TRIM_SEMICOLON);
            if (gap > 0 && !marks && !(tight && (broken || gap == 1)) && length < capacity)
                to[length++] = ' ';
        }
        if (length + t->end - t->start >= capacity)
            return false;
        memcpy(to + length, unit->text + t->start, (size_t)(t->end - t->start));
        length += t->end - t->start;
    }
    to[length] = 0;
    return true;
}

/* How good a place for a new line is behind character i of a line: 0 none, else deeper brackets
 * are worse. */
static int break_depth(const char *line, int i, int depth) {
    static const char *const behind[] = {"&&", "||", "+", "-", "*", "/", "=", "|", "&"};
    if (line[i] != ' ')
        return 0;
    if (line[i - 1] == ',' || line[i - 1] == ';')
        return depth + 1;
    if (line[i + 1] == '?' || (line[i + 1] == ':' && line[i + 2] == ' '))
        return depth + 1;
    for (size_t k = 0; k < sizeof behind / sizeof *behind; k++) {
        int length = (int)strlen(behind[k]);
        if (i > length && line[i - length - 1] == ' ' &&
            memcmp(line + i - length, behind[k], (size_t)length) == 0)
            return depth + 1 + (length == 1 && *behind[k] != '=') +
                   (*behind[k] == '*' || *behind[k] == '/');
    }
    return 0;
}

const char *sg_trim_fill(sg_arena *arena, const char *line, int indent) {
    sg_text out = {0};
    int column = indent;
    int open[COLUMNS] = {0}, depth = 0; /* columns behind open brackets */
    while (column + (int)strlen(line) > COLUMNS) {
        int best = -1, best_depth = COLUMNS, d = depth, limit = COLUMNS - column;
        int columns[COLUMNS];
        memcpy(columns, open, sizeof columns);
        int chosen_depth = 0, saved[COLUMNS] = {0};
        for (int i = 0; i <= limit && line[i]; i++) {
            if (line[i] == '(' || line[i] == '[' || line[i] == '{') {
                if (d == COLUMNS)
                    break;
                columns[d] = column + i + 1;
                d++;
            } else if ((line[i] == ')' || line[i] == ']' || line[i] == '}') && d) {
                d--;
            }
            int good = i > 0 ? break_depth(line, i, d * 3) : 0;
            if (good && good <= best_depth) {
                best = i;
                best_depth = good;
                chosen_depth = d;
                memcpy(saved, columns, sizeof saved);
            }
        }
        if (best < 0)
            break;
        depth = chosen_depth;
        memcpy(open, saved, sizeof open);
        int next = depth ? open[depth - 1] : indent + INDENT;
        sg_text_add(&out, "%.*s\n%*s", best, line, next, "");
        line += best + 1;
        column = next;
    }
    sg_text_add(&out, "%s", line);
    const char *text = out.failed ? NULL : sg_arena_text(arena, out.data, out.length);
    sg_text_release(&out);
    return text;
}

/* Tokens first .. behind - 1 go on one line if they fit, and are filled anew if they changed. */
static void measure(const walker *w, int first, int behind) {
    sg_trim_unit *unit = w->unit;
    if (w->indent || behind <= first)
        return;
    int start = unit->tokens[first].start, end = unit->tokens[behind - 1].end;
    const char *text = unit->text + start;
    bool broken = memchr(text, '\n', (size_t)(end - start)) != NULL;
    bool changed = memchr(text, *SG_TRIM_CHANGED, (size_t)(end - start)) != NULL;
    if ((!broken && !changed) || has_comment(unit, first, behind))
        return;
    for (int i = first; i < behind; i++)
        if (unit->tokens[i].kind == SG_TRIM_STRING || unit->tokens[i].kind == SG_TRIM_DIRECTIVE)
            return;
    char line[20 * COLUMNS];
    if (!join(unit, first, behind, line, sizeof line))
        return;
    int indent = 0;
    for (int i = line_start(unit, start); i < start; i++)
        indent += unit->text[i] != *SG_TRIM_CHANGED;
    /* A comment behind it stays on its line. */
    int trail = sg_trim_trail(unit, behind - 1) - end;
    bool fits = indent + (int)strlen(line) + trail <= COLUMNS;
    const char *filled = fits      ? sg_arena_text(unit->arena, line, strlen(line))
                         : changed ? sg_trim_fill(unit->arena, line, indent)
                                   : NULL;
    if (filled)
        sg_trim_replace(unit, start, end, filled);
}

static int walk_statement(const walker *w, int i, int indent);

static int walk_block(const walker *w, int first, int behind, int indent) {
    while (first >= 0 && first < behind)
        first = walk_statement(w, first, indent);
    return first == behind ? behind : -1;
}

/* A block with its braces; the { is not the first of a line. */
static int walk_braces(const walker *w, int open, int indent) {
    int close = w->unit->tokens[open].pair;
    if (walk_block(w, open + 1, close, indent + INDENT) < 0)
        return -1;
    place(w, close, indent);
    return close + 1;
}

/* What an if, an else or a loop governs. */
static int walk_governed(const walker *w, int i, int indent) {
    if (sg_trim_is(w->unit, i, SG_TRIM_OPEN_BLOCK))
        return walk_braces(w, i, indent);
    while (w->unit->tokens[i].kind == SG_TRIM_DIRECTIVE)
        i++;
    return walk_statement(w, i, indent + INDENT);
}

static int walk_if(const walker *w, int i, int indent) {
    int open = i + 1 + sg_trim_is(w->unit, i + 1, SG_TRIM_CONSTEXPR);
    if (!sg_trim_is(w->unit, open, SG_TRIM_OPEN))
        return -1;
    int governed = sg_trim_behind(w->unit, open);
    measure(w, i, governed + sg_trim_is(w->unit, governed, SG_TRIM_OPEN_BLOCK));
    int behind = walk_governed(w, governed, indent);
    if (behind < 0 || !sg_trim_is(w->unit, behind, SG_TRIM_ELSE))
        return behind;
    place(w, behind, indent);
    if (sg_trim_is(w->unit, behind + 1, SG_TRIM_IF))
        return walk_if(w, behind + 1, indent);
    return walk_governed(w, behind + 1, indent);
}

/* Declarations, functions, expressions: up to a ; or behind a body. */
static int walk_plain(const walker *w, int first, int indent) {
    const sg_trim_unit *unit = w->unit;
    bool space = sg_trim_is(unit, first, SG_TRIM_NAMESPACE);
    bool members = space || sg_trim_is(unit, first, SG_TRIM_STRUCT);
    int from = first;
    for (int i = first; i < unit->token_count; i++) {
        int open = unit->tokens[i].pair > i ? i : -1;
        if (sg_trim_is(unit, i, SG_TRIM_SEMICOLON)) {
            measure(w, from, i + 1);
            return i + 1;
        }
        if (!sg_trim_is(unit, i, SG_TRIM_OPEN_BLOCK))
            continue;
        bool body = members || sg_trim_is(unit, i - 1, SG_TRIM_CLOSE) ||
                    sg_trim_is(unit, i - 1, SG_TRIM_CONST) || sg_trim_is(unit, i - 1, SG_TRIM_DO);
        if (!body) {
            i = unit->tokens[i].pair;
            continue;
        }
        int close = unit->tokens[open].pair;
        /* A body in one line with its head is left there. */
        if (memchr(unit->text + unit->tokens[open].start, '\n',
                   (size_t)(unit->tokens[close].start - unit->tokens[open].start)) ||
            members) {
            measure(w, from, i + 1);
            if (walk_block(w, open + 1, close, space ? indent : indent + INDENT) < 0)
                return -1;
            place(w, close, indent);
        }
        from = i = close;
        if (!sg_trim_is(unit, i + 1, SG_TRIM_SEMICOLON) &&
            !sg_trim_is(unit, i + 1, SG_TRIM_COMMA) && !sg_trim_is(unit, i + 1, SG_TRIM_CLOSE))
            return i + 1;
    }
    return -1;
}

static int walk_statement(const walker *w, int i, int indent) {
    const sg_trim_unit *unit = w->unit;
    if (i >= unit->token_count)
        return -1;
    if (unit->tokens[i].kind == SG_TRIM_DIRECTIVE)
        return i + 1;
    place(w, i, indent);
    switch (unit->tokens[i].spelling) {
    case SG_TRIM_UNROLL:
        return walk_statement(w, i + 1, indent);
    case SG_TRIM_PRAGMA:
        return walk_statement(w, sg_trim_behind(unit, i + 1), indent);
    case SG_TRIM_TEMPLATE: {
        int behind = sg_trim_behind_template(unit, i + 1);
        return behind < 0 ? -1 : walk_statement(w, behind, indent);
    }
    case SG_TRIM_OPEN_BLOCK:
        return walk_braces(w, i, indent);
    case SG_TRIM_IF:
        return walk_if(w, i, indent);
    case SG_TRIM_FOR:
    case SG_TRIM_WHILE: {
        if (!sg_trim_is(unit, i + 1, SG_TRIM_OPEN))
            return -1;
        int governed = sg_trim_behind(unit, i + 1);
        bool braces = sg_trim_is(unit, governed, SG_TRIM_OPEN_BLOCK);
        bool nothing = sg_trim_is(unit, governed, SG_TRIM_SEMICOLON);
        measure(w, i, governed + braces);
        return nothing ? (place(w, governed, indent + INDENT), governed + 1)
                       : walk_governed(w, governed, indent);
    }
    default:
        return walk_plain(w, i, indent);
    }
}

/* ---- lines --------------------------------------------------------------------------------- */

/* The text with its lines shifted; the text itself where it is not what we write. */
static const char *indented(sg_arena *arena, const char *text) {
    sg_trim_unit unit;
    if (!sg_trim_read(&unit, arena, text))
        return text;
    int lines = 1, at = 0;
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    walker w = {.unit = &unit,
                .line = SG_ARENA_NEW(arena, int, unit.token_count + 1),
                .indent = SG_ARENA_NEW(arena, int, lines + 1)};
    if (!w.line || !w.indent)
        return NULL;
    for (int i = 0, line = 0; i < unit.token_count; i++) {
        for (; at < unit.tokens[i].end; at++)
            line += text[at] == '\n';
        w.line[i] = line;
    }
    for (int i = 0; i <= lines; i++)
        w.indent[i] = -1;
    if (walk_block(&w, 0, unit.token_count, 0) < 0)
        return text;
    sg_text out = {0};
    int shift = 0;
    for (int line = 0; *text; line++) {
        int length = (int)strcspn(text, "\n"), old = leading_spaces(text), spaces = 0;
        for (int i = 0; i < old; i++)
            spaces += text[i] == ' ';
        if (text[old] == '#') {
            sg_text_add(&out, "%.*s\n", length, text);
        } else if (old == length) {
            sg_text_add(&out, "\n");
        } else {
            if (w.indent[line] >= 0)
                shift = w.indent[line] - spaces;
            int new = spaces + shift > 0 ? spaces + shift : 0;
            sg_text_add(&out, "%*s%s%.*s\n", new, "", old > spaces ? SG_TRIM_CHANGED : "",
                        length - old, text + old);
        }
        text += length + (text[length] == '\n');
    }
    const char *result = out.failed ? NULL : sg_arena_text(arena, out.data, out.length);
    sg_text_release(&out);
    return result;
}

static const char *filled(sg_arena *arena, const char *text) {
    sg_trim_unit unit;
    if (!sg_trim_read(&unit, arena, text))
        return text;
    walker w = {.unit = &unit};
    return walk_block(&w, 0, unit.token_count, 0) < 0 ? text : sg_trim_apply(&unit);
}

/* Whether an empty line belongs between two lines: constants, then something else. */
static bool parts(const char *line, const char *next) {
    return begins(line, "constexpr") && (begins(next, "struct") || begins(next, "__device__") ||
                                         begins(next, "template") || begins(next, "namespace"));
}

/* Without marks of changes, white space at ends of lines, and empty lines that part nothing. */
static const char *cleaned(sg_arena *arena, const char *text) {
    char *out = sg_arena_alloc(arena, strlen(text) + 2);
    size_t length = 0;
    bool empty = false; /* an empty line is due */
    int line = -1;      /* where the last line begins in out */
    if (!out)
        return NULL;
    while (*text) {
        size_t width = strcspn(text, "\n"), start = length;
        empty |= line >= 0 && parts(out + line, text);
        bool opened = length >= 2 && out[length - 2] == '{';
        bool closes = text[strspn(text, " ")] == '}';
        if (empty && length && !opened && !closes)
            out[length++] = '\n', start++;
        size_t first = length;
        for (size_t i = 0; i < width; i++)
            if (text[i] != *SG_TRIM_CHANGED)
                out[length++] = text[i];
        while (length > first && out[length - 1] == ' ')
            length--;
        bool blank = length == first;
        if (blank)
            length = start - (empty && length && !opened && !closes ? 1 : 0);
        else
            out[length++] = '\n', line = (int)first;
        empty = blank;
        text += width + (text[width] == '\n');
    }
    out[length] = 0;
    return out;
}

const char *sg_trim_lay_out(sg_arena *arena, const char *text) {
    sg_trim_unit unit;
    if (sg_trim_read(&unit, arena, text)) {
        drop_notes(&unit);
        text = sg_trim_apply(&unit);
    }
    text = text ? indented(arena, text) : NULL;
    text = text ? filled(arena, text) : NULL;
    return text ? cleaned(arena, text) : NULL;
}
