/* What the entry does not reach goes.
 *
 * Declarations are reached by name: whatever a reached one mentions is reached, all overloads and
 * members of that name. Of overloads only those whose parameters have types that occur: a struct,
 * or `double`, that nothing else mentions has no values. Data members stay where the struct is made
 * from a list in braces, and those of Arguments always: launches count its words. */
#include <string.h>

#include "gen/cuda/trim_text.h"

typedef enum item_kind {
    ITEM_FUNCTION,
    ITEM_STRUCT,
    ITEM_NAMESPACE,
    ITEM_VALUE, /* a constant, a variable, a data member */
    ITEM_TYPE   /* using */
} item_kind;

typedef struct item {
    item_kind kind;
    int first, behind; /* tokens */
    int name;          /* its spelling; -1: none, it lives with what it stands in */
    int parent;        /* the struct or namespace it stands in, -1: none */
    int open;          /* ( of the parameters, { of the members; else -1 */
    int from, to;      /* of one declarator among several: tokens that go with it; else 0 */
    bool row;          /* data members, of which any may be named */
    bool overload, root, live;
} item;

typedef struct reach {
    sg_trim_unit *unit;
    item *items;
    int count, capacity;
    bool *named;  /* by spelling: a live declaration mentions it */
    bool *member; /* by spelling: one mentions it as a member, or within a struct */
    bool *called; /* by spelling: with a ( or a < behind it */
    bool *gates;  /* by spelling: a type that overloads are told apart by */
    bool *listed; /* by spelling: a struct made from a list in braces */
    bool failed;
} reach;

static bool is(const reach *r, int token, int spelling) {
    return sg_trim_is(r->unit, token, spelling);
}

static int add_item(reach *r, item new) {
    if (r->count == r->capacity) {
        int larger = r->capacity ? 2 * r->capacity : 512;
        item *items = SG_ARENA_NEW(r->unit->arena, item, larger);
        if (!items) {
            r->failed = true;
            return -1;
        }
        if (r->count)
            memcpy(items, r->items, sizeof *items * (size_t)r->count);
        r->items = items;
        r->capacity = larger;
    }
    r->items[r->count] = new;
    return r->count++;
}

/* The words of a macro, a pragma. */
static void name_directive(reach *r, const sg_trim_token *token) {
    for (int at = token->start, word; sg_trim_next_word(r->unit, token, &at, &word);)
        if (word >= 0)
            r->named[word] = true;
}

/* ---- finding them -------------------------------------------------------------------------- */

static bool is_attribute(const reach *r, int token) {
    int spelling = r->unit->tokens[token].spelling;
    return spelling == SG_TRIM_LAUNCH_BOUNDS || spelling == SG_TRIM_ALIGN ||
           spelling == SG_TRIM_ALIGNAS;
}

/* A row of declarators, "T A = x, B = y;": an item each. equals: the first's =. */
static void add_values(reach *r, int first, int equals, int behind, int parent) {
    const sg_trim_token *tokens = r->unit->tokens;
    int row = r->count, start = equals - 1;
    for (int i = equals; i < behind; i++) {
        if (tokens[i].pair > i)
            i = tokens[i].pair;
        bool next = is(r, i, SG_TRIM_COMMA) && sg_trim_is_word(r->unit, i + 1) &&
                    is(r, i + 2, SG_TRIM_ASSIGN);
        if (!next && !is(r, i, SG_TRIM_SEMICOLON))
            continue;
        /* The first goes with the comma after it, the others with the one before. */
        add_item(r, (item){.kind = ITEM_VALUE,
                           .first = first,
                           .behind = behind,
                           .name = tokens[start].spelling,
                           .parent = parent,
                           .open = -1,
                           .from = start,
                           .to = i});
        start = i + 1;
    }
    if (r->count == row + 1)
        r->items[row].from = r->items[row].to = 0;
}

static int add_items(reach *r, int first, int behind, int parent);

/* One declaration; behind it, or -1 where it is none that we know. */
static int add_declaration(reach *r, int first, int limit, int parent) {
    sg_trim_unit *unit = r->unit;
    const sg_trim_token *tokens = unit->tokens;
    item new = {.first = first, .parent = parent, .name = -1, .open = -1, .kind = ITEM_VALUE};
    int i = first;
    if (tokens[i].kind == SG_TRIM_DIRECTIVE) {
        name_directive(r, &tokens[i]); /* a macro: it stays */
        return i + 1;
    }
    if (is(r, i, SG_TRIM_TEMPLATE)) {
        i = sg_trim_behind_template(unit, i + 1);
        if (i < 0)
            return -1;
    }
    if (is(r, i, SG_TRIM_USING)) {
        new.kind = ITEM_TYPE;
        new.name = tokens[i + 1].spelling;
        new.behind = sg_trim_behind_statement(unit, i);
        add_item(r, new);
        return new.behind;
    }
    if (is(r, i, SG_TRIM_NAMESPACE) || (is(r, i, SG_TRIM_STRUCT) && sg_trim_is_word(unit, i + 1))) {
        bool space = is(r, i, SG_TRIM_NAMESPACE);
        int open = i;
        while (open < limit && !is(r, open, SG_TRIM_OPEN_BLOCK) &&
               !is(r, open, SG_TRIM_SEMICOLON) && !is(r, open, SG_TRIM_OPEN))
            open++;
        if (open >= limit || is(r, open, SG_TRIM_OPEN))
            return -1;
        new.kind = space ? ITEM_NAMESPACE : ITEM_STRUCT;
        new.name = space ? -1 : tokens[i + 1].spelling;
        if (is(r, open, SG_TRIM_SEMICOLON)) {
            new.behind = open + 1;
            add_item(r, new);
            return new.behind;
        }
        new.open = open;
        new.behind = sg_trim_behind(unit, open) + !space;
        if (!space && !is(r, new.behind - 1, SG_TRIM_SEMICOLON))
            return -1;
        int self = add_item(r, new);
        return add_items(r, open + 1, tokens[open].pair, self) < 0 ? -1 : new.behind;
    }
    for (; i < limit; i++) {
        if (tokens[i].spelling == SG_TRIM_GLOBAL)
            new.root = true;
        if (is(r, i, SG_TRIM_OPEN) && i > first && is_attribute(r, i - 1)) {
            i = tokens[i].pair;
        } else if (is(r, i, SG_TRIM_OPEN)) {
            if (!sg_trim_is_word(unit, i - 1))
                return -1;
            new.kind = ITEM_FUNCTION;
            new.name = tokens[i - 1].spelling;
            new.open = i;
            for (int k = first; k < i; k++)
                if (is(r, k, SG_TRIM_OPERATOR))
                    new.name = -1;
            int body = tokens[i].pair + 1;
            while (body < limit && !is(r, body, SG_TRIM_OPEN_BLOCK) &&
                   !is(r, body, SG_TRIM_SEMICOLON))
                body++;
            if (body >= limit)
                return -1;
            new.behind = is(r, body, SG_TRIM_SEMICOLON) ? body + 1 : sg_trim_behind(unit, body);
            if (parent >= 0 && new.name == r->items[parent].name)
                new.name = -1; /* a constructor */
            add_item(r, new);
            return new.behind;
        } else if (is(r, i, SG_TRIM_ASSIGN) || is(r, i, SG_TRIM_SEMICOLON) ||
                   is(r, i, SG_TRIM_OPEN_INDEX) || is(r, i, SG_TRIM_COMMA)) {
            if (!sg_trim_is_word(unit, i - 1))
                return -1;
            new.name = tokens[i - 1].spelling;
            new.behind = sg_trim_behind_statement(unit, first);
            if (new.behind < 0)
                return -1;
            bool row = false; /* of data members, which may be named anywhere in it */
            if (is(r, i, SG_TRIM_ASSIGN)) {
                add_values(r, first, i, new.behind, parent);
                return new.behind;
            }
            for (int k = i; k < new.behind; k++) {
                k = tokens[k].pair > k ? tokens[k].pair : k;
                row |= is(r, k, SG_TRIM_COMMA);
            }
            if (row)
                new.name = -1;
            new.row = row;
            add_item(r, new);
            return new.behind;
        } else if (is(r, i, SG_TRIM_OPEN_BLOCK) || is(r, i, SG_TRIM_CLOSE_BLOCK)) {
            return -1;
        }
    }
    return -1;
}

/* All declarations of a stretch; behind it, or -1. */
static int add_items(reach *r, int first, int behind, int parent) {
    for (int i = first; i < behind;) {
        if (is(r, i, SG_TRIM_SEMICOLON)) {
            i++;
            continue;
        }
        int next = add_declaration(r, i, behind, parent);
        if (next <= i || next > behind || r->failed)
            return -1;
        i = next;
    }
    return behind;
}

static void mark_overloads(reach *r) {
    for (int i = 0; i < r->count; i++) {
        const item *a = &r->items[i];
        if (a->kind == ITEM_STRUCT)
            r->gates[a->name] = true;
    }
    static const int types[] = {SG_TRIM_DOUBLE, SG_TRIM_HALF_T, SG_TRIM_BFLOAT_T, SG_TRIM_BOOL_T};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        r->gates[types[i]] = true;
    int *counts = SG_ARENA_NEW(r->unit->arena, int, r->unit->spelling_count);
    if (!counts) {
        r->failed = true;
        return;
    }
    for (int i = 0; i < r->count; i++)
        if (r->items[i].kind == ITEM_FUNCTION && r->items[i].name >= 0)
            counts[r->items[i].name]++;
    for (int i = 0; i < r->count; i++) {
        item *a = &r->items[i];
        a->overload = a->kind == ITEM_FUNCTION && a->name >= 0 && counts[a->name] > 1;
    }
}

/* The struct that a variable or a member of that name is; all structs where there is none. */
static void mark_listed(reach *r, int name) {
    bool any = false;
    for (int i = name < 0 ? -1 : r->unit->first[name]; i >= 0; i = r->unit->tokens[i].next) {
        if (sg_trim_is_word(r->unit, i - 1)) {
            r->listed[r->unit->tokens[i - 1].spelling] = true;
            any = true;
        }
    }
    for (int i = 0; !any && i < r->count; i++)
        if (r->items[i].kind == ITEM_STRUCT)
            r->listed[r->items[i].name] = true;
}

/* Structs made from lists in braces: "S {", "x = {", and where nothing tells of what, all. */
static void mark_lists(reach *r) {
    const sg_trim_unit *unit = r->unit;
    for (int i = 1; i < unit->token_count; i++) {
        if (!is(r, i, SG_TRIM_OPEN_BLOCK) || unit->tokens[i].pair == i + 1)
            continue;
        if (is(r, i - 1, SG_TRIM_ASSIGN) && is(r, i - 2, SG_TRIM_CLOSE_INDEX))
            continue; /* an array of numbers */
        if (is(r, i - 1, SG_TRIM_ASSIGN) && sg_trim_is_word(unit, i - 2))
            mark_listed(r, unit->tokens[i - 2].spelling);
        else if (is(r, i - 1, SG_TRIM_RETURN) || is(r, i - 1, SG_TRIM_OPEN) ||
                 is(r, i - 1, SG_TRIM_COMMA))
            mark_listed(r, -1);
        else if (sg_trim_is_word(unit, i - 1) && !is(r, i - 2, SG_TRIM_STRUCT) &&
                 !(is(r, i - 2, SG_TRIM_COLON) && is(r, i - 4, SG_TRIM_STRUCT)))
            r->listed[unit->tokens[i - 1].spelling] = true;
    }
}

/* ---- reaching them ------------------------------------------------------------------------- */

/* A literal that is a double, and not at once made a `real`. */
static bool is_double(const sg_trim_unit *unit, int token) {
    const sg_trim_token *t = &unit->tokens[token];
    int before = token - 1 - sg_trim_is(unit, token - 1, SG_TRIM_MINUS);
    if (t->kind != SG_TRIM_NUMBER ||
        (sg_trim_is(unit, before, SG_TRIM_OPEN) && sg_trim_is(unit, before - 1, SG_TRIM_REAL)))
        return false;
    char last = unit->text[t->end - 1];
    bool fraction = false;
    for (int i = t->start; i < t->end; i++)
        fraction |= unit->text[i] == '.' || unit->text[i] == 'p';
    return fraction && last != 'f' && last != 'F';
}

/* Everything that tokens first .. behind - 1 mention. within: they stand in a struct. */
static void name_all(reach *r, int first, int behind, bool within) {
    const sg_trim_unit *unit = r->unit;
    for (int i = first; i < behind; i++) {
        if (sg_trim_is_word(unit, i)) {
            r->named[unit->tokens[i].spelling] = true;
            r->member[unit->tokens[i].spelling] |=
                within || is(r, i - 1, SG_TRIM_DOT) || is(r, i - 1, SG_TRIM_ARROW);
            int behind = is(r, i + 1, SG_TRIM_LESS) ? sg_trim_behind_template(unit, i + 1) : i + 1;
            r->called[unit->tokens[i].spelling] |= is(r, behind, SG_TRIM_OPEN);
        } else if (unit->tokens[i].kind == SG_TRIM_DIRECTIVE)
            name_directive(r, &unit->tokens[i]);
        else if (is_double(unit, i))
            r->named[SG_TRIM_DOUBLE] = true;
    }
}

/* A template for any T *, where T could only be float, beside the same for float *. */
static bool is_superseded(const reach *r, const item *a) {
    static const int others[] = {SG_TRIM_DOUBLE, SG_TRIM_HALF_T, SG_TRIM_BFLOAT_T, SG_TRIM_BOOL_T};
    const sg_trim_token *tokens = r->unit->tokens;
    int close = tokens[a->open].pair, any = 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (r->named[others[i]])
            return false;
    for (int i = a->first; i < a->open; i++)
        if (is(r, i, SG_TRIM_CLASS))
            any = tokens[i + 1].spelling;
    int at = a->open + 1 + is(r, a->open + 1, SG_TRIM_CONST);
    if (!any || !is(r, at, any) || !is(r, at + 1, SG_TRIM_TIMES))
        return false;
    for (int i = 0; i < r->count; i++) {
        const item *b = &r->items[i];
        if (b->kind != ITEM_FUNCTION || b->name != a->name || b->parent != a->parent || b == a ||
            !is(r, b->open + 1 + (at - a->open - 1), SG_TRIM_FLOAT))
            continue;
        int commas = 0;
        for (int k = a->open; k < close; k++)
            commas += is(r, k, SG_TRIM_COMMA);
        for (int k = b->open; k < tokens[b->open].pair; k++)
            commas -= is(r, k, SG_TRIM_COMMA);
        if (commas == 0)
            return true;
    }
    return false;
}

/* A member of a base that the struct upon it has another of: none but the base itself calls it. */
static bool is_hidden(const reach *r, const item *a) {
    if (a->kind != ITEM_FUNCTION || a->parent < 0 || r->items[a->parent].kind != ITEM_STRUCT)
        return false;
    const item *base = &r->items[a->parent];
    bool hidden = false;
    for (int i = 0; i < r->count; i++) {
        const item *b = &r->items[i];
        bool derived = b->kind == ITEM_FUNCTION && b->name == a->name && b->parent >= 0 &&
                       is(r, r->items[b->parent].first + 2, SG_TRIM_COLON) &&
                       is(r, r->items[b->parent].first + 3, base->name);
        hidden |= derived;
    }
    const sg_trim_token *tokens = r->unit->tokens;
    for (int i = r->unit->first[base->name]; i >= 0 && hidden; i = tokens[i].next)
        if (i != base->first + 1 && !is(r, i + 1, SG_TRIM_SCOPE) && !is(r, i - 1, SG_TRIM_COLON))
            return false; /* an object that is nothing but the base */
    for (int i = r->unit->first[a->name]; i >= 0 && hidden; i = tokens[i].next) {
        bool own = i > base->open && i < base->behind && !is(r, i - 1, SG_TRIM_DOT);
        for (int k = 0; k < r->count && own; k++)
            own = r->items[k].open != i + 1 || r->items[k].kind != ITEM_FUNCTION;
        if (own || is(r, i - 1, SG_TRIM_SCOPE))
            return false;
    }
    return hidden;
}

/* Whether one of a row of data members is named. */
static bool any_is_member(const reach *r, const item *a) {
    for (int i = a->first; i < a->behind; i++) {
        bool declared = is(r, i + 1, SG_TRIM_COMMA) || is(r, i + 1, SG_TRIM_SEMICOLON) ||
                        is(r, i + 1, SG_TRIM_OPEN_INDEX);
        if (sg_trim_is_word(r->unit, i) && declared && r->member[r->unit->tokens[i].spelling])
            return true;
    }
    return false;
}

static bool may_live(const reach *r, const item *a) {
    if (a->parent >= 0 && !r->items[a->parent].live && r->items[a->parent].kind != ITEM_NAMESPACE)
        return false;
    if (a->root)
        return true;
    if (a->kind == ITEM_NAMESPACE)
        return false; /* as soon as something in it does */
    bool data = a->kind == ITEM_VALUE && a->parent >= 0 &&
                r->items[a->parent].kind == ITEM_STRUCT && !is(r, a->first, SG_TRIM_STATIC);
    if (data) {
        const sg_trim_token *name = &r->unit->tokens[r->items[a->parent].first + 1];
        if (r->listed[name->spelling] || (name->end - name->start == 9 &&
                                          memcmp(r->unit->text + name->start, "Arguments", 9) == 0))
            return true;
        return a->row ? any_is_member(r, a) : a->name < 0 || r->member[a->name];
    }
    if (a->name >= 0 && !(a->kind == ITEM_FUNCTION ? r->called : r->named)[a->name])
        return false;
    if (a->overload && (is_superseded(r, a) || is_hidden(r, a)))
        return false;
    if (a->overload)
        for (int i = a->open; i < r->unit->tokens[a->open].pair; i++) {
            int spelling = r->unit->tokens[i].spelling;
            if (r->gates[spelling] && !r->named[spelling])
                return false;
        }
    return true;
}

static void enliven(reach *r, int number) {
    item *a = &r->items[number];
    bool within = a->parent >= 0 && r->items[a->parent].kind == ITEM_STRUCT &&
                  (a->kind == ITEM_FUNCTION || a->name < 0) && !a->row;
    a->live = true;
    if (a->kind == ITEM_STRUCT && a->open >= 0) {
        name_all(r, a->first, a->open, false);
    } else if (a->to) {
        int row = number; /* the first of the row: the type stands before it */
        while (row > 0 && r->items[row - 1].to && r->items[row - 1].first == a->first)
            row--;
        name_all(r, a->first, r->items[row].from, within);
        name_all(r, a->from, a->to, within);
    } else {
        name_all(r, a->first, a->behind, within);
    }
    for (int p = a->parent; p >= 0; p = r->items[p].parent)
        r->items[p].live = true;
}

static void spread_life(reach *r) {
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = 0; i < r->count; i++) {
            if (!r->items[i].live && may_live(r, &r->items[i])) {
                enliven(r, i);
                changed = true;
            }
        }
    }
}

/* ---- the edits ----------------------------------------------------------------------------- */

static void erase_declarators(reach *r, int row) {
    int behind = row;
    bool any = false;
    while (behind < r->count && r->items[behind].to &&
           r->items[behind].first == r->items[row].first)
        any |= r->items[behind++].live;
    if (!any) {
        sg_trim_erase(r->unit, r->items[row].first, r->items[row].behind);
        return;
    }
    const sg_trim_token *tokens = r->unit->tokens;
    bool before = false; /* one that stays stands before */
    for (int i = row; i < behind; i++) {
        const item *a = &r->items[i];
        if (a->live) {
            before = true;
        } else if (before) {
            sg_trim_replace(r->unit, tokens[a->from - 1].start, tokens[a->to].start,
                            SG_TRIM_CHANGED);
        } else {
            sg_trim_replace(r->unit, tokens[a->from].start, tokens[a->to + 1].start,
                            SG_TRIM_CHANGED);
        }
    }
}

static void erase_dead(reach *r) {
    for (int i = 0; i < r->count; i++) {
        const item *a = &r->items[i];
        bool within = a->parent >= 0 && !r->items[a->parent].live;
        bool again = i > 0 && a->to && r->items[i - 1].to && r->items[i - 1].first == a->first;
        if (within || again)
            continue;
        if (a->to)
            erase_declarators(r, i);
        else if (!a->live)
            sg_trim_erase(r->unit, a->first, a->behind);
    }
}

void sg_trim_reach(sg_trim_unit *unit) {
    reach r = {.unit = unit};
    int count = unit->spelling_count;
    r.named = SG_ARENA_NEW(unit->arena, bool, count);
    r.member = SG_ARENA_NEW(unit->arena, bool, count);
    r.called = SG_ARENA_NEW(unit->arena, bool, count);
    r.gates = SG_ARENA_NEW(unit->arena, bool, count);
    r.listed = SG_ARENA_NEW(unit->arena, bool, count);
    if (!r.named || !r.member || !r.called || !r.gates || !r.listed ||
        add_items(&r, 0, unit->token_count, -1) < 0)
        return;
    mark_overloads(&r);
    mark_lists(&r);
    if (r.failed)
        return;
    spread_life(&r);
    bool root = false;
    for (int i = 0; i < r.count; i++)
        root |= r.items[i].root;
    if (root)
        erase_dead(&r);
}
