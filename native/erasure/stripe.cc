#include "native/erasure/stripe.h"

#include <algorithm>

#include "native/hash/xxh3.h"

namespace ostraka::erasure {

using hash::kBlockChecksumBytes;

namespace {

// Of each block at a time: a slice of up to 12 blocks stays in a second-level cache of 1 MiB, so that hashing finds
// what encoding has just touched. Smaller slices measured slower (hashing restarts and the streams of encoding are cut
// more often); blocks of 128 KiB gain a few per cent, larger ones more.
constexpr size_t kSliceBytes = 65536;

}  // namespace

void SealStripe(const Code& code, uint8_t* slab, size_t block_size, size_t stride, const uint8_t* data_id,
                uint32_t block_number) {
  const int total = code.k() + code.m();
  uint8_t* blocks[kMaxShards] = {};
  for (int shard = 0; shard < total; shard++) {
    blocks[shard] = slab + static_cast<size_t>(shard) * stride + kBlockChecksumBytes;
  }
  if (block_size <= kSliceBytes) {
    code.Encode(block_size, blocks, blocks + code.k());
    for (int shard = 0; shard < total; shard++) {
      hash::BlockChecksum(blocks[shard], block_size, data_id, static_cast<uint8_t>(shard), block_number,
                          blocks[shard] - kBlockChecksumBytes);
    }
    return;
  }
  hash::Xxh3Stream128 checksums[kMaxShards];
  for (int shard = 0; shard < total; shard++) {
    checksums[shard].Start(hash::BlockSeed(data_id, static_cast<uint8_t>(shard), block_number));
  }
  uint8_t* slices[kMaxShards] = {};
  for (size_t start = 0; start < block_size; start += kSliceBytes) {
    const size_t length = std::min(kSliceBytes, block_size - start);
    for (int shard = 0; shard < total; shard++) slices[shard] = blocks[shard] + start;
    code.Encode(length, slices, slices + code.k());
    for (int shard = 0; shard < total; shard++) {
      checksums[shard].Update(slices[shard], length);
    }
  }
  for (int shard = 0; shard < total; shard++) checksums[shard].Finish(blocks[shard] - kBlockChecksumBytes);
}

int64_t VerifyCells(const uint8_t* cells, size_t block_size, size_t count, size_t last_block_size,
                    const uint8_t* data_id, uint8_t shard, uint32_t first_block) {
  for (size_t i = 0; i < count; i++) {
    const uint8_t* cell = cells + i * (kBlockChecksumBytes + block_size);
    const size_t length = i + 1 == count ? last_block_size : block_size;
    const uint32_t number = first_block + static_cast<uint32_t>(i);
    if (!hash::BlockChecksumHolds(cell, length, data_id, shard, number)) return static_cast<int64_t>(i);
  }
  return -1;
}

}  // namespace ostraka::erasure
