// Weights of signs. See signs.h.
#include "passes/lower/signs.h"

#include <math.h>

#include "ir/elem.h"

enum { GROUP = 5, DWORD = 32 };

// ---- finding them

// The magnitudes of a row, largest first; false when there are more than two or one is not finite.
static bool row_magnitudes(const AnyF32 *w, int64_t k, float *m) {
  uint32_t n = 0;
  m[0] = m[1] = 0;
  for (int64_t i = 0; i < k; i++) {
    float v = fabsf(w[i]);
    if (!isfinite(v)) return false;
    if ((n > 0 && v == m[0]) || (n > 1 && v == m[1])) continue;
    if (n == 2) return false;
    m[n++] = v;
  }
  if (n == 1) m[1] = m[0];
  if (m[1] > m[0]) {
    float t = m[0];
    m[0] = m[1];
    m[1] = t;
  }
  return true;
}

static bool gives_back(const float *m, float c0, float c1) {
  volatile float sum = c0 + c1, difference = c0 - c1;
  return sum == m[0] && difference == m[1];
}

// Moves x by so many floats.
static float stepped(float x, int steps) {
  for (; steps > 0; steps--) x = nextafterf(x, INFINITY);
  for (; steps < 0; steps++) x = nextafterf(x, -INFINITY);
  return x;
}

// c0 + c1 and c0 - c1 are the magnitudes, in float arithmetic: half the sum and half the difference, or floats nearby.
static bool row_scales(const float *m, float *c0, float *c1) {
  float sum = (float)(((double)m[0] + m[1]) / 2), difference = (float)(((double)m[0] - m[1]) / 2);
  for (int i = 0; i < 9; i++)
    for (int j = 0; j < 17; j++) {
      *c0 = stepped(sum, i % 2 == 0 ? i / 2 : -(i + 1) / 2);
      *c1 = stepped(difference, j % 2 == 0 ? j / 2 : -(j + 1) / 2);
      if (gives_back(m, *c0, *c1)) return true;
    }
  return false;
}

bool signs_of(Arena *arena, const void *weights, int64_t rows, int64_t k, Signs *s) {
  const AnyF32 *w = weights;
  *s = (Signs){.rows = rows, .k = k, .planes = 1};
  for (uint32_t p = 0; p < SIGN_PLANES; p++) s->scale[p] = NEW_ARRAY(arena, float, rows + 1);
  s->sign = NEW_ARRAY(arena, uint8_t, rows *k + 1);
  for (int64_t r = 0; r < rows; r++, w += k) {
    float m[2];
    if (!row_magnitudes(w, k, m) || !row_scales(m, &s->scale[0][r], &s->scale[1][r])) return false;
    if (s->scale[1][r] != 0) s->planes = 2;
    for (int64_t i = 0; i < k; i++) {
      bool plus = w[i] > 0 || (w[i] == 0 && m[1] == 0), large = fabsf(w[i]) == m[0];
      s->sign[r * k + i] = (uint8_t)(plus | (plus == large) << 1);
    }
  }
  return true;
}

int64_t signs_dwords(const Signs *s) { return (s->k + DWORD - 1) / DWORD; }

uint32_t signs_dword(const Signs *s, int64_t row, uint32_t plane, int64_t d) {
  uint32_t bits = 0;
  for (int64_t i = d * DWORD; i < (d + 1) * DWORD && i < s->k; i++)
    bits |= (uint32_t)(s->sign[row * s->k + i] >> plane & 1) << (i % DWORD);
  return bits;
}

// ---- tables

Value *signs_pattern(Module *m) {
  int64_t count = GROUP * SIGN_ENTRIES;
  const Type *t = type_tensor(m->types, DT_F32, 1, &count);
  float *v = arena_alloc(m->arena, (size_t)type_bytes(t));
  for (int64_t i = 0; i < count; i++) v[i] = i % SIGN_ENTRIES >> (i / SIGN_ENTRIES) & 1 ? 1 : -1;
  return const_borrowed(m, t, v, NULL);
}

// The table of `have` elements of x.
static void table(KBuild *b, KBuf *x, Affine at, int64_t have, KBuf *tables, Affine to, KBuf *pattern) {
  KVar *v[GROUP] = {NULL};
  for (int64_t i = 0; i < have; i++) v[i] = kb_let(b, "x", kx_load1(b, x, aff_plus(at, i)));
  Affine l = aff_var(kb_for(b, "l", 0, SIGN_ENTRIES, 1, FOR_VEC));
  KExpr *sum = NULL;
  for (int64_t i = 0; i < have; i++) {
    KExpr *sign = kx_load1(b, pattern, aff_plus(l, i * SIGN_ENTRIES)), *xi = kx_var(b, v[i]);
    sum = sum == NULL ? kx_op2(b, KOP_MUL, xi, sign) : kx_op3(b, KOP_FMA, xi, sign, sum);
  }
  kb_store1(b, tables, aff_add(to, l), sum == NULL ? kx_f(b, DT_F32, 0) : sum);
  kb_end(b);
}

// The tables of a dword of which `have` elements exist.
static void dword_tables(KBuild *b, KBuf *x, Affine at, int64_t have, KBuf *tables, Affine to, KBuf *pattern) {
  for (int64_t g = 0; g < SIGN_TABLES; g++) {
    int64_t first = g * GROUP, n = have - first, most = DWORD - first < GROUP ? DWORD - first : GROUP;
    n = n < 0 ? 0 : n > most ? most : n;
    table(b, x, aff_plus(at, first), n, tables, aff_plus(to, g * SIGN_ENTRIES), pattern);
  }
}

void signs_tables(KBuild *b, const Signs *s, KBuf *x, Affine at, KBuf *tables, Affine to, KBuf *pattern) {
  int64_t whole = s->k / DWORD, rest = s->k % DWORD, size = SIGN_TABLES * SIGN_ENTRIES;
  if (whole > 0) {
    Affine d = whole > 1 ? aff_var(kb_for(b, "d", 0, whole, 1, FOR_SEQ)) : aff(0);
    dword_tables(b, x, aff_add(at, aff_mul(d, DWORD)), DWORD, tables, aff_add(to, aff_mul(d, size)), pattern);
    if (whole > 1) kb_end(b);
  }
  if (rest > 0) dword_tables(b, x, aff_plus(at, whole * DWORD), rest, tables, aff_plus(to, whole * size), pattern);
}

KExpr *signs_lookup(KBuild *b, KBuf *tables, Affine at, int64_t group, KExpr *dword) {
  KExpr *sums = kx_load1(b, tables, aff_plus(at, group * SIGN_ENTRIES));
  if (group > 0) dword = kx_op2(b, KOP_SHR, dword, kx_i(b, DT_U32, group * GROUP));
  return kx_op2(b, KOP_LOOKUP32, sums, dword);
}
