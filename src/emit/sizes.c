/* The body of measure(): sizes of the region from those of its tensors, and checks. */
#include <string.h>

#include "emit/text.h"

const char sg_emit_axes[] = "ncdhw";

bool sg_emit_is_fixed(const sg_problem *problem, int axis) {
    return problem->region->size[axis] == 1 || problem->role[axis] == SG_ROLE_C ||
           (problem->role[axis] < 0 && !problem->merged_into[axis]);
}

/* What a dimension along these axes has to be: a product of axes, or a number. */
static const char *expected(const sg_emit_text *host, sg_axes axes) {
    const sg_problem *problem = host->problem;
    const char *product = NULL;
    long long number = 1;
    for (int i = 0; i < axes.count; i++) {
        int axis = axes.first + i;
        if (sg_emit_is_fixed(problem, axis))
            number *= problem->region->size[axis];
        else
            product = product ? sg_emit_join(host, "%s * s.%c", product, sg_emit_axes[axis])
                              : sg_emit_join(host, "s.%c", sg_emit_axes[axis]);
    }
    if (!product)
        return sg_emit_join(host, "%lld", number);
    return number == 1 ? product : sg_emit_join(host, "%s * %lld", product, number);
}

/* Wherever a tensor has this axis to itself. */
static const char *find_size(const sg_emit_text *host, int axis) {
    const sg_problem *problem = host->problem;
    const sg_region *region = problem->region;
    const sg_graph *graph = region->graph;
    for (int i = 0; i < problem->access_count; i++) {
        const sg_access *access = &problem->accesses[i];
        sg_value value = graph->inputs[access->operand.index];
        for (int dim = 0; dim < sg_graph_node(graph, value)->type.rank; dim++) {
            sg_axes axes;
            if (sg_region_operand_axes(region, access->node, value, dim, &axes) &&
                axes.count == 1 && axes.first == axis)
                return sg_emit_spell(
                    host, sg_emit_join(host, "input%d.size[%d]", access->operand.index, dim));
        }
    }
    for (int i = 0; i < graph->output_count; i++) {
        const sg_node *node = sg_graph_node(graph, graph->outputs[i]);
        for (int dim = 0; dim < node->type.rank; dim++) {
            sg_axes axes = region->members[graph->outputs[i]].dims[dim];
            if (axes.count == 1 && axes.first == axis)
                return sg_emit_spell(host, sg_emit_join(host, "output%d.size[%d]", i, dim));
        }
    }
    return sg_emit_join(host, "%lld", (long long)region->size[axis]);
}

/* Of an axis of a convolution's result, from the input's. */
static const char *result_size(const sg_emit_text *host, int axis) {
    const sg_convolution *convolution = &host->problem->convolution;
    int64_t reach = (convolution->kernel[axis] - 1) * convolution->dilation[axis] + 1;
    int64_t more = 2 * convolution->padding[axis] - reach;
    int64_t stride = convolution->stride[axis];
    const char *in = sg_cuda_in_size(host->problem, axis);
    if (stride == 1)
        return more == -1 ? in
                          : sg_emit_join(host, "%s %c %lld", in, more < -1 ? '-' : '+',
                                         (long long)(more < -1 ? -more - 1 : more + 1));
    const char *whole = more == 0 ? in
                                  : sg_emit_join(host, "(%s %c %lld)", in, more < 0 ? '-' : '+',
                                                 (long long)(more < 0 ? -more : more));
    return sg_emit_join(host, "%s / %lld + 1", whole, (long long)stride);
}

static void write_convolution_sizes(sg_emit_text *host) {
    const sg_problem *problem = host->problem;
    const sg_convolution *convolution = &problem->convolution;
    const sg_operand *input = &convolution->input;
    sg_text *text = &host->measure;
    if (!sg_emit_is_fixed(problem, SG_AXIS_N))
        sg_text_add(text, "    s.n = %s;\n",
                    sg_emit_spell(host, sg_emit_join(host, "input%d.size[%d]", input->index,
                                                     input->dim[SG_ROLE_N] - 1)));
    const char *condition = NULL;
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        int role = SG_ROLE_D + axis;
        if (!input->dim[role])
            continue;
        int64_t least = (convolution->kernel[axis] - 1) * convolution->dilation[axis] + 1 -
                        2 * convolution->padding[axis];
        sg_text_add(text, "    s.in_%c = %s;\n", sg_emit_axes[role],
                    sg_emit_spell(host, sg_emit_join(host, "input%d.size[%d]", input->index,
                                                     input->dim[role] - 1)));
        const char *fits =
            sg_emit_join(host, "s.in_%c >= %lld && s.in_%c < 1 << 30", sg_emit_axes[role],
                         (long long)(least > 1 ? least : 1), sg_emit_axes[role]);
        if (sg_emit_is_fixed(problem, role)) /* the graph broadcasts along it */
            fits = sg_emit_join(host, "%s && %s == 1", fits, result_size(host, axis));
        else
            sg_text_add(text, "    s.%c = %s;\n", sg_emit_axes[role], result_size(host, axis));
        condition = condition ? sg_emit_join(host, "%s && %s", condition, fits) : fits;
    }
    sg_emit_check(host, condition, "the image is smaller than the filter, or larger than 2^30",
                  text);
}

static void write_free_sizes(sg_emit_text *host) {
    const sg_problem *problem = host->problem;
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        if (sg_emit_is_fixed(problem, axis))
            continue;
        sg_text_add(&host->measure, "    s.%c = %s;\n", sg_emit_axes[axis], find_size(host, axis));
    }
}

/* A tensor's sizes, unless they are where those of the axes come from. The same tensor may be read
 * twice. */
static void check_sizes(sg_emit_text *host, const char *tensor, const char *const *sizes,
                        int rank) {
    const char *words = NULL;
    bool known = true;
    for (int dim = 0; dim < rank; dim++) {
        const char *defined = sg_emit_join(host, "%s = %s.size[%d];", sizes[dim], tensor, dim);
        words = words ? sg_emit_join(host, "%s, %s", words, sizes[dim]) : sizes[dim];
        known &= host->measure.data && strstr(host->measure.data, defined);
    }
    const char *line =
        sg_emit_join(host, "    if (!has_sizes(%s, {%s}))\n", tensor, words ? words : "");
    if (known || (host->measure.data && strstr(host->measure.data, line)))
        return;
    const char *plain = "";
    for (const char *at = words ? words : ""; *at; at++)
        plain =
            at[0] == 's' && at[1] == '.' ? (at++, plain) : sg_emit_join(host, "%s%c", plain, *at);
    sg_text_add(&host->measure, "%s        return \"%s must have sizes [%s]\";\n", line, tensor + 2,
                plain);
}

static void check_operand(sg_emit_text *host, const sg_operand *operand,
                          const char *const *by_role) {
    const char *sizes[SG_RANK_MAX];
    if (operand->index < 0)
        return;
    sg_value value = host->emission->graph->inputs[operand->index];
    int rank = sg_graph_node(host->emission->graph, value)->type.rank;
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        if (operand->dim[role])
            sizes[operand->dim[role] - 1] = by_role[role];
    }
    check_sizes(host, sg_emit_spell(host, sg_emit_join(host, "input%d", operand->index)), sizes,
                rank);
}

static void check_convolution(sg_emit_text *host) {
    const sg_problem *problem = host->problem;
    const sg_convolution *convolution = &problem->convolution;
    const char *channels = sg_emit_join(host, "%lld", (long long)problem->size[SG_ROLE_C]);
    const char *input[SG_ROLE_COUNT], *weight[SG_ROLE_COUNT], *bias[SG_ROLE_COUNT] = {NULL};
    input[SG_ROLE_N] = sg_emit_is_fixed(problem, SG_AXIS_N) ? "1" : "s.n";
    input[SG_ROLE_C] = sg_emit_join(host, "%lld", (long long)convolution->in_channels);
    weight[SG_ROLE_N] = bias[SG_ROLE_C] = channels;
    weight[SG_ROLE_C] =
        sg_emit_join(host, "%lld", (long long)(convolution->in_channels / convolution->groups));
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        input[SG_ROLE_D + axis] = sg_cuda_in_size(problem, axis);
        weight[SG_ROLE_D + axis] = sg_emit_join(host, "%lld", (long long)convolution->kernel[axis]);
    }
    check_operand(host, &convolution->input, input);
    check_operand(host, &convolution->weight, weight);
    check_operand(host, &convolution->bias, bias);
}

static void check_others(sg_emit_text *host) {
    const sg_problem *problem = host->problem;
    const sg_region *region = problem->region;
    const sg_graph *graph = region->graph;
    const char *sizes[SG_RANK_MAX];
    for (int i = 0; i < problem->access_count; i++) {
        const sg_access *access = &problem->accesses[i];
        sg_value value = graph->inputs[access->operand.index];
        int rank = sg_graph_node(graph, value)->type.rank;
        for (int dim = 0; dim < rank; dim++) {
            sg_axes axes;
            bool along = sg_region_operand_axes(region, access->node, value, dim, &axes);
            sizes[dim] = along ? expected(host, axes) : "1";
        }
        check_sizes(host, sg_emit_spell(host, sg_emit_join(host, "input%d", access->operand.index)),
                    sizes, rank);
    }
    for (int i = 0; i < graph->output_count; i++) {
        int rank = sg_graph_node(graph, graph->outputs[i])->type.rank;
        for (int dim = 0; dim < rank; dim++)
            sizes[dim] = expected(host, region->members[graph->outputs[i]].dims[dim]);
        check_sizes(host, sg_emit_spell(host, sg_emit_join(host, "output%d", i)), sizes, rank);
    }
}

/* Axes are counted in 31 bits, and what is reduced has elements. Of a convolution's result that is
 * known, but for the batch. */
static void check_ranges(sg_emit_text *host) {
    const sg_problem *problem = host->problem;
    const char *condition = NULL;
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        if (sg_emit_is_fixed(problem, axis) || (problem->has_convolution && axis != SG_AXIS_N))
            continue;
        bool walked = problem->region->walk >> axis & 1U;
        const char *line = sg_emit_join(host, "s.%c %s && s.%c < 1 << 30", sg_emit_axes[axis],
                                        walked ? "> 0" : ">= 0", sg_emit_axes[axis]);
        condition = condition ? sg_emit_join(host, "%s && %s", condition, line) : line;
    }
    if (condition)
        sg_emit_check(host, condition, "a size is negative, 2^30 or more, or 0 where it is reduced",
                      &host->measure);
}

void sg_emit_measure(sg_emit_text *host) {
    if (host->problem->has_convolution)
        write_convolution_sizes(host);
    else
        write_free_sizes(host);
    check_ranges(host);
    if (host->problem->has_convolution)
        check_convolution(host);
    check_others(host);
}
