// Inputs of a network made from a seed, the same on every machine: shared by the programs for targets with an operating
// system (runner.c) and without one (../bare/bare.c).
#ifndef QCC_TESTS_CROSS_INPUTS_H
#define QCC_TESTS_CROSS_INPUTS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "runtime/qcc_rt.h"

// ONNX TensorProto.DataType numbers.
enum { FLOAT = 1, UINT8, INT8, UINT16, INT16, INT32, INT64, BOOL = 9, FLOAT16, DOUBLE, UINT32, UINT64 };

static uint64_t state;

static uint32_t next(uint32_t below) {
  state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(state >> 33) % below;
}

static size_t width(int32_t dtype) {
  static const size_t bytes[] = {0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8};
  return dtype > 0 && dtype < (int32_t)(sizeof bytes / sizeof *bytes) ? bytes[dtype] : 0;
}

// Floats in [-1, 1] in steps of 2^-10, bytes over their whole range, other integers 0 and 1: indices stay inside.
static void fill(unsigned char *at, const qcc_tensor *t) {
  size_t size = width(t->dtype);
  for (size_t i = 0; i < t->bytes / size; i++, at += size) {
    float f = ((float)next(2049) - 1024) / 1024;
    double d = (double)f;
    uint64_t bits = t->dtype == UINT8 || t->dtype == INT8 ? next(256) : next(2);
    uint16_t half = (uint16_t)(next(2) << 15 | (14 << 10) | next(1024));
    if (t->dtype == FLOAT) {
      memcpy(at, &f, 4);
    } else if (t->dtype == DOUBLE) {
      memcpy(at, &d, 8);
    } else if (t->dtype == FLOAT16) {
      memcpy(at, &half, 2);
    } else {
      memset(at, 0, size);
      at[0] = (unsigned char)bits;
    }
  }
}

#endif
