// Transposed convolution in gather form: every result element sums the taps that reach it, nothing is scattered.
//
// Result position r + stride * q along an axis takes the taps k with (r + pad - k * dilation) divisible by the stride,
// at input positions that move by one with q. Neighbouring r whose taps and extents agree form a phase: one nest, in
// which r is a row loop. An axis has few phases, so a stride of 32 does not make 1024 kernels.
//
// Bytes by dot products (dot8.h): what the zero point adds depends on the taps that reach a result, so residues that
// share a phase elsewhere have nests, and biases, of their own.
#include "ir/base/intmath.h"
#include "ir/elem.h"
#include "passes/lower/dot8.h"
#include "passes/lower/lower_conv.h"

// A class of result positions r .. r + count - 1 (mod stride) of one axis.
typedef struct Phase {
  int64_t r, count;        // first residue, residues
  int64_t q;               // result positions per residue
  int64_t k0, step, taps;  // tap t of residue r + i is kernel element k0 + i + step * t
  int64_t in, in_step;     // input position of tap t at q = 0: in - in_step * t
} Phase;

static Phase residue(const ConvGeom *g, uint32_t axis, int64_t r) {
  int64_t s = g->stride[axis], d = g->dilation[axis], common = gcd(s, d);
  Phase p = {.r = r, .count = 1, .q = (g->out[axis] - r + s - 1) / s, .step = s / common, .in_step = d / common};
  for (p.k0 = 0; p.k0 < g->kernel[axis] && p.k0 < p.step; p.k0++) {
    int64_t from = r + g->pad[axis] - p.k0 * d;
    if (from % s != 0) continue;
    p.in = from / s;
    p.taps = (g->kernel[axis] - p.k0 + p.step - 1) / p.step;
    return p;
  }
  p.k0 = 0;
  return p;
}

static uint32_t axis_phases(Arena *arena, const ConvGeom *g, uint32_t axis, bool join, Phase **out) {
  int64_t n = g->stride[axis] < g->out[axis] ? g->stride[axis] : g->out[axis];
  uint32_t count = 0;
  *out = NEW_ARRAY(arena, Phase, n);
  for (int64_t r = 0; r < n; r++) {
    Phase p = residue(g, axis, r), *last = count > 0 ? &(*out)[count - 1] : NULL;
    bool joins = join && last != NULL && p.q == last->q && p.taps == last->taps && (p.taps == 0 || p.in == last->in) &&
                 (p.taps == 0 || p.k0 == last->k0 + last->count);
    if (joins) {
      last->count++;
    } else {
      (*out)[count++] = p;
    }
  }
  return count;
}

// The part of x that all phases read.
static Window transpose_window(const ConvGeom *g, uint32_t *n_phases, Phase **phases) {
  Window w = {.n = g->n, .c = g->c};
  for (uint32_t a = 0; a < CONV_AXES; a++) {
    int64_t lo = 0, hi = 1;
    bool any = false;
    for (uint32_t i = 0; i < n_phases[a]; i++) {
      const Phase *p = &phases[a][i];
      if (p->taps == 0) continue;
      int64_t first = p->in - (p->taps - 1) * p->in_step, end = p->in + p->q;
      lo = !any || first < lo ? first : lo;
      hi = !any || end > hi ? end : hi;
      any = true;
    }
    w.in[a] = g->in[a];
    w.from[a] = lo;
    w.extent[a] = hi - lo;
  }
  return w;
}

typedef struct Transposed {
  const ConvGeom *g;
  int64_t step[CONV_AXES];    // elements of x per spatial step
  int64_t image;              // elements of x per batch
  int64_t origin[CONV_AXES];  // input position where the window begins
} Transposed;

static void add_row(Nest *n, NestLoop l) {
  if (l.extent != 1) n->row[n->n_rows++] = l;
}

// Weights [k..][c][o/g] of one phase: residues and groups are copies, taps run backwards so that x runs forwards.
static PackSpec phase_weights(const ConvGeom *g, const Phase *const *p) {
  int64_t cg = g->c / g->group, og = g->o / g->group, stride = g->c * og;
  PackSpec s = {.n_red = 4, .n = og, .n_stride = 1};
  s.n_copies = 4;
  s.copy[3] = g->group;
  s.copy_stride[3] = cg * og;
  s.red[3] = cg;
  s.red_stride[3] = og;
  for (uint32_t a = CONV_AXES; a-- > 0;) {
    s.copy[a] = p[a]->count;
    s.copy_stride[a] = stride;
    s.red[a] = p[a]->taps;
    s.red_stride[a] = -p[a]->step * stride;
    if (p[a]->taps > 0) s.first += (p[a]->k0 + p[a]->step * (p[a]->taps - 1)) * stride;
    stride *= g->kernel[a];
  }
  return s;
}

// Loops of one phase; `copy` is the size of one packed copy.
static void phase_loops(Nest *n, const Transposed *t, const Phase *const *p, int64_t copy) {
  const ConvGeom *g = t->g;
  int64_t cg = g->c / g->group, og = g->o / g->group, w_group = copy, w_r[CONV_AXES];
  w_r[2] = w_group * g->group;
  w_r[1] = w_r[2] * p[2]->count;
  w_r[0] = w_r[1] * p[1]->count;
  add_row(n, (NestLoop){.extent = g->n, .x = t->image, .axis = 0, .scale = 1});
  add_row(n, (NestLoop){.extent = g->group, .x = cg, .w = w_group, .axis = 4, .scale = og});
  for (uint32_t a = 0; a < CONV_AXES; a++) {
    add_row(n, (NestLoop){.extent = p[a]->count, .w = w_r[a], .axis = 1 + a, .scale = 1});
    if (a < 2) add_row(n, (NestLoop){.extent = p[a]->q, .x = t->step[a], .axis = 1 + a, .scale = g->stride[a]});
  }
  n->m = (NestLoop){.extent = p[2]->q, .x = g->c, .axis = 3, .scale = g->stride[2]};
  n->n_red = 4;
  for (uint32_t a = 0; a < CONV_AXES; a++) {
    n->first[1 + a] = p[a]->r;
    n->red[a] = p[a]->taps;
    n->x_red[a] = p[a]->in_step * t->step[a];
    if (p[a]->taps > 0) n->x0 += (p[a]->in - (p[a]->taps - 1) * p[a]->in_step - t->origin[a]) * t->step[a];
  }
  n->red[3] = cg;
  n->x_red[3] = 1;
}

// What dot products of stored bytes lack in the results of a phase: bias - zero * sum of the weights that reach them.
static Value *phase_bias(LowerCtx *ctx, const Op *op, const ConvGeom *g, const Phase *const *p, int64_t zero,
                         uint32_t shift) {
  Module *m = ctx->m;
  const Value *bias = op_in(op, 2);
  int64_t cg = g->c / g->group, og = g->o / g->group, step = g->c * og;
  if (zero == 0 && bias == NULL) return NULL;
  const void *w = const_data(m, op_in(op, 1)->constant);
  int32_t *v = NEW_ARRAY(m->arena, int32_t, g->o);
  for (int64_t o = 0; o < g->o; o++) {
    int64_t sum = 0, b = bias == NULL ? 0 : const_i(m, bias->constant, type_count(bias->type) == 1 ? 0 : o);
    int64_t first = o / og * cg * og + o % og;
    for (int64_t d = 0; d < p[0]->taps; d++)
      for (int64_t h = 0; h < p[1]->taps; h++)
        for (int64_t x = 0; x < p[2]->taps; x++) {
          int64_t kd = p[0]->k0 + d * p[0]->step, kh = p[1]->k0 + h * p[1]->step, kw = p[2]->k0 + x * p[2]->step;
          int64_t tap = (kd * g->kernel[1] + kh) * g->kernel[2] + kw;
          for (int64_t c = 0; c < cg; c++) sum += elem_get_i(w, DT_I8, tap * step + first + c * og);
        }
    v[o] = (int32_t)int_wrap(DT_I32, (b - zero * sum) * (INT64_C(1) << shift));
  }
  return const_borrowed(m, type_tensor(m->types, DT_I32, 1, &g->o), v, NULL);
}

static bool lower_phase(LowerCtx *ctx, const Plan *plan, Nest n, const Transposed *t, const Phase *const *p) {
  PackSpec s = phase_weights(t->g, p);
  n.m.extent = p[2]->q;
  n.tile = nest_tile(ctx, plan, n.type, &n);
  s.nv = n.tile.nv;
  s.lanes = n.tile.lanes;
  s.dense = n.tile.dense;
  s.type = n.type;
  n.dot = plan_is(plan, "dot8");
  if (n.dot) {
    s.by = 4;
    s.type = DT_I8;
    s.bits = n.bits;
    n.bias = phase_bias(ctx, n.op, t->g, p, n.x_zero + dot8_move(ctx->target, n.x->type->dtype), n.bits.shift);
  }
  phase_loops(&n, t, p, pack_copy_elems(&s) / (n.dot ? 4 : 1));
  if (pack_k(&s) == 0) n.x0 = 0;
  n.w = stage_weights(ctx, n.op, op_in(n.op, 1), &s);
  if (n.w == NULL) return false;
  n.post_again = lower_post_again(n.op, n.type);
  nest_settle(&n);
  return nest_lower(ctx, &n, plan->strategy);
}

bool lower_conv_transpose(LowerCtx *ctx, const Op *op) {
  ConvGeom g;
  if (!lower_contraction_check(ctx, op, conv_geom(op, &g))) return false;
  const Type *y = op_out(op, 0)->type;
  if (type_count(y) == 0) return true;
  Plan plan = lower_plan(ctx, op);
  Phase *phases[CONV_AXES];
  uint32_t count[CONV_AXES];
  bool dot = plan_is(&plan, "dot8");
  for (uint32_t a = 0; a < CONV_AXES; a++) count[a] = axis_phases(ctx->m->arena, &g, a, !dot, &phases[a]);
  Window win = transpose_window(&g, count, phases);
  Nest n = {.op = op, .bias = op_in(op, 2), .type = lower_arithmetic_type(op), .rank = 5, .n = g.o / g.group};
  int64_t extent[CONV_AXES];
  if (dot && !dot8_plan_bits(ctx, op, &plan, &n.bits)) return false;
  n.x_zero = win.fill = op_int(op, A_CONV_TRANSPOSE_x_zero);
  n.x = conv_stage(ctx, op, &win, dtype_is_float(n.type) ? n.type : op_in(op, 0)->type->dtype, extent, &n.x0);
  if (n.x == NULL) return false;
  n.y = lower_buf(ctx, op_out(op, 0));
  n.dims[0] = g.n;
  n.dims[4] = g.o;
  for (uint32_t i = 0; i < CONV_AXES; i++) n.dims[1 + i] = g.out[i];
  for (uint32_t i = 1; i + 1 < y->rank; i++) n.axis_of[i] = 5 - y->rank + i;
  n.axis_of[y->rank - 1] = 4;
  Transposed t = {.g = &g, .step = {extent[1] * extent[2] * g.c, extent[2] * g.c, g.c}};
  t.image = extent[0] * t.step[0];
  for (uint32_t i = 0; i < CONV_AXES; i++) t.origin[i] = win.from[i];
  uint32_t number = 0;
  for (uint32_t i = 0; i < count[0]; i++) {
    for (uint32_t j = 0; j < count[1]; j++) {
      for (uint32_t k = 0; k < count[2]; k++) {
        const Phase *p[CONV_AXES] = {&phases[0][i], &phases[1][j], &phases[2][k]};
        n.name = arena_printf(ctx->m->arena, "conv_transpose_%u_%u", op->id, number++);
        if (!lower_phase(ctx, &plan, n, &t, p)) return false;
      }
    }
  }
  return true;
}
