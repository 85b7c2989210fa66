#include "run/cuda/module.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "build/cubin.h"

/* One entry of one translation unit on one device. */
typedef struct sg_cuda_loaded {
    struct sg_cuda_loaded *next;
    int device;
    uint64_t hash; /* of the source */
    char *source, *entry;
    char architecture[12];
    sg_cu_function function;
    int64_t shared; /* dynamic shared memory that it may have, so far */
} sg_cuda_loaded;

static sg_cuda_loaded *loaded;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- the table; callers hold the lock ------------------------------------------------------- */

static sg_cuda_loaded *find(int device, const char *architecture, const sg_cuda_launch *launch) {
    uint64_t hash = sg_hash(SG_HASH_START, launch->source, strlen(launch->source));
    for (sg_cuda_loaded *at = loaded; at; at = at->next) {
        if (at->device == device && at->hash == hash &&
            strcmp(at->architecture, architecture) == 0 && strcmp(at->entry, launch->entry) == 0 &&
            strcmp(at->source, launch->source) == 0)
            return at;
    }
    return NULL;
}

/* More dynamic shared memory than a device grants unasked, and clusters beyond the portable eight.
 */
static sg_status grant(sg_context *context, const sg_cuda_driver *driver, sg_cuda_loaded *entry,
                       const sg_cuda_launch *launch) {
    enum { PORTABLE_CLUSTER = 8 };
    sg_status status = SG_OK;
    if (launch->shared > entry->shared) {
        status = sg_cuda_check(
            context, driver,
            driver->function_set(entry->function, SG_CU_MAX_DYNAMIC_SHARED, (int)launch->shared),
            "shared memory of a kernel");
        if (status == SG_OK)
            entry->shared = launch->shared;
    }
    if (launch->cluster > PORTABLE_CLUSTER && status == SG_OK)
        status = sg_cuda_check(context, driver,
                               driver->function_set(entry->function, SG_CU_NON_PORTABLE_CLUSTER, 1),
                               "a large cluster");
    return status;
}

static void discard(sg_cuda_loaded *entry) {
    free(entry->source);
    free(entry->entry);
    free(entry);
}

static sg_status load(sg_context *context, const sg_cuda_driver *driver, int device,
                      const sg_cuda_launch *launch, const sg_cubin *cubin,
                      sg_cuda_loaded **result) {
    sg_cu_module module;
    sg_cuda_loaded *made = calloc(1, sizeof *made);
    if (made) {
        made->source = strdup(launch->source);
        made->entry = strdup(launch->entry);
    }
    if (!made || !made->source || !made->entry) {
        if (made)
            discard(made);
        return sg_fail_memory(context);
    }
    made->device = device;
    made->hash = sg_hash(SG_HASH_START, made->source, strlen(made->source));
    strncpy(made->architecture, cubin->architecture, sizeof made->architecture - 1);
    sg_status status =
        sg_cuda_check(context, driver, driver->module_load(&module, cubin->data), "loading");
    if (status == SG_OK) {
        status = sg_cuda_check(context, driver,
                               driver->module_function(&made->function, module, made->entry),
                               made->entry);
        if (status != SG_OK)
            driver->module_unload(module);
    }
    if (status != SG_OK) {
        discard(made);
        return status;
    }
    made->next = loaded;
    loaded = made;
    *result = made;
    return SG_OK;
}

/* ---- all of a program ----------------------------------------------------------------------- */

/* Cubins of what is not loaded yet; `of` says to which launch each belongs. */
static int list_missing(int device, const char *architecture, const sg_cuda_launch *const *launches,
                        int count, sg_cubin *cubins, int *of) {
    int missing = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < count; i++) {
        if (!find(device, architecture, launches[i])) {
            cubins[missing] =
                (sg_cubin){.source = launches[i]->source, .architecture = architecture};
            of[missing++] = i;
        }
    }
    pthread_mutex_unlock(&lock);
    return missing;
}

/* cubins: those of list_missing. Another thread may have loaded some of them meanwhile. */
static sg_status load_all(sg_context *context, const sg_cuda_driver *driver, int device,
                          const char *architecture, const sg_cuda_launch *const *launches,
                          int count, const sg_cubin *cubins, const int *of,
                          sg_cu_function *functions) {
    sg_status status = SG_OK;
    pthread_mutex_lock(&lock);
    for (int i = 0, made = 0; i < count && status == SG_OK; i++) {
        const sg_cubin *cubin = of[made] == i ? &cubins[made++] : NULL;
        sg_cuda_loaded *entry = find(device, architecture, launches[i]);
        if (!entry && cubin) /* what is absent now was absent then */
            status = load(context, driver, device, launches[i], cubin, &entry);
        if (status == SG_OK && entry)
            status = grant(context, driver, entry, launches[i]);
        if (status == SG_OK && entry)
            functions[i] = entry->function;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

sg_status sg_cuda_load(sg_context *context, const sg_cuda_driver *driver, int device,
                       const char *architecture, const sg_cuda_launch *const *launches, int count,
                       sg_cu_function *functions) {
    sg_cubin *cubins = calloc((size_t)count + 1, sizeof *cubins);
    int *of = malloc(sizeof *of * ((size_t)count + 1));
    sg_status status = SG_OK;
    if (!cubins || !of) {
        status = sg_fail_memory(context);
    } else {
        int missing = list_missing(device, architecture, launches, count, cubins, of);
        of[missing] = -1;
        if (missing > 0)
            status = sg_cubins_build(context, cubins, missing);
        if (status == SG_OK)
            status = load_all(context, driver, device, architecture, launches, count, cubins, of,
                              functions);
        for (int i = 0; i < missing; i++)
            free(cubins[i].data);
    }
    free(cubins);
    free(of);
    return status;
}
