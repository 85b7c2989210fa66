/* A program: kernels in order, and where each finds its operands. Immutable once made. */
#ifndef SEGUE_RUN_PROGRAM_H
#define SEGUE_RUN_PROGRAM_H

#include "gen/cpu/kernel.h"
#include "run/cuda/sequence.h"
#include "segue.h"

/* One step. Operands are places: 0.. the program's inputs, then its outputs, then intermediates
 * that more than one step shares. */
typedef struct sg_program_step {
    sg_graph *graph;             /* bound and simplified; owned */
    const sg_cpu_kernel *kernel; /* NULL: the reference interpreter runs the graph */
    const sg_cuda_kernel *cuda;  /* instead, in a program for GPUs */
    int *inputs, *outputs;       /* places */
} sg_program_step;

struct sg_program {
    sg_arena arena;
    sg_context *context; /* for what goes wrong inside; owned */
    int input_count, output_count, intermediate_count;
    sg_layout *inputs, *outputs, *intermediates;
    sg_program_step *steps;
    int step_count;
    sg_cuda_sequence *cuda; /* programs for GPUs; else NULL */
    char *explanation;      /* malloc'ed */
    sg_work work;
};

/* Layout of a place, as steps count them. */
const sg_layout *sg_program_layout(const sg_program *program, int place);
/* Bytes an element range of this layout spans, from its first element to the end of its last. */
int64_t sg_layout_span(const sg_layout *layout);
/* Strides of the sizes in C order; strides of sizes 0 and 1 as PyTorch has them. */
void sg_layout_make_contiguous(sg_layout *layout);

/* The reference interpreter on memory of any layout and dtype. */
sg_status sg_run_reference(const sg_graph *graph, sg_context *context, const sg_layout *inputs,
                           const void *const *input_data, const sg_layout *outputs,
                           void *const *output_data);

#endif
