/* Growing text, for printers and JSON. Ends with a terminator at all times; failed is set when
 * memory ran out, and later appends do nothing. */
#ifndef SEGUE_BASE_TEXT_H
#define SEGUE_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct sg_text {
    char *data; /* malloc'ed; NULL while empty */
    size_t length, capacity;
    bool failed;
} sg_text;

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void sg_text_add(sg_text *text, const char *format, ...);
/* Gives the text away (to be freed by sg_string_free); "" when nothing was added, NULL when memory
 * ran out. */
char *sg_text_take(sg_text *text);
void sg_text_release(sg_text *text);

#endif
