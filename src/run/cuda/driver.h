/* The CUDA driver, opened when first needed: libcuda.so.1, which comes with NVIDIA's kernel driver
 * and need not be there to load Segue. Its types and numbers are repeated here from cuda.h, which
 * need not be there to build Segue. Everything is thread-safe; once open it stays so. */
#ifndef SEGUE_RUN_CUDA_DRIVER_H
#define SEGUE_RUN_CUDA_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/context.h"
#include "target/gpu.h"

typedef int sg_cu_result; /* CUresult */
typedef int sg_cu_device; /* CUdevice */
typedef struct sg_cu_context_object *sg_cu_context;
typedef struct sg_cu_module_object *sg_cu_module;
typedef struct sg_cu_function_object *sg_cu_function;
typedef struct sg_cu_stream_object *sg_cu_stream;
typedef struct sg_cu_event_object *sg_cu_event;
typedef uint64_t sg_cu_address; /* CUdeviceptr */

enum {
    SG_CU_SUCCESS = 0,
    SG_CU_MAX_DYNAMIC_SHARED = 8,       /* CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES */
    SG_CU_NON_PORTABLE_CLUSTER = 14,    /* CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED */
    SG_CU_LAUNCH_CLUSTER_DIMENSION = 4, /* CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION */
    SG_CU_LAUNCH_EARLY = 6              /* CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION */
};

/* CUlaunchAttribute: an id, padded to 8 bytes, and a union of 64. */
typedef struct sg_cu_launch_attribute {
    int id, padding;
    unsigned value[16];
} sg_cu_launch_attribute;

/* CUlaunchConfig */
typedef struct sg_cu_launch_config {
    unsigned grid[3], block[3], shared;
    sg_cu_stream stream;
    sg_cu_launch_attribute *attributes;
    unsigned attribute_count;
} sg_cu_launch_config;

typedef struct sg_cuda_driver {
    sg_cu_result (*get_error_string)(sg_cu_result result, const char **text);
    sg_cu_result (*init)(unsigned flags);
    sg_cu_result (*device_count)(int *count);
    sg_cu_result (*device_get)(sg_cu_device *device, int index);
    sg_cu_result (*device_name)(char *name, int size, sg_cu_device device);
    sg_cu_result (*device_attribute)(int *value, int attribute, sg_cu_device device);
    sg_cu_result (*primary_retain)(sg_cu_context *context, sg_cu_device device);
    sg_cu_result (*get_current)(sg_cu_context *context);
    sg_cu_result (*push_current)(sg_cu_context context);
    sg_cu_result (*pop_current)(sg_cu_context *context);
    sg_cu_result (*module_load)(sg_cu_module *module, const void *image);
    sg_cu_result (*module_unload)(sg_cu_module module);
    sg_cu_result (*module_function)(sg_cu_function *function, sg_cu_module module,
                                    const char *name);
    sg_cu_result (*function_set)(sg_cu_function function, int attribute, int value);
    sg_cu_result (*launch)(sg_cu_function function, unsigned grid_x, unsigned grid_y,
                           unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                           unsigned shared, sg_cu_stream stream, void **parameters, void **extra);
    sg_cu_result (*mem_alloc)(sg_cu_address *address, size_t size);
    sg_cu_result (*mem_free)(sg_cu_address address);
    sg_cu_result (*copy_to_device)(sg_cu_address to, const void *from, size_t size);
    sg_cu_result (*copy_from_device)(void *to, sg_cu_address from, size_t size);
    sg_cu_result (*fill_words)(sg_cu_address to, unsigned value, size_t count, sg_cu_stream stream);
    sg_cu_result (*event_create)(sg_cu_event *event, unsigned flags);
    sg_cu_result (*event_destroy)(sg_cu_event event);
    sg_cu_result (*event_record)(sg_cu_event event, sg_cu_stream stream);
    sg_cu_result (*event_synchronize)(sg_cu_event event);
    sg_cu_result (*event_elapsed)(float *milliseconds, sg_cu_event start, sg_cu_event end);
    /* Since CUDA 11.8; NULL in older drivers. */
    sg_cu_result (*launch_config)(const sg_cu_launch_config *config, sg_cu_function function,
                                  void **parameters, void **extra);
} sg_cuda_driver;

/* SG_NOT_APPLICABLE, with a sentence, where there is no driver or no device. */
sg_status sg_cuda_open(sg_context *context, const sg_cuda_driver **driver);

/* SG_OK for success, else SG_IO with a sentence: what failed and the driver's words for it. */
sg_status sg_cuda_check(sg_context *context, const sg_cuda_driver *driver, sg_cu_result result,
                        const char *what);

enum { SG_CUDA_DEVICES_MAX = 64 };

/* A device as plans see it. SG_INVALID for an index that there is none of, SG_NOT_APPLICABLE for a
 * device that is too old. Makes no context. */
sg_status sg_cuda_describe(sg_context *context, int device, sg_gpu *gpu);

/* Makes the device's primary context, retained for good, the thread's current one, and says whether
 * it was another before; sg_cuda_leave then takes it off again. */
sg_status sg_cuda_enter(sg_context *context, const sg_cuda_driver *driver, int device,
                        bool *pushed);
void sg_cuda_leave(const sg_cuda_driver *driver, bool pushed);

#endif
