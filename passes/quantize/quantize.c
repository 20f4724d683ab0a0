// Pass `quantize`: float layers get few bits, as asked for by --quantize.
//
//   --quantize=int8 --calibrate=samples/     --quantize=w4a8 --quantize=float:head
//
//   %1 = conv %0, @w, @b : f32[1,16,14,14]
//   => %2 = quantize %0, s, z : u8[1,8,16,16]              range of %0 on the samples
//      %3 = dequantize %2, s, z : f32[1,8,16,16]
//      %4 = dequantize @q, @t {axis = 0} : f32[16,8,3,3]   @q: i8, one scale per channel
//      %1 = conv %3, %4, @c : f32[1,16,14,14]
//
// This is the form in which quantised networks arrive, and what follows is the same: pass `integer` makes exact integer
// contractions of it. Bytes are unsigned: they are what the kernels multiply fastest, and after ReLU all of them count.
// A pair stands where the value is computed (sites.c), so pools, concats and residual adds read bytes too. Batch norms
// go into weights before. Fewer than 8 bits of an activation are bytes limited to the first 2^bits levels.
//
//   quantize{int8,w4a8:head}   the rules in a pipeline; ranges by the interpreter, on seeded inputs
//   quantize{observe}          all sites become results, for calibration by an object
//
// Layers with weights that are no constant floats, as those with levels already, are left alone.
#include "passes/quantize/quantize.h"

#include <math.h>
#include <string.h>

#include "ir/note.h"
#include "passes/compress/factorize.h"
#include "passes/fuse/fuse.h"
#include "passes/graph_util.h"

static void new_report(QuantState *s, Quantization *own) {
  s->z = s->ctx->opt->quantize;
  if (s->z == NULL) {
    own->arena = s->ctx->arena;
    s->z = own;
  }
}

// Rules of the pipeline's text, with commas between.
static bool read_arguments(QuantState *s, const char *text) {
  Arena *arena = s->ctx->arena;
  while (*text) {
    size_t n = strcspn(text, ",");
    QuantRule r;
    if (!quant_rule_read(arena_printf(arena, "%.*s", (int)n, text), s->ctx->diag, arena, &r)) return false;
    vec_push(s->z->arena, &s->z->rules, r);
    text += n + (text[n] == ',');
  }
  return true;
}

// ---- what every layer gets

// First and last layers keep 8 bits unless the rule says all: they are the most sensitive and cheap (S13).
static void choose_end(const QuantLayer *l, const QuantRule *r, QuantChoice *c) {
  if (r->all || (!l->first && !l->last)) return;
  if (c->w_given && (c->w.bits < 8 || c->w.scheme->book != BOOK_GRID)) quant_choice_bytes(c);
  if (c->x_bits != 0) c->x_bits = 8;
}

void quant_choose(Quantization *z) {
  if (z->chosen) return;
  for (uint32_t i = 0; i < z->layers.n; i++) {
    QuantLayer *l = &z->layers.at[i];
    l->choice = (QuantChoice){0};
    for (uint32_t k = 0; k < z->rules.n; k++) {
      QuantRule *r = &z->rules.at[k];
      if (r->layers != NULL && !layer_is_named(l->loc, r->layers)) continue;
      r->used = true;
      l->choice = r->choice;
      choose_end(l, r, &l->choice);
    }
  }
  z->chosen = true;
}

static bool check_rules(QuantState *s) {
  for (uint32_t i = 0; i < s->z->rules.n; i++) {
    const QuantRule *r = &s->z->rules.at[i];
    if (!r->used && r->layers != NULL)
      return diag_error(s->ctx->diag, DIAG_USAGE, NULL,
                        "--quantize=%.100s: no float layer with constant weights has such a name; qcc inspect lists "
                        "them",
                        r->text);
  }
  return true;
}

// ---- activations

// Every site a layer's bytes come from takes the most bits that are asked for.
static void take_bits(QuantState *s, const QuantChoice *c, Value *input) {
  QuantRoots roots = {0};
  quant_roots(s, input, &roots);
  for (uint32_t i = 0; i < roots.n; i++) {
    QuantSite *head = &s->z->sites.at[quant_group(s, roots.at[i])];
    s->z->sites.at[roots.at[i]].used = true;
    head->bits = head->bits > c->x_bits ? head->bits : c->x_bits;
  }
}

// ... and a range; sites of one group share the widest.
static void take_ranges(QuantState *s, const QuantChoice *c, Value *input) {
  QuantRoots roots = {0};
  quant_roots(s, input, &roots);
  for (uint32_t i = 0; i < roots.n; i++) {
    QuantSite *site = &s->z->sites.at[roots.at[i]], *head = &s->z->sites.at[quant_group(s, roots.at[i])];
    double lo, hi;
    activation_range(&site->stats, c->x, c->x_value, head->bits, &lo, &hi);
    head->lo = fmin(head->lo, lo);
    head->hi = fmax(head->hi, hi);
  }
}

static Value *scalar_f32(Module *m, double v) { return const_splat(m, type_scalar(m->types, DT_F32), v); }

// Grid of a range: zero is a level.
static double grid_of(const QuantSite *g, int64_t *zero) {
  double levels = ldexp(1, (int)g->bits) - 1;
  float step = (float)((g->hi - g->lo) / levels);
  if (!(step > 0x1p-90F)) step = 0x1p-90F;
  *zero = (int64_t)fmin(fmax(rint(-g->lo / (double)step), 0), levels);
  return (double)step;
}

static void insert_pair(QuantState *s, uint32_t at) {
  Module *m = s->ctx->m;
  Value *v = s->values.at[at], *x = v;
  const QuantSite *g = &s->z->sites.at[quant_group(s, at)];
  int64_t zero;
  double step = grid_of(g, &zero);
  Op *before = v->kind == VALUE_RESULT ? v->op->next : s->f->first;
  const Loc *loc = v->kind == VALUE_RESULT ? v->op->loc : before->loc;
  const Type *bytes = type_with_dtype(m->types, v->type, DT_U8);
  Value *scale = scalar_f32(m, step), *level = const_splat_int(m, type_scalar(m->types, DT_U8), zero);
  uint32_t n = zero != 0 ? 3 : 2;
  if (g->bits < 8) {
    double lo = -(double)zero * step, hi = (ldexp(1, (int)g->bits) - 1 - (double)zero) * step;
    x = graph_emit(before, OP_CLIP, 3, (Value *[]){v, scalar_f32(m, lo), scalar_f32(m, hi)}, v->type, loc);
  }
  Op *first = x == v ? NULL : x->op;
  Value *q = graph_emit(before, OP_QUANTIZE, n, (Value *[]){x, scale, level}, bytes, loc);
  Value *d = graph_emit(before, OP_DEQUANTIZE, n, (Value *[]){q, scale, level}, v->type, loc);
  if (first == NULL) first = q->op;
  for (Operand *use = v->uses, *next; use != NULL; use = next) {
    next = use->next;
    if (use->op != first) op_set_operand(use->op, use->slot, d);
  }
}

static void insert_pairs(QuantState *s) {
  for (uint32_t i = 0; i < s->values.n; i++) {
    QuantSite *site = &s->z->sites.at[i];
    site->lo = site->hi = 0;
    site->bits = 0;
    site->used = false;
  }
  for (int round = 0; round < 2; round++)
    for (uint32_t i = 0; i < s->ops.n; i++) {
      const QuantLayer *l = &s->z->layers.at[i];
      if (l->done && l->choice.x_bits != 0)
        (round == 0 ? take_bits : take_ranges)(s, &l->choice, op_in(s->ops.at[i], 0));
    }
  for (uint32_t i = 0; i < s->values.n; i++)
    if (s->z->sites.at[i].used) insert_pair(s, i);
}

// ---- weights

static void add_bias(QuantState *s, Op *op, const double *by, int64_t channels) {
  Module *m = s->ctx->m;
  const Value *b = op_in(op, 2);
  double *v = NEW_ARRAY(s->ctx->arena, double, channels);
  for (int64_t c = 0; c < channels; c++) v[c] = by[c] + (b != NULL ? const_f(m, b->constant, c) : 0);
  Value *now = const_of_doubles(m, type_tensor(m->types, DT_F32, 1, &channels), v, b ? b->constant->name : NULL);
  op_set_operands(op, 3, (Value *[]){op_in(op, 0), op_in(op, 1), now});
}

static bool quantise_layer(QuantState *s, uint32_t i) {
  QuantLayer *l = &s->z->layers.at[i];
  Op *op = s->ops.at[i];
  const double *bias;
  l->done = false;
  if (!l->choice.w_given) {
    if (l->why != NULL) note_layer(s->ctx->m, op, NOTE_QUANTISED, "not: %s", l->why);
    return false;
  }
  Value *w = quant_weights(s, i, &bias, &l->why);
  if (w == NULL) {
    note_layer(s->ctx->m, op, NOTE_FLOAT, "not quantised: %s", l->why);
    return false;
  }
  op_set_operand(op, 1, w);
  if (bias != NULL) add_bias(s, op, bias, l->shape.out);
  note_layer(s->ctx->m, op, NOTE_QUANTISED,
             "weights %s, %u levels, %.2f bits of entropy, cosine %.6f; activations %s%s", l->scheme, l->stats.levels,
             l->stats.entropy, l->stats.cosine, l->choice.x_bits ? "by " : "float",
             l->choice.x_bits ? l->choice.x->name : "");
  return l->done = true;
}

// ---- calibration

// Weights alone are rounded one by one when there are no samples.
static bool wants_ranges(const Quantization *z) {
  for (uint32_t i = 0; i < z->layers.n; i++)
    if (z->layers.at[i].choice.x_bits != 0) return true;
  return false;
}

static bool observe(QuantState *s) {
  Func *f = s->f;
  uint32_t n = f->n_results;
  Value **all = NEW_ARRAY(s->ctx->arena, Value *, n + s->values.n + 1);
  const char **names = NEW_ARRAY(s->ctx->arena, const char *, n + s->values.n + 1);
  for (uint32_t i = 0; i < n; i++) {
    all[i] = f->results[i];
    names[i] = f->result_names[i];
  }
  for (uint32_t i = 0; i < s->values.n; i++) {
    all[n + i] = s->values.at[i];
    names[n + i] = arena_printf(f->module->arena, "site%u", i);
  }
  func_set_results(f, n + s->values.n, all);
  for (uint32_t i = 0; i < n + s->values.n; i++) f->result_names[i] = names[i];
  return true;
}

PassResult pass_quantize(PassCtx *ctx) {
  QuantState s = {.ctx = ctx, .f = ctx->m->funcs.at[0]};
  Quantization own = {0};
  bool looks = strcmp(ctx->args, "observe") == 0, any = false;
  new_report(&s, &own);
  if (!looks && !read_arguments(&s, ctx->args)) return PASS_FAILED;
  if (!looks && s.z->rules.n == 0 && !s.z->chosen) return PASS_SAME;
  bool changed = fuse_affine(ctx, s.f);
  quant_collect(&s);
  if (looks) return observe(&s) ? PASS_CHANGED : PASS_FAILED;
  quant_choose(s.z);
  if (!check_rules(&s)) return PASS_FAILED;
  if (s.z->samples == 0 && wants_ranges(s.z) && !quant_calibrate(&s)) return PASS_FAILED;
  for (uint32_t i = 0; i < s.ops.n; i++) any |= quantise_layer(&s, i);
  if (any) insert_pairs(&s);
  graph_drop_dead(s.f);
  return changed || any ? PASS_CHANGED : PASS_SAME;
}
