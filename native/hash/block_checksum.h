// The checksum in front of every shard block: XXH3-128 of the block, canonical (big-endian), seeded with the XXH3-64 of
//   data id (16 bytes) | shard (u8) | block number (u32, little-endian)
// so that an intact block that lies in the wrong place does not verify.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ostraka::hash {

constexpr size_t kBlockChecksumBytes = 16;
constexpr size_t kDataIdBytes = 16;

void BlockChecksum(const uint8_t* block, size_t length, const uint8_t* data_id, uint8_t shard, uint32_t block_number,
                   uint8_t* out);

/// The seed of the checksum of one block: where the block belongs.
uint64_t BlockSeed(const uint8_t* data_id, uint8_t shard, uint32_t block_number);

/// `cell` is the checksum followed by a block of `length` bytes.
bool BlockChecksumHolds(const uint8_t* cell, size_t length, const uint8_t* data_id, uint8_t shard,
                        uint32_t block_number);

}  // namespace ostraka::hash
