/* What folding leaves over: calls of functions that do nothing, parameters that nobody reads or
 * that are the same number in every call, variables that nobody reads. */
#include <string.h>

#include "gen/cuda/trim_expression.h"

enum { CALLS_MAX = 64, PARAMETERS_MAX = 16 };

typedef struct dropping {
    sg_trim_unit *unit;
    sg_trim_facts facts;
    int *block;    /* of every token: the { around it */
    int *declared; /* by spelling: functions of that name */
    bool *empty;   /* by spelling: none of them does anything */
} dropping;

static bool is(const dropping *d, int token, int spelling) {
    return sg_trim_is(d->unit, token, spelling);
}

/* The body's { of the function named there. */
static int body_of(const dropping *d, int name) {
    int behind = sg_trim_behind(d->unit, name + 1);
    return behind + is(d, behind, SG_TRIM_CONST);
}

static bool learn(dropping *d) {
    sg_trim_unit *unit = d->unit;
    d->block = sg_trim_blocks(unit);
    d->declared = SG_ARENA_NEW(unit->arena, int, unit->spelling_count);
    d->empty = SG_ARENA_NEW(unit->arena, bool, unit->spelling_count);
    if (!d->block || !d->declared || !d->empty || !sg_trim_learn(&d->facts, unit))
        return false;
    for (int i = 1; i < unit->token_count; i++) {
        if (!sg_trim_is_function(&d->facts, i))
            continue;
        int body = body_of(d, i), name = unit->tokens[i].spelling;
        bool returns = is(d, body + 1, SG_TRIM_RETURN) && is(d, body + 2, SG_TRIM_SEMICOLON);
        bool nothing = unit->tokens[body].pair == body + 1 + 2 * returns;
        d->empty[name] = nothing && (d->empty[name] || d->declared[name] == 0);
        d->declared[name]++;
    }
    return true;
}

static bool starts_statement(const dropping *d, int token) {
    return d->block[token] >= 0 &&
           (is(d, token - 1, SG_TRIM_SEMICOLON) || is(d, token - 1, SG_TRIM_OPEN_BLOCK) ||
            is(d, token - 1, SG_TRIM_CLOSE_BLOCK) || is(d, token - 1, SG_TRIM_CLOSE) ||
            is(d, token - 1, SG_TRIM_ELSE));
}

/* Whether a noted edit touches these bytes. */
static bool is_edited(const sg_trim_unit *unit, int start, int end) {
    for (int i = 0; i < unit->edit_count; i++)
        if (unit->edits[i].start < end && unit->edits[i].end > start)
            return true;
    return false;
}

/* ---- calls of nothing ---------------------------------------------------------------------- */

static bool are_pure(const sg_trim_node *node) {
    for (; node; node = node->next)
        if (!node->pure)
            return false;
    return true;
}

static bool drop_call(dropping *d, int token) {
    sg_trim_node *node = sg_trim_parse(&d->facts, token);
    if (!node || node->kind != SG_TRIM_CALL || node->mark < 0 || !d->empty[node->mark] ||
        !is(d, node->behind, SG_TRIM_SEMICOLON) || !are_pure(node->child[1]) ||
        is_edited(d->unit, d->unit->tokens[token].start, d->unit->tokens[node->behind].end))
        return false;
    sg_trim_drop_statement(d->unit, token, node->behind + 1);
    return true;
}

/* ---- variables ----------------------------------------------------------------------------- */

/* Zero in the place of a variable that is nothing else, between tokens first and behind. */
static bool put_zero(dropping *d, int first, int behind, int name) {
    sg_trim_unit *unit = d->unit;
    for (int i = first; i < behind; i++) {
        bool member = is(d, i - 1, SG_TRIM_DOT) || is(d, i - 1, SG_TRIM_ARROW);
        if (is(d, i, name) && !member &&
            (sg_trim_is_type(&d->facts, i - 1) || is(d, i - 1, SG_TRIM_BIT_AND) ||
             is_edited(unit, unit->tokens[i].start, unit->tokens[i].end)))
            return false;
    }
    for (int i = first; i < behind; i++)
        if (is(d, i, name) && !is(d, i - 1, SG_TRIM_DOT) && !is(d, i - 1, SG_TRIM_ARROW))
            sg_trim_replace(unit, unit->tokens[i].start, unit->tokens[i].end, "0");
    return true;
}

enum { DECLARATORS_MAX = 16 };

/* One name of a declaration: "x", "*x = a", "x[4] = {}". */
typedef struct declarator {
    int first, behind; /* tokens */
    int name;          /* its token */
    bool pure;         /* how it is made may be left out */
    bool zero;         /* it is 0, without being an array or a pointer */
} declarator;

static bool read_declarator(const dropping *d, int token, declarator *new) {
    const sg_trim_unit *unit = d->unit;
    int at = token;
    while (is(d, at, SG_TRIM_TIMES))
        at++;
    *new = (declarator){.first = token, .name = at, .pure = true};
    if (!sg_trim_is_word(unit, at++))
        return false;
    while (is(d, at, SG_TRIM_OPEN_INDEX))
        at = sg_trim_behind(unit, at);
    if (is(d, at, SG_TRIM_ASSIGN) && is(d, at + 1, SG_TRIM_OPEN_BLOCK)) {
        new->pure = unit->tokens[at + 1].pair == at + 2;
        at = sg_trim_behind(unit, at + 1);
    } else if (is(d, at, SG_TRIM_ASSIGN)) {
        sg_trim_node *node = sg_trim_parse(&d->facts, at + 1);
        if (!node)
            return false;
        new->pure = node->pure;
        new->zero = at == token + 1 && node->plain && node->value.type == SG_TRIM_WHOLE &&
                    node->value.number == 0;
        at = node->behind;
    }
    new->behind = at;
    return is(d, at, SG_TRIM_SEMICOLON) || is(d, at, SG_TRIM_COMMA);
}

/* The declarators of a declaration at `token`; 0 where there is none. */
static int read_declaration(const dropping *d, int token, declarator *all) {
    int at = token + is(d, token, SG_TRIM_CONST), count = 0;
    if (!sg_trim_is_type(&d->facts, at))
        return 0;
    while (sg_trim_is_type(&d->facts, at))
        at++;
    do {
        if (count == DECLARATORS_MAX || !read_declarator(d, at, &all[count]))
            return 0;
        at = all[count].behind + 1;
    } while (!is(d, all[count++].behind, SG_TRIM_SEMICOLON));
    return count;
}

/* Whether a macro or a pragma has the word of a token: those lines stay as they are. */
static bool is_in_directive(const sg_trim_unit *unit, int token) {
    for (int i = 0; i < unit->token_count; i++) {
        const sg_trim_token *line = &unit->tokens[i];
        if (line->kind != SG_TRIM_DIRECTIVE)
            continue;
        for (int at = line->start, word; sg_trim_next_word(unit, line, &at, &word);)
            if (word == unit->tokens[token].spelling)
                return true;
    }
    return false;
}

/* What a constant of the block stands for, where that is one word or number and stays the same:
 * "const int x = y;". NULL: more than that. */
static const char *alias_of(const dropping *d, int token, const declarator *this) {
    const sg_trim_unit *unit = d->unit;
    int from = this->name + 2, close = unit->tokens[d->block[token]].pair;
    if (this->first != this->name || this->behind != from + 1 || !is(d, token, SG_TRIM_CONST))
        return NULL;
    bool number = unit->tokens[from].kind == SG_TRIM_NUMBER;
    bool constant = sg_trim_is_word(unit, from) && sg_trim_is_constant_name(unit, from);
    bool whole = is(d, token + 1, SG_TRIM_INT);
    if (!whole || !(number || constant) || is_in_directive(unit, this->name))
        return NULL;
    for (int i = this->behind; i < close; i++) {
        if (is(d, i, unit->tokens[this->name].spelling) &&
            (sg_trim_is_type(&d->facts, i - 1) || is(d, i - 1, SG_TRIM_BIT_AND) ||
             is(d, i - 1, SG_TRIM_DOT) || is(d, i - 1, SG_TRIM_ARROW) ||
             is_edited(unit, unit->tokens[i].start, unit->tokens[i].end)))
            return NULL;
    }
    const sg_trim_token *t = &unit->tokens[from];
    return sg_arena_text(unit->arena, unit->text + t->start, (size_t)(t->end - t->start));
}

/* Variables that nothing mentions again go, and so does "const int x = 0". */
static bool drop_variable(dropping *d, int token) {
    sg_trim_unit *unit = d->unit;
    declarator all[DECLARATORS_MAX];
    int count = read_declaration(d, token, all);
    if (count == 0 || sg_trim_is_governed(unit, token) ||
        is_edited(unit, unit->tokens[token].start, unit->tokens[all[count - 1].behind].end))
        return false;
    bool whole = is(d, token, SG_TRIM_CONST) && is(d, token + 1, SG_TRIM_INT);
    int close = unit->tokens[d->block[token]].pair;
    const char *alias = count == 1 ? alias_of(d, token, &all[0]) : NULL;
    for (int i = all[0].behind; alias && i < close; i++)
        if (is(d, i, unit->tokens[all[0].name].spelling))
            sg_trim_replace(unit, unit->tokens[i].start, unit->tokens[i].end, alias);
    if (alias) {
        sg_trim_erase(unit, token, all[0].behind + 1);
        return true;
    }
    for (int i = 0; i < count; i++) {
        const declarator *this = &all[i];
        int spelling = unit->tokens[this->name].spelling;
        if (!this->pure || (sg_trim_mentions(unit, this->behind, close, spelling) &&
                            !(whole && this->zero && put_zero(d, this->behind, close, spelling))))
            continue;
        /* One at a time, so that edits do not meet. */
        if (count == 1)
            sg_trim_erase(unit, token, this->behind + 1);
        else if (i == 0)
            sg_trim_replace(unit, unit->tokens[this->first].start,
                            unit->tokens[this->behind + 1].start, SG_TRIM_CHANGED);
        else
            sg_trim_replace(unit, unit->tokens[this->first - 1].start,
                            unit->tokens[this->behind - 1].end, SG_TRIM_CHANGED);
        return true;
    }
    return false;
}

/* Whether the declaration at `token` is "constexpr T A = B;", of all kernels and without a comment
 * that says what A is for. */
static bool is_other_name(const dropping *d, int token) {
    const sg_trim_unit *unit = d->unit;
    return is(d, token, SG_TRIM_CONSTEXPR) && d->block[token] < 0 &&
           sg_trim_is_type(&d->facts, token + 1) && is(d, token + 3, SG_TRIM_ASSIGN) &&
           is(d, token + 5, SG_TRIM_SEMICOLON) && sg_trim_is_constant_name(unit, token + 2) &&
           sg_trim_is_constant_name(unit, token + 4) &&
           sg_trim_lead(unit, token) == unit->tokens[token].start &&
           sg_trim_trail(unit, token + 5) == unit->tokens[token + 5].end;
}

/* A constant that is another goes, and the other stands in its place. */
static void drop_other_name(dropping *d, int token) {
    sg_trim_unit *unit = d->unit;
    const sg_trim_token *other = &unit->tokens[token + 4];
    int name = unit->tokens[token + 2].spelling;
    for (int i = unit->first[name]; i >= 0; i = unit->tokens[i].next)
        if (i != token + 2 && (sg_trim_is_type(&d->facts, i - 1) ||
                               is_edited(unit, unit->tokens[i].start, unit->tokens[i].end)))
            return;
    if (is_edited(unit, unit->tokens[token].start, unit->tokens[token + 5].end) ||
        is_in_directive(unit, token + 2))
        return;
    const char *text =
        sg_arena_text(unit->arena, unit->text + other->start, (size_t)(other->end - other->start));
    for (int i = unit->first[name]; i >= 0 && text; i = unit->tokens[i].next)
        if (i != token + 2)
            sg_trim_replace(unit, unit->tokens[i].start, unit->tokens[i].end, text);
    sg_trim_erase(unit, token, token + 6);
}

/* Not a member of a struct: those count for their layout. */
static bool is_code(const dropping *d, int token) {
    const sg_trim_unit *unit = d->unit;
    int open = d->block[token];
    if (open < 0)
        return false;
    int before = open - 1 - is(d, open - 1, SG_TRIM_CONST);
    return is(d, before, SG_TRIM_CLOSE) || is(d, before, SG_TRIM_SEMICOLON) ||
           is(d, before, SG_TRIM_OPEN_BLOCK) || is(d, before, SG_TRIM_CLOSE_BLOCK) ||
           is(d, before, SG_TRIM_ELSE) || unit->tokens[before].spelling == SG_TRIM_DO;
}

/* ---- parameters ---------------------------------------------------------------------------- */

typedef struct parameter {
    int first, behind; /* tokens */
    int name;          /* spelling, -1: it has none */
    bool number;       /* an int or a bool, by value */
} parameter;

static int read_parameters(const dropping *d, int open, parameter *parameters) {
    const sg_trim_unit *unit = d->unit;
    int close = unit->tokens[open].pair, count = 0;
    for (int i = open + 1; i < close;) {
        if (count == PARAMETERS_MAX)
            return -1;
        parameter *p = &parameters[count++];
        *p = (parameter){.first = i, .name = -1};
        while (i < close && !is(d, i, SG_TRIM_COMMA)) {
            if (is(d, i, SG_TRIM_OPEN_BLOCK) || is(d, i, SG_TRIM_ASSIGN) || is(d, i, SG_TRIM_LESS))
                return -1;
            i = unit->tokens[i].pair > i ? unit->tokens[i].pair + 1 : i + 1;
        }
        p->behind = i;
        int last = i - 1;
        bool named = sg_trim_is_word(unit, last) && last > p->first &&
                     !(sg_trim_is_type(&d->facts, last) && is(d, last - 1, SG_TRIM_CONST));
        bool plain = sg_trim_is_word(unit, last) || is(d, last, SG_TRIM_BIT_AND) ||
                     is(d, last, SG_TRIM_TIMES);
        if (!plain)
            p->name = -2; /* an array: it stays */
        else if (named)
            p->name = unit->tokens[last].spelling;
        p->number =
            i == p->first + 2 && (is(d, p->first, SG_TRIM_INT) || is(d, p->first, SG_TRIM_BOOL));
        i += i < close;
    }
    return count;
}

typedef struct call {
    int open, close;
    sg_trim_node *arguments[PARAMETERS_MAX];
} call;

/* Whether a mention of a function's name is another's: a data member that is declared or named. */
static bool is_of_others(const dropping *d, int name, int token) {
    bool object = is(d, token - 1, SG_TRIM_DOT) || is(d, token - 1, SG_TRIM_ARROW);
    bool declared = is(d, token - 1, SG_TRIM_TIMES) || sg_trim_is_type(&d->facts, token - 1);
    return !is(d, token + 1, SG_TRIM_OPEN) && !is(d, token + 1, SG_TRIM_LESS) &&
           d->block[name] < 0 && (object || (declared && is(d, token + 1, SG_TRIM_SEMICOLON)));
}

/* All calls of the function named at `name`; -1 where some use of the name is none that we know. */
static int find_calls(dropping *d, int name, int parameters, call *calls) {
    sg_trim_unit *unit = d->unit;
    int count = 0, spelling = unit->tokens[name].spelling;
    for (int i = unit->first[spelling]; i >= 0; i = unit->tokens[i].next) {
        if (i == name || is_of_others(d, name, i))
            continue;
        int open = i + 1;
        if (is(d, open, SG_TRIM_LESS))
            open = sg_trim_behind_template(unit, open);
        if (open < 0 || !is(d, open, SG_TRIM_OPEN) || count == CALLS_MAX ||
            sg_trim_is_type(&d->facts, i - 1))
            return -1;
        call *c = &calls[count++];
        *c = (call){.open = open, .close = unit->tokens[open].pair};
        int at = open + 1, number = 0;
        while (at < c->close) {
            sg_trim_node *node = number < parameters ? sg_trim_parse(&d->facts, at) : NULL;
            if (!node || (node->behind != c->close && !is(d, node->behind, SG_TRIM_COMMA)))
                return -1;
            c->arguments[number++] = node;
            at = node->behind + (node->behind != c->close);
        }
        if (number != parameters)
            return -1;
    }
    return count;
}

/* An item of a list and the comma that goes with it. */
static void cut_item(const sg_trim_unit *unit, int first, int behind, int *start, int *end) {
    bool last = sg_trim_is(unit, behind, SG_TRIM_CLOSE);
    bool only = last && sg_trim_is(unit, first - 1, SG_TRIM_OPEN);
    *start = unit->tokens[first].start;
    *end = unit->tokens[behind - 1].end;
    if (only)
        return;
    if (last)
        *start = unit->tokens[first - 1].start; /* the comma before */
    else
        *end = unit->tokens[behind + 1].start;
}

static bool is_free(const sg_trim_unit *unit, int first, int behind) {
    int start, end;
    cut_item(unit, first, behind, &start, &end);
    return !is_edited(unit, start, end);
}

static void cut(sg_trim_unit *unit, int first, int behind) {
    int start, end;
    cut_item(unit, first, behind, &start, &end);
    sg_trim_replace(unit, start, end, SG_TRIM_CHANGED);
}

/* Whether every call gives the same number, or the same constant; *text: its spelling. */
static bool is_same_number(dropping *d, int name, const call *calls, int count, int number,
                           const char **text) {
    const sg_trim_token *tokens = d->unit->tokens, *token = NULL;
    for (int i = 0; i < count; i++) {
        const sg_trim_node *node = calls[i].arguments[number];
        if (!node->named || node->value.type == SG_TRIM_UNKNOWN ||
            node->behind != node->first + 1 ||
            (i && tokens[node->first].spelling != token->spelling))
            return false;
        token = &tokens[node->first];
    }
    if (!token ||
        (token->kind == SG_TRIM_WORD && token->spelling != SG_TRIM_TRUE &&
         token->spelling != SG_TRIM_FALSE && !sg_trim_mentions(d->unit, 0, name, token->spelling)))
        return false; /* declared behind the function */
    *text = sg_arena_text(d->unit->arena, d->unit->text + token->start,
                          (size_t)(token->end - token->start));
    return *text != NULL;
}

/* Whether a parameter is only read between these tokens, and none of them is edited. */
static bool is_only_read(const dropping *d, int first, int behind, int name) {
    const sg_trim_unit *unit = d->unit;
    for (int i = first; i < behind; i++) {
        if (!is(d, i, name))
            continue;
        int next = unit->tokens[i + 1].spelling, before = unit->tokens[i - 1].spelling;
        if (sg_trim_precedence(next) == 1 || next == SG_TRIM_INCREMENT ||
            next == SG_TRIM_DECREMENT || before == SG_TRIM_INCREMENT ||
            before == SG_TRIM_DECREMENT || before == SG_TRIM_BIT_AND || before == SG_TRIM_DOT ||
            before == SG_TRIM_ARROW || sg_trim_is_type(&d->facts, i - 1) ||
            is_edited(unit, unit->tokens[i].start, unit->tokens[i].end))
            return false;
    }
    return true;
}

/* Whether a parameter's type is a parameter of the function's template, which calls let the
 * compiler find. */
static bool is_deduced(const dropping *d, int name, const parameter *p) {
    int first = name;
    while (first > 0 && !is(d, first - 1, SG_TRIM_SEMICOLON) &&
           !is(d, first - 1, SG_TRIM_OPEN_BLOCK) && !is(d, first - 1, SG_TRIM_CLOSE_BLOCK))
        first--;
    if (!is(d, first, SG_TRIM_TEMPLATE))
        return false;
    int behind = sg_trim_behind_template(d->unit, first + 1);
    for (int i = p->first; i < p->behind; i++)
        if (sg_trim_is_word(d->unit, i) &&
            sg_trim_mentions(d->unit, first + 1, behind, d->unit->tokens[i].spelling))
            return true;
    return false;
}

/* Whether there are instructions between two tokens: assembly of no text only hides a value. */
static bool has_instructions(const sg_trim_unit *unit, int first, int behind) {
    for (int i = unit->first[SG_TRIM_ASM]; i >= 0 && i < behind; i = unit->tokens[i].next) {
        int text = i + 2 + sg_trim_is(unit, i + 1, SG_TRIM_VOLATILE);
        if (i >= first && unit->tokens[text].end - unit->tokens[text].start > 2)
            return true;
    }
    return false;
}

/* Drops one parameter of the function named there, if any can go. A function of assembly stays as
 * its instruction is. */
static void drop_parameter(dropping *d, int name) {
    sg_trim_unit *unit = d->unit;
    parameter parameters[PARAMETERS_MAX];
    int count = read_parameters(d, name + 1, parameters);
    int body = body_of(d, name), close = unit->tokens[body].pair;
    bool unread = false;
    for (int i = 0; i < count; i++)
        unread |= parameters[i].name >= -1;
    if (count <= 0 || !unread || has_instructions(unit, body, close))
        return;
    call *calls = SG_ARENA_NEW(unit->arena, call, CALLS_MAX);
    int called = calls ? find_calls(d, name, count, calls) : -1;
    if (called <= 0)
        return;
    for (int i = 0; i < count; i++) {
        const parameter *p = &parameters[i];
        const char *text = NULL;
        if (p->name == -2 || is_deduced(d, name, p))
            continue;
        bool unused = p->name == -1 || !sg_trim_mentions(unit, body, close, p->name);
        bool number = !unused && p->number && is_same_number(d, name, calls, called, i, &text) &&
                      is_only_read(d, body, close, p->name);
        bool free = (unused || number) && is_free(unit, p->first, p->behind);
        for (int k = 0; k < called && free; k++) {
            const sg_trim_node *node = calls[k].arguments[i];
            free = node->pure && is_free(unit, node->first, node->behind);
        }
        if (!free)
            continue;
        cut(unit, p->first, p->behind);
        for (int k = 0; k < called; k++)
            cut(unit, calls[k].arguments[i]->first, calls[k].arguments[i]->behind);
        for (int k = body; k < close && number; k++)
            if (is(d, k, p->name))
                sg_trim_replace(unit, unit->tokens[k].start, unit->tokens[k].end, text);
        return;
    }
}

void sg_trim_drop(sg_trim_unit *unit) {
    dropping d = {.unit = unit};
    if (!learn(&d))
        return;
    for (int i = 1; i < unit->token_count; i++) {
        if (starts_statement(&d, i) && is_code(&d, i) && !drop_call(&d, i))
            drop_variable(&d, i);
    }
    for (int i = 0; i + 5 < unit->token_count; i++)
        if (is_other_name(&d, i))
            drop_other_name(&d, i);
    for (int i = 1; i < unit->token_count; i++)
        if (sg_trim_is_function(&d.facts, i) && d.declared[unit->tokens[i].spelling] == 1)
            drop_parameter(&d, i);
}
