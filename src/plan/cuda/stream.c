/* Tails without a convolution before them, at the speed of memory. What counts is that neighbouring
 * threads move neighbouring elements, that enough of them are under way, and that nothing is read
 * twice: a tile whose channels are reduced stays in registers, spread over as many threads as that
 * takes. */
#include "plan/cuda/stream.h"

#include <math.h>
#include <stdio.h>

#include "plan/cuda/facts.h"

enum { LANES, GROUPS, WARP_LANES, PIXELS, CHANNELS, GROUPS_FIRST, SHARED_WALK, WALK_UNROLL };
static const char *const parameters[] = {"lanes",       "groups",      "warp_lanes",
                                         "pixels",      "channels",    "groups_first",
                                         "shared_walk", "walk_unroll", NULL};

/* Values of a thread that registers keep, and slots of one loop that are written out. */
enum { KEPT_MOST = 96, WRITTEN_OUT = 64, PART_WRITTEN_OUT = 8 };
static const double OTHER_REGISTERS = 22;
/* Bytes under way that keep a multiprocessor's share of memory busy: bandwidth times latency. */
static const double BYTES_UNDER_WAY = 30e3;
static const double LATENCY = 900;   /* cycles from a load to its use, under load */
static const double REDUCTION = 120; /* cycles, of a warp, of a reduction between threads */
/* Instructions: each element, each access to memory with its address, each place of a pixel that is
 * found, each operator of each element, and if it is an elementary function, or
 * made of several. */
static const double ELEMENT = 2, ACCESS = 8, PLACE = 24, OPERATOR = 2, FUNCTION = 18, COMPOSED = 50;
static const double FEW_BLOCKS = 0.25;    /* of the multiprocessors: too few to be worth it */
static const double SMALL_ELEMENTS = 4e6; /* for which even that is fast enough */

static bool is_power_of_two(int64_t number) {
    return number > 0 && (number & (number - 1)) == 0;
}

/* ---- reading a plan ------------------------------------------------------------------------ */

/* Loops over the channels that read an operand: more than one wherever something waits for a
 * reduction. */
static bool reads_again(const sg_cuda_tail_facts *facts) {
    return facts->channel_reductions > 1 ||
           (facts->channel_reductions == 1 && facts->tile_stores > 0);
}

static double registers_of(const sg_problem *problem, const sg_cuda_stream_plan *plan,
                           const sg_cuda_tail_facts *facts) {
    const sg_cuda_block *block = &plan->block;
    double words = problem->compute == SG_F64 ? 2 : 1;
    double tile = (double)(block->channels * block->pixels);
    double values = tile * 1.15 * (plan->kept + facts->full_walks);
    values += (double)block->pixels * 1.5 + fmin(tile, 16);
    return OTHER_REGISTERS + values * words;
}

static bool block_is_sound(const sg_problem *problem, const sg_cuda_target *target,
                           const sg_cuda_stream_plan *plan, const sg_cuda_tail_facts *facts) {
    const sg_cuda_block *block = &plan->block;
    int64_t threads = sg_cuda_block_threads(block), tile = block->channels * block->pixels;
    if (!is_power_of_two(block->lanes) || !is_power_of_two(block->warp_lanes) ||
        !is_power_of_two(block->pixels) || block->warp_lanes > 32 || block->pixels > 8)
        return false;
    if (block->lanes % block->warp_lanes != 0 || block->groups % (32 / block->warp_lanes) != 0 ||
        threads > 1024 ||
        (!block->group_walk && sg_cuda_block_channels(block) < problem->size[SG_ROLE_C]))
        return false;
    if (block->group_walk && block->channels > 1)
        return false;
    if (facts->full_walks > 0 && tile > WRITTEN_OUT)
        return false;
    int64_t shared = sg_cuda_block_scratch(block) * (problem->compute == SG_F64 ? 8 : 4);
    double limit = fmin(255, floor((double)target->gpu.registers / (double)threads / 8) * 8);
    return shared <= 48 << 10 && (!block->shared_walk || sg_cuda_may_share_walk(problem)) &&
           registers_of(problem, plan, facts) <= limit;
}

bool sg_cuda_stream_read(const sg_problem *problem, const sg_cuda_target *target,
                         const sg_cuda_plan *plan, sg_cuda_stream_plan *read) {
    const int64_t *given = plan->parameter;
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    *read = (sg_cuda_stream_plan){.block = {.lanes = given[LANES],
                                            .groups = given[GROUPS],
                                            .warp_lanes = given[WARP_LANES],
                                            .pixels = given[PIXELS],
                                            .channels = given[CHANNELS],
                                            .channel_tiles = 1,
                                            .groups_first = given[GROUPS_FIRST] != 0,
                                            .shared_walk = given[SHARED_WALK] != 0,
                                            .least_blocks = 1},
                                  .walk_unroll = given[WALK_UNROLL]};
    sg_cuda_block *block = &read->block;
    if (block->pixels < 1 || block->channels < 1 || block->groups < 1 || block->lanes < 1 ||
        block->warp_lanes < 1 || read->walk_unroll < 1)
        return false;
    int64_t along = sg_cuda_walk_vector(problem, target);
    block->group_walk = sg_cuda_may_share_walk(problem) && !block->shared_walk &&
                        block->groups > 1 && problem->size[SG_ROLE_C] == 1;
    block->vector_walk = block->shared_walk && along > 1 && block->pixels == along;
    int64_t vector = block->vector_walk ? along
                     : block->groups_first || block->shared_walk
                         ? 1
                         : sg_cuda_pixel_vector(problem, target);
    block->pixel_vector = vector < block->pixels ? vector : block->pixels;
    block->run = block->pixel_vector;
    vector = block->groups_first ? sg_cuda_channel_vector(problem, target) : 1;
    while (block->channels % vector != 0)
        vector /= 2;
    block->channel_vector = block->bunch = vector;

    int64_t tile = block->channels * block->pixels;
    bool keeps = reads_again(&facts) && tile * facts.tile_loads <= KEPT_MOST;
    read->kept = keeps ? facts.tile_loads : 0;
    read->slot_unroll =
        tile <= (keeps ? KEPT_MOST : WRITTEN_OUT * 2) || facts.full_walks ? 256 : PART_WRITTEN_OUT;
    return block_is_sound(problem, target, read, &facts);
}

/* ---- cost ---------------------------------------------------------------------------------- */

static double elements(const sg_problem *problem) {
    double count = 1;
    for (int role = 0; role < SG_ROLE_COUNT; role++)
        count *= (double)problem->size[role];
    return count;
}

/* Instructions for one element of the space, by the operators that work on all of them. */
static double operators(const sg_problem *problem, bool again) {
    const sg_region *region = problem->region;
    bool channels = problem->size[SG_ROLE_C] > 1;
    double count = 0;
    for (sg_value value = 0; value < region->graph->node_count; value++) {
        const sg_op_info *info = sg_op_get(sg_graph_node(region->graph, value)->op);
        if (!region->members[value].in || info->kind == SG_KIND_VIEW)
            continue;
        bool reduces = info->kind == SG_KIND_REDUCTION;
        bool full = sg_problem_domain(problem, value) >> SG_ROLE_C & 1U || !channels;
        if (!reduces && (!full || region->members[value].after_walk))
            continue;
        bool function = info->kind == SG_KIND_SOFTMAX || info->ulp > 1;
        bool composed = info->ulp > 2;
        double times = info->kind == SG_KIND_SOFTMAX ? 2 : again ? 1.5 : 1;
        count += times * (composed   ? COMPOSED
                          : function ? FUNCTION
                          : reduces  ? 3 * OPERATOR
                                     : OPERATOR);
    }
    return count;
}

static double smallest_element(const sg_problem *problem) {
    double size = 8;
    for (int i = 0; i < problem->access_count; i++)
        size = fmin(size, (double)sg_dtype_size(problem->accesses[i].operand.dtype));
    return size;
}

/* What neighbouring threads of a warp move side by side, and what one moves, as a part of what
 * memory likes. */
static double coalescing(const sg_problem *problem, const sg_cuda_block *block) {
    bool channels_lie_near = problem->size[SG_ROLE_C] > 1 && sg_cuda_strides_far(problem);
    if (channels_lie_near != block->groups_first && problem->size[SG_ROLE_C] > 1)
        return 0.15;
    if (!block->groups_first && !sg_cuda_lanes_are_neighbours(problem, block))
        return 0.2;
    double threads = (double)(block->groups_first ? 32 / block->warp_lanes : block->warp_lanes);
    double each = (double)(block->groups_first ? block->channel_vector : block->pixel_vector) *
                  smallest_element(problem);
    double bytes = threads * each;
    double width = each >= 16 ? 1 : each >= 8 ? 0.98 : each >= 4 ? 0.95 : 0.85;
    double length = bytes >= 512   ? 1
                    : bytes >= 256 ? 0.99
                    : bytes >= 128 ? 0.97
                    : bytes >= 64  ? 0.88
                    : bytes >= 32  ? 0.7
                                   : 0.7 * bytes / 32;
    return length * width;
}

static double cost(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    const sg_gpu *gpu = &target->gpu;
    sg_cuda_stream_plan read;
    if (!sg_cuda_stream_read(problem, target, plan, &read))
        return INFINITY;
    sg_cuda_tail_facts facts;
    sg_cuda_get_tail_facts(problem, &facts);
    const sg_cuda_block *block = &read.block;
    double clock = gpu->fp32 / (gpu->multiprocessors * 256.0);
    double threads = (double)sg_cuda_block_threads(block);
    double registers = ceil(registers_of(problem, &read, &facts) / 8) * 8 * threads;
    double room = fmin(fmin((double)gpu->registers / registers, 2048 / threads), 32);
    room = fmax(1, floor(room));
    double blocks = (double)sg_cuda_block_grid(problem, block);
    double resident = fmin(room, ceil(blocks / gpu->multiprocessors));

    double tile = (double)(block->channels * block->pixels);
    double vector = (double)(block->pixel_vector * block->channel_vector);
    double steps = (double)sg_cuda_walk_length(problem);
    if (block->shared_walk)
        steps = ceil(steps / (double)(block->lanes * (block->vector_walk ? block->pixels : 1)));
    if (block->group_walk)
        steps = ceil(steps / (double)block->groups);
    bool again = reads_again(&facts) && !read.kept;
    double wasted = block->group_walk
                        ? 1
                        : (double)sg_cuda_block_channels(block) / (double)problem->size[SG_ROLE_C];

    /* Memory: enough bytes under way, in pieces it likes; read again, from the cache mostly. */
    double flying = fmin(tile, 16) * smallest_element(problem) * resident * threads *
                    (problem->walk ? fmin((double)read.walk_unroll, steps) : 1);
    double busy = fmin(1, flying / BYTES_UNDER_WAY);
    if (facts.channel_reductions && room < 4)
        busy *= room < 2 ? 0.6 : 0.85;
    /* What is read again comes from the cache, if that holds what all blocks work on. */
    double held = room * gpu->multiprocessors * threads * tile * smallest_element(problem);
    double spilt = fmin(1, held / (4 * (double)gpu->l2));
    double moved = problem->bytes * (again ? 2 + 1.2 * spilt : 1);
    bool joined = block->shared_walk || block->group_walk;
    if (joined) /* threads wait while they join */
        busy *= steps / (steps + 0.5) * (1 - 0.02 / (double)read.walk_unroll);
    if (reads_again(&facts) && block->groups_first) /* long rows of few threads come in bursts */
        busy *= tile > 32 ? 0.65 : tile > 16 ? 0.94 : 1;
    /* Threads that wait for each other, and more of a tile than one access, come in bursts. */
    double even = (tile > vector && block->channels == 1 && !problem->walk ? 0.97 : 1) *
                  (threads > 512   ? 0.93
                   : threads < 128 ? 0.98
                                   : 1);
    double memory = moved / (gpu->copy * busy * even * coalescing(problem, block));
    /* Instructions, of what is there, on the multiprocessors that have a block. */
    double spread = fmin(1, blocks / gpu->multiprocessors);
    double work =
        elements(problem) * wasted *
        (ELEMENT + ACCESS / vector + PLACE / (double)(block->pixel_vector * block->channels) +
         operators(problem, again)) /
        (gpu->multiprocessors * spread * 128);
    /* One block after the other. */
    double reductions = REDUCTION * (facts.channel_reductions + (joined ? 2 : 0));
    double serial =
        LATENCY * (1 + steps / (double)read.walk_unroll) + reductions * (joined ? 1 : steps) * 2;
    double rounds = ceil(blocks / (gpu->multiprocessors * room));
    return gpu->launch + LATENCY / clock +
           fmax(memory, fmax(work / clock, rounds * serial / clock));
}

/* ---- candidates ---------------------------------------------------------------------------- */

typedef struct search {
    const sg_problem *problem;
    const sg_cuda_target *target;
    sg_cuda_plan *plans;
    double costs[SG_CUDA_CANDIDATES_MAX];
    int count;
} search;

enum { KEPT_CANDIDATES = 12 };

static void consider(search *found, const sg_cuda_plan *plan) {
    double seconds = cost(found->problem, found->target, plan);
    if (isfinite(seconds))
        sg_cuda_keep_plan(plan, seconds, found->plans, found->costs, &found->count,
                          KEPT_CANDIDATES);
}

/* Slots of a thread: whole vectors, as few as the groups need. */
static int64_t slots_for(const search *found, int64_t groups, bool groups_first) {
    int64_t vector = groups_first ? sg_cuda_channel_vector(found->problem, found->target) : 1;
    int64_t slots = sg_cuda_pieces(found->problem->size[SG_ROLE_C], groups);
    slots = sg_cuda_pieces(slots, vector) * vector;
    return slots > WRITTEN_OUT * 2 ? sg_cuda_pieces(slots, PART_WRITTEN_OUT) * PART_WRITTEN_OUT
                                   : slots;
}

static void consider_threads(search *found, sg_cuda_plan *plan, int64_t threads) {
    int64_t *parameter = plan->parameter;
    int64_t channels = found->problem->size[SG_ROLE_C];
    for (int64_t warp_lanes = 1; warp_lanes <= 32; warp_lanes *= 2) {
        for (int64_t groups = 32 / warp_lanes; groups <= threads; groups *= 2) {
            int64_t lanes = threads / groups;
            bool shares_walk =
                sg_cuda_may_share_walk(found->problem) && !parameter[SHARED_WALK] && channels == 1;
            if (lanes % warp_lanes != 0 || (!shares_walk && groups > 1 && groups >= 2 * channels))
                continue;
            parameter[LANES] = lanes;
            parameter[GROUPS] = groups;
            parameter[WARP_LANES] = warp_lanes;
            parameter[CHANNELS] =
                shares_walk ? 1 : slots_for(found, groups, parameter[GROUPS_FIRST] != 0);
            for (int64_t pixels = 1; pixels <= 8; pixels *= 2) {
                parameter[PIXELS] = pixels;
                for (int64_t unroll = 1; unroll <= (found->problem->walk ? 4 : 1); unroll *= 2) {
                    parameter[WALK_UNROLL] = unroll;
                    consider(found, plan);
                }
            }
        }
    }
}

static int candidates(const sg_problem *problem, const sg_cuda_target *target,
                      sg_cuda_plan *plans) {
    search found = {.problem = problem, .target = target, .plans = plans};
    for (int shared = 0; shared <= (problem->walk ? 1 : 0); shared++) {
        for (int first = 0; first <= (problem->size[SG_ROLE_C] > 1 ? 1 : 0); first++) {
            sg_cuda_plan plan = {.parameter = {[SHARED_WALK] = shared, [GROUPS_FIRST] = first}};
            for (int64_t threads = shared ? 32 : 64; threads <= 1024; threads *= 2)
                consider_threads(&found, &plan, threads);
        }
    }
    return found.count;
}

static bool applicable(const sg_problem *problem, const sg_cuda_target *target, char *reason) {
    if (problem->has_convolution) {
        snprintf(reason, SG_REASON_MAX, "the region has a convolution");
        return false;
    }
    sg_cuda_plan plans[SG_CUDA_CANDIDATES_MAX];
    if (candidates(problem, target, plans) == 0) {
        snprintf(reason, SG_REASON_MAX,
                 "running values of %lld channels do not fit the registers of a block",
                 (long long)problem->size[SG_ROLE_C]);
        return false;
    }
    for (int role = 0; role < SG_ROLE_COUNT; role++) {
        if (problem->size[role] > INT32_MAX) {
            snprintf(reason, SG_REASON_MAX, "an axis of %lld elements is too long to count in int",
                     (long long)problem->size[role]);
            return false;
        }
    }
    sg_cuda_stream_plan read;
    sg_cuda_stream_read(problem, target, &plans[0], &read);
    double blocks = (double)sg_cuda_block_grid(problem, &read.block);
    if (blocks < target->gpu.multiprocessors * FEW_BLOCKS && elements(problem) > SMALL_ELEMENTS) {
        snprintf(reason, SG_REASON_MAX,
                 "%lld results of %.0f elements each leave most of the GPU without work",
                 (long long)sg_cuda_kept_pixels(problem),
                 elements(problem) / (double)sg_cuda_kept_pixels(problem));
        return false;
    }
    return true;
}

static bool usable(const sg_problem *problem, const sg_cuda_target *target,
                   const sg_cuda_plan *plan) {
    sg_cuda_stream_plan read;
    return sg_cuda_stream_read(problem, target, plan, &read);
}

const sg_cuda_strategy sg_cuda_stream = {.name = "stream",
                                         .parameters = parameters,
                                         .applicable = applicable,
                                         .candidates = candidates,
                                         .usable = usable,
                                         .cost = cost};
