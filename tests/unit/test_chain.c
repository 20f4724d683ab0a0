// Factorised layers: the lowering of `chain` against the graph interpreter for random forms (tensor trains, Kronecker
// sums, canonical forms; odd and prime extents, batches, forced orders), and the orders the planner finds.
#include "passes/price.h"
#include "passes/structure/chain_price.h"
#include "tests/unit/lower_case.h"

// A chain in text: the equation, its sizes and the constants.
typedef struct Text {
  char equation[256], sizes[256], consts[1024], names[128];
  int64_t x, y;
} Text;

static void put_letter(Text *t, const char *name, int64_t size) {
  size_t n = strlen(t->equation);
  t->equation[n] = *name;
  t->equation[n + 1] = 0;
  if (size > 0) snprintf(t->sizes + strlen(t->sizes), 24, "%s%lld", *t->sizes ? "," : "", (long long)size);
}

static void put_core(Text *t, uint32_t i, int64_t count) {
  snprintf(t->consts + strlen(t->consts), 64, "const @g%u: f32[%lld] = rand(%u)\n", i, (long long)count, i + 1);
  snprintf(t->names + strlen(t->names), 16, ", @g%u", i);
}

static int64_t pick(const int64_t *of, uint32_t n) { return of[lower_rnd(n)]; }

// x[batch, n1 .. nd] with d cores [r, m, n, r'].
static Text train(uint32_t d, int64_t batch) {
  static const int64_t modes[] = {1, 2, 3, 4, 5, 7, 8, 13}, ranks[] = {1, 2, 3, 4, 6};
  Text t = {.x = batch, .y = batch};
  int64_t n[8], m[8], r[9];
  char ln[8], lm[8], lr[9], next = 'a', nb = 'Z';
  for (uint32_t i = 0; i < d; i++) n[i] = pick(modes, 8), m[i] = pick(modes, 8), r[i + 1] = pick(ranks, 5);
  if (batch > 0) put_letter(&t, &nb, batch);
  for (uint32_t i = 0; i < d; i++) ln[i] = next++, put_letter(&t, &ln[i], n[i]), t.x *= n[i], t.y *= m[i];
  for (uint32_t i = 0; i < d; i++) {
    strcat(t.equation, ",");
    if (i > 0) put_letter(&t, &lr[i], 0);
    put_letter(&t, &ln[i], 0);
    lm[i] = next++;
    put_letter(&t, &lm[i], m[i]);
    if (i + 1 < d) lr[i + 1] = next++, put_letter(&t, &lr[i + 1], r[i + 1]);
    put_core(&t, i, (i > 0 ? r[i] : 1) * n[i] * m[i] * (i + 1 < d ? r[i + 1] : 1));
  }
  strcat(t.equation, batch > 0 ? "->Z" : "->");
  for (uint32_t i = 0; i < d; i++) put_letter(&t, &lm[i], 0);
  return t;
}

static void check_text(const Text *t, const char *attrs, const char *more) {
  lower_case((Check){.ulps = 4000, .extra = fmt("%s%s", t->consts, more)}, fmt("%%x: f32[%lld]", (long long)t->x),
             fmt("f32[%lld]", (long long)t->y),
             fmt("%%r0 = chain %%x%s {equation = \"%s\", sizes = [%s]%s} : f32[%lld]", t->names, t->equation, t->sizes,
                 attrs, (long long)t->y));
}

Test(chain, random_trains) {
  for (uint32_t seed = 0; seed < 24; seed++) {
    lower_state = 77 + seed;
    uint32_t d = 1 + lower_rnd(4);
    Text t = train(d, seed % 3 == 0 ? 1 + (int64_t)lower_rnd(6) : 1);
    check_text(&t, "", "");
  }
}

// Every order and merge of three cores, with and without shared loops.
Test(chain, every_order_of_three_cores) {
  static const char *const plans[] = {
      "s1 = 123",
      "s1 = 12, s2 = 3",
      "s1 = 3, s2 = 12",
      "s1 = 1, s2 = 23",
      "s1 = 23, s2 = 1",
      "s1 = 2, s2 = 13",
      "s1 = 13, s2 = 2",
      "s1 = 1, s2 = 2, s3 = 3",
      "s1 = 3, s2 = 2, s3 = 1",
      "s1 = 2, s2 = 1, s3 = 3",
      "s1 = 1, s2 = 3, s3 = 2",
  };
  for (uint32_t i = 0; i < sizeof plans / sizeof *plans; i++) {
    lower_state = 5 + i / 4;
    Text t = train(3, 3);
    for (uint32_t fuse = 0; fuse < 3; fuse++) check_text(&t, fmt(", plan = chain(%s, fuse = %u)", plans[i], fuse), "");
  }
}

// Sums of Kronecker products, a canonical form (a letter of both cores that stays), a matrix that is no vector wide,
// results with axes moved, one core.
Test(chain, other_forms) {
  static const char *const cases[][4] = {
      {"ab,cda,cbe->de", "14,56,3,13,15", "546", "2520"},
      {"ab,ca,db->cd", "13,28,7,33", "91", "924"},
      {"ab,cab,db->dc", "6,20,5,17", "600", "340"},
      {"nab,ra,rb,cr->nc", "3,5,7,4,9", "20", "28"},
      {"abc,bd,ce->aed", "3,4,35,2,5", "8", "175"},
      {"ab,ac->cb", "12,40,5", "60", "60"},
      {"ab,ac->cb", "9,7,3", "27", "27"},
  };
  static const int64_t x[] = {784, 364, 120, 105, 420, 480, 63}, y[] = {195, 231, 85, 27, 30, 200, 21};
  for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint32_t cores = 0;
    Text t = {.x = x[i], .y = y[i]};
    snprintf(t.equation, sizeof t.equation, "%s", cases[i][0]);
    snprintf(t.sizes, sizeof t.sizes, "%s", cases[i][1]);
    for (const char *p = cases[i][0]; *p; p++) cores += *p == ',';
    for (uint32_t c = 0; c < cores && c < 2; c++) put_core(&t, c, atoll(cases[i][2 + c]));
    if (cores == 3) put_core(&t, 2, 36);
    check_text(&t, "", "");
  }
}

// The bias and activation behind a chain, by axes of the result; half floats, doubles.
Test(chain, post_and_types) {
  static const char *const types[] = {"f32", "f64", "f16"};
  static const double ulps[] = {4000, 4000, 40};
  for (uint32_t i = 0; i < 3; i++) {
    const char *t = types[i];
    lower_case(
        (Check){.ulps = ulps[i],
                .extra = fmt("const @a: %s[13,14] = rand(1)\nconst @b: %s[15,56] = rand(2)\n"
                             "func @post(%%0: %s[], %%1: %s[], %%2: %s[]) -> %s[] {\n  %%3 = add %%0, %%1 : %s[]\n"
                             "  %%4 = relu %%3 : %s[]\n  %%5 = add %%4, %%2 : %s[]\n  return %%5\n}\n",
                             t, t, t, t, t, t, t, t, t)},
        fmt("%%x: %s[2,14,56], %%bias: %s[15], %%skip: %s[2,13,1]", t, t, t), fmt("%s[2,13,15]", t),
        fmt("%%r0 = chain %%x, @a, @b, _, _, _, _, _, _, %%bias, %%skip {equation = \"nab,ca,db->ncd\", sizes = "
            "[2,14,56,13,15], post = @post} : %s[2,13,15]",
            t));
  }
}

static void plan_steps(const char *equation, uint32_t n, const int64_t *sizes, uint32_t cores, const int64_t *counts,
                       const int64_t *want, double macs) {
  Arena *arena = arena_new("plan");
  Module *m = module_new(arena, diag_new(arena, NULL));
  Value *in[9];
  int64_t x = 1, y = 1;
  for (const char *p = equation; *p != ','; p++) x *= sizes[*p - 'a'];
  for (const char *p = strchr(equation, '>') + 1; *p; p++) y *= sizes[*p - 'a'];
  const Type *xt = type_tensor(m->types, DT_F32, 1, &x);
  Func *f = func_new(m, "f", 1, &xt);
  in[0] = f->args[0];
  for (uint32_t i = 0; i < cores; i++) in[i + 1] = const_splat(m, type_tensor(m->types, DT_F32, 1, &counts[i]), 1);
  Op *op = op_new(f, NULL, OP_CHAIN, cores + 1, in, NULL);
  op_set_str(op, A_CHAIN_equation, equation);
  op_set_ints(op, A_CHAIN_sizes, n, sizes);
  op->out[0]->type = type_tensor(m->types, DT_F32, 1, &y);
  Plan plan = plan_choose(op, &lower_wide);
  static const char *const name[] = {"s1", "s2", "s3", "s4", "s5"};
  for (uint32_t i = 0; i < 5; i++)
    cr_expect_eq(plan_param(&plan, name[i], 0), want[i], "%s: step %u is %lld", equation, i + 1,
                 (long long)plan_param(&plan, name[i], 0));
  ChainForm form;
  ChainPlan p;
  cr_assert(chain_of_plan(op, &lower_wide, &plan, &form, &p));
  cr_expect_float_eq(p.macs, macs, 0.5, "%s: %.0f products", equation, p.macs);
  arena_free(arena);
}

// Orders that are known to be best: the layer of VGG-16 with ranks 4 (3,211,264 products), Kronecker factors.
Test(chain, known_orders) {
  plan_steps("abcdef,agh,hbij,jckl,ldmn,neop,pfq->gikmoq", 17,
             (int64_t[]){2, 7, 8, 8, 7, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4}, 6, (int64_t[]){32, 448, 512, 512, 448, 64},
             (int64_t[]){56, 4, 3, 12, 0}, 3211264);
  plan_steps("ab,ca,db->cd", 4, (int64_t[]){196, 128, 64, 64}, 2, (int64_t[]){12544, 8192}, (int64_t[]){1, 2, 0, 0, 0},
             2129920);
}
