/* Arena: a list of blocks, each larger than the last, allocations cut from the newest. */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 16, FIRST_BLOCK = 4096, LARGEST_BLOCK = 1 << 20 };

/* The header is padded so that what follows it keeps the alignment. */
struct sg_arena_block {
    sg_arena_block *next;
    size_t used, capacity;
    size_t padding;
};
_Static_assert(sizeof(sg_arena_block) % ALIGNMENT == 0, "the first allocation must be aligned");

static sg_arena_block *new_block(sg_arena *arena, size_t size) {
    size_t capacity = arena->head ? arena->head->capacity * 2 : FIRST_BLOCK;
    if (capacity > LARGEST_BLOCK)
        capacity = LARGEST_BLOCK;
    if (capacity < size)
        capacity = size;
    sg_arena_block *block = calloc(1, sizeof *block + capacity);
    if (!block)
        return NULL;
    block->capacity = capacity;
    block->next = arena->head;
    arena->head = block;
    return block;
}

void *sg_arena_alloc(sg_arena *arena, size_t size) {
    if (arena->failed)
        return NULL;
    if (size > SIZE_MAX / 4) { /* a negative count that was cast */
        arena->failed = true;
        return NULL;
    }
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (size == 0)
        size = ALIGNMENT; /* NULL means failure, so an empty array has an address too */
    sg_arena_block *block = arena->head;
    if (!block || block->capacity - block->used < size)
        block = new_block(arena, size);
    if (!block) {
        arena->failed = true;
        return NULL;
    }
    void *memory = (char *)(block + 1) + block->used;
    block->used += size;
    return memory;
}

char *sg_arena_text(sg_arena *arena, const char *text, size_t length) {
    char *copy = sg_arena_alloc(arena, length + 1);
    if (copy && length > 0)
        memcpy(copy, text, length);
    return copy;
}

bool sg_arena_failed(const sg_arena *arena) {
    return arena->failed;
}

void sg_arena_release(sg_arena *arena) {
    while (arena->head) {
        sg_arena_block *next = arena->head->next;
        free(arena->head);
        arena->head = next;
    }
    arena->failed = false;
}
