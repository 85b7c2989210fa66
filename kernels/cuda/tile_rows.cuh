/* The tile with pixels as rows, as row_tile.cuh has it: put stores through a quad's exchange. */
//@ include row_tile.cuh
using Tile = RowTile;
