/* Unit tests in C: write TEST(name) { ... } in any file of tests/c and it is run.
 *
 *     TEST(grows_past_one_block) {
 *         EXPECT_EQ_INT(arena_size(a), 64);
 *         REQUIRE(p != NULL);
 *         EXPECT_STR(p, "text");
 *     }
 *
 * EXPECT* prints file, line and both values, fails the test and goes on; REQUIRE fails the test and
 * returns from the function it stands in. A test is called file.name on the command line. The
 * runner starts every test in a process of its own, so a crash is one failed test. Not for use from
 * several threads at once: collect in the threads, EXPECT after joining them. */
#ifndef SEGUE_TESTS_UNIT_H
#define SEGUE_TESTS_UNIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct unit_test {
    const char *file, *name;
    void (*run)(void);
    struct unit_test *next;
} unit_test;

void unit_register(unit_test *test);

#define TEST(name_)                                                                                \
    static void name_(void);                                                                       \
    __attribute__((constructor)) static void unit_register_##name_(void) {                         \
        static unit_test test = {.file = __FILE__, .name = #name_, .run = name_};                  \
        unit_register(&test);                                                                      \
    }                                                                                              \
    static void name_(void)

/* For loops: what follows is about this case. Printed before the next failures of the test; format
 * as in printf. */
#define CASE(...) unit_case(__VA_ARGS__)

#define EXPECT(condition) unit_expect(__FILE__, __LINE__, (condition), #condition)
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!EXPECT(condition))                                                                    \
            return;                                                                                \
    } while (0)

/* All evaluate to whether they held. Actual value first, expected second. */
#define EXPECT_EQ_INT(actual, expected)                                                            \
    unit_expect_int(__FILE__, __LINE__, (int64_t)(actual), (int64_t)(expected), #actual)
/* NULL equals only NULL. */
#define EXPECT_STR(actual, expected)                                                               \
    unit_expect_string(__FILE__, __LINE__, (actual), (expected), #actual)
#define EXPECT_CONTAINS(actual, part)                                                              \
    unit_expect_contains(__FILE__, __LINE__, (actual), (part), #actual)
/* |actual - expected| <= tolerance. NaN is near NaN, an infinity is near itself, nothing else is.
 */
#define EXPECT_NEAR(actual, expected, tolerance)                                                   \
    unit_expect_near(__FILE__, __LINE__, (actual), (expected), (tolerance), #actual)
/* The same bits, so -0.0 is not 0.0. */
#define EXPECT_MEM(actual, expected, bytes)                                                        \
    unit_expect_memory(__FILE__, __LINE__, (actual), (expected), (bytes), #actual)

void unit_case(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool unit_expect(const char *file, int line, bool condition, const char *text);
bool unit_expect_int(const char *file, int line, int64_t actual, int64_t expected,
                     const char *text);
bool unit_expect_string(const char *file, int line, const char *actual, const char *expected,
                        const char *text);
bool unit_expect_contains(const char *file, int line, const char *actual, const char *part,
                          const char *text);
bool unit_expect_near(const char *file, int line, double actual, double expected, double tolerance,
                      const char *text);
bool unit_expect_memory(const char *file, int line, const void *actual, const void *expected,
                        size_t bytes, const char *text);

#endif
