// Just enough ELF to read and change a relocatable object that claims to be ours, without trusting it. Objects of 32
// bits are read into the structures of 64.
#ifndef QCC_BACKENDS_ELF_H
#define QCC_BACKENDS_ELF_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef SHF_X86_64_LARGE
#define SHF_X86_64_LARGE 0x10000000  // x86-64 psABI, section 5.1
#endif

typedef struct Elf {
  const uint8_t *at;
  size_t n;
  Elf64_Ehdr head;
  uint32_t sections;
  bool is32;
} Elf;

// Checks the identification and that section headers, section contents and names lie inside the bytes.
bool elf_open(Elf *elf, const uint8_t *at, size_t n);
Elf64_Shdr elf_section(const Elf *elf, uint32_t i);
const char *elf_section_name(const Elf *elf, uint32_t i);  // "" when out of range
int64_t elf_find(const Elf *elf, const char *name);        // section number or -1
int64_t elf_find_type(const Elf *elf, uint32_t type);      // first section of the type or -1
uint32_t elf_symbols(const Elf *elf, const Elf64_Shdr *symtab);
Elf64_Sym elf_symbol(const Elf *elf, const Elf64_Shdr *symtab, uint32_t i);
const char *elf_symbol_name(const Elf *elf, const Elf64_Shdr *symtab, const Elf64_Sym *s);

// The way back, into `to`, a longer copy of the bytes. Headers of sections follow each other from head.e_shoff on.
size_t elf_header_bytes(const Elf *elf);  // of one section
void elf_put_head(const Elf *elf, const Elf64_Ehdr *head, uint8_t *to);
void elf_put_section(const Elf *elf, uint64_t table, uint32_t i, const Elf64_Shdr *s, uint8_t *to);
void elf_put_symbol(const Elf *elf, const Elf64_Shdr *symtab, uint32_t i, const Elf64_Sym *s, uint8_t *to);
// The symbol of relocation i of a section of relocations, and another one in its place.
uint32_t elf_relocations(const Elf *elf, const Elf64_Shdr *s);
uint32_t elf_relocated(const Elf *elf, const Elf64_Shdr *s, uint32_t i);
void elf_relocate(const Elf *elf, const Elf64_Shdr *s, uint32_t i, uint32_t symbol, uint8_t *to);

#endif
