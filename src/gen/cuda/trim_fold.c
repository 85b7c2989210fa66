/* Branches, loops and operands that constants decide. */
#include <stdio.h>
#include <string.h>

#include "gen/cuda/trim_expression.h"

typedef struct folding {
    sg_trim_unit *unit;
    sg_trim_facts facts;
    int *block;   /* of every token: the { around it, -1: none */
    int *skipped; /* of every token: where to go on behind it, 0: there */
} folding;

static bool is(const folding *f, int token, int spelling) {
    return sg_trim_is(f->unit, token, spelling);
}

static int start_of(const folding *f, int token) {
    return f->unit->tokens[token].start;
}

static int end_of(const folding *f, int token) {
    return f->unit->tokens[token].end;
}

/* ---- splicing ------------------------------------------------------------------------------ */

/* Whether what a block declares at its top would meet the same name in the block around it. */
static bool clashes(const folding *f, int open) {
    const sg_trim_unit *unit = f->unit;
    int close = unit->tokens[open].pair, around = f->block[open];
    if (around < 0)
        return true;
    int first = around, behind = unit->tokens[around].pair;
    /* The parameters, or a loop's variable. */
    int before = around - 1 - is(f, around - 1, SG_TRIM_CONST);
    if (is(f, before, SG_TRIM_CLOSE))
        first = unit->tokens[before].pair;
    for (int i = open + 1; i < close;) {
        int next = sg_trim_behind_statement(unit, i);
        if (next < 0)
            return true;
        bool declares = is(f, i, SG_TRIM_CONST) || is(f, i, SG_TRIM_CONSTEXPR) ||
                        is(f, i, SG_TRIM_AUTO) || sg_trim_is_type(&f->facts, i);
        for (int k = i; declares && k < next; k++) {
            if (unit->tokens[k].pair > k)
                k = unit->tokens[k].pair;
            int spelling = unit->tokens[k].spelling;
            bool name = sg_trim_is_word(unit, k) && !sg_trim_is_type(&f->facts, k) &&
                        (is(f, k + 1, SG_TRIM_ASSIGN) || is(f, k + 1, SG_TRIM_SEMICOLON) ||
                         is(f, k + 1, SG_TRIM_COMMA) || is(f, k + 1, SG_TRIM_OPEN_INDEX) ||
                         is(f, k + 1, SG_TRIM_OPEN) || is(f, k + 1, SG_TRIM_OPEN_BLOCK));
            if (name && (sg_trim_mentions(unit, first, open, spelling) ||
                         sg_trim_mentions(unit, close, behind, spelling)))
                return true;
        }
        i = next;
    }
    return false;
}

/* Leaves the statement at `body`, up to `behind`, of what begins at `first` and ends before `end`;
 * its braces only where they are needed. Returns the token to go on from. */
static int leave(folding *f, int first, int body, int behind, int end) {
    bool braces = is(f, body, SG_TRIM_OPEN_BLOCK);
    bool splice = braces && !sg_trim_is_governed(f->unit, first) && !clashes(f, body);
    int inner = splice ? body + 1 : body;
    sg_trim_replace(f->unit, start_of(f, first), splice ? end_of(f, body) : end_of(f, body - 1),
                    "");
    if (splice)
        sg_trim_replace(f->unit, start_of(f, behind - 1), end_of(f, end - 1), "");
    else if (end > behind)
        sg_trim_replace(f->unit, end_of(f, behind - 1), end_of(f, end - 1), "");
    if (end > behind)
        f->skipped[behind] = end;
    return inner;
}

/* ---- if ------------------------------------------------------------------------------------ */

/* Where to go on; -1: it stays. */
static int fold_if(folding *f, int token) {
    sg_trim_unit *unit = f->unit;
    int open = token + 1 + is(f, token + 1, SG_TRIM_CONSTEXPR);
    int end = sg_trim_behind_statement(unit, token);
    if (!is(f, open, SG_TRIM_OPEN) || end < 0)
        return -1;
    sg_trim_node *node = sg_trim_parse(&f->facts, open + 1);
    if (!node || node->behind != unit->tokens[open].pair || !node->value.type)
        return -1;
    int yes = node->behind + 1, behind = sg_trim_behind_statement(unit, yes);
    bool other = behind < end; /* there is an else */
    bool nested = is(f, other ? behind + 1 : yes, SG_TRIM_IF);
    if (node->value.number) {
        if (sg_trim_is_governed(f->unit, token) && is(f, yes, SG_TRIM_IF))
            return -1; /* an else of the outer if would become its own */
        return leave(f, token, yes, behind, end);
    }
    if (!other) {
        sg_trim_drop_statement(f->unit, token, end);
        return end;
    }
    if (nested && sg_trim_is_governed(f->unit, token) && !is(f, token - 1, SG_TRIM_ELSE))
        return -1;
    return leave(f, token, behind + 1, end, end);
}

/* ---- for ----------------------------------------------------------------------------------- */

typedef struct loop {
    int first, open, body, end; /* tokens: pragmas included, the (, the body, behind all */
    int name;                   /* spelling of the variable */
    int condition, step;        /* tokens */
    int64_t value;              /* at first */
} loop;

static bool read_loop(folding *f, int token, loop *l) {
    const sg_trim_unit *unit = f->unit;
    *l = (loop){.first = sg_trim_first_pragma(unit, token), .open = token + 1};
    l->end = sg_trim_behind_statement(unit, token);
    if (l->end < 0 || !is(f, l->open, SG_TRIM_OPEN) || !is(f, l->open + 1, SG_TRIM_INT) ||
        !sg_trim_is_word(unit, l->open + 2) || !is(f, l->open + 3, SG_TRIM_ASSIGN))
        return false;
    l->name = unit->tokens[l->open + 2].spelling;
    sg_trim_node *node = sg_trim_parse(&f->facts, l->open + 4);
    if (!node || node->value.type != SG_TRIM_WHOLE || !is(f, node->behind, SG_TRIM_SEMICOLON))
        return false;
    l->value = node->value.number;
    l->condition = node->behind + 1;
    l->body = sg_trim_behind(unit, l->open);
    node = sg_trim_parse(&f->facts, l->condition);
    if (!node || !is(f, node->behind, SG_TRIM_SEMICOLON))
        return false;
    l->step = node->behind + 1;
    return true;
}

/* The condition where the variable has that value. */
static sg_trim_value condition_at(folding *f, const loop *l, int64_t value) {
    sg_trim_value was = f->facts.values[l->name];
    f->facts.values[l->name] = (sg_trim_value){SG_TRIM_WHOLE, value};
    sg_trim_node *node = sg_trim_parse(&f->facts, l->condition);
    f->facts.values[l->name] = was;
    return node ? node->value : (sg_trim_value){0};
}

/* The variable after one step. */
static bool step_of(folding *f, const loop *l, int64_t *value) {
    int close = f->unit->tokens[l->open].pair, at = l->step;
    if (is(f, at, l->name) && is(f, at + 1, SG_TRIM_INCREMENT) && at + 2 == close) {
        *value = l->value + 1;
        return true;
    }
    if (is(f, at, l->name) && is(f, at + 1, SG_TRIM_ADD_ASSIGN)) {
        sg_trim_node *node = sg_trim_parse(&f->facts, at + 2);
        if (node && node->behind == close && node->value.type == SG_TRIM_WHOLE) {
            *value = l->value + node->value.number;
            return true;
        }
    }
    return false;
}

/* Whether a loop's body may stand by itself, with a number for the variable. */
static bool stands_alone(const folding *f, const loop *l) {
    const sg_trim_unit *unit = f->unit;
    for (int i = l->body; i < l->end; i++) {
        if (is(f, i, SG_TRIM_BREAK) || is(f, i, SG_TRIM_CONTINUE))
            return false;
        if (!is(f, i, l->name) || is(f, i - 1, SG_TRIM_DOT) || is(f, i - 1, SG_TRIM_ARROW))
            continue;
        int next = unit->tokens[i + 1].spelling, before = unit->tokens[i - 1].spelling;
        if (sg_trim_precedence(next) == 1 || next == SG_TRIM_INCREMENT ||
            next == SG_TRIM_DECREMENT || before == SG_TRIM_INCREMENT ||
            before == SG_TRIM_DECREMENT || before == SG_TRIM_BIT_AND ||
            sg_trim_is_type(&f->facts, i - 1))
            return false;
    }
    return true;
}

static int fold_for(folding *f, int token) {
    loop l;
    int64_t next;
    if (!read_loop(f, token, &l))
        return -1;
    sg_trim_value runs = condition_at(f, &l, l.value);
    bool idle = is(f, l.body, SG_TRIM_SEMICOLON) && step_of(f, &l, &next);
    if (idle || (runs.type && !runs.number)) {
        sg_trim_drop_statement(f->unit, l.first, l.end);
        return l.end;
    }
    if (!runs.type || !step_of(f, &l, &next))
        return -1;
    sg_trim_value again = condition_at(f, &l, next);
    if (!again.type || again.number || !stands_alone(f, &l) ||
        sg_trim_names_kept(&f->facts, l.condition, l.step))
        return -1;
    char digits[24];
    snprintf(digits, sizeof digits, l.value < 0 ? "(%lld)" : "%lld", (long long)l.value);
    const char *text = sg_arena_text(f->unit->arena, digits, strlen(digits));
    for (int i = l.body; i < l.end; i++)
        if (is(f, i, l.name) && !is(f, i - 1, SG_TRIM_DOT) && !is(f, i - 1, SG_TRIM_ARROW) && text)
            sg_trim_replace(f->unit, start_of(f, i), end_of(f, i), text);
    leave(f, l.first, l.body, l.end, l.end);
    return l.end;
}

/* ---- expressions --------------------------------------------------------------------------- */

static bool ends_expression(const folding *f, int token) {
    int spelling = f->unit->tokens[token].spelling;
    return spelling == SG_TRIM_SEMICOLON || spelling == SG_TRIM_CLOSE ||
           spelling == SG_TRIM_CLOSE_INDEX || spelling == SG_TRIM_CLOSE_BLOCK ||
           spelling == SG_TRIM_COMMA || spelling == SG_TRIM_COLON;
}

static bool starts_expression(const folding *f, int token) {
    int before = token ? f->unit->tokens[token - 1].spelling : SG_TRIM_SEMICOLON;
    return before == SG_TRIM_SEMICOLON || before == SG_TRIM_OPEN || before == SG_TRIM_CLOSE ||
           before == SG_TRIM_OPEN_INDEX || before == SG_TRIM_OPEN_BLOCK ||
           before == SG_TRIM_CLOSE_BLOCK || before == SG_TRIM_COMMA || before == SG_TRIM_ASSIGN ||
           before == SG_TRIM_RETURN || before == SG_TRIM_ELSE || before == SG_TRIM_COLON;
}

/* Whether true and false are all that is asked for: a condition, or what a bool starts with. */
static bool asks_truth(const folding *f, int token) {
    if (is(f, token - 1, SG_TRIM_OPEN))
        return is(f, token - 2, SG_TRIM_IF) || is(f, token - 2, SG_TRIM_WHILE) ||
               is(f, token - 2, SG_TRIM_CONSTEXPR);
    if (is(f, token - 1, SG_TRIM_ASSIGN))
        return is(f, token - 3, SG_TRIM_BOOL);
    return false;
}

/* Behind the expression at a token; -1 where there is none. */
static int fold_expression(folding *f, int token) {
    sg_trim_node *node = sg_trim_parse(&f->facts, token);
    if (!node || !ends_expression(f, node->behind))
        return -1;
    if (sg_trim_simplify(&f->facts, node, asks_truth(f, token))) {
        const char *text = sg_trim_print(&f->facts, node);
        if (text)
            sg_trim_replace(f->unit, start_of(f, token), end_of(f, node->behind - 1), text);
    }
    return node->behind;
}

/* A block that nothing governs: its braces go, where no name forbids that. */
static void open_block(folding *f, int token) {
    int close = f->unit->tokens[token].pair;
    bool statement = is(f, token - 1, SG_TRIM_SEMICOLON) || is(f, token - 1, SG_TRIM_OPEN_BLOCK) ||
                     is(f, token - 1, SG_TRIM_CLOSE_BLOCK);
    bool code = is(f, close - 1, SG_TRIM_SEMICOLON) || is(f, close - 1, SG_TRIM_CLOSE_BLOCK);
    if (!statement || !code || clashes(f, token))
        return;
    sg_trim_replace(f->unit, start_of(f, token), end_of(f, token), "");
    sg_trim_replace(f->unit, start_of(f, close), end_of(f, close), "");
}

/* ---- all ----------------------------------------------------------------------------------- */

/* What stands behind a jump in its block is never reached; a loop goes on at its end anyhow. */
static void drop_unreached(folding *f, int token) {
    int behind = sg_trim_behind_statement(f->unit, token), open = f->block[token];
    if (behind < 0 || open < 0 || sg_trim_is_governed(f->unit, token))
        return;
    int close = f->unit->tokens[open].pair, head = f->unit->tokens[open - 1].pair;
    if (is(f, token, SG_TRIM_CONTINUE) && behind == close && is(f, open - 1, SG_TRIM_CLOSE) &&
        (is(f, head - 1, SG_TRIM_FOR) || is(f, head - 1, SG_TRIM_WHILE)))
        sg_trim_erase(f->unit, token, behind);
    if (behind < close) {
        sg_trim_erase(f->unit, behind, close);
        f->skipped[behind] = close;
    }
}

void sg_trim_fold(sg_trim_unit *unit) {
    folding f = {.unit = unit,
                 .block = sg_trim_blocks(unit),
                 .skipped = SG_ARENA_NEW(unit->arena, int, unit->token_count + 1)};
    if (!f.block || !f.skipped || !sg_trim_learn(&f.facts, unit))
        return;
    for (int i = 0; i < unit->token_count;) {
        int next = -1;
        if (f.skipped[i]) {
            i = f.skipped[i];
            continue;
        }
        if (is(&f, i, SG_TRIM_IF))
            next = fold_if(&f, i);
        else if (is(&f, i, SG_TRIM_FOR))
            next = fold_for(&f, i);
        else if (is(&f, i, SG_TRIM_RETURN) || is(&f, i, SG_TRIM_CONTINUE) ||
                 is(&f, i, SG_TRIM_BREAK))
            drop_unreached(&f, i);
        else if (is(&f, i, SG_TRIM_OPEN_BLOCK))
            open_block(&f, i);
        else if (starts_expression(&f, i))
            next = fold_expression(&f, i);
        i = next > i ? next : i + 1;
    }
}
