/* Loads and stores of tiles. Rows of small images are short, so the loops over them are here,
 * inside the kernel, and not around it. */
#include "variant.h"

static int64_t size_of(sg_element type) {
    return type == SG_ELEMENT_BOOL  ? 1
           : type == SG_ELEMENT_F64 ? 8
           : type == SG_ELEMENT_F32 ? 4
                                    : 2;
}

SG_INLINE void copy_contiguous(S *restrict dst, const S *restrict src, int64_t count) {
    int64_t i = 0;
    for (; i + SG_VECTOR_LENGTH <= count; i += SG_VECTOR_LENGTH)
        v_store(dst + i, v_load(src + i));
    for (; i < count; i++) {
        __asm__ volatile(""); /* NOLINT(portability-no-assembler): no call of memcpy for a few */
        dst[i] = src[i];
    }
}

/* Channels lie side by side in memory: walk it in its own order, and take the strides in the tile,
 * which is in the cache. */
SG_INLINE void exchange_by_column(const sg_tile_move *move, const sg_piece *piece, bool store) {
    S *data = (S *)move->data + piece->place, *tile = (S *)move->tile + piece->start;
    for (int64_t i = 0; i < piece->length; i++, data += move->column_stride, tile++) {
        for (int64_t row = 0; row < move->rows; row++) {
            if (store)
                data[row] = tile[row * move->tile_row_stride];
            else
                tile[row * move->tile_row_stride] = data[row];
        }
    }
}

SG_INLINE void exchange_by_row(const sg_tile_move *move, const sg_piece *piece, int64_t row,
                               bool store) {
    S *tile = (S *)move->tile + row * move->tile_row_stride + piece->start;
    char *data = (char *)move->data + (row * move->row_stride + piece->place) * size_of(move->type);
    if (move->type == SG_COMPUTE_ELEMENT && move->column_stride == 1) {
        if (store)
            copy_contiguous((void *)data, tile, piece->length);
        else
            copy_contiguous(tile, (void *)data, piece->length);
    } else if (store) {
        SG_NAME(convert_out)(piece->length, data, move->column_stride, move->type, tile);
    } else {
        SG_NAME(convert_in)(piece->length, tile, 1, data, move->column_stride, move->type);
    }
}

SG_INLINE void exchange(const sg_tile_move *move, bool store) {
    bool by_column = move->type == SG_COMPUTE_ELEMENT && move->rows > 1 && move->row_stride == 1 &&
                     move->column_stride != 1;
    for (int i = 0; by_column && i < move->piece_count; i++)
        exchange_by_column(move, &move->pieces[i], store);
    for (int64_t row = 0; !by_column && row < move->rows; row++) {
        for (int i = 0; i < move->piece_count; i++)
            exchange_by_row(move, &move->pieces[i], row, store);
    }
}

void SG_NAME(load_tile)(const sg_tile_move *move) {
    exchange(move, false);
}

void SG_NAME(store_tile)(const sg_tile_move *move) {
    exchange(move, true);
}
