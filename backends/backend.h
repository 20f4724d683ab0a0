// From a program to object bytes and a header. The only interface the driver sees; LLVM stays inside backends/llvm.
#ifndef QCC_BACKENDS_BACKEND_H
#define QCC_BACKENDS_BACKEND_H

#include "ir/kernel.h"
#include "ir/target.h"

// ---- targets (targets.def)
const Target *target_by_name(const char *name);  // "native" gives the best row for this CPU; NULL when unknown
const Target *target_native(void);
uint32_t target_count(void);
const Target *target_at(uint32_t i);
// Whether this machine offers every feature of the row (CPUID and XCR0, never the CPU's name).
bool target_runs_here(const Target *t);
// What --target=NAME compiles: the rows of the family NAME from least to most, or the one row NAME; n is 0 when
// unknown.
#define MAX_LEVELS 8
typedef struct TargetLevels {
  uint32_t n;
  const Target *at[MAX_LEVELS];
} TargetLevels;
TargetLevels target_levels(const char *name);
const char *target_family(const Target *t);  // NULL: the row is a level of no family
// Families and rows, "x86-64, aarch64, x86-64-v2, ..." for messages.
const char *target_list(Arena *arena);

// How an object fits what it is linked into. DEFAULT: what the target has by itself.
typedef enum Relocation { RELOCATION_DEFAULT, RELOCATION_PIC, RELOCATION_STATIC } Relocation;
typedef enum CodeModel { CODE_MODEL_DEFAULT, CODE_MODEL_SMALL, CODE_MODEL_MEDIUM, CODE_MODEL_LARGE } CodeModel;
typedef enum FloatAbi { FLOAT_ABI_DEFAULT, FLOAT_ABI_SOFT, FLOAT_ABI_HARD } FloatAbi;
typedef enum ObjectFormat { FORMAT_ELF, FORMAT_COFF, FORMAT_MACHO } ObjectFormat;  // Linux and bare, Windows, macOS
typedef struct LinkChoices {
  Relocation relocation;
  CodeModel code_model;
  FloatAbi float_abi;
  ObjectFormat format;
} LinkChoices;
// Whether the target has what was chosen; false after one line that names the option.
bool link_choices_fit(const LinkChoices *c, const Target *t, Diag *diag);

typedef struct EmitOptions {
  const char *name;       // symbol prefix, already mangled
  const char *info_json;  // qcc_model.info
  bool pic;               // position independent where the target has a loader and `link` says nothing else
  LinkChoices link;
  bool steps;    // also export int NAME_run_step(const qcc_call *, uint32_t i): step i alone (bench, verify)
  bool release;  // the constants are not read again: give their memory back while the object grows
  const struct TargetRow *emulated;  // tests: emit this row for the target of its name, and let init not check it
  bool external;                     // weights go to a file of their own (ObjectBytes.weights)
  bool par_always;  // tests: give every parallel step to the caller's threads, in as many chunks as it has iterations
} EmitOptions;

typedef struct ObjectBytes {
  uint8_t *at;  // malloc'ed
  size_t n;
  uint64_t stack;      // of an object: bytes of stack one call takes at most
  uint64_t workspace;  // of an object: bytes of workspace, for every level enough
  uint64_t shared;     // of an object: bytes of constants that several levels read
  uint8_t *weights;    // malloc'ed: the file of weights; NULL: they are in the object
  size_t n_weights;
} ObjectBytes;

typedef enum EmitKind { EMIT_OBJECT, EMIT_ASM, EMIT_LL } EmitKind;

// Bytes and alignment of the workspace run needs: the program's buffers behind a head of 64 bytes, which init fills:
// its mark, the level it chose, and text. Buffer b of kind WORK lies at 64 + offset.
void backend_workspace(const Module *m, uint64_t *bytes, uint64_t *align);

// One network lowered for one row. Levels of an object stand from least to most; init takes the last the machine
// offers.
typedef struct Level {
  Module *m;
  const Target *target;
} Level;

// Compiles the module's program. Runs in a child process with limits unless `in_process` (fuzzing). The object is
// checked against the promises (object_check) before it is returned. False after diag_error.
bool backend_emit(Module *m, const Target *target, const EmitOptions *opt, EmitKind kind, bool in_process,
                  ObjectBytes *out);

// The same for several levels in one object: constants and kernels that are equal are there once.
bool backend_emit_levels(uint32_t n, const Level *levels, const EmitOptions *opt, EmitKind kind, bool in_process,
                         ObjectBytes *out);

// Scans object bytes: undefined symbols within {memcpy, memset, memmove}, no writable section but .data.rel.ro, no TLS,
// no init arrays, all defined global symbols carry `name`, stack of every function <= 4 KiB (bytes in *stack), notes
// set. fixed: the object is linked at fixed addresses, so its read-only tables may hold some.
bool object_check(const uint8_t *at, size_t n, const char *name, bool fixed, uint64_t *stack, Diag *diag);

// The same promises for COFF and Mach-O, by what LLVM reads in the object: undefined symbols, sections with contents,
// and the prefix of names.
bool object_check_foreign(const uint8_t *at, size_t n, const char *name, ObjectFormat format, Diag *diag);

// What the instructions of one function are: all, those that compute with floats or convert from or to them (moves of
// float registers do neither), those that multiply or divide, address arithmetic included.
typedef struct CodeScan {
  uint32_t instructions, floats, multiplies;
  const char *a_float, *a_multiply;  // the first of each as text, or NULL
} CodeScan;
typedef struct CodeFilter {
  bool is_float, multiplies;
} CodeFilter;
CodeFilter instruction_class(const char *arch, const char *mnemonic);
// Disassembles the function of `kernel` for `target` in the object of prefix `name`. False when it is not there.
bool object_scan(const ObjectBytes *object, const Target *target, const char *name, const char *kernel, Arena *arena,
                 CodeScan *out);

// The disassembly of the same function: lines of "PLACE BYTES TEXT", places from the function's beginning.
bool object_listing(const ObjectBytes *object, const Target *target, const char *name, const char *kernel, StrBuf *out);

// What an object brings to an image, in bytes: .text, and all else that is loaded (constants, tables of pointers,
// tables that unwind; nothing of it is written to). Of an object of several levels `target` is the last.
typedef struct ObjectSize {
  uint64_t code, constants;
  uint64_t instructions;  // of all code, as it stands there
} ObjectSize;
bool object_size(const ObjectBytes *object, const Target *target, Arena *arena, ObjectSize *out);

// Text of NAME.h for the module's interface; it stands alone (C89 to C23, C++98 to C++23). False after diag_error.
bool header_text(Module *m, const char *name, const ObjectBytes *object, StrBuf *out);
// Injective mangling of a name into a C identifier (reliability.md section 6.3).
const char *mangle(Arena *arena, const char *bytes, size_t n);

// Loads object bytes into this process through LLVM's JIT linker; returns the qcc_model of prefix `name`.
typedef struct Jit Jit;
Jit *jit_load(const ObjectBytes *object, const char *name, Diag *diag);
const struct qcc_model *jit_model(const Jit *jit);
void *jit_symbol(const Jit *jit, const char *symbol);
void jit_free(Jit *jit);

#endif
