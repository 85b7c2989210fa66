/* What PyTorch takes for a region on a GPU, operator by operator: the other side of every decision.
 * Rates are fitted to one H200 (bench/gpu_rates.py prints the table they come from) and err toward
 * PyTorch's being fast, so that a region is left to it in doubt. */
#ifndef SEGUE_PLAN_CUDA_HOST_H
#define SEGUE_PLAN_CUDA_HOST_H

#include "plan/cuda/strategy.h"

/* Seconds of all operators of the region, one after the other. */
double sg_cuda_cost_host(const sg_problem *problem, const sg_cuda_target *target);
/* Seconds of the anchor by the library, bias included, and of the rest as one streaming kernel;
 * infinite without an anchor, or where nothing follows it. */
double sg_cuda_cost_library(const sg_problem *problem, const sg_cuda_target *target);

#endif
