/* The host's side of a unit: sizes, checks, and words from their formulas. */
#ifndef SEGUE_EMIT_HOST_H
#define SEGUE_EMIT_HOST_H

#include "emit/emission.h"

typedef struct sg_emit_launch {
    const sg_emit_path *path;
    const sg_cuda_launch *launch;
    char name[48]; /* of its namespace */
    bool guarded;  /* for sm_90a alone */
} sg_emit_launch;

/* The launches of all paths, in order; launches has room for all. */
int sg_emit_list_launches(const sg_emission *emission, sg_emit_launch *launches);

/* Everything behind the kernels; closes the namespace. asked: a caller may ask for the workspace.
 */
void sg_emit_host(const sg_emission *emission, const sg_emit_launch *launches, int count,
                  bool asked, sg_text *text);

/* An element's type in plain C terms, for comments: "float", "half", "bfloat16", ... */
const char *sg_emit_type(sg_dtype dtype);

#endif
