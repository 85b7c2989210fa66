/* The text of `struct Tail` and what stands before it. */
#include "gen/cuda/tail.h"

#include <stdio.h>

static void add_operands(const sg_tail *tail, sg_cuda_arguments *arguments) {
    char name[32];
    for (int i = 0; i < tail->count; i++) {
        const sg_instruction *load = tail->all[i];
        if (load->kind != SG_INSTRUCTION_LOAD || !tail->live[load->dst])
            continue;
        snprintf(name, sizeof name, "load%d", load->operand);
        sg_cuda_add_tensor(arguments, name, &tail->program.loads[load->operand], false);
    }
    for (int i = 0; i < tail->program.store_count; i++) {
        snprintf(name, sizeof name, "store%d", i);
        sg_cuda_add_tensor(arguments, name, &tail->program.stores[i], true);
    }
}

/* What means are divided by, where it is not the same for all sizes. */
static void add_counts(const sg_tail *tail, sg_cuda_arguments *arguments) {
    const sg_tile_program *program = &tail->program;
    char name[32];
    for (int i = 0; i < program->constant_count; i++) {
        const char *product = sg_cuda_count(tail->problem, program->counted[i], arguments->arena);
        snprintf(name, sizeof name, "count%d", i);
        if (product)
            sg_cuda_add_number(arguments, name, (int64_t)program->constants[i], "%s", product);
    }
}

static void write_constants(const sg_tail *tail, sg_text *text) {
    sg_text_add(text, "constexpr bool WALKS = %s;\n", tail->problem->walk ? "true" : "false");
    sg_text_add(text, "constexpr int FULL_WALKS = %d;\n", tail->full_slots);
    sg_text_add(text, "constexpr int CHANNEL_OPERANDS = %d;\n\n", tail->channel_operands);
}

static void write_channel_operand(const sg_tail *tail, sg_text *text) {
    sg_text_add(text, "__device__ real channel_operand(int k, int c, const Arguments &a) {\n");
    for (int i = 0; i < tail->count; i++) {
        const sg_instruction *load = tail->all[i];
        int number = load->kind == SG_INSTRUCTION_LOAD ? tail->channel_operand[load->operand] : -1;
        if (number >= 0)
            sg_text_add(
                text, "    if (k == %d)\n        return load(a.load%d + c * a.load%d_stride.c);\n",
                number, load->operand, load->operand);
    }
    sg_text_add(text, "    return real(0);\n}\n\n");
}

/* ---- running values ------------------------------------------------------------------------ */

static bool is_sum(const sg_walk *walk) {
    return walk->reduction == SG_REDUCTION_SUM;
}

static void write_members(const sg_tail *tail, sg_text *text) {
    for (int slot = 0; slot < tail->own_slots; slot++)
        sg_text_add(text, "    real own%d[Tile::OWN];\n", slot);
}

static void write_begin(const sg_tail *tail, sg_text *text) {
    sg_text_add(text, "    __device__ __forceinline__ void begin(Tile &tile) {\n");
    for (int i = 0; i < tail->program.walk_count; i++) {
        const sg_walk *walk = &tail->program.walks[i];
        bool full = walk->shape & SG_SHAPE_CHANNEL;
        for (int slot = tail->slot[i]; slot <= tail->slot[i] + is_sum(walk); slot++) {
            if (full)
                sg_text_add(text,
                            "        SG_UNROLL\n        for (int j = 0; j < Tile::CHANNELS; j++)\n"
                            "            SG_UNROLL\n"
                            "            for (int p = 0; p < Tile::PIXELS; p++)\n"
                            "                tile.walk(%d, p, j) = %s;\n",
                            slot, sg_tail_identity(walk->reduction));
            else
                sg_text_add(text,
                            "        SG_UNROLL\n        for (int q = 0; q < Tile::OWN; q++)\n"
                            "            own%d[q] = %s;\n",
                            slot, sg_tail_identity(walk->reduction));
        }
    }
    sg_text_add(text, "    }\n");
}

static void write_merge(const sg_tail *tail, sg_text *text) {
    sg_text_add(text, "    template <class Join>\n"
                      "    __device__ __forceinline__ void merge(Tile &tile, Join join) {\n");
    for (int i = 0; i < tail->program.walk_count; i++) {
        const sg_walk *walk = &tail->program.walks[i];
        bool full = walk->shape & SG_SHAPE_CHANNEL;
        char value[40], rest[40];
        const char *format = full ? "tile.walk(%d, p, j)" : "own%d[q]";
        snprintf(value, sizeof value, format, tail->slot[i]);
        snprintf(rest, sizeof rest, format, tail->slot[i] + 1);
        sg_text_add(text, full ? "        SG_UNROLL\n"
                                 "        for (int j = 0; j < Tile::CHANNELS; j++)\n"
                                 "            SG_UNROLL\n"
                                 "            for (int p = 0; p < Tile::PIXELS; p++)\n"
                                 "                "
                               : "        SG_UNROLL\n        for (int q = 0; q < Tile::OWN; q++)\n"
                                 "            ");
        if (is_sum(walk))
            sg_text_add(text, "join.sum(%s, %s);\n", value, rest);
        else
            sg_text_add(text, "%s = join(%s, %s);\n", value, sg_tail_combine(walk->reduction),
                        value);
    }
    sg_text_add(text, "    }\n");
}

/* ---- the whole ----------------------------------------------------------------------------- */

static void write_function(sg_tail *tail, const char *name, const sg_section *section,
                           sg_text *text) {
    sg_text_add(text, "    __device__ __forceinline__ void %s(Tile &tile, const Arguments &a) {\n",
                name);
    sg_tail_write_body(tail, section, text);
    sg_text_add(text, "    }\n");
}

sg_status sg_cuda_write_tail(const sg_problem *problem, const sg_cuda_target *target,
                             sg_arena *arena, sg_cuda_arguments *arguments, sg_text *text) {
    sg_tail tail;
    sg_text body = {0};
    sg_status status = sg_tail_open(arguments, target, arena, &tail);
    if (status != SG_OK)
        return status;
    add_operands(&tail, arguments);
    add_counts(&tail, arguments);
    write_members(&tail, &body);
    write_begin(&tail, &body);
    write_function(&tail, "step", &tail.program.tile, &body);
    write_merge(&tail, &body);
    write_function(&tail, "end", &tail.program.after, &body);
    sg_text_add(text, "//@ include math.cuh\n" SG_CUDA_TAIL_BEGIN "\n");
    write_constants(&tail, text);
    write_channel_operand(&tail, text);
    sg_text_add(text, "struct Tail {\n%s};\n" SG_CUDA_TAIL_END "\n", body.data ? body.data : "");
    bool failed = text->failed || body.failed || sg_arena_failed(arena);
    sg_text_release(&body);
    return failed ? sg_fail_memory(problem->region->graph->context) : SG_OK;
}
