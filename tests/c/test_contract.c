/* The contraction micro-kernels: every register block of every instruction set that this machine
 * has, against a plain loop in double. */
#include "kernels/cpu/kernels.h"
#include "tests/c/unit.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { K_MAX = 700, ROW_MAX = 16 * SG_CONTRACT_VECTORS_MAX, BAND = 24, SLAB = 4096 + ROW_MAX };
static const double SENTINEL = 12345.5;

/* One problem, kept in double and handed to the kernels in their compute type. All values are exact
 * in float, so the reference sees the same numbers. */
typedef struct problem {
    int channels, pixels;
    int64_t k, sum, row_stride;
    bool accumulate, with_bias;
    double slab[SLAB], weights[K_MAX * 16], bias[16];
    double tile[(16 + 2) * (ROW_MAX + 2 * BAND)]; /* with a row of sentinels before and after */
    int32_t offset[K_MAX];
} problem;

static uint32_t random_state;

/* Multiples of 2^-12 in [-1, 1). */
static double random_value(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return (double)(int32_t)(random_state >> 19) / 4096.0 - 1.0;
}

static int64_t tile_count(const problem *p) {
    return (p->channels + 2) * p->row_stride;
}
static int64_t tile_start(const problem *p) {
    return p->row_stride + BAND;
}

static void fill(problem *p, int channels, int pixels, int64_t k) {
    *p = (problem){.channels = channels, .pixels = pixels, .k = k, .sum = k + 1};
    p->row_stride = pixels + 2 * BAND;
    for (int i = 0; i < SLAB; i++)
        p->slab[i] = random_value();
    for (int64_t i = 0; i < k; i++)
        p->offset[i] = (int32_t)((random_value() + 1) * 2047);
    for (int64_t i = 0; i < k * channels; i++)
        p->weights[i] = random_value();
    for (int m = 0; m < channels; m++)
        p->bias[m] = random_value();
    for (int64_t i = 0; i < tile_count(p); i++)
        p->tile[i] = SENTINEL;
    for (int m = 0; m < channels; m++) {
        for (int j = 0; j < pixels; j++)
            p->tile[tile_start(p) + m * p->row_stride + j] = random_value();
    }
}

/* A copy in the compute type, 64-byte aligned; shift moves the copy off that alignment. */
static void *in_compute_type(sg_element compute, const double *values, int64_t count, int shift,
                             void **base) {
    size_t size = compute == SG_ELEMENT_F64 ? sizeof(double) : sizeof(float);
    *base = aligned_alloc(64, (((size_t)count + (size_t)shift) * size + 64) / 64 * 64);
    if (!*base)
        abort();
    for (int64_t i = 0; i < count; i++) {
        if (compute == SG_ELEMENT_F64)
            ((double *)*base)[i + shift] = values[i];
        else
            ((float *)*base)[i + shift] = (float)values[i];
    }
    return (char *)*base + (size_t)shift * size;
}

/* Runs the kernel on the problem and writes the tile back. */
static void run(const sg_cpu_kernels *kernels, sg_contract contract, problem *p, int shift) {
    sg_element c = kernels->compute;
    size_t size = c == SG_ELEMENT_F64 ? sizeof(double) : sizeof(float);
    void *base[4];
    void *tile = in_compute_type(c, p->tile, tile_count(p), 0, &base[0]);
    sg_contract_args args = {
        .k = p->k,
        .sum = p->sum,
        .slab = in_compute_type(c, p->slab, SLAB, shift, &base[1]),
        .offset = p->offset,
        .weights = in_compute_type(c, p->weights, p->k * p->channels, 0, &base[2]),
        .tile = (char *)tile + (size_t)tile_start(p) * size,
        .tile_row_stride = p->row_stride,
        .bias = in_compute_type(c, p->bias, p->channels, 0, &base[3]),
        .accumulate = p->accumulate,
    };
    if (!p->with_bias)
        args.bias = NULL;
    contract(&args);
    for (int64_t i = 0; i < tile_count(p); i++)
        p->tile[i] = c == SG_ELEMENT_F64 ? ((double *)tile)[i] : (double)((float *)tile)[i];
    for (int i = 0; i < 4; i++)
        free(base[i]);
}

/* What the tile must hold at channel m, pixel j, and in *scale the sum of the magnitudes, which
 * bounds the rounding error. */
static double expected(const problem *before, int m, int j, double *scale) {
    double sum = 0;
    *scale = 0;
    for (int64_t k = 0; k < before->k; k++) {
        double product =
            before->weights[k * before->channels + m] * before->slab[before->offset[k] + j];
        sum += product;
        *scale += fabs(product);
    }
    double start = 0;
    if (before->accumulate)
        start = before->tile[tile_start(before) + m * before->row_stride + j];
    if (before->with_bias)
        start += before->bias[m];
    *scale += fabs(start);
    return sum + start;
}

static bool agree(double actual, double wanted, double tolerance) {
    if (isnan(wanted))
        return isnan(actual);
    if (isinf(wanted))
        return actual == wanted;
    return fabs(actual - wanted) <= tolerance;
}

/* Every cell of the block within the bound of a sum of k terms (Higham, section 4.2: at most k + 1
 * roundings of partial sums below the sum of magnitudes, twice that without a fused instruction);
 * every cell around it untouched. */
static void check(const sg_cpu_kernels *kernels, const problem *before, const problem *after) {
    double unit = kernels->compute == SG_ELEMENT_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
    int wrong = 0, touched = 0;
    for (int64_t i = 0; i < tile_count(before); i++) {
        int64_t m = i / before->row_stride - 1, j = i % before->row_stride - BAND;
        if (m < 0 || m >= before->channels || j < 0 || j >= before->pixels) {
            touched += after->tile[i] != SENTINEL;
            continue;
        }
        double scale, wanted = expected(before, (int)m, (int)j, &scale);
        wrong += !agree(after->tile[i], wanted, unit * (double)(before->k + 2) * scale);
    }
    EXPECT_EQ_INT(wrong, 0);
    EXPECT_EQ_INT(touched, 0);
}

typedef void (*block_test)(const sg_cpu_kernels *kernels, sg_contract contract, int channels,
                           int vectors);

/* Calls the test for every block and every number of vectors of every table. */
static void for_each_block(block_test test) {
    const sg_cpu_kernels *(*const tables[])(sg_element) = {
        sg_cpu_kernels_generic, sg_cpu_kernels_avx2, sg_cpu_kernels_avx512};
    for (int i = 0; i < 6; i++) {
        const sg_cpu_kernels *kernels = tables[i / 2](i % 2 ? SG_ELEMENT_F64 : SG_ELEMENT_F32);
        if (!kernels)
            continue;
        for (int b = 0; b < kernels->contract_block_count; b++) {
            const sg_contract_block *block = &kernels->contract_blocks[b];
            for (int vectors = 1; vectors <= block->vectors_max; vectors++) {
                CASE("%s %s, %d channels x %d vectors", kernels->isa, i % 2 ? "f64" : "f32",
                     block->channels, vectors);
                random_state = 1;
                test(kernels, block->contract[vectors], block->channels, vectors);
            }
        }
    }
}

static problem before, after;

static void sums_test(const sg_cpu_kernels *kernels, sg_contract contract, int channels,
                      int vectors) {
    static const int64_t depths[] = {0, 1, 2, 3, 27, K_MAX};
    for (int d = 0; d < 6; d++) {
        for (int mode = 0; mode < 4; mode++) {
            fill(&before, channels, vectors * kernels->vector_length, depths[d]);
            before.accumulate = mode & 1;
            before.with_bias = mode & 2;
            before.sum = 1 + (d * 4 + mode) * 29 % 40;
            after = before;
            run(kernels, contract, &after, d % 5);
            check(kernels, &before, &after);
        }
    }
}

TEST(blocks_sum_store_accumulate_and_add_bias) {
    for_each_block(sums_test);
}

static void special_test(const sg_cpu_kernels *kernels, sg_contract contract, int channels,
                         int vectors) {
    static const double specials[] = {NAN, INFINITY, -INFINITY};
    for (int s = 0; s < 3; s++) {
        fill(&before, channels, vectors * kernels->vector_length, 9);
        before.weights[4 * channels + channels / 2] = specials[s];
        before.slab[before.offset[7] + 1] = specials[(s + 1) % 3];
        before.slab[before.offset[4]] = 0; /* infinity times zero is NaN */
        before.accumulate = s & 1;
        after = before;
        run(kernels, contract, &after, 1);
        check(kernels, &before, &after);
    }
}

TEST(nan_and_infinity_go_through) {
    for_each_block(special_test);
}

/* Chunks of k add up: the second call must begin where the first ended. */
static void chunks_test(const sg_cpu_kernels *kernels, sg_contract contract, int channels,
                        int vectors) {
    fill(&before, channels, vectors * kernels->vector_length, 90);
    before.with_bias = true;
    after = before;
    after.with_bias = false;
    after.k = 40;
    run(kernels, contract, &after, 0);
    after.with_bias = true;
    after.k = 50;
    after.accumulate = true;
    memmove(after.offset, after.offset + 40, 50 * sizeof *after.offset);
    memmove(after.weights, after.weights + 40 * channels,
            (size_t)(50 * channels) * sizeof *after.weights);
    run(kernels, contract, &after, 0);
    check(kernels, &before, &after);
}

TEST(chunks_of_k_add_up) {
    for_each_block(chunks_test);
}

static double rms_error(const problem *wanted, const problem *got) {
    double error = 0;
    for (int m = 0; m < wanted->channels; m++) {
        for (int j = 0; j < wanted->pixels; j++) {
            double scale;
            double off = got->tile[tile_start(got) + m * got->row_stride + j] -
                         expected(wanted, m, j, &scale);
            error += off * off;
        }
    }
    return sqrt(error / (wanted->channels * wanted->pixels));
}

/* Blocked sums are what the accuracy contract rests on: 26 sums of 27 products must round clearly
 * less than one of 700. */
static void accuracy_test(const sg_cpu_kernels *kernels, sg_contract contract, int channels,
                          int vectors) {
    if (channels * vectors < 8)
        return; /* too few results for a mean */
    fill(&before, channels, vectors * kernels->vector_length, K_MAX);
    for (int64_t i = 0; i < K_MAX * channels; i++)
        before.weights[i] += 0x1p-30 * (double)(i % 7); /* products that do not fit a float */
    problem *whole = malloc(sizeof *whole), *blocked = malloc(sizeof *blocked);
    REQUIRE(whole && blocked);
    *whole = *blocked = before;
    whole->sum = K_MAX;
    blocked->sum = 27;
    if (kernels->compute == SG_ELEMENT_F32) {
        run(kernels, contract, whole, 0);
        run(kernels, contract, blocked, 0);
        EXPECT(rms_error(&before, blocked) < 0.7 * rms_error(&before, whole));
    }
    free(whole);
    free(blocked);
}

TEST(blocked_sums_round_less) {
    for_each_block(accuracy_test);
}

/* The runtime makes up any channel count from the blocks, so the last must be one channel; and it
 * indexes arrays by the limits in kernels.h. */
TEST(block_tables_are_complete) {
    const sg_cpu_kernels *(*const tables[])(sg_element) = {
        sg_cpu_kernels_generic, sg_cpu_kernels_avx2, sg_cpu_kernels_avx512};
    REQUIRE(sg_cpu_kernels_generic(SG_ELEMENT_F32) && sg_cpu_kernels_generic(SG_ELEMENT_F64));
    for (int i = 0; i < 6; i++) {
        const sg_cpu_kernels *kernels = tables[i / 2](i % 2 ? SG_ELEMENT_F64 : SG_ELEMENT_F32);
        if (!kernels)
            continue;
        int count = kernels->contract_block_count;
        CASE("%s %s", kernels->isa, i % 2 ? "f64" : "f32");
        EXPECT(count >= 1);
        EXPECT(count <= SG_CONTRACT_BLOCKS_MAX);
        if (count < 1 || count > SG_CONTRACT_BLOCKS_MAX)
            continue;
        EXPECT_EQ_INT(kernels->contract_blocks[count - 1].channels, 1);
        for (int b = 0; b < count; b++) {
            const sg_contract_block *block = &kernels->contract_blocks[b];
            EXPECT(block->vectors_max >= 1 && block->vectors_max <= SG_CONTRACT_VECTORS_MAX);
            EXPECT(b == 0 || block->channels < kernels->contract_blocks[b - 1].channels);
            for (int vectors = 1; vectors <= block->vectors_max; vectors++)
                EXPECT(block->contract[vectors] != NULL);
        }
    }
}
