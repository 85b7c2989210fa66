/* A region with concrete sizes and layouts: everything a strategy must know to judge and to lower
 * it.
 *
 * The region's axes get roles: image (N), channel (C) and pixels (D, H, W). With a convolution they
 * are its own; without one, neighbouring axes that every operand stores as one are merged first, so
 * that most pointwise regions become one long row. Walked axes are always pixels. */
#ifndef SEGUE_PLAN_PROBLEM_H
#define SEGUE_PLAN_PROBLEM_H

#include "plan/region.h"

enum { SG_ROLE_N, SG_ROLE_C, SG_ROLE_D, SG_ROLE_H, SG_ROLE_W, SG_ROLE_COUNT };
enum { SG_SPATIAL_MAX = 3 }; /* D, H, W: roles SG_ROLE_D + i */

/* A tensor as a region sees it: element strides by role, 0 where it does not vary. */
typedef struct sg_operand {
    int index; /* of the graph's inputs, or of its outputs; -1: there is none */
    sg_dtype dtype;
    int64_t stride[SG_ROLE_COUNT];
    unsigned domain; /* roles it varies along, as bits */
    /* Where each stride comes from: 1 + the tensor's dimension, 0: from none; and the axes, as
     * bits, whose sizes that dimension's stride is multiplied by, those inside of one it was merged
     * with.
     */
    unsigned char dim[SG_ROLE_COUNT], step[SG_ROLE_COUNT];
} sg_operand;

/* One reading of a graph input by a node. */
typedef struct sg_access {
    sg_value node;
    int place; /* operand of the node */
    sg_operand operand;
} sg_access;

/* A convolution; absent spatial roles have kernel 1, stride 1 and input 1. */
typedef struct sg_convolution {
    sg_operand input;  /* C: input channel */
    sg_operand weight; /* N: output channel, C: input channel of the group, pixels: kernel taps */
    sg_operand bias;   /* C: output channel */
    int64_t in_channels, groups;
    int64_t in_size[SG_SPATIAL_MAX], kernel[SG_SPATIAL_MAX], stride[SG_SPATIAL_MAX],
        padding[SG_SPATIAL_MAX], dilation[SG_SPATIAL_MAX];
} sg_convolution;

typedef struct sg_problem {
    const sg_region *region;
    sg_dtype compute; /* SG_F32 or SG_F64 */
    int64_t size[SG_ROLE_COUNT];
    int role[SG_AXIS_COUNT];        /* of each axis of the region */
    unsigned axes[SG_ROLE_COUNT];   /* axes of each role, as bits: several were merged */
    int merged_into[SG_AXIS_COUNT]; /* 1 + the axis inside, 0: not merged */
    unsigned walk;                  /* walked roles, as bits */
    bool flat; /* runs go along H and W, which share one fate, else along W alone */
    bool has_convolution;
    sg_convolution convolution;
    sg_access *accesses; /* in the arena; the convolution's own operands not among them */
    int access_count;
    sg_operand *outputs; /* one per graph output, in order */
    int output_count;
    double flops; /* of the contraction */
    double bytes; /* inputs and outputs once */
} sg_problem;

/* region must cover its graph, whose sizes are constants. SG_NOT_APPLICABLE, with a sentence, when
 * the axes cannot be given roles. Results live in the arena. */
sg_status sg_problem_create(const sg_region *region, const sg_layout *inputs,
                            const sg_layout *outputs, sg_arena *arena, sg_problem *problem);

/* Whether the anchor multiplies bfloat16 two channels at a time, where the processor can. */
bool sg_problem_pairs(const sg_problem *problem);
/* What the contraction takes one after the other of a group: input channels, or pairs of them. */
int64_t sg_convolution_depth(const sg_convolution *convolution, bool pairs);

/* Roles a value runs along, as bits. */
unsigned sg_problem_domain(const sg_problem *problem, sg_value value);
/* Whether a pixel axis (0: D, 1: H, 2: W) is walked. */
static inline bool sg_problem_walks(const sg_problem *problem, int axis) {
    return problem->walk >> (SG_ROLE_D + axis) & 1U;
}
/* Roles of a run: W, and H if flat. */
unsigned sg_problem_run_roles(const sg_problem *problem);

#endif
