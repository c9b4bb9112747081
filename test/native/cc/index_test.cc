// The shard index, alone and with threads. Run under ASan+UBSan with the other C++ tests, and under ThreadSanitizer
// those whose names say "threads" (scripts/lib/native-tests.mjs).
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>
#include <unordered_map>
#include <vector>

#include "native/index/internals.h"
#include "test/native/cc/index_region.h"

namespace ostraka::index {

// Every lock of an index, held as by a writer that lost its core in the middle of a growth.
struct Held {
  explicit Held(ShardIndex& index) : index_(index) {
    Lock(index_.header_->growing);
    for (uint32_t i = 0; i < index_.header_->pieces_most; i++) Lock(index_.pieces_[i].lock);
  }
  ~Held() {
    for (uint32_t i = 0; i < index_.header_->pieces_most; i++) Unlock(index_.pieces_[i].lock);
    Unlock(index_.header_->growing);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  ShardIndex& index_;
};

}  // namespace ostraka::index

using namespace ostraka::index;

namespace {

uint64_t Seed() {
  if (const char* fixed = std::getenv("OSTRAKA_SEED")) return std::strtoull(fixed, nullptr, 10);
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()) % 1000000;
}

struct IdHash {
  size_t operator()(const Id& id) const { return id.high ^ id.low * 31; }
};
struct IdEqual {
  bool operator()(const Id& a, const Id& b) const { return a.high == b.high && a.low == b.low; }
};
using Model = std::unordered_map<Id, uint64_t, IdHash, IdEqual>;

void CheckEqual(const ShardIndex& index, const Model& model) {
  CHECK(index.Length() == model.size());
  for (const auto& [id, location] : model) {
    uint64_t found = 0;
    REQUIRE(index.Get(id, &found));
    REQUIRE(found == location);
  }
  std::vector<ShardIndex::Entry> entries(ShardIndex::kPieceSlots);
  uint64_t cursor = 0;
  size_t count = 0;
  size_t total = 0;
  while (index.Iterate(&cursor, entries.data(), &count)) {
    for (size_t i = 0; i < count; i++) {
      const auto known = model.find(entries[i].id);
      REQUIRE(known != model.end());
      REQUIRE(known->second == entries[i].location);
    }
    total += count;
  }
  CHECK(total == model.size());
}

}  // namespace

TEST_CASE("shard index: random programs agree with a map") {
  const uint64_t seed = Seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  Region region(40000);
  Model model;
  const auto draw = [&]() -> Id { return {random() % 3, random() % 30000}; };
  for (int step = 0; step < 300000; step++) {
    const Id id = draw();
    const uint64_t location = random();
    const auto known = model.find(id);
    switch (random() % 4) {
      case 0:
      case 1:
        REQUIRE(region.index.Insert(id, location) == (known == model.end() ? Outcome::kDone : Outcome::kExists));
        model.emplace(id, location);
        break;
      case 2:
        if (known == model.end()) {
          REQUIRE(region.index.Remove(id, nullptr) == Outcome::kMissing);
        } else {
          const uint64_t wrong = known->second + 1;
          REQUIRE(region.index.Remove(id, &wrong) == Outcome::kMissing);
          REQUIRE(region.index.Remove(id, &known->second) == Outcome::kDone);
          model.erase(known);
        }
        break;
      default:
        if (known == model.end()) {
          REQUIRE(region.index.CompareAndSet(id, 1, location) == Outcome::kMissing);
        } else {
          REQUIRE(region.index.CompareAndSet(id, known->second + 1, location) == Outcome::kMissing);
          REQUIRE(region.index.CompareAndSet(id, known->second, location) == Outcome::kDone);
          known->second = location;
        }
    }
  }
  CheckEqual(region.index, model);
  region.index.Clear();
  CheckEqual(region.index, {});
}

TEST_CASE("shard index: keys whose low bits, or high bits, all agree spread as any others") {
  for (int shift : {0, 24, 48}) {
    Region region(100000);
    for (uint64_t i = 0; i < 60000; i++) REQUIRE(region.index.Insert({i << shift, 0}, i) == Outcome::kDone);
    const Stats stats = region.index.Statistics();
    CHECK(stats.entries == 60000);
    CHECK(stats.probes_total < 4 * stats.entries);
    CHECK(stats.region_bytes < 70 * stats.entries + (1 << 16));
  }
}

TEST_CASE("shard index: at every size at most 70 bytes per entry") {
  Region region(1200000);
  uint64_t entries = 0;
  for (; entries < 50000; entries++) REQUIRE(region.index.Insert({entries, ~entries}, entries) == Outcome::kDone);
  double worst = 0;
  for (; entries < 1000000; entries++) {
    REQUIRE(region.index.Insert({entries, ~entries}, entries) == Outcome::kDone);
    if (entries % 5000 != 0) continue;
    worst = std::max(worst, static_cast<double>(region.index.Statistics().region_bytes) / static_cast<double>(entries));
  }
  CHECK(worst < 70.0);
}

TEST_CASE("shard index: deleting and inserting at full load neither grows the table nor loses anything") {
  const uint64_t seed = Seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  Region region(20000);
  std::vector<uint64_t> there;
  for (uint64_t i = 0; i < 20000; i++) {
    REQUIRE(region.index.Insert({i, i}, i) == Outcome::kDone);
    there.push_back(i);
  }
  const uint64_t slots = region.index.Statistics().slots;
  uint64_t next = 20000;
  for (int step = 0; step < 400000; step++, next++) {
    const size_t victim = random() % there.size();
    REQUIRE(region.index.Remove({there[victim], there[victim]}, nullptr) == Outcome::kDone);
    REQUIRE(region.index.Insert({next, next}, next) == Outcome::kDone);
    there[victim] = next;
  }
  const Stats stats = region.index.Statistics();
  CHECK(stats.entries == 20000);
  CHECK(stats.cleanings > 0);
  CHECK(stats.slots <= slots * 2);
  for (const uint64_t key : there) {
    uint64_t location = 0;
    REQUIRE(region.index.Get({key, key}, &location));
    REQUIRE(location == key);
  }
}

TEST_CASE("shard index: a region that is used up says so and keeps what it has") {
  Region region(1000);
  uint64_t inserted = 0;
  while (region.index.Insert({inserted, 1}, inserted) == Outcome::kDone) inserted++;
  CHECK(inserted >= 1000);
  CHECK(region.index.Insert({inserted, 1}, inserted) == Outcome::kFull);
  CHECK(region.index.Length() == inserted);
  for (uint64_t i = 0; i < inserted; i++) {
    uint64_t location = 0;
    REQUIRE(region.index.Get({i, 1}, &location));
    REQUIRE(location == i);
  }
  // Every probe ends, also in the fullest units.
  uint64_t location = 0;
  for (uint64_t i = 0; i < 20000; i++) REQUIRE(!region.index.Get({i, 2}, &location));
  REQUIRE(region.index.Remove({0, 1}, nullptr) == Outcome::kDone);
}

TEST_CASE("shard index: reserved room is not split again") {
  Region region(100000);
  REQUIRE(region.index.Reserve(50000));
  const uint64_t splits = region.index.Statistics().splits;
  for (uint64_t i = 0; i < 50000; i++) REQUIRE(region.index.Insert({i, 7}, i) == Outcome::kDone);
  CHECK(region.index.Statistics().splits == splits);
}

TEST_CASE("shard index: equal hashes of different keys are resolved by the caller through every path") {
  Region region(20000, Form::kHashed);
  ShardIndex& index = region.index;
  uint64_t seen[ShardIndex::kMaxCandidates];
  for (uint64_t hash = 0; hash < 3000; hash++) {
    for (uint64_t key = 0; key < 5; key++) {
      const size_t count = index.Candidates(hash, seen);
      REQUIRE(count == key);
      if (key > 0) REQUIRE(index.InsertHashed(hash, hash * 10 + key, seen, count - 1) == Outcome::kChanged);
      REQUIRE(index.InsertHashed(hash, hash * 10 + key, seen, count) == Outcome::kDone);
    }
  }
  CHECK(index.Statistics().same_hash_most == 5);
  for (uint64_t hash = 0; hash < 3000; hash++) {
    REQUIRE(index.RemoveHashed(hash, hash * 10 + 1) == Outcome::kDone);
    REQUIRE(index.RemoveHashed(hash, hash * 10 + 1) == Outcome::kMissing);
    REQUIRE(index.CompareAndSetHashed(hash, hash * 10 + 2, hash * 10 + 9) == Outcome::kDone);
    REQUIRE(index.Candidates(hash, seen) == 4);
  }
  CHECK(index.Length() == 12000);
  // One hash for ever: refused when no split could part them, and nothing else is harmed.
  uint64_t flood = 0;
  for (;; flood++) {
    const size_t count = index.Candidates(99999, seen);
    if (count > ShardIndex::kMaxCandidates - 1) break;
    REQUIRE(index.InsertHashed(99999, 1000000 + flood, seen, count) == Outcome::kDone);
  }
  CHECK(flood == ShardIndex::kMaxCandidates);
  CHECK(index.InsertHashed(99999, 5, seen, ShardIndex::kMaxCandidates) == Outcome::kFull);
}

TEST_CASE("shard index: different ids of one 64-bit hash are told apart on every path") {
  // The hash is symmetric in its two factors, which differ from the halves of the id by these constants.
  constexpr uint64_t kSwap = 0x2d358dccaa6c78a5 ^ 0x8bb84b93962eacc9;
  std::mt19937_64 random(Seed());
  for (int round = 0; round < 200; round++) {
    Region region(1000);
    ShardIndex& index = region.index;
    const Id one{random(), random()};
    const Id other{one.low ^ kSwap, one.high ^ kSwap};
    uint64_t location = 0;
    REQUIRE(index.Insert(one, 1) == Outcome::kDone);
    REQUIRE(!index.Get(other, &location));
    REQUIRE(index.Remove(other, nullptr) == Outcome::kMissing);
    REQUIRE(index.CompareAndSet(other, 1, 5) == Outcome::kMissing);
    REQUIRE(index.Insert(other, 2) == Outcome::kDone);
    // They do collide: the second stands one behind its place.
    REQUIRE(index.Statistics().probes_total == 3);
    REQUIRE(index.CompareAndSet(other, 2, 3) == Outcome::kDone);
    REQUIRE(index.Get(one, &location));
    REQUIRE(location == 1);
    REQUIRE(index.Remove(one, nullptr) == Outcome::kDone);
    REQUIRE(index.Get(other, &location));
    REQUIRE(location == 3);
    REQUIRE(!index.Get(one, &location));
    REQUIRE(index.Insert(one, 4) == Outcome::kDone);
    const Id ids[2] = {one, other};
    uint64_t locations[2];
    REQUIRE(index.GetMany(ids, 2, 0, locations) == 2);
    REQUIRE(locations[0] == 4);
    REQUIRE(locations[1] == 3);
  }
}

TEST_CASE("shard index: readers go on while a growth is stopped half way") {
  constexpr uint64_t kEntries = 20000;
  Region region(kEntries);
  Model model;
  for (uint64_t i = 0; i < kEntries; i++) {
    REQUIRE(region.index.Insert({i, 3}, i) == Outcome::kDone);
    model.emplace(Id{i, 3}, i);
  }
  // A reader that waited for a writer would wait here for ever, and run into the time limit of the test.
  const Held held(region.index);
  CheckEqual(region.index, model);
  uint64_t location = 0;
  for (uint64_t i = 0; i < kEntries; i++) REQUIRE(!region.index.Get({i, 4}, &location));
  CHECK(region.index.Statistics().entries == kEntries);
}

TEST_CASE("shard index threads: readers see every entry through growth, and only whole entries") {
  const uint64_t seed = Seed();
  CAPTURE(seed);
  constexpr uint64_t kKeys = 60000;
  Region region(kKeys * 2);
  std::atomic<uint64_t> inserted{0};
  std::atomic<uint64_t> wrong{0};
  std::vector<std::thread> threads;
  for (int reader = 0; reader < 2; reader++) {
    threads.emplace_back([&, reader] {
      std::mt19937_64 random(seed + static_cast<uint64_t>(reader));
      ShardIndex index;
      if (!index.Attach(region.memory.get(), region.bytes)) wrong++;
      for (uint64_t known = 0; known < kKeys;) {
        known = inserted.load(std::memory_order_acquire);
        if (known == 0) continue;
        const uint64_t key = random() % known;
        uint64_t location = 0;
        // Its location only ever goes up by multiples of kKeys.
        if (!index.Get({key * 77, key}, &location) || location % kKeys != key) wrong++;
        if (index.Get({key * 77, key + 1}, &location)) wrong++;
      }
    });
  }
  for (uint64_t key = 0; key < kKeys; key++) {
    if (region.index.Insert({key * 77, key}, key) != Outcome::kDone) wrong++;
    inserted.store(key + 1, std::memory_order_release);
    if (key % 3 == 0 &&
        region.index.CompareAndSet({key * 77 / 2 / 77 * 77, key / 2}, key / 2, key / 2 + kKeys) == Outcome::kFull)
      wrong++;
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("shard index threads: of many inserts of one key exactly one wins, and every compare-and-set counts once") {
  const uint64_t seed = Seed();
  CAPTURE(seed);
  constexpr int kThreads = 4;
  constexpr int kRounds = 40000;
  Region region(20000);
  std::atomic<uint64_t> balance[64] = {};  // inserts minus removes of each key, as the outcomes say
  std::atomic<uint64_t> added{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; t++) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(seed * 31 + static_cast<uint64_t>(t));
      for (int round = 0; round < kRounds; round++) {
        const uint64_t key = random() % 64;
        // Keys of this thread alone keep the tables growing and full of tombstones.
        const Id own{1000 + static_cast<uint64_t>(t), random() % 4000};
        if (region.index.Insert(own, 1) != Outcome::kDone) region.index.Remove(own, nullptr);
        switch (random() % 3) {
          case 0:
            if (region.index.Insert({1, key}, 0) == Outcome::kDone) balance[key]++;
            break;
          case 1:
            if (region.index.Remove({1, key}, nullptr) == Outcome::kDone) balance[key]--;
            break;
          default:
            uint64_t location;
            if (region.index.Insert({2, key}, 0) == Outcome::kFull) std::abort();
            while (!region.index.Get({2, key}, &location) ||
                   region.index.CompareAndSet({2, key}, location, location + 1) != Outcome::kDone) {
            }
            added++;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  uint64_t sum = 0;
  for (uint64_t key = 0; key < 64; key++) {
    uint64_t location = 0;
    CHECK(region.index.Get({1, key}, &location) == (balance[key] == 1));
    CHECK(balance[key] <= 1);
    if (region.index.Get({2, key}, &location)) sum += location;
  }
  CHECK(sum == added);
}

TEST_CASE("shard index threads: hashed inserts of one key from many threads leave one location") {
  const uint64_t seed = Seed();
  CAPTURE(seed);
  Region region(20000, Form::kHashed);
  // Keys 0..7 of a hash; a location is thread * 8 + key, so resolving is location % 8.
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; t++) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(seed * 7 + t);
      uint64_t seen[ShardIndex::kMaxCandidates];
      for (int round = 0; round < 20000; round++) {
        const uint64_t hash = random() % 500;
        const uint64_t key = random() % 8;
        for (;;) {
          const size_t count = region.index.Candidates(hash, seen);
          size_t at = 0;
          while (at < count && seen[at] % 8 != key) at++;
          if (at < count) {
            if (random() % 2 == 0) region.index.RemoveHashed(hash, seen[at]);
            break;
          }
          if (region.index.InsertHashed(hash, t * 8 + key, seen, count) != Outcome::kChanged) break;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  uint64_t seen[ShardIndex::kMaxCandidates];
  for (uint64_t hash = 0; hash < 500; hash++) {
    const size_t count = region.index.Candidates(hash, seen);
    uint64_t keys = 0;
    for (size_t i = 0; i < count; i++) {
      CHECK((keys >> (seen[i] % 8) & 1) == 0);
      keys |= uint64_t{1} << (seen[i] % 8);
    }
  }
}
