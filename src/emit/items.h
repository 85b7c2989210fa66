/* A source as a row of items: functions, types, constants and directives that stand at its top
 * level, each with the comment before it. */
#ifndef SEGUE_EMIT_ITEMS_H
#define SEGUE_EMIT_ITEMS_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/text.h"

enum { SG_ITEM_NAMES_MAX = 8 };

/* Where an item is written. */
typedef enum sg_item_place {
    SG_ITEM_OWN,    /* with its source */
    SG_ITEM_EARLY,  /* with its source, first of all */
    SG_ITEM_SHARED, /* before all sources */
} sg_item_place;

/* A piece of text. */
typedef struct sg_item_word {
    const char *at;
    int length;
} sg_item_word;

typedef struct sg_item {
    sg_item_word text;                     /* with the comment before it */
    sg_item_word names[SG_ITEM_NAMES_MAX]; /* that it declares */
    int name_count;
    sg_item_place place;
} sg_item;

typedef struct sg_items {
    sg_item *items;
    int count;
} sg_items;

/* Cuts a source of ours into items that point into it. False when memory ran out. */
bool sg_items_cut(const char *source, sg_arena *arena, sg_items *items);

/* Shares what all sources have alike: an item that stands in each, word for word, and needs nothing
 * that does not. Where a name has several declarations (overloads, namespaces) all of them are
 * shared or none. */
void sg_items_share(sg_items *sources, int count);

/* Then shares structs that all sources have word for word, too, but that need types or numbers of
 * their own: as templates. */
void sg_items_make_templates(sg_items *sources, int count, sg_arena *arena);

/* Makes early what declares `name`, and all that it needs and is not shared. */
void sg_items_hurry(sg_items *items, const char *name);

/* The text of the items of one place, in their order. */
void sg_items_write(const sg_items *items, sg_item_place place, sg_text *text);

#endif
