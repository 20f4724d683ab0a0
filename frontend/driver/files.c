// Files appear whole or not at all: each is written under a temporary name in its folder, then all are renamed.
//
// The temporaries of the moment are known to a signal handler, so an interrupted run leaves none behind; signals wait
// while the list and the folder disagree. After the first rename the others follow: nothing but a full disk for a
// folder entry or a name that became a folder meanwhile can stop them. A report may also go to a terminal or a pipe: it
// is written there after the files stand.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontend/driver/session.h"

#define MAX_TEMPS 16

static const int deadly[] = {SIGINT, SIGTERM, SIGHUP};
enum { N_DEADLY = sizeof deadly / sizeof deadly[0] };

static const char *volatile temps[MAX_TEMPS];  // NULL: free

static void on_signal(int number) {
  for (int i = 0; i < MAX_TEMPS; i++)
    if (temps[i]) unlink(temps[i]);
  signal(number, SIG_DFL);
  raise(number);
}

// A signal that is ignored (nohup) stays ignored.
static void signals_watch(void) {
  signal(SIGXFSZ, SIG_IGN);  // a file above the limit of the shell is an error of write
  for (int i = 0; i < N_DEADLY; i++) {
    struct sigaction old, now = {.sa_handler = on_signal};
    if (sigaction(deadly[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL) sigaction(deadly[i], &now, NULL);
  }
}

static void signals_hold(sigset_t *before) {
  sigset_t set;
  sigemptyset(&set);
  for (int i = 0; i < N_DEADLY; i++) sigaddset(&set, deadly[i]);
  sigprocmask(SIG_BLOCK, &set, before);
}

static void signals_release(const sigset_t *before) { sigprocmask(SIG_SETMASK, before, NULL); }

static bool file_fail(Session *s, const char *what, const char *path) {
  return diag_error(s->diag, DIAG_IO, NULL, "can't %s '%.200s': %s", what, str_escape(s->arena, path, 200),
                    strerror(errno));
}

static bool write_all(int fd, const char *at, size_t n) {
  while (n) {
    ssize_t k = write(fd, at, n);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) return false;
    at += k;
    n -= (size_t)k;
  }
  return true;
}

static int temp_open(Session *s, const char *path, uint32_t slot) {
  char *name = arena_printf(s->arena, "%s.XXXXXX", path);
  sigset_t before;
  signals_hold(&before);
  int fd = mkstemp(name), error = errno;
  if (fd >= 0) temps[slot] = name;
  signals_release(&before);
  errno = error;
  return fd;
}

static void temp_drop(uint32_t slot) {
  sigset_t before;
  signals_hold(&before);
  if (temps[slot]) unlink(temps[slot]);
  temps[slot] = NULL;
  signals_release(&before);
}

static bool temp_write(Session *s, const OutFile *f, uint32_t slot) {
  int fd = temp_open(s, f->path, slot);
  if (fd < 0) return file_fail(s, "create a file beside", f->path);
  mode_t mask = umask(0);
  umask(mask);
  bool ok = write_all(fd, f->bytes, f->n) && fchmod(fd, 0666 & ~mask) == 0 && fsync(fd) == 0;
  int error = errno;
  if (close(fd) != 0 && ok) {
    ok = false;
    error = errno;
  }
  errno = error;
  return ok || file_fail(s, "write", f->path);
}

// Names under /dev and /proc stand for open files: what they lead to may be a regular file, but they must not be
// replaced.
static bool is_stream(const char *path) {
  struct stat st;
  if (strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/proc/", 6) == 0) return true;
  return stat(path, &st) == 0 && (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

static bool stream_write(Session *s, const OutFile *f) {
  int fd = open(f->path, O_WRONLY | O_APPEND | O_CLOEXEC);
  bool ok = fd >= 0 && write_all(fd, f->bytes, f->n);
  if (!ok) file_fail(s, "write", f->path);
  if (fd >= 0) close(fd);
  return ok;
}

static bool check_place(Session *s, const OutFile *f) {
  struct stat st;
  const char *path = f->path;
  if (is_stream(path) ? f->may_stream : stat(path, &st) != 0 || S_ISREG(st.st_mode)) return true;
  return diag_error(s->diag, DIAG_IO, NULL, "'%.200s' is not a regular file", str_escape(s->arena, path, 200));
}

static bool rename_all(Session *s, const OutFile *files, uint32_t n) {
  bool ok = true;
  sigset_t before;
  signals_hold(&before);
  for (uint32_t i = 0; i < n && ok; i++) {
    if (!temps[i]) continue;
    ok = rename(temps[i], files[i].path) == 0 || file_fail(s, "rename to", files[i].path);
    if (ok) temps[i] = NULL;
  }
  signals_release(&before);
  return ok;
}

bool write_files(Session *s, const OutFile *files, uint32_t n) {
  QCC_CHECK(n <= MAX_TEMPS, "write_files: %u files", n);
  signals_watch();
  bool ok = true;
  for (uint32_t i = 0; i < n && ok; i++) ok = check_place(s, &files[i]);
  for (uint32_t i = 0; i < n && ok; i++)
    if (!files[i].may_stream || !is_stream(files[i].path)) ok = temp_write(s, &files[i], i);
  ok = ok && rename_all(s, files, n);
  for (uint32_t i = 0; i < n && ok; i++)
    if (files[i].may_stream && is_stream(files[i].path)) ok = stream_write(s, &files[i]);
  for (uint32_t i = 0; i < n; i++) temp_drop(i);
  return ok;
}
