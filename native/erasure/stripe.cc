#include "native/erasure/stripe.h"

#include <algorithm>
#include <cstring>

namespace ostraka::erasure {

using hash::kBlockChecksumBytes;

// The whole stripe is split before anything is encoded, not slice by slice: copying long runs leaves out reading what
// is overwritten, and what was copied is still in a cache when it is encoded. (Stores that go around the caches
// measured slower, also where nobody reads the slab again.)
void SplitStripe(const hash::Part* pieces, size_t count, int k, uint8_t* slab, size_t block_size, size_t stride) {
  size_t piece = 0;
  size_t taken = 0;
  for (int shard = 0; shard < k; shard++) {
    uint8_t* block = slab + static_cast<size_t>(shard) * stride + kBlockChecksumBytes;
    size_t filled = 0;
    while (filled < block_size && piece < count) {
      const size_t length = std::min(block_size - filled, pieces[piece].length - taken);
      if (length > 0) std::memcpy(block + filled, pieces[piece].data + taken, length);
      filled += length;
      taken += length;
      if (taken < pieces[piece].length) continue;
      piece++;
      taken = 0;
    }
    std::memset(block + filled, 0, block_size - filled);
  }
}

// Slice by slice: what is encoded is hashed while it is in the nearest cache, and hashing, which has time for it,
// fetches the data blocks' next slices.
void SealStripe(const Code& code, uint8_t* slab, size_t block_size, size_t stride, const uint8_t* data_id,
                uint32_t block_number) {
  const int total = code.k() + code.m();
  uint8_t* blocks[kMaxShards] = {};
  hash::Xxh3Block128 checksums[kMaxShards];
  for (int shard = 0; shard < total; shard++) {
    blocks[shard] = slab + static_cast<size_t>(shard) * stride + kBlockChecksumBytes;
    checksums[shard].Start(blocks[shard], hash::BlockSeed(data_id, static_cast<uint8_t>(shard), block_number));
  }
  const size_t slice = hash::Xxh3Block128::SliceBytes();
  for (size_t start = 0; start < block_size; start += slice) {
    const size_t end = std::min(start + slice, block_size);
    uint8_t* slices[kMaxShards] = {};
    for (int shard = 0; shard < total; shard++) slices[shard] = blocks[shard] + start;
    code.Encode(end - start, slices, slices + code.k());
    for (int shard = 0; shard < total; shard++) checksums[shard].Advance(end, shard < code.k() && end < block_size);
  }
  for (int shard = 0; shard < total; shard++) {
    checksums[shard].Finish(block_size, blocks[shard] - kBlockChecksumBytes);
  }
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
