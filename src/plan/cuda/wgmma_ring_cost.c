/* What the ring costs: cycles of its parts, from runs on an H200. */
#include <math.h>

#include "plan/cuda/wgmma_ring.h"

/* Cycles, from runs of random convolutions on an H200. */
static const double SHARED_BYTES = 128;     /* of shared memory, a cycle */
static const double TENSOR_FLOPS = 4096;    /* of one multiprocessor, a cycle */
static const double PRODUCT_LOSS = 1.1;     /* by others in shared memory */
static const double SPLIT_PRODUCTS = 3.1;   /* of operands of two parts, for one of one, */
static const double SPLIT_FED = 1.07;       /* of which shared memory feeds fewer, */
static const double SPLIT_ROW = 200;        /* and what each row of them costs beside */
static const double MOVE_CYCLES = 400;      /* of sums, in the middle of a tile */
static const double SPLIT_SLOTS = 240;      /* instructions of an item's second part */
static const double START_CYCLES = 100;     /* between the products of two tiles */
static const double TAIL_LOSS = 2;          /* of instructions beside products; a third consumer
                                             * only adds to it */
static const double TILE_CYCLES = 600;      /* of waiting and counting, a tile */
static const double SEGMENT_CYCLES = 1250;  /* before the first row of an image or of a box of it */
static const double TAIL_CYCLES = 300;      /* of a tile's tail, whatever it does */
static const double SUM_CYCLES = 6;         /* of a tail, for each sum of a thread */
static const double STORE_CYCLES = 28;      /* the same for each that is stored in lines, */
static const double ALONE_CYCLES = 45;      /* and without: sectors of pixels as they lie */
static const double NARROW_STORE = 18;      /* of a half, in lines */
static const double NARROW_ALONE = 78;      /* and without */
static const double LINE_CYCLES = 12;       /* the same by lines of whole sectors */
static const double CROSS_CYCLES = 10;      /* of a reduction across warps, for each pixel */
static const double ITEM_CYCLES = 2050;     /* from a producer warp's load to its store */
static const double ITEM_SLOTS = 320;       /* instructions of an item */
static const double NARROW_SLOTS = 110;     /* the same of halves */
static const double NARROW_LOSS = 0.85;     /* of all that a block does with halves, at the clock */
static const double PRODUCER_LOSS = 0.01;   /* they leave; and by producers beyond the first */
static const double NARROW_TWICE = 26;      /* cycles of a sum that a tail comes back to */
static const double PROLOGUE_CYCLES = 4200; /* before the first product, weights aside */
static const double WEIGHT_CYCLES = 0.5;    /* of packing one weight */
static const double COPY_RATE = 0.75;       /* of the card's, by rows in the ring */
static const double CLOCK = 1.07;           /* over the one that products alone would keep */

/* Cycles of the products of one tile: the tensor cores' or the shared memory's that feed them. */
static double product_cycles(const sg_wgmma_ring *ring) {
    double n = (double)(ring->columns ? ring->pixels : ring->tile_slots);
    double blocks = (double)(ring->columns ? ring->tile_slots : ring->pixels) / 64;
    double bytes = 2048 + n * 32;
    double tensor = n * 64 * 32 / TENSOR_FLOPS, fed = bytes / SHARED_BYTES;
    if (ring->parts == 1)
        return blocks * (double)ring->steps * fmax(tensor, fed);
    return blocks * (double)ring->steps * fmax(tensor, fed * SPLIT_FED) * SPLIT_PRODUCTS;
}

/* Cycles in which a consumer moves sums, and the tensor cores have the other's products. */
static double move_cycles(const sg_wgmma_ring *ring) {
    return ring->spans > 2 ? (double)(ring->spans - 1) * MOVE_CYCLES : 0;
}

static double tail_cycles(const sg_wgmma_ring *ring) {
    double sums = (double)ring->sums, crossed = ring->columns ? (double)ring->pixels / 4 : 0;
    bool alone = ring->out_vector == 0;
    double store = ring->columns           ? LINE_CYCLES
                   : ring->narrow_lines    ? NARROW_STORE
                   : alone && ring->narrow ? NARROW_ALONE
                   : alone                 ? ALONE_CYCLES
                                           : STORE_CYCLES;
    double again = ring->narrow ? fmax(0, ring->tail.channel_reductions - 1) * NARROW_TWICE : 0;
    return TAIL_CYCLES + sums * (SUM_CYCLES + again + store * ring->tail.tile_stores) +
           crossed * CROSS_CYCLES * ring->tail.channel_reductions;
}

static double stage_cycles(const sg_wgmma_ring *ring) {
    double items = (double)sg_wgmma_ring_chunks(ring) * (double)ring->stage_groups;
    double latency = items * ITEM_CYCLES / ((double)ring->producers * 4);
    double slots = ring->narrow       ? NARROW_SLOTS
                   : ring->parts == 2 ? ITEM_SLOTS + SPLIT_SLOTS
                                      : ITEM_SLOTS;
    return fmax(latency, items * slots / 4);
}

/* Bytes through memory: staged input, and the rest once. */
static double memory_bytes(const sg_problem *problem, const sg_wgmma_ring *ring) {
    const sg_convolution *convolution = &problem->convolution;
    double image =
        (double)sg_dtype_size(convolution->input.dtype) * (double)convolution->in_channels;
    for (int i = 0; i < SG_SPATIAL_MAX; i++)
        image *= (double)convolution->in_size[i];
    double input = image * (double)problem->size[SG_ROLE_N];
    double boxes = (double)(ring->boxes_x * ring->boxes_y);
    double staged = (double)(ring->stage_rows * ring->stage_width) * boxes;
    double slice = (double)(ring->in_size[SG_RING_Y] * ring->in_size[SG_RING_X]);
    double again = fmax(1, staged / fmax(1, slice)) * (double)ring->group_tiles;
    return problem->bytes + input * (fmin(again, 4) - 1);
}

double sg_wgmma_ring_cost(const sg_problem *problem, const sg_cuda_target *target,
                          const sg_cuda_plan *plan) {
    sg_wgmma_ring ring;
    if (!sg_wgmma_ring_measure(problem, target, plan, &ring))
        return INFINITY;
    const sg_gpu *gpu = &target->gpu;
    double cycle = TENSOR_FLOPS * gpu->multiprocessors / gpu->half / CLOCK;
    double parts = (double)ring.grid / (double)ring.tiles;
    double waves = ceil((double)ring.grid / gpu->multiprocessors);
    double rows = ceil((double)ring.units / fmax(1, parts)) *
                  (problem->walk ? (double)ring.out_size[SG_RING_Z] : 1);
    double consumers = (double)ring.consumers, product = product_cycles(&ring);
    double tail = tail_cycles(&ring);
    double tiles = rows * (double)ring.row_tiles;
    double moves = move_cycles(&ring);
    double turn = (product + moves + tail * TAIL_LOSS + TILE_CYCLES) / fmin(consumers, 2);
    double consume = tiles * fmax(product * PRODUCT_LOSS + START_CYCLES, turn) + product + moves +
                     tail + rows / fmax(1, (double)ring.out_size[SG_RING_Z]) * SEGMENT_CYCLES;
    if (ring.parts == 2)
        consume += rows * SPLIT_ROW;
    double produce =
        (rows * (double)ring.stride[SG_RING_Z] + (double)ring.reach) * stage_cycles(&ring);
    double pack = (double)(ring.steps * 16 * ring.tile_slots) * WEIGHT_CYCLES;
    double block = PROLOGUE_CYCLES + pack + fmax(consume, produce);
    if (ring.narrow)
        block *= NARROW_LOSS + PRODUCER_LOSS * (double)(ring.producers - 1);
    double memory = memory_bytes(problem, &ring) / (gpu->copy * COPY_RATE);
    return gpu->launch + fmax(waves * block * cycle, memory);
}
