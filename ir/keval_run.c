// The interpreter of kernels, second half: the meaning of each instruction of the flat code (keval_code.h).
//
// Every access is checked against each dimension of its buffer. Arithmetic on f16, bf16 and f32 lanes is done in double
// and rounded once, which is exact for + - * / sqrt; fma takes care of its own single rounding.
#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/keval_code.h"

typedef struct Frame {
  Module *m;
  Arena *arena;
  const Code *code;
  Slot *slot;
  uint8_t **mem;  // by region
} Frame;

static int64_t affine_value(const Frame *f, const FlatAffine *a) {
  int64_t v = a->base;
  for (uint32_t i = 0; i < a->n; i++) v += a->term[i].coef * f->slot[a->term[i].slot].i;
  return v;
}

static bool outside(const Frame *f, const Access *a, uint32_t axis, int64_t index) {
  return diag_error(f->m->diag, DIAG_REFUSED, f->code->kernel->loc,
                    "internal error: kernel %s accesses buffer %s at index %lld of axis %u, which has %lld elements",
                    f->code->kernel->name, a->buf->name, (long long)index, axis, (long long)a->buf->dims[axis]);
}

static bool element(const Frame *f, const Access *a, int64_t *out) {
  int64_t at = 0;
  for (uint32_t i = 0; i < a->buf->rank; i++) {
    int64_t v = affine_value(f, &a->idx[i]);
    if (v < 0 || v >= a->buf->dims[i]) return outside(f, a, i, v);
    at += v * a->buf->strides[i];
  }
  *out = at;
  return true;
}

static Slot load(const uint8_t *at, DType t, int64_t i) {
  switch (t) {
    case DT_F64: {
      double v;
      memcpy(&v, at + 8 * i, 8);
      return (Slot){.f = v};
    }
    case DT_F32: {
      float v;
      memcpy(&v, at + 4 * i, 4);
      return (Slot){.f = v};
    }
    case DT_U8X4:
    case DT_I8X4:
    case DT_BF16X2: {
      uint32_t v;
      memcpy(&v, at + 4 * i, 4);
      return (Slot){.i = v};
    }
    default: return dtype_is_float(t) ? (Slot){.f = elem_get_f(at, t, i)} : (Slot){.i = elem_get_i(at, t, i)};
  }
}

static void store(uint8_t *at, DType t, int64_t i, Slot v) {
  switch (t) {
    case DT_F64: memcpy(at + 8 * i, &v.f, 8); break;
    case DT_F32: {
      float r = (float)v.f;
      memcpy(at + 4 * i, &r, 4);
      break;
    }
    case DT_U8X4:
    case DT_I8X4:
    case DT_BF16X2: {
      uint32_t r = (uint32_t)v.i;
      memcpy(at + 4 * i, &r, 4);
      break;
    }
    default:
      if (dtype_is_float(t))
        elem_set_f(at, t, i, v.f);
      else
        elem_set_i(at, t, i, v.i);
  }
}

static double round_to(DType t, double v) {
  return t == DT_F64 ? v : t == DT_F32 ? (double)(float)v : elem_round(t, v);
}

// a * b + c for types whose products are exact in double: the sum is rounded to odd, so that the caller's rounding to
// the type is the only one.
static double fma_narrow(double a, double b, double c) {
  double p = a * b, s = p + c;
  if (!isfinite(s)) return s;
  double bb = s - p, err = (p - (s - bb)) + (c - bb);
  uint64_t bits;
  memcpy(&bits, &s, 8);
  if (err == 0 || (bits & 1)) return s;
  bool away = (err > 0) == (s > 0);
  bits = away ? bits + 1 : bits - 1;
  memcpy(&s, &bits, 8);
  return s;
}

static int64_t saturate(DType t, double v) {
  if (isnan(v)) return 0;
  if (t == DT_BOOL) return v != 0;
  v = trunc(v);
  if (t == DT_U64) return v <= 0 ? 0 : v >= 0x1p64 ? -1 : (int64_t)(uint64_t)v;
  if (v >= 0x1p63) return dtype_max(t);
  if (v < -0x1p63) return dtype_min(t);
  int64_t i = (int64_t)v;
  return i < dtype_min(t) ? dtype_min(t) : i > dtype_max(t) ? dtype_max(t) : i;
}

static Slot cast(DType from, DType to, Slot v) {
  if (dtype_is_float(from)) return dtype_is_float(to) ? (Slot){.f = round_to(to, v.f)} : (Slot){.i = saturate(to, v.f)};
  if (!dtype_is_float(to)) return (Slot){.i = int_wrap(to, v.i)};
  if (to == DT_F32) return (Slot){.f = from == DT_U64 ? (float)(uint64_t)v.i : (float)v.i};
  return (Slot){.f = round_to(to, from == DT_U64 ? (double)(uint64_t)v.i : (double)v.i)};
}

static Slot view(DType from, DType to, Slot v) {
  uint8_t bytes[16] = {0};
  store(bytes, from, 0, v);
  return load(bytes, to, 0);
}

static int64_t popcount(DType t, int64_t v) {
  uint32_t bits = dtype_info(t)->bits;
  return __builtin_popcountll(bits == 64 ? (uint64_t)v : (uint64_t)v & ((UINT64_C(1) << bits) - 1));
}

static int64_t dot4(DType a_type, int64_t acc, int64_t a, int64_t b) {
  for (int i = 0; i < 4; i++) {
    int64_t x = (a >> (8 * i)) & 255, y = (int8_t)(b >> (8 * i));
    acc += (a_type == DT_I8X4 ? (int8_t)x : x) * y;
  }
  return int_wrap(DT_I32, acc);
}

// The high halves first, then the low ones, each product added with one rounding.
static double dot2(double acc, int64_t a, int64_t b) {
  for (int i = 1; i >= 0; i--) {
    double x = bf16_to_double((uint16_t)(a >> (16 * i))), y = bf16_to_double((uint16_t)(b >> (16 * i)));
    acc = fmaf((float)x, (float)y, (float)acc);
  }
  return acc;
}

static Slot float_op(KOp op, DType t, Slot a, Slot b, Slot c) {
  switch (op) {
    case KOP_ADD: return (Slot){.f = round_to(t, a.f + b.f)};
    case KOP_SUB: return (Slot){.f = round_to(t, a.f - b.f)};
    case KOP_MUL: return (Slot){.f = round_to(t, a.f * b.f)};
    case KOP_FMA:
      if (t == DT_F32) return (Slot){.f = fmaf((float)a.f, (float)b.f, (float)c.f)};
      if (t == DT_F64) return (Slot){.f = fma(a.f, b.f, c.f)};
      return (Slot){.f = round_to(t, fma_narrow(a.f, b.f, c.f))};
    default: {
      double arg[3] = {a.f, b.f, c.f};
      double r = kop_eval_f(op, arg);
      return kop_info(op)->rule == KRULE_BOOL ? (Slot){.i = r != 0} : (Slot){.f = round_to(t, r)};
    }
  }
}

static Slot int_op(KOp op, DType t, Slot a, Slot b, Slot c) {
  int64_t arg[3] = {a.i, b.i, c.i};
  return (Slot){.i = kop_eval_i(op, dtype_info(t)->cls == DC_LANE ? DT_U32 : t, arg)};
}

static Slot run_op(const Ins *n, const Slot *slot) {
  Slot a = slot[n->a], b = slot[n->b], c = slot[n->c];
  switch (n->op) {
    case KOP_SELECT: return a.i ? b : c;
    case KOP_CAST: return cast(n->type, n->to, a);
    case KOP_VIEW: return view(n->type, n->to, a);
    case KOP_LOW_WORD: return (Slot){.i = (int64_t)kop_eval_f(n->op, &a.f)};
    case KOP_POPCNT: return (Slot){.i = popcount(n->type, a.i)};
    case KOP_DOT4: return (Slot){.i = dot4(n->type, a.i, b.i, c.i)};
    case KOP_DOT2: return (Slot){.f = dot2(a.f, b.i, c.i)};
    default: return dtype_is_float(n->type) ? float_op(n->op, n->type, a, b, c) : int_op(n->op, n->type, a, b, c);
  }
}

static void run_bits(Frame *f, const Ins *n, uint8_t *at, DType t, int64_t i) {
  int64_t lane = (f->slot[n->b].i - f->slot[n->c].i) / n->step;
  uint64_t word = lane ? (uint64_t)load(at, t, i).i : 0;
  word |= (uint64_t)(f->slot[n->a].i != 0) << (lane & 63);
  store(at, t, i, (Slot){.i = (int64_t)word});
}

static bool run_access(Frame *f, const Ins *n) {
  const Access *a = &f->code->access.at[n->aux];
  int64_t i = 0;
  if (!element(f, a, &i)) return false;
  uint8_t *at = f->mem[a->region];
  DType t = a->buf->type;
  switch (n->code) {
    case INS_LOAD: f->slot[n->dst] = load(at, t, i); break;
    case INS_LOOKUP: {
      int64_t moved = i + (f->slot[n->a].i & (kop_table(n->op) - 1));
      if ((moved + 1) * dtype_info(t)->bits > 8 * f->code->region.at[a->region].bytes)
        return outside(f, a, a->buf->rank ? a->buf->rank - 1 : 0, moved);
      f->slot[n->dst] = load(at, t, moved);
      break;
    }
    case INS_STORE: store(at, t, i, f->slot[n->a]); break;
    case INS_BITS: run_bits(f, n, at, t, i); break;
    default: {
      Slot old = load(at, t, i), v = f->slot[n->a];
      store(at, t, i, dtype_is_float(t) ? float_op(n->op, t, old, v, v) : int_op(n->op, t, old, v, v));
    }
  }
  return true;
}

static bool run_call(Frame *f, const Call *call) {
  uint8_t **args = NEW_ARRAY(f->arena, uint8_t *, call->n + 1);
  for (uint32_t i = 0; i < call->n; i++) {
    const Access *a = &call->args[i];
    int64_t offset = affine_value(f, &a->idx[0]) * dtype_info(a->buf->type)->bits / 8;
    int64_t need = call->callee->region.at[i].bytes;
    if (offset < 0 || offset + need > f->code->region.at[a->region].bytes)
      return diag_error(f->m->diag, DIAG_REFUSED, f->code->kernel->loc,
                        "internal error: kernel %s passes %s at byte %lld to %s, which takes %lld of %lld bytes",
                        f->code->kernel->name, a->buf->name, (long long)offset, call->callee->kernel->name,
                        (long long)need, (long long)f->code->region.at[a->region].bytes);
    args[i] = f->mem[a->region] + offset;
  }
  ArenaMark mark = arena_mark(f->arena);
  bool ok = code_run(f->m, f->arena, call->callee, args);
  arena_reset(f->arena, mark);
  return ok;
}

// Rows of the tile from or to memory, each within the bytes of its buffer.
static bool move_tile(Frame *f, const TileIns *t) {
  const KBuf *tile = t->s->tile.tile, *buf = t->memory.buf;
  int64_t first, size = dtype_info(buf->type)->bits / 8, row = 4 * tile->dims[1];
  if (!element(f, &t->memory, &first)) return false;
  for (int64_t m = 0; m < tile->dims[0]; m++) {
    int64_t at = (first + m * t->s->tile.step) * size;
    if (at + row > f->code->region.at[t->memory.region].bytes)
      return outside(f, &t->memory, buf->rank - 1, (at + row - 1) / size);
    uint8_t *memory = f->mem[t->memory.region] + at, *inside = f->mem[t->tile] + m * row;
    if (t->s->tile.op == KOP_TILE_LOAD)
      memcpy(inside, memory, (size_t)row);
    else
      memcpy(memory, inside, (size_t)row);
  }
  return true;
}

static void dot_tiles(Frame *f, const TileIns *t) {
  const KBuf *a = t->s->tile.buf, *b = t->s->tile.b, *c = t->s->tile.tile;
  for (int64_t m = 0; m < c->dims[0]; m++)
    for (int64_t n = 0; n < c->dims[1]; n++) {
      int64_t at = m * c->dims[1] + n;
      Slot acc = load(f->mem[t->tile], c->type, at);
      for (int64_t k = 0; k < b->dims[0]; k++) {
        Slot x = load(f->mem[t->a], a->type, m * a->dims[1] + k), y = load(f->mem[t->b], b->type, k * b->dims[1] + n);
        acc.i = dot4(a->type, acc.i, x.i, y.i);
      }
      store(f->mem[t->tile], c->type, at, acc);
    }
}

static bool run_tile(Frame *f, const TileIns *t) {
  switch (t->s->tile.op) {
    case KOP_TILE_ZERO: memset(f->mem[t->tile], 0, (size_t)f->code->region.at[t->tile].bytes); return true;
    case KOP_TILE_DOT: dot_tiles(f, t); return true;
    default: return move_tile(f, t);
  }
}

static bool run(Frame *f) {
  const Ins *ins = f->code->ins.at;
  Slot *slot = f->slot;
  for (uint32_t pc = 0; pc < f->code->ins.n;) {
    const Ins *n = &ins[pc++];
    switch (n->code) {
      case INS_OP: slot[n->dst] = run_op(n, slot); break;
      case INS_MOVE: slot[n->dst] = slot[n->a]; break;
      case INS_INDEX: slot[n->dst].i = affine_value(f, &f->code->affine.at[n->aux]); break;
      case INS_FILL: {
        const Region *r = &f->code->region.at[n->aux];
        if (r->buf->data) memcpy(f->mem[n->aux], r->buf->data, (size_t)r->bytes);
        if (!r->buf->data) memset(f->mem[n->aux], 0xff, (size_t)r->bytes);
        break;
      }
      case INS_CALL:
        if (!run_call(f, &f->code->call.at[n->aux])) return false;
        break;
      case INS_TILE:
        if (!run_tile(f, &f->code->tile.at[n->aux])) return false;
        break;
      case INS_JUMP: pc = n->target; break;
      case INS_UNLESS:
        if (!slot[n->a].i) pc = n->target;
        break;
      case INS_ENTER:
        if (slot[n->a].i >= slot[n->b].i) pc = n->target;
        break;
      case INS_NEXT:
        slot[n->a].i += n->step;
        if (slot[n->a].i < slot[n->b].i) pc = n->target;
        break;
      default:
        if (!run_access(f, n)) return false;
    }
  }
  return true;
}

bool code_run(Module *m, Arena *arena, const Code *c, uint8_t *const *args) {
  Frame f = {.m = m, .arena = arena, .code = c};
  f.slot = NEW_ARRAY(arena, Slot, c->slot.n + 1);
  if (c->slot.n) memcpy(f.slot, c->slot.at, c->slot.n * sizeof(Slot));
  f.mem = NEW_ARRAY(arena, uint8_t *, c->region.n + 1);
  for (uint32_t i = 0; i < c->region.n; i++)
    f.mem[i] = i < c->kernel->n_params ? args[i] : arena_alloc(arena, (size_t)c->region.at[i].bytes + 1);
  return run(&f);
}
