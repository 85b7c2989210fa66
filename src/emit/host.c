#include "emit/host.h"

#include <stdio.h>
#include <string.h>

#include "emit/text.h"
#include "gen/cuda/arguments.h"

static const char REFUSED[] = "sizes or addresses are none that the kernels take";

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

/* ---- parameters ---------------------------------------------------------------------------- */

bool sg_emit_host_open(const sg_emission *emission, sg_emit_text *host) {
    *host = (sg_emit_text){.emission = emission, .problem = emission->paths[0].problem};
    return sg_emit_measure(host);
}

/* Whether a parameter has no type of its own in plain C. */
static bool is_opaque(const sg_emit_member *member) {
    return member->layout.dtype != SG_F32 && member->layout.dtype != SG_F64;
}

/* "A tensor: float [n, 64, in_h, in_w]" */
static const char *describe(const sg_emit_text *host, int index) {
    const sg_emit_member *member = &host->emission->members[index];
    const sg_layout *layout = &member->layout;
    const char *text = sg_emit_join(host, "%s: %s [", member->name, sg_emit_type(layout->dtype));
    const char *order = "";
    bool in_order = true;
    for (int dim = 0; dim < layout->rank; dim++)
        text = sg_emit_join(host, "%s%s%s", text, dim ? ", " : "",
                            sg_emit_caller_size(host, host->sizes[index][dim]));
    for (int dim = 0; dim < layout->rank; dim++) {
        bool several = layout->size[dim] > 1;
        for (int inner = dim + 1; inner < layout->rank && several; inner++)
            in_order &= layout->size[inner] == 1 || layout->stride[inner] < layout->stride[dim];
        order =
            sg_emit_join(host, "%s%s%s", order, dim ? ", " : "", sg_emit_stride(host, index, dim));
    }
    return in_order ? sg_emit_join(host, "%s]", text)
                    : sg_emit_join(host, "%s] with strides [%s]", text, order);
}

void sg_emit_describe(const sg_emit_text *host, sg_text *text) {
    const sg_emission *emission = host->emission;
    const char *words = "";
    for (int i = 0; i < emission->member_count; i++)
        words = sg_emit_join(host, "%s%s%s%s", words, i ? "; " : "",
                             emission->members[i].output ? "result " : "", describe(host, i));
    sg_text_add(text, "%s", words);
}

void sg_emit_signature(const sg_emit_text *host, sg_text *text) {
    const sg_emission *emission = host->emission;
    const char *line = sg_emit_join(host, "const char *%s(", emission->name);
    for (int i = 0; i < emission->member_count; i++) {
        const sg_emit_member *member = &emission->members[i];
        line = sg_emit_join(
            host, "%s%s%s%s *%s", line, i ? ", " : "", member->output ? "" : "const ",
            is_opaque(member) ? "void" : sg_emit_type(member->layout.dtype), member->name);
    }
    if (sg_emit_workspace(emission))
        line = sg_emit_join(host, "%s, void *workspace", line);
    for (int i = 0; i < host->parameter_count; i++)
        line = sg_emit_join(host, "%s, long long %s", line, host->parameters[i]);
    sg_text_add(text, "%s, cudaStream_t stream)", line);
}

/* ---- words --------------------------------------------------------------------------------- */

/* The expression for an address. */
static const char *address(const sg_emit_text *host, const sg_word *word) {
    const sg_emission *emission = host->emission;
    if (word->kind == SG_WORD_WORKSPACE)
        return sg_emit_join(host,
                            "reinterpret_cast<decltype(a.%s)>(static_cast<char *>(workspace) + %s)",
                            word->name, word->formula);
    bool output = word->kind == SG_WORD_OUTPUT;
    int index = (output ? emission->output_member : emission->input_member)[word->index];
    const sg_emit_member *member = &emission->members[index];
    return is_opaque(member) ? sg_emit_join(host, "static_cast<%s%s *>(%s)", output ? "" : "const ",
                                            sg_cuda_type(member->layout.dtype), member->name)
                             : member->name;
}

/* A text of one launch, whose parameter is called `name` instead of `a`. */
static const char *rename_words(const sg_emit_text *host, const char *text, const char *name) {
    const char *made = "", *begin = text;
    for (const char *at = text; *at; at++) {
        bool word = at[0] == 'a' && at[1] == '.' && (at == text || !sg_emit_is_letter(at[-1]));
        if (!word)
            continue;
        made = sg_emit_join(host, "%s%.*s%s", made, (int)(at - begin), begin, name);
        begin = at + 1;
    }
    return sg_emit_join(host, "%s%s", made, begin);
}

/* One more statement on a line, or on a new one. */
static void add_statement(const char *indent, const char *statement, size_t *column,
                          sg_text *text) {
    enum { COLUMNS = 100 };
    if (*column == 0 && strlen(indent) + strlen(statement) > COLUMNS) {
        sg_emit_long(indent, statement, text);
        return;
    }
    if (*column > 0 && *column + 1 + strlen(statement) > COLUMNS) {
        sg_text_add(text, "\n");
        *column = 0;
    }
    sg_text_add(text, "%s%s", *column ? " " : indent, statement);
    *column += strlen(statement) + (*column ? 1 : strlen(indent));
}

typedef enum word_part { ALL_WORDS, TENSORS, NUMBERS } word_part;

/* The statements for a parameter that is called `name`; they share lines. */
static void write_words(const sg_emit_text *host, const sg_cuda_launch *launch, word_part part,
                        const char *name, const char *indent, sg_text *text) {
    size_t column = 0;
    for (int i = 0; i < launch->word_count; i++) {
        const sg_word *word = &launch->words[i], *next = word + 1;
        bool number = word->kind == SG_WORD_NUMBER;
        const char *line =
            sg_emit_join(host, "a.%s = %s;", word->name,
                         number ? sg_emit_spell(host, word->formula) : address(host, word));
        if (i + 2 < launch->word_count && next->kind == SG_WORD_NUMBER && !next[1].name &&
            next[1].kind == SG_WORD_NUMBER) { /* a tensor's strides */
            line = sg_emit_join(host, "%s a.%s = {", line, next->name);
            for (int k = 0; k < SG_ROLE_COUNT; k++)
                line = sg_emit_join(host, "%s%s%s", line, k ? ", " : "",
                                    sg_emit_spell(host, next[k].formula));
            line = sg_emit_join(host, "%s};", line);
            i += SG_ROLE_COUNT;
        }
        if (part == ALL_WORDS || number == (part == NUMBERS))
            add_statement(indent, rename_words(host, line, name), &column, text);
    }
    sg_text_add(text, column ? "\n" : "");
}

/* What a launch takes for granted, of words of its own or of none. NULL: nothing that may fail. */
static const char *conditions(const sg_emit_text *host, const sg_cuda_launch *launch,
                              bool of_words) {
    const char *all = NULL;
    for (int i = 0; i < launch->assumption_count; i++) {
        const char *holds = launch->assumptions[i].holds;
        if ((strstr(holds, "a.") != NULL) == of_words)
            all = all ? sg_emit_join(host, "%s && %s", all, sg_emit_spell(host, holds))
                      : sg_emit_spell(host, holds);
    }
    return all ? sg_emit_open_conditions(host, all) : NULL;
}

/* Why: the sentences, for people. */
static void write_reasons(const sg_emit_text *host, const char *indent,
                          const sg_cuda_launch *launch, bool of_words, sg_text *text) {
    const char *all = NULL;
    for (int i = 0; i < launch->assumption_count; i++) {
        const sg_cuda_assumption *assumed = &launch->assumptions[i];
        if ((strstr(assumed->holds, "a.") != NULL) == of_words &&
            sg_emit_open_conditions(host, sg_emit_spell(host, assumed->holds)))
            all = all ? sg_emit_join(host, "%s; %s", all, assumed->sentence) : assumed->sentence;
    }
    if (all)
        sg_emit_wrap(sg_emit_join(host, "%s/* ", indent), sg_emit_join(host, "%s * ", indent),
                     sg_emit_join(host, "%s */", all), text);
}

/* ---- paths --------------------------------------------------------------------------------- */

/* The parameter of a launch, filled. */
static void write_words_of(const sg_emit_text *host, const sg_emit_launch *made, const char *name,
                           const char *indent, sg_text *text) {
    sg_text_add(text, "%s%s::Arguments %s;\n", indent, made->name, name);
    if (host->alike)
        sg_text_add(text, "%stake_tensors(%s);\n", indent, name);
    write_words(host, made->launch, host->alike ? NUMBERS : ALL_WORDS, name, indent, text);
}

/* Launches of a path in order, of which `count` are; the first that fails is the last. */
static void write_launches(const sg_emit_text *host, const sg_emit_launch *launches, int count,
                           const char *const *names, const char *indent, sg_text *text) {
    for (int i = 0; i < count; i++) {
        const sg_cuda_launch *launch = launches[i].launch;
        const char *blocks =
            rename_words(host, sg_emit_spell(host, launch->grid_formula), names[i]);
        const char *call =
            sg_emit_join(host, "launch(%s::%s, %s, %s, %d, %lld, stream%s)", launches[i].name,
                         launch->entry, names[i], blocks, launch->block, (long long)launch->shared,
                         launch->early ? ", true" : "");
        if (i + 1 < count)
            call = sg_emit_join(host, "if (const char *wrong = %s)", call);
        else
            call = sg_emit_join(host, "return %s;", call);
        sg_emit_long(indent, call, text);
        if (i + 1 < count)
            sg_text_add(text, "%s    return wrong;\n", indent);
    }
}

/* A path's arguments, filled, and its launches; where it takes more for granted than holds, the
 * next path follows. The last says what does not hold. */
static void write_path(const sg_emit_text *host, const sg_emit_launch *launches, int count,
                       bool last, sg_text *text) {
    const char *names[SG_CUDA_LAUNCHES_MAX], *before = NULL, *behind = NULL, *there = "";
    const char *indent = last ? "    " : "        ";
    sg_text words = {0}, reasons[2] = {{0}, {0}};
    for (int i = 0; i < count; i++) {
        names[i] = count == 1 ? "a" : sg_emit_join(host, "a%d", i);
        there = sg_emit_join(host, "%s%sprepare(%s::%s, %d, %lld)", there, i ? " && " : "",
                             launches[i].name, launches[i].launch->entry, launches[i].launch->block,
                             (long long)launches[i].launch->shared);
        write_words_of(host, &launches[i], names[i], indent, &words);
        const char *sizes = conditions(host, launches[i].launch, false);
        const char *of_words = conditions(host, launches[i].launch, true);
        if (sizes)
            before = before ? sg_emit_join(host, "%s && %s", before, sizes) : sizes;
        if (of_words)
            of_words = rename_words(host, of_words, names[i]);
        if (of_words)
            behind = behind ? sg_emit_join(host, "%s && %s", behind, of_words) : of_words;
        write_reasons(host, "    ", launches[i].launch, false, &reasons[0]);
        write_reasons(host, indent, launches[i].launch, true, &reasons[1]);
    }
    if (before)
        before = sg_emit_open_conditions(host, before);
    sg_text_add(text, "%s", before && reasons[0].data ? reasons[0].data : "");
    if (!last)
        sg_emit_long(
            "    ",
            sg_emit_join(host, "if (%s%s%s) {", before ? before : "", before ? " && " : "", there),
            text);
    else if (before)
        sg_emit_check(host, before, REFUSED, text);
    sg_text_add(text, "%s%s", words.data ? words.data : "",
                behind && reasons[1].data ? reasons[1].data : "");
    if (behind && last)
        sg_emit_check(host, behind, REFUSED, text);
    else if (behind)
        sg_emit_long(indent, sg_emit_join(host, "if (%s)%s", behind, count > 1 ? " {" : ""), text);
    bool nested = behind && !last;
    write_launches(host, launches, count, names, nested ? "            " : indent, text);
    sg_text_add(text, "%s%s", nested && count > 1 ? "        }\n" : "", last ? "" : "    }\n");
    text->failed |= words.failed || reasons[0].failed || reasons[1].failed;
    sg_text_release(&words);
    sg_text_release(&reasons[0]);
    sg_text_release(&reasons[1]);
}

/* A function for both paths, where they are one launch each and take the same tensors. */
static void write_tensors(sg_emit_text *host, const sg_emit_launch *launches, int count,
                          sg_text *text) {
    sg_text first = {0}, any = {0};
    if (count == 2 && launches[0].path != launches[1].path) {
        write_words(host, launches[0].launch, TENSORS, "a", "        ", &first);
        write_words(host, launches[1].launch, TENSORS, "a", "        ", &any);
        host->alike = first.data && any.data && strcmp(first.data, any.data) == 0;
    }
    if (host->alike)
        sg_text_add(text, "    const auto take_tensors = [=](auto &a) {\n%s    };\n", first.data);
    text->failed |= first.failed || any.failed;
    sg_text_release(&first);
    sg_text_release(&any);
}

/* ---- the function -------------------------------------------------------------------------- */

/* The launches of a path: how many there are from `first` on. */
static int count_path(const sg_emit_launch *launches, int first, int count) {
    int behind = first;
    while (behind < count && launches[behind].path == launches[first].path)
        behind++;
    return behind - first;
}

static void write_sizes(const sg_emit_text *host, const char *body, sg_text *text) {
    const char *derived = NULL;
    for (int i = 0; i < host->derived_count; i++) {
        const char *name = host->derived[i][0];
        bool used = false;
        for (const char *at = strstr(body, name); at && !used; at = strstr(at + 1, name))
            used = at > body && !sg_emit_is_letter(at[-1]) && at[-1] != '.' &&
                   !sg_emit_is_letter(at[strlen(name)]);
        if (used)
            derived =
                sg_emit_join(host, "%s%s = %s", derived ? sg_emit_join(host, "%s, ", derived) : "",
                             name, host->derived[i][1]);
    }
    if (derived)
        sg_emit_long("    ", sg_emit_join(host, "const long long %s;", derived), text);
}

static void write_function(sg_emit_text *host, const sg_emit_launch *launches, int count,
                           sg_text *text) {
    const sg_problem *problem = host->problem;
    sg_text signature = {0}, body = {0};
    sg_emit_signature(host, &signature);
    sg_emit_long("", sg_emit_join(host, "extern \"C\" %s {", signature.data ? signature.data : ""),
                 text);
    const char *wrong = problem->has_convolution
                            ? "the image is smaller than the filter, or a size is 2^30 or more"
                            : "a size is negative, 2^30 or more, or 0 where it is reduced";
    if (host->range)
        sg_emit_check(host, host->range, wrong, &body);
    if (host->equal)
        sg_emit_check(host, host->equal, "sizes of a tensor do not agree", &body);
    const char *empty = NULL;
    for (int i = 0; i < host->parameter_count; i++) {
        const char *name = host->parameters[i];
        if (!problem->has_convolution || strcmp(name, "n") == 0)
            empty =
                sg_emit_join(host, "%s%s%s == 0", empty ? empty : "", empty ? " || " : "", name);
    }
    if (empty)
        sg_emit_long("    ", sg_emit_join(host, "if (%s) return nullptr;", empty), &body);
    write_tensors(host, launches, count, &body);
    for (int first = 0; first < count; first += count_path(launches, first, count)) {
        int of = count_path(launches, first, count);
        write_path(host, launches + first, of, first + of == count, &body);
    }
    write_sizes(host, body.data ? body.data : "", text);
    if (body.data && strstr(body.data, "processors"))
        sg_text_add(text, "    int device = 0, processors = 0;\n"
                          "    cudaGetDevice(&device);\n"
                          "    cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, "
                          "device);\n");
    sg_text_add(text, "%s}\n", body.data ? body.data : "");
    text->failed |= signature.failed || body.failed;
    sg_text_release(&signature);
    sg_text_release(&body);
}

/* Whether the code is there is asked once a device; a few threads may ask at once. */
static void write_prepare(sg_text *text) {
    sg_text_add(
        text,
        "/* Whether the current device has a kernel's code; it then gives it shared memory. */\n"
        "template <class A> static bool prepare(void (*kernel)(A), int threads, int shared) {\n"
        "    static std::atomic<int> known[256]; /* by device: 0 not asked yet, 1 no, 2 yes */\n"
        "    int device = 0;\n"
        "    cudaGetDevice(&device);\n"
        "    if (known[device] == 0) {\n"
        "        cudaFuncAttributes found;\n"
        "        const auto memory = cudaFuncAttributeMaxDynamicSharedMemorySize;\n"
        "        known[device] = cudaFuncGetAttributes(&found, kernel) == cudaSuccess &&\n"
        "                found.maxThreadsPerBlock >= threads &&\n"
        "                cudaFuncSetAttribute(kernel, memory, shared) == cudaSuccess ? 2 : 1;\n"
        "        cudaGetLastError(); /* of code that is not there */\n"
        "    }\n"
        "    return known[device] == 2;\n}\n\n");
}

static void write_launch(bool early, sg_text *text) {
    sg_text_add(
        text,
        "%stemplate <class A>\n"
        "static const char *launch(void (*kernel)(A), const A &a, long long blocks, int threads, "
        "int shared,\n                   cudaStream_t stream%s) {\n"
        "    if (blocks > 2147483647)\n        return \"the result is too large\";\n"
        "    if (!prepare(kernel, threads, shared))\n        return \"the GPU has not what "
        "the kernel needs\";\n",
        early ? "/* early: may begin before the kernel before has ended. */\n" : "",
        early ? ", bool early = false" : "");
    if (early)
        sg_text_add(text, "    cudaLaunchAttribute begins;\n"
                          "    begins.id = cudaLaunchAttributeProgrammaticStreamSerialization;\n"
                          "    begins.val.programmaticStreamSerializationAllowed = 1;\n");
    sg_text_add(text,
                "    const cudaLaunchConfig_t how = {dim3(unsigned(blocks)), dim3(threads), "
                "size_t(shared), stream,\n                                    %s};\n"
                "    const cudaError_t status = cudaLaunchKernelEx(&how, kernel, a);\n"
                "    return status == cudaSuccess ? nullptr : cudaGetErrorString(status);\n}\n\n",
                early ? "&begins, early" : "nullptr, 0");
}

static void write_helpers(const char *body, sg_text *text) {
    static const struct {
        const char *call, *text;
    } helpers[] = {
        {"least(", "static long long least(long long x, long long y) { return x < y ? x : y; }\n"},
        {"most(", "static long long most(long long x, long long y) { return x > y ? x : y; }\n"},
        {"pieces(",
         "static long long pieces(long long x, long long y) { return (x + y - 1) / y; }\n"},
        {"aligned(", "static bool aligned(const void *address, unsigned long long bytes) {\n"
                     "    return reinterpret_cast<unsigned long long>(address) % bytes == 0;\n}\n"},
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
    sg_text_add(text, "\n");
}

int64_t sg_emit_workspace(const sg_emission *emission) {
    int64_t most = 0;
    for (int p = 0; p < emission->path_count; p++) {
        int64_t own = emission->paths[p].kernel->workspace;
        most = own > most ? own : most;
    }
    return most;
}

void sg_emit_host(sg_emit_text *host, const sg_emit_launch *launches, int count, sg_text *text) {
    const sg_emission *emission = host->emission;
    sg_text body = {0};
    bool early = false;
    for (int i = 0; i < count; i++)
        early |= launches[i].launch->early;
    write_prepare(&body);
    write_launch(early, &body);
    if (sg_emit_workspace(emission))
        sg_text_add(&body, "extern \"C\" long long %s_workspace() { return %lld; }\n\n",
                    emission->name, (long long)sg_emit_workspace(emission));
    write_function(host, launches, count, &body);
    sg_text_add(text, "\n/* ---- the host's side ------------------------------------------------"
                      "------------------------ */\n");
    if (body.data) {
        write_helpers(body.data, text);
        sg_text_add(text, "%s} // namespace %s_code\n", body.data, emission->name);
    }
    text->failed |= body.failed;
    sg_text_release(&body);
}
