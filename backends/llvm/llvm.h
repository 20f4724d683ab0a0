// Shared by the files of the LLVM backend: the state of one emission.
//
// A value of lane type T is either uniform (an LLVM scalar) or varying (a vector with one element per lane of the
// enclosing vec loop). Representation: f16 and bf16 as i16, packed lanes as i32, bool as i1 (i8 in memory), the rest as
// in LLVM. Operations accept any mix; a uniform operand is splat when its partner varies.
#ifndef QCC_BACKENDS_LLVM_LLVM_H
#define QCC_BACKENDS_LLVM_LLVM_H

#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>

#include "backends/backend.h"
#include "backends/iface.h"
#include "backends/llvm/module.h"
#include "backends/target.h"
#include "ir/base/map.h"
#include "ir/base/vec.h"

typedef LLVMValueRef LV;
typedef LLVMTypeRef LT;

// A kernel's function; emitted once however many steps and kernels call it.
typedef struct KernelFn {
  const Kernel *k;
  LV fn;
  bool par;        // takes (..., i64 from, i64 to): iterations of its par loop
  int64_t extent;  // iterations of the par loop
  const KStmt *loop;
  LV task;               // thunk for qcc_exec, made on first use
  const TargetRow *row;  // whose instructions it is made of
} KernelFn;

// What a level of the object consists of.
typedef struct LevelCode {
  const Level *level;
  const TargetRow *row;
  LV *segments;  // functions of its steps, in order
  uint32_t n_segments;
  bool has_tiles;  // some kernel uses matrix tiles
} LevelCode;

typedef struct Emit {
  Arena *arena;  // lives as long as the emission
  const EmitOptions *opt;
  LevelCode *levels;
  uint32_t n_levels;
  LevelCode *at;  // the level being emitted, and what it is emitted from
  Module *m;
  Program *p;
  const TargetRow *row;
  LLVMContextRef ctx;
  LLVMModuleRef mod;
  LLVMBuilderRef b;
  LLVMTargetMachineRef tm;
  LT i1, i8, i16, i32, i64, f32, f64, ptr, nothing;
  LT index;      // of loops and addresses: as wide as a pointer
  int64_t word;  // bytes of a pointer
  VEC(KernelFn) fns;
  Map *fn_of;    // kernel address -> index + 1 in fns
  Map *fn_like;  // hash of its meaning -> index + 1 in fns of the last such kernel
  const WeightLayout *layout;
  const int64_t *weight_at;  // by PBuf id: offset of a constant buffer in the weights
  LV weights;                // the external array NAME_weights
  LV helper[4];              // exact remainders and roots, see scalar.c

  // the function being emitted
  LV fn;
  LLVMBasicBlockRef entry;  // allocas go here
  const Kernel *k;
  LV *buf;  // pointer by buffer id
  LV *var;  // value by variable id
  // the enclosing vec loop
  const KVar *lane;  // NULL outside
  LV lane_lo;        // value of the variable in lane 0
  int64_t lane_step;
  uint32_t lanes;
  LV mask;  // <lanes x i1> inside a divergent if, or NULL
} Emit;

// ---- module.c
LV fn_new(Emit *e, const char *name, LT ret, uint32_t n, LT *args, LLVMLinkage linkage);
void fn_attr(Emit *e, LV fn, const char *key, const char *value);
void fn_baseline(Emit *e, LV fn);  // only instructions that every CPU of the architecture has
void level_enter(Emit *e, uint32_t level);
// "net_k_conv" or, of one level among several, "net_k_conv_icelake".
const char *level_symbol(const Emit *e, const char *kind, const char *name);
void targets_init(void);  // LLVM's parts for every architecture
void fn_enum_attr(Emit *e, LV fn, uint32_t index, const char *name, uint64_t value);

// What entry points return.
enum {
#define QCC_STATUS(id, value, text) id = value,
#include "runtime/status.def"
#undef QCC_STATUS
};

// ---- types and small builders (value.c)
LT type_value(Emit *e, DType t);   // scalar representation in registers
LT type_memory(Emit *e, DType t);  // in memory
int64_t type_size(DType t);        // bytes in memory; 0 for types narrower than a byte
bool is_varying(LV v);
uint32_t lanes_of(LV v);  // 1 for scalars
LT type_like(LT scalar, LV shape);
LT type_lanes(LT scalar, uint32_t lanes);
LV splat(Emit *e, LV v, uint32_t lanes);
LV lv_int(LT t, uint64_t v);  // scalar or vector splat
LV lv_real(LT t, double v);
LV const_like(Emit *e, LV shape, LT scalar, uint64_t v);
void same_shape(Emit *e, uint32_t n, LV *v);  // splats the uniform ones when any varies
LV call_intrinsic(Emit *e, const char *name, uint32_t n_types, LT *types, uint32_t n, LV *args);
LV unary_intrinsic(Emit *e, const char *name, LV x);
LV binary_intrinsic(Emit *e, const char *name, LV x, LV y);
LV shuffle(Emit *e, LV a, LV b, uint32_t n, const int32_t *lanes);  // -1: any value
LV resize_lanes(Emit *e, LV v, uint32_t n);                         // a vector of n lanes: cut, or any values behind
LLVMBasicBlockRef block_new(Emit *e, const char *name);             // behind the others of the function at hand
void return_if(Emit *e, LV bad, LV status);                         // goes on in a new block
LV vary_bitcast(Emit *e, LV v, LT scalar);

// ---- cast.c
LV emit_round_cast(Emit *e, DType from, DType to, LV x, int64_t add);  // of x rounded half to even, plus a whole number
LV emit_saturate_bytes(Emit *e, DType to, LV x);   // i32 to u8 or i8; NULL where x86 does not pack them
LV emit_byte_and_back(Emit *e, DType byte, LV x);  // whole floats cast to u8 or i8 and back to their type
LV emit_cast(Emit *e, DType from, DType to, LV x);
LV widen_half(Emit *e, DType t, LV x);   // f16 or bf16 -> float
LV narrow_half(Emit *e, DType t, LV x);  // float -> f16 or bf16, half to even

// ---- scalar.c
// Every basic op but lookups and DOT4; type: of the result, arg_type: of argument 0.
LV emit_kop(Emit *e, KOp op, DType type, DType arg_type, LV *arg);
LV emit_kop_dot4(Emit *e, DType a_type, LV *arg);  // a_type: u8x4 or i8x4
LV emit_select(Emit *e, LV cond, LV a, LV b);

// ---- dot_arm.c
LV emit_dot4_arm(Emit *e, bool a_signed, LV *v);  // v: sums, a, b of one shape; NULL: as any other target

// ---- memory.c
LV buffer_pointer(Emit *e, const KBuf *b);
Affine linear_index(const KBuf *b, const Affine *idx);
LV emit_affine(Emit *e, const Affine *a);
LV emit_load(Emit *e, const KBuf *b, const Affine *at, LV moved);  // moved: extra element offset or NULL
void emit_store(Emit *e, const KBuf *b, const Affine *at, LV value);
LV emit_address(Emit *e, const KBuf *b, const Affine *at);  // uniform

// ---- expr.c
LV emit_expr(Emit *e, const KExpr *x);
bool affine_varies(const Emit *e, const Affine *a);

// ---- kernel.c
KernelFn *kernel_fn(Emit *e, const Kernel *k);  // declares it on first use
// share.c: number + 1 of a function that an earlier level has for an equal kernel and that this level would not make
// otherwise; 0 when there is none. Without one the kernel is remembered as the next function.
uintptr_t kernel_fn_alike(Emit *e, const Kernel *k);
void emit_kernels(Emit *e, uint32_t first);  // bodies of all declared kernels from `first` on, to a fixed point

// ---- tile.c
bool emit_tiles_begin(Emit *e);  // configures the tiles of the kernel at hand; false: it has none
void emit_tiles_end(Emit *e);    // gives them back
void emit_tile(Emit *e, const KStmt *s);

// ---- entry.c, init.c, tables.c, cpu.c
void emit_entry(Emit *e);
typedef struct EntryPoints {
  LV init, init_level, run, workspace_size;
} EntryPoints;
void emit_tables(Emit *e, const EntryPoints *entry);
uint64_t workspace_mark(const Emit *e);
void emit_init(Emit *e, EntryPoints *out);  // init.c: init and init_level
void emit_init_weights(Emit *e, LV init);   // weights.c
// What the levels ask of the CPU: features in the order of cpu_features.def, a bit for each.
typedef struct CpuNeeds {
  CpuFeature feature[FEATURE_COUNT];
  uint32_t n;
} CpuNeeds;
CpuNeeds cpu_needs(const Emit *e);
uint64_t cpu_needs_of(const CpuNeeds *all, const TargetRow *row);
LV emit_cpu_features(Emit *e, const CpuNeeds *all);  // function i64 (): the bits this machine offers
LV emit_ask_for_tiles(Emit *e);                      // i1: the system gives this process tile registers
// The head of a workspace, WORKSPACE_HEAD bytes before the first buffer.
#define WORKSPACE_HEAD 64
#define HEAD_MARK 0   // u64: init prepared it
#define HEAD_LEVEL 8  // u32: the level chosen
#define HEAD_TEXT 16  // its name, or what the CPU lacks: at most HEAD_TEXT_BYTES with the terminator
#define HEAD_TEXT_BYTES 32
#define HEAD_WEIGHTS 48  // where the constants are, of objects without their own

#endif
