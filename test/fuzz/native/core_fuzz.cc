// libFuzzer target for the C++ core, without Node: what it reads that comes from outside the process, and kernels whose
// answers can be checked against slower ones. The first byte of an input chooses, the rest is the input.
//   0  a zstd frame, as a drive gives it back
//   1  the region of a shard index, as another thread hands it over
//   2  encoding and rebuilding, geometry and losses as the input says
//   3  checksums, whole and in pieces
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "native/codec/zstd.h"
#include "native/erasure/code.h"
#include "native/hash/crc.h"
#include "native/hash/md5.h"
#include "native/hash/xxh3.h"
#include "native/index/shard_index.h"

using namespace ostraka;

namespace {

constexpr size_t kMaxExpanded = size_t{1} << 20;

void Must(bool holds) {
  if (!holds) std::abort();
}

// Bytes of exactly their length on the heap, so that reading past them is seen; never null, as the addon has it.
std::vector<uint8_t> Copy(const uint8_t* data, size_t length) {
  std::vector<uint8_t> bytes;
  bytes.reserve(std::max<size_t>(length, 1));
  bytes.assign(data, data + length);
  return bytes;
}

void Decompress(const uint8_t* data, size_t length) {
  codec::Zstd zstd;
  const auto size = codec::Zstd::ContentSize(data, length);
  if (size.error != nullptr || size.length > kMaxExpanded) return;
  std::vector<uint8_t> out(size.length);
  const auto result = zstd.Decompress(out.data(), out.size(), data, length);
  Must(result.error != nullptr || result.length == size.length);
}

void Attach(const uint8_t* data, size_t length) {
  constexpr size_t kAlign = 64;
  const size_t room = (std::max<size_t>(length, 1) + kAlign - 1) / kAlign * kAlign;
  auto* region = static_cast<uint8_t*>(std::aligned_alloc(kAlign, room));
  std::memset(region, 0, room);
  std::memcpy(region, data, length);
  index::ShardIndex shards;
  if (shards.Attach(region, length)) shards.form();
  std::free(region);
}

void Code(const uint8_t* data, size_t length) {
  if (length < 4) return;
  const int k = 1 + data[0] % 15;
  const int m = 1 + data[1] % (erasure::kMaxShards - k);
  const size_t block = (length - 4) / static_cast<size_t>(k);
  if (block == 0) return;
  const uint32_t mask = static_cast<uint32_t>(data[2]) | static_cast<uint32_t>(data[3]) << 8;
  std::vector<std::vector<uint8_t>> shards, expected(static_cast<size_t>(m), std::vector<uint8_t>(block));
  for (int i = 0; i < k; i++) shards.push_back(Copy(data + 4 + static_cast<size_t>(i) * block, block));
  shards.resize(static_cast<size_t>(k + m), std::vector<uint8_t>(block));
  std::vector<uint8_t*> pointers, slow;
  for (auto& shard : shards) pointers.push_back(shard.data());
  for (auto& shard : expected) slow.push_back(shard.data());
  const auto& code = erasure::Code::Get(k, m);
  code.Encode(block, pointers.data(), pointers.data() + k);
  erasure::Code(k, m, &erasure::PortableKernel()).Encode(block, pointers.data(), slow.data());
  for (int i = 0; i < m; i++) Must(shards[static_cast<size_t>(k + i)] == expected[static_cast<size_t>(i)]);
  Must(code.ParityAgrees(block, pointers.data()));

  std::vector<const uint8_t*> given(pointers.begin(), pointers.end());
  std::vector<int> lost;
  for (int i = 0; i < k + m; i++) {
    if ((mask >> i & 1) == 0) continue;
    given[static_cast<size_t>(i)] = nullptr;
    lost.push_back(i);
  }
  std::vector<std::vector<uint8_t>> rebuilt(lost.size(), std::vector<uint8_t>(block));
  std::vector<uint8_t*> out;
  for (auto& shard : rebuilt) out.push_back(shard.data());
  const bool enough = static_cast<int>(lost.size()) <= m;
  Must(code.Reconstruct(block, given.data(), lost.data(), static_cast<int>(lost.size()), out.data()) == enough);
  for (size_t j = 0; enough && j < lost.size(); j++) Must(rebuilt[j] == shards[static_cast<size_t>(lost[j])]);
}

void Checksums(const uint8_t* data, size_t length) {
  if (length < 2) return;
  const size_t cut = (data[0] | static_cast<size_t>(data[1]) << 8) % (length - 1);
  const std::vector<uint8_t> bytes = Copy(data + 2, length - 2);
  const uint8_t* at = bytes.data();
  const size_t all = bytes.size();
  const size_t first = std::min(cut, all);
  Must(hash::Crc32c(hash::Crc32c(0, at, first), at + first, all - first) == hash::Crc32cPortable(0, at, all));
  Must(hash::Crc64Nvme(hash::Crc64Nvme(0, at, first), at + first, all - first) == hash::Crc64NvmePortable(0, at, all));

  uint8_t own[16], library[16], steps[16];
  hash::Xxh3Of128(at, all, cut, own);
  hash::Xxh3Of128Library(at, all, cut, library);
  hash::Xxh3Block128 block;
  block.Start(at, cut);
  block.Advance(first);
  block.Finish(all, steps);
  Must(std::memcmp(own, library, 16) == 0 && std::memcmp(own, steps, 16) == 0);

  hash::Md5State whole, streams[4];
  const hash::Md5Piece one{&whole, at, all};
  hash::Md5Update(&one, 1);
  hash::Md5Piece pieces[8];
  for (size_t i = 0; i < 4; i++) {
    pieces[i] = {&streams[i], at, first};
    pieces[4 + i] = {&streams[i], at + first, all - first};
  }
  hash::Md5Update(pieces, 8);
  hash::Md5Digest(whole, own);
  for (auto& stream : streams) {
    hash::Md5Digest(stream, steps);
    Must(std::memcmp(own, steps, 16) == 0);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t length) {
  if (length == 0) return 0;
  const std::vector<uint8_t> input = Copy(data + 1, length - 1);
  void (*const targets[])(const uint8_t*, size_t) = {Decompress, Attach, Code, Checksums};
  targets[data[0] % 4](input.data(), input.size());
  return 0;
}
