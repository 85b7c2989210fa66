/* The loops of a kernel: work items over the team, then steps of the walk, runs, tiles. */
#include "run/cpu/execute.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "run/cpu/frame.h"

static bool pixel_walked(const sg_cpu_kernel *kernel, int axis) {
    return kernel->walk >> (SG_ROLE_D + axis) & 1U;
}

static int64_t boxes(const sg_cpu_kernel *kernel, int axis) {
    int64_t box = kernel->plan.box[axis];
    return (kernel->size[SG_ROLE_D + axis] + box - 1) / box;
}

/* Boxes of the kept axes, or of the walked ones. */
static int64_t count_boxes(const sg_cpu_kernel *kernel, bool walked) {
    int64_t count = 1;
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        count *= pixel_walked(kernel, axis) == walked ? boxes(kernel, axis) : 1;
    }
    return count;
}

/* Places the frame's box on the index-th box of the kept or of the walked axes. */
static void place_box(sg_frame *frame, int64_t index, bool walked) {
    const sg_cpu_kernel *kernel = frame->kernel;
    for (int axis = SG_SPATIAL_MAX - 1; axis >= 0; axis--) {
        if (pixel_walked(kernel, axis) != walked) {
            continue;
        }
        int64_t box = kernel->plan.box[axis], size = kernel->size[SG_ROLE_D + axis];
        frame->origin[axis] = index % boxes(kernel, axis) * box;
        index /= boxes(kernel, axis);
        int64_t left = size - frame->origin[axis];
        frame->extent[axis] = left < box ? left : box;
    }
    frame->d = frame->origin[0];
    frame->h = frame->origin[1];
}

/* ---- scratch memory ------------------------------------------------------------------------ */

static size_t line_up(size_t size) {
    return (size + 63) / 64 * 64;
}

static void *at_offset(char *base, size_t offset) {
    return base ? base + offset : NULL;
}

/* Lays out, or with base NULL only measures, one thread's memory. */
static size_t lay_out(const sg_cpu_kernel *kernel, char *base, sg_frame *frame) {
    const sg_tile_program *program = &kernel->program;
    size_t bytes = sg_element_bytes(kernel->isa->compute), at = 0;
    frame->slab = at_offset(base, at);
    at += kernel->has_convolution ? line_up((size_t)kernel->slab.size * bytes) : 0;
    for (int shape = 0; shape < SG_SHAPE_COUNT; shape++) {
        frame->buffers[shape] = at_offset(base, at);
        int64_t size =
            sg_buffer_stride(kernel, (sg_shape)shape) * sg_buffer_rows(kernel, (sg_shape)shape);
        at += line_up((size_t)(size * program->slots[shape]) * bytes);
    }
    frame->partial = at_offset(base, at);
    at +=
        kernel->partial_tile ? line_up((size_t)(kernel->tile_rows * kernel->plan.run) * bytes) : 0;
    frame->constants = at_offset(base, at);
    at += line_up((size_t)(program->constant_count + 1) * bytes);
    /* A run has at most one segment per pixel. */
    size_t pieces = (size_t)kernel->plan.run + 1;
    frame->segments = at_offset(base, at);
    at += line_up(pieces * sizeof(sg_segment));
    frame->pieces = at_offset(base, at);
    at += line_up(pieces * sizeof(sg_row_piece));
    frame->moves = at_offset(base, at);
    at += line_up(pieces * sizeof(sg_piece));
    frame->running = at_offset(base, at);
    at += line_up((size_t)(2 * program->walk_count + 1) * sizeof(char *));
    for (int i = 0; i < 2 * program->walk_count; i++) {
        const sg_walk *walk = &program->walks[i % program->walk_count];
        if (base) {
            frame->running[i] = base + at;
        }
        at += line_up(
            (size_t)(sg_running_stride(kernel, walk->shape) * sg_buffer_rows(kernel, walk->shape)) *
            bytes);
    }
    return at;
}

size_t sg_scratch_size(const sg_cpu_kernel *kernel) {
    sg_frame frame = {0};
    return lay_out(kernel, NULL, &frame);
}

size_t sg_shared_size(const sg_cpu_kernel *kernel) {
    return (size_t)kernel->packed_size * sg_element_bytes(kernel->isa->compute);
}

static void write_constants(const sg_frame *frame) {
    const sg_cpu_kernel *kernel = frame->kernel;
    kernel->isa->convert_in(kernel->program.constant_count, frame->constants, 1,
                            kernel->program.constants, 1, SG_ELEMENT_F64);
}

/* ---- runs ---------------------------------------------------------------------------------- */

void sg_frame_set_run(sg_frame *frame, int64_t start, int64_t length) {
    const sg_cpu_kernel *kernel = frame->kernel;
    int64_t pitch = sg_run_pitch(kernel), width = frame->extent[2];
    frame->run_start = start;
    frame->run_length = length;
    frame->columns = sg_round_up(length, kernel->isa->vector_length);
    frame->segment_count = 0;
    frame->dense = !kernel->flat || width == pitch;
    for (int64_t at = start; at < start + length;) {
        int64_t y = kernel->flat ? at / pitch : 0, x = kernel->flat ? at % pitch : at;
        int64_t end = start + length - at;
        int64_t row = kernel->flat ? pitch - x : end;
        int64_t live = width - x < end ? width - x : end;
        if (live > 0) {
            frame->segments[frame->segment_count] =
                (sg_segment){.start = at - start, .length = live};
            frame->pieces[frame->segment_count++] =
                (sg_row_piece){.y = frame->origin[1] + y, .x = frame->origin[2] + x};
        }
        at += row;
    }
}

void sg_frame_reset_running(sg_frame *frame) {
    const sg_cpu_kernel *kernel = frame->kernel;
    static const double neutral[SG_REDUCTION_COUNT] = {[SG_REDUCTION_SUM] = 0,
                                                       [SG_REDUCTION_PROD] = 1,
                                                       [SG_REDUCTION_MIN] = (double)INFINITY,
                                                       [SG_REDUCTION_MAX] = -(double)INFINITY};
    for (int i = 0; i < kernel->program.walk_count; i++) {
        const sg_walk *walk = &kernel->program.walks[i];
        int64_t count =
            sg_running_stride(kernel, walk->shape) * sg_buffer_rows(kernel, walk->shape);
        kernel->isa->convert_in(count, frame->running[i], 1, &neutral[walk->reduction], 0,
                                SG_ELEMENT_F64);
        memset(frame->running[kernel->program.walk_count + i], 0,
               (size_t)count * sg_element_bytes(kernel->isa->compute));
    }
}

/* A chunk of input channels for all output channels of the frame's run, into tile. */
typedef struct sg_chunk {
    int64_t first, count; /* channels of each group in the slab */
    char *tile;
    bool accumulate, last;
} sg_chunk;

static void contract_chunk(const sg_frame *frame, const char *packed, const sg_chunk *chunk) {
    const sg_cpu_kernel *kernel = frame->kernel;
    const sg_slab *slab = &kernel->slab;
    size_t bytes = sg_element_bytes(kernel->isa->compute);
    int lanes = kernel->isa->vector_length, vectors = (int)(frame->columns / lanes);
    int64_t channels = slab->depth;
    int64_t stride = kernel->plan.run;
    int64_t place = (frame->d - frame->origin[0]) * slab->pitch[0] + frame->run_start;
    place += kernel->flat ? 0 : (frame->h - frame->origin[1]) * slab->pitch[1];
    for (int i = 0; i < kernel->block_count; i++) {
        const sg_channel_block *block = &kernel->blocks[i];
        const sg_contract_block *contract = block->contract;
        int64_t weights = block->weights + chunk->first * slab->taps * contract->channels;
        const char *source =
            frame->slab + (size_t)(block->group * channels * slab->channel_size + place) * bytes;
        sg_contract_args args = {
            .k = chunk->count * slab->taps,
            .sum = kernel->sum,
            .offset = slab->offset + chunk->first * slab->taps,
            .weights = packed + (size_t)weights * bytes,
            .tile_row_stride = stride,
            .bias =
                chunk->last ? packed + (size_t)(kernel->bias_offset + block->first) * bytes : NULL,
            .accumulate = chunk->accumulate};
        int pieces = (vectors + contract->vectors_max - 1) / contract->vectors_max;
        for (int piece = 0; piece < pieces; piece++) {
            int from = vectors * piece / pieces, to = vectors * (piece + 1) / pieces;
            args.slab = source + (size_t)(from * lanes) * bytes;
            args.tile = chunk->tile + (size_t)(block->first * stride + from * lanes) * bytes;
            contract->contract[to - from](&args);
        }
    }
}

static void add_tile(const sg_frame *frame, char *tile, const char *partial) {
    const sg_cpu_kernel *kernel = frame->kernel;
    int64_t stride = kernel->plan.run;
    sg_tile_source sources[] = {{.data = tile, .row_stride = stride},
                                {.data = partial, .row_stride = stride}};
    static const double alpha[SG_TILE_ATTRIBUTES_MAX] = {1};
    kernel->isa->tile[SG_OP_add](kernel->size[SG_ROLE_C], frame->columns, tile, stride, sources,
                                 alpha);
}

/* One tile of channels by the frame's run: chunks of input channels outermost, so that a chunk of
 * the slab stays in the first cache while all output channels use it. */
void sg_contract_run(const sg_frame *frame, const void *packed) {
    const sg_cpu_kernel *kernel = frame->kernel;
    size_t bytes = sg_element_bytes(kernel->isa->compute);
    int64_t channels = kernel->slab.depth;
    const sg_buffer *anchor = &kernel->program.buffers[kernel->program.anchor];
    char *tile = frame->buffers[SG_SHAPE_TILE] +
                 (size_t)(anchor->slot * kernel->plan.run * kernel->tile_rows) * bytes;
    for (int64_t start = 0; start < channels; start += kernel->span) {
        int64_t end = start + kernel->span < channels ? start + kernel->span : channels;
        sg_chunk chunk = {.tile = start > 0 ? frame->partial : tile};
        for (int64_t first = start; first < end; first += chunk.count) {
            chunk.first = first;
            chunk.count = end - first < kernel->plan.chunk ? end - first : kernel->plan.chunk;
            chunk.accumulate = first > start;
            chunk.last = first + chunk.count == channels;
            contract_chunk(frame, packed, &chunk);
        }
        if (start > 0)
            add_tile(frame, tile, frame->partial);
    }
}

/* ---- items --------------------------------------------------------------------------------- */

typedef struct sg_job {
    const sg_cpu_kernel *kernel;
    const void *const *inputs;
    void *const *outputs;
    sg_team *team;
    const void *packed;
    size_t scratch;
    _Atomic bool failed;
} sg_job;

/* All tiles of the frame's box at one run: one, or one for every walked place outside the run. */
static void run_tiles(sg_frame *frame, const sg_job *job) {
    const sg_cpu_kernel *kernel = frame->kernel;
    int64_t rows = kernel->flat ? 1 : frame->extent[1];
    for (int64_t y = 0; y < rows; y++) {
        for (int64_t z = 0; z < frame->extent[0]; z++) {
            frame->d = frame->origin[0] + z;
            frame->h = frame->origin[1] + y;
            if (kernel->has_convolution) {
                sg_contract_run(frame, job->packed);
            }
            sg_interpret(frame, &kernel->program.tile);
        }
    }
}

static int64_t box_pixels(const sg_frame *frame) {
    int64_t rows = frame->kernel->flat ? frame->extent[1] - 1 : 0;
    return rows * sg_run_pitch(frame->kernel) + frame->extent[2];
}

static void for_each_run(sg_frame *frame, const sg_job *job,
                         void (*body)(sg_frame *frame, const sg_job *job)) {
    int64_t pixels = box_pixels(frame), run = frame->kernel->plan.run;
    for (int64_t start = 0; start < pixels; start += run) {
        sg_frame_set_run(frame, start, pixels - start < run ? pixels - start : run);
        body(frame, job);
    }
}

static void run_after(sg_frame *frame, const sg_job *job) {
    (void)job;
    sg_interpret(frame, &frame->kernel->program.after);
}

static void run_item(void *context, int64_t item, int worker) {
    sg_job *job = context;
    const sg_cpu_kernel *kernel = job->kernel;
    char *memory = sg_team_memory(job->team, worker, job->scratch);
    if (!memory) {
        job->failed = true;
        return;
    }
    sg_frame frame = {.kernel = kernel, .inputs = job->inputs, .outputs = job->outputs};
    lay_out(kernel, memory, &frame);
    write_constants(&frame);
    int64_t kept = count_boxes(kernel, false), steps = count_boxes(kernel, true);
    frame.n = item / kept;
    place_box(&frame, item % kept, false);
    sg_interpret(&frame, &kernel->program.item);
    if (kernel->walk) {
        sg_frame_reset_running(&frame);
    }
    for (int64_t step = 0; step < steps; step++) {
        place_box(&frame, step, true);
        if (kernel->has_convolution) {
            sg_pack_slab(&frame);
        }
        for_each_run(&frame, job, run_tiles);
    }
    if (!kernel->walk) {
        return;
    }
    frame.d = frame.origin[0];
    frame.h = frame.origin[1];
    if (kernel->walk >> SG_ROLE_W & 1U) {
        frame.run_start = 0;
        run_after(&frame, job);
    } else {
        for_each_run(&frame, job, run_after);
    }
}

static void pack_block(void *context, int64_t item, int worker) {
    (void)worker;
    const sg_job *job = context;
    sg_pack_weights(job->kernel, job->inputs, item, (void *)(uintptr_t)job->packed); /* NOLINT */
}

sg_status sg_execute(const sg_cpu_kernel *kernel, sg_team *team, const void *const *inputs,
                     void *const *outputs) {
    sg_job job = {.kernel = kernel,
                  .inputs = inputs,
                  .outputs = outputs,
                  .team = team,
                  .scratch = sg_scratch_size(kernel)};
    int64_t items = kernel->size[SG_ROLE_N] * count_boxes(kernel, false);
    if (items == 0) {
        return SG_OK;
    }
    if (kernel->has_convolution) {
        job.packed = sg_team_memory(team, SG_TEAM_SHARED, sg_shared_size(kernel));
        if (!job.packed) {
            return SG_OUT_OF_MEMORY;
        }
        sg_team_run(team, kernel->block_count, pack_block, &job);
    }
    sg_team_run(team, items, run_item, &job);
    return job.failed ? SG_OUT_OF_MEMORY : SG_OK;
}
