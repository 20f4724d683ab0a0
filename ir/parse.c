// The parser of the text form: modules, types, constants and functions (kernels: parse_kernel.c). See docs/ir.md.
//
// Items may refer to each other in any order: a first scan finds where each starts, then constants, function heads,
// function bodies, kernel heads, kernel bodies and the program are parsed in this order. Result types are written in
// the text and taken as they are: the verifier and the pass `infer` check them. Recovery is by lines: an error skips
// to the next statement, and values whose definition failed are poisoned so that their uses are not reported again.
#include "ir/parse.h"

#include <stdarg.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/text.h"

// ---- tokens and errors

static const char *token_text(const Parser *p, const Token *t) {
  if (t->kind == TOK_END) return "the end of the text";
  if (t->kind == TOK_BAD) return t->text;
  char *s = arena_printf(p->scratch, "%.*s", (int)(t->n > 60 ? 60 : t->n), t->at);
  return arena_printf(p->scratch, "'%s'", str_escape(p->scratch, s, 60));
}

const Loc *parse_loc(Parser *p, const Token *at) {
  Loc *loc = NEW(p->m->arena, Loc);
  *loc = (Loc){.file = p->file, .line = at->line, .col = at->col, .node = -1, .node_name = "", .output = ""};
  return loc;
}

bool parse_error(Parser *p, const Token *at, const char *fmt, ...) {
  StrBuf b;
  strbuf_init(&b, p->scratch);
  va_list ap;
  va_start(ap, fmt);
  strbuf_vprintf(&b, fmt, ap);
  va_end(ap);
  return diag_error(p->m->diag, DIAG_REFUSED, parse_loc(p, at), "%s", strbuf_str(&b));
}

bool parse_expected(Parser *p, const char *expected) {
  return parse_error(p, &p->tok, "found %s, expected %s", token_text(p, &p->tok), expected);
}

void parse_step(Parser *p) { p->tok = lex_next(&p->lex); }

bool parse_at(const Parser *p, int kind) { return p->tok.kind == kind; }

bool parse_at_name(const Parser *p, const char *name) {
  return p->tok.kind == TOK_NAME && strcmp(p->tok.text, name) == 0;
}

bool parse_take(Parser *p, int kind) {
  if (p->tok.kind != kind) return false;
  parse_step(p);
  return true;
}

bool parse_take_name(Parser *p, const char *name) {
  if (!parse_at_name(p, name)) return false;
  parse_step(p);
  return true;
}

bool parse_want(Parser *p, int kind, const char *expected) {
  return parse_take(p, kind) || parse_expected(p, expected);
}

bool parse_want_name(Parser *p, const char *name) {
  return parse_take_name(p, name) || parse_expected(p, arena_printf(p->scratch, "'%s'", name));
}

// ---- numbers and types

bool parse_int(Parser *p, int64_t *v) {
  Token at = p->tok;
  bool negative = parse_take(p, '-');
  if (!parse_at(p, TOK_INT)) return parse_expected(p, "an integer");
  uint64_t u = p->tok.i, limit = (uint64_t)INT64_MAX + negative;
  if (u > limit) return parse_error(p, &at, "found an integer that does not fit 64 bits");
  *v = negative ? (int64_t)(0 - u) : (int64_t)u;
  parse_step(p);
  return true;
}

bool parse_size(Parser *p, int64_t *v) {
  Token at = p->tok;
  if (!parse_at(p, TOK_INT)) return parse_expected(p, "a size");
  if (!parse_int(p, v)) return false;
  return *v <= MAX_ELEMS || parse_error(p, &at, "found %s, expected at most 2^40", token_text(p, &at));
}

bool parse_dtype(Parser *p, DType *t) {
  *t = parse_at(p, TOK_NAME) ? dtype_by_name(p->tok.at, p->tok.n) : DT_NONE;
  if (*t == DT_NONE) return parse_expected(p, "an element type");
  parse_step(p);
  return true;
}

static bool parse_dim(Parser *p, int64_t *dim) {
  if (!parse_at(p, TOK_NAME) && !parse_at(p, TOK_STRING)) return parse_size(p, dim);
  *dim = type_symbol(p->m->types, p->tok.text);
  parse_step(p);
  return true;
}

static bool parse_dims(Parser *p, uint32_t *rank, int64_t *dims) {
  Token at = p->tok;
  if (!parse_want(p, '[', "'['")) return false;
  *rank = 0;
  while (!parse_at(p, ']')) {
    if (*rank == MAX_RANK) return parse_error(p, &p->tok, "found more than %d dims", MAX_RANK);
    if (*rank > 0 && !parse_want(p, ',', "',' or ']'")) return false;
    if (!parse_dim(p, &dims[(*rank)++])) return false;
  }
  parse_step(p);
  int64_t numbers[MAX_RANK], count;  // symbols count as 1
  for (uint32_t i = 0; i < *rank; i++) numbers[i] = dims[i] < 0 ? 1 : dims[i];
  return dims_count(*rank, numbers, &count) || parse_error(p, &at, "found a tensor of more than 2^40 elements");
}

bool parse_type(Parser *p, const Type **t) {
  DType dtype;
  uint32_t rank;
  int64_t dims[MAX_RANK];
  if (!parse_dtype(p, &dtype) || !parse_dims(p, &rank, dims)) return false;
  *t = type_tensor(p->m->types, dtype, rank, dims);
  return true;
}

static bool parse_float(Parser *p, double *f) {
  double sign = parse_take(p, '-') ? -1.0 : 1.0;
  if (parse_at_name(p, "inf") || parse_at_name(p, "nan")) {
    *f = p->tok.text[0] == 'i' ? sign * __builtin_inf() : __builtin_nan("");
  } else if (parse_at(p, TOK_INT) || parse_at(p, TOK_FLOAT)) {
    *f = sign * p->tok.f;
  } else {
    return parse_expected(p, "a number");
  }
  parse_step(p);
  return true;
}

static bool parse_bool(Parser *p, int64_t *v) {
  if (parse_at(p, TOK_INT) && p->tok.i <= 1) return parse_int(p, v);
  if (!parse_at_name(p, "true") && !parse_at_name(p, "false")) return parse_expected(p, "true or false");
  *v = p->tok.text[0] == 't';
  parse_step(p);
  return true;
}

// An integer of type t, refused when t cannot hold it.
static bool parse_int_of(Parser *p, DType t, int64_t *v) {
  Token at = p->tok;
  const DTypeInfo *info = dtype_info(t);
  if (info->bits == 64 && info->cls == DC_UINT && parse_at(p, TOK_INT)) {
    *v = (int64_t)p->tok.i;
    parse_step(p);
    return true;
  }
  if (!parse_int(p, v)) return false;
  int64_t lo = info->cls == DC_LANE ? 0 : dtype_min(t), hi = info->cls == DC_LANE ? UINT32_MAX : dtype_max(t);
  if (*v >= lo && *v <= hi && !(info->cls == DC_BIP && *v == 0)) return true;
  return parse_error(p, &at, "found %lld, expected a value of type %s", (long long)*v, info->name);
}

bool parse_literal(Parser *p, DType t, double *f, int64_t *i) {
  *f = 0;
  *i = 0;
  if (dtype_is_float(t)) {
    if (!parse_float(p, f)) return false;
    *f = elem_round(t, *f);
    return true;
  }
  if (t == DT_BOOL) return parse_bool(p, i);
  if (t == DT_STR || t == DT_NONE) return parse_expected(p, "a value that is not a string");
  return parse_int_of(p, t, i);
}

bool parse_locs(Parser *p, const Token *at, const Loc **loc) {
  const Loc *first = parse_loc(p, at);
  *loc = first;
  if (!parse_take_name(p, "loc")) return true;
  if (!parse_want(p, '(', "'('")) return false;
  Loc *last = NULL;
  do {
    if (!parse_at(p, TOK_STRING)) return parse_expected(p, "a string");
    Loc *l = last ? (Loc *)parse_loc(p, at) : (Loc *)first;
    l->node_name = p->tok.text;
    if (last) last->next = l;
    last = l;
    parse_step(p);
  } while (parse_take(p, ','));
  return parse_want(p, ')', "',' or ')'");
}

// ---- constants: const @w: f32[3,3] = rand(7)

static bool parse_list(Parser *p, const Type *t, void **bytes) {
  Token at = p->tok;
  if (!parse_want(p, '[', "'['")) return false;
  int64_t n = 0, count = type_count(t), text = p->lex.end - p->lex.at;
  if (count > text) return parse_error(p, &at, "found fewer than the %lld elements of the type", (long long)count);
  *bytes = arena_alloc(p->m->arena, (size_t)type_bytes(t) + 8);
  while (!parse_at(p, ']')) {
    double f;
    int64_t i;
    if (n > 0 && !parse_want(p, ',', "',' or ']'")) return false;
    if (n == count) return parse_error(p, &p->tok, "found more than the %lld elements of the type", (long long)count);
    if (!parse_literal(p, t->dtype, &f, &i)) return false;
    if (dtype_is_float(t->dtype)) {
      elem_set_f(*bytes, t->dtype, n++, f);
    } else {
      elem_set_i(*bytes, t->dtype, n++, i);
    }
  }
  parse_step(p);
  return n == count || parse_error(p, &at, "found %lld elements, expected %lld", (long long)n, (long long)count);
}

static bool parse_splat(Parser *p, const Type *t, const char *name, Value **v) {
  double f;
  int64_t i;
  if (!parse_want(p, '(', "'('") || !parse_literal(p, t->dtype, &f, &i) || !parse_want(p, ')', "')'")) return false;
  uint32_t before = p->m->n_consts;
  *v = dtype_is_float(t->dtype) ? const_splat(p->m, t, f) : const_splat_int(p->m, t, i);
  if (name && p->m->n_consts > before) const_rename(p->m, (*v)->constant, name);
  return true;
}

static bool parse_seed(Parser *p, uint64_t *seed) {
  if (!parse_want(p, '(', "'('")) return false;
  *seed = p->tok.i;
  return parse_want(p, TOK_INT, "a seed") && parse_want(p, ')', "')'");
}

static bool parse_const_value(Parser *p, const Type *t, const char *name, Value **v) {
  if (parse_take_name(p, "splat")) return parse_splat(p, t, name, v);
  uint64_t seed = 0;
  if (parse_take_name(p, "iota")) {
    *v = const_generated(p->m, t, CONST_IOTA, 0, 0, name);
    return true;
  }
  if (parse_take_name(p, "rand")) {
    if (!parse_seed(p, &seed)) return false;
    *v = const_generated(p->m, t, CONST_RAND, 0, seed, name);
    return true;
  }
  if (parse_at_name(p, "hash"))
    return parse_expected(p, "data; 'hash' only stands for the bytes of a constant too large to print");
  if (!parse_at(p, '[')) return parse_expected(p, "splat, iota, rand or '['");
  void *bytes = NULL;
  if (!parse_list(p, t, &bytes)) return false;
  *v = const_borrowed(p->m, t, bytes, name);
  return true;
}

static bool parse_const(Parser *p) {
  parse_step(p);
  Token name = p->tok, at;
  const Type *t;
  if (!parse_want(p, TOK_SYMBOL, "a constant's @name") || !parse_want(p, ':', "':'")) return false;
  at = p->tok;
  if (!parse_type(p, &t)) return false;
  if (!type_is_static(t) || t->dtype == DT_STR || dtype_info(t->dtype)->cls == DC_LANE)
    return parse_error(p, &at, "found type %s, expected a numeric type with known dims",
                       type_text(p->scratch, p->m->types, t));
  if (map_get_str(p->consts, name.text)) return parse_error(p, &name, "constant @%s is defined twice", name.text);
  Value *v;
  if (!parse_want(p, '=', "'='") || !parse_const_value(p, t, name.text, &v)) return false;
  map_set_str(p->consts, name.text, v);
  return true;
}

// ---- functions

static Value poison;  // stands for a value whose definition failed

typedef struct Scope {
  Map *named, *numbered;
} Scope;

static Value *scope_get(const Scope *s, const Token *t) {
  return map_get_str(t->numbered ? s->numbered : s->named, t->text);
}

static bool scope_add(Parser *p, Scope *s, const Token *t, Value *v) {
  Value *old = scope_get(s, t);
  if (old && old != &poison && v != &poison) return parse_error(p, t, "%%%s is defined twice", t->text);
  map_set_str(t->numbered ? s->numbered : s->named, t->text, v);
  return true;
}

// One result of a head: f32[1,10] "prob". Names not given are out0, out1, ...
typedef struct ResultDecl {
  const Type *type;
  const char *name;
} ResultDecl;

typedef struct FuncDecl {
  Func *f;
  Scope scope;
  VEC(ResultDecl) results;
  Parser body;  // state at the first statement
} FuncDecl;

static bool parse_result_decl(Parser *p, FuncDecl *d) {
  ResultDecl r;
  if (!parse_type(p, &r.type)) return false;
  r.name = intern(p->m->names, arena_printf(p->scratch, "out%u", d->results.n));
  if (parse_at(p, TOK_STRING)) {
    r.name = p->tok.text;
    parse_step(p);
  }
  vec_push(p->scratch, &d->results, r);
  return true;
}

static bool parse_result_decls(Parser *p, FuncDecl *d) {
  if (!parse_take(p, '(')) return parse_result_decl(p, d);
  while (!parse_at(p, ')')) {
    if (d->results.n > 0 && !parse_want(p, ',', "',' or ')'")) return false;
    if (!parse_result_decl(p, d)) return false;
  }
  parse_step(p);
  return true;
}

static bool parse_func_head(Parser *p, FuncDecl *d) {
  parse_step(p);
  VEC(const Type *) types = {0};
  VEC(Token) names = {0};
  Token name = p->tok;
  if (!parse_want(p, TOK_SYMBOL, "a function's @name") || !parse_want(p, '(', "'('")) return false;
  while (!parse_at(p, ')')) {
    const Type *t;
    if (names.n > 0 && !parse_want(p, ',', "',' or ')'")) return false;
    vec_push(p->scratch, &names, p->tok);
    if (!parse_want(p, TOK_VALUE, "an argument's %name") || !parse_want(p, ':', "':'") || !parse_type(p, &t))
      return false;
    vec_push(p->scratch, &types, t);
  }
  parse_step(p);
  if (!parse_want(p, TOK_ARROW, "'->'") || !parse_result_decls(p, d) || !parse_want(p, '{', "'{'")) return false;
  if (map_get_str(p->funcs, name.text)) return parse_error(p, &name, "function @%s is defined twice", name.text);
  d->f = func_new(p->m, name.text, types.n, types.at);
  map_set_str(p->funcs, name.text, d->f);
  d->scope = (Scope){map_new(p->scratch), map_new(p->scratch)};
  for (uint32_t i = 0; i < names.n; i++) {
    if (!names.at[i].numbered) d->f->args[i]->name = names.at[i].text;
    if (!scope_add(p, &d->scope, &names.at[i], d->f->args[i])) return false;
  }
  d->body = *p;
  return true;
}

// An operand: %x, @w, _, or a rank-0 constant f32(0.5). *failed is set when it is a poisoned value.
static bool parse_operand(Parser *p, const Scope *s, Value **v, bool *failed) {
  Token t = p->tok;
  if (parse_take(p, TOK_VALUE)) {
    *v = scope_get(s, &t);
    *failed |= *v == &poison;
    return *v || parse_error(p, &t, "%%%s is not defined before its use", t.text);
  }
  if (parse_take(p, TOK_SYMBOL)) {
    *v = map_get_str(p->consts, t.text);
    *failed |= *v == &poison;
    return *v || parse_error(p, &t, "there is no constant @%s", t.text);
  }
  *v = NULL;
  if (parse_take_name(p, "_")) return true;
  DType d = parse_at(p, TOK_NAME) ? dtype_by_name(t.at, t.n) : DT_NONE;
  if (d == DT_NONE || dtype_info(d)->cls == DC_LANE) return parse_expected(p, "an operand");
  parse_step(p);
  return parse_splat(p, type_scalar(p->m->types, d), NULL, v);
}

typedef VEC(Value *) Values;

static bool parse_operands(Parser *p, const Scope *s, Values *in, bool *failed) {
  if (parse_at(p, '{') || parse_at(p, ':')) return true;
  do {
    Value *v;
    if (!parse_operand(p, s, &v, failed)) return false;
    vec_push(p->scratch, in, v);
  } while (parse_take(p, ','));
  return true;
}

static bool parse_ints(Parser *p, Op *op, int slot) {
  VEC(int64_t) list = {0};
  if (!parse_want(p, '[', "'['")) return false;
  while (!parse_at(p, ']')) {
    int64_t v;
    if (list.n > 0 && !parse_want(p, ',', "',' or ']'")) return false;
    if (!parse_int(p, &v)) return false;
    vec_push(p->scratch, &list, v);
  }
  parse_step(p);
  op_set_ints(op, slot, list.n, list.at);
  return true;
}

static bool parse_floats(Parser *p, Op *op, int slot) {
  VEC(double) list = {0};
  if (!parse_want(p, '[', "'['")) return false;
  while (!parse_at(p, ']')) {
    double v;
    if (list.n > 0 && !parse_want(p, ',', "',' or ']'")) return false;
    if (!parse_float(p, &v)) return false;
    vec_push(p->scratch, &list, v);
  }
  parse_step(p);
  op_set_floats(op, slot, list.n, list.at);
  return true;
}

static bool parse_enum(Parser *p, const AttrInfo *info, int64_t *v) {
  const char *set = enum_set((EnumValue)(int)info->def);
  EnumValue e = parse_at(p, TOK_NAME) ? enum_by_name(set, p->tok.text) : ENUM_NONE;
  if (e == ENUM_NONE) {
    StrBuf b;
    strbuf_init(&b, p->scratch);
    strbuf_puts(&b, "one of");
    for (int k = 1; k < ENUM_COUNT; k++)
      if (strcmp(enum_set((EnumValue)k), set) == 0) strbuf_printf(&b, " %s", enum_text((EnumValue)k));
    return parse_expected(p, strbuf_str(&b));
  }
  *v = e;
  parse_step(p);
  return true;
}

// fma(mr = 6, nv = 3)
static bool parse_plan(Parser *p, Op *op) {
  Plan plan = {.strategy = p->tok.text};
  if (!parse_want(p, TOK_NAME, "a strategy") || !parse_want(p, '(', "'('")) return false;
  while (!parse_at(p, ')')) {
    if (plan.n == PLAN_MAX) return parse_error(p, &p->tok, "found more than %d plan parameters", PLAN_MAX);
    if (plan.n > 0 && !parse_want(p, ',', "',' or ')'")) return false;
    plan.param[plan.n].name = p->tok.text;
    if (!parse_want(p, TOK_NAME, "a plan parameter") || !parse_want(p, '=', "'='")) return false;
    if (!parse_int(p, &plan.param[plan.n++].value)) return false;
  }
  parse_step(p);
  op_set_plan(op, &plan);
  return true;
}

static bool parse_func_attr(Parser *p, Op *op, int slot) {
  Token t = p->tok;
  if (!parse_want(p, TOK_SYMBOL, "a function's @name")) return false;
  Func *f = map_get_str(p->funcs, t.text);
  if (!f) return parse_error(p, &t, "there is no function @%s", t.text);
  op_set_func(op, slot, f);
  return true;
}

static bool parse_attr_value(Parser *p, Op *op, int slot) {
  const AttrInfo *info = &op_info(op->kind)->attrs[slot];
  int64_t i = 0;
  double f;
  switch (info->kind) {
    case ATTR_INT:
      if (!parse_int(p, &i)) return false;
      break;
    case ATTR_BOOL:
      if (!parse_bool(p, &i)) return false;
      break;
    case ATTR_ENUM:
      if (!parse_enum(p, info, &i)) return false;
      break;
    case ATTR_DTYPE: {
      DType t;
      if (!parse_dtype(p, &t)) return false;
      i = t;
      break;
    }
    case ATTR_FLOAT:
      if (!parse_float(p, &f)) return false;
      op_set_float(op, slot, f);
      return true;
    case ATTR_STR:
      if (!parse_at(p, TOK_STRING)) return parse_expected(p, "a string");
      op_set_str(op, slot, p->tok.text);
      parse_step(p);
      return true;
    case ATTR_INTS: return parse_ints(p, op, slot);
    case ATTR_FLOATS: return parse_floats(p, op, slot);
    case ATTR_FUNC: return parse_func_attr(p, op, slot);
    case ATTR_PLAN: return parse_plan(p, op);
  }
  op_set_int(op, slot, i);
  return true;
}

static bool parse_attrs(Parser *p, Op *op) {
  const OpInfo *info = op_info(op->kind);
  uint64_t seen = 0;
  if (!parse_take(p, '{')) return true;
  do {
    Token t = p->tok;
    int32_t slot = t.kind == TOK_NAME ? attr_by_name(op->kind, t.at, t.n) : -1;
    if (slot < 0) return parse_expected(p, arena_printf(p->scratch, "an attribute of %s", info->name));
    if (seen >> slot & 1) return parse_error(p, &t, "attribute %s is given twice", t.text);
    seen |= UINT64_C(1) << slot;
    parse_step(p);
    if (!parse_want(p, '=', "'='") || !parse_attr_value(p, op, slot)) return false;
  } while (parse_take(p, ','));
  return parse_want(p, '}', "',' or '}'");
}

static bool parse_result_types(Parser *p, Op *op) {
  if (!parse_want(p, ':', "':' and the result types")) return false;
  for (uint32_t i = 0; i < op->n_out; i++) {
    const Type *t = NULL;
    if (i > 0 && !parse_want(p, ',', "',' and the type of the next result")) return false;
    if (!parse_take_name(p, "_") && !parse_type(p, &t)) return false;
    value_set_type(op->out[i], t);
  }
  return true;
}

// %0, %1 = topk %x {k = 3} : f32[3], i64[3]  loc("top")
static bool parse_op(Parser *p, FuncDecl *d) {
  VEC(Token) names = {0};
  Token at = p->tok;
  do {
    Token t = p->tok;
    if (!parse_want(p, TOK_VALUE, "a statement: %name = op ..., or return")) goto failed;
    vec_push(p->scratch, &names, t);
  } while (parse_take(p, ','));
  if (!parse_want(p, '=', "',' or '='")) goto failed;
  Token mnemonic = p->tok;
  OpKind kind = mnemonic.kind == TOK_NAME ? op_by_name(mnemonic.at, mnemonic.n) : OP_NONE;
  if (kind == OP_NONE) {
    parse_expected(p, "an operation");
    goto failed;
  }
  if (op_info(kind)->n_out != names.n) {
    parse_error(p, &mnemonic, "found %u result names, expected %u of %s", names.n, op_info(kind)->n_out,
                op_info(kind)->name);
    goto failed;
  }
  parse_step(p);
  Values in = {0};
  bool failed = false;
  if (!parse_operands(p, &d->scope, &in, &failed)) goto failed;
  for (uint32_t i = 0; i < in.n && failed; i++)
    if (in.at[i] == &poison) in.at[i] = NULL;
  Op *op = op_new(d->f, NULL, kind, in.n, in.at, NULL);
  if (!parse_attrs(p, op) || !parse_result_types(p, op) || !parse_locs(p, &at, &op->loc)) goto failed;
  if (!p->tok.first_of_line && !parse_at(p, '}')) {
    parse_expected(p, "the end of the line");
    goto failed;
  }
  for (uint32_t i = 0; i < names.n; i++) {
    if (!names.at[i].numbered) op->out[i]->name = names.at[i].text;
    if (!scope_add(p, &d->scope, &names.at[i], failed ? &poison : op->out[i])) return false;
  }
  return true;
failed:
  for (uint32_t i = 0; i < names.n; i++) scope_add(p, &d->scope, &names.at[i], &poison);
  return false;
}

static bool parse_return(Parser *p, FuncDecl *d) {
  Token at = p->tok;
  parse_step(p);
  Values values = {0};
  bool failed = false, empty = parse_at(p, '}');
  while (!empty) {
    Token t = p->tok;
    Value *v;
    if (!parse_operand(p, &d->scope, &v, &failed)) return false;
    if (!v) return parse_error(p, &t, "found no value, expected one to return");
    uint32_t i = values.n;
    if (v != &poison && i < d->results.n && v->type != d->results.at[i].type)
      return parse_error(p, &t, "found type %s, expected %s of result %u",
                         v->type ? type_text(p->scratch, p->m->types, v->type) : "_",
                         type_text(p->scratch, p->m->types, d->results.at[i].type), i);
    vec_push(p->scratch, &values, v);
    if (!parse_take(p, ',')) break;
  }
  if (values.n != d->results.n)
    return parse_error(p, &at, "found %u values, expected %u results", values.n, d->results.n);
  if (failed) return true;
  func_set_results(d->f, values.n, values.at);
  for (uint32_t i = 0; i < values.n; i++) d->f->result_names[i] = d->results.at[i].name;
  return true;
}

// Skips to the first token of a line after `line` that can start a statement or end the function.
static void resync(Parser *p, int32_t line) {
  for (; !parse_at(p, TOK_END); parse_step(p)) {
    if (!p->tok.first_of_line || p->tok.line <= line) continue;
    if (parse_at(p, TOK_VALUE) || parse_at(p, '}') || parse_at_name(p, "return") || parse_at_name(p, "func")) return;
  }
}

static bool parse_func_body(Parser *p, FuncDecl *d) {
  bool failed = false;
  while (parse_at(p, TOK_VALUE) || !(failed || parse_at_name(p, "return"))) {
    int32_t line = p->tok.line;
    if (parse_op(p, d)) continue;
    failed = true;
    resync(p, line);
  }
  if (!parse_at_name(p, "return")) return false;
  return parse_return(p, d) && parse_want(p, '}', "'}' after return") && !failed;
}

// ---- the module

typedef struct Item {
  const char *keyword;
  Parser at;
} Item;

typedef VEC(Item) Items;

static const char *const keywords[] = {"const", "func", "kernel", "program"};

static const char *item_keyword(const Parser *p) {
  for (uint32_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++)
    if (parse_at_name(p, keywords[i])) return keywords[i];
  return NULL;
}

// Where every item starts. Brackets are counted so that words inside heads and bodies start nothing; a `func` or `kernel`
// first on its line does, even when a bracket before it was forgotten.
static void find_items(Parser *p, Items *items) {
  int64_t depth = 0;
  bool reported = false;
  for (parse_step(p); !parse_at(p, TOK_END);) {
    const char *word = item_keyword(p);
    bool strong = word && p->tok.first_of_line && (word[0] == 'f' || word[0] == 'k');
    if (word && (depth == 0 || strong)) {
      vec_push(p->scratch, items, ((Item){word, *p}));
      depth = 0;
      reported = true;
    } else if (items->n == 0 && !reported) {
      parse_expected(p, "const, func, kernel or program");
      reported = true;
    }
    if (parse_at(p, '{') || parse_at(p, '(')) depth++;
    if ((parse_at(p, '}') || parse_at(p, ')')) && depth > 0) depth--;
    parse_step(p);
  }
}

// After an item only the next one may follow.
static void check_end(Parser *p) {
  if (!parse_at(p, TOK_END) && !item_keyword(p)) parse_expected(p, "const, func, kernel, program or the end");
}

static void parse_consts(const Items *items) {
  for (uint32_t i = 0; i < items->n; i++) {
    Parser p = items->at[i].at;
    if (items->at[i].keyword[0] != 'c') continue;
    if (parse_const(&p)) {
      check_end(&p);
      continue;
    }
    Parser again = items->at[i].at;
    parse_step(&again);
    if (again.tok.kind == TOK_SYMBOL && !map_get_str(again.consts, again.tok.text))
      map_set_str(again.consts, again.tok.text, &poison);
  }
}

static void parse_funcs(Arena *scratch, const Items *items) {
  VEC(FuncDecl *) decls = {0};
  for (uint32_t i = 0; i < items->n; i++) {
    Parser p = items->at[i].at;
    FuncDecl *d = NEW(scratch, FuncDecl);
    if (items->at[i].keyword[0] == 'f' && parse_func_head(&p, d)) vec_push(scratch, &decls, d);
  }
  for (uint32_t i = 0; i < decls.n; i++) {
    Parser p = decls.at[i]->body;
    if (parse_func_body(&p, decls.at[i])) check_end(&p);
  }
}

static void parse_kernels(Arena *scratch, const Items *items) {
  VEC(Parser) bodies = {0};
  VEC(Kernel *) kernels = {0};
  for (uint32_t i = 0; i < items->n; i++) {
    Parser p = items->at[i].at;
    if (items->at[i].keyword[0] == 'f' || items->at[i].keyword[0] == 'c') continue;
    if (!p.m->program) p.m->program = program_new(p.m);
    Kernel *k = items->at[i].keyword[0] == 'k' ? parse_kernel_head(&p) : NULL;
    if (!k) continue;
    vec_push(scratch, &kernels, k);
    vec_push(scratch, &bodies, p);
  }
  for (uint32_t i = 0; i < kernels.n; i++)
    if (parse_kernel_body(&bodies.at[i], kernels.at[i])) check_end(&bodies.at[i]);
  bool seen = false;
  for (uint32_t i = 0; i < items->n; i++) {
    Parser p = items->at[i].at;
    if (items->at[i].keyword[0] != 'p') continue;
    if (seen) parse_error(&p, &p.tok, "found a second program, expected one");
    if (!seen && parse_program(&p)) check_end(&p);
    seen = true;
  }
}

Module *parse_module(Arena *arena, Diag *diag, const char *file, const char *text, size_t n) {
  Arena *scratch = arena_new("parse");
  Module *m = module_new(arena, diag);
  uint32_t errors = diag_errors(diag);
  char *copy = arena_alloc(scratch, n + 1);
  if (n) memcpy(copy, text, n);
  Parser p = {.m = m, .scratch = scratch, .file = file ? intern(m->names, file) : "text"};
  p.lex = (Lexer){.at = copy, .end = copy + n, .line = 1, .col = 1, .names = m->names, .scratch = scratch};
  p.consts = map_new(scratch);
  p.funcs = map_new(scratch);
  p.kernels = map_new(scratch);
  Items items = {0};
  find_items(&p, &items);
  parse_consts(&items);
  parse_funcs(scratch, &items);
  parse_kernels(scratch, &items);
  arena_free(scratch);
  return diag_errors(diag) == errors ? m : NULL;
}
