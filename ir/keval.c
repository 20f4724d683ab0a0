// The interpreter of kernels, first half: from the tree to flat code (keval_code.h), and running programs.
//
// The flat code computes exactly what the tree says, one scalar at a time and in the order of the text; lanes of a
// `vec` loop are its iterations. Nothing is simplified. The second half, keval_run.c, gives each instruction its
// meaning.
#include "ir/keval.h"

#include <string.h>

#include "ir/keval_code.h"

typedef struct Compile {
  Arena *arena;
  Code *code;
  uint32_t *var_slot;      // by variable id
  uint32_t *buf_region;    // by buffer id, + 1
  uint32_t lane, lane_lo;  // slots of the innermost vec loop's variable and lower bound
  int64_t lane_step;
  Map *codes;  // kernel address -> Code; looked up only, never walked
} Compile;

int64_t kbuf_span(const KBuf *b) {
  int64_t last = 0;
  for (uint32_t i = 0; i < b->rank; i++) {
    if (b->dims[i] == 0) return 0;
    last += (b->dims[i] - 1) * b->strides[i];
  }
  return ((last + 1) * dtype_info(b->type)->bits + 7) / 8;
}

static uint32_t new_slot(Compile *c, Slot initial) {
  vec_push(c->arena, &c->code->slot, initial);
  return c->code->slot.n - 1;
}

static Ins *emit(Compile *c, InsCode code) {
  Ins ins = {.code = code};
  vec_push(c->arena, &c->code->ins, ins);
  return &c->code->ins.at[c->code->ins.n - 1];
}

static FlatAffine flat_affine(Compile *c, const Affine *a) {
  FlatAffine r = {.base = a->base, .n = a->n, .term = NEW_ARRAY(c->arena, FlatTerm, a->n + 1)};
  for (uint32_t i = 0; i < a->n; i++) r.term[i] = (FlatTerm){c->var_slot[a->term[i].var->id], a->term[i].coef};
  return r;
}

static uint32_t emit_affine(Compile *c, const Affine *a) {
  uint32_t dst = new_slot(c, (Slot){.i = 0});
  vec_push(c->arena, &c->code->affine, flat_affine(c, a));
  Ins *ins = emit(c, INS_INDEX);
  ins->dst = dst;
  ins->aux = c->code->affine.n - 1;
  return dst;
}

static uint32_t region_of(Compile *c, const KBuf *b) {
  while (b->view_of) b = b->view_of;
  QCC_CHECK(c->buf_region[b->id], "keval: kernel %s uses buffer %s outside its scope", c->code->kernel->name, b->name);
  return c->buf_region[b->id] - 1;
}

static uint32_t new_region(Compile *c, const KBuf *b) {
  Region r = {b, kbuf_span(b)};
  vec_push(c->arena, &c->code->region, r);
  c->buf_region[b->id] = c->code->region.n;
  return c->code->region.n - 1;
}

static Access flat_access(Compile *c, const KBuf *b, const Affine *idx, uint32_t n) {
  Access a = {.buf = b, .region = region_of(c, b)};
  for (uint32_t i = 0; i < n; i++) a.idx[i] = flat_affine(c, &idx[i]);
  return a;
}

static uint32_t new_access(Compile *c, const KBuf *b, const Affine *idx) {
  vec_push(c->arena, &c->code->access, flat_access(c, b, idx, b->rank));
  return c->code->access.n - 1;
}

static uint32_t compile_expr(Compile *c, const KExpr *x);

static uint32_t compile_op(Compile *c, const KExpr *x) {
  if (kop_table(x->op) > 0) {
    uint32_t index = compile_expr(c, x->arg[1]), aux = new_access(c, x->arg[0]->buf, x->arg[0]->idx);
    uint32_t dst = new_slot(c, (Slot){.i = 0});
    Ins *ins = emit(c, INS_LOOKUP);
    ins->op = x->op;
    ins->dst = dst;
    ins->a = index;
    ins->aux = aux;
    return dst;
  }
  uint32_t n = kop_info(x->op)->arity, arg[3] = {0, 0, 0};
  for (uint32_t i = 0; i < n; i++) arg[i] = compile_expr(c, x->arg[i]);
  uint32_t dst = new_slot(c, (Slot){.i = 0});
  Ins *ins = emit(c, INS_OP);
  ins->op = x->op;
  ins->type = x->op == KOP_DOT4 ? x->arg[1]->type : x->arg[0]->type;
  ins->to = x->type;
  ins->dst = dst;
  ins->a = arg[0];
  ins->b = arg[1];
  ins->c = arg[2];
  return dst;
}

static uint32_t compile_expr(Compile *c, const KExpr *x) {
  switch (x->kind) {
    case KX_CONST: return new_slot(c, dtype_is_float(x->type) ? (Slot){.f = x->f} : (Slot){.i = x->i});
    case KX_INDEX: return emit_affine(c, &x->index);
    case KX_VAR: return c->var_slot[x->var->id];
    case KX_LOAD: {
      uint32_t aux = new_access(c, x->buf, x->idx), dst = new_slot(c, (Slot){.i = 0});
      Ins *ins = emit(c, INS_LOAD);
      ins->aux = aux;
      ins->dst = dst;
      return dst;
    }
    case KX_OP: return compile_op(c, x);
  }
  return 0;
}

static void compile_block(Compile *c, const KBlock *b);
static Code *compile_kernel(Arena *arena, Map *codes, const Kernel *k);

static void emit_move(Compile *c, uint32_t dst, uint32_t from) {
  Ins *ins = emit(c, INS_MOVE);
  ins->dst = dst;
  ins->a = from;
}

static void compile_for(Compile *c, const KStmt *s) {
  uint32_t lo = emit_affine(c, &s->for_.lo), hi = emit_affine(c, &s->for_.hi), var = new_slot(c, (Slot){.i = 0});
  c->var_slot[s->for_.var->id] = var;
  emit_move(c, var, lo);
  uint32_t enter = c->code->ins.n;
  Ins *ins = emit(c, INS_ENTER);
  ins->a = var;
  ins->b = hi;
  Compile saved = *c;
  if (s->for_.loop == FOR_VEC) {
    c->lane = var;
    c->lane_lo = lo;
    c->lane_step = s->for_.step;
  }
  compile_block(c, &s->for_.body);
  c->lane = saved.lane;
  c->lane_lo = saved.lane_lo;
  c->lane_step = saved.lane_step;
  ins = emit(c, INS_NEXT);
  ins->a = var;
  ins->b = hi;
  ins->step = s->for_.step;
  ins->target = enter + 1;
  c->code->ins.at[enter].target = c->code->ins.n;
}

static void compile_if(Compile *c, const KStmt *s) {
  uint32_t cond = compile_expr(c, s->if_.cond), skip = c->code->ins.n;
  emit(c, INS_UNLESS)->a = cond;
  compile_block(c, &s->if_.then);
  uint32_t leave = c->code->ins.n;
  emit(c, INS_JUMP);
  c->code->ins.at[skip].target = c->code->ins.n;
  compile_block(c, &s->if_.other);
  c->code->ins.at[leave].target = c->code->ins.n;
}

static void compile_store(Compile *c, const KStmt *s) {
  uint32_t value = compile_expr(c, s->store.value), aux = new_access(c, s->store.buf, s->store.idx);
  Ins *ins = emit(c, s->kind == KS_STORE ? INS_STORE : s->store.bits ? INS_BITS : INS_REDUCE);
  ins->a = value;
  ins->aux = aux;
  ins->op = s->store.op;
  ins->type = ins->to = s->store.buf->type;
  if (ins->code != INS_BITS) return;
  QCC_CHECK(c->lane_step > 0, "keval: kernel %s reduces bits outside a vec loop", c->code->kernel->name);
  ins->b = c->lane;
  ins->c = c->lane_lo;
  ins->step = c->lane_step;
}

static void compile_call(Compile *c, const KStmt *s) {
  Call call = {.callee = compile_kernel(c->arena, c->codes, s->call.callee), .n = s->call.n};
  call.args = NEW_ARRAY(c->arena, Access, call.n + 1);
  for (uint32_t i = 0; i < call.n; i++) call.args[i] = flat_access(c, s->call.args[i], &s->call.offsets[i], 1);
  vec_push(c->arena, &c->code->call, call);
  emit(c, INS_CALL)->aux = c->code->call.n - 1;
}

static void compile_tile(Compile *c, const KStmt *s) {
  TileIns t = {.s = s, .tile = region_of(c, s->tile.tile)};
  if (s->tile.idx) t.memory = flat_access(c, s->tile.buf, s->tile.idx, s->tile.buf->rank);
  if (s->tile.b) {
    t.a = region_of(c, s->tile.buf);
    t.b = region_of(c, s->tile.b);
  }
  vec_push(c->arena, &c->code->tile, t);
  emit(c, INS_TILE)->aux = c->code->tile.n - 1;
}

static void compile_block(Compile *c, const KBlock *b) {
  for (const KStmt *s = b->first; s; s = s->next) switch (s->kind) {
      case KS_FOR: compile_for(c, s); break;
      case KS_IF: compile_if(c, s); break;
      case KS_LET: {
        uint32_t value = compile_expr(c, s->let.value), var = new_slot(c, (Slot){.i = 0});
        c->var_slot[s->let.var->id] = var;
        emit_move(c, var, value);
        break;
      }
      case KS_STORE:
      case KS_REDUCE: compile_store(c, s); break;
      case KS_ALLOC: {
        uint32_t region = new_region(c, s->alloc.buf);
        emit(c, INS_FILL)->aux = region;
        break;
      }
      case KS_CALL: compile_call(c, s); break;
      case KS_TILE: compile_tile(c, s); break;
    }
}

static Code *compile_kernel(Arena *arena, Map *codes, const Kernel *k) {
  Code *known = map_get(codes, (uint64_t)(uintptr_t)k);
  if (known) return known;
  Code *code = NEW(arena, Code);
  code->kernel = k;
  map_set(codes, (uint64_t)(uintptr_t)k, code);
  Compile c = {.arena = arena, .code = code, .codes = codes};
  c.var_slot = NEW_ARRAY(arena, uint32_t, k->n_vars + 1);
  c.buf_region = NEW_ARRAY(arena, uint32_t, k->n_bufs + 1);
  for (uint32_t i = 0; i < k->n_params; i++) new_region(&c, k->params[i]);
  compile_block(&c, &k->body);
  return code;
}

bool keval_kernel(Module *m, const Kernel *k, void *const *args) {
  Arena *arena = arena_new("keval");
  Code *code = compile_kernel(arena, map_new(arena), k);
  uint8_t **bytes = NEW_ARRAY(arena, uint8_t *, k->n_params + 1);
  for (uint32_t i = 0; i < k->n_params; i++) bytes[i] = args[i];
  bool ok = code_run(m, arena, code, bytes);
  arena_free(arena);
  return ok;
}

// ---- programs

typedef struct Memory {
  Arena *arena;
  Program *p;
  uint8_t *workspace;
  uint8_t **at;  // by buffer id; NULL: not placed yet
} Memory;

static uint8_t *poisoned(Arena *arena, int64_t bytes) {
  uint8_t *at = arena_alloc(arena, (size_t)bytes + 64);
  memset(at, 0xff, (size_t)bytes + 64);
  return at;
}

static uint8_t *place(Memory *mem, PBuf *b, const void *const *inputs, void *const *outputs) {
  int64_t offset;
  PBuf *root = pbuf_root(b, &offset);
  if (!mem->at[root->id]) switch (root->kind) {
      case PBUF_INPUT: mem->at[root->id] = (uint8_t *)(uintptr_t)inputs[root->index]; break;
      case PBUF_OUTPUT: mem->at[root->id] = outputs[root->index]; break;
      case PBUF_CONST: mem->at[root->id] = (uint8_t *)(uintptr_t)const_data(mem->p->module, root->constant); break;
      case PBUF_WORK:
        mem->at[root->id] = root->offset >= 0 ? mem->workspace + root->offset : poisoned(mem->arena, root->bytes);
        break;
    }
  return mem->at[root->id] + offset;
}

static bool check_step(Program *p, const Step *s) {
  for (uint32_t i = 0; i < s->n_args; i++) {
    const KBuf *param = s->kernel->params[i];
    int64_t offset, have = pbuf_root(s->args[i], &offset)->bytes - offset;
    if (kbuf_span(param) > have)
      return diag_error(p->module->diag, DIAG_REFUSED, s->loc,
                        "internal error: kernel %s takes %lld bytes of %s, buffer %s has %lld", s->kernel->name,
                        (long long)kbuf_span(param), param->name, s->args[i]->name, (long long)have);
  }
  return true;
}

static bool run_step(Memory *mem, Map *codes, const Step *s, const void *const *inputs, void *const *outputs) {
  if (!check_step(mem->p, s)) return false;
  Code *code = compile_kernel(mem->arena, codes, s->kernel);
  uint8_t **args = NEW_ARRAY(mem->arena, uint8_t *, s->n_args + 1);
  for (uint32_t i = 0; i < s->n_args; i++) args[i] = place(mem, s->args[i], inputs, outputs);
  return code_run(mem->p->module, mem->arena, code, args);
}

bool keval_program(Program *p, const void *const *inputs, void *const *outputs) {
  Arena *arena = arena_new("keval");
  Memory mem = {.arena = arena, .p = p, .at = NEW_ARRAY(arena, uint8_t *, p->bufs.n + 1)};
  mem.workspace = poisoned(arena, p->workspace_bytes);
  Map *codes = map_new(arena);
  bool ok = true;
  for (uint32_t i = 0; ok && i < p->steps.n; i++) ok = run_step(&mem, codes, &p->steps.at[i], inputs, outputs);
  arena_free(arena);
  return ok;
}
