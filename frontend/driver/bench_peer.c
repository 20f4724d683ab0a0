// qcc bench --peer=COMMAND: the same model on other systems, in turns with the compiled object.
//
// COMMAND is run as `COMMAND MODEL --json --dim ... --shape ...` with the options given here, once a round between two
// timings of the object. It prints a line of JSON for each system it times: {"engine": NAME, "median_us": .., "min_us":
// ..} or {"engine": NAME, "refused": WHY}. The smallest numbers of all rounds count, so that a neighbour on the machine
// has to disturb every round to matter.
#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "frontend/driver/bench.h"

enum { ROUNDS = 3 };

static void quoted(StrBuf *b, const char *text) {
  strbuf_puts(b, " '");
  for (; *text; text++)
    if (*text == '\'') {
      strbuf_puts(b, "'\\''");
    } else {
      strbuf_printf(b, "%c", *text);
    }
  strbuf_puts(b, "'");
}

static const char *command_of(Session *s, const char *command) {
  StrBuf b;
  strbuf_init(&b, s->arena);
  strbuf_puts(&b, command);
  quoted(&b, s->opt.file);
  strbuf_puts(&b, " --json");
  for (uint32_t i = 0; i < s->opt.dim.n; i++) {
    strbuf_puts(&b, " --dim");
    quoted(&b, s->opt.dim.at[i]);
  }
  for (uint32_t i = 0; i < s->opt.input_shape.n; i++) {
    strbuf_puts(&b, " --shape");
    quoted(&b, s->opt.input_shape.at[i]);
  }
  return strbuf_str(&b);
}

static Peer *peer_named(Session *s, Peers *p, const char *name) {
  for (uint32_t i = 0; i < p->n; i++)
    if (strcmp(p->at[i].name, name) == 0) return &p->at[i];
  if (p->n == PEERS_MAX) return NULL;
  p->at[p->n] = (Peer){.name = arena_printf(s->arena, "%.60s", name), .time = {INFINITY, INFINITY}};
  return &p->at[p->n++];
}

// Lines that are no JSON with a name are what the command has to say besides.
static void read_line(Session *s, Peers *p, const char *line) {
  cJSON *json = cJSON_Parse(line);
  const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(json, "engine"));
  const char *refused = cJSON_GetStringValue(cJSON_GetObjectItem(json, "refused"));
  const cJSON *median = cJSON_GetObjectItem(json, "median_us"), *min = cJSON_GetObjectItem(json, "min_us");
  Peer *peer = name ? peer_named(s, p, name) : NULL;
  if (peer && cJSON_IsNumber(median) && cJSON_IsNumber(min)) {
    peer->time.median = fmin(peer->time.median, 1e-6 * median->valuedouble);
    peer->time.min = fmin(peer->time.min, 1e-6 * min->valuedouble);
  } else if (peer) {
    peer->refused = arena_printf(s->arena, "%.100s", refused ? refused : "no figure");
  }
  cJSON_Delete(json);
}

static bool run_peers(Session *s, const char *command, Peers *p) {
  char line[4096];
  FILE *out = popen(command, "r");
  if (!out) return diag_error(s->diag, DIAG_IO, NULL, "--peer: cannot run '%.200s'", command);
  while (fgets(line, sizeof line, out)) read_line(s, p, line);
  pclose(out);
  if (p->n > 0) return true;
  return diag_error(s->diag, DIAG_IO, NULL, "--peer: '%.200s' prints no line {\"engine\": ..., \"median_us\": ...}",
                    command);
}

bool bench_peers(Session *s, const Loaded *l, BenchTime *own, uint32_t *runs, Peers *p) {
  const char *command = command_of(s, option_text(&s->opt.peer, ""));
  *own = (BenchTime){INFINITY, INFINITY};
  for (int i = 0; i < ROUNDS; i++) {
    BenchTime t;
    if (!bench_whole(s, l, &t, runs) || !run_peers(s, command, p)) return false;
    own->median = fmin(own->median, t.median);
    own->min = fmin(own->min, t.min);
  }
  return true;
}

void bench_print_peers(const BenchTime *own, const Peers *p) {
  printf("%-16s %12s %12s %8s\n%-16s %12.2f %12.2f\n", "engine", "median us", "min us", "qcc is", "qcc",
         1e6 * own->median, 1e6 * own->min);
  for (uint32_t i = 0; i < p->n; i++) {
    const Peer *peer = &p->at[i];
    if (isfinite(peer->time.median)) {
      printf("%-16s %12.2f %12.2f %7.2fx\n", peer->name, 1e6 * peer->time.median, 1e6 * peer->time.min,
             peer->time.median / own->median);
    } else {
      printf("%-16s refuses: %s\n", peer->name, peer->refused);
    }
  }
}

// Three digits, and no exponent.
static void print_us(double seconds) {
  double us = 1e6 * seconds;
  printf(" %.*f |", us < 10 ? 2 : us < 1000 ? 1 : 0, us);
}

void bench_print_markdown(const char *network, double macs, const BenchTime *own, const Peers *p) {
  printf("| %s | %.2f |", network, 1e-6 * macs);
  print_us(own->min);
  for (uint32_t i = 0; i < p->n; i++) {
    const Peer *peer = &p->at[i];
    if (isfinite(peer->time.min)) {
      print_us(peer->time.min);
      printf(" %.2f |", peer->time.min / own->min);
    } else {
      printf(" refuses | |");
    }
  }
  printf("\n");
}
