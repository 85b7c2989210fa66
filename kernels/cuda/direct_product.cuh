/* The contraction of conv_direct.cuh as a product [channels][k] x [k][pixels]: pieces of STAGE_K
 * products go through shared memory, double-buffered, weights as [k][channel], input as [k][group
 * of the convolution][pixel]; every thread sums THREAD_CHANNELS x THREAD_PIXELS in registers. Sums
 * of more than SUM_K products are cut: partial sums are added to totals in shared memory (a
 * blocked sum), so that rounding errors stay small. */
constexpr int TAPS = KERNEL_D * KERNEL_H * KERNEL_W;
constexpr int PRODUCTS = GROUP_INPUTS * TAPS;
constexpr int STAGES = (PRODUCTS + STAGE_K - 1) / STAGE_K;
constexpr bool BLOCKED = PRODUCTS > SUM_K + SUM_K / 2;
/* Groups of the convolution that a tile's channels lie in. */
constexpr int TILE_CONV_GROUPS =
    CONV_GROUPS == 1                     ? 1
    : TILE_CHANNELS % GROUP_OUTPUTS == 0 ? TILE_CHANNELS / GROUP_OUTPUTS
    : GROUP_OUTPUTS % TILE_CHANNELS == 0 ? 1
                                         : (TILE_CHANNELS + GROUP_OUTPUTS - 2) / GROUP_OUTPUTS + 1;
/* Slots of a thread that surely lie in one group, and share what is read of the input. */
constexpr int SHARING = TILE_CONV_GROUPS == 1        ? THREAD_CHANNELS
                        : GROUP_OUTPUTS % BUNCH == 0 ? BUNCH
                                                     : 1;

constexpr int WEIGHT_PITCH = TILE_CHANNELS + 4; // neighbours in k are stored to different banks
constexpr int WEIGHT_STAGE = STAGE_K * WEIGHT_PITCH;
/* Where input channels are neighbours in memory, neighbouring threads copy neighbouring products
 * of a pixel, else neighbouring pixels of a product. */
constexpr bool PRODUCTS_FIRST = CHANNELS_INNER && CONV_GROUPS == 1 && STAGE_K > 1;
constexpr int INPUT_COLUMNS = TILE_CONV_GROUPS * TILE_PIXELS;
constexpr int INPUT_PITCH = INPUT_COLUMNS + (PRODUCTS_FIRST ? 4 : 0);
constexpr int INPUT_STAGE = STAGE_K * INPUT_PITCH;
constexpr int WEIGHT_ITEMS = (STAGE_K * TILE_CHANNELS + THREADS - 1) / THREADS;
constexpr int INPUT_ALL = STAGE_K * INPUT_COLUMNS;
constexpr int INPUT_ITEMS = (INPUT_ALL + THREADS - 1) / THREADS;
/* Pixels that a thread copies, the same ones in every stage, or 0 where they are not. */
constexpr int OWN_SOURCES = PRODUCTS_FIRST               ? 0
                            : THREADS % TILE_PIXELS == 0 ? 1
                            : TILE_PIXELS % THREADS == 0 && TILE_PIXELS / THREADS <= 4
                                ? TILE_PIXELS / THREADS
                                : 0;

/* Which taps of an axis lie inside the input, as bits: KERNEL_D of them, KERNEL_H, KERNEL_W. A tap
 * of the window is inside if its three bits are set. */
constexpr int MASK_BITS = KERNEL_D + KERNEL_H + KERNEL_W;
template <bool WIDE> struct Mask {
    using bits = unsigned;
};
template <> struct Mask<true> {
    using bits = unsigned long long;
};
using mask_t = Mask<(MASK_BITS > 32)>::bits;
constexpr bool MASKED = MASK_BITS <= 64; // else places are compared

/* Where the window of a pixel begins in the input, and which taps are inside. */
struct Source {
    long long offset;
    mask_t mask;
    int d, h, w; // of the first tap
};
/* A product: its input relative to the window's beginning, and the bits of its tap. */
struct Product {
    offset_t offset;
    mask_t mask;
    int d, h, w;
};

struct Shared {
    alignas(16) real weights[2][WEIGHT_STAGE];
    alignas(16) real input[2][INPUT_STAGE];
    Source source[TILE_PIXELS];
    Product product[2][STAGE_K];
    real scratch[SCRATCH + 1];
    real total[BLOCKED ? THREAD_CHANNELS * THREAD_PIXELS * THREADS : 1];
};

/* Input channel and tap of product k. */
__device__ __forceinline__ void split_product(int k, int &input, int &d, int &h, int &w) {
    const int tap = CHANNELS_INNER ? k / GROUP_INPUTS : k % TAPS;
    input = CHANNELS_INNER ? k % GROUP_INPUTS : k / TAPS;
    w = tap % KERNEL_W;
    h = tap / KERNEL_W % KERNEL_H;
    d = tap / (KERNEL_W * KERNEL_H);
}

struct Contraction {
    const Arguments &a;
    Tile &tile;
    Shared &shared;
    int first_group; // of the convolution
    Source own[OWN_SOURCES > 0 ? OWN_SOURCES : 1];
    real weights[WEIGHT_ITEMS], input[INPUT_ITEMS];

    __device__ __forceinline__ Contraction(const Arguments &arguments, Tile &t, Shared &s)
        : a(arguments), tile(t), shared(s) {
        first_group = CONV_GROUPS > 1 ? tile.first_channel / GROUP_OUTPUTS : 0;
    }

    static __device__ __forceinline__ mask_t axis_mask(int first, int count, int dilation,
                                                       long long size) {
        mask_t mask = 0;
        for (int tap = 0; tap < count; tap++) {
            const int at = first + tap * dilation;
            mask |= mask_t(at >= 0 && at < size) << tap;
        }
        return mask;
    }
    __device__ __forceinline__ void find_sources(index_t step) {
        for (int x = threadIdx.x; x < TILE_PIXELS; x += THREADS) {
            Place place;
            Source found;
            const bool valid = tile.tile_place(x, step, place);
            found.d = place.d * STRIDE_D - PADDING_D;
            found.h = place.h * STRIDE_H - PADDING_H;
            found.w = place.w * STRIDE_W - PADDING_W;
            found.offset = place.n * a.input_stride.n + found.d * a.input_stride.d +
                           found.h * a.input_stride.h + found.w * a.input_stride.w;
            found.mask = 0;
            if (MASKED && valid)
                found.mask = axis_mask(found.d, KERNEL_D, DILATION_D, a.in_d) |
                             axis_mask(found.h, KERNEL_H, DILATION_H, a.in_h) << KERNEL_D |
                             axis_mask(found.w, KERNEL_W, DILATION_W, a.in_w)
                                 << (KERNEL_D + KERNEL_H);
            if (!valid)
                found.w = -(1 << 30);
            shared.source[x] = found;
        }
    }
    /* Describes the products of a stage; past the last one, no tap is inside. */
    __device__ __forceinline__ void find_products(int stage) {
        for (int i = threadIdx.x; i < STAGE_K; i += THREADS) {
            const int k = stage * STAGE_K + i;
            Product &found = shared.product[stage % 2][i];
            int from;
            split_product(k, from, found.d, found.h, found.w);
            found.offset = offset_t(
                from * a.input_stride.c + found.d * DILATION_D * a.input_stride.d +
                found.h * DILATION_H * a.input_stride.h + found.w * DILATION_W * a.input_stride.w);
            found.mask = mask_t(1) << found.d | mask_t(1) << (KERNEL_D + found.h) |
                         mask_t(1) << (KERNEL_D + KERNEL_H + found.w);
        }
    }

    __device__ __forceinline__ void fetch_weights(int stage) {
        /* Items of a thread lie at fixed distances where whole columns of k fit its stride. */
        constexpr bool REGULAR = WEIGHTS_IN_ORDER && THREADS % STAGE_K == 0;
        const int first = tile.first_channel + threadIdx.x / STAGE_K;
        const decltype(a.weight) base =
            a.weight + (long long)first * PRODUCTS + stage * STAGE_K + threadIdx.x % STAGE_K;
#pragma unroll
        for (int i = 0; i < WEIGHT_ITEMS; i++) {
            const int item = threadIdx.x + i * THREADS;
            const int k = stage * STAGE_K + item % STAGE_K;
            const int c = tile.first_channel + item / STAGE_K;
            weights[i] = 0;
            if ((STAGE_K * TILE_CHANNELS % THREADS != 0 && item >= STAGE_K * TILE_CHANNELS) ||
                (PRODUCTS % STAGE_K != 0 && k >= PRODUCTS) || (!EVEN_CHANNELS && c >= ALL_CHANNELS))
                continue;
            if (REGULAR) {
                weights[i] = load_operand(base + (long long)i * (THREADS / STAGE_K) * PRODUCTS);
            } else if (WEIGHTS_IN_ORDER) {
                weights[i] = load_operand(a.weight + (long long)c * PRODUCTS + k);
            } else {
                int from, d, h, w;
                split_product(k, from, d, h, w);
                weights[i] = load_operand(a.weight + c * a.weight_stride.n +
                                          from * a.weight_stride.c + d * a.weight_stride.d +
                                          h * a.weight_stride.h + w * a.weight_stride.w);
            }
        }
    }
    /* Row, that is product of the stage, and column of a thread's item. */
    static __device__ __forceinline__ int row_of(int item) {
        return PRODUCTS_FIRST ? item % STAGE_K : item / INPUT_COLUMNS;
    }
    static __device__ __forceinline__ int column_of(int item) {
        return PRODUCTS_FIRST ? item / STAGE_K : item % INPUT_COLUMNS;
    }
    __device__ __forceinline__ bool is_inside(const Source &from, const Product &product) const {
        if (MASKED)
            return (from.mask & product.mask) == product.mask;
        return (unsigned)(from.d + product.d * DILATION_D) < (unsigned)a.in_d &&
               (unsigned)(from.h + product.h * DILATION_H) < (unsigned)a.in_h &&
               (unsigned)(from.w + product.w * DILATION_W) < (unsigned)a.in_w;
    }
    __device__ __forceinline__ void fetch_input(int stage) {
#pragma unroll
        for (int i = 0; i < INPUT_ITEMS; i++) {
            const int item = threadIdx.x + i * THREADS;
            input[i] = 0;
            if (INPUT_ALL % THREADS != 0 && item >= INPUT_ALL)
                continue;
            const int row = row_of(item), column = column_of(item);
            const Product &product = shared.product[stage % 2][row];
            const Source &from = OWN_SOURCES > 0 ? own[i % (OWN_SOURCES > 0 ? OWN_SOURCES : 1)]
                                                 : shared.source[column % TILE_PIXELS];
            bool inside = PRODUCTS % STAGE_K == 0 || stage * STAGE_K + row < PRODUCTS;
            inside = inside && is_inside(from, product);
            const decltype(a.input) base = a.input + from.offset;
            if (CONV_GROUPS == 1) {
                if (inside)
                    input[i] = load_operand(base + product.offset);
            } else {
                const int group = first_group + column / TILE_PIXELS;
                if (inside && group < CONV_GROUPS)
                    input[i] = load_operand(base + product.offset +
                                            group * GROUP_INPUTS * a.input_stride.c);
            }
        }
    }
    __device__ __forceinline__ void publish(int buffer) {
#pragma unroll
        for (int i = 0; i < WEIGHT_ITEMS; i++) {
            const int item = threadIdx.x + i * THREADS;
            if (STAGE_K * TILE_CHANNELS % THREADS == 0 || item < STAGE_K * TILE_CHANNELS)
                shared.weights[buffer][item % STAGE_K * WEIGHT_PITCH + item / STAGE_K] = weights[i];
        }
#pragma unroll
        for (int i = 0; i < INPUT_ITEMS; i++) {
            const int item = threadIdx.x + i * THREADS;
            if (INPUT_ALL % THREADS == 0 || item < INPUT_ALL)
                shared.input[buffer][row_of(item) * INPUT_PITCH + column_of(item)] = input[i];
        }
    }

    template <int COUNT> static __device__ __forceinline__ void copy(const real *from, real *to) {
        if constexpr (COUNT * sizeof(real) % 16 == 0) {
#pragma unroll
            for (int i = 0; i < COUNT * int(sizeof(real)) / 16; i++) {
                const uint4 bits = *((const uint4 *)from + i);
                const real *element = (const real *)&bits;
#pragma unroll
                for (int k = 0; k < 16 / int(sizeof(real)); k++)
                    to[i * (16 / int(sizeof(real))) + k] = element[k];
            }
        } else {
#pragma unroll
            for (int i = 0; i < COUNT; i++)
                to[i] = from[i];
        }
    }
    /* Sums one stage. */
    __device__ __forceinline__ void multiply(int buffer, const int *conv_group) {
#pragma unroll
        for (int k = 0; k < STAGE_K; k++) {
            const real *row = shared.weights[buffer] + k * WEIGHT_PITCH + tile.group * BUNCH;
            real factor[THREAD_CHANNELS];
#pragma unroll
            for (int j = 0; j < THREAD_CHANNELS; j += BUNCH)
                copy<BUNCH>(row + j * GROUPS, factor + j);
            real pixel[THREAD_PIXELS];
#pragma unroll
            for (int j = 0; j < THREAD_CHANNELS; j++) {
                if (j % SHARING == 0) {
                    const real *from = shared.input[buffer] + k * INPUT_PITCH;
                    if (TILE_CONV_GROUPS > 1)
                        from += conv_group[j / SHARING] * TILE_PIXELS;
#pragma unroll
                    for (int p = 0; p < THREAD_PIXELS; p += RUN)
                        copy<RUN>(from + tile.number_of(p), pixel + p);
                }
#pragma unroll
                for (int p = 0; p < THREAD_PIXELS; p++)
                    tile.sum[j * THREAD_PIXELS + p] =
                        fma(factor[j], pixel[p], tile.sum[j * THREAD_PIXELS + p]);
            }
        }
    }
    /* Adds the sums to the totals, and begins anew; last: the totals become the sums. */
    __device__ __forceinline__ void add_up(bool first, bool last) {
#pragma unroll
        for (int i = 0; i < THREAD_CHANNELS * THREAD_PIXELS; i++) {
            real &total = shared.total[i * THREADS + threadIdx.x];
            const real value = first ? tile.sum[i] : total + tile.sum[i];
            if (!last)
                total = value;
            tile.sum[i] = last ? value : 0;
        }
    }

    __device__ __forceinline__ void run(index_t step) {
        int conv_group[(THREAD_CHANNELS + SHARING - 1) / SHARING];
#pragma unroll
        for (int j = 0; j < THREAD_CHANNELS; j += SHARING) {
            const int group = tile.channel(j) / GROUP_OUTPUTS - first_group;
            conv_group[j / SHARING] = group < TILE_CONV_GROUPS ? group : 0;
        }
#pragma unroll
        for (int i = 0; i < THREAD_CHANNELS * THREAD_PIXELS; i++)
            tile.sum[i] = 0;
        __syncthreads(); // everything may still be read from the last step
        find_sources(step);
        find_products(0);
        find_products(1);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < OWN_SOURCES; i++)
            own[i] = shared.source[(threadIdx.x + i * THREADS) % TILE_PIXELS];
        fetch_weights(0);
        fetch_input(0);
        publish(0);
        __syncthreads();
        constexpr int SPAN = SUM_K / STAGE_K > 0 ? SUM_K / STAGE_K : 1; // stages of one sum
        int span = 0;
#pragma unroll 1
        for (int stage = 0; stage < STAGES; stage++) {
            if (stage + 1 < STAGES) {
                fetch_weights(stage + 1);
                fetch_input(stage + 1);
                find_products(stage + 2);
            }
            multiply(stage % 2, conv_group);
            if (BLOCKED && ++span == SPAN && stage + 1 < STAGES) {
                add_up(stage < SPAN, false);
                span = 0;
            }
            if (stage + 1 < STAGES)
                publish((stage + 1) % 2);
            __syncthreads();
        }
        if (BLOCKED)
            add_up(STAGES <= SPAN, true);
    }
};
