/* The tail of a region: loops over the channels and pixels of a tile, from its tile program.
 *
 * A section is a row of loops, divided by the reductions: level after level, and in each what has
 * neither channels nor pixels, what has channels, what has pixels, and what has both. vN is value N
 * of the tile program. One that another loop reads lies in struct tile; of the others there is one
 * number at a time, or one row where memory is read or written. */
#include <string.h>

#include "gen/c/region.h"

static const char *const reductions[SG_REDUCTION_COUNT] = {"sum", "prod", "min", "max"};
static const char *const identities[SG_REDUCTION_COUNT] = {"0", "1", "(real)INFINITY",
                                                           "-(real)INFINITY"};

static sg_shape shape_of(const sg_c_region *region, int buffer) {
    return region->program.buffers[buffer].shape;
}
static bool is_double(const sg_c_region *region) {
    return region->problem->compute == SG_F64;
}
/* Sums that carry what their additions rounded away. */
static bool is_sum(const sg_walk *walk) {
    return walk->reduction == SG_REDUCTION_SUM;
}

/* ---- values -------------------------------------------------------------------------------- */

static void write_extent(sg_shape shape, sg_text *text) {
    sg_text_add(text, "%s%s", shape & SG_SHAPE_CHANNEL ? "[CHANNELS@]" : "",
                shape & SG_SHAPE_RUN ? "[RUN@]" : "");
}

/* Where a loop of shape `where` finds something of shape `shape`. A view may have dropped a channel
 * axis of size 1. */
static void write_index(sg_shape shape, sg_shape where, sg_text *text) {
    if (shape & SG_SHAPE_CHANNEL)
        sg_text_add(text, where & SG_SHAPE_CHANNEL ? "[c]" : "[0]");
    if (shape & SG_SHAPE_RUN)
        sg_text_add(text, "[p]");
}

/* The count of elements that a mean is over. */
static void write_count(const sg_c_region *region, unsigned axes, sg_text *text) {
    const char *between = "";
    sg_text_add(text, "(real)(");
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        if (!(axes >> axis & 1U))
            continue;
        sg_text_add(text, "%s", between);
        sg_c_write_axis(region, axis, "a->", text);
        between = " * ";
    }
    sg_text_add(text, ")");
}

static void write_value(const sg_c_region *region, int source, sg_shape where, sg_text *text) {
    if (source < 0) {
        unsigned counted = region->program.counted[-1 - source];
        if (counted)
            write_count(region, counted, text);
        else
            sg_c_write_number(region->program.constants[-1 - source], text);
        return;
    }
    sg_text_add(text, region->kept[source] ? "t->v%d" : "v%d", source);
    if (region->kept[source])
        write_index(shape_of(region, source), where, text);
    else if (region->row[source])
        sg_text_add(text, "[p]");
}

static void write_expression(sg_c_region *region, const sg_instruction *made, sg_text *text) {
    sg_shape where = shape_of(region, made->dst);
    if (made->kind == SG_INSTRUCTION_FINISH) {
        const sg_walk *walk = &region->program.walks[made->walk];
        sg_text_add(text, "t->walk%d", made->walk);
        write_index(walk->shape, where, text);
        if (is_sum(walk)) {
            sg_text_add(text, " + t->rest%d", made->walk);
            write_index(walk->shape, where, text);
        }
        return;
    }
    sg_c_write_call(region, made, text);
    for (int i = 0; i < made->source_count; i++) {
        sg_text_add(text, i ? ", " : "(");
        write_value(region, made->sources[i], where, text);
    }
    sg_text_add(text, ")");
}

/* "a->x + offset(&a->x_by, at) + c * a->x_by.c" */
static void write_address(const sg_c_region *region, int number, sg_shape where, sg_text *text) {
    const sg_c_view *view = &region->views[number];
    sg_text_add(text, "a->%s + offset(&a->%s, at)", region->tensors[view->tensor].name, view->name);
    if (where & SG_SHAPE_CHANNEL && view->stride[SG_ROLE_C][0])
        sg_text_add(text, " + c * a->%s.c", view->name);
}

static const char *element_of(const sg_c_region *region, int view) {
    return sg_dtype_name(region->tensors[region->views[view].tensor].dtype);
}

/* ---- loops --------------------------------------------------------------------------------- */

static const char *indents[] = {"    ", "        ", "            ", "                "};

typedef struct loop_writer {
    sg_c_region *region;
    sg_c_loop loop;
    sg_text *text;
    int depth;
} loop_writer;

static const char *indent(const loop_writer *writer) {
    return indents[writer->depth];
}

static bool is_effect(const sg_instruction *instruction) {
    return instruction->kind == SG_INSTRUCTION_STORE || instruction->kind == SG_INSTRUCTION_WALK;
}
static bool is_reduction(const sg_instruction *instruction) {
    return instruction->kind == SG_INSTRUCTION_ROWS || instruction->kind == SG_INSTRUCTION_COLUMNS;
}

/* Instruction i, if it stands in the loop and somebody needs it; else NULL. */
static const sg_instruction *in_loop(const loop_writer *writer, int i) {
    const sg_c_region *region = writer->region;
    const sg_instruction *instruction = region->all[i];
    int at = is_effect(instruction) || is_reduction(instruction) ? instruction->sources[0]
                                                                 : instruction->dst;
    bool live = is_effect(instruction) || region->live[instruction->dst];
    return live && region->section[i] == writer->loop.section &&
                   region->level[at] == writer->loop.level &&
                   shape_of(region, at) == writer->loop.shape
               ? instruction
               : NULL;
}

static bool is_inner(const sg_instruction *instruction) {
    return instruction->kind == SG_INSTRUCTION_POINTWISE ||
           instruction->kind == SG_INSTRUCTION_FINISH || instruction->kind == SG_INSTRUCTION_WALK ||
           instruction->kind == SG_INSTRUCTION_ROWS;
}

/* Sums and products go on in double; sums of doubles with what their additions rounded away. */
static bool in_double(sg_reduction reduction) {
    return reduction == SG_REDUCTION_SUM || reduction == SG_REDUCTION_PROD;
}

static void open_reductions(loop_writer *writer) {
    const sg_c_region *region = writer->region;
    bool run = writer->loop.shape & SG_SHAPE_RUN;
    for (int i = 0; i < region->count; i++) {
        const sg_instruction *rows = in_loop(writer, i);
        if (!rows || rows->kind != SG_INSTRUCTION_ROWS)
            continue;
        const char *extent = run ? "[RUN@]" : "", *identity = identities[rows->reduction];
        const char *type = in_double(rows->reduction) ? "double" : "real";
        bool rest = is_double(region) && rows->reduction == SG_REDUCTION_SUM;
        sg_text_add(writer->text, "%s%s r%d%s%s", indent(writer), type, rows->dst, extent,
                    run ? "" : " = ");
        if (!run)
            sg_text_add(writer->text, "%s", identity);
        if (rest)
            sg_text_add(writer->text, ", e%d%s%s", rows->dst, extent, run ? "" : " = 0");
        sg_text_add(writer->text, ";\n");
        if (run) {
            sg_text_add(writer->text,
                        "%sfor (int p = 0; p < RUN@; p++)\n%s    r%d[p] = ", indent(writer),
                        indent(writer), rows->dst);
            if (rest)
                sg_text_add(writer->text, "e%d[p] = ", rows->dst);
            sg_text_add(writer->text, "%s;\n", identity);
        }
    }
}

static void close_reductions(loop_writer *writer) {
    const sg_c_region *region = writer->region;
    bool run = writer->loop.shape & SG_SHAPE_RUN;
    const char *at = run ? "[p]" : "";
    for (int i = 0; i < region->count; i++) {
        const sg_instruction *rows = in_loop(writer, i);
        if (!rows || rows->kind != SG_INSTRUCTION_ROWS)
            continue;
        bool rest = is_double(region) && rows->reduction == SG_REDUCTION_SUM;
        if (run)
            sg_text_add(writer->text, "%sfor (int p = 0; p < RUN@; p++)\n    ", indent(writer));
        sg_text_add(writer->text, "%st->v%d%s = (real)", indent(writer), rows->dst, at);
        sg_text_add(writer->text, rest ? "(r%d%s + e%d%s);\n" : "r%d%s;\n", rows->dst, at,
                    rows->dst, at);
    }
}

static void write_load(loop_writer *writer, const sg_instruction *load) {
    sg_c_region *region = writer->region;
    sg_shape shape = writer->loop.shape;
    int view = region->load_view[load->operand], dst = load->dst;
    const char *element = element_of(region, view);
    sg_text *text = writer->text;
    if (shape & SG_SHAPE_RUN) {
        if (!region->kept[dst])
            sg_text_add(text, "%sreal v%d[RUN@];\n", indent(writer), dst);
        sg_text_add(text, "%sload_run_%s(", indent(writer), element);
        sg_text_add(text, region->kept[dst] ? "t->v%d%s, " : "v%d%s, ", dst,
                    region->kept[dst] && shape & SG_SHAPE_CHANNEL ? "[c]" : "");
        write_address(region, view, shape, text);
        sg_text_add(text, ", a->%s.w, at->count, RUN@);\n", region->views[view].name);
        return;
    }
    sg_text_add(text, region->kept[dst] ? "%st->v%d" : "%sconst real v%d", indent(writer), dst);
    if (region->kept[dst])
        write_index(shape, shape, text);
    sg_text_add(text, " = load_%s(", element);
    write_address(region, view, shape, text);
    sg_text_add(text, ");\n");
}

static void write_inner(loop_writer *writer, const sg_instruction *made) {
    sg_c_region *region = writer->region;
    sg_shape shape = writer->loop.shape;
    sg_text *text = writer->text;
    const char *at = shape & SG_SHAPE_RUN ? "[p]" : "";
    sg_text_add(text, "%s", indent(writer));
    if (made->kind == SG_INSTRUCTION_WALK && made->reduction == SG_REDUCTION_SUM) {
        sg_text_add(text, "add_compensated(&t->walk%d", made->walk);
        write_index(shape, shape, text);
        sg_text_add(text, ", &t->rest%d", made->walk);
        write_index(shape, shape, text);
        sg_text_add(text, ", ");
        write_value(region, made->sources[0], shape, text);
        sg_text_add(text, ");\n");
        return;
    }
    sg_text target = {0};
    if (made->kind == SG_INSTRUCTION_WALK) {
        sg_text_add(&target, "t->walk%d", made->walk);
        write_index(shape, shape, &target);
    } else if (made->kind == SG_INSTRUCTION_ROWS) {
        sg_text_add(&target, "r%d%s", made->dst, at);
    } else {
        sg_text_add(&target,
                    region->kept[made->dst] || region->row[made->dst] ? "" : "const real ");
        write_value(region, made->dst, shape, &target);
    }
    const char *name = target.data ? target.data : "";
    if (!is_effect(made) && !is_reduction(made)) {
        sg_text_add(text, "%s = ", name);
        write_expression(region, made, text);
    } else if (made->reduction == SG_REDUCTION_SUM && is_double(region)) {
        sg_text_add(text, "add_compensated(&%s, &e%d%s, ", name, made->dst, at);
        write_value(region, made->sources[0], shape, text);
        sg_text_add(text, ")");
    } else if (in_double(made->reduction)) {
        sg_text_add(text, made->reduction == SG_REDUCTION_SUM ? "%s += " : "%s *= ", name);
        write_value(region, made->sources[0], shape, text);
    } else {
        sg_text_add(text, "%s = v_%s(%s, ", name, reductions[made->reduction], name);
        write_value(region, made->sources[0], shape, text);
        sg_text_add(text, ")");
    }
    sg_text_add(text, ";\n");
    sg_text_release(&target);
}

/* A row as a pointer: "v5", "t->v5[c]". */
static void write_row(const sg_c_region *region, int buffer, sg_shape shape, sg_text *text) {
    sg_text_add(text, region->kept[buffer] ? "t->v%d%s" : "v%d%s", buffer,
                region->kept[buffer] && shape & SG_SHAPE_CHANNEL ? "[c]" : "");
}

/* What is done with whole rows, or with single numbers. */
static void write_outer(loop_writer *writer, const sg_instruction *effect) {
    sg_c_region *region = writer->region;
    sg_shape shape = writer->loop.shape;
    sg_text *text = writer->text;
    bool run = shape & SG_SHAPE_RUN;
    if (effect->kind == SG_INSTRUCTION_COLUMNS) {
        sg_text_add(text, "%st->v%d%s = columns_%s(", indent(writer), effect->dst,
                    shape & SG_SHAPE_CHANNEL ? "[c]" : "", reductions[effect->reduction]);
        write_row(region, effect->sources[0], shape, text);
        sg_text_add(text, ", at->count);\n");
        return;
    }
    int view = region->store_view[effect->operand];
    sg_text_add(text, "%sstore_%s%s(", indent(writer), run ? "run_" : "", element_of(region, view));
    write_address(region, view, shape, text);
    sg_text_add(text, ", ");
    if (run) {
        write_row(region, effect->sources[0], shape, text);
        sg_text_add(text, ", a->%s.w, at->count", region->views[view].name);
    } else {
        write_value(region, effect->sources[0], shape, text);
    }
    sg_text_add(text, ");\n");
}

static void write_loop(loop_writer *writer) {
    sg_c_region *region = writer->region;
    sg_shape shape = writer->loop.shape;
    bool any = false, inner = false;
    for (int i = 0; i < region->count; i++) {
        const sg_instruction *instruction = in_loop(writer, i);
        any |= instruction != NULL;
        inner |= instruction && is_inner(instruction);
    }
    if (!any)
        return;
    open_reductions(writer);
    if (shape & SG_SHAPE_CHANNEL)
        sg_text_add(writer->text, "%sfor (int c = 0; c < CHANNELS@; c++) {\n",
                    indents[writer->depth++]);
    for (int i = 0; i < region->count; i++) {
        const sg_instruction *made = in_loop(writer, i);
        if (made && made->kind == SG_INSTRUCTION_LOAD)
            write_load(writer, made);
        else if (made && !is_effect(made) && !is_reduction(made) && region->row[made->dst])
            sg_text_add(writer->text, "%sreal v%d[RUN@];\n", indent(writer), made->dst);
    }
    bool loop = inner && shape & SG_SHAPE_RUN;
    if (loop)
        sg_text_add(writer->text, "%sfor (int p = 0; p < RUN@; p++) {\n", indents[writer->depth++]);
    for (int i = 0; i < region->count; i++) {
        const sg_instruction *made = in_loop(writer, i);
        if (made && is_inner(made))
            write_inner(writer, made);
    }
    if (loop)
        sg_text_add(writer->text, "%s}\n", indents[--writer->depth]);
    for (int i = 0; i < region->count; i++) {
        const sg_instruction *effect = in_loop(writer, i);
        if (effect &&
            (effect->kind == SG_INSTRUCTION_STORE || effect->kind == SG_INSTRUCTION_COLUMNS))
            write_outer(writer, effect);
    }
    if (shape & SG_SHAPE_CHANNEL)
        sg_text_add(writer->text, "%s}\n", indents[--writer->depth]);
    close_reductions(writer);
}

/* ---- functions ----------------------------------------------------------------------------- */

static bool uses_tile(const char *text) {
    for (const char *at = strstr(text, "t->"); at; at = strstr(at + 1, "t->")) {
        if (at == text || at[-1] != 'a')
            return true;
    }
    return false;
}

static void write_section(sg_c_region *region, int section, const char *comment, const char *name,
                          sg_text *text) {
    static const sg_shape order[] = {SG_SHAPE_NUMBER, SG_SHAPE_CHANNEL, SG_SHAPE_RUN,
                                     SG_SHAPE_TILE};
    sg_text body = {0};
    for (int level = 0; level < region->levels; level++) {
        for (int i = 0; i < SG_SHAPE_COUNT; i++) {
            loop_writer writer = {region, {section, level, order[i]}, &body, 0};
            write_loop(&writer);
        }
    }
    const char *written = body.data ? body.data : "";
    sg_text_add(text,
                "/* %s */\nstatic void %s@(const struct arguments@ *restrict a, struct tile@ "
                "*restrict t,\n    const place *at) {\n%s%s%s",
                comment, name, strstr(written, "a->") ? "" : "    (void)a;\n",
                uses_tile(written) ? "" : "    (void)t;\n",
                strstr(written, "at->") || strstr(written, "at)") ? "" : "    (void)at;\n");
    sg_text_add(text, "%s}\n\n", written);
    sg_text_release(&body);
}

void sg_c_write_tail_members(const sg_c_region *region, sg_text *text) {
    for (int i = 0; i < region->program.buffer_count; i++) {
        if (!region->kept[i] || !region->live[i])
            continue;
        sg_text_add(text, "    real v%d", i);
        write_extent(shape_of(region, i), text);
        sg_text_add(text, i == region->program.anchor ? "; /* the convolution */\n" : ";\n");
    }
    for (int i = 0; i < region->program.walk_count; i++) {
        const sg_walk *walk = &region->program.walks[i];
        sg_text_add(text, "    real walk%d", i);
        write_extent(walk->shape, text);
        if (is_sum(walk)) {
            sg_text_add(text, ", rest%d", i);
            write_extent(walk->shape, text);
        }
        sg_text_add(text, ";\n");
    }
}

static void write_begin(const sg_c_region *region, sg_text *text) {
    sg_text_add(text, "/* Running values before the first step of a walk. */\n"
                      "static void begin@(struct tile@ *t) {\n");
    for (int i = 0; i < region->program.walk_count; i++) {
        const sg_walk *walk = &region->program.walks[i];
        int depth = 0;
        if (walk->shape & SG_SHAPE_CHANNEL)
            sg_text_add(text, "%sfor (int c = 0; c < CHANNELS@; c++)\n", indents[depth++]);
        if (walk->shape & SG_SHAPE_RUN)
            sg_text_add(text, "%sfor (int p = 0; p < RUN@; p++)\n", indents[depth++]);
        sg_text_add(text, "%st->walk%d", indents[depth], i);
        write_index(walk->shape, walk->shape, text);
        if (is_sum(walk)) {
            sg_text_add(text, " = t->rest%d", i);
            write_index(walk->shape, walk->shape, text);
        }
        sg_text_add(text, " = %s;\n", identities[walk->reduction]);
    }
    sg_text_add(text, "}\n\n");
}

void sg_c_write_tail(sg_c_region *region, sg_text *text) {
    if (sg_c_has_item(region))
        write_section(region, 0, "What does not change while a run is made.", "load_fixed", text);
    if (region->problem->walk)
        write_begin(region, text);
    write_section(region, 1,
                  region->problem->walk ? "One step of the walk: running values take a run in."
                                        : "What follows for a run of pixels, up to the outputs.",
                  "step", text);
    if (region->problem->walk)
        write_section(region, 2, "What follows when the walk has ended.", "end", text);
}
