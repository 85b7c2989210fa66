/* Launching: kernels written by hand, through the driver. Without a GPU, the sentences that say
 * what is missing. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build/nvrtc.h"
#include "run/cuda/sequence.h"
#include "unit.h"

/* y = a x + workspace, by way of shared memory. WAIT: what stands first. */
#define SCALE_SOURCE(WAIT)                                                                         \
    "struct Arguments { const float *x; float *y; long long n; long long a; float *w; };\n"        \
    "extern \"C\" __global__ void segue_scale(const __grid_constant__ Arguments a) {\n" WAIT       \
    "    extern __shared__ float shared[];\n"                                                      \
    "    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;\n"                        \
    "    shared[threadIdx.x] = i < a.n ? a.x[i] : 0;\n"                                            \
    "    __syncthreads();\n"                                                                       \
    "    if (i < a.n) a.y[i] = float(a.a) * shared[threadIdx.x] + a.w[i % 4];\n"                   \
    "}\n"
static const char *const scale_source = SCALE_SOURCE("");
static const char *const early_source =
    SCALE_SOURCE("    asm volatile(\"griddepcontrol.wait;\" ::: \"memory\");\n");
static const char *const fill_source =
    "struct Arguments { float *w; };\n"
    "extern \"C\" __global__ void segue_fill(const __grid_constant__ Arguments a) {\n"
    "    a.w[threadIdx.x] = float(threadIdx.x);\n"
    "}\n";

enum { COUNT = 5000, BLOCK = 128, OFFSET = 512 };

static const sg_word fill_words[] = {{.kind = SG_WORD_WORKSPACE, .index = 0, .number = OFFSET}};
static const sg_word scale_words[] = {{.kind = SG_WORD_INPUT, .index = 0, .number = 0},
                                      {.kind = SG_WORD_OUTPUT, .index = 0, .number = 0},
                                      {.kind = SG_WORD_NUMBER, .index = 0, .number = COUNT},
                                      {.kind = SG_WORD_NUMBER, .index = 0, .number = 3},
                                      {.kind = SG_WORD_WORKSPACE, .index = 0, .number = OFFSET}};

static sg_cuda_kernel kernel_of(int cluster, int64_t shared) {
    return (sg_cuda_kernel){
        .launches = {{.source = fill_source,
                      .entry = "segue_fill",
                      .grid = 1,
                      .block = 4,
                      .cluster = 1,
                      .words = fill_words,
                      .word_count = 1},
                     {.source = fill_source, .entry = "segue_fill", .grid = 0, .block = 4},
                     {.source = scale_source,
                      .entry = "segue_scale",
                      .grid = 40,
                      .block = BLOCK,
                      .cluster = cluster,
                      .shared = shared,
                      .words = scale_words,
                      .word_count = 5}},
        .launch_count = 3,
        .workspace = OFFSET + 16};
}

static sg_cuda_sequence *sequence_of(const sg_cuda_kernel *kernel, const sg_gpu *gpu,
                                     sg_arena *arena) {
    static int64_t mask[] = {15};
    static const sg_cuda_place input = {.kind = SG_WORD_INPUT}, output = {.kind = SG_WORD_OUTPUT};
    sg_context context = {0};
    sg_cuda_sequence *sequence = sg_cuda_sequence_create(gpu, SG_CUDA_LAUNCHES_MAX);
    if (!sequence ||
        sg_cuda_sequence_add(&context, sequence, kernel, &input, &output, 256, arena) != SG_OK)
        return NULL;
    sequence->input_mask = sequence->output_mask = mask;
    return sequence;
}

/* Device memory for x, y and the workspace, x filled with its indices. */
typedef struct buffers {
    const sg_cuda_driver *driver;
    sg_cu_address x, y, workspace;
    float host[COUNT];
} buffers;

static bool allocate(buffers *made) {
    const sg_cuda_driver *driver = made->driver;
    for (int i = 0; i < COUNT; i++)
        made->host[i] = (float)i;
    return driver->mem_alloc(&made->x, sizeof made->host + 16) == 0 &&
           driver->mem_alloc(&made->y, sizeof made->host + 16) == 0 &&
           driver->mem_alloc(&made->workspace, 4096) == 0 &&
           driver->copy_to_device(made->x, made->host, sizeof made->host) == 0;
}

static sg_status launch(sg_context *context, sg_cuda_sequence *sequence, const buffers *memory,
                        int shift) {
    const void *inputs[] = {(const void *)(uintptr_t)memory->x};
    void *outputs[] = {(void *)(uintptr_t)(memory->y + shift)};
    return sg_cuda_sequence_launch(context, sequence, 0, NULL, inputs, 1, outputs, 1,
                                   (void *)(uintptr_t)memory->workspace);
}

/* How many elements of y are wrong after a launch. */
static int count_wrong(sg_context *context, sg_cuda_sequence *sequence, buffers *memory) {
    int wrong = 0;
    memory->driver->fill_words(memory->y, 0x7fc00000U, COUNT, NULL);
    if (launch(context, sequence, memory, 0) != SG_OK ||
        memory->driver->copy_from_device(memory->host, memory->y, sizeof memory->host) != 0)
        return COUNT;
    for (int i = 0; i < COUNT; i++)
        wrong += memory->host[i] != 3.0F * (float)i + (float)(i % 4);
    return wrong;
}

TEST(without_a_driver_there_is_a_sentence) {
    sg_context context = {0};
    const sg_cuda_driver *driver;
    sg_gpu gpu;
    if (sg_cuda_open(&context, &driver) != SG_OK) {
        EXPECT(driver == NULL);
        EXPECT(strstr(context.message, "CUDA driver") != NULL);
        EXPECT(sg_cuda_describe(&context, 0, &gpu) == SG_NOT_APPLICABLE);
        return;
    }
    EXPECT(sg_cuda_describe(&context, -1, &gpu) == SG_INVALID);
    EXPECT(sg_cuda_describe(&context, SG_CUDA_DEVICES_MAX, &gpu) == SG_INVALID);
    EXPECT_CONTAINS(context.message, "counted from 0");
    EXPECT(sg_cuda_describe(&context, 0, &gpu) == SG_OK);
    EXPECT(gpu.multiprocessors > 0 && gpu.shared_block >= 48 << 10 && gpu.copy > 1e11);
    printf("%s %s: %d processors, copy %.3g half %.3g tf32 %.3g fp32 %.3g fp64 %.3g\n", gpu.name,
           gpu.architecture, gpu.multiprocessors, gpu.copy, gpu.half, gpu.tf32, gpu.fp32, gpu.fp64);
}

/* Opens everything; false, the test being over, where there is no GPU or no NVRTC. */
static bool open_all(sg_context *context, buffers *memory, sg_gpu *gpu) {
    bool pushed;
    int major, minor;
    return sg_cuda_open(context, &memory->driver) == SG_OK &&
           sg_nvrtc_open(context, &major, &minor) == SG_OK &&
           EXPECT(sg_cuda_describe(context, 0, gpu) == SG_OK) &&
           EXPECT(sg_cuda_enter(context, memory->driver, 0, &pushed) == SG_OK) &&
           EXPECT(allocate(memory));
}

TEST(launches_in_order) {
    static buffers memory;
    sg_context context = {0};
    sg_arena arena = {0};
    sg_gpu gpu;
    if (!open_all(&context, &memory, &gpu))
        return;
    for (int i = 0; i < 4; i++) {
        CASE("variant %d", i);
        /* Plain; with more shared memory than a block has unasked; with clusters; starting early.
         */
        sg_cuda_kernel kernel = kernel_of(i == 2 && gpu.major >= 9 ? 4 : 1, i ? 90000 : 512);
        if (i == 3 && gpu.major >= 9) {
            kernel.launches[2].source = early_source;
            kernel.launches[2].early = true;
        }
        sg_cuda_sequence *sequence = sequence_of(&kernel, &gpu, &arena);
        REQUIRE(sequence != NULL);
        EXPECT_EQ_INT(sequence->call_count, 2); /* the empty grid is left out */
        EXPECT_EQ_INT(sequence->workspace, 256 + OFFSET + 16);
        EXPECT(sg_cuda_sequence_build(&context, sequence, 0) == SG_OK);
        EXPECT_EQ_INT(count_wrong(&context, sequence, &memory), 0);
        EXPECT_STR(context.message, "");
        EXPECT(launch(&context, sequence, &memory, 4) == SG_INVALID);
        EXPECT_CONTAINS(context.message, "is not a multiple of 16 bytes");
        context.message[0] = '\0';
        sg_cuda_sequence_destroy(sequence);
    }
    sg_arena_release(&arena);
}

TEST(older_code_runs_on_newer_devices) {
    static buffers memory;
    sg_context context = {0};
    sg_arena arena = {0};
    sg_gpu gpu, old, special;
    if (!open_all(&context, &memory, &gpu))
        return;
    REQUIRE(sg_gpu_find("sm_80", &old) && sg_gpu_find("sm_90a", &special));
    sg_cuda_kernel kernel = kernel_of(1, 512);
    sg_cuda_sequence *sequence = sequence_of(&kernel, &old, &arena);
    EXPECT_EQ_INT(count_wrong(&context, sequence, &memory), 0);
    sg_cuda_sequence_destroy(sequence);
    sequence = sequence_of(&kernel, &special, &arena);
    EXPECT(sg_cuda_sequence_build(&context, sequence, 0) == (gpu.wgmma ? SG_OK : SG_INVALID));
    EXPECT(sg_cuda_sequence_build(&context, sequence, -1) == SG_OK);
    EXPECT(sg_cuda_sequence_build(&context, sequence, 63) == SG_INVALID);
    sg_cuda_sequence_destroy(sequence);
    sg_arena_release(&arena);
}

typedef struct worker {
    sg_cuda_sequence *sequence;
    const buffers *memory;
    int failures;
} worker;

static void *work(void *argument) {
    worker *self = argument;
    sg_context context = {0};
    for (int i = 0; i < 50; i++)
        self->failures += launch(&context, self->sequence, self->memory, 0) != SG_OK;
    return NULL;
}

/* The first launches race for loading. */
TEST(threads_launch_at_once) {
    enum { THREADS = 8 };
    static buffers memory;
    sg_context context = {0};
    sg_arena arena = {0};
    sg_gpu gpu;
    pthread_t threads[THREADS];
    worker workers[THREADS];
    if (!open_all(&context, &memory, &gpu))
        return;
    sg_cuda_kernel kernel = kernel_of(1, 512);
    sg_cuda_sequence *sequence = sequence_of(&kernel, &gpu, &arena);
    REQUIRE(sequence != NULL);
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){.sequence = sequence, .memory = &memory};
        REQUIRE(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        EXPECT_EQ_INT(workers[i].failures, 0);
    }
    EXPECT_EQ_INT(count_wrong(&context, sequence, &memory), 0);
    sg_cuda_sequence_destroy(sequence);
    sg_arena_release(&arena);
}
