// The parser of functions: heads, operations, attributes, bodies. Result types are written in the text and taken as
// they are: the verifier and the pass `infer` check them. Recovery is by lines: an error skips to the next statement,
// and values whose definition failed are poisoned so that their uses are not reported again.
#include <string.h>

#include "ir/parse.h"

Value parse_poison;

typedef struct Scope {
  Map *named, *numbered;
} Scope;

static Value *scope_get(const Scope *s, const Token *t) {
  return map_get_str(t->numbered ? s->numbered : s->named, t->text);
}

static bool scope_add(Parser *p, Scope *s, const Token *t, Value *v) {
  Value *old = scope_get(s, t);
  if (old && old != &parse_poison && v != &parse_poison) return parse_error(p, t, "%%%s is defined twice", t->text);
  map_set_str(t->numbered ? s->numbered : s->named, t->text, v);
  return true;
}

// One result of a head: f32[1,10] "prob". Names not given are out0, out1, ...
typedef struct ResultDecl {
  const Type *type;
  const char *name;
} ResultDecl;

struct FuncDecl {
  Func *f;
  Scope scope;
  VEC(ResultDecl) results;
  Parser body;  // state at the first statement
};

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

static bool parse_head(Parser *p, FuncDecl *d) {
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

FuncDecl *parse_func_head(Parser *p) {
  FuncDecl *d = NEW(p->scratch, FuncDecl);
  return parse_head(p, d) ? d : NULL;
}

// An operand: %x, @w, _, or a rank-0 constant f32(0.5). *failed is set when it is a poisoned value.
static bool parse_operand(Parser *p, const Scope *s, Value **v, bool *failed) {
  Token t = p->tok;
  if (parse_take(p, TOK_VALUE)) {
    *v = scope_get(s, &t);
    *failed |= *v == &parse_poison;
    return *v || parse_error(p, &t, "%%%s is not defined before its use", t.text);
  }
  if (parse_take(p, TOK_SYMBOL)) {
    *v = map_get_str(p->consts, t.text);
    *failed |= *v == &parse_poison;
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
    if (in.at[i] == &parse_poison) in.at[i] = NULL;
  Op *op = op_new(d->f, NULL, kind, in.n, in.at, NULL);
  if (!parse_attrs(p, op) || !parse_result_types(p, op) || !parse_locs(p, &at, &op->loc)) goto failed;
  if (!p->tok.first_of_line && !parse_at(p, '}')) {
    parse_expected(p, "the end of the line");
    goto failed;
  }
  for (uint32_t i = 0; i < names.n; i++) {
    if (!names.at[i].numbered) op->out[i]->name = names.at[i].text;
    if (!scope_add(p, &d->scope, &names.at[i], failed ? &parse_poison : op->out[i])) return false;
  }
  return true;
failed:
  for (uint32_t i = 0; i < names.n; i++) scope_add(p, &d->scope, &names.at[i], &parse_poison);
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
    if (v != &parse_poison && i < d->results.n && v->type != d->results.at[i].type)
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

bool parse_func_body(FuncDecl *d, Parser *p) {
  bool failed = false;
  *p = d->body;
  while (parse_at(p, TOK_VALUE) || !(failed || parse_at_name(p, "return"))) {
    int32_t line = p->tok.line;
    if (parse_op(p, d)) continue;
    failed = true;
    resync(p, line);
  }
  if (!parse_at_name(p, "return")) return false;
  return parse_return(p, d) && parse_want(p, '}', "'}' after return") && !failed;
}
