/* How a stage of the input and of the weights comes to shared memory, for any strides, padding,
 * kernel, dilation and channel count; docs in conv_mma.cuh.
 *
 * Along an axis, outputs 0 .. BOX - 1 and the stage's taps need input positions o * STRIDE + t *
 * DILATION; they lie on a lattice of STEP, and only its points are stored: EXTENT of them. */

constexpr int largest_divisor(int a, int b) { return b == 0 ? a : largest_divisor(b, a % b); }
constexpr int lattice_step(int inner, int stride, int dilation) {
    return inner == 1 ? stride : largest_divisor(stride, dilation);
}
constexpr int lattice_extent(int box, int inner, int stride, int dilation) {
    const int step = lattice_step(inner, stride, dilation);
    return (box - 1) * (stride / step) + (inner == 1 ? 0 : (inner - 1) * (dilation / step)) + 1;
}

constexpr int STEP_D = lattice_step(INNER_D, STRIDE_D, DILATION_D);
constexpr int STEP_H = lattice_step(INNER_H, STRIDE_H, DILATION_H);
constexpr int STEP_W = lattice_step(INNER_W, STRIDE_W, DILATION_W);
/* Positions from one tap to the next; a single tap has no next. */
constexpr int TAP_D = INNER_D == 1 ? 0 : DILATION_D / STEP_D;
constexpr int TAP_H = INNER_H == 1 ? 0 : DILATION_H / STEP_H;
constexpr int TAP_W = INNER_W == 1 ? 0 : DILATION_W / STEP_W;
constexpr int EXTENT_D = lattice_extent(BOX_D, INNER_D, STRIDE_D, DILATION_D);
constexpr int EXTENT_H = lattice_extent(BOX_H, INNER_H, STRIDE_H, DILATION_H);
constexpr int EXTENT_W = lattice_extent(BOX_W, INNER_W, STRIDE_W, DILATION_W);
constexpr int POSITIONS = BOX_N * EXTENT_D * EXTENT_H * EXTENT_W;
constexpr int INNER_TAPS = INNER_D * INNER_H * INNER_W;
constexpr int OUTER_D = KERNEL_D / INNER_D, OUTER_H = KERNEL_H / INNER_H,
              OUTER_W = KERNEL_W / INNER_W;
constexpr int OUTER_TAPS = OUTER_D * OUTER_H * OUTER_W;

constexpr bool WALKED = WALK_D || WALK_H || WALK_W;
constexpr int WARPS = WARPS_P * WARPS_C, THREADS = WARPS * 32;
constexpr int PIXEL_SLOTS = WARPS_P * TILES_P * 8, CHANNEL_SLOTS = WARPS_C * TILES_C * 16;
/* Slots of one group, where a block has several; each group begins with a tile of 16. */
constexpr int GROUP_TILES = WHOLE_CHANNELS && GROUPS > 1 ? (GROUP_OUTPUTS + 15) / 16
                                                         : WARPS_C * TILES_C;
constexpr int BLOCK_GROUPS = WHOLE_CHANNELS ? GROUPS : 1;
constexpr int COLUMNS = GROUP_TILES * 16; /* of the weights of a stage */

constexpr int ELEMENT = sizeof(input_t), LANES = 16 / ELEMENT; /* channels of a vector */
constexpr bool DOUBLE = ELEMENT == 8;
constexpr int WORDS = DOUBLE ? 2 * LANES : LANES; /* of a vector on its way */
constexpr int CHUNKS = (GROUP_CHANNELS + CHUNK * LANES - 1) / (CHUNK * LANES);
constexpr int STAGE_VECTORS = INNER_TAPS * CHUNK;
constexpr int STEPS = (STAGE_VECTORS + 3) / 4;
constexpr int BLOCK_STEPS = 4; /* of one sum of doubles, 32 products */
constexpr int UNIT_STAGES = BLOCK_GROUPS * OUTER_TAPS * CHUNKS;
constexpr bool RESIDENT = UNIT_STAGES == 1 && ONE_PART;
constexpr int PLANES = SPLIT ? 2 : 1;
constexpr int UNIT_SLOTS = 8; /* units that are told of at a time: from one ago to three ahead */
/* Four neighbouring vectors of two neighbouring rows or columns lie in different banks. */
constexpr int INPUT_PITCH = (POSITIONS + 5) / 8 * 8 + 2, WEIGHT_PITCH = (COLUMNS + 5) / 8 * 8 + 2;
constexpr int INPUT_PLANE = CHUNK * INPUT_PITCH * 16;
/* Weights of floats and doubles stay as they are, rows of [channel][tap], and are rounded when they
 * are used: so they are copied past the registers. With a pitch of 4 times an odd number, elements
 * at distances of an odd number of taps in neighbouring rows lie in different banks. Narrow weights
 * become vectors on the way, [vector][column]. */
constexpr bool RAW_WEIGHTS = ELEMENT >= 4;
constexpr int WEIGHT_ROW = CHUNK * LANES * INNER_TAPS; /* elements */
constexpr int ROW_PITCH = ((WEIGHT_ROW + 3) / 4 | 1) * 4;
/* Element i of vector v is channel v / SPREAD * SPREAD * LANES + v % SPREAD + i * SPREAD of the
 * stage: the four lanes of a row then read neighbouring channels of raw weights. */
constexpr int SPREAD = RAW_WEIGHTS ? (CHUNK < 4 ? CHUNK : 4) : 1;
/* Of the tail's stores, in the place of an input stage: 8 channels of each warp's pixels. */
constexpr int SCRATCH_PITCH = (TILES_P * 8 + 23) / 32 * 32 + 8;
constexpr int SCRATCH = WARPS * 8 * SCRATCH_PITCH * (int)sizeof(real);
constexpr int INPUT_STAGE = PLANES * INPUT_PLANE > SCRATCH ? PLANES * INPUT_PLANE : SCRATCH;
constexpr int WEIGHT_STAGE =
    RAW_WEIGHTS ? COLUMNS * ROW_PITCH * ELEMENT : STEPS * 4 * WEIGHT_PITCH * 16;
/* Offsets of positions in the input are kept in two tables, by turns: stages of one epoch, which
 * differ in their channels alone, share one. */
constexpr int TAPS_AT = 2 * INPUT_STAGE + (RESIDENT ? 1 : 2) * WEIGHT_STAGE;
constexpr int OFFSETS_AT = TAPS_AT + STEPS * 4 * 8; /* of a stage's vectors in the weights */
constexpr int TABLES_AT = OFFSETS_AT + STEPS * 4 * 8;
constexpr int UNITS_AT = TABLES_AT + 2 * POSITIONS * 8;
constexpr int TILE_AT = UNITS_AT + UNIT_SLOTS * 48;

constexpr int INPUT_PIECES = (CHUNK * POSITIONS + THREADS - 1) / THREADS;
constexpr int WEIGHT_PIECES = (STEPS * 4 * COLUMNS + THREADS - 1) / THREADS;
constexpr int NEXT_PIECES = INPUT_PIECES + (RESIDENT || RAW_WEIGHTS ? 0 : WEIGHT_PIECES);
constexpr int STEP_PIECES = (NEXT_PIECES + STEPS - 1) / STEPS;
/* Raw weights: elements of a copy, copies of a row and of a thread. */
constexpr int COPY_LENGTH = WEIGHT_COPY == 16 ? LANES : 1;
constexpr int ROW_COPIES = (WEIGHT_ROW + COPY_LENGTH - 1) / COPY_LENGTH;
constexpr int THREAD_COPIES = (ROW_COPIES * COLUMNS + THREADS - 1) / THREADS;
constexpr int STEP_COPIES = (THREAD_COPIES + STEPS - 1) / STEPS;
constexpr int PIECES = STEP_PIECES < PIECES_MAX ? STEP_PIECES : PIECES_MAX;

/* What a block makes at a time. */
struct Unit {
    Place first, end;           /* output pixels */
    int channel, channel_count; /* first output channel, of one group */
    int group;
};

/* What a stage is made of. */
struct Source {
    bool live;
    int n, d, h, w;           /* input position of the box's first output at the outer tap */
    int channel;              /* first of the stage, in its group */
    int column_count;         /* columns that have an output channel */
    const input_t *input;     /* of the first channel, at position 0 */
    const input_t *weight;    /* of the first column, channel and tap */
    const long long *offsets; /* [POSITIONS], element offsets, -1: padding */
};

/* One vector on its way: raw elements, doubles as two words each, and where it goes; place < 0:
 * nowhere. */
struct Piece {
    unsigned element[WORDS];
    int place;
};

/* A step of the walk, w the fastest; a block's box is one pixel thick along walked axes. */
__device__ __forceinline__ Place walked(Place place, int step, const Arguments &a) {
    if constexpr (WALK_W) {
        place.w = step % (int)a.size_w;
        step /= (int)a.size_w;
    }
    if constexpr (WALK_H) {
        place.h = step % (int)a.size_h;
        step /= (int)a.size_h;
    }
    if constexpr (WALK_D)
        place.d = step;
    return place;
}

/* A stage of one of a block's units. */
struct Cursor {
    int unit, stage;
};
__device__ __forceinline__ Cursor after(Cursor at, int stages) {
    const bool last = at.stage + 1 == stages;
    return {at.unit + last, last ? 0 : at.stage + 1};
}

__device__ __forceinline__ Unit &unit_slot(char *shared, int unit) {
    return ((Unit *)(shared + UNITS_AT))[unit % UNIT_SLOTS];
}

/* stages: of a unit. */
__device__ __forceinline__ Source source_at(Cursor at, int stages, char *shared,
                                            const Arguments &a) {
    const Unit &unit = unit_slot(shared, at.unit);
    const int step = at.stage / UNIT_STAGES;
    int part = at.stage % UNIT_STAGES;
    Source s;
    s.live = true;
    s.offsets = (const long long *)(shared + TABLES_AT) +
                (at.unit * (stages / CHUNKS) + at.stage / CHUNKS & 1) * POSITIONS;
    s.channel = part % CHUNKS * (CHUNK * LANES);
    part /= CHUNKS;
    const int tap_w = part % OUTER_W * INNER_W;
    part /= OUTER_W;
    const int tap_h = part % OUTER_H * INNER_H;
    part /= OUTER_H;
    const int tap_d = part % OUTER_D * INNER_D;
    part /= OUTER_D;
    s.column_count = unit.channel_count;
    const Place place = walked(unit.first, step, a);
    s.n = place.n;
    s.d = place.d * STRIDE_D - PADDING_D + tap_d * DILATION_D;
    s.h = place.h * STRIDE_H - PADDING_H + tap_h * DILATION_H;
    s.w = place.w * STRIDE_W - PADDING_W + tap_w * DILATION_W;
    s.input = a.input + ((unit.group + part) * GROUP_CHANNELS + s.channel) * a.input_stride.c;
    s.weight = a.weight + (unit.channel + part * GROUP_OUTPUTS) * a.weight_stride.n +
               s.channel * a.weight_stride.c + tap_d * a.weight_stride.d +
               tap_h * a.weight_stride.h + tap_w * a.weight_stride.w;
    return s;
}

/* Element offset of a position, -1 where it is padding. */
__device__ __forceinline__ long long position_offset(int position, const Source &s,
                                                     const Arguments &a) {
    const int w = s.w + position % EXTENT_W * STEP_W;
    position /= EXTENT_W;
    const int h = s.h + position % EXTENT_H * STEP_H;
    position /= EXTENT_H;
    const int d = s.d + position % EXTENT_D * STEP_D;
    const int n = s.n + position / EXTENT_D;
    const bool inside = (unsigned)w < (unsigned)a.in_w && (unsigned)h < (unsigned)a.in_h &&
                        (unsigned)d < (unsigned)a.in_d && n < (int)a.size_n;
    return inside ? n * a.input_stride.n + d * a.input_stride.d + h * a.input_stride.h +
                        w * a.input_stride.w
                  : -1;
}

__device__ __forceinline__ void fill_table(const Source &s, const Arguments &a) {
    for (int i = threadIdx.x; i < POSITIONS; i += THREADS)
        ((long long *)s.offsets)[i] = position_offset(i, s, a);
}

__device__ __forceinline__ void clear_piece(Piece &piece) {
    SG_UNROLL
    for (int i = 0; i < WORDS; i++)
        piece.element[i] = 0;
    piece.place = -1;
}

/* Element i of a vector. */
__device__ __forceinline__ void load_bits(Piece &piece, int i, const input_t *at) {
    if constexpr (DOUBLE) {
        const uint2 bits = *(const uint2 *)at;
        piece.element[2 * i] = bits.x;
        piece.element[2 * i + 1] = bits.y;
    } else if constexpr (ELEMENT == 4) {
        piece.element[i] = *(const unsigned *)at;
    } else {
        piece.element[i] = *(const unsigned short *)at;
    }
}

/* Channel of the stage that a vector begins with, and whether the group has one. */
__device__ __forceinline__ int vector_channel(int vector) {
    return vector / SPREAD * (SPREAD * LANES) + vector % SPREAD;
}
__device__ __forceinline__ bool has_channel(int channel) {
    return GROUP_CHANNELS % (CHUNK * LANES) == 0 || channel < GROUP_CHANNELS;
}

__device__ __forceinline__ void load_input(Piece &piece, int index, const Source &s,
                                           const Arguments &a) {
    clear_piece(piece);
    if (index >= CHUNK * POSITIONS)
        return;
    const int vector = index / POSITIONS, position = index - vector * POSITIONS;
    piece.place = (vector * INPUT_PITCH + position) * 16;
    const long long offset = s.offsets[position];
    if (offset < 0)
        return;
    const int channel = vector_channel(vector);
    const input_t *at = s.input + offset + channel * a.input_stride.c;
    SG_UNROLL
    for (int i = 0; i < LANES; i++)
        if (has_channel(s.channel + channel + i * SPREAD))
            load_bits(piece, i, at + i * (SPREAD * a.input_stride.c));
}

/* Groups of four lanes take neighbouring vectors of one column. */
__device__ __forceinline__ void load_weight(Piece &piece, int index, const Source &s,
                                            const char *shared, const Arguments &a) {
    clear_piece(piece);
    if (index >= STEPS * 4 * COLUMNS)
        return;
    const int column = index / 4 % COLUMNS;
    const int vector = index / (4 * COLUMNS) * 4 + index % 4;
    piece.place = (vector * WEIGHT_PITCH + column) * 16;
    if (column >= s.column_count || (STAGE_VECTORS % 4 != 0 && vector >= STAGE_VECTORS))
        return;
    const input_t *at = s.weight + column * a.weight_stride.n +
                        ((const long long *)(shared + OFFSETS_AT))[vector];
    SG_UNROLL
    for (int i = 0; i < LANES; i++)
        if (has_channel(s.channel + vector % CHUNK * LANES + i))
            load_bits(piece, i, at + i * a.weight_stride.c);
}

/* Sends raw weights of a stage on their way: copies first .. first + count - 1 of each thread. */
__device__ __forceinline__ void copy_weights(const Source &s, char *weights, int first, int count,
                                             const Arguments &a) {
    _Pragma("unroll 2")
    for (int n = first; n < first + count; n++) {
        const int i = n * THREADS + threadIdx.x;
        if (i >= ROW_COPIES * COLUMNS)
            return;
        const int column = i / ROW_COPIES, element = (i - column * ROW_COPIES) * COPY_LENGTH;
        const int channel = element / INNER_TAPS;
        const int left = (GROUP_CHANNELS - s.channel) * INNER_TAPS - element;
        const bool inside = column < s.column_count && left > 0;
        const input_t *from = s.weight + column * a.weight_stride.n + element;
        if constexpr (WEIGHT_COPY == 0) { /* no rows in memory */
            const int tap = element - channel * INNER_TAPS;
            from += channel * a.weight_stride.c - element + tap % INNER_W * a.weight_stride.w +
                    tap / INNER_W % INNER_H * a.weight_stride.h +
                    tap / (INNER_W * INNER_H) * a.weight_stride.d;
        }
        char *to = weights + (column * ROW_PITCH + element) * ELEMENT;
        if constexpr (WEIGHT_COPY == 16)
            copy_async_16(to, inside ? from : a.weight, inside ? min(left, LANES) * ELEMENT : 0);
        else if constexpr (DOUBLE)
            copy_async_8(to, inside ? from : a.weight, inside ? 8 : 0);
        else
            copy_async_4(to, inside ? from : a.weight, inside ? 4 : 0);
    }
}

__device__ __forceinline__ void store_vector(const Piece &piece, char *at) {
    if (piece.place < 0)
        return;
    const unsigned *e = piece.element;
    if constexpr (DOUBLE) {
        *(uint4 *)(at + piece.place) = make_uint4(e[0], e[1], e[2], e[3]);
    } else if constexpr (ELEMENT == 2) {
        *(uint4 *)(at + piece.place) =
            make_uint4(e[0] | e[1] << 16, e[2] | e[3] << 16, e[LANES - 4] | e[LANES - 3] << 16,
                       e[LANES - 2] | e[LANES - 1] << 16);
    } else if constexpr (SPLIT) {
        uint4 high, low;
        tf32_split(e[0], high.x, low.x);
        tf32_split(e[1], high.y, low.y);
        tf32_split(e[2], high.z, low.z);
        tf32_split(e[3], high.w, low.w);
        *(uint4 *)(at + piece.place) = high;
        *(uint4 *)(at + INPUT_PLANE + piece.place) = low;
    } else {
        *(uint4 *)(at + piece.place) =
            EVEN ? make_uint4(tf32_even(e[0]), tf32_even(e[1]), tf32_even(e[2]), tf32_even(e[3]))
                 : make_uint4(tf32_away(e[0]), tf32_away(e[1]), tf32_away(e[2]), tf32_away(e[3]));
    }
}

/* Pieces are numbered through: the input's, then the weights'. */
__device__ __forceinline__ void load_pieces(Piece (&pieces)[PIECES], int first, const Source &s,
                                            const char *shared, const Arguments &a) {
    SG_UNROLL
    for (int i = 0; i < PIECES; i++) {
        const int piece = first + i;
        if (piece < INPUT_PIECES)
            load_input(pieces[i], piece * THREADS + threadIdx.x, s, a);
        else if (piece < NEXT_PIECES)
            load_weight(pieces[i], (piece - INPUT_PIECES) * THREADS + threadIdx.x, s, shared, a);
        else
            pieces[i].place = -1;
    }
}

__device__ __forceinline__ void store_pieces(const Piece (&pieces)[PIECES], int first, char *inputs,
                                             char *weights) {
    SG_UNROLL
    for (int i = 0; i < PIECES; i++) {
        const bool input = first + i < INPUT_PIECES;
        store_vector(pieces[i], input ? inputs : weights);
    }
}

/* A whole stage at once, the first of a unit. */
__device__ __forceinline__ void stage_whole(const Source &s, const char *shared, char *inputs,
                                            char *weights, const Arguments &a) {
    _Pragma("unroll 2")
    for (int i = 0; i < INPUT_PIECES; i++) {
        Piece piece;
        load_input(piece, i * THREADS + threadIdx.x, s, a);
        store_vector(piece, inputs);
    }
    if constexpr (RAW_WEIGHTS)
        copy_weights(s, weights, 0, THREAD_COPIES, a);
    _Pragma("unroll 2")
    for (int i = 0; i < (RAW_WEIGHTS ? 0 : WEIGHT_PIECES); i++) {
        Piece piece;
        load_weight(piece, i * THREADS + threadIdx.x, s, shared, a);
        store_vector(piece, weights);
    }
}

/* For every vector of a stage: bytes from a row's first position to that of its tap, and from a
 * column's weights to those of the vector. */
__device__ __forceinline__ void open_stages(char *shared, const Arguments &a) {
    int2 *taps = (int2 *)(shared + TAPS_AT);
    long long *offsets = (long long *)(shared + OFFSETS_AT);
    for (int vector = threadIdx.x; vector < STEPS * 4; vector += THREADS) {
        const int tap = vector / CHUNK;
        const int w = tap % INNER_W, h = tap / INNER_W % INNER_H, d = tap / (INNER_W * INNER_H);
        const int position = (d * TAP_D * EXTENT_H + h * TAP_H) * EXTENT_W + w * TAP_W;
        const int row = vector_channel(vector % CHUNK) * INNER_TAPS + tap;
        taps[vector] = vector >= STAGE_VECTORS
                           ? make_int2(0, 0)
                           : make_int2((vector % CHUNK * INPUT_PITCH + position) * 16,
                                       RAW_WEIGHTS ? row * ELEMENT : vector * WEIGHT_PITCH * 16);
        offsets[vector] = d * a.weight_stride.d + h * a.weight_stride.h + w * a.weight_stride.w +
                          vector % CHUNK * LANES * a.weight_stride.c;
    }
}

__device__ __forceinline__ int2 tap_offsets(const char *shared, int vector) {
    return ((const int2 *)(shared + TAPS_AT))[vector];
}

/* Pixel of a box, by its slot; slots past the box stand on its first pixel. */
struct Slot {
    int n, d, h, w;
    bool inside;
};

__device__ __forceinline__ Slot slot_at(int slot) {
    Slot s;
    s.inside = slot < BOX_N * BOX_D * BOX_H * BOX_W;
    slot = s.inside ? slot : 0;
    s.w = slot % BOX_W;
    s.h = slot / BOX_W % BOX_H;
    s.d = slot / (BOX_W * BOX_H) % BOX_D;
    s.n = slot / (BOX_W * BOX_H * BOX_D);
    return s;
}

/* Bytes to the first positions of this lane's pixels in the products. */
__device__ __forceinline__ void pixel_offsets(int (&pixels)[TILES_P]) {
    const int warp_p = (threadIdx.x >> 5) % WARPS_P, lane = threadIdx.x & 31;
    SG_UNROLL
    for (int p = 0; p < TILES_P; p++) {
        const Slot s = slot_at((warp_p * TILES_P + p) * 8 + (lane >> 2));
        pixels[p] = (((s.n * EXTENT_D + s.d * (STRIDE_D / STEP_D)) * EXTENT_H +
                      s.h * (STRIDE_H / STEP_H)) * EXTENT_W + s.w * (STRIDE_W / STEP_W)) * 16;
    }
}
