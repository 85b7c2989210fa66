/* The kernels of one instruction set and compute type as one table, and the question whether this
 * machine can run them. */
#include "variant.h"

#include <pthread.h>

/* The contraction blocks are another object's, so their copy is made at the first use. */
static sg_cpu_kernels table;
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

#define SG_STRING_(x) #x
#define SG_STRING(x)  SG_STRING_(x)

static void fill_table(void) {
    table = (sg_cpu_kernels){
        .isa = SG_STRING(SG_ISA),
        .compute = SG_COMPUTE_ELEMENT,
        .vector_length = SG_VECTOR_LENGTH,
        .tile = SG_NAME(tile_ops),
        .accumulate_sum = SG_NAME(accumulate_sum),
        .contract_block_count = SG_NAME(contract_block_count),
        .convert_in = SG_NAME(convert_in),
        .convert_out = SG_NAME(convert_out),
        .load_tile = SG_NAME(load_tile),
        .store_tile = SG_NAME(store_tile),
        .pack_plane = SG_NAME(pack_plane),
        .pack_transposed = SG_NAME(pack_transposed),
    };
    memcpy(table.reduce_rows, SG_NAME(reduce_rows), sizeof table.reduce_rows);
    memcpy(table.reduce_columns, SG_NAME(reduce_columns), sizeof table.reduce_columns);
    for (int i = 0; i < table.contract_block_count; i++)
        table.contract_blocks[i] = SG_NAME(contract_blocks)[i];
#if SG_HAS_PAIRS
    if (__builtin_cpu_supports("avx512bf16")) {
        table.pair_blocks = SG_NAME(pair_blocks);
        table.pack_pairs = SG_NAME(pack_pairs);
        table.pack_weight_pairs = SG_NAME(pack_weight_pairs);
    }
#endif
}

const sg_cpu_kernels *SG_NAME(table)(void) {
    pthread_once(&table_once, fill_table);
    return &table;
}

/* The rest once per instruction set, not once per compute type. */
#ifndef SG_COMPUTE_F64

/* Does this processor have the set, and does the operating system save its registers? */
static bool runs_here(void) {
#if SG_ISA_AVX512
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2");
#elif SG_ISA_AVX2
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return true;
#endif
}

#define SG_TABLE_F64 SG_PASTE(sg_, table, SG_ISA, f64)
const sg_cpu_kernels *SG_TABLE_F64(void); /* the other compilation of this file */

#define SG_PAIR_(a, b) a##b
#define SG_PAIR(a, b)  SG_PAIR_(a, b)

const sg_cpu_kernels *SG_PAIR(sg_cpu_kernels_, SG_ISA)(sg_element compute) {
    if (!runs_here())
        return NULL;
    if (compute == SG_ELEMENT_F32)
        return SG_NAME(table)();
    if (compute == SG_ELEMENT_F64)
        return SG_TABLE_F64();
    return NULL;
}

/* What a build for another architecture lacks. */
#if !defined(SG_HAVE_X86)
const sg_cpu_kernels *sg_cpu_kernels_avx2(sg_element compute) {
    (void)compute;
    return NULL;
}
const sg_cpu_kernels *sg_cpu_kernels_avx512(sg_element compute) {
    (void)compute;
    return NULL;
}
#endif
#endif
