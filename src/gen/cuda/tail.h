/* The parts of the tail generator (docs/cuda.md, "The tail"): tail.c puts the text together,
 * tail_values.c finds what is to be known of each value, tail_loops.c writes step and end, and
 * tail_ops.c the operators. */
#ifndef SEGUE_GEN_CUDA_TAIL_H
#define SEGUE_GEN_CUDA_TAIL_H

#include "gen/cuda/source.h"
#include "gen/tile/program.h"

typedef struct sg_tail {
    sg_cuda_arguments *arguments;
    const sg_problem *problem;
    const sg_cuda_target *target;
    const sg_graph *graph;
    sg_tile_program program;
    const sg_instruction **all; /* item, tile, after: in the order of definition */
    int count;
    const sg_instruction **made_by; /* [buffer]; NULL: the anchor, or nothing */
    int *level;           /* [buffer] channel reductions it waits for, one after another */
    bool *reduced;        /* [buffer] without channels, and known only for own pixels */
    bool *live;           /* [buffer] some store or running value needs it */
    int *channel_operand; /* [load] its number among per-channel operands, or -1 */
    int channel_operands;
    int *slot; /* [walk] its first in tile.walk, or its first own array */
    int full_slots, own_slots;

    /* While a function is written. */
    bool *needed;                   /* [buffer] by the function */
    bool *feeds_slots;              /* [buffer] without channels, and read where there are some */
    bool *own_ready, *pixels_ready; /* [buffer] an array w or v holds it */
    bool *held;                     /* [buffer] it stands in the place of the anchor's result */
    bool *wanted;                   /* [buffer] in the loop under way */
    bool *chosen;                   /* [buffer] to become an array */
    bool *marked;                   /* [instruction of all] done by the loop under way */
} sg_tail;

static inline sg_shape sg_tail_shape(const sg_tail *tail, int buffer) {
    return tail->program.buffers[buffer].shape;
}
static inline bool sg_tail_is_load(const sg_tail *tail, int buffer) {
    return tail->made_by[buffer] && tail->made_by[buffer]->kind == SG_INSTRUCTION_LOAD;
}
/* Where an effect, or a value, needs slots of channels. */
static inline bool sg_tail_is_full(const sg_tail *tail, int buffer) {
    return sg_tail_shape(tail, buffer) & SG_SHAPE_CHANNEL;
}

/* Encodes the problem and finds all of the above. SG_OUT_OF_MEMORY only. */
sg_status sg_tail_open(sg_cuda_arguments *arguments, const sg_cuda_target *target, sg_arena *arena,
                       sg_tail *tail);

/* Body of a function that takes a section's stores and running values in. */
void sg_tail_write_body(sg_tail *tail, const sg_section *section, sg_text *text);

/* What a pointwise instruction makes of operands: "v_min(v_max(v1, 0.0f), 6.0f)". */
void sg_tail_write_call(const sg_tail *tail, const sg_instruction *instruction,
                        const sg_text *operands, sg_text *text);
/* What a reduction begins with: "infinity()". */
const char *sg_tail_identity(sg_reduction reduction);
/* The function of two values that combines them: "v_min". */
const char *sg_tail_combine(sg_reduction reduction);
/* A number as the text writes it, exactly. */
void sg_tail_write_number(const sg_tail *tail, double value, sg_text *text);

#endif
