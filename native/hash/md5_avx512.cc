// Sixteen streams, one in each lane of 32 bits.
#include <immintrin.h>

#include "native/hash/md5_lanes.h"

namespace ostraka::hash {

namespace {

struct Lanes512 {
  using Register = __m512i;
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
};

// words[w] gets word w of the block of every lane: a transposition of 16 x 16.
inline __attribute__((always_inline)) void LoadWords(const uint8_t* const* data, size_t at, __m512i* words) {
  __m512i rows[16], pairs[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) rows[i] = _mm512_loadu_si512(data[i] + at);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    rows[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
    rows[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
    rows[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    rows[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    const __m512i even_low = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88);
    const __m512i even_high = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd);
    const __m512i odd_high = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
    words[i] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    words[4 + i] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    words[8 + i] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    words[12 + i] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  }
}

}  // namespace

void Md5LanesAvx512(uint32_t* chain, const uint8_t* const* data, size_t blocks) {
  __m512i state[4], words[16], out[4];
  for (int i = 0; i < 4; i++) state[i] = _mm512_loadu_si512(chain + 16 * i);
  for (size_t block = 0; block < blocks; block++) {
    LoadWords(data, block * 64, words);
    Md5Steps<Lanes512>(state[0], state[1], state[2], state[3], words, out);
    for (int i = 0; i < 4; i++) state[i] = _mm512_add_epi32(state[i], out[i]);
  }
  for (int i = 0; i < 4; i++) _mm512_storeu_si512(chain + 16 * i, state[i]);
}

}  // namespace ostraka::hash
