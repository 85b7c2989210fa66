/* What a source says of its words: constants, types, functions. */
#include <string.h>

#include "gen/cuda/trim_expression.h"

static bool is(const sg_trim_facts *facts, int token, int spelling) {
    return sg_trim_is(facts->unit, token, spelling);
}

static int spelling_of(const sg_trim_facts *facts, int token) {
    return facts->unit->tokens[token].spelling;
}

bool sg_trim_is_constant_name(const sg_trim_unit *unit, int token) {
    const sg_trim_token *t = &unit->tokens[token];
    if (!sg_trim_is_word(unit, token))
        return false;
    for (int i = t->start; i < t->end; i++) {
        char c = unit->text[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    return true;
}

bool sg_trim_is_type(const sg_trim_facts *facts, int token) {
    int spelling = spelling_of(facts, token);
    return (spelling >= SG_TRIM_VOID && spelling <= SG_TRIM_REAL) || spelling == SG_TRIM_HALF_T ||
           spelling == SG_TRIM_BFLOAT_T || spelling == SG_TRIM_BOOL_T ||
           (sg_trim_is_word(facts->unit, token) && facts->types[spelling]);
}

bool sg_trim_is_type_token(const sg_trim_facts *facts, int token) {
    return sg_trim_is_type(facts, token) || is(facts, token, SG_TRIM_CONST) ||
           is(facts, token, SG_TRIM_TIMES) || is(facts, token, SG_TRIM_BIT_AND);
}

int sg_trim_type_size(const sg_trim_facts *facts, int first, int behind) {
    int size = 0;
    for (int i = first; i < behind; i++) {
        int spelling = spelling_of(facts, i);
        if (spelling == SG_TRIM_TIMES || !sg_trim_is_type_token(facts, i))
            return spelling == SG_TRIM_TIMES && i == behind - 1 ? 8 : 0;
        if (facts->sizes[spelling] && !(spelling == SG_TRIM_UNSIGNED && size))
            size = spelling == SG_TRIM_INT && size ? size : facts->sizes[spelling];
    }
    return size;
}

/* CUDA's own: float4, uint2. */
static bool is_vector(const sg_trim_unit *unit, int spelling) {
    static const char *const elements[] = {"float", "double", "int", "uint"};
    const char *text = unit->spellings[spelling];
    size_t length = (size_t)unit->spelling_lengths[spelling];
    for (size_t i = 0; i < sizeof elements / sizeof *elements; i++)
        if (length == strlen(elements[i]) + 1 && memcmp(text, elements[i], length - 1) == 0 &&
            text[length - 1] >= '2' && text[length - 1] <= '4')
            return true;
    return false;
}

static void learn_types(sg_trim_facts *facts) {
    static const int sizes[][2] = {{SG_TRIM_BOOL, 1},   {SG_TRIM_CHAR, 1},     {SG_TRIM_SHORT, 2},
                                   {SG_TRIM_INT, 4},    {SG_TRIM_LONG, 8},     {SG_TRIM_FLOAT, 4},
                                   {SG_TRIM_DOUBLE, 8}, {SG_TRIM_UNSIGNED, 4}, {SG_TRIM_HALF_T, 2},
                                   {SG_TRIM_BOOL_T, 1}, {SG_TRIM_BFLOAT_T, 2}};
    const sg_trim_unit *unit = facts->unit;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        facts->sizes[sizes[i][0]] = sizes[i][1];
    for (int i = 0; i < unit->spelling_count; i++)
        facts->types[i] = is_vector(unit, i);
    for (int i = 0; i + 3 < unit->token_count; i++) {
        if (is(facts, i, SG_TRIM_STRUCT)) {
            facts->types[spelling_of(facts, i + 1)] = true;
        } else if (is(facts, i, SG_TRIM_USING) && is(facts, i + 2, SG_TRIM_ASSIGN)) {
            int behind = sg_trim_behind_statement(unit, i);
            int name = spelling_of(facts, i + 1);
            facts->types[name] = true;
            facts->sizes[name] = behind > 0 ? sg_trim_type_size(facts, i + 3, behind - 1) : 0;
        } else if (is(facts, i, SG_TRIM_TEMPLATE)) {
            int behind = sg_trim_behind_template(unit, i + 1);
            for (int k = i + 2; k < behind; k++)
                if (is(facts, k, SG_TRIM_CLASS) || is(facts, k, SG_TRIM_TYPENAME))
                    facts->types[spelling_of(facts, k + 1)] = true;
            /* The name: before the first ( that is not an attribute's. */
            for (int k = behind; k > 0 && k < unit->token_count; k++) {
                if (is(facts, k, SG_TRIM_OPEN)) {
                    facts->templates[spelling_of(facts, k - 1)] = true;
                    break;
                }
                if (is(facts, k, SG_TRIM_STRUCT)) {
                    facts->templates[spelling_of(facts, k + 1)] = true;
                    break;
                }
            }
        }
    }
    facts->templates[SG_TRIM_STATIC_CAST] = facts->templates[SG_TRIM_REINTERPRET_CAST] = true;
    facts->templates[SG_TRIM_CONST_CAST] = true;
}

/* Words that something else than "constexpr T NAME =" declares, or that twice: no constants. */
static void learn_constants(sg_trim_facts *facts, bool *spoilt) {
    const sg_trim_unit *unit = facts->unit;
    for (int i = 0; i < unit->token_count; i++) {
        if (is(facts, i, SG_TRIM_TEMPLATE)) {
            int behind = sg_trim_behind_template(unit, i + 1);
            for (int k = i + 1; k < behind; k++)
                spoilt[spelling_of(facts, k)] = true;
        }
        /* A variable, a parameter, a member: a type and then the name. */
        if (i && sg_trim_is_constant_name(unit, i) && sg_trim_is_type(facts, i - 1) &&
            !is(facts, i + 1, SG_TRIM_ASSIGN))
            spoilt[spelling_of(facts, i)] = true;
    }
    for (int i = 0; i + 4 < unit->token_count; i++) {
        if (!is(facts, i, SG_TRIM_CONSTEXPR))
            continue;
        bool truth = is(facts, i + 1, SG_TRIM_BOOL);
        if (!truth && !is(facts, i + 1, SG_TRIM_INT))
            continue;
        for (int name = i + 2;
             sg_trim_is_constant_name(unit, name) && is(facts, name + 1, SG_TRIM_ASSIGN);) {
            sg_trim_node *node = sg_trim_parse(facts, name + 2);
            sg_trim_value value = {0};
            int spelling = spelling_of(facts, name);
            if (node &&
                (is(facts, node->behind, SG_TRIM_COMMA) ||
                 is(facts, node->behind, SG_TRIM_SEMICOLON)) &&
                !spoilt[spelling])
                value = node->value;
            if (value.type) {
                value.type = truth ? SG_TRIM_TRUTH : SG_TRIM_WHOLE;
                value.number = truth ? value.number != 0 : value.number;
            }
            if (value.number != (int32_t)value.number)
                value.type = SG_TRIM_UNKNOWN;
            facts->values[spelling] = value;
            facts->kept[spelling] = is(facts, i - 1, SG_TRIM_STATIC);
            spoilt[spelling] = true; /* a second declaration takes it back */
            if (!node || !is(facts, node->behind, SG_TRIM_COMMA))
                break;
            name = node->behind + 1;
        }
    }
}

bool sg_trim_is_function(const sg_trim_facts *facts, int name) {
    const sg_trim_unit *unit = facts->unit;
    if (!sg_trim_is_word(unit, name) || !is(facts, name + 1, SG_TRIM_OPEN) || name == 0)
        return false;
    int behind = sg_trim_behind(unit, name + 1);
    behind += is(facts, behind, SG_TRIM_CONST);
    bool typed = sg_trim_is_type(facts, name - 1) || is(facts, name - 1, SG_TRIM_BIT_AND) ||
                 is(facts, name - 1, SG_TRIM_TIMES);
    return typed && is(facts, behind, SG_TRIM_OPEN_BLOCK);
}

bool sg_trim_names_kept(const sg_trim_facts *facts, int first, int behind) {
    bool named = false;
    for (int i = first; i < behind; i++)
        named |= facts->kept[spelling_of(facts, i)];
    return named;
}

/* Words that are declared after `bool`, and after no other type. */
static void learn_truths(sg_trim_facts *facts, bool *other) {
    const sg_trim_unit *unit = facts->unit;
    for (int i = 1; i < unit->token_count; i++) {
        bool declared = sg_trim_is_word(unit, i) &&
                        (sg_trim_is_type(facts, i - 1) || is(facts, i - 1, SG_TRIM_BIT_AND) ||
                         is(facts, i - 1, SG_TRIM_TIMES) || is(facts, i - 1, SG_TRIM_AUTO));
        if (declared && is(facts, i - 1, SG_TRIM_BOOL))
            facts->truths[spelling_of(facts, i)] = true;
        else if (declared)
            other[spelling_of(facts, i)] = true;
    }
    for (int i = 0; i < unit->spelling_count; i++)
        facts->truths[i] &= !other[i];
}

/* Functions whose body is { return CONSTANT; }. */
static void learn_functions(sg_trim_facts *facts, int *declared) {
    const sg_trim_unit *unit = facts->unit;
    for (int i = 1; i < unit->token_count; i++)
        if (sg_trim_is_function(facts, i))
            declared[spelling_of(facts, i)]++;
    for (int i = 1; i < unit->token_count; i++) {
        int name = spelling_of(facts, i);
        if (!sg_trim_is_function(facts, i) || declared[name] != 1)
            continue;
        bool truth = is(facts, i - 1, SG_TRIM_BOOL);
        int body = sg_trim_behind(unit, i + 1);
        body += is(facts, body, SG_TRIM_CONST);
        sg_trim_node *node =
            is(facts, body + 1, SG_TRIM_RETURN) ? sg_trim_parse(facts, body + 2) : NULL;
        if (!node || !node->value.type || node->behind + 1 != unit->tokens[body].pair ||
            (!truth && !is(facts, i - 1, SG_TRIM_INT)))
            continue;
        facts->values[name] = (sg_trim_value){truth ? SG_TRIM_TRUTH : SG_TRIM_WHOLE,
                                              truth ? node->value.number != 0 : node->value.number};
        facts->constant_functions[name] = true;
    }
}

bool sg_trim_learn(sg_trim_facts *facts, sg_trim_unit *unit) {
    size_t count = (size_t)unit->spelling_count;
    *facts = (sg_trim_facts){.unit = unit,
                             .values = SG_ARENA_NEW(unit->arena, sg_trim_value, count),
                             .constant_functions = SG_ARENA_NEW(unit->arena, bool, count),
                             .templates = SG_ARENA_NEW(unit->arena, bool, count),
                             .types = SG_ARENA_NEW(unit->arena, bool, count),
                             .truths = SG_ARENA_NEW(unit->arena, bool, count),
                             .kept = SG_ARENA_NEW(unit->arena, bool, count),
                             .sizes = SG_ARENA_NEW(unit->arena, int, count)};
    bool *spoilt = SG_ARENA_NEW(unit->arena, bool, count);
    int *declared = SG_ARENA_NEW(unit->arena, int, count);
    if (sg_arena_failed(unit->arena))
        return false;
    learn_types(facts);
    learn_constants(facts, spoilt);
    learn_functions(facts, declared);
    learn_truths(facts, SG_ARENA_NEW(unit->arena, bool, count));
    return !sg_arena_failed(unit->arena);
}
