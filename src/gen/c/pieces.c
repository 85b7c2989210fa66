#include "gen/c/pieces.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

enum { PIECES_MAX = 256, NAME_MAX_LENGTH = 64 };

typedef struct piece {
    const char *text;
    size_t length;
    char name[NAME_MAX_LENGTH];
} piece;

typedef struct pieces {
    piece items[PIECES_MAX];
    int count;
} pieces;

const char *sg_c_type(sg_dtype dtype) {
    switch (dtype) {
    case SG_BOOL:
        return "uint8_t";
    case SG_F16:
    case SG_BF16:
        return "uint16_t";
    case SG_F64:
        return "double";
    default:
        assert(dtype == SG_F32);
        return "float";
    }
}

static bool in_word(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

/* Whether name stands in text as a word of its own. */
static bool names(const char *text, size_t length, const char *name) {
    size_t size = strlen(name);
    const char *end = text + length;
    for (const char *at = text; at + size <= end; at++) {
        if (memcmp(at, name, size) == 0 && (at == text || !in_word(at[-1])) &&
            (at + size == end || !in_word(at[size])))
            return true;
    }
    return false;
}

/* The word that ends before `end`. */
static void take_word(const char *end, char name[NAME_MAX_LENGTH]) {
    const char *at = end;
    while (in_word(at[-1]))
        at--;
    size_t length = (size_t)(end - at);
    assert(length < NAME_MAX_LENGTH);
    memcpy(name, at, length);
    name[length] = '\0';
}

/* What a piece defines: the function of its first line that begins with "static", or the type that
 * its last line names. */
static void find_name(piece *made) {
    const char *end = made->text + made->length;
    for (const char *line = made->text; line && line < end;
         line = memchr(line, '\n', (size_t)(end - line)), line = line ? line + 1 : NULL) {
        if (strncmp(line, "static ", 7) == 0) {
            take_word(strchr(line, '('), made->name);
            return;
        }
    }
    const char *last = end;
    while (last[-1] != ';')
        last--;
    take_word(last - 1, made->name);
}

static bool contains(const char *text, size_t length, const char *part) {
    size_t size = strlen(part);
    for (size_t i = 0; i + size <= length; i++) {
        if (memcmp(text + i, part, size) == 0)
            return true;
    }
    return false;
}

static void cut(const char *text, pieces *list) {
    while (*text) {
        const char *end = strstr(text, "\n\n");
        size_t length = end ? (size_t)(end - text) + 1 : strlen(text);
        if (*text != '#' && *text != '\n' && !contains(text, length, "#define ")) {
            assert(list->count < PIECES_MAX);
            piece *made = &list->items[list->count++];
            *made = (piece){.text = text, .length = length};
            find_name(made);
        }
        text = end ? end + 2 : text + length;
    }
}

/* Copy of a text with every `from` replaced. */
static const char *replaced(sg_arena *arena, const char *text, const char *from, const char *to) {
    size_t count = 0, size = strlen(from);
    for (const char *at = strstr(text, from); at; at = strstr(at + size, from))
        count++;
    char *copy = sg_arena_alloc(arena, strlen(text) + count * strlen(to) + 1), *end = copy;
    if (!copy)
        return "";
    for (const char *at = strstr(text, from); at; at = strstr(text, from)) {
        memcpy(end, text, (size_t)(at - text));
        end += at - text;
        end = stpcpy(end, to);
        text = at + size;
    }
    memcpy(end, text, strlen(text) + 1);
    return copy;
}

static const char *text_of(const char *name) {
    for (int i = 0; i < sg_c_text_count; i++) {
        if (strcmp(sg_c_texts[i].name, name) == 0)
            return sg_c_texts[i].text;
    }
    assert(!"kernels/c has the file");
    return "";
}

/* run.h, for one type of elements. */
static void cut_for_element(sg_arena *arena, sg_dtype dtype, pieces *list) {
    char suffix[16] = "_";
    strcat(suffix, sg_dtype_name(dtype));
    const char *text = replaced(arena, text_of("run.h"), "_element", suffix);
    cut(replaced(arena, text, "ELEMENT", sg_c_type(dtype)), list);
}

void sg_c_write_pieces(const char *used, sg_dtype compute, sg_arena *arena, sg_text *text) {
    pieces *list = SG_ARENA_NEW(arena, pieces, 1);
    if (!list)
        return;
    const char *real = compute == SG_F64 ? "double" : "float";
    cut(replaced(arena, text_of("basic.h"), "SEGUE_REAL", real), list);
    cut(text_of("half.h"), list);
    cut(text_of("tensor.h"), list);
    for (int dtype = SG_BOOL; dtype <= SG_F64; dtype++)
        cut_for_element(arena, (sg_dtype)dtype, list);
    cut(text_of(compute == SG_F64 ? "math_f64.h" : "math_f32.h"), list);
    /* A piece names only pieces before it. */
    bool *needed = SG_ARENA_NEW(arena, bool, list->count + 1);
    for (int i = list->count - 1; needed && i >= 0; i--) {
        needed[i] = names(used, strlen(used), list->items[i].name);
        for (int k = i + 1; k < list->count && !needed[i]; k++)
            needed[i] =
                needed[k] && names(list->items[k].text, list->items[k].length, list->items[i].name);
    }
    for (int i = 0; needed && i < list->count; i++) {
        if (needed[i])
            sg_text_add(text, "%.*s\n", (int)list->items[i].length, list->items[i].text);
    }
}
