// kernel_bench [--quick]: the kernel that the store picks beside ISA-L, as lines "name value unit" that
// bench/kernel_grid.ts reads.
//
//   <encode|decode> <k>+<m>, <L2|out of L2|out of L3>: <best|isal>     GB (1e9 bytes) of part data per second
//   encode <k>+<m>, <...>: ratio                                       best to ISA-L
//   decode <k>+<m>, <...>: to encode                                   of `best`: m (or k) data shards being lost
//
// How fast a kernel is depends, by up to a third, on where the blocks lie: on the physical pages, on the distance
// between the blocks, and on their addresses, from which CPUs guess the way of a cache. None of that is a kernel's
// merit, and two processes never have the same. So all kernels work on the same blocks in one process, in turns of a
// few dozen microseconds each, and that in many places one after the other. In each place the lower quartile of a
// kernel's turns counts (load beside it spoils some turns of both), and over all places the median, of the quotients
// too.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "native/erasure/code.h"
#include "native/erasure/kernel.h"

using namespace ostraka::erasure;
using Clock = std::chrono::steady_clock;

namespace {

struct Size {
  const char* name;
  size_t stripe;  // all k + m blocks together
  size_t span;    // all stripes that are worked on in turn
};

constexpr Size kSizes[] = {
    {"L2", size_t{384} << 10, size_t{384} << 10},
    {"out of L2", size_t{3} << 19, size_t{12} << 20},
    {"out of L3", size_t{3} << 19, size_t{102} << 20},
};
constexpr int kGeometries[][2] = {{2, 1}, {2, 2}, {3, 1}, {4, 2}, {6, 3}, {8, 4}, {12, 4}};

constexpr size_t kPage = 4096;
constexpr size_t kPlacePages = 2048;
constexpr size_t kMostGap = kPage + 8 * 64;
constexpr size_t kMemory = (size_t{102} << 20) + kPlacePages * kPage + (size_t{1} << 20);

double Quantile(std::vector<double> values, double at) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(at * static_cast<double>(values.size() - 1))];
}

// A place for the blocks: where they begin, and how far they lie apart beyond their length: some cache lines, or so
// much that all begin at the same place of a page, as buffers of their own do.
struct Place {
  uint8_t* memory;
  size_t gap;
};

// What is compared: each takes its turn with every stripe.
enum Way { kBest, kIsal, kDecode, kWays };

class Shape {
 public:
  Shape(int k, int m, const Size& size)
      : k_(k), m_(m), size_(size), best_(k, m, nullptr), isal_(k, m, &IsalKernel()) {
    block_ = size.stripe / static_cast<size_t>(k + m) / 64 * 64 - kMostGap - 64;
  }

  size_t block() const { return block_; }

  /// Turns of every way until `ms` are over; ns for each byte of part data in the lower quartile.
  std::array<double, kWays> Measure(const Place& place, double ms) {
    const size_t stripes = size_.span / size_.stripe;
    const size_t turn = stripes > 1 ? 4 : std::max<size_t>(1, (size_t{2} << 20) / (block_ * static_cast<size_t>(k_)));
    const auto bytes = static_cast<double>(turn * block_ * static_cast<size_t>(k_));
    std::array<std::vector<double>, kWays> taken;
    size_t next = 0;
    const auto end = Clock::now() + std::chrono::duration<double, std::milli>(ms);
    // 17 groups of four stripes are more than a third-level cache holds, and three ways go round them.
    for (size_t round = 0; round < 8 || Clock::now() < end; round++) {
      for (size_t i = 0; i < kWays; i++) {
        const size_t way = (round + i) % kWays;
        const auto begun = Clock::now();
        for (size_t j = 0; j < turn; j++) Work(static_cast<Way>(way), place, next++ % stripes);
        const std::chrono::duration<double, std::nano> time = Clock::now() - begun;
        if (round > 0) taken[way].push_back(time.count() / bytes);
      }
    }
    std::array<double, kWays> result;
    for (size_t way = 0; way < kWays; way++) result[way] = Quantile(taken[way], 0.25);
    return result;
  }

 private:
  void Work(Way way, const Place& place, size_t stripe) const {
    uint8_t* blocks[kMaxShards];
    const int total = k_ + m_;
    for (int i = 0; i < total; i++) {
      blocks[i] = place.memory + stripe * size_.stripe + static_cast<size_t>(i) * (block_ + place.gap) + 16;
    }
    if (way != kDecode) return (way == kBest ? best_ : isal_).Encode(block_, blocks, blocks + k_);
    // As many data shards as there can be are lost, and are written where they lie.
    const int lost = std::min(k_, m_);
    const uint8_t* given[kMaxShards] = {};
    int wanted[kMaxShards];
    for (int i = 0; i < lost; i++) wanted[i] = i;
    for (int i = lost; i < total; i++) given[i] = blocks[i];
    if (!best_.Reconstruct(block_, given, wanted, lost, blocks)) std::abort();
  }

  const int k_, m_;
  const Size size_;
  const Code best_, isal_;
  size_t block_;
};

void Note(const std::string& name, double value, const char* unit) {
  std::printf("%s %.4f %s\n", name.c_str(), value, unit);
}

void MeasureShape(int k, int m, const Size& size, uint8_t* memory, size_t places, double ms) {
  Shape shape(k, m, size);
  std::mt19937_64 random(7);
  std::vector<double> best, isal, decode, ratio, to_encode;
  for (size_t i = 0; i < places; i++) {
    const size_t lines = 64 * (1 + random() % 8);
    const Place place{memory + random() % kPlacePages * kPage, i % 2 == 0 ? lines : kPage - shape.block() % kPage};
    const auto taken = shape.Measure(place, ms);
    best.push_back(1 / taken[kBest]);
    isal.push_back(1 / taken[kIsal]);
    decode.push_back(1 / taken[kDecode]);
    ratio.push_back(taken[kIsal] / taken[kBest]);
    to_encode.push_back(taken[kBest] / taken[kDecode]);
  }
  const std::string name = std::to_string(k) + "+" + std::to_string(m) + ", " + size.name + ": ";
  Note("encode " + name + "best", Quantile(best, 0.5), "GB/s");
  Note("encode " + name + "isal", Quantile(isal, 0.5), "GB/s");
  Note("encode " + name + "ratio", Quantile(ratio, 0.5), "x");
  Note("decode " + name + "best", Quantile(decode, 0.5), "GB/s");
  Note("decode " + name + "to encode", Quantile(to_encode, 0.5), "x");
}

}  // namespace

int main(int count, char** arguments) {
  const bool quick = count > 1 && std::strcmp(arguments[1], "--quick") == 0;
  auto* memory = static_cast<uint8_t*>(
      mmap(nullptr, kMemory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (memory == MAP_FAILED) return 1;
  for (size_t at = 0; at < kMemory; at++) memory[at] = static_cast<uint8_t>(at * 7 >> 3);
  for (const auto& [k, m] : kGeometries) {
    for (const Size& size : kSizes) MeasureShape(k, m, size, memory, quick ? 9 : 25, quick ? 6 : 10);
  }
  return 0;
}
