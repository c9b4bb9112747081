// Lanes of CPUs that look up 16 bytes at once by a shuffle: a coefficient is two tables of 16 products, those of the
// low and of the high half of a byte, which add up to the product of the byte.
//
// A kernel file gives the `Vector`, what its instruction set calls them:
//   Register, kBytes, Load, Store, Xor
//   Low(value), High(value)        the halves of each byte, as indices
//   Lookup(table, indices)         table[index] for each byte
#pragma once

#include <stdint.h>

#include "native/erasure/gf256.h"

namespace ostraka::erasure {

namespace {

struct NibbleTables {
  uint8_t low[16];
  uint8_t high[16];
};

template <typename Vector>
struct NibbleLane : Vector {
  using Register = typename Vector::Register;
  using Entry = NibbleTables;
  struct Source {
    Register low, high;
  };

  static Source Split(Register value) { return {Vector::Low(value), Vector::High(value)}; }
  static Entry MakeEntry(uint8_t coefficient) {
    Entry tables;
    for (int i = 0; i < 16; i++) {
      tables.low[i] = ostraka::erasure::Multiply(coefficient, static_cast<uint8_t>(i));
      tables.high[i] = ostraka::erasure::Multiply(coefficient, static_cast<uint8_t>(i << 4));
    }
    return tables;
  }
  static Register Multiply(const Source& source, const Entry& entry) {
    return Vector::Xor(Vector::Lookup(entry.low, source.low), Vector::Lookup(entry.high, source.high));
  }
  static Register Add(Register sum, const Source& a, const Entry& of_a, const Source& b, const Entry& of_b) {
    return Vector::Xor(Vector::Xor(sum, Multiply(a, of_a)), Multiply(b, of_b));
  }
};

}  // namespace

}  // namespace ostraka::erasure
