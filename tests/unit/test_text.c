// The text form: parse(print(x)) for every op, attribute kind, element type and kernel op; damaged texts never crash
// the parser, the verifier or the printer; every name of the tables is in the manual.
#include <criterion/criterion.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/kbuild.h"
#include "ir/text.h"
#include "ir/verify.h"

static uint64_t random_state = 1;
static uint64_t rnd(void) {  // xorshift64*
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return (random_state * UINT64_C(2685821657736338717)) >> 11;
}

static const char *printed(Arena *a, Module *m) {
  StrBuf b;
  strbuf_init(&b, a);
  print_module(&b, m, (PrintOptions){.all_bytes = true, .locs = true});
  return strbuf_str(&b);
}

// Parses what was printed, checks that it prints the same and returns it.
static Module *round_trip(Arena *a, Module *m) {
  const char *text = printed(a, m);
  Diag *d = diag_new(a, NULL);
  Module *again = parse_module(a, d, "t", text, strlen(text));
  cr_assert(again, "%s\n%s", diag_text(d), text);
  cr_assert_str_eq(printed(a, again), text);
  return again;
}

// ---- ops

static Func *body_func(Module *m, const char *name, uint32_t n_args) {
  const Type *types[16];
  for (uint32_t i = 0; i < n_args; i++) types[i] = type_scalar(m->types, DT_F32);
  Func *f = func_new(m, name, n_args, types);
  func_set_results(f, 1, &f->args[0]);
  return f;
}

static EnumValue random_enum(const char *set) {
  for (;;) {
    EnumValue v = (EnumValue)(1 + rnd() % (ENUM_COUNT - 1));
    if (strcmp(enum_set(v), set) == 0) return v;
  }
}

static void random_attr(Op *op, int slot, Func *body) {
  const AttrInfo *info = &op_info(op->kind)->attrs[slot];
  int64_t ints[4] = {(int64_t)rnd(), -(int64_t)rnd(), INT64_MIN, 0};
  double floats[4] = {(double)rnd() / 7e15, -1e-300 * (double)rnd(), INFINITY, 0.0};
  uint32_t n = 1 + (uint32_t)(rnd() % 4);
  Plan plan = {.strategy = "fma", .n = 2, .param = {{"mr", 6}, {"nv", -(int64_t)(rnd() % 100)}}};
  switch (info->kind) {
    case ATTR_INT: op_set_int(op, slot, ints[rnd() % 4]); break;
    case ATTR_BOOL: op_set_int(op, slot, rnd() % 2); break;
    case ATTR_ENUM: op_set_int(op, slot, random_enum(enum_set((EnumValue)(int)info->def))); break;
    case ATTR_DTYPE: op_set_int(op, slot, 1 + (int64_t)(rnd() % (DT_COUNT - 1))); break;
    case ATTR_FLOAT: op_set_float(op, slot, floats[rnd() % 4]); break;
    case ATTR_STR: op_set_str(op, slot, rnd() % 2 ? "a,b" : "say \"\\\n\xff\xc3\xa9"); break;
    case ATTR_INTS: op_set_ints(op, slot, n, ints); break;
    case ATTR_FLOATS: op_set_floats(op, slot, n, floats); break;
    case ATTR_FUNC: op_set_func(op, slot, body); break;
    case ATTR_PLAN: op_set_plan(op, &plan); break;
  }
}

static void same_attrs(const Op *a, const Op *b) {
  const OpInfo *info = op_info(a->kind);
  for (uint32_t i = 0; i < info->n_attrs; i++) {
    const AttrVal *x = &a->attrs[i], *y = &b->attrs[i];
    const char *name = info->attrs[i].name;
    switch (info->attrs[i].kind) {
      case ATTR_FLOAT: {
        double p = op_float(a, (int)i), q = op_float(b, (int)i);
        cr_assert(memcmp(&p, &q, sizeof p) == 0, "%s.%s: %g, %g", info->name, name, p, q);
        break;
      }
      case ATTR_STR: cr_assert_str_eq(op_str(a, (int)i), op_str(b, (int)i)); break;
      case ATTR_INTS: cr_assert(x->n == y->n && (!x->n || !memcmp(x->ints, y->ints, x->n * 8)), "%s", name); break;
      case ATTR_FLOATS:
        cr_assert(x->n == y->n && (!x->n || !memcmp(x->floats, y->floats, x->n * 8)), "%s", name);
        break;
      case ATTR_FUNC: cr_assert_eq(!x->func, !y->func, "%s.%s", info->name, name); break;
      case ATTR_PLAN: cr_assert_eq(plan_param(x->plan, "nv", 7), plan_param(y->plan, "nv", 7)); break;
      default: cr_assert_eq(op_int(a, (int)i), op_int(b, (int)i), "%s.%s", info->name, name);
    }
  }
}

static void op_round_trip(Arena *a, OpKind kind) {
  const OpInfo *info = op_info(kind);
  Module *m = module_new(a, diag_new(a, NULL));
  uint32_t max_in = info->max_in == VARIADIC ? info->min_in + 3 : info->max_in;
  uint32_t n_in = info->min_in + (uint32_t)(rnd() % (max_in - info->min_in + 1));
  const Type *t = type_tensor(m->types, DT_F32, 2, (int64_t[]){3, type_symbol(m->types, "N")});
  const Type *types[16];
  for (uint32_t i = 0; i < 16; i++) types[i] = t;
  Func *f = func_new(m, "f", n_in, types);
  Value *in[16];
  for (uint32_t i = 0; i < n_in; i++) in[i] = i >= info->min_in && rnd() % 2 ? NULL : f->args[i];
  Loc loc = {.node_name = "layer \"1\"", .output = "", .node = 3};
  Op *op = op_new(f, NULL, kind, n_in, in, &loc);
  Func *body = body_func(m, "body", 2);
  for (uint32_t i = 0; i < info->n_attrs; i++)
    if (info->attrs[i].required || rnd() % 2) random_attr(op, (int)i, body);
  for (uint32_t i = 0; i < op->n_out; i++) value_set_type(op->out[i], t);
  func_set_results(f, op->n_out, op->out);
  Module *again = round_trip(a, m);
  const Op *op2 = again->funcs.at[0]->first;
  cr_assert_eq(op2->kind, kind);
  cr_assert_eq(op2->n_in, n_in);
  cr_assert_str_eq(op2->loc->node_name, "layer \"1\"");
  for (uint32_t i = 0; i < n_in; i++) cr_assert_eq(!op_in(op2, i), !in[i]);
  same_attrs(op, op2);
}

Test(text, every_op) {
  for (int kind = 1; kind < OP_COUNT; kind++)
    for (int n = 0; n < 20; n++) {
      Arena *a = arena_new("test");
      op_round_trip(a, (OpKind)kind);
      arena_free(a);
    }
}

// ---- constants

static bool same_element(const void *a, const void *b, DType t, int64_t i) {
  if (!dtype_is_float(t)) return elem_get_i(a, t, i) == elem_get_i(b, t, i);
  double x = elem_get_f(a, t, i), y = elem_get_f(b, t, i);
  return isnan(x) ? isnan(y) : memcmp(&x, &y, sizeof x) == 0;
}

Test(text, constants_of_every_type) {
  for (int t = 1; t < DT_COUNT; t++) {
    if (t == DT_STR || dtype_info((DType)t)->cls == DC_LANE) continue;
    for (int n = 0; n < 50; n++) {
      Arena *a = arena_new("test");
      Module *m = module_new(a, diag_new(a, NULL));
      const Type *type = type_tensor(m->types, (DType)t, 1, (int64_t[]){13});
      uint64_t random[13], bytes[14] = {0};
      for (int i = 0; i < 13; i++) random[i] = rnd() << 11 ^ rnd();
      for (int i = 0; i < 13; i++) {  // every bit pattern of the type but the two of tern and bool that mean nothing
        if (dtype_is_float((DType)t)) {
          memcpy((char *)bytes + (size_t)i * dtype_info((DType)t)->bits / 8, &random[i],
                 (dtype_info((DType)t)->bits + 7) / 8);
        } else {
          int64_t v = (int64_t)(random[i] % 3) - 1;
          elem_set_i(bytes, (DType)t, i, t == DT_TERN ? v : t == DT_BOOL ? v & 1 : (int64_t)random[i]);
        }
      }
      Value *c = const_bytes(m, type, bytes, "c");
      Func *f = func_new(m, "f", 0, NULL);
      func_set_results(f, 1, &c);
      Module *again = round_trip(a, m);
      const Const *c2 = again->funcs.at[0]->results[0]->constant;
      for (int i = 0; i < 13; i++)
        cr_assert(same_element(c->constant->bytes, c2->bytes, (DType)t, i), "%s: %s", dtype_info((DType)t)->name,
                  printed(a, again));
      arena_free(a);
    }
  }
}

Test(text, rank_0_constants_stand_in_place) {
  Arena *a = arena_new("test");
  for (int t = 1; t < DT_COUNT; t++) {
    if (t == DT_STR || dtype_info((DType)t)->cls == DC_LANE) continue;
    Module *m = module_new(a, diag_new(a, NULL));
    Value *c = const_splat(m, type_scalar(m->types, (DType)t), 1);
    Func *f = func_new(m, "f", 0, NULL);
    func_set_results(f, 1, &c);
    Module *again = round_trip(a, m);
    cr_assert_null(strstr(printed(a, again), "const"));
    cr_assert_eq(const_f(again, again->funcs.at[0]->results[0]->constant, 0), 1.0, "%s", dtype_info((DType)t)->name);
  }
  arena_free(a);
}

// ---- names

Test(text, values_with_one_name_are_told_apart) {
  Arena *a = arena_new("test");
  Module *m = module_new(a, diag_new(a, NULL));
  const Type *t = type_scalar(m->types, DT_F32);
  Func *f = func_new(m, "f", 2, (const Type *[]){t, t});
  f->args[0]->name = f->args[1]->name = "x";
  Op *op = op_new(f, NULL, OP_SUB, 2, (Value *[]){f->args[1], f->args[0]}, NULL);
  op->out[0]->name = "x";
  value_set_type(op->out[0], t);
  func_set_results(f, 1, op->out);
  Module *again = round_trip(a, m);
  cr_assert(op_in(again->funcs.at[0]->first, 0) == again->funcs.at[0]->args[1]);
  arena_free(a);
}

// ---- kernels

static KExpr *operand(KBuild *b, KOp op, uint32_t i, KBuf *x, KVar *v) {
  DType t = DT_F32;
  bool logic = op == KOP_AND || op == KOP_OR || op == KOP_XOR || op == KOP_SHL || op == KOP_SHR || op == KOP_BIT_NOT ||
               op == KOP_POPCNT;
  if (logic) t = DT_I64;
  if (op == KOP_NOT || (op == KOP_SELECT && i == 0)) t = DT_BOOL;
  if (op == KOP_DOT4) t = i == 0 ? DT_I32 : DT_I8X4;
  if (op == KOP_DOT2) t = i == 0 ? DT_F32 : DT_BF16X2;
  if (op == KOP_LOW_WORD) t = DT_F64;
  bool table = kop_table(op) > 0;
  if (table && i == 1) t = DT_I64;
  if (table && i == 0) return kx_load1(b, x, aff(0));
  if (t == DT_I64 && rnd() % 2) return kx_index(b, aff_plus(aff_mul(aff_var(v), -3), (int64_t)(rnd() % 5) - 2));
  if (t == DT_F32 && rnd() % 2) return kx_load1(b, x, aff_var(v));
  return dtype_is_float(t) ? kx_f(b, t, (double)rnd() / 1e12) : kx_i(b, t, (int64_t)rnd());
}

Test(text, every_kernel_op) {
  for (int op = 1; op < KOP_COUNT; op++)
    for (int n = 0; n < 10 && kop_info((KOp)op)->rule != KRULE_TILE; n++) {
      Arena *a = arena_new("test");
      Module *m = module_new(a, diag_new(a, NULL));
      m->program = program_new(m);
      KBuild b;
      kbuild_init(&b, m, "k", NULL);
      KBuf *x = kb_param(&b, "x", DT_F32, 1, (int64_t[]){64}, SPACE_ARG);
      KVar *i = kb_for(&b, "i", 0, 4, 1, FOR_VEC), *j = kb_for(&b, "i", 0, 4, 1, FOR_SEQ);
      KExpr *arg[3] = {0}, *value;
      for (uint32_t k = 0; k < kop_info((KOp)op)->arity; k++) arg[k] = operand(&b, (KOp)op, k, x, k ? i : j);
      if (op == KOP_CAST) {
        value = kx_cast(&b, DT_F16, arg[0]);
      } else if (op == KOP_VIEW) {
        value = kx_view(&b, DT_U32, arg[0]);
      } else if (op == KOP_LOW_WORD) {
        value = kx_low_word(&b, arg[0]);
      } else {
        value = kop_info((KOp)op)->arity == 1   ? kx_op1(&b, (KOp)op, arg[0])
                : kop_info((KOp)op)->arity == 2 ? kx_op2(&b, (KOp)op, arg[0], arg[1])
                                                : kx_op3(&b, (KOp)op, arg[0], arg[1], arg[2]);
      }
      KVar *let = kb_let(&b, "x", value);  // takes a name that is in use
      if (let->type == DT_I64) kb_store1(&b, x, aff_var(let), kx_f(&b, DT_F32, 1));
      kb_end(&b);
      kb_end(&b);
      program_add_kernel(m->program, kbuild_done(&b));
      cr_assert(verify_module(m), "%s: %s", kop_info((KOp)op)->name, diag_text(m->diag));
      Module *again = round_trip(a, m);
      cr_assert(verify_module(again), "%s", diag_text(again->diag));
      arena_free(a);
    }
}

static bool parses(const char *text, const char *error) {
  Arena *a = arena_new("test");
  Diag *d = diag_new(a, NULL);
  bool ok = parse_module(a, d, "t", text, strlen(text)) != NULL;
  if (error) cr_assert(strstr(diag_text(d), error), "%s", diag_text(d));
  arena_free(a);
  return ok;
}

static char *nested(const char *head, const char *open, const char *middle, const char *close, int depth,
                    const char *tail) {
  static char text[1 << 20];
  char *to = text + sprintf(text, "%s", head);
  for (int i = 0; i < depth; i++) to += sprintf(to, "%s", open);
  to += sprintf(to, "%s", middle);
  for (int i = 0; i < depth; i++) to += sprintf(to, "%s", close);
  sprintf(to, "%s", tail);
  return text;
}

Test(text, nesting_is_bounded) {
  const char *head = "kernel @k(%x: f32[4] arg) { store %x[0], ";
  cr_assert(parses(nested(head, "neg(", "load %x[0]", ")", 190, " }"), NULL));
  cr_assert_not(parses(nested(head, "neg(", "load %x[0]", ")", 210, " }"), "nested deeper than 200"));
  cr_assert_not(parses(nested(head, "neg(", "load %x[0]", ")", 100000, " }"), "nested deeper than 200"));
  head = "kernel @k(%x: f32[4] arg) { ";
  cr_assert(parses(nested(head, "if true { ", "", "} ", 60, " }"), NULL));
  cr_assert_not(parses(nested(head, "if true { ", "", "} ", 50000, " }"), "nested deeper than 64"));
}

// ---- damaged texts

// What parses and verifies must survive printing; everything else must only not crash.
static void try_text(const char *text, size_t n) {
  Arena *a = arena_new("test");
  Module *m = parse_module(a, diag_new(a, NULL), "t", text, n);
  if (m && verify_module(m)) round_trip(a, m);
  arena_free(a);
}

static void damage_file(const char *path) {
  static char text[1 << 16], copy[1 << 16];
  FILE *f = fopen(path, "rb");
  cr_assert(f);
  size_t n = fread(text, 1, sizeof text, f);
  fclose(f);
  size_t step = n / 800 + 1;
  for (size_t i = 0; i <= n; i += step) try_text(text, i);
  for (int k = 0; k < 200 && n > 0; k++) {
    memcpy(copy, text, n);
    for (uint64_t e = 1 + rnd() % 3; e > 0; e--) {
      size_t at = rnd() % n, from = rnd() % n, len = rnd() % 12;
      if (rnd() % 2) {
        copy[at] = (char)(rnd() % 4 ? "{}()[],:=+-*%@#\"_9 \n"[rnd() % 20] : (int)(rnd() % 256));
      } else if (at + len < n && from + len < n) {
        memmove(copy + at, text + from, len);
      }
    }
    try_text(copy, n);
  }
}

static int damage_folder(const char *dir) {
  DIR *d = opendir(dir);
  int n = 0;
  char path[4096];
  if (!d) return 0;
  for (struct dirent *e; (e = readdir(d));) {
    if (e->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
    if (strstr(e->d_name, ".qir")) {
      damage_file(path);
      n++;
    } else {
      n += damage_folder(path);
    }
  }
  closedir(d);
  return n;
}

Test(text, damaged_golden_files) { cr_assert(damage_folder(QCC_SOURCE_DIR "/tests/golden") > 20); }

// ---- the manual

Test(text, manual_names_every_row) {
  static char text[1 << 18];
  FILE *f = fopen(QCC_SOURCE_DIR "/docs/ir.md", "rb");
  cr_assert(f);
  text[fread(text, 1, sizeof text - 1, f)] = 0;
  fclose(f);
  char quoted[128];
  for (int i = 1; i < OP_COUNT; i++) {
    const OpInfo *info = op_info((OpKind)i);
    snprintf(quoted, sizeof quoted, "\n| `%s` |", info->name);
    const char *row = strstr(text, quoted);
    cr_assert(row, "docs/ir.md has no row for op %s", info->name);
    const char *end = strchr(row + 1, '\n');
    for (uint32_t k = 0; k < info->n_attrs; k++) {
      if ((int32_t)k == info->post || (int32_t)k == info->plan) continue;
      snprintf(quoted, sizeof quoted, "`%s`", info->attrs[k].name);
      const char *at = strstr(row + 4, quoted);
      cr_assert(at && at < end, "docs/ir.md: the row of %s lacks attribute %s", info->name, info->attrs[k].name);
    }
  }
  const char *kernels = strstr(text, "# Kernel operations");
  cr_assert(kernels);
  for (int i = 1; i < KOP_COUNT; i++) {
    snprintf(quoted, sizeof quoted, "\n| `%s` |", kop_info((KOp)i)->name);
    cr_assert(strstr(kernels, quoted), "docs/ir.md has no row for kernel op %s", kop_info((KOp)i)->name);
  }
  for (int i = 1; i < DT_COUNT; i++) {
    snprintf(quoted, sizeof quoted, "`%s`", dtype_info((DType)i)->name);
    cr_assert(strstr(text, quoted), "docs/ir.md does not name type %s", dtype_info((DType)i)->name);
  }
}
