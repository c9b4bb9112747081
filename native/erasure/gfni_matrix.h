// Lanes of CPUs with GF2P8AFFINEQB, which multiplies each byte with an 8 x 8 bit matrix, and so modulo whatever
// polynomial the matrix was made for (the plain GF2P8MULB is fixed to 0x11B): a coefficient of GF(2^8) modulo 0x11D is
// such a matrix. Byte 7 - i of it holds the row of bit i of the product; bit j of it says whether bit j of the factor
// counts.
//
// A kernel file gives the `Vector`, what its instruction set calls them:
//   Register, kBytes, Load, Store
//   Affine(value, matrix)          the matrix times each byte
//   Xor3(a, b, c)
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

template <typename Vector>
struct GfniLane : Vector {
  using Register = typename Vector::Register;
  using Source = Register;
  using Entry = uint64_t;

  static Source Split(Register value) { return value; }
  static Entry MakeEntry(uint8_t coefficient) { return GfniMatrix(coefficient); }
  static Register Multiply(Source source, Entry entry) { return Vector::Affine(source, entry); }
  static Register Add(Register sum, Source a, Entry of_a, Source b, Entry of_b) {
    return Vector::Xor3(sum, Multiply(a, of_a), Multiply(b, of_b));
  }
};

}  // namespace

}  // namespace ostraka::erasure
