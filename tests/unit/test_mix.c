// The instructions that rows of the target table promise: compiled for each, the innermost loops of a product of
// floats, of bytes and of signs hold them. Loops are read off the disassembly: a jump backwards is the end of one.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "ir/text.h"
#include "passes/pass.h"

static const char floats[] =
    "const @w: f32[128,64] = rand(1)\n"
    "func @f(%x: f32[16,128]) -> f32[16,64] {\n"
    "  %0 = matmul %x, @w : f32[16,64]\n"
    "  return %0\n"
    "}\n";

static const char bytes[] =
    "const @w: i8[128,64] = rand(1)\n"
    "func @f(%x: u8[16,128]) -> i32[16,64] {\n"
    "  %0 = matmul %x, @w {x_zero = 128} : i32[16,64]\n"
    "  return %0\n"
    "}\n";

static const char signs[] =
    "const @r: f32[512,64] = rand(1)\n"
    "func @f(%x: f32[16,512]) -> f32[16,64] {\n"
    "  %0 = greater_equal @r, f32(0.0) : bool[512,64]\n"
    "  %1 = select %0, f32(1.0), f32(-1.0) : f32[512,64]\n"
    "  %2 = greater_equal %x, f32(0.0) : bool[16,512]\n"
    "  %3 = select %2, f32(1.0), f32(-1.0) : f32[16,512]\n"
    "  %4 = matmul %3, %1 : f32[16,64]\n"
    "  return %4\n"
    "}\n";

// Words that mnemonics begin with: all of them in one loop, "a|b" either; with `by`, the operands hold it.
typedef struct Promise {
  const char *target, *network, *words, *by;
} Promise;

static const Promise promises[] = {
    {"x86-64-v2", floats, "mulps addps", NULL},
    {"x86-64-v3", floats, "vfmadd", NULL},
    {"zen4", floats, "vfmadd", "zmm"},
    {"armv8-a", floats, "fmla", "["},
    {"aarch64-dotprod", floats, "fmla", "["},
    {"armv7a", floats, "vfma|vmla", NULL},
    {"cortex-m4f", floats, "vfma|vmla", NULL},
    {"x86-64-v2", bytes, "pmaddwd|pmaddubsw", NULL},
    {"x86-64-v3", bytes, "vpmaddwd|vpmaddubsw", NULL},
    {"alderlake", bytes, "vpdpbusd", "ymm"},
    {"icelake", bytes, "vpdpbusd", "zmm"},
    {"zen5", bytes, "vpdpbusd", "zmm"},
    {"sapphire-rapids", bytes, "tdpb", "tmm"},
    {"armv8-a", bytes, "smull sadalp", NULL},
    {"aarch64-dotprod", bytes, "sdot|udot", NULL},
    {"aarch64-i8mm", bytes, "usdot|sdot|smmla|usmmla", NULL},
    {"armv7a", bytes, "vmull vpadal", NULL},
    {"cortex-m4", bytes, "smlad", NULL},
    {"cortex-m7", bytes, "smlad", NULL},
    {"x86-64-v2", signs, "popcnt|pshufb", NULL},
    {"x86-64-v3", signs, "vpshufb", NULL},
    {"icelake", signs, "vpopcnt", "zmm"},
    {"zen4", signs, "vpopcnt", "zmm"},
    {"armv8-a", signs, "cnt uadalp", NULL},
    {"aarch64-dotprod", signs, "cnt udot", NULL},
    {"armv7a", signs, "vcnt vpadal|vpaddl", NULL},
};

enum { LINES = 20000 };

typedef struct Line {
  long at, next;
  char *text;
} Line;

// Where a jump goes; its own place where it is none. LLVM writes distances: from the instruction, of x86 from the next
// one, of Thumb and ARM from what the program counter reads as.
static long jump_to(const Line *l, const char *arch) {
  bool x86 = strcmp(arch, "x86-64") == 0, a64 = strcmp(arch, "aarch64") == 0;
  char head = l->text[0];
  if (x86 ? head != 'j' : head != 'b' && head != 'c' && head != 't' && head != 'l') return l->at;
  const char *last = strrchr(l->text, ' ');
  if (last == NULL || (!x86 && last[1] != '#')) return l->at;
  char *end;
  long by = strtol(last + (x86 ? 1 : 2), &end, 10);
  if (*end != 0 || by >= 0) return l->at;
  return by + (x86 ? l->next : a64 ? l->at : l->at + (strcmp(arch, "thumb") == 0 ? 4 : 8));
}

static bool starts(const char *text, const char *word, size_t n) { return strncmp(text, word, n) == 0; }

// One of "a|b".
static bool holds_one(const Line *l, long n, const char *word, size_t length, const char *by) {
  for (long i = 0; i < n; i++) {
    for (const char *w = word; w < word + length;) {
      size_t k = strcspn(w, "| ");
      if (starts(l[i].text, w, k) && (by == NULL || strstr(l[i].text, by) != NULL)) return true;
      w += k + 1;
    }
  }
  return false;
}

static bool holds_all(const Line *l, long n, const Promise *p) {
  for (const char *w = p->words; *w; w += strspn(w, " ")) {
    size_t length = strcspn(w, " ");
    if (!holds_one(l, n, w, length, p->by)) return false;
    w += length;
  }
  return true;
}

// A loop without another one inside that keeps the promise.
static bool loop_keeps(const Line *l, long n, const char *arch, const Promise *p) {
  for (long i = 0, before = -1; i < n; i++) {
    long to = jump_to(&l[i], arch), from = i;
    if (to >= l[i].at) continue;
    while (from > 0 && l[from].at > to) from--;
    if (from > before && holds_all(&l[from], i - from + 1, p)) return true;
    before = i;
  }
  return false;
}

static bool listing_keeps(char *text, const char *arch, const Promise *p) {
  static Line lines[LINES];
  long n = 0;
  for (char *s = strtok(text, "\n"); s != NULL && n < LINES; s = strtok(NULL, "\n"), n++) {
    char *rest;
    lines[n].at = strtol(s, &rest, 10);
    lines[n].next = lines[n].at + strtol(rest, &rest, 10);
    lines[n].text = rest + 1;
    if (lines[n].text[0] == '{') lines[n].text += strcspn(lines[n].text, " ") + 1;  // {vex}
  }
  return loop_keeps(lines, n, arch, p);
}

static void check(const Promise *p) {
  const Target *t = target_by_name(p->target);
  Arena *arena = arena_new("mix");
  Module *m = parse_module(arena, diag_new(arena, NULL), "case", p->network, strlen(p->network));
  cr_assert(m != NULL && t != NULL, "%s", p->target);
  PassOptions opt = pass_options_default();
  RunOptions run = {.verify_each = false};
  cr_assert(pipeline_run(m, t, pipeline_default, &opt, &run, arena, NULL), "%s", diag_text(m->diag));
  ObjectBytes object;
  EmitOptions emit = {.name = "net", .info_json = "{}", .pic = true};
  cr_assert(backend_emit(m, t, &emit, EMIT_OBJECT, true, &object));
  bool kept = false;
  for (uint32_t i = 0; i < m->program->kernels.n; i++) {
    StrBuf text;
    strbuf_init(&text, arena);
    const char *kernel = m->program->kernels.at[i]->name;
    if (!object_listing(&object, t, "net", kernel, &text) || text.n == 0) continue;
    kept = kept || listing_keeps(text.at, t->arch, p);
  }
  cr_expect(kept, "%s: no inner loop holds %s%s%s", p->target, p->words, p->by ? " with " : "", p->by ? p->by : "");
  free(object.at);
  arena_free(arena);
}

Test(mix, rows_keep_their_promises, .timeout = 600) {
  for (size_t i = 0; i < sizeof promises / sizeof *promises; i++) check(&promises[i]);
}

// What the rows do not have, they do not promise: the check can fail.
Test(mix, other_rows_do_not) {
  const Target *t = target_by_name("x86-64-v3");
  static const Promise p = {"x86-64-v3", bytes, "vpdpbusd", NULL};
  char loop[] =
      "0 4 vmovups (%rax), %ymm0\n4 5 vfmadd231ps %ymm0, %ymm1, %ymm2\n9 2 jne -11\n11 4 vpdpbusd %ymm0, %ymm1\n";
  static const Promise fma = {"x86-64-v3", floats, "vfmadd", "ymm"};
  char copy[sizeof loop];
  memcpy(copy, loop, sizeof loop);
  cr_expect(listing_keeps(copy, t->arch, &fma));
  cr_expect_not(listing_keeps(loop, t->arch, &p), "the instruction lies behind the loop");
}
