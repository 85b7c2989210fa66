/* The context: where the sentence for the last failure stands. */
#ifndef SEGUE_BASE_CONTEXT_H
#define SEGUE_BASE_CONTEXT_H

#include "segue.h"

struct sg_context {
    char message[1024];
};

/* Writes the message and is status, so that a check is one line:
 * return sg_fail(context, SG_INVALID, "amin: dim %d is out of range for rank %d", ...).
 * A macro, so that compilers and analysers see at the call that the status is not SG_OK. */
#define sg_fail(context, status, ...) (sg_note((context), __VA_ARGS__), (status))
/* SG_OUT_OF_MEMORY with its sentence. */
#define sg_fail_memory(context) sg_fail((context), SG_OUT_OF_MEMORY, "out of memory")

/* Writes the message alone. An argument may be the old one. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void sg_note(sg_context *context, const char *format, ...);

/* Whether a letter stands in the environment's SEGUE_DEBUG: v verify after every pass, and a dump
 * to stderr after each stage: p parse, s simplify, r regions, l plan, t tile program, k CUDA
 * sources. u leaves CUDA sources untrimmed. */
int sg_debug(char letter);

#endif
