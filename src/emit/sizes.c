/* Sizes of the region and of its tensors: which of them the caller gives, and what follows. */
#include <string.h>

#include "emit/text.h"

static const char axes_letters[] = "ncdhw";

static bool is_fixed(const sg_problem *problem, int axis) {
    return problem->region->size[axis] == 1 || problem->role[axis] == SG_ROLE_C ||
           (problem->role[axis] < 0 && !problem->merged_into[axis]);
}

static void add_parameter(sg_emit_text *host, const char *name) {
    host->parameters[host->parameter_count++] = name;
}

static void derive(sg_emit_text *host, const char *name, const char *value) {
    host->derived[host->derived_count][0] = name;
    host->derived[host->derived_count++][1] = value;
}

static const char *axis_name(const sg_emit_text *host, const char *before, int axis) {
    return sg_emit_join(host, "%s%c", before, axes_letters[axis]);
}

static const char *number(const sg_emit_text *host, int64_t value) {
    return sg_emit_join(host, "%lld", (long long)value);
}

/* What a dimension along these axes has to be: a product of axes, or a number. */
static const char *size_along(const sg_emit_text *host, sg_axes axes) {
    const sg_problem *problem = host->problem;
    const char *product = "1";
    for (int i = 0; i < axes.count; i++) {
        int axis = axes.first + i;
        product =
            sg_emit_multiply(host, product,
                             is_fixed(problem, axis) ? number(host, problem->region->size[axis])
                                                     : axis_name(host, "", axis));
    }
    return product;
}

static void require(const sg_emit_text *host, const char **all, const char *condition) {
    *all = *all ? sg_emit_join(host, "%s && %s", *all, condition) : condition;
}

/* ---- axes ---------------------------------------------------------------------------------- */

/* Whether a tensor has this axis to itself. */
static bool has_alone(const sg_problem *problem, int axis) {
    const sg_region *region = problem->region;
    const sg_graph *graph = region->graph;
    sg_axes axes;
    for (int i = 0; i < problem->access_count; i++) {
        const sg_access *access = &problem->accesses[i];
        sg_value value = graph->inputs[access->operand.index];
        for (int dim = 0; dim < sg_graph_node(graph, value)->type.rank; dim++) {
            if (sg_region_operand_axes(region, access->node, value, dim, &axes) &&
                axes.count == 1 && axes.first == axis)
                return true;
        }
    }
    for (int i = 0; i < graph->output_count; i++) {
        for (int dim = 0; dim < sg_graph_node(graph, graph->outputs[i])->type.rank; dim++) {
            axes = region->members[graph->outputs[i]].dims[dim];
            if (axes.count == 1 && axes.first == axis)
                return true;
        }
    }
    return false;
}

/* Of an axis of a convolution's result, from the input's. */
static const char *result_size(const sg_emit_text *host, int axis) {
    const sg_convolution *convolution = &host->problem->convolution;
    int64_t reach = (convolution->kernel[axis] - 1) * convolution->dilation[axis] + 1;
    int64_t more = 2 * convolution->padding[axis] - reach;
    int64_t stride = convolution->stride[axis];
    const char *in = axis_name(host, "in_", SG_ROLE_D + axis);
    if (stride == 1)
        return more == -1 ? in
                          : sg_emit_join(host, "%s %c %lld", in, more < -1 ? '-' : '+',
                                         (long long)(more < -1 ? -more - 1 : more + 1));
    const char *whole = more == 0 ? in
                                  : sg_emit_join(host, "(%s %c %lld)", in, more < 0 ? '-' : '+',
                                                 (long long)(more < 0 ? -more : more));
    return sg_emit_join(host, "%s / %lld + 1", whole, (long long)stride);
}

/* Sizes are counted in 31 bits, and results have elements but for the batch. */
static void find_convolution_sizes(sg_emit_text *host) {
    const sg_problem *problem = host->problem;
    const sg_convolution *convolution = &problem->convolution;
    if (!is_fixed(problem, SG_AXIS_N)) {
        add_parameter(host, "n");
        require(host, &host->range, "n >= 0 && n < 1 << 30");
    }
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        int role = SG_ROLE_D + axis;
        if (!convolution->input.dim[role])
            continue;
        int64_t least = (convolution->kernel[axis] - 1) * convolution->dilation[axis] + 1 -
                        2 * convolution->padding[axis];
        const char *in = axis_name(host, "in_", role);
        add_parameter(host, in);
        require(host, &host->range,
                sg_emit_join(host, "%s >= %lld && %s < 1 << 30", in,
                             (long long)(least > 1 ? least : 1), in));
        if (is_fixed(problem, role)) /* the graph broadcasts along it */
            require(host, &host->range, sg_emit_join(host, "%s == 1", result_size(host, axis)));
        else
            derive(host, axis_name(host, "", role), result_size(host, axis));
    }
}

/* Without a convolution; what is reduced has elements. */
static void find_free_sizes(sg_emit_text *host) {
    const sg_problem *problem = host->problem;
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        if (is_fixed(problem, axis))
            continue;
        const char *name = axis_name(host, "", axis);
        if (has_alone(problem, axis))
            add_parameter(host, name);
        else
            derive(host, name, number(host, problem->region->size[axis]));
        bool walked = problem->region->walk >> axis & 1U;
        require(host, &host->range,
                sg_emit_join(host, "%s %s && %s < 1 << 30", name, walked ? "> 0" : ">= 0", name));
    }
}

/* ---- tensors ------------------------------------------------------------------------------- */

/* The same tensor may be read twice. */
static void set_size(sg_emit_text *host, int member, int dim, const char *size) {
    const char **at = &host->sizes[member][dim];
    if (*at && strcmp(*at, size) != 0)
        require(host, &host->equal, sg_emit_join(host, "%s == %s", *at, size));
    else
        *at = size;
}

static void set_operand(sg_emit_text *host, const sg_operand *operand, const char *const *by_role) {
    for (int role = 0; role < SG_ROLE_COUNT && operand->index >= 0; role++) {
        if (operand->dim[role])
            set_size(host, host->emission->input_member[operand->index], operand->dim[role] - 1,
                     by_role[role]);
    }
}

static void set_convolution(sg_emit_text *host) {
    const sg_problem *problem = host->problem;
    const sg_convolution *convolution = &problem->convolution;
    const char *input[SG_ROLE_COUNT], *weight[SG_ROLE_COUNT], *bias[SG_ROLE_COUNT];
    input[SG_ROLE_N] = is_fixed(problem, SG_AXIS_N) ? "1" : "n";
    input[SG_ROLE_C] = number(host, convolution->in_channels);
    weight[SG_ROLE_N] = number(host, problem->size[SG_ROLE_C]);
    for (int role = 0; role < SG_ROLE_COUNT; role++) /* it has but one dimension */
        bias[role] = weight[SG_ROLE_N];
    weight[SG_ROLE_C] = number(host, convolution->in_channels / convolution->groups);
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        input[SG_ROLE_D + axis] = axis_name(host, "in_", SG_ROLE_D + axis);
        weight[SG_ROLE_D + axis] = number(host, convolution->kernel[axis]);
    }
    set_operand(host, &convolution->input, input);
    set_operand(host, &convolution->weight, weight);
    set_operand(host, &convolution->bias, bias);
}

static void set_others(sg_emit_text *host) {
    const sg_problem *problem = host->problem;
    const sg_region *region = problem->region;
    const sg_graph *graph = region->graph;
    const sg_emission *emission = host->emission;
    for (int i = 0; i < problem->access_count; i++) {
        const sg_access *access = &problem->accesses[i];
        sg_value value = graph->inputs[access->operand.index];
        int rank = sg_graph_node(graph, value)->type.rank;
        for (int dim = 0; dim < rank; dim++) {
            sg_axes axes;
            bool along = sg_region_operand_axes(region, access->node, value, dim, &axes);
            set_size(host, emission->input_member[access->operand.index], dim,
                     along ? size_along(host, axes) : "1");
        }
    }
    for (int i = 0; i < graph->output_count; i++) {
        int rank = sg_graph_node(graph, graph->outputs[i])->type.rank;
        for (int dim = 0; dim < rank; dim++)
            set_size(host, emission->output_member[i], dim,
                     size_along(host, region->members[graph->outputs[i]].dims[dim]));
    }
}

bool sg_emit_measure(sg_emit_text *host) {
    const sg_emission *emission = host->emission;
    size_t bytes = sizeof *host->sizes * (size_t)(emission->member_count + 1);
    host->sizes = sg_arena_alloc(emission->arena, bytes);
    if (!host->sizes)
        return false;
    memset(host->sizes, 0, bytes);
    if (host->problem->has_convolution) {
        find_convolution_sizes(host);
        set_convolution(host);
    } else {
        find_free_sizes(host);
    }
    set_others(host);
    for (int i = 0; i < emission->member_count; i++) { /* what nothing reads */
        const sg_layout *layout = &emission->members[i].layout;
        for (int dim = 0; dim < layout->rank; dim++) {
            if (!host->sizes[i][dim])
                host->sizes[i][dim] = number(host, layout->size[dim]);
        }
    }
    return true;
}

const char *sg_emit_caller_size(const sg_emit_text *host, const char *size) {
    for (int i = 0; i < host->derived_count; i++) {
        const char *name = host->derived[i][0], *value = host->derived[i][1];
        size_t length = strlen(name);
        if (strcmp(size, name) == 0)
            return value;
        for (const char *at = strstr(size, name); at; at = strstr(at + 1, name)) {
            bool whole =
                (at == size || !sg_emit_is_letter(at[-1])) && !sg_emit_is_letter(at[length]);
            if (!whole)
                continue;
            const char *made = sg_emit_join(host, "%.*s(%s)", (int)(at - size), size, value);
            size_t behind = strlen(made);
            size = sg_emit_join(host, "%s%s", made, at + length);
            at = size + behind - 1;
        }
    }
    return size;
}

const char *sg_emit_stride(const sg_emit_text *host, int member, int dim) {
    const sg_layout *layout = &host->emission->members[member].layout;
    const char *stride = "1";
    for (int other = layout->rank - 1; other >= 0; other--) {
        bool inner = layout->stride[other] < layout->stride[dim] ||
                     (layout->stride[other] == layout->stride[dim] && other > dim);
        if (inner && other != dim)
            stride = sg_emit_multiply(host, host->sizes[member][other], stride);
    }
    return stride;
}
