// Weights of a book in the strategy stream: bytes of integers looked up by codes. See stream.h.
//
//   for fields of the stream { codes = field;  for bytes j { c[j] = table[j][codes];  for slices i < 3 - j { sums[i][j]
//   += dot4(c[j], x[i]) } } } total = sum over i of (sums[i][0] - 128 sum of x[i] + sums[i][1] / 256 + sums[i][2] /
//   256^2) / 256^i
#include <math.h>

#include "ir/note.h"
#include "passes/lower/stream_emit.h"

enum { BOOK_BYTES = 3, TABLE = 256, HALF = 128 };

// ---- the tables

static double largest_of(Module *m, Const *book) {
  double largest = 0;
  for (int64_t i = 0; i < book->type->dims[0]; i++) {
    double w = fabs(const_f(m, book, i));
    if (!isfinite(w)) return INFINITY;
    largest = fmax(largest, w);
  }
  return largest;
}

// A weight as bytes of an integer in steps of unit / 256^2, the first of them above 128 by that of 0.
static uint32_t fixed_point(double w, double unit) {
  double q = fmin(rint(w / unit * 65536), 8388607);
  return (uint32_t)((int64_t)q + 8388608);
}

bool stream_book(Stream *s) {
  Const *book = s->w.book;
  Module *m = s->ctx->m;
  if (book == NULL) return true;
  double largest = largest_of(m, book);
  if (!isfinite(largest) || (s->ctx->opt != NULL && s->ctx->opt->strict_fp))
    return diag_error(m->diag, DIAG_USAGE, s->op->loc,
                      "plan 'stream' rounds finite weights of a book, found %s; use another plan",
                      isfinite(largest) ? "--fp=strict" : "a weight that is no number");
  int64_t dims[2] = {BOOK_BYTES, TABLE}, n = book->type->dims[0];
  const Type *t = type_tensor(m->types, DT_U8, 2, dims);
  uint8_t *bytes = arena_alloc(m->arena, (size_t)type_bytes(t));
  int power = 0;
  frexp(fmax(largest, 0x1p-100), &power);
  s->book = (StreamBook){.n = BOOK_BYTES, .unit = ldexp(1, power - 7), .exact = true};
  for (int64_t i = 0; i < TABLE; i++) {
    double w = i < n ? const_f(m, book, i) : 0;
    uint32_t q = fixed_point(w, s->book.unit);
    for (int j = 0; j < BOOK_BYTES; j++) bytes[j * TABLE + i] = (uint8_t)(q >> (16 - 8 * j));
    s->book.exact = s->book.exact && ldexp((double)q - 8388608, -16) * s->book.unit == w;
  }
  s->book.bytes = const_bytes(m, t, bytes, "book");
  return true;
}

void stream_book_note(const Stream *s) {
  note_layer(s->ctx->m, s->op, NOTE_RECOVERED,
             "weights stored in %u bits each, a book of %lld floats as integers of 24 bits, %s; x as %lld slices of "
             "bytes, to within 2^-21 of the largest",
             s->parts.width[0], (long long)s->w.book->type->dims[0],
             s->book.exact ? "exact" : "to within 2^-24 of the largest", (long long)s->slices);
}

// ---- the kernel

void stream_book_params(StreamEmit *e) {
  int64_t bytes = 4 * e->w->dims[0];
  e->codes = kb_view(&e->b, e->w, "codes", DT_U8, 1, &bytes);
  PBuf *tables = lower_const(e->s->ctx, e->s->book.bytes);
  e->bufs[e->n_bufs++] = tables;
  e->books = lower_flat(&e->b, tables);
}

void stream_book_alloc(StreamEmit *e, StreamTile *t) {
  int64_t lanes = e->s->lanes, n = e->s->book.n;
  t->bytes = kb_alloc(&e->b, "bytes", DT_U8, 3, (int64_t[]){n, t->g, 4 * lanes}, SPACE_REG);
  t->c = kb_view(&e->b, t->bytes, "c", DT_U32, 3, (int64_t[]){n, t->g, lanes});
}

// Codes of field f of a vector of the stream.
static KExpr *field(StreamEmit *e, Affine at, uint32_t f) {
  KBuild *b = &e->b;
  uint32_t width = e->s->parts.width[0];
  KExpr *v = kx_load1(b, e->codes, at);
  if (f > 0) v = kx_op2(b, KOP_SHR, v, kx_i(b, DT_U8, f * width));
  return width == 8 ? v : kx_op2(b, KOP_AND, v, kx_i(b, DT_U8, (1 << width) - 1));
}

// Byte j of the weights of a vector of codes.
static KExpr *look_up(StreamEmit *e, int64_t j, KVar *codes) {
  KBuild *b = &e->b;
  int64_t n = e->s->w.book->type->dims[0], at = j * TABLE;
  if (n <= HALF / 2) return kx_op2(b, KOP_LOOKUP64, kx_load1(b, e->books, aff(at)), kx_var(b, codes));
  KExpr *low = kx_op2(b, KOP_LOOKUP128, kx_load1(b, e->books, aff(at)), kx_var(b, codes));
  if (n <= HALF) return low;
  KExpr *high = kx_op2(b, KOP_LOOKUP128, kx_load1(b, e->books, aff(at + HALF)), kx_var(b, codes));
  return kx_op3(b, KOP_SELECT, kx_op2(b, KOP_GE, kx_var(b, codes), kx_i(b, DT_U8, HALF)), high, low);
}

void stream_book_chunk(StreamEmit *e, const StreamTile *t, Affine w_at, Affine x_at) {
  KBuild *b = &e->b;
  const Stream *s = e->s;
  for (uint32_t f = 0; f < 8 / s->parts.width[0]; f++) {
    for (int64_t g = 0; g < t->g; g++) {
      Affine l = stream_lanes(e, 4 * s->lanes);
      KVar *codes = kb_let(b, "codes", field(e, aff_plus(aff_add(aff_mul(w_at, 4), l), 4 * g * s->lanes), f));
      for (int64_t j = 0; j < s->book.n; j++)
        kb_store(b, t->bytes, (Affine[]){aff(j), aff(g), l}, look_up(e, j, codes));
      kb_end(b);
    }
    for (int64_t j = 0; j < s->book.n; j++) stream_products(e, t, j, j, (int64_t)s->book.n - j, aff_plus(x_at, f));
  }
}

KExpr *stream_book_sum(StreamEmit *e, const StreamTile *t, int64_t r, int64_t g, KVar *sum_of_x, Affine l) {
  KBuild *b = &e->b;
  int64_t bytes = (int64_t)e->s->book.n - r % e->s->slices;
  KExpr *below = NULL;
  for (int64_t j = bytes; j-- > 0;) {  // small ones first
    KExpr *sum = stream_reg(e, t->acc, r, j * t->g + g, l);
    if (j == 0) sum = kx_op2(b, KOP_ADD, sum, kx_var(b, sum_of_x));
    KExpr *f = kx_cast(b, DT_F32, sum);
    below = below == NULL ? f : kx_op3(b, KOP_FMA, below, kx_f(b, DT_F32, 1.0 / 256), f);
  }
  return below;
}
