/* A region as a row of C functions, the last of which is the entry. */
#include <stdio.h>
#include <string.h>

#include "gen/c/region.h"

static const char letters[SG_ROLE_COUNT] = {'n', 'c', 'd', 'h', 'w'};

static bool is_input_size(const sg_c_region *region, int role) {
    return region->problem->has_convolution && role >= SG_ROLE_D && region->open[role];
}
/* Whether the convolution's input has a dimension, be its size an argument or not. */
static bool has_input_size(const sg_c_region *region, int role) {
    return region->problem->has_convolution && role >= SG_ROLE_D &&
           region->problem->convolution.input.domain >> role & 1U;
}
static bool walks(const sg_c_region *region, int role) {
    return region->problem->walk >> role & 1U;
}

/* ---- constants and types ------------------------------------------------------------------- */

/* A run by a block fills the vector registers; without a convolution, a tile of a run fills some of
 * the first cache. */
static void write_run(const sg_c_region *region, sg_text *text) {
    int64_t channels = region->problem->size[SG_ROLE_C];
    if (region->problem->has_convolution && channels <= 4096) {
        bool wide = region->problem->compute == SG_F64;
        sg_text_add(text,
                    "/* Pixels of a run, and channels that are summed at once: their sums fill the "
                    "processor's\n * vector registers. */\n"
                    "#if defined(__AVX512F__)\n"
                    "enum { RUN@ = 32, BLOCK_MAX@ = %d };\n"
                    "#else\n"
                    "enum { RUN@ = 24, BLOCK_MAX@ = %d };\n"
                    "#endif\n\n",
                    wide ? 4 : 8, wide ? 2 : 4);
        return;
    }
    int run = 256;
    while (run > 8 && run * channels > 4096)
        run /= 2;
    sg_text_add(text, "/* Pixels of a run, whose values stay in the first cache. */\n");
    sg_text_add(text,
                region->problem->has_convolution ? "enum { RUN@ = %d, BLOCK_MAX@ = 4 };\n\n"
                                                 : "enum { RUN@ = %d };\n\n",
                run);
}

static void write_types(const sg_c_region *region, sg_text *text) {
    sg_text_add(text, "enum {\n    CHANNELS@ = %lld,\n",
                (long long)region->problem->size[SG_ROLE_C]);
    if (region->problem->has_convolution)
        sg_c_write_convolution_constants(region, text);
    sg_text_add(text, "};\n\nstruct arguments@ {\n");
    const char *before = "    int64_t ";
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        if (region->open[role]) {
            sg_text_add(text, "%ssize_%c", before, letters[role]);
            before = ", ";
        }
        if (has_input_size(region, role)) {
            sg_text_add(text, "%sin_%c", before, letters[role]);
            before = ", ";
        }
    }
    sg_text_add(text, *before == ',' ? ";\n" : "");
    for (int i = 0; i < region->tensor_count; i++) {
        const sg_c_tensor *tensor = &region->tensors[i];
        sg_text_add(text, "    %s%s *%s;\n    stride", tensor->output ? "" : "const ",
                    sg_c_type(tensor->dtype), tensor->name);
        const char *between = " ";
        for (int k = 0; k < region->view_count; k++) {
            if (region->views[k].tensor == i) {
                sg_text_add(text, "%s%s", between, region->views[k].name);
                between = ", ";
            }
        }
        sg_text_add(text, ";\n");
    }
    sg_text_add(text, "};\n\n/* What is known of a run of pixels. */\nstruct tile@ {\n");
    if (region->problem->has_convolution)
        sg_c_write_convolution_members(region, text);
    sg_text members = {0};
    sg_c_write_tail_members(region, &members);
    if (!members.length && !region->problem->has_convolution)
        sg_text_add(&members, "    char nothing;\n");
    sg_text_add(text, "%s};\n\n", members.data ? members.data : "");
    sg_text_release(&members);
}

/* ---- the loop nest ------------------------------------------------------------------------- */

typedef struct nest {
    const sg_c_region *region;
    sg_text *text;
    int depth;
} nest;

static void line(nest *nest, const char *format, const char *argument) {
    for (int i = 0; i < nest->depth; i++)
        sg_text_add(nest->text, "    ");
    sg_text_add(nest->text, "%s", "");
    char buffer[200];
    snprintf(buffer, sizeof buffer, format, argument);
    sg_text_add(nest->text, "%s\n", buffer);
}

static void open_loops(nest *nest, bool walked) {
    static const char *const loops[SG_ROLE_COUNT] = {
        "for (at.n = 0; at.n < a->size_n; at.n++) {", NULL,
        "for (at.d = 0; at.d < a->size_d; at.d++) {", "for (at.h = 0; at.h < a->size_h; at.h++) {",
        "for (at.w = 0; at.w < a->size_w; at.w += RUN@) {"};
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        if (!nest->region->open[role] || role == SG_ROLE_C || walks(nest->region, role) != walked)
            continue;
        line(nest, "%s", loops[role]);
        nest->depth++;
        if (role == SG_ROLE_W)
            line(nest, "at.count = a->size_w - at.w < RUN@ ? (int)(a->size_w - at.w) : RUN@;%s",
                 "");
    }
}

static void close_loops(nest *nest, int depth) {
    while (nest->depth > depth) {
        nest->depth--;
        line(nest, "}%s", "");
    }
}

static void write_nest(const sg_c_region *region, sg_text *text) {
    bool convolution = region->problem->has_convolution;
    nest at = {region, text, 1};
    sg_text_add(text, "static void run@(const struct arguments@ *a, struct tile@ *t) {\n"
                      "    place at = {.count = 1};\n");
    if (convolution)
        line(&at, "pack_weights@(a, t);%s", "");
    open_loops(&at, false);
    if (sg_c_has_item(region))
        line(&at, "load_fixed@(a, t, &at);%s", "");
    if (region->problem->walk)
        line(&at, "begin@(t);%s", "");
    int depth = at.depth;
    open_loops(&at, true);
    if (convolution) {
        line(&at, "pack_input@(a, t, &at);%s", "");
        line(&at, "contract@(t);%s", "");
    }
    line(&at, "step@(a, t, &at);%s", "");
    close_loops(&at, depth);
    if (region->problem->walk)
        line(&at, "end@(a, t, &at);%s", "");
    close_loops(&at, 1);
    sg_text_add(text, "}\n\n");
}

void sg_c_write_region(sg_c_region *region, sg_text *text) {
    sg_text tail = {0};
    sg_c_write_tail(region, &tail);
    sg_text_add(text, "%s", region->ops.data ? region->ops.data : "");
    write_run(region, text);
    write_types(region, text);
    if (region->problem->has_convolution)
        sg_c_write_convolution(region, text);
    sg_text_add(text, "%s", tail.data ? tail.data : "");
    write_nest(region, text);
    text->failed |= tail.failed;
    sg_text_release(&tail);
}

/* ---- the entry ----------------------------------------------------------------------------- */

void sg_c_write_shapes(const sg_c_region *region, sg_text *text) {
    for (int i = 0; i < region->tensor_count; i++) {
        const sg_c_tensor *tensor = &region->tensors[region->order[i]];
        const sg_c_view *view = tensor->view >= 0 ? &region->views[tensor->view] : NULL;
        sg_text_add(text, " *   %-10s %s%s[", tensor->name, tensor->output ? "-> " : "",
                    sg_dtype_name(tensor->dtype));
        for (int dim = 0; dim < tensor->rank && view; dim++)
            sg_text_add(text, "%s%s", dim ? ", " : "", view->size[dim]);
        sg_text_add(text, "]\n");
    }
    const sg_convolution *convolution = &region->problem->convolution;
    for (int i = 0; i < SG_SPATIAL_MAX; i++) {
        char c = letters[SG_ROLE_D + i];
        int64_t less = convolution->dilation[i] * (convolution->kernel[i] - 1) + 1 -
                       2 * convolution->padding[i];
        if (is_input_size(region, SG_ROLE_D + i) && convolution->stride[i] == 1)
            sg_text_add(text, " *   size_%c = in_%c %c %lld\n", c, c, less > 1 ? '-' : '+',
                        (long long)(less > 1 ? less - 1 : 1 - less));
        else if (is_input_size(region, SG_ROLE_D + i))
            sg_text_add(text, " *   size_%c = (in_%c %c %lld) / %lld + 1\n", c, c,
                        less > 0 ? '-' : '+', (long long)(less > 0 ? less : -less),
                        (long long)convolution->stride[i]);
    }
}

void sg_c_write_declaration(const sg_c_region *region, const char *name, sg_text *text) {
    const char *between = "";
    sg_text_add(text, "int %s@(", name);
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        if (!region->open[role])
            continue;
        sg_text_add(text, "%sint64_t %s_%c", between, is_input_size(region, role) ? "in" : "size",
                    letters[role]);
        between = ", ";
    }
    for (int i = 0; i < region->tensor_count; i++) {
        const sg_c_tensor *tensor = &region->tensors[region->order[i]];
        sg_text_add(text, "%s%s%s *%s, const int64_t *%s_stride", i || *between ? ",\n    " : "",
                    tensor->output ? "" : "const ", sg_c_type(tensor->dtype), tensor->name,
                    tensor->name);
    }
    sg_text_add(text, ",\n    void *workspace)");
}

static void write_sizes(const sg_c_region *region, sg_text *text) {
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        const char *of = is_input_size(region, role) ? "in" : "size";
        char c = letters[role];
        if (region->open[role])
            sg_text_add(text, "    if (%s_%c < 0 || %s_%c > (int64_t)1 << 40)\n        return 1;\n",
                        of, c, of, c);
    }
    for (int i = 0; i < SG_SPATIAL_MAX; i++) {
        int role = SG_ROLE_D + i;
        char c = letters[role], C = (char)(c - 'a' + 'A');
        if (!is_input_size(region, role))
            continue;
        sg_text_add(text,
                    "    const int64_t fit_%c = in_%c + 2 * PADDING_%c@ - DILATION_%c@ * "
                    "(KERNEL_%c@ - 1) - 1;\n"
                    "    if (fit_%c < 0)\n        return 2;\n"
                    "    const int64_t size_%c = fit_%c / STRIDE_%c@ + 1;\n",
                    c, c, C, C, C, c, c, c, C);
    }
}

/* Sizes of a tensor that several operators read must be what each of them reads. */
static void write_agreement(const sg_c_region *region, sg_text *text) {
    for (int i = 0; i < region->view_count; i++) {
        const sg_c_view *view = &region->views[i];
        const sg_c_tensor *tensor = &region->tensors[view->tensor];
        const sg_c_view *first = &region->views[tensor->view];
        for (int dim = 0; dim < tensor->rank; dim++) {
            if (strcmp(first->size[dim], view->size[dim]) != 0)
                sg_text_add(text, "    if (%s != %s)\n        return 3;\n", first->size[dim],
                            view->size[dim]);
        }
    }
}

static void write_strides(const sg_c_region *region, sg_text *text) {
    for (int i = 0; i < region->tensor_count; i++) {
        const sg_c_tensor *tensor = &region->tensors[i];
        const sg_c_view *view = tensor->view >= 0 ? &region->views[tensor->view] : NULL;
        int rank = tensor->rank ? tensor->rank : 1;
        sg_text_add(text, "    int64_t %s_by_dim[%d];\n    const int64_t %s_size[] = {",
                    tensor->name, rank, tensor->name);
        for (int dim = 0; dim < tensor->rank && view; dim++)
            sg_text_add(text, "%s%s", dim ? ", " : "", view->size[dim]);
        sg_text_add(text,
                    "%s};\n    if (!take_strides(%d, %s_size, %s_stride, %s_by_dim))\n"
                    "        return 4;\n",
                    tensor->rank && view ? "" : "1", tensor->rank, tensor->name, tensor->name,
                    tensor->name);
    }
}

static void write_arguments(const sg_c_region *region, sg_text *text) {
    sg_text_add(text, "    const struct arguments@ a = {\n");
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        char c = letters[role];
        if (region->open[role])
            sg_text_add(text, "        .size_%c = size_%c,\n", c, c);
        if (is_input_size(region, role))
            sg_text_add(text, "        .in_%c = in_%c,\n", c, c);
        else if (has_input_size(region, role))
            sg_text_add(text, "        .in_%c = %lld,\n", c,
                        (long long)region->problem->convolution.in_size[role - SG_ROLE_D]);
    }
    for (int i = 0; i < region->tensor_count; i++)
        sg_text_add(text, "        .%s = %s,\n", region->tensors[i].name, region->tensors[i].name);
    for (int i = 0; i < region->view_count; i++) {
        const sg_c_view *view = &region->views[i];
        sg_text_add(text, "        .%s = {", view->name);
        const char *between = "";
        for (int role = 0; role < SG_ROLE_COUNT; role++) {
            if (view->stride[role][0]) {
                sg_text_add(text, "%s.%c = %s", between, letters[role], view->stride[role]);
                between = ", ";
            }
        }
        sg_text_add(text, "%s},\n", *between ? "" : "0");
    }
    sg_text_add(text, "    };\n");
}

/* What there is to return where an axis, walked or not, has no elements. */
static void write_empty(const sg_c_region *region, bool walked, int code, sg_text *text) {
    const char *before = "    if (";
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        if (region->open[role] && walks(region, role) == walked) {
            sg_text_add(text, "%ssize_%c == 0", before, letters[role]);
            before = " || ";
        }
    }
    if (*before == ' ' && before[1] == '|')
        sg_text_add(text, ")\n        return %d;\n", code);
}

void sg_c_write_entry(const sg_c_region *region, const char *name, sg_text *text) {
    sg_c_write_declaration(region, name, text);
    sg_text_add(text, " {\n");
    write_sizes(region, text);
    write_agreement(region, text);
    write_strides(region, text);
    write_empty(region, true, 5, text);
    write_empty(region, false, 0, text);
    sg_text_add(text, "    if (!workspace");
    for (int i = 0; i < region->tensor_count; i++)
        sg_text_add(text, " || !%s", region->tensors[i].name);
    sg_text_add(text, ")\n        return 6;\n");
    write_arguments(region, text);
    sg_text_add(text, "    run@(&a, workspace);\n    return 0;\n}\n\n");
}
