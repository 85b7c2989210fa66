/* The interpreter of tile programs: each instruction is one call of a tile kernel over a whole
 * tile, so what it costs to decode is spread over thousands of elements. */
#include <assert.h>

#include "run/cpu/frame.h"

int64_t sg_buffer_stride(const sg_cpu_kernel *kernel, sg_shape shape) {
    int64_t line = SG_VECTOR_BYTES_MAX / (int64_t)sg_element_bytes(kernel->isa->compute);
    if (shape & SG_SHAPE_RUN) {
        return kernel->plan.run;
    }
    return shape == SG_SHAPE_CHANNEL ? sg_round_up(kernel->tile_rows, line) : line;
}

int64_t sg_buffer_rows(const sg_cpu_kernel *kernel, sg_shape shape) {
    return shape == SG_SHAPE_TILE ? kernel->tile_rows : 1;
}

int64_t sg_running_stride(const sg_cpu_kernel *kernel, sg_shape shape) {
    if (!(shape & SG_SHAPE_RUN)) {
        return sg_buffer_stride(kernel, shape);
    }
    int64_t line = SG_VECTOR_BYTES_MAX / (int64_t)sg_element_bytes(kernel->isa->compute);
    int64_t rows = kernel->flat ? kernel->plan.box[1] - 1 : 0;
    return sg_round_up(rows * sg_run_pitch(kernel) + kernel->plan.box[2], line) + kernel->plan.run;
}

static sg_shape shape_of(const sg_frame *frame, int buffer) {
    return frame->kernel->program.buffers[buffer].shape;
}

static char *buffer_at(const sg_frame *frame, int buffer) {
    const sg_cpu_kernel *kernel = frame->kernel;
    const sg_buffer *entry = &kernel->program.buffers[buffer];
    int64_t size = sg_buffer_stride(kernel, entry->shape) * sg_buffer_rows(kernel, entry->shape);
    return frame->buffers[entry->shape] +
           (size_t)(entry->slot * size) * sg_element_bytes(kernel->isa->compute);
}

/* Channels that exist, in rows of a tile of this shape. */
static int64_t live_rows(const sg_frame *frame, sg_shape shape) {
    return shape == SG_SHAPE_TILE ? frame->kernel->size[SG_ROLE_C] : 1;
}

static int64_t live_columns(const sg_frame *frame, sg_shape shape) {
    return shape & SG_SHAPE_RUN ? frame->columns : sg_buffer_stride(frame->kernel, shape);
}

/* A source as an operand of a tile of shape `wanted`. */
static sg_tile_source source_for(const sg_frame *frame, int source, sg_shape wanted) {
    if (source < 0) {
        size_t bytes = sg_element_bytes(frame->kernel->isa->compute);
        return (sg_tile_source){.data = frame->constants + (size_t)(-1 - source) * bytes,
                                .splat = true};
    }
    sg_shape shape = shape_of(frame, source);
    sg_tile_source result = {.data = buffer_at(frame, source)};
    if (shape == wanted) {
        result.row_stride = sg_buffer_stride(frame->kernel, shape);
    } else if (shape == SG_SHAPE_CHANNEL) {
        /* Views drop a channel axis of size 1 without touching the buffer. */
        assert(wanted == SG_SHAPE_TILE || frame->kernel->size[SG_ROLE_C] == 1);
        result.row_stride = 1;
        result.splat = true;
    } else {
        result.splat = shape == SG_SHAPE_NUMBER;
    }
    return result;
}

static void pointwise(const sg_frame *frame, const sg_instruction *instruction) {
    const sg_cpu_kernel *kernel = frame->kernel;
    sg_shape shape = shape_of(frame, instruction->dst);
    sg_tile_source sources[SG_TILE_SOURCES_MAX];
    for (int i = 0; i < instruction->source_count; i++) {
        sources[i] = source_for(frame, instruction->sources[i], shape);
    }
    kernel->isa->tile[instruction->op](
        live_rows(frame, shape), live_columns(frame, shape), buffer_at(frame, instruction->dst),
        sg_buffer_stride(kernel, shape), sources, instruction->attributes);
}

/* ---- loads and stores ---------------------------------------------------------------------- */

static int64_t base_of(const sg_frame *frame, const sg_operand *operand) {
    int64_t base = frame->n * operand->stride[SG_ROLE_N] + frame->d * operand->stride[SG_ROLE_D];
    return frame->kernel->flat ? base : base + frame->h * operand->stride[SG_ROLE_H];
}

/* Rows that lie behind each other in the tensor as they do in the run are one piece. */
static bool in_one_piece(const sg_frame *frame, const sg_operand *operand) {
    return frame->dense &&
           operand->stride[SG_ROLE_H] == sg_run_pitch(frame->kernel) * operand->stride[SG_ROLE_W];
}

/* The run's pieces in memory; returns how many. */
static int list_pieces(const sg_frame *frame, const sg_operand *operand) {
    const int64_t *stride = operand->stride;
    bool one = in_one_piece(frame, operand);
    int count = one ? 1 : frame->segment_count;
    for (int i = 0; i < count; i++) {
        int64_t row = frame->kernel->flat ? frame->pieces[i].y * stride[SG_ROLE_H] : 0;
        frame->moves[i] = (sg_piece){.start = frame->segments[i].start,
                                     .length = one ? frame->run_length : frame->segments[i].length,
                                     .place = row + frame->pieces[i].x * stride[SG_ROLE_W]};
    }
    return count;
}

static void load(const sg_frame *frame, const sg_instruction *instruction) {
    const sg_cpu_kernel *kernel = frame->kernel;
    const sg_operand *operand = &kernel->program.loads[instruction->operand];
    sg_element type = sg_element_of(operand->dtype);
    sg_shape shape = shape_of(frame, instruction->dst);
    const char *from = (const char *)frame->inputs[operand->index] +
                       base_of(frame, operand) * (int64_t)sg_element_bytes(type);
    if (!(shape & SG_SHAPE_RUN)) {
        int64_t count = shape == SG_SHAPE_CHANNEL ? kernel->size[SG_ROLE_C] : 1;
        kernel->isa->convert_in(count, buffer_at(frame, instruction->dst), 1, from,
                                operand->stride[SG_ROLE_C], type);
        return;
    }
    sg_tile_move move = {.tile = buffer_at(frame, instruction->dst),
                         .tile_row_stride = kernel->plan.run,
                         .data = (void *)(uintptr_t)from, /* only read */
                         .row_stride = operand->stride[SG_ROLE_C],
                         .column_stride = operand->stride[SG_ROLE_W],
                         .type = type,
                         .rows = live_rows(frame, shape),
                         .piece_count = list_pieces(frame, operand),
                         .pieces = frame->moves};
    kernel->isa->load_tile(&move);
}

static void store(const sg_frame *frame, const sg_instruction *instruction) {
    const sg_cpu_kernel *kernel = frame->kernel;
    const sg_operand *operand = &kernel->program.stores[instruction->operand];
    sg_element type = sg_element_of(operand->dtype);
    sg_shape shape = shape_of(frame, instruction->sources[0]);
    char *from = buffer_at(frame, instruction->sources[0]);
    char *to = (char *)frame->outputs[operand->index] +
               base_of(frame, operand) * (int64_t)sg_element_bytes(type);
    if (!(shape & SG_SHAPE_RUN)) {
        int64_t count = shape == SG_SHAPE_CHANNEL ? kernel->size[SG_ROLE_C] : 1;
        kernel->isa->convert_out(count, to, operand->stride[SG_ROLE_C], type, from);
        return;
    }
    sg_tile_move move = {.tile = from,
                         .tile_row_stride = kernel->plan.run,
                         .data = to,
                         .row_stride = operand->stride[SG_ROLE_C],
                         .column_stride = operand->stride[SG_ROLE_W],
                         .type = type,
                         .rows = live_rows(frame, shape),
                         .piece_count = list_pieces(frame, operand),
                         .pieces = frame->moves};
    kernel->isa->store_tile(&move);
}

/* ---- reductions ---------------------------------------------------------------------------- */

static void reduce_rows(const sg_frame *frame, const sg_instruction *instruction) {
    const sg_cpu_kernel *kernel = frame->kernel;
    sg_shape from = shape_of(frame, instruction->sources[0]);
    void *to = buffer_at(frame, instruction->dst);
    const void *source = buffer_at(frame, instruction->sources[0]);
    int64_t channels = kernel->size[SG_ROLE_C];
    if (from == SG_SHAPE_TILE) {
        kernel->isa->reduce_rows[instruction->reduction](channels, frame->columns, to, source,
                                                         kernel->plan.run);
    } else {
        sg_segment all = {.start = 0, .length = channels};
        kernel->isa->reduce_columns[instruction->reduction](1, to, source, 0, 1, &all);
    }
}

static void reduce_columns(const sg_frame *frame, const sg_instruction *instruction) {
    const sg_cpu_kernel *kernel = frame->kernel;
    sg_shape from = shape_of(frame, instruction->sources[0]);
    kernel->isa->reduce_columns[instruction->reduction](
        live_rows(frame, from), buffer_at(frame, instruction->dst),
        buffer_at(frame, instruction->sources[0]), kernel->plan.run, frame->segment_count,
        frame->segments);
}

static size_t running_place(const sg_frame *frame, sg_shape shape) {
    size_t bytes = sg_element_bytes(frame->kernel->isa->compute);
    return shape & SG_SHAPE_RUN ? (size_t)frame->run_start * bytes : 0;
}

static sg_op combining_op(sg_reduction reduction) {
    return reduction == SG_REDUCTION_MIN   ? SG_OP_minimum
           : reduction == SG_REDUCTION_MAX ? SG_OP_maximum
                                           : SG_OP_mul;
}

static void walk(const sg_frame *frame, const sg_instruction *instruction) {
    const sg_cpu_kernel *kernel = frame->kernel;
    const sg_walk *entry = &kernel->program.walks[instruction->walk];
    size_t place = running_place(frame, entry->shape);
    char *running = frame->running[instruction->walk] + place;
    const char *source = buffer_at(frame, instruction->sources[0]);
    int64_t rows = live_rows(frame, entry->shape), columns = live_columns(frame, entry->shape);
    int64_t stride = sg_running_stride(kernel, entry->shape);
    int64_t source_stride = sg_buffer_stride(kernel, entry->shape);
    if (entry->reduction == SG_REDUCTION_SUM) {
        char *rest = frame->running[kernel->program.walk_count + instruction->walk] + place;
        kernel->isa->accumulate_sum(rows, columns, running, rest, stride, source, source_stride);
        return;
    }
    sg_tile_source sources[] = {{.data = running, .row_stride = stride},
                                {.data = source, .row_stride = source_stride}};
    static const double none[SG_TILE_ATTRIBUTES_MAX] = {0};
    kernel->isa->tile[combining_op(entry->reduction)](rows, columns, running, stride, sources,
                                                      none);
}

static void finish(const sg_frame *frame, const sg_instruction *instruction) {
    const sg_cpu_kernel *kernel = frame->kernel;
    const sg_walk *entry = &kernel->program.walks[instruction->walk];
    size_t place = running_place(frame, entry->shape);
    int64_t stride = sg_running_stride(kernel, entry->shape);
    bool sum = entry->reduction == SG_REDUCTION_SUM;
    sg_tile_source sources[2] = {
        {.data = frame->running[instruction->walk] + place, .row_stride = stride}};
    if (sum) {
        sources[1].data = frame->running[kernel->program.walk_count + instruction->walk] + place;
        sources[1].row_stride = stride;
    }
    static const double alpha[SG_TILE_ATTRIBUTES_MAX] = {1};
    kernel->isa->tile[sum ? SG_OP_add : SG_OP_identity](
        live_rows(frame, entry->shape), live_columns(frame, entry->shape),
        buffer_at(frame, instruction->dst), sg_buffer_stride(kernel, entry->shape), sources, alpha);
}

void sg_interpret(sg_frame *frame, const sg_section *section) {
    for (int i = 0; i < section->count; i++) {
        const sg_instruction *instruction = &section->items[i];
        switch (instruction->kind) {
        case SG_INSTRUCTION_LOAD:
            load(frame, instruction);
            break;
        case SG_INSTRUCTION_STORE:
            store(frame, instruction);
            break;
        case SG_INSTRUCTION_POINTWISE:
            pointwise(frame, instruction);
            break;
        case SG_INSTRUCTION_ROWS:
            reduce_rows(frame, instruction);
            break;
        case SG_INSTRUCTION_COLUMNS:
            reduce_columns(frame, instruction);
            break;
        case SG_INSTRUCTION_WALK:
            walk(frame, instruction);
            break;
        case SG_INSTRUCTION_FINISH:
            finish(frame, instruction);
            break;
        }
    }
}
