// Addresses, loads and stores. No byte outside the elements named by the indices is ever touched, except that a
// constant stride of 2 to 4 reads the bytes between them.
//
// Addresses are chains of byte GEPs: buffer, one step per variable in order of creation (outer loops first, so that
// LICM hoists a prefix of the chain), the constant last, where it folds into the instruction. Parameters may have any
// alignment. Vectors whose length is no power of two go through masks where the row has them; elsewhere LLVM splits
// them into exact pieces.
#include <string.h>

#include "backends/llvm/llvm.h"

LV buffer_pointer(Emit *e, const KBuf *b) {
  while (b->view_of) b = b->view_of;
  LV p = e->buf[b->id];
  QCC_CHECK(p, "kernel %s: buffer %s used outside its scope", e->k->name, b->name);
  return p;
}

Affine linear_index(const KBuf *b, const Affine *idx) {
  Affine r = aff(0);
  for (uint32_t i = 0; i < b->rank; i++) r = aff_add(r, aff_mul(idx[i], b->strides[i]));
  return r;
}

static bool term_varies(const Emit *e, const KVar *v) {
  return v == e->lane || (v->kind == KVAR_LET && e->var[v->id] && is_varying(e->var[v->id]));
}

bool affine_varies(const Emit *e, const Affine *a) {
  for (uint32_t i = 0; i < a->n; i++)
    if (term_varies(e, a->term[i].var)) return true;
  return false;
}

// A variable as an index; the lane variable gives its value in lane 0.
static LV var_index(Emit *e, const KVar *v) {
  LV x = v == e->lane ? e->lane_lo : e->var[v->id];
  QCC_CHECK(x, "kernel %s: variable %s used outside its scope", e->k->name, v->name);
  if (v->kind == KVAR_LOOP) return x;
  return LLVMBuildIntCast2(e->b, x, type_like(e->index, x), dtype_info(v->type)->cls == DC_INT, "");
}

static LV times(Emit *e, LV x, int64_t k) {
  return k == 1 ? x : LLVMBuildMul(e->b, x, lv_int(LLVMTypeOf(x), (uint64_t)k), "");
}

static LV lane_numbers(Emit *e, int64_t scale) {
  LV v[256];
  for (uint32_t i = 0; i < e->lanes; i++) v[i] = LLVMConstInt(e->index, (uint64_t)(scale * i), true);
  return LLVMConstVector(v, e->lanes);
}

LV emit_affine(Emit *e, const Affine *a) {
  LV r = lv_int(e->index, (uint64_t)a->base);
  for (uint32_t i = 0; i < a->n; i++) {
    LV v[2] = {r, times(e, var_index(e, a->term[i].var), a->term[i].coef)};
    same_shape(e, 2, v);
    r = LLVMBuildAdd(e->b, v[0], v[1], "");
  }
  int64_t step = e->lane ? aff_coef(a, e->lane) * e->lane_step : 0;
  if (!step) return r;
  return LLVMBuildAdd(e->b, splat(e, r, e->lanes), lane_numbers(e, step), "");
}

static LV gep(Emit *e, LV p, LV bytes) { return LLVMBuildGEP2(e->b, e->i8, p, &bytes, 1, ""); }
static LV gep_k(Emit *e, LV p, int64_t bytes) { return bytes ? gep(e, p, lv_int(e->index, (uint64_t)bytes)) : p; }

// Address of the access in lane 0 (or in every lane); varying terms are left out.
LV emit_address(Emit *e, const KBuf *b, const Affine *at) {
  LV p = buffer_pointer(e, b);
  int64_t size = type_size(b->type), rest = at->base * size;
  for (uint32_t i = 0; i < at->n; i++) {
    const KVar *v = at->term[i].var;
    if (v != e->lane && term_varies(e, v)) continue;
    LV x = var_index(e, v);
    int64_t scale = at->term[i].coef * size;
    if (LLVMIsAConstantInt(x))
      rest += (int64_t)LLVMConstIntGetSExtValue(x) * scale;
    else
      p = gep(e, p, times(e, x, scale));
  }
  return gep_k(e, p, rest);
}

// Byte offsets of the lanes from emit_address: a vector of indices, or NULL when the access does not vary.
static LV lane_offsets(Emit *e, const KBuf *b, const Affine *at, LV moved) {
  int64_t size = type_size(b->type), stride = e->lane ? aff_coef(at, e->lane) * e->lane_step * size : 0;
  LV r = stride ? lane_numbers(e, stride) : NULL;
  for (uint32_t i = 0; i < at->n; i++) {
    const KVar *v = at->term[i].var;
    if (v == e->lane || !term_varies(e, v)) continue;
    LV x = times(e, var_index(e, v), at->term[i].coef * size);
    r = r ? LLVMBuildAdd(e->b, r, x, "") : x;
  }
  if (!moved || !is_varying(moved)) return r;
  LV x = times(e, moved, size);
  return r ? LLVMBuildAdd(e->b, r, x, "") : x;
}

typedef struct Access {
  LT type;         // memory type of one element
  int64_t size;    // its bytes
  LV p;            // address in lane 0
  LV offsets;      // per lane when the lanes are not at a constant stride
  int64_t stride;  // elements; 0: the same in every lane
  bool local;      // reg or stack: promoted by SROA, never through masks
  int64_t behind;  // elements of a local buffer known to lie behind the last lane
} Access;

static Access access_of(Emit *e, const KBuf *b, const Affine *at, LV moved) {
  Access r = {.type = type_memory(e, b->type), .size = type_size(b->type), .p = emit_address(e, b, at)};
  r.local = b->space == SPACE_REG || b->space == SPACE_STACK;
  if (moved && !is_varying(moved)) r.p = gep(e, r.p, times(e, moved, type_size(b->type)));
  r.stride = e->lane ? aff_coef(at, e->lane) * e->lane_step : 0;
  if (r.local && e->lane) {
    Affine rest = aff_subst(*at, e->lane, aff(0));
    int64_t count = 1;
    for (uint32_t i = 0; i < b->rank; i++) count *= b->dims[i];
    if (aff_is_const(&rest) && LLVMIsNull(e->lane_lo) && kbuf_is_dense(b)) r.behind = count - rest.base - e->lanes;
  }
  bool gathers = moved && is_varying(moved);
  for (uint32_t i = 0; i < at->n; i++)
    if (at->term[i].var != e->lane && term_varies(e, at->term[i].var)) gathers = true;
  if (gathers) r.offsets = lane_offsets(e, b, at, moved);
  return r;
}

static LV element(Emit *e, const Access *a, uint32_t lane) {
  if (a->offsets) return gep(e, a->p, LLVMBuildExtractElement(e->b, a->offsets, lv_int(e->i64, lane), ""));
  return gep_k(e, a->p, a->size * a->stride * lane);
}

static LV plain_load(Emit *e, LT t, LV p) {
  LV r = LLVMBuildLoad2(e->b, t, p, "");
  LLVMSetAlignment(r, 1);
  return r;
}

static void plain_store(Emit *e, LV v, LV p) { LLVMSetAlignment(LLVMBuildStore(e->b, v, p), 1); }

static uint32_t pow2_above(uint32_t n) {
  uint32_t r = 1;
  while (r < n) r *= 2;
  return r;
}

// <width x i1> with the first n set.
static LV first_lanes(Emit *e, uint32_t n, uint32_t width) {
  LV v[256];
  for (uint32_t i = 0; i < width; i++) v[i] = LLVMConstInt(e->i1, i < n, false);
  return LLVMConstVector(v, width);
}

static LV masked_load(Emit *e, LT vector, LV p, LV mask) {
  LV args[4] = {p, lv_int(e->i32, 1), mask, LLVMConstNull(vector)};
  LT types[2] = {vector, e->ptr};
  return call_intrinsic(e, "llvm.masked.load", 2, types, 4, args);
}

static void masked_store(Emit *e, LV v, LV p, LV mask) {
  LV args[4] = {v, p, lv_int(e->i32, 1), mask};
  LT types[2] = {LLVMTypeOf(v), e->ptr};
  call_intrinsic(e, "llvm.masked.store", 2, types, 4, args);
}

// The first `have` lanes of a followed by the first `more` of b, a vector of the same type.
static LV join(Emit *e, LV a, LV b, uint32_t have, uint32_t more) {
  int32_t lanes[256];
  for (uint32_t i = 0; i < have + more; i++) lanes[i] = (int32_t)i;
  return shuffle(e, a, b, have + more, lanes);
}

// Several registers of a buffer in registers, read as they were written; the last one whole where the buffer has it.
static LV load_registers(Emit *e, const Access *a) {
  uint32_t lanes = target_lanes(&e->row->t, (uint32_t)a->size * 8), have = lanes;
  uint32_t whole = (e->lanes + lanes - 1) / lanes * lanes;
  if (e->lanes <= lanes || whole > e->lanes + a->behind) return plain_load(e, LLVMVectorType(a->type, e->lanes), a->p);
  LT vector = LLVMVectorType(a->type, lanes);
  LV r = plain_load(e, vector, a->p);
  for (; have < whole; have += lanes) {
    LV v = resize_lanes(e, plain_load(e, vector, gep_k(e, a->p, have * a->size)), have);
    r = join(e, r, v, have, lanes);
  }
  return whole > e->lanes ? resize_lanes(e, r, e->lanes) : r;
}

// `n` lanes from p.
static LV load_first(Emit *e, const Access *a, LV p, uint32_t n) {
  uint32_t width = pow2_above(n);
  if (width == n || !e->row->t.has_masks) return plain_load(e, LLVMVectorType(a->type, n), p);
  LV wide = masked_load(e, LLVMVectorType(a->type, width), p, first_lanes(e, n, width));
  return resize_lanes(e, wide, n);
}

// LLVM takes a masked load of several registers apart into elements: whole registers first, then what is left.
static LV load_contiguous(Emit *e, const Access *a) {
  uint32_t lanes = target_lanes(&e->row->t, (uint32_t)a->size * 8);
  if (a->local) return load_registers(e, a);
  if (e->mask) return masked_load(e, LLVMVectorType(a->type, e->lanes), a->p, e->mask);
  if (e->lanes <= lanes || pow2_above(e->lanes) == e->lanes) return load_first(e, a, a->p, e->lanes);
  LV r = plain_load(e, LLVMVectorType(a->type, lanes), a->p);
  for (uint32_t have = lanes; have < e->lanes; have += lanes) {
    uint32_t more = e->lanes - have < lanes ? e->lanes - have : lanes;
    LV next = load_first(e, a, gep_k(e, a->p, have * a->size), more);
    r = join(e, r, resize_lanes(e, next, have), have, more);
  }
  return r;
}

// Stride 2 to 4 over a power of two of lanes: `stride` overlapping loads that together cover exactly the bytes from the
// first to the last element, each giving the elements it holds.
static LV load_strided(Emit *e, const Access *a) {
  uint32_t n = e->lanes, s = (uint32_t)a->stride;
  LT vector = LLVMVectorType(a->type, n);
  LV r = NULL;
  for (uint32_t part = 0; part < s; part++) {
    uint32_t start = part * n;
    if (start > (n - 1) * s + 1 - n) start = (n - 1) * s + 1 - n;
    LV v = plain_load(e, vector, gep_k(e, a->p, start * a->size));
    int32_t lanes[256];
    for (uint32_t i = 0; i < n; i++) {
      uint32_t at = i * s;
      bool here = at >= start && at < start + n && at >= part * n;
      lanes[i] = here ? (int32_t)(r ? n + at - start : at - start) : at < part * n ? (int32_t)i : -1;
    }
    r = shuffle(e, r ? r : v, r ? v : NULL, n, lanes);
  }
  return r;
}

static LV gather(Emit *e, const Access *a, LV mask) {
  LT vector = LLVMVectorType(a->type, e->lanes);
  LV pointers = gep(e, a->p, a->offsets ? a->offsets : lane_numbers(e, a->stride * a->size));
  LV args[4] = {pointers, lv_int(e->i32, 1), mask, LLVMConstNull(vector)};
  LT types[2] = {vector, LLVMTypeOf(pointers)};
  return call_intrinsic(e, "llvm.masked.gather", 2, types, 4, args);
}

static LV load_lanes(Emit *e, const Access *a) {
  LV r = LLVMGetPoison(LLVMVectorType(a->type, e->lanes));
  for (uint32_t i = 0; i < e->lanes; i++)
    r = LLVMBuildInsertElement(e->b, r, plain_load(e, a->type, element(e, a, i)), lv_int(e->i64, i), "");
  return r;
}

// Every `stride`th element of a buffer in registers: the registers that hold them, whole, and shuffles. NULL where the
// place is not known or the buffer is not made of whole registers.
static LV load_register_column(Emit *e, const KBuf *b, const Affine *at, const Access *a) {
  uint32_t width = target_lanes(&e->row->t, (uint32_t)a->size * 8), n = e->lanes, s = (uint32_t)a->stride;
  int64_t count = 1, base = at->base;
  for (uint32_t i = 0; i < b->rank; i++) count *= b->dims[i];
  bool known = at->n == 1 && at->term[0].var == e->lane && LLVMIsNull(e->lane_lo) && kbuf_is_dense(b);
  if (!known || a->stride < 2 || a->stride > 8 || n > width || e->mask || count % width != 0) return NULL;
  LV r = NULL, place = buffer_pointer(e, b);
  uint32_t first = (uint32_t)base / width, last = ((uint32_t)base + (n - 1) * s) / width;
  for (uint32_t v = first; v <= last; v++) {
    LV row = plain_load(e, LLVMVectorType(a->type, width), gep_k(e, place, (int64_t)v * width * a->size));
    int32_t lanes[64];
    for (uint32_t i = 0; i < width; i++) {
      uint32_t from = (uint32_t)base + i * s;
      bool here = i < n && from / width == v, before = i < n && from / width < v;
      lanes[i] = here ? (int32_t)((r ? width : 0) + from % width) : before ? (int32_t)i : -1;
    }
    r = shuffle(e, r ? r : row, r ? row : NULL, width, lanes);
  }
  return n < width ? resize_lanes(e, r, n) : r;
}

static LV load_varying(Emit *e, const Access *a) {
  if (!a->offsets && a->stride == 1) return load_contiguous(e, a);
  if (e->mask) return gather(e, a, e->mask);
  if (a->offsets) return gather(e, a, first_lanes(e, e->lanes, e->lanes));
  bool pow2 = pow2_above(e->lanes) == e->lanes;
  if (pow2 && e->lanes >= 4 && a->stride >= 2 && a->stride <= 4 && !a->local) return load_strided(e, a);
  return load_lanes(e, a);
}

// ---- columns of square register tiles: transposes

// Lanes run down column at->base of a tile as wide as the vector.
static bool is_tile_column(const Emit *e, const KBuf *b, const Affine *at, const Access *a) {
  uint32_t n = e->lanes;
  bool square = b->rank == 2 && b->dims[0] == n && b->dims[1] == n && kbuf_is_dense(b);
  bool sized = n >= 4 && n <= 16 && pow2_above(n) == n && a->stride == n && !a->offsets && !e->mask;
  return b->space == SPACE_REG && square && sized && at->n == 1 && at->base >= 0 && at->base < n &&
         LLVMIsNull(e->lane_lo);
}

// Round k exchanges blocks of k lanes between rows k apart. One column needs one row of each pair, n - 1 shuffles; all
// columns together share most of them, which LLVM finds.
static LV load_tile_column(Emit *e, const KBuf *b, const Access *a, uint32_t column) {
  uint32_t n = e->lanes;
  LV row[16], base = buffer_pointer(e, b);
  for (uint32_t i = 0; i < n; i++) row[i] = plain_load(e, LLVMVectorType(a->type, n), gep_k(e, base, i * n * a->size));
  for (uint32_t k = 1; k < n; k *= 2) {
    int32_t lanes[16];
    for (uint32_t l = 0; l < n; l++) {
      lanes[l] = (int32_t)(column & k ? (l & k ? n + l : l + k) : (l & k ? n + l - k : l));
    }
    for (uint32_t i = 0; i < n; i++) {
      if ((i & k) || ((i ^ column) & (k - 1))) continue;
      row[i | (column & k)] = shuffle(e, row[i], row[i + k], n, lanes);
    }
  }
  return row[column];
}

// ---- columns of byte tiles 16 wide

// Lanes run down column at->base of a tile of 16 columns, its height a multiple of 16.
static bool is_byte_column(const Emit *e, const KBuf *b, const Affine *at, const Access *a) {
  uint32_t n = e->lanes;
  bool tall = b->rank == 2 && b->dims[0] == n && b->dims[1] == 16 && kbuf_is_dense(b) && a->size == 1;
  bool sized = n >= 16 && n <= 64 && n % 16 == 0 && a->stride == 16 && !a->offsets && !e->mask;
  return b->space == SPACE_REG && tall && sized && at->n == 1 && at->base >= 0 && at->base < 16 &&
         LLVMIsNull(e->lane_lo);
}

// Row `row` of every group of 16, one behind the other.
static LV byte_rows(Emit *e, const KBuf *b, uint32_t row) {
  LT sixteen = LLVMVectorType(e->i8, 16);
  LV base = buffer_pointer(e, b), r = plain_load(e, sixteen, gep_k(e, base, row * 16));
  for (uint32_t have = 16; have < e->lanes; have += 16) {
    LV more = plain_load(e, sixteen, gep_k(e, base, (have + row) * 16));
    r = join(e, r, have > 16 ? resize_lanes(e, more, have) : more, have, 16);
  }
  return r;
}

// The low or high halves of every group of 16 bytes interleaved.
static LV interleave_groups(Emit *e, LV a, LV b, uint32_t high) {
  int32_t lanes[64];
  for (uint32_t i = 0; i < e->lanes; i++)
    lanes[i] = (int32_t)(i / 16 * 16 + i % 16 / 2 + 8 * high + (i % 2) * e->lanes);
  return shuffle(e, a, b, e->lanes, lanes);
}

// A round interleaves rows 8 apart, in every group of 16 bytes: the low halves become an even row, the high halves the
// odd one behind it. Four rounds rotate the row's number into the byte's and back. One column needs 15 of the
// interleavings, all columns together four rounds of 16, which LLVM finds.
static LV load_byte_column(Emit *e, const KBuf *b, uint32_t column) {
  LV row[16];
  for (uint32_t i = 0; i < 16; i++) row[i] = byte_rows(e, b, i);
  for (uint32_t t = 0; t < 4; t++) {
    LV next[16];
    for (uint32_t i = 0; i < 16; i++) {
      bool wanted = (i & ((2u << t) - 1)) == column >> (3 - t);
      next[i] = wanted ? interleave_groups(e, row[i / 2], row[i / 2 + 8], i & 1) : NULL;
    }
    memcpy(row, next, sizeof row);
  }
  return row[column];
}

LV emit_load(Emit *e, const KBuf *b, const Affine *at, LV moved) {
  Access a = access_of(e, b, at, moved);
  if (is_byte_column(e, b, at, &a)) return load_byte_column(e, b, (uint32_t)at->base);
  if (is_tile_column(e, b, at, &a)) {
    LV column = load_tile_column(e, b, &a, (uint32_t)at->base);
    return b->type == DT_BOOL ? LLVMBuildICmp(e->b, LLVMIntNE, column, lv_int(LLVMTypeOf(column), 0), "") : column;
  }
  LV parts = b->space == SPACE_REG && !a.offsets ? load_register_column(e, b, at, &a) : NULL;
  if (parts != NULL && b->type != DT_BOOL) return parts;
  LV r = a.offsets || a.stride ? load_varying(e, &a) : plain_load(e, a.type, a.p);
  return b->type == DT_BOOL ? LLVMBuildICmp(e->b, LLVMIntNE, r, lv_int(LLVMTypeOf(r), 0), "") : r;
}

static void store_contiguous(Emit *e, const Access *a, LV v) {
  if (a->local) {
    LV old = e->mask ? plain_load(e, LLVMTypeOf(v), a->p) : NULL;
    plain_store(e, old ? LLVMBuildSelect(e->b, e->mask, v, old, "") : v, a->p);
    return;
  }
  uint32_t width = pow2_above(e->lanes);
  if (e->mask)
    masked_store(e, v, a->p, e->mask);
  else if (width == e->lanes || !e->row->t.has_masks)
    plain_store(e, v, a->p);
  else
    masked_store(e, resize_lanes(e, v, width), a->p, first_lanes(e, e->lanes, width));
}

// Overlapping lanes are written in order, as LLVM defines for scatter.
static void scatter(Emit *e, const Access *a, LV v, LV mask) {
  LV pointers = gep(e, a->p, a->offsets ? a->offsets : lane_numbers(e, a->stride * a->size));
  LV args[4] = {v, pointers, lv_int(e->i32, 1), mask};
  LT types[2] = {LLVMTypeOf(v), LLVMTypeOf(pointers)};
  call_intrinsic(e, "llvm.masked.scatter", 2, types, 4, args);
}

static void store_varying(Emit *e, const Access *a, LV v) {
  if (!a->offsets && a->stride == 1) {
    store_contiguous(e, a, v);
  } else if (e->mask) {
    scatter(e, a, v, e->mask);
  } else {
    for (uint32_t i = a->stride || a->offsets ? 0 : e->lanes - 1; i < e->lanes; i++)
      plain_store(e, LLVMBuildExtractElement(e->b, v, lv_int(e->i64, i), ""), element(e, a, i));
  }
}

void emit_store(Emit *e, const KBuf *b, const Affine *at, LV value) {
  Access a = access_of(e, b, at, NULL);
  if (b->type == DT_BOOL) value = LLVMBuildZExt(e->b, value, type_like(e->i8, value), "");
  if (a.offsets || a.stride || is_varying(value))
    store_varying(e, &a, splat(e, value, e->lanes));
  else
    plain_store(e, value, a.p);
}
