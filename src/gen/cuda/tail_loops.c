/* The bodies of a tail's functions. A row of stages, one more than there are channel reductions one
 * after another; a stage is
 *
 *   own pixels      what follows from earlier reductions, stored, taken in by running values, or
 *                   spread for the loops over slots
 *   slots, pixels   what has channels: reduced, taken in, put
 *
 * Names: vN is value N, an array [PIXELS] where it has no channels; wN is value N of own pixels; rN
 * is what one thread's slots give of reduction N; hN is value N of all slots and pixels. Numbers
 * are the tile program's. Values are made anew in every loop, but those without channels that a
 * loop over slots reads, and what costly functions make: they are arrays. */
#include <stdio.h>
#include <string.h>

#include "gen/cuda/tail.h"

/* Where a line stands decides what a source is called. */
typedef enum place {
    IN_FUNCTION,
    OVER_OWN,    /* for q */
    OVER_PIXELS, /* for p */
    OVER_SLOTS,  /* for j, and in it for p */
} place;

/* ---- lines --------------------------------------------------------------------------------- */

static void write_source(const sg_tail *tail, place where, int source, sg_text *text) {
    if (source < 0) {
        int number = -1 - source;
        if (sg_cuda_count(tail->problem, tail->program.counted[number], tail->arguments->arena))
            sg_text_add(text, "real(a.count%d)", number);
        else
            sg_tail_write_number(tail, tail->program.constants[number], text);
        return;
    }
    sg_shape shape = sg_tail_shape(tail, source);
    bool load = sg_tail_is_load(tail, source);
    if (tail->held[source])
        sg_text_add(text, "tile.result(p, j)");
    else if (shape == SG_SHAPE_RUN && where == OVER_OWN)
        sg_text_add(text, tail->own_ready[source] ? "w%d[q]" : "w%d", source);
    else if (shape == SG_SHAPE_RUN)
        sg_text_add(text, tail->pixels_ready[source] ? "v%d[p]" : "v%d", source);
    else
        sg_text_add(text, shape == SG_SHAPE_TILE && load ? "v%d[p]" : "v%d", source);
}

/* Of operands that are text, which is released. */
static void write_call(const sg_tail *tail, const sg_instruction *instruction, sg_text *operands,
                       sg_text *text) {
    for (int i = 0; i < instruction->source_count; i++)
        text->failed |= operands[i].failed;
    if (!text->failed)
        sg_tail_write_call(tail, instruction, operands, text);
    for (int i = 0; i < instruction->source_count; i++)
        sg_text_release(&operands[i]);
}

/* What an instruction that makes a value is, as an expression. */
static void write_expression(sg_tail *tail, place where, const sg_instruction *instruction,
                             sg_text *text) {
    if (instruction->kind == SG_INSTRUCTION_FINISH) {
        const sg_walk *walk = &tail->program.walks[instruction->walk];
        bool full = walk->shape & SG_SHAPE_CHANNEL;
        int slot = tail->slot[instruction->walk];
        sg_text_add(text, full ? "tile.walk(%d, p, j)" : "own%d[q]", slot);
        if (walk->reduction == SG_REDUCTION_SUM)
            sg_text_add(text, full ? " + tile.walk(%d, p, j)" : " + own%d[q]", slot + 1);
        return;
    }
    sg_text operands[SG_TILE_SOURCES_MAX] = {0};
    for (int i = 0; i < instruction->source_count; i++)
        write_source(tail, where, instruction->sources[i], &operands[i]);
    write_call(tail, instruction, operands, text);
}

static const char *input_name(const sg_tail *tail, int load) {
    return sg_graph_node(tail->graph, tail->graph->inputs[tail->program.loads[load].index])->name;
}
static const char *output_name(const sg_tail *tail, int store) {
    return sg_graph_node(tail->graph, tail->graph->outputs[tail->program.stores[store].index])
        ->name;
}

/* Neighbours along w that may be moved at once: they lie side by side, and the first of them at a
 * multiple of their bytes, wherever it is. */
static int vector_of(const sg_tail *tail, const sg_operand *operand, bool output) {
    int64_t bytes = sg_dtype_size(operand->dtype);
    int alignment = tail->target->alignment < 16 ? tail->target->alignment : 16;
    if (operand->stride[SG_ROLE_W] != 1)
        return 1;
    int vector = (int)(alignment / bytes > 1 ? alignment / bytes : 1);
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        int64_t step = role == SG_ROLE_W ? tail->problem->size[role] : operand->stride[role];
        while (step % vector != 0)
            vector /= 2;
    }
    sg_cuda_assume_vectors(tail->arguments, operand, output, SG_ROLE_W, vector,
                           sg_cuda_size(tail->problem, SG_ROLE_W, tail->arguments->arena));
    return vector;
}

/* ---- what a loop needs --------------------------------------------------------------------- */

static bool is_array(const sg_tail *tail, place where, int buffer) {
    if (where == OVER_OWN)
        return tail->own_ready[buffer];
    if (tail->held[buffer])
        return true;
    return sg_tail_shape(tail, buffer) == SG_SHAPE_RUN &&
           (where == OVER_SLOTS || tail->pixels_ready[buffer]);
}

static void want(sg_tail *tail, int source) {
    if (source >= 0)
        tail->wanted[source] = true;
}

static void want_nothing(sg_tail *tail) {
    memset(tail->wanted, 0, sizeof *tail->wanted * (size_t)(tail->program.buffer_count + 1));
}

/* Completes what is wanted by what it is made of, up to what is there already. */
static void want_sources(sg_tail *tail, place where) {
    for (int i = tail->count - 1; i >= 0; i--) {
        const sg_instruction *instruction = tail->all[i];
        if (instruction->kind != SG_INSTRUCTION_POINTWISE || !tail->wanted[instruction->dst] ||
            is_array(tail, where, instruction->dst))
            continue;
        for (int k = 0; k < instruction->source_count; k++)
            want(tail, instruction->sources[k]);
    }
}

/* Lines for the wanted values of a shape, loads left out. */
static void write_values(sg_tail *tail, place where, sg_shape shape, const char *indent,
                         sg_text *text) {
    for (int i = 0; i < tail->count; i++) {
        const sg_instruction *made = tail->all[i];
        bool makes = made->kind == SG_INSTRUCTION_POINTWISE || made->kind == SG_INSTRUCTION_FINISH;
        if (!makes || !tail->wanted[made->dst] || sg_tail_shape(tail, made->dst) != shape ||
            is_array(tail, where, made->dst))
            continue;
        sg_text_add(text, "%sconst real %c%d = ", indent, where == OVER_OWN ? 'w' : 'v', made->dst);
        write_expression(tail, where, made, text);
        sg_text_add(text, ";\n");
    }
}

/* ---- numbers ------------------------------------------------------------------------------- */

/* Values that are the same everywhere. */
static void write_numbers(sg_tail *tail, sg_text *text) {
    for (int i = 0; i < tail->count; i++) {
        const sg_instruction *made = tail->all[i];
        bool makes = made->kind == SG_INSTRUCTION_POINTWISE || made->kind == SG_INSTRUCTION_LOAD;
        if (!makes || !tail->needed[made->dst] || sg_tail_shape(tail, made->dst) != SG_SHAPE_NUMBER)
            continue;
        if (made->kind == SG_INSTRUCTION_LOAD) {
            sg_text_add(text, "        const real v%d = load(a.load%d); // %%%s\n", made->dst,
                        made->operand, input_name(tail, made->operand));
        } else {
            sg_text_add(text, "        const real v%d = ", made->dst);
            write_expression(tail, IN_FUNCTION, made, text);
            sg_text_add(text, ";\n");
        }
    }
}

/* ---- pixels without channels --------------------------------------------------------------- */

/* Arrays of the wanted operands that are not there yet. */
static void load_arrays(sg_tail *tail, place where, sg_text *text) {
    bool own = where == OVER_OWN;
    bool *ready = own ? tail->own_ready : tail->pixels_ready;
    for (int i = 0; i < tail->count; i++) {
        const sg_instruction *made = tail->all[i];
        if (made->kind != SG_INSTRUCTION_LOAD || !tail->wanted[made->dst] || ready[made->dst] ||
            sg_tail_shape(tail, made->dst) != SG_SHAPE_RUN)
            continue;
        char name = own ? 'w' : 'v';
        sg_text_add(text, "        real %c%d[Tile::%s]; // %%%s\n", name, made->dst,
                    own ? "OWN" : "PIXELS", input_name(tail, made->operand));
        if (own)
            sg_text_add(text, "        tile.load_own(");
        else
            sg_text_add(text, "        tile.load_pixels<%d>(",
                        vector_of(tail, &tail->program.loads[made->operand], false));
        sg_text_add(text, "a.load%d, a.load%d_stride, %c%d);\n", made->operand, made->operand, name,
                    made->dst);
        ready[made->dst] = true;
    }
}

/* Arrays of the values that are targets and not there yet, by one loop. */
static void write_arrays(sg_tail *tail, place where, const bool *chosen, sg_text *text) {
    bool own = where == OVER_OWN;
    bool *ready = own ? tail->own_ready : tail->pixels_ready;
    char name = own ? 'w' : 'v', index = own ? 'q' : 'p';
    const char *size = own ? "OWN" : "PIXELS";
    want_nothing(tail);
    bool any = false;
    for (int i = 0; i < tail->program.buffer_count; i++) {
        tail->wanted[i] = chosen[i] && !ready[i];
        any |= tail->wanted[i];
    }
    if (!any)
        return;
    want_sources(tail, where);
    load_arrays(tail, where, text);
    bool loop = false;
    for (int i = 0; i < tail->program.buffer_count; i++) {
        if (chosen[i] && !ready[i]) {
            sg_text_add(text, "        real %c%d[Tile::%s];\n", name, i, size);
            loop = true;
        }
    }
    if (!loop)
        return;
    sg_text_add(text, "        SG_UNROLL\n        for (int %c = 0; %c < Tile::%s; %c++) {\n", index,
                index, size, index);
    for (int i = 0; i < tail->count; i++) {
        const sg_instruction *made = tail->all[i];
        bool makes = made->kind == SG_INSTRUCTION_POINTWISE || made->kind == SG_INSTRUCTION_FINISH;
        if (!makes || !tail->wanted[made->dst] || ready[made->dst] ||
            sg_tail_shape(tail, made->dst) != SG_SHAPE_RUN)
            continue;
        if (chosen[made->dst])
            sg_text_add(text, "            %c%d[%c] = ", name, made->dst, index);
        else
            sg_text_add(text, "            const real %c%d = ", name, made->dst);
        write_expression(tail, where, made, text);
        sg_text_add(text, ";\n");
        if (chosen[made->dst])
            ready[made->dst] = true;
    }
    sg_text_add(text, "        }\n");
}

/* ---- own pixels ---------------------------------------------------------------------------- */

static bool is_effect(const sg_instruction *instruction) {
    return instruction->kind == SG_INSTRUCTION_STORE || instruction->kind == SG_INSTRUCTION_WALK;
}

static void write_own_effect(const sg_tail *tail, const sg_instruction *effect, sg_text *text) {
    int source = effect->sources[0];
    bool number = sg_tail_shape(tail, source) == SG_SHAPE_NUMBER;
    if (effect->kind == SG_INSTRUCTION_WALK) {
        int slot = tail->slot[effect->walk];
        sg_text_add(text, "        SG_UNROLL\n        for (int q = 0; q < Tile::OWN; q++)\n"
                          "            if (tile.own_valid(q))\n");
        if (effect->reduction == SG_REDUCTION_SUM)
            sg_text_add(text, "                add_compensated(own%d[q], own%d[q], ", slot,
                        slot + 1);
        else
            sg_text_add(text, "                own%d[q] = %s(own%d[q], ", slot,
                        sg_tail_combine(effect->reduction), slot);
        write_source(tail, OVER_OWN, source, text);
        sg_text_add(text, ");\n");
        return;
    }
    /* The same number for all pixels. */
    char array[32];
    snprintf(array, sizeof array, number ? "s%d" : "w%d", number ? effect->operand : source);
    if (number)
        sg_text_add(text,
                    "        real %s[Tile::OWN];\n        SG_UNROLL\n"
                    "        for (int q = 0; q < Tile::OWN; q++)\n            %s[q] = v%d;\n",
                    array, array, source);
    sg_text_add(text, "        tile.store_own(a.store%d, a.store%d_stride, %s); // %%%s\n",
                effect->operand, effect->operand, array, output_name(tail, effect->operand));
}

static void write_own_stage(sg_tail *tail, const sg_section *section, int stage, sg_text *text) {
    memset(tail->chosen, 0, sizeof *tail->chosen * (size_t)(tail->program.buffer_count + 1));
    for (int i = 0; i < tail->program.buffer_count; i++) {
        if (tail->feeds_slots[i] && tail->reduced[i] && tail->level[i] == stage)
            tail->chosen[i] = true;
    }
    for (int i = 0; i < section->count; i++) {
        const sg_instruction *effect = &section->items[i];
        int source = effect->sources[0];
        if (is_effect(effect) && sg_tail_shape(tail, source) == SG_SHAPE_RUN &&
            tail->level[source] == stage)
            tail->chosen[source] = true;
    }
    write_arrays(tail, OVER_OWN, tail->chosen, text);
    for (int i = 0; i < section->count; i++) {
        const sg_instruction *effect = &section->items[i];
        if (is_effect(effect) && !sg_tail_is_full(tail, effect->sources[0]) &&
            tail->level[effect->sources[0]] == stage)
            write_own_effect(tail, effect, text);
    }
    for (int i = 0; i < tail->program.buffer_count; i++) {
        if (!tail->feeds_slots[i] || !tail->reduced[i] || tail->level[i] != stage)
            continue;
        if (tail->made_by[i]->kind != SG_INSTRUCTION_ROWS)
            sg_text_add(text, "        real v%d[Tile::PIXELS];\n", i);
        sg_text_add(text, "        tile.spread(w%d, v%d);\n", i, i);
        tail->pixels_ready[i] = true;
    }
}

/* Arrays, for all loops over slots, of what has no channels and waits for no reduction. */
static void write_pixel_arrays(sg_tail *tail, sg_text *text) {
    for (int i = 0; i < tail->program.buffer_count; i++)
        tail->chosen[i] = tail->feeds_slots[i] && !tail->reduced[i];
    write_arrays(tail, OVER_PIXELS, tail->chosen, text);
}

/* ---- slots --------------------------------------------------------------------------------- */

/* Whether an instruction is done in a loop over slots of a stage. */
static bool is_slot_effect(const sg_tail *tail, const sg_instruction *instruction, int stage) {
    bool rows = instruction->kind == SG_INSTRUCTION_ROWS && tail->needed[instruction->dst];
    return (rows || (is_effect(instruction) && sg_tail_is_full(tail, instruction->sources[0]))) &&
           tail->level[instruction->sources[0]] == stage;
}

static void write_slot_effect(const sg_tail *tail, const sg_instruction *effect, sg_text *text) {
    const char *combine = sg_tail_combine(effect->reduction);
    int slot = effect->kind == SG_INSTRUCTION_WALK ? tail->slot[effect->walk] : 0;
    sg_text_add(text, "                ");
    if (effect->kind == SG_INSTRUCTION_STORE) {
        const sg_operand *operand = &tail->program.stores[effect->operand];
        sg_text_add(text, "tile.put<%d>(a.store%d, a.store%d_stride, p, j, ",
                    vector_of(tail, operand, true), effect->operand, effect->operand);
    } else if (effect->kind == SG_INSTRUCTION_ROWS) {
        sg_text_add(text, "r%d[p] = %s(r%d[p], ", effect->dst, combine, effect->dst);
    } else if (effect->reduction == SG_REDUCTION_SUM) {
        sg_text_add(text,
                    "if (tile.valid(p))\n                    "
                    "add_compensated(tile.walk(%d, p, j), tile.walk(%d, p, j), ",
                    slot, slot + 1);
    } else {
        sg_text_add(text,
                    "if (tile.valid(p))\n                    "
                    "tile.walk(%d, p, j) = %s(tile.walk(%d, p, j), ",
                    slot, combine, slot);
    }
    write_source(tail, OVER_SLOTS, effect->sources[0], text);
    sg_text_add(text, ");");
    if (effect->kind == SG_INSTRUCTION_STORE)
        sg_text_add(text, " // %%%s", output_name(tail, effect->operand));
    sg_text_add(text, "\n");
}

/* What a loop needs once per slot: operands, and values along channels alone. */
static void write_slot_values(sg_tail *tail, sg_text *text) {
    for (int i = 0; i < tail->count; i++) {
        const sg_instruction *load = tail->all[i];
        if (load->kind != SG_INSTRUCTION_LOAD || !tail->wanted[load->dst] ||
            !sg_tail_is_full(tail, load->dst))
            continue;
        const char *name = input_name(tail, load->operand);
        if (sg_tail_shape(tail, load->dst) == SG_SHAPE_CHANNEL) {
            sg_text_add(text, "            const real v%d = tile.per_channel(%d, j); // %%%s\n",
                        load->dst, tail->channel_operand[load->operand], name);
            continue;
        }
        sg_text_add(text,
                    "            real v%d[Tile::PIXELS]; // %%%s\n"
                    "            tile.load_tile<%d>(a.load%d, a.load%d_stride, j, v%d);\n",
                    load->dst, name, vector_of(tail, &tail->program.loads[load->operand], false),
                    load->operand, load->operand, load->dst);
    }
    write_values(tail, OVER_SLOTS, SG_SHAPE_CHANNEL, "            ", text);
}

/* The head of a loop over slots and pixels, down to the wanted values of one of them. */
static void write_loop_head(sg_tail *tail, sg_text *text) {
    sg_text_add(text, "        SG_UNROLL\n        for (int j = 0; j < Tile::CHANNELS; j++) {\n"
                      "            if (!tile.has(j))\n                continue;\n");
    write_slot_values(tail, text);
    sg_text_add(text, "            SG_UNROLL\n"
                      "            for (int p = 0; p < Tile::PIXELS; p++) {\n");
    int anchor = tail->program.anchor;
    if (anchor >= 0 && tail->wanted[anchor])
        sg_text_add(text, "                const real v%d = tile.acc(p, j);\n", anchor);
    write_values(tail, OVER_SLOTS, SG_SHAPE_TILE, "                ", text);
}

/* One loop, for the effects that are marked. */
static void write_slot_loop(sg_tail *tail, const bool *marked, sg_text *text) {
    want_nothing(tail);
    for (int i = 0; i < tail->count; i++) {
        const sg_instruction *effect = tail->all[i];
        if (!marked[i])
            continue;
        want(tail, effect->sources[0]);
        if (effect->kind == SG_INSTRUCTION_ROWS) {
            bool spread = tail->feeds_slots[effect->dst];
            sg_text_add(text, "        real r%d[Tile::PIXELS], w%d[Tile::OWN]", effect->dst,
                        effect->dst);
            sg_text_add(text, spread ? ", v%d[Tile::PIXELS];\n" : ";\n", effect->dst);
            sg_text_add(text,
                        "        SG_UNROLL\n        for (int p = 0; p < Tile::PIXELS; p++)\n"
                        "            r%d[p] = %s;\n",
                        effect->dst, sg_tail_identity(effect->reduction));
        }
    }
    want_sources(tail, OVER_SLOTS);
    write_loop_head(tail, text);
    for (int i = 0; i < tail->count; i++) {
        if (marked[i])
            write_slot_effect(tail, tail->all[i], text);
    }
    sg_text_add(text, "            }\n        }\n");
    for (int i = 0; i < tail->count; i++) {
        const sg_instruction *effect = tail->all[i];
        if (marked[i] && effect->kind == SG_INSTRUCTION_ROWS) {
            sg_text_add(text, "        tile.reduce(%s, r%d, w%d);\n",
                        sg_tail_combine(effect->reduction), effect->dst, effect->dst);
            tail->own_ready[effect->dst] = true;
        } else if (marked[i] && effect->kind == SG_INSTRUCTION_STORE) {
            sg_text_add(text, "        tile.flush<%d>(a.store%d, a.store%d_stride);\n",
                        vector_of(tail, &tail->program.stores[effect->operand], true),
                        effect->operand, effect->operand);
        }
    }
}

/* A tile may keep what is put until its loop ends, so every output has a loop of its own. */
static void write_slot_stage(sg_tail *tail, const sg_section *section, int stage, sg_text *text) {
    bool *marked = tail->marked;
    const sg_instruction *end = section->items + section->count;
    bool any = true;
    for (int loop = 0; any; loop++) {
        int stores = 0;
        any = false;
        for (int i = 0; i < tail->count; i++) {
            const sg_instruction *effect = tail->all[i];
            bool inside = effect >= section->items && effect < end;
            marked[i] = is_slot_effect(tail, effect, stage) &&
                        (inside || effect->kind == SG_INSTRUCTION_ROWS);
            if (marked[i])
                marked[i] = effect->kind == SG_INSTRUCTION_STORE ? stores++ == loop : loop == 0;
            any |= marked[i];
        }
        if (any)
            write_slot_loop(tail, marked, text);
    }
}

/* ---- costly functions ---------------------------------------------------------------------- */

/* The value with slots and pixels that a costly function of one such value is applied to; -1 for
 * other instructions. */
static int argument_of(const sg_tail *tail, const sg_instruction *made) {
    if (made->kind != SG_INSTRUCTION_POINTWISE || made->op == SG_OP_cast ||
        sg_op_get(made->op)->ulp < 2)
        return -1;
    int argument = -1;
    for (int i = 0; i < made->source_count; i++) {
        int source = made->sources[i];
        if (source < 0)
            continue;
        if (argument >= 0 || sg_tail_shape(tail, source) != SG_SHAPE_TILE)
            return -1;
        argument = source;
    }
    return argument;
}

/* Whether what is wanted follows from the value and no longer from the anchor: the value may then
 * take the place of the anchor's result. */
static bool replaces_anchor(sg_tail *tail, int value) {
    tail->held[value] = true;
    want_sources(tail, OVER_SLOTS);
    bool replaces = tail->wanted[value] && !tail->wanted[tail->program.anchor];
    tail->held[value] = false;
    return replaces;
}

/* Effects and reductions of a section, whatever their stage. */
static void want_section(sg_tail *tail, const sg_section *section) {
    const sg_instruction *end = section->items + section->count;
    want_nothing(tail);
    for (int i = 0; i < tail->count; i++) {
        const sg_instruction *effect = tail->all[i];
        bool inside = effect >= section->items && effect < end;
        bool rows = effect->kind == SG_INSTRUCTION_ROWS && tail->needed[effect->dst];
        if (rows || (inside && is_effect(effect)))
            want(tail, effect->sources[0]);
    }
}

/* The last function, before instruction `end` of all, whose value may take the anchor's place for
 * what is wanted; NULL for none. wanted: a value, or -1 for all effects of the section. */
static const sg_instruction *find_costly(sg_tail *tail, const sg_section *section, int wanted,
                                         int *end) {
    for (int i = *end - 1; i >= 0; i--) {
        const sg_instruction *made = tail->all[i];
        if (argument_of(tail, made) < 0 || tail->level[made->dst] > 0)
            continue;
        if (wanted < 0)
            want_section(tail, section);
        else
            want_nothing(tail);
        want(tail, wanted);
        if (replaces_anchor(tail, made->dst)) {
            *end = i;
            return made;
        }
    }
    return NULL;
}

static void write_costly(sg_tail *tail, const sg_instruction *made, sg_text *text) {
    int argument = argument_of(tail, made);
    want_nothing(tail);
    want(tail, argument);
    want_sources(tail, OVER_SLOTS);
    write_loop_head(tail, text);
    sg_text_add(text, "                tile.result(p, j) = ");
    write_source(tail, OVER_SLOTS, argument, text);
    sg_text_add(text,
                ";\n            }\n        }\n"
                "        apply<%d>(tile.results(), [](real x) { return ",
                (int)sg_cuda_op_work(made->op));
    sg_text operands[SG_TILE_SOURCES_MAX] = {0};
    for (int i = 0; i < made->source_count; i++) {
        if (made->sources[i] < 0)
            write_source(tail, OVER_SLOTS, made->sources[i], &operands[i]);
        else
            sg_text_add(&operands[i], "x");
    }
    write_call(tail, made, operands, text);
    sg_text_add(text, "; });\n");
    tail->held[made->dst] = true;
}

/* What costly functions make of the anchor's result, one after another. */
static void write_costly_functions(sg_tail *tail, const sg_section *section, sg_text *text) {
    const sg_instruction *chain[8];
    int length = 0, end = tail->count, wanted = -1;
    enum { LENGTH_MAX = sizeof chain / sizeof *chain };
    if (tail->program.anchor < 0 || section != &tail->program.tile)
        return;
    while (length < LENGTH_MAX) {
        const sg_instruction *made = find_costly(tail, section, wanted, &end);
        if (!made)
            break;
        chain[length++] = made;
        wanted = argument_of(tail, made);
    }
    while (length > 0)
        write_costly(tail, chain[--length], text);
}

/* ---- bodies -------------------------------------------------------------------------------- */

/* What a section needs, through all of its reductions, and how many stages that takes. */
static int find_needed(sg_tail *tail, const sg_section *section) {
    size_t bytes = sizeof(bool) * (size_t)(tail->program.buffer_count + 1);
    int stages = 0;
    memset(tail->needed, 0, bytes);
    memset(tail->feeds_slots, 0, bytes);
    memset(tail->own_ready, 0, bytes);
    memset(tail->pixels_ready, 0, bytes);
    memset(tail->held, 0, bytes);
    for (int i = tail->count - 1; i >= 0; i--) {
        const sg_instruction *user = tail->all[i];
        bool inside = user >= section->items && user < section->items + section->count;
        bool effect = is_effect(user);
        if (effect ? !inside : !tail->needed[user->dst])
            continue;
        bool full = effect || user->kind == SG_INSTRUCTION_ROWS
                        ? sg_tail_is_full(tail, user->sources[0])
                        : sg_tail_is_full(tail, user->dst);
        for (int k = 0; k < user->source_count; k++) {
            int source = user->sources[k];
            if (source < 0)
                continue;
            tail->needed[source] = true;
            tail->feeds_slots[source] |= full && sg_tail_shape(tail, source) == SG_SHAPE_RUN;
            stages = tail->level[source] >= stages ? tail->level[source] + 1 : stages;
        }
    }
    return stages;
}

void sg_tail_write_body(sg_tail *tail, const sg_section *section, sg_text *text) {
    int stages = find_needed(tail, section);
    write_numbers(tail, text);
    write_pixel_arrays(tail, text);
    write_costly_functions(tail, section, text);
    for (int stage = 0; stage < stages; stage++) {
        write_own_stage(tail, section, stage, text);
        write_slot_stage(tail, section, stage, text);
    }
}
