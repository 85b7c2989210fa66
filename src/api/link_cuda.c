/* The launches of a program's steps, one after the other, and where its intermediates lie. */
#include <stdlib.h>

#include "api/cuda.h"

/* Life of an intermediate: from the step that writes it to the last that reads it. */
typedef struct sg_life {
    int first, last;
    int64_t offset, size;
} sg_life;

static int64_t round_up(int64_t bytes) {
    return (bytes + SG_CUDA_WORKSPACE_ALIGNMENT - 1) / SG_CUDA_WORKSPACE_ALIGNMENT *
           SG_CUDA_WORKSPACE_ALIGNMENT;
}

static void find_lives(const sg_program *program, sg_life *lives) {
    int given = program->input_count + program->output_count;
    for (int i = 0; i < program->step_count; i++) {
        const sg_program_step *step = &program->steps[i];
        for (int k = 0; k < step->graph->output_count; k++) {
            if (step->outputs[k] >= given)
                lives[step->outputs[k] - given].first = lives[step->outputs[k] - given].last = i;
        }
        for (int k = 0; k < step->graph->input_count; k++) {
            if (step->inputs[k] >= given)
                lives[step->inputs[k] - given].last = i;
        }
    }
}

/* Each goes to the lowest place that no other one takes at the same time; intermediates are in the
 * order of their making. Returns the bytes of them all. */
static int64_t lay_out(const sg_program *program, sg_life *lives) {
    int64_t total = 0;
    for (int i = 0; i < program->intermediate_count; i++) {
        sg_life *life = &lives[i];
        life->size = round_up(sg_layout_span(&program->intermediates[i]));
        for (int k = 0; k < i; k++) {
            const sg_life *other = &lives[k];
            bool meet = other->last >= life->first && other->first <= life->last &&
                        other->offset < life->offset + life->size &&
                        life->offset < other->offset + other->size;
            if (meet) {
                life->offset = other->offset + other->size;
                k = -1; /* what was passed may be in the way now */
            }
        }
        int64_t end = life->offset + life->size;
        total = end > total ? end : total;
    }
    return total;
}

static sg_cuda_place place_of(const sg_program *program, const sg_life *lives, int place) {
    if (place < program->input_count)
        return (sg_cuda_place){.kind = SG_WORD_INPUT, .index = place};
    place -= program->input_count;
    if (place < program->output_count)
        return (sg_cuda_place){.kind = SG_WORD_OUTPUT, .index = place};
    return (sg_cuda_place){.kind = SG_WORD_WORKSPACE,
                           .offset = lives[place - program->output_count].offset};
}

static sg_status add_step(sg_context *context, sg_program *program, const sg_program_step *step,
                          const sg_life *lives, int64_t workspace) {
    int inputs = step->graph->input_count, outputs = step->graph->output_count;
    sg_cuda_place *places = calloc((size_t)(inputs + outputs) + 1, sizeof *places);
    if (!places)
        return sg_fail_memory(context);
    for (int i = 0; i < inputs; i++)
        places[i] = place_of(program, lives, step->inputs[i]);
    for (int i = 0; i < outputs; i++)
        places[inputs + i] = place_of(program, lives, step->outputs[i]);
    sg_status status = sg_cuda_sequence_add(context, program->cuda, step->cuda, places,
                                            places + inputs, workspace, &program->arena);
    free(places);
    return status;
}

static bool is_empty(const sg_layout *layout) {
    for (int dim = 0; dim < layout->rank; dim++) {
        if (layout->size[dim] == 0)
            return true;
    }
    return false;
}

static int64_t *make_masks(sg_program *program, const sg_layout *layouts, int count,
                           int alignment) {
    int64_t *masks = SG_ARENA_NEW(&program->arena, int64_t, count + 1);
    for (int i = 0; i < count && masks; i++) {
        int size = sg_dtype_size(layouts[i].dtype);
        masks[i] = is_empty(&layouts[i]) ? -1 : (alignment > size ? alignment : size) - 1;
    }
    return masks;
}

sg_status sg_cuda_link(sg_context *context, sg_program *program, const sg_gpu *gpu, int alignment) {
    enum { ALIGNMENT = 16 };
    sg_life *lives = calloc((size_t)program->intermediate_count + 1, sizeof *lives);
    program->cuda = sg_cuda_sequence_create(gpu, program->step_count * SG_CUDA_LAUNCHES_MAX);
    if (!lives || !program->cuda) {
        free(lives);
        return sg_fail_memory(context);
    }
    find_lives(program, lives);
    int64_t workspace = lay_out(program, lives);
    program->cuda->workspace = workspace;
    sg_status status = SG_OK;
    for (int i = 0; i < program->step_count && status == SG_OK; i++)
        status = add_step(context, program, &program->steps[i], lives, workspace);
    free(lives);
    alignment = alignment ? alignment : ALIGNMENT;
    program->cuda->input_mask =
        make_masks(program, program->inputs, program->input_count, alignment);
    program->cuda->output_mask =
        make_masks(program, program->outputs, program->output_count, alignment);
    if (status == SG_OK && sg_arena_failed(&program->arena))
        status = sg_fail_memory(context);
    program->work.scratch_bytes = program->cuda->workspace;
    return status;
}
