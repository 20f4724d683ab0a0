// Reading a chain of reshape, transpose, matmul and einsum as one sum of products. See chain_net.h.
//
//   reshape [784] -> [4,7,28]     the letter of 784 becomes three, in every core that has it too
//   transpose                     letters change places
//   matmul with w[K,N]            a core: the letters of K and one new letter for N, which takes their place
#include "passes/structure/chain_net.h"

#include <string.h>

// ---- letters and axes

static bool new_letter(ChainNet *n, int64_t size, ChainTerm *to) {
  if (size == 1) return true;
  if (n->f.n_letters == CHAIN_LETTERS) return false;
  n->f.size[n->f.n_letters] = size;
  to->at[to->n++] = (uint8_t)n->f.n_letters++;
  return true;
}

static void split_in(ChainTerm *t, uint32_t letter, uint32_t inner) {
  for (uint32_t i = 0; i < t->n; i++) {
    if (t->at[i] != letter) continue;
    memmove(t->at + i + 2, t->at + i + 1, t->n - i - 1);
    t->at[i + 1] = (uint8_t)inner;
    t->n++;
    return;
  }
}

// The letter becomes two, the outer one of `outer` values.
static bool split_letter(ChainNet *n, uint32_t letter, int64_t outer) {
  ChainForm *f = &n->f;
  if (f->n_letters == CHAIN_LETTERS) return false;
  uint32_t inner = f->n_letters++;
  f->size[inner] = f->size[letter] / outer;
  f->size[letter] = outer;
  split_in(&f->x, letter, inner);
  split_in(&f->y, letter, inner);
  for (uint32_t i = 0; i < f->n_cores; i++) split_in(&f->core[i], letter, inner);
  return true;
}

// Letters `from` .. `to` - 1 of the tensor at hand.
typedef struct Run {
  uint32_t from, to;
} Run;

// Makes every axis a run of letters.
static bool align(ChainNet *n, const Type *t, Run *run) {
  uint32_t at = 0;
  for (uint32_t a = 0; a < t->rank; a++) {
    int64_t left = t->dims[a];
    run[a].from = at;
    for (; left > 1; at++) {
      QCC_CHECK(at < n->f.y.n, "a tensor has more elements than its letters");
      uint32_t letter = n->f.y.at[at];
      int64_t size = n->f.size[letter];
      if (size > left && (size % left != 0 || !split_letter(n, letter, left))) return false;
      if (size <= left && left % size != 0) return false;
      left /= n->f.size[letter];
    }
    run[a].to = at;
  }
  return true;
}

static void push_run(ChainTerm *to, const ChainTerm *from, Run r) {
  for (uint32_t i = r.from; i < r.to; i++) to->at[to->n++] = from->at[i];
}

static bool add_core(ChainNet *n, Value *w, const ChainTerm *letters) {
  if (n->f.n_cores == CHAIN_CORES) return false;
  bool linked = true;
  for (uint32_t i = 0; i < letters->n; i++) linked &= !chain_term_has(&n->f.x, letters->at[i]);
  n->core[n->f.n_cores] = w;
  n->linked[n->f.n_cores] = linked;
  n->f.core[n->f.n_cores++] = *letters;
  return true;
}

bool net_start(ChainNet *n, Value *x) {
  *n = (ChainNet){.x = x};
  if (!type_is_static(x->type) || type_count(x->type) == 0) return false;
  for (uint32_t i = 0; i < x->type->rank; i++)
    if (!new_letter(n, x->type->dims[i], &n->f.x)) return false;
  n->f.y = n->f.x;
  return true;
}

// ---- ops

static bool follow_transpose(ChainNet *n, const Op *op) {
  Run run[MAX_RANK];
  ChainTerm old, now = {0};
  const Type *t = op_in(op, 0)->type;
  if (!align(n, t, run)) return false;
  old = n->f.y;
  for (uint32_t i = 0; i < t->rank; i++) push_run(&now, &old, run[op_ints_at(op, A_TRANSPOSE_perm, i, i)]);
  n->f.y = now;
  return true;
}

// x[.., M, K] w[K, N] -> [.., M, N] or w[M, K] x[.., K, N] -> [.., M, N].
static bool follow_matmul(ChainNet *n, const Op *op, uint32_t slot) {
  Run run[MAX_RANK];
  Value *w = op_in(op, 1 - slot);
  const Type *t = op_in(op, slot)->type;
  bool tx = op_bool(op, slot == 0 ? A_MATMUL_trans_a : A_MATMUL_trans_b);
  bool tw = op_bool(op, slot == 0 ? A_MATMUL_trans_b : A_MATMUL_trans_a);
  if (w->type->rank != 2 || !align(n, t, run)) return false;
  uint32_t rank = t->rank, sum = rank == 1 ? 0 : (slot == 0) != tx ? rank - 1 : rank - 2;
  bool w_sum_first = (slot == 0) != tw;  // w is [K, N], not [N, K]
  ChainTerm old = n->f.y, made = {0}, core = {0}, now = {0};
  if (!new_letter(n, w->type->dims[w_sum_first ? 1 : 0], &made)) return false;
  if (w_sum_first) push_run(&core, &old, run[sum]);
  push_run(&core, &made, (Run){0, made.n});
  if (!w_sum_first) push_run(&core, &old, run[sum]);
  for (uint32_t i = 0; i + 2 < rank; i++) push_run(&now, &old, run[i]);
  if (slot == 1) push_run(&now, &made, (Run){0, made.n});
  for (uint32_t i = rank < 2 ? 0 : rank - 2; i < rank; i++)
    if (i != sum) push_run(&now, &old, run[i]);
  if (slot == 0) push_run(&now, &made, (Run){0, made.n});
  n->f.y = now;
  return add_core(n, w, &core);
}

enum { LABELS = 128 };

// The letters of every label of an einsum: those of an axis of x, or a new one.
static bool label_terms(ChainNet *n, const Op *op, uint32_t slot, ChainTerm *of, bool *known) {
  const char *p = op_str(op, A_EINSUM_equation);
  Run run[MAX_RANK];
  if (!align(n, op_in(op, slot)->type, run)) return false;
  for (uint32_t o = 0, axis = 0; *p && *p != '-'; p++) {
    if (*p == ',') {
      o++;
      axis = 0;
      continue;
    }
    uint8_t label = (uint8_t)*p % LABELS;
    if (o == slot) {
      if (known[label]) return false;  // a diagonal
      known[label] = true;
      push_run(&of[label], &n->f.y, run[axis]);
    }
    axis++;
  }
  return true;
}

static bool follow_einsum(ChainNet *n, const Op *op, uint32_t slot) {
  ChainTerm of[LABELS] = {0}, now = {0};
  bool known[LABELS] = {false}, in_core[LABELS] = {false};
  const char *p = op_str(op, A_EINSUM_equation), *arrow = strstr(p, "->");
  if (!label_terms(n, op, slot, of, known)) return false;
  for (uint32_t o = 0; o < op->n_in; o++, p += strcspn(p, ",-") + 1) {
    ChainTerm core = {0};
    bool seen[LABELS] = {false};
    for (uint32_t axis = 0; o != slot && p[axis] != ',' && p[axis] != '-'; axis++) {
      uint8_t label = (uint8_t)p[axis] % LABELS;
      if (seen[label]) return false;
      seen[label] = in_core[label] = true;
      if (!known[label] && !new_letter(n, op_in(op, o)->type->dims[axis], &of[label])) return false;
      known[label] = true;
      push_run(&core, &of[label], (Run){0, of[label].n});
    }
    if (o != slot && !add_core(n, op_in(op, o), &core)) return false;
  }
  for (p = arrow + 2; *p; p++) push_run(&now, &of[(uint8_t)*p % LABELS], (Run){0, of[(uint8_t)*p % LABELS].n});
  n->f.y = now;
  return true;
}

bool net_is_linear(const Op *op, uint32_t *slot) {
  *slot = 0;
  if (!op_out(op, 0)->type || !dtype_is_float(op_out(op, 0)->type->dtype)) return false;
  if (op->kind == OP_RESHAPE || op->kind == OP_TRANSPOSE) return !value_is_const(op_in(op, 0));
  if (op->kind != OP_MATMUL && op->kind != OP_EINSUM) return false;
  if (op->kind == OP_MATMUL && (op_post(op) || op_n_post(op) > 0 || op_int(op, A_MATMUL_x_bits) != 0)) return false;
  if (op_plan(op) != NULL) return false;
  uint32_t others = 0, n = op->kind == OP_MATMUL ? 2 : op->n_in;
  for (uint32_t i = 0; i < n; i++) {
    if (value_is_const(op_in(op, i))) continue;
    others++;
    *slot = i;
  }
  return others == 1;
}

bool net_follow(ChainNet *n, const Op *op, uint32_t slot) {
  Run run[MAX_RANK];
  const Type *y = op_out(op, 0)->type;
  bool ok = false;
  switch (op->kind) {
    case OP_RESHAPE: ok = true; break;
    case OP_TRANSPOSE: ok = follow_transpose(n, op); break;
    case OP_MATMUL: ok = follow_matmul(n, op, slot); break;
    case OP_EINSUM: ok = follow_einsum(n, op, slot); break;
    default: break;
  }
  return ok && type_is_static(y) && align(n, y, run);
}
