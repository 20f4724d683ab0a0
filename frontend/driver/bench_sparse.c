// qcc bench --suite=sparse: weights with zeros, from none to nearly all, against panels of all weights (S47). Also the
// rate of products by non-zeros for --calibrate.
//
//   conv1x1-256x28: dense 455.1 us
//    zeros   sparse us   x dense     code us   x dense   of roof
//     50 %       325.0      1.40           -         -         -
//   sparse wins from 33 % zeros (reckoned: 29 %)
#include <math.h>
#include <string.h>

#include "frontend/driver/bench.h"
#include "passes/price.h"

#define LAYER "layer"

typedef struct SparseShape {
  const char *name;
  int64_t n, size, k, rows;  // channels in and out; of a convolution: pixels along a side, kernel; of a product: rows
  bool bytes;                // u8 times i8, channels last; else floats
} SparseShape;

static const SparseShape shapes[] = {
    {"conv1x1-256x28", 256, 28, 1, 0, false},   {"conv1x1-512x7", 512, 7, 1, 0, false},
    {"conv3x3-256x14", 256, 14, 3, 0, false},   {"conv3x3-64x56", 64, 56, 3, 0, false},
    {"matmul-768-m128", 768, 0, 0, 128, false}, {"gemv-1024", 1024, 0, 0, 1, false},
    {"gemv-4096", 4096, 0, 0, 1, false},        {"bytes1x1-256x28", 256, 28, 1, 0, true},
    {"bytes3x3-256x14", 256, 14, 3, 0, true},   {"bytes-768-m128", 768, 0, 0, 128, true}};
static const uint32_t percents[] = {0, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99};
static const char *const by_zeros[] = {"sparse", "code"};
enum { N_SHAPES = sizeof shapes / sizeof *shapes, N_PERCENTS = sizeof percents / sizeof *percents, N_BY_ZEROS = 2 };

static const char *panels_of(const SparseShape *s) { return s->bytes ? "dot8" : "fma"; }

static const char *shape_text(Arena *a, const SparseShape *s, uint32_t zeros, bool last) {
  long long n = s->n, size = s->size, k = s->k, pad = s->k / 2, rows = s->rows;
  const char *wt = s->bytes ? "i8" : "f32", *xt = s->bytes ? "u8" : "f32", *yt = s->bytes ? "i32" : "f32";
  const char *w = zeros > 0 ? arena_printf(a, "rand(1, %u)", zeros) : "rand(1)";
  if (s->rows > 0)
    return arena_printf(a,
                        "const @w: %s[%lld,%lld] = %s\nfunc @f(%%x: %s[%lld,%lld]) -> %s[%lld,%lld] {\n"
                        "  %%0 = matmul %%x, @w : %s[%lld,%lld]  loc(\"" LAYER "\")\n  return %%0\n}\n",
                        wt, n, n, w, xt, rows, n, yt, rows, n, yt, rows, n);
  last |= s->bytes;
  const char *wd =
      last ? arena_printf(a, "%lld,%lld,%lld,%lld", k, k, n, n) : arena_printf(a, "%lld,%lld,%lld,%lld", n, n, k, k);
  const char *xd =
      last ? arena_printf(a, "1,%lld,%lld,%lld", size, size, n) : arena_printf(a, "1,%lld,%lld,%lld", n, size, size);
  return arena_printf(a,
                      "const @w: %s[%s] = %s\nfunc @f(%%x: %s[%s]) -> %s[%s] {\n"
                      "  %%0 = conv %%x, @w {pads = [%lld,%lld,%lld,%lld]%s} : %s[%s]  loc(\"" LAYER
                      "\")\n  return %%0\n}\n",
                      wt, wd, w, xt, xd, yt, xd, pad, pad, pad, pad, last ? ", layout = nhwc" : "", yt, xd);
}

typedef struct ByZeros {
  const Target *t;
  const Strategy *strategy;
  double *even;  // share of zeros from which the price says it wins; negative: unknown
} ByZeros;

static void set_plan(Module *m, const void *ctx) {
  const ByZeros *by = ctx;
  for (Op *op = m->funcs.at[0]->first; op; op = op->next) {
    Price p;
    double zeros;
    if ((op->kind != OP_CONV && op->kind != OP_MATMUL) || !by->strategy->applies(op, by->t)) continue;
    by->strategy->price(op, by->t, &p);
    op_set_plan(op, &p.plan);
    if (!price_break_even(op, by->t, &zeros, by->even)) *by->even = -1;
  }
}

static const Strategy *strategy_named(const char *name) {
  for (uint32_t i = 0; i < strategy_count(); i++)
    if (strcmp(strategy_at(i)->name, name) == 0) return strategy_at(i);
  return NULL;
}

// The layer and the float roof in turns; `share`: of the roof that the multiply-adds of the layer come to.
static double layer_and_roof(const Bench *b, const Target *t, const Bench *roof, double *share) {
  enum { TURNS = 3 };
  double seconds = INFINITY, rate = 0, macs = 0;
  for (int i = 0; i < TURNS; i++) {
    rate = fmax(rate, roof_fma_now(roof, t));
    seconds = fmin(seconds, bench_layer(b, LAYER));
  }
  for (uint32_t i = 0; i < b->s.m->program->steps.n; i++) macs += b->s.m->program->steps.at[i].macs;
  *share = macs / seconds / (rate * t->vector_bits / 32);
  return seconds;
}

// Seconds of the layer; 0: the strategy does not apply. With a roof, also the share of it.
static double seconds_of(const Session *s, const SparseShape *shape, uint32_t zeros, const char *strategy, double *even,
                         const Bench *roof, double *share) {
  ByZeros by = {s->target, strategy_named(strategy), even};
  bool dense = strcmp(strategy, panels_of(shape)) == 0;
  if (by.strategy == NULL) return 0;
  Bench b;
  BenchSpec spec = {.text = shape_text(s->arena, shape, zeros, dense), .strategy = dense ? strategy : NULL};
  if (!dense) {
    spec.edit = set_plan;
    spec.ctx = &by;
  }
  double seconds = 0;
  if (bench_open(&b, s, &spec) && strcmp(bench_strategy(&b, LAYER), strategy) == 0)
    seconds = roof != NULL ? layer_and_roof(&b, s->target, roof, share) : bench_layer(&b, LAYER);
  bench_close(&b);
  return seconds;
}

// The share of zeros where the times cross `dense`, on a line between neighbouring points; negative: nowhere.
static double crossing(const double *seconds, double dense) {
  for (uint32_t i = N_PERCENTS; i-- > 1;) {
    if (seconds[i] <= 0 || seconds[i] > dense) return -1;
    if (seconds[i - 1] <= dense && seconds[i - 1] > 0) continue;
    if (seconds[i - 1] <= 0) return percents[i];
    return percents[i] - (percents[i] - percents[i - 1]) * (dense - seconds[i]) / (seconds[i - 1] - seconds[i]);
  }
  return 0;
}

static void shape_sweep(const Session *s, const SparseShape *shape, const Bench *roof) {
  double even[N_BY_ZEROS] = {-1, -1}, seconds[N_BY_ZEROS][N_PERCENTS];
  double dense = seconds_of(s, shape, 0, panels_of(shape), even, NULL, NULL);
  printf("\n%s: dense %.2f us\n%7s %11s %9s %11s %9s %9s\n", shape->name, 1e6 * dense, "zeros", "sparse us", "x dense",
         "code us", "x dense", "of roof");
  for (uint32_t i = 0; i < N_PERCENTS; i++) {
    printf("%5u %%", percents[i]);
    double share = 0;
    for (uint32_t k = 0; k < N_BY_ZEROS; k++) {
      double t = seconds[k][i] =
          seconds_of(s, shape, percents[i], by_zeros[k], &even[k], k > 0 && !shape->bytes ? roof : NULL, &share);
      if (t > 0) printf(" %11.2f %9.2f", 1e6 * t, dense / t);
      if (t <= 0) printf(" %11s %9s", "-", "-");
    }
    if (share > 0) printf(" %7.0f %%", 100 * share);
    printf("\n");
    fflush(stdout);
  }
  for (uint32_t k = 0; k < N_BY_ZEROS; k++) {
    double at = crossing(seconds[k], dense);
    if (at < 0) continue;
    printf("%s wins from %.0f %% zeros", by_zeros[k], at);
    if (k == 0 && even[0] >= 0) printf(" (reckoned: %.0f %%)", 100 * even[0]);
    printf("\n");
  }
}

void bench_sparse(const Session *s, const char *only) {
  Bench roof;
  bool ok = roof_open(s, &roof);
  for (uint32_t i = 0; ok && i < N_SHAPES; i++)
    if (strstr(shapes[i].name, only)) shape_sweep(s, &shapes[i], &roof);
  bench_close(&roof);
}

// ---- calibration

static void set_tile(Module *m, const void *ctx) {
  const Op *op = m->funcs.at[0]->first;
  const int64_t *v = ctx;
  Plan plan = {.strategy = intern(m->names, "sparse"), .n = 2};
  plan.param[0].name = intern(m->names, "v");
  plan.param[0].value = *v;
  plan.param[1].name = intern(m->names, "channels");
  plan.param[1].value = 64;
  op_set_plan((Op *)op, &plan);
}

// Two densities of one layer: what lies between them are entries only. An entry loads v vectors, a weight, a place.
double bench_sparse_loads(const Session *s, const Roofs *r) {
  enum { V = 7, FEW = 40, MANY = 80 };
  const SparseShape shape = {"", 256, 28, 1, 0, false};
  const int64_t v = V;
  double seconds[2] = {0};
  for (int i = 0; i < 2; i++) {
    Bench b;
    BenchSpec spec = {.text = shape_text(s->arena, &shape, i == 0 ? FEW : MANY, false), .edit = set_tile, .ctx = &v};
    if (bench_open(&b, s, &spec)) seconds[i] = bench_layer(&b, LAYER);
    bench_close(&b);
  }
  double tiles = 28.0 * 28 / (V * target_lanes(s->target, 32)), entries = 256.0 * 256 * (MANY - FEW) / 100 * tiles;
  double cycles = (seconds[0] - seconds[1]) * r->hz / entries;
  return cycles > 0 ? (V + 2) / cycles : 0;
}

// Halves the shares of zeros until two neighbours are left, one of which is slower than dense and one is not.
static double measured_even(const Session *s, const SparseShape *shape, double *reckoned) {
  double dense = seconds_of(s, shape, 0, panels_of(shape), reckoned, NULL, NULL), seconds[N_PERCENTS] = {0};
  uint32_t lo = 0, hi = N_PERCENTS - 1;
  seconds[lo] = seconds_of(s, shape, percents[lo + 1], "sparse", reckoned, NULL, NULL);
  if (seconds[lo] > 0 && seconds[lo] <= dense) return percents[lo + 1];
  while (hi - lo > 1) {
    uint32_t mid = (lo + hi) / 2;
    double t = seconds[mid] = seconds_of(s, shape, percents[mid], "sparse", reckoned, NULL, NULL);
    if (t > 0 && t <= dense) {
      hi = mid;
    } else {
      lo = mid;
    }
  }
  if (seconds[hi] <= 0 || seconds[lo] <= seconds[hi]) return percents[hi];
  return percents[hi] - (percents[hi] - percents[lo]) * (dense - seconds[hi]) / (seconds[lo] - seconds[hi]);
}

void bench_break_evens(const Session *s) {
  printf("// zeros from which non-zeros alone are faster, measured (reckoned):");
  for (uint32_t i = 0; i < N_SHAPES; i++) {
    if (shapes[i].n > 1024 || shapes[i].bytes) continue;
    double reckoned = -1, at = measured_even(s, &shapes[i], &reckoned);
    printf("%s %s %.0f %% (%.0f %%)", i > 0 ? "," : "", shapes[i].name, at, 100 * reckoned);
    fflush(stdout);
  }
  printf("\n");
}
