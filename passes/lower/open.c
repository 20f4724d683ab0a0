// Which packed weights are opened, and their steps. See open.h.
#include "passes/lower/open.h"

#include "ir/base/intmath.h"
#include "ir/note.h"
#include "passes/lower/codebook.h"

#define SIZE_RATIO 1.05  // weights against the bits that the file declares
enum { LOW_BITS = 8, BYTE = 8 };

struct OpenList {
  VEC(PackedWeights) at;
};

// One way to hold less.
typedef struct Choice {
  const PackedWeights *w;
  OpenForm form;  // of bytes
  bool floats;    // panels of floats out of codes (codebook.h)
  int64_t saves;
  double cycles;
  bool done;
} Choice;

typedef struct Sizes {
  LowerCtx *ctx;
  Arena *arena;
  double stored, needed;  // bytes
} Sizes;

void open_remember(LowerCtx *ctx, const PackedWeights *w) {
  if (ctx->packed == NULL) ctx->packed = NEW(ctx->m->arena, OpenList);
  w->buf->is_weights = true;
  vec_push(ctx->m->arena, &ctx->packed->at, *w);
}

// ---- what the network takes

static uint32_t declared_bits(Module *m, const Op *op) {
  NoteList notes = note_list(m, op->loc, m->arena);
  uint32_t bits = 0;
  for (uint32_t i = 0; i < notes.n; i++)
    if (notes.at[i]->kind == NOTE_DECLARED) bits = notes.at[i]->w_bits;
  return bits <= LOW_BITS ? bits : 0;
}

bool open_may(Module *m, const Op *op) { return declared_bits(m, op) > 0; }

static bool has_weights(const Op *op) {
  return op != NULL && (op->kind == OP_CONV || op->kind == OP_MATMUL || op->kind == OP_CONV_TRANSPOSE);
}

// The constant of a step that is its layer's weights: one marked as such, else the largest.
static const PBuf *step_weights(const Step *step) {
  const PBuf *best = NULL;
  for (uint32_t i = 0; i < step->n_args; i++) {
    const PBuf *b = step->args[i];
    if (b->kind != PBUF_CONST || b->alias_of != NULL) continue;
    if (b->is_weights) return b;
    if (best == NULL || b->bytes > best->bytes) best = b;
  }
  return best;
}

static void add_up(Sizes *s) {
  const Program *p = s->ctx->p;
  bool *seen = NEW_ARRAY(s->arena, bool, s->ctx->m->n_consts + 1);
  const Op *before = NULL;
  for (uint32_t i = 0; i < p->steps.n; i++) {
    const Op *op = p->steps.at[i].op;
    if (!has_weights(op)) continue;
    uint32_t bits = declared_bits(s->ctx->m, op);
    if (bits == 0) continue;
    if (op != before) s->needed += (double)ceil_div(type_count(op_in(op, 1)->type) * bits, BYTE);
    before = op;
    const PBuf *w = step_weights(&p->steps.at[i]);
    if (w == NULL || seen[w->constant->id]) continue;
    seen[w->constant->id] = true;
    s->stored += (double)w->bytes;
  }
}

// ---- ways to hold less

static bool choice_of(Sizes *s, const PackedWeights *w, Choice *c) {
  Codebook book;
  *c = (Choice){.w = w};
  DType type = w->buf->type->dtype;
  if (w->from->released || w->spec.bits.n > 0) return false;
  if (type == DT_F32) {
    const Value *weights = op_in(w->op, 1);
    if (weights == NULL || w->from != weights->constant || !codebook_of(w->op, &book)) return false;
    c->floats = true;
    c->saves = w->buf->bytes - ceil_div(type_count(w->buf->type) * book.bits, BYTE);
    c->cycles = 0.25 * (double)type_count(w->buf->type);
    return c->saves > 0;
  }
  bool words = w->spec.channels > 0;
  if (w->from->type->dtype != type || (type != DT_I8 && !words) || !open_form(s->ctx, w, &c->form)) return false;
  c->saves = w->buf->bytes - c->form.stored;
  c->cycles = c->form.cycles;
  return true;
}

// ---- steps

static int64_t first_reader(const Program *p, const PBuf *buf) {
  for (uint32_t i = 0; i < p->steps.n; i++)
    for (uint32_t k = 0; k < p->steps.at[i].n_args; k++)
      if (p->steps.at[i].args[k] == buf) return i;
  return -1;
}

static bool is_windowed(const Program *p, const PBuf *buf) {
  for (uint32_t i = 0; i < p->bufs.n; i++)
    if (p->bufs.at[i]->alias_of == buf) return true;
  return false;
}

// The last step goes to place `to`.
static void place_step(Program *p, int64_t to) {
  Step step = p->steps.at[p->steps.n - 1];
  for (int64_t i = (int64_t)p->steps.n - 1; i > to; i--) p->steps.at[i] = p->steps.at[i - 1];
  p->steps.at[to] = step;
}

// The constant is a buffer that a step writes from now on; its readers stay as they are.
static void become(PBuf *constant, PBuf *now) {
  constant->kind = PBUF_WORK;
  constant->constant = NULL;
  constant->is_weights = false;
  constant->alias_of = now;
}

// False after diag_error.
static bool open_choice(Sizes *s, Choice *c) {
  LowerCtx *ctx = s->ctx;
  const PackedWeights *w = c->w;
  int64_t at = first_reader(ctx->p, w->buf);
  if (at < 0 || w->buf->kind != PBUF_CONST || is_windowed(ctx->p, w->buf)) return true;
  Value from = w->from->value;
  PBuf *now = c->floats ? codebook_open(ctx, w->op, &from, &w->spec) : open_emit(ctx, &c->form);
  if (now == NULL) return false;
  if (!c->floats)
    note_layer(ctx->m, w->op, NOTE_RECOVERED, "weights stored in %u bits each, %lld bytes; opened once a run",
               c->form.bits, (long long)c->form.stored);
  int64_t before = w->buf->bytes;
  place_step(ctx->p, at);
  become(w->buf, now);
  const PBuf *stored = step_weights(&ctx->p->steps.at[at]);
  s->stored += (double)(stored->bytes - before);
  return true;
}

// The choice that saves most bytes per cycle among those that are left.
static Choice *next_choice(Choice *all, uint32_t n) {
  Choice *best = NULL;
  for (uint32_t i = 0; i < n; i++) {
    if (all[i].done) continue;
    if (best == NULL || (double)all[i].saves / all[i].cycles > (double)best->saves / best->cycles) best = &all[i];
  }
  return best;
}

static bool open_until(Sizes *s, bool everything) {
  const OpenList *list = s->ctx->packed;
  Choice *all = NEW_ARRAY(s->arena, Choice, list->at.n), *c;
  uint32_t n = 0;
  for (uint32_t i = 0; i < list->at.n; i++) {
    bool low = everything || declared_bits(s->ctx->m, list->at.at[i].op) > 0;
    n += low && choice_of(s, &list->at.at[i], &all[n]);
  }
  while ((everything || s->stored > SIZE_RATIO * s->needed) && (c = next_choice(all, n)) != NULL) {
    c->done = true;
    if (!open_choice(s, c)) return false;
  }
  return true;
}

bool open_weights(LowerCtx *ctx, bool everything) {
  if (!everything && ctx->target->vector_bits == 32) return true;  // RAM is dearer there than flash
  if (ctx->packed == NULL) return true;
  Sizes s = {.ctx = ctx, .arena = arena_new("open")};
  add_up(&s);
  bool ok = (!everything && s.stored <= SIZE_RATIO * s.needed) || open_until(&s, everything);
  arena_free(s.arena);
  return ok;
}
