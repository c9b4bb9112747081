// Folds 256 bytes at a time in four registers of 512 bits, then those into one, and hands over its four quarters.
#include <immintrin.h>

#include "native/hash/crc_fold.h"

namespace ostraka::hash {

namespace {

inline __m512i Load(const uint8_t* data) { return _mm512_loadu_si512(data); }

inline __m512i Fold(__m512i value, __m512i constants, __m512i next) {
  const __m512i low = _mm512_clmulepi64_epi128(value, constants, 0x00);
  const __m512i high = _mm512_clmulepi64_epi128(value, constants, 0x11);
  return _mm512_ternarylogic_epi64(low, high, next, 0x96);
}

inline __m128i FoldQuarter(__m128i value, __m128i constants, __m128i next) {
  const __m128i low = _mm_clmulepi64_si128(value, constants, 0x00);
  const __m128i high = _mm_clmulepi64_si128(value, constants, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

inline __m128i Pair(const uint64_t constants[2]) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(constants));
}

}  // namespace

size_t FoldVpclmul(const uint8_t* data, size_t length, uint64_t state, const FoldConstants* constants,
                   uint8_t out[16]) {
  const __m512i by2048 = _mm512_broadcast_i32x4(Pair(constants->by2048));
  const __m512i by512 = _mm512_broadcast_i32x4(Pair(constants->by512));
  const __m128i by128 = Pair(constants->by128);
  const __m128i mixed = _mm_cvtsi64_si128(static_cast<long long>(state));
  __m512i a = _mm512_xor_si512(Load(data), _mm512_zextsi128_si512(mixed));
  __m512i b = Load(data + 64);
  __m512i c = Load(data + 128);
  __m512i d = Load(data + 192);
  size_t done = 256;
  for (; length - done >= 256; done += 256) {
    a = Fold(a, by2048, Load(data + done));
    b = Fold(b, by2048, Load(data + done + 64));
    c = Fold(c, by2048, Load(data + done + 128));
    d = Fold(d, by2048, Load(data + done + 192));
  }
  a = Fold(a, by512, b);
  a = Fold(a, by512, c);
  a = Fold(a, by512, d);
  for (; length - done >= 64; done += 64) a = Fold(a, by512, Load(data + done));
  __m128i sum = _mm512_castsi512_si128(a);
  sum = FoldQuarter(sum, by128, _mm512_extracti32x4_epi32(a, 1));
  sum = FoldQuarter(sum, by128, _mm512_extracti32x4_epi32(a, 2));
  sum = FoldQuarter(sum, by128, _mm512_extracti32x4_epi32(a, 3));
  for (; length - done >= 16; done += 16) {
    sum = FoldQuarter(sum, by128, _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + done)));
  }
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), sum);
  return done;
}

}  // namespace ostraka::hash
