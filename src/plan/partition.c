#include "plan/partition.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* A set of nodes that run together: a region, or one foreign operator. */
typedef struct sg_unit {
    sg_region region;     /* unused by a foreign unit */
    sg_value foreign;     /* -1 for a region */
    sg_value first, last; /* its nodes, in order, linked by sg_cutter.next */
    const char *reason;
} sg_unit;

typedef struct sg_cutter {
    const sg_graph *graph;
    sg_partition *partition;
    sg_unit *units; /* [node_count] */
    int unit_count;
    int *unit_of;       /* [node], -1: input or constant */
    sg_value *next;     /* [node], the next one of the same unit, or -1 */
    sg_member *members; /* [node], shared by all regions */
    int *visited;       /* [unit], the search that saw it last */
    int search;         /* the current one */
    bool *escapes;      /* [node], read outside its unit, or a result of the graph */
    int *written;       /* [node], the unit (+ 1) whose graph has this constant already */
    int *order;         /* [unit], in execution order */
    int ordered;
} sg_cutter;

/* ---- joining ------------------------------------------------------------------------------- */

/* Does unit `from` need, directly or not, what unit `target` makes? Only units with nodes behind
 * the target's first can. */
static bool depends(sg_cutter *cutter, int from, int target) {
    if (from == target)
        return true;
    if (cutter->visited[from] == cutter->search ||
        cutter->units[from].last < cutter->units[target].first)
        return false;
    cutter->visited[from] = cutter->search;
    for (sg_value value = cutter->units[from].first; value >= 0; value = cutter->next[value]) {
        const sg_node *node = sg_graph_node(cutter->graph, value);
        for (int i = 0; i < node->operand_count; i++) {
            int unit = node->operands[i] < 0 ? -1 : cutter->unit_of[node->operands[i]];
            if (unit >= 0 && unit != from && depends(cutter, unit, target))
                return true;
        }
    }
    return false;
}

/* If node joined unit, would one of its other operands have to wait for the unit it feeds? */
static bool makes_cycle(sg_cutter *cutter, const sg_node *node, int unit) {
    for (int i = 0; i < node->operand_count; i++) {
        int other = node->operands[i] < 0 ? -1 : cutter->unit_of[node->operands[i]];
        cutter->search++;
        if (other >= 0 && other != unit && depends(cutter, other, unit))
            return true;
    }
    return false;
}

static void note_reason(sg_cutter *cutter, sg_unit *unit, const char *reason) {
    if (!unit->reason[0])
        unit->reason = sg_arena_text(&cutter->partition->arena, reason, strlen(reason));
}

/* The latest region among the operands' that takes the node: the later one can still wait for the
 * others. -1 when none does. */
static int find_region(sg_cutter *cutter, sg_value value) {
    const sg_node *node = sg_graph_node(cutter->graph, value);
    for (int before = cutter->unit_count;;) {
        int unit = -1;
        for (int i = 0; i < node->operand_count; i++) {
            int candidate = node->operands[i] < 0 ? -1 : cutter->unit_of[node->operands[i]];
            if (candidate < before && candidate > unit && cutter->units[candidate].foreign < 0)
                unit = candidate;
        }
        if (unit < 0)
            return -1;
        sg_region *region = &cutter->units[unit].region;
        if (makes_cycle(cutter, node, unit))
            note_reason(
                cutter, &cutter->units[unit],
                "an operand of the next operator is made elsewhere from this region's result");
        else if (sg_region_join(region, value))
            return unit;
        else
            note_reason(cutter, &cutter->units[unit], region->reason);
        before = unit;
    }
}

static void append_node(sg_cutter *cutter, int unit, sg_value value) {
    sg_unit *entry = &cutter->units[unit];
    cutter->unit_of[value] = unit;
    cutter->next[value] = -1;
    if (entry->first < 0)
        entry->first = value;
    else
        cutter->next[entry->last] = value;
    entry->last = value;
}

static void place_node(sg_cutter *cutter, sg_value value) {
    const sg_node *node = sg_graph_node(cutter->graph, value);
    cutter->unit_of[value] = -1;
    if (node->op == SG_OP_input || node->op == SG_OP_constant)
        return;
    int unit = node->op == SG_OP_foreign ? -1 : find_region(cutter, value);
    if (unit >= 0) {
        append_node(cutter, unit, value);
        return;
    }
    unit = cutter->unit_count++;
    cutter->units[unit] = (sg_unit){.foreign = -1, .first = -1, .last = -1, .reason = ""};
    append_node(cutter, unit, value);
    if (node->op == SG_OP_foreign) {
        cutter->units[unit].foreign = value;
        return;
    }
    sg_region_open_shared(cutter->graph, cutter->members, unit + 1, &cutter->units[unit].region);
    /* A node that cannot even start a region is still a step of one node, which no strategy but the
     * reference takes. */
    if (!sg_region_join(&cutter->units[unit].region, value))
        note_reason(cutter, &cutter->units[unit], cutter->units[unit].region.reason);
}

/* ---- steps --------------------------------------------------------------------------------- */

static void visit(sg_cutter *cutter, int unit) {
    if (cutter->visited[unit] == cutter->search)
        return;
    cutter->visited[unit] = cutter->search;
    for (sg_value value = cutter->units[unit].first; value >= 0; value = cutter->next[value]) {
        const sg_node *node = sg_graph_node(cutter->graph, value);
        for (int i = 0; i < node->operand_count; i++) {
            int needed = node->operands[i] < 0 ? -1 : cutter->unit_of[node->operands[i]];
            if (needed >= 0)
                visit(cutter, needed);
        }
    }
    cutter->order[cutter->ordered++] = unit;
}

static bool contains(const sg_value *values, int count, sg_value value) {
    for (int i = 0; i < count; i++) {
        if (values[i] == value)
            return true;
    }
    return false;
}

static bool is_constant(const sg_graph *graph, sg_value value) {
    return sg_graph_node(graph, value)->op == SG_OP_constant;
}

static int count_nodes(const sg_cutter *cutter, int unit) {
    int count = 0;
    for (sg_value value = cutter->units[unit].first; value >= 0; value = cutter->next[value])
        count++;
    return count;
}

/* Inputs: what the unit reads and does not make, in order of first use. Foreign steps name every
 * operand, so that the host can put each in its place. */
static void list_inputs(sg_cutter *cutter, int unit, sg_step *step) {
    const sg_graph *graph = cutter->graph;
    if (cutter->units[unit].foreign >= 0) {
        const sg_node *node = sg_graph_node(graph, cutter->units[unit].foreign);
        step->inputs = node->operands;
        step->input_count = node->operand_count;
        return;
    }
    sg_value *inputs = SG_ARENA_NEW(&cutter->partition->arena, sg_value,
                                    count_nodes(cutter, unit) * SG_OPERANDS_MAX + 1);
    for (sg_value value = cutter->units[unit].first; value >= 0 && inputs;
         value = cutter->next[value]) {
        const sg_node *node = sg_graph_node(graph, value);
        for (int i = 0; i < node->operand_count; i++) {
            sg_value operand = node->operands[i];
            bool outside = operand >= 0 && cutter->unit_of[operand] != unit;
            if (outside && !is_constant(graph, operand) &&
                !contains(inputs, step->input_count, operand))
                inputs[step->input_count++] = operand;
        }
    }
    step->inputs = inputs;
}

static void find_escapes(sg_cutter *cutter) {
    const sg_graph *graph = cutter->graph;
    for (int i = 0; i < graph->output_count; i++)
        cutter->escapes[graph->outputs[i]] = true;
    for (sg_value user = 0; user < graph->node_count; user++) {
        const sg_node *node = sg_graph_node(graph, user);
        for (int i = 0; i < node->operand_count; i++) {
            sg_value operand = node->operands[i];
            if (operand >= 0 && cutter->unit_of[operand] != cutter->unit_of[user])
                cutter->escapes[operand] = true;
        }
    }
}

static void list_outputs(sg_cutter *cutter, int unit, sg_step *step) {
    sg_value *outputs =
        SG_ARENA_NEW(&cutter->partition->arena, sg_value, count_nodes(cutter, unit) + 1);
    for (sg_value value = cutter->units[unit].first; value >= 0 && outputs;
         value = cutter->next[value]) {
        if (cutter->escapes[value] || cutter->units[unit].foreign >= 0)
            outputs[step->output_count++] = value;
    }
    step->outputs = outputs;
}

static void write_node(const sg_graph *graph, sg_value value, sg_text *text) {
    sg_text_add(text, "  ");
    sg_node_print(graph, value, text);
    sg_text_add(text, "\n");
}

/* The constants that a node reads, unless the text has them. Those without a name of their own are
 * printed where they are used. */
static void write_constants(sg_cutter *cutter, int unit, const sg_node *node, sg_text *text) {
    for (int i = 0; i < node->operand_count; i++) {
        sg_value operand = node->operands[i];
        if (operand >= 0 && is_constant(cutter->graph, operand) &&
            sg_graph_node(cutter->graph, operand)->name[0] != '#' &&
            cutter->written[operand] != unit + 1) {
            cutter->written[operand] = unit + 1;
            write_node(cutter->graph, operand, text);
        }
    }
}

/* The step's nodes as a graph of their own, by way of the text form. */
static sg_status extract(sg_cutter *cutter, int unit, sg_step *step) {
    const sg_graph *graph = cutter->graph;
    sg_text text = {0};
    sg_text_add(&text, "graph %s {\n", graph->name);
    for (int i = 0; i < step->input_count; i++) {
        const sg_node *node = sg_graph_node(graph, step->inputs[i]);
        sg_text_add(&text, "  %%%s = input : ", node->name);
        sg_type_print(graph, &node->type, &text);
        sg_text_add(&text, "\n");
    }
    for (sg_value value = cutter->units[unit].first; value >= 0; value = cutter->next[value]) {
        write_constants(cutter, unit, sg_graph_node(graph, value), &text);
        write_node(graph, value, &text);
    }
    for (int i = 0; i < step->output_count; i++)
        sg_text_add(&text, "%s%%%s", i ? ", " : "  output ",
                    sg_graph_node(graph, step->outputs[i])->name);
    sg_text_add(&text, "\n}\n");
    size_t length = text.length;
    char *source = sg_text_take(&text);
    sg_graph *region = NULL;
    sg_status status = source ? sg_graph_parse(graph->context, source, length, &region)
                              : sg_fail_memory(graph->context);
    free(source);
    step->graph = region;
    return status;
}

static sg_status make_steps(sg_cutter *cutter) {
    sg_partition *partition = cutter->partition;
    sg_status status = SG_OK;
    cutter->search++;
    for (int unit = 0; unit < cutter->unit_count; unit++)
        visit(cutter, unit);
    partition->steps = SG_ARENA_NEW(&partition->arena, sg_step, cutter->unit_count + 1);
    if (!partition->steps)
        return sg_fail_memory(cutter->graph->context);
    for (int i = 0; i < cutter->ordered && status == SG_OK; i++) {
        int unit = cutter->order[i];
        sg_step *step = &partition->steps[partition->step_count++];
        step->foreign = cutter->units[unit].foreign >= 0;
        step->reason = cutter->units[unit].reason;
        list_inputs(cutter, unit, step);
        list_outputs(cutter, unit, step);
        if (sg_arena_failed(&partition->arena))
            return sg_fail_memory(cutter->graph->context);
        if (step->foreign)
            step->tag =
                (int64_t)sg_node_attribute(cutter->graph, cutter->units[unit].foreign, "tag")
                    ->number;
        else
            status = extract(cutter, unit, step);
    }
    return status;
}

static void release(sg_cutter *cutter) {
    free(cutter->units);
    free(cutter->unit_of);
    free(cutter->next);
    free(cutter->members);
    free(cutter->visited);
    free(cutter->escapes);
    free(cutter->written);
    free(cutter->order);
}

static sg_status cut(sg_cutter *cutter) {
    size_t count = (size_t)cutter->graph->node_count + 1;
    cutter->units = calloc(count, sizeof *cutter->units);
    cutter->unit_of = calloc(count, sizeof *cutter->unit_of);
    cutter->next = calloc(count, sizeof *cutter->next);
    cutter->members = calloc(count, sizeof *cutter->members);
    cutter->visited = calloc(count, sizeof *cutter->visited);
    cutter->escapes = calloc(count, sizeof *cutter->escapes);
    cutter->written = calloc(count, sizeof *cutter->written);
    cutter->order = calloc(count, sizeof *cutter->order);
    bool ready = cutter->units && cutter->unit_of && cutter->next && cutter->members &&
                 cutter->visited && cutter->escapes && cutter->written && cutter->order;
    sg_status status = ready ? SG_OK : sg_fail_memory(cutter->graph->context);
    if (status == SG_OK) {
        for (sg_value value = 0; value < cutter->graph->node_count; value++)
            place_node(cutter, value);
        find_escapes(cutter);
        status = make_steps(cutter);
    }
    release(cutter);
    return status;
}

sg_status sg_partition_cut(sg_graph *graph, sg_partition **result) {
    sg_partition *partition = calloc(1, sizeof *partition);
    if (!partition) {
        sg_status status = sg_fail_memory(graph->context);
        sg_graph_destroy(graph);
        return status;
    }
    partition->graph = graph;
    sg_cutter cutter = {.graph = graph, .partition = partition};
    sg_status status = cut(&cutter);
    if (status == SG_OK)
        *result = partition;
    else
        sg_partition_destroy(partition);
    return status;
}

void sg_partition_destroy(sg_partition *partition) {
    if (!partition)
        return;
    for (int i = 0; i < partition->step_count; i++)
        sg_graph_destroy((sg_graph *)(uintptr_t)partition->steps[i].graph);
    sg_graph_destroy(partition->graph);
    sg_arena_release(&partition->arena);
    free(partition);
}

int sg_partition_step_count(const sg_partition *partition) {
    return partition->step_count;
}

const sg_step *sg_partition_step(const sg_partition *partition, int index) {
    return index >= 0 && index < partition->step_count ? &partition->steps[index] : NULL;
}

const sg_graph *sg_partition_graph(const sg_partition *partition) {
    return partition->graph;
}

/* ---- printing ------------------------------------------------------------------------------ */

static sg_status print_step(const sg_partition *partition, const sg_step *step, int index,
                            sg_text *text) {
    if (step->foreign) {
        sg_text_add(text, "step %d: host ", index);
        sg_node_print(partition->graph, step->outputs[0], text);
        sg_text_add(text, "\n");
        return SG_OK;
    }
    char *graph;
    sg_status status = sg_graph_print(step->graph, &graph);
    if (status != SG_OK)
        return status;
    sg_text_add(text, "step %d: region\n%s", index, graph);
    if (step->reason[0])
        sg_text_add(text, "ends here: %s\n", step->reason);
    sg_string_free(graph);
    return SG_OK;
}

sg_status sg_partition_print(const sg_partition *partition, sg_text *text) {
    sg_status status = SG_OK;
    for (int i = 0; i < partition->step_count && status == SG_OK; i++)
        status = print_step(partition, &partition->steps[i], i, text);
    return status;
}
