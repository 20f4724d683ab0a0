// The interface of a module, from its entry function, or from the program's buffers where there is no function.
#include "backends/iface.h"

#include <string.h>

#include "backends/backend.h"
#include "ir/base/map.h"

static uint32_t count_bufs(const Program *p, PBufKind kind) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < p->bufs.n; i++)
    if (p->bufs.at[i]->kind == kind && p->bufs.at[i]->index + 1 > n) n = p->bufs.at[i]->index + 1;
  return n;
}

static void from_bufs(const Program *p, PBufKind kind, IfaceTensor *out) {
  for (uint32_t i = 0; i < p->bufs.n; i++) {
    const PBuf *b = p->bufs.at[i];
    if (b->kind == kind && !out[b->index].type) out[b->index] = (IfaceTensor){.name = b->name, .type = b->type};
  }
}

// Members get the mangled ONNX name; a repeated or absent name gets its number.
static void name_members(Arena *arena, uint32_t n, IfaceTensor *t, const char *missing) {
  Map *taken = map_new(arena);
  for (uint32_t i = 0; i < n; i++) {
    QCC_CHECK(t[i].type, "interface: no buffer for %s %u", missing, i);
    t[i].bytes = type_bytes(t[i].type);
    bool named = t[i].name && *t[i].name;
    if (!named) t[i].name = arena_printf(arena, "%s%u", missing, i);
    const char *member = mangle(arena, t[i].name, strlen(t[i].name));
    if (map_get_str(taken, member)) member = arena_printf(arena, "%s_%u", member, i);
    t[i].member = member;
    map_set_str(taken, member, t);
  }
}

Iface iface_of(Module *m, Arena *arena) {
  Iface r = {0};
  Func *f = m->funcs.n ? m->funcs.at[0] : NULL;
  r.n_in = f ? f->n_args : count_bufs(m->program, PBUF_INPUT);
  r.n_out = f ? f->n_results : count_bufs(m->program, PBUF_OUTPUT);
  r.in = NEW_ARRAY(arena, IfaceTensor, r.n_in + 1);
  r.out = NEW_ARRAY(arena, IfaceTensor, r.n_out + 1);
  if (f) {
    for (uint32_t i = 0; i < r.n_in; i++) r.in[i] = (IfaceTensor){.name = f->args[i]->name, .type = f->args[i]->type};
    for (uint32_t i = 0; i < r.n_out; i++) {
      const char *name = f->result_names ? f->result_names[i] : NULL;
      r.out[i] = (IfaceTensor){.name = name ? name : f->results[i]->name, .type = f->results[i]->type};
    }
  } else {
    from_bufs(m->program, PBUF_INPUT, r.in);
    from_bufs(m->program, PBUF_OUTPUT, r.out);
  }
  name_members(arena, r.n_in, r.in, "input");
  name_members(arena, r.n_out, r.out, "output");
  return r;
}
