// Importer of STFT: frames are gathered, and the window and the discrete Fourier transform are one constant matrix.
#include <math.h>
#include <string.h>

#include "frontend/onnx_node.h"

typedef struct Stft {
  int64_t batch, length, step, frame, frames, bins;
  bool complex_in;
} Stft;

// [inputs, bins * 2]: row t (and for complex signals its imaginary row) to real and imaginary columns of every bin.
static Value *dft_matrix(NodeCtx *c, const Stft *s) {
  int64_t parts = s->complex_in ? 2 : 1, dims[2], count;
  dims[0] = s->frame * parts;
  dims[1] = s->bins * 2;
  if (!dims_count(2, dims, &count) || count > c->opt->fold_bytes / 4) {
    diag_error(c->m->diag, DIAG_LIMIT, c->loc, "a frame of %lld needs a transform matrix that is too large",
               (long long)s->frame);
    return NULL;
  }
  float *data = NEW_ARRAY(c->m->arena, float, count + 1);
  const double turn = 6.283185307179586476925286766559;
  for (int64_t t = 0; t < s->frame; t++) {
    for (int64_t k = 0; k < s->bins; k++) {
      double angle = turn * (double)(t * k % s->frame) / (double)s->frame;
      float *row = data + t * parts * dims[1] + 2 * k;
      row[0] = (float)cos(angle);
      row[1] = (float)-sin(angle);
      if (!s->complex_in) continue;
      row[dims[1]] = (float)sin(angle);
      row[dims[1] + 1] = (float)cos(angle);
    }
  }
  Value *m = const_borrowed(c->m, type_tensor(c->m->types, DT_F32, 2, dims), data, NULL);
  return node_cast(c, m, c->in[0]->type->dtype);
}

static bool stft_read(NodeCtx *c, Stft *s) {
  const Type *x = c->in[0]->type, *w = node_in(c, 2) ? c->in[2]->type : NULL;
  if (!node_need_static(c, c->in[0], "the frames")) return false;
  if (x->rank != 2 && x->rank != 3) return node_refuse(c, "the signal must have rank 3, it has rank %u", x->rank);
  *s = (Stft){.batch = x->dims[0], .length = x->dims[1], .complex_in = x->rank == 3 && x->dims[2] == 2};
  if (x->rank == 3 && x->dims[2] != 1 && x->dims[2] != 2) return node_refuse(c, "the last axis must be 1 or 2");
  if (!node_const_int(c, 1, &s->step)) return false;
  if (node_in(c, 3) && !node_const_int(c, 3, &s->frame)) return false;
  if (w && w->rank != 1) return node_refuse(c, "the window must have rank 1, it has rank %u", w->rank);
  if (w && node_in(c, 3) && w->dims[0] != s->frame)
    return node_refuse(c, "the window has %lld elements for frames of %lld", (long long)w->dims[0],
                       (long long)s->frame);
  if (w) s->frame = w->dims[0];
  if (!w && !node_in(c, 3)) return node_refuse(c, "neither window nor frame_length is given");
  if (s->step < 1 || s->frame < 1 || s->frame > s->length || s->frame > INT32_MAX)
    return node_refuse(c, "frames of %lld in steps of %lld over %lld samples", (long long)s->frame, (long long)s->step,
                       (long long)s->length);
  bool onesided = attr_int(c, "onesided", 1) != 0;
  if (onesided && s->complex_in) return node_refuse(c, "a complex signal has no one-sided transform");
  s->frames = (s->length - s->frame) / s->step + 1;
  s->bins = onesided ? s->frame / 2 + 1 : s->frame;
  return true;
}

// Sample numbers of every frame.
static Value *frame_index(NodeCtx *c, const Stft *s) {
  int64_t dims[2] = {s->frames, s->frame}, count;
  if (!dims_count(2, dims, &count) || count > c->opt->fold_bytes / 8) {
    diag_error(c->m->diag, DIAG_LIMIT, c->loc, "%lld frames of %lld samples", (long long)s->frames,
               (long long)s->frame);
    return NULL;
  }
  int64_t *data = NEW_ARRAY(c->m->arena, int64_t, count + 1);
  for (int64_t f = 0; f < s->frames; f++)
    for (int64_t t = 0; t < s->frame; t++) data[f * s->frame + t] = f * s->step + t;
  return const_borrowed(c->m, type_tensor(c->m->types, DT_I64, 2, dims), data, NULL);
}

bool import_stft(NodeCtx *c) {
  Stft s;
  if (!stft_read(c, &s)) return false;
  int64_t parts = s.complex_in ? 2 : 1;
  Value *matrix = dft_matrix(c, &s), *window = node_in(c, 2), *index = frame_index(c, &s);
  if (!matrix || !index) return false;
  if (window && s.complex_in) {  // the same weight for both parts
    window = node_expand(c, node_reshape(c, window, 2, (int64_t[]){s.frame, 1}), 2, (int64_t[]){s.frame, 2});
    window = node_reshape(c, window, 1, (int64_t[]){s.frame * 2});
  }
  if (window) matrix = node_emit2(c, OP_MUL, matrix, node_reshape(c, window, 2, (int64_t[]){s.frame * parts, 1}));
  Value *signal = node_reshape(c, c->in[0], 3, (int64_t[]){s.batch, s.length, parts});
  if (!matrix || !signal) return false;
  Op *gather = node_op(c, OP_GATHER, 2, (Value *[]){signal, index});
  op_set_int(gather, A_GATHER_axis, 1);
  Value *frames = node_reshape(c, node_done(c, gather), 3, (int64_t[]){s.batch, s.frames, s.frame * parts});
  Value *y = node_matmul(c, frames, matrix, NULL, false, false);
  return node_result(c, node_reshape(c, y, 4, (int64_t[]){s.batch, s.frames, s.bins, 2}));
}
