/* NVRTC, NVIDIA's run-time compiler of CUDA C, opened when first needed: a shared library of the
 * CUDA toolkit (or of a package of the host's) that need not be there to load Segue. Looked for at
 * SEGUE_NVRTC in the environment, at the path of sg_cuda_set_nvrtc, and by its names on the
 * loader's paths, in this order. Thread-safe. */
#ifndef SEGUE_BUILD_NVRTC_H
#define SEGUE_BUILD_NVRTC_H

#include <stddef.h>

#include "base/context.h"

/* Options beside the architecture; products and sums may be contracted, in kernels as in PyTorch's
 * own. */
#define SG_NVRTC_OPTIONS "-default-device --std=c++17 --fmad=true"

/* Opens NVRTC if it is not open; its version. SG_NOT_APPLICABLE, with a sentence, when there is
 * none. */
sg_status sg_nvrtc_open(sg_context *context, int *major, int *minor);

/* Compiles one translation unit. architecture: "sm_90a". On success *cubin is malloc'ed.
 * SG_NOT_APPLICABLE when NVRTC does not know the architecture, SG_INVALID, with the first lines of
 * what it printed, when it refuses the source. */
sg_status sg_nvrtc_compile(sg_context *context, const char *source, const char *architecture,
                           void **cubin, size_t *size);

#endif
