// One operation on a drive and its execution with plain system calls. No JavaScript, no threads of its own.
//
// Paths are relative to the root of the drive, were checked (no "..", not absolute), and are opened from the root's
// descriptor with O_NOFOLLOW and O_NONBLOCK: a symbolic link or a FIFO in place of a file is an error, never a wait.
// Bytes live in memory of the operation itself, so an operation may outlast whoever asked for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace ostraka::io {

/// Closes its descriptor when the last user is done.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

/// The numbers are those of ts/native/io.ts.
enum class Kind : uint8_t {
  kOpen = 1,
  kRead,
  kWrite,
  kSync,
  kDropCache,
  kTruncate,
  kSize,
  kClose,
  kRename,
  kUnlink,
  kMakeDir,
  kRemoveDir,
  kSyncDir,
  kList,
  kStat,
  kSpace,
  kLock,
  kRefresh,
  kWriteBack,
  kWriteZeros,
};
constexpr uint8_t kLastKind = static_cast<uint8_t>(Kind::kWriteZeros);

enum Flags : uint32_t {
  kModeRead = 0,
  kModeWrite = 1,
  kModeCreate = 2,
  kModeMask = 3,
  kDirect = 4,
  /// Opens without O_NONBLOCK, whatever the name stands for: only for tests of what hangs.
  kMayBlock = 8,
};

/// In place of a file: the one opened by the nearest earlier open of the same batch.
constexpr int64_t kLastOpened = -1;

struct Free {
  void operator()(uint8_t* memory) const { std::free(memory); }
};
using Bytes = std::unique_ptr<uint8_t, Free>;

struct Operation {
  Kind kind = Kind::kSpace;
  uint32_t flags = 0;
  int64_t file = kLastOpened;
  uint64_t offset = 0;
  /// Bytes in `data` for reads and writes, of zeros to write, the new size for truncate.
  uint64_t size = 0;
  std::string path;
  std::string to;
  Bytes data;
};

/// What an operation gave. a: handle, bytes read, size, 1/0, kind of stat. Names of a listing are separated by '/'.
struct Result {
  uint64_t a = 0;
  uint64_t b = 0;
  uint64_t c = 0;
  std::string names;
};

/// An open file. `direct` reads go through aligned memory, past the page cache.
struct File {
  File(int fd, bool is_direct) : descriptor(fd), direct(is_direct) {}
  Descriptor descriptor;
  const bool direct;
};

// Each returns 0 or an errno. EISNAM: the name is not a regular file or directory.

int OpenFile(int root, const std::string& path, uint32_t flags, std::shared_ptr<File>* out);
int Read(const File& file, uint64_t offset, uint8_t* into, size_t size, uint64_t* found);
/// All `size` bytes, if the page cache has them: else EAGAIN, and EOPNOTSUPP where the file system cannot tell. Does
/// not wait for the drive.
int ReadCached(const File& file, uint64_t offset, uint8_t* into, size_t size);
int Write(const File& file, uint64_t offset, const uint8_t* from, size_t size);
int WriteZeros(const File& file, uint64_t offset, uint64_t size);
/// Has the kernel begin to write what the cache holds of the file. A hint: nothing is durable by it, and where the
/// system cannot, it does nothing. An error of the writing itself is left to the next sync.
int WriteBack(const File& file);
/// Writes back and drops the file's pages; `gone` says whether they were seen to be gone.
int DropCache(const File& file, bool* gone);
int SizeOf(const File& file, uint64_t* size);

/// The operations on names; everything else is EINVAL.
int OnNames(int root, const Operation& operation, Result* result);

/// Opens a directory (the root of a drive) by an absolute path.
int OpenRoot(const std::string& path, int* fd);
bool SameFile(int a, int b);
/// Opens (makes) the file `lock` and takes its lock: EWOULDBLOCK when another process has it.
int TakeLock(int root, int* fd);

}  // namespace ostraka::io
