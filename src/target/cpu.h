/* This machine's processor: instruction set, caches, and the rates the cost model starts from. Read
 * once; never fails (unknown values get modest defaults). */
#ifndef SEGUE_TARGET_CPU_H
#define SEGUE_TARGET_CPU_H

#include <stdbool.h>
#include <stdint.h>

/* Instruction sets in ascending order of preference. */
typedef enum sg_isa { SG_ISA_GENERIC, SG_ISA_AVX2, SG_ISA_AVX512, SG_ISA_COUNT } sg_isa;

typedef struct sg_isa_info {
    const char *name;
    int vector_bytes;
    double
        fma_per_cycle; /* vector fused multiply-adds a core can start; generic: pairs of mul, add */
} sg_isa_info;

typedef struct sg_cpu {
    char model[64]; /* brand string, "" if unknown */
    bool supported[SG_ISA_COUNT];
    sg_isa best;
    bool native_bf16, native_f16; /* dot products or arithmetic of these in hardware */
    int64_t l1_bytes, l2_bytes;   /* data, per core */
    int64_t l3_bytes;             /* shared; 0 if none or unknown */
    int processors;               /* that this process may run on */
} sg_cpu;

const sg_cpu *sg_cpu_get(void);
const sg_isa_info *sg_isa_get(sg_isa isa);
/* SG_ISA_COUNT when there is none of that name. */
sg_isa sg_isa_find(const char *name);

#endif
