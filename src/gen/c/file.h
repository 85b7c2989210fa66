/* Regions of a graph as one C file that needs nothing but a C11 compiler and libm, and its header.
 */
#ifndef SEGUE_GEN_C_FILE_H
#define SEGUE_GEN_C_FILE_H

#include "plan/region.h"

/* One region of a file. graph: its own, bound; layouts: inputs, then outputs, of which sizes and
 * dtypes count. */
typedef struct sg_c_step {
    const sg_graph *graph;
    const sg_layout *layouts;
    const int *order; /* of the function's arguments: inputs, from 0, then outputs, behind them */
} sg_c_step;

/* name: of the file and of its functions, a C identifier. SG_NOT_APPLICABLE with a sentence for
 * what a file could not say. text: to be freed by sg_string_free. */
sg_status sg_c_write_file(const sg_c_step *steps, int count, const char *name, sg_emit_part part,
                          char **text);

#endif
