// qcc: options, command, exit code. No logic of its own.
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/driver/session.h"
#include "frontend/onnx_node.h"

static int command_run(Session *s) {
  switch (s->opt.command) {
    case CMD_compile: return cmd_compile(s);
    case CMD_run: return cmd_run(s);
    case CMD_verify: return cmd_verify(s);
    case CMD_bench: return cmd_bench(s);
    case CMD_inspect: return cmd_inspect(s);
    case CMD_opt: return cmd_opt(s);
  }
  return 2;
}

static void list_targets(void) {
  const Target *native = target_native();
  for (uint32_t i = 0; i < target_count(); i++) {
    const Target *t = target_at(i);
    const char *family = target_family(t);
    printf("%-18s %s, %u-bit vectors, %u registers%s%s%s\n", t->name, t->arch, t->vector_bits, t->n_vregs,
           family ? ", level of " : "", family ? family : "", t == native ? " (native)" : "");
  }
}

static void list_ops(void) {
  static const struct {
    const char *name, *domain;
    int since, until;
  } ops[] = {
#define ONNX(name, domain, since, until, min_in, max_in, max_out, op, import) {name, domain, since, until},
#include "frontend/onnx_ops.def"
#undef ONNX
  };
  for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
    printf("%s%s%s, opset %d", ops[i].domain, ops[i].domain[0] ? ":" : "", ops[i].name, ops[i].since);
    if (ops[i].until == ONNX_LATEST) {
      printf(" on\n");
    } else {
      printf(" to %d\n", ops[i].until);
    }
  }
}

// Options that print something and end. True when one was there.
static bool information(const Session *s) {
  const Options *o = &s->opt;
  if (option_flag(&o->help)) {
    options_help(stdout, o->command, o->command == CMD_compile);
  } else if (option_flag(&o->version)) {
    printf("qcc %s\n", QCC_VERSION);
  } else if (option_flag(&o->man)) {
    options_man(stdout);
  } else if (option_flag(&o->list_targets)) {
    list_targets();
  } else if (option_flag(&o->list_ops)) {
    list_ops();
  } else if (option_flag(&o->print_pipeline)) {
    printf("%s\n", pipeline_default);
  } else {
    return false;
  }
  return true;
}

static void print_timings(const Session *s) {
  for (uint32_t i = 0; i < s->timings.n; i++)
    fprintf(stderr, "%-12s %9.3f ms %9lld ops\n", s->timings.at[i].name, 1e3 * s->timings.at[i].seconds,
            (long long)s->timings.at[i].ops);
}

int main(int argc, char **argv) {
  mallopt(M_MMAP_THRESHOLD, 1 << 20);  // weights go back to the system when they are freed
  Session s = {.arena = arena_new("module"), .start = session_now(), .terminal = isatty(2) != 0};
  s.diag = diag_new(s.arena, stderr);
  int code = 2;
  if (options_parse(&s.opt, argc, argv, s.arena, s.diag)) {
    if (information(&s)) {
      code = 0;
    } else if (session_pass_options(&s) && session_target(&s) && session_link(&s)) {
      code = command_run(&s);
    }
    if (option_flag(&s.opt.time_passes)) print_timings(&s);
  }
  if ((fflush(stdout) != 0 || ferror(stdout)) && code == 0) {
    diag_error(s.diag, DIAG_IO, NULL, "can't write to standard output: %s", strerror(errno));
    code = 4;
  }
  arena_free(s.arena);
  return code;
}
