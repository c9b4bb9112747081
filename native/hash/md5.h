// MD5 of many streams at once. One stream cannot use wide registers, since each step waits for the one before; several
// can, each in a lane of its own: 16 on AVX-512, 8 on AVX2.
//
// A state is a plain value that belongs to the caller: 16 bytes of chaining values, the length so far, and the bytes of
// an unfinished block. Any bytes are a valid state as far as memory is concerned.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ostraka::hash {

struct Md5State {
  uint32_t chain[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  uint64_t length = 0;
  uint8_t block[64] = {};
};

/// One piece of a stream. Pieces of one state are taken in the order given.
struct Md5Piece {
  Md5State* state;
  const uint8_t* data;
  size_t length;
};

/// Takes in all pieces, at most kMd5Pieces, side by side where they are of different streams.
constexpr size_t kMd5Pieces = 256;
void Md5Update(const Md5Piece* pieces, size_t count);

/// The digest of what was taken in; the state is left as it is.
void Md5Digest(const Md5State& state, uint8_t out[16]);

}  // namespace ostraka::hash
