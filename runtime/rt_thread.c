// A small thread pool behind qcc_exec.
//
// One job at a time: parallel_for publishes {task, arg, n} under a new generation number, wakes the workers, and takes
// part itself. Every thread has a range of the indices of its own, about the same rows of one layer after the other,
// which its caches may still hold; with its range done it takes from the others'. Indices are claimed from atomic
// counters whose upper half holds the generation, so a worker that is late for a job can never claim an index of the
// next one. Workers spin briefly (the kernels of one network follow each
// other within microseconds) and then sleep on a condition variable. No lock is held while a task runs. A child made
// by fork has no workers; it must make its own pool.
//
// A worker whose core is taken by somebody else keeps an index it has claimed, and everybody waits for it. So each job
// is compared with what the caller would have needed alone, judging by the indices it ran itself; when jobs together
// lost LOSS_NS, the caller runs alone for a while, longer each time until a long stretch went without loss. Jobs that
// ended before any worker woke tell nothing.
#include "runtime/qcc_rt.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#define SPIN_ROUNDS 20000
#define LOSS_NS 400000
#define GAIN_NS 200000     // what is remembered of gains
#define ALONE_NS 20000000  // first time alone
#define MOST_ALONE_NS 640000000
#define CALM_NS 50000000  // jobs without loss after which times alone are short again

typedef struct Range {
  _Alignas(64) _Atomic uint64_t claim;  // generation << 32 | next index
} Range;

typedef struct Worker {
  qcc_pool *pool;
  uint32_t number;  // of its range; the caller has range 0
  pthread_t thread;
} Worker;

struct qcc_pool {
  qcc_exec exec;
  pthread_mutex_t busy;   // held by the caller of parallel_for
  pthread_mutex_t lock;   // guards sleeping and `stop`
  pthread_cond_t wake;    // a new generation or stop
  pthread_cond_t done;    // `left` became 0
  Range *range;           // of every thread
  _Atomic uint32_t n;     // indices of the current job
  _Atomic uint32_t left;  // indices not finished
  _Atomic bool stop;
  _Atomic(void (*)(void *, uint32_t)) task;
  _Atomic(void *) arg;
  int64_t balance;      // ns gained by workers, the past of it bounded; this and the next are the caller's
  int64_t alone_until;  // no job before this time is shared
  int64_t alone;        // length of the next time alone
  int64_t calm;         // ns of jobs since the last time alone
  uint32_t n_workers;
  Worker workers[];
};

static void cpu_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static int64_t clock_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint32_t range_begin(uint32_t n, uint32_t ranges, uint32_t i) { return (uint32_t)((uint64_t)n * i / ranges); }

static void ran_one(qcc_pool *p) {
  if (atomic_fetch_sub(&p->left, 1) != 1) return;
  pthread_mutex_lock(&p->lock);
  pthread_cond_broadcast(&p->done);
  pthread_mutex_unlock(&p->lock);
}

// Runs indices of one range of generation `generation` until none is left; returns how many. The job's fields are read
// only after a successful claim: the job cannot end, hence not change, while a claimed index is unfinished.
static uint32_t run_range(qcc_pool *p, uint32_t generation, uint32_t range) {
  _Atomic uint64_t *claim = &p->range[range].claim;
  for (uint32_t ran = 0;;) {
    uint64_t at = atomic_load_explicit(claim, memory_order_acquire);
    uint32_t end = range_begin(atomic_load(&p->n), p->n_workers + 1, range + 1);
    if ((uint32_t)(at >> 32) != generation || (uint32_t)at >= end) return ran;
    if (!atomic_compare_exchange_weak(claim, &at, at + 1)) continue;
    void (*task)(void *, uint32_t) = atomic_load(&p->task);
    task(atomic_load(&p->arg), (uint32_t)at);
    ran++;
    ran_one(p);
  }
}

// The thread's own range, then those after it, then those before it.
static uint32_t run_claimed(qcc_pool *p, uint32_t generation, uint32_t own) {
  uint32_t ran = 0, ranges = p->n_workers + 1;
  for (uint32_t i = 0; i < ranges; i++) ran += run_range(p, generation, (own + i) % ranges);
  return ran;
}

static uint32_t generation_of(qcc_pool *p) { return (uint32_t)(atomic_load(&p->range[0].claim) >> 32); }

// Waits for a generation other than `seen`; false when the pool ends.
static bool await_job(qcc_pool *p, uint32_t seen) {
  for (int i = 0; i < SPIN_ROUNDS; i++) {
    if (atomic_load(&p->stop)) return false;
    if (generation_of(p) != seen) return true;
    cpu_relax();
  }
  pthread_mutex_lock(&p->lock);
  while (!atomic_load(&p->stop) && generation_of(p) == seen) pthread_cond_wait(&p->wake, &p->lock);
  pthread_mutex_unlock(&p->lock);
  return !atomic_load(&p->stop);
}

static void *worker_main(void *arg) {
  const Worker *w = arg;
  qcc_pool *p = w->pool;
  uint32_t seen = 0;
  while (await_job(p, seen)) {
    seen = generation_of(p);
    run_claimed(p, seen, w->number);
  }
  return NULL;
}

static void await_done(qcc_pool *p) {
  for (int i = 0; i < SPIN_ROUNDS; i++) {
    if (atomic_load(&p->left) == 0) return;
    cpu_relax();
  }
  pthread_mutex_lock(&p->lock);
  while (atomic_load(&p->left) != 0) pthread_cond_wait(&p->done, &p->lock);
  pthread_mutex_unlock(&p->lock);
}

// A job of n indices took `total` ns; the caller ran `ran` of them in `own` ns of its core's time.
static void learn(qcc_pool *p, int64_t own, int64_t total, uint32_t ran, uint32_t n) {
  if (ran == n) return;
  int64_t gain = ran > 0 ? own / ran * n - total : 0;
  p->balance = p->balance + gain < GAIN_NS ? p->balance + gain : GAIN_NS;
  p->calm += total;
  if (p->calm >= CALM_NS) p->alone = ALONE_NS;
  if (p->balance > -LOSS_NS) return;
  p->alone_until = clock_ns(CLOCK_MONOTONIC) + p->alone;
  p->alone = 2 * p->alone < MOST_ALONE_NS ? 2 * p->alone : MOST_ALONE_NS;
  p->balance = p->calm = 0;
}

static void run_alone(void (*task)(void *, uint32_t), void *arg, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) task(arg, i);
}

static void pool_parallel_for(void *ctx, void (*task)(void *, uint32_t), void *arg, uint32_t n) {
  qcc_pool *p = ctx;
  if (n == 0) return;
  if (n == 1 || p->n_workers == 0) {
    run_alone(task, arg, n);
    return;
  }
  pthread_mutex_lock(&p->busy);
  int64_t start = clock_ns(CLOCK_MONOTONIC);
  if (start < p->alone_until) {
    run_alone(task, arg, n);
    pthread_mutex_unlock(&p->busy);
    return;
  }
  uint32_t generation = generation_of(p) + 1;
  // Close the old generation before the fields change: no worker can claim while the index is past the end.
  for (uint32_t i = 0; i <= p->n_workers; i++)
    atomic_store(&p->range[i].claim, (uint64_t)generation << 32 | UINT32_MAX);
  atomic_store(&p->task, task);
  atomic_store(&p->arg, arg);
  atomic_store(&p->n, n);
  atomic_store(&p->left, n);
  generation++;
  pthread_mutex_lock(&p->lock);
  for (uint32_t i = p->n_workers + 1; i-- > 0;)
    atomic_store(&p->range[i].claim, (uint64_t)generation << 32 | range_begin(n, p->n_workers + 1, i));
  pthread_cond_broadcast(&p->wake);
  pthread_mutex_unlock(&p->lock);
  int64_t own = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  uint32_t ran = run_claimed(p, generation, 0);
  own = clock_ns(CLOCK_THREAD_CPUTIME_ID) - own;
  await_done(p);
  learn(p, own, clock_ns(CLOCK_MONOTONIC) - start, ran, n);
  pthread_mutex_unlock(&p->busy);
}

static void pool_stop(qcc_pool *p) {
  pthread_mutex_lock(&p->lock);
  atomic_store(&p->stop, true);
  pthread_cond_broadcast(&p->wake);
  pthread_mutex_unlock(&p->lock);
  for (uint32_t i = 0; i < p->n_workers; i++) pthread_join(p->workers[i].thread, NULL);
}

qcc_pool *qcc_pool_new(uint32_t threads) {
  if (threads == 0) threads = 1;
  if (threads > 1024) threads = 1024;
  qcc_pool *p = calloc(1, sizeof *p + (threads - 1) * sizeof p->workers[0]);
  if (!p) return NULL;
  p->range = aligned_alloc(_Alignof(Range), threads * sizeof(Range));
  if (!p->range) {
    free(p);
    return NULL;
  }
  for (uint32_t i = 0; i < threads; i++) atomic_init(&p->range[i].claim, UINT32_MAX);
  p->alone = ALONE_NS;
  p->exec = (qcc_exec){.ctx = p, .threads = threads, .parallel_for = pool_parallel_for};
  pthread_mutex_init(&p->busy, NULL);
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->wake, NULL);
  pthread_cond_init(&p->done, NULL);
  for (; p->n_workers + 1 < threads; p->n_workers++) {
    Worker *w = &p->workers[p->n_workers];
    *w = (Worker){.pool = p, .number = p->n_workers + 1};
    if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
      qcc_pool_free(p);
      return NULL;
    }
  }
  return p;
}

const qcc_exec *qcc_pool_exec(qcc_pool *pool) { return pool ? &pool->exec : NULL; }

void qcc_pool_free(qcc_pool *pool) {
  if (!pool) return;
  pool_stop(pool);
  pthread_cond_destroy(&pool->done);
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->lock);
  pthread_mutex_destroy(&pool->busy);
  free(pool->range);
  free(pool);
}
