/* Numbers as text: the C library's conversions, with the locale's decimal point put right. */
#include "base/number.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char decimal_point(void) {
    const char *point = localeconv()->decimal_point;
    return point && point[0] && !point[1] ? point[0] : '.';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

const char *sg_number_print(double value, char buffer[SG_NUMBER_TEXT]) {
    if (isnan(value))
        return strcpy(buffer, "nan");
    if (isinf(value))
        return strcpy(buffer, value < 0 ? "-inf" : "inf");
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(buffer, SG_NUMBER_TEXT, "%.*g", digits, value);
        if (strtod(buffer, NULL) == value)
            break;
    }
    bool integer = true;
    for (char *c = buffer; *c; c++) {
        if (*c == decimal_point())
            *c = '.';
        integer &= is_digit(*c) || *c == '-';
    }
    if (integer)
        strcat(buffer, ".0");
    return buffer;
}

/* A value of decimal digits only: strtod alone would take hexadecimal and "infinity" as well. */
static bool well_formed(const char *text) {
    const char *c = text + (*text == '-' || *text == '+');
    int digits = 0;
    for (; is_digit(*c); c++)
        digits++;
    if (*c == '.')
        for (c++; is_digit(*c); c++)
            digits++;
    if (digits && (*c == 'e' || *c == 'E')) {
        c++;
        c += *c == '-' || *c == '+';
        if (!is_digit(*c))
            return false;
        while (is_digit(*c))
            c++;
    }
    return digits && !*c;
}

bool sg_number_parse(const char *text, size_t length, double *value) {
    char buffer[64];
    if (length == 0 || length >= sizeof buffer || memchr(text, 0, length))
        return false;
    memcpy(buffer, text, length);
    buffer[length] = 0;
    bool negative = buffer[0] == '-';
    if (strcmp(buffer + negative, "inf") == 0 || strcmp(buffer + negative, "nan") == 0) {
        double special = buffer[negative] == 'i' ? INFINITY : NAN;
        *value = negative ? -special : special;
        return true;
    }
    if (!well_formed(buffer))
        return false;
    char *point = strchr(buffer, '.');
    if (point)
        *point = decimal_point();
    *value = strtod(buffer, NULL);
    return true;
}
