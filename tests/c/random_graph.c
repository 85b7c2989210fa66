#include "random_graph.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ir/graph.h"
#include "tensor.h"

typedef struct builder {
    random_state *random;
    program_check *check;
    sg_graph *graph;
    const random_shape *shape;
    sg_dtype dtype;
    bool integers; /* inputs are small integers, so that sums of them are exact */
    bool *exact;   /* of check */
    sg_value values[CHECK_VALUES_MAX];
    int count;
    sg_type base; /* the widest value so far: what operands are made to fit */
} builder;

static int64_t between(const builder *b, int64_t low, int64_t high) {
    return random_between(b->random, low, high);
}

static bool chance(const builder *b, int percent) {
    return random_chance(b->random, percent);
}

static const char *name_of(const builder *b, sg_value value) {
    return sg_graph_value_name(b->graph, value);
}

static const sg_type *type_of(const builder *b, sg_value value) {
    return &sg_graph_node(b->graph, value)->type;
}

/* ---- statements ---------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static sg_value add(builder *b, const char *format, ...) {
    char statement[400];
    sg_value value;
    int length = snprintf(statement, sizeof statement, "%%v%d = ", b->graph->node_count);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(statement + length, sizeof statement - (size_t)length, format, arguments);
    va_end(arguments);
    if (b->graph->node_count >= CHECK_VALUES_MAX - 4 ||
        sg_graph_add(b->graph, statement, &value) != SG_OK)
        return -1;
    return value;
}

static void print_sizes(char *text, size_t size, const int64_t *sizes, int count) {
    size_t at = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < count; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%" PRId64, i ? ", " : "", sizes[i]);
    snprintf(text + at, size - at, "]");
}

static sg_value add_input(builder *b, sg_dtype dtype, int rank, const int64_t *sizes,
                          check_fill fill) {
    char text[200];
    int index = b->graph->input_count;
    if (index == CHECK_INPUTS_MAX)
        return -1;
    print_sizes(text, sizeof text, sizes, rank);
    sg_value value = add(b, "input : %s%s", sg_dtype_name(dtype), text);
    if (value < 0)
        return -1;
    sg_layout *layout = &b->check->inputs[index];
    *layout = (sg_layout){.dtype = dtype, .rank = rank};
    memcpy(layout->size, sizes, sizeof *sizes * (size_t)rank);
    tensor_make_contiguous(layout);
    if (chance(b, 40))
        random_strides(b->random, true, layout);
    if (b->integers && fill == CHECK_REAL)
        fill = CHECK_INTEGER;
    if (b->shape->special && fill == CHECK_REAL && index == 0) /* extremes meet no extremes */
        fill = CHECK_SPECIAL;
    b->check->fill[index] = fill;
    b->exact[value] = dtype == SG_BOOL || fill == CHECK_INTEGER;
    return value;
}

static void keep(builder *b, sg_value value, bool exact) {
    if (value < 0 || b->count == CHECK_VALUES_MAX)
        return;
    b->exact[value] = exact;
    b->values[b->count++] = value;
    if (sg_graph_node(b->graph, value)->type.rank >= b->base.rank)
        b->base = *type_of(b, value);
}

/* ---- operands ------------------------------------------------------------------------------ */

/* Sizes that broadcast with type: leading dimensions dropped, others 1. */
static int some_broadcast(const builder *b, const sg_type *type, int64_t *sizes) {
    int dropped = chance(b, 40) ? (int)between(b, 0, type->rank) : 0;
    int style = (int)between(b, 0, 3);
    for (int dim = dropped; dim < type->rank; dim++) {
        bool one = style == 0 ? chance(b, 50) : style == 1 && dim != 1;
        sizes[dim - dropped] = one ? 1 : type->size[dim];
    }
    return type->rank - dropped;
}

static sg_dtype some_dtype(const builder *b) {
    if (chance(b, 88))
        return b->dtype;
    static const sg_dtype others[] = {SG_F16, SG_BF16, SG_F32, SG_F64};
    return others[between(b, 0, b->dtype == SG_F64 ? 3 : 2)];
}

static sg_value some_tensor(builder *b, sg_value beside, sg_dtype dtype, check_fill fill) {
    int64_t sizes[SG_RANK_MAX];
    bool wide = chance(b, 25);
    int rank = some_broadcast(b, wide ? &b->base : type_of(b, beside), sizes);
    return add_input(b, dtype, rank, sizes, fill);
}

/* Text of an operand to stand beside a value: a number, a new input or an earlier value. */
static bool some_operand(builder *b, sg_value beside, check_fill fill, char *text, size_t size,
                         bool *exact) {
    int kind = (int)between(b, 0, 9);
    *exact = true;
    if (kind < 2) {
        static const char *const numbers[] = {"2.0", "0.75", "3.0", "0.1", "1.5"};
        int which = (int)between(b, 0, 4);
        *exact = which == 0 || which == 2;
        snprintf(text, size, "%s", numbers[which]);
        return true;
    }
    sg_value value = kind < 5 && b->count && fill == CHECK_REAL
                         ? b->values[between(b, 0, b->count - 1)]
                         : some_tensor(b, beside, some_dtype(b), fill);
    if (value < 0)
        return false;
    *exact = b->exact[value];
    snprintf(text, size, "%%%s", name_of(b, value));
    return true;
}

/* A bool of a shape that fits. */
static sg_value some_mask(builder *b, sg_value beside) {
    for (int i = b->count - 1; i >= 0 && chance(b, 60); i--)
        if (type_of(b, b->values[i])->dtype == SG_BOOL)
            return b->values[i];
    return some_tensor(b, beside, SG_BOOL, CHECK_INTEGER);
}

/* ---- operators ----------------------------------------------------------------------------- */

typedef enum op_trait {
    SMOOTH,   /* may stand anywhere */
    EXACT,    /* keeps small integers exact */
    JUMPS,    /* wants an exact operand, as rounding may take it across a jump */
    GROWS,    /* wants a bounded operand */
    POSITIVE, /* wants one above zero */
    SKIPPED   /* not drawn by name */
} op_trait;

static op_trait trait_of(sg_op op) {
    switch (op) {
    case SG_OP_neg:
    case SG_OP_abs:
    case SG_OP_relu:
    case SG_OP_relu6:
    case SG_OP_identity:
    case SG_OP_isnan:
        return EXACT;
    case SG_OP_sign:
    case SG_OP_floor:
    case SG_OP_ceil:
    case SG_OP_trunc:
    case SG_OP_round:
    case SG_OP_threshold:
    case SG_OP_hardshrink:
    case SG_OP_logical_not:
        return JUMPS;
    case SG_OP_square:
    case SG_OP_exp:
    case SG_OP_exp2:
    case SG_OP_expm1:
    case SG_OP_selu:
    case SG_OP_elu:
        return GROWS;
    case SG_OP_reciprocal:
        return POSITIVE;
    case SG_OP_cast:
    case SG_OP_pow:
        return SKIPPED;
    default:
        return sg_op_get(op)->domain == SG_DOMAIN_POSITIVE ? POSITIVE : SMOOTH;
    }
}

static void some_unary(builder *b, sg_value x) {
    sg_op op = (sg_op)between(b, 0, SG_OP_COUNT - 1);
    while (sg_op_get(op)->kind != SG_KIND_POINTWISE || sg_op_get(op)->arity != 1)
        op = (sg_op)between(b, 0, SG_OP_COUNT - 1);
    op_trait trait = trait_of(op);
    bool exact = b->exact[x];
    if (trait == SKIPPED || (trait == JUMPS && !exact) || (b->shape->special && trait == GROWS))
        return;
    if (trait == GROWS)
        x = add(b, "clamp %%%s {min=-3.0, max=3.0}", name_of(b, x));
    if (trait == POSITIVE) {
        x = add(b, "abs %%%s", name_of(b, x));
        x = x < 0 ? x : add(b, "add %%%s, 0.25", name_of(b, x));
    }
    if (x >= 0)
        keep(b, add(b, "%s %%%s", sg_op_get(op)->name, name_of(b, x)),
             exact && (trait == EXACT || trait == JUMPS));
}

static void some_binary(builder *b, sg_value x) {
    static const struct {
        const char *name;
        check_fill fill;
        bool exact, jumps;
    } ops[] = {{"add", CHECK_REAL, true, false},      {"sub", CHECK_REAL, true, false},
               {"rsub", CHECK_REAL, true, false},     {"mul", CHECK_REAL, false, false},
               {"div", CHECK_POSITIVE, false, false}, {"minimum", CHECK_REAL, true, false},
               {"maximum", CHECK_REAL, true, false},  {"lt", CHECK_REAL, true, true},
               {"ge", CHECK_REAL, true, true},        {"eq", CHECK_REAL, true, true},
               {"ne", CHECK_REAL, true, true},        {"logical_and", CHECK_REAL, true, true}};
    char other[64];
    bool exact;
    int op = (int)between(b, 0, 11);
    bool divides = ops[op].fill == CHECK_POSITIVE;
    if (!some_operand(b, x, ops[op].fill, other, sizeof other, &exact))
        return;
    exact = exact && b->exact[x];
    if (ops[op].jumps && !exact)
        return;
    if (b->shape->special && (op < 5 || divides)) /* no difference of two overflows */
        snprintf(other, sizeof other, "0.5");
    bool swap = chance(b, 30) && !divides;
    const char *first = name_of(b, x);
    keep(b,
         swap ? add(b, "%s %s, %%%s", ops[op].name, other, first)
              : add(b, "%s %%%s, %s", ops[op].name, first, other),
         exact && ops[op].exact);
}

static void some_ternary(builder *b, sg_value x) {
    char other[64];
    bool exact;
    int kind = (int)between(b, 0, 4);
    if (b->shape->special && kind < 2)
        return;
    if (!some_operand(b, x, CHECK_REAL, other, sizeof other, &exact))
        return;
    exact = exact && b->exact[x];
    const char *name = name_of(b, x);
    sg_value third = kind < 2   ? some_tensor(b, x, b->dtype, CHECK_POSITIVE)
                     : kind < 4 ? some_mask(b, x)
                                : some_tensor(b, x, b->dtype, CHECK_REAL);
    if (third < 0)
        return;
    const char *last = name_of(b, third);
    switch (kind) {
    case 0:
        keep(b, add(b, "addcmul %%%s, %s, %%%s {value=0.5}", name, other, last), false);
        break;
    case 1:
        keep(b, add(b, "addcdiv %%%s, %s, %%%s", name, other, last), false);
        break;
    case 2:
        keep(b, add(b, "where %%%s, %%%s, %s", last, name, other), exact);
        break;
    case 3:
        keep(b, add(b, "masked_fill %%%s, %%%s, 2.0", name, last), b->exact[x]);
        break;
    default:
        keep(b, add(b, "clamp_tensor %%%s, %s, %%%s", name, other, last), false);
    }
}

static int print_axes(const builder *b, const sg_type *type, char *text, size_t size) {
    int64_t axes[SG_RANK_MAX];
    int count = 0;
    int percent = chance(b, 60) ? 100 / (type->rank ? type->rank : 1) : 60;
    for (int dim = 0; dim < type->rank; dim++)
        if (chance(b, percent))
            axes[count++] = chance(b, 30) ? dim - type->rank : dim;
    print_sizes(text, size, axes, count);
    return count;
}

static void some_reduction(builder *b, sg_value x) {
    static const char *const ops[] = {"sum", "mean", "amin", "amax", "amin", "logsumexp", "prod"};
    char axes[120];
    int op = (int)between(b, 0, 6);
    if (print_axes(b, type_of(b, x), axes, sizeof axes) == 0 && chance(b, 80))
        return;
    bool small = true;
    if (op == 6) { /* products of many numbers leave the range of a float */
        sg_layout layout = {.rank = type_of(b, x)->rank};
        for (int dim = 0; dim < layout.rank; dim++)
            layout.size[dim] = type_of(b, x)->size[dim];
        small = tensor_count(&layout) <= 24 && !b->shape->special;
    }
    if (small)
        keep(b,
             add(b, "%s %%%s {dim=%s, keepdim=%s}", ops[op], name_of(b, x), axes,
                 chance(b, 50) ? "true" : "false"),
             b->exact[x] && op >= 2 && op <= 4);
}

static void some_softmax(builder *b, sg_value x) {
    int rank = type_of(b, x)->rank;
    keep(b,
         add(b, "%s %%%s {dim=%d}", chance(b, 50) ? "softmax" : "log_softmax", name_of(b, x),
             rank ? (int)between(b, -rank, rank - 1) : 0),
         false);
}

static void some_reshape(builder *b, sg_value x) {
    const sg_type *type = type_of(b, x);
    int64_t sizes[SG_RANK_MAX + 1];
    char text[200];
    int count = 0;
    for (int dim = 0; dim < type->rank; dim++) {
        int64_t size = type->size[dim];
        if (count && chance(b, 25))
            sizes[count - 1] *= size;
        else if (size > 1 && size % 2 == 0 && chance(b, 20) && count < SG_RANK_MAX - 1) {
            sizes[count++] = 2;
            sizes[count++] = size / 2;
        } else if (count < SG_RANK_MAX)
            sizes[count++] = size;
    }
    print_sizes(text, sizeof text, sizes, count);
    keep(b, add(b, "reshape %%%s {shape=%s}", name_of(b, x), text), b->exact[x]);
}

static void some_permute(builder *b, sg_value x) {
    int64_t order[SG_RANK_MAX];
    char text[120];
    int rank = type_of(b, x)->rank;
    for (int i = 0; i < rank; i++)
        order[i] = i;
    for (int i = rank - 1; i > 0; i--) {
        int64_t j = between(b, 0, i), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    print_sizes(text, sizeof text, order, rank);
    keep(b, add(b, "permute %%%s {dims=%s}", name_of(b, x), text), b->exact[x]);
}

static void some_view(builder *b, sg_value x) {
    int rank = type_of(b, x)->rank;
    const char *name = name_of(b, x);
    int first = rank ? (int)between(b, 0, rank - 1) : 0;
    int second = rank ? (int)between(b, 0, rank - 1) : 0;
    switch (between(b, 0, 5)) {
    case 0:
        keep(b, add(b, "flatten %%%s {start_dim=%d, end_dim=-1}", name, first), b->exact[x]);
        break;
    case 1:
        keep(b, add(b, "unsqueeze %%%s {dim=%d}", name, (int)between(b, -rank - 1, rank)),
             b->exact[x]);
        break;
    case 2:
        keep(b, add(b, "squeeze %%%s", name), b->exact[x]);
        break;
    case 3:
        keep(b, add(b, "transpose %%%s {dim0=%d, dim1=%d}", name, first, second), b->exact[x]);
        break;
    case 4:
        some_permute(b, x);
        break;
    default:
        some_reshape(b, x);
    }
}

static void some_cast(builder *b, sg_value x) {
    static const sg_dtype dtypes[] = {SG_F16, SG_BF16, SG_F32, SG_F64};
    int which = (int)between(b, 0, 3);
    keep(b, add(b, "cast %%%s {dtype=%s}", name_of(b, x), sg_dtype_name(dtypes[which])), false);
}

static void some_node(builder *b) {
    bool latest = chance(b, 70);
    sg_value x = b->values[latest ? b->count - 1 : between(b, 0, b->count - 1)];
    if (type_of(b, x)->dtype == SG_BOOL && chance(b, 70)) {
        keep(b, add(b, "cast %%%s {dtype=%s}", name_of(b, x), sg_dtype_name(b->dtype)), true);
        return;
    }
    int kind = (int)between(b, 0, 99);
    if (kind < 26)
        some_unary(b, x);
    else if (kind < 54)
        some_binary(b, x);
    else if (kind < 64)
        some_ternary(b, x);
    else if (kind < 78)
        some_reduction(b, x);
    else if (kind < 84)
        some_softmax(b, x);
    else if (kind < 97)
        some_view(b, x);
    else
        some_cast(b, x);
}

/* ---- first nodes --------------------------------------------------------------------------- */

typedef struct some_sizes {
    int64_t batch, channels, out_channels, groups;
    int64_t size[3], kernel[3], stride[3], padding[3], dilation[3], out[3];
} some_sizes;

static void draw_channels(const builder *b, some_sizes *s) {
    bool grouped = chance(b, 30);
    s->groups = grouped ? between(b, 2, 9) : 1;
    bool depthwise = grouped && chance(b, 50);
    int64_t most = grouped ? 5 : chance(b, 30) ? 70 : 12;
    s->channels = s->groups * (depthwise ? 1 : between(b, 1, most));
    s->out_channels = s->groups * between(b, 1, depthwise ? 2 : most);
    s->batch = chance(b, 6) ? 0 : chance(b, 50) ? 1 : between(b, 2, 3);
}

/* Halves what is largest until the work is small enough. */
static void draw_space(const builder *b, int spatial, some_sizes *s) {
    int64_t most = spatial == 1 ? 90 : spatial == 2 ? 24 : 9;
    for (int i = 0; i < spatial; i++) {
        s->kernel[i] = between(b, 1, chance(b, 70) ? 3 : 5);
        s->stride[i] = chance(b, 65) ? 1 : between(b, 2, 3);
        s->dilation[i] = chance(b, 75) ? 1 : between(b, 2, 3);
        s->padding[i] = chance(b, 50) ? 0 : between(b, 1, 3);
        s->out[i] = chance(b, 15) ? 1 : between(b, 1, most);
    }
    for (int pass = 0; pass < 30; pass++) {
        int64_t work = s->out_channels * s->channels / s->groups * (s->batch ? s->batch : 1);
        int widest = 0;
        for (int i = 0; i < spatial; i++) {
            work *= s->kernel[i] * s->out[i];
            widest = s->out[i] > s->out[widest] ? i : widest;
        }
        if (work > b->shape->work_max)
            s->out[widest] = (s->out[widest] + 1) / 2;
    }
    for (int i = 0; i < spatial; i++) {
        int64_t reach = (s->kernel[i] - 1) * s->dilation[i] + 1;
        int64_t size = (s->out[i] - 1) * s->stride[i] + reach - 2 * s->padding[i];
        if (size < 1) {
            s->padding[i] = 0;
            size += reach + 6;
        }
        s->size[i] = size + between(b, 0, s->stride[i] - 1);
    }
}

static void some_convolution(builder *b) {
    some_sizes s = {0};
    int spatial = (int)between(b, 1, 3);
    bool batched = chance(b, 85);
    draw_channels(b, &s);
    if (!batched)
        s.batch = 1;
    draw_space(b, spatial, &s);
    int64_t input[5] = {s.batch, s.channels}, weight[5] = {s.out_channels, s.channels / s.groups};
    for (int i = 0; i < spatial; i++) {
        input[2 + i] = s.size[i];
        weight[2 + i] = s.kernel[i];
    }
    sg_value x = add_input(b, b->dtype, spatial + 1 + batched, input + !batched, CHECK_REAL);
    sg_value w = add_input(b, b->dtype, spatial + 2, weight, CHECK_REAL);
    sg_value bias = chance(b, 60) ? add_input(b, b->dtype, 1, &s.out_channels, CHECK_REAL) : -1;
    if (x < 0 || w < 0)
        return;
    char text[4][80], last[40] = "";
    print_sizes(text[0], sizeof text[0], s.stride, spatial);
    print_sizes(text[1], sizeof text[1], s.padding, spatial);
    print_sizes(text[2], sizeof text[2], s.dilation, spatial);
    if (bias >= 0)
        snprintf(last, sizeof last, ", %%%s", name_of(b, bias));
    keep(b,
         add(b, "convolution %%%s, %%%s%s {stride=%s, padding=%s, dilation=%s, groups=%" PRId64 "}",
             name_of(b, x), name_of(b, w), last, text[0], text[1], text[2], s.groups),
         b->integers);
}

static void some_start(builder *b) {
    int64_t sizes[SG_RANK_MAX];
    int rank = chance(b, 8) ? (int)between(b, 6, 7) : (int)between(b, 0, 5);
    int64_t most = rank < 2 ? 300 : rank == 2 ? 60 : rank == 3 ? 20 : rank == 4 ? 9 : 5;
    if (rank > 5)
        most = 3;
    for (int i = 0; i < rank; i++)
        sizes[i] = chance(b, 12) ? 1 : chance(b, 3) ? 0 : between(b, 1, most);
    sg_value x = add_input(b, b->dtype, rank, sizes, CHECK_REAL);
    if (x >= 0)
        keep(b, x, b->exact[x]);
}

void random_strides(random_state *random, bool broadcasts, sg_layout *layout) {
    int order[SG_RANK_MAX];
    int64_t stride = random_chance(random, 20) ? 2 : 1;
    int rank = layout->rank;
    for (int i = 0; i < rank; i++)
        order[i] = i;
    bool channels_last = rank > 2 && random_chance(random, 40);
    if (channels_last) {
        for (int i = 1; i < rank - 1; i++)
            order[i] = i + 1;
        order[rank - 1] = 1;
    }
    for (int i = rank - 1; i > 0 && !channels_last && random_chance(random, 60); i--) {
        int j = (int)random_between(random, 0, i), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    for (int i = rank - 1; i >= 0; i--) {
        int64_t size = layout->size[order[i]];
        bool repeated = broadcasts && random_chance(random, 6);
        layout->stride[order[i]] = repeated ? 0 : stride;
        if (!repeated)
            stride *= (size > 1 ? size : 1) + (random_chance(random, 15) ? 1 : 0);
    }
}

/* Outputs: the last value and some others, each computed. */
static bool choose_outputs(builder *b) {
    bool any = false;
    for (int i = b->count - 1; i >= 0 && b->graph->output_count < CHECK_OUTPUTS_MAX; i--) {
        bool computed = sg_op_get(sg_graph_node(b->graph, b->values[i])->op)->kind != SG_KIND_LEAF;
        if (computed && (!any || chance(b, 12)))
            any |= sg_graph_append_output(b->graph, b->values[i]) == SG_OK;
    }
    return any;
}

bool random_graph_make(sg_context *context, random_state *random, const random_shape *shape,
                       program_check *check) {
    static const sg_dtype dtypes[] = {SG_F32, SG_F32, SG_F32, SG_F32, SG_F64, SG_F16, SG_BF16};
    *check = (program_check){.seed = random_bits(random)};
    if (sg_graph_create(context, "random", &check->graph) != SG_OK)
        return false;
    builder b = {.random = random,
                 .check = check,
                 .graph = check->graph,
                 .shape = shape,
                 .exact = check->exact};
    b.dtype = dtypes[between(&b, 0, 6)];
    b.integers = !shape->special && chance(&b, 30);
    if (chance(&b, shape->percent_convolution))
        some_convolution(&b);
    else
        some_start(&b);
    int nodes = (int)between(&b, b.count && b.graph->nodes[b.values[0]].op == SG_OP_input ? 1 : 0,
                             shape->nodes_max);
    for (int i = 0; i < nodes && b.count; i++)
        some_node(&b);
    if (b.count && choose_outputs(&b))
        return true;
    sg_graph_destroy(check->graph);
    check->graph = NULL;
    return false;
}
