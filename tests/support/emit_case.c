// See emit_case.h.
#include "tests/support/emit_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ir/elem.h"
#include "ir/keval.h"
#include "runtime/qcc_rt.h"

#define PAGE 4096
#define MAX_BUFS 2048

typedef struct Guarded {
  uint8_t *map, *at;
  size_t total;
} Guarded;

static Guarded guarded_new(size_t n, bool at_end) {
  Guarded g;
  size_t pages = (n + PAGE - 1) / PAGE * PAGE;
  g.total = pages + 2 * PAGE;
  g.map = mmap(NULL, g.total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (g.map == MAP_FAILED) abort();
  if (pages && mprotect(g.map + PAGE, pages, PROT_READ | PROT_WRITE) != 0) abort();
  g.at = at_end ? g.map + PAGE + pages - n : g.map + PAGE;
  return g;
}

void emit_case_steps(Module *m) {
  Program *p = m->program;
  uint32_t n_in = 0, n_out = 0;
  for (uint32_t i = 0; i < p->kernels.n; i++) {
    Kernel *k = p->kernels.at[i];
    k->noalias = true;
    PBuf **args = NEW_ARRAY(m->arena, PBuf *, k->n_params + 1);
    for (uint32_t j = 0; j < k->n_params; j++) {
      const KBuf *b = k->params[j];
      bool out = b->name[0] == 'o';
      int64_t span = 1;
      for (uint32_t r = 0; r < b->rank; r++) span += (b->dims[r] - 1) * b->strides[r];
      const Type *t = type_tensor(m->types, b->type, 1, &span);
      args[j] = program_buf(p, out ? PBUF_OUTPUT : PBUF_INPUT, arena_printf(m->arena, "%s_%u", b->name, i), t);
      args[j]->index = out ? n_out++ : n_in++;
    }
    program_step(p, k, k->n_params, args, NULL);
  }
}

static uint64_t next_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static void fill(uint8_t *at, const Type *t, const EmitCase *c, uint64_t *state) {
  static const double special[] = {
      0.0,    -0.0,    1,      -1,    0.5,     1.5,  2.5,        -2.5,         INFINITY,      -INFINITY,
      NAN,    1e-45,   -1e-40, 3e38,  -3e38,   127,  128,        -128,         255,           256,
      -129,   32767.5, 65504,  65520, 65536,   6e-8, 2147483647, 2147483648.0, -2147483648.0, 4294967296.0,
      9.3e18, -9.3e18, 1.9e19, 1e300, -1e-310, 3,    7,          0.1};
  static const int64_t whole[] = {0,    1,   -1,    2,      -2,    INT64_MIN, INT64_MAX, 127,
                                  -128, 255, 32767, -32768, 65535, INT32_MAX, INT32_MIN, 3,
                                  7,    8,   15,    16,     31,    32,        63,        64};
  int64_t n = type_count(t);
  bool is_float = dtype_is_float(t->dtype);
  for (int64_t i = 0; i < n; i++) {
    uint64_t r = next_random(state);
    if (c->keep_ranges) {
      if (is_float)
        elem_set_f(at, t->dtype, i, (double)(int64_t)(r >> 40) / (double)(1 << 21) - 4);
      else if (dtype_info(t->dtype)->cls == DC_LANE)
        memcpy(at + 4 * i, &r, 4);
      else
        elem_set_i(at, t->dtype, i, (int64_t)(r >> 20 & 7));
    } else if (t->dtype == DT_BOOL) {
      at[i] = r >> 30 & 1;
    } else if (dtype_info(t->dtype)->cls == DC_LANE) {
      memcpy(at + 4 * i, &r, 4);
    } else if (is_float) {
      if (r >> 60 < 6)
        elem_set_f(at, t->dtype, i, special[(r >> 8) % (sizeof special / sizeof special[0])]);
      else if (r >> 60 < 12)
        elem_set_f(at, t->dtype, i, ldexp((double)(int64_t)r, -60));
      else
        memcpy(at + i * (int64_t)(dtype_info(t->dtype)->bits / 8), &r, dtype_info(t->dtype)->bits / 8);
    } else {
      elem_set_i(at, t->dtype, i,
                 r >> 60 < 7 ? whole[(r >> 8) % (sizeof whole / sizeof whole[0])] : (int64_t)next_random(state));
    }
  }
}

static bool same_element(const uint8_t *a, const uint8_t *b, DType t, int64_t i, double tolerance) {
  size_t size = dtype_info(t)->bits / 8;
  if (memcmp(a + (size_t)i * size, b + (size_t)i * size, size) == 0) return true;
  if (!dtype_is_float(t)) return false;
  double x = elem_get_f(a, t, i), y = elem_get_f(b, t, i);
  if (isnan(x) && isnan(y)) return true;
  return tolerance > 0 && fabs(x - y) <= tolerance * fmax(1, fabs(x));
}

typedef struct Interface {
  uint32_t n_in, n_out;
  const PBuf *in[MAX_BUFS], *out[MAX_BUFS];
} Interface;

static int compare(const Interface *io, void *const *expected, void *const *got, const EmitCase *c) {
  int wrong = 0;
  for (uint32_t i = 0; i < io->n_out; i++) {
    const Type *t = io->out[i]->type;
    for (int64_t k = 0; k < type_count(t); k++) {
      if (same_element(expected[i], got[i], t->dtype, k, c->tolerance)) continue;
      if (wrong++ < 5)
        fprintf(stderr, "%s: output %s[%lld]: expected %g, got %g\n", c->target->name, io->out[i]->name, (long long)k,
                dtype_is_float(t->dtype) ? elem_get_f(expected[i], t->dtype, k)
                                         : (double)elem_get_i(expected[i], t->dtype, k),
                dtype_is_float(t->dtype) ? elem_get_f(got[i], t->dtype, k) : (double)elem_get_i(got[i], t->dtype, k));
    }
  }
  return wrong;
}

static int one_round(Module *m, const EmitCase *c, const Interface *io, const qcc_model *model, const qcc_exec *exec,
                     void *workspace, uint32_t round, uint64_t *state) {
  static void *inputs[MAX_BUFS], *outputs[MAX_BUFS], *expected[MAX_BUFS];
  static Guarded map[2 * MAX_BUFS];
  uint32_t n = 0;
  for (uint32_t i = 0; i < io->n_in; i++) {
    map[n] = guarded_new((size_t)io->in[i]->bytes, round % 2 == 0);
    inputs[i] = map[n++].at;
    fill(inputs[i], io->in[i]->type, c, state);
  }
  for (uint32_t i = 0; i < io->n_out; i++) {
    map[n] = guarded_new((size_t)io->out[i]->bytes, round % 2 == 0);
    outputs[i] = map[n++].at;
    fill(outputs[i], io->out[i]->type, c, state);
    expected[i] = malloc((size_t)io->out[i]->bytes + 1);
    memcpy(expected[i], outputs[i], (size_t)io->out[i]->bytes);
  }
  int wrong = -1;
  qcc_call call = {workspace, (const void *const *)inputs, outputs, NULL, exec};
  if (keval_program(m->program, (const void *const *)inputs, expected) && model->run(&call) == QCC_OK)
    wrong = compare(io, expected, outputs, c);
  for (uint32_t i = 0; i < n; i++) munmap(map[i].map, map[i].total);
  for (uint32_t i = 0; i < io->n_out; i++) free(expected[i]);
  return wrong;
}

static bool interface_of(const Module *m, Interface *io) {
  io->n_in = io->n_out = 0;
  for (uint32_t i = 0; i < m->program->bufs.n; i++) {
    const PBuf *b = m->program->bufs.at[i];
    if (io->n_in == MAX_BUFS || io->n_out == MAX_BUFS) return false;
    if (b->kind == PBUF_INPUT) io->in[io->n_in++] = b;
    if (b->kind == PBUF_OUTPUT) io->out[io->n_out++] = b;
  }
  return true;
}

int emit_case_run(Module *m, const EmitCase *c) {
  static Interface io;
  ObjectBytes object = {0};
  EmitOptions opt = {.name = "unit", .info_json = "{}", .pic = true, .par_always = true};
  if (!interface_of(m, &io) || !backend_emit(m, c->target, &opt, EMIT_OBJECT, true, &object)) return -1;
  if (getenv("EMIT_CASE_OBJECT")) {
    FILE *f = fopen(getenv("EMIT_CASE_OBJECT"), "wb");
    fwrite(object.at, 1, object.n, f);
    fclose(f);
  }
  Jit *jit = jit_load(&object, "unit", m->diag);
  if (!jit) return -1;
  const qcc_model *model = jit_model(jit);
  void *workspace = aligned_alloc(64, (model->workspace_size(NULL) + 63) / 64 * 64);
  int wrong = model->init(workspace) == QCC_OK ? 0 : -1;
  qcc_pool *pool = c->threads ? qcc_pool_new(c->threads) : NULL;
  uint64_t state = 0x9e3779b97f4a7c15;
  for (uint32_t r = 0; r < c->rounds && wrong == 0; r++)
    wrong = one_round(m, c, &io, model, qcc_pool_exec(pool), workspace, r, &state);
  qcc_pool_free(pool);
  free(workspace);
  jit_free(jit);
  free(object.at);
  return wrong;
}
