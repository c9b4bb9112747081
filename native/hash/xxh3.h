// XXH3, 64 and 128 bits wide, with a 64-bit seed. Results of 128 bits are written in canonical form (big-endian).
#pragma once

#include <cstddef>
#include <cstdint>

namespace ostraka::hash {

uint64_t Xxh3Of64(const uint8_t* data, size_t length, uint64_t seed);

void Xxh3Of128(const uint8_t* data, size_t length, uint64_t seed, uint8_t out[16]);

struct Part {
  const uint8_t* data;
  size_t length;
};

/// XXH3-64 of the concatenation of the parts.
uint64_t Xxh3Of64Parts(const Part* parts, size_t count, uint64_t seed);

/// XXH3-128 of what arrives in pieces: the same as Xxh3Of128 of the whole.
class Xxh3Stream128 {
 public:
  void Start(uint64_t seed);
  void Update(const uint8_t* data, size_t length);
  void Finish(uint8_t out[16]) const;

 private:
  alignas(64) uint8_t state_[576];
};

/// Big-endian, as checksums of 64 bits are stored.
void Store64(uint8_t out[8], uint64_t value);
uint64_t Load64(const uint8_t in[8]);

}  // namespace ostraka::hash
