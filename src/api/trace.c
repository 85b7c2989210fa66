/* Dumps of the pipeline's stages, asked for by letters in SEGUE_DEBUG. */
#include <stdio.h>

#include "api/pipeline.h"

static void write_out(const char *stage, sg_text *text) {
    char *taken = sg_text_take(text);
    fprintf(stderr, "---- %s\n%s", stage, taken ? taken : "out of memory\n");
    sg_string_free(taken);
}

void sg_trace_graph(char letter, const char *stage, const sg_graph *graph) {
    char *text;
    if (sg_debug(letter) && sg_graph_print(graph, &text) == SG_OK) {
        fprintf(stderr, "---- %s\n%s", stage, text);
        sg_string_free(text);
    }
}

void sg_trace_partition(const sg_partition *partition) {
    sg_text text = {0};
    if (sg_debug('r') && sg_partition_print(partition, &text) == SG_OK)
        write_out("regions", &text);
    sg_text_release(&text);
}

void sg_trace_program(const sg_program *program) {
    sg_text text = {0};
    if (sg_debug('l'))
        fprintf(stderr, "---- plan\n%s", program->explanation);
    if (sg_debug('t') && !program->cuda) {
        sg_program_print_tiles(program, &text);
        write_out("tile", &text);
    }
    for (int i = 0; sg_debug('k') && program->cuda && i < program->cuda->call_count; i++)
        fprintf(stderr, "---- kernel\n%s", program->cuda->calls[i].launch->source);
}
