/* What is to be known of a tail's values before its text is written. */
#include <string.h>

#include "gen/cuda/tail.h"

static bool same_operand(const sg_operand *a, const sg_operand *b) {
    return a->index == b->index && a->domain == b->domain &&
           memcmp(a->stride, b->stride, sizeof a->stride) == 0 &&
           memcmp(a->dim, b->dim, sizeof a->dim) == 0 &&
           memcmp(a->step, b->step, sizeof a->step) == 0;
}

/* An operand that is read more than once is one load: later ones give way to the first.
 * kept: [load] the buffer of each load that stays, or -1; instead: [buffer] itself, or the first.
 */
static void merge_loads(sg_tile_program *program, sg_section *section, int *kept, int *instead) {
    int count = 0;
    for (int i = 0; i < section->count; i++) {
        sg_instruction instruction = section->items[i];
        for (int k = 0; k < instruction.source_count; k++) {
            if (instruction.sources[k] >= 0)
                instruction.sources[k] = instead[instruction.sources[k]];
        }
        bool again = false;
        for (int load = 0;
             instruction.kind == SG_INSTRUCTION_LOAD && load < program->load_count && !again;
             load++) {
            again = kept[load] >= 0 &&
                    same_operand(&program->loads[load], &program->loads[instruction.operand]);
            if (again)
                instead[instruction.dst] = kept[load];
        }
        if (instruction.kind == SG_INSTRUCTION_LOAD && !again)
            kept[instruction.operand] = instruction.dst;
        section->items[count] = instruction;
        count += !again;
    }
    section->count = count;
}

static void list_all(sg_tail *tail) {
    const sg_tile_program *program = &tail->program;
    const sg_section *sections[] = {&program->item, &program->tile, &program->after};
    for (int s = 0; s < 3; s++) {
        for (int i = 0; i < sections[s]->count; i++)
            tail->all[tail->count++] = &sections[s]->items[i];
    }
}

static void describe_values(sg_tail *tail) {
    for (int i = 0; i < tail->count; i++) {
        const sg_instruction *instruction = tail->all[i];
        if (instruction->kind == SG_INSTRUCTION_STORE || instruction->kind == SG_INSTRUCTION_WALK)
            continue;
        int level = 0;
        bool reduced = instruction->kind != SG_INSTRUCTION_LOAD;
        if (instruction->kind == SG_INSTRUCTION_POINTWISE)
            reduced = false;
        for (int k = 0; k < instruction->source_count; k++) {
            int source = instruction->sources[k];
            if (source < 0)
                continue;
            level = tail->level[source] > level ? tail->level[source] : level;
            reduced |= tail->reduced[source];
        }
        int dst = instruction->dst;
        tail->made_by[dst] = instruction;
        tail->level[dst] = level + (instruction->kind == SG_INSTRUCTION_ROWS);
        tail->reduced[dst] = reduced && sg_tail_shape(tail, dst) == SG_SHAPE_RUN;
    }
}

static void find_live(sg_tail *tail) {
    for (int i = tail->count - 1; i >= 0; i--) {
        const sg_instruction *instruction = tail->all[i];
        bool effect =
            instruction->kind == SG_INSTRUCTION_STORE || instruction->kind == SG_INSTRUCTION_WALK;
        for (int k = 0; k < instruction->source_count; k++) {
            if (instruction->sources[k] >= 0 && (effect || tail->live[instruction->dst]))
                tail->live[instruction->sources[k]] = true;
        }
    }
}

/* Sums carry what their additions rounded away beside them. */
static void number_slots(sg_tail *tail) {
    for (int i = 0; i < tail->program.walk_count; i++) {
        const sg_walk *walk = &tail->program.walks[i];
        int *slots = walk->shape & SG_SHAPE_CHANNEL ? &tail->full_slots : &tail->own_slots;
        tail->slot[i] = *slots;
        *slots += walk->reduction == SG_REDUCTION_SUM ? 2 : 1;
    }
}

static void number_channel_operands(sg_tail *tail) {
    for (int i = 0; i < tail->program.load_count; i++)
        tail->channel_operand[i] = -1;
    for (int i = 0; i < tail->count; i++) {
        const sg_instruction *load = tail->all[i];
        if (load->kind == SG_INSTRUCTION_LOAD && tail->live[load->dst] &&
            sg_tail_shape(tail, load->dst) == SG_SHAPE_CHANNEL)
            tail->channel_operand[load->operand] = tail->channel_operands++;
    }
}

sg_status sg_tail_open(sg_cuda_arguments *arguments, const sg_cuda_target *target, sg_arena *arena,
                       sg_tail *tail) {
    const sg_problem *problem = arguments->problem;
    *tail = (sg_tail){.arguments = arguments,
                      .problem = problem,
                      .target = target,
                      .graph = problem->region->graph};
    sg_tile_program *program = &tail->program;
    sg_status status = sg_encode_tile_program(problem, SG_TILING_PIXELS, arena, program);
    if (status != SG_OK)
        return status;
    int buffers = program->buffer_count + 1, loads = program->load_count + 1;
    int count = program->item.count + program->tile.count + program->after.count + 1;
    int *instead = SG_ARENA_NEW(arena, int, buffers);
    int *kept = SG_ARENA_NEW(arena, int, loads);
    tail->all = SG_ARENA_NEW(arena, const sg_instruction *, count);
    tail->made_by = SG_ARENA_NEW(arena, const sg_instruction *, buffers);
    tail->level = SG_ARENA_NEW(arena, int, buffers);
    tail->reduced = SG_ARENA_NEW(arena, bool, buffers);
    tail->live = SG_ARENA_NEW(arena, bool, buffers);
    tail->channel_operand = SG_ARENA_NEW(arena, int, loads);
    tail->slot = SG_ARENA_NEW(arena, int, program->walk_count + 1);
    tail->needed = SG_ARENA_NEW(arena, bool, buffers);
    tail->feeds_slots = SG_ARENA_NEW(arena, bool, buffers);
    tail->chosen = SG_ARENA_NEW(arena, bool, buffers);
    tail->marked = SG_ARENA_NEW(arena, bool, count);
    tail->own_ready = SG_ARENA_NEW(arena, bool, buffers);
    tail->pixels_ready = SG_ARENA_NEW(arena, bool, buffers);
    tail->held = SG_ARENA_NEW(arena, bool, buffers);
    tail->wanted = SG_ARENA_NEW(arena, bool, buffers);
    if (sg_arena_failed(arena))
        return sg_fail_memory(tail->graph->context);
    for (int i = 0; i < buffers; i++)
        instead[i] = i;
    for (int i = 0; i < loads; i++)
        kept[i] = -1;
    merge_loads(program, &program->item, kept, instead);
    merge_loads(program, &program->tile, kept, instead);
    merge_loads(program, &program->after, kept, instead);
    list_all(tail);
    describe_values(tail);
    find_live(tail);
    number_slots(tail);
    number_channel_operands(tail);
    return SG_OK;
}
