// The shard index: a hash table from 128-bit ids (or 64-bit hashes) to 64-bit locations, in one region of shared
// memory that all threads read and write at once. It is a cache of what segments say and can always be rebuilt.
//
// Model: extendible hashing over small pieces. The directory maps the top `depth` bits of an entry's hash to a piece;
// a piece owns one range of hashes and holds it in 2 or 3 units of 1,024 slots, each probed linearly. A piece that is
// full is replaced: by itself without tombstones, by one of 3 units, or by two of 2 units. So the table grows by
// factors of 1.5 and 1.33, never as a whole, and at least 7/12 of its peak load is always used.
//
// Region:  [Header][directories of depth 0..max, the one of depth d at word 2^d][pieces][units][free lists]
// Slot, 32 bytes:   u64 meta   = seq u32 | state u8 << 32 | tag u24 << 40
//                   u64 high, u64 low   the id; in the hashed form: the caller's hash, 0
//                   u64 location
// Directory entry:  u64        = piece u32 | generation u32 << 32; a generation is never used twice for one word
//
// Writers take the lock of one piece. Readers take none: they accept a slot whose seq is even and unchanged around
// the fields, and accept their answer (hit or miss) only if the directory still named the same piece, of the same
// generation, afterwards. A piece being replaced is only read, its successors are filled before they are named, and
// its memory may be used again at once: a reader still in it is told so by that last check. Growth therefore never
// makes a reader wait, and costs a writer at most the copy of 3,072 slots (and, when the deepest piece splits, one
// copy of the directory).
//
// Only C++ writes the region. Loads of fields are acquire, stores release: no fences, which ThreadSanitizer cannot see.
// No call blocks while it holds a lock, and JavaScript cannot stop a native call midway, so nothing stays locked.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace ostraka::index {

struct Id {
  uint64_t high;
  uint64_t low;
};

enum class Form : uint32_t {
  kIds = 1,     // the key is the id itself
  kHashed = 2,  // the key lies elsewhere: a hash finds candidate locations, the caller resolves them
};

enum class Outcome {
  kDone,
  kMissing,  // no such entry, or it holds another location
  kExists,   // insert: the id is there already
  kChanged,  // hashed insert: the candidates are not those the caller saw
  kFull,     // the region is used up, or too many entries share one hash
};

struct Stats {
  uint64_t entries;
  uint64_t tombstones;
  uint64_t slots;  // in pieces that the directory names
  uint64_t pieces;
  uint64_t depth;           // bits of hash the directory looks at
  uint64_t region_bytes;    // touched so far, free units included
  uint64_t splits;          // pieces replaced by two
  uint64_t enlargements;    // pieces replaced by larger ones
  uint64_t cleanings;       // pieces replaced by themselves without tombstones
  uint64_t probes_total;    // slots looked at to find every entry once
  uint64_t probes_most;     // for the entry farthest from its place
  uint64_t same_hash_most;  // most entries of one hash (only more than 1 in the hashed form)
};

class ShardIndex {
 public:
  /// Bytes of a region that takes `max_entries`. Memory is used only as entries come.
  static size_t RegionBytes(uint64_t max_entries);

  /// Prepares a region of zeroed memory, 64-byte aligned; once, before any other thread sees it.
  static bool Format(void* region, size_t bytes, uint64_t max_entries, Form form);

  /// Attaches to a formatted region; false when it is not one.
  bool Attach(void* region, size_t bytes);

  Form form() const;

  // Form kIds. Locations are opaque.
  bool Get(Id id, uint64_t* location) const;
  /// out[i] is the location of ids[i], or `missing`; returns the number found. Overlaps the cache misses.
  size_t GetMany(const Id* ids, size_t count, uint64_t missing, uint64_t* out) const;
  Outcome Insert(Id id, uint64_t location);
  Outcome CompareAndSet(Id id, uint64_t expected, uint64_t location);
  /// Removes the entry; with `expected` only if it holds that location.
  Outcome Remove(Id id, const uint64_t* expected);

  // Form kHashed. Between two calls the caller resolves locations to keys and compares those.
  static constexpr size_t kMaxCandidates = 64;
  /// Locations stored under the hash, as of one moment; their number, or kMaxCandidates + 1 when there are more.
  size_t Candidates(uint64_t hash, uint64_t out[kMaxCandidates]) const;
  /// Adds a location if the candidates are still exactly `seen` (in any order); kChanged otherwise: look again.
  Outcome InsertHashed(uint64_t hash, uint64_t location, const uint64_t* seen, size_t seen_count);
  Outcome CompareAndSetHashed(uint64_t hash, uint64_t expected, uint64_t location);
  Outcome RemoveHashed(uint64_t hash, uint64_t location);

  uint64_t Length() const;
  /// Not atomic over pieces: entries inserted meanwhile may stay.
  void Clear();
  /// Makes room for `entries` in all, so that inserting them splits little. False when the region is too small.
  bool Reserve(uint64_t entries);
  Stats Statistics() const;

  static constexpr size_t kPieceSlots = 3072;
  struct Entry {
    Id id;
    uint64_t location;
  };
  /// Copies the entries of the piece at *cursor (start with 0) as of one moment, and moves the cursor on. Entries
  /// that are there during the whole iteration come exactly once. Returns false when the iteration is over.
  bool Iterate(uint64_t* cursor, Entry out[kPieceSlots], size_t* count) const;

 private:
  friend struct Held;    // tests hold locks through it,
  friend struct Inside;  // and learn where entries lie
  struct Header;
  struct Piece;
  struct Slot;
  struct Route;

  Slot* Unit(uint32_t number) const;
  std::atomic<uint64_t>& Directory(uint32_t depth, uint64_t hash) const;
  Route Find(uint64_t hash) const;
  bool Current(const Route& route) const;
  Route FindLocked(uint64_t hash) const;
  Slot* UnitOf(const Piece& piece, uint64_t hash, uint32_t* unit) const;
  Slot* Locate(const Piece& piece, uint64_t hash, Id id, const uint64_t* location) const;
  bool ReadSlots(const Route& route, uint64_t hash, Id id, bool* found, uint64_t* location) const;
  bool ReadFirst(const Route& route, uint64_t hash, Id id, bool* found, uint64_t* location) const;
  bool ReadCandidates(const Route& route, uint64_t hash, Id id, uint64_t* out, size_t* count) const;
  Outcome Add(const Route& route, uint64_t hash, Id id, uint64_t location);
  Outcome Replace(uint64_t hash, Id id, uint64_t expected, uint64_t location);
  Outcome Erase(uint64_t hash, Id id, const uint64_t* expected);
  bool Grow(const Route& route, uint64_t hash);
  bool OneHash(const Piece& piece, uint32_t unit) const;
  uint64_t HashOf(Id id) const;
  bool Deepen();
  uint32_t NewPiece(uint32_t prefix, uint32_t depth, uint32_t units);
  void FreePiece(uint32_t number);
  void Place(Piece& piece, uint64_t hash, uint64_t high, uint64_t low, uint64_t location);
  bool Fits(const Piece& piece, const Piece& from, uint64_t hash) const;
  void Name(uint32_t piece);
  template <typename Visit>
  void EachPiece(Visit visit) const;

  Header* header_ = nullptr;
  std::atomic<uint64_t>* directory_ = nullptr;
  Piece* pieces_ = nullptr;
  Slot* units_ = nullptr;
  uint32_t* free_units_ = nullptr;
  uint32_t* free_pieces_ = nullptr;
};

}  // namespace ostraka::index
