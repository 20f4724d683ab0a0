// Element-wise ops, and functions of rank-0 values applied to every element (map bodies, post functions).
//
// Work goes in blocks: each value is a lane of BLOCK numbers, doubles for float types and 64-bit integers for the
// others, always already rounded to the value's own type. The scalar meaning is kop_eval_f / kop_eval_i; cast and
// select are defined here. Float attributes are single precision, as in ONNX.
#include <string.h>

#include "ir/base/map.h"
#include "ir/eval_impl.h"

enum { BLOCK = 256, MAX_ARGS = 8 };

typedef struct Lane {
  DType type;
  double *f;
  int64_t *i;
} Lane;

static Lane *lane_new(Arena *arena, DType t) {
  Lane *l = NEW(arena, Lane);
  l->type = t;
  if (dtype_is_float(t))
    l->f = NEW_ARRAY(arena, double, BLOCK);
  else
    l->i = NEW_ARRAY(arena, int64_t, BLOCK);
  return l;
}

static void lane_load(Lane *l, const Tensor *t, const int64_t *offsets, int64_t n) {
  if (l->type == DT_F32) {
    const AnyF32 *p = t->data;
    for (int64_t k = 0; k < n; k++) l->f[k] = p[offsets[k]];
  } else if (l->f) {
    for (int64_t k = 0; k < n; k++) l->f[k] = elem_get_f(t->data, l->type, offsets[k]);
  } else {
    for (int64_t k = 0; k < n; k++) l->i[k] = elem_get_i(t->data, l->type, offsets[k]);
  }
}

static void lane_store(const Lane *l, Tensor *t, int64_t start, int64_t n) {
  if (l->type == DT_F32) {
    AnyF32 *p = t->data;
    for (int64_t k = 0; k < n; k++) p[start + k] = (float)l->f[k];
    return;
  }
  for (int64_t k = 0; k < n; k++)
    if (l->f)
      elem_set_f(t->data, l->type, start + k, l->f[k]);
    else
      elem_set_i(t->data, l->type, start + k, l->i[k]);
}

// ---- one op on lanes

static double lane_round(DType t, double v) { return t == DT_F32 ? (double)(float)v : elem_round(t, v); }

static double lane_f(const Lane *l, int64_t k) {
  if (l->f) return l->f[k];
  return l->type == DT_U64 ? (double)(uint64_t)l->i[k] : (double)l->i[k];
}

static void lane_cast(const Lane *x, Lane *y, int64_t n) {
  for (int64_t k = 0; k < n; k++) {
    uint64_t place = 0;
    if (x->f)
      elem_set_f(&place, y->type, 0, x->f[k]);
    else
      elem_set_int(&place, y->type, 0, x->i[k], x->type == DT_U64);
    if (y->f)
      y->f[k] = elem_get_f(&place, y->type, 0);
    else
      y->i[k] = elem_get_i(&place, y->type, 0);
  }
}

static void lane_select(Lane *const *x, Lane *y, int64_t n) {
  for (int64_t k = 0; k < n; k++) {
    const Lane *from = (x[0]->f ? x[0]->f[k] != 0 : x[0]->i[k] != 0) ? x[1] : x[2];
    if (y->f)
      y->f[k] = elem_round(y->type, lane_f(from, k));
    else
      y->i[k] = int_wrap(y->type, from->f ? elem_get_i(&from->f[k], DT_F64, 0) : from->i[k]);
  }
}

static void lane_floats(KOp kop, uint32_t n_in, Lane *const *x, double *args, Lane *y, int64_t n) {
  for (int64_t k = 0; k < n; k++) {
    for (uint32_t a = 0; a < n_in; a++) args[a] = lane_f(x[a], k);
    double v = kop_eval_f(kop, args);
    if (y->f) {
      y->f[k] = lane_round(y->type, v);
    } else {
      uint64_t place = 0;
      elem_set_f(&place, y->type, 0, v);
      y->i[k] = elem_get_i(&place, y->type, 0);
    }
  }
}

static void lane_ints(KOp kop, uint32_t n_in, Lane *const *x, int64_t *args, Lane *y, int64_t n) {
  for (int64_t k = 0; k < n; k++) {
    for (uint32_t a = 0; a < n_in; a++) args[a] = x[a]->i[k];
    int64_t v = kop_eval_i(kop, x[0]->type, args);
    if (y->f)
      y->f[k] = elem_round(y->type, (double)v);
    else
      y->i[k] = int_wrap(y->type, v);
  }
}

// The operands, then the float attributes in order.
static void lane_op(const Op *op, Lane *const *x, Lane *y, int64_t n) {
  const OpInfo *info = op_info(op->kind);
  double f[MAX_ARGS];
  int64_t i[MAX_ARGS];
  uint32_t n_args = op->n_in;
  bool is_float = false;
  for (uint32_t k = 0; k < op->n_in; k++) is_float |= x[k]->f != NULL;
  for (uint32_t k = 0; k < info->n_attrs; k++)
    if (info->attrs[k].kind == ATTR_FLOAT) {
      f[n_args] = (float)op_float(op, (int)k);
      i[n_args] = elem_get_i(&f[n_args], DT_F64, 0);
      n_args++;
    }
  if (op->kind == OP_CAST)
    lane_cast(x[0], y, n);
  else if (op->kind == OP_SELECT)
    lane_select(x, y, n);
  else if (is_float)
    lane_floats(info->kop, op->n_in, x, f, y, n);
  else
    lane_ints(info->kop, op->n_in, x, i, y, n);
}

// ---- operands broadcast to the result, block by block

typedef struct Feed {
  Tensor tensor;
  Lane *lane;
  bool dense;  // element i belongs to element i of the result
  bool one;    // one element, loaded for good
  int64_t strides[MAX_RANK];
} Feed;

static Feed *feeds_new(Arena *arena, uint32_t n, const Tensor *in, const Type *out) {
  Feed *feeds = NEW_ARRAY(arena, Feed, n);
  for (uint32_t k = 0; k < n; k++) {
    feeds[k].tensor = in[k];
    feeds[k].lane = lane_new(arena, in[k].type->dtype);
    broadcast_strides(in[k].type, out->rank, feeds[k].strides);
    feeds[k].dense = type_same_shape(in[k].type, out);
    feeds[k].one = type_count(in[k].type) == 1;
    if (feeds[k].one) lane_load(feeds[k].lane, &in[k], (int64_t[BLOCK]){0}, BLOCK);
  }
  return feeds;
}

static void feeds_load(Feed *feeds, uint32_t n_feeds, const Type *out, int64_t start, int64_t n) {
  int64_t offsets[BLOCK];
  for (uint32_t k = 0; k < n_feeds; k++) {
    if (feeds[k].one) continue;
    if (feeds[k].dense) {
      for (int64_t i = 0; i < n; i++) offsets[i] = start + i;
    } else {
      walk_offsets(out->rank, out->dims, feeds[k].strides, start, n, offsets);
    }
    lane_load(feeds[k].lane, &feeds[k].tensor, offsets, n);
  }
}

EVAL(eltwise) {
  QCC_CHECK(op->n_in <= 3, "element-wise op with %u operands", op->n_in);
  const Type *type = out[0].type;
  Feed *feeds = feeds_new(arena, op->n_in, in, type);
  Lane *x[3] = {NULL, NULL, NULL}, *y = lane_new(arena, type->dtype);
  for (uint32_t k = 0; k < op->n_in; k++) x[k] = feeds[k].lane;
  int64_t total = type_count(type);
  for (int64_t at = 0; at < total; at += BLOCK) {
    int64_t n = total - at < BLOCK ? total - at : BLOCK;
    feeds_load(feeds, op->n_in, type, at, n);
    lane_op(op, x, y, n);
    lane_store(y, &out[0], at, n);
  }
  return true;
}

// ---- functions of rank-0 values

typedef struct BodyStep {
  const Op *op;
  Lane **x, *y;
} BodyStep;

typedef struct Body {
  Arena *arena;
  Map *lanes;  // value id + 1 -> Lane
  uint32_t n;
  BodyStep *steps;
} Body;

static Lane *body_lane(Body *b, Module *m, Value *v) {
  Lane *l = map_get(b->lanes, (uint64_t)v->id + 1);
  if (l) return l;
  l = lane_new(b->arena, v->type->dtype);
  map_set(b->lanes, (uint64_t)v->id + 1, l);
  if (v->kind == VALUE_CONST && type_count(v->type) > 0) {
    int64_t zeros[BLOCK] = {0};
    Tensor t = tensor_of_const(m, v->constant);
    lane_load(l, &t, zeros, BLOCK);
  }
  return l;
}

static Body body_new(Func *f, const Feed *feeds, Arena *arena) {
  Body b = {arena, map_new(arena), 0, NEW_ARRAY(arena, BodyStep, f->n_ops)};
  for (uint32_t k = 0; k < f->n_args; k++) map_set(b.lanes, (uint64_t)f->args[k]->id + 1, feeds[k].lane);
  for (const Op *op = f->first; op; op = op->next) {
    BodyStep *s = &b.steps[b.n++];
    QCC_CHECK(op_info(op->kind)->traits & TRAIT_ELTWISE, "%s in a scalar function", op_info(op->kind)->name);
    s->op = op;
    s->x = NEW_ARRAY(arena, Lane *, op->n_in);
    for (uint32_t k = 0; k < op->n_in; k++) s->x[k] = op_in(op, k) ? body_lane(&b, f->module, op_in(op, k)) : NULL;
    s->y = body_lane(&b, f->module, op->out[0]);
  }
  return b;
}

static void body_run(const Body *b, int64_t n) {
  for (uint32_t k = 0; k < b->n; k++) lane_op(b->steps[k].op, b->steps[k].x, b->steps[k].y, n);
}

void eval_body(Func *body, const Tensor *in, Tensor *out, Arena *arena) {
  QCC_CHECK(body->n_results == 1, "scalar function @%s has %u results", body->name, body->n_results);
  const Type *type = out->type;
  Feed *feeds = feeds_new(arena, body->n_args, in, type);
  Body b = body_new(body, feeds, arena);
  Lane *y = body_lane(&b, body->module, body->results[0]);
  QCC_CHECK(y->type == type->dtype, "scalar function @%s gives %s for %s", body->name, dtype_info(y->type)->name,
            dtype_info(type->dtype)->name);
  int64_t total = type_count(type);
  for (int64_t at = 0; at < total; at += BLOCK) {
    int64_t n = total - at < BLOCK ? total - at : BLOCK;
    feeds_load(feeds, body->n_args, type, at, n);
    body_run(&b, n);
    lane_store(y, out, at, n);
  }
}

EVAL(map) {
  eval_body(op_func(op, A_MAP_body), in, &out[0], arena);
  return true;
}
