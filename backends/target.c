// Target rows, look-up by name, and detection of this machine.
//
// Detection reads CPUID and XCR0 only: names are unreliable in virtual machines, and a feature without its XCR0 state
// would fault; of features that a process must ask for, it asks for them. The row found stands as it is; nothing is
// refined from the machine, so equal rows give equal objects.
#include "backends/target.h"

#include <string.h>

#include "backends/backend.h"
#include "ir/base/str.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

_Static_assert(FEATURE_COUNT <= 64, "features are bits of a uint64_t");

static const CpuFeatureInfo features[FEATURE_COUNT] = {
#define X86(ID, feature, leaf, subleaf, reg, bit, xcr0) \
  [FEATURE_##ID] = {feature, true, leaf, subleaf, reg, bit, xcr0, NULL, 0, 0},
#define A64(ID, feature, sysreg, shift, least) \
  [FEATURE_##ID] = {feature, false, 0, 0, CPUID_EAX, 0, 0, sysreg, shift, least},
#include "backends/cpu_features.def"
};

#define F(ID) (UINT64_C(1) << FEATURE_##ID)
#define TARGET(ID, ...) {__VA_ARGS__},
static const TargetRow rows[] = {
#include "backends/targets.def"
};
#undef TARGET
#undef F

#define ROW_COUNT (sizeof rows / sizeof rows[0])

const CpuFeatureInfo *cpu_feature_info(CpuFeature f) { return &features[f]; }
uint32_t target_count(void) { return ROW_COUNT; }
const Target *target_at(uint32_t i) { return &rows[i].t; }

const TargetRow *target_row(const Target *t) {
  for (size_t i = 0; i < ROW_COUNT; i++)
    if (&rows[i].t == t || strcmp(rows[i].t.name, t->name) == 0) return &rows[i];
  qcc_bug("target '%s' has no row", t->name);
}

const Target *target_by_name(const char *name) {
  if (strcmp(name, "native") == 0) return target_native();
  for (size_t i = 0; i < ROW_COUNT; i++)
    if (strcmp(rows[i].t.name, name) == 0) return &rows[i].t;
  return NULL;
}

TargetLevels target_levels(const char *name) {
  TargetLevels out = {0};
  for (size_t i = 0; i < ROW_COUNT; i++)
    if (rows[i].family && strcmp(rows[i].family, name) == 0) {
      QCC_CHECK(out.n < MAX_LEVELS, "family %s has more than %d levels", name, MAX_LEVELS);
      out.at[out.n++] = &rows[i].t;
    }
  if (out.n == 0) {
    out.at[0] = target_by_name(name);
    out.n = out.at[0] != NULL;
  }
  return out;
}

const char *target_family(const Target *t) { return target_row(t)->family; }

static bool family_is_new(size_t row) {
  for (size_t i = 0; i < row; i++)
    if (rows[i].family && strcmp(rows[i].family, rows[row].family) == 0) return false;
  return true;
}

const char *target_list(Arena *arena) {
  StrBuf b;
  strbuf_init(&b, arena);
  for (size_t i = 0; i < ROW_COUNT; i++)
    if (rows[i].family && family_is_new(i)) strbuf_printf(&b, "%s, ", rows[i].family);
  for (size_t i = 0; i < ROW_COUNT; i++) strbuf_printf(&b, "%s%s", i ? ", " : "", rows[i].t.name);
  return strbuf_str(&b);
}

const char *target_word(const Target *t, Arena *arena) {
  char *word = arena_copy(arena, t->name, strlen(t->name) + 1);
  for (char *p = word; *p; p++)
    if (*p == '-' || *p == '.') *p = '_';
  return word;
}

const char *target_feature_text(const TargetRow *row, Arena *arena) {
  StrBuf b;
  strbuf_init(&b, arena);
  for (uint32_t f = 0; f < FEATURE_COUNT; f++)
    if (target_has(row, (CpuFeature)f)) strbuf_printf(&b, "%s+%s", b.n ? "," : "", features[f].llvm);
  // LLVM 19 keeps 512-bit registers behind a feature of their own that no CPUID bit names.
  if (target_has(row, FEATURE_AVX512F)) strbuf_puts(&b, ",+evex512");
  if (row->more) strbuf_printf(&b, "%s%s", b.n ? "," : "", row->more);
  return strbuf_str(&b);
}

#if defined(__x86_64__)
static uint64_t read_xcr0(void) {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27))) return 0;  // OSXSAVE
  uint32_t lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (uint64_t)hi << 32 | lo;
}

// Linux gives tile registers to a process that asks for them; asking is remembered, and asking again harmless.
static bool state_granted(uint64_t xcr0) {
  enum { REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
  return !(xcr0 >> XTILEDATA & 1u) || syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XTILEDATA) == 0;
}

static bool feature_here(const CpuFeatureInfo *f) {
  uint32_t r[4];
  if (!f->x86 || !__get_cpuid_count(f->leaf, f->subleaf, &r[0], &r[1], &r[2], &r[3])) return false;
  return ((r[f->reg] >> f->bit) & 1u) && (f->xcr0 & ~read_xcr0()) == 0 && state_granted(f->xcr0);
}
static const char *const arch_here = "x86-64";
#elif defined(__aarch64__)
static bool feature_here(const CpuFeatureInfo *f) {
  uint64_t v = 0;
  if (f->x86) return false;
  if (strcmp(f->sysreg, "ID_AA64ISAR0_EL1") == 0) __asm__("mrs %0, ID_AA64ISAR0_EL1" : "=r"(v));
  if (strcmp(f->sysreg, "ID_AA64ISAR1_EL1") == 0) __asm__("mrs %0, ID_AA64ISAR1_EL1" : "=r"(v));
  if (strcmp(f->sysreg, "ID_AA64PFR0_EL1") == 0) __asm__("mrs %0, ID_AA64PFR0_EL1" : "=r"(v));
  return ((v >> f->shift) & 15u) >= f->least;
}
static const char *const arch_here = "aarch64";
#else
static bool feature_here(const CpuFeatureInfo *f) {
  (void)f;
  return false;
}
static const char *const arch_here = "";
#endif

bool cpu_feature_here(CpuFeature f) { return feature_here(&features[f]); }

bool target_runs_here(const Target *t) {
  const TargetRow *row = target_row(t);
  if (strcmp(t->arch, arch_here) != 0) return false;
  for (uint32_t f = 0; f < FEATURE_COUNT; f++)
    if (target_has(row, (CpuFeature)f) && !feature_here(&features[f])) return false;
  return true;
}

const Target *target_native(void) {
  const Target *best = NULL;
  for (size_t i = 0; i < ROW_COUNT; i++)
    if (target_runs_here(&rows[i].t)) best = &rows[i].t;
  return best;
}
