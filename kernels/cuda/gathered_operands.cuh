__device__ __forceinline__ void load_pair(unsigned address, unsigned &x, unsigned &y) {
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(x), "=r"(y) : "r"(address) : "memory");
}
/* The low half of a word, above it zeros. */
__device__ __forceinline__ unsigned load_low_half(unsigned address) {
    unsigned short low;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(low) : "r"(address) : "memory");
    return low;
}
/* The same in a register of its own, made here and not where the compiler likes; of a `mov`, ptxas
 * makes two, or gives both the same registers and then serialises products (C7511). */
__device__ __forceinline__ unsigned moved(unsigned x) {
    unsigned copy;
    asm volatile("prmt.b32 %0, %1, %1, 0x3210;" : "=r"(copy) : "r"(x) : "memory");
    return copy;
}
__device__ __forceinline__ float moved(float x) {
    float copy;
    asm volatile("prmt.b32 %0, %1, %1, 0x3210;" : "=f"(copy) : "f"(x) : "memory");
    return copy;
}

/* A slice as a lane's operands. */
struct Operands {
    unsigned of[PARTS][STEPS][4];
    unsigned ends[PARTS][EIGHTS ? EIGHTS : 1][2][2];

    __device__ __forceinline__ unsigned &at(int part, int octet, int pixel) {
        return of[part][octet / 2][octet % 2 * 2 + pixel];
    }
    /* Word i under the thread's pixels, where it is loaded to. */
    __device__ __forceinline__ unsigned &word(int part, int eight, int i) {
        const int tap = i / 2 - ODD;
        if (ENDS == 0)
            return at(part, eight * KERNEL_W + i / 2, i % 2);
        if (tap >= 0 && tap < DIRECT)
            return at(part, eight * KERNEL_W + tap, i % 2);
        return ends[part][eight][i >= 2][i % 2];
    }
    __device__ __forceinline__ void pin() {
#pragma unroll
        for (int i = 0; i < PARTS * STEPS * 4; i++)
            asm volatile("" : "+r"(of[i / (STEPS * 4)][i / 4 % STEPS][i % 4])::"memory");
    }
};

/* Where a consumer's thread reads the stages: by twos, whose place it works out once. */
struct Gather {
    unsigned words;                         /* of two stages' first: address of its first word, */
    unsigned single[SINGLES ? SINGLES : 1]; /* of the words of single taps, */
    unsigned full, parity;                  /* and of its barrier */
    unsigned last;                          /* that of the last two */

    /* stage: even, two before the first that is read. */
    __device__ __forceinline__ void open(const Shared &shared, const Pixels &pixels, int stage) {
        const int quad = pixels.lane % 4, x = pixels.w + pixels.lane / 4 * 2;
        const int first = (pixels.h * IN_CHANNELS + quad) * PITCH + x + LEAD - ODD;
        const int slot = stage % STAGES;
        words = shared_address(shared.stages[slot] + first);
#pragma unroll
        for (int i = 0; i < SINGLES; i++) {
            const int tap = i * 4 + quad;
            const int row = pixels.h * IN_CHANNELS + EIGHTS * 8 + tap / KERNEL_W;
            const int word = tap < SINGLE_TAPS ? row * PITCH + x + LEAD + tap % KERNEL_W : ZEROS;
            single[i] = words + (word - first) * 4;
        }
        full = shared_address(&shared.full[slot]);
        parity = stage / STAGES & 1;
        last = full + 8 * (STAGES - 2 - slot);
    }
    __device__ __forceinline__ void turn_to_next() {
        const bool wraps = full == last;
        const int slots = wraps ? 2 - STAGES : 2;
        parity ^= wraps;
        full += 8 * slots;
        words += slots * STAGE_BYTES;
        asm volatile("" : "+r"(full), "+r"(words), "+r"(parity));
#pragma unroll
        for (int i = 0; i < SINGLES; i++) {
            single[i] += slots * STAGE_BYTES;
            asm volatile("" : "+r"(single[i]));
        }
    }
    /* Loads the words of the first or second of two stages, when it is full. */
    template <int WHICH> __device__ __forceinline__ void fetch(Operands &operands) const {
        mbarrier_wait(full + 8 * WHICH, parity);
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            const int further = WHICH * STAGE_BYTES + part * PART_WORDS * 4;
#pragma unroll
            for (int eight = 0; eight < EIGHTS; eight++)
#pragma unroll
                for (int i = 0; i < WINDOW / 2; i++)
                    load_pair(words + further + eight * 8 * PITCH * 4 + i * 8,
                              operands.word(part, eight, i * 2),
                              operands.word(part, eight, i * 2 + 1));
#pragma unroll
            for (int i = 0; i < SINGLES; i++)
#pragma unroll
                for (int p = 0; p < 2; p++)
                    operands.at(part, EIGHTS * KERNEL_W + i, p) =
                        load_low_half(single[i] + further + p * 4);
        }
    }
    /* Makes operands of the words, and behind the second stage gives both back: `empty` follows
     * `full`. */
    template <int WHICH> __device__ __forceinline__ void take(Operands &operands) const {
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
#pragma unroll
            for (int eight = 0; eight < EIGHTS; eight++)
#pragma unroll
                for (int i = 0; i < KERNEL_W - DIRECT; i++)
#pragma unroll
                    for (int p = 0; p < 2; p++)
                        operands.at(part, eight * KERNEL_W + DIRECT + i, p) =
                            moved(operands.word(part, eight, i * 2 + 1 + p));
#pragma unroll
            for (int p = 0; p < 2; p++)
                if (OCTETS % 2)
                    operands.at(part, OCTETS, p) = 0;
        }
        operands.pin();
        if (WHICH == 1)
            mbarrier_arrive(full + 8 * STAGES);
    }
};
