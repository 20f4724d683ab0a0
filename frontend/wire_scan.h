// The first reader of a model file: an iterative scan of the protobuf wire format.
//
// It checks everything protobuf-c does not (nesting depth, counts, lengths, strings, repeated singular fields) and
// writes a compacted copy for protobuf-c that holds only the fields of the schema and no large payload. A payload is
// replaced by its number in `spans`, written into a field that the scan drops from every file, so a file cannot forge
// it. The schema is the generated protobuf-c descriptor: onnx.proto is the only table.
#ifndef QCC_FRONTEND_WIRE_SCAN_H
#define QCC_FRONTEND_WIRE_SCAN_H

#include <protobuf-c/protobuf-c.h>

#include "ir/base/diag.h"
#include "ir/base/vec.h"

#define WIRE_MAX_DEPTH 100            // nested messages, as Google's runtime
#define WIRE_MAX_BYTES 0x7fffffff     // of the whole file: protobuf's own limit
#define WIRE_MAX_MESSAGES 32000000    // messages in one file
#define WIRE_PAYLOAD_BYTES 1024       // payloads above this are cut out
#define WIRE_PAYLOAD_FIELD 536870000  // number of the `payload` field of the schema

// A payload left in the file: the content of field `field` at bytes[offset, offset + length).
typedef struct WireSpan {
  size_t offset, length;
  uint32_t field;
} WireSpan;

typedef struct WireScan {
  uint8_t *bytes;  // the compacted message
  size_t n;
  size_t mapped;  // size of the mapping at `bytes`
  VEC(WireSpan) spans;
  uint32_t n_messages;
} WireScan;

// False after diag_error. On success wire_scan_free must be called after unpacking; `spans` lives in the arena.
bool wire_scan(Arena *arena, Diag *diag, const char *file, const ProtobufCMessageDescriptor *root, const uint8_t *bytes,
               size_t n, WireScan *out);
void wire_scan_free(WireScan *scan);

// Unpacks the compacted message into the arena within a memory budget proportional to its size. NULL after diag_error.
ProtobufCMessage *wire_unpack(Arena *arena, Diag *diag, const char *file, const ProtobufCMessageDescriptor *root,
                              const WireScan *scan);

// Reads a varint of at most 10 bytes from [at, end) and returns the number of bytes read, 0 when it is cut or too long.
uint32_t wire_varint(const uint8_t *at, const uint8_t *end, uint64_t *value);
// Valid UTF-8 (no surrogates, no over-long forms, at most U+10FFFF) without NUL.
bool utf8_valid(const uint8_t *s, size_t n);

#endif
