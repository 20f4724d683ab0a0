// The price of byte dot products: the tiles of fma with a quarter of the steps.
#include "passes/contraction.h"
#include "passes/lower/dot8.h"
#include "passes/price/tiles.h"

// Weights of at most so many bits are stored in fields of bytes where that costs at most this much; more bits take
// three fields and save less.
#define BITS_COST 1.1
#define MOST_BITS 4
// Or, weights of at most so many bits, at most what opening them into bytes before every run costs (open.h), of which a
// vector of bytes takes these cycles.
#define OPENED_BITS 6
#define OPEN_CYCLES 4.5

enum { BYTE_VREGS = 20 };  // with x put together byte by byte: more columns are more code than a function should have

// Nests of a transposed convolution: one per residue of the strides.
static int64_t residues(const Op *op) {
  ConvGeom g;
  return conv_geom(op, &g) ? g.stride[0] * g.stride[1] * g.stride[2] : INT64_MAX;
}

// Weights known at run time are packed then; there are no sums of columns for a zero point or
// for bytes that are moved.
static bool packs_at_run(const Op *op, const Target *t) {
  MatmulGeom g;
  return op->kind == OP_MATMUL && op_in(op, 2) == NULL && dot8_move(t, op_in(op, 0)->type->dtype) == 0 &&
         op_int(op, A_MATMUL_x_zero) == 0 && matmul_geom(op, &g) && g.a_k == 1 && !g.b_vector;
}

bool strategy_dot8_applies(const Op *op, const Target *t) {
  Work w;
  const Value *b = op_in(op, 1), *bias = op_in(op, 2);
  if (!is_byte(op_in(op, 0)) || b->type->dtype != DT_I8) return false;
  if (!work_of(op, &w) || is_empty(op)) return false;
  if (!value_is_const(b)) return packs_at_run(op, t);
  if (bias != NULL && !value_is_const(bias)) return false;
  if (op->kind == OP_CONV) return true;
  if (op->kind == OP_CONV_TRANSPOSE) return residues(op) <= 16;
  MatmulGeom g;
  if (!matmul_geom(op, &g) || g.a_k != 1 || g.b_vector || type_count(b->type) != g.k * g.n) return false;
  int64_t n = bias == NULL ? 1 : type_count(bias->type);
  return n == 1 || (n == g.n && bias->type->dims[bias->type->rank - 1] == n);
}

// Operations that put a vector of weights together: a shift but for one field of a byte, and an `and` for each.
static double field_ops(const PackBits *b) {
  double ops = b->n - 1 + (b->ones != 0);
  for (uint32_t i = 0; i < b->n; i++) ops += 2 - b->width[i] / 8.0;
  return ops;
}

// The same tiles over weights held as fields of bytes, which are fewer bytes and take more operations.
static void price_bits(const Op *op, const Target *t, const Work *bytes, Price *p) {
  PackBits b;
  Price q = {.plan = {.strategy = p->plan.strategy}, .fixed = p->fixed};
  if (!dot8_bits(op, &b) || pack_bits_width(&b) > OPENED_BITS) return;
  if (pack_bits_width(&b) > pack_bits_least(op->func->module, op_in(op, 1))) return;  // a book takes fewer
  Work w = *bytes;
  Target masks = *t;
  masks.n_vregs -= b.ones != 0 ? 2 : 1;
  if (w.x_step % 4 != 0 && masks.n_vregs > BYTE_VREGS) masks.n_vregs = BYTE_VREGS;
  w.w_ops = field_ops(&b);
  w.w_more = 1;  // the stored vector stays for its other fields
  w.w_bytes = w.w_bytes * pack_bits_width(&b) / 8;
  plan_add(op, &q.plan, "bits", pack_bits_width(&b));
  price_tiles(op, &masks, &w, &q);
  double limit = price_total(p) + OPEN_CYCLES * 8 * bytes->w_bytes / t->vector_bits;
  if (pack_bits_width(&b) <= MOST_BITS && limit < price_total(p) * BITS_COST) limit = price_total(p) * BITS_COST;
  if (price_total(&q) <= limit) *p = q;
}

// The tiles of fma with lanes of four bytes: a quarter of the steps, at the rate of dot4.
void strategy_dot8_price(const Op *op, const Target *t, Price *p) {
  Work w;
  Target bytes = *t;
  bytes.fma_per_cycle = t->dot4_per_cycle;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "dot8")}, .fixed = t->call_cycles};
  if (!work_of(op, &w)) return;
  if (w.depthwise) {
    w.type = DT_F32;
    price_depthwise(op, t, &w, p);
    return;
  }
  w.type = DT_I32;
  w.folds = w.k_lanes = false;
  w.post = price_post(op);
  w.to_bytes = is_byte(op_out(op, 0));
  w.held = (int64_t)op_n_post(op) + (op_in(op, 2) != NULL);
  w.k = w.k / w.k_inner * ((w.k_inner + 3) / 4);
  w.k_inner = (w.k_inner + 3) / 4;
  price_tiles(op, &bytes, &w, p);
  price_bits(op, &bytes, &w, p);
}
