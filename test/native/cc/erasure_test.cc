#include <doctest/doctest.h>

#include <atomic>
#include <bit>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "native/erasure/code.h"
#include "native/erasure/plan_cache.h"
#include "native/erasure/stripe.h"
#include "test/native/cc/guarded.h"

using namespace ostraka::erasure;
using ostraka::test::Guarded;

namespace {

// Multiplication as long division of polynomials, with nothing shared with the code under test.
uint8_t SlowMultiply(uint8_t a, uint8_t b) {
  uint32_t product = 0;
  for (int i = 0; i < 8; i++) {
    if ((b >> i & 1) != 0) product ^= static_cast<uint32_t>(a) << i;
  }
  for (int i = 14; i >= 8; i--) {
    if ((product >> i & 1) != 0) product ^= 0x11Du << (i - 8);
  }
  return static_cast<uint8_t>(product);
}

struct Shards {
  std::vector<std::unique_ptr<Guarded>> blocks;

  Shards(int count, size_t length) {
    for (int i = 0; i < count; i++) blocks.push_back(std::make_unique<Guarded>(length));
  }

  std::vector<uint8_t*> Pointers() {
    std::vector<uint8_t*> out;
    for (auto& block : blocks) out.push_back(block->data());
    return out;
  }
};

// Encodes random data with the kernel and compares every loss pattern in `patterns` (a mask of lost shards).
void RoundTrip(int k, int m, size_t length, const Kernel& kernel, const std::vector<uint32_t>& patterns,
               std::mt19937_64& random) {
  const Code code(k, m, &kernel);
  Shards shards(k + m, length);
  for (int i = 0; i < k; i++) shards.blocks[i]->Fill(random);
  std::vector<uint8_t*> pointers = shards.Pointers();
  code.Encode(length, pointers.data(), pointers.data() + k);
  REQUIRE(code.ParityAgrees(length, pointers.data()));

  for (const uint32_t lost : patterns) {
    std::vector<const uint8_t*> given(pointers.begin(), pointers.end());
    std::vector<int> wanted;
    for (int i = k + m - 1; i >= 0; i--) {
      if ((lost >> i & 1) == 0) continue;
      given[i] = nullptr;
      wanted.push_back(i);
    }
    Shards rebuilt(static_cast<int>(wanted.size()), length);
    std::vector<uint8_t*> out = rebuilt.Pointers();
    REQUIRE(code.Reconstruct(length, given.data(), wanted.data(), static_cast<int>(wanted.size()), out.data()));
    for (size_t j = 0; j < wanted.size(); j++) {
      REQUIRE(std::memcmp(out[j], pointers[wanted[j]], length) == 0);
    }
  }
}

std::vector<uint32_t> AllPatterns(int k, int m) {
  std::vector<uint32_t> patterns;
  for (uint32_t lost = 0; lost < 1u << (k + m); lost++) {
    if (std::popcount(lost) <= m) patterns.push_back(lost);
  }
  return patterns;
}

std::vector<uint32_t> RandomPatterns(int k, int m, int count, std::mt19937_64& random) {
  std::vector<uint32_t> patterns;
  for (int i = 0; i < count; i++) {
    uint32_t lost = 0;
    while (std::popcount(lost) < m) lost |= 1u << random() % static_cast<unsigned>(k + m);
    patterns.push_back(lost);
  }
  return patterns;
}

}  // namespace

TEST_CASE("field arithmetic is that of polynomials modulo 0x11D") {
  for (int a = 0; a < 256; a++) {
    for (int b = 0; b < 256; b++) {
      REQUIRE(Multiply(static_cast<uint8_t>(a), static_cast<uint8_t>(b)) ==
              SlowMultiply(static_cast<uint8_t>(a), static_cast<uint8_t>(b)));
    }
    if (a != 0) CHECK(SlowMultiply(static_cast<uint8_t>(a), Inverse(static_cast<uint8_t>(a))) == 1);
  }
}

TEST_CASE("parity is the Cauchy combination of the data") {
  std::mt19937_64 random(1);
  for (const Kernel* kernel : {&PortableKernel(), &IsalKernel()}) {
    for (int k = 1; k <= kMaxShards; k++) {
      const int m = kMaxShards - k;
      const size_t length = 67;
      const Code code(k, m, kernel);
      Shards shards(k + m, length);
      for (int i = 0; i < k; i++) shards.blocks[i]->Fill(random);
      auto pointers = shards.Pointers();
      code.Encode(length, pointers.data(), pointers.data() + k);
      for (int row = k; row < k + m; row++) {
        for (size_t i = 0; i < length; i++) {
          uint8_t sum = 0;
          for (int column = 0; column < k; column++) {
            const auto denominator = static_cast<uint8_t>(row ^ column);
            uint8_t inverse = 1;
            while (SlowMultiply(denominator, inverse) != 1) inverse++;
            sum ^= SlowMultiply(inverse, pointers[column][i]);
          }
          REQUIRE(pointers[row][i] == sum);
        }
      }
    }
  }
}

TEST_CASE("every geometry survives every loss pattern it promises (all for up to 10 shards, else random ones)") {
  std::mt19937_64 random(2);
  for (const Kernel* kernel : {&PortableKernel(), &IsalKernel()}) {
    for (int total = 1; total <= kMaxShards; total++) {
      for (int k = 1; k <= total; k++) {
        const int m = total - k;
        const auto patterns = total <= 10 ? AllPatterns(k, m) : RandomPatterns(k, m, 40, random);
        RoundTrip(k, m, 1 + random() % 100, *kernel, patterns, random);
      }
    }
  }
}

TEST_CASE("every block length works, and no kernel touches a byte past the end") {
  std::mt19937_64 random(3);
  for (const Kernel* kernel : {&PortableKernel(), &IsalKernel()}) {
    for (size_t length = 1; length <= 300; length++) {
      for (const auto& [k, m] : {std::pair{1, 1}, {2, 2}, {4, 2}, {9, 3}, {3, 5}, {5, 6}, {8, 8}, {12, 4}}) {
        RoundTrip(k, m, length, *kernel, RandomPatterns(k, m, 2, random), random);
      }
    }
    RoundTrip(4, 2, 1'000'003, *kernel, RandomPatterns(4, 2, 2, random), random);
  }
}

TEST_CASE("reconstruction can rebuild shards that are present, and needs k of them") {
  std::mt19937_64 random(4);
  const Code code(3, 2, nullptr);
  Shards shards(5, 100), rebuilt(5, 100);
  for (int i = 0; i < 3; i++) shards.blocks[i]->Fill(random);
  auto pointers = shards.Pointers();
  auto out = rebuilt.Pointers();
  code.Encode(100, pointers.data(), pointers.data() + 3);
  const int wanted[] = {4, 0, 2, 3, 1};
  std::vector<const uint8_t*> given(pointers.begin(), pointers.end());
  given[1] = nullptr;
  REQUIRE(code.Reconstruct(100, given.data(), wanted, 5, out.data()));
  for (int j = 0; j < 5; j++) CHECK(std::memcmp(out[j], pointers[wanted[j]], 100) == 0);
  CHECK(code.Reconstruct(100, given.data(), wanted, 0, out.data()));
  given[0] = given[2] = nullptr;
  CHECK_FALSE(code.Reconstruct(100, given.data(), wanted, 5, out.data()));
}

TEST_CASE("a change of one bit in any shard is seen as parity that disagrees") {
  std::mt19937_64 random(5);
  for (const auto& [k, m] : {std::pair{2, 1}, {4, 2}, {9, 7}}) {
    const Code& code = Code::Get(k, m);
    Shards shards(k + m, 9000);
    for (int i = 0; i < k; i++) shards.blocks[i]->Fill(random);
    auto pointers = shards.Pointers();
    code.Encode(9000, pointers.data(), pointers.data() + k);
    for (int shard = 0; shard < k + m; shard++) {
      uint8_t& byte = pointers[shard][random() % 9000];
      byte ^= 0x40;
      CHECK_FALSE(code.ParityAgrees(9000, pointers.data()));
      byte ^= 0x40;
    }
    CHECK(code.ParityAgrees(9000, pointers.data()));
  }
}

TEST_CASE("a sealed stripe verifies in its place only") {
  std::mt19937_64 random(6);
  const Code& code = Code::Get(4, 2);
  const size_t size = 1000, stride = 1040;
  Guarded slab(5 * stride + 16 + size);
  Guarded id(16);
  slab.Fill(random);
  id.Fill(random);
  SealStripe(code, slab.data(), size, stride, id.data(), 7);
  for (int shard = 0; shard < 6; shard++) {
    uint8_t* cell = slab.data() + shard * stride;
    const auto position = static_cast<uint8_t>(shard);
    CHECK(VerifyCells(cell, size, 1, size, id.data(), position, 7) == -1);
    CHECK(VerifyCells(cell, size, 1, size, id.data(), position, 8) == 0);
    CHECK(VerifyCells(cell, size, 1, size, id.data(), static_cast<uint8_t>(shard + 1), 7) == 0);
    for (const size_t at : {size_t{0}, size_t{15}, size_t{16}, 16 + size - 1}) {
      cell[at] ^= 1;
      CHECK(VerifyCells(cell, size, 1, size, id.data(), position, 7) == 0);
      cell[at] ^= 1;
    }
  }
  id.data()[15] ^= 1;
  CHECK(VerifyCells(slab.data(), size, 1, size, id.data(), 0, 7) == 0);
}

TEST_CASE("a stripe sealed in slices holds what encoding and checksums one after the other give") {
  std::mt19937_64 random(8);
  for (const size_t size : {size_t{1}, size_t{4096}, size_t{65535}, size_t{65536}, size_t{65537}, size_t{150'001}}) {
    for (const auto& [k, m] : {std::pair{1, 0}, {1, 1}, {4, 2}, {8, 4}, {12, 4}}) {
      const Code& code = Code::Get(k, m);
      const size_t stride = size + 16 + random() % 64;
      Guarded slab(static_cast<size_t>(k + m - 1) * stride + 16 + size);
      Guarded id(16);
      slab.Fill(random);
      id.Fill(random);
      Shards parity(m, size);
      std::vector<uint8_t*> out = parity.Pointers();
      std::vector<uint8_t*> data;
      for (int i = 0; i < k; i++) data.push_back(slab.data() + static_cast<size_t>(i) * stride + 16);
      Code(k, m, &PortableKernel()).Encode(size, data.data(), out.data());
      SealStripe(code, slab.data(), size, stride, id.data(), 3);
      for (int shard = 0; shard < k + m; shard++) {
        const uint8_t* cell = slab.data() + static_cast<size_t>(shard) * stride;
        REQUIRE(VerifyCells(cell, size, 1, size, id.data(), static_cast<uint8_t>(shard), 3) == -1);
        if (shard >= k) REQUIRE(std::memcmp(cell + 16, out[static_cast<size_t>(shard - k)], size) == 0);
      }
    }
  }
}

TEST_CASE("a run of cells names the first bad one and may end with a short block") {
  std::mt19937_64 random(7);
  Guarded id(16);
  id.Fill(random);
  const size_t size = 128, last = 5;
  Guarded cells(9 * (16 + size) + 16 + last);
  cells.Fill(random);
  for (uint32_t i = 0; i < 10; i++) {
    uint8_t* cell = cells.data() + i * (16 + size);
    ostraka::hash::BlockChecksum(cell + 16, i == 9 ? last : size, id.data(), 3, 100 + i, cell);
  }
  CHECK(VerifyCells(cells.data(), size, 10, last, id.data(), 3, 100) == -1);
  CHECK(VerifyCells(cells.data(), size, 0, last, id.data(), 3, 100) == -1);
  cells.data()[cells.length() - 1] ^= 1;
  CHECK(VerifyCells(cells.data(), size, 10, last, id.data(), 3, 100) == 9);
  cells.data()[4 * (16 + size) + 50] ^= 1;
  CHECK(VerifyCells(cells.data(), size, 10, last, id.data(), 3, 100) == 4);
}

TEST_CASE("the plan cache keeps its bound and forgets what was used longest ago") {
  PlanCache cache(3);
  int made = 0;
  const auto get = [&](uint64_t key) {
    return cache.Get({key, nullptr}, [&] {
      made++;
      return std::vector<uint8_t>{static_cast<uint8_t>(key)};
    });
  };
  for (const uint64_t key : {1, 2, 3, 1, 4}) CHECK((*get(key))[0] == key);
  CHECK(made == 4);
  CHECK(cache.size() == 3);
  get(1);
  CHECK(made == 4);
  get(2);
  CHECK(made == 5);
}

TEST_CASE("one code serves many threads at once") {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (unsigned t = 0; t < 4; t++) {
    threads.emplace_back([t, &wrong] {
      std::mt19937_64 random(100 + t);
      for (int round = 0; round < 200; round++) {
        const int k = 1 + static_cast<int>(random() % 8), m = static_cast<int>(random() % 8);
        const Code& code = Code::Get(k, m);
        std::vector<std::vector<uint8_t>> blocks(k + m, std::vector<uint8_t>(64));
        std::vector<uint8_t*> pointers;
        for (auto& block : blocks) pointers.push_back(block.data());
        for (int i = 0; i < k; i++) {
          for (auto& byte : blocks[i]) byte = static_cast<uint8_t>(random());
        }
        code.Encode(64, pointers.data(), pointers.data() + k);
        std::vector<const uint8_t*> given(pointers.begin(), pointers.end());
        if (m == 0) continue;
        const int lost = static_cast<int>(random() % static_cast<unsigned>(k + m));
        given[lost] = nullptr;
        std::vector<uint8_t> out(64);
        uint8_t* target = out.data();
        if (!code.Reconstruct(64, given.data(), &lost, 1, &target) || out != blocks[lost]) wrong++;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
}
