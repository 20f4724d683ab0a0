// Invented CPUs the lowering tests plan for: what a row of 512-bit and one of 128-bit vectors have in common. Each test
// adds the name and the features it is about. Round numbers, not measurements.
#ifndef QCC_TESTS_CPUS_H
#define QCC_TESTS_CPUS_H

#define CPU_512                                                                                                      \
  .arch = "x86-64", .vector_bits = 512, .n_vregs = 32, .l1_bytes = 49152, .l2_bytes = 1048576, .l3_bytes = 16777216, \
  .code_bytes = 524288, .fma_per_cycle = 2, .load_per_cycle = 2, .l1_bytes_cycle = 128, .l2_bytes_cycle = 60,        \
  .l3_bytes_cycle = 30, .dram_bytes_cycle = 9, .sparse_loads_cycle = 1.6, .call_cycles = 40, .ghz = 4

#define CPU_128                                                                                                     \
  .arch = "aarch64", .vector_bits = 128, .n_vregs = 16, .l1_bytes = 32768, .l2_bytes = 262144, .l3_bytes = 1048576, \
  .code_bytes = 65536, .fma_per_cycle = 1, .load_per_cycle = 1, .l1_bytes_cycle = 16, .l2_bytes_cycle = 8,          \
  .l3_bytes_cycle = 4, .dram_bytes_cycle = 2, .sparse_loads_cycle = 0.9, .call_cycles = 40, .ghz = 2

#endif
