#include "program_check.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/pipeline.h"
#include "ir/reference.h"
#include "plan/partition.h"
#include "plan/wisdom.h"
#include "tensor.h"
#include "unit.h"

typedef struct check_run {
    const program_check *check;
    random_state random;
    sg_program *program;
    int input_count, output_count;
    tensor inputs[CHECK_INPUTS_MAX], outputs[CHECK_OUTPUTS_MAX];
    /* Inputs and outputs as contiguous doubles; moved: with everything moved a little. */
    double *numbers[CHECK_INPUTS_MAX + CHECK_OUTPUTS_MAX];
    double *moved[CHECK_INPUTS_MAX + CHECK_OUTPUTS_MAX];
    /* The graph with every computed value multiplied by an input that is about 1. */
    sg_graph *noisy;
    sg_layout noisy_inputs[CHECK_INPUTS_MAX + CHECK_VALUES_MAX];
    double *noise[CHECK_INPUTS_MAX + CHECK_VALUES_MAX]; /* the graph's own inputs first */
    double centre[CHECK_INPUTS_MAX + CHECK_VALUES_MAX]; /* what the noise is near */
    double squares[CHECK_OUTPUTS_MAX];                  /* of how far an output moved, summed */
    double coarsest; /* unit roundoff of the coarsest dtype that a value is rounded to */
    char plan[200];  /* the random plans, for messages */
} check_run;

int check_isas(const char *names[3]) {
    int count = 0;
    for (int isa = 0; isa < SG_ISA_COUNT; isa++)
        if (sg_cpu_get()->supported[isa] && sg_kernels_get((sg_isa)isa, SG_F32))
            names[count++] = sg_isa_get((sg_isa)isa)->name;
    return count;
}

/* ---- numbers ------------------------------------------------------------------------------- */

static double draw(random_state *random, check_fill fill) {
    static const double special[] = {NAN, INFINITY, -INFINITY, -0.0, 0.0, 1e30, -1e30, 1e-30};
    switch (fill) {
    case CHECK_POSITIVE:
        return 1.5 + random_real(random);
    case CHECK_INTEGER:
        return (double)random_between(random, -3, 3);
    case CHECK_SPECIAL:
        if (random_chance(random, 2))
            return special[random_between(random, 0, 7)];
        break;
    default:
        break;
    }
    return random_real(random);
}

/* Unit roundoff. */
static double roundoff(sg_dtype dtype) {
    switch (dtype) {
    case SG_F16:
        return 0x1p-11;
    case SG_BF16:
        return 0x1p-8;
    case SG_F32:
        return 0x1p-24;
    case SG_F64:
        return 0x1p-53;
    default:
        return 0;
    }
}

/* Any value may end a region, and is then rounded to its dtype. */
static double coarsest_roundoff(const sg_graph *graph) {
    double coarsest = 0x1p-53;
    for (int i = 0; i < graph->node_count; i++) {
        bool made = sg_op_get(graph->nodes[i].op)->kind != SG_KIND_LEAF;
        double unit = made ? roundoff(graph->nodes[i].type.dtype) : 0;
        coarsest = unit > coarsest ? unit : coarsest;
    }
    return coarsest;
}

static bool fill_input(check_run *run, int index) {
    const program_check *check = run->check;
    const sg_layout *layout = &check->inputs[index];
    int64_t count = tensor_count(layout);
    run->inputs[index] = tensor_create(layout);
    run->numbers[index] = malloc(sizeof(double) * (size_t)(count + 1));
    run->moved[index] = malloc(sizeof(double) * (size_t)(count + 1));
    if (!run->numbers[index] || !run->moved[index])
        return false;
    for (int64_t i = 0; i < count; i++)
        tensor_set(&run->inputs[index], i, draw(&run->random, check->fill[index]));
    for (int64_t i = 0; i < count; i++)
        run->numbers[index][i] = tensor_get(&run->inputs[index], i);
    tensor_seal(&run->inputs[index]);
    return true;
}

/* ---- plans --------------------------------------------------------------------------------- */

static int64_t some_box(random_state *random, int64_t size) {
    int64_t most = size < 1 ? 1 : size;
    return random_chance(random, 30) ? most : random_between(random, 1, most < 40 ? most : 40);
}

/* Tiny boxes and runs, so that all their edges are met; now and then far too large ones. */
static sg_cpu_plan some_plan(random_state *random, const sg_problem *problem,
                             const sg_cpu_plan *candidate) {
    sg_cpu_plan plan = *candidate;
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++)
        plan.box[axis] = some_box(random, problem->size[SG_ROLE_D + axis]);
    plan.run = SG_RUN_STEP * random_between(random, 1, 4);
    plan.chunk = random_between(random, 1, problem->has_convolution ? 12 : 1);
    plan.sum = random_between(random, 1, 150);
    if (random_chance(random, 5)) {
        plan.box[random_between(random, 0, 2)] = 1 << 24;
        plan.run = 1 << 20;
    }
    return plan;
}

/* Remembers a plan for one region, as measuring would. */
static void remember_plan(check_run *run, const sg_graph *graph, const sg_layout *inputs,
                          const sg_layout *outputs, const sg_target *base) {
    sg_region region;
    sg_arena arena = {0};
    sg_problem problem;
    sg_choice choices[SG_CANDIDATES_MAX];
    sg_target target = *base;
    REQUIRE(sg_region_open(graph, &region) == SG_OK);
    if (sg_region_cover(&region) &&
        sg_problem_create(&region, inputs, outputs, &arena, &problem) == SG_OK) {
        const sg_cpu_kernels *isa = sg_kernels_get(target.isa, region.compute);
        target.lanes = isa->vector_length;
        target.block_channels = isa->contract_blocks[0].channels;
        target.block_vectors = isa->contract_blocks[0].vectors_max;
        target.pairs = isa->pair_blocks != NULL;
        int count = sg_list_plans(&problem, &target, choices);
        if (count) {
            sg_choice *choice = &choices[random_between(&run->random, 0, count - 1)];
            sg_cpu_plan plan = choice->plan;
            if (random_chance(&run->random, 75))
                plan = some_plan(&run->random, &problem, &choice->plan);
            snprintf(run->plan, sizeof run->plan,
                     "box=%" PRId64 ",%" PRId64 ",%" PRId64 " run=%" PRId64 " chunk=%" PRId64
                     " sum=%" PRId64,
                     plan.box[0], plan.box[1], plan.box[2], plan.run, plan.chunk, plan.sum);
            EXPECT(sg_wisdom_remember(&problem, &target, choice->strategy->name, &plan) == SG_OK);
        }
    }
    sg_region_close(&region);
    sg_arena_release(&arena);
}

static sg_layout layout_of_value(const check_run *run, const sg_graph *graph, sg_value value) {
    const sg_type *type = &sg_graph_node(graph, value)->type;
    sg_layout layout = {.dtype = type->dtype, .rank = type->rank};
    for (int dim = 0; dim < type->rank; dim++)
        layout.size[dim] = type->size[dim];
    tensor_make_contiguous(&layout);
    for (int i = 0; i < graph->input_count; i++)
        if (graph->inputs[i] == value)
            layout = run->check->inputs[i];
    for (int i = 0; i < graph->output_count && run->check->outputs; i++)
        if (graph->outputs[i] == value)
            layout = run->check->outputs[i];
    return layout;
}

/* A random plan for every region. */
static void remember_plans(check_run *run, const sg_compile_options *options) {
    sg_partition *partition;
    sg_target target;
    sg_wisdom_forget();
    REQUIRE(sg_target_create(run->check->graph->context, options, &target) == SG_OK);
    REQUIRE(sg_partition_create(run->check->graph, &partition) == SG_OK);
    for (int i = 0; i < sg_partition_step_count(partition); i++) {
        const sg_step *step = sg_partition_step(partition, i);
        int total = step->input_count + step->output_count;
        sg_layout *layouts = calloc((size_t)total + 1, sizeof *layouts);
        for (int k = 0; k < total && layouts; k++)
            layouts[k] = layout_of_value(
                run, sg_partition_graph(partition),
                k < step->input_count ? step->inputs[k] : step->outputs[k - step->input_count]);
        if (layouts && !step->foreign)
            remember_plan(run, step->graph, layouts, layouts + step->input_count, &target);
        free(layouts);
    }
    sg_partition_destroy(partition);
}

/* ---- comparison ---------------------------------------------------------------------------- */

typedef struct check_sums {
    double error, size; /* squares */
    bool places;        /* NaN and infinities stand where they should */
} check_sums;

static check_sums add_up(const check_run *run, int index) {
    const tensor *t = &run->outputs[index];
    const double *wanted = run->numbers[run->input_count + index];
    check_sums sums = {.places = true};
    for (int64_t i = 0; i < tensor_count(&t->layout); i++) {
        double got = tensor_get(t, i), want = sg_round_to(t->layout.dtype, wanted[i]);
        if (isfinite(got) && isfinite(want)) {
            sums.error += (got - wanted[i]) * (got - wanted[i]);
            sums.size += wanted[i] * wanted[i];
        } else if (isnan(got) ? !isnan(want) : got != want) {
            sums.places = false;
        }
    }
    return sums;
}

static bool bools_are_bools(const tensor *t) {
    if (t->layout.dtype != SG_BOOL)
        return true;
    for (int64_t i = 0; i < tensor_count(&t->layout); i++)
        if (t->data[tensor_place(&t->layout, i)] & ~1)
            return false;
    return true;
}

/* What an element may lose where numbers end. */
static double smallest(const check_run *run, sg_dtype dtype) {
    return dtype == SG_F16 ? 0x1p-24 : run->coarsest < 0x1p-24 ? 0 : 0x1p-120;
}

static bool compare_output(const check_run *run, int index) {
    const tensor *t = &run->outputs[index];
    check_sums sums = add_up(run, index);
    /* In float64 the interpreter, which sums plainly, is itself no better than this. */
    double unit = run->coarsest * (run->coarsest < 0x1p-24 ? 100 : 6);
    double allowed = unit * sqrt(sums.size) + 8 * sqrt(run->squares[index]) +
                     smallest(run, t->layout.dtype) * sqrt((double)tensor_count(&t->layout));
    bool good = EXPECT(tensor_gaps_untouched(t)) && EXPECT(bools_are_bools(t)) &&
                EXPECT(sums.places) && EXPECT(sqrt(sums.error) <= allowed);
    if (!good)
        printf("output %d of %d: norm of the error %g, of the result %g, allowed %g\n", index,
               run->output_count, sqrt(sums.error), sqrt(sums.size), allowed);
    return good;
}

/* ---- one check ----------------------------------------------------------------------------- */

static bool run_program(check_run *run) {
    const void *inputs[CHECK_INPUTS_MAX];
    void *outputs[CHECK_OUTPUTS_MAX];
    for (int i = 0; i < run->input_count; i++)
        inputs[i] = run->inputs[i].data;
    for (int i = 0; i < run->output_count; i++) {
        const sg_layout *layout = sg_program_output(run->program, i);
        int64_t count = tensor_count(layout);
        run->outputs[i] = tensor_create(layout);
        outputs[i] = run->outputs[i].data;
        run->numbers[run->input_count + i] = malloc(sizeof(double) * (size_t)(count + 1));
        run->moved[run->input_count + i] = malloc(sizeof(double) * (size_t)(count + 1));
    }
    /* Twice: nothing may be left from the first run. */
    return EXPECT(sg_program_run(run->program, inputs, outputs, run->check->threads) == SG_OK) &&
           EXPECT(sg_program_run(run->program, inputs, outputs, run->check->threads) == SG_OK);
}

/* Multiplies a value of the noisy graph by numbers near 1; returns the product. A logarithm of
 * sums is a difference of numbers of size 1, and gets numbers near 0 added. */
static sg_value add_noise(check_run *run, sg_value value) {
    sg_graph *noisy = run->noisy;
    sg_op made = noisy->nodes[value].op;
    bool logarithm = made == SG_OP_log_softmax || made == SG_OP_logsumexp;
    sg_op op = logarithm ? SG_OP_add : SG_OP_mul;
    sg_type type = noisy->nodes[value].type;
    int index = noisy->input_count;
    sg_value factors[2] = {value};
    sg_layout layout = {.dtype = type.dtype, .rank = type.rank};
    for (int dim = 0; dim < type.rank; dim++)
        layout.size[dim] = type.size[dim];
    tensor_make_contiguous(&layout);
    int64_t count = tensor_count(&layout);
    if (sg_graph_append(noisy, SG_OP_input, NULL, NULL, 0, NULL, &type, &factors[1]) != SG_OK ||
        sg_graph_append(noisy, op, NULL, factors, 2, NULL, NULL, &value) != SG_OK)
        return -1;
    run->noisy_inputs[index] = layout;
    run->noise[index] = malloc(sizeof(double) * (size_t)(count + 1));
    run->centre[index] = op == SG_OP_mul;
    return run->noise[index] ? value : -1;
}

static bool moves(const program_check *check, sg_value value) {
    const sg_node *node = sg_graph_node(check->graph, value);
    sg_kind kind = sg_op_get(node->op)->kind;
    return kind != SG_KIND_LEAF && kind != SG_KIND_VIEW && sg_dtype_floating(node->type.dtype) &&
           !node->type.weak && !(value < CHECK_VALUES_MAX && check->exact[value]);
}

/* The noisy graph; its inputs come in the order of the graph's own, then noise. */
static bool make_noisy(check_run *run) {
    const sg_graph *graph = run->check->graph;
    sg_value *map = calloc((size_t)graph->node_count + 1, sizeof *map);
    bool good = map && sg_graph_create_like(graph, &run->noisy) == SG_OK;
    for (int i = 0; i < graph->input_count && good; i++) {
        const sg_node *node = sg_graph_node(graph, graph->inputs[i]);
        good = sg_graph_append(run->noisy, SG_OP_input, node->name, NULL, 0, node->attributes,
                               &node->type, &map[graph->inputs[i]]) == SG_OK;
        run->noisy_inputs[i] = run->check->inputs[i];
        run->noise[i] = run->moved[i];
    }
    for (sg_value value = 0; value < graph->node_count && good; value++) {
        const sg_node *node = sg_graph_node(graph, value);
        sg_value operands[SG_OPERANDS_MAX];
        if (node->op == SG_OP_input)
            continue;
        for (int i = 0; i < node->operand_count; i++)
            operands[i] = node->operands[i] < 0 ? -1 : map[node->operands[i]];
        bool leaf = sg_op_get(node->op)->kind == SG_KIND_LEAF;
        good = sg_graph_append(run->noisy, node->op, NULL, operands, node->operand_count,
                               node->attributes, leaf ? &node->type : NULL, &map[value]) == SG_OK;
        if (good && moves(run->check, value))
            map[value] = add_noise(run, map[value]);
        good = good && map[value] >= 0;
    }
    for (int i = 0; i < graph->output_count && good; i++)
        good = sg_graph_append_output(run->noisy, map[graph->outputs[i]]) == SG_OK;
    free(map);
    return good;
}

static void draw_noise(check_run *run) {
    for (int i = 0; i < run->noisy->input_count; i++) {
        bool own = i < run->input_count;
        bool fixed =
            own && (run->noisy_inputs[i].dtype == SG_BOOL || run->check->fill[i] == CHECK_INTEGER);
        for (int64_t k = 0; k < tensor_count(&run->noisy_inputs[i]); k++) {
            double step = fixed ? 0 : 2 * run->coarsest * random_real(&run->random);
            run->noise[i][k] = own ? run->numbers[i][k] * (1 + step) : run->centre[i] + step;
        }
    }
}

/* Adds the squares of how far the outputs move under one draw of noise. */
static bool run_noisy(check_run *run) {
    draw_noise(run);
    if (!EXPECT(sg_reference_run(run->noisy, run->noisy_inputs, run->noisy->input_count,
                                 (const double *const *)run->noise,
                                 run->moved + run->input_count) == SG_OK))
        return false;
    for (int i = 0; i < run->output_count; i++) {
        const double *moved = run->moved[run->input_count + i];
        const double *still = run->numbers[run->input_count + i];
        for (int64_t k = 0; k < tensor_count(&run->outputs[i].layout); k++) {
            double move = moved[k] - still[k];
            run->squares[i] += isfinite(move) ? move * move : 0;
        }
    }
    return true;
}

static bool run_reference(check_run *run) {
    bool good = EXPECT(sg_reference_run(run->check->graph, run->check->inputs, run->input_count,
                                        (const double *const *)run->numbers,
                                        run->numbers + run->input_count) == SG_OK) &&
                EXPECT(make_noisy(run));
    for (int draws = 0; draws < 3 && good; draws++)
        good = run_noisy(run);
    return good;
}

static void print_case(const check_run *run) {
    char *text = NULL;
    if (sg_graph_print(run->check->graph, &text) == SG_OK)
        printf("isa %s, %d threads, seed %" PRIu64 ", %s\n%s", run->check->isa, run->check->threads,
               run->check->seed, run->plan, text);
    sg_string_free(text);
    for (int i = 0; i < run->input_count + run->output_count; i++) {
        bool input = i < run->input_count;
        const sg_layout *layout =
            input ? &run->check->inputs[i] : &run->outputs[i - run->input_count].layout;
        printf("%s %d: strides", input ? "input" : "output", input ? i : i - run->input_count);
        for (int dim = 0; dim < layout->rank; dim++)
            printf(" %" PRId64, layout->stride[dim]);
        printf("\n");
    }
    if (run->program && sg_program_explain(run->program, &text) == SG_OK) {
        printf("%s", text);
        sg_string_free(text);
    }
}

static bool run_all(check_run *run) {
    const program_check *check = run->check;
    sg_compile_options options = {
        .threads = check->threads, .isa = check->isa, .always = 1, .outputs = check->outputs};
    bool good = true;
    run->coarsest = coarsest_roundoff(check->graph);
    for (int i = 0; i < run->input_count; i++)
        good &= fill_input(run, i);
    if (check->any_plan)
        remember_plans(run, &options);
    sg_status status =
        sg_compile(check->graph, check->inputs, run->input_count, &options, &run->program);
    if (!EXPECT_EQ_INT(status, SG_OK)) {
        printf("%s\n", sg_context_message(check->graph->context));
        return false;
    }
    good = good && run_program(run) && run_reference(run);
    for (int i = 0; good && i < run->output_count; i++)
        good = compare_output(run, i);
    for (int i = 0; good && i < run->input_count; i++)
        good = EXPECT(tensor_untouched(&run->inputs[i]));
    return good;
}

bool program_check_run(const program_check *check) {
    check_run run = {.check = check,
                     .random = {check->seed},
                     .input_count = check->graph->input_count,
                     .output_count = check->graph->output_count};
    bool good = run_all(&run);
    if (!good)
        print_case(&run);
    sg_program_destroy(run.program);
    for (int i = 0; i < run.input_count; i++)
        tensor_destroy(&run.inputs[i]);
    for (int i = 0; i < run.output_count; i++)
        tensor_destroy(&run.outputs[i]);
    for (int i = 0; i < run.input_count + run.output_count; i++) {
        free(run.numbers[i]);
        free(run.moved[i]);
    }
    for (int i = run.input_count; run.noisy && i < run.noisy->input_count; i++)
        free(run.noise[i]);
    sg_graph_destroy(run.noisy);
    if (check->any_plan)
        sg_wisdom_forget();
    return good;
}

bool program_check_text(const char *text, const char *sizes, const char *isa, int threads,
                        check_fill fill) {
    sg_context *context;
    program_check check = {.isa = isa, .threads = threads, .seed = 1};
    sg_graph *graph = NULL;
    bool good =
        EXPECT(sg_context_create(&context) == SG_OK) &&
        EXPECT(sg_graph_parse(context, text, strlen(text), &graph) == SG_OK) &&
        EXPECT(sg_graph_layouts(graph, sizes, check.inputs) == SG_OK) &&
        EXPECT(sg_graph_bind(graph, check.inputs, graph->input_count, &check.graph) == SG_OK);
    for (int i = 0; i < CHECK_INPUTS_MAX; i++)
        check.fill[i] = fill;
    if (good)
        good = program_check_run(&check);
    else
        printf("%s\n", sg_context_message(context));
    sg_graph_destroy(check.graph);
    sg_graph_destroy(graph);
    sg_context_destroy(context);
    return good;
}
