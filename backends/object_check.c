// The promises of design section 7, read off the object itself: what it needs from outside, what it can write to, whose
// names it exports, its notes and its stack. A broken promise is an error of qcc, never of the user; the caller
// decides.
#include <string.h>

#include "backends/backend.h"
#include "backends/elf.h"
#include "backends/object_patch.h"
#include "ir/base/diag.h"

static bool fail(Diag *d, const char *what, const char *which) {
  return diag_error(d, DIAG_LIMIT, NULL, "internal error: the object %s '%s'", what, which);
}

static bool check_section(const Elf *elf, uint32_t i, Diag *d) {
  Elf64_Shdr s = elf_section(elf, i);
  const char *name = elf_section_name(elf, i);
  bool large = s.sh_flags & SHF_X86_64_LARGE;  // of the medium and large code models of x86-64
  bool table = strcmp(name, large ? ".ldata.rel.ro" : ".data.rel.ro") == 0;
  if (!(s.sh_flags & SHF_ALLOC)) return true;
  if (s.sh_flags & SHF_TLS) return fail(d, "has thread-local storage", name);
  if (s.sh_type == SHT_INIT_ARRAY || s.sh_type == SHT_FINI_ARRAY || s.sh_type == SHT_PREINIT_ARRAY)
    return fail(d, "runs code at start or exit", name);
  if ((s.sh_flags & SHF_WRITE) && !table && s.sh_size) return fail(d, "has a writable section", name);
  if ((s.sh_flags & SHF_EXECINSTR) && strcmp(name, large ? ".ltext" : ".text") != 0 && s.sh_size)
    return fail(d, "has code outside .text", name);
  return true;
}

// Relocations of read-only data would make the loader write to it.
static bool check_relocated(const Elf *elf, uint32_t i, Diag *d) {
  Elf64_Shdr s = elf_section(elf, i);
  if ((s.sh_type != SHT_RELA && s.sh_type != SHT_REL) || s.sh_info >= elf->sections) return true;
  if (elf->head.e_machine == EM_ARM) return true;  // images without a loader have their tables in flash
  const char *name = elf_section_name(elf, s.sh_info);
  if (strncmp(name, ".rodata", 7) == 0 || strncmp(name, ".lrodata", 8) == 0) return fail(d, "has relocations in", name);
  return true;
}

// Arithmetic that small ARM cores lack, by the names every ARM compiler's own library gives it (RTABI, IHI 0043,
// section 4): neither memory functions nor what unwinds.
static bool is_arm_arithmetic(const char *s) {
  static const char *const others[] = {"unwind", "mem", "read_tp", "atexit"};
  if (strncmp(s, "__aeabi_", 8) != 0) return false;
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (strncmp(s + 8, others[i], strlen(others[i])) == 0) return false;
  return true;
}

static bool is_allowed_outside(const Elf *elf, const char *s) {
  if (elf->head.e_machine == EM_ARM && is_arm_arithmetic(s)) return true;
  // Where the medium and large code models of x86-64 count from; every linker makes it.
  if (elf->head.e_machine == EM_X86_64 && strcmp(s, "_GLOBAL_OFFSET_TABLE_") == 0) return true;
  return strcmp(s, "memcpy") == 0 || strcmp(s, "memset") == 0 || strcmp(s, "memmove") == 0;
}

static bool check_symbols(const Elf *elf, const Elf64_Shdr *symtab, const char *name, Diag *d) {
  size_t length = strlen(name);
  for (uint32_t i = 1; i < elf_symbols(elf, symtab); i++) {
    Elf64_Sym s = elf_symbol(elf, symtab, i);
    const char *text = elf_symbol_name(elf, symtab, &s);
    if (ELF64_ST_BIND(s.st_info) == STB_LOCAL) continue;
    if (s.st_shndx == SHN_UNDEF) {
      if (!is_allowed_outside(elf, text)) return fail(d, "needs the outside symbol", text);
    } else if (strncmp(text, name, length) != 0 || text[length] != '_') {
      return fail(d, "exports a name without the model's prefix,", text);
    }
  }
  return true;
}

static bool check_notes(const Elf *elf, Diag *d) {
  int64_t stack = elf_find(elf, ".note.GNU-stack");
  if (stack < 0 || (elf_section(elf, (uint32_t)stack).sh_flags & SHF_EXECINSTR))
    return fail(d, "lacks the note", ".note.GNU-stack");
  if (elf->head.e_machine != EM_ARM && elf_find(elf, ".note.gnu.property") < 0)
    return fail(d, "lacks the note", ".note.gnu.property");
  return true;
}

static bool check_stack(const Elf *elf, uint64_t *stack, Diag *d) {
  int64_t i = elf_find(elf, STACK_SECTION);
  if (i < 0) return fail(d, "lacks the section", STACK_SECTION);
  Elf64_Shdr s = elf_section(elf, (uint32_t)i);
  if (s.sh_size != sizeof *stack) return fail(d, "has a malformed section", STACK_SECTION);
  memcpy(stack, elf->at + s.sh_offset, sizeof *stack);
  if (*stack <= STACK_LIMIT) return true;
  return diag_error(d, DIAG_LIMIT, NULL, "internal error: the object needs %llu bytes of stack, more than %d",
                    (unsigned long long)*stack, STACK_LIMIT);
}

bool object_check(const uint8_t *at, size_t n, const char *name, bool fixed, uint64_t *stack, Diag *diag) {
  Elf elf;
  if (!elf_open(&elf, at, n)) return fail(diag, "is not an ELF object for", name);
  for (uint32_t i = 1; i < elf.sections; i++)
    if (!check_section(&elf, i, diag) || (!fixed && !check_relocated(&elf, i, diag))) return false;
  int64_t symtab = elf_find_type(&elf, SHT_SYMTAB);
  if (symtab < 0) return fail(diag, "lacks the section", ".symtab");
  Elf64_Shdr symbols = elf_section(&elf, (uint32_t)symtab);
  return check_symbols(&elf, &symbols, name, diag) && check_notes(&elf, diag) && check_stack(&elf, stack, diag);
}
