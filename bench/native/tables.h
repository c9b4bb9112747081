// What bench/native/index_bench.cc compares: the shard index and two tables that anyone would write first, behind one
// shape (Get, Insert, Remove, Set), and the memory they are measured in.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "native/index/shard_index.h"

namespace ostraka::bench {

using index::Id;
using index::Outcome;

inline uint64_t Mix(uint64_t x) {
  x ^= x >> 31;
  x *= 0x7fb5d329728ea185;
  x ^= x >> 27;
  x *= 0x81dadef4bc2dd44d;
  return x ^ (x >> 33);
}

inline Id IdOf(uint64_t number) { return {Mix(number + 1), number * 0x9e3779b97f4a7c15}; }

struct IdHash {
  size_t operator()(const Id& id) const { return Mix(id.high ^ id.low); }
};
struct IdEqual {
  bool operator()(const Id& a, const Id& b) const { return a.high == b.high && a.low == b.low; }
};
using Map = std::unordered_map<Id, uint64_t, IdHash, IdEqual>;

/// Fresh zeroed memory from the system; in huge pages where it gives them, as the index asks for its own.
class Memory {
 public:
  explicit Memory(size_t bytes) : bytes_(bytes + kHuge) {
    mapped_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped_ == MAP_FAILED) {
      std::perror("mmap");
      std::exit(1);
    }
  }
  ~Memory() { munmap(mapped_, bytes_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void AskForHugePages() { madvise(mapped_, bytes_, MADV_HUGEPAGE); }
  void* data() const {
    return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(mapped_) + kHuge - 1) & ~(kHuge - 1));
  }

 private:
  static constexpr uintptr_t kHuge = uintptr_t{1} << 21;
  size_t bytes_;
  void* mapped_;
};

class IndexTable {
 public:
  static constexpr const char* kName = "index";
  explicit IndexTable(uint64_t most)
      : bytes_(index::ShardIndex::RegionBytes(most)), memory_(new Memory(bytes_)) {
    if (!index::ShardIndex::Format(memory_->data(), bytes_, most, index::Form::kIds)) std::abort();
    if (!index_.Attach(memory_->data(), bytes_)) std::abort();
  }
  bool Get(Id id, uint64_t* location) const { return index_.Get(id, location); }
  bool Insert(Id id, uint64_t location) { return Done(index_.Insert(id, location)); }
  bool Remove(Id id) { return Done(index_.Remove(id, nullptr)); }
  bool Set(Id id, uint64_t expected, uint64_t location) { return Done(index_.CompareAndSet(id, expected, location)); }
  index::ShardIndex& index() { return index_; }

 private:
  static bool Done(Outcome outcome) {
    if (outcome == Outcome::kFull) std::abort();
    return outcome == Outcome::kDone;
  }
  size_t bytes_;
  std::unique_ptr<Memory> memory_;
  index::ShardIndex index_;
};

class SharedMutexMap {
 public:
  static constexpr const char* kName = "sharedMutexMap";
  explicit SharedMutexMap(uint64_t) {}
  bool Get(Id id, uint64_t* location) {
    const std::shared_lock lock(mutex_);
    const auto found = map_.find(id);
    if (found == map_.end()) return false;
    *location = found->second;
    return true;
  }
  bool Insert(Id id, uint64_t location) {
    const std::unique_lock lock(mutex_);
    return map_.emplace(id, location).second;
  }
  bool Remove(Id id) {
    const std::unique_lock lock(mutex_);
    return map_.erase(id) == 1;
  }
  bool Set(Id id, uint64_t expected, uint64_t location) {
    const std::unique_lock lock(mutex_);
    const auto found = map_.find(id);
    if (found == map_.end() || found->second != expected) return false;
    found->second = location;
    return true;
  }

 private:
  std::shared_mutex mutex_;
  Map map_;
};

/// 64 open-addressing tables, each under a mutex of its own: linear probing, removal by shifting back, doubling.
class ShardedTable {
 public:
  static constexpr const char* kName = "shardedMutex";
  explicit ShardedTable(uint64_t) : shards_(new Shard[kShards]) {}
  bool Get(Id id, uint64_t* location) {
    const uint64_t hash = IdHash()(id);
    Shard& shard = shards_[hash >> 58];
    const std::lock_guard lock(shard.mutex);
    const Slot& slot = shard.slots[shard.Find(id, hash)];
    if (slot.used == 0) return false;
    *location = slot.location;
    return true;
  }
  bool Insert(Id id, uint64_t location) {
    const uint64_t hash = IdHash()(id);
    Shard& shard = shards_[hash >> 58];
    const std::lock_guard lock(shard.mutex);
    if (shard.count * 4 >= shard.slots.size() * 3) shard.Double();
    Slot& slot = shard.slots[shard.Find(id, hash)];
    if (slot.used != 0) return false;
    slot = {id, location, 1};
    shard.count++;
    return true;
  }
  bool Remove(Id id) {
    const uint64_t hash = IdHash()(id);
    Shard& shard = shards_[hash >> 58];
    const std::lock_guard lock(shard.mutex);
    return shard.Remove(shard.Find(id, hash));
  }
  bool Set(Id id, uint64_t expected, uint64_t location) {
    const uint64_t hash = IdHash()(id);
    Shard& shard = shards_[hash >> 58];
    const std::lock_guard lock(shard.mutex);
    Slot& slot = shard.slots[shard.Find(id, hash)];
    if (slot.used == 0 || slot.location != expected) return false;
    slot.location = location;
    return true;
  }

 private:
  static constexpr size_t kShards = 64;
  struct Slot {
    Id id;
    uint64_t location;
    uint64_t used;
  };
  struct alignas(64) Shard {
    std::mutex mutex;
    std::vector<Slot> slots = std::vector<Slot>(64);
    size_t count = 0;

    size_t Find(Id id, uint64_t hash) const {
      const size_t mask = slots.size() - 1;
      size_t at = hash & mask;
      while (slots[at].used != 0 && !IdEqual()(slots[at].id, id)) at = (at + 1) & mask;
      return at;
    }
    void Double() {
      std::vector<Slot> old(slots.size() * 2);
      old.swap(slots);
      for (const Slot& slot : old) {
        if (slot.used != 0) slots[Find(slot.id, IdHash()(slot.id))] = slot;
      }
    }
    bool Remove(size_t hole) {
      if (slots[hole].used == 0) return false;
      const size_t mask = slots.size() - 1;
      for (size_t at = (hole + 1) & mask; slots[at].used != 0; at = (at + 1) & mask) {
        const size_t home = IdHash()(slots[at].id) & mask;
        if (((at - home) & mask) < ((at - hole) & mask)) continue;
        slots[hole] = slots[at];
        hole = at;
      }
      slots[hole].used = 0;
      count--;
      return true;
    }
  };
  std::unique_ptr<Shard[]> shards_;
};

}  // namespace ostraka::bench
