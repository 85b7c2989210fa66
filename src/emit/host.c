#include "emit/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gen/cuda/arguments.h"

/* What the host's text is made from, and the sentences that its results stand for. */
typedef struct host {
    const sg_emission *emission;
    const sg_problem *problem; /* of the first path; all have the same region */
    sg_text sentences;
    int sentence_count;
    sg_text measure; /* the body of measure() */
    sg_text *text;
} host;

/* Results below 0: the first is the path's own business, the others are sentences. */
enum { FIRST_SENTENCE = 2 };

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

int sg_emit_list_launches(const sg_emission *emission, sg_emit_launch *launches) {
    int count = 0;
    for (int p = 0; p < emission->path_count; p++) {
        const sg_emit_path *path = &emission->paths[p];
        for (int i = 0; i < path->kernel->launch_count; i++) {
            sg_emit_launch *made = &launches[count];
            *made = (sg_emit_launch){.path = path, .launch = &path->kernel->launches[i]};
            made->guarded = strncmp(path->choice->strategy->name, "wgmma", 5) == 0;
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

/* ---- expressions --------------------------------------------------------------------------- */

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Takes `length` characters out of a text. */
static void take_out(char *at, size_t length) {
    memmove(at, at + length, strlen(at + length) + 1);
}

/* Does without factors and divisors of one. */
static void simplify_once(char *text) {
    for (char *at = text; *at; at++) {
        bool begins = at == text || at[-1] == '(' || at[-1] == ' ';
        while (strncmp(at, " * 1", 4) == 0 && !is_letter(at[4]))
            take_out(at, 4);
        while (strncmp(at, " / 1", 4) == 0 && !is_letter(at[4]))
            take_out(at, 4);
        while (begins && strncmp(at, "1 * ", 4) == 0 && (at - text < 2 || at[-2] != '/'))
            take_out(at, 4);
        if (begins && strncmp(at, "pieces(", 7) == 0) {
            char *comma = at + 7 + strcspn(at + 7, ",()");
            if (strncmp(comma, ", 1)", 4) == 0) {
                take_out(comma, 4);
                take_out(at, 7);
            }
        }
        if (begins && strncmp(at, "most(1, 1)", 10) == 0) {
            take_out(at, 9);
            *at = '1';
        }
    }
}

static void simplify(char *text) {
    for (size_t length = 0; length != strlen(text);) {
        length = strlen(text);
        simplify_once(text);
    }
}

/* Reads "input3" and the like. */
static bool reads_tensor(const char *at, const char *kind, long *index, int *length) {
    enum { DECIMAL = 10 };
    size_t before = strlen(kind);
    char *end;
    if (strncmp(at, kind, before) != 0)
        return false;
    *index = strtol(at + before, &end, DECIMAL);
    *length = (int)(end - at);
    return end > at + before;
}

/* A formula with the caller's names for tensors: "input0.size[1]" -> "t.x.size[1]". */
static const char *spell(const host *host, const char *formula) {
    const sg_emission *emission = host->emission;
    sg_text text = {0};
    for (const char *at = formula; *at;) {
        long index = 0;
        int length = 0;
        bool begins = at == formula || (!is_letter(at[-1]) && at[-1] != '.');
        bool input = begins && reads_tensor(at, "input", &index, &length);
        bool output = begins && reads_tensor(at, "output", &index, &length);
        if (input || output) {
            const int *members = input ? emission->input_member : emission->output_member;
            sg_text_add(&text, "t.%s", emission->members[members[index]].name);
            at += length;
        } else {
            sg_text_add(&text, "%c", *at++);
        }
    }
    char *made = text.data ? sg_arena_text(emission->arena, text.data, text.length) : NULL;
    if (made)
        simplify(made);
    sg_text_release(&text);
    return made ? made : "";
}

/* Whether a line may be broken at a space behind this. */
static bool breaks_behind(const char *from, const char *space) {
    static const char *const ends[] = {"&&", "||", "=", "+", "*", "?", ":"};
    if (space > from && (space[-1] == ',' || space[-1] == ';'))
        return true;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t length = strlen(ends[i]);
        if ((size_t)(space - from) > length && strncmp(space - length, ends[i], length) == 0 &&
            space[-(int)length - 1] == ' ')
            return true;
    }
    return false;
}

/* A line, broken where it would go beyond column 100; what follows is indented further. */
static void write_long(const char *indent, const char *line, sg_text *text) {
    enum { COLUMNS = 100 };
    size_t column = strlen(indent);
    sg_text_add(text, "%s", indent);
    while (*line) {
        const char *end = line;
        do {
            end += strspn(end, " ");
            end += strcspn(end, " ");
        } while (*end && !breaks_behind(line, end));
        size_t length = (size_t)(end - line);
        if (column + length > COLUMNS && column > strlen(indent)) {
            line += strspn(line, " ");
            length = (size_t)(end - line);
            column = strlen(indent) + 4;
            sg_text_add(text, "\n%s    ", indent);
        }
        sg_text_add(text, "%.*s", (int)length, line);
        column += length;
        line = end;
    }
    sg_text_add(text, "\n");
}

static const char *join(const host *host, const char *format, ...) SG_FORMAT(2, 3);
static const char *join(const host *host, const char *format, ...) {
    va_list list;
    va_start(list, format);
    const char *text = sg_cuda_formula_list(host->emission->arena, format, list);
    va_end(list);
    return text ? text : "";
}

/* The number of a sentence, which is kept once. */
static int number_of(host *host, const char *sentence) {
    const char *quoted = join(host, "    \"%s\",\n", sentence);
    const char *found = host->sentences.data ? strstr(host->sentences.data, quoted) : NULL;
    if (!found) {
        sg_text_add(&host->sentences, "%s", quoted);
        return FIRST_SENTENCE + host->sentence_count++;
    }
    int number = FIRST_SENTENCE;
    for (const char *at = host->sentences.data; at < found; at++)
        number += *at == '\n';
    return number;
}

static void write_check(host *host, const char *condition, const char *sentence, sg_text *text) {
    write_long("    ", join(host, "if (!(%s))", condition), text);
    sg_text_add(text, "        return -%d;\n", number_of(host, sentence));
}

/* ---- sizes --------------------------------------------------------------------------------- */

static const char axis_letters[] = "ncdhw";

static bool is_fixed(const sg_problem *problem, int axis) {
    return problem->region->size[axis] == 1 || problem->role[axis] == SG_ROLE_C ||
           (problem->role[axis] < 0 && !problem->merged_into[axis]);
}

/* What a dimension along these axes has to be: a product of axes, or a number. */
static const char *expected(const host *host, sg_axes axes) {
    const sg_problem *problem = host->problem;
    const char *product = NULL;
    long long number = 1;
    for (int i = 0; i < axes.count; i++) {
        int axis = axes.first + i;
        if (is_fixed(problem, axis))
            number *= problem->region->size[axis];
        else
            product = product ? join(host, "%s * s.%c", product, axis_letters[axis])
                              : join(host, "s.%c", axis_letters[axis]);
    }
    if (!product)
        return join(host, "%lld", number);
    return number == 1 ? product : join(host, "%s * %lld", product, number);
}

/* Wherever a tensor has this axis to itself. */
static const char *find_size(const host *host, int axis) {
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
                return spell(host, join(host, "input%d.size[%d]", access->operand.index, dim));
        }
    }
    for (int i = 0; i < graph->output_count; i++) {
        const sg_node *node = sg_graph_node(graph, graph->outputs[i]);
        for (int dim = 0; dim < node->type.rank; dim++) {
            sg_axes axes = region->members[graph->outputs[i]].dims[dim];
            if (axes.count == 1 && axes.first == axis)
                return spell(host, join(host, "output%d.size[%d]", i, dim));
        }
    }
    return join(host, "%lld", (long long)region->size[axis]);
}

/* Of an axis of a convolution's result, from the input's. */
static const char *result_size(const host *host, int axis) {
    const sg_convolution *convolution = &host->problem->convolution;
    int64_t reach = (convolution->kernel[axis] - 1) * convolution->dilation[axis] + 1;
    int64_t more = 2 * convolution->padding[axis] - reach;
    int64_t stride = convolution->stride[axis];
    const char *in = sg_cuda_in_size(host->problem, axis);
    if (stride == 1)
        return more == -1 ? in
                          : join(host, "%s %c %lld", in, more < -1 ? '-' : '+',
                                 (long long)(more < -1 ? -more - 1 : more + 1));
    const char *whole = more == 0 ? in
                                  : join(host, "(%s %c %lld)", in, more < 0 ? '-' : '+',
                                         (long long)(more < 0 ? -more : more));
    return join(host, "%s / %lld + 1", whole, (long long)stride);
}

static void write_convolution_sizes(host *host) {
    const sg_problem *problem = host->problem;
    const sg_convolution *convolution = &problem->convolution;
    const sg_operand *input = &convolution->input;
    sg_text *text = &host->measure;
    if (!is_fixed(problem, SG_AXIS_N))
        sg_text_add(
            text, "    s.n = %s;\n",
            spell(host, join(host, "input%d.size[%d]", input->index, input->dim[SG_ROLE_N] - 1)));
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        int role = SG_ROLE_D + axis;
        if (!input->dim[role])
            continue;
        int64_t least = (convolution->kernel[axis] - 1) * convolution->dilation[axis] + 1 -
                        2 * convolution->padding[axis];
        sg_text_add(
            text, "    s.in_%c = %s;\n", axis_letters[role],
            spell(host, join(host, "input%d.size[%d]", input->index, input->dim[role] - 1)));
        write_check(host,
                    join(host, "s.in_%c >= %lld && s.in_%c < 1 << 30", axis_letters[role],
                         (long long)(least > 1 ? least : 1), axis_letters[role]),
                    join(host, "the image is smaller than the filter, or larger than 2^30"), text);
        if (is_fixed(problem, role))
            write_check(host, join(host, "%s == 1", result_size(host, axis)),
                        "this kernel was written for a result of size 1 along an axis", text);
        else
            sg_text_add(text, "    s.%c = %s;\n", axis_letters[role], result_size(host, axis));
    }
}

static void write_free_sizes(host *host) {
    const sg_problem *problem = host->problem;
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        if (is_fixed(problem, axis))
            continue;
        sg_text_add(&host->measure, "    s.%c = %s;\n", axis_letters[axis], find_size(host, axis));
    }
}

/* Sizes of one tensor, dimension by dimension; NULL: what it is. */
static void check_sizes(host *host, const char *tensor, const char *const *sizes, int rank) {
    const char *condition = NULL, *words = NULL;
    for (int dim = 0; dim < rank; dim++) {
        const char *line = join(host, "%s.size[%d] == %s", tensor, dim, sizes[dim]);
        words = words ? join(host, "%s, %s", words, sizes[dim]) : sizes[dim];
        const char *defined = join(host, "%s = %s.size[%d];", sizes[dim], tensor, dim);
        if (host->measure.data && strstr(host->measure.data, defined))
            continue;
        condition = condition ? join(host, "%s && %s", condition, line) : line;
    }
    if (!condition)
        return;
    condition = join(host, "if (!(%s))", condition);
    /* The same tensor may be read twice. */
    sg_text line = {0};
    write_long("    ", condition, &line);
    if (line.data && !(host->measure.data && strstr(host->measure.data, line.data))) {
        const char *plain = "";
        for (const char *at = words; *at; at++)
            plain = at[0] == 's' && at[1] == '.' ? (at++, plain) : join(host, "%s%c", plain, *at);
        sg_text_add(&host->measure, "%s        return -%d;\n", line.data,
                    number_of(host, join(host, "%s must have sizes [%s]", tensor + 2, plain)));
    }
    host->measure.failed |= line.failed;
    sg_text_release(&line);
}

static void check_operand(host *host, const sg_operand *operand, const char *const *by_role) {
    const char *sizes[SG_RANK_MAX];
    if (operand->index < 0)
        return;
    sg_value value = host->emission->graph->inputs[operand->index];
    int rank = sg_graph_node(host->emission->graph, value)->type.rank;
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        if (operand->dim[role])
            sizes[operand->dim[role] - 1] = by_role[role];
    }
    check_sizes(host, spell(host, join(host, "input%d", operand->index)), sizes, rank);
}

static void check_convolution(host *host) {
    const sg_problem *problem = host->problem;
    const sg_convolution *convolution = &problem->convolution;
    const char *channels = join(host, "%lld", (long long)problem->size[SG_ROLE_C]);
    const char *input[SG_ROLE_COUNT], *weight[SG_ROLE_COUNT], *bias[SG_ROLE_COUNT] = {NULL};
    input[SG_ROLE_N] = is_fixed(problem, SG_AXIS_N) ? "1" : "s.n";
    input[SG_ROLE_C] = join(host, "%lld", (long long)convolution->in_channels);
    weight[SG_ROLE_N] = bias[SG_ROLE_C] = channels;
    weight[SG_ROLE_C] =
        join(host, "%lld", (long long)(convolution->in_channels / convolution->groups));
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        input[SG_ROLE_D + axis] = sg_cuda_in_size(problem, axis);
        weight[SG_ROLE_D + axis] = join(host, "%lld", (long long)convolution->kernel[axis]);
    }
    check_operand(host, &convolution->input, input);
    check_operand(host, &convolution->weight, weight);
    check_operand(host, &convolution->bias, bias);
}

static void check_others(host *host) {
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
        check_sizes(host, spell(host, join(host, "input%d", access->operand.index)), sizes, rank);
    }
    for (int i = 0; i < graph->output_count; i++) {
        int rank = sg_graph_node(graph, graph->outputs[i])->type.rank;
        for (int dim = 0; dim < rank; dim++)
            sizes[dim] = expected(host, region->members[graph->outputs[i]].dims[dim]);
        check_sizes(host, spell(host, join(host, "output%d", i)), sizes, rank);
    }
}

/* Axes are counted in 31 bits, and what is reduced has elements. */
static void check_ranges(host *host) {
    const sg_problem *problem = host->problem;
    const char *condition = NULL;
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        if (is_fixed(problem, axis))
            continue;
        bool walked = problem->region->walk >> axis & 1U;
        const char *line = join(host, "s.%c %s && s.%c < 1 << 30", axis_letters[axis],
                                walked ? "> 0" : ">= 0", axis_letters[axis]);
        condition = condition ? join(host, "%s && %s", condition, line) : line;
    }
    if (condition)
        write_check(host, condition, "a size is negative, 2^30 or more, or 0 where it is reduced",
                    &host->measure);
}

/* Where the first path took several axes for one, tensors must lie so. */
static void write_merged(host *host, const sg_emit_path *path, sg_text *conditions) {
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
                spell(host, join(host, "%s%d", output ? "output" : "input", index));
            sg_text_add(conditions, "%s%s.stride[%d] == %s.stride[%d] * s.%c",
                        conditions->length ? " && " : "", tensor, dims[0], tensor, dims[1],
                        axis_letters[inner]);
        }
    }
}

/* ---- words --------------------------------------------------------------------------------- */

/* An address: the statement that sets it. */
static void write_address(const host *host, const sg_word *word, sg_text *text) {
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

/* Numbers that follow each other share lines. */
static void write_words(const host *host, const sg_cuda_launch *launch, sg_text *text) {
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
        if (number) {
            add_statement(join(host, "a.%s = %s;", word->name, spell(host, word->formula)), &column,
                          text);
        } else if (stride) {
            const char *line = join(host, "a.%s = {", word->name);
            for (int k = 0; k < SG_ROLE_COUNT; k++)
                line = join(host, "%s%s%s", line, k ? ", " : "", spell(host, word[k].formula));
            write_long("    ", join(host, "%s};", line), text);
            i += SG_ROLE_COUNT - 1;
        } else if (word) {
            write_address(host, word, text);
        }
    }
}

/* The conditions that name words of the launch, or those that do not. */
static void write_assumptions(host *host, const sg_cuda_launch *launch, bool of_words, bool last,
                              sg_text *text) {
    for (int i = 0; i < launch->assumption_count; i++) {
        const sg_cuda_assumption *assumed = &launch->assumptions[i];
        const char *holds = spell(host, assumed->holds);
        if ((strstr(assumed->holds, "a.") != NULL) != of_words)
            continue;
        if (last) {
            write_check(host, holds,
                        join(host, "this kernel takes for granted that %s", assumed->sentence),
                        text);
        } else {
            write_long("    ", join(host, "if (!(%s))", holds), text);
            sg_text_add(text, "        return UNSUITED; // %s\n", assumed->sentence);
        }
    }
}

static void write_fill(host *host, const sg_emit_launch *made, bool last, sg_text *text) {
    const sg_cuda_launch *launch = made->launch;
    sg_text body = {0};
    write_assumptions(host, launch, false, last, &body);
    write_words(host, launch, &body);
    write_assumptions(host, launch, true, last, &body);
    write_long("    ", join(host, "blocks = %s;", spell(host, launch->grid_formula)), &body);
    bool sized = body.data && strstr(body.data, "s.");
    write_long("",
               join(host,
                    "static int fill(const Call &t, const Sizes &%s, %s::Arguments &a, "
                    "long long &blocks) {",
                    sized ? "s" : "", made->name),
               text);
    sg_text_add(text, "%s    return 0;\n}\n\n", body.data ? body.data : "");
    text->failed |= body.failed;
    sg_text_release(&body);
}

/* ---- the calls ----------------------------------------------------------------------------- */

/* The path that assumes the most has UNSUITED to say that the next one is to be tried. */
static void write_run(host *host, const sg_emit_launch *launches, int count,
                      const sg_emit_path *path, bool last, sg_text *text) {
    sg_text merged = {0};
    int number = 0;
    sg_text_add(text, "static int run_%s(const Call &t, const Sizes &s, cudaStream_t stream) {\n",
                last ? "any" : "first");
    write_merged(host, path, &merged);
    if (merged.length) {
        write_long("    ", join(host, "if (!(%s))", merged.data), text);
        sg_text_add(text, "        return UNSUITED; // neighbouring axes lie behind each other\n");
    }
    sg_text_release(&merged);
    for (int i = 0; i < count; i++) {
        if (launches[i].path == path)
            sg_text_add(text,
                        "    %s::Arguments a%d;\n    long long blocks%d;\n"
                        "    if (int status = fill(t, s, a%d, blocks%d))\n"
                        "        return status;\n",
                        launches[i].name, number, number, number, number),
                number++;
    }
    int of = number;
    number = 0;
    for (int i = 0; i < count; i++) {
        const sg_cuda_launch *launch = launches[i].launch;
        if (launches[i].path != path)
            continue;
        const char *call = join(host, "launch%s(%s::%s, a%d, blocks%d, %d, %lld, stream)",
                                launch->early ? "_early" : "", launches[i].name, launch->entry,
                                number, number, launch->block, (long long)launch->shared);
        if (++number < of)
            sg_text_add(text, "    if (int status = %s)\n        return status;\n", call);
        else
            sg_text_add(text, "    return %s;\n", call);
    }
    sg_text_add(text, "}\n\n");
}

static void write_device(const host *host, const sg_emit_launch *launches, int count,
                         sg_text *text) {
    const sg_emission *emission = host->emission;
    sg_text_add(
        text,
        "/* Whether the device has a kernel's code; gives it the shared memory that it wants. */\n"
        "template <class A> bool prepare(void (*kernel)(A), int threads, int shared) {\n"
        "    const void *address = reinterpret_cast<const void *>(kernel);\n"
        "    cudaFuncAttributes found;\n"
        "    if (cudaFuncGetAttributes(&found, address) == cudaSuccess &&\n"
        "        found.maxThreadsPerBlock >= threads &&\n"
        "        cudaFuncSetAttribute(address, cudaFuncAttributeMaxDynamicSharedMemorySize, "
        "shared) ==\n            cudaSuccess)\n"
        "        return true;\n"
        "    cudaGetLastError();\n    return false;\n}\n\n"
        "/* What is to be known of the current device: found at the first call there. */\n"
        "static int find_device(long long &processors, bool &first) {\n"
        "    enum { DEVICES = 64 };\n"
        "    static std::atomic<int> known[DEVICES]; // 2 * processors + first; 0: not yet\n"
        "    int device, count;\n"
        "    if (int status = cudaGetDevice(&device))\n        return status;\n"
        "    int facts = device < DEVICES ? known[device].load() : 0;\n"
        "    if (facts == 0) {\n"
        "        if (int status = cudaDeviceGetAttribute(&count, "
        "cudaDevAttrMultiProcessorCount, device))\n            return status;\n");
    for (int p = 0; p < emission->path_count; p++) {
        bool last = p + 1 == emission->path_count;
        const char *line = join(host, "const bool %s =", last ? "any" : "is_first");
        int of = 0;
        for (int i = 0; i < count; i++) {
            if (launches[i].path == &emission->paths[p])
                line = join(host, "%s%sprepare(%s::%s, %d, %lld)", line, of++ ? " && " : " ",
                            launches[i].name, launches[i].launch->entry, launches[i].launch->block,
                            (long long)launches[i].launch->shared);
        }
        write_long("        ", join(host, "%s;", line), text);
    }
    const char *first = emission->path_count > 1 ? "is_first" : "false";
    sg_text_add(text,
                "        if (!%s && !any)\n            return cudaErrorNoKernelImageForDevice;\n"
                "        facts = 2 * count + %s;\n"
                "        if (device < DEVICES)\n            known[device].store(facts);\n    }\n"
                "    processors = facts / 2;\n    first = facts %% 2;\n    return 0;\n}\n\n",
                first, first);
}

static void write_launch(bool early, sg_text *text) {
    sg_text_add(text,
                "template <class A>\n"
                "int launch%s(void (*kernel)(A), A &a, long long blocks, int threads, "
                "size_t shared,\n           %scudaStream_t stream) {\n"
                "    void *words[] = {&a};\n"
                "    if (blocks == 0)\n        return 0;\n"
                "    if (blocks > 2147483647)\n        return cudaErrorInvalidConfiguration;\n",
                early ? "_early" : "", early ? "      " : "");
    if (early)
        sg_text_add(
            text, "    cudaLaunchAttribute early; // may begin before the kernel before has ended\n"
                  "    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;\n"
                  "    early.val.programmaticStreamSerializationAllowed = 1;\n"
                  "    cudaLaunchConfig_t how = {dim3(unsigned(blocks)), dim3(threads), shared, "
                  "stream, &early, 1};\n"
                  "    return cudaLaunchKernelExC(&how, reinterpret_cast<const void "
                  "*>(kernel), words);\n}\n\n");
    else
        sg_text_add(text,
                    "    return cudaLaunchKernel(reinterpret_cast<const void *>(kernel), "
                    "dim3(unsigned(blocks)),\n                            dim3(threads), words, "
                    "shared, stream);\n}\n\n");
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
        for (const char *at = body; at && (at = strstr(at, member)); at++)
            used |= !is_letter(at[strlen(member)]);
        if (used)
            sg_text_add(text, "%s, ", names[i]);
    }
    sg_text_add(text, "processors;\n};\n\n");
}

static void write_helpers(const char *body, sg_text *text) {
    static const struct {
        const char *call, *text;
    } helpers[] = {
        {"least(",
         "static long long least(long long x, long long y) {\n    return x < y ? x : y;\n}\n"},
        {"most(",
         "static long long most(long long x, long long y) {\n    return x > y ? x : y;\n}\n"},
        {"pieces(", "static long long pieces(long long whole, long long piece) {\n"
                    "    return (whole + piece - 1) / piece;\n}\n"},
        {"reciprocal(", "/* What a kernel divides by: the upper half of 2 x times the lower 32 "
                        "bits, shifted right "
                        "by the\n * upper 32, is x / divisor (Granlund and Montgomery, 1994). */\n"
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

static void write_public(const host *host, sg_text *text) {
    const sg_emission *emission = host->emission;
    const char *name = emission->name;
    int64_t workspace = 0;
    const char *product = NULL;
    for (int p = 0; p < emission->path_count; p++)
        workspace = emission->paths[p].kernel->workspace > workspace
                        ? emission->paths[p].kernel->workspace
                        : workspace;
    for (int axis = 0; axis < SG_AXIS_COUNT; axis++) {
        if (!is_fixed(host->problem, axis))
            product = product ? join(host, "%s || s.%c == 0", product, axis_letters[axis])
                              : join(host, "s.%c == 0", axis_letters[axis]);
    }
    sg_text_add(text,
                "extern \"C\" int %s(const %s_arguments *arguments, cudaStream_t stream) {\n"
                "    using namespace %s_code;\n"
                "    Sizes s;\n    bool first;\n"
                "    if (int status = find_device(s.processors, first))\n        return status;\n"
                "    if (int status = measure(*arguments, s))\n        return status;\n",
                name, name, name);
    if (product)
        sg_text_add(text, "    if (%s)\n        return 0;\n", product);
    if (emission->path_count > 1)
        sg_text_add(text, "    int status = first ? run_first(*arguments, s, stream) : UNSUITED;\n"
                          "    return status == UNSUITED ? run_any(*arguments, s, stream) : "
                          "status;\n}\n\n");
    else
        sg_text_add(text, "    return run_any(*arguments, s, stream);\n}\n\n");
    sg_text_add(
        text,
        "extern \"C\" long long %s_workspace(const %s_arguments *) {\n    return %lld;\n}\n\n"
        "extern \"C\" const char *%s_message(int status) {\n"
        "    using namespace %s_code;\n"
        "    const int count = sizeof sentences / sizeof *sentences;\n"
        "    if (status >= 0)\n"
        "        return cudaGetErrorString(static_cast<cudaError_t>(status));\n"
        "    return status <= -%d && status > -%d - count ? sentences[-status - %d] : "
        "\"no such status\";\n}\n",
        name, name, (long long)workspace, name, name, FIRST_SENTENCE, FIRST_SENTENCE,
        FIRST_SENTENCE);
}

void sg_emit_host(const sg_emission *emission, const sg_emit_launch *launches, int count,
                  sg_text *text) {
    host host = {.emission = emission, .problem = emission->paths[0].problem, .text = text};
    sg_text body = {0};
    bool early = false;
    if (host.problem->has_convolution)
        write_convolution_sizes(&host);
    else
        write_free_sizes(&host);
    check_ranges(&host);
    if (host.problem->has_convolution)
        check_convolution(&host);
    check_others(&host);
    sg_text_add(&body,
                "/* Finds the sizes, and whether those of all tensors go together. */\n"
                "static int measure(const Call &t, Sizes &s) {\n%s    return 0;\n}\n\n",
                host.measure.data ? host.measure.data : "");
    for (int i = 0; i < count; i++) {
        bool last = launches[i].path == &emission->paths[emission->path_count - 1];
        write_fill(&host, &launches[i], last, &body);
        early |= launches[i].launch->early;
    }
    write_device(&host, launches, count, &body);
    write_launch(false, &body);
    if (early)
        write_launch(true, &body);
    for (int p = 0; p < emission->path_count; p++)
        write_run(&host, launches, count, &emission->paths[p], p + 1 == emission->path_count,
                  &body);
    sg_text_add(text,
                "\n/* ---- the host's side --------------------------------------------------------"
                "---------------- */\n"
                "using Call = %s_arguments;\n",
                emission->name);
    if (body.data) {
        write_sizes(body.data, text);
        write_helpers(body.data, text);
        if (strstr(body.data, "aligned("))
            sg_text_add(text,
                        "static bool aligned(const %s_tensor &tensor, unsigned long long bytes) {\n"
                        "    return reinterpret_cast<unsigned long long>(tensor.data) %% bytes == "
                        "0;\n}\n",
                        emission->name);
        if (emission->path_count > 1)
            sg_text_add(text,
                        "enum { UNSUITED = -1 }; // a path's result: not for these tensors\n");
        sg_text_add(text,
                    "static const char *const sentences[] = { // of results from -%d on\n%s};\n\n",
                    FIRST_SENTENCE, host.sentences.data ? host.sentences.data : "    \"\",\n");
        sg_text_add(text, "%s} // namespace %s_code\n\n", body.data, emission->name);
    }
    write_public(&host, text);
    text->failed |= body.failed || host.sentences.failed || host.measure.failed;
    sg_text_release(&body);
    sg_text_release(&host.sentences);
    sg_text_release(&host.measure);
}
