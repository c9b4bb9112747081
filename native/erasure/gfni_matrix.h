// A coefficient of GF(2^8) modulo 0x11D as the 8 x 8 bit matrix of GF2P8AFFINEQB, which multiplies modulo whatever
// polynomial the matrix was made for (the plain GF2P8MULB is fixed to 0x11B). Byte 7 - i holds the row of bit i of the
// product; bit j of it says whether bit j of the factor counts.
#pragma once

#include <stdint.h>

#include "native/erasure/gf256.h"

namespace ostraka::erasure {

namespace {

inline uint64_t GfniMatrix(uint8_t coefficient) {
  uint64_t matrix = 0;
  for (int j = 0; j < 8; j++) {
    const uint64_t column = Multiply(coefficient, static_cast<uint8_t>(1 << j));
    for (int i = 0; i < 8; i++) matrix |= (column >> i & 1) << (8 * (7 - i) + j);
  }
  return matrix;
}

}  // namespace

}  // namespace ostraka::erasure
