// The region, and what concerns the table as a whole.
#include <sys/mman.h>

#include "native/index/internals.h"

namespace ostraka::index {

namespace {

// A get of a large table waits for memory once; with small pages it would wait for the page tables as well. Small
// regions are left alone: there a whole huge page for a few entries would be dear, and nothing is gained.
void AskForHugePages(void* region, size_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHuge = uintptr_t{1} << 21;
  const uintptr_t start = (reinterpret_cast<uintptr_t>(region) + kHuge - 1) & ~(kHuge - 1);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(region) + bytes) & ~(kHuge - 1);
  if (end > start && end - start >= 8 * kHuge) madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);
#else
  (void)region;
  (void)bytes;
#endif
}

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
  AskForHugePages(region, bytes);
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
  // In the hashed form `low` is 0 throughout. The sum keeps a factor that is 0 from hiding the other.
  const uint64_t high = id.high ^ 0x2d358dccaa6c78a5;
  const uint64_t low = id.low ^ 0x8bb84b93962eacc9;
  return Fold(Fold(high, low) ^ (high + low), 0x4b33a62ed433d4a3);
}

ShardIndex::Slot* ShardIndex::Unit(uint32_t number) const { return units_ + size_t{number} * kUnitSlots; }

std::atomic<uint64_t>& ShardIndex::Directory(uint32_t depth, uint64_t hash) const {
  return directory_[(uint64_t{1} << depth) + (depth == 0 ? 0 : hash >> (64 - depth))];
}

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
        const uint64_t probes = (s + kUnitSlots - HomeOf(HashOf(id))) % kUnitSlots + 1;
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
