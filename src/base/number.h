/* Numbers as text, the same in every locale. */
#ifndef SEGUE_BASE_NUMBER_H
#define SEGUE_BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>

enum { SG_NUMBER_TEXT = 40 };

/* The shortest digits that read back as the same value, always with a sign that it is not an
 * integer: "2.0", "1e+20", "inf", "-inf", "nan". Returns buffer. */
const char *sg_number_print(double value, char buffer[SG_NUMBER_TEXT]);

/* Reads all of text (length bytes): digits with an optional sign, point and exponent, or inf and
 * nan. False when it is something else or does not fit the buffer of 64 bytes it is read from. */
bool sg_number_parse(const char *text, size_t length, double *value);

#endif
