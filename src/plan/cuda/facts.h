/* What strategies may ask about a tail before they plan. */
#ifndef SEGUE_PLAN_CUDA_FACTS_H
#define SEGUE_PLAN_CUDA_FACTS_H

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

/* Instructions of a pointwise op, about; the ulp column tells cheap functions from costly ones. */
double sg_cuda_op_work(sg_op op);

#endif
