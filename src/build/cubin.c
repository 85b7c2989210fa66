#include "build/cubin.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "build/cache.h"
#include "target/cpu.h"

/* One cubin on its way through the compiler. */
typedef struct sg_cubin_job {
    sg_cubin *cubin;
    const char *key;
    sg_context message;
    sg_status status;
} sg_cubin_job;

/* Jobs, which threads take one by one. */
typedef struct sg_cubin_queue {
    sg_cubin_job *jobs;
    int count;
    atomic_int next;
} sg_cubin_queue;

/* All that decides what comes out. NULL when memory ran out; to be freed. */
static char *make_key(const sg_cubin *cubin, int major, int minor) {
    sg_text text = {0};
    sg_text_add(&text, "nvrtc %d.%d\n%s %s\n", major, minor, cubin->architecture, SG_NVRTC_OPTIONS);
    sg_text_add(&text, "%s", cubin->source);
    return sg_text_take(&text);
}

static void compile(sg_cubin_job *job) {
    sg_cubin *cubin = job->cubin;
    job->status = sg_nvrtc_compile(&job->message, cubin->source, cubin->architecture, &cubin->data,
                                   &cubin->size);
    if (job->status == SG_OK)
        sg_cache_keep(job->key, cubin->data, cubin->size);
}

static void *work(void *argument) {
    sg_cubin_queue *queue = argument;
    for (int i = atomic_fetch_add(&queue->next, 1); i < queue->count;
         i = atomic_fetch_add(&queue->next, 1))
        compile(&queue->jobs[i]);
    return NULL;
}

/* The caller's thread is one of them, and enough where no other can be had. */
static void compile_all(sg_cubin_job *jobs, int count) {
    enum { THREADS_MAX = 16 };
    pthread_t threads[THREADS_MAX];
    sg_cubin_queue queue = {.jobs = jobs, .count = count};
    int wanted = count < sg_cpu_get()->processors ? count : sg_cpu_get()->processors, started = 0;
    while (started < THREADS_MAX && started + 1 < wanted &&
           pthread_create(&threads[started], NULL, work, &queue) == 0)
        started++;
    work(&queue);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}

static sg_status build_all(sg_context *context, sg_cubin *cubins, int count, sg_cubin_job *jobs,
                           char **keys, int major, int minor) {
    int missing = 0;
    for (int i = 0; i < count; i++) {
        keys[i] = make_key(&cubins[i], major, minor);
        if (!keys[i])
            return sg_fail_memory(context);
        cubins[i].from_cache = sg_cache_find(keys[i], &cubins[i].data, &cubins[i].size);
        if (!cubins[i].from_cache)
            jobs[missing++] = (sg_cubin_job){.cubin = &cubins[i], .key = keys[i]};
    }
    compile_all(jobs, missing);
    for (int i = 0; i < missing; i++) {
        if (jobs[i].status != SG_OK)
            return sg_fail(context, jobs[i].status, "%s", jobs[i].message.message);
    }
    return SG_OK;
}

sg_status sg_cubins_build(sg_context *context, sg_cubin *cubins, int count) {
    int major, minor;
    sg_status status = sg_nvrtc_open(context, &major, &minor);
    if (status != SG_OK)
        return status;
    for (int i = 0; i < count; i++)
        cubins[i].data = NULL;
    sg_cubin_job *jobs = calloc((size_t)count + 1, sizeof *jobs);
    char **keys = calloc((size_t)count + 1, sizeof *keys);
    status = jobs && keys ? build_all(context, cubins, count, jobs, keys, major, minor)
                          : sg_fail_memory(context);
    for (int i = 0; i < count; i++) {
        if (keys)
            free(keys[i]);
        if (status != SG_OK) {
            free(cubins[i].data);
            cubins[i].data = NULL;
        }
    }
    free(keys);
    free(jobs);
    return status;
}
