// What a target offers of the choices that make an object fit its surroundings (LinkChoices), and LLVM's triple for
// them.
//
//   relocation   pic wherever a loader is; static everywhere
//   code model   x86-64 small, medium, large; aarch64 small, and large at fixed addresses (LLVM has no sequence of
//                instructions for it that is position independent); none where addresses have 32 bits
//   float ABI    ARM of 32 bits: soft everywhere, hard where there are float registers
#include <string.h>

#include "backends/target.h"
#include "ir/base/diag.h"

static bool has_float_registers(const TargetRow *row) {
  size_t n = strlen(row->triple);
  return row->bits32 && n > 2 && strcmp(row->triple + n - 2, "hf") == 0;
}

static bool code_model_fits(const LinkChoices *c, const TargetRow *row, Diag *diag) {
  const char *name = row->t.name;
  if (c->code_model == CODE_MODEL_DEFAULT) return true;
  if (row->bits32)
    return diag_error(diag, DIAG_USAGE, NULL, "%s has no code models: all of its 32 bit addresses are within reach",
                      name);
  if (row->t.arch[0] == 'x' || c->code_model == CODE_MODEL_SMALL) return true;
  if (c->code_model == CODE_MODEL_MEDIUM)
    return diag_error(diag, DIAG_USAGE, NULL, "--code-model=medium is a choice of x86-64, not of %s", name);
  if (c->relocation == RELOCATION_STATIC) return true;
  return diag_error(diag, DIAG_USAGE, NULL, "--code-model=large on %s needs --relocation=static", name);
}

static bool float_abi_fits(const LinkChoices *c, const TargetRow *row, Diag *diag) {
  if (c->float_abi == FLOAT_ABI_DEFAULT) return true;
  if (!row->bits32)
    return diag_error(diag, DIAG_USAGE, NULL, "--float-abi is a choice of ARM targets of 32 bits, not of %s",
                      row->t.name);
  if (c->float_abi == FLOAT_ABI_SOFT || has_float_registers(row)) return true;
  return diag_error(diag, DIAG_USAGE, NULL, "--float-abi=hard: %s has no float registers", row->t.name);
}

// Beside ELF: position independent code of 64 bits, without what init can only ask of Linux.
static bool format_fits(const LinkChoices *c, const TargetRow *row, Diag *diag) {
  const char *option = c->format == FORMAT_COFF ? "--format=coff" : "--format=macho";
  if (c->format == FORMAT_ELF) return true;
  if (row->bits32)
    return diag_error(diag, DIAG_USAGE, NULL, "%s is a choice of x86-64 and aarch64, not of %s", option, row->t.name);
  if (c->relocation == RELOCATION_STATIC || c->code_model > CODE_MODEL_SMALL)
    return diag_error(diag, DIAG_USAGE, NULL, "%s is position independent and small: leave %s out", option,
                      c->relocation == RELOCATION_STATIC ? "--relocation" : "--code-model");
  if (row->t.arch[0] != 'x' && row->features)
    return diag_error(diag, DIAG_USAGE, NULL,
                      "%s: only Linux lets init read what %s needs of the CPU; take --target=armv8-a", option,
                      row->t.name);
  if (row->t.has_amx)
    return diag_error(diag, DIAG_USAGE, NULL, "%s: only Linux gives %s its tile registers; take --target=zen4", option,
                      row->t.name);
  return true;
}

bool link_choices_fit(const LinkChoices *c, const Target *t, Diag *diag) {
  const TargetRow *row = target_row(t);
  if (c->relocation == RELOCATION_PIC && row->bare)
    return diag_error(diag, DIAG_USAGE, NULL, "--relocation=pic: images for %s have no loader, use static", t->name);
  return format_fits(c, row, diag) && code_model_fits(c, row, diag) && float_abi_fits(c, row, diag);
}

const char *target_triple(const TargetRow *row, const LinkChoices *c, Arena *arena) {
  bool x86 = row->t.arch[0] == 'x';
  if (c->format == FORMAT_COFF) return x86 ? "x86_64-pc-windows-msvc" : "aarch64-pc-windows-msvc";
  if (c->format == FORMAT_MACHO) return x86 ? "x86_64-apple-macosx11.0.0" : "arm64-apple-macosx11.0.0";
  if (c->float_abi != FLOAT_ABI_SOFT || !has_float_registers(row)) return row->triple;
  return arena_printf(arena, "%.*s", (int)strlen(row->triple) - 2, row->triple);  // gnueabihf -> gnueabi
}
