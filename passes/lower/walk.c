// Emission of walks over strided operands (walk.h).
//
// A single long loop is cut into equal blocks so that threads can share it.
#include "passes/lower/walk.h"

#define PAR_MIN 8192   // elements below which a walk stays on one thread
#define STRIDE_MAX 4   // longest stride of a vector load
#define BOUND_LOOPS 6  // loops after which indices are named
#define BLOCK_MIN 256  // elements of one iteration of the par loop, when a single loop is cut
#define BLOCK_MAX 8192

void walk_init(Walk *walk, uint32_t rank, const int64_t *dims) {
  *walk = (Walk){.rank = rank, .n = 1};
  int64_t stride = 1;
  for (uint32_t i = rank; i-- > 0; stride *= dims[i]) {
    walk->dims[i] = dims[i];
    walk->stride[0][i] = stride;
  }
}

void walk_result(Walk *walk, int64_t first, const int64_t *strides) {
  walk->first[0] = first;
  for (uint32_t i = 0; i < walk->rank; i++) walk->stride[0][i] = strides[i];
}

uint32_t walk_operand(Walk *walk, int64_t first, const int64_t *strides) {
  uint32_t k = walk->n++;
  QCC_CHECK(k < WALK_OPERANDS, "walk: more than %d operands", WALK_OPERANDS);
  walk->first[k] = first;
  for (uint32_t i = 0; i < walk->rank; i++) walk->stride[k][i] = strides[i];
  return k;
}

uint32_t walk_broadcast(Walk *walk, const Type *t) {
  int64_t strides[MAX_RANK] = {0}, stride = 1;
  QCC_CHECK(t->rank <= walk->rank, "walk: operand of rank %u in a walk of %u loops", t->rank, walk->rank);
  for (uint32_t i = t->rank; i-- > 0; stride *= t->dims[i]) {
    strides[walk->rank - t->rank + i] = t->dims[i] == 1 ? 0 : stride;
  }
  return walk_operand(walk, 0, strides);
}

// Loops i and i+1 walk every operand as one.
static bool mergeable(const Walk *walk, uint32_t i) {
  for (uint32_t k = 0; k < walk->n; k++) {
    if (walk->stride[k][i] != walk->stride[k][i + 1] * walk->dims[i + 1]) return false;
  }
  return true;
}

static void drop_loop(Walk *walk, uint32_t i) {
  walk->rank--;
  for (uint32_t j = i; j < walk->rank; j++) {
    walk->dims[j] = walk->dims[j + 1];
    for (uint32_t k = 0; k < walk->n; k++) walk->stride[k][j] = walk->stride[k][j + 1];
  }
}

void walk_collapse(Walk *walk) {
  for (uint32_t i = walk->rank; i-- > 0;) {
    if (walk->dims[i] == 1) {
      drop_loop(walk, i);
    } else if (i + 1 < walk->rank && mergeable(walk, i)) {
      walk->dims[i + 1] *= walk->dims[i];
      drop_loop(walk, i);
    }
  }
}

bool walk_varies(const Walk *walk, uint32_t operand) {
  return walk->rank && walk->stride[operand][walk->rank - 1] != 0;
}

static bool can_vec(const Walk *walk) {
  for (uint32_t k = 0; k < walk->n; k++) {
    int64_t s = walk->stride[k][walk->rank - 1];
    if (k == 0 ? s != 1 : s < 0 || s > STRIDE_MAX) return false;
  }
  return true;
}

int64_t walk_count(const Walk *walk) {
  int64_t n = 1;
  for (uint32_t i = 0; i < walk->rank; i++) n *= walk->dims[i];
  return n;
}

// Indices of many loops are named half way, so that no affine form grows too long.
static void bind_indices(KBuild *b, uint32_t n, Affine *at) {
  for (uint32_t k = 0; k < n; k++) at[k] = aff_var(kb_let(b, "at", kx_index(b, at[k])));
}

static void loops(KBuild *b, const Walk *walk, bool vec, bool par, WalkFn *hoisted, WalkFn *body, void *ctx) {
  Affine at[WALK_OPERANDS];
  for (uint32_t k = 0; k < walk->n; k++) at[k] = aff(walk->first[k]);
  for (uint32_t i = 0; i < walk->rank; i++) {
    bool last = i + 1 == walk->rank;
    if (last && hoisted) hoisted(ctx, b, at);
    KForKind kind = last && vec && can_vec(walk) ? FOR_VEC : i == 0 && par ? FOR_PAR : FOR_SEQ;
    KVar *v = kb_for(b, "i", 0, walk->dims[i], 1, kind);
    for (uint32_t k = 0; k < walk->n; k++) at[k] = aff_add(at[k], aff_term(v, walk->stride[k][i]));
    if (i % BOUND_LOOPS == BOUND_LOOPS - 1 && !last) bind_indices(b, walk->n, at);
  }
  if (!walk->rank && hoisted) hoisted(ctx, b, at);
  body(ctx, b, at);
  for (uint32_t i = 0; i < walk->rank; i++) kb_end(b);
}

// Elements of one block of a loop of n: a divisor of n, best a multiple of 64; 0 when there is none of a useful size.
static int64_t block_of(int64_t n) {
  for (int64_t b = BLOCK_MAX; b >= BLOCK_MIN; b -= 64) {
    if (n % b == 0) return b;
  }
  for (int64_t b = BLOCK_MAX; b >= BLOCK_MIN; b--) {
    if (n % b == 0) return b;
  }
  return 0;
}

static void blocked(KBuild *b, const Walk *walk, int64_t block, bool vec, WalkFn *hoisted, WalkFn *body, void *ctx) {
  Walk cut = *walk;
  cut.rank = 2;
  cut.dims[0] = walk->dims[0] / block;
  cut.dims[1] = block;
  for (uint32_t k = 0; k < cut.n; k++) {
    cut.stride[k][1] = walk->stride[k][0];
    cut.stride[k][0] = walk->stride[k][0] * block;
  }
  loops(b, &cut, vec, true, hoisted, body, ctx);
}

void walk_emit(KBuild *b, const Walk *walk, bool vec, WalkFn *hoisted, WalkFn *body, void *ctx) {
  bool par = walk_count(walk) >= PAR_MIN;
  int64_t block = par && walk->rank == 1 ? block_of(walk->dims[0]) : 0;
  if (block) {
    blocked(b, walk, block, vec, hoisted, body, ctx);
  } else {
    loops(b, walk, vec, par && walk->rank > 1, hoisted, body, ctx);
  }
}

void dense_strides(uint32_t rank, const int64_t *dims, int64_t *strides) {
  int64_t stride = 1;
  for (uint32_t i = rank; i-- > 0; stride *= dims[i]) strides[i] = stride;
}

static void copy_element(void *ctx, KBuild *b, const Affine *at) {
  KBuf **buf = ctx;
  kb_store1(b, buf[0], at[0], kx_load1(b, buf[1], at[1]));
}

bool walk_copy(LowerCtx *ctx, const Op *op, Walk *walk, PBuf *to, PBuf *from) {
  KBuild b;
  if (!walk_count(walk)) return true;
  lower_begin(ctx, &b, op);
  KBuf *bufs[2] = {lower_flat(&b, to), lower_flat(&b, from)};
  walk_collapse(walk);
  walk_emit(&b, walk, true, NULL, copy_element, bufs);
  lower_step(ctx, &b, op, NULL, 2, (PBuf *[]){to, from});
  return true;
}
