// Reductions and order: reduce, argreduce, topk, cumsum.
//
// Sums and products of integers are exact modulo 2^64 and wrap to the result type when stored; an integer mean
// truncates. Over no elements sum-like reductions give 0, prod 1, max the smallest and min the largest value of the
// type (infinities for floats), the float mean NaN. NaN propagates through max and min, counts as the largest
// element in argreduce(max) and topk and as the smallest in argreduce(min): the first (or last) one is reported.
#include <math.h>
#include <stdlib.h>

#include "ir/eval_impl.h"

typedef struct Group {
  const Nums *x;
  int64_t base;
  const int64_t *at;  // offsets from base
  int64_t n;
} Group;

static double group_f(const Group *g, int64_t k) { return g->x->f[g->base + g->at[k]]; }

static double log_sum_exp(const Group *g) {
  double max = -INFINITY, sum = 0;
  for (int64_t k = 0; k < g->n; k++) max = max_num(max, group_f(g, k));
  if (isinf(max) || isnan(max)) return max;
  for (int64_t k = 0; k < g->n; k++) sum += exp(group_f(g, k) - max);
  return log(sum) + max;
}

static double reduce_f(EnumValue what, const Group *g) {
  double acc = what == REDUCE_PROD ? 1 : what == REDUCE_MAX ? -INFINITY : what == REDUCE_MIN ? INFINITY : 0;
  if (what == REDUCE_LOGSUMEXP) return log_sum_exp(g);
  for (int64_t k = 0; k < g->n; k++) {
    double v = group_f(g, k);
    switch (what) {
      case REDUCE_MAX: acc = max_num(acc, v); break;
      case REDUCE_MIN: acc = min_num(acc, v); break;
      case REDUCE_PROD: acc *= v; break;
      case REDUCE_L1: acc += fabs(v); break;
      case REDUCE_L2:
      case REDUCE_SUMSQ: acc += v * v; break;
      default: acc += v; break;
    }
  }
  if (what == REDUCE_MEAN) return acc / (double)g->n;
  if (what == REDUCE_L2) return sqrt(acc);
  return what == REDUCE_LOGSUM ? log(acc) : acc;
}

static int64_t largest_int(DType t) { return t == DT_U64 ? -1 : t == DT_BOOL ? 1 : dtype_max(t); }

static int64_t reduce_i(EnumValue what, const Group *g, DType t) {
  uint64_t acc = what == REDUCE_PROD ? 1 : 0;
  int64_t best = what == REDUCE_MAX ? dtype_min(t) : largest_int(t);
  for (int64_t k = 0; k < g->n; k++) {
    int64_t v = g->x->i[g->base + g->at[k]];
    uint64_t magnitude = v < 0 && t != DT_U64 ? 0 - (uint64_t)v : (uint64_t)v;
    switch (what) {
      case REDUCE_MAX: best = int_less(t, best, v) ? v : best; break;
      case REDUCE_MIN: best = int_less(t, v, best) ? v : best; break;
      case REDUCE_PROD: acc *= (uint64_t)v; break;
      case REDUCE_L1: acc += magnitude; break;
      case REDUCE_SUMSQ: acc += (uint64_t)v * (uint64_t)v; break;
      default: acc += (uint64_t)v; break;
    }
  }
  if (what == REDUCE_MAX || what == REDUCE_MIN) return best;
  if (what != REDUCE_MEAN) return (int64_t)acc;
  if (g->n == 0) return 0;
  return t == DT_U64 ? (int64_t)(acc / (uint64_t)g->n) : (int64_t)acc / g->n;
}

static bool needs_floats(EnumValue what) {
  return what == REDUCE_L2 || what == REDUCE_LOGSUM || what == REDUCE_LOGSUMEXP;
}

EVAL(reduce) {
  const Type *t = in[0].type;
  EnumValue what = op_enum(op, A_REDUCE_op);
  uint32_t n_axes = 0, n_kept = 0, n_gone = 0;
  const int64_t *axes = op_ints(op, A_REDUCE_axes, &n_axes);
  int64_t strides[MAX_RANK] = {0}, kept[2][MAX_RANK] = {{0}}, gone[2][MAX_RANK] = {{0}}, n_out = 1, n_group = 1;
  tensor_strides(t, strides);
  for (uint32_t k = 0; k < t->rank; k++) {
    bool reduced = false;
    for (uint32_t a = 0; a < n_axes; a++) reduced |= axes[a] == (int64_t)k;
    int64_t(*to)[MAX_RANK] = reduced ? gone : kept;
    uint32_t at = reduced ? n_gone++ : n_kept++;
    to[0][at] = t->dims[k];
    to[1][at] = strides[k];
    *(reduced ? &n_group : &n_out) *= t->dims[k];
  }
  int64_t *at = NEW_ARRAY(arena, int64_t, n_group), *base = NEW_ARRAY(arena, int64_t, n_out);
  walk_offsets(n_gone, gone[0], gone[1], 0, n_group, at);
  walk_offsets(n_kept, kept[0], kept[1], 0, n_out, base);
  bool as_float = dtype_is_float(t->dtype) || needs_floats(what);
  Nums x = nums_as(arena, &in[0], as_float), y = nums_new(arena, n_out, as_float);
  for (int64_t k = 0; k < n_out; k++) {
    Group g = {&x, base[k], at, n_group};
    if (as_float)
      y.f[k] = reduce_f(what, &g);
    else
      y.i[k] = reduce_i(what, &g, t->dtype);
  }
  nums_store(&out[0], &y);
  return true;
}

// ---- order

// a before b in ascending order: NaN after every number, -0 equal to +0.
static bool num_less(const Nums *x, DType t, int64_t a, int64_t b) {
  if (!x->f) return int_less(t, x->i[a], x->i[b]);
  if (isnan(x->f[b])) return !isnan(x->f[a]);
  return x->f[a] < x->f[b];
}

EVAL(argreduce) {
  const Type *t = in[0].type;
  AxisView v = axis_view(t, op_axis(op, A_ARGREDUCE_axis, t->rank));
  bool is_max = op_enum(op, A_ARGREDUCE_op) == REDUCE_MAX, last = op_bool(op, A_ARGREDUCE_last);
  Nums x = nums_of(arena, &in[0]);
  for (int64_t o = 0; o < v.outer; o++)
    for (int64_t i = 0; i < v.inner; i++) {
      int64_t base = o * v.n * v.inner + i, best = 0;
      for (int64_t k = 1; k < v.n; k++) {
        int64_t a = base + k * v.inner, b = base + best * v.inner;
        bool nan_a = x.f && isnan(x.f[a]), nan_b = x.f && isnan(x.f[b]);
        bool better = nan_a || nan_b ? nan_a && !nan_b
                      : is_max       ? num_less(&x, t->dtype, b, a)
                                     : num_less(&x, t->dtype, a, b);
        bool equal = nan_a || nan_b ? nan_a && nan_b : !num_less(&x, t->dtype, a, b) && !num_less(&x, t->dtype, b, a);
        if (better || (last && equal)) best = k;
      }
      elem_set_i(out[0].data, out[0].type->dtype, o * v.inner + i, best);
    }
  return true;
}

typedef struct Ranked {
  const Nums *x;
  DType type;
  int64_t base, step, at;
  bool largest;
} Ranked;

// Best first, ties by index: a total order, so any sort gives the same result.
static int ranked_order(const void *pa, const void *pb) {
  const Ranked *a = pa, *b = pb;
  int64_t ia = a->base + a->at * a->step, ib = b->base + b->at * b->step;
  bool ab = num_less(a->x, a->type, ia, ib), ba = num_less(a->x, a->type, ib, ia);
  if (ab != ba) return ab == a->largest ? 1 : -1;
  return a->at < b->at ? -1 : a->at > b->at;
}

EVAL(topk) {
  const Type *t = in[0].type;
  AxisView v = axis_view(t, op_axis(op, A_TOPK_axis, t->rank));
  int64_t k_out = op_int(op, A_TOPK_k);
  bool largest = op_bool(op, A_TOPK_largest);
  Nums x = nums_of(arena, &in[0]);
  Ranked *r = NEW_ARRAY(arena, Ranked, v.n);
  for (int64_t o = 0; o < v.outer; o++)
    for (int64_t i = 0; i < v.inner; i++) {
      int64_t base = o * v.n * v.inner + i;
      for (int64_t k = 0; k < v.n; k++) r[k] = (Ranked){&x, t->dtype, base, v.inner, k, largest};
      qsort(r, (size_t)v.n, sizeof *r, ranked_order);
      for (int64_t k = 0; k < k_out && k < v.n; k++) {
        int64_t to = (o * k_out + k) * v.inner + i;
        elem_copy(out[0].data, to, in[0].data, base + r[k].at * v.inner, t->dtype);
        elem_set_i(out[1].data, out[1].type->dtype, to, r[k].at);
      }
    }
  return true;
}

EVAL(cumsum) {
  AxisView v = axis_view(in[0].type, op_axis(op, A_CUMSUM_axis, in[0].type->rank));
  bool exclusive = op_bool(op, A_CUMSUM_exclusive), reverse = op_bool(op, A_CUMSUM_reverse);
  Nums x = nums_of(arena, &in[0]);
  for (int64_t o = 0; o < v.outer; o++)
    for (int64_t i = 0; i < v.inner; i++) {
      double f = 0;
      uint64_t n = 0;
      for (int64_t k = 0; k < v.n; k++) {
        int64_t at = (o * v.n + (reverse ? v.n - 1 - k : k)) * v.inner + i;
        double before_f = f;
        uint64_t before_n = n;
        if (x.f)
          x.f[at] = (f += x.f[at], exclusive ? before_f : f);
        else
          x.i[at] = (n += (uint64_t)x.i[at], (int64_t)(exclusive ? before_n : n));
      }
    }
  nums_store(&out[0], &x);
  return true;
}
