/* How tile ops read and write: splat operands, strides, writing over a source, casts; and that the
 * table has a kernel for exactly the pointwise rows. Values are test_vector_math.c's business. */
#include <math.h>
#include <string.h>

#include "cpu_variants.h"
#include "ir/ops.h"
#include "unit.h"

enum { ROWS = 3, COLS = 48, STRIDE = 64 };

/* Every test runs for both compute types; values are kept in double and are exact in float. */
static const sg_element computes[] = {SG_ELEMENT_F32, SG_ELEMENT_F64};

/* A tile [ROWS][STRIDE] of either compute type. */
typedef union tile {
    _Alignas(64) float f[ROWS * STRIDE];
    double d[ROWS * STRIDE];
} tile;

static void put(tile *t, sg_element compute, int i, double x) {
    if (compute == SG_ELEMENT_F64)
        t->d[i] = x;
    else
        t->f[i] = (float)x;
}
static double get(const tile *t, sg_element compute, int i) {
    return compute == SG_ELEMENT_F64 ? t->d[i] : t->f[i];
}
static void *at(tile *t, sg_element compute, int i) {
    return compute == SG_ELEMENT_F64 ? (void *)&t->d[i] : (void *)&t->f[i];
}

/* Value of element i of operand k: small integers, all different within a column. */
static double value(int k, int i) {
    return (k + 1) * 1000 + i % 191;
}
static void fill(tile *t, sg_element compute, int k) {
    for (int i = 0; i < ROWS * STRIDE; i++)
        put(t, compute, i, value(k, i));
}

TEST(there_is_a_kernel_for_every_pointwise_row) {
    for (int c = 0; c < 2; c++) {
        const sg_cpu_kernels *tables[CPU_VARIANTS_MAX];
        const int count = cpu_variants(computes[c], tables);
        REQUIRE(count > 0);
        for (int t = 0; t < count; t++) {
            EXPECT_EQ_INT(tables[t]->compute, computes[c]);
            EXPECT(tables[t]->vector_length > 0 && COLS % tables[t]->vector_length == 0);
            for (int op = 0; op < SG_OP_COUNT; op++) {
                CASE("%s %s", tables[t]->isa, sg_op_get((sg_op)op)->name);
                EXPECT((tables[t]->tile[op] != NULL) ==
                       (sg_op_get((sg_op)op)->kind == SG_KIND_POINTWISE));
            }
        }
    }
}

/* where(a, b, c) with every mix of full tiles, a value per row and one value for all. */
static void check_operands(const sg_cpu_kernels *kernels, int mix) {
    const sg_element compute = kernels->compute;
    enum { FULL, PER_ROW, SCALAR };
    static tile in[3], out;
    int how[3] = {mix % 3, mix / 3 % 3, mix / 9};
    sg_tile_source sources[3];
    for (int k = 0; k < 3; k++) {
        fill(&in[k], compute, k);
        sources[k] = (sg_tile_source){&in[k], how[k] == SCALAR ? 0 : STRIDE, how[k] != FULL};
    }
    for (int i = 0; i < ROWS * STRIDE; i++) {
        put(&in[0], compute, i, i / STRIDE != 1); /* the middle row chooses the other operand */
        put(&out, compute, i, -1);
    }
    kernels->tile[SG_OP_where](ROWS, COLS, &out, STRIDE, sources, NULL);
    for (int i = 0; i < ROWS * STRIDE; i++) {
        const int row = i / STRIDE, col = i % STRIDE;
        int from[3];
        for (int k = 0; k < 3; k++)
            from[k] = (how[k] == SCALAR ? 0 : row * STRIDE) + (how[k] == FULL ? col : 0);
        const int chosen = get(&in[0], compute, from[0]) != 0 ? 1 : 2;
        CASE("%s, operand kinds %d %d %d, row %d, column %d", kernels->isa, how[0], how[1], how[2],
             row, col);
        REQUIRE(get(&out, compute, i) == (col < COLS ? value(chosen, from[chosen]) : -1));
    }
}

TEST(operands_are_full_or_splat) {
    for (int c = 0; c < 2; c++) {
        const sg_cpu_kernels *tables[CPU_VARIANTS_MAX];
        const int count = cpu_variants(computes[c], tables);
        for (int t = 0; t < count; t++)
            for (int mix = 0; mix < 27; mix++)
                check_operands(tables[t], mix);
    }
}

TEST(a_source_may_be_written_over) {
    for (int c = 0; c < 2; c++) {
        const sg_cpu_kernels *tables[CPU_VARIANTS_MAX];
        const int count = cpu_variants(computes[c], tables);
        for (int t = 0; t < count; t++) {
            static tile a, b;
            fill(&a, computes[c], 0);
            fill(&b, computes[c], 1);
            const sg_tile_source sources[] = {{&a, STRIDE, false}, {&b, STRIDE, false}};
            const double alpha = 2;
            tables[t]->tile[SG_OP_sub](ROWS, COLS, &b, STRIDE, sources, &alpha);
            for (int i = 0; i < ROWS * STRIDE; i++) {
                CASE("%s, element %d", tables[t]->isa, i);
                const double kept = value(1, i);
                REQUIRE(get(&b, computes[c], i) ==
                        (i % STRIDE < COLS ? value(0, i) - 2 * kept : kept));
            }
        }
    }
}

/* Casts: a value, the element type, and what it becomes. */
static const struct {
    double value;
    sg_element element;
    double rounded;
} casts[] = {
    {1 + 0x1p-11, SG_ELEMENT_F16, 1},              /* halfway: to even */
    {1 + 3 * 0x1p-11, SG_ELEMENT_F16, 1 + 0x1p-9}, /* halfway: to even, upwards */
    {65519, SG_ELEMENT_F16, 65504},                /* below the overflow threshold */
    {65520, SG_ELEMENT_F16, INFINITY},
    {-0x1p-25, SG_ELEMENT_F16, -0.0},
    {0x1.8p-25, SG_ELEMENT_F16, 0x1p-24}, /* the smallest subnormal number */
    {1 + 0x1p-8, SG_ELEMENT_BF16, 1},
    {1 + 3 * 0x1p-8, SG_ELEMENT_BF16, 1 + 0x1p-6},
    {0x1.ffp127, SG_ELEMENT_BF16, INFINITY},
    {-2.5, SG_ELEMENT_F32, -2.5},
    {NAN, SG_ELEMENT_BF16, NAN},
    {NAN, SG_ELEMENT_F16, NAN},
    {-INFINITY, SG_ELEMENT_F16, -INFINITY},
    {NAN, SG_ELEMENT_BOOL, 1},
    {-0.0, SG_ELEMENT_BOOL, 0},
    {0x1p-149, SG_ELEMENT_BOOL, 1},
    {0.1f, SG_ELEMENT_F64, 0.1f},
};

TEST(casts_round_as_the_element_type) {
    for (int c = 0; c < 2; c++) {
        const sg_cpu_kernels *tables[CPU_VARIANTS_MAX];
        const int count = cpu_variants(computes[c], tables);
        for (int t = 0; t < count; t++) {
            for (int i = 0; i < (int)(sizeof casts / sizeof *casts); i++) {
                static tile x, out;
                put(&x, computes[c], 0, casts[i].value);
                const sg_tile_source source = {at(&x, computes[c], 0), 0, true};
                const double element = casts[i].element;
                tables[t]->tile[SG_OP_cast](1, COLS, &out, STRIDE, &source, &element);
                for (int j = 0; j < COLS; j++) {
                    const double got = get(&out, computes[c], j);
                    CASE("%s, cast %d", tables[t]->isa, i);
                    EXPECT_NEAR(got, casts[i].rounded, 0);
                    EXPECT(isnan(got) || !signbit(got) == !signbit(casts[i].rounded));
                }
            }
        }
    }
}

/* 1 + 2^-11 + 2^-40 rounds up; through a float first it would be halfway and round to even, down.
 */
TEST(double_to_half_rounds_once) {
    const sg_cpu_kernels *tables[CPU_VARIANTS_MAX];
    const int count = cpu_variants(SG_ELEMENT_F64, tables);
    for (int t = 0; t < count; t++) {
        static tile out;
        const double x = 1 + 0x1p-11 + 0x1p-40, y = -1 - 0x1p-8 - 0x1p-40;
        double element = SG_ELEMENT_F16;
        tables[t]->tile[SG_OP_cast](1, COLS, &out, STRIDE, &(sg_tile_source){&x, 0, true},
                                    &element);
        EXPECT_NEAR(out.d[0], 1 + 0x1p-10, 0);
        element = SG_ELEMENT_BF16;
        tables[t]->tile[SG_OP_cast](1, COLS, &out, STRIDE, &(sg_tile_source){&y, 0, true},
                                    &element);
        EXPECT_NEAR(out.d[0], -1 - 0x1p-7, 0);
    }
}
