/* The pipeline's part for GPUs, shared by the calls of the public header. */
#ifndef SEGUE_API_CUDA_H
#define SEGUE_API_CUDA_H

#include "gen/cuda/kernel.h"
#include "run/program.h"

/* One region with concrete sizes on its way to kernels. */
typedef struct sg_cuda_compilation {
    const sg_graph *graph;
    const sg_layout *inputs, *outputs;
    sg_cuda_target target;
    int device;           /* that the target was read from; -1: none, an architecture was named */
    const char *strategy; /* NULL: any */
    sg_region region;
    sg_problem problem;
    sg_cuda_choice choice;
} sg_cuda_compilation;

/* Target for options, whose gpu is given. SG_INVALID for what is unknown, SG_NOT_APPLICABLE where
 * the driver or the device will not do. */
sg_status sg_cuda_target_create(sg_context *context, const sg_compile_options *options,
                                sg_cuda_target *target, int *device);

/* Plans and lowers one region into a kernel in the arena. SG_NOT_APPLICABLE, with a sentence, when
 * no strategy takes it. tune: measure candidates on the device and remember the best. The caller
 * closes the region. */
sg_status sg_cuda_compile_region(sg_cuda_compilation *compilation, bool tune, sg_arena *arena,
                                 sg_cuda_kernel **kernel);

/* Whether fusing pays, given expected seconds of the fused kernels, of the operators one by one,
 * and of the library for the anchors with streaming kernels for the rest, to which some are added
 * for the host's own work:
 *
 *     fused <= 0.9 one by one, fused <= library        SG_OK
 *     library < fused, library <= 0.9 one by one       SG_NOT_APPLICABLE, "library: ..."
 *     else                                             SG_NOT_APPLICABLE
 *
 * A host that is told "library:" gains by running each anchor by itself, as it always did, and
 * compiling what follows as a region of its own. */
sg_status sg_cuda_judge(sg_context *context, double fused, double one_by_one, double library);

/* Replaces the choice by the fastest of the candidates, measured on the compilation's device. */
sg_status sg_cuda_tune_region(sg_cuda_compilation *compilation);

/* A region's strategy, plan and launches, for people. */
void sg_cuda_explain(const sg_cuda_compilation *compilation, const sg_cuda_kernel *kernel,
                     sg_text *text);

/* Lays out the workspace of a program whose steps are all compiled, intermediates first, and
 * strings their launches together. alignment: as in sg_compile_options, 0 counting as 16. */
sg_status sg_cuda_link(sg_context *context, sg_program *program, const sg_gpu *gpu, int alignment);

#endif
