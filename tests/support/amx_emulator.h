// Running AMX code on a machine without AMX: a SIGILL handler that decodes and executes the tile instructions on tile
// registers of its own, one set per thread, reading and writing the interrupted code's registers and memory.
//
// It follows the rules of the processor manual for palette 1; what a processor would refuse (#UD, #GP) is printed and
// ends the process, as does use of a tile that was never loaded. Linux on x86-64 only.
#ifndef QCC_TESTS_AMX_EMULATOR_H
#define QCC_TESTS_AMX_EMULATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/target.h"

typedef struct AmxCounts {
  uint64_t configs, releases, loads, stores, dots;
} AmxCounts;

// The row to emit code for (EmitOptions.emulated): Sapphire Rapids without what neither this machine nor the emulator
// has. NULL where AMX is there and needs no emulator, or where the vectors around it are missing too. Installs the
// handler on its first call.
const TargetRow *amx_emulator_row(void);
// Whether code for Sapphire Rapids can run in this process, one way or the other.
bool amx_usable(void);
// The row when `t` is Sapphire Rapids and code for it needs the emulator, else NULL.
const TargetRow *amx_emulated(const Target *t);
AmxCounts amx_emulator_counts(void);  // since the start, of this thread
bool amx_emulator_idle(void);         // this thread's tiles were released

#endif
