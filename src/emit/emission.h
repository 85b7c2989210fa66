/* Writing a region down: CUDA source that needs nothing of ours, from the launches that lowering
 * made.
 *
 * A text has two paths. The first is the planner's choice for the GPU and the layouts given, with
 * all that it assumes of sizes, strides and addresses (gen/cuda/kernel.h). The second assumes next
 * to nothing and is for sm_80 and later. What both say alike stands once, before them. The host
 * function behind them takes the first path where its assumptions hold and else the second, and
 * fills the words from their formulas (gen/cuda/formula.h): what a compiled program knows as
 * numbers stands here for any batch and image. Tensors are dense, in the order of dimensions
 * planned for, so that strides follow from sizes. */
#ifndef SEGUE_EMIT_EMISSION_H
#define SEGUE_EMIT_EMISSION_H

#include "base/text.h"
#include "gen/cuda/kernel.h"

/* One tensor of the caller's, in the order of the original graph: inputs, then outputs. */
typedef struct sg_emit_member {
    const char *name; /* a C identifier, unique */
    sg_layout layout; /* that was planned for */
    bool output;
} sg_emit_member;

typedef struct sg_emit_path {
    const sg_problem *problem;
    const sg_cuda_target *target;
    const sg_cuda_choice *choice;
    const sg_cuda_kernel *kernel;
} sg_emit_path;

enum { SG_EMIT_PATHS = 2 };

typedef struct sg_emission {
    const char *name;      /* of the function, a C identifier */
    const sg_graph *graph; /* the region's */
    const sg_emit_member *members;
    int member_count;
    const int *input_member, *output_member; /* of each input and output of the region's graph */
    sg_emit_path paths[SG_EMIT_PATHS];
    int path_count; /* 1: the first assumes nothing that the second would not */
    sg_arena *arena;
} sg_emission;

/* Bytes that a call works in, at the most of all paths. */
int64_t sg_emit_workspace(const sg_emission *emission);

/* The parts of a text, see sg_emit_part in segue.h. SG_OUT_OF_MEMORY only. */
sg_status sg_emit_unit(const sg_emission *emission, bool with_declarations, sg_text *text);
sg_status sg_emit_header(const sg_emission *emission, sg_text *text);
sg_status sg_emit_cmake(const sg_emission *emission, sg_text *text);

#endif
