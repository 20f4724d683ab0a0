// The parser of programs (docs/ir.md, section "Programs"): buffers and steps, one per line. Aliases may name later
// buffers and are resolved at the end; the liveness of buffers follows from the steps.
#include <string.h>

#include "ir/parse.h"

typedef struct PBufDecl {
  PBuf *buf;
  Token alias;  // of kind VALUE when the buffer lives in another
} PBufDecl;

typedef struct ProgramParse {
  Parser *p;
  Map *bufs;  // name -> PBuf
  VEC(PBufDecl) decls;
} ProgramParse;

static bool parse_pbuf_const(ProgramParse *pp, PBuf *b) {
  Token at = pp->p->tok;
  if (!parse_want(pp->p, TOK_SYMBOL, "a constant's @name")) return false;
  const Value *v = map_get_str(pp->p->consts, at.text);
  if (!v || v->kind != VALUE_CONST) return parse_error(pp->p, &at, "there is no constant @%s", at.text);
  b->constant = v->constant;
  return v->type == b->type || parse_error(pp->p, &at, "@%s is of another type than its buffer", at.text);
}

// input 0 %x: f32[1,28]    const %w: f32[3] = @w    work %t: f32[28] bytes 128 at 64    work %u: f32[14] in %t at 8
static bool parse_pbuf(ProgramParse *pp, PBufKind kind) {
  Parser *p = pp->p;
  int64_t index = 0;
  if (kind <= PBUF_OUTPUT && !parse_size(p, &index)) return false;
  if (index > UINT32_MAX) return parse_expected(p, "a smaller number");
  Token name = p->tok, at;
  const Type *t;
  if (!parse_want(p, TOK_VALUE, "a buffer's %name") || !parse_want(p, ':', "':'")) return false;
  at = p->tok;
  if (!parse_type(p, &t)) return false;
  if (!type_is_static(t)) return parse_error(p, &at, "found symbolic dims, expected numbers");
  if (map_get_str(pp->bufs, name.text)) return parse_error(p, &name, "%%%s is defined twice", name.text);
  PBuf *b = program_buf(p->m->program, kind, name.text, t);
  map_set_str(pp->bufs, name.text, b);
  b->index = (uint32_t)index;
  if (parse_take_name(p, "bytes") && !parse_size(p, &b->bytes)) return false;
  if (kind == PBUF_CONST && !parse_at_name(p, "in") && (!parse_want(p, '=', "'=' or in") || !parse_pbuf_const(pp, b)))
    return false;
  PBufDecl d = {.buf = b};
  if (parse_take_name(p, "in")) {
    d.alias = p->tok;
    if (!parse_want(p, TOK_VALUE, "a buffer's %name")) return false;
  }
  vec_push(p->scratch, &pp->decls, d);
  if (!parse_take_name(p, "at")) return true;
  return parse_size(p, d.alias.kind == TOK_VALUE ? &b->alias_offset : &b->offset);
}

#define ALIAS_DEPTH 4096

// Aliases may name later buffers. Circles are refused, and so are absurdly long chains.
static bool resolve_aliases(ProgramParse *pp) {
  for (uint32_t i = 0; i < pp->decls.n; i++) {
    PBufDecl *d = &pp->decls.at[i];
    if (d->alias.kind != TOK_VALUE) continue;
    PBuf *of = map_get_str(pp->bufs, d->alias.text);
    if (!of) return parse_error(pp->p, &d->alias, "there is no buffer %%%s", d->alias.text);
    uint32_t depth = 0;
    for (const PBuf *b = of; b; b = b->alias_of)
      if (b == d->buf || ++depth > ALIAS_DEPTH)
        return parse_error(pp->p, &d->alias, "%%%s lives in itself", d->buf->name);
    d->buf->alias_of = of;
  }
  for (uint32_t i = 0; i < pp->decls.n; i++) {
    PBuf *b = pp->decls.at[i].buf;
    if (b->kind == PBUF_CONST) b->constant = pbuf_root(b, NULL)->constant;
  }
  return true;
}

static bool parse_step_line(ProgramParse *pp) {
  Parser *p = pp->p;
  VEC(PBuf *) args = {0};
  Token at = p->tok, name;
  parse_step(p);
  name = p->tok;
  if (!parse_want(p, TOK_SYMBOL, "a kernel's @name") || !parse_want(p, '(', "'('")) return false;
  Kernel *k = map_get_str(p->kernels, name.text);
  if (!k) return parse_error(p, &name, "there is no kernel @%s", name.text);
  while (!parse_at(p, ')')) {
    if (args.n > 0 && !parse_want(p, ',', "',' or ')'")) return false;
    Token t = p->tok;
    if (!parse_want(p, TOK_VALUE, "a buffer's %name")) return false;
    PBuf *b = map_get_str(pp->bufs, t.text);
    if (!b) return parse_error(p, &t, "there is no buffer %%%s", t.text);
    vec_push(p->scratch, &args, b);
  }
  parse_step(p);
  if (args.n != k->n_params)
    return parse_error(p, &name, "found %u buffers, expected %u of @%s", args.n, k->n_params, name.text);
  Step *s = program_step(p->m->program, k, args.n, args.at, NULL);
  s->loc = parse_loc(p, &at);
  if (!parse_take_name(p, "by")) return true;
  s->strategy = p->tok.text;
  return parse_want(p, TOK_NAME, "a strategy");
}

static bool parse_program_line(ProgramParse *pp) {
  static const char *const kinds[] = {"input", "output", "const", "work"};
  Parser *p = pp->p;
  if (parse_take_name(p, "workspace")) return parse_size(p, &p->m->program->workspace_bytes);
  if (parse_take_name(p, "align")) return parse_size(p, &p->m->program->workspace_align);
  for (int i = 0; i < 4; i++)
    if (parse_take_name(p, kinds[i])) return parse_pbuf(pp, (PBufKind)i);
  if (parse_at_name(p, "call")) return parse_step_line(pp);
  return parse_expected(p, "workspace, align, input, output, const, work, call or '}'");
}

// Liveness follows from the steps.
static void set_liveness(Program *program) {
  for (uint32_t i = 0; i < program->steps.n; i++)
    for (uint32_t a = 0; a < program->steps.at[i].n_args; a++)
      for (PBuf *b = program->steps.at[i].args[a]; b; b = b->alias_of) {
        if (b->first_step < 0) b->first_step = (int32_t)i;
        b->last_step = (int32_t)i;
      }
}

bool parse_program(Parser *p) {
  ProgramParse pp = {.p = p, .bufs = map_new(p->scratch)};
  parse_step(p);
  if (!parse_want(p, '{', "'{'")) return false;
  while (!parse_at(p, '}'))
    if (!parse_program_line(&pp)) return false;
  parse_step(p);
  if (!resolve_aliases(&pp)) return false;
  set_liveness(p->m->program);
  return true;
}
