/* Machine code of a translation unit, from the kernel cache or from NVRTC. */
#ifndef SEGUE_BUILD_CUBIN_H
#define SEGUE_BUILD_CUBIN_H

#include <stdbool.h>

#include "build/nvrtc.h"

typedef struct sg_cubin {
    const char *source;       /* in: a translation unit */
    const char *architecture; /* in: "sm_90a" */
    void *data;               /* out: malloc'ed */
    size_t size;
    bool from_cache;
} sg_cubin;

/* Builds all of them, side by side on threads where several have to be compiled. On failure none is
 * left, and the sentence is that of the first that failed. */
sg_status sg_cubins_build(sg_context *context, sg_cubin *cubins, int count);

#endif
