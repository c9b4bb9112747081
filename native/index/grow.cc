// Growth: replacing a locked piece. Everything here but Grow itself runs under header_->growing.
#include "native/index/internals.h"

namespace ostraka::index {

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
  uint32_t at = HomeOf(hash);
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
  OSTRAKA_INDEX_TEST_HOOK(kMade);
  each([&](uint32_t, uint64_t other, Id id, uint64_t location) {
    const uint32_t side = next[1] == kNone ? 0 : static_cast<uint32_t>(other >> (63 - depth) & 1);
    Place(pieces_[next[side]], other, id.high, id.low, location);
  });
  OSTRAKA_INDEX_TEST_HOOK(kFilled);
  // The upper half first. Who goes through all pieces then finds for the range either the old one, and steps over it
  // as a whole, or both new ones, and never the lower half and then the old one, which holds that half too.
  if (next[1] != kNone) Name(next[1]);
  OSTRAKA_INDEX_TEST_HOOK(kHalfNamed);
  Name(next[0]);
  FreePiece(static_cast<uint32_t>(route.entry));
  return true;
}

}  // namespace ostraka::index
