#include "gen/cuda/arguments.h"

#include <assert.h>
#include <string.h>

const char *sg_cuda_type(sg_dtype dtype) {
    static const char *const types[SG_DTYPE_COUNT] = {
        [SG_BOOL] = "bool_t", [SG_F16] = "half_t", [SG_BF16] = "bfloat_t",
        [SG_F32] = "float",   [SG_F64] = "double",
    };
    assert(dtype < SG_DTYPE_COUNT && types[dtype]);
    return types[dtype];
}

void sg_cuda_arguments_open(sg_cuda_arguments *arguments, const sg_problem *problem,
                            sg_arena *arena) {
    *arguments = (sg_cuda_arguments){.problem = problem, .arena = arena};
}

void sg_cuda_arguments_close(sg_cuda_arguments *arguments) {
    sg_text_release(&arguments->declaration);
}

/* Room for one more in an array of the arena's; false: memory ran out. */
static bool make_room(sg_arena *arena, void **array, size_t size, int count, int *capacity) {
    if (count < *capacity)
        return true;
    int larger = *capacity ? *capacity * 2 : 32;
    void *moved = sg_arena_alloc(arena, size * (size_t)larger);
    if (!moved)
        return false;
    if (count)
        memcpy(moved, *array, size * (size_t)count);
    *array = moved;
    *capacity = larger;
    return true;
}

static void add_word(sg_cuda_arguments *arguments, sg_word word) {
    void *words = arguments->words;
    if (!make_room(arguments->arena, &words, sizeof word, arguments->count, &arguments->capacity))
        return;
    arguments->words = words;
    arguments->words[arguments->count++] = word;
}

void sg_cuda_add_tensor(sg_cuda_arguments *arguments, const char *name, const sg_operand *operand,
                        bool output) {
    /* The members of Stride, in order. */
    static const int roles[] = {SG_ROLE_N, SG_ROLE_C, SG_ROLE_D, SG_ROLE_H, SG_ROLE_W};
    sg_arena *arena = arguments->arena;
    sg_text_add(&arguments->declaration, "    %s%s *__restrict__ %s;\n    Stride %s_stride;\n",
                output ? "" : "const ", sg_cuda_type(operand->dtype), name, name);
    add_word(arguments, (sg_word){.kind = output ? SG_WORD_OUTPUT : SG_WORD_INPUT,
                                  .index = operand->index,
                                  .name = sg_cuda_formula(arena, "%s", name)});
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        add_word(arguments, (sg_word){.kind = SG_WORD_NUMBER,
                                      .number = operand->stride[roles[i]],
                                      .name = i ? NULL : sg_cuda_formula(arena, "%s_stride", name),
                                      .formula = sg_cuda_stride(arguments->problem, operand, output,
                                                                roles[i], arena)});
}

/* Numbers that follow each other share a line, as far as it goes. */
static void declare_number(sg_text *declaration, const char *name) {
    static const char type[] = "    long long ";
    enum { COLUMNS = 100 };
    size_t length = declaration->length, line = length ? length - 1 : 0;
    while (line > 0 && declaration->data[line - 1] != '\n')
        line--;
    bool number =
        length > strlen(type) && strncmp(declaration->data + line, type, strlen(type)) == 0;
    if (number && length - line + strlen(name) + 1 <= COLUMNS) {
        declaration->length -= strlen(";\n");
        sg_text_add(declaration, ", %s;\n", name);
    } else {
        sg_text_add(declaration, "%s%s;\n", type, name);
    }
}

void sg_cuda_add_number(sg_cuda_arguments *arguments, const char *name, int64_t value,
                        const char *formula, ...) {
    va_list list;
    va_start(list, formula);
    declare_number(&arguments->declaration, name);
    add_word(arguments,
             (sg_word){.kind = SG_WORD_NUMBER,
                       .number = value,
                       .name = sg_cuda_formula(arguments->arena, "%s", name),
                       .formula = sg_cuda_formula_list(arguments->arena, formula, list)});
    va_end(list);
}

void sg_cuda_add_workspace(sg_cuda_arguments *arguments, const char *type, const char *name,
                           int64_t offset, const char *formula, ...) {
    va_list list;
    va_start(list, formula);
    sg_text_add(&arguments->declaration, "    %s *%s;\n", type, name);
    add_word(arguments,
             (sg_word){.kind = SG_WORD_WORKSPACE,
                       .number = offset,
                       .name = sg_cuda_formula(arguments->arena, "%s", name),
                       .formula = sg_cuda_formula_list(arguments->arena, formula, list)});
    va_end(list);
}

void sg_cuda_give_arguments(const sg_cuda_arguments *arguments, sg_cuda_launch *launch) {
    launch->words = arguments->words;
    launch->word_count = arguments->count;
    launch->assumptions = arguments->assumptions;
    launch->assumption_count = arguments->assumption_count;
}

/* ---- what is assumed ----------------------------------------------------------------------- */

void sg_cuda_assume(sg_cuda_arguments *arguments, const char *sentence, const char *holds, ...) {
    va_list list;
    va_start(list, holds);
    sg_cuda_assumption made = {.holds = sg_cuda_formula_list(arguments->arena, holds, list),
                               .sentence = sg_cuda_formula(arguments->arena, "%s", sentence)};
    va_end(list);
    void *all = arguments->assumptions;
    for (int i = 0; i < arguments->assumption_count && made.holds; i++) {
        if (strcmp(arguments->assumptions[i].holds, made.holds) == 0)
            return;
    }
    if (!made.holds || !make_room(arguments->arena, &all, sizeof made, arguments->assumption_count,
                                  &arguments->assumption_capacity))
        return;
    arguments->assumptions = all;
    arguments->assumptions[arguments->assumption_count++] = made;
}

static const char *name_of(const sg_problem *problem, const sg_operand *operand, bool output) {
    const sg_graph *graph = problem->region->graph;
    return sg_graph_node(graph, (output ? graph->outputs : graph->inputs)[operand->index])->name;
}

void sg_cuda_assume_vectors(sg_cuda_arguments *arguments, const sg_operand *operand, bool output,
                            int role, int64_t count, const char *length) {
    const sg_problem *problem = arguments->problem;
    sg_arena *arena = arguments->arena;
    int64_t bytes = count * sg_dtype_size(operand->dtype);
    if (count <= 1)
        return;
    const char *holds =
        sg_cuda_formula(arena, "aligned(%s%d, %lld) && %s == 1", output ? "output" : "input",
                        operand->index, (long long)(bytes > 16 ? 16 : bytes),
                        sg_cuda_stride(problem, operand, output, role, arena));
    for (int other = 0; other < SG_ROLE_COUNT && holds; other++) {
        if (other != role && operand->dim[other])
            holds = sg_cuda_formula(arena, "%s && %s %% %lld == 0", holds,
                                    sg_cuda_stride(problem, operand, output, other, arena),
                                    (long long)count);
    }
    if (length && holds)
        holds = sg_cuda_formula(arena, "%s && %s %% %lld == 0", holds, length, (long long)count);
    const char *sentence =
        sg_cuda_formula(arena, "%%%s is %s in vectors of %lld", name_of(problem, operand, output),
                        output ? "written" : "read", (long long)count);
    if (holds && sentence)
        sg_cuda_assume(arguments, sentence, "%s", holds);
}

void sg_cuda_assume_dense(sg_cuda_arguments *arguments, const sg_operand *operand, const int *roles,
                          const int64_t *sizes, int count) {
    const sg_problem *problem = arguments->problem;
    sg_arena *arena = arguments->arena;
    const char *holds = NULL;
    int64_t step = 1;
    for (int i = 0; i < count; i++) {
        if (sizes[i] > 1)
            holds = sg_cuda_formula(
                arena, "%s%s%s == %lld", holds ? holds : "", holds ? " && " : "",
                sg_cuda_stride(problem, operand, false, roles[i], arena), (long long)step);
        step *= sizes[i];
    }
    const char *sentence = sg_cuda_formula(arena, "elements of %%%s lie side by side",
                                           name_of(problem, operand, false));
    if (holds && sentence)
        sg_cuda_assume(arguments, sentence, "%s", holds);
}
