/* Random numbers for tests: the same on every machine for the same seed. */
#ifndef SEGUE_TESTS_RANDOM_H
#define SEGUE_TESTS_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

typedef struct random_state {
    uint64_t state;
} random_state;

/* SplitMix64 (Steele, Lea and Flood 2014). */
static inline uint64_t random_bits(random_state *random) {
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* An integer in [low, high]. */
static inline int64_t random_between(random_state *random, int64_t low, int64_t high) {
    return low + (int64_t)(random_bits(random) % (uint64_t)(high - low + 1));
}

/* True in `percent` of a hundred cases. */
static inline bool random_chance(random_state *random, int percent) {
    return random_between(random, 0, 99) < percent;
}

/* A number in [-1, 1). */
static inline double random_real(random_state *random) {
    return (double)(random_bits(random) >> 11) * 0x1p-52 - 1;
}

#endif
