// Pass channels: what must stay. Nothing is needed until a reader says so; readers are asked until nothing changes.
//
// A contraction needs an input where an output that stays has a weight other than 0 for it and the element is not one
// number. Constant inputs go into the bias; under padding they go into a constant map added to the result, or where
// that would be large into the weights of one of them, which then stays. Groups keep equal counts; channels whose
// removal makes nothing cheaper stay.
#include <math.h>

#include "ir/elem.h"
#include "passes/compress/channels.h"

#define MAX_NEED (INT64_C(1) << 26)   // bytes of one table of weights that are not 0
#define LANES 16                      // integer channels are counted in
#define LEAST_PART 16                 // float channels go if they are at least this part of their axis
#define MAX_MAP (INT64_C(128) << 10)  // bytes of a map: it is read once per inference, from L2

bool reader_maps(const Reader *r) {
  const Type *y = r->op->out[0]->type;
  if (r->transposed || !dtype_is_float(y->dtype) || !type_is_static(y)) return false;
  return type_bytes(y) / (y->dims[0] ? y->dims[0] : 1) <= MAX_MAP;
}

// The constant at an input, less what padding is taken for; NAN: not constant.
static double constant_at(const ChannelAxis *x, const Reader *r, int64_t position) {
  return x->fixed ? x->fixed[position] - r->x_zero : NAN;
}

// In `need`: a weight meets an element that must be computed. In `fixed`: a weight meets a constant that is not 0.
static void reader_table(Channels *c, Reader *r, const ChannelAxis *x) {
  int64_t units = axis_units(c, x), in_group = r->in / r->group, out_group = r->out / r->group;
  if (units * r->out > MAX_NEED) return;
  r->need = NEW_ARRAY(c->arena, uint8_t, units * r->out);
  r->fixed = NEW_ARRAY(c->arena, uint8_t, units * r->out);
  for (int64_t p = 0; p < r->in; p++) {
    int64_t unit, index, g = p / in_group;
    ChannelClass *cls;
    axis_unit(c, x, p, &unit, &cls, &index);
    double v = constant_at(x, r, p);
    bool settled = !isnan(v) && !(r->transposed && v != 0) && isfinite(v);
    uint8_t *table = (settled ? r->fixed : r->need) + unit * r->out;
    for (int64_t o = g * out_group; v != 0 && o < (g + 1) * out_group; o++)
      for (int64_t t = 0; t < r->taps && !table[o]; t++) table[o] = reader_weight(r, o, p - g * in_group, t) != 0;
  }
}

static bool keep_set(ChannelClass *cls, int64_t index) {
  if (cls->keep[index]) return false;
  return cls->keep[index] = true;
}

static bool out_keeps(const Channels *c, const Reader *r, int64_t o) {
  return axis_keeps(c, channel_axis(c, r->op->out[0]), o);
}

static bool keep_position(const Channels *c, const ChannelAxis *a, int64_t position) {
  int64_t unit, index;
  ChannelClass *cls;
  axis_unit(c, a, position, &unit, &cls, &index);
  return keep_set(cls, index);
}

static bool needs_inputs(Channels *c, const Reader *r, const ChannelAxis *x) {
  bool changed = false, *out = NEW_ARRAY(c->arena, bool, r->out);
  int64_t unit, index, last = -1;
  ChannelClass *cls;
  for (int64_t o = 0; o < r->out; o++) out[o] = out_keeps(c, r, o);
  for (int64_t p = 0; p < r->in; p++) {
    axis_unit(c, x, p, &unit, &cls, &index);
    if (unit == last) continue;
    last = unit;
    bool need = cls->keep[index] || !r->need;
    for (int64_t o = 0; o < r->out && !need; o++) need = r->need[unit * r->out + o] && out[o];
    if (need && !cls->keep[index]) changed |= keep_position(c, x, same_in_group(r, x, p));
  }
  return changed;
}

int64_t reader_carrier(const Channels *c, const Reader *r, int64_t g) {
  const ChannelAxis *x = channel_axis(c, op_in(r->op, 0));
  int64_t in_group = r->in / r->group, best = -1;
  for (int64_t p = g * in_group; x->fixed && p < (g + 1) * in_group; p++) {
    double v = fabs(constant_at(x, r, p));
    if (isfinite(v) && v > 0 && axis_keeps(c, x, p) && (best < 0 || v > fabs(constant_at(x, r, best)))) best = p;
  }
  return best;
}

// Constants that would go, under padding, into no map: the largest of them stays to carry the others. Integers are not
// merged into other weights: theirs stay.
static bool needs_carriers(Channels *c, const Reader *r, const ChannelAxis *x) {
  if (!r->padded || r->transposed || !x->fixed || !r->fixed || reader_maps(r)) return false;
  bool is_float = dtype_is_float(r->op->out[0]->type->dtype), changed = false;
  int64_t in_group = r->in / r->group, out_group = r->out / r->group, unit, index;
  ChannelClass *cls;
  for (int64_t g = 0; g < r->group; g++) {
    int64_t best = -1;
    for (int64_t p = g * in_group; p < (g + 1) * in_group; p++) {
      axis_unit(c, x, p, &unit, &cls, &index);
      bool read = false;
      for (int64_t o = g * out_group; o < (g + 1) * out_group; o++)
        read |= r->fixed[unit * r->out + o] && out_keeps(c, r, o);
      if (!read || cls->keep[index]) continue;
      if (!is_float) changed |= keep_set(cls, index);
      if (best < 0 || fabs(constant_at(x, r, p)) > fabs(constant_at(x, r, best))) best = p;
    }
    if (is_float && best >= 0 && reader_carrier(c, r, g) < 0) changed |= keep_position(c, x, best);
  }
  return changed;
}

static int64_t group_count(const Channels *c, const ChannelAxis *a, int64_t g, int64_t n) {
  int64_t kept = 0;
  for (int64_t i = 0; i < n; i++) kept += axis_keeps(c, a, g * n + i);
  return kept;
}

static bool group_raise(const Channels *c, const ChannelAxis *a, int64_t g, int64_t n, int64_t to) {
  bool changed = false;
  for (int64_t i = 0, kept = group_count(c, a, g, n); i < n && kept < to; i++) {
    if (axis_keeps(c, a, g * n + i)) continue;
    changed |= keep_position(c, a, g * n + i);
    kept++;
  }
  return changed;
}

// Groups that stay have as many inputs as each other, and as many outputs. A group goes when none of its channels
// stays.
static bool groups_balance(Channels *c, const Reader *r) {
  if (r->group == 1) return false;
  const ChannelAxis *x = channel_axis(c, op_in(r->op, 0)), *y = channel_axis(c, r->op->out[0]);
  int64_t ni = r->in / r->group, no = r->out / r->group, most_in = 1, most_out = 1;
  for (int64_t g = 0; g < r->group; g++) {
    int64_t i = group_count(c, x, g, ni), o = group_count(c, y, g, no);
    most_in = i > most_in ? i : most_in;
    most_out = o > most_out ? o : most_out;
  }
  bool changed = false;
  for (int64_t g = 0; g < r->group; g++) {
    if (group_count(c, x, g, ni) + group_count(c, y, g, no) == 0) continue;
    if (x->axis >= 0) changed |= group_raise(c, x, g, ni, most_in);
    if (y->axis >= 0) changed |= group_raise(c, y, g, no, most_out);
  }
  return changed;
}

static void class_raise(ChannelClass *cls, int64_t *kept, int64_t to, bool *changed) {
  for (int64_t i = 0; i < cls->n && *kept < to; i++) {
    if (!keep_set(cls, i)) continue;
    ++*kept;
    *changed = true;
  }
}

// Channels that go without making anything cheaper stay: integers are packed and stored by LANES, vectors of floats
// that lose little of their length lose their alignment. At least one stays.
static bool classes_round(Channels *c) {
  bool changed = false;
  for (uint32_t k = 0; k < c->classes.n; k++) {
    ChannelClass *cls = &c->classes.at[k];
    if (cls->parent != k) continue;
    int64_t kept = 0, least;
    for (int64_t i = 0; i < cls->n; i++) kept += cls->keep[i];
    if (cls->bytes && cls->n >= LANES) {
      least = (kept + LANES - 1) / LANES * LANES;
    } else {
      least = (cls->n - kept) * LEAST_PART < cls->n ? cls->n : kept;
    }
    class_raise(cls, &kept, least > 0 ? least : 1, &changed);
  }
  return changed;
}

static void mark_bytes(Channels *c, const Value *v) {
  const ChannelAxis *a = channel_axis(c, v);
  for (uint32_t i = 0; i < a->n && !dtype_is_float(v->type->dtype); i++) class_root(c, a->segment[i].cls)->bytes = true;
}

bool channels_keep(Channels *c) {
  for (uint32_t k = 0; k < c->classes.n; k++) {
    ChannelClass *cls = &c->classes.at[k];
    if (cls->parent != k) continue;
    cls->keep = NEW_ARRAY(c->arena, bool, cls->n + 1);
    for (int64_t i = 0; i < cls->n; i++) cls->keep[i] = cls->pinned;
  }
  for (uint32_t i = 0; i < c->readers.n; i++) {
    Reader *r = &c->readers.at[i];
    mark_bytes(c, op_in(r->op, 0));
    mark_bytes(c, r->op->out[0]);
    const ChannelAxis *x = channel_axis(c, op_in(r->op, 0));
    if (x->axis >= 0) reader_table(c, r, x);
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (uint32_t i = c->readers.n; i-- > 0;) {
      const Reader *r = &c->readers.at[i];
      const ChannelAxis *x = channel_axis(c, op_in(r->op, 0));
      if (x->axis >= 0) changed |= needs_inputs(c, r, x) | needs_carriers(c, r, x);
      changed |= groups_balance(c, r);
    }
    if (!changed) changed = classes_round(c);
  }
  bool any = false;
  for (uint32_t k = 0; k < c->classes.n; k++) {
    ChannelClass *cls = &c->classes.at[k];
    if (cls->parent != k) continue;
    for (int64_t i = 0; i < cls->n; i++) cls->left += cls->keep[i];
    any |= cls->left < cls->n;
  }
  return any;
}
