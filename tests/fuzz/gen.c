// The generator's core: random numbers, the pool of values, policies, and cutting a graph down. See gen.h.
#include "tests/fuzz/gen.h"

#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/infer.h"

#define MAX_RESULT 6000   // elements of a tensor
#define MAX_COST 1500000  // scalar operations of an op

static const Policy policies[] = {
    {"any", G_ALL, G_ALL, "ffffhdilbuo", 5, 7, false},
    {"any-float", G_ALL, G_ALL, "f", 5, 9, false},
    {"conv", G_CONV, G_CONV | G_ELTWISE | G_POOL | G_NORM | G_SHAPE, "f", 5, 9, false},
    {"depthwise", G_DEPTHWISE, G_DEPTHWISE | G_ELTWISE | G_POOL, "f", 4, 9, false},
    {"odd-channels", G_CONV, G_CONV | G_ELTWISE | G_NORM | G_RESIZE, "f", 4, 37, false},
    {"rank0", G_ELTWISE, G_ELTWISE | G_SHAPE | G_REDUCE | G_INDEX, "ffhdilbuo", 1, 3, false},
    {"integer", G_ALL, G_ELTWISE | G_SHAPE | G_MATMUL | G_CONV | G_POOL | G_REDUCE | G_ORDER | G_INDEX, "ilbu", 5, 7,
     false},
    {"shape", G_SHAPE, G_SHAPE | G_ELTWISE | G_INDEX, "ffhdilbuo", 5, 7, false},
    {"rnn", G_RNN, G_RNN | G_ELTWISE | G_SHAPE | G_MATMUL, "f", 4, 6, false},
    {"norm", G_NORM | G_REDUCE, G_NORM | G_REDUCE | G_ELTWISE | G_SHAPE | G_POOL, "fffh", 5, 11, false},
    {"resize", G_RESIZE | G_POOL, G_RESIZE | G_POOL | G_ELTWISE | G_SHAPE | G_CONV, "ffffhu", 5, 8, false},
    {"index", G_INDEX | G_ORDER, G_INDEX | G_ORDER | G_ELTWISE | G_SHAPE, "ffhdilbuo", 5, 7, false},
    {"matmul", G_MATMUL, G_MATMUL | G_ELTWISE | G_SHAPE | G_NORM, "ffffd", 5, 19, false},
    {"attention", G_MATMUL, G_MATMUL | G_ELTWISE | G_SHAPE | G_NORM | G_REDUCE, "f", 4, 12, false},
    {"eltwise", G_ELTWISE, G_ELTWISE | G_SHAPE, "ffhdilbuo", 5, 33, false},
    {"quant", G_QUANT, G_QUANT | G_ELTWISE | G_CONV | G_MATMUL | G_SHAPE, "ffbu", 4, 9, false},
    {"half", G_ALL, G_ALL, "h", 5, 8, false},
    {"double", G_ALL, G_ALL, "d", 5, 8, false},
    // by name only
    {"lowbit", G_LOWBIT, G_LOWBIT, "f", 4, 9, true},
};
#define N_NAMED 1

uint64_t rnd(Gen *g) {  // splitmix64
  uint64_t z = (g->rng += UINT64_C(0x9E3779B97F4A7C15));
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

int64_t rnd_in(Gen *g, int64_t lo, int64_t hi) { return lo + (int64_t)(rnd(g) % (uint64_t)(hi - lo + 1)); }
bool rnd_p(Gen *g, uint32_t percent) { return rnd(g) % 100 < percent; }
double rnd_f(Gen *g, double lo, double hi) { return lo + (hi - lo) * (double)(rnd(g) >> 11) * 0x1p-53; }

int64_t gen_extent(Gen *g) {
  if (rnd_p(g, 15)) return 1;
  if (rnd_p(g, 2)) return 0;
  return rnd_in(g, 1, g->policy->extent);
}

const Type *gen_type(Gen *g, DType t, uint32_t rank, const int64_t *dims) {
  return type_tensor(g->m->types, t, rank, dims);
}

static DType class_dtype(char c) {
  switch (c) {
    case 'f': return DT_F32;
    case 'h': return DT_F16;
    case 'd': return DT_F64;
    case 'i': return DT_I32;
    case 'l': return DT_I64;
    case 'b': return DT_I8;
    case 'u': return DT_U8;
    default: return DT_BOOL;
  }
}

bool gen_dtype_in(DType t, const char *classes) {
  for (const char *c = classes; *c; c++)
    if (class_dtype(*c) == t) return true;
  return !*classes;
}

void gen_fill(Gen *g, Tensor *t) {
  int64_t n = type_count(t->type);
  DType dt = t->type->dtype;
  double range = rnd_p(g, 20) ? 8 : 2;
  for (int64_t i = 0; i < n; i++) {
    if (dtype_is_float(dt)) {
      double v = rnd_f(g, -range, range);
      if (g->grid) v = round(v * 16) / 16;
      if (g->specials && rnd_p(g, 2)) v = rnd_p(g, 50) ? INFINITY : rnd_p(g, 50) ? -INFINITY : NAN;
      elem_set_f(t->data, dt, i, v);
    } else {
      int64_t lo = dtype_info(dt)->cls == DC_UINT || dt == DT_BOOL ? 0 : -9;
      elem_set_i(t->data, dt, i, dt == DT_BOOL ? (int64_t)(rnd(g) & 1) : rnd_in(g, lo, 9));
    }
  }
  if (dtype_is_int(dt) && rnd_p(g, 10))  // whole range
    for (int64_t i = 0; i < n; i++) elem_set_i(t->data, dt, i, (int64_t)rnd(g));
}

static void pool_add(Gen *g, Value *v, Tensor t) { vec_push(g->arena, &g->pool, ((Slot){v, t})); }

static Value *arg_with(Gen *g, Tensor t) {
  Func *f = g->f;
  Value *v = NEW(g->m->arena, Value);
  *v = (Value){.id = g->m->n_values++, .kind = VALUE_ARG, .type = t.type, .index = f->n_args};
  Value **args = NEW_ARRAY(g->m->arena, Value *, f->n_args + 1);
  if (f->n_args) memcpy(args, f->args, f->n_args * sizeof *args);
  args[f->n_args++] = v;
  f->args = args;
  v->name = intern(g->m->names, arena_printf(g->arena, "x%u", v->index));
  vec_push(g->arena, &g->args, t);
  return v;
}

Value *gen_arg(Gen *g, const Type *type) {
  Tensor t = tensor_new(g->arena, type);
  gen_fill(g, &t);
  Value *v = arg_with(g, t);
  pool_add(g, v, t);
  return v;
}

Value *gen_const(Gen *g, const Type *type) {
  if (type_count(type) > 0 && rnd_p(g, 10))
    return const_splat(g->m, type, (double)rnd_in(g, dtype_is_float(type->dtype) ? -1 : 0, 1));
  if (rnd_p(g, 20)) return const_generated(g->m, type, CONST_RAND, 0, (uint64_t)rnd_in(g, 1, 3), NULL);
  Tensor t = tensor_new(g->arena, type);
  gen_fill(g, &t);
  return const_bytes(g->m, type, t.data, NULL);
}

Value *gen_leaf(Gen *g, const Type *type) {
  if (rnd_p(g, 10)) {
    for (uint32_t i = 0; i < g->pool.n; i++)
      if (g->pool.at[i].v->type == type && rnd_p(g, 50)) return g->pool.at[i].v;
  }
  return rnd_p(g, 10) && g->f->n_args < 8 ? gen_arg(g, type) : gen_const(g, type);
}

// Terms with a zero weight may be left out, so only finite x meet weights with zeros.
static bool is_finite(const Tensor *t) {
  for (int64_t i = 0; i < type_count(t->type); i++)
    if (!isfinite(elem_get_f(t->data, t->type->dtype, i))) return false;
  return true;
}

Value *gen_weights(Gen *g, const Value *x, const Type *type) {
  static const uint32_t zeros[] = {50, 75, 90, 95, 100};
  if (!dtype_is_float(type->dtype) || !rnd_p(g, 25)) return gen_leaf(g, type);
  Tensor t = gen_tensor(g, x);
  if (!is_finite(&t)) return gen_leaf(g, type);
  return const_with_zeros(g->m, type, (uint64_t)rnd_in(g, 1, 3), zeros[rnd_in(g, 0, 4)], NULL);
}

Value *gen_ints(Gen *g, const Type *type, int64_t lo, int64_t hi) {
  Tensor t = tensor_new(g->arena, type);
  int64_t n = type_count(type);
  if (lo > hi) hi = lo;
  for (int64_t i = 0; i < n; i++) elem_set_i(t.data, type->dtype, i, rnd_in(g, lo, hi));
  if (rnd_p(g, 60)) return const_bytes(g->m, type, t.data, NULL);
  Value *v = arg_with(g, t);
  pool_add(g, v, t);
  return v;
}

Tensor gen_tensor(Gen *g, const Value *v) {
  if (v->kind == VALUE_CONST) return tensor_of_const(g->m, v->constant);
  for (uint32_t i = 0; i < g->pool.n; i++)
    if (g->pool.at[i].v == v) return g->pool.at[i].t;
  qcc_bug("a value outside the pool");
}

Value *gen_pick(Gen *g, const char *classes, uint32_t lo, uint32_t hi) {
  for (uint32_t tries = 0; tries < 30 && g->pool.n; tries++) {
    uint32_t back = (uint32_t)rnd_in(g, 0, rnd_p(g, 70) && g->pool.n > 4 ? 4 : g->pool.n - 1);
    Value *v = g->pool.at[g->pool.n - 1 - (back < g->pool.n ? back : 0)].v;
    if (v->type->rank >= lo && v->type->rank <= hi && gen_dtype_in(v->type->dtype, classes)) return v;
  }
  return NULL;
}

static const Type *random_type(Gen *g, const char *classes, uint32_t lo, uint32_t hi) {
  int64_t dims[MAX_RANK];
  if (hi > g->policy->max_rank) hi = g->policy->max_rank > lo ? g->policy->max_rank : lo;
  uint32_t rank = (uint32_t)rnd_in(g, lo, hi);
  const char *of = g->policy->dtypes;
  DType t = class_dtype(of[rnd(g) % strlen(of)]);
  for (uint32_t tries = 0; tries < 20 && !gen_dtype_in(t, classes); tries++) t = class_dtype(of[rnd(g) % strlen(of)]);
  if (!gen_dtype_in(t, classes)) t = class_dtype(classes[rnd(g) % strlen(classes)]);
  for (uint32_t i = 0; i < rank; i++) dims[i] = gen_extent(g);
  for (int64_t n; dims_count(rank, dims, &n) && n > MAX_RESULT;) dims[rnd_in(g, 0, rank - 1)] = rnd_in(g, 1, 4);
  return gen_type(g, t, rank, dims);
}

Value *gen_need(Gen *g, const char *classes, uint32_t lo, uint32_t hi) {
  Value *v = gen_pick(g, classes, lo, hi);
  return v ? v : gen_arg(g, random_type(g, classes, lo, hi));
}

Value *gen_mate(Gen *g, DType t, const Type *with) {
  uint32_t rank = with->rank;
  int64_t dims[MAX_RANK];
  for (uint32_t tries = 0; tries < 8; tries++) {
    Value *v = gen_pick(g, "", 0, MAX_RANK);
    if (v && v->type->dtype == t && dims_broadcast(v->type->rank, v->type->dims, rank, with->dims, &rank, dims))
      return v;
    rank = with->rank;
  }
  memcpy(dims, with->dims, sizeof dims);
  uint32_t skip = rnd_p(g, 50) ? 0 : (uint32_t)rnd_in(g, 0, rank);
  for (uint32_t i = 0; i < rank; i++)
    if (rnd_p(g, 30)) dims[i] = 1;
  return gen_leaf(g, gen_type(g, t, rank - skip, dims + skip));
}

const Loc *gen_loc(Gen *g, OpKind kind) {
  Loc *loc = NEW(g->m->arena, Loc);
  *loc = (Loc){.file = "random", .node = (int32_t)g->ops.n, .op_type = op_info(kind)->name};
  loc->node_name = intern(g->m->names, arena_printf(g->arena, "n%u", g->ops.n));
  loc->output = loc->node_name;
  return loc;
}

Op *gen_op(Gen *g, OpKind kind, uint32_t n_in, Value *const *in) {
  return op_new(g->f, NULL, kind, n_in, in, gen_loc(g, kind));
}

void gen_result(Gen *g, Op *op, DType t, uint32_t rank, const int64_t *dims) {
  value_set_type(op_out(op, 0), gen_type(g, t, rank, dims));
}

static bool tensor_is_tame(const Gen *g, const Tensor *t) {
  DType dt = t->type->dtype;
  int64_t n = type_count(t->type);
  if (!dtype_is_float(dt) || g->specials) return true;
  double most = dt == DT_F16 ? 3e3 : 1e6;
  for (int64_t i = 0; i < n; i++) {
    double v = elem_get_f(t->data, dt, i);
    if (!(fabs(v) < most)) return false;
  }
  return true;
}

static bool op_works(Gen *g, Op *op, Tensor *out) {
  if (!infer_op(op)) return false;
  for (uint32_t i = 0; i < op->n_out; i++)
    if (type_count(op->out[i]->type) > MAX_RESULT) return false;
  if (eval_cost(op) > MAX_COST) return false;
  Tensor *in = NEW_ARRAY(g->arena, Tensor, op->n_in);
  for (uint32_t i = 0; i < op->n_in; i++)
    if (op_in(op, i)) in[i] = gen_tensor(g, op_in(op, i));
  if (!eval_op(op, in, out, g->arena)) return false;
  for (uint32_t i = 0; i < op->n_out; i++)
    if (!tensor_is_tame(g, &out[i])) return false;
  return true;
}

bool gen_done(Gen *g, Op *op) {
  Tensor *out = NEW_ARRAY(g->arena, Tensor, op->n_out);
  if (!op_works(g, op, out)) {
    op_unlink(op);
    return false;
  }
  vec_push(g->arena, &g->ops, op);
  for (uint32_t i = 0; i < op->n_out; i++) {
    op->out[i]->name = intern(g->m->names, arena_printf(g->arena, "v%u_%u", g->ops.n, i));
    pool_add(g, op->out[i], out[i]);
  }
  return true;
}

// ---- graphs

static const Generator *pick_generator(Gen *g, uint32_t families) {
  const Generator *chosen = NULL;
  uint64_t n = 0;
  for (const Generator *const *list = (const Generator *const[]){gen_basic, gen_network, gen_lowbit, NULL}; *list;
       list++)
    for (const Generator *r = *list; r->name; r++)
      if ((r->families & families) && rnd(g) % ++n == 0) chosen = r;
  return chosen;
}

static void choose_results(Gen *g) {
  Value *results[12] = {NULL};
  uint32_t n = 0, want = (uint32_t)rnd_in(g, 1, 4);
  for (uint32_t i = g->pool.n; i-- > 0 && n < want;)
    if (g->pool.at[i].v->kind == VALUE_RESULT && g->pool.at[i].v->n_uses == 0) results[n++] = g->pool.at[i].v;
  if (n == 0 || rnd_p(g, 20)) results[n++] = g->pool.at[rnd_in(g, 0, g->pool.n - 1)].v;
  if (rnd_p(g, 8)) {
    results[n] = results[rnd_in(g, 0, n - 1)];
    n++;
  }
  if (rnd_p(g, 5)) results[n++] = g->f->args[rnd_in(g, 0, g->f->n_args - 1)];
  if (rnd_p(g, 4)) results[n++] = gen_const(g, random_type(g, "", 0, 3));
  func_set_results(g->f, n, results);
  for (uint32_t i = 0; i < n; i++) g->f->result_names[i] = intern(g->m->names, arena_printf(g->arena, "y%u", i));
}

static const Policy *policy_of(uint64_t seed, const char *name) {
  uint32_t n = sizeof policies / sizeof *policies;
  for (uint32_t i = 0; name && i < n; i++)
    if (strcmp(policies[i].name, name) == 0) return &policies[i];
  return &policies[seed % (n - N_NAMED)];
}

void gen_graph(Gen *g, uint64_t seed, const char *policy, Arena *arena, Diag *diag) {
  *g = (Gen){.arena = arena,
             .m = module_new(arena, diag),
             .policy = policy_of(seed, policy),
             .rng = seed * 7919 + 3,
             .row = seed * 13};
  g->f = func_new(g->m, "random", 0, NULL);
  g->m->name = "qcc_random";
  g->row = rnd(g);
  g->grid = rnd_p(g, 40) || g->policy->exact;
  g->specials = g->policy->allow == (G_ELTWISE | G_SHAPE) && rnd_p(g, 25);
  uint32_t want = (uint32_t)rnd_in(g, 1, rnd_p(g, 50) ? 6 : 22), args = (uint32_t)rnd_in(g, 1, 3);
  for (uint32_t i = 0; i < args; i++) {
    uint32_t lo = g->policy->prefer & (G_CONV | G_DEPTHWISE) ? 3 : g->policy->prefer & G_LOWBIT ? 2 : 0;
    gen_arg(g, random_type(g, "", g->policy->prefer == G_ALL ? 0 : lo, g->policy->max_rank));
  }
  if (g->policy->prefer != G_LOWBIT) gen_row(g, seed);
  for (uint32_t tries = 0; tries < 30 * want && g->ops.n < want; tries++)
    pick_generator(g, rnd_p(g, 65) ? g->policy->prefer : g->policy->allow)->make(g);
  choose_results(g);
}

// ---- cutting

static void op_becomes_args(Gen *g, Op *op) {
  for (uint32_t i = 0; i < op->n_out; i++)
    if (op->out[i]->n_uses) value_replace(op->out[i], arg_with(g, gen_tensor(g, op->out[i])));
}

static void drop_dead(Gen *g) {
  for (Op *op = g->f->last, *prev; op; op = prev) {
    bool used = false;
    prev = op->prev;
    for (uint32_t i = 0; i < op->n_out; i++) used |= op->out[i]->n_uses > 0;
    if (!used) op_unlink(op);
  }
  uint32_t n = 0;
  for (uint32_t i = 0; i < g->f->n_args; i++) {
    if (!g->f->args[i]->n_uses) continue;
    g->args.at[n] = g->args.at[i];
    g->f->args[n] = g->f->args[i];
    g->f->args[n]->index = n;
    n++;
  }
  g->f->n_args = g->args.n = n;
}

void gen_cut(Gen *g, const uint8_t *drop, const uint8_t *keep_result) {
  Value *results[12] = {NULL};
  const char *names[12];
  uint32_t n = 0;
  for (uint32_t i = 0; i < g->f->n_results; i++) {
    if (keep_result && !keep_result[i]) continue;
    names[n] = g->f->result_names[i];
    results[n++] = g->f->results[i];
  }
  func_set_results(g->f, n, results);
  for (uint32_t i = 0; i < n; i++) g->f->result_names[i] = names[i];
  for (uint32_t i = 0; i < g->ops.n; i++)
    if (drop[i]) op_becomes_args(g, g->ops.at[i]);
  drop_dead(g);
}
