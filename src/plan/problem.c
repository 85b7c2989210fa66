#include "plan/problem.h"

#include <assert.h>

/* The region's axes before they get roles: operands by axis. */
typedef struct sg_axis_view {
    int64_t size[SG_AXIS_COUNT];
    int order[SG_AXIS_COUNT]; /* axes other than the channel and those of size 1, outermost first */
    int count;
} sg_axis_view;

unsigned sg_problem_run_roles(const sg_problem *problem) {
    return 1U << SG_ROLE_W | (problem->flat ? 1U << SG_ROLE_H : 0U);
}

static unsigned roles_of(const sg_problem *problem, unsigned axes) {
    unsigned roles = 0;
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        if (axes >> axis & 1U && problem->role[axis] >= 0) {
            roles |= 1U << problem->role[axis];
        }
    }
    return roles;
}

bool sg_problem_pairs(const sg_problem *problem) {
    const sg_convolution *convolution = &problem->convolution;
    return problem->has_convolution && problem->compute == SG_F32 &&
           convolution->input.dtype == SG_BF16 && convolution->weight.dtype == SG_BF16 &&
           convolution->in_channels > convolution->groups;
}

int64_t sg_convolution_depth(const sg_convolution *convolution, bool pairs) {
    int64_t channels = convolution->in_channels / convolution->groups;
    return pairs ? (channels + 1) / 2 : channels;
}

unsigned sg_problem_domain(const sg_problem *problem, sg_value value) {
    return roles_of(problem, sg_region_domain(problem->region, value));
}

/* ---- operands by axis ---------------------------------------------------------------------- */

/* Adds the strides of one dimension, which runs along axes, to an operand's strides by axis. */
static void spread(const sg_problem *problem, sg_axes axes, int dim, int64_t stride,
                   sg_operand *operand) {
    unsigned inside = 0;
    for (int i = axes.count - 1; i >= 0; i--) {
        int axis = axes.first + i;
        operand->stride[axis] = stride;
        operand->dim[axis] = (unsigned char)(dim + 1);
        operand->step[axis] = (unsigned char)inside;
        operand->domain |= 1U << axis;
        stride *= problem->region->size[axis];
        inside |= 1U << axis;
    }
}

static int input_index(const sg_graph *graph, sg_value value) {
    for (int i = 0; i < graph->input_count; i++) {
        if (graph->inputs[i] == value) {
            return i;
        }
    }
    return -1;
}

/* Accesses of nodes other than the anchor; strides stand by axis until roles are given. */
static void collect_accesses(sg_problem *problem, const sg_layout *inputs, sg_arena *arena) {
    const sg_region *region = problem->region;
    const sg_graph *graph = region->graph;
    problem->accesses = SG_ARENA_NEW(arena, sg_access, graph->node_count * SG_OPERANDS_MAX + 1);
    for (sg_value value = 0; value < graph->node_count && problem->accesses; value++) {
        const sg_node *node = sg_graph_node(graph, value);
        if (!region->members[value].in || value == region->anchor) {
            continue;
        }
        for (int place = 0; place < node->operand_count; place++) {
            int index = input_index(graph, node->operands[place]);
            if (index < 0) {
                continue;
            }
            sg_access *access = &problem->accesses[problem->access_count++];
            *access = (sg_access){.node = value, .place = place};
            access->operand.index = index;
            access->operand.dtype = inputs[index].dtype;
            for (int dim = 0; dim < inputs[index].rank; dim++) {
                sg_axes axes;
                if (sg_region_operand_axes(region, value, node->operands[place], dim, &axes)) {
                    spread(problem, axes, dim, inputs[index].stride[dim], &access->operand);
                }
            }
        }
    }
}

static void collect_outputs(sg_problem *problem, const sg_layout *outputs, sg_arena *arena) {
    const sg_graph *graph = problem->region->graph;
    problem->output_count = graph->output_count;
    problem->outputs = SG_ARENA_NEW(arena, sg_operand, graph->output_count + 1);
    for (int i = 0; i < graph->output_count && problem->outputs; i++) {
        sg_operand *operand = &problem->outputs[i];
        *operand = (sg_operand){.index = i, .dtype = outputs[i].dtype};
        for (int dim = 0; dim < outputs[i].rank; dim++) {
            spread(problem, problem->region->members[graph->outputs[i]].dims[dim], dim,
                   outputs[i].stride[dim], operand);
        }
    }
}

/* ---- roles --------------------------------------------------------------------------------- */

/* May axis `inner` and the one before it be one axis for every operand? */
static bool operand_merges(const sg_operand *operand, int outer, int inner, int64_t inner_size) {
    bool both = (operand->domain >> outer & 1U) == (operand->domain >> inner & 1U);
    return both && operand->stride[outer] == operand->stride[inner] * inner_size;
}

static bool axes_merge(const sg_problem *problem, const sg_axis_view *view, int outer, int inner) {
    unsigned walk = problem->region->walk;
    bool merges = (walk >> outer & 1U) == (walk >> inner & 1U);
    for (int i = 0; i < problem->access_count; i++) {
        merges &= operand_merges(&problem->accesses[i].operand, outer, inner, view->size[inner]);
    }
    for (int i = 0; i < problem->output_count; i++) {
        merges &= operand_merges(&problem->outputs[i], outer, inner, view->size[inner]);
    }
    return merges;
}

/* Folds neighbours into the inner one of the two. */
static void merge_axes(sg_problem *problem, sg_axis_view *view) {
    int kept = 0;
    for (int i = 0; i < view->count; i++) {
        int axis = view->order[i];
        if (kept > 0 && axes_merge(problem, view, view->order[kept - 1], axis)) {
            view->size[axis] *= view->size[view->order[kept - 1]];
            kept--;
            problem->merged_into[view->order[kept]] = axis + 1;
        }
        view->order[kept++] = axis;
    }
    view->count = kept;
}

static void roles_of_convolution(sg_problem *problem, sg_axis_view *view) {
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        problem->role[axis] = axis;
        problem->axes[axis] = 1U << axis;
        problem->size[axis] = view->size[axis];
    }
}

/* The axis and those merged into it, as bits. */
static unsigned merged_axes(const sg_problem *problem, int axis) {
    unsigned axes = 1U << axis;
    for (int outer = SG_AXIS_COUNT - 1; outer >= 0; outer--) {
        if (problem->merged_into[outer] && axes >> (problem->merged_into[outer] - 1) & 1U)
            axes |= 1U << outer;
    }
    return axes;
}

static sg_status roles_without_anchor(sg_problem *problem, sg_axis_view *view) {
    const sg_region *region = problem->region;
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        problem->role[axis] = -1;
        problem->size[axis] = 1;
        if (axis != region->channel && view->size[axis] != 1) {
            view->order[view->count++] = axis;
        }
    }
    merge_axes(problem, view);
    if (region->channel >= 0) {
        problem->role[region->channel] = SG_ROLE_C;
        problem->axes[SG_ROLE_C] = 1U << region->channel;
        problem->size[SG_ROLE_C] = view->size[region->channel];
    }
    static const int roles[] = {SG_ROLE_W, SG_ROLE_H, SG_ROLE_D, SG_ROLE_N};
    for (int i = 0; i < view->count; i++) {
        int axis = view->order[view->count - 1 - i];
        bool walked = region->walk >> axis & 1U;
        if (i >= 4 || (walked && roles[i] == SG_ROLE_N)) {
            return sg_fail(region->graph->context, SG_NOT_APPLICABLE,
                           "the operands' strides leave %d separate axes; a region without a "
                           "convolution takes four, of which the first may not be reduced",
                           view->count);
        }
        problem->role[axis] = roles[i];
        problem->axes[roles[i]] = merged_axes(problem, axis);
        problem->size[roles[i]] = view->size[axis];
    }
    return SG_OK;
}

static void operand_to_roles(const sg_problem *problem, sg_operand *operand) {
    sg_operand by_axis = *operand;
    *operand = (sg_operand){.index = by_axis.index,
                            .dtype = by_axis.dtype,
                            .domain = roles_of(problem, by_axis.domain)};
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        int role = problem->role[axis];
        if (role >= 0 && by_axis.domain >> axis & 1U) {
            operand->stride[role] = by_axis.stride[axis];
            operand->dim[role] = by_axis.dim[axis];
            operand->step[role] = by_axis.step[axis];
        }
    }
}

/* ---- convolution --------------------------------------------------------------------------- */

static void describe_operand(const sg_graph *graph, const sg_layout *inputs, sg_value value,
                             const int *roles, sg_operand *operand) {
    *operand = (sg_operand){.index = value < 0 ? -1 : input_index(graph, value)};
    if (operand->index < 0) {
        return;
    }
    const sg_layout *layout = &inputs[operand->index];
    operand->dtype = layout->dtype;
    for (int dim = 0; dim < layout->rank; dim++) {
        operand->stride[roles[dim]] = layout->stride[dim];
        operand->dim[roles[dim]] = (unsigned char)(dim + 1);
        operand->domain |= 1U << roles[dim];
    }
}

static void describe_convolution(sg_problem *problem, const sg_layout *inputs) {
    const sg_graph *graph = problem->region->graph;
    sg_value anchor = problem->region->anchor;
    const sg_node *node = sg_graph_node(graph, anchor);
    sg_convolution *convolution = &problem->convolution;
    const sg_type *weight = &sg_graph_node(graph, node->operands[1])->type;
    const sg_type *input = &sg_graph_node(graph, node->operands[0])->type;
    int spatial = weight->rank - 2;
    int unbatched = input->rank == spatial + 1;

    static const int bias_role[] = {SG_ROLE_C};
    int roles[SG_ROLE_COUNT] = {SG_ROLE_N, SG_ROLE_C};
    for (int i = 0; i < spatial; i++) {
        roles[2 + i] = SG_ROLE_W - spatial + 1 + i;
    }
    describe_operand(graph, inputs, node->operands[0], roles + unbatched, &convolution->input);
    describe_operand(graph, inputs, node->operands[1], roles, &convolution->weight);
    sg_value bias = node->operand_count > 2 ? node->operands[2] : -1;
    describe_operand(graph, inputs, bias, bias_role, &convolution->bias);

    const sg_attribute *stride = sg_node_attribute(graph, anchor, "stride");
    const sg_attribute *padding = sg_node_attribute(graph, anchor, "padding");
    const sg_attribute *dilation = sg_node_attribute(graph, anchor, "dilation");
    convolution->groups = (int64_t)sg_node_attribute(graph, anchor, "groups")->number;
    convolution->in_channels = input->size[1 - unbatched];
    problem->flops = 2;
    for (int i = 0; i < SG_SPATIAL_MAX; i++) {
        int given = i - (SG_SPATIAL_MAX - spatial);
        convolution->in_size[i] = given < 0 ? 1 : input->size[2 - unbatched + given];
        convolution->kernel[i] = given < 0 ? 1 : weight->size[2 + given];
        convolution->stride[i] = given < 0 ? 1 : stride->items[given];
        convolution->padding[i] = given < 0 ? 0 : padding->items[given];
        convolution->dilation[i] = given < 0 ? 1 : dilation->items[given];
        problem->flops *= (double)convolution->kernel[i];
    }
    problem->flops *= (double)(convolution->in_channels / convolution->groups);
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        problem->flops *= (double)problem->size[role];
    }
}

static double layout_bytes(const sg_layout *layout) {
    double bytes = (double)sg_dtype_size(layout->dtype);
    for (int dim = 0; dim < layout->rank; dim++) {
        bytes *= (double)layout->size[dim];
    }
    return bytes;
}

sg_status sg_problem_create(const sg_region *region, const sg_layout *inputs,
                            const sg_layout *outputs, sg_arena *arena, sg_problem *problem) {
    const sg_graph *graph = region->graph;
    *problem = (sg_problem){
        .region = region, .compute = region->compute, .has_convolution = region->anchor >= 0};
    sg_axis_view view = {.count = 0};
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        assert(sg_dim_is_constant(region->size[axis]));
        view.size[axis] = region->size[axis];
    }
    collect_accesses(problem, inputs, arena);
    collect_outputs(problem, outputs, arena);
    if (sg_arena_failed(arena)) {
        return sg_fail_memory(graph->context);
    }
    if (problem->has_convolution) {
        roles_of_convolution(problem, &view);
    } else {
        sg_status status = roles_without_anchor(problem, &view);
        if (status != SG_OK) {
            return status;
        }
    }
    for (int i = 0; i < problem->access_count; i++) {
        operand_to_roles(problem, &problem->accesses[i].operand);
    }
    for (int i = 0; i < problem->output_count; i++) {
        operand_to_roles(problem, &problem->outputs[i]);
    }
    problem->walk = roles_of(problem, region->walk);
    problem->flat = (problem->walk >> SG_ROLE_H & 1U) == (problem->walk >> SG_ROLE_W & 1U);
    if (problem->has_convolution) {
        describe_convolution(problem, inputs);
    }
    for (int i = 0; i < graph->input_count; i++) {
        problem->bytes += layout_bytes(&inputs[i]);
    }
    for (int i = 0; i < graph->output_count; i++) {
        problem->bytes += layout_bytes(&outputs[i]);
    }
    return SG_OK;
}
