// Test data and bound inputs: TensorProto files (.pb) and NumPy files (.npy, versions 1 to 3), read and written.
//
// NumPy headers are a Python dictionary; only the three keys of the format are accepted, and only little-endian
// numbers. Fortran order is turned into C order on reading. Both kinds of file are as hostile as a model.
#include <errno.h>
#include <string.h>

#include "frontend/onnx.h"
#include "frontend/onnx_tensor.h"

static bool fail(Module *m, DiagKind kind, const char *path, const char *text) {
  Loc loc = {.file = path, .node = -1};
  return diag_error(m->diag, kind, &loc, "%s", text);
}

static bool has_suffix(const char *path, const char *suffix) {
  size_t n = strlen(path), k = strlen(suffix);
  return n >= k && strcmp(path + n - k, suffix) == 0;
}

// ---- .pb

static bool read_pb(Module *m, const char *path, const ExternalFile *f, FileTensor *out) {
  const ProtobufCMessageDescriptor *root = &onnx__tensor_proto__descriptor;
  Loc loc = {.file = path, .node = -1};
  WireScan scan;
  if (!wire_scan(m->arena, m->diag, path, root, f->bytes, f->size, &scan)) return false;
  const Onnx__TensorProto *t = (Onnx__TensorProto *)wire_unpack(m->arena, m->diag, path, root, &scan);
  wire_scan_free(&scan);
  if (!t) return false;
  TensorStore store = {.m = m, .file = path, .bytes = f->bytes, .spans = scan.spans.at, .n_spans = scan.spans.n};
  store.dir = (ExternalDir){.fd = -1};
  TensorData data;
  const char *why = NULL;
  if (!tensor_read(&store, &loc, "tensor", t, &data, &why))
    return data.unsupported ? diag_error(m->diag, DIAG_UNSUPPORTED, &loc, "not supported: %s", why) : false;
  *out = (FileTensor){t->name ? t->name : "", data.type, data.bytes};
  return true;
}

static bool write_pb(Module *m, FILE *to, const char *path, const char *name, const Type *type, const void *data) {
  Onnx__TensorProto t = ONNX__TENSOR_PROTO__INIT;
  int64_t dims[MAX_RANK];
  if (!dtype_info(type->dtype)->onnx) return fail(m, DIAG_UNSUPPORTED, path, "ONNX has no such element type");
  memcpy(dims, type->dims, sizeof dims);
  t.n_dims = type->rank;
  t.dims = dims;
  t.has_data_type = true;
  t.data_type = dtype_info(type->dtype)->onnx;
  t.name = arena_copy(m->arena, name, strlen(name) + 1);
  t.has_raw_data = true;
  t.raw_data.len = (size_t)type_bytes(type);
  t.raw_data.data = (uint8_t *)(uintptr_t)data;
  size_t n = onnx__tensor_proto__get_packed_size(&t);
  uint8_t *bytes = arena_alloc(m->arena, n);
  onnx__tensor_proto__pack(&t, bytes);
  return fwrite(bytes, 1, n, to) == n || fail(m, DIAG_IO, path, strerror(errno));
}

// ---- .npy

static const struct {
  const char *descr;
  DType type;
} npy_types[] = {{"<f4", DT_F32}, {"<f8", DT_F64}, {"<f2", DT_F16}, {"<i8", DT_I64}, {"<i4", DT_I32}, {"<i2", DT_I16},
                 {"|i1", DT_I8},  {"<u8", DT_U64}, {"<u4", DT_U32}, {"<u2", DT_U16}, {"|u1", DT_U8},  {"|b1", DT_BOOL}};
#define N_NPY_TYPES (sizeof npy_types / sizeof npy_types[0])

// The header while it is read.
typedef struct NpyHeader {
  const char *at, *end;
  DType dtype;
  bool fortran;
  uint32_t rank;
  int64_t dims[MAX_RANK];
} NpyHeader;

static void skip_blanks(NpyHeader *h) {
  while (h->at < h->end && (*h->at == ' ' || *h->at == '\n')) h->at++;
}

static bool take(NpyHeader *h, const char *text) {
  size_t n = strlen(text);
  skip_blanks(h);
  if ((size_t)(h->end - h->at) < n || memcmp(h->at, text, n) != 0) return false;
  h->at += n;
  return true;
}

static bool take_quoted(NpyHeader *h, char text[24]) {
  skip_blanks(h);
  if (h->at == h->end || (*h->at != '\'' && *h->at != '"')) return false;
  char quote = *h->at++;
  size_t n = 0;
  while (h->at < h->end && *h->at != quote && n < 23) text[n++] = *h->at++;
  text[n] = 0;
  return h->at < h->end && *h->at++ == quote;
}

static bool take_dims(NpyHeader *h) {
  if (!take(h, "(")) return false;
  while (!take(h, ")")) {
    int64_t v = 0;
    const char *start = h->at;
    while (h->at < h->end && *h->at >= '0' && *h->at <= '9')
      if (__builtin_mul_overflow(v, (int64_t)10, &v) || __builtin_add_overflow(v, (int64_t)(*h->at++ - '0'), &v))
        return false;
    if (h->at == start || h->rank == MAX_RANK) return false;
    h->dims[h->rank++] = v;
    if (!take(h, ",") && !(take(h, ")") && (h->at--, true))) return false;
  }
  return true;
}

static bool take_entry(NpyHeader *h, uint32_t *seen) {
  char key[24], descr[24];
  if (!take_quoted(h, key) || !take(h, ":")) return false;
  uint32_t bit = strcmp(key, "descr") == 0           ? 1
                 : strcmp(key, "fortran_order") == 0 ? 2
                 : strcmp(key, "shape") == 0         ? 4
                                                     : 0;
  if (bit == 0 || (*seen & bit)) return false;
  *seen |= bit;
  if (bit == 2) {
    h->fortran = take(h, "True");
    return h->fortran || take(h, "False");
  }
  if (bit == 4) return take_dims(h);
  if (!take_quoted(h, descr)) return false;
  for (size_t i = 0; i < N_NPY_TYPES; i++)
    if (strcmp(descr + 1, npy_types[i].descr + 1) == 0 && descr[0] != '>') h->dtype = npy_types[i].type;
  return true;
}

static bool take_header(NpyHeader *h) {
  uint32_t seen = 0;
  if (!take(h, "{")) return false;
  while (!take(h, "}")) {
    if (!take_entry(h, &seen)) return false;
    take(h, ",");
  }
  return seen == 7;
}

// Fortran order: the first index runs fastest.
static const void *to_c_order(Module *m, const Type *type, const uint8_t *data) {
  size_t size = dtype_info(type->dtype)->bits / 8;
  uint8_t *to = arena_alloc(m->arena, (size_t)type_bytes(type));
  int64_t index[MAX_RANK] = {0}, n = type_count(type);
  for (int64_t i = 0; i < n; i++) {
    int64_t flat = 0;
    for (uint32_t a = type->rank; a-- > 0;) flat = flat * type->dims[a] + index[a];
    memcpy(to + (size_t)i * size, data + (size_t)flat * size, size);
    for (uint32_t a = type->rank; a-- > 0 && ++index[a] == type->dims[a];) index[a] = 0;
  }
  return to;
}

static bool read_npy(Module *m, const char *path, const ExternalFile *f, FileTensor *out) {
  const uint8_t *b = f->bytes;
  if (f->size < 10 || memcmp(b, "\x93NUMPY", 6) != 0) return fail(m, DIAG_REFUSED, path, "not a NumPy file");
  if (b[6] < 1 || b[6] > 3) return fail(m, DIAG_UNSUPPORTED, path, "NumPy format versions 1 to 3 are known");
  uint64_t prefix = b[6] == 1 ? 10 : 12, length = b[8] | (uint64_t)b[9] << 8;
  if (b[6] > 1 && f->size >= 12) length |= (uint64_t)b[10] << 16 | (uint64_t)b[11] << 24;
  if (f->size < prefix || length > f->size - prefix) return fail(m, DIAG_REFUSED, path, "the NumPy header is cut");
  NpyHeader h = {.at = (const char *)b + prefix, .end = (const char *)b + prefix + length};
  if (!take_header(&h))
    return fail(m, DIAG_REFUSED, path, "the NumPy header is malformed or has more than 8 dimensions");
  if (h.dtype == DT_NONE)
    return fail(m, DIAG_UNSUPPORTED, path, "element type of the NumPy file; little-endian numbers and bool are known");
  int64_t count;
  if (!dims_count(h.rank, h.dims, &count)) return fail(m, DIAG_LIMIT, path, "more than 2^40 elements");
  out->name = "";
  out->type = type_tensor(m->types, h.dtype, h.rank, h.dims);
  out->data = b + prefix + length;
  if (f->size - prefix - length != (uint64_t)type_bytes(out->type))
    return fail(m, DIAG_REFUSED, path, "the data does not have the length its shape needs");
  if (h.fortran && h.rank > 1) out->data = to_c_order(m, out->type, out->data);
  return true;
}

static bool write_npy(Module *m, FILE *to, const char *path, const Type *type, const void *data) {
  const char *descr = NULL;
  for (size_t i = 0; i < N_NPY_TYPES; i++)
    if (npy_types[i].type == type->dtype) descr = npy_types[i].descr;
  if (!descr) return fail(m, DIAG_UNSUPPORTED, path, "NumPy has no such element type; write a .pb file");
  StrBuf b;
  strbuf_init(&b, m->arena);
  strbuf_printf(&b, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
  for (uint32_t i = 0; i < type->rank; i++)
    strbuf_printf(&b, "%lld%s", (long long)type->dims[i], i + 1 < type->rank ? ", " : type->rank == 1 ? "," : "");
  strbuf_puts(&b, "), }");
  while ((10 + b.n + 1) % 64) strbuf_putc(&b, ' ');
  strbuf_putc(&b, '\n');
  uint8_t head[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)(b.n & 255), (uint8_t)(b.n >> 8)};
  size_t n = (size_t)type_bytes(type);
  bool ok = fwrite(head, 1, 10, to) == 10 && fwrite(b.at, 1, b.n, to) == b.n && (n == 0 || fwrite(data, 1, n, to) == n);
  return ok || fail(m, DIAG_IO, path, strerror(errno));
}

// ---- by extension

bool tensor_file_read(Module *m, const char *path, FileTensor *out) {
  const ExternalFile *f = file_map(m->arena, m->diag, path);
  if (!f) return false;
  return has_suffix(path, ".npy") ? read_npy(m, path, f, out) : read_pb(m, path, f, out);
}

bool tensor_file_write(Module *m, const char *path, const char *name, const Type *type, const void *data) {
  bool npy = has_suffix(path, ".npy");
  if (!npy && !has_suffix(path, ".pb")) return fail(m, DIAG_USAGE, path, "expected a file name ending in .pb or .npy");
  FILE *to = fopen(path, "wb");
  if (!to) return fail(m, DIAG_IO, path, strerror(errno));
  bool ok = npy ? write_npy(m, to, path, type, data) : write_pb(m, to, path, name, type, data);
  if (fclose(to) != 0 && ok) ok = fail(m, DIAG_IO, path, strerror(errno));
  if (!ok) remove(path);
  return ok;
}
