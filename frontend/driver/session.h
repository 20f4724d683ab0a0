// One run of the compiler: what all commands share, from the file to the loaded model.
#ifndef QCC_FRONTEND_DRIVER_SESSION_H
#define QCC_FRONTEND_DRIVER_SESSION_H

#include "backends/backend.h"
#include "frontend/driver/options.h"
#include "passes/pass.h"

typedef struct WeightChart WeightChart;  // report_weights.c

typedef struct Session {
  Arena *arena;
  Diag *diag;
  Options opt;
  const Target *target;      // of several levels: the one that passes before `plan` choose for
  Level levels[MAX_LEVELS];  // of the object, least first; set by session_levels and session_lower
  uint32_t n_levels;         // 0 or 1: the object is compiled for `target` alone
  Module *m;                 // of several levels: that of `target`
  PassOptions pass_opt;
  PassTimings timings;
  const char *name;    // symbol prefix
  double start;        // seconds, for progress
  bool terminal;       // progress lines go to a terminal
  int64_t threads;     // --threads
  int64_t iterations;  // --iterations, 0: not given
  bool steps;          // emit NAME_run_step too (bench)
  bool release;        // constants may go once nothing names them: the graph is not looked at again
  struct {
    int64_t elements;       // of all constants an op reads
    int64_t weights;        // of them weights of contractions
    double weight_bits;     // as few as the file's values need
  } params;                 // of the imported graph (declare_layers)
  VEC(WeightChart) charts;  // of the imported graph (report_weights_read)
  struct {
    double cosine, most, accuracy;  // --max-error by --quantize, beside pass_opt.network_error; 0: none
  } quant_limits;
  bool in_process;                   // emit without a child process (tests that fork themselves)
  bool external;                     // weights go to a file of their own
  bool packed;                       // ... entropy coded
  LinkChoices link;                  // of --relocation, --code-model, --float-abi and --format
  const struct TargetRow *emulated;  // EmitOptions (tests)
} Session;

double session_now(void);
bool session_target(Session *s);                    // from --target
bool session_link(Session *s);                      // s->link from the command line, for s->target (link.c)
bool session_levels(Session *s, const char *name);  // the levels of a family, or one row; false: unknown
const char *session_cpu(const Session *s);          // the name the object was compiled for
// Runs the whole pipeline: of several levels once up to `plan`, then for each on a copy of its own.
bool session_lower(Session *s);
// The part of the pipeline before `plan` (or the gate), and the rest. False when it has neither.
bool session_cut(Session *s, const char **graph, const char **rest);
bool session_pass_options(Session *s);                  // s->pass_opt from the command line
bool session_load(Session *s);                          // model or IR text into s->m
bool session_passes(Session *s, const char *pipeline);  // runs passes on s->m
// Takes the shape of the graph input a tensor file was recorded for, so that symbolic dims need no flag. Files without
// a tensor name, bound inputs and inputs with a --input-shape are left alone.
void session_shape_from(Session *s, const char *path);
const char *session_pipeline(const Session *s);  // --passes or the default
// Emits s->m's program. The info JSON of the model is made here.
bool session_emit(Session *s, EmitKind kind, ObjectBytes *out);
bool session_compile(Session *s, ObjectBytes *out);  // passes and emission of an object

// Writes all files or none: temporaries in the same folder, then renames in order.
typedef struct OutFile {
  const char *path;
  const void *bytes;
  size_t n;
  bool may_stream;  // a terminal, pipe or device will do (reports)
} OutFile;
bool write_files(Session *s, const OutFile *files, uint32_t n);

// A model ready to be called in this process, with buffers for its interface.
typedef struct Loaded {
  Jit *jit;
  const struct qcc_model *model;
  void *workspace;
  void **inputs, **outputs;  // allocated with malloc, aligned to 64
  struct qcc_pool *pool;     // of --threads, or NULL
} Loaded;
int loaded_run(const Loaded *l);  // one inference with the threads asked for; a qcc_status
bool session_jit(Session *s, const ObjectBytes *object, const char *name, Loaded *out);
void loaded_free(Loaded *l);

int cmd_compile(Session *s);
int cmd_run(Session *s);
int cmd_verify(Session *s);
int cmd_bench(Session *s);
int cmd_inspect(Session *s);
int cmd_opt(Session *s);

// The file of weights entropy coded, in the arena (pack_weights.c).
uint8_t *weights_pack(Arena *arena, const uint8_t *at, size_t n, size_t *n_packed);

#endif
