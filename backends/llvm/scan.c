// Disassembly of one kernel's function, instruction by instruction, for promises about what code does not contain.
#include <llvm-c/Disassembler.h>
#include <llvm-c/Target.h>
#include <string.h>

#include "backends/elf.h"
#include "backends/llvm/llvm.h"

typedef struct Code {
  const uint8_t *at;
  size_t n;
} Code;

static bool find_function(const Elf *elf, const char *symbol, Code *out) {
  int64_t table = elf_find_type(elf, SHT_SYMTAB);
  if (table < 0) return false;
  Elf64_Shdr symtab = elf_section(elf, (uint32_t)table);
  for (uint32_t i = 1; i < elf_symbols(elf, &symtab); i++) {
    Elf64_Sym s = elf_symbol(elf, &symtab, i);
    if (s.st_shndx == SHN_UNDEF || s.st_shndx >= elf->sections ||
        strcmp(elf_symbol_name(elf, &symtab, &s), symbol) != 0)
      continue;
    Elf64_Shdr section = elf_section(elf, s.st_shndx);
    if (s.st_value > section.sh_size || s.st_size > section.sh_size - s.st_value) return false;
    *out = (Code){elf->at + section.sh_offset + s.st_value, s.st_size};
    return true;
  }
  return false;
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

static void count(CodeScan *out, const char *arch, const char *text, Arena *arena) {
  CodeFilter c = instruction_class(arch, mnemonic_of(arena, text));
  out->instructions++;
  out->floats += c.is_float;
  out->multiplies += c.multiplies;
  if (c.is_float && !out->a_float) out->a_float = arena_printf(arena, "%s", text);
  if (c.multiplies && !out->a_multiply) out->a_multiply = arena_printf(arena, "%s", text);
}

bool object_scan(const ObjectBytes *object, const Target *target, const char *name, const char *kernel, Arena *arena,
                 CodeScan *out) {
  Elf elf;
  Code code;
  *out = (CodeScan){0};
  const char *symbol = arena_printf(arena, "%s_k_%s", name, mangle(arena, kernel, strlen(kernel)));
  const char *among = arena_printf(arena, "%s_%s", symbol, target_word(target, arena));  // one level of several
  if (!elf_open(&elf, object->at, object->n)) return false;
  if (!find_function(&elf, among, &code) && !find_function(&elf, symbol, &code)) return false;
  const TargetRow *row = target_row(target);
  targets_init();
  LLVMDisasmContextRef d =
      LLVMCreateDisasmCPUFeatures(row->triple, row->cpu, target_feature_text(row, arena), NULL, 0, NULL, NULL);
  QCC_CHECK(d, "LLVM has no disassembler for %s", target->name);
  for (size_t at = 0; at < code.n;) {
    char text[256];
    size_t n = LLVMDisasmInstruction(d, (uint8_t *)(uintptr_t)(code.at + at), code.n - at, at, text, sizeof text);
    QCC_CHECK(n, "an instruction of %s at byte %zu is unknown", symbol, at);
    for (char *p = text; *p; p++)
      if (*p == '\t') *p = ' ';
    count(out, target->arch, text + strspn(text, " "), arena);
    at += n;
  }
  LLVMDisasmDispose(d);
  return true;
}
