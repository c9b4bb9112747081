// Folds 256 bytes at a time in four registers of 512 bits, then those into one, and hands over its four quarters.
#include "native/hash/crc_fold_loop.h"

namespace ostraka::hash {

namespace {

struct Fold512 {
  using Register = __m512i;
  static constexpr size_t kBytes = 64;
  static Register Load(const void* data) { return _mm512_loadu_si512(data); }
  static Register Constants(const uint64_t pair[2]) { return _mm512_broadcast_i32x4(Fold128::Load(pair)); }
  static Register Step(Register value, Register constants, Register next) {
    const Register low = _mm512_clmulepi64_epi128(value, constants, 0x00);
    const Register high = _mm512_clmulepi64_epi128(value, constants, 0x11);
    return _mm512_ternarylogic_epi64(low, high, next, 0x96);
  }
  static Register MixIn(Register value, uint64_t state) {
    return _mm512_xor_si512(value, _mm512_zextsi128_si512(_mm_cvtsi64_si128(static_cast<long long>(state))));
  }
};

}  // namespace

size_t FoldVpclmul(const uint8_t* data, size_t length, uint64_t state, const FoldConstants* constants,
                   uint8_t out[16]) {
  size_t done;
  const __m512i wide = FoldMessage<Fold512>(data, length, state, constants->by2048, constants->by512, &done);
  const __m128i by128 = Fold128::Constants(constants->by128);
  __m128i sum = _mm512_castsi512_si128(wide);
  sum = Fold128::Step(sum, by128, _mm512_extracti32x4_epi32(wide, 1));
  sum = Fold128::Step(sum, by128, _mm512_extracti32x4_epi32(wide, 2));
  sum = Fold128::Step(sum, by128, _mm512_extracti32x4_epi32(wide, 3));
  sum = FoldRest<Fold128>(data, length, &done, sum, by128);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), sum);
  return done;
}

}  // namespace ostraka::hash
