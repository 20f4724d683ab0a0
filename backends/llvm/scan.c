// Disassembly of an object: of one kernel for promises about what code does not contain, of all of it to count.
//
// Words between instructions (literal pools of ARM) are told apart by the mapping symbols $a, $t, $x and $d (ELF for
// the Arm architecture, IHI 0044, section 5.5.5); an address of Thumb code has its lowest bit set.
#include <llvm-c/Disassembler.h>
#include <llvm-c/Target.h>
#include <string.h>

#include "backends/elf.h"
#include "backends/llvm/llvm.h"

typedef struct Code {
  uint32_t section;
  uint64_t from, to;  // bytes of the section
} Code;

// Where words begin and end: a mapping symbol of one section.
typedef struct Mark {
  uint64_t at;
  bool words;
} Mark;
typedef VEC(Mark) Marks;

typedef struct Walk {
  Elf elf;
  Elf64_Shdr symtab;
  Arena *arena;
  const Target *target;
  LLVMDisasmContextRef llvm;
} Walk;

static bool walk_open(Walk *w, const ObjectBytes *object, const Target *target, Arena *arena) {
  *w = (Walk){.arena = arena, .target = target};
  if (!elf_open(&w->elf, object->at, object->n)) return false;
  int64_t table = elf_find_type(&w->elf, SHT_SYMTAB);
  if (table < 0) return false;
  w->symtab = elf_section(&w->elf, (uint32_t)table);
  const TargetRow *row = target_row(target);
  targets_init();
  w->llvm = LLVMCreateDisasmCPUFeatures(row->triple, row->cpu, target_feature_text(row, arena), NULL, 0, NULL, NULL);
  QCC_CHECK(w->llvm, "LLVM has no disassembler for %s", target->name);
  return true;
}

static bool find_function(const Walk *w, const char *symbol, Code *out) {
  const Elf *elf = &w->elf;
  for (uint32_t i = 1; i < elf_symbols(elf, &w->symtab); i++) {
    Elf64_Sym s = elf_symbol(elf, &w->symtab, i);
    if (s.st_shndx == SHN_UNDEF || s.st_shndx >= elf->sections ||
        strcmp(elf_symbol_name(elf, &w->symtab, &s), symbol) != 0)
      continue;
    Elf64_Shdr section = elf_section(elf, s.st_shndx);
    if (elf->head.e_machine == EM_ARM) s.st_value &= ~UINT64_C(1);
    if (s.st_value > section.sh_size || s.st_size > section.sh_size - s.st_value) return false;
    *out = (Code){s.st_shndx, s.st_value, s.st_value + s.st_size};
    return true;
  }
  return false;
}

// In the order of their places: LLVM writes them so.
static Marks read_marks(const Walk *w, uint32_t section) {
  Marks marks = {0};
  for (uint32_t i = 1; i < elf_symbols(&w->elf, &w->symtab); i++) {
    Elf64_Sym s = elf_symbol(&w->elf, &w->symtab, i);
    const char *name = elf_symbol_name(&w->elf, &w->symtab, &s);
    if (s.st_shndx != section || name[0] != '$' || !name[1] || !strchr("atxd", name[1])) continue;
    if (name[2] && name[2] != '.') continue;
    Mark m = {s.st_value, name[1] == 'd'};
    uint32_t at = marks.n;
    vec_push(w->arena, &marks, m);
    for (; at > 0 && marks.at[at - 1].at > m.at; at--) marks.at[at] = marks.at[at - 1];
    marks.at[at] = m;
  }
  return marks;
}

// Calls `each` with every instruction of the code: its place from the beginning of the code, its bytes, its text.
typedef void Each(void *into, uint64_t at, size_t n, const char *text);

static void walk_code(const Walk *w, Code code, Each *each, void *into) {
  Elf64_Shdr section = elf_section(&w->elf, code.section);
  const uint8_t *bytes = w->elf.at + section.sh_offset;
  Marks marks = read_marks(w, code.section);
  bool words = false;
  uint32_t mark = 0;
  for (uint64_t at = code.from; at < code.to;) {
    for (; mark < marks.n && marks.at[mark].at <= at; mark++) words = marks.at[mark].words;
    uint64_t end = mark < marks.n && marks.at[mark].at < code.to ? marks.at[mark].at : code.to;
    if (words) {
      at = end;
      continue;
    }
    char text[256];
    size_t n = LLVMDisasmInstruction(w->llvm, (uint8_t *)(uintptr_t)(bytes + at), end - at, at, text, sizeof text);
    QCC_CHECK(n, "an instruction for %s at byte %llu is unknown", w->target->name, (unsigned long long)at);
    for (char *p = text; *p; p++)
      if (*p == '\t') *p = ' ';
    each(into, at - code.from, n, text + strspn(text, " "));
    at += n;
  }
}

// "vpxorq %zmm1, %zmm2, %zmm3" and "{evex} ...": the word behind prefixes.
static const char *mnemonic_of(Arena *arena, const char *text) {
  static const char *const prefixes[] = {"rep", "repe", "repne", "lock", "notrack", "data16"};
  for (;;) {
    while (*text == ' ') text++;
    size_t n = strcspn(text, " ");
    bool prefix = *text == '{';
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
      prefix = prefix || (strlen(prefixes[i]) == n && memcmp(text, prefixes[i], n) == 0);
    if (!prefix || !n) return arena_printf(arena, "%.*s", (int)n, text);
    text += n;
  }
}

typedef struct Counting {
  CodeScan *scan;
  const Walk *walk;
} Counting;

static void count(void *into, uint64_t at, size_t n, const char *text) {
  CodeScan *out = ((Counting *)into)->scan;
  const Walk *w = ((Counting *)into)->walk;
  (void)at, (void)n;
  CodeFilter c = instruction_class(w->target->arch, mnemonic_of(w->arena, text));
  out->instructions++;
  out->floats += c.is_float;
  out->multiplies += c.multiplies;
  if (c.is_float && !out->a_float) out->a_float = arena_printf(w->arena, "%s", text);
  if (c.multiplies && !out->a_multiply) out->a_multiply = arena_printf(w->arena, "%s", text);
}

// The function of a kernel: of one level among several, or of the only one.
static bool find_kernel(const Walk *w, const char *name, const char *kernel, Code *code) {
  const char *symbol = arena_printf(w->arena, "%s_k_%s", name, mangle(w->arena, kernel, strlen(kernel)));
  const char *among = arena_printf(w->arena, "%s_%s", symbol, target_word(w->target, w->arena));
  return find_function(w, among, code) || find_function(w, symbol, code);
}

bool object_scan(const ObjectBytes *object, const Target *target, const char *name, const char *kernel, Arena *arena,
                 CodeScan *out) {
  Walk w;
  Code code;
  *out = (CodeScan){0};
  if (!walk_open(&w, object, target, arena)) return false;
  bool found = find_kernel(&w, name, kernel, &code);
  if (found) walk_code(&w, code, count, &(Counting){out, &w});
  LLVMDisasmDispose(w.llvm);
  return found;
}

static void put_line(void *into, uint64_t at, size_t n, const char *text) {
  strbuf_printf(into, "%llu %zu %s\n", (unsigned long long)at, n, text);
}

bool object_listing(const ObjectBytes *object, const Target *target, const char *name, const char *kernel,
                    StrBuf *out) {
  Walk w;
  Code code;
  if (!walk_open(&w, object, target, out->arena)) return false;
  bool found = find_kernel(&w, name, kernel, &code);
  if (found) walk_code(&w, code, put_line, out);
  LLVMDisasmDispose(w.llvm);
  return found;
}

static void count_one(void *into, uint64_t at, size_t n, const char *text) {
  (void)at, (void)n, (void)text;
  ++*(uint64_t *)into;
}

bool object_size(const ObjectBytes *object, const Target *target, Arena *arena, ObjectSize *out) {
  Walk w;
  *out = (ObjectSize){0};
  if (!walk_open(&w, object, target, arena)) return false;
  for (uint32_t i = 1; i < w.elf.sections; i++) {
    Elf64_Shdr s = elf_section(&w.elf, i);
    if (!(s.sh_flags & SHF_ALLOC) || s.sh_type == SHT_NOTE) continue;
    bool code = s.sh_flags & SHF_EXECINSTR;
    *(code ? &out->code : &out->constants) += s.sh_size;
    if (code) walk_code(&w, (Code){i, 0, s.sh_size}, count_one, &out->instructions);
  }
  LLVMDisasmDispose(w.llvm);
  return true;
}
