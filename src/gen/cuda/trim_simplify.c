/* What constants make of an expression: the branch taken, the operand that is left. */
#include <string.h>

#include "base/text.h"
#include "gen/cuda/trim_expression.h"

static sg_trim_node *resolve(sg_trim_node *node) {
    while (node->instead)
        node = node->instead;
    return node;
}

/* Whether a node has no values but true and false. */
static bool is_truth(const sg_trim_facts *facts, sg_trim_node *node) {
    node = resolve(node);
    switch (node->kind) {
    case SG_TRIM_PARENS:
        return is_truth(facts, node->child[0]);
    case SG_TRIM_UNARY:
        return node->mark == SG_TRIM_NOT;
    case SG_TRIM_BINARY:
        return (node->mark >= SG_TRIM_LESS && node->mark <= SG_TRIM_OR);
    case SG_TRIM_CHOICE:
        return is_truth(facts, node->child[1]) && is_truth(facts, node->child[2]);
    case SG_TRIM_LEAF:
    case SG_TRIM_MEMBER:
    case SG_TRIM_CALL:
        return node->value.type == SG_TRIM_TRUTH || (node->mark >= 0 && facts->truths[node->mark]);
    default:
        return false;
    }
}

/* Whether a node is that number, and not by the name of a struct's constant. */
static bool is_whole(const sg_trim_facts *facts, const sg_trim_node *node, int64_t number) {
    return node->value.type == SG_TRIM_WHOLE && node->value.number == number &&
           !sg_trim_names_kept(facts, node->first, node->behind);
}

/* The operand that an operation with a constant leaves as it is; NULL where it does something. */
static sg_trim_node *neutral(const sg_trim_facts *facts, const sg_trim_node *node) {
    sg_trim_node *a = node->child[0], *b = node->child[1];
    switch (node->mark) {
    case SG_TRIM_PLUS:
    case SG_TRIM_BIT_OR:
    case SG_TRIM_BIT_XOR:
        return is_whole(facts, b, 0) ? a : is_whole(facts, a, 0) ? b : NULL;
    case SG_TRIM_MINUS:
    case SG_TRIM_SHIFT_LEFT:
    case SG_TRIM_SHIFT_RIGHT:
        return is_whole(facts, b, 0) ? a : NULL;
    case SG_TRIM_TIMES:
        return is_whole(facts, b, 1) ? a : is_whole(facts, a, 1) ? b : NULL;
    case SG_TRIM_DIVIDE:
        return is_whole(facts, b, 1) ? a : NULL;
    default:
        return NULL;
    }
}

static void simplify_logical(const sg_trim_facts *facts, sg_trim_node *node, bool truth) {
    sg_trim_node *a = node->child[0], *b = node->child[1];
    bool decides = node->mark == SG_TRIM_OR;
    if (node->value.type)
        return;
    /* One of them is known, and does not decide. */
    sg_trim_node *left = a->value.type && (a->value.number != 0) != decides   ? b
                         : b->value.type && (b->value.number != 0) != decides ? a
                                                                              : NULL;
    if (left && (truth || is_truth(facts, left)))
        node->instead = left;
}

/* Whether the value is to stand for a node that is known: not where it is made of names. */
static bool becomes_literal(const sg_trim_node *node) {
    bool known = node->value.type == SG_TRIM_TRUTH || node->value.type == SG_TRIM_WHOLE;
    if (!known || !node->pure || node->kind == SG_TRIM_LEAF || node->kind == SG_TRIM_PARENS)
        return false;
    if (!node->named)
        return node->value.type == SG_TRIM_TRUTH || node->value.number == 0;
    bool truth = node->value.type == SG_TRIM_TRUTH && node->plain;
    bool nothing =
        node->kind == SG_TRIM_BINARY && node->value.type == SG_TRIM_WHOLE &&
        node->value.number == 0 &&
        (node->mark == SG_TRIM_TIMES || node->mark == SG_TRIM_DIVIDE ||
         node->mark == SG_TRIM_REMAINDER || (node->mark == SG_TRIM_MINUS && node->plain));
    return truth || nothing;
}

static bool simplify_children(const sg_trim_facts *facts, sg_trim_node *node, bool truth) {
    bool logical =
        node->kind == SG_TRIM_BINARY && (node->mark == SG_TRIM_AND || node->mark == SG_TRIM_OR);
    bool changed = false;
    for (int i = 0; i < 3; i++) {
        bool asked = logical || (node->kind == SG_TRIM_UNARY && node->mark == SG_TRIM_NOT) ||
                     (node->kind == SG_TRIM_CHOICE && i == 0) ||
                     (truth && (node->kind == SG_TRIM_PARENS || node->kind == SG_TRIM_CHOICE));
        for (sg_trim_node *child = node->child[i]; child; child = child->next)
            changed |= sg_trim_simplify(facts, child, asked);
    }
    return changed;
}

/* Whether two nodes are the same text. */
static bool are_alike(const sg_trim_facts *facts, const sg_trim_node *a, const sg_trim_node *b) {
    const sg_trim_token *tokens = facts->unit->tokens;
    bool alike = a->behind - a->first == b->behind - b->first && !a->changed && !b->changed;
    for (int i = 0; alike && a->first + i < a->behind; i++)
        alike = tokens[a->first + i].spelling == tokens[b->first + i].spelling;
    return alike;
}

bool sg_trim_simplify(const sg_trim_facts *facts, sg_trim_node *node, bool truth) {
    if (becomes_literal(node)) {
        node->literal = node->changed = true;
        return true;
    }
    node->changed = simplify_children(facts, node, truth);
    if (node->kind == SG_TRIM_CHOICE && node->child[0]->value.type) {
        node->instead = node->child[node->child[0]->value.number ? 1 : 2];
    } else if (node->kind == SG_TRIM_CHOICE && node->child[0]->pure &&
               are_alike(facts, node->child[1], node->child[2])) {
        node->instead = node->child[1];
    } else if (node->kind == SG_TRIM_BINARY) {
        if (node->mark == SG_TRIM_AND || node->mark == SG_TRIM_OR)
            simplify_logical(facts, node, truth);
        else
            node->instead = neutral(facts, node);
    }
    node->changed |= node->instead != NULL;
    return node->changed;
}

/* ---- printing ------------------------------------------------------------------------------ */

enum { TIGHTEST = 14, UNARY = 13, CHOICE = 2 };

static int precedence_of(const sg_trim_node *node) {
    switch (node->kind) {
    case SG_TRIM_BINARY:
        return sg_trim_precedence(node->mark);
    case SG_TRIM_CHOICE:
        return CHOICE;
    case SG_TRIM_UNARY:
    case SG_TRIM_CONVERT:
        return UNARY;
    default:
        return TIGHTEST;
    }
}

static void copy(const sg_trim_unit *unit, int start, int end, sg_text *out) {
    if (end > start)
        sg_text_add(out, "%.*s", end - start, unit->text + start);
}

/* The least precedence that child number i may have without parentheses. Those around operands of
 * shifts and bits stay: without them readers would have to think. */
static int least_of(const sg_trim_node *node, int i) {
    int own = precedence_of(node);
    if (node->kind == SG_TRIM_BINARY)
        return own >= 5 && own <= 10 && own != 9 && own != 8 ? TIGHTEST - 1
                                                             : own + (i == 1 && own > 1);
    if (node->kind == SG_TRIM_CHOICE)
        return i == 0 ? CHOICE + 1 : 1;
    if (node->kind == SG_TRIM_UNARY)
        return UNARY;
    if (node->kind == SG_TRIM_CONVERT && !node->child[1])
        return UNARY;
    return i == 0 && node->kind != SG_TRIM_PARENS ? TIGHTEST : 1;
}

static void print(const sg_trim_facts *facts, sg_trim_node *node, int least, sg_text *out) {
    const sg_trim_unit *unit = facts->unit;
    bool moved = node->instead != NULL;
    node = resolve(node);
    if (node->literal) {
        if (node->value.type == SG_TRIM_TRUTH)
            sg_text_add(out, node->value.number ? "true" : "false");
        else
            sg_text_add(out, node->value.number < 0 ? "(%d)" : "%d", (int)node->value.number);
        return;
    }
    int end = unit->tokens[node->behind - 1].end;
    if (node->kind == SG_TRIM_PARENS && (moved || node->changed)) {
        sg_trim_node *inner = resolve(node->child[0]);
        if (inner->literal || precedence_of(inner) >= least) {
            print(facts, inner, least, out);
            return;
        }
    }
    if (!node->changed) {
        copy(unit, unit->tokens[node->first].start, end, out);
        return;
    }
    int at = unit->tokens[node->first].start;
    for (int i = 0; i < 3; i++) {
        for (sg_trim_node *child = node->child[i]; child; child = child->next) {
            copy(unit, at, unit->tokens[child->first].start, out);
            print(facts, child, least_of(node, i), out);
            at = unit->tokens[child->behind - 1].end;
        }
    }
    copy(unit, at, end, out);
}

const char *sg_trim_print(const sg_trim_facts *facts, sg_trim_node *node) {
    sg_text out = {0};
    sg_text_add(&out, "%s", SG_TRIM_CHANGED);
    /* Behind a ) it may be the operand of a conversion to a type that we do not know. */
    bool operand = sg_trim_is(facts->unit, node->first - 1, SG_TRIM_CLOSE);
    print(facts, node, operand ? TIGHTEST : 1, &out);
    const char *text = out.failed ? NULL : sg_arena_text(facts->unit->arena, out.data, out.length);
    sg_text_release(&out);
    return text;
}
