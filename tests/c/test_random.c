/* Random graphs, layouts, plans, instruction sets and thread counts against float64.
 *
 * The cases are the same in every run. SEGUE_TEST_SEED=7 SEGUE_TEST_CASES=20000 in the environment
 * looks for others; with so many, one or the other error is a little above what noise allows. */
#include <stdlib.h>

#include "program_check.h"
#include "random_graph.h"
#include "tensor.h"
#include "unit.h"

#if defined(__SANITIZE_ADDRESS__)
enum { CASES = 250 };
#else
enum { CASES = 1500 };
#endif

/* Results that lie anyhow, too. */
static void some_outputs(random_state *random, const program_check *check, sg_layout *layouts) {
    if (!EXPECT(sg_graph_infer(check->graph, check->inputs, sg_graph_input_count(check->graph),
                               layouts) == SG_OK))
        return;
    for (int i = 0; i < sg_graph_output_count(check->graph); i++)
        if (random_chance(random, 40))
            random_strides(random, false, &layouts[i]);
}

static void run_cases(uint64_t seed, int cases, const random_shape *shape) {
    sg_context *context;
    const char *isas[3];
    int isa_count = check_isas(isas), failed = 0;
    const char *first = getenv("SEGUE_TEST_SEED"), *count = getenv("SEGUE_TEST_CASES");
    if (first)
        seed += 100 * strtoull(first, NULL, 10);
    if (count)
        cases = atoi(count);
    REQUIRE(sg_context_create(&context) == SG_OK);
    for (int i = 0; i < cases && failed < 3; i++) {
        random_state random = {(seed << 32) + (uint64_t)i};
        program_check check;
        sg_layout outputs[CHECK_OUTPUTS_MAX];
        if (!random_graph_make(context, &random, shape, &check))
            continue;
        CASE("seed %llu, case %d", (unsigned long long)seed, i);
        some_outputs(&random, &check, outputs);
        check.outputs = outputs;
        check.isa = isas[i % isa_count];
        check.threads = (int)random_between(&random, 1, 4);
        check.any_plan = random_chance(&random, 75);
        failed += !program_check_run(&check);
        sg_graph_destroy(check.graph);
    }
    sg_context_destroy(context);
}

TEST(convolutions_and_their_tails) {
    run_cases(1, CASES,
              &(random_shape){.percent_convolution = 100, .nodes_max = 7, .work_max = 200000});
}

TEST(tails_alone) {
    run_cases(2, CASES, &(random_shape){.percent_convolution = 0, .nodes_max = 8});
}

TEST(special_values) {
    run_cases(3, CASES / 2,
              &(random_shape){
                  .percent_convolution = 60, .nodes_max = 5, .work_max = 50000, .special = true});
}
