/* Accuracy of the tile ops: every pointwise row in float against its float64 reference, within the
 * row's ulp column, and the elementary functions in double against long double. Arguments run over
 * all exponents, subnormal numbers among them, with random mantissas. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu_variants.h"
#include "ir/ops.h"
#include "unit.h"

enum { BLOCK = 2048, BLOCKS = 24 };

/* A multiplicative congruential generator (Steele and Vigna 2022); tests need repeatable draws. */
static uint64_t random_state = 1;
static uint64_t draw_bits(void) {
    random_state = random_state * 0xd1342543de82ef95 + 1;
    return random_state ^ random_state >> 32;
}
static double draw_unit(void) {
    return (double)(draw_bits() >> 11) * 0x1p-53;
}

/* Any sign, exponents from low up to high, any mantissa. */
static double draw_exponent(int low, int high) {
    const int exponent = low + (int)(draw_bits() % (uint64_t)(high - low + 1));
    return (draw_bits() & 1 ? -1 : 1) * ldexp(1 + draw_unit(), exponent);
}

static double draw_domain(sg_domain domain) {
    switch (domain) {
    case SG_DOMAIN_WIDE:
        return 80 * draw_unit() - 40;
    case SG_DOMAIN_POSITIVE:
        return 8 * (1 - draw_unit());
    default:
        return 8 * draw_unit() - 4;
    }
}

static const double specials[] = {
    0.0,      -0.0,      INFINITY, -INFINITY, NAN,       1,         -1,        0x1p-149,  -0x1p-149,
    0x1p-126, -0x1p-126, 0.5,      -0.5,      1.5,       -1.5,      2.5,       -2.5,      3,
    -3,       6,         20,       88.72283,  88.72284,  -87.33655, -103.9720, -103.9721, 9.0109,
    -14.5,    0x1p23,    -0x1p23,  0x1p24,    8388607.5, 1e30,      -1e30,     1e-30,     -1e-30,
};
enum { SPECIALS = sizeof specials / sizeof *specials };

/* The distance between floats (doubles) of x's magnitude. */
static double ulp_of(double x, int mantissa_bits, int exponent_min) {
    int exponent;
    frexp(x, &exponent);
    return ldexp(1, (exponent < exponent_min ? exponent_min : exponent) - mantissa_bits);
}

/* How far a float is from the true value, in ulps of the larger of it and scale; infinite where one
 * is NaN or infinite and the other is not, or where both are exactly zero and their signs differ.
 */
static double distance_f32(float actual, double expected, double scale) {
    const float nearest = (float)expected;
    if (isnan(expected) || isnan(actual))
        return isnan(expected) && isnan(actual) ? 0 : INFINITY;
    if (actual == nearest)
        return expected != 0 || !signbit(actual) == !signbit(expected) ? 0 : INFINITY;
    if (isinf(actual) || isinf(nearest)) {
        /* Next to the overflow threshold either may be right. */
        return fabs(expected) > 0.9999998 * FLT_MAX && fabs(expected) < 1.0000002 * FLT_MAX &&
                       fabsf(actual) >= FLT_MAX
                   ? 0.5
                   : INFINITY;
    }
    return fabs(actual - expected) / ulp_of(fmax(fabs(expected), scale), 24, -125);
}

/* Operands of one block, [operand][column]. */
typedef struct operands {
    _Alignas(64) float value[SG_OPERANDS_MAX][BLOCK];
} operands;

/* The first block runs over the specials, or over pairs of them, or some triples. */
static int special_of(int i, int operand) {
    const int index[] = {i % SPECIALS, i / SPECIALS % SPECIALS, (int)(draw_bits() % SPECIALS)};
    return index[operand];
}

static void draw_operands(const sg_op_info *info, int block, operands *x) {
    for (int i = 0; i < BLOCK; i++) {
        for (int k = 0; k < SG_OPERANDS_MAX; k++) {
            double v = draw_domain(info->domain);
            if (info->arity == 1 && block % 2)
                v = draw_exponent(-149, 124);
            if (block == 0)
                v = specials[special_of(i, k)];
            const bool is_bool = (info->result == SG_RESULT_SELECT && k == 0) ||
                                 (info->result == SG_RESULT_MASK && k == 1);
            x->value[k][i] = (float)(is_bool ? v > 0 : v);
        }
    }
}

/* Of the three-operand sums the rounding of the product counts against the largest term: where
 * terms cancel, an ulp of the result would ask for an exact product. */
static double sum_scale(const sg_op_info *info, const operands *x, int i) {
    return info->arity == 3 && info->ulp > 0 ? fabs((double)x->value[0][i]) : 0;
}

/* Overflow and underflow between the operations of a row are PyTorch's too; the reference, in
 * double, has none. */
static bool may_leave_range(const sg_op_info *info, const operands *x, int i) {
    bool far = false;
    for (int k = 0; k < info->arity; k++) {
        const double m = fabs((double)x->value[k][i]);
        far |= isfinite(m) && m != 0 && (m > 0x1p60 || m < 0x1p-60);
    }
    return far && info->arity > 1 && info->ulp > 0;
}

static double expected_of(const sg_op_info *info, const operands *x, int i, const double *p) {
    return info->reference(x->value[0][i], x->value[1][i], x->value[2][i], p);
}

static void check_row(sg_op op, const double *p, double limit) {
    const sg_op_info *info = sg_op_get(op);
    const sg_cpu_kernels *tables[CPU_VARIANTS_MAX];
    const int count = cpu_variants(SG_ELEMENT_F32, tables);
    static operands x;
    static _Alignas(64) float actual[BLOCK];
    for (int block = 0; block < BLOCKS; block++) {
        draw_operands(info, block, &x);
        static double expected[BLOCK];
        for (int i = 0; i < BLOCK; i++)
            expected[i] = expected_of(info, &x, i, p);
        for (int t = 0; t < count; t++) {
            sg_tile_source sources[SG_TILE_SOURCES_MAX];
            for (int k = 0; k < SG_TILE_SOURCES_MAX; k++)
                sources[k] = (sg_tile_source){x.value[k], BLOCK, false};
            tables[t]->tile[op](1, BLOCK, actual, BLOCK, sources, p);
            for (int i = 0; i < BLOCK; i++) {
                if (may_leave_range(info, &x, i))
                    continue;
                const double d = distance_f32(actual[i], expected[i], sum_scale(info, &x, i));
                if (d <= limit)
                    continue;
                CASE("%s %s(%a, %a, %a)", tables[t]->isa, info->name, (double)x.value[0][i],
                     (double)x.value[1][i], (double)x.value[2][i]);
                EXPECT_NEAR(actual[i], expected[i], 0);
                return;
            }
        }
    }
}

TEST(float_rows_are_within_their_ulps) {
    int rows = 0;
    for (int op = 0; op < SG_OP_COUNT; op++) {
        const sg_op_info *info = sg_op_get((sg_op)op);
        if (info->kind != SG_KIND_POINTWISE || op == SG_OP_cast)
            continue;
        double p[SG_ATTRIBUTES_MAX] = {0};
        for (int i = 0; i < info->attribute_count; i++)
            p[i] = info->attributes[i].initial;
        check_row((sg_op)op, p, info->ulp);
        rows++;
    }
    EXPECT(rows > 60);
}

static void check_attributes(sg_op op, const double *p) {
    check_row(op, p, sg_op_get(op)->ulp);
}
TEST(float_rows_use_their_attributes) {
    check_attributes(SG_OP_leaky_relu, (const double[]){-0.25});
    check_attributes(SG_OP_elu, (const double[]){1.5, 0.5, 2});
    check_attributes(SG_OP_celu, (const double[]){0.5});
    check_attributes(SG_OP_threshold, (const double[]){0.5, -7});
    check_attributes(SG_OP_softplus, (const double[]){2, 8});
    check_attributes(SG_OP_hardtanh, (const double[]){-0.25, 2});
    check_attributes(SG_OP_clamp, (const double[]){-0.25, NAN});
    check_attributes(SG_OP_clamp, (const double[]){2, -1});
    check_attributes(SG_OP_hardshrink, (const double[]){1.5});
    check_attributes(SG_OP_softshrink, (const double[]){1.5});
    check_attributes(SG_OP_add, (const double[]){-1});
    check_attributes(SG_OP_rsub, (const double[]){-1});
    check_attributes(SG_OP_addcmul, (const double[]){2});
    check_attributes(SG_OP_addcdiv, (const double[]){-2});
}

/* What vector_math.h promises, which is more than the table asks. */
TEST(float_functions_are_nearly_correctly_rounded) {
    static const sg_op functions[] = {
        SG_OP_exp,       SG_OP_exp2, SG_OP_expm1, SG_OP_log,         SG_OP_log1p,   SG_OP_log2,
        SG_OP_log10,     SG_OP_pow,  SG_OP_erf,   SG_OP_tanh,        SG_OP_sigmoid, SG_OP_gelu,
        SG_OP_gelu_tanh, SG_OP_silu, SG_OP_mish,  SG_OP_log_sigmoid,
    };
    for (int i = 0; i < (int)(sizeof functions / sizeof *functions); i++)
        check_row(functions[i], NULL, 0.51);
    check_row(SG_OP_softplus, (const double[]){1, 20}, 0.51);
}

TEST(float_pow_over_all_exponents) {
    const sg_cpu_kernels *tables[CPU_VARIANTS_MAX];
    const int count = cpu_variants(SG_ELEMENT_F32, tables);
    static _Alignas(64) float a[BLOCK], b[BLOCK], actual[BLOCK];
    const sg_tile_source sources[] = {{a, BLOCK, false}, {b, BLOCK, false}};
    for (int block = 0; block < BLOCKS; block++) {
        for (int i = 0; i < BLOCK; i++) {
            a[i] = (float)draw_exponent(-149, 127);
            /* Half of the exponents are integers, for negative bases. */
            b[i] = (float)(draw_bits() & 1 ? draw_exponent(-10, 7) : trunc(draw_exponent(-1, 6)));
        }
        for (int t = 0; t < count; t++) {
            tables[t]->tile[SG_OP_pow](1, BLOCK, actual, BLOCK, sources, NULL);
            for (int i = 0; i < BLOCK; i++) {
                CASE("%s pow(%a, %a) is %a", tables[t]->isa, (double)a[i], (double)b[i],
                     (double)actual[i]);
                REQUIRE(distance_f32(actual[i], pow(a[i], b[i]), 0) <= 0.51);
            }
        }
    }
}

#if LDBL_MANT_DIG >= 64
/* References with eleven bits to spare. */
typedef long double wide;
static wide wide_rsqrt(wide x) {
    return 1 / sqrtl(x);
}
static wide wide_sigmoid(wide x) {
    return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x));
}
static wide wide_silu(wide x) {
    return x * wide_sigmoid(x);
}
static wide wide_softplus(wide x) {
    return x > 20 ? x : (x > 0 ? x : 0) + log1pl(expl(-fabsl(x)));
}
static wide wide_log_sigmoid(wide x) {
    return (x < 0 ? x : 0) - log1pl(expl(-fabsl(x)));
}
static wide wide_mish(wide x) {
    const wide e = expl(x > 100 ? 100 : x), n = e * (e + 2);
    return x * (n / (n + 2));
}
static wide wide_gelu(wide x) {
    return 0.5L * x * erfcl(-x * 0.70710678118654752440084436210484903928L);
}
static wide wide_gelu_tanh(wide x) {
    const wide k = 0.79788456080286535587989211986876373695L;
    return x * wide_sigmoid(2 * k * (x + 0.044715L * x * x * x));
}

static double distance_f64(double actual, wide expected) {
    const double nearest = (double)expected;
    if (isnan(nearest) || isnan(actual))
        return isnan(nearest) && isnan(actual) ? 0 : INFINITY;
    if (isinf(actual) || isinf(nearest))
        return actual == nearest ? 0 : INFINITY;
    return (double)(fabsl(actual - expected) / ulp_of(nearest, 53, -1021));
}

/* Arguments of function draws: half over all exponents, half within +-range. */
static void check_f64(sg_op op, wide (*reference)(wide), double range, double limit) {
    const sg_cpu_kernels *tables[CPU_VARIANTS_MAX];
    const int count = cpu_variants(SG_ELEMENT_F64, tables);
    static _Alignas(64) double x[BLOCK], actual[BLOCK];
    static wide expected[BLOCK];
    const sg_tile_source source = {x, BLOCK, false};
    const double p[] = {1, 20};
    for (int block = 0; block < BLOCKS / 2; block++) {
        for (int i = 0; i < BLOCK; i++) {
            x[i] = i % 2 ? draw_exponent(-1074, 1023) : range * (2 * draw_unit() - 1);
            if (block == 0 && i < SPECIALS && isfinite(specials[i]))
                x[i] = specials[i];
            expected[i] = reference(x[i]);
        }
        for (int t = 0; t < count; t++) {
            tables[t]->tile[op](1, BLOCK, actual, BLOCK, &source, p);
            for (int i = 0; i < BLOCK; i++) {
                CASE("%s %s(%a) is %a, expected %La", tables[t]->isa, sg_op_get(op)->name, x[i],
                     actual[i], expected[i]);
                REQUIRE(distance_f64(actual[i], expected[i]) <= limit);
            }
        }
    }
}

TEST(double_functions_are_within_two_ulps) {
    check_f64(SG_OP_exp, expl, 740, 1);
    check_f64(SG_OP_exp2, exp2l, 1070, 1);
    check_f64(SG_OP_expm1, expm1l, 3, 1.5);
    check_f64(SG_OP_log, logl, 3, 1);
    check_f64(SG_OP_log1p, log1pl, 3, 1);
    check_f64(SG_OP_log2, log2l, 3, 2);
    check_f64(SG_OP_log10, log10l, 3, 2);
    check_f64(SG_OP_rsqrt, wide_rsqrt, 8, 2);
    check_f64(SG_OP_erf, erfl, 4, 2);
    check_f64(SG_OP_tanh, tanhl, 4, 1.5);
    check_f64(SG_OP_sigmoid, wide_sigmoid, 740, 1.5);
    check_f64(SG_OP_silu, wide_silu, 50, 2);
    check_f64(SG_OP_mish, wide_mish, 30, 2);
    check_f64(SG_OP_softplus, wide_softplus, 30, 2);
    check_f64(SG_OP_log_sigmoid, wide_log_sigmoid, 30, 2);
}

TEST(double_gelu_keeps_its_tail) {
    const sg_cpu_kernels *tables[CPU_VARIANTS_MAX];
    const int count = cpu_variants(SG_ELEMENT_F64, tables);
    static _Alignas(64) double x[BLOCK], exact[BLOCK], with_tanh[BLOCK];
    const sg_tile_source source = {x, BLOCK, false};
    for (int i = 0; i < BLOCK; i++)
        x[i] = 20.0 * i / BLOCK - 18;
    for (int t = 0; t < count; t++) {
        tables[t]->tile[SG_OP_gelu](1, BLOCK, exact, BLOCK, &source, NULL);
        tables[t]->tile[SG_OP_gelu_tanh](1, BLOCK, with_tanh, BLOCK, &source, NULL);
        for (int i = 0; i < BLOCK; i++) {
            CASE("%s gelu(%a)", tables[t]->isa, x[i]);
            REQUIRE(distance_f64(exact[i], wide_gelu(x[i])) <= 5); /* glibc's erfc: 5 */
            REQUIRE(distance_f64(with_tanh[i], wide_gelu_tanh(x[i])) <= 2);
        }
    }
}
#endif
