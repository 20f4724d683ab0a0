// See noise.h.
#include "frontend/driver/noise.h"

#include <math.h>

#include "ir/elem.h"

enum { RUNS = 4, SIZE = 2, COUNT = 4 };

bool noise_applies(const Func *f) {
  for (const Op *op = f->first; op; op = op->next) switch (op->kind) {
      case OP_QUANTIZE:
      case OP_ROUND:
      case OP_FLOOR:
      case OP_CEIL:
      case OP_SIGN:
      case OP_THRESHOLD: return true;
      case OP_CAST:
        if (dtype_is_float(op_in(op, 0)->type->dtype) && !dtype_is_float(op->out[0]->type->dtype)) return true;
        break;
      default: break;
    }
  return false;
}

// Numbers in -1 .. 1 (Lehmer's generator: the same in every run).
static double next_random(uint64_t *state) {
  *state = *state * UINT64_C(48271) % UINT64_C(2147483647);
  return (double)*state / 1073741823.5 - 1;
}

typedef struct Shaker {
  uint64_t state;
  Arena *arena;
} Shaker;

// Moves the float sums of an op inside of their bound. They lie in the interpreter's memory, which it lends to
// watchers.
static void shake(void *ctx, const Op *op, const Tensor *in, const Tensor *out) {
  Shaker *s = ctx;
  DType t = out[0].type->dtype;
  int64_t n = type_count(out[0].type), terms = 0;
  if (!dtype_is_float(t)) return;
  ArenaMark mark = arena_mark(s->arena);
  double *mag = NEW_ARRAY(s->arena, double, n + 1);
  if (eval_op_magnitude(op, in, mag, &terms, s->arena)) {
    double gamma = (double)(terms + 2) * (t == DT_F64 ? 0x1p-53 : 0x1p-24);
    for (int64_t i = 0; i < n; i++)
      elem_set_f(out[0].data, t, i, elem_get_f(out[0].data, t, i) + gamma * mag[i] * next_random(&s->state));
  }
  arena_reset(s->arena, mark);
}

bool noise_measure(Func *f, const Tensor *args, const Tensor *reference, Noise *noise, Arena *arena) {
  for (uint32_t k = 0; k < f->n_results; k++) noise[k] = (Noise){0};
  for (uint64_t run = 0; run < RUNS; run++) {
    Arena *scratch = arena_new("noise"), *work = arena_new("noise-sums");
    Shaker s = {run * 7919 + 1, work};
    Tensor *got = NEW_ARRAY(arena, Tensor, f->n_results + 1);
    bool ok = eval_func(f, args, got, scratch, shake, &s);
    for (uint32_t k = 0; ok && k < f->n_results; k++) {
      GateResult g = gate_model(&reference[k], &got[k]);
      noise[k].most = fmax(noise[k].most, g.max_abs);
      if (g.outside > noise[k].changed) noise[k].changed = g.outside;
    }
    arena_free(scratch);
    arena_free(work);
    if (!ok) return false;
  }
  return true;
}

bool noise_explains(const Noise *noise, const Tensor *want, const Tensor *got) {
  GateResult g = gate_model(want, got);
  return isfinite(g.worst) && g.max_abs <= SIZE * noise->most && g.outside <= COUNT * noise->changed;
}
