// vectorize: `vec` loops of any extent become loops of whole vectors and a rest.
//
//   for %i in 0..100 vec { S(i) }                                                       (16 lanes)
// becomes
//   for %i in 0..96 step 16 seq { for %l in 0..16 vec { S(i + l) } }
//   for %i in 96..100 vec { S(i) }
//
// and short bodies without inner loops get several vectors per round (an `unroll` loop). A loop that lanes cannot run
// becomes `seq`: an iteration reads what another one stores, every iteration stores to one place, a condition or an
// inner bound differs between lanes, it allocates, calls or holds another vec loop, or its accesses jump so much that
// moving single elements costs more than the arithmetic saves. A loop of one iteration becomes its body. Left alone are
// loops with `reduce bits`, loops whose extent is not constant (the backend cuts them at run time), and loops over the
// lanes of register buffers, which the lowering has sized; those become `unroll` when lanes cannot run them.
#include "passes/kernel/kutil.h"
#include "passes/pass.h"

typedef struct Vectorize {
  Arena *arena, *scratch;
  const Target *target;
  Kernel *k;
  bool changed;
} Vectorize;

typedef struct Place {
  const KBuf *buf;
  const Affine *idx;
  bool stores, reduces;
} Place;

// What the body of one vec loop does.
typedef struct Body {
  Arena *arena;
  const KVar *lane;
  int64_t step, trips;
  Bitset varying;  // variables that differ between lanes
  VEC(Place) places;
  bool fits;        // nothing that lanes cannot run at all
  bool bits;        // holds a reduction to bits
  bool nested;      // holds a loop
  bool registers;   // a register buffer is indexed by lane
  uint32_t ops;     // lane operations
  uint32_t jumps;   // accesses element by element
  uint32_t bits_f;  // widest float lane stored or loaded, 0: none
  uint32_t bits_i;  // widest integer lane
} Body;

// ---- what a body does

static void see_type(Body *b, DType t) {
  uint32_t bits = dtype_info(t)->bits;
  if (dtype_is_float(t)) {
    if (bits < 32) bits = 32;  // computed in f32
    if (bits > b->bits_f) b->bits_f = bits;
  } else if (bits > b->bits_i) {
    b->bits_i = bits;
  }
}

static void see_place(Body *b, const KBuf *buf, const Affine *idx, bool stores, bool reduces) {
  Place p = {buf, idx, stores, reduces};
  vec_push(b->arena, &b->places, p);
  see_type(b, buf->type);
  Affine at = access_linear(buf, idx);
  int64_t stride = aff_coef(&at, b->lane) * b->step;
  Affine rest = aff_subst(at, b->lane, aff(0));
  bool gathers = affine_uses(&rest, &b->varying);
  bool column = !stores && buf_root(buf)->space == SPACE_REG;  // of a register tile: shuffles
  bool far = stride < 0 || (stride > (stores ? 1 : 4) && !column);
  if (gathers || far) b->jumps++;
  if (buf_root(buf)->space == SPACE_REG && (stride || gathers)) b->registers = true;
}

static void see_expr(Body *b, const KExpr *x) {
  if (x->kind == KX_LOAD) see_place(b, x->buf, x->idx, false, false);
  if (x->kind != KX_OP) return;
  b->ops++;
  if (!dtype_is_float(x->type) && x->type != DT_BOOL && x->arg[0]->kind != KX_INDEX) see_type(b, x->type);
  for (uint32_t i = 0; i < kop_info(x->op)->arity; i++) see_expr(b, x->arg[i]);
}

static void see_block(Body *b, const KBlock *block);

static void see_for(Body *b, const KStmt *s) {
  b->nested = true;
  if (s->for_.loop == FOR_VEC || affine_uses(&s->for_.lo, &b->varying) || affine_uses(&s->for_.hi, &b->varying))
    b->fits = false;
  see_block(b, &s->for_.body);
}

static void see_store(Body *b, const KStmt *s) {
  see_expr(b, s->store.value);
  b->bits |= s->store.bits;
  see_place(b, s->store.buf, s->store.idx, true, s->kind == KS_REDUCE);
}

static void see_block(Body *b, const KBlock *block) {
  for (const KStmt *s = block->first; s; s = s->next) switch (s->kind) {
      case KS_FOR: see_for(b, s); break;
      case KS_IF:
        if (expr_uses(s->if_.cond, &b->varying)) b->fits = false;
        see_expr(b, s->if_.cond);
        see_block(b, &s->if_.then);
        see_block(b, &s->if_.other);
        break;
      case KS_LET:
        if (expr_uses(s->let.value, &b->varying)) bitset_add(&b->varying, s->let.var->id);
        see_expr(b, s->let.value);
        break;
      case KS_STORE:
      case KS_REDUCE: see_store(b, s); break;
      case KS_ALLOC:
      case KS_CALL:
      case KS_TILE: b->fits = false; break;
    }
}

// ---- dependences

// Lanes never meet where one dimension has the same index in both and that index differs from lane to lane.
static bool lanes_apart(const Body *b, const Place *p, const Place *q) {
  if (p->buf != q->buf) return false;
  for (uint32_t i = 0; i < p->buf->rank; i++) {
    const Affine *a = &p->idx[i];
    if (!aff_coef(a, b->lane) || !aff_equal(a, &q->idx[i])) continue;
    Affine rest = aff_subst(*a, b->lane, aff(0));
    if (!affine_uses(&rest, &b->varying)) return true;
  }
  return false;
}

// Equal strides and a constant distance that no two lanes bridge.
static bool too_far(const Body *b, const Place *p, const Place *q) {
  if (p->buf->type != q->buf->type) return false;
  Affine x = access_linear(p->buf, p->idx), y = access_linear(q->buf, q->idx), d = aff_sub(x, y);
  int64_t stride = aff_coef(&x, b->lane) * b->step;
  if (!stride || !aff_is_const(&d) || affine_uses(&d, &b->varying)) return false;
  Affine rest = aff_subst(x, b->lane, aff(0));
  if (affine_uses(&rest, &b->varying)) return false;
  if (stride < 0) stride = -stride;
  int64_t gap = d.base < 0 ? -d.base : d.base;
  return gap % stride != 0 || gap / stride >= b->trips;
}

static bool conflict(const Body *b, const Place *p, const Place *q) {
  if (!p->stores && !q->stores) return false;
  if (buf_root(p->buf) != buf_root(q->buf)) return false;
  if (p->reduces && q->reduces) return false;
  return !lanes_apart(b, p, q) && !too_far(b, p, q);
}

// A plain store needs a place of its own per lane; a reduction one place, or neighbouring ones.
static bool place_fits(const Body *b, const Place *p) {
  if (!p->stores) return true;
  Affine at = access_linear(p->buf, p->idx);
  int64_t stride = aff_coef(&at, b->lane) * b->step;
  Affine rest = aff_subst(at, b->lane, aff(0));
  if (affine_uses(&rest, &b->varying)) return false;
  return p->reduces ? stride == 0 || stride == 1 : stride != 0;
}

static bool independent(const Body *b) {
  for (uint32_t i = 0; i < b->places.n; i++) {
    if (!place_fits(b, &b->places.at[i])) return false;
    for (uint32_t j = 0; j < i; j++)
      if (conflict(b, &b->places.at[i], &b->places.at[j])) return false;
  }
  return true;
}

// Moving a lane alone costs about as much as four operations on a whole vector.
static bool pays(const Body *b) { return b->ops >= 4 * b->jumps; }

static int64_t body_lanes(const Vectorize *v, const Body *b) {
  uint32_t bits = b->bits_f ? b->bits_f : b->bits_i ? b->bits_i : 32;
  int64_t lanes = target_lanes(v->target, bits < 8 ? 8 : bits);
  return lanes > 64 ? 64 : lanes < 1 ? 1 : lanes;
}

// Floats that end as bytes: four registers of them make one of bytes.
static bool makes_bytes(const Body *b) {
  if (b->bits_f != 32 || b->jumps > 0 || b->ops > 24) return false;
  for (uint32_t i = 0; i < b->places.n; i++)
    if (b->places.at[i].stores && (b->places.at[i].reduces || dtype_info(b->places.at[i].buf->type)->bits != 8))
      return false;
  return true;
}

// ---- rewriting

static KStmt *new_for(Vectorize *v, const char *name, Affine lo, Affine hi, int64_t step, KForKind kind) {
  KStmt *s = kstmt_new(v->arena, KS_FOR);
  s->for_.var = kvar_new(v->arena, v->k, name, KVAR_LOOP, DT_I64);
  s->for_.lo = lo;
  s->for_.hi = hi;
  s->for_.step = step;
  s->for_.loop = kind;
  return s;
}

// for o in from..to step lanes * units: for u in 0..units unroll: for l in 0..lanes vec: body at o + (lanes u + l) step
static void emit_vectors(Vectorize *v, KBlock *b, KStmt *loop, Affine from, int64_t rounds, int64_t units,
                         int64_t lanes) {
  if (!rounds) return;
  int64_t step = loop->for_.step, chunk = lanes * units * step;
  const char *name = loop->for_.var->name;
  Affine at = from;
  KBlock *into = b;
  KStmt *before = loop;
  if (rounds > 1) {
    KStmt *outer = new_for(v, name, from, aff_plus(from, rounds * chunk), chunk, FOR_SEQ);
    kblock_insert(into, before, outer);
    at = aff_var(outer->for_.var);
    into = &outer->for_.body;
    before = NULL;
  }
  if (units > 1) {
    KStmt *unit = new_for(v, "u", aff(0), aff(units), 1, FOR_UNROLL);
    kblock_insert(into, before, unit);
    at = aff_add(at, aff_term(unit->for_.var, lanes * step));
    into = &unit->for_.body;
    before = NULL;
  }
  KStmt *lane = new_for(v, rounds > 1 ? "l" : name, aff(0), aff(lanes), 1, FOR_VEC);
  kblock_insert(into, before, lane);
  at = aff_add(at, aff_term(lane->for_.var, step));
  ArenaMark mark = arena_mark(v->scratch);
  KCopy c = kcopy_new(v->arena, v->scratch, v->k, v->k);
  c.subst[loop->for_.var->id] = &at;
  lane->for_.body = kcopy_block(&c, &loop->for_.body);
  arena_reset(v->scratch, mark);
}

// How many vectors of a short body run per round, so that loads and arithmetic of one hide behind those of the next.
static int64_t units_of(const Body *b, int64_t vectors) {
  if (b->nested || b->ops + b->places.n > 16) return 1;
  int64_t units = b->ops + b->places.n > 8 ? 2 : 4;
  return vectors >= 4 * units ? units : 1;
}

// Whole vectors of `lanes` of the first `trips` iterations, `units` per round; returns the iterations done.
static int64_t cut_vectors(Vectorize *v, KBlock *b, KStmt *loop, int64_t trips, int64_t lanes, int64_t units) {
  int64_t vectors = trips / lanes, rounds = vectors / units, step = loop->for_.step;
  Affine at = loop->for_.lo;
  emit_vectors(v, b, loop, at, rounds, units, lanes);
  at = aff_plus(at, rounds * units * lanes * step);
  emit_vectors(v, b, loop, at, vectors - rounds * units, 1, lanes);
  loop->for_.lo = aff_plus(loop->for_.lo, vectors * lanes * step);
  return vectors * lanes;
}

static void cut(Vectorize *v, KBlock *b, KStmt *loop, const Body *body) {
  int64_t lanes = body_lanes(v, body), trips = body->trips;
  if (trips <= lanes) return;
  v->changed = true;
  int64_t wide = makes_bytes(body) && lanes >= 4 ? 4 * lanes : 0;
  if (wide > 0 && wide <= 64 && trips >= wide) trips -= cut_vectors(v, b, loop, trips, wide, 1);
  if (trips >= lanes) trips -= cut_vectors(v, b, loop, trips, lanes, units_of(body, trips / lanes));
  if (trips == 0) kblock_remove(b, loop);
}

static Body body_of(Vectorize *v, const KStmt *loop, int64_t trips) {
  Body body = {.arena = v->scratch, .lane = loop->for_.var, .step = loop->for_.step, .fits = true};
  body.trips = trips < 0 ? INT64_MAX : trips;
  body.varying = bitset_new(v->scratch, v->k->n_vars + 1);
  bitset_add(&body.varying, loop->for_.var->id);
  see_block(&body, &loop->for_.body);
  return body;
}

static void vectorize_seen(Vectorize *v, KBlock *b, KStmt *loop) {
  int64_t trips = loop_trips(loop);
  Body body = body_of(v, loop, trips);
  bool legal = body.fits && independent(&body), alone = body.bits || (legal && body.registers), pay = pays(&body);
  if (alone) return;
  if (!legal || !pay) {
    loop->for_.loop = body.registers ? FOR_UNROLL : FOR_SEQ;
    block_reduce_scalar(v->arena, &loop->for_.body);
    v->changed = true;
  } else if (trips > 0) {
    cut(v, b, loop, &body);
  }
}

static void vectorize_loop(Vectorize *v, KBlock *b, KStmt *loop) {
  ArenaMark mark = arena_mark(v->scratch);  // what is seen of the body lives until the loop is cut
  vectorize_seen(v, b, loop);
  arena_reset(v->scratch, mark);
}

// Puts the body of a loop of one iteration in its place; returns its first statement or what follows the loop.
static KStmt *inline_loop(Vectorize *v, KBlock *b, KStmt *loop) {
  KStmt *before = loop->prev, *after = loop->next;
  block_reduce_scalar(v->arena, &loop->for_.body);
  loop_copy_body(v->arena, v->scratch, v->k, b, loop, loop->for_.lo);
  kblock_remove(b, loop);
  v->changed = true;
  KStmt *first = before ? before->next : b->first;
  return first ? first : after;
}

static void vectorize_block(Vectorize *v, KBlock *b) {
  for (KStmt *s = b->first, *next; s; s = next) {
    next = s->next;
    if (s->kind == KS_IF) {
      vectorize_block(v, &s->if_.then);
      vectorize_block(v, &s->if_.other);
    }
    if (s->kind != KS_FOR) continue;
    if (s->for_.loop == FOR_VEC && loop_trips(s) == 1) {
      next = inline_loop(v, b, s);
      continue;
    }
    bool was_vec = s->for_.loop == FOR_VEC;
    if (was_vec) vectorize_loop(v, b, s);
    if (!was_vec || s->for_.loop != FOR_VEC) vectorize_block(v, &s->for_.body);
  }
}

PassResult pass_vectorize(PassCtx *ctx) {
  Vectorize v = {.arena = ctx->m->arena, .scratch = ctx->arena, .target = ctx->target};
  for (uint32_t i = 0; i < ctx->m->program->kernels.n; i++) {
    v.k = ctx->m->program->kernels.at[i];
    vectorize_block(&v, &v.k->body);
  }
  return v.changed ? PASS_CHANGED : PASS_SAME;
}
