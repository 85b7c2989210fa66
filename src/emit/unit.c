/* The text of a unit: what it is, what the caller sees, the kernels of each path, and the host. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "emit/compact.h"
#include "emit/host.h"
#include "emit/items.h"
#include "gen/cuda/arguments.h"

enum { SOURCES_MAX = SG_EMIT_PATHS * SG_CUDA_LAUNCHES_MAX };

static const char *const precisions[SG_PRECISION_COUNT] = {
    [SG_PRECISION_FP32] = "float32 operands as precise as a library's float32",
    [SG_PRECISION_TF32] =
        "operands rounded to the 11 bits of tf32, halves away from zero, float32 sums",
    [SG_PRECISION_TF32_EVEN] =
        "operands rounded to the 11 bits of tf32, halves to even, float32 sums",
    [SG_PRECISION_PLAIN_TF32] =
        "operands rounded to the 11 bits of tf32, halves away from zero, float32 sums",
};

/* What a strategy is, in words. */
static const struct {
    const char *strategy, *words;
} strategies[] = {
    {"wgmma_ring", "warpgroup products on weights that stay in shared memory, the input rolling "
                   "through a ring of slices"},
    {"wgmma_gathered",
     "warpgroup products on pixels gathered in registers, few channels and the taps "
     "side by side"},
    {"wgmma_packed", "warpgroup products on patches of the input, its few channels and the taps "
                     "packed side by side"},
    {"wgmma_streamed", "warpgroup products on boxes of input and blocks of weights that stream "
                       "through shared memory"},
    {"mma", "warp products on boxes of pixels"},
    {"implicit_gemm", "warp products of gathered pixels by channels"},
    {"direct", "plain arithmetic on tiles of pixels and channels in registers"},
    {"stream", "one pass over memory, without a contraction"},
};

static const char *words_of(const sg_cuda_choice *choice) {
    for (size_t i = 0; i < sizeof strategies / sizeof *strategies; i++) {
        if (strcmp(strategies[i].strategy, choice->strategy->name) == 0)
            return strategies[i].words;
    }
    return choice->strategy->name;
}

/* ---- comments ------------------------------------------------------------------------------ */

/* whole: with the numbers of its plan, which constants repeat. last: of the comment. */
static void write_plan(const sg_emit_path *path, const char *title, bool whole, bool last,
                       sg_text *text) {
    sg_text words = {0};
    const sg_cuda_choice *choice = path->choice;
    sg_text_add(&words, "%s (%s): %s", title, choice->strategy->name, words_of(choice));
    for (int i = 0; choice->strategy->parameters[i] && whole; i++)
        sg_text_add(&words, "%s %s %lld", i ? "," : ";", choice->strategy->parameters[i],
                    (long long)choice->plan.parameter[i]);
    sg_text_add(&words, last ? ". */" : ".");
    sg_emit_wrap(" * ", " *    ", words.data, text);
    text->failed |= words.failed;
    sg_text_release(&words);
}

/* whole: of a file of its own; else what is around it says what it is of, numbers and how it is
 * built. */
static void write_title(const sg_emission *emission, bool whole, sg_text *text) {
    const sg_graph *graph = emission->graph;
    const sg_emit_path *first = &emission->paths[0];
    const sg_problem *problem = first->problem;
    sg_text_add(text, "/* %s, for any batch and image%s\n", emission->name, whole ? ", of" : ".");
    for (sg_value value = 0; value < graph->node_count && whole; value++) {
        const sg_node *node = sg_graph_node(graph, value);
        if (node->op == SG_OP_constant && node->name[0] == '#')
            continue;
        sg_text line = {0};
        sg_node_print(graph, value, &line);
        if (line.data)
            sg_emit_wrap(" *     ", " *         ", line.data, text);
        text->failed |= line.failed;
        sg_text_release(&line);
    }
    bool rounds = problem->has_convolution && problem->convolution.input.dtype == SG_F32;
    if (whole)
        sg_text_add(text, " * Written by Segue %s.\n", sg_version());
    if (whole && rounds)
        sg_text_add(text, " * Precision: %s.\n", precisions[first->target->precision]);
    if (whole)
        sg_text_add(
            text,
            " * Work at the sizes above: %.4g flops; %.4g bytes at least, %.4g ms on an %s.\n",
            problem->flops, problem->bytes, problem->bytes / first->target->gpu.copy * 1e3,
            first->target->gpu.architecture);
    write_plan(first, "First path", whole, !whole && emission->path_count == 1, text);
    if (emission->path_count > 1)
        write_plan(&emission->paths[1], "Any sizes and addresses", whole, !whole, text);
    if (whole)
        sg_text_add(text, " *\n * nvcc -gencode arch=compute_80,code=sm_80 -gencode "
                          "arch=compute_90a,code=sm_90a\n */\n");
}

/* ---- declarations -------------------------------------------------------------------------- */

/* What a caller sees. plain: for C too. */
static void write_declarations(const sg_emit_text *host, bool plain, sg_text *text) {
    const sg_emission *emission = host->emission;
    sg_text words = {0}, line = {0};
    sg_emit_describe(host, &words);
    bool works = sg_emit_workspace(emission) > 0;
    sg_text_add(&words,
                ". All lie in device memory, dense%s. Enqueues the kernel on a stream of the "
                "current device. Null, or what is wrong. */",
                works ? sg_emit_join(host, "; workspace: %s_workspace() bytes, aligned to 256",
                                     emission->name)
                      : "");
    if (plain)
        sg_text_add(text, "#ifdef __cplusplus\nextern \"C\" {\n#endif\n");
    const char *linkage = plain ? "" : "extern \"C\" ";
    if (works)
        sg_text_add(text, "%slong long %s_workspace(%s);\n", linkage, emission->name,
                    plain ? "void" : "");
    if (words.data)
        sg_emit_wrap("/* ", " * ", words.data, text);
    sg_emit_signature(host, &line);
    sg_emit_long("", sg_emit_join(host, "%s%s;", linkage, line.data ? line.data : ""), text);
    if (plain)
        sg_text_add(text, "#ifdef __cplusplus\n}\n#endif\n");
    text->failed |= words.failed || line.failed;
    sg_text_release(&words);
    sg_text_release(&line);
}

sg_status sg_emit_header(const sg_emission *emission, sg_text *text) {
    sg_emit_text host;
    if (!sg_emit_host_open(emission, &host))
        return SG_OUT_OF_MEMORY;
    sg_text_add(text, "/* %s: see %s.cu. Written by Segue %s. */\n#pragma once\n\n", emission->name,
                emission->name, sg_version());
    sg_text_add(text, "#include <cuda_runtime_api.h>\n\n");
    write_declarations(&host, true, text);
    return text->failed ? SG_OUT_OF_MEMORY : SG_OK;
}

sg_status sg_emit_cmake(const sg_emission *emission, sg_text *text) {
    const char *name = emission->name;
    sg_text_add(text,
                "# %s as a static library. Written by Segue %s.\n"
                "cmake_minimum_required(VERSION 3.20)\n"
                "if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)\n"
                "    set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real)\nendif()\n"
                "project(%s LANGUAGES CUDA CXX)\n\n"
                "find_package(CUDAToolkit REQUIRED)\n"
                "add_library(%s STATIC %s.cu)\n"
                "target_compile_features(%s PRIVATE cuda_std_17)\n"
                "target_include_directories(%s PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})\n"
                "target_link_libraries(%s PUBLIC CUDA::cudart)\n",
                name, sg_version(), name, name, name, name, name, name);
    return text->failed ? SG_OUT_OF_MEMORY : SG_OK;
}

/* ---- kernels ------------------------------------------------------------------------------- */

#define INCLUDES "#include <cuda_runtime.h>\n#include <atomic>\n"

static bool begins(const char *line, const char *word) {
    return strncmp(line, word, strlen(word)) == 0;
}

/* Copies text, with what nvcc wants and NVRTC does not: a kernel's linkage is its namespace's, and
 * functions for constants are called from both sides. */
static void write_code(const char *code, sg_text *text) {
    static const char linkage[] = "extern \"C\" ";
    while (*code) {
        int length = (int)strcspn(code, "\n");
        bool function = begins(code, "constexpr ") && code[strcspn(code, "(=;{")] == '(';
        if (begins(code, linkage) && begins(code + strlen(linkage), "__global__")) {
            code += strlen(linkage);
            length -= (int)strlen(linkage);
        }
        sg_text_add(text, "%s%.*s\n", function ? "__host__ __device__ " : "", length, code);
        code += length + (code[length] == '\n');
    }
}

static void write_items(const sg_items *items, sg_item_place place, sg_text *text) {
    sg_text code = {0};
    sg_items_write(items, place, &code);
    if (code.data)
        write_code(code.data, text);
    text->failed |= code.failed;
    sg_text_release(&code);
}

/* Macros of one source would be seen by the next, or by the next unit in a file. */
static void forget_macros(const sg_items *items, bool shared, sg_text *text) {
    for (int i = 0; i < items->count; i++) {
        const sg_item *item = &items->items[i];
        const char *define = strstr(item->text.at, "#define");
        if ((item->place == SG_ITEM_SHARED) == shared && item->name_count == 1 && define &&
            define < item->text.at + item->text.length)
            sg_text_add(text, "#undef %.*s\n", item->names[0].length, item->names[0].at);
    }
}

static void write_source(const sg_emit_launch *launch, const sg_items *items, sg_text *text) {
    sg_text_add(
        text, "\n/* ---- %s %.*s */\nnamespace %s {\n", launch->name,
        (int)(88 - strlen(launch->name)),
        "-----------------------------------------------------------------------------------"
        "----------",
        launch->name);
    write_items(items, SG_ITEM_EARLY, text);
    if (launch->guarded)
        sg_text_add(text, "\n#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)\n");
    write_items(items, SG_ITEM_OWN, text);
    if (launch->guarded)
        sg_text_add(
            text,
            "\n#else /* other GPUs have no such instructions: here for the host to find */\n"
            "__global__ void __launch_bounds__(32) %s(const __grid_constant__ Arguments a) "
            "{}\n#endif\n",
            launch->launch->entry);
    forget_macros(items, false, text);
    sg_text_add(text, "} // namespace %s\n", launch->name);
}

sg_status sg_emit_unit(const sg_emission *emission, bool with_declarations, sg_text *text) {
    sg_emit_launch launches[SOURCES_MAX];
    sg_items sources[SOURCES_MAX] = {{NULL, 0}};
    sg_emit_text host;
    if (!sg_emit_host_open(emission, &host))
        return SG_OUT_OF_MEMORY;
    int count = sg_emit_list_launches(emission, launches);
    for (int i = 0; i < count; i++) {
        if (!sg_items_cut(launches[i].launch->source, emission->arena, &sources[i]))
            return SG_OUT_OF_MEMORY;
    }
    if (count > 1) {
        sg_items_share(sources, count);
        sg_items_make_templates(sources, count, emission->arena);
    }
    for (int i = 0; i < count; i++)
        sg_items_hurry(&sources[i], "Arguments");
    write_title(emission, !with_declarations, text);
    if (with_declarations) {
        sg_text_add(text, INCLUDES "\n");
        write_declarations(&host, false, text);
    } else {
        sg_text_add(text, "#include \"%s.h\"\n\n" INCLUDES, emission->name);
    }
    sg_text_add(text, "\nnamespace %s_code {\n", emission->name);
    sg_text code = {0};
    if (count > 1)
        write_items(&sources[0], SG_ITEM_SHARED, &code);
    for (int i = 0; i < count; i++)
        write_source(&launches[i], &sources[i], &code);
    forget_macros(&sources[0], true, &code);
    sg_emit_host(&host, launches, count, &code);
    if (code.data)
        sg_emit_compact(code.data, emission->arena, text);
    text->failed |= code.failed;
    sg_text_release(&code);
    return text->failed ? SG_OUT_OF_MEMORY : SG_OK;
}
