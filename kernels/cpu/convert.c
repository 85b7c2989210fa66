/* Between the element types in memory and the compute type in tiles. */
#include "half.h"
#include "variant.h"

/* Every loop exists twice: over contiguous memory, where the compiler makes vectors of it, and over
 * strides. */
#define FOR_EACH(statement)                                                                        \
    do {                                                                                           \
        if (dst_stride == 1 && src_stride == 1) {                                                  \
            for (int64_t i = 0, o = 0; i < count; i++, o++)                                        \
                statement;                                                                         \
        } else {                                                                                   \
            for (int64_t n = 0, i = 0, o = 0; n < count; n++, i += src_stride, o += dst_stride)    \
                statement;                                                                         \
        }                                                                                          \
    } while (0)

/* How many leading elements vectors of binary16 take. */
SG_INLINE int64_t whole_vectors(int64_t count, int64_t dst_stride, int64_t src_stride) {
    return dst_stride == 1 && src_stride == 1 ? count - count % SG_F32_LENGTH : 0;
}

static void in_f16(int64_t count, S *restrict dst, int64_t dst_stride, const uint16_t *restrict src,
                   int64_t src_stride) {
    const int64_t whole = whole_vectors(count, dst_stride, src_stride);
    for (int64_t i = 0; i < whole; i += SG_F32_LENGTH) {
        const F x = f_load_f16(src + i);
#ifdef SG_COMPUTE_F64
        d_store(dst + i, f_low(x));
        d_store(dst + i + SG_F64_LENGTH, f_high(x));
#else
        f_store(dst + i, x);
#endif
    }
    for (int64_t i = whole; i < count; i++)
        dst[i * dst_stride] = f32_of_f16(src[i * src_stride]);
}

static void out_f16(int64_t count, uint16_t *restrict dst, int64_t dst_stride,
                    const S *restrict src) {
#ifdef SG_COMPUTE_F64
    for (int64_t i = 0; i < count; i++)
        dst[i * dst_stride] = f16_of_f64(src[i]);
#else
    const int64_t whole = whole_vectors(count, dst_stride, 1);
    for (int64_t i = 0; i < whole; i += SG_F32_LENGTH)
        f_store_f16(dst + i, f_load(src + i));
    for (int64_t i = whole; i < count; i++)
        dst[i * dst_stride] = f16_of_f32(src[i]);
#endif
}

static void in_bf16(int64_t count, S *restrict dst, int64_t dst_stride,
                    const uint16_t *restrict src, int64_t src_stride) {
    FOR_EACH(dst[o] = f32_of_bf16(src[i]));
}

static void out_bf16(int64_t count, uint16_t *restrict dst, int64_t dst_stride,
                     const S *restrict src) {
    const int64_t src_stride = 1;
#ifdef SG_COMPUTE_F64
    FOR_EACH(dst[o] = bf16_of_f64(src[i]));
#else
    FOR_EACH(dst[o] = bf16_of_f32(src[i]));
#endif
}

static void in_bool(int64_t count, S *restrict dst, int64_t dst_stride, const uint8_t *restrict src,
                    int64_t src_stride) {
    FOR_EACH(dst[o] = src[i] != 0);
}

static void out_bool(int64_t count, uint8_t *restrict dst, int64_t dst_stride,
                     const S *restrict src) {
    const int64_t src_stride = 1;
    FOR_EACH(dst[o] = src[i] != 0);
}

static void in_f32(int64_t count, S *restrict dst, int64_t dst_stride, const float *restrict src,
                   int64_t src_stride) {
    FOR_EACH(dst[o] = src[i]);
}

static void out_f32(int64_t count, float *restrict dst, int64_t dst_stride, const S *restrict src) {
    const int64_t src_stride = 1;
    FOR_EACH(dst[o] = (float)src[i]);
}

static void in_f64(int64_t count, S *restrict dst, int64_t dst_stride, const double *restrict src,
                   int64_t src_stride) {
    FOR_EACH(dst[o] = (S)src[i]);
}

static void out_f64(int64_t count, double *restrict dst, int64_t dst_stride,
                    const S *restrict src) {
    const int64_t src_stride = 1;
    FOR_EACH(dst[o] = src[i]);
}

void SG_NAME(convert_in)(int64_t count, void *dst, int64_t dst_stride, const void *src,
                         int64_t src_stride, sg_element src_type) {
    switch (src_type) {
    case SG_ELEMENT_BOOL:
        in_bool(count, dst, dst_stride, src, src_stride);
        break;
    case SG_ELEMENT_F16:
        in_f16(count, dst, dst_stride, src, src_stride);
        break;
    case SG_ELEMENT_BF16:
        in_bf16(count, dst, dst_stride, src, src_stride);
        break;
    case SG_ELEMENT_F32:
        in_f32(count, dst, dst_stride, src, src_stride);
        break;
    case SG_ELEMENT_F64:
        in_f64(count, dst, dst_stride, src, src_stride);
        break;
    case SG_ELEMENT_COUNT:
        break;
    }
}

void SG_NAME(convert_out)(int64_t count, void *dst, int64_t dst_stride, sg_element dst_type,
                          const void *src) {
    switch (dst_type) {
    case SG_ELEMENT_BOOL:
        out_bool(count, dst, dst_stride, src);
        break;
    case SG_ELEMENT_F16:
        out_f16(count, dst, dst_stride, src);
        break;
    case SG_ELEMENT_BF16:
        out_bf16(count, dst, dst_stride, src);
        break;
    case SG_ELEMENT_F32:
        out_f32(count, dst, dst_stride, src);
        break;
    case SG_ELEMENT_F64:
        out_f64(count, dst, dst_stride, src);
        break;
    case SG_ELEMENT_COUNT:
        break;
    }
}
