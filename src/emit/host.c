#include "emit/host.h"

#include <stdio.h>
#include <string.h>

#include "emit/text.h"
#include "gen/cuda/arguments.h"

const char *sg_emit_type(sg_dtype dtype) {
    static const char *const types[SG_DTYPE_COUNT] = {[SG_BOOL] = "bool",
                                                      [SG_F16] = "half",
                                                      [SG_BF16] = "bfloat16",
                                                      [SG_F32] = "float",
                                                      [SG_F64] = "double"};
    return types[dtype];
}

/* "segue_conv_wgmma_ring" -> "wgmma_ring" */
static const char *bare_entry(const char *entry) {
    static const char *const prefixes[] = {"segue_", "conv_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        if (strncmp(entry, prefixes[i], strlen(prefixes[i])) == 0)
            entry += strlen(prefixes[i]);
    }
    return entry;
}

/* Whether a path's instructions are sm_90a's: warpgroup products, or large ones of doubles. */
static bool is_for_hopper(const sg_emit_path *path) {
    const char *name = path->choice->strategy->name;
    bool doubles = strcmp(name, "mma") == 0 && path->problem->compute == SG_F64;
    return strncmp(name, "wgmma", 5) == 0 || (doubles && path->target->gpu.major >= 9);
}

int sg_emit_list_launches(const sg_emission *emission, sg_emit_launch *launches) {
    int count = 0;
    for (int p = 0; p < emission->path_count; p++) {
        const sg_emit_path *path = &emission->paths[p];
        for (int i = 0; i < path->kernel->launch_count; i++) {
            sg_emit_launch *made = &launches[count];
            *made = (sg_emit_launch){.path = path, .launch = &path->kernel->launches[i]};
            made->guarded = is_for_hopper(path);
            const char *bare = bare_entry(made->launch->entry);
            bool taken = false;
            for (int k = 0; k < count; k++)
                taken |= strcmp(launches[k].name, bare) == 0;
            snprintf(made->name, sizeof made->name, "%s%s", bare, taken ? "_any" : "");
            count++;
        }
    }
    return count;
}

/* Where the first path took several axes for one, tensors must lie so. */
static void write_merged(const sg_emit_text *host, const sg_emit_path *path, sg_text *conditions) {
    const sg_problem *problem = path->problem;
    const sg_region *region = problem->region;
    const sg_graph *graph = region->graph;
    for (int outer = 0; outer < SG_AXIS_COUNT; outer++) {
        int inner = problem->merged_into[outer] - 1;
        for (int i = 0; inner >= 0 && i < problem->access_count + graph->output_count; i++) {
            bool output = i >= problem->access_count;
            int index = output ? i - problem->access_count : problem->accesses[i].operand.index;
            sg_value value = output ? graph->outputs[index] : graph->inputs[index];
            int dims[2] = {-1, -1};
            for (int dim = 0; dim < sg_graph_node(graph, value)->type.rank; dim++) {
                sg_axes axes = region->members[value].dims[dim];
                if (!output &&
                    !sg_region_operand_axes(region, problem->accesses[i].node, value, dim, &axes))
                    continue;
                for (int k = 0; k < axes.count; k++) {
                    dims[0] = axes.first + k == outer ? dim : dims[0];
                    dims[1] = axes.first + k == inner ? dim : dims[1];
                }
            }
            if (dims[0] < 0 || dims[0] == dims[1])
                continue;
            const char *tensor =
                sg_emit_spell(host, sg_emit_join(host, "%s%d", output ? "output" : "input", index));
            sg_text_add(conditions, "%s%s.stride[%d] == %s.stride[%d] * s.%c",
                        conditions->length ? " && " : "", tensor, dims[0], tensor, dims[1],
                        sg_emit_axes[inner]);
        }
    }
}

/* ---- words --------------------------------------------------------------------------------- */

/* An address: the statement that sets it. */
static void write_address(const sg_emit_text *host, const sg_word *word, sg_text *text) {
    const sg_emission *emission = host->emission;
    if (word->kind == SG_WORD_WORKSPACE) {
        sg_text_add(
            text,
            "    a.%s = reinterpret_cast<decltype(a.%s)>(static_cast<char *>(t.workspace) + "
            "%s);\n",
            word->name, word->name, word->formula);
        return;
    }
    bool output = word->kind == SG_WORD_OUTPUT;
    const int *members = output ? emission->output_member : emission->input_member;
    const sg_emit_member *member = &emission->members[members[word->index]];
    sg_text_add(text, "    a.%s = static_cast<%s%s *>(t.%s.data);\n", word->name,
                output ? "" : "const ", sg_cuda_type(member->layout.dtype), member->name);
}

/* One more statement on a line, or on a new one. */
static void add_statement(const char *statement, size_t *column, sg_text *text) {
    enum { COLUMNS = 100 };
    if (*column > 0 && *column + 1 + strlen(statement) > COLUMNS) {
        sg_text_add(text, "\n");
        *column = 0;
    }
    sg_text_add(text, "%s%s", *column ? " " : "    ", statement);
    *column += strlen(statement) + (*column ? 1 : 4);
}

typedef enum word_part { ALL_WORDS, TENSORS, NUMBERS } word_part;

/* Numbers that follow each other share lines. */
static void write_words(const sg_emit_text *host, const sg_cuda_launch *launch, word_part part,
                        sg_text *text) {
    size_t column = 0;
    for (int i = 0; i <= launch->word_count; i++) {
        const sg_word *word = i < launch->word_count ? &launch->words[i] : NULL;
        bool stride = word && word->kind == SG_WORD_NUMBER && i + 1 < launch->word_count &&
                      launch->words[i + 1].kind == SG_WORD_NUMBER && !launch->words[i + 1].name;
        bool number = word && word->kind == SG_WORD_NUMBER && !stride;
        if (column > 0 && !number) {
            sg_text_add(text, "\n");
            column = 0;
        }
        if (word && part != ALL_WORDS && number != (part == NUMBERS)) {
            i += stride ? SG_ROLE_COUNT - 1 : 0;
        } else if (number) {
            add_statement(
                sg_emit_join(host, "a.%s = %s;", word->name, sg_emit_spell(host, word->formula)),
                &column, text);
        } else if (stride) {
            const char *line = sg_emit_join(host, "a.%s = {", word->name);
            for (int k = 0; k < SG_ROLE_COUNT; k++)
                line = sg_emit_join(host, "%s%s%s", line, k ? ", " : "",
                                    sg_emit_spell(host, word[k].formula));
            sg_emit_long("    ", sg_emit_join(host, "%s};", line), text);
            i += SG_ROLE_COUNT - 1;
        } else if (word) {
            write_address(host, word, text);
        }
    }
}

/* The conditions that name words of the launch, or those that do not. */
static void write_assumptions(const sg_emit_text *host, const sg_emit_launch *made, bool of_words,
                              sg_text *text) {
    const sg_emission *emission = host->emission;
    const sg_cuda_launch *launch = made->launch;
    bool last = made->path == &emission->paths[emission->path_count - 1];
    const char *format = last ? "the kernels take for granted that %s" : "%s";
    for (int i = 0; i < launch->assumption_count; i++) {
        const sg_cuda_assumption *assumed = &launch->assumptions[i];
        if ((strstr(assumed->holds, "a.") != NULL) == of_words)
            sg_emit_check(host, sg_emit_spell(host, assumed->holds),
                          sg_emit_join(host, format, assumed->sentence), text);
    }
}

/* Whether a text reads a member of `s`. */
static bool names_sizes(const char *body) {
    for (const char *at = body ? strstr(body, "s.") : NULL; at; at = strstr(at + 1, "s.")) {
        if (at == body || !sg_emit_is_letter(at[-1]))
            return true;
    }
    return false;
}

/* The function that fills one launch's words, or says what it takes for granted in vain. */
static void write_fill(const sg_emit_text *host, const sg_emit_launch *made, sg_text *text) {
    const sg_cuda_launch *launch = made->launch;
    sg_text body = {0}, merged = {0};
    if (launch == &made->path->kernel->launches[0])
        write_merged(host, made->path, &merged);
    if (merged.length)
        sg_emit_check(host, merged.data, "neighbouring axes lie behind each other", &body);
    write_assumptions(host, made, false, &body);
    if (host->alike)
        sg_text_add(&body, "    take_tensors(t, a);\n");
    write_words(host, launch, host->alike ? NUMBERS : ALL_WORDS, &body);
    write_assumptions(host, made, true, &body);
    sg_emit_long("    ",
                 sg_emit_join(host, "blocks = %s;", sg_emit_spell(host, launch->grid_formula)),
                 &body);
    sg_emit_long("",
                 sg_emit_join(host,
                              "const char *fill(const Call &t, const Sizes &%s, "
                              "%s::Arguments &a, long long &blocks) {",
                              names_sizes(body.data) ? "s" : "", made->name),
                 text);
    sg_text_add(text, "%s    return nullptr;\n}\n\n", body.data ? body.data : "");
    text->failed |= body.failed || merged.failed;
    sg_text_release(&body);
    sg_text_release(&merged);
}

/* ---- the calls ----------------------------------------------------------------------------- */

/* A function for both paths, where they are one launch each and take the same tensors. */
static void write_tensors(sg_emit_text *host, const sg_emit_launch *launches, int count,
                          sg_text *text) {
    sg_text first = {0}, any = {0};
    if (count == 2 && launches[0].path != launches[1].path) {
        write_words(host, launches[0].launch, TENSORS, &first);
        write_words(host, launches[1].launch, TENSORS, &any);
        host->alike = first.data && any.data && strcmp(first.data, any.data) == 0;
    }
    if (host->alike)
        sg_text_add(text,
                    "template <class A> static void take_tensors(const Call &t, A &a) {\n%s}\n\n",
                    first.data);
    text->failed |= first.failed || any.failed;
    sg_text_release(&first);
    sg_text_release(&any);
}

static void write_device(const sg_emit_text *host, const sg_emit_launch *launches, int count,
                         sg_text *text) {
    const sg_emission *emission = host->emission;
    sg_text_add(
        text,
        "/* Whether the device has a kernel's code; gives it the shared memory that it wants. */\n"
        "template <class A> bool prepare(void (*kernel)(A), int threads, int shared) {\n"
        "    cudaFuncAttributes found;\n"
        "    const auto memory = cudaFuncAttributeMaxDynamicSharedMemorySize;\n"
        "    return cudaFuncGetAttributes(&found, kernel) == cudaSuccess &&\n"
        "        found.maxThreadsPerBlock >= threads &&\n"
        "        cudaFuncSetAttribute(kernel, memory, shared) == cudaSuccess;\n}\n\n"
        "%s/* The current device, prepared in the first call there. */\n"
        "static Device current_device() {\n"
        "    static std::mutex one;\n"
        "    static std::map<int, Device> known;\n"
        "    const std::lock_guard<std::mutex> lock(one);\n"
        "    int number = -1;\n"
        "    cudaGetDevice(&number);\n"
        "    if (known.count(number) == 0) {\n"
        "        Device &device = known[number];\n"
        "        cudaDeviceGetAttribute(&device.processors, cudaDevAttrMultiProcessorCount, "
        "number);\n",
        emission->path_count > 1
            ? "struct Device { int processors; bool first; }; // first: has the first path's code\n"
            : "struct Device { int processors; };\n");
    for (int p = 0; p < emission->path_count; p++) {
        bool last = p + 1 == emission->path_count;
        const char *line = last ? "" : "device.first = ";
        int of = 0;
        for (int i = 0; i < count; i++) {
            if (launches[i].path == &emission->paths[p])
                line = sg_emit_join(host, "%s%sprepare(%s::%s, %d, %lld)", line,
                                    of++ ? (last ? "; " : " && ") : "", launches[i].name,
                                    launches[i].launch->entry, launches[i].launch->block,
                                    (long long)launches[i].launch->shared);
        }
        sg_emit_long("        ", sg_emit_join(host, "%s;", line), text);
    }
    sg_text_add(text, "        cudaGetLastError(); /* of code that is not there */\n    }\n"
                      "    return known[number];\n}\n\n");
}

static void write_launch(bool early, sg_text *text) {
    sg_text_add(text,
                "%stemplate <class A>\n"
                "const char *launch(void (*kernel)(A), A &a, long long blocks, int threads, "
                "size_t shared,\n           cudaStream_t stream%s) {\n"
                "    if (blocks > 2147483647)\n        return \"the result is too large\";\n",
                early ? "/* early: may begin before the kernel before has ended. */\n" : "",
                early ? ", bool early = false" : "");
    if (early)
        sg_text_add(text,
                    "    cudaLaunchAttribute begins;\n"
                    "    begins.id = cudaLaunchAttributeProgrammaticStreamSerialization;\n"
                    "    begins.val.programmaticStreamSerializationAllowed = 1;\n"
                    "    cudaLaunchConfig_t how = {dim3(unsigned(blocks)), dim3(threads), shared, "
                    "stream, &begins, early};\n"
                    "    const cudaError_t status = cudaLaunchKernelEx(&how, kernel, a);\n");
    else
        sg_text_add(text, "    void *words[] = {&a};\n"
                          "    const cudaError_t status =\n        cudaLaunchKernel(kernel, "
                          "dim3(unsigned(blocks)), dim3(threads), words, shared, stream);\n");
    sg_text_add(text,
                "    return status == cudaSuccess ? nullptr : cudaGetErrorString(status);\n}\n\n");
}

/* Members of Sizes that the text names. */
static void write_sizes(const char *body, sg_text *text) {
    static const char *const names[] = {"n", "c", "d", "h", "w", "in_d", "in_h", "in_w"};
    sg_text_add(text,
                "/* Of the result's axes, and of the input's. */\nstruct Sizes {\n    long long ");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char member[16];
        snprintf(member, sizeof member, "s.%s", names[i]);
        bool used = false;
        for (const char *at = strstr(body, member); at; at = strstr(at + 1, member))
            used |= !sg_emit_is_letter(at[strlen(member)]);
        if (used)
            sg_text_add(text, "%s, ", names[i]);
    }
    sg_text_add(text, "processors;\n};\n\n");
}

static void write_helpers(const char *body, sg_text *text) {
    static const struct {
        const char *call, *text;
    } helpers[] = {
        {"least(", "static long long least(long long x, long long y) { return x < y ? x : y; }\n"},
        {"most(", "static long long most(long long x, long long y) { return x > y ? x : y; }\n"},
        {"pieces(",
         "static long long pieces(long long x, long long y) { return (x + y - 1) / y; }\n"},
        {"aligned(", "static bool aligned(const Tensor &tensor, unsigned long long bytes) {\n"
                     "    return reinterpret_cast<unsigned long long>(tensor.data) % bytes == 0;"
                     "\n}\n"},
        {"has_sizes(", "static bool has_sizes(const Tensor &tensor, "
                       "std::initializer_list<long long> sizes) {\n"
                       "    return std::equal(sizes.begin(), sizes.end(), tensor.size);\n}\n"},
        {"reciprocal(", "/* What a kernel divides by: x / divisor is the upper half of 2 x times "
                        "the lower 32 bits,\n"
                        " * shifted right by the upper 32 (Granlund and Montgomery, 1994). */\n"
                        "static long long reciprocal(long long divisor) {\n"
                        "    int shift = 0;\n"
                        "    if (divisor < 1 || divisor > 1LL << 31)\n        return 0;\n"
                        "    while (1LL << shift < divisor)\n        shift++;\n"
                        "    return (long long)shift << 32 | ((1ULL << (31 + shift)) + divisor - "
                        "1) / divisor;\n}\n"},
    };
    for (size_t i = 0; i < sizeof helpers / sizeof *helpers; i++) {
        if (strstr(body, helpers[i].call))
            sg_text_add(text, "%s", helpers[i].text);
    }
}

int64_t sg_emit_workspace(const sg_emission *emission) {
    int64_t most = 0;
    for (int p = 0; p < emission->path_count; p++) {
        int64_t own = emission->paths[p].kernel->workspace;
        most = own > most ? own : most;
    }
    return most;
}

/* A path's arguments, filled and launched in order; what cannot be filled leads to the next path.
 */
static void write_path(const sg_emit_text *host, const sg_emit_launch *launches, int count,
                       const sg_emit_path *path, bool last, sg_text *text) {
    const char *condition = last ? NULL : "device.first";
    int fills = 0, calls = 0;
    for (int i = 0; i < count; i++) {
        const sg_emit_launch *made = &launches[i];
        if (made->path != path)
            continue;
        sg_text_add(text, "    %s::Arguments a%d;\n    long long blocks%d;\n", made->name, i, i);
        const char *fill = sg_emit_join(host, "fill(t, s, a%d, blocks%d)", i, i);
        if (last)
            sg_text_add(text, "    if (const char *wrong = %s)\n        return wrong;\n", fill);
        else
            condition = sg_emit_join(host, "%s && !%s", condition, fill);
        fills++;
    }
    const char *indent = last ? "    " : "        ";
    if (!last)
        sg_emit_long("    ", sg_emit_join(host, "if (%s) {", condition), text);
    for (int i = 0; i < count; i++) {
        const sg_emit_launch *made = &launches[i];
        if (made->path != path)
            continue;
        const char *call =
            sg_emit_join(host, "launch(%s::%s, a%d, blocks%d, %d, %lld, stream%s)", made->name,
                         made->launch->entry, i, i, made->launch->block,
                         (long long)made->launch->shared, made->launch->early ? ", true" : "");
        if (++calls < fills)
            sg_text_add(text, "%sif (const char *wrong = %s)\n%s    return wrong;\n", indent, call,
                        indent);
        else
            sg_text_add(text, "%sreturn %s;\n", indent, call);
    }
    if (!last)
        sg_text_add(text, "    }\n");
}

static void write_public(const sg_emit_text *host, const sg_emit_launch *launches, int count,
                         bool asked, sg_text *text) {
    const sg_emission *emission = host->emission;
    const char *name = emission->name, *empty = NULL;
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        if (!sg_emit_is_fixed(host->problem, axis))
            empty = empty ? sg_emit_join(host, "%s || s.%c == 0", empty, sg_emit_axes[axis])
                          : sg_emit_join(host, "s.%c == 0", sg_emit_axes[axis]);
    }
    if (asked)
        sg_text_add(text,
                    "extern \"C\" long long %s_workspace(const Call *) {\n    return %lld;\n}\n\n",
                    name, (long long)sg_emit_workspace(emission));
    sg_text_add(text,
                "extern \"C\" const char *%s(const Call *call, cudaStream_t stream) {\n"
                "    const Call &t = *call;\n"
                "    const Device device = current_device();\n"
                "    Sizes s;\n"
                "    s.processors = device.processors;\n"
                "    if (const char *wrong = measure(t, s))\n        return wrong;\n",
                name);
    if (empty)
        sg_text_add(text, "    if (%s)\n        return nullptr;\n", empty);
    for (int p = 0; p < emission->path_count; p++)
        write_path(host, launches, count, &emission->paths[p], p + 1 == emission->path_count, text);
    sg_text_add(text, "}\n");
}

void sg_emit_host(const sg_emission *emission, const sg_emit_launch *launches, int count,
                  bool asked, sg_text *text) {
    sg_emit_text host = {.emission = emission, .problem = emission->paths[0].problem};
    sg_text body = {0};
    bool early = false;
    sg_emit_measure(&host);
    sg_text_add(
        &body,
        "/* Finds the sizes. Null, or what is wrong with those of the tensors. */\n"
        "static const char *measure(const Call &t, Sizes &s) {\n%s    return nullptr;\n}\n\n",
        host.measure.data ? host.measure.data : "");
    write_tensors(&host, launches, count, &body);
    for (int i = 0; i < count; i++) {
        write_fill(&host, &launches[i], &body);
        early |= launches[i].launch->early;
    }
    write_device(&host, launches, count, &body);
    write_launch(early, &body);
    write_public(&host, launches, count, asked, &body);
    sg_text_add(text,
                "\n/* ---- the host's side --------------------------------------------------------"
                "---------------- */\n"
                "using Call = %s_arguments;\nusing Tensor = %s_tensor;\n",
                emission->name, emission->name);
    if (body.data) {
        write_sizes(body.data, text);
        write_helpers(body.data, text);
        sg_text_add(text, "%s} // namespace %s_code\n", body.data, emission->name);
    }
    text->failed |= body.failed || host.measure.failed;
    sg_text_release(&body);
    sg_text_release(&host.measure);
}
