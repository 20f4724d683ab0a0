// Small arithmetic of whole numbers.
#ifndef QCC_IR_BASE_INTMATH_H
#define QCC_IR_BASE_INTMATH_H

#include <stdint.h>

// a / b rounded up, for b > 0 and any a.
static inline int64_t ceil_div(int64_t a, int64_t b) { return a <= 0 ? -(-a / b) : (a + b - 1) / b; }

// Greatest common divisor of |a| and |b|; 0 of two zeros.
static inline int64_t gcd(int64_t a, int64_t b) {
  while (b != 0) {
    int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a < 0 ? -a : a;
}

#endif
