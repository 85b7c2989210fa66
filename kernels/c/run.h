/* Pieces (basic.h), once for each element type that a file moves: ELEMENT stands for its C type in
 * memory, _element for "_f32" or another, as in tensor.h. */
#ifndef SEGUE_KERNELS_C_RUN_H
#define SEGUE_KERNELS_C_RUN_H

#include "tensor.h"

typedef float ELEMENT;
#define load_element  load_f32
#define store_element store_f32

/* `count` of `run` values from memory, `stride` elements apart; zeros behind them. */
static inline void load_run_element(real *restrict to, const ELEMENT *restrict from, int64_t stride,
                                    int count, int run) {
    if (stride == 1 && count == run)
        for (int p = 0; p < run; p++)
            to[p] = load_element(from + p);
    else
        for (int p = 0; p < run; p++)
            to[p] = p < count ? load_element(from + p * stride) : 0;
}

static inline void store_run_element(ELEMENT *restrict to, const real *restrict from,
                                     int64_t stride, int count) {
    if (stride == 1)
        for (int p = 0; p < count; p++)
            store_element(to + p, from[p]);
    else
        for (int p = 0; p < count; p++)
            store_element(to + p * stride, from[p]);
}

/* Elements first, first + 1, ... of a row of `size`, `count` in all; zeros outside of the row. */
static inline void pack_row_element(real *restrict to, const ELEMENT *restrict row, int64_t stride,
                                    int64_t size, int64_t first, int count) {
    if (stride == 1 && first >= 0 && first + count <= size)
        for (int i = 0; i < count; i++)
            to[i] = load_element(row + first + i);
    else
        for (int i = 0; i < count; i++)
            to[i] =
                first + i >= 0 && first + i < size ? load_element(row + (first + i) * stride) : 0;
}

/* The same for elements first, first + step, ... */
static inline void pack_steps_element(real *restrict to, const ELEMENT *restrict row,
                                      int64_t stride, int64_t size, int64_t first, int step,
                                      int count) {
    for (int i = 0; i < count; i++) {
        const int64_t x = first + (int64_t)i * step;
        to[i] = x >= 0 && x < size ? load_element(row + x * stride) : 0;
    }
}

#endif
