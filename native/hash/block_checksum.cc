#include "native/hash/block_checksum.h"

#include <cstring>

#include "native/hash/xxh3.h"

namespace ostraka::hash {

uint64_t BlockSeed(const uint8_t* data_id, uint8_t shard, uint32_t block_number) {
  uint8_t place[kDataIdBytes + 5];
  std::memcpy(place, data_id, kDataIdBytes);
  place[16] = shard;
  for (int i = 0; i < 4; i++) place[17 + i] = static_cast<uint8_t>(block_number >> (8 * i));
  return Xxh3Of64(place, sizeof place, 0);
}

void BlockChecksum(const uint8_t* block, size_t length, const uint8_t* data_id, uint8_t shard, uint32_t block_number,
                   uint8_t* out) {
  Xxh3Of128(block, length, BlockSeed(data_id, shard, block_number), out);
}

bool BlockChecksumHolds(const uint8_t* cell, size_t length, const uint8_t* data_id, uint8_t shard,
                        uint32_t block_number) {
  uint8_t expected[kBlockChecksumBytes];
  BlockChecksum(cell + kBlockChecksumBytes, length, data_id, shard, block_number, expected);
  return std::memcmp(expected, cell, kBlockChecksumBytes) == 0;
}

}  // namespace ostraka::hash
