// Sixteen streams, one in each lane of 32 bits.
#include <immintrin.h>

#include "native/hash/md5_lanes.h"

namespace ostraka::hash {

namespace {

struct Lanes512 {
  using Register = __m512i;
  static constexpr int kLanes = 16;
  static Register Load(const void* from) { return _mm512_loadu_si512(from); }
  static void Store(void* to, Register a) { _mm512_storeu_si512(to, a); }
  static Register UnpackLow32(Register a, Register b) { return _mm512_unpacklo_epi32(a, b); }
  static Register UnpackHigh32(Register a, Register b) { return _mm512_unpackhi_epi32(a, b); }
  static Register UnpackLow64(Register a, Register b) { return _mm512_unpacklo_epi64(a, b); }
  static Register UnpackHigh64(Register a, Register b) { return _mm512_unpackhi_epi64(a, b); }

  static Register Add(Register a, Register b) { return _mm512_add_epi32(a, b); }
  static Register Constant(uint32_t value) { return _mm512_set1_epi32(static_cast<int>(value)); }
  template <int kBits>
  static Register Rotate(Register a) {
    return _mm512_rol_epi32(a, kBits);
  }
  static Register Choose(Register b, Register c, Register d) { return _mm512_ternarylogic_epi32(b, c, d, 0xca); }
  static Register AddSecond(Register sum, Register b, Register c, Register d) { return Add(sum, Choose(d, b, c)); }
  static Register Parity(Register b, Register c, Register d) { return _mm512_ternarylogic_epi32(b, c, d, 0x96); }
  static Register Last(Register b, Register c, Register d) { return _mm512_ternarylogic_epi32(b, c, d, 0x39); }

  // A transposition of 16 x 16 words.
  static inline __attribute__((always_inline)) void LoadWords(const uint8_t* const* data, size_t at, Register* words) {
    Register rows[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) rows[i] = Load(data[i] + at);
    Md5Quads<Lanes512, 16>(rows);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      const Register even_low = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88);
      const Register even_high = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
      const Register odd_low = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd);
      const Register odd_high = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
      words[i] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
      words[4 + i] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
      words[8 + i] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
      words[12 + i] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
    }
  }
};

}  // namespace

void Md5LanesAvx512(uint32_t* chain, const uint8_t* const* data, size_t blocks) {
  Md5Lanes<Lanes512>(chain, data, blocks);
}

}  // namespace ostraka::hash
