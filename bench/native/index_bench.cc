// index_bench [--quick]: speed of the shard index in C++, as lines "name value unit" that bench/index.ts reads.
//
//   index.<entries>.randomRead          one read whose address the previous one gave, in a table as large as the index
//   index.<entries>.get.dependent       one get whose id the previous one gave
//   index.<entries>.get.<hit|miss>      gets of random ids, one after the other; nothing but the CPU overlaps them
//   index.<entries>.getMany             the same in batches of 64
//   index.<entries>.<table>.<hit|miss>.writes<percent>.threads<n>    ns per operation of one thread
//   index.<entries>.<table>.<...>.rate                               operations per second of all threads
//   index.growth.<table>.<idle|writes|grows>.<what>  latency of a reader, by what another thread does meanwhile
//
// A write inserts or removes an id of the writing thread's own, in equal shares. Of many short turns the best counts,
// for what a neighbour takes away is not the table's; with several threads the middle one (Candidate::Tell).
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "bench/native/tables.h"

using namespace ostraka::bench;
using Clock = std::chrono::steady_clock;

namespace {

bool quick = false;

double Nanoseconds(Clock::duration time) { return std::chrono::duration<double, std::nano>(time).count(); }

void Note(const std::string& name, double value, const char* unit) {
  std::printf("%s %.3f %s\n", name.c_str(), value, unit);
  std::fflush(stdout);
}

// Numbers below `limit`, each independent of what was read before.
struct Draw {
  uint64_t state;
  uint64_t operator()(uint64_t limit) {
    state = state * 6364136223846793005 + 1442695040888963407;
    return ((state >> 32) * limit) >> 32;
  }
};

// A random order of 0..count-1 as a single cycle: next[i] follows i.
std::vector<uint32_t> Cycle(uint64_t count) {
  std::vector<uint32_t> next(count);
  for (uint64_t i = 0; i < count; i++) next[i] = static_cast<uint32_t>(i);
  Draw draw{count};
  for (uint64_t i = count - 1; i > 0; i--) std::swap(next[i], next[draw(i)]);
  return next;
}

template <typename Work>
double Best(Work work) {
  double best = 1e300;
  for (int turn = 0; turn < (quick ? 40 : 120); turn++) best = std::min(best, work());
  return best;
}

constexpr uint64_t kReads = 16384;

double RandomRead(size_t bytes) {
  const uint64_t lines = bytes / 64;
  Memory memory(lines * 64);
  if (lines * 64 >= size_t{1} << 24) memory.AskForHugePages();
  auto* words = static_cast<uint64_t*>(memory.data());
  const std::vector<uint32_t> next = Cycle(lines);
  for (uint64_t i = 0; i < lines; i++) words[i * 8] = uint64_t{next[i]} * 8;
  volatile uint64_t sink;
  uint64_t at = 0;
  return Best([&] {
    const auto start = Clock::now();
    for (uint64_t i = 0; i < kReads; i++) at = words[at];
    const double took = Nanoseconds(Clock::now() - start);
    sink = at;
    return took / static_cast<double>(kReads);
  });
}

double DependentGet(const IndexTable& table) {
  uint64_t at = 0;
  return Best([&] {
    const auto start = Clock::now();
    for (uint64_t i = 0; i < kReads; i++) {
      if (!table.Get(IdOf(at), &at)) std::abort();
    }
    return Nanoseconds(Clock::now() - start) / static_cast<double>(kReads);
  });
}

// Of ids that are there, or of ids that are not.
double Get(const IndexTable& table, uint64_t entries, bool hit) {
  Draw draw{2};
  uint64_t sum = 0;
  volatile uint64_t sink = 0;
  return Best([&] {
    const auto start = Clock::now();
    for (uint64_t i = 0; i < kReads; i++) {
      uint64_t location = 0;
      if (table.Get(IdOf((hit ? 0 : entries) + draw(entries)), &location) != hit) std::abort();
      sum += location;
    }
    sink = sum;
    return Nanoseconds(Clock::now() - start) / static_cast<double>(kReads);
  });
}

double GetMany(IndexTable& table, uint64_t entries) {
  constexpr size_t kBatch = 64;
  Draw draw{1};
  Id ids[kBatch];
  uint64_t locations[kBatch];
  return Best([&] {
    const auto start = Clock::now();
    for (uint64_t i = 0; i < kReads / kBatch; i++) {
      for (Id& id : ids) id = IdOf(draw(entries));
      if (table.index().GetMany(ids, kBatch, UINT64_MAX, locations) != kBatch) std::abort();
    }
    return Nanoseconds(Clock::now() - start) / static_cast<double>(kReads / kBatch * kBatch);
  });
}

struct Cell {
  uint64_t entries;
  bool hit;
  uint64_t writes;  // percent
  uint64_t threads;
};

// What one thread writes: ids of its own, behind those that are read and those that are missed.
struct Own {
  uint64_t first;
  std::vector<uint8_t> there;
};

template <typename Table>
uint64_t Operations(Table& table, const Cell& cell, Own& own, uint64_t seed, const std::atomic<bool>& stop) {
  Draw draw{seed};
  Draw coin{seed ^ 0x5555};
  uint64_t done = 0;
  uint64_t sum = 0;
  const uint64_t base = cell.hit ? 0 : cell.entries;
  while (!stop.load(std::memory_order_relaxed)) {
    for (int i = 0; i < 64; i++, done++) {
      if (cell.writes > 0 && coin(100) < cell.writes) {
        const uint64_t which = draw(own.there.size());
        const Id id = IdOf(own.first + which);
        if (!(own.there[which] != 0 ? table.Remove(id) : table.Insert(id, which))) std::abort();
        own.there[which] ^= 1;
      } else {
        uint64_t location = 0;
        if (table.Get(IdOf(base + draw(cell.entries)), &location) != cell.hit) std::abort();
        sum += location;
      }
    }
  }
  volatile uint64_t sink = sum;
  (void)sink;
  return done;
}

// Operations per nanosecond of all threads together.
template <typename Table>
double Turn(Table& table, const Cell& cell, std::vector<Own>& own) {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> ready{0};
  std::atomic<bool> go{false};
  std::vector<double> rates(cell.threads);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < cell.threads; t++) {
    threads.emplace_back([&, t] {
      ready++;
      while (!go.load(std::memory_order_acquire)) std::this_thread::yield();
      const auto start = Clock::now();
      const uint64_t done = Operations(table, cell, own[t], t * 977 + cell.writes + 1, stop);
      rates[t] = static_cast<double>(done) / Nanoseconds(Clock::now() - start);
    });
  }
  while (ready.load() < cell.threads) std::this_thread::yield();
  go.store(true, std::memory_order_release);
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  stop.store(true, std::memory_order_relaxed);
  for (auto& thread : threads) thread.join();
  double total = 0;
  for (const double rate : rates) total += rate;
  return total;
}

template <typename Table>
struct Candidate {
  Table& table;
  std::vector<Own> own;
  std::vector<double> turns;
  Candidate(Table& of, uint64_t entries) : table(of) {
    const uint64_t each = std::max<uint64_t>(entries / 20, 64);
    for (uint64_t t = 0; t < 2; t++) own.push_back({2 * entries + t * each, std::vector<uint8_t>(each)});
  }
  void Try(const Cell& cell) { turns.push_back(Turn(table, cell, own)); }
  // One thread: the best turn. Several: the middle one, for the best is that in which they did not meet, since one of
  // them slept.
  void Tell(const Cell& cell) {
    std::sort(turns.begin(), turns.end());
    const double rate = cell.threads == 1 ? turns.back() : turns[turns.size() / 2];
    turns.clear();
    const std::string name = "index." + std::to_string(cell.entries) + "." + Table::kName +
                             (cell.hit ? ".hit" : ".miss") + ".writes" + std::to_string(cell.writes) + ".threads" +
                             std::to_string(cell.threads);
    Note(name, static_cast<double>(cell.threads) / rate, "ns");
    Note(name + ".rate", rate * 1e9, "ops/s");
  }
};

// The tables take turns, so that what happens on the machine happens to all of them.
template <typename... Tables>
void Mixed(uint64_t entries, Candidate<Tables>... candidates) {
  for (const uint64_t writes : {0, 5, 50}) {
    for (const bool hit : {true, false}) {
      for (const uint64_t threads : {1, 2}) {
        const Cell cell{entries, hit, writes, threads};
        for (int turn = 0; turn < (quick ? 8 : 25); turn++) (candidates.Try(cell), ...);
        (candidates.Tell(cell), ...);
      }
    }
  }
}

template <typename Table>
void Fill(Table& table, const std::vector<uint32_t>& next) {
  for (uint64_t i = 0; i < next.size(); i++) {
    if (!table.Insert(IdOf(i), next[i])) std::abort();
  }
}

void Size(uint64_t entries) {
  const std::string name = "index." + std::to_string(entries);
  const std::vector<uint32_t> next = Cycle(entries);
  {
    IndexTable table(entries * 5 / 4);
    Fill(table, next);
    const double bytes = static_cast<double>(table.index().Statistics().region_bytes);
    Note(name + ".bytesPerEntry", bytes / static_cast<double>(entries), "bytes");
    // In turns: a change of the machine's mood then touches both sides of a quotient.
    Note(name + ".randomRead", RandomRead(static_cast<size_t>(bytes)), "ns");
    Note(name + ".get.dependent", DependentGet(table), "ns");
    Note(name + ".get.hit", Get(table, entries, true), "ns");
    Note(name + ".get.miss", Get(table, entries, false), "ns");
    Note(name + ".getMany", GetMany(table, entries), "ns");
  }
  IndexTable table(entries * 5 / 4);
  SharedMutexMap map(entries);
  ShardedTable sharded(entries);
  Fill(table, next);
  Fill(map, next);
  Fill(sharded, next);
  Mixed(entries, Candidate<IndexTable>(table, entries), Candidate<SharedMutexMap>(map, entries),
        Candidate<ShardedTable>(sharded, entries));
}

// ---- Latency of readers while the table grows ---------------------------------------------------------------------

// Latencies in buckets of about 3 percent.
class Latencies {
 public:
  void Add(uint64_t nanoseconds) {
    const int shift = std::max(0, 64 - __builtin_clzll(nanoseconds | 1) - 6);
    counts_[static_cast<size_t>(shift) * 64 + (nanoseconds >> shift)]++;
    total_++;
    most_ = std::max(most_, nanoseconds);
  }
  double Quantile(double share) const {
    uint64_t left = static_cast<uint64_t>(share * static_cast<double>(total_));
    for (size_t i = 0; i < counts_.size(); i++) {
      if (counts_[i] > left) return static_cast<double>((i % 64) << (i / 64));
      left -= counts_[i];
    }
    return static_cast<double>(most_);
  }
  double Most() const { return static_cast<double>(most_); }

 private:
  std::vector<uint64_t> counts_ = std::vector<uint64_t>(64 * 64);
  uint64_t total_ = 0;
  uint64_t most_ = 0;
};

enum class Writer { kNone, kSets, kGrows };

// A reader gets the first half of the entries while a writer does as many operations as it takes to double them.
template <typename Table>
Latencies ReadBeside(uint64_t half, Writer writer) {
  Table table(half * 5 / 2);
  for (uint64_t i = 0; i < half; i++) table.Insert(IdOf(i), i);
  std::atomic<bool> go{false};
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!go.load()) std::this_thread::yield();
    for (uint64_t i = half; i < 2 * half; i++) {
      if (writer == Writer::kGrows) table.Insert(IdOf(i), i);
      if (writer == Writer::kSets) table.Set(IdOf(i - half), i - half, i - half);
    }
    if (writer == Writer::kNone) std::this_thread::sleep_for(std::chrono::milliseconds(200));
    stop.store(true);
  });
  Latencies latencies;
  Draw draw{5};
  for (int i = 0; i < 1000; i++) {
    uint64_t location;
    table.Get(IdOf(draw(half)), &location);
  }
  go.store(true);
  auto before = Clock::now();
  while (!stop.load(std::memory_order_relaxed)) {
    uint64_t location;
    if (!table.Get(IdOf(draw(half)), &location)) std::abort();
    const auto now = Clock::now();
    latencies.Add(static_cast<uint64_t>((now - before).count()));
    before = now;
  }
  other.join();
  return latencies;
}

template <typename Table>
void Growth() {
  const uint64_t half = quick ? 250000 : 1000000;
  const char* names[] = {"idle", "writes", "grows"};
  for (const Writer writer : {Writer::kNone, Writer::kSets, Writer::kGrows}) {
    double median = 1e300, p999 = 1e300, most = 1e300;
    for (int turn = 0; turn < 3; turn++) {
      const Latencies latencies = ReadBeside<Table>(half, writer);
      median = std::min(median, latencies.Quantile(0.5));
      p999 = std::min(p999, latencies.Quantile(0.999));
      most = std::min(most, latencies.Most());
    }
    const std::string name = std::string("index.growth.") + Table::kName + "." + names[static_cast<int>(writer)];
    Note(name + ".p50", median, "ns");
    Note(name + ".p99.9", p999, "ns");
    Note(name + ".most", most, "ns");
  }
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t only = 0;
  for (int i = 1; i < argc; i++) {
    if (std::strcmp(argv[i], "--quick") == 0) quick = true;
    if (std::strncmp(argv[i], "--entries=", 10) == 0) only = std::strtoull(argv[i] + 10, nullptr, 10);
  }
  for (const uint64_t entries : {uint64_t{10000}, uint64_t{1000000}, uint64_t{10000000}}) {
    if (only == 0 ? !quick || entries < 10000000 : entries == only) Size(entries);
  }
  if (only != 0) return 0;
  Growth<IndexTable>();
  Growth<SharedMutexMap>();
  Growth<ShardedTable>();
}
