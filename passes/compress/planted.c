// Pass `planted`: dense weights that are products of smaller ones at rounding level become these again.
//
//   matmul %x, @w {784 x 256}   =>   the four products of a tensor train of ranks 6, which pass chain makes one op
//   conv 3x3 32 -> 48 of rank 20  =>   conv 3x3 32 -> 20 ; conv 1x1 20 -> 48
//
// Networks trained in factored form are often exported multiplied out. Ranks are guessed from samples of the weights
// (planted_rank.c); only then a scheme of --factorize decomposes the layer in full, and only a form within ROUNDING of
// the weights that is cheaper by the prices of the target takes the layer's place. Nothing else is lost, so this needs
// no asking; weights of few values are left to the strategies that store bits.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/note.h"
#include "passes/compress/planted.h"
#include "passes/graph_util.h"
#include "passes/pass.h"
#include "passes/structure/chain.h"

// Relative to the norm of the weights. Products rounded to 24 bits are within 4e-8 of rank; factors rounded to 24 bits
// add as much per factor.
#define WITHIN 3e-7
#define ROUNDING 6e-7

// Dense layers of more weights than LARGE are not copied as doubles, convolutions of more than MOST_CONV not looked at.
enum { MOST_RANK = 192, LARGE = 1 << 20, MOST_CONV = 1 << 24, FEW_VALUES = 256, MOST_SORTED = 8192 };

typedef struct Planted {
  PassCtx *ctx;
  Arena *arena;   // of one layer
  FactorLayer l;  // w: NULL until a scheme is tried
  const void *data;
  Form *best;
  double dense, price, error;  // prices of the layer, once a form is found, and of the best
} Planted;

// ---- what may be planted

// Rows and columns by the axes of the kernel: `in`, `out` and each axis of it on one side or the other.
static View conv_view(const Planted *p, bool in_row, bool first_row, bool last_row) {
  const FactorLayer *l = &p->l;
  int64_t taps = layer_taps(l), last = l->nd > 0 ? l->kernel[l->nd - 1] : 1, first = taps / last;
  View v = {.data = p->data, .dtype = l->dtype, .col = {1, {l->out}, {l->in * taps}}};
  struct {
    bool row;
    int64_t extent, stride;
  } part[3] = {{in_row, l->in, taps}, {first_row, first, last}, {last_row, last, 1}};
  for (uint32_t i = 0; i < 3; i++) {
    ViewSide *s = part[i].row ? &v.row : &v.col;
    if (s->n == 3) continue;
    s->extent[s->n] = part[i].extent;
    s->stride[s->n++] = part[i].stride;
  }
  return v;
}

static bool is_low(Planted *p, const View *v) {
  int64_t rows = view_extent(&v->row), cols = view_extent(&v->col);
  return view_rank(v, MOST_RANK, rows * cols / (rows + cols) * 9 / 10, p->arena) > 0;
}

// ---- forms

// The price of a train as one chain, which is how it will be computed.
static double train_price(const Planted *p, const FactorAsk *ask, const Form *f) {
  ChainForm c = {0};
  uint32_t d = ask->n_in;
  int64_t link = -1;
  if (d > CHAIN_CORES || 3 * d + 1 > CHAIN_LETTERS) return INFINITY;
  c.n_cores = d;
  for (uint32_t k = 0; k < d; k++) c.size[c.n_letters++] = ask->in[k];
  for (uint32_t k = 0; k < d; k++) {
    ChainTerm *core = &c.core[k];
    if (link >= 0) core->at[core->n++] = (uint8_t)link;
    core->at[core->n++] = c.x.at[c.x.n++] = (uint8_t)k;
    c.size[c.n_letters] = ask->out[k];
    core->at[core->n++] = c.y.at[c.y.n++] = (uint8_t)c.n_letters++;
    if (k + 1 == d) break;
    c.size[c.n_letters] = f->ranks[k];
    link = c.n_letters++;
    core->at[core->n++] = (uint8_t)link;
  }
  if (p->l.batch > 1) {
    c.size[c.n_letters] = p->l.batch;
    memmove(c.x.at + 1, c.x.at, c.x.n++);
    memmove(c.y.at + 1, c.y.at, c.y.n++);
    c.x.at[0] = c.y.at[0] = (uint8_t)c.n_letters++;
  }
  chain_drop_units(&c);
  ChainPlan plan;
  ChainAsk any = {.fused = -1};
  ChainShape s = {.f = &c, .y = op_out(p->l.op, 0)->type, .type = p->l.dtype == DT_F64 ? DT_F64 : DT_F32};
  if (!chain_plan(&s, p->ctx->target, &any, &plan)) return INFINITY;
  return plan.compute + plan.memory + p->ctx->target->call_cycles;
}

// An error below 0 is measured.
static void take_cheaper(Planted *p, const FactorAsk *ask, Form *f, double error) {
  if (p->dense == 0) p->dense = p->price = layer_price(&p->l, p->ctx->target);
  f->price = ask->n_in > 0 ? train_price(p, ask, f) : form_price(&p->l, f, p->ctx->target);
  if (f->price >= p->price) return;
  if (error < 0) error = form_measure(&p->l, f, p->arena);
  if (error > ROUNDING) return;
  p->best = f;
  p->price = f->price;
  p->error = error;
}

static void try_scheme(Planted *p, const char *name, const FactorAsk *asked) {
  Forms forms = {.arena = p->arena};
  FactorAsk ask = *asked;
  const Scheme *scheme = scheme_by_name(name);
  const char *why;
  if (scheme == NULL || (p->l.w == NULL && !layer_read(p->l.op, &p->l, p->arena, &why)) || p->l.norm2 == 0) return;
  ask.by = ASK_ERROR;
  ask.value = WITHIN;
  scheme->run(&p->l, &ask, &forms);
  for (uint32_t i = 0; i < forms.list.n; i++) {
    Form *f = forms.list.at[i];
    if (form_parameters(f) >= p->l.n_w) continue;
    take_cheaper(p, &ask, f, -1);
  }
}

// Layers too large for the schemes.
static void try_large(Planted *p, const FactorAsk *asked) {
  Forms forms = {.arena = p->arena};
  FactorAsk ask = *asked;
  double error;
  ask.by = ASK_ERROR;
  ask.value = WITHIN;
  Form *f = ask.n_in > 0 ? large_train(&p->l, &ask, &forms, &error) : large_low_rank(&p->l, &forms, &error);
  if (f != NULL) take_cheaper(p, &ask, f, error);
}

static void try_dense(Planted *p) {
  FactorAsk ask = {0};
  View whole = dense_view(&p->l, p->l.in, 1);
  bool large = p->l.n_w > LARGE;
  if (is_low(p, &whole)) large ? try_large(p, &ask) : try_scheme(p, "svd", &ask);
  if (p->best == NULL && planted_modes(&p->l, &ask, p->arena)) large ? try_large(p, &ask) : try_scheme(p, "tt", &ask);
}

static void try_conv(Planted *p) {
  FactorAsk ask = {0};
  if (p->l.group != 1 || p->l.n_w > MOST_CONV) return;
  View point = conv_view(p, true, true, true), in = conv_view(p, true, false, false);
  View rows = conv_view(p, true, true, false), cols = conv_view(p, true, false, true);
  bool to_few = is_low(p, &point), from_few = layer_taps(&p->l) > 1 && is_low(p, &in);
  if (to_few) try_scheme(p, "spatial_then_point", &ask);
  if (from_few) try_scheme(p, "point_then_spatial", &ask);
  if (to_few && from_few) {
    try_scheme(p, "tucker2", &ask);
    try_scheme(p, "cp_joint", &ask);  // exact where the slices tell the components apart
    if (p->best == NULL || strcmp(p->best->scheme, "cp_joint") != 0) try_scheme(p, "cp", &ask);
  }
  if (p->l.nd == 2 && p->l.kernel[0] > 1 && p->l.kernel[1] > 1 && (is_low(p, &rows) || is_low(p, &cols)))
    try_scheme(p, "separable", &ask);
}

// ---- the pass

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double weight_at(const FactorLayer *l, int64_t i) {
  const Op *op = l->op;
  if (l->w != NULL) return l->w[i];
  bool turned = op->kind == OP_MATMUL && op_bool(op, A_MATMUL_trans_b);
  const void *data = const_data(op->func->module, op_in(op, 1)->constant);
  return elem_get_f(data, l->dtype, turned ? i % l->out * l->in + i / l->out : i);
}

// Different values among `n` weights from, from + step, ...
static int64_t values_of(const FactorLayer *l, int64_t from, int64_t step, int64_t n, Arena *arena) {
  ArenaMark mark = arena_mark(arena);
  double *v = NEW_ARRAY(arena, double, n);
  int64_t different = 1;
  for (int64_t i = 0; i < n; i++) v[i] = weight_at(l, from + i * step);
  qsort(v, (size_t)n, sizeof *v, compare);
  for (int64_t i = 1; i < n; i++) different += v[i] != v[i - 1];
  arena_reset(arena, mark);
  return different;
}

bool layer_has_few_values(const FactorLayer *l, Arena *arena) {
  int64_t each = l->n_w / l->out, some = each < MOST_SORTED ? each : MOST_SORTED, most = 0;
  bool dense = l->nd == 0;
  if (l->n_w < FEW_VALUES * 4) return false;
  for (int64_t k = 0; k < 8 && k < l->out; k++) {
    int64_t o = k * l->out / 8 % l->out, n = values_of(l, dense ? o : o * each, dense ? l->out : 1, some, arena);
    if (n > most) most = n;
  }
  int64_t all = l->n_w < MOST_SORTED ? l->n_w : MOST_SORTED;
  return most * 4 <= some || values_of(l, 0, l->n_w / all, all, arena) <= FEW_VALUES;
}

static bool layer_planted(PassCtx *ctx, Op *op) {
  const char *why;
  Planted p = {.ctx = ctx, .arena = arena_new("planted")};
  const Value *w = op_in(op, 1);
  bool large = value_is_const(w) && type_count(w->type) >= 1024;
  if (large) p.data = const_data(ctx->m, w->constant);
  if (large && layer_shape(op, &p.l, &why) && !layer_has_few_values(&p.l, p.arena)) {
    if (p.l.nd == 0) {
      try_dense(&p);
    } else {
      try_conv(&p);
    }
    if (p.best != NULL) {
      double per_us = 1e-3 / ctx->target->ghz;
      note_layer(ctx->m, op, NOTE_FACTORED,
                 "found %s in dense weights: %lld -> %lld parameters, error %.2g, price %.2f -> %.2f us",
                 form_text(ctx->m->arena, p.best), (long long)p.l.n_w, (long long)form_parameters(p.best), p.error,
                 p.dense * per_us, p.price * per_us);
      Value *y = form_emit(&p.l, p.best, op, op_in(op, 0), op_in(op, 2));
      y->name = op->out[0]->name;
      value_replace(op->out[0], y);
      op_unlink(op);
    }
  }
  arena_free(p.arena);
  return p.best != NULL;
}

PassResult pass_planted(PassCtx *ctx) {
  PassResult result = PASS_SAME;
  if (ctx->opt->strict_fp) return PASS_SAME;
  for (Op *op = ctx->m->funcs.at[0]->first, *next; op != NULL; op = next) {
    next = op->next;
    if ((op->kind == OP_CONV || op->kind == OP_MATMUL) && layer_planted(ctx, op)) result = PASS_CHANGED;
  }
  return result;
}
