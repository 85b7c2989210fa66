/* Numbers that templates of functions take, where all calls give the same: the number stands in the
 * function, and nobody gives it. */
#include <string.h>

#include "gen/cuda/trim_text.h"

/* A template whose first parameter is an int. */
typedef struct taker {
    int first;       /* its `template` */
    int name, close; /* the function's name, the } of its body */
    int number;      /* spelling of the parameter */
    bool alone;      /* it has no other parameter */
} taker;

enum { TAKERS_MAX = 8 };

static bool is(const sg_trim_unit *unit, int token, int spelling) {
    return sg_trim_is(unit, token, spelling);
}

static bool read_taker(const sg_trim_unit *unit, int token, taker *made) {
    if (!is(unit, token, SG_TRIM_TEMPLATE) || !is(unit, token + 1, SG_TRIM_LESS) ||
        !is(unit, token + 2, SG_TRIM_INT) || !sg_trim_is_word(unit, token + 3))
        return false;
    int behind = sg_trim_behind_template(unit, token + 1), open = behind;
    while (open > 0 && open < unit->token_count && !is(unit, open, SG_TRIM_OPEN) &&
           !is(unit, open, SG_TRIM_OPEN_BLOCK) && !is(unit, open, SG_TRIM_SEMICOLON))
        open++;
    if (behind < 0 || !is(unit, open, SG_TRIM_OPEN) || !sg_trim_is_word(unit, open - 1))
        return false;
    int body = sg_trim_behind(unit, open);
    body += is(unit, body, SG_TRIM_CONST);
    if (!is(unit, body, SG_TRIM_OPEN_BLOCK))
        return false;
    *made = (taker){.first = token,
                    .name = open - 1,
                    .close = unit->tokens[body].pair,
                    .number = unit->tokens[token + 3].spelling,
                    .alone = behind == token + 5};
    return made->alone || is(unit, token + 4, SG_TRIM_COMMA);
}

/* Whether tokens say "<number>(" there. */
static bool gives_number(const sg_trim_unit *unit, int token) {
    return is(unit, token, SG_TRIM_LESS) && unit->tokens[token + 1].kind == SG_TRIM_NUMBER &&
           is(unit, token + 2, SG_TRIM_GREATER) && is(unit, token + 3, SG_TRIM_OPEN);
}

static void give_number(sg_trim_unit *unit, const taker *takers, int count, int call) {
    const sg_trim_token *tokens = unit->tokens, *number = &tokens[call + 2];
    const char *text = sg_arena_text(unit->arena, unit->text + number->start,
                                     (size_t)(number->end - number->start));
    int name = tokens[takers[0].name].spelling;
    for (int i = unit->first[name]; i >= 0 && text; i = tokens[i].next)
        if (is(unit, i + 1, SG_TRIM_LESS))
            sg_trim_replace(unit, tokens[i + 1].start, tokens[i + 3].end, "");
    for (int k = 0; k < count && text; k++) {
        const taker *of = &takers[k];
        int behind = of->first + (of->alone ? 5 : 2);
        int end = of->alone ? behind : of->first + 5;
        sg_trim_replace(unit, tokens[of->alone ? of->first : behind].start, tokens[end].start, "");
        for (int i = end; i < of->close; i++)
            if (is(unit, i, of->number))
                sg_trim_replace(unit, tokens[i].start, tokens[i].end, text);
    }
}

/* All functions of one name, and all that mention it. */
static void take_name(sg_trim_unit *unit, int name) {
    taker takers[TAKERS_MAX];
    int count = 0, call = -1;
    for (int i = unit->first[SG_TRIM_TEMPLATE]; i >= 0; i = unit->tokens[i].next) {
        taker found;
        if (!read_taker(unit, i, &found) || !is(unit, found.name, name))
            continue;
        if (count == TAKERS_MAX)
            return;
        takers[count++] = found;
    }
    for (int i = unit->first[name]; i >= 0; i = unit->tokens[i].next) {
        bool declared = false;
        for (int k = 0; k < count; k++)
            declared |= takers[k].name == i;
        if (declared)
            continue;
        if (!gives_number(unit, i + 1) ||
            (call >= 0 && unit->tokens[call + 2].spelling != unit->tokens[i + 2].spelling))
            return;
        call = i;
    }
    if (count > 0 && call >= 0)
        give_number(unit, takers, count, call);
}

void sg_trim_templates(sg_trim_unit *unit) {
    for (int i = unit->first[SG_TRIM_TEMPLATE]; i >= 0; i = unit->tokens[i].next) {
        taker found;
        if (read_taker(unit, i, &found) && unit->edit_count == 0)
            take_name(unit, unit->tokens[found.name].spelling);
    }
}
