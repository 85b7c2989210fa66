/* conv_wgmma_ring.cuh, channels as rows of the products, pixels as their columns. A product of 64
 * channels by 256 pixels reads less shared memory a flop than one of pixels by few channels. */
//@ include tile_columns.cuh
//@ include column_lines.cuh
