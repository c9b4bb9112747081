// Orders of steps of several threads in which a shard index without one of its protections goes wrong, each forced on
// the real one: writers that race past different tombstones or make one hash collide, a reader in a slot that is
// rewritten or in a piece that is replaced and used again, a writer that stops in the middle of a growth. Each test
// says which protection it needs: with that taken out of native/index, it fails. (The same weaknesses of the design
// that the index started from: test/native/index_weaknesses.test.ts.)
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>

#include "test/native/cc/index_region.h"
#include "test/native/cc/index_stage.h"

namespace ostraka::index {

void TestHook(Point point) { Actor::At(point); }

// Where entries lie.
struct Inside {
  static uint32_t PieceOf(const ShardIndex& index, Id id) {
    return static_cast<uint32_t>(index.Find(index.HashOf(id)).entry);
  }
  /// Home and unit, as in a piece of two units.
  static uint32_t PathOf(const ShardIndex& index, Id id) {
    const uint64_t hash = index.HashOf(id);
    return HomeOf(hash) | static_cast<uint32_t>(hash >> 35 & 1) << 31;
  }
};

}  // namespace ostraka::index

using namespace ostraka::index;
using State = Actor::State;

namespace {

struct Table : Region {
  using Region::Region;
  std::optional<uint64_t> Get(Id id) const {
    uint64_t location = 0;
    return index.Get(id, &location) ? std::optional(location) : std::nullopt;
  }
};

// Ids that all begin their probe at the same slot of a table that has not grown; in the hashed form `low` is 0.
std::vector<Id> SamePath(const ShardIndex& index, size_t count) {
  std::vector<Id> ids;
  for (uint64_t i = 1; ids.size() < count; i++) {
    const Id id{i, 0};
    if (ids.empty() || Inside::PathOf(index, id) == Inside::PathOf(index, ids[0])) ids.push_back(id);
  }
  return ids;
}

// How often an iteration comes upon the id.
size_t Copies(const ShardIndex& index, Id id) {
  std::vector<ShardIndex::Entry> entries(ShardIndex::kPieceSlots);
  uint64_t cursor = 0;
  size_t count = 0;
  size_t copies = 0;
  while (index.Iterate(&cursor, entries.data(), &count)) {
    for (size_t i = 0; i < count; i++) copies += entries[i].id.high == id.high && entries[i].id.low == id.low;
  }
  return copies;
}

Id NumberedId(uint64_t number) { return {number * 0x9e3779b97f4a7c15, number}; }

// REQUIRE, for threads other than the test's own.
void Must(bool holds) {
  if (!holds) std::abort();
}

constexpr uint64_t kOther = 99;

}  // namespace

// Needs: the lock from the search of a path to the claim of a slot on it.
TEST_CASE("shard index threads: two writers past different tombstones of one path insert a key once") {
  Table table(1000);
  const std::vector<Id> ids = SamePath(table.index, 4);
  const Id key = ids[3];
  for (int i = 0; i < 3; i++) REQUIRE(table.index.Insert(ids[static_cast<size_t>(i)], kOther) == Outcome::kDone);
  REQUIRE(table.index.Remove(ids[1], nullptr) == Outcome::kDone);

  // The first writer has chosen the second slot. Then the first slot becomes a tombstone, which the second one finds.
  Outcome first{}, second{}, removal{};
  Actor slow([&] { first = table.index.Insert(key, 1); }, {Point::kChosen});
  REQUIRE(slow.Settled() == State::kStopped);
  Actor remover([&] { removal = table.index.Remove(ids[0], nullptr); });
  remover.Settled();
  Actor fast([&] { second = table.index.Insert(key, 2); });
  fast.Settled();
  slow.End();
  remover.End();
  fast.End();

  CHECK(removal == Outcome::kDone);
  CHECK((first == Outcome::kDone) != (second == Outcome::kDone));
  CHECK((first == Outcome::kExists) != (second == Outcome::kExists));
  CHECK(Copies(table.index, key) == 1);
  CHECK(table.Get(key) == (first == Outcome::kDone ? 1 : 2));
  CHECK(table.index.Remove(key, nullptr) == Outcome::kDone);
  CHECK(!table.Get(key).has_value());
  CHECK(table.index.Remove(key, nullptr) == Outcome::kMissing);
  CHECK(table.index.Length() == 1);
}

// Needs: the lock from the comparison of the candidates to the claim, and the comparison itself.
TEST_CASE("shard index threads: of two writers that make one hash collide at once, one is told to look again") {
  Table table(1000, Form::kHashed);
  constexpr uint64_t kHash = 77;
  const uint64_t seen[] = {3};
  REQUIRE(table.index.InsertHashed(kHash, 3, nullptr, 0) == Outcome::kDone);

  Outcome first{}, second{}, removal{};
  Actor slow([&] { first = table.index.InsertHashed(kHash, 1, seen, 1); }, {Point::kChosen});
  REQUIRE(slow.Settled() == State::kStopped);
  Actor fast([&] { second = table.index.InsertHashed(kHash, 2, seen, 1); });
  fast.Settled();
  Actor remover([&] { removal = table.index.RemoveHashed(kHash, 3); });
  remover.Settled();
  slow.End();
  fast.End();
  remover.End();

  CHECK(first == Outcome::kDone);
  CHECK(second == Outcome::kChanged);
  CHECK(removal == Outcome::kDone);
  uint64_t there[ShardIndex::kMaxCandidates];
  REQUIRE(table.index.Candidates(kHash, there) == 1);
  CHECK(there[0] == 1);
}

// Needs: the second look after a growth, for which the lock was given up.
TEST_CASE("shard index threads: a key that came while another writer made room for it is not inserted again") {
  Table table(5000);
  uint64_t number = 0;
  Outcome outcome = Outcome::kDone;
  Actor writer(
      [&] {
        while (outcome == Outcome::kDone && number < 5000) {
          number++;
          outcome = table.index.Insert(NumberedId(number), number);
        }
      },
      {Point::kGrown});
  REQUIRE(writer.Settled() == State::kStopped);
  const Id key = NumberedId(number);
  REQUIRE(table.index.Insert(key, kOther) == Outcome::kDone);
  writer.End();
  CHECK(outcome == Outcome::kExists);
  CHECK(table.Get(key) == kOther);
  CHECK(Copies(table.index, key) == 1);
}

TEST_CASE("shard index threads: a hash that got another key while a writer made room is looked at again") {
  Table table(5000, Form::kHashed);
  uint64_t hash = 0;
  Outcome outcome = Outcome::kDone;
  Actor writer(
      [&] {
        while (outcome == Outcome::kDone && hash < 5000) {
          hash++;
          outcome = table.index.InsertHashed(hash, 1, nullptr, 0);
        }
      },
      {Point::kGrown});
  REQUIRE(writer.Settled() == State::kStopped);
  REQUIRE(table.index.InsertHashed(hash, 2, nullptr, 0) == Outcome::kDone);
  writer.End();
  CHECK(outcome == Outcome::kChanged);
  uint64_t there[ShardIndex::kMaxCandidates];
  CHECK(table.index.Candidates(hash, there) == 1);
}

// Needs: the second look at seq (in ReadFirst for the first two slots of a path, in ReadSlots for the others).
TEST_CASE("shard index threads: a reader in a slot that is rewritten never mixes two entries") {
  for (const size_t place : {size_t{0}, size_t{1}, size_t{2}, size_t{5}}) {
    CAPTURE(place);
    Table table(1000);
    const std::vector<Id> ids = SamePath(table.index, 10);
    for (size_t i = 0; i < 9; i++) REQUIRE(table.index.Insert(ids[i], i) == Outcome::kDone);
    std::optional<uint64_t> found;
    Actor reader([&] { found = table.Get(ids[place]); }, {Point::kIdRead});
    REQUIRE(reader.Settled() == State::kStopped);
    REQUIRE(table.index.Remove(ids[place], nullptr) == Outcome::kDone);
    REQUIRE(table.index.Insert(ids[9], kOther) == Outcome::kDone);
    reader.End();
    CHECK((!found.has_value() || *found == place));

    // And when the entry is back by then, elsewhere or with another location: one of the two.
    REQUIRE(table.index.Insert(ids[place], place) == Outcome::kDone);
    Actor again([&] { found = table.Get(ids[place]); }, {Point::kIdRead});
    REQUIRE(again.Settled() == State::kStopped);
    REQUIRE(table.index.CompareAndSet(ids[place], place, 1000) == Outcome::kDone);
    REQUIRE(table.index.Remove(ids[place], nullptr) == Outcome::kDone);
    REQUIRE(table.index.Insert(ids[place], 2000) == Outcome::kDone);
    again.End();
    CHECK((!found.has_value() || *found == place || *found == 1000 || *found == 2000));
  }
}

// Needs: that a slot with an odd seq is not believed; and that only who looks for the entry being written waits for it.
TEST_CASE("shard index threads: readers of a slot that is half written get its entry whole, others pass on") {
  for (const size_t place : {size_t{0}, size_t{3}}) {
    CAPTURE(place);
    Table table(1000);
    const std::vector<Id> ids = SamePath(table.index, 10);
    for (size_t i = 0; i < 9; i++) REQUIRE(table.index.Insert(ids[i], i) == Outcome::kDone);
    REQUIRE(table.index.Remove(ids[place], nullptr) == Outcome::kDone);

    Actor writer([&] { Must(table.index.Insert(ids[9], kOther) == Outcome::kDone); }, {Point::kHalfWritten});
    REQUIRE(writer.Settled() == State::kStopped);
    std::optional<uint64_t> found;
    Actor reader([&] { found = table.Get(ids[9]); });
    const State state = reader.Settled();
    CHECK(!table.Get(ids[place]).has_value());
    for (size_t i = 0; i < 9; i++) {
      if (i != place) CHECK(table.Get(ids[i]) == i);
    }
    writer.End();
    reader.End();
    // One that did not wait came before the insert, and one that waited after it.
    CHECK((found == kOther || (state == State::kEnded && !found.has_value())));
    CHECK(table.Get(ids[9]) == kOther);
  }
}

// Needs: that readers take no lock, that a writer looks at the directory again when it has the lock, and that of the
// two halves of a piece the upper one is named first.
TEST_CASE("shard index threads: while a writer is stopped in the middle of a growth, others read and write") {
  for (const Point point : {Point::kMade, Point::kFilled, Point::kHalfNamed}) {
    CAPTURE(static_cast<int>(point));
    Table table(40000);
    constexpr uint64_t kEntries = 12000;
    for (uint64_t i = 0; i < kEntries; i++) REQUIRE(table.index.Insert(NumberedId(i), i) == Outcome::kDone);

    uint64_t next = kEntries;
    Actor grower(
        [&] {
          for (; next < 30000; next++) Must(table.index.Insert(NumberedId(next), next) == Outcome::kDone);
        },
        std::vector<Point>(100, point));
    // To the first growth that makes two pieces of one; the count of splits goes up before the first stop.
    const uint64_t splits = table.index.Statistics().splits;
    for (;;) {
      REQUIRE(grower.Settled() == State::kStopped);
      if (table.index.Statistics().splits > splits) break;
      grower.Go();
    }
    const uint64_t there = next;
    const uint32_t growing = Inside::PieceOf(table.index, NumberedId(there));

    for (uint64_t i = 0; i < there; i++) REQUIRE(table.Get(NumberedId(i)) == i);
    for (uint64_t i = there; i < there + 5000; i++) REQUIRE(!table.Get(NumberedId(i)).has_value());
    CHECK(table.index.Length() == there);
    for (uint64_t i = 0; i < there; i += 50) REQUIRE(Copies(table.index, NumberedId(i)) == 1);

    // Writers elsewhere go on; those in the piece itself may wait, and what they say they did is there afterwards.
    std::vector<uint64_t> inside, elsewhere;
    for (uint64_t i = 0; i < there && inside.size() < 8; i++) {
      const uint32_t piece = Inside::PieceOf(table.index, NumberedId(i));
      if (piece == growing) inside.push_back(i);
      // A piece that has just been named may be the other half.
      else if (elsewhere.size() < 8 && i < 8000 && piece + 4 < growing) elsewhere.push_back(i);
    }
    REQUIRE(inside.size() == 8);
    for (const uint64_t i : elsewhere) {
      REQUIRE(table.index.CompareAndSet(NumberedId(i), i, i + 100000) == Outcome::kDone);
      REQUIRE(table.index.Remove(NumberedId(i), nullptr) == Outcome::kDone);
      REQUIRE(table.index.Insert(NumberedId(i), i) == Outcome::kDone);
    }
    std::vector<std::unique_ptr<Actor>> writers;
    std::vector<Outcome> outcomes(inside.size());
    for (size_t w = 0; w < inside.size(); w++) {
      writers.push_back(std::make_unique<Actor>([&, w] {
        const Id id = NumberedId(inside[w]);
        outcomes[w] = w % 2 == 0 ? table.index.CompareAndSet(id, inside[w], inside[w] + 100000)
                                 : table.index.Remove(id, nullptr);
      }));
      writers.back()->Settled();
    }
    grower.End();
    for (auto& writer : writers) writer->End();
    for (size_t w = 0; w < inside.size(); w++) {
      CHECK(outcomes[w] == Outcome::kDone);
      const auto found = table.Get(NumberedId(inside[w]));
      if (w % 2 == 0) CHECK(found == inside[w] + 100000);
      else CHECK(!found.has_value());
    }
    for (uint64_t i = 0; i < next; i++) {
      if (std::find(inside.begin(), inside.end(), i) == inside.end()) REQUIRE(table.Get(NumberedId(i)) == i);
    }
  }
}

// Needs: the look at the directory after the answer.
TEST_CASE("shard index threads: a reader in a piece that was replaced, and is used again for others, looks again") {
  Table table(40000);
  constexpr uint64_t kEntries = 3000;
  for (uint64_t i = 0; i < kEntries; i++) REQUIRE(table.index.Insert(NumberedId(i), i) == Outcome::kDone);
  std::vector<std::unique_ptr<Actor>> readers;
  std::vector<std::optional<uint64_t>> found(40);
  for (size_t r = 0; r < found.size(); r++) {
    readers.push_back(
        std::make_unique<Actor>([&, r] { found[r] = table.Get(NumberedId(r)); }, std::vector{Point::kRouted}));
    REQUIRE(readers.back()->Settled() == State::kStopped);
  }
  for (uint64_t i = kEntries; i < 30000; i++) REQUIRE(table.index.Insert(NumberedId(i), i) == Outcome::kDone);
  for (size_t r = 0; r < found.size(); r++) {
    readers[r]->End();
    CHECK(found[r] == r);
  }
}

// Needs: the generation in a directory entry.
TEST_CASE("shard index threads: a reader is not taken in by the same piece named again in the same place") {
  Table table(20000);
  constexpr uint64_t kEntries = 1100;
  for (uint64_t i = 0; i < kEntries; i++) REQUIRE(table.index.Insert(NumberedId(i), i) == Outcome::kDone);
  const uint32_t piece = Inside::PieceOf(table.index, NumberedId(0));

  std::optional<uint64_t> found;
  Actor reader([&] { found = table.Get(NumberedId(0)); }, {Point::kRouted, Point::kAnswered});
  REQUIRE(reader.Settled() == State::kStopped);
  // Insert and remove until the piece has been replaced by one without tombstones, then until that one is replaced in
  // turn: by the first one, of which it has just been emptied.
  uint64_t next = kEntries;
  const auto replace_until = [&](uint64_t cleanings) {
    for (; table.index.Statistics().cleanings < cleanings && next < 1000000; next++) {
      Must(table.index.Insert(NumberedId(next), next) == Outcome::kDone);
      Must(table.index.Remove(NumberedId(next - kEntries + 1), nullptr) == Outcome::kDone);
    }
  };
  replace_until(1);
  REQUIRE(Inside::PieceOf(table.index, NumberedId(0)) != piece);
  Actor writer([&] { replace_until(2); }, {Point::kMade});
  REQUIRE(writer.Settled() == State::kStopped);
  reader.Go();
  // It has found nothing: the piece is empty now.
  REQUIRE(reader.Settled() == State::kStopped);
  writer.End();
  CHECK(table.index.Statistics().splits + table.index.Statistics().enlargements == 0);
  CHECK(Inside::PieceOf(table.index, NumberedId(0)) == piece);
  reader.End();
  CHECK(found == 0);
}

// Needs: the version of a piece. So does the next.
TEST_CASE("shard index threads: candidates are those of one moment") {
  Table table(1000, Form::kHashed);
  constexpr uint64_t kHash = 5;
  const uint64_t one[] = {1};
  REQUIRE(table.index.InsertHashed(kHash, 1, nullptr, 0) == Outcome::kDone);
  REQUIRE(table.index.InsertHashed(kHash, 2, one, 1) == Outcome::kDone);
  uint64_t there[ShardIndex::kMaxCandidates];
  size_t count = 0;
  Actor reader([&] { count = table.index.Candidates(kHash, there); }, {Point::kCollected});
  REQUIRE(reader.Settled() == State::kStopped);
  // 1 and 2 go before 3 and 4 come: of each pair of moments at most one is seen.
  const uint64_t three[] = {3};
  REQUIRE(table.index.RemoveHashed(kHash, 2) == Outcome::kDone);
  REQUIRE(table.index.RemoveHashed(kHash, 1) == Outcome::kDone);
  REQUIRE(table.index.InsertHashed(kHash, 3, nullptr, 0) == Outcome::kDone);
  REQUIRE(table.index.InsertHashed(kHash, 4, three, 1) == Outcome::kDone);
  reader.End();
  REQUIRE(count <= 2);
  CHECK(std::count_if(there, there + count, [](uint64_t location) { return location < 3; }) % 2 == 0);
}

TEST_CASE("shard index threads: an iteration copies a piece as of one moment") {
  Table table(3000);
  for (uint64_t i = 0; i < 50; i++) REQUIRE(table.index.Insert(NumberedId(i), i) == Outcome::kDone);
  std::vector<ShardIndex::Entry> entries(ShardIndex::kPieceSlots);
  uint64_t cursor = 0;
  size_t count = 0;
  Actor reader([&] { table.index.Iterate(&cursor, entries.data(), &count); }, {Point::kCollected});
  REQUIRE(reader.Settled() == State::kStopped);
  for (uint64_t i = 0; i < 50; i++) REQUIRE(table.index.Remove(NumberedId(i), nullptr) == Outcome::kDone);
  for (uint64_t i = 50; i < 100; i++) REQUIRE(table.index.Insert(NumberedId(i), i) == Outcome::kDone);
  reader.End();
  const auto old = std::count_if(entries.begin(), entries.begin() + static_cast<ptrdiff_t>(count),
                                 [](const ShardIndex::Entry& entry) { return entry.location < 50; });
  CHECK((old == 0 || static_cast<size_t>(old) == count));
}

// Needs: the look at the directory after the copy.
TEST_CASE("shard index threads: an iteration in a piece that is replaced meanwhile brings every entry once") {
  Table table(40000);
  constexpr uint64_t kEntries = 1500;
  for (uint64_t i = 0; i < kEntries; i++) REQUIRE(table.index.Insert(NumberedId(i), i) == Outcome::kDone);
  // The reader begins in a piece about to be replaced. The second growth then fills that piece again, whose version
  // says nothing of it.
  Actor grower(
      [&] {
        for (uint64_t i = kEntries; i < 30000; i++) Must(table.index.Insert(NumberedId(i), i) == Outcome::kDone);
      },
      {Point::kFilled, Point::kFilled});
  REQUIRE(grower.Settled() == State::kStopped);
  std::vector<uint32_t> times(kEntries);
  Actor reader(
      [&] {
        std::vector<ShardIndex::Entry> entries(ShardIndex::kPieceSlots);
        uint64_t cursor = 0;
        size_t count = 0;
        while (table.index.Iterate(&cursor, entries.data(), &count)) {
          for (size_t i = 0; i < count; i++) {
            if (entries[i].location < kEntries) times[entries[i].location]++;
          }
        }
      },
      {Point::kCollected});
  REQUIRE(reader.Settled() == State::kStopped);
  grower.Go();
  REQUIRE(grower.Settled() == State::kStopped);
  reader.End();
  grower.End();
  CHECK(std::all_of(times.begin(), times.end(), [](uint32_t count) { return count == 1; }));
}
