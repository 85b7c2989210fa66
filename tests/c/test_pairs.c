/* The contraction of bfloat16 pairs: every block against sums in double, which float holds too. */
#include "kernels/cpu/kernels.h"
#include "unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { K = 37, BAND = 16, CHANNELS_MAX = 16, PIXELS_MAX = 16 * SG_CONTRACT_VECTORS_MAX };
enum { SLAB = 512, ROW = PIXELS_MAX + 2 * BAND };
static const float SENTINEL = 12345.5F;

static uint32_t random_state;

/* A bfloat16 in the upper half of a float's bits: a multiple of 2^-6 in [-1, 1). */
static uint32_t random_bits(void) {
    random_state = random_state * 1664525U + 1013904223U;
    float value = (float)((int)(random_state >> 25) - 64) / 64.0F;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static double value_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}
static double even(uint32_t pair) {
    return value_of(pair << 16);
}
static double odd(uint32_t pair) {
    return value_of(pair & 0xffff0000U);
}

typedef struct sums {
    _Alignas(64) uint32_t weights[K * CHANNELS_MAX];
    uint32_t slab[SLAB + PIXELS_MAX];
    int32_t offset[K];
    _Alignas(64) float bias[CHANNELS_MAX];
    _Alignas(64) float tile[(CHANNELS_MAX + 2) * ROW];
} sums;

static void fill(sums *of) {
    for (int i = 0; i < K * CHANNELS_MAX; i++)
        of->weights[i] = random_bits() | random_bits() >> 16;
    for (int i = 0; i < SLAB + PIXELS_MAX; i++)
        of->slab[i] = random_bits() | random_bits() >> 16;
    for (int i = 0; i < K; i++)
        of->offset[i] = (int32_t)(random_bits() >> 8) % SLAB;
    for (int i = 0; i < CHANNELS_MAX; i++)
        of->bias[i] = (float)value_of(random_bits());
    for (int i = 0; i < (CHANNELS_MAX + 2) * ROW; i++)
        of->tile[i] = SENTINEL;
}

static double expected(const sums *of, int channels, int m, int j) {
    double sum = (double)of->bias[m];
    for (int k = 0; k < K; k++) {
        uint32_t weight = of->weights[k * channels + m], x = of->slab[of->offset[k] + j];
        sum += even(weight) * even(x) + odd(weight) * odd(x);
    }
    return sum;
}

/* The block's cells are right and those around it untouched. */
static void check(const sums *of, const sg_contract_block *block, int pixels) {
    int wrong = 0, touched = 0;
    for (int i = 0; i < (CHANNELS_MAX + 2) * ROW; i++) {
        int m = i / ROW - 1, j = i % ROW - BAND;
        if (m < 0 || m >= block->channels || j < 0 || j >= pixels) {
            touched += of->tile[i] != SENTINEL;
            continue;
        }
        double wanted = expected(of, block->channels, m, j), actual = (double)of->tile[i];
        wrong += isnan(wanted) ? !isnan(actual) : actual != wanted;
    }
    EXPECT_EQ_INT(wrong, 0);
    EXPECT_EQ_INT(touched, 0);
}

TEST(blocks_multiply_both_of_a_pair) {
    const sg_cpu_kernels *kernels = sg_cpu_kernels_avx512(SG_ELEMENT_F32);
    if (!kernels || !kernels->pair_blocks)
        return;
    /* Beside infinity and NaN the other half of the pair must come through untouched. */
    static const uint32_t specials[] = {0, 0x7f800000U, 0xff800000U, 0x7fc00000U};
    for (int b = 0; b < kernels->contract_block_count; b++) {
        const sg_contract_block *block = &kernels->pair_blocks[b];
        for (int n = 1; n <= block->vectors_max; n++) {
            for (int s = 0; s < 4; s++) {
                CASE("%d channels x %d vectors, %x", block->channels, n, specials[s]);
                sums of;
                fill(&of);
                if (s > 0) {
                    of.weights[5 * block->channels] = specials[s] | 0x3f80U;
                    of.slab[of.offset[9]] = specials[4 - s] >> 16 | 0x3f800000U;
                }
                sg_contract_args args = {.k = K,
                                         .sum = 1 + n * 7,
                                         .slab = of.slab,
                                         .offset = of.offset,
                                         .weights = of.weights,
                                         .tile = of.tile + ROW + BAND,
                                         .tile_row_stride = ROW,
                                         .bias = of.bias};
                block->contract[n](&args);
                check(&of, block, n * kernels->vector_length);
            }
        }
    }
}
