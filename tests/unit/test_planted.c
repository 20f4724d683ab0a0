// Layers that were multiplied out are found again. Those above 2^20 weights go without a copy in double: low rank and
// trains of several shapes, weights stored either way, against the products they were made of; weights with noise stay.
#include "passes/compress/planted.h"
#include "tests/unit/contract_case.h"

typedef struct Plant {
  int64_t in, out;
  uint32_t d;                // 1: low rank
  int64_t n[5], m[5], r[6];  // modes, and ranks around them; low rank: r[1]
  bool trans;
  float noise;
} Plant;

static double uniform(Case *c) { return (double)rnd(c, 1u << 20) / (1 << 19) - 1; }

static double *random_core(Case *c, int64_t n) {
  double *w = NEW_ARRAY(c->arena, double, n);
  for (int64_t i = 0; i < n; i++) w[i] = uniform(c);
  return w;
}

// in x out.
static double *weights_of(Case *c, const Plant *p) {
  double *w = NEW_ARRAY(c->arena, double, p->in * p->out);
  if (p->d == 1) {
    matrix_mul(p->in, p->out, p->r[1], random_core(c, p->in * p->r[1]), random_core(c, p->r[1] * p->out), w);
    return w;
  }
  Train t = {.d = p->d};
  int64_t dims[10];
  uint32_t perm[10];
  double *paired = NEW_ARRAY(c->arena, double, p->in * p->out);
  memcpy(t.r, p->r, (p->d + 1) * sizeof *p->r);
  for (uint32_t k = 0; k < p->d; k++) {
    t.n[k] = p->n[k] * p->m[k];
    t.core[k] = random_core(c, t.r[k] * t.n[k] * t.r[k + 1]);
    dims[2 * k] = p->n[k];
    dims[2 * k + 1] = p->m[k];
    perm[k] = 2 * k;
    perm[p->d + k] = 2 * k + 1;
  }
  train_tensor(&t, paired, c->arena);
  tensor_permute(2 * p->d, dims, perm, paired, w);
  return w;
}

static Case build(const Plant *p, double **w) {
  Case c = case_new(7, DT_F32, 2, (int64_t[]){2, p->in});
  const Type *type =
      type_tensor(c.m->types, DT_F32, 2, p->trans ? (int64_t[]){p->out, p->in} : (int64_t[]){p->in, p->out});
  float *stored = arena_alloc(c.arena, (size_t)(p->in * p->out) * sizeof *stored);
  *w = weights_of(&c, p);
  for (int64_t i = 0; i < p->in; i++)
    for (int64_t o = 0; o < p->out; o++) {
      float v = (float)(*w)[i * p->out + o];
      if (p->noise > 0) v += p->noise * (float)uniform(&c);
      stored[p->trans ? o * p->in + i : i * p->out + o] = v;
    }
  c.op = op_new(c.f, NULL, OP_MATMUL, 2, (Value *[]){c.f->args[0], const_bytes(c.m, type, stored, "w")}, NULL);
  if (p->trans) op_set_int(c.op, A_MATMUL_trans_b, true);
  cr_assert(infer_op(c.op));
  func_set_results(c.f, 1, &c.op->out[0]);
  PassOptions opt = pass_options_default();
  RunOptions runner = {.verify_each = true};
  cr_assert(pipeline_run(c.m, target_by_name("zen4"), "planted", &opt, &runner, c.arena, NULL));
  return c;
}

// Constants that are left, which are the factors.
static int64_t parameters(const Case *c) {
  int64_t n = 0;
  for (const Op *op = c->f->first; op != NULL; op = op->next)
    if (op->kind == OP_MATMUL) n += type_count(op_in(op, 1)->type);
  return n;
}

static void check(const Plant *p, int64_t want) {
  double *w;
  Case c = build(p, &w);
  Tensor x = tensor_new(c.arena, c.f->args[0]->type), y;
  cr_assert(parameters(&c) == want, "%lld parameters instead of %lld", (long long)parameters(&c), (long long)want);
  double *of = NEW_ARRAY(c.arena, double, 2 * p->in), *expected = NEW_ARRAY(c.arena, double, 2 * p->out);
  double norm = 0, off = 0;
  for (int64_t i = 0; i < 2 * p->in; i++) elem_set_f(x.data, DT_F32, i, of[i] = (float)uniform(&c));
  matrix_mul(2, p->out, p->in, of, w, expected);
  cr_assert(eval_func(c.f, &x, &y, c.arena, NULL, NULL));
  for (int64_t i = 0; i < 2 * p->out; i++) {
    double e = elem_get_f(y.data, DT_F32, i) - expected[i];
    off += e * e;
    norm += expected[i] * expected[i];
  }
  cr_assert(sqrt(off / norm) < 2e-6, "off by %g", sqrt(off / norm));
  arena_free(c.arena);
}

Test(planted, large_low_rank) {
  static const Plant of[] = {{.in = 1024, .out = 1031, .d = 1, .r = {1, 1, 1}},
                             {.in = 1031, .out = 1021, .d = 1, .r = {1, 60, 1}, .trans = true},
                             {.in = 8192, .out = 130, .d = 1, .r = {1, 7, 1}}};
  for (size_t i = 0; i < sizeof of / sizeof *of; i++) check(&of[i], of[i].r[1] * (of[i].in + of[i].out));
}

Test(planted, large_trains) {
  static const Plant of[] = {
      {.in = 1024, .out = 1040, .d = 3, .n = {8, 16, 8}, .m = {8, 10, 13}, .r = {1, 5, 3, 1}},
      {.in = 1040, .out = 1024, .d = 4, .n = {4, 13, 5, 4}, .m = {4, 8, 8, 4}, .r = {1, 3, 6, 2, 1}, .trans = true},
      {.in = 1024, .out = 1200, .d = 2, .n = {32, 32}, .m = {30, 40}, .r = {1, 3, 1}}};
  for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
    int64_t want = 0;
    for (uint32_t k = 0; k < of[i].d; k++) want += of[i].r[k] * of[i].n[k] * of[i].m[k] * of[i].r[k + 1];
    check(&of[i], want);
  }
}

// Of low rank but for noise well above rounding; of full rank; of a rank that does not pay.
Test(planted, large_that_stay) {
  static const Plant of[] = {
      {.in = 1024, .out = 1031, .d = 1, .r = {1, 9, 1}, .noise = 1e-3f},
      {.in = 1024, .out = 1031, .d = 1, .r = {1, 9, 1}, .noise = 1e-5f},
      {.in = 1024, .out = 1040, .d = 3, .n = {8, 16, 8}, .m = {8, 10, 13}, .r = {1, 5, 3, 1}, .noise = 1e-4f},
      {.in = 4096, .out = 257, .d = 1, .r = {1, 250, 1}}};
  for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
    double *w;
    Case c = build(&of[i], &w);
    cr_assert(parameters(&c) == of[i].in * of[i].out && c.f->first->next == NULL, "layer %zu", i);
    arena_free(c.arena);
  }
}
