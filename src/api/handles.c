/* Handles that hold little: the context, strings, the version. */
#include <stdlib.h>

#include "base/context.h"

#define TEXT_OF(x)    #x
#define JOIN(a, b, c) TEXT_OF(a) "." TEXT_OF(b) "." TEXT_OF(c)

const char *sg_version(void) {
    return JOIN(SG_VERSION_MAJOR, SG_VERSION_MINOR, SG_VERSION_PATCH);
}

sg_status sg_context_create(sg_context **context) {
    sg_context *made = calloc(1, sizeof *made);
    if (!made)
        return SG_OUT_OF_MEMORY;
    *context = made;
    return SG_OK;
}

void sg_context_destroy(sg_context *context) {
    free(context);
}

const char *sg_context_message(const sg_context *context) {
    return context->message;
}

void sg_string_free(char *text) {
    free(text);
}
