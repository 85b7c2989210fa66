/* For tests of the CPU kernels: every table that this build and this machine have. */
#ifndef SEGUE_TESTS_CPU_VARIANTS_H
#define SEGUE_TESTS_CPU_VARIANTS_H

#include "kernels/cpu/kernels.h"

enum { CPU_VARIANTS_MAX = 3 };

/* Fills tables with those of that compute type; returns how many. The generic one always exists. */
static inline int cpu_variants(sg_element compute, const sg_cpu_kernels *tables[CPU_VARIANTS_MAX]) {
    const sg_cpu_kernels *all[CPU_VARIANTS_MAX] = {
        sg_cpu_kernels_generic(compute),
        sg_cpu_kernels_avx2(compute),
        sg_cpu_kernels_avx512(compute),
    };
    int count = 0;
    for (int i = 0; i < CPU_VARIANTS_MAX; i++)
        if (all[i])
            tables[count++] = all[i];
    return count;
}

#endif
