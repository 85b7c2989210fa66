/* The text form, read by recursive descent (docs/text-format.md has the grammar). Every message
 * names line and column. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "ir/infer.h"
#include "ir/lexer.h"

enum {
    DEPTH_MAX = 64,     /* of parentheses and minus signs in a size */
    LIST_MAX = 16,      /* entries of a list attribute */
    OPERANDS_MAX = 1024 /* of a foreign operator */
};

typedef struct parser {
    sg_graph *graph;
    sg_lexer lexer;
    int depth;
    /* Lists of the statement being read. */
    sg_dim items[SG_ATTRIBUTES_MAX][LIST_MAX];
    sg_value operands[OPERANDS_MAX];
    int operand_count;
} parser;

/* ---- messages ------------------------------------------------------------------------------ */

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static sg_status fail_at(parser *p, const sg_token *token, const char *format, ...) {
    char message[800];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return sg_fail(p->graph->context, SG_INVALID, "line %d, column %d: %s", token->line,
                   token->column, message);
}

/* Puts the place before the message that a called function left. */
static sg_status place(parser *p, const sg_token *token, sg_status status) {
    if (status == SG_INVALID)
        fail_at(p, token, "%s", p->graph->context->message);
    return status;
}

/* What stands where something else was wanted. */
static sg_words found(const sg_token *token) {
    sg_words words;
    int length = token->length > 60 ? 60 : (int)token->length;
    switch (token->kind) {
    case SG_TOKEN_END:
        snprintf(words.text, sizeof words.text, "the text ends");
        break;
    case SG_TOKEN_WORD:
        snprintf(words.text, sizeof words.text, "found '%.*s'", length, token->text);
        break;
    case SG_TOKEN_VALUE:
        snprintf(words.text, sizeof words.text, "found '%%%.*s'", length, token->text);
        break;
    case SG_TOKEN_MARK:
        snprintf(words.text, sizeof words.text, "found '%.*s'", length, token->text);
        break;
    case SG_TOKEN_BAD:
        if (token->mark > ' ' && token->mark < 127)
            snprintf(words.text, sizeof words.text, "found '%c'", token->mark);
        else
            snprintf(words.text, sizeof words.text, "found the byte 0x%02x", token->mark);
        break;
    }
    return words;
}

static sg_status wanted(parser *p, const char *what) {
    return fail_at(p, &p->lexer.token, "%s was expected, but %s", what,
                   found(&p->lexer.token).text);
}

/* ---- tokens -------------------------------------------------------------------------------- */

static bool at_mark(const parser *p, char mark) {
    return p->lexer.token.kind == SG_TOKEN_MARK && p->lexer.token.mark == (unsigned char)mark;
}

static bool take_mark(parser *p, char mark) {
    bool taken = at_mark(p, mark);
    if (taken)
        sg_lexer_next(&p->lexer);
    return taken;
}

static sg_status need_mark(parser *p, char mark) {
    const char what[] = {'\'', mark, '\'', 0};
    return take_mark(p, mark) ? SG_OK : wanted(p, what);
}

static bool token_is(const sg_token *token, const char *word) {
    return token->kind == SG_TOKEN_WORD && token->length == strlen(word) &&
           memcmp(token->text, word, token->length) == 0;
}

static bool starts_number(const sg_token *token) {
    return token->kind == SG_TOKEN_WORD &&
           ((token->text[0] >= '0' && token->text[0] <= '9') || token->text[0] == '.');
}

/* ---- numbers and sizes --------------------------------------------------------------------- */

static sg_status parse_number(parser *p, double *number) {
    bool negative = take_mark(p, '-');
    if (p->lexer.token.kind != SG_TOKEN_WORD ||
        !sg_number_parse(p->lexer.token.text, p->lexer.token.length, number))
        return wanted(p, "a number");
    if (negative)
        *number = -*number;
    sg_lexer_next(&p->lexer);
    return SG_OK;
}

static sg_status parse_integer(parser *p, int64_t *integer) {
    const sg_token *token = &p->lexer.token;
    int64_t value = 0;
    for (size_t i = 0; i < token->length; i++) {
        char c = token->text[i];
        if (token->kind != SG_TOKEN_WORD || c < '0' || c > '9')
            return wanted(p, "an integer");
        if (value > (SG_DIM_LIMIT - 1 - (c - '0')) / 10)
            return fail_at(p, token, "the integer is too large; below 2^62 would be accepted");
        value = value * 10 + (c - '0');
    }
    *integer = value;
    sg_lexer_next(&p->lexer);
    return SG_OK;
}

static sg_status parse_sum(parser *p, sg_dim *dim);

static sg_status parse_nested(parser *p, sg_dim *dim) {
    if (take_mark(p, '(')) {
        sg_status status = parse_sum(p, dim);
        return status ? status : need_mark(p, ')');
    }
    const sg_token *token = &p->lexer.token;
    if (starts_number(token))
        return parse_integer(p, dim);
    if (token->kind != SG_TOKEN_WORD || memchr(token->text, '.', token->length))
        return wanted(p, "a size");
    *dim = sg_dim_symbol(p->graph->dims, token->text, (int64_t)token->length);
    sg_lexer_next(&p->lexer);
    return SG_OK;
}

static sg_status parse_factor(parser *p, sg_dim *dim) {
    *dim = SG_DIM_INVALID;
    if (p->depth == DEPTH_MAX)
        return fail_at(p, &p->lexer.token, "the size is nested deeper than %d levels", DEPTH_MAX);
    p->depth++;
    sg_status status;
    if (take_mark(p, '-')) {
        status = parse_factor(p, dim);
        if (!status)
            *dim = sg_dim_subtract(p->graph->dims, 0, *dim);
    } else {
        status = parse_nested(p, dim);
    }
    p->depth--;
    return status;
}

static sg_status parse_product(parser *p, sg_dim *dim) {
    sg_status status = parse_factor(p, dim);
    while (!status && (at_mark(p, '*') || at_mark(p, '/'))) {
        sg_token sign = p->lexer.token;
        sg_dim right = SG_DIM_INVALID;
        sg_lexer_next(&p->lexer);
        status = parse_factor(p, &right);
        if (status)
            return status;
        if (sign.mark == '/' && sg_dim_is_constant(right) && right <= 0)
            return fail_at(p, &sign, "a size is divided by %" PRId64, right);
        *dim = sign.mark == '*' ? sg_dim_multiply(p->graph->dims, *dim, right)
                                : sg_dim_floor_divide(p->graph->dims, *dim, right);
    }
    return status;
}

static sg_status parse_sum(parser *p, sg_dim *dim) {
    sg_status status = parse_product(p, dim);
    while (!status && (at_mark(p, '+') || at_mark(p, '-'))) {
        bool plus = at_mark(p, '+');
        sg_dim right = SG_DIM_INVALID;
        sg_lexer_next(&p->lexer);
        status = parse_product(p, &right);
        if (!status)
            *dim = plus ? sg_dim_add(p->graph->dims, *dim, right)
                        : sg_dim_subtract(p->graph->dims, *dim, right);
    }
    return status;
}

static sg_status parse_dim(parser *p, sg_dim *dim) {
    sg_token start = p->lexer.token;
    sg_status status = parse_sum(p, dim);
    if (!status && *dim == SG_DIM_INVALID)
        return sg_arena_failed(&p->graph->arena)
                   ? sg_fail_memory(p->graph->context)
                   : fail_at(p, &start, "the size is too large a number or expression");
    return status;
}

/* [a, b, ...], at most limit of them. */
static sg_status parse_dims(parser *p, sg_dim *dims, int limit, int *count) {
    sg_status status = need_mark(p, '[');
    *count = 0;
    if (status || take_mark(p, ']'))
        return status;
    do {
        if (*count == limit)
            return fail_at(p, &p->lexer.token, "more than %d sizes", limit);
        status = parse_dim(p, &dims[(*count)++]);
    } while (!status && take_mark(p, ','));
    return status ? status : need_mark(p, ']');
}

static sg_status parse_dtype(parser *p, sg_dtype *dtype) {
    const sg_token *token = &p->lexer.token;
    *dtype = token->kind == SG_TOKEN_WORD ? sg_dtype_find(token->text, (int64_t)token->length)
                                          : SG_DTYPE_COUNT;
    if (*dtype == SG_DTYPE_COUNT)
        return wanted(p, "a dtype (bool, f16, bf16, f32, f64, opaque)");
    sg_lexer_next(&p->lexer);
    return SG_OK;
}

static sg_status parse_type(parser *p, sg_type *type) {
    *type = (sg_type){0};
    sg_status status = parse_dtype(p, &type->dtype);
    if (status || type->dtype == SG_OPAQUE)
        return status;
    return parse_dims(p, type->size, SG_RANK_MAX, &type->rank);
}

/* ---- attributes ---------------------------------------------------------------------------- */

static sg_status parse_whole(parser *p, double *number) {
    sg_token start = p->lexer.token;
    int64_t value = 0;
    bool negative = take_mark(p, '-');
    sg_status status = parse_integer(p, &value);
    if (!status && value > INT64_C(1) << 53)
        return fail_at(p, &start, "the integer is too large; up to 2^53 would be accepted");
    if (!status)
        *number = (double)(negative ? -value : value);
    return status;
}

static sg_status parse_bool(parser *p, double *number) {
    bool yes = token_is(&p->lexer.token, "true");
    if (!yes && !token_is(&p->lexer.token, "false"))
        return wanted(p, "true or false");
    *number = yes;
    sg_lexer_next(&p->lexer);
    return SG_OK;
}

static sg_status parse_list(parser *p, sg_attribute_kind kind, sg_dim *items,
                            sg_attribute *attribute) {
    attribute->items = items;
    if (kind == SG_ATTRIBUTE_SPATIAL && !at_mark(p, '[')) {
        attribute->count = 1;
        return parse_dim(p, items);
    }
    return parse_dims(p, items, LIST_MAX, &attribute->count);
}

static sg_status parse_attribute(parser *p, const sg_op_info *info, sg_attribute *attributes,
                                 unsigned *seen) {
    sg_token name = p->lexer.token;
    int i = 0;
    if (name.kind != SG_TOKEN_WORD)
        return wanted(p, "an attribute's name");
    while (i < info->attribute_count && !token_is(&name, info->attributes[i].name))
        i++;
    if (i == info->attribute_count)
        return fail_at(p, &name, "%s has no attribute '%.*s'", info->name,
                       (int)(name.length > 60 ? 60 : name.length), name.text);
    if (*seen & 1u << i)
        return fail_at(p, &name, "attribute %s is given twice", info->attributes[i].name);
    *seen |= 1u << i;
    sg_lexer_next(&p->lexer);
    sg_status status = need_mark(p, '=');
    if (status)
        return status;
    sg_attribute_kind kind = info->attributes[i].kind;
    switch (kind) {
    case SG_ATTRIBUTE_FLOAT:
        return parse_number(p, &attributes[i].number);
    case SG_ATTRIBUTE_INT:
        return parse_whole(p, &attributes[i].number);
    case SG_ATTRIBUTE_BOOL:
        return parse_bool(p, &attributes[i].number);
    case SG_ATTRIBUTE_LIST:
    case SG_ATTRIBUTE_SPATIAL:
        return parse_list(p, kind, p->items[i], &attributes[i]);
    case SG_ATTRIBUTE_DTYPE: {
        sg_dtype dtype;
        status = parse_dtype(p, &dtype);
        attributes[i].number = dtype;
        return status;
    }
    }
    return SG_INVALID;
}

static sg_status parse_attributes(parser *p, const sg_op_info *info, sg_attribute *attributes) {
    unsigned seen = 0;
    for (int i = 0; i < info->attribute_count; i++) {
        attributes[i] = (sg_attribute){.number = info->attributes[i].initial};
        if (info->attributes[i].kind == SG_ATTRIBUTE_SPATIAL) {
            p->items[i][0] = (sg_dim)info->attributes[i].initial;
            attributes[i] = (sg_attribute){.count = 1, .items = p->items[i]};
        }
    }
    if (!take_mark(p, '{') || take_mark(p, '}'))
        return SG_OK;
    sg_status status;
    do
        status = parse_attribute(p, info, attributes, &seen);
    while (!status && take_mark(p, ','));
    return status ? status : need_mark(p, '}');
}

/* ---- statements ---------------------------------------------------------------------------- */

/* %value, none, or a number, which becomes a weak constant. */
static sg_status parse_operand(parser *p, sg_value *value) {
    sg_token token = p->lexer.token;
    if (token.kind == SG_TOKEN_VALUE) {
        *value = sg_graph_find(p->graph, token.text, (int64_t)token.length);
        if (*value < 0)
            return fail_at(p, &token, "%%%.*s is used before it is defined",
                           (int)(token.length > 200 ? 200 : token.length), token.text);
        sg_lexer_next(&p->lexer);
        return SG_OK;
    }
    if (token_is(&token, "none")) {
        *value = -1;
        sg_lexer_next(&p->lexer);
        return SG_OK;
    }
    if (!at_mark(p, '-') && !starts_number(&token) && !token_is(&token, "inf") &&
        !token_is(&token, "nan"))
        return wanted(p, "an operand (%value, a number or none)");
    sg_attribute attributes[SG_ATTRIBUTES_MAX] = {[1] = {.number = 1}};
    sg_status status = parse_number(p, &attributes[0].number);
    if (status)
        return status;
    return sg_graph_append(p->graph, SG_OP_constant, NULL, NULL, 0, attributes, NULL, value);
}

static sg_status parse_operands(parser *p) {
    sg_status status;
    p->operand_count = 0;
    do {
        if (p->operand_count == OPERANDS_MAX)
            return fail_at(p, &p->lexer.token, "more than %d operands", OPERANDS_MAX);
        status = parse_operand(p, &p->operands[p->operand_count++]);
    } while (!status && take_mark(p, ','));
    return status;
}

static sg_status parse_op(parser *p, sg_op *op) {
    const sg_token *token = &p->lexer.token;
    if (token->kind != SG_TOKEN_WORD)
        return wanted(p, "an operator");
    *op = sg_op_find(token->text, (int64_t)token->length);
    if (*op == SG_OP_COUNT)
        return fail_at(p, token, "there is no operator '%.*s'",
                       (int)(token->length > 60 ? 60 : token->length), token->text);
    sg_lexer_next(&p->lexer);
    return SG_OK;
}

/* Appends the node; a declared type that inference need not be told is checked against its result.
 */
static sg_status append(parser *p, sg_op op, const char *name, const sg_attribute *attributes,
                        const sg_type *declared, const sg_token *place_of_op, sg_value *value) {
    bool told = op == SG_OP_input || op == SG_OP_foreign || op == SG_OP_constant;
    int before = p->graph->node_count;
    sg_status status = sg_graph_append(p->graph, op, name, p->operands, p->operand_count,
                                       attributes, told ? declared : NULL, value);
    if (status || !declared)
        return place(p, place_of_op, status);
    sg_type inferred = p->graph->nodes[*value].type;
    inferred.weak = false;
    if (sg_type_equal(&inferred, declared))
        return SG_OK;
    sg_graph_truncate(p->graph, before, p->graph->output_count);
    return fail_at(p, place_of_op, "%s: the type is %s, but %s is declared", sg_op_get(op)->name,
                   sg_type_words(p->graph, &inferred).text, sg_type_words(p->graph, declared).text);
}

/* %name = op operands {attributes} : type */
static sg_status parse_definition(parser *p, sg_value *value) {
    sg_token name = p->lexer.token, place_of_op;
    sg_op op = SG_OP_COUNT;
    sg_type type;
    sg_attribute attributes[SG_ATTRIBUTES_MAX] = {0};
    sg_lexer_next(&p->lexer);
    sg_status status = need_mark(p, '=');
    place_of_op = p->lexer.token;
    if (!status)
        status = parse_op(p, &op);
    if (status)
        return status;
    const sg_op_info *info = sg_op_get(op);
    p->operand_count = 0;
    bool operands = info->arity != 0 && !at_mark(p, '{') && !at_mark(p, ':') &&
                    !p->lexer.token.first && p->lexer.token.kind != SG_TOKEN_END;
    if (operands)
        status = parse_operands(p);
    if (!status)
        status = parse_attributes(p, info, attributes);
    bool declared = !status && take_mark(p, ':');
    if (declared)
        status = parse_type(p, &type);
    if (status)
        return status;
    if (sg_graph_find(p->graph, name.text, (int64_t)name.length) >= 0)
        return fail_at(p, &name, "%%%.*s is defined twice",
                       (int)(name.length > 200 ? 200 : name.length), name.text);
    const char *text = sg_arena_text(&p->graph->arena, name.text, name.length);
    if (!text)
        return sg_fail_memory(p->graph->context);
    return append(p, op, text, attributes, declared ? &type : NULL, &place_of_op, value);
}

/* output %a, %b */
static sg_status parse_output(parser *p, sg_value *value) {
    sg_token start = p->lexer.token;
    sg_lexer_next(&p->lexer);
    sg_status status = parse_operands(p);
    for (int i = 0; i < p->operand_count && !status; i++) {
        *value = p->operands[i];
        status = place(p, &start, sg_graph_append_output(p->graph, *value));
    }
    return status;
}

static sg_status parse_statement(parser *p, sg_value *value) {
    if (p->lexer.token.kind == SG_TOKEN_VALUE)
        return parse_definition(p, value);
    if (token_is(&p->lexer.token, "output"))
        return parse_output(p, value);
    return wanted(p, "a statement (%name = operator ..., or output ...)");
}

static sg_status parse_graph(parser *p) {
    sg_value value;
    if (!token_is(&p->lexer.token, "graph"))
        return wanted(p, "'graph'");
    sg_lexer_next(&p->lexer);
    if (p->lexer.token.kind == SG_TOKEN_WORD) {
        p->graph->name =
            sg_arena_text(&p->graph->arena, p->lexer.token.text, p->lexer.token.length);
        if (!p->graph->name)
            return sg_fail_memory(p->graph->context);
        sg_lexer_next(&p->lexer);
    }
    sg_status status = need_mark(p, '{');
    while (!status && !take_mark(p, '}'))
        status = parse_statement(p, &value);
    if (!status && p->lexer.token.kind != SG_TOKEN_END)
        return wanted(p, "the end of the text");
    return status;
}

sg_status sg_graph_parse(sg_context *context, const char *text, size_t length, sg_graph **graph) {
    parser p = {0};
    sg_status status = sg_graph_create(context, NULL, &p.graph);
    if (status)
        return status;
    sg_lexer_start(&p.lexer, text, length);
    status = parse_graph(&p);
    if (status)
        sg_graph_destroy(p.graph);
    else
        *graph = p.graph;
    return status;
}

sg_status sg_graph_add(sg_graph *graph, const char *statement, sg_value *value) {
    int nodes = graph->node_count, outputs = graph->output_count;
    parser p = {.graph = graph};
    sg_value made = -1;
    sg_lexer_start(&p.lexer, statement, strlen(statement));
    sg_status status = parse_statement(&p, &made);
    if (!status && p.lexer.token.kind != SG_TOKEN_END)
        status = wanted(&p, "the end of the statement");
    if (status)
        sg_graph_truncate(graph, nodes, outputs);
    else if (value)
        *value = made;
    return status;
}
