// A stripe in memory and its checksums, as the data path handles them: one call per stripe or per run of blocks.
//
// A cell is what lies on a drive for one block: the 16-byte checksum, then the block.
//   slab: k + m cells, cell s at s * stride:  [checksum][block of shard s][unused up to stride]
#pragma once

#include <cstddef>
#include <cstdint>

#include "native/erasure/code.h"
#include "native/hash/block_checksum.h"
#include "native/hash/xxh3.h"

namespace ostraka::erasure {

/// Lays the pieces, one after the other, out into the k data blocks of a slab and fills the rest of the blocks with
/// zeros. The pieces have k * block_size bytes together at most and do not overlap the slab.
void SplitStripe(const hash::Part* pieces, size_t count, int k, uint8_t* slab, size_t block_size, size_t stride);

/// Fills in the m parity blocks of a slab whose data blocks are there, then the checksums of all k + m cells.
/// stride >= 16 + block_size, and the slab holds (k + m - 1) * stride + 16 + block_size bytes at least.
void SealStripe(const Code& code, uint8_t* slab, size_t block_size, size_t stride, const uint8_t* data_id,
                uint32_t block_number);

/// Verifies `count` consecutive cells of one shard; all blocks are block_size long but the last (last_block_size).
/// Returns -1 when every checksum holds, else the index of the first cell whose does not.
int64_t VerifyCells(const uint8_t* cells, size_t block_size, size_t count, size_t last_block_size,
                    const uint8_t* data_id, uint8_t shard, uint32_t first_block);

}  // namespace ostraka::erasure
