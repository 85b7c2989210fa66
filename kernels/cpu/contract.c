/* The contraction micro-kernel: MR channels by NR vectors of pixels, the inner loop of every
 * convolution and matrix product.
 *
 * Pixels lie in the lanes. For each product k the kernel loads NR vectors of pixels, broadcasts MR
 * weights one after the other and does MR * NR fused multiply-adds into accumulators that stay in
 * registers for `sum` steps; then they are added to the tile and begin anew.
 *
 * The size of the block is a matter of register and load counts. MR * NR accumulators, NR pixel
 * vectors and one or more broadcasts must fit the register file; the loads per k, MR broadcasts
 * plus NR vectors (which count twice, as most of them straddle a cache line), must take less time
 * than the multiply-adds; and there must be enough accumulators to cover the latency of the
 * multiply-add (8 on current cores with two units). See Goto and van de Geijn, Anatomy of
 * High-Performance Matrix Multiplication (2008), section 6, for the same argument.
 *
 * Where the instruction set has no fused multiply-add (generic), product and sum round
 * separately.
 *
 * Pairs of bfloat16 go the same way, two products at a time (kernels.h). */
#include "variant.h"

/* The accumulators live in an array that has to dissolve into registers, so every loop over it is
 * unrolled in full. The compilers spell the request differently. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

enum { VECTORS_MAX = 16, SUMS_MAX = 32 };

#if SG_HAS_PAIRS
#define MULTIPLY(pairs, weight, x, sum)                                                            \
    (pairs ? f_dot_pairs((FU)x, splat_pair(weight), sum) : v_fma(K(*(weight)), x, sum))
SG_INLINE FU splat_pair(const S *weight) {
    uint32_t bits;
    memcpy(&bits, weight, sizeof bits);
    return (FU){0} + bits;
}
#else
#define MULTIPLY(pairs, weight, x, sum) v_fma(K(*(weight)), x, sum)
#endif

/* The body of all blocks; mr, nr and pairs are constants wherever it is inlined. */
static inline __attribute__((always_inline)) void
contract(const sg_contract_args *args, const int mr, const int nr, const bool pairs) {
    (void)pairs;
    const S *weights = args->weights;
    const S *slab = args->slab;
    const int32_t *offset = args->offset;
    const S *bias = args->bias;
    V sum[SUMS_MAX], x[VECTORS_MAX];
    bool fresh = !args->accumulate;
    /* Among many products the bias would make all partial sums larger, so it comes last; with one
     * or two it goes first, where the multiply-add rounds it along. */
    const bool bias_first = bias && fresh && args->k <= 2;
    int64_t k = 0;

    do {
        int64_t end = args->k - k < args->sum ? args->k : k + args->sum;
        UNROLL for (int i = 0; i < mr * nr; i++) {
            sum[i] = bias_first && fresh ? K(bias[i / nr]) : K(0);
        }
        for (; k < end; k++, weights += mr) {
            const S *pixels = slab + offset[k];
            UNROLL for (int n = 0; n < nr; n++) {
                x[n] = v_load(pixels + n * SG_VECTOR_LENGTH);
            }
            UNROLL for (int i = 0; i < mr * nr; i++) {
                sum[i] = MULTIPLY(pairs, weights + i / nr, x[i % nr], sum[i]);
            }
        }
        bool bias_now = bias && !bias_first && k == args->k;
        UNROLL for (int i = 0; i < mr * nr; i++) {
            S *cell = (S *)args->tile + i / nr * args->tile_row_stride + i % nr * SG_VECTOR_LENGTH;
            if (!fresh)
                sum[i] += v_load(cell);
            if (bias_now)
                sum[i] += K(bias[i / nr]);
            v_store(cell, sum[i]);
        }
        fresh = false;
    } while (k < args->k);
}

#define FUNCTION(mr, nr)                                                                           \
    static void contract_##mr##x##nr(const sg_contract_args *args) {                               \
        contract(args, mr, nr, false);                                                             \
    }
#define ENTRY(mr, nr) [nr] = contract_##mr##x##nr,
#define PAIR_FUNCTION(mr, nr)                                                                      \
    static void pairs_##mr##x##nr(const sg_contract_args *args) {                                  \
        contract(args, mr, nr, true);                                                              \
    }
#define PAIR_ENTRY(mr, nr) [nr] = pairs_##mr##x##nr,

/* Something for each number of vectors from 1 up. */
#define EACH_2(emit, mr) emit(mr, 1) emit(mr, 2)
#define EACH_3(emit, mr) EACH_2(emit, mr) emit(mr, 3)
#define EACH_4(emit, mr) EACH_3(emit, mr) emit(mr, 4)
#define EACH_5(emit, mr) EACH_4(emit, mr) emit(mr, 5)
#define EACH_6(emit, mr) EACH_5(emit, mr) emit(mr, 6)
#define EACH_8(emit, mr) EACH_6(emit, mr) emit(mr, 7) emit(mr, 8)

/* block(channels, most vectors), the channels descending to 1 so that any count can be made up of
 * them. Chosen with bench/fma_peak.c: among blocks that do not spill, the fastest for its
 * channels. */
#if SG_ISA_AVX512
#define BLOCKS(block) block(8, 3) block(4, 6) block(2, 8) block(1, 8)
#elif SG_ISA_AVX2
#define BLOCKS(block) block(6, 2) block(4, 3) block(2, 5) block(1, 8)
#else
#define BLOCKS(block) block(2, 4) block(1, 8)
#endif

#define FUNCTIONS(mr, vectors) EACH_##vectors(FUNCTION, mr)
#define ROW(mr, vectors)                                                                           \
    {.channels = mr, .vectors_max = vectors, .contract = {EACH_##vectors(ENTRY, mr)}},

BLOCKS(FUNCTIONS)

const sg_contract_block SG_NAME(contract_blocks)[] = {BLOCKS(ROW)};
const int SG_NAME(contract_block_count) = sizeof SG_NAME(contract_blocks) /
                                          sizeof SG_NAME(contract_blocks)[0];

#if SG_HAS_PAIRS
#define PAIR_FUNCTIONS(mr, vectors) EACH_##vectors(PAIR_FUNCTION, mr)
#define PAIR_ROW(mr, vectors)                                                                      \
    {.channels = mr, .vectors_max = vectors, .contract = {EACH_##vectors(PAIR_ENTRY, mr)}},

BLOCKS(PAIR_FUNCTIONS)

const sg_contract_block SG_NAME(pair_blocks)[] = {BLOCKS(PAIR_ROW)};
#endif
