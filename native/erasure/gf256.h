// Arithmetic in GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11D), and the encoding matrix.
//
// Matrix id 1, the only one so far, is systematic and Cauchy: rows 0..k-1 are the identity, and row r >= k has the
// coefficients 1 / (r xor c) for columns c = 0..k-1. Since r >= k > c, the two index sets are disjoint, every square
// submatrix of the parity rows is invertible, and so any k of the k+m rows can be solved for the data.
#pragma once

#include <cstdint>

namespace ostraka::erasure {

constexpr int kMaxShards = 16;

/// The product table: Product()[a][b] is a * b. Built once, 64 KiB.
using ProductTable = uint8_t[256][256];
const ProductTable& Products();

uint8_t Multiply(uint8_t a, uint8_t b);

/// The inverse of a; a must not be 0.
uint8_t Inverse(uint8_t a);

/// One coefficient of the encoding matrix for k data shards: row is a shard (0..k+m-1), column a data shard.
uint8_t MatrixCoefficient(int k, int row, int column);

/// Inverts an n x n matrix in row-major order into `inverse`; false when it is singular. `matrix` is used up.
bool InvertMatrix(uint8_t* matrix, uint8_t* inverse, int n);

}  // namespace ostraka::erasure
