/* The kernel cache: cubins kept between processes under all that they were made from. One file a
 * cubin in the folder `kernels` of $SEGUE_CACHE_DIR, of $XDG_CACHE_HOME/segue, or of
 * ~/.cache/segue, named by a hash of the key. The file holds the key in full and a checksum, so
 * that a collision, a truncated or a damaged file is found, and counts as absent. Files are written
 * aside and renamed, so that any number of processes may read, write and clear at once. Where no
 * folder can be had nothing is kept, which is no error. */
#ifndef SEGUE_BUILD_CACHE_H
#define SEGUE_BUILD_CACHE_H

#include <stdbool.h>
#include <stddef.h>

/* *data is malloc'ed. False when there is none; it then has to be made. */
bool sg_cache_find(const char *key, void **data, size_t *size);
/* Keeps it if that is possible. Files used longest ago make room beyond 256 MB. */
void sg_cache_keep(const char *key, const void *data, size_t size);

#endif
