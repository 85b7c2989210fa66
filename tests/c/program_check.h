/* Compiles a graph, runs it between sentinels and holds the results against the float64
 * interpreter.
 *
 * Results are compared norm-wise. What is allowed follows from the graph itself: how far its
 * results move when every input and every computed value moves by about a unit in the last place.
 * NaN and infinities must stand where they stand in float64. */
#ifndef SEGUE_TESTS_PROGRAM_CHECK_H
#define SEGUE_TESTS_PROGRAM_CHECK_H

#include "random.h"
#include "segue.h"

enum { CHECK_INPUTS_MAX = 40, CHECK_OUTPUTS_MAX = 16, CHECK_VALUES_MAX = 120 };

/* What an input is filled with. */
typedef enum check_fill {
    CHECK_REAL,     /* [-1, 1) */
    CHECK_POSITIVE, /* [0.5, 2.5) */
    CHECK_INTEGER,  /* -3 to 3 */
    CHECK_SPECIAL,  /* as REAL, with NaN, infinities, -0.0, 1e30 and 1e-30 among them */
} check_fill;

typedef struct program_check {
    sg_graph *graph; /* sizes are numbers */
    sg_layout inputs[CHECK_INPUTS_MAX];
    check_fill fill[CHECK_INPUTS_MAX];
    const sg_layout *outputs; /* NULL: contiguous */
    const char *isa;
    int threads;
    uint64_t seed;                /* of the numbers */
    bool any_plan;                /* a random plan in place of the planner's */
    bool exact[CHECK_VALUES_MAX]; /* by value: the same in every precision, so it does not move */
} program_check;

/* Fails the test, and says on what graph, when something is wrong. */
bool program_check_run(const program_check *check);

/* The same for graph text with contiguous f32 operands; "N=2" binds its sizes. */
bool program_check_text(const char *text, const char *sizes, const char *isa, int threads,
                        check_fill fill);

/* The instruction sets this machine has; returns how many. */
int check_isas(const char *names[3]);

#endif
