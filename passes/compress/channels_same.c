// Pass channels: channels that are equal everywhere (filter repetition, S54).
//
// Two filters of one group with equal weights and biases give equal channels; ops with equal parameters keep them
// equal. A float contraction that reads both reads the first with the sum of both weights, so the second filter is
// computed by nobody:
//
//   %0 = conv %x, @w                 filters 1 and 4 of @w are equal
//   %1 = conv %0, @v                 => @v[:, 1] + @v[:, 4] on channel 1, channel 4 goes
#include <string.h>

#include "ir/elem.h"
#include "passes/compress/channels.h"
#include "passes/graph_util.h"

enum { FEW_VALUES = 256 };

static int64_t *all_different(Channels *c, int64_t n) {
  int64_t *same = NEW_ARRAY(c->arena, int64_t, n);
  for (int64_t i = 0; i < n; i++) same[i] = i;
  return same;
}

static void same_set(Channels *c, const Value *v, int64_t *same, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (same[i] != i) {
      c->of[v->id].same = same;
      return;
    }
}

static bool equal_elements(const Value *v, const void *data, int64_t i, int64_t j) {
  DType t = v->type->dtype;
  if (dtype_is_float(t)) {
    double x = elem_get_f(data, t, i), y = elem_get_f(data, t, j);
    return x == y && __builtin_signbit(x) == __builtin_signbit(y);
  }
  return elem_get_i(data, t, i) == elem_get_i(data, t, j);
}

// Are slices i and j of a constant along `axis` equal?
static bool equal_slices(Channels *c, const Value *v, int64_t axis, int64_t i, int64_t j) {
  int64_t outer = 1, inner = 1, extent = v->type->dims[axis];
  for (int64_t d = 0; d < v->type->rank; d++) {
    if (d < axis) outer *= v->type->dims[d];
    if (d > axis) inner *= v->type->dims[d];
  }
  const void *data = const_data(c->m, v->constant);
  for (int64_t o = 0; o < outer; o++)
    for (int64_t k = 0; k < inner; k++)
      if (!equal_elements(v, data, (o * extent + i) * inner + k, (o * extent + j) * inner + k)) return false;
  return true;
}

static bool equal_filters(const Channels *c, const Reader *r, int64_t a, int64_t b) {
  const Value *bias = op_in(r->op, 2);
  for (int64_t i = 0; i < r->in / r->group; i++)
    for (int64_t t = 0; t < r->taps; t++)
      if (reader_weight(r, a, i, t) != reader_weight(r, b, i, t)) return false;
  if (!bias || type_count(bias->type) == 1) return true;
  return type_count(bias->type) == r->out && equal_elements(bias, const_data(c->m, bias->constant), a, b);
}

// Weights of few different values are stored as bits or codes; small tensors have few anyway.
static bool has_few_values(const Reader *r) {
  double seen[FEW_VALUES];
  int64_t n = r->out * r->in / r->group * r->taps, found = 0;
  for (int64_t i = 0; i < n && n > 4 * FEW_VALUES; i++) {
    double v = elem_get_f(r->weights, r->dtype, i);
    int64_t k = 0;
    while (k < found && seen[k] != v) k++;
    if (k == FEW_VALUES) return false;
    if (k == found) seen[found++] = v;
  }
  return n > 4 * FEW_VALUES;
}

// Filters by a number of their weights first, so that few pairs are compared.
void same_contraction(Channels *c, Reader *r) {
  r->few_values = channel_axis(c, op_in(r->op, 0))->same && has_few_values(r);
  int64_t *same = all_different(c, r->out), out_group = r->out / r->group;
  if (r->transposed) return;
  double *key = NEW_ARRAY(c->arena, double, r->out);
  for (int64_t o = 0; o < r->out; o++)
    for (int64_t i = 0; i < r->in / r->group && i < 8; i++)
      key[o] += (double)(i + 1) * reader_weight(r, o, i, r->taps / 2);
  for (int64_t o = 0; o < r->out; o++)
    for (int64_t p = o / out_group * out_group; p < o && same[o] == o; p++)
      if (same[p] == p && key[p] == key[o] && equal_filters(c, r, p, o)) same[o] = p;
  same_set(c, r->op->out[0], same, r->out);
}

// Positions i and j of the result of an op that treats channels one by one: are all its operands equal there?
static bool equal_operands(Channels *c, const Op *op, int64_t axis, bool vectors, int64_t i, int64_t j) {
  int64_t rank = op->out[0]->type->rank, n = op->out[0]->type->dims[axis];
  for (uint32_t k = 0; k < op->n_in; k++) {
    const Value *v = op_in(op, k);
    if (!v) continue;
    const ChannelAxis *a = channel_axis(c, v);
    if (a->axis >= 0) {
      if (!a->same || a->same[i] != a->same[j]) return false;
      continue;
    }
    int64_t at = vectors ? 0 : axis - (rank - v->type->rank);
    if (v->type->rank == 0 || at < 0 || v->type->dims[at] != n || n == 1) continue;
    if (!value_is_const(v) || !equal_slices(c, v, at, i, j)) return false;
  }
  return true;
}

static void same_pointwise(Channels *c, Op *op, bool vectors) {
  const ChannelAxis *y = channel_axis(c, op->out[0]), *first = NULL;
  for (uint32_t k = 0; k < op->n_in && !first; k++)
    if (channel_axis(c, op_in(op, k))->axis >= 0) first = channel_axis(c, op_in(op, k));
  if (y->axis < 0 || !first || !first->same) return;
  int64_t n = op->out[0]->type->dims[y->axis], *same = all_different(c, n);
  for (int64_t i = 0; i < n; i++)
    if (first->same[i] != i && equal_operands(c, op, y->axis, vectors, i, first->same[i])) same[i] = first->same[i];
  same_set(c, op->out[0], same, n);
}

// Ops that move or pool elements of a channel; a reshape may cut the axis finer.
static void same_carried(Channels *c, Op *op) {
  const ChannelAxis *x = channel_axis(c, op_in(op, 0)), *y = channel_axis(c, op->out[0]);
  if (y->axis < 0 || !x->same) return;
  int64_t n = op_in(op, 0)->type->dims[x->axis], now = op->out[0]->type->dims[y->axis];
  if (now % n != 0) return;
  int64_t *same = NEW_ARRAY(c->arena, int64_t, now), part = now / n;
  for (int64_t i = 0; i < now; i++) same[i] = x->same[i / part] * part + i % part;
  same_set(c, op->out[0], same, now);
}

static void same_concat(Channels *c, Op *op) {
  const ChannelAxis *y = channel_axis(c, op->out[0]);
  int64_t axis = op_int(op, A_CONCAT_axis), rank = op->out[0]->type->rank, at = 0;
  if (y->axis < 0 || (axis + rank) % rank != y->axis) return;
  int64_t n = op->out[0]->type->dims[y->axis], *same = all_different(c, n);
  for (uint32_t i = 0; i < op->n_in; i++) {
    const ChannelAxis *x = channel_axis(c, op_in(op, i));
    int64_t extent = op_in(op, i)->type->dims[y->axis];
    for (int64_t k = 0; x->same && k < extent; k++) same[at + k] = at + x->same[k];
    at += extent;
  }
  same_set(c, op->out[0], same, n);
}

void same_follow(Channels *c, Op *op) {
  switch (op->kind) {
    case OP_CONV:
    case OP_CONV_TRANSPOSE:
    case OP_MATMUL: return;  // by same_contraction
    case OP_LOOKUP: return;
    case OP_CONCAT: same_concat(c, op); return;
    case OP_BATCHNORM:
    case OP_INSTANCE_NORM:
    case OP_QUANTIZE:
    case OP_DEQUANTIZE:
    case OP_THRESHOLD:
    case OP_REQUANT: same_pointwise(c, op, true); return;
    default:
      if (op_info(op->kind)->traits & TRAIT_ELTWISE) {
        same_pointwise(c, op, false);
      } else {
        same_carried(c, op);
      }
  }
}

bool reader_merges(const Reader *r) {
  return !r->few_values && dtype_is_float(r->dtype) && dtype_is_float(r->op->out[0]->type->dtype) && !r->transposed;
}

int64_t same_in_group(const Reader *r, const ChannelAxis *x, int64_t position) {
  if (!x->same || !reader_merges(r)) return position;
  int64_t first = x->same[position], in_group = r->in / r->group;
  return first / in_group == position / in_group ? first : position;
}
