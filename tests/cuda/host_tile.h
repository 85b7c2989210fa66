/* What a tail needs of CUDA and of a skeleton, on the host: one thread that holds all channels of a
 * few pixels, so that g++ can compile generated tails and run them. Everything is computed in
 * double. Channels lie in a scrambled order with padding between them, own pixels in reverse, and
 * what is put waits for its flush, so that a tail which takes liberties with docs/cuda.md fails. */
#ifndef SEGUE_TESTS_CUDA_HOST_TILE_H
#define SEGUE_TESTS_CUDA_HOST_TILE_H

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#define __device__
#define __forceinline__ inline
#define __restrict__    __restrict
#define SG_UNROLL

using real = double;
constexpr bool REAL_IS_DOUBLE = true;

struct half_t {
    float value;
};
struct bfloat_t {
    float value;
};
struct bool_t {
    float value;
};
template<int COST, int COUNT, class Function> inline void apply(real (&value)[COUNT],
                                                                Function function) {
    for (real &x : value)
        x = function(x);
}
inline real share(real part, real sum) {
    return part / sum;
}
struct Stride {
    long long n, c, d, h, w;
};
struct Place {
    int n, d, h, w;
};

inline real load(const float *from) {
    return *from;
}
inline real load(const double *from) {
    return *from;
}
inline real load(const half_t *from) {
    return from->value;
}
inline real load(const bfloat_t *from) {
    return from->value;
}
inline real load(const bool_t *from) {
    return from->value != 0;
}
inline void store(float *to, real x) {
    *to = float(x);
}
inline void store(double *to, real x) {
    *to = x;
}
inline void store(half_t *to, real x) {
    to->value = float(x);
}
inline void store(bfloat_t *to, real x) {
    to->value = float(x);
}
inline void store(bool_t *to, real x) {
    to->value = x != 0;
}

inline real v_round_to_f32(real x) {
    return float(x);
}
inline real v_round_to_f16(real x) {
    return _Float16(x);
}
/* By way of float, to nearest even: no test input is near a tie of both. */
inline real v_round_to_bf16(real x) {
    float narrow = float(x);
    unsigned bits;
    memcpy(&bits, &narrow, sizeof bits);
    if (narrow == narrow)
        bits = (bits + 0x7fff + (bits >> 16 & 1)) & ~0xffffu;
    memcpy(&narrow, &bits, sizeof bits);
    return narrow;
}

inline float v_min(float a, float b) {
    return a < b || a != a ? a : b;
}
inline float v_max(float a, float b) {
    return a > b || a != a ? a : b;
}
inline double v_min(double a, double b) {
    return a < b || a != a ? a : b;
}
inline double v_max(double a, double b) {
    return a > b || a != a ? a : b;
}
inline real infinity() {
    return HUGE_VAL;
}
inline float sum_rounded(float a, float b) {
    return a + b;
}
inline double sum_rounded(double a, double b) {
    return a + b;
}
inline float __fdividef(float a, float b) {
    return a / b;
}
inline float __int_as_float(int bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
inline int __float_as_int(float value) {
    int bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline float rsqrtf(float x) {
    return 1 / sqrtf(x);
}
inline double rsqrt(double x) {
    return 1 / sqrt(x);
}

inline void add_compensated(real &sum, real &rest, real x) {
    const real s = sum + x, part = s - sum, error = (sum - (s - part)) + (x - part);
    rest += error == error ? error : 0;
    sum = s;
}

inline real v_add(real a, real b) {
    return a + b;
}
inline real v_mul(real a, real b) {
    return a * b;
}
using Combine = real (*)(real, real);

/* Two threads that share a walk: the first leaves its running values, the second takes them in. */
struct Join {
    std::vector<real> *left;
    size_t *taken; /* NULL while they are left */
    real operator()(Combine combine, real value) {
        if (!taken) {
            left->push_back(value);
            return value;
        }
        return combine((*left)[(*taken)++], value);
    }
    void sum(real &value, real &rest) {
        if (!taken) {
            left->push_back(value);
            left->push_back(rest);
            return;
        }
        const real other = (*left)[(*taken)++], other_rest = (*left)[(*taken)++];
        add_compensated(value, rest, other);
        rest += other_rest;
    }
};

inline void broken(const char *rule) {
    printf("the tail breaks a rule: %s\n", rule);
    exit(1);
}

/* CHANNELS_TOTAL channels; acc is [n][c][d][h][w] of sizes size. */
template<int CHANNELS_TOTAL, int WALK_SLOTS> struct HostTile {
    static constexpr int PIXELS = 4, OWN = 4;
    static constexpr int CHANNELS = CHANNELS_TOTAL + CHANNELS_TOTAL / 3 + 1;
    const double *anchor;
    const long long *size; /* n, c, d, h, w */
    bool inside[PIXELS];
    Place at[PIXELS];
    real running[WALK_SLOTS + 1][PIXELS][CHANNELS];
    real pending[PIXELS * CHANNELS];
    const void *putting = nullptr;
    int last = -1; /* j * PIXELS + p that was put */
    std::vector<int> put_places;
    real own_results[CHANNELS * PIXELS] = {};

    /* Every fourth slot is padding, the others come in reverse. */
    bool has(int j) const { return j % 4 != 3 && rank(j) < CHANNELS_TOTAL; }
    int rank(int j) const { return j - j / 4; }
    int channel(int j) const { return CHANNELS_TOTAL - 1 - rank(j); }
    bool valid(int p) const { return inside[p]; }
    Place place(int p) const { return at[p]; }
    bool own_valid(int q) const { return inside[PIXELS - 1 - q]; }
    Place own_place(int q) const { return at[PIXELS - 1 - q]; }

    real acc(int p, int j) const {
        if (!has(j))
            broken("acc of padding");
        if (!inside[p])
            return 777;
        const Place &o = at[p];
        long long index = o.n * size[1] + channel(j);
        index = ((index * size[2] + o.d) * size[3] + o.h) * size[4] + o.w;
        return anchor[index];
    }
    real &result(int p, int j) {
        if (!has(j))
            broken("result of padding");
        return own_results[j * PIXELS + p];
    }
    using Results = real[CHANNELS * PIXELS];
    Results &results() { return own_results; }
    void reduce(Combine, const real (&in)[PIXELS], real (&out)[OWN]) {
        for (int q = 0; q < OWN; q++)
            out[q] = in[PIXELS - 1 - q];
    }
    void spread(const real (&in)[OWN], real (&out)[PIXELS]) {
        for (int p = 0; p < PIXELS; p++)
            out[p] = in[PIXELS - 1 - p];
    }
    real &walk(int k, int p, int j) {
        if (k >= WALK_SLOTS)
            broken("more running values than announced");
        return running[k][p][j];
    }
    static long long offset(const Place &o, const Stride &s) {
        return o.n * s.n + o.d * s.d + o.h * s.h + o.w * s.w;
    }
    template<int V, class T> void load_tile(const T *from, const Stride &s, int j,
                                            real (&out)[PIXELS]) {
        for (int p = 0; p < PIXELS; p++)
            out[p] = inside[p] ? load(from + offset(at[p], s) + channel(j) * s.c) : 0;
    }
    template<int V, class T> void load_pixels(const T *from, const Stride &s, real (&out)[PIXELS]) {
        for (int p = 0; p < PIXELS; p++)
            out[p] = inside[p] ? load(from + offset(at[p], s)) : 0;
    }
    template<class T> void load_own(const T *from, const Stride &s, real (&out)[OWN]) {
        for (int q = 0; q < OWN; q++)
            out[q] = own_valid(q) ? load(from + offset(own_place(q), s)) : 0;
    }
    template<class T> void store_own(T *to, const Stride &s, const real (&in)[OWN]) {
        for (int q = 0; q < OWN; q++)
            if (own_valid(q))
                store(to + offset(own_place(q), s), in[q]);
    }
    template<int V, class T> void put(T *to, const Stride &, int p, int j, real value) {
        if (putting && putting != to)
            broken("two outputs put at once");
        if (j * PIXELS + p <= last)
            broken("put out of order");
        putting = to;
        last = j * PIXELS + p;
        pending[last] = value;
        put_places.push_back(last);
    }
    template<int V, class T> void flush(T *to, const Stride &s) {
        if (putting != to)
            broken("flush of what was not put");
        for (int place : put_places) {
            const int p = place % PIXELS, j = place / PIXELS;
            if (inside[p])
                store(to + offset(at[p], s) + channel(j) * s.c, pending[place]);
        }
        put_places.clear();
        putting = nullptr;
        last = -1;
    }
};

/* Position `number` of the roles in `roles` (bits of n, c, d, h, w); others stand far outside. */
inline void set_place(Place &place, long long number, unsigned roles, const long long *size) {
    int *axis[5] = {&place.n, nullptr, &place.d, &place.h, &place.w};
    for (int role = 4; role >= 0; role--) {
        if (!axis[role] || !(roles >> role & 1))
            continue;
        *axis[role] = int(number % size[role]);
        number /= size[role];
    }
}
inline long long count_of(unsigned roles, const long long *size) {
    long long count = 1;
    for (int role = 0; role < 5; role++)
        if (role != 1 && roles >> role & 1)
            count *= size[role];
    return count;
}

/* Runs a tail over the whole space; walks are shared by two threads. */
template<class Tile, class Tail, class Arguments> void run_tail(const Arguments &a,
                                                                const double *anchor,
                                                                const long long *size,
                                                                unsigned walk, bool walks) {
    const long long kept = count_of(~walk, size), steps = walks ? count_of(walk, size) : 1;
    for (long long first = 0; first < kept; first += Tile::PIXELS) {
        Tile tiles[2];
        Tail tails[2];
        std::vector<real> left;
        size_t taken = 0;
        for (int t = 0; t < (walks ? 2 : 1); t++) {
            Tile &tile = tiles[t];
            tile.anchor = anchor;
            tile.size = size;
            auto locate = [&](long long step) {
                for (int p = 0; p < Tile::PIXELS; p++) {
                    const int far = 1 << 20;
                    tile.inside[p] = first + p < kept && (step < 0 || step < steps);
                    tile.at[p] = {far, far, far, far};
                    set_place(tile.at[p], first + p, ~walk, size);
                    if (step >= 0)
                        set_place(tile.at[p], step, walk, size);
                }
            };
            tails[t].begin(tile);
            /* An odd walk ends with a step that only one of them takes. */
            for (long long step = t; step < steps + (walks && t); step += walks ? 2 : 1) {
                locate(step);
                tails[t].step(tile, a);
            }
            if (walks) {
                locate(-1);
                tails[t].merge(tile, Join{&left, t ? &taken : nullptr});
            }
        }
        tails[walks].end(tiles[walks], a);
        if (taken != left.size() || tiles[walks].putting)
            broken("merge differs, or something put was not flushed");
    }
}

/* NaN and infinities must agree; the rest within tolerance of the largest, and of what a difference
 * of numbers near 1 leaves. */
template<class T> int compare(const char *name, const T *got, const double *expected,
                              const long long *place, long long count, double tolerance) {
    double largest = 0;
    for (long long i = 0; i < count; i++)
        if (std::isfinite(expected[i]))
            largest = std::fmax(largest, std::fabs(expected[i]));
    for (long long i = 0; i < count; i++) {
        const double x = load(got + place[i]), y = expected[i];
        const bool same = x == y || (x != x && y != y) ||
                          std::fabs(x - y) <= tolerance * (largest + std::fabs(y)) + 1e-12;
        if (!same) {
            printf("%s: element %lld is %.9g, not %.9g\n", name, i, x, y);
            return 1;
        }
    }
    return 0;
}

#endif
