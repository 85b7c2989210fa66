#include "ir/graph.h"
#include "run/program.h"

int64_t sg_layout_span(const sg_layout *layout) {
    int64_t last = 0;
    for (int dim = 0; dim < layout->rank; dim++) {
        if (layout->size[dim] == 0)
            return 0;
        last += (layout->size[dim] - 1) * layout->stride[dim];
    }
    return (last + 1) * sg_dtype_size(layout->dtype);
}

void sg_layout_make_contiguous(sg_layout *layout) {
    int64_t stride = 1;
    for (int dim = layout->rank - 1; dim >= 0; dim--) {
        layout->stride[dim] = stride;
        stride *= layout->size[dim] > 1 ? layout->size[dim] : 1;
    }
}
