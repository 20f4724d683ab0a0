// Weight schemes as text: read, and written for reports. See weights.h.
#include <stdlib.h>
#include <string.h>

#include "ir/base/str.h"
#include "passes/quantize/weights.h"

static const char *scheme_names(Arena *arena) {
  StrBuf b;
  strbuf_init(&b, arena);
  for (uint32_t i = 0; i < weight_scheme_count(); i++)
    strbuf_printf(&b, "%s%s", i > 0 ? ", " : "", weight_scheme_at(i)->name);
  return strbuf_str(&b);
}

static bool word_is(const char *at, size_t n, const char *word) {
  return strlen(word) == n && memcmp(at, word, n) == 0;
}

// "NAME=" and a whole number up to `end`.
static bool number_of(const char *at, size_t n, const char *name, int64_t *out) {
  size_t k = strlen(name);
  char *end;
  if (n <= k + 1 || memcmp(at, name, k) != 0 || at[k] != '=') return false;
  *out = strtoll(at + k + 1, &end, 10);
  return end == at + n && *out >= 0;
}

static bool has_bits(const WeightScheme *s) { return s->book == BOOK_GRID || s->book == BOOK_PLANES; }
static bool has_levels(const WeightScheme *s) { return s->book == BOOK_FREE || s->book == BOOK_VECTORS; }

// One part of the text; false: it is none.
static bool read_part(const char *at, size_t n, WeightSpec *s) {
  int64_t v;
  if (word_is(at, n, "tensor")) {
    s->grain = GRAIN_TENSOR;
  } else if (word_is(at, n, "channel")) {
    s->grain = GRAIN_CHANNEL;
  } else if (word_is(at, n, "clip")) {
    s->clip = true;
  } else if (word_is(at, n, "zeros")) {
    s->zeros = true;
  } else if (number_of(at, n, "block", &v)) {
    s->grain = GRAIN_BLOCK;
    s->block = v;
  } else if (number_of(at, n, "bits", &v) && has_bits(s->scheme)) {
    s->bits = (uint32_t)(v < UINT32_MAX ? v : UINT32_MAX);
  } else if (number_of(at, n, "levels", &v) && has_levels(s->scheme)) {
    s->levels = (uint32_t)(v < UINT32_MAX ? v : UINT32_MAX);
  } else if (number_of(at, n, "width", &v) && s->scheme->book == BOOK_VECTORS && v > 0) {
    s->width = v;
  } else if (number_of(at, n, "rounds", &v) && s->scheme->book == BOOK_VECTORS) {
    s->rounds = (uint32_t)(v < UINT32_MAX ? v : UINT32_MAX);
  } else if (number_of(at, n, "seed", &v)) {
    s->seed = (uint64_t)v;
  } else {
    return false;
  }
  return true;
}

static bool check(const WeightSpec *s, const char *option, Diag *diag) {
  const WeightScheme *f = s->scheme;
  const char *what = has_bits(f) ? "bits" : "levels";
  uint32_t v = has_bits(f) ? s->bits : s->levels;
  if (f->book == BOOK_FIXED || (v >= f->least && v <= f->most)) return true;
  return diag_error(diag, DIAG_USAGE, NULL, "%s=%s has %u to %u %s, not %u", option, f->name, f->least, f->most, what,
                    v);
}

bool weight_spec_read(const char *text, const char *option, Diag *diag, WeightSpec *out, const char **rest) {
  size_t n = strcspn(text, ":");
  const WeightScheme *scheme = weight_scheme_by_name(text, n);
  if (scheme == NULL) {
    Arena *arena = arena_new("names");
    diag_error(diag, DIAG_USAGE, NULL, "%s knows no weight scheme '%.*s'; there are %s", option, (int)(n > 40 ? 40 : n),
               text, scheme_names(arena));
    arena_free(arena);
    return false;
  }
  *out = (WeightSpec){.scheme = scheme, .seed = 1};
  out->bits = has_bits(scheme) ? scheme->usual : 0;
  out->levels = has_levels(scheme) ? scheme->usual : 0;
  const char *at = text + n;
  for (; *at == ':'; at += n + 1) {
    n = strcspn(at + 1, ":");
    if (!read_part(at + 1, n, out)) break;
  }
  *rest = *at == ':' ? at + 1 : "";
  return check(out, option, diag);
}

const char *weight_spec_text(const WeightSpec *s, Arena *arena) {
  StrBuf b;
  strbuf_init(&b, arena);
  strbuf_printf(&b, "%s", s->scheme->name);
  if (has_bits(s->scheme)) strbuf_printf(&b, ", %u bits", s->bits);
  if (has_levels(s->scheme)) strbuf_printf(&b, ", %u levels", s->levels);
  if (s->scheme->book == BOOK_VECTORS && s->width > 0) strbuf_printf(&b, " of %lld", (long long)s->width);
  if (s->grain == GRAIN_CHANNEL) strbuf_printf(&b, ", per channel");
  if (s->grain == GRAIN_BLOCK) strbuf_printf(&b, ", per block of %lld", (long long)s->block);
  if (s->clip) strbuf_printf(&b, ", clipped");
  if (s->zeros) strbuf_printf(&b, ", zeros kept");
  return strbuf_str(&b);
}
