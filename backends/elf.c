// Reading ELF64 objects (elf.h). Every offset is checked against the size of the file once, in elf_open or where it is
// used; strings are only handed out when they end inside their section.
#include "backends/elf.h"

#include <string.h>

static bool inside(const Elf *elf, uint64_t offset, uint64_t size) {
  return offset <= elf->n && size <= elf->n - offset;
}

Elf64_Shdr elf_section(const Elf *elf, uint32_t i) {
  Elf64_Shdr s;
  memcpy(&s, elf->at + elf->head.e_shoff + (uint64_t)i * sizeof s, sizeof s);
  return s;
}

bool elf_open(Elf *elf, const uint8_t *at, size_t n) {
  *elf = (Elf){.at = at, .n = n};
  if (n < sizeof elf->head) return false;
  memcpy(&elf->head, at, sizeof elf->head);
  const Elf64_Ehdr *h = &elf->head;
  if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 || h->e_ident[EI_CLASS] != ELFCLASS64) return false;
  if (h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_type != ET_REL || h->e_shentsize != sizeof(Elf64_Shdr)) return false;
  if (!inside(elf, h->e_shoff, (uint64_t)h->e_shnum * sizeof(Elf64_Shdr)) || h->e_shstrndx >= h->e_shnum) return false;
  elf->sections = h->e_shnum;
  for (uint32_t i = 0; i < elf->sections; i++) {
    Elf64_Shdr s = elf_section(elf, i);
    if (s.sh_type != SHT_NOBITS && s.sh_type != SHT_NULL && !inside(elf, s.sh_offset, s.sh_size)) return false;
  }
  return true;
}

static const char *string_at(const Elf *elf, const Elf64_Shdr *table, uint64_t offset) {
  if (table->sh_type != SHT_STRTAB || offset >= table->sh_size) return "";
  const char *s = (const char *)elf->at + table->sh_offset + offset;
  return memchr(s, 0, table->sh_size - offset) ? s : "";
}

const char *elf_section_name(const Elf *elf, uint32_t i) {
  Elf64_Shdr names = elf_section(elf, elf->head.e_shstrndx), s = elf_section(elf, i);
  return string_at(elf, &names, s.sh_name);
}

int64_t elf_find(const Elf *elf, const char *name) {
  for (uint32_t i = 1; i < elf->sections; i++)
    if (strcmp(elf_section_name(elf, i), name) == 0) return i;
  return -1;
}

int64_t elf_find_type(const Elf *elf, uint32_t type) {
  for (uint32_t i = 1; i < elf->sections; i++)
    if (elf_section(elf, i).sh_type == type) return i;
  return -1;
}

uint32_t elf_symbols(const Elf *elf, const Elf64_Shdr *symtab) {
  (void)elf;
  uint64_t n = symtab->sh_size / sizeof(Elf64_Sym);
  return n > UINT32_MAX ? 0 : (uint32_t)n;
}

Elf64_Sym elf_symbol(const Elf *elf, const Elf64_Shdr *symtab, uint32_t i) {
  Elf64_Sym s;
  memcpy(&s, elf->at + symtab->sh_offset + (uint64_t)i * sizeof s, sizeof s);
  return s;
}

const char *elf_symbol_name(const Elf *elf, const Elf64_Shdr *symtab, const Elf64_Sym *s) {
  if (symtab->sh_link >= elf->sections) return "";
  Elf64_Shdr names = elf_section(elf, symtab->sh_link);
  return string_at(elf, &names, s->st_name);
}
