// See amx_emulator.h. Encodings and checks follow the Intel manual, volume 2, "Intel AMX instruction reference".
#include "tests/support/amx_emulator.h"

#include <string.h>

#include "backends/backend.h"

#if defined(__x86_64__) && defined(__linux__)
#include <signal.h>
#include <stdlib.h>
#include <ucontext.h>
#include <unistd.h>

enum { TILES = 8, ROWS = 16, ROW_BYTES = 64, CONFIG_BYTES = 64 };

typedef struct Tmm {
  uint32_t rows, bytes;  // configured; 0: not
  bool written;
  uint8_t data[ROWS][ROW_BYTES];
} Tmm;

static __thread struct {
  bool configured;
  uint8_t config[CONFIG_BYTES];
  Tmm tile[TILES];
  AmxCounts counts;
} state;

// A decoded instruction: VEX.128.prefix.0F38 opcode modrm.
typedef struct Instr {
  const uint8_t *at, *end;
  uint8_t prefix, opcode;   // prefix: 0, 0x66, 0xf3, 0xf2
  uint32_t reg, rm, third;  // register numbers with their VEX bits
  uint8_t mod;
  bool has_sib;
  uint64_t base, index;  // base with displacement; index with its scale
} Instr;

static void say(const char *text) {
  ssize_t n = write(2, text, strlen(text));
  (void)n;
}

_Noreturn static void refuse(const char *why) {
  say("amx emulator: ");
  say(why);
  say("\n");
  abort();
}

static void require(bool ok, const char *why) {
  if (!ok) refuse(why);
}

// ---- decoding

static uint64_t gpr(const ucontext_t *u, uint32_t n) {
  static const int of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return (uint64_t)u->uc_mcontext.gregs[of[n]];
}

static int64_t displacement(Instr *in, uint32_t bytes) {
  int8_t one;
  int32_t four;
  memcpy(&one, in->end, 1);
  memcpy(&four, in->end, 4);
  in->end += bytes;
  return bytes == 1 ? one : bytes == 4 ? four : 0;
}

static void decode_memory(Instr *in, const ucontext_t *u, uint32_t x, uint32_t b) {
  uint32_t rm = in->rm & 7, bytes = in->mod == 1 ? 1 : in->mod == 2 ? 4 : 0;
  uint64_t base = 0;
  bool relative = false;
  if (rm == 4) {
    uint8_t sib = *in->end++;
    uint32_t index = ((sib >> 3) & 7) | x, low = sib & 7;
    in->has_sib = true;
    in->index = index == 4 ? 0 : gpr(u, index) << (sib >> 6);
    if (low == 5 && in->mod == 0) {
      bytes = 4;
    } else {
      base = gpr(u, low | b);
    }
  } else if (rm == 5 && in->mod == 0) {
    bytes = 4;
    relative = true;
  } else {
    base = gpr(u, rm | b);
  }
  base += (uint64_t)displacement(in, bytes);
  if (relative) base += (uint64_t)(uintptr_t)in->end;
  in->base = base;
}

// False: no VEX instruction of map 0F38 with W = 0 and 128 bits, so none of AMX.
static bool decode(Instr *in, const ucontext_t *u) {
  static const uint8_t prefixes[4] = {0, 0x66, 0xf3, 0xf2};
  const uint8_t *p = (const uint8_t *)(uintptr_t)u->uc_mcontext.gregs[REG_RIP];
  if (p[0] != 0xc4 || (p[1] & 31) != 2 || (p[2] & 0x84) != 0) return false;
  uint32_t r = p[1] & 0x80 ? 0 : 8, x = p[1] & 0x40 ? 0 : 8, b = p[1] & 0x20 ? 0 : 8;
  *in = (Instr){.at = p, .end = p + 5, .prefix = prefixes[p[2] & 3], .opcode = p[3]};
  in->third = (uint32_t)(~p[2] >> 3) & 15;
  in->mod = p[4] >> 6;
  in->reg = ((p[4] >> 3) & 7) | r;
  in->rm = p[4] & 7;
  if (in->mod == 3)
    in->rm |= b;
  else
    decode_memory(in, u, x, b);
  return true;
}

// ---- execution

static void load_config(const Instr *in) {
  uint8_t c[CONFIG_BYTES];
  memcpy(c, (const void *)(uintptr_t)in->base, CONFIG_BYTES);
  require(c[0] <= 1, "ldtilecfg: palette above 1");
  for (int i = 2; i < 16; i++) require(c[i] == 0, "ldtilecfg: reserved byte is not zero");
  require(c[1] == 0, "ldtilecfg: start row is not zero");
  for (int i = 32; i < 48; i++) require(c[i] == 0, "ldtilecfg: width of a tile above 7");
  for (int i = 56; i < 64; i++) require(c[i] == 0, "ldtilecfg: rows of a tile above 7");
  memcpy(state.config, c, CONFIG_BYTES);
  memset(state.tile, 0, sizeof state.tile);
  state.configured = c[0] == 1;
  for (int i = 0; i < TILES && state.configured; i++) {
    Tmm *t = &state.tile[i];
    t->bytes = c[16 + 2 * i] | (uint32_t)c[17 + 2 * i] << 8;
    t->rows = c[48 + i];
    require(t->bytes <= ROW_BYTES && t->rows <= ROWS, "ldtilecfg: a tile is too large");
    require((t->bytes == 0) == (t->rows == 0), "ldtilecfg: a tile has rows or bytes only");
  }
  state.counts.configs++;
}

static void store_config(const Instr *in) {
  uint8_t none[CONFIG_BYTES] = {0};
  memcpy((void *)(uintptr_t)in->base, state.configured ? state.config : none, CONFIG_BYTES);
}

static void release(void) {
  state.configured = false;
  memset(state.tile, 0, sizeof state.tile);
  state.counts.releases++;
}

static Tmm *tile_at(uint32_t n) {
  require(state.configured, "#UD: no tiles are configured");
  require(n < TILES, "#UD: tile number above 7");
  Tmm *t = &state.tile[n];
  require(t->rows > 0, "#UD: the tile is not configured");
  return t;
}

static void zero_tile(const Instr *in) {
  Tmm *t = tile_at(in->reg);
  memset(t->data, 0, sizeof t->data);
  t->written = true;
}

static void load_tile(const Instr *in) {
  Tmm *t = tile_at(in->reg);
  require(in->has_sib, "#UD: tileload without SIB");
  memset(t->data, 0, sizeof t->data);
  for (uint32_t m = 0; m < t->rows; m++)
    memcpy(t->data[m], (const void *)(uintptr_t)(in->base + m * in->index), t->bytes);
  t->written = true;
  state.counts.loads++;
}

static void store_tile(const Instr *in) {
  Tmm *t = tile_at(in->reg);
  require(in->has_sib, "#UD: tilestore without SIB");
  require(t->written, "tilestored of a tile without contents");
  for (uint32_t m = 0; m < t->rows; m++) memcpy((void *)(uintptr_t)(in->base + m * in->index), t->data[m], t->bytes);
  state.counts.stores++;
}

static int32_t product(const uint8_t *a, const uint8_t *b, bool a_signed, bool b_signed) {
  int32_t sum = 0;
  for (int i = 0; i < 4; i++) sum += (a_signed ? (int8_t)a[i] : a[i]) * (b_signed ? (int8_t)b[i] : b[i]);
  return sum;
}

static void dot_bytes(Tmm *c, const Tmm *a, const Tmm *b, bool a_signed, bool b_signed) {
  for (uint32_t m = 0; m < c->rows; m++)
    for (uint32_t k = 0; k < a->bytes / 4; k++)
      for (uint32_t n = 0; n < c->bytes / 4; n++) {
        uint32_t sum;
        memcpy(&sum, &c->data[m][4 * n], 4);
        sum += (uint32_t)product(&a->data[m][4 * k], &b->data[k][4 * n], a_signed, b_signed);
        memcpy(&c->data[m][4 * n], &sum, 4);
      }
}

static float half(const uint8_t *at) {  // denormals are zero
  uint32_t bits = (uint32_t)at[0] << 16 | (uint32_t)at[1] << 24;
  if ((bits & 0x7f800000) == 0) bits &= 0x80000000;
  float v;
  memcpy(&v, &bits, 4);
  return v;
}

static float flushed(float v) { return v > -0x1p-126f && v < 0x1p-126f ? 0.0f : v; }

static void dot_halves(Tmm *c, const Tmm *a, const Tmm *b) {
  for (uint32_t m = 0; m < c->rows; m++)
    for (uint32_t n = 0; n < c->bytes / 4; n++) {
      float sum[2] = {0, 0}, old;
      for (uint32_t k = 0; k < a->bytes / 4; k++)
        for (uint32_t i = 0; i < 2; i++)
          sum[i] = flushed(__builtin_fmaf(half(&a->data[m][4 * k + 2 * i]), half(&b->data[k][4 * n + 2 * i]), sum[i]));
      memcpy(&old, &c->data[m][4 * n], 4);
      old = flushed(flushed(old) + flushed(sum[0] + sum[1]));
      memcpy(&c->data[m][4 * n], &old, 4);
    }
}

static void dot(const Instr *in) {
  Tmm *c = tile_at(in->reg), *a = tile_at(in->rm), *b = tile_at(in->third);
  require(c != a && c != b && a != b, "#UD: tiles of a product are the same");
  require(c->bytes % 4 == 0 && a->bytes % 4 == 0 && b->bytes % 4 == 0, "#UD: bytes of a row are not by four");
  require(c->rows == a->rows && a->bytes / 4 == b->rows && c->bytes == b->bytes, "#UD: shapes of a product");
  require(c->written && a->written && b->written, "product of a tile without contents");
  state.counts.dots++;
  if (in->opcode == 0x5c)
    dot_halves(c, a, b);
  else
    dot_bytes(c, a, b, in->prefix == 0xf2 || in->prefix == 0xf3, in->prefix == 0xf2 || in->prefix == 0x66);
}

// Executes the instruction when it is one of AMX.
static bool execute(const Instr *in) {
  bool memory = in->mod != 3, products = in->opcode == 0x5e || (in->opcode == 0x5c && in->prefix == 0xf3);
  if (products && !memory) {
    dot(in);
    return true;
  }
  if (in->third != 0) return false;
  if (in->opcode == 0x49) {
    if (memory && in->reg == 0 && in->prefix == 0) return load_config(in), true;
    if (memory && in->reg == 0 && in->prefix == 0x66) return store_config(in), true;
    if (!memory && in->reg == 0 && in->rm == 0 && in->prefix == 0) return release(), true;
    if (!memory && in->rm == 0 && in->prefix == 0xf2) return zero_tile(in), true;
  }
  if (in->opcode != 0x4b || !memory) return false;
  if (in->prefix == 0xf2 || in->prefix == 0x66) return load_tile(in), true;
  return in->prefix == 0xf3 ? (store_tile(in), true) : false;
}

static void on_illegal(int sig, siginfo_t *info, void *context) {
  ucontext_t *u = context;
  Instr in;
  (void)sig;
  (void)info;
  require(decode(&in, u) && execute(&in), "an instruction that is none of AMX");
  u->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)in.end;
}

static void install(void) {
  struct sigaction act = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigemptyset(&act.sa_mask);
  sigaction(SIGILL, &act, NULL);
}

static bool is_tile_feature(CpuFeature f) { return cpu_feature_info(f)->xcr0 == 0x60000; }

const TargetRow *amx_emulator_row(void) {
  static TargetRow row;
  const Target *real = target_by_name("sapphire-rapids"), *vectors = target_by_name("icelake");
  if (target_runs_here(real) || !target_runs_here(vectors)) return NULL;
  if (row.triple) return &row;
  TargetRow r = *target_row(real);
  for (uint32_t f = 0; f < FEATURE_COUNT; f++)
    if (!cpu_feature_here((CpuFeature)f) && !is_tile_feature((CpuFeature)f)) r.features &= ~(UINT64_C(1) << f);
  install();
  row = r;
  return &row;
}

AmxCounts amx_emulator_counts(void) { return state.counts; }
bool amx_emulator_idle(void) { return !state.configured; }
#else
const TargetRow *amx_emulator_row(void) { return NULL; }
AmxCounts amx_emulator_counts(void) { return (AmxCounts){0}; }
bool amx_emulator_idle(void) { return true; }
#endif

const TargetRow *amx_emulated(const Target *t) {
  return strcmp(t->name, "sapphire-rapids") == 0 ? amx_emulator_row() : NULL;
}

bool amx_usable(void) { return amx_emulator_row() != NULL || target_runs_here(target_by_name("sapphire-rapids")); }
