#include "gen/cuda/trim.h"

#include <string.h>

#include "gen/cuda/trim_text.h"

enum { ROUNDS_MAX = 40 };

/* In the order of a round: what folding leaves over is dropped, what dropping leaves over is not
 * reached. */
static void (*const passes[])(sg_trim_unit *) = {sg_trim_reach, sg_trim_fold, sg_trim_drop};
enum { PASSES = sizeof passes / sizeof *passes };

/* Passes in turn, until all in a row found nothing. */
static const char *to_fixed_point(sg_arena *arena, const char *text) {
    int idle = 0;
    for (int i = 0; text && idle < PASSES && i < ROUNDS_MAX * PASSES; i++) {
        sg_trim_unit unit;
        if (!sg_trim_read(&unit, arena, text))
            break;
        passes[i % PASSES](&unit);
        idle = unit.edit_count ? 0 : idle + 1;
        if (unit.edit_count)
            text = sg_trim_apply(&unit);
    }
    return text;
}

const char *sg_cuda_trim(sg_arena *arena, const char *source) {
    sg_arena scratch = {0};
    const char *text = to_fixed_point(&scratch, source);
    text = text ? sg_trim_lay_out(&scratch, text) : NULL;
    const char *result =
        text && !sg_arena_failed(&scratch) ? sg_arena_text(arena, text, strlen(text)) : NULL;
    sg_arena_release(&scratch);
    return result;
}
