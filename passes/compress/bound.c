// See bound.h. One run of the dense network carries a bound d(v) of the distance of every value from what it will be:
//
//   layer with new weights W' = W + D:  y' - y = W' (x' - x) + D x   =>   d(y) = |W'| d(x) + |D| |x|
//   any other op:                       d(y) = sum over operands of Lip d(x)
//
// A convolution multiplies patches, in which an element of x appears once per tap that reads it: its constant is the
// norm of the matrix times the root of that number. Products of such constants over many layers are far above what
// happens; what they are is a promise for any input of the same norms.
#include "passes/compress/bound.h"

#include <math.h>

#include "ir/base/map.h"
#include "ir/elem.h"
#include "passes/compress/form.h"
#include "passes/compress/linalg.h"

#define EXACT_COST 2e9  // multiply-adds of singular values that are computed for a bound

typedef struct Bounds {
  Map *of;     // op id + 1 -> double[n_out]
  Map *layer;  // op id + 1 -> BoundLayer
  Arena *arena;
} Bounds;

double spectral_bound(int64_t rows, int64_t cols, const double *a, Arena *arena) {
  ArenaMark mark = arena_mark(arena);
  int64_t n = rows < cols ? rows : cols;
  double *s = NEW_ARRAY(arena, double, n + 1), row_most = 0, column_most = 0;
  bool exact = svd_cost(rows, cols) <= EXACT_COST && svd_values(rows, cols, a, arena, s);
  double found = exact && n > 0 ? s[0] * (1 + 1e-9) : 0;
  double *column = NEW_ARRAY(arena, double, cols + 1);
  for (int64_t i = 0; !exact && i < rows; i++) {
    double row = 0;
    for (int64_t k = 0; k < cols; k++) {
      row += fabs(a[i * cols + k]);
      column[k] += fabs(a[i * cols + k]);
    }
    row_most = fmax(row_most, row);
  }
  for (int64_t k = 0; !exact && k < cols; k++) column_most = fmax(column_most, column[k]);
  if (!exact) found = fmin(sqrt(row_most * column_most), sqrt(sum_of_squares(rows * cols, a)));
  arena_reset(arena, mark);
  return found;
}

static double norm_of(const Tensor *t) {
  double sum = 0;
  for (int64_t i = 0; i < type_count(t->type); i++) {
    double v = elem_get_f(t->data, t->type->dtype, i);
    sum += v * v;
  }
  return sqrt(sum);
}

static double distance(const Bounds *b, const Value *v) {
  if (v == NULL || value_is_const(v) || v->op == NULL) return 0;
  const double *d = map_get(b->of, v->op->id + 1u);
  return d == NULL ? 0 : d[v->index];
}

static double most_abs(const Tensor *t) {
  double most = 0;
  for (int64_t i = 0; i < type_count(t->type); i++) most = fmax(most, fabs(elem_get_f(t->data, t->type->dtype, i)));
  return most;
}

// Taps of a window that read one element, at most.
static double readers(const Op *op, int kernel, int strides, int dilations, uint32_t axes) {
  double n = 1;
  for (uint32_t i = 0; i < axes; i++) {
    int64_t k = kernel < 0 ? op_in(op, 1)->type->dims[2 + i] : op_ints_at(op, kernel, i, 1);
    int64_t s = op_ints_at(op, dilations, i, 1) == 1 ? op_ints_at(op, strides, i, 1) : 1;
    n *= (double)((k + s - 1) / s);
  }
  return n;
}

// |W| of a layer of constant float weights, as that of a matrix of patches; infinite where it can't be read.
static double weights_norm(const Op *op, Arena *arena) {
  FactorLayer l;
  const char *why;
  double most = 0;
  if (!layer_read(op, &l, arena, &why)) return INFINITY;
  int64_t rows = l.nd > 0 ? l.out / l.group : l.in, cols = l.n_w / l.group / rows;
  for (int64_t g = 0; g < l.group; g++) most = fmax(most, spectral_bound(rows, cols, l.w + g * rows * cols, arena));
  return most;
}

static double through_layer(const Bounds *b, const Op *op, const Tensor *in) {
  double d = distance(b, op_in(op, 0)), copies = 1;
  const BoundLayer *l = map_get(b->layer, op->id + 1u);
  if (op->kind == OP_CONV) copies = readers(op, -1, A_CONV_strides, A_CONV_dilations, op_in(op, 0)->type->rank - 2);
  if (distance(b, op_in(op, 1)) > 0) return INFINITY;
  if (l != NULL) return sqrt(copies) * (l->weights * d + l->change * norm_of(&in[0]));
  if (d == 0) return 0;
  Arena *scratch = arena_new("norm");
  double norm = weights_norm(op, scratch);
  arena_free(scratch);
  return sqrt(copies) * norm * d;
}

// An element that is repeated by broadcasting counts as often.
static double copied(const Op *op, uint32_t i) {
  return sqrt((double)type_count(op_out(op, 0)->type) / fmax(1, (double)type_count(op_in(op, i)->type)));
}

static double sum_of(const Bounds *b, const Op *op, double constant) {
  double d = 0;
  for (uint32_t i = 0; i < op->n_in; i++) {
    double one = distance(b, op_in(op, i));
    if (one > 0) d += constant * copied(op, i) * one;
  }
  return d;
}

static double through_product(const Bounds *b, const Op *op, const Tensor *in) {
  double x = distance(b, op_in(op, 0)), y = distance(b, op_in(op, 1));
  if (x > 0 && y > 0) return INFINITY;
  return x * copied(op, 0) * most_abs(&in[1]) + y * copied(op, 1) * most_abs(&in[0]);
}

static double through_batchnorm(const Bounds *b, const Op *op, const Tensor *in) {
  double most = 0, epsilon = op_float(op, A_BATCHNORM_epsilon);
  DType t = in[1].type->dtype;
  for (uint32_t i = 1; i < op->n_in; i++)
    if (distance(b, op_in(op, i)) > 0) return INFINITY;
  for (int64_t c = 0; c < type_count(in[1].type); c++)
    most =
        fmax(most, fabs(elem_get_f(in[1].data, t, c)) / sqrt(elem_get_f(in[4].data, in[4].type->dtype, c) + epsilon));
  return most * distance(b, op_in(op, 0));
}

static double through(const Bounds *b, const Op *op, const Tensor *in) {
  double any = sum_of(b, op, 1);
  if (op->kind == OP_CONV || op->kind == OP_MATMUL) return through_layer(b, op, in);
  if (any == 0) return 0;
  switch (op->kind) {
    case OP_RELU:
    case OP_ABS:
    case OP_NEG:
    case OP_TANH:
    case OP_ADD:
    case OP_SUB: return any;
    case OP_CLIP: return distance(b, op_in(op, 0));
    case OP_SIGMOID: return any / 4;
    case OP_MUL: return through_product(b, op, in);
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_SLICE: return distance(b, op_in(op, 0));
    case OP_CONCAT: {
      double sum = 0;
      for (uint32_t i = 0; i < op->n_in; i++) sum += distance(b, op_in(op, i));
      return sum;
    }
    case OP_SOFTMAX: return distance(b, op_in(op, 0));
    case OP_MAXPOOL:
      return distance(b, op_in(op, 0)) *
             sqrt(readers(op, A_MAXPOOL_kernel, A_MAXPOOL_strides, A_MAXPOOL_dilations, op_in(op, 0)->type->rank - 2));
    case OP_PAD: return op_enum(op, A_PAD_mode) == PAD_CONSTANT ? distance(b, op_in(op, 0)) : INFINITY;
    case OP_AVGPOOL:
      return distance(b, op_in(op, 0)) *
             sqrt(readers(op, A_AVGPOOL_kernel, A_AVGPOOL_strides, A_AVGPOOL_dilations, op_in(op, 0)->type->rank - 2));
    case OP_REDUCE: return op_enum(op, A_REDUCE_op) == REDUCE_MEAN ? any : INFINITY;  // n elements: 1 / sqrt(n)
    case OP_BATCHNORM: return through_batchnorm(b, op, in);
    default: return INFINITY;
  }
}

static void watch(void *ctx, const Op *op, const Tensor *in, const Tensor *out) {
  Bounds *b = ctx;
  (void)out;
  double d = through(b, op, in);
  if (d == 0) return;
  double *of = NEW_ARRAY(b->arena, double, op->n_out + 1);
  for (uint32_t i = 0; i < op->n_out; i++) of[i] = d;
  map_set(b->of, op->id + 1u, of);
}

bool bound_run(Func *f, const Tensor *in, uint32_t n, const BoundLayer *layers, double *bound, Arena *arena) {
  Bounds b = {.of = map_new(arena), .layer = map_new(arena), .arena = arena};
  Tensor *results = NEW_ARRAY(arena, Tensor, f->n_results + 1);
  for (uint32_t i = 0; i < n; i++) map_set(b.layer, layers[i].op->id + 1u, (void *)(uintptr_t)&layers[i]);
  if (!eval_func(f, in, results, arena, watch, &b)) return false;
  for (uint32_t i = 0; i < n; i++) bound[i] = distance(&b, op_out(layers[i].op, 0));
  for (uint32_t i = 0; i < f->n_results; i++) bound[n + i] = distance(&b, f->results[i]);
  return true;
}

void form_norms(const FactorLayer *l, const Form *f, double *change, double *weights, Arena *arena) {
  ArenaMark mark = arena_mark(arena);
  double *now = NEW_ARRAY(arena, double, l->n_w), *d = NEW_ARRAY(arena, double, l->n_w);
  int64_t rows = l->nd > 0 ? l->out / l->group : l->in, cols = l->n_w / l->group / rows;
  f->rebuild(l, f, now, arena);
  for (int64_t i = 0; i < l->n_w; i++) d[i] = now[i] - l->w[i];
  *change = *weights = 0;
  for (int64_t g = 0; g < l->group; g++) {
    *change = fmax(*change, spectral_bound(rows, cols, d + g * rows * cols, arena));
    *weights = fmax(*weights, spectral_bound(rows, cols, now + g * rows * cols, arena));
  }
  arena_reset(arena, mark);
}
