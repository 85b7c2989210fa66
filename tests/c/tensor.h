/* Tensors for tests: memory of any layout between sentinel bands, so that a write outside of the
 * layout's own elements shows, be it before, behind or in the gaps between strided rows. */
#ifndef SEGUE_TESTS_TENSOR_H
#define SEGUE_TESTS_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "segue.h"

typedef struct tensor {
    sg_layout layout;
    char *memory, *copy; /* bands included; copy: as it was at the last tensor_seal */
    char *data;          /* element (0, 0, ...) */
    size_t size;         /* bytes of memory */
} tensor;

int64_t tensor_count(const sg_layout *layout);
/* Strides in C order. */
void tensor_make_contiguous(sg_layout *layout);
/* Offset, in elements, of the index-th element in C order. */
int64_t tensor_place(const sg_layout *layout, int64_t index);

/* Memory of 0xff bytes: NaN in every floating dtype, and no bool. */
tensor tensor_create(const sg_layout *layout);
void tensor_destroy(tensor *t);

/* Element access in C order; writing rounds to the dtype. */
double tensor_get(const tensor *t, int64_t index);
void tensor_set(tensor *t, int64_t index, double value);

/* Remembers the bytes. */
void tensor_seal(tensor *t);
/* Whether all bytes are as remembered. */
bool tensor_untouched(const tensor *t);
/* The same of all bytes that belong to no element. */
bool tensor_gaps_untouched(const tensor *t);

#endif
