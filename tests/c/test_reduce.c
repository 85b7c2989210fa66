/* Reductions over tiles against plain loops, and what a plain loop in the compute type would get
 * wrong: cancellation, long sums, NaN, infinities. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "cpu_variants.h"
#include "unit.h"

enum { ROWS = 37, COLS = 96, STRIDE = 112 };

static const sg_element computes[] = {SG_ELEMENT_F32, SG_ELEMENT_F64};

/* [ROWS][STRIDE] of the compute type, and the same in double. */
typedef struct tile {
    double exact[ROWS * STRIDE];
    union {
        _Alignas(64) float f[ROWS * STRIDE];
        double d[ROWS * STRIDE];
    } in;
} tile;

static void set(tile *t, sg_element compute, int row, int col, double x) {
    const int i = row * STRIDE + col;
    t->exact[i] = x;
    if (compute == SG_ELEMENT_F64)
        t->in.d[i] = x;
    else
        t->in.f[i] = (float)x;
}

/* Multiples of 1/64 around one, so that products stay in range. */
static void fill(tile *t, sg_element compute) {
    uint32_t state = 7;
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < STRIDE; c++) {
            state = state * 1664525u + 1013904223u;
            set(t, compute, r, c, ((int)(state >> 24) % 64 - 32 + 64) / 64.0);
        }
}

static double combine(sg_reduction how, double a, double b) {
    switch (how) {
    case SG_REDUCTION_PROD:
        return a * b;
    case SG_REDUCTION_MIN:
        return a < b || isnan(a) ? a : b;
    case SG_REDUCTION_MAX:
        return a > b || isnan(a) ? a : b;
    default:
        return a + b;
    }
}

static double element(const void *data, sg_element compute, int i) {
    return compute == SG_ELEMENT_F64 ? ((const double *)data)[i] : ((const float *)data)[i];
}

/* The inputs' products have more digits than a double; everything else here is exact. */
static double tolerance(sg_reduction how, sg_element compute, double x) {
    if (how != SG_REDUCTION_PROD)
        return 0;
    return fabs(x) * (compute == SG_ELEMENT_F64 ? 3e-14 : 0x1p-24);
}

typedef void (*check)(const sg_cpu_kernels *kernels);
static void for_every_variant(check run) {
    for (int c = 0; c < 2; c++) {
        const sg_cpu_kernels *tables[CPU_VARIANTS_MAX];
        const int count = cpu_variants(computes[c], tables);
        for (int t = 0; t < count; t++) {
            CASE("%s %s", tables[t]->isa, c ? "f64" : "f32");
            run(tables[t]);
        }
    }
}

static void check_rows(const sg_cpu_kernels *kernels) {
    static tile t;
    fill(&t, kernels->compute);
    for (int how = 0; how < SG_REDUCTION_COUNT; how++) {
        for (int rows = 1; rows <= ROWS; rows += 6) {
            _Alignas(64) double out[STRIDE];
            memset(out, 0xff, sizeof out);
            kernels->reduce_rows[how](rows, COLS, out, &t.in, STRIDE);
            for (int c = 0; c < COLS; c++) {
                double expected = t.exact[c];
                for (int r = 1; r < rows; r++)
                    expected = combine((sg_reduction)how, expected, t.exact[r * STRIDE + c]);
                EXPECT_NEAR(element(out, kernels->compute, c), expected,
                            tolerance((sg_reduction)how, kernels->compute, expected));
            }
            EXPECT(isnan(element(out, kernels->compute, COLS)));
        }
    }
}
TEST(rows_reduce_to_their_column) {
    for_every_variant(check_rows);
}

/* Segments of every length and alignment; the columns between them would spoil any result. */
static void check_columns(const sg_cpu_kernels *kernels) {
    static tile t;
    for (int length = 1; length < 45; length++) {
        const sg_segment segments[] = {{3, length}, {3 + length + 2, 1}, {70, 17}};
        fill(&t, kernels->compute);
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < STRIDE; c++) {
                bool inside = false;
                for (int s = 0; s < 3; s++)
                    inside |= c >= segments[s].start && c < segments[s].start + segments[s].length;
                if (!inside)
                    set(&t, kernels->compute, r, c, NAN);
            }
        for (int how = 0; how < SG_REDUCTION_COUNT; how++) {
            double out[ROWS];
            kernels->reduce_columns[how](ROWS, out, &t.in, STRIDE, 3, segments);
            for (int r = 0; r < ROWS; r++) {
                const double *row = t.exact + r * STRIDE;
                double expected = row[3];
                for (int c = 4; c < STRIDE; c++)
                    if (!isnan(row[c]))
                        expected = combine((sg_reduction)how, expected, row[c]);
                EXPECT_NEAR(element(out, kernels->compute, r), expected,
                            tolerance((sg_reduction)how, kernels->compute, expected));
            }
        }
    }
}
TEST(columns_reduce_over_their_segments) {
    for_every_variant(check_columns);
}

/* NaN, wherever it stands, and infinities come through. */
static void check_specials(const sg_cpu_kernels *kernels) {
    const sg_element compute = kernels->compute;
    const sg_segment all = {0, COLS - 1}, all_and_one = {0, COLS};
    static tile t;
    for (int place = 0; place < 30; place++) {
        double rows[STRIDE], columns[ROWS];
        for (int how = 0; how < SG_REDUCTION_COUNT; how++) {
            fill(&t, compute);
            set(&t, compute, place, 3 * place, NAN);
            kernels->reduce_rows[how](ROWS, COLS, rows, &t.in, STRIDE);
            kernels->reduce_columns[how](ROWS, columns, &t.in, STRIDE, 1, &all);
            for (int c = 0; c < COLS; c++)
                EXPECT_EQ_INT(isnan(element(rows, compute, c)) != 0, c == 3 * place);
            for (int r = 0; r < ROWS; r++)
                EXPECT_EQ_INT(isnan(element(columns, compute, r)) != 0, r == place);

            fill(&t, compute);
            const double infinite = how == SG_REDUCTION_MIN ? -INFINITY : INFINITY;
            set(&t, compute, place, 3 * place, infinite);
            kernels->reduce_rows[how](ROWS, COLS, rows, &t.in, STRIDE);
            kernels->reduce_columns[how](ROWS, columns, &t.in, STRIDE, 1, &all_and_one);
            EXPECT_NEAR(element(rows, compute, 3 * place), infinite, 0);
            EXPECT_NEAR(element(columns, compute, place), infinite, 0);
        }
        fill(&t, compute);
        set(&t, compute, place, 5, INFINITY);
        set(&t, compute, (place + 9) % ROWS, 5, -INFINITY);
        kernels->reduce_rows[SG_REDUCTION_SUM](ROWS, COLS, rows, &t.in, STRIDE);
        EXPECT(isnan(element(rows, compute, 5)));
    }
}
TEST(nan_and_infinity_come_through) {
    for_every_variant(check_specials);
}

/* big + small - big, which a plain sum answers with 0. */
static void check_cancellation(const sg_cpu_kernels *kernels) {
    const sg_element compute = kernels->compute;
    const double big = compute == SG_ELEMENT_F64 ? 0x1p60 : 0x1p30;
    const sg_segment all = {0, COLS};
    static tile t;
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < STRIDE; c++)
            set(&t, compute, r, c, 0.25);
    for (int c = 0; c < COLS; c++) {
        set(&t, compute, 0, c, big);
        set(&t, compute, ROWS - 1, c, -big);
    }
    double out[STRIDE];
    kernels->reduce_rows[SG_REDUCTION_SUM](ROWS, COLS, out, &t.in, STRIDE);
    for (int c = 0; c < COLS; c++)
        EXPECT_NEAR(element(out, compute, c), (ROWS - 2) * 0.25, 0);
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < COLS; c++)
            set(&t, compute, r, c, 0.25);
        set(&t, compute, r, r, big);
        set(&t, compute, r, COLS - 1 - r, -big);
    }
    kernels->reduce_columns[SG_REDUCTION_SUM](ROWS, out, &t.in, STRIDE, 1, &all);
    for (int r = 0; r < ROWS; r++)
        EXPECT_NEAR(element(out, compute, r), (COLS - 2) * 0.25, 0);
}
TEST(sums_survive_cancellation) {
    for_every_variant(check_cancellation);
}

/* 0.1 ten thousand times: acc + comp is the exact sum, though acc alone is not. An infinity stays
 * one. */
static void check_accumulate(const sg_cpu_kernels *kernels) {
    const sg_element compute = kernels->compute;
    static tile sum, error, x;
    const double tenth = compute == SG_ELEMENT_F64 ? 0.1 : (double)0.1f;
    for (int r = 0; r < 2; r++)
        for (int c = 0; c < STRIDE; c++) {
            set(&sum, compute, r, c, 0);
            set(&error, compute, r, c, 0);
            set(&x, compute, r, c, tenth);
        }
    set(&x, compute, 1, 7, INFINITY);
    for (int i = 0; i < 10000; i++)
        kernels->accumulate_sum(2, COLS, &sum.in, &error.in, STRIDE, &x.in, STRIDE);
    const double acc = element(&sum.in, compute, 0), comp = element(&error.in, compute, 0);
    const double epsilon = compute == SG_ELEMENT_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
    EXPECT(fabs(acc - 10000 * tenth) > 100 * epsilon * 1000 || comp != 0);
    EXPECT_NEAR(acc + comp, 10000 * tenth, compute == SG_ELEMENT_F64 ? 1.2e-13 : 1e-7 * 1000);
    const int infinite = STRIDE + 7;
    EXPECT_NEAR(element(&sum.in, compute, infinite) + element(&error.in, compute, infinite),
                INFINITY, 0);
    EXPECT_NEAR(element(&sum.in, compute, COLS), 0, 0);
}
TEST(running_sums_keep_what_they_round_away) {
    for_every_variant(check_accumulate);
}
