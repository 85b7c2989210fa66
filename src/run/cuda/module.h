/* Kernels loaded on devices, for the whole process: programs of different sizes often share their
 * source, and then share the loaded code too. Nothing is ever unloaded, since work that was
 * enqueued or captured into a graph may outlive the program it came from; the sources of a process
 * are few. */
#ifndef SEGUE_RUN_CUDA_MODULE_H
#define SEGUE_RUN_CUDA_MODULE_H

#include "gen/cuda/kernel.h"
#include "run/cuda/driver.h"

/* Builds and loads what `count` launches need on a device, all at once, and gives their functions.
 * The device's context is current. Thread-safe. */
sg_status sg_cuda_load(sg_context *context, const sg_cuda_driver *driver, int device,
                       const char *architecture, const sg_cuda_launch *const *launches, int count,
                       sg_cu_function *functions);

#endif
