/* The program around one kernel, taken in after its source; ENTRY is its name.
 *
 *     kernel MEMORY GRID THREADS WORDS
 *
 * MEMORY: a file that holds every tensor and the workspace; read, worked on, written back. WORDS:
 * the kernel's parameter, a line a word: "0 number", or "1 offset" for an address in MEMORY. */
static Arguments emu_arguments;
static void emu_entry() {
    ENTRY(emu_arguments);
    int me = (int)threadIdx.x;
    emu_done[me] = true;
    emu_idle = 0;
    if (--emu_left == 0) {
        setcontext(&emu_main);
    }
    int to = me;
    do
        to = to + 1 == emu_threads ? 0 : to + 1;
    while (emu_done[to]);
    threadIdx.x = (unsigned)to;
    setcontext(&emu_contexts[to]);
}
int main(int, char **argv) {
    FILE *f = fopen(argv[1], "r+b");
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    unsigned char *m = (unsigned char *)aligned_alloc(256, (size + 511) / 256 * 256);
    if (fread(m, 1, size, f) != (size_t)size)
        return 4;
    long grid = atol(argv[2]);
    emu_threads = atoi(argv[3]);
    FILE *w = fopen(argv[4], "r");
    static long long words[512];
    int n = 0, kind;
    long long number;
    while (fscanf(w, "%d %lld", &kind, &number) == 2)
        words[n++] = kind ? (long long)(m + number) : number;
    if (sizeof emu_arguments != n * 8ul) {
        fprintf(stderr, "words %d, struct %zu\n", n, sizeof emu_arguments / 8);
        return 5;
    }
    memcpy((void *)&emu_arguments, words, sizeof emu_arguments);
    blockDim.x = (unsigned)emu_threads;
    gridDim.x = (unsigned)grid;
    emu_shared = (unsigned char *)aligned_alloc(1024, 512 << 10);
    for (int i = 0; i < emu_threads; i++)
        emu_stacks.push_back((char *)malloc(EMU_STACK));
    for (long b = 0; b < grid; b++) {
        memset(emu_shared, 0xff, 512 << 10);
        emu_mbarriers.clear();
        memset(emu_bar_count, 0, sizeof emu_bar_count);
        memset(emu_or, 0, sizeof emu_or);
        memset(emu_warp_count, 0, sizeof emu_warp_count);
        blockIdx.x = (unsigned)b;
        emu_left = emu_threads;
        emu_idle = 0;
        for (int i = 0; i < emu_threads; i++) {
            emu_done[i] = false;
            getcontext(&emu_contexts[i]);
            emu_contexts[i].uc_stack.ss_sp = emu_stacks[i];
            emu_contexts[i].uc_stack.ss_size = EMU_STACK;
            emu_contexts[i].uc_link = nullptr;
            makecontext(&emu_contexts[i], emu_entry, 0);
        }
        threadIdx.x = 0;
        swapcontext(&emu_main, &emu_contexts[0]);
    }
    rewind(f);
    if (fwrite(m, 1, size, f) != (size_t)size)
        return 6;
    fclose(f);
    return 0;
}
