/* Graphs for tests: from text, in a context of their own, and back to text. */
#ifndef SEGUE_TESTS_GRAPHS_H
#define SEGUE_TESTS_GRAPHS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "ir/graph.h"

/* NULL when the text is wrong; context->message then says why. */
static inline sg_graph *graph_of(sg_context *context, const char *text) {
    sg_graph *graph = NULL;
    context->message[0] = 0;
    return sg_graph_parse(context, text, strlen(text), &graph) ? NULL : graph;
}

/* To be freed by the caller. */
static inline char *text_of(const sg_graph *graph) {
    char *text = NULL;
    return sg_graph_print(graph, &text) ? NULL : text;
}

/* A graph of the given statements; NULL as above. */
static inline sg_graph *graph_of_lines(sg_context *context, const char *lines) {
    char text[4096];
    snprintf(text, sizeof text, "graph g {\n%s\n}\n", lines);
    return graph_of(context, text);
}

/* Message that the statements are refused with; "" when they are accepted. */
static inline const char *refusal(sg_context *context, const char *lines) {
    sg_graph *graph = graph_of_lines(context, lines);
    sg_graph_destroy(graph);
    return context->message;
}

static inline sg_layout layout_of(sg_dtype dtype, int rank, const int64_t *size) {
    sg_layout layout = {.dtype = dtype, .rank = rank};
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; i--) {
        layout.size[i] = size[i];
        layout.stride[i] = stride;
        stride *= size[i];
    }
    return layout;
}

#endif
