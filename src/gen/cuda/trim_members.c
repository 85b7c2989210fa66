/* Data members that are assigned and not read, or assigned one number and nothing else. */
#include <stdio.h>
#include <string.h>

#include "gen/cuda/trim_expression.h"

typedef struct members {
    sg_trim_unit *unit;
    sg_trim_facts facts;
    int *block; /* of every token: the { around it, -1: none */
} members;

static bool is(const members *m, int token, int spelling) {
    return sg_trim_is(m->unit, token, spelling);
}

static int spelling_of(const members *m, int token) {
    return m->unit->tokens[token].spelling;
}

static bool is_of_object(const members *m, int token) {
    return is(m, token - 1, SG_TRIM_DOT) || is(m, token - 1, SG_TRIM_ARROW);
}

/* ---- structs ------------------------------------------------------------------------------- */

/* The name of the struct whose { is at `open`; -1: it is another block. */
static int name_of_struct(const members *m, int open) {
    for (int i = open - 1; i > 0; i--) {
        if (is(m, i, SG_TRIM_STRUCT))
            return i + 1;
        if (is(m, i, SG_TRIM_SEMICOLON) || is(m, i, SG_TRIM_OPEN_BLOCK) ||
            is(m, i, SG_TRIM_CLOSE_BLOCK) || is(m, i, SG_TRIM_CLOSE) ||
            m->unit->tokens[i].kind == SG_TRIM_DIRECTIVE)
            return -1;
    }
    return -1;
}

/* The name of the struct around a token. directly: not within a function of it. */
static int struct_around(const members *m, int token, bool directly) {
    for (int open = m->block[token]; open >= 0; open = m->block[open]) {
        int name = name_of_struct(m, open);
        if (name >= 0 || directly)
            return name;
    }
    return -1;
}

/* Whether a struct is the other, is built upon it, or is another name of it. Spellings. */
static bool derives(const members *m, int type, int from) {
    if (type == from)
        return true;
    for (int i = m->unit->first[type]; i >= 0; i = m->unit->tokens[i].next) {
        bool upon = is(m, i - 1, SG_TRIM_STRUCT) && is(m, i + 1, SG_TRIM_COLON);
        bool same = is(m, i - 1, SG_TRIM_USING) && is(m, i + 1, SG_TRIM_ASSIGN);
        if ((upon || same) && spelling_of(m, i + 2) != type)
            return derives(m, spelling_of(m, i + 2), from);
    }
    return false;
}

/* Whether a type is no struct, so that nothing of it stands behind a dot. */
static bool is_plain_type(const members *m, int type) {
    bool alias = false;
    if (type >= SG_TRIM_VOID && type <= SG_TRIM_REAL)
        return true;
    for (int i = m->unit->first[type]; i >= 0; i = m->unit->tokens[i].next) {
        if (!is(m, i - 1, SG_TRIM_USING) || !is(m, i + 1, SG_TRIM_ASSIGN))
            continue;
        if (spelling_of(m, i + 2) == type || !is_plain_type(m, spelling_of(m, i + 2)))
            return false;
        alias = true;
    }
    return alias;
}

typedef enum belonging { OURS, OTHERS, UNCLEAR } belonging;

/* The function that a token stands in, from the ( of its parameters to its last }. */
static void function_around(const members *m, int token, int *first, int *last) {
    *first = *last = -1;
    for (int open = m->block[token]; open >= 0; open = m->block[open]) {
        int before = open - 1 - is(m, open - 1, SG_TRIM_CONST);
        bool outermost = m->block[open] < 0 || name_of_struct(m, m->block[open]) >= 0 ||
                         is(m, m->block[open] - 2, SG_TRIM_NAMESPACE);
        if (outermost && is(m, before, SG_TRIM_CLOSE)) {
            *first = m->unit->tokens[before].pair;
            *last = m->unit->tokens[open].pair;
        }
    }
}

/* Whether a name that stands behind a dot at `token` is a member of the struct. What is before the
 * dot is a variable of the function, or itself a member; its type stands before its declaration. */
static belonging owner_of(const members *m, int token, int type) {
    const sg_trim_unit *unit = m->unit;
    belonging found[2] = {UNCLEAR, UNCLEAR}; /* of variables, of members */
    int count[2] = {0, 0}, first, last;
    if (!sg_trim_is_word(unit, token - 2))
        return UNCLEAR;
    function_around(m, token, &first, &last);
    for (int i = unit->first[spelling_of(m, token - 2)]; i >= 0; i = unit->tokens[i].next) {
        int before = i - 1;
        while (is(m, before, SG_TRIM_BIT_AND) || is(m, before, SG_TRIM_TIMES))
            before--;
        bool member = struct_around(m, i, true) >= 0;
        if (!member && (i < first || i > last))
            continue;
        if (is(m, before, SG_TRIM_AUTO))
            return UNCLEAR;
        if (!sg_trim_is_word(unit, before) || !sg_trim_is_type(&m->facts, before) ||
            is_plain_type(m, spelling_of(m, before)))
            continue;
        belonging this = derives(m, spelling_of(m, before), type) ? OURS : OTHERS;
        found[member] = count[member]++ && found[member] != this ? UNCLEAR : this;
    }
    bool variable = !is_of_object(m, token - 2) && count[0] > 0;
    return found[variable ? 0 : 1];
}

/* Whether objects of the struct may be made from lists in braces. */
static bool is_listed(const members *m, int type) {
    const sg_trim_unit *unit = m->unit;
    for (int i = 1; i < unit->token_count; i++) {
        if (!is(m, i, SG_TRIM_OPEN_BLOCK))
            continue;
        if (is(m, i - 1, SG_TRIM_RETURN) || is(m, i - 1, SG_TRIM_OPEN) ||
            is(m, i - 1, SG_TRIM_COMMA))
            return true;
        int name = i - 1 - is(m, i - 1, SG_TRIM_ASSIGN);
        if (!sg_trim_is_word(unit, name) || is(m, name - 1, SG_TRIM_STRUCT) ||
            is(m, name - 1, SG_TRIM_COLON))
            continue;
        if (derives(m, spelling_of(m, name), type))
            return true;
        for (int k = unit->first[spelling_of(m, name)]; k >= 0; k = unit->tokens[k].next)
            if (sg_trim_is_word(unit, k - 1) && derives(m, spelling_of(m, k - 1), type))
                return true;
    }
    return false;
}

/* ---- members ------------------------------------------------------------------------------- */

/* One data member, and what becomes of it. */
typedef struct member {
    int name;        /* spelling */
    int type;        /* of the struct, a spelling */
    int declaration; /* its token */
    bool whole;      /* an int or a bool */
    bool wide;       /* a long long: only 0 and 1 stand for themselves */
    int assignments; /* statements "x.NAME = expression;" */
    int reads;
    const char *text; /* of the one number that is assigned, NULL: none */
} member;

static bool is_data_member(const members *m, int token) {
    return sg_trim_is_word(m->unit, token) && struct_around(m, token, true) >= 0 &&
           !sg_trim_is_type(&m->facts, token) &&
           (is(m, token + 1, SG_TRIM_SEMICOLON) || is(m, token + 1, SG_TRIM_COMMA));
}

/* The first token of the statement "x.y.NAME = expression;" with the name at `token`; -1: it is
 * none, or something governs it. */
static int assignment_at(const members *m, int token, sg_trim_node **value) {
    int first = token;
    while ((is(m, first - 1, SG_TRIM_DOT) || is(m, first - 1, SG_TRIM_ARROW)) &&
           sg_trim_is_word(m->unit, first - 2))
        first -= 2;
    bool starts = is(m, first - 1, SG_TRIM_SEMICOLON) || is(m, first - 1, SG_TRIM_OPEN_BLOCK) ||
                  is(m, first - 1, SG_TRIM_CLOSE_BLOCK);
    if (first == token || !starts || !is(m, token + 1, SG_TRIM_ASSIGN))
        return -1;
    *value = sg_trim_parse(&m->facts, token + 2);
    return *value && (*value)->pure && is(m, (*value)->behind, SG_TRIM_SEMICOLON) ? first : -1;
}

/* Whether a function of the unit takes parameter `number` by reference, so that it may change it.
 */
static bool may_change(const members *m, int name, int number) {
    const sg_trim_unit *unit = m->unit;
    for (int i = unit->first[spelling_of(m, name)]; i >= 0; i = unit->tokens[i].next) {
        if (!sg_trim_is_function(&m->facts, i))
            continue;
        bool reference = false, constant = false;
        int at = 0;
        for (int k = i + 2; k < unit->tokens[i + 1].pair; k++) {
            if (is(m, k, SG_TRIM_COMMA))
                at++;
            reference |= at == number && is(m, k, SG_TRIM_BIT_AND);
            constant |= at == number && is(m, k, SG_TRIM_CONST);
        }
        if (reference && !constant)
            return true;
    }
    return false;
}

/* Whether the whole argument of a call, from token first to before behind, may be changed there. */
static bool is_lent(const members *m, int first, int behind) {
    bool begins = is(m, first - 1, SG_TRIM_OPEN) || is(m, first - 1, SG_TRIM_COMMA);
    if (!begins || !(is(m, behind, SG_TRIM_COMMA) || is(m, behind, SG_TRIM_CLOSE)))
        return false;
    int number = 0, at = first - 1;
    for (; at > 0 && !is(m, at, SG_TRIM_OPEN); at--) {
        if (is(m, at, SG_TRIM_COMMA))
            number++;
        if (m->unit->tokens[at].pair >= 0 && m->unit->tokens[at].pair < at)
            at = m->unit->tokens[at].pair;
        else if (m->unit->tokens[at].pair >= 0)
            return true; /* in other brackets */
    }
    return sg_trim_is_word(m->unit, at - 1) && may_change(m, at - 1, number);
}

static bool is_only_read(const members *m, int token) {
    int next = spelling_of(m, token + 1), before = spelling_of(m, token - 1);
    return sg_trim_precedence(next) != 1 && next != SG_TRIM_INCREMENT &&
           next != SG_TRIM_DECREMENT && before != SG_TRIM_INCREMENT &&
           before != SG_TRIM_DECREMENT && before != SG_TRIM_BIT_AND;
}

/* Whether a mention without an object means the member: in a function of the struct, or of one upon
 * it, that has no variable of the name. */
static belonging bare_mention(const members *m, const member *of, int token) {
    int around = struct_around(m, token, false);
    if (around < 0 || !derives(m, spelling_of(m, around), of->type))
        return OTHERS;
    if (struct_around(m, token, true) >= 0)
        return OTHERS; /* a declaration */
    for (int i = m->unit->first[of->name]; i >= 0; i = m->unit->tokens[i].next)
        if (!is_of_object(m, i) && i != of->declaration && struct_around(m, i, false) == around &&
            (sg_trim_is_type(&m->facts, i - 1) || is(m, i - 1, SG_TRIM_BIT_AND) ||
             is(m, i - 1, SG_TRIM_TIMES)))
            return UNCLEAR;
    return OURS;
}

/* Whether a mention of the name is the member; at an assignment *first is its first token. */
static belonging mention(const members *m, const member *of, int token, int *first,
                         sg_trim_node **value) {
    *first = -1;
    if (!is_of_object(m, token))
        return bare_mention(m, of, token);
    belonging owner = owner_of(m, token, of->type);
    if (owner == OURS)
        *first = assignment_at(m, token, value);
    return owner;
}

/* The text that stands for a number everywhere; NULL where it could not. */
static const char *text_of(const members *m, const member *of, const sg_trim_node *value) {
    const sg_trim_unit *unit = m->unit;
    bool known = value->value.type == SG_TRIM_WHOLE || value->value.type == SG_TRIM_TRUTH;
    bool small = value->value.number == 0 || value->value.number == 1;
    if (!known || !(of->whole || (of->wide && small)))
        return NULL;
    if (value->behind == value->first + 1) {
        const sg_trim_token *token = &unit->tokens[value->first];
        return sg_arena_text(unit->arena, unit->text + token->start,
                             (size_t)(token->end - token->start));
    }
    char number[32];
    int length = snprintf(number, sizeof number, value->value.number < 0 ? "(%lld)" : "%lld",
                          (long long)value->value.number);
    return sg_arena_text(unit->arena, number, (size_t)length);
}

/* Counts what is done with a member; false where something is none that we know. */
static bool examine(const members *m, member *of) {
    for (int i = m->unit->first[of->name]; i >= 0; i = m->unit->tokens[i].next) {
        sg_trim_node *value = NULL;
        int first;
        belonging whose = mention(m, of, i, &first, &value);
        if (whose == UNCLEAR)
            return false;
        if (whose == OTHERS)
            continue;
        if (first >= 0) {
            of->text = of->assignments++ ? NULL : text_of(m, of, value);
            continue;
        }
        int object = i;
        while (is_of_object(m, object))
            object -= 2;
        if (!sg_trim_is_word(m->unit, object) || !is_only_read(m, i) ||
            is(m, object - 1, SG_TRIM_BIT_AND) || is_lent(m, object, i + 1) ||
            (is(m, object - 1, SG_TRIM_ASSIGN) && is(m, object - 3, SG_TRIM_BIT_AND)))
            return false;
        of->reads++;
    }
    return true;
}

/* The bytes of a mention: a whole assignment, or the member with its object. False: it is not ours.
 */
static bool extent_of(const members *m, const member *of, int token, int *start, int *end,
                      bool *assigns) {
    sg_trim_node *value = NULL;
    int first, object = token;
    if (mention(m, of, token, &first, &value) != OURS)
        return false;
    while (is_of_object(m, object))
        object -= 2;
    *assigns = first >= 0;
    *start = first >= 0 ? first : object;
    *end = first >= 0 ? value->behind + 1 : token + 1;
    return true;
}

/* Whether no noted edit touches what would change. */
static bool is_free(const members *m, const member *of) {
    const sg_trim_unit *unit = m->unit;
    int first, behind;
    bool assigns;
    for (int i = unit->first[of->name]; i >= 0; i = unit->tokens[i].next) {
        if (!extent_of(m, of, i, &first, &behind, &assigns))
            continue;
        int start = unit->tokens[first].start, end = unit->tokens[behind - 1].end;
        for (int k = 0; k < unit->edit_count; k++)
            if (unit->edits[k].start < end && unit->edits[k].end > start)
                return false;
    }
    return true;
}

/* Every assignment goes, and the number stands where the member was read. */
static void replace(members *m, const member *of) {
    sg_trim_unit *unit = m->unit;
    int first, behind;
    bool assigns;
    for (int i = unit->first[of->name]; i >= 0; i = unit->tokens[i].next) {
        if (!extent_of(m, of, i, &first, &behind, &assigns))
            continue;
        if (assigns) {
            sg_trim_erase(unit, first, behind);
            continue;
        }
        char text[64];
        int length = snprintf(text, sizeof text, SG_TRIM_CHANGED "%s", of->text);
        sg_trim_replace(unit, unit->tokens[first].start, unit->tokens[behind - 1].end,
                        sg_arena_text(unit->arena, text, (size_t)length));
    }
}

void sg_trim_members(sg_trim_unit *unit) {
    members m = {.unit = unit, .block = sg_trim_blocks(unit)};
    if (!m.block || !sg_trim_learn(&m.facts, unit))
        return;
    for (int i = 1; i < unit->token_count; i++) {
        if (!is_data_member(&m, i))
            continue;
        int type = spelling_of(&m, struct_around(&m, i, true)), before = i - 1;
        while (before > 0 && (sg_trim_is_word(unit, before) || is(&m, before, SG_TRIM_COMMA)) &&
               !sg_trim_is_type(&m.facts, before))
            before--;
        member of = {.name = spelling_of(&m, i),
                     .type = type,
                     .declaration = i,
                     .whole = is(&m, before, SG_TRIM_INT) || is(&m, before, SG_TRIM_BOOL),
                     .wide = is(&m, before, SG_TRIM_LONG)};
        if (!examine(&m, &of) || of.assignments == 0)
            continue;
        bool unread = of.reads == 0;
        bool constant = of.assignments == 1 && of.text && !is_listed(&m, type);
        if ((unread || constant) && is_free(&m, &of))
            replace(&m, &of);
    }
}
