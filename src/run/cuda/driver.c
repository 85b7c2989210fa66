#include "run/cuda/driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* Members of CUdevice_attribute. */
enum {
    ATTRIBUTE_CLOCK = 13,
    ATTRIBUTE_MULTIPROCESSORS = 16,
    ATTRIBUTE_MEMORY_CLOCK = 36,
    ATTRIBUTE_MEMORY_BITS = 37,
    ATTRIBUTE_L2 = 38,
    ATTRIBUTE_MAJOR = 75,
    ATTRIBUTE_MINOR = 76,
    ATTRIBUTE_SHARED_PROCESSOR = 81,
    ATTRIBUTE_REGISTERS_PROCESSOR = 82,
    ATTRIBUTE_SHARED_BLOCK = 97
};

static sg_cuda_driver opened;
static int device_count;
static atomic_bool is_open;
static sg_cu_context _Atomic primary[SG_CUDA_DEVICES_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- opening ------------------------------------------------------------------------------- */

/* Function pointers and data pointers are of one size here (POSIX); C knows no cast between them.
 */
static bool find(void *library, const char *name, void *function) {
    void *found = dlsym(library, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

/* The names are those that cuda.h gives the functions behind its macros. */
static bool fill(void *library, sg_cuda_driver *driver) {
    find(library, "cuLaunchKernelEx", &driver->launch_config);
    return find(library, "cuGetErrorString", &driver->get_error_string) &&
           find(library, "cuInit", &driver->init) &&
           find(library, "cuDeviceGetCount", &driver->device_count) &&
           find(library, "cuDeviceGet", &driver->device_get) &&
           find(library, "cuDeviceGetName", &driver->device_name) &&
           find(library, "cuDeviceGetAttribute", &driver->device_attribute) &&
           find(library, "cuDevicePrimaryCtxRetain", &driver->primary_retain) &&
           find(library, "cuCtxGetCurrent", &driver->get_current) &&
           find(library, "cuCtxPushCurrent_v2", &driver->push_current) &&
           find(library, "cuCtxPopCurrent_v2", &driver->pop_current) &&
           find(library, "cuModuleLoadData", &driver->module_load) &&
           find(library, "cuModuleUnload", &driver->module_unload) &&
           find(library, "cuModuleGetFunction", &driver->module_function) &&
           find(library, "cuFuncSetAttribute", &driver->function_set) &&
           find(library, "cuLaunchKernel", &driver->launch) &&
           find(library, "cuMemAlloc_v2", &driver->mem_alloc) &&
           find(library, "cuMemFree_v2", &driver->mem_free) &&
           find(library, "cuMemcpyHtoD_v2", &driver->copy_to_device) &&
           find(library, "cuMemcpyDtoH_v2", &driver->copy_from_device) &&
           find(library, "cuMemsetD32Async", &driver->fill_words) &&
           find(library, "cuEventCreate", &driver->event_create) &&
           find(library, "cuEventDestroy_v2", &driver->event_destroy) &&
           find(library, "cuEventRecord", &driver->event_record) &&
           find(library, "cuEventSynchronize", &driver->event_synchronize) &&
           find(library, "cuEventElapsedTime", &driver->event_elapsed);
}

static sg_status open_locked(sg_context *context) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        return sg_fail(context, SG_NOT_APPLICABLE,
                       "no CUDA driver (libcuda.so.1) on this machine: "
                       "%s",
                       why ? why : "it cannot be opened");
    }
    if (!fill(library, &opened)) {
        dlclose(library);
        return sg_fail(context, SG_NOT_APPLICABLE,
                       "the CUDA driver of this machine is too old; 11.2 or later is needed");
    }
    sg_cu_result result = opened.init(0);
    if (result == SG_CU_SUCCESS)
        result = opened.device_count(&device_count);
    if (result != SG_CU_SUCCESS) {
        sg_cuda_check(context, &opened, result, "the CUDA driver cannot be used");
        return SG_NOT_APPLICABLE;
    }
    if (device_count == 0)
        return sg_fail(context, SG_NOT_APPLICABLE, "this machine has a CUDA driver but no GPU");
    if (device_count > SG_CUDA_DEVICES_MAX)
        device_count = SG_CUDA_DEVICES_MAX;
    atomic_store_explicit(&is_open, true, memory_order_release);
    return SG_OK;
}

sg_status sg_cuda_open(sg_context *context, const sg_cuda_driver **driver) {
    sg_status status = SG_OK;
    if (!atomic_load_explicit(&is_open, memory_order_acquire)) {
        pthread_mutex_lock(&lock);
        if (!atomic_load_explicit(&is_open, memory_order_relaxed))
            status = open_locked(context);
        pthread_mutex_unlock(&lock);
    }
    *driver = status == SG_OK ? &opened : NULL;
    return status;
}

sg_status sg_cuda_check(sg_context *context, const sg_cuda_driver *driver, sg_cu_result result,
                        const char *what) {
    const char *text = NULL;
    if (result == SG_CU_SUCCESS)
        return SG_OK;
    if (driver->get_error_string(result, &text) != SG_CU_SUCCESS)
        text = NULL;
    return sg_fail(context, SG_IO, "%s: %s (CUDA error %d)", what, text ? text : "unknown error",
                   result);
}

/* ---- devices ------------------------------------------------------------------------------- */

static sg_status check_index(sg_context *context, int device) {
    return device >= 0 && device < device_count
               ? SG_OK
               : sg_fail(context, SG_INVALID, "GPU %d: this machine has %d, counted from 0", device,
                         device_count);
}

/* 0 where the driver does not tell. */
static int attribute_of(sg_cu_device device, int attribute) {
    int value = 0;
    return opened.device_attribute(&value, attribute, device) == SG_CU_SUCCESS ? value : 0;
}

/* Asking takes the driver close to a millisecond. */
static sg_status ask(sg_context *context, const sg_cuda_driver *driver, int device, sg_gpu *gpu) {
    sg_cu_device handle;
    char name[sizeof gpu->name] = "";
    sg_status status = check_index(context, device);
    if (status == SG_OK)
        status = sg_cuda_check(context, driver, driver->device_get(&handle, device), "device");
    if (status == SG_OK)
        status = sg_cuda_check(context, driver, driver->device_name(name, sizeof name, handle),
                               "name of the device");
    if (status != SG_OK)
        return status;
    sg_gpu_facts facts = {
        .name = name,
        .major = attribute_of(handle, ATTRIBUTE_MAJOR),
        .minor = attribute_of(handle, ATTRIBUTE_MINOR),
        .multiprocessors = attribute_of(handle, ATTRIBUTE_MULTIPROCESSORS),
        .clock = attribute_of(handle, ATTRIBUTE_CLOCK),
        .memory_clock = attribute_of(handle, ATTRIBUTE_MEMORY_CLOCK),
        .memory_bits = attribute_of(handle, ATTRIBUTE_MEMORY_BITS),
        .shared_block = attribute_of(handle, ATTRIBUTE_SHARED_BLOCK),
        .shared_processor = attribute_of(handle, ATTRIBUTE_SHARED_PROCESSOR),
        .registers = attribute_of(handle, ATTRIBUTE_REGISTERS_PROCESSOR),
        .l2 = attribute_of(handle, ATTRIBUTE_L2),
    };
    return sg_gpu_describe(&facts, gpu)
               ? SG_OK
               : sg_fail(context, SG_NOT_APPLICABLE,
                         "GPU %d, %s, has compute capability %d.%d; 8.0 or later is needed", device,
                         name, facts.major, facts.minor);
}

sg_status sg_cuda_describe(sg_context *context, int device, sg_gpu *gpu) {
    static sg_gpu known[SG_CUDA_DEVICES_MAX];
    static bool is_known[SG_CUDA_DEVICES_MAX];
    const sg_cuda_driver *driver;
    sg_status status = sg_cuda_open(context, &driver);
    if (status != SG_OK)
        return status;
    pthread_mutex_lock(&lock);
    bool found = device >= 0 && device < SG_CUDA_DEVICES_MAX && is_known[device];
    if (!found)
        status = ask(context, driver, device, gpu);
    if (!found && status == SG_OK) {
        known[device] = *gpu;
        is_known[device] = true;
    }
    if (status == SG_OK)
        *gpu = known[device];
    pthread_mutex_unlock(&lock);
    return status;
}

/* Retains the primary context, once. */
static sg_status retain(sg_context *context, const sg_cuda_driver *driver, int device,
                        sg_cu_context *made) {
    sg_cu_device handle;
    sg_status status = check_index(context, device);
    if (status != SG_OK)
        return status;
    pthread_mutex_lock(&lock);
    *made = atomic_load_explicit(&primary[device], memory_order_relaxed);
    if (!*made) {
        status = sg_cuda_check(context, driver, driver->device_get(&handle, device), "device");
        if (status == SG_OK)
            status = sg_cuda_check(context, driver, driver->primary_retain(made, handle),
                                   "primary context of the device");
        if (status == SG_OK)
            atomic_store_explicit(&primary[device], *made, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    return status;
}

sg_status sg_cuda_enter(sg_context *context, const sg_cuda_driver *driver, int device,
                        bool *pushed) {
    sg_cu_context wanted = NULL, current = NULL;
    *pushed = false;
    if (device >= 0 && device < SG_CUDA_DEVICES_MAX)
        wanted = atomic_load_explicit(&primary[device], memory_order_acquire);
    if (!wanted) {
        sg_status status = retain(context, driver, device, &wanted);
        if (status != SG_OK)
            return status;
    }
    if (driver->get_current(&current) == SG_CU_SUCCESS && current == wanted)
        return SG_OK;
    sg_status status =
        sg_cuda_check(context, driver, driver->push_current(wanted), "context of the device");
    *pushed = status == SG_OK;
    return status;
}

void sg_cuda_leave(const sg_cuda_driver *driver, bool pushed) {
    sg_cu_context popped;
    if (pushed)
        driver->pop_current(&popped);
}
