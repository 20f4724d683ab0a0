// The one place that opens files a model names: external tensor data.
#ifndef QCC_FRONTEND_ONNX_EXTERNAL_H
#define QCC_FRONTEND_ONNX_EXTERNAL_H

#include "ir/base/diag.h"
#include "ir/base/map.h"
#include "ir/base/str.h"

// The folder of a model and the files already mapped from it. Mappings stay until exit: constants borrow them.
typedef struct ExternalDir {
  const char *path;  // NULL: external data is not allowed
  bool allowed;      // option --external-data
  int fd;            // -1 until the first use
  Map *files;        // location -> mapped file
} ExternalDir;

typedef struct ExternalFile {
  const uint8_t *bytes;
  uint64_t size;
} ExternalFile;

// Opens `location` below the folder: a regular file with one name, reached without symbolic links. `what` names the
// tensor in the messages. NULL after diag_error.
const ExternalFile *external_open(ExternalDir *dir, Arena *arena, Diag *diag, const Loc *loc, const char *what,
                                  const char *location);

void external_close(ExternalDir *dir);  // the folder, not the mappings

// Maps a file the user named (model, test data). NULL after diag_error. An empty file gives size 0.
const ExternalFile *file_map(Arena *arena, Diag *diag, const char *path);

#endif
