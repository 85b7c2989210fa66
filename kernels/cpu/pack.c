/* Packing: planes of the input into the slab, and weights into the order of the contraction. Both
 * are memory traffic in small pieces, so what counts is little work around each piece. */
#include "variant.h"

/* Keeps the compiler from making a call of memset or memcpy out of a loop over a few elements. */
#define FEW() __asm__ volatile("") /* NOLINT(portability-no-assembler) */

/* dst[i] = src[i * step], i < count, in the compute type. */
SG_INLINE void copy_line(S *restrict dst, const S *restrict src, int64_t count, int64_t step) {
    if (step == 1) {
        int64_t i = 0;
        for (; i + SG_VECTOR_LENGTH <= count; i += SG_VECTOR_LENGTH)
            v_store(dst + i, v_load(src + i));
        for (; i < count; i++) {
            FEW();
            dst[i] = src[i];
        }
    } else if (step == 2) { /* known here, so that the compiler shuffles vectors */
        for (int64_t i = 0; i < count; i++)
            dst[i] = src[2 * i];
    } else {
        for (int64_t i = 0; i < count; i++)
            dst[i] = src[i * step];
    }
}

SG_INLINE S *zero(S *dst, int64_t count) {
    int64_t i = 0;
    for (; i + SG_VECTOR_LENGTH <= count; i += SG_VECTOR_LENGTH)
        v_store(dst + i, K(0));
    for (; i < count; i++) {
        FEW();
        dst[i] = 0;
    }
    return dst + count;
}

/* Writes count elements of a row; place: of the first, in elements from the plane's source. */
typedef void (*line)(const sg_plane *plane, S *dst, int64_t place, int64_t count);

/* A plane by its lines, which are inlined. */
SG_INLINE void pack_lines(const sg_plane *plane, line pack_line) {
    const int64_t live = plane->end_column - plane->first_column;
    S *dst = plane->dst;
    for (int64_t row = 0; row < plane->rows; row++) {
        if (row < plane->first_row || row >= plane->end_row || live <= 0) {
            dst = zero(dst, plane->width);
            continue;
        }
        dst = zero(dst, plane->first_column);
        pack_line(plane, dst, row * plane->row_step + plane->first_column * plane->column_step,
                  live);
        dst = zero(dst + live, plane->width - plane->end_column);
    }
}

SG_INLINE void plain_line(const sg_plane *plane, S *dst, int64_t place, int64_t count) {
    const int64_t size = plane->type == SG_ELEMENT_BOOL  ? 1
                         : plane->type == SG_ELEMENT_F64 ? 8
                         : plane->type == SG_ELEMENT_F32 ? 4
                                                         : 2;
    const char *src = (const char *)plane->src + place * size;
    if (plane->type == SG_COMPUTE_ELEMENT)
        copy_line(dst, (const void *)src, count, plane->column_step);
    else
        SG_NAME(convert_in)(count, dst, 1, src, plane->column_step, plane->type);
}

void SG_NAME(pack_plane)(const sg_plane *plane) {
    pack_lines(plane, plain_line);
}

#if defined(__AVX__) && !defined(SG_COMPUTE_F64)

typedef float F8 __attribute__((vector_size(32)));

SG_INLINE F8 load_8(const float *src) {
    F8 x;
    memcpy(&x, src, sizeof x);
    return x;
}

#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define LOW(a, b)       PICK(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define HIGH(a, b)      PICK(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define LOW_2(a, b)     PICK(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define HIGH_2(a, b)    PICK(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#define LOW_4(a, b)     PICK(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define HIGH_4(a, b)    PICK(a, b, 4, 5, 6, 7, 12, 13, 14, 15)

/* Eight rows of eight become eight columns: the network of unpacks, widths 1, 2 and 4. */
SG_INLINE void transpose_8x8(float *restrict dst, const float *restrict src, int64_t stride) {
    F8 r[8], t[8], u[8];
    for (int i = 0; i < 8; i++)
        r[i] = load_8(src + i * stride);
    for (int i = 0; i < 4; i++) {
        t[2 * i] = LOW(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = HIGH(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        u[4 * i] = LOW_2(t[4 * i], t[4 * i + 2]);
        u[4 * i + 1] = HIGH_2(t[4 * i], t[4 * i + 2]);
        u[4 * i + 2] = LOW_2(t[4 * i + 1], t[4 * i + 3]);
        u[4 * i + 3] = HIGH_2(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        F8 low = LOW_4(u[i], u[i + 4]), high = HIGH_4(u[i], u[i + 4]);
        memcpy(dst + i * 8, &low, sizeof low);
        memcpy(dst + (i + 4) * 8, &high, sizeof high);
    }
}

/* Whole blocks of eight rows; returns how many columns are done. */
static int64_t transpose_eight(int64_t columns, float *restrict dst, const float *restrict src,
                               int64_t stride) {
    int64_t done = 0;
    for (; done + 8 <= columns; done += 8)
        transpose_8x8(dst + done * 8, src + done, stride);
    return done;
}

#endif

void SG_NAME(pack_transposed)(int64_t rows, int64_t columns, int64_t width, void *dst,
                              const void *src, int64_t row_stride, sg_element type) {
    S *to = dst;
    if (type != SG_COMPUTE_ELEMENT) {
        const int64_t size = type == SG_ELEMENT_F64 ? 8 : type == SG_ELEMENT_F32 ? 4 : 2;
        for (int64_t row = 0; row < rows; row++)
            SG_NAME(convert_in)(columns, to + row, width,
                                (const char *)src + row * row_stride * size, 1, type);
    } else {
        const S *from = src;
        int64_t column = 0;
#if defined(__AVX__) && !defined(SG_COMPUTE_F64)
        if (rows == 8 && width == 8)
            column = transpose_eight(columns, to, from, row_stride);
#endif
        for (; column < columns; column++) {
            for (int64_t row = 0; row < rows; row++)
                to[column * width + row] = from[row * row_stride + column];
        }
    }
    for (int64_t column = 0; column < columns && rows < width; column++)
        zero(to + column * width + rows, width - rows);
}

#if SG_HAS_PAIRS

/* A vector of bfloat16 as 32-bit numbers. */
typedef uint16_t H __attribute__((vector_size(SG_VECTOR_BYTES / 2), aligned(2), may_alias));
SG_INLINE FU widen(const uint16_t *from) {
    return __builtin_convertvector(*(const H *)from, FU);
}

SG_INLINE void store_pair(S *dst, uint32_t even, uint32_t odd) {
    const uint32_t bits = even | odd << 16;
    memcpy(dst, &bits, sizeof bits);
}

SG_INLINE void pair_line(const sg_plane *plane, S *dst, int64_t place, int64_t count) {
    const uint16_t *even = (const uint16_t *)plane->src + place;
    const uint16_t *odd = plane->other ? (const uint16_t *)plane->other + place : NULL;
    const int64_t step = plane->column_step;
    int64_t i = 0;
    if (step == 1) {
        for (; i + SG_VECTOR_LENGTH <= count; i += SG_VECTOR_LENGTH) {
            const FU high = odd ? widen(odd + i) << 16 : (FU){0};
            v_store(dst + i, (F)(widen(even + i) | high));
        }
    }
    for (; i < count; i++)
        store_pair(dst + i, even[i * step], odd ? odd[i * step] : 0);
}

void SG_NAME(pack_pairs)(const sg_plane *plane) {
    pack_lines(plane, pair_line);
}

/* One tap of two channels, for all rows. */
SG_INLINE S *pair_tap(const sg_weight_pairs *weights, S *dst, const uint16_t *even, bool odd) {
    for (int64_t row = 0; row < weights->rows; row++, even += weights->row_stride)
        store_pair(dst + row, *even, odd ? even[weights->channel_stride] : 0);
    return zero(dst + weights->rows, weights->width - weights->rows);
}

void SG_NAME(pack_weight_pairs)(const sg_weight_pairs *weights) {
    const int64_t *taps = weights->taps, *stride = weights->tap_stride;
    const uint16_t *src = weights->src;
    S *dst = weights->dst;
    for (int64_t channel = 0; channel < weights->channels; channel += 2) {
        const bool odd = channel + 1 < weights->channels;
        for (int64_t d = 0; d < taps[0]; d++) {
            for (int64_t h = 0; h < taps[1]; h++) {
                const uint16_t *from =
                    src + channel * weights->channel_stride + d * stride[0] + h * stride[1];
                for (int64_t w = 0; w < taps[2]; w++, from += stride[2])
                    dst = pair_tap(weights, dst, from, odd);
            }
        }
    }
}

#endif
