// Normalisations and softmax, in double from first to last.
//
// Variances are taken from centred values (two passes), so a large mean costs no precision. Softmax subtracts the
// maximum of its axis.
#include <math.h>

#include "ir/eval_impl.h"

typedef struct Moments {
  double mean, var;
} Moments;

// Over the n values base[at[k]].
static Moments moments_of(const double *base, const int64_t *at, int64_t n) {
  Moments m = {0, 0};
  for (int64_t k = 0; k < n; k++) m.mean += base[at[k]];
  m.mean /= (double)n;
  for (int64_t k = 0; k < n; k++) m.var += (base[at[k]] - m.mean) * (base[at[k]] - m.mean);
  m.var /= (double)n;
  return m;
}

EVAL(batchnorm) {
  AxisView v = axis_view(in[0].type, op_axis(op, A_BATCHNORM_axis, in[0].type->rank));
  double *x = floats_of(arena, &in[0]), *scale = floats_of(arena, &in[1]), *bias = floats_of(arena, &in[2]);
  double *mean = floats_of(arena, &in[3]), *var = floats_of(arena, &in[4]);
  double eps = (float)op_float(op, A_BATCHNORM_epsilon);
  for (int64_t o = 0; o < v.outer; o++)
    for (int64_t c = 0; c < v.n; c++) {
      double *p = x + (o * v.n + c) * v.inner, s = sqrt(var[c] + eps);
      for (int64_t k = 0; k < v.inner; k++) p[k] = (p[k] - mean[c]) / s * scale[c] + bias[c];
    }
  floats_store(&out[0], x);
  return true;
}

// Batch, then `groups` runs of channels, each with all pixels: instance_norm is group_norm with one channel a group.
static void norm_groups(const Tensor *in, uint32_t axis, int64_t groups, double eps, Tensor *out, Arena *arena) {
  const Type *t = in[0].type;
  double *x = floats_of(arena, &in[0]), *scale = floats_of(arena, &in[1]), *bias = floats_of(arena, &in[2]);
  AxisView v = axis_view(t, axis);  // outer = batch and the spatial axes before the channels
  int64_t batch = t->dims[0], before = batch ? v.outer / batch : 0, per = groups ? v.n / groups : 0;
  int64_t n = before * per * v.inner, *at = NEW_ARRAY(arena, int64_t, n);
  for (int64_t b = 0; b < batch; b++)
    for (int64_t g = 0; g < groups; g++) {
      int64_t k = 0;
      for (int64_t s = 0; s < before; s++)
        for (int64_t c = g * per; c < (g + 1) * per; c++)
          for (int64_t i = 0; i < v.inner; i++) at[k++] = ((b * before + s) * v.n + c) * v.inner + i;
      Moments m = moments_of(x, at, n);
      double inv = 1 / sqrt(m.var + eps);
      for (k = 0; k < n; k++) {
        int64_t c = at[k] / v.inner % v.n;
        x[at[k]] = (x[at[k]] - m.mean) * inv * scale[c] + bias[c];
      }
    }
  floats_store(out, x);
}

EVAL(instance_norm) {
  uint32_t axis = op_axis(op, A_INSTANCE_NORM_axis, in[0].type->rank);
  norm_groups(in, axis, in[0].type->dims[axis], (float)op_float(op, A_INSTANCE_NORM_epsilon), &out[0], arena);
  return true;
}

EVAL(group_norm) {
  uint32_t axis = op_axis(op, A_GROUP_NORM_axis, in[0].type->rank);
  norm_groups(in, axis, op_int(op, A_GROUP_NORM_groups), (float)op_float(op, A_GROUP_NORM_epsilon), &out[0], arena);
  return true;
}

// The trailing axes from `axis` on, as rows of n.
typedef struct Rows {
  int64_t rows, n;
} Rows;

static Rows rows_from(const Type *t, uint32_t axis) {
  Rows r = {1, 1};
  for (uint32_t k = 0; k < t->rank; k++) *(k < axis ? &r.rows : &r.n) *= t->dims[k];
  return r;
}

EVAL(layer_norm) {
  const Type *t = in[0].type;
  Rows r = rows_from(t, op_axis(op, A_LAYER_NORM_axis, t->rank));
  double *x = floats_of(arena, &in[0]), eps = (float)op_float(op, A_LAYER_NORM_epsilon);
  double *scale = op->n_in > 1 && in[1].data ? floats_broadcast(arena, &in[1], t) : NULL;
  double *bias = op->n_in > 2 && in[2].data ? floats_broadcast(arena, &in[2], t) : NULL;
  double *mean = NEW_ARRAY(arena, double, r.rows), *inv = NEW_ARRAY(arena, double, r.rows);
  int64_t *at = NEW_ARRAY(arena, int64_t, r.n);
  for (int64_t k = 0; k < r.n; k++) at[k] = k;
  for (int64_t row = 0; row < r.rows; row++) {
    double *p = x + row * r.n;
    Moments m = moments_of(p, at, r.n);
    mean[row] = m.mean;
    inv[row] = 1 / sqrt(m.var + eps);
    for (int64_t k = 0; k < r.n; k++) {
      p[k] = (p[k] - m.mean) * inv[row];
      if (scale) p[k] *= scale[row * r.n + k];
      if (bias) p[k] += bias[row * r.n + k];
    }
  }
  floats_store(&out[0], x);
  floats_store(&out[1], mean);
  floats_store(&out[2], inv);
  return true;
}

EVAL(rms_norm) {
  const Type *t = in[0].type;
  Rows r = rows_from(t, op_axis(op, A_RMS_NORM_axis, t->rank));
  double *x = floats_of(arena, &in[0]), *scale = floats_broadcast(arena, &in[1], t);
  double eps = (float)op_float(op, A_RMS_NORM_epsilon);
  for (int64_t row = 0; row < r.rows; row++) {
    double *p = x + row * r.n, sum = 0;
    for (int64_t k = 0; k < r.n; k++) sum += p[k] * p[k];
    double rms = sqrt(sum / (double)r.n + eps);
    for (int64_t k = 0; k < r.n; k++) p[k] = p[k] / rms * scale[row * r.n + k];
  }
  floats_store(&out[0], x);
  return true;
}

EVAL(lp_norm) {
  AxisView v = axis_view(in[0].type, op_axis(op, A_LP_NORM_axis, in[0].type->rank));
  double *x = floats_of(arena, &in[0]);
  int64_t e = op_int(op, A_LP_NORM_p);
  for (int64_t o = 0; o < v.outer; o++)
    for (int64_t i = 0; i < v.inner; i++) {
      double *p = x + o * v.n * v.inner + i, sum = 0;
      for (int64_t k = 0; k < v.n; k++) sum += e == 1 ? fabs(p[k * v.inner]) : p[k * v.inner] * p[k * v.inner];
      double norm = e == 1 ? sum : sqrt(sum);
      for (int64_t k = 0; k < v.n; k++) p[k * v.inner] = norm == 0 ? 0 : p[k * v.inner] / norm;
    }
  floats_store(&out[0], x);
  return true;
}

EVAL(lrn) {
  AxisView v = axis_view(in[0].type, op_axis(op, A_LRN_axis, in[0].type->rank));
  double *x = floats_of(arena, &in[0]), *y = NEW_ARRAY(arena, double, type_count(in[0].type));
  int64_t size = op_int(op, A_LRN_size), before = (size - 1) / 2, after = size - 1 - before;
  double alpha = (float)op_float(op, A_LRN_alpha) / (double)size, beta = (float)op_float(op, A_LRN_beta);
  double bias = (float)op_float(op, A_LRN_bias);
  for (int64_t o = 0; o < v.outer; o++)
    for (int64_t c = 0; c < v.n; c++)
      for (int64_t i = 0; i < v.inner; i++) {
        const double *p = x + o * v.n * v.inner + i;
        int64_t first = c - before < 0 ? 0 : c - before, last = c + after >= v.n ? v.n - 1 : c + after;
        double sum = 0;
        for (int64_t k = first; k <= last; k++) sum += p[k * v.inner] * p[k * v.inner];
        y[(o * v.n + c) * v.inner + i] = p[c * v.inner] / pow(bias + alpha * sum, beta);
      }
  floats_store(&out[0], y);
  return true;
}

static void softmax_axis(const Tensor *in, uint32_t axis, bool log_of, Tensor *out, Arena *arena) {
  AxisView v = axis_view(in->type, axis);
  double *x = floats_of(arena, in);
  for (int64_t o = 0; o < v.outer; o++)
    for (int64_t i = 0; i < v.inner; i++) {
      double *p = x + o * v.n * v.inner + i, max = -INFINITY, sum = 0;
      for (int64_t k = 0; k < v.n; k++) max = max_num(max, p[k * v.inner]);
      for (int64_t k = 0; k < v.n; k++) sum += exp(p[k * v.inner] - max);
      double log_sum = log(sum);
      for (int64_t k = 0; k < v.n; k++) {
        double d = p[k * v.inner] - max;
        p[k * v.inner] = log_of ? d - log_sum : exp(d) / sum;
      }
    }
  floats_store(out, x);
}

EVAL(softmax) {
  softmax_axis(&in[0], op_axis(op, A_SOFTMAX_axis, in[0].type->rank), false, &out[0], arena);
  return true;
}

EVAL(log_softmax) {
  softmax_axis(&in[0], op_axis(op, A_LOG_SOFTMAX_axis, in[0].type->rank), true, &out[0], arena);
  return true;
}
