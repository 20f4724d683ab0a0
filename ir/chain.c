// Reading and writing the contraction of a `chain` op. See chain.h.
//
//   equation = "ab,bcr,rad->cd", sizes = [3,4,5,2,6]     letters a b c r d in the order they appear
//
// Every letter stands in at least two terms, no term holds one twice. A letter that is not in the result is summed.
#include "ir/chain.h"

#include <string.h>

bool chain_term_has(const ChainTerm *t, uint32_t letter) {
  for (uint32_t i = 0; i < t->n; i++)
    if (t->at[i] == letter) return true;
  return false;
}

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static uint32_t letter_number(ChainForm *f, char c) {
  for (uint32_t i = 0; i < f->n_letters; i++)
    if (f->name[i] == c) return i;
  f->name[f->n_letters] = c;
  return f->n_letters++;
}

static bool read_term(ChainForm *f, const char **s, ChainTerm *t) {
  t->n = 0;
  for (; is_letter(**s); ++*s) {
    uint32_t l = letter_number(f, **s);
    if (chain_term_has(t, l)) return false;
    t->at[t->n++] = (uint8_t)l;
  }
  return true;
}

static const char *read_terms(ChainForm *f, const char *s) {
  if (!read_term(f, &s, &f->x)) return "a term of the equation holds a letter twice";
  while (*s == ',') {
    if (f->n_cores == CHAIN_CORES) return "the equation has too many terms";
    s++;
    if (!read_term(f, &s, &f->core[f->n_cores++])) return "a term of the equation holds a letter twice";
  }
  if (strncmp(s, "->", 2) != 0) return "expected '->' after the terms of the equation";
  s += 2;
  if (!read_term(f, &s, &f->y)) return "the result term holds a letter twice";
  return *s ? "the equation goes on after the result term" : NULL;
}

static uint32_t terms_with(const ChainForm *f, uint32_t letter) {
  uint32_t n = chain_term_has(&f->x, letter) + chain_term_has(&f->y, letter);
  for (uint32_t i = 0; i < f->n_cores; i++) n += chain_term_has(&f->core[i], letter);
  return n;
}

const char *chain_read(const Op *op, ChainForm *f) {
  uint32_t n;
  const int64_t *sizes = op_ints(op, A_CHAIN_sizes, &n);
  *f = (ChainForm){0};
  const char *error = read_terms(f, op_str(op, A_CHAIN_equation));
  if (error) return error;
  if (n != f->n_letters) return "sizes must give one number per letter of the equation";
  for (uint32_t i = 0; i < n; i++) {
    f->size[i] = sizes[i];
    if (sizes[i] < 1) return "a letter must take at least one value";
    if (terms_with(f, i) < 2) return "a letter stands in one term only";
  }
  return NULL;
}

// ---- writing

typedef struct Names {
  uint32_t n;
  int64_t size[CHAIN_LETTERS];
  char of[CHAIN_LETTERS];  // by letter; 0: not named yet
} Names;

static void write_term(StrBuf *text, const ChainForm *f, const ChainTerm *t, Names *names) {
  for (uint32_t i = 0; i < t->n; i++) {
    char *name = &names->of[t->at[i]];
    if (*name == 0) {
      *name = (char)(names->n < 26 ? 'a' + (int)names->n : 'A' + (int)names->n - 26);
      names->size[names->n++] = f->size[t->at[i]];
    }
    strbuf_putc(text, *name);
  }
}

void chain_write(Op *op, const ChainForm *f) {
  Names names = {0};
  StrBuf text;
  strbuf_init(&text, op->func->module->arena);
  write_term(&text, f, &f->x, &names);
  for (uint32_t i = 0; i < f->n_cores; i++) {
    strbuf_putc(&text, ',');
    write_term(&text, f, &f->core[i], &names);
  }
  strbuf_puts(&text, "->");
  write_term(&text, f, &f->y, &names);
  op_set_str(op, A_CHAIN_equation, strbuf_str(&text));
  op_set_ints(op, A_CHAIN_sizes, names.n, names.size);
}

// ---- questions

bool chain_term_count(const ChainForm *f, const ChainTerm *t, int64_t *count) {
  *count = 1;
  for (uint32_t i = 0; i < t->n; i++)
    if (!size_mul(*count, f->size[t->at[i]], count)) return false;
  return true;
}

bool chain_axis(const ChainForm *f, const Type *y, uint32_t letter, uint32_t *axis, int64_t *step) {
  int64_t inner = 1, below = 1;
  for (uint32_t i = f->y.n; f->y.at[--i] != letter;) inner *= f->size[f->y.at[i]];
  for (uint32_t a = y->rank; a-- > 0; below *= y->dims[a]) {
    if (inner >= below * y->dims[a] || y->dims[a] == 1) continue;
    *axis = a;
    *step = inner / below;
    return inner % below == 0 && y->dims[a] % (*step * f->size[letter]) == 0;
  }
  *axis = 0;  // a letter of one value in front of all
  *step = 0;
  return f->size[letter] == 1;
}
