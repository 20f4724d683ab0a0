// The constant NAME_model and the tables it points to. Tables with pointers land in .data.rel.ro (position independent)
// or .rodata, everything else in .rodata.
#include <string.h>

#include "backends/llvm/llvm.h"

// In an image without a loader what NAME_model alone needs is left out by a linker that collects sections.
static void own_section(Emit *e, LV g) {
  if (e->row->bare) LLVMSetSection(g, arena_printf(e->arena, ".rodata.%s_model", e->opt->name));
}

static LV private_constant(Emit *e, LV value, const char *what) {
  const char *name = arena_printf(e->arena, "%s_%s", e->opt->name, what);
  LV g = LLVMAddGlobal(e->mod, LLVMTypeOf(value), name);
  LLVMSetInitializer(g, value);
  LLVMSetGlobalConstant(g, true);
  LLVMSetLinkage(g, LLVMPrivateLinkage);
  LLVMSetUnnamedAddress(g, LLVMGlobalUnnamedAddr);
  own_section(e, g);
  return g;
}

static LV text(Emit *e, const char *s) {
  return private_constant(e, LLVMConstStringInContext(e->ctx, s, (unsigned)strlen(s), false), "text");
}

static LV k32(Emit *e, uint64_t v) { return LLVMConstInt(e->i32, v, false); }
static LV k64(Emit *e, uint64_t v) { return LLVMConstInt(e->i64, v, false); }

static LV dims_table(Emit *e, const Type *t) {
  if (t->rank == 0) return LLVMConstNull(e->ptr);
  LV v[MAX_RANK];
  for (uint32_t i = 0; i < t->rank; i++) v[i] = k64(e, (uint64_t)t->dims[i]);
  return private_constant(e, LLVMConstArray2(e->i64, v, t->rank), "dims");
}

static LV tensor_table(Emit *e, uint32_t n, const IfaceTensor *t) {
  if (n == 0) return LLVMConstNull(e->ptr);
  LV *rows = NEW_ARRAY(e->arena, LV, n);
  for (uint32_t i = 0; i < n; i++) {
    LV field[5] = {text(e, t[i].name), k32(e, (uint32_t)dtype_info(t[i].type->dtype)->onnx), k32(e, t[i].type->rank),
                   dims_table(e, t[i].type), k64(e, (uint64_t)t[i].bytes)};
    rows[i] = LLVMConstStructInContext(e->ctx, field, 5, false);
  }
  return private_constant(e, LLVMConstArray2(LLVMTypeOf(rows[0]), rows, n), "tensors");
}

void emit_tables(Emit *e, const EntryPoints *entry) {
  Iface iface = iface_of(e->m, e->arena);
  LV null = LLVMConstNull(e->ptr);
  LV field[] = {k32(e, 1),
                k32(e, iface.n_in),
                k32(e, iface.n_out),
                k32(e, 0),
                text(e, e->opt->name),
                tensor_table(e, iface.n_in, iface.in),
                tensor_table(e, iface.n_out, iface.out),
                null,
                k64(e, WORKSPACE_HEAD),
                entry->workspace_size,
                entry->init,
                entry->run,
                null,
                text(e, e->opt->info_json ? e->opt->info_json : "{}"),
                entry->init_level};
  LV value = LLVMConstStructInContext(e->ctx, field, sizeof field / sizeof field[0], false);
  LV g = LLVMAddGlobal(e->mod, LLVMTypeOf(value), arena_printf(e->arena, "%s_model", e->opt->name));
  LLVMSetInitializer(g, value);
  LLVMSetGlobalConstant(g, true);
  LLVMSetAlignment(g, 8);
  own_section(e, g);
}
