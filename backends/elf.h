// Just enough ELF64 to read a relocatable object that claims to be ours, without trusting it.
#ifndef QCC_BACKENDS_ELF_H
#define QCC_BACKENDS_ELF_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Elf {
  const uint8_t *at;
  size_t n;
  Elf64_Ehdr head;
  uint32_t sections;
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

#endif
