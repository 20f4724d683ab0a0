// Rows of targets.def as the backend sees them: a Target plus what LLVM and the CPU check need.
#ifndef QCC_BACKENDS_TARGET_H
#define QCC_BACKENDS_TARGET_H

#include "backends/backend.h"

typedef enum CpuidReg { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX } CpuidReg;

typedef enum CpuFeature {
#define X86(ID, feature, leaf, subleaf, reg, bit, xcr0) FEATURE_##ID,
#define A64(ID, feature, sysreg, shift, least) FEATURE_##ID,
#include "backends/cpu_features.def"
  FEATURE_COUNT
} CpuFeature;

typedef struct CpuFeatureInfo {
  const char *llvm;        // LLVM's name of the feature
  bool x86;                // else aarch64
  uint32_t leaf, subleaf;  // CPUID input
  CpuidReg reg;
  uint32_t bit;
  uint64_t xcr0;       // bits of XCR0 that must be set (0: no extra state)
  const char *sysreg;  // aarch64: ID register, 4-bit field at `shift`, at least `least`
  uint32_t shift, least;
} CpuFeatureInfo;

typedef struct TargetRow {
  Target t;
  const char *triple, *cpu, *tune;  // LLVM names; cpu is the baseline below `features`
  uint64_t features;                // bit per CpuFeature
  const char *family;               // the row is a level of this family, or NULL
  const char *more;                 // LLVM features that no CPU is asked about, or NULL
  bool bits32;                      // pointers of 32 bits
  bool bare;                        // no operating system: one thread, nothing relocated at run time
  bool no_round;                    // no instruction rounds to a whole float
  bool strict_align;                // accesses of several bytes need their own alignment
} TargetRow;

const CpuFeatureInfo *cpu_feature_info(CpuFeature f);
bool cpu_feature_here(CpuFeature f);           // does this machine offer it (CPUID and XCR0)
const TargetRow *target_row(const Target *t);  // the row a Target came from
// LLVM feature string of a row: "+sse3,+ssse3,...".
const char *target_feature_text(const TargetRow *row, Arena *arena);

// LLVM's triple of a row, with the calling convention chosen.
const char *target_triple(const TargetRow *row, const LinkChoices *c, Arena *arena);

// The row's name as part of a C identifier: "x86_64_v3".
const char *target_word(const Target *t, Arena *arena);

static inline bool target_has(const TargetRow *row, CpuFeature f) { return (row->features >> f) & 1u; }

#endif
