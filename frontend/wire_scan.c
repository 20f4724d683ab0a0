// Wire scan: an explicit stack of message frames walks the bytes once and writes the compacted copy as it goes.
//
// Invariants: every position is an index below the end of the innermost frame, which lies inside its parent; the copy
// is never longer than what was read, because a field is copied as is, dropped, or replaced by at most 12 bytes when it
// is longer than WIRE_PAYLOAD_BYTES. The length of a message is only known when it ends, so its prefix keeps the width
// it had in the file and is filled in then (padded varints are legal). It does not interpret values: ranges and
// meanings are checked where they are used.
#include "frontend/wire_scan.h"

#include <string.h>
#include <sys/mman.h>

enum { WIRE_VARINT = 0, WIRE_FIX64 = 1, WIRE_LEN = 2, WIRE_FIX32 = 5 };

typedef struct Frame {
  const ProtobufCMessageDescriptor *desc;
  size_t end;         // input position behind the message
  size_t prefix;      // output position of its length
  uint32_t width;     // bytes of the length
  bool has_payloads;  // messages with the payload field
  uint64_t seen;      // singular fields met so far, by index in the descriptor
} Frame;

typedef struct Scanner {
  Arena *arena;
  Diag *diag;
  Loc loc;
  const uint8_t *in;
  size_t at;
  uint8_t *out;
  size_t n_out;
  WireScan *result;
  uint32_t depth;
  Frame frames[WIRE_MAX_DEPTH];
} Scanner;

uint32_t wire_varint(const uint8_t *at, const uint8_t *end, uint64_t *value) {
  uint64_t v = 0;
  for (uint32_t i = 0; i < 10 && at + i < end; i++) {
    v |= (uint64_t)(at[i] & 0x7f) << (7 * i);
    if (at[i] & 0x80) continue;
    if (i == 9 && at[i] > 1) return 0;
    *value = v;
    return i + 1;
  }
  return 0;
}

// Bytes of the character that starts at s, 0 when it is not well formed.
static size_t utf8_char(const uint8_t *s, size_t n) {
  uint8_t c = s[0];
  size_t len = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
  if (c == 0 || len == 0 || len > n) return 0;
  for (size_t i = 1; i < len; i++)
    if ((s[i] & 0xc0) != 0x80) return 0;
  if ((c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] > 0x9f)) return 0;
  if ((c == 0xf0 && s[1] < 0x90) || (c == 0xf4 && s[1] > 0x8f)) return 0;
  return len;
}

bool utf8_valid(const uint8_t *s, size_t n) {
  for (size_t i = 0; i < n;) {
    size_t len = utf8_char(s + i, n - i);
    if (len == 0) return false;
    i += len;
  }
  return true;
}

static Frame *top(Scanner *s) { return &s->frames[s->depth - 1]; }

// "byte 17: TEXT in ModelProto": refuses the file at the current position.
static bool refuse(Scanner *s, const char *text) {
  return diag_error(s->diag, DIAG_REFUSED, &s->loc, "not a valid ONNX file: byte %zu: %s in %s", s->at, text,
                    top(s)->desc->short_name);
}

static bool refuse_field(Scanner *s, const ProtobufCFieldDescriptor *field, const char *text) {
  return diag_error(s->diag, DIAG_REFUSED, &s->loc, "not a valid ONNX file: byte %zu: field '%s' of %s %s", s->at,
                    field->name, top(s)->desc->short_name, text);
}

static void emit(Scanner *s, const uint8_t *bytes, size_t n) {
  memcpy(s->out + s->n_out, bytes, n);
  s->n_out += n;
}

// A varint of exactly `width` bytes (0: as short as possible).
static void emit_varint(Scanner *s, uint64_t v, uint32_t width) {
  for (uint32_t i = 0; width ? i < width : i == 0 || v; i++, v >>= 7) {
    bool more = width ? i + 1 < width : v > 0x7f;
    s->out[s->n_out++] = (uint8_t)((v & 0x7f) | (more ? 0x80 : 0));
  }
}

static uint32_t wire_type_of(ProtobufCType t) {
  switch (t) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT: return WIRE_FIX32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return WIRE_FIX64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE: return WIRE_LEN;
    default: return WIRE_VARINT;
  }
}

// Reads a length prefix; the bytes it covers lie inside the current message.
static bool read_length(Scanner *s, size_t *length, uint32_t *width) {
  uint64_t v = 0;
  size_t end = top(s)->end;
  *width = wire_varint(s->in + s->at, s->in + end, &v);
  if (*width == 0) return refuse(s, "cut or over-long length");
  if (v > end - s->at - *width) return refuse(s, "length past the end of the message");
  if (*width > 5) return refuse(s, "over-long length");
  s->at += *width;
  *length = (size_t)v;
  return true;
}

// A packed list must consist of whole elements.
static bool check_packed(Scanner *s, const ProtobufCFieldDescriptor *field, size_t n) {
  uint32_t wire = wire_type_of(field->type);
  if (wire == WIRE_FIX32 || wire == WIRE_FIX64)
    return n % (wire == WIRE_FIX32 ? 4 : 8) == 0 || refuse_field(s, field, "ends inside an element");
  const uint8_t *at = s->in + s->at, *end = at + n;
  uint64_t v;
  while (at < end) {
    uint32_t w = wire_varint(at, end, &v);
    if (w == 0) return refuse_field(s, field, "holds a cut or over-long varint");
    at += w;
  }
  return true;
}

static bool push(Scanner *s, const ProtobufCMessageDescriptor *desc, size_t length, uint32_t width) {
  if (s->depth == WIRE_MAX_DEPTH)
    return diag_error(s->diag, DIAG_REFUSED, &s->loc,
                      "not a valid ONNX file: byte %zu: messages nested more than %d deep", s->at, WIRE_MAX_DEPTH);
  if (++s->result->n_messages > WIRE_MAX_MESSAGES)
    return diag_error(s->diag, DIAG_LIMIT, &s->loc, "the file has more than %d messages", WIRE_MAX_MESSAGES);
  QCC_CHECK(desc->n_fields <= 64, "schema message %s has too many fields", desc->name);
  bool payloads = protobuf_c_message_descriptor_get_field(desc, WIRE_PAYLOAD_FIELD) != NULL;
  s->frames[s->depth++] = (Frame){desc, s->at + length, s->n_out, width, payloads, 0};
  if (width) emit_varint(s, 0, width);
  return true;
}

static void pop(Scanner *s) {
  Frame *f = top(s);
  size_t now = s->n_out;
  if (f->width) {
    s->n_out = f->prefix;
    emit_varint(s, now - f->prefix - f->width, f->width);
    s->n_out = now;
  }
  s->depth--;
}

// A length-delimited value of a known field; the tag is still to be written.
static bool scan_bytes(Scanner *s, const ProtobufCFieldDescriptor *field) {
  size_t n;
  uint32_t width;
  if (!read_length(s, &n, &width)) return false;
  bool is_len = wire_type_of(field->type) == WIRE_LEN;
  if (field->type == PROTOBUF_C_TYPE_STRING && !utf8_valid(s->in + s->at, n))
    return refuse_field(s, field, "is not valid UTF-8 or holds a NUL byte");
  if (!is_len && !check_packed(s, field, n)) return false;
  bool can = top(s)->has_payloads && (field->type == PROTOBUF_C_TYPE_BYTES || !is_len);
  if (can && n > WIRE_PAYLOAD_BYTES) {
    emit_varint(s, (uint64_t)WIRE_PAYLOAD_FIELD << 3, 0);
    emit_varint(s, s->result->spans.n, 0);
    vec_push(s->arena, &s->result->spans, ((WireSpan){s->at, n, field->id}));
    s->at += n;
    return true;
  }
  emit_varint(s, (uint64_t)field->id << 3 | WIRE_LEN, 0);
  if (field->type == PROTOBUF_C_TYPE_MESSAGE) return push(s, field->descriptor, n, width);
  emit_varint(s, n, width);
  emit(s, s->in + s->at, n);
  s->at += n;
  return true;
}

// A varint or fixed-size value; field NULL: skipped.
static bool scan_scalar(Scanner *s, const ProtobufCFieldDescriptor *field, uint32_t wire) {
  uint64_t v;
  size_t left = top(s)->end - s->at;
  uint32_t n = wire == WIRE_FIX32 ? 4 : wire == WIRE_FIX64 ? 8 : wire_varint(s->in + s->at, s->in + top(s)->end, &v);
  if (n == 0) return refuse(s, "cut or over-long varint");
  if (n > left) return refuse(s, "cut value");
  if (field) {
    emit_varint(s, (uint64_t)field->id << 3 | wire, 0);
    emit(s, s->in + s->at, n);
  }
  s->at += n;
  return true;
}

static bool skip_bytes(Scanner *s) {
  size_t n;
  uint32_t width;
  if (!read_length(s, &n, &width)) return false;
  s->at += n;
  return true;
}

// Repeated scalars come one by one or packed; everything else has exactly its own wire type.
static bool wire_fits(const ProtobufCFieldDescriptor *field, uint32_t wire) {
  uint32_t own = wire_type_of(field->type);
  return wire == own || (wire == WIRE_LEN && field->label == PROTOBUF_C_LABEL_REPEATED);
}

static bool scan_field(Scanner *s) {
  Frame *f = top(s);
  uint64_t tag = 0;
  uint32_t n = wire_varint(s->in + s->at, s->in + f->end, &tag);
  uint32_t wire = (uint32_t)(tag & 7);
  if (n == 0 || n > 5 || tag > UINT32_MAX) return refuse(s, "cut or over-long field tag");
  if (tag >> 3 == 0) return refuse(s, "field number 0");
  if (wire != WIRE_VARINT && wire != WIRE_FIX64 && wire != WIRE_LEN && wire != WIRE_FIX32)
    return refuse(s, "unknown wire type (or a group)");
  uint32_t id = (uint32_t)(tag >> 3);
  const ProtobufCFieldDescriptor *field =
      id == WIRE_PAYLOAD_FIELD ? NULL : protobuf_c_message_descriptor_get_field(f->desc, id);
  if (field && !wire_fits(field, wire)) return refuse_field(s, field, "has the wrong wire type");
  if (field && field->label != PROTOBUF_C_LABEL_REPEATED) {
    uint64_t bit = UINT64_C(1) << (field - f->desc->fields);
    if (f->seen & bit) return refuse_field(s, field, "is given twice");
    f->seen |= bit;
  }
  s->at += n;
  if (wire != WIRE_LEN) return scan_scalar(s, field, wire);
  return field ? scan_bytes(s, field) : skip_bytes(s);
}

bool wire_scan(Arena *arena, Diag *diag, const char *file, const ProtobufCMessageDescriptor *root, const uint8_t *bytes,
               size_t n, WireScan *out) {
  *out = (WireScan){0};
  Loc loc = {.file = file, .node = -1};
  if (n == 0) return diag_error(diag, DIAG_REFUSED, &loc, "the file is empty");
  if (n > WIRE_MAX_BYTES) return diag_error(diag, DIAG_LIMIT, &loc, "%zu bytes; an ONNX file has less than 2 GiB", n);
  void *copy = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (copy == MAP_FAILED) return diag_error(diag, DIAG_LIMIT, &loc, "no memory to read %zu bytes", n);
  out->bytes = copy;
  out->mapped = n;
  Scanner *s = NEW(arena, Scanner);
  *s = (Scanner){.arena = arena, .diag = diag, .loc = loc, .in = bytes, .out = copy, .result = out};
  push(s, root, n, 0);
  bool ok = true;
  while (ok && s->depth) {
    if (s->at == top(s)->end)
      pop(s);
    else
      ok = scan_field(s);
  }
  out->n = s->n_out;
  if (!ok) wire_scan_free(out);
  return ok;
}

void wire_scan_free(WireScan *scan) {
  if (scan->bytes) munmap(scan->bytes, scan->mapped);
  scan->bytes = NULL;
  scan->n = scan->mapped = 0;
}

// ---- unpacking with a budget

typedef struct Budget {
  Arena *arena;
  size_t left;
} Budget;

static void *budget_alloc(void *ctx, size_t size) {
  Budget *b = ctx;
  if (size > b->left) return NULL;
  b->left -= size;
  return arena_alloc(b->arena, size);
}

static void budget_free(void *ctx, void *p) { (void)ctx, (void)p; }

ProtobufCMessage *wire_unpack(Arena *arena, Diag *diag, const char *file, const ProtobufCMessageDescriptor *root,
                              const WireScan *scan) {
  Loc loc = {.file = file, .node = -1};
  Budget budget = {arena, ((size_t)64 << 20) + 24 * scan->n};
  ProtobufCAllocator allocator = {budget_alloc, budget_free, &budget};
  ProtobufCMessage *m = protobuf_c_message_unpack(root, &allocator, scan->n, scan->bytes);
  if (m) return m;
  diag_error(diag, budget.left < ((size_t)1 << 20) ? DIAG_LIMIT : DIAG_REFUSED, &loc,
             "the file does not unpack (%zu bytes of structure, %u messages)", scan->n, scan->n_messages);
  return NULL;
}
