/* What a GPU can do: limits that plans must keep to, and rates that the cost model counts with. */
#ifndef SEGUE_TARGET_GPU_H
#define SEGUE_TARGET_GPU_H

#include <stdbool.h>
#include <stdint.h>

typedef struct sg_gpu {
    char name[64];            /* "NVIDIA H200", or the architecture's where no device was asked */
    char architecture[12];    /* what NVRTC is told: "sm_90a" */
    int major, minor;         /* compute capability */
    bool wgmma;               /* warpgroup products, bulk copies, setmaxnreg: sm_90a alone */
    int multiprocessors;      /* */
    int64_t shared_block;     /* bytes of shared memory a block may have, opted in */
    int64_t shared_processor; /* bytes of shared memory of a multiprocessor */
    int64_t registers;        /* 32-bit registers of a multiprocessor */
    int64_t l2;               /* bytes */
    double copy;              /* bytes read and written a second by a large copy */
    double half;              /* flops a second: half products, float sums, on the tensor cores */
    double tf32, fp32, fp64;  /* the same for tf32 products, and for plain float and double */
    double fp64_matrix; /* of double products on the tensor cores; fp64 where there are none */
    double launch;      /* seconds between the starts of two kernels one after the other */
} sg_gpu;

/* An architecture by its table: "sm_80", "sm_86", "sm_89", "sm_90", "sm_90a". False: unknown. */
bool sg_gpu_find(const char *architecture, sg_gpu *gpu);
/* Every architecture of the table, for messages: "sm_80, sm_86, ...". */
const char *sg_gpu_architectures(void);

/* What a driver tells of a device. */
typedef struct sg_gpu_facts {
    const char *name;
    int major, minor, multiprocessors;
    double clock, memory_clock; /* kHz; 0: not known */
    int memory_bits;            /* width of the memory bus; 0: not known */
    int64_t shared_block, shared_processor, registers, l2;
} sg_gpu_facts;

/* A device: its own limits, and the table's rates scaled to its processors and clocks. A device
 * newer than the table is taken for the newest before it. False: older than the table. */
bool sg_gpu_describe(const sg_gpu_facts *facts, sg_gpu *gpu);

#endif
