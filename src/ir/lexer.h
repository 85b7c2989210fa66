/* Tokens of the text form. The lexer keeps one token of lookahead and counts lines; text may hold
 * any bytes and needs no terminator. */
#ifndef SEGUE_IR_LEXER_H
#define SEGUE_IR_LEXER_H

#include <stdbool.h>
#include <stddef.h>

typedef enum sg_token_kind {
    SG_TOKEN_END,
    SG_TOKEN_WORD,  /* letters, digits, _ and . ; numbers too, with their exponent's sign */
    SG_TOKEN_VALUE, /* %word; text and length are those of the word */
    SG_TOKEN_MARK,  /* { } [ ] ( ) = , : + - * and // , the latter as '/' in mark */
    SG_TOKEN_BAD    /* any other byte, in mark */
} sg_token_kind;

typedef struct sg_token {
    sg_token_kind kind;
    const char *text;
    size_t length;
    unsigned char mark;
    int line, column; /* from 1; columns in bytes */
    bool first;       /* on its line */
} sg_token;

typedef struct sg_lexer {
    const char *text;
    size_t length, at, line_start;
    int line;
    sg_token token; /* the current one */
} sg_lexer;

void sg_lexer_start(sg_lexer *lexer, const char *text, size_t length);
/* Goes on to the next token. */
void sg_lexer_next(sg_lexer *lexer);

/* Whether c may stand in a name. */
bool sg_is_name_character(char c);

#endif
