// Printing a list of multiply-adds as x86-64 assembly. See asm_x86.h.
//
// A group is as many rows as registers hold: 28 sums in zmm0-27 with x in zmm31 and shifted x in zmm30, or 14 sums in
// ymm0-13 with x in ymm15 and the weight in ymm14 (AVX2 has no broadcast operands). Groups one after the other, each
// with the loop over the rows of a chunk around its code. Registers: rdi, rsi the parameters x and y; r8, r9 x and y of
// this round; rax 512 bytes into the weights in use, so that one signed byte reaches 256 of them; ecx rounds left; edx
// what a sum of integers begins with. No stack, no calls; all of these and every vector register belong to the callee.
#include "backends/asm_x86.h"

#include <stdlib.h>
#include <string.h>

#include "backends/asm_x86_list.h"

#define REACH 256  // weights that one signed byte reaches (scaled by 4)

typedef struct Form {
  const char *reg;  // "zmm", "ymm"
  uint32_t lanes, rows, x, shifted, w;
  bool broadcast;  // memory operands may be broadcast, vectors shifted
} Form;

static const Form zmm_form = {"zmm", 16, 28, 31, 30, 29, true};
static const Form ymm_form = {"ymm", 8, 14, 15, 15, 14, false};

// A multiply-add of a group, in the order they are printed.
typedef struct Item {
  int64_t at;
  uint32_t row;  // register
  uint32_t w;    // bits
  AsmTermKind kind;
} Item;

typedef struct Printer {
  Arena *arena;
  StrBuf *out;
  const AsmList *list;
  const Form *f;
  const char *symbol;
  uint32_t *pool;  // bits of the weights of this group
  uint32_t n_pool, window;
  int64_t loaded;   // element of x in register x, or -1
  int64_t shifted;  // element of x in register shifted, or -1
} Printer;

// ---- weights

enum { SIGN_BIT = INT32_MIN, ONE = 0x3f800000 };  // of floats

static uint32_t magnitude(uint32_t w) { return w & ~(uint32_t)SIGN_BIT; }
static bool is_minus(uint32_t w) { return (w & (uint32_t)SIGN_BIT) != 0; }

// Displacement from rax to a place with these bits; moves rax on when the weights in reach are used up.
static int64_t weight_place(Printer *p, uint32_t bits) {
  for (uint32_t i = p->n_pool; i-- > p->window;)
    if (p->pool[i] == bits) return 4 * ((int64_t)i - p->window) - 512;
  if (p->n_pool - p->window == REACH) {
    p->window = p->n_pool;
    strbuf_puts(p->out, "\taddq\t$1024, %rax\n");
  }
  p->pool[p->n_pool++] = bits;
  return 4 * ((int64_t)p->n_pool - 1 - p->window) - 512;
}

static void print_pool(Printer *p, uint32_t group) {
  strbuf_printf(p->out, "\t.p2align\t6\n%s_w%u:\n", p->symbol, group);
  for (uint32_t i = 0; i < p->n_pool; i++)
    strbuf_printf(p->out, i % 16 ? ",%u" : i ? "\n\t.long\t%u" : "\t.long\t%u", p->pool[i]);
  if (p->n_pool == 0) strbuf_puts(p->out, "\t.long\t0");
  strbuf_putc(p->out, '\n');
}

// ---- instructions

// The register that holds x from element `at` on; loads or shifts it there.
static uint32_t print_x(Printer *p, int64_t at) {
  const Form *f = p->f;
  int64_t vector = f->broadcast ? at - at % f->lanes : at;
  if (p->loaded != vector) {
    strbuf_printf(p->out, "\tvmovups\t%lld(%%r8), %%%s%u\n", (long long)(vector * 4), f->reg, f->x);
    p->loaded = vector;
  }
  if (vector == at) return f->x;
  if (p->shifted != at) {
    strbuf_printf(p->out, "\tvalignd\t$%lld, %%%s%u, %%%s%u, %%%s%u\n", (long long)(at - vector), f->reg, f->x, f->reg,
                  f->x, f->reg, f->shifted);
    p->shifted = at;
  }
  return f->shifted;
}

static void print_simple(Printer *p, const char *op, const char *reg, uint32_t x, uint32_t sum) {
  strbuf_printf(p->out, "\t%s\t%%%s%u, %%%s%u, %%%s%u\n", op, reg, x, reg, sum, reg, sum);
}

// A product and a sum, each rounded.
static void print_two(Printer *p, uint32_t x, const Item *i) {
  const Form *f = p->f;
  long long at = (long long)weight_place(p, magnitude(i->w));
  const char *add = is_minus(i->w) ? "vsubps" : "vaddps";
  if (f->broadcast) {
    strbuf_printf(p->out, "\tvmulps\t%lld(%%rax){1to16}, %%zmm%u, %%zmm%u\n", at, x, f->w);
  } else {
    strbuf_printf(p->out, "\tvbroadcastss\t%lld(%%rax), %%ymm%u\n\tvmulps\t%%ymm%u, %%ymm%u, %%ymm%u\n", at, f->w, f->w,
                  x, f->w);
  }
  print_simple(p, add, f->reg, f->w, i->row);
}

static void print_item(Printer *p, const Item *i) {
  const Form *f = p->f;
  uint32_t x = print_x(p, i->at);
  if (i->kind == ASM_DOT4) {
    strbuf_printf(p->out, "\tvpdpbusd\t%lld(%%rax){1to16}, %%zmm%u, %%zmm%u\n", (long long)weight_place(p, i->w), x,
                  i->row);
    return;
  }
  if (magnitude(i->w) == ONE) {
    print_simple(p, is_minus(i->w) ? "vsubps" : "vaddps", f->reg, x, i->row);
    return;
  }
  if (i->kind == ASM_TWO) {
    print_two(p, x, i);
    return;
  }
  const char *op = is_minus(i->w) ? "vfnmadd231ps" : "vfmadd231ps";
  long long at = (long long)weight_place(p, magnitude(i->w));
  if (f->broadcast) {
    strbuf_printf(p->out, "\t%s\t%lld(%%rax){1to16}, %%zmm%u, %%zmm%u\n", op, at, x, i->row);
  } else {
    strbuf_printf(p->out, "\tvbroadcastss\t%lld(%%rax), %%ymm%u\n\t%s\t%%ymm%u, %%ymm%u, %%ymm%u\n", at, f->w, op, f->w,
                  x, i->row);
  }
}

// ---- groups

static int by_place(const void *pa, const void *pb) {
  const Item *a = pa, *b = pb;
  if (a->at != b->at) return a->at < b->at ? -1 : 1;
  return a->row < b->row ? -1 : a->row > b->row;
}

// The multiply-adds of rows [from, to) in the order of x.
static Item *group_items(Printer *p, uint32_t from, uint32_t to, uint32_t *n) {
  const AsmList *list = p->list;
  *n = list->rows.at[to - 1].end - list->rows.at[from].first;
  Item *items = NEW_ARRAY(p->arena, Item, *n + 1);
  uint32_t at = 0;
  for (uint32_t r = from; r < to; r++)
    for (uint32_t t = list->rows.at[r].first; t < list->rows.at[r].end; t++) {
      const AsmTerm *term = &list->terms.at[t];
      items[at++] = (Item){term->at, r - from, term->w, term->kind};
    }
  qsort(items, *n, sizeof *items, by_place);
  return items;
}

static void print_sums(Printer *p, uint32_t from, uint32_t to) {
  for (uint32_t r = 0; r < to - from; r++) {
    int32_t start = p->list->rows.at[from + r].start;
    if (start != 0) {
      strbuf_printf(p->out, "\tmovl\t$%d, %%edx\n\tvpbroadcastd\t%%edx, %%%s%u\n", start, p->f->reg, r);
    } else if (r < 16) {
      strbuf_printf(p->out, "\tvxorps\t%%xmm%u, %%xmm%u, %%xmm%u\n", r, r, r);
    } else {
      strbuf_printf(p->out, "\tvpxord\t%%%s%u, %%%s%u, %%%s%u\n", p->f->reg, r, p->f->reg, r, p->f->reg, r);
    }
  }
}

static void print_group(Printer *p, uint32_t group, uint32_t from, uint32_t to) {
  const AsmList *list = p->list;
  uint32_t n;
  ArenaMark mark = arena_mark(p->arena);
  Item *items = group_items(p, from, to, &n);
  StrBuf *out = p->out;
  p->pool = NEW_ARRAY(p->arena, uint32_t, n + 1);
  p->n_pool = p->window = 0;
  p->loaded = p->shifted = -1;
  strbuf_puts(out, "\tmovq\t%rdi, %r8\n\tmovq\t%rsi, %r9\n");
  if (list->trips > 1)
    strbuf_printf(out, "\tmovl\t$%lld, %%ecx\n\t.p2align\t6\n%s_g%u:\n", (long long)list->trips, p->symbol, group);
  strbuf_printf(out, "\tleaq\t%s_w%u+512(%%rip), %%rax\n", p->symbol, group);
  print_sums(p, from, to);
  for (uint32_t i = 0; i < n; i++) print_item(p, &items[i]);
  for (uint32_t r = from; r < to; r++)
    strbuf_printf(out, "\tvmovups\t%%%s%u, %lld(%%r9)\n", p->f->reg, r - from, (long long)(list->rows.at[r].to * 4));
  if (list->trips > 1)
    strbuf_printf(out, "\taddq\t$%lld, %%r8\n\taddq\t$%lld, %%r9\n\tdecl\t%%ecx\n\tjne\t%s_g%u\n",
                  (long long)(list->x_step * 4), (long long)(list->y_step * 4), p->symbol, group);
  strbuf_puts(out, "\t.section\t.rodata\n");
  print_pool(p, group);
  strbuf_puts(out, "\t.text\n");
  arena_reset(p->arena, mark);
}

static bool has_fours(const AsmList *list) {
  for (uint32_t i = 0; i < list->rows.n; i++)
    if (list->rows.at[i].start != 0) return true;
  return list->terms.n > 0 && list->terms.at[0].kind == ASM_DOT4;
}

static const Form *form_of(const TargetRow *row, uint32_t lanes) {
  if (lanes == 16 && target_has(row, FEATURE_AVX512F)) return &zmm_form;
  return lanes == 8 && target_has(row, FEATURE_FMA) && target_has(row, FEATURE_AVX2) ? &ymm_form : NULL;
}

// Offsets of 32 bits.
static bool in_reach(const AsmList *list) {
  const int64_t most = INT32_MAX / 8;
  for (uint32_t i = 0; i < list->terms.n; i++)
    if (list->terms.at[i].at > most) return false;
  for (uint32_t i = 0; i < list->rows.n; i++)
    if (list->rows.at[i].to > most) return false;
  return list->x_step <= most && list->y_step <= most && list->trips <= INT32_MAX;
}

static bool print_kernel(StrBuf *out, Arena *arena, const Kernel *k, const TargetRow *row, const char *symbol) {
  AsmList list;
  if (row->t.arch[0] != 'x' || k->n_params != 2 || !asm_list_of(arena, k, &list)) return false;
  if ((list.x != NULL && list.x != k->params[0]) || list.y != k->params[1] || !in_reach(&list)) return false;
  Printer p = {.arena = arena, .out = out, .list = &list, .f = form_of(row, list.lanes), .symbol = symbol};
  if (p.f == NULL || (has_fours(&list) && (!p.f->broadcast || !target_has(row, FEATURE_AVX512VNNI)))) return false;
  strbuf_printf(out, "\t.text\n\t.p2align\t6\n\t.type\t%s,@function\n%s:\n\tendbr64\n", symbol, symbol);
  uint32_t rows = list.rows.n, groups = (rows + p.f->rows - 1) / p.f->rows, from = 0;
  for (uint32_t g = 0; g < groups; g++) {
    uint32_t left = groups - g, n = (rows - from + left - 1) / left;
    print_group(&p, g, from, from + n);
    from += n;
  }
  strbuf_printf(out, "\tvzeroupper\n\tretq\n\t.size\t%s, .-%s\n", symbol, symbol);
  return true;
}

bool asm_x86_kernel(StrBuf *out, const Kernel *k, const TargetRow *row, const char *symbol) {
  Arena *arena = arena_new("assembly");
  bool done = print_kernel(out, arena, k, row, symbol);
  arena_free(arena);
  return done;
}
