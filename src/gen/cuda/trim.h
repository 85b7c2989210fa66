/* Makes a composed source short: what this kernel does not use goes, and what its constants decide
 * is decided.
 *
 * Takes the text of one translation unit in the subset of CUDA C++ that skeletons are written in
 * (docs/cuda.md), with lines "//@ begin FILE" and "//@ end" around what came from one file of
 * kernels/cuda. Gives a text that means the same to a compiler, formatted, without those lines.
 * Names in capitals are constants or parameters of templates, and nothing else. A text that is not
 * of the subset comes back as it is, or less shortened. */
#ifndef SEGUE_GEN_CUDA_TRIM_H
#define SEGUE_GEN_CUDA_TRIM_H

#include "base/arena.h"

/* The result lives in `arena`; NULL where memory ran out. */
const char *sg_cuda_trim(sg_arena *arena, const char *source);

#endif
