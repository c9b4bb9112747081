// CRC32C and CRC64NVME. Both are reflected, start from and end with all bits inverted.
//
// `running` is the CRC of what came before (0 at the start), so that Crc(Crc(0, a), b) is the CRC of a followed by b.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ostraka::hash {

uint32_t Crc32c(uint32_t running, const uint8_t* data, size_t length);
uint64_t Crc64Nvme(uint64_t running, const uint8_t* data, size_t length);

/// The same in plain C++, whatever the CPU has: what the fast ones are tested against.
uint32_t Crc32cPortable(uint32_t running, const uint8_t* data, size_t length);
uint64_t Crc64NvmePortable(uint64_t running, const uint8_t* data, size_t length);

}  // namespace ostraka::hash
