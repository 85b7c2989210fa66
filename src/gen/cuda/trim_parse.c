#include <stdlib.h>
#include <string.h>

#include "gen/cuda/trim_expression.h"

static bool is(const sg_trim_facts *facts, int token, int spelling) {
    return sg_trim_is(facts->unit, token, spelling);
}

static int spelling_of(const sg_trim_facts *facts, int token) {
    return facts->unit->tokens[token].spelling;
}

/* ---- values -------------------------------------------------------------------------------- */

static const sg_trim_value unknown = {SG_TRIM_UNKNOWN, 0};

static sg_trim_value truth_of(bool yes) {
    return (sg_trim_value){SG_TRIM_TRUTH, yes};
}

static sg_trim_value literal(const sg_trim_unit *unit, int token) {
    const sg_trim_token *t = &unit->tokens[token];
    char digits[24], *end;
    size_t length = (size_t)(t->end - t->start);
    if (length >= sizeof digits)
        return unknown;
    memcpy(digits, unit->text + t->start, length);
    digits[length] = 0;
    long long number = strtoll(digits, &end, 0);
    if (*end || number != (int32_t)number)
        return unknown; /* a fraction, or a suffix */
    return (sg_trim_value){SG_TRIM_WHOLE, number};
}

static sg_trim_value unary_value(int mark, sg_trim_value a) {
    if (!a.type)
        return unknown;
    if (mark == SG_TRIM_NOT)
        return truth_of(!a.number);
    if (a.type == SG_TRIM_SIZE || a.number == INT32_MIN)
        return unknown;
    if (mark == SG_TRIM_MINUS)
        return (sg_trim_value){SG_TRIM_WHOLE, -a.number};
    return unknown;
}

static sg_trim_value arithmetic(int mark, int64_t a, int64_t b) {
    sg_trim_value result = {SG_TRIM_WHOLE, 0};
    bool shift = mark == SG_TRIM_SHIFT_LEFT || mark == SG_TRIM_SHIFT_RIGHT;
    if (((mark == SG_TRIM_DIVIDE || mark == SG_TRIM_REMAINDER) && b == 0) ||
        (shift && (a < 0 || b < 0 || b > 30)))
        return unknown;
    switch (mark) {
    case SG_TRIM_PLUS:
        result.number = a + b;
        break;
    case SG_TRIM_MINUS:
        result.number = a - b;
        break;
    case SG_TRIM_TIMES:
        result.number = a * b;
        break;
    case SG_TRIM_DIVIDE:
        result.number = a / b;
        break;
    case SG_TRIM_REMAINDER:
        result.number = a % b;
        break;
    case SG_TRIM_SHIFT_LEFT:
        result.number = a << b;
        break;
    case SG_TRIM_SHIFT_RIGHT:
        result.number = a >> b;
        break;
    case SG_TRIM_BIT_AND:
        result.number = a & b;
        break;
    case SG_TRIM_BIT_OR:
        result.number = a | b;
        break;
    case SG_TRIM_BIT_XOR:
        result.number = a ^ b;
        break;
    case SG_TRIM_LESS:
        return truth_of(a < b);
    case SG_TRIM_GREATER:
        return truth_of(a > b);
    case SG_TRIM_LESS_EQUAL:
        return truth_of(a <= b);
    case SG_TRIM_GREATER_EQUAL:
        return truth_of(a >= b);
    case SG_TRIM_EQUAL:
        return truth_of(a == b);
    case SG_TRIM_UNEQUAL:
        return truth_of(a != b);
    default:
        return unknown;
    }
    return result.number == (int32_t)result.number ? result : unknown;
}

static bool zero(sg_trim_value value) {
    return value.type && value.number == 0;
}

static sg_trim_value binary_value(const sg_trim_node *node) {
    const sg_trim_node *a = node->child[0], *b = node->child[1];
    int mark = node->mark;
    if (mark == SG_TRIM_AND || mark == SG_TRIM_OR) {
        bool decides = mark == SG_TRIM_OR;
        if (a->value.type && (a->value.number != 0) == decides)
            return truth_of(decides);
        if (b->value.type && (b->value.number != 0) == decides && a->pure)
            return truth_of(decides);
        return a->value.type && b->value.type ? truth_of(!decides) : unknown;
    }
    if (!a->value.type || !b->value.type) {
        /* 0 * x and x % 1, whatever x. */
        bool none = (mark == SG_TRIM_TIMES &&
                     ((zero(a->value) && b->pure) || (zero(b->value) && a->pure))) ||
                    (mark == SG_TRIM_REMAINDER && b->value.type == SG_TRIM_WHOLE &&
                     b->value.number == 1 && a->pure) ||
                    ((mark == SG_TRIM_DIVIDE || mark == SG_TRIM_REMAINDER) &&
                     a->value.type == SG_TRIM_WHOLE && zero(a->value) && b->pure);
        return none ? (sg_trim_value){SG_TRIM_WHOLE, 0} : unknown;
    }
    sg_trim_value result = arithmetic(mark, a->value.number, b->value.number);
    bool size = a->value.type == SG_TRIM_SIZE || b->value.type == SG_TRIM_SIZE;
    if (size && (a->value.number < 0 || b->value.number < 0))
        return unknown;
    if (size && result.type == SG_TRIM_WHOLE)
        result.type = result.number < 0 ? SG_TRIM_UNKNOWN : SG_TRIM_SIZE;
    return result;
}

/* ---- parsing ------------------------------------------------------------------------------- */

static sg_trim_node *parse_unary(const sg_trim_facts *facts, int token);

static sg_trim_node *make(const sg_trim_facts *facts, sg_trim_node_kind kind, int first,
                          int behind) {
    sg_trim_node *node = SG_ARENA_NEW(facts->unit->arena, sg_trim_node, 1);
    if (node) {
        node->kind = kind;
        node->first = first;
        node->behind = behind;
        node->mark = -1;
        node->pure = true;
    }
    return node;
}

/* Expressions with commas between them, up to the bracket `close`. */
static bool parse_list(const sg_trim_facts *facts, int token, int close, sg_trim_node *owner) {
    sg_trim_node **link = &owner->child[1];
    while (token < close) {
        bool list = is(facts, token, SG_TRIM_OPEN_BLOCK);
        sg_trim_node *node =
            list ? make(facts, SG_TRIM_LIST, token, sg_trim_behind(facts->unit, token))
                 : sg_trim_parse(facts, token);
        if (!node || (list && !parse_list(facts, token + 1, node->behind - 1, node)) ||
            (node->behind != close && !is(facts, node->behind, SG_TRIM_COMMA)))
            return false;
        owner->pure &= node->pure;
        *link = node;
        link = &node->next;
        token = node->behind + (node->behind != close);
    }
    return true;
}

static sg_trim_node *parse_word(const sg_trim_facts *facts, int token) {
    const sg_trim_unit *unit = facts->unit;
    int last = token;
    while (is(facts, last + 1, SG_TRIM_SCOPE) && sg_trim_is_word(unit, last + 2))
        last += 2;
    int spelling = spelling_of(facts, last), behind = last + 1;
    if (facts->templates[spelling] && is(facts, behind, SG_TRIM_LESS)) {
        behind = sg_trim_behind_template(unit, behind);
        if (behind < 0)
            return NULL;
    }
    sg_trim_node *node = make(facts, SG_TRIM_LEAF, token, behind);
    if (!node)
        return NULL;
    node->mark = spelling;
    if (spelling == SG_TRIM_TRUE || spelling == SG_TRIM_FALSE)
        node->value = truth_of(spelling == SG_TRIM_TRUE);
    else if (!facts->constant_functions[spelling])
        node->value = facts->values[spelling];
    node->named = node->value.type != SG_TRIM_UNKNOWN;
    /* sizeof(type) */
    if (spelling == SG_TRIM_SIZEOF && is(facts, behind, SG_TRIM_OPEN)) {
        node->behind = sg_trim_behind(unit, behind);
        int size = sg_trim_type_size(facts, behind + 1, node->behind - 1);
        node->value = size ? (sg_trim_value){SG_TRIM_SIZE, size} : unknown;
        node->named = size > 0;
        node->mark = -1;
    }
    return node;
}

static sg_trim_node *parse_primary(const sg_trim_facts *facts, int token) {
    const sg_trim_unit *unit = facts->unit;
    sg_trim_node *node;
    if (unit->tokens[token].kind == SG_TRIM_NUMBER || unit->tokens[token].kind == SG_TRIM_STRING) {
        node = make(facts, SG_TRIM_LEAF, token, token + 1);
        if (node && unit->tokens[token].kind == SG_TRIM_NUMBER) {
            node->value = literal(unit, token);
            node->named = node->plain = true;
        }
        return node;
    }
    if (is(facts, token, SG_TRIM_OPEN)) {
        sg_trim_node *inner = sg_trim_parse(facts, token + 1);
        if (!inner || inner->behind != unit->tokens[token].pair)
            return NULL;
        node = make(facts, SG_TRIM_PARENS, token, inner->behind + 1);
        if (node) {
            node->child[0] = inner;
            node->value = inner->value;
            node->pure = inner->pure;
            node->named = inner->named;
            node->plain = inner->plain;
        }
        return node;
    }
    return sg_trim_is_word(unit, token) ? parse_word(facts, token) : NULL;
}

static bool is_spelled(const sg_trim_unit *unit, int spelling, const char *text) {
    return spelling >= 0 && unit->spelling_lengths[spelling] == (int)strlen(text) &&
           memcmp(unit->spellings[spelling], text, strlen(text)) == 0;
}

/* What a call, or a conversion written like one, gives. */
static void judge_call(const sg_trim_facts *facts, sg_trim_node *node) {
    const sg_trim_node *name = node->child[0], *argument = node->child[1];
    bool leaf = name->kind == SG_TRIM_LEAF || name->kind == SG_TRIM_MEMBER;
    int spelling = leaf ? name->mark : -1;
    bool cast = spelling >= SG_TRIM_STATIC_CAST && spelling <= SG_TRIM_CONST_CAST;
    bool type = leaf && name->kind == SG_TRIM_LEAF && name->behind == name->first + 1 &&
                sg_trim_is_type(facts, name->first);
    node->mark = spelling;
    if ((type || cast) && argument && !argument->next) {
        bool whole =
            (type && spelling == SG_TRIM_INT) ||
            (cast && is(facts, name->first + 2, SG_TRIM_INT) && name->behind == name->first + 4);
        node->kind = SG_TRIM_CONVERT;
        node->named = argument->named;
        if (whole && argument->value.type)
            node->value = (sg_trim_value){SG_TRIM_WHOLE, argument->value.number};
        return;
    }
    const sg_trim_node *second = argument ? argument->next : NULL;
    bool least = leaf && is_spelled(facts->unit, spelling, "min");
    if (second && !second->next && (least || (leaf && is_spelled(facts->unit, spelling, "max"))) &&
        argument->value.type == SG_TRIM_WHOLE && second->value.type == SG_TRIM_WHOLE) {
        bool first = (argument->value.number < second->value.number) == least;
        node->value = first ? argument->value : second->value;
        node->named = argument->named && second->named;
        return;
    }
    if (spelling >= 0 && facts->constant_functions[spelling] && node->pure &&
        (name->kind == SG_TRIM_LEAF || name->child[0]->pure))
        node->value = facts->values[spelling];
    else
        node->pure = false;
}

static sg_trim_node *parse_postfix(const sg_trim_facts *facts, int token) {
    const sg_trim_unit *unit = facts->unit;
    sg_trim_node *node = parse_primary(facts, token);
    while (node) {
        int at = node->behind;
        sg_trim_node *outer;
        if (is(facts, at, SG_TRIM_OPEN) || is(facts, at, SG_TRIM_OPEN_INDEX) ||
            (is(facts, at, SG_TRIM_OPEN_BLOCK) && node->kind == SG_TRIM_LEAF && node->mark >= 0 &&
             sg_trim_is_type(facts, at - 1))) {
            bool index = is(facts, at, SG_TRIM_OPEN_INDEX);
            outer = make(facts,
                         index                         ? SG_TRIM_INDEX
                         : is(facts, at, SG_TRIM_OPEN) ? SG_TRIM_CALL
                                                       : SG_TRIM_LIST,
                         token, sg_trim_behind(unit, at));
            if (!outer)
                return NULL;
            outer->child[0] = node;
            outer->pure = node->pure;
            if (!parse_list(facts, at + 1, outer->behind - 1, outer))
                return NULL;
            if (outer->kind == SG_TRIM_CALL)
                judge_call(facts, outer);
        } else if ((is(facts, at, SG_TRIM_DOT) || is(facts, at, SG_TRIM_ARROW)) &&
                   sg_trim_is_word(unit, at + 1)) {
            sg_trim_node *member = parse_word(facts, at + 1);
            if (!member)
                return NULL;
            outer = make(facts, SG_TRIM_MEMBER, token, member->behind);
            if (!outer)
                return NULL;
            outer->child[0] = node;
            outer->mark = member->mark;
            outer->pure = node->pure;
        } else if (is(facts, at, SG_TRIM_INCREMENT) || is(facts, at, SG_TRIM_DECREMENT)) {
            outer = make(facts, SG_TRIM_MEMBER, token, at + 1);
            if (!outer)
                return NULL;
            outer->child[0] = node;
            outer->pure = false;
        } else {
            break;
        }
        node = outer;
    }
    return node;
}

/* Whether a ( opens a conversion, (type)x. */
static bool is_conversion(const sg_trim_facts *facts, int token) {
    int close = facts->unit->tokens[token].pair;
    for (int i = token + 1; i < close; i++)
        if (!sg_trim_is_type_token(facts, i))
            return false;
    int next = close + 1;
    const sg_trim_token *after = &facts->unit->tokens[next];
    return close > token + 1 &&
           (sg_trim_is_type(facts, token + 1) || is(facts, token + 1, SG_TRIM_CONST)) &&
           (after->kind == SG_TRIM_WORD || after->kind == SG_TRIM_NUMBER ||
            after->spelling == SG_TRIM_OPEN || after->spelling == SG_TRIM_MINUS ||
            after->spelling == SG_TRIM_BIT_AND || after->spelling == SG_TRIM_TIMES);
}

static sg_trim_node *parse_unary(const sg_trim_facts *facts, int token) {
    if (token >= facts->unit->token_count)
        return NULL;
    int mark = spelling_of(facts, token);
    bool convert = mark == SG_TRIM_OPEN && is_conversion(facts, token);
    bool changes = mark == SG_TRIM_INCREMENT || mark == SG_TRIM_DECREMENT;
    bool operates = changes || mark == SG_TRIM_NOT || mark == SG_TRIM_BIT_NOT ||
                    mark == SG_TRIM_MINUS || mark == SG_TRIM_PLUS || mark == SG_TRIM_TIMES ||
                    mark == SG_TRIM_BIT_AND;
    if (!convert && !operates)
        return parse_postfix(facts, token);
    sg_trim_node *inner =
        parse_unary(facts, convert ? sg_trim_behind(facts->unit, token) : token + 1);
    sg_trim_node *node =
        inner ? make(facts, convert ? SG_TRIM_CONVERT : SG_TRIM_UNARY, token, inner->behind) : NULL;
    if (!node)
        return NULL;
    node->child[0] = inner;
    node->mark = convert ? -1 : mark;
    node->pure = inner->pure && !changes;
    node->named = inner->named && !changes;
    node->plain = inner->plain && !changes;
    if (!convert)
        node->value = unary_value(mark, inner->value);
    else if (is(facts, token + 1, SG_TRIM_INT) && is(facts, token + 2, SG_TRIM_CLOSE) &&
             inner->value.type)
        node->value = (sg_trim_value){SG_TRIM_WHOLE, inner->value.number};
    return node;
}

int sg_trim_precedence(int mark) {
    switch (mark) {
    case SG_TRIM_TIMES:
    case SG_TRIM_DIVIDE:
    case SG_TRIM_REMAINDER:
        return 12;
    case SG_TRIM_PLUS:
    case SG_TRIM_MINUS:
        return 11;
    case SG_TRIM_SHIFT_LEFT:
    case SG_TRIM_SHIFT_RIGHT:
        return 10;
    case SG_TRIM_LESS:
    case SG_TRIM_GREATER:
    case SG_TRIM_LESS_EQUAL:
    case SG_TRIM_GREATER_EQUAL:
        return 9;
    case SG_TRIM_EQUAL:
    case SG_TRIM_UNEQUAL:
        return 8;
    case SG_TRIM_BIT_AND:
        return 7;
    case SG_TRIM_BIT_XOR:
        return 6;
    case SG_TRIM_BIT_OR:
        return 5;
    case SG_TRIM_AND:
        return 4;
    case SG_TRIM_OR:
        return 3;
    default:
        return mark == SG_TRIM_ASSIGN ||
                       (mark >= SG_TRIM_ADD_ASSIGN && mark <= SG_TRIM_RIGHT_ASSIGN)
                   ? 1
                   : 0;
    }
}

static sg_trim_node *parse_binary(const sg_trim_facts *facts, int token, int least) {
    sg_trim_node *left = parse_unary(facts, token);
    while (left) {
        int mark = spelling_of(facts, left->behind), precedence = sg_trim_precedence(mark);
        if (precedence < least || precedence == 0 ||
            facts->unit->tokens[left->behind].kind != SG_TRIM_MARK)
            return left;
        sg_trim_node *right = precedence == 1
                                  ? sg_trim_parse(facts, left->behind + 1)
                                  : parse_binary(facts, left->behind + 1, precedence + 1);
        sg_trim_node *node = right ? make(facts, SG_TRIM_BINARY, token, right->behind) : NULL;
        if (!node)
            return NULL;
        node->child[0] = left;
        node->child[1] = right;
        node->mark = mark;
        bool decided = (mark == SG_TRIM_AND || mark == SG_TRIM_OR) && left->value.type &&
                       (left->value.number != 0) == (mark == SG_TRIM_OR);
        node->pure = left->pure && (decided || right->pure) && precedence != 1;
        node->named = left->named && right->named && precedence != 1;
        node->plain = left->plain && right->plain && precedence != 1;
        if (precedence != 1)
            node->value = binary_value(node);
        left = node;
    }
    return left;
}

sg_trim_node *sg_trim_parse(const sg_trim_facts *facts, int token) {
    sg_trim_node *asked = parse_binary(facts, token, 1);
    if (!asked || !is(facts, asked->behind, SG_TRIM_QUESTION))
        return asked;
    sg_trim_node *yes = sg_trim_parse(facts, asked->behind + 1);
    if (!yes || !is(facts, yes->behind, SG_TRIM_COLON))
        return NULL;
    sg_trim_node *no = sg_trim_parse(facts, yes->behind + 1);
    sg_trim_node *node = no ? make(facts, SG_TRIM_CHOICE, token, no->behind) : NULL;
    if (!node)
        return NULL;
    node->child[0] = asked;
    node->child[1] = yes;
    node->child[2] = no;
    node->pure = asked->pure && yes->pure && no->pure;
    node->named = asked->named && yes->named && no->named;
    if (asked->value.type)
        node->value = asked->value.number ? yes->value : no->value;
    return node;
}
