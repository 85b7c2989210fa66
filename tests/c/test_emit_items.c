/* What two sources share: items alike in both, and structs as templates. */
#include "emit/items.h"

#include <stdio.h>

#include "unit.h"

/* What stands before both sources, and what stays with the second. */
static void expect_shared(const char *first, const char *second, const char *shared,
                          const char *own) {
    sg_arena arena = {0};
    sg_items sources[2];
    sg_text before = {0}, left = {0};
    EXPECT(sg_items_cut(first, &arena, &sources[0]));
    EXPECT(sg_items_cut(second, &arena, &sources[1]));
    sg_items_share(sources, 2);
    sg_items_make_templates(sources, 2, &arena);
    sg_items_write(&sources[0], SG_ITEM_SHARED, &before);
    sg_items_write(&sources[1], SG_ITEM_OWN, &left);
    EXPECT_STR(before.data ? before.data : "", shared);
    EXPECT_STR(left.data ? left.data : "", own);
    sg_text_release(&before);
    sg_text_release(&left);
    sg_arena_release(&arena);
}

#define TILE  "struct Tile {\n    Pixels pixels;\n    int of[ROWS];\n};\n\n"
#define ENTRY "void entry() {\n    Tile tile;\n}\n"

TEST(structs_that_need_types_and_numbers_become_templates) {
    expect_shared("constexpr int ROWS = 1;\n\nstruct Pixels {\n    int x;\n};\n\n" TILE ENTRY,
                  "constexpr int ROWS = 2;\n\nstruct Pixels {\n    int y;\n};\n\n" TILE ENTRY,
                  "\ntemplate <class Pixels, int ROWS>\nstruct Tile {\n    Pixels pixels;\n"
                  "    int of[ROWS];\n};\n",
                  "\nconstexpr int ROWS = 2;\n\nstruct Pixels {\n    int y;\n};\n\n"
                  "void entry() {\n    Tile<Pixels, ROWS> tile;\n}\n");
}

TEST(structs_that_call_what_is_not_shared_stay) {
    static const char tile[] = "int weigh(int x) {\n    return x + %d;\n}\n\n"
                               "struct Tile {\n    int of(int x) { return weigh(x); }\n};\n";
    char first[256], second[256], own[sizeof second + 1];
    snprintf(first, sizeof first, tile, 1);
    snprintf(second, sizeof second, tile, 2);
    snprintf(own, sizeof own, "\n%s", second);
    expect_shared(first, second, "", own);
}
