// Parsing, help and man page from options.def. Both --name=value and --name value are understood.
#include "frontend/driver/options.h"

#include <stddef.h>
#include <string.h>

typedef enum OptionKind { FLAG, TEXT, MANY } OptionKind;

static const struct {
  const char *name, *usage, *help;
} commands[] = {
#define COMMAND(id, name, usage, help) {name, usage, help},
#define OPTION(id, name, kind, arg, commands, help)
#include "frontend/options.def"
#undef COMMAND
#undef OPTION
};
static const char letters[] = "crvbio";

typedef struct OptionRow {
  const char *name;
  OptionKind kind;
  const char *arg, *commands, *help;
  size_t offset;
} OptionRow;

static const OptionRow rows[] = {
#define COMMAND(id, name, usage, help)
#define OPTION(id, name, kind, arg, commands, help) {name, kind, arg, commands, help, offsetof(Options, id)},
#include "frontend/options.def"
#undef COMMAND
#undef OPTION
};
enum { N_ROWS = sizeof rows / sizeof rows[0], N_COMMANDS = sizeof commands / sizeof commands[0] };

const char *option_text(const Texts *t, const char *missing) { return t->n ? t->at[t->n - 1] : missing; }
bool option_flag(const Texts *t) { return t->n > 0; }

static const OptionRow *row_find(const char *name, size_t n) {
  for (size_t i = 0; i < N_ROWS; i++)
    if (strlen(rows[i].name) == n && memcmp(rows[i].name, name, n) == 0) return &rows[i];
  return NULL;
}

static void option_add(Options *o, const OptionRow *row, const char *value, Arena *arena) {
  Texts *t = (Texts *)(void *)((char *)o + row->offset);
  vec_push(arena, t, value);
}

// One argument that starts with '-'. Returns how many arguments it used, 0 after diag_error.
static int option_take(Options *o, char **argv, int left, Arena *arena, Diag *diag) {
  const char *arg = argv[0];
  size_t n = strcspn(arg, "=");
  const OptionRow *row = row_find(arg, n);
  if (!row) {
    diag_error(diag, DIAG_USAGE, NULL, "unknown option '%.60s'; `qcc --help` lists them", arg);
    return 0;
  }
  if (!strchr(row->commands, letters[o->command])) {
    diag_error(diag, DIAG_USAGE, NULL, "option '%s' does not belong to this command (%s)", row->name,
               commands[o->command].usage);
    return 0;
  }
  if (row->kind == FLAG) {
    if (arg[n]) {
      diag_error(diag, DIAG_USAGE, NULL, "option '%s' takes no value", row->name);
      return 0;
    }
    option_add(o, row, "1", arena);
    return 1;
  }
  if (arg[n] == '=') {
    option_add(o, row, arg + n + 1, arena);
    return 1;
  }
  if (row->arg[0] == '[' && row->arg[strlen(row->arg) - 1] == ']') {  // optional value only with '='
    option_add(o, row, "", arena);
    return 1;
  }
  if (left < 2) {
    diag_error(diag, DIAG_USAGE, NULL, "option '%s' wants a value: %s", row->name, row->arg);
    return 0;
  }
  option_add(o, row, argv[1], arena);
  return 2;
}

bool options_parse(Options *o, int argc, char **argv, Arena *arena, Diag *diag) {
  *o = (Options){.command = CMD_compile};
  int i = 1;
  for (size_t c = 1; c < N_COMMANDS && argc > 1; c++)
    if (strcmp(argv[1], commands[c].name) == 0) {
      o->command = (CommandId)c;
      i = 2;
    }
  while (i < argc) {
    if (argv[i][0] == '-' && argv[i][1]) {
      int used = option_take(o, argv + i, argc - i, arena, diag);
      if (!used) return false;
      i += used;
    } else if (o->file) {
      return diag_error(diag, DIAG_USAGE, NULL, "more than one input file: '%.200s' and '%.200s'", o->file, argv[i]);
    } else {
      o->file = argv[i++];
    }
  }
  return true;
}

void options_help(FILE *out, CommandId command, bool all) {
  for (size_t c = 0; c < N_COMMANDS; c++)
    if (all || c == command) fprintf(out, "%s\n    %s\n", commands[c].usage, commands[c].help);
  fprintf(out, "\nOptions:\n");
  for (size_t i = 0; i < N_ROWS; i++) {
    if (!all && !strchr(rows[i].commands, letters[command])) continue;
    char head[64];
    snprintf(head, sizeof head, "%s%s%s", rows[i].name,
             rows[i].kind == FLAG     ? ""
             : rows[i].name[1] == '-' ? "="
                                      : " ",
             rows[i].arg);
    fprintf(out, "  %-34s %s\n", head, rows[i].help);
  }
  fprintf(
      out,
      "\nExit codes: 0 done, 1 model refused, 2 usage, 3 something in the model is unsupported (all of it is listed), "
      "4 file trouble, 5 a limit was hit, 70 internal error\n");
}

void options_man(FILE *out) {
  fprintf(out, ".TH QCC 1\n.SH NAME\nqcc \\- ahead-of-time neural network compiler\n.SH SYNOPSIS\n");
  for (size_t c = 0; c < N_COMMANDS; c++) fprintf(out, ".TP\n.B %s\n%s\n", commands[c].usage, commands[c].help);
  fprintf(out, ".SH OPTIONS\n");
  for (size_t i = 0; i < N_ROWS; i++) {
    fprintf(out, ".TP\n.B ");
    for (const char *p = rows[i].name; *p; p++) fprintf(out, *p == '-' ? "\\-" : "%c", *p);
    fprintf(out, " %s\n%s\n", rows[i].arg, rows[i].help);
  }
  fprintf(
      out,
      ".SH QUANTISATION\nRoundings, zero points, saturation, NaN, sign(0) and what exact means are fixed in "
      "docs/quantisation.md.\n"
      ".SH EXIT STATUS\n0 done, 1 model refused, 2 usage, 3 unsupported, 4 file trouble, 5 limit, 70 internal error\n");
}
