// The drives of this process: for each root path one Drive, shared by all JavaScript threads, with a bounded number of
// threads, a queue for foreground and one for background work, and deadlines.
//
//   Submit -> one thread takes the whole batch, runs its operations in order -> Sink::Completed
//
// A batch is handed to the thread that went to sleep last (its stack is the likeliest to be in a cache), which is woken
// after the mutex was released and needs not take it before it runs. Batches queue only while no thread is idle, or for
// the share of background work.
//
// A system call on a broken drive may never return. So:
// - Batches own their bytes (written data is copied in, read data copied out by the owner), and threads hold the
//   Batch and the Drive by shared_ptr: whoever asked may be gone, his buffers freed, his environment torn down.
// - A thread is never joined, and the registry is never destroyed: exit does not wait.
// - `Expire` gives a batch up: one in the queue is never started; a running one stops before its next operation, its
//   result is dropped and what it opened is closed.
// - When all threads are in batches past their deadlines, Submit fails at once with ETIMEDOUT.
//
// Background work occupies at most half of the threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "native/io/operation.h"

namespace ostraka::io {

struct Batch;

/// Where completed batches go. Called on a thread of the drive, also after the receiver lost interest.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual void Completed(std::shared_ptr<Batch> batch) = 0;
};

enum class State : uint8_t { kQueued, kRunning, kDone, kExpired };

struct Batch {
  // Set by the submitter.
  uint64_t id = 0;
  uint64_t client = 0;
  bool background = false;
  /// Steady clock, nanoseconds; INT64_MAX: none. Guarded by the mutex of the drive once submitted.
  int64_t deadline = INT64_MAX;
  std::shared_ptr<Sink> sink;
  std::vector<Operation> operations;

  // Set by the thread that runs it, read after completion.
  std::vector<Result> results;
  int error = 0;
  size_t failed_at = 0;

  // Guarded by the mutex of the drive, but for kExpired, which the running thread looks at between operations.
  std::atomic<State> state{State::kQueued};
  size_t bytes = 0;
  std::vector<int64_t> opened;
};

int64_t SteadyNow();

/// A thread that waits for work. It is woken once for each time that it was taken from the list of idle threads, after
/// what it is given was put into `batch`; nothing, when it is to look around.
class IdleThread {
 public:
  std::shared_ptr<Batch> batch;

  void Sleep();
  void Wake();

 private:
  enum : uint32_t { kAwake, kAsleep, kWoken };
  std::atomic<uint32_t> state_{kAwake};
};

class Drive : public std::enable_shared_from_this<Drive> {
 public:
  Drive(std::string path, unsigned threads, size_t queue_length);

  /// 0, or an errno: EAGAIN (a bound is reached), ETIMEDOUT (all threads are stuck), ESHUTDOWN. Counts `bytes`.
  int Submit(std::shared_ptr<Batch> batch);

  /// Reads in the calling thread what the page cache holds of an open file of this client: 0 when all of it was read,
  /// else an errno and nothing is known of `into`. Takes no thread of the drive and never waits for the medium.
  int ReadNow(uint64_t client, int64_t handle, uint64_t offset, uint8_t* into, size_t size);

  /// Gives the batch up. kDone: too late, it is complete. Else what it was doing: kQueued (never starts) or kRunning.
  State Expire(Batch& batch);

  /// Forgets the client: gives up all its batches, closes its files when nobody uses them any more. Nothing of it
  /// completes after this.
  void CloseClient(uint64_t client);

  /// Threads inside an operation, by whatever client.
  unsigned busy();

 private:
  friend class Registry;

  static void* ThreadMain(void* drive);
  void Work();
  bool StartThread();
  bool MayRun(bool background) const;
  void Start(const std::shared_ptr<Batch>& batch);
  std::shared_ptr<Batch> Next();
  bool Finish(const std::shared_ptr<Batch>& batch);
  IdleThread* TakeIdle();
  /// The file that a batch used last: looked up once for operations on one file that follow each other.
  struct InUse {
    int64_t handle = 0;
    std::shared_ptr<File> file;
  };
  void Run(Batch& batch);
  int RunOne(Batch& batch, Operation& operation, InUse* in_use, Result* result);
  int OnFile(Operation& operation, const File& file, Result* result);
  int Open(Batch& batch, const Operation& operation, Result* result);
  std::shared_ptr<File> FileOf(uint64_t client, int64_t handle);
  int Root(std::shared_ptr<Descriptor>* root);
  int Refresh();
  int Lock(Result* result);
  std::vector<std::shared_ptr<File>> Forget(const std::vector<int64_t>& handles);
  void CloseFiles(const std::vector<int64_t>& handles);
  void Retire();

  struct Owned {
    std::shared_ptr<File> file;
    uint64_t client;
  };

  const std::string path_;
  const unsigned threads_limit_;
  const size_t queue_length_;

  std::mutex mutex_;
  /// The last one went to sleep last.
  std::vector<IdleThread*> idle_;
  std::deque<std::shared_ptr<Batch>> foreground_;
  std::deque<std::shared_ptr<Batch>> background_;
  std::vector<std::shared_ptr<Batch>> running_;
  std::unordered_map<int64_t, Owned> files_;
  std::shared_ptr<Descriptor> root_;
  std::shared_ptr<Descriptor> lock_;
  /// Files of clients that are gone: closed by a thread, since even close may wait.
  std::vector<std::shared_ptr<File>> dropped_;
  size_t bytes_ = 0;
  unsigned threads_ = 0;
  unsigned background_running_ = 0;
  bool stopping_ = false;
  /// Guarded by the registry's mutex.
  unsigned clients_ = 0;
};

/// All drives of the process, by path.
class Registry {
 public:
  static Registry& Get();

  /// The drive at this absolute path, made if need be. `threads` and `queue_length` count for the first client only.
  std::shared_ptr<Drive> Acquire(const std::string& path, unsigned threads, size_t queue_length);
  void Release(const std::shared_ptr<Drive>& drive);

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<Drive>> drives_;
};

}  // namespace ostraka::io
