/* What the CPU runs: one fused kernel, as plain data. Lowering fills it, the runtime interprets it,
 * and printing it is what `explain` shows. Immutable once made.
 *
 * The kernel works on five roles: image (N), channel (C) and pixels (D, H, W). A work item is one
 * image and one box of the pixel axes that the result keeps. Inside an item, pixels are taken in
 * *runs* of neighbours: along W, or, where H has the same fate as W (both kept or both reduced),
 * along rows laid end to end. A tile is all channels by one run. The tile program's sections run:
 * `item` once per item, `tile` for every run after the contraction, `after` for every kept run when
 * a walk over reduced axes has ended. */
#ifndef SEGUE_GEN_CPU_KERNEL_H
#define SEGUE_GEN_CPU_KERNEL_H

#include "gen/tile/program.h"
#include "plan/cpu_plan.h"
#include "plan/problem.h"

/* The input of one box as the contraction reads it: [channel][phases][depth][row][column], so that
 * for every tap neighbours in the output are neighbours in memory. A phase holds the positions of
 * one residue modulo the stride; padding is written out as zeros. */
typedef struct sg_slab {
    int64_t phase_count[SG_SPATIAL_MAX];
    int64_t *phase[SG_SPATIAL_MAX]; /* [phase_count] residues that some tap reads */
    int64_t extent[SG_SPATIAL_MAX]; /* positions of one phase */
    int64_t pitch[SG_SPATIAL_MAX];  /* elements between neighbours of one phase; W: 1 */
    int64_t phase_size;             /* elements of one combination of phases */
    int64_t channel_size;           /* elements of one input channel, or of one pair */
    int64_t size;                   /* elements, slack for the last run included */
    int64_t taps;
    int64_t depth;   /* channels of a group, or pairs of them */
    int32_t *offset; /* [depth * taps], channel outermost */
} sg_slab;

/* Output channels in blocks that one micro-kernel call makes. */
typedef struct sg_channel_block {
    int64_t first, count; /* channels of the tile */
    int64_t group;
    int64_t weights; /* element offset of its [k][MR] block in the packed weights */
    const sg_contract_block *contract;
} sg_channel_block;

typedef struct sg_cpu_kernel {
    const sg_cpu_kernels *isa;
    int64_t size[SG_ROLE_COUNT]; /* of the space */
    unsigned walk;               /* walked roles, as bits */
    bool flat;                   /* runs go along H and W, else along W alone */
    bool has_convolution;
    bool pairs; /* of bfloat16: the slab's channels are pairs of the input's */
    sg_convolution convolution;
    sg_slab slab;
    sg_channel_block *blocks;
    int block_count;
    int64_t packed_size; /* elements of all packed weights, the padded bias included */
    int64_t bias_offset; /* of the bias in the packed weights, in elements */
    sg_tile_program program;
    sg_cpu_plan plan;
    int64_t tile_rows; /* channels, rounded up to whole blocks */
    int64_t sum;       /* products, or pairs of them, that are summed in registers */
    int64_t span; /* channels of the slab whose register sums are added up before the next ones' */
    bool partial_tile; /* there is more than one span, so that they need a tile of their own */
} sg_cpu_kernel;

/* Pixels between (y, x) and (y + 1, x) in the coordinates of a run. */
static inline int64_t sg_run_pitch(const sg_cpu_kernel *kernel) {
    return kernel->has_convolution ? kernel->slab.pitch[1] : kernel->plan.box[2];
}

#endif
