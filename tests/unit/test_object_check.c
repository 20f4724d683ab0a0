// The scan of promises: a good object passes; each promise, broken on purpose in the bytes, is found; cut and damaged
// objects are refused without reading outside them.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "backends/elf.h"
#include "ir/kbuild.h"

static const Loc loc = {.node = -1};
static Arena *arena;
static Diag *diag;
static ObjectBytes good;

// y = x + w with w in the weights.
static Module *module_with_weights(void) {
  Module *m = module_new(arena, diag);
  m->program = program_new(m);
  KBuild b;
  int64_t n = 37;
  kbuild_init(&b, m, "shift", &loc);
  KBuf *x = kb_param(&b, "x", DT_F32, 1, &n, SPACE_ARG), *w = kb_param(&b, "w", DT_F32, 1, &n, SPACE_CONST);
  KBuf *y = kb_param(&b, "y", DT_F32, 1, &n, SPACE_ARG);
  KVar *i = kb_for(&b, "i", 0, n, 1, FOR_VEC);
  kb_store1(&b, y, aff_var(i), kx_op2(&b, KOP_ADD, kx_load1(&b, x, aff_var(i)), kx_load1(&b, w, aff_var(i))));
  kb_end(&b);
  Kernel *k = program_kernel(m->program, kbuild_done(&b));
  const Type *t = type_tensor(m->types, DT_F32, 1, &n);
  PBuf *in = program_buf(m->program, PBUF_INPUT, "x", t), *out = program_buf(m->program, PBUF_OUTPUT, "y", t);
  PBuf *weights = program_buf(m->program, PBUF_CONST, "w", t);
  weights->constant = const_generated(m, t, CONST_RAND, 0, 7, "w")->constant;
  program_step(m->program, k, 3, (PBuf *[]){in, weights, out}, NULL);
  return m;
}

static void setup(void) {
  arena = arena_new("test");
  diag = diag_new(arena, NULL);
  EmitOptions opt = {.name = "demo", .info_json = "{}", .pic = true};
  cr_assert(backend_emit(module_with_weights(), target_native(), &opt, EMIT_OBJECT, true, &good));
}

static void teardown(void) {
  free(good.at);
  arena_free(arena);
}

TestSuite(object_check, .init = setup, .fini = teardown);

static bool check(const uint8_t *at, size_t n, const char *name) {
  uint64_t stack = 0;
  return object_check(at, n, name, false, &stack, diag);
}

Test(object_check, good_object) {
  uint64_t stack = 0;
  cr_expect(object_check(good.at, good.n, "demo", false, &stack, diag), "%s", diag_text(diag));
  cr_expect(stack > 0 && stack <= 4096);
  Elf elf;
  cr_assert(elf_open(&elf, good.at, good.n));
  int64_t weights = elf_find(&elf, ".rodata.qcc");
  cr_assert(weights > 0);
  cr_expect_eq(elf_section(&elf, (uint32_t)weights).sh_offset % 64, 0);
  cr_expect_geq(elf_section(&elf, (uint32_t)weights).sh_size, 37 * 4);
}

// Every row: instructions are as long as the architecture has them, and the functions' parts are those of the whole.
Test(object_check, sizes) {
  for (uint32_t i = 0; i < target_count(); i++) {
    const Target *t = target_at(i);
    ObjectBytes o;
    ObjectSize size;
    CodeScan scan;
    EmitOptions opt = {.name = "demo", .info_json = "{}", .pic = true};
    cr_assert(backend_emit(module_with_weights(), t, &opt, EMIT_OBJECT, true, &o));
    cr_assert(object_size(&o, t, arena, &size), "%s", t->name);
    bool x86 = strcmp(t->arch, "x86-64") == 0, thumb = strcmp(t->arch, "thumb") == 0;
    uint64_t shortest = x86 ? 1 : thumb ? 2 : 4, longest = x86 ? 15 : 4;
    cr_expect(size.instructions * shortest <= size.code && size.instructions * longest + size.code / 4 >= size.code,
              "%s: %llu instructions in %llu bytes", t->name, (unsigned long long)size.instructions,
              (unsigned long long)size.code);
    cr_expect(size.constants >= 37 * 4 && size.code + size.constants < o.n, "%s", t->name);
    cr_assert(object_scan(&o, t, "demo", "shift", arena, &scan), "%s", t->name);
    cr_expect(scan.instructions > 4 && scan.instructions < size.instructions, "%s", t->name);
    free(o.at);
  }
}

Test(object_check, foreign_names) { cr_expect_not(check(good.at, good.n, "other")); }

Test(object_check, cut_anywhere) {
  for (size_t n = 0; n < good.n; n++) {
    uint8_t *copy = malloc(n ? n : 1);  // exactly n bytes: AddressSanitizer sees a read past the end
    memcpy(copy, good.at, n);
    cr_expect_not(check(copy, n, "demo"), "cut at %zu", n);
    free(copy);
  }
}

static void change_section(const char *name, uint64_t set, uint32_t type) {
  Elf elf;
  cr_assert(elf_open(&elf, good.at, good.n));
  int64_t i = elf_find(&elf, name);
  cr_assert(i > 0, "%s", name);
  Elf64_Shdr s = elf_section(&elf, (uint32_t)i);
  s.sh_flags |= set;
  if (type) s.sh_type = type;
  memcpy(good.at + elf.head.e_shoff + (size_t)i * sizeof s, &s, sizeof s);
  cr_expect_not(check(good.at, good.n, "demo"), "%s", name);
  s.sh_flags &= ~set;
}

Test(object_check, writable_weights) { change_section(".rodata.qcc", SHF_WRITE, 0); }
Test(object_check, thread_local) { change_section(".rodata.qcc", SHF_TLS, 0); }
Test(object_check, executable_stack) { change_section(".note.GNU-stack", SHF_EXECINSTR, 0); }
Test(object_check, init_array) { change_section(".data.rel.ro", 0, SHT_INIT_ARRAY); }
Test(object_check, code_elsewhere) { change_section(".rodata.qcc", SHF_EXECINSTR, 0); }

static void change_symbol(const char *name, const char *to, bool undefined) {
  Elf elf;
  cr_assert(elf_open(&elf, good.at, good.n));
  Elf64_Shdr symtab = elf_section(&elf, (uint32_t)elf_find_type(&elf, SHT_SYMTAB));
  for (uint32_t i = 1; i < elf_symbols(&elf, &symtab); i++) {
    Elf64_Sym s = elf_symbol(&elf, &symtab, i);
    char *text = (char *)(uintptr_t)elf_symbol_name(&elf, &symtab, &s);
    if (strcmp(text, name) != 0) continue;
    if (to) memcpy(text, to, strlen(to));
    if (undefined) s.st_shndx = SHN_UNDEF;
    memcpy(good.at + symtab.sh_offset + i * sizeof s, &s, sizeof s);
    return;
  }
  cr_assert_fail("no symbol %s", name);
}

Test(object_check, name_without_prefix) {
  change_symbol("demo_run", "dem", false);
  cr_expect(check(good.at, good.n, "demo"));
  change_symbol("demo_run", "dema", false);
  cr_expect_not(check(good.at, good.n, "demo"));
}

Test(object_check, outside_symbol) {
  change_symbol("demo_run", "sqrtf", true);
  cr_expect_not(check(good.at, good.n, "demo"));
}

Test(object_check, too_much_stack) {
  Elf elf;
  cr_assert(elf_open(&elf, good.at, good.n));
  Elf64_Shdr s = elf_section(&elf, (uint32_t)elf_find(&elf, ".qcc.stack"));
  memcpy(good.at + s.sh_offset, &(uint64_t){4097}, 8);
  cr_expect_not(check(good.at, good.n, "demo"));
}

Test(object_check, random_damage) {
  uint64_t state = 88172645463325252u;
  for (int round = 0; round < 20000; round++) {
    uint8_t *copy = malloc(good.n);
    memcpy(copy, good.at, good.n);
    for (int k = 0; k < 4; k++) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      size_t header = sizeof(Elf64_Ehdr), table = good.n - 16 * sizeof(Elf64_Shdr);
      size_t at = k % 2 ? state % header : table + state % (good.n - table);
      copy[at] = (uint8_t)(state >> 40);
    }
    uint64_t stack;
    Diag *quiet = diag_new(arena, NULL);
    object_check(copy, good.n, "demo", false, &stack, quiet);  // any answer, but no crash
    free(copy);
  }
}

// ---- COFF and Mach-O

static bool check_foreign(const ObjectBytes *o, const char *name, ObjectFormat format) {
  return object_check_foreign(o->at, o->n, name, format, diag_new(arena, NULL));
}

// Every `from` in the bytes is a `to` of the same length.
static bool change_text(const ObjectBytes *o, const char *from, const char *to) {
  bool any = false;
  size_t n = strlen(from);
  for (size_t i = 0; i + n <= o->n; i++)
    if (memcmp(o->at + i, from, n) == 0) {
      memcpy(o->at + i, to, n);
      any = true;
    }
  return any;
}

Test(object_check, foreign_objects) {
  const struct {
    ObjectFormat format, other;
    const char *section, *writable, *symbol, *outside;
  } rows[] = {{FORMAT_COFF, FORMAT_MACHO, ".xdata", ".tdata", "_fltused", "_fltusee"},
              {FORMAT_MACHO, FORMAT_COFF, "__eh_frame", "__thread_v", "_demo_run", "_memo_run"}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    EmitOptions opt = {.name = "demo", .info_json = "{}", .pic = true, .link.format = rows[i].format};
    ObjectBytes o;
    cr_assert(backend_emit(module_with_weights(), target_by_name("x86-64-v3"), &opt, EMIT_OBJECT, true, &o), "%s",
              diag_text(diag));
    cr_expect(check_foreign(&o, "demo", rows[i].format));
    cr_expect(!check_foreign(&o, "demp", rows[i].format), "another prefix");
    cr_expect(!check_foreign(&o, "demo", rows[i].other), "another format");
    cr_assert(change_text(&o, rows[i].section, rows[i].writable));
    cr_expect(!check_foreign(&o, "demo", rows[i].format), "section %s", rows[i].writable);
    cr_assert(change_text(&o, rows[i].writable, rows[i].section));
    cr_expect(check_foreign(&o, "demo", rows[i].format));
    cr_assert(change_text(&o, rows[i].symbol, rows[i].outside));
    cr_expect(!check_foreign(&o, "demo", rows[i].format), "symbol %s", rows[i].outside);
    free(o.at);
  }
}
