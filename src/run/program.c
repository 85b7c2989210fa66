#include "run/program.h"

#include <stdlib.h>
#include <string.h>

#include "run/cpu/execute.h"
#include "run/cpu/pages.h"
#include "target/cpu.h"

void sg_program_destroy(sg_program *program) {
    if (!program)
        return;
    for (int i = 0; i < program->step_count; i++)
        sg_graph_destroy(program->steps[i].graph);
    sg_cuda_sequence_destroy(program->cuda);
    free(program->explanation);
    sg_arena_release(&program->arena);
    sg_context_destroy(program->context);
    free(program);
}

int sg_program_input_count(const sg_program *program) {
    return program->input_count;
}
int sg_program_output_count(const sg_program *program) {
    return program->output_count;
}

const sg_layout *sg_program_input(const sg_program *program, int index) {
    return index >= 0 && index < program->input_count ? &program->inputs[index] : NULL;
}

const sg_layout *sg_program_output(const sg_program *program, int index) {
    return index >= 0 && index < program->output_count ? &program->outputs[index] : NULL;
}

sg_work sg_program_work(const sg_program *program) {
    return program->work;
}

/* ---- running ------------------------------------------------------------------------------- */

enum { OPERANDS_ON_STACK = 32 };

const sg_layout *sg_program_layout(const sg_program *program, int place) {
    if (place < program->input_count)
        return &program->inputs[place];
    place -= program->input_count;
    return place < program->output_count ? &program->outputs[place]
                                         : &program->intermediates[place - program->output_count];
}

/* The reference interpreter wants its layouts side by side. */
static sg_status run_reference(const sg_program *program, const sg_program_step *step,
                               const void *const *inputs, void *const *outputs) {
    int total = step->graph->input_count + step->graph->output_count;
    sg_layout *layouts = calloc((size_t)total + 1, sizeof *layouts);
    if (!layouts)
        return SG_OUT_OF_MEMORY;
    for (int i = 0; i < total; i++) {
        int place = i < step->graph->input_count ? step->inputs[i]
                                                 : step->outputs[i - step->graph->input_count];
        layouts[i] = *sg_program_layout(program, place);
    }
    sg_status status = sg_run_reference(step->graph, step->graph->context, layouts, inputs,
                                        layouts + step->graph->input_count, outputs);
    free(layouts);
    return status;
}

static sg_status run_step(const sg_program *program, const sg_program_step *step, sg_team *team,
                          void *const *places) {
    void *buffer[OPERANDS_ON_STACK];
    int inputs = step->graph->input_count, outputs = step->graph->output_count;
    void **operands = buffer;
    if (inputs + outputs > OPERANDS_ON_STACK)
        operands = malloc(sizeof *operands * (size_t)(inputs + outputs));
    if (!operands)
        return SG_OUT_OF_MEMORY;
    for (int i = 0; i < inputs; i++)
        operands[i] = places[step->inputs[i]];
    for (int i = 0; i < outputs; i++)
        operands[inputs + i] = places[step->outputs[i]];
    const void *const *from = (const void *const *)operands;
    sg_status status = step->kernel ? sg_execute(step->kernel, team, from, operands + inputs)
                                    : run_reference(program, step, from, operands + inputs);
    if (operands != buffer)
        free(operands);
    return status;
}

sg_status sg_program_run(const sg_program *program, const void *const *inputs, void *const *outputs,
                         int threads) {
    if (program->cuda)
        return SG_INVALID;
    sg_team *team = sg_team_take(threads > 0 ? threads : sg_cpu_get()->processors);
    int given = program->input_count + program->output_count;
    int total = given + program->intermediate_count;
    void **places = calloc((size_t)total + 1, sizeof *places);
    sg_status status = team && places ? SG_OK : SG_OUT_OF_MEMORY;
    for (int i = 0; i < given && status == SG_OK; i++) {
        /* Inputs are only read; one array serves both. */
        places[i] = i < program->input_count ? (void *)(uintptr_t)inputs[i]
                                             : outputs[i - program->input_count];
    }
    for (int i = 0; i < program->intermediate_count && status == SG_OK; i++) {
        places[given + i] = malloc((size_t)sg_layout_span(&program->intermediates[i]) + 1);
        status = places[given + i] ? SG_OK : SG_OUT_OF_MEMORY;
    }
    for (int i = program->input_count; i < total && status == SG_OK; i++)
        sg_advise_large_pages(places[i], (size_t)sg_layout_span(sg_program_layout(program, i)));
    for (int i = 0; i < program->step_count && status == SG_OK; i++)
        status = run_step(program, &program->steps[i], team, places);
    for (int i = given; i < total && places; i++)
        free(places[i]);
    free(places);
    if (team)
        sg_team_give(team);
    return status;
}

/* ---- on GPUs ------------------------------------------------------------------------------- */

static sg_status check_is_cuda(const sg_program *program, sg_context *context) {
    return program->cuda ? SG_OK
                         : sg_fail(context, SG_INVALID,
                                   "the program was compiled for the CPU, without options.gpu");
}

sg_status sg_program_build(const sg_program *program, sg_context *context, int device) {
    sg_status status = check_is_cuda(program, context);
    return status == SG_OK ? sg_cuda_sequence_build(context, program->cuda, device) : status;
}

int64_t sg_program_workspace(const sg_program *program) {
    return program->cuda ? program->cuda->workspace : 0;
}

sg_status sg_program_launch(const sg_program *program, sg_context *context, int device,
                            void *stream, const void *const *inputs, void *const *outputs,
                            void *workspace) {
    sg_status status = check_is_cuda(program, context);
    return status == SG_OK ? sg_cuda_sequence_launch(context, program->cuda, device, stream, inputs,
                                                     program->input_count, outputs,
                                                     program->output_count, workspace)
                           : status;
}

sg_status sg_program_source(const sg_program *program, int index, char **text) {
    if (!program->cuda || index < 0 || index >= program->cuda->call_count)
        return SG_INVALID;
    *text = strdup(program->cuda->calls[index].launch->source);
    return *text ? SG_OK : SG_OUT_OF_MEMORY;
}
