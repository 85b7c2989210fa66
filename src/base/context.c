/* The context's message, and the debug switches. */
#include "base/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sg_note(sg_context *context, const char *format, ...) {
    /* Written aside first: an argument may be the old message itself. */
    char message[sizeof context->message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    memcpy(context->message, message, sizeof message);
}

int sg_debug(char letter) {
    /* The environment is not ours to change, so reading it each time is reading it once, and needs
     * no lock. */
    const char *letters = getenv("SEGUE_DEBUG");
    return letter && letters && strchr(letters, letter) != NULL;
}
