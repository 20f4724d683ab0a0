// Pass `factorize`: layers with constant float weights in fewer operations, as asked for by --factorize.
//
//   --factorize=svd:rank=16:fc*   --factorize=auto --max-error=0.05
//
//   %0 = matmul %x, @w {1024 x 1024}, @b   =>   %0 = matmul %x, @u {1024 x 16}; %1 = matmul %0, @v {16 x 1024}, @b
//
// For every layer the last spec whose pattern fits its name holds. The forms of its scheme (of all schemes for `auto`)
// are priced as `plan` will price them, and the cheapest is taken if it is cheaper than the dense layer by its best
// strategy; else the layer stays, and a note says by how much it would have lost (the cost gate; :force skips it).
// Every error is known twice: from the singular values left out, and from the factors as they are stored. `auto` leaves
// weights of few different values alone: the strategies that store those as bits come later.
//
// With a limit on the error of the results, forms are chosen for all layers first, and network.h says which are taken;
// layers left out are offered forms of a half and a quarter of the error.
//
//   factorize{auto,max-error=0.1,network-error=0.02,size}   the options in a pipeline
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/note.h"
#include "passes/compress/bound.h"
#include "passes/compress/calibrate.h"
#include "passes/compress/measure.h"
#include "passes/compress/network.h"
#include "passes/graph_util.h"

#define FEW_VALUES 256
#define SAME_PRICE 1.03
#define EQUAL_ERROR 1e-6
#define LEVELS 3  // limits of a layer's error that are tried where the network has one

typedef struct Factorize {
  PassCtx *ctx;
  Arena *arena;  // pass lifetime
  double max_error, network_error;
  bool by_size;
  VEC(FactorSpec) specs;
  Calibration *calibration;  // NULL: no inputs are recorded
  bool follows;              // forms have replaced layers, and those behind them look at what comes now
  // What is measured afterwards; NULL and empty without a report.
  Func *dense;    // the function as it was
  Value **twins;  // by op id, the first result of the same op in it
  VEC(const Value *) before;
  VEC(const Value *) after;
  VEC(uint32_t) layers;
} Factorize;

typedef struct Choice {
  FactorLayer layer;
  VEC(Form *) forms;  // that fit, with prices
  Form *form;         // the one chosen, or NULL
  double dense;       // cycles of the layer as it is
  Factored record;
} Choice;

static bool read_argument(Factorize *fz, const char *text) {
  if (strcmp(text, "size") == 0) {
    fz->by_size = true;
    return true;
  }
  if (strncmp(text, "max-error=", 10) == 0) {
    fz->max_error = strtod(text + 10, NULL);
    return true;
  }
  if (strncmp(text, "network-error=", 14) == 0) {
    fz->network_error = strtod(text + 14, NULL);
    if (fz->max_error == 0) fz->max_error = fmin(1, 2 * fz->network_error);
    return true;
  }
  FactorSpec spec;
  if (!factor_spec_read(text, fz->max_error, fz->arena, fz->ctx->diag, &spec)) return false;
  vec_push(fz->arena, &fz->specs, spec);
  return true;
}

// Options first, then what a pipeline says between braces; limits before the specs they hold for.
static bool read_options(Factorize *fz) {
  const PassOptions *opt = fz->ctx->opt;
  fz->max_error = opt->max_error;
  fz->network_error = opt->network_error;
  if (fz->max_error == 0) fz->max_error = fmin(1, 2 * fz->network_error);
  fz->by_size = opt->by_size;
  for (uint32_t i = 0; i < opt->n_factorize; i++)
    if (!read_argument(fz, opt->factorize[i])) return false;
  char *args = arena_printf(fz->arena, "%s", fz->ctx->args), *rest = NULL;
  for (char *part = strtok_r(args, ",", &rest); part != NULL; part = strtok_r(NULL, ",", &rest))
    if (!read_argument(fz, part)) return false;
  return true;
}

static FactorSpec *spec_of(Factorize *fz, const Op *op) {
  for (uint32_t i = fz->specs.n; i-- > 0;) {
    FactorSpec *s = &fz->specs.at[i];
    if (s->layers != NULL && !layer_is_named(op->loc, s->layers)) continue;
    s->used = true;
    return s;
  }
  return NULL;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static bool has_few_values(const FactorLayer *l) {
  double seen[FEW_VALUES + 1];
  size_t n = 0;
  if (l->n_w <= 4 * FEW_VALUES) return false;
  for (int64_t i = 0; i < l->n_w; i++) {
    if (n > 0 && bsearch(&l->w[i], seen, n, sizeof *seen, compare) != NULL) continue;
    if (n == FEW_VALUES) return false;
    seen[n++] = l->w[i];
    qsort(seen, n, sizeof *seen, compare);
  }
  return true;
}

// ---- choosing

// What `auto` pays at most: what the cheapest form so far takes, or the dense layer.
static FactorGate gate_of(const Factorize *fz, const Choice *c) {
  const FactorLayer *l = &c->layer;
  const Target *t = fz->ctx->target;
  FactorGate g = {t, fz->by_size, fz->by_size ? (double)l->n_w * dtype_info(l->dtype)->bits / 8 : c->dense};
  for (uint32_t i = 0; i < c->forms.n; i++) g.most = fmin(g.most, c->forms.at[i]->price * SAME_PRICE);
  return g;
}

static bool is_explained(const Factorize *fz, const Op *op) {
  const PassOptions *opt = fz->ctx->opt;
  bool all = opt->explain_layer == NULL || *opt->explain_layer == 0;
  return opt->explain && (all || layer_is_named(op->loc, opt->explain_layer));
}

static double relative(const FactorLayer *l, double error2) {
  return sqrt(fmax(error2, 0) / (l->norm2 > 0 ? l->norm2 : 1));
}

static void explain(const Factorize *fz, const FactorLayer *l, const Form *f) {
  if (!is_explained(fz, l->op)) return;
  diag_note(fz->ctx->diag, l->op->loc, "%s: %.2f us, %lld parameters, error %.3g", form_text(fz->arena, f),
            form_price(l, f, fz->ctx->target) * 1e-3 / fz->ctx->target->ghz, (long long)form_parameters(f),
            relative(l, f->error2));
}

static void consider(Factorize *fz, const FactorSpec *spec, const Scheme *scheme, Choice *c) {
  const FactorLayer *l = &c->layer;
  Forms forms = {.arena = fz->arena};
  FactorAsk ask = spec->ask;
  FactorGate gate = gate_of(fz, c);
  if (spec->scheme == NULL && !spec->force) ask.gate = &gate;
  if (spec->scheme == NULL && !fz->by_size) ask.lanes = target_lanes(fz->ctx->target, dtype_info(l->dtype)->bits);
  scheme->run(l, &ask, &forms);
  if (forms.list.n == 0 && spec->scheme != NULL) c->record.why = forms.why;
  for (uint32_t i = 0; i < forms.list.n; i++) {
    Form *f = forms.list.at[i];
    double lost = f->by_responses ? sqrt(f->response2) : relative(l, f->error2);
    if (fz->max_error > 0 && lost > fz->max_error * (1 + 1e-9)) {
      c->record.why = arena_printf(fz->arena, "%s has an error of %.3g, above --max-error=%.3g",
                                   form_text(fz->arena, f), lost, fz->max_error);
      continue;
    }
    f->price = form_cost(l, f, &gate);
    explain(fz, l, f);
    vec_push(fz->arena, &c->forms, f);
  }
}

// Less is lost; or as much (below EQUAL_ERROR it is rounding), with fewer parameters.
static bool is_better(const FactorLayer *l, const Form *f, const Form *than) {
  double least = EQUAL_ERROR * EQUAL_ERROR * l->norm2, a = fmax(f->error2, least), b = fmax(than->error2, least);
  if (fabs(a - b) > 1e-9 * b) return a < b;
  return form_parameters(f) < form_parameters(than);
}

// The cheapest, and of those that cost as much within what prices can tell the best.
static void take_best(Choice *c) {
  double least = INFINITY;
  for (uint32_t i = 0; i < c->forms.n; i++) least = fmin(least, c->forms.at[i]->price);
  for (uint32_t i = 0; i < c->forms.n; i++) {
    Form *f = c->forms.at[i];
    if (f->price <= least * SAME_PRICE && (c->form == NULL || is_better(&c->layer, f, c->form))) c->form = f;
  }
}

static void record_form(Factorize *fz, Choice *c) {
  const FactorLayer *l = &c->layer;
  Factored *r = &c->record;
  const Target *t = fz->ctx->target;
  r->form = form_text(fz->ctx->m->arena, c->form);
  r->parameters_after = form_parameters(c->form);
  r->macs_after = form_macs(l, c->form);
  r->theory = relative(l, c->form->error2);
  r->measured = form_measure(l, c->form, fz->arena);
  r->us_after = form_price(l, c->form, t) * 1e-3 / t->ghz;
  if (fz->ctx->opt->factored != NULL) form_norms(l, c->form, &r->change, &r->weights, fz->arena);
}

// The cost gate.
static bool pays(Factorize *fz, const FactorSpec *spec, Choice *c) {
  Factored *r = &c->record;
  double before = fz->by_size ? (double)r->parameters : r->us;
  double after = fz->by_size ? (double)r->parameters_after : r->us_after;
  if (spec->force || after < before) return true;
  r->why = fz->by_size ? arena_printf(fz->ctx->m->arena, "%s would take %lld parameters, the dense layer %lld", r->form,
                                      (long long)r->parameters_after, (long long)r->parameters)
                       : arena_printf(fz->ctx->m->arena, "%s would take %.2f us, %.2f times the dense layer's %.2f us",
                                      r->form, r->us_after, r->us_after / r->us, r->us);
  return false;
}

static void choose(Factorize *fz, const FactorSpec *spec, Choice *c) {
  const FactorLayer *l = &c->layer;
  Factored *r = &c->record;
  r->parameters = r->parameters_after = l->n_w;
  r->macs = r->macs_after = layer_macs(l);
  c->dense = layer_price(l, fz->ctx->target);
  r->us = r->us_after = c->dense * 1e-3 / fz->ctx->target->ghz;
  if (spec->scheme == NULL && has_few_values(l)) {
    r->why = "its weights have few different values, which are stored as bits";
    return;
  }
  if (is_explained(fz, l->op)) diag_note(fz->ctx->diag, l->op->loc, "dense: %.2f us", r->us);
  for (uint32_t i = 0; i < scheme_count(); i++)
    if (spec->scheme == NULL || spec->scheme == scheme_at(i)) consider(fz, spec, scheme_at(i), c);
  take_best(c);
  if (c->form == NULL) {
    if (r->why == NULL) r->why = "no scheme fits";
    return;
  }
  record_form(fz, c);
  r->applied = pays(fz, spec, c);
  if (r->applied) r->why = NULL;
}

// ---- rewriting

static void note(const Factorize *fz, const Choice *c) {
  const Factored *r = &c->record;
  Module *m = fz->ctx->m;
  if (!r->applied) {
    note_layer(m, c->layer.op, NOTE_FACTORED, "kept dense: %s", r->why);
    return;
  }
  note_layer(
      m, c->layer.op, NOTE_FACTORED,
      "%s: %lld -> %lld parameters, %.0f -> %.0f MACs, error %.6g by theory, %.6g measured, price %.2f -> %.2f us",
      r->form, (long long)r->parameters, (long long)r->parameters_after, r->macs, r->macs_after, r->theory, r->measured,
      r->us, r->us_after);
}

static Value *apply(const Choice *c) {
  Op *op = (Op *)c->layer.op;
  Value *y = form_emit(&c->layer, c->form, op, op_in(op, 0), op_in(op, 2));
  y->name = op->out[0]->name;
  value_replace(op->out[0], y);
  op_unlink(op);
  return y;
}

static void record(Factorize *fz, const Choice *c) {
  FactorReport *report = fz->ctx->opt->factored;
  Factored f = c->record;
  if (report == NULL) return;
  f.reach_error = -1;
  if (f.why != NULL) f.why = arena_printf(report->arena, "%s", f.why);
  vec_push(report->arena, &report->layers, f);
}

// ---- the network before, for the report

static void keep_dense(Factorize *fz) {
  Func *f = fz->ctx->m->funcs.at[0];
  if (fz->ctx->opt->factored == NULL && fz->network_error == 0 && fz->calibration == NULL) return;
  fz->dense = func_clone(f, "qcc.dense");
  fz->ctx->m->funcs.n--;  // never listed
  fz->twins = NEW_ARRAY(fz->arena, Value *, fz->ctx->m->n_ops + 1);
  for (const Op *op = f->first, *twin = fz->dense->first; op != NULL; op = op->next, twin = twin->next)
    fz->twins[op->id] = twin->out[0];
}

static void keep_layer(Factorize *fz, const Op *op, const Value *y) {
  if (fz->ctx->opt->factored == NULL) return;
  vec_push(fz->ctx->arena, &fz->before, fz->twins[op->id]);
  vec_push(fz->ctx->arena, &fz->after, y);
  vec_push(fz->ctx->arena, &fz->layers, fz->ctx->opt->factored->layers.n - 1);
}

static void measure(Factorize *fz) {
  if (fz->dense == NULL) return;
  Measured m = {fz->dense, fz->ctx->m->funcs.at[0], fz->layers.n, fz->before.at, fz->after.at, fz->layers.at};
  if (fz->layers.n > 0 && fz->ctx->opt->factored != NULL) factor_measure(&m, fz->ctx->opt, fz->ctx->opt->factored);
  for (Op *op = fz->dense->first; op != NULL; op = op->next) op_set_operands(op, 0, NULL);
  func_set_results(fz->dense, 0, NULL);
}

// Of the command line; a pipeline may be meant for many networks.
static bool check_used(Factorize *fz) {
  for (uint32_t i = 0; i < fz->specs.n && i < fz->ctx->opt->n_factorize; i++)
    if (!fz->specs.at[i].used)
      return diag_error(fz->ctx->diag, DIAG_USAGE, NULL,
                        "--factorize=%.100s: no layer that it could hold for; qcc inspect lists their names",
                        fz->specs.at[i].text);
  return true;
}

static const FactorStats *stats_behind(Factorize *fz, const Op *op) {
  return calibration_behind(fz->calibration, fz->ctx->opt, fz->dense, fz->twins[op->id]->op, fz->ctx->m->funcs.at[0],
                            op, fz->arena);
}

// The form of a layer, as its spec asks for; everything in fz->arena.
static void layer_choose(Factorize *fz, const FactorSpec *spec, const Op *op, Choice *c) {
  const char *why;
  *c = (Choice){.record = {.loc = op->loc, .alone = -1}};
  if (layer_read(op, &c->layer, fz->arena, &why)) {
    c->layer.stats = fz->follows ? stats_behind(fz, op) : calibration_stats(fz->calibration, op);
    choose(fz, spec, c);
  } else {
    c->record.why = why;
  }
  c->layer.op = op;
}

static void layer_finish(Factorize *fz, Op *op, Choice *c, PassResult *result) {
  note(fz, c);
  record(fz, c);
  if (!c->record.applied) return;
  keep_layer(fz, op, apply(c));
  *result = PASS_CHANGED;
}

static FactorSpec *spec_of_layer(Factorize *fz, const Op *op) {
  return op->kind == OP_CONV || op->kind == OP_MATMUL ? spec_of(fz, op) : NULL;
}

static void each_layer(Factorize *fz, PassResult *result) {
  Arena *pass = fz->arena;
  for (Op *op = fz->ctx->m->funcs.at[0]->first, *next; op != NULL; op = next) {
    Choice c;
    next = op->next;
    FactorSpec *spec = spec_of_layer(fz, op);
    if (spec == NULL) continue;
    fz->arena = arena_new("layer");
    layer_choose(fz, spec, op, &c);
    layer_finish(fz, op, &c, result);
    fz->follows = fz->follows || (c.record.applied && fz->dense != NULL);
    arena_free(fz->arena);
    fz->arena = pass;
  }
}

// ---- within a limit of the results' error

typedef struct Pending {
  Op *op;
  FactorSpec *spec;
  Choice choice;  // the form of the last level that had one
} Pending;

typedef struct Together {
  VEC(Pending) layers;
  NetworkLayer *fits;  // one per layer
  NetworkFit fit;
} Together;

// A layer's choice without what led to it.
static void choice_keep(Factorize *fz, Choice *to, const Choice *c) {
  to->layer = c->layer;
  to->layer.w = NULL;
  to->record = c->record;
  if (c->record.why != NULL) to->record.why = arena_printf(fz->arena, "%s", c->record.why);
  to->form = c->form == NULL ? NULL : form_copy(c->form, fz->arena);
}

static void offer_form(Factorize *fz, Pending *p, NetworkLayer *to, double scale) {
  Arena *pass = fz->arena;
  FactorSpec spec = *p->spec;
  double limit = fz->max_error;
  Choice c;
  to->factored = NULL;
  if (scale < 1 && spec.ask.by != ASK_ERROR) return;
  if (spec.ask.by == ASK_ERROR) spec.ask.value *= scale;
  fz->max_error *= scale;
  fz->arena = arena_new("layer");
  layer_choose(fz, &spec, p->op, &c);
  Arena *layer = fz->arena;
  fz->arena = pass;
  if (c.record.applied) {
    to->factored = form_weights(&c.layer, c.form, layer);
    to->loss = c.record.measured;
    to->saved =
        fmax(fz->by_size ? (double)(c.record.parameters - c.record.parameters_after) : c.record.us - c.record.us_after,
             1e-9);
  }
  if (c.record.applied || scale == 1) choice_keep(fz, &p->choice, &c);
  arena_free(layer);
  fz->max_error = limit;
}

static void offer_level(Factorize *fz, Together *t, double scale) {
  bool any = false;
  for (uint32_t i = 0; i < t->layers.n; i++) {
    if (t->fits[i].taken || (scale < 1 && t->layers.at[i].choice.form == NULL)) continue;
    offer_form(fz, &t->layers.at[i], &t->fits[i], scale);
    any = any || t->fits[i].factored != NULL;
  }
  if (any) network_fit(fz->dense, fz->ctx->opt, t->layers.n, t->fits, &t->fit, fz->arena);
}

static void leave_out(Factorize *fz, const Together *t, const NetworkLayer *l, Factored *r) {
  r->alone = l->alone;
  if (!r->applied || l->taken) return;
  r->applied = false;
  if (t->fit.reason != NULL) {
    r->why = arena_printf(fz->arena, "the error of the results can't be measured: %s", t->fit.reason);
  } else {
    r->why = arena_printf(fz->arena, "%s would bring the error of the results above --max-error=network:%g", r->form,
                          t->fit.limit);
  }
}

static void all_layers(Factorize *fz, PassResult *result) {
  Together t = {.fit = {.limit = fz->network_error}};
  for (Op *op = fz->ctx->m->funcs.at[0]->first; op != NULL; op = op->next) {
    FactorSpec *spec = spec_of_layer(fz, op);
    if (spec != NULL) vec_push(fz->arena, &t.layers, ((Pending){.op = op, .spec = spec}));
  }
  t.fits = NEW_ARRAY(fz->arena, NetworkLayer, t.layers.n + 1);
  for (uint32_t i = 0; i < t.layers.n; i++) {
    Op *twin = fz->twins[t.layers.at[i].op->id]->op;
    t.fits[i] = (NetworkLayer){.op = twin, .dense = op_in(twin, 1), .alone = -1};
  }
  for (int level = 0; level < LEVELS && t.fit.reason == NULL; level++) offer_level(fz, &t, ldexp(1, -level));
  for (uint32_t i = 0; i < t.layers.n; i++) {
    Pending *p = &t.layers.at[i];
    op_set_operand(t.fits[i].op, 1, t.fits[i].dense);
    leave_out(fz, &t, &t.fits[i], &p->choice.record);
    layer_finish(fz, p->op, &p->choice, result);
  }
  FactorReport *report = fz->ctx->opt->factored;
  if (report == NULL) return;
  report->limit = fz->network_error;
  report->samples = t.fit.samples;  // what the limit was kept on is what is reported
}

// Does any spec ask for a scheme that looks at recorded inputs?
static bool reads_inputs(const Factorize *fz) {
  for (uint32_t i = 0; i < fz->specs.n; i++)
    if (fz->specs.at[i].scheme == NULL || fz->specs.at[i].scheme->by_inputs) return true;
  return false;
}

PassResult pass_factorize(PassCtx *ctx) {
  Factorize fz = {.ctx = ctx, .arena = ctx->arena};
  PassResult result = PASS_SAME;
  if (!read_options(&fz)) return PASS_FAILED;
  if (fz.specs.n == 0) return PASS_SAME;
  if (reads_inputs(&fz)) fz.calibration = calibration_of(ctx->m->funcs.at[0], ctx->opt, ctx->arena);
  keep_dense(&fz);
  if (fz.network_error > 0) {
    all_layers(&fz, &result);
  } else {
    each_layer(&fz, &result);
  }
  measure(&fz);
  return check_used(&fz) ? result : PASS_FAILED;
}
