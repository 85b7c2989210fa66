/* Kernels as text, for people. */
#include <inttypes.h>

#include "gen/cpu/lower.h"

static const char *const role_names[SG_ROLE_COUNT] = {"N", "C", "D", "H", "W"};
static const char *const shape_names[SG_SHAPE_COUNT] = {"number", "channels", "run", "tile"};
static const char *const reduction_names[SG_REDUCTION_COUNT] = {"sum", "prod", "amin", "amax"};

static void print_source(const sg_tile_program *program, int source, sg_text *text) {
    if (source < 0)
        sg_text_add(text, "%.9g", program->constants[-1 - source]);
    else
        sg_text_add(text, "t%d", source);
}

static void print_operand(const sg_graph *graph, const sg_operand *operand, bool output,
                          sg_text *text) {
    sg_value value = output ? graph->outputs[operand->index] : graph->inputs[operand->index];
    sg_text_add(text, "%%%s", sg_graph_node(graph, value)->name);
    for (int role = 0, first = 1; role < SG_ROLE_COUNT; role++) {
        if (operand->domain >> role & 1U) {
            sg_text_add(text, "%s%s", first ? "[" : ", ", role_names[role]);
            first = 0;
        }
    }
    sg_text_add(text, operand->domain ? "]" : "");
}

static void print_instruction(const sg_tile_program *program, const sg_graph *graph,
                              const sg_instruction *instruction, sg_text *text) {
    const char *reduction = reduction_names[instruction->reduction];
    sg_text_add(text, "    ");
    if (instruction->kind == SG_INSTRUCTION_STORE) {
        sg_text_add(text, "store ");
        print_operand(graph, &program->stores[instruction->operand], true, text);
        sg_text_add(text, " = t%d\n", instruction->sources[0]);
        return;
    }
    if (instruction->kind == SG_INSTRUCTION_WALK) {
        sg_text_add(text, "walk r%d = %s(r%d, t%d)\n", instruction->walk, reduction,
                    instruction->walk, instruction->sources[0]);
        return;
    }
    sg_text_add(text, "t%d:%s = ", instruction->dst,
                shape_names[program->buffers[instruction->dst].shape]);
    switch (instruction->kind) {
    case SG_INSTRUCTION_LOAD:
        sg_text_add(text, "load ");
        print_operand(graph, &program->loads[instruction->operand], false, text);
        break;
    case SG_INSTRUCTION_ROWS:
        sg_text_add(text, "%s over channels t%d", reduction, instruction->sources[0]);
        break;
    case SG_INSTRUCTION_COLUMNS:
        sg_text_add(text, "%s over the run t%d", reduction, instruction->sources[0]);
        break;
    case SG_INSTRUCTION_FINISH:
        sg_text_add(text, "r%d", instruction->walk);
        break;
    default:
        sg_text_add(text, "%s", sg_op_get(instruction->op)->name);
        for (int i = 0; i < instruction->source_count; i++) {
            sg_text_add(text, i ? ", " : " ");
            print_source(program, instruction->sources[i], text);
        }
    }
    const sg_op_info *info = sg_op_get(instruction->op);
    for (int i = 0; instruction->kind == SG_INSTRUCTION_POINTWISE && i < info->attribute_count;
         i++) {
        if (instruction->attributes[i] != info->attributes[i].initial)
            sg_text_add(text, " %s=%g", info->attributes[i].name, instruction->attributes[i]);
    }
    sg_text_add(text, "\n");
}

static void print_section(const sg_cpu_kernel *kernel, const sg_graph *graph, const char *title,
                          const sg_section *section, sg_text *text) {
    if (section->count)
        sg_text_add(text, "  %s:\n", title);
    for (int i = 0; i < section->count; i++)
        print_instruction(&kernel->program, graph, &section->items[i], text);
}

static void print_convolution(const sg_cpu_kernel *kernel, const sg_graph *graph, sg_text *text) {
    const sg_convolution *convolution = &kernel->convolution;
    sg_text_add(text, "  t%d:tile = contract %%%s, %%%s", kernel->program.anchor,
                sg_graph_node(graph, graph->inputs[convolution->input.index])->name,
                sg_graph_node(graph, graph->inputs[convolution->weight.index])->name);
    if (convolution->bias.index >= 0)
        sg_text_add(text, ", %%%s",
                    sg_graph_node(graph, graph->inputs[convolution->bias.index])->name);
    sg_text_add(text, "\n");
}

static void print_slab(const sg_cpu_kernel *kernel, sg_text *text) {
    const sg_convolution *convolution = &kernel->convolution;
    const sg_slab *slab = &kernel->slab;
    double kib = (kernel->isa->compute == SG_ELEMENT_F64 ? 8.0 : 4.0) / 1024;
    sg_text_add(text,
                "  %" PRId64 " products an output, %" PRId64
                " to a register sum%s; slab of %" PRId64 " channels x %" PRId64 " x %" PRId64
                " x %" PRId64 ", %.0f KiB; weights packed, %.0f KiB\n",
                convolution->in_channels / convolution->groups * slab->taps, kernel->plan.sum,
                kernel->pairs ? ", in pairs" : "", convolution->in_channels,
                slab->extent[0] * slab->phase_count[0], slab->extent[1] * slab->phase_count[1],
                slab->extent[2] * slab->phase_count[2], (double)slab->size * kib,
                (double)kernel->packed_size * kib);
}

void sg_tile_program_print(const sg_cpu_kernel *kernel, const sg_graph *graph, sg_text *text) {
    print_section(kernel, graph, "once per item", &kernel->program.item, text);
    if (kernel->has_convolution)
        print_convolution(kernel, graph, text);
    print_section(kernel, graph, "for every tile", &kernel->program.tile, text);
    print_section(kernel, graph, "after the walk", &kernel->program.after, text);
}

void sg_cpu_kernel_print(const sg_cpu_kernel *kernel, const sg_graph *graph, sg_text *text) {
    sg_text_add(text, "  space N=%" PRId64 " C=%" PRId64 " D=%" PRId64 " H=%" PRId64 " W=%" PRId64,
                kernel->size[0], kernel->size[1], kernel->size[2], kernel->size[3],
                kernel->size[4]);
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        if (kernel->walk >> role & 1U)
            sg_text_add(text, ", walks %s", role_names[role]);
    }
    sg_text_add(text,
                "\n  box D=%" PRId64 " H=%" PRId64 " W=%" PRId64 ", runs of %" PRId64
                " pixels along %s, %s\n",
                kernel->plan.box[0], kernel->plan.box[1], kernel->plan.box[2], kernel->plan.run,
                kernel->flat ? "rows laid end to end" : "one row", kernel->isa->isa);
    if (kernel->has_convolution)
        print_slab(kernel, text);
    sg_tile_program_print(kernel, graph, text);
}
