// Tensors of a model file in every storage form ONNX allows: raw_data, the typed lists, external files, sparse.
//
// One form only, of exactly the right length; typed lists hold small types in wider entries, so their values are range
// checked. Raw and external bytes and lists of fixed-size entries are used where they lie (ONNX packs 4- and 2-bit
// elements LSB first, as constants do); only varint lists, bytes with dirty tail bits and sparse tensors are copied.
#include "frontend/onnx_tensor.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor bytes are used as they lie in the file");

enum {
  FIELD_FLOAT = 4,
  FIELD_INT32 = 5,
  FIELD_STRING = 6,
  FIELD_INT64 = 7,
  FIELD_RAW = 9,
  FIELD_DOUBLE = 10,
  FIELD_UINT64 = 11
};

// The stored form of a tensor inside the message: one field, either unpacked or left in the file.
typedef struct Form {
  uint32_t field;  // 0: no data
  const char *name;
  const void *items;    // unpacked entries or raw bytes
  size_t n_items;       // entries (bytes for raw_data)
  const uint8_t *span;  // or the bytes of the field in the file
  size_t span_bytes;
} Form;

typedef struct Reader {
  TensorStore *store;
  const Loc *loc;
  const char *what;
  const Onnx__TensorProto *t;
  TensorData *out;
  const char **why;
} Reader;

static const struct {
  int32_t onnx;
  const char *name;
} foreign_types[] = {{8, "string"}, {14, "complex64"}, {15, "complex128"}};

const char *onnx_type_name(int64_t onnx) {
  for (size_t i = 0; i < sizeof foreign_types / sizeof foreign_types[0]; i++)
    if (foreign_types[i].onnx == onnx) return foreign_types[i].name;
  DType t = dtype_by_onnx(onnx);
  return t == DT_NONE ? NULL : dtype_info(t)->name;
}

static bool lacks(Reader *r, const char *why) {
  r->out->unsupported = true;
  *r->why = why;
  return false;
}

#define refuse(r, ...) diag_error((r)->store->m->diag, DIAG_REFUSED, (r)->loc, __VA_ARGS__)

// ---- type

static bool read_type(Reader *r) {
  const Onnx__TensorProto *t = r->t;
  Module *m = r->store->m;
  DType d = dtype_by_onnx(t->data_type);
  if (!onnx_type_name(t->data_type)) return refuse(r, "%s: element type %d is no ONNX type", r->what, t->data_type);
  if (d == DT_NONE || d == DT_STR)
    return lacks(r, arena_printf(m->arena, "tensors of type %s", onnx_type_name(t->data_type)));
  if (t->segment) return lacks(r, "tensors split into segments");
  if (t->n_dims > MAX_RANK) return lacks(r, "tensors of more than 8 dimensions");
  for (size_t i = 0; i < t->n_dims; i++)
    if (t->dims[i] < 0)
      return refuse(r, "%s: dimension %zu is %lld, expected 0 or more", r->what, i, (long long)t->dims[i]);
  int64_t count;
  if (!dims_count((uint32_t)t->n_dims, t->dims, &count))
    return diag_error(m->diag, DIAG_LIMIT, r->loc, "%s: its shape has more than 2^40 elements", r->what);
  r->out->type = type_tensor(m->types, d, (uint32_t)t->n_dims, t->dims);
  return true;
}

// ---- form

static bool add_form(Reader *r, Form *form, Form more) {
  if (more.n_items == 0 && !more.span) return true;
  if (form->field) return refuse(r, "%s: data in both %s and %s, expected one form", r->what, form->name, more.name);
  *form = more;
  return true;
}

static const char *field_name(uint32_t field) {
  const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(&onnx__tensor_proto__descriptor, field);
  return f ? f->name : "data";
}

static bool find_form(Reader *r, Form *form) {
  const Onnx__TensorProto *t = r->t;
  const Form given[] = {
      {FIELD_FLOAT, "float_data", t->float_data, t->n_float_data, NULL, 0},
      {FIELD_INT32, "int32_data", t->int32_data, t->n_int32_data, NULL, 0},
      {FIELD_STRING, "string_data", t->string_data, t->n_string_data, NULL, 0},
      {FIELD_INT64, "int64_data", t->int64_data, t->n_int64_data, NULL, 0},
      {FIELD_RAW, "raw_data", t->raw_data.data, t->raw_data.len, NULL, 0},
      {FIELD_DOUBLE, "double_data", t->double_data, t->n_double_data, NULL, 0},
      {FIELD_UINT64, "uint64_data", t->uint64_data, t->n_uint64_data, NULL, 0},
  };
  *form = (Form){0};
  for (size_t i = 0; i < sizeof given / sizeof given[0]; i++)
    if (!add_form(r, form, given[i])) return false;
  for (size_t i = 0; i < t->n_payload; i++) {
    QCC_CHECK(t->payload[i] < r->store->n_spans, "payload number %u", t->payload[i]);
    const WireSpan *s = &r->store->spans[t->payload[i]];
    Form more = {s->field, field_name(s->field), NULL, 0, r->store->bytes + s->offset, s->length};
    if (!add_form(r, form, more)) return false;
  }
  return true;
}

static uint32_t expected_field(DType t) {
  switch (t) {
    case DT_F32: return FIELD_FLOAT;
    case DT_F64: return FIELD_DOUBLE;
    case DT_I64: return FIELD_INT64;
    case DT_U64:
    case DT_U32: return FIELD_UINT64;
    default: return FIELD_INT32;
  }
}

// ---- bytes

// Booleans are 0 or 1 and the unused bits of the last byte are 0; borrowed bytes that differ are copied.
static bool take_bytes(Reader *r, const void *bytes) {
  const Type *type = r->out->type;
  int64_t count = type_count(type), n = type_bytes(type);
  const uint8_t *b = bytes;
  r->out->bytes = n ? bytes : "";
  if (type->dtype == DT_BOOL)
    for (int64_t i = 0; i < n; i++)
      if (b[i] > 1) return refuse(r, "%s: element %lld of a bool tensor is %u", r->what, (long long)i, b[i]);
  uint32_t used = (uint32_t)((uint64_t)count * dtype_info(type->dtype)->bits % 8);
  if (used && b[n - 1] >> used) {
    uint8_t *copy = arena_copy(r->store->m->arena, bytes, (size_t)n);
    copy[n - 1] &= (uint8_t)((1u << used) - 1);
    r->out->bytes = copy;
  }
  return true;
}

static bool length_fault(Reader *r, const char *field, uint64_t found, const char *unit, uint64_t expected) {
  return refuse(r, "%s: %s holds %llu %s, its shape %s needs %llu", r->what, field, (unsigned long long)found, unit,
                type_text(r->store->m->arena, r->store->m->types, r->out->type), (unsigned long long)expected);
}

static bool read_raw(Reader *r, const Form *form) {
  uint64_t have = form->span ? form->span_bytes : form->n_items;
  if (have != (uint64_t)type_bytes(r->out->type))
    return length_fault(r, form->name, have, "bytes", (uint64_t)type_bytes(r->out->type));
  return take_bytes(r, form->span ? form->span : form->items);
}

// Float and double lists are their bytes.
static bool read_fixed(Reader *r, const Form *form, size_t size) {
  uint64_t have = form->span ? form->span_bytes / size : form->n_items;
  if (have != (uint64_t)type_count(r->out->type))
    return length_fault(r, form->name, have, "values", (uint64_t)type_count(r->out->type));
  return take_bytes(r, form->span ? form->span : form->items);
}

typedef struct EntryRange {
  uint32_t bytes;  // stored per entry
  int64_t lo;
  uint64_t hi;
} EntryRange;

// What one entry of an integer list may hold for an element type.
static EntryRange entry_range(DType t) {
  const DTypeInfo *info = dtype_info(t);
  if (info->bits < 8) return (EntryRange){1, 0, 255};  // a byte of packed elements
  if (info->cls == DC_BOOL) return (EntryRange){1, 0, 1};
  if (info->cls == DC_FLOAT) return (EntryRange){info->bits / 8, 0, (UINT64_C(1) << info->bits) - 1};
  if (t == DT_U64) return (EntryRange){8, 0, UINT64_MAX};
  return (EntryRange){info->bits / 8, dtype_min(t), (uint64_t)dtype_max(t)};
}

static uint64_t item_at(const Form *form, size_t i) {
  if (form->field == FIELD_INT32) return (uint64_t)(int64_t)((const int32_t *)form->items)[i];
  return ((const uint64_t *)form->items)[i];
}

// Lists of varints: int32_data, int64_data, uint64_data.
static bool read_varints(Reader *r, const Form *form) {
  DType t = r->out->type->dtype;
  EntryRange range = entry_range(t);
  uint64_t need = dtype_info(t)->bits < 8 ? (uint64_t)type_bytes(r->out->type) : (uint64_t)type_count(r->out->type);
  uint64_t most = form->span ? form->span_bytes : form->n_items;  // a varint has at least one byte
  if (need > most) return length_fault(r, form->name, most, form->span ? "bytes of values" : "values", need);
  uint8_t *to = arena_array(r->store->m->arena, need, range.bytes);
  const uint8_t *at = form->span, *end = form->span ? form->span + form->span_bytes : NULL;
  uint64_t n = 0;
  for (; form->span ? at < end : n < form->n_items; n++) {
    uint64_t v;
    if (form->span) {
      at += wire_varint(at, end, &v);
      if (form->field == FIELD_INT32) v = (uint64_t)(int64_t)(int32_t)(uint32_t)v;
    } else {
      v = item_at(form, n);
    }
    bool negative = form->field != FIELD_UINT64 && (int64_t)v < 0;
    if (negative ? (int64_t)v < range.lo : v > range.hi)
      return refuse(r, "%s: value %lld in %s does not fit its type %s", r->what, (long long)v, form->name,
                    dtype_info(t)->name);
    if (n < need) memcpy(to + n * range.bytes, &v, range.bytes);
  }
  if (n != need) return length_fault(r, form->name, n, "values", need);
  return take_bytes(r, to);
}

// ---- external data

// Decimal digits without sign; false when it is none or does not fit 64 bits.
static bool read_number(const char *s, uint64_t *out) {
  uint64_t v = 0;
  if (!s[0]) return false;
  for (; *s; s++) {
    if (*s < '0' || *s > '9') return false;
    if (__builtin_mul_overflow(v, (uint64_t)10, &v) || __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
      return false;
  }
  *out = v;
  return true;
}

typedef struct ExternalRef {
  const char *location, *offset, *length;
} ExternalRef;

static bool read_external_keys(Reader *r, ExternalRef *ref) {
  *ref = (ExternalRef){0};
  for (size_t i = 0; i < r->t->n_external_data; i++) {
    const Onnx__StringStringEntryProto *e = r->t->external_data[i];
    const char *key = e->key ? e->key : "", *value = e->value ? e->value : "";
    const char **to = strcmp(key, "location") == 0 ? &ref->location
                      : strcmp(key, "offset") == 0 ? &ref->offset
                      : strcmp(key, "length") == 0 ? &ref->length
                                                   : NULL;
    const char *shown = str_escape(r->store->m->arena, key, 64);
    if (!to && strcmp(key, "checksum") == 0)
      return lacks(r, "external data with a checksum (qcc cannot verify it; save the model without one)");
    if (!to)
      return refuse(r, "%s: unknown key '%s' in its external data, expected location, offset, length", r->what, shown);
    if (*to) return refuse(r, "%s: key '%s' of its external data is given twice", r->what, shown);
    *to = value;
  }
  return ref->location || refuse(r, "%s: its external data has no location", r->what);
}

static bool read_external(Reader *r) {
  ExternalRef ref;
  if (!read_external_keys(r, &ref)) return false;
  Arena *arena = r->store->m->arena;
  uint64_t offset = 0, need = (uint64_t)type_bytes(r->out->type), length = need;
  if (ref.offset && !read_number(ref.offset, &offset))
    return refuse(r, "%s: external data offset '%s' is no number", r->what, str_escape(arena, ref.offset, 64));
  if (ref.length && !read_number(ref.length, &length))
    return refuse(r, "%s: external data length '%s' is no number", r->what, str_escape(arena, ref.length, 64));
  if (length != need) return length_fault(r, "external data", length, "bytes", need);
  if (offset > UINT64_MAX - length)
    return refuse(r, "%s: external data offset %s and length %llu wrap", r->what, ref.offset,
                  (unsigned long long)length);
  const ExternalFile *f = external_open(&r->store->dir, arena, r->store->m->diag, r->loc, r->what, ref.location);
  if (!f) return false;
  if (length > f->size || offset > f->size - length)
    return refuse(r, "%s: external data offset %llu and length %llu exceed the %llu bytes of '%s'", r->what,
                  (unsigned long long)offset, (unsigned long long)length, (unsigned long long)f->size,
                  str_escape(arena, ref.location, 128));
  return take_bytes(r, f->bytes + offset);
}

static bool read_data(Reader *r) {
  Form form;
  if (!find_form(r, &form)) return false;
  if (r->t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) {
    if (form.field) return refuse(r, "%s: external data and %s, expected one form", r->what, form.name);
    return read_external(r);
  }
  if (r->t->has_data_location && r->t->data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT)
    return refuse(r, "%s: unknown data location %d", r->what, (int)r->t->data_location);
  if (r->t->n_external_data)
    return refuse(r, "%s: external data is described, but the data location is not external", r->what);
  if (form.field == 0) {
    if (type_count(r->out->type) != 0)
      return length_fault(r, "the tensor", 0, "values", (uint64_t)type_count(r->out->type));
    return take_bytes(r, "");
  }
  if (form.field == FIELD_RAW) return read_raw(r, &form);
  uint32_t expected = expected_field(r->out->type->dtype);
  if (form.field != expected)
    return refuse(r, "%s: data of type %s in %s, expected %s or raw_data", r->what,
                  dtype_info(r->out->type->dtype)->name, form.name, field_name(expected));
  if (expected == FIELD_FLOAT) return read_fixed(r, &form, sizeof(float));
  if (expected == FIELD_DOUBLE) return read_fixed(r, &form, sizeof(double));
  return read_varints(r, &form);
}

bool tensor_read(TensorStore *store, const Loc *loc, const char *what, const Onnx__TensorProto *t, TensorData *out,
                 const char **why) {
  *out = (TensorData){0};
  Reader r = {store, loc, what, t, out, why};
  return read_type(&r) && read_data(&r);
}

// ---- sparse tensors

// Flat position of entry k, -1 when it is outside the shape. Indices are [n] (flat) or [n, rank].
static int64_t sparse_position(const TensorData *indices, const Type *type, int64_t count, int64_t k) {
  const uint8_t *bytes = indices->bytes;
  int64_t v, flat = 0;
  if (indices->type->rank == 1) {
    memcpy(&v, bytes + k * 8, 8);
    return v >= 0 && v < count ? v : -1;
  }
  for (uint32_t a = 0; a < type->rank; a++) {
    memcpy(&v, bytes + (k * type->rank + a) * 8, 8);
    if (v < 0 || v >= type->dims[a]) return -1;
    flat = flat * type->dims[a] + v;
  }
  return flat;
}

static bool sparse_shapes_fit(const Onnx__SparseTensorProto *t, const TensorData *values, const TensorData *indices) {
  if (values->type->rank != 1 || indices->type->dtype != DT_I64) return false;
  if (indices->type->rank == 0 || indices->type->rank > 2 || indices->type->dims[0] != values->type->dims[0])
    return false;
  return indices->type->rank == 1 || indices->type->dims[1] == (int64_t)t->n_dims;
}

static bool sparse_fill(Reader *r, const TensorData *values, const TensorData *indices) {
  const Type *type = r->out->type;
  int64_t count = type_count(type), n = values->type->dims[0], last = -1;
  size_t size = dtype_info(type->dtype)->bits / 8;
  uint8_t *dense = arena_alloc(r->store->m->arena, (size_t)type_bytes(type));
  for (int64_t k = 0; k < n; k++) {
    int64_t at = sparse_position(indices, type, count, k);
    if (at < 0) return refuse(r, "%s: index %lld is outside its shape", r->what, (long long)k);
    if (at <= last)
      return refuse(r, "%s: indices must ascend without repeats, index %lld does not", r->what, (long long)k);
    memcpy(dense + (size_t)at * size, (const uint8_t *)values->bytes + (size_t)k * size, size);
    last = at;
  }
  r->out->bytes = dense;
  return true;
}

bool tensor_read_sparse(TensorStore *store, const Loc *loc, const char *what, const Onnx__SparseTensorProto *t,
                        int64_t max_bytes, TensorData *out, const char **why) {
  *out = (TensorData){0};
  Reader r = {store, loc, what, NULL, out, why};
  Module *m = store->m;
  TensorData values, indices;
  if (!t->values || !t->indices) return refuse(&r, "%s: a sparse tensor needs values and indices", what);
  const char *part = arena_printf(m->arena, "values of %s", what);
  if (!tensor_read(store, loc, part, t->values, &values, why)) return out->unsupported = values.unsupported, false;
  part = arena_printf(m->arena, "indices of %s", what);
  if (!tensor_read(store, loc, part, t->indices, &indices, why)) return out->unsupported = indices.unsupported, false;
  if (t->n_dims > MAX_RANK) return lacks(&r, "tensors of more than 8 dimensions");
  if (dtype_info(values.type->dtype)->bits < 8) return lacks(&r, "sparse tensors of types below 8 bits");
  if (!sparse_shapes_fit(t, &values, &indices))
    return refuse(&r, "%s: values %s and indices %s do not fit a sparse tensor of rank %zu", what,
                  type_text(m->arena, m->types, values.type), type_text(m->arena, m->types, indices.type), t->n_dims);
  int64_t count;
  if (!dims_count((uint32_t)t->n_dims, t->dims, &count))
    return diag_error(m->diag, DIAG_LIMIT, loc, "%s: its shape is negative or has more than 2^40 elements", what);
  out->type = type_tensor(m->types, values.type->dtype, (uint32_t)t->n_dims, t->dims);
  if (type_bytes(out->type) > max_bytes)
    return diag_error(m->diag, DIAG_LIMIT, loc, "%s: %lld bytes when made dense, more than the limit of %lld", what,
                      (long long)type_bytes(out->type), (long long)max_bytes);
  return sparse_fill(&r, &values, &indices);
}
