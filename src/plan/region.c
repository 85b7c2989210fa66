#include "plan/region.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/infer.h"

static const char *const axis_names[SG_AXIS_COUNT] = {"N", "C", "D", "H", "W"};

const char *sg_axis_name(int axis) {
    return axis_names[axis];
}

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static bool refuse(sg_region *region, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(region->reason, sizeof region->reason, format, arguments);
    va_end(arguments);
    return false;
}

void sg_region_open_shared(const sg_graph *graph, sg_member *members, int number,
                           sg_region *region) {
    *region = (sg_region){
        .graph = graph, .anchor = -1, .channel = -1, .members = members, .number = number};
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        region->size[axis] = 1;
    }
}

sg_status sg_region_open(const sg_graph *graph, sg_region *region) {
    sg_member *members = calloc((size_t)graph->node_count + 1, sizeof *members);
    sg_region_open_shared(graph, members, 1, region);
    region->owns_members = true;
    return members ? SG_OK : sg_fail_memory(graph->context);
}

void sg_region_close(sg_region *region) {
    if (region->owns_members)
        free(region->members);
    region->members = NULL;
}

/* ---- helpers ------------------------------------------------------------------------------- */

static unsigned axes_bits(sg_axes axes) {
    return ((1U << axes.count) - 1U) << axes.first;
}

static sg_axes no_axes(void) {
    return (sg_axes){.first = SG_AXIS_COUNT, .count = 0};
}

static bool is_inside(const sg_region *region, sg_value value) {
    return value >= 0 && region->members[value].in == region->number;
}

unsigned sg_region_domain(const sg_region *region, sg_value value) {
    unsigned domain = 0;
    for (int dim = 0; dim < sg_graph_node(region->graph, value)->type.rank; dim++) {
        if (region->members[value].dims[dim].count > 0) {
            domain |= axes_bits(region->members[value].dims[dim]);
        }
    }
    return domain;
}

/* The type a tile computes dtype in; SG_OPAQUE where it cannot. */
static sg_dtype compute_of(sg_dtype dtype) {
    switch (dtype) {
    case SG_F16:
    case SG_BF16:
    case SG_F32:
        return SG_F32;
    case SG_F64:
        return SG_F64;
    default:
        return SG_OPAQUE;
    }
}

static bool check_dtypes(sg_region *region, const sg_node *node) {
    const char *name = sg_op_get(node->op)->name;
    if (node->type.dtype != SG_BOOL && compute_of(node->type.dtype) != region->compute) {
        return refuse(region, "%s %%%s is %s, and the region computes in %s", name, node->name,
                      sg_dtype_name(node->type.dtype), sg_dtype_name(region->compute));
    }
    for (int i = 0; i < node->operand_count; i++) {
        if (node->operands[i] < 0) {
            continue;
        }
        const sg_type *type = &sg_graph_node(region->graph, node->operands[i])->type;
        if (type->dtype == SG_OPAQUE) {
            return refuse(region, "%s %%%s has an operand that only the host understands", name,
                          node->name);
        }
        /* A wider operand would lose digits on its way in, unless it is a single number, which
         * PyTorch itself converts to the tensor's dtype. */
        if (type->dtype == SG_F64 && region->compute == SG_F32 && type->rank > 0) {
            return refuse(region, "%s %%%s reads f64, and the region computes in f32", name,
                          node->name);
        }
    }
    return true;
}

/* ---- first nodes --------------------------------------------------------------------------- */

static bool open_with_anchor(sg_region *region, sg_value value) {
    const sg_node *node = sg_graph_node(region->graph, value);
    const sg_type *weight = &sg_graph_node(region->graph, node->operands[1])->type;
    int spatial = weight->rank - 2;
    region->compute = compute_of(node->type.dtype);
    if (region->compute == SG_OPAQUE) {
        return refuse(region, "convolution %%%s is %s, and tiles hold floating point", node->name,
                      sg_dtype_name(node->type.dtype));
    }
    bool batched = node->type.rank == spatial + 2;
    sg_member *member = &region->members[value];
    for (int dim = 0; dim < node->type.rank; dim++) {
        int axis = dim + !batched;
        axis = axis < 2 ? axis : axis + 3 - spatial;
        region->size[axis] = node->type.size[dim];
        member->dims[dim] = (sg_axes){.first = (unsigned char)axis, .count = 1};
    }
    region->anchor = value;
    region->channel = SG_AXIS_C;
    return true;
}

static bool open_without_anchor(sg_region *region, sg_value value) {
    const sg_node *node = sg_graph_node(region->graph, value);
    const sg_op_info *info = sg_op_get(node->op);
    sg_type widest = node->type;
    if (info->kind == SG_KIND_REDUCTION || info->kind == SG_KIND_SOFTMAX) {
        widest = sg_graph_node(region->graph, node->operands[0])->type;
    }
    region->compute = compute_of(node->type.dtype);
    for (int i = 0; i < node->operand_count && region->compute == SG_OPAQUE; i++) {
        region->compute = compute_of(sg_graph_node(region->graph, node->operands[i])->type.dtype);
    }
    if (region->compute == SG_OPAQUE) {
        return refuse(region, "%s %%%s has no floating-point operand", info->name, node->name);
    }
    if (widest.rank > SG_AXIS_COUNT) {
        return refuse(region, "%s %%%s has rank %d; a region without a convolution takes up to %d",
                      info->name, node->name, widest.rank, SG_AXIS_COUNT);
    }
    for (int dim = 0; dim < widest.rank; dim++) {
        region->size[dim + SG_AXIS_COUNT - widest.rank] = widest.size[dim];
    }
    return true;
}

/* ---- joining ------------------------------------------------------------------------------- */

/* Dimensions of an operand as the region sees them: a member's own, or for an external one its
 * place in a region without an anchor (the space is then the operand's own shape). */
static sg_axes operand_dim(const sg_region *region, sg_value operand, int dim) {
    const sg_type *type = &sg_graph_node(region->graph, operand)->type;
    if (is_inside(region, operand)) {
        return region->members[operand].dims[dim];
    }
    if (type->size[dim] == 1) {
        return no_axes();
    }
    return (sg_axes){.first = (unsigned char)(dim + SG_AXIS_COUNT - type->rank), .count = 1};
}

/* Axes that must be in every value, since each kernel step makes one piece of each value: all but
 * the channels, and the walked ones once they are walked. Axes of size 1 do not matter. */
static bool spans_region(sg_region *region, const sg_member *member, const sg_node *node) {
    unsigned domain = 0;
    for (int dim = 0; dim < node->type.rank; dim++) {
        domain |= member->dims[dim].count ? axes_bits(member->dims[dim]) : 0;
    }
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        bool needed = axis != region->channel && !(member->after_walk && region->walk >> axis & 1U);
        if (needed && region->size[axis] != 1 && !(domain >> axis & 1U)) {
            return refuse(region, "%s %%%s does not run along axis %s of the region",
                          sg_op_get(node->op)->name, node->name, axis_names[axis]);
        }
        if (member->after_walk && (region->walk & domain) >> axis & 1U) {
            return refuse(region, "%s %%%s spreads over axis %s again, which the kernel walks once",
                          sg_op_get(node->op)->name, node->name, axis_names[axis]);
        }
    }
    return true;
}

static bool operands_agree_on_walk(sg_region *region, const sg_node *node, bool *after_walk) {
    bool before = false, after = false;
    for (int i = 0; i < node->operand_count; i++) {
        if (is_inside(region, node->operands[i])) {
            *(region->members[node->operands[i]].after_walk ? &after : &before) = true;
        }
    }
    if (before && after) {
        return refuse(region,
                      "%s %%%s needs values from before a walked reduction again, which are gone "
                      "when its result is known",
                      sg_op_get(node->op)->name, node->name);
    }
    *after_walk = after;
    return true;
}

static bool axes_equal(sg_axes a, sg_axes b) {
    return a.first == b.first && a.count == b.count;
}

static sg_dim axes_size(const sg_region *region, sg_axes axes) {
    sg_dim size = 1;
    for (int i = 0; i < axes.count; i++) {
        size = sg_dim_multiply(region->graph->dims, size, region->size[axes.first + i]);
    }
    return size;
}

/* Broadcasting may set a value beside itself turned, [H, 1] beside [H]: an outer product. */
static bool dims_are_disjoint(sg_region *region, const sg_member *member, const sg_node *node) {
    unsigned seen = 0;
    for (int dim = 0; dim < node->type.rank; dim++) {
        unsigned bits = member->dims[dim].count ? axes_bits(member->dims[dim]) : 0;
        if (seen & bits) {
            return refuse(region, "%s %%%s has operands that run along one axis in two dimensions",
                          sg_op_get(node->op)->name, node->name);
        }
        seen |= bits;
    }
    return true;
}

static bool join_pointwise(sg_region *region, sg_value value, sg_member *member) {
    const sg_node *node = sg_graph_node(region->graph, value);
    const char *name = sg_op_get(node->op)->name;
    if (!operands_agree_on_walk(region, node, &member->after_walk)) {
        return false;
    }
    for (int dim = 0; dim < node->type.rank; dim++) {
        sg_axes axes = no_axes();
        for (int i = 0; i < node->operand_count; i++) {
            int place =
                dim - node->type.rank + sg_graph_node(region->graph, node->operands[i])->type.rank;
            if (place < 0 || !is_inside(region, node->operands[i])) {
                continue;
            }
            sg_axes mine = region->members[node->operands[i]].dims[place];
            sg_dim size = sg_graph_node(region->graph, node->operands[i])->type.size[place];
            if (size == 1 && node->type.size[dim] != 1) {
                mine.first = mine.count > 1 ? SG_AXIS_COUNT : mine.first;
                mine.count = 0;
            }
            if (mine.count && axes.count && !axes_equal(mine, axes)) {
                return refuse(region,
                              "%s %%%s has operands whose dimension %d runs along "
                              "different axes",
                              name, node->name, dim);
            }
            if (mine.count || (!axes.count && mine.first != SG_AXIS_COUNT)) {
                axes = mine;
            }
        }
        if (!axes.count && node->type.size[dim] != 1) {
            /* Broadcasting brings a dimension back, or this is the region's first node. */
            bool known = axes.first < SG_AXIS_COUNT;
            if (!known && region->count == 0) {
                axes.first = (unsigned char)(dim + SG_AXIS_COUNT - node->type.rank);
                known = true;
            }
            if (!known || region->size[axes.first] != node->type.size[dim]) {
                return refuse(region,
                              "%s %%%s broadcasts dimension %d to a size that the region "
                              "does not have",
                              name, node->name, dim);
            }
            axes.count = 1;
        }
        member->dims[dim] = axes;
    }
    return dims_are_disjoint(region, member, node);
}

static bool channel_is(sg_region *region, int axis) {
    if (region->channel < 0 && !(region->walk >> axis & 1U)) {
        region->channel = axis;
    }
    return region->channel == axis;
}

static bool join_softmax(sg_region *region, sg_value value, sg_member *member) {
    const sg_node *node = sg_graph_node(region->graph, value);
    unsigned over = sg_node_axes(region->graph, value);
    const char *name = sg_op_get(node->op)->name;
    operands_agree_on_walk(region, node, &member->after_walk);
    for (int dim = 0; dim < node->type.rank; dim++) {
        sg_axes axes = operand_dim(region, node->operands[0], dim);
        member->dims[dim] = axes;
        if (!(over >> dim & 1U) || axes.count == 0) {
            continue;
        }
        if (axes.count > 1) {
            return refuse(region, "%s %%%s works over merged dimensions, which no tile holds whole",
                          name, node->name);
        }
        if (!channel_is(region, axes.first)) {
            return refuse(region, "%s %%%s works over axis %s; a tile holds only axis %s whole",
                          name, node->name, axis_names[axes.first],
                          region->channel < 0 ? "C" : axis_names[region->channel]);
        }
    }
    return true;
}

static bool join_reduction(sg_region *region, sg_value value, sg_member *member) {
    const sg_node *node = sg_graph_node(region->graph, value);
    const sg_type *from = &sg_graph_node(region->graph, node->operands[0])->type;
    const char *name = sg_op_get(node->op)->name;
    unsigned over = sg_node_axes(region->graph, value);
    bool keepdim = sg_node_keepdim(region->graph, value);
    operands_agree_on_walk(region, node, &member->after_walk);

    unsigned reduced = 0;
    int out = 0;
    for (int dim = 0; dim < from->rank; dim++) {
        sg_axes axes = operand_dim(region, node->operands[0], dim);
        if (!(over >> dim & 1U)) {
            member->dims[out++] = axes;
            continue;
        }
        if (axes.count) {
            reduced |= axes_bits(axes);
        }
        if (keepdim) {
            sg_axes gone = no_axes();
            gone.first = axes.count == 1 ? axes.first : gone.first;
            member->dims[out++] = gone;
        }
    }
    bool anchored = region->anchor >= 0;
    if (anchored && reduced >> SG_AXIS_N & 1U) {
        return refuse(region, "%s %%%s reduces over the batch, of which a tile holds one image",
                      name, node->name);
    }
    /* A single axis in a region that has no channel axis yet becomes it: its values stay at hand.
     */
    if (!anchored && region->channel < 0 && reduced && (reduced & (reduced - 1)) == 0) {
        for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
            if (reduced >> axis & 1U) {
                channel_is(region, axis);
            }
        }
    }
    unsigned walked = region->channel < 0 ? reduced : reduced & ~(1U << region->channel);
    if (walked == 0) {
        return true;
    }
    if (member->after_walk || (region->walk && region->walk != walked)) {
        return refuse(region, "%s %%%s reduces over other axes than the one walk a kernel makes",
                      name, node->name);
    }
    if (node->op == SG_OP_logsumexp) {
        return refuse(region, "%s %%%s needs its maximum before its sum, so two walks", name,
                      node->name);
    }
    region->walk = walked;
    member->after_walk = true;
    return true;
}

/* Does the axis follow the run of axes, but for others of size 1? */
static bool follows(const sg_region *region, sg_axes run, int axis) {
    for (int between = run.first + run.count; between < axis; between++) {
        if (region->size[between] != 1) {
            return false;
        }
    }
    return axis >= run.first + run.count;
}

/* Lays the operand's axes, in order, out over the dimensions of a new shape. */
static bool join_reshape(sg_region *region, sg_value value, sg_member *member) {
    const sg_node *node = sg_graph_node(region->graph, value);
    const sg_member *from = &region->members[node->operands[0]];
    int axes[SG_AXIS_COUNT], count = 0, next = 0;
    member->after_walk = from->after_walk;
    for (int dim = 0; dim < sg_graph_node(region->graph, node->operands[0])->type.rank; dim++) {
        for (int i = 0; i < from->dims[dim].count; i++) {
            if (region->size[from->dims[dim].first + i] != 1) {
                axes[count++] = from->dims[dim].first + i;
            }
        }
    }
    for (int dim = 0; dim < node->type.rank; dim++) {
        sg_axes run = no_axes();
        while (next < count && axes_size(region, run) != node->type.size[dim]) {
            if (run.count && !follows(region, run, axes[next])) {
                break;
            }
            run.first = run.count ? run.first : (unsigned char)axes[next];
            run.count = (unsigned char)(axes[next] + 1 - run.first);
            next++;
        }
        if (axes_size(region, run) != node->type.size[dim]) {
            return refuse(region, "%s %%%s cuts dimension %d across the axes of the region",
                          sg_op_get(node->op)->name, node->name, dim);
        }
        member->dims[dim] = run;
    }
    return next == count ||
           refuse(region, "%s %%%s reorders elements", sg_op_get(node->op)->name, node->name);
}

/* Dimension of the operand that a permutation puts at `dim`. */
static int permuted_dim(const sg_region *region, sg_value value, int dim) {
    const sg_node *node = sg_graph_node(region->graph, value);
    int rank = node->type.rank, source = dim;
    if (node->op == SG_OP_permute) {
        sg_axis(sg_node_attribute(region->graph, value, "dims")->items[dim], rank, &source);
        return source;
    }
    int first, second;
    sg_axis((int64_t)sg_node_attribute(region->graph, value, "dim0")->number, rank, &first);
    sg_axis((int64_t)sg_node_attribute(region->graph, value, "dim1")->number, rank, &second);
    return dim == first ? second : dim == second ? first : dim;
}

static bool join_view(sg_region *region, sg_value value, sg_member *member) {
    const sg_node *node = sg_graph_node(region->graph, value);
    if (!is_inside(region, node->operands[0])) {
        return refuse(region, "%s %%%s moves no data", sg_op_get(node->op)->name, node->name);
    }
    if (node->op != SG_OP_permute && node->op != SG_OP_transpose) {
        return join_reshape(region, value, member);
    }
    const sg_member *from = &region->members[node->operands[0]];
    member->after_walk = from->after_walk;
    for (int dim = 0; dim < node->type.rank; dim++) {
        member->dims[dim] = from->dims[permuted_dim(region, value, dim)];
    }
    return true;
}

static bool joins(sg_region *region, sg_value value, sg_member *member) {
    const sg_node *node = sg_graph_node(region->graph, value);
    const sg_op_info *info = sg_op_get(node->op);
    if (info->kind == SG_KIND_LEAF) {
        return refuse(region, "%s %%%s is run by the host", info->name, node->name);
    }
    if (info->kind == SG_KIND_CONTRACTION) {
        if (region->count) {
            return refuse(region, "%s %%%s is an anchor of its own", info->name, node->name);
        }
        return open_with_anchor(region, value) && check_dtypes(region, node);
    }
    if (region->count == 0 && !open_without_anchor(region, value)) {
        return false;
    }
    if (!check_dtypes(region, node)) {
        return false;
    }
    bool ok = info->kind == SG_KIND_POINTWISE   ? join_pointwise(region, value, member)
              : info->kind == SG_KIND_SOFTMAX   ? join_softmax(region, value, member)
              : info->kind == SG_KIND_REDUCTION ? join_reduction(region, value, member)
                                                : join_view(region, value, member);
    return ok && spans_region(region, member, node);
}

bool sg_region_join(sg_region *region, sg_value value) {
    const sg_node *node = sg_graph_node(region->graph, value);
    bool touches = region->count == 0;
    for (int i = 0; i < node->operand_count; i++) {
        touches |= is_inside(region, node->operands[i]);
    }
    if (!touches) {
        return refuse(region, "%s %%%s reads nothing that the region makes",
                      sg_op_get(node->op)->name, node->name);
    }
    sg_region before = *region;
    sg_member *member = &region->members[value];
    *member = (sg_member){0};
    if (!joins(region, value, member)) {
        /* Keep only the reason. */
        memcpy(before.reason, region->reason, sizeof before.reason);
        *region = before;
        *member = (sg_member){0};
        return false;
    }
    member->in = region->number;
    region->count++;
    return true;
}

bool sg_region_operand_axes(const sg_region *region, sg_value value, sg_value operand, int dim,
                            sg_axes *axes) {
    const sg_node *node = sg_graph_node(region->graph, value);
    const sg_type *type = &sg_graph_node(region->graph, operand)->type;
    if (type->size[dim] == 1) {
        return false;
    }
    const sg_op_info *info = sg_op_get(node->op);
    if (info->kind == SG_KIND_REDUCTION || info->kind == SG_KIND_SOFTMAX) {
        *axes = operand_dim(region, operand, dim);
    } else {
        *axes = region->members[value].dims[dim + node->type.rank - type->rank];
    }
    assert(axes->count > 0);
    return true;
}

bool sg_region_cover(sg_region *region) {
    for (sg_value value = 0; value < region->graph->node_count; value++) {
        const sg_node *node = sg_graph_node(region->graph, value);
        bool outside = node->op == SG_OP_input || node->op == SG_OP_constant;
        if (!outside && !sg_region_join(region, value)) {
            return false;
        }
    }
    return region->count > 0;
}
