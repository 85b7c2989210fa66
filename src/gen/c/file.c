#include "gen/c/file.h"

#include <stdio.h>
#include <string.h>

#include "gen/c/pieces.h"
#include "gen/c/region.h"

typedef struct writer {
    const sg_c_step *steps;
    int count;
    const char *name;
    sg_arena arena;
    sg_dtype compute;
    sg_emit_part part;
    sg_text functions, declarations, whole;
} writer;

/* A text with its @ replaced by the region's number, if there are several. */
static void add_numbered(const writer *writer, int step, const char *from, sg_text *to) {
    char number[16] = "";
    if (writer->count > 1)
        snprintf(number, sizeof number, "_%d", step + 1);
    for (const char *at = from; *at;) {
        size_t length = strcspn(at, "@");
        sg_text_add(to, "%.*s", (int)length, at);
        at += length;
        if (*at == '@') {
            sg_text_add(to, "%s", number);
            at++;
        }
    }
}

/* ---- one region ---------------------------------------------------------------------------- */

static void write_statements(const sg_graph *graph, sg_text *text) {
    for (sg_value value = 0; value < graph->node_count; value++) {
        const sg_node *node = sg_graph_node(graph, value);
        if (node->op == SG_OP_input || (node->op == SG_OP_constant && node->name[0] == '#'))
            continue;
        sg_text statement = {0};
        sg_node_print(graph, value, &statement);
        const char *at = statement.data ? statement.data : "";
        sg_text_add(text, " *   %s\n", at + strspn(at, " "));
        sg_text_release(&statement);
    }
}

static void write_step(writer *writer, int step, sg_c_region *region) {
    const sg_problem *problem = region->problem;
    sg_text text = {0}, comment = {0};
    sg_c_write_region(region, &text);
    sg_c_write_entry(region, writer->name, &text);
    sg_text_add(&comment, "/* ---- %s@: one pass for\n *\n", writer->name);
    write_statements(region->graph, &comment);
    sg_text_add(&comment, " *\n * ");
    if (problem->flops > 0)
        sg_text_add(&comment, "%.4g operations in the convolution, ", problem->flops);
    sg_text_add(&comment, "%.4g bytes in and out. */\n\n", problem->bytes);
    add_numbered(writer, step, comment.data ? comment.data : "", &writer->functions);
    add_numbered(writer, step, text.data ? text.data : "", &writer->functions);
    writer->functions.failed |= text.failed || comment.failed;
    sg_text_release(&text);
    sg_text_release(&comment);

    sg_text_add(&text, "/* One pass for\n");
    write_statements(region->graph, &text);
    sg_text_add(&text, " * Shapes:\n");
    sg_c_write_shapes(region, &text);
    sg_text_add(&text, " */\n");
    sg_c_write_declaration(region, writer->name, &text);
    sg_text_add(&text, ";\n\n");
    add_numbered(writer, step, text.data ? text.data : "", &writer->declarations);
    writer->declarations.failed |= text.failed;
    sg_text_release(&text);
}

/* An axis without elements has nothing that a reduction could begin with. */
static bool reduces_nothing(const sg_problem *problem) {
    return problem->size[SG_ROLE_C] == 0;
}

static sg_status add_step(writer *writer, int step) {
    const sg_c_step *given = &writer->steps[step];
    sg_context *context = given->graph->context;
    sg_region region;
    sg_problem problem;
    sg_c_region made;
    sg_status status = sg_region_open(given->graph, &region);
    if (status != SG_OK)
        return status;
    if (!sg_region_cover(&region))
        status = sg_fail(context, SG_NOT_APPLICABLE, "%s", region.reason);
    if (status == SG_OK)
        status =
            sg_c_problem_create(&region, given->layouts, given->layouts + given->graph->input_count,
                                &writer->arena, &problem);
    if (status == SG_OK && reduces_nothing(&problem))
        status = sg_fail(context, SG_NOT_APPLICABLE, "the region has no channels");
    if (status == SG_OK && step > 0 && region.compute != writer->compute)
        status = sg_fail(context, SG_NOT_APPLICABLE,
                         "region %d computes in %s and those before it in %s; a file has one type",
                         step + 1, sg_dtype_name(region.compute), sg_dtype_name(writer->compute));
    writer->compute = region.compute;
    if (status == SG_OK)
        status = sg_c_region_open(&problem, &writer->arena, &made);
    if (status == SG_OK) {
        made.order = given->order;
        write_step(writer, step, &made);
        sg_c_region_close(&made);
    }
    sg_region_close(&region);
    return status;
}

/* Lines that go on with a function's parameters begin where the parameters do, if there they fit.
 */
static void add_aligned(const char *from, sg_text *to) {
    size_t indent = 0;
    bool inside = false;
    while (*from) {
        size_t length = strcspn(from, "\n");
        if (inside) {
            size_t blanks = strspn(from, " ");
            sg_text_add(to, "%*s", (int)(indent + length - blanks > 100 ? 4 : indent), "");
            from += blanks;
            length -= blanks;
        }
        bool opens = strncmp(from, "static ", 7) == 0 || strncmp(from, "int ", 4) == 0;
        indent = opens ? strcspn(from, "(") + 1 : indent;
        inside = (opens || inside) && length > 0 && from[length - 1] == ',';
        sg_text_add(to, "%.*s\n", (int)length, from);
        from += length + (from[length] == '\n');
    }
}

/* ---- the file ------------------------------------------------------------------------------ */

static void write_common(writer *writer) {
    sg_text *text = &writer->functions;
    sg_text_add(text, "size_t %s_workspace(void) {\n", writer->name);
    if (writer->count == 1) {
        sg_text_add(text, "    return sizeof(struct tile);\n}\n\n");
    } else {
        sg_text_add(text, "    size_t most = 0;\n");
        for (int i = 1; i <= writer->count; i++)
            sg_text_add(
                text, "    most = sizeof(struct tile_%d) > most ? sizeof(struct tile_%d) : most;\n",
                i, i);
        sg_text_add(text, "    return most;\n}\n\n");
    }
    sg_text_add(text,
                "const char *%s_error(int code) {\n"
                "    static const char *const sentences[] = {\n"
                "        \"%s: no error\",\n"
                "        \"%s: a size is negative or above 2^40\",\n"
                "        \"%s: the input with its padding is smaller than the kernel\",\n"
                "        \"%s: two operators want other sizes of the same tensor\",\n"
                "        \"%s: a stride is negative, or a tensor exceeds 2^59 elements\",\n"
                "        \"%s: a reduction over no elements\",\n"
                "        \"%s: a tensor or the workspace is NULL\",\n"
                "    };\n"
                "    const int count = sizeof sentences / sizeof *sentences;\n"
                "    return code >= 0 && code < count ? sentences[code] : \"%s: unknown error\";\n"
                "}\n",
                writer->name, writer->name, writer->name, writer->name, writer->name, writer->name,
                writer->name, writer->name, writer->name);
}

static void write_header(writer *writer) {
    sg_text *text = &writer->whole;
    const char *name = writer->name;
    sg_text_add(
        text,
        "/* %s: written by Segue %d.%d.%d.\n *\n"
        " * Sizes are numbers of elements. T_stride: elements of tensor T from one index to "
        "the next, one\n"
        " * number for each dimension; NULL: there are no gaps, and the last dimension is "
        "innermost. f16 and\n"
        " * bf16 are a number's bits as uint16_t; bool is one byte, 0 or 1. Outputs (->) may "
        "not overlap\n"
        " * what is read.\n *\n"
        " * Functions return 0, or a code that %s_error tells in words; nothing is written "
        "then.\n"
        " * workspace: %s_workspace() bytes, aligned as malloc does, for one call at a time. "
        "*/\n",
        name, SG_VERSION_MAJOR, SG_VERSION_MINOR, SG_VERSION_PATCH, name, name);
    sg_text_add(text,
                "#ifndef %s_H\n#define %s_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n"
                "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n%s",
                name, name, writer->declarations.data ? writer->declarations.data : "");
    sg_text_add(text,
                "size_t %s_workspace(void);\nconst char *%s_error(int code);\n\n"
                "#ifdef __cplusplus\n}\n#endif\n\n#endif\n",
                name, name);
}

static void write_source(writer *writer) {
    sg_text *text = &writer->whole;
    const char *name = writer->name;
    write_common(writer);
    sg_text_add(
        text,
        "/* %s: written by Segue %d.%d.%d. C11 and its library, nothing else:\n *\n"
        " *     cc -std=c11 -O3 -march=native -c %s.c\n *\n"
        " * A function goes over its tensors once. What stands between its operators lies in "
        "a `struct tile`,\n"
        " * which holds all channels of a run of pixels and stays in the cache. Reductions "
        "over pixels keep\n"
        " * running values. */\n",
        name, SG_VERSION_MAJOR, SG_VERSION_MINOR, SG_VERSION_PATCH, name);
    if (writer->part == SG_EMIT_UNIT)
        write_header(writer);
    else
        sg_text_add(text, "#include \"%s.h\"\n", name);
    sg_text_add(text, "\n#include <string.h>\n#include <tgmath.h>\n\n"
                      "/* ---- arithmetic and memory "
                      "---------------------------------------------------------------- */\n\n");
    const char *functions = writer->functions.data ? writer->functions.data : "";
    sg_c_write_pieces(functions, writer->compute, &writer->arena, text);
    sg_text_add(text, "%s", functions);
}

static void write_cmake(writer *writer) {
    const char *name = writer->name;
    sg_text_add(&writer->whole,
                "# %s: written by Segue %d.%d.%d.\n"
                "cmake_minimum_required(VERSION 3.20)\n"
                "project(%s LANGUAGES C)\n\n"
                "add_library(%s %s.c)\n"
                "target_include_directories(%s PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})\n"
                "target_compile_features(%s PRIVATE c_std_11)\n"
                "target_compile_options(%s PRIVATE -O3 -march=native)\n"
                "target_link_libraries(%s PUBLIC m)\n",
                name, SG_VERSION_MAJOR, SG_VERSION_MINOR, SG_VERSION_PATCH, name, name, name, name,
                name, name, name);
}

sg_status sg_c_write_file(const sg_c_step *steps, int count, const char *name, sg_emit_part part,
                          char **text) {
    writer writer = {.steps = steps, .count = count, .name = name, .part = part};
    sg_status status = SG_OK;
    for (int i = 0; i < count && status == SG_OK; i++)
        status = add_step(&writer, i);
    if (status == SG_OK) {
        if (part == SG_EMIT_HEADER)
            write_header(&writer);
        else if (part == SG_EMIT_CMAKE)
            write_cmake(&writer);
        else
            write_source(&writer);
        bool failed =
            sg_arena_failed(&writer.arena) || writer.functions.failed || writer.declarations.failed;
        sg_text aligned = {0};
        add_aligned(writer.whole.data ? writer.whole.data : "", &aligned);
        char *made = sg_text_take(&aligned);
        if (failed || writer.whole.failed || !made) {
            status = sg_fail_memory(steps[0].graph->context);
            sg_string_free(made);
        } else {
            *text = made;
        }
    }
    sg_text_release(&writer.functions);
    sg_text_release(&writer.declarations);
    sg_text_release(&writer.whole);
    sg_arena_release(&writer.arena);
    return status;
}
