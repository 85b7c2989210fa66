#include "target/cpu.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* Vector widths are architectural. Two FMA pipes: Intel Optimization Reference Manual (Skylake
 * server and later), AMD Software Optimization Guides for families 17h to 1Ah. */
static const sg_isa_info isas[SG_ISA_COUNT] = {[SG_ISA_GENERIC] = {"generic", 16, 1},
                                               [SG_ISA_AVX2] = {"avx2", 32, 2},
                                               [SG_ISA_AVX512] = {"avx512", 64, 2}};

static sg_cpu cpu;
static pthread_once_t once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
static void read_brand(void) {
    unsigned words[12] = {0};
    for (unsigned i = 0; i < 3; i++) {
        unsigned *part = words + (size_t)4 * i;
        if (!__get_cpuid(0x80000002U + i, part, part + 1, part + 2, part + 3))
            return;
    }
    memcpy(cpu.model, words, sizeof words);
}

/* Intel SDM volume 2A, CPUID leaf 07H: subleaf 1 EAX bit 5 AVX512_BF16, subleaf 0 EDX bit 23
 * AVX512_FP16. */
static void find_half_types(void) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d))
        cpu.native_bf16 = cpu.supported[SG_ISA_AVX512] && a >> 5 & 1U;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
        cpu.native_f16 = cpu.supported[SG_ISA_AVX512] && d >> 23 & 1U;
}

static void find_isas(void) {
    __builtin_cpu_init();
    cpu.supported[SG_ISA_AVX2] = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    cpu.supported[SG_ISA_AVX512] =
        cpu.supported[SG_ISA_AVX2] && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl");
    find_half_types();
}
#else
static void read_brand(void) {}
static void find_isas(void) {}
#endif

static int64_t cache_size(int name, int64_t otherwise) {
    long size = sysconf(name);
    return size > 0 ? size : otherwise;
}

static int count_processors(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

static void look(void) {
    cpu.supported[SG_ISA_GENERIC] = true;
    find_isas();
    read_brand();
    for (int isa = 0; isa < SG_ISA_COUNT; isa++)
        cpu.best = cpu.supported[isa] ? (sg_isa)isa : cpu.best;
    cpu.l1_bytes = cache_size(_SC_LEVEL1_DCACHE_SIZE, 32 << 10);
    cpu.l2_bytes = cache_size(_SC_LEVEL2_CACHE_SIZE, 256 << 10);
    cpu.l3_bytes = cache_size(_SC_LEVEL3_CACHE_SIZE, 0);
    cpu.processors = count_processors();
}

const sg_cpu *sg_cpu_get(void) {
    pthread_once(&once, look);
    return &cpu;
}

const sg_isa_info *sg_isa_get(sg_isa isa) {
    return &isas[isa];
}

sg_isa sg_isa_find(const char *name) {
    for (int isa = 0; isa < SG_ISA_COUNT; isa++) {
        if (strcmp(isas[isa].name, name) == 0)
            return (sg_isa)isa;
    }
    return SG_ISA_COUNT;
}
