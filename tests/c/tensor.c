#include "tensor.h"

#include <stdlib.h>
#include <string.h>

#include "gen/cpu/kernel.h"
#include "ir/graph.h"
#include "run/program.h"

enum { BAND = 256 };

int64_t tensor_count(const sg_layout *layout) {
    int64_t count = 1;
    for (int dim = 0; dim < layout->rank; dim++)
        count *= layout->size[dim];
    return count;
}

void tensor_make_contiguous(sg_layout *layout) {
    sg_layout_make_contiguous(layout);
}

int64_t tensor_place(const sg_layout *layout, int64_t index) {
    int64_t place = 0;
    for (int dim = layout->rank - 1; dim >= 0; dim--) {
        place += index % layout->size[dim] * layout->stride[dim];
        index /= layout->size[dim];
    }
    return place;
}

tensor tensor_create(const sg_layout *layout) {
    tensor t = {.layout = *layout};
    t.size = (size_t)sg_layout_span(layout) + 2 * BAND;
    t.memory = malloc(t.size);
    t.copy = malloc(t.size);
    if (!t.memory || !t.copy)
        abort();
    memset(t.memory, 0xff, t.size);
    t.data = t.memory + BAND;
    tensor_seal(&t);
    return t;
}

void tensor_destroy(tensor *t) {
    free(t->memory);
    free(t->copy);
    *t = (tensor){0};
}

static char *element(const tensor *t, int64_t index) {
    return t->data + tensor_place(&t->layout, index) * sg_dtype_size(t->layout.dtype);
}

double tensor_get(const tensor *t, int64_t index) {
    double value;
    sg_cpu_kernels_generic(SG_ELEMENT_F64)
        ->convert_in(1, &value, 1, element(t, index), 1, sg_element_of(t->layout.dtype));
    return value;
}

void tensor_set(tensor *t, int64_t index, double value) {
    sg_cpu_kernels_generic(SG_ELEMENT_F64)
        ->convert_out(1, element(t, index), 1, sg_element_of(t->layout.dtype), &value);
}

void tensor_seal(tensor *t) {
    memcpy(t->copy, t->memory, t->size);
}

bool tensor_untouched(const tensor *t) {
    return memcmp(t->copy, t->memory, t->size) == 0;
}

bool tensor_gaps_untouched(const tensor *t) {
    size_t bytes = (size_t)sg_dtype_size(t->layout.dtype);
    char *expected = malloc(t->size);
    if (!expected)
        abort();
    memcpy(expected, t->copy, t->size);
    for (int64_t i = 0; i < tensor_count(&t->layout); i++) {
        const char *at = element(t, i);
        memcpy(expected + (at - t->memory), at, bytes);
    }
    bool same = memcmp(expected, t->memory, t->size) == 0;
    free(expected);
    return same;
}
