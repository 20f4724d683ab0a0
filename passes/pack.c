// Packing of constant weights. See pack.h.
#include "passes/pack.h"

#include <string.h>

#include "ir/elem.h"

static int64_t product(uint32_t n, const int64_t *dims) {
  int64_t p = 1;
  for (uint32_t i = 0; i < n; i++) p *= dims[i];
  return p;
}

static int64_t group_size(const PackSpec *s) { return s->by > 1 ? s->by : 1; }

static int64_t inner_groups(const PackSpec *s) {
  return s->n_red == 0 ? 1 : (s->red[s->n_red - 1] + group_size(s) - 1) / group_size(s);
}

int64_t pack_k(const PackSpec *s) { return s->n_red == 0 ? 1 : product(s->n_red - 1, s->red) * inner_groups(s); }

int64_t pack_rows(const PackSpec *s) {
  if (s->bits.n == 0 || pack_k(s) == 0) return pack_k(s);
  return pack_run(&s->bits, s->n_red, s->red).rows;
}

int64_t pack_copies(const PackSpec *s) { return product(s->n_copies, s->copy); }

int64_t pack_columns(const PackSpec *s) { return s->dense ? s->n : (s->n + s->lanes - 1) / s->lanes * s->lanes; }

int64_t pack_copy_elems(const PackSpec *s) { return pack_columns(s) * pack_rows(s) * group_size(s); }

int64_t pack_slack(const PackSpec *s) {
  int64_t rest = s->n % s->lanes;
  return s->dense && rest > 0 && pack_k(s) > 0 ? (s->lanes - rest) * group_size(s) : 0;
}

const Type *pack_type(Module *m, const PackSpec *s, const Loc *loc) {
  int64_t columns = pack_columns(s), count;
  if (!dims_count(4, (int64_t[]){pack_copies(s), pack_rows(s), columns, group_size(s)}, &count)) {
    diag_error(m->diag, DIAG_LIMIT, loc, "packed weights of %lld x %lld x %lld elements are past the size limit",
               (long long)pack_copies(s), (long long)pack_k(s), (long long)columns);
    return NULL;
  }
  count += pack_slack(s);
  return type_tensor(m->types, s->type, 1, &count);
}

// Offset of element number `at` of a row-major walk over dims with strides.
static int64_t walk_offset(uint32_t n, const int64_t *dims, const int64_t *strides, int64_t at) {
  int64_t offset = 0;
  for (uint32_t i = n; i-- > 0;) {
    offset += at % dims[i] * strides[i];
    at /= dims[i];
  }
  return offset;
}

typedef struct Columns {
  const PackSpec *s;
  const void *from;
  DType from_type;
  void *to;
} Columns;

// One row of one panel: `width` columns beginning at `column`, to element `at` of the result.
static void pack_row(const Columns *c, int64_t from, int64_t column, int64_t width, int64_t at) {
  const PackSpec *s = c->s;
  int64_t have = s->n - column < width ? s->n - column : width;
  from += column * s->n_stride;
  if (c->from_type == DT_F32 && s->type == DT_F32) {
    const AnyF32 *src = (const AnyF32 *)c->from + from;
    float *dst = (float *)c->to + at;
    for (int64_t j = 0; j < have; j++) dst[j] = src[j * s->n_stride];
    return;
  }
  bool floats = dtype_is_float(s->type);
  for (int64_t j = 0; j < have; j++) {
    int64_t i = from + j * s->n_stride;
    if (floats) {
      elem_set_f(c->to, s->type, at + j, elem_get_f(c->from, c->from_type, i));
    } else {
      elem_set_i(c->to, s->type, at + j, elem_get_i(c->from, c->from_type, i));
    }
  }
}

// A row of groups: `width` columns of `by` elements of the innermost reduction each, group number `group` of it. A last
// group without enough elements ends with the last one where the reduction is long enough: zeros come first.
static void pack_group_row(const Columns *c, int64_t from, int64_t group, int64_t column, int64_t width, int64_t at) {
  const PackSpec *s = c->s;
  uint32_t last = s->n_red - 1;
  int64_t first = group * s->by, end = first + s->by < s->red[last] ? first + s->by : s->red[last];
  int64_t begin = end - s->by < 0 ? 0 : end - s->by;
  for (int64_t j = 0; j < width && column + j < s->n; j++) {
    for (int64_t k = first; k < end; k++) {
      int64_t i = from + (column + j) * s->n_stride + k * s->red_stride[last];
      int64_t to = at + j * s->by + k - begin;
      if (dtype_is_float(s->type)) {
        elem_set_f(c->to, s->type, to, elem_get_f(c->from, c->from_type, i));
      } else {
        elem_set_i(c->to, s->type, to, elem_get_i(c->from, c->from_type, i));
      }
    }
  }
}

static void pack_groups(const Columns *c, int64_t from, int64_t at) {
  const PackSpec *s = c->s;
  int64_t panel = s->nv * s->lanes, k = pack_k(s), inner = inner_groups(s);
  for (int64_t column = 0; column < s->n; column += panel) {
    int64_t width = pack_columns(s) - column < panel ? pack_columns(s) - column : panel;
    for (int64_t row = 0; row < k; row++, at += width * s->by) {
      int64_t outer = walk_offset(s->n_red - 1, s->red, s->red_stride, row / inner);
      pack_group_row(c, from + outer, row % inner, column, width, at);
    }
  }
}

static void pack_copy(const Columns *c, int64_t from, int64_t at) {
  const PackSpec *s = c->s;
  int64_t panel = s->nv * s->lanes, k = pack_k(s);
  for (int64_t column = 0; column < s->n; column += panel) {
    int64_t width = pack_columns(s) - column < panel ? pack_columns(s) - column : panel;
    for (int64_t row = 0; row < k; row++, at += width) {
      pack_row(c, from + walk_offset(s->n_red, s->red, s->red_stride, row), column, width, at);
    }
  }
}

// One copy as bytes, then every panel of it as fields.
static void pack_fields(const Columns *c, int64_t from, uint8_t *to) {
  PackSpec plain = *c->s;
  plain.bits.n = 0;
  Arena *arena = arena_new("pack");
  int8_t *bytes = NEW_ARRAY(arena, int8_t, pack_copy_elems(&plain));
  Columns all = {&plain, c->from, c->from_type, bytes};
  pack_groups(&all, from, 0);
  PackRun r = pack_run(&c->s->bits, plain.n_red, plain.red);
  int64_t columns = pack_columns(&plain), panel = plain.nv * plain.lanes;
  for (int64_t column = 0; column < columns; column += panel) {
    int64_t width = (columns - column < panel ? columns - column : panel) * plain.by;
    pack_bits_panel(&c->s->bits, &r, width, bytes, to);
    bytes += pack_k(&plain) * width;
    to += r.rows * width;
  }
  arena_free(arena);
}

void pack_elems(Module *m, Const *c, const PackSpec *s, void *to) {
  Columns columns = {s, const_data(m, c), c->type->dtype, to};
  for (int64_t i = 0; i < pack_copies(s); i++) {
    int64_t from = s->first + walk_offset(s->n_copies, s->copy, s->copy_stride, i);
    if (s->bits.n > 0 && pack_k(s) > 0) {
      pack_fields(&columns, from, (uint8_t *)to + i * pack_copy_elems(s));
    } else if (s->by > 1) {
      pack_groups(&columns, from, i * pack_copy_elems(s));
    } else {
      pack_copy(&columns, from, i * pack_copy_elems(s));
    }
  }
}

Value *pack_const(Module *m, Const *c, const PackSpec *s, const Loc *loc) {
  const Type *t = pack_type(m, s, loc);
  if (t == NULL) return NULL;
  void *bytes = arena_alloc(m->arena, (size_t)type_bytes(t));
  pack_elems(m, c, s, bytes);
  return const_borrowed(m, t, bytes, c->name);
}

// ---- folded columns

static void copy_elem(void *to, int64_t at, const void *from, int64_t i, DType t) {
  size_t size = dtype_info(t)->bits / 8;
  memcpy((uint8_t *)to + (size_t)at * size, (const uint8_t *)from + (size_t)i * size, size);
}

Value *pack_folded(Module *m, Const *c, int64_t rows, int64_t taps, int64_t step, int64_t fold) {
  const Type *t = c->type;
  int64_t o = t->dims[t->rank - 1], channels = t->dims[t->rank - 2], wide = taps + (fold - 1) * step;
  int64_t dims[4] = {rows, wide, channels, fold * o};
  const Type *type = type_tensor(m->types, t->dtype, 4, dims);
  void *bytes = arena_alloc(m->arena, (size_t)type_bytes(type));
  const void *from = const_data(m, c);
  for (int64_t i = 0; i < rows * taps * channels * o; i++) {
    int64_t out = i % o, channel = i / o % channels, tap = i / o / channels % taps, row = i / o / channels / taps;
    for (int64_t f = 0; f < fold; f++) {
      int64_t at = ((row * wide + tap + f * step) * channels + channel) * fold * o + f * o + out;
      copy_elem(bytes, at, from, i, t->dtype);
    }
  }
  return const_borrowed(m, type, bytes, c->name);
}

Value *pack_repeated(Module *m, Const *c, int64_t times) {
  int64_t n = type_count(c->type), count = n * times;
  const Type *type = type_tensor(m->types, c->type->dtype, 1, &count);
  void *bytes = arena_alloc(m->arena, (size_t)type_bytes(type));
  for (int64_t i = 0; i < count; i++) copy_elem(bytes, i, const_data(m, c), i % n, c->type->dtype);
  return const_borrowed(m, type, bytes, c->name);
}
