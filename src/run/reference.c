/* The net below every strategy: the float64 interpreter, fed from and written to memory of any
 * layout. Slow, and never chosen where a host could run the operators instead. */
#include <stdlib.h>

#include "kernels/cpu/kernels.h"
#include "run/program.h"

static int64_t count_of(const sg_layout *layout) {
    int64_t count = 1;
    for (int dim = 0; dim < layout->rank; dim++)
        count *= layout->size[dim];
    return count;
}

/* Visits the rows of a tensor, along its last dimension, in C order. */
typedef struct sg_rows {
    int64_t rows, length, stride; /* of one row */
} sg_rows;

static sg_rows rows_of(const sg_layout *layout) {
    int last = layout->rank - 1;
    sg_rows rows = {.rows = 1,
                    .length = last < 0 ? 1 : layout->size[last],
                    .stride = last < 0 ? 1 : layout->stride[last]};
    for (int dim = 0; dim < last; dim++)
        rows.rows *= layout->size[dim];
    return rows;
}

static int64_t row_place(const sg_layout *layout, int64_t row) {
    int64_t place = 0;
    for (int dim = layout->rank - 2; dim >= 0; dim--) {
        place += row % layout->size[dim] * layout->stride[dim];
        row /= layout->size[dim];
    }
    return place;
}

static void read_in(const sg_layout *layout, const void *data, double *to) {
    const sg_cpu_kernels *kernels = sg_cpu_kernels_generic(SG_ELEMENT_F64);
    sg_rows rows = rows_of(layout);
    for (int64_t row = 0; row < rows.rows && rows.length; row++)
        kernels->convert_in(rows.length, to + row * rows.length, 1,
                            (const char *)data +
                                row_place(layout, row) * sg_dtype_size(layout->dtype),
                            rows.stride, sg_element_of(layout->dtype));
}

static void write_out(const sg_layout *layout, const double *from, void *data) {
    const sg_cpu_kernels *kernels = sg_cpu_kernels_generic(SG_ELEMENT_F64);
    sg_rows rows = rows_of(layout);
    for (int64_t row = 0; row < rows.rows && rows.length; row++)
        kernels->convert_out(rows.length,
                             (char *)data + row_place(layout, row) * sg_dtype_size(layout->dtype),
                             rows.stride, sg_element_of(layout->dtype), from + row * rows.length);
}

sg_status sg_run_reference(const sg_graph *graph, sg_context *context, const sg_layout *inputs,
                           const void *const *input_data, const sg_layout *outputs,
                           void *const *output_data) {
    int total = graph->input_count + graph->output_count;
    double **copies = calloc((size_t)total + 1, sizeof *copies);
    bool ready = copies != NULL;
    for (int i = 0; i < total && ready; i++) {
        bool input = i < graph->input_count;
        int64_t count = count_of(input ? &inputs[i] : &outputs[i - graph->input_count]);
        copies[i] = malloc(sizeof(double) * (size_t)(count + 1));
        ready = copies[i] != NULL;
        if (ready && input)
            read_in(&inputs[i], input_data[i], copies[i]);
    }
    sg_status status = SG_OUT_OF_MEMORY;
    if (ready)
        status = sg_reference_run(graph, inputs, graph->input_count, (const double *const *)copies,
                                  copies + graph->input_count);
    for (int i = 0; i < graph->output_count && status == SG_OK; i++)
        write_out(&outputs[i], copies[graph->input_count + i], output_data[i]);
    for (int i = 0; i < total && copies; i++)
        free(copies[i]);
    free(copies);
    return status == SG_OUT_OF_MEMORY ? sg_fail_memory(context) : status;
}
