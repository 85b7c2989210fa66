/* What folding makes trivial: branches around nothing, names that stand for another name, locals
 * that are returned at once, functions that only pass on to others. */
#include <stdlib.h>
#include <string.h>

#include "gen/cuda/trim_expression.h"

typedef struct tidying {
    sg_trim_unit *unit;
    sg_trim_facts facts;
    int *block;    /* of every token: the { around it */
    int *declared; /* by spelling: functions of that name */
} tidying;

static bool is(const tidying *d, int token, int spelling) {
    return sg_trim_is(d->unit, token, spelling);
}

static int spelling_of(const tidying *d, int token) {
    return d->unit->tokens[token].spelling;
}

/* Whether a noted edit touches tokens first .. behind - 1. */
static bool is_edited(const sg_trim_unit *unit, int first, int behind) {
    int start = unit->tokens[first].start, end = unit->tokens[behind - 1].end;
    for (int i = 0; i < unit->edit_count; i++)
        if (unit->edits[i].start < end && unit->edits[i].end > start)
            return true;
    return false;
}

static void put(tidying *d, int token, int from, int behind) {
    sg_trim_unit *unit = d->unit;
    int start = unit->tokens[from].start, end = unit->tokens[behind - 1].end;
    const char *text = sg_arena_text(unit->arena, unit->text + start, (size_t)(end - start));
    if (text)
        sg_trim_replace(unit, unit->tokens[token].start, unit->tokens[token].end, text);
}

/* ---- branches around nothing --------------------------------------------------------------- */

/* if (pure) {} without else, and else {}. */
static void drop_empty_branch(tidying *d, int token) {
    sg_trim_unit *unit = d->unit;
    if (is(d, token, SG_TRIM_ELSE) && is(d, token + 1, SG_TRIM_OPEN_BLOCK) &&
        is(d, token + 2, SG_TRIM_CLOSE_BLOCK) && !is_edited(unit, token, token + 3)) {
        sg_trim_erase(unit, token, token + 3);
        return;
    }
    if (!is(d, token, SG_TRIM_IF) || !is(d, token + 1, SG_TRIM_OPEN))
        return;
    int body = sg_trim_behind(unit, token + 1);
    sg_trim_node *condition = sg_trim_parse(&d->facts, token + 2);
    if (condition && condition->pure && condition->behind == body - 1 &&
        is(d, body, SG_TRIM_OPEN_BLOCK) && is(d, body + 1, SG_TRIM_CLOSE_BLOCK) &&
        !is(d, body + 2, SG_TRIM_ELSE) && !is_edited(unit, token, body + 2))
        sg_trim_drop_statement(unit, token, body + 2);
}

/* ---- locals -------------------------------------------------------------------------------- */

/* "const T name = " at a token of a function. */
static bool is_constant_local(const tidying *d, int token) {
    return d->block[token] >= 0 && is(d, token, SG_TRIM_CONST) &&
           sg_trim_is_type(&d->facts, token + 1) && sg_trim_is_word(d->unit, token + 2) &&
           is(d, token + 3, SG_TRIM_ASSIGN) && !is(d, d->block[token] - 1, SG_TRIM_ASSIGN);
}

/* Whether the loop with its ( at `open` goes on behind the token. */
static bool encloses(const tidying *d, int open, int token) {
    int behind = is(d, open - 1, SG_TRIM_FOR) ? sg_trim_behind_statement(d->unit, open - 1) : -1;
    return behind > token;
}

/* Whether nothing is assigned to a name between two tokens. */
static bool is_only_read(const tidying *d, int name, int first, int behind) {
    for (int i = first; i < behind; i++) {
        int next = spelling_of(d, i + 1), before = spelling_of(d, i - 1);
        if (is(d, i, name) && (sg_trim_precedence(next) == 1 || next == SG_TRIM_INCREMENT ||
                               next == SG_TRIM_DECREMENT || before == SG_TRIM_INCREMENT ||
                               before == SG_TRIM_DECREMENT || before == SG_TRIM_BIT_AND))
            return false;
    }
    return true;
}

/* Whether a name is declared at a token by a loop. */
static bool is_of_loop(const tidying *d, int declaration) {
    return is(d, declaration - 2, SG_TRIM_OPEN) && is(d, declaration - 3, SG_TRIM_FOR);
}

/* Whether a name of that type is a parameter, by value, of the function around a token. */
static bool is_parameter(const tidying *d, int token, int name, int type) {
    for (int open = d->block[token]; open >= 0; open = d->block[open]) {
        int close = open - 1 - is(d, open - 1, SG_TRIM_CONST);
        int first = is(d, close, SG_TRIM_CLOSE) ? d->unit->tokens[close].pair : -1;
        if (first < 1 || !sg_trim_is_function(&d->facts, first - 1))
            continue;
        for (int i = first + 2; i < close; i++)
            if (is(d, i, name) && is(d, i - 1, type) &&
                (is(d, i + 1, SG_TRIM_COMMA) || i + 1 == close) &&
                (is(d, i - 2, SG_TRIM_COMMA) || i - 2 == first))
                return true;
        return false;
    }
    return false;
}

/* Whether a name is "const T name = ..." in a block around the token, and not declared again
 * between there and `behind`; or a truth. */
static bool stays_the_same(const tidying *d, int token, int from, int behind) {
    int name = spelling_of(d, from);
    if (name == SG_TRIM_TRUE || name == SG_TRIM_FALSE)
        return true;
    int declaration = -1;
    for (int i = d->unit->first[name]; i >= 0 && i < behind; i = d->unit->tokens[i].next) {
        bool around = false;
        bool typed = sg_trim_is_type(&d->facts, i - 1) || is(d, i - 1, SG_TRIM_BIT_AND);
        if (!typed || sg_trim_is_function(&d->facts, i))
            continue; /* of a function, which a parameter hides */
        for (int open = d->block[token]; open >= 0 && !around; open = d->block[open])
            around = open == d->block[i];
        around &= !is(d, i - 2, SG_TRIM_OPEN) || encloses(d, i - 2, token);
        if (around && i < token)
            declaration = i;
    }
    bool read = is_only_read(d, name, token, behind);
    if (declaration < 0 && !(read && is_parameter(d, token, name, spelling_of(d, token + 1))))
        return false;
    if (declaration >= 0 &&
        (!(is_constant_local(d, declaration - 2) || (read && is_of_loop(d, declaration))) ||
         spelling_of(d, declaration - 1) != spelling_of(d, token + 1)))
        return false;
    for (int i = d->unit->first[name]; i >= 0 && i < behind; i = d->unit->tokens[i].next)
        if (i > (declaration < 0 ? token : declaration) && sg_trim_is_type(&d->facts, i - 1))
            return false;
    return true;
}

/* const T x = y; where y is as constant: y stands for x. */
static void drop_alias(tidying *d, int token) {
    sg_trim_unit *unit = d->unit;
    int from = token + 4;
    if (!is_constant_local(d, token) || !is(d, from + 1, SG_TRIM_SEMICOLON) ||
        !sg_trim_is_word(unit, from) || sg_trim_is_governed(unit, token) ||
        sg_trim_lead(unit, token) != unit->tokens[token].start ||
        sg_trim_trail(unit, from + 1) != unit->tokens[from + 1].end)
        return;
    int close = unit->tokens[d->block[token]].pair, name = spelling_of(d, token + 2);
    if (!stays_the_same(d, token, from, close) || is_edited(unit, token, from + 2))
        return;
    for (int i = from + 2; i < close; i++)
        if (is(d, i, name) && !is(d, i - 1, SG_TRIM_DOT) && !is(d, i - 1, SG_TRIM_ARROW) &&
            (sg_trim_is_type(&d->facts, i - 1) || is(d, i - 1, SG_TRIM_BIT_AND) ||
             is_edited(unit, i, i + 1)))
            return;
    for (int i = from + 2; i < close; i++)
        if (is(d, i, name) && !is(d, i - 1, SG_TRIM_DOT) && !is(d, i - 1, SG_TRIM_ARROW))
            put(d, i, from, from + 1);
    sg_trim_erase(unit, token, from + 2);
}

/* const T x = ...; return x; of a function that returns T. */
static void return_at_once(tidying *d, int token) {
    sg_trim_unit *unit = d->unit;
    if (!is_constant_local(d, token) || sg_trim_is_governed(unit, token))
        return;
    sg_trim_node *value = sg_trim_parse(&d->facts, token + 4);
    int at = value ? value->behind : -1, open = d->block[token];
    if (at < 0 || !is(d, at, SG_TRIM_SEMICOLON) || !is(d, at + 1, SG_TRIM_RETURN) ||
        !is(d, at + 2, spelling_of(d, token + 2)) || !is(d, at + 3, SG_TRIM_SEMICOLON) ||
        at + 4 != unit->tokens[open].pair || is_edited(unit, token, at + 4))
        return;
    int head = open - 1 - is(d, open - 1, SG_TRIM_CONST);
    int name = is(d, head, SG_TRIM_CLOSE) ? unit->tokens[head].pair - 1 : -1;
    if (name < 1 || !sg_trim_is_function(&d->facts, name) ||
        spelling_of(d, name - 1) != spelling_of(d, token + 1) ||
        is(d, name - 2, spelling_of(d, token + 1)))
        return;
    sg_trim_replace(unit, unit->tokens[token].start, unit->tokens[token + 3].end,
                    SG_TRIM_CHANGED "return");
    sg_trim_erase(unit, at + 1, at + 4);
}

/* Whether a name is of a tail's value, "v12" or "w3": such depend on nothing but their operands. */
static bool is_value_of_tail(const sg_trim_unit *unit, int token) {
    const sg_trim_token *t = &unit->tokens[token];
    if (t->end - t->start < 2 || !strchr("vw", unit->text[t->start]))
        return false;
    for (int i = t->start + 1; i < t->end; i++)
        if (unit->text[i] < '0' || unit->text[i] > '9')
            return false;
    return true;
}

/* A tail's value that the next statement alone reads, once, stands there. */
static void use_at_once(tidying *d, int token) {
    enum { LONGEST = 52, COLUMNS = 100 };
    sg_trim_unit *unit = d->unit;
    if (!is_constant_local(d, token) || !is(d, token + 1, SG_TRIM_REAL) ||
        !is_value_of_tail(unit, token + 2) || sg_trim_is_governed(unit, token) ||
        sg_trim_lead(unit, token) != unit->tokens[token].start)
        return;
    sg_trim_node *value = sg_trim_parse(&d->facts, token + 4);
    int next = value && is(d, value->behind, SG_TRIM_SEMICOLON) ? value->behind + 1 : -1;
    int behind = next > 0 ? sg_trim_behind_statement(unit, next) : -1;
    int close = unit->tokens[d->block[token]].pair, name = spelling_of(d, token + 2), use = -1;
    int column = 0,
        length = value ? unit->tokens[value->behind - 1].end - unit->tokens[value->first].start : 0;
    while (column < unit->tokens[token].start &&
           unit->text[unit->tokens[token].start - column - 1] != '\n')
        column++;
    if (behind < 0 || behind > close || is_edited(unit, token, behind) ||
        sg_trim_trail(unit, next - 1) != unit->tokens[next - 1].end || length > LONGEST ||
        column + unit->tokens[behind - 1].end - unit->tokens[next].start + length > COLUMNS)
        return;
    for (int i = next; i < close; i++) {
        if (i < behind &&
            (is(d, i, SG_TRIM_IF) || is(d, i, SG_TRIM_FOR) || is(d, i, SG_TRIM_WHILE) ||
             is(d, i, SG_TRIM_DO) || is(d, i, SG_TRIM_OPEN_BLOCK) ||
             unit->tokens[i].kind == SG_TRIM_DIRECTIVE))
            return;
        if (is(d, i, name) && (use >= 0 || i >= behind))
            return;
        use = is(d, i, name) ? i : use;
    }
    bool alone = use >= 0 && is(d, use - 1, SG_TRIM_COMMA) && is(d, use + 1, SG_TRIM_CLOSE);
    if (use < 0 || (!alone && (value->kind == SG_TRIM_BINARY || value->kind == SG_TRIM_CHOICE)))
        return;
    put(d, use, value->first, value->behind);
    sg_trim_replace(unit, unit->tokens[next].start, unit->tokens[next].start, SG_TRIM_CHANGED);
    sg_trim_erase(unit, token, next);
}

/* using name = float; of all kernels, and the like: the type stands for the name, but for `real`.
 */
static void drop_type_name(tidying *d, int token) {
    sg_trim_unit *unit = d->unit;
    int name = spelling_of(d, token + 1), type = spelling_of(d, token + 3);
    bool plain = (type >= SG_TRIM_BOOL && type <= SG_TRIM_DOUBLE) || type == SG_TRIM_HALF_T ||
                 type == SG_TRIM_BFLOAT_T;
    if (!is(d, token, SG_TRIM_USING) || !is(d, token + 2, SG_TRIM_ASSIGN) || !plain ||
        !is(d, token + 4, SG_TRIM_SEMICOLON) || name == SG_TRIM_REAL || d->block[token] >= 0 ||
        is_edited(unit, token, token + 5))
        return;
    for (int i = unit->first[name]; i >= 0; i = unit->tokens[i].next) {
        bool variable =
            i != token + 1 && (sg_trim_is_type(&d->facts, i - 1) || is(d, i - 1, SG_TRIM_DOT) ||
                               is(d, i - 1, SG_TRIM_ARROW));
        if (variable || is(d, i - 1, SG_TRIM_SCOPE) || is(d, i - 1, SG_TRIM_UNSIGNED) ||
            is_edited(unit, i, i + 1))
            return;
    }
    for (int i = unit->first[name]; i >= 0; i = unit->tokens[i].next)
        if (i != token + 1)
            put(d, i, token + 3, token + 4);
    sg_trim_erase(unit, token, token + 5);
}

/* ---- functions that pass on ---------------------------------------------------------------- */

/* The one definition of a function. */
static int definition_of(const tidying *d, int name) {
    for (int i = d->unit->first[name]; i >= 0; i = d->unit->tokens[i].next)
        if (sg_trim_is_function(&d->facts, i))
            return i;
    return -1;
}

/* Whether two words are the same type, which `real` is where there are no doubles. */
static bool is_same_type(const tidying *d, int token, int other) {
    int a = spelling_of(d, token), b = spelling_of(d, other);
    bool real =
        (a == SG_TRIM_REAL && b == SG_TRIM_FLOAT) || (a == SG_TRIM_FLOAT && b == SG_TRIM_REAL);
    return a == b || (real && d->unit->first[SG_TRIM_DOUBLE] < 0);
}

/* Whether two blocks are one namespace, which may be opened again. */
static bool is_same_space(const tidying *d, int open, int other) {
    return open == other || (open > 1 && other > 1 && is(d, open - 2, SG_TRIM_NAMESPACE) &&
                             is(d, other - 2, SG_TRIM_NAMESPACE) &&
                             spelling_of(d, open - 1) == spelling_of(d, other - 1));
}

/* Whether two lists of parameters have the same types. */
static bool are_alike(const tidying *d, int open, int other) {
    int close = d->unit->tokens[open].pair;
    if (d->unit->tokens[other].pair - other != close - open)
        return false;
    for (int i = open, k = other; i < close; i++, k++) {
        bool name = is(d, i + 1, SG_TRIM_COMMA) || i + 1 == close;
        if (!name && !is_same_type(d, i, k))
            return false;
    }
    return true;
}

/* f(T x, U y) { g(x, y); } where g is T x, U y as well: g is called instead. */
static void drop_forwarding(tidying *d, int name) {
    sg_trim_unit *unit = d->unit;
    if (!sg_trim_is_function(&d->facts, name) || d->declared[spelling_of(d, name)] != 1)
        return;
    int close = unit->tokens[name + 1].pair, body = close + 1 + is(d, close + 1, SG_TRIM_CONST);
    int at = body + 1 + is(d, body + 1, SG_TRIM_RETURN);
    int target = sg_trim_is_word(unit, at) ? definition_of(d, spelling_of(d, at)) : -1;
    if (target < 0 || target > name || d->declared[spelling_of(d, at)] != 1 ||
        !is_same_space(d, d->block[target], d->block[name]) || !is(d, at + 1, SG_TRIM_OPEN) ||
        !are_alike(d, name + 1, target + 1) || !is_same_type(d, name - 1, target - 1))
        return;
    int end = unit->tokens[at + 1].pair, i = name + 2, k = at + 2;
    for (; i < close; i++) {
        if (!is(d, i + 1, SG_TRIM_COMMA) && i + 1 != close)
            continue;
        if (!is(d, k, spelling_of(d, i)))
            return;
        k += 2;
    }
    if (k != end + 1 || !is(d, end + 1, SG_TRIM_SEMICOLON) || unit->tokens[body].pair != end + 2)
        return;
    int first = name;
    while (first > 0 && !is(d, first - 1, SG_TRIM_SEMICOLON) &&
           !is(d, first - 1, SG_TRIM_OPEN_BLOCK) && !is(d, first - 1, SG_TRIM_CLOSE_BLOCK) &&
           unit->tokens[first - 1].kind != SG_TRIM_DIRECTIVE)
        first--;
    if (is(d, first, SG_TRIM_TEMPLATE) || is_edited(unit, first, end + 3))
        return;
    /* Before its definition the name is another function's: CUDA's `pow`, which `v_pow` calls. */
    for (int use = unit->first[spelling_of(d, name)]; use >= 0; use = unit->tokens[use].next)
        if (use < name ||
            (use != name && (!is(d, use + 1, SG_TRIM_OPEN) || is_edited(unit, use, use + 1))))
            return;
    for (int use = unit->first[spelling_of(d, name)]; use >= 0; use = unit->tokens[use].next)
        if (use != name)
            put(d, use, at, at + 1);
    sg_trim_erase(unit, first, end + 3);
}

/* ---- paragraphs ---------------------------------------------------------------------------- */

typedef enum paragraph { PLAIN, OURS, OTHERS } paragraph;

/* What a paragraph is that begins so: "With NAME", "With NAME 2" and "Without NAME" are of other
 * kernels where the constant is otherwise. *behind: of these words. */
static paragraph judge(const sg_trim_facts *facts, const char *text, const char **behind) {
    static const char capitals[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    bool without = strncmp(text, "Without ", 8) == 0;
    if (!without && strncmp(text, "With ", 5) != 0)
        return PLAIN;
    const char *name = text + (without ? 8 : 5);
    int length = (int)strspn(name, capitals);
    int spelling = length > 1 ? sg_trim_find(facts->unit, name, length) : -1;
    if (spelling < 0 || facts->values[spelling].type == SG_TRIM_UNKNOWN)
        return PLAIN;
    long long number = facts->values[spelling].number;
    char *end = NULL;
    long long wanted = name[length] == ' ' ? strtoll(name + length + 1, &end, 0) : 0;
    bool numbered = end && end > name + length + 1;
    *behind = numbered ? end : name + length;
    bool ours = without ? number == 0 : numbered ? number == wanted : number != 0;
    return ours ? OURS : OTHERS;
}

/* Takes "With NAME, " from before a sentence: here it is so. */
static void take_condition(sg_trim_unit *unit, const char *from, const char *behind) {
    char first[2] = {behind[0] == ',' && behind[1] == ' ' ? behind[2] : '\0'};
    if (first[0] < 'a' || first[0] > 'z')
        return;
    first[0] = (char)(first[0] - 'a' + 'A');
    const char *text = sg_arena_text(unit->arena, first, 1);
    if (text)
        sg_trim_replace(unit, (int)(from - unit->text), (int)(behind + 3 - unit->text), text);
}

/* Whether the comment there is the head of a file of the skeletons. */
static bool is_head(const sg_trim_unit *unit, const char *comment) {
    const char *line = comment;
    while (line > unit->text && (line[-1] == '\n' || line[-1] == ' '))
        line--;
    while (line > unit->text && line[-1] != '\n')
        line--;
    return line < comment && strncmp(line, "//@ begin", 9) == 0;
}

/* Whether a paragraph of a head tells what is to be defined before the file: here it is. */
static bool is_contract(const char *text) {
    static const char *const starts[] = {"Constants", "Defined before", "For skeletons"};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (strncmp(text, starts[i], strlen(starts[i])) == 0)
            return true;
    return false;
}

void sg_trim_paragraphs(sg_trim_unit *unit) {
    static const char apart[] = "\n *\n * ";
    sg_trim_facts facts;
    if (!sg_trim_learn(&facts, unit))
        return;
    for (const char *at = strstr(unit->text, "/* "); at; at = strstr(at + 1, "/* ")) {
        const char *close = strstr(at, "*/");
        if (!close)
            return;
        bool any = false; /* a paragraph before is left */
        for (const char *from = at + 3, *next; from; from = next) {
            next = strstr(from, apart);
            next = next && next < close ? next + sizeof apart - 1 : NULL;
            const char *end = next ? next : close;
            const char *behind = NULL;
            bool contract = any && is_contract(from) && is_head(unit, at);
            paragraph kind = contract ? OTHERS : judge(&facts, from, &behind);
            if (kind == OURS)
                take_condition(unit, from, behind);
            if (kind != OTHERS) {
                any = true;
                continue;
            }
            /* The last goes with what parts it from the one before. */
            const char *start = next || !any ? from : from - (sizeof apart - 1);
            if (!next && !any)
                sg_trim_replace(unit, (int)(at - unit->text), (int)(close + 2 - unit->text), "");
            else
                sg_trim_replace(unit, (int)(start - unit->text), (int)(end - unit->text),
                                next ? "" : " ");
        }
    }
}

/* ---- all ----------------------------------------------------------------------------------- */

void sg_trim_tidy(sg_trim_unit *unit) {
    tidying d = {.unit = unit,
                 .block = sg_trim_blocks(unit),
                 .declared = SG_ARENA_NEW(unit->arena, int, unit->spelling_count)};
    if (!d.block || !d.declared || !sg_trim_learn(&d.facts, unit))
        return;
    for (int i = 1; i < unit->token_count; i++)
        if (sg_trim_is_function(&d.facts, i))
            d.declared[spelling_of(&d, i)]++;
    for (int i = 1; i + 4 < unit->token_count; i++) {
        drop_empty_branch(&d, i);
        drop_alias(&d, i);
        return_at_once(&d, i);
        use_at_once(&d, i);
        drop_forwarding(&d, i);
        drop_type_name(&d, i);
    }
}
