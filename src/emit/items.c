#include "emit/items.h"

#include <ctype.h>
#include <string.h>

#include "gen/cuda/formula.h"

static bool is_letter(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

/* Behind a comment, a string or a character that begins here; `at` itself where none does. */
static const char *skip_opaque(const char *at) {
    if (at[0] == '/' && at[1] == '/')
        return at + strcspn(at, "\n");
    if (at[0] == '/' && at[1] == '*') {
        const char *end = strstr(at + 2, "*/");
        return end ? end + 2 : at + strlen(at);
    }
    if (at[0] != '"' && at[0] != '\'')
        return at;
    const char quote = *at++;
    while (*at && *at != quote)
        at += *at == '\\' && at[1] ? 2 : 1;
    return *at ? at + 1 : at;
}

static const char *skip_blank(const char *at) {
    for (;;) {
        const char *next = at + strspn(at, " \t\r\n");
        if (next[0] == '/' && (next[1] == '/' || next[1] == '*'))
            next = skip_opaque(next);
        if (next == at)
            return at;
        at = next;
    }
}

/* ---- cutting ------------------------------------------------------------------------------- */

/* Behind the comments that are not the next item's own: an empty line, or another comment in a
 * block, stands between. */
static const char *loose_comments(const char *at) {
    const char *loose = at;
    while (at[0] == '/' && (at[1] == '/' || at[1] == '*')) {
        bool block = at[1] == '*';
        at = skip_opaque(at);
        const char *next = at + strspn(at, " \t\r\n");
        int lines = 0;
        for (const char *c = at; c < next; c++)
            lines += *c == '\n';
        if (lines > 1 || !*next || (block && next[0] == '/' && next[1] == '*'))
            loose = at;
        at = next;
    }
    return loose;
}

/* Behind the item that begins here, and a comment on its last line. */
static const char *item_end(const char *at) {
    int depth = 0;
    bool ended = false;
    if (*at == '#') {
        while (*at && (*at != '\n' || at[-1] == '\\'))
            at++;
        return at;
    }
    while (*at && !ended) {
        const char *behind = skip_opaque(at);
        if (behind != at) {
            at = behind;
            continue;
        }
        depth += (*at == '{' || *at == '(') - (*at == '}' || *at == ')');
        ended = depth == 0 && *at == ';';
        if (depth == 0 && *at == '}')
            ended = *skip_blank(at + 1) != ';';
        at++;
    }
    const char *rest = at + strspn(at, " \t");
    return rest[0] == '/' && (rest[1] == '/' || rest[1] == '*') ? skip_opaque(rest) : at;
}

static void declare(sg_item *item, const char *at, int length) {
    if (item->name_count < SG_ITEM_NAMES_MAX)
        item->names[item->name_count++] = (sg_item_word){at, length};
}

static bool is(const char *at, int length, const char *word) {
    return (int)strlen(word) == length && memcmp(at, word, (size_t)length) == 0;
}

/* Names of types follow their keyword; those of constants and variables come before what gives
 * them a value or ends them; a function's comes before its parameters. */
static void find_names(sg_item *item, const char *at, const char *end) {
    static const char *const keywords[] = {"struct",    "enum",  "union",
                                           "namespace", "using", "#define"};
    int depth = 0;
    const char *word = NULL;
    int length = 0;
    bool type = false, constant = false;
    if (*at == '#')
        at++;
    for (; at < end; at++) {
        const char *behind = skip_opaque(at);
        if (behind != at) {
            at = behind - 1;
            continue;
        }
        if (is_letter(*at)) {
            const char *from = at;
            while (at + 1 < end && is_letter(at[1]))
                at++;
            if (depth > 0)
                continue;
            bool named = false;
            for (size_t i = 0; i < sizeof keywords / sizeof *keywords && word; i++)
                named |= is(word, length, keywords[i]) || is(word, length, "define");
            word = from;
            length = (int)(at + 1 - from);
            if (named) {
                declare(item, word, length);
                type = true;
            }
            constant |= is(word, length, "constexpr") || is(word, length, "typedef") ||
                        is(word, length, "__constant__");
            continue;
        }
        if (depth == 0 && word && !type) {
            bool function = *at == '(' && !constant;
            bool value = constant && (*at == '=' || *at == ';' || *at == '[');
            if (value)
                declare(item, word, length);
            if (function && !is(word, length, "__launch_bounds__") &&
                !is(word, length, "__align__")) {
                declare(item, word, length);
                return;
            }
            if (value && *at == '=') /* to the next name of the list */
                while (at + 1 < end && !(depth == 0 && (at[1] == ',' || at[1] == ';'))) {
                    at++;
                    depth += (*at == '(' || *at == '{') - (*at == ')' || *at == '}');
                }
        }
        depth += (*at == '{' || *at == '(') - (*at == '}' || *at == ')');
        if (*at == '{' && type)
            return;
        word = isspace((unsigned char)*at) ? word : NULL;
    }
}

bool sg_items_cut(const char *source, sg_arena *arena, sg_items *items) {
    *items = (sg_items){.count = 0};
    int capacity = 0;
    for (const char *at = source; *skip_blank(at);) {
        const char *from = at + strspn(at, " \t\r\n");
        const char *begin = skip_blank(at);
        if (items->count == capacity) {
            int larger = capacity ? capacity * 2 : 256;
            sg_item *moved = SG_ARENA_NEW(arena, sg_item, larger);
            if (!moved)
                return false;
            if (capacity)
                memcpy(moved, items->items, sizeof *moved * (size_t)capacity);
            items->items = moved;
            capacity = larger;
        }
        sg_item *item = &items->items[items->count++];
        const char *loose = loose_comments(from);
        at = loose > from ? loose : item_end(begin);
        *item = (sg_item){.text = {from, (int)(at - from)}};
        if (loose == from)
            find_names(item, begin, at);
    }
    return true;
}

/* ---- sharing ------------------------------------------------------------------------------- */

static bool same(sg_item_word a, sg_item_word b) {
    return a.length == b.length && memcmp(a.at, b.at, (size_t)a.length) == 0;
}

static bool declares(const sg_item *item, sg_item_word name) {
    for (int i = 0; i < item->name_count; i++) {
        if (same(item->names[i], name))
            return true;
    }
    return false;
}

static bool stands_in(const sg_items *items, const sg_item *item) {
    for (int i = 0; i < items->count; i++) {
        if (same(items->items[i].text, item->text))
            return true;
    }
    return false;
}

/* Whether an item with this name is not shared. */
static bool is_private(const sg_items *items, sg_item_word name) {
    for (int i = 0; i < items->count; i++) {
        const sg_item *item = &items->items[i];
        if (item->place != SG_ITEM_SHARED && declares(item, name))
            return true;
    }
    return false;
}

/* The next name in the item's text from *at on, comments and strings left out. */
static bool next_name(const sg_item *item, const char **at, sg_item_word *name) {
    const char *end = item->text.at + item->text.length;
    while (*at < end) {
        const char *behind = skip_opaque(*at);
        if (behind != *at) {
            *at = behind;
        } else if (is_letter(**at)) {
            const char *from = *at;
            while (*at < end && is_letter(**at))
                (*at)++;
            *name = (sg_item_word){from, (int)(*at - from)};
            return true;
        } else {
            (*at)++;
        }
    }
    return false;
}

static bool needs_private(const sg_items *sources, int count, const sg_item *item) {
    const char *at = item->text.at;
    sg_item_word name;
    while (next_name(item, &at, &name)) {
        for (int i = 0; i < count; i++) {
            if (is_private(&sources[i], name))
                return true;
        }
    }
    return false;
}

/* A comment on its own goes with the item behind it, if all sources have it. */
static void place_comments(sg_items *sources, int count) {
    for (int s = 0; s < count; s++) {
        for (int i = sources[s].count - 2; i >= 0; i--) {
            sg_item *item = &sources[s].items[i];
            if (item->name_count == 0 && item[1].place == SG_ITEM_SHARED) {
                bool alike = true;
                for (int other = 0; other < count && alike; other++)
                    alike = stands_in(&sources[other], item);
                item->place = alike ? SG_ITEM_SHARED : SG_ITEM_OWN;
            }
        }
    }
}

void sg_items_share(sg_items *sources, int count) {
    /* One type for each kernel, however alike. */
    const sg_item_word parameter = {"Arguments", sizeof "Arguments" - 1};
    for (int s = 0; s < count; s++) {
        for (int i = 0; i < sources[s].count; i++) {
            sg_item *item = &sources[s].items[i];
            bool alike = item->name_count > 0 && !declares(item, parameter);
            for (int other = 0; other < count && alike; other++)
                alike = stands_in(&sources[other], item);
            item->place = alike ? SG_ITEM_SHARED : SG_ITEM_OWN;
        }
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (int s = 0; s < count; s++) {
            for (int i = 0; i < sources[s].count; i++) {
                sg_item *item = &sources[s].items[i];
                if (item->place == SG_ITEM_SHARED && needs_private(sources, count, item)) {
                    item->place = SG_ITEM_OWN;
                    changed = true;
                }
            }
        }
    }
    place_comments(sources, count);
}

/* ---- templates ----------------------------------------------------------------------------- */

/* How a template names what stands for a private name: "class Pixels", "int ROW_BLOCKS"; NULL where
 * that is neither a struct nor a number in every source. */
static const char *parameter_for(const sg_items *sources, int count, sg_item_word name,
                                 sg_arena *arena) {
    const char *kind = NULL;
    for (int s = 0; s < count; s++) {
        const char *own = NULL;
        for (int i = 0; i < sources[s].count && !own; i++) {
            const sg_item *item = &sources[s].items[i];
            const char *code = skip_blank(item->text.at);
            if (declares(item, name))
                own = strncmp(code, "struct ", 7) == 0           ? "class"
                      : strncmp(code, "constexpr int ", 14) == 0 ? "int"
                                                                 : "";
        }
        if (!own || !*own || (kind && strcmp(kind, own) != 0))
            return NULL;
        kind = own;
    }
    return sg_cuda_formula(arena, "%s %.*s", kind, name.length, name.at);
}

/* The private names of a struct as parameters of a template and as arguments for it; false where
 * some cannot be any, or a template of a member is called, which would have to be told. */
static bool find_parameters(const sg_items *sources, int count, const sg_item *item,
                            sg_arena *arena, const char **parameters, const char **arguments) {
    enum { MOST = 4 };
    sg_item_word found[MOST], name;
    int length = 0;
    const char *at = skip_blank(item->text.at) + strlen("struct ");
    while (next_name(item, &at, &name)) {
        bool known = declares(item, name), private = false;
        if (name.at[-1] == '.' && *at == '<')
            return false;
        for (int i = 0; i < length; i++)
            known |= same(found[i], name);
        for (int s = 0; s < count; s++)
            private |= is_private(&sources[s], name);
        bool member = name.at[-1] == '.' || name.at[-1] == ':' ||
                      strncmp(name.at - 5, "void ", 5) == 0; /* declared here */
        if (known || member || !private)
            continue;
        const char *parameter = parameter_for(sources, count, name, arena);
        if (!parameter || length == MOST)
            return false;
        *parameters = length ? sg_cuda_formula(arena, "%s, %s", *parameters, parameter) : parameter;
        *arguments = length ? sg_cuda_formula(arena, "%s, %.*s", *arguments, name.length, name.at)
                            : sg_cuda_formula(arena, "%.*s", name.length, name.at);
        found[length++] = name;
    }
    return length > 0;
}

/* `name` becomes `name<arguments>` in the item. */
static void apply_arguments(sg_item *item, sg_item_word name, const char *arguments,
                            sg_arena *arena) {
    const char *at = item->text.at, *from = at, *end = at + item->text.length, *made = "";
    sg_item_word word;
    bool any = false;
    while (next_name(item, &at, &word)) {
        if (!same(word, name))
            continue;
        made = sg_cuda_formula(arena, "%s%.*s<%s>", made, (int)(at - from), from, arguments);
        from = at;
        any = true;
    }
    if (!any || !made)
        return;
    made = sg_cuda_formula(arena, "%s%.*s", made, (int)(end - from), from);
    if (made)
        item->text = (sg_item_word){made, (int)strlen(made)};
}

/* Makes a template of a struct that all sources have word for word. */
static bool make_template(sg_items *sources, int count, sg_item *item, sg_arena *arena) {
    const char *parameters = "", *arguments = "", *code = skip_blank(item->text.at);
    bool alike = item->place == SG_ITEM_OWN && item->name_count == 1 &&
                 strncmp(code, "struct ", 7) == 0 &&
                 !is(item->names[0].at, item->names[0].length, "Arguments");
    for (int s = 0; s < count && alike; s++)
        alike = stands_in(&sources[s], item);
    if (!alike || !find_parameters(sources, count, item, arena, &parameters, &arguments))
        return false;
    sg_item_word name = item->names[0], old = item->text;
    const char *text = sg_cuda_formula(arena, "%.*stemplate <%s>\n%.*s", (int)(code - old.at),
                                       old.at, parameters, (int)(old.at + old.length - code), code);
    if (!text)
        return false;
    for (int s = 0; s < count; s++) {
        for (int i = 0; i < sources[s].count; i++) {
            sg_item *other = &sources[s].items[i];
            if (same(other->text, old)) {
                other->text = (sg_item_word){text, (int)strlen(text)};
                other->place = SG_ITEM_SHARED;
            } else {
                apply_arguments(other, name, arguments, arena);
            }
        }
    }
    return true;
}

void sg_items_make_templates(sg_items *sources, int count, sg_arena *arena) {
    for (int i = 0; i < sources[0].count; i++)
        make_template(sources, count, &sources[0].items[i], arena);
    place_comments(sources, count);
}

static void hurry(sg_items *items, sg_item_word name) {
    for (int i = 0; i < items->count; i++) {
        sg_item *item = &items->items[i];
        if (item->place != SG_ITEM_OWN || !declares(item, name))
            continue;
        item->place = SG_ITEM_EARLY;
        const char *at = item->text.at;
        sg_item_word needed;
        while (next_name(item, &at, &needed))
            hurry(items, needed);
    }
}

void sg_items_hurry(sg_items *items, const char *name) {
    hurry(items, (sg_item_word){name, (int)strlen(name)});
}

/* ---- writing ------------------------------------------------------------------------------- */

void sg_items_write(const sg_items *items, sg_item_place place, sg_text *text) {
    const sg_item *last = NULL;
    for (int i = 0; i < items->count; i++) {
        const sg_item *item = &items->items[i];
        if (item->place != place)
            continue;
        /* Neighbours stay neighbours; else an empty line. */
        bool beside =
            last && last + 1 == item && item->text.at - (last->text.at + last->text.length) == 1;
        sg_text_add(text, "%s%.*s\n", beside ? "" : "\n", item->text.length, item->text.at);
        last = item;
    }
}
