#include <cstring>

#include "native/erasure/gf256.h"
#include "native/erasure/kernel.h"

namespace ostraka::erasure {

namespace {

// The tables of this kernel are the coefficients themselves.
void Prepare(int inputs, int outputs, const uint8_t* coefficients, uint8_t* tables) {
  std::memcpy(tables, coefficients, static_cast<size_t>(inputs) * static_cast<size_t>(outputs));
}

void MultiplyBlocks(size_t length, int inputs, int outputs, const uint8_t* tables, const uint8_t* const* in,
                    uint8_t* const* out) {
  for (int row = 0; row < outputs; row++) {
    std::memset(out[row], 0, length);
    for (int column = 0; column < inputs; column++) {
      const uint8_t* products = Products()[tables[row * inputs + column]];
      for (size_t i = 0; i < length; i++) out[row][i] ^= products[in[column][i]];
    }
  }
}

}  // namespace

const Kernel& PortableKernel() {
  static const Kernel kernel{"portable", 1, Prepare, MultiplyBlocks};
  return kernel;
}

}  // namespace ostraka::erasure
