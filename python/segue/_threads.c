/* PyTorch's threads, borrowed. PyTorch for Linux brings its OpenMP runtime along and makes its
 * symbols global; Segue's programs then run on the same threads as PyTorch's own operators. Two
 * pools would take each other's processors: a pool that has just worked spins for milliseconds
 * waiting for more. */
#include "_core.h"

#include <dlfcn.h>

/* The entry that compilers call for `#pragma omp parallel`; part of libgomp's stable ABI, and
 * offered by LLVM's runtime too. */
typedef void (*gomp_parallel)(void (*body)(void *), void *argument, unsigned threads,
                              unsigned flags);
static gomp_parallel parallel;

static void run_parallel(void (*body)(void *argument), void *argument, int threads) {
    parallel(body, argument, (unsigned)threads, 0);
}

PyObject *sgpy_share_threads(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    void *symbol = dlsym(RTLD_DEFAULT, "GOMP_parallel");
    if (!symbol)
        Py_RETURN_FALSE;
    /* POSIX's way from an object pointer to a function pointer. */
    *(void **)&parallel = symbol;
    sg_set_thread_pool(run_parallel);
    Py_RETURN_TRUE;
}
