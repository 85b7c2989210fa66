/* Source text from skeletons: files of kernels/cuda with holes.
 *
 * A hole is a line "//@ name"; what fills it is text from the lowering. "//@ include FILE" stands
 * for another file of kernels/cuda, taken in at its first mention only. */
#ifndef SEGUE_GEN_CUDA_SOURCE_H
#define SEGUE_GEN_CUDA_SOURCE_H

#include "base/text.h"
#include "gen/cuda/arguments.h"
#include "plan/cuda/facts.h"

/* ---- the tail ------------------------------------------------------------------------------ */
/* Writes `struct Tail` and its constants (docs/cuda.md) and adds the tensors it reads and writes,
 * load0.. and store0.., to the arguments. The text stands between two lines, for dumps. */
#define SG_CUDA_TAIL_BEGIN "// ---- tail"
#define SG_CUDA_TAIL_END   "// ---- end of tail"
sg_status sg_cuda_write_tail(const sg_problem *problem, const sg_cuda_target *target,
                             sg_arena *arena, sg_cuda_arguments *arguments, sg_text *tail);

/* ---- the whole ----------------------------------------------------------------------------- */
typedef struct sg_cuda_hole {
    const char *name, *text;
} sg_cuda_hole;

/* skeleton: a file's name, "conv_direct.cuh". The text lives in the arena. A hole without a filling
 * and a filling without a hole are bugs of ours, and asserted. Only the hole "real" of common.cuh
 * may be left out: `real` is then float. SG_OUT_OF_MEMORY only. */
sg_status sg_cuda_compose(sg_arena *arena, const char *skeleton, const sg_cuda_hole *holes,
                          int hole_count, const char **source);

#endif
