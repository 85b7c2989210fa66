/* What the planner chooses for a kernel on the CPU. */
#ifndef SEGUE_PLAN_CPU_PLAN_H
#define SEGUE_PLAN_CPU_PLAN_H

#include <stdint.h>

/* Runs are whole cache lines of single or double precision, whatever the vector length. */
enum { SG_RUN_STEP = 16 };

typedef struct sg_cpu_plan {
    int64_t box[3]; /* pixels (D, H, W) taken at once: of one item where kept, of one step where
                       walked */
    int64_t run;    /* pixels of one tile, a multiple of SG_RUN_STEP */
    int64_t chunk;  /* input channels contracted before other output channels have their turn */
    int64_t sum;    /* products summed in registers before they are added to the tile */
} sg_cpu_plan;

static inline int64_t sg_round_up(int64_t value, int64_t step) {
    return (value + step - 1) / step * step;
}

#endif
