/* Graphs as C files. */
#include <ctype.h>
#include <string.h>

#include "gen/c/file.h"
#include "plan/partition.h"

/* What files have a function or a type for themselves, as far as a file would be called so. */
static bool is_taken(const char *name) {
    static const char *const words[] = {"run",    "step",  "begin",  "end",      "contract",
                                        "offset", "place", "stride", "real",     "tile",
                                        "main",   "K",     "exp",    "arguments"};
    bool taken = false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        taken |= strcmp(name, words[i]) == 0;
    return taken;
}

static sg_status check_name(sg_context *context, const char *name) {
    bool good = isalpha((unsigned char)*name) && !is_taken(name);
    for (const char *at = name; *at; at++)
        good &= isalnum((unsigned char)*at) || *at == '_';
    return good && strlen(name) <= 60
               ? SG_OK
               : sg_fail(
                     context, SG_INVALID,
                     "\"%s\" cannot name a C function; a letter and up to 59 letters, digits "
                     "and _, other than the file's own names (run, step, ...), would be accepted",
                     name);
}

static sg_layout layout_of(const sg_graph *graph, sg_value value) {
    const sg_type *type = &sg_graph_node(graph, value)->type;
    sg_layout layout = {.dtype = type->dtype, .rank = type->rank};
    for (int dim = 0; dim < type->rank; dim++)
        layout.size[dim] = type->size[dim];
    return layout;
}

static int place_of(const sg_value *values, int count, sg_value value) {
    int place = 0;
    while (place < count && values[place] != value)
        place++;
    return place;
}

/* Positions first .. first + count - 1 in the order in which the graph names the step's values;
 * those that it does not name stand behind them. */
static void write_order(const sg_value *values, int count, const sg_value *named, int named_count,
                        int first, int *order) {
    for (int i = 0; i < count; i++) {
        int at = i, place = place_of(named, named_count, values[i]);
        for (; at > 0 && place_of(named, named_count, values[order[at - 1] - first]) > place; at--)
            order[at] = order[at - 1];
        order[at] = first + i;
    }
}

static bool describe_step(const sg_graph *graph, const sg_step *step, sg_arena *arena,
                          sg_c_step *made) {
    int inputs = step->input_count, outputs = step->output_count;
    sg_layout *layouts = SG_ARENA_NEW(arena, sg_layout, inputs + outputs + 1);
    int *order = SG_ARENA_NEW(arena, int, inputs + outputs + 1);
    if (!layouts || !order)
        return false;
    for (int i = 0; i < inputs; i++)
        layouts[i] = layout_of(graph, step->inputs[i]);
    for (int i = 0; i < outputs; i++)
        layouts[inputs + i] = layout_of(graph, step->outputs[i]);
    write_order(step->inputs, inputs, graph->inputs, graph->input_count, 0, order);
    write_order(step->outputs, outputs, graph->outputs, graph->output_count, inputs,
                order + inputs);
    *made = (sg_c_step){.graph = step->graph, .layouts = layouts, .order = order};
    return true;
}

static sg_status write_file(const sg_partition *partition, const char *name, sg_emit_part part,
                            char **text) {
    sg_context *context = partition->graph->context;
    sg_arena arena = {0};
    sg_c_step *steps = SG_ARENA_NEW(&arena, sg_c_step, partition->step_count + 1);
    int count = 0;
    bool there = steps != NULL;
    for (int i = 0; i < partition->step_count && there; i++) {
        if (!partition->steps[i].foreign)
            there = describe_step(partition->graph, &partition->steps[i], &arena, &steps[count++]);
    }
    sg_status status = there ? SG_OK : sg_fail_memory(context);
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
