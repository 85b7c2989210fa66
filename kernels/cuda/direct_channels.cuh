/* The contraction of conv_direct.cuh where an output channel reads one input channel, or few, and
 * channels are neighbours in memory: threads of a warp take neighbouring channels, each a column
 * of pixels below each other, and read the input where it lies; what other columns read again
 * comes from the first-level cache. Only the weights go through shared memory, as
 * [input][tap][channel]. */
constexpr int WINDOW_ROWS = (THREAD_PIXELS - 1) * STRIDE_H + (KERNEL_H - 1) * DILATION_H + 1;
constexpr int TAPS = KERNEL_D * KERNEL_H * KERNEL_W;
constexpr int PRODUCTS = GROUP_INPUTS * TAPS;
constexpr int COLUMN_UNROLL = KERNEL_H * KERNEL_W * THREAD_PIXELS <= 512 ? KERNEL_W : 1;

struct Shared {
    real weights[PRODUCTS][TILE_CHANNELS];
    real scratch[SCRATCH + 1];
};

struct Contraction {
    const Arguments &a;
    Tile &tile;
    Shared &shared;

    __device__ __forceinline__ Contraction(const Arguments &arguments, Tile &t, Shared &s)
        : a(arguments), tile(t), shared(s) {
        for (int item = threadIdx.x; item < PRODUCTS * TILE_CHANNELS; item += THREADS) {
            const int c = item / PRODUCTS, k = item % PRODUCTS, tap = k % TAPS;
            const int channel = tile.first_channel + c;
            real weight = 0;
            if (channel < ALL_CHANNELS)
                weight = load_operand(a.weight + channel * a.weight_stride.n +
                                      k / TAPS * a.weight_stride.c +
                                      tap / (KERNEL_H * KERNEL_W) * a.weight_stride.d +
                                      tap / KERNEL_W % KERNEL_H * a.weight_stride.h +
                                      tap % KERNEL_W * a.weight_stride.w);
            shared.weights[k][c] = weight;
        }
        __syncthreads();
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
    /* Adds the taps of one slice of one input channel. first: the slice's element at the window's
     * first row and column, which may lie outside of it; k: of the slice's first tap. */
    __device__ __forceinline__ void add_slice(const decltype(a.input) first, bool inside,
                                              int first_row, int first_column, int k, int c,
                                              real *sum) {
#pragma unroll COLUMN_UNROLL
        for (int w = 0; w < KERNEL_W; w++) {
            const bool column =
                inside && (unsigned)(first_column + w * DILATION_W) < (unsigned)a.in_w;
            real value[WINDOW_ROWS];
#pragma unroll
            for (int row = 0; row < WINDOW_ROWS; row++) {
                value[row] = 0;
                if (!is_read(row))
                    continue;
                /* Without a branch: what lies outside is read from the tensor's first element. */
                const bool has = column && (unsigned)(first_row + row) < (unsigned)a.in_h;
                const decltype(a.input) from =
                    first + row * a.input_stride.h + w * DILATION_W * a.input_stride.w;
                const real read = load_operand(has ? from : a.input);
                value[row] = has ? read : real(0);
            }
#pragma unroll
            for (int h = 0; h < KERNEL_H; h++) {
                const real factor = shared.weights[k + h * KERNEL_W + w][c];
#pragma unroll
                for (int p = 0; p < THREAD_PIXELS; p++)
                    sum[p] = fma(factor, value[p * STRIDE_H + h * DILATION_H], sum[p]);
            }
        }
    }

    __device__ __forceinline__ void run(index_t step) {
        Place place; // of the first pixel
        tile.tile_place(tile.number_of(0), step, place);
        const int down = place.d * STRIDE_D - PADDING_D, row = place.h * STRIDE_H - PADDING_H,
                  column = place.w * STRIDE_W - PADDING_W;
#pragma unroll
        for (int j = 0; j < THREAD_CHANNELS; j++) {
            const int channel = tile.channel(j);
            const bool valid = channel < ALL_CHANNELS && place.w < a.size_w && place.n < a.size_n;
            real *sum = tile.sum + j * THREAD_PIXELS;
#pragma unroll
            for (int p = 0; p < THREAD_PIXELS; p++)
                sum[p] = 0;
#pragma unroll 1
            for (int from = 0; from < GROUP_INPUTS; from++) {
                const decltype(a.input) plane =
                    a.input + place.n * a.input_stride.n +
                    (channel / GROUP_OUTPUTS * GROUP_INPUTS + from) * a.input_stride.c +
                    row * a.input_stride.h + column * a.input_stride.w;
#pragma unroll 1
                for (int d = 0; d < KERNEL_D; d++) {
                    const int slice = down + d * DILATION_D;
                    add_slice(plane + slice * a.input_stride.d,
                              valid && (unsigned)slice < (unsigned)a.in_d, row, column,
                              from * TAPS + d * KERNEL_H * KERNEL_W, channel - tile.first_channel,
                              sum);
                }
            }
        }
    }
};
