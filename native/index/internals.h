// What the parts of the shard index share: sizes, the words of a slot, locks, and the structures of the region.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "native/index/shard_index.h"

namespace ostraka::index {

// Places where a test may stop a thread, to force an order of steps on several (test/native/cc/index_stage.h). Only the
// C++ tests are compiled with them.
#if defined(OSTRAKA_INDEX_TEST_HOOKS)
enum class Point {
  kWaiting,      // for a lock, or to look again
  kRouted,       // reader: knows its piece, has read none of its slots
  kIdRead,       // reader: has read the id of a slot, not its location
  kCollected,    // reader of several slots: has taken one of them
  kAnswered,     // reader: knows its answer, not yet whether the piece was current
  kChosen,       // writer: has chosen a slot, not yet changed it
  kHalfWritten,  // writer: the slot has a new id and an old location
  kMade,         // growth: the successors are empty
  kFilled,       // growth: they are full, and not named
  kHalfNamed,    // growth: one of two is named
  kGrown,        // writer: has made room and given up the lock
};
void TestHook(Point point);
#define OSTRAKA_INDEX_TEST_HOOK(point) TestHook(Point::point)
#else
#define OSTRAKA_INDEX_TEST_HOOK(point) static_cast<void>(0)
#endif

constexpr uint64_t kMagic = 0x3158444e494b5254;  // "TRKINDX1"
constexpr uint32_t kUnitSlots = 1024;
constexpr uint32_t kUnitsMost = 3;
constexpr uint32_t kNone = UINT32_MAX;
constexpr uint32_t kDepthMost = 26;
// A piece grows when its slots in use pass this share on average, or one unit is nearly full.
constexpr uint32_t kAverageLimit = kUnitSlots * 4 / 5;
constexpr uint32_t kUnitLimit = kUnitSlots * 15 / 16;

constexpr uint64_t kEmpty = 0;
constexpr uint64_t kLive = 1;
constexpr uint64_t kTombstone = 2;

// Both halves of the 128-bit product: every bit of either factor reaches the middle ones.
inline uint64_t Fold(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Where the probe for a hash starts: at a slot that begins a cache line, so that most probes end in that line.
inline uint32_t HomeOf(uint64_t hash) { return static_cast<uint32_t>(hash % kUnitSlots) & ~uint32_t{1}; }
inline uint64_t TagOf(uint64_t hash) { return (hash >> 12) & 0xffffff; }
inline uint64_t StateOf(uint64_t meta) { return (meta >> 32) & 0xff; }
inline uint64_t MetaOf(uint32_t seq, uint64_t state, uint64_t tag) { return seq | state << 32 | tag << 40; }
inline bool Odd(uint64_t meta) { return (meta & 1) != 0; }

// Waits a little longer each time; the other side is inside a few instructions, unless it lost its core.
class Patience {
 public:
  void Wait() {
    OSTRAKA_INDEX_TEST_HOOK(kWaiting);
    if (++waits_ < 64) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    } else {
      sched_yield();
    }
  }

 private:
  int waits_ = 0;
};

inline void Lock(std::atomic<uint32_t>& word) {
  Patience patience;
  while (word.exchange(1, std::memory_order_acquire) != 0) patience.Wait();
}
inline void Unlock(std::atomic<uint32_t>& word) { word.store(0, std::memory_order_release); }

class Guard {
 public:
  explicit Guard(std::atomic<uint32_t>& word) : word_(word) { Lock(word_); }
  ~Guard() { Unlock(word_); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  std::atomic<uint32_t>& word_;
};

inline size_t Align(size_t bytes) { return (bytes + 63) & ~size_t{63}; }

// Marks the slots of a locked piece as changing, for readers that need several of them as of one moment.
class Changing {
 public:
  explicit Changing(std::atomic<uint32_t>& version) : version_(version) {
    version_.store(version_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  ~Changing() { version_.store(version_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }
  Changing(const Changing&) = delete;
  Changing& operator=(const Changing&) = delete;

 private:
  std::atomic<uint32_t>& version_;
};

struct ShardIndex::Header {
  uint64_t magic;
  Form form;
  uint32_t depth_most;
  uint32_t units_most;
  uint32_t pieces_most;
  uint64_t region_bytes;
  alignas(64) std::atomic<uint32_t> depth;
  // The rest is changed under `growing`.
  alignas(64) std::atomic<uint32_t> growing;
  std::atomic<uint32_t> generation;
  std::atomic<uint32_t> units_made;
  std::atomic<uint32_t> units_free;
  std::atomic<uint32_t> pieces_made;
  std::atomic<uint32_t> pieces_free;
  std::atomic<uint64_t> splits;
  std::atomic<uint64_t> enlargements;
  std::atomic<uint64_t> cleanings;
};

struct ShardIndex::Slot {
  std::atomic<uint64_t> meta;
  std::atomic<uint64_t> high;
  std::atomic<uint64_t> low;
  std::atomic<uint64_t> location;
};

// Invariant, for a piece the directory names: used[i] counts the slots of unit i that are not empty, each at most
// kUnitLimit, so every probe ends at an empty slot. Atomic because a late reader may look at a piece used again.
// What readers need lies on a line of its own, which writers leave alone until the piece is made anew.
struct alignas(64) ShardIndex::Piece {
  std::atomic<uint32_t> prefix;  // the top `depth` bits of its hashes
  std::atomic<uint32_t> depth;
  std::atomic<uint32_t> unit_count;
  std::atomic<uint32_t> units[kUnitsMost];
  alignas(64) std::atomic<uint32_t> lock;
  std::atomic<uint32_t> version;  // odd while its slots change
  std::atomic<uint32_t> live;
  std::atomic<uint32_t> used[kUnitsMost];
};

struct ShardIndex::Route {
  uint64_t hash;
  uint64_t entry;
  uint32_t depth;
  Piece* piece;
};

}  // namespace ostraka::index
