// The way a `chain` op is computed: the order of its cores, which of them are multiplied together at compile time, and
// for every step what the lanes of a vector are, how the tensors between the steps lie in memory and which loops the
// steps share.
//
// A step is a product of the tensor so far with one merged core. Its register tile is an outer product as everywhere: a
// few numbers ("rows"), each of them by itself, times a few vectors ("vecs"). Either the vectors are outputs of the
// core and the rows are elements of the tensor, or the vectors are outputs that an earlier step made, which pass
// through, and the rows are outputs of the core. Each tensor ends with the letters that make its lanes, so a transpose
// never is a step: a store goes where the next step reads (S33; kernel-studies section 6).
#ifndef QCC_PASSES_STRUCTURE_CHAIN_H
#define QCC_PASSES_STRUCTURE_CHAIN_H

#include "ir/chain.h"
#include "ir/target.h"

#define CHAIN_SIDE 8  // loops of one side of a tile

// One side of a register tile: loops in front of `at` run outside; of loop `at` `chunk` iterations and of those behind
// it all are in the tile.
typedef struct ChainSide {
  uint32_t n;
  uint8_t letter[CHAIN_LETTERS];
  uint32_t at;
  int64_t chunk, size;  // size: rows or vectors of a full tile
} ChainSide;

typedef struct ChainStep {
  uint32_t cores;        // merged here: a bit per core
  bool core_lanes;       // the lanes are outputs of the core
  bool inside;           // nothing may be read behind `width` lanes: the last vector overlaps the one before
  ChainTerm from, to;    // the tensor before and after
  uint32_t group;        // that many letters at the end of `to` make the lanes; those of `from` alike, see core_lanes
  int64_t width, lanes;  // values of these letters; lanes of a vector
  ChainTerm k, both;     // summed; of the tensor and of the core and kept
  ChainSide rows, vecs;  // vecs: besides the vectors of the group, which are its innermost loop
  int64_t vectors;       // of the group
  uint32_t level;        // inside that many of the shared loops
  double cycles;
} ChainStep;

typedef struct ChainPlan {
  uint32_t n;
  ChainStep step[CHAIN_CORES];
  uint32_t n_fused;
  uint8_t fused[CHAIN_LETTERS];  // shared loops, outermost first
  double compute, memory, macs;
} ChainPlan;

// What is asked of a plan: steps as sets of cores (n_steps 0: the best), shared loops (-1: the best).
typedef struct ChainAsk {
  uint32_t n_steps;
  uint32_t cores[CHAIN_CORES];
  int64_t fused;
} ChainAsk;

// The best way for a form, or one as asked. `y` is the type of the result, `last_axis` that lanes of the result may not
// cross its last axis. False: the steps asked for are none.
typedef struct ChainShape {
  const ChainForm *f;
  const Type *y;
  DType type;  // of the arithmetic
  bool last_axis;
} ChainShape;
bool chain_plan(const ChainShape *s, const Target *t, const ChainAsk *ask, ChainPlan *p);

// Forgets letters of one value; chain_plan wants that done.
void chain_drop_units(ChainForm *f);
// The letters of a set of cores that are not summed inside it, `have` being the letters of the tensor they meet.
ChainTerm chain_merged(const ChainForm *f, uint32_t done, uint32_t cores);
// Is the letter in the result or in a core that is not in `done`?
bool chain_needed(const ChainForm *f, uint32_t done, uint32_t letter);
// Is the letter in the tensor after the cores of `done`?
bool chain_in_tensor(const ChainForm *f, uint32_t done, uint32_t letter);
// Chooses the loops that the steps share (asked: how many; -1: the best), the levels and the order of letters.
void chain_fuse(const ChainShape *s, const Target *t, int64_t asked, ChainPlan *p);
// Tile sizes of both sides and the cycles of a step.
void chain_tile(const ChainForm *f, const Target *t, ChainStep *s);
// Lanes of a vector for a group of `width` values.
int64_t chain_lanes(const Target *t, DType type, int64_t width, bool inside);

// A tensor between two steps (or x, or the result) in memory: strides of its letters; those of loops that both the step
// that makes it and the one that reads it run inside have stride 0.
typedef struct ChainLayout {
  int64_t stride[CHAIN_LETTERS];
  int64_t count;
} ChainLayout;
// Tensor number i of a plan: 0 is x, p->n the result.
ChainLayout chain_layout(const ChainForm *f, const ChainPlan *p, uint32_t i);

#endif
