// Matrix tiles: statements on them as AMX instructions with fixed tile numbers.
//
//   ldtilecfg  at the start of a kernel that allocates tiles: their shapes, in the order of the allocs
//   tilerelease  before it returns
//
// Only the raw intrinsics are used: LLVM 19 reloads the values of the others without their stride (issue 110190). Raw
// ones name their registers, so nothing is ever spilled; tile registers belong to no caller and no callee, and what a
// kernel calls has no tiles. One C tile per dot chain: tmm numbers follow the order of the allocs, at most eight.
#include "backends/llvm/llvm.h"

#define TILES 8
#define CONFIG_BYTES 64

// Bytes of LDTILECFG: palette, start row, 14 reserved, 16 times two bytes per row, 16 times rows. Tiles not named have
// neither.
static LV config_of(Emit *e, const KBuf *const *tile, uint32_t n) {
  LV byte[CONFIG_BYTES];
  uint8_t config[CONFIG_BYTES] = {1};
  for (uint32_t i = 0; i < n; i++) {
    config[16 + 2 * i] = (uint8_t)(4 * tile[i]->dims[1]);
    config[48 + i] = (uint8_t)tile[i]->dims[0];
  }
  for (uint32_t i = 0; i < CONFIG_BYTES; i++) byte[i] = LLVMConstInt(e->i8, config[i], false);
  LV data = LLVMConstArray2(e->i8, byte, CONFIG_BYTES);
  LV global = LLVMAddGlobal(e->mod, LLVMTypeOf(data), arena_printf(e->arena, "%s_tiles", LLVMGetValueName(e->fn)));
  LLVMSetInitializer(global, data);
  LLVMSetGlobalConstant(global, true);
  LLVMSetLinkage(global, LLVMPrivateLinkage);
  LLVMSetUnnamedAddress(global, LLVMGlobalUnnamedAddr);
  LLVMSetAlignment(global, 64);
  return global;
}

bool emit_tiles_begin(Emit *e) {
  const KBuf *tile[TILES];
  uint32_t n = 0;
  for (const KStmt *s = e->k->body.first; s; s = s->next) {
    if (s->kind != KS_ALLOC || s->alloc.buf->space != SPACE_TILE) continue;
    QCC_CHECK(n < TILES && target_has(e->row, FEATURE_AMX_INT8), "kernel %s: tiles on %s", e->k->name, e->row->t.name);
    e->buf[s->alloc.buf->id] = LLVMConstInt(e->i8, n, false);
    tile[n++] = s->alloc.buf;
  }
  if (n == 0) return false;
  e->at->has_tiles = true;
  LV config = config_of(e, tile, n);
  call_intrinsic(e, "llvm.x86.ldtilecfg", 0, NULL, 1, &config);
  return true;
}

void emit_tiles_end(Emit *e) { call_intrinsic(e, "llvm.x86.tilerelease", 0, NULL, 0, NULL); }

static LV number(Emit *e, const KBuf *tile) {
  LV n = e->buf[tile->id];
  QCC_CHECK(n, "kernel %s: tile %s used outside its scope", e->k->name, tile->name);
  return n;
}

static void emit_move(Emit *e, const KStmt *s) {
  const KBuf *b = s->tile.buf;
  Affine at = linear_index(b, s->tile.idx);
  LV step = LLVMConstInt(e->i64, (uint64_t)(s->tile.step * type_size(b->type)), false);
  LV args[3] = {number(e, s->tile.tile), emit_address(e, b, &at), step};
  const char *name = s->tile.op == KOP_TILE_LOAD ? "llvm.x86.tileloadd64" : "llvm.x86.tilestored64";
  call_intrinsic(e, name, 0, NULL, 3, args);
}

void emit_tile(Emit *e, const KStmt *s) {
  LV c = number(e, s->tile.tile);
  if (s->tile.op == KOP_TILE_ZERO) {
    call_intrinsic(e, "llvm.x86.tilezero", 0, NULL, 1, &c);
  } else if (s->tile.op == KOP_TILE_DOT) {
    LV args[3] = {c, number(e, s->tile.buf), number(e, s->tile.b)};
    call_intrinsic(e, s->tile.buf->type == DT_U8X4 ? "llvm.x86.tdpbusd" : "llvm.x86.tdpbssd", 0, NULL, 3, args);
  } else {
    emit_move(e, s);
  }
}
