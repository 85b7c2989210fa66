/* Reductions over tiles: down the rows (over channels), along the columns (over pixels), and
 * running sums. NaN anywhere in gives NaN out, and infinities survive.
 *
 * Sums and products of floats are taken in double, which costs less than compensating them and
 * leaves one rounding, the last. Sums of doubles carry a compensation. */
#include "variant.h"

/* sum + x; *error gets what this addition rounded away (Knuth, TAOCP vol. 2, section 4.2.2, theorem
 * B: the branch-free form of Neumaier's sum). Past an overflow there is no error worth keeping. */
SG_INLINE V v_two_sum(V sum, V x, V *error) {
    const V s = sum + x;
    const V part = s - sum;
    const V e = (sum - (s - part)) + (x - part);
    *error = v_select(e == e, e, K(0));
    return s;
}

/* A reduction under way: one result per lane. Sums and products of floats use low and high, sums of
 * doubles value and error, the rest value alone; what is not used costs nothing once inlined. */
typedef struct state {
    V value, error;
    D low, high;
} state;

SG_INLINE S identity(sg_reduction how) {
    switch (how) {
    case SG_REDUCTION_PROD:
        return 1;
    case SG_REDUCTION_MIN:
        return (S)INFINITY;
    case SG_REDUCTION_MAX:
        return (S)-INFINITY;
    default:
        return 0;
    }
}

SG_INLINE state begin(sg_reduction how) {
    const S one = identity(how);
    return (state){K(one), K(0), d_splat(one), d_splat(one)};
}

SG_INLINE V v_combine(sg_reduction how, V a, V b) {
    switch (how) {
    case SG_REDUCTION_PROD:
        return a * b;
    case SG_REDUCTION_MIN:
        return v_min(a, b);
    case SG_REDUCTION_MAX:
        return v_max(a, b);
    default:
        return a + b;
    }
}

SG_INLINE void step(sg_reduction how, state *s, V x) {
#ifndef SG_COMPUTE_F64
    if (how == SG_REDUCTION_SUM) {
        s->low += f_low(x);
        s->high += f_high(x);
        return;
    }
    if (how == SG_REDUCTION_PROD) {
        s->low *= f_low(x);
        s->high *= f_high(x);
        return;
    }
#else
    if (how == SG_REDUCTION_SUM) {
        V e;
        s->value = v_two_sum(s->value, x, &e);
        s->error += e;
        return;
    }
#endif
    s->value = v_combine(how, s->value, x);
}

/* The result of every lane. */
SG_INLINE V finish(sg_reduction how, const state *s) {
#ifndef SG_COMPUTE_F64
    if (how == SG_REDUCTION_SUM || how == SG_REDUCTION_PROD)
        return f_join(s->low, s->high);
#endif
    return how == SG_REDUCTION_SUM ? s->value + s->error : s->value;
}

/* One result from all lanes, by halves: no chain of dependent operations as long as the vector. */
SG_INLINE double finish_sum(D value, D error) {
    double v[SG_F64_LENGTH], e[SG_F64_LENGTH];
    d_store(v, value);
    d_store(e, error);
    for (int half = SG_F64_LENGTH / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            const double a = v[i], b = v[i + half], s = a + b, part = s - a;
            const double rounded = (a - (s - part)) + (b - part);
            v[i] = s;
            e[i] += e[i + half] + (rounded == rounded ? rounded : 0);
        }
    }
    return v[0] + e[0];
}
SG_INLINE double finish_product(D value) {
    double v[SG_F64_LENGTH];
    d_store(v, value);
    for (int half = SG_F64_LENGTH / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            v[i] *= v[i + half];
    return v[0];
}
SG_INLINE S finish_order(sg_reduction how, V value) {
    S v[SG_VECTOR_LENGTH];
    v_store(v, value);
    for (int half = SG_VECTOR_LENGTH / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            const S a = v[i], b = v[i + half];
            const bool second = b != b || (how == SG_REDUCTION_MIN ? b < a : b > a);
            v[i] = second ? b : a;
        }
    }
    return v[0];
}
SG_INLINE S finish_lanes(sg_reduction how, const state *s) {
#ifdef SG_COMPUTE_F64
    if (how == SG_REDUCTION_SUM)
        return finish_sum(s->value, s->error);
    if (how == SG_REDUCTION_PROD)
        return finish_product(s->value);
#else
    if (how == SG_REDUCTION_SUM)
        return (float)finish_sum(s->low + s->high, d_splat(0));
    if (how == SG_REDUCTION_PROD)
        return (float)finish_product(s->low * s->high);
#endif
    return finish_order(how, s->value);
}

SG_INLINE void reduce_rows(sg_reduction how, int64_t rows, int64_t cols, void *dst, const void *src,
                           int64_t src_row_stride) {
    for (int64_t c = 0; c < cols; c += SG_VECTOR_LENGTH) {
        const S *in = (const S *)src + c;
        state s = begin(how);
        for (int64_t r = 0; r < rows; r++)
            step(how, &s, v_load(in + r * src_row_stride));
        v_store((S *)dst + c, finish(how, &s));
    }
}

/* What is left of a segment after whole vectors, filled up with the identity. */
SG_INLINE V load_part(sg_reduction how, const S *in, int64_t count) {
    S part[SG_VECTOR_LENGTH];
    for (int64_t i = 0; i < SG_VECTOR_LENGTH; i++)
        part[i] = i < count ? in[i] : identity(how);
    return v_load(part);
}

SG_INLINE void reduce_columns(sg_reduction how, int64_t rows, void *dst, const void *src,
                              int64_t src_row_stride, int segment_count,
                              const sg_segment *segments) {
    for (int64_t r = 0; r < rows; r++) {
        const S *row = (const S *)src + r * src_row_stride;
        state s = begin(how);
        for (int k = 0; k < segment_count; k++) {
            const S *in = row + segments[k].start;
            const int64_t length = segments[k].length;
            const int64_t whole = length - length % SG_VECTOR_LENGTH;
            for (int64_t c = 0; c < whole; c += SG_VECTOR_LENGTH)
                step(how, &s, v_load(in + c));
            if (whole < length)
                step(how, &s, load_part(how, in + whole, length - whole));
        }
        ((S *)dst)[r] = finish_lanes(how, &s);
    }
}

#define DEFINE(name, how)                                                                          \
    static void rows_##name(int64_t rows, int64_t cols, void *dst, const void *src,                \
                            int64_t src_row_stride) {                                              \
        reduce_rows(how, rows, cols, dst, src, src_row_stride);                                    \
    }                                                                                              \
    static void columns_##name(int64_t rows, void *dst, const void *src, int64_t src_row_stride,   \
                               int segment_count, const sg_segment *segments) {                    \
        reduce_columns(how, rows, dst, src, src_row_stride, segment_count, segments);              \
    }
DEFINE(sum, SG_REDUCTION_SUM)
DEFINE(prod, SG_REDUCTION_PROD)
DEFINE(min, SG_REDUCTION_MIN)
DEFINE(max, SG_REDUCTION_MAX)

const sg_reduce_rows SG_NAME(reduce_rows)[SG_REDUCTION_COUNT] = {
    [SG_REDUCTION_SUM] = rows_sum,
    [SG_REDUCTION_PROD] = rows_prod,
    [SG_REDUCTION_MIN] = rows_min,
    [SG_REDUCTION_MAX] = rows_max,
};
const sg_reduce_columns SG_NAME(reduce_columns)[SG_REDUCTION_COUNT] = {
    [SG_REDUCTION_SUM] = columns_sum,
    [SG_REDUCTION_PROD] = columns_prod,
    [SG_REDUCTION_MIN] = columns_min,
    [SG_REDUCTION_MAX] = columns_max,
};

void SG_NAME(accumulate_sum)(int64_t rows, int64_t cols, void *acc, void *comp,
                             int64_t acc_row_stride, const void *src, int64_t src_row_stride) {
    for (int64_t r = 0; r < rows; r++) {
        S *sum = (S *)acc + r * acc_row_stride;
        S *error = (S *)comp + r * acc_row_stride;
        const S *in = (const S *)src + r * src_row_stride;
        for (int64_t c = 0; c < cols; c += SG_VECTOR_LENGTH) {
            V e;
            v_store(sum + c, v_two_sum(v_load(sum + c), v_load(in + c), &e));
            v_store(error + c, v_load(error + c) + e);
        }
    }
}
