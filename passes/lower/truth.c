// Boolean functions out of tables. See truth.h.
//
// Results are done in groups of 64; the last group ends with the row and may overlap the one before, and a row of less
// than 64 is one short group whose indices have idle lanes.
#include "passes/lower/truth.h"

#include <string.h>

#include "passes/lower/lanes.h"

enum { GROUP = 64, TABLE = 64 };

// ---- bits of x

bool truth_bits(const TruthShape *s, DType x, const Target *t, TruthBits *b) {
  int64_t lanes = target_lanes(t, dtype_info(x)->bits);
  if (lanes > 64) lanes = 64;
  if (lanes < 8) lanes = 8;
  while (lanes > s->k) lanes /= 2;
  *b = (TruthBits){.lanes = lanes, .units = (s->k + lanes - 1) / lanes};
  b->tables = (b->units * s->x_bits * lanes / 8 + TABLE - 1) / TABLE;
  return lanes >= 8 && b->tables <= TRUTH_TABLES;
}

// Number of an input among the bits of a row.
static int64_t bit_of(const TruthShape *s, const TruthBits *b, int32_t input) {
  int64_t e = input / (int32_t)s->x_bits, p = input % (int32_t)s->x_bits, unit = e / b->lanes;
  int64_t from = unit * b->lanes;
  if (from + b->lanes > s->k) from = s->k - b->lanes;
  return (p * b->units + unit) * b->lanes + e - from;
}

static DType unit_type(int64_t lanes) {
  return lanes == 8 ? DT_U8 : lanes == 16 ? DT_U16 : lanes == 32 ? DT_U32 : DT_U64;
}

static KExpr *level(KBuild *b, DType t, double v) { return dtype_is_float(t) ? kx_f(b, t, v) : kx_i(b, t, (int64_t)v); }

// Bit p of the code of x: the parity of the levels reached at which it changes.
static KExpr *code_bit(KBuild *b, const TruthShape *s, KBuf *x, Affine at, uint32_t p) {
  KExpr *bit = NULL;
  for (uint32_t i = 1; i < s->x_n; i++) {
    if (!truth_bit_flips(i, p)) continue;
    KExpr *reached = kx_op2(b, KOP_GE, kx_load1(b, x, at), level(b, x->type, s->x_level[i]));
    bit = bit == NULL ? reached : kx_op2(b, KOP_XOR, bit, reached);
  }
  return bit;
}

static void emit_unit(KBuild *b, const TruthShape *s, const TruthBits *f, KBuf *x, Affine from, KBuf *units,
                      Affine unit) {
  for (uint32_t p = 0; p < s->x_bits; p++) {
    Affine to = aff_plus(unit, p * f->units);
    Affine l = aff_var(kb_for(b, "l", 0, f->lanes, 1, FOR_VEC));
    kb_reduce_bits(b, units, &to, code_bit(b, s, x, aff_add(from, l), p));
    kb_end(b);
  }
}

static void emit_bits(KBuild *b, const TruthShape *s, const TruthBits *f, KBuf *x, Affine row, KBuf *units) {
  int64_t whole = s->k / f->lanes;
  Affine u = whole > 1 ? aff_var(kb_for(b, "u", 0, whole, 1, FOR_SEQ)) : aff(0);
  emit_unit(b, s, f, x, aff_add(row, aff_mul(u, f->lanes)), units, u);
  if (whole > 1) kb_end(b);
  if (whole < f->units) emit_unit(b, s, f, x, aff_plus(row, s->k - f->lanes), units, aff(whole));
}

// ---- tables

typedef struct Tables {
  int64_t groups, n, words;  // of 64 results; results with those of an overlap; words of a table
  Value *at, *mask, *table;  // [groups][fan][64] each; [y_bits][words][n]
} Tables;

static Value *bytes_const(LowerCtx *ctx, const uint8_t *v, int64_t n, const char *name) {
  return const_bytes(ctx->m, type_tensor(ctx->m->types, DT_U8, 1, &n), v, name);
}

static int64_t group_first(const TruthShape *s, int64_t g) {
  return g * GROUP + GROUP <= s->n ? g * GROUP : s->n > GROUP ? s->n - GROUP : 0;
}

static Tables tables_of(LowerCtx *ctx, const TruthShape *s, const TruthBits *f, const Truth *t) {
  Tables r = {.groups = (s->n + GROUP - 1) / GROUP, .words = s->fan > 6 ? INT64_C(1) << (s->fan - 6) : 1};
  Arena *arena = ctx->m->arena;
  int64_t lanes = r.groups * s->fan * GROUP, size = INT64_C(1) << s->fan, count = s->y_bits * r.words * s->n;
  uint8_t *at = NEW_ARRAY(arena, uint8_t, lanes), *mask = NEW_ARRAY(arena, uint8_t, lanes);
  for (int64_t i = 0; i < lanes; i++) {
    int64_t o = group_first(s, i / GROUP / s->fan) + i % GROUP;
    int32_t input = o < s->n ? t->input[o * s->fan + i / GROUP % s->fan] : -1;
    int64_t bit = input < 0 ? 0 : bit_of(s, f, input);
    at[i] = (uint8_t)(bit / 8);
    mask[i] = (uint8_t)(input < 0 ? 0 : 1 << bit % 8);
  }
  uint64_t *table = NEW_ARRAY(arena, uint64_t, count);
  for (int64_t o = 0; o < s->n; o++)
    for (int64_t i = 0; i < size; i++)
      for (uint32_t p = 0; p < s->y_bits; p++)
        table[(p * r.words + i / 64) * s->n + o] |= (uint64_t)(t->result[o * size + i] >> p & 1) << i % 64;
  r.at = bytes_const(ctx, at, lanes, "inputs");
  r.mask = bytes_const(ctx, mask, lanes, "bits");
  r.table = const_bytes(ctx->m, type_tensor(ctx->m->types, DT_U64, 1, &count), table, "truth");
  return r;
}

// ---- the kernel

typedef struct Truths {
  KBuild b;
  const TruthShape *s;
  const TruthBits *f;
  const Tables *t;
  KBuf *x, *bits, *at, *mask, *table, *index, *y;
} Truths;

// The byte of x's bits that lane holds the number of.
static KExpr *byte_of(Truths *p, Affine lane) {
  KBuild *b = &p->b;
  KExpr *byte = kx_op2(b, KOP_LOOKUP64, kx_load1(b, p->bits, aff(0)), kx_load1(b, p->at, lane));
  for (int64_t i = 1; i < p->f->tables; i++) {
    KExpr *here = kx_op2(b, KOP_LOOKUP64, kx_load1(b, p->bits, aff(i * TABLE)), kx_load1(b, p->at, lane));
    KExpr *is = kx_op2(b, KOP_GE, kx_load1(b, p->at, lane), kx_i(b, DT_U8, i * TABLE));
    byte = kx_op3(b, KOP_SELECT, is, here, byte);
  }
  return byte;
}

static void emit_index(Truths *p, Affine group) {
  KBuild *b = &p->b;
  Affine l = aff_var(kb_for(b, "l", 0, GROUP, 1, FOR_VEC)), first = aff_add(aff_mul(group, p->s->fan * GROUP), l);
  KExpr *index = kx_i(b, DT_U8, 0);
  for (uint32_t j = 0; j < p->s->fan; j++) {
    Affine lane = aff_plus(first, j * GROUP);
    KExpr *bit = kx_op2(b, KOP_AND, byte_of(p, lane), kx_load1(b, p->mask, lane));
    KExpr *set = kx_op1(b, KOP_NOT, kx_op2(b, KOP_EQ, bit, kx_i(b, DT_U8, 0)));
    KExpr *with = kx_op2(b, KOP_OR, index, kx_i(b, DT_U8, 1 << j));
    index = kx_op3(b, KOP_SELECT, set, with, kx_clone(b, index));
    index = kx_var(b, kb_let(b, "i", index));
  }
  kb_store1(b, p->index, l, index);
  kb_end(b);
}

// Bit `plane` of the code of the result.
static KExpr *result_bit(Truths *p, Affine o, KVar *index, uint32_t plane) {
  KBuild *b = &p->b;
  int64_t words = p->t->words;
  Affine at = aff_plus(o, plane * words * p->s->n);
  KExpr *word = kx_load1(b, p->table, at);
  for (int64_t i = 1; i < words; i++) {
    KExpr *upper = kx_op2(b, KOP_SHR, kx_var(b, index), kx_i(b, DT_U64, 6));
    KExpr *here = kx_op2(b, KOP_EQ, upper, kx_i(b, DT_U64, i));
    word = kx_op3(b, KOP_SELECT, here, kx_load1(b, p->table, aff_plus(at, i * p->s->n)), word);
  }
  KExpr *lower = kx_op2(b, KOP_AND, kx_var(b, index), kx_i(b, DT_U64, 63));
  KExpr *bit = kx_op2(b, KOP_AND, kx_op2(b, KOP_SHR, word, lower), kx_i(b, DT_U64, 1));
  return kx_op1(b, KOP_NOT, kx_op2(b, KOP_EQ, bit, kx_i(b, DT_U64, 0)));
}

static void emit_results(Truths *p, Affine first, Affine to, int64_t n) {
  KBuild *b = &p->b;
  const TruthShape *s = p->s;
  DType t = p->y->type;
  Affine l = aff_var(kb_for(b, "l", 0, n, 1, FOR_VEC));
  KVar *index = kb_let(b, "index", kx_cast(b, DT_U64, kx_load1(b, p->index, l))), *bit[TRUTH_TABLE_BITS] = {NULL};
  for (uint32_t i = 0; i < s->y_bits; i++) bit[i] = kb_let(b, "bit", result_bit(p, aff_add(first, l), index, i));
  KExpr *v[TRUTH_LEVELS];
  for (uint32_t i = 0; i < TRUTH_LEVELS; i++) v[i] = level(b, t, s->y_level[i < s->y_n ? i : s->y_n - 1]);
  KExpr *y = kx_op3(b, KOP_SELECT, kx_var(b, bit[0]), v[1], v[0]);
  if (s->y_bits > 1)
    y = kx_op3(b, KOP_SELECT, kx_var(b, bit[1]), kx_op3(b, KOP_SELECT, kx_var(b, bit[0]), v[3], v[2]), y);
  kb_store1(b, p->y, aff_add(to, l), y);
  kb_end(b);
}

static void emit_group(Truths *p, Affine row, Affine group, Affine first, int64_t n) {
  emit_index(p, group);
  emit_results(p, first, aff_add(row, first), n);
}

static void emit_row(Truths *p, Affine row) {
  KBuild *b = &p->b;
  const TruthShape *s = p->s;
  int64_t bytes = p->f->tables * TABLE, units = bytes * 8 / p->f->lanes, group = GROUP, whole = s->n / GROUP;
  p->bits = kb_alloc(b, "bits", DT_U8, 1, &bytes, SPACE_STACK);
  p->index = kb_alloc(b, "index", DT_U8, 1, &group, SPACE_STACK);
  KBuf *unit = p->f->lanes == 8 ? p->bits : kb_view(b, p->bits, "units", unit_type(p->f->lanes), 1, &units);
  emit_bits(b, s, p->f, p->x, aff_mul(row, s->k), unit);
  Affine to = aff_mul(row, s->n);
  if (whole > 0) {
    Affine g = whole > 1 ? aff_var(kb_for(b, "g", 0, whole, 1, FOR_SEQ)) : aff(0);
    emit_group(p, to, g, aff_mul(g, GROUP), GROUP);
    if (whole > 1) kb_end(b);
  }
  if (whole < p->t->groups) emit_group(p, to, aff(whole), aff(group_first(s, whole)), s->n < GROUP ? s->n : GROUP);
}

static bool is_large(const TruthShape *s) { return s->rows * (s->k + s->n * s->fan) >= 4 * LANES_PAR_MIN; }

bool lower_truth(LowerCtx *ctx, const Op *op) {
  TruthShape s;
  TruthBits f;
  Truth t;
  if (!truth_shape(op, &s) || !truth_bits(&s, op_in(op, 0)->type->dtype, ctx->target, &f) ||
      !truth_tables(op, &s, ctx->m->arena, &t))
    return diag_error(ctx->m->diag, DIAG_UNSUPPORTED, op->loc,
                      "plan truth needs a layer of constant weights whose columns have at most %d bits of input, with "
                      "few values before and after it; use another plan",
                      TRUTH_FAN);
  Tables tables = tables_of(ctx, &s, &f, &t);
  Truths p = {.s = &s, .f = &f, .t = &tables};
  PBuf *bufs[5] = {lower_buf(ctx, op_in(op, 0)), lower_const(ctx, tables.at), lower_const(ctx, tables.mask),
                   lower_const(ctx, tables.table), lower_buf(ctx, op_out(op, 0))};
  lower_begin(ctx, &p.b, op);
  KBuf **held[5] = {&p.x, &p.at, &p.mask, &p.table, &p.y};
  for (uint32_t i = 0; i < 5; i++) *held[i] = lower_flat(&p.b, bufs[i]);
  Affine row = s.rows > 1 ? aff_var(kb_for(&p.b, "row", 0, s.rows, 1, is_large(&s) ? FOR_PAR : FOR_SEQ)) : aff(0);
  emit_row(&p, row);
  if (s.rows > 1) kb_end(&p.b);
  lower_step(ctx, &p.b, op, NULL, 5, bufs)->strategy = "truth";
  return true;
}
