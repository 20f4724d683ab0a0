// Tensors of model files: every storage form, exact lengths, value ranges, external files, sparse, .pb and .npy files.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontend/onnx.h"
#include "frontend/onnx_tensor.h"
#include "ir/elem.h"
#include "tests/onnx_build.h"

static Arena *arena;
static Diag *diag;
static Module *m;
static TensorStore store;
static const Loc loc = {.file = "t.onnx", .node = -1};
static char dir[64];

static void setup(void) {
  arena = arena_new("test");
  diag = diag_new(arena, NULL);
  m = module_new(arena, diag);
  strcpy(dir, "/tmp/qcc-tensor-XXXXXX");
  cr_assert(mkdtemp(dir));
  store =
      (TensorStore){.m = m, .file = "t.onnx", .dir = {.path = dir, .allowed = true, .fd = -1, .files = map_new(arena)}};
}

static void teardown(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", dir);
  cr_assert_eq(system(command), 0);
  external_close(&store.dir);
  arena_free(arena);
}
TestSuite(onnx_tensor, .init = setup, .fini = teardown);

static Onnx__TensorProto *tensor(DType type, int64_t n) { return build_tensor(arena, "w", type, 1, &n, NULL, 0); }

static bool read_tensor(const Onnx__TensorProto *t, TensorData *out) {
  const char *why = NULL;
  return tensor_read(&store, &loc, "initializer 'w'", t, out, &why);
}

static void refused(const Onnx__TensorProto *t, const char *text) {
  TensorData out;
  cr_assert(!read_tensor(t, &out), "accepted, expected: %s", text);
  cr_assert(!out.unsupported);
  cr_assert(strstr(diag_text(diag), text), "expected '%s' in: %s", text, diag_text(diag));
}

static void set_raw(Onnx__TensorProto *t, const void *bytes, size_t n) {
  t->has_raw_data = true;
  t->raw_data = (ProtobufCBinaryData){n, arena_copy(arena, bytes, n)};
}

Test(onnx_tensor, raw_lengths_are_exact_for_every_type) {
  static const uint8_t zeros[64];
  for (int d = 1; d < DT_COUNT; d++) {
    if (!dtype_info((DType)d)->onnx || d == DT_STR) continue;
    size_t bytes = (5 * dtype_info((DType)d)->bits + 7) / 8;
    for (int off = -1; off <= 1; off++) {
      Onnx__TensorProto *t = tensor((DType)d, 5);
      TensorData out;
      set_raw(t, zeros, bytes + (size_t)off);
      cr_assert_eq(read_tensor(t, &out), off == 0, "%s with %+d bytes", dtype_info((DType)d)->name, off);
    }
  }
}

Test(onnx_tensor, raw_bytes_are_borrowed) {
  float v[2] = {1, 2};
  Onnx__TensorProto *t = tensor(DT_F32, 2);
  TensorData out;
  set_raw(t, v, sizeof v);
  cr_assert(read_tensor(t, &out));
  cr_assert_eq(out.bytes, (const void *)t->raw_data.data);
}

Test(onnx_tensor, dirty_tail_bits_are_cleared) {
  uint8_t v[2] = {0x21, 0xf3};
  Onnx__TensorProto *t = tensor(DT_U4, 3);
  TensorData out;
  set_raw(t, v, sizeof v);
  cr_assert(read_tensor(t, &out));
  cr_assert_eq(((const uint8_t *)out.bytes)[1], 0x03);
  cr_assert_eq(elem_get_i(out.bytes, DT_U4, 2), 3);
}

Test(onnx_tensor, bool_is_0_or_1) {
  uint8_t v[2] = {1, 2};
  Onnx__TensorProto *t = tensor(DT_BOOL, 2);
  set_raw(t, v, sizeof v);
  refused(t, "bool");
}

static Onnx__TensorProto *int32s(DType type, int64_t n, size_t n_items, const int32_t *items) {
  Onnx__TensorProto *t = tensor(type, n);
  t->n_int32_data = n_items;
  t->int32_data = arena_copy(arena, items, n_items * sizeof *items);
  return t;
}

Test(onnx_tensor, int32_data_of_narrow_types) {
  struct {
    DType type;
    int32_t lo, hi;
  } rows[] = {{DT_I8, -128, 127}, {DT_U8, 0, 255},     {DT_I16, -32768, 32767}, {DT_U16, 0, 65535}, {DT_BOOL, 0, 1},
              {DT_F16, 0, 65535}, {DT_BF16, 0, 65535}, {DT_F8E4M3FN, 0, 255},   {DT_F8E5M2, 0, 255}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    TensorData out;
    int32_t good[2] = {rows[i].lo, rows[i].hi}, low[2] = {rows[i].lo - 1, 0}, high[2] = {0, rows[i].hi + 1};
    cr_assert(read_tensor(int32s(rows[i].type, 2, 2, good), &out), "%s", diag_text(diag));
    if (dtype_is_int(rows[i].type)) {
      cr_assert_eq(elem_get_i(out.bytes, rows[i].type, 0), rows[i].lo);
      cr_assert_eq(elem_get_i(out.bytes, rows[i].type, 1), rows[i].hi);
    }
    refused(int32s(rows[i].type, 2, 2, low), "does not fit");
    refused(int32s(rows[i].type, 2, 2, high), "does not fit");
    refused(int32s(rows[i].type, 2, 1, good), "holds 1 values");
  }
}

Test(onnx_tensor, packed_small_types_in_int32_data) {
  int32_t two[2] = {0x21, 0x0f};
  TensorData out;
  cr_assert(read_tensor(int32s(DT_I4, 3, 2, two), &out));
  cr_assert_eq(elem_get_i(out.bytes, DT_I4, 0), 1);
  cr_assert_eq(elem_get_i(out.bytes, DT_I4, 1), 2);
  cr_assert_eq(elem_get_i(out.bytes, DT_I4, 2), -1);
  int32_t one[1] = {0xe4};
  cr_assert(read_tensor(int32s(DT_U2, 4, 1, one), &out));
  for (int64_t i = 0; i < 4; i++) cr_assert_eq(elem_get_i(out.bytes, DT_U2, i), i);
  refused(int32s(DT_U2, 4, 2, two), "holds 2 values");
}

Test(onnx_tensor, typed_lists) {
  double d[2] = {0.1, -3};
  Onnx__TensorProto *t = tensor(DT_F64, 2);
  TensorData out;
  t->n_double_data = 2;
  t->double_data = d;
  cr_assert(read_tensor(t, &out));
  cr_assert_eq(elem_get_f(out.bytes, DT_F64, 0), 0.1);
  uint64_t u[1] = {UINT64_C(1) << 32};
  t = tensor(DT_U32, 1);
  t->n_uint64_data = 1;
  t->uint64_data = u;
  refused(t, "does not fit");
  t = tensor(DT_U64, 1);
  t->n_uint64_data = 1;
  u[0] = UINT64_MAX;
  t->uint64_data = u;
  cr_assert(read_tensor(t, &out));
  int64_t i[1] = {INT64_MIN};
  t = tensor(DT_I64, 1);
  t->n_int64_data = 1;
  t->int64_data = i;
  cr_assert(read_tensor(t, &out));
  cr_assert_eq(elem_get_i(out.bytes, DT_I64, 0), INT64_MIN);
}

Test(onnx_tensor, one_form_of_the_right_kind) {
  int32_t i[1] = {1};
  float f[1] = {1};
  Onnx__TensorProto *t = int32s(DT_F32, 1, 1, i);
  refused(t, "expected float_data or raw_data");
  t->n_float_data = 1;
  t->float_data = f;
  refused(t, "expected one form");
  refused(tensor(DT_F32, 1), "needs 1");
}

Test(onnx_tensor, shapes_and_types) {
  Onnx__TensorProto *t = tensor(DT_F32, -3);
  refused(t, "dimension 0 is -3");
  t = tensor(DT_F32, 1);
  t->data_type = 77;
  refused(t, "element type 77");
  int64_t huge[3] = {INT64_C(1) << 31, INT64_C(1) << 31, 4};
  refused(build_tensor(arena, "w", DT_F32, 3, huge, "", 0), "2^40");
  int64_t zero[2] = {0, INT64_C(1) << 62};
  refused(build_tensor(arena, "w", DT_F32, 2, zero, "", 0), "2^40");
  TensorData out;
  int64_t empty[2] = {0, 3};
  cr_assert(read_tensor(build_tensor(arena, "w", DT_F32, 2, empty, NULL, 0), &out));
  t = tensor(DT_F32, 1);
  t->data_type = 8;
  cr_assert(!read_tensor(t, &out) && out.unsupported);
}

// A payload that stayed in the file: packed varints.
Test(onnx_tensor, varint_span) {
  uint8_t file[2000];
  for (int i = 0; i < 1000; i++) memcpy(file + 2 * i, "\x81\x01", 2);  // 129
  WireSpan span = {0, 2000, 7};
  uint32_t number = 0;
  store.bytes = file;
  store.spans = &span;
  store.n_spans = 1;
  Onnx__TensorProto *t = tensor(DT_I64, 1000);
  t->n_payload = 1;
  t->payload = &number;
  TensorData out;
  cr_assert(read_tensor(t, &out), "%s", diag_text(diag));
  cr_assert_eq(elem_get_i(out.bytes, DT_I64, 999), 129);
  t->dims[0] = 1001;
  refused(t, "needs 1001");
  t->dims[0] = 999;
  refused(t, "holds 1000 values");
}

// ---- external data

static void write_file(const char *name, size_t n) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *f = fopen(path, "wb");
  for (size_t i = 0; i < n; i++) fputc((int)i, f);
  fclose(f);
}

static void add_key(Onnx__TensorProto *t, const char *key, const char *value) {
  Onnx__StringStringEntryProto *e = NEW(arena, Onnx__StringStringEntryProto);
  onnx__string_string_entry_proto__init(e);
  e->key = arena_printf(arena, "%s", key);
  e->value = arena_printf(arena, "%s", value);
  Onnx__StringStringEntryProto **grown = NEW_ARRAY(arena, Onnx__StringStringEntryProto *, t->n_external_data + 1);
  for (size_t i = 0; i < t->n_external_data; i++) grown[i] = t->external_data[i];
  grown[t->n_external_data++] = e;
  t->external_data = grown;
}

static Onnx__TensorProto *external(const char *location) {
  Onnx__TensorProto *t = tensor(DT_F32, 4);
  t->has_data_location = true;
  t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
  add_key(t, "location", location);
  return t;
}

Test(onnx_tensor, external_file) {
  write_file("w.bin", 32);
  Onnx__TensorProto *t = external("w.bin");
  add_key(t, "offset", "16");
  add_key(t, "length", "16");
  TensorData out;
  cr_assert(read_tensor(t, &out), "%s", diag_text(diag));
  cr_assert_eq(((const uint8_t *)out.bytes)[0], 16);
  store.dir.allowed = false;
  refused(t, "not allowed");
}

Test(onnx_tensor, external_offsets) {
  write_file("w.bin", 32);
  const char *corners[] = {"17",
                           "32",
                           "33",
                           "2147483648",
                           "4294967296",
                           "9223372036854775808",
                           "18446744073709551600",
                           "18446744073709551615"};
  for (size_t i = 0; i < sizeof corners / sizeof *corners; i++) {
    Onnx__TensorProto *t = external("w.bin");
    add_key(t, "offset", corners[i]);
    refused(t, "offset");
  }
  const char *numbers[] = {"", "-1", "+1", "0x10", "1e3", "18446744073709551616", " 1"};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    Onnx__TensorProto *t = external("w.bin");
    add_key(t, "offset", numbers[i]);
    refused(t, "is no number");
  }
  Onnx__TensorProto *t = external("w.bin");
  add_key(t, "length", "15");
  refused(t, "holds 15 bytes");
}

Test(onnx_tensor, external_keys) {
  write_file("w.bin", 32);
  Onnx__TensorProto *t = external("w.bin");
  add_key(t, "location", "w.bin");
  refused(t, "given twice");
  t = external("w.bin");
  add_key(t, "lenght", "16");
  refused(t, "unknown key");
  t = external("w.bin");
  set_raw(t, "0123456789abcdef", 16);
  refused(t, "expected one form");
}

Test(onnx_tensor, external_paths_refused_as_text) {
  const char *bad[] = {"",     "/etc/hostname", "../w.bin", "a/../w.bin", "a/..", "..", "a//b",   "a/",
                       "a\\b", "a\nb",          "a\x7f",    "..\\w.bin",  "//",   "/",  "./../x", "a/b/../../../x"};
  write_file("w.bin", 32);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) refused(external(bad[i]), "location");
  cr_assert_eq(store.dir.fd, -1, "a refused path was opened");
}

Test(onnx_tensor, external_traps) {
  char at[128], to[128];
  write_file("w.bin", 32);
  snprintf(at, sizeof at, "%s/link.bin", dir);
  cr_assert_eq(symlink("w.bin", at), 0);
  refused(external("link.bin"), "symbolic link");
  snprintf(at, sizeof at, "%s/linkdir", dir);
  cr_assert_eq(symlink("/etc", at), 0);
  refused(external("linkdir/hostname"), "linkdir");
  snprintf(at, sizeof at, "%s/fifo.bin", dir);
  cr_assert_eq(mkfifo(at, 0600), 0);
  refused(external("fifo.bin"), "not a regular file");
  snprintf(at, sizeof at, "%s/sub", dir);
  cr_assert_eq(mkdir(at, 0700), 0);
  refused(external("sub"), "not a regular file");
  snprintf(at, sizeof at, "%s/w.bin", dir);
  snprintf(to, sizeof to, "%s/hard.bin", dir);
  cr_assert_eq(link(at, to), 0);
  refused(external("hard.bin"), "2 hard links");
  refused(external("gone.bin"), "gone.bin");
}

// ---- sparse

static bool read_sparse(uint32_t rank, const int64_t *dims, int64_t n, const float *values, uint32_t index_rank,
                        const int64_t *indices, TensorData *out) {
  Onnx__SparseTensorProto s = ONNX__SPARSE_TENSOR_PROTO__INIT;
  int64_t index_dims[2] = {n, rank};
  const char *why = NULL;
  s.values = build_tensor(arena, "s", DT_F32, 1, &n, values, (size_t)n * 4);
  s.indices =
      build_tensor(arena, "", DT_I64, index_rank, index_dims, indices, (size_t)n * 8 * (index_rank == 2 ? rank : 1));
  s.n_dims = rank;
  s.dims = (int64_t *)(uintptr_t)dims;
  return tensor_read_sparse(&store, &loc, "initializer 's'", &s, 1 << 20, out, &why);
}

Test(onnx_tensor, sparse) {
  int64_t dims[2] = {2, 3}, flat[2] = {1, 5}, pairs[4] = {0, 1, 1, 2}, outside[2] = {1, 6}, unsorted[2] = {5, 1};
  float v[2] = {7, 9};
  TensorData a, b;
  cr_assert(read_sparse(2, dims, 2, v, 1, flat, &a), "%s", diag_text(diag));
  cr_assert(read_sparse(2, dims, 2, v, 2, pairs, &b), "%s", diag_text(diag));
  const float dense[6] = {0, 7, 0, 0, 0, 9};
  cr_assert_eq(memcmp(a.bytes, dense, sizeof dense), 0);
  cr_assert_eq(memcmp(b.bytes, dense, sizeof dense), 0);
  cr_assert(!read_sparse(2, dims, 2, v, 1, outside, &a));
  cr_assert(!read_sparse(2, dims, 2, v, 1, unsorted, &a));
  int64_t large[2] = {1 << 20, 1 << 18};
  cr_assert(!read_sparse(2, large, 2, v, 1, flat, &a));
  cr_assert(strstr(diag_text(diag), "when made dense"));
}

// ---- files

Test(onnx_tensor, files_round_trip) {
  int64_t dims[2] = {2, 3};
  float v[6] = {1, 2, 3, 4, 5, 6.5f};
  const Type *type = type_tensor(m->types, DT_F32, 2, dims);
  const char *names[] = {"a.pb", "a.npy"};
  for (int i = 0; i < 2; i++) {
    FileTensor back;
    const char *path = arena_printf(arena, "%s/%s", dir, names[i]);
    cr_assert(tensor_file_write(m, path, "v", type, v), "%s", diag_text(diag));
    cr_assert(tensor_file_read(m, path, &back), "%s", diag_text(diag));
    cr_assert_eq(back.type, type);
    cr_assert_eq(memcmp(back.data, v, sizeof v), 0);
    cr_assert_str_eq(back.name, i == 0 ? "v" : "");
  }
}

static bool read_npy_text(const char *header, const void *data, size_t n, FileTensor *out) {
  const char *path = arena_printf(arena, "%s/x.npy", dir);
  FILE *f = fopen(path, "wb");
  size_t len = strlen(header);
  fwrite("\x93NUMPY\x01\x00", 1, 8, f);
  fputc((int)(len & 255), f);
  fputc((int)(len >> 8), f);
  fwrite(header, 1, len, f);
  fwrite(data, 1, n, f);
  fclose(f);
  return tensor_file_read(m, path, out);
}

Test(onnx_tensor, npy_headers) {
  float v[6] = {1, 4, 2, 5, 3, 6};  // Fortran order of {{1,2,3},{4,5,6}}
  const float c[6] = {1, 2, 3, 4, 5, 6};
  FileTensor out;
  cr_assert(read_npy_text("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", v, sizeof v, &out));
  cr_assert_eq(memcmp(out.data, c, sizeof c), 0);
  cr_assert(read_npy_text("{'shape': (6,), 'fortran_order': False, 'descr': '<f4'}", v, sizeof v, &out));
  cr_assert_eq(out.type->rank, 1);
  cr_assert(read_npy_text("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", v, 4, &out));
  cr_assert_eq(out.type->rank, 0);
  const char *bad[] = {"{'descr': '>f4', 'fortran_order': False, 'shape': (6,)}",
                       "{'descr': '<f4', 'fortran_order': False, 'shape': (7,)}",
                       "{'descr': '<f4', 'fortran_order': False, 'shape': (-6,)}",
                       "{'descr': '<f4', 'fortran_order': False}",
                       "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,)}",
                       "{'descr': '<f4', 'fortran_order': False, 'shape': (6",
                       "{'descr': '|O', 'fortran_order': False, 'shape': (6,)}",
                       "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,6)}",
                       "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
                       ""};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    uint32_t before = diag_errors(diag);
    cr_assert(!read_npy_text(bad[i], v, sizeof v, &out), "accepted: %s", bad[i]);
    cr_assert_eq(diag_errors(diag), before + 1);
  }
}
