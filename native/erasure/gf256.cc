#include "native/erasure/gf256.h"

#include <utility>

namespace ostraka::erasure {

namespace {

struct Tables {
  ProductTable products;
  uint8_t inverses[256];

  Tables() {
    for (int a = 0; a < 256; a++) {
      for (int b = 0; b < 256; b++) {
        products[a][b] = Slow(static_cast<uint8_t>(a), static_cast<uint8_t>(b));
        if (products[a][b] == 1) inverses[a] = static_cast<uint8_t>(b);
      }
    }
    inverses[0] = 0;
  }

  // Shift and add, reducing by 0x11D whenever the degree reaches 8.
  static uint8_t Slow(uint8_t a, uint8_t b) {
    uint8_t sum = 0;
    for (; b != 0; b = static_cast<uint8_t>(b >> 1)) {
      if ((b & 1) != 0) sum ^= a;
      a = static_cast<uint8_t>((a << 1) ^ ((a & 0x80) != 0 ? 0x1D : 0));
    }
    return sum;
  }
};

const Tables& Get() {
  static const Tables tables;
  return tables;
}

}  // namespace

const ProductTable& Products() { return Get().products; }

uint8_t Multiply(uint8_t a, uint8_t b) { return Get().products[a][b]; }

uint8_t Inverse(uint8_t a) { return Get().inverses[a]; }

uint8_t MatrixCoefficient(int k, int row, int column) {
  if (row < k) return row == column ? 1 : 0;
  return Inverse(static_cast<uint8_t>(row ^ column));
}

bool InvertMatrix(uint8_t* matrix, uint8_t* inverse, int n) {
  for (int i = 0; i < n * n; i++) inverse[i] = i % (n + 1) == 0 ? 1 : 0;
  for (int column = 0; column < n; column++) {
    int pivot = column;
    while (pivot < n && matrix[pivot * n + column] == 0) pivot++;
    if (pivot == n) return false;
    if (pivot != column) {
      for (int i = 0; i < n; i++) {
        std::swap(matrix[pivot * n + i], matrix[column * n + i]);
        std::swap(inverse[pivot * n + i], inverse[column * n + i]);
      }
    }
    const uint8_t scale = Inverse(matrix[column * n + column]);
    for (int i = 0; i < n; i++) {
      matrix[column * n + i] = Multiply(matrix[column * n + i], scale);
      inverse[column * n + i] = Multiply(inverse[column * n + i], scale);
    }
    for (int row = 0; row < n; row++) {
      const uint8_t factor = matrix[row * n + column];
      if (row == column || factor == 0) continue;
      for (int i = 0; i < n; i++) {
        matrix[row * n + i] ^= Multiply(matrix[column * n + i], factor);
        inverse[row * n + i] ^= Multiply(inverse[column * n + i], factor);
      }
    }
  }
  return true;
}

}  // namespace ostraka::erasure
