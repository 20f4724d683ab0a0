// The thread pool: every index once, whatever the number of threads and tasks; pools live and die alone.
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "runtime/qcc_rt.h"

typedef struct Count {
  _Atomic uint32_t *hits;
  _Atomic uint32_t total;
} Count;

static void hit(void *arg, uint32_t i) {
  Count *c = arg;
  atomic_fetch_add(&c->hits[i], 1);
  atomic_fetch_add(&c->total, 1);
}

static void check_job(const qcc_exec *exec, uint32_t n) {
  Count c = {calloc(n + 1, sizeof *c.hits), 0};
  exec->parallel_for(exec->ctx, hit, &c, n);
  cr_assert_eq(c.total, n);
  for (uint32_t i = 0; i < n; i++) cr_assert_eq(c.hits[i], 1, "index %u ran %u times", i, c.hits[i]);
  free((void *)c.hits);
}

Test(pool, every_index_once) {
  for (uint32_t threads = 1; threads <= 6; threads++) {
    qcc_pool *pool = qcc_pool_new(threads);
    cr_assert(pool);
    const qcc_exec *exec = qcc_pool_exec(pool);
    cr_expect_eq(exec->threads, threads);
    for (uint32_t n = 0; n < 20; n++) check_job(exec, n);
    for (int round = 0; round < 500; round++) check_job(exec, 7);
    check_job(exec, 10000);
    qcc_pool_free(pool);
  }
}

typedef struct Stall {
  pthread_t caller;
  _Atomic uint32_t elsewhere;
} Stall;

static void stall_elsewhere(void *arg, uint32_t i) {
  Stall *s = arg;
  (void)i;
  if (pthread_equal(pthread_self(), s->caller)) {
    for (volatile int k = 0; k < 100000; k++) continue;
  } else {
    atomic_fetch_add(&s->elsewhere, 1);
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
  }
}

// A worker that keeps what it claims for 5 ms costs more than it brings, so it is left alone for a while: right after a
// job that it took part in there are three without it. A busy machine may take too long for that; one try of many
// counts.
Test(pool, stalls_end) {
  qcc_pool *pool = qcc_pool_new(2);
  const qcc_exec *exec = qcc_pool_exec(pool);
  bool left_alone = false;
  for (int attempt = 0; attempt < 20 && !left_alone; attempt++) {
    Stall s = {pthread_self(), 0};
    for (int i = 0; i < 5000 && s.elsewhere == 0; i++) exec->parallel_for(exec->ctx, stall_elsewhere, &s, 8);
    uint32_t before = s.elsewhere;
    for (int i = 0; i < 3; i++) exec->parallel_for(exec->ctx, stall_elsewhere, &s, 8);
    left_alone = s.elsewhere == before;
  }
  cr_expect(left_alone);
  qcc_pool_free(pool);
}

static void *run_jobs(void *exec) {
  for (int i = 0; i < 200; i++) check_job(exec, 13);
  return NULL;
}

Test(pool, callers_take_turns) {
  qcc_pool *pool = qcc_pool_new(3);
  pthread_t t[4];
  for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, run_jobs, (void *)(uintptr_t)qcc_pool_exec(pool));
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  qcc_pool_free(pool);
}

Test(pool, edges) {
  qcc_pool_free(NULL);
  cr_expect_null(qcc_pool_exec(NULL));
  qcc_pool *pool = qcc_pool_new(0);
  cr_expect_eq(qcc_pool_exec(pool)->threads, 1);
  qcc_pool_free(pool);
  cr_expect_str_eq(qcc_status_text(QCC_OK), "success");
  cr_expect_str_eq(qcc_status_text(12345), "unknown status");
}
