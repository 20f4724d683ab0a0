// The printer of the text form: modules, types, constants and functions (kernels: print_kernel.c). The inverse of
// parse.c: parsing what was printed and printing it again gives the same text.
//
// Unnamed values are numbered in print order, so that unrelated edits do not renumber ids. A name that a function uses
// twice (copies made by passes) is printed for its first value only. Only constants that something printed refers to
// are printed; those of rank 0 are written in place. Once a module has a program, its functions are history: the
// program is printed instead.
#include "ir/print.h"

#include <string.h>

#include "ir/base/bitset.h"
#include "ir/base/map.h"
#include "ir/elem.h"
#include "ir/lex.h"

#define LIST_MAX 64       // elements of a constant printed without all_bytes
#define INDICES_MAX 1024  // elements of an integer constant that random_bytes keeps: they may be indices

// ---- words

void print_string(StrBuf *out, const char *s) {
  Arena *scratch = arena_new("print");
  strbuf_printf(out, "\"%s\"", str_escape(scratch, s, SIZE_MAX));
  arena_free(scratch);
}

void print_name(StrBuf *out, char sigil, const char *name) {
  strbuf_putc(out, sigil);
  if (lex_is_name(name)) {
    strbuf_puts(out, name);
  } else {
    print_string(out, name);
  }
}

static void print_float(StrBuf *out, DType t, double v) {
  char text[32];
  if (t != DT_F64 && (double)(float)v == v) {
    text_of_float(text, (float)v);
  } else {
    text_of_double(text, v);
  }
  strbuf_puts(out, text);
}

void print_literal(StrBuf *out, DType t, double f, int64_t i) {
  DClass c = dtype_info(t)->cls;
  if (c == DC_FLOAT) {
    print_float(out, t, f);
  } else if (c == DC_BOOL) {
    strbuf_puts(out, i ? "true" : "false");
  } else if (c == DC_UINT || c == DC_LANE) {
    strbuf_printf(out, "%llu", (unsigned long long)(t == DT_U64 ? i : int_wrap(t, i)));
  } else {
    strbuf_printf(out, "%lld", (long long)i);
  }
}

void print_type(StrBuf *out, const TypeTable *tt, const Type *t) {
  if (!t) {
    strbuf_putc(out, '_');
    return;
  }
  strbuf_printf(out, "%s[", dtype_info(t->dtype)->name);
  for (uint32_t i = 0; i < t->rank; i++) {
    if (i) strbuf_putc(out, ',');
    const char *symbol = t->dims[i] < 0 ? type_symbol_name(tt, t->dims[i]) : NULL;
    if (!symbol) {
      strbuf_printf(out, "%lld", (long long)t->dims[i]);
    } else if (lex_is_name(symbol)) {
      strbuf_puts(out, symbol);
    } else {
      print_string(out, symbol);
    }
  }
  strbuf_putc(out, ']');
}

// The best name a location has; NULL when it has none.
static const char *loc_name(const Loc *loc) {
  if (loc->node_name && loc->node_name[0]) return loc->node_name;
  return loc->output && loc->output[0] ? loc->output : NULL;
}

void print_locs(StrBuf *out, const Loc *loc) {
  bool any = false;
  for (; loc; loc = loc->next) {
    const char *name = loc_name(loc);
    if (!name) continue;
    strbuf_puts(out, any ? ", " : "  loc(");
    print_string(out, name);
    any = true;
  }
  if (any) strbuf_putc(out, ')');
}

// ---- constants

// Rank 0 and a number that survives conversion to its type (an infinity of an 8-bit float does not).
static bool is_inline(const Const *c) {
  DType t = c->type->dtype;
  if (c->type->rank != 0 || t == DT_STR || (c->gen != CONST_SPLAT && c->gen != CONST_BYTES)) return false;
  return c->gen == CONST_SPLAT || dtype_info(t)->bits > 8 || !dtype_is_float(t) ||
         !__builtin_isinf(elem_get_f(c->bytes, t, 0));
}

// f32(0.5): a rank-0 constant in the place of its use.
static void print_inline(StrBuf *out, const Const *c) {
  DType t = c->type->dtype;
  double f = c->splat;
  int64_t i = c->splat_i;
  if (c->gen == CONST_BYTES && dtype_is_float(t)) f = elem_get_f(c->bytes, t, 0);
  if (c->gen == CONST_BYTES && !dtype_is_float(t)) i = elem_get_i(c->bytes, t, 0);
  strbuf_printf(out, "%s(", dtype_info(t)->name);
  print_literal(out, t, f, i);
  strbuf_putc(out, ')');
}

void print_elements(StrBuf *out, DType t, const void *data, int64_t n) {
  bool is_float = dtype_is_float(t);
  strbuf_putc(out, '[');
  for (int64_t i = 0; i < n; i++) {
    if (i) strbuf_puts(out, ", ");
    print_literal(out, t, is_float ? elem_get_f(data, t, i) : 0, is_float ? 0 : elem_get_i(data, t, i));
  }
  strbuf_putc(out, ']');
}

static void print_const(StrBuf *out, const Module *m, const Const *c, PrintOptions opt) {
  strbuf_puts(out, "const ");
  print_name(out, '@', c->name);
  strbuf_puts(out, ": ");
  print_type(out, m->types, c->type);
  strbuf_puts(out, " = ");
  DClass cls = dtype_info(c->type->dtype)->cls;
  int64_t n = type_count(c->type);
  bool as_list = opt.all_bytes || n <= LIST_MAX || (opt.random_bytes && cls != DC_FLOAT && n <= INDICES_MAX);
  if (c->gen == CONST_IOTA) {
    strbuf_puts(out, "iota");
  } else if (c->gen == CONST_RAND) {
    strbuf_printf(out, "rand(%llu", (unsigned long long)c->seed);
    if (c->zeros > 0) strbuf_printf(out, ", %u", c->zeros);
    strbuf_putc(out, ')');
  } else if (c->gen == CONST_SPLAT) {
    strbuf_puts(out, "splat(");
    print_literal(out, c->type->dtype, c->splat, c->splat_i);
    strbuf_putc(out, ')');
  } else if (cls != DC_STR && as_list) {
    print_elements(out, c->type->dtype, c->bytes, type_count(c->type));
  } else if (opt.random_bytes) {
    strbuf_printf(out, "rand(%u)", c->id);
  } else {
    strbuf_printf(out, "hash(%016llx)",
                  (unsigned long long)hash_bytes(c->bytes, (size_t)type_bytes(c->type), (uint64_t)c->type->dtype));
  }
  strbuf_putc(out, '\n');
}

// ---- functions

// Text names of one function's values: the ONNX name of the first value that has it, or a number.
typedef struct Names {
  Arena *scratch;
  Map *by_id;  // value id + 1 -> text with its sigil
  Map *taken;
  uint32_t next;
} Names;

static void names_add(Names *n, const Value *v) {
  StrBuf b;
  strbuf_init(&b, n->scratch);
  if (v->name && !map_get_str(n->taken, v->name)) {
    map_set_str(n->taken, v->name, n);
    print_name(&b, '%', v->name);
  } else {
    strbuf_printf(&b, "%%%u", n->next++);
  }
  map_set(n->by_id, (uint64_t)v->id + 1, b.at);
}

// Names up to and including `last` (NULL: all).
static Names names_of(Arena *scratch, const Func *f, const Op *last) {
  Names n = {.scratch = scratch, .by_id = map_new(scratch), .taken = map_new(scratch)};
  for (uint32_t i = 0; i < f->n_args; i++) names_add(&n, f->args[i]);
  for (const Op *op = f->first; op; op = op->next) {
    for (uint32_t i = 0; i < op->n_out; i++) names_add(&n, op->out[i]);
    if (op == last) break;
  }
  return n;
}

static void print_value(StrBuf *out, const Names *n, const Value *v) {
  if (!v) {
    strbuf_putc(out, '_');
  } else if (v->kind != VALUE_CONST) {
    const char *name = map_get(n->by_id, (uint64_t)v->id + 1);
    strbuf_puts(out, name ? name : "%\"not of this function\"");
  } else if (is_inline(v->constant)) {
    print_inline(out, v->constant);
  } else {
    print_name(out, '@', v->constant->name);
  }
}

static bool attr_is_default(const AttrInfo *info, const AttrVal *a) {
  if (!a->set) return true;
  if (info->required) return false;
  switch (info->kind) {
    case ATTR_FLOAT: return memcmp(&a->f, &info->def, sizeof a->f) == 0;
    case ATTR_STR: return a->s[0] == 0;
    case ATTR_INTS:
    case ATTR_FLOATS: return a->n == 0;
    case ATTR_FUNC: return !a->func;
    case ATTR_PLAN: return !a->plan;
    default: return a->i == (int64_t)info->def;
  }
}

static void print_plan(StrBuf *out, const Plan *p) {
  strbuf_printf(out, "%s(", p->strategy);
  for (uint32_t i = 0; i < p->n; i++)
    strbuf_printf(out, "%s%s = %lld", i ? ", " : "", p->param[i].name, (long long)p->param[i].value);
  strbuf_putc(out, ')');
}

static void print_attr_value(StrBuf *out, const AttrInfo *info, const AttrVal *a) {
  switch (info->kind) {
    case ATTR_INT: strbuf_printf(out, "%lld", (long long)a->i); break;
    case ATTR_BOOL: strbuf_puts(out, a->i ? "true" : "false"); break;
    case ATTR_ENUM: strbuf_puts(out, enum_text((EnumValue)a->i)); break;
    case ATTR_DTYPE: strbuf_puts(out, dtype_info((DType)a->i)->name); break;
    case ATTR_FLOAT: print_float(out, DT_F64, a->f); break;
    case ATTR_STR: print_string(out, a->s); break;
    case ATTR_FUNC: print_name(out, '@', a->func->name); break;
    case ATTR_PLAN: print_plan(out, a->plan); break;
    case ATTR_INTS:
    case ATTR_FLOATS:
      strbuf_putc(out, '[');
      for (uint32_t i = 0; i < a->n; i++) {
        if (i) strbuf_putc(out, ',');
        if (info->kind == ATTR_INTS) {
          strbuf_printf(out, "%lld", (long long)a->ints[i]);
        } else {
          print_float(out, DT_F64, a->floats[i]);
        }
      }
      strbuf_putc(out, ']');
      break;
  }
}

static void print_attrs(StrBuf *out, const Op *op) {
  const OpInfo *info = op_info(op->kind);
  bool any = false;
  for (uint32_t i = 0; i < info->n_attrs; i++) {
    if (attr_is_default(&info->attrs[i], &op->attrs[i])) continue;
    strbuf_printf(out, "%s%s = ", any ? ", " : " {", info->attrs[i].name);
    print_attr_value(out, &info->attrs[i], &op->attrs[i]);
    any = true;
  }
  if (any) strbuf_putc(out, '}');
}

static void print_op_line(StrBuf *out, const Names *names, const Op *op, bool locs) {
  const TypeTable *types = op->func->module->types;
  for (uint32_t i = 0; i < op->n_out; i++) {
    if (i) strbuf_puts(out, ", ");
    print_value(out, names, op->out[i]);
  }
  strbuf_printf(out, " = %s", op_info(op->kind)->name);
  for (uint32_t i = 0; i < op->n_in; i++) {
    strbuf_puts(out, i ? ", " : " ");
    print_value(out, names, op->in[i].value);
  }
  print_attrs(out, op);
  for (uint32_t i = 0; i < op->n_out; i++) {
    strbuf_puts(out, i ? ", " : " : ");
    print_type(out, types, op->out[i]->type);
  }
  if (locs) print_locs(out, op->loc);
}

void print_op(StrBuf *out, const Op *op) {
  Arena *scratch = arena_new("print");
  Names names = names_of(scratch, op->func, op);
  print_op_line(out, &names, op, false);
  arena_free(scratch);
}

static void print_result_decl(StrBuf *out, const Func *f, uint32_t i) {
  char absent[24];
  snprintf(absent, sizeof absent, "out%u", i);
  print_type(out, f->module->types, f->results[i]->type);
  const char *name = f->result_names[i];
  if (!name || strcmp(name, absent) == 0) return;
  strbuf_putc(out, ' ');
  print_string(out, name);
}

static void print_head(StrBuf *out, const Names *names, const Func *f) {
  strbuf_puts(out, "func ");
  print_name(out, '@', f->name);
  strbuf_putc(out, '(');
  for (uint32_t i = 0; i < f->n_args; i++) {
    if (i) strbuf_puts(out, ", ");
    print_value(out, names, f->args[i]);
    strbuf_puts(out, ": ");
    print_type(out, f->module->types, f->args[i]->type);
  }
  strbuf_puts(out, f->n_results == 1 ? ") -> " : ") -> (");
  for (uint32_t i = 0; i < f->n_results; i++) {
    if (i) strbuf_puts(out, ", ");
    print_result_decl(out, f, i);
  }
  strbuf_puts(out, f->n_results == 1 ? " {\n" : ") {\n");
}

void print_func(StrBuf *out, Func *f, PrintOptions opt) {
  Arena *scratch = arena_new("print");
  Names names = names_of(scratch, f, NULL);
  print_head(out, &names, f);
  for (const Op *op = f->first; op; op = op->next) {
    strbuf_puts(out, "  ");
    print_op_line(out, &names, op, opt.locs);
    strbuf_putc(out, '\n');
  }
  strbuf_puts(out, "  return");
  for (uint32_t i = 0; i < f->n_results; i++) {
    strbuf_puts(out, i ? ", " : " ");
    print_value(out, &names, f->results[i]);
  }
  strbuf_puts(out, "\n}\n");
  arena_free(scratch);
}

// ---- the module

static void mark_value(Bitset *used, const Value *v) {
  if (v && v->kind == VALUE_CONST && !is_inline(v->constant)) bitset_add(used, v->constant->id);
}

static void mark_func(Bitset *used, const Func *f) {
  for (const Op *op = f->first; op; op = op->next)
    for (uint32_t i = 0; i < op->n_in; i++) mark_value(used, op->in[i].value);
  for (uint32_t i = 0; i < f->n_results; i++) mark_value(used, f->results[i]);
}

void print_module(StrBuf *out, Module *m, PrintOptions opt) {
  Arena *scratch = arena_new("print");
  Bitset used = bitset_new(scratch, m->n_consts);
  size_t start = out->n;
  for (uint32_t i = 0; i < m->funcs.n && !m->program; i++) {
    if (out->n > start) strbuf_putc(out, '\n');
    print_func(out, m->funcs.at[i], opt);
    mark_func(&used, m->funcs.at[i]);
  }
  for (uint32_t i = 0; m->program && i < m->program->bufs.n; i++)
    if (m->program->bufs.at[i]->constant) bitset_add(&used, m->program->bufs.at[i]->constant->id);
  bool first = true;
  for (uint32_t i = 0; i < m->consts.n; i++) {
    if (!bitset_has(&used, m->consts.at[i]->id)) continue;
    if (first && out->n > start) strbuf_putc(out, '\n');
    print_const(out, m, m->consts.at[i], opt);
    first = false;
  }
  if (m->program) {
    if (out->n > start) strbuf_putc(out, '\n');
    print_program(out, m->program);
  }
  arena_free(scratch);
}
