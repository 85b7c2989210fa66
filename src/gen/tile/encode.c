/* Encoding of tile programs: the nodes of a region, in order, as instructions over tile buffers.
 * Buffers are first made without end, then packed into slots by their lifetimes. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "gen/tile/program.h"

typedef struct sg_encoder {
    const sg_problem *problem;
    sg_tiling tiling;
    const sg_graph *graph;
    sg_arena *arena;
    sg_tile_program *program;
    int *buffer_of; /* [node]: buffer of a member value, -1 before it is made */
} sg_encoder;

/* What a source operand is: a buffer, or -1 - i for constant i. */
typedef int sg_source;

/* ---- element types ------------------------------------------------------------------------- */

sg_element sg_element_of(sg_dtype dtype) {
    switch (dtype) {
    case SG_BOOL:
        return SG_ELEMENT_BOOL;
    case SG_F16:
        return SG_ELEMENT_F16;
    case SG_BF16:
        return SG_ELEMENT_BF16;
    case SG_F64:
        return SG_ELEMENT_F64;
    default:
        assert(dtype == SG_F32);
        return SG_ELEMENT_F32;
    }
}

/* ---- growing lists ------------------------------------------------------------------------- */

static void *grow(sg_arena *arena, void *items, int count, int *capacity, size_t size) {
    if (count < *capacity) {
        return items;
    }
    int larger = *capacity ? *capacity * 2 : 16;
    void *copy = sg_arena_alloc(arena, size * (size_t)larger);
    if (copy && count) {
        memcpy(copy, items, size * (size_t)count);
    }
    *capacity = copy ? larger : *capacity;
    return copy ? copy : items;
}

static int new_buffer(sg_encoder *encoder, sg_shape shape) {
    sg_tile_program *program = encoder->program;
    program->buffers = grow(encoder->arena, program->buffers, program->buffer_count,
                            &program->buffer_capacity, sizeof *program->buffers);
    if (sg_arena_failed(encoder->arena)) {
        return 0;
    }
    program->buffers[program->buffer_count] = (sg_buffer){.shape = shape, .slot = -1};
    return program->buffer_count++;
}

static void emit(sg_encoder *encoder, sg_section *section, sg_instruction instruction) {
    section->items = grow(encoder->arena, section->items, section->count, &section->capacity,
                          sizeof *section->items);
    if (!sg_arena_failed(encoder->arena)) {
        section->items[section->count++] = instruction;
    }
}

static sg_source constant(sg_encoder *encoder, double value) {
    sg_tile_program *program = encoder->program;
    for (int i = 0; i < program->constant_count; i++) {
        bool same = memcmp(&program->constants[i], &value, sizeof value) == 0;
        if (same && !program->counted[i]) {
            return -1 - i;
        }
    }
    program->constants[program->constant_count] = value;
    return -1 - program->constant_count++;
}

/* ---- shapes -------------------------------------------------------------------------------- */

/* Pixel by pixel, a single channel is none: it may lie with another thread. */
static bool has_channels(const sg_encoder *encoder, unsigned roles) {
    bool single = encoder->problem->size[SG_ROLE_C] == 1;
    return roles >> SG_ROLE_C & 1U && !(encoder->tiling == SG_TILING_PIXELS && single);
}

static sg_shape shape_of_roles(const sg_encoder *encoder, unsigned roles) {
    unsigned run = encoder->tiling == SG_TILING_PIXELS ? ~(1U << SG_ROLE_C)
                                                       : sg_problem_run_roles(encoder->problem);
    return (sg_shape)((has_channels(encoder, roles) ? SG_SHAPE_CHANNEL : 0) |
                      (roles & run ? SG_SHAPE_RUN : 0));
}

/* Whether the run is combined at every step of the walk. */
static bool run_is_walked(const sg_encoder *encoder) {
    return encoder->tiling == SG_TILING_RUNS && encoder->problem->walk >> SG_ROLE_W & 1U;
}

/* A member's tile: one piece per run, unless the run was reduced. Axes of size 1 have no role in a
 * region without an anchor, so the run bit does not come from the domain. */
static sg_shape shape_of_member(const sg_encoder *encoder, sg_value value) {
    const sg_problem *problem = encoder->problem;
    bool whole = sg_problem_domain(problem, value) >> SG_ROLE_C & 1U;
    bool run = !(problem->region->members[value].after_walk && run_is_walked(encoder));
    return (sg_shape)((whole ? SG_SHAPE_CHANNEL : 0) | (run ? SG_SHAPE_RUN : 0));
}

static sg_section *section_of(const sg_encoder *encoder, sg_value value) {
    return encoder->problem->region->members[value].after_walk ? &encoder->program->after
                                                               : &encoder->program->tile;
}

/* ---- sources ------------------------------------------------------------------------------- */

/* Loads an input. What does not vary inside an item is loaded once per item. */
static sg_source load(sg_encoder *encoder, sg_section *section, const sg_operand *operand) {
    const sg_problem *problem = encoder->problem;
    sg_tile_program *program = encoder->program;
    sg_shape shape = shape_of_roles(encoder, operand->domain);
    /* D and H are fixed inside an item where they are kept and not part of the run. */
    unsigned moving = sg_problem_run_roles(problem) | problem->walk;
    bool fixed =
        encoder->tiling == SG_TILING_PIXELS ? !(shape & SG_SHAPE_RUN) : !(operand->domain & moving);
    section = fixed ? &program->item : section;
    int index = program->load_count++;
    program->loads[index] = *operand;
    int buffer = new_buffer(encoder, shape);
    emit(encoder, section,
         (sg_instruction){.kind = SG_INSTRUCTION_LOAD, .dst = buffer, .operand = index});
    return buffer;
}

/* Operand `place` of a node whose instructions go to section. */
static sg_source source(sg_encoder *encoder, sg_section *section, sg_value node, int place) {
    const sg_problem *problem = encoder->problem;
    sg_value operand = sg_graph_node(encoder->graph, node)->operands[place];
    if (problem->region->members[operand].in) {
        return encoder->buffer_of[operand];
    }
    if (sg_graph_node(encoder->graph, operand)->op == SG_OP_constant) {
        return constant(encoder, sg_node_attribute(encoder->graph, operand, "value")->number);
    }
    for (int i = 0; i < problem->access_count; i++) {
        if (problem->accesses[i].node == node && problem->accesses[i].place == place) {
            return load(encoder, section, &problem->accesses[i].operand);
        }
    }
    assert(!"an operand is a member, a constant or an access");
    return 0;
}

/* ---- instructions -------------------------------------------------------------------------- */

/* Pixel by pixel a result has the shape that its sources have together. */
static sg_shape shape_of_sources(const sg_encoder *encoder, const sg_source *sources, int count) {
    int shape = SG_SHAPE_NUMBER;
    for (int i = 0; i < count; i++) {
        shape |= sources[i] < 0 ? SG_SHAPE_NUMBER : encoder->program->buffers[sources[i]].shape;
    }
    return (sg_shape)shape;
}

/* shape: of the result; asked by runs alone. */
static int pointwise(sg_encoder *encoder, sg_section *section, sg_op op, sg_shape shape,
                     const sg_source *sources, const double *attributes) {
    const sg_op_info *info = sg_op_get(op);
    if (encoder->tiling == SG_TILING_PIXELS) {
        shape = shape_of_sources(encoder, sources, info->arity);
    }
    sg_instruction instruction = {.kind = SG_INSTRUCTION_POINTWISE,
                                  .op = op,
                                  .dst = new_buffer(encoder, shape),
                                  .source_count = info->arity};
    for (int i = 0; i < info->arity; i++) {
        instruction.sources[i] = sources[i];
    }
    for (int i = 0; i < info->attribute_count; i++) {
        instruction.attributes[i] = attributes ? attributes[i] : info->attributes[i].initial;
    }
    emit(encoder, section, instruction);
    return instruction.dst;
}

static int unary(sg_encoder *encoder, sg_section *section, sg_op op, sg_shape shape, sg_source a) {
    return pointwise(encoder, section, op, shape, &a, NULL);
}

static int binary(sg_encoder *encoder, sg_section *section, sg_op op, sg_shape shape, sg_source a,
                  sg_source b) {
    return pointwise(encoder, section, op, shape, (sg_source[]){a, b}, NULL);
}

/* Reduction over the channels; a value without channels is its own reduction. */
static int reduce_rows(sg_encoder *encoder, sg_section *section, sg_reduction reduction, int from) {
    sg_shape shape = encoder->program->buffers[from].shape;
    if (!(shape & SG_SHAPE_CHANNEL)) {
        return from;
    }
    /* Pixel by pixel, threads that share a pixel reduce together. */
    int reduced = encoder->tiling == SG_TILING_PIXELS ? SG_SHAPE_RUN : shape & ~SG_SHAPE_CHANNEL;
    int dst = new_buffer(encoder, (sg_shape)reduced);
    emit(encoder, section,
         (sg_instruction){.kind = SG_INSTRUCTION_ROWS,
                          .reduction = reduction,
                          .dst = dst,
                          .source_count = 1,
                          .sources = {from}});
    return dst;
}

/* Running value of a reduction over the walked axes; its result stands in the after section. */
static int walk(sg_encoder *encoder, sg_reduction reduction, int from) {
    sg_tile_program *program = encoder->program;
    if (run_is_walked(encoder)) {
        int dst = new_buffer(encoder, (sg_shape)(program->buffers[from].shape & ~SG_SHAPE_RUN));
        emit(encoder, &program->tile,
             (sg_instruction){.kind = SG_INSTRUCTION_COLUMNS,
                              .reduction = reduction,
                              .dst = dst,
                              .source_count = 1,
                              .sources = {from}});
        from = dst;
    }
    int index = program->walk_count++;
    int running = encoder->tiling == SG_TILING_PIXELS ? SG_SHAPE_RUN : 0;
    sg_shape shape = (sg_shape)(program->buffers[from].shape | running);
    program->walks[index] = (sg_walk){.reduction = reduction, .shape = shape};
    emit(encoder, &program->tile,
         (sg_instruction){.kind = SG_INSTRUCTION_WALK,
                          .reduction = reduction,
                          .source_count = 1,
                          .sources = {from},
                          .walk = index});
    int dst = new_buffer(encoder, shape);
    emit(encoder, &program->after,
         (sg_instruction){.kind = SG_INSTRUCTION_FINISH, .dst = dst, .walk = index});
    return dst;
}

static sg_reduction reduction_of(sg_op op) {
    switch (op) {
    case SG_OP_amin:
        return SG_REDUCTION_MIN;
    case SG_OP_amax:
        return SG_REDUCTION_MAX;
    case SG_OP_prod:
        return SG_REDUCTION_PROD;
    default:
        return SG_REDUCTION_SUM;
    }
}

/* ---- nodes --------------------------------------------------------------------------------- */

static int encode_pointwise(sg_encoder *encoder, sg_value value) {
    const sg_node *node = sg_graph_node(encoder->graph, value);
    sg_source sources[SG_OPERANDS_MAX] = {0};
    double attributes[SG_ATTRIBUTES_MAX] = {0};
    sg_section *section = section_of(encoder, value);
    for (int i = 0; i < node->operand_count; i++) {
        sources[i] = source(encoder, section, value, i);
    }
    for (int i = 0; i < SG_ATTRIBUTES_MAX; i++) {
        attributes[i] = node->attributes[i].number;
    }
    if (node->op == SG_OP_cast) {
        attributes[0] = sg_element_of(node->type.dtype);
    }
    return pointwise(encoder, section, node->op, shape_of_member(encoder, value), sources,
                     attributes);
}

/* Whether softmax works over the channels, or else over a dimension of size 1. */
static bool softmax_over_channels(const sg_encoder *encoder, sg_value value) {
    const sg_region *region = encoder->problem->region;
    unsigned over = sg_node_axes(encoder->graph, value);
    for (int dim = 0; dim < sg_graph_node(encoder->graph, value)->type.rank; dim++) {
        if (over >> dim & 1U && region->members[value].dims[dim].count > 0) {
            return true;
        }
    }
    return false;
}

/* exp(x - max) / sum(exp(x - max)), or x - max - log(sum(exp(x - max))): the form PyTorch uses. */
static int encode_softmax(sg_encoder *encoder, sg_value value) {
    const sg_node *node = sg_graph_node(encoder->graph, value);
    sg_section *section = section_of(encoder, value);
    int x = source(encoder, section, value, 0);
    sg_shape shape = shape_of_member(encoder, value);
    bool reduces = softmax_over_channels(encoder, value);
    int largest = reduces ? reduce_rows(encoder, section, SG_REDUCTION_MAX, x) : x;
    int shifted = binary(encoder, section, SG_OP_sub, shape, x, largest);
    int raised = unary(encoder, section, SG_OP_exp, shape, shifted);
    int sum = reduces ? reduce_rows(encoder, section, SG_REDUCTION_SUM, raised) : raised;
    if (node->op == SG_OP_softmax) {
        return binary(encoder, section, SG_OP_div, shape, raised, sum);
    }
    sg_shape reduced = encoder->program->buffers[sum].shape;
    int logarithm = unary(encoder, section, SG_OP_log, reduced, sum);
    return binary(encoder, section, SG_OP_sub, shape, shifted, logarithm);
}

/* log(sum(exp(x - m))) + m, m the maximum, or 0 where that is infinite. */
static int encode_logsumexp(sg_encoder *encoder, sg_section *section, int x) {
    sg_shape shape = encoder->program->buffers[x].shape;
    int largest = reduce_rows(encoder, section, SG_REDUCTION_MAX, x);
    sg_shape reduced = encoder->program->buffers[largest].shape;
    int size = unary(encoder, section, SG_OP_abs, reduced, largest);
    int infinite = binary(encoder, section, SG_OP_eq, reduced, size, constant(encoder, INFINITY));
    int shift = pointwise(encoder, section, SG_OP_where, reduced,
                          (sg_source[]){infinite, constant(encoder, 0), largest}, NULL);
    int shifted = binary(encoder, section, SG_OP_sub, shape, x, shift);
    int raised = unary(encoder, section, SG_OP_exp, shape, shifted);
    int sum = reduce_rows(encoder, section, SG_REDUCTION_SUM, raised);
    int logarithm = unary(encoder, section, SG_OP_log, reduced, sum);
    return binary(encoder, section, SG_OP_add, reduced, logarithm, shift);
}

/* How many elements a reduction takes together: a product of sizes. */
static sg_source reduced_count(sg_encoder *encoder, sg_value value) {
    const sg_region *region = encoder->problem->region;
    sg_value operand = sg_graph_node(encoder->graph, value)->operands[0];
    const sg_type *from = &sg_graph_node(encoder->graph, operand)->type;
    unsigned over = sg_node_axes(encoder->graph, value), counted = 0;
    double count = 1;
    for (int dim = 0; dim < from->rank; dim++) {
        sg_axes axes = {0};
        if (!(over >> dim & 1U)) {
            continue;
        }
        count *= (double)from->size[dim];
        if (region->members[operand].in) {
            axes = region->members[operand].dims[dim];
        } else if (!sg_region_operand_axes(region, value, operand, dim, &axes)) {
            axes.count = 0;
        }
        counted |= ((1U << axes.count) - 1) << axes.first;
    }
    if (!counted) {
        return constant(encoder, count);
    }
    int index = encoder->program->constant_count++;
    encoder->program->constants[index] = count;
    encoder->program->counted[index] = counted;
    return -1 - index;
}

static int encode_reduction(sg_encoder *encoder, sg_value value) {
    const sg_problem *problem = encoder->problem;
    const sg_node *node = sg_graph_node(encoder->graph, value);
    const sg_member *member = &problem->region->members[value];
    sg_value operand = node->operands[0];
    bool inside = problem->region->members[operand].in;
    bool walked = member->after_walk && !(inside && problem->region->members[operand].after_walk);
    sg_section *before = walked ? &encoder->program->tile : section_of(encoder, value);

    sg_source from = source(encoder, before, value, 0);
    bool over_channels = encoder->program->buffers[from].shape & SG_SHAPE_CHANNEL &&
                         !(sg_problem_domain(problem, value) >> SG_ROLE_C & 1U);
    if (node->op == SG_OP_logsumexp) {
        if (!over_channels) {
            sg_shape shape = encoder->program->buffers[from].shape;
            return unary(encoder, before, SG_OP_identity, shape, from);
        }
        return encode_logsumexp(encoder, before, from);
    }
    sg_reduction reduction = reduction_of(node->op);
    int result = over_channels ? reduce_rows(encoder, before, reduction, from) : from;
    if (walked) {
        result = walk(encoder, reduction, result);
    }
    sg_shape shape = encoder->program->buffers[result].shape;
    if (node->op == SG_OP_mean) {
        return binary(encoder, section_of(encoder, value), SG_OP_div, shape, result,
                      reduced_count(encoder, value));
    }
    return result;
}

static int encode_anchor(sg_encoder *encoder) {
    int buffer = new_buffer(encoder, SG_SHAPE_TILE);
    encoder->program->anchor = buffer;
    if (!has_channels(encoder, 1U << SG_ROLE_C)) {
        return reduce_rows(encoder, &encoder->program->tile, SG_REDUCTION_MIN, buffer);
    }
    return buffer;
}

static void encode_node(sg_encoder *encoder, sg_value value) {
    const sg_node *node = sg_graph_node(encoder->graph, value);
    int buffer = -1;
    switch (sg_op_get(node->op)->kind) {
    case SG_KIND_CONTRACTION:
        buffer = encode_anchor(encoder);
        break;
    case SG_KIND_POINTWISE:
        buffer = encode_pointwise(encoder, value);
        break;
    case SG_KIND_SOFTMAX:
        buffer = encode_softmax(encoder, value);
        break;
    case SG_KIND_REDUCTION:
        buffer = encode_reduction(encoder, value);
        break;
    case SG_KIND_VIEW:
        buffer = encoder->buffer_of[node->operands[0]];
        break;
    default:
        return;
    }
    encoder->buffer_of[value] = buffer;
    for (int i = 0; i < encoder->graph->output_count; i++) {
        if (encoder->graph->outputs[i] == value) {
            int index = encoder->program->store_count++;
            encoder->program->stores[index] = encoder->problem->outputs[i];
            emit(encoder, section_of(encoder, value),
                 (sg_instruction){.kind = SG_INSTRUCTION_STORE,
                                  .source_count = 1,
                                  .sources = {buffer},
                                  .operand = index});
        }
    }
}

/* ---- slots --------------------------------------------------------------------------------- */

typedef struct sg_life {
    int first, last; /* positions in item + tile + after, counted through */
} sg_life;

static void extend(sg_life *lives, int buffer, int position) {
    if (buffer >= 0) {
        lives[buffer].first = lives[buffer].first < 0 ? position : lives[buffer].first;
        lives[buffer].last = position;
    }
}

/* Lives of buffers. What the item section loads, and what the walk's sections both read, lives to
 * the end, since the sections after it run many times. */
static void measure_lives(const sg_tile_program *program, sg_life *lives) {
    const sg_section *sections[] = {&program->item, &program->tile, &program->after};
    int total = program->item.count + program->tile.count + program->after.count;
    int position = 0;
    for (int i = 0; i < program->buffer_count; i++) {
        lives[i] = (sg_life){.first = -1, .last = -1};
    }
    extend(lives, program->anchor, program->item.count);
    for (int s = 0; s < 3; s++) {
        for (int i = 0; i < sections[s]->count; i++, position++) {
            const sg_instruction *instruction = &sections[s]->items[i];
            for (int k = 0; k < instruction->source_count; k++) {
                extend(lives, instruction->sources[k], position);
            }
            bool defines = instruction->kind != SG_INSTRUCTION_STORE &&
                           instruction->kind != SG_INSTRUCTION_WALK;
            if (defines) {
                extend(lives, instruction->dst, s == 0 ? total : position);
                lives[instruction->dst].first = s == 0 ? 0 : lives[instruction->dst].first;
            }
        }
    }
    for (int i = 0; i < program->item.count; i++) {
        lives[program->item.items[i].dst] = (sg_life){.first = 0, .last = total};
    }
}

/* Greedy colouring in order of definition. A pointwise result may take the slot of a source that
 * dies with it; reductions read rows after they have written some, so theirs may not: but their
 * shapes differ from their sources', and slots are kept by shape. */
static void assign_slots(sg_encoder *encoder) {
    sg_tile_program *program = encoder->program;
    sg_life *lives = SG_ARENA_NEW(encoder->arena, sg_life, program->buffer_count + 1);
    int *busy = SG_ARENA_NEW(encoder->arena, int, program->buffer_count + 1);
    if (!lives || !busy) {
        return;
    }
    measure_lives(program, lives);
    for (int shape = 0; shape < SG_SHAPE_COUNT; shape++) {
        int slots = 0;
        for (int i = 0; i < program->buffer_count; i++) {
            if ((int)program->buffers[i].shape != shape || lives[i].first < 0) {
                continue;
            }
            int slot = 0;
            while (slot < slots && busy[slot] > lives[i].first) {
                slot++;
            }
            slots = slot == slots ? slots + 1 : slots;
            busy[slot] = lives[i].last;
            program->buffers[i].slot = slot;
        }
        program->slots[shape] = slots;
    }
}

sg_status sg_encode_tile_program(const sg_problem *problem, sg_tiling tiling, sg_arena *arena,
                                 sg_tile_program *program) {
    const sg_graph *graph = problem->region->graph;
    *program = (sg_tile_program){.anchor = -1};
    sg_encoder encoder = {
        .problem = problem, .tiling = tiling, .graph = graph, .arena = arena, .program = program};
    encoder.buffer_of = SG_ARENA_NEW(arena, int, graph->node_count + 1);
    /* There is always a buffer to look at, also when memory runs out in the middle of a node. */
    program->buffer_capacity = 16;
    program->buffers = SG_ARENA_NEW(arena, sg_buffer, program->buffer_capacity);
    program->loads = SG_ARENA_NEW(arena, sg_operand, problem->access_count + 1);
    program->stores = SG_ARENA_NEW(arena, sg_operand, graph->output_count + 1);
    program->walks = SG_ARENA_NEW(arena, sg_walk, graph->node_count + 1);
    /* Each node brings at most three constants: its scalar operands, or those of its expansion. */
    program->constants = SG_ARENA_NEW(arena, double, graph->node_count *SG_OPERANDS_MAX + 1);
    program->counted = SG_ARENA_NEW(arena, unsigned, graph->node_count *SG_OPERANDS_MAX + 1);
    for (sg_value value = 0; value < graph->node_count && !sg_arena_failed(arena); value++) {
        if (problem->region->members[value].in) {
            encode_node(&encoder, value);
        }
    }
    if (!sg_arena_failed(arena)) {
        assign_slots(&encoder);
    }
    return sg_arena_failed(arena) ? sg_fail_memory(graph->context) : SG_OK;
}
