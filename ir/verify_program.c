// Structural checks of a program: kernels and their calls, arguments against parameters, aliases, the workspace plan.
// Liveness is computed here again from the steps.
#include <string.h>

#include "ir/verify.h"

typedef struct VerifyProgram {
  const Program *p;
  Diag *d;
  Arena *scratch;
  int32_t *first, *last;  // steps that touch the root buffer with that id; -1: none
  bool **written;         // by kernel id: parameters it writes
} VerifyProgram;

#define fail(v, loc, ...) diag_error((v)->d, DIAG_REFUSED, loc, "program: " __VA_ARGS__)

// ---- kernels: each checked alone, then the calls between them

typedef VEC(const Kernel *) Kernels;

static void callees(Arena *arena, const KBlock *b, Kernels *out) {
  for (const KStmt *s = b->first; s; s = s->next) {
    if (s->kind == KS_FOR) callees(arena, &s->for_.body, out);
    if (s->kind == KS_IF) {
      callees(arena, &s->if_.then, out);
      callees(arena, &s->if_.other, out);
    }
    if (s->kind == KS_CALL) vec_push(arena, out, s->call.callee);
  }
}

static bool kernel_is_known(const VerifyProgram *v, const Kernel *k) {
  return k && k->id < v->p->kernels.n && v->p->kernels.at[k->id] == k;
}

static void mark_block(const VerifyProgram *v, bool *written, const KBlock *b);

// Calls form no circle: kernels nobody calls are taken away until none is left.
static bool check_calls(const VerifyProgram *v) {
  uint32_t n = v->p->kernels.n, n_ready = 0;
  uint32_t *callers = NEW_ARRAY(v->scratch, uint32_t, n + 1), *ready = NEW_ARRAY(v->scratch, uint32_t, n + 1);
  Kernels *calls = NEW_ARRAY(v->scratch, Kernels, n + 1);
  for (uint32_t i = 0; i < n; i++) {
    const Kernel *k = v->p->kernels.at[i];
    callees(v->scratch, &k->body, &calls[i]);
    for (uint32_t c = 0; c < calls[i].n; c++) {
      if (!kernel_is_known(v, calls[i].at[c])) return fail(v, k->loc, "@%s calls a kernel outside of it", k->name);
      callers[calls[i].at[c]->id]++;
    }
  }
  for (uint32_t i = 0; i < n; i++)
    if (callers[i] == 0) ready[n_ready++] = i;
  for (uint32_t i = 0; i < n_ready; i++)
    for (uint32_t c = 0; c < calls[ready[i]].n; c++)
      if (--callers[calls[ready[i]].at[c]->id] == 0) ready[n_ready++] = calls[ready[i]].at[c]->id;
  if (n_ready != n) return fail(v, NULL, "kernels call each other in a circle");
  for (uint32_t i = n; i-- > 0;) {  // callees first
    const Kernel *k = v->p->kernels.at[ready[i]];
    v->written[k->id] = NEW_ARRAY(v->scratch, bool, k->n_params + 1);
    mark_block(v, v->written[k->id], &k->body);
  }
  return true;
}

static bool check_kernels(const VerifyProgram *v) {
  bool ok = true;
  for (uint32_t i = 0; i < v->p->kernels.n; i++) {
    const Kernel *k = v->p->kernels.at[i];
    if (k->id != i) return fail(v, k->loc, "kernel @%s has id %u, not %u", k->name, k->id, i);
    ok &= verify_kernel(v->p->module, k);
  }
  return ok && check_calls(v);
}

// ---- buffers

static bool check_buf(const VerifyProgram *v, uint32_t i) {
  const PBuf *b = v->p->bufs.at[i];
  if (b->id != i || !b->type || !type_is_static(b->type)) return fail(v, NULL, "buffer %u has no id or type", i);
  if (b->bytes < type_bytes(b->type))
    return fail(v, NULL, "buffer %%%s has %lld bytes, its type needs %lld", b->name, (long long)b->bytes,
                (long long)type_bytes(b->type));
  if (b->kind == PBUF_CONST && !b->constant) return fail(v, NULL, "buffer %%%s has no constant", b->name);
  const PBuf *of = b->alias_of;
  if (!of) return true;
  uint32_t depth = 0;
  for (const PBuf *a = b; a->alias_of; a = a->alias_of)
    if (depth++ > v->p->bufs.n) return fail(v, NULL, "buffer %%%s lives in itself", b->name);
  if (of->id >= v->p->bufs.n || v->p->bufs.at[of->id] != of)
    return fail(v, NULL, "buffer %%%s lives in no buffer of the program", b->name);
  if (b->alias_offset < 0 || b->alias_offset > of->bytes - b->bytes)
    return fail(v, NULL, "buffer %%%s ends past %%%s, in which it lives", b->name, of->name);
  if (b->kind != of->kind) return fail(v, NULL, "buffer %%%s lives in %%%s of another kind", b->name, of->name);
  return true;
}

static bool check_bufs(const VerifyProgram *v) {
  bool ok = true;
  for (uint32_t i = 0; i < v->p->bufs.n; i++) ok &= check_buf(v, i);
  return ok;
}

// ---- which parameters a kernel writes, itself or through calls

static void mark_written(bool *written, const KBuf *b) {
  while (b->view_of) b = b->view_of;
  if (b->param >= 0) written[b->param] = true;
}

static void mark_block(const VerifyProgram *v, bool *written, const KBlock *b) {
  for (const KStmt *s = b->first; s; s = s->next) {
    if (s->kind == KS_STORE || s->kind == KS_REDUCE) mark_written(written, s->store.buf);
    if (s->kind == KS_TILE && s->tile.op == KOP_TILE_STORE) mark_written(written, s->tile.buf);
    if (s->kind == KS_FOR) mark_block(v, written, &s->for_.body);
    if (s->kind == KS_IF) {
      mark_block(v, written, &s->if_.then);
      mark_block(v, written, &s->if_.other);
    }
    for (uint32_t i = 0; s->kind == KS_CALL && i < s->call.n; i++)
      if (v->written[s->call.callee->id][i]) mark_written(written, s->call.args[i]);
  }
}

// ---- steps

// Bytes from the first to the last element a parameter may touch.
static int64_t param_bytes(const KBuf *b) {
  int64_t last = 0;
  for (uint32_t i = 0; i < b->rank; i++) {
    int64_t step;
    if (b->dims[i] == 0) return 0;
    if (__builtin_mul_overflow(b->dims[i] - 1, b->strides[i], &step) || __builtin_add_overflow(last, step, &last))
      return INT64_MAX;
  }
  int64_t bits;
  if (__builtin_mul_overflow(last + 1, (int64_t)dtype_info(b->type)->bits, &bits)) return INT64_MAX;
  return bits / 8 + (bits % 8 != 0);
}

static void touch(const VerifyProgram *v, const PBuf *b, int32_t step) {
  while (b->alias_of) b = b->alias_of;
  if (v->first[b->id] < 0) v->first[b->id] = step;
  v->last[b->id] = step;
}

static bool check_arg(const VerifyProgram *v, const Step *s, uint32_t i) {
  const PBuf *b = s->args[i];
  const KBuf *param = s->kernel->params[i];
  if (!b || b->id >= v->p->bufs.n || v->p->bufs.at[b->id] != b)
    return fail(v, s->loc, "argument %u of @%s is no buffer of it", i, s->kernel->name);
  int64_t want = param_bytes(param);
  if (want > b->bytes)
    return fail(v, s->loc, "buffer %%%s of %lld bytes for parameter %%%s of @%s, which takes %lld", b->name,
                (long long)b->bytes, param->name, s->kernel->name, (long long)want);
  bool read_only = b->kind == PBUF_CONST || b->kind == PBUF_INPUT;
  if (read_only && v->written[s->kernel->id][i])
    return fail(v, s->loc, "@%s writes to %%%s, which is read-only", s->kernel->name, b->name);
  return true;
}

static bool check_steps(const VerifyProgram *v) {
  bool ok = true;
  for (uint32_t i = 0; i < v->p->steps.n; i++) {
    const Step *s = &v->p->steps.at[i];
    if (!kernel_is_known(v, s->kernel) || s->n_args != s->kernel->n_params)
      return fail(v, s->loc, "step %u does not fit its kernel", i);
    for (uint32_t a = 0; a < s->n_args; a++) {
      if (!check_arg(v, s, a)) return false;
      touch(v, s->args[a], (int32_t)i);
    }
  }
  return ok;
}

// ---- the workspace

static bool overlap(const PBuf *a, const PBuf *b) {
  return a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

// Root buffers in the workspace that are live at the same step do not overlap. Planned programs only.
static bool check_workspace(const VerifyProgram *v) {
  const Program *p = v->p;
  VEC(const PBuf *) live = {0};
  bool *entered = NEW_ARRAY(v->scratch, bool, p->bufs.n + 1);
  for (uint32_t i = 0; i < p->steps.n; i++) {
    uint32_t n = 0;
    for (uint32_t k = 0; k < live.n; k++)
      if (v->last[live.at[k]->id] >= (int32_t)i) live.at[n++] = live.at[k];
    live.n = n;
    for (uint32_t a = 0; a < p->steps.at[i].n_args; a++) {
      const PBuf *b = pbuf_root(p->steps.at[i].args[a], NULL);
      if (b->kind != PBUF_WORK || b->offset < 0 || entered[b->id]) continue;
      entered[b->id] = true;
      if (b->offset > p->workspace_bytes - b->bytes)
        return fail(v, p->steps.at[i].loc, "buffer %%%s ends past the workspace of %lld bytes", b->name,
                    (long long)p->workspace_bytes);
      for (uint32_t k = 0; k < live.n; k++)
        if (overlap(live.at[k], b))
          return fail(v, p->steps.at[i].loc, "buffers %%%s and %%%s overlap while both are live", live.at[k]->name,
                      b->name);
      vec_push(v->scratch, &live, b);
    }
  }
  return true;
}

bool verify_program(const Program *p) {
  Arena *scratch = arena_new("verify");
  VerifyProgram v = {.p = p, .d = p->module->diag, .scratch = scratch};
  v.written = NEW_ARRAY(scratch, bool *, p->kernels.n + 1);
  v.first = NEW_ARRAY(scratch, int32_t, p->bufs.n + 1);
  v.last = NEW_ARRAY(scratch, int32_t, p->bufs.n + 1);
  for (uint32_t i = 0; i < p->bufs.n; i++) v.first[i] = v.last[i] = -1;
  bool ok = p->workspace_bytes >= 0 && p->workspace_align > 0 && (p->workspace_align & (p->workspace_align - 1)) == 0;
  if (!ok)
    fail(&v, NULL, "workspace of %lld bytes at %lld", (long long)p->workspace_bytes, (long long)p->workspace_align);
  ok = ok && check_kernels(&v) && check_bufs(&v) && check_steps(&v) && check_workspace(&v);
  arena_free(scratch);
  return ok;
}
