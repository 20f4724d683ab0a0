// From a lowered module to a checked object: layout of the weights, code generation in a child process, assembly of the
// final file.
//
// LLVM may abort, loop or exhaust memory; the child has limits and hands its result back through a pipe. When it dies
// that is an internal error (exit code 70), never a half-written file. The weights do not pass through the child.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/llvm/module.h"
#include "backends/object_patch.h"
#include "backends/weight_file.h"
#include "ir/base/map.h"

#define CHILD_CPU_SECONDS 3600
#define WEIGHTS_LIMIT (INT64_C(2000) << 20)  // small code model: everything within 2 GiB

// ---- weights

// Constants of one level are distinct already; those of several are compared by content.
typedef struct Layout {
  Arena *arena;
  WeightLayout *w;
  uint32_t level, n_levels;
  Map *by_content;  // hash -> number + 1 in packed, of the first with it
} Layout;

static bool same_bytes(const Packed *a, Module *m, Const *c) {
  int64_t n = type_bytes(c->type);
  return type_bytes(a->c->type) == n && memcmp(const_data(a->m, a->c), const_data(m, c), (size_t)n) == 0;
}

// The place of a constant that an earlier level packed, or -1.
static int64_t find_packed(Layout *l, Module *m, Const *c, uint64_t hash) {
  uintptr_t known = l->level > 0 ? (uintptr_t)map_get(l->by_content, hash) : 0;
  if (known == 0 || !same_bytes(&l->w->packed.at[known - 1], m, c)) return -1;
  bool *counted = &l->w->packed.at[known - 1].shared;
  if (!*counted) l->w->shared += type_bytes(c->type);
  *counted = true;
  return l->w->packed.at[known - 1].offset;
}

static int64_t place_const(Layout *l, Module *m, Const *c) {
  WeightLayout *w = l->w;
  uint64_t hash = l->n_levels > 1 ? hash_bytes(const_data(m, c), (size_t)type_bytes(c->type), 0) : 0;
  int64_t at = find_packed(l, m, c, hash);
  if (at >= 0) return at;
  Packed p = {.m = m, .c = c, .offset = w->bytes};
  vec_push(l->arena, &w->packed, p);
  if (l->n_levels > 1 && !map_get(l->by_content, hash)) map_set(l->by_content, hash, (void *)(uintptr_t)w->packed.n);
  w->bytes += (type_bytes(c->type) + WEIGHTS_ALIGN - 1) / WEIGHTS_ALIGN * WEIGHTS_ALIGN;
  return p.offset;
}

static bool layout_level(Layout *l, Module *m) {
  const Program *p = m->program;
  int64_t *at = l->w->at[l->level] = NEW_ARRAY(l->arena, int64_t, p->bufs.n + 1);
  int64_t *of_const = NEW_ARRAY(l->arena, int64_t, m->n_consts + 1);  // offset + 1
  for (uint32_t i = 0; i < p->bufs.n; i++) {
    const PBuf *b = p->bufs.at[i];
    if (b->kind != PBUF_CONST || b->alias_of) continue;
    int64_t *known = &of_const[b->constant->id];
    if (!*known) *known = place_const(l, m, b->constant) + 1;
    at[b->id] = *known - 1;
    if (l->w->bytes > WEIGHTS_LIMIT)
      return diag_error(m->diag, DIAG_LIMIT, NULL, "constants of more than %lld MiB do not fit one object",
                        (long long)(WEIGHTS_LIMIT >> 20));
  }
  return true;
}

static bool layout_weights(uint32_t n, const Level *levels, Arena *arena, WeightLayout *w) {
  Layout l = {.arena = arena, .w = w, .n_levels = n, .by_content = map_new(arena)};
  for (; l.level < n; l.level++)
    if (!layout_level(&l, levels[l.level].m)) return false;
  return true;
}

// ---- the pipe between child and parent

static bool write_all(int fd, const void *at, size_t n) {
  for (const uint8_t *p = at; n;) {
    ssize_t k = write(fd, p, n);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) return false;
    p += k;
    n -= (size_t)k;
  }
  return true;
}

static bool read_all(int fd, void *at, size_t n) {
  for (uint8_t *p = at; n;) {
    ssize_t k = read(fd, p, n);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) return false;
    p += k;
    n -= (size_t)k;
  }
  return true;
}

static bool send_emission(int fd, const Emission *e) {
  uint64_t head[2] = {e->n, e->frames.n};
  bool ok = write_all(fd, head, sizeof head) && write_all(fd, e->bytes, e->n);
  for (uint32_t i = 0; ok && i < e->frames.n; i++) {
    uint64_t frame[2] = {e->frames.at[i].bytes, strlen(e->frames.at[i].function)};
    ok = write_all(fd, frame, sizeof frame) && write_all(fd, e->frames.at[i].function, frame[1]);
  }
  return ok;
}

static bool receive_emission(int fd, Emission *e) {
  uint64_t head[2];
  if (!read_all(fd, head, sizeof head)) return false;
  e->n = head[0];
  e->bytes = arena_alloc(e->arena, e->n + 1);
  if (!read_all(fd, e->bytes, e->n)) return false;
  for (uint64_t i = 0; i < head[1]; i++) {
    uint64_t frame[2];
    if (!read_all(fd, frame, sizeof frame) || frame[1] > 4096) return false;
    char *name = arena_alloc(e->arena, frame[1] + 1);
    if (!read_all(fd, name, frame[1])) return false;
    StackFrame f = {name, frame[0]};
    vec_push(e->arena, &e->frames, f);
  }
  return true;
}

static void limit_child(void) {
  struct rlimit cpu = {CHILD_CPU_SECONDS, CHILD_CPU_SECONDS}, core = {0, 0};
  setrlimit(RLIMIT_CPU, &cpu);
  setrlimit(RLIMIT_CORE, &core);
  alarm(2 * CHILD_CPU_SECONDS);
}

static void check_child(pid_t pid, bool received) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) qcc_bug("code generation was ended by signal %d", WTERMSIG(status));
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    qcc_bug("code generation ended with status %d", WEXITSTATUS(status));
  QCC_CHECK(received, "code generation gave no complete result");
}

static bool emit_in_child(uint32_t n, const Level *levels, const EmitOptions *opt, EmitKind kind,
                          const WeightLayout *weights, Emission *out) {
  Module *m = levels[0].m;
  int ends[2];
  fflush(NULL);
  if (pipe(ends) != 0) return diag_error(m->diag, DIAG_IO, NULL, "no pipe for code generation: %s", strerror(errno));
  pid_t pid = fork();
  if (pid < 0) {
    close(ends[0]);
    close(ends[1]);
    return diag_error(m->diag, DIAG_LIMIT, NULL, "no process for code generation: %s", strerror(errno));
  }
  if (pid == 0) {
    close(ends[0]);
    limit_child();
    module_emit(n, levels, opt, kind, weights, out);
    _exit(send_emission(ends[1], out) ? 0 : 1);
  }
  close(ends[1]);
  bool received = receive_emission(ends[0], out);
  close(ends[0]);
  check_child(pid, received);
  return true;
}

// ---- stack

// Longest chain of calls that begins in each kernel, by a fixed point over the program's kernels.
static uint32_t call_depth_of(const KBlock *b, const uint32_t *depth);

static uint32_t stmt_depth(const KStmt *s, const uint32_t *depth) {
  uint32_t a = 0, c = 0;
  switch (s->kind) {
    case KS_FOR: return call_depth_of(&s->for_.body, depth);
    case KS_IF:
      a = call_depth_of(&s->if_.then, depth);
      c = call_depth_of(&s->if_.other, depth);
      return a > c ? a : c;
    case KS_CALL: return 1 + depth[s->call.callee->id];
    default: return 0;
  }
}

static uint32_t call_depth_of(const KBlock *b, const uint32_t *depth) {
  uint32_t most = 0;
  for (const KStmt *s = b->first; s; s = s->next) {
    uint32_t d = stmt_depth(s, depth);
    if (d > most) most = d;
  }
  return most;
}

static uint32_t deepest_call(const Program *p, Arena *arena) {
  uint32_t *depth = NEW_ARRAY(arena, uint32_t, p->kernels.n + 1), most = 0;
  for (bool changed = true; changed && most < 32;) {
    changed = false;
    for (uint32_t i = 0; i < p->kernels.n; i++) {
      uint32_t d = call_depth_of(&p->kernels.at[i]->body, depth);
      changed = changed || d != depth[p->kernels.at[i]->id];
      depth[p->kernels.at[i]->id] = d;
      if (d > most) most = d;
    }
  }
  return most;
}

// An upper bound: the largest frame of every level of the call tree (entry, run, segment, task, kernels, helper), each
// with its return address.
static uint64_t stack_bound(uint32_t n, const Level *levels, const char *name, const Emission *e) {
  uint64_t segment = 0, task = 0, kernel = 0, other = 0;
  size_t prefix = strlen(name);
  for (uint32_t i = 0; i < e->frames.n; i++) {
    const char *kind = e->frames.at[i].function + prefix;
    uint64_t *most = strncmp(kind, "_s_", 3) == 0   ? &segment
                     : strncmp(kind, "_t_", 3) == 0 ? &task
                     : strncmp(kind, "_k_", 3) == 0 ? &kernel
                                                    : &other;
    if (e->frames.at[i].bytes > *most) *most = e->frames.at[i].bytes;
  }
  uint64_t deepest = 0;
  for (uint32_t i = 0; i < n; i++) {
    uint64_t d = deepest_call(levels[i].m->program, e->arena);
    if (d > deepest) deepest = d;
  }
  uint64_t kernels = 1 + deepest;
  return 2 * (other + 8) + (segment + 8) + (task + 8) + kernels * (kernel + 8) + (other + 8);
}

// ---- the whole

static void append_weights_text(const EmitOptions *opt, const Target *t, const WeightLayout *w, StrBuf *b) {
  bool large = t->arch[0] == 'x' && opt->link.code_model >= CODE_MODEL_MEDIUM;
  strbuf_printf(b, "\t.section\t%s\n\t.p2align\t6\n%s_weights:\n",
                large ? WEIGHTS_SECTION_LARGE ",\"al\",@progbits" : WEIGHTS_SECTION ",\"a\",%progbits", opt->name);
  for (uint32_t i = 0; i < w->packed.n; i++) {
    const Packed *p = &w->packed.at[i];
    const uint8_t *at = const_data(p->m, p->c);
    int64_t n = type_bytes(p->c->type);
    strbuf_printf(b, "\t.p2align\t6");
    for (int64_t k = 0; k < n; k++) strbuf_printf(b, k % 16 ? ",%u" : "\n\t.byte\t%u", at[k]);
    strbuf_puts(b, "\n");
  }
}

static bool finish_text(const Level *level, const EmitOptions *opt, EmitKind kind, const WeightLayout *w,
                        const Emission *e, ObjectBytes *out) {
  StrBuf b;
  strbuf_init(&b, e->arena);
  strbuf_put(&b, (const char *)e->bytes, e->n);
  if (kind == EMIT_ASM && w->bytes && !opt->external && opt->link.format == FORMAT_ELF)
    append_weights_text(opt, level->target, w, &b);
  *out = (ObjectBytes){.at = malloc(b.n + 1), .n = b.n};
  if (!out->at) return diag_error(level->m->diag, DIAG_LIMIT, NULL, "no memory for %zu bytes of text", b.n);
  memcpy(out->at, strbuf_str(&b), b.n);
  return true;
}

static uint64_t most_workspace(uint32_t n, const Level *levels) {
  uint64_t most = 0, bytes, align;
  for (uint32_t i = 0; i < n; i++) {
    backend_workspace(levels[i].m, &bytes, &align);
    if (bytes > most) most = bytes;
  }
  return most;
}

// An object that is whole already, weights included.
static bool copy_object(Diag *diag, const Emission *e, uint64_t stack, ObjectBytes *out) {
  if (stack > STACK_LIMIT)
    return diag_error(diag, DIAG_LIMIT, NULL, "internal error: the object needs %llu bytes of stack, more than %d",
                      (unsigned long long)stack, STACK_LIMIT);
  *out = (ObjectBytes){.at = malloc(e->n + 1), .n = e->n};
  if (!out->at) return diag_error(diag, DIAG_LIMIT, NULL, "no memory for an object of %zu bytes", e->n);
  memcpy(out->at, e->bytes, e->n);
  return true;
}

static bool finish_object(uint32_t n, const Level *levels, const EmitOptions *opt, const WeightLayout *w,
                          const Emission *e, ObjectBytes *out) {
  Diag *diag = levels[0].m->diag;
  uint64_t stack = stack_bound(n, levels, opt->name, e);
  bool elf = opt->link.format == FORMAT_ELF;
  if (elf && !object_patch(diag, e->bytes, e->n, opt, opt->external ? &(WeightLayout){0} : w, stack, out)) return false;
  if (!elf && !copy_object(diag, e, stack, out)) return false;
  out->stack = stack;
  out->workspace = most_workspace(n, levels);
  out->shared = (uint64_t)w->shared;
  if (opt->external) out->weights = weight_file_bytes(w, opt->release, &out->n_weights);
  if (opt->external && !out->weights) return diag_error(diag, DIAG_LIMIT, NULL, "no memory for the file of weights");
  if (elf ? object_check(out->at, out->n, opt->name, opt->link.relocation == RELOCATION_STATIC, &stack, diag)
          : object_check_foreign(out->at, out->n, opt->name, opt->link.format, diag))
    return true;
  free(out->at);
  free(out->weights);
  *out = (ObjectBytes){0};
  return false;
}

static bool emit_code(uint32_t n, const Level *levels, const EmitOptions *opt, EmitKind kind, bool in_process,
                      const WeightLayout *weights, Emission *e) {
  if (!in_process) return emit_in_child(n, levels, opt, kind, weights, e);
  module_emit(n, levels, opt, kind, weights, e);
  return true;
}

bool backend_emit_levels(uint32_t n, const Level *levels, const EmitOptions *opt, EmitKind kind, bool in_process,
                         ObjectBytes *out) {
  QCC_CHECK(n > 0 && n <= MAX_LEVELS, "an object of %u levels", n);
  for (uint32_t i = 0; i < n; i++) QCC_CHECK(levels[i].m->program, "backend_emit: the module was not lowered");
  Arena *arena = arena_new("emit");
  WeightLayout weights = {0};
  Emission e = {.arena = arena};
  bool ok = layout_weights(n, levels, arena, &weights);
  if (ok && opt->external) weights.format = weight_file_format(n, levels, &weights, arena);
  ok = ok && emit_code(n, levels, opt, kind, in_process, &weights, &e);
  if (ok && stack_bound(n, levels, opt->name, &e) > STACK_LIMIT) {  // what tiles have in common was kept on the stack
    e = (Emission){.arena = arena, .in_place = true};
    ok = emit_code(n, levels, opt, kind, in_process, &weights, &e);
  }
  if (ok)
    ok = kind == EMIT_OBJECT ? finish_object(n, levels, opt, &weights, &e, out)
                             : finish_text(&levels[0], opt, kind, &weights, &e, out);
  arena_free(arena);
  return ok;
}

bool backend_emit(Module *m, const Target *target, const EmitOptions *opt, EmitKind kind, bool in_process,
                  ObjectBytes *out) {
  return backend_emit_levels(1, &(Level){m, target}, opt, kind, in_process, out);
}
