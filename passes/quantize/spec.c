// --quantize as text.
//
//   int8                                        w8a8 of every layer
//   w4a8:percentile=99.9                        4-bit weights; ranges of activations by percentile
//   w8                                          weights only
//   w4a8:kmeans:head*                           a scheme of weights (weight_schemes.def) with its own words
//   float:head*                                 these layers stay as they are
//
//   w4a8:weights=minmax                         ... said to be one of weights: `minmax` alone is one of activations
//
// BITS, then words in any order, then a pattern of layer names. Rules are read from left to right and the last one that
// fits a layer holds for it.
#include <stdlib.h>
#include <string.h>

#include "passes/quantize/quantize.h"

#define FORM_OF_RULE "int8|float|wB[aB][:SCHEME..][:nearest][:all][:force][:LAYERS]"

static bool refuse(Diag *diag, const char *text, const char *why) {
  return diag_error(diag, DIAG_USAGE, NULL, "--quantize wants " FORM_OF_RULE ", %s: '%.100s'", why, text);
}

// Symmetric steps per channel; below 8 bits without the outermost weights where that loses less.
static WeightSpec plain_weights(uint32_t bits) {
  return (WeightSpec){.scheme = weight_scheme_by_name("symmetric", strlen("symmetric")),
                      .bits = bits,
                      .grain = GRAIN_CHANNEL,
                      .clip = bits < 8,
                      .seed = 1};
}

void quant_choice_bytes(QuantChoice *c) { c->w = plain_weights(8); }

// A width of 1 to 8 behind a letter. Returns where it ends, or NULL.
static const char *read_bits(const char *p, char letter, uint32_t *bits) {
  if (p[0] != letter || p[1] < '1' || p[1] > '8') return NULL;
  *bits = (uint32_t)(p[1] - '0');
  return p + 2;
}

static bool read_widths(const char *name, QuantRule *r) {
  uint32_t bits = 0;
  if (strcmp(name, "float") == 0) return true;
  if (strcmp(name, "int8") == 0) name = "w8a8";
  const char *p = read_bits(name, 'w', &bits);
  if (p != NULL && *p) p = read_bits(p, 'a', &r->choice.x_bits);
  r->choice.w_given = true;
  r->choice.w = plain_weights(bits > 1 ? bits : 2);
  r->choice.w.bits = bits;
  return p != NULL && *p == 0;
}

typedef enum Word { WORD_NONE, WORD_GOOD, WORD_BAD } Word;

static Word read_activation(const char *word, Arena *arena, QuantChoice *c) {
  size_t n = strcspn(word, "=");
  const ActivationScheme *s = activation_scheme_by_name(arena_printf(arena, "%.*s", (int)n, word));
  if (s == NULL) return WORD_NONE;
  c->x = s;
  c->x_value = s->missing;
  if (word[n] == 0) return WORD_GOOD;
  char *end;
  c->x_value = strtod(word + n + 1, &end);
  bool good = end != word + n + 1 && *end == 0 && s->least < s->most && c->x_value >= s->least && c->x_value <= s->most;
  return good ? WORD_GOOD : WORD_BAD;
}

// A scheme of weights and its own words from `p` on; where they end in *rest. Widths come from BITS.
static bool read_weights(const char *p, Diag *diag, QuantChoice *c, const char **rest) {
  uint32_t bits = c->w.bits;
  if (!weight_spec_read(p, "--quantize", diag, &c->w, rest)) return false;
  const WeightScheme *s = c->w.scheme;
  if (s->book == BOOK_GRID || s->book == BOOK_PLANES) c->w.bits = bits;
  if (s->book == BOOK_FREE && strstr(p, "levels=") == NULL) c->w.levels = UINT32_C(1) << bits;
  return true;
}

// One word at p; *next is where the next one would begin.
static Word read_word(const char *p, Diag *diag, Arena *arena, QuantRule *r, const char **next) {
  size_t n = strcspn(p, ":");
  const char *word = arena_printf(arena, "%.*s", (int)n, p);
  const struct {
    const char *word;
    bool *set;
  } flags[] = {{"nearest", &r->choice.nearest}, {"force", &r->choice.force}, {"all", &r->all}};
  *next = p[n] == ':' ? p + n + 1 : "";
  for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
    if (strcmp(word, flags[i].word) == 0) {
      *flags[i].set = true;
      return WORD_GOOD;
    }
  Word got = read_activation(word, arena, &r->choice);
  if (got == WORD_BAD) refuse(diag, word, "and percentile alone takes a number, from 50 to 100");
  if (got != WORD_NONE) return got;
  size_t skip = strncmp(p, "weights=", 8) == 0 ? 8 : 0;
  if (r->choice.w_given && (skip > 0 || weight_scheme_by_name(word, n) != NULL))
    return read_weights(p + skip, diag, &r->choice, next) ? WORD_GOOD : WORD_BAD;
  if (r->choice.w_given && (strcmp(word, "per-tensor") == 0 || strcmp(word, "per-channel") == 0)) {
    r->choice.w.grain = word[4] == 't' ? GRAIN_TENSOR : GRAIN_CHANNEL;
    return WORD_GOOD;
  }
  return WORD_NONE;
}

static bool check_bits(const QuantRule *r, Diag *diag) {
  const WeightScheme *s = r->choice.w.scheme;
  if (!r->choice.w_given || (s->book != BOOK_GRID && s->book != BOOK_PLANES)) return true;
  if (r->choice.w.bits >= s->least && r->choice.w.bits <= s->most) return true;
  return diag_error(diag, DIAG_USAGE, NULL, "--quantize=%.100s: weights by '%s' have %u to %u bits", r->text, s->name,
                    s->least, s->most);
}

bool quant_rule_read(const char *text, Diag *diag, Arena *arena, QuantRule *out) {
  size_t n = strcspn(text, ":");
  const char *p = text[n] == ':' ? text + n + 1 : "", *next;
  *out = (QuantRule){.text = text};
  out->choice.x = activation_scheme_by_name("mse");
  if (!read_widths(arena_printf(arena, "%.*s", (int)(n > 60 ? 60 : n), text), out))
    return refuse(diag, text, "with widths B from 1 to 8");
  for (; *p; p = next) {
    Word got = read_word(p, diag, arena, out, &next);
    if (got == WORD_BAD) return false;
    if (got == WORD_NONE) {
      out->layers = p;
      break;
    }
  }
  QuantChoice *c = &out->choice;
  if (c->x->bits != 0 && c->x_bits != 0) c->x_bits = c->x->bits;
  return check_bits(out, diag);
}

static const char *grain_text(const WeightSpec *w, Arena *arena) {
  if (w->grain == GRAIN_BLOCK) return arena_printf(arena, ":block=%lld", (long long)w->block);
  return w->grain == GRAIN_TENSOR ? ":tensor" : ":channel";
}

const char *quant_choice_text(const QuantChoice *c, Arena *arena) {
  const WeightSpec *w = &c->w;
  if (!c->w_given) return "float";
  StrBuf b;
  strbuf_init(&b, arena);
  bool bits = w->scheme->book == BOOK_GRID || w->scheme->book == BOOK_PLANES;
  bool levels = w->scheme->book == BOOK_FREE || w->scheme->book == BOOK_VECTORS;
  strbuf_printf(&b, "w%u", bits ? w->bits : 8);
  if (c->x_bits != 0) strbuf_printf(&b, "a%u", c->x_bits);
  strbuf_printf(&b, ":weights=%s%s", w->scheme->name, grain_text(w, arena));
  if (levels) strbuf_printf(&b, ":levels=%u", w->levels);
  if (w->width > 0) strbuf_printf(&b, ":width=%lld", (long long)w->width);
  if (w->clip) strbuf_puts(&b, ":clip");
  if (w->zeros) strbuf_puts(&b, ":zeros");
  if (w->seed != 1) strbuf_printf(&b, ":seed=%llu", (unsigned long long)w->seed);
  if (c->x_bits != 0) strbuf_printf(&b, ":%s", c->x->name);
  if (c->x_bits != 0 && c->x->least < c->x->most) strbuf_printf(&b, "=%.17g", c->x_value);
  if (c->nearest) strbuf_puts(&b, ":nearest");
  if (c->force) strbuf_puts(&b, ":force");
  strbuf_puts(&b, ":all");
  return strbuf_str(&b);
}
