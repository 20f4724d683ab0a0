// Copies of whole tensors, and slices that need none because they are a window of their operand's bytes.
#include "passes/lower/walk.h"

bool lower_copy(LowerCtx *ctx, const Op *op, PBuf *from, PBuf *to) {
  if (lower_is_narrow(to->type->dtype)) return lower_copy_bytes(ctx, op, from, to);
  const int64_t one = 1, count = type_count(to->type);
  Walk walk;
  walk_init(&walk, 1, &count);
  walk_operand(&walk, 0, &one);
  return walk_copy(ctx, op, &walk, to, from);
}

// Below the first axis that is really cut, everything is taken; above it every extent is 1.
bool lower_slice_is_window(const Op *op, int64_t *first) {
  const Type *x = op_in(op, 0)->type, *y = op_out(op, 0)->type;
  int64_t at = 0, stride = 1;
  bool whole = true;  // all axes so far, from the innermost, are taken entirely
  if (!type_is_static(x) || !type_is_static(y)) return false;
  for (uint32_t i = x->rank; i-- > 0; stride *= x->dims[i]) {
    if (y->dims[i] != 1 && op_ints_at(op, A_SLICE_steps, i, 1) != 1) return false;
    if (!whole && y->dims[i] != 1) return false;
    whole = whole && y->dims[i] == x->dims[i];
    at += stride * op_ints_at(op, A_SLICE_starts, i, 0);
  }
  *first = at;
  return true;
}
