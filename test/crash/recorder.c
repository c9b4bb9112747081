/*
 * LD_PRELOAD recorder of the system calls that decide what survives a power cut: writes, truncations, names
 * and syncs of files below RECORDER_ROOT, appended to the file RECORDER_TRACE in the order they happened.
 *
 * A record is a fixed header, a path (or two, NUL between), then data. Names change under one lock, so their
 * order is exact. A write or sync is recorded before (BEGIN) and after it ran (END): a sync covers just the
 * writes whose END stands before the sync's BEGIN, and holds from its END on. Files are named by inode
 * number, which may be used again only after a CREATE of the new file. image.ts reads the trace.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
  CREATE = 1,
  WRITE = 2,
  WRITE_END = 3,
  SYNC = 4,
  SYNC_END = 5,
  RENAME = 6,
  UNLINK = 7,
  MKDIR = 8,
  RMDIR = 9,
  TRUNCATE = 10
};

struct header {
  uint32_t total; /* bytes of the whole record */
  uint8_t type;
  uint8_t flags; /* bit 0: written through O_DSYNC or O_SYNC, durable at WRITE_END; bit 1: the call failed */
  uint16_t path_size;
  uint64_t id;  /* joins BEGIN and END */
  uint64_t ino; /* inode of the file or directory */
  uint64_t offset;
  uint64_t size; /* of the data, or the new size */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int trace_fd = -1;
static char root[PATH_MAX];
static size_t root_size;
static uint64_t next_id;

#define REAL(name) ((__typeof__(&name))real_##name)
#define FIND(name)                                                                                           \
  if (!real_##name) real_##name = dlsym(RTLD_NEXT, #name)
static void *real_open, *real_openat, *real_pwrite, *real_pwrite64, *real_pwritev, *real_pwritev64,
    *real_write, *real_writev, *real_fsync, *real_fdatasync, *real_ftruncate, *real_ftruncate64,
    *real_renameat2, *real_unlinkat, *real_mkdirat;

static void start(void) {
  static int started;
  if (started) return;
  started = 1;
  FIND(write);
  FIND(writev);
  FIND(open);
  const char *trace = getenv("RECORDER_TRACE");
  const char *wanted = getenv("RECORDER_ROOT");
  if (!trace || !wanted || !realpath(wanted, root)) return;
  root_size = strlen(root);
  int fd = REAL(open)(trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd >= 0) trace_fd = fcntl(fd, F_DUPFD_CLOEXEC, 900);
  if (fd >= 0) close(fd);
}
__attribute__((constructor)) static void constructor(void) { start(); }

static int inside(const char *path) {
  return strncmp(path, root, root_size) == 0 && (path[root_size] == '/' || path[root_size] == 0) &&
         !strstr(path, "/lock.mdb");
}

/* Absolute path of `path` relative to dirfd, without resolving the last component. */
static int absolute(int dirfd, const char *path, char out[PATH_MAX]) {
  if (path[0] == '/') {
    strncpy(out, path, PATH_MAX - 1);
    out[PATH_MAX - 1] = 0;
    return 1;
  }
  if (dirfd == AT_FDCWD) {
    if (!getcwd(out, PATH_MAX)) return 0;
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    if (n < 0) return 0;
    out[n] = 0;
  }
  size_t used = strlen(out);
  if (strcmp(path, ".") == 0) return 1;
  if (used + strlen(path) + 2 > PATH_MAX) return 0;
  out[used] = '/';
  strcpy(out + used + 1, path);
  return 1;
}

static int watched_fd(int fd, uint64_t *ino) {
  if (trace_fd < 0 || fd < 0 || fd == trace_fd) return 0;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n <= 0) return 0;
  path[n] = 0;
  if (!inside(path)) return 0;
  struct stat st;
  if (fstat(fd, &st) != 0) return 0;
  *ino = st.st_ino;
  return 1;
}

static void put(uint8_t type, uint8_t flags, uint64_t id, uint64_t ino, uint64_t offset, uint64_t size,
                const char *path, size_t path_size, const struct iovec *data, int count) {
  struct header h = {0, type, flags, (uint16_t)path_size, id, ino, offset, size};
  struct iovec *all = malloc(sizeof(struct iovec) * (size_t)(count + 2));
  size_t total = sizeof h + path_size;
  all[0] = (struct iovec){&h, sizeof h};
  all[1] = (struct iovec){(void *)path, path_size};
  for (int i = 0; i < count; i++) {
    all[i + 2] = data[i];
    total += data[i].iov_len;
  }
  h.total = (uint32_t)total;
  size_t done = 0;
  int at = 0;
  while (done < total) {
    int batch = count + 2 - at > 512 ? 512 : count + 2 - at;
    ssize_t n = REAL(writev)(trace_fd, all + at, batch);
    if (n <= 0) {
      if (errno == EINTR) continue;
      abort();
    }
    done += (size_t)n;
    while (at < count + 2 && (size_t)n >= all[at].iov_len) {
      n -= (ssize_t)all[at].iov_len;
      at++;
    }
    if (n > 0) {
      all[at].iov_base = (char *)all[at].iov_base + n;
      all[at].iov_len -= (size_t)n;
    }
  }
  free(all);
}

static uint64_t begin(uint8_t type, int fd, uint64_t ino, uint64_t offset, const struct iovec *data,
                      int count) {
  uint64_t size = 0;
  for (int i = 0; i < count; i++) size += data[i].iov_len;
  uint8_t flags = 0;
  if (type == WRITE) {
    int f = fcntl(fd, F_GETFL);
    if (f >= 0 && (f & (O_DSYNC | O_SYNC))) flags = 1;
  }
  pthread_mutex_lock(&lock);
  uint64_t id = ((uint64_t)getpid() << 32) | ++next_id;
  put(type, flags, id, ino, offset, size, "", 0, data, count);
  pthread_mutex_unlock(&lock);
  return id;
}
static void end(uint8_t type, uint64_t id, uint64_t ino, int failed) {
  pthread_mutex_lock(&lock);
  put(type, failed ? 2 : 0, id, ino, 0, 0, "", 0, NULL, 0);
  pthread_mutex_unlock(&lock);
}

static int do_open(int dirfd, const char *path, int flags, mode_t mode) {
  start();
  FIND(openat);
  char full[PATH_MAX];
  if (trace_fd < 0 || !(flags & O_CREAT) || !absolute(dirfd, path, full) || !inside(full))
    return REAL(openat)(dirfd, path, flags, mode);
  pthread_mutex_lock(&lock);
  struct stat before;
  int existed = lstat(full, &before) == 0;
  int fd = REAL(openat)(dirfd, path, flags, mode);
  int error = errno;
  struct stat st;
  if (fd >= 0 && fstat(fd, &st) == 0) {
    if (!existed) put(CREATE, 0, 0, st.st_ino, 0, 0, full, strlen(full), NULL, 0);
    else if (flags & O_TRUNC) put(TRUNCATE, 0, 0, st.st_ino, 0, 0, "", 0, NULL, 0);
  }
  pthread_mutex_unlock(&lock);
  errno = error;
  return fd;
}
static mode_t mode_of(int flags, va_list list) {
  return (flags & (O_CREAT | O_TMPFILE)) ? va_arg(list, mode_t) : 0;
}
#define OPEN(name, params, dirfd)                                                                            \
  int name params {                                                                                          \
    va_list list;                                                                                            \
    va_start(list, flags);                                                                                   \
    mode_t mode = mode_of(flags, list);                                                                      \
    va_end(list);                                                                                            \
    return do_open(dirfd, path, flags, mode);                                                                \
  }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int dirfd, const char *path, int flags, ...), dirfd)
OPEN(openat64, (int dirfd, const char *path, int flags, ...), dirfd)

#define RECORDED(type, fd, offset, data, count, call)                                                        \
  uint64_t ino;                                                                                              \
  if (!watched_fd(fd, &ino)) return call;                                                                    \
  uint64_t id = begin(type, fd, ino, (uint64_t)(offset), data, count);                                       \
  __typeof__(call) result = call;                                                                            \
  int error = errno;                                                                                         \
  end(type + 1, id, ino, result < 0);                                                                        \
  errno = error;                                                                                             \
  return result

static off_t position(int fd) {
  int f = fcntl(fd, F_GETFL);
  if (f >= 0 && (f & O_APPEND)) {
    struct stat st;
    return fstat(fd, &st) == 0 ? st.st_size : 0;
  }
  off_t at = lseek(fd, 0, SEEK_CUR);
  return at < 0 ? 0 : at;
}
ssize_t pwrite(int fd, const void *from, size_t size, off_t offset) {
  FIND(pwrite);
  struct iovec v = {(void *)from, size};
  RECORDED(WRITE, fd, offset, &v, 1, REAL(pwrite)(fd, from, size, offset));
}
ssize_t pwrite64(int fd, const void *from, size_t size, off64_t offset) {
  FIND(pwrite64);
  struct iovec v = {(void *)from, size};
  RECORDED(WRITE, fd, offset, &v, 1, REAL(pwrite64)(fd, from, size, offset));
}
ssize_t pwritev(int fd, const struct iovec *v, int count, off_t offset) {
  FIND(pwritev);
  RECORDED(WRITE, fd, offset, v, count, REAL(pwritev)(fd, v, count, offset));
}
ssize_t pwritev64(int fd, const struct iovec *v, int count, off64_t offset) {
  FIND(pwritev64);
  RECORDED(WRITE, fd, offset, v, count, REAL(pwritev64)(fd, v, count, offset));
}
ssize_t write(int fd, const void *from, size_t size) {
  FIND(write);
  struct iovec v = {(void *)from, size};
  RECORDED(WRITE, fd, position(fd), &v, 1, REAL(write)(fd, from, size));
}
ssize_t writev(int fd, const struct iovec *v, int count) {
  FIND(writev);
  RECORDED(WRITE, fd, position(fd), v, count, REAL(writev)(fd, v, count));
}
int fsync(int fd) {
  FIND(fsync);
  RECORDED(SYNC, fd, 0, NULL, 0, REAL(fsync)(fd));
}
int fdatasync(int fd) {
  FIND(fdatasync);
  RECORDED(SYNC, fd, 0, NULL, 0, REAL(fdatasync)(fd));
}

#define TRUNCATED(name, type)                                                                                \
  int name(int fd, type size) {                                                                              \
    FIND(name);                                                                                              \
    uint64_t ino;                                                                                            \
    if (!watched_fd(fd, &ino)) return REAL(name)(fd, size);                                                  \
    pthread_mutex_lock(&lock);                                                                               \
    int result = REAL(name)(fd, size), error = errno;                                                        \
    if (result == 0) put(TRUNCATE, 0, 0, ino, 0, (uint64_t)size, "", 0, NULL, 0);                            \
    pthread_mutex_unlock(&lock);                                                                             \
    errno = error;                                                                                           \
    return result;                                                                                           \
  }
TRUNCATED(ftruncate, off_t)
TRUNCATED(ftruncate64, off64_t)

static int name_call(uint8_t type, int dirfd, const char *path, int dirfd2, const char *path2, mode_t mode,
                     int flags) {
  FIND(renameat2);
  FIND(unlinkat);
  FIND(mkdirat);
  char both[2 * PATH_MAX], second[PATH_MAX];
  int watched = trace_fd >= 0 && absolute(dirfd, path, both) && inside(both);
  size_t size = watched ? strlen(both) : 0;
  if (watched && type == RENAME) {
    watched = absolute(dirfd2, path2, second);
    strcpy(both + size + 1, second);
    size += 1 + strlen(second);
  }
  if (watched) pthread_mutex_lock(&lock);
  int result = type == RENAME  ? REAL(renameat2)(dirfd, path, dirfd2, path2, (unsigned)flags)
               : type == MKDIR ? REAL(mkdirat)(dirfd, path, mode)
                               : REAL(unlinkat)(dirfd, path, flags);
  int error = errno;
  if (watched && result == 0) {
    struct stat st = {0};
    if (type == MKDIR) (void)fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW);
    put(type, 0, 0, st.st_ino, 0, 0, both, size, NULL, 0);
  }
  if (watched) pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}
int rename(const char *from, const char *to) { return name_call(RENAME, AT_FDCWD, from, AT_FDCWD, to, 0, 0); }
int renameat(int a, const char *from, int b, const char *to) {
  return name_call(RENAME, a, from, b, to, 0, 0);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
  return name_call(RENAME, a, from, b, to, 0, (int)flags);
}
int unlink(const char *path) { return name_call(UNLINK, AT_FDCWD, path, 0, NULL, 0, 0); }
int rmdir(const char *path) { return name_call(RMDIR, AT_FDCWD, path, 0, NULL, 0, AT_REMOVEDIR); }
int unlinkat(int dirfd, const char *path, int flags) {
  return name_call(flags & AT_REMOVEDIR ? RMDIR : UNLINK, dirfd, path, 0, NULL, 0, flags);
}
int mkdir(const char *path, mode_t mode) { return name_call(MKDIR, AT_FDCWD, path, 0, NULL, mode, 0); }
int mkdirat(int dirfd, const char *path, mode_t mode) {
  return name_call(MKDIR, dirfd, path, 0, NULL, mode, 0);
}
