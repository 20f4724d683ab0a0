// Strategy `winograd`: weights, blocks and steps. See winograd.h.
#include "passes/lower/winograd.h"

#include "ir/elem.h"
#include "passes/price.h"

enum { SLOTS = 8, SPARE = 16 };  // tasks that blocks are shared among; elements that keep f out of one set of L1

typedef struct Buffers {
  PBuf *x, *u, *v, *m, *t, *y, *bias;
} Buffers;

static int64_t rounded(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// ---- weights

// sum[o] = row[0] a[0][o] + row[1] a[1][o] + row[2] a[2][o], vectors being n apart.
static void combine(const double row[3], const double *a, int64_t n, double *sum) {
  for (int64_t o = 0; o < n; o++) sum[o] = row[0] * a[o] + row[1] * a[n + o] + row[2] * a[2 * n + o];
}

// Transformed weights of input channel c: u[i][j] for every output channel, in double. `room`: 12 vectors.
static void transform_channel(const WinoEmit *e, const void *w, DType type, int64_t c, double *room, double *u) {
  int64_t n = e->g.o;
  double row[3], *half = room + 9 * n;
  for (int64_t k = 0; k < 9; k++)  // by columns: taps of a column lie side by side
    for (int64_t o = 0; o < n; o++) room[(k % 3 * 3 + k / 3) * n + o] = elem_get_f(w, type, (k * e->g.c + c) * n + o);
  for (int64_t i = 0; i < e->points_y; i++) {
    wino_weight((uint32_t)i, row);
    for (int64_t s = 0; s < 3; s++) combine(row, room + 3 * s * n, n, half + s * n);
    for (int64_t j = 0; j < e->points_x; j++) {
      wino_weight((uint32_t)j, row);
      combine(row, half, n, u + (i * e->points_x + j) * n);
    }
  }
}

// U[f][panel][c][vectors of a panel], rounded once.
static PBuf *weights(WinoEmit *e) {
  Module *m = e->ctx->m;
  const ConvGeom *g = &e->g;
  Const *w = op_in(e->op, 1)->constant;
  int64_t points = e->points_y * e->points_x, panel = plan_param(e->plan, "nv", 2) * e->lanes, count;
  if (panel > e->columns) panel = e->columns;
  if (!dims_count(3, (int64_t[]){points, g->c, e->columns}, &count)) {
    diag_error(m->diag, DIAG_LIMIT, e->op->loc, "transformed weights of %lld x %lld x %lld are past the size limit",
               (long long)points, (long long)g->c, (long long)e->columns);
    return NULL;
  }
  const Type *t = type_tensor(m->types, DT_F32, 1, &count);
  float *to = arena_alloc(m->arena, (size_t)type_bytes(t));
  Arena *scratch = arena_new("winograd");
  double *u = NEW_ARRAY(scratch, double, (points + 12) * g->o);
  const void *data = const_data(m, w);
  for (int64_t c = 0; c < g->c; c++) {
    transform_channel(e, data, w->type->dtype, c, u + points * g->o, u);
    for (int64_t f = 0; f < points; f++)
      for (int64_t first = 0; first < e->columns; first += panel) {
        int64_t width = e->columns - first < panel ? e->columns - first : panel;
        float *row = to + f * e->u_step + first * g->c + c * width;
        for (int64_t o = 0; o < width; o++) row[o] = first + o < g->o ? (float)u[f * g->o + first + o] : 0;
      }
  }
  arena_free(scratch);
  return lower_const(e->ctx, const_borrowed(m, t, to, w->name));
}

// ---- blocks

static uint32_t read_kinds(const WinoAxis *a, int64_t images, WinoKind *kind) {
  int64_t first = 0, start = 0;
  for (uint32_t i = 0; i < a->n; i++) {
    kind[i] = (WinoKind){.m = a->size[i], .per_image = a->count[i], .count = a->count[i] * images, .first = first};
    kind[i].start = start;
    kind[i].row = aff(0);
    first += kind[i].count;
    start += a->size[i] * a->count[i];
  }
  return a->n;
}

static int64_t tile_rows(const WinoEmit *e) { return wino_rows_with(e, 0); }

static void set_steps(WinoEmit *e) {
  int64_t tiles = tile_rows(e) * wino_columns_with(e, 0);
  e->points_y = wino_points(e->y[0].m);
  e->v_step = rounded(tiles * e->g.c, SPARE) + SPARE;
  e->m_step = rounded(tiles * e->columns, SPARE) + SPARE;
}

static int64_t block_points(const WinoEmit *e) { return e->points_y * e->points_x; }

static KBuf *param(WinoEmit *e, const char *name, const PBuf *buf) {
  int64_t count = type_count(buf->type);
  return kb_param(&e->b, name, buf->type->dtype, 1, &count, buf->kind == PBUF_CONST ? SPACE_CONST : SPACE_ARG);
}

static void begin(WinoEmit *e, const char *what) {
  e->in = e->u = e->v = e->m = e->t = e->out = e->bias = NULL;
  e->pp = (PostParams){.op = e->op};
  kbuild_init(&e->b, e->ctx->m, arena_printf(e->ctx->m->arena, "%s_%u", what, e->op->id), e->op->loc);
}

static void result_params(WinoEmit *e, const Buffers *p) {
  e->out = param(e, "y", p->y);
  if (p->bias != NULL) e->bias = param(e, "bias", p->bias);
  e->pp = lower_post_params(e->ctx, &e->b, e->op);
}

static void finish(WinoEmit *e, uint32_t n, PBuf *const *bufs, double macs) {
  Step *step = lower_step(e->ctx, &e->b, e->op, &e->pp, n, bufs);
  step->strategy = "winograd";
  step->macs = macs;
}

// What the direct form of the block multiplies.
static double block_macs(const WinoEmit *e, double blocks) {
  double rows = 0;
  for (uint32_t i = 0; i < e->n_y; i++) rows += (double)(e->y[i].count * e->y[i].m);
  return rows * blocks * (double)e->g.out[2] * 9 * (double)e->g.c * (double)e->g.o;
}

// One block in three steps: tile rows, pairs of points and tile rows again are what threads share.
static void staged(WinoEmit *e, const Buffers *p) {
  begin(e, "winograd_in");
  e->in = param(e, "x", p->x);
  e->v = param(e, "v", p->v);
  e->t = param(e, "t", p->t);
  Affine row = aff_var(kb_for(&e->b, "row", 0, tile_rows(e), 1, FOR_PAR));
  wino_emit_inputs(e, row, aff(0), aff_mul(row, e->t_size));
  kb_end(&e->b);
  finish(e, 3, (PBuf *[]){p->x, p->v, p->t}, 0);
  begin(e, "winograd");
  e->v = param(e, "v", p->v);
  e->u = param(e, "u", p->u);
  e->m = param(e, "m", p->m);
  wino_emit_product(e, aff_var(kb_for(&e->b, "f", 0, block_points(e), 1, FOR_PAR)), aff(0), aff(0));
  kb_end(&e->b);
  finish(e, 3, (PBuf *[]){p->v, p->u, p->m}, block_macs(e, 1));
  begin(e, "winograd_out");
  e->m = param(e, "m", p->m);
  e->t = param(e, "t", p->t);
  result_params(e, p);
  row = aff_var(kb_for(&e->b, "row", 0, tile_rows(e), 1, FOR_PAR));
  wino_emit_results(e, row, aff(0), aff_mul(row, e->t_size));
  kb_end(&e->b);
  finish(e, p->bias != NULL ? 4 : 3, (PBuf *[]){p->m, p->t, p->y, p->bias}, 0);
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Blocks of one kind of tile rows, from row `first` of the kind on; each task has V, M and a room of its own.
static void walked(WinoEmit *e, const Buffers *p, int64_t blocks, int64_t first) {
  KBuild *b = &e->b;
  int64_t tasks = least(blocks, SLOTS), each = (blocks + tasks - 1) / tasks, rows = tile_rows(e);
  begin(e, "winograd");
  e->in = param(e, "x", p->x);
  e->u = param(e, "u", p->u);
  e->v = param(e, "v", p->v);
  e->m = param(e, "m", p->m);
  e->t = param(e, "t", p->t);
  result_params(e, p);
  Affine task = aff_var(kb_for(b, "task", 0, (blocks + each - 1) / each, 1, FOR_PAR));
  Affine at = aff_mul(task, each), end = aff_plus(at, each);
  if (blocks % each != 0) {
    KExpr *most = kx_i(b, DT_I64, blocks);
    end = aff_var(kb_let(b, "end", kx_op2(b, KOP_MIN, kx_index(b, end), most)));
  }
  Affine block = aff_var(kb_for_aff(b, "block", at, end, 1, FOR_SEQ));
  Affine v = aff_mul(task, block_points(e) * e->v_step), m = aff_mul(task, block_points(e) * e->m_step);
  Affine t = aff_mul(task, e->t_size);
  e->y[0].row = aff_plus(aff_mul(block, rows), first);
  wino_emit_inputs(e, rows > 1 ? aff_var(kb_for(b, "row", 0, rows, 1, FOR_SEQ)) : aff(0), v, t);
  if (rows > 1) kb_end(b);
  wino_emit_products(e, v, m);
  wino_emit_results(e, rows > 1 ? aff_var(kb_for(b, "row", 0, rows, 1, FOR_SEQ)) : aff(0), m, t);
  if (rows > 1) kb_end(b);
  kb_end(b);
  kb_end(b);
  finish(e, p->bias != NULL ? 7 : 6, (PBuf *[]){p->x, p->u, p->v, p->m, p->t, p->y, p->bias},
         block_macs(e, (double)blocks));
}

static PBuf *room(WinoEmit *e, const char *name, int64_t count) {
  return lower_work(e->ctx, name, type_tensor(e->ctx->m->types, DT_F32, 1, &count));
}

// The kinds of rows one by one, in blocks of `most` rows and what is left.
static void emit_kinds(WinoEmit *e, const Buffers *p, int64_t most) {
  WinoKind kind[WINO_SIZES];
  uint32_t n = e->n_y;
  for (uint32_t i = 0; i < n; i++) kind[i] = e->y[i];
  e->n_y = 1;
  for (uint32_t i = 0; i < n; i++) {
    int64_t rows = kind[i].count, height = least(most, rows), blocks = rows / height, left = rows % height;
    for (int part = 0; part < 2; part++) {
      int64_t first = part == 0 ? 0 : blocks * height, count = part == 0 ? blocks : 1;
      if (part == 1 && left == 0) continue;
      e->y[0] = kind[i];
      e->y[0].first = 0;
      e->y[0].count = part == 0 ? height : left;
      e->y[0].row = aff(first);
      set_steps(e);
      if (count == 1) {
        staged(e, p);
      } else {
        walked(e, p, count, first);
      }
    }
  }
}

// Room for the largest block, once per task.
static bool make_rooms(WinoEmit *e, Buffers *p, int64_t most) {
  int64_t rows = least(most, tile_rows(e)), tasks = most < tile_rows(e) ? SLOTS : 1, points = block_points(e);
  int64_t tiles = rows * wino_columns_with(e, 0), v, m, t;
  if (!dims_count(3, (int64_t[]){tasks * points, tiles + 2 * SPARE, e->g.c}, &v) ||
      !dims_count(3, (int64_t[]){tasks * points, tiles + 2 * SPARE, e->columns}, &m)) {
    return diag_error(e->ctx->m->diag, DIAG_LIMIT, e->op->loc, "transformed tiles are past the size limit");
  }
  v = tasks * points * (rounded(tiles * e->g.c, SPARE) + SPARE);
  m = tasks * points * (rounded(tiles * e->columns, SPARE) + SPARE);
  t = (rows > tasks ? rows : tasks) * e->t_size;
  p->v = room(e, "v", v);
  p->m = room(e, "m", m);
  p->t = room(e, "t", t);
  return true;
}

bool lower_winograd(LowerCtx *ctx, const Op *op, const Plan *plan) {
  WinoEmit e = {.ctx = ctx, .op = op, .plan = plan};
  WinoAxis y, x;
  if (!wino_geom(op, &e.g) || !wino_of_plan(plan, &e.g, &y, &x)) {
    return diag_error(ctx->m->diag, DIAG_USAGE, op->loc,
                      "plan 'winograd' is for 3x3 float convolutions of stride 1, channels last, with constant weights "
                      "and tiles that make the result exactly; use another plan");
  }
  e.lanes = plan_param(plan, "lanes", target_lanes(ctx->target, 32));
  e.columns = rounded(e.g.o, e.lanes);
  e.n_y = read_kinds(&y, e.g.n, e.y);
  e.n_x = read_kinds(&x, 1, e.x);
  e.points_x = wino_axis_points(&x);
  e.u_step = e.g.c * e.columns;
  set_steps(&e);
  e.t_size = block_points(&e) * e.lanes;
  int64_t most = plan_param(plan, "rows", tile_rows(&e));
  Buffers p = {.x = lower_buf(ctx, op_in(op, 0)), .y = lower_buf(ctx, op_out(op, 0)), .u = weights(&e)};
  if (op_in(op, 2) != NULL) p.bias = lower_buf(ctx, op_in(op, 2));
  if (p.u == NULL || !make_rooms(&e, &p, most)) return false;
  if (most >= tile_rows(&e)) {
    staged(&e, &p);
  } else {
    emit_kinds(&e, &p, most);
  }
  return true;
}
