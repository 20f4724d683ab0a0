// Reading and changing ELF objects (elf.h). Every offset is checked against the size of the file once, in elf_open or
// where it is used; strings are only handed out when they end inside their section.
#include "backends/elf.h"

#include <string.h>

static bool inside(const Elf *elf, uint64_t offset, uint64_t size) {
  return offset <= elf->n && size <= elf->n - offset;
}

size_t elf_header_bytes(const Elf *elf) { return elf->is32 ? sizeof(Elf32_Shdr) : sizeof(Elf64_Shdr); }

Elf64_Shdr elf_section(const Elf *elf, uint32_t i) {
  Elf64_Shdr s;
  const uint8_t *place = elf->at + elf->head.e_shoff + (uint64_t)i * elf_header_bytes(elf);
  if (elf->is32) {
    Elf32_Shdr h;
    memcpy(&h, place, sizeof h);
    return (Elf64_Shdr){h.sh_name, h.sh_type, h.sh_flags, h.sh_addr,      h.sh_offset,
                        h.sh_size, h.sh_link, h.sh_info,  h.sh_addralign, h.sh_entsize};
  }
  memcpy(&s, place, sizeof s);
  return s;
}

static Elf64_Ehdr widen_head(const Elf32_Ehdr *h) {
  Elf64_Ehdr r = {.e_type = h->e_type,
                  .e_machine = h->e_machine,
                  .e_version = h->e_version,
                  .e_entry = h->e_entry,
                  .e_phoff = h->e_phoff,
                  .e_shoff = h->e_shoff,
                  .e_flags = h->e_flags,
                  .e_ehsize = h->e_ehsize,
                  .e_phentsize = h->e_phentsize,
                  .e_phnum = h->e_phnum,
                  .e_shentsize = h->e_shentsize,
                  .e_shnum = h->e_shnum,
                  .e_shstrndx = h->e_shstrndx};
  memcpy(r.e_ident, h->e_ident, EI_NIDENT);
  return r;
}

static bool read_head(Elf *elf) {
  Elf32_Ehdr small;
  if (elf->n < sizeof small) return false;
  memcpy(&small, elf->at, sizeof small);
  elf->is32 = small.e_ident[EI_CLASS] == ELFCLASS32;
  if (memcmp(small.e_ident, ELFMAG, SELFMAG) != 0 || (!elf->is32 && small.e_ident[EI_CLASS] != ELFCLASS64))
    return false;
  if (elf->is32) {
    elf->head = widen_head(&small);
    return true;
  }
  if (elf->n < sizeof elf->head) return false;
  memcpy(&elf->head, elf->at, sizeof elf->head);
  return true;
}

bool elf_open(Elf *elf, const uint8_t *at, size_t n) {
  *elf = (Elf){.at = at, .n = n};
  if (!read_head(elf)) return false;
  const Elf64_Ehdr *h = &elf->head;
  size_t each = elf_header_bytes(elf);
  if (h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_type != ET_REL || h->e_shentsize != each) return false;
  if (!inside(elf, h->e_shoff, (uint64_t)h->e_shnum * each) || h->e_shstrndx >= h->e_shnum) return false;
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

static size_t symbol_bytes(const Elf *elf) { return elf->is32 ? sizeof(Elf32_Sym) : sizeof(Elf64_Sym); }

uint32_t elf_symbols(const Elf *elf, const Elf64_Shdr *symtab) {
  uint64_t n = symtab->sh_size / symbol_bytes(elf);
  return n > UINT32_MAX ? 0 : (uint32_t)n;
}

Elf64_Sym elf_symbol(const Elf *elf, const Elf64_Shdr *symtab, uint32_t i) {
  Elf64_Sym s;
  const uint8_t *place = elf->at + symtab->sh_offset + (uint64_t)i * symbol_bytes(elf);
  if (elf->is32) {
    Elf32_Sym h;
    memcpy(&h, place, sizeof h);
    return (Elf64_Sym){h.st_name, h.st_info, h.st_other, h.st_shndx, h.st_value, h.st_size};
  }
  memcpy(&s, place, sizeof s);
  return s;
}

const char *elf_symbol_name(const Elf *elf, const Elf64_Shdr *symtab, const Elf64_Sym *s) {
  if (symtab->sh_link >= elf->sections) return "";
  Elf64_Shdr names = elf_section(elf, symtab->sh_link);
  return string_at(elf, &names, s->st_name);
}

// ---- the way back

void elf_put_head(const Elf *elf, const Elf64_Ehdr *head, uint8_t *to) {
  if (!elf->is32) {
    memcpy(to, head, sizeof *head);
    return;
  }
  Elf32_Ehdr h;
  memcpy(&h, to, sizeof h);
  h.e_shoff = (Elf32_Off)head->e_shoff;
  h.e_shnum = head->e_shnum;
  memcpy(to, &h, sizeof h);
}

void elf_put_section(const Elf *elf, uint64_t table, uint32_t i, const Elf64_Shdr *s, uint8_t *to) {
  to += table + (uint64_t)i * elf_header_bytes(elf);
  if (!elf->is32) {
    memcpy(to, s, sizeof *s);
    return;
  }
  Elf32_Shdr h = {s->sh_name,
                  s->sh_type,
                  (Elf32_Word)s->sh_flags,
                  (Elf32_Addr)s->sh_addr,
                  (Elf32_Off)s->sh_offset,
                  (Elf32_Word)s->sh_size,
                  s->sh_link,
                  s->sh_info,
                  (Elf32_Word)s->sh_addralign,
                  (Elf32_Word)s->sh_entsize};
  memcpy(to, &h, sizeof h);
}

void elf_put_symbol(const Elf *elf, const Elf64_Shdr *symtab, uint32_t i, const Elf64_Sym *s, uint8_t *to) {
  to += symtab->sh_offset + (uint64_t)i * symbol_bytes(elf);
  if (!elf->is32) {
    memcpy(to, s, sizeof *s);
    return;
  }
  Elf32_Sym h = {s->st_name, (Elf32_Addr)s->st_value, (Elf32_Word)s->st_size, s->st_info, s->st_other, s->st_shndx};
  memcpy(to, &h, sizeof h);
}

// Bytes of a relocation, and of what stands before its word of symbol and kind.
static size_t relocation_bytes(const Elf *elf, const Elf64_Shdr *s) {
  if (elf->is32) return s->sh_type == SHT_RELA ? sizeof(Elf32_Rela) : sizeof(Elf32_Rel);
  return s->sh_type == SHT_RELA ? sizeof(Elf64_Rela) : sizeof(Elf64_Rel);
}

static size_t relocation_info(const Elf *elf, const Elf64_Shdr *s, uint32_t i) {
  return s->sh_offset + i * relocation_bytes(elf, s) + (elf->is32 ? sizeof(Elf32_Addr) : sizeof(Elf64_Addr));
}

uint32_t elf_relocations(const Elf *elf, const Elf64_Shdr *s) {
  if (s->sh_type != SHT_RELA && s->sh_type != SHT_REL) return 0;
  uint64_t n = s->sh_size / relocation_bytes(elf, s);
  return n > UINT32_MAX ? 0 : (uint32_t)n;
}

uint32_t elf_relocated(const Elf *elf, const Elf64_Shdr *s, uint32_t i) {
  uint64_t wide;
  uint32_t narrow;
  memcpy(&narrow, elf->at + relocation_info(elf, s, i), sizeof narrow);
  if (elf->is32) return ELF32_R_SYM(narrow);
  memcpy(&wide, elf->at + relocation_info(elf, s, i), sizeof wide);
  return (uint32_t)ELF64_R_SYM(wide);
}

void elf_relocate(const Elf *elf, const Elf64_Shdr *s, uint32_t i, uint32_t symbol, uint8_t *to) {
  to += relocation_info(elf, s, i);
  if (elf->is32) {
    uint32_t info;
    memcpy(&info, to, sizeof info);
    info = ELF32_R_INFO(symbol, ELF32_R_TYPE(info));
    memcpy(to, &info, sizeof info);
    return;
  }
  uint64_t info;
  memcpy(&info, to, sizeof info);
  info = ELF64_R_INFO((uint64_t)symbol, ELF64_R_TYPE(info));
  memcpy(to, &info, sizeof info);
}
