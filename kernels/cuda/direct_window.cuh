/* The contraction of conv_direct.cuh where an output channel reads one input channel, or few:
 * output channels share nothing that is read, so pixels must. A block has a box of them
 * (BOX_COLUMNS); the input under the box goes to shared memory, one input channel and depth for
 * each group of threads at a time. The pixels of a thread lie below each other, so that it reads
 * every row of a column once for all of them. */
constexpr int TILE_ROWS = TILE_PIXELS / COLUMNS;
constexpr int INPUT_ROWS = (TILE_ROWS - 1) * STRIDE_H + (KERNEL_H - 1) * DILATION_H + 1;
constexpr int INPUT_COLUMNS = (COLUMNS - 1) * STRIDE_W + (KERNEL_W - 1) * DILATION_W + 1;
constexpr int WINDOW_ROWS = (THREAD_PIXELS - 1) * STRIDE_H + (KERNEL_H - 1) * DILATION_H + 1;
constexpr int TAPS = KERNEL_H * KERNEL_W; // of one slice
constexpr int WARPS = THREADS / 32;
constexpr int WARP_ROWS = (GROUPS * INPUT_ROWS + WARPS - 1) / WARPS; // rows that a warp copies
constexpr int ROW_PIECES = (INPUT_COLUMNS + 31) / 32;
constexpr int ROW_UNROLL =
    WARP_ROWS * ROW_PIECES <= 24 ? WARP_ROWS : (24 + ROW_PIECES) / ROW_PIECES;
constexpr int WEIGHT_ITEMS = (GROUPS * TAPS + THREADS - 1) / THREADS;
constexpr int COLUMN_UNROLL = TAPS * THREAD_PIXELS <= 1024 ? KERNEL_W : 1;

struct Shared {
    real input[GROUPS][INPUT_ROWS * INPUT_COLUMNS];
    real weights[GROUPS][TAPS];
    real scratch[SCRATCH + 1];
};

struct Contraction {
    const Arguments &a;
    Tile &tile;
    Shared &shared;

    __device__ __forceinline__ Contraction(const Arguments &arguments, Tile &t, Shared &s)
        : a(arguments), tile(t), shared(s) {}

    /* The weights of slot j for input channel `from` of its group, at depth tap d, one value of a
     * thread. */
    __device__ __forceinline__ real weight(int item, int j, int from, int d) {
        const int channel = tile.channel_of(item / TAPS, j), tap = item % TAPS;
        if (item >= GROUPS * TAPS || channel >= ALL_CHANNELS)
            return 0;
        return load_operand(a.weight + channel * a.weight_stride.n + from * a.weight_stride.c +
                            d * a.weight_stride.d + tap / KERNEL_W * a.weight_stride.h +
                            tap % KERNEL_W * a.weight_stride.w);
    }
    /* Input channel `from` of slot j's group of the convolution, and the weights for it, at depth
     * tap d, for every group of threads. A warp copies rows. */
    __device__ __forceinline__ void stage(const Place &corner, int j, int from, int d) {
        const int first_row = corner.h * STRIDE_H - PADDING_H;
        const int first_column = corner.w * STRIDE_W - PADDING_W;
        const int slice = corner.d * STRIDE_D - PADDING_D + d * DILATION_D;
        const bool inside = corner.n < a.size_n && (unsigned)slice < (unsigned)a.in_d;
        const decltype(a.input) image =
            a.input + corner.n * a.input_stride.n + slice * a.input_stride.d;
        real weights[WEIGHT_ITEMS];
#pragma unroll
        for (int i = 0; i < WEIGHT_ITEMS; i++)
            weights[i] = weight(threadIdx.x + i * THREADS, j, from, d);
#pragma unroll ROW_UNROLL
        for (int i = 0; i < WARP_ROWS; i++) {
            const int item = threadIdx.x / 32 + i * WARPS;
            if (GROUPS * INPUT_ROWS % WARPS != 0 && item >= GROUPS * INPUT_ROWS)
                break;
            const int group = item / INPUT_ROWS, row = first_row + item % INPUT_ROWS;
            const int channel = tile.channel_of(group, j);
            const decltype(a.input) line =
                image + (channel / GROUP_OUTPUTS * GROUP_INPUTS + from) * a.input_stride.c +
                row * a.input_stride.h;
            const bool has = inside && channel < ALL_CHANNELS && (unsigned)row < (unsigned)a.in_h;
            real *to = shared.input[group] + item % INPUT_ROWS * INPUT_COLUMNS;
#pragma unroll
            for (int k = 0; k < ROW_PIECES; k++) {
                const int at = k * 32 + threadIdx.x % 32, column = first_column + at;
                const bool own = (k + 1) * 32 <= INPUT_COLUMNS || at < INPUT_COLUMNS;
                real value = 0;
                if (own && has && (unsigned)column < (unsigned)a.in_w)
                    value = load_operand(line + column * a.input_stride.w);
                if (own)
                    to[at] = value;
            }
        }
#pragma unroll
        for (int i = 0; i < WEIGHT_ITEMS; i++) {
            const int item = threadIdx.x + i * THREADS;
            if (GROUPS * TAPS % THREADS == 0 || item < GROUPS * TAPS)
                shared.weights[item / TAPS][item % TAPS] = weights[i];
        }
    }

    /* Whether some tap of some pixel reads row `row` below the first one's window. */
    static __device__ __forceinline__ constexpr bool is_read(int row) {
        for (int p = 0; p < THREAD_PIXELS; p++) {
            const int below = row - p * STRIDE_H;
            if (below >= 0 && below % DILATION_H == 0 && below / DILATION_H < KERNEL_H)
                return true;
        }
        return false;
    }
    __device__ __forceinline__ void add_window(real *sum) {
        const real *corner = shared.input[tile.group] +
                             tile.lane / COLUMNS * (THREAD_PIXELS * STRIDE_H) * INPUT_COLUMNS +
                             tile.lane % COLUMNS * STRIDE_W;
#pragma unroll COLUMN_UNROLL
        for (int w = 0; w < KERNEL_W; w++) {
            real value[WINDOW_ROWS];
#pragma unroll
            for (int row = 0; row < WINDOW_ROWS; row++)
                value[row] = is_read(row) ? corner[row * INPUT_COLUMNS + w * DILATION_W] : real(0);
#pragma unroll
            for (int h = 0; h < KERNEL_H; h++) {
                const real factor = shared.weights[tile.group][h * KERNEL_W + w];
#pragma unroll
                for (int p = 0; p < THREAD_PIXELS; p++)
                    sum[p] = fma(factor, value[p * STRIDE_H + h * DILATION_H], sum[p]);
            }
        }
    }

    __device__ __forceinline__ void run(index_t step) {
        Place corner; // the box's first pixel
        tile.tile_place(0, step, corner);
#pragma unroll
        for (int j = 0; j < THREAD_CHANNELS; j++) {
            real *sum = tile.sum + j * THREAD_PIXELS;
#pragma unroll
            for (int p = 0; p < THREAD_PIXELS; p++)
                sum[p] = 0;
#pragma unroll 1
            for (int from = 0; from < GROUP_INPUTS; from++) {
#pragma unroll 1
                for (int d = 0; d < KERNEL_D; d++) {
                    __syncthreads();
                    stage(corner, j, from, d);
                    __syncthreads();
                    add_window(sum);
                }
            }
        }
    }
};
