#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "native/io/drive.h"

using namespace ostraka::io;

namespace {

constexpr uint64_t kClient = 1;

/// A directory of its own, removed at the end.
struct Root {
  std::string path;
  Root() {
    std::string name = (std::filesystem::temp_directory_path() / "ostraka-io-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Root() { std::filesystem::remove_all(path); }
};

class Collector : public Sink {
 public:
  void Completed(std::shared_ptr<Batch> batch) override {
    const std::lock_guard lock(mutex_);
    threads_.insert(std::this_thread::get_id());
    batch->sink = nullptr;  // it would keep its keeper
    completed_[batch->id] = std::move(batch);
    changed_.notify_all();
  }

  std::shared_ptr<Batch> Wait(uint64_t id) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return completed_.contains(id); });
    return completed_[id];
  }

  size_t count() {
    const std::lock_guard lock(mutex_);
    return completed_.size();
  }

  /// How many threads of the drive have completed something.
  size_t threads() {
    const std::lock_guard lock(mutex_);
    return threads_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, std::shared_ptr<Batch>> completed_;
  std::set<std::thread::id> threads_;
};

Operation OnPath(Kind kind, const std::string& path, uint32_t flags = 0) {
  Operation operation;
  operation.kind = kind;
  operation.path = path;
  operation.flags = flags;
  return operation;
}

Operation OnLast(Kind kind, uint64_t size = 0, const char* text = nullptr) {
  Operation operation;
  operation.kind = kind;
  operation.size = size;
  if (kind == Kind::kRead || kind == Kind::kWrite) {
    operation.data = Bytes(static_cast<uint8_t*>(std::malloc(size + 1)));
    if (text != nullptr) std::memcpy(operation.data.get(), text, size);
  }
  return operation;
}

template <typename... Operations>
std::shared_ptr<Batch> MakeBatch(const std::shared_ptr<Sink>& sink, uint64_t id, Operations... operations) {
  auto batch = std::make_shared<Batch>();
  batch->id = id;
  batch->client = kClient;
  batch->sink = sink;
  (batch->operations.push_back(std::move(operations)), ...);
  return batch;
}

int64_t InMilliseconds(int64_t ms) { return SteadyNow() + ms * 1'000'000; }

/// As long as it lives nobody waits for a writer of the FIFO, however late he comes.
class Release {
 public:
  explicit Release(const std::string& path) : fd_(open(path.c_str(), O_RDWR | O_NONBLOCK)) {}
  ~Release() { close(fd_); }
  Release(const Release&) = delete;
  Release& operator=(const Release&) = delete;

 private:
  const int fd_;
};

}  // namespace

TEST_CASE("a batch does its operations in order and completes once") {
  const Root root;
  auto sink = std::make_shared<Collector>();
  auto drive = Registry::Get().Acquire(root.path, 2, 8);
  REQUIRE(drive->Submit(MakeBatch(sink, 1, OnPath(Kind::kMakeDir, "d"), OnPath(Kind::kOpen, "d/x", kModeCreate),
                                  OnLast(Kind::kWrite, 5, "hello"), OnLast(Kind::kSync), OnPath(Kind::kSyncDir, "d"),
                                  OnLast(Kind::kSize), OnLast(Kind::kRead, 9), OnLast(Kind::kClose))) == 0);
  const auto done = sink->Wait(1);
  CHECK(done->error == 0);
  CHECK(done->results[5].a == 5);
  CHECK(done->results[6].a == 5);
  CHECK(std::memcmp(done->operations[6].data.get(), "hello", 5) == 0);
  REQUIRE(drive->Submit(MakeBatch(sink, 2, OnPath(Kind::kList, "d"), OnLast(Kind::kSize))) == 0);
  const auto failed = sink->Wait(2);
  CHECK(failed->error == EBADF);
  CHECK(failed->failed_at == 1);
  CHECK(failed->results[0].names == "x");
  drive->CloseClient(kClient);
  Registry::Get().Release(drive);
}

TEST_CASE("a thread that hangs stops neither the others nor what is given up") {
  const Root root;
  REQUIRE(mkfifo((root.path + "/fifo").c_str(), 0600) == 0);
  auto sink = std::make_shared<Collector>();
  auto drive = Registry::Get().Acquire(root.path, 2, 2);
  const auto hang = [&](uint64_t id) {
    auto batch = MakeBatch(sink, id, OnPath(Kind::kOpen, "fifo", kMayBlock), OnPath(Kind::kMakeDir, "late"));
    batch->deadline = InMilliseconds(1);
    return batch;
  };
  const auto first = hang(1), second = hang(2);
  REQUIRE(drive->Submit(first) == 0);
  REQUIRE(drive->Submit(MakeBatch(sink, 3, OnPath(Kind::kList, "."))) == 0);
  CHECK(sink->Wait(3)->results[0].names == "fifo");
  REQUIRE(drive->Submit(second) == 0);
  while (drive->busy() < 2) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(drive->Submit(MakeBatch(sink, 4, OnPath(Kind::kList, "."))) == ETIMEDOUT);
  CHECK(drive->Expire(*first) == State::kRunning);
  CHECK(drive->Expire(*second) == State::kRunning);
  CHECK(drive->Expire(*second) == State::kExpired);
  const Release release(root.path + "/fifo");
  while (drive->busy() > 0) std::this_thread::yield();
  CHECK(sink->count() == 1);
  CHECK(!std::filesystem::exists(root.path + "/late"));
  drive->CloseClient(kClient);
  Registry::Get().Release(drive);
}

TEST_CASE("threads whose batches were given up are stuck, also before the deadline of the batch") {
  const Root root;
  REQUIRE(mkfifo((root.path + "/fifo").c_str(), 0600) == 0);
  auto sink = std::make_shared<Collector>();
  auto drive = Registry::Get().Acquire(root.path, 1, 2);
  int error = 0;
  // Given up before it came to the opening, the thread is not stuck but free again: then once more, with more time.
  for (uint64_t attempt = 1; attempt <= 100; attempt++) {
    const auto hung = MakeBatch(sink, 2 * attempt, OnPath(Kind::kOpen, "fifo", kMayBlock));
    hung->deadline = InMilliseconds(3'600'000);
    REQUIRE(drive->Submit(hung) == 0);
    while (drive->busy() < 1) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(attempt));
    REQUIRE(drive->Expire(*hung) == State::kRunning);
    const auto next = MakeBatch(sink, 2 * attempt + 1, OnPath(Kind::kList, "."));
    error = drive->Submit(next);
    if (error != 0) break;
    drive->Expire(*next);
    for (int i = 0; drive->busy() > 0 && i < 30'000; i++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    REQUIRE(drive->busy() == 0);
  }
  CHECK(error == ETIMEDOUT);
  const Release release(root.path + "/fifo");
  while (drive->busy() > 0) std::this_thread::yield();
  drive->CloseClient(kClient);
  Registry::Get().Release(drive);
}

TEST_CASE("what expires in a queue never starts, and full queues refuse") {
  const Root root;
  REQUIRE(mkfifo((root.path + "/fifo").c_str(), 0600) == 0);
  auto sink = std::make_shared<Collector>();
  auto drive = Registry::Get().Acquire(root.path, 1, 2);
  REQUIRE(drive->Submit(MakeBatch(sink, 1, OnPath(Kind::kOpen, "fifo", kMayBlock))) == 0);
  while (drive->busy() < 1) std::this_thread::yield();
  const auto waiting = MakeBatch(sink, 2, OnPath(Kind::kMakeDir, "late"));
  REQUIRE(drive->Submit(waiting) == 0);
  REQUIRE(drive->Submit(MakeBatch(sink, 3, OnPath(Kind::kMakeDir, "later"))) == 0);
  CHECK(drive->Submit(MakeBatch(sink, 4, OnPath(Kind::kMakeDir, "never"))) == EAGAIN);
  CHECK(drive->Expire(*waiting) == State::kQueued);
  const Release release(root.path + "/fifo");
  CHECK(sink->Wait(1)->error == EISNAM);
  CHECK(sink->Wait(3)->error == 0);
  CHECK(!std::filesystem::exists(root.path + "/late"));
  drive->CloseClient(kClient);
  Registry::Get().Release(drive);
}

TEST_CASE("what comes one after the other is done by one thread") {
  const Root root;
  auto sink = std::make_shared<Collector>();
  auto drive = Registry::Get().Acquire(root.path, 4, 8);
  for (uint64_t id = 1; id <= 200; id++) {
    auto batch = MakeBatch(sink, id, OnPath(Kind::kStat, "."));
    batch->background = id % 2 == 0;
    REQUIRE(drive->Submit(batch) == 0);
    CHECK(sink->Wait(id)->error == 0);
  }
  CHECK(sink->threads() == 1);
  drive->CloseClient(kClient);
  Registry::Get().Release(drive);
}

TEST_CASE("all that several threads submit is completed, background work in its share of the threads") {
  const Root root;
  auto sink = std::make_shared<Collector>();
  auto drive = Registry::Get().Acquire(root.path, 3, 1024);
  constexpr uint64_t kEach = 300;
  std::vector<std::thread> submitters;
  for (uint64_t submitter = 0; submitter < 3; submitter++) {
    submitters.emplace_back([&, submitter] {
      for (uint64_t i = 0; i < kEach; i++) {
        const uint64_t id = submitter * kEach + i + 1;
        auto batch = MakeBatch(sink, id, OnPath(Kind::kStat, "."));
        batch->background = i % 3 == 0;
        if (drive->Submit(batch) != 0) std::abort();
        // Now and then everything is let go to sleep.
        if (i % 7 == submitter) CHECK(sink->Wait(id)->error == 0);
      }
    });
  }
  for (auto& submitter : submitters) submitter.join();
  for (uint64_t id = 1; id <= 3 * kEach; id++) CHECK(sink->Wait(id)->error == 0);
  while (drive->busy() > 0) std::this_thread::yield();
  CHECK(sink->threads() <= 3);
  drive->CloseClient(kClient);
  Registry::Get().Release(drive);
}

TEST_CASE("background work beyond its share waits although threads are idle, and foreground work does not") {
  const Root root;
  REQUIRE(mkfifo((root.path + "/fifo").c_str(), 0600) == 0);
  auto sink = std::make_shared<Collector>();
  auto drive = Registry::Get().Acquire(root.path, 2, 8);
  const auto background = [&](std::shared_ptr<Batch> batch) {
    batch->background = true;
    return drive->Submit(std::move(batch));
  };
  REQUIRE(background(MakeBatch(sink, 1, OnPath(Kind::kOpen, "fifo", kMayBlock))) == 0);
  REQUIRE(drive->Submit(MakeBatch(sink, 2, OnPath(Kind::kStat, "."))) == 0);
  CHECK(sink->Wait(2)->error == 0);
  REQUIRE(background(MakeBatch(sink, 3, OnPath(Kind::kMakeDir, "late"))) == 0);
  REQUIRE(drive->Submit(MakeBatch(sink, 4, OnPath(Kind::kStat, "."))) == 0);
  CHECK(sink->Wait(4)->error == 0);
  CHECK(sink->count() == 2);
  CHECK(!std::filesystem::exists(root.path + "/late"));
  const Release release(root.path + "/fifo");
  CHECK(sink->Wait(3)->error == 0);
  drive->CloseClient(kClient);
  Registry::Get().Release(drive);
}

TEST_CASE("zeros are written without bytes of their own, in more than one call where there are many") {
  const Root root;
  auto sink = std::make_shared<Collector>();
  auto drive = Registry::Get().Acquire(root.path, 1, 8);
  constexpr uint64_t kSize = (uint64_t{2} << 20) + 5;
  auto zeros = OnLast(Kind::kWriteZeros, kSize);
  zeros.offset = 3;
  auto tail = OnLast(Kind::kRead, 10);
  tail.offset = kSize;
  REQUIRE(drive->Submit(MakeBatch(sink, 1, OnPath(Kind::kOpen, "x", kModeCreate), OnLast(Kind::kWrite, 8, "xxxxxxxx"),
                                  std::move(zeros), OnLast(Kind::kSize), OnLast(Kind::kRead, 8), std::move(tail),
                                  OnPath(Kind::kOpen, "x"), OnLast(Kind::kWriteZeros, 0))) == 0);
  const auto done = sink->Wait(1);
  CHECK(done->results[3].a == kSize + 3);
  CHECK(std::memcmp(done->operations[4].data.get(), "xxx\0\0\0\0\0", 8) == 0);
  CHECK(done->results[5].a == 3);
  CHECK(std::memcmp(done->operations[5].data.get(), "\0\0\0", 3) == 0);
  CHECK(done->error == EBADF);
  CHECK(done->failed_at == 7);
  drive->CloseClient(kClient);
  Registry::Get().Release(drive);
}

TEST_CASE("clients may come and go while operations run and hang") {
  const Root root;
  REQUIRE(mkfifo((root.path + "/fifo").c_str(), 0600) == 0);
  std::vector<std::thread> threads;
  for (uint64_t client = 10; client < 14; client++) {
    threads.emplace_back([&root, client] {
      for (uint64_t round = 0; round < 20; round++) {
        auto sink = std::make_shared<Collector>();
        auto drive = Registry::Get().Acquire(root.path, 8, 64);
        const std::string name = std::to_string(client) + "-" + std::to_string(round);
        for (uint64_t id = 1; id <= 4; id++) {
          auto batch = MakeBatch(sink, id, OnPath(Kind::kOpen, name + "-" + std::to_string(id), kModeCreate),
                                 OnLast(Kind::kWrite, 5, "bytes"), OnLast(Kind::kSize));
          batch->client = client * 1000 + round;
          if (drive->Submit(batch) == 0 && id == 1) CHECK(sink->Wait(1)->results[2].a == 5);
        }
        if (round == 3 && client == 10) {
          auto batch = MakeBatch(sink, 9, OnPath(Kind::kOpen, "fifo", kMayBlock));
          batch->client = client * 1000 + round;
          drive->Submit(batch);
        }
        drive->CloseClient(client * 1000 + round);
        Registry::Get().Release(drive);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const Release release(root.path + "/fifo");
}

TEST_CASE("what the cache holds is read in other threads while files are opened and closed") {
  const Root root;
  const auto drive = Registry::Get().Acquire(root.path, 4, 64);
  const auto sink = std::make_shared<Collector>();
  std::atomic<int64_t> handle{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; i++) {
    readers.emplace_back([&] {
      uint8_t into[5];
      while (!stop.load()) {
        const int64_t file = handle.load();
        if (file == 0 || drive->ReadNow(1, file, 0, into, sizeof(into)) != 0) continue;
        CHECK(std::memcmp(into, "bytes", 5) == 0);
        CHECK(drive->ReadNow(2, file, 0, into, sizeof(into)) == EBADF);
      }
    });
  }
  for (uint64_t round = 1; round <= 100; round++) {
    auto batch = MakeBatch(sink, round, OnPath(Kind::kOpen, "x" + std::to_string(round), kModeCreate),
                           OnLast(Kind::kWrite, 5, "bytes"));
    batch->client = 1;
    REQUIRE(drive->Submit(batch) == 0);
    handle.store(static_cast<int64_t>(sink->Wait(round)->results[0].a));
    auto close = MakeBatch(sink, 1000 + round, OnLast(Kind::kClose));
    close->operations[0].file = handle.load();
    close->client = 1;
    REQUIRE(drive->Submit(close) == 0);
    sink->Wait(1000 + round);
  }
  stop.store(true);
  for (auto& reader : readers) reader.join();
  drive->CloseClient(1);
  Registry::Get().Release(drive);
}

TEST_CASE("reads past the cache give what plain reads give, at any offset") {
  const Root root;
  std::string bytes(20'000, 'x');
  for (size_t i = 0; i < bytes.size(); i++) bytes[i] = static_cast<char>(i * 31 % 251);
  int fd = -1;
  REQUIRE(OpenRoot(root.path, &fd) == 0);
  const Descriptor directory(fd);
  std::shared_ptr<File> file;
  REQUIRE(OpenFile(fd, "x", kModeCreate, &file) == 0);
  REQUIRE(Write(*file, 0, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()) == 0);
  std::shared_ptr<File> direct;
  const int error = OpenFile(fd, "x", kModeRead | kDirect, &direct);
  if (error == EINVAL) return;  // a file system without O_DIRECT
  REQUIRE(error == 0);
  for (const size_t offset : std::vector<size_t>{0, 1, 4095, 4096, 19'999, 20'000, 50'000}) {
    for (const size_t size : std::vector<size_t>{0, 1, 5000, 30'000}) {
      std::vector<uint8_t> into(size + 1);
      uint64_t found = 0;
      REQUIRE(Read(*direct, offset, into.data(), size, &found) == 0);
      const size_t expected = offset >= bytes.size() ? 0 : std::min(size, bytes.size() - offset);
      REQUIRE(found == expected);
      CHECK(std::memcmp(into.data(), bytes.data() + std::min(offset, bytes.size()), expected) == 0);
    }
  }
}
