// Every kernel that this CPU can run against the portable one. Also built for arm64 and run under qemu-user.
#include <doctest/doctest.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "native/cpu/cpu.h"
#include "native/erasure/code.h"
#include "native/erasure/kernel.h"

using namespace ostraka;
using namespace ostraka::erasure;

namespace {

constexpr size_t kMargin = 64;
constexpr uint8_t kUntouched = 0xA5;

std::vector<const Kernel*> Kernels() {
  std::vector<const Kernel*> kernels{&IsalKernel()};
  for (const auto level : {cpu::Level::kSsse3, cpu::Level::kAvx2, cpu::Level::kGfni256, cpu::Level::kGfni512,
                           cpu::Level::kNeon}) {
    if (cpu::Has(level)) kernels.push_back(&KernelOfLevel(level));
  }
  return kernels;
}

// A block at a given offset from a multiple of 64, with a margin on both sides that must not change.
struct Placed {
  std::unique_ptr<uint8_t, decltype(&std::free)> memory;
  size_t offset, length;

  static uint8_t* Allocate(size_t size) { return static_cast<uint8_t*>(std::aligned_alloc(64, (size + 63) / 64 * 64)); }

  Placed(size_t offset, size_t length)
      : memory(Allocate(offset + length + 2 * kMargin), std::free),
        offset(offset),
        length(length) {
    std::memset(memory.get(), kUntouched, offset + length + 2 * kMargin);
  }

  uint8_t* data() { return memory.get() + kMargin + offset; }

  bool MarginsUntouched() {
    for (uint8_t* at = memory.get(); at < data(); at++) {
      if (*at != kUntouched) return false;
    }
    for (size_t i = 0; i < kMargin; i++) {
      if (data()[length + i] != kUntouched) return false;
    }
    return true;
  }
};

struct Case {
  int inputs, outputs;
  std::vector<uint8_t> coefficients;

  Case(int inputs, int outputs, std::mt19937_64& random) : inputs(inputs), outputs(outputs) {
    for (int i = 0; i < inputs * outputs; i++) coefficients.push_back(static_cast<uint8_t>(random()));
  }

  void Multiply(const Kernel& kernel, size_t length, const uint8_t* const* in, uint8_t* const* out) const {
    std::vector<uint8_t> tables(coefficients.size() * kernel.table_bytes);
    kernel.prepare(inputs, outputs, coefficients.data(), tables.data());
    kernel.multiply(length, inputs, outputs, tables.data(), in, out);
  }
};

// True when the kernel gives what the portable one gives, and touches nothing else. Inputs and outputs lie at offsets
// of their own, all derived from `offset`.
bool Agrees(const Kernel& kernel, const Case& shape, size_t length, size_t offset, std::mt19937_64& random) {
  std::vector<Placed> in, out;
  std::vector<std::vector<uint8_t>> expected(static_cast<size_t>(shape.outputs), std::vector<uint8_t>(length + 1));
  std::vector<const uint8_t*> sources;
  std::vector<uint8_t*> targets, wanted;
  for (int i = 0; i < shape.inputs; i++) {
    in.emplace_back((offset + static_cast<size_t>(i) * 7 * (offset % 3)) % 64, length);
    for (size_t j = 0; j < length; j++) in.back().data()[j] = static_cast<uint8_t>(random());
    sources.push_back(in.back().data());
  }
  for (int i = 0; i < shape.outputs; i++) {
    out.emplace_back((offset + static_cast<size_t>(i) * 5 * (offset % 2)) % 64, length);
    targets.push_back(out.back().data());
    wanted.push_back(expected[static_cast<size_t>(i)].data());
  }
  shape.Multiply(PortableKernel(), length, sources.data(), wanted.data());
  shape.Multiply(kernel, length, sources.data(), targets.data());
  for (int i = 0; i < shape.outputs; i++) {
    if (std::memcmp(targets[static_cast<size_t>(i)], wanted[static_cast<size_t>(i)], length) != 0) return false;
    if (!out[static_cast<size_t>(i)].MarginsUntouched()) return false;
  }
  return true;
}

// Encodes random data and rebuilds what a mask of lost shards says; the parity is the portable kernel's.
bool Survives(const Kernel& kernel, int k, int m, uint32_t lost, size_t length, std::mt19937_64& random) {
  const Code code(k, m, &kernel), reference(k, m, &PortableKernel());
  std::vector<std::vector<uint8_t>> shards(static_cast<size_t>(k + m), std::vector<uint8_t>(length));
  std::vector<std::vector<uint8_t>> parity(static_cast<size_t>(m), std::vector<uint8_t>(length));
  std::vector<uint8_t*> pointers, others;
  for (auto& shard : shards) pointers.push_back(shard.data());
  for (auto& block : parity) others.push_back(block.data());
  for (int i = 0; i < k; i++) {
    for (auto& byte : shards[static_cast<size_t>(i)]) byte = static_cast<uint8_t>(random());
  }
  code.Encode(length, pointers.data(), pointers.data() + k);
  reference.Encode(length, pointers.data(), others.data());
  for (int i = 0; i < m; i++) {
    if (shards[static_cast<size_t>(k + i)] != parity[static_cast<size_t>(i)]) return false;
  }
  std::vector<const uint8_t*> given(pointers.begin(), pointers.end());
  std::vector<int> wanted;
  for (int i = 0; i < k + m; i++) {
    if ((lost >> i & 1) == 0) continue;
    given[static_cast<size_t>(i)] = nullptr;
    wanted.push_back(i);
  }
  std::vector<std::vector<uint8_t>> rebuilt(wanted.size(), std::vector<uint8_t>(length));
  std::vector<uint8_t*> targets;
  for (auto& block : rebuilt) targets.push_back(block.data());
  if (!code.Reconstruct(length, given.data(), wanted.data(), static_cast<int>(wanted.size()), targets.data())) {
    return false;
  }
  for (size_t j = 0; j < wanted.size(); j++) {
    if (rebuilt[j] != shards[static_cast<size_t>(wanted[j])]) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("every kernel agrees with the portable one at every length up to 257 and every offset up to 63") {
  std::mt19937_64 random(31);
  std::vector<Case> shapes;
  for (int outputs = 1; outputs <= 15; outputs++) {
    shapes.emplace_back(1 + static_cast<int>(random() % static_cast<unsigned>(16 - outputs)), outputs, random);
  }
  size_t turn = 0;
  for (const Kernel* kernel : Kernels()) {
    CAPTURE(kernel->name);
    for (size_t length = 0; length <= 257; length++) {
      for (size_t offset = 0; offset < 64; offset++) {
        const Case& shape = shapes[turn++ % shapes.size()];
        if (!Agrees(*kernel, shape, length, offset, random)) {
          CAPTURE(length);
          CAPTURE(offset);
          CAPTURE(shape.outputs);
          FAIL("differs from the portable kernel");
        }
      }
    }
  }
}

TEST_CASE("every kernel agrees with the portable one for every number of inputs and outputs, short and long") {
  std::mt19937_64 random(32);
  for (const Kernel* kernel : Kernels()) {
    CAPTURE(kernel->name);
    for (int inputs = 1; inputs <= 16; inputs++) {
      for (int outputs = 1; outputs <= 16; outputs++) {
        const Case shape(inputs, outputs, random);
        for (const size_t length : {size_t{700}, size_t{1} + random() % 3000}) {
          if (!Agrees(*kernel, shape, length, random() % 64, random)) {
            CAPTURE(inputs);
            CAPTURE(outputs);
            CAPTURE(length);
            FAIL("differs from the portable kernel");
          }
        }
      }
    }
    // Long enough to be read with prefetching.
    CHECK(Agrees(*kernel, Case(8, 4, random), (size_t{1} << 18) + 77, 16, random));
    CHECK(Agrees(*kernel, Case(15, 1, random), (size_t{1} << 18) + 1, 0, random));
  }
}

TEST_CASE("every kernel rebuilds every loss pattern of 2+2, 4+2 and 8+4, and random ones of up to 16 shards") {
  std::mt19937_64 random(33);
  for (const Kernel* kernel : Kernels()) {
    CAPTURE(kernel->name);
    for (const auto& [k, m] : {std::pair{2, 2}, {4, 2}, {8, 4}}) {
      for (uint32_t lost = 0; lost < 1u << (k + m); lost++) {
        if (std::popcount(lost) > m) continue;
        if (!Survives(*kernel, k, m, lost, 1 + random() % 200, random)) FAIL("a loss pattern is not rebuilt");
      }
    }
    for (int round = 0; round < 300; round++) {
      const int k = 1 + static_cast<int>(random() % 15);
      const int m = 1 + static_cast<int>(random() % static_cast<unsigned>(16 - k));
      uint32_t lost = 0;
      while (std::popcount(lost) < m) lost |= 1u << random() % static_cast<unsigned>(k + m);
      if (!Survives(*kernel, k, m, lost, 1 + random() % 300, random)) FAIL("a loss pattern is not rebuilt");
    }
  }
}

TEST_CASE("OSTRAKA_CPU names a level, and what the CPU lacks or nobody knows is refused") {
  CHECK(cpu::Choose(nullptr).mistake.empty());
  CHECK(cpu::Choose("").level == cpu::Choose("native").level);
  CHECK(cpu::Choose("portable").portable);
  CHECK_FALSE(cpu::Choose("portable").pclmul);
  CHECK(cpu::Choose("isal").isal);
  CHECK(cpu::Choose("fast").mistake.find("expected native") != std::string::npos);
  const std::pair<const char*, cpu::Level> levels[] = {{"ssse3", cpu::Level::kSsse3},
                                                       {"avx2", cpu::Level::kAvx2},
                                                       {"gfni256", cpu::Level::kGfni256},
                                                       {"gfni512", cpu::Level::kGfni512},
                                                       {"neon", cpu::Level::kNeon}};
  for (const auto& [name, level] : levels) {
    const cpu::Choice choice = cpu::Choose(name);
    if (cpu::Has(level)) {
      CHECK(choice.level == level);
      CHECK(choice.forced);
      CHECK(choice.mistake.empty());
    } else {
      CHECK(choice.mistake == std::string("this CPU lacks ") + name);
    }
  }
  CHECK_FALSE(cpu::Choose("ssse3").avx2);
  CHECK_FALSE(cpu::Choose("portable").avx512);
}
