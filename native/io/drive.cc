#include "native/io/drive.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

namespace ostraka::io {

namespace {

/// Bytes that batches of one drive hold, waiting or running.
constexpr size_t kBytesLimit = size_t{512} << 20;

std::atomic<int64_t> last_handle{0};

bool OnNamesOnly(Kind kind) { return kind >= Kind::kRename && kind <= Kind::kSpace; }

}  // namespace

int64_t SteadyNow() {
  using std::chrono::duration_cast;
  using std::chrono::nanoseconds;
  return duration_cast<nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// For its thread only.
void IdleThread::Sleep() {
  uint32_t expected = kAwake;
  if (state_.compare_exchange_strong(expected, kAsleep, std::memory_order_acquire)) {
    do {
      syscall(SYS_futex, &state_, FUTEX_WAIT_PRIVATE, kAsleep, nullptr, nullptr, 0);
    } while (state_.load(std::memory_order_acquire) == kAsleep);
  }
  state_.store(kAwake, std::memory_order_relaxed);
}

/// The thread may have gone on, and ended, before the system call: to wake nobody at an address that was is harmless.
void IdleThread::Wake() {
  if (state_.exchange(kWoken, std::memory_order_release) != kAsleep) return;
  syscall(SYS_futex, &state_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

Drive::Drive(std::string path, unsigned threads, size_t queue_length)
    : path_(std::move(path)), threads_limit_(threads), queue_length_(queue_length) {}

int Drive::Submit(std::shared_ptr<Batch> batch) {
  for (const Operation& operation : batch->operations) {
    if (operation.data) batch->bytes += operation.size;
  }
  IdleThread* thread = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return ESHUTDOWN;
    if (running_.size() >= threads_limit_) {
      const int64_t now = SteadyNow();
      if (std::all_of(running_.begin(), running_.end(), [now](auto& other) { return other->deadline <= now; })) {
        return ETIMEDOUT;
      }
    }
    auto& queue = batch->background ? background_ : foreground_;
    if (queue.size() >= queue_length_ || bytes_ + batch->bytes > kBytesLimit) return EAGAIN;
    const bool may_run = MayRun(batch->background);
    if (may_run) thread = TakeIdle();
    if (thread == nullptr && may_run && threads_ < threads_limit_ && !StartThread() && threads_ == 0) return EAGAIN;
    bytes_ += batch->bytes;
    if (thread != nullptr) {
      Start(batch);
      thread->batch = std::move(batch);
    } else {
      queue.push_back(std::move(batch));
    }
  }
  if (thread != nullptr) thread->Wake();
  return 0;
}

int Drive::ReadNow(uint64_t client, int64_t handle, uint64_t offset, uint8_t* into, size_t size) {
  std::shared_ptr<File> file = FileOf(client, handle);
  if (!file) return EBADF;
  const int error = ReadCached(*file, offset, into, size);
  IdleThread* thread = nullptr;
  {
    const std::lock_guard lock(mutex_);
    // Closed meanwhile: the last one to let go closes the descriptor, which may wait, so a thread of the drive does it.
    if (file.use_count() == 1) {
      dropped_.push_back(std::move(file));
      thread = TakeIdle();
    }
    file.reset();
  }
  if (thread != nullptr) thread->Wake();
  return error;
}

State Drive::Expire(Batch& batch) {
  const std::lock_guard lock(mutex_);
  const State before = batch.state.load();
  if (before == State::kDone || before == State::kExpired) return before;
  batch.state.store(State::kExpired);
  // Whoever gives up keeps time by a clock of his own, which may run a little ahead of ours.
  batch.deadline = std::min(batch.deadline, SteadyNow());
  if (before == State::kQueued) {
    auto& queue = batch.background ? background_ : foreground_;
    std::erase_if(queue, [&batch](auto& other) { return other.get() == &batch; });
    bytes_ -= batch.bytes;
  }
  return before;
}

void Drive::CloseClient(uint64_t client) {
  IdleThread* thread = nullptr;
  {
    const std::lock_guard lock(mutex_);
    for (auto* queue : {&foreground_, &background_}) {
      std::erase_if(*queue, [&](auto& batch) {
        if (batch->client != client) return false;
        batch->state.store(State::kExpired);
        bytes_ -= batch->bytes;
        return true;
      });
    }
    // What runs stops before its next operation, and closes what it opened.
    for (auto& batch : running_) {
      if (batch->client == client) batch->state.store(State::kExpired);
    }
    std::erase_if(files_, [&](auto& item) {
      if (item.second.client != client) return false;
      dropped_.push_back(std::move(item.second.file));
      return true;
    });
    if (!dropped_.empty()) thread = TakeIdle();
  }
  if (thread != nullptr) thread->Wake();
}

unsigned Drive::busy() {
  const std::lock_guard lock(mutex_);
  return static_cast<unsigned>(running_.size());
}

/// With the mutex held.
bool Drive::StartThread() {
  auto* self = new std::shared_ptr<Drive>(shared_from_this());
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, size_t{256} << 10);
  // Signals are for the threads of Node.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, &Drive::ThreadMain, self);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    delete self;
    return false;
  }
  threads_++;
  return true;
}

void* Drive::ThreadMain(void* drive) {
  pthread_setname_np(pthread_self(), "ostraka-drive");
  auto* self = static_cast<std::shared_ptr<Drive>*>(drive);
  (*self)->Work();
  delete self;
  return nullptr;
}

void Drive::Work() {
  IdleThread self;
  std::shared_ptr<Batch> batch;
  std::shared_ptr<Batch> done;
  for (;;) {
    std::vector<std::shared_ptr<File>> dropped;
    bool idle, ends;
    {
      const std::lock_guard lock(mutex_);
      if (done && !Finish(done)) done.reset();
      dropped.swap(dropped_);
      batch = Next();
      idle = !batch && dropped.empty();
      ends = idle && stopping_;
      if (ends) {
        threads_--;
      } else if (idle) {
        idle_.push_back(&self);
      }
    }
    if (done) {
      const std::shared_ptr<Sink> sink = done->sink;
      sink->Completed(std::move(done));
      done.reset();
    }
    if (ends) return;
    if (idle) {
      self.Sleep();
      batch = std::move(self.batch);
    }
    dropped.clear();
    if (!batch) continue;
    Run(*batch);
    if (batch->error != 0) CloseFiles(batch->opened);
    done = std::move(batch);
  }
}

/// With the mutex held, as all down to Run: background work has its share of the threads.
bool Drive::MayRun(bool background) const {
  return !background || background_running_ < std::max(1u, threads_limit_ / 2);
}

void Drive::Start(const std::shared_ptr<Batch>& batch) {
  batch->state.store(State::kRunning);
  if (batch->background) background_running_++;
  running_.push_back(batch);
}

/// The next batch to run, marked as running.
std::shared_ptr<Batch> Drive::Next() {
  const bool background = foreground_.empty();
  auto& queue = background ? background_ : foreground_;
  if (queue.empty() || !MayRun(background)) return nullptr;
  std::shared_ptr<Batch> batch = std::move(queue.front());
  queue.pop_front();
  Start(batch);
  return batch;
}

/// Takes a batch that ran from those that run; false when it was given up meanwhile, and nobody is to be told. Its
/// thread looks for the next one at once, so that background work which waited for its share goes on.
bool Drive::Finish(const std::shared_ptr<Batch>& batch) {
  std::erase(running_, batch);
  if (batch->background) background_running_--;
  bytes_ -= batch->bytes;
  if (batch->state.load() != State::kExpired) {
    batch->state.store(State::kDone);
    return true;
  }
  for (auto& file : Forget(batch->opened)) dropped_.push_back(std::move(file));
  return false;
}

/// A thread that sleeps, to be woken once the mutex is released; nullptr when none does.
IdleThread* Drive::TakeIdle() {
  if (idle_.empty()) return nullptr;
  IdleThread* thread = idle_.back();
  idle_.pop_back();
  return thread;
}

void Drive::Run(Batch& batch) {
  InUse in_use;
  batch.results.resize(batch.operations.size());
  for (size_t i = 0; i < batch.operations.size(); i++) {
    const bool expired = batch.state.load() == State::kExpired;
    const int error = expired ? ETIMEDOUT : RunOne(batch, batch.operations[i], &in_use, &batch.results[i]);
    if (error == 0) continue;
    batch.error = error;
    batch.failed_at = i;
    return;
  }
}

int Drive::RunOne(Batch& batch, Operation& operation, InUse* in_use, Result* result) {
  if (operation.kind == Kind::kRefresh) return Refresh();
  if (operation.kind == Kind::kLock) return Lock(result);
  if (operation.kind == Kind::kOpen) return Open(batch, operation, result);
  if (OnNamesOnly(operation.kind)) {
    std::shared_ptr<Descriptor> root;
    if (const int error = Root(&root)) return error;
    return OnNames(root->get(), operation, result);
  }
  const int64_t handle = operation.file == kLastOpened && !batch.opened.empty() ? batch.opened.back() : operation.file;
  if (in_use->handle != handle) *in_use = {handle, FileOf(batch.client, handle)};
  if (!in_use->file) return EBADF;
  if (operation.kind == Kind::kClose) {
    CloseFiles({handle});
    *in_use = {};
    return 0;
  }
  return OnFile(operation, *in_use->file, result);
}

int Drive::OnFile(Operation& operation, const File& file, Result* result) {
  const int fd = file.descriptor.get();
  switch (operation.kind) {
    case Kind::kRead:
      return Read(file, operation.offset, operation.data.get(), operation.size, &result->a);
    case Kind::kWrite:
      return Write(file, operation.offset, operation.data.get(), operation.size);
    case Kind::kWriteZeros:
      return WriteZeros(file, operation.offset, operation.size);
    case Kind::kSync:
      return fdatasync(fd) == 0 ? 0 : errno;
    case Kind::kWriteBack:
      return WriteBack(file);
    case Kind::kDropCache: {
      bool gone = false;
      const int error = DropCache(file, &gone);
      result->a = gone ? 1 : 0;
      return error;
    }
    case Kind::kTruncate:
      return ftruncate(fd, static_cast<off_t>(operation.size)) == 0 ? 0 : errno;
    case Kind::kSize:
      return SizeOf(file, &result->a);
    default:
      return EINVAL;
  }
}

int Drive::Open(Batch& batch, const Operation& operation, Result* result) {
  std::shared_ptr<Descriptor> root;
  if (const int error = Root(&root)) return error;
  std::shared_ptr<File> file;
  if (const int error = OpenFile(root->get(), operation.path, operation.flags, &file)) return error;
  const int64_t handle = ++last_handle;
  batch.opened.push_back(handle);
  result->a = static_cast<uint64_t>(handle);
  const std::lock_guard lock(mutex_);
  files_.emplace(handle, Owned{std::move(file), batch.client});
  return 0;
}

std::shared_ptr<File> Drive::FileOf(uint64_t client, int64_t handle) {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(handle);
  return found == files_.end() || found->second.client != client ? nullptr : found->second.file;
}

/// With the mutex held. What is returned closes them, unless another thread still uses them.
std::vector<std::shared_ptr<File>> Drive::Forget(const std::vector<int64_t>& handles) {
  std::vector<std::shared_ptr<File>> forgotten;
  for (const int64_t handle : handles) {
    const auto found = files_.find(handle);
    if (found == files_.end()) continue;
    forgotten.push_back(std::move(found->second.file));
    files_.erase(found);
  }
  return forgotten;
}

/// Closing happens here, outside of the mutex.
void Drive::CloseFiles(const std::vector<int64_t>& handles) {
  std::vector<std::shared_ptr<File>> closing;
  const std::lock_guard closes_after(mutex_);
  closing = Forget(handles);
}

int Drive::Root(std::shared_ptr<Descriptor>* root) {
  {
    const std::lock_guard lock(mutex_);
    *root = root_;
  }
  if (*root) return 0;
  if (const int error = Refresh()) return error;
  const std::lock_guard lock(mutex_);
  *root = root_;
  return 0;
}

int Drive::Refresh() {
  int fd = -1;
  if (const int error = OpenRoot(path_, &fd)) return error;
  const auto opened = std::make_shared<Descriptor>(fd);
  std::shared_ptr<Descriptor> replaced, lock_replaced;
  const std::lock_guard lock(mutex_);
  if (root_ && SameFile(root_->get(), fd)) return 0;
  replaced = std::exchange(root_, opened);
  // The lock was that of the directory before: it has to be taken again.
  lock_replaced = std::exchange(lock_, nullptr);
  return 0;
}

int Drive::Lock(Result* result) {
  {
    const std::lock_guard lock(mutex_);
    result->a = 1;
    if (lock_) return 0;
  }
  std::shared_ptr<Descriptor> root;
  if (const int error = Root(&root)) return error;
  int fd = -1;
  const int error = TakeLock(root->get(), &fd);
  if (error == EWOULDBLOCK) {
    // Another thread of this process may have taken it just now.
    const std::lock_guard lock(mutex_);
    result->a = lock_ ? 1 : 0;
    return 0;
  }
  if (error != 0) return error;
  const std::lock_guard lock(mutex_);
  lock_ = std::make_shared<Descriptor>(fd);
  return 0;
}

/// The last client left: threads end as they become idle, the lock is given back.
void Drive::Retire() {
  std::shared_ptr<Descriptor> root, lock_descriptor;
  std::vector<IdleThread*> idle;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    root = std::exchange(root_, nullptr);
    lock_descriptor = std::exchange(lock_, nullptr);
    idle.swap(idle_);
  }
  for (IdleThread* thread : idle) thread->Wake();
}

Registry& Registry::Get() {
  // Never destroyed: threads that hang use it beyond the end of main.
  static auto* const registry = new Registry();
  return *registry;
}

std::shared_ptr<Drive> Registry::Acquire(const std::string& path, unsigned threads, size_t queue_length) {
  const std::lock_guard lock(mutex_);
  auto& drive = drives_[path];
  if (!drive) drive = std::make_shared<Drive>(path, threads, queue_length);
  drive->clients_++;
  {
    // A drive whose threads still hang from before is used again, so that opening it often does not add threads.
    const std::lock_guard drive_lock(drive->mutex_);
    drive->stopping_ = false;
  }
  return drive;
}

void Registry::Release(const std::shared_ptr<Drive>& drive) {
  const std::lock_guard lock(mutex_);
  if (--drive->clients_ > 0) return;
  drive->Retire();
  std::erase_if(drives_, [](auto& item) {
    const std::lock_guard drive_lock(item.second->mutex_);
    return item.second->clients_ == 0 && item.second->running_.empty();
  });
}

}  // namespace ostraka::io
