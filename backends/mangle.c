// Injective mangling of arbitrary bytes into C identifiers.
//
// [A-Za-z0-9] stay, '_' doubles, any other byte becomes _xHH. A name that would not begin with a letter, or that is a
// keyword of C or C++ or a common macro gets the prefix "n_" ("n_z" before '_'): a single '_' that is followed neither
// by
// '_' nor by x and two hex digits never comes out of the escape, so prefixed names meet no others. Results longer than
// MANGLE_MAX are cut and end in "_h" and a 64-bit hash. Locale free.
#include <stdio.h>
#include <string.h>

#include "backends/backend.h"
#include "ir/base/str.h"

#define MANGLE_MAX 200

static bool is_letter(unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }

static const char *const reserved[] = {
    "alignas",   "alignof",  "and",      "asm",      "auto",     "bitand",  "bitor",   "bool",      "break",
    "case",      "catch",    "char",     "class",    "compl",    "concept", "const",   "consteval", "constexpr",
    "constinit", "continue", "decltype", "default",  "delete",   "do",      "double",  "else",      "enum",
    "errno",     "explicit", "export",   "extern",   "false",    "float",   "for",     "friend",    "goto",
    "if",        "import",   "inline",   "int",      "linux",    "long",    "module",  "mutable",   "namespace",
    "new",       "noexcept", "not",      "nullptr",  "operator", "or",      "private", "protected", "public",
    "register",  "requires", "restrict", "return",   "short",    "signed",  "sizeof",  "static",    "struct",
    "switch",    "template", "this",     "throw",    "true",     "try",     "typedef", "typeid",    "typename",
    "typeof",    "union",    "unix",     "unsigned", "using",    "virtual", "void",    "volatile",  "while",
    "xor",       "BUFSIZ",   "EOF",      "FALSE",    "FILE",     "I",       "NULL",    "TRUE",      "assert",
    "emit",      "max",      "min",      "signals",  "slots",    "stderr",  "stdin",   "stdout"};

static bool is_reserved(const char *s) {
  for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
    if (strcmp(reserved[i], s) == 0) return true;
  return false;
}

const char *mangle(Arena *arena, const char *bytes, size_t n) {
  static const char hex[] = "0123456789abcdef";
  StrBuf b;
  strbuf_init(&b, arena);
  bool is_word = n > 0 && is_letter((unsigned char)bytes[0]);
  for (size_t i = 0; i < n && b.n <= MANGLE_MAX; i++) {
    unsigned char c = (unsigned char)bytes[i];
    if (is_letter(c) || is_digit(c))
      strbuf_putc(&b, (char)c);
    else if (c == '_')
      strbuf_puts(&b, "__");
    else
      strbuf_put(&b, (char[]){'_', 'x', hex[c >> 4], hex[c & 15]}, 4);
  }
  const char *text = strbuf_str(&b);
  if (!is_word || is_reserved(text)) text = arena_printf(arena, "%s%s", text[0] == '_' ? "n_z" : "n_", text);
  if (strlen(text) <= MANGLE_MAX) return text;
  uint64_t h = hash_bytes(bytes, n, 0);
  return arena_printf(arena, "%.*s_h%016llx", MANGLE_MAX, text, (unsigned long long)h);
}
