#include "build/nvrtc.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* nvrtcProgram and nvrtcResult of nvrtc.h, which need not be installed where Segue is built. */
typedef void *nvrtc_program;
enum { NVRTC_SUCCESS = 0, NVRTC_INVALID_OPTION = 5 };

typedef struct sg_nvrtc {
    int major, minor;
    const char *(*get_error)(int result);
    int (*create)(nvrtc_program *program, const char *source, const char *name, int headers,
                  const char *const *header_texts, const char *const *header_names);
    int (*compile)(nvrtc_program program, int count, const char *const *options);
    int (*destroy)(nvrtc_program *program);
    int (*log_size)(nvrtc_program program, size_t *size);
    int (*log)(nvrtc_program program, char *text);
    int (*cubin_size)(nvrtc_program program, size_t *size);
    int (*cubin)(nvrtc_program program, char *data);
} sg_nvrtc;

static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2",
                                    "libnvrtc.so"};
enum { NAME_COUNT = sizeof names / sizeof names[0] };

static sg_nvrtc opened;
static atomic_bool is_open;
static char *given_path;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void sg_cuda_set_nvrtc(const char *path) {
    char *copy = path ? strdup(path) : NULL;
    pthread_mutex_lock(&lock);
    free(given_path);
    given_path = copy;
    pthread_mutex_unlock(&lock);
}

/* ---- opening ------------------------------------------------------------------------------- */

/* Function pointers and data pointers are of one size here (POSIX); C knows no cast between them.
 */
static bool find(void *library, const char *name, void *function) {
    void *found = dlsym(library, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

/* A library without cubins (before CUDA 11.2) is of no use. */
static bool fill(void *library, sg_nvrtc *nvrtc) {
    int (*version)(int *major, int *minor);
    bool ok = find(library, "nvrtcVersion", &version) &&
              find(library, "nvrtcGetErrorString", &nvrtc->get_error) &&
              find(library, "nvrtcCreateProgram", &nvrtc->create) &&
              find(library, "nvrtcCompileProgram", &nvrtc->compile) &&
              find(library, "nvrtcDestroyProgram", &nvrtc->destroy) &&
              find(library, "nvrtcGetProgramLogSize", &nvrtc->log_size) &&
              find(library, "nvrtcGetProgramLog", &nvrtc->log) &&
              find(library, "nvrtcGetCUBINSize", &nvrtc->cubin_size) &&
              find(library, "nvrtcGetCUBIN", &nvrtc->cubin);
    return ok && version(&nvrtc->major, &nvrtc->minor) == NVRTC_SUCCESS;
}

/* NVRTC opens libnvrtc-builtins.so.MAJOR.MINOR by name. It lies beside NVRTC, but in a package of
 * the host's that is not on the loader's paths; once open, its name alone will do. */
static void open_builtins(void *inside, const sg_nvrtc *nvrtc) {
    Dl_info info;
    sg_text path = {0};
    if (!dladdr(inside, &info) || !info.dli_fname)
        return;
    const char *slash = strrchr(info.dli_fname, '/');
    int folder = slash ? (int)(slash + 1 - info.dli_fname) : 0;
    sg_text_add(&path, "%.*slibnvrtc-builtins.so.%d.%d", folder, info.dli_fname, nvrtc->major,
                nvrtc->minor);
    if (path.data)
        dlopen(path.data, RTLD_LAZY | RTLD_LOCAL);
    sg_text_release(&path);
}

static bool try_open(const char *name, sg_text *tried) {
    if (!name || !name[0])
        return false;
    /* The environment may name any library: it is the user's own. */
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL); /* NOLINT(clang-analyzer-optin.taint*) */
    if (!library) {
        const char *why = dlerror();
        sg_text_add(tried, "; %s", why ? why : name);
        return false;
    }
    if (fill(library, &opened)) { /* and stays open: threads may be inside at exit */
        open_builtins(dlsym(library, "nvrtcVersion"), &opened);
        return true;
    }
    sg_text_add(tried, "; %s is not an NVRTC that makes cubins (CUDA 11.2 or later)", name);
    dlclose(library);
    return false;
}

static sg_status open_locked(sg_context *context) {
    sg_text tried = {0};
    bool ok = try_open(getenv("SEGUE_NVRTC"), &tried) || try_open(given_path, &tried);
    for (int i = 0; i < NAME_COUNT && !ok; i++)
        ok = try_open(names[i], &tried);
    if (ok)
        atomic_store_explicit(&is_open, true, memory_order_release);
    else
        sg_note(context,
                "no NVRTC (libnvrtc.so), CUDA's run-time compiler, on this machine: install the "
                "CUDA toolkit, or name the library in SEGUE_NVRTC%s",
                tried.data ? tried.data : "");
    sg_text_release(&tried);
    return ok ? SG_OK : SG_NOT_APPLICABLE;
}

sg_status sg_nvrtc_open(sg_context *context, int *major, int *minor) {
    sg_status status = SG_OK;
    if (!atomic_load_explicit(&is_open, memory_order_acquire)) {
        pthread_mutex_lock(&lock);
        if (!atomic_load_explicit(&is_open, memory_order_relaxed))
            status = open_locked(context);
        pthread_mutex_unlock(&lock);
    }
    *major = opened.major;
    *minor = opened.minor;
    return status;
}

/* ---- compiling ----------------------------------------------------------------------------- */

enum { OPTIONS_MAX = 8, LOG_SHOWN = 700 };

/* Splits SG_NVRTC_OPTIONS at its spaces, in place in `words`. */
static int list_options(char *words, const char *architecture, const char **options) {
    int count = 0;
    options[count++] = architecture;
    char *rest = NULL;
    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        options[count++] = word;
    return count;
}

static sg_status refuse(sg_context *context, nvrtc_program program, int result,
                        const char *architecture) {
    if (result == NVRTC_INVALID_OPTION)
        return sg_fail(context, SG_NOT_APPLICABLE,
                       "NVRTC %d.%d does not compile for %s; another version is needed",
                       opened.major, opened.minor, architecture);
    size_t size = 0;
    char *log = NULL;
    if (program && opened.log_size(program, &size) == NVRTC_SUCCESS && size > 1)
        log = malloc(size);
    if (log && opened.log(program, log) != NVRTC_SUCCESS)
        log[0] = '\0';
    /* From the first error on; warnings come before it. */
    char *error = log ? strstr(log, "error") : NULL;
    while (error && error > log && error[-1] != '\n')
        error--;
    sg_note(context, "NVRTC %d.%d refuses a kernel (%s)%s%.*s", opened.major, opened.minor,
            opened.get_error(result), log ? ": " : "", LOG_SHOWN,
            error ? error
            : log ? log
                  : "");
    free(log);
    return SG_INVALID;
}

static sg_status take_cubin(sg_context *context, nvrtc_program program, const char *architecture,
                            void **cubin, size_t *size) {
    int result = opened.cubin_size(program, size);
    if (result != NVRTC_SUCCESS || *size == 0)
        return refuse(context, program, result, architecture);
    char *data = malloc(*size);
    if (!data)
        return sg_fail_memory(context);
    result = opened.cubin(program, data);
    if (result != NVRTC_SUCCESS) {
        free(data);
        return refuse(context, program, result, architecture);
    }
    *cubin = data;
    return SG_OK;
}

sg_status sg_nvrtc_compile(sg_context *context, const char *source, const char *architecture,
                           void **cubin, size_t *size) {
    int major, minor;
    char words[] = SG_NVRTC_OPTIONS, option[48];
    const char *options[OPTIONS_MAX];
    sg_status status = sg_nvrtc_open(context, &major, &minor);
    if (status != SG_OK)
        return status;
    snprintf(option, sizeof option, "--gpu-architecture=%s", architecture);
    int count = list_options(words, option, options);
    if (major >= 13) /* it keeps cubins as we do, in CUDA's cache: once is enough */
        options[count++] = "--no-cache";
    nvrtc_program program = NULL;
    int result = opened.create(&program, source, "segue.cu", 0, NULL, NULL);
    if (result == NVRTC_SUCCESS)
        result = opened.compile(program, count, options);
    status = result == NVRTC_SUCCESS ? take_cubin(context, program, architecture, cubin, size)
                                     : refuse(context, program, result, architecture);
    if (program)
        opened.destroy(&program);
    return status;
}
