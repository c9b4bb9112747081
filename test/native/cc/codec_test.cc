#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "native/codec/zstd.h"

using ostraka::codec::Zstd;

namespace {

std::vector<uint8_t> Compressed(Zstd& zstd, const std::vector<uint8_t>& data, int level) {
  std::vector<uint8_t> out(Zstd::CompressBound(data.size()));
  const auto result = zstd.Compress(out.data(), out.size(), data.data(), data.size(), level);
  REQUIRE(result.error == nullptr);
  out.resize(result.length);
  return out;
}

}  // namespace

TEST_CASE("what is compressed expands to itself, at every level") {
  Zstd zstd;
  for (int level = ostraka::codec::kMinLevel; level <= ostraka::codec::kMaxLevel; level++) {
    std::vector<uint8_t> data(20'000);
    for (size_t i = 0; i < data.size(); i++) data[i] = static_cast<uint8_t>(i % 251 * (i / 5000));
    const auto small = Compressed(zstd, data, level);
    CHECK(small.size() < data.size());
    const auto size = Zstd::ContentSize(small.data(), small.size());
    REQUIRE(size.error == nullptr);
    REQUIRE(size.length == data.size());
    std::vector<uint8_t> back(size.length);
    CHECK(zstd.Decompress(back.data(), back.size(), small.data(), small.size()).error == nullptr);
    CHECK(back == data);
  }
}

TEST_CASE("damaged and cut frames are errors or other content, never a crash") {
  Zstd zstd;
  std::mt19937_64 random(21);
  std::vector<uint8_t> data(5000);
  for (auto& byte : data) byte = static_cast<uint8_t>(random() % 4);
  const auto good = Compressed(zstd, data, 3);
  for (size_t cut = 0; cut < good.size(); cut++) CHECK(Zstd::ContentSize(good.data(), cut).error != nullptr);
  for (int round = 0; round < 3000; round++) {
    auto bad = good;
    bad[random() % bad.size()] ^= static_cast<uint8_t>(1 + random() % 255);
    const auto size = Zstd::ContentSize(bad.data(), bad.size());
    if (size.error != nullptr || size.length > 1'000'000) continue;
    std::vector<uint8_t> out(size.length);
    zstd.Decompress(out.data(), out.size(), bad.data(), bad.size());
  }
  auto trailing = good;
  trailing.push_back(0);
  CHECK(Zstd::ContentSize(trailing.data(), trailing.size()).error != nullptr);
}
