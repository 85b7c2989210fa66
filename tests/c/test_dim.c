/* Sizes: normal form, quotients, evaluation, limits. */
#include <stdlib.h>
#include <string.h>

#include "graphs.h"
#include "unit.h"

/* Type that the parser makes of a size, printed: its normal form. */
static void expect_form(const char *size, const char *form) {
    sg_context context = {0};
    char lines[512], expected[512];
    snprintf(lines, sizeof lines, "%%x = input : f32[%s]", size);
    snprintf(expected, sizeof expected, "graph g {\n  %%x = input : f32[%s]\n}\n", form);
    CASE("%s", size);
    sg_graph *graph = graph_of_lines(&context, lines);
    EXPECT_STR(context.message, "");
    char *text = graph ? text_of(graph) : NULL;
    EXPECT_STR(text, expected);
    free(text);
    sg_graph_destroy(graph);
}

TEST(equal_sizes_have_one_form) {
    expect_form("H - 2 + 2", "H");
    expect_form("2*H - H - H + 7", "7");
    expect_form("W*H*N", "H*N*W");
    expect_form("(H + 1)*(H - 1)", "H*H - 1");
    expect_form("-(H - 3)", "-H + 3");
    expect_form("- -H", "H");
    expect_form("H + W*N", "N*W + H");
}

TEST(quotients_are_divided_as_far_as_integers_allow) {
    expect_form("(2*H)//2", "H");
    expect_form("(2*H + 3)//2", "H + 1");
    expect_form("(H - 1)//2 + 1", "(H + 1) // 2");
    expect_form("(4*H + 6)//8", "(H + 1) // 2");
    expect_form("(2*H + 1)//4", "H // 2");
    expect_form("(H // 2) // 3", "H // 6");
    expect_form("((H + 1)//2 + 1)//2", "(H + 3) // 4");
    expect_form("H // 1", "H");
    expect_form("7 // 2", "3");
    expect_form("-1 // 2 + 2", "1");
    expect_form("2*(H // 2)", "2*(H // 2)");
    expect_form("3 - H // 2", "-(H // 2) + 3");
}

TEST(symbolic_division_is_exact_or_stays) {
    expect_form("N*H*W // N", "H*W");
    expect_form("N*(H - 2)*(W - 2) // (N*(W - 2))", "H - 2");
    expect_form("0 // N", "0");
    expect_form("N // H", "N // H");
    expect_form("(N + 1) // H * H", "H*((N + 1) // H)");
}

TEST(words_are_equal_when_sizes_are) {
    sg_arena arena = {0};
    sg_dim_table *table = sg_dim_table_create(&arena);
    REQUIRE(table != NULL);
    sg_dim h = sg_dim_symbol(table, "H", 1), w = sg_dim_symbol(table, "W", 1);
    EXPECT(h != w);
    EXPECT_EQ_INT(sg_dim_symbol(table, "H", 1), h);
    EXPECT_EQ_INT(sg_dim_multiply(table, h, w), sg_dim_multiply(table, w, h));
    EXPECT_EQ_INT(sg_dim_subtract(table, sg_dim_add(table, h, w), h), w);
    EXPECT_EQ_INT(sg_dim_as_symbol(table, w), 1);
    EXPECT_EQ_INT(sg_dim_as_symbol(table, sg_dim_add(table, w, 1)), -1);
    EXPECT_STR(sg_dim_symbol_name(table, 1), "W");
    sg_arena_release(&arena);
}

TEST(evaluation_rounds_down_and_reports_what_is_unbound) {
    sg_arena arena = {0};
    sg_dim_table *table = sg_dim_table_create(&arena);
    REQUIRE(table != NULL);
    sg_dim h = sg_dim_symbol(table, "H", 1), w = sg_dim_symbol(table, "W", 1);
    sg_dim size = sg_dim_floor_divide(table, sg_dim_subtract(table, h, w), 3);
    EXPECT_EQ_INT(sg_dim_evaluate(table, size, (int64_t[]){5, 6}), -1);
    EXPECT_EQ_INT(sg_dim_evaluate(table, size, (int64_t[]){12, 5}), 2);
    EXPECT_EQ_INT(sg_dim_evaluate(table, size, (int64_t[]){12, -1}), SG_DIM_INVALID);
    EXPECT_EQ_INT(sg_dim_evaluate(table, 9, NULL), 9);
    sg_dim square = sg_dim_multiply(table, h, h);
    EXPECT_EQ_INT(sg_dim_evaluate(table, square, (int64_t[]){INT64_C(1) << 31, 0}), SG_DIM_INVALID);
    sg_arena_release(&arena);
}

TEST(overflow_is_invalid_and_passes_on) {
    sg_arena arena = {0};
    sg_dim_table *table = sg_dim_table_create(&arena);
    REQUIRE(table != NULL);
    sg_dim h = sg_dim_symbol(table, "H", 1), large = SG_DIM_LIMIT - 1;
    EXPECT_EQ_INT(sg_dim_add(table, large, 1), SG_DIM_INVALID);
    EXPECT_EQ_INT(sg_dim_multiply(table, large, 2), SG_DIM_INVALID);
    sg_dim wide = sg_dim_multiply(table, h, large);
    EXPECT(wide != SG_DIM_INVALID);
    EXPECT_EQ_INT(sg_dim_add(table, wide, wide), SG_DIM_INVALID);
    EXPECT_EQ_INT(sg_dim_add(table, SG_DIM_INVALID, h), SG_DIM_INVALID);
    EXPECT_EQ_INT(sg_dim_floor_divide(table, h, 0), SG_DIM_INVALID);
    EXPECT_EQ_INT(sg_dim_floor_divide(table, 4, -2), SG_DIM_INVALID);
    sg_arena_release(&arena);
}

TEST(long_expressions_end_in_invalid) {
    sg_arena arena = {0};
    sg_dim_table *table = sg_dim_table_create(&arena);
    REQUIRE(table != NULL);
    sg_dim size = sg_dim_add(table, sg_dim_symbol(table, "H", 1), sg_dim_symbol(table, "W", 1));
    for (int i = 0; i < 40; i++)
        size = sg_dim_floor_divide(table, sg_dim_multiply(table, size, size),
                                   sg_dim_add(table, sg_dim_symbol(table, "K", 1), i));
    EXPECT_EQ_INT(size, SG_DIM_INVALID);
    sg_arena_release(&arena);
}

TEST(a_copied_table_gives_the_same_words) {
    sg_arena arena = {0}, other = {0};
    sg_dim_table *table = sg_dim_table_create(&arena);
    REQUIRE(table != NULL);
    sg_dim h = sg_dim_symbol(table, "H", 1);
    sg_dim half = sg_dim_floor_divide(table, sg_dim_add(table, h, 1), 2);
    sg_dim product = sg_dim_multiply(table, half, h);
    sg_dim_table *copy = sg_dim_table_copy(table, &other);
    sg_arena_release(&arena);
    REQUIRE(copy != NULL);
    EXPECT_EQ_INT(sg_dim_symbol(copy, "H", 1), h);
    EXPECT_EQ_INT(sg_dim_multiply(copy, h, half), product);
    EXPECT_EQ_INT(sg_dim_evaluate(copy, product, (int64_t[]){7}), 28);
    sg_arena_release(&other);
}
