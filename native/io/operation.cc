#include "native/io/operation.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace ostraka::io {

namespace {

constexpr size_t kAlignment = 4096;
/// A directory whose names take more than this is refused (E2BIG) rather than held in memory.
constexpr size_t kListingLimit = size_t{256} << 20;

/// Only read: all its pages are the one page of zeros that the system has.
constexpr size_t kZerosSize = size_t{1} << 20;
uint8_t zeros[kZerosSize];

int Errno(int result) { return result < 0 ? errno : 0; }

/// Calls again what a signal interrupted.
template <typename Call>
auto Retry(Call call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

int ReadPlain(int fd, uint64_t offset, uint8_t* into, size_t size, uint64_t* found) {
  size_t done = 0;
  while (done < size) {
    const ssize_t count = Retry([&] { return pread(fd, into + done, size - done, static_cast<off_t>(offset + done)); });
    if (count < 0) return errno;
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  *found = done;
  return 0;
}

/// O_DIRECT wants offset, length and memory aligned: reads the enclosing aligned range into memory of its own.
int ReadDirect(int fd, uint64_t offset, uint8_t* into, size_t size, uint64_t* found) {
  const uint64_t start = offset / kAlignment * kAlignment;
  const size_t length = (offset + size - start + kAlignment - 1) / kAlignment * kAlignment;
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, length) != 0) return ENOMEM;
  const Bytes aligned(static_cast<uint8_t*>(memory));
  size_t done = 0;
  while (done < length) {
    const ssize_t count =
        Retry([&] { return pread(fd, aligned.get() + done, length - done, static_cast<off_t>(start + done)); });
    if (count < 0) return errno;
    done += static_cast<size_t>(count);
    // A short read that is not aligned ends at the end of the file; going on from there would be EINVAL.
    if (count == 0 || count % static_cast<ssize_t>(kAlignment) != 0) break;
  }
  const size_t skip = offset - start;
  const size_t count = done <= skip ? 0 : std::min(size, done - skip);
  std::memcpy(into, aligned.get() + skip, count);
  *found = count;
  return 0;
}

int OpenDirectory(int root, const std::string& path, int* fd) {
  *fd = Retry([&] { return openat(root, path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC); });
  return Errno(*fd);
}

int SyncDirectory(int root, const std::string& path) {
  int fd = -1;
  if (const int error = OpenDirectory(root, path, &fd)) return error;
  const Descriptor descriptor(fd);
  return Errno(Retry([&] { return fsync(fd); }));
}

int List(int root, const std::string& path, Result* result) {
  int fd = -1;
  if (const int error = OpenDirectory(root, path, &fd)) return error;
  DIR* directory = fdopendir(fd);
  if (directory == nullptr) {
    const int error = errno;
    close(fd);
    return error;
  }
  int error = 0;
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(directory);
    if (entry == nullptr) {
      error = errno;
      break;
    }
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    if (result->a > 0) result->names += '/';
    result->names += entry->d_name;
    result->a++;
    if (result->names.size() > kListingLimit) {
      error = E2BIG;
      break;
    }
  }
  closedir(directory);
  return error;
}

int Stat(int root, const std::string& path, Result* result) {
  struct stat found;
  if (fstatat(root, path.c_str(), &found, AT_SYMLINK_NOFOLLOW) < 0) return errno;
  result->a = S_ISREG(found.st_mode) ? 0 : S_ISDIR(found.st_mode) ? 1 : 2;
  result->b = S_ISREG(found.st_mode) ? static_cast<uint64_t>(found.st_size) : 0;
  return 0;
}

int Space(int root, Result* result) {
  struct statvfs found;
  if (Retry([&] { return fstatvfs(root, &found); }) < 0) return errno;
  result->a = static_cast<uint64_t>(found.f_blocks) * found.f_frsize;
  result->b = static_cast<uint64_t>(found.f_bavail) * found.f_frsize;
  result->c = found.f_favail;
  return 0;
}

int MakeDirectory(int root, const std::string& path) {
  if (mkdirat(root, path.c_str(), 0700) == 0) return 0;
  if (errno != EEXIST) return errno;
  struct stat found;
  if (fstatat(root, path.c_str(), &found, AT_SYMLINK_NOFOLLOW) < 0) return errno;
  return S_ISDIR(found.st_mode) ? 0 : EEXIST;
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}

int OpenFile(int root, const std::string& path, uint32_t flags, std::shared_ptr<File>* out) {
  int how = O_CLOEXEC | O_NOFOLLOW | O_NOCTTY;
  const uint32_t mode = flags & kModeMask;
  how |= mode == kModeRead ? O_RDONLY : O_RDWR;
  if (mode == kModeCreate) how |= O_CREAT | O_EXCL;
  if (flags & kDirect) {
    if (mode != kModeRead) return EINVAL;
    how |= O_DIRECT;
  }
  if (!(flags & kMayBlock)) how |= O_NONBLOCK;
  const int fd = Retry([&] { return openat(root, path.c_str(), how, 0600); });
  if (fd < 0) return errno;
  *out = std::make_shared<File>(fd, (flags & kDirect) != 0);
  struct stat found;
  if (fstat(fd, &found) < 0) return errno;
  if (S_ISDIR(found.st_mode)) return EISDIR;
  return S_ISREG(found.st_mode) ? 0 : EISNAM;
}

int Read(const File& file, uint64_t offset, uint8_t* into, size_t size, uint64_t* found) {
  const int fd = file.descriptor.get();
  return file.direct ? ReadDirect(fd, offset, into, size, found) : ReadPlain(fd, offset, into, size, found);
}

int ReadCached(const File& file, uint64_t offset, uint8_t* into, size_t size) {
  if (file.direct) return EOPNOTSUPP;
  iovec vector = {into, size};
  const ssize_t count =
      Retry([&] { return preadv2(file.descriptor.get(), &vector, 1, static_cast<off_t>(offset), RWF_NOWAIT); });
  if (count < 0) return errno;
  // What is cached may end before what was asked for does, and so may the file: the drive's own threads tell which.
  return static_cast<size_t>(count) == size ? 0 : EAGAIN;
}

int Write(const File& file, uint64_t offset, const uint8_t* from, size_t size) {
  if (file.direct) return EINVAL;
  size_t done = 0;
  // Writing nothing asks the system as well: it fails where writing something would.
  do {
    const ssize_t count = Retry([&] {
      return pwrite(file.descriptor.get(), from + done, size - done, static_cast<off_t>(offset + done));
    });
    if (count < 0) return errno;
    if (count == 0 && done < size) return EIO;
    done += static_cast<size_t>(count);
  } while (done < size);
  return 0;
}

int WriteZeros(const File& file, uint64_t offset, uint64_t size) {
  uint64_t done = 0;
  do {
    const size_t length = std::min<uint64_t>(kZerosSize, size - done);
    if (const int error = Write(file, offset + done, zeros, length)) return error;
    done += length;
  } while (done < size);
  return 0;
}

int WriteBack(const File& file) {
  const int error = Errno(Retry([&] { return sync_file_range(file.descriptor.get(), 0, 0, SYNC_FILE_RANGE_WRITE); }));
  return error == ENOSYS || error == EPERM || error == EINVAL ? 0 : error;
}

int DropCache(const File& file, bool* gone) {
  const int fd = file.descriptor.get();
  *gone = false;
  struct stat found;
  if (fstat(fd, &found) < 0) return errno;
  if (const int error = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)) return error == EINVAL ? 0 : error;
  // A read that must not wait finds nothing exactly when the page is not cached. Three pages stand for all.
  const off_t last = std::max<off_t>(found.st_size, 1) - 1;
  for (const off_t at : {off_t{0}, last / 2, last}) {
    uint8_t byte;
    iovec vector = {&byte, 1};
    const ssize_t count = Retry([&] { return preadv2(fd, &vector, 1, at, RWF_NOWAIT); });
    if (count >= 0 || errno != EAGAIN) return 0;
  }
  *gone = true;
  return 0;
}

int SizeOf(const File& file, uint64_t* size) {
  struct stat found;
  if (fstat(file.descriptor.get(), &found) < 0) return errno;
  *size = static_cast<uint64_t>(found.st_size);
  return 0;
}

int OnNames(int root, const Operation& operation, Result* result) {
  const char* path = operation.path.c_str();
  switch (operation.kind) {
    case Kind::kRename:
      return Errno(renameat(root, path, root, operation.to.c_str()));
    case Kind::kUnlink: {
      const int error = Errno(unlinkat(root, path, 0));
      return error == ENOENT ? 0 : error;
    }
    case Kind::kMakeDir:
      return MakeDirectory(root, operation.path);
    case Kind::kRemoveDir:
      return Errno(unlinkat(root, path, AT_REMOVEDIR));
    case Kind::kSyncDir:
      return SyncDirectory(root, operation.path);
    case Kind::kList:
      return List(root, operation.path, result);
    case Kind::kStat:
      return Stat(root, operation.path, result);
    case Kind::kSpace:
      return Space(root, result);
    default:
      return EINVAL;
  }
}

int OpenRoot(const std::string& path, int* fd) {
  *fd = Retry([&] { return open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  return Errno(*fd);
}

bool SameFile(int a, int b) {
  struct stat first, second;
  if (fstat(a, &first) != 0 || fstat(b, &second) != 0) return false;
  return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

int TakeLock(int root, int* fd) {
  *fd = Retry([&] { return openat(root, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600); });
  if (*fd < 0) return errno;
  if (Retry([&] { return flock(*fd, LOCK_EX | LOCK_NB); }) == 0) return 0;
  const int error = errno;
  close(*fd);
  *fd = -1;
  return error;
}

}  // namespace ostraka::io
