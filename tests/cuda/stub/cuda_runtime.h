/* What an emitted host function needs of the CUDA runtime, for a machine without one: launches are
 * written down instead of made. tests/cuda/emitted.py asks for them. */
#pragma once
#include <stddef.h>
#include <string.h>

typedef int cudaError_t;
typedef void *cudaStream_t;
enum {
    cudaSuccess = 0,
    cudaDevAttrMultiProcessorCount = 16,
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaLaunchAttributeProgrammaticStreamSerialization = 6
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct uint4 {
    unsigned x, y, z, w;
};
struct cudaFuncAttributes {
    int maxThreadsPerBlock;
};
struct cudaLaunchAttribute {
    int id;
    struct {
        int programmaticStreamSerializationAllowed;
    } val;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute *attrs;
    unsigned numAttrs;
};

enum { WORDS_MAX = 256, LAUNCHES_MAX = 8 };
struct Launch {
    const void *kernel;
    long long blocks, threads, shared, early, words[WORDS_MAX];
};

extern "C" {
Launch launches[LAUNCHES_MAX];
int launch_count, processors = 132;
int threads_most = 1024; /* of a kernel for sm_90a alone: 32 where its code is not there */
}
/* Given by whoever makes the unit fit for the host. */
size_t bytes_of(const void *kernel);
bool is_guarded(const void *kernel);

template<class A> cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *how, void (*kernel)(A),
                                                 const A &a) {
    const void *entry = reinterpret_cast<const void *>(kernel);
    Launch *launch = &launches[launch_count++];
    *launch = {entry,
               how->gridDim.x,
               how->blockDim.x,
               (long long)how->dynamicSmemBytes,
               how->numAttrs == 1,
               {}};
    memcpy(launch->words, &a, bytes_of(entry));
    return cudaSuccess;
}
static inline cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}
static inline cudaError_t cudaDeviceGetAttribute(int *value, int, int) {
    *value = processors;
    return cudaSuccess;
}
template<class A> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *found, void (*kernel)(A)) {
    bool guarded = is_guarded(reinterpret_cast<const void *>(kernel));
    found->maxThreadsPerBlock = guarded ? threads_most : 1024;
    return cudaSuccess;
}
template<class A> cudaError_t cudaFuncSetAttribute(void (*)(A), int, int) {
    return cudaSuccess;
}
static inline cudaError_t cudaGetLastError() {
    return cudaSuccess;
}
static inline const char *cudaGetErrorString(cudaError_t) {
    return "an error of the runtime";
}
