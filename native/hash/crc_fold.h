// Folding a long message into 16 bytes with the same CRC, by carry-less multiplication.
//
// Register view, for a reflected CRC: bit t of the 128-bit value stands for x^(127-t), so the low 64 bits are the first
// bytes of the message and the higher powers. A product of two 64-bit halves comes out one power too low (its bit t
// stands for x^(126-t)), which the constants make up for: moving a value D bits up the message multiplies its low
// half by x^(D+63) and its high half by x^(D-1), both modulo the polynomial.
//
// This header has no C++ library in it: kernel files are compiled with flags that other CPUs lack.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace ostraka::hash {

struct FoldConstants {
  uint64_t by2048[2];  // x^2111, x^2047
  uint64_t by512[2];  // x^575, x^511
  uint64_t by128[2];  // x^191, x^127
};

/// Folds the first length & ~15 bytes of `data`, at least 64, with the CRC state `state` mixed into the beginning, into
/// `out`. Returns the number of bytes folded. Needs PCLMULQDQ.
size_t FoldPclmul(const uint8_t* data, size_t length, uint64_t state, const FoldConstants* constants, uint8_t out[16]);

/// The same, for at least 512 bytes; needs VPCLMULQDQ and AVX-512.
size_t FoldVpclmul(const uint8_t* data, size_t length, uint64_t state, const FoldConstants* constants, uint8_t out[16]);

}  // namespace ostraka::hash
