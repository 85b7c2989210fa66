/* Growing text: vsnprintf into a buffer that doubles. */
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static bool reserve(sg_text *text, size_t extra) {
    if (text->failed)
        return false;
    if (text->capacity - text->length > extra) /* strictly: the terminator */
        return true;
    size_t capacity = text->capacity ? text->capacity : 64;
    while (capacity - text->length <= extra)
        capacity *= 2;
    char *data = realloc(text->data, capacity);
    if (!data) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->capacity = capacity;
    text->data[text->length] = 0;
    return true;
}

void sg_text_add(sg_text *text, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0)
        text->failed = true;
    else if (reserve(text, (size_t)length)) {
        vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
}

char *sg_text_take(sg_text *text) {
    char *taken = reserve(text, 0) ? text->data : NULL;
    if (!taken)
        free(text->data);
    *text = (sg_text){0};
    return taken;
}

void sg_text_release(sg_text *text) {
    free(text->data);
    *text = (sg_text){0};
}
