/* Runs a kernel on a team of threads. */
#ifndef SEGUE_RUN_CPU_EXECUTE_H
#define SEGUE_RUN_CPU_EXECUTE_H

#include "gen/cpu/kernel.h"
#include "run/cpu/team.h"
#include "segue.h"

/* inputs and outputs are indexed by the kernel's operands. SG_OUT_OF_MEMORY only. */
sg_status sg_execute(const sg_cpu_kernel *kernel, sg_team *team, const void *const *inputs,
                     void *const *outputs);

/* Bytes of scratch memory that each thread uses, and that all share. */
size_t sg_scratch_size(const sg_cpu_kernel *kernel);
size_t sg_shared_size(const sg_cpu_kernel *kernel);

#endif
