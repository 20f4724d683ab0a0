// The strategy planes: codes and forms of the operands. See planes.h.
#include "passes/lower/planes.h"

enum { MOST_PLANES = 8 };

// What a row costs in words of 64, 32 or 16 bits: places in words and lanes, missing ones included. Counting
// instructions work alike, and the end of a sum is cheaper in narrow lanes; looked up in tables, sums of 64 bits come
// for free; a scalar instruction counts a word of any size.
static int64_t word_cost(const PlanesX *f, int64_t word) {
  const Target *t = f->target;
  int64_t lanes = planes_counts_scalars(t) ? 1 : target_lanes(t, (uint32_t)word);
  int64_t places = (f->channels + word - 1) / word * word, columns = (f->columns + lanes - 1) / lanes * lanes;
  if (planes_counts_scalars(t)) return places / word;
  if (!t->has_popcnt_vec) return places * columns * (word == 32 ? 3 : 2);
  return places * columns * (word == 64 ? 51 : 50);
}

bool planes_counts_scalars(const Target *t) { return !t->has_popcnt_vec && t->vector_bits < 256; }

void planes_set_channels(PlanesX *f, int64_t channels) {
  f->channels = channels;
  f->word = f->target->vector_bits < 64 ? 32 : 64;
  for (int64_t word = 32; word >= (f->narrow ? 16 : 32); word /= 2)
    if (word_cost(f, word) < word_cost(f, f->word)) f->word = word;
  f->words = (channels + f->word - 1) / f->word;
}

DType planes_type(const PlanesX *f) { return f->word == 64 ? DT_I64 : f->word == 32 ? DT_I32 : DT_I16; }

int64_t planes_row(const PlanesX *f) { return f->group * f->words * f->planes; }

// Bits that hold 0 .. v.
static int64_t bits_of(int64_t v) {
  int64_t bits = 1;
  while (v >> bits != 0) bits++;
  return bits;
}

static bool is_power_of_two(int64_t v) { return v > 0 && (v & (v - 1)) == 0; }

// The counts of a column stay below 2^15 in every form.
static bool counts_are_narrow(const Op *op, int64_t planes, int64_t channels) {
  const Value *w = op_in(op, 1), *y = op_out(op, 0);
  int64_t n = y->type->rank > 0 ? y->type->dims[y->type->rank - 1] : 1, most = INT16_MAX;
  if (planes > MOST_PLANES || n == 0 || channels == 0) return false;
  int64_t taps = type_count(w->type) / n / channels, k = taps * ((channels + 15) / 16 * 16);
  if (k < 2 * taps * channels) k = 2 * taps * channels;  // rows that come in pieces use half of their bits or more
  most /= (INT64_C(1) << planes) - 1;
  if (k > most) return false;
  Range r = value_range(w);
  PlanesW f;
  for (int form = 0; form < 3; form++)
    if (planes_w_in(&r, (PlanesForm)form, &f) && k * ((INT64_C(1) << f.planes) - 1) > most) return false;
  return true;
}

bool planes_x(const Op *op, const Target *t, PlanesX *f) {
  const Value *x = op_in(op, 0);
  bool conv = op->kind == OP_CONV;
  *f = (PlanesX){.group = conv ? op_int(op, A_CONV_group) : 1};
  if ((x->type->dtype != DT_I8 && x->type->dtype != DT_U8) || x->type->rank == 0) return false;
  Range r = value_range(x);
  f->lo = r.lo;
  f->step = range_step(&r);
  if (f->step == 0) f->step = 1;
  if (!is_power_of_two(f->step) && r.n != 2) f->step = 1;
  int64_t most = (r.hi - r.lo) / f->step;
  f->planes = bits_of(most);
  f->zero = conv ? op_int(op, A_CONV_x_zero) : op_int(op, A_MATMUL_x_zero);
  bool has_code = f->zero >= r.lo && (f->zero - r.lo) % f->step == 0 && (f->zero - r.lo) / f->step <= most;
  f->fill = has_code ? f->zero : f->lo;
  int64_t channels = x->type->dims[x->type->rank - 1] / f->group;
  const Type *y = op_out(op, 0)->type;
  f->target = t;
  f->columns = (y->rank > 0 ? y->dims[y->rank - 1] : 1) / f->group;
  f->narrow = counts_are_narrow(op, f->planes, channels);
  planes_set_channels(f, channels);
  return f->planes <= MOST_PLANES;
}

// ---- forms of the weights

static int64_t magnitude(int64_t v) { return v < 0 ? -v : v; }

// The largest g that divides all values.
static int64_t range_unit(const Range *r) {
  int64_t unit = 0;
  if (r->n == 0) return 1;
  for (uint32_t i = 0; i < r->n; i++) {
    int64_t a = magnitude(r->level[i]), b = unit;
    while (b != 0) {
      int64_t rest = a % b;
      a = b;
      b = rest;
    }
    unit = a;
  }
  return unit == 0 ? 1 : unit;
}

bool planes_w_in(const Range *r, PlanesForm form, PlanesW *w) {
  int64_t unit = range_unit(r), lo = r->lo / unit, hi = r->hi / unit;
  int64_t most = magnitude(lo) > magnitude(hi) ? magnitude(lo) : magnitude(hi);
  *w = (PlanesW){.form = form, .unit = unit, .planes = bits_of(most)};
  if (form == PLANES_AND && lo < 0) {
    w->negative = true;
    w->planes = 1 + bits_of(magnitude(lo) - 1 > hi ? magnitude(lo) - 1 : hi);
    if (lo == -1 && hi <= 0) w->planes = 1;
  }
  if (form == PLANES_XOR) {
    if (r->n == 0) return false;
    for (uint32_t i = 0; i < r->n; i++)
      if (r->level[i] / unit % 2 == 0) return false;
  }
  return w->planes <= MOST_PLANES;
}

PlanesW planes_w(const Range *r) {
  static const PlanesForm forms[] = {PLANES_XOR, PLANES_AND, PLANES_SIGN};  // of equal ones the first
  PlanesW best = {0}, w;
  for (uint32_t i = 0; i < 3; i++)
    if (planes_w_in(r, forms[i], &w) && (best.planes == 0 || w.planes < best.planes)) best = w;
  return best;
}

static const char *const form_names[] = {[PLANES_XOR] = "xor", [PLANES_SIGN] = "sign", [PLANES_AND] = "and"};

const char *planes_form_name(PlanesForm form) { return form_names[form]; }

bool planes_check(LowerCtx *ctx, const Op *op, const Plan *plan, PlanesX *x, PlanesW *w) {
  Range r = value_range(op_in(op, 1));
  if (!planes_x(op, ctx->target, x))
    return diag_error(ctx->m->diag, DIAG_USAGE, op->loc,
                      "plan 'planes' reads bytes as bits, operand 0 is %s; use another plan",
                      dtype_info(op_in(op, 0)->type->dtype)->name);
  *w = planes_w(&r);
  for (uint32_t f = 0; f < 3; f++) {
    if (plan_param(plan, form_names[f], 0) == 0 || planes_w_in(&r, (PlanesForm)f, w)) continue;
    return diag_error(ctx->m->diag, DIAG_USAGE, op->loc,
                      "plan 'planes' asks for the form '%s', which weights of %lld to %lld do not have; leave it out",
                      form_names[f], (long long)r.lo, (long long)r.hi);
  }
  return true;
}
