// Writing: under the lock of one piece.
#include "native/index/internals.h"

namespace ostraka::index {

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
  const uint32_t home = HomeOf(hash);
  for (uint32_t step = 0; step < kUnitSlots; step++) {
    Slot& slot = slots[(home + step) % kUnitSlots];
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
    const uint32_t home = HomeOf(hash);
    for (uint32_t step = 0; step < kUnitSlots; step++) {
      Slot& slot = slots[(home + step) % kUnitSlots];
      const uint64_t meta = slot.meta.load(std::memory_order_relaxed);
      if (StateOf(meta) == kLive) continue;
      if (StateOf(meta) == kEmpty && !room) break;
      const uint32_t seq = static_cast<uint32_t>(meta);
      OSTRAKA_INDEX_TEST_HOOK(kChosen);
      {
        const Changing changing(piece.version);
        // A tombstone stays one while it is odd, under the new tag: who looks for this id waits, others pass on.
        slot.meta.store(MetaOf(seq + 1, kTombstone, TagOf(hash)), std::memory_order_release);
        slot.high.store(id.high, std::memory_order_release);
        slot.low.store(id.low, std::memory_order_release);
        OSTRAKA_INDEX_TEST_HOOK(kHalfWritten);
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
    OSTRAKA_INDEX_TEST_HOOK(kGrown);
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
    OSTRAKA_INDEX_TEST_HOOK(kChosen);
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

}  // namespace ostraka::index
