// The wire scan: what it refuses, what it keeps, what it cuts out.
#include <criterion/criterion.h>
#include <string.h>

#include "frontend/wire_scan.h"
#include "onnx.pb-c.h"

typedef struct Bytes {
  uint8_t at[1 << 16];
  size_t n;
} Bytes;

static Arena *arena;
static Diag *diag;

static void setup(void) {
  arena = arena_new("test");
  diag = diag_new(arena, NULL);
}
static void teardown(void) { arena_free(arena); }
TestSuite(wire_scan, .init = setup, .fini = teardown);

static void put(Bytes *b, const void *bytes, size_t n) {
  memcpy(b->at + b->n, bytes, n);
  b->n += n;
}
static void put_varint(Bytes *b, uint64_t v) {
  for (; v > 127; v >>= 7) b->at[b->n++] = (uint8_t)(v | 128);
  b->at[b->n++] = (uint8_t)v;
}
static void put_len(Bytes *b, uint32_t field, const void *bytes, size_t n) {
  put_varint(b, (uint64_t)field << 3 | 2);
  put_varint(b, n);
  put(b, bytes, n);
}
static void put_int(Bytes *b, uint32_t field, uint64_t v) {
  put_varint(b, (uint64_t)field << 3);
  put_varint(b, v);
}

static bool scan(const Bytes *b, WireScan *out) {
  return wire_scan(arena, diag, "m.onnx", &onnx__model_proto__descriptor, b->at, b->n, out);
}

// The file is refused with a message that holds `text`.
static void refused(const Bytes *b, const char *text) {
  WireScan out;
  cr_assert(!scan(b, &out), "accepted, expected: %s", text);
  cr_assert(strstr(diag_text(diag), text), "expected '%s' in: %s", text, diag_text(diag));
  cr_assert_eq(out.bytes, NULL);
}

Test(wire_scan, empty_file) { refused(&(Bytes){.n = 0}, "empty"); }

Test(wire_scan, varint_widths) {
  uint64_t v;
  uint8_t ten[11] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0};
  cr_assert_eq(wire_varint(ten, ten + 10, &v), 10);
  cr_assert_eq(v, UINT64_MAX);
  ten[9] = 2;  // more than 64 bits
  cr_assert_eq(wire_varint(ten, ten + 10, &v), 0);
  ten[9] = 0x81;  // eleven bytes
  cr_assert_eq(wire_varint(ten, ten + 11, &v), 0);
  cr_assert_eq(wire_varint(ten, ten + 5, &v), 0);
  cr_assert_eq(wire_varint(ten, ten, &v), 0);
}

Test(wire_scan, utf8) {
  cr_assert(utf8_valid((const uint8_t *)"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10));
  const char *bad[] = {"\xff", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x80\x80\x80",
                       "\xc3", "\x80"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    cr_assert(!utf8_valid((const uint8_t *)bad[i], strlen(bad[i])), "case %zu", i);
  cr_assert(!utf8_valid((const uint8_t *)"a\0b", 3));
}

Test(wire_scan, field_zero) {
  Bytes b = {.at = {0x02, 0x01, 'a'}, .n = 3};
  refused(&b, "field number 0");
}

Test(wire_scan, groups_and_unknown_wire_types) {
  for (uint8_t wire = 3; wire < 8; wire++) {
    if (wire == 5) continue;
    Bytes b = {.at = {(uint8_t)(0x78 | wire), 0, 0}, .n = 3};
    refused(&b, "wire type");
  }
}

Test(wire_scan, wrong_wire_type) {
  Bytes b = {0};
  put_int(&b, 7, 5);
  refused(&b, "field 'graph' of ModelProto has the wrong wire type");
}

Test(wire_scan, singular_message_twice) {
  Bytes b = {0};
  put_len(&b, 7, "", 0);
  put_len(&b, 7, "", 0);
  refused(&b, "'graph' of ModelProto is given twice");
}

Test(wire_scan, length_past_the_end_and_wrap) {
  Bytes b = {.at = {0x3a, 0x05, 'a'}, .n = 3};
  refused(&b, "past the end");
  Bytes w = {0};
  put_varint(&w, 7 << 3 | 2);
  put_varint(&w, UINT64_MAX - 5);
  put(&w, "abcdefgh", 8);
  refused(&w, "past the end");
}

Test(wire_scan, inner_length_past_its_parent) {
  Bytes graph = {.at = {0x0a, 0x04}, .n = 2}, b = {0};
  put_len(&b, 7, graph.at, graph.n);
  put(&b, "12345678", 8);  // inside the file, outside the graph
  refused(&b, "past the end");
}

Test(wire_scan, strings_with_nul_or_bad_utf8) {
  Bytes b = {0};
  put_len(&b, 2, "a\0b", 3);
  refused(&b, "'producer_name'");
  Bytes c = {0};
  put_len(&c, 2, "\xff\xfe", 2);
  refused(&c, "UTF-8");
}

// type.sequence_type.elem_type.sequence_type...: two messages per level, from the inside out.
static Bytes *nested(uint32_t levels) {
  Bytes *b = NEW(arena, Bytes), *inner = NEW(arena, Bytes);
  for (uint32_t i = 0; i < levels; i++) {
    b->n = 0;
    put_len(b, i % 2 ? 4 : 1, inner->at, inner->n);
    Bytes *t = b;
    b = inner;
    inner = t;
  }
  Bytes *value = NEW(arena, Bytes), *graph = NEW(arena, Bytes), *model = NEW(arena, Bytes);
  put_len(value, 2, inner->at, inner->n);
  put_len(graph, 11, value->at, value->n);
  put_len(model, 7, graph->at, graph->n);
  return model;
}

Test(wire_scan, depth_limit) {
  WireScan out;
  cr_assert(scan(nested(96), &out));  // model, graph, value info, type and 96 more
  wire_scan_free(&out);
  refused(nested(98), "nested more than 100 deep");
}

Test(wire_scan, unknown_fields_are_dropped) {
  Bytes b = {0};
  put_int(&b, 1, 8);
  put_len(&b, 1000, "abc", 3);
  put_int(&b, 1001, 7);
  put_int(&b, WIRE_PAYLOAD_FIELD, 0);
  WireScan out;
  cr_assert(scan(&b, &out));
  cr_assert_eq(out.n, 2);
  wire_scan_free(&out);
}

// A tensor with raw data of n bytes inside a graph inside a model.
static Bytes *model_with_payload(const uint8_t *data, size_t n) {
  Bytes *tensor = NEW(arena, Bytes), *graph = NEW(arena, Bytes), *model = NEW(arena, Bytes);
  put_int(tensor, WIRE_PAYLOAD_FIELD, 3);  // forged
  put_len(tensor, 9, data, n);
  put_len(tensor, 8, "w", 1);
  put_len(graph, 5, tensor->at, tensor->n);
  put_len(graph, 2, "g", 1);
  put_len(model, 7, graph->at, graph->n);
  put_int(model, 1, 8);
  return model;
}

Test(wire_scan, large_payloads_stay_in_the_file) {
  uint8_t data[5000];
  memset(data, 0xab, sizeof data);
  Bytes *b = model_with_payload(data, sizeof data);
  WireScan out;
  cr_assert(scan(b, &out));
  cr_assert_eq(out.spans.n, 1);
  cr_assert_eq(out.spans.at[0].field, 9);
  cr_assert_eq(out.spans.at[0].length, sizeof data);
  cr_assert_eq(memcmp(b->at + out.spans.at[0].offset, data, sizeof data), 0);
  cr_assert_lt(out.n, 64);
  Onnx__ModelProto *m = (Onnx__ModelProto *)wire_unpack(arena, diag, "m.onnx", &onnx__model_proto__descriptor, &out);
  cr_assert(m && m->graph && m->graph->n_initializer == 1 && m->ir_version == 8);
  Onnx__TensorProto *t = m->graph->initializer[0];
  cr_assert_eq(t->n_payload, 1);
  cr_assert_eq(t->payload[0], 0);
  cr_assert(!t->has_raw_data);
  cr_assert_str_eq(t->name, "w");
  cr_assert_str_eq(m->graph->name, "g");
  wire_scan_free(&out);
}

Test(wire_scan, small_payloads_are_copied) {
  uint8_t data[16] = {1, 2, 3};
  WireScan out;
  cr_assert(scan(model_with_payload(data, sizeof data), &out));
  cr_assert_eq(out.spans.n, 0);
  Onnx__ModelProto *m = (Onnx__ModelProto *)wire_unpack(arena, diag, "m.onnx", &onnx__model_proto__descriptor, &out);
  cr_assert_eq(m->graph->initializer[0]->raw_data.len, 16);
  cr_assert_eq(m->graph->initializer[0]->n_payload, 0);
  wire_scan_free(&out);
}

Test(wire_scan, packed_lists_hold_whole_elements) {
  Bytes tensor = {0}, graph = {0}, b = {0};
  put_len(&tensor, 4, "12345", 5);  // float_data
  put_len(&graph, 5, tensor.at, tensor.n);
  put_len(&b, 7, graph.at, graph.n);
  refused(&b, "'float_data' of TensorProto ends inside an element");
}

Test(wire_scan, every_schema_field_fits_the_seen_mask) {
  const ProtobufCMessageDescriptor *all[] = {&onnx__model_proto__descriptor,     &onnx__graph_proto__descriptor,
                                             &onnx__node_proto__descriptor,      &onnx__tensor_proto__descriptor,
                                             &onnx__attribute_proto__descriptor, &onnx__function_proto__descriptor};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) cr_assert_leq(all[i]->n_fields, 64);
}
