#include "native/index/shard_index.h"

#include <sched.h>

#include <bit>

namespace ostraka::index {

namespace {

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

uint64_t Scramble(uint64_t x) {
  x ^= x >> 32;
  x *= 0xe9846af9b1a615d;
  x ^= x >> 32;
  x *= 0xe9846af9b1a615d;
  return x ^ (x >> 28);
}

uint64_t TagOf(uint64_t hash) { return (hash >> 12) & 0xffffff; }
uint64_t StateOf(uint64_t meta) { return (meta >> 32) & 0xff; }
uint64_t MetaOf(uint32_t seq, uint64_t state, uint64_t tag) { return seq | state << 32 | tag << 40; }
bool Odd(uint64_t meta) { return (meta & 1) != 0; }

// Waits a little longer each time; the other side is inside a few instructions, unless it lost its core.
class Patience {
 public:
  void Wait() {
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

void Lock(std::atomic<uint32_t>& word) {
  Patience patience;
  while (word.exchange(1, std::memory_order_acquire) != 0) patience.Wait();
}
void Unlock(std::atomic<uint32_t>& word) { word.store(0, std::memory_order_release); }

class Guard {
 public:
  explicit Guard(std::atomic<uint32_t>& word) : word_(word) { Lock(word_); }
  ~Guard() { Unlock(word_); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  std::atomic<uint32_t>& word_;
};

size_t Align(size_t bytes) { return (bytes + 63) & ~size_t{63}; }

}  // namespace

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
struct alignas(64) ShardIndex::Piece {
  std::atomic<uint32_t> lock;
  std::atomic<uint32_t> version;  // odd while its slots change
  std::atomic<uint32_t> prefix;   // the top `depth` bits of its hashes
  std::atomic<uint32_t> depth;
  std::atomic<uint32_t> live;
  std::atomic<uint32_t> unit_count;
  std::atomic<uint32_t> units[kUnitsMost];
  std::atomic<uint32_t> used[kUnitsMost];
};

struct ShardIndex::Route {
  uint64_t hash;
  uint64_t entry;
  uint32_t depth;
  Piece* piece;
};

namespace {

struct Plan {
  uint32_t units, pieces, depth;
  size_t directory, pieces_at, free_units_at, free_pieces_at, units_at, total;
};

}  // namespace

size_t ShardIndex::RegionBytes(uint64_t max_entries) {
  const uint64_t units = max_entries / (kUnitSlots / 2) + 64;
  const uint64_t pieces = units / 2 + 8;
  const uint32_t depth = std::min<uint32_t>(kDepthMost, static_cast<uint32_t>(std::bit_width(pieces)) + 2);
  return Align(sizeof(Header)) + Align((size_t{2} << depth) * 8) + pieces * sizeof(Piece) + Align(units * 4) +
         Align(pieces * 4) + units * kUnitSlots * sizeof(Slot) + 64;
}

bool ShardIndex::Format(void* region, size_t bytes, uint64_t max_entries, Form form) {
  if (reinterpret_cast<uintptr_t>(region) % 64 != 0 || bytes < RegionBytes(max_entries)) return false;
  const uint64_t units = max_entries / (kUnitSlots / 2) + 64;
  if (units > kNone - 1) return false;
  auto* header = static_cast<Header*>(region);
  header->form = form;
  header->units_most = static_cast<uint32_t>(units);
  header->pieces_most = static_cast<uint32_t>(units / 2 + 8);
  header->depth_most =
      std::min<uint32_t>(kDepthMost, static_cast<uint32_t>(std::bit_width(uint64_t{header->pieces_most})) + 2);
  header->region_bytes = bytes;
  header->magic = kMagic;
  ShardIndex index;
  if (!index.Attach(region, bytes)) return false;
  const Guard guard(header->growing);
  index.Name(index.NewPiece(0, 0, 2));
  return true;
}

bool ShardIndex::Attach(void* region, size_t bytes) {
  auto* header = static_cast<Header*>(region);
  if (reinterpret_cast<uintptr_t>(region) % 64 != 0 || bytes < sizeof(Header) || header->magic != kMagic ||
      header->region_bytes > bytes) {
    return false;
  }
  auto* at = static_cast<uint8_t*>(region) + Align(sizeof(Header));
  directory_ = reinterpret_cast<std::atomic<uint64_t>*>(at);
  at += Align((size_t{2} << header->depth_most) * 8);
  pieces_ = reinterpret_cast<Piece*>(at);
  at += header->pieces_most * sizeof(Piece);
  free_units_ = reinterpret_cast<uint32_t*>(at);
  at += Align(size_t{header->units_most} * 4);
  free_pieces_ = reinterpret_cast<uint32_t*>(at);
  at += Align(size_t{header->pieces_most} * 4);
  units_ = reinterpret_cast<Slot*>(at);
  header_ = header;
  return true;
}

Form ShardIndex::form() const { return header_->form; }

uint64_t ShardIndex::HashOf(Id id) const {
  if (header_->form == Form::kHashed) return Scramble(id.high);
  return Scramble(id.high * 0x9e3779b97f4a7c15 ^ Scramble(id.low + 0x632be59bd9b4e019));
}

ShardIndex::Slot* ShardIndex::Unit(uint32_t number) const { return units_ + size_t{number} * kUnitSlots; }

std::atomic<uint64_t>& ShardIndex::Directory(uint32_t depth, uint64_t hash) const {
  return directory_[(uint64_t{1} << depth) + (depth == 0 ? 0 : hash >> (64 - depth))];
}

// ---- Reading ------------------------------------------------------------------------------------------------------

ShardIndex::Route ShardIndex::Find(uint64_t hash) const {
  const uint32_t depth = header_->depth.load(std::memory_order_acquire);
  const uint64_t entry = Directory(depth, hash).load(std::memory_order_acquire);
  return {hash, entry, depth, pieces_ + static_cast<uint32_t>(entry)};
}

bool ShardIndex::Current(const Route& route) const {
  return header_->depth.load(std::memory_order_acquire) == route.depth &&
         Directory(route.depth, route.hash).load(std::memory_order_acquire) == route.entry;
}

ShardIndex::Slot* ShardIndex::UnitOf(const Piece& piece, uint64_t hash, uint32_t* unit) const {
  // Bits that the directory does not use until it is 28 deep; the probe starts at bits 0..9.
  const uint64_t count = piece.unit_count.load(std::memory_order_acquire);
  *unit = static_cast<uint32_t>((((hash >> 20) & 0xffff) * count) >> 16);
  const uint32_t number = piece.units[*unit].load(std::memory_order_acquire);
  return number < header_->units_most ? Unit(number) : Unit(0);
}

bool ShardIndex::ReadSlots(const Route& route, uint64_t hash, Id id, bool* found, uint64_t* location) const {
  uint32_t unit;
  Slot* slots = UnitOf(*route.piece, hash, &unit);
  const uint64_t tag = TagOf(hash);
  *found = false;
  Patience patience;
  for (uint32_t step = 0; step < kUnitSlots; step++) {
    Slot& slot = slots[(hash + step) % kUnitSlots];
    for (;;) {
      const uint64_t meta = slot.meta.load(std::memory_order_acquire);
      if (StateOf(meta) == kEmpty) return true;
      if (meta >> 40 != tag || (StateOf(meta) == kTombstone && !Odd(meta))) break;
      if (!Odd(meta)) {
        const uint64_t high = slot.high.load(std::memory_order_acquire);
        const uint64_t low = slot.low.load(std::memory_order_acquire);
        const uint64_t at = slot.location.load(std::memory_order_acquire);
        if (slot.meta.load(std::memory_order_relaxed) == meta) {
          if (high != id.high || low != id.low) break;
          *location = at;
          *found = true;
          return true;
        }
      }
      patience.Wait();
    }
  }
  return false;  // no empty slot: this piece is being used again
}

bool ShardIndex::Get(Id id, uint64_t* location) const {
  const uint64_t hash = HashOf(id);
  Patience patience;
  for (;;) {
    const Route route = Find(hash);
    bool found;
    const bool ended = ReadSlots(route, hash, id, &found, location);
    if (ended && Current(route)) return found;
    patience.Wait();
  }
}

size_t ShardIndex::GetMany(const Id* ids, size_t count, uint64_t missing, uint64_t* out) const {
  constexpr size_t kAhead = 16;
  size_t found = 0;
  for (size_t start = 0; start < count; start += kAhead) {
    const size_t batch = std::min(kAhead, count - start);
    for (size_t i = 0; i < batch; i++) {
      const uint64_t hash = HashOf(ids[start + i]);
      const Route route = Find(hash);
      uint32_t unit;
      __builtin_prefetch(UnitOf(*route.piece, hash, &unit) + hash % kUnitSlots);
    }
    for (size_t i = start; i < start + batch; i++) {
      if (Get(ids[i], &out[i])) {
        found++;
      } else {
        out[i] = missing;
      }
    }
  }
  return found;
}

bool ShardIndex::ReadCandidates(const Route& route, uint64_t hash, Id id, uint64_t* out, size_t* count) const {
  const uint32_t version = route.piece->version.load(std::memory_order_acquire);
  if ((version & 1) != 0) return false;
  uint32_t unit;
  Slot* slots = UnitOf(*route.piece, hash, &unit);
  *count = 0;
  uint32_t step = 0;
  for (; step < kUnitSlots && *count <= kMaxCandidates; step++) {
    Slot& slot = slots[(hash + step) % kUnitSlots];
    const uint64_t meta = slot.meta.load(std::memory_order_acquire);
    if (StateOf(meta) == kEmpty) break;
    if (StateOf(meta) != kLive || slot.high.load(std::memory_order_acquire) != id.high) continue;
    const uint64_t location = slot.location.load(std::memory_order_acquire);
    if (*count < kMaxCandidates) out[*count] = location;
    ++*count;
  }
  return step < kUnitSlots && route.piece->version.load(std::memory_order_acquire) == version && Current(route);
}

size_t ShardIndex::Candidates(uint64_t hash, uint64_t out[kMaxCandidates]) const {
  const Id id{hash, 0};
  Patience patience;
  size_t count = 0;
  while (!ReadCandidates(Find(HashOf(id)), HashOf(id), id, out, &count)) patience.Wait();
  return count;
}

bool ShardIndex::Iterate(uint64_t* cursor, Entry out[kPieceSlots], size_t* count) const {
  *count = 0;
  if (*cursor == UINT64_MAX) return false;
  Patience patience;
  for (;; patience.Wait()) {
    const Route route = Find(*cursor);
    const Piece& piece = *route.piece;
    const uint32_t version = piece.version.load(std::memory_order_acquire);
    const uint32_t depth = piece.depth.load(std::memory_order_acquire);
    const uint64_t prefix = piece.prefix.load(std::memory_order_acquire);
    const uint32_t units = piece.unit_count.load(std::memory_order_acquire);
    if ((version & 1) != 0 || units > kUnitsMost || depth > kDepthMost || !Current(route)) continue;
    size_t copied = 0;
    for (uint32_t i = 0; i < units; i++) {
      const uint32_t number = piece.units[i].load(std::memory_order_acquire);
      if (number >= header_->units_most) break;
      for (uint32_t s = 0; s < kUnitSlots; s++) {
        Slot& slot = Unit(number)[s];
        if (StateOf(slot.meta.load(std::memory_order_acquire)) != kLive) continue;
        out[copied].id.high = slot.high.load(std::memory_order_acquire);
        out[copied].id.low = slot.low.load(std::memory_order_acquire);
        out[copied++].location = slot.location.load(std::memory_order_acquire);
      }
    }
    if (piece.version.load(std::memory_order_acquire) != version || !Current(route)) continue;
    *count = copied;
    const bool last = depth == 0 || prefix == (uint64_t{1} << depth) - 1;
    *cursor = last ? UINT64_MAX : (prefix + 1) << (64 - depth);
    return true;
  }
}

// ---- Writing ------------------------------------------------------------------------------------------------------

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

ShardIndex::Route ShardIndex::FindLocked(uint64_t hash) const {
  for (;;) {
    const Route route = Find(hash);
    Lock(route.piece->lock);
    if (Current(route)) return route;
    Unlock(route.piece->lock);
  }
}

// The live slot of an id (hashed form: of this hash and location) in a locked piece.
ShardIndex::Slot* ShardIndex::Locate(const Piece& piece, uint64_t hash, Id id, const uint64_t* location) const {
  uint32_t unit;
  Slot* slots = UnitOf(piece, hash, &unit);
  for (uint32_t step = 0; step < kUnitSlots; step++) {
    Slot& slot = slots[(hash + step) % kUnitSlots];
    const uint64_t meta = slot.meta.load(std::memory_order_relaxed);
    if (StateOf(meta) == kEmpty) return nullptr;
    if (StateOf(meta) != kLive || meta >> 40 != TagOf(hash)) continue;
    if (slot.high.load(std::memory_order_relaxed) != id.high || slot.low.load(std::memory_order_relaxed) != id.low)
      continue;
    if (location == nullptr || slot.location.load(std::memory_order_relaxed) == *location) return &slot;
  }
  return nullptr;
}

// Adds to a locked piece that does not hold the entry. The first tombstone on the path is used again: the path was
// searched to its end under the same lock, so the entry cannot stand behind it.
Outcome ShardIndex::Add(const Route& first, uint64_t hash, Id id, uint64_t location) {
  Route route = first;
  for (;;) {
    Piece& piece = *route.piece;
    uint32_t unit;
    Slot* slots = UnitOf(piece, hash, &unit);
    uint32_t used = 0;
    const uint32_t units = piece.unit_count.load(std::memory_order_relaxed);
    for (uint32_t i = 0; i < units; i++) used += piece.used[i].load(std::memory_order_relaxed);
    const bool room = piece.used[unit].load(std::memory_order_relaxed) < kUnitLimit && used < units * kAverageLimit;
    for (uint32_t step = 0; step < kUnitSlots; step++) {
      Slot& slot = slots[(hash + step) % kUnitSlots];
      const uint64_t meta = slot.meta.load(std::memory_order_relaxed);
      if (StateOf(meta) == kLive) continue;
      if (StateOf(meta) == kEmpty && !room) break;
      const uint32_t seq = static_cast<uint32_t>(meta);
      {
        const Changing changing(piece.version);
        // A tombstone stays one while it is odd, under the new tag: who looks for this id waits, others pass on.
        slot.meta.store(MetaOf(seq + 1, kTombstone, TagOf(hash)), std::memory_order_release);
        slot.high.store(id.high, std::memory_order_release);
        slot.low.store(id.low, std::memory_order_release);
        slot.location.store(location, std::memory_order_release);
        slot.meta.store(MetaOf(seq + 2, kLive, TagOf(hash)), std::memory_order_release);
      }
      if (StateOf(meta) == kEmpty) piece.used[unit].fetch_add(1, std::memory_order_relaxed);
      piece.live.fetch_add(1, std::memory_order_relaxed);
      Unlock(piece.lock);
      return Outcome::kDone;
    }
    const bool grown = Grow(route, hash);
    Unlock(piece.lock);
    if (!grown) return Outcome::kFull;
    route = FindLocked(hash);
    // Another writer may have come between.
    if (header_->form == Form::kIds && Locate(*route.piece, hash, id, nullptr) != nullptr) {
      Unlock(route.piece->lock);
      return Outcome::kExists;
    }
    if (header_->form == Form::kHashed) {
      Unlock(route.piece->lock);
      return Outcome::kChanged;  // the caller looks again, and finds room
    }
  }
}

Outcome ShardIndex::Insert(Id id, uint64_t location) {
  const uint64_t hash = HashOf(id);
  const Route route = FindLocked(hash);
  if (Locate(*route.piece, hash, id, nullptr) != nullptr) {
    Unlock(route.piece->lock);
    return Outcome::kExists;
  }
  return Add(route, hash, id, location);
}

Outcome ShardIndex::Replace(uint64_t hash, Id id, uint64_t expected, uint64_t location) {
  const Route route = FindLocked(hash);
  Slot* slot = Locate(*route.piece, hash, id, &expected);
  if (slot != nullptr) {
    const uint64_t meta = slot->meta.load(std::memory_order_relaxed);
    const uint32_t seq = static_cast<uint32_t>(meta);
    const Changing changing(route.piece->version);
    slot->meta.store(MetaOf(seq + 1, kLive, meta >> 40), std::memory_order_release);
    slot->location.store(location, std::memory_order_release);
    slot->meta.store(MetaOf(seq + 2, kLive, meta >> 40), std::memory_order_release);
  }
  Unlock(route.piece->lock);
  return slot == nullptr ? Outcome::kMissing : Outcome::kDone;
}

Outcome ShardIndex::Erase(uint64_t hash, Id id, const uint64_t* expected) {
  const Route route = FindLocked(hash);
  Piece& piece = *route.piece;
  Slot* slot = Locate(piece, hash, id, expected);
  if (slot != nullptr) {
    uint32_t unit;
    Slot* slots = UnitOf(piece, hash, &unit);
    const uint32_t at = static_cast<uint32_t>(slot - slots);
    const Slot& next = slots[(at + 1) % kUnitSlots];
    // No probe goes on past a slot whose successor is empty: it may become empty itself, and tombstones before it too.
    const bool last = StateOf(next.meta.load(std::memory_order_relaxed)) == kEmpty;
    const Changing changing(piece.version);
    for (uint32_t step = 0; step < kUnitSlots; step++) {
      Slot& here = slots[(at + kUnitSlots - step) % kUnitSlots];
      const uint64_t meta = here.meta.load(std::memory_order_relaxed);
      if (step > 0 && (!last || StateOf(meta) != kTombstone)) break;
      const uint32_t seq = static_cast<uint32_t>(meta);
      here.meta.store(MetaOf(seq + 2, last ? kEmpty : kTombstone, last ? 0 : meta >> 40), std::memory_order_release);
      if (last) piece.used[unit].fetch_sub(1, std::memory_order_relaxed);
    }
    piece.live.fetch_sub(1, std::memory_order_relaxed);
  }
  Unlock(piece.lock);
  return slot == nullptr ? Outcome::kMissing : Outcome::kDone;
}

Outcome ShardIndex::CompareAndSet(Id id, uint64_t expected, uint64_t location) {
  return Replace(HashOf(id), id, expected, location);
}
Outcome ShardIndex::Remove(Id id, const uint64_t* expected) { return Erase(HashOf(id), id, expected); }

Outcome ShardIndex::CompareAndSetHashed(uint64_t hash, uint64_t expected, uint64_t location) {
  const Id id{hash, 0};
  return Replace(HashOf(id), id, expected, location);
}
Outcome ShardIndex::RemoveHashed(uint64_t hash, uint64_t location) {
  const Id id{hash, 0};
  return Erase(HashOf(id), id, &location);
}

Outcome ShardIndex::InsertHashed(uint64_t hash, uint64_t location, const uint64_t* seen, size_t seen_count) {
  const Id id{hash, 0};
  const uint64_t spread = HashOf(id);
  for (;;) {
    const Route route = FindLocked(spread);
    uint64_t there[kMaxCandidates];
    size_t count = 0;
    ReadCandidates(route, spread, id, there, &count);  // exact: the piece is locked
    if (count >= kMaxCandidates) {
      Unlock(route.piece->lock);
      return Outcome::kFull;
    }
    bool same = count == seen_count;
    for (size_t i = 0; same && i < count; i++) {
      bool known = false;
      for (size_t j = 0; j < seen_count; j++) known = known || seen[j] == there[i];
      same = known;
    }
    if (!same) {
      Unlock(route.piece->lock);
      return Outcome::kChanged;
    }
    const Outcome outcome = Add(route, spread, id, location);
    if (outcome != Outcome::kChanged) return outcome;
  }
}

// ---- Growth: everything below runs under header_->growing ----------------------------------------------------------

uint32_t ShardIndex::NewPiece(uint32_t prefix, uint32_t depth, uint32_t units) {
  const auto spare = [](std::atomic<uint32_t>& made, std::atomic<uint32_t>& free, uint32_t most) {
    return free.load(std::memory_order_relaxed) + most - made.load(std::memory_order_relaxed);
  };
  Header& h = *header_;
  if (spare(h.units_made, h.units_free, h.units_most) < units ||
      spare(h.pieces_made, h.pieces_free, h.pieces_most) < 1) {
    return kNone;
  }
  const auto take = [](std::atomic<uint32_t>& made, std::atomic<uint32_t>& free, const uint32_t* list) {
    if (free.load(std::memory_order_relaxed) > 0) return list[free.fetch_sub(1, std::memory_order_relaxed) - 1];
    return made.fetch_add(1, std::memory_order_relaxed);
  };
  const uint32_t number = take(h.pieces_made, h.pieces_free, free_pieces_);
  Piece& piece = pieces_[number];  // its lock may be held by a writer that is about to leave it
  piece.prefix.store(prefix, std::memory_order_relaxed);
  piece.depth.store(depth, std::memory_order_relaxed);
  piece.live.store(0, std::memory_order_relaxed);
  for (uint32_t i = 0; i < units; i++) {
    const uint32_t fresh = h.units_made.load(std::memory_order_relaxed);
    const uint32_t unit = take(h.units_made, h.units_free, free_units_);
    if (unit < fresh) {
      // Used before: late readers may still look, and are told so by the directory.
      for (uint32_t s = 0; s < kUnitSlots; s++) Unit(unit)[s].meta.store(0, std::memory_order_release);
    }
    piece.units[i].store(unit, std::memory_order_relaxed);
    piece.used[i].store(0, std::memory_order_relaxed);
  }
  piece.unit_count.store(units, std::memory_order_release);
  return number;
}

void ShardIndex::FreePiece(uint32_t number) {
  Header& h = *header_;
  const Piece& piece = pieces_[number];
  for (uint32_t i = 0; i < piece.unit_count.load(std::memory_order_relaxed); i++) {
    free_units_[h.units_free.fetch_add(1, std::memory_order_relaxed)] = piece.units[i].load(std::memory_order_relaxed);
  }
  free_pieces_[h.pieces_free.fetch_add(1, std::memory_order_relaxed)] = number;
}

// Puts an entry into a piece that no directory names yet.
void ShardIndex::Place(Piece& piece, uint64_t hash, uint64_t high, uint64_t low, uint64_t location) {
  uint32_t unit;
  Slot* slots = UnitOf(piece, hash, &unit);
  uint32_t at = static_cast<uint32_t>(hash % kUnitSlots);
  while (StateOf(slots[at].meta.load(std::memory_order_relaxed)) != kEmpty) at = (at + 1) % kUnitSlots;
  slots[at].high.store(high, std::memory_order_release);
  slots[at].low.store(low, std::memory_order_release);
  slots[at].location.store(location, std::memory_order_release);
  slots[at].meta.store(MetaOf(0, kLive, TagOf(hash)), std::memory_order_release);
  piece.used[unit].fetch_add(1, std::memory_order_relaxed);
  piece.live.fetch_add(1, std::memory_order_relaxed);
}

void ShardIndex::Name(uint32_t number) {
  const Piece& piece = pieces_[number];
  const uint32_t depth = header_->depth.load(std::memory_order_relaxed);
  const uint32_t own = piece.depth.load(std::memory_order_relaxed);
  const uint64_t generation = header_->generation.fetch_add(1, std::memory_order_relaxed) + 1;
  const uint64_t first =
      (uint64_t{1} << depth) + (uint64_t{piece.prefix.load(std::memory_order_relaxed)} << (depth - own));
  for (uint64_t i = 0; i < uint64_t{1} << (depth - own); i++) {
    directory_[first + i].store(number | generation << 32, std::memory_order_release);
  }
}

bool ShardIndex::Deepen() {
  const uint32_t depth = header_->depth.load(std::memory_order_relaxed);
  if (depth == header_->depth_most) return false;
  const uint64_t size = uint64_t{1} << depth;
  for (uint64_t i = 0; i < size; i++) {
    const uint64_t entry = directory_[size + i].load(std::memory_order_relaxed);
    directory_[2 * size + 2 * i].store(entry, std::memory_order_relaxed);
    directory_[2 * size + 2 * i + 1].store(entry, std::memory_order_relaxed);
  }
  header_->depth.store(depth + 1, std::memory_order_release);
  return true;
}

// Replaces a locked piece so that its next entries find room; the successors hold just its live entries. False when
// the region is used up or one hash alone fills a unit.
bool ShardIndex::Grow(const Route& route, uint64_t hash) {
  Piece& old = *route.piece;
  const uint32_t units = old.unit_count.load(std::memory_order_relaxed);
  const uint32_t depth = old.depth.load(std::memory_order_relaxed);
  const uint32_t prefix = old.prefix.load(std::memory_order_relaxed);
  uint32_t unit;
  UnitOf(old, hash, &unit);
  uint32_t of_hash = 0;  // live entries that no split can part from the new one
  uint32_t in_unit = 0;
  const auto each = [&](auto visit) {
    for (uint32_t i = 0; i < units; i++) {
      Slot* slots = Unit(old.units[i].load(std::memory_order_relaxed));
      for (uint32_t s = 0; s < kUnitSlots; s++) {
        if (StateOf(slots[s].meta.load(std::memory_order_relaxed)) != kLive) continue;
        const Id id{slots[s].high.load(std::memory_order_relaxed), slots[s].low.load(std::memory_order_relaxed)};
        visit(i, HashOf(id), id, slots[s].location.load(std::memory_order_relaxed));
      }
    }
  };
  each([&](uint32_t i, uint64_t other, Id, uint64_t) {
    if (other == hash) of_hash++;
    if (i == unit) in_unit++;
  });
  if (of_hash >= kUnitLimit / 2) return false;

  const Guard guard(header_->growing);
  const uint32_t live = old.live.load(std::memory_order_relaxed);
  uint32_t next[2] = {kNone, kNone};
  if (live <= units * kAverageLimit * 3 / 4 && in_unit <= kUnitLimit * 3 / 4) {
    next[0] = NewPiece(prefix, depth, units);
    if (next[0] != kNone) header_->cleanings.fetch_add(1, std::memory_order_relaxed);
  } else if (units < kUnitsMost && in_unit <= kUnitLimit * 9 / 10) {
    next[0] = NewPiece(prefix, depth, units + 1);
    if (next[0] != kNone) header_->enlargements.fetch_add(1, std::memory_order_relaxed);
  } else {
    if (depth == header_->depth.load(std::memory_order_relaxed) && !Deepen()) return false;
    // All entries may fall to one side, so each side gets as many units as the old piece had.
    uint32_t ones = 0;
    each([&](uint32_t, uint64_t other, Id, uint64_t) { ones += other >> (63 - depth) & 1; });
    const uint32_t small = kUnitSlots + kAverageLimit / 2;
    next[0] = NewPiece(prefix << 1, depth + 1, live - ones <= small ? 2 : units);
    next[1] = NewPiece(prefix << 1 | 1, depth + 1, ones <= small ? 2 : units);
    if (next[1] == kNone && next[0] != kNone) {
      FreePiece(next[0]);
      next[0] = kNone;
    }
    if (next[0] != kNone) header_->splits.fetch_add(1, std::memory_order_relaxed);
  }
  if (next[0] == kNone) return false;
  each([&](uint32_t, uint64_t other, Id id, uint64_t location) {
    const uint32_t side = next[1] == kNone ? 0 : static_cast<uint32_t>(other >> (63 - depth) & 1);
    Place(pieces_[next[side]], other, id.high, id.low, location);
  });
  Name(next[0]);
  if (next[1] != kNone) Name(next[1]);
  FreePiece(static_cast<uint32_t>(route.entry));
  return true;
}

// ---- The whole table ----------------------------------------------------------------------------------------------

template <typename Visit>
void ShardIndex::EachPiece(Visit visit) const {
  uint64_t at = 0;
  for (;;) {
    const Route route = Find(at);
    const uint32_t depth = std::min(route.piece->depth.load(std::memory_order_acquire), kDepthMost);
    const uint64_t prefix = route.piece->prefix.load(std::memory_order_acquire);
    if (!Current(route)) continue;
    visit(*route.piece);
    if (depth == 0 || prefix == (uint64_t{1} << depth) - 1) return;
    at = (prefix + 1) << (64 - depth);
  }
}

uint64_t ShardIndex::Length() const {
  uint64_t total = 0;
  EachPiece([&](const Piece& piece) { total += piece.live.load(std::memory_order_relaxed); });
  return total;
}

void ShardIndex::Clear() {
  uint64_t at = 0;
  for (;;) {
    const Route route = FindLocked(at);
    Piece& piece = *route.piece;
    const uint32_t depth = piece.depth.load(std::memory_order_relaxed);
    const uint64_t prefix = piece.prefix.load(std::memory_order_relaxed);
    {
      const Changing changing(piece.version);
      for (uint32_t i = 0; i < piece.unit_count.load(std::memory_order_relaxed); i++) {
        Slot* slots = Unit(piece.units[i].load(std::memory_order_relaxed));
        for (uint32_t s = 0; s < kUnitSlots; s++) {
          const uint32_t seq = static_cast<uint32_t>(slots[s].meta.load(std::memory_order_relaxed));
          slots[s].meta.store(MetaOf(seq + 2, kEmpty, 0), std::memory_order_release);
        }
        piece.used[i].store(0, std::memory_order_relaxed);
      }
      piece.live.store(0, std::memory_order_relaxed);
    }
    Unlock(piece.lock);
    if (depth == 0 || prefix == (uint64_t{1} << depth) - 1) return;
    at = (prefix + 1) << (64 - depth);
  }
}

bool ShardIndex::Reserve(uint64_t entries) {
  const uint64_t pieces = entries / (2 * kAverageLimit * 3 / 4) + 1;
  const uint32_t wanted = static_cast<uint32_t>(std::bit_width(pieces - 1));
  if (wanted > header_->depth_most) return false;
  uint64_t at = 0;
  for (;;) {
    const Route route = FindLocked(at);
    Piece& old = *route.piece;
    const uint32_t depth = old.depth.load(std::memory_order_relaxed);
    const uint64_t prefix = old.prefix.load(std::memory_order_relaxed);
    bool done = depth >= wanted || old.live.load(std::memory_order_relaxed) > 0;
    if (!done) {
      const Guard guard(header_->growing);
      if (depth == header_->depth.load(std::memory_order_relaxed) && !Deepen()) done = true;
      const uint32_t zero = done ? kNone : NewPiece(static_cast<uint32_t>(prefix) << 1, depth + 1, 2);
      const uint32_t one = zero == kNone ? kNone : NewPiece(static_cast<uint32_t>(prefix) << 1 | 1, depth + 1, 2);
      if (one == kNone) {
        if (zero != kNone) FreePiece(zero);
        Unlock(old.lock);
        return false;
      }
      Name(zero);
      Name(one);
      FreePiece(static_cast<uint32_t>(route.entry));
    }
    Unlock(old.lock);
    if (!done) continue;
    if (depth == 0 || prefix == (uint64_t{1} << depth) - 1) return true;
    at = (prefix + 1) << (64 - depth);
  }
}

Stats ShardIndex::Statistics() const {
  const Header& h = *header_;
  Stats stats{};
  stats.depth = h.depth.load(std::memory_order_acquire);
  stats.splits = h.splits.load(std::memory_order_relaxed);
  stats.enlargements = h.enlargements.load(std::memory_order_relaxed);
  stats.cleanings = h.cleanings.load(std::memory_order_relaxed);
  stats.region_bytes = sizeof(Header) + (uint64_t{16} << stats.depth) +
                       h.pieces_made.load(std::memory_order_relaxed) * (sizeof(Piece) + 4) +
                       h.units_made.load(std::memory_order_relaxed) * (kUnitSlots * sizeof(Slot) + 4);
  EachPiece([&](const Piece& piece) {
    stats.pieces++;
    const uint32_t units = piece.unit_count.load(std::memory_order_acquire);
    for (uint32_t i = 0; i < units && i < kUnitsMost; i++) {
      stats.slots += kUnitSlots;
      stats.tombstones += piece.used[i].load(std::memory_order_relaxed);
      Slot* slots = Unit(piece.units[i].load(std::memory_order_acquire));
      for (uint32_t s = 0; s < kUnitSlots; s++) {
        if (StateOf(slots[s].meta.load(std::memory_order_acquire)) != kLive) continue;
        const Id id{slots[s].high.load(std::memory_order_relaxed), slots[s].low.load(std::memory_order_relaxed)};
        const uint64_t probes = (s + kUnitSlots - HashOf(id) % kUnitSlots) % kUnitSlots + 1;
        stats.probes_total += probes;
        stats.probes_most = std::max(stats.probes_most, probes);
        stats.entries++;
        if (h.form != Form::kHashed) continue;
        uint64_t same = 0;
        for (uint32_t t = 0; t < kUnitSlots; t++) {
          Slot& other = slots[(s + t) % kUnitSlots];
          const uint64_t meta = other.meta.load(std::memory_order_acquire);
          if (StateOf(meta) == kEmpty) break;
          if (StateOf(meta) == kLive && other.high.load(std::memory_order_relaxed) == id.high) same++;
        }
        stats.same_hash_most = std::max(stats.same_hash_most, same);
      }
    }
  });
  if (h.form == Form::kIds) stats.same_hash_most = stats.entries > 0 ? 1 : 0;
  stats.tombstones -= std::min(stats.tombstones, stats.entries);
  return stats;
}

}  // namespace ostraka::index
