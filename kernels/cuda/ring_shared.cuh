/* What a block of conv_wgmma_ring.cuh has in shared memory. */

constexpr int TAPS = KERNEL_Z * KERNEL_Y * KERNEL_X;
/* Of a tap's weights, 8 halves each, and one: a warp packs a channel's taps to different banks. */
constexpr int TAP_ROWS = STAGE_GROUPS * TILE_N + 1;
constexpr int REACH_Z = (KERNEL_Z - 1) * DILATION_Z + 1; /* slices that an output row needs */
constexpr int PRODUCER_WARPS = PRODUCERS * 4;
constexpr int THREADS = (PRODUCERS + CONSUMERS) * WARPGROUP;
/* Numbers of barriers: 1 .. CONSUMERS are a tile's own. */
constexpr int PACKED = 1 + CONSUMERS, STAGED = PACKED + 1, TURNS = STAGED + 1;

/* Tiles read some pixels beyond a stage, which are dropped: after the last there are weights. */
struct Shared {
    uint4 ring[STAGES][PARTS * PART_CELLS], weights[PARTS * TAPS * TAP_ROWS];
    float2 scale_bias[TILE_N]; /* what a channel's sums are multiplied by, and what is added */
    float operands[TILE_OPERANDS ? TILE_OPERANDS : 1][TILE_N];
    float consumer[CONSUMERS][CONSUMER_FLOATS ? CONSUMER_FLOATS : 1];
    float carried[CARRY_FLOATS ? CARRY_FLOATS : 1]; /* from each tile for the next */
    unsigned long long full[STAGES], empty[STAGES]; /* barriers */
    unsigned long long passed[CARRY_BARRIERS ? CARRY_BARRIERS : 1];
    float weight_scale[TILE_N];
    float largest[STAGES + 1][PRODUCER_WARPS]; /* of a segment, that a warp met */
};
