/* Graphs as C files. */
#include <ctype.h>
#include <string.h>

#include "gen/c/file.h"
#include "plan/partition.h"

static sg_status check_name(sg_context *context, const char *name) {
    bool good = isalpha((unsigned char)*name);
    for (const char *at = name; *at; at++)
        good &= isalnum((unsigned char)*at) || *at == '_';
    return good && strlen(name) <= 60
               ? SG_OK
               : sg_fail(context, SG_INVALID,
                         "\"%s\" cannot name a C function; a letter and up to 59 letters, digits "
                         "and _ would be accepted",
                         name);
}

static sg_layout layout_of(const sg_graph *graph, sg_value value) {
    const sg_type *type = &sg_graph_node(graph, value)->type;
    sg_layout layout = {.dtype = type->dtype, .rank = type->rank};
    for (int dim = 0; dim < type->rank; dim++)
        layout.size[dim] = type->size[dim];
    return layout;
}

static sg_status write_file(const sg_partition *partition, const char *name, sg_emit_part part,
                            char **text) {
    sg_context *context = partition->graph->context;
    sg_arena arena = {0};
    sg_c_step *steps = SG_ARENA_NEW(&arena, sg_c_step, partition->step_count + 1);
    int count = 0;
    sg_status status = steps ? SG_OK : sg_fail_memory(context);
    for (int i = 0; i < partition->step_count && status == SG_OK; i++) {
        const sg_step *step = &partition->steps[i];
        if (step->foreign)
            continue;
        sg_layout *layouts =
            SG_ARENA_NEW(&arena, sg_layout, step->input_count + step->output_count + 1);
        if (!layouts) {
            status = sg_fail_memory(context);
            break;
        }
        for (int k = 0; k < step->input_count; k++)
            layouts[k] = layout_of(partition->graph, step->inputs[k]);
        for (int k = 0; k < step->output_count; k++)
            layouts[step->input_count + k] = layout_of(partition->graph, step->outputs[k]);
        steps[count++] = (sg_c_step){.graph = step->graph, .layouts = layouts};
    }
    if (status == SG_OK && count == 0)
        status = sg_fail(context, SG_NOT_APPLICABLE,
                         "the graph has no operator that Segue could write in C");
    if (status == SG_OK)
        status = sg_c_write_file(steps, count, name, part, text);
    sg_arena_release(&arena);
    return status;
}

sg_status sg_emit_c(const sg_graph *graph, const sg_layout *inputs, int input_count,
                    const char *name, sg_emit_part part, char **text) {
    sg_graph *bound = NULL;
    sg_partition *partition = NULL;
    sg_status status = check_name(graph->context, name);
    if (status == SG_OK)
        status = sg_graph_bind(graph, inputs, input_count, &bound);
    if (status == SG_OK)
        status = sg_partition_create(bound, &partition);
    sg_graph_destroy(bound);
    if (status == SG_OK)
        status = write_file(partition, name, part, text);
    sg_partition_destroy(partition);
    return status;
}
