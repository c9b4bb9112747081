#include <immintrin.h>

#include "native/hash/crc_fold.h"

namespace ostraka::hash {

namespace {

inline __m128i Load(const uint8_t* data) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(data)); }

// The constants hold the factor of the low half first.
inline __m128i Fold(__m128i value, __m128i constants, __m128i next) {
  const __m128i low = _mm_clmulepi64_si128(value, constants, 0x00);
  const __m128i high = _mm_clmulepi64_si128(value, constants, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

}  // namespace

size_t FoldPclmul(const uint8_t* data, size_t length, uint64_t state, const FoldConstants* constants, uint8_t out[16]) {
  const __m128i by512 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(constants->by512));
  const __m128i by128 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(constants->by128));
  __m128i a = _mm_xor_si128(Load(data), _mm_cvtsi64_si128(static_cast<long long>(state)));
  __m128i b = Load(data + 16);
  __m128i c = Load(data + 32);
  __m128i d = Load(data + 48);
  size_t done = 64;
  for (; length - done >= 64; done += 64) {
    a = Fold(a, by512, Load(data + done));
    b = Fold(b, by512, Load(data + done + 16));
    c = Fold(c, by512, Load(data + done + 32));
    d = Fold(d, by512, Load(data + done + 48));
  }
  a = Fold(a, by128, b);
  a = Fold(a, by128, c);
  a = Fold(a, by128, d);
  for (; length - done >= 16; done += 16) a = Fold(a, by128, Load(data + done));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), a);
  return done;
}

}  // namespace ostraka::hash
