// The parser of the text form: modules, types and constants (functions: parse_func.c, kernels: parse_kernel.c). The
// manual is docs/ir.md.
//
// Items may refer to each other in any order: a first scan finds where each starts, then constants, function heads,
// function bodies, kernel heads, kernel bodies and the program are parsed in this order.
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

bool parse_float(Parser *p, double *f) {
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

bool parse_bool(Parser *p, int64_t *v) {
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
    if (dtype_info(t)->bits <= 8) *f = (double)(float)*f;  // directed rounding must see the exact power of two
    if (!__builtin_isinf(*f)) *f = elem_round(t, *f);
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

// elem_set_f, but an infinity of an 8-bit float stays one where the type has it (conversions saturate).
static void set_float(void *bytes, DType t, int64_t i, double v) {
  elem_set_f(bytes, t, i, v);
  uint8_t *at = (uint8_t *)bytes + i;
  for (int code = 0; __builtin_isinf(v) && dtype_info(t)->bits == 8 && code < 256; code++) {
    uint8_t cell = (uint8_t)code;
    if (elem_get_f(&cell, t, 0) == v) *at = cell;
  }
}

bool parse_list(Parser *p, const Type *t, void **bytes) {
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
      set_float(*bytes, t->dtype, n++, f);
    } else {
      elem_set_i(*bytes, t->dtype, n++, i);
    }
  }
  parse_step(p);
  return n == count || parse_error(p, &at, "found %lld elements, expected %lld", (long long)n, (long long)count);
}

bool parse_splat(Parser *p, const Type *t, const char *name, Value **v) {
  double f;
  int64_t i;
  if (!parse_want(p, '(', "'('") || !parse_literal(p, t->dtype, &f, &i) || !parse_want(p, ')', "')'")) return false;
  uint32_t before = p->m->n_consts;
  *v = dtype_is_float(t->dtype) ? const_splat(p->m, t, f) : const_splat_int(p->m, t, i);
  if (name && p->m->n_consts > before) const_rename(p->m, (*v)->constant, name);
  return true;
}

// (seed) or (seed, percent of zeros)
static bool parse_seed(Parser *p, uint64_t *seed, uint32_t *zeros) {
  if (!parse_want(p, '(', "'('")) return false;
  *seed = p->tok.i;
  *zeros = 0;
  if (!parse_want(p, TOK_INT, "a seed")) return false;
  if (parse_take(p, ',')) {
    if (!parse_at(p, TOK_INT) || p->tok.i > 100) return parse_expected(p, "a percentage of zeros");
    *zeros = (uint32_t)p->tok.i;
    parse_step(p);
  }
  return parse_want(p, ')', "')'");
}

static bool parse_const_value(Parser *p, const Type *t, const char *name, Value **v) {
  if (parse_take_name(p, "splat")) return parse_splat(p, t, name, v);
  uint64_t seed = 0;
  if (parse_take_name(p, "iota")) {
    *v = const_generated(p->m, t, CONST_IOTA, 0, 0, name);
    return true;
  }
  if (parse_take_name(p, "rand")) {
    uint32_t zeros;
    if (!parse_seed(p, &seed, &zeros)) return false;
    *v = const_with_zeros(p->m, t, seed, zeros, name);
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

// Where every item starts. Brackets are counted so that words inside heads and bodies start nothing; a `func` or
// `kernel` first on its line does, even when a bracket before it was forgotten.
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
      map_set_str(again.consts, again.tok.text, &parse_poison);
  }
}

static void parse_funcs(Arena *scratch, const Items *items) {
  VEC(FuncDecl *) decls = {0};
  for (uint32_t i = 0; i < items->n; i++) {
    Parser p = items->at[i].at;
    FuncDecl *d = items->at[i].keyword[0] == 'f' ? parse_func_head(&p) : NULL;
    if (d) vec_push(scratch, &decls, d);
  }
  for (uint32_t i = 0; i < decls.n; i++) {
    Parser p;
    if (parse_func_body(decls.at[i], &p)) check_end(&p);
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
