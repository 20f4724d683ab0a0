// qcc bench --calibrate: the rates of this machine as the fields of a row of targets.def.
#include <stdio.h>

#include "frontend/driver/bench.h"

int bench_calibrate(Session *s) {
  Roofs r;
  const Target *t = s->target;
  if (!target_runs_here(t)) {
    diag_error(s->diag, DIAG_UNSUPPORTED, NULL, "this machine is not a %s; its rates can't be measured here", t->name);
    return diag_exit_code(s->diag);
  }
  if (!roofs_measure(s, &r)) return diag_exit_code(s->diag);
  printf("// %s: measured by qcc bench --calibrate\n", t->name);
  printf(".fma_per_cycle = %.2f, .load_per_cycle = %.2f, .dot4_per_cycle = %.2f, .popcnt_per_cycle = %.2f,\n",
         r.fma / r.hz, r.loads / r.hz, r.dot4 / r.hz, r.popcnt / r.hz);
  printf(".l1_bytes_cycle = %.1f, .l2_bytes_cycle = %.1f, .l3_bytes_cycle = %.1f, .dram_bytes_cycle = %.1f,\n",
         r.bytes[0] / r.hz, r.bytes[1] / r.hz, r.bytes[2] / r.hz, r.bytes[3] / r.hz);
  printf(".sparse_loads_cycle = %.2f, ", bench_sparse_loads(s, &r));
  printf(".call_cycles = %.0f, .ghz = %.2f\n", r.call * r.hz, r.hz / 1e9);
  printf("// in the table: %.2f, %.2f, %.2f, %.2f; %.1f, %.1f, %.1f, %.1f; %.2f, %.0f, %.2f\n", t->fma_per_cycle,
         t->load_per_cycle, t->dot4_per_cycle, t->popcnt_per_cycle, t->l1_bytes_cycle, t->l2_bytes_cycle,
         t->l3_bytes_cycle, t->dram_bytes_cycle, t->sparse_loads_cycle, t->call_cycles, t->ghz);
  printf("// GMAC/s: float %.0f, bytes %.0f, bits %.0f; GB/s: %.0f, %.0f, %.0f, %.0f\n", r.fma * t->vector_bits / 32e9,
         r.dot4 * t->vector_bits / 8e9, r.popcnt * t->vector_bits / 1e9, r.bytes[0] / 1e9, r.bytes[1] / 1e9,
         r.bytes[2] / 1e9, r.bytes[3] / 1e9);
  bench_break_evens(s);
  return 0;
}
