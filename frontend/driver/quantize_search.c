// How few bits fit into --max-error. See quantize.h.
//
// Every layer has a ladder: float, 8 bits, and on to what its rule asks for. A step down the ladder saves bytes (or, by
// prices, time) and costs an error, which a layer's own weights predict well enough to put all steps of all layers in
// an order: most saved for the least added error first. How far down that order the network may go is measured: the
// network is compiled and run on the samples, and the longest beginning within the limits is found by bisection. What
// is taken has been measured as a whole. On the way all layers together are measured at 8, 6, 5, 4, 3 and 2 bits: the
// curve of the report.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/driver/quantize.h"
#include "ir/elem.h"
#include "runtime/qcc_rt.h"

typedef struct Search {
  Session *s;
  Quantization *z;
  const QuantReference *ref;
  QuantChoice *asked;  // by layer
} Search;

// ---- measuring

typedef struct Sums {
  double error2, want2, got2, dot;
} Sums;

static void add_result(const Tensor *want, const void *got, Sums *sums, QuantScore *score) {
  DType t = want->type->dtype;
  for (int64_t i = 0, n = dtype_is_float(t) ? type_count(want->type) : 0; i < n; i++) {
    double a = elem_get_f(want->data, t, i), b = elem_get_f(got, t, i);
    sums->error2 += (a - b) * (a - b);
    sums->want2 += a * a;
    sums->got2 += b * b;
    sums->dot += a * b;
    score->most = fmax(score->most, fabs(a - b));
  }
}

static bool is_right(const Tensor *like, const void *data, int64_t label) {
  int64_t best = 0;
  for (int64_t i = 1, n = type_count(like->type); i < n; i++)
    if (elem_get_f(data, like->type->dtype, i) > elem_get_f(data, like->type->dtype, best)) best = i;
  return best == label;
}

static void finish_score(const Sums *sums, QuantScore *score) {
  score->error = sums->want2 > 0 ? sqrt(sums->error2 / sums->want2) : sqrt(sums->error2);
  bool none = sums->want2 == 0 || sums->got2 == 0;
  score->cosine = none ? (double)(sums->want2 == sums->got2) : sums->dot / sqrt(sums->want2 * sums->got2);
  if (!isfinite(score->error)) score->error = score->most = INFINITY;
  if (!isfinite(score->error) || !isfinite(score->cosine)) score->cosine = 0;
}

static bool run_samples(const Search *q, Session *t, const Loaded *l, QuantScore *score) {
  const Func *f = t->m->funcs.at[0];
  Sums sums = {0};
  *score = (QuantScore){0};
  for (uint32_t i = 0; i < q->ref->samples.n; i++) {
    for (uint32_t k = 0; k < f->n_args; k++)
      memcpy(l->inputs[k], q->ref->samples.in[i][k].data, (size_t)type_bytes(f->args[k]->type));
    int status = loaded_run(l);
    if (status != 0) return diag_error(t->diag, DIAG_REFUSED, NULL, "run failed: %s", qcc_status_text(status));
    for (uint32_t k = 0; k < f->n_results; k++) add_result(&q->ref->want[i][k], l->outputs[k], &sums, score);
    if (q->ref->samples.labels != NULL && f->n_results > 0)
      score->right += is_right(&q->ref->want[i][0], l->outputs[0], q->ref->samples.labels[i]);
  }
  finish_score(&sums, score);
  return true;
}

// The network with the choices of the moment.
static bool measure(const Search *q, const char *what, QuantPoint *out) {
  Session t = quantize_session(q->s, q->z);
  const char *pipeline = session_pipeline(q->s), *gate = strstr(pipeline, ",lower");
  ObjectBytes object = {0};
  Loaded l = {0};
  t.arena = arena_new("measure");
  QuantCosts costs = quant_costs_new(q->z, t.arena);
  bool ok = session_load(&t);
  if (ok) t.m->name = t.name;
  ok = ok && session_passes(&t, arena_printf(t.arena, "%.*s", (int)(gate - pipeline), pipeline));
  if (ok) quant_costs(t.m->funcs.at[0], t.target, q->z, &costs);
  ok = ok && session_passes(&t, gate + 1) && session_emit(&t, EMIT_OBJECT, &object) &&
       session_jit(&t, &object, t.name, &l) && run_samples(q, &t, &l, &out->score);
  out->what = arena_printf(q->z->arena, "%s", what);
  out->bytes = (int64_t)object.n;
  out->us = 1e-3 * costs.total / t.target->ghz;
  loaded_free(&l);
  free(object.at);
  arena_free(t.arena);
  return ok;
}

static bool within(const Search *q, const QuantScore *s) {
  const Session *o = q->s;
  const QuantPoint *as_float = &q->z->points.at[0];
  double lost = (double)(as_float->score.right - s->right) / (double)q->ref->samples.n;
  return (o->pass_opt.network_error == 0 || s->error <= o->pass_opt.network_error) &&
         (o->quant_limits.cosine == 0 || 1 - s->cosine <= o->quant_limits.cosine) &&
         (o->quant_limits.most == 0 || s->most <= o->quant_limits.most) &&
         (o->quant_limits.accuracy == 0 || lost <= o->quant_limits.accuracy);
}

static bool any_limit(const Session *s) {
  return s->pass_opt.network_error > 0 || s->quant_limits.cosine > 0 || s->quant_limits.most > 0 ||
         s->quant_limits.accuracy > 0;
}

// ---- ladders

enum { LADDER = 8, ASKED = 1 };  // ASKED: bits of a rung that has no number of them
static const uint32_t rungs[] = {8, 6, 5, 4, 3, 2};

// The rungs of a layer below float; returns how many.
static uint32_t ladder_of(const QuantChoice *asked, uint32_t *bits) {
  uint32_t n = 0;
  bool grid = asked->w.scheme->book == BOOK_GRID;
  for (size_t i = 0; i < sizeof rungs / sizeof rungs[0]; i++)
    if (rungs[i] == 8 || (grid && rungs[i] >= asked->w.bits)) bits[n++] = rungs[i];
  if (grid && bits[n - 1] != asked->w.bits) bits[n++] = asked->w.bits;
  if (!grid) bits[n++] = ASKED;
  return n;
}

static void set_rung(const Search *q, uint32_t layer, uint32_t bits) {
  QuantChoice *c = &q->z->layers.at[layer].choice;
  *c = q->asked[layer];
  if (bits == 0) {
    c->w_given = false;
    c->x_bits = 0;
  } else if (bits != ASKED && bits != c->w.bits) {
    if (c->w.scheme->book != BOOK_GRID) quant_choice_bytes(c);
    c->w.bits = bits;
  }
}

typedef struct Rung {
  uint32_t layer, bits, rank;
  double worth;  // added error per what is saved
} Rung;

static int by_worth(const void *a, const void *b) {
  const Rung *x = a, *y = b;
  if (x->worth != y->worth) return (x->worth > y->worth) - (x->worth < y->worth);
  return x->layer != y->layer ? (x->layer > y->layer) - (x->layer < y->layer)
                              : (x->rank > y->rank) - (x->rank < y->rank);
}

// The squared relative error of weights falls fourfold with every bit; inputs of 8 bits add theirs.
static double error_at(const QuantLayer *l, const QuantChoice *asked, uint32_t bits) {
  double own = l->stats.relative * l->stats.relative;
  if (bits == 0) return 0;
  if (bits == ASKED) return own;
  if (asked->w.scheme->book != BOOK_GRID) return ldexp(1, -16);
  return own * pow(4, (double)asked->w.bits - (double)bits) + (asked->x_bits ? ldexp(1, -2 * (int)asked->x_bits) : 0);
}

static double bytes_at(const QuantLayer *l, uint32_t bits) {
  double n = (double)l->shape.n_w;
  if (bits == ASKED) return (double)l->stats.bytes;
  return n * (bits ? bits : 32) / 8;
}

// What a step saves: bytes, or cycles by prices and a little for bytes.
static double saved_by(const Search *q, uint32_t layer, uint32_t from, uint32_t bits) {
  const QuantLayer *l = &q->z->layers.at[layer];
  double bytes = bytes_at(l, from) - bytes_at(l, bits);
  if (q->s->pass_opt.by_size) return fmax(bytes, 1e-3);
  return fmax(from == 0 ? l->before - l->after : 0, 0) + 1e-3 * fmax(bytes, 1e-3);
}

static Rung *steps_of(const Search *q, uint32_t *n) {
  Rung *all = NEW_ARRAY(q->s->arena, Rung, q->z->layers.n * LADDER + 1);
  *n = 0;
  for (uint32_t i = 0; i < q->z->layers.n; i++) {
    const QuantLayer *l = &q->z->layers.at[i];
    uint32_t bits[LADDER], from = 0, rungs_here = q->asked[i].w_given ? ladder_of(&q->asked[i], bits) : 0;
    double least = 0;
    for (uint32_t k = 0; k < rungs_here; k++) {
      double added = fmax(error_at(l, &q->asked[i], bits[k]) - error_at(l, &q->asked[i], from), 0);
      least = fmax(least, added / saved_by(q, i, from, bits[k]));  // a rung is not passed over
      all[(*n)++] = (Rung){i, bits[k], k, least};
      from = bits[k];
    }
  }
  qsort(all, *n, sizeof *all, by_worth);
  return all;
}

static void take_first(const Search *q, const Rung *steps, uint32_t n) {
  for (uint32_t i = 0; i < q->z->layers.n; i++) set_rung(q, i, 0);
  for (uint32_t i = 0; i < n; i++) set_rung(q, steps[i].layer, steps[i].bits);
}

static bool point(const Search *q, const char *what, QuantPoint *p) {
  if (!measure(q, what, p)) return false;
  vec_push(q->z->arena, &q->z->points, *p);
  return true;
}

// All layers at most so few bits.
static bool curve(const Search *q) {
  QuantPoint p;
  for (size_t k = 0; k < sizeof rungs / sizeof rungs[0]; k++) {
    bool any = false;
    for (uint32_t i = 0; i < q->z->layers.n; i++) {
      const QuantChoice *a = &q->asked[i];
      bool grid = a->w_given && a->w.scheme->book == BOOK_GRID;
      any = any || (grid && a->w.bits <= rungs[k]);
      set_rung(q, i, !a->w_given ? 0 : grid && a->w.bits > rungs[k] ? a->w.bits : rungs[k]);
    }
    if (any && !point(q, arena_printf(q->s->arena, "%u-bit weights", rungs[k]), &p)) return false;
  }
  return true;
}

static bool bisect(const Search *q) {
  uint32_t n, fits = 0;
  const Rung *steps = steps_of(q, &n);
  QuantPoint p;
  for (uint32_t fails = n; fails - fits > 1;) {
    uint32_t middle = fits + (fails - fits) / 2;
    take_first(q, steps, middle);
    if (!point(q, arena_printf(q->s->arena, "%u of %u steps", middle, n), &p)) return false;
    *(within(q, &p.score) ? &fits : &fails) = middle;
  }
  take_first(q, steps, fits);
  for (uint32_t i = 0; i < q->z->layers.n; i++) {
    QuantLayer *l = &q->z->layers.at[i];
    if (q->asked[i].w_given && !l->choice.w_given) l->why = "the results would miss --max-error";
  }
  return point(q, "taken", &p);
}

static bool float_point(const Search *q) {
  QuantPoint p;
  for (uint32_t i = 0; i < q->z->layers.n; i++) set_rung(q, i, 0);
  bool ok = point(q, "float", &p);
  for (uint32_t i = 0; i < q->z->layers.n; i++) q->z->layers.at[i].choice = q->asked[i];
  return ok;
}

bool quantize_search(Session *s, Quantization *z, const QuantReference *ref) {
  bool wanted = any_limit(s) || s->opt.report.n > 0 || option_flag(&s->opt.verbose);
  if (!wanted || ref->samples.n == 0 || z->layers.n == 0 || s->opt.passes.n > 0) return true;
  if (s->quant_limits.accuracy > 0 && ref->samples.labels == NULL)
    return diag_error(s->diag, DIAG_USAGE, NULL, "--max-error=accuracy:E needs labels.npy beside the samples");
  Search q = {s, z, ref, NEW_ARRAY(s->arena, QuantChoice, z->layers.n + 1)};
  QuantPoint p;
  for (uint32_t i = 0; i < z->layers.n; i++) q.asked[i] = z->layers.at[i].choice;
  if (!float_point(&q)) return false;
  if (any_limit(s) && !curve(&q)) return false;
  for (uint32_t i = 0; i < z->layers.n; i++) z->layers.at[i].choice = q.asked[i];
  if (!point(&q, any_limit(s) ? "as asked for" : "taken", &p)) return false;
  return !any_limit(s) || within(&q, &p.score) || bisect(&q);
}
