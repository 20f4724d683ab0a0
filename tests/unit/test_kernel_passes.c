// Random kernels through the kernel passes: the interpreter gives the same bits before and after, and compiled code
// gives the bits of the interpreter. The kernels read and write the same buffers, so a vec loop that lanes may not run,
// a load moved too far or a cut in the wrong place shows.
#include <criterion/criterion.h>
#include <string.h>

#include "ir/kbuild.h"
#include "ir/keval.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "passes/pass.h"
#include "tests/support/emit_case.h"

#define ROWS 6
#define COLS 40
#define KERNELS 40
#define MODULES 3

typedef struct Known {
  KVar *var;
  int64_t max;  // values 0..max
} Known;

typedef struct Random {
  KBuild b;
  uint64_t state;
  KBuf *x, *z, *o, *q;  // f32 in, i32 in (0..7), f32 and i32 out
  Known index[32];
  uint32_t n_index;
  KVar *value[32];  // f32 lets in scope
  uint32_t n_value;
  bool in_vec;
  int budget;
} Random;

static uint32_t pick(Random *r, uint32_t n) {
  r->state ^= r->state << 13;
  r->state ^= r->state >> 7;
  r->state ^= r->state << 17;
  return (uint32_t)(r->state >> 33) % n;
}

// An index below `size`: a constant, or coefficient * variable + constant, or a gathered place.
static Affine random_index(Random *r, int64_t size) {
  if (r->n_index && pick(r, 5)) {
    Known k = r->index[pick(r, 2) ? r->n_index - 1 : pick(r, r->n_index)];
    int64_t coef = pick(r, 4) ? 1 : 2;
    int64_t room = size - 1 - coef * k.max;
    if (room >= 0) return aff_plus(aff_term(k.var, coef), pick(r, 3) ? 0 : pick(r, (uint32_t)room + 1));
  }
  return aff(pick(r, (uint32_t)size));
}

static KExpr *random_load(Random *r) {
  Affine at[2] = {random_index(r, ROWS), random_index(r, COLS)};
  return kx_load(&r->b, pick(r, 2) ? r->x : r->o, at);
}

static KExpr *random_cond(Random *r, int depth);

static KExpr *random_expr(Random *r, int depth) {
  static const KOp binary[] = {KOP_ADD, KOP_SUB, KOP_MUL, KOP_MAX, KOP_MIN};
  switch (depth > 0 ? pick(r, 8) : pick(r, 3)) {
    case 0: return random_load(r);
    case 1: return r->n_value ? kx_var(&r->b, r->value[pick(r, r->n_value)]) : random_load(r);
    case 2: return kx_f(&r->b, DT_F32, (double)pick(r, 7) / 2 - 1);
    case 3: return kx_op1(&r->b, pick(r, 2) ? KOP_NEG : KOP_ABS, random_expr(r, depth - 1));
    case 4: {
      KExpr *c = random_cond(r, depth - 1), *yes = random_expr(r, depth - 1);
      return kx_op3(&r->b, KOP_SELECT, c, yes, random_expr(r, depth - 1));
    }
    default: {
      KExpr *a = random_expr(r, depth - 1);
      return kx_op2(&r->b, binary[pick(r, 5)], a, random_expr(r, depth - 1));
    }
  }
}

static KExpr *random_cond(Random *r, int depth) {
  KExpr *a = random_expr(r, depth > 0 ? depth : 0);
  return kx_op2(&r->b, pick(r, 2) ? KOP_LT : KOP_GE, a, random_expr(r, 0));
}

static void random_block(Random *r, int depth);

static void random_loop(Random *r, int depth) {
  static const int64_t extents[] = {1, 2, 3, 5, 6, 20, 33, 40};
  static const KForKind kinds[] = {FOR_SEQ, FOR_VEC, FOR_VEC, FOR_UNROLL};
  KForKind kind = kinds[pick(r, 4)];
  if (kind == FOR_VEC && r->in_vec) kind = FOR_SEQ;
  int64_t extent = extents[pick(r, kind == FOR_UNROLL ? 4 : 8)], lo = pick(r, 4) ? 0 : pick(r, (uint32_t)extent);
  KVar *v = kb_for(&r->b, "i", lo, extent, pick(r, 4) ? 1 : 2, kind);
  bool was = r->in_vec;
  r->in_vec |= kind == FOR_VEC;
  r->index[r->n_index++] = (Known){v, extent - 1};
  random_block(r, depth - 1);
  r->n_index--;
  r->in_vec = was;
  kb_end(&r->b);
}

static void random_stmt(Random *r, int depth) {
  Affine at[2] = {random_index(r, ROWS), random_index(r, COLS)};
  switch (pick(r, depth > 0 ? 10 : 6)) {
    case 0:
      if (r->n_value < 30) r->value[r->n_value++] = kb_let(&r->b, "v", random_expr(r, 2));
      break;
    case 1:
      if (r->n_index < 20) {
        KVar *g = kb_let(&r->b, "g", kx_load1(&r->b, r->z, random_index(r, COLS)));
        r->index[r->n_index++] = (Known){g, 7};
      }
      break;
    case 2:
      if (r->in_vec) {
        KExpr *v = kx_op2(&r->b, KOP_MUL, kx_load1(&r->b, r->z, at[1]), kx_i(&r->b, DT_I32, 3));
        Affine place = aff(pick(r, COLS));
        kb_reduce(&r->b, pick(r, 2) ? KOP_ADD : KOP_MAX, r->q, &place, v);
        break;
      }  // fall through
    case 3:
    case 4:
    case 5: kb_store(&r->b, r->o, at, random_expr(r, 3)); break;
    case 6:
      kb_if(&r->b, random_cond(r, 1));
      random_block(r, depth - 1);
      if (pick(r, 2)) {
        kb_else(&r->b);
        random_block(r, depth - 1);
      }
      kb_end(&r->b);
      break;
    default: random_loop(r, depth);
  }
}

static void random_block(Random *r, int depth) {
  uint32_t n_index = r->n_index, n_value = r->n_value;
  for (uint32_t n = 1 + pick(r, 3); n > 0 && r->budget > 0; n--, r->budget--) random_stmt(r, depth);
  r->n_index = n_index;
  r->n_value = n_value;
}

static void random_kernel(Module *m, uint64_t seed) {
  Random r = {.state = seed * 0x9e3779b97f4a7c15u + 1, .budget = 25};
  KBuild *b = &r.b;
  kbuild_init(b, m, "k", NULL);
  int64_t dims[2] = {ROWS, COLS};
  r.x = kb_param(b, "x", DT_F32, 2, dims, SPACE_ARG);
  r.z = kb_param(b, "z", DT_I32, 1, dims + 1, SPACE_ARG);
  r.o = kb_param(b, "o", DT_F32, 2, dims, SPACE_ARG);
  r.q = kb_param(b, "oq", DT_I32, 1, dims + 1, SPACE_ARG);
  KVar *i = kb_for(b, "i", 0, ROWS, 1, FOR_SEQ), *j = kb_for(b, "j", 0, COLS, 1, FOR_VEC);
  Affine at[2] = {aff_var(i), aff_var(j)};
  kb_store(b, r.o, at, kx_load(b, r.x, at));
  kb_store1(b, r.q, aff_var(j), kx_load1(b, r.z, aff_var(j)));
  kb_end(b);
  kb_end(b);
  for (int k = 0; k < 4; k++) random_loop(&r, 3);
  program_kernel(m->program, kbuild_done(b));
}

// ---- running

typedef struct Buffers {
  float x[ROWS * COLS], o[ROWS * COLS];
  int32_t z[COLS], q[COLS];
} Buffers;

static void run(Module *m, const Kernel *k, Buffers *b) {
  for (int i = 0; i < ROWS * COLS; i++) b->x[i] = (float)(i * 37 % 29 - 14) / 4;
  for (int i = 0; i < COLS; i++) b->z[i] = i * 5 % 8;
  cr_assert(keval_kernel(m, k, (void *[]){b->x, b->z, b->o, b->q}), "%s", diag_text(m->diag));
}

static const char *text_of(Module *m, const Kernel *k) {
  StrBuf s;
  strbuf_init(&s, m->arena);
  print_kernel(&s, k);
  return strbuf_str(&s);
}

static void run_pass(Module *m, const Target *t, const char *name) {
  Arena *arena = arena_new("pass");
  bool split = !strcmp(name, "split");  // may stop at what can't be cut
  PassCtx ctx = {.m = m, .arena = arena, .diag = diag_new(arena, NULL), .target = t, .args = split ? "ops=40" : ""};
  PassResult r = pass_by_name(name, strlen(name))->run(&ctx);
  cr_assert(split || r != PASS_FAILED, "%s: %s", name, diag_text(ctx.diag));
  for (uint32_t i = 0; i < m->program->kernels.n; i++) {
    const Kernel *k = m->program->kernels.at[i];
    cr_assert(verify_kernel(m, k), "after %s:\n%s", name, text_of(m, k));
  }
  arena_free(arena);
}

static void check(const Target *t, uint64_t seed, bool compiled) {
  static const char *const passes[] = {"expand", "ksimplify", "vectorize", "unroll", "ksimplify", "split", NULL};
  static Buffers want[KERNELS], got;
  Arena *arena = arena_new("test");
  Module *m = module_new(arena, diag_new(arena, stderr));
  m->program = program_new(m);
  for (uint32_t i = 0; i < KERNELS; i++) random_kernel(m, seed * KERNELS + i);
  uint32_t n = m->program->kernels.n;
  const char *text[KERNELS];
  for (uint32_t i = 0; i < n; i++) {
    run(m, m->program->kernels.at[i], &want[i]);
    text[i] = text_of(m, m->program->kernels.at[i]);
  }
  for (uint32_t p = 0; passes[p] && !(compiled && !strcmp(passes[p], "split")); p++) {
    run_pass(m, t, passes[p]);
    for (uint32_t i = 0; i < n; i++) {
      run(m, m->program->kernels.at[i], &got);
      cr_assert(!memcmp(got.o, want[i].o, sizeof got.o) && !memcmp(got.q, want[i].q, sizeof got.q),
                "%s changes seed %llu:\n%s=>\n%s", passes[p], (unsigned long long)seed, text[i],
                text_of(m, m->program->kernels.at[i]));
    }
  }
  if (compiled) {
    emit_case_steps(m);
    EmitCase c = {.target = t, .rounds = 2, .keep_ranges = true};
    cr_assert_eq(emit_case_run(m, &c), 0, "seed %llu on %s", (unsigned long long)seed, t->name);
  }
  arena_free(arena);
}

Test(kernel_passes, random_kernels_compiled, .timeout = 300) {
  for (uint32_t t = 0; t < target_count(); t++)
    if (target_runs_here(target_at(t)))
      for (uint64_t seed = 0; seed < MODULES; seed++) check(target_at(t), seed, true);
}

Test(kernel_passes, random_kernels_interpreted, .timeout = 300) {
  for (uint64_t seed = 100; seed < 200; seed++) check(target_native(), seed, false);
}
