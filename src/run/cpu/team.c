#include "run/cpu/team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORKERS_MAX = 256, ALIGNMENT = 64 };
/* More than this much memory is not kept between runs. */
static const size_t KEEP_LIMIT = (size_t)32 << 20;

typedef struct sg_memory {
    void *data;
    size_t size;
} sg_memory;

struct sg_team {
    bool solo;                         /* made for one run, by a caller that found the team taken */
    int size;                          /* workers in this run, the caller included */
    sg_memory memory[WORKERS_MAX + 1]; /* [0]: shared */

    pthread_mutex_t taken; /* held from take to give */
    pthread_mutex_t lock;  /* guards what follows */
    pthread_cond_t work, done;
    int started;         /* threads that exist, the caller not counted */
    uint64_t generation; /* of the current job */
    int joining;         /* threads that take part in it */
    int running;         /* of those, the ones not finished */

    void (*body)(void *context, int64_t item, int worker);
    void *context;
    int64_t count;
    _Atomic int64_t next;
    _Atomic int arrived; /* threads of the host's pool that have taken a number */
};

static sg_team team = {.taken = PTHREAD_MUTEX_INITIALIZER,
                       .lock = PTHREAD_MUTEX_INITIALIZER,
                       .work = PTHREAD_COND_INITIALIZER,
                       .done = PTHREAD_COND_INITIALIZER};
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic(sg_thread_pool) host_pool;

void sg_set_thread_pool(sg_thread_pool pool) {
    host_pool = pool;
}

/* ---- fork ---------------------------------------------------------------------------------- */

/* The child has none of the threads, and locks in whatever state they were in. Who held the team
 * may have been replacing its memory, which is then left alone. */
static void forget_threads(void) {
    if (pthread_mutex_trylock(&team.taken) != 0) {
        memset(team.memory, 0, sizeof team.memory);
    }
    pthread_mutex_init(&team.taken, NULL);
    pthread_mutex_init(&team.lock, NULL);
    pthread_cond_init(&team.work, NULL);
    pthread_cond_init(&team.done, NULL);
    team.started = 0;
    team.running = 0;
    team.generation = 0;
}

static void watch_forks(void) {
    pthread_atfork(NULL, NULL, forget_threads);
}

/* ---- threads ------------------------------------------------------------------------------- */

static void work_through(sg_team *self, int worker) {
    for (;;) {
        int64_t item = atomic_fetch_add_explicit(&self->next, 1, memory_order_relaxed);
        if (item >= self->count) {
            return;
        }
        self->body(self->context, item, worker);
    }
}

/* What each thread of the host's pool runs. */
static void join_from_pool(void *argument) {
    sg_team *self = argument;
    int worker = atomic_fetch_add_explicit(&self->arrived, 1, memory_order_relaxed);
    if (worker < self->size) {
        work_through(self, worker);
    }
}

static void *thread_main(void *argument) {
    int worker = (int)(intptr_t)argument;
    uint64_t seen = 0;
    pthread_mutex_lock(&team.lock);
    for (;;) {
        while (team.generation == seen) {
            pthread_cond_wait(&team.work, &team.lock);
        }
        seen = team.generation;
        if (worker > team.joining) {
            continue;
        }
        pthread_mutex_unlock(&team.lock);
        work_through(&team, worker);
        pthread_mutex_lock(&team.lock);
        if (--team.running == 0) {
            pthread_cond_signal(&team.done);
        }
    }
    return NULL;
}

/* Starts threads up to the number wanted; returns how many there are. Called with the lock held, so
 * a new thread first looks at the generation when the job is already posted or not yet: both are
 * right, because it starts from generation 0 and is counted in only by `joining`. */
static int start_threads(int wanted) {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) {
        return team.started;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    while (team.started < wanted) {
        pthread_t thread;
        void *number = (void *)(intptr_t)(team.started + 1); /* NOLINT(performance-no-int-to-ptr) */
        if (pthread_create(&thread, &attributes, thread_main, number) != 0) {
            break;
        }
        team.started++;
    }
    pthread_attr_destroy(&attributes);
    return team.started < wanted ? team.started : wanted;
}

/* ---- interface ----------------------------------------------------------------------------- */

sg_team *sg_team_take(int threads) {
    pthread_once(&once, watch_forks);
    threads = threads < 1 ? 1 : threads > WORKERS_MAX ? WORKERS_MAX : threads;
    if (pthread_mutex_trylock(&team.taken) == 0) {
        team.size = threads;
        return &team;
    }
    sg_team *solo = calloc(1, sizeof *solo);
    if (solo) {
        solo->solo = true;
        solo->size = 1;
    }
    return solo;
}

void sg_team_give(sg_team *self) {
    for (int i = 0; i <= WORKERS_MAX; i++) {
        if (self->memory[i].data && (self->solo || self->memory[i].size > KEEP_LIMIT)) {
            free(self->memory[i].data);
            self->memory[i] = (sg_memory){0};
        }
    }
    if (self->solo) {
        free(self);
    } else {
        pthread_mutex_unlock(&self->taken);
    }
}

int sg_team_size(const sg_team *self) {
    return self->size;
}

void sg_team_run(sg_team *self, int64_t count,
                 void (*body)(void *context, int64_t item, int worker), void *context) {
    self->body = body;
    self->context = context;
    self->count = count;
    atomic_store_explicit(&self->next, 0, memory_order_relaxed);
    if (self->size == 1 || count <= 1) {
        work_through(self, 0);
        return;
    }
    int helpers = count - 1 < self->size - 1 ? (int)(count - 1) : self->size - 1;
    sg_thread_pool pool = host_pool;
    if (pool) {
        atomic_store_explicit(&self->arrived, 0, memory_order_relaxed);
        pool(join_from_pool, self, helpers + 1);
        return;
    }
    pthread_mutex_lock(&self->lock);
    self->joining = start_threads(helpers);
    self->running = self->joining;
    self->generation++;
    pthread_cond_broadcast(&self->work);
    pthread_mutex_unlock(&self->lock);
    work_through(self, 0);
    pthread_mutex_lock(&self->lock);
    while (self->running > 0) {
        pthread_cond_wait(&self->done, &self->lock);
    }
    pthread_mutex_unlock(&self->lock);
}

void *sg_team_memory(sg_team *self, int slot, size_t size) {
    sg_memory *memory = &self->memory[slot + 1];
    if (memory->size < size) {
        size_t rounded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        free(memory->data);
        *memory = (sg_memory){.data = aligned_alloc(ALIGNMENT, rounded), .size = 0};
        if (!memory->data) {
            return NULL;
        }
        memset(memory->data, 0, rounded);
        memory->size = rounded;
    }
    return memory->data;
}
