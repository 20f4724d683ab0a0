// --fp=bf16: contractions with operands rounded to bfloat16 and sums in f32.
//
//   acc[m, n] += x[m, k] * w[k, n]   becomes   acc[m, n] = dot2(acc[m, n], x2[m, k / 2], w2[k / 2, n])
//
// The innermost reduction loop, even and dense in x, counts pairs; so do all offsets of x and of the weights. x is
// rounded by a step of its own into a buffer of the same shape, packed weights while lowering: rows 2 j and 2 j + 1 of
// a panel become one row of pairs. Layers that don't go by two (stems of three channels) stay f32. The rounding of the
// weights is measured and noted; that of the inputs has the same bound, 2^-9 of each.
#include "passes/lower/bf16.h"

#include <math.h>

#include "ir/elem.h"
#include "ir/note.h"
#include "passes/lower/walk.h"

static bool is_even(int64_t v) { return v % 2 == 0; }

static int64_t rows_of(const Nest *n) {
  int64_t k = 1;
  for (uint32_t i = 0; i < n->n_red; i++) k *= n->red[i];
  return k;
}

// Columns of a panel as they are packed.
static int64_t panel_columns(const Nest *n, int64_t panel) {
  int64_t width = n->tile.nv * n->tile.lanes, left = n->n - panel * width;
  int64_t used = left < width ? left : width;
  return (used + n->tile.lanes - 1) / n->tile.lanes * n->tile.lanes;
}

static int64_t packed_columns(const Nest *n) { return (n->n + n->tile.lanes - 1) / n->tile.lanes * n->tile.lanes; }

static bool is_plain(const Nest *n) {
  bool other = n->dot || n->counts || n->words != NULL || n->matrix.rows > 0 || n->book > 0 || n->lookups > 0;
  if (other || n->type != DT_F32 || n->tile.k_lanes > 0 || n->tile.parts > 0 || n->w_row > 0 || n->tile.dense ||
      n->n_red == 0)
    return false;
  bool stored = n->w->kind == PBUF_CONST && n->w->alias_of == NULL && n->w->type->dtype == DT_F32;
  return stored && n->x->type->dtype == DT_F32 && rows_of(n) > 0;
}

static bool goes_by_two(const Nest *n) {
  uint32_t last = n->n_red - 1;
  bool even = is_even(n->red[last]) && n->x_red[last] == 1 && is_even(n->x0) && is_even(n->m.x) &&
              is_even(type_count(n->x->type));
  for (uint32_t i = 0; i < last; i++) even = even && is_even(n->x_red[i]);
  for (uint32_t i = 0; i < n->n_rows; i++) even = even && is_even(n->row[i].x);
  return even && type_count(n->w->type) % (rows_of(n) * packed_columns(n)) == 0;
}

typedef struct Error {
  double off, all;  // sums of squares
} Error;

static uint16_t rounded(float x, Error *e) {
  uint16_t bits = 0;
  elem_set_f(&bits, DT_BF16, 0, x);
  double d = elem_get_f(&bits, DT_BF16, 0) - x;
  e->off += d * d;
  e->all += (double)x * x;
  return bits;
}

static PBuf *weight_pairs(LowerCtx *ctx, const Nest *n, Error *e) {
  Module *m = ctx->m;
  int64_t count = type_count(n->w->type), k = rows_of(n), width = n->tile.nv * n->tile.lanes, at = 0;
  const Type *t = type_tensor(m->types, DT_BF16, 1, &count);
  const float *from = const_data(m, n->w->constant);
  uint16_t *to = arena_alloc(m->arena, (size_t)type_bytes(t));
  while (at < count) {
    for (int64_t panel = 0; panel * width < n->n; panel++) {
      int64_t columns = panel_columns(n, panel);
      for (int64_t j = 0; j < k; j += 2, at += 2 * columns)
        for (int64_t c = 0; c < columns; c++) {
          to[at + 2 * c] = rounded(from[at + c], e);
          to[at + 2 * c + 1] = rounded(from[at + columns + c], e);
        }
    }
  }
  return lower_const(ctx, const_borrowed(m, t, to, n->w->constant->name));
}

static void round_element(void *ctx, KBuild *b, const Affine *at) {
  KBuf **buf = ctx;
  lower_store1(b, buf[0], at[0], kx_load1(b, buf[1], at[1]));
}

static PBuf *input_pairs(LowerCtx *ctx, const Nest *n) {
  int64_t count = type_count(n->x->type), one = 1;
  PBuf *to = lower_work(ctx, "x2", type_tensor(ctx->m->types, DT_BF16, 1, &count));
  KBuild b;
  Walk walk;
  lower_begin(ctx, &b, n->op);
  KBuf *bufs[2] = {lower_flat(&b, to), lower_flat(&b, n->x)};
  walk_init(&walk, 1, &count);
  walk_operand(&walk, 0, &one);
  walk_emit(&b, &walk, true, NULL, round_element, bufs);
  lower_step(ctx, &b, n->op, NULL, 2, (PBuf *[]){to, n->x})->strategy = "pack";
  return to;
}

bool bf16_pays(const Target *t) { return 2 * t->dot2_per_cycle > t->fma_per_cycle; }

void bf16_pairs(LowerCtx *ctx, Nest *n) {
  if (ctx->opt == NULL || !ctx->opt->bf16 || !bf16_pays(ctx->target)) return;
  if (!is_plain(n) || !goes_by_two(n)) return;
  Error e = {0};
  n->w = weight_pairs(ctx, n, &e);
  n->x = input_pairs(ctx, n);
  n->pairs = true;
  n->x0 /= 2;
  n->m.x /= 2;
  n->m.w /= 2;
  n->red[n->n_red - 1] /= 2;
  for (uint32_t i = 0; i + 1 < n->n_red; i++) n->x_red[i] /= 2;
  for (uint32_t i = 0; i < n->n_rows; i++) {
    n->row[i].x /= 2;
    n->row[i].w /= 2;
  }
  note_layer(
      ctx->m, n->op, NOTE_EMITTED,
      "products of bfloat16, sums in f32 (--fp=bf16): weights rounded by %.2g of their norm, inputs while running",
      e.all > 0 ? sqrt(e.off / e.all) : 0.0);
}
