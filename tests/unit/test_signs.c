// Weights of signs: found bit for bit and only then, and recurrent cells with such weights against the graph
// interpreter, by the kernel interpreter and on this machine.
#include "passes/lower/signs.h"
#include "tests/unit/contract_case.h"

static const Target tables = {.name = "tables", CPU_512, .has_masks = true, .has_fma = true};

// ---- finding them

static float weight_of(const Signs *s, int64_t row, int64_t k) {
  float w = 0;
  for (uint32_t p = s->planes; p-- > 0;) {
    float c = s->scale[p][row];
    w = s->sign[row * s->k + k] >> p & 1 ? w + c : w - c;
  }
  return w;
}

static void check_found(Arena *arena, const float *w, int64_t rows, int64_t k, bool found, uint32_t planes) {
  Signs s;
  cr_assert(signs_of(arena, w, rows, k, &s) == found);
  if (!found) return;
  cr_expect_eq(s.planes, planes);
  for (int64_t i = 0; i < rows * k; i++)
    cr_expect(weight_of(&s, i / k, i % k) == w[i], "weight %lld is %a, not %a", (long long)i,
              (double)weight_of(&s, i / k, i % k), (double)w[i]);
}

Test(signs, found_bit_for_bit) {
  Arena *arena = arena_new("signs");
  check_found(arena, (float[]){1, -1, 1, 1}, 1, 4, true, 1);
  check_found(arena, (float[]){0.3F, -0.3F, 7, 7}, 2, 2, true, 1);
  check_found(arena, (float[]){0.1F, 0, -0.1F, 0.1F}, 1, 4, true, 2);
  check_found(arena, (float[]){-3, -1, 1, 3}, 1, 4, true, 2);
  check_found(arena, (float[]){-0.75F, -0.25F, 0.25F, 0.75F, 0.1F, 0.1F, -0.1F, 0.1F}, 2, 4, true, 2);
  check_found(arena, (float[]){0, 0, 0, 0}, 1, 4, true, 1);
  check_found(arena, (float[]){1, -1, nextafterf(1, 2), -1}, 1, 4, false, 0);
  // Three magnitudes, one of them an ulp away, and what is no number.
  check_found(arena, (float[]){1, 2, 3, 1}, 1, 4, false, 0);
  check_found(arena, (float[]){1, 2, nextafterf(2, 3), 1}, 1, 4, false, 0);
  check_found(arena, (float[]){1, INFINITY, 1, 1}, 1, 4, false, 0);
  check_found(arena, (float[]){1, NAN, 1, 1}, 1, 4, false, 0);
  // So far apart that no float is between them.
  check_found(arena, (float[]){1, 0x1p-40F, 1, 1}, 1, 4, false, 0);
  arena_free(arena);
}

Test(signs, random_pairs) {
  Arena *arena = arena_new("signs");
  uint64_t seed = 1;
  for (int i = 0; i < 2000; i++) {
    float v[2];
    for (int j = 0; j < 2; j++) {
      seed = seed * UINT64_C(6364136223846793005) + 1;
      v[j] = (float)(uint32_t)(seed >> 33) * 0x1p-31F;
    }
    float sum = v[0] + v[1], difference = v[0] - v[1], w[4] = {sum, -difference, difference, -sum};
    Signs s;
    cr_assert(signs_of(arena, w, 1, 4, &s), "%a and %a", (double)v[0], (double)v[1]);
    for (int64_t k = 0; k < 4; k++) cr_assert(weight_of(&s, 0, k) == w[k]);
  }
  arena_free(arena);
}

// ---- cells

static Value *rows_of_signs(Case *c, int64_t dirs, int64_t rows, int64_t k, uint32_t planes) {
  int64_t dims[3] = {dirs, rows, k};
  const Type *type = type_tensor(c->m->types, DT_F32, 3, dims);
  float *w = arena_alloc(c->arena, (size_t)type_bytes(type));
  for (int64_t r = 0; r < dirs * rows; r++) {
    float large = (float)(1 + rnd(c, 60)) / 256, small = (float)rnd(c, 40) / 512;
    for (int64_t i = 0; i < k; i++)
      w[r * k + i] = (rnd(c, 2) ? 1.0F : -1.0F) * (planes > 1 && rnd(c, 2) ? small : large);
  }
  return const_bytes(c->m, type, w, "r");
}

static void check_cell(OpKind kind, int64_t hidden, int64_t batch, int64_t dirs, uint32_t planes, bool after,
                       bool native, uint64_t seed) {
  int64_t gates = kind == OP_LSTM ? 4 : kind == OP_GRU ? 3 : 1, steps = 3, n_in = 5;
  Case c = case_new(seed, DT_F32, 3, (int64_t[]){steps, batch, n_in});
  Value *in[4] = {c.f->args[0], case_weight(&c, DT_F32, 3, (int64_t[]){dirs, gates * hidden, n_in}, true),
                  rows_of_signs(&c, dirs, gates * hidden, hidden, planes),
                  case_weight(&c, DT_F32, 2, (int64_t[]){dirs, 2 * gates * hidden}, true)};
  c.op = op_new(c.f, NULL, kind, 4, in, NULL);
  int direction = kind == OP_LSTM ? A_LSTM_direction : kind == OP_GRU ? A_GRU_direction : A_RNN_direction;
  if (dirs == 2) op_set_int(c.op, direction, DIRECTION_BIDIRECTIONAL);
  if (after) op_set_int(c.op, A_GRU_linear_before_reset, 1);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  Module *m = c.m;
  Value *result = op_out(c.op, 0);
  func_set_results(c.f, 1, &result);
  Tensor x = random_tensor(&c, c.f->args[0]->type), want;
  char *what = arena_printf(c.arena, "%s hidden=%lld batch=%lld dirs=%lld planes=%u after=%d", op_info(kind)->name,
                            (long long)hidden, (long long)batch, (long long)dirs, planes, after);
  cr_assert(eval_func(c.f, &x, &want, c.arena, NULL, NULL), "%s", what);
  const Target *t = native ? target_native() : &tables;
  PassOptions opt = pass_options_default();
  RunOptions runner = {.verify_each = true};
  cr_assert(pipeline_run(m, t, native ? PIPE_JIT : "plan,lower,expand,unroll", &opt, &runner, c.arena, NULL), "%s: %s",
            what, diag_text(m->diag));
  bool looks_up = false;
  for (uint32_t i = 0; i < m->program->bufs.n; i++)
    looks_up = looks_up || strcmp(m->program->bufs.at[i]->name, "tables") == 0;
  cr_assert(looks_up == (hidden > 32 && t->vector_bits >= 512), "%s: tables", what);
  float *out = arena_alloc(c.arena, (size_t)type_bytes(result->type) + 64);
  const void *inputs[1] = {x.data};
  void *outputs[1] = {out};
  cr_assert(native ? run_jit(&c, t, inputs, outputs) : run_keval(&c, t, inputs, outputs), "%s: %s", what,
            diag_text(m->diag));
  for (int64_t i = 0; i < type_count(result->type); i++) {
    double ref = elem_get_f(want.data, DT_F32, i);
    cr_assert(fabs((double)out[i] - ref) <= 1e-6 * (double)hidden, "%s: element %lld is %.9g, not %.9g", what,
              (long long)i, (double)out[i], ref);
  }
  arena_free(c.arena);
}

static void check_cells(bool native) {
  static const int64_t hidden[] = {33, 8, 32, 40, 64, 47, 100, 128};
  uint64_t seed = 1;
  for (uint32_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
    for (uint32_t kind = 0; kind < 4; kind++, seed++) {
      OpKind op = kind == 0 ? OP_LSTM : kind == 1 ? OP_RNN : OP_GRU;
      check_cell(op, hidden[i], 1 + (int64_t)(seed % 3), 1 + (int64_t)(seed / 2 % 2), 1 + (uint32_t)(seed / 3 % 2),
                 kind == 3, native, seed);
    }
}

Test(signs, cells) { check_cells(false); }
Test(signs, cells_native) { check_cells(true); }
