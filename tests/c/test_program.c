/* Programs from end to end on every instruction set and number of threads. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "graphs.h"
#include "program_check.h"
#include "unit.h"

static void on_every_machine(const char *text, const char *sizes) {
    const char *isas[3];
    int count = check_isas(isas);
    for (int i = 0; i < count; i++)
        for (int threads = 1; threads <= 4; threads++) {
            CASE("%s, %d threads, %s", isas[i], threads, sizes);
            EXPECT(program_check_text(text, sizes, isas[i], threads, CHECK_REAL));
        }
}

TEST(convolution_min_tanh_tanh) {
    static const char text[] = "graph g {\n%x = input : f32[N, 16, H, W]\n"
                               "%w = input : f32[37, 16, 3, 3]\n%b = input : f32[37]\n"
                               "%c = convolution %x, %w, %b\n"
                               "%m = amin %c {dim=[1], keepdim=true}\n"
                               "%t = tanh %m\n%u = tanh %t\noutput %u\n}";
    on_every_machine(text, "N=2,H=11,W=35");
    on_every_machine(text, "N=1,H=3,W=3");
    on_every_machine(text, "N=0,H=9,W=9");
}

TEST(convolution_scale_min) {
    on_every_machine("graph g {\n%x = input : f32[N, 3, H, W]\n%w = input : f32[16, 3, 3, 3]\n"
                     "%b = input : f32[16]\n%c = convolution %x, %w, %b\n"
                     "%s = mul %c, 2.0\n%m = amin %s {dim=[1], keepdim=true}\noutput %m\n}",
                     "N=3,H=12,W=29");
}

TEST(convolution_min_add_mul) {
    on_every_machine("graph g {\n%x = input : f32[N, 5, H, W]\n%w = input : f32[12, 5, 3, 3]\n"
                     "%b = input : f32[12]\n%e = input : f32[12, 1, 1]\n"
                     "%c = convolution %x, %w, %b {padding=[1]}\n%m = minimum %c, 0.5\n"
                     "%a = add %m, %e\n%y = mul %a, 2.0\noutput %y\n}",
                     "N=2,H=13,W=18");
}

TEST(convolution_3d_min_softmax) {
    on_every_machine("graph g {\n%x = input : f32[N, 3, D, H, W]\n"
                     "%w = input : f32[24, 3, 3, 3, 3]\n%b = input : f32[24]\n"
                     "%c = convolution %x, %w, %b\n%m = amin %c {dim=[2]}\n"
                     "%s = softmax %m {dim=1}\noutput %s\n}",
                     "N=2,D=7,H=9,W=14");
}

TEST(global_statistics) {
    on_every_machine("graph g {\n%x = input : f32[N, 6, H, W]\n%w = input : f32[9, 6, 3, 3]\n"
                     "%c = convolution %x, %w {stride=[2], padding=[1]}\n%r = relu %c\n"
                     "%m = mean %r {dim=[2, 3]}\n%s = log_softmax %m {dim=1}\noutput %s, %r\n}",
                     "N=3,H=17,W=12");
}

TEST(equal_results_get_memory_each) {
    on_every_machine("graph g {\n%x = input : f32[40]\n%a = relu %x\n%b = relu %x\n"
                     "%c = identity %x\n%d = identity %a\noutput %a, %b, %c, %d\n}",
                     "");
}

TEST(large_one_dimensional_streams) {
    on_every_machine("graph g {\n%x = input : f32[N]\n%y = input : f32[1]\n%t = add %x, %y\n"
                     "%s = sigmoid %t\n%m = amax %s\noutput %s, %m\n}",
                     "N=70001");
}

/* ---- zeros --------------------------------------------------------------------------------- */

/* Result of f32 statements from %x to %y for one number. */
static float of_number(const char *statements, float number) {
    char text[400];
    float y = NAN;
    sg_context *context = NULL;
    sg_program *program = NULL;
    sg_layout layout = {.dtype = SG_F32, .rank = 1, .size = {1}, .stride = {1}};
    sg_compile_options options = {.always = 1, .threads = 1};
    snprintf(text, sizeof text, "%%x = input : f32[1]\n%s\noutput %%y", statements);
    if (sg_context_create(&context) != SG_OK)
        return y;
    sg_graph *graph = graph_of_lines(context, text);
    EXPECT_STR(context->message, "");
    if (graph && EXPECT(sg_compile(graph, &layout, 1, &options, &program) == SG_OK))
        EXPECT(sg_program_run(program, (const void *[]){&number}, (void *[]){&y}, 1) == SG_OK);
    sg_program_destroy(program);
    sg_graph_destroy(graph);
    sg_context_destroy(context);
    return y;
}

TEST(negative_zero_keeps_its_sign) {
    static const struct {
        const char *statements;
        bool negative;
    } cases[] = {
        {"%y = identity %x", true},
        {"%y = neg %x", false},
        {"%y = abs %x", false},
        {"%y = add %x, -0.0", true},
        {"%y = add %x, 0.0", false},
        {"%y = mul %x, 1.0", true},
        {"%y = div %x, -2.0", false},
        {"%y = ceil %x", true},
        {"%y = tanh %x", true},
        {"%y = sqrt %x", true},
        {"%y = amin %x {dim=[0], keepdim=true}", true},
        {"%c = cast %x {dtype=f16}\n%y = cast %c {dtype=f32}", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CASE("%s", cases[i].statements);
        float y = of_number(cases[i].statements, -0.0F);
        EXPECT(y == 0 && !signbit(y) == !cases[i].negative);
    }
}

/* ---- many callers -------------------------------------------------------------------------- */

enum { CALLERS = 4, RUNS = 25, PIXELS = 6 * 15 * 16 };

typedef struct caller {
    const sg_program *program;
    const void *const *inputs;
    float result[PIXELS];
    bool good;
} caller;

static void *run_often(void *argument) {
    caller *c = argument;
    float first[PIXELS];
    for (int i = 0; i < RUNS; i++) {
        memset(c->result, 0xff, sizeof c->result);
        c->good =
            sg_program_run(c->program, c->inputs, (void *[]){c->result}, 1 + i % 3) == SG_OK &&
            c->good;
        if (i == 0)
            memcpy(first, c->result, sizeof first);
        c->good = c->good && memcmp(first, c->result, sizeof first) == 0;
    }
    return NULL;
}

TEST(a_program_outlives_its_graph_and_runs_from_many_threads) {
    static float x[4 * 17 * 18], w[6 * 4 * 9];
    static caller callers[CALLERS];
    const void *operands[] = {x, w};
    sg_context *context;
    sg_program *program = NULL;
    sg_layout inputs[2];
    pthread_t threads[CALLERS];
    random_state random = {5};
    REQUIRE(sg_context_create(&context) == SG_OK);
    sg_graph *graph = graph_of_lines(context, "%x = input : f32[1, 4, 17, 18]\n"
                                              "%w = input : f32[6, 4, 3, 3]\n"
                                              "%c = convolution %x, %w\n%y = gelu %c\noutput %y");
    REQUIRE(graph && sg_graph_layouts(graph, "", inputs) == SG_OK);
    REQUIRE(sg_compile(graph, inputs, 2, &(sg_compile_options){.always = 1}, &program) == SG_OK);
    sg_graph_destroy(graph);
    sg_context_destroy(context);
    for (size_t i = 0; i < sizeof x / sizeof *x; i++)
        x[i] = (float)random_real(&random);
    for (size_t i = 0; i < sizeof w / sizeof *w; i++)
        w[i] = (float)random_real(&random);
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (caller){.program = program, .inputs = operands, .good = true};
        REQUIRE(pthread_create(&threads[i], NULL, run_often, &callers[i]) == 0);
    }
    for (int i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < CALLERS; i++) {
        EXPECT(callers[i].good);
        EXPECT_MEM(callers[i].result, callers[0].result, sizeof callers[0].result);
    }
    sg_program_destroy(program);
}
