// Pools, pads and changes of signs of words. See bits_move.h.
//
//   maximum of codes of one bit:   or of the words                        (the code of the larger value is 1)
//   pad by a value:                words of its code around the words
//   select(x > 0, hi, lo):         (x & keep) ^ flip, masks per channel   (hi, lo, x: -1 or +1)
#include "passes/lower/bits_move.h"

#include "passes/lower/bits_kernels.h"
#include "passes/lower/bits_steps.h"
#include "passes/lower/stage.h"

enum { MAP_OPERANDS = 16 };

// ---- signs

static bool map_reads(const Op *op, uint32_t slot, int64_t channels) {
  if (op->kind != OP_MAP || op->n_in > MAP_OPERANDS || !type_same_shape(op_in(op, slot)->type, op_out(op, 0)->type))
    return false;
  for (uint32_t i = 0; i < op->n_in; i++)
    if (i != slot && !bits_per_channel(op_in(op, i), channels)) return false;
  return true;
}

// The code the map gives channel c for a code of its operand; -1: the result has none.
static int64_t map_code(Arena *scratch, const Op *op, uint32_t slot, const PlanesX *f, int64_t c, int64_t code) {
  Value *operand[MAP_OPERANDS] = {0};
  int64_t v;
  for (uint32_t i = 0; i < op->n_in; i++) operand[i] = op_in(op, i);
  if (!bits_body_value(scratch, op_func(op, A_MAP_body), operand, slot, f->lo + f->step * code, c, &v)) return -1;
  return v == f->lo ? 0 : v == f->lo + f->step ? 1 : -1;
}

// [2][words]: keep, flip. NULL when a result is no code.
static Value *map_signs(LowerCtx *ctx, const Op *op, uint32_t slot, const PlanesX *f) {
  Module *m = ctx->m;
  int64_t dims[2] = {2, f->words};
  const Type *t = type_tensor(m->types, planes_type(f), 2, dims);
  uint8_t *keep = arena_alloc(m->arena, (size_t)type_bytes(t)), *flip = keep + type_bytes(t) / 2;
  bool ok = true;
  Arena *scratch = arena_new("signs");
  for (int64_t c = 0; c < f->channels && ok; c++) {
    int64_t zero = map_code(scratch, op, slot, f, c, 0), one = map_code(scratch, op, slot, f, c, 1);
    ok = zero >= 0 && one >= 0;
    uint8_t bit = (uint8_t)(1u << (c % 8));
    if (zero != one) keep[c / 8] |= bit;
    if (zero == 1) flip[c / 8] |= bit;
  }
  arena_free(scratch);
  return ok ? const_borrowed(m, t, keep, NULL) : NULL;
}

static uint32_t words_slot(LowerCtx *ctx, const Op *op) {
  uint32_t i = 0;
  while (bits_of(ctx, op_in(op, i)) == NULL) i++;
  return i;
}

// ---- what moves

// All words of a row of ones are the same number.
static bool ones_are_equal(const PlanesX *f) { return f->words == 1 || f->channels % f->word == 0; }

static int64_t ones(const PlanesX *f) { return f->channels < f->word ? (INT64_C(1) << f->channels) - 1 : -1; }

static bool pads_rows(const Op *op, const PlanesX *f) {
  uint32_t rank = op_out(op, 0)->type->rank;
  double fill = op_float(op, A_PAD_value);
  if (op_enum(op, A_PAD_mode) != PAD_CONSTANT || rank < 3 || rank > 2 + CONV_AXES) return false;
  if (fill != (double)f->lo && (fill != (double)(f->lo + f->step) || !ones_are_equal(f))) return false;
  for (uint32_t i = 0; i < 2 * rank; i++) {
    int64_t by = op_ints_at(op, A_PAD_pads, i, 0);
    if (by < 0 || (by != 0 && (i % rank == 0 || i % rank == rank - 1))) return false;
  }
  return true;
}

// All values have one of the two codes.
static bool has_codes(const Value *v, const PlanesX *f) {
  Range r = value_range(v);
  for (uint32_t i = 0; i < r.n; i++)
    if (r.level[i] != f->lo && r.level[i] != f->lo + f->step) return false;
  return r.n > 0;
}

bool bits_moves(LowerCtx *ctx, const Op *op, uint32_t slot, const PlanesX *f) {
  if (f->planes != 1 || f->step <= 0) return false;
  switch (op->kind) {
    case OP_MAXPOOL: {
      uint32_t rank = op_out(op, 0)->type->rank;
      bool last = op_enum(op, A_MAXPOOL_layout) == LAYOUT_NHWC && rank >= 3 && rank <= 2 + CONV_AXES;
      return last && op_out(op, 1)->n_uses == 0;
    }
    case OP_PAD: return pads_rows(op, f);
    case OP_MAP:
      return has_codes(op_in(op, slot), f) && map_reads(op, slot, f->channels) && map_signs(ctx, op, slot, f) != NULL;
    default: return false;
  }
}

// ---- lowering

static void move_pad(LowerCtx *ctx, const Op *op, const BitsValue *x) {
  const Type *xt = op_in(op, 0)->type, *yt = op_out(op, 0)->type;
  bool high = op_float(op, A_PAD_value) > (double)x->form.lo;
  Window w = {.n = xt->dims[0], .c = planes_row(&x->form), .fill = high ? ones(&x->form) : 0};
  uint32_t axes = xt->rank - 2;
  for (uint32_t i = 0; i < CONV_AXES; i++) w.in[i] = w.extent[i] = 1;
  for (uint32_t i = 0; i < axes; i++) {
    uint32_t at = CONV_AXES - axes + i;
    w.in[at] = xt->dims[1 + i];
    w.extent[at] = yt->dims[1 + i];
    w.from[at] = -op_ints_at(op, A_PAD_pads, 1 + i, 0);
  }
  bits_of(ctx, op_out(op, 0))->words = stage_window(ctx, op, x->words, &w, planes_type(&x->form));
}

// A pool and the change of signs that alone reads it are one step.
static void move_pool(LowerCtx *ctx, const Op *op, const BitsValue *x) {
  Value *y = op_out(op, 0), *signs = NULL;
  const Op *user = value_sole_user(y);
  if (user != NULL && user->kind == OP_MAP) {
    for (uint32_t i = 0; i < user->n_in; i++)
      if (op_in(user, i) == y) signs = map_signs(ctx, user, i, &x->form);
  }
  PBuf *words = bits_make(ctx, y);
  if (signs != NULL) bits_of(ctx, op_out(user, 0))->words = words;
  lower_maxpool_words(ctx, op, x->words, words, planes_row(&x->form), signs);
}

void bits_move(LowerCtx *ctx, const Op *op) {
  uint32_t slot = words_slot(ctx, op);
  const BitsValue *x = bits_of(ctx, op_in(op, slot));
  switch (op->kind) {
    case OP_RESHAPE: break;
    case OP_MAXPOOL: move_pool(ctx, op, x); break;
    case OP_PAD: move_pad(ctx, op, x); break;
    default: bits_signs(ctx, op, x->words, map_signs(ctx, op, slot, &x->form)); break;
  }
}
