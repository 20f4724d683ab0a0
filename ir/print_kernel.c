// The printer of kernels and programs. The inverse of parse_kernel.c.
//
// Names are made unique in their scope (%i, %i_2 ...) because unrolling copies loops, lets and allocs with their names.
// Terms of an index are printed in the order in which their variables were declared. A view is no statement: it is
// printed where its buffer becomes known, at the top for parameters and after the alloc for the others. A constant is
// printed bare when its place gives it its type, else as f32(0.5).
#include <string.h>

#include "ir/base/map.h"
#include "ir/parse.h"
#include "ir/print.h"

static const char *const space_names[] = {"arg", "const", "work", "stack", "reg", "tile"};
static const char *const loop_names[] = {"seq", "par", "vec", "unroll"};

typedef struct Printer {
  StrBuf *out;
  Arena *scratch;
  const char **var, **buf;  // names in the text by id
  uint32_t *position;       // of a variable in the order of declarations, by id
  uint32_t n_declared;
  VEC(const char *) scope;  // names visible now
  VEC(const KBuf *) views;  // every view used, in order of first use, a base before its views
  uint32_t depth;
} Printer;

// ---- names

static bool in_scope(const Printer *p, const char *name) {
  for (uint32_t i = p->scope.n; i-- > 0;)
    if (strcmp(p->scope.at[i], name) == 0) return true;
  return false;
}

static const char *declare(Printer *p, const char *name) {
  if (!name || !name[0]) name = "v";
  const char *unique = name;
  for (uint32_t k = 2; in_scope(p, unique); k++) unique = arena_printf(p->scratch, "%s_%u", name, k);
  vec_push(p->scratch, &p->scope, unique);
  return unique;
}

static void declare_var(Printer *p, const KVar *v) {
  p->var[v->id] = declare(p, v->name);
  p->position[v->id] = p->n_declared++;
}

static void put_name(Printer *p, const char *name) { print_name(p->out, '%', name ? name : "not declared"); }

// ---- the views of a kernel, collected before printing

static void see_buf(Printer *p, const KBuf *b) {
  for (uint32_t i = 0; i < p->views.n; i++)
    if (p->views.at[i] == b) return;
  if (!b->view_of) return;
  see_buf(p, b->view_of);
  vec_push(p->scratch, &p->views, b);
}

static void see_expr(Printer *p, const KExpr *x) {
  if (x->kind == KX_LOAD) see_buf(p, x->buf);
  if (x->kind == KX_OP)
    for (uint32_t i = 0; i < kop_info(x->op)->arity; i++) see_expr(p, x->arg[i]);
}

static void see_block(Printer *p, const KBlock *b);

static void see_stmt(Printer *p, const KStmt *s) {
  switch (s->kind) {
    case KS_FOR: see_block(p, &s->for_.body); break;
    case KS_IF:
      see_expr(p, s->if_.cond);
      see_block(p, &s->if_.then);
      see_block(p, &s->if_.other);
      break;
    case KS_LET: see_expr(p, s->let.value); break;
    case KS_STORE:
    case KS_REDUCE:
      see_buf(p, s->store.buf);
      see_expr(p, s->store.value);
      break;
    case KS_ALLOC: break;
    case KS_CALL:
      for (uint32_t i = 0; i < s->call.n; i++) see_buf(p, s->call.args[i]);
      break;
    case KS_TILE:
      if (s->tile.idx) see_buf(p, s->tile.buf);
      break;
  }
}

static void see_block(Printer *p, const KBlock *b) {
  for (const KStmt *s = b->first; s; s = s->next) see_stmt(p, s);
}

// ---- expressions

static void put_affine(Printer *p, const Affine *a) {
  AffineTerm term[AFFINE_MAX];
  for (uint32_t i = 0; i < a->n; i++) {  // insertion sort by declaration
    uint32_t k = i;
    for (; k > 0 && p->position[term[k - 1].var->id] > p->position[a->term[i].var->id]; k--) term[k] = term[k - 1];
    term[k] = a->term[i];
  }
  for (uint32_t i = 0; i < a->n; i++) {
    int64_t c = term[i].coef;
    if (c < 0 || i > 0) strbuf_putc(p->out, c < 0 ? '-' : '+');
    if (c != 1 && c != -1) strbuf_printf(p->out, "%llu*", (unsigned long long)(c < 0 ? 0 - (uint64_t)c : (uint64_t)c));
    put_name(p, p->var[term[i].var->id]);
  }
  if (a->n == 0 || a->base != 0) strbuf_printf(p->out, a->n ? "%+lld" : "%lld", (long long)a->base);
}

static void put_place(Printer *p, const KBuf *b, const Affine *idx) {
  put_name(p, p->buf[b->id]);
  strbuf_putc(p->out, '[');
  for (uint32_t i = 0; i < b->rank; i++) {
    if (i) strbuf_puts(p->out, ", ");
    put_affine(p, &idx[i]);
  }
  strbuf_putc(p->out, ']');
}

static void put_const(Printer *p, const KExpr *x, DType expected) {
  bool bare = x->type == expected || x->type == DT_BOOL;
  if (!bare) strbuf_printf(p->out, "%s(", dtype_info(x->type)->name);
  print_literal(p->out, x->type, x->f, x->i);
  if (!bare) strbuf_putc(p->out, ')');
}

static void put_expr(Printer *p, const KExpr *x, DType expected) {
  switch (x->kind) {
    case KX_CONST: put_const(p, x, expected); break;
    case KX_INDEX:
      strbuf_puts(p->out, "index(");
      put_affine(p, &x->index);
      strbuf_putc(p->out, ')');
      break;
    case KX_VAR: put_name(p, p->var[x->var->id]); break;
    case KX_LOAD:
      strbuf_puts(p->out, "load ");
      put_place(p, x->buf, x->idx);
      break;
    case KX_OP: {
      const KOpInfo *info = kop_info(x->op);
      strbuf_printf(p->out, "%s(", info->name);
      for (uint32_t i = 0; i < info->arity; i++) {
        if (i) strbuf_puts(p->out, ", ");
        put_expr(p, x->arg[i], literal_type(x->op, i, expected, i ? x->arg[i - 1]->type : DT_NONE));
      }
      if (info->rule == KRULE_GIVEN) strbuf_printf(p->out, ", %s", dtype_info(x->type)->name);
      strbuf_putc(p->out, ')');
    }
  }
}

// ---- statements

static void put_list(StrBuf *out, uint32_t n, const int64_t *v) {
  strbuf_putc(out, '[');
  for (uint32_t i = 0; i < n; i++) strbuf_printf(out, "%s%lld", i ? "," : "", (long long)v[i]);
  strbuf_putc(out, ']');
}

// f32[784,64] strides[80,1]
static void put_buf_type(Printer *p, const KBuf *b) {
  strbuf_puts(p->out, dtype_info(b->type)->name);
  put_list(p->out, b->rank, b->dims);
  bool dense = true;
  int64_t stride = 1;
  for (uint32_t i = b->rank; i-- > 0; stride *= b->dims[i] ? b->dims[i] : 1) dense &= b->strides[i] == stride;
  if (dense) return;
  strbuf_puts(p->out, " strides");
  put_list(p->out, b->rank, b->strides);
}

static void indent(Printer *p) {
  for (uint32_t i = 0; i < p->depth; i++) strbuf_puts(p->out, "  ");
}

static const KBuf *view_root(const KBuf *b) {
  while (b->view_of) b = b->view_of;
  return b;
}

static void put_view(Printer *p, const KBuf *b) {
  indent(p);
  p->buf[b->id] = declare(p, b->name);
  put_name(p, p->buf[b->id]);
  strbuf_puts(p->out, " = view ");
  put_name(p, p->buf[b->view_of->id]);
  strbuf_putc(p->out, ' ');
  put_buf_type(p, b);
  strbuf_putc(p->out, '\n');
}

// Views of parameters (of == NULL) or of one alloc.
static void put_views(Printer *p, const KBuf *of) {
  for (uint32_t i = 0; i < p->views.n; i++) {
    const KBuf *root = view_root(p->views.at[i]);
    if (of ? root == of : root->param >= 0) put_view(p, p->views.at[i]);
  }
}

static void put_block(Printer *p, const KBlock *b);

static void put_for(Printer *p, const KStmt *s) {
  strbuf_puts(p->out, "for ");
  uint32_t mark = p->scope.n;
  declare_var(p, s->for_.var);
  put_name(p, p->var[s->for_.var->id]);
  strbuf_puts(p->out, " in ");
  put_affine(p, &s->for_.lo);
  strbuf_puts(p->out, "..");
  put_affine(p, &s->for_.hi);
  if (s->for_.step != 1) strbuf_printf(p->out, " step %lld", (long long)s->for_.step);
  strbuf_printf(p->out, " %s", loop_names[s->for_.loop]);
  put_block(p, &s->for_.body);
  p->scope.n = mark;
}

static void put_call(Printer *p, const KStmt *s) {
  strbuf_puts(p->out, "call ");
  print_name(p->out, '@', s->call.callee->name);
  strbuf_putc(p->out, '(');
  for (uint32_t i = 0; i < s->call.n; i++) {
    if (i) strbuf_puts(p->out, ", ");
    put_name(p, p->buf[s->call.args[i]->id]);
    if (aff_is_const(&s->call.offsets[i]) && s->call.offsets[i].base == 0) continue;
    strbuf_puts(p->out, " at ");
    put_affine(p, &s->call.offsets[i]);
  }
  strbuf_putc(p->out, ')');
}

// tile_load %a, %x[...] by 64    tile_dot %c, %a, %b
static void put_tile(Printer *p, const KStmt *s) {
  strbuf_printf(p->out, "%s ", kop_info(s->tile.op)->name);
  put_name(p, p->buf[s->tile.tile->id]);
  if (s->tile.idx) {
    strbuf_puts(p->out, ", ");
    put_place(p, s->tile.buf, s->tile.idx);
    strbuf_printf(p->out, " by %lld", (long long)s->tile.step);
  } else if (s->tile.b) {
    strbuf_puts(p->out, ", ");
    put_name(p, p->buf[s->tile.buf->id]);
    strbuf_puts(p->out, ", ");
    put_name(p, p->buf[s->tile.b->id]);
  }
}

static void put_stmt(Printer *p, const KStmt *s) {
  indent(p);
  switch (s->kind) {
    case KS_FOR: put_for(p, s); break;
    case KS_IF:
      strbuf_puts(p->out, "if ");
      put_expr(p, s->if_.cond, DT_BOOL);
      put_block(p, &s->if_.then);
      if (s->if_.other.first) {
        strbuf_puts(p->out, " else");
        put_block(p, &s->if_.other);
      }
      break;
    case KS_LET:
      strbuf_puts(p->out, "let ");
      declare_var(p, s->let.var);
      put_name(p, p->var[s->let.var->id]);
      strbuf_puts(p->out, " = ");
      put_expr(p, s->let.value, DT_NONE);
      break;
    case KS_STORE:
      strbuf_puts(p->out, "store ");
      put_place(p, s->store.buf, s->store.idx);
      strbuf_puts(p->out, ", ");
      put_expr(p, s->store.value, s->store.buf->type);
      break;
    case KS_REDUCE:
      strbuf_printf(p->out, "reduce %s ", s->store.bits ? "bits" : kop_info(s->store.op)->name);
      put_place(p, s->store.buf, s->store.idx);
      strbuf_puts(p->out, ", ");
      put_expr(p, s->store.value, s->store.bits ? DT_BOOL : s->store.buf->type);
      break;
    case KS_ALLOC:
      p->buf[s->alloc.buf->id] = declare(p, s->alloc.buf->name);
      put_name(p, p->buf[s->alloc.buf->id]);
      strbuf_puts(p->out, s->alloc.buf->space == SPACE_TABLE ? " = table " : " = alloc ");
      put_buf_type(p, s->alloc.buf);
      if (s->alloc.buf->space == SPACE_TABLE) {
        strbuf_putc(p->out, ' ');
        print_elements(p->out, s->alloc.buf->type, s->alloc.buf->data, s->alloc.buf->dims[0]);
      } else {
        strbuf_printf(p->out, " %s", space_names[s->alloc.buf->space]);
      }
      break;
    case KS_CALL: put_call(p, s); break;
    case KS_TILE: put_tile(p, s); break;
  }
  strbuf_putc(p->out, '\n');
  if (s->kind == KS_ALLOC) put_views(p, s->alloc.buf);
}

// " {", the statements one level deeper, "}"
static void put_block(Printer *p, const KBlock *b) {
  uint32_t mark = p->scope.n;
  strbuf_puts(p->out, " {\n");
  p->depth++;
  for (const KStmt *s = b->first; s; s = s->next) put_stmt(p, s);
  p->depth--;
  p->scope.n = mark;
  indent(p);
  strbuf_putc(p->out, '}');
}

void print_kernel(StrBuf *out, const Kernel *k) {
  Arena *scratch = arena_new("print");
  Printer p = {.out = out,
               .scratch = scratch,
               .var = NEW_ARRAY(scratch, const char *, k->n_vars + 1),
               .buf = NEW_ARRAY(scratch, const char *, k->n_bufs + 1),
               .position = NEW_ARRAY(scratch, uint32_t, k->n_vars + 1)};
  strbuf_puts(out, "kernel ");
  print_name(out, '@', k->name);
  strbuf_putc(out, '(');
  for (uint32_t i = 0; i < k->n_params; i++) {
    if (i) strbuf_puts(out, ", ");
    p.buf[k->params[i]->id] = declare(&p, k->params[i]->name);
    put_name(&p, p.buf[k->params[i]->id]);
    strbuf_puts(out, ": ");
    put_buf_type(&p, k->params[i]);
    strbuf_printf(out, " %s", space_names[k->params[i]->space]);
  }
  strbuf_puts(out, k->noalias ? ") noalias {\n" : ") {\n");
  see_block(&p, &k->body);
  p.depth = 1;
  put_views(&p, NULL);
  for (const KStmt *s = k->body.first; s; s = s->next) put_stmt(&p, s);
  strbuf_puts(out, "}\n");
  arena_free(scratch);
}

// ---- programs

static const char *const pbuf_kinds[] = {"input", "output", "const", "work"};

static void put_pbuf(StrBuf *out, const Program *p, const PBuf *b, const char *const *names) {
  strbuf_printf(out, "  %s ", pbuf_kinds[b->kind]);
  if (b->kind == PBUF_INPUT || b->kind == PBUF_OUTPUT) strbuf_printf(out, "%u ", b->index);
  print_name(out, '%', names[b->id]);
  strbuf_puts(out, ": ");
  print_type(out, p->module->types, b->type);
  if (b->bytes != type_bytes(b->type)) strbuf_printf(out, " bytes %lld", (long long)b->bytes);
  if (b->constant && !b->alias_of) {
    strbuf_puts(out, " = ");
    print_name(out, '@', b->constant->name);
  }
  if (b->alias_of) {
    strbuf_puts(out, " in ");
    print_name(out, '%', names[b->alias_of->id]);
    if (b->alias_offset) strbuf_printf(out, " at %lld", (long long)b->alias_offset);
  } else if (b->offset >= 0) {
    strbuf_printf(out, " at %lld", (long long)b->offset);
  }
  strbuf_putc(out, '\n');
}

static void put_step(StrBuf *out, const Step *s, const char *const *names) {
  strbuf_puts(out, "  call ");
  print_name(out, '@', s->kernel->name);
  strbuf_putc(out, '(');
  for (uint32_t i = 0; i < s->n_args; i++) {
    if (i) strbuf_puts(out, ", ");
    print_name(out, '%', names[s->args[i]->id]);
  }
  strbuf_putc(out, ')');
  if (s->strategy && strcmp(s->strategy, "loop") != 0) strbuf_printf(out, " by %s", s->strategy);
  strbuf_putc(out, '\n');
}

// One name per buffer: its own, with a number when an earlier buffer has that.
static const char **pbuf_names(Arena *scratch, const Program *p) {
  Map *taken = map_new(scratch), *last = map_new(scratch);  // last: number given to a name most recently
  const char **names = NEW_ARRAY(scratch, const char *, p->bufs.n + 1);
  for (uint32_t i = 0; i < p->bufs.n; i++) {
    const char *name = p->bufs.at[i]->name;
    if (!name || !name[0]) name = "b";
    const char *unique = name;
    uintptr_t k = (uintptr_t)map_get_str(last, name);
    for (k = k ? k + 1 : 2; map_get_str(taken, unique); k++) {
      unique = arena_printf(scratch, "%s_%u", name, (uint32_t)k);
      map_set_str(last, name, (void *)k);
    }
    map_set_str(taken, unique, p->bufs.at[i]);
    names[p->bufs.at[i]->id] = unique;
  }
  return names;
}

static void put_program(StrBuf *out, const Program *p) {
  Arena *scratch = arena_new("print");
  const char **name = pbuf_names(scratch, p);
  strbuf_puts(out, "program {\n");
  if (p->workspace_bytes) strbuf_printf(out, "  workspace %lld\n", (long long)p->workspace_bytes);
  if (p->workspace_align != 64) strbuf_printf(out, "  align %lld\n", (long long)p->workspace_align);
  for (uint32_t i = 0; i < p->bufs.n; i++) put_pbuf(out, p, p->bufs.at[i], name);
  for (uint32_t i = 0; i < p->steps.n; i++) put_step(out, &p->steps.at[i], name);
  strbuf_puts(out, "}\n");
  arena_free(scratch);
}

void print_program(StrBuf *out, const Program *p) {
  for (uint32_t i = 0; i < p->kernels.n; i++) {
    if (i) strbuf_putc(out, '\n');
    print_kernel(out, p->kernels.at[i]);
  }
  if (p->bufs.n == 0 && p->steps.n == 0) return;
  if (p->kernels.n) strbuf_putc(out, '\n');
  put_program(out, p);
}
