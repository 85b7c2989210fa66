/* A region as CUDA source to keep: planned twice, for the GPU asked for and for any, and written
 * down. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "api/cuda.h"
#include "emit/emission.h"
#include "gen/cuda/formula.h"
#include "plan/partition.h"

/* One path on its way: compiled for layouts of its own, which need not be the caller's. */
typedef struct emit_path {
    sg_cuda_compilation compilation;
    sg_cuda_kernel *kernel;
    sg_layout *inputs, *outputs;
} emit_path;

typedef struct emitter {
    sg_context *context;
    const sg_compile_options *options;
    sg_arena arena;
    sg_partition *partition;
    const sg_step *step;
    const sg_layout *given;  /* of the graph's inputs */
    sg_emit_member *members; /* of the graph's inputs and outputs */
    int member_count;
    int *input_member, *output_member; /* of the region's inputs and outputs */
    emit_path paths[SG_EMIT_PATHS];
} emitter;

/* ---- names --------------------------------------------------------------------------------- */

static bool is_reserved(const char *name) {
    static const char *const words[] = {
        "workspace", "auto",    "bool",    "break",    "case",     "char",  "class",   "const",
        "continue",  "default", "delete",  "do",       "double",   "else",  "enum",    "extern",
        "float",     "for",     "goto",    "if",       "inline",   "int",   "long",    "new",
        "operator",  "private", "public",  "register", "return",   "short", "signed",  "sizeof",
        "static",    "struct",  "switch",  "template", "this",     "throw", "typedef", "union",
        "unsigned",  "using",   "virtual", "void",     "volatile", "while", NULL};
    for (int i = 0; words[i]; i++) {
        if (strcmp(name, words[i]) == 0)
            return true;
    }
    return false;
}

/* Names of the function that is written: its sizes, its own variables, what it calls. */
static bool is_inside(const char *name) {
    static const char *const words[] = {
        "n",      "c",       "d",     "h",          "w",      "in_d",         "in_h",
        "in_w",   "a",       "a0",    "a1",         "a2",     "a3",           "stream",
        "device", "prepare", "least", "most",       "pieces", "take_tensors", "processors",
        "launch", "aligned", "wrong", "reciprocal", NULL};
    for (int i = 0; words[i]; i++) {
        if (strcmp(name, words[i]) == 0)
            return true;
    }
    return false;
}

static bool is_taken(const emitter *emitter, const char *name) {
    for (int i = 0; i < emitter->member_count; i++) {
        if (strcmp(emitter->members[i].name, name) == 0)
            return true;
    }
    return is_reserved(name) || is_inside(name);
}

static bool is_identifier(const char *name) {
    if (!name || !(isalpha((unsigned char)*name) || *name == '_'))
        return false;
    for (; *name; name++) {
        if (!isalnum((unsigned char)*name) && *name != '_')
            return false;
    }
    return true;
}

/* A value's name as a C identifier of its own. */
static const char *member_name(emitter *emitter, const char *value) {
    size_t length = strlen(value);
    char *plain = sg_arena_alloc(&emitter->arena, length + 2);
    if (!plain)
        return NULL;
    bool digit = isdigit((unsigned char)value[0]);
    if (digit)
        plain[0] = '_';
    for (size_t i = 0; i < length; i++)
        plain[i + digit] = isalnum((unsigned char)value[i]) ? value[i] : '_';
    const char *name = plain;
    for (int i = 2; name && is_taken(emitter, name); i++)
        name = sg_cuda_formula(&emitter->arena, "%s_%d", plain, i);
    return name;
}

static bool add_member(emitter *emitter, const char *value, const sg_layout *layout, bool output) {
    const char *name = member_name(emitter, value);
    if (name)
        emitter->members[emitter->member_count++] =
            (sg_emit_member){.name = name, .layout = *layout, .output = output};
    return name != NULL;
}

/* ---- tensors ------------------------------------------------------------------------------- */

static int place_of(const sg_value *values, int count, sg_value value) {
    for (int i = 0; i < count; i++) {
        if (values[i] == value)
            return i;
    }
    return -1;
}

static sg_status collect_members(emitter *emitter, const sg_graph *original) {
    const sg_graph *graph = emitter->partition->graph;
    const sg_step *step = emitter->step;
    int inputs = graph->input_count, outputs = graph->output_count;
    sg_layout *results = SG_ARENA_NEW(&emitter->arena, sg_layout, outputs + 1);
    emitter->members = SG_ARENA_NEW(&emitter->arena, sg_emit_member, inputs + outputs + 1);
    emitter->input_member = SG_ARENA_NEW(&emitter->arena, int, step->input_count + 1);
    emitter->output_member = SG_ARENA_NEW(&emitter->arena, int, step->output_count + 1);
    if (sg_arena_failed(&emitter->arena))
        return sg_fail_memory(emitter->context);
    sg_status status = sg_graph_infer(graph, emitter->given, inputs, results);
    for (int i = 0; i < outputs && status == SG_OK && emitter->options->outputs; i++)
        results[i] = emitter->options->outputs[i];
    bool added = status == SG_OK;
    for (int i = 0; i < inputs && added; i++)
        added = add_member(emitter, original->nodes[original->inputs[i]].name, &emitter->given[i],
                           false);
    for (int i = 0; i < outputs && added; i++)
        added = add_member(emitter, original->nodes[original->outputs[i]].name, &results[i], true);
    if (!added)
        return status != SG_OK ? status : sg_fail_memory(emitter->context);
    for (int i = 0; i < step->input_count; i++)
        emitter->input_member[i] = place_of(graph->inputs, inputs, step->inputs[i]);
    for (int i = 0; i < step->output_count; i++)
        emitter->output_member[i] = inputs + place_of(graph->outputs, outputs, step->outputs[i]);
    return SG_OK;
}

/* Whether elements lie side by side, in some order of the dimensions: then sizes tell strides. */
static bool is_dense(const sg_layout *layout) {
    int64_t expected = 1;
    for (int done = 0; done < layout->rank; done++) {
        int64_t step = expected;
        for (int dim = 0; dim < layout->rank; dim++) {
            if (layout->stride[dim] == expected && layout->size[dim] > 1)
                step = expected * layout->size[dim];
        }
        expected = step;
    }
    int64_t elements = 1;
    for (int dim = 0; dim < layout->rank; dim++)
        elements *= layout->size[dim];
    return expected == elements || elements == 0;
}

static sg_status check_members(const emitter *emitter) {
    for (int i = 0; i < emitter->member_count; i++) {
        if (!is_dense(&emitter->members[i].layout))
            return sg_fail(emitter->context, SG_NOT_APPLICABLE,
                           "elements of %s do not lie side by side; dense tensors can be taken, "
                           "in any order of their dimensions",
                           emitter->members[i].name);
    }
    return SG_OK;
}

/* Layouts that nothing can be told from: no strides of one, none that vectors divide, and no two
 * dimensions behind each other. */
static void make_layout_general(sg_layout *layout) {
    int64_t stride = 3;
    for (int dim = layout->rank - 1; dim >= 0; dim--) {
        layout->stride[dim] = stride;
        stride = (stride * layout->size[dim] + 2) | 1;
    }
}

static bool open_path(emitter *emitter, emit_path *path, bool general) {
    const sg_step *step = emitter->step;
    path->inputs = SG_ARENA_NEW(&emitter->arena, sg_layout, step->input_count + 1);
    path->outputs = SG_ARENA_NEW(&emitter->arena, sg_layout, step->output_count + 1);
    if (!path->inputs || !path->outputs)
        return false;
    for (int i = 0; i < step->input_count; i++) {
        path->inputs[i] = emitter->members[emitter->input_member[i]].layout;
        if (general)
            make_layout_general(&path->inputs[i]);
    }
    for (int i = 0; i < step->output_count; i++) {
        path->outputs[i] = emitter->members[emitter->output_member[i]].layout;
        if (general)
            make_layout_general(&path->outputs[i]);
    }
    path->compilation = (sg_cuda_compilation){
        .graph = step->graph, .inputs = path->inputs, .outputs = path->outputs, .device = -1};
    return true;
}

/* ---- paths --------------------------------------------------------------------------------- */

static sg_status compile_first(emitter *emitter) {
    emit_path *path = &emitter->paths[0];
    sg_compile_options options = *emitter->options;
    options.gpu = options.gpu ? options.gpu : "sm_90a";
    if (!open_path(emitter, path, false))
        return sg_fail_memory(emitter->context);
    sg_status status = sg_cuda_target_create(emitter->context, &options, &path->compilation.target,
                                             &path->compilation.device);
    path->compilation.strategy = options.strategy;
    if (status == SG_OK)
        status = sg_cuda_compile_region(&path->compilation, options.tune, &emitter->arena,
                                        &path->kernel);
    if (status == SG_OK && path->kernel->launch_count == 0)
        return sg_fail(
            emitter->context, SG_NOT_APPLICABLE,
            "a tensor has no elements; sizes that the kernel is to be fast at are wanted");
    return status;
}

/* The kernel with the least text, unless another is expected to be much faster. */
static void choose_any(const sg_problem *problem, const sg_cuda_target *target,
                       sg_cuda_choice *choice) {
    static const double SLOWER_MAX = 3;
    sg_cuda_choice plain;
    sg_cuda_choose_plan(problem, target, NULL, choice);
    sg_cuda_choose_plan(problem, target, "implicit_gemm", &plain);
    if (plain.strategy && plain.cost <= SLOWER_MAX * choice->cost)
        *choice = plain;
}

/* Planned as for an sm_80 and for the layouts given, lowered for layouts that tell nothing. Where
 * the plan lives on what they told, it is planned again without. */
static sg_status compile_any(emitter *emitter) {
    const emit_path *first = &emitter->paths[0];
    emit_path *path = &emitter->paths[1];
    sg_cuda_compilation *compilation = &path->compilation;
    if (!open_path(emitter, path, true))
        return sg_fail_memory(emitter->context);
    sg_gpu least, limits;
    sg_gpu_find("sm_80", &least);
    sg_gpu_find("sm_86", &limits); /* has the least shared memory of those from sm_80 on */
    least.shared_block = limits.shared_block;
    least.shared_processor = limits.shared_processor;
    compilation->target = (sg_cuda_target){
        .gpu = least, .precision = first->compilation.target.precision, .alignment = 1};
    sg_cuda_choice planned;
    choose_any(&first->compilation.problem, &compilation->target, &planned);
    sg_status status = sg_cuda_compile_region(compilation, false, &emitter->arena, &path->kernel);
    if (status != SG_OK || !planned.strategy ||
        !planned.strategy->usable(&compilation->problem, &compilation->target, &planned.plan))
        return status;
    compilation->choice = planned;
    return sg_cuda_lower(&compilation->problem, &compilation->target, &planned, &emitter->arena,
                         path->kernel);
}

static sg_status check_launches(const emitter *emitter, const emit_path *path) {
    for (int i = 0; i < path->kernel->launch_count; i++) {
        if (!path->kernel->launches[i].grid_formula)
            return sg_fail(emitter->context, SG_NOT_APPLICABLE,
                           "launch %s is for the sizes at hand alone and cannot be written down",
                           path->kernel->launches[i].entry);
    }
    return SG_OK;
}

/* ---- the call ------------------------------------------------------------------------------ */

static sg_status find_region(emitter *emitter) {
    const sg_partition *partition = emitter->partition;
    if (partition->step_count != 1 || partition->steps[0].foreign)
        return sg_fail(emitter->context, SG_NOT_APPLICABLE,
                       "the graph is %d steps, not one region; write the regions of "
                       "sg_partition_create down one by one",
                       partition->step_count);
    emitter->step = &partition->steps[0];
    return SG_OK;
}

/* Whether the first path is no faster: the same text, at the same size. */
static bool same_sources(const emitter *emitter) {
    const sg_cuda_kernel *first = emitter->paths[0].kernel, *any = emitter->paths[1].kernel;
    bool same = first->launch_count == any->launch_count;
    for (int i = 0; same && i < first->launch_count; i++)
        same = strcmp(first->launches[i].source, any->launches[i].source) == 0 &&
               first->launches[i].block == any->launches[i].block &&
               first->launches[i].shared == any->launches[i].shared;
    return same;
}

static sg_status write_part(emitter *emitter, const char *name, sg_emit_part part, sg_text *text) {
    int first = same_sources(emitter) ? 1 : 0;
    sg_emission emission = {.name = name,
                            .graph = emitter->step->graph,
                            .members = emitter->members,
                            .member_count = emitter->member_count,
                            .input_member = emitter->input_member,
                            .output_member = emitter->output_member,
                            .path_count = SG_EMIT_PATHS - first,
                            .arena = &emitter->arena};
    for (int i = first; i < SG_EMIT_PATHS; i++) {
        const emit_path *path = &emitter->paths[i];
        emission.paths[i - first] = (sg_emit_path){.problem = &path->compilation.problem,
                                                   .target = &path->compilation.target,
                                                   .choice = &path->compilation.choice,
                                                   .kernel = path->kernel};
    }
    switch (part) {
    case SG_EMIT_HEADER:
        return sg_emit_header(&emission, text);
    case SG_EMIT_CMAKE:
        return sg_emit_cmake(&emission, text);
    case SG_EMIT_UNIT:
    case SG_EMIT_SOURCE:
        break;
    }
    return sg_emit_unit(&emission, part == SG_EMIT_UNIT, text);
}

static sg_status emit(emitter *emitter, const sg_graph *graph, const char *name, sg_emit_part part,
                      sg_text *text) {
    sg_graph *bound = NULL;
    sg_status status = sg_graph_bind(graph, emitter->given, graph->input_count, &bound);
    if (status == SG_OK)
        status = sg_partition_create(bound, &emitter->partition);
    sg_graph_destroy(bound);
    if (status == SG_OK)
        status = find_region(emitter);
    if (status == SG_OK)
        status = collect_members(emitter, graph);
    if (status == SG_OK)
        status = check_members(emitter);
    if (status == SG_OK)
        status = compile_first(emitter);
    if (status == SG_OK)
        status = compile_any(emitter);
    for (int i = 0; i < SG_EMIT_PATHS && status == SG_OK; i++)
        status = check_launches(emitter, &emitter->paths[i]);
    if (status == SG_OK)
        status = write_part(emitter, name, part, text);
    return status;
}

sg_status sg_emit_cuda(const sg_graph *graph, const sg_layout *inputs, int input_count,
                       const sg_compile_options *options, const char *name, sg_emit_part part,
                       char **result) {
    sg_compile_options none = {.gpu = NULL};
    emitter emitter = {
        .context = graph->context, .options = options ? options : &none, .given = inputs};
    sg_text text = {0};
    if (!is_identifier(name) || is_reserved(name))
        return sg_fail(graph->context, SG_INVALID,
                       "\"%s\" is no name for a function in C; letters, digits and _ would be",
                       name ? name : "");
    if (input_count != graph->input_count)
        return sg_fail(graph->context, SG_INVALID, "%d layouts for %d inputs", input_count,
                       graph->input_count);
    sg_status status = emit(&emitter, graph, name, part, &text);
    if (status == SG_OK) {
        *result = sg_text_take(&text);
        status = *result ? SG_OK : sg_fail_memory(graph->context);
    }
    sg_text_release(&text);
    for (int i = 0; i < SG_EMIT_PATHS; i++)
        sg_region_close(&emitter.paths[i].compilation.region);
    sg_partition_destroy(emitter.partition);
    sg_arena_release(&emitter.arena);
    return status;
}
