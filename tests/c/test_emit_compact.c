/* Emitted code in fewer lines: what may share one, and what may not. */
#include "emit/compact.h"

#include <stdio.h>
#include <string.h>

#include "unit.h"

#define MACROS                                                                                     \
    "#define DEVICE __device__ __forceinline__\n#define UNROLLED _Pragma(\"unroll\")\n"            \
    "#define ROLLED _Pragma(\"unroll 1\")\n"

static void expect_code(const char *code, const char *expected) {
    sg_arena arena = {0};
    sg_text text = {0}, whole = {0};
    sg_emit_compact(code, &arena, &text);
    sg_text_add(&whole, "%s%s", MACROS, expected);
    EXPECT(!text.failed);
    EXPECT_STR(text.data, whole.data);
    sg_text_release(&text);
    sg_text_release(&whole);
    sg_arena_release(&arena);
}

TEST(one_statement_loses_its_braces_and_two_keep_them) {
    expect_code("    if (x == 3) {\n        x = 0;\n    }\n", "    if (x == 3) x = 0;\n");
    expect_code("    if (x == 3) {\n        x = 0;\n        y ^= 1;\n    }\n",
                "    if (x == 3) { x = 0; y ^= 1; }\n");
    expect_code("    if (x == 3) {\n        of.x = 0;\n        of.y = 1;\n    } else {\n"
                "        x = 1;\n    }\n",
                "    if (x == 3) {\n        of.x = 0; of.y = 1;\n    } else {\n        x = 1;\n"
                "    }\n");
}

TEST(loops_say_how_they_are_unrolled_on_their_line) {
    expect_code("#pragma unroll 1\n    for (int i = 0; i < n; i++) {\n        _Pragma(\"unroll\")\n"
                "        for (int k = 0; k < 4; k++) {\n            add(i);\n            add(k);\n"
                "        }\n    }\n",
                "    ROLLED for (int i = 0; i < n; i++)\n"
                "        UNROLLED for (int k = 0; k < 4; k++) {\n            add(i);\n"
                "            add(k);\n        }\n");
}

TEST(short_functions_take_a_line) {
    expect_code("__device__ __forceinline__ int next(int x) {\n    return x + 1;\n}\n\n"
                "/* Twice. */\n__device__ __forceinline__ int twice(int x) {\n"
                "    return static_cast<int>(2 * x);\n}\n",
                "DEVICE int next(int x) { return x + 1; }\n"
                "DEVICE int twice(int x) { return int(2 * x); } /* Twice. */\n");
}

TEST(comments_part_items_and_stand_behind_what_they_are_about) {
    expect_code("    x = first(x, y, z, x, y, z, x, y, z, x, y, z, x, y, z);\n\n"
                "    /* Two\n     * lines. */\n    begin();\n\n    /* One. */\n    end(x);\n",
                "    x = first(x, y, z, x, y, z, x, y, z, x, y, z, x, y, z);\n"
                "    begin(); /* Two lines. */\n    end(x); /* One. */\n");
    expect_code("struct S {\n    static constexpr int A = 1;\n    static constexpr int B = 2;\n    "
                "int x[A];\n\n"
                "    __device__ __forceinline__ int first() {\n        return x[0];\n    }\n};\n",
                "struct S {\n    static constexpr int A = 1, B = 2;\n    int x[A];\n"
                "    DEVICE int first() { return x[0]; }\n};\n");
    expect_code("x++;\n\n/* What other.cuh is for. */\n\ny++;\n", "x++;\ny++;\n");
    expect_code("x++;\n\n/* What is meant. */\n\ny++;\n", "x++;\n\n/* What is meant. */\n\ny++;\n");
}

TEST(paragraphs_are_filled_and_lists_are_not) {
    expect_code(
        "/* What is said\n * here.\n *\n * Then\n * more:\n *     a table\n * and rows */\n\n"
        "int x = 3;\n",
        "/* What is said here.\n *\n * Then more:\n *     a table\n * and rows */\n\n"
        "int x = 3;\n");
}

TEST(titles_of_short_sections_go) {
    static const char title[] = "/* ---- more --------------------------------------------- */";
    char code[1024], expected[1024], lines[512] = "";
    snprintf(code, sizeof code, "x++;\n\n%s\ny++;\n", title);
    expect_code(code, "x++;\ny++;\n");
    for (int i = 0; i < 30; i++)
        strcat(lines, "begin(x);\n");
    snprintf(code, sizeof code, "x++;\n\n%s\n%s", title, lines);
    snprintf(expected, sizeof expected, "x++;\n\n%s\n%s", title, lines);
    expect_code(code, expected);
}

TEST(members_of_one_type_share_a_declaration) {
    expect_code("/* Both. */\nstruct Box {\n    int n, x;\n    int y;\n};\n",
                "struct Box { int n, x, y; }; /* Both. */\n");
    static const char others[] = "struct Box {\n    int n; /* first */\n    int *y;\n};\n";
    expect_code(others, others);
}

TEST(long_statements_are_filled) {
    expect_code(
        "    const float *from = of_this_and_that +\n        one * another +\n        two * "
        "this_is_rather_long_but_not_too_long *\n            other;\n",
        "    const float *from =\n        of_this_and_that + one * another + two * "
        "this_is_rather_long_but_not_too_long * other;\n");
}

TEST(what_goes_another_way_stays_apart) {
    static const char code[] = "    while (true) {\n        x++;\n        if (x > 3) {\n"
                               "            y = x;\n            break;\n        }\n    }\n";
    expect_code(code, code);
}
