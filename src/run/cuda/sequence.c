#include "run/cuda/sequence.h"

#include <stdlib.h>
#include <string.h>

#include "build/cubin.h"
#include "run/cuda/module.h"

sg_cuda_sequence *sg_cuda_sequence_create(const sg_gpu *gpu, int calls) {
    sg_cuda_sequence *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    made->calls = calloc((size_t)calls + 1, sizeof *made->calls);
    if (!made->calls || pthread_mutex_init(&made->lock, NULL) != 0) {
        free(made->calls);
        free(made);
        return NULL;
    }
    made->gpu = *gpu;
    made->capacity = calls;
    return made;
}

void sg_cuda_sequence_destroy(sg_cuda_sequence *sequence) {
    if (!sequence)
        return;
    for (int device = 0; device < SG_CUDA_DEVICES_MAX; device++)
        free(atomic_load(&sequence->functions[device]));
    pthread_mutex_destroy(&sequence->lock);
    free(sequence->calls);
    free(sequence);
}

/* ---- adding -------------------------------------------------------------------------------- */

static sg_status add_call(sg_context *context, sg_cuda_sequence *sequence,
                          const sg_cuda_launch *launch, const sg_cuda_place *inputs,
                          const sg_cuda_place *outputs, int64_t workspace, sg_arena *arena) {
    sg_cuda_call *call = &sequence->calls[sequence->call_count];
    if (launch->grid > INT32_MAX || launch->shared > sequence->gpu.shared_block)
        return sg_fail(context, SG_NOT_APPLICABLE,
                       "%s would take %lld blocks with %lld bytes of shared memory, beyond what %s "
                       "has",
                       launch->entry, (long long)launch->grid, (long long)launch->shared,
                       sequence->gpu.name);
    if (launch->word_count > SG_CUDA_WORDS_MAX)
        return sg_fail(context, SG_NOT_APPLICABLE,
                       "the kernel would take %d words of arguments; a kernel may take %d",
                       launch->word_count, SG_CUDA_WORDS_MAX);
    call->launch = launch;
    call->word_count = launch->word_count;
    call->words = SG_ARENA_NEW(arena, uint64_t, launch->word_count + 1);
    call->patches = SG_ARENA_NEW(arena, sg_cuda_patch, launch->word_count + 1);
    if (!call->words || !call->patches)
        return sg_fail_memory(context);
    for (int i = 0; i < launch->word_count; i++) {
        const sg_word *word = &launch->words[i];
        sg_cuda_place place = {.kind = SG_WORD_WORKSPACE, .offset = workspace + word->number};
        if (word->kind == SG_WORD_NUMBER) {
            call->words[i] = (uint64_t)word->number;
            continue;
        }
        if (word->kind != SG_WORD_WORKSPACE) {
            place = word->kind == SG_WORD_INPUT ? inputs[word->index] : outputs[word->index];
            place.offset += word->number;
        }
        call->patches[call->patch_count++] = (sg_cuda_patch){
            .word = i, .kind = place.kind, .index = place.index, .number = place.offset};
    }
    sequence->call_count++;
    return SG_OK;
}

sg_status sg_cuda_sequence_add(sg_context *context, sg_cuda_sequence *sequence,
                               const sg_cuda_kernel *kernel, const sg_cuda_place *inputs,
                               const sg_cuda_place *outputs, int64_t workspace, sg_arena *arena) {
    sg_status status = SG_OK;
    for (int i = 0; i < kernel->launch_count && status == SG_OK; i++) {
        if (kernel->launches[i].grid > 0 && sequence->call_count < sequence->capacity)
            status = add_call(context, sequence, &kernel->launches[i], inputs, outputs, workspace,
                              arena);
    }
    if (workspace + kernel->workspace > sequence->workspace)
        sequence->workspace = workspace + kernel->workspace;
    return status;
}

/* ---- building ------------------------------------------------------------------------------ */

/* The architecture to compile for so that a device runs it: the one that the sources were written
 * for where the device takes its machine code, else the device's own if it is newer. NULL: none. */
static const char *architecture_for(const sg_gpu *written, const sg_gpu *device) {
    bool newer = device->major > written->major ||
                 (device->major == written->major && device->minor >= written->minor);
    bool same_code = newer && device->major == written->major;
    if (written->wgmma)
        return device->wgmma ? written->architecture : NULL;
    return same_code ? written->architecture : newer ? device->architecture : NULL;
}

static sg_status build_cubins(sg_context *context, const sg_cuda_sequence *sequence) {
    sg_cubin *cubins = calloc((size_t)sequence->call_count + 1, sizeof *cubins);
    if (!cubins)
        return sg_fail_memory(context);
    for (int i = 0; i < sequence->call_count; i++)
        cubins[i] = (sg_cubin){.source = sequence->calls[i].launch->source,
                               .architecture = sequence->gpu.architecture};
    sg_status status = sg_cubins_build(context, cubins, sequence->call_count);
    for (int i = 0; i < sequence->call_count; i++)
        free(cubins[i].data);
    free(cubins);
    return status;
}

static sg_status load_on(sg_context *context, const sg_cuda_driver *driver,
                         const sg_cuda_sequence *sequence, int device, sg_cu_function *functions) {
    sg_gpu gpu;
    bool pushed = false;
    const sg_cuda_launch **launches = calloc((size_t)sequence->call_count + 1, sizeof *launches);
    if (!launches)
        return sg_fail_memory(context);
    for (int i = 0; i < sequence->call_count; i++)
        launches[i] = sequence->calls[i].launch;
    sg_status status = sg_cuda_describe(context, device, &gpu);
    const char *architecture = NULL;
    if (status == SG_OK) {
        architecture = architecture_for(&sequence->gpu, &gpu);
        if (!architecture)
            status = sg_fail(context, SG_INVALID,
                             "the program was compiled for %s; GPU %d, %s, does not run that",
                             sequence->gpu.architecture, device, gpu.name);
    }
    if (status == SG_OK)
        status = sg_cuda_enter(context, driver, device, &pushed);
    if (status == SG_OK) {
        status = sg_cuda_load(context, driver, device, architecture, launches, sequence->call_count,
                              functions);
        sg_cuda_leave(driver, pushed);
    }
    free(launches);
    return status;
}

/* The functions of a device, loaded by whoever comes first. */
static sg_status functions_on(sg_context *context, const sg_cuda_driver *driver,
                              sg_cuda_sequence *sequence, int device, sg_cu_function **functions) {
    sg_status status = SG_OK;
    *functions = atomic_load_explicit(&sequence->functions[device], memory_order_acquire);
    if (*functions)
        return SG_OK;
    pthread_mutex_lock(&sequence->lock);
    *functions = atomic_load_explicit(&sequence->functions[device], memory_order_relaxed);
    if (!*functions) {
        sg_cu_function *made = calloc((size_t)sequence->call_count + 1, sizeof(*made));
        status = made ? load_on(context, driver, sequence, device, made) : sg_fail_memory(context);
        if (status == SG_OK) {
            atomic_store_explicit(&sequence->functions[device], made, memory_order_release);
            *functions = made;
        } else {
            free(made);
        }
    }
    pthread_mutex_unlock(&sequence->lock);
    return status;
}

sg_status sg_cuda_sequence_build(sg_context *context, sg_cuda_sequence *sequence, int device) {
    const sg_cuda_driver *driver;
    sg_cu_function *functions;
    sg_gpu gpu;
    if (device == -1)
        return build_cubins(context, sequence);
    sg_status status = sg_cuda_open(context, &driver);
    if (status == SG_OK)
        status = sg_cuda_describe(context, device, &gpu); /* the index is checked here */
    return status == SG_OK ? functions_on(context, driver, sequence, device, &functions) : status;
}

/* ---- launching ----------------------------------------------------------------------------- */

static sg_status check_addresses(sg_context *context, const char *what,
                                 const void *const *addresses, const int64_t *masks, int count) {
    for (int i = 0; i < count; i++) {
        uintptr_t address = (uintptr_t)addresses[i];
        if (masks[i] >= 0 && (address == 0 || (address & (uintptr_t)masks[i]) != 0))
            return sg_fail(context, SG_INVALID,
                           "%s %d: address %p is not a multiple of %lld bytes, which the program "
                           "was compiled for",
                           what, i, addresses[i], (long long)masks[i] + 1);
    }
    return SG_OK;
}

static sg_cu_result launch_call(const sg_cuda_driver *driver, const sg_cuda_launch *launch,
                                sg_cu_function function, sg_cu_stream stream, uint64_t *words) {
    void *parameters[] = {words};
    enum { INVALID_VALUE = 1 };
    bool extended = launch->cluster > 1 || (launch->early && driver->launch_config);
    if (!extended)
        return driver->launch(function, (unsigned)launch->grid, 1, 1, (unsigned)launch->block, 1, 1,
                              (unsigned)launch->shared, stream, parameters, NULL);
    sg_cu_launch_attribute attributes[2];
    sg_cu_launch_config config = {.grid = {(unsigned)launch->grid, 1, 1},
                                  .block = {(unsigned)launch->block, 1, 1},
                                  .shared = (unsigned)launch->shared,
                                  .stream = stream,
                                  .attributes = attributes};
    if (launch->cluster > 1)
        attributes[config.attribute_count++] = (sg_cu_launch_attribute){
            .id = SG_CU_LAUNCH_CLUSTER_DIMENSION, .value = {(unsigned)launch->cluster, 1, 1}};
    if (launch->early)
        attributes[config.attribute_count++] =
            (sg_cu_launch_attribute){.id = SG_CU_LAUNCH_EARLY, .value = {1}};
    return driver->launch_config ? driver->launch_config(&config, function, parameters, NULL)
                                 : INVALID_VALUE;
}

static sg_status launch_all(sg_context *context, const sg_cuda_driver *driver,
                            const sg_cuda_sequence *sequence, const sg_cu_function *functions,
                            sg_cu_stream stream, const void *const *inputs, void *const *outputs,
                            void *workspace) {
    uint64_t words[SG_CUDA_WORDS_MAX];
    for (int i = 0; i < sequence->call_count; i++) {
        const sg_cuda_call *call = &sequence->calls[i];
        memcpy(words, call->words, sizeof *words * (size_t)call->word_count);
        for (int k = 0; k < call->patch_count; k++) {
            const sg_cuda_patch *patch = &call->patches[k];
            const void *base = patch->kind == SG_WORD_INPUT    ? inputs[patch->index]
                               : patch->kind == SG_WORD_OUTPUT ? outputs[patch->index]
                                                               : workspace;
            words[patch->word] = (uint64_t)(uintptr_t)base + (uint64_t)patch->number;
        }
        sg_cu_result result = launch_call(driver, call->launch, functions[i], stream, words);
        if (result != SG_CU_SUCCESS)
            return sg_cuda_check(context, driver, result, call->launch->entry);
    }
    return SG_OK;
}

sg_status sg_cuda_sequence_launch(sg_context *context, sg_cuda_sequence *sequence, int device,
                                  void *stream, const void *const *inputs, int input_count,
                                  void *const *outputs, int output_count, void *workspace) {
    static const int64_t workspace_mask = SG_CUDA_WORKSPACE_ALIGNMENT - 1;
    const sg_cuda_driver *driver;
    sg_cu_function *functions;
    bool pushed = false;
    sg_status status = check_addresses(context, "input", inputs, sequence->input_mask, input_count);
    if (status == SG_OK)
        status = check_addresses(context, "output", (const void *const *)outputs,
                                 sequence->output_mask, output_count);
    if (status == SG_OK && sequence->workspace > 0)
        status = check_addresses(context, "workspace", (const void *const *)&workspace,
                                 &workspace_mask, 1);
    if (status != SG_OK || sequence->call_count == 0)
        return status;
    status = device >= 0 && device < SG_CUDA_DEVICES_MAX
                 ? sg_cuda_open(context, &driver)
                 : sg_fail(context, SG_INVALID, "GPU %d: there is none of that number", device);
    if (status == SG_OK)
        status = functions_on(context, driver, sequence, device, &functions);
    if (status == SG_OK)
        status = sg_cuda_enter(context, driver, device, &pushed);
    if (status != SG_OK)
        return status;
    status = launch_all(context, driver, sequence, functions, (sg_cu_stream)stream, inputs, outputs,
                        workspace);
    sg_cuda_leave(driver, pushed);
    return status;
}
