/* Repair: one more launch that makes anew what the half carrier could not hold (docs/cuda.md). The
 * first launch wrote one int a job to the workspace, 0 or else; this one looks at all of them and,
 * with `mma.sync`, makes the flagged jobs' outputs once more: in tf32 proper, rounded as the
 * target's precision says, or in three tf32 products for fp32. Float's whole range of exponents,
 * infinities and NaN go through. It ends at once where no flag is set, and spreads few flagged jobs
 * over all blocks, since a unit of its work is a part of a job. No atomics; nothing is kept between
 * calls. */
#ifndef SEGUE_GEN_CUDA_REPAIR_H
#define SEGUE_GEN_CUDA_REPAIR_H

#include "gen/cuda/kernel.h"

/* How a lowering divided the output into jobs. A job is one box of pixels of one image, cut off at
 * the output's edge, by one tile of channels:
 *     job = (((n * channel_tiles + ct) * jobs[0] + jd) * jobs[1] + jh) * jobs[2] + jw
 * and holds pixels jd * box[0] .. + box[0] - 1 along D, and so on. A walked axis is whole in one
 * job. Channels are in one tile, channel_tiles 1; or else in tiles of `channels` neighbours of one
 * group, fewer at a group's end: tile ct is tile ct % t of group ct / t, where t = ceil(channels of
 * a group / channels). More than one tile only where no op of the tail mixes channels. */
typedef struct sg_cuda_jobs {
    int64_t box[SG_SPATIAL_MAX];  /* output pixels of a job along D, H, W */
    int64_t jobs[SG_SPATIAL_MAX]; /* boxes along D, H, W: ceil(size / box) */
    int64_t channel_tiles, channels;
} sg_cuda_jobs;

/* Flags to lay out in the workspace: N * channel_tiles * jobs[0] * jobs[1] * jobs[2]. */
int64_t sg_cuda_job_count(const sg_problem *problem, const sg_cuda_jobs *jobs);

/* Whether problems of this kind can be repaired; a strategy on the half carrier is not applicable
 * where they cannot. Asks nothing of jobs, sizes of the batch or of the image. */
bool sg_cuda_repairable(const sg_problem *problem, const sg_cuda_target *target, char *reason);

/* The launch, with texts and words in the arena. flags: byte offset of int flags[job count] in the
 * workspace. SG_NOT_APPLICABLE with a sentence where sg_cuda_repairable is false. */
sg_status sg_cuda_lower_repair(const sg_problem *problem, const sg_cuda_target *target,
                               const sg_cuda_jobs *jobs, int64_t flags, sg_arena *arena,
                               sg_cuda_launch *launch);

#endif
