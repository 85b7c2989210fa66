/* The host's side of a unit: its one function, which checks, chooses a path, and fills words from
 * their formulas. */
#ifndef SEGUE_EMIT_HOST_H
#define SEGUE_EMIT_HOST_H

#include "emit/text.h"

typedef struct sg_emit_launch {
    const sg_emit_path *path;
    const sg_cuda_launch *launch;
    char name[48]; /* of its namespace */
    bool guarded;  /* for sm_90a alone */
} sg_emit_launch;

/* Finds what the parameters are. False when memory ran out. */
bool sg_emit_host_open(const sg_emission *emission, sg_emit_text *host);

/* The launches of all paths, in order; launches has room for all. */
int sg_emit_list_launches(const sg_emission *emission, sg_emit_launch *launches);

/* What a caller sees of the function: its tensors with their sizes in words, and its head. */
void sg_emit_describe(const sg_emit_text *host, sg_text *text);
void sg_emit_signature(const sg_emit_text *host, sg_text *text);

/* Everything behind the kernels; closes the namespace. */
void sg_emit_host(sg_emit_text *host, const sg_emit_launch *launches, int count, sg_text *text);

/* An element's type in plain C terms, for comments: "float", "half", "bfloat16", ... */
const char *sg_emit_type(sg_dtype dtype);

#endif
