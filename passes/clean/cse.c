// Pass cse: of equal ops (kind, attributes, result types, operands) the first one serves all.
//
//   %0 = exp %x : f32[8]
//   %1 = exp %x : f32[8]
//   %2 = add %0, %1 : f32[8]
//   => %1 is gone, %2 = add %0, %0
//
// Operands of COMMUTES ops compare in either order. Every op is pure, so any two equal ones merge.
#include <string.h>

#include "ir/base/map.h"
#include "passes/graph_util.h"
#include "passes/pass.h"

typedef struct Node Node;
struct Node {
  Op *op;
  Node *next;
};

static bool attr_equal(AttrKind kind, const AttrVal *a, const AttrVal *b) {
  if (a->set != b->set) return false;
  if (!a->set) return true;
  switch (kind) {
    case ATTR_INT:
    case ATTR_BOOL:
    case ATTR_ENUM:
    case ATTR_DTYPE: return a->i == b->i;
    case ATTR_FLOAT: return memcmp(&a->f, &b->f, sizeof a->f) == 0;
    case ATTR_STR: return a->s == b->s;
    case ATTR_INTS: return a->n == b->n && memcmp(a->ints, b->ints, a->n * sizeof *a->ints) == 0;
    case ATTR_FLOATS: return a->n == b->n && memcmp(a->floats, b->floats, a->n * sizeof *a->floats) == 0;
    case ATTR_FUNC: return a->func == b->func;
    case ATTR_PLAN: return a->plan == b->plan;
  }
  return false;
}

static bool swapped(const Op *op) {
  return (op_info(op->kind)->traits & TRAIT_COMMUTES) && op->in[0].value->id > op->in[1].value->id;
}

static uint32_t operand_id(const Op *op, uint32_t i) {
  if (i < 2 && swapped(op)) i = 1 - i;
  return op->in[i].value ? op->in[i].value->id + 1 : 0;
}

static bool op_equal(const Op *a, const Op *b) {
  if (a->kind != b->kind || a->n_in != b->n_in) return false;
  for (uint32_t i = 0; i < a->n_in; i++)
    if (operand_id(a, i) != operand_id(b, i)) return false;
  for (uint32_t i = 0; i < a->n_out; i++)
    if (a->out[i]->type != b->out[i]->type) return false;
  const OpInfo *info = op_info(a->kind);
  for (uint32_t i = 0; i < info->n_attrs; i++)
    if (!attr_equal(info->attrs[i].kind, &a->attrs[i], &b->attrs[i])) return false;
  return true;
}

static uint64_t op_hash(const Op *op) {
  uint64_t h = (uint64_t)op->kind;
  for (uint32_t i = 0; i < op->n_in; i++) {
    uint32_t id = operand_id(op, i);
    h = hash_bytes(&id, sizeof id, h);
  }
  return h;
}

static bool func_cse(Func *f, Arena *arena) {
  Map *seen = map_new(arena);
  bool changed = false;
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    uint64_t h = op_hash(op);
    Node *head = map_get(seen, h), *n = head;
    while (n && !op_equal(n->op, op)) n = n->next;
    if (!n) {
      n = NEW(arena, Node);
      *n = (Node){op, head};
      map_set(seen, h, n);
      continue;
    }
    for (uint32_t i = 0; i < op->n_out; i++) value_replace(op->out[i], n->op->out[i]);
    op_add_loc(n->op, op);
    op_unlink(op);
    changed = true;
  }
  return changed;
}

PassResult pass_cse(PassCtx *ctx) {
  bool changed = false;
  for (uint32_t k = 0; k < ctx->m->funcs.n; k++) changed |= func_cse(ctx->m->funcs.at[k], ctx->arena);
  return changed ? PASS_CHANGED : PASS_SAME;
}
