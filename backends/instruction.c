// Instructions by mnemonic, as LLVM writes them (AT&T for x86): which compute with floats, which multiply.
//
// Moves, logic, shuffles, blends and broadcasts carry float suffixes but compute nothing; a promise of code without
// floats allows them. `imul` in an address counts as a multiplication: a promise without them has no exceptions.
#include <stddef.h>
#include <string.h>

#include "backends/backend.h"

static bool starts(const char *s, const char *head) { return strncmp(s, head, strlen(head)) == 0; }

static bool ends(const char *s, const char *tail) {
  size_t n = strlen(s), k = strlen(tail);
  return n >= k && strcmp(s + n - k, tail) == 0;
}

static bool any(const char *s, const char *const *list, size_t n, bool (*fits)(const char *, const char *)) {
  for (size_t i = 0; i < n; i++)
    if (fits(s, list[i])) return true;
  return false;
}
#define ANY(s, list, fits) any(s, list, sizeof list / sizeof *list, fits)

static CodeFilter x86_class(const char *m) {
  static const char *const suffixes[] = {"ss", "sd", "ps", "pd", "sh", "ph"};
  static const char *const computes[] = {
      "add",  "sub",   "mul", "div",   "sqrt",   "min",     "max",     "fmadd", "fmsub",  "fnmad", "fnmsu",  "cmp",
      "comi", "ucomi", "rcp", "rsqrt", "round",  "rndsc",   "getex",   "getm",  "scalef", "range", "reduce", "fixup",
      "hadd", "hsub",  "dpp", "dpbf",  "fpclas", "fmaddsu", "fmsubad", "exp2",  "tdpbf",  "tdpf"};
  static const char *const products[] = {"mul",  "imul", "div",  "idiv", "pmul", "pmadd",    "pdp", "fmad",
                                         "fmsu", "fnma", "fnms", "dpp",  "dpbf", "gf2p8mul", "tdp"};
  static const char *const x87[] = {"fld",  "fst",  "fild", "fist",  "fadd", "fsub",
                                    "fmul", "fdiv", "fcom", "fucom", "fsqrt"};
  if (*m == 'v') m++;
  bool x87_op = ANY(m, x87, starts), suffixed = ANY(m, suffixes, ends);
  CodeFilter c = {0};
  c.is_float = x87_op || starts(m, "cvt") || (suffixed && ANY(m, computes, starts));
  c.multiplies = ANY(m, products, starts) || starts(m, "fmul") || starts(m, "fdiv") || starts(m, "pclmul");
  return c;
}

static CodeFilter a64_class(const char *m) {
  static const char *const moves[] = {"fmov", "fcsel"};
  static const char *const products[] = {"mul",   "madd",  "msub",  "mneg", "smul", "umul", "smadd", "umadd", "smsub",
                                         "umsub", "mla",   "mls",   "smla", "umla", "smls", "umls",  "sdot",  "udot",
                                         "usdot", "sudot", "sqdmu", "sqrd", "sdiv", "udiv", "fmul",  "fmad",  "fmsu",
                                         "fnmu",  "fnma",  "fnms",  "fmla", "fmls", "fdiv", "bfdot", "bfmla", "pmul"};
  CodeFilter c = {0};
  c.is_float =
      (starts(m, "f") && !ANY(m, moves, starts)) || starts(m, "scvtf") || starts(m, "ucvtf") || starts(m, "bf");
  c.multiplies = ANY(m, products, starts);
  return c;
}

CodeFilter instruction_class(const char *arch, const char *mnemonic) {
  return strcmp(arch, "aarch64") == 0 ? a64_class(mnemonic) : x86_class(mnemonic);
}
