// External tensor data. A model file is hostile, so the location it names is first checked as text, then opened without
// ever leaving the model's folder or following a symbolic link, and the open file must be a regular file with link
// count 1 (a hard link could give away a file the model's author cannot read). Opening never blocks on a FIFO.
// Offsets and lengths inside the file are checked by the caller, which knows the tensor's size.
#include "frontend/onnx_external.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY)

// Why a location is refused before anything is opened, NULL when it is fine.
static const char *location_fault(const char *location) {
  if (!location[0]) return "is empty";
  if (location[0] == '/') return "is an absolute path";
  for (const char *p = location; *p; p++) {
    if (*p == '\\') return "has a backslash";
    if ((unsigned char)*p < 0x20 || *p == 0x7f) return "has a control character";
  }
  for (const char *p = location;;) {
    size_t n = strcspn(p, "/");
    if (n == 0) return "has an empty component";
    if (n == 2 && p[0] == '.' && p[1] == '.') return "leaves the folder of the model ('..')";
    if (!p[n]) return NULL;
    p += n + 1;
  }
}

// One component after the other, none of them a symbolic link: for kernels and sandboxes without openat2.
static int open_stepwise(int dir, Arena *arena, const char *location) {
  int fd = dir;
  for (const char *p = location;;) {
    size_t n = strcspn(p, "/");
    const char *name = arena_printf(arena, "%.*s", (int)n, p);
    int next = openat(fd, name, p[n] ? O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC : OPEN_FLAGS);
    int error = errno;
    if (fd != dir) close(fd);
    errno = error;
    if (next < 0 || !p[n]) return next;
    fd = next;
    p += n + 1;
  }
}

static int open_beneath(int dir, Arena *arena, const char *location) {
  struct open_how how = {.flags = OPEN_FLAGS, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
  long fd = syscall(SYS_openat2, dir, location, &how, sizeof how);
  if (fd < 0 && (errno == ENOSYS || errno == EPERM || errno == E2BIG)) return open_stepwise(dir, arena, location);
  return (int)fd;
}

static const ExternalFile *map_fd(Arena *arena, int fd, uint64_t size) {
  ExternalFile *f = NEW(arena, ExternalFile);
  f->size = size;
  if (size == 0) return f;
  void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (bytes == MAP_FAILED) return NULL;
  f->bytes = bytes;
  return f;
}

static const ExternalFile *open_checked(ExternalDir *dir, Arena *arena, Diag *diag, const Loc *loc, const char *what,
                                        const char *location) {
  const char *shown = str_escape(arena, location, 128);
  int fd = open_beneath(dir->fd, arena, location);
  if (fd < 0 && errno == ELOOP) {
    diag_error(diag, DIAG_REFUSED, loc, "%s: external data location '%s' goes through a symbolic link", what, shown);
    return NULL;
  }
  if (fd < 0) {
    diag_error(diag, DIAG_IO, loc, "%s: external data location '%s' does not open: %s", what, shown, strerror(errno));
    return NULL;
  }
  struct stat st;
  const ExternalFile *f = NULL;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
    diag_error(diag, DIAG_REFUSED, loc, "%s: external data location '%s' is not a regular file", what, shown);
  else if (st.st_nlink != 1)
    diag_error(diag, DIAG_REFUSED, loc, "%s: external data location '%s' has %lu hard links, expected 1", what, shown,
               (unsigned long)st.st_nlink);
  else if (!(f = map_fd(arena, fd, (uint64_t)st.st_size)))
    diag_error(diag, DIAG_IO, loc, "%s: external data location '%s' does not map: %s", what, shown, strerror(errno));
  close(fd);
  return f;
}

const ExternalFile *external_open(ExternalDir *dir, Arena *arena, Diag *diag, const Loc *loc, const char *what,
                                  const char *location) {
  const char *fault = location_fault(location);
  if (fault) {
    diag_error(diag, DIAG_REFUSED, loc, "%s: external data location '%s' %s", what, str_escape(arena, location, 128),
               fault);
    return NULL;
  }
  if (!dir->path || !dir->allowed) {
    diag_error(diag, DIAG_REFUSED, loc, "%s: its data is in the external file '%s', which is not allowed here", what,
               str_escape(arena, location, 128));
    return NULL;
  }
  const ExternalFile *f = map_get_str(dir->files, location);
  if (f) return f;
  if (dir->fd < 0) dir->fd = open(dir->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (dir->fd < 0) {
    diag_error(diag, DIAG_IO, loc, "folder '%s' does not open: %s", str_escape(arena, dir->path, 512), strerror(errno));
    return NULL;
  }
  f = open_checked(dir, arena, diag, loc, what, location);
  if (f) map_set_str(dir->files, location, (void *)(uintptr_t)f);
  return f;
}

void external_close(ExternalDir *dir) {
  if (dir->fd >= 0) close(dir->fd);
  dir->fd = -1;
}

const ExternalFile *file_map(Arena *arena, Diag *diag, const char *path) {
  Loc loc = {.file = path, .node = -1};
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  struct stat st;
  const ExternalFile *f = NULL;
  if (fd < 0 || fstat(fd, &st) != 0)
    diag_error(diag, DIAG_IO, &loc, "does not open: %s", strerror(errno));
  else if (!S_ISREG(st.st_mode))
    diag_error(diag, DIAG_IO, &loc, "is not a regular file");
  else if (!(f = map_fd(arena, fd, (uint64_t)st.st_size)))
    diag_error(diag, DIAG_IO, &loc, "does not map: %s", strerror(errno));
  if (fd >= 0) close(fd);
  return f;
}
