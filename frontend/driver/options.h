// The command line, parsed by options.def.
#ifndef QCC_FRONTEND_DRIVER_OPTIONS_H
#define QCC_FRONTEND_DRIVER_OPTIONS_H

#include "ir/base/vec.h"
#include "ir/base/diag.h"

typedef enum CommandId {
#define COMMAND(id, name, usage, help) CMD_##id,
#define OPTION(id, name, kind, arg, commands, help)
#include "frontend/options.def"
#undef COMMAND
#undef OPTION
} CommandId;

typedef VEC(const char *) Texts;

// One member per option: FLAG and TEXT hold the last value (a FLAG's is "1"), MANY all of them.
typedef struct Options {
  CommandId command;
  const char *file;  // the model or text file
#define COMMAND(id, name, usage, help)
#define OPTION(id, name, kind, arg, commands, help) Texts id;
#include "frontend/options.def"
#undef COMMAND
#undef OPTION
} Options;

bool options_parse(Options *o, int argc, char **argv, Arena *arena, Diag *diag);  // false after diag_error
const char *option_text(const Texts *t, const char *missing);                     // last value
bool option_flag(const Texts *t);
void options_help(FILE *out, CommandId command, bool all);
void options_man(FILE *out);

#endif
