// Reading: no locks, every answer checked against the directory afterwards.
#include "native/index/internals.h"

namespace ostraka::index {

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
  const uint32_t home = HomeOf(hash);
  *found = false;
  Patience patience;
  for (uint32_t step = 0; step < kUnitSlots; step++) {
    Slot& slot = slots[(home + step) % kUnitSlots];
    for (;;) {
      const uint64_t meta = slot.meta.load(std::memory_order_acquire);
      if (StateOf(meta) == kEmpty) return true;
      if (meta >> 40 != tag || (StateOf(meta) == kTombstone && !Odd(meta))) break;
      if (!Odd(meta)) {
        const uint64_t high = slot.high.load(std::memory_order_acquire);
        const uint64_t low = slot.low.load(std::memory_order_acquire);
        OSTRAKA_INDEX_TEST_HOOK(kIdRead);
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

// Most gets end in the cache line where the probe starts. This looks at its two slots without a branch between them,
// since which of the two it is cannot be predicted. False when ReadSlots has to decide.
bool ShardIndex::ReadFirst(const Route& route, uint64_t hash, Id id, bool* found, uint64_t* location) const {
  uint32_t unit;
  Slot* slots = UnitOf(*route.piece, hash, &unit) + HomeOf(hash);
  const uint64_t metas[2] = {slots[0].meta.load(std::memory_order_acquire),
                             slots[1].meta.load(std::memory_order_acquire)};
  const uint64_t wanted = MetaOf(0, kLive, TagOf(hash)) >> 32;
  const uint32_t at = metas[0] >> 32 == wanted ? 0 : 1;
  if (metas[at] >> 32 != wanted) {
    // Bitwise: an empty slot is predictable only as one of the two.
    *found = false;
    return (StateOf(metas[0]) == kEmpty) | (StateOf(metas[1]) == kEmpty && StateOf(metas[0]) == kLive);
  }
  const Slot& slot = slots[at];
  const uint64_t high = slot.high.load(std::memory_order_acquire);
  const uint64_t low = slot.low.load(std::memory_order_acquire);
  OSTRAKA_INDEX_TEST_HOOK(kIdRead);
  *location = slot.location.load(std::memory_order_acquire);
  *found = true;
  return !Odd(metas[at]) && high == id.high && low == id.low &&
         slot.meta.load(std::memory_order_relaxed) == metas[at];
}

bool ShardIndex::Get(Id id, uint64_t* location) const {
  const uint64_t hash = HashOf(id);
  Patience patience;
  for (;;) {
    const Route route = Find(hash);
    OSTRAKA_INDEX_TEST_HOOK(kRouted);
    bool found;
    const bool ended = ReadFirst(route, hash, id, &found, location) || ReadSlots(route, hash, id, &found, location);
    OSTRAKA_INDEX_TEST_HOOK(kAnswered);
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
      __builtin_prefetch(UnitOf(*route.piece, hash, &unit) + HomeOf(hash));
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
  const uint32_t home = HomeOf(hash);
  uint32_t step = 0;
  for (; step < kUnitSlots && *count <= kMaxCandidates; step++) {
    Slot& slot = slots[(home + step) % kUnitSlots];
    const uint64_t meta = slot.meta.load(std::memory_order_acquire);
    if (StateOf(meta) == kEmpty) break;
    if (StateOf(meta) != kLive || slot.high.load(std::memory_order_acquire) != id.high) continue;
    const uint64_t location = slot.location.load(std::memory_order_acquire);
    if (*count < kMaxCandidates) out[*count] = location;
    ++*count;
    OSTRAKA_INDEX_TEST_HOOK(kCollected);
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
        OSTRAKA_INDEX_TEST_HOOK(kCollected);
      }
    }
    if (piece.version.load(std::memory_order_acquire) != version || !Current(route)) continue;
    *count = copied;
    const bool last = depth == 0 || prefix == (uint64_t{1} << depth) - 1;
    *cursor = last ? UINT64_MAX : (prefix + 1) << (64 - depth);
    return true;
  }
}

}  // namespace ostraka::index
