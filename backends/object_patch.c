// Adding sections to an ELF object.
//
// LLVM needs about three times the memory of a constant to emit it, and time to match. So LLVM sees only an undefined
// array NAME_weights, and this file adds the section that defines it: new contents go to the end of the file, followed
// by a longer section name table and a new section header table. The symbol turns local, which means trading places
// with the first global one in the symbol table and renumbering the two in every relocation.
#include "backends/object_patch.h"

#include <stdlib.h>
#include <string.h>

#include "backends/elf.h"

typedef struct Patch {
  uint8_t *at;
  size_t n;
  Elf elf;  // of the original bytes
} Patch;

static size_t align_up(size_t n, size_t a) { return (n + a - 1) / a * a; }

static void put_section(Patch *p, uint32_t i, const Elf64_Shdr *s) {
  elf_put_section(&p->elf, p->elf.head.e_shoff, i, s, p->at);
}

// NAME_weights
static int64_t find_weights(const Elf *elf, const Elf64_Shdr *symtab, const char *name) {
  size_t n = strlen(name);
  for (uint32_t i = 1; i < elf_symbols(elf, symtab); i++) {
    Elf64_Sym s = elf_symbol(elf, symtab, i);
    const char *text = elf_symbol_name(elf, symtab, &s);
    if (strncmp(text, name, n) == 0 && strcmp(text + n, "_weights") == 0) return i;
  }
  return -1;
}

static void renumber_section(Patch *p, const Elf64_Shdr *s, uint32_t a, uint32_t b) {
  for (uint32_t i = 0; i < elf_relocations(&p->elf, s); i++) {
    uint32_t symbol = elf_relocated(&p->elf, s, i);
    if (symbol == a || symbol == b) elf_relocate(&p->elf, s, i, symbol == a ? b : a, p->at);
  }
}

// Defines the undefined global NAME_weights as a local object of section `section`.
static void define_local(Patch *p, const char *name, uint32_t section, uint64_t size) {
  int64_t table = elf_find_type(&p->elf, SHT_SYMTAB);
  if (table < 0) return;
  Elf64_Shdr symtab = elf_section(&p->elf, (uint32_t)table);
  int64_t at = find_weights(&p->elf, &symtab, name);
  if (at < 0) return;
  uint32_t first = symtab.sh_info, here = (uint32_t)at;
  Elf64_Sym s = elf_symbol(&p->elf, &symtab, here), other = elf_symbol(&p->elf, &symtab, first);
  s.st_shndx = (Elf64_Section)section;
  s.st_info = ELF64_ST_INFO(STB_LOCAL, STT_OBJECT);
  s.st_other = STV_DEFAULT;
  s.st_value = 0;
  s.st_size = size;
  elf_put_symbol(&p->elf, &symtab, here, &other, p->at);
  elf_put_symbol(&p->elf, &symtab, first, &s, p->at);
  symtab.sh_info = first + 1;
  put_section(p, (uint32_t)table, &symtab);
  for (uint32_t i = 1; i < p->elf.sections; i++) {
    Elf64_Shdr r = elf_section(&p->elf, i);
    if (here != first) renumber_section(p, &r, first, here);
  }
}

static void copy_weights(const WeightLayout *w, bool release, uint8_t *to) {
  for (uint32_t i = 0; i < w->packed.n; i++) {
    const Packed *p = &w->packed.at[i];
    memcpy(to + p->offset, const_data(p->m, p->c), (size_t)type_bytes(p->c->type));
    if (release) const_release(p->m, p->c);
  }
}

bool object_patch(Diag *diag, const uint8_t *object, size_t n, const EmitOptions *opt, const WeightLayout *weights,
                  uint64_t stack, ObjectBytes *out) {
  static const char small_names[] = "\0" WEIGHTS_SECTION "\0" STACK_SECTION;
  static const char large_names[] = "\0" WEIGHTS_SECTION_LARGE "\0" STACK_SECTION;
  Patch p = {0};
  if (!elf_open(&p.elf, object, n)) return false;
  bool large = p.elf.head.e_machine == EM_X86_64 && opt->link.code_model >= CODE_MODEL_MEDIUM;
  const char *names = large ? large_names : small_names;
  size_t names_bytes = large ? sizeof large_names : sizeof small_names;
  uint32_t old = p.elf.sections, strings = p.elf.head.e_shstrndx;
  Elf64_Shdr name_table = elf_section(&p.elf, strings);
  size_t weights_at = align_up(n, WEIGHTS_ALIGN), stack_at = align_up(weights_at + (size_t)weights->bytes, 8);
  size_t names_at = stack_at + 8, names_size = name_table.sh_size + names_bytes;
  size_t headers_at = align_up(names_at + names_size, 8);
  size_t each = elf_header_bytes(&p.elf);
  p.n = headers_at + (old + 2) * each;
  p.at = calloc(1, p.n);
  if (!p.at) return diag_error(diag, DIAG_LIMIT, NULL, "no memory for an object of %zu bytes", p.n);
  memcpy(p.at, object, n);
  copy_weights(weights, opt->release, p.at + weights_at);
  define_local(&p, opt->name, old, (uint64_t)weights->bytes);
  memcpy(p.at + stack_at, &stack, sizeof stack);
  memcpy(p.at + names_at, object + name_table.sh_offset, name_table.sh_size);
  memcpy(p.at + names_at + name_table.sh_size, names, names_bytes);
  Elf64_Word name = (Elf64_Word)name_table.sh_size + 1;
  name_table.sh_offset = names_at;
  name_table.sh_size = names_size;
  put_section(&p, strings, &name_table);
  memcpy(p.at + headers_at, p.at + p.elf.head.e_shoff, old * each);
  Elf64_Shdr added[2] = {{.sh_name = name,
                          .sh_type = SHT_PROGBITS,
                          .sh_flags = SHF_ALLOC | (large ? SHF_X86_64_LARGE : 0),
                          .sh_offset = weights_at,
                          .sh_size = (uint64_t)weights->bytes,
                          .sh_addralign = WEIGHTS_ALIGN},
                         {.sh_name = name + (Elf64_Word)strlen(names + 1) + 1,
                          .sh_type = SHT_PROGBITS,
                          .sh_flags = SHF_EXCLUDE,
                          .sh_offset = stack_at,
                          .sh_size = sizeof stack,
                          .sh_addralign = 8}};
  for (uint32_t i = 0; i < 2; i++) elf_put_section(&p.elf, headers_at, old + i, &added[i], p.at);
  p.elf.head.e_shoff = headers_at;
  p.elf.head.e_shnum = (Elf64_Half)(old + 2);
  elf_put_head(&p.elf, &p.elf.head, p.at);
  *out = (ObjectBytes){.at = p.at, .n = p.n};
  return true;
}
