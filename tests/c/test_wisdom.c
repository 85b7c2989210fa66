/* Wisdom: text in and out, all or nothing, and plans that no planner would write. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graphs.h"
#include "plan/wisdom.h"
#include "program_check.h"
#include "unit.h"

static const char *const convolution =
    "graph g {\n%x = input : f32[2, 7, 20, 21]\n%w = input : f32[5, 7, 3, 3]\n"
    "%c = convolution %x, %w\n%m = amin %c {dim=[1], keepdim=true}\noutput %m\n}";
/* W walks, H stays: rows must not share a running value. */
static const char *const row_means =
    "graph g {\n%x = input : f32[2, 5, 9, 33]\n%t = tanh %x\n%s = softmax %t {dim=1}\n"
    "%m = mean %s {dim=[3]}\noutput %m\n}";

static char *exported(sg_context *context) {
    char *text = NULL;
    EXPECT(sg_wisdom_export(context, &text) == SG_OK);
    return text;
}

static sg_status import(sg_context *context, const char *text) {
    return sg_wisdom_import(context, text, strlen(text));
}

/* Compiles with tuning, so that there is a line with the graph's key. */
static void tune(sg_context *context, const char *text) {
    sg_layout inputs[4];
    sg_compile_options options = {.threads = 2, .always = 1, .tune = 1};
    sg_program *program = NULL;
    sg_graph *graph = graph_of(context, text);
    REQUIRE(graph && sg_graph_layouts(graph, "", inputs) == SG_OK);
    EXPECT(sg_compile(graph, inputs, sg_graph_input_count(graph), &options, &program) == SG_OK);
    sg_program_destroy(program);
    sg_graph_destroy(graph);
}

/* The exported text with what follows " = " in its last line replaced. */
static void with_plan(const char *wisdom, const char *plan, char *text, size_t size) {
    size_t key = 0;
    while (wisdom[key] && strncmp(wisdom + key, " = ", 3) != 0)
        key++;
    snprintf(text, size, "%.*s = %s\n", (int)key, wisdom, plan);
}

TEST(round_trip) {
    sg_context *context;
    REQUIRE(sg_context_create(&context) == SG_OK);
    sg_wisdom_forget();
    char *empty = exported(context);
    EXPECT(empty && strchr(empty, '\n') == empty + strlen(empty) - 1);
    tune(context, convolution);
    tune(context, row_means);
    char *first = exported(context);
    sg_wisdom_forget();
    char *forgotten = exported(context);
    EXPECT_STR(forgotten, empty);
    EXPECT(import(context, first) == SG_OK);
    EXPECT(import(context, first) == SG_OK); /* the same lines replace each other */
    char *second = exported(context);
    EXPECT_STR(second, first);
    sg_wisdom_forget();
    free(empty);
    free(first);
    free(forgotten);
    free(second);
    sg_context_destroy(context);
}

TEST(importing_is_all_or_nothing) {
    static const char *const bad[] = {
        "nonsense",
        "%s\nkey",
        "%s\nkey = direct",
        "%s\nkey = direct box=1,2 run=16 chunk=1 sum=1",
        "%s\nkey = direct box=1,1,1 run=16 chunk=1 sum=1 more",
        "%s\nkey = direct box=1,1,1 run=17 chunk=1 sum=1",
        "%s\nkey = direct box=0,1,1 run=16 chunk=1 sum=1",
        "%s\nkey = direct box=1,1,-1 run=16 chunk=1 sum=1",
        "%s\nkey = direct box=1,1,1 run=16 chunk=0 sum=1",
        "%s\nkey = direct box=1,1,1 run=16 chunk=1 sum=0",
        "%s\nkey = direct box=1,1,99999999999999999999 run=16 chunk=1 sum=1",
        "%s\nkey = direct box=1,1,1 run=16 chunk=1 sum=1\r\n",
        "%s\nkey = wgmma_ring rows=4",
        "%s\ngpu key = wgmma_ring",
        "%s\ngpu key = wgmma_ring rows",
        "%s\ngpu key = wgmma_ring rows=",
        "%s\ngpu key = wgmma_ring rows=4 ",
        "%s\ngpu key = wgmma_ring rows=4 =5",
        "%s\ngpu key = wgmma_ring rows=4,5",
        "%s\ngpu key = wgmma_ring rows=99999999999999999999",
    };
    sg_context *context;
    char text[400];
    REQUIRE(sg_context_create(&context) == SG_OK);
    sg_wisdom_forget();
    char *header = exported(context);
    header[strlen(header) - 1] = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CASE("%s", bad[i]);
        snprintf(text, sizeof text, bad[i],
                 header); /* NOLINT(clang-diagnostic-format-nonliteral) */
        EXPECT(import(context, text) == SG_INVALID);
        EXPECT_CONTAINS(sg_context_message(context), i == 0 ? "line 1" : "line 2");
        /* A good line before the bad one goes with it. */
        snprintf(text, sizeof text, "%s\ngood = direct box=1,1,1 run=16 chunk=1 sum=9\n", header);
        size_t at = strlen(text);
        snprintf(text + at, sizeof text - at, "%s", "bad");
        EXPECT(import(context, text) == SG_INVALID);
        char *now = exported(context);
        EXPECT(now && strncmp(now, header, strlen(header)) == 0 && !strstr(now, "good"));
        free(now);
    }
    EXPECT(import(context, "") == SG_INVALID);
    EXPECT(sg_wisdom_import(context, "segue-wisdom 1\0\n", 16) == SG_INVALID);
    EXPECT(import(context, header) == SG_OK);
    free(header);
    sg_context_destroy(context);
}

static void check_plans(const char *graph, const char *strategy) {
    static const char *const plans[] = {
        "box=16777216,16777216,16777216 run=1048576 chunk=16777216 sum=1",
        "box=1,16777216,1 run=16 chunk=3 sum=2",
        "box=3,4,5 run=1048576 chunk=1 sum=9999999",
        "box=1,2,1 run=32 chunk=16777216 sum=120",
        "box=1,5,14 run=16 chunk=7 sum=63", /* runs end in the gap between rows */
    };
    sg_context *context;
    char text[2000], plan[200];
    REQUIRE(sg_context_create(&context) == SG_OK);
    sg_wisdom_forget();
    tune(context, graph);
    char *wisdom = exported(context);
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        CASE("%s %s", strategy, plans[i]);
        snprintf(plan, sizeof plan, "%s %s", strategy, plans[i]);
        with_plan(wisdom, plan, text, sizeof text);
        EXPECT(import(context, text) == SG_OK);
        EXPECT(program_check_text(graph, "", NULL, 2, CHECK_REAL));
    }
    sg_wisdom_forget();
    free(wisdom);
    sg_context_destroy(context);
}

TEST(plans_that_no_planner_writes_run_right) {
    check_plans(convolution, "direct");
    check_plans(row_means, "stream");
}

TEST(strategies_that_do_not_apply_are_passed_over) {
    check_plans(convolution, "stream");
    check_plans(row_means, "gone-since");
}

/* ---- GPUs ---------------------------------------------------------------------------------- */

typedef struct described {
    sg_graph *graph;
    sg_region region;
    sg_problem problem;
    sg_arena arena;
} described;

static bool describe(sg_context *context, const char *text, described *made) {
    sg_layout inputs[4], outputs[2];
    *made = (described){.graph = graph_of(context, text)};
    return made->graph && sg_graph_layouts(made->graph, "", inputs) == SG_OK &&
           sg_graph_infer(made->graph, inputs, sg_graph_input_count(made->graph), outputs) ==
               SG_OK &&
           sg_region_open(made->graph, &made->region) == SG_OK && sg_region_cover(&made->region) &&
           sg_problem_create(&made->region, inputs, outputs, &made->arena, &made->problem) == SG_OK;
}

static void release(described *made) {
    sg_region_close(&made->region);
    sg_arena_release(&made->arena);
    sg_graph_destroy(made->graph);
}

TEST(plans_of_gpus_are_remembered_by_name) {
    static const char *const names[] = {"rows", "stages", NULL};
    static const char *const renamed[] = {"rows", "depth", NULL};
    static const sg_cuda_strategy strategy = {.name = "ring", .parameters = names};
    static const sg_cuda_strategy other = {.name = "packed", .parameters = names};
    static const sg_cuda_strategy changed = {.name = "ring", .parameters = renamed};
    sg_cuda_target target = {.precision = SG_PRECISION_TF32, .alignment = 16};
    sg_cuda_plan plan = {{4, -3}}, found;
    sg_context *context;
    described first, second;
    double seconds;
    REQUIRE(sg_context_create(&context) == SG_OK && sg_gpu_find("sm_90a", &target.gpu));
    REQUIRE(describe(context, convolution, &first) && describe(context, row_means, &second));
    sg_wisdom_forget();
    EXPECT(sg_wisdom_remember_gpu(&first.problem, &target, &strategy, &plan, 1e-3) == SG_OK);
    char *text = exported(context);
    EXPECT_CONTAINS(text, "\ngpu sm_90a tf32/16 f32 size=2,5,1,18,19");
    EXPECT_CONTAINS(text, " = ring rows=4 stages=-3 ns=1000001\n");
    sg_wisdom_forget();
    EXPECT(!sg_wisdom_find_gpu(&first.problem, &target, &strategy, &found, &seconds));
    EXPECT(import(context, text) == SG_OK);
    EXPECT(sg_wisdom_find_gpu(&first.problem, &target, &strategy, &found, &seconds));
    EXPECT_MEM(&found, &plan, sizeof plan);
    EXPECT_NEAR(seconds, 1e-3, 1e-8);
    EXPECT(!sg_wisdom_find_gpu(&second.problem, &target, &strategy, &found, &seconds));
    EXPECT(!sg_wisdom_find_gpu(&first.problem, &target, &other, &found, &seconds));
    EXPECT(!sg_wisdom_find_gpu(&first.problem, &target, &changed, &found, &seconds));
    target.precision = SG_PRECISION_FP32;
    EXPECT(!sg_wisdom_find_gpu(&first.problem, &target, &strategy, &found, &seconds));
    sg_wisdom_forget();
    free(text);
    release(&first);
    release(&second);
    sg_context_destroy(context);
}
