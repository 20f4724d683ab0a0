// Instructions by mnemonic: what counts as float arithmetic and as a multiplication, on both architectures.
#include <criterion/criterion.h>

#include "backends/backend.h"

typedef struct Row {
  const char *mnemonic;
  bool is_float, multiplies;
} Row;

static void check(const char *arch, const Row *rows, size_t n) {
  for (size_t i = 0; i < n; i++) {
    CodeFilter c = instruction_class(arch, rows[i].mnemonic);
    cr_expect_eq(c.is_float, rows[i].is_float, "%s %s: float %d", arch, rows[i].mnemonic, c.is_float);
    cr_expect_eq(c.multiplies, rows[i].multiplies, "%s %s: multiplies %d", arch, rows[i].mnemonic, c.multiplies);
  }
}

Test(instruction, x86) {
  static const Row rows[] = {
      {"vfmadd231ps", true, true}, {"vmulss", true, true},         {"vdivpd", true, true},
      {"vaddps", true, false},     {"subsd", true, false},         {"vmaxps", true, false},
      {"vcvtdq2ps", true, false},  {"cvttss2si", true, false},     {"vcmpleps", true, false},
      {"vucomiss", true, false},   {"vrndscaleps", true, false},   {"vrangeps", true, false},
      {"vdpbf16ps", true, true},   {"fldt", true, false},          {"vsqrtps", true, false},
      {"vfpclassps", true, false}, {"vmovaps", false, false},      {"vxorps", false, false},
      {"vblendvps", false, false}, {"vbroadcastss", false, false}, {"vpermps", false, false},
      {"vshufps", false, false},   {"vgatherdps", false, false},   {"movss", false, false},
      {"tdpbusd", false, true},    {"tdpbf16ps", true, true},      {"tileloadd", false, false},
      {"vpdpbusd", false, true},   {"vpmaddubsw", false, true},    {"vpmulld", false, true},
      {"vpmulhuw", false, true},   {"imulq", false, true},         {"mulxq", false, true},
      {"divl", false, true},       {"vgf2p8mulb", false, true},    {"vpaddd", false, false},
      {"vpsubb", false, false},    {"vpmaxsd", false, false},      {"vpminsd", false, false},
      {"vpcmpgtd", false, false},  {"vpopcntq", false, false},     {"vpternlogq", false, false},
      {"vpermb", false, false},    {"leaq", false, false},         {"addq", false, false},
      {"subl", false, false},      {"cmpq", false, false},         {"vpshufb", false, false},
      {"vpsadbw", false, false},   {"kaddw", false, false},        {"cmovgeq", false, false},
  };
  check("x86-64", rows, sizeof rows / sizeof *rows);
}

Test(instruction, aarch64) {
  static const Row rows[] = {
      {"fmla", true, true},     {"fadd", true, false},  {"fmul", true, true},   {"scvtf", true, false},
      {"fcvtzs", true, false},  {"fcmge", true, false}, {"fmov", false, false}, {"bfdot", true, true},
      {"mul", false, true},     {"madd", false, true},  {"sdot", false, true},  {"smull", false, true},
      {"mla", false, true},     {"udiv", false, true},  {"add", false, false},  {"cnt", false, false},
      {"eor", false, false},    {"tbl", false, false},  {"smax", false, false}, {"ldr", false, false},
      {"uaddlp", false, false},
  };
  check("aarch64", rows, sizeof rows / sizeof *rows);
}
