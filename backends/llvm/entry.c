// The functions a program is called through: init, run, and the steps in between.
//
//   NAME_call(call)            checks the arguments, then runs the segments in order
//   NAME_s_N(in, out, ws, ex)  up to SEGMENT_STEPS steps each, so that no function grows with the network
//   NAME_t_KERNEL(arg, i)      chunk i of a kernel's par loop, for qcc_exec.parallel_for
//
// Objects of several levels have the last two for each of them, NAME_s_N_LEVEL; call goes on by the level that init
// wrote into the workspace (init.c). The workspace begins with WORKSPACE_HEAD bytes that hold it and the mark of init;
// run refuses a workspace without the mark. init and run use baseline instructions only, so they work on any CPU of the
// architecture. A step
// goes to the caller's threads when its estimated time pays for the hand-over; chunks are ranges of iterations, which
// are independent, so every split gives the same bits.
#include <string.h>

#include "backends/llvm/llvm.h"

#define SEGMENT_STEPS 64
#define CHUNKS_PER_THREAD 16
#define CHUNK_CYCLES 8000
#define PAR_CYCLES 12000

enum { CALL_WORKSPACE, CALL_INPUTS, CALL_OUTPUTS, CALL_DIMS, CALL_EXEC };  // fields of qcc_call, pointers

static LV k32(Emit *e, uint64_t v) { return LLVMConstInt(e->i32, v, false); }
static LV k64(Emit *e, uint64_t v) { return LLVMConstInt(e->i64, v, false); }
static LV kix(Emit *e, uint64_t v) { return LLVMConstInt(e->index, v, false); }
static LV offset(Emit *e, LV p, int64_t bytes) {
  LV k = kix(e, (uint64_t)bytes);
  return bytes ? LLVMBuildGEP2(e->b, e->i8, p, &k, 1, "") : p;
}
static LV load_at(Emit *e, LT t, LV p, int64_t bytes) { return LLVMBuildLoad2(e->b, t, offset(e, p, bytes), ""); }

static void begin(Emit *e, LV fn) {
  e->fn = fn;
  e->k = NULL;
  e->entry = LLVMAppendBasicBlockInContext(e->ctx, fn, "entry");
  LLVMPositionBuilderAtEnd(e->b, e->entry);
}

static const char *symbol(Emit *e, const char *kind, const char *name) {
  return arena_printf(e->arena, "%s_%s%s", e->opt->name, kind, name);
}

// ---- steps

// Compute and traffic in cycles of one core.
static double step_cycles(const Emit *e, const Step *s) {
  const Target *t = &e->row->t;
  double bytes = s->bytes;
  for (uint32_t i = 0; s->bytes == 0 && i < s->n_args; i++) bytes += (double)s->args[i]->bytes;
  return s->macs / (t->fma_per_cycle * t->vector_bits / 32) + bytes / (t->l2_bytes_cycle / 2);
}

// Chunks that a step is cut into for many threads; 0 when threads don't pay.
static int64_t step_chunks(const Emit *e, const Step *s, int64_t extent) {
  double cycles = step_cycles(e, s), chunks = cycles / CHUNK_CYCLES;
  if (e->opt->par_always) return extent;
  if (cycles < PAR_CYCLES) return 0;
  return chunks < 2 ? 2 : chunks < (double)extent ? (int64_t)chunks : extent;
}

typedef struct Segment {
  LV inputs, outputs, workspace, exec;
  LV task;  // alloca for the arguments of a parallel step, or NULL
} Segment;

// Where the constants lie: in the object, or where init_weights found them.
static LV weights_of(Emit *e, LV workspace) {
  return e->opt->external ? load_at(e, e->ptr, workspace, HEAD_WEIGHTS) : e->weights;
}

static LV step_pointer(Emit *e, const Segment *s, PBuf *b) {
  int64_t at;
  PBuf *root = pbuf_root(b, &at);
  switch (root->kind) {
    case PBUF_INPUT: return offset(e, load_at(e, e->ptr, s->inputs, e->word * (int64_t)root->index), at);
    case PBUF_OUTPUT: return offset(e, load_at(e, e->ptr, s->outputs, e->word * (int64_t)root->index), at);
    case PBUF_CONST: return offset(e, weights_of(e, s->workspace), e->weight_at[root->id] + at);
    case PBUF_WORK:
      QCC_CHECK(root->offset >= 0, "buffer %s has no place in the workspace", root->name);
      return offset(e, s->workspace, WORKSPACE_HEAD + root->offset + at);
  }
  return NULL;
}

static void call_kernel(Emit *e, const KernelFn *f, uint32_t n, LV *args, LV from, LV to) {
  LV *all = NEW_ARRAY(e->arena, LV, n + 2);
  for (uint32_t i = 0; i < n; i++) all[i] = args[i];
  if (f->par) all[n++] = from, all[n++] = to;
  LLVMBuildCall2(e->b, LLVMGlobalGetValueType(f->fn), f->fn, all, n, "");
}

static void parallel_step(Emit *e, Segment *s, KernelFn *f, int64_t chunks_at_most, uint32_t n, LV *args) {
  if (!f->task) {
    const char *name = symbol(e, "t_", LLVMGetValueName(f->fn) + strlen(e->opt->name) + strlen("_k_"));
    f->task = fn_new(e, name, e->nothing, 2, (LT[]){e->ptr, e->i32}, LLVMInternalLinkage);
  }
  LV ctx = load_at(e, e->ptr, s->exec, 0), threads = load_at(e, e->i32, s->exec, e->word);
  LV most = LLVMBuildMul(e->b, LLVMBuildZExtOrBitCast(e->b, threads, e->index, ""), kix(e, CHUNKS_PER_THREAD), "");
  LV args2[2] = {most, kix(e, (uint64_t)chunks_at_most)};
  LV chunks = call_intrinsic(e, "llvm.umin", 1, &e->index, 2, args2);
  LLVMBuildStore(e->b, chunks, s->task);
  for (uint32_t i = 0; i < n; i++) LLVMBuildStore(e->b, args[i], offset(e, s->task, e->word * ((int64_t)i + 1)));
  LV run = load_at(e, e->ptr, s->exec, 2 * e->word);
  LT type = LLVMFunctionType(e->nothing, (LT[]){e->ptr, e->ptr, e->ptr, e->i32}, 4, false);
  LV call[4] = {ctx, f->task, s->task, LLVMBuildTruncOrBitCast(e->b, chunks, e->i32, "")};
  LLVMBuildCall2(e->b, type, run, call, 4, "");
}

static void emit_step(Emit *e, Segment *s, const Step *st) {
  KernelFn *f = kernel_fn(e, st->kernel);
  LV *args = NEW_ARRAY(e->arena, LV, st->n_args + 1);
  for (uint32_t i = 0; i < st->n_args; i++) args[i] = step_pointer(e, s, st->args[i]);
  LV zero = kix(e, 0), extent = kix(e, (uint64_t)f->extent);
  int64_t chunks = f->par ? step_chunks(e, st, f->extent) : 0;
  if (chunks < 2) {
    call_kernel(e, f, st->n_args, args, zero, extent);
    return;
  }
  LLVMBasicBlockRef alone = block_new(e, "alone"), shared = block_new(e, "shared"), next = block_new(e, "next");
  LLVMBuildCondBr(e->b, LLVMBuildIsNull(e->b, s->exec, ""), alone, shared);
  LLVMPositionBuilderAtEnd(e->b, alone);
  call_kernel(e, f, st->n_args, args, zero, extent);
  LLVMBuildBr(e->b, next);
  LLVMPositionBuilderAtEnd(e->b, shared);
  parallel_step(e, s, f, chunks, st->n_args, args);
  LLVMBuildBr(e->b, next);
  LLVMPositionBuilderAtEnd(e->b, next);
}

// task(arg, i): arg is {chunks, pointers...}; runs iterations [extent i / chunks, extent (i + 1) / chunks).
static void emit_task(Emit *e, const KernelFn *f) {
  begin(e, f->task);
  LV arg = LLVMGetParam(f->task, 0), i = LLVMBuildZExtOrBitCast(e->b, LLVMGetParam(f->task, 1), e->index, "");
  LV chunks = load_at(e, e->index, arg, 0), extent = kix(e, (uint64_t)f->extent);
  LV from = LLVMBuildUDiv(e->b, LLVMBuildMul(e->b, extent, i, ""), chunks, "");
  LV next = LLVMBuildAdd(e->b, i, kix(e, 1), "");
  LV to = LLVMBuildUDiv(e->b, LLVMBuildMul(e->b, extent, next, ""), chunks, "");
  LV *args = NEW_ARRAY(e->arena, LV, f->k->n_params + 1);
  for (uint32_t p = 0; p < f->k->n_params; p++) args[p] = load_at(e, e->ptr, arg, e->word * ((int64_t)p + 1));
  call_kernel(e, f, f->k->n_params, args, from, to);
  LLVMBuildRetVoid(e->b);
}

static LV emit_segment(Emit *e, uint32_t first, uint32_t n) {
  LT types[4] = {e->ptr, e->ptr, e->ptr, e->ptr};
  LV fn =
      fn_new(e, level_symbol(e, "s_", arena_printf(e->arena, "%u", first)), e->nothing, 4, types, LLVMInternalLinkage);
  begin(e, fn);
  uint32_t most = 0;
  for (uint32_t i = first; i < first + n; i++)
    if (e->p->steps.at[i].n_args > most) most = e->p->steps.at[i].n_args;
  Segment s = {LLVMGetParam(fn, 0), LLVMGetParam(fn, 1), LLVMGetParam(fn, 2), LLVMGetParam(fn, 3), NULL};
  s.task = LLVMBuildAlloca(e->b, LLVMArrayType2(e->index, most + 1), "");
  for (uint32_t i = first; i < first + n; i++) emit_step(e, &s, &e->p->steps.at[i]);
  LLVMBuildRetVoid(e->b);
  return fn;
}

// ---- run

static void return_unless(Emit *e, LV ok, uint64_t status) { return_if(e, LLVMBuildNot(e->b, ok, ""), k32(e, status)); }

static LV not_null(Emit *e, LV p) { return LLVMBuildIsNotNull(e->b, p, ""); }

// Pointers of tensors without bytes may be NULL.
static void check_pointers(Emit *e, LV list, uint32_t n, const IfaceTensor *t) {
  if (n) return_unless(e, not_null(e, list), QCC_E_ARG);
  LV all = LLVMConstInt(e->i1, 1, false);
  for (uint32_t i = 0; i < n; i++)
    if (t[i].bytes) all = LLVMBuildAnd(e->b, all, not_null(e, load_at(e, e->ptr, list, e->word * (int64_t)i)), "");
  return_unless(e, all, QCC_E_ARG);
}

static LV is_aligned(Emit *e, LV p) {
  LV bits = LLVMBuildAnd(e->b, LLVMBuildPtrToInt(e->b, p, e->index, ""), kix(e, WORKSPACE_HEAD - 1), "");
  return LLVMBuildICmp(e->b, LLVMIntEQ, bits, kix(e, 0), "");
}

// NULL unless the caller offers more than one thread.
static LV usable_exec(Emit *e, LV exec) {
  LLVMBasicBlockRef from = LLVMGetInsertBlock(e->b), look = block_new(e, "threads"), done = block_new(e, "start");
  LLVMBuildCondBr(e->b, not_null(e, exec), look, done);
  LLVMPositionBuilderAtEnd(e->b, look);
  LV many = LLVMBuildICmp(e->b, LLVMIntUGT, load_at(e, e->i32, exec, e->word), k32(e, 1), "");
  LV both = LLVMBuildAnd(e->b, many, not_null(e, load_at(e, e->ptr, exec, 2 * e->word)), "");
  LV chosen = LLVMBuildSelect(e->b, both, exec, LLVMConstNull(e->ptr), "");
  LLVMBuildBr(e->b, done);
  LLVMPositionBuilderAtEnd(e->b, done);
  LV phi = LLVMBuildPhi(e->b, e->ptr, "");
  LLVMAddIncoming(phi, (LV[]){LLVMConstNull(e->ptr), chosen}, (LLVMBasicBlockRef[]){from, look}, 2);
  return phi;
}

// Checks of run; leaves the four arguments of the segments.
static void check_call(Emit *e, LV call, LV segment_args[4]) {
  Iface iface = iface_of(e->m, e->arena);
  return_unless(e, not_null(e, call), QCC_E_ARG);
  LV ws = load_at(e, e->ptr, call, e->word * CALL_WORKSPACE);
  segment_args[0] = load_at(e, e->ptr, call, e->word * CALL_INPUTS);
  segment_args[1] = load_at(e, e->ptr, call, e->word * CALL_OUTPUTS);
  segment_args[2] = ws;
  return_unless(e, not_null(e, ws), QCC_E_ARG);
  check_pointers(e, segment_args[0], iface.n_in, iface.in);
  check_pointers(e, segment_args[1], iface.n_out, iface.out);
  return_unless(e, is_aligned(e, ws), QCC_E_ALIGN);
  LV mark = LLVMBuildICmp(e->b, LLVMIntEQ, load_at(e, e->i64, ws, HEAD_MARK), k64(e, workspace_mark(e)), "");
  return_unless(e, mark, QCC_E_WORKSPACE);
  if (e->opt->external) return_unless(e, not_null(e, load_at(e, e->ptr, ws, HEAD_WEIGHTS)), QCC_E_WEIGHTS);
  segment_args[3] = usable_exec(e, load_at(e, e->ptr, call, e->word * CALL_EXEC));
}

static void call_segment(Emit *e, LV fn, LV args[4]) {
  LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, 4, "");
}

// Goes on in one block per level, by what init chose for this workspace; `each` leaves its block unfinished.
static void for_level(Emit *e, LV args[4], void (*each)(Emit *e, const LevelCode *l, LV args[4], LV step), LV step) {
  LLVMBasicBlockRef done = block_new(e, "done");
  LV choose = NULL;
  for (uint32_t i = 0; i < e->n_levels; i++) {
    if (e->n_levels > 1) {
      LLVMBasicBlockRef here = block_new(e, "level");
      if (i == 0)
        choose = LLVMBuildSwitch(e->b, load_at(e, e->i32, args[2], HEAD_LEVEL), here, e->n_levels);
      else
        LLVMAddCase(choose, k32(e, i), here);
      LLVMPositionBuilderAtEnd(e->b, here);
    }
    each(e, &e->levels[i], args, step);
    LLVMBuildBr(e->b, done);
  }
  LLVMPositionBuilderAtEnd(e->b, done);
  LLVMBuildRet(e->b, k32(e, QCC_OK));
}

static void call_level(Emit *e, const LevelCode *l, LV args[4], LV step) {
  (void)step;
  for (uint32_t i = 0; i < l->n_segments; i++) call_segment(e, l->segments[i], args);
}

static LV new_entry(Emit *e, const char *kind, uint32_t n, LT *types, LLVMLinkage linkage) {
  LV fn = fn_new(e, symbol(e, kind, ""), e->i32, n, types, linkage);
  fn_baseline(e, fn);
  fn_attr(e, fn, "no-jump-tables", "true");  // a table would need relocations in .rodata
  begin(e, fn);
  return fn;
}

static LV emit_run(Emit *e) {
  LV fn = new_entry(e, "call", 1, &e->ptr, LLVMInternalLinkage), args[4];
  check_call(e, LLVMGetParam(fn, 0), args);
  for_level(e, args, call_level, NULL);
  return fn;
}

static void call_one_step(Emit *e, const LevelCode *l, LV args[4], LV step) {
  LLVMBasicBlockRef done = block_new(e, "ran"), none = block_new(e, "none");
  LV choose = LLVMBuildSwitch(e->b, step, none, l->n_segments);
  for (uint32_t i = 0; i < l->n_segments; i++) {
    LLVMBasicBlockRef here = block_new(e, "step");
    LLVMAddCase(choose, k32(e, i), here);
    LLVMPositionBuilderAtEnd(e->b, here);
    call_segment(e, l->segments[i], args);
    LLVMBuildBr(e->b, done);
  }
  LLVMPositionBuilderAtEnd(e->b, none);
  LLVMBuildRet(e->b, k32(e, QCC_E_ARG));
  LLVMPositionBuilderAtEnd(e->b, done);
}

// int NAME_run_step(const qcc_call *call, uint32_t i): step i alone, for measuring and for comparing layers.
static void emit_step_entry(Emit *e) {
  LV fn = new_entry(e, "run_step", 2, (LT[]){e->ptr, e->i32}, LLVMExternalLinkage), args[4];
  check_call(e, LLVMGetParam(fn, 0), args);
  for_level(e, args, call_one_step, LLVMGetParam(fn, 1));
}

// int NAME_run(void *ws, const NAME_inputs *in, const NAME_outputs *out, const qcc_exec *exec): the structs of the
// header are the arrays of qcc_call.
static void emit_typed_run(Emit *e, LV run) {
  LT types[4] = {e->ptr, e->ptr, e->ptr, e->ptr};
  LV fn = fn_new(e, symbol(e, "run", ""), e->i32, 4, types, LLVMExternalLinkage);
  fn_baseline(e, fn);
  begin(e, fn);
  LV call = LLVMBuildAlloca(e->b, LLVMArrayType2(e->index, 5), "");
  LV field[5] = {LLVMGetParam(fn, 0), LLVMGetParam(fn, 1), LLVMGetParam(fn, 2), LLVMConstNull(e->ptr),
                 LLVMGetParam(fn, 3)};
  for (int i = 0; i < 5; i++) LLVMBuildStore(e->b, field[i], offset(e, call, e->word * i));
  LLVMBuildRet(e->b, LLVMBuildCall2(e->b, LLVMGlobalGetValueType(run), run, &call, 1, ""));
}

// ---- workspace_size

void backend_workspace(const Module *m, uint64_t *bytes, uint64_t *align) {
  *align = WORKSPACE_HEAD;
  *bytes = WORKSPACE_HEAD + (uint64_t)m->program->workspace_bytes;
}

static LV emit_workspace_size(Emit *e) {
  LV fn = fn_new(e, symbol(e, "size", ""), e->i64, 1, &e->ptr, LLVMInternalLinkage);
  fn_baseline(e, fn);
  begin(e, fn);
  uint64_t bytes, align, most = 0;
  for (uint32_t i = 0; i < e->n_levels; i++) {
    backend_workspace(e->levels[i].level->m, &bytes, &align);
    if (bytes > most) most = bytes;
  }
  LLVMBuildRet(e->b, k64(e, most));
  return fn;
}

// Only ELF objects get their weights behind LLVM's back (object_patch).
static void define_weights(Emit *e) {
  if (e->opt->link.format == FORMAT_ELF) return;
  size_t n = (size_t)(e->layout->bytes ? e->layout->bytes : 1);
  char *bytes = arena_alloc(e->arena, n);
  memset(bytes, 0, n);
  for (uint32_t i = 0; i < e->layout->packed.n; i++) {
    const Packed *p = &e->layout->packed.at[i];
    memcpy(bytes + p->offset, const_data(p->m, p->c), (size_t)type_bytes(p->c->type));
  }
  LLVMSetInitializer(e->weights, LLVMConstStringInContext2(e->ctx, bytes, n, true));
  LLVMSetVisibility(e->weights, LLVMDefaultVisibility);
  LLVMSetLinkage(e->weights, LLVMInternalLinkage);
}

static void declare_weights(Emit *e) {
  if (e->opt->external) return;
  LT type = LLVMArrayType2(e->i8, (uint64_t)(e->layout->bytes ? e->layout->bytes : 1));
  e->weights = LLVMAddGlobal(e->mod, type, symbol(e, "weights", ""));
  LLVMSetGlobalConstant(e->weights, true);
  LLVMSetVisibility(e->weights, LLVMHiddenVisibility);
  LLVMSetAlignment(e->weights, 64);
  define_weights(e);
}

static void emit_level(Emit *e, uint32_t level) {
  level_enter(e, level);
  uint32_t first = e->fns.n;
  uint32_t steps = e->p->steps.n, each = e->opt->steps ? 1 : SEGMENT_STEPS;
  uint32_t n = (steps + each - 1) / each;
  e->at->segments = NEW_ARRAY(e->arena, LV, n + 1);
  e->at->n_segments = n;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t rest = steps - i * each;
    e->at->segments[i] = emit_segment(e, i * each, rest < each ? rest : each);
  }
  emit_kernels(e, first);
}

// A task belongs to its kernel, whichever level first gives it to threads.
static void emit_tasks(Emit *e) {
  for (uint32_t i = 0; i < e->fns.n; i++)
    if (e->fns.at[i].task) emit_task(e, &e->fns.at[i]);
}

void emit_entry(Emit *e) {
  declare_weights(e);
  for (uint32_t i = 0; i < e->n_levels; i++) emit_level(e, i);
  emit_tasks(e);
  level_enter(e, 0);
  EntryPoints entry = {.run = emit_run(e)};
  emit_typed_run(e, entry.run);
  if (e->opt->steps) emit_step_entry(e);
  emit_init(e, &entry);
  if (e->opt->external) emit_init_weights(e, entry.init);
  entry.workspace_size = emit_workspace_size(e);
  emit_tables(e, &entry);
}
