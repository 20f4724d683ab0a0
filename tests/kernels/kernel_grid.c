// Products of few-bit integers against the graph interpreter, bit for bit: every K = 1..130 x N = 1..70 x M in 1..20,
// 49 and 196, on one CPU row after the other. Compiling costs far more than running, so one module holds the products
// of all M with one K and N; inputs of 1 to 4 or 8 bits are clipped once, each product has weights of its own.
//
//   kernel_grid [--rows NAME,...|here|all] [--every S] [--first I] [--strategy NAME] [--keval]
//
// --every S takes the pairs (K, N) number I, I + S, I + 2 S, ...; --keval runs the kernels in the kernel interpreter,
// for rows that this machine lacks. Widths of weights, levels and strategies (of those that apply, each with its
// cheapest plan) take turns such that every M, K and N meets every pair of widths; the last lines count what ran.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/infer.h"
#include "ir/keval.h"
#include "passes/pass.h"
#include "passes/price.h"
#include "tests/support/run_object.h"

#define MOST_K 130
#define MOST_N 70
#define PIPE_JIT "plan,lower,memplan,expand,unroll"
#define PIPE_KEVAL "plan,lower,unroll"

static const int64_t ms[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 49, 196};
enum { N_MS = sizeof ms / sizeof *ms, MOST_STRATEGIES = 16, WIDTHS = 9 };

// Values lo, lo + step, ..., `count` of them, which take `bits` bits.
typedef struct Levels {
  int64_t lo, step;
  uint32_t count, bits;
} Levels;

static const Levels x_levels[] = {{0, 1, 2, 1},   {0, 1, 4, 2},      {0, 1, 8, 3},  {0, 1, 16, 4},
                                  {0, 1, 256, 8}, {-1, 2, 2, 1},     {-2, 1, 4, 2}, {-4, 1, 8, 3},
                                  {-8, 1, 16, 4}, {-128, 1, 256, 8}, {-1, 1, 3, 2}, {-3, 2, 4, 2}};
static const Levels w_levels[] = {{-1, 2, 2, 1},   {-2, 1, 4, 2},    {-4, 1, 8, 3},     {-8, 1, 16, 4}, {-16, 1, 32, 5},
                                  {-32, 1, 64, 6}, {-64, 1, 128, 7}, {-128, 1, 256, 8}, {0, 1, 2, 1},   {-1, 1, 3, 2},
                                  {-3, 2, 4, 2},   {-7, 2, 8, 3},    {-7, 1, 15, 4}};
enum { N_X = sizeof x_levels / sizeof *x_levels, N_W = sizeof w_levels / sizeof *w_levels };

typedef struct Grid {
  const Target *target;
  bool interpreted;
  const char *strategy;  // that one only, or NULL
  uint32_t every, first;
  uint64_t products, modules, failed;
  uint64_t pairs[WIDTHS][WIDTHS];  // products per bits of weights and inputs
  uint64_t by_strategy[MOST_STRATEGIES];
} Grid;

// One module: products y[i] = x[i] w[i] of ms[i] rows.
typedef struct Batch {
  Arena *arena;
  Module *m;
  Func *f;
  Op *op[N_MS];
  const Levels *w[N_MS];
  const Levels *x;
  int64_t k, n;
  uint64_t seed;
} Batch;

static uint32_t below(Batch *b, uint32_t n) {
  b->seed = b->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(b->seed >> 33) % n;
}

static void must(bool ok, const Batch *b, const char *what) {
  if (ok) return;
  fprintf(stderr, "kernel_grid: K = %lld, N = %lld: %s: %s\n", (long long)b->k, (long long)b->n, what,
          diag_text(b->m->diag));
  exit(1);
}

static Value *emit(Batch *b, OpKind kind, uint32_t n, Value *const *in) {
  Op *op = op_new(b->f, NULL, kind, n, in, NULL);
  must(infer_op(op), b, "types");
  return op_out(op, 0);
}

// ---- building

static DType input_type(const Levels *x) { return x->lo < 0 ? DT_I8 : DT_U8; }

// The argument with those levels only.
static Value *clipped(Batch *b, Value *x) {
  const Levels *l = b->x;
  const Type *one = type_scalar(b->m->types, x->type->dtype);
  if (l->bits == 8) return x;
  Value *lo = const_splat_int(b->m, one, l->lo), *zero = const_splat_int(b->m, one, 0);
  if (l->count == 2) {
    Value *high = emit(b, OP_GREATER, 2, (Value *[]){x, zero});
    return emit(b, OP_SELECT, 3, (Value *[]){high, const_splat_int(b->m, one, l->lo + l->step), lo});
  }
  Value *most = const_splat_int(b->m, one, l->count - 1);
  x = emit(b, OP_CLIP, 3, (Value *[]){x, zero, most});
  if (l->step != 1) x = emit(b, OP_MUL, 2, (Value *[]){x, const_splat_int(b->m, one, l->step)});
  return l->lo != 0 ? emit(b, OP_ADD, 2, (Value *[]){x, lo}) : x;
}

static Value *weights(Batch *b, const Levels *l, bool trans) {
  int64_t dims[2] = {trans ? b->n : b->k, trans ? b->k : b->n};
  const Type *type = type_tensor(b->m->types, DT_I8, 2, dims);
  int8_t *bytes = arena_alloc(b->arena, (size_t)type_bytes(type));
  for (int64_t i = 0; i < type_count(type); i++) bytes[i] = (int8_t)(l->lo + l->step * below(b, l->count));
  return const_bytes(b->m, type, bytes, "w");
}

static Value *biases(Batch *b) {
  const Type *type = type_tensor(b->m->types, DT_I32, 1, &b->n);
  int32_t *at = arena_alloc(b->arena, (size_t)type_bytes(type));
  for (int64_t i = 0; i < b->n; i++) at[i] = (int32_t)below(b, 2000) - 1000;
  return const_bytes(b->m, type, at, "b");
}

// A strategy for integers with its cheapest plan; `turn` says which of those that apply.
static void set_plan(Grid *g, Op *op, uint32_t turn) {
  static const char *const names[] = {"planes", "dot8", "stream", "lut"};
  uint32_t at[MOST_STRATEGIES], n = 0;
  for (uint32_t s = 0; s < strategy_count(); s++)
    for (uint32_t i = 0; i < sizeof names / sizeof *names; i++)
      if (strcmp(strategy_at(s)->name, names[i]) == 0 && strategy_at(s)->applies(op, g->target) &&
          (g->strategy == NULL || strcmp(g->strategy, names[i]) == 0))
        at[n++] = s;
  QCC_CHECK(n > 0, "no strategy for bytes applies");
  Price p = {0};
  strategy_at(at[turn % n])->price(op, g->target, &p);
  op_set_plan(op, &p.plan);
  g->by_strategy[at[turn % n]]++;
}

// Which levels and strategy the product number i of a pair (K, N) has: all of them go around as K, N and i do.
static void add_product(Grid *g, Batch *b, Value *x, uint32_t i, int64_t from) {
  const Type *type = type_tensor(b->m->types, x->type->dtype, 2, (int64_t[]){ms[i], b->k});
  Op *slice = op_new(b->f, NULL, OP_SLICE, 1, &x, NULL);
  op_set_ints(slice, A_SLICE_starts, 2, (int64_t[]){from, 0});
  value_set_type(op_out(slice, 0), type);
  must(infer_op(slice), b, "slice");
  // Few-bit inputs meet weights of at most 4 bits, bytes all of them.
  uint32_t turn = (uint32_t)(b->k / N_X + 3 * b->n + 5 * i), w = turn % N_W;
  if (b->x->bits != 8)
    while (w_levels[w].bits > 4) w = (w + 5) % N_W;
  bool trans = below(b, 2) == 1, biased = below(b, 2) == 1;
  Value *in[3] = {op_out(slice, 0), weights(b, &w_levels[w], trans), biased ? biases(b) : NULL};
  Op *op = b->op[i] = op_new(b->f, NULL, OP_MATMUL, biased ? 3 : 2, in, NULL);
  op_set_int(op, A_MATMUL_trans_b, trans);
  if (below(b, 3) == 0) op_set_int(op, A_MATMUL_x_zero, (int64_t)below(b, 5));
  must(infer_op(op), b, "product");
  b->w[i] = &w_levels[w];
  set_plan(g, op, turn / N_W + below(b, 4));
}

static void build(Grid *g, Batch *b) {
  b->m = module_new(b->arena, diag_new(b->arena, NULL));
  b->m->name = "net";
  int64_t rows = 0, from = 0;
  for (uint32_t i = 0; i < N_MS; i++) rows += ms[i];
  const Type *type = type_tensor(b->m->types, input_type(b->x), 2, (int64_t[]){rows, b->k});
  b->f = func_new(b->m, "net", 1, &type);
  Value *x = clipped(b, b->f->args[0]), *result[N_MS];
  for (uint32_t i = 0; i < N_MS; from += ms[i++]) {
    add_product(g, b, x, i, from);
    result[i] = op_out(b->op[i], 0);
  }
  func_set_results(b->f, N_MS, result);
}

// ---- running

static void compare(Grid *g, const Batch *b, const Tensor *want, void *const *out) {
  for (uint32_t i = 0; i < N_MS; i++) {
    const int32_t *got = out[i], *ref = want[i].data;
    g->products++;
    g->pairs[b->w[i]->bits][b->x->bits]++;
    int64_t count = type_count(want[i].type), at = 0;
    while (at < count && got[at] == ref[at]) at++;
    if (at == count) continue;
    g->failed++;
    printf("FAIL %s: M = %lld, K = %lld, N = %lld, x %lld + %lld i, w %lld + %lld i, %s: element %lld is %d, not %d\n",
           g->target->name, (long long)ms[i], (long long)b->k, (long long)b->n, (long long)b->x->lo,
           (long long)b->x->step, (long long)b->w[i]->lo, (long long)b->w[i]->step, op_plan(b->op[i])->strategy,
           (long long)at, got[at], ref[at]);
  }
}

static bool run_batch(const Grid *g, Batch *b, const void *const *in, void *const *out) {
  PassOptions opt = pass_options_default();
  RunOptions runner = {0};
  if (!pipeline_run(b->m, g->target, g->interpreted ? PIPE_KEVAL : PIPE_JIT, &opt, &runner, b->arena, NULL))
    return false;
  return g->interpreted ? keval_program(b->m->program, in, out) : run_object(b->m, g->target, NULL, in, out);
}

static void run_pair(Grid *g, int64_t k, int64_t n) {
  Batch b = {.arena = arena_new("batch"), .k = k, .n = n, .seed = (uint64_t)(k * 1000 + n), .x = NULL};
  b.x = &x_levels[(k + 5 * n) % N_X];
  build(g, &b);
  const Type *type = b.f->args[0]->type;
  Tensor x = tensor_new(b.arena, type), want[N_MS];
  uint32_t most = below(&b, 2) ? 256 : 18;  // any bytes, or close to the levels
  for (int64_t i = 0; i < type_count(type); i++) elem_set_i(x.data, type->dtype, i, (int64_t)below(&b, most));
  must(eval_func(b.f, &x, want, b.arena, NULL, NULL), &b, "interpreter");
  void *out[N_MS];
  for (uint32_t i = 0; i < N_MS; i++) {
    out[i] = arena_alloc(b.arena, (size_t)type_bytes(want[i].type) + 64);
    memset(out[i], 0x5a, (size_t)type_bytes(want[i].type));
  }
  const void *in[1] = {x.data};
  if (run_batch(g, &b, in, out)) {
    compare(g, &b, want, out);
  } else {
    printf("FAIL %s: K = %lld, N = %lld: %s\n", g->target->name, (long long)k, (long long)n, diag_text(b.m->diag));
    fflush(stdout);
    g->failed++;
  }
  g->modules++;
  arena_free(b.arena);
}

static void print_counts(const Grid *g) {
  printf("%s%s: %llu products in %llu modules, %llu wrong\n", g->target->name, g->interpreted ? " (interpreted)" : "",
         (unsigned long long)g->products, (unsigned long long)g->modules, (unsigned long long)g->failed);
  for (uint32_t x = 1; x < WIDTHS; x++)
    for (uint32_t w = 1; w < WIDTHS; w++)
      if (g->pairs[w][x]) printf("  W%uA%u %llu", w, x, (unsigned long long)g->pairs[w][x]);
  printf("\n");
  for (uint32_t s = 0; s < strategy_count(); s++)
    if (g->by_strategy[s]) printf("  %s %llu", strategy_at(s)->name, (unsigned long long)g->by_strategy[s]);
  printf("\n");
  fflush(stdout);
}

static uint64_t run_grid(Grid *g) {
  uint32_t number = 0;
  for (int64_t k = 1; k <= MOST_K; k++)
    for (int64_t n = 1; n <= MOST_N; n++, number++)
      if (number % g->every == g->first) run_pair(g, k, n);
  print_counts(g);
  return g->failed;
}

static bool names_row(const char *list, const Target *t) {
  size_t n = strlen(t->name);
  if (strcmp(list, "all") == 0) return true;
  if (strcmp(list, "here") == 0) return target_runs_here(t);
  for (const char *p = list; p != NULL; p = strchr(p, ','), p += p != NULL)
    if (strncmp(p, t->name, n) == 0 && (p[n] == 0 || p[n] == ',')) return true;
  return false;
}

int main(int argc, char **argv) {
  const char *rows = target_native()->name, *strategy = NULL;
  bool interpreted = false;
  uint32_t every = 1, first = 0;
  uint64_t failed = 0, grids = 0;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--keval") == 0) interpreted = true;
    if (i + 1 == argc) break;
    if (strcmp(argv[i], "--rows") == 0) rows = argv[++i];
    if (strcmp(argv[i], "--strategy") == 0) strategy = argv[++i];
    if (strcmp(argv[i], "--every") == 0) every = (uint32_t)strtoul(argv[++i], NULL, 10);
    if (strcmp(argv[i], "--first") == 0) first = (uint32_t)strtoul(argv[++i], NULL, 10);
  }
  for (uint32_t i = 0; i < target_count(); i++) {
    const Target *t = target_at(i);
    if (!names_row(rows, t) || (!interpreted && !target_runs_here(t))) continue;
    Grid g = {
        .target = t, .interpreted = interpreted, .strategy = strategy, .every = every ? every : 1, .first = first};
    failed += run_grid(&g);
    grids++;
  }
  if (grids == 0) fprintf(stderr, "kernel_grid: no such row runs here\n");
  return failed > 0 || grids == 0;
}
