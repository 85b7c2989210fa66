/* The kernel cache and NVRTC, without a GPU. Where there is no NVRTC, the sentence that says so. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build/cache.h"
#include "build/cubin.h"
#include "unit.h"

/* ---- a cache folder of its own -------------------------------------------------------------- */

typedef struct scratch {
    char folder[200];
    char *before; /* SEGUE_CACHE_DIR */
} scratch;

static void enter(scratch *made) {
    const char *before = getenv("SEGUE_CACHE_DIR");
    made->before = before ? strdup(before) : NULL;
    snprintf(made->folder, sizeof made->folder, "/tmp/segue-test-XXXXXX");
    REQUIRE(mkdtemp(made->folder) != NULL);
    setenv("SEGUE_CACHE_DIR", made->folder, 1);
}

/* Path of the cache's n-th file; "" past the last. Returns how many there are. */
static int list(const scratch *made, int n, char *path, size_t size) {
    char folder[300];
    int count = 0;
    snprintf(folder, sizeof folder, "%s/kernels", made->folder);
    path[0] = '\0';
    DIR *open = opendir(folder);
    for (struct dirent *entry = open ? readdir(open) : NULL; entry; entry = readdir(open)) {
        if (entry->d_name[0] != '.' && count++ == n)
            snprintf(path, size, "%s/%s", folder, entry->d_name);
    }
    if (open)
        closedir(open);
    return count;
}

static void leave(scratch *made) {
    char path[600];
    while (list(made, 0, path, sizeof path) > 0)
        unlink(path);
    snprintf(path, sizeof path, "%s/kernels", made->folder);
    rmdir(path);
    rmdir(made->folder);
    if (made->before)
        setenv("SEGUE_CACHE_DIR", made->before, 1);
    else
        unsetenv("SEGUE_CACHE_DIR");
    free(made->before);
}

/* Whether the cache holds exactly this under the key. */
static bool holds(const char *key, const char *text) {
    void *data = NULL;
    size_t size = 0;
    bool found = sg_cache_find(key, &data, &size);
    bool same = found && size == strlen(text) && memcmp(data, text, size) == 0;
    if (found)
        free(data);
    return same;
}

static bool absent(const char *key) {
    void *data;
    size_t size;
    bool found = sg_cache_find(key, &data, &size);
    if (found)
        free(data);
    return !found;
}

/* ---- the cache ------------------------------------------------------------------------------ */

TEST(keeps_and_finds) {
    scratch here;
    enter(&here);
    EXPECT(absent("one"));
    sg_cache_keep("one", "first", 5);
    sg_cache_keep("two", "second", 6);
    EXPECT(holds("one", "first"));
    EXPECT(holds("two", "second"));
    EXPECT(absent("three"));
    sg_cache_keep("one", "anew", 4);
    EXPECT(holds("one", "anew"));
    leave(&here);
}

/* What a crash, a full disk or a stray write leaves must not reach a device. */
TEST(damaged_files_count_as_absent) {
    scratch here;
    char path[600], bytes[400];
    enter(&here);
    sg_cache_keep("key", "the cubin", 9);
    EXPECT_EQ_INT(list(&here, 0, path, sizeof path), 1);
    FILE *file = fopen(path, "rb");
    REQUIRE(file != NULL);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    for (size_t i = 0; i <= 2 * size; i++) {
        CASE("byte %d", (int)i);
        /* Cut off after i bytes, or whole with one byte changed; size bytes are too many. */
        size_t length = i < size ? i : size;
        if (i > size)
            bytes[i - size - 1] = (char)(bytes[i - size - 1] ^ 1);
        file = fopen(path, "wb");
        REQUIRE(file != NULL);
        fwrite(bytes, 1, length, file);
        if (i == size)
            fputc('x', file);
        fclose(file);
        EXPECT(absent("key"));
        if (i > size)
            bytes[i - size - 1] = (char)(bytes[i - size - 1] ^ 1);
    }
    sg_cache_keep("key", "the cubin", 9);
    EXPECT(holds("key", "the cubin"));
    leave(&here);
}

/* Another key's file under this key's name, as a collision of hashes would leave it. */
TEST(collisions_count_as_absent) {
    scratch here;
    char first[600], second[600];
    enter(&here);
    sg_cache_keep("ours", "ours", 4);
    list(&here, 0, first, sizeof first);
    sg_cache_keep("other", "other", 5);
    list(&here, 0, second, sizeof second);
    if (strcmp(first, second) == 0)
        list(&here, 1, second, sizeof second);
    EXPECT(rename(second, first) == 0);
    EXPECT(absent("ours"));
    EXPECT(absent("other"));
    leave(&here);
}

/* Processes that write the same entries at once: readers see a whole file or none. */
TEST(processes_share_it) {
    enum { PROCESSES = 3, ROUNDS = 200, KEYS = 5 };
    scratch here;
    char path[600];
    enter(&here);
    pid_t children[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        if (children[i] != 0)
            continue;
        int wrong = 0;
        for (int k = 0; k < ROUNDS; k++) {
            char key[20], text[20];
            snprintf(key, sizeof key, "key %d", k % KEYS);
            snprintf(text, sizeof text, "text %d", k % KEYS);
            sg_cache_keep(key, text, strlen(text));
            wrong += !holds(key, text); /* written by somebody, and always the same */
        }
        _exit(wrong ? 1 : 0);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = 1;
        EXPECT(children[i] > 0 && waitpid(children[i], &status, 0) == children[i]);
        EXPECT_EQ_INT(status, 0);
    }
    EXPECT_EQ_INT(list(&here, 0, path, sizeof path), KEYS); /* and nothing half-written */
    leave(&here);
}

TEST(no_folder_is_no_error) {
    scratch here;
    enter(&here);
    setenv("SEGUE_CACHE_DIR", "/dev/null/nowhere", 1);
    sg_cache_keep("key", "text", 4);
    EXPECT(absent("key"));
    leave(&here);
}

/* ---- NVRTC ---------------------------------------------------------------------------------- */

static const char *const fill = "extern \"C\" __global__ void segue_fill(float *x) {\n"
                                "    x[blockIdx.x * blockDim.x + threadIdx.x] = 1.0f;\n}\n";

static bool is_elf(const sg_cubin *cubin) {
    return cubin->data && cubin->size > 4 && memcmp(cubin->data, "\177ELF", 4) == 0;
}

TEST(builds_for_architectures_without_a_device) {
    sg_context context = {0};
    scratch here;
    int major, minor;
    enter(&here);
    if (sg_nvrtc_open(&context, &major, &minor) != SG_OK) {
        EXPECT_CONTAINS(context.message, "no NVRTC (libnvrtc.so)");
        EXPECT_CONTAINS(context.message, "SEGUE_NVRTC");
        leave(&here);
        return;
    }
    sg_cubin cubins[] = {{.source = fill, .architecture = "sm_80"},
                         {.source = fill, .architecture = "sm_90a"}};
    EXPECT(sg_cubins_build(&context, cubins, 2) == SG_OK);
    for (int i = 0; i < 2; i++) {
        EXPECT(is_elf(&cubins[i]) && !cubins[i].from_cache);
        free(cubins[i].data);
    }
    EXPECT(sg_cubins_build(&context, cubins, 2) == SG_OK);
    for (int i = 0; i < 2; i++) {
        EXPECT(is_elf(&cubins[i]) && cubins[i].from_cache);
        free(cubins[i].data);
    }
    leave(&here);
}

TEST(refusals_are_sentences) {
    sg_context context = {0};
    scratch here;
    int major, minor;
    enter(&here);
    if (sg_nvrtc_open(&context, &major, &minor) == SG_OK) {
        sg_cubin cubins[] = {{.source = fill, .architecture = "sm_90a"},
                             {.source = "int f() { return undefined; }", .architecture = "sm_80"}};
        EXPECT(sg_cubins_build(&context, cubins, 2) == SG_INVALID);
        EXPECT_CONTAINS(context.message, "refuses a kernel");
        EXPECT_CONTAINS(context.message, "\"undefined\" is undefined");
        EXPECT(!cubins[0].data && !cubins[1].data);
        cubins[0].architecture = "sm_12";
        EXPECT(sg_cubins_build(&context, cubins, 1) == SG_NOT_APPLICABLE);
        EXPECT_CONTAINS(context.message, "does not compile for sm_12");
    }
    leave(&here);
}
