/* One compilation of the kernels: which instruction set, which compute type, and how symbols are
 * told apart. The build compiles every source of kernels/cpu once per pair and says which with
 *
 *   -DSG_ISA=avx512 | avx2 | generic     the instruction set, also the suffix of every symbol
 *   -DSG_COMPUTE_F64                     compute in double; without it, in float
 *
 * Everything with external linkage is declared here through SG_NAME, so that SG_NAME(tile_ops) is
 * sg_tile_ops_avx512_f32 in one object and sg_tile_ops_generic_f64 in another. */
#ifndef SEGUE_KERNELS_CPU_VARIANT_H
#define SEGUE_KERNELS_CPU_VARIANT_H

#include "kernels.h"
#include "simd.h"

#define SG_PASTE_(a, b, c, d) a##b##_##c##_##d
#define SG_PASTE(a, b, c, d)  SG_PASTE_(a, b, c, d)
#ifdef SG_COMPUTE_F64
#define SG_COMPUTE_NAME    f64
#define SG_COMPUTE_ELEMENT SG_ELEMENT_F64
#else
#define SG_COMPUTE_NAME    f32
#define SG_COMPUTE_ELEMENT SG_ELEMENT_F32
#endif
/* Kernels that multiply pairs of bfloat16. */
#if SG_ISA_AVX512 && !defined(SG_COMPUTE_F64)
#define SG_HAS_PAIRS 1
#else
#define SG_HAS_PAIRS 0
#endif
#define SG_NAME(name) SG_PASTE(sg_, name, SG_ISA, SG_COMPUTE_NAME)

/* table.c: all of the below as one table. */
const sg_cpu_kernels *SG_NAME(table)(void);

/* tile_ops.c: one entry per op of ops.def, NULL where the op is not pointwise. */
extern const sg_tile_op SG_NAME(tile_ops)[];

/* reduce.c: tables indexed by sg_reduction. */
extern const sg_reduce_rows SG_NAME(reduce_rows)[SG_REDUCTION_COUNT];
extern const sg_reduce_columns SG_NAME(reduce_columns)[SG_REDUCTION_COUNT];
void SG_NAME(accumulate_sum)(int64_t rows, int64_t cols, void *acc, void *comp,
                             int64_t acc_row_stride, const void *src, int64_t src_row_stride);

/* contract.c: the register blocks, widest channel block first. */
extern const sg_contract_block SG_NAME(contract_blocks)[];
extern const int SG_NAME(contract_block_count);
#if SG_HAS_PAIRS
extern const sg_contract_block SG_NAME(pair_blocks)[];
#endif

/* convert.c. */
void SG_NAME(convert_in)(int64_t count, void *dst, int64_t dst_stride, const void *src,
                         int64_t src_stride, sg_element src_type);
void SG_NAME(convert_out)(int64_t count, void *dst, int64_t dst_stride, sg_element dst_type,
                          const void *src);

/* move.c. */
void SG_NAME(load_tile)(const sg_tile_move *move);
void SG_NAME(store_tile)(const sg_tile_move *move);

/* pack.c. */
void SG_NAME(pack_plane)(const sg_plane *plane);
void SG_NAME(pack_transposed)(int64_t rows, int64_t columns, int64_t width, void *dst,
                              const void *src, int64_t row_stride, sg_element type);
#if SG_HAS_PAIRS
void SG_NAME(pack_pairs)(const sg_plane *plane);
void SG_NAME(pack_weight_pairs)(const sg_weight_pairs *weights);
#endif

#endif
