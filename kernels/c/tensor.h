/* Pieces (basic.h): tensors as they lie in memory. */
#ifndef SEGUE_KERNELS_C_TENSOR_H
#define SEGUE_KERNELS_C_TENSOR_H

#include "half.h"

/* Elements from one image, channel, slice, row or column to the next. */
typedef struct stride {
    int64_t n, c, d, h, w;
} stride;

/* Where a run of pixels begins, and how many of them there are. */
typedef struct place {
    int64_t n, d, h, w;
    int count;
} place;

static inline int64_t offset(const stride *by, const place *at) {
    return at->n * by->n + at->d * by->d + at->h * by->h + at->w * by->w;
}

static inline real load_f32(const float *from) {
    return (real)*from;
}

static inline real load_f64(const double *from) {
    return (real)*from;
}

static inline real load_f16(const uint16_t *from) {
    return (real)f32_of_f16(*from);
}

static inline real load_bf16(const uint16_t *from) {
    return (real)f32_of_bf16(*from);
}

static inline real load_bool(const uint8_t *from) {
    return *from != 0 ? (real)1 : (real)0;
}

static inline void store_f32(float *to, real x) {
    *to = (float)x;
}

static inline void store_f64(double *to, real x) {
    *to = (double)x;
}

static inline void store_f16(uint16_t *to, real x) {
    *to = f16_of_f64((double)x);
}

static inline void store_bf16(uint16_t *to, real x) {
    *to = bf16_of_f64((double)x);
}

static inline void store_bool(uint8_t *to, real x) {
    *to = x != 0;
}

/* Strides of a tensor, dimension by dimension: those given, or of one without gaps. Returns 0 where
 * one is negative or the tensor would not fit the address space. */
static int take_strides(int rank, const int64_t *size, const int64_t *given, int64_t *by) {
    double next = 1, span = 0;
    for (int i = rank - 1; i >= 0; i--) {
        const double stride = given ? (double)given[i] : next;
        if (stride < 0 || stride > 0x1p59)
            return 0;
        by[i] = given ? given[i] : (int64_t)next;
        next *= size[i] > 0 ? (double)size[i] : 1;
        span += size[i] > 0 ? (double)(size[i] - 1) * stride : 0;
    }
    return span < 0x1p59;
}

#endif
