// Folds 64 bytes at a time in four registers of 128 bits.
#include "native/hash/crc_fold_loop.h"

namespace ostraka::hash {

size_t FoldPclmul(const uint8_t* data, size_t length, uint64_t state, const FoldConstants* constants, uint8_t out[16]) {
  size_t done;
  const __m128i sum = FoldMessage<Fold128>(data, length, state, constants->by512, constants->by128, &done);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), sum);
  return done;
}

}  // namespace ostraka::hash
