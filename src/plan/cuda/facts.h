/* What strategies may ask about a tail before they plan. */
#ifndef SEGUE_PLAN_CUDA_FACTS_H
#define SEGUE_PLAN_CUDA_FACTS_H

#include "plan/cuda/strategy.h"
#include "plan/problem.h"

typedef struct sg_cuda_tail_facts {
    int channel_reductions; /* over channels; softmax and logsumexp count two */
    int tile_stores;        /* outputs with channels */
    int pixel_stores;       /* outputs without */
    int tile_loads;         /* operands that vary along channels and pixels */
    int channel_loads;      /* operands that vary along channels alone */
    int full_walks;         /* running values with channels; sums count two */
    int own_walks;          /* running values without; sums count two */
    double work;            /* instructions of pointwise ops for a channel of a pixel, about */
    bool splits_channels;   /* no op mixes channels: blocks may share them out */
} sg_cuda_tail_facts;

void sg_cuda_get_tail_facts(const sg_problem *problem, sg_cuda_tail_facts *facts);

/* Of fewer products than these, float32 makes a sum with fewer roundings than halves that are added
 * up by matrix cores. */
enum { SG_CUDA_FEW_PRODUCTS = 24 };

static inline int64_t sg_cuda_pieces(int64_t whole, int64_t piece) {
    return (whole + piece - 1) / piece;
}
static inline int64_t sg_cuda_round_up(int64_t number, int64_t step) {
    return sg_cuda_pieces(number, step) * step;
}

/* problem->bytes without rows of the input that strides skip. */
double sg_cuda_moved_bytes(const sg_problem *problem);
/* Values that a launch stores along channels. */
double sg_cuda_stored_values(const sg_problem *problem);
/* Whether rows of an output of floats begin within a sector of memory, 32 bytes, so that tiles
 * which share the row write it in parts. */
bool sg_cuda_splits_sectors(const sg_problem *problem);
/* Whether `count` columns of the convolution's input, at a multiple of count, are one access. */
bool sg_cuda_reads_columns(const sg_problem *problem, const sg_cuda_target *target, int64_t count);
/* Elements from end to end of one image and 256 more along each axis, which kernels may name. */
double sg_cuda_image_reach(const sg_convolution *convolution);

/* Instructions of a pointwise op, about; the ulp column tells cheap functions from costly ones. */
double sg_cuda_op_work(sg_op op);

#endif
