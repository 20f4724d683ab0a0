// Groups, statistics and the table of schemes. See weights.h.
#include "passes/quantize/weights.h"

#include <math.h>
#include <string.h>

#include "ir/base/intmath.h"
#include "ir/elem.h"

#define WEIGHT_SCHEME(name, function, book, least, most, usual, help) \
  bool function(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why);
#include "passes/quantize/weight_schemes.def"
#undef WEIGHT_SCHEME

static const WeightScheme schemes[] = {
#define WEIGHT_SCHEME(name, function, book, least, most, usual, help) \
  {#name, function, BOOK_##book, least, most, usual, help},
#include "passes/quantize/weight_schemes.def"
#undef WEIGHT_SCHEME
};

uint32_t weight_scheme_count(void) { return sizeof schemes / sizeof *schemes; }
const WeightScheme *weight_scheme_at(uint32_t i) { return &schemes[i]; }

const WeightScheme *weight_scheme_by_name(const char *name, size_t n) {
  for (uint32_t i = 0; i < weight_scheme_count(); i++)
    if (strlen(schemes[i].name) == n && memcmp(schemes[i].name, name, n) == 0) return &schemes[i];
  return NULL;
}

// ---- statistics

static uint32_t code_bits(uint32_t n) {
  uint32_t bits = 0;
  while (bits < 16 && n > 1U << bits) bits++;
  return bits;
}

static int64_t code_count(const WeightGroup *g) { return g->n / g->width; }

static uint32_t largest_book(const WeightFit *f) {
  uint32_t most = 1;
  for (int64_t i = 0; i < f->n_groups; i++) most = f->group[i].n_book > most ? f->group[i].n_book : most;
  return most;
}

// Levels that occur, and the entropy of all codes together.
static void count_codes(WeightFit *f, Arena *arena) {
  uint32_t most = largest_book(f);
  int64_t *all = NEW_ARRAY(arena, int64_t, most), total = 0;
  int64_t *seen = NEW_ARRAY(arena, int64_t, most);  // the last group, plus 1, with that code
  for (int64_t i = 0; i < f->n_groups; i++) {
    const WeightGroup *g = &f->group[i];
    uint32_t used = 0;
    for (int64_t k = 0; k < code_count(g); k++) {
      used += seen[g->code[k]] != i + 1;
      seen[g->code[k]] = i + 1;
      all[g->code[k]]++;
    }
    total += code_count(g);
    f->stats.levels = used > f->stats.levels ? used : f->stats.levels;
  }
  for (uint32_t k = 0; k < most; k++) {
    double p = total > 0 ? (double)all[k] / (double)total : 0;
    if (p > 0) f->stats.entropy -= p * log2(p);
  }
}

static int64_t count_distinct(const WeightFit *f, Arena *arena) {
  float *v = arena_copy(arena, f->value, (size_t)f->n * sizeof *v);
  int64_t distinct = 0;
  floats_sort(f->n, v);
  for (int64_t i = 0; i < f->n; i++) distinct += i == 0 || v[i] != v[i - 1];
  return distinct;
}

// Bytes of books and scales.
static int64_t book_bytes(const WeightFit *f) {
  int64_t bytes = 0;
  bool any_zero = false;
  for (int64_t i = 0; i < f->n_groups; i++) any_zero = any_zero || f->group[i].zero != 0;
  for (int64_t i = 0; i < f->n_groups; i++) {
    const WeightGroup *g = &f->group[i];
    bytes += g->grid ? 4 + any_zero : (g->width > 1 ? 2 : 4) * (int64_t)g->n_book * g->width;
  }
  return bytes;
}

static void measure(WeightFit *f, Arena *arena) {
  ArenaMark mark = arena_mark(arena);
  double ww = 0, vv = 0, wv = 0, lost = 0;
  f->stats = (WeightStats){0};
  for (int64_t i = 0; i < f->n; i++) {
    const WeightGroup *g = &f->group[i / f->in_group];
    int64_t at = i % f->in_group;
    double w = (double)f->from[i], v = (double)g->book[g->code[at / g->width] * g->width + at % g->width];
    ww += w * w;
    vv += v * v;
    wv += w * v;
    lost += (w - v) * (w - v);
    f->stats.largest = fmax(f->stats.largest, fabs(w - v));
    f->value[weights_place(f, i / f->per, i % f->per)] = (float)v;
  }
  f->stats.cosine = ww > 0 && vv > 0 ? wv / sqrt(ww * vv) : (double)(ww == vv);
  f->stats.relative = ww > 0 ? sqrt(lost / ww) : (double)(lost > 0);
  count_codes(f, arena);
  f->stats.distinct = count_distinct(f, arena);
  f->stats.bits = code_bits(largest_book(f));
  int64_t codes = f->n_groups > 0 ? f->n / f->group[0].width : 0, books = book_bytes(f);
  f->stats.bytes = (int64_t)ceil((double)codes * f->stats.bits / 8) + books;
  f->stats.bytes_coded = (int64_t)ceil((double)codes * f->stats.entropy / 8) + books;
  arena_reset(arena, mark);
}

void weights_refresh(WeightFit *fit, Arena *arena) {
  for (int64_t i = 0; i < fit->n_groups; i++) {
    WeightGroup *g = &fit->group[i];
    for (uint32_t k = 0; g->grid && k < g->n_book; k++)
      g->book[k] = g->scale * (float)(g->lo + g->step * (int32_t)k - g->zero);
  }
  measure(fit, arena);
}

// ---- groups

int64_t weights_place(const WeightFit *fit, int64_t c, int64_t p) {
  if (fit->w == NULL) return c * fit->per + p;
  int64_t inner = 1;
  for (uint32_t i = fit->axis + 1; i < fit->w->type->rank; i++) inner *= fit->w->type->dims[i];
  return (p / inner * fit->channels + c) * inner + p % inner;
}

static void mean_of(const WeightFit *f, double *mean, double *deviation) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < f->n; i++) sum += (double)f->from[i];
  *mean = sum / (double)f->n;
  for (int64_t i = 0; i < f->n; i++) squares += pow((double)f->from[i] - *mean, 2);
  *deviation = sqrt(squares / (double)f->n);
}

// The diagonal blocks of the moments, width x width each.
static const double *gram_blocks(const WeightMoments *moments, int64_t per, int64_t width, Arena *arena) {
  if (moments == NULL || moments->n != per) return NULL;
  double *to = NEW_ARRAY(arena, double, per *width);
  int64_t stride = per + 1;
  for (int64_t p = 0; p < per; p++)
    for (int64_t k = 0; k < width; k++) to[p * width + k] = moments->g[p * stride + p / width * width + k];
  return to;
}

static bool cut_groups(WeightFit *f, const char **why) {
  const WeightSpec *s = &f->spec;
  f->in_group = s->grain == GRAIN_TENSOR ? f->n : s->grain == GRAIN_CHANNEL ? f->per : s->block;
  if (s->grain == GRAIN_BLOCK && (s->block <= 0 || f->per % s->block != 0)) {
    *why = "its channels are not whole blocks";
    return false;
  }
  f->n_groups = f->n / f->in_group;
  return true;
}

static bool run_group(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  if (s->book == NULL) return s->scheme->run(g, s, arena, why);
  g->n_book = s->n_book;
  g->book = arena_copy(arena, s->book, s->n_book * sizeof *s->book);
  group_assign(g);
  return true;
}

static bool run_groups(WeightFit *f, const WeightMoments *moments, Arena *arena, const char **why) {
  const WeightSpec *s = &f->spec;
  int64_t width = s->scheme->book == BOOK_VECTORS ? s->width : 1;
  if (width < 1 || f->per % width != 0 || (width > 1 && s->grain == GRAIN_BLOCK)) {
    *why = "its channels are not whole vectors";
    return false;
  }
  WeightGroup g = {.width = width, .period = f->per, .n = f->in_group, .step = 1};
  if (s->scheme->book == BOOK_VECTORS) g.gram = gram_blocks(moments, f->per, width, arena);
  mean_of(f, &g.mean, &g.deviation);
  f->group = NEW_ARRAY(arena, WeightGroup, f->n_groups);
  f->code = NEW_ARRAY(arena, uint16_t, f->n / width);
  f->value = NEW_ARRAY(arena, float, f->n);
  for (int64_t i = 0; i < f->n_groups; i++) {
    f->group[i] = g;
    f->group[i].first = i * f->in_group;
    f->group[i].w = f->from + i * f->in_group;
    f->group[i].code = f->code + i * (f->in_group / width);
    if (!run_group(&f->group[i], s, arena, why)) return false;
  }
  measure(f, arena);
  return true;
}

static bool all_finite(const WeightFit *f) {
  for (int64_t i = 0; i < f->n; i++)
    if (!isfinite(f->from[i])) return false;
  return true;
}

static bool fit_groups(WeightFit *f, const WeightMoments *moments, Arena *arena, const char **why) {
  if (f->n == 0) {
    *why = "it is empty";
    return false;
  }
  if (!all_finite(f)) {
    *why = "weights are not finite";
    return false;
  }
  return cut_groups(f, why) && run_groups(f, moments, arena, why);
}

bool weights_fit_floats(const float *w, int64_t channels, int64_t per, const WeightSpec *s,
                        const WeightMoments *moments, Arena *arena, WeightFit *out, const char **why) {
  *out = (WeightFit){.spec = *s, .n = channels * per, .channels = channels, .per = per};
  if (out->spec.width == 0) out->spec.width = per % 9 == 0 ? 9 : 4;
  out->from = arena_copy(arena, w, (size_t)out->n * sizeof *w);
  return fit_groups(out, moments, arena, why);
}

// A vector of the default width is a filter's plane, or the paper's 4 of other layers.
static int64_t usual_width(const Type *t) {
  int64_t taps = 1;
  for (uint32_t i = 2; i < t->rank; i++) taps *= t->dims[i];
  return taps > 1 ? taps : 4;
}

bool weights_fit_scheme(Module *m, const Value *w, uint32_t axis, const WeightSpec *s, const WeightMoments *moments,
                        Arena *arena, WeightFit *out, const char **why) {
  const Type *t = w->type;
  if (!value_is_const(w) || !dtype_is_float(t->dtype) || t->dtype == DT_F64 || axis >= t->rank) {
    *why = "the weights are no constant floats";
    return false;
  }
  *out = (WeightFit){.w = w, .spec = *s, .axis = axis, .n = type_count(t), .channels = t->dims[axis]};
  out->per = out->channels > 0 ? out->n / out->channels : 0;
  if (out->spec.width == 0) out->spec.width = usual_width(t);
  out->from = NEW_ARRAY(arena, float, out->n + 1);
  const void *data = const_data(m, w->constant);
  for (int64_t i = 0; i < out->n; i++)
    out->from[i] = (float)elem_get_f(data, t->dtype, weights_place(out, i / out->per, i % out->per));
  return fit_groups(out, moments, arena, why);
}
