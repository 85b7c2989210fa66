/* Arena: memory that lives and dies together. One per graph and per compilation. Allocations are
 * zeroed, aligned to 16 bytes and never freed one by one. Running out of memory is remembered:
 * sg_arena_alloc then returns NULL, and sg_arena_failed says so, so that a pass may check once. */
#ifndef SEGUE_BASE_ARENA_H
#define SEGUE_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

typedef struct sg_arena_block sg_arena_block;
typedef struct sg_arena {
    sg_arena_block *head;
    bool failed;
} sg_arena;

/* size bytes of zeroed memory, or NULL. */
void *sg_arena_alloc(sg_arena *arena, size_t size);
/* Copy of length bytes of text, with a terminator. */
char *sg_arena_text(sg_arena *arena, const char *text, size_t length);
bool sg_arena_failed(const sg_arena *arena);
/* Frees everything; the arena is empty and usable again. */
void sg_arena_release(sg_arena *arena);

#define SG_ARENA_NEW(arena, type, count)                                                           \
    ((type *)sg_arena_alloc((arena), sizeof(type) * (size_t)(count)))

#endif
