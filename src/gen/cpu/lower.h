/* Lowering: a problem and a plan become a kernel. The slab's geometry is in slab.c,
 * the text that people read in print.c. */
#ifndef SEGUE_GEN_CPU_LOWER_H
#define SEGUE_GEN_CPU_LOWER_H

#include "base/text.h"
#include "gen/cpu/kernel.h"

/* kernel lives in the arena. The plan must satisfy the limits that sg_slab_measure checks.
 * SG_OUT_OF_MEMORY, or SG_NOT_APPLICABLE with a sentence. */
sg_status sg_lower_cpu(const sg_problem *problem, const sg_cpu_plan *plan,
                       const sg_cpu_kernels *isa, sg_arena *arena, sg_cpu_kernel **kernel);

/* Slab, tap offsets and channel blocks of a kernel whose convolution and plan are set. */
sg_status sg_lay_out_slab(const sg_problem *problem, sg_arena *arena, sg_cpu_kernel *kernel);

/* The tile program as text, the same on every machine. */
void sg_tile_program_print(const sg_cpu_kernel *kernel, const sg_graph *graph, sg_text *text);
/* The kernel as text: sizes, plan, slab, tile program. */
void sg_cpu_kernel_print(const sg_cpu_kernel *kernel, const sg_graph *graph, sg_text *text);

#endif
