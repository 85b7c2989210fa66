/* sgc: Segue's command line over the text form of graphs, without Python.
 *
 *     sgc dump --stage S [options] FILE    the graph after a stage of the pipeline
 *     sgc explain [options] FILE           the program: regions, plans, tile programs
 *     sgc emit [options] FILE              source to keep: CUDA for --gpu, else C
 *     sgc run [options] FILE               run on random numbers and compare with float64
 *     sgc bench [options] FILE             time the program
 *     sgc machine | ops | version
 *
 * FILE may be - for standard input. Exit status: 0, 1 when something was wrong with the input or a
 * comparison failed, 2 for a wrong command line. */
#include <argp.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "segue.h"

typedef struct sg_request {
    const char *command, *file, *stage, *sizes, *isa, *gpu, *precision, *strategy, *name;
    sg_emit_part part;
    int threads, repeat, always, tune;
    unsigned seed;
    double scale;
} sg_request;

typedef struct sg_session {
    sg_context *context;
    sg_graph *graph;
    sg_program *program;
    sg_layout *inputs;
    int input_count, output_count;
    char **data; /* inputs, then outputs */
} sg_session;

/* ---- command line --------------------------------------------------------------------------- */

static const struct argp_option options[] = {
    {"stage", 's', "STAGE", 0, "parse, simplify, regions, tile, plan, tail or cuda", 0},
    {"sizes", 'n', "N=4,H=32", 0, "values of the symbolic sizes", 0},
    {"isa", 'i', "ISA", 0, "generic, avx2 or avx512; the best there is if left out", 0},
    {"gpu", 'g', "ARCHITECTURE", 0, "sm_90a, ..., for dump --stage cuda, explain and emit", 0},
    {"precision", 'p', "CLASS", 0, "with --gpu: fp32, tf32, tf32_even or plain_tf32", 0},
    {"strategy", 'y', "NAME", 0, "with --gpu: the strategy to take", 0},
    {"name", 'N', "NAME", 0, "of emit's function (segue)", 0},
    {"part", 'P', "PART", 0, "of emit's text: unit (all in one), header, source or cmake", 0},
    {"threads", 't', "COUNT", 0, "threads; one per processor if left out", 0},
    {"repeat", 'r', "COUNT", 0, "timed runs of bench (15)", 0},
    {"seed", 'e', "NUMBER", 0, "of the random inputs (1)", 0},
    {"scale", 'c', "NUMBER", 0, "largest magnitude of the random inputs (1)", 0},
    {"tune", 'u', NULL, 0, "measure the candidate plans and take the fastest", 0},
    {0}};

/* A whole number in [low, INT_MAX]. */
static int read_count(struct argp_state *state, const char *text, long low) {
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || *end || value < low || value > INT_MAX)
        argp_error(state, "\"%s\" is not a whole number of at least %ld", text, low);
    return (int)value;
}

static sg_emit_part read_part(struct argp_state *state, const char *text) {
    static const char *const parts[] = {"unit", "header", "source", "cmake"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(text, parts[i]) == 0)
            return (sg_emit_part)i;
    }
    argp_error(state, "part \"%s\" is unknown; there are unit, header, source and cmake", text);
    return SG_EMIT_UNIT;
}

static error_t take_option(int key, char *value, struct argp_state *state) {
    sg_request *request = state->input;
    switch (key) {
    case 's':
        request->stage = value;
        break;
    case 'n':
        request->sizes = value;
        break;
    case 'i':
        request->isa = value;
        break;
    case 'g':
        request->gpu = value;
        break;
    case 'p':
        request->precision = value;
        break;
    case 'y':
        request->strategy = value;
        break;
    case 'N':
        request->name = value;
        break;
    case 'P':
        request->part = read_part(state, value);
        break;
    case 't':
        request->threads = read_count(state, value, 0);
        break;
    case 'r':
        request->repeat = read_count(state, value, 1);
        break;
    case 'e':
        request->seed = (unsigned)strtoul(value, NULL, 10);
        break;
    case 'c':
        request->scale = strtod(value, NULL);
        break;
    case 'u':
        request->tune = 1;
        break;
    case ARGP_KEY_ARG:
        if (state->arg_num == 0)
            request->command = value;
        else if (state->arg_num == 1)
            request->file = value;
        else
            argp_error(state, "one FILE at a time; \"%s\" is too many", value);
        break;
    case ARGP_KEY_END:
        if (!request->command)
            argp_error(
                state,
                "a command is wanted: dump, explain, emit, run, bench, machine, ops, version");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp parser = {
    options, take_option, "COMMAND [FILE]", "Compiles and runs graphs of tensor operators.", NULL,
    NULL,    NULL};

/* ---- input ---------------------------------------------------------------------------------- */

static int fail(const char *what, const char *message) {
    fprintf(stderr, "sgc: %s%s%s\n", what, *what ? ": " : "", message);
    return 1;
}

/* The whole stream; NULL when memory ran out or reading failed. */
static char *read_all(FILE *stream, size_t *length) {
    size_t capacity = 1 << 14;
    char *text = malloc(capacity);
    *length = 0;
    while (text) {
        *length += fread(text + *length, 1, capacity - *length, stream);
        if (*length < capacity)
            break;
        char *larger = realloc(text, capacity *= 2);
        if (!larger)
            free(text);
        text = larger;
    }
    if (text && ferror(stream)) {
        free(text);
        return NULL;
    }
    return text;
}

static int read_graph(const sg_request *request, sg_session *session) {
    const char *name = request->file ? request->file : "-";
    FILE *stream = strcmp(name, "-") == 0 ? stdin : fopen(name, "rb");
    if (!stream)
        return fail(name, "no such file, or it cannot be read");
    size_t length;
    char *text = read_all(stream, &length);
    if (stream != stdin)
        fclose(stream);
    if (!text)
        return fail(name, "cannot be read");
    sg_status status = sg_graph_parse(session->context, text, length, &session->graph);
    free(text);
    return status == SG_OK ? 0 : fail(name, sg_context_message(session->context));
}

static int bind_sizes(const sg_request *request, sg_session *session) {
    session->input_count = sg_graph_input_count(session->graph);
    session->output_count = sg_graph_output_count(session->graph);
    session->inputs = calloc((size_t)session->input_count + 1, sizeof *session->inputs);
    if (!session->inputs)
        return fail("", "out of memory");
    sg_status status = sg_graph_layouts(session->graph, request->sizes, session->inputs);
    return status == SG_OK ? 0 : fail("", sg_context_message(session->context));
}

static int compile(const sg_request *request, sg_session *session) {
    sg_compile_options compile_options = {.threads = request->threads,
                                          .isa = request->isa,
                                          .always = 1,
                                          .tune = request->tune,
                                          .gpu = request->gpu,
                                          .precision = request->precision,
                                          .strategy = request->strategy};
    int bad = bind_sizes(request, session);
    if (bad)
        return bad;
    sg_status status = sg_compile(session->graph, session->inputs, session->input_count,
                                  &compile_options, &session->program);
    return status == SG_OK ? 0 : fail("", sg_context_message(session->context));
}

/* ---- data ----------------------------------------------------------------------------------- */

static int64_t count_of(const sg_layout *layout) {
    int64_t count = 1;
    for (int dim = 0; dim < layout->rank; dim++)
        count *= layout->size[dim];
    return count;
}

static double next_random(unsigned long long *state) {
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (double)(*state >> 11) / 9007199254740992.0 * 2 - 1;
}

/* Inputs as doubles, and the same numbers in the graph's dtypes; outputs filled with NaN bytes, so
 * that what is not written shows. */
static int make_data(const sg_request *request, sg_session *session, double **numbers) {
    unsigned long long state = request->seed;
    session->data =
        calloc((size_t)(session->input_count + session->output_count) + 1, sizeof *session->data);
    if (!session->data)
        return fail("", "out of memory");
    for (int i = 0; i < session->input_count + session->output_count; i++) {
        bool input = i < session->input_count;
        const sg_layout *layout =
            input ? &session->inputs[i]
                  : sg_program_output(session->program, i - session->input_count);
        if (layout->dtype != SG_F32 && layout->dtype != SG_F64 &&
            !(layout->dtype == SG_BOOL && !input))
            return fail("", "run and bench take graphs of f32 and f64");
        size_t count = (size_t)count_of(layout);
        numbers[i] = malloc(sizeof(double) * (count + 1));
        session->data[i] = malloc(sizeof(double) * (count + 1));
        if (!numbers[i] || !session->data[i])
            return fail("", "out of memory");
        memset(session->data[i], 0xff, sizeof(double) * (count + 1));
        for (size_t k = 0; input && k < count; k++) {
            double value = next_random(&state) * request->scale;
            if (layout->dtype == SG_F32) {
                ((float *)(void *)session->data[i])[k] = (float)value;
                value = (float)value;
            } else {
                ((double *)(void *)session->data[i])[k] = value;
            }
            numbers[i][k] = value;
        }
    }
    return 0;
}

static double value_at(const sg_layout *layout, const char *data, int64_t index) {
    switch (layout->dtype) {
    case SG_F32:
        return ((const float *)(const void *)data)[index];
    case SG_F64:
        return ((const double *)(const void *)data)[index];
    default:
        return data[index];
    }
}

static int compare_output(const sg_session *session, int output, const double *wanted) {
    const sg_layout *layout = sg_program_output(session->program, output);
    const char *data = session->data[session->input_count + output];
    double error = 0, size = 0;
    for (int64_t i = 0; i < count_of(layout); i++) {
        double got = value_at(layout, data, i);
        double held = layout->dtype == SG_F32 ? (float)wanted[i] : wanted[i];
        bool same_place = isnan(held) ? isnan(got) : isinf(held) ? got == held : isfinite(got);
        if (!same_place)
            error = (double)INFINITY;
        if (isfinite(got) && isfinite(held)) {
            error += (got - wanted[i]) * (got - wanted[i]);
            size += wanted[i] * wanted[i];
        }
    }
    double relative = size > 0 ? sqrt(error / size) : sqrt(error);
    bool good = relative <= (layout->dtype == SG_F64 ? 1e-14 : 2e-6);
    printf("output %%%s: %s\n",
           sg_graph_value_name(session->graph, sg_graph_output(session->graph, output)),
           good ? "agrees with float64" : "DIFFERS from float64");
    if (!good)
        printf("  relative error %g\n", relative);
    return good ? 0 : 1;
}

/* ---- commands ------------------------------------------------------------------------------- */

static int print_text(const sg_session *session, sg_status status, char *text) {
    if (status != SG_OK)
        return fail("", sg_context_message(session->context));
    fputs(text, stdout);
    sg_string_free(text);
    return 0;
}

/* The sources of all launches, for the GPU of the command line. */
static int dump_sources(const sg_request *request, sg_session *session) {
    char *source;
    int bad = compile(request, session);
    for (int i = 0; !bad && sg_program_source(session->program, i, &source) == SG_OK; i++) {
        printf("launch %d:\n%s", i, source);
        sg_string_free(source);
    }
    return bad;
}

static int command_dump(const sg_request *request, sg_session *session) {
    if (!request->stage)
        return fail("dump",
                    "--stage is wanted: parse, simplify, regions, tile, plan, tail or cuda");
    if (request->gpu && strcmp(request->stage, "cuda") == 0)
        return dump_sources(request, session);
    static const char *const sized_stages[] = {"tile", "plan", "tail", "cuda"};
    bool sized = false;
    for (size_t i = 0; i < sizeof sized_stages / sizeof *sized_stages; i++)
        sized |= strcmp(request->stage, sized_stages[i]) == 0;
    int bad = sized ? bind_sizes(request, session) : 0;
    if (bad)
        return bad;
    char *text = NULL;
    sg_status status =
        sg_graph_dump(session->graph, request->stage, session->inputs, session->input_count, &text);
    return print_text(session, status, text);
}

static int command_explain(const sg_request *request, sg_session *session) {
    int bad = compile(request, session);
    if (bad)
        return bad;
    char *text = NULL;
    sg_status status = sg_program_explain(session->program, &text);
    return print_text(session, status, text);
}

static int command_emit(const sg_request *request, sg_session *session) {
    sg_compile_options compile_options = {
        .gpu = request->gpu, .precision = request->precision, .strategy = request->strategy};
    int bad = bind_sizes(request, session);
    if (bad)
        return bad;
    char *text = NULL;
    sg_status status = request->gpu
                           ? sg_emit_cuda(session->graph, session->inputs, session->input_count,
                                          &compile_options, request->name, request->part, &text)
                           : sg_emit_c(session->graph, session->inputs, session->input_count,
                                       request->name, request->part, &text);
    return print_text(session, status, text);
}

static int run_once(const sg_request *request, const sg_session *session) {
    sg_status status =
        sg_program_run(session->program, (const void *const *)session->data,
                       (void *const *)(session->data + session->input_count), request->threads);
    return status == SG_OK ? 0 : fail("", "out of memory while running");
}

static int command_run(const sg_request *request, sg_session *session, double **numbers) {
    int bad = run_once(request, session);
    if (bad)
        return bad;
    sg_status status =
        sg_reference_run(session->graph, session->inputs, session->input_count,
                         (const double *const *)numbers, numbers + session->input_count);
    if (status != SG_OK)
        return fail("", sg_context_message(session->context));
    for (int i = 0; i < session->output_count; i++)
        bad |= compare_output(session, i, numbers[session->input_count + i]);
    return bad;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int by_size(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static int command_bench(const sg_request *request, const sg_session *session) {
    double *seconds = calloc((size_t)request->repeat + 1, sizeof *seconds);
    int bad = seconds ? run_once(request, session) : fail("", "out of memory");
    for (int i = 0; i < request->repeat && !bad; i++) {
        double start = now();
        bad = run_once(request, session);
        seconds[i] = now() - start;
    }
    if (!bad) {
        qsort(seconds, (size_t)request->repeat, sizeof *seconds, by_size);
        double median = seconds[request->repeat / 2];
        sg_work work = sg_program_work(session->program);
        printf("median %.3f ms, least %.3f ms, %.1f GFLOP/s, %.1f GB/s, %d kernels\n", median * 1e3,
               seconds[0] * 1e3, work.flops / median * 1e-9, work.bytes / median * 1e-9,
               work.kernels);
    }
    free(seconds);
    return bad;
}

static int with_data(const sg_request *request, sg_session *session) {
    int bad = compile(request, session);
    if (bad)
        return bad;
    int total = session->input_count + session->output_count;
    double **numbers = calloc((size_t)total + 1, sizeof *numbers);
    bad = numbers ? make_data(request, session, numbers) : fail("", "out of memory");
    if (!bad)
        bad = strcmp(request->command, "run") == 0 ? command_run(request, session, numbers)
                                                   : command_bench(request, session);
    for (int i = 0; i < total && numbers; i++) {
        free(numbers[i]);
        if (session->data)
            free(session->data[i]);
    }
    free(numbers);
    return bad;
}

static int on_graph(const sg_request *request) {
    sg_session session = {0};
    if (sg_context_create(&session.context) != SG_OK)
        return fail("", "out of memory");
    int bad = read_graph(request, &session);
    if (!bad && strcmp(request->command, "dump") == 0)
        bad = command_dump(request, &session);
    else if (!bad && strcmp(request->command, "explain") == 0)
        bad = command_explain(request, &session);
    else if (!bad && strcmp(request->command, "emit") == 0)
        bad = command_emit(request, &session);
    else if (!bad)
        bad = with_data(request, &session);
    free(session.data);
    free(session.inputs);
    sg_program_destroy(session.program);
    sg_graph_destroy(session.graph);
    sg_context_destroy(session.context);
    return bad;
}

int main(int argc, char **argv) {
    sg_request request = {.repeat = 15, .seed = 1, .scale = 1, .name = "segue"};
    argp_err_exit_status = 2;
    argp_parse(&parser, argc, argv, 0, NULL, &request);
    const char *command = request.command;
    if (strcmp(command, "version") == 0)
        return printf("%s\n", sg_version()) < 0;
    if (strcmp(command, "machine") == 0)
        return printf("%s\n", sg_machine_json()) < 0;
    if (strcmp(command, "ops") == 0)
        return printf("%s\n", sg_operators_json()) < 0;
    static const char *const commands[] = {"dump", "explain", "emit", "run", "bench"};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(command, commands[i]) == 0)
            return on_graph(&request);
    }
    fail(command,
         "no such command; there are dump, explain, emit, run, bench, machine, ops and version");
    return 2;
}
