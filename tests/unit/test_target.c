// Rows of targets.def: sane figures, names LLVM knows, detection.
#include <criterion/criterion.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <string.h>
#include <unistd.h>

#include "backends/backend.h"
#include "backends/target.h"

Test(target, by_name) {
  for (uint32_t i = 0; i < target_count(); i++) cr_expect_eq(target_by_name(target_at(i)->name), target_at(i));
  cr_expect_null(target_by_name("rocketlake"));
  cr_expect_null(target_by_name(""));
}

// A level may be taken by every machine that could take the next one, so one that init refuses leaves another.
Test(target, levels_ascend) {
  static const char *const families[] = {"x86-64", "aarch64"};
  for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
    TargetLevels l = target_levels(families[f]);
    cr_assert(l.n >= 2);
    uint64_t least = target_row(l.at[0])->features;
    for (uint32_t i = 0; i < l.n; i++) {
      cr_expect_str_eq(l.at[i]->arch, l.at[0]->arch);
      cr_expect_eq(least & ~target_row(l.at[i])->features, 0u, "%s lacks what %s has", l.at[i]->name, l.at[0]->name);
    }
  }
  TargetLevels row = target_levels("x86-64-v3");
  cr_expect(row.n == 1 && row.at[0] == target_by_name("x86-64-v3"));
  cr_expect(target_levels("native").at[0] == target_native());
  cr_expect_eq(target_levels("rocketlake").n, 0);
}

Test(target, rows_are_complete) {
  for (uint32_t i = 0; i < target_count(); i++) {
    const Target *t = target_at(i);
    bool small = target_row(t)->bare;
    cr_expect(t->vector_bits == 128 || t->vector_bits == 256 || t->vector_bits == 512 ||
              (small && t->vector_bits == 32));
    cr_expect(t->n_vregs == 16 || t->n_vregs == 32 || (small && t->n_vregs >= 6), "%s", t->name);
    cr_expect(t->l1_bytes >= 16384 && t->l2_bytes >= t->l1_bytes && t->code_bytes > 0, "%s", t->name);
    cr_expect(t->fma_per_cycle > 0 && t->load_per_cycle > 0 && t->dot4_per_cycle > 0 && t->popcnt_per_cycle > 0);
    cr_expect(t->l1_bytes_cycle >= t->l2_bytes_cycle && t->l2_bytes_cycle >= t->dram_bytes_cycle, "%s", t->name);
    cr_expect(t->dram_bytes_cycle > 0 && t->call_cycles > 0 && t->ghz > 0, "%s", t->name);
  }
}

Test(target, native_runs_here) {
  const Target *t = target_native();
  cr_assert(t);
  cr_expect(target_runs_here(t));
}

// LLVM only warns (on stderr) about a feature or tuning name it does not know.
Test(target, llvm_knows_every_name) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeAArch64TargetInfo();
  LLVMInitializeAArch64Target();
  LLVMInitializeAArch64TargetMC();
  LLVMInitializeARMTargetInfo();
  LLVMInitializeARMTarget();
  LLVMInitializeARMTargetMC();
  Arena *arena = arena_new("test");
  char said[4096] = "";
  int ends[2], old = dup(2);
  cr_assert_eq(pipe(ends), 0);
  for (uint32_t i = 0; i < target_count(); i++) {
    const TargetRow *row = target_row(target_at(i));
    LLVMTargetRef target;
    char *why = NULL;
    cr_assert_eq(LLVMGetTargetFromTriple(row->triple, &target, &why), 0, "%s", why);
    fflush(stderr);
    dup2(ends[1], 2);
    const char *cpus[] = {row->cpu, row->tune};
    for (int c = 0; c < 2; c++) {
      LLVMTargetMachineRef tm = LLVMCreateTargetMachine(target, row->triple, cpus[c], target_feature_text(row, arena),
                                                        LLVMCodeGenLevelDefault, LLVMRelocPIC, LLVMCodeModelDefault);
      LLVMDisposeTargetMachine(tm);
    }
    fflush(stderr);
    dup2(old, 2);
  }
  close(ends[1]);
  ssize_t n = read(ends[0], said, sizeof said - 1);
  cr_expect_eq(n, 0, "%s", said);
  arena_free(arena);
}
