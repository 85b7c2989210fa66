/* The context: where the sentence for the last failure stands. */
#ifndef SEGUE_BASE_CONTEXT_H
#define SEGUE_BASE_CONTEXT_H

#include "segue.h"

struct sg_context {
    char message[1024];
};

/* Writes the message and returns status, so that a check is one line:
 * return sg_fail(context, SG_INVALID, "amin: dim %d is out of range for rank %d", ...). */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
sg_status sg_fail(sg_context *context, sg_status status, const char *format, ...);
/* SG_OUT_OF_MEMORY with its sentence. */
sg_status sg_fail_memory(sg_context *context);

/* Whether a letter stands in the environment's SEGUE_DEBUG: v verify after every pass, and a dump to
 * stderr after each stage: p parse, s simplify, r regions, l plan, t tile program. */
int sg_debug(char letter);

#endif
