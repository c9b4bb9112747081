// A coefficient as two tables of 16 products, for CPUs that look up 16 bytes at once by a shuffle: the products of the
// low and of the high half of a byte, which add up to the product of the byte.
#pragma once

#include <stdint.h>

#include "native/erasure/gf256.h"

namespace ostraka::erasure {

namespace {

struct NibbleTables {
  uint8_t low[16];
  uint8_t high[16];
};

inline NibbleTables MakeNibbleTables(uint8_t coefficient) {
  NibbleTables tables;
  for (int i = 0; i < 16; i++) {
    tables.low[i] = Multiply(coefficient, static_cast<uint8_t>(i));
    tables.high[i] = Multiply(coefficient, static_cast<uint8_t>(i << 4));
  }
  return tables;
}

}  // namespace

}  // namespace ostraka::erasure
