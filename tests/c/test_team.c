/* The team of threads: every item once, whoever calls, after fork too. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run/cpu/team.h"
#include "segue.h"
#include "unit.h"

enum { ITEMS = 5000, CALLERS = 4, ROUNDS = 40 };

typedef struct tally {
    _Atomic int seen[ITEMS];
    _Atomic int outside; /* workers that do not exist */
    int size;
} tally;

static void count_item(void *context, int64_t item, int worker) {
    tally *t = context;
    t->seen[item]++;
    t->outside += worker < 0 || worker >= t->size;
}

/* Runs `items` items on up to `threads`; returns whether each was run once. */
static bool run_all(int threads, int64_t items) {
    tally *t = calloc(1, sizeof *t);
    sg_team *team = sg_team_take(threads);
    bool good = t && team;
    if (good) {
        t->size = sg_team_size(team);
        good = t->size >= 1 && t->size <= (threads < 1 ? 1 : threads);
        sg_team_run(team, items, count_item, t);
        for (int64_t i = 0; i < ITEMS; i++)
            good = good && t->seen[i] == (i < items);
        good = good && t->outside == 0;
    }
    if (team)
        sg_team_give(team);
    free(t);
    return good;
}

TEST(every_item_is_run_once) {
    static const int64_t items[] = {0, 1, 2, 3, 7, ITEMS};
    for (int threads = -1; threads <= 9; threads++)
        for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
            CASE("%d threads, %d items", threads, (int)items[i]);
            EXPECT(run_all(threads, items[i]));
        }
    EXPECT(run_all(100000, ITEMS));
}

TEST(jobs_follow_each_other) {
    for (int round = 0; round < 2000; round++)
        if (!EXPECT(run_all(1 + round % 5, 1 + round % 6)))
            return;
}

static void *call_often(void *argument) {
    bool *good = argument;
    for (int round = 0; round < ROUNDS; round++)
        *good = run_all(1 + round % 4, ITEMS / 10) && *good;
    return NULL;
}

TEST(callers_at_the_same_time_do_not_meet) {
    pthread_t threads[CALLERS];
    bool good[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        good[i] = true;
        REQUIRE(pthread_create(&threads[i], NULL, call_often, &good[i]) == 0);
    }
    for (int i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < CALLERS; i++)
        EXPECT(good[i]);
}

TEST(who_comes_while_it_is_taken_runs_alone) {
    sg_team *first = sg_team_take(3), *second = sg_team_take(3);
    REQUIRE(first && second);
    EXPECT(first != second);
    EXPECT_EQ_INT(sg_team_size(first), 3);
    EXPECT_EQ_INT(sg_team_size(second), 1);
    EXPECT(sg_team_memory(first, 0, 100) != sg_team_memory(second, 0, 100));
    sg_team_give(second);
    sg_team_give(first);
    sg_team *again = sg_team_take(2);
    EXPECT_EQ_INT(sg_team_size(again), 2);
    sg_team_give(again);
}

TEST(memory_is_aligned_and_zero_when_new) {
    sg_team *team = sg_team_take(2);
    REQUIRE(team);
    /* A worker whose memory no other test has touched. */
    unsigned char *memory = NULL;
    for (size_t size = 100; size < 200000; size *= 3) {
        memory = sg_team_memory(team, 200, size);
        REQUIRE(memory && (uintptr_t)memory % 64 == 0);
        bool zero = true;
        for (size_t i = 0; i < size; i++)
            zero = zero && memory[i] == 0;
        EXPECT(zero);
        memset(memory, 1, size);
    }
    EXPECT(sg_team_memory(team, 200, 5) == memory);
    EXPECT(sg_team_memory(team, SG_TEAM_SHARED, 5) != memory);
    sg_team_give(team);
}

/* In a child; returns whether it ended well. */
static bool child_runs(void) {
    pid_t child = fork();
    if (child == 0)
        _exit(run_all(3, ITEMS) && run_all(4, 50) ? 0 : 1);
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

TEST(a_child_starts_its_own_threads) {
    EXPECT(run_all(4, ITEMS));
    for (int i = 0; i < 5; i++)
        EXPECT(child_runs());
    EXPECT(run_all(4, ITEMS));
}

/* AddressSanitizer's allocator, unlike the C library's, does not see to its locks in a fork: a
 * child forked while another thread allocates may wait for them forever, whatever Segue does. */
#if !defined(__SANITIZE_ADDRESS__)

static _Atomic bool stop;

static void *grow_memory(void *argument) {
    (void)argument;
    for (size_t size = 64; !stop; size = size * 2 % 10000019 + 64) {
        sg_team *team = sg_team_take(2);
        if (team)
            memset(sg_team_memory(team, 0, size), 7, size);
        if (team)
            sg_team_give(team);
    }
    return NULL;
}

TEST(a_child_forked_in_the_middle_of_a_run_is_sound) {
    pthread_t thread;
    stop = false;
    REQUIRE(pthread_create(&thread, NULL, grow_memory, NULL) == 0);
    for (int i = 0; i < 50; i++)
        if (!EXPECT(child_runs()))
            break;
    stop = true;
    pthread_join(thread, NULL);
}
#endif

/* ---- the host's threads -------------------------------------------------------------------- */

static int pool_calls;

/* A pool without threads of its own, and one more call than asked for. */
static void run_in_turn(void (*body)(void *argument), void *argument, int count) {
    for (int i = 0; i <= count; i++)
        body(argument);
    pool_calls++;
}

TEST(the_hosts_threads_take_the_place_of_ours) {
    pool_calls = 0;
    sg_set_thread_pool(run_in_turn);
    EXPECT(run_all(3, ITEMS));
    EXPECT(run_all(4, 2));
    EXPECT_EQ_INT(pool_calls, 2);
    EXPECT(run_all(1, ITEMS)); /* alone, nobody is asked */
    EXPECT_EQ_INT(pool_calls, 2);
    sg_set_thread_pool(NULL);
    EXPECT(run_all(3, ITEMS));
    EXPECT_EQ_INT(pool_calls, 2);
}
