// Running one model case: compile in memory, run on recorded inputs, compare with recorded outputs. Each case runs in a
// child process, so that a crash, a hang or a leak of one is a result and not the end of the run.
#ifndef QCC_TESTS_SUPPORT_CASE_H
#define QCC_TESTS_SUPPORT_CASE_H

#include "frontend/driver/session.h"
#include "frontend/onnx.h"
#include "passes/compress/factorize.h"

typedef enum Outcome { OUTCOME_PASS, OUTCOME_REFUSED, OUTCOME_WRONG, OUTCOME_CRASH } Outcome;
const char *outcome_text(Outcome o);

typedef struct Gate {
  double abs, rel;      // |got - want| <= abs + rel * |want|
  double rel_plus_one;  // ... + rel_plus_one * (1 + |want|)
  bool same_argmax;     // of float outputs of rank <= 2
} Gate;

typedef struct CaseSpec {
  const char *name, *dir;  // dir holds model.onnx and test_data_set_*
  const char *light;       // or: path without .onnx of a light net; input arange(n)/n, output in PATH_output_0.pb
  const char *bind;        // comma separated names of graph inputs made constant ("" none), values of the first set
  const char *target;      // CPU row; NULL: native
  Gate gate;
  uint32_t seconds;  // limit
} CaseSpec;

typedef struct CaseResult {
  Outcome outcome;
  char text[400];  // reason or difference, one line
} CaseResult;

// Runs all cases, at most `jobs` at a time; results in order of the specs.
void cases_run(const CaseSpec *specs, CaseResult *results, uint32_t n, uint32_t jobs);

// Text files of rows: the n-th tab separated field of a line, copied into out.
bool tsv_field(const char *line, uint32_t n, char *out, size_t size);

// A compiled model with its buffers, for tests that call it often.
typedef struct TestModel {
  Session session;
  Loaded loaded;
  ObjectBytes object;
} TestModel;
bool test_model_open(TestModel *t, const char *path, const char *const *shapes, uint32_t n_shapes);
// ... with more command-line options, as `qcc` itself takes them.
bool test_model_open_with(TestModel *t, const char *path, const char *const *shapes, uint32_t n_shapes, char **options,
                          int n_options);
// ... with all that a report of compression needs.
bool test_model_open_noted(TestModel *t, const char *path, char **options, int n_options, FactorReport *factored);
void test_model_close(TestModel *t);

#endif
