/* FNV-1a over bytes, 64 bits: for names of files and for finding damage, not against malice.
 * Fowler, Noll and Vo, draft-eastlake-fnv. */
#ifndef SEGUE_BASE_HASH_H
#define SEGUE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define SG_HASH_START UINT64_C(14695981039346656037)

/* Goes on from `hash`, which is SG_HASH_START at first. */
static inline uint64_t sg_hash(uint64_t hash, const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
    return hash;
}

#endif
