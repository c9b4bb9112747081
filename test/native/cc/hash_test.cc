#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "native/hash/block_checksum.h"
#include "native/hash/crc.h"
#include "native/hash/xxh3.h"
#include "test/native/cc/guarded.h"

using namespace ostraka::hash;
using ostraka::test::Guarded;

namespace {

const uint8_t* Bytes(const std::string& text) { return reinterpret_cast<const uint8_t*>(text.data()); }

// One bit at a time, straight from the definition.
uint64_t SlowCrc(int width, uint64_t polynomial, const uint8_t* data, size_t length) {
  const uint64_t mask = width == 64 ? ~uint64_t{0} : (uint64_t{1} << width) - 1;
  uint64_t state = mask;
  for (size_t i = 0; i < length; i++) {
    state ^= data[i];
    for (int bit = 0; bit < 8; bit++) state = (state >> 1) ^ ((state & 1) != 0 ? polynomial : 0);
  }
  return state ^ mask;
}

}  // namespace

TEST_CASE("CRCs of the check string are the published ones") {
  const std::string check = "123456789";
  CHECK(Crc32c(0, Bytes(check), check.size()) == 0xe3069283);
  CHECK(Crc64Nvme(0, Bytes(check), check.size()) == 0xae8b14860a799888);
  CHECK(Crc32c(0, Bytes(check), 0) == 0);
  CHECK(Crc64Nvme(0, Bytes(check), 0) == 0);
}

TEST_CASE("CRCs of every length agree with the definition, portable and folded") {
  std::mt19937_64 random(11);
  for (size_t length = 0; length <= 1100; length++) {
    Guarded data(length);
    data.Fill(random);
    const uint64_t of32 = SlowCrc(32, 0x82F63B78, data.data(), length);
    const uint64_t of64 = SlowCrc(64, 0x9A6C9329AC4BC9B5, data.data(), length);
    REQUIRE(Crc32c(0, data.data(), length) == of32);
    REQUIRE(Crc32cPortable(0, data.data(), length) == of32);
    REQUIRE(Crc64Nvme(0, data.data(), length) == of64);
    REQUIRE(Crc64NvmePortable(0, data.data(), length) == of64);
  }
}

TEST_CASE("XXH3-128 of every length and offset is the library's") {
  std::mt19937_64 random(15);
  for (size_t length = 0; length <= 4200; length++) {
    Guarded data(length);
    data.Fill(random);
    const uint64_t seed = random();
    uint8_t own[16], expected[16];
    Xxh3Of128(data.data(), length, seed, own);
    Xxh3Of128Library(data.data(), length, seed, expected);
    REQUIRE(std::memcmp(own, expected, 16) == 0);
  }
  alignas(64) uint8_t room[64 + 2500];
  for (auto& byte : room) byte = static_cast<uint8_t>(random());
  for (size_t offset = 0; offset < 64; offset++) {
    for (size_t length = 0; length <= 2500; length += 1 + random() % 40) {
      uint8_t own[16], expected[16];
      Xxh3Of128(room + offset, length, offset, own);
      Xxh3Of128Library(room + offset, length, offset, expected);
      REQUIRE(std::memcmp(own, expected, 16) == 0);
    }
  }
}

TEST_CASE("XXH3-128 of a block that becomes final bit by bit is that of the whole") {
  std::mt19937_64 random(14);
  for (int round = 0; round < 600; round++) {
    Guarded data(random() % (round % 3 == 0 ? 3000 : 20000));
    data.Fill(random);
    const uint64_t seed = random();
    uint8_t whole[16], steps[16];
    Xxh3Of128Library(data.data(), data.length(), seed, whole);
    Xxh3Block128 block;
    block.Start(data.data(), seed);
    size_t ready = 0;
    while (random() % 8 != 0) {
      ready = std::min<size_t>(ready + random() % (round % 2 == 0 ? 8192 : 500), data.length());
      block.Advance(ready, random() % 2 == 0);
    }
    block.Finish(data.length(), steps);
    REQUIRE(std::memcmp(whole, steps, 16) == 0);
  }
}

TEST_CASE("a CRC taken in pieces is the CRC of the whole") {
  std::mt19937_64 random(12);
  std::vector<uint8_t> data(100'000);
  for (auto& byte : data) byte = static_cast<uint8_t>(random());
  const uint32_t whole32 = Crc32cPortable(0, data.data(), data.size());
  const uint64_t whole64 = Crc64NvmePortable(0, data.data(), data.size());
  for (int round = 0; round < 50; round++) {
    uint32_t running32 = 0;
    uint64_t running64 = 0;
    for (size_t at = 0; at < data.size();) {
      const size_t piece = std::min<size_t>(random() % 5000, data.size() - at);
      running32 = Crc32c(running32, data.data() + at, piece);
      running64 = Crc64Nvme(running64, data.data() + at, piece);
      at += piece;
    }
    REQUIRE(running32 == whole32);
    REQUIRE(running64 == whole64);
  }
}

TEST_CASE("XXH3 agrees with published values, and in parts with the whole") {
  // The empty input with seed 0.
  CHECK(Xxh3Of64(Bytes(""), 0, 0) == 0x2D06800538D394C2);
  uint8_t digest[16];
  Xxh3Of128(Bytes(""), 0, 0, digest);
  CHECK(Load64(digest) == 0x99AA06D3014798D8);
  CHECK(Load64(digest + 8) == 0x6001C324468D497F);

  std::mt19937_64 random(13);
  for (const size_t length : {0, 1, 16, 17, 128, 129, 240, 241, 1024, 5000}) {
    Guarded data(length);
    data.Fill(random);
    const uint64_t seed = random();
    const uint64_t whole = Xxh3Of64(data.data(), length, seed);
    for (int round = 0; round < 20; round++) {
      std::vector<Part> parts;
      for (size_t at = 0; at < length;) {
        const size_t piece = std::min<size_t>(random() % 300, length - at);
        parts.push_back({data.data() + at, piece});
        at += piece;
      }
      REQUIRE(Xxh3Of64Parts(parts.data(), parts.size(), seed) == whole);
    }
  }
}

TEST_CASE("the block checksum is seeded with the hash of its place") {
  std::mt19937_64 random(14);
  std::vector<uint8_t> block(3000);
  for (auto& byte : block) byte = static_cast<uint8_t>(random());
  uint8_t place[21];
  for (auto& byte : place) byte = static_cast<uint8_t>(random());
  place[16] = 5;
  const uint8_t number[4] = {0x78, 0x56, 0x34, 0x12};
  std::memcpy(place + 17, number, 4);
  uint8_t expected[16], checksum[16];
  Xxh3Of128(block.data(), block.size(), Xxh3Of64(place, 21, 0), expected);
  BlockChecksum(block.data(), block.size(), place, 5, 0x12345678, checksum);
  CHECK(std::memcmp(expected, checksum, 16) == 0);
}

TEST_CASE("checksums are stored big-endian") {
  uint8_t stored[8];
  Store64(stored, 0x0102030405060708);
  for (int i = 0; i < 8; i++) CHECK(stored[i] == i + 1);
  CHECK(Load64(stored) == 0x0102030405060708);
}
