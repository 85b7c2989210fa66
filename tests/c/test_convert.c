/* Conversions between memory and tiles: all 65536 binary16 and bfloat16 values both ways, rounding
 * of values between them, every element type over strides. */
#include <math.h>
#include <string.h>

#include "cpu_variants.h"
#include "unit.h"

static const sg_element computes[] = {SG_ELEMENT_F32, SG_ELEMENT_F64};
enum { NARROW = 1 << 16 };

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

/* What the bits mean, from the definition of the formats. */
static double value_of(uint16_t bits, sg_element type) {
    const int mantissa_bits = type == SG_ELEMENT_F16 ? 10 : 7;
    const int exponent_bits = 15 - mantissa_bits, bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
    const int mantissa = bits & ((1 << mantissa_bits) - 1);
    const double sign = bits >> 15 ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1)
        return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

static double element(const void *data, sg_element compute, int i) {
    return compute == SG_ELEMENT_F64 ? ((const double *)data)[i] : ((const float *)data)[i];
}
static void put(void *data, sg_element compute, int i, double x) {
    if (compute == SG_ELEMENT_F64)
        ((double *)data)[i] = x;
    else
        ((float *)data)[i] = (float)x;
}

static void check_narrow(const sg_cpu_kernels *kernels) {
    static uint16_t all[NARROW], back[NARROW];
    static double tile[NARROW];
    for (int i = 0; i < NARROW; i++)
        all[i] = (uint16_t)i;
    for (sg_element type = SG_ELEMENT_F16; type <= SG_ELEMENT_BF16; type++) {
        kernels->convert_in(NARROW, tile, 1, all, 1, type);
        kernels->convert_out(NARROW, back, 1, type, tile);
        for (int i = 0; i < NARROW; i++) {
            const double expected = value_of(all[i], type),
                         got = element(tile, kernels->compute, i);
            if (isnan(expected)) {
                EXPECT(isnan(got));
                EXPECT(isnan(value_of(back[i], type)));
                continue;
            }
            REQUIRE(got == expected && !signbit(got) == !signbit(expected));
            REQUIRE(back[i] == all[i]);
        }
    }
}
TEST(narrow_formats_go_there_and_back) {
    for_every_variant(check_narrow);
}

/* Between neighbours h and h + 1: halfway goes to the even one, a little less or more to the
 * nearer. `little` is the last bit that the compute type has there. */
static void check_rounding(const sg_cpu_kernels *kernels) {
    const bool is_double = kernels->compute == SG_ELEMENT_F64;
    static double tile[3 * NARROW];
    static uint16_t got[3 * NARROW];
    for (sg_element type = SG_ELEMENT_F16; type <= SG_ELEMENT_BF16; type++) {
        const int infinity = type == SG_ELEMENT_F16 ? 0x7c00 : 0x7f80;
        const double top = type == SG_ELEMENT_F16 ? 0x1p16 : 0x1p128;
        for (int h = 0; h < infinity; h++) {
            const double low = value_of((uint16_t)h, type);
            const double high = h + 1 == infinity ? top : value_of((uint16_t)(h + 1), type);
            const double middle = (low + high) / 2;
            const double below = is_double ? nextafter(middle, 0) : nextafterf((float)middle, 0);
            const double above =
                is_double ? nextafter(middle, INFINITY) : nextafterf((float)middle, INFINITY);
            put(tile, kernels->compute, 3 * h, -below);
            put(tile, kernels->compute, 3 * h + 1, middle);
            put(tile, kernels->compute, 3 * h + 2, above);
        }
        kernels->convert_out(3 * infinity, got, 1, type, tile);
        for (int h = 0; h < infinity; h++) {
            REQUIRE(got[3 * h] == (h | 0x8000));
            REQUIRE(got[3 * h + 1] == h + (h & 1));
            REQUIRE(got[3 * h + 2] == h + 1);
        }
    }
}
TEST(narrow_formats_round_to_nearest_even) {
    for_every_variant(check_rounding);
}

/* Bytes of an element type, and small values that all of them hold. */
static const int size_of[SG_ELEMENT_COUNT] = {1, 2, 2, 4, 8};

static void check_strides(const sg_cpu_kernels *kernels) {
    enum { COUNT = 67, SPAN = 3 * COUNT };
    for (int type = 0; type < SG_ELEMENT_COUNT; type++) {
        for (int stride = 1; stride <= 3; stride++) {
            double tile[COUNT], spread[SPAN], again[COUNT];
            unsigned char memory[SPAN * 8];
            for (int i = 0; i < COUNT; i++)
                put(tile, kernels->compute, i, i % 2);
            memset(memory, 0xa5, sizeof memory);
            kernels->convert_out(COUNT, memory, stride, (sg_element)type, tile);
            for (int i = 0; i < (int)sizeof memory; i++) {
                const int place = i / size_of[type];
                if (place % stride || place / stride >= COUNT)
                    EXPECT_EQ_INT(memory[i], 0xa5);
            }
            for (int i = 0; i < SPAN; i++)
                put(spread, kernels->compute, i, -1);
            kernels->convert_in(COUNT, spread, 1, memory, stride, (sg_element)type);
            for (int i = 0; i < SPAN; i++)
                EXPECT_NEAR(element(spread, kernels->compute, i), i < COUNT ? i % 2 : -1, 0);
            for (int i = 0; i < SPAN; i++)
                put(spread, kernels->compute, i, -1);
            kernels->convert_in(COUNT, spread, stride, memory, stride, (sg_element)type);
            for (int i = 0; i < SPAN; i++)
                EXPECT_NEAR(element(spread, kernels->compute, i),
                            i % stride || i / stride >= COUNT ? -1 : i / stride % 2, 0);
            kernels->convert_in(COUNT, again, 1, memory, stride, (sg_element)type);
            EXPECT_NEAR(element(again, kernels->compute, COUNT - 1), (COUNT - 1) % 2, 0);
        }
    }
}
TEST(every_type_is_read_and_written_over_strides) {
    for_every_variant(check_strides);
}

/* A NaN whose payload lies below the narrow format's last bit must not turn into an infinity. */
static void check_nan_payload(const sg_cpu_kernels *kernels) {
    enum { COUNT = 19 };
    const uint64_t bits64 = 0xfff0000000000001;
    const uint32_t bits32 = 0xff800001;
    double tile[COUNT];
    for (int i = 0; i < COUNT; i++) {
        if (kernels->compute == SG_ELEMENT_F64)
            memcpy(tile + i, &bits64, sizeof bits64);
        else
            memcpy((float *)tile + i, &bits32, sizeof bits32);
    }
    for (sg_element type = SG_ELEMENT_F16; type <= SG_ELEMENT_BF16; type++) {
        uint16_t out[COUNT];
        kernels->convert_out(COUNT, out, 1, type, tile);
        for (int i = 0; i < COUNT; i++)
            EXPECT(isnan(value_of(out[i], type)));
    }
}
TEST(nan_with_a_small_payload_stays_nan) {
    for_every_variant(check_nan_payload);
}

static void check_wide_and_bool(const sg_cpu_kernels *kernels) {
    enum { COUNT = 5 };
    const double in[COUNT] = {0.1, -0.0, 1e-50, NAN, -INFINITY};
    double tile[COUNT], f64[COUNT];
    float f32[COUNT];
    uint8_t truth[COUNT];
    const bool is_double = kernels->compute == SG_ELEMENT_F64;
    kernels->convert_in(COUNT, tile, 1, in, 1, SG_ELEMENT_F64);
    kernels->convert_out(COUNT, f64, 1, SG_ELEMENT_F64, tile);
    kernels->convert_out(COUNT, f32, 1, SG_ELEMENT_F32, tile);
    kernels->convert_out(COUNT, truth, 1, SG_ELEMENT_BOOL, tile);
    for (int i = 0; i < COUNT; i++) {
        EXPECT_NEAR(f64[i], is_double ? in[i] : (float)in[i], 0);
        EXPECT_NEAR(f32[i], (float)in[i], 0);
        EXPECT_EQ_INT(truth[i], is_double ? in[i] != 0 : (float)in[i] != 0);
    }
    EXPECT(signbit(f64[1]) && signbit(f32[1]));
    const uint8_t bytes[] = {0, 1, 255, 2, 0};
    kernels->convert_in(COUNT, tile, 1, bytes, 1, SG_ELEMENT_BOOL);
    for (int i = 0; i < COUNT; i++)
        EXPECT_NEAR(element(tile, kernels->compute, i), bytes[i] != 0, 0);
}
TEST(wide_types_and_truth_values) {
    for_every_variant(check_wide_and_bool);
}
