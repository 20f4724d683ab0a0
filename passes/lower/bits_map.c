// Element-wise kernels that make words. See bits_kernels.h.
//
//   %1 = map %x {greater_equal 0, select 1, -1} : i8[4,100]  =>  per row: units of 16 comparisons, 8, 4 single ones,
//   zeros
#include "passes/lower/bits_kernels.h"
#include "passes/lower/walk.h"

// ---- codes

static int log2_of(int64_t v) {
  int n = 0;
  while (v > 1) {
    v >>= 1;
    n++;
  }
  return n;
}

KBuf *bits_unit(BitsUnits *u, int64_t bits) {
  static const DType types[4] = {DT_U8, DT_U16, DT_U32, DT_U64};
  static const char *const names[4] = {"u8", "u16", "u32", "u64"};
  int i = log2_of(bits / 8);
  int64_t count = u->words->dims[0] * dtype_info(u->words->type)->bits / bits;
  if (u->unit[i] == NULL) u->unit[i] = kb_view(u->b, u->words, names[i], types[i], 1, &count);
  return u->unit[i];
}

bool bits_can_store(const PlanesX *f) {
  return f->group == 1 && f->step > 0 && (f->planes == 1 || (f->step & (f->step - 1)) == 0);
}

KExpr *bits_code(KBuild *b, const PlanesX *f, int64_t plane, KExpr *value) {
  DType t = value->type;
  if (f->planes == 1) return kx_op2(b, KOP_GT, value, kx_i(b, t, f->lo));
  KExpr *code = f->lo == 0 ? value : kx_op2(b, KOP_SUB, value, kx_i(b, t, f->lo));
  int64_t mask = f->step << plane;
  if (t == DT_I8 && mask == 128) mask = -128;
  KExpr *bit = kx_op2(b, KOP_AND, code, kx_i(b, t, mask));
  return kx_op2(b, KOP_EQ, bit, kx_i(b, t, mask));
}

int64_t bits_chunk(const PlanesX *f) {
  int64_t row = planes_row(f) * f->word, chunk = f->word;
  while (f->planes == 1 && chunk < 64 && row % (2 * chunk) == 0) chunk *= 2;
  return chunk;
}

Affine bits_place(const PlanesX *f, Affine chunk, int64_t plane, int64_t from, int64_t bits) {
  int64_t size = bits_chunk(f);
  return aff_plus(aff_mul(chunk, size / bits), (plane * size + from) / bits);
}

void bits_clear(BitsUnits *u, const PlanesX *f, Affine chunk, int64_t from) {
  int64_t size = bits_chunk(f);
  for (int64_t bits = 0; from < size; from += bits) {
    for (bits = 8; from % (2 * bits) == 0 && bits < size; bits *= 2) continue;
    for (int64_t plane = 0; plane < f->planes; plane++) {
      KBuf *unit = bits_unit(u, bits);
      kb_store1(u->b, unit, bits_place(f, chunk, plane, from, bits), kx_i(u->b, unit->type, 0));
    }
  }
}

// ---- map

typedef struct MapBits {
  KBuild b;
  const Op *op;
  const PlanesX *f;
  BitsUnits units;
  uint32_t n_in;
  KBuf *in[WALK_OPERANDS];
  int64_t step[WALK_OPERANDS];  // along the channels
  int64_t lanes;
} MapBits;

static KVar *map_value(MapBits *m, const Affine *at, Affine c) {
  KExpr *args[WALK_OPERANDS];
  for (uint32_t i = 0; i < m->n_in; i++)
    args[i] = lower_load1(&m->b, m->in[i], aff_add(at[i + 1], aff_mul(c, m->step[i])));
  bool map = m->op->kind == OP_MAP;
  return kb_let(&m->b, "v",
                map ? lower_body(&m->b, op_func(m->op, A_MAP_body), args) : lower_eltwise_expr(&m->b, m->op, args));
}

// Channels from .. from + bits - 1 of a chunk, which begins with channel `first`.
static void map_unit(MapBits *m, const Affine *at, Affine chunk, Affine first, int64_t from, int64_t bits) {
  KBuild *b = &m->b;
  KBuf *unit = bits_unit(&m->units, bits);
  Affine l = aff_var(kb_for(b, "l", 0, bits, 1, FOR_VEC));
  KVar *v = map_value(m, at, aff_plus(aff_add(first, l), from));
  for (int64_t plane = 0; plane < m->f->planes; plane++) {
    Affine to = bits_place(m->f, chunk, plane, from, bits);
    kb_reduce_bits(b, unit, &to, bits_code(b, m->f, plane, kx_var(b, v)));
  }
  kb_end(b);
}

// Fewer than 8 channels.
static void map_byte(MapBits *m, const Affine *at, Affine chunk, Affine first, int64_t from, int64_t have) {
  KBuild *b = &m->b;
  KExpr *byte[8] = {0};
  for (int64_t i = 0; i < have; i++) {
    KVar *v = map_value(m, at, aff_plus(first, from + i));
    for (int64_t plane = 0; plane < m->f->planes; plane++) {
      KExpr *bit = kx_cast(b, DT_U8, bits_code(b, m->f, plane, kx_var(b, v)));
      if (i > 0) bit = kx_op2(b, KOP_OR, byte[plane], kx_op2(b, KOP_SHL, bit, kx_i(b, DT_U8, i)));
      byte[plane] = bit;
    }
  }
  for (int64_t plane = 0; plane < m->f->planes; plane++)
    kb_store1(b, bits_unit(&m->units, 8), bits_place(m->f, chunk, plane, from, 8), byte[plane]);
}

static void map_row(void *ctx, KBuild *b, const Affine *at) {
  MapBits *m = ctx;
  int64_t size = bits_chunk(m->f), whole = m->f->channels / size, rest = m->f->channels % size, from = 0;
  int64_t lanes = m->lanes < size ? m->lanes : size;
  Affine row = aff_mul(at[0], planes_row(m->f) * m->f->word / size);
  if (whole > 0) {
    Affine w = whole == 1 ? aff(0) : aff_var(kb_for(b, "w", 0, whole, 1, FOR_SEQ));
    Affine chunk = aff_add(row, aff_mul(w, m->f->planes)), first = aff_mul(w, size);
    for (int64_t i = 0; i < size; i += lanes) map_unit(m, at, chunk, first, i, lanes);
    if (whole > 1) kb_end(b);
  }
  if (rest == 0) return;
  Affine chunk = aff_plus(row, whole * m->f->planes), first = aff(whole * size);
  for (int64_t bits = lanes; bits >= 8; bits /= 2)
    for (; from + bits <= rest; from += bits) map_unit(m, at, chunk, first, from, bits);
  if (from < rest) map_byte(m, at, chunk, first, from, rest - from);
  bits_clear(&m->units, m->f, chunk, (rest + 7) / 8 * 8);
}

// Lanes of a vector of the widest operand, as many as a unit has.
static int64_t unit_lanes(const LowerCtx *ctx, const Op *op) {
  uint32_t widest = 8;
  for (uint32_t i = 0; i < op->n_in; i++) {
    uint32_t bits = dtype_info(lower_compute_type(op_in(op, i)->type->dtype))->bits;
    if (!value_is_const(op_in(op, i)) && bits > widest) widest = bits;
  }
  int64_t lanes = target_lanes(ctx->target, (uint32_t)widest);
  return lanes < 8 ? 8 : lanes > 64 ? 64 : lanes;
}

bool bits_map(LowerCtx *ctx, const Op *op) {
  const Type *t = op_out(op, 0)->type;
  BitsValue *y = bits_of(ctx, op_out(op, 0));
  if (!bits_can_store(&y->form) || op->n_in >= WALK_OPERANDS || y->form.channels != t->dims[t->rank - 1]) return false;
  MapBits m = {.op = op, .f = &y->form, .n_in = op->n_in, .lanes = unit_lanes(ctx, op)};
  PBuf *bufs[WALK_OPERANDS] = {bits_make(ctx, op_out(op, 0))};
  lower_begin(ctx, &m.b, op);
  m.units = (BitsUnits){.b = &m.b, .words = lower_flat(&m.b, bufs[0])};
  Walk all, walk;
  walk_init(&all, t->rank, t->dims);
  walk_init(&walk, t->rank - 1, t->dims);
  for (uint32_t i = 0; i < op->n_in; i++) {
    bufs[i + 1] = lower_buf(ctx, op_in(op, i));
    m.in[i] = lower_flat(&m.b, bufs[i + 1]);
    uint32_t k = walk_broadcast(&all, op_in(op, i)->type);
    m.step[i] = all.stride[k][t->rank - 1];
    walk_operand(&walk, 0, all.stride[k]);
  }
  walk_collapse(&walk);
  walk_emit(&m.b, &walk, false, NULL, map_row, &m);
  lower_step(ctx, &m.b, op, NULL, op->n_in + 1, bufs)->strategy = "bits";
  return true;
}

// ---- signs

void bits_signs(LowerCtx *ctx, const Op *op, PBuf *x, Value *signs) {
  const BitsValue *y = bits_of(ctx, op_out(op, 0));
  int64_t words = planes_row(&y->form), rows = type_count(x->type) / words;
  PBuf *bufs[3] = {bits_make(ctx, op_out(op, 0)), x, lower_const(ctx, signs)};
  KBuild b;
  lower_begin(ctx, &b, op);
  KBuf *to = lower_flat(&b, bufs[0]), *from = lower_flat(&b, x), *masks = lower_flat(&b, bufs[2]);
  Affine row = aff_mul(aff_var(kb_for(&b, "row", 0, rows, 1, FOR_SEQ)), words);
  Affine w = aff_var(kb_for(&b, "w", 0, words, 1, FOR_VEC));
  KExpr *kept = kx_op2(&b, KOP_AND, kx_load1(&b, from, aff_add(row, w)), kx_load1(&b, masks, w));
  kb_store1(&b, to, aff_add(row, w), kx_op2(&b, KOP_XOR, kept, kx_load1(&b, masks, aff_plus(w, words))));
  kb_end(&b);
  kb_end(&b);
  lower_step(ctx, &b, op, NULL, 3, bufs)->strategy = "bits";
}
