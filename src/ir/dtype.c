/* Dtypes and ATen's promotion among them (c10/core/ScalarType,
 * aten/src/ATen/native/TypeProperties). */
#include "ir/graph.h"

#include <string.h>

static const struct {
    const char *name;
    int size;
} dtypes[SG_DTYPE_COUNT] = {
    [SG_BOOL] = {"bool", 1}, [SG_F16] = {"f16", 2}, [SG_BF16] = {"bf16", 2},
    [SG_F32] = {"f32", 4},   [SG_F64] = {"f64", 8}, [SG_OPAQUE] = {"opaque", 0},
};

const char *sg_dtype_name(sg_dtype dtype) {
    return dtype < SG_DTYPE_COUNT ? dtypes[dtype].name : "?";
}

int64_t sg_dtype_size(sg_dtype dtype) {
    return dtype < SG_DTYPE_COUNT ? dtypes[dtype].size : 0;
}

sg_dtype sg_dtype_find(const char *name, int64_t length) {
    int dtype = 0;
    while (dtype < SG_DTYPE_COUNT && (strlen(dtypes[dtype].name) != (size_t)length ||
                                      memcmp(dtypes[dtype].name, name, (size_t)length) != 0))
        dtype++;
    return (sg_dtype)dtype;
}

bool sg_dtype_floating(sg_dtype dtype) {
    return dtype >= SG_F16 && dtype <= SG_F64;
}

/* Of one priority class. SG_DTYPE_COUNT stands for nothing. */
static sg_dtype wider(sg_dtype a, sg_dtype b) {
    if (a == SG_DTYPE_COUNT || a == b)
        return b;
    if (b == SG_DTYPE_COUNT)
        return a;
    if ((a == SG_F16 && b == SG_BF16) || (a == SG_BF16 && b == SG_F16))
        return SG_F32; /* neither holds the other */
    return a > b ? a : b;
}

/* A lower class counts only when it is of a higher category: a float against bools. */
static sg_dtype combine(sg_dtype higher, sg_dtype lower) {
    return sg_dtype_floating(higher) ? higher : wider(higher, lower);
}

sg_dtype sg_promote_all(const sg_type *const *types, int count) {
    sg_dtype tensors = SG_DTYPE_COUNT, scalars = SG_DTYPE_COUNT, weak = SG_DTYPE_COUNT;
    for (int i = 0; i < count; i++) {
        sg_dtype *class = types[i]->weak ? &weak : types[i]->rank ? &tensors : &scalars;
        if (types[i]->dtype == SG_OPAQUE)
            return SG_OPAQUE;
        *class = wider(*class, types[i]->dtype);
    }
    return combine(tensors, combine(scalars, weak));
}

sg_dtype sg_promote(const sg_type *a, const sg_type *b) {
    return sg_promote_all((const sg_type *const[]){a, b}, 2);
}
