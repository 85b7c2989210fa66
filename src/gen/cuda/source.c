#include "gen/cuda/source.h"

#include <assert.h>
#include <string.h>

#include "base/context.h"
#include "gen/cuda/skeletons.h"
#include "gen/cuda/trim.h"

/* ---- composing ----------------------------------------------------------------------------- */

enum { INCLUDES_MAX = 32, HOLES_MAX = 32 };

/* What a unit has taken in so far. */
typedef struct composition {
    const sg_cuda_hole *holes;
    int hole_count;
    bool filled[HOLES_MAX];
    const char *included[INCLUDES_MAX];
    int included_count;
    sg_text text;
} composition;

static void add_text(composition *unit, const char *text);

static bool is_word(const char *text, size_t length, const char *word) {
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

static void include(composition *unit, const char *name, size_t length) {
    for (int i = 0; i < unit->included_count; i++) {
        if (is_word(name, length, unit->included[i])) {
            return;
        }
    }
    for (int i = 0; i < sg_skeleton_count; i++) {
        if (is_word(name, length, sg_skeletons[i].name)) {
            assert(unit->included_count < INCLUDES_MAX);
            unit->included[unit->included_count++] = sg_skeletons[i].name;
            sg_text_add(&unit->text, "//@ begin %.*s\n", (int)length, name);
            add_text(unit, sg_skeletons[i].text);
            sg_text_add(&unit->text, "//@ end\n");
            return;
        }
    }
    assert(!"a skeleton includes a file of kernels/cuda");
}

static void fill(composition *unit, const char *name, size_t length) {
    for (int i = 0; i < unit->hole_count; i++) {
        if (is_word(name, length, unit->holes[i].name)) {
            unit->filled[i] = true;
            add_text(unit, unit->holes[i].text);
            return;
        }
    }
    assert(is_word(name, length, "real") && "every hole has a filling");
    add_text(unit, "using real = float;\n");
}

/* Copies text line by line; holes and includes may stand in fillings and included files too. */
static void add_text(composition *unit, const char *text) {
    static const char mark[] = "//@ ", verb[] = "include ";
    while (*text) {
        size_t length = strcspn(text, "\n");
        size_t indent = strspn(text, " ");
        const char *word = text + indent + strlen(mark);
        if (indent + strlen(mark) < length && strncmp(text + indent, mark, strlen(mark)) == 0) {
            size_t rest = length - indent - strlen(mark);
            if (strncmp(word, verb, strlen(verb)) == 0) {
                include(unit, word + strlen(verb), rest - strlen(verb));
            } else {
                fill(unit, word, rest);
            }
        } else {
            sg_text_add(&unit->text, "%.*s\n", (int)length, text);
        }
        text += length + (text[length] == '\n');
    }
}

sg_status sg_cuda_compose(sg_arena *arena, const char *skeleton, const sg_cuda_hole *holes,
                          int hole_count, const char **source) {
    assert(hole_count <= HOLES_MAX);
    composition unit = {.holes = holes, .hole_count = hole_count};
    include(&unit, skeleton, strlen(skeleton));
    for (int i = 0; i < hole_count; i++) {
        assert(unit.filled[i] && "every filling has a hole");
    }
    *source = NULL;
    if (!unit.text.failed)
        *source = sg_debug('u') ? sg_arena_text(arena, unit.text.data, unit.text.length)
                                : sg_cuda_trim(arena, unit.text.data);
    sg_text_release(&unit.text);
    return *source ? SG_OK : SG_OUT_OF_MEMORY;
}
