/* Constants that say no more than their number: 0, 1 and what is used once stand where they are
 * used; and dimensions of 1, whose index can only be 0, go. */
#include <string.h>

#include "gen/cuda/formula.h"
#include "gen/cuda/trim_expression.h"

enum { USES_MAX = 4, DIMENSIONS_MAX = 8 };

typedef struct constants {
    sg_trim_unit *unit;
    sg_trim_facts facts;
    int *block; /* of every token: the { around it */
} constants;

static bool is(const constants *c, int token, int spelling) {
    return sg_trim_is(c->unit, token, spelling);
}

static int spelling_of(const constants *c, int token) {
    return c->unit->tokens[token].spelling;
}

static bool is_edited(const sg_trim_unit *unit, int start, int end) {
    for (int i = 0; i < unit->edit_count; i++)
        if (unit->edits[i].start < end && unit->edits[i].end > start)
            return true;
    return false;
}

/* ---- constants ----------------------------------------------------------------------------- */

typedef struct mention {
    int start, end; /* bytes */
    bool pragma;    /* in a directive "#pragma unroll" */
} mention;

/* All mentions of the constant named at a token but its declaration; -1 where one is none that a
 * number may stand for, or there are too many. */
static int find_mentions(const constants *c, int name, mention found[USES_MAX]) {
    const sg_trim_unit *unit = c->unit;
    int count = 0, spelling = spelling_of(c, name);
    for (int i = unit->first[spelling]; i >= 0; i = unit->tokens[i].next) {
        if (i == name)
            continue;
        if (count == USES_MAX || sg_trim_is_type(&c->facts, i - 1) || is(c, i - 1, SG_TRIM_DOT) ||
            is(c, i - 1, SG_TRIM_ARROW) || is(c, i - 1, SG_TRIM_SCOPE))
            return -1;
        found[count++] = (mention){unit->tokens[i].start, unit->tokens[i].end, false};
    }
    for (int i = 0; i < unit->token_count; i++) {
        const sg_trim_token *line = &unit->tokens[i];
        if (line->kind != SG_TRIM_DIRECTIVE)
            continue;
        bool pragma = strncmp(unit->text + line->start, "#pragma unroll ", 15) == 0;
        for (int at = line->start, word; sg_trim_next_word(unit, line, &at, &word);) {
            if (word != spelling)
                continue;
            if (!pragma || count == USES_MAX)
                return -1;
            int length = unit->spelling_lengths[spelling];
            found[count++] = (mention){at - length, at, true};
        }
    }
    for (int i = 0; i < count; i++)
        if (is_edited(unit, found[i].start, found[i].end))
            return -1;
    return count;
}

/* How often a word stands in the text, comments included. */
static int count_words(const sg_trim_unit *unit, int spelling) {
    int length = unit->spelling_lengths[spelling], count = 0;
    const char *word = sg_arena_text(unit->arena, unit->spellings[spelling], (size_t)length);
    for (const char *at = unit->text; word && (at = strstr(at, word)) != NULL; at += length)
        count += (at == unit->text || !sg_trim_is_letter(at[-1])) && !sg_trim_is_letter(at[length]);
    return count;
}

/* Puts the number of one constant, "NAME = value" at a token, where it is used. What is then not
 * used any more is no longer reached. */
static void put_constant(constants *c, int name, const sg_trim_node *value, bool documented) {
    mention found[USES_MAX];
    const sg_trim_unit *unit = c->unit;
    const sg_trim_value known = c->facts.values[spelling_of(c, name)];
    int count = find_mentions(c, name, found);
    bool small = known.type && (known.number == 0 || known.number == 1);
    const sg_trim_token *literal = &unit->tokens[value->first];
    bool number = value->behind == value->first + 1 && literal->kind == SG_TRIM_NUMBER &&
                  (known.type || unit->text[literal->end - 1] == 'f');
    if (count <= 0 || !(small || (number && count == 1 && !documented)) ||
        count_words(unit, spelling_of(c, name)) != count + 1)
        return;
    const char *text = known.type == SG_TRIM_TRUTH ? known.number ? "true" : "false"
                       : known.number              ? "1"
                                                   : "0";
    if (!small)
        text = sg_arena_text(unit->arena, unit->text + literal->start,
                             (size_t)(literal->end - literal->start));
    const char *changed = text ? sg_cuda_formula(unit->arena, SG_TRIM_CHANGED "%s", text) : NULL;
    for (int i = 0; i < count && changed; i++)
        sg_trim_replace(c->unit, found[i].start, found[i].end, found[i].pragma ? text : changed);
}

/* All of a row "constexpr T A = x, B = y;" of all kernels. */
static void put_row(constants *c, int token) {
    const sg_trim_unit *unit = c->unit;
    int behind = sg_trim_behind_statement(unit, token);
    bool plain = is(c, token + 1, SG_TRIM_INT) || is(c, token + 1, SG_TRIM_BOOL) ||
                 is(c, token + 1, SG_TRIM_FLOAT);
    if (c->block[token] >= 0 || is(c, token - 1, SG_TRIM_STATIC) || !plain || behind < 0)
        return;
    bool documented = sg_trim_lead(unit, token) != unit->tokens[token].start ||
                      sg_trim_trail(unit, behind - 1) != unit->tokens[behind - 1].end;
    for (int name = token + 2; sg_trim_is_constant_name(unit, name);) {
        sg_trim_node *value =
            is(c, name + 1, SG_TRIM_ASSIGN) ? sg_trim_parse(&c->facts, name + 2) : NULL;
        if (!value)
            return;
        put_constant(c, name, value, documented);
        if (!is(c, value->behind, SG_TRIM_COMMA))
            return;
        name = value->behind + 1;
    }
}

/* The number that "#pragma unroll N" asks for; 0: it is not known, or all turns. */
static int turns_of(const constants *c, const char *text, int length) {
    int number = 0, spelling = sg_trim_find(c->unit, text, length);
    if (length > 0 && (int)strspn(text, "0123456789") == length && length < 9)
        for (int i = 0; i < length; i++)
            number = 10 * number + text[i] - '0';
    else if (length > 0 && spelling >= 0 && c->facts.values[spelling].type == SG_TRIM_WHOLE)
        number = (int)c->facts.values[spelling].number;
    return number;
}

/* Whether the loop at a token has that many turns: for (int x = 0; x < turns; x++). */
static bool has_turns(const constants *c, int token, int turns) {
    const sg_trim_unit *unit = c->unit;
    int name = token + 3, condition = token + 6;
    if (!is(c, token, SG_TRIM_FOR) || !is(c, token + 1, SG_TRIM_OPEN) ||
        !is(c, token + 2, SG_TRIM_INT) || !sg_trim_is_word(unit, name) ||
        !is(c, name + 1, SG_TRIM_ASSIGN) || !is(c, condition, SG_TRIM_SEMICOLON))
        return false;
    sg_trim_node *first = sg_trim_parse(&c->facts, name + 2);
    sg_trim_node *limit =
        is(c, condition + 1, spelling_of(c, name)) && is(c, condition + 2, SG_TRIM_LESS)
            ? sg_trim_parse(&c->facts, condition + 3)
            : NULL;
    return first && first->value.type == SG_TRIM_WHOLE && first->value.number == 0 && limit &&
           limit->value.type == SG_TRIM_WHOLE && limit->value.number == turns &&
           is(c, limit->behind, SG_TRIM_SEMICOLON) &&
           is(c, limit->behind + 1, spelling_of(c, name)) &&
           is(c, limit->behind + 2, SG_TRIM_INCREMENT) && is(c, limit->behind + 3, SG_TRIM_CLOSE);
}

/* "#pragma unroll 0 + 1" has one number, and none where that is all turns. */
static void fold_pragma(const constants *c, int token) {
    static const char start[] = "#pragma unroll", none[] = " 0 + ";
    int at = c->unit->tokens[token].start + (int)strlen(start), end = c->unit->tokens[token].end;
    const char *behind = c->unit->text + at;
    if (strncmp(c->unit->text + c->unit->tokens[token].start, start, strlen(start)) != 0)
        return;
    if (strncmp(behind, none, strlen(none)) == 0) {
        sg_trim_replace(c->unit, at + 1, at + (int)strlen(none), "");
        return;
    }
    int turns = end > at ? turns_of(c, behind + 1, end - at - 1) : 0;
    if (turns > 1 && has_turns(c, token + 1, turns) && !is_edited(c->unit, at, end))
        sg_trim_replace(c->unit, at, end, "");
}

/* ---- dimensions ---------------------------------------------------------------------------- */

/* Whether the { at `open` is of a struct. */
static bool is_struct(const constants *c, int open) {
    for (int i = open - 1; i >= 0; i--) {
        if (is(c, i, SG_TRIM_STRUCT))
            return true;
        if (is(c, i, SG_TRIM_SEMICOLON) || is(c, i, SG_TRIM_OPEN_BLOCK) ||
            is(c, i, SG_TRIM_CLOSE_BLOCK) || is(c, i, SG_TRIM_CLOSE) ||
            c->unit->tokens[i].kind == SG_TRIM_DIRECTIVE)
            return false;
    }
    return false;
}

static bool is_in_struct(const constants *c, int token) {
    for (int open = c->block[token]; open >= 0; open = c->block[open])
        if (is_struct(c, open))
            return true;
    return false;
}

/* Whether the word at a token is declared there: behind a type, or in a row behind one. */
static bool is_declared(const constants *c, int token) {
    if (token == 0 || !sg_trim_is_word(c->unit, token) || sg_trim_is_type(&c->facts, token))
        return false;
    int before = token - 1;
    while (is(c, before, SG_TRIM_TIMES) || is(c, before, SG_TRIM_BIT_AND))
        before--;
    if (sg_trim_is_type(&c->facts, before))
        return true;
    if (before != token - 1 || !is(c, before, SG_TRIM_COMMA))
        return false;
    while (before >= 0 && !is(c, before, SG_TRIM_SEMICOLON) && !is(c, before, SG_TRIM_OPEN_BLOCK) &&
           !is(c, before, SG_TRIM_CLOSE_BLOCK) && !is(c, before, SG_TRIM_OPEN)) {
        int pair = c->unit->tokens[before].pair;
        before = (pair >= 0 && pair < before ? pair : before) - 1;
    }
    int first = before + 1;
    while (is(c, first, SG_TRIM_CONST) || is(c, first, SG_TRIM_STATIC) ||
           is(c, first, SG_TRIM_SHARED))
        first++;
    return !is(c, before, SG_TRIM_OPEN) && sg_trim_is_type(&c->facts, first);
}

/* The number in the brackets at a token, with nothing else in them; -1: not known. */
static long long number_in(const constants *c, int open) {
    sg_trim_node *node = sg_trim_parse(&c->facts, open + 1);
    bool known = node && node->behind == c->unit->tokens[open].pair && node->value.type &&
                 node->value.type != SG_TRIM_TRUTH &&
                 !sg_trim_names_kept(&c->facts, node->first, node->behind);
    return known ? node->value.number : -1;
}

/* The [ of dimension `number` behind a name; -1: there are fewer. */
static int dimension(const constants *c, int name, int number) {
    int at = name + 1;
    for (int i = 0; is(c, at, SG_TRIM_OPEN_INDEX); i++) {
        if (i == number)
            return at;
        at = sg_trim_behind(c->unit, at);
    }
    return -1;
}

/* Whether an array is given whole to a function that takes an address of anything. */
static bool is_address(const constants *c, int token) {
    int first = token;
    while (is(c, first - 1, SG_TRIM_DOT) || is(c, first - 1, SG_TRIM_ARROW))
        first -= 2;
    if (!is(c, token + 1, SG_TRIM_CLOSE) || !is(c, first - 1, SG_TRIM_OPEN) ||
        !sg_trim_is_word(c->unit, first - 2))
        return false;
    bool any = false;
    for (int i = c->unit->first[spelling_of(c, first - 2)]; i >= 0; i = c->unit->tokens[i].next) {
        if (!sg_trim_is_function(&c->facts, i))
            continue;
        int type = i + 2 + is(c, i + 2, SG_TRIM_CONST);
        if (!is(c, type, SG_TRIM_VOID) || !is(c, type + 1, SG_TRIM_TIMES) ||
            c->unit->tokens[i + 1].pair != type + 3)
            return false;
        any = true;
    }
    return any;
}

/* Whether nothing else is declared by the name at a token. */
static bool is_declared_once(const constants *c, int token) {
    for (int i = c->unit->first[spelling_of(c, token)]; i >= 0; i = c->unit->tokens[i].next)
        if (i != token && is_declared(c, i))
            return false;
    return true;
}

/* What a mention of an array's name is: 1 it, 0 another's, -1 not clear. */
static int belongs(const constants *c, int token, int declaration) {
    bool object = is(c, token - 1, SG_TRIM_DOT) || is(c, token - 1, SG_TRIM_ARROW);
    int open = c->block[declaration], close = c->unit->tokens[open].pair;
    if (is(c, token - 1, SG_TRIM_SCOPE))
        return -1;
    if (is_struct(c, open)) {
        if (object)
            return 1;
        bool own = token > open && token < close && is_declared_once(c, declaration);
        return own ? 1 : is_in_struct(c, token) ? -1 : 0;
    }
    if (object || token < open || token > close)
        return 0;
    return token > declaration && !is_declared(c, token) ? 1 : -1;
}

/* Dimension `number` of the array declared at a token goes, with the index of every use. */
static bool drop_dimension(constants *c, int name, int number) {
    sg_trim_unit *unit = c->unit;
    int spelling = spelling_of(c, name);
    bool alone = dimension(c, name, 1) < 0; /* without it there is no array */
    for (int pass = 0; pass < 2; pass++) {
        for (int i = unit->first[spelling]; i >= 0; i = unit->tokens[i].next) {
            int whose = i == name ? 1 : belongs(c, i, name);
            int open = whose > 0 ? dimension(c, i, number) : -1;
            if (whose == 0)
                continue;
            if (whose < 0 || (open < 0 && (alone || !is_address(c, i))) ||
                (open >= 0 && i != name && number_in(c, open) != 0))
                return false;
            if (open < 0)
                continue;
            int start = unit->tokens[open].start, end = unit->tokens[unit->tokens[open].pair].end;
            if (pass == 0 && is_edited(unit, unit->tokens[i].start, end))
                return false;
            if (pass == 1)
                sg_trim_replace(unit, start, end, SG_TRIM_CHANGED);
        }
    }
    return true;
}

/* Whether a macro or a pragma has the word: what it makes of it is not seen. */
static bool is_in_directive(const sg_trim_unit *unit, int spelling) {
    for (int i = 0; i < unit->token_count; i++) {
        const sg_trim_token *line = &unit->tokens[i];
        if (line->kind != SG_TRIM_DIRECTIVE)
            continue;
        for (int at = line->start, word; sg_trim_next_word(unit, line, &at, &word);)
            if (word == spelling)
                return true;
    }
    return false;
}

/* One dimension of 1 of the array that may be declared at a token. */
static void drop_dimensions(constants *c, int name) {
    if (c->block[name] < 0 || !is(c, name + 1, SG_TRIM_OPEN_INDEX) || !is_declared(c, name) ||
        is_in_directive(c->unit, spelling_of(c, name)))
        return;
    int behind = name + 1, count = 0, own = -1;
    for (; is(c, behind, SG_TRIM_OPEN_INDEX); behind = sg_trim_behind(c->unit, behind)) {
        if (own < 0 && number_in(c, behind) == 1)
            own = count;
        count++;
    }
    bool row = is(c, behind, SG_TRIM_SEMICOLON) || is(c, behind, SG_TRIM_COMMA);
    /* In a list of arguments or parameters it is another's. */
    int open = name;
    while (open > c->block[name] && !is(c, open, SG_TRIM_SEMICOLON) && !is(c, open, SG_TRIM_OPEN))
        open = (c->unit->tokens[open].pair >= 0 && c->unit->tokens[open].pair < open
                    ? c->unit->tokens[open].pair
                    : open) -
               1;
    if (own >= 0 && count <= DIMENSIONS_MAX && row && !is(c, open, SG_TRIM_OPEN))
        drop_dimension(c, name, own);
}

/* ---- all ----------------------------------------------------------------------------------- */

void sg_trim_constants(sg_trim_unit *unit) {
    constants c = {.unit = unit, .block = sg_trim_blocks(unit)};
    if (!c.block || !sg_trim_learn(&c.facts, unit))
        return;
    for (int i = 0; i + 4 < unit->token_count; i++) {
        if (is(&c, i, SG_TRIM_CONSTEXPR))
            put_row(&c, i);
        else if (unit->tokens[i].kind == SG_TRIM_DIRECTIVE)
            fold_pragma(&c, i);
        else
            drop_dimensions(&c, i);
    }
}
