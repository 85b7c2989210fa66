/* The trimmer, pass by pass, on sources of a few lines. */
#include <stdio.h>
#include <string.h>

#include "gen/cuda/trim.h"
#include "unit.h"

#define ENTRY "extern \"C\" __global__ void entry(const __grid_constant__ Arguments a) "
#define HEAD  "struct Arguments {\n    float *out;\n    long long count;\n};\n\n"

/* What becomes of a body of the entry, and of declarations before it. */
static void expect_source(const char *before, const char *body, const char *before_expected,
                          const char *body_expected) {
    char source[4096], expected[4096];
    sg_arena arena = {0};
    snprintf(source, sizeof source, HEAD "%s" ENTRY "{\n%s}\n", before, body);
    snprintf(expected, sizeof expected, HEAD "%s" ENTRY "{\n%s}\n", before_expected, body_expected);
    EXPECT_STR(sg_cuda_trim(&arena, source), expected);
    sg_arena_release(&arena);
}

static void expect_body(const char *before, const char *body, const char *body_expected) {
    expect_source(before, body, "", body_expected);
}

/* ---- what is reached ----------------------------------------------------------------------- */

TEST(unreached_declarations_go_with_their_comments) {
    expect_source("/* Used. */\n__device__ int used(int x) {\n    return x + 1;\n}\n"
                  "/* Not used. */\n__device__ int unused(int x) {\n    return used(x) + 1;\n}\n\n"
                  "constexpr int A = 3, B = 4, C = 5;\n\n",
                  "    a.out[0] = used(threadIdx.x) + B * B;\n",
                  "/* Used. */\n__device__ int used(int x) {\n    return x + 1;\n}\n\n"
                  "constexpr int B = 4;\n\n",
                  "    a.out[0] = used(threadIdx.x) + B * B;\n");
}

TEST(a_comparison_is_no_call) {
    static const char row[] = "__device__ int row(int x) {\n    return x;\n}\n\n";
    static const char body[] = "    int row = threadIdx.x;\n    if (row < 3)\n"
                               "        a.out[row] = 0;\n";
    expect_body(row, body, body);
}

TEST(overloads_go_by_the_types_that_occur) {
    static const char floats[] =
        "__device__ float load(const float *from) {\n    return *from;\n}\n";
    char both[1024];
    snprintf(both, sizeof both,
             "struct half_t {\n    unsigned short bits;\n};\n\n%s"
             "__device__ float load(const half_t *from) {\n    return widen(*from);\n}\n\n",
             floats);
    char one[1024];
    snprintf(one, sizeof one, "%s\n", floats);
    expect_source(both, "    a.out[0] = load(a.out + 1);\n", one,
                  "    a.out[0] = load(a.out + 1);\n");
}

TEST(members_go_where_nothing_names_them) {
    expect_source("struct Tile {\n    int kept;\n    int gone; /* with this */\n\n"
                  "    /* Gone. */\n    __device__ int other() const { return gone; }\n"
                  "    __device__ int value() const { return kept; }\n};\n\n",
                  "    Tile tile;\n    tile.kept = threadIdx.x;\n    a.out[0] = tile.value();\n",
                  "struct Tile {\n    int kept;\n\n"
                  "    __device__ int value() const { return kept; }\n};\n\n",
                  "    Tile tile;\n    tile.kept = threadIdx.x;\n    a.out[0] = tile.value();\n");
}

TEST(members_go_where_they_are_only_assigned) {
    expect_source("struct Tile {\n    int kept;\n    int gone; /* with this */\n};\n\n",
                  "    int gone = threadIdx.x;\n    Tile tile;\n    tile.gone = gone + 1;\n"
                  "    tile.kept = gone;\n    a.out[0] = tile.kept;\n",
                  "struct Tile {\n    int kept;\n};\n\n",
                  "    int gone = threadIdx.x;\n    Tile tile;\n    tile.kept = gone;\n"
                  "    a.out[0] = tile.kept;\n");
}

TEST(assigned_members_stay_where_a_function_of_the_struct_reads_them) {
    static const char tile[] = "struct Tile {\n    int kept;\n\n"
                               "    __device__ int value() const { return kept; }\n};\n\n";
    static const char body[] =
        "    Tile tile;\n    tile.kept = threadIdx.x;\n    a.out[0] = tile.value();\n";
    expect_source(tile, body, tile, body);
}

TEST(members_that_are_one_number_become_it) {
    expect_source(
        "constexpr int SIZE = 4;\n\nstruct Part {\n    int first, end;\n    int unit;\n};\n\n"
        "__device__ Part part_of(int unit) {\n    Part part;\n    part.first = 0 * SIZE;\n"
        "    part.end = min(part.first + SIZE, 3);\n    part.unit = unit;\n"
        "    return part;\n}\n\n",
        "    const Part part = part_of(threadIdx.x);\n"
        "    a.out[part.unit] = part.end - part.first;\n",
        "struct Part {\n    int unit;\n};\n\n"
        "__device__ Part part_of(int unit) {\n    Part part;\n"
        "    part.unit = unit;\n    return part;\n}\n\n",
        "    const Part part = part_of(threadIdx.x);\n    a.out[part.unit] = 3;\n");
}

/* Not where a list, a reference or a second assignment may give them another. */
TEST(members_of_more_than_one_number_stay) {
    static const char *const others[] = {
        "    Part other = {2};\n    part.first = other.first;\n",
        "    change(part.first);\n",
        "    part.first = 5;\n",
    };
    static const char before[] = "struct Part {\n    int first;\n};\n\n"
                                 "__device__ void change(int &x) {\n    x++;\n}\n\n";
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char body[512];
        snprintf(body, sizeof body,
                 "    Part part;\n    part.first = 1;\n%s    int x = 0;\n    change(x);\n"
                 "    a.out[x] = part.first;\n",
                 others[i]);
        CASE("%s", others[i]);
        expect_source(before, body, before, body);
    }
}

TEST(constants_that_are_another_go) {
    expect_source("constexpr int SIZE = 4;\nconstexpr int ITEMS = SIZE;\n"
                  "/* Of a row. */\nconstexpr int WIDTH = SIZE;\n\n",
                  "    a.out[ITEMS] = WIDTH + threadIdx.x;\n",
                  "constexpr int SIZE = 4;\n/* Of a row. */\nconstexpr int WIDTH = SIZE;\n\n",
                  "    a.out[SIZE] = WIDTH + threadIdx.x;\n");
}

TEST(constants_that_pragmas_name_stay) {
    static const char constants[] = "constexpr int SIZE = 4;\nconstexpr int TURNS = SIZE;\n\n";
    static const char loop[] = "#pragma unroll TURNS\n    for (int i = 0; i < a.count; i++)\n"
                               "        a.out[i] = SIZE;\n";
    expect_source(constants, loop, constants, loop);
}

TEST(constants_of_a_block_that_are_one_word) {
    expect_source("constexpr int SIZE = 4;\n\n",
                  "    const int other = SIZE;\n    const int both = SIZE + 1;\n"
                  "    a.out[other] = a.out[both + 2 * other] + both;\n",
                  "constexpr int SIZE = 4;\n\n",
                  "    const int both = SIZE + 1;\n"
                  "    a.out[SIZE] = a.out[both + 2 * SIZE] + both;\n");
}

TEST(members_stay_where_a_list_makes_the_struct) {
    static const char place[] = "struct Place {\n    int n;\n    int d;\n};\n\n";
    expect_source(place, "    Place p = {threadIdx.x, 2};\n    a.out[0] = p.n;\n", place,
                  "    Place p = {threadIdx.x, 2};\n    a.out[0] = p.n;\n");
}

TEST(titles_and_heads_of_nothing_go) {
    sg_arena arena = {0};
    static const char source[] =
        "//@ begin main.cuh\n/* The kernel. */\n//@ begin gone.cuh\n/* Of nothing. */\n\n"
        "__device__ int unused(int x) {\n    return x;\n}\n//@ end\n"
        "//@ begin kept.cuh\n/* Of something.\n *\n * Constants: SIZE. */\n\n"
        "/* ---- of nothing ---- */\n\nconstexpr int SIZE = 1;\n\n/* ---- of something ---- */\n\n"
        "struct Arguments {\n    int *out;\n};\n//@ end\n\n" ENTRY "{\n    a.out[0] = 1;\n}\n"
        "//@ end\n";
    EXPECT_STR(sg_cuda_trim(&arena, source),
               "/* The kernel. */\n\n/* Of something. */\n\n/* ---- of something ---- */\n\n"
               "struct Arguments {\n    int *out;\n};\n\n" ENTRY "{\n    a.out[0] = 1;\n}\n");
    sg_arena_release(&arena);
}

/* ---- what constants decide ----------------------------------------------------------------- */

#define FLAGS "constexpr int ON = 1;\nconstexpr int OFF = 0;\nconstexpr int SIZE = 8;\n\n"

TEST(branches_of_constants) {
    expect_body(FLAGS,
                "    if (ON) {\n        /* Why. */\n        a.out[0] = 1;\n    } else {\n"
                "        a.out[0] = 2;\n    }\n",
                "    /* Why. */\n    a.out[0] = 1;\n");
    expect_body(
        FLAGS,
        "    if (a.count)\n        a.out[0] = 1;\n    else if (OFF)\n        a.out[0] = 2;\n"
        "    else\n        a.out[0] = 3;\n",
        "    if (a.count)\n        a.out[0] = 1;\n    else\n        a.out[0] = 3;\n");
    expect_body(
        FLAGS,
        "    if (a.count)\n        a.out[0] = 1;\n    else if (OFF)\n        a.out[0] = 2;\n"
        "    a.out[1] = 3;\n",
        "    if (a.count)\n        a.out[0] = 1;\n    a.out[1] = 3;\n");
    expect_body(FLAGS,
                "    for (int i = 0; i < a.count; i++)\n        if (OFF)\n"
                "            a.out[i] = 1;\n",
                "");
}

TEST(braces_stay_where_names_would_meet) {
    expect_body(FLAGS,
                "    if (ON) {\n        const int x = a.count;\n        a.out[x] = 1;\n    }\n"
                "    const int x = threadIdx.x;\n    a.out[x] = 2;\n",
                "    {\n        const int x = a.count;\n        a.out[x] = 1;\n    }\n"
                "    const int x = threadIdx.x;\n    a.out[x] = 2;\n");
}

TEST(nothing_stays_behind_a_jump) {
    expect_body(FLAGS,
                "    for (int i = 0; i < a.count; i++) {\n        if (ON) {\n"
                "            a.out[i] = 1;\n            continue;\n        }\n"
                "        a.out[i] = 2;\n    }\n",
                "    for (int i = 0; i < a.count; i++) {\n        a.out[i] = 1;\n    }\n");
}

TEST(loops_that_do_nothing_and_steps_that_follow_anyhow) {
    expect_body("", "    for (int i = 0; i < 4; i++)\n        ;\n    a.out[0] = 1;\n",
                "    a.out[0] = 1;\n");
    expect_body("",
                "    for (int i = 0; i < 4; i++) {\n        a.out[i] = i;\n"
                "        a.out[i + 4] = i;\n        continue;\n    }\n",
                "    for (int i = 0; i < 4; i++) {\n        a.out[i] = i;\n"
                "        a.out[i + 4] = i;\n    }\n");
}

TEST(loops_of_no_trip_and_of_one) {
    expect_body(FLAGS,
                "#pragma unroll\n    for (int i = 0; i < OFF; i++)\n        a.out[i] = 1;\n"
                "    a.out[1] = 2;\n",
                "    a.out[1] = 2;\n");
    expect_body(FLAGS,
                "#pragma unroll\n    for (int i = 0; i < ON; i++) {\n"
                "        const float x = a.out[i * 4 + 1];\n        a.out[2 + i] = x;\n    }\n",
                "    const float x = a.out[1];\n    a.out[2] = x;\n");
    expect_source("constexpr int SIZE = 8;\n\n",
                  "    for (int i = 0; i < SIZE; i++)\n        a.out[i] = SIZE;\n",
                  "constexpr int SIZE = 8;\n\n",
                  "    for (int i = 0; i < SIZE; i++)\n        a.out[i] = SIZE;\n");
}

TEST(operands_of_constants) {
    static const char *const cases[][2] = {
        {"ON ? a.count : 2", "a.count"},
        {"(OFF ? 1 : a.count + 1) * 2", "(a.count + 1) * 2"},
        {"a.count * ON + OFF", "a.count"},
        {"a.count % ON", "0"},
        {"(a.count + OFF) / 4", "a.count / 4"},
        {"OFF * a.count + 3", "3"},
        {"4 - (a.count - OFF)", "4 - a.count"},
        {"(a.count - 1) * ON - 1", "a.count - 1 - 1"},
        {"2 << (a.count + OFF + 1)", "2 << (a.count + 1)"},
        {"a.count > 3 && ON", "a.count > 3"},
        {"a.count && ON", "a.count && 1"}, /* 1, and not the count */
        {"(ON && a.count) ? 1 : 2", "a.count ? 1 : 2"},
        {"OFF || a.count < 2 || OFF", "a.count < 2"},
        {"(int)(a.count * ON)", "(int)a.count"},
        {"a.out[OFF ? 1 : threadIdx.x + OFF]", "a.out[threadIdx.x]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[256], expected[256];
        CASE("%s", cases[i][0]);
        snprintf(body, sizeof body, "    a.out[0] = %s;\n", cases[i][0]);
        snprintf(expected, sizeof expected, "    a.out[0] = %s;\n", cases[i][1]);
        expect_body(FLAGS, body, expected);
    }
}

TEST(a_choice_of_the_same_is_none) {
    expect_body("", "    a.out[0] = threadIdx.x & 1 ? a.out[1] : a.out[1 + 0];\n",
                "    a.out[0] = a.out[1];\n");
}

TEST(names_of_templates_and_second_declarations_are_no_constants) {
    static const char before[] = "template <int ON> __device__ int scaled(int x) {\n"
                                 "    return ON ? x : 2;\n}\n\n";
    char source[512];
    snprintf(source, sizeof source, "constexpr int ON = 1;\n\n%s", before);
    static const char body[] = "    a.out[0] = scaled<0>(threadIdx.x) + scaled<1>(1) + ON;\n";
    expect_source(source, body, source, body);
}

/* ---- what is left over --------------------------------------------------------------------- */

TEST(calls_of_nothing_and_variables_that_nobody_reads) {
    expect_body("__device__ void nothing(int x) {}\n\n",
                "    const int x = threadIdx.x;\n    nothing(x);\n    a.out[0] = 1;\n",
                "    a.out[0] = 1;\n");
    expect_body("", "    float unread[4] = {}, read[4], other;\n    a.out[0] = read[1];\n",
                "    float read[4];\n    a.out[0] = read[1];\n");
    expect_body("", "    const int zero = 0;\n    a.out[zero] = 1;\n", "    a.out[0] = 1;\n");
}

TEST(parameters_that_nobody_reads_or_that_are_one_number) {
    expect_source(
        "__device__ int sum(int x, int unread, int y) {\n    return x + 2 * y;\n}\n\n",
        "    a.out[0] = sum(threadIdx.x, 7, 3);\n    a.out[1] = sum(2, threadIdx.x, 3);\n",
        "__device__ int sum(int x) {\n    return x + 2 * 3;\n}\n\n",
        "    a.out[0] = sum(threadIdx.x);\n    a.out[1] = sum(2);\n");
}

/* ---- what constants say -------------------------------------------------------------------- */

TEST(constants_that_say_no_more_than_their_number) {
    expect_source("constexpr int ONE = 1, SIZE = 24, TURNS = 6;\nconstexpr bool EVEN = true;\n\n",
                  "#pragma unroll TURNS\n    for (int i = 0; i < SIZE; i++)\n"
                  "        a.out[i + ONE] = take(i, EVEN, ONE);\n",
                  "",
                  "#pragma unroll 6\n    for (int i = 0; i < 24; i++)\n"
                  "        a.out[i + 1] = take(i, true, 1);\n");
    expect_body("constexpr int AHEAD = 0;\n\n",
                "#pragma unroll AHEAD + 1\n    for (int i = 0; i < a.count; i++)\n"
                "        a.out[i] = 3;\n",
                "#pragma unroll 1\n    for (int i = 0; i < a.count; i++)\n"
                "        a.out[i] = 3;\n");
    expect_body("constexpr int SIZE = 4, TURNS = 8;\n\n",
                "#pragma unroll TURNS\n    for (int i = 0; i < 2 * SIZE; i++)\n"
                "        a.out[i] = 3;\n#pragma unroll TURNS\n"
                "    for (int i = 0; i < a.count; i++)\n        a.out[i] = 2;\n",
                "#pragma unroll\n    for (int i = 0; i < 2 * 4; i++)\n        a.out[i] = 3;\n"
                "#pragma unroll 8\n    for (int i = 0; i < a.count; i++)\n        a.out[i] = 2;\n");
    static const char *const stay[] = {
        "constexpr int SIZE = 24; /* bytes */\n\n", /* what it is for */
        "constexpr int SIZE = 3 * 8;\n\n",          /* how it comes about */
        "constexpr int SIZE = 24;\n\n/* Once for each of SIZE. */\n",
        "constexpr int SIZE = 24;\n#define TWICE (2 * SIZE)\n",
    };
    static const char body[] = "    for (int i = 0; i < SIZE; i++)\n        a.out[i] = i;\n";
    for (size_t i = 0; i < sizeof stay / sizeof *stay; i++) {
        CASE("%s", stay[i]);
        expect_source(stay[i], body, stay[i], body);
    }
}

TEST(dimensions_of_one_go) {
    expect_source(
        "constexpr int PARTS = 1;\n\nstruct Shared {\n    int ring[4][PARTS][8];\n"
        "    int part[PARTS][2];\n\n"
        "    __device__ int first() const { return part[0][1]; }\n};\n\n"
        "__device__ int address(const void *at) {\n    return at != 0;\n}\n\n",
        "    Shared s;\n    int one[PARTS], all[PARTS][3];\n    one[0] = threadIdx.x;\n"
        "    all[0][one[0]] = address(s.ring);\n"
        "    a.out[one[0]] = s.ring[one[0]][0][3] + s.first() + all[0][2] + *s.part[0];\n",
        "struct Shared {\n    int ring[4][8];\n    int part[2];\n\n"
        "    __device__ int first() const { return part[1]; }\n};\n\n"
        "__device__ int address(const void *at) {\n    return at != 0;\n}\n\n",
        "    Shared s;\n    int one, all[3];\n    one = threadIdx.x;\n"
        "    all[one] = address(s.ring);\n"
        "    a.out[one] = s.ring[one][3] + s.first() + all[2] + *s.part;\n");
}

TEST(dimensions_of_one_stay_where_an_array_is_used_as_such) {
    static const char take[] = "__device__ int take(int (&x)[1][4]) {\n    return x[0][1];\n}\n\n";
    static const char *const bodies[] = {
        "    int of[1][4];\n    of[0][1] = 3;\n    a.out[0] = take(of);\n",
        "    int of[1][4], take = 0;\n    for (int i = 0; i < a.count; i++)\n"
        "        a.out[of[i][1]] = take;\n",
        "    int of[1][4], *take = of[0] + 1;\n    a.out[0] = take[2] + (of + 1)[0][1];\n",
        "    int of[1], *take = of;\n    a.out[0] = take[2];\n",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        const char *before = i == 0 ? take : "";
        CASE("%s", bodies[i]);
        expect_source(before, bodies[i], before, bodies[i]);
    }
}

/* ---- what is no source of ours ------------------------------------------------------------- */

TEST(loops_by_constants_of_structs_stay) {
    static const char tile[] = "struct Tile {\n    static constexpr int OWN = 1;\n"
                               "    int of[OWN];\n};\n\n";
    static const char body[] = "    Tile tile;\n    for (int q = 0; q < Tile::OWN; q++)\n"
                               "        tile.of[q] = threadIdx.x * Tile::OWN;\n"
                               "    a.out[0] = tile.of[0];\n";
    expect_source(tile, body, tile, body);
}

TEST(numbers_that_all_calls_of_a_template_give_stand_in_it) {
    expect_source("template <int V, class T> __device__ T put(T x) {\n    return x + V;\n}\n\n",
                  "    a.out[0] = put<2>(threadIdx.x);\n    a.out[1] = put<2>(threadIdx.y);\n",
                  "template <class T> __device__ T put(T x) {\n    return x + 2;\n}\n\n",
                  "    a.out[0] = put(threadIdx.x);\n    a.out[1] = put(threadIdx.y);\n");
    static const char both[] = "template <int V> __device__ int put(int x) {\n"
                               "    return x + V;\n}\n\n";
    static const char body[] = "    a.out[0] = put<2>(threadIdx.x);\n"
                               "    a.out[1] = put<3>(threadIdx.y);\n";
    expect_source(both, body, both, body);
}

TEST(what_it_does_not_understand_stays) {
    static const char *const texts[] = {"",
                                        "int x = (;\n",
                                        "\"\n",
                                        "struct S { int x; ) };\n",
                                        "$\n",
                                        "class X { int y; };\n",
                                        "switch (x) { case 1: break; }\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        sg_arena arena = {0};
        CASE("%s", texts[i]);
        EXPECT_STR(sg_cuda_trim(&arena, texts[i]), texts[i]);
        sg_arena_release(&arena);
    }
}

/* Any part of a source must come back as something, however its brackets stand. */
TEST(pieces_of_sources_do_no_harm) {
    static const char source[] = HEAD FLAGS
        "template <int V, class T> __device__ T f(T x) {\n    if constexpr (V > ON) {\n"
        "        for (int i = 0; i < 1; i++)\n            x += i ? 1 : (x << 2);\n    } else {\n"
        "        return T{x};\n    }\n    return x; /* never */\n}\n" ENTRY
        "{\n    a.out[0] = f<2>(a.count);\n}\n";
    char piece[sizeof source];
    for (size_t from = 0; from < sizeof source; from += 3) {
        for (size_t to = from + 1; to < sizeof source; to += 7) {
            sg_arena arena = {0};
            memcpy(piece, source + from, to - from);
            piece[to - from] = 0;
            EXPECT(sg_cuda_trim(&arena, piece) != NULL);
            sg_arena_release(&arena);
        }
    }
}

/* ---- what is trivial ----------------------------------------------------------------------- */

TEST(branches_around_nothing_go) {
    expect_body("constexpr int ROWS = 1;\n\n",
                "    a.out[0] = threadIdx.x;\n    if (threadIdx.x == 3) {\n"
                "        if (ROWS > 1)\n            a.out[1] = 0;\n    }\n",
                "    a.out[0] = threadIdx.x;\n");
}

TEST(locals_that_are_a_parameter_go) {
    expect_source("struct Box {\n    __device__ int pixel(int row) const { return row + 1; }\n"
                  "    __device__ int valid(int pixel) const {\n        const int x = pixel;\n"
                  "        return x * x;\n    }\n};\n\n",
                  "    Box box;\n    a.out[0] = box.valid(box.pixel(threadIdx.x));\n",
                  "struct Box {\n    __device__ int pixel(int row) const { return row + 1; }\n"
                  "    __device__ int valid(int pixel) const {\n"
                  "        return pixel * pixel;\n    }\n};\n\n",
                  "    Box box;\n    a.out[0] = box.valid(box.pixel(threadIdx.x));\n");
}

TEST(locals_that_are_another_go) {
    expect_body("", "    const int x = threadIdx.x;\n    const int y = x;\n    a.out[y] = y + x;\n",
                "    const int x = threadIdx.x;\n    a.out[x] = x + x;\n");
    static const char *const others[] = {
        /* It changes; the comment says more; another type. */
        "    int x = threadIdx.x;\n    const int y = x;\n    x++;\n    a.out[y] = y + x;\n",
        "    const int x = threadIdx.x;\n    const int y = x; /* now */\n    a.out[y] = x;\n",
        "    const int x = threadIdx.x;\n    const float y = x;\n    a.out[x] = y / 2;\n",
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        CASE("%s", others[i]);
        expect_body("", others[i], others[i]);
    }
}

TEST(locals_are_returned_at_once) {
    expect_source("__device__ int next(int x) {\n    const int y = x + 1;\n    return y;\n}\n\n"
                  "__device__ float half(int x) {\n    const int y = x / 2;\n    return y;\n}\n\n",
                  "    a.out[next(threadIdx.x)] = half(threadIdx.x);\n",
                  "__device__ int next(int x) {\n    return x + 1;\n}\n\n"
                  "__device__ float half(int x) {\n    const int y = x / 2;\n    return y;\n}\n\n",
                  "    a.out[next(threadIdx.x)] = half(threadIdx.x);\n");
}

TEST(functions_that_pass_on_go) {
    static const char one[] = "__device__ int first(int x, int y) {\n    return x * y + x;\n}\n\n";
    char both[512];
    snprintf(both, sizeof both,
             "%s/* The same. */\n__device__ int second(int x, int y) {\n"
             "    return first(x, y);\n}\n\n",
             one);
    expect_source(both, "    a.out[0] = second(threadIdx.x, threadIdx.y);\n", one,
                  "    a.out[0] = first(threadIdx.x, threadIdx.y);\n");
    snprintf(both, sizeof both,
             "%s__device__ int second(int x, int y) {\n    return first(y, x);\n}\n\n", one);
    static const char body[] = "    a.out[0] = second(threadIdx.x, threadIdx.y);\n";
    expect_source(both, body, both, body);
}

TEST(functions_that_pass_on_stay_where_another_has_their_name) {
    static const char both[] = "__device__ float power(float x, float y) {\n"
                               "    return float(pow(double(x), double(y)));\n}\n\n"
                               "namespace ops {\n__device__ float pow(float x, float y) {\n"
                               "    return power(x, y);\n}\n} // namespace ops\n\n";
    static const char body[] = "    a.out[0] = ops::pow(threadIdx.x, threadIdx.y);\n";
    expect_source(both, body, both, body);
}

TEST(types_stand_for_their_other_names) {
    expect_source("using element = float;\nusing real = float;\n\n"
                  "__device__ real twice(const element *x) {\n    return *x * 2;\n}\n\n",
                  "    a.out[0] = twice(a.out);\n",
                  "using real = float;\n\n"
                  "__device__ real twice(const float *x) {\n    return *x * 2;\n}\n\n",
                  "    a.out[0] = twice(a.out);\n");
}

TEST(paragraphs_of_other_kernels_go) {
    expect_source(
        "constexpr int PARTS = 1;\nconstexpr int ROWS = 0;\n"
        "/* What it does.\n *\n * With PARTS 2, twice.\n *\n * With PARTS, at least once.\n"
        " *\n * With ROWS, in rows. */\n__device__ int used(int x) {\n    return x + PARTS;\n}\n\n"
        "/* With ROWS, another. */\n",
        "    a.out[0] = used(threadIdx.x);\n",
        "/* What it does.\n *\n * At least once. */\n"
        "__device__ int used(int x) {\n    return x + 1;\n}\n\n",
        "    a.out[0] = used(threadIdx.x);\n");
}
