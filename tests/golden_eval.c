// Evaluates both sides of a golden file with the interpreters. A pass that changes numbers beyond the rounding of the
// element type fails, whatever its text looks like.
#include "tests/golden.h"

#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/keval.h"

static uint64_t next_random(uint64_t *state) {  // splitmix64
  uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

// Floats on a grid in [-2, 2); i32 and i64 in [ints[0], ints[1]); other integers over their range cut to +-100.
static void fill(void *to, DType t, int64_t n, uint64_t seed, const int64_t ints[2]) {
  const DTypeInfo *info = dtype_info(t);
  uint64_t state = seed * 7919 + 17;
  int64_t lo = dtype_min(t) < -100 ? -100 : dtype_min(t), hi = dtype_max(t) > 100 ? 100 : dtype_max(t);
  if (t == DT_I32 || t == DT_I64) {
    lo = ints[0];
    hi = ints[1] - 1;
  }
  for (int64_t i = 0; i < n; i++) {
    uint64_t r = next_random(&state) >> 20;
    if (info->cls == DC_LANE) {
      memcpy((char *)to + 4 * i, &r, 4);
    } else if (dtype_is_float(t)) {
      elem_set_f(to, t, i, (double)((int64_t)(r % 4096) - 2048) / 1024.0);
    } else {
      elem_set_i(to, t, i, lo + (int64_t)(r % (uint64_t)(hi - lo + 1)));
    }
  }
}

// `within` is what a file allows its floats to lose, 0 for all that promise the same numbers.
static double tolerance(DType t, double within) {
  if (within > 0 && dtype_is_float(t)) return within;
  switch (t) {
    case DT_F64: return 1e-10;
    case DT_F32: return 2e-5;
    case DT_F16: return 4e-3;
    case DT_BF16: return 3e-2;
    default: return dtype_is_float(t) ? 0.15 : 0;
  }
}

// Element by element, relative to the largest finite magnitude of the expected side.
static bool same(const void *a, const void *b, DType t, int64_t n, double within, const char *what, StrBuf *why) {
  if (!dtype_is_float(t)) {
    size_t bytes = (size_t)((n * (int64_t)dtype_info(t)->bits + 7) / 8);
    for (size_t i = 0; i < bytes; i++)
      if (((const uint8_t *)a)[i] != ((const uint8_t *)b)[i]) {
        strbuf_printf(why, "%s differs at byte %zu", what, i);
        return false;
      }
    return true;
  }
  double scale = 1;
  for (int64_t i = 0; i < n; i++) {
    double x = fabs(elem_get_f(a, t, i));
    if (isfinite(x) && x > scale) scale = x;
  }
  for (int64_t i = 0; i < n; i++) {
    double x = elem_get_f(a, t, i), y = elem_get_f(b, t, i);
    if ((isnan(x) && isnan(y)) || x == y || fabs(x - y) <= tolerance(t, within) * scale) continue;
    strbuf_printf(why, "%s differs at element %lld: %.9g before, %.9g after", what, (long long)i, x, y);
    return false;
  }
  return true;
}

// ---- functions and programs

static bool can_run(const Func *f) {
  for (uint32_t i = 0; i < f->n_args; i++)
    if (!type_is_static(f->args[i]->type) || f->args[i]->type->dtype == DT_STR) return false;
  for (const Op *op = f->first; op; op = op->next)
    for (uint32_t i = 0; i < op->n_out; i++)
      if (!type_is_static(op->out[i]->type) || op->out[i]->type->dtype == DT_STR) return false;
  return true;
}

typedef struct Interface {
  uint32_t n_in, n_out;
  const Type **in, **out;
} Interface;

static bool has_steps(const Module *m) { return m->program && m->program->steps.n > 0; }

static Interface interface_of(Arena *arena, const Module *m) {
  Interface r = {0};
  if (m->funcs.n > 0 && !has_steps(m)) {
    const Func *f = m->funcs.at[0];
    r = (Interface){f->n_args, f->n_results, NEW_ARRAY(arena, const Type *, f->n_args),
                    NEW_ARRAY(arena, const Type *, f->n_results)};
    for (uint32_t i = 0; i < f->n_args; i++) r.in[i] = f->args[i]->type;
    for (uint32_t i = 0; i < f->n_results; i++) r.out[i] = f->results[i]->type;
    return r;
  }
  uint32_t n = m->program->bufs.n;
  r.in = NEW_ARRAY(arena, const Type *, n + 1);
  r.out = NEW_ARRAY(arena, const Type *, n + 1);
  for (uint32_t i = 0; i < n; i++) {
    const PBuf *b = m->program->bufs.at[i];
    if (b->alias_of) continue;
    if (b->kind == PBUF_INPUT && b->index < n && ++r.n_in) r.in[b->index] = b->type;
    if (b->kind == PBUF_OUTPUT && b->index < n && ++r.n_out) r.out[b->index] = b->type;
  }
  return r;
}

static bool same_shape(const Type *a, const Type *b) {
  return a && b && a->dtype == b->dtype && a->rank == b->rank && !memcmp(a->dims, b->dims, a->rank * sizeof *a->dims);
}

static bool same_interface(const Interface *a, const Interface *b) {
  if (a->n_in != b->n_in || a->n_out != b->n_out) return false;
  for (uint32_t i = 0; i < a->n_in; i++)
    if (!same_shape(a->in[i], b->in[i])) return false;
  for (uint32_t i = 0; i < a->n_out; i++)
    if (!same_shape(a->out[i], b->out[i])) return false;
  return true;
}

static bool run_module(Module *m, const Interface *io, const Tensor *in, Tensor *out, Arena *arena) {
  if (!has_steps(m)) return eval_func(m->funcs.at[0], in, out, arena, NULL, NULL);
  const void **inputs = NEW_ARRAY(arena, const void *, io->n_in + 1);
  void **outputs = NEW_ARRAY(arena, void *, io->n_out + 1);
  for (uint32_t i = 0; i < io->n_in; i++) inputs[i] = in[i].data;
  for (uint32_t i = 0; i < io->n_out; i++) {
    out[i] = tensor_new(arena, io->out[i]);
    outputs[i] = out[i].data;
  }
  return keval_program(m->program, inputs, outputs);
}

static bool evaluate_modules(Module *before, Module *after, const int64_t ints[2], double within, Arena *arena,
                             StrBuf *why) {
  Interface io = interface_of(arena, before), io2 = interface_of(arena, after);
  if (!same_interface(&io, &io2)) {
    strbuf_puts(why, "arguments or results changed their types");
    return false;
  }
  Tensor *in = NEW_ARRAY(arena, Tensor, io.n_in + 1);
  Tensor *out = NEW_ARRAY(arena, Tensor, io.n_out + 1), *out2 = NEW_ARRAY(arena, Tensor, io.n_out + 1);
  for (uint32_t i = 0; i < io.n_in; i++) {
    in[i] = tensor_new(arena, io.in[i]);
    fill(in[i].data, io.in[i]->dtype, type_count(io.in[i]), i + 1, ints);
  }
  if (!run_module(before, &io, in, out, arena) || !run_module(after, &io, in, out2, arena)) {
    strbuf_printf(why, "evaluation failed: %s%s", diag_text(before->diag), diag_text(after->diag));
    return false;
  }
  for (uint32_t i = 0; i < io.n_out; i++) {
    const char *what = arena_printf(arena, "result %u", i);
    if (!same(out[i].data, out2[i].data, io.out[i]->dtype, type_count(io.out[i]), within, what, why)) return false;
  }
  return true;
}

// ---- kernels by themselves

static const Kernel *kernel_of(const Module *m, const char *name) {
  for (uint32_t i = 0; m->program && i < m->program->kernels.n; i++)
    if (strcmp(m->program->kernels.at[i]->name, name) == 0) return m->program->kernels.at[i];
  return NULL;
}

static int64_t span(const KBuf *b) {  // elements from the first to the last
  int64_t last = 0;
  for (uint32_t i = 0; i < b->rank; i++) {
    if (b->dims[i] == 0) return 0;
    last += (b->dims[i] - 1) * b->strides[i];
  }
  return last + 1;
}

static bool evaluate_kernel(Module *before, const Kernel *k, Module *after, const Kernel *k2, const int64_t ints[2],
                            Arena *arena, StrBuf *why) {
  void **a = NEW_ARRAY(arena, void *, k->n_params + 1), **b = NEW_ARRAY(arena, void *, k->n_params + 1);
  if (k->n_params != k2->n_params) {
    strbuf_printf(why, "kernel @%s changed its parameters", k->name);
    return false;
  }
  for (uint32_t i = 0; i < k->n_params; i++) {
    const KBuf *p = k->params[i];
    int64_t n = span(p);
    if (p->type != k2->params[i]->type || n != span(k2->params[i])) {
      strbuf_printf(why, "kernel @%s changed parameter %%%s", k->name, p->name);
      return false;
    }
    size_t bytes = (size_t)(n * (int64_t)dtype_info(p->type)->bits + 7) / 8;
    a[i] = arena_alloc(arena, bytes + 8);
    fill(a[i], p->type, n, i + 1, ints);
    b[i] = arena_copy(arena, a[i], bytes + 8);
  }
  if (!keval_kernel(before, k, a) || !keval_kernel(after, k2, b)) {
    strbuf_printf(why, "evaluation failed: %s%s", diag_text(before->diag), diag_text(after->diag));
    return false;
  }
  for (uint32_t i = 0; i < k->n_params; i++) {
    if (k->params[i]->space == SPACE_WORK) continue;  // dead outside the kernel
    const char *what = arena_printf(arena, "buffer %%%s of kernel @%s", k->params[i]->name, k->name);
    if (!same(a[i], b[i], k->params[i]->type, span(k->params[i]), 0, what, why)) return false;
  }
  return true;
}

static bool evaluate_kernels(Module *before, Module *after, const int64_t ints[2], Arena *arena, StrBuf *why) {
  for (uint32_t i = 0; before->program && i < before->program->kernels.n; i++) {
    const Kernel *k = before->program->kernels.at[i], *k2 = kernel_of(after, k->name);
    if (!k2) {
      strbuf_printf(why, "kernel @%s is gone", k->name);
      return false;
    }
    if (!evaluate_kernel(before, k, after, k2, ints, arena, why)) return false;
  }
  return true;
}

bool golden_evaluate(Module *before, Module *after, const int64_t ints[2], double within, Arena *arena, StrBuf *why) {
  if (before->funcs.n == 0 && !has_steps(before)) return evaluate_kernels(before, after, ints, arena, why);
  if (before->funcs.n > 0 && !has_steps(before) && !can_run(before->funcs.at[0])) return true;
  return evaluate_modules(before, after, ints, within, arena, why);
}
