#include "gen/cuda/trim.h"

#include <string.h>

#include "gen/cuda/trim_text.h"

enum { ROUNDS_MAX = 40 };

/* In the order of a round: what folding leaves over is dropped, what dropping leaves over is not
 * reached. */
static void (*const passes[])(sg_trim_unit *) = {
    sg_trim_paragraphs, sg_trim_reach,   sg_trim_fold,      sg_trim_drop,
    sg_trim_templates,  sg_trim_members, sg_trim_constants, sg_trim_tidy};
enum { PASSES = sizeof passes / sizeof *passes };

/* Passes in turn, until all in a row found nothing. Each text lives in one of two arenas, with all
 * that is known of it, while the next is made. The result lives in one of them. */
static const char *to_fixed_point(sg_arena arenas[2], const char *text) {
    sg_trim_unit unit;
    int idle = 0, turn = 0;
    if (!sg_trim_read(&unit, &arenas[turn], text))
        return text;
    for (int i = 0; idle < PASSES && i < ROUNDS_MAX * PASSES; i++) {
        passes[i % PASSES](&unit);
        idle = unit.edit_count ? 0 : idle + 1;
        if (unit.edit_count == 0)
            continue;
        text = sg_trim_apply(&unit);
        turn = 1 - turn;
        sg_arena_release(&arenas[turn]);
        if (!text || !sg_trim_read(&unit, &arenas[turn], text))
            break;
    }
    return text;
}

const char *sg_cuda_trim(sg_arena *arena, const char *source) {
    sg_arena arenas[2] = {0}, scratch = {0};
    const char *text = to_fixed_point(arenas, source);
    bool failed = sg_arena_failed(&arenas[0]) || sg_arena_failed(&arenas[1]);
    text = text && !failed ? sg_trim_lay_out(&scratch, text) : NULL;
    const char *result =
        text && !sg_arena_failed(&scratch) ? sg_arena_text(arena, text, strlen(text)) : NULL;
    sg_arena_release(&arenas[0]);
    sg_arena_release(&arenas[1]);
    sg_arena_release(&scratch);
    return result;
}
