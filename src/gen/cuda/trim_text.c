#include "gen/cuda/trim_text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *text;
} known[] = {
#define SG_TRIM_TEXT(name, text) [SG_TRIM_##name] = {text},
    SG_TRIM_SPELLINGS(SG_TRIM_TEXT)
#undef SG_TRIM_TEXT
};

/* ---- reading ------------------------------------------------------------------------------- */

/* Twice the room, with what was there. */
static void *grown(sg_arena *arena, const void *old, int count, int *capacity, size_t size) {
    int larger = *capacity ? *capacity * 2 : 4096;
    void *room = sg_arena_alloc(arena, size * (size_t)larger);
    if (room) {
        if (count)
            memcpy(room, old, size * (size_t)count);
        *capacity = larger;
    }
    return room;
}

/* The slot of a text: its own, or an empty one. */
static unsigned find_slot(const sg_trim_unit *unit, const char *text, int length) {
    unsigned hash = 2166136261U, mask = (unsigned)unit->slot_count - 1;
    for (int i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619U;
    for (unsigned slot = hash & mask;; slot = (slot + 1) & mask) {
        int number = unit->slots[slot] - 1;
        if (number < 0 || (unit->spelling_lengths[number] == length &&
                           memcmp(unit->spellings[number], text, (size_t)length) == 0))
            return slot;
    }
}

int sg_trim_find(const sg_trim_unit *unit, const char *text, int length) {
    return unit->slots[find_slot(unit, text, length)] - 1;
}

bool sg_trim_next_word(const sg_trim_unit *unit, const sg_trim_token *line, int *at,
                       int *spelling) {
    const char *text = unit->text;
    for (int from = *at; from < line->end; from++) {
        int end = from;
        while (end < line->end && sg_trim_is_letter(text[end]))
            end++;
        if (end == from)
            continue;
        *spelling = sg_trim_find(unit, text + from, end - from);
        *at = end;
        return true;
    }
    return false;
}

static bool widen_spellings(sg_trim_unit *unit) {
    int capacity = unit->spelling_capacity;
    const char **texts =
        grown(unit->arena, unit->spellings, unit->spelling_count, &capacity, sizeof *texts);
    capacity = unit->spelling_capacity;
    int *lengths = grown(unit->arena, unit->spelling_lengths, unit->spelling_count, &capacity,
                         sizeof *lengths);
    capacity = unit->spelling_capacity;
    int *first = grown(unit->arena, unit->first, unit->spelling_count, &capacity, sizeof *first);
    capacity = unit->spelling_capacity;
    int *last = grown(unit->arena, unit->last, unit->spelling_count, &capacity, sizeof *last);
    int *slots = SG_ARENA_NEW(unit->arena, int, capacity * 2);
    if (!texts || !lengths || !first || !last || !slots)
        return false;
    unit->first = first;
    unit->last = last;
    unit->spellings = texts;
    unit->spelling_lengths = lengths;
    unit->slots = slots;
    unit->spelling_capacity = capacity;
    unit->slot_count = capacity * 2;
    for (int i = 0; i < unit->spelling_count; i++)
        slots[find_slot(unit, texts[i], lengths[i])] = i + 1;
    return true;
}

/* The number of a text; -1 where memory ran out. */
static int spell(sg_trim_unit *unit, const char *text, int length) {
    if (unit->spelling_count == unit->spelling_capacity && !widen_spellings(unit))
        return -1;
    unsigned slot = find_slot(unit, text, length);
    if (unit->slots[slot])
        return unit->slots[slot] - 1;
    unit->spellings[unit->spelling_count] = text;
    unit->spelling_lengths[unit->spelling_count] = length;
    unit->first[unit->spelling_count] = unit->last[unit->spelling_count] = -1;
    unit->slots[slot] = ++unit->spelling_count;
    return unit->spelling_count - 1;
}

/* Behind a comment that begins at `at`, or `at`. */
static int behind_comment(const char *text, int at) {
    if (text[at] == '/' && text[at + 1] == '*') {
        const char *end = strstr(text + at + 2, "*/");
        return end ? (int)(end - text) + 2 : (int)strlen(text);
    }
    if (text[at] == '/' && text[at + 1] == '/')
        return at + (int)strcspn(text + at, "\n");
    return at;
}

static int skip_space(const char *text, int at) {
    for (;;) {
        int next = behind_comment(text, at);
        if (next == at && text[at] &&
            (isspace((unsigned char)text[at]) || text[at] == *SG_TRIM_CHANGED))
            next = at + 1;
        if (next == at)
            return at;
        at = next;
    }
}

/* Length of an operator or bracket, the longest that fits; 0: it is none. */
static int mark_length(const char *text) {
    bool twice = text[1] == *text, assigns = text[1] == '=';
    switch (*text) {
    case '<':
    case '>':
        return twice && text[2] == '=' ? 3 : twice || assigns ? 2 : 1;
    case '-':
        return twice || assigns || text[1] == '>' ? 2 : 1;
    case '+':
    case '=':
    case '&':
    case '|':
        return twice || assigns ? 2 : 1;
    case '!':
    case '*':
    case '/':
    case '%':
    case '^':
        return assigns ? 2 : 1;
    case ':':
        return twice ? 2 : 1;
    default:
        return *text && strchr("()[]{};,?~.", *text) ? 1 : 0;
    }
}

/* Kind and length of the token at `at`; length 0 where there is none. */
static sg_trim_kind scan(const char *text, int at, int *length) {
    const char *from = text + at;
    *length = 0;
    if (*from == '#') {
        *length = (int)strcspn(from, "\n");
        return SG_TRIM_DIRECTIVE;
    }
    if (isdigit((unsigned char)*from) || (*from == '.' && isdigit((unsigned char)from[1]))) {
        int i = 1;
        while (sg_trim_is_letter(from[i]) || from[i] == '.' ||
               ((from[i] == '+' || from[i] == '-') && strchr("eEpP", from[i - 1]) &&
                (strchr("pP", from[i - 1]) || !(from[0] == '0' && from[1] == 'x'))))
            i++;
        *length = i;
        return SG_TRIM_NUMBER;
    }
    if (sg_trim_is_letter(*from)) {
        while (sg_trim_is_letter(from[*length]))
            ++*length;
        return SG_TRIM_WORD;
    }
    if (*from == '"' || *from == '\'') {
        int i = 1;
        while (from[i] && from[i] != *from && from[i] != '\n')
            i += from[i] == '\\' && from[i + 1] ? 2 : 1;
        *length = from[i] == *from ? i + 1 : 0;
        return SG_TRIM_STRING;
    }
    *length = mark_length(from);
    return SG_TRIM_MARK;
}

static bool add_token(sg_trim_unit *unit, sg_trim_kind kind, int start, int end) {
    if (unit->token_count + 1 >= unit->token_capacity) {
        unit->tokens = grown(unit->arena, unit->tokens, unit->token_count, &unit->token_capacity,
                             sizeof *unit->tokens);
        if (!unit->tokens)
            return false;
    }
    int spelling = spell(unit, unit->text + start, end - start);
    int number = unit->token_count++;
    unit->tokens[number] = (sg_trim_token){
        .kind = kind, .start = start, .end = end, .spelling = spelling, .pair = -1, .next = -1};
    if (spelling < 0)
        return false;
    if (unit->last[spelling] >= 0)
        unit->tokens[unit->last[spelling]].next = number;
    else
        unit->first[spelling] = number;
    unit->last[spelling] = number;
    return true;
}

/* Finds the pairs of brackets. */
static bool pair_brackets(sg_trim_unit *unit) {
    int *open = SG_ARENA_NEW(unit->arena, int, unit->token_count + 1);
    int depth = 0;
    if (!open)
        return false;
    for (int i = 0; i < unit->token_count; i++) {
        int spelling = unit->tokens[i].spelling;
        if (spelling == SG_TRIM_OPEN || spelling == SG_TRIM_OPEN_INDEX ||
            spelling == SG_TRIM_OPEN_BLOCK) {
            open[depth++] = i;
        } else if (spelling == SG_TRIM_CLOSE || spelling == SG_TRIM_CLOSE_INDEX ||
                   spelling == SG_TRIM_CLOSE_BLOCK) {
            if (depth == 0 || unit->tokens[open[depth - 1]].spelling != spelling - 1)
                return false;
            unit->tokens[i].pair = open[--depth];
            unit->tokens[open[depth]].pair = i;
        }
    }
    return depth == 0;
}

bool sg_trim_read(sg_trim_unit *unit, sg_arena *arena, const char *text) {
    *unit = (sg_trim_unit){.arena = arena, .text = text, .length = (int)strlen(text)};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (spell(unit, known[i].text, (int)strlen(known[i].text)) < 0)
            return false;
    int at = 0;
    for (;;) {
        int length;
        at = skip_space(text, at);
        if (!text[at])
            break;
        sg_trim_kind kind = scan(text, at, &length);
        if (length == 0 || !add_token(unit, kind, at, at + length))
            return false;
        at += length;
    }
    if (!add_token(unit, SG_TRIM_END, unit->length, unit->length))
        return false;
    unit->token_count--;
    return pair_brackets(unit);
}

/* ---- extents ------------------------------------------------------------------------------- */

int sg_trim_behind_template(const sg_trim_unit *unit, int token) {
    int depth = 0;
    for (int i = token; i < unit->token_count; i++) {
        switch (unit->tokens[i].spelling) {
        case SG_TRIM_LESS:
            depth++;
            break;
        case SG_TRIM_GREATER:
            if (--depth == 0)
                return i + 1;
            break;
        case SG_TRIM_OPEN:
        case SG_TRIM_OPEN_INDEX:
            i = unit->tokens[i].pair;
            break;
        case SG_TRIM_SEMICOLON:
        case SG_TRIM_OPEN_BLOCK:
        case SG_TRIM_CLOSE_BLOCK:
        case SG_TRIM_CLOSE:
        case SG_TRIM_AND:
        case SG_TRIM_OR:
            return -1;
        default:
            break;
        }
    }
    return -1;
}

/* Behind the ; that ends a statement without keyword. */
static int behind_plain(const sg_trim_unit *unit, int token) {
    for (int i = token; i < unit->token_count; i++) {
        if (sg_trim_is(unit, i, SG_TRIM_SEMICOLON))
            return i + 1;
        if (sg_trim_is(unit, i, SG_TRIM_CLOSE_BLOCK) || sg_trim_is(unit, i, SG_TRIM_CLOSE))
            return -1;
        if (unit->tokens[i].pair > i)
            i = unit->tokens[i].pair;
    }
    return -1;
}

int sg_trim_behind_statement(const sg_trim_unit *unit, int token) {
    while (token < unit->token_count && unit->tokens[token].kind == SG_TRIM_DIRECTIVE)
        token++;
    if (token >= unit->token_count)
        return -1;
    switch (unit->tokens[token].spelling) {
    case SG_TRIM_UNROLL:
        return sg_trim_behind_statement(unit, token + 1);
    case SG_TRIM_PRAGMA:
        return sg_trim_is(unit, token + 1, SG_TRIM_OPEN)
                   ? sg_trim_behind_statement(unit, sg_trim_behind(unit, token + 1))
                   : -1;
    case SG_TRIM_OPEN_BLOCK:
        return sg_trim_behind(unit, token);
    case SG_TRIM_IF: {
        int open = token + 1 + sg_trim_is(unit, token + 1, SG_TRIM_CONSTEXPR);
        if (!sg_trim_is(unit, open, SG_TRIM_OPEN))
            return -1;
        int behind = sg_trim_behind_statement(unit, sg_trim_behind(unit, open));
        return behind > 0 && sg_trim_is(unit, behind, SG_TRIM_ELSE)
                   ? sg_trim_behind_statement(unit, behind + 1)
                   : behind;
    }
    case SG_TRIM_FOR:
    case SG_TRIM_WHILE:
        return sg_trim_is(unit, token + 1, SG_TRIM_OPEN)
                   ? sg_trim_behind_statement(unit, sg_trim_behind(unit, token + 1))
                   : -1;
    case SG_TRIM_DO:
    case SG_TRIM_SWITCH:
    case SG_TRIM_CASE:
    case SG_TRIM_DEFAULT:
    case SG_TRIM_ELSE:
        return -1;
    default:
        return behind_plain(unit, token);
    }
}

int sg_trim_first_pragma(const sg_trim_unit *unit, int token) {
    for (;;) {
        if (token > 0 && (sg_trim_is(unit, token - 1, SG_TRIM_UNROLL) ||
                          unit->tokens[token - 1].kind == SG_TRIM_DIRECTIVE))
            token--;
        else if (sg_trim_is(unit, token - 1, SG_TRIM_CLOSE) &&
                 sg_trim_is(unit, token - 4, SG_TRIM_PRAGMA))
            token -= 4;
        else
            return token;
    }
}

bool sg_trim_is_governed(const sg_trim_unit *unit, int token) {
    token = sg_trim_first_pragma(unit, token);
    return sg_trim_is(unit, token - 1, SG_TRIM_CLOSE) || sg_trim_is(unit, token - 1, SG_TRIM_ELSE);
}

void sg_trim_drop_statement(sg_trim_unit *unit, int first, int behind) {
    first = sg_trim_first_pragma(unit, first);
    if (sg_trim_is(unit, first - 1, SG_TRIM_ELSE))
        sg_trim_erase(unit, first - 1, behind);
    else if (sg_trim_is_governed(unit, first))
        sg_trim_replace(unit, unit->tokens[first].start, unit->tokens[behind - 1].end, ";");
    else
        sg_trim_erase(unit, first, behind);
}

int *sg_trim_blocks(const sg_trim_unit *unit) {
    int *block = SG_ARENA_NEW(unit->arena, int, unit->token_count + 1);
    int open = -1;
    for (int i = 0; block && i < unit->token_count; i++) {
        if (sg_trim_is(unit, i, SG_TRIM_CLOSE_BLOCK))
            open = block[unit->tokens[i].pair];
        block[i] = open;
        if (sg_trim_is(unit, i, SG_TRIM_OPEN_BLOCK))
            open = i;
    }
    return block;
}

bool sg_trim_mentions(const sg_trim_unit *unit, int first, int behind, int spelling) {
    for (int i = unit->first[spelling]; i >= 0 && i < behind; i = unit->tokens[i].next)
        if (i >= first && !sg_trim_is(unit, i - 1, SG_TRIM_DOT) &&
            !sg_trim_is(unit, i - 1, SG_TRIM_ARROW))
            return true;
    return false;
}

/* ---- comments ------------------------------------------------------------------------------ */

static bool begins(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

int sg_trim_lead(const sg_trim_unit *unit, int token) {
    const char *text = unit->text;
    int start = unit->tokens[token].start;
    int at = token ? sg_trim_trail(unit, token - 1) : 0;
    int lead = start; /* the comment right before what was seen last */
    bool head = false, run = false;
    while (at < start) {
        int behind = behind_comment(text, at);
        if (behind == at) {
            /* An empty line, or what has no line of its own, ends what belongs together. */
            if (text[at] == '\n' && text[at + 1] == '\n')
                lead = start, head = run = false;
            at++;
            continue;
        }
        bool apart = begins(text + at, "//@") || begins(text + at, "// ----") ||
                     begins(text + at, "/* ----");
        bool line = text[at + 1] == '/';
        if (apart || head) {
            lead = start;
            head = begins(text + at, "//@ begin");
            run = false;
        } else if (!line || !run) {
            lead = at;
            run = line;
        }
        at = behind;
    }
    return lead;
}

int sg_trim_trail(const sg_trim_unit *unit, int token) {
    const char *text = unit->text;
    int end = unit->tokens[token].end, at = end;
    int limit = unit->tokens[token + 1].start;
    while (at < limit && (text[at] == ' ' || text[at] == *SG_TRIM_CHANGED))
        at++;
    int behind = behind_comment(text, at);
    return behind > at && behind <= limit && (text[behind] == '\n' || !text[behind]) ? behind : end;
}

/* ---- edits --------------------------------------------------------------------------------- */

void sg_trim_replace(sg_trim_unit *unit, int start, int end, const char *text) {
    if (unit->edit_count == unit->edit_capacity) {
        unit->edits = grown(unit->arena, unit->edits, unit->edit_count, &unit->edit_capacity,
                            sizeof *unit->edits);
        if (!unit->edits) {
            unit->edit_count = unit->edit_capacity = 0;
            return;
        }
    }
    unit->edits[unit->edit_count] =
        (sg_trim_edit){.start = start, .end = end, .text = text, .order = unit->edit_count};
    unit->edit_count++;
}

void sg_trim_erase(sg_trim_unit *unit, int first, int behind) {
    sg_trim_replace(unit, sg_trim_lead(unit, first), sg_trim_trail(unit, behind - 1), "");
}

static int by_start(const void *left, const void *right) {
    const sg_trim_edit *a = left, *b = right;
    return a->start != b->start ? (a->start > b->start) - (a->start < b->start)
                                : (a->order > b->order) - (a->order < b->order);
}

/* Takes the rest of the line, where nothing but white space is left of it. */
static void take_line(const char *text, int from, sg_trim_edit *edit) {
    int start = edit->start, end = edit->end;
    while (start > from && (text[start - 1] == ' ' || text[start - 1] == *SG_TRIM_CHANGED))
        start--;
    while (text[end] == ' ' || text[end] == *SG_TRIM_CHANGED)
        end++;
    if ((start == 0 || text[start - 1] == '\n') && text[end] == '\n') {
        edit->start = start;
        edit->end = end + 1;
    } else if (text[end] == '\n') {
        edit->start = start; /* no white space at an end */
    }
}

/* Adds to the text at *to. */
static void put(char **to, const char *text, size_t length) {
    memcpy(*to, text, length);
    *to += length;
}

const char *sg_trim_apply(sg_trim_unit *unit) {
    size_t length = (size_t)unit->length;
    for (int i = 0; i < unit->edit_count; i++)
        length += strlen(unit->edits[i].text);
    char *text = sg_arena_alloc(unit->arena, length + 1), *to = text;
    int at = 0;
    if (!text)
        return NULL;
    if (unit->edit_count)
        qsort(unit->edits, (size_t)unit->edit_count, sizeof *unit->edits, by_start);
    for (int i = 0; i < unit->edit_count; i++) {
        sg_trim_edit edit = unit->edits[i];
        if (edit.start < at)
            continue; /* inside what went already */
        if (!*edit.text)
            take_line(unit->text, at, &edit);
        put(&to, unit->text + at, (size_t)(edit.start - at));
        put(&to, edit.text, strlen(edit.text));
        at = edit.end;
    }
    put(&to, unit->text + at, (size_t)(unit->length - at));
    *to = 0;
    return text;
}
