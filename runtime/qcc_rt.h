/* The C interface of objects compiled by qcc, ABI 1, and the optional thread pool.
 *
 * The first part is all that generated headers rely on (they carry a copy of it); it needs no library. The second
 * part (qcc_status_text, qcc_pool_*) is implemented by runtime/rt_*.c for programs that want names of statuses or
 * ready-made threads.
 * Valid C89 to C23 and C++98 to C++23; depends on <stdint.h> alone.
 */
#ifndef QCC_RT_H
#define QCC_RT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* abi begin: generated headers carry a copy from here to the end mark */
#ifndef QCC_ABI
#define QCC_ABI 1

typedef enum qcc_status {
#define QCC_STATUS(id, value, text) id = value,
#include "status.def"
#undef QCC_STATUS
  QCC_STATUS_LAST_ = 0x7fff
} qcc_status;

typedef struct qcc_tensor {
  const char *name;    /* ONNX name, UTF-8 */
  int32_t dtype, rank; /* dtype: ONNX TensorProto.DataType number */
  const int64_t *dims; /* >= 0, or -1-i for symbolic dim i */
  uint64_t bytes;      /* 0 when a dim is symbolic */
} qcc_tensor;

typedef struct qcc_exec { /* the caller's threads; NULL = run on this thread */
  void *ctx;
  uint32_t threads;
  /* Calls task(arg, i) for every i < n, on any threads in any order, and returns when all calls have returned. */
  void (*parallel_for)(void *ctx, void (*task)(void *arg, uint32_t i), void *arg, uint32_t n);
} qcc_exec;

typedef struct qcc_call {
  void *workspace;           /* workspace_size bytes at workspace_align, prepared once by init */
  const void *const *inputs; /* in the order of qcc_model.inputs, C-contiguous, any alignment */
  void *const *outputs;      /* must not overlap inputs, each other or the workspace */
  const int64_t *dims;       /* values of the symbolic dims, or NULL */
  const qcc_exec *exec;
} qcc_call;

typedef struct qcc_model {
  uint32_t abi; /* QCC_ABI */
  uint32_t n_inputs, n_outputs, n_dims;
  const char *name;
  const qcc_tensor *inputs, *outputs;
  const char *const *dim_names;
  uint64_t workspace_align;
  uint64_t (*workspace_size)(const int64_t *dims);
  int (*init)(void *workspace);     /* qcc_status; checks the CPU and prepares the workspace */
  int (*run)(const qcc_call *call); /* qcc_status */
  int (*selftest)(void *workspace); /* runs a stored case; QCC_OK or QCC_E_SELFTEST; NULL unless --selftest */
  const char *info;                 /* JSON: qcc version, model SHA-256, options, target, per-layer summary */
  /* The same as init for one level of the object, by name ("x86-64-v3"); NULL: the best this machine can run. */
  int (*init_level)(void *workspace, const char *level);
} qcc_model;
#endif
/* abi end */

/* A short English sentence for a status; never NULL. */
const char *qcc_status_text(int status);

/* model->init, or init_level of the level that the environment variable QCC_CPU names: an older one than the machine's,
 * for tests. QCC_E_LEVEL when the object has no such level, QCC_E_CPU when this machine lacks it. */
int qcc_init(const qcc_model *model, void *workspace);
/* Of a workspace after init: the name of the level chosen; after QCC_E_CPU what the machine lacks first. */
const char *qcc_level(const void *workspace);

/* A packed file of weights (--weights=packed) back to the one that NAME_init_weights reads, NAME_WEIGHTS_SIZE bytes,
 * into memory of the caller (`room` bytes, aligned to 64). Statuses of the file, or QCC_E_MEMORY when it does not fit.
 */
int qcc_weights_unpack(const void *packed, uint64_t bytes, void *weights, uint64_t room);

/* A pool of `threads` threads, the caller of run counted among them; NULL when memory or threads run out.
 * A pool serves one run at a time; calls from several threads wait for each other. */
typedef struct qcc_pool qcc_pool;
qcc_pool *qcc_pool_new(uint32_t threads);
/* The executor to pass to run; valid until qcc_pool_free. NULL when pool is NULL. */
const qcc_exec *qcc_pool_exec(qcc_pool *pool);
/* Ends the threads and frees the pool. NULL is allowed. No run may be in progress. */
void qcc_pool_free(qcc_pool *pool);

#ifdef __cplusplus
}
#endif

#endif
