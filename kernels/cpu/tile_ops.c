/* The pointwise ops on tiles, one function per row of the op table; the rows' `vector` expressions
 * are the loop bodies, so there is no second list of ops here. */
#include "half.h"
#include "ir/constants.h"
#include "ir/ops.h"
#include "variant.h"
#include "vector_math.h"

/* Where an operand is being read. A splat operand is a vector-sized buffer holding this row's
 * value, read again and again with a step of 0, so that every op needs one loop only. The buffers
 * lie outside of this struct so that it can live in registers. */
typedef struct cursor {
    const S *at;
    int64_t step;
} cursor;

SG_INLINE cursor begin_row(const sg_tile_source *source, int64_t row, S *splat) {
    const S *data = (const S *)source->data + row * source->row_stride;
    if (!source->splat)
        return (cursor){data, SG_VECTOR_LENGTH};
    v_store(splat, K(*data));
    return (cursor){splat, 0};
}

SG_INLINE V next(cursor *c) {
    const V x = v_load(c->at);
    c->at += c->step;
    return x;
}

/* `count` attributes are copied first: a local array is known not to change under the loop. */
#define SG_DEFINE_TILE_OP(name, arity, count, expression)                                          \
    static void tile_##name(int64_t rows, int64_t cols, void *dst, int64_t dst_row_stride,         \
                            const sg_tile_source *sources, const double *attributes) {             \
        double p[SG_TILE_ATTRIBUTES_MAX] = {0};                                                    \
        for (int i = 0; i < (count); i++)                                                          \
            p[i] = attributes[i];                                                                  \
        (void)p, (void)attributes;                                                                 \
        S splat[3][SG_VECTOR_LENGTH];                                                              \
        for (int64_t row = 0; row < rows; row++) {                                                 \
            S *out = (S *)dst + row * dst_row_stride;                                              \
            const S *end = out + cols;                                                             \
            cursor first = begin_row(&sources[0], row, splat[0]), second = first, third = first;   \
            if ((arity) > 1)                                                                       \
                second = begin_row(&sources[1], row, splat[1]);                                    \
            if ((arity) > 2)                                                                       \
                third = begin_row(&sources[2], row, splat[2]);                                     \
            for (; out < end; out += SG_VECTOR_LENGTH) {                                           \
                const V a = next(&first);                                                          \
                const V b = (arity) > 1 ? next(&second) : K(0);                                    \
                const V c = (arity) > 2 ? next(&third) : K(0);                                     \
                (void)a, (void)b, (void)c;                                                         \
                v_store(out, expression);                                                          \
            }                                                                                      \
        }                                                                                          \
    }

#define F(name, initial) 0
#define SG_LEAF(...)
#define SG_CONTRACTION(...)
#define SG_CAST(...)
#define SG_REDUCTION(...)
#define SG_SOFTMAX(...)
#define SG_VIEW(...)
#define SG_POINTWISE(name, arity, result, algebra, domain, torch, ulp, reference, vector, ...)     \
    SG_DEFINE_TILE_OP(name, arity, (int)sizeof((char[]){0, __VA_ARGS__}) - 1, vector)
#include "ir/ops.def"
#undef F
#undef SG_CAST
#undef SG_POINTWISE

/* Casts: the value as the element type holds it, in the compute type. */
SG_DEFINE_TILE_OP(to_bool, 1, 0, v_mask(a != 0))
SG_DEFINE_TILE_OP(to_f16, 1, 0, v_round_to_f16(a))
SG_DEFINE_TILE_OP(to_bf16, 1, 0, v_round_to_bf16(a))
SG_DEFINE_TILE_OP(to_f32, 1, 0, v_round_to_f32(a))
SG_DEFINE_TILE_OP(to_f64, 1, 0, a)

static void cast_to_element(int64_t rows, int64_t cols, void *dst, int64_t dst_row_stride,
                            const sg_tile_source *sources, const double *attributes) {
    static const sg_tile_op casts[SG_ELEMENT_COUNT] = {
        [SG_ELEMENT_BOOL] = tile_to_bool, [SG_ELEMENT_F16] = tile_to_f16,
        [SG_ELEMENT_BF16] = tile_to_bf16, [SG_ELEMENT_F32] = tile_to_f32,
        [SG_ELEMENT_F64] = tile_to_f64,
    };
    casts[(int)attributes[0]](rows, cols, dst, dst_row_stride, sources, NULL);
}

const sg_tile_op SG_NAME(tile_ops)[SG_OP_COUNT] = {
#define SG_CAST(name, ...)      [SG_OP_##name] = cast_to_element,
#define SG_POINTWISE(name, ...) [SG_OP_##name] = tile_##name,
#include "ir/ops.def"
};
