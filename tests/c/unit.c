/* segue_unit: runs the tests of tests/c.
 *
 *     segue_unit --list       the names, one a line
 *     segue_unit NAME...      those tests; all without a name
 *
 * Exit status 0 when all passed, 1 when one failed, 2 when a name is unknown. */
#include "unit.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static unit_test *first_test;
static unit_test **last_test = &first_test;
static bool test_failed;
static char case_text[256];

void unit_register(unit_test *test) {
    *last_test = test;
    last_test = &test->next;
}

void unit_case(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(case_text, sizeof case_text, format, arguments);
    va_end(arguments);
}

/* Begins the report of one failure; the caller ends the line. */
static void report(const char *file, int line, const char *text) {
    test_failed = true;
    if (case_text[0])
        printf("in case %s:\n", case_text);
    printf("%s:%d: %s", file, line, text);
}

bool unit_expect(const char *file, int line, bool condition, const char *text) {
    if (!condition) {
        report(file, line, text);
        printf(" is false\n");
    }
    return condition;
}

bool unit_expect_int(const char *file, int line, int64_t actual, int64_t expected,
                     const char *text) {
    bool held = actual == expected;
    if (!held) {
        report(file, line, text);
        printf(" is %" PRId64 ", expected %" PRId64 "\n", actual, expected);
    }
    return held;
}

static const char *shown(const char *string) {
    return string ? string : "(null)";
}

bool unit_expect_string(const char *file, int line, const char *actual, const char *expected,
                        const char *text) {
    bool held = actual && expected ? strcmp(actual, expected) == 0 : actual == expected;
    if (!held) {
        report(file, line, text);
        printf(" is\n%s\nexpected\n%s\n", shown(actual), shown(expected));
    }
    return held;
}

bool unit_expect_contains(const char *file, int line, const char *actual, const char *part,
                          const char *text) {
    bool held = actual && strstr(actual, part);
    if (!held) {
        report(file, line, text);
        printf(" is\n%s\nwhich does not contain\n%s\n", shown(actual), part);
    }
    return held;
}

bool unit_expect_near(const char *file, int line, double actual, double expected, double tolerance,
                      const char *text) {
    bool held = (isnan(actual) && isnan(expected)) || actual == expected ||
                fabs(actual - expected) <= tolerance;
    /* An infinite tolerance or an infinite expectation must not hide a wrong value. */
    if (isinf(expected) || isinf(actual))
        held = actual == expected;
    if (!held) {
        report(file, line, text);
        printf(" is %.17g, expected %.17g within %g\n", actual, expected, tolerance);
    }
    return held;
}

bool unit_expect_memory(const char *file, int line, const void *actual, const void *expected,
                        size_t bytes, const char *text) {
    const unsigned char *a = actual, *e = expected;
    for (size_t i = 0; i < bytes; i++) {
        if (a[i] != e[i]) {
            report(file, line, text);
            printf(" differs at byte %zu: 0x%02x, expected 0x%02x\n", i, a[i], e[i]);
            return false;
        }
    }
    return true;
}

/* "tests/c/arena.c" and "grows" give "arena.grows". */
static void full_name(const unit_test *test, char *name, size_t size) {
    const char *slash = strrchr(test->file, '/');
    const char *stem = slash ? slash + 1 : test->file;
    snprintf(name, size, "%.*s.%s", (int)strcspn(stem, "."), stem, test->name);
}

static bool selected(const char *name, int count, char **names) {
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return count == 0;
}

int main(int argc, char **argv) {
    bool list = argc == 2 && strcmp(argv[1], "--list") == 0;
    int failed = 0, run = 0;
    for (const unit_test *test = first_test; test; test = test->next) {
        char name[256];
        full_name(test, name, sizeof name);
        if (list) {
            puts(name);
        } else if (selected(name, argc - 1, argv + 1)) {
            test_failed = false;
            case_text[0] = 0;
            test->run();
            printf("%s %s\n", test_failed ? "FAIL" : "ok  ", name);
            fflush(stdout);
            failed += test_failed;
            run++;
        }
    }
    if (list)
        return 0;
    if (run < argc - 1 || run == 0) {
        fprintf(stderr, "segue_unit: no such test; --list shows them\n");
        return 2;
    }
    printf("%d of %d failed\n", failed, run);
    return failed > 0;
}
