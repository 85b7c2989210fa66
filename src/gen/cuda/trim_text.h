/* A CUDA source as tokens, and edits of it: what the passes of trim.h share.
 *
 * Tokens are words, numbers, strings, marks (operators and brackets) and directives; comments and
 * white space stand between them. A pass reads the text, notes edits that do not overlap, and
 * applies them, which gives the next pass its text. */
#ifndef SEGUE_GEN_CUDA_TRIM_TEXT_H
#define SEGUE_GEN_CUDA_TRIM_TEXT_H

#include <ctype.h>
#include <stdbool.h>

#include "base/arena.h"

/* Spellings that passes look for; their numbers in sg_trim_token.spelling. Any other spelling has a
 * number of its own from SG_TRIM_OTHER on. */
/* clang-format off */
#define SG_TRIM_SPELLINGS(X) \
    X(OPEN, "(") X(CLOSE, ")") X(OPEN_INDEX, "[") X(CLOSE_INDEX, "]") X(OPEN_BLOCK, "{") \
    X(CLOSE_BLOCK, "}") X(SEMICOLON, ";") X(COMMA, ",") X(COLON, ":") X(QUESTION, "?") \
    X(ASSIGN, "=") X(LESS, "<") X(GREATER, ">") X(LESS_EQUAL, "<=") X(GREATER_EQUAL, ">=") \
    X(EQUAL, "==") X(UNEQUAL, "!=") X(AND, "&&") X(OR, "||") X(BIT_AND, "&") X(BIT_OR, "|") \
    X(BIT_XOR, "^") X(SHIFT_LEFT, "<<") X(SHIFT_RIGHT, ">>") X(PLUS, "+") X(MINUS, "-") \
    X(TIMES, "*") X(DIVIDE, "/") X(REMAINDER, "%") X(NOT, "!") X(BIT_NOT, "~") X(INCREMENT, "++") \
    X(DECREMENT, "--") X(DOT, ".") X(ARROW, "->") X(SCOPE, "::") X(ADD_ASSIGN, "+=") \
    X(SUBTRACT_ASSIGN, "-=") X(MULTIPLY_ASSIGN, "*=") X(DIVIDE_ASSIGN, "/=") \
    X(REMAINDER_ASSIGN, "%=") X(AND_ASSIGN, "&=") X(OR_ASSIGN, "|=") X(XOR_ASSIGN, "^=") \
    X(LEFT_ASSIGN, "<<=") X(RIGHT_ASSIGN, ">>=") X(IF, "if") X(ELSE, "else") X(FOR, "for") \
    X(WHILE, "while") X(DO, "do") X(SWITCH, "switch") X(CASE, "case") X(DEFAULT, "default") \
    X(GOTO, "goto") X(RETURN, "return") X(CONTINUE, "continue") X(BREAK, "break") \
    X(STRUCT, "struct") X(NAMESPACE, "namespace") X(TEMPLATE, "template") X(TYPENAME, "typename") \
    X(CLASS, "class") X(USING, "using") X(CONSTEXPR, "constexpr") X(CONST, "const") \
    X(STATIC, "static") X(EXTERN, "extern") X(OPERATOR, "operator") X(SIZEOF, "sizeof") \
    X(TRUE, "true") X(FALSE, "false") X(AUTO, "auto") X(VOID, "void") X(BOOL, "bool") \
    X(CHAR, "char") X(SHORT, "short") X(INT, "int") X(LONG, "long") X(UNSIGNED, "unsigned") \
    X(SIGNED, "signed") X(FLOAT, "float") X(DOUBLE, "double") X(REAL, "real") X(ASM, "asm") \
    X(VOLATILE, "volatile") X(GLOBAL, "__global__") X(DEVICE, "__device__") \
    X(INLINE, "__forceinline__") X(SHARED, "__shared__") X(LAUNCH_BOUNDS, "__launch_bounds__") \
    X(ALIGN, "__align__") X(ALIGNAS, "alignas") X(RESTRICT, "__restrict__") X(PRAGMA, "_Pragma") \
    X(UNROLL, "SG_UNROLL") X(STATIC_CAST, "static_cast") X(REINTERPRET_CAST, "reinterpret_cast") \
    X(CONST_CAST, "const_cast") X(HALF_T, "half_t") X(BFLOAT_T, "bfloat_t") X(BOOL_T, "bool_t")
/* clang-format on */

enum {
#define SG_TRIM_NUMBER(name, text) SG_TRIM_##name,
    SG_TRIM_SPELLINGS(SG_TRIM_NUMBER)
#undef SG_TRIM_NUMBER
        SG_TRIM_OTHER
};

typedef enum sg_trim_kind {
    SG_TRIM_WORD,
    SG_TRIM_NUMBER,
    SG_TRIM_STRING,
    SG_TRIM_MARK,
    SG_TRIM_DIRECTIVE, /* a line from its # on */
    SG_TRIM_END        /* behind the last token */
} sg_trim_kind;

typedef struct sg_trim_token {
    sg_trim_kind kind;
    int start, end; /* bytes of the text */
    int spelling;   /* the same number for the same text */
    int pair;       /* of ( ) [ ] { }: the token that closes or opens it, else -1 */
    int next;       /* the next of this spelling, -1: none */
} sg_trim_token;

typedef struct sg_trim_edit {
    int start, end;   /* bytes of the text */
    const char *text; /* what stands there instead */
    int order;
} sg_trim_edit;

typedef struct sg_trim_unit {
    sg_arena *arena;
    const char *text;
    int length;
    sg_trim_token *tokens; /* token_count of them, and one of kind SG_TRIM_END */
    int token_count, token_capacity;
    int spelling_count;
    int *slots; /* hash table: spelling + 1, by text; 0: none */
    const char **spellings;
    int *spelling_lengths;
    int *first, *last; /* tokens of a spelling, -1: none */
    int slot_count, spelling_capacity;
    sg_trim_edit *edits;
    int edit_count, edit_capacity;
} sg_trim_unit;

/* Stands in a text where a pass changed a statement, whose lines are then to be filled anew. White
 * space to the tokens. */
#define SG_TRIM_CHANGED "\001"

/* False where the text is not what we write: brackets that do not match, a character of no token;
 * or where memory ran out (arena->failed). */
bool sg_trim_read(sg_trim_unit *unit, sg_arena *arena, const char *text);

/* Of a word or a number. */
static inline bool sg_trim_is_letter(char c) {
    return isalnum((unsigned char)c) || c == '_';
}
static inline bool sg_trim_is(const sg_trim_unit *unit, int token, int spelling) {
    return token >= 0 && token < unit->token_count && unit->tokens[token].spelling == spelling;
}
static inline bool sg_trim_is_word(const sg_trim_unit *unit, int token) {
    return token >= 0 && token < unit->token_count && unit->tokens[token].kind == SG_TRIM_WORD;
}
/* The number of a text; -1 where no token is spelled so. */
int sg_trim_find(const sg_trim_unit *unit, const char *text, int length);
/* The next word of a directive from *at on, which moves behind it; false: there is none. spelling:
 * its number, or -1. */
bool sg_trim_next_word(const sg_trim_unit *unit, const sg_trim_token *line, int *at, int *spelling);
/* The token behind the bracket that closes the one at `token`. */
static inline int sg_trim_behind(const sg_trim_unit *unit, int token) {
    return unit->tokens[token].pair + 1;
}
/* Behind the > that closes the < at `token`; -1 where it is not of a template. */
int sg_trim_behind_template(const sg_trim_unit *unit, int token);
/* Behind the statement that starts at `token`, pragmas before it included; -1 where it is none that
 * we know. */
int sg_trim_behind_statement(const sg_trim_unit *unit, int token);
/* The first of the pragmas right before the statement at `token`. */
int sg_trim_first_pragma(const sg_trim_unit *unit, int token);
/* Whether an if, an else or a loop governs the statement: no block is around it, and no other
 * statement can follow it there. */
bool sg_trim_is_governed(const sg_trim_unit *unit, int token);
/* The statement goes; where one must stand, an empty one comes instead. */
void sg_trim_drop_statement(sg_trim_unit *unit, int first, int behind);
/* Of every token, the { of the block that it is in, -1: none. NULL where memory ran out. */
int *sg_trim_blocks(const sg_trim_unit *unit);
/* Whether a word stands between tokens first and behind, but not as a member. */
bool sg_trim_mentions(const sg_trim_unit *unit, int first, int behind, int spelling);
/* Where what stands before a token and belongs to it begins: the comment that ends on the line
 * before, or on the same line; else the token itself. Titles of sections, heads of files and lines
 * "//@" belong to none. */
int sg_trim_lead(const sg_trim_unit *unit, int token);
/* Behind the comment that follows a token on its line; else the token's end. */
int sg_trim_trail(const sg_trim_unit *unit, int token);

/* Bytes from start to end become `text`, which must live as long as the unit. Where nothing is left
 * of a line, the line goes. */
void sg_trim_replace(sg_trim_unit *unit, int start, int end, const char *text);
/* Tokens first .. behind - 1 go, with the comments that belong to them. */
void sg_trim_erase(sg_trim_unit *unit, int first, int behind);
/* The text with its edits; NULL where memory ran out. */
const char *sg_trim_apply(sg_trim_unit *unit);

/* ---- the passes ---------------------------------------------------------------------------- */
/* Each notes edits in a unit that was read; they stand in the order they are made in. */

/* Paragraphs of comments that begin "With NAME", where the constant is 0. */
void sg_trim_paragraphs(sg_trim_unit *unit);
/* What no kernel reaches by name: functions, types, constants, members. */
void sg_trim_reach(sg_trim_unit *unit);
/* Branches, loops, and operands that constants decide. */
void sg_trim_fold(sg_trim_unit *unit);
/* Data members that are assigned and not read, or assigned one number and nothing else. */
void sg_trim_members(sg_trim_unit *unit);
/* Calls of functions that do nothing, arguments that nobody reads, variables likewise. */
void sg_trim_drop(sg_trim_unit *unit);
/* Numbers that templates of functions take, where all calls give the same. */
void sg_trim_templates(sg_trim_unit *unit);
/* Constants that are 0, 1 or used once, and dimensions of 1. */
void sg_trim_constants(sg_trim_unit *unit);
/* What folding makes trivial: branches around nothing, names that stand for another, functions that
 * only call another. */
void sg_trim_tidy(sg_trim_unit *unit);
/* Titles of sections and heads of files that nothing is left of; indentation, the length of lines,
 * empty lines. NULL where memory ran out. */
const char *sg_trim_lay_out(sg_arena *arena, const char *text);
/* A statement as lines of at most 100 columns; the first starts in column `indent`. */
const char *sg_trim_fill(sg_arena *arena, const char *line, int indent);

#endif
