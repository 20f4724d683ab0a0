// Benchmarks that qcc makes itself: modules from IR text, compiled and loaded into this process, timed step by step,
// and set against what the processor can do, measured in the same run through kernels of the same code generator.
#ifndef QCC_FRONTEND_DRIVER_BENCH_H
#define QCC_FRONTEND_DRIVER_BENCH_H

#include "frontend/driver/session.h"
#include "runtime/qcc_rt.h"

typedef int StepFn(const qcc_call *call, uint32_t step);

typedef struct Bench {
  Session s;
  ObjectBytes object;
  Loaded l;
  StepFn *run_step;
} Bench;

// How to compile a text: from the start of the pipeline or as a lowered program; `edit` changes the module after
// parsing; every contraction runs as `strategy` (NULL: as `plan` chooses).
typedef struct BenchSpec {
  const char *text;
  bool lowered;
  void (*edit)(Module *m, const void *ctx);
  const void *ctx;
  const char *strategy;
} BenchSpec;

// False when the strategy does not apply to one of the contractions, or after diag_error of `parent`.
bool bench_open(Bench *b, const Session *parent, const BenchSpec *spec);
void bench_close(Bench *b);
double bench_step(const Bench *b, uint32_t step);       // least seconds of one step
double bench_layer(const Bench *b, const char *layer);  // of the steps made for the node of that name
const char *bench_strategy(const Bench *b, const char *layer);
void bench_fill(const Loaded *l);  // small numbers into float inputs
StepFn *bench_step_fn(const Session *s, const Loaded *l);

// Seconds of one inference.
typedef struct BenchTime {
  double median, min;
} BenchTime;

// Times whole inferences for about a second (--iterations: so many). False after diag_error.
bool bench_whole(Session *s, const Loaded *l, BenchTime *out, uint32_t *runs);

// --peer: other systems on the same model, by their own account.
#define PEERS_MAX 16
typedef struct Peer {
  const char *name, *refused;  // refused: why there is no time, which then is infinite
  BenchTime time;
} Peer;
typedef struct Peers {
  Peer at[PEERS_MAX];
  uint32_t n;
} Peers;
// The object and the command of --peer in turns; the smallest of all rounds. False after diag_error.
bool bench_peers(Session *s, const Loaded *l, BenchTime *own, uint32_t *runs, Peers *p);
void bench_print_peers(const BenchTime *own, const Peers *p);
// `| network | MMAC | us | us of a peer | ratio | ...`, least times: a row of the tables tests/bench/table.sh makes.
void bench_print_markdown(const char *network, double macs, const BenchTime *own, const Peers *p);

// What one core does per second.
typedef struct Roofs {
  double hz;
  double fma, dot4, popcnt;  // vector operations (popcnt: xor, count and add of one vector of words)
  double bytes[4];           // read from L1, L2, L3, memory
  double loads;              // vectors loaded from L1
  double call;               // seconds of one empty step
} Roofs;

bool roofs_measure(const Session *s, Roofs *r);
// The kernels behind it, and the fastest multiply-adds of vectors per second of this moment alone: to be timed between
// other things. bench_close afterwards.
bool roof_open(const Session *s, Bench *b);
double roof_fma_now(const Bench *b, const Target *t);
double roofs_bandwidth(const Roofs *r, const Target *t, double bytes);  // of the level that holds so many bytes
// Seconds of `macs` multiply-adds of one kind.
double roof_float(const Roofs *r, const Target *t, double macs);
double roof_bytes(const Roofs *r, const Target *t, double macs);
double roof_bits(const Roofs *r, const Target *t, double macs);  // of one plane by one plane

void bench_sparse(const Session *s, const char *only);                 // --suite=sparse
void bench_break_evens(const Session *s);                              // measured and reckoned, a line for --calibrate
double bench_sparse_loads(const Session *s, const Roofs *r);           // Target.sparse_loads_cycle of this machine
void bench_chain(const Session *s, const Roofs *r, const char *only);  // --suite=chain
int bench_suite(Session *s, const char *name);                         // --suite
int bench_calibrate(Session *s);                                       // --calibrate
int bench_break_even(Session *s, const Roofs *r);  // planes of k x m bits against bytes and floats (S68)

#endif
