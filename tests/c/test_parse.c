/* The text form: round trips, messages, and text that nobody meant. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "graphs.h"
#include "unit.h"

static const char *const example =
    "graph conv2d_min_tanh {\n"
    "  %x = input : f32[N, 16, H, W]\n"
    "  %w = input {param=true} : f32[64, 16, 3, 3]\n"
    "  %b = input {param=true} : f32[64]\n"
    "  %c = convolution %x, %w, %b {padding=[1, 1]} : f32[N, 64, H, W]\n"
    "  %d = convolution %c, %k9, none : f32[N, 64, H, W]\n"
    "  %s = mul %c, 2.0 : f32[N, 64, H, W]\n"
    "  %k = constant {value=0.5, weak=false} : f32[]\n"
    "  %n = where %t, nan, -inf : f32[4]\n"
    "  %m = amin %s {dim=[1], keepdim=true} : f32[N, 1, H, W]\n"
    "  %q = reshape %m {shape=[N, 1, -1]} : f32[N, 1, H*W]\n"
    "  %h = cast %m {dtype=f16} : f16[N, 1, H, W]\n"
    "  %f = foreign %m, %o {tag=3} : opaque\n"
    "  output %m, %f\n"
    "}\n";

/* example without the lines that only stand for what may not be there */
static sg_graph *parse_example(sg_context *context) {
    char text[2048];
    size_t length = 0;
    const char *line = example;
    while (*line) {
        size_t size = strcspn(line, "\n") + 1;
        if (!strstr(line, "%k9") || strstr(line, "%k9") > line + size) {
            memcpy(text + length, line, size);
            length += size;
        } else {
            const char *more = "  %t = input : bool[4]\n  %o = input : opaque\n";
            memcpy(text + length, more, strlen(more));
            length += strlen(more);
        }
        line += size;
    }
    text[length] = 0;
    return graph_of(context, text);
}

TEST(prints_what_it_reads) {
    sg_context context = {0};
    sg_graph *graph = parse_example(&context);
    EXPECT_STR(context.message, "");
    REQUIRE(graph != NULL);
    EXPECT_EQ_INT(sg_graph_verify(graph), SG_OK);
    char *once = text_of(graph);
    sg_graph *again = graph_of(&context, once);
    EXPECT_STR(context.message, "");
    REQUIRE(again != NULL);
    char *twice = text_of(again);
    EXPECT_STR(twice, once);
    EXPECT_CONTAINS(once, "%n = where %t, nan, -inf : f32[4]\n");
    EXPECT_CONTAINS(once, "%f = foreign %m, %o {tag=3} : opaque\n");
    EXPECT_CONTAINS(once, "output %m, %f\n");
    free(once);
    free(twice);
    sg_graph_destroy(graph);
    sg_graph_destroy(again);
}

TEST(default_attributes_are_not_printed) {
    sg_context context = {0};
    sg_graph *graph =
        graph_of_lines(&context, "%x = input : f32[2, 4, 5]\n%w = input : f32[6, 4, 3]\n"
                                 "%c = convolution %x, %w {stride=1, padding=[0], groups=1}\n"
                                 "%d = clamp %c {min=-0.0}");
    REQUIRE(graph != NULL);
    char *text = text_of(graph);
    EXPECT_CONTAINS(text, "%c = convolution %x, %w, none : f32[2, 6, 3]");
    EXPECT_CONTAINS(text, "%d = clamp %c {min=-0.0} : f32[2, 6, 3]");
    free(text);
    sg_graph_destroy(graph);
}

TEST(numbers_keep_their_value) {
    const double numbers[] = {
        0.0, -0.0, 0.1, 1.0 / 3, 2, 1e20, 1e300, 5e-324, 1.7976931348623157e308, -1e-7, 123456789};
    char buffer[SG_NUMBER_TEXT];
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double back = 1;
        const char *text = sg_number_print(numbers[i], buffer);
        CASE("%s", text);
        EXPECT(sg_number_parse(text, strlen(text), &back));
        EXPECT_MEM(&back, &numbers[i], sizeof back);
    }
    EXPECT_STR(sg_number_print(0.1, buffer), "0.1");
    EXPECT_STR(sg_number_print(2, buffer), "2.0");
    EXPECT_STR(sg_number_print(INFINITY, buffer), "inf");
    EXPECT_STR(sg_number_print(-INFINITY, buffer), "-inf");
    EXPECT_STR(sg_number_print(NAN, buffer), "nan");
    double value;
    const char *const wrong[] = {"", "-", ".", "1e", "0x10", "infinity", "1.2.3", "1 ", "e5"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CASE("'%s'", wrong[i]);
        EXPECT(!sg_number_parse(wrong[i], strlen(wrong[i]), &value));
    }
}

TEST(messages_name_the_place) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "line 1, column 1: 'graph' was expected, but the text ends"},
        {"graph g {\n  %y = tanh %q\n}", "line 2, column 13: %q is used before it is defined"},
        {"graph g {\n  %y = tanh %y\n}", "line 2, column 13: %y is used before it is defined"},
        {"graph g {\n %x = input : f32[4]\n %x = tanh %x\n}",
         "line 3, column 2: %x is defined twice"},
        {"graph g {\n %x = frob\n}", "line 2, column 7: there is no operator 'frob'"},
        {"graph g {\n %x = input {size=3} : f32[4]\n}",
         "line 2, column 14: input has no attribute 'size'"},
        {"graph g {\n %x = input {param=true, param=true} : f32[4]\n}",
         "line 2, column 26: attribute param is given twice"},
        {"graph g {\n %x = input : f33[4]\n}",
         "line 2, column 15: a dtype (bool, f16, bf16, f32, f64, opaque) was expected, but found "
         "'f33'"},
        {"graph g {\n %x = input : f32[4611686018427387904]\n}",
         "line 2, column 19: the integer is too large; below 2^62 would be accepted"},
        {"graph g {\n %x = input : f32[4 // (2 - 2)]\n}",
         "line 2, column 21: a size is divided by 0"},
        {"graph g {\n %x = input : f32[N*4000000000*4000000000]\n}",
         "line 2, column 19: the size is too large a number or expression"},
        {"graph g {\n %x = input\n}", "line 2, column 7: input: a type must be given"},
        {"graph g {\n %x = input : f32[4]\n %y = tanh %x : f32[5]\n}",
         "line 3, column 7: tanh: the type is f32[4], but f32[5] is declared"},
        {"graph g {\n %x = input : f32[4]\n %y = tanh\n}",
         "line 3, column 7: tanh takes 1 operand, not 0"},
        {"graph g {\n %x = input : f32[4]\n %y = tanh none\n}",
         "line 3, column 7: tanh: operand 0 cannot be left out"},
        {"graph g {\n output %z\n}", "line 2, column 9: %z is used before it is defined"},
        {"graph g {\n}\n}", "line 3, column 1: the end of the text was expected, but found '}'"},
        {"graph g {\n $\n}", "line 2, column 2: a statement (%name = operator ..., or output ...) "
                             "was expected, but found '$'"},
    };
    sg_context context = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sg_graph *graph = graph_of(&context, cases[i].text);
        CASE("%zu", i);
        EXPECT(graph == NULL);
        EXPECT_STR(context.message, cases[i].message);
        sg_graph_destroy(graph);
    }
}

TEST(a_zero_byte_is_not_an_end) {
    static const char text[] = "graph g {\n  %x = in\0put : f32[4]\n}\n";
    sg_context context = {0};
    sg_graph *graph = NULL;
    EXPECT_EQ_INT(sg_graph_parse(&context, text, sizeof text - 1, &graph), SG_INVALID);
    EXPECT_CONTAINS(context.message, "there is no operator 'in'");
    EXPECT_EQ_INT(sg_graph_parse(&context, "graph g {\n\0}", 12, &graph), SG_INVALID);
    EXPECT_CONTAINS(context.message, "found the byte 0x00");
}

TEST(deep_nesting_is_refused) {
    enum { DEPTH = 100000 };
    sg_context context = {0};
    static char text[DEPTH + 64];
    for (int minus = 0; minus < 2; minus++) {
        int at = snprintf(text, sizeof text, "graph g { %%x = input : f32[");
        memset(text + at, minus ? '-' : '(', DEPTH);
        text[at + DEPTH] = 0;
        EXPECT(graph_of(&context, text) == NULL);
        EXPECT_CONTAINS(context.message, "the size is nested deeper than 64 levels");
    }
}

TEST(every_beginning_of_a_text_is_refused) {
    sg_context context = {0};
    sg_graph *graph = parse_example(&context);
    REQUIRE(graph != NULL);
    char *text = text_of(graph);
    sg_graph_destroy(graph);
    for (size_t length = 0; length + 2 < strlen(text); length++) {
        CASE("%zu bytes", length);
        EXPECT_EQ_INT(sg_graph_parse(&context, text, length, &graph), SG_INVALID);
        EXPECT_CONTAINS(context.message, "line ");
    }
    free(text);
}

/* What is accepted after bytes were changed must still print and verify. */
TEST(damaged_text_is_refused_or_sound) {
    sg_context context = {0};
    sg_graph *graph = parse_example(&context);
    REQUIRE(graph != NULL);
    char *text = text_of(graph);
    sg_graph_destroy(graph);
    size_t length = strlen(text);
    const char bytes[] = "%{}[]()=,:+-*/#.09eNHx \n\xff";
    uint32_t random = 1;
    int accepted = 0;
    static char damaged[4096];
    REQUIRE(length < sizeof damaged);
    for (int round = 0; round < 20000; round++) {
        memcpy(damaged, text, length + 1);
        for (int change = 0; change < 3; change++) {
            random = random * 1664525u + 1013904223u;
            damaged[(random >> 8) % length] = bytes[(random >> 4) % sizeof bytes];
        }
        graph = NULL;
        if (sg_graph_parse(&context, damaged, length, &graph))
            continue;
        accepted++;
        char *printed = text_of(graph);
        sg_graph *again = graph_of(&context, printed);
        EXPECT_EQ_INT(sg_graph_verify(graph), SG_OK);
        EXPECT_STR(context.message, "");
        char *twice = again ? text_of(again) : NULL;
        EXPECT_STR(twice, printed);
        free(printed);
        free(twice);
        sg_graph_destroy(graph);
        sg_graph_destroy(again);
    }
    EXPECT(accepted > 0);
    free(text);
}

TEST(statements_build_a_graph) {
    sg_context context = {0};
    sg_graph *graph;
    sg_value x, y, z;
    REQUIRE(!sg_graph_create(&context, "built", &graph));
    EXPECT_EQ_INT(sg_graph_add(graph, "%x = input : f32[N, 3]", &x), SG_OK);
    EXPECT_EQ_INT(sg_graph_add(graph, "%y = add %x, 1.5 {alpha=2}", &y), SG_OK);
    EXPECT_EQ_INT(sg_graph_add(graph, "output %y", &z), SG_OK);
    EXPECT_EQ_INT(z, y);
    EXPECT_EQ_INT(sg_graph_input(graph, 0), x);
    EXPECT_EQ_INT(sg_graph_output(graph, 0), y);
    EXPECT_STR(sg_graph_value_name(graph, y), "y");
    char *before = text_of(graph);
    EXPECT_EQ_INT(sg_graph_add(graph, "%z = mul 2.0, 3.0, %x", &z), SG_INVALID);
    EXPECT_EQ_INT(sg_graph_add(graph, "%z = tanh %y : f32[4]", &z), SG_INVALID);
    EXPECT_EQ_INT(sg_graph_add(graph, "%z = tanh %y output %z", &z), SG_INVALID);
    EXPECT_CONTAINS(context.message, "the end of the statement was expected");
    char *after = text_of(graph);
    EXPECT_STR(after, before);
    EXPECT_EQ_INT(sg_graph_verify(graph), SG_OK);
    EXPECT_EQ_INT(sg_graph_add(graph, "%z = tanh %y", &z), SG_OK);
    EXPECT_EQ_INT(sg_graph_verify(graph), SG_OK);
    free(before);
    free(after);
    sg_graph_destroy(graph);
}

TEST(names_from_hosts_become_words) {
    sg_context context = {0};
    sg_graph *graph;
    sg_value a, b, c, d;
    sg_type type = {.dtype = SG_F32, .rank = 1, .size = {4}};
    REQUIRE(!sg_graph_create(&context, "my graph!", &graph));
    REQUIRE(!sg_graph_append(graph, SG_OP_input, "a b%", NULL, 0, NULL, &type, &a));
    REQUIRE(!sg_graph_append(graph, SG_OP_tanh, "a b%", &a, 1, NULL, NULL, &b));
    REQUIRE(!sg_graph_append(graph, SG_OP_tanh, NULL, &b, 1, NULL, NULL, &c));
    REQUIRE(!sg_graph_append(graph, SG_OP_tanh, "#1", &c, 1, NULL, NULL, &d));
    EXPECT_STR(graph->name, "my_graph_");
    EXPECT_STR(sg_graph_value_name(graph, a), "a_b_");
    EXPECT_STR(sg_graph_value_name(graph, b), "a_b__2");
    EXPECT_STR(sg_graph_value_name(graph, d), "_1");
    char *text = text_of(graph);
    sg_graph *again = graph_of(&context, text);
    EXPECT_STR(context.message, "");
    free(text);
    sg_graph_destroy(graph);
    sg_graph_destroy(again);
}
