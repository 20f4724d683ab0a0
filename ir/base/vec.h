// The growable array. VEC(T) is a plain struct; grow through vec_push only.
//   VEC(Op *) work = {0};  vec_push(arena, &work, op);  for (uint32_t i = 0; i < work.n; i++) work.at[i]
#ifndef QCC_IR_BASE_VEC_H
#define QCC_IR_BASE_VEC_H

#include "ir/base/arena.h"

#define VEC(T)    \
  struct {        \
    T *at;        \
    uint32_t n;   \
    uint32_t cap; \
  }

void *vec_grown(Arena *arena, void *at, uint32_t n, uint32_t *cap, size_t size);

#define vec_push(arena, v, x)                                                                                        \
  ((v)->n == (v)->cap ? (void)((v)->at = vec_grown((arena), (v)->at, (v)->n, &(v)->cap, sizeof *(v)->at)) : (void)0, \
   (v)->at[(v)->n++] = (x))

#endif
