/* What is to be known of a region before its text is written. */
#include "gen/c/region.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Of a region without an operator over them. */
enum { CHANNELS_MAX = 1024 };

/* ---- the problem --------------------------------------------------------------------------- */

/* Strides that grow inwards: no two axes then lie behind each other, so that none are merged. */
static sg_layout unmerged(const sg_layout *layout) {
    sg_layout made = *layout;
    for (int dim = 0; dim < made.rank; dim++)
        made.stride[dim] = dim + 1;
    return made;
}

/* Where no operator needs a channel axis, the second dimension of images is taken for it, as in a
 * convolution. Where all five axes are there, one must be: without a convolution four others have
 * roles. */
static void choose_channel(sg_region *region) {
    int rank = 0, axes = 0, free = -1;
    for (sg_value value = 0; value < region->graph->node_count; value++) {
        int other = sg_graph_node(region->graph, value)->type.rank;
        rank = other > rank ? other : rank;
    }
    int second = SG_AXIS_COUNT - rank + 1;
    for (int axis = SG_AXIS_COUNT - 1; axis >= 0; axis--) {
        axes += region->size[axis] != 1;
        if (!(region->walk >> axis & 1U))
            free = free < 0 || axis == second ? axis : free;
    }
    bool image = rank > 2 && free == second && region->size[second] <= CHANNELS_MAX;
    if (region->channel < 0 && free >= 0 && (axes == SG_AXIS_COUNT || image))
        region->channel = free;
}

sg_status sg_c_problem_create(sg_region *region, const sg_layout *inputs, const sg_layout *outputs,
                              sg_arena *arena, sg_problem *problem) {
    const sg_graph *graph = region->graph;
    sg_layout *layouts =
        SG_ARENA_NEW(arena, sg_layout, graph->input_count + graph->output_count + 1);
    if (!layouts)
        return sg_fail_memory(graph->context);
    for (int i = 0; i < graph->input_count; i++)
        layouts[i] = unmerged(&inputs[i]);
    for (int i = 0; i < graph->output_count; i++)
        layouts[graph->input_count + i] = unmerged(&outputs[i]);
    choose_channel(region);
    sg_status status =
        sg_problem_create(region, layouts, layouts + graph->input_count, arena, problem);
    if (status != SG_OK)
        return status;
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        if (problem->role[axis] < 0 && region->size[axis] != 1)
            return sg_fail(graph->context, SG_NOT_APPLICABLE,
                           "axis %s of the region has no role of its own in C", sg_axis_name(axis));
    }
    problem->flat = false;
    return SG_OK;
}

/* ---- sizes --------------------------------------------------------------------------------- */

static const char *const letters[SG_ROLE_COUNT] = {"n", NULL, "d", "h", "w"};

/* Whether all values of the region run along an axis. */
static bool spans(const sg_region *region, int axis) {
    for (sg_value value = 0; value < region->graph->node_count; value++) {
        if (region->members[value].in && !(sg_region_domain(region, value) >> axis & 1U) &&
            !(region->walk >> axis & 1U))
            return false;
    }
    return true;
}

static void find_open_roles(sg_c_region *region) {
    const sg_problem *problem = region->problem;
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        int role = problem->role[axis];
        if (role < 0 || role == SG_ROLE_C)
            continue;
        region->open[role] =
            problem->size[role] != 1 || (problem->has_convolution && spans(problem->region, axis));
    }
    /* Dimensions that the convolution lacks. */
    for (int i = 0; i < SG_SPATIAL_MAX && problem->has_convolution; i++)
        region->open[SG_ROLE_D + i] &= problem->convolution.input.domain >> (SG_ROLE_D + i) & 1U;
    if (problem->has_convolution)
        region->open[SG_ROLE_N] &= problem->convolution.input.domain >> SG_ROLE_N & 1U;
}

void sg_c_write_axis(const sg_c_region *region, int axis, const char *prefix, sg_text *text) {
    int role = region->problem->role[axis];
    if (role == SG_ROLE_C)
        sg_text_add(text, "%lld", (long long)region->problem->size[role]);
    else if (role < 0 || !region->open[role])
        sg_text_add(text, "1");
    else
        sg_text_add(text, "%ssize_%s", prefix, letters[role]);
}

/* ---- tensors ------------------------------------------------------------------------------- */

/* A value's name as an identifier that is neither C's nor the file's. */
static void name_tensor(sg_c_region *region, const char *name, sg_c_tensor *tensor) {
    char made[SG_C_NAME_MAX - 16];
    size_t length = 0;
    for (; *name && length + 1 < sizeof made; name++)
        made[length++] = (char)(isalnum((unsigned char)*name) ? *name : '_');
    made[length] = '\0';
    static const char *const words[] = {
        "a",        "t",         "auto",   "break",  "case",   "char",     "const",   "continue",
        "default",  "do",        "double", "else",   "enum",   "extern",   "float",   "for",
        "goto",     "if",        "inline", "int",    "long",   "real",     "return",  "short",
        "register", "restrict",  "signed", "sizeof", "static", "struct",   "switch",  "typedef",
        "union",    "unsigned",  "void",   "while",  "tile",   "volatile", "place",   "stride",
        "offset",   "workspace", "run",    "step",   "begin",  "end",      "contract"};
    bool taken = !isalpha((unsigned char)made[0]) || strncmp(made, "in_", 3) == 0 ||
                 strncmp(made, "size_", 5) == 0 || !strpbrk(made, "abcdefghijklmnopqrstuvwxyz");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        taken |= strcmp(made, words[i]) == 0;
    snprintf(tensor->name, sizeof tensor->name, "%s%s", taken ? "the_" : "", made);
    for (int i = 0, again = 2; &region->tensors[i] != tensor; i++) {
        if (strcmp(region->tensors[i].name, tensor->name) == 0) {
            snprintf(tensor->name, sizeof tensor->name, "%s_%d", made, again++);
            i = -1;
        }
    }
}

static void add_tensor(sg_c_region *region, sg_value value, bool output) {
    const sg_node *node = sg_graph_node(region->graph, value);
    sg_c_tensor *tensor = &region->tensors[region->tensor_count++];
    *tensor = (sg_c_tensor){
        .dtype = node->type.dtype, .rank = node->type.rank, .output = output, .view = -1};
    name_tensor(region, node->name, tensor);
}

/* sizes[axes] as a product, "h * w". */
static void write_product(const sg_c_region *region, sg_axes axes, char *expression) {
    sg_text text = {0};
    for (int axis = axes.first; axis < axes.first + axes.count; axis++) {
        sg_text factor = {0};
        sg_c_write_axis(region, axis, "", &factor);
        if (factor.data && strcmp(factor.data, "1") != 0)
            sg_text_add(&text, "%s%s", text.length ? " * " : "", factor.data);
        sg_text_release(&factor);
    }
    snprintf(expression, SG_C_EXPRESSION_MAX, "%s", text.length ? text.data : "1");
    sg_text_release(&text);
}

/* dims: axes of each dimension, count 0 where it has size 1. */
static int add_view(sg_c_region *region, int tensor, const sg_operand *operand,
                    const sg_axes *dims) {
    sg_c_view view = {.tensor = tensor, .operand = *operand};
    sg_c_tensor *of = &region->tensors[tensor];
    for (int dim = 0; dim < of->rank; dim++) {
        write_product(region, dims[dim], view.size[dim]);
        for (int i = 0; i < dims[dim].count; i++) {
            int axis = dims[dim].first + i, role = region->problem->role[axis];
            sg_axes inside = {.first = (unsigned char)(axis + 1),
                              .count = (unsigned char)(dims[dim].count - i - 1)};
            char product[SG_C_EXPRESSION_MAX];
            if (role < 0)
                continue;
            write_product(region, inside, product);
            bool one = strcmp(product, "1") == 0;
            snprintf(view.stride[role], SG_C_EXPRESSION_MAX, "%s_by_dim[%d]%s%.90s", of->name, dim,
                     one ? "" : " * ", one ? "" : product);
        }
    }
    int same = 0;
    for (int i = 0; i < region->view_count; i++) {
        sg_c_view *other = &region->views[i];
        if (other->tensor != tensor)
            continue;
        same++;
        if (memcmp(other->stride, view.stride, sizeof view.stride) == 0 &&
            memcmp(other->size, view.size, sizeof view.size) == 0)
            return i;
    }
    snprintf(view.name, sizeof view.name, same ? "%.60s_by_%d" : "%.60s_by", of->name, same + 1);
    of->view = same ? of->view : region->view_count;
    region->views[region->view_count] = view;
    return region->view_count++;
}

/* An operand of the convolution: its dimensions have roles, but sizes of their own. */
static int add_convolution_view(sg_c_region *region, const sg_operand *operand) {
    static const char *const sizes[SG_SPATIAL_MAX] = {"in_d", "in_h", "in_w"};
    const sg_problem *problem = region->problem;
    const sg_convolution *convolution = &problem->convolution;
    if (operand->index < 0)
        return -1;
    bool input = operand == &convolution->input, weight = operand == &convolution->weight;
    sg_c_tensor *tensor = &region->tensors[operand->index];
    sg_c_view view = {.tensor = operand->index, .operand = *operand};
    int dim = 0;
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        if (!(operand->domain >> role & 1U))
            continue;
        int axis = role - SG_ROLE_D;
        int64_t size = role == SG_ROLE_N ? problem->size[weight ? SG_ROLE_C : SG_ROLE_N]
                       : role == SG_ROLE_C
                           ? (input    ? convolution->in_channels
                              : weight ? convolution->in_channels / convolution->groups
                                       : problem->size[SG_ROLE_C])
                       : input ? convolution->in_size[axis]
                               : convolution->kernel[axis];
        snprintf(view.stride[role], SG_C_EXPRESSION_MAX, "%s_by_dim[%d]", tensor->name, dim);
        if (input && role != SG_ROLE_C && region->open[role])
            snprintf(view.size[dim], SG_C_EXPRESSION_MAX, "%s", axis < 0 ? "size_n" : sizes[axis]);
        else
            snprintf(view.size[dim], SG_C_EXPRESSION_MAX, "%lld", (long long)size);
        dim++;
    }
    int same = 0;
    for (int i = 0; i < region->view_count; i++)
        same += region->views[i].tensor == view.tensor;
    snprintf(view.name, sizeof view.name, same ? "%.60s_by_%d" : "%.60s_by", tensor->name,
             same + 1);
    tensor->view = same ? tensor->view : region->view_count;
    region->views[region->view_count] = view;
    return region->view_count++;
}

static bool same_operand(const sg_operand *a, const sg_operand *b) {
    return a->index == b->index && a->domain == b->domain &&
           memcmp(a->stride, b->stride, sizeof a->stride) == 0;
}

static int view_of_load(sg_c_region *region, const sg_operand *load) {
    const sg_problem *problem = region->problem;
    for (int i = 0; i < problem->access_count; i++) {
        const sg_access *access = &problem->accesses[i];
        if (!same_operand(&access->operand, load))
            continue;
        sg_axes dims[SG_RANK_MAX] = {{0}};
        sg_value input = sg_graph_node(region->graph, access->node)->operands[access->place];
        for (int dim = 0; dim < region->tensors[load->index].rank; dim++) {
            if (!sg_region_operand_axes(problem->region, access->node, input, dim, &dims[dim]))
                dims[dim].count = 0;
        }
        return add_view(region, load->index, load, dims);
    }
    return -1;
}

static void collect_tensors(sg_c_region *region) {
    const sg_problem *problem = region->problem;
    const sg_graph *graph = region->graph;
    const sg_convolution *convolution = &problem->convolution;
    for (int i = 0; i < graph->input_count; i++)
        add_tensor(region, graph->inputs[i], false);
    for (int i = 0; i < graph->output_count; i++)
        add_tensor(region, graph->outputs[i], true);
    region->input_view = region->weight_view = region->bias_view = -1;
    if (problem->has_convolution) {
        region->input_view = add_convolution_view(region, &convolution->input);
        region->weight_view = add_convolution_view(region, &convolution->weight);
        region->bias_view = add_convolution_view(region, &convolution->bias);
    }
    for (int i = 0; i < region->program.load_count; i++)
        region->load_view[i] = view_of_load(region, &region->program.loads[i]);
    for (int i = 0; i < region->program.store_count; i++) {
        const sg_operand *store = &region->program.stores[i];
        const sg_member *member = &problem->region->members[graph->outputs[store->index]];
        region->store_view[i] =
            add_view(region, graph->input_count + store->index, store, member->dims);
    }
}

/* ---- values -------------------------------------------------------------------------------- */

static sg_shape shape_of(const sg_c_region *region, int buffer) {
    return region->program.buffers[buffer].shape;
}

static bool is_effect(const sg_instruction *instruction) {
    return instruction->kind == SG_INSTRUCTION_STORE || instruction->kind == SG_INSTRUCTION_WALK;
}
static bool is_reduction(const sg_instruction *instruction) {
    return instruction->kind == SG_INSTRUCTION_ROWS || instruction->kind == SG_INSTRUCTION_COLUMNS;
}

static void list_all(sg_c_region *region) {
    const sg_tile_program *program = &region->program;
    const sg_section *sections[] = {&program->item, &program->tile, &program->after};
    for (int s = 0; s < 3; s++) {
        for (int i = 0; i < sections[s]->count; i++) {
            region->section[region->count] = s;
            region->all[region->count++] = &sections[s]->items[i];
        }
    }
}

static void find_live(sg_c_region *region) {
    for (int i = region->count - 1; i >= 0; i--) {
        const sg_instruction *instruction = region->all[i];
        for (int k = 0; k < instruction->source_count; k++) {
            if (instruction->sources[k] >= 0 &&
                (is_effect(instruction) || region->live[instruction->dst]))
                region->live[instruction->sources[k]] = true;
        }
    }
}

/* A value waits for one more loop after a reduction, and where a view has dropped an axis of size
 * 1, whose loop its source is made in. */
static void find_levels(sg_c_region *region) {
    for (int i = 0; i < region->count; i++) {
        const sg_instruction *instruction = region->all[i];
        int level = 0;
        for (int k = 0; k < instruction->source_count && !is_effect(instruction); k++) {
            int source = instruction->sources[k];
            if (source < 0)
                continue;
            bool later = is_reduction(instruction) ||
                         (shape_of(region, source) & ~shape_of(region, instruction->dst)) != 0;
            int wanted = region->level[source] + later;
            level = wanted > level ? wanted : level;
        }
        if (!is_effect(instruction))
            region->level[instruction->dst] = level;
        region->levels = level + 1 > region->levels ? level + 1 : region->levels;
    }
}

/* The loop that an instruction stands in. */
static sg_c_loop loop_of(const sg_c_region *region, int i) {
    const sg_instruction *instruction = region->all[i];
    bool by_source = is_effect(instruction) || is_reduction(instruction);
    int buffer = by_source ? instruction->sources[0] : instruction->dst;
    return (sg_c_loop){region->section[i], region->level[buffer], shape_of(region, buffer)};
}

/* What is loaded is loaded in the first loop that wants it. */
static void delay_loads(sg_c_region *region) {
    for (int i = 0; i < region->count; i++) {
        const sg_instruction *load = region->all[i];
        if (load->kind != SG_INSTRUCTION_LOAD || region->section[i] == 0)
            continue;
        int level = region->levels;
        for (int k = 0; k < region->count; k++) {
            for (int s = 0; s < region->all[k]->source_count; s++) {
                sg_c_loop loop = loop_of(region, k);
                if (region->all[k]->sources[s] == load->dst)
                    level = loop.level < level ? loop.level : level;
            }
        }
        region->level[load->dst] = level;
    }
}

static void find_kept(sg_c_region *region) {
    if (region->program.anchor >= 0)
        region->kept[region->program.anchor] = true;
    for (int i = 0; i < region->count; i++) {
        const sg_instruction *made = region->all[i];
        if (is_effect(made))
            continue;
        sg_c_loop at = loop_of(region, i);
        bool kept = is_reduction(made) || shape_of(region, made->dst) == SG_SHAPE_NUMBER ||
                    region->section[i] == 0;
        bool row = made->kind == SG_INSTRUCTION_LOAD;
        for (int k = 0; k < region->count; k++) {
            for (int s = 0; s < region->all[k]->source_count; s++) {
                if (region->all[k]->sources[s] != made->dst)
                    continue;
                sg_c_loop loop = loop_of(region, k);
                kept |=
                    loop.section != at.section || loop.level != at.level || loop.shape != at.shape;
                row |= region->all[k]->kind == SG_INSTRUCTION_STORE ||
                       region->all[k]->kind == SG_INSTRUCTION_COLUMNS;
            }
        }
        region->kept[made->dst] = kept;
        region->row[made->dst] = row && !kept && shape_of(region, made->dst) & SG_SHAPE_RUN;
    }
}

sg_status sg_c_region_open(const sg_problem *problem, sg_arena *arena, sg_c_region *region) {
    const sg_graph *graph = problem->region->graph;
    *region = (sg_c_region){.problem = problem, .graph = graph, .arena = arena, .levels = 1};
    sg_tile_program *program = &region->program;
    sg_status status = sg_encode_tile_program(problem, SG_TILING_RUNS, arena, program);
    if (status != SG_OK)
        return status;
    int buffers = program->buffer_count + 1;
    int count = program->item.count + program->tile.count + program->after.count + 1;
    region->tensors =
        SG_ARENA_NEW(arena, sg_c_tensor, graph->input_count + graph->output_count + 1);
    region->views = SG_ARENA_NEW(arena, sg_c_view, program->load_count + program->store_count + 4);
    region->load_view = SG_ARENA_NEW(arena, int, program->load_count + 1);
    region->store_view = SG_ARENA_NEW(arena, int, program->store_count + 1);
    region->all = SG_ARENA_NEW(arena, const sg_instruction *, count);
    region->section = SG_ARENA_NEW(arena, int, count);
    region->level = SG_ARENA_NEW(arena, int, buffers);
    region->live = SG_ARENA_NEW(arena, bool, buffers);
    region->kept = SG_ARENA_NEW(arena, bool, buffers);
    region->row = SG_ARENA_NEW(arena, bool, buffers);
    region->op = SG_ARENA_NEW(arena, sg_c_op, count);
    if (sg_arena_failed(arena))
        return sg_fail_memory(graph->context);
    find_open_roles(region);
    collect_tensors(region);
    list_all(region);
    find_live(region);
    find_levels(region);
    delay_loads(region);
    find_kept(region);
    return SG_OK;
}

void sg_c_region_close(sg_c_region *region) {
    sg_text_release(&region->ops);
}
