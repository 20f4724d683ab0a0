// Reading and writing single elements of packed tensor data, for every dtype.
// Elements narrower than a byte are packed LSB first without gaps: element i has bits [i*bits, (i+1)*bits).
#ifndef QCC_IR_ELEM_H
#define QCC_IR_ELEM_H

#include "ir/type.h"

// Weights are used where they lie in the model file, at any address: read f32 data in place through this type.
typedef float AnyF32 __attribute__((aligned(1)));

double elem_get_f(const void *data, DType t, int64_t i);   // any numeric class; BIP gives -1/+1, bool 0/1
int64_t elem_get_i(const void *data, DType t, int64_t i);  // integer classes and bool; floats are truncated, saturating
// Writes v rounded to the type: floats round to nearest even (f16/bf16/fp8 from double in one step, fp8/fp4
// saturating), integers wrap two's complement from elem_set_i and saturate (NaN -> 0, truncation) from elem_set_f;
// BIP: v >= 0 -> +1; TERN: elem_set_i takes the sign; bool: v != 0. f8e8m0 drops the sign and rounds up to a power of
// two (the default of the ONNX Cast). An integer set to a float type is rounded once too.
void elem_set_f(void *data, DType t, int64_t i, double v);
void elem_set_i(void *data, DType t, int64_t i, int64_t v);
void elem_set_int(void *data, DType t, int64_t i, int64_t v, bool is_u64);  // elem_set_i; is_u64: v holds a u64
void elem_copy(void *to, int64_t i, const void *from, int64_t j, DType t);  // to[i] = from[j], bit for bit
double elem_round(DType t, double v);  // what elem_set_f followed by elem_get_f gives

uint16_t f16_of_double(double v);  // round to nearest even in one step
double f16_to_double(uint16_t h);
uint16_t bf16_of_double(double v);
double bf16_to_double(uint16_t h);

#endif
