// XXH3, 64 and 128 bits wide, with a 64-bit seed. Results of 128 bits are written in canonical form (big-endian).
#pragma once

#include <cstddef>
#include <cstdint>

namespace ostraka::hash {

uint64_t Xxh3Of64(const uint8_t* data, size_t length, uint64_t seed);

void Xxh3Of128(const uint8_t* data, size_t length, uint64_t seed, uint8_t out[16]);

/// The same in the library's plain C++: what the fast ones are tested against.
void Xxh3Of128Library(const uint8_t* data, size_t length, uint64_t seed, uint8_t out[16]);

struct Part {
  const uint8_t* data;
  size_t length;
};

/// XXH3-64 of the concatenation of the parts.
uint64_t Xxh3Of64Parts(const Part* parts, size_t count, uint64_t seed);

/// XXH3-128 of a block that lies in memory as a whole, but is hashed while its pieces are in the nearest cache: the
/// same as Xxh3Of128 of the whole.
class Xxh3Block128 {
 public:
  void Start(const uint8_t* block, uint64_t seed);

  /// The first `ready` bytes of the block are final: takes in as much of them as it can. With `fetch`, brings as many
  /// bytes behind them into the cache on the way.
  void Advance(size_t ready, bool fetch = false);

  /// All `length` bytes are final, and what is left of them is taken in.
  void Finish(size_t length, uint8_t out[16]);

  /// How much of each of several blocks to hash in turn.
  static size_t SliceBytes();

 private:
  static constexpr size_t kLibraryState = 576;
  const uint8_t* block_;
  uint64_t seed_;
  size_t done_;
  alignas(64) uint8_t state_[kLibraryState];
};

/// Big-endian, as checksums of 64 bits are stored.
void Store64(uint8_t out[8], uint64_t value);
uint64_t Load64(const uint8_t in[8]);

}  // namespace ostraka::hash
