// Importers of Attention and RotaryEmbedding: both become matmul, softmax and movement.
//
// Order of the scores: scaled product, soft cap, mask, softmax. Masks are added as 0 and -inf; a shorter mask is
// continued with -inf.
#include <math.h>
#include <string.h>

#include "frontend/onnx_node.h"

typedef struct Attn {
  Value *q, *k, *v;  // [batch, heads, length, size]
  Value *scores[4];  // by qk_matmul_output_mode
  bool packed;       // inputs of rank 3: heads are side by side
} Attn;

// [b, s, heads * size] to [b, heads, s, size].
static Value *split_heads(NodeCtx *c, Value *x, int64_t heads) {
  const int64_t *d = x->type->dims;
  if (heads < 1 || d[2] % heads != 0) {
    node_refuse(c, "%lld values do not divide into %lld heads", (long long)d[2], (long long)heads);
    return NULL;
  }
  x = node_reshape(c, x, 4, (int64_t[]){d[0], d[1], heads, d[2] / heads});
  return node_transpose(c, x, 4, (int64_t[]){0, 2, 1, 3});
}

static bool attn_operands(NodeCtx *c, Attn *a) {
  Value **to[3] = {&a->q, &a->k, &a->v};
  a->packed = c->in[0]->type->rank == 3;
  int64_t q_heads = attr_int(c, "q_num_heads", 0), kv_heads = attr_int(c, "kv_num_heads", 0);
  for (uint32_t i = 0; i < 3; i++) {
    Value *x = c->in[i];
    if (!node_need_static(c, x, "attention")) return false;
    if (x->type->rank != (a->packed ? 3 : 4))
      return node_refuse(c, "input %u has rank %u, expected %d", i, x->type->rank, a->packed ? 3 : 4);
    *to[i] = a->packed ? split_heads(c, x, i ? kv_heads : q_heads) : x;
    if (!*to[i]) return false;
  }
  for (uint32_t i = 1; i < 3; i++) {
    Value *past = node_in(c, 3 + i);
    if (past && !(*to[i] = node_concat(c, 2, (Value *[]){past, *to[i]}, 2))) return false;
  }
  return true;
}

// Every head of keys and values serves `times` heads of queries.
static Value *repeat_heads(NodeCtx *c, Value *x, int64_t times) {
  int64_t d[4];
  if (times == 1) return x;
  memcpy(d, x->type->dims, sizeof d);
  x = node_reshape(c, x, 5, (int64_t[]){d[0], d[1], 1, d[2], d[3]});
  x = node_expand(c, x, 5, (int64_t[]){d[0], d[1], times, d[2], d[3]});
  return node_reshape(c, x, 4, (int64_t[]){d[0], d[1] * times, d[2], d[3]});
}

static Value *minus_inf_unless(NodeCtx *c, Value *keep, DType t) {
  return node_emit3(c, OP_SELECT, keep, node_scalar(c, t, 0), node_scalar(c, t, -INFINITY));
}

// attn_mask as numbers to add, continued with -inf to all keys.
static bool mask_given(NodeCtx *c, Attn *a, DType t, Value **bias) {
  Value *m = node_in(c, 3);
  if (!m) return true;
  m = m->type->dtype == DT_BOOL ? minus_inf_unless(c, m, t) : node_cast(c, m, t);
  if (!m) return false;
  uint32_t rank = m->type->rank;
  if (rank < 1 || !node_need_static(c, m, "the mask")) return node_refuse(c, "the mask must have rank 2 to 4");
  int64_t pads[2 * MAX_RANK] = {0}, have = m->type->dims[rank - 1], want = a->k->type->dims[2];
  if (have < want && have != 1) {
    Op *op = node_op(c, OP_PAD, 1, &m);
    pads[2 * rank - 1] = want - have;
    op_set_ints(op, A_PAD_pads, 2 * rank, pads);
    op_set_float(op, A_PAD_value, -INFINITY);
    m = node_done(c, op);
  }
  *bias = m;
  return m != NULL;
}

// Query i sees keys up to past + i.
static bool mask_causal(NodeCtx *c, Attn *a, DType t, Value **bias) {
  if (attr_int(c, "is_causal", 0) == 0) return true;
  int64_t queries = a->q->type->dims[2], keys = a->k->type->dims[2],
          past = keys - c->in[1]->type->dims[a->packed ? 1 : 2];
  Value *row = node_reshape(c, node_iota(c, queries), 2, (int64_t[]){queries, 1});
  Value *last = node_emit2(c, OP_ADD, row, const_splat_int(c->m, type_scalar(c->m->types, DT_I64), past));
  Value *m = minus_inf_unless(c, node_emit2(c, OP_LESS_EQUAL, node_iota(c, keys), last), t);
  *bias = *bias ? node_emit2(c, OP_ADD, *bias, m) : m;
  return *bias != NULL;
}

// Keys behind the valid length of their batch entry.
static bool mask_padding(NodeCtx *c, Attn *a, DType t, Value **bias) {
  Value *len = node_in(c, 6);
  if (!len) return true;
  if (attr_int(c, "is_causal", 0) != 0) return node_unsupported(c, "is_causal together with nonpad_kv_seqlen");
  len = node_reshape(c, node_cast(c, len, DT_I64), 4, (int64_t[]){a->k->type->dims[0], 1, 1, 1});
  Value *m = minus_inf_unless(c, node_emit2(c, OP_LESS, node_iota(c, a->k->type->dims[2]), len), t);
  *bias = *bias ? node_emit2(c, OP_ADD, *bias, m) : m;
  return *bias != NULL;
}

static Value *soft_cap(NodeCtx *c, Value *x) {
  double cap = attr_float(c, "softcap", 0);
  if (cap == 0 || !x) return x;
  Value *k = node_scalar(c, x->type->dtype, cap);
  return node_emit2(c, OP_MUL, node_emit1(c, OP_TANH, node_emit2(c, OP_DIV, x, k)), k);
}

static bool attn_scores(NodeCtx *c, Attn *a) {
  DType t = a->q->type->dtype;
  int64_t q_heads = a->q->type->dims[1], kv_heads = a->k->type->dims[1], precise = attr_int(c, "softmax_precision", 0);
  if (kv_heads < 1 || q_heads % kv_heads != 0)
    return node_refuse(c, "%lld heads of queries for %lld of keys", (long long)q_heads, (long long)kv_heads);
  double scale = attr_float(c, "scale", 1.0 / sqrt((double)a->q->type->dims[3]));
  Value *root = node_scalar(c, t, sqrt(scale)), *bias = NULL;
  Value *k = node_emit2(c, OP_MUL, repeat_heads(c, a->k, q_heads / kv_heads), root);
  Value *s = node_matmul(c, node_emit2(c, OP_MUL, a->q, root), k, NULL, false, true);
  if (!s || !mask_given(c, a, t, &bias) || !mask_causal(c, a, t, &bias) || !mask_padding(c, a, t, &bias)) return false;
  a->scores[0] = s;
  a->scores[1] = soft_cap(c, s);
  a->scores[2] = bias ? node_emit2(c, OP_ADD, a->scores[1], bias) : a->scores[1];
  DType wide = precise ? dtype_by_onnx(precise) : t;
  if (!dtype_is_float(wide)) return node_refuse(c, "attribute softmax_precision is %lld", (long long)precise);
  s = node_cast(c, a->scores[2], wide);
  a->scores[3] = node_cast(c, s ? node_emit1(c, OP_SOFTMAX, s) : NULL, t);
  return a->scores[3] != NULL;
}

bool import_attention(NodeCtx *c) {
  Attn a = {0};
  int64_t mode = attr_int(c, "qk_matmul_output_mode", 0);
  if (mode < 0 || mode > 3) return node_refuse(c, "attribute qk_matmul_output_mode is %lld", (long long)mode);
  if (!attn_operands(c, &a) || !attn_scores(c, &a)) return false;
  Value *y =
      node_matmul(c, a.scores[3], repeat_heads(c, a.v, a.q->type->dims[1] / a.k->type->dims[1]), NULL, false, false);
  if (a.packed && y) {
    int64_t d[4];
    memcpy(d, y->type->dims, sizeof d);
    y = node_reshape(c, node_transpose(c, y, 4, (int64_t[]){0, 2, 1, 3}), 3, (int64_t[]){d[0], d[2], d[1] * d[3]});
  }
  Value *all[4] = {y, a.k, a.v, a.scores[mode]};
  for (uint32_t i = 0; i < c->n_out; i++) c->out[i] = all[i];
  return y != NULL;
}

// ---- rotary embedding

// Elements start, start + step, ... of the last axis.
static Value *last_axis(NodeCtx *c, Value *x, int64_t start, int64_t step, int64_t count) {
  int64_t starts[4] = {0}, steps[4] = {1, 1, 1, step}, counts[4];
  if (!x) return NULL;
  memcpy(counts, x->type->dims, sizeof counts);
  starts[3] = start;
  counts[3] = count;
  return node_slice(c, x, starts, steps, counts);
}

// The cache rows of every position: [b or 1, 1, s, half].
static Value *rotary_cache(NodeCtx *c, uint32_t i, Value *x, int64_t half) {
  Value *cache = c->in[i], *ids = node_in(c, 3);
  if (ids) cache = node_emit2(c, OP_GATHER, cache, ids);
  if (!cache || !node_need_static(c, cache, "the cache")) return NULL;
  const Type *t = cache->type;
  if (t->rank != 3 || t->dims[1] != x->type->dims[2] || t->dims[2] < half) {
    node_refuse(c, "the cache %s does not fit the input", type_text(c->m->arena, c->m->types, t));
    return NULL;
  }
  cache = node_slice(c, cache, (int64_t[]){0, 0, 0}, NULL, (int64_t[]){t->dims[0], t->dims[1], half});
  return node_reshape(c, cache, 4, (int64_t[]){t->dims[0], 1, t->dims[1], half});
}

// Rotates pairs of the first `dim` elements: neighbours when interleaved, else the two halves.
static Value *rotate(NodeCtx *c, Value *x, int64_t dim, bool interleaved) {
  int64_t half = dim / 2, *d = (int64_t[4]){0};
  Value *cosine = rotary_cache(c, 1, x, half), *sine = rotary_cache(c, 2, x, half);
  Value *x1 = last_axis(c, x, 0, interleaved ? 2 : 1, half);
  Value *x2 = last_axis(c, x, interleaved ? 1 : half, interleaved ? 2 : 1, half);
  if (!cosine || !sine || !x1 || !x2) return NULL;
  Value *re = node_emit2(c, OP_SUB, node_emit2(c, OP_MUL, cosine, x1), node_emit2(c, OP_MUL, sine, x2));
  Value *im = node_emit2(c, OP_ADD, node_emit2(c, OP_MUL, sine, x1), node_emit2(c, OP_MUL, cosine, x2));
  if (!re || !im) return NULL;
  if (!interleaved) return node_concat(c, 2, (Value *[]){re, im}, 3);
  memcpy(d, re->type->dims, 4 * sizeof *d);
  int64_t column[5] = {d[0], d[1], d[2], half, 1};
  Value *both = node_concat(c, 2, (Value *[]){node_reshape(c, re, 5, column), node_reshape(c, im, 5, column)}, 4);
  return node_reshape(c, both, 4, (int64_t[]){d[0], d[1], d[2], dim});
}

bool import_rotary_embedding(NodeCtx *c) {
  Value *x = c->in[0];
  const Type *t = x->type;
  bool packed = t->rank == 3, interleaved = attr_int(c, "interleaved", 0) != 0;
  int64_t heads = attr_int(c, "num_heads", 0), dim = attr_int(c, "rotary_embedding_dim", 0);
  if (t->rank != 3 && t->rank != 4) return node_refuse(c, "the input must have rank 3 or 4, it has rank %u", t->rank);
  if (!node_need_static(c, x, "the rotation") || (packed && !(x = split_heads(c, x, heads)))) return false;
  int64_t size = x->type->dims[3];
  if (dim == 0) dim = size;
  if (dim < 2 || dim > size || dim % 2 != 0)
    return node_refuse(c, "rotation of %lld out of %lld", (long long)dim, (long long)size);
  Value *y = rotate(c, x, dim, interleaved);
  if (dim < size && y) y = node_concat(c, 2, (Value *[]){y, last_axis(c, x, dim, 1, size - dim)}, 3);
  if (packed) y = node_reshape(c, node_transpose(c, y, 4, (int64_t[]){0, 2, 1, 3}), 3, t->dims);
  return node_result(c, y);
}
