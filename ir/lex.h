// Tokens of the text form, produced one at a time. Private to ir/parse*.c and ir/print*.c.
//
//   name     f32 matmul loc        letters, digits, '_', and '.' before a letter or digit
//   value    %x %12 %"any text"    symbol  @w @"conv1.weight"
//   integer  12 0x1f               float   0.5 1e-5 (inf and nan are names)
//   string   "a\"b\x0a"            others  -> .. and single characters; `# ...` is a comment
#ifndef QCC_IR_LEX_H
#define QCC_IR_LEX_H

#include "ir/base/str.h"

// A token's kind is the character itself for single characters, else one of these.
enum { TOK_END = 256, TOK_BAD, TOK_NAME, TOK_VALUE, TOK_SYMBOL, TOK_INT, TOK_FLOAT, TOK_STRING, TOK_ARROW, TOK_RANGE };

typedef struct Token {
  int kind;
  int32_t line, col;  // 1-based
  const char *at;     // the bytes in the text
  size_t n;
  const char *text;    // interned: NAME, VALUE, SYMBOL without sigil and quotes, STRING; of BAD: what is wrong
  bool numbered;       // VALUE written as %12
  bool first_of_line;  // no other token before it on its line
  uint64_t i;          // INT
  double f;            // INT, FLOAT
} Token;

typedef struct Lexer {
  const char *at, *end;  // the rest of the text; *end is NUL
  int32_t line, col;
  int32_t last_line;  // line of the token before
  Interner *names;
  Arena *scratch;
} Lexer;

Token lex_next(Lexer *lex);
bool lex_is_name(const char *s);  // s can be written without quotes

#endif
