/* Threads and their memory. One team serves the process; it starts when first needed, sleeps
 * between calls and survives fork (the child starts its own). A caller takes the team for the
 * length of one program run; who comes while it is taken runs alone, on memory of its own. */
#ifndef SEGUE_RUN_CPU_TEAM_H
#define SEGUE_RUN_CPU_TEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "segue.h"

typedef struct sg_team sg_team;

/* A team of up to `threads` (at least 1), the caller among them. NULL when memory ran out. */
sg_team *sg_team_take(int threads);
void sg_team_give(sg_team *team);

/* How many of the team take part at the most. */
int sg_team_size(const sg_team *team);

/* Runs body(context, item, worker) for every item in [0, count), items handed out one by one,
 * worker in [0, size). Returns when all are done. */
void sg_team_run(sg_team *team, int64_t count,
                 void (*body)(void *context, int64_t item, int worker), void *context);

/* Memory that stays with the team: zeroed when it grows, aligned to 64 bytes, contents otherwise
 * left from the last use. slot: a worker's number, or SG_TEAM_SHARED. NULL when memory ran out. */
enum { SG_TEAM_SHARED = -1 };
void *sg_team_memory(sg_team *team, int slot, size_t size);

#endif
