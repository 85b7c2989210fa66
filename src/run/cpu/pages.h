/* Large pages for large results. */
#ifndef SEGUE_RUN_CPU_PAGES_H
#define SEGUE_RUN_CPU_PAGES_H

#include <stddef.h>

/* Asks the system to back memory that is about to be written whole by large pages. Fresh memory of
 * hundreds of megabytes otherwise costs more time in page faults than in arithmetic: measured, 145
 * ms of 165 ms for writing 136 MB once, against 11 ms of 31 ms with large pages. Memory that has
 * its pages already is left as it is. Only a hint: where it is refused nothing changes. */
void sg_advise_large_pages(void *data, size_t size);

#endif
