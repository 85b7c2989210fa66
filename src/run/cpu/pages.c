#include "run/cpu/pages.h"

#include <stdint.h>
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

/* Below this, a few faults cost less than the call. */
static const size_t WORTH_IT = (size_t)4 << 20;

void sg_advise_large_pages(void *data, size_t size) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (size < WORTH_IT)
        return;
    /* Whole pages inside the range: neighbours in the caller's heap stay as they are. */
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)data + page - 1) / page * page;
    uintptr_t to = ((uintptr_t)data + size) / page * page;
    if (from < to)
        (void)madvise((void *)from, to - from,
                      MADV_HUGEPAGE); /* NOLINT(performance-no-int-to-ptr) */
#else
    (void)data;
    (void)size;
    (void)WORTH_IT;
#endif
}
