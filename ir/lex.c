// The lexer of the text form (lex.h). Linear, no recursion, no allocation but for names; every byte is accepted or ends
// up in a TOK_BAD with its reason, so the parser never sees a byte that is not a token.
#include "ir/lex.h"

#include <stdlib.h>
#include <string.h>

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static bool is_alnum(char c) { return is_alpha(c) || is_digit(c); }

static int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// Length of the name at s, 0 when there is none. A '.' belongs to it only when a letter or digit follows, so that
// ranges (%a..%b) end a name.
static size_t name_length(const char *s) {
  if (!is_alpha(s[0])) return 0;
  size_t n = 1;
  while (is_alnum(s[n]) || (s[n] == '.' && is_alnum(s[n + 1]))) n++;
  return n;
}

bool lex_is_name(const char *s) {
  size_t n = name_length(s);
  return n > 0 && s[n] == 0;
}

static void advance(Lexer *lex, size_t n) {
  lex->at += n;
  lex->col += (int32_t)n;
}

static void skip_blanks(Lexer *lex) {
  for (;;) {
    char c = *lex->at;
    if (lex->at == lex->end) return;
    if (c == '\n') {
      lex->at++;
      lex->line++;
      lex->col = 1;
    } else if (c == ' ' || c == '\t' || c == '\r') {
      advance(lex, 1);
    } else if (c == '#') {
      const char *eol = memchr(lex->at, '\n', (size_t)(lex->end - lex->at));
      advance(lex, (size_t)((eol ? eol : lex->end) - lex->at));
    } else {
      return;
    }
  }
}

static Token bad(Lexer *lex, Token t, size_t n, const char *why) {
  t.kind = TOK_BAD;
  t.n = n;
  t.text = why;
  advance(lex, n);
  return t;
}

// Digits, then optionally a fraction and an exponent. "0..4" is 0, "..", 4.
static Token number(Lexer *lex, Token t) {
  const char *s = lex->at;
  char *end;
  t.kind = TOK_INT;
  if (s[0] == '0' && s[1] == 'x' && hex_digit(s[2]) >= 0) {
    t.i = strtoull(s, &end, 16);
    t.n = (size_t)(end - s);
    if (t.n > 18) return bad(lex, t, t.n, "an integer of more than 64 bits");
  } else {
    size_t n = 0;
    while (is_digit(s[n])) n++;
    bool overflow = false;
    for (size_t k = 0; k < n; k++)
      overflow |= __builtin_mul_overflow(t.i, 10u, &t.i) || __builtin_add_overflow(t.i, (uint64_t)(s[k] - '0'), &t.i);
    if (s[n] == '.' && is_digit(s[n + 1])) {
      t.kind = TOK_FLOAT;
      for (n++; is_digit(s[n]);) n++;
    }
    size_t e = n + 1 + (s[n] && (s[n + 1] == '-' || s[n + 1] == '+'));
    if ((s[n] == 'e' || s[n] == 'E') && is_digit(s[e])) {
      t.kind = TOK_FLOAT;
      for (n = e; is_digit(s[n]);) n++;
    }
    if (t.kind == TOK_INT && overflow) return bad(lex, t, n, "an integer of more than 64 bits");
    t.n = n;
  }
  if (is_alnum(s[t.n])) return bad(lex, t, t.n + 1, "a letter inside a number");
  t.f = t.kind == TOK_INT ? (double)t.i : strtod(s, NULL);
  advance(lex, t.n);
  return t;
}

// One escape after the backslash at s; returns its length without the backslash, 0 when it is none.
static size_t escape(const char *s, char *out) {
  *out = s[0];
  if (s[0] == 'n') *out = '\n';
  if (s[0] == 't') *out = '\t';
  if (s[0] == 'n' || s[0] == 't' || s[0] == '"' || s[0] == '\\') return 1;
  if (s[0] != 'x' || hex_digit(s[1]) < 0 || hex_digit(s[2]) < 0) return 0;
  *out = (char)(hex_digit(s[1]) * 16 + hex_digit(s[2]));
  return *out ? 3 : 0;
}

// A quoted text at s (which points at the quote); *n is its length with both quotes. NULL when malformed.
static const char *quoted(Lexer *lex, const char *s, size_t *n) {
  size_t len = 1;
  while (s[len] != '"') {
    if (s + len >= lex->end || s[len] == '\n') {
      *n = len;
      return NULL;
    }
    len += s[len] == '\\' && s + len + 1 < lex->end && s[len + 1] != '\n' ? 2 : 1;
  }
  *n = len + 1;
  char *out = arena_alloc(lex->scratch, len);
  size_t k = 0;
  for (size_t i = 1; i < len; i++) {
    if (s[i] == '\\') {
      size_t skip = escape(s + i + 1, &out[k++]);
      if (!skip) return NULL;
      i += skip;
    } else if (s[i] == 0) {
      return NULL;
    } else {
      out[k++] = s[i];
    }
  }
  return intern_n(lex->names, out, k);
}

// %x, %12, %"x", @x, @"x"
static Token sigil(Lexer *lex, Token t) {
  const char *s = lex->at;
  t.kind = s[0] == '%' ? TOK_VALUE : TOK_SYMBOL;
  size_t n = name_length(s + 1);
  if (s[1] == '"') {
    t.text = quoted(lex, s + 1, &n);
    if (!t.text) return bad(lex, t, n + 1, "a quoted name that is not closed on its line or has a bad escape");
  } else if (n == 0 && s[0] == '%') {
    while (is_digit(s[1 + n])) n++;
    t.numbered = true;
  }
  if (n == 0) return bad(lex, t, 1, s[0] == '%' ? "'%' without a name" : "'@' without a name");
  if (!t.text) t.text = intern_n(lex->names, s + 1, n);
  t.n = n + 1;
  advance(lex, t.n);
  return t;
}

static Token single(Lexer *lex, Token t) {
  const char *s = lex->at;
  if ((s[0] == '-' && s[1] == '>') || (s[0] == '.' && s[1] == '.')) {
    t.kind = s[0] == '-' ? TOK_ARROW : TOK_RANGE;
    t.n = 2;
  } else if (s[0] && strchr("{}()[],:=+-*?", s[0])) {
    t.kind = s[0];
    t.n = 1;
  } else {
    return bad(lex, t, 1, "a character that starts nothing");
  }
  advance(lex, t.n);
  return t;
}

Token lex_next(Lexer *lex) {
  skip_blanks(lex);
  Token t = {.kind = TOK_END, .line = lex->line, .col = lex->col, .at = lex->at};
  t.first_of_line = lex->line != lex->last_line;
  lex->last_line = lex->line;
  if (lex->at == lex->end) return t;
  char c = *lex->at;
  if (c == '%' || c == '@') return sigil(lex, t);
  if (is_digit(c)) return number(lex, t);
  if (c == '"') {
    t.kind = TOK_STRING;
    t.text = quoted(lex, lex->at, &t.n);
    if (!t.text) return bad(lex, t, t.n, "a string that is not closed on its line or has a bad escape");
    advance(lex, t.n);
    return t;
  }
  t.n = name_length(lex->at);
  if (t.n == 0) return single(lex, t);
  t.kind = TOK_NAME;
  t.text = intern_n(lex->names, lex->at, t.n);
  advance(lex, t.n);
  return t;
}
