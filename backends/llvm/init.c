// init: which level this machine gets, written into the head of the workspace.
//
//   NAME_init(ws)               the last level whose features the CPU and the system offer, least level first
//   NAME_init_level(ws, name)   that level or none; NULL: as init
//
// The head then holds the mark, the level's number and its name. A refusal (QCC_E_CPU) leaves the name of the first
// feature that is missing in place of the level's; nothing writable lies in the object. Tile registers are asked for
// when a level that uses them would be taken; when the system refuses, the level below is.
#include <string.h>

#include "backends/llvm/llvm.h"

static LV k8(Emit *e, uint64_t v) { return LLVMConstInt(e->i8, v, false); }
static LV k32(Emit *e, uint64_t v) { return LLVMConstInt(e->i32, v, false); }
static LV k64(Emit *e, uint64_t v) { return LLVMConstInt(e->i64, v, false); }

static LV byte_after(Emit *e, LV p, LV n) { return LLVMBuildGEP2(e->b, e->i8, p, &n, 1, ""); }
static LV is(Emit *e, LLVMIntPredicate p, LV a, LV b) { return LLVMBuildICmp(e->b, p, a, b, ""); }

static void begin(Emit *e, LV fn) {
  fn_baseline(e, fn);
  e->fn = fn;
  LLVMPositionBuilderAtEnd(e->b, block_new(e, "entry"));
}

uint64_t workspace_mark(const Emit *e) {
  uint64_t h = hash_bytes(e->opt->name, strlen(e->opt->name), 0x71636331);
  return e->opt->info_json ? hash_bytes(e->opt->info_json, strlen(e->opt->info_json), h) : h;
}

// ---- texts: fixed places of HEAD_TEXT_BYTES

static LV texts(Emit *e, uint32_t n, const char *const *text, const char *what) {
  char *bytes = arena_alloc(e->arena, (size_t)n * HEAD_TEXT_BYTES);
  memset(bytes, 0, (size_t)n * HEAD_TEXT_BYTES);
  for (uint32_t i = 0; i < n; i++) {
    QCC_CHECK(strlen(text[i]) < HEAD_TEXT_BYTES, "'%s' is too long for the head of a workspace", text[i]);
    memcpy(bytes + (size_t)i * HEAD_TEXT_BYTES, text[i], strlen(text[i]));
  }
  LV value = LLVMConstStringInContext(e->ctx, bytes, n * HEAD_TEXT_BYTES, true);
  LV g = LLVMAddGlobal(e->mod, LLVMTypeOf(value), arena_printf(e->arena, "%s_%s", e->opt->name, what));
  LLVMSetInitializer(g, value);
  LLVMSetGlobalConstant(g, true);
  LLVMSetLinkage(g, LLVMPrivateLinkage);
  LLVMSetAlignment(g, 8);
  return g;
}

static LV text_at(Emit *e, LV all, LV i) {
  return byte_after(e, all, LLVMBuildMul(e->b, i, k64(e, HEAD_TEXT_BYTES), ""));
}

static void put_text(Emit *e, LV ws, LV all, LV i) {
  LV from = text_at(e, all, i);
  for (uint32_t k = 0; k < HEAD_TEXT_BYTES; k += 8) {
    LV word = LLVMBuildLoad2(e->b, e->i64, byte_after(e, from, k64(e, k)), "");
    LLVMBuildStore(e->b, word, byte_after(e, ws, k64(e, HEAD_TEXT + k)));
  }
}

// ---- the level of a name

// Function i64 (text): the number of the level of that name, or the count of levels.
static LV emit_level_named(Emit *e, LV names) {
  LV fn = fn_new(e, arena_printf(e->arena, "%s_named", e->opt->name), e->i64, 1, &e->ptr, LLVMInternalLinkage);
  begin(e, fn);
  LV want = LLVMGetParam(fn, 0), zero = k64(e, 0), one = k64(e, 1);
  LLVMBasicBlockRef entry = LLVMGetInsertBlock(e->b), each = block_new(e, "each"), byte = block_new(e, "byte");
  LLVMBasicBlockRef same = block_new(e, "same"), next = block_new(e, "next"), done = block_new(e, "done");
  LLVMBuildBr(e->b, each);
  LLVMPositionBuilderAtEnd(e->b, each);
  LV level = LLVMBuildPhi(e->b, e->i64, ""), name = text_at(e, names, level);
  LLVMBuildCondBr(e->b, is(e, LLVMIntULT, level, k64(e, e->n_levels)), byte, done);
  LLVMPositionBuilderAtEnd(e->b, byte);
  LV i = LLVMBuildPhi(e->b, e->i64, "");
  LV a = LLVMBuildLoad2(e->b, e->i8, byte_after(e, name, i), "");
  LV b = LLVMBuildLoad2(e->b, e->i8, byte_after(e, want, i), "");
  LLVMBuildCondBr(e->b, is(e, LLVMIntEQ, a, b), same, next);
  LLVMPositionBuilderAtEnd(e->b, same);
  LV i1 = LLVMBuildAdd(e->b, i, one, "");
  LLVMBuildCondBr(e->b, is(e, LLVMIntEQ, a, k8(e, 0)), done, byte);
  LLVMPositionBuilderAtEnd(e->b, next);
  LV level1 = LLVMBuildAdd(e->b, level, one, "");
  LLVMBuildBr(e->b, each);
  LLVMAddIncoming(level, (LV[]){zero, level1}, (LLVMBasicBlockRef[]){entry, next}, 2);
  LLVMAddIncoming(i, (LV[]){zero, i1}, (LLVMBasicBlockRef[]){each, same}, 2);
  LLVMPositionBuilderAtEnd(e->b, done);
  LLVMBuildRet(e->b, level);
  return fn;
}

// ---- the choice

typedef struct Choice {
  CpuNeeds all;
  LV names, features;   // texts
  LV have;              // i64
  LV ws, name, wanted;  // the level asked for when name is not NULL
} Choice;

// i1: the machine offers the level. Goes on in a new block.
static LV level_fits(Emit *e, const Choice *c, const LevelCode *l) {
  if (l->row == e->opt->emulated) return LLVMConstInt(e->i1, 1, false);
  LV need = k64(e, cpu_needs_of(&c->all, l->row));
  LV fits = is(e, LLVMIntEQ, LLVMBuildAnd(e->b, c->have, need, ""), need);
  if (!l->has_tiles) return fits;
  LLVMBasicBlockRef from = LLVMGetInsertBlock(e->b), ask = block_new(e, "ask"), asked = block_new(e, "asked");
  LLVMBuildCondBr(e->b, fits, ask, asked);
  LLVMPositionBuilderAtEnd(e->b, ask);
  LV given = emit_ask_for_tiles(e);
  LLVMBuildBr(e->b, asked);
  LLVMPositionBuilderAtEnd(e->b, asked);
  LV phi = LLVMBuildPhi(e->b, e->i1, "");
  LLVMAddIncoming(phi, (LV[]){LLVMConstInt(e->i1, 0, false), given}, (LLVMBasicBlockRef[]){from, ask}, 2);
  return phi;
}

static void take(Emit *e, const Choice *c, uint32_t level) {
  LLVMBuildStore(e->b, k32(e, level), byte_after(e, c->ws, k64(e, HEAD_LEVEL)));
  put_text(e, c->ws, c->names, k64(e, level));
  if (e->opt->external) LLVMBuildStore(e->b, LLVMConstNull(e->ptr), byte_after(e, c->ws, k64(e, HEAD_WEIGHTS)));
  LLVMBuildStore(e->b, k64(e, workspace_mark(e)), c->ws);
  LLVMBuildRet(e->b, k32(e, QCC_OK));
}

// The first feature that the level asked for, or the least level, lacks; the tiles when it lacks none.
static void refuse(Emit *e, const Choice *c) {
  LV need = k64(e, cpu_needs_of(&c->all, e->levels[0].row));
  uint32_t tiles = 0;
  while (tiles + 1 < c->all.n && c->all.feature[tiles] != FEATURE_AMX_TILE) tiles++;
  for (uint32_t i = 1; i < e->n_levels; i++) {
    LV asked = LLVMBuildAnd(e->b, is(e, LLVMIntEQ, c->wanted, k64(e, i)), LLVMBuildIsNotNull(e->b, c->name, ""), "");
    need = LLVMBuildSelect(e->b, asked, k64(e, cpu_needs_of(&c->all, e->levels[i].row)), need, "");
  }
  LV missing = LLVMBuildAnd(e->b, need, LLVMBuildNot(e->b, c->have, ""), "");
  missing = LLVMBuildSelect(e->b, LLVMBuildIsNull(e->b, missing, ""), k64(e, UINT64_C(1) << tiles), missing, "");
  LV first = call_intrinsic(e, "llvm.cttz", 1, &e->i64, 2, (LV[]){missing, LLVMConstInt(e->i1, 1, false)});
  put_text(e, c->ws, c->features, first);
  LLVMBuildStore(e->b, k64(e, 0), c->ws);
  LLVMBuildRet(e->b, k32(e, QCC_E_CPU));
}

static void choose(Emit *e, const Choice *c) {
  for (uint32_t i = e->n_levels; i-- > 0;) {
    LLVMBasicBlockRef look = block_new(e, "look"), here = block_new(e, "take"), lower = block_new(e, "lower");
    LV allowed = LLVMBuildOr(e->b, LLVMBuildIsNull(e->b, c->name, ""), is(e, LLVMIntEQ, c->wanted, k64(e, i)), "");
    LLVMBuildCondBr(e->b, allowed, look, lower);
    LLVMPositionBuilderAtEnd(e->b, look);
    LLVMBuildCondBr(e->b, level_fits(e, c, &e->levels[i]), here, lower);
    LLVMPositionBuilderAtEnd(e->b, here);
    take(e, c, i);
    LLVMPositionBuilderAtEnd(e->b, lower);
  }
  if (c->all.n)
    refuse(e, c);
  else
    LLVMBuildRet(e->b, k32(e, QCC_E_CPU));
}

static LV wanted_level(Emit *e, LV named, LV name) {
  LLVMBasicBlockRef from = LLVMGetInsertBlock(e->b), look = block_new(e, "named"), done = block_new(e, "wanted");
  LLVMBuildCondBr(e->b, LLVMBuildIsNotNull(e->b, name, ""), look, done);
  LLVMPositionBuilderAtEnd(e->b, look);
  LV found = LLVMBuildCall2(e->b, LLVMGlobalGetValueType(named), named, &name, 1, "");
  return_if(e, is(e, LLVMIntEQ, found, k64(e, e->n_levels)), k32(e, QCC_E_LEVEL));
  LLVMBasicBlockRef known = LLVMGetInsertBlock(e->b);
  LLVMBuildBr(e->b, done);
  LLVMPositionBuilderAtEnd(e->b, done);
  LV phi = LLVMBuildPhi(e->b, e->i64, "");
  LLVMAddIncoming(phi, (LV[]){k64(e, 0), found}, (LLVMBasicBlockRef[]){from, known}, 2);
  return phi;
}

static LV emit_init_level(Emit *e) {
  Choice c = {.all = cpu_needs(e)};
  const char *text[FEATURE_COUNT + MAX_LEVELS];
  for (uint32_t i = 0; i < e->n_levels; i++) text[i] = e->levels[i].row->t.name;
  c.names = texts(e, e->n_levels, text, "levels");
  for (uint32_t i = 0; i < c.all.n; i++) text[i] = cpu_feature_info(c.all.feature[i])->llvm;
  if (c.all.n) c.features = texts(e, c.all.n, text, "missing");
  LV cpu = c.all.n ? emit_cpu_features(e, &c.all) : NULL, named = emit_level_named(e, c.names);
  LV fn = fn_new(e, arena_printf(e->arena, "%s_init_level", e->opt->name), e->i32, 2, (LT[]){e->ptr, e->ptr},
                 LLVMInternalLinkage);
  begin(e, fn);
  c.ws = LLVMGetParam(fn, 0);
  c.name = LLVMGetParam(fn, 1);
  return_if(e, LLVMBuildIsNull(e->b, c.ws, ""), k32(e, QCC_E_ARG));
  LV low = LLVMBuildAnd(e->b, LLVMBuildPtrToInt(e->b, c.ws, e->i64, ""), k64(e, WORKSPACE_HEAD - 1), "");
  return_if(e, is(e, LLVMIntNE, low, k64(e, 0)), k32(e, QCC_E_ALIGN));
  c.wanted = wanted_level(e, named, c.name);
  c.have = cpu ? LLVMBuildCall2(e->b, LLVMGlobalGetValueType(cpu), cpu, NULL, 0, "") : k64(e, UINT64_MAX);
  choose(e, &c);
  return fn;
}

void emit_init(Emit *e, EntryPoints *out) {
  LV level = out->init_level = emit_init_level(e);
  LV fn = out->init =
      fn_new(e, arena_printf(e->arena, "%s_init", e->opt->name), e->i32, 1, &e->ptr, LLVMExternalLinkage);
  begin(e, fn);
  LV args[2] = {LLVMGetParam(fn, 0), LLVMConstNull(e->ptr)};
  LLVMBuildRet(e->b, LLVMBuildCall2(e->b, LLVMGlobalGetValueType(level), level, args, 2, ""));
}
