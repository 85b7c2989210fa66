#include "emit/text.h"

#include <stdlib.h>
#include <string.h>

bool sg_emit_is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Takes `length` characters out of a text. */
static void take_out(char *at, size_t length) {
    memmove(at, at + length, strlen(at + length) + 1);
}

/* Does without factors and divisors of one. */
static void simplify_once(char *text) {
    for (char *at = text; *at; at++) {
        bool begins = at == text || at[-1] == '(' || at[-1] == ' ';
        while (strncmp(at, " * 1", 4) == 0 && !sg_emit_is_letter(at[4]))
            take_out(at, 4);
        while (strncmp(at, " / 1", 4) == 0 && !sg_emit_is_letter(at[4]))
            take_out(at, 4);
        while (begins && strncmp(at, "1 * ", 4) == 0 && (at - text < 2 || at[-2] != '/'))
            take_out(at, 4);
        if (begins && strncmp(at, "pieces(", 7) == 0) {
            char *comma = at + 7 + strcspn(at + 7, ",()");
            if (strncmp(comma, ", 1)", 4) == 0) {
                take_out(comma, 4);
                take_out(at, 7);
            }
        }
        /* There is at least one of them. */
        static const char processors[] = "most(1, processors)";
        if (begins && strncmp(at, processors, sizeof processors - 1) == 0) {
            take_out(at + sizeof processors - 2, 1);
            take_out(at, sizeof "most(1, " - 1);
        }
        if (begins && strncmp(at, "most(1, 1)", 10) == 0) {
            take_out(at, 9);
            *at = '1';
        }
    }
}

static void simplify(char *text) {
    for (size_t length = 0; length != strlen(text);) {
        length = strlen(text);
        simplify_once(text);
    }
}

/* Reads "input3" and the like. */
static bool reads_tensor(const char *at, const char *kind, long *index, int *length) {
    enum { DECIMAL = 10 };
    size_t before = strlen(kind);
    char *end;
    if (strncmp(at, kind, before) != 0)
        return false;
    *index = strtol(at + before, &end, DECIMAL);
    *length = (int)(end - at);
    return end > at + before;
}

/* ---- products ------------------------------------------------------------------------------ */

enum { FACTORS_MAX = 16 };

/* A number times names. */
typedef struct product {
    long long number;
    const char *names[FACTORS_MAX];
    int count;
} product;

/* False where a text is more than a product of numbers and names. */
static bool read_product(const sg_emit_text *host, const char *text, product *made) {
    enum { DECIMAL = 10 };
    *made = (product){.number = 1};
    while (*text) {
        size_t length = strspn(text, " ()*");
        text += length;
        for (length = 0; sg_emit_is_letter(text[length]) || text[length] == '.';)
            length++;
        if (length == 0)
            return *text == '\0';
        char *end;
        long long number = strtoll(text, &end, DECIMAL);
        if (end == text + length)
            made->number *= number;
        else if (made->count == FACTORS_MAX || (*text >= '0' && *text <= '9'))
            return false;
        else
            made->names[made->count++] = sg_emit_join(host, "%.*s", (int)length, text);
        text += length;
        if (*text && !strchr(" )*", *text))
            return false;
        if (text[0] == ' ' && text[1] != '*')
            return false;
    }
    return true;
}

static const char *write_product(const sg_emit_text *host, const product *of) {
    const char *text = NULL;
    if (of->number != 1 || of->count == 0)
        text = sg_emit_join(host, "%lld", of->number);
    for (int i = 0; i < of->count && of->number != 0; i++)
        text = text ? sg_emit_join(host, "%s * %s", text, of->names[i]) : of->names[i];
    return text;
}

const char *sg_emit_multiply(const sg_emit_text *host, const char *a, const char *b) {
    product made;
    const char *both = sg_emit_join(host, "%s * %s", a, b);
    return read_product(host, both, &made) ? write_product(host, &made) : both;
}

/* Whether every name of a product is one of the other's, of which there may be more. */
static bool divides(const product *part, const product *whole) {
    bool taken[FACTORS_MAX] = {false};
    for (int i = 0; i < part->count; i++) {
        int at = 0;
        while (at < whole->count && (taken[at] || strcmp(part->names[i], whole->names[at]) != 0))
            at++;
        if (at == whole->count)
            return false;
        taken[at] = true;
    }
    return true;
}

/* ---- conditions ---------------------------------------------------------------------------- */

/* "a OP b" where both are products. */
static bool read_comparison(const sg_emit_text *host, const char *text, const char *operation,
                            product *left, product *right) {
    const char *at = strstr(text, operation);
    return at && read_product(host, sg_emit_join(host, "%.*s", (int)(at - text), text), left) &&
           read_product(host, at + strlen(operation), right);
}

/* "P % k == 0" */
static bool read_multiple(const sg_emit_text *host, const char *text, product *whole,
                          product *divisor) {
    const char *at = strstr(text, " == 0");
    return at && at[5] == '\0' &&
           read_comparison(host, sg_emit_join(host, "%.*s", (int)(at - text), text), " % ", whole,
                           divisor) &&
           divisor->count == 0 && divisor->number > 0;
}

/* Whether a condition holds at all sizes. */
static bool always_holds(const sg_emit_text *host, const char *text) {
    product left, right;
    if (read_multiple(host, text, &left, &right))
        return left.number % right.number == 0;
    if (read_comparison(host, text, " == ", &left, &right))
        return left.number == right.number && left.count == right.count && divides(&left, &right);
    if (read_comparison(host, text, " < ", &left, &right))
        return left.count + right.count == 0 && left.number < right.number;
    const char *other = strstr(text, " || "); /* "(x <= 1 || a == b)" */
    size_t length = strlen(text);
    return *text == '(' && text[length - 1] == ')' && other && !strstr(other, "&&") &&
           always_holds(
               host, sg_emit_join(host, "%.*s", (int)(text + length - 1 - (other + 4)), other + 4));
}

/* Whether one condition follows from another. */
static bool follows(const sg_emit_text *host, const char *text, const char *from) {
    product whole, divisor, part, by;
    return read_multiple(host, text, &whole, &divisor) && read_multiple(host, from, &part, &by) &&
           by.number % divisor.number == 0 && whole.number % part.number == 0 &&
           divides(&part, &whole);
}

/* Cuts the first condition off. */
static const char *next_condition(const sg_emit_text *host, const char **rest) {
    int depth = 0;
    const char *at = *rest, *begin = at;
    for (; *at && (depth > 0 || strncmp(at, " && ", 4) != 0); at++)
        depth += (*at == '(') - (*at == ')');
    *rest = *at ? at + 4 : at;
    return sg_emit_join(host, "%.*s", (int)(at - begin), begin);
}

const char *sg_emit_open_conditions(const sg_emit_text *host, const char *conditions) {
    const char *kept = NULL;
    int index = 0;
    for (const char *rest = conditions; *rest; index++) {
        const char *condition = next_condition(host, &rest);
        bool needless = always_holds(host, condition);
        int other = 0;
        for (const char *all = conditions; *all && !needless; other++) {
            const char *from = next_condition(host, &all);
            bool same = strcmp(from, condition) == 0;
            needless =
                (same && other < index) || (!same && follows(host, condition, from) &&
                                            (other < index || !follows(host, from, condition)));
        }
        if (!needless)
            kept = kept ? sg_emit_join(host, "%s && %s", kept, condition) : condition;
    }
    return kept;
}

/* ---- formulas ------------------------------------------------------------------------------ */

/* What stands for a formula's word at *at, which moves behind it; NULL: the word itself. */
static const char *spell_word(const sg_emit_text *host, const char **at) {
    enum { DECIMAL = 10 };
    static const char processors[] = "s.processors";
    const sg_emission *emission = host->emission;
    long index = 0;
    int length = 0;
    if (strncmp(*at, processors, strlen(processors)) == 0) {
        *at += strlen(processors);
        return "processors";
    }
    if (strncmp(*at, "s.", 2) == 0) {
        *at += 2;
        return "";
    }
    bool input = reads_tensor(*at, "input", &index, &length);
    if (!input && !reads_tensor(*at, "output", &index, &length))
        return NULL;
    int member = (input ? emission->input_member : emission->output_member)[index];
    *at += length;
    bool size = strncmp(*at, ".size[", 6) == 0, stride = strncmp(*at, ".stride[", 8) == 0;
    if (!size && !stride)
        return emission->members[member].name;
    char *end;
    long dim = strtol(*at + (size ? 6 : 8), &end, DECIMAL);
    *at = end + 1;
    return size ? host->sizes[member][dim] : sg_emit_stride(host, member, (int)dim);
}

const char *sg_emit_spell(const sg_emit_text *host, const char *formula) {
    sg_text text = {0};
    for (const char *at = formula; *at;) {
        bool begins = at == formula || (!sg_emit_is_letter(at[-1]) && at[-1] != '.');
        const char *word = begins ? spell_word(host, &at) : NULL;
        if (word)
            sg_text_add(&text, "%s", word);
        else
            sg_text_add(&text, "%c", *at++);
    }
    char *made = text.data ? sg_arena_text(host->emission->arena, text.data, text.length) : NULL;
    if (made)
        simplify(made);
    sg_text_release(&text);
    product whole;
    return !made ? "" : read_product(host, made, &whole) ? write_product(host, &whole) : made;
}

/* ---- lines --------------------------------------------------------------------------------- */

/* Whether a line may be broken at a space behind this. */
static bool breaks_behind(const char *from, const char *space) {
    static const char *const ends[] = {"&&", "||", "=", "+", "*", "?", ":"};
    if (space > from && (space[-1] == ',' || space[-1] == ';'))
        return true;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t length = strlen(ends[i]);
        if ((size_t)(space - from) > length && strncmp(space - length, ends[i], length) == 0 &&
            space[-(int)length - 1] == ' ')
            return true;
    }
    return false;
}

/* A line, broken where it would go beyond column 100; what follows is indented further. */
void sg_emit_long(const char *indent, const char *line, sg_text *text) {
    enum { COLUMNS = 100 };
    size_t column = strlen(indent);
    sg_text_add(text, "%s", indent);
    while (*line) {
        const char *end = line;
        do {
            end += strspn(end, " ");
            end += strcspn(end, " ");
        } while (*end && !breaks_behind(line, end));
        size_t length = (size_t)(end - line);
        if (column + length > COLUMNS && column > strlen(indent)) {
            line += strspn(line, " ");
            length = (size_t)(end - line);
            column = strlen(indent) + 4;
            sg_text_add(text, "\n%s    ", indent);
        }
        sg_text_add(text, "%.*s", (int)length, line);
        column += length;
        line = end;
    }
    sg_text_add(text, "\n");
}

void sg_emit_wrap(const char *prefix, const char *next, const char *words, sg_text *text) {
    enum { COLUMNS = 98 };
    size_t column = 0;
    while (*words) {
        size_t length = strcspn(words, " ");
        if (column == 0 || column + 1 + length > COLUMNS) {
            sg_text_add(text, "%s%s", column ? "\n" : "", prefix);
            column = strlen(prefix);
            prefix = next;
        } else {
            sg_text_add(text, " ");
            column++;
        }
        sg_text_add(text, "%.*s", (int)length, words);
        column += length;
        words += length + strspn(words + length, " ");
    }
    sg_text_add(text, "\n");
}

const char *sg_emit_join(const sg_emit_text *host, const char *format, ...) {
    va_list list;
    va_start(list, format);
    const char *text = sg_cuda_formula_list(host->emission->arena, format, list);
    va_end(list);
    return text ? text : "";
}

void sg_emit_check(const sg_emit_text *host, const char *condition, const char *sentence,
                   sg_text *text) {
    sg_emit_long("    ", sg_emit_join(host, "if (!(%s))", condition), text);
    sg_text_add(text, "        return \"%s\";\n", sentence);
}
