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
        static const char processors[] = "most(1, s.processors)";
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

/* A formula with the caller's names for tensors: "input0.size[1]" -> "t.x.size[1]". */
const char *sg_emit_spell(const sg_emit_text *host, const char *formula) {
    const sg_emission *emission = host->emission;
    sg_text text = {0};
    for (const char *at = formula; *at;) {
        long index = 0;
        int length = 0;
        bool begins = at == formula || (!sg_emit_is_letter(at[-1]) && at[-1] != '.');
        bool input = begins && reads_tensor(at, "input", &index, &length);
        bool output = begins && reads_tensor(at, "output", &index, &length);
        if (input || output) {
            const int *members = input ? emission->input_member : emission->output_member;
            sg_text_add(&text, "t.%s", emission->members[members[index]].name);
            at += length;
        } else {
            sg_text_add(&text, "%c", *at++);
        }
    }
    char *made = text.data ? sg_arena_text(emission->arena, text.data, text.length) : NULL;
    if (made)
        simplify(made);
    sg_text_release(&text);
    return made ? made : "";
}

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
