/* The pipeline's insides, shared by the calls of the public header. */
#ifndef SEGUE_API_PIPELINE_H
#define SEGUE_API_PIPELINE_H

#include "gen/cpu/lower.h"
#include "plan/partition.h"
#include "plan/strategy.h"
#include "run/program.h"

/* One region with concrete sizes on its way to a kernel. */
typedef struct sg_compilation {
    const sg_graph *graph;
    const sg_layout *inputs, *outputs;
    sg_target target;
    const sg_cpu_kernels *isa; /* for the region's compute type */
    sg_region region;
    sg_problem problem;
    sg_choice choice;
} sg_compilation;

/* The kernel tables of an instruction set; NULL where the build has none. */
const sg_cpu_kernels *sg_kernels_get(sg_isa isa, sg_dtype compute);

/* Target for options (NULL: defaults). SG_INVALID for an unknown or unsupported instruction set. */
sg_status sg_target_create(sg_context *context, const sg_compile_options *options,
                           sg_target *target);

/* Plans and lowers one region into a kernel in the arena. SG_NOT_APPLICABLE, with a sentence, when
 * no strategy takes it. tune: measure candidates and remember the best. The caller closes the
 * region. */
sg_status sg_compile_region(sg_compilation *compilation, bool tune, sg_arena *arena,
                            sg_cpu_kernel **kernel);

/* Replaces the choice by the fastest of the candidates, measured on memory of its own. */
sg_status sg_tune_region(sg_compilation *compilation);

/* Tile programs of all steps, the same text on every machine. */
void sg_program_print_tiles(const sg_program *program, sg_text *text);

/* What SEGUE_DEBUG asks for, to the standard error: each call prints if the stage's letter is there
 * (base/context.h). */
void sg_trace_graph(char letter, const char *stage, const sg_graph *graph);
void sg_trace_partition(const sg_partition *partition);
void sg_trace_program(const sg_program *program);

#endif
