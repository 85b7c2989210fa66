/* Tokens of the text form. */
#include "ir/lexer.h"

#include <string.h>

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool sg_is_name_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' || c == '.';
}

/* Byte at distance ahead, or 0 past the end. */
static char peek(const sg_lexer *lexer, size_t ahead) {
    return lexer->length - lexer->at > ahead ? lexer->text[lexer->at + ahead] : 0;
}

/* Spaces and comments; true when a line ended among them. */
static bool skip_blank(sg_lexer *lexer) {
    bool ended = lexer->at == 0;
    bool comment = false;
    for (; lexer->at < lexer->length; lexer->at++) {
        char c = lexer->text[lexer->at];
        if (c == '\n') {
            ended = true;
            comment = false;
            lexer->line++;
            lexer->line_start = lexer->at + 1;
        } else if (c == '#') {
            comment = true;
        } else if (!comment && c != ' ' && c != '\t' && c != '\r') {
            break;
        }
    }
    return ended;
}

/* Length of the word here. A number's exponent may have a sign: 1e+20. */
static size_t word_length(const sg_lexer *lexer) {
    size_t length = 0;
    bool number = is_digit(peek(lexer, 0)) || peek(lexer, 0) == '.';
    for (;; length++) {
        char c = peek(lexer, length);
        if (sg_is_name_character(c))
            number &= is_digit(c) || c == '.' || c == 'e' || c == 'E';
        else if (!number || (c != '+' && c != '-') || !is_digit(peek(lexer, length + 1)) ||
                 (peek(lexer, length - 1) | 0x20) != 'e')
            return length;
    }
}

void sg_lexer_next(sg_lexer *lexer) {
    sg_token *token = &lexer->token;
    *token = (sg_token){.first = skip_blank(lexer)};
    token->line = lexer->line;
    token->column = (int)(lexer->at - lexer->line_start) + 1;
    token->text = lexer->text + lexer->at;
    if (lexer->at == lexer->length)
        return;
    char c = peek(lexer, 0);
    if (c == '%' && sg_is_name_character(peek(lexer, 1))) {
        token->kind = SG_TOKEN_VALUE;
        lexer->at++;
        token->text++;
        while (sg_is_name_character(peek(lexer, token->length)))
            token->length++;
    } else if (sg_is_name_character(c)) {
        token->kind = SG_TOKEN_WORD;
        token->length = word_length(lexer);
    } else {
        bool quotient = c == '/' && peek(lexer, 1) == '/';
        token->kind = quotient || (c && strchr("{}[]()=,:+-*", c)) ? SG_TOKEN_MARK : SG_TOKEN_BAD;
        token->mark = (unsigned char)c;
        token->length = quotient ? 2 : 1;
    }
    lexer->at += token->length;
}

void sg_lexer_start(sg_lexer *lexer, const char *text, size_t length) {
    *lexer = (sg_lexer){.text = text, .length = length, .line = 1};
    sg_lexer_next(lexer);
}
