/* The CPU kernels: what one instruction set offers to the runtime.
 *
 * Every source in kernels/cpu is compiled once per instruction set and per compute type (float,
 * double). One compilation fills one `sg_cpu_kernels` table; the runtime picks a table by cpuid and
 * by the region's compute type and from then on only calls through it. Kernels allocate nothing,
 * never fail and keep no state: all they need comes in as arguments.
 *
 * A *tile* is a row-major block in scratch memory, [rows][cols] of the compute type: rows are
 * channels, columns are pixels. Tile rows start on 64-byte boundaries and their column count is
 * padded to a multiple of the vector length, so tile kernels have no scalar remainder; what stands
 * in padding columns is meaningless but initialised. Strides are in elements unless said otherwise.
 */
#ifndef SEGUE_KERNELS_CPU_KERNELS_H
#define SEGUE_KERNELS_CPU_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

/* Element types as they lie in memory. Tiles hold only the compute type (f32 or f64). */
typedef enum sg_element {
    SG_ELEMENT_BOOL, /* one byte, 0 or 1; in a tile 0.0 or 1.0 */
    SG_ELEMENT_F16,
    SG_ELEMENT_BF16,
    SG_ELEMENT_F32,
    SG_ELEMENT_F64,
    SG_ELEMENT_COUNT
} sg_element;

/* Upper bound over every instruction set, for arrays on the stack and for padding. */
enum { SG_VECTOR_BYTES_MAX = 64, SG_TILE_SOURCES_MAX = 3, SG_TILE_ATTRIBUTES_MAX = 4 };

/* One operand of a tile op. Row r begins at data + r * row_stride; a splat operand repeats the
 * first element of each row over all columns (row_stride 0 and splat: one scalar for the whole
 * tile). */
typedef struct sg_tile_source {
    const void *data;
    int64_t row_stride;
    bool splat;
} sg_tile_source;

/* dst[r][c] = op(src0[r][c], ...) for all rows and for cols columns (a multiple of the vector
 * length). dst may be one of the sources exactly, never overlap one partly. attributes: the op's
 * numeric attributes in the order of its row in ops.def. */
typedef void (*sg_tile_op)(int64_t rows, int64_t cols, void *dst, int64_t dst_row_stride,
                           const sg_tile_source *sources, const double *attributes);

/* How a reduction combines; NaN in any input gives NaN in every one of them. */
typedef enum sg_reduction {
    SG_REDUCTION_SUM,
    SG_REDUCTION_PROD,
    SG_REDUCTION_MIN,
    SG_REDUCTION_MAX,
    SG_REDUCTION_COUNT
} sg_reduction;

/* A run of valid columns in a tile row. Flattened pixel tiles contain columns past the image's
 * edge; the segments name the ones that exist. */
typedef struct sg_segment {
    int64_t start, length;
} sg_segment;

/* dst[c] = reduction over rows of src[r][c], c < cols (a multiple of the vector length), rows >= 1.
 * Float sums and products are taken in double and rounded once, sums of doubles with compensation
 * (Neumaier 1974): their error does not grow with rows. */
typedef void (*sg_reduce_rows)(int64_t rows, int64_t cols, void *dst, const void *src,
                               int64_t src_row_stride);

/* dst[r] = reduction over the columns in the segments of src[r][.], at least one column in all.
 * Sums and products are taken as by sg_reduce_rows. */
typedef void (*sg_reduce_columns)(int64_t rows, void *dst, const void *src, int64_t src_row_stride,
                                  int segment_count, const sg_segment *segments);

/* acc[r][c] = acc[r][c] + src[r][c] with the rounding error kept in comp[r][c] (same shape and
 * stride as acc); the true sum is acc + comp. */
typedef void (*sg_accumulate_sum)(int64_t rows, int64_t cols, void *acc, void *comp,
                                  int64_t acc_row_stride, const void *src, int64_t src_row_stride);

/* One call of the contraction micro-kernel: a block of MR channels by NR vectors of pixels.
 *
 *   tile[m][j] (+)= sum over k of weights[k * MR + m] * slab[offset[k] + j],  j < NR * vector
 * length
 *
 * Products are summed in registers, `sum` of them at a time, and these partial sums are added up in
 * the tile. So the rounding error is that of a blocked sum (Higham, Accuracy and Stability of
 * Numerical Algorithms, section 4.2), of about sqrt(sum + k / sum) units. A call with accumulate
 * goes on where the last one ended; the bias goes with the last. */
typedef struct sg_contract_args {
    int64_t k;               /* products per output */
    int64_t sum;             /* products summed in registers, at least 1 */
    const void *slab;        /* first pixel of the block for tap offset 0; any alignment */
    const int32_t *offset;   /* [k] element offsets into the slab */
    const void *weights;     /* [k][MR], packed by pack_weights, 64-byte aligned */
    void *tile;              /* first row and column of the block */
    int64_t tile_row_stride; /* elements between channels of the tile */
    const void *bias;        /* [MR] or NULL; added after the last product */
    bool accumulate;
} sg_contract_args;
typedef void (*sg_contract)(const sg_contract_args *args);

/* Register blocks the instruction set offers, widest channel block first. */
enum { SG_CONTRACT_BLOCKS_MAX = 4, SG_CONTRACT_VECTORS_MAX = 16 };
typedef struct sg_contract_block {
    int channels;                                      /* MR */
    int vectors_max;                                   /* largest NR */
    sg_contract contract[SG_CONTRACT_VECTORS_MAX + 1]; /* [NR], NR = 1..vectors_max */
} sg_contract_block;

/* dst[i * dst_stride] = (compute type) src[i * src_stride], i < count; src of any element type.
 * Unit strides are the fast case. */
typedef void (*sg_convert_in)(int64_t count, void *dst, int64_t dst_stride, const void *src,
                              int64_t src_stride, sg_element src_type);

/* dst[i * dst_stride] = (element type) src[i], rounded to nearest even; to bool: src[i] != 0. */
typedef void (*sg_convert_out)(int64_t count, void *dst, int64_t dst_stride, sg_element dst_type,
                               const void *src);

/* Between a tile and a tensor in memory, piece by piece of its rows:
 * tile[r][start + i]  <->  data[r * row_stride + place + i * column_stride],  i < length. */
typedef struct sg_piece {
    int64_t start, length, place;
} sg_piece;
typedef struct sg_tile_move {
    void *tile; /* compute type; read by a store, written by a load */
    int64_t tile_row_stride;
    void *data; /* of type; written by a store, read by a load */
    int64_t row_stride, column_stride;
    sg_element type;
    int64_t rows;
    int piece_count;
    const sg_piece *pieces;
} sg_tile_move;
typedef void (*sg_move_tile)(const sg_tile_move *move);

/* A plane of the slab: dst[row][column] = (compute type) src[row * row_step + column * column_step]
 * where row and column lie in the ranges that exist, else 0. */
typedef struct sg_plane {
    void *dst; /* [rows][width], contiguous */
    int64_t rows, width;
    int64_t first_row, end_row, first_column, end_column;
    const void *src; /* of row 0 and column 0, which need not exist */
    int64_t row_step, column_step;
    sg_element type;
    const void
        *other; /* of sg_pack_pairs: the odd channel's; NULL where there is none, for zeros */
} sg_plane;
typedef void (*sg_pack_plane)(const sg_plane *plane);

/* Pairs: where the processor multiplies bfloat16 two at a time, an element of the slab is those of
 * two neighbouring channels, the even one in the lower half, and a product of the contraction is
 * the sum of two. Such an element is as large as a float, so slab, packed weights and register
 * blocks are those of floats with half the input channels. */

/* As sg_pack_plane, of two channels of bfloat16. */
typedef void (*sg_pack_pairs)(const sg_plane *plane);

/* dst[pair][tap][row], rows up to width zero: weights of `rows` output channels. */
typedef struct sg_weight_pairs {
    void *dst;
    int64_t rows, width, channels; /* input channels, which may be odd */
    int64_t taps[3];               /* D, H, W, the last the fastest */
    const void *src;
    int64_t row_stride, channel_stride, tap_stride[3];
} sg_weight_pairs;
typedef void (*sg_pack_weight_pairs)(const sg_weight_pairs *weights);

/* dst[column * width + row] = (compute type) src[row * row_stride + column], row < rows,
 * column < columns; rows up to width are zero. */
typedef void (*sg_pack_transposed)(int64_t rows, int64_t columns, int64_t width, void *dst,
                                   const void *src, int64_t row_stride, sg_element type);

typedef struct sg_cpu_kernels {
    const char *isa;        /* "generic", "avx2", "avx512" */
    sg_element compute;     /* SG_ELEMENT_F32 or SG_ELEMENT_F64 */
    int vector_length;      /* elements */
    const sg_tile_op *tile; /* [SG_OP_COUNT], NULL for ops that are not pointwise */
    sg_reduce_rows reduce_rows[SG_REDUCTION_COUNT];
    sg_reduce_columns reduce_columns[SG_REDUCTION_COUNT];
    sg_accumulate_sum accumulate_sum;
    int contract_block_count;
    sg_contract_block contract_blocks[SG_CONTRACT_BLOCKS_MAX];
    /* The same blocks of pairs, with which goes what packs them; NULL where there are none. Numbers
     * below 2^-126 count as zero there, on the way in and out. */
    const sg_contract_block *pair_blocks;
    sg_pack_pairs pack_pairs;
    sg_pack_weight_pairs pack_weight_pairs;
    sg_convert_in convert_in;
    sg_convert_out convert_out;
    sg_move_tile load_tile, store_tile;
    sg_pack_plane pack_plane;
    sg_pack_transposed pack_transposed;
} sg_cpu_kernels;

/* The tables that this build holds; NULL where the build or this machine's cpu lacks the set. */
const sg_cpu_kernels *sg_cpu_kernels_generic(sg_element compute);
const sg_cpu_kernels *sg_cpu_kernels_avx2(sg_element compute);
const sg_cpu_kernels *sg_cpu_kernels_avx512(sg_element compute);

#endif
