/* The pipeline: bind -> simplify -> partition into regions -> plan each -> lower -> program. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/cuda.h"
#include "api/pipeline.h"
#include "opt/simplify.h"
#include "run/cpu/execute.h"

/* On the CPU a region is worth replacing when its expected time is below this part of the host's.
 * On random models (bench/survey.py) two to four in a hundred are then slower, a few by half. */
static const double PROFIT = 0.85;

typedef struct sg_compiler {
    sg_context *context; /* the caller's */
    sg_program *program;
    sg_partition *partition;
    sg_target target;
    sg_cuda_target cuda; /* where options->gpu asks for one */
    int device;          /* of cuda; -1: none in particular */
    const sg_compile_options *options;
    int *place_of; /* [value of the partition's graph], -1 while it has none */
    sg_text text;  /* explanation */
    double cost, host_cost, library_cost;
} sg_compiler;

static bool on_gpu(const sg_compiler *compiler) {
    return compiler->options && compiler->options->gpu;
}

/* ---- places -------------------------------------------------------------------------------- */

static sg_layout layout_of(const sg_graph *graph, sg_value value) {
    const sg_type *type = &sg_graph_node(graph, value)->type;
    sg_layout layout = {.dtype = type->dtype, .rank = type->rank};
    for (int dim = 0; dim < type->rank; dim++)
        layout.size[dim] = type->size[dim];
    sg_layout_make_contiguous(&layout);
    return layout;
}

/* Strides that kernels can count with. */
static sg_status check_strides(sg_context *context, const char *what, int index,
                               const sg_layout *layout) {
    double span = sg_dtype_size(layout->dtype);
    for (int dim = 0; dim < layout->rank; dim++) {
        if (layout->stride[dim] < 0)
            return sg_fail(context, SG_INVALID,
                           "%s %d: stride %lld of dimension %d is negative; 0 or more would be "
                           "accepted",
                           what, index, (long long)layout->stride[dim], dim);
        if (layout->size[dim] == 0)
            return SG_OK;
        span += (double)(layout->size[dim] - 1) * (double)layout->stride[dim] *
                sg_dtype_size(layout->dtype);
    }
    return span < (double)SG_DIM_LIMIT
               ? SG_OK
               : sg_fail(context, SG_INVALID, "%s %d: its strides leave the 64-bit range", what,
                         index);
}

static sg_status check_output_layout(const sg_compiler *compiler, int index,
                                     const sg_layout *wanted, const sg_layout *given) {
    bool same = wanted->dtype == given->dtype && wanted->rank == given->rank;
    for (int dim = 0; same && dim < wanted->rank; dim++)
        same = wanted->size[dim] == given->size[dim];
    return same ? check_strides(compiler->context, "output", index, given)
                : sg_fail(compiler->context, SG_INVALID,
                          "output %d: the layout given has another dtype or other sizes than the "
                          "graph's result",
                          index);
}

static sg_status place_operands(sg_compiler *compiler, const sg_layout *inputs) {
    const sg_graph *graph = compiler->partition->graph;
    sg_program *program = compiler->program;
    program->input_count = graph->input_count;
    program->output_count = graph->output_count;
    program->inputs = SG_ARENA_NEW(&program->arena, sg_layout, graph->input_count + 1);
    program->outputs = SG_ARENA_NEW(&program->arena, sg_layout, graph->output_count + 1);
    program->intermediates = SG_ARENA_NEW(&program->arena, sg_layout, graph->node_count + 1);
    compiler->place_of = SG_ARENA_NEW(&program->arena, int, graph->node_count + 1);
    if (sg_arena_failed(&program->arena))
        return sg_fail_memory(compiler->context);
    memset(compiler->place_of, -1, sizeof(int) * (size_t)graph->node_count);
    for (int i = 0; i < graph->input_count; i++) {
        sg_status status = check_strides(compiler->context, "input", i, &inputs[i]);
        if (status != SG_OK)
            return status;
        program->inputs[i] = inputs[i];
        compiler->place_of[graph->inputs[i]] = i;
    }
    for (int i = 0; i < graph->output_count; i++) {
        sg_value value = graph->outputs[i];
        program->outputs[i] = layout_of(graph, value);
        if (compiler->place_of[value] >= 0 || sg_graph_node(graph, value)->op == SG_OP_constant)
            return sg_fail(compiler->context, SG_INVALID,
                           "output %d (%%%s) is an input, a constant or another output; a program "
                           "writes each output itself",
                           i, sg_graph_node(graph, value)->name);
        compiler->place_of[value] = graph->input_count + i;
        if (compiler->options && compiler->options->outputs) {
            sg_status status = check_output_layout(compiler, i, &program->outputs[i],
                                                   &compiler->options->outputs[i]);
            if (status != SG_OK)
                return status;
            program->outputs[i] = compiler->options->outputs[i];
        }
    }
    return SG_OK;
}

static int place_of(sg_compiler *compiler, sg_value value) {
    sg_program *program = compiler->program;
    int *place = &compiler->place_of[value];
    if (*place < 0) {
        *place = program->input_count + program->output_count + program->intermediate_count;
        program->intermediates[program->intermediate_count++] =
            layout_of(compiler->partition->graph, value);
    }
    return *place;
}

/* ---- steps --------------------------------------------------------------------------------- */

static void explain_step(sg_compiler *compiler, const sg_step *step,
                         const sg_compilation *compilation, const sg_cpu_kernel *kernel) {
    sg_text *text = &compiler->text;
    if (!kernel) {
        sg_text_add(text, "region %d: no fused kernel (%s); the float64 interpreter runs it\n",
                    compiler->program->step_count, sg_context_message(compiler->context));
    } else {
        const sg_choice *choice = &compilation->choice;
        sg_text_add(text,
                    "region %d: one kernel, strategy %s%s, expected %.3f ms against %.3f ms for "
                    "its operators one by one\n",
                    compiler->program->step_count, choice->strategy->name,
                    choice->from_wisdom ? " (measured)" : "", choice->cost * 1e3,
                    choice->host_cost * 1e3);
        sg_cpu_kernel_print(kernel, step->graph, text);
    }
    if (step->reason[0])
        sg_text_add(text, "  ends here: %s\n", step->reason);
}

static void add_work(sg_compiler *compiler, const sg_compilation *compilation,
                     const sg_cpu_kernel *kernel) {
    sg_work *work = &compiler->program->work;
    int64_t scratch = (int64_t)sg_scratch_size(kernel);
    work->kernels++;
    work->flops += compilation->problem.flops;
    work->bytes += compilation->problem.bytes;
    work->scratch_bytes = scratch > work->scratch_bytes ? scratch : work->scratch_bytes;
    compiler->cost += compilation->choice.cost;
    compiler->host_cost += compilation->choice.host_cost;
}

/* Gives a step its graph, which the partition gives away, and counts it. */
static void keep_step(sg_compiler *compiler, sg_step *step, sg_program_step *made) {
    made->graph = (sg_graph *)(uintptr_t)step->graph;
    step->graph = NULL;
    made->graph->context = compiler->program->context;
    compiler->program->step_count++;
}

/* layouts: inputs, then outputs. */
static sg_status compile_cpu_step(sg_compiler *compiler, sg_step *step, const sg_layout *layouts,
                                  sg_program_step *made) {
    sg_program *program = compiler->program;
    sg_compilation compilation = {.graph = step->graph,
                                  .inputs = layouts,
                                  .outputs = layouts + step->input_count,
                                  .target = compiler->target};
    sg_cpu_kernel *kernel = NULL;
    sg_status status = sg_compile_region(&compilation, compiler->options && compiler->options->tune,
                                         &program->arena, &kernel);
    if (status == SG_OK)
        add_work(compiler, &compilation, kernel);
    bool net = status == SG_NOT_APPLICABLE && compiler->options && compiler->options->always;
    if (status == SG_OK || net) {
        explain_step(compiler, step, &compilation, net ? NULL : kernel);
        made->kernel = net ? NULL : kernel;
        keep_step(compiler, step, made);
        status = SG_OK;
    }
    sg_region_close(&compilation.region);
    return status;
}

/* There is no interpreter on GPUs: what no strategy takes is not compiled, whatever `always` says.
 */
static sg_status compile_cuda_step(sg_compiler *compiler, sg_step *step, const sg_layout *layouts,
                                   sg_program_step *made) {
    sg_program *program = compiler->program;
    sg_cuda_compilation compilation = {.graph = step->graph,
                                       .inputs = layouts,
                                       .outputs = layouts + step->input_count,
                                       .target = compiler->cuda,
                                       .device = compiler->device,
                                       .strategy = compiler->options->strategy};
    sg_cuda_kernel *kernel = NULL;
    sg_status status =
        sg_cuda_compile_region(&compilation, compiler->options->tune, &program->arena, &kernel);
    if (status == SG_OK) {
        const sg_cuda_choice *choice = &compilation.choice;
        program->work.kernels++;
        program->work.flops += compilation.problem.flops;
        program->work.bytes += compilation.problem.bytes;
        compiler->cost += choice->cost;
        compiler->host_cost += choice->host_cost;
        compiler->library_cost +=
            isfinite(choice->library_cost) ? choice->library_cost : choice->cost;
        sg_text_add(&compiler->text, "region %d: ", program->step_count);
        sg_cuda_explain(&compilation, kernel, &compiler->text);
        if (step->reason[0])
            sg_text_add(&compiler->text, "  ends here: %s\n", step->reason);
        made->cuda = kernel;
        keep_step(compiler, step, made);
    }
    sg_region_close(&compilation.region);
    return status;
}

static sg_status compile_step(sg_compiler *compiler, sg_step *step) {
    sg_program *program = compiler->program;
    if (step->foreign)
        return sg_fail(
            compiler->context, SG_INVALID,
            "foreign %%%s is run by the host; compile the regions of sg_partition_create "
            "one by one",
            sg_graph_node(compiler->partition->graph, step->outputs[0])->name);
    sg_program_step *made = &program->steps[program->step_count];
    int total = step->input_count + step->output_count;
    made->inputs = SG_ARENA_NEW(&program->arena, int, step->input_count + 1);
    made->outputs = SG_ARENA_NEW(&program->arena, int, step->output_count + 1);
    sg_layout *layouts = SG_ARENA_NEW(&program->arena, sg_layout, total + 1);
    if (sg_arena_failed(&program->arena))
        return sg_fail_memory(compiler->context);
    for (int i = 0; i < step->input_count; i++) {
        made->inputs[i] = place_of(compiler, step->inputs[i]);
        layouts[i] = *sg_program_layout(program, made->inputs[i]);
    }
    for (int i = 0; i < step->output_count; i++) {
        made->outputs[i] = place_of(compiler, step->outputs[i]);
        layouts[step->input_count + i] = *sg_program_layout(program, made->outputs[i]);
    }
    return on_gpu(compiler) ? compile_cuda_step(compiler, step, layouts, made)
                            : compile_cpu_step(compiler, step, layouts, made);
}

static sg_status check_profit(const sg_compiler *compiler) {
    bool always = compiler->options && compiler->options->always;
    if (on_gpu(compiler) && !always)
        return sg_cuda_judge(compiler->context, compiler->cost, compiler->host_cost,
                             compiler->library_cost);
    if (always || compiler->cost <= PROFIT * compiler->host_cost)
        return SG_OK;
    return sg_fail(
        compiler->context, SG_NOT_APPLICABLE,
        "expected %.3f ms fused against %.3f ms one operator after the other, which is no "
        "gain",
        compiler->cost * 1e3, compiler->host_cost * 1e3);
}

static sg_status compile(sg_compiler *compiler, const sg_layout *inputs) {
    sg_program *program = compiler->program;
    sg_status status = sg_context_create(&program->context);
    if (status == SG_OK)
        status = place_operands(compiler, inputs);
    if (status != SG_OK)
        return status;
    program->steps =
        SG_ARENA_NEW(&program->arena, sg_program_step, compiler->partition->step_count + 1);
    if (!program->steps)
        return sg_fail_memory(compiler->context);
    for (int i = 0; i < compiler->partition->step_count && status == SG_OK; i++)
        status = compile_step(compiler, &compiler->partition->steps[i]);
    if (status == SG_OK)
        status = check_profit(compiler);
    if (status == SG_OK && on_gpu(compiler))
        status = sg_cuda_link(compiler->context, program, &compiler->cuda.gpu,
                              compiler->options->alignment);
    if (status != SG_OK)
        return status;
    program->explanation = sg_text_take(&compiler->text);
    if (!program->explanation)
        return sg_fail_memory(compiler->context);
    sg_trace_program(program);
    return SG_OK;
}

sg_status sg_compile(const sg_graph *graph, const sg_layout *inputs, int input_count,
                     const sg_compile_options *options, sg_program **result) {
    sg_compiler compiler = {.context = graph->context, .options = options};
    sg_graph *bound = NULL;
    sg_status status =
        on_gpu(&compiler)
            ? sg_cuda_target_create(graph->context, options, &compiler.cuda, &compiler.device)
            : sg_target_create(graph->context, options, &compiler.target);
    if (status == SG_OK)
        status = sg_graph_bind(graph, inputs, input_count, &bound);
    if (status == SG_OK) {
        sg_trace_graph('p', "parse", bound);
        status = sg_partition_create(bound, &compiler.partition);
    }
    sg_graph_destroy(bound);
    if (status == SG_OK) {
        compiler.program = calloc(1, sizeof *compiler.program);
        status = compiler.program ? compile(&compiler, inputs) : sg_fail_memory(graph->context);
    }
    sg_partition_destroy(compiler.partition);
    sg_text_release(&compiler.text);
    if (status == SG_OK)
        *result = compiler.program;
    else
        sg_program_destroy(compiler.program);
    return status;
}

sg_status sg_program_explain(const sg_program *program, char **text) {
    *text = strdup(program->explanation);
    return *text ? SG_OK : SG_OUT_OF_MEMORY;
}

sg_status sg_partition_create(const sg_graph *graph, sg_partition **partition) {
    sg_graph *simplified;
    sg_status status = sg_simplify(graph, &simplified);
    if (status != SG_OK)
        return status;
    sg_trace_graph('s', "simplify", simplified);
    status = sg_partition_cut(simplified, partition);
    if (status == SG_OK)
        sg_trace_partition(*partition);
    return status;
}
