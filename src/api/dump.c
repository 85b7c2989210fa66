/* The pipeline's stages as text, and layouts made from names. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/pipeline.h"
#include "gen/cuda/source.h"
#include "opt/simplify.h"
#include "plan/partition.h"

static sg_status dump_simplified(const sg_graph *graph, char **text) {
    sg_graph *simplified;
    sg_status status = sg_simplify(graph, &simplified);
    if (status == SG_OK) {
        status = sg_graph_print(simplified, text);
        sg_graph_destroy(simplified);
    }
    return status;
}

static sg_status dump_regions(const sg_graph *graph, char **result) {
    sg_partition *partition;
    sg_text text = {0};
    sg_status status = sg_partition_create(graph, &partition);
    if (status != SG_OK)
        return status;
    status = sg_partition_print(partition, &text);
    sg_partition_destroy(partition);
    *result = sg_text_take(&text);
    return status == SG_OK && !*result ? sg_fail_memory(graph->context) : status;
}

void sg_program_print_tiles(const sg_program *program, sg_text *text) {
    for (int i = 0; i < program->step_count; i++) {
        const sg_program_step *step = &program->steps[i];
        sg_text_add(text, "region %d:%s\n", i, step->kernel ? "" : " float64 interpreter");
        if (step->kernel)
            sg_tile_program_print(step->kernel, step->graph, text);
    }
}

static sg_status dump_program(const sg_graph *graph, const sg_layout *inputs, int input_count,
                              bool with_plan, char **result) {
    sg_compile_options options = {.always = 1};
    sg_program *program;
    sg_status status = sg_compile(graph, inputs, input_count, &options, &program);
    if (status != SG_OK)
        return status;
    if (with_plan) {
        status = sg_program_explain(program, result);
    } else {
        sg_text text = {0};
        sg_program_print_tiles(program, &text);
        *result = sg_text_take(&text);
        status = *result ? SG_OK : sg_fail_memory(graph->context);
    }
    sg_program_destroy(program);
    return status;
}

/* The part of a source that gen/cuda/tail.c wrote. */
static void print_tail(const char *source, sg_text *text) {
    const char *from = strstr(source, SG_CUDA_TAIL_BEGIN "\n");
    const char *to = from ? strstr(from, SG_CUDA_TAIL_END) : NULL;
    if (to) {
        from += strlen(SG_CUDA_TAIL_BEGIN "\n");
        sg_text_add(text, "%.*s", (int)(to - from), from);
    }
}

/* Sources for a GPU, or their tails alone. */
static sg_status dump_cuda(const sg_graph *graph, const sg_layout *inputs, int input_count,
                           bool whole, char **result) {
    sg_compile_options options = {.always = 1, .gpu = "sm_90a"};
    sg_program *program;
    sg_text text = {0};
    sg_status status = sg_compile(graph, inputs, input_count, &options, &program);
    if (status != SG_OK)
        return status;
    char *source;
    for (int i = 0; sg_program_source(program, i, &source) == SG_OK; i++) {
        sg_text_add(&text, "launch %d:\n", i);
        if (whole)
            sg_text_add(&text, "%s", source);
        else
            print_tail(source, &text);
        sg_string_free(source);
    }
    sg_program_destroy(program);
    *result = sg_text_take(&text);
    return *result ? SG_OK : sg_fail_memory(graph->context);
}

sg_status sg_graph_dump(const sg_graph *graph, const char *stage, const sg_layout *inputs,
                        int input_count, char **text) {
    if (strcmp(stage, "parse") == 0)
        return sg_graph_print(graph, text);
    if (strcmp(stage, "simplify") == 0)
        return dump_simplified(graph, text);
    if (strcmp(stage, "regions") == 0)
        return dump_regions(graph, text);
    bool plan = strcmp(stage, "plan") == 0;
    if (plan || strcmp(stage, "tile") == 0)
        return dump_program(graph, inputs, input_count, plan, text);
    bool cuda = strcmp(stage, "cuda") == 0;
    if (cuda || strcmp(stage, "tail") == 0)
        return dump_cuda(graph, inputs, input_count, cuda, text);
    return sg_fail(graph->context, SG_INVALID,
                   "stage \"%s\" is unknown; there are parse, simplify, regions, tile, plan, tail "
                   "and cuda",
                   stage);
}

/* ---- layouts ------------------------------------------------------------------------------- */

/* Reads "name=number" pairs into values by symbol. */
static sg_status read_bindings(const sg_graph *graph, const char *bindings, int64_t *values) {
    const char *at = bindings ? bindings : "";
    while (*at) {
        size_t length = strcspn(at, "=");
        char *end = NULL;
        int64_t value = at[length] == '=' ? strtoll(at + length + 1, &end, 10) : -1;
        if (length == 0 || value < 0 || value >= SG_DIM_LIMIT || end == at + length + 1 ||
            (*end != ',' && *end != '\0'))
            return sg_fail(graph->context, SG_INVALID,
                           "sizes \"%s\" are not of the form N=4,H=32 at \"%s\"", bindings, at);
        for (int i = 0; i < sg_dim_symbol_count(graph->dims); i++) {
            const char *name = sg_dim_symbol_name(graph->dims, i);
            if (strlen(name) == length && strncmp(name, at, length) == 0)
                values[i] = value;
        }
        at = *end ? end + 1 : end;
    }
    return SG_OK;
}

/* Contiguous strides, once the sizes are known to have a product. */
static sg_status make_contiguous(const sg_graph *graph, const sg_node *node, sg_layout *layout) {
    double bytes = sg_dtype_size(layout->dtype);
    bool empty = false;
    for (int dim = 0; dim < layout->rank; dim++) {
        empty |= layout->size[dim] == 0;
        bytes *= (double)(layout->size[dim] > 1 ? layout->size[dim] : 1);
    }
    if (!empty && bytes >= (double)SG_DIM_LIMIT)
        return sg_fail(graph->context, SG_INVALID,
                       "input %%%s: the number of bytes leaves the 64-bit range", node->name);
    if (bytes < (double)SG_DIM_LIMIT)
        sg_layout_make_contiguous(layout);
    return SG_OK;
}

sg_status sg_graph_layouts(const sg_graph *graph, const char *bindings, sg_layout *inputs) {
    int symbols = sg_dim_symbol_count(graph->dims);
    int64_t *values = calloc((size_t)symbols + 1, sizeof *values);
    if (!values)
        return sg_fail_memory(graph->context);
    for (int i = 0; i < symbols; i++)
        values[i] = -1;
    sg_status status = read_bindings(graph, bindings, values);
    for (int i = 0; i < graph->input_count && status == SG_OK; i++) {
        const sg_node *node = sg_graph_node(graph, graph->inputs[i]);
        inputs[i] = (sg_layout){.dtype = node->type.dtype, .rank = node->type.rank};
        for (int dim = 0; dim < node->type.rank && status == SG_OK; dim++) {
            int64_t size = sg_dim_evaluate(graph->dims, node->type.size[dim], values);
            if (size < 0)
                status = sg_fail(graph->context, SG_INVALID,
                                 "input %%%s is %s; give its sizes a value, such as N=4",
                                 node->name, sg_type_words(graph, &node->type).text);
            inputs[i].size[dim] = size;
        }
        if (status == SG_OK)
            status = make_contiguous(graph, node, &inputs[i]);
    }
    free(values);
    return status;
}
